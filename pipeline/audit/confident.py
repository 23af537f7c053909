"""Which labels are probably wrong: confident learning on probabilities of models that did not learn from the row.

Northcutt, Jiang and Chuang, Confident Learning: Estimating Uncertainty in Dataset Labels, Journal of Artificial
Intelligence Research 70, 2021. A class's threshold is how sure the models are of it, on average, on the rows that
carry it. A row that passes the threshold of another class than its own is an off-diagonal entry of the confident
joint: a label error, as far as the models can tell. Array functions only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

TINY = 1e-12
STEPS = 200  # the weights stand to the third digit after a few dozen


@dataclass(frozen=True, eq=False)
class Suspicion:
    """What probabilities say of the labels of n rows."""

    score: np.ndarray  # (n,) 0 to 1, the more suspicious the higher; 0.5: as sure of the label as of most of its class
    suggested: np.ndarray  # (n,) int64, the likeliest class, among those that pass their threshold if any does
    confident: np.ndarray  # (n,) bool: `suggested` is another class than the label, and passes its threshold


def weights(labels: np.ndarray, probas: Sequence[np.ndarray]) -> np.ndarray:
    """How much each of c models has to say (c,), sums to 1: the mixture that makes labels (n,) likeliest.

    Expectation maximisation from equal weights; the likelihood is concave in them. A model that knows little (a probe
    on vectors that say nothing of the task, the majority class) then does not drown one that knows much.
    """
    of_label = np.stack([np.maximum(p[np.arange(len(labels)), labels], TINY) for p in probas]).astype(
        np.float64
    )  # (c, n)
    mixed = np.full(len(probas), 1 / len(probas))
    for _ in range(STEPS):
        mixed = (mixed[:, None] * of_label / (mixed @ of_label)).mean(1)
    return mixed


def together(probas: Sequence[np.ndarray], mixed: np.ndarray) -> np.ndarray:
    """Weighted mean (n, k) of several models' probabilities (n, k) of the same rows; weights (c,)."""
    return np.asarray(np.einsum("c,cnk->nk", mixed, np.asarray(probas, np.float64)))


def thresholds(labels: np.ndarray, proba: np.ndarray) -> np.ndarray:
    """Mean probability (k,) of each class on the rows labelled so; 1 for a class that no row has."""
    k = proba.shape[1]
    counts = np.bincount(labels, minlength=k)
    sums = np.bincount(labels, proba[np.arange(len(labels)), labels], k)
    return np.where(counts > 0, sums / np.maximum(counts, 1), 1.0)


def suspect(labels: np.ndarray, proba: np.ndarray, at: np.ndarray) -> Suspicion:
    """Labels (n,) held against probabilities (n, k) and the classes' thresholds `at` (k,).

    The score is at / (at + p) of the label's class: self-confidence, relative to what is usual for the class, so
    that a class of which models are never sure is not suspected as a whole.
    """
    rows = np.arange(len(labels))
    usual = at[labels]
    score = usual / np.maximum(usual + proba[rows, labels], TINY)
    passed = proba >= at - TINY
    suggested = np.where(passed.any(1), np.where(passed, proba, -1.0).argmax(1), proba.argmax(1))
    confident = passed.any(1) & (suggested != labels)
    return Suspicion(score, suggested.astype(np.int64), confident)


def confident_joint(labels: np.ndarray, suspicion: Suspicion, at: np.ndarray, proba: np.ndarray) -> np.ndarray:
    """Rows (k, k) by label and by the class that they seem to be; those that pass no threshold are not counted."""
    k = len(at)
    counted = (proba >= at - TINY).any(1)
    return np.bincount(labels[counted] * k + suspicion.suggested[counted], minlength=k * k).reshape(k, k)
