"""A linear model on vectors as a folder: JSON and safetensors in, probabilities out, nothing but NumPy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import UserError, listed
from ..metrics import decide
from ..run.model import Layout, damaged, is_number, read_model, write_model

LAYOUT = Layout("linear", {"W": "kd", "b": "k", "mean": "d", "scale": "d"}, positive=("scale",))
FIELDS = ("checkpoint_digest", "pooling", "temperature", "threshold")  # of a model, in its JSON
CHUNK = 65536  # rows that are standardised at a time


@dataclass(frozen=True)
class LinearModel:
    """softmax(((X - mean) / scale) Wᵀ + b) over `class_names`, for the vectors of one checkpoint only."""

    W: np.ndarray  # (k, d) float32
    b: np.ndarray  # (k,) float32
    mean: np.ndarray  # (d,) float32
    scale: np.ndarray  # (d,) float32, positive
    class_names: tuple[str, ...]
    checkpoint_digest: str | None = None
    pooling: str = "cls"
    temperature: float = 1.0  # logits are divided by it
    threshold: float | None = None  # two classes: the second from this probability on

    def logits(self, X: np.ndarray) -> np.ndarray:
        """Logits (n, k) float32 of vectors (n, d), before the temperature.

        Raises UserError if the vectors have another width or are not finite.
        """
        X = np.asarray(X)
        if X.ndim != 2 or X.shape[1] != len(self.mean):
            raise UserError(
                f"vectors of shape {X.shape} for a model of width {len(self.mean)}; use its own encoder and --pooling"
            )
        out = np.empty((len(X), len(self.b)), np.float32)
        for start in range(0, len(X), CHUNK):
            rows = (X[start : start + CHUNK].astype(np.float32) - self.mean) / self.scale
            out[start : start + CHUNK] = rows @ self.W.T + self.b
        if not np.isfinite(out).all():
            if np.isfinite(X).all():
                raise UserError("the model's numbers are too large to compute with: it is damaged; fit it again")
            raise UserError("vectors hold numbers that are not finite; verify the store with `cache verify`")
        return out

    def proba(self, X: np.ndarray) -> np.ndarray:
        """Probabilities (n, k) float32 of vectors (n, d); rows sum to 1."""
        return softmax(self.logits(X) / np.float32(self.temperature))

    def labels(self, proba: np.ndarray) -> np.ndarray:
        """Class numbers (n,) of probabilities (n, k): the likeliest, or by the threshold if the model has one."""
        return decide(proba, self.threshold)

    def check(self, checkpoint_digest: str | None, class_names: tuple[str, ...] | None = None) -> LinearModel:
        """This model, if it belongs to that checkpoint and those classes.

        Raises UserError otherwise.
        """
        if checkpoint_digest is not None and checkpoint_digest != self.checkpoint_digest:
            raise UserError(
                f"the model was fitted on vectors of checkpoint {self.checkpoint_digest}, these are of "
                f"{checkpoint_digest}; use the encoder and pooling it was fitted on, or fit again"
            )
        if class_names is not None and tuple(class_names) != self.class_names:
            raise UserError(
                f"the model knows the classes {listed(self.class_names)}, the data has {listed(class_names)}; fit again"
            )
        return self

    def save(self, folder: Path) -> None:
        """Write `model.json` and `model.safetensors` into `folder`."""
        write_model(folder, LAYOUT, self, **{name: getattr(self, name) for name in FIELDS})

    @classmethod
    def load(
        cls,
        folder: Path | str,
        checkpoint_digest: str | None = None,
        class_names: tuple[str, ...] | None = None,
    ) -> LinearModel:
        """Read a model; with `checkpoint_digest` or `class_names`, only one that belongs to them.

        Raises UserError if a file is missing, damaged, too large or not what it says, and if `check` refuses.
        """
        record, values = read_model(folder, LAYOUT)
        with damaged(folder):
            model = cls(**values, **_fields(record))
        return model.check(checkpoint_digest, class_names)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Row-wise softmax of (n, k), in the dtype given."""
    out: np.ndarray = np.exp(logits - logits.max(1, keepdims=True))
    out /= out.sum(1, keepdims=True)
    return out


def _fields(record: dict[str, Any]) -> dict[str, Any]:
    """The fields of a model that live in its JSON, with their types checked."""
    digest, pooling, temperature, threshold = (record[name] for name in FIELDS)
    if not (digest is None or isinstance(digest, str)) or not isinstance(pooling, str):
        raise ValueError("checkpoint_digest and pooling are not strings")
    if not is_number(temperature) or temperature <= 0:
        raise ValueError("temperature is not a positive number")
    if threshold is not None and not (is_number(threshold) and 0 <= threshold <= 1 and len(record["class_names"]) == 2):
        raise ValueError("threshold is not a probability between two classes")
    return {
        "checkpoint_digest": digest,
        "pooling": pooling,
        "temperature": float(temperature),
        "threshold": None if threshold is None else float(threshold),
    }
