"""Pairs of contenders → verdicts: p and interval adjusted together, so that neither says what the other denies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..metrics import METRICS
from . import bootstrap
from . import statistics as st
from .families import ALPHA, adjust
from .results import Pair, describe

PRECISION = 0.02  # half the width of an interval that is worth more rows: ±2 points
FEW_DISCORDANT = 10  # rows below which the draws are no ground for "equivalent" (benchmarks/verdict.py)


@dataclass(frozen=True)
class PairFacts:
    """What was measured between two contenders on the rows that both predicted, before anything is adjusted."""

    difference: float  # a minus b
    draws: np.ndarray  # (d,) of it: over rows; seeds and training sets too where there are several
    p_value: float
    rows: int
    discordant: int  # rows that one alone gets right
    unjudged: float = 0.0  # share of the classes that have no judged row, for means over classes
    fixed_error: float = 0.0  # the part of the error that more rows do not shrink: between seeds

    @property
    def error(self) -> float:
        """The standard error: of draws with heavy tails that of the normal with the same 95 % interval."""
        low, high = bootstrap.interval(self.draws, 0.95)
        return (high - low) / (2 * 1.959964) + self.unjudged

    def interval(self, level: float) -> tuple[float, float]:
        """Quantiles of the draws; a class without a judged row may differ by anything."""
        low, high = bootstrap.interval(self.draws, level)
        return low - self.unjudged, high + self.unjudged


def judged_pairs(
    metric: str,
    margin: float,
    names: Sequence[str],
    couples: Sequence[tuple[int, int]],
    copies: np.ndarray,
    measured: Sequence[PairFacts],
) -> list[Pair]:
    """One family of pairs: `couples` of contenders, the better-scored first, `copies` (c,) their near-copy groups.

    Two near-copies are no hypothesis of the family: no test can tell them apart, and none is adjusted for them.
    """
    tested = [i for i, (a, b) in enumerate(couples) if copies[a] != copies[b]]
    members = [tuple(sorted((int(copies[a]), int(copies[b])))) for a, b in (couples[i] for i in tested)]
    adjusted = np.array([facts.p_value for facts in measured])
    steps = np.ones(len(couples), np.int64)
    adjusted[tested], steps[tested] = adjust([measured[i].p_value for i in tested], members)
    pairs = []
    for (a, b), facts, p, share in zip(couples, measured, adjusted, steps, strict=True):
        pairs.append(judged_pair(metric, margin, (names[a], names[b]), facts, float(p), int(share)))
    return pairs


def judged_pair(metric: str, margin: float, names: tuple[str, str], facts: PairFacts, p: float, share: int) -> Pair:
    """One pair, its p adjusted for `share` comparisons and its interval at the same level."""
    sign = METRICS[metric].sign
    level = 1 - ALPHA / share
    low, high = facts.interval(level)
    if p >= ALPHA:  # the interval holds whatever is not rejected, by either
        low, high = min(low, 0.0), max(high, 0.0)
    narrow = facts.interval(1 - 2 * ALPHA / share)
    verdict = st.judge(sign * facts.difference, (low, high), narrow, p, margin)
    if verdict == "equivalent" and not enough_to_equal(facts, margin, metric):
        verdict = "undecided"
    more = rows_to_precision(facts, level) if verdict == "undecided" else None
    pair = Pair(*names, metric, facts.difference, low, high, facts.p_value, p, verdict, more, "", *narrow)
    pair = replace(pair, rows=facts.rows, error=facts.error, comparisons=share)
    return replace(pair, sentence=describe(pair, margin))


def enough_to_equal(facts: PairFacts, margin: float, metric: str) -> bool:
    """Whether there is ground for "equivalent": ten discordant rows, or so many concordant ones that none matter.

    With fewer the draws are too narrow: a true difference of 1.01 points was called equivalent in 13 of 100. The share
    of discordant rows bounds the difference in accuracy; its 95 % bound is exact (Clopper & Pearson 1934).
    """
    from scipy.special import betaincinv

    if METRICS[metric].rows or facts.discordant >= FEW_DISCORDANT:
        return True
    if not METRICS[metric].right_or_wrong and facts.discordant:
        return False  # in a small class a few rows are much
    return float(betaincinv(facts.discordant + 1, max(1, facts.rows - facts.discordant), 1 - ALPHA)) <= margin


def rows_to_precision(facts: PairFacts, level: float = 0.95) -> int | None:
    """About how many more rows until the interval is ±2 points (±0.02) wide; None if it is, or if rows do not do it.

    The error over rows shrinks with the root of their number; that between seeds stays. Unlike the number of rows that
    would show a difference, this does not hang on the difference seen, which is mostly chance.
    """
    from scipy.special import ndtri

    wanted = (PRECISION / float(ndtri((1 + level) / 2))) ** 2 - facts.fixed_error**2
    by_rows = max(0.0, facts.error**2 - facts.fixed_error**2)
    if wanted <= 0 or by_rows <= wanted:
        return None
    return st.two_digits(max(1.0, facts.rows * (by_rows / wanted - 1)))
