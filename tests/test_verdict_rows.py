"""The same rows, labels and classes for all: another question is refused, a guest of the same rows is let in."""

from dataclasses import replace

import numpy as np
import pytest
from verdict_runs import TRUTH, field, quick, run, wrong_on

from pipeline import UserError
from pipeline.data import Dataset, Split
from pipeline.verdict import admit


def test_rows_in_another_order_are_put_in_order():
    one, two = field(lr=(0, 100), tfidf=(0, 50))[1:]
    mine = two.predictions["test"]
    order = np.random.default_rng(0).permutation(1000)
    mixed = replace(mine, row_ids=mine.row_ids[order], truth=mine.truth[order], proba=mine.proba[order])
    expected, found = quick([one, two]), quick([one, replace(two, predictions={"test": mixed})])
    assert found.pairs == expected.pairs


def test_other_rows_are_refused_with_their_number():
    one, two = run("lr", TRUTH, TRUTH), run("tfidf", TRUTH[:900], TRUTH[:900])
    with pytest.raises(UserError, match=r"100 of them"):
        quick([one, two])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset_digest": "1" * 16}, "other rows, labels or splits"),
        ({"class_names": ("a", "c")}, "knows the classes a, c"),
        ({"predictions": {}}, "labelled test split"),
    ],
)
def test_runs_of_another_question_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        quick([run("lr", TRUTH, TRUTH), replace(run("tfidf", TRUTH, TRUTH), **change)])


def test_bad_questions():
    with pytest.raises(UserError, match="no runs"):
        quick([])
    with pytest.raises(UserError, match="no metric 'f1'; choose one of accuracy"):
        quick(field(lr=(0, 1)), metric="f1")
    with pytest.raises(UserError, match="3 group labels for 1000"):
        quick(field(lr=(0, 1)), by=np.array(["x"] * 3))
    other = TRUTH.copy()
    other[5] = 1 - other[5]
    with pytest.raises(UserError, match="disagree on the label of 1 rows"):
        quick([run("lr", TRUTH, TRUTH), run("tfidf", other, TRUTH)])


def host(labels=TRUTH) -> Dataset:
    """A data set whose test rows are those of the runs here."""
    n = len(labels)
    ids = {role: np.array([f"{role}:{i}" for i in range(n)]) for role in ("train", "test")}
    splits = {role: Split(role, [(f"{role} {i}",) for i in range(n)], labels, ids[role]) for role in ids}
    return Dataset("d", splits, {role: role for role in splits}, ("a", "b"), ("text",), "label", "0" * 16)


def test_a_guest_of_the_same_rows_stands_beside_the_others():
    own, external = run("lr", TRUTH, wrong_on(TRUTH, (0, 100))), run("lr", TRUTH, wrong_on(TRUTH, (0, 50)))
    order = np.random.default_rng(0).permutation(1000)
    mine = external.predictions["test"]
    mixed = replace(mine, row_ids=mine.row_ids[order], truth=mine.truth[order], proba=mine.proba[order])
    other = replace(external, dataset_digest="9" * 16, predictions={"test": mixed})
    found = quick([own, admit(other, host())])
    assert [c.metrics["accuracy"].value for c in found.contenders] == [0.95, 0.9]
    assert found.contenders[0].name == "lr (fitted on d 99999999)"
    assert any("other training rows" in note for note in found.contenders[0].notes)
    assert admit(external, host()).dataset_digest == own.dataset_digest
    assert "fitted on" not in admit(external, host()).settings


def test_a_guest_of_other_rows_classes_or_labels_is_refused():
    external = run("lr", TRUTH, TRUTH)
    mine = external.predictions["test"]
    shifted = replace(mine, row_ids=np.array([f"test:{i}" for i in range(100, 1100)]))
    with pytest.raises(UserError, match=r"1,000 rows of 'test', of which 900 are among the 1,000 of 'test' here"):
        admit(replace(external, predictions={"test": shifted}), host())
    with pytest.raises(UserError, match=r"other classes \(only there: z; only here: b\)"):
        admit(replace(external, class_names=("a", "z")), host())
    with pytest.raises(UserError, match="another order"):
        admit(replace(external, class_names=("b", "a")), host())
    other = TRUTH.copy()
    other[:7] = 1 - other[:7]
    with pytest.raises(UserError, match="7 of its test rows have another label"):
        admit(external, host(other))
    with pytest.raises(UserError, match="no predictions of a labelled test"):
        admit(replace(external, predictions={}), host())
