"""A torch head trained on cached vectors: the encoder is run once, however many epochs follow.

The vectors may lie on disk: they are read in slices, a shuffled buffer at a time, so that memory does not grow with
their number. What is saved is JSON and safetensors, and needs NumPy alone to predict.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import Progress, UserError, choose, silent
from ..kinds import KINDS
from ..linear import VECTOR_DEFAULTS, Encoded, probe_cost
from ..linear.probe import LinearModel, softmax
from ..metrics import scores
from ..run import Fit, Fitted, Question
from ..run.model import Layout, kind_at, read_model, write_model
from .device import threads
from .heads import isolated, xavier
from .training import FineTuneSettings, balanced_weights, epochs_of, steps_asked

if TYPE_CHECKING:
    from ..data import Dataset

LAYOUT = Layout(
    "frozen-head", {"mean": "d", "scale": "d", "A": "dd", "a": "d", "B": "kd", "b": "k"}, positive=("scale",)
)
RATE = KINDS["frozen-head"].learning_rate or 1e-3  # Adam's
BLOCK, BLOCKS = 1024, 64  # rows read at once, and how many such blocks are shuffled together
CHUNK = 16384  # rows that are standardised at a time where nothing is shuffled
SMALL = 5e7  # multiply-adds a step below which a second thread costs more than it helps


@dataclass(frozen=True)
class FrozenHead:
    """softmax(relu(x Aᵀ + a) Bᵀ + b), x standardised: what DistilBERT has on top, on vectors of one checkpoint only."""

    A: np.ndarray  # (d, d) float32
    a: np.ndarray  # (d,) float32
    B: np.ndarray  # (k, d) float32
    b: np.ndarray  # (k,) float32
    mean: np.ndarray  # (d,) float32
    scale: np.ndarray  # (d,) float32, positive
    class_names: tuple[str, ...]
    checkpoint_digest: str | None = None
    pooling: str = "cls"

    def proba(self, X: np.ndarray) -> np.ndarray:
        """Probabilities (n, k) float32 of vectors (n, d); rows sum to 1.

        Raises UserError if the vectors have another width.
        """
        if X.ndim != 2 or X.shape[1] != len(self.mean):
            raise UserError(
                f"vectors of shape {X.shape} for a head of width {len(self.mean)}; use its own encoder and --pooling"
            )
        out = np.empty((len(X), len(self.b)), np.float32)
        for start in range(0, len(X), CHUNK):
            rows = (X[start : start + CHUNK].astype(np.float32) - self.mean) / self.scale
            out[start : start + CHUNK] = np.maximum(rows @ self.A.T + self.a, 0) @ self.B.T + self.b
        return softmax(out)

    def save(self, folder: Path) -> None:
        """Write the model into `folder`."""
        write_model(folder, LAYOUT, self, checkpoint_digest=self.checkpoint_digest, pooling=self.pooling)

    @classmethod
    def load(cls, folder: Path | str) -> FrozenHead:
        """Read a head.

        Raises UserError if a file is missing, damaged or not what it says.
        """
        record, values = read_model(folder, LAYOUT)
        return cls(**values, checkpoint_digest=record.get("checkpoint_digest"), pooling=str(record.get("pooling")))


def load_frozen(folder: Path | str) -> FrozenHead | LinearModel:
    """The head in a run's model folder; a linear one is the same model that a logistic regression is.

    Raises UserError if it is damaged.
    """
    return LinearModel.load(folder) if kind_at(folder) == "linear" else FrozenHead.load(folder)


# ── heads on standardised vectors ───────────────────────────────────────────────────────────────────────────────────


def _linear(dim: int, classes: int, dropout: float) -> Any:
    from torch import nn

    return nn.Sequential(nn.Dropout(dropout), nn.Linear(dim, classes))


def _standard(dim: int, classes: int, dropout: float) -> Any:
    from torch import nn

    return nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Dropout(dropout), nn.Linear(dim, classes))


FROZEN_HEADS: dict[str, tuple[Callable[[int, int, float], Any], float]] = {  # name → (module, default dropout)
    "linear": (_linear, 0.0),
    "standard": (_standard, 0.1),
}


def _model(head: Any, mean: np.ndarray, scale: np.ndarray, class_names: tuple[str, ...]) -> FrozenHead | LinearModel:
    """The trained torch head as what is saved."""
    arrays = [p.detach().numpy().copy() for p in head.parameters()]
    make: Callable[..., FrozenHead | LinearModel] = LinearModel if len(arrays) == 2 else FrozenHead
    return make(*arrays, mean, scale, class_names)


# ── rows, out of core ───────────────────────────────────────────────────────────────────────────────────────────────


def moments(X: Any) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of every column, each (d,) float32, of (n, d) read in slices; 1 for a constant."""
    count, mean, square = 0, np.zeros(1), np.zeros(1)
    for start in range(0, len(X), CHUNK):
        rows = np.asarray(X[start : start + CHUNK], np.float64)
        chunk_mean, total = rows.mean(0), count + len(rows)
        shift = chunk_mean - mean
        square = square + ((rows - chunk_mean) ** 2).sum(0) + shift**2 * (count * len(rows) / total)
        mean, count = mean + shift * (len(rows) / total), total
    scale = np.sqrt(square / max(1, count))
    return mean.astype(np.float32), np.where(scale > 1e-12, scale, 1).astype(np.float32)


def buffers(rows: int, random: np.random.Generator) -> Iterator[list[slice]]:
    """Every row once: blocks of neighbours in random order, in groups small enough to be shuffled in memory."""
    starts = random.permutation(np.arange(0, rows, BLOCK))
    for first in range(0, len(starts), BLOCKS):
        yield [slice(int(start), int(min(start + BLOCK, rows))) for start in starts[first : first + BLOCKS]]


def minibatches(
    X: Any, labels: np.ndarray, size: int, random: np.random.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Shuffled (b, d) float32 and (b,) until every row has been seen once."""
    for slices in buffers(len(X), random):
        rows = np.concatenate([np.asarray(X[part], np.float32) for part in slices])
        truth = np.concatenate([labels[part] for part in slices])
        order = random.permutation(len(rows))
        for start in range(0, len(rows), size):
            places = order[start : start + size]
            yield rows[places], truth[places]


# ── the run ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def frozen_fit(
    encoded: Encoded, dataset: Dataset, settings: FineTuneSettings, runs: Path, progress: Progress = silent
) -> Fit:
    """The fit of a head on vectors of `dataset`.

    Raises UserError for a head that there is not.
    """
    choose(FROZEN_HEADS, settings.head, "head for a frozen encoder")
    question = Question(
        "frozen-head",
        dataset,
        runs,
        settings.seed,
        {**_asked(settings), **steps_asked(settings, len(dataset.class_names)), **encoded.settings},
        _asked(FineTuneSettings(freeze=True)) | VECTOR_DEFAULTS,
        encoded.digests,
    )

    def learn(vectors: Mapping[str, Any]) -> Fitted:
        labels = {role: np.asarray(getattr(dataset, role).labels, np.int64) for role in vectors}
        model, history, trained = fit_head(vectors, labels, tuple(dataset.class_names), settings, progress)
        digest = encoded.digest_of(encoded.pooling)
        model = replace(model, checkpoint_digest=digest, pooling=encoded.pooling)
        return Fitted(
            proba=lambda role: _proba(model, vectors[role]),
            roles=tuple(role for role in ("validation", "test") if role in vectors),
            save=model.save,
            cost=lambda: probe_cost(model, vectors["train"], encoded.facts(encoded.pooling), trained),
            history=history,
            checkpoint_digest=digest,
            question=replace(question, settings={**question.settings, **encoded.calibrated()}),
        )

    return Fit(question, learn, encoded.around)


def _asked(settings: FineTuneSettings) -> dict[str, Any]:
    """What a head depends on."""
    counted = {name: value for name, value in asdict(settings).items() if name in DEPENDS}
    return counted | {"learning_rate": settings.learning_rate or RATE, "epochs": settings.epochs or "auto"}


DEPENDS = "epochs batch_size patience label_smoothing class_weights head dropout xavier freeze".split()


def fit_head(
    vectors: Mapping[str, Any],
    labels: Mapping[str, np.ndarray],
    class_names: tuple[str, ...],
    settings: FineTuneSettings,
    progress: Progress = silent,
) -> tuple[Any, list[dict[str, Any]], int]:
    """A trained FrozenHead or LinearModel, its history by epoch, and how many numbers were learnt."""
    train, truth = vectors["train"], labels["train"]
    mean, scale = moments(train)
    if not (np.isfinite(mean).all() and np.isfinite(scale).all()):
        raise UserError("vectors hold numbers that are not finite; run `cache verify`, then extract again")
    make, dropout = FROZEN_HEADS[settings.head]
    few = settings.batch_size * len(mean) ** 2 < SMALL
    best, score, better_epoch, history = None, (-np.inf, -np.inf), 0, []
    epochs = epochs_of(settings, len(truth), len(class_names))
    with isolated(settings.seed), threads(1 if few else None):
        head = make(len(mean), len(class_names), dropout if settings.dropout is None else settings.dropout)
        if settings.xavier:
            xavier([head])
        step = _stepper(head, truth, len(class_names), settings, mean, scale)
        for epoch in range(epochs + 1):
            record: dict[str, Any] = {"epoch": epoch}
            if epoch:
                began, random = time.perf_counter(), np.random.default_rng([settings.seed, epoch])
                head.train()
                losses = [step(*batch) for batch in minibatches(train, truth, settings.batch_size, random)]
                record |= {"loss": float(np.mean(losses)), "seconds": round(time.perf_counter() - began, 3)}
            model = _model(head, mean, scale, class_names)
            if "validation" in vectors:
                names = ("accuracy", "macro_f1", "log_loss")
                scored = scores(labels["validation"], _proba(model, vectors["validation"]), class_names, names=names)
                record["validation"] = {name: scored[name] for name in names}
            history.append(record)
            judged = record.get("validation")  # equal scores are told apart by their log loss
            now = (judged["macro_f1"], -judged["log_loss"]) if judged else (float(epoch), 0.0)
            if epoch and now > score:
                better_epoch = epoch if now[0] > score[0] else better_epoch
                best, score = model, now
            progress("frozen head", epoch, epochs)
            if settings.patience is not None and epoch - better_epoch >= settings.patience:
                break
    assert best is not None
    return best, history, sum(p.numel() for p in head.parameters())


def _stepper(
    head: Any, truth: np.ndarray, classes: int, settings: FineTuneSettings, mean: np.ndarray, scale: np.ndarray
) -> Callable[[np.ndarray, np.ndarray], float]:
    """A function that takes one step of Adam on (b, d), (b,) and returns the loss."""
    import torch

    optimiser = torch.optim.Adam(head.parameters(), lr=settings.learning_rate or RATE, fused=True)
    weights = torch.tensor(balanced_weights(truth, classes), dtype=torch.float32) if settings.class_weights else None

    def step(X: np.ndarray, y: np.ndarray) -> float:
        logits = head(torch.from_numpy((X - mean) / scale))
        loss = torch.nn.functional.cross_entropy(
            logits, torch.from_numpy(y), weights, label_smoothing=settings.label_smoothing
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return float(loss.detach())

    return step


def _proba(model: Any, X: Any) -> np.ndarray:
    """Probabilities (n, k) of vectors read in slices."""
    parts = [model.proba(np.asarray(X[start : start + CHUNK], np.float32)) for start in range(0, len(X), CHUNK)]
    return np.concatenate(parts) if parts else np.zeros((0, len(model.class_names)), np.float32)
