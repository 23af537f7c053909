"""Whatever a source calls a label → class ids and names. One label a row, or a complaint that says which row."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import UserError, listed, one_line
from ..untrusted import read_json

Tidy = int | str | None  # one label; None: missing
Where = Callable[[int], str]  # row number → where that row stands, for messages

INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")  # the one way to write it, of a size that 64 bits hold
PLAIN_FLOAT = re.compile(r"-?[0-9]{1,17}(\.[0-9]{1,17})?")
DATE = re.compile(r"\s*(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4})(\D|$)")
MISSING_NUMBERS = {"", "na", "n/a", "nan", "null", "none"}  # what stands for a missing number in CSV files


def read_names(path: Path) -> dict[int, str]:
    """Class id → name from `labels.json`: a list in id order, {"0": name} or {name: 0}.

    Raises UserError if it is none of these.
    """
    table = read_json(path, "write the class names as a list in id order")
    if isinstance(table, list) and table and all(isinstance(name, str | int) for name in table):
        names = dict(enumerate(map(str, table)))
    elif _is_table(table) and all(INTEGER.fullmatch(k) and isinstance(v, str | int) for k, v in table.items()):
        names = {int(key): str(name) for key, name in table.items()}
    elif _is_table(table) and all(type(value) is int and abs(value) < 2**63 for value in table.values()):
        names = {value: name for name, value in table.items()}
    else:
        raise UserError(f'{path}: not class names; write a list in id order, {{"0": "name"}} or {{"name": 0}}')
    if len(set(names.values())) < len(table):
        raise UserError(f"{path}: two classes have the same name or id; give each its own")
    return dict(sorted(names.items()))


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) and bool(value)


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
        strings = [None if v is None or (isinstance(v, float) and math.isnan(v)) else str(v) for v in values]
        return _from_strings(strings, typed, coded, where)
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
    """Strings stay names unless every one of them is an integer written the one way that integers are written.

    `0110`, `+1`, `1e2` and `1.10` are codes: as numbers, two of them may become one. In untyped files `1.0` is 1.
    """
    distinct = {value for value in values if value is not None and value.strip().lower() not in MISSING_NUMBERS}
    if distinct and all(INTEGER.fullmatch(value) for value in distinct):
        return [None if v is None or v.strip().lower() in MISSING_NUMBERS else int(v) for v in values]
    if distinct and not typed and all(_is_plain_float(value) for value in distinct):
        numbers: list[Tidy] = []
        for row, value in enumerate(values):
            if value is None or value.strip().lower() in MISSING_NUMBERS:
                numbers.append(None)
            elif not float(value).is_integer():
                raise _real_valued(value, row, where)
            else:
                numbers.append(int(float(value)))
        return numbers
    return [value if value else None for value in values]


def _is_plain_float(text: str) -> bool:
    """Whether this is how Python and pandas write that float, or a plain integer."""
    return bool(PLAIN_FLOAT.fullmatch(text)) and (text == repr(float(text)) or bool(INTEGER.fullmatch(text)))


def _is_list(text: str) -> bool:
    """Whether a CSV cell is a list that was written as text."""
    return text.startswith("[") and text.endswith("]")


def _short(value: Any) -> str:
    return one_line(str(value), 40)


def speak_of_others(splits: Mapping[str, Sequence[Tidy]], names: dict[int, str]) -> bool:
    """Whether every label is a word that `names` does not know: the names belong to another column."""
    distinct = {label for labels in splits.values() for label in labels if label is not None}
    return bool(distinct) and all(isinstance(label, str) for label in distinct) and not distinct & set(names.values())


def same_but_for_looks(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Groups of class names that differ only in case, white space, hyphens or what nobody sees."""
    groups: dict[str, list[str]] = {}
    for name in names:
        seen = "".join(c for c in unicodedata.normalize("NFKC", name) if unicodedata.category(c) != "Cf")
        groups.setdefault(" ".join(re.split(r"[\s_-]+", seen.strip())).casefold(), []).append(name)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def are_dates(names: Sequence[str]) -> bool:
    """Whether ten class names or more all begin as dates do."""
    return len(names) >= 10 and all(DATE.match(name) for name in names)


def refuse_ids(splits: Mapping[str, np.ndarray], column: str, home: str) -> None:
    """Raises UserError where the labels (n,) of all splits name rows, not kinds of rows."""
    labels = np.concatenate([numbers[numbers >= 0] for numbers in splits.values()])
    classes = len(np.unique(labels))
    if classes >= 20 and classes > len(labels) / 2:
        raise UserError(
            f"{home}: '{one_line(column, 40)}' has {classes:,} different values in {len(labels):,} rows: "
            "it names rows, not classes; pass --label with another column"
        )


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
    distinct = {label for labels in plain.values() for label in labels if label is not None}
    if any(isinstance(label, str) for label in distinct):
        plain = {split: [v if v is None else str(v) for v in ls] for split, ls in plain.items()}
        distinct = {str(label) for label in distinct}
        keys: list[Any] = list(named.values()) or sorted(distinct)
    else:
        keys = list(named) or sorted(distinct)
    classes = tuple(str(name) for name in (named.values() if named else keys))
    number = {key: i for i, key in enumerate(keys)}
    return {split: _numbers(ls, number, classes, where[split]) for split, ls in plain.items()}, classes


def _without_minus_one(labels: Sequence[Tidy], is_class: bool) -> list[Tidy]:
    return list(labels) if is_class else [None if label == -1 else label for label in labels]


def _numbers(labels: list[Tidy], number: dict[Any, int], classes: tuple[str, ...], where: Where) -> np.ndarray:
    if all(label is None for label in labels):
        return np.full(len(labels), -1, np.int64)
    if None in labels:
        row, missing = labels.index(None), sum(label is None for label in labels)
        raise UserError(
            f"{where(row)}: label missing (empty, NaN or -1), as in {missing:,} of {len(labels):,} rows of this split; "
            'fill it in, drop the rows, or, if -1 is a class, name it in labels.json: {"-1": "name", ...}'
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
