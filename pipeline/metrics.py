"""Metrics, a row each: what one is called, which way it points, how it is computed. Arrays in, numbers out.

Scores, intervals and paired tests, objectives, audit, curves, page, card and terminal read this table, so that a metric
is added here and nowhere else. It is computed either from a confusion table, or from terms of rows, as a function of
their means.

Rank metrics (areas under the ROC and the precision-recall curve) are no means of rows: what a row is worth hangs on
all others. Their terms are the pseudo-values of the infinitesimal jackknife (Jaeckel 1972; Efron 1982, chapter 6): the
metric, plus n times its derivative in the row's weight. Their mean is the metric exactly, and to first order it moves
as the metric does if rows are redrawn or traded. For the area under the ROC curve this is the variance of DeLong,
DeLong and Clarke-Pearson (1988), and the paired test is theirs, by sign flips.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import UserError, choose
from .words import format_change

CALIBRATION_BINS = 15
TINY = 1e-9  # a draw of a few rows may come out empty


# ── what a model answers ──────────────────────────────────────────────────────────────────────────────────────────────


def confusion(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Counts (k, k): row = truth, column = predicted."""
    flat = np.asarray(truth, np.int64) * classes + np.asarray(predicted, np.int64)
    return np.bincount(flat, minlength=classes * classes).reshape(classes, classes)


def decide(proba: np.ndarray, threshold: float | None = None) -> np.ndarray:
    """Class numbers (n,) of probabilities (n, k): the likeliest; with a threshold the second of two, from there on."""
    if threshold is None:
        return np.asarray(np.argmax(proba, axis=1))
    return (np.asarray(proba)[:, 1] >= threshold).astype(np.int64)


# ── from a confusion table: hits, predictions and truths per class, each (k, ...) → (...) ─────────────────────────────


def _ratio(part: np.ndarray, of: np.ndarray) -> np.ndarray:
    """part / of, 0 where there is nothing of it."""
    return np.asarray(
        np.divide(part, of, out=np.zeros(np.shape(part), np.result_type(part, of, np.float32)), where=of > 0)
    )


def _mean(values: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Mean (...) of values (k, ...) over the classes that count; they are 0 for the others."""
    return np.asarray(values.sum(0) / np.maximum(classes.sum(0), 1))


def accuracy(hit: np.ndarray, predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    return np.asarray(hit.sum(0) / np.maximum(true.sum(0), TINY))


def balanced_accuracy(hit: np.ndarray, predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    return _mean(_ratio(hit, true), true > 0)


def class_f1(hit: np.ndarray, predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """F1 (k, ...) of each class."""
    return _ratio(2 * hit, predicted + true)


def macro_f1(hit: np.ndarray, predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    return _mean(class_f1(hit, predicted, true), predicted + true > 0)


def weighted_f1(hit: np.ndarray, predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    return np.asarray((class_f1(hit, predicted, true) * true).sum(0) / np.maximum(true.sum(0), TINY))


def macro_precision(hit: np.ndarray, predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    return _mean(_ratio(hit, predicted), predicted + true > 0)


def macro_recall(hit: np.ndarray, predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    return _mean(_ratio(hit, true), predicted + true > 0)


# ── from rows: truth (n,), probabilities (n, k) → terms (n, f) ────────────────────────────────────────────────────────


def log_losses(truth: np.ndarray, proba: np.ndarray) -> np.ndarray:
    """Log loss (n, 1) of each row, in nats."""
    return np.asarray(-np.log(np.clip(proba[np.arange(len(truth)), truth], 1e-15, None))[:, None])


def brier_scores(truth: np.ndarray, proba: np.ndarray) -> np.ndarray:
    """Squared differences (n, 1) over all classes, halved for two: the usual binary score, from 0 to 1."""
    of_label = proba[np.arange(len(truth)), truth]
    return np.asarray(((proba**2).sum(1) - 2 * of_label + 1)[:, None] / (2 if proba.shape[1] == 2 else 1))


def _bins(confidence: np.ndarray, bins: int = CALIBRATION_BINS) -> np.ndarray:
    return np.asarray(np.minimum((confidence * bins).astype(int), bins - 1))


def confidence_gaps(truth: np.ndarray, proba: np.ndarray) -> np.ndarray:
    """Confidence minus right or wrong, (n, 15): in the column of the row's bin of confidence, 0 elsewhere."""
    confidence = proba.max(1)
    gaps = np.zeros((len(truth), CALIBRATION_BINS))
    gaps[np.arange(len(truth)), _bins(confidence)] = confidence - (proba.argmax(1) == truth)
    return gaps


def reliability(truth: np.ndarray, proba: np.ndarray, bins: int = CALIBRATION_BINS) -> list[dict[str, float]]:
    """Confidence of the predicted class against how often it is right, in the non-empty of `bins` of equal width."""
    confidence, right = proba.max(1), proba.argmax(1) == truth
    place = _bins(confidence, bins)
    inside = [place == b for b in range(bins) if (place == b).any()]
    return [
        {"rows": int(b.sum()), "confidence": float(confidence[b].mean()), "accuracy": float(right[b].mean())}
        for b in inside
    ]


def gap_by_chance(proba: np.ndarray, draws: int, rng: np.random.Generator, level: float = 0.975) -> float:
    """What the calibration error would reach by chance, at `level`, if every confidence were right on average.

    Each bin's gap is then normal around 0, with the variance of its coins (Bröcker & Smith 2007). Below this value the
    sample cannot be distinguished from a calibrated one, and the interval of the error starts at 0.
    """
    confidence = np.asarray(proba, np.float64).max(1)
    variance = np.bincount(_bins(confidence), confidence * (1 - confidence), CALIBRATION_BINS)
    gaps = rng.standard_normal((draws, CALIBRATION_BINS)) * np.sqrt(variance) / len(proba)
    return float(np.quantile(np.abs(gaps).sum(1), level))


# ── from ranks: pseudo-values (n, 1), whose mean is the metric ────────────────────────────────────────────────────────


def _ranked(one: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Two classes: the second against the first; more: the mean over each class in truth against all others.

    NaN, as scikit-learn has it, where truth holds one class alone.
    """

    def rows(truth: np.ndarray, proba: np.ndarray) -> np.ndarray:
        present = np.unique(truth)
        if len(present) < 2:
            return np.full((len(truth), 1), np.nan)
        classes = [1] if proba.shape[1] == 2 else present
        return np.asarray(np.mean([one(truth == c, proba[:, c]) for c in classes], axis=0)[:, None])

    return rows


def _midranks(values: np.ndarray) -> np.ndarray:
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[place]


def roc_area(positive: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Pseudo-values (n,) of the area under the ROC curve, from the share of the other side that each row outranks."""
    n, count = len(positive), int(positive.sum())
    own_side = np.empty(n)
    for side in (positive, ~positive):
        own_side[side] = _midranks(score[side])
    below = _midranks(score) - own_side  # rows of the other side below this one, ties counted half
    outranked = np.where(positive, below / (n - count), 1 - below / count)
    area = outranked[positive].mean()
    return np.asarray(area + (outranked - area) * np.where(positive, n / count, n / (n - count)))


def precision_area(positive: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Pseudo-values (n,) of average precision, the mean over positive rows of the precision at their score.

    With A positives and B rows at or above a score, it is Σ A/B over positives by their number; a row's weight counts
    in the A and B of every positive at or below it.
    """
    n, order = len(positive), np.argsort(-score, kind="stable")
    hits, sorted_score = positive[order].astype(float), score[order]
    new = np.r_[True, sorted_score[1:] != sorted_score[:-1]]
    group, first = np.cumsum(new) - 1, np.flatnonzero(new)
    last = np.r_[first[1:], n] - 1
    above, rows = np.cumsum(hits)[last][group], (last + 1.0)[group]
    area = (hits * above / rows).sum() / hits.sum()

    def from_here(values: np.ndarray) -> np.ndarray:
        """Sum over this group and all below it."""
        return np.asarray(np.cumsum(values[::-1])[::-1][first][group])

    change = hits * (above / rows - area) + hits * from_here(hits / rows) - from_here(hits * above / rows**2)
    terms = np.empty(n)
    terms[order] = area + change * n / hits.sum()
    return terms


def rank_support(truth: np.ndarray, classes: int) -> float:
    """Rows that a rank metric rests on: about those of the smaller side, the classes' together for more than two."""
    sizes = np.bincount(truth, minlength=classes).astype(float)
    sizes = sizes[1:] if classes == 2 else sizes[sizes > 0]
    if not (sizes > 0).all() or (sizes == len(truth)).any():
        return float("nan")
    return float(len(sizes) / np.sqrt((1 / sizes**2 + 1 / (len(truth) - sizes) ** 2).sum()))


# ── the table ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Metric:
    """A metric: a number from 0 to `high`, from `counts` or from `rows`."""

    label: str
    counts: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray] | None = None
    rows: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None  # truth (n,), probabilities (n, k) → (n, f)
    combine: Callable[[np.ndarray], np.ndarray] = lambda means: means[0]  # mean terms (f, ...) → (...)
    lower_is_better: bool = False
    percent: bool = True  # shown in per cent, its differences in points
    high: float = 1.0
    skewed: bool = False  # a mean of terms with a long tail
    over_classes: bool = False  # a mean over classes, judged or not
    ranked: bool = False  # its terms are pseudo-values
    right_or_wrong: bool = False  # the share of rows that are right: the paired test is exact
    chance: Callable[[np.ndarray, int, np.random.Generator], float] | None = None  # what a perfect model may show
    brief: bool = False  # in the table of a run, where there is room for few
    hub: str = ""  # its name among Hugging Face's metrics

    @property
    def sign(self) -> int:
        """1 where higher is better, −1 where lower is."""
        return -1 if self.lower_is_better else 1


METRICS: dict[str, Metric] = {
    "accuracy": Metric("accuracy", accuracy, right_or_wrong=True, brief=True, hub="accuracy"),
    "macro_f1": Metric("macro F1", macro_f1, over_classes=True, brief=True, hub="f1"),
    "weighted_f1": Metric("weighted F1", weighted_f1, brief=True, hub="f1"),
    "balanced_accuracy": Metric("balanced accuracy", balanced_accuracy, over_classes=True, brief=True),
    "precision": Metric("macro precision", macro_precision, over_classes=True, hub="precision"),
    "recall": Metric("macro recall", macro_recall, over_classes=True, hub="recall"),
    "roc_auc": Metric("ROC AUC", rows=_ranked(roc_area), ranked=True, over_classes=True, percent=False, hub="roc_auc"),
    "average_precision": Metric(
        "average precision", rows=_ranked(precision_area), ranked=True, over_classes=True, percent=False
    ),
    "log_loss": Metric(
        "log loss",
        rows=log_losses,
        skewed=True,
        high=np.inf,
        lower_is_better=True,
        percent=False,
        brief=True,
        hub="log_loss",
    ),
    "brier": Metric("Brier score", rows=brier_scores, skewed=True, high=2.0, lower_is_better=True, percent=False),
    "ece": Metric(
        "expected calibration error",
        rows=confidence_gaps,
        combine=lambda means: np.abs(means).sum(0),
        chance=gap_by_chance,
        lower_is_better=True,
        percent=False,
        brief=True,
    ),
}
ALWAYS = ("accuracy", "macro_f1")  # shown and paired whichever metric is named


def with_usual(metric: str) -> tuple[str, ...]:
    """`metric` and those that are shown whichever is named, each once."""
    return tuple(dict.fromkeys((metric, *ALWAYS)))


def metric_for(name: str, truth: np.ndarray) -> Metric:
    """The metric of that name, for rows of truth (n,).

    Raises UserError, naming all, if there is none, or if it is not defined on these rows.
    """
    metric = choose(METRICS, name, "metric")
    if metric.ranked and len(np.unique(truth)) < 2:
        raise UserError(f"--metric {name}: not defined where all judged rows have one class; choose another metric")
    return metric


# ── scores ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def scores(
    truth: np.ndarray,
    proba: np.ndarray,
    class_names: Iterable[Any],
    threshold: float | None = None,
    names: Iterable[str] = METRICS,
) -> dict[str, Any]:
    """Metrics `names` of truth (n,) and probabilities (n, k), labels by `threshold` if there is one; rows, classes.

    `precision` and `recall` are macro means; macro means go over the classes that occur in truth or prediction, as
    scikit-learn's do. `balanced_accuracy` is the mean recall over the classes in truth. `brier` is the sum of squared
    differences over all classes (0 to 2), halved for two classes so that it is the usual binary score (0 to 1).
    `ece` is the expected calibration error of the predicted class in 15 bins of equal width (Guo et al. 2017).
    `roc_auc` and `average_precision` are those of the second of two classes, else means of each class in truth against
    the rest; None where truth holds one class alone.

    Raises UserError if there are no rows, or if a probability is not a finite number.
    """
    truth, proba = np.asarray(truth, np.int64), np.asarray(proba, np.float64)
    n, k = proba.shape
    if n == 0:
        raise UserError("no labelled rows to score; check the split")
    if not np.isfinite(proba).all():
        raise UserError("a model gave probabilities that are not finite numbers; the run cannot be scored")
    table = confusion(truth, decide(proba, threshold), k)
    hit, predicted, true = np.diag(table).astype(float), table.sum(0), table.sum(1)

    def value(metric: Metric) -> float | None:
        if metric.counts:
            return float(metric.counts(hit, predicted, true))
        assert metric.rows, "a metric is computed from counts or from rows"
        exact = float(metric.combine(metric.rows(truth, proba).mean(0)))
        return min(max(exact, 0.0), metric.high) + 0.0 if np.isfinite(exact) else None  # never −0

    each = _ratio(hit, predicted), _ratio(hit, true), class_f1(hit, predicted, true)
    per_class = {
        str(name): {"precision": float(p), "recall": float(r), "f1": float(f), "rows": int(size)}
        for name, p, r, f, size in zip(class_names, *each, true, strict=True)
    }
    return {"rows": n, **{name: value(METRICS[name]) for name in names}, "per_class": per_class}


# ── words ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def score(metric: str, value: float) -> str:
    """`93.3 %`, or `0.214` for what is no share."""
    return f"{bare(metric, value)} %" if METRICS[metric].percent else bare(metric, value)


def bare(metric: str, value: float) -> str:
    """The same without its unit."""
    return f"{100 * value:.1f}" if METRICS[metric].percent else f"{value:.3f}"


def change(metric: str, value: float, sign: bool = False) -> str:
    """A difference without its unit: `5.3` (points), or `0.021` for what is no share; the minus is a real one."""
    return format_change(100 * value, 1, sign) if METRICS[metric].percent else format_change(value, 3, sign)


def unit(metric: str) -> str:
    return " points" if METRICS[metric].percent else ""
