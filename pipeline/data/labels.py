"""Whatever a source calls a label → class ids and names. One label a row, or a complaint that says which row."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import UserError, listed

Tidy = int | str | None  # one label; None: missing
Where = Callable[[int], str]  # row number → where that row stands, for messages

INTEGER = re.compile(r"-?(0|[1-9]\d*)")
MISSING_NUMBERS = {"", "na", "n/a", "nan", "null", "none"}  # what stands for a missing number in CSV files


def read_names(path: Path) -> dict[int, str]:
    """Class id → name from `labels.json`: a list in id order, {"0": name} or {name: 0}.

    Raises UserError if it is none of these.
    """
    try:
        table = json.loads(path.read_text("utf-8-sig"))
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: not valid JSON ({error}); write the class names as a list in id order") from error
    if isinstance(table, list) and table and all(isinstance(name, str | int | bool) for name in table):
        names = dict(enumerate(map(str, table)))
    elif isinstance(table, dict) and table and all(INTEGER.fullmatch(key) for key in table):
        names = {int(key): str(name) for key, name in table.items()}
    elif isinstance(table, dict) and table and all(type(value) is int for value in table.values()):
        names = {value: name for name, value in table.items()}
    else:
        raise UserError(f'{path}: not class names; write a list in id order, {{"0": "name"}} or {{"name": 0}}')
    if len(set(names.values())) < len(table):
        raise UserError(f"{path}: two classes have the same name or id; give each its own")
    return dict(sorted(names.items()))


def tidy(values: Sequence[Any], typed: bool, coded: bool, where: Where) -> list[Tidy]:
    """One split's labels as integers, or as strings, with None where one is missing.

    `typed`: the source tells 1 from "1". `coded`: ids have names elsewhere, so that "1" means id 1.
    Raises UserError, naming the row, for several labels a row and for real-valued labels.
    """
    kinds = set(map(type, values))
    if kinds & {list, dict, tuple, set} or (kinds == {str} and all(_is_list(value) for value in set(values))):
        row = next((i for i, value in enumerate(values) if isinstance(value, list | dict | tuple | set)), 0)
        raise UserError(
            f"{where(row)}: several labels a row ({_short(values[row])}); only one label a row can be learnt: "
            "pass --label with a column of single labels"
        )
    if kinds & {str}:
        return _from_strings([None if v is None else str(v) for v in values], typed, coded, where)
    return [_from_number(value, coded, i, where) for i, value in enumerate(values)]


def _from_number(value: Any, coded: bool, row: int, where: Where) -> Tidy:
    if value is None:
        return None
    if isinstance(value, bool):
        return int(value) if coded else str(value)
    if isinstance(value, int):
        return value
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{where(row)}: label {_short(value)} is not a class; pass --label with another column"
        ) from error
    if math.isnan(number):
        return None
    if not number.is_integer():
        raise _real_valued(number, row, where)
    return int(number)


def _real_valued(value: Any, row: int, where: Where) -> UserError:
    return UserError(
        f"{where(row)}: real-valued label {value}; this classifies: cut the numbers into named classes first, "
        "or pass --label with another column"
    )


def _from_strings(values: list[str | None], typed: bool, coded: bool, where: Where) -> list[Tidy]:
    """Strings stay names unless every one of them is an integer; in untyped files numbers are numbers."""
    distinct = {value for value in values if value is not None and value.strip().lower() not in MISSING_NUMBERS}
    if distinct and all(INTEGER.fullmatch(value.strip()) for value in distinct):
        return [None if v is None or v.strip().lower() in MISSING_NUMBERS else int(v) for v in values]
    if distinct and not typed and all(_is_number(value) for value in distinct):
        whole: list[Tidy] = []
        for row, value in enumerate(values):
            if value is None or value.strip().lower() in MISSING_NUMBERS:
                whole.append(None)
            elif not float(value).is_integer():
                raise _real_valued(value, row, where)
            else:
                whole.append(int(float(value)))
        return whole
    return [value if value else None for value in values]


def _is_list(text: str) -> bool:
    """Whether a CSV cell is a list that was written as text."""
    return text.startswith("[") and text.endswith("]")


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text)) and "_" not in text
    except ValueError:
        return False


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:37] + "..."


def speak_of_others(splits: Mapping[str, Sequence[Tidy]], names: dict[int, str]) -> bool:
    """Whether every label is a word that `names` does not know: the names belong to another column."""
    found = {label for labels in splits.values() for label in labels if label is not None}
    return bool(found) and all(isinstance(label, str) for label in found) and not found & set(names.values())


def encode(
    splits: Mapping[str, Sequence[Tidy]], names: dict[int, str] | None, where: Mapping[str, Where]
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Split name → class numbers (n,) int64 (all -1: unlabelled), and the names of the numbers.

    With `names` the classes are these, in id order; else the integers found, in order and called by their digits,
    or the strings found, sorted. Raises UserError, naming the row, for a label that `names` does not know and for a
    missing label in a split that has others.
    """
    named = names or {}
    plain = {split: _without_minus_one(labels, -1 in named) for split, labels in splits.items()}
    found = {label for labels in plain.values() for label in labels if label is not None}
    if any(isinstance(label, str) for label in found):
        plain = {split: [v if v is None else str(v) for v in ls] for split, ls in plain.items()}
        found = {str(label) for label in found}
        keys: list[Any] = list(named.values()) or sorted(found)
    else:
        keys = list(named) or sorted(found)
    classes = tuple(str(name) for name in (named.values() if named else keys))
    number = {key: i for i, key in enumerate(keys)}
    return {split: _numbers(ls, number, classes, where[split]) for split, ls in plain.items()}, classes


def _without_minus_one(labels: Sequence[Tidy], is_class: bool) -> list[Tidy]:
    return list(labels) if is_class else [None if label == -1 else label for label in labels]


def _numbers(labels: list[Tidy], number: dict[Any, int], classes: tuple[str, ...], where: Where) -> np.ndarray:
    if all(label is None for label in labels):
        return np.full(len(labels), -1, np.int64)
    if None in labels:
        row = labels.index(None)
        raise UserError(
            f"{where(row)}: label missing (empty, NaN or -1), though other rows of this split have one; fill it in, "
            'drop the row, or, if -1 is a class, name it in labels.json: {"-1": "name", ...}'
        )
    try:
        return np.fromiter((number[label] for label in labels), np.int64, len(labels))
    except KeyError as error:
        row = next(i for i, label in enumerate(labels) if label not in number)
        shown = listed(classes[:8]) + (", ..." if len(classes) > 8 else "")
        raise UserError(
            f"{where(row)}: label {_short(labels[row])!r} is none of the {len(classes)} named classes ({shown}); "
            "mend the row or labels.json"
        ) from error
