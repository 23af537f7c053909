"""Every kind of run is a row, what a row points to is there, and what has no row is refused by name."""

import pytest

from pipeline import UserError, kinds
from pipeline.contenders import CONTENDERS
from pipeline.kinds import KINDS, describe, kind_row, split


@pytest.mark.parametrize("name", KINDS)
def test_what_a_row_points_to_is_there(name):
    row = KINDS[name]
    for path in filter(None, (row.opener, row.sklearn, row.learner)):
        assert callable(kinds.load(path)), path
    assert row.family in ("constant", "words", "probe", "tuned")
    assert name in CONTENDERS


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
