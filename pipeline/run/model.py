"""A model as a folder: JSON and safetensors, one writer and one reader for every kind that is a few arrays.

The folder may come from a stranger: it is parsed, measured and bounded before anything is allocated, and no part of
it is ever executed or used as a path.
"""

from __future__ import annotations

import contextlib
import json
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .. import UserError, listed
from ..files import disk_errors
from ..words import error_line

FORMAT = 1
LARGEST = 2**30  # bytes of a model file that are read; a linear model of 150 classes x 8,192 columns has 5 MB
FILE, ARRAYS = "model.json", "model.safetensors"


@dataclass(frozen=True)
class Layout:
    """What a kind of model is made of: arrays of float32, and lists of strings that say how long some of them are.

    A shape is a letter a dimension, the same letter the same length: `{"W": "kd", "b": "k"}`; k counts the classes.
    """

    kind: str
    arrays: Mapping[str, str] = field(default_factory=dict)  # name → shape
    positive: tuple[str, ...] = ()  # arrays without a zero or a minus
    lists: Mapping[str, str] = field(
        default_factory=lambda: {"k": "class_names"}
    )  # letter → field with so many strings


def write_model(folder: Path, layout: Layout, model: Any, **facts: Any) -> None:
    """Write the arrays and lists of `model` (its attributes) and more `facts` into `folder`."""
    from safetensors.numpy import save_file

    if layout.arrays:
        arrays = {name: np.ascontiguousarray(getattr(model, name), np.float32) for name in layout.arrays}
        save_file(arrays, Path(folder) / ARRAYS)
    record = {"format": FORMAT, "kind": layout.kind}
    record |= {name: list(getattr(model, name)) for name in layout.lists.values()}
    (Path(folder) / FILE).write_text(json.dumps(record | facts, ensure_ascii=False), "utf-8", "surrogatepass")


def read_model(folder: Path | str, layout: Layout) -> tuple[dict[str, Any], dict[str, Any]]:
    """The whole record of a model, and its arrays and lists (as tuples) by name.

    Raises UserError if a file is missing, damaged, too large or not what it says.
    """
    folder = Path(folder)
    record = read_record(folder / FILE, layout.kind)
    arrays = read_arrays(folder / ARRAYS, dict.fromkeys(layout.arrays, ("F32",))) if layout.arrays else {}
    with damaged(folder):
        lists = {name: _strings(record, name) for name in layout.lists.values()}
        sizes = {letter: len(lists[name]) for letter, name in layout.lists.items()}
        if sizes.get("k", 2) < 2:
            raise ValueError("class_names: fewer than two")
        for name, shape in layout.arrays.items():
            array = arrays[name]
            if array.ndim != len(shape) or any(
                sizes.setdefault(letter, length) != length for letter, length in zip(shape, array.shape, strict=True)
            ):
                raise ValueError(f"{name}: shapes do not fit together")
            if not np.isfinite(array).all() or (name in layout.positive and not (array > 0).all()):
                raise ValueError(f"{name}: not finite, or not positive")
    return record, arrays | lists


@contextlib.contextmanager
def damaged(folder: Path | str) -> Iterator[None]:
    """Whatever is wrong with a stranger's values, as one line that says so."""
    try:
        yield
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError, struct.error) as error:
        raise UserError(f"{folder}: damaged model ({error_line(error, 120)}); fit it again") from error


def _strings(record: Mapping[str, Any], name: str) -> tuple[str, ...]:
    values = record[name]
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError(f"{name} is not a list of strings")
    return tuple(values)


def is_number(value: Any) -> bool:
    """Whether a value of a record is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


# ── files from anywhere ─────────────────────────────────────────────────────────────────────────────────────────────


def kind_at(folder: Path | str) -> str:
    """What kind of model a folder says it holds. Raises UserError if it does not say so."""
    path = Path(folder) / FILE
    with damaged(path):
        return str(json.loads(_bytes(path))["kind"])


def read_record(path: Path, kind: str) -> dict[str, Any]:
    """The JSON object at `path`, of this format and kind.

    Raises UserError if it is not there or not that.
    """
    with damaged(path):
        record = json.loads(_bytes(path))
        if not isinstance(record, dict) or record.get("kind") != kind or record.get("format") != FORMAT:
            raise ValueError(f"not a '{kind}' model of format {FORMAT}")
        return record


def read_arrays(path: Path, wanted: dict[str, tuple[str, ...]]) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file: exactly those `wanted`, each of one of its dtypes.

    The header is checked against the file's length before any array is made, so that no claimed shape costs memory.

    Raises UserError if anything is missing, additional or does not fit.
    """
    with damaged(path):
        return _parse(_bytes(path), wanted)


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
    with disk_errors(path, "cannot be read", "check its permissions"):
        if not path.is_file():
            raise UserError(f"{path}: no such file; this is not the folder of a model")
        if path.stat().st_size > LARGEST:
            raise UserError(f"{path}: larger than {LARGEST >> 20} MiB; not a model of this program")
        return path.read_bytes()
