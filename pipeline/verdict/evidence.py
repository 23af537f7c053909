"""What was measured of contenders and between each two of them, before anything is judged.

A contender is a fit: several seeds of it are judged by their mean, and their spread widens every interval.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..metrics import METRICS
from ..run import Predictions, Run
from . import statistics as st
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

    @property
    def best_first(self) -> list[Run]:
        """All of them, that one first."""
        return sorted(self.runs, key=lambda run: run is not self.best)


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
    value = {m: np.array([measured.value[m][list(of_fit)].mean() for of_fit in members]) for m in METRICS}
    interval = {
        m: [
            widened(m, float(value[m][i]), score_interval(measured, m, of_fit), unjudged_share(truth, m, classes))
            for i, of_fit in enumerate(members)
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
        for of_fit in (members[a], members[b]):
            error = seed_error(measured.value[metric][list(of_fit)])
            if error:
                drawn = drawn + error * rng.standard_t(len(of_fit) - 1, len(drawn))
                fixed = float(np.hypot(fixed, error))
        if fixed:
            p = max(p, tail_p(drawn))
        differ = int((np.mean(right(one), 0) != np.mean(right(other), 0)).sum())
        return PairFacts(difference, drawn, p, len(truth), differ, unjudged_share(truth, metric, classes), fixed)

    spread = {
        m: [float(np.ptp(measured.value[m][list(of_fit)])) if len(of_fit) > 1 else None for of_fit in members]
        for m in METRICS
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
