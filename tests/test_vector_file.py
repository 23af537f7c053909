"""Vectors from a file are what a frozen encoder's are, row for row; what is missing or damaged is refused by name."""

import json
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import cli
from pipeline import UserError
from pipeline.api import compare, fit_lr
from pipeline.data import SourceOptions, read
from pipeline.extract.vector_file import VectorFile
from pipeline.run import load_run

TEXTS = [f"{'good' if i % 2 else 'bad'} film {i}" for i in range(120)]
LABELS = ["up" if i % 2 else "down" for i in range(120)]


def made(seed=0, width=4, shift=6.0):
    """Vectors (120, width) whose first number tells the classes apart."""
    vectors = np.random.default_rng(seed).normal(size=(120, width)).astype(np.float32)
    vectors[:, 0] += [shift if label == "up" else -shift for label in LABELS]
    return vectors


def write(path, vectors, **columns):
    pq.write_table(pa.table(columns | {"v": [None if v is None else list(map(float, v)) for v in vectors]}), path)
    return path


@pytest.fixture
def source(tmp_path):
    file = tmp_path / "films.csv"
    file.write_text("text,label\n" + "".join(f"{t},{y}\n" for t, y in zip(TEXTS, LABELS, strict=True)), "utf-8")
    return file


@pytest.fixture
def invoke(capsys):
    def call(*words):
        code = cli.main(list(map(str, words)))
        out, err = capsys.readouterr()
        return SimpleNamespace(exit_code=code, stdout=out, stderr=err)

    return call


@pytest.mark.parametrize("by", ["row_id", "text"])
def test_rows_are_found_whatever_their_order(by, source, tmp_path):
    vectors, order = made(), np.random.default_rng(1).permutation(120)
    names = {"row_id": [f"films:{i}" for i in order], "text": [TEXTS[i] for i in order]}[by]
    file = VectorFile.opened(write(tmp_path / "v.parquet", vectors[order], **{by: names}))
    data = read(SourceOptions(str(source)))
    for role, found in file.of(data).items():
        places = [int(row.partition(":")[2]) for row in data.role(role).row_ids]
        assert np.array_equal(found, vectors[places])
    assert np.array_equal(VectorFile.opened(vectors).of(data)["test"], file.of(data)["test"])


def test_a_wide_frame_of_any_number_type_is_read(tmp_path):
    values = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(6, dtype=np.float16)), 3)
    pq.write_table(pa.table({"text": ["a", "b"], "v": values}), tmp_path / "v.parquet")
    file = VectorFile.opened(tmp_path / "v.parquet")
    assert file.vectors.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert file.vectors.dtype == np.float32


def nan_in(vectors):
    vectors[7, 1] = np.nan
    return vectors


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"text": TEXTS[:50], "v": made()[:50]}, "70 of 120 rows have no vector, the first of them films:"),
        ({"text": TEXTS, "v": nan_in(made())}, "1 of 120 vectors hold numbers that are not finite, .*films:7;"),
        ({"text": TEXTS, "v": made().astype(np.float64) * 1e300}, "not finite"),
        ({"text": [*TEXTS, TEXTS[0]], "v": [*made(), made()[1]]}, "'bad film 0' has two different vectors"),
        ({"name": TEXTS, "v": made()}, "give a column 'row_id' .* or 'text'"),
        ({"text": TEXTS, "v": made(), "w": made()}, "2 of the columns text, v, w hold lists"),
        ({"text": TEXTS}, "none of the columns text hold lists"),
        ({"text": TEXTS, "v": [*made()[:-1], made()[0, :3]]}, "row 119: 3 numbers instead of 4"),
        ({"text": TEXTS, "v": [*made()[:-1], None]}, "row 119: 0 numbers instead of 4"),
        ({"text": TEXTS, "v": [["a"]] * 120}, "lists of string"),
        ({"text": [], "v": pa.array([], pa.list_(pa.float32()))}, "no rows"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(columns, problem, source, tmp_path):
    table = {k: list(map(list, v)) if isinstance(v, np.ndarray) else v for k, v in columns.items()}
    table = {k: [list(x) if isinstance(x, np.ndarray) else x for x in v] if k == "v" and isinstance(v, list) else v
             for k, v in table.items()}  # fmt: skip
    pq.write_table(pa.table(table), tmp_path / "v.parquet")
    with pytest.raises(UserError, match=problem):
        VectorFile.opened(tmp_path / "v.parquet").of(read(SourceOptions(str(source))))


def test_a_file_that_is_no_parquet_is_refused(tmp_path):
    (tmp_path / "v.parquet").write_text("nothing of the kind", "utf-8")
    for name in ("v.parquet", "v.csv", "none.parquet"):
        with pytest.raises(UserError, match="v.csv: not Parquet" if name == "v.csv" else name):
            VectorFile.opened(tmp_path / name)


def test_every_command_takes_them_and_no_encoder_is_asked(source, tmp_path, invoke):
    write(tmp_path / "v.parquet", made(), text=TEXTS)
    given = [source, "--vectors", tmp_path / "v.parquet", "--encoder", tmp_path / "nowhere", "--runs", tmp_path / "r"]
    fitted = json.loads(invoke("fit-lr", *given, "--json").stdout)
    assert fitted["metrics"]["test"]["accuracy"] == 1
    assert fitted["settings"]["encoder"] == "v.parquet"
    judged = json.loads(invoke("compare", *given, "--contenders", "majority,lr,stack", "--no-cv", "--json").stdout)
    lr = next(one for one in judged["contenders"] if one["name"] == "lr")
    assert lr["run"] == fitted["run"]  # the digest of the file names it
    assert lr["cost"]["extract_seconds"] is None
    drawn = json.loads(invoke("curve", *given, "--contenders", "lr,stack", "--sizes", "20,60", "--json").stdout)
    assert [line["name"] for line in drawn["lines"]] == ["lr", "stack"]
    assert invoke("audit", *given, "--json").exit_code == 0
    folds = json.loads(invoke("compare", *given, "--contenders", "majority,lr", "--cv", "--json").stdout)
    assert folds["cv"]["rows"] == 120
    assert "nowhere" in invoke("compare", *given, "--contenders", "lr,fine-tune", "--no-cv").stderr


def test_other_vectors_are_another_run(source, tmp_path, invoke):
    first, second = (write(tmp_path / f"{i}.parquet", made(i, shift=i), text=TEXTS) for i in (0, 6))
    given = ["compare", source, "--contenders", "lr", "--no-cv", "--runs", tmp_path / "r", "--json"]
    judged = json.loads(invoke(*given, "--vectors", f"{first},{second}").stdout)
    scores = {one["name"]: one["metrics"]["accuracy"]["value"] for one in judged["contenders"]}
    assert scores["lr (6.parquet)"] == 1 > scores["lr (0.parquet)"]


def test_predict_wants_the_vectors_of_its_texts_and_export_says_what_it_cannot(source, tmp_path, invoke):
    write(tmp_path / "v.parquet", made(), text=TEXTS)
    given = [source, "--vectors", tmp_path / "v.parquet", "--runs", tmp_path / "r", "--json"]
    judged = json.loads(invoke("compare", *given, "--contenders", "lr,stack", "--no-cv").stdout)
    new = write(tmp_path / "new.parquet", [[5, 0, 0, 0], [-5, 0, 0, 0]], text=["one", "two"])
    for one in judged["contenders"]:
        answers = invoke("predict", one["run"], "two", "one", "--vectors", new).stdout.splitlines()
        assert [json.loads(answer)["label"] for answer in answers] == ["down", "up"]
        refused = invoke("predict", one["run"], "two")
        assert refused.exit_code == 1
        assert "fitted on vectors from v.parquet, not on an encoder that is here; pass --vectors" in refused.stderr
        assert "1 of 2 rows have no vector, the first of them three" in invoke(
            "predict", one["run"], "two", "three", "--vectors", new
        ).stderr  # fmt: skip
        for form in ("joblib", "onnx", "transformers"):
            refused = invoke("export", one["run"], "--format", form, "--out", tmp_path / "out")
            assert refused.exit_code == 1
            assert "an export takes texts" in refused.stderr


def test_an_array_goes_with_rows_in_memory(tmp_path):
    vectors = made()
    places = {"cache": tmp_path / "cache", "runs": tmp_path / "runs"}
    model = fit_lr(TEXTS, LABELS, vectors=vectors, **places)
    assert model.run.metrics["test"]["accuracy"] == 1
    again = fit_lr(TEXTS, LABELS, vectors=vectors.copy(), **places)
    assert again.run.folder == model.run.folder
    assert load_run(model.run.folder).settings["vectors"] == "from a file"
    verdict = compare(TEXTS, LABELS, vectors=vectors, contenders=["majority", "lr"], cv=False, **places)
    assert verdict.comparison.contenders[0].name == "lr"
    with pytest.raises(UserError, match="119 for 120 rows"):
        fit_lr(TEXTS, LABELS, vectors=vectors[1:], **places)
    with pytest.raises(UserError, match="not in memory"):
        fit_lr("sms-spam", vectors=vectors, **places)
