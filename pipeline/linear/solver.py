"""Many ridge logistic regressions on one matrix at once: a batched L-BFGS, in plain array functions.

One pass over a matrix of 16,000 x 768 costs about the same whether it serves one set of weights or thirty, so the
problems (one a fold) are stacked into one product. The matrix is turned into its principal axes first: a rotation
keeps the penalty ½‖W‖², and there the Hessian is nearly diagonal, which makes the inverse of that diagonal a good
first guess (Nocedal 1980 for the two loops; the diagonal is taken at the start, so a warm start brings a better one).

The objective is scikit-learn's: C · Σ weight · loss + ½‖W‖² with a free intercept; two classes have one row of weights.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

MEMORY = 10  # pairs that each problem remembers
ROWS = 1024  # rows of a chunk: it and its logits stay in the processor's second cache
DECREASE = 1e-4  # share of the promised decrease that a step must keep (Armijo)
NOISE = 2e-7  # relative rounding error of a float32 loss
SHORTEST = 1e-6  # step below which a problem is given up: rounding decides there
SEARCH, FINAL = 3e-7, 1e-10  # how far above its minimum the mean loss may stay, in search and in the final fit


@dataclass(frozen=True)
class Axes:
    """A matrix (n, d) in its principal axes: `rows = [matrix @ turn, 1]`, and the way back."""

    rows: Any  # (n, r + 1) float32, an array or a SciPy CSR matrix; r = rank, the last column is 1 for the intercept
    turn: np.ndarray | None  # (d, r) float32, orthonormal columns; None: not turned, r = d

    def weights(self, stacked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weights (..., d) and intercepts (...,) in the matrix's columns, of `stacked` (..., r + 1)."""
        inner = stacked[..., :-1]
        return inner if self.turn is None else inner @ self.turn.T.astype(np.float64), stacked[..., -1]


@dataclass(frozen=True)
class Solution:
    """What the solver found for P problems."""

    stacked: np.ndarray  # (P, r, q) float32: weights in the axes, intercept last
    loss: np.ndarray  # (P,) mean weighted loss plus penalty
    iterations: np.ndarray  # (P,) int64
    converged: np.ndarray  # (P,) bool
    gap: np.ndarray  # (P,) estimate of how far `loss` is above its minimum
    passes: int = 0  # products with the full matrix and its transpose


def principal_axes(matrix: np.ndarray) -> Axes:
    """Turn `matrix` (n, d) float32 into its principal axes; axes without any spread are left out (r <= min(n, d)).

    With an L2 penalty the weights have no part outside the span of the rows, so nothing is lost.
    """
    n, d = matrix.shape
    if n < d:  # through the rows' own products, (n, n)
        values, vectors = _eigh(matrix.astype(np.float64) @ matrix.T.astype(np.float64))
        keep = values > max(values[-1], 1e-30) * 1e-10
        turn = (matrix.T.astype(np.float64) @ vectors[:, keep]) / np.sqrt(values[keep])
    else:
        values, turn = _eigh(_gram(matrix))
        turn = turn[:, values > max(values[-1], 1e-30) * 1e-10]
    turn = np.ascontiguousarray(turn[:, ::-1], np.float32)
    rows = np.empty((n, turn.shape[1] + 1), np.float32)
    np.matmul(matrix, turn, out=rows[:, :-1])
    rows[:, -1] = 1
    return Axes(rows, turn)


def own_axes(matrix: Any) -> Axes:
    """A SciPy CSR matrix (n, d) as it is: rare words hardly overlap, so its columns are nearly principal axes."""
    from scipy import sparse

    rows = sparse.hstack([matrix, np.ones((matrix.shape[0], 1))], format="csr", dtype=np.float32)
    return Axes(rows, None)


def _eigh(symmetric: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues, ascending, and eigenvectors; on one thread, because several only wait for each other here."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, "blas"):
        return np.linalg.eigh(symmetric)


def _gram(matrix: np.ndarray) -> np.ndarray:
    """matrixᵀ matrix (d, d) float64, from float32 products of short blocks."""
    total = np.zeros((matrix.shape[1],) * 2)
    for start in range(0, len(matrix), 4096):
        block = matrix[start : start + 4096]
        total += block.T @ block
    return total


# ── loss and gradient ───────────────────────────────────────────────────────────────────────────────────────────────


def softmax_residual(logits: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Loss (P, m) of logits (P, k, m), which are overwritten by probability minus truth; truth (m,) int64."""
    place = np.arange(len(truth))
    logits -= logits.max(1, keepdims=True)
    of_label = logits[:, truth, place]  # (P, m)
    np.exp(logits, out=logits)
    total = logits.sum(1)
    logits /= total[:, None]
    logits[:, truth, place] -= 1
    return np.asarray(np.log(total) - of_label)


def sigmoid_residual(logits: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The same for two classes, whose one row of logits (P, 1, m) speaks for class 1."""
    z = logits[:, 0]
    loss: np.ndarray = np.logaddexp(0, z) - truth * z
    logits[:, 0] = 1 / (1 + np.exp(np.clip(-z, -80, 80))) - truth
    return loss


def _forward(rows: Any, flat: np.ndarray) -> np.ndarray:
    """flat (c, q) times rowsᵀ, (c, m)."""
    if isinstance(rows, np.ndarray):
        return flat @ rows.T
    return np.ascontiguousarray((rows @ np.ascontiguousarray(flat.T)).T)


def _back(residual: np.ndarray, rows: Any) -> np.ndarray:
    """residual (c, m) times rows, (c, q)."""
    if isinstance(rows, np.ndarray):
        return residual @ rows
    return np.asarray((rows.T @ np.ascontiguousarray(residual.T)).T)


def _piece(rows: Any, truth: np.ndarray, share: np.ndarray, stacked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weighted loss (P,) and its gradient (P·r, q) over one chunk of rows."""
    P, r, q = stacked.shape
    logits = _forward(rows, stacked.reshape(P * r, q)).reshape(P, r, len(truth))
    loss = (sigmoid_residual if r == 1 else softmax_residual)(logits, truth)
    logits *= share[:, None]
    return np.einsum("pm,pm->p", loss, share, dtype=np.float64), _back(logits.reshape(P * r, -1), rows)


@contextmanager
def _workers() -> Iterator[ThreadPoolExecutor]:
    """Threads over chunks, each with a single-threaded BLAS: products and softmax alike use every core."""
    from threadpoolctl import threadpool_info, threadpool_limits

    pools = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
    count = max(1, min(pools or [os.cpu_count() or 1]))
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(count) as pool:
        yield pool


def loss_and_gradient(
    rows: Any, truth: np.ndarray, shares: np.ndarray, stacked: np.ndarray, pool: ThreadPoolExecutor
) -> tuple[np.ndarray, np.ndarray]:
    """Σ share · loss (P,) and its gradient (P, r, q) float64, without the penalty.

    `rows` (n, q) float32, `truth` (n,) int64, `shares` (P, n) float32, `stacked` (P, r, q) float32. Sums run in the
    order of the chunks, so that the number of threads does not change the result.
    """
    P, r, q = stacked.shape
    widest = ROWS if isinstance(rows, np.ndarray) else len(truth)  # a slice of a sparse matrix is a copy
    step = max(64, min(widest, (2_000_000 if isinstance(rows, np.ndarray) else 50_000_000) // (P * r)))
    jobs = [
        pool.submit(_piece, rows[a : a + step], truth[a : a + step], shares[:, a : a + step], stacked)
        for a in range(0, len(truth), step)
    ]
    loss, gradient = np.zeros(P), np.zeros((P * r, q))
    for job in jobs:
        part, slope = job.result()
        loss += part
        gradient += slope
    return loss, gradient.reshape(P, r, q)


def hessian_diagonal(rows: Any, shares: np.ndarray, stacked: np.ndarray, pool: ThreadPoolExecutor) -> np.ndarray:
    """Σ share · p(1 − p) · x² for every weight, (P, r, q) float64: the diagonal of the loss's Hessian at `stacked`."""
    P, r, q = stacked.shape

    def piece(a: int, b: int) -> np.ndarray:
        part = rows[a:b]
        logits = _forward(part, stacked.reshape(P * r, q)).reshape(P, r, b - a)
        if r == 1:
            p = 1 / (1 + np.exp(np.clip(-logits, -80, 80)))
        else:
            p = np.exp(logits - logits.max(1, keepdims=True))
            p /= p.sum(1, keepdims=True)
        p *= (1 - p) * shares[:, None, a:b]
        return _back(p.reshape(P * r, -1), part * part if isinstance(part, np.ndarray) else part.multiply(part).tocsr())

    n = shares.shape[1]
    step = ROWS if isinstance(rows, np.ndarray) else n
    jobs = [pool.submit(piece, a, min(a + step, n)) for a in range(0, n, step)]
    return sum((job.result() for job in jobs), np.zeros((P * r, q))).reshape(P, r, q)


# ── the solver ──────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Descent:
    """Where a fit starts, and when it ends."""

    start: np.ndarray | None = None  # (P, r, q); None: at 0
    tolerance: float = FINAL
    most: int = 1000  # iterations


class _Descent:
    """The L-BFGS of one problem with D numbers: offers a trial point, hears what it is worth, offers the next."""

    def __init__(self, start: np.ndarray, ridge: np.ndarray, guess: np.ndarray, descent: Descent):
        self.x = start  # (D,) float32
        self.ridge = ridge  # (D,) float32, 0 for intercepts
        self.guess = guess  # (D,) float32, diagonal of the first inverse Hessian
        self.tolerance, self.most = descent.tolerance, descent.most
        self.pairs: deque[tuple[np.ndarray, np.ndarray, float]] = deque(maxlen=MEMORY)  # step, turn, 1 / product
        self.scale, self.length, self.slope = 1.0, 0.0, 0.0
        self.loss, self.gap, self.iterations = np.inf, np.inf, -1
        self.gradient = self.way = np.zeros_like(start)
        self.trial = start
        self.converged = self.done = False

    def hear(self, loss: float, gradient: np.ndarray) -> None:
        """Take the trial point if it is low enough, else halve the step or so."""
        pull = self.ridge * self.trial
        loss += 0.5 * float(np.dot(pull, self.trial))
        gradient = (gradient + pull).astype(np.float32)
        bound = self.loss + DECREASE * self.length * self.slope + NOISE * max(1.0, abs(self.loss))
        if self.iterations >= 0 and not loss <= bound:
            t = self.length  # the parabola through both values and the slope at 0
            best = -self.slope * t * t / (2 * (loss - self.loss - self.slope * t)) if np.isfinite(loss) else 0.0
            self.length = min(max(best, 0.1 * t), 0.5 * t)
            self.done = self.length < SHORTEST
        else:
            if self.iterations >= 0:
                self._remember(self.trial - self.x, gradient - self.gradient)
            self.x, self.loss, self.gradient = self.trial, loss, gradient
            self.iterations += 1
            self._turn()
        self.trial = self.x + np.float32(self.length) * self.way

    def _remember(self, step: np.ndarray, turn: np.ndarray) -> None:
        product, size = float(np.dot(step, turn)), float(np.dot(turn * self.guess, turn))
        if product > 1e-12 * size > 0:  # else rounding has spoilt it
            self.pairs.append((step, turn, 1 / product))
            self.scale = product / size

    def _turn(self) -> None:
        """The next way: minus the approximate inverse Hessian times the gradient, by the two loops."""
        q, alphas = self.gradient.copy(), []
        part = np.empty_like(q)
        for step, turn, rho in reversed(self.pairs):
            alpha = rho * float(np.dot(step, q))
            q -= np.multiply(turn, np.float32(alpha), out=part)
            alphas.append(alpha)
        q *= self.guess
        q *= np.float32(self.scale)
        for (step, turn, rho), alpha in zip(self.pairs, reversed(alphas), strict=True):
            beta = rho * float(np.dot(turn, q))
            q += np.multiply(step, np.float32(alpha - beta), out=part)
        self.way, self.length = np.negative(q, out=q), 1.0
        self.slope = float(np.dot(self.way, self.gradient))
        self.gap = -0.5 * self.slope
        self.converged = self.gap <= self.tolerance
        self.done = self.converged or self.iterations >= self.most


def solve(
    axes: Axes,
    truth: np.ndarray,
    weights: np.ndarray,
    C: float,
    classes: int,
    descent: Descent = Descent(),
) -> Solution:
    """Minimise Σ weight · loss / Σ weight + ‖W‖² / (2 C Σ weight) for P problems on the rows of one matrix.

    `truth` (n,) int64 in 0 … classes-1; `weights` (P, n), 0 where a problem does not know a row.
    A problem is converged when its estimated gap to the minimum is at most the descent's tolerance (mean loss).
    """
    P, r, q = len(weights), 1 if classes == 2 else classes, axes.rows.shape[1]
    total = weights.sum(1, dtype=np.float64)
    shares = (weights / total[:, None]).astype(np.float32)
    ridge = np.zeros((P, r, q), np.float32)
    ridge[..., :-1] = (1 / (C * total))[:, None, None]
    x = np.zeros((P, r, q), np.float32) if descent.start is None else np.ascontiguousarray(descent.start, np.float32)
    passes = 0
    with _workers() as pool:
        curvature = hessian_diagonal(axes.rows, shares, x, pool)
        guess = (1 / np.maximum(curvature + ridge, 1e-12)).astype(np.float32)
        descents = [_Descent(x[p].ravel(), ridge[p].ravel(), guess[p].ravel(), descent) for p in range(P)]
        active = list(range(P))
        while active:
            trial = np.stack([descents[p].trial for p in active]).reshape(-1, r, q)
            loss, slope = loss_and_gradient(axes.rows, truth, shares[active], trial, pool)
            list(pool.map(lambda p, f, g: descents[p].hear(float(f), g.ravel()), active, loss, slope))
            active, passes = [p for p in active if not descents[p].done], passes + 1
    return Solution(
        np.stack([d.x for d in descents]).reshape(P, r, q),
        np.array([d.loss for d in descents]),
        np.array([d.iterations for d in descents]),
        np.array([d.converged for d in descents]),
        np.array([d.gap for d in descents]),
        passes,
    )
