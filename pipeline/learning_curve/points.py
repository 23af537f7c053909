"""Points of a curve as files: what was predicted of test, and how it was fitted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from ..metrics import METRICS
from .results import write

FORMAT = 1


def write_point(path: Path, record: dict[str, Any], proba: np.ndarray) -> None:
    """Keep a point: its probabilities (n, k) of test, and its record beside them, in one file.

    Raises UserError if it cannot be written.
    """
    from safetensors.numpy import save

    arrays = {"proba": np.ascontiguousarray(proba, np.float32)}
    write(path, save(arrays, {"point": json.dumps({"format": FORMAT} | record)}))


def read_point(path: Path, shape: tuple[int, int]) -> dict[str, Any] | None:
    """The record of a point and its `proba` (n, k); None if it is not fitted, or damaged: then it is fitted again."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            record, proba = json.loads(file.metadata()["point"]), file.get_tensor("proba")
        intact = record["format"] == FORMAT and proba.shape == shape and record["seconds"] >= 0
        return record | {"proba": proba} if intact and np.isfinite(proba).all() else None
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        return None


def old_point(path: Path, shape: tuple[int, int], metric: str) -> dict[str, Any] | None:
    """A point that was stored without its probabilities, for a metric that asks for predictions alone."""
    try:
        record = json.loads(path.with_suffix(".json").read_text("utf-8"))
        predicted = np.asarray(record["predicted"])
        intact = record["format"] == FORMAT and len(predicted) == shape[0] and record["seconds"] >= 0
        usable = intact and METRICS[metric].counts is not None
        return record | {"proba": np.eye(shape[1])[predicted]} if usable else None
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None
