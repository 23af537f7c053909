"""Out-of-fold logits put to use: temperature, priors, a threshold, and what a choice was worth, with an interval."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pipeline.metrics import reliability, scores

DRAWS = 1000  # bootstrap draws of a paired interval
COOLEST, HOTTEST = 0.05, 20.0  # bounds of the temperature


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log probabilities (n, k) float64 of logits (n, k)."""
    z = np.asarray(logits, np.float64)
    z = z - z.max(1, keepdims=True)
    return z - np.log(np.exp(z).sum(1, keepdims=True))


def losses(logits: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Log loss (n,) of each row."""
    return -log_softmax(logits)[np.arange(len(truth)), truth]


def temperature(logits: np.ndarray, truth: np.ndarray) -> float:
    """The T that minimises the log loss of logits / T (Guo et al. 2017); it is convex in 1 / T."""
    from scipy.optimize import minimize_scalar

    found = minimize_scalar(
        lambda cold: float(losses(logits * np.exp(cold), truth).mean()),
        bounds=(-np.log(HOTTEST), -np.log(COOLEST)),
        method="bounded",
        options={"xatol": 1e-4},
    )
    return float(np.exp(-found.x))


def prior_shift(learned: np.ndarray, true: np.ndarray) -> np.ndarray:
    """What to add to the logits (k,) of a model that learned under priors `learned` to serve under `true`.

    Saerens et al. 2002, Elkan 2001: p(c | x) is multiplied by true_c / learned_c. Classes never seen are left alone.
    """
    both = (learned > 0) & (true > 0)
    shift = np.zeros(len(true))
    shift[both] = np.log(true[both] / learned[both])
    return shift


def best_threshold(truth: np.ndarray, positive: np.ndarray) -> tuple[float, float]:
    """The threshold on probabilities `positive` (n,) of class 1 with the highest F1 of class 1, and that F1.

    Each cut between two different probabilities is tried; the threshold lies in the middle of the gap.
    """
    order = np.argsort(-positive, kind="stable")
    p, hits = positive[order].astype(np.float64), np.cumsum(truth[order] == 1)
    f1 = 2 * hits / (np.arange(1, len(p) + 1) + (truth == 1).sum())
    f1[:-1][p[:-1] == p[1:]] = -1  # equal probabilities cannot be told apart
    best = int(f1.argmax())
    after = p[best + 1] if best + 1 < len(p) else 0.0
    return float((p[best] + after) / 2), float(f1[best])


def calibration(truth: np.ndarray, proba: np.ndarray) -> dict[str, Any]:
    """ECE, Brier score, log loss and reliability data of probabilities (n, k)."""
    all_scores = scores(truth, proba, [str(c) for c in range(proba.shape[1])])
    kept = {name: all_scores[name] for name in ("ece", "brier", "log_loss")}
    return {**kept, "reliability": reliability(truth, proba)}


# ── what a choice was worth ─────────────────────────────────────────────────────────────────────────────────────────


def _confusions(codes: np.ndarray, counts: np.ndarray, k: int) -> np.ndarray:
    """Tables (draws, k, k) from counts (draws, u) of the u different codes truth · k + predicted."""
    tables = np.zeros((len(counts), k * k))
    for column, code in enumerate(codes):
        tables[:, code] += counts[:, column]
    return tables.reshape(-1, k, k)


def _f1(tables: np.ndarray) -> np.ndarray:
    hit, size = np.diagonal(tables, axis1=1, axis2=2), tables.sum(1) + tables.sum(2)
    return np.divide(2 * hit, size, out=np.full(hit.shape, np.nan), where=size > 0)


def _recall(tables: np.ndarray) -> np.ndarray:
    hit, size = np.diagonal(tables, axis1=1, axis2=2), tables.sum(2)
    return np.divide(hit, size, out=np.full(hit.shape, np.nan), where=size > 0)


def _weighted_f1(tables: np.ndarray) -> np.ndarray:
    return np.nansum(_f1(tables) * tables.sum(2), 1) / tables.sum((1, 2))


# tables (draws, k, k) -> (draws,), higher is better
OBJECTIVES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "macro_f1": lambda tables: np.nanmean(_f1(tables), 1),
    "accuracy": lambda tables: np.trace(tables, axis1=1, axis2=2) / tables.sum((1, 2)),
    "balanced_accuracy": lambda tables: np.nanmean(_recall(tables), 1),
    "weighted_f1": _weighted_f1,
}


def paired_interval(
    objective: str, truth: np.ndarray, proba: np.ndarray, other: np.ndarray, seed: int, level: float = 0.95
) -> dict[str, float]:
    """`objective` of `proba` (n, k) minus that of `other`, with its percentile bootstrap interval over the same rows.

    Rows with equal (truth, prediction, other prediction) are interchangeable, so that a draw is one multinomial.
    """
    k, metric, n = proba.shape[1], OBJECTIVES[objective], len(truth)
    kinds, counts = np.unique((truth * k + proba.argmax(1)) * k + other.argmax(1), return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(n, counts / n, size=DRAWS)
    tables = np.concatenate([counts[None], drawn])
    true, ours, theirs = kinds // (k * k), kinds // k % k, kinds % k
    difference = np.concatenate(
        [
            metric(_confusions(true * k + ours, part, k)) - metric(_confusions(true * k + theirs, part, k))
            for part in np.array_split(tables, max(1, k * k // 1000))
        ]
    )
    low, high = np.quantile(difference[1:], [(1 - level) / 2, (1 + level) / 2])
    return {"difference": float(difference[0]), "low": float(low), "high": float(high)}
