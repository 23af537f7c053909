"""The solver against scikit-learn, and against cases whose answer fits in the head."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from pipeline.linear.resample import balanced_weights
from pipeline.linear.solver import Descent, own_axes, principal_axes, solve


def blobs(n: int, d: int, k: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping classes of unequal size, columns of unequal spread."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(k, n, p=np.arange(1, k + 1) / (k * (k + 1) / 2))
    truth[:k] = np.arange(k)
    centres = rng.normal(size=(k, d))
    matrix = (centres[truth] + 2 * rng.normal(size=(n, d))) * np.geomspace(0.1, 3, d)
    return matrix.astype(np.float32), truth


def ones(n: int) -> np.ndarray:
    return np.ones((1, n), np.float32)


def proba(W: np.ndarray, b: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    z = matrix @ W.T + b
    z = np.hstack([np.zeros_like(z), z]) if z.shape[1] == 1 else z
    z = np.exp(z - z.max(1, keepdims=True))
    return z / z.sum(1, keepdims=True)


@pytest.mark.parametrize("k", [2, 3, 6])
@pytest.mark.parametrize("C", [0.001, 0.1, 10.0])
def test_solution_equals_scikit_learns(k, C):
    matrix, truth = blobs(400, 12, k)
    axes = principal_axes(matrix)
    found = solve(axes, truth, ones(400), C, k)
    W, b = axes.weights(found.stacked[0])
    theirs = LogisticRegression(C=C, tol=1e-10, max_iter=10000).fit(matrix.astype(np.float64), truth)
    assert found.converged.all()
    assert np.abs(W - theirs.coef_).max() < 1e-3
    assert np.abs(proba(W, b, matrix) - theirs.predict_proba(matrix)).max() < 1e-4


def test_class_weights_equal_scikit_learns_balanced():
    matrix, truth = blobs(300, 8, 3)
    axes = principal_axes(matrix)
    found = solve(axes, truth, balanced_weights(truth, ones(300), 3), 0.1, 3)
    W, b = axes.weights(found.stacked[0])
    theirs = LogisticRegression(C=0.1, class_weight="balanced", tol=1e-10, max_iter=10000)
    theirs.fit(matrix.astype(np.float64), truth)
    assert np.abs(proba(W, b, matrix) - theirs.predict_proba(matrix)).max() < 1e-4


def test_problems_of_one_batch_do_not_touch_each_other():
    matrix, truth = blobs(200, 6, 3)
    axes = principal_axes(matrix)
    masks = np.ones((3, 200), np.float32)
    masks[0, :50], masks[1, 50:100] = 0, 0
    together = solve(axes, truth, masks, 0.1, 3)
    for problem in range(3):
        alone = solve(axes, truth, masks[problem : problem + 1], 0.1, 3)
        assert np.abs(alone.stacked[0] - together.stacked[problem]).max() < 1e-3
    rows = matrix[50:].astype(np.float64), truth[50:]
    theirs = LogisticRegression(C=0.1, tol=1e-10, max_iter=10000).fit(*rows)  # a mask is the same as leaving rows out
    W, b = axes.weights(together.stacked[0])
    assert np.abs(proba(W, b, matrix[:50]) - theirs.predict_proba(matrix[:50])).max() < 1e-4


def test_fewer_rows_than_columns_loses_nothing():
    matrix, truth = blobs(30, 80, 3)
    axes = principal_axes(matrix)
    assert axes.turn.shape == (80, 30)
    W, b = axes.weights(solve(axes, truth, ones(30), 0.1, 3).stacked[0])
    theirs = LogisticRegression(C=0.1, tol=1e-10, max_iter=10000).fit(matrix.astype(np.float64), truth)
    assert np.abs(W - theirs.coef_).max() < 1e-3
    assert np.abs(proba(W, b, matrix) - theirs.predict_proba(matrix)).max() < 1e-4


def test_axes_are_a_rotation():
    matrix, _ = blobs(100, 10, 2)
    axes = principal_axes(matrix)
    assert np.allclose(axes.turn.T @ axes.turn, np.eye(10), atol=1e-5)
    assert np.allclose(axes.rows[:, :-1] @ axes.turn.T, matrix, atol=1e-4)
    assert (axes.rows[:, -1] == 1).all()


def test_constant_matrix_gives_the_class_shares():
    truth = np.array([0, 0, 0, 1])
    axes = principal_axes(np.zeros((4, 3), np.float32))
    W, b = axes.weights(solve(axes, truth, ones(4), 1.0, 2).stacked[0])
    assert np.allclose(proba(W, b, np.zeros((1, 3))), [[0.75, 0.25]], atol=1e-4)


@pytest.mark.parametrize("k", [2, 4])
def test_sparse_rows_give_what_dense_rows_give(k):
    rng = np.random.default_rng(1)
    dense = (rng.random((150, 40)) * (rng.random((150, 40)) < 0.2)).astype(np.float32)
    truth = rng.integers(0, k, 150)
    axes = own_axes(sparse.csr_matrix(dense))
    W, b = axes.weights(solve(axes, truth, ones(150), 3.0, k).stacked[0])
    theirs = LogisticRegression(C=3.0, tol=1e-10, max_iter=10000).fit(dense.astype(np.float64), truth)
    assert np.abs(proba(W, b, dense) - theirs.predict_proba(dense)).max() < 1e-3


def test_number_of_threads_does_not_change_the_result():
    from threadpoolctl import threadpool_limits

    matrix, truth = blobs(3000, 10, 3)
    axes = principal_axes(matrix)
    with threadpool_limits(1, "blas"):
        one = solve(axes, truth, ones(3000), 0.1, 3).stacked
    assert np.array_equal(one, solve(axes, truth, ones(3000), 0.1, 3).stacked)


def test_too_few_iterations_are_not_called_convergence():
    matrix, truth = blobs(300, 12, 3)
    found = solve(principal_axes(matrix), truth, ones(300), 10.0, 3, Descent(most=2))
    assert found.iterations.tolist() == [2]
    assert not found.converged[0]


def test_warm_start_at_the_solution_is_free():
    matrix, truth = blobs(300, 12, 3)
    axes = principal_axes(matrix)
    first = solve(axes, truth, ones(300), 0.1, 3, Descent(tolerance=1e-8))
    again = solve(axes, truth, ones(300), 0.1, 3, Descent(first.stacked, 1e-6))
    assert again.iterations.tolist() == [0]


def test_separable_rows_and_hardly_any_penalty_end_somewhere_finite():
    matrix = np.array([[-1.0], [-1.0], [1.0], [1.0]], np.float32)
    found = solve(principal_axes(matrix), np.array([0, 0, 1, 1]), ones(4), 1e6, 2)
    assert np.isfinite(found.stacked).all()
    assert found.loss[0] < 1e-4
