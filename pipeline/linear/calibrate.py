"""Out-of-fold logits put to use: temperature, priors, a threshold, and what a choice was worth, with an interval."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..metrics import METRICS, Metric, reliability, scores

DRAWS = 1000  # bootstrap draws of a paired interval
COOLEST, HOTTEST = 0.05, 20.0  # bounds of the temperature


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log probabilities (n, k) float64 of logits (n, k)."""
    z = np.asarray(logits, np.float64)
    z = z - z.max(1, keepdims=True)
    return np.asarray(z - np.log(np.exp(z).sum(1, keepdims=True)))


def losses(logits: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Log loss (n,) of each row."""
    return np.asarray(-log_softmax(logits)[np.arange(len(truth)), truth])


def temperature(logits: np.ndarray, truth: np.ndarray) -> float:
    """The T that minimises the log loss of logits / T (Guo et al. 2017); it is convex in 1 / T."""
    from scipy.optimize import minimize_scalar

    minimum = minimize_scalar(
        lambda cold: float(losses(logits * np.exp(cold), truth).mean()),
        bounds=(-np.log(HOTTEST), -np.log(COOLEST)),
        method="bounded",
        options={"xatol": 1e-4},
    )
    return float(np.exp(-minimum.x))


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
    f1[:-1][p[:-1] == p[1:]] = -1  # equal probabilities cannot be distinguished
    best = int(f1.argmax())
    after = p[best + 1] if best + 1 < len(p) else 0.0
    return float((p[best] + after) / 2), float(f1[best])


def calibration(truth: np.ndarray, proba: np.ndarray) -> dict[str, Any]:
    """ECE, Brier score, log loss and reliability data of probabilities (n, k)."""
    names = ("ece", "brier", "log_loss")
    judged = scores(truth, proba, range(proba.shape[1]), names=names)
    return {name: judged[name] for name in names} | {"reliability": reliability(truth, proba)}


# ── what a choice was worth ─────────────────────────────────────────────────────────────────────────────────────────


def paired_interval(
    objective: str, truth: np.ndarray, proba: np.ndarray, other: np.ndarray, seed: int, level: float = 0.95
) -> dict[str, float]:
    """How far `proba` (n, k) is ahead of `other` in `objective`, with its percentile bootstrap interval over rows.

    Positive where it is better, whichever way the metric points.
    """
    metric, rng = METRICS[objective], np.random.default_rng(seed)
    if metric.rows:
        gaps = _row_gaps(metric, metric.rows(truth, proba), metric.rows(truth, other), rng)
    else:
        gaps = _count_gaps(metric, truth, proba.argmax(1), other.argmax(1), proba.shape[1], rng)
    low, high = np.quantile(gaps[1:], [(1 - level) / 2, (1 + level) / 2])
    return {"difference": float(gaps[0]), "low": float(low), "high": float(high)}


def _row_gaps(metric: Metric, ours: np.ndarray, theirs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(1 + DRAWS,): the gain as it is, then redrawn, from terms (n, f) of rows."""
    n, gaps = len(ours), []
    for part in (np.ones((1, n)), *(rng.multinomial(n, np.full(n, 1 / n), size=DRAWS // 10) for _ in range(10))):
        means = [metric.combine((part @ terms / n).T) for terms in (ours, theirs)]
        gaps.append(metric.sign * (means[0] - means[1]))
    return np.concatenate(gaps)


def _count_gaps(
    metric: Metric, truth: np.ndarray, ours: np.ndarray, theirs: np.ndarray, k: int, rng: np.random.Generator
) -> np.ndarray:
    """The same from predictions (n,): rows of equal (truth, ours, theirs) are one outcome, a draw one multinomial."""
    assert metric.counts is not None, "a metric is computed from counts or from rows"
    outcomes, counts = np.unique((truth * k + ours) * k + theirs, return_counts=True)
    drawn = rng.multinomial(len(truth), counts / len(truth), size=DRAWS)
    tables = np.concatenate([counts[None], drawn])  # (1 + DRAWS, outcomes)
    true, ours, theirs = outcomes // (k * k), outcomes // k % k, outcomes % k

    def by_class(classes: np.ndarray) -> np.ndarray:
        return np.stack([tables[:, classes == c].sum(1) for c in range(k)]).astype(float)

    size = by_class(true)
    scores = [metric.counts(by_class(np.where(p == true, true, k)), by_class(p), size) for p in (ours, theirs)]
    return np.asarray(metric.sign * (scores[0] - scores[1]))
