"""Logistic regression on frozen vectors as a run: found if it has been fitted, else tuned, fitted, costed and saved."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import Progress, UserError, silent
from pipeline.data.splits import normalize_whitespace
from pipeline.linear.calibrate import calibration
from pipeline.linear.folds import equal
from pipeline.linear.probe import LinearModel, softmax
from pipeline.linear.tune import LinearSettings, Vectors, check, choose_pooling, f1_both, fit, pooled
from pipeline.memory import forget_peak, peak_rss_mb
from pipeline.run import Cost, Predictions, Run, digest, find, run_folder, save

__all__ = ["EncodingFacts", "LinearModel", "LinearSettings", "fit_lr", "kind_of"]


@dataclass(frozen=True)
class EncodingFacts:
    """What encoding cost, known to the caller; None where it was not measured."""

    extract_seconds: float | None = None
    encoder_mb: float | None = None
    ms_per_text_batch: float | None = None
    ms_per_text_single: float | None = None


def kind_of(settings: LinearSettings) -> str:
    """The contender's name: `lr`, `lr+smote`, …"""
    return "lr" if settings.imbalance == "none" else f"lr+{settings.imbalance}"


def fit_lr(
    vectors: Mapping[str, Vectors],
    dataset: Any,
    checkpoint_digest: str | Callable[[str], str],
    extra_settings: Mapping[str, Any],
    settings: LinearSettings,
    runs: Path,
    facts: EncodingFacts = EncodingFacts(),
    progress: Progress = silent,
) -> Run:
    """The run of a logistic regression on `vectors` (role -> (n, d)): found if it has been fitted, else fitted.

    With several poolings a role (role -> pooling -> (n, d)) the one with the lowest out-of-fold log loss, or all of
    them side by side, is chosen first; `checkpoint_digest` is then a function of the pooling's name.

    Raises UserError for an unknown setting, a train split with one class, and rows beyond what memory holds.
    """
    started, worked = time.perf_counter(), time.process_time()
    check(settings, len(dataset.class_names))
    pooling = str(extra_settings.get("pooling", "cls"))
    several = vectors["train"] if isinstance(vectors["train"], Mapping) else None
    digest_of = checkpoint_digest if callable(checkpoint_digest) else lambda name: str(checkpoint_digest)
    identity = digest([digest_of(name) for name in sorted(several)]) if several else digest_of(pooling)
    asked = {**asdict(settings), **extra_settings}
    folder = run_folder(runs, dataset.name, dataset.digest, kind_of(settings), asked, identity, settings.seed)
    if (old := find(folder)) is not None:
        return old
    forget_peak()
    train = dataset.train
    labels = np.asarray(train.labels, np.int64)
    if len(labels) and labels.min() < 0:
        raise UserError(f"{train.name}: rows without a label cannot be learnt from; choose another --train")
    groups = equal(map(normalize_whitespace, train.texts))  # as the splits have it
    history: list[dict[str, Any]] = []
    if several:
        pooling, history = choose_pooling(several, labels, groups, dataset.class_names, settings, progress)
    matrices = {role: pooled(given, pooling) for role, given in vectors.items()}
    for role, matrix in matrices.items():
        _check_rows(matrix, getattr(dataset, role), role)
    fitted = fit(matrices["train"], labels, groups, dataset.class_names, settings, progress)
    model = replace(fitted.model, checkpoint_digest=digest_of(pooling), pooling=pooling)
    fit_seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - worked
    predictions = _predictions(model, matrices, dataset, fitted.proba)
    run = Run(
        kind=kind_of(settings),
        settings=asked,
        class_names=tuple(dataset.class_names),
        predictions=predictions,
        cost=_cost(model, matrices, facts, fit_seconds, cpu_seconds),
        dataset=dataset.name,
        dataset_digest=dataset.digest,
        checkpoint_digest=model.checkpoint_digest,
        seed=settings.seed,
        seconds=time.perf_counter() - started,
        history=[*history, *fitted.history, *_held_out_facts(model, predictions)],
        notes=fitted.notes,
        threshold=model.threshold,
    )
    return save(run, folder, model.save)


def _check_rows(matrix: np.ndarray, part: Any, role: str) -> None:
    """Raises UserError if a split's vectors are not finite; as many vectors as rows is our own affair."""
    assert matrix.shape[:-1] == (len(part.labels),), f"{role}: a vector a row"
    if not np.isfinite(matrix.sum(0, dtype=np.float64)).all():
        raise UserError(
            f"{part.name}: vectors hold numbers that are not finite; run `cache verify`, then extract again"
        )


def _predictions(
    model: LinearModel, matrices: Mapping[str, np.ndarray], dataset: Any, out_of_fold: np.ndarray
) -> dict[str, Predictions]:
    """Predictions of every labelled role; of train those of the folds."""
    found = {}
    for role, matrix in matrices.items():
        part = getattr(dataset, role)
        truth = np.asarray(part.labels, np.int64)
        if len(truth) and truth.min() >= 0:
            proba = out_of_fold if role == "train" else model.proba(matrix)
            found[role] = Predictions(part.name, np.asarray(part.row_ids), truth, proba, model.threshold)
    return found


def _cost(
    model: LinearModel,
    matrices: Mapping[str, np.ndarray],
    facts: EncodingFacts,
    fit_seconds: float,
    cpu_seconds: float,
) -> Cost:
    """What fitting took, and prediction with the encoder's share added; None stays None."""
    sample = matrices["train"][:1024]
    batch = timed(lambda: model.proba(sample)) / len(sample)
    single = timed(lambda: model.proba(sample[:1]))
    size = sum(getattr(model, name).nbytes for name in ("W", "b", "mean", "scale")) / 1e6
    return Cost(
        fit_seconds=fit_seconds,
        extract_seconds=facts.extract_seconds,
        cpu_seconds=cpu_seconds,
        peak_rss_mb=peak_rss_mb(),
        trained_parameters=trained_parameters(model),
        model_mb=None if facts.encoder_mb is None else facts.encoder_mb + size,
        ms_per_text_batch=_plus(facts.ms_per_text_batch, batch),
        ms_per_text_single=_plus(facts.ms_per_text_single, single),
    )


def trained_parameters(model: LinearModel) -> int:
    """Numbers that were learnt: two classes have one row of weights, the other is zero."""
    rows = 1 if len(model.b) == 2 else len(model.b)
    return rows * (model.W.shape[1] + 1)


def _plus(encode: float | None, predict: float) -> float | None:
    return None if encode is None else encode + predict


def timed(call: Callable[[], Any], times: int = 5) -> float:
    """Median milliseconds of `call`."""
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        call()
        taken.append(1e3 * (time.perf_counter() - started))
    return float(np.median(taken))


def _held_out_facts(model: LinearModel, predictions: Mapping[str, Predictions]) -> list[dict[str, Any]]:
    """What the threshold gives on each split, and calibration before and after the temperature."""
    facts: list[dict[str, Any]] = []
    for role, p in predictions.items():
        if role == "train":
            continue
        if model.threshold is not None:
            facts.append({"what": "threshold", "role": role, **f1_both(p.truth, p.proba, model.threshold)})
        if model.temperature != 1:
            before = softmax(np.log(np.maximum(p.proba, 1e-30)) * model.temperature)
            both = {"before": calibration(p.truth, before), "after": calibration(p.truth, p.proba)}
            facts.append({"what": "temperature", "role": role, "temperature": model.temperature, **both})
    return facts
