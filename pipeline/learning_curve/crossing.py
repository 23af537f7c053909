"""Where one learning curve overtakes another, with an interval: pure functions of arrays.

**Method.** A line's score at a size is the mean over draws of the labelled subset. Both sources of chance are redrawn
together, a thousand times: the test rows (Poisson weights, the same for every fit, so that lines stay paired) and the
draws (with replacement; draw 3 of one line and size is draw 3 of all, because they share their rows). The spread of the
draws is widened by √(D / (D − 1)), which redrawing D of them lacks (Rao & Wu 1988). Tables of counts are smoothed with
the pseudo-rows of a verdict (`verdict.bootstrap`), drawn for each point: one row decides nothing. Between sizes a line
is straight over the logarithm of the size. In every redrawing the crossing is the size from which on the line that
leads at the largest common size stays ahead; its 2.5 and 97.5 percentiles are the interval. A redrawing in which it
leads from the start counts as −∞, one in which it does not lead at the end as +∞, so that "no crossing" is part of it.

What differs from row to row and from draw to draw is counted in both, so that the interval errs on the wide side.
What is not in it: draws of one train split overlap, the more the larger they are; a line with one draw a size (as
fine-tuning usually has) moves with the test rows alone, not with its rows and seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from ..metrics import METRICS
from ..verdict import bootstrap
from ..verdict.statistics import indicator, outcomes


def redrawn(
    metric: str, truth: np.ndarray, points: Sequence[np.ndarray], draws: int, rng: np.random.Generator
) -> tuple[list[np.ndarray], np.ndarray]:
    """Scores of points, each (D, n, k) probabilities: by draw (D,) as they are, and redrawn means (points, draws)."""
    scorers = [scorer(metric, truth, np.asarray(point, np.float64)) for point in points]
    taken = {count: resampling(count, draws, rng) for count in sorted({len(point) for point in points})}
    size = np.bincount(truth, minlength=points[0].shape[2])
    rates = bootstrap.kept(size)[truth] if METRICS[metric].counts else np.ones(len(truth))
    step = max(1, bootstrap.CHUNK // max(len(truth), 1))
    pieces = []
    for start in range(0, draws, step):
        drawn = partial(bootstrap.poisson, draws=min(step, draws - start), rng=rng)
        weights, part = drawn(rates), slice(start, start + step)
        pieces.append(
            [(one(weights, drawn) * taken[len(p)][:, part]).sum(0) for one, p in zip(scorers, points, strict=True)]
        )
    values = [one(np.ones((len(truth), 1), np.float32), None)[:, 0] for one in scorers]
    weights = bootstrap.expected(rates)
    center = np.array([one(weights, bootstrap.expected).mean(0) for one in scorers])
    return values, bootstrap.unbiased(np.concatenate(pieces, axis=1), center)


Draw = Callable[[np.ndarray], np.ndarray]


def scorer(name: str, truth: np.ndarray, probas: np.ndarray) -> Callable[[np.ndarray, Draw | None], np.ndarray]:
    """Function: weights (n, s) of the rows, and what draws pseudo-rows → the metric (D, s) of `probas` (D, n, k).

    A table of counts is smoothed as that of a verdict is: one row that two fits tell apart decides nothing.
    """
    metric, classes = METRICS[name], probas.shape[2]
    if metric.rows:
        terms = [metric.rows(truth, proba).T.astype(np.float32) for proba in probas]  # (f, n) each

        def of_rows(weights: np.ndarray, draw: Draw | None) -> np.ndarray:
            total = np.maximum(weights.sum(0, dtype=np.float64), 1)
            return np.array([metric.combine(each @ weights / total) for each in terms])

        return of_rows
    everywhere, predicted = np.ones(len(truth), bool), probas.argmax(2)
    hits = [indicator(each, each == truth, classes) for each in predicted]
    said, true = [indicator(each, everywhere, classes) for each in predicted], indicator(truth, everywhere, classes)
    table = outcomes(truth, predicted, classes)
    extra = sum(bootstrap.pseudo_rows(table, (fit,)) for fit in range(len(probas))) / len(probas)
    extra = extra * bootstrap.kept(bootstrap.class_sizes(table))

    def of_counts(weights: np.ndarray, draw: Draw | None) -> np.ndarray:
        fill = draw(extra) if draw else np.zeros((2, classes, 1))  # of every fit the same
        sums = [np.asarray(part @ weights, np.float64) for part in (true, *hits, *said)]
        fits = zip(sums[1 : 1 + len(hits)], sums[1 + len(hits) :], strict=True)
        return np.array([bootstrap.filled([name], hit, each, sums[0], fill, 0)[0] for hit, each in fits])

    return of_counts


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
