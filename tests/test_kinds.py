"""Every kind of run is a row, what a row points to is there, and what has no row is refused by name."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from tables import names

from pipeline import UserError, kinds
from pipeline.contenders import CONTENDERS, Contender
from pipeline.kinds import KINDS, Kind, describe, kind_row, split
from pipeline.run import Cost, Fit, Fitted, Question


@pytest.mark.parametrize("name", KINDS)
def test_what_a_row_points_to_is_there(name):
    row = KINDS[name]
    for path in filter(None, (row.opener, row.sklearn, row.learner)):
        assert callable(kinds.load(path)), path
    assert row.family in ("constant", "words", "probe", "tuned", "cascade", "external")
    assert (name in CONTENDERS) == (row.family != "external")


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("lr", ("lr", "")), ("lr+smote", ("lr", "smote")), ("fine-tune+last-12", ("fine-tune", "last-12"))],
)
def test_a_kind_is_a_row_and_a_variant(kind, expected):
    assert split(kind) == expected


@pytest.mark.parametrize(
    "kind", ["", "LR", "svm", "lr+", "lr+nonsense", "tfidf+smote", "fine-tune+last-", "fine-tune+last-2x", "scratch"]
)
def test_an_unknown_kind_is_refused_by_name(kind):
    with pytest.raises(UserError, match=r"no kind of run '.*'; choose one of majority, tfidf, lr, lr") as caught:
        kind_row(kind)
    assert f"'{kind}'" in str(caught.value)
    assert "fine-tune+last-N" in str(caught.value)


def test_a_variant_is_said():
    assert describe("lr+smote") == "logistic regression on frozen vectors (smote)"
    assert describe("fine-tune") == "the whole encoder, fine-tuned"
    assert describe("fine-tune+last-1").startswith("the encoder's last layer, fine-tuned")
    assert describe("fine-tune+last-2").startswith("the encoder's last 2 layers, fine-tuned")
    assert kinds.names(numbered=False).count("fine-tune") == 1
    assert not any("N" in name for name in kinds.names(numbered=False))


def test_a_comparison_takes_no_unknown_kind_for_a_probe():
    from dataclasses import replace

    import page_example as example

    from pipeline.verdict import compare

    runs = example.runs()
    with pytest.raises(UserError, match="no kind of run 'oracle'"):
        compare([runs[0], replace(runs[1], kind="oracle")], draws=20, row_draws=10)


def test_a_fine_tuning_of_the_last_layers_is_a_contender_by_name(tmp_path, tiny_distilbert):
    from tables import sentences

    from pipeline.contenders import fits_of
    from pipeline.data import SourceOptions, read
    from pipeline.encoder import EncoderSpec
    from pipeline.task import Task

    file = tmp_path / "rows.csv"
    file.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in sentences(100)))
    task = Task(read(SourceOptions(str(file))), (EncoderSpec(str(tiny_distilbert)),), runs=tmp_path)
    (fit,) = fits_of(task, "fine-tune+last-2")
    assert (fit.question.kind, fit.question.settings["unfreeze"]) == ("fine-tune+last-2", 2)


@pytest.mark.parametrize(
    ("name", "kind", "takes_part"),
    [
        ("lr", "lr", True),
        ("lr", "lr+smote", False),
        ("lr+smote", "lr", False),
        ("fine-tune", "fine-tune+last-2", True),
        ("fine-tune+last-2", "fine-tune", False),
        ("fine-tune+last-2", "fine-tune+last-1", False),
        ("tfidf", "from-elsewhere", False),
    ],
)
def test_who_takes_part_as_whom(name, kind, takes_part):
    assert kinds.covers(name, kind) is takes_part


# ── a contender is two rows ─────────────────────────────────────────────────────────────────────────────────────────


class Coin:
    """Always the first class, with three quarters."""

    def proba(self, texts):
        return np.tile(np.float32([0.75, 0.25]), (len(texts), 1))


def open_coin(run, runtime, cache, precision):
    assert json.loads((run.model_folder / "coin.json").read_text()) == run.settings["sides"]
    return Coin()


def coin_fits(task, variant):
    def learn(_):
        return Fitted(
            proba=lambda role: Coin().proba(task.dataset.role(role).texts),
            roles=tuple(task.dataset.roles),
            save=lambda folder: (folder / "coin.json").write_text("2"),
            cost=Cost,
            out_of_fold=Coin().proba(task.dataset.train.texts),
        )

    yield Fit(Question("coin", task.dataset, task.runs, task.seed, {"sides": 2}), learn)


def test_a_new_contender_is_two_rows(run, reviews, tmp_path, monkeypatch):
    row = Kind("probe", "a coin", f"{__name__}:open_coin", needs_encoder=False)
    monkeypatch.setitem(KINDS, "coin", row)
    monkeypatch.setitem(CONTENDERS, "coin", Contender(coin_fits, lambda job: 1.0))
    words = [*names(reviews), "--runs", tmp_path / "runs", "--contenders", "coin,tfidf"]
    code, out, err = run("compare", "--no-cv", *words, "--json")
    assert code == 0, err
    assert re.search(r"^  coin +about 1 s: a coin$", err, re.M)
    found = json.loads(out)
    coin = next(c for c in found["contenders"] if c["name"] == "coin")
    assert coin["metrics"]["balanced_accuracy"]["value"] == pytest.approx(0.5)
    assert "coin" in Path(found["report"]).read_text("utf-8")
    code, out, err = run("compare", "--no-cv", *words)
    assert re.search(r"^  coin +is there: a coin$", err, re.M)
    code, out, err = run("predict", coin["run"], "heads", encoder=False)
    assert code == 0, err
    assert sorted(json.loads(out)["proba"].values()) == [0.25, 0.75]
    code, out, err = run("audit", *words, "--only-existing", "--json")
    assert code == 0, err
    assert set(json.loads(out)["contenders"]) == {"coin", "tfidf"}
    code, _, err = run("export", coin["run"], "--format", "joblib", "--out", tmp_path / "served", encoder=False)
    assert code == 1
    assert "a coin run is no scikit-learn model" in err


def test_adapters_are_trained_at_a_rate_of_their_own():
    assert [kinds.learning_rate(kind) for kind in ("fine-tune", "fine-tune+last-2", "fine-tune+lora", "lr")] == [
        1e-4, 1e-4, 1e-3, None
    ]  # fmt: skip
