"""The difference of two procedures, by cross-validation: over rows, training sets and seeds. Pure functions of arrays.

Every row is judged by a model that has not seen it. The differences of the rows are not independent: the training sets
of the folds overlap, and what differs from fit to fit moves all rows of a fold together. The variance of their mean is
therefore the larger of two estimates, over rows (or groups of them) and over folds, times 1 + J / (K − 1) for the
overlap (Nadeau & Bengio 2003: the share of test to training rows is 1 / (K − 1)), which text asks for up to 1.5 only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import UserError
from ..data.splits import labels_of, order

FOLDS, LEAST_FOLDS, SOME_FOLDS = 10, 3, 5  # of the split; that a dear contender needs; that it gets if nobody says
MOST_STRETCH = 1.5  # of the variance, for the overlap of training sets


@dataclass(frozen=True)
class RowFolds:
    """Which fold judges each row, and which rows belong together."""

    row_ids: np.ndarray  # (n,) str
    place: np.ndarray  # (n,) int64 in 0 … count-1
    groups: np.ndarray  # (n,) int64, rows that are not independent share a number
    count: int = FOLDS
    method: str = "stratified, equal texts together"
    learnt: int | None = None  # rows that a fold is predicted from, on average; None: all but the fold's

    def to_json(self) -> dict[str, Any]:
        """`cv` of a comparison."""
        return {"folds": self.count, "repeats": 1, "rows": len(self.place), "method": self.method}

    @property
    def training_rows(self) -> int:
        """About how many rows each model learnt from."""
        return round(len(self.place) * (1 - 1 / self.count)) if self.learnt is None else self.learnt


@dataclass(frozen=True)
class FoldDifference:
    """The mean of row differences over J of K folds, and its standard error as a statement on the procedures."""

    difference: float
    rows_error: float  # √v_rows
    folds_error: float  # √v_folds
    stretch: float  # c², for the overlap of training sets
    error: float

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        from scipy.special import ndtri

        half = float(ndtri((1 + level) / 2)) * self.error
        return self.difference - half, self.difference + half

    @property
    def p_value(self) -> float:
        """Two-sided, of a normal mean."""
        from scipy.special import ndtr

        if self.error == 0:
            return 1.0 if self.difference == 0 else 0.0
        return float(2 * ndtr(-abs(self.difference) / self.error))


def stretch_of(folds: int, count: int) -> float:
    """c² = min(1.5, 1 + J / (K − 1)) of J folds out of K."""
    return min(MOST_STRETCH, 1 + folds / (count - 1))


def fold_difference(
    values: np.ndarray, place: np.ndarray, count: int, groups: np.ndarray | None = None
) -> FoldDifference:
    """Mean and error of row differences (m,) judged in folds `place` (m,) of `count`; rows of a group vary together.

    v_rows = G / (G − 1) · Σ over groups (Σ (dᵢ − d))² / m², v_folds = variance of the fold means / J, and the error is
    √(c² · max(v_rows, v_folds)).
    """
    values, place = np.asarray(values, np.float64), np.asarray(place)
    m, mean = len(values), float(values.mean())
    _, member = np.unique(np.arange(m) if groups is None else groups, return_inverse=True)
    sums = np.bincount(member, values - mean)
    v_rows = len(sums) / max(1, len(sums) - 1) * float((sums**2).sum()) / m**2
    judged, fold = np.unique(place, return_inverse=True)
    means = np.bincount(fold, values) / np.bincount(fold)
    v_folds = float(means.var(ddof=1)) / len(judged) if len(judged) > 1 else 0.0
    stretch = stretch_of(len(judged), count)
    error = float(np.sqrt(stretch * max(v_rows, v_folds)))
    return FoldDifference(mean, float(np.sqrt(v_rows)), float(np.sqrt(v_folds)), stretch, error)


def normal_draws(mean: float, error: float, draws: int) -> np.ndarray:
    """`draws` values whose quantiles are those of a normal distribution: what has a formula, beside what is drawn."""
    from scipy.special import ndtri

    level = np.clip(np.linspace(0, 1, draws), 0.25 / draws, 1 - 0.25 / draws)
    return np.asarray(mean + error * ndtri(level))


def stretched(drawn: np.ndarray, folds: int, count: int) -> np.ndarray:
    """Draws (d,) moved away from their mean by √c²."""
    mean = drawn.mean()
    return np.asarray(mean + np.sqrt(stretch_of(folds, count)) * (drawn - mean))


def split_folds(labels: np.ndarray, groups: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """The fold (n,) of each row: each class spread evenly, no group in two folds, folds of equal size to a group.

    labels (n,) and groups (n,) 0 … g-1 are per row. Groups go, the largest first and class by class, to the fold that
    has the fewest rows of their class, and of all rows.

    Raises UserError if there are fewer groups than folds.
    """
    sizes, label = np.bincount(groups), labels_of(groups, labels)
    if len(sizes) < count:
        raise UserError(f"{len(sizes)} different texts (or groups) are too few for {count} folds; add rows")
    ranked = order(labels, groups, rng)
    by_class = ranked[np.lexsort((-sizes[ranked], label[ranked]))]
    of_class = np.zeros((int(label.max()) + 1, count), np.int64)
    rows, first = np.zeros(count, np.int64), rng.permutation(count)
    fold = np.empty(len(sizes), np.int64)
    for group in by_class:
        held = of_class[label[group]]
        at = int(np.lexsort((first, rows, held))[0])
        fold[group] = at
        held[at] += sizes[group]
        rows[at] += sizes[group]
    return np.asarray(fold[groups])
