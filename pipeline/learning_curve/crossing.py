"""Where one learning curve overtakes another, with an interval: pure functions of arrays.

**Method.** A line's score at a size is the mean over draws of the labelled subset. Both sources of chance are redrawn
together, a thousand times: the test rows (Poisson weights, the same for every fit, so that lines stay paired) and the
draws (with replacement; draw 3 of one line and size is draw 3 of all, because they share their rows). The spread of the
draws is widened by √(D / (D − 1)), which redrawing D of them lacks (Rao & Wu 1988). Between sizes a line is straight
over the logarithm of the size. In every redrawing the crossing is the size from which on the line that leads at the
largest common size stays ahead; its 2.5 and 97.5 percentiles are the interval. A redrawing in which it leads from the
start counts as −∞, one in which it does not lead at the end as +∞, so that "no crossing" is part of the interval.

What differs from row to row and from draw to draw is counted in both, so that the interval errs on the wide side.
What is not in it: draws of one train split overlap, the more the larger they are; a line with one draw a size (as
fine-tuning usually has) moves with the test rows alone, not with its rows and seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..metrics import METRICS, Metric
from ..verdict.bootstrap import unbiased
from ..verdict.statistics import CHUNK, indicator


def redrawn(
    metric: str, truth: np.ndarray, points: Sequence[np.ndarray], draws: int, rng: np.random.Generator
) -> tuple[list[np.ndarray], np.ndarray]:
    """Scores of points, each (D, n, k) probabilities: by draw (D,) as they are, and redrawn means (points, draws)."""
    scorers = [[scorer(METRICS[metric], truth, np.asarray(proba, np.float64)) for proba in point] for point in points]
    counts = {count: resampling(count, draws, rng) for count in sorted({len(point) for point in points})}
    step = max(1, CHUNK // max(len(truth), 1))
    pieces = []
    for start in range(0, draws, step):
        weights = rng.poisson(1.0, (len(truth), min(step, draws - start))).astype(np.float32)
        part = slice(start, start + weights.shape[1])
        pieces.append(
            [(np.array([one(weights) for one in fits]) * counts[len(fits)][:, part]).sum(0) for fits in scorers],
        )
    once = np.ones((len(truth), 1), np.float32)
    values = [np.array([one(once)[0] for one in fits]) for fits in scorers]
    center = np.array([[of_draws.mean()] for of_draws in values])
    return values, unbiased(np.concatenate(pieces, axis=1), center)


def scorer(metric: Metric, truth: np.ndarray, proba: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Function: weights (n, s) of the rows → the metric (s,) of probabilities (n, k)."""
    if metric.rows:
        terms = metric.rows(truth, proba).T.astype(np.float32)  # (f, n)
        return lambda weights: metric.combine(terms @ weights / np.maximum(weights.sum(0, dtype=np.float64), 1))
    counts, k, everywhere = metric.counts, proba.shape[1], np.ones(len(truth), bool)
    assert counts is not None, "a metric is computed from counts or from rows"
    predicted = proba.argmax(1)
    hit = indicator(predicted, predicted == truth, k)
    sums = hit, indicator(predicted, everywhere, k), indicator(truth, everywhere, k)
    return lambda weights: counts(*(np.asarray(part @ weights, np.float64) for part in sums))


def resampling(count: int, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Weights (count, draws), columns sum to 1: which draws each redrawing takes, widened for there being so few."""
    if count == 1:
        return np.ones((1, draws))
    taken = rng.multinomial(count, np.full(count, 1 / count), size=draws).T / count
    return np.asarray(1 / count + np.sqrt(count / (count - 1)) * (taken - 1 / count))


def between(sizes: Sequence[int], wanted: Sequence[int]) -> np.ndarray:
    """Weights (wanted, sizes) of straight lines over log size; every wanted size lies within `sizes`."""
    at = np.log(np.asarray(sizes, float))
    return np.stack([np.interp(np.log(np.asarray(wanted, float)), at, row) for row in np.eye(len(sizes))], axis=1)


def common(a: Sequence[int], b: Sequence[int]) -> list[int]:
    """Sizes of either line in the range that both cover; empty if there is none."""
    low, high = max(min(a), min(b)), min(max(a), max(b))
    return sorted({size for size in (*a, *b, low, high) if low <= size <= high})


def ahead_from(knots: Sequence[int], gap: np.ndarray) -> np.ndarray:
    """The size (s,) from which on gaps (knots, s) stay above 0: −∞ if always, +∞ if not at the end."""
    last = len(knots) - 1 - np.argmax((gap <= 0)[::-1], axis=0)  # the last knot that is not ahead
    never_behind = ~(gap <= 0).any(axis=0)
    sizes = np.full(gap.shape[1], np.inf)
    inside = ~never_behind & (last < len(knots) - 1)
    at, columns = last[inside], np.flatnonzero(inside)
    before, after = gap[at, columns], gap[at + 1, columns]
    logs = np.log(np.asarray(knots, float))
    sizes[inside] = np.exp(logs[at] + (logs[at + 1] - logs[at]) * (-before) / (after - before))
    sizes[never_behind] = -np.inf
    return sizes


def span(sizes: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of sizes (s,) that may be infinite; nothing is interpolated."""
    low = np.quantile(sizes, (1 - level) / 2, method="lower")
    high = np.quantile(sizes, (1 + level) / 2, method="higher")
    return float(low), float(high)
