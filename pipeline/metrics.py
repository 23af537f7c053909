"""Metrics: what a confusion table, or probabilities beside the truth, are worth. Arrays in, numbers out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline import UserError

CALIBRATION_BINS = 15


def confusion(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Counts (k, k): row = truth, column = predicted."""
    flat = np.asarray(truth, np.int64) * classes + np.asarray(predicted, np.int64)
    return np.bincount(flat, minlength=classes * classes).reshape(classes, classes)


def decide(proba: np.ndarray, threshold: float | None = None) -> np.ndarray:
    """Class numbers (n,) of probabilities (n, k): the likeliest; with a threshold the second of two, from there on."""
    if threshold is None:
        return np.asarray(proba).argmax(1)
    return (np.asarray(proba)[:, 1] >= threshold).astype(np.int64)


def per_class(table: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision, recall and F1, each (k,), of a confusion table (k, k); 0 where nothing was predicted or true."""
    hit = np.diag(table).astype(float)
    predicted, true = table.sum(0), table.sum(1)
    precision = np.divide(hit, predicted, out=np.zeros_like(hit), where=predicted > 0)
    recall = np.divide(hit, true, out=np.zeros_like(hit), where=true > 0)
    f1 = np.divide(2 * hit, predicted + true, out=np.zeros_like(hit), where=predicted + true > 0)
    return precision, recall, f1


def reliability(truth: np.ndarray, proba: np.ndarray, bins: int = CALIBRATION_BINS) -> list[dict[str, float]]:
    """Confidence of the predicted class against how often it is right, in the non-empty of `bins` of equal width."""
    confidence, right = proba.max(1), proba.argmax(1) == truth
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    return [
        {
            "rows": int((place == b).sum()),
            "confidence": float(confidence[place == b].mean()),
            "accuracy": float(right[place == b].mean()),
        }
        for b in range(bins)
        if (place == b).any()
    ]


def scores(
    truth: np.ndarray, proba: np.ndarray, class_names: Sequence[str], threshold: float | None = None
) -> dict[str, Any]:
    """Every metric of the contract for truth (n,) and probabilities (n, k); labels by `threshold` if there is one.

    `precision` and `recall` are macro means; macro means go over the classes that occur in truth or prediction, as
    scikit-learn's do. `balanced_accuracy` is the mean recall over the classes in truth. `brier` is the sum of squared
    differences over all classes (0 to 2), halved for two classes so that it is the usual binary score (0 to 1).
    `ece` is the expected calibration error of the predicted class in 15 bins of equal width (Guo et al. 2017).

    Raises UserError if there are no rows, or if a probability is not a finite number.
    """
    truth, proba = np.asarray(truth, np.int64), np.asarray(proba, np.float64)
    n, k = proba.shape
    if n == 0:
        raise UserError("no labelled rows to score; check the split")
    if not np.isfinite(proba).all():
        raise UserError("a model gave probabilities that are not finite numbers; the run cannot be scored")
    table = confusion(truth, decide(proba, threshold), k)
    precision, recall, f1 = per_class(table)
    true = table.sum(1)
    seen, present = (true + table.sum(0)) > 0, true > 0
    onehot = np.eye(k)[truth]
    return {
        "rows": n,
        "accuracy": float(np.trace(table) / n),
        "balanced_accuracy": float(recall[present].mean()),
        "macro_f1": float(f1[seen].mean()),
        "weighted_f1": float((f1 * true).sum() / n),
        "precision": float(precision[seen].mean()),
        "recall": float(recall[seen].mean()),
        "log_loss": float(-np.log(np.clip(proba[np.arange(n), truth], 1e-15, None)).mean()) + 0.0,  # never −0
        "brier": float(((proba - onehot) ** 2).sum(1).mean() / (2 if k == 2 else 1)),
        "ece": float(
            sum(abs(b["confidence"] - b["accuracy"]) * b["rows"] for b in reliability(truth, proba)) / n,
        ),
        "per_class": {
            name: {
                "precision": float(precision[i]),
                "recall": float(recall[i]),
                "f1": float(f1[i]),
                "rows": int(true[i]),
            }
            for i, name in enumerate(class_names)
        },
    }
