"""The path through C: where it goes, where it stops, what it hands back."""

import numpy as np
import pytest

from pipeline.linear.calibrate import losses
from pipeline.linear.folds import split
from pipeline.linear.search import GRID, moments, search, shared_block, standardise
from pipeline.linear.solver import principal_axes, solve


def problem(rows=200, classes=3, spread=4.0, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, rows)
    matrix = (rng.normal(size=(classes, 15))[truth] + spread * rng.normal(size=(rows, 15))).astype(np.float32)
    folds = split(truth, np.arange(rows), tuple("abc"[:classes]), 5, 0)
    return principal_axes(standardise(matrix, *moments(matrix))), truth, folds


def test_moments_are_scikit_learns():
    from sklearn.preprocessing import StandardScaler

    matrix = (np.random.default_rng(0).normal(size=(20000, 5)) * [1, 1e-3, 10, 1, 0] + [0, 5, 1000, -3, 7]).astype("f4")
    mean, scale = moments(matrix)
    theirs = StandardScaler().fit(matrix.astype(np.float64))
    assert np.allclose(mean, theirs.mean_, rtol=1e-6, atol=1e-6)
    assert np.allclose(scale, theirs.scale_, rtol=1e-5)
    assert scale[4] == 1


def test_out_of_fold_logits_are_those_of_each_folds_own_fit():
    axes, truth, folds = problem()
    found = search([shared_block(axes, truth, folds, folds.weights())], truth, folds, (0.01, 0.03, 0.1))
    for fold in range(folds.count):
        alone = solve(axes, truth, folds.weights()[fold : fold + 1], found.C, 3)
        expected = axes.rows[folds.held(fold)] @ alone.stacked[0].T
        assert np.abs(found.logits[folds.held(fold)] - expected).max() < 0.01
    assert found.log_loss == pytest.approx(losses(found.logits, truth).mean())


def test_the_path_goes_up_from_the_strongest_penalty_and_stops():
    axes, truth, folds = problem()
    found = search([shared_block(axes, truth, folds, folds.weights())], truth, folds, None)
    visited = [point["C"] for point in found.points]
    assert visited == list(GRID[: len(visited)])
    assert GRID[0] < found.C < visited[-1] < GRID[-1]
    assert found.notes == ()


def test_the_grid_grows_downwards_too():
    axes, truth, folds = problem(rows=60, spread=200.0)  # hardly any signal: wants all the penalty there is
    found = search([shared_block(axes, truth, folds, folds.weights())], truth, folds, None, usual=(1.0, 10.0))
    visited = [point["C"] for point in found.points]
    assert visited[0] == 1
    assert min(visited) < 0.1
    assert min(visited) < found.C or any("where the search ends" in note for note in found.notes)


def test_blocks_apart_give_what_they_give_together():
    axes, truth, folds = problem(classes=2)
    block = shared_block(axes, truth, folds, folds.weights())
    together = search([block], truth, folds, (0.01, 0.1))
    apart = search(block.apart(), truth, folds, (0.01, 0.1))
    assert together.C == apart.C
    assert np.abs(together.logits - apart.logits).max() < 1e-2
    assert together.logits.shape == (200, 2)


def test_progress_ends_at_the_end():
    axes, truth, folds = problem()
    told = []
    search(
        [shared_block(axes, truth, folds, folds.weights())],
        truth,
        folds,
        (0.001, 0.01),
        tick=lambda done, total: told.append((done, total)),
    )
    assert told[0] == (0, 2)
    assert told[-1] == (2, 2)
