"""The regularisation path: C by out-of-fold log loss, warm from the strongest penalty on, until the score worsens."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .. import UserError
from .calibrate import losses
from .folds import Folds
from .resample import Resampled
from .solver import SEARCH, Axes, Descent, Solution, principal_axes, solve

GRID = tuple(float(f"{10.0 ** (half / 2):.6g}") for half in range(-8, 5))  # 1e-4 … 1e2 by half decades
STEP = 10**0.5  # by which the grid grows at its ends
LEAST, MOST = 1e-8, 1e6  # where it ends for good
WORSE = 1e-4  # log loss by which a point must be worse than the best for the path to stop


@dataclass(frozen=True)
class Block:
    """Problems that share one matrix: all folds without resampling, a single fold with it."""

    axes: Axes  # training rows
    truth: np.ndarray  # (n,) int64 of those rows
    weights: np.ndarray  # (P, n) float32
    judged: Any  # (m, r + 1) float32, the matrix that holds the held-out rows, in the same axes
    held: tuple[np.ndarray, ...]  # P index arrays into `judged`
    rows: tuple[np.ndarray, ...]  # P index arrays into the train split: the same rows
    tolerance: float = SEARCH  # how far above its minimum the mean loss of a problem may stay

    def apart(self) -> list[Block]:
        """The same problems, one a block: slower, in less memory."""
        return [
            replace(self, weights=self.weights[p : p + 1], held=self.held[p : p + 1], rows=self.rows[p : p + 1])
            for p in range(len(self.weights))
        ]

    def prior(self, classes: int) -> np.ndarray:
        """Class shares that each problem learns under, (P, k)."""
        counts = np.stack([np.bincount(self.truth, row, classes) for row in self.weights])
        return np.asarray(counts / counts.sum(1, keepdims=True))


@dataclass(frozen=True)
class Found:
    """The best point of a path, and the way there."""

    C: float
    log_loss: float
    logits: np.ndarray  # (n, k) float32, out of fold, of every train row
    stacked: list[np.ndarray]  # a block: (P, r, q)
    points: list[dict[str, Any]]  # a C: C, log_loss, iterations, converged, seconds
    notes: tuple[str, ...]


def moments(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (d,) float32 of matrix (n, d); a constant column keeps its scale."""
    n, d = matrix.shape
    total, square = np.zeros(d), np.zeros(d)
    for start in range(0, n, 8192):
        total += matrix[start : start + 8192].sum(0, dtype=np.float64)
    mean = total / n
    for start in range(0, n, 8192):
        block = matrix[start : start + 8192] - mean  # float64: a second pass, so that nothing cancels
        square += np.einsum("nd,nd->d", block, block)
    scale = np.sqrt(square / n)
    constant = scale <= 1e-6 * np.abs(mean) + 1e-30
    return mean.astype(np.float32), np.where(constant, 1, scale).astype(np.float32)


def unscaled(width: int) -> tuple[np.ndarray, np.ndarray]:
    """The mean and scale that change nothing."""
    return np.zeros(width, np.float32), np.ones(width, np.float32)


def standardise(matrix: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """(matrix - mean) / scale, (n, d) float32."""
    out: np.ndarray = np.subtract(matrix, mean, dtype=np.float32)
    out /= scale
    return out


def shared_block(axes: Axes, truth: np.ndarray, folds: Folds, weights: np.ndarray) -> Block:
    """All folds on one matrix; `weights` (folds, n) say what each learns from."""
    held = tuple(folds.held(fold) for fold in range(folds.count))
    return Block(axes, truth, weights, axes.rows, held, held)


Resampler = Callable[[np.ndarray, np.ndarray, int], Resampled]  # rows (m, d), truth (m,), fold → more rows, or fewer


def resampled_blocks(
    matrix: np.ndarray, truth: np.ndarray, folds: Folds, resampler: Resampler, scaled: bool = True
) -> tuple[list[Block], tuple[str, ...]]:
    """One block a fold: scaled and resampled on the fold's training rows, judged on rows as they are."""
    blocks, notes = [], []
    for fold in range(folds.count):
        learnt, held = folds.kept(fold), folds.held(fold)
        mean, scale = moments(matrix[learnt]) if scaled else unscaled(matrix.shape[1])
        new = resampler(standardise(matrix[learnt], mean, scale), truth[learnt], fold)
        axes = principal_axes(new.rows)
        judged = np.ones((len(held), axes.rows.shape[1]), np.float32)
        judged[:, :-1] = standardise(matrix[held], mean, scale) @ axes.turn
        weights = np.ones((1, len(new.truth)), np.float32)
        blocks.append(Block(axes, new.truth, weights, judged, (np.arange(len(held)),), (held,)))
        notes += [note for note in new.notes if note not in notes]
    return blocks, tuple(notes)


def full(logits: np.ndarray) -> np.ndarray:
    """Two columns for two classes, whose model has one: class 0 has logit 0."""
    return np.concatenate([np.zeros_like(logits), logits], 1) if logits.shape[1] == 1 else logits


def search(
    blocks: Sequence[Block],
    truth: np.ndarray,
    folds: Folds,
    grid: Sequence[float] | None,
    usual: Sequence[float] = GRID,
    tick: Callable[[int, int], None] = lambda done, total: None,
) -> Found:
    """C by the out-of-fold log loss on `truth` (n,), from the smallest C up, each fit starting from the last one.

    Without a `grid` of the caller's, the `usual` one, which grows while its best point is its first or last.
    Rows whose class their fold has not seen do not take part in the choice.

    Raises UserError if a C is not positive.
    """
    if grid is not None and not (len(grid) and all(0 < C < np.inf for C in grid)):
        raise UserError("C must be a positive number: pass --C 0.01,0.1,1")
    known = _known(truth, folds)
    path = _Path(blocks, truth, known, int(truth.max()) + 1)
    steps = sorted(set(usual if grid is None else grid))
    for place, C in enumerate(steps):
        tick(place, len(steps))
        path.visit(C)
        if path.worsened():
            break
    if grid is None:
        while path.best["C"] == path.highest and path.highest * STEP <= MOST and not path.worsened():
            path.visit(path.highest * STEP)
        while path.best["C"] == path.lowest and path.lowest / STEP >= LEAST:
            path.visit(path.lowest / STEP)
    tick(len(steps), len(steps))
    return path.result(edge=grid is not None and len(steps) > 1)


def _known(truth: np.ndarray, folds: Folds) -> np.ndarray:
    """(n,) bool: the row's class also stands outside the row's fold."""
    table = np.zeros((folds.count, int(truth.max()) + 1), np.int64)
    np.add.at(table, (folds.place, truth), 1)
    return np.asarray((table.sum(0) - table)[folds.place, truth] > 0)


class _Path:
    """Points visited so far and the best of them."""

    def __init__(self, blocks: Sequence[Block], truth: np.ndarray, known: np.ndarray, classes: int):
        self.blocks, self.truth, self.known, self.classes = blocks, truth, known, classes
        self.points: list[dict[str, Any]] = []
        self.last: list[np.ndarray] = []
        self.before: list[np.ndarray] = []  # the solutions one point earlier
        self.best: dict[str, Any] = {}
        self.best_fit: tuple[np.ndarray, list[np.ndarray]] | None = None

    @property
    def lowest(self) -> float:
        return float(min(point["C"] for point in self.points))

    @property
    def highest(self) -> float:
        return float(max(point["C"] for point in self.points))

    def visit(self, C: float) -> None:
        """Fit every block at C and judge it out of fold."""
        started = time.perf_counter()
        fits = [
            solve(block.axes, block.truth, block.weights, C, self.classes, Descent(start, block.tolerance))
            for block, start in zip(self.blocks, self._starts(C), strict=True)
        ]
        logits = self._judge(fits)
        loss = float(losses(logits[self.known], self.truth[self.known]).mean()) if self.known.any() else 0.0
        point = {
            "what": "search",
            "C": float(C),
            "log_loss": loss,
            "iterations": int(max(fit.iterations.max() for fit in fits)),
            "converged": bool(all(fit.converged.all() for fit in fits)),
            "seconds": time.perf_counter() - started,
        }
        self.points.append(point)
        self.before, self.last = self.last, [fit.stacked for fit in fits]
        if not self.best or loss < self.best["log_loss"]:
            self.best, self.best_fit = point, (logits, [fit.stacked for fit in fits])

    def _starts(self, C: float) -> Sequence[np.ndarray | None]:
        """Where the fits at C start: the last solutions, carried on along the path as far as log C goes on."""
        if not self.last:
            return [None] * len(self.blocks)
        if not self.before:
            return self.last
        earlier, latest = (np.log(point["C"]) for point in self.points[-2:])
        ahead = np.float32(np.clip((np.log(C) - latest) / (latest - earlier), 0, 1))
        return [last + ahead * (last - before) for last, before in zip(self.last, self.before, strict=True)]

    def worsened(self) -> bool:
        """Whether the last point is worse than the best by more than rounding."""
        return bool(self.points[-1]["log_loss"] > self.best["log_loss"] + WORSE)

    def _judge(self, fits: list[Solution]) -> np.ndarray:
        out = np.empty((len(self.truth), self.classes), np.float32)
        for block, fit in zip(self.blocks, fits, strict=True):
            for problem, (held, rows) in enumerate(zip(block.held, block.rows, strict=True)):
                out[rows] = full(block.judged[held] @ fit.stacked[problem].T.astype(np.float32))
        return out

    def result(self, edge: bool) -> Found:
        assert self.best_fit is not None, "a path has a point"
        notes = []
        visited = sorted(point["C"] for point in self.points)
        C = self.best["C"]
        if edge and C in (visited[0], visited[-1]):
            side = "lowest" if visited[0] == C else "highest"
            notes.append(f"the best C = {C:g} is the {side} of the grid given; a wider --C may do better")
        elif len(visited) > 1 and C in (visited[0], visited[-1]):
            notes.append(f"the best C = {C:g} is where the search ends; the penalty hardly matters there")
        if not all(point["converged"] for point in self.points):
            notes.append("some fits of the search did not converge; see the history")
        return Found(C, self.best["log_loss"], self.best_fit[0], self.best_fit[1], self.points, tuple(notes))
