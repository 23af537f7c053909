"""Whether a training can still win: what validation shows of it so far, beside the best of what is cheap.

The one look that is taken now and then compares both on the same validation rows. What a training still gains is at
most what it gained of late, step for step: curves of scores flatten (the rate of learning falls with its schedule).
How often that ends one that would have won: benchmarks/stopping.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..metrics import METRICS, scores
from ..run import Predictions

LOOKS = 8  # in a training, at least: its epochs where they are more
EARLIEST = 1 / 2  # share of its steps, before which none is ended
UNLEARNT = 2 / 3  # the same for one that is not halfway from guessing to the bar: on few rows little is learnt for long
SURE = 2.0  # standard errors
DRAWS = 100  # of the rows, for the standard error


@dataclass(frozen=True)
class Look:
    """One comparison on validation, after a share of all steps."""

    share: float
    ahead: float  # of the cheap contender, in the metric's unit; negative where it is behind
    error: float  # standard error of that, over the rows


@dataclass(frozen=True, eq=False)
class Bar:
    """What a training has to beat by more than the margin."""

    name: str  # of the cheap contender
    run: str  # the name of its folder
    predictions: Predictions  # of the validation rows, in their order
    metric: str
    margin: float
    guessing: float = float("-inf")  # how far ahead one constant answer is, where much is learnt before more is

    @property
    def asked(self) -> str:
        """What a training that was ended depends on beside its own settings."""
        return f"{self.metric} {self.margin:g} above {self.run}"

    def look(self, share: float, proba: np.ndarray) -> Look:
        """How far probabilities (n, k) of the validation rows are ahead.

        The standard error is that of paired redrawn rows, and of one row more on either side: no difference on these
        rows is none on others.
        """
        given, (rows, classes) = self.predictions, proba.shape

        def gain(places: np.ndarray) -> float:
            both = [(proba, None), (given.proba, given.threshold)]
            mine, other = (
                scores(given.truth[places], p[places], range(classes), threshold, (self.metric,))[self.metric]
                for p, threshold in both
            )
            return float("nan") if None in (mine, other) else METRICS[self.metric].sign * (mine - other)

        random = np.random.default_rng(0)
        drawn = [gain(places) for places in random.integers(rows, size=(DRAWS, rows))]
        return Look(share, gain(np.arange(rows)), float(np.hypot(np.nanstd(drawn), np.sqrt(2) / rows)))

    def ended(self, looks: Sequence[Look]) -> dict[str, Any] | None:
        """What ends a training after `looks`: the last one, with the most it may still reach; None: it goes on."""
        first, last, reach = looks[0], looks[-1], reachable(looks)
        earliest = UNLEARNT if last.ahead < max(first.ahead, self.guessing) / 2 else EARLIEST
        if not earliest <= last.share < 1 or not reach + SURE * last.error <= self.margin:
            return None
        return asdict(last) | {"reach": reach, "metric": self.metric, "margin": self.margin, "against": self.name}


def guessing(predictions: Predictions, metric: str) -> float:
    """How far ahead of `predictions` the shares of their rows' classes are, the same for every row."""
    truth, classes = predictions.truth, predictions.proba.shape[1]
    shares = np.bincount(truth, minlength=classes) / len(truth)
    constant = scores(truth, np.tile(shares, (len(truth), 1)), range(classes), None, (metric,))[metric]
    given = scores(truth, predictions.proba, range(classes), predictions.threshold, (metric,))[metric]
    return float("-inf") if None in (constant, given) else METRICS[metric].sign * (constant - given)


def reachable(looks: Sequence[Look]) -> float:
    """How far ahead a training may be at its end: the best look so far, and its gain of late for the steps left.

    `looks` are in order, the first one at the start.
    """
    best = np.maximum.accumulate([look.ahead for look in looks])
    shares = np.array([look.share for look in looks])
    since = max(0, int(np.searchsorted(shares, shares[-1] / 2, "right")) - 1)  # the last one within the first half
    slope = (best[-1] - best[since]) / max(shares[-1] - shares[since], 1e-9)
    return float(best[-1] + slope * (1 - shares[-1]))
