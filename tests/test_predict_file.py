"""`predict --file` reads the columns that the run was fitted on, and carries others through for joining."""

import json
from pathlib import Path

import pandas as pd
import pytest
from tables import sentences, write_csv

from pipeline.data import SourceOptions, read
from pipeline.run import load_run
from pipeline.tfidf import TfidfSettings, tfidf_fit


@pytest.fixture
def fitted(reviews, tmp_path) -> Path:
    """The folder of a TF-IDF run, fitted on column `body`."""
    data = read(SourceOptions(str(reviews), text=("body",), label="verdict"))
    made = tfidf_fit(data, TfidfSettings(C=(1.0,), folds=2, features="words"), tmp_path / "runs").run().folder
    assert made is not None
    return made


ROWS = [
    (f"id-{i}", "internal note, see ticket", text, verdict, i * 1.5)
    for i, (text, verdict) in enumerate(sentences(6, seed=3))
]
HEADER = ("id", "text", "body", "label", "when")


def table(out: str) -> list[dict]:
    return [json.loads(line) for line in out.splitlines()]


def test_the_runs_own_column_is_read(fitted, run, tmp_path):
    """Though the file has one that is called `text`."""
    assert load_run(fitted).text_columns == ("body",)
    file = write_csv(tmp_path / "new.csv", ROWS, HEADER)
    _, out, _ = run("predict", fitted, "--file", file, encoder=False)
    _, wanted, _ = run("predict", fitted, *(row[2] for row in ROWS), encoder=False)
    assert table(out) == table(wanted)
    _, other, _ = run("predict", fitted, "--file", file, "--text", "text", encoder=False)
    assert {answer["text"] for answer in table(other)} == {"internal note, see ticket"}


def test_a_file_without_that_column_names_the_one_that_looks_like_text(fitted, run, tmp_path):
    file = write_csv(tmp_path / "new.csv", [(a, c, e) for a, _, c, _, e in ROWS], ("id", "remark", "when"))
    code, out, err = run("predict", fitted, "--file", file, encoder=False)
    assert (code, out) == (1, "")
    assert "no 'body', which the run was fitted on, among ['id', 'remark', 'when']; pass --text remark" in err


def test_one_column_alone_is_the_text(fitted, run, tmp_path):
    (tmp_path / "lines.txt").write_text("love it\nhate it\n")
    write_csv(tmp_path / "one.csv", [("love it",), ("hate it",)], ("remark",))
    for name in ("lines.txt", "one.csv"):
        assert [row["text"] for row in table(run("predict", fitted, "--file", tmp_path / name, encoder=False)[1])] == [
            "love it",
            "hate it",
        ]


def test_other_columns_are_carried_through(fitted, run, tmp_path):
    file = write_csv(tmp_path / "new.csv", ROWS, HEADER)
    out = table(run("predict", fitted, "--file", file, "--keep", "id", "--keep", "when", encoder=False)[1])
    assert [(row["id"], row["when"], row["text"]) for row in out] == [(a, str(e), c) for a, _, c, _, e in ROWS]
    every = table(run("predict", fitted, "--file", file, "--keep", encoder=False)[1])
    assert list(every[0]) == ["id", "text_given", "label_given", "when", "text", "label", "proba"]
    assert [row["label_given"] for row in every] == [row[3] for row in ROWS]
    assert [row["label"] for row in every] == [row["label"] for row in out]
    code, _, err = run("predict", fitted, "--file", file, "--keep", "nothing", encoder=False)
    assert code == 1
    assert "no 'nothing' among" in err
    assert run("predict", fitted, "love it", "--keep", "id", encoder=False)[0] == 1


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_what_is_carried_through_can_be_joined_back(fitted, run, tmp_path, suffix):
    frame = pd.DataFrame(
        {
            "key": [10**12 + i for i in range(6)],
            "body": [row[2] for row in ROWS],
            "share": [0.5, None, 1.5, 2, 3, 4],
            "ok": [True, False] * 3,
            "at": pd.Timestamp("2024-02-03 04:05:06"),
            "tags": [["a", "b"], [], ["c"], ["d"], ["e"], ["f"]],
        }
    )
    frame.to_parquet(tmp_path / "new.parquet")
    out = tmp_path / f"out.{suffix}"
    assert run("predict", fitted, "--file", tmp_path / "new.parquet", "--keep", "--out", out, encoder=False)[0] == 0
    read = {"csv": pd.read_csv, "parquet": pd.read_parquet, "jsonl": lambda path: pd.read_json(path, lines=True)}[
        suffix
    ]
    joined = frame.merge(read(out), on="key", suffixes=("", "_out"))
    assert joined.body.tolist() == joined.text.tolist()
    assert joined.share_out.fillna(-1).tolist() == frame.share.fillna(-1).tolist()
    assert joined.ok_out.tolist() == frame.ok.tolist()
    assert joined.label.isin(["good", "bad"]).all()


def test_columns_without_a_file_are_no_columns(fitted, run):
    code, out, err = run("predict", fitted, "love it", "--text", "body", encoder=False)
    assert (code, out) == (1, "")
    assert "--text names columns of a file; pass --file with it" in err


def test_the_file_that_is_read_is_not_replaced(run, fitted, tmp_path):
    file = tmp_path / "new.csv"
    file.write_text("body,id\nthe film was boring,7\n")
    code, _, err = run("predict", fitted, "--file", file, "--out", file, encoder=False)
    assert code == 1
    assert err.endswith(f"error: {file}: is read here, and would be replaced; pass another --out\n")
    assert file.read_text() == "body,id\nthe film was boring,7\n"
