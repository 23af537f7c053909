"""A linear model on vectors as a folder: JSON and safetensors in, probabilities out, nothing but NumPy.

The folder may come from a stranger: it is parsed, measured and bounded before anything is allocated, and no part of
it is ever executed or used as a path.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import UserError, listed
from pipeline.metrics import decide

FORMAT = 1
LARGEST = 2**30  # bytes of a model file that are read; a linear model of 150 classes x 8,192 columns has 5 MB
ARRAYS = ("W", "b", "mean", "scale")
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
        from safetensors.numpy import save_file

        arrays = {name: np.ascontiguousarray(getattr(self, name), np.float32) for name in ARRAYS}
        save_file(arrays, Path(folder) / "model.safetensors")
        record = {
            "format": FORMAT,
            "kind": "linear",
            "class_names": list(self.class_names),
            "checkpoint_digest": self.checkpoint_digest,
            "pooling": self.pooling,
            "temperature": self.temperature,
            "threshold": self.threshold,
        }
        (Path(folder) / "model.json").write_text(json.dumps(record, indent=1, ensure_ascii=False), "utf-8")

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
        folder = Path(folder)
        record = read_record(folder / "model.json", "linear")
        arrays = read_arrays(folder / "model.safetensors", dict.fromkeys(ARRAYS, ("F32",)))
        try:
            values: dict[str, Any] = {**arrays, **_fields(record)}
            model = cls(**values)
            k, d = len(model.class_names), len(model.mean)
            shapes = {"W": (k, d), "b": (k,), "mean": (d,), "scale": (d,)}
            wrong = [name for name, shape in shapes.items() if getattr(model, name).shape != shape]
            if wrong or k < 2:
                raise ValueError(f"{listed(wrong) or 'class_names'}: shapes do not fit together")
            bad = [name for name in ARRAYS if not np.isfinite(getattr(model, name)).all()]
            if bad or not (model.scale > 0).all():
                raise ValueError(f"{listed(bad) or 'scale'}: not finite, or not positive")
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{folder}: damaged model ({error}); fit it again") from error
        return model.check(checkpoint_digest, class_names)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Row-wise softmax of (n, k), in the dtype given."""
    out = np.exp(logits - logits.max(1, keepdims=True))
    out /= out.sum(1, keepdims=True)
    return out


def _fields(record: dict[str, Any]) -> dict[str, Any]:
    """The fields of a model that live in its JSON, with their types checked."""
    names, digest, pooling = record["class_names"], record["checkpoint_digest"], record["pooling"]
    temperature, threshold = record["temperature"], record["threshold"]
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise ValueError("class_names is not a list of strings")
    if not (digest is None or isinstance(digest, str)) or not isinstance(pooling, str):
        raise ValueError("checkpoint_digest and pooling are not strings")
    if not _number(temperature) or temperature <= 0:
        raise ValueError("temperature is not a positive number")
    if threshold is not None and not (_number(threshold) and 0 <= threshold <= 1 and len(names) == 2):
        raise ValueError("threshold is not a probability between two classes")
    return {
        "class_names": tuple(names),
        "checkpoint_digest": digest,
        "pooling": pooling,
        "temperature": float(temperature),
        "threshold": None if threshold is None else float(threshold),
    }


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


# ── files from anywhere ─────────────────────────────────────────────────────────────────────────────────────────────


def kind_at(folder: Path | str) -> str:
    """What kind of model a folder says it holds. Raises UserError if it does not say so."""
    path = Path(folder) / "model.json"
    try:
        return str(json.loads(_bytes(path))["kind"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: damaged model ({str(error)[:120]}); fit it again") from error


def read_record(path: Path, kind: str) -> dict[str, Any]:
    """The JSON object at `path`, of this format and kind.

    Raises UserError if it is not there or not that.
    """
    try:
        record = json.loads(_bytes(path))
        if not isinstance(record, dict) or record.get("kind") != kind or record.get("format") != FORMAT:
            raise ValueError(f"not a '{kind}' model of format {FORMAT}")
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: damaged model ({str(error)[:120]}); fit it again") from error
    return record


def read_arrays(path: Path, wanted: dict[str, tuple[str, ...]]) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file: exactly those `wanted`, each of one of its dtypes.

    The header is checked against the file's length before any array is made, so that no claimed shape costs memory.

    Raises UserError if anything is missing, additional or does not fit.
    """
    payload = _bytes(path)
    try:
        return _parse(payload, wanted)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError, struct.error) as error:
        raise UserError(f"{path}: damaged model ({str(error)[:120]}); fit it again") from error


DTYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "I64": np.dtype("<i8")}


def _parse(payload: bytes, wanted: dict[str, tuple[str, ...]]) -> dict[str, np.ndarray]:
    (length,) = struct.unpack_from("<Q", payload)
    if length > len(payload) - 8:
        raise ValueError("truncated header")
    header = json.loads(payload[8 : 8 + length])
    if not isinstance(header, dict):
        raise ValueError("no header")
    header.pop("__metadata__", None)
    if set(header) != set(wanted):
        raise ValueError(f"arrays {listed(sorted(map(repr, header))[:9])} instead of {listed(wanted)}")
    body, out = memoryview(payload)[8 + length :], {}
    for name, dtypes in wanted.items():
        entry = header[name]
        kind, shape, (start, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        if kind not in dtypes:
            raise ValueError(f"{name}: dtype {kind} instead of {listed(dtypes)}")
        if not all(type(v) is int and v >= 0 for v in (*shape, start, end)) or len(shape) > 2:
            raise ValueError(f"{name}: impossible shape")
        if end > len(body) or end - start != math.prod(shape) * DTYPES[kind].itemsize:
            raise ValueError(f"{name}: shape and bytes do not fit")
        out[name] = np.frombuffer(body[start:end], DTYPES[kind]).reshape(shape).copy()
    return out


def _bytes(path: Path) -> bytes:
    """The whole of a regular file of bounded size."""
    try:
        if not path.is_file():
            raise UserError(f"{path}: no such file; this is not the folder of a model")
        if path.stat().st_size > LARGEST:
            raise UserError(f"{path}: larger than {LARGEST >> 20} MiB; not a model of this program")
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
