"""Paired tests and the verdict rule: pure functions of arrays.

Randomness comes in as an argument. Rows that share a truth and what each contender predicted are one entry of the
joint table of outcomes, so that a test costs as much as there are distinct outcomes, not rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..metrics import METRICS

CHUNK = 8_000_000  # weights held at a time: 32 MB of float32
EXACT_ROWS = 12  # up to 2¹² assignments are enumerated instead of drawn


# ── the joint table of outcomes ─────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Outcomes:
    """The joint table of outcomes: how many rows share a truth and what every contender predicted for it."""

    truth: np.ndarray  # (o,) int64
    predicted: np.ndarray  # (c, o) int64
    rows: np.ndarray  # (o,) int64, sums to n
    classes: int


def outcomes(truth: np.ndarray, predicted: np.ndarray, classes: int) -> Outcomes:
    """The distinct outcomes of truth (n,) and predictions (c, n)."""
    table, rows = np.unique(np.vstack([truth, predicted]).astype(np.int64), axis=1, return_counts=True)
    return Outcomes(table[0], table[1:], rows, classes)


def indicator(values: np.ndarray, where: np.ndarray, classes: int):
    """Sparse (k, o) float32: 1 where column j has class `values[j]` and `where[j]`."""
    from scipy.sparse import csr_array

    columns = np.flatnonzero(where)
    ones = np.ones(len(columns), np.float32)
    return csr_array((ones, (values[columns], columns)), shape=(classes, len(values)))


# ── paired tests ────────────────────────────────────────────────────────────────────────────────────────────────────


def mcnemar(only_a: int, only_b: int) -> float:
    """Exact two-sided p-value of McNemar's test (1947): is one of two contenders right more often than the other?

    `only_a` rows are right by a alone, `only_b` by b alone; under the null a row falls to either side as a coin does.
    """
    from scipy.special import bdtr

    rows = only_a + only_b
    return 1.0 if rows == 0 else float(min(1.0, 2 * bdtr(min(only_a, only_b), rows, 0.5)))


def swaps(rows: np.ndarray, draws: int, rng: np.random.Generator) -> tuple[np.ndarray, bool]:
    """How many of `rows` (o,) trade places in each draw, (o, d) float32; if few, all 2ⁿ assignments, and True."""
    total = int(rows.sum())
    if total <= EXACT_ROWS:
        sides = (np.arange(2**total)[None, :] >> np.arange(total)[:, None]) & 1  # (total, 2^total)
        counts = np.zeros((len(rows), 2**total), np.float32)
        np.add.at(counts, np.repeat(np.arange(len(rows)), rows), sides.astype(np.float32))
        return counts, True
    if (rows == 1).all():  # a random byte is eight rows
        bits = np.unpackbits(np.frombuffer(rng.bytes((total * draws + 7) // 8), np.uint8), count=total * draws)
        return bits.reshape(total, draws).astype(np.float32), False
    moved = np.empty((len(rows), draws), np.float32)
    few = rows <= 8  # a random byte is eight coins; drawing a binomial for each costs ten times as much
    coins = rng.integers(0, 256, size=(int(few.sum()), draws), dtype=np.uint8)
    moved[few] = np.bitwise_count(coins & ((1 << rows[few]) - 1).astype(np.uint8)[:, None])
    moved[~few] = rng.binomial(rows[~few, None], 0.5, size=(int((~few).sum()), draws))
    return moved, False


def p_value(observed: float, null: np.ndarray, exact: bool) -> float:
    """Two-sided p of `observed` among `null` (d,); if drawn, the one observed counts too (Phipson & Smyth 2010)."""
    extreme = int((np.abs(null) >= abs(observed) * (1 - 1e-6) - 1e-12).sum())  # ties are ties whatever the rounding
    return extreme / len(null) if exact else (extreme + 1) / (len(null) + 1)


def permuted(
    gap: Callable[[np.ndarray], np.ndarray], rows: np.ndarray, observed: float, draws: int, rng: np.random.Generator
) -> float:
    """p-value of `observed` among the gaps (d,) of assignments (o, d) in which some of `rows` (o,) trade places."""
    null, exact, step = [], False, max(1, CHUNK // len(rows))
    for start in range(0, draws, step):
        moved, exact = swaps(rows, min(step, draws - start), rng)
        null.append(gap(moved))
        if exact:
            break
    return p_value(observed, np.concatenate(null), exact)


def permute_counts(name: str, table: Outcomes, draws: int, rng: np.random.Generator) -> float:
    """p-value of the paired permutation test of contenders 0 and 1 of `table`: predictions trade places row by row."""
    a, b = table.predicted
    metric, k, everywhere = METRICS[name].counts, table.classes, np.ones(len(a), bool)
    assert metric is not None, f"{name} is not computed from counts"
    size = table.rows.astype(np.float64)
    true = indicator(table.truth, everywhere, k) @ size
    hit_a, hit_b = (indicator(p, p == table.truth, k) @ size for p in (a, b))
    predicted_a, predicted_b = (indicator(p, everywhere, k) @ size for p in (a, b))
    observed = float(metric(hit_a, predicted_a, true) - metric(hit_b, predicted_b, true))
    differ = a != b
    if not differ.any():
        return 1.0
    hit_shift = indicator(b, differ & (b == table.truth), k) - indicator(a, differ & (a == table.truth), k)
    shift = indicator(b, differ, k) - indicator(a, differ, k)
    hit_shift, shift = hit_shift[:, differ], shift[:, differ]

    def gap(moved: np.ndarray) -> np.ndarray:
        hit, predicted = hit_shift @ moved, shift @ moved  # (k, s)
        first = metric(hit_a[:, None] + hit, predicted_a[:, None] + predicted, true[:, None])
        return np.asarray(first - metric(hit_b[:, None] - hit, predicted_b[:, None] - predicted, true[:, None]))

    return permuted(gap, table.rows[differ], observed, draws, rng)


def permute_rows(name: str, terms_a: np.ndarray, terms_b: np.ndarray, draws: int, rng: np.random.Generator) -> float:
    """p-value of the same test for a metric of rows: terms (n, f) of both contenders."""
    metric, mean_a, mean_b = METRICS[name].combine, terms_a.mean(0), terms_b.mean(0)
    observed = float(metric(mean_a) - metric(mean_b))
    shift = (terms_b - terms_a) / len(terms_a)
    shift = shift[(shift != 0).any(1)].T.astype(np.float32)  # (f, rows that differ)
    if not shift.size:
        return 1.0

    def gap(moved: np.ndarray) -> np.ndarray:
        change = shift @ moved  # (f, s)
        return np.asarray(metric(mean_a[:, None] + change) - metric(mean_b[:, None] - change))

    return permuted(gap, np.ones(shift.shape[1], np.int64), observed, draws, rng)


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Holm's (1979) step-down adjusted p-values (m,), in the order given."""
    p = np.asarray(p_values, float)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


# ── the rule ────────────────────────────────────────────────────────────────────────────────────────────────────────


def judge(
    gain: float, interval95: tuple[float, float], interval90: tuple[float, float], p_adjusted: float, margin: float
) -> str:
    """better, worse, equivalent or undecided, in this order; `gain` is positive where a is ahead of b."""
    low, high = interval95
    if p_adjusted < 0.05 and (low > 0 or high < 0):
        return "better" if gain > 0 else "worse"
    if -margin <= interval90[0] and interval90[1] <= margin:
        return "equivalent"
    return "undecided"


def two_digits(value: float) -> int:
    """`value` rounded up to two significant digits: more would claim a precision that an estimate has not."""
    unit = 10 ** max(0, int(np.floor(np.log10(value))) - 1)
    return int(np.ceil(value / unit) * unit)
