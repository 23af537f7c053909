"""What was measured of contenders and between each two of them, before anything is judged.

A contender is a fit: several seeds of it are judged by their mean, and their spread widens every interval. Under
cross-validation each pair is judged on the rows that both predicted out of fold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..metrics import METRICS
from ..run import Predictions, Run
from . import statistics as st
from .crossvalidation import RowFolds, fold_difference, normal_draws, stretch_of, stretched
from .measure import Measured, measure, within
from .pairing import PairFacts
from .results import fit_key


@dataclass(frozen=True)
class Entrant:
    """One fit: its runs, which differ by nothing but the seed, and the one that is handed over."""

    runs: tuple[Run, ...]

    @property
    def best(self) -> Run:
        """The best on validation, never on the judged rows."""
        return max(self.runs, key=lambda run: run.metrics.get("validation", {}).get("macro_f1", 0.0))


def entrants(runs: Sequence[Run]) -> list[Entrant]:
    """Runs as contenders, in their order; the same run given twice stays two."""
    groups: list[list[Run]] = []
    for run in runs:
        key = fit_key(run)
        home = next((g for g in groups if fit_key(g[0]) == key and run.seed not in {r.seed for r in g}), None)
        if home is None:
            groups.append([run])
        else:
            home.append(run)
    return [Entrant(tuple(group)) for group in groups]


@dataclass(frozen=True)
class Sampling:
    """How often is drawn, and from which seed."""

    class_names: tuple[str, ...]
    draws: int
    row_draws: int
    seed: int


@dataclass(frozen=True)
class Evidence:
    """One entry a contender. `order` (c,) is what they are ranked by, higher first; `pair` measures two of them."""

    value: dict[str, np.ndarray]  # metric -> (c,)
    interval: dict[str, list[tuple[float, float]]]
    order: dict[str, np.ndarray]  # metric -> (c,) values as on all rows
    spread: dict[str, list[float | None]]  # largest minus smallest value over the seeds of a fit, if there are several
    shared: list[Predictions]  # of the rows that all of them predicted, of each the model that is handed over
    rows: list[int]
    pair: Callable[[str, int, int, np.random.Generator], PairFacts]


def unjudged_share(truth: np.ndarray, metric: str, classes: int) -> float:
    """Share of the classes without a judged row, for metrics that are means over classes."""
    return 1 - len(np.unique(truth)) / classes if METRICS[metric].over_classes else 0.0


def widened(metric: str, value: float, ends: tuple[float, float], unjudged: float) -> tuple[float, float]:
    """An interval of a score, wide enough for classes that have no judged row: their F1 may be anything."""
    low, high = ends
    return within(METRICS[metric], value, low * (1 - unjudged), high * (1 - unjudged) + unjudged)


# ── the same rows for all ───────────────────────────────────────────────────────────────────────────────────────────


def on_one_split(seeds: Sequence[Sequence[Predictions]], sampling: Sampling) -> Evidence:
    """Evidence of contenders that were all judged on the same rows; `seeds` holds a list of predictions for each."""
    flat = [predictions for several in seeds for predictions in several]
    ends = np.cumsum([len(several) for several in seeds])
    members = [range(end - len(several), end) for several, end in zip(seeds, ends, strict=True)]
    measured = measure(flat, sampling.class_names, sampling.draws, sampling.row_draws, sampling.seed)
    truth, classes = flat[0].truth, len(sampling.class_names)
    value = {m: np.array([measured.value[m][list(own)].mean() for own in members]) for m in METRICS}
    interval = {
        m: [
            widened(m, float(value[m][i]), score_interval(measured, m, own), unjudged_share(truth, m, classes))
            for i, own in enumerate(members)
        ]
        for m in METRICS
    }

    def pair(metric: str, a: int, b: int, rng: np.random.Generator) -> PairFacts:
        drawn = np.mean([measured.apart[metric][s, t] for s in members[a] for t in members[b]], axis=0)
        difference = float(value[metric][a] - value[metric][b])
        one, other = seeds[a], seeds[b]
        single = len(one) == len(other) == 1
        p = paired_p(metric, (one[0], other[0]), sampling.draws, rng) if single else tail_p(drawn)
        fixed = 0.0
        for own in (members[a], members[b]):
            error = seed_error(measured.value[metric][list(own)])
            if error:
                drawn = drawn + error * rng.standard_t(len(own) - 1, len(drawn))
                fixed = float(np.hypot(fixed, error))
        if fixed:
            p = max(p, tail_p(drawn))
        differ = int((np.mean(right(one), 0) != np.mean(right(other), 0)).sum())
        return PairFacts(difference, drawn, p, len(truth), differ, unjudged_share(truth, metric, classes), fixed)

    spread = {
        m: [float(np.ptp(measured.value[m][list(own)])) if len(own) > 1 else None for own in members] for m in METRICS
    }
    shared = [several[0] for several in seeds]
    return Evidence(value, interval, value, spread, shared, [len(truth)] * len(seeds), pair)


def right(several: Sequence[Predictions]) -> list[np.ndarray]:
    return [p.labels == p.truth for p in several]


def seed_error(values: np.ndarray) -> float:
    """Standard error of the mean of values (s,), one a seed; 0 where there is one, of which nothing is known."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


def score_interval(measured: Measured, metric: str, members: range) -> tuple[float, float]:
    """That of the mean over seeds: the mean interval, with what the spread of the seeds adds."""
    from scipy.special import stdtrit

    low, high = np.mean([measured.interval[metric][i] for i in members], axis=0)
    error = seed_error(measured.value[metric][list(members)])
    if not error:
        return float(low), float(high)
    value, more = measured.value[metric][list(members)].mean(), stdtrit(len(members) - 1, 0.975) * error
    return float(value - np.hypot(value - low, more)), float(value + np.hypot(high - value, more))


def tail_p(drawn: np.ndarray) -> float:
    """Two-sided p of draws (d,): twice the share on the far side of 0."""
    return float(min(1.0, 2 * (1 + min((drawn <= 0).sum(), (drawn >= 0).sum())) / (1 + len(drawn))))


def paired_p(metric: str, pair: tuple[Predictions, Predictions], draws: int, rng: np.random.Generator) -> float:
    """Exact McNemar for accuracy, the paired permutation test for every other metric."""
    truth, labels = pair[0].truth, np.array([p.labels for p in pair])
    row = METRICS[metric]
    if row.right_or_wrong:
        right_a, right_b = labels == truth
        return st.mcnemar(int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum()))
    a, b = (np.asarray(p.proba, np.float64) for p in pair)
    if row.rows:
        return st.permute_rows(metric, row.rows(truth, a), row.rows(truth, b), draws, rng)
    return st.permute_counts(metric, st.outcomes(truth, labels, a.shape[1]), draws, rng)


# ── out of fold ─────────────────────────────────────────────────────────────────────────────────────────────────────


def out_of_fold(predicted: Sequence[Predictions], folds: RowFolds, sampling: Sampling) -> Evidence:
    """Evidence of contenders that predicted some folds of one split, each row by a model that has not seen it."""
    where = {row: i for i, row in enumerate(folds.row_ids.tolist())}
    places = [np.array([where[row] for row in p.row_ids.tolist()]) for p in predicted]
    masks = np.zeros((len(predicted), len(folds.place)), bool)
    for mask, place in zip(masks, places, strict=True):
        mask[place] = True
    known: dict[bytes, tuple[list[int], list[Predictions], Measured]] = {}

    def on(mask: np.ndarray) -> tuple[list[int], list[Predictions], Measured]:
        """The contenders that predicted all rows of `mask` (n,), their predictions of these, and what they score."""
        if mask.tobytes() not in known:
            who = [i for i in range(len(predicted)) if (masks[i] | ~mask).all()]
            parts = [restricted(predicted[i], places[i], np.flatnonzero(mask)) for i in who]
            known[mask.tobytes()] = (
                who,
                parts,
                measure(parts, sampling.class_names, sampling.draws, sampling.row_draws, sampling.seed),
            )
        return known[mask.tobytes()]

    def of(metric: str, i: int, mask: np.ndarray) -> float:
        who, _, measured = on(mask)
        return float(measured.value[metric][who.index(i)])

    everyone = np.asarray(masks.any(0))
    complete = [i for i in range(len(predicted)) if (masks[i] == everyone).all()]
    value = {m: np.array([of(m, i, masks[i]) for i in range(len(predicted))]) for m in METRICS}
    order = {  # as if all had judged all folds: what the missing ones were worth to those that have them
        m: np.array(
            [
                value[m][i] + np.mean([of(m, j, everyone) - of(m, j, masks[i]) for j in complete])
                for i in range(len(predicted))
            ]
        )
        for m in METRICS
    }
    interval = {
        m: [fold_interval(m, i, *on(masks[i]), folds, masks[i]) for i in range(len(predicted))] for m in METRICS
    }

    def pair(metric: str, a: int, b: int, rng: np.random.Generator) -> PairFacts:
        mask = masks[a] & masks[b]
        who, parts, measured = on(mask)
        one, other = who.index(a), who.index(b)
        both = (parts[one], parts[other])
        differ = int((right([both[0]])[0] != right([both[1]])[0]).sum())
        p = paired_p(metric, both, sampling.draws, rng)
        place = folds.place[mask]
        if METRICS[metric].skewed or METRICS[metric].right_or_wrong:  # means of rows: the difference has a formula
            mean = fold_difference(
                row_values(metric, both[0]) - row_values(metric, both[1]), place, folds.count, folds.groups[mask]
            )
            drawn, p = normal_draws(mean.difference, mean.error, sampling.draws), max(p, mean.p_value)
            return PairFacts(mean.difference, drawn, p, int(mask.sum()), differ)
        drawn = stretched(measured.apart[metric][one, other], len(np.unique(place)), folds.count)
        difference = float(measured.value[metric][one] - measured.value[metric][other])
        missing = unjudged_share(both[0].truth, metric, len(sampling.class_names))
        return PairFacts(difference, drawn, max(p, tail_p(drawn)), int(mask.sum()), differ, missing)

    common = np.asarray(masks.all(0))
    alone: dict[str, list[float | None]] = {m: [None] * len(predicted) for m in METRICS}
    return Evidence(value, interval, order, alone, on(common)[1], [int(mask.sum()) for mask in masks], pair)


def restricted(predictions: Predictions, places: np.ndarray, rows: np.ndarray) -> Predictions:
    """Predictions of the `rows` (m,), in that order; `places` (n,) says which row each prediction is of."""
    at = np.empty(int(places.max()) + 1, np.int64)
    at[places] = np.arange(len(places))
    return predictions.take(at[rows])


def row_values(metric: str, predictions: Predictions) -> np.ndarray:
    """What each row (n,) adds to a mean of rows."""
    of_rows = METRICS[metric].rows
    if of_rows is None:
        return (predictions.labels == predictions.truth).astype(np.float64)
    return of_rows(predictions.truth, np.asarray(predictions.proba, np.float64))[:, 0]


def fold_interval(
    metric: str, i: int, who: list[int], parts: list[Predictions], measured: Measured, folds: RowFolds, mask: np.ndarray
) -> tuple[float, float]:
    """The interval of a score over rows, training sets and seeds."""
    at = who.index(i)
    value = float(measured.value[metric][at])
    grow = float(np.sqrt(stretch_of(len(np.unique(folds.place[mask])), folds.count)))
    low, high = (value + grow * (end - value) for end in measured.interval[metric][at])
    missing = unjudged_share(parts[at].truth, metric, parts[at].proba.shape[1])
    return widened(metric, value, (low, high), missing)
