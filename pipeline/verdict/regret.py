"""What a choice may cost: for each contender the largest loss that the rows leave plausible.

Nothing here draws or tests.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from .. import UserError
from .families import ALPHA
from .results import Contender, Pair, total_seconds

PREFERENCES = ("best", "cheap")
SECONDS = {"s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0}


def regrets(names: Sequence[str], pairs: Sequence[Pair]) -> dict[str, float]:
    """R of each of m contenders: max over rivals o of d(o − c) + z(1 − 0.05 / (m − 1)) · se, and at least 0.

    With 95 % confidence, and for each choice by itself, nothing here is better than `c` by more (Bonferroni over its
    rivals; the idea is that of Hsu 1984, multiple comparisons with the best).
    """
    from scipy.special import ndtri

    if len(names) < 2:
        return dict.fromkeys(names, 0.0)
    z = float(ndtri(1 - ALPHA / (len(names) - 1)))
    worst = dict.fromkeys(names, 0.0)
    for pair in pairs:
        if pair.a in worst and pair.b in worst:
            worst[pair.b] = max(worst[pair.b], pair.gain + z * pair.error)
            worst[pair.a] = max(worst[pair.a], -pair.gain + z * pair.error)
    return worst


@dataclass(frozen=True)
class Worth:
    """What the user gives for a point of the metric: seconds of training and 10,000 predictions."""

    seconds_per_unit: float  # of the metric: a share from 0 to 1, or 1 of a loss
    text: str

    def of(self, saved: float) -> float:
        """How much of the metric `saved` seconds are worth."""
        return max(0.0, saved / self.seconds_per_unit)


def worth(text: str) -> Worth:
    """`1 point = 10 min` → Worth.

    Raises UserError for anything else.
    """
    number, time = r"(\d+(?:\.\d+)?)", r"(s|min|m|h)"
    match = re.fullmatch(rf"\s*{number}\s*points?\s*=\s*{number}\s*{time}\s*", text.strip().lower())
    if match is None or float(match[1]) == 0 or float(match[2]) == 0:
        raise UserError(f"--worth '{text}': write what a point is worth to you, such as \"1 point = 10 min\"")
    seconds = float(match[2]) * SECONDS[match[3]]
    return Worth(100 * seconds / float(match[1]), " ".join(text.split()))


@dataclass(frozen=True)
class Preference:
    """What the user says that cost is worth."""

    margin: float
    worth: Worth | None = None
    prefer: str = "best"  # or cheap: a loss that is not shown does not count

    def tolerance(self, choice: Contender, best: Contender) -> float:
        """The loss that is accepted for taking `choice` instead of `best`."""
        saved = total_seconds(best.cost) - total_seconds(choice.cost)
        return max(self.margin, self.worth.of(saved) if self.worth and saved < float("inf") else 0.0)
