"""What some rows of the judged split are worth: every score with and without them, on the same redrawn rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline.run import Predictions, Run
from pipeline.verdict import aligned, compare, judged_role
from pipeline.verdict.results import names_of
from pipeline.verdict.statistics import COUNT_METRICS, count_metric, row_metric, row_sums

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

    what: str  # which rows: "leaked", "near-repeats", "suspicious"
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
    draws = 100 if metric in COUNT_METRICS else DRAWS  # the verdict rests on one metric; the others need not be exact
    return compare(runs, metric=metric, margin=margin, draws=2 * DRAWS, row_draws=draws).recommended


def without(
    what: str,
    runs: Sequence[Run],
    drop: np.ndarray,
    metric: str,
    margin: float,
    before: str | None,
    seed: int = 0,
) -> Dropped:
    """Judge `runs` with and without the rows `drop` (n,) of the judged split, in the first run's order.

    `before`: what is recommended with all of them.
    """
    judged = aligned(runs)
    names = names_of(runs)
    count, n = int(drop.sum()), len(judged[0].truth)
    scores = []
    if 0 < count < n:
        for name, p in zip(names, judged, strict=True):
            scores.append(worth(name, p, drop, metric, seed))
    after = None
    stands: bool | None = None
    if count == 0:
        stands = True
    elif n - count >= FEW and len(runs) > 1:
        after = recommended([rest_of(run, runs[0], drop) for run in runs], metric, margin)
        stands = before == after
    found = Dropped(what, count, n, metric, tuple(scores), before, after, stands, "")
    return replace(found, sentence=sentence(found))


def worth(name: str, p: Predictions, drop: np.ndarray, metric: str, seed: int) -> Without:
    """The score with all n rows minus that without `drop` (n,), and its percentile interval."""
    rng, n = np.random.default_rng(seed), len(p.truth)
    score = scorer(metric, p)
    every = np.arange(n)
    whole, rest, alone = score(every), score(every[~drop]), score(every[drop])
    drawn = []
    for _ in range(DRAWS):
        rows = rng.integers(0, n, n)
        left = rows[~drop[rows]]
        if len(left):
            drawn.append(score(rows) - score(left))
    low, high = np.quantile(drawn, [0.025, 0.975]) if drawn else (whole - rest, whole - rest)
    return Without(name, whole, rest, alone, whole - rest, float(low), float(high))


def scorer(metric: str, p: Predictions) -> Callable[[np.ndarray], float]:
    """Function: rows (m,), repeated ones counted as often → the metric on them."""
    k = p.proba.shape[1]
    if metric in COUNT_METRICS:
        cells = p.truth * k + p.labels

        def count(rows: np.ndarray) -> float:
            table = np.bincount(cells[rows], minlength=k * k).reshape(k, k).astype(float)
            hit, predicted, true = np.diag(table), table.sum(0), table.sum(1)
            return float(count_metric(metric, hit[:, None], predicted[:, None], true[:, None])[0])

        return count
    sums = row_sums(metric, p.truth, np.asarray(p.proba, np.float64))
    return lambda rows: float(row_metric(metric, sums[rows].mean(0)[:, None])[0])


def rest_of(run: Run, first: Run, drop: np.ndarray) -> Run:
    """`run` with the judged split's predictions cut to the rows that are left; `drop` (n,) in `first`'s order."""
    role = judged_role([run, first])
    own = run.predictions[role]
    gone = set(first.predictions[role].row_ids[drop].tolist())
    keep = np.array([row not in gone for row in own.row_ids.tolist()])
    cut = replace(own, row_ids=own.row_ids[keep], truth=own.truth[keep], proba=own.proba[keep])
    return replace(run, predictions={**run.predictions, role: cut})


def called(dropped: Dropped, what: str) -> Dropped:
    """The same rows under another name."""
    named = replace(dropped, what=what)
    return replace(named, sentence=sentence(named))


def sentence(found: Dropped) -> str:
    """What follows, in words."""
    if found.rows == 0:
        return f"No {found.what} rows among the {found.of:,} judged."
    start = f"Without the {found.rows:,} {found.what} {'row' if found.rows == 1 else 'rows'} of {found.of:,}"
    if found.stands is None:
        return f"{start} too little is left to judge."
    if found.stands:
        kept = f"{found.recommended} is still recommended" if found.recommended else "there is still no recommendation"
        return f"{start} {kept}: the verdict stands."
    was, now = found.recommended or "none", found.recommended_without or "none"
    return f"{start} the recommendation is {now} instead of {was}: the verdict rests on these rows."
