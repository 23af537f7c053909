"""One reader for what comes from outside: regular files of a bounded size, JSON checked down to its leaves.

A pipe never ends where nobody writes to it, a device gives bytes without end, and JSON may nest deeper than Python
counts or hold another type at every leaf. All of it is a `UserError` here, within moments.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from . import UserError, one_line
from .files import refusal

MB = 2**20
LARGEST_JSON = 64 * MB  # bytes of a description; rows have readers of their own


def open_regular(path: Path, most: int | None = None) -> BinaryIO:
    """Open a regular file of at most `most` bytes to read bytes from.

    Raises UserError for what is no regular file (never waiting for one) or too large, and OSError like `open`.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            kind = next((name for is_kind, name in KINDS if is_kind(status.st_mode)), "no file")
            raise UserError(f"{path}: {kind}, not a file that can be read twice; write it to a file first")
        if most is not None and status.st_size > most:
            raise UserError(
                f"{path}: {status.st_size / MB:,.0f} MB, at most {most / MB:,.0f} are read; is it the file?"
            )
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


def read_json(path: Path, next_step: str, most: int = LARGEST_JSON) -> Any:
    """What a JSON file holds. Raises UserError, ending in `next_step`, if it is not there or not JSON."""
    try:
        with open_regular(path, most) as file:
            raw = file.read(most + 1)  # it may have grown since it was opened
        return parse_json(raw[:most].decode("utf-8-sig"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; {next_step}") from error
    except OSError as error:
        raise refusal(path, "cannot be read", error, next_step) from error
    except ValueError as error:  # of the decoder or the parser
        raise UserError(f"{path}: damaged, or not valid JSON ({one_line(str(error), 100)}); {next_step}") from error


def parse_json(text: str) -> Any:
    """What JSON says. Raises ValueError for what is none, nests too deeply, or has numbers of thousands of digits."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


# ── shapes ──────────────────────────────────────────────────────────────────────────────────────────────────────────

# A shape is a type (`float` takes integers too, and finite ones alone), None, a tuple of shapes (any of them),
# a list of one shape, a mapping {str: shape} for any keys, or a mapping of names to shapes; those that end in "?" may
# be absent. `object` is anything, `MAY_BE_NAN` a number that need not be finite.
Shape = Any
MAY_BE_NAN = "a number"


def check(value: Any, shape: Shape, where: str) -> None:
    """Raises ValueError, naming the leaf, unless `value` is of that shape."""
    problem = _problem(value, shape, where)
    if problem:
        raise ValueError(problem)


def _problem(value: Any, shape: Shape, where: str) -> str | None:
    if shape is object:
        return None
    if shape is MAY_BE_NAN:
        fine = isinstance(value, int | float) and not isinstance(value, bool)
        return None if fine else _wrong(value, MAY_BE_NAN, where)
    if isinstance(shape, tuple):
        problems = [_problem(value, one, where) for one in shape]
        return None if None in problems else problems[-1]
    if isinstance(shape, list):
        if not isinstance(value, list):
            return _wrong(value, "a list", where)
        return _first(_problem(item, shape[0], f"{where}[{i}]") for i, item in enumerate(value))
    if isinstance(shape, Mapping):
        return _mapping_problem(value, shape, where)
    if shape is None:
        return None if value is None else _wrong(value, "null", where)
    if shape is float:
        fine = isinstance(value, int | float) and not isinstance(value, bool) and _is_finite(value)
        return None if fine else _wrong(value, "a finite number", where)
    if shape is int:
        fine = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
        return None if fine else _wrong(value, "a whole number", where)
    return None if isinstance(value, shape) else _wrong(value, {str: "a string", bool: "true or false"}[shape], where)


def _mapping_problem(value: Any, shape: Mapping[Any, Shape], where: str) -> str | None:
    if not isinstance(value, dict):
        return _wrong(value, "an object", where)
    if set(shape) == {str}:
        return _first(_problem(item, shape[str], f"{where}.{one_line(key, 40)}") for key, item in value.items())
    for name, inner in shape.items():
        plain = name.removesuffix("?")
        if plain in value:
            if problem := _problem(value[plain], inner, f"{where}.{plain}"):
                return problem
        elif plain == name:
            return f"{where} has no '{plain}'"
    return None


def _first(problems: Any) -> str | None:
    return next((problem for problem in problems if problem), None)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond any float
        return False


def _wrong(value: Any, wanted: str, where: str) -> str:
    shown = type(value).__name__ if isinstance(value, Sequence | Mapping) and not isinstance(value, str) else value
    return f"{where} is {one_line(repr(shown), 40)}, not {wanted}"
