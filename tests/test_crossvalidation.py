"""Cross-validated differences by hand, folds that keep groups together, and the coverage of the interval."""

import re
from io import StringIO
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from pipeline import UserError
from pipeline.run import Predictions, Run
from pipeline.show.verdicts import comparison_tables
from pipeline.verdict import compare
from pipeline.verdict.crossvalidation import RowFolds, fold_difference, split_folds, stretch_of

VALUES = np.array([1.0] * 60 + [-1.0] * 30 + [0.0] * 210)
DEALT = np.arange(300) % 10


def test_all_folds_by_hand():
    found = fold_difference(VALUES, DEALT, 10)
    assert found.difference == pytest.approx(0.1)
    assert found.rows_error == pytest.approx(0.03114, abs=1e-5)
    assert found.error == pytest.approx(0.03814, abs=1e-5)
    assert found.interval() == pytest.approx((0.02524, 0.17476), abs=1e-5)


def test_the_first_three_folds_by_hand():
    some = DEALT < 3
    found = fold_difference(VALUES[some], DEALT[some], 10)
    assert found.error == pytest.approx(0.06591, abs=1e-5)
    assert found.interval() == pytest.approx((-0.02919, 0.22919), abs=1e-5)


def test_folds_that_differ_speak_for_themselves():
    found = fold_difference(VALUES, np.arange(300) // 30, 10)
    assert found.folds_error == pytest.approx(0.17951, abs=1e-5)
    assert found.error == pytest.approx(0.21985, abs=1e-5)


def test_rows_of_a_group_are_one_observation():
    """Each row twice: with groups the error is that of the rows once, without it is smaller by the root of two."""
    twice, place, groups = np.repeat(VALUES, 2), np.repeat(DEALT, 2), np.repeat(np.arange(300), 2)
    assert fold_difference(twice, place, 10, groups).error == pytest.approx(0.03814, abs=1e-5)
    assert fold_difference(twice, place, 10).error == pytest.approx(0.03814 / np.sqrt(2), abs=3e-5)


@pytest.mark.parametrize(("folds", "stretch"), [(3, 1 + 3 / 9), (4, 1 + 4 / 9), (5, 1.5), (10, 1.5)])
def test_the_stretch_is_capped(folds, stretch):
    assert stretch_of(folds, 10) == pytest.approx(stretch)


def test_folds_spread_classes_evenly_and_keep_groups_together():
    rng = np.random.default_rng(0)
    labels = rng.choice(4, 300, p=[0.6, 0.2, 0.15, 0.05])
    groups = np.arange(300)
    groups[10:20] = 9
    groups = np.unique(groups, return_inverse=True)[1]
    place = split_folds(labels, groups, 10, rng)
    assert len(set(place[9:20])) == 1
    assert np.bincount(place).min() >= 28
    for c in range(1, 4):
        held = np.bincount(place[labels == c], minlength=10)
        alone = held[np.arange(10) != place[9]]
        assert alone.max() - alone.min() <= 1
    with pytest.raises(UserError, match="too few for 10 folds"):
        split_folds(labels[:9], np.arange(9), 10, rng)


def fold_run(kind: str, truth: np.ndarray, right: np.ndarray, rows: np.ndarray) -> Run:
    proba = np.where(np.eye(2)[np.where(right, truth, 1 - truth)] > 0, 0.9, 0.1).astype(np.float32)
    ids = np.array([f"train:{i}" for i in range(len(truth))])
    predictions = {"test": Predictions("all", ids[rows], truth[rows], proba[rows])}
    from pipeline.run import Cost

    return Run(kind, {}, ("a", "b"), predictions, Cost(1.0, None, ms_per_text_batch=0.1), "d", "0" * 16)


def dealt_runs(rows: np.ndarray) -> tuple[list[Run], RowFolds]:
    """tfidf is wrong on 90 of 300 rows; lr is right on 60 of these and wrong on 30 others; classes alternate."""
    truth = (np.arange(300) // 10) % 2
    tfidf, lr = np.ones(300, bool), np.ones(300, bool)
    tfidf[:60] = False
    lr[60:90] = False
    folds = RowFolds(np.array([f"train:{i}" for i in range(300)]), DEALT, np.arange(300))
    return [fold_run("tfidf", truth, tfidf, np.arange(300)), fold_run("lr", truth, lr, rows)], folds


def test_a_comparison_out_of_fold():
    runs, folds = dealt_runs(np.arange(300))
    found = compare(runs, folds=folds, row_draws=200)
    (pair,) = found.pairs
    assert (pair.a, pair.b, pair.difference, pair.verdict) == ("lr", "tfidf", pytest.approx(0.1), "better")
    assert (pair.low, pair.high) == pytest.approx((0.02524, 0.17476), abs=1e-5)
    assert pair.p_value == pytest.approx(0.00875, abs=1e-4)  # 2Φ(−0.1 / 0.03814), above McNemar's 0.0021
    assert found.cv == {"folds": 10, "repeats": 1, "rows": 300, "method": "stratified, equal texts together"}
    assert "Trained on about 270 rows like these, lr is right 10.0 points more often than tfidf" in found.recommendation
    assert "(95 % interval 2.5 to 17.5, over rows, training sets and seeds)" in found.recommendation


def test_a_dear_contender_is_judged_on_the_folds_that_it_has():
    runs, folds = dealt_runs(np.flatnonzero(DEALT < 3))
    found = compare(runs, folds=folds, row_draws=200)
    (pair,) = found.pairs
    assert (pair.rows, pair.difference, pair.verdict) == (90, pytest.approx(0.1), "undecided")
    assert (pair.low, pair.high) == pytest.approx((-0.02919, 0.22919), abs=1e-5)
    assert {c.name: c.rows for c in found.contenders} == {"lr": 90, "tfidf": 300}
    assert found.judged_rows == "300 rows of 'all', each out of fold"
    assert (found.may_lose("lr"), found.may_lose("tfidf")) == ("0.8 points", "20.8 points")  # ∓0.1 + 1.645 · 0.06591
    assert found.may_lose("majority") == "–"
    console = Console(width=200, record=True, file=StringIO())
    console.print(next(comparison_tables(SimpleNamespace(comparison=found))))
    table = console.export_text()
    assert "300 rows of 'all', each out of fold" in table
    assert re.search(r"may lose up to\W+rows", table)
    assert re.search(r"tfidf.*20\.8 points\W+300", table)


def test_the_interval_holds_the_difference_of_the_procedures():
    """Nearest centroid on two exchangeable blocks of columns: the true difference is 0 at every size."""
    rng, held, called, repeats = np.random.default_rng(3), 0, 0, 150
    for _ in range(repeats):
        labels = rng.integers(0, 2, 100)
        X = rng.normal(size=(100, 20)) + (2 * labels[:, None] - 1) * 0.25
        place = split_folds(labels, np.arange(100), 10, rng)
        right = np.zeros((2, 100), bool)
        for fold in range(10):
            train, test = place != fold, place == fold
            for block in (0, 1):
                part = X[:, 10 * block : 10 * block + 10]
                means = np.stack([part[train & (labels == c)].mean(0) for c in (0, 1)])
                near = ((part[test, None] - means) ** 2).sum(2).argmin(1)
                right[block, test] = near == labels[test]
        found = fold_difference(right[0].astype(float) - right[1], place, 10)
        low, high = found.interval()
        held += low <= 0 <= high
        called += found.p_value < 0.05
    assert held / repeats >= 0.95 - 2 * np.sqrt(0.05 * 0.95 / repeats)
    assert called / repeats <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / repeats)
