"""Evidence of contenders under cross-validation: each two are judged on the rows that both predicted out of fold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..metrics import METRICS
from ..run import Predictions
from .crossvalidation import RowFolds, fold_difference, normal_draws, stretch_of, stretched
from .evidence import Evidence, Sampling, paired_p, right, tail_p, unjudged_share, widened
from .measure import Measured, measure
from .pairing import PairFacts


def out_of_fold(predicted: Sequence[Predictions], folds: RowFolds, sampling: Sampling) -> Evidence:
    """Evidence of contenders that predicted some folds of one split, each row by a model that has not seen it."""
    return OutOfFold(predicted, folds, sampling).evidence()


@dataclass(frozen=True)
class OnRows:
    """The contenders that predicted all of some rows, their predictions of these, and what they score there."""

    members: list[int]
    parts: list[Predictions]  # one a member
    measured: Measured

    def value(self, metric: str, i: int) -> float:
        """The score of contender `i`."""
        return float(self.measured.value[metric][self.members.index(i)])


class OutOfFold:
    """Contenders on the rows that each predicted out of fold; what they score on a set of rows is measured once."""

    def __init__(self, predicted: Sequence[Predictions], folds: RowFolds, sampling: Sampling) -> None:
        position = {row: i for i, row in enumerate(folds.row_ids.tolist())}
        self.predicted, self.folds, self.sampling = predicted, folds, sampling
        self.positions = [np.array([position[row] for row in p.row_ids.tolist()]) for p in predicted]
        self.masks = np.zeros((len(predicted), len(folds.place)), bool)  # which rows each has predicted
        for mask, positions in zip(self.masks, self.positions, strict=True):
            mask[positions] = True
        self._by_rows: dict[bytes, OnRows] = {}

    def evidence(self) -> Evidence:
        """Values and intervals of each on its own rows, an order as if all had judged all folds, and every pair."""
        count = range(len(self.predicted))
        everything = np.asarray(self.masks.any(0))
        complete = [i for i in count if (self.masks[i] == everything).all()]
        value = {m: np.array([self.on(self.masks[i]).value(m, i) for i in count]) for m in METRICS}

        def missing(metric: str, i: int) -> float:
            """What the rows that contender `i` has not predicted were worth to those that have."""
            scored = self.on(everything), self.on(self.masks[i])
            return float(np.mean([scored[0].value(metric, j) - scored[1].value(metric, j) for j in complete]))

        order = {m: np.array([value[m][i] + missing(m, i) for i in count]) for m in METRICS}
        interval = {m: [self.interval(m, i) for i in count] for m in METRICS}
        spread: dict[str, list[float | None]] = {m: [None for _ in count] for m in METRICS}
        shared = self.on(np.asarray(self.masks.all(0))).parts
        return Evidence(value, interval, order, spread, shared, [int(mask.sum()) for mask in self.masks], self.pair)

    def on(self, mask: np.ndarray) -> OnRows:
        """What is known of the rows of `mask` (n,)."""
        key = mask.tobytes()
        if key not in self._by_rows:
            members = [i for i in range(len(self.predicted)) if (self.masks[i] | ~mask).all()]
            rows, s = np.flatnonzero(mask), self.sampling
            parts = [restricted(self.predicted[i], self.positions[i], rows) for i in members]
            self._by_rows[key] = OnRows(members, parts, measure(parts, s.class_names, s.draws, s.row_draws, s.seed))
        return self._by_rows[key]

    def interval(self, metric: str, i: int) -> tuple[float, float]:
        """The interval of contender `i`'s score over rows, training sets and seeds."""
        rows = self.on(self.masks[i])
        at, value = rows.members.index(i), rows.value(metric, i)
        judged = len(np.unique(self.folds.place[self.masks[i]]))
        grow = float(np.sqrt(stretch_of(judged, self.folds.count)))
        low, high = (value + grow * (end - value) for end in rows.measured.interval[metric][at])
        unjudged = unjudged_share(rows.parts[at].truth, metric, rows.parts[at].proba.shape[1])
        return widened(metric, value, (low, high), unjudged)

    def pair(self, metric: str, a: int, b: int, rng: np.random.Generator) -> PairFacts:
        """Two contenders on the rows that both predicted."""
        folds, mask = self.folds, self.masks[a] & self.masks[b]
        rows = self.on(mask)
        at = rows.members.index(a), rows.members.index(b)
        one, other = rows.parts[at[0]], rows.parts[at[1]]
        differ = int((right([one])[0] != right([other])[0]).sum())
        p, place = paired_p(metric, (one, other), self.sampling.draws, rng), folds.place[mask]
        if METRICS[metric].skewed or METRICS[metric].right_or_wrong:  # means of rows: the difference has a formula
            apart = row_values(metric, one) - row_values(metric, other)
            mean = fold_difference(apart, place, folds.count, folds.groups[mask])
            drawn, p = normal_draws(mean.difference, mean.error, self.sampling.draws), max(p, mean.p_value)
            return PairFacts(mean.difference, drawn, p, int(mask.sum()), differ)
        drawn = stretched(rows.measured.apart[metric][at], len(np.unique(place)), folds.count)
        unjudged = unjudged_share(one.truth, metric, len(self.sampling.class_names))
        difference = rows.value(metric, a) - rows.value(metric, b)
        return PairFacts(difference, drawn, max(p, tail_p(drawn)), int(mask.sum()), differ, unjudged)


def restricted(predictions: Predictions, positions: np.ndarray, rows: np.ndarray) -> Predictions:
    """Predictions of the `rows` (m,), in that order; `positions` (n,) says which row each prediction is of."""
    at = np.empty(int(positions.max()) + 1, np.int64)
    at[positions] = np.arange(len(positions))
    return predictions.take(at[rows])


def row_values(metric: str, predictions: Predictions) -> np.ndarray:
    """What each row (n,) adds to a mean of rows."""
    of_rows = METRICS[metric].rows
    if of_rows is None:
        return np.asarray((predictions.labels == predictions.truth).astype(np.float64))
    return of_rows(predictions.truth, np.asarray(predictions.proba, np.float64))[:, 0]
