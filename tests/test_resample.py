"""Samplers on rows that can be counted by hand."""

import numpy as np
import pytest

from pipeline import UserError
from pipeline.linear import resample

NAMES = ("a", "b", "c")


def rows(*sizes: int) -> tuple[np.ndarray, np.ndarray]:
    truth = np.repeat(np.arange(len(sizes)), sizes)
    return (np.random.default_rng(0).normal(size=(len(truth), 4)) + truth[:, None]).astype(np.float32), truth


def counts(name: str, *sizes: int) -> list[int]:
    return np.bincount(resample.resample(name, *rows(*sizes), NAMES, 0).truth).tolist()


def test_each_sampler_fills_what_it_says():
    assert counts("smote", 20, 10, 8) == [20, 20, 20]
    assert counts("smote-minority", 20, 10, 8) == [20, 10, 20]
    assert counts("over", 20, 10, 8) == [20, 20, 20]


def test_real_rows_come_first_and_are_untouched():
    matrix, truth = rows(20, 10, 8)
    new = resample.resample("smote", matrix, truth, NAMES, 0)
    assert np.array_equal(new.rows[:38], matrix)
    assert new.rows.dtype == np.float32
    assert np.allclose(new.prior(3), 1 / 3)


def test_neighbours_adapt_to_the_smallest_class():
    assert counts("smote", 20, 2, 3) == [20, 20, 20]


def test_a_class_of_one_row_is_copied_and_named():
    matrix, truth = rows(10, 1, 5)
    new = resample.resample("smote", matrix, truth, NAMES, 0)
    assert np.bincount(new.truth).tolist() == [10, 10, 10]
    assert (new.rows[new.truth == 1] == matrix[10]).all()
    assert new.notes == ("one row only, repeated instead of interpolated: b",)


def test_a_sampler_that_raises_is_skipped_and_named(monkeypatch):
    def broken(matrix, truth, seed):
        raise ValueError("no samples\nwill be generated")

    monkeypatch.setitem(resample.SAMPLERS, "broken", broken)
    matrix, truth = rows(5, 3)
    new = resample.resample("broken", matrix, truth, NAMES, 0)
    assert np.array_equal(new.rows, matrix)
    assert new.notes == ("broken was skipped: ValueError: no samples",)


def test_an_unknown_sampler_is_answered_with_the_list():
    with pytest.raises(UserError, match="smote, smote-minority, over"):
        resample.resample("adasyn", *rows(5, 3), NAMES, 0)


def test_balanced_weights_are_scikit_learns():
    from sklearn.utils.class_weight import compute_sample_weight

    truth = np.array([0, 0, 0, 1, 1, 2])
    mask = np.array([[1, 1, 1, 1, 1, 1], [1, 1, 0, 1, 0, 0]], np.float32)
    found = resample.balanced_weights(truth, mask, 3)
    assert np.allclose(found[0], compute_sample_weight("balanced", truth))
    assert np.allclose(found[1, [0, 1, 3]], compute_sample_weight("balanced", [0, 0, 1]))
    assert found[1, [2, 4, 5]].tolist() == [0, 0, 0]
