"""Anybody's answers in a file are a contender like any other, on the same rows, or are refused by name."""

import json

import numpy as np
import pytest
from tables import sentences

import cli
from pipeline import UserError, compare
from pipeline.data import SourceOptions, read
from pipeline.verdict.imported import imported


@pytest.fixture(scope="module")
def reviews(tmp_path_factory):
    file = tmp_path_factory.mktemp("imported") / "reviews.csv"
    rows = [f"{text} {i},{label}\n" for i, (text, label) in enumerate(sentences(300))]
    file.write_text("text,label\n" + "".join(rows), "utf-8")
    return file


@pytest.fixture(scope="module")
def data(reviews):
    return read(SourceOptions(str(reviews), split="40/0/60"))


def answers(data, wrong=0.1, seed=0):
    """Labels (n,) with a known share of errors."""
    labels = data.test.labels.copy()
    flipped = np.random.default_rng(seed).permutation(len(labels))[: round(wrong * len(labels))]
    labels[flipped] = 1 - labels[flipped]
    return [data.class_names[i] for i in labels]


def write(path, header, rows):
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n", "utf-8")
    return path


@pytest.mark.parametrize("by", ["row_id", "text", "order"])
def test_rows_are_found_by_id_by_text_or_by_order(by, data, tmp_path):
    given = answers(data)
    keys = {"row_id": data.test.row_ids.tolist(), "text": [text[0] for text in data.test.texts]}
    order = np.random.default_rng(1).permutation(len(given)) if by != "order" else np.arange(len(given))
    if by == "order":
        file = write(tmp_path / "gpt.csv", "answer,seconds", [(given[i], 0.5) for i in order])
    else:
        file = write(tmp_path / "gpt.csv", f"{by},answer,seconds", [(f'"{keys[by][i]}"', given[i], 0.5) for i in order])
    run = imported(f"gpt={file}", data)
    assert [data.class_names[i] for i in run.predictions["test"].labels] == given
    assert np.mean(run.predictions["test"].labels == data.test.labels) == pytest.approx(0.9)
    assert run.cost.ms_per_text_batch == pytest.approx(500)
    assert not run.predictions["test"].graded


def test_what_predict_writes_is_read_with_its_probabilities(data, tmp_path):
    p = np.random.default_rng(0).dirichlet([1, 1], len(data.test)).round(6)
    first, second = data.class_names
    lines = [
        json.dumps({"text": text[0], "label": data.class_names[row.argmax()], "proba": {first: row[0], second: row[1]}})
        for text, row in zip(data.test.texts, p, strict=True)
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(lines), "utf-8")
    rows = zip([text[0] for text in data.test.texts], *p.T, strict=True)
    write(tmp_path / "a.csv", f"text,p_{first},p_{second}", [(f'"{t}"', a, b) for t, a, b in rows])
    for name in ("a.jsonl", "a.csv"):
        run = imported(f"x={tmp_path / name}", data, "log_loss")
        assert run.predictions["test"].proba == pytest.approx(p, abs=1e-5)
        assert run.predictions["test"].graded


@pytest.mark.parametrize(
    ("given", "header", "row", "problem"),
    [
        ("gpt", "label", lambda i, d: ("good",), "write NAME=FILE"),
        ("lr=F", "label", lambda i, d: ("good",), "'lr' is a contender's name"),
        ("x=F", "row_id,label", lambda i, d: (d.test.row_ids[i], "no idea"), "180 answers are none of the classes"),
        (
            "x=F",
            "row_id,score",
            lambda i, d: (d.test.row_ids[i], "1"),
            "neither a label nor a probability of each class among row_id, score",
        ),
        ("x=F", "row_id,p_bad,p_good", lambda i, d: (d.test.row_ids[i], 0.9, 0.9), "no shares of 1"),
        ("x=F", "row_id,p_bad,p_good", lambda i, d: (d.test.row_ids[i], "nan", 0.9), "no shares of 1"),
        ("x=F", "row_id,p_bad,p_good", lambda i, d: (d.test.row_ids[i], "x", 0.9), "'x' in 'p_bad' is no number"),
        ("x=F", "row_id,label,p_bad,p_good", lambda i, d: (d.test.row_ids[i], "bad", 0.1, 0.9), "is not the likeliest"),
        (
            "x=F",
            "row_id,label",
            lambda i, d: (d.test.row_ids[max(i, 3)], "good"),
            "3 of the 180 judged rows",
        ),
        (
            "x=F",
            "p_good",
            lambda i, d: (0.5,),
            "neither a label nor a probability of each class among p_good; call .* p_bad, p_good",
        ),
        ("x=F", "row_id,label", lambda i, d: (f"other:{i}", "good"), "no 'row_id' is that of a judged row"),
        ("x=F", "id,label", lambda i, d: (i, "good"), "no 'id' is that of a judged row"),
        ("x=F", "label,seconds", lambda i, d: ("good", -1), "row 0: 'seconds' is -1; give 0 or more"),
        ("x=F", "label,cost", lambda i, d: ("good", "nan" if i == 2 else 1), "row 2: 'cost' is nan"),
    ],
)
def test_what_is_no_set_of_answers_is_refused(given, header, row, problem, data, tmp_path):
    file = write(tmp_path / "x.csv", header, [row(i, data) for i in range(len(data.test))])
    with pytest.raises(UserError, match=problem):
        imported(given.replace("F", str(file)), data)


def test_answers_in_order_are_as_many_as_the_rows(data, tmp_path):
    with pytest.raises(UserError, match="2 rows, the judged split 'test' has 180"):
        imported(f"x={write(tmp_path / 'x.csv', 'label', [('good',), ('bad',)])}", data)


def test_one_text_has_one_answer(data, tmp_path):
    rows = [(f'"{text[0]}"', "good") for text in data.test.texts]
    file = write(tmp_path / "x.csv", "text,label", [*rows, (rows[0][0], "bad")])
    with pytest.raises(UserError, match="answer one text in different ways"):
        imported(f"x={file}", data)


def test_a_metric_of_probabilities_needs_them(data, tmp_path):
    file = write(tmp_path / "x.csv", "label", [(a,) for a in answers(data)])
    with pytest.raises(UserError, match="log_loss needs probabilities"):
        imported(f"x={file}", data, "log_loss")


def test_compare_judges_them_beside_its_own(data, reviews, tmp_path, tiny_distilbert, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    good = write(tmp_path / "good.csv", "label,cost", [(a, 0.002) for a in answers(data, 0.02)])
    poor = write(tmp_path / "poor.csv", "label", [(a,) for a in answers(data, 0.4)])
    words = ["compare", str(reviews), "--split", "40/0/60", "--encoder", str(tiny_distilbert)]
    words += ["--contenders", "majority,tfidf", "--predictions", f"gpt={good}", "--predictions", f"rule={poor}"]
    assert cli.main([*words, "--json"]) == 0
    verdict = json.loads(capsys.readouterr().out)
    scores = {c["name"]: c["metrics"]["accuracy"]["value"] for c in verdict["contenders"]}
    assert scores["gpt"] == pytest.approx(176 / 180)
    assert scores["rule"] == pytest.approx(108 / 180)
    pair = next(p for p in verdict["pairs"] if {p["a"], p["b"]} == {"gpt", "rule"})
    assert (pair["a"], pair["verdict"]) == ("gpt", "better")
    notes = next(c["notes"] for c in verdict["contenders"] if c["name"] == "gpt")
    assert "0.002 (cost) a text, 0.36 in all" in notes
    page = (next(tmp_path.glob("runs/*/report.html"))).read_text("utf-8")
    assert "answers without probabilities" in page


def test_without_a_reader_of_the_encoder_none_is_looked_for(data, reviews, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = write(tmp_path / "good.csv", "label", [(a,) for a in answers(data, 0.02)])
    words = ["compare", str(reviews), "--split", "40/0/60", "--encoder", "nobody/nothing", "--contenders", "tfidf"]
    assert cli.main([*words, "--predictions", f"gpt={file}", "--json"]) == 0
    assert {c["name"] for c in json.loads(capsys.readouterr().out)["contenders"]} == {"tfidf", "gpt"}


def test_a_verdict_over_lr_and_fine_tuning_is_the_one_that_answers_were_made_for(data, tmp_path, tiny_distilbert):
    """Right in all rows, in 60 of 100, in none: what every other contender is ahead by follows from its own score."""
    files = [write(tmp_path / f"{n}.csv", "label", [(a,) for a in answers(data, n / 100)]) for n in (0, 40, 100)]
    splits = {name: {"text": [t[0] for t in part.texts], "label": [data.class_names[i] for i in part.labels]}
              for name, part in data.splits.items()}  # fmt: skip
    import pyarrow as pa

    verdict = compare(
        {name: pa.table(columns) for name, columns in splits.items()},
        encoder=tiny_distilbert,
        contenders=["lr", "fine-tune"],
        epochs=1,
        learning_rate=1e-3,
        predictions=[f"wrong-{path.stem}={path}" for path in files],
        cache=tmp_path / "cache",
        runs=tmp_path / "runs",
        report=tmp_path / "page.html",
    )
    right = {c.name: c.metrics["accuracy"].value for c in verdict.comparison.contenders}
    assert [right[f"wrong-{n}"] for n in (0, 40, 100)] == pytest.approx([1, 108 / 180, 0])
    for pair in verdict.comparison.pairs:
        assert pair.difference == pytest.approx(right[pair.a] - right[pair.b], abs=1e-6)
        assert pair.low <= pair.difference <= pair.high
        if "wrong-100" in (pair.a, pair.b):
            assert pair.verdict == "better"
    assert {"lr", "fine-tune"} < set(right)
    assert verdict.comparison.contenders[0].metrics["accuracy"].value == 1
    assert verdict.sentence.startswith("A model from elsewhere: wrong-0 (accuracy 100.0 %)")
    assert set(verdict.models) == {"lr", "fine-tune"}
    with pytest.raises(UserError, match="'wrong-0' is a file of answers"):
        _ = verdict.best
    assert "wrong-0" in verdict._repr_html_()
