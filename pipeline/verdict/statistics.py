"""Metrics as functions of sums over rows, paired tests and the verdict rule: pure functions of arrays.

Randomness comes in as an argument. Rows that share a truth and what each contender predicted are one entry of the
joint table of outcomes, so that a test costs as much as there are distinct outcomes, not rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.metrics import CALIBRATION_BINS

COUNT_METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "weighted_f1")
ROW_METRICS = ("log_loss", "brier", "ece")
LOWER_IS_BETTER = frozenset(ROW_METRICS)
CHUNK = 8_000_000  # weights held at a time: 32 MB of float32
TINY = 1e-9  # a draw of a few rows may come out empty
EXACT_ROWS = 12  # up to 2¹² assignments are enumerated instead of drawn


# ── metrics from counts and from rows ───────────────────────────────────────────────────────────────────────────────


def count_metric(name: str, hit: np.ndarray, predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """The metric (...,) of hits, predictions and truths per class, each (k, ...), as `metrics.scores` defines it."""
    if name == "accuracy":
        return hit.sum(0) / np.maximum(true.sum(0), TINY)
    if name == "balanced_accuracy":
        present = true > 0
        return np.divide(hit, true, out=np.zeros_like(hit), where=present).sum(0) / np.maximum(present.sum(0), 1)
    both = predicted + true
    f1 = np.divide(2 * hit, both, out=np.zeros_like(hit), where=both > 0)
    if name == "macro_f1":
        return f1.sum(0) / np.maximum((both > 0).sum(0), 1)
    assert name == "weighted_f1", name
    return (f1 * true).sum(0) / np.maximum(true.sum(0), TINY)


def row_sums(name: str, truth: np.ndarray, proba: np.ndarray) -> np.ndarray:
    """What each row adds to the metric: (n, 1), or (n, 15) for `ece`, a column for each bin of confidence."""
    proba = np.asarray(proba, np.float64)
    n, k = proba.shape
    own = proba[np.arange(n), truth]
    if name == "log_loss":
        return -np.log(np.clip(own, 1e-15, None))[:, None]
    if name == "brier":
        return ((proba**2).sum(1) - 2 * own + 1)[:, None] / (2 if k == 2 else 1)
    assert name == "ece", name
    confidence = proba.max(1)
    bins = np.zeros((n, CALIBRATION_BINS))
    place = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    bins[np.arange(n), place] = confidence - (proba.argmax(1) == truth)
    return bins


def row_metric(name: str, sums: np.ndarray) -> np.ndarray:
    """The metric (...,) of mean sums (f, ...)."""
    return np.abs(sums).sum(0) if name == "ece" else sums[0]


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


def permute_counts(name: str, table: Outcomes, draws: int, rng: np.random.Generator) -> float:
    """p-value of the paired permutation test of contenders 0 and 1 of `table`: predictions trade places row by row."""
    a, b = table.predicted
    everywhere = np.ones(len(a), bool)
    size = table.rows.astype(np.float64)
    true = indicator(table.truth, everywhere, table.classes) @ size
    sums = [
        (indicator(p, p == table.truth, table.classes) @ size, indicator(p, everywhere, table.classes) @ size)
        for p in (a, b)
    ]
    (hit_a, said_a), (hit_b, said_b) = sums
    observed = float(count_metric(name, hit_a, said_a, true) - count_metric(name, hit_b, said_b, true))
    differ = a != b
    if not differ.any():
        return 1.0
    hit_shift = indicator(b, differ & (b == table.truth), table.classes) - indicator(
        a, differ & (a == table.truth), table.classes
    )
    said_shift = indicator(b, differ, table.classes) - indicator(a, differ, table.classes)
    hit_shift, said_shift = hit_shift[:, differ], said_shift[:, differ]
    null = []
    step = max(1, CHUNK // max(int(differ.sum()), table.classes))
    exact = False
    for start in range(0, draws, step):
        moved, exact = swaps(table.rows[differ], min(step, draws - start), rng)
        hit, said = hit_shift @ moved, said_shift @ moved  # (k, s)
        first = count_metric(name, hit_a[:, None] + hit, said_a[:, None] + said, true[:, None])
        second = count_metric(name, hit_b[:, None] - hit, said_b[:, None] - said, true[:, None])
        null.append(first - second)
        if exact:
            break
    return p_value(observed, np.concatenate(null), exact)


def permute_rows(name: str, sums_a: np.ndarray, sums_b: np.ndarray, draws: int, rng: np.random.Generator) -> float:
    """p-value of the same test for a metric of rows: `row_sums` (n, f) of both contenders."""
    n = len(sums_a)
    total_a, total_b, shift = sums_a.mean(0), sums_b.mean(0), (sums_b - sums_a) / n
    observed = float(row_metric(name, total_a) - row_metric(name, total_b))
    shift = shift[(shift != 0).any(1)]
    if not len(shift):
        return 1.0
    null = []
    step = max(1, CHUNK // len(shift))
    exact = False
    for start in range(0, draws, step):
        moved, exact = swaps(np.ones(len(shift), np.int64), min(step, draws - start), rng)
        change = shift.T.astype(np.float32) @ moved  # (f, s)
        null.append(row_metric(name, total_a[:, None] + change) - row_metric(name, total_b[:, None] - change))
        if exact:
            break
    return p_value(observed, np.concatenate(null), exact)


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
