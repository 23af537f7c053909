"""Every metric of every contender on the same rows, with intervals, for all rows and for groups of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from .. import UserError, listed
from ..data import Split
from ..metrics import METRICS, Metric, scores
from ..run import Predictions
from . import bootstrap
from . import statistics as st
from .results import Interval

GROUPS = 40  # groups that are shown, the largest
GROUP_DRAWS = 2_000


@dataclass(frozen=True)
class Measured:
    """Every metric of every contender, on the rows as they are and on redrawn ones."""

    value: dict[str, np.ndarray]  # metric -> (c,)
    interval: dict[str, list[tuple[float, float]]]  # metric -> 95 % interval of each contender
    apart: dict[str, dict[tuple[int, int], np.ndarray]]  # metric -> contenders a, b -> draws (d,) of a minus b


def measure(
    judged: Sequence[Predictions], class_names: Sequence[str], draws: int, row_draws: int, seed: int
) -> Measured:
    """Values, intervals and paired draws of every metric, from predictions of the same rows, one a contender.

    A metric that the rows do not allow (a rank metric where truth holds one class) is NaN throughout.
    """
    truth, probas = judged[0].truth, [np.asarray(p.proba, np.float64) for p in judged]
    counts_rng, rows_rng, null_rng = np.random.default_rng(seed).spawn(3)
    table = st.outcomes(truth, np.array([p.labels for p in judged]), len(class_names))
    counted, of_rows = ([m for m in METRICS if bool(METRICS[m].counts) is way] for way in (True, False))
    counts = bootstrap.counts(table, counted, draws, counts_rng)
    rows = bootstrap.rows(of_rows, truth, probas, row_draws, rows_rng)
    names = (*counted, *of_rows)
    each = [scores(truth, p, class_names, j.threshold) for p, j in zip(probas, judged, strict=True)]
    value = {m: np.array([s[m] for s in each], float) for m in METRICS}
    intervals = {
        m: [
            interval_of(METRICS[m], float(v), d, (truth, p), null_rng)
            for v, d, p in zip(value[m], drawn, probas, strict=True)
        ]
        for m, drawn in zip(names, [*counts[0], *rows[0]], strict=True)
    }
    apart: dict[str, dict[tuple[int, int], np.ndarray]] = {m: {} for m in METRICS}
    for m, drawn in zip(names, [*counts[1], *rows[1]], strict=True):
        for (a, b), d in zip(combinations(range(len(probas)), 2), drawn, strict=True):
            apart[m] |= {(a, b): d, (b, a): -d}
    return Measured(value, intervals, apart)


def interval_of(
    metric: Metric, value: float, draws: np.ndarray, rows: tuple[np.ndarray, np.ndarray], rng: np.random.Generator
) -> tuple[float, float]:
    """95 % interval from draws (d,) of a metric of `rows`, truth (n,) and probabilities (n, k); it holds the value."""
    truth, proba = rows
    if metric.ranked:
        low, high = bootstrap.logit_interval(draws)
    else:
        bend = bootstrap.acceleration(metric.rows(truth, proba)[:, 0]) if metric.skewed and metric.rows else 0.0
        low, high = bootstrap.interval(draws, acceleration=bend)
    if metric.chance and value <= metric.chance(proba, len(draws), rng):
        low = 0.0
    return within(metric, value, low, high)


def within(metric: Metric, value: float, low: float, high: float) -> tuple[float, float]:
    """An interval that stays in the metric's range and holds the value itself; NaN as the value is."""
    if np.isnan(value):
        return value, value
    return max(0.0, min(low, value)), float(min(metric.high, max(high, value)))


# ── groups of rows ──────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Group:
    """The judged rows that share a value of a column, and every contender's scores on them."""

    group: str
    rows: int
    metrics: dict[str, dict[str, Interval]]  # contender -> metric -> value and interval


def groups_of(
    by: np.ndarray | None,
    judged: Sequence[Predictions],
    names: Sequence[str],
    class_names: Sequence[str],
    seed: int,
) -> tuple[Group, ...]:
    """Scores of the groups `by` (n,) that the judged rows fall into, the largest first.

    No more than 40 of them. Nothing is tested here: with twenty groups one lies outside its interval by chance.
    """
    if by is None:
        return ()
    by, truth = np.asarray(by).astype(str), judged[0].truth
    if by.shape != truth.shape:
        raise UserError(
            f"--by: {len(by)} group labels for {len(truth)} judged rows; choose a column of the judged split"
        )
    values, sizes = np.unique(by, return_counts=True)
    groups = []
    for place in np.argsort(-sizes, kind="stable")[:GROUPS]:
        rows = by == values[place]
        m = measure([p.take(rows) for p in judged], class_names, GROUP_DRAWS, GROUP_DRAWS // 2, seed)
        metrics = {
            name: {metric: Interval(float(m.value[metric][i]), *m.interval[metric][i]) for metric in METRICS}
            for i, name in enumerate(names)
        }
        groups.append(Group(str(values[place]), int(sizes[place]), metrics))
    return tuple(groups)


def group_column(split: Split, by: str) -> np.ndarray:
    """The values (n,) str of column `by` of a split.

    Raises UserError, naming the columns that group its rows, if it is not one of them.
    """
    if by not in split.columns:
        known = listed(split.columns) or "none"
        raise UserError(
            f"--by {by}: no such column that groups rows of '{split.name}'; there are: {known} (text, label, numbers "
            "with decimals and columns of nearly as many values as rows are not among them)"
        )
    return np.asarray(split.columns[by]).astype(str)
