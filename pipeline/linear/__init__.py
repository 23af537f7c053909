"""Logistic regression on frozen vectors as a run: loaded if it exists, else tuned, fitted, costed and saved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import Progress, UserError, silent
from ..data.splits import normalize_whitespace
from ..run import Cost, Fit, Fitted, Predictions, Question, Run
from ..run.timing import timed
from .calibrate import calibration
from .folds import equal
from .probe import LinearModel, softmax
from .tune import LinearSettings, Vectors, check, choose_pooling, f1_both, fit, pooled

__all__ = ["Encoded", "EncodingFacts", "LinearModel", "LinearSettings", "fit_lr", "kind_of", "linear_fit"]


@dataclass(frozen=True)
class EncodingFacts:
    """What encoding cost, known to the caller; None where it was not measured."""

    extract_seconds: float | None = None
    encoder_mb: float | None = None
    ms_per_text_batch: float | None = None
    ms_per_text_single: float | None = None


def kind_of(settings: LinearSettings, pooling: str = "") -> str:
    """The contender: `lr`, `lr+smote`, `lr+imbalance-auto`, …, and `lr+auto` where the folds choose the pooling."""
    if settings.imbalance == "none":
        return "lr+auto" if pooling == "auto" else "lr"
    return "lr+imbalance-auto" if settings.imbalance == "auto" else f"lr+{settings.imbalance}"


VECTOR_DEFAULTS = {"storage": "float32", "calibration": None, "text_parts": 1}  # of what a run says of its vectors


@dataclass(frozen=True, eq=False)
class Encoded:
    """Vectors of a data set, made when they are wanted, and what a run on them says of them."""

    vectors: Callable[[], Mapping[str, Vectors]]  # role → (n, d); with pooling 'auto' role → pooling → (n, d)
    checkpoint_digest: str | Mapping[str, str]  # with pooling 'auto' those of each pooling, and of both side by side
    settings: Mapping[str, Any] = field(default_factory=dict)  # encoder, pooling, engine, precision, …
    facts: Callable[[str], EncodingFacts] = lambda _: EncodingFacts()  # of the pooling that was chosen
    calibrated: Callable[[], Mapping[str, Any]] = dict  # settings that are known once the vectors are made, int8's

    @property
    def pooling(self) -> str:
        return str(self.settings.get("pooling", "cls"))

    @property
    def digests(self) -> tuple[str, ...]:
        """Of the checkpoints that a run on these vectors may belong to."""
        digest = self.checkpoint_digest
        return (digest,) if isinstance(digest, str) else tuple(dict.fromkeys(digest.values()))

    def digest_of(self, pooling: str) -> str:
        digest = self.checkpoint_digest
        return digest if isinstance(digest, str) else digest[pooling]

    def around(self, folder: Path) -> AbstractContextManager[Mapping[str, Vectors]]:
        """The vectors, made before a fit's clock starts."""
        return nullcontext(self.vectors())


def linear_fit(encoded: Encoded, dataset: Any, settings: LinearSettings, runs: Path, progress: Progress) -> Fit:
    """The fit of a logistic regression on vectors of `dataset`.

    Raises UserError for an unknown setting.
    """
    check(settings, len(dataset.class_names))
    question = Question(
        kind_of(settings, encoded.pooling),
        dataset,
        runs,
        settings.seed,
        {**asdict(settings), **encoded.settings},
        asdict(LinearSettings()) | VECTOR_DEFAULTS,
        encoded.digests,
    )

    def learn(vectors: Mapping[str, Vectors]) -> Fitted:
        train, given = dataset.train, vectors["train"]
        labels = np.asarray(train.labels, np.int64)
        if len(labels) and labels.min() < 0:
            raise UserError(f"{train.name}: rows without a label cannot be learnt from; choose another --train")
        groups = equal(map(normalize_whitespace, train.texts))  # as the splits have it
        pooling, tried = encoded.pooling, list[dict[str, Any]]()
        if isinstance(given, Mapping):
            pooling, tried = choose_pooling(given, labels, groups, dataset.class_names, settings, progress)
        matrices = {role: pooled(matrix, pooling) for role, matrix in vectors.items()}
        for role, matrix in matrices.items():
            _check_rows(matrix, getattr(dataset, role), role)
        fitted = fit(matrices["train"], labels, groups, dataset.class_names, settings, progress)
        model = replace(fitted.model, checkpoint_digest=encoded.digest_of(pooling), pooling=pooling)
        return Fitted(
            proba=lambda role: model.proba(matrices[role]),
            roles=tuple(matrices),
            save=model.save,
            cost=lambda: probe_cost(model, matrices["train"], encoded.facts(pooling), trained_parameters(model)),
            out_of_fold=fitted.proba,
            history=[*tried, *fitted.history],
            notes=fitted.notes,
            threshold=model.threshold,
            checkpoint_digest=model.checkpoint_digest,
            question=replace(question, settings={**question.settings, **encoded.calibrated()}),
            held_out=lambda predictions: _held_out_facts(model, predictions),
        )

    return Fit(question, learn, encoded.around)


def fit_lr(encoded: Encoded, dataset: Any, settings: LinearSettings, runs: Path, progress: Progress = silent) -> Run:
    """The run of a logistic regression on vectors of `dataset`: loaded if it has been fitted, else fitted.

    With several poolings a role (role -> pooling -> (n, d)) the one with the lowest out-of-fold log loss, or all of
    them side by side, is chosen first.

    Raises UserError for an unknown setting, a train split with one class, and rows beyond what memory holds.
    """
    return linear_fit(encoded, dataset, settings, runs, progress).run()


def _check_rows(matrix: np.ndarray, part: Any, role: str) -> None:
    """Raises UserError if a split's vectors are not finite; as many vectors as rows is our affair."""
    assert matrix.shape[:-1] == (len(part.labels),), f"{role}: a vector a row"
    if not np.isfinite(matrix.sum(0, dtype=np.float64)).all():
        raise UserError(
            f"{part.name}: vectors hold numbers that are not finite; run `cache verify`, then extract again"
        )


def probe_cost(model: Any, train: Any, facts: EncodingFacts, trained: int) -> Cost:
    """What prediction with a model on vectors takes, with the encoder's share added; None stays None."""
    sample = np.asarray(train[:1024], np.float32)
    batch = timed(lambda: model.proba(sample)) / len(sample)
    single = timed(lambda: model.proba(sample[:1]))
    size = sum(value.nbytes for value in vars(model).values() if isinstance(value, np.ndarray)) / 1e6
    return Cost(
        extract_seconds=facts.extract_seconds,
        trained_parameters=trained,
        model_mb=_plus(facts.encoder_mb, size),
        ms_per_text_batch=_plus(facts.ms_per_text_batch, batch),
        ms_per_text_single=_plus(facts.ms_per_text_single, single),
    )


def trained_parameters(model: LinearModel) -> int:
    """Numbers that were learnt: two classes have one row of weights, the other is zero."""
    rows = 1 if len(model.b) == 2 else len(model.b)
    return int(rows * (model.W.shape[1] + 1))


def _plus(encode: float | None, predict: float) -> float | None:
    return None if encode is None else encode + predict


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
