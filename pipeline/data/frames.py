"""Rows that are in memory already: data frames, `datasets`, tables, lists. Read like a file, column by column."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import UserError
from .files import Block
from .tables import unique_names, values_of

TEXT, SECOND, LABEL = "text", "text_pair", "label"  # what columns without a name are called
TAKEN = "a pandas or polars frame, a datasets.Dataset, a pyarrow table, a dict of lists, lists, or a path"


@dataclass(frozen=True, eq=False)
class Frame:
    """One split in memory: anything with named columns of n values each."""

    name: str
    rows: Any
    columns: tuple[str, ...]
    typed: bool = True  # 1 is not "1" here
    features: Mapping[str, Any] = field(default_factory=dict)  # of `datasets`: column → its type

    def __str__(self) -> str:
        return f"the {type(self.rows).__name__} '{self.name}'"

    def column_names(self) -> list[str]:
        """Its columns, in their order."""
        return list(self.columns)

    def plain_columns(self) -> set[str] | None:
        """None: any column may group rows, by its values."""
        return None

    def class_names(self, column: str) -> tuple[str, ...] | None:
        """The names of the ids 0, 1, ..., if `column` is a ClassLabel. Raises UserError if two are the same."""
        names = getattr(self.features.get(column), "names", None)
        return unique_names(tuple(names), column, str(self)) if names else None

    def blocks(self, wanted: Sequence[str], size: int) -> Iterator[Block]:
        """The `wanted` columns, `size` rows at a time. Raises UserError if they differ in length."""
        columns = {name: values(self.rows, name) for name in wanted}
        lengths = {name: len(held) for name, held in columns.items()}
        if len(set(lengths.values())) > 1:
            raise UserError(f"{self}: columns of different length ({lengths}); give each row every value")
        for start in range(0, next(iter(lengths.values()), 0), size):
            yield Block({name: held[start : start + size] for name, held in columns.items()}, None)

    def count_rows(self) -> int:
        """Rows, without keeping any."""
        return len(values(self.rows, self.columns[0]))


@dataclass(frozen=True, eq=False)
class Frames:
    """A source in memory: its splits by name."""

    name: str
    splits: dict[str, Frame]

    def __str__(self) -> str:
        return self.name


def library(rows: Any) -> str:
    """The package that a value's type comes from."""
    return type(rows).__module__.partition(".")[0]


def values(rows: Any, column: str) -> list[Any]:
    """One column as Python has it; what is called missing anywhere is None."""
    if library(rows) == "pyarrow":
        return values_of(rows.column(column))
    if library(rows) == "pandas" and column not in rows.columns:
        return plain(rows[next(c for c in rows.columns if str(c) == column)])
    return plain(rows[column])


def plain(column: Any) -> list[Any]:
    """The values of a series, an array, a list or what yields them, as Python has them; None for NaN, NaT and NA."""
    ways = ("tolist", "to_list", "to_pylist")  # NumPy and pandas, polars, pyarrow
    method = next((getattr(column, way) for way in ways if hasattr(column, way)), None)
    held = (value.item() if isinstance(value, np.generic) else value for value in (method() if method else column))
    return [None if is_missing(value) else value for value in held]


def is_missing(value: Any) -> bool:
    """Whether a value is what NumPy, pandas and their users write where there is none."""
    return type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and value != value)


def frames(source: Any, label: Any = None, name: str = "data") -> Frames:
    """What is in memory as a source: one split, or a dict (or DatasetDict) of them by name.

    `label`: the labels (n,) of a sequence of texts, which may be strings or pairs of strings.
    Raises UserError for what is none of these.
    """
    if hasattr(source, "collect") and library(source) == "polars":  # a query that has not run
        source = source.collect()
    if isinstance(source, Mapping) and source and all(_is_frame(rows) for rows in source.values()):
        return Frames(name, {str(split): _frame(rows, str(split)) for split, rows in source.items()})
    if _is_frame(source) or (isinstance(source, Mapping) and source):
        return Frames(name, {name: _frame(source, name)})
    unordered = (str, bytes, set, frozenset, Mapping)
    texts = plain(source) if isinstance(source, Iterable) and not isinstance(source, unordered) else []
    if not texts:
        raise UserError(f"a {type(source).__name__} is no source; pass {TAKEN}")
    columns = {TEXT: texts}
    if any(isinstance(text, (tuple, list)) for text in texts):
        if not all(isinstance(pair, (tuple, list)) and len(pair) == 2 for pair in texts):
            raise UserError("a text is a string or a pair of strings; pass rows of one kind")
        columns = {TEXT: plain(pair[0] for pair in texts), SECOND: plain(pair[1] for pair in texts)}
    if label is not None:
        if not isinstance(label, Iterable) or isinstance(label, unordered):
            raise UserError(f"labels: a {type(label).__name__}; pass a list of labels, one a text")
        columns[LABEL] = plain(label)
    return Frames(name, {name: _frame(columns, name)})


def _is_frame(rows: Any) -> bool:
    return hasattr(rows, "column_names") or (library(rows) in ("pandas", "polars") and hasattr(rows, "columns"))


def _frame(rows: Any, name: str) -> Frame:
    named = getattr(rows, "column_names", None) or getattr(rows, "columns", None)
    columns = tuple(map(str, rows if named is None else named))
    if twice := [column for i, column in enumerate(columns) if column in columns[:i]]:
        raise UserError(f"two columns of '{name}' are called '{twice[0]}'; give each its own name")
    return Frame(name, rows, columns, features=getattr(rows, "features", None) or {})
