"""Folds by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import UserError
from pipeline.linear.folds import equal, split

NAMES = ("a", "b", "c")


def test_every_class_is_dealt_evenly():
    labels = np.repeat([0, 1, 2], [50, 30, 20])
    folds = split(labels, np.arange(100), NAMES, 5, 0)
    assert folds.count == 5
    for fold in range(5):
        assert np.bincount(labels[folds.held(fold)]).tolist() == [10, 6, 4]


def test_equal_texts_stay_in_one_fold():
    texts = [("same",)] * 7 + [(f"text {i}",) for i in range(40)]
    folds = split(np.arange(47) % 2, equal(texts), NAMES, 5, 0)
    assert len(set(folds.place[:7])) == 1


def test_folds_adapt_to_the_smallest_class():
    folds = split(np.array([0] * 20 + [1] * 3), np.arange(23), NAMES, 5, 0)
    assert folds.count == 3
    assert folds.notes == ("3 folds instead of 5: class 'b' has 3 different texts",)
    assert [int((folds.place[20:] == fold).sum()) for fold in range(3)] == [1, 1, 1]


def test_a_class_of_one_row_is_named_and_does_not_shrink_the_folds():
    folds = split(np.array([0] * 10 + [1] * 10 + [2]), np.arange(21), NAMES, 5, 0)
    assert folds.count == 5
    assert folds.notes == ("one text only, so that no fold can both learn and judge it: c",)


def test_one_row_a_class_still_splits():
    assert sorted(split(np.array([0, 1]), np.arange(2), NAMES, 5, 0).place) == [0, 1]


def test_weights_are_zero_where_a_fold_holds_out():
    folds = split(np.array([0, 1] * 10), np.arange(20), NAMES, 4, 0)
    assert (folds.weights().sum(0) == 3).all()
    assert (folds.weights()[folds.place, np.arange(20)] == 0).all()


def test_the_seed_decides():
    labels = np.arange(60) % 3
    assert np.array_equal(
        split(labels, np.arange(60), NAMES, 5, 1).place, split(labels, np.arange(60), NAMES, 5, 1).place
    )
    assert not np.array_equal(
        split(labels, np.arange(60), NAMES, 5, 1).place, split(labels, np.arange(60), NAMES, 5, 2).place
    )


def test_one_class_is_refused_by_name():
    with pytest.raises(UserError, match=r"one class only \(b\)"):
        split(np.ones(9, np.int64), np.arange(9), NAMES, 5, 0)


def test_one_fold_is_refused():
    with pytest.raises(UserError, match="at least 2"):
        split(np.array([0, 1]), np.arange(2), NAMES, 1, 0)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30)), min_size=2, max_size=80), st.integers(2, 6))
def test_any_rows_are_dealt_once_and_groups_stay_whole(rows, count):
    labels, groups = np.array(rows).T
    if len(set(labels)) < 2 or len(set(groups)) < 2:
        return
    folds = split(labels, groups, NAMES, count, 0)
    assert folds.place.min() >= 0
    assert folds.place.max() < folds.count <= count
    for group in set(groups):
        assert len(set(folds.place[groups == group])) == 1
