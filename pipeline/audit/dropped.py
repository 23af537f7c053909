"""What some rows of the judged split are worth: every score with and without them, on the same redrawn rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..metrics import METRICS, Metric
from ..run import Predictions, Run
from ..verdict import aligned, compare, judged_role
from ..verdict.results import names_of

DRAWS = 1000
FEW = 20  # rows below which no verdict is worth asking for


@dataclass(frozen=True)
class Without:
    """One contender's score with and without the dropped rows."""

    name: str
    whole: float
    rest: float  # without them
    alone: float  # on them
    worth: float  # whole − rest
    low: float  # 95 % interval of `worth`, paired
    high: float


@dataclass(frozen=True)
class Dropped:
    """Some rows of the judged split left out: what changes."""

    what: str  # which rows: "leaked", "leaked or near-repeated", "probably mislabelled"
    rows: int
    of: int
    metric: str
    scores: tuple[Without, ...]
    recommended: str | None  # with all rows
    recommended_without: str | None
    stands: bool | None  # whether the verdict does; None: too few rows are left, or too few runs
    sentence: str


def recommended(runs: Sequence[Run], metric: str, margin: float) -> str | None:
    """Name of the contender that a comparison of `runs` recommends, if it does; None for a single run."""
    if len(runs) < 2:
        return None
    draws = 100 if METRICS[metric].counts else DRAWS  # the verdict rests on one metric; the others need not be exact
    return compare(runs, metric=metric, margin=margin, draws=2 * DRAWS, row_draws=draws).recommended


def without(
    what: str, runs: Sequence[Run], drop: np.ndarray, metric: str, margin: float, before: str | None
) -> Dropped:
    """Judge `runs` with and without the rows `drop` (n,) of the judged split, in the first run's order.

    `before`: what is recommended with all of them.
    """
    judged = aligned(runs)
    names = names_of(runs)
    count, n = int(drop.sum()), len(judged[0].truth)
    undefined = METRICS[metric].ranked and len(np.unique(judged[0].truth[~drop])) < 2
    scores = []
    if 0 < count < n:
        for name, p in zip(names, judged, strict=True):
            scores.append(worth(name, p, drop, metric))
    after = None
    stands: bool | None = None
    if count == 0:
        stands = True
    elif n - count >= FEW and len(runs) > 1 and not undefined:
        after = recommended([rest_of(run, runs[0], drop) for run in runs], metric, margin)
        stands = before == after
    dropped = Dropped(what, count, n, metric, tuple(scores), before, after, stands, "")
    return replace(dropped, sentence=sentence(dropped))


def worth(name: str, p: Predictions, drop: np.ndarray, metric: str, seed: int = 0) -> Without:
    """The score with all n rows minus that without `drop` (n,), and its percentile interval."""
    rng, n = np.random.default_rng(seed), len(p.truth)
    keep = ~drop
    whole, rest, alone = (scorer(METRICS[metric], p.take(rows)) for rows in (np.ones(n, bool), keep, drop))
    drawn = []
    for _ in range(DRAWS):
        weights = np.bincount(rng.integers(0, n, n), minlength=n).astype(float)
        if weights[keep].any():
            drawn.append(whole(weights) - rest(weights[keep]))
    once = np.ones(n)
    with_all, without_them, of_them = whole(once), rest(once[keep]), alone(once[drop])
    difference = with_all - without_them
    low, high = np.quantile(drawn, [0.025, 0.975]) if drawn else (difference, difference)
    return Without(name, with_all, without_them, of_them, difference, float(low), float(high))


def scorer(metric: Metric, p: Predictions) -> Callable[[np.ndarray], float]:
    """Function: weights (n,) of the rows → the metric, a rank metric to first order, by its pseudo-values."""
    if metric.rows:
        terms = metric.rows(p.truth, np.asarray(p.proba, np.float64))
        return lambda weights: float(metric.combine(weights @ terms / weights.sum()))
    counts, k = metric.counts, p.proba.shape[1]
    assert counts is not None, "a metric is computed from counts or from rows"
    cells = p.truth * k + p.labels

    def score(weights: np.ndarray) -> float:
        table = np.bincount(cells, weights, k * k).reshape(k, k)
        return float(counts(np.diag(table), table.sum(0), table.sum(1)))

    return score


def rest_of(run: Run, first: Run, drop: np.ndarray) -> Run:
    """`run` with the judged split's predictions cut to the rows that are left; `drop` (n,) in `first`'s order."""
    role = judged_role([run, first])
    predictions = run.predictions[role]
    keep = ~np.isin(predictions.row_ids, first.predictions[role].row_ids[drop])
    return replace(run, predictions={**run.predictions, role: predictions.take(keep)})


def called(dropped: Dropped, what: str) -> Dropped:
    """The same rows under another name."""
    named = replace(dropped, what=what)
    return replace(named, sentence=sentence(named))


def sentence(dropped: Dropped) -> str:
    """What follows, in words."""
    if dropped.rows == 0:
        return f"No {dropped.what} rows among the {dropped.of:,} judged."
    start = f"Without the {dropped.rows:,} {dropped.what} {'row' if dropped.rows == 1 else 'rows'} of {dropped.of:,}"
    if dropped.stands is None:
        return f"{start} too little is left to judge."
    if dropped.stands:
        name = dropped.recommended
        advice = f"{name} is still recommended" if name else "there is still no recommendation"
        return f"{start} {advice}: the verdict stands."
    was, now = dropped.recommended or "none", dropped.recommended_without or "none"
    return f"{start} the recommendation is {now} instead of {was}: the verdict rests on these rows."
