"""The rows of a split as they lie in its files, before labels have numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from .. import UserError
from . import files, naming
from .dataset import SourceOptions
from .labels import Where
from .sources import Part, Source

BLOCK_ROWS = 65536
SMALL_COLUMN = 1000  # a column with more different values, or with more than a fifth of the rows, groups nothing


Place = tuple[int, Where]  # first row of a block in its split, and where the block's rows stand


@dataclass(frozen=True)
class Raw:
    """One split as it was read, before labels have numbers."""

    name: str
    texts: list[tuple[str, ...]]  # n tuples of 1 or 2 strings
    labels: list[Any] | None  # n values as the file has them; None without a label column
    columns: dict[str, list[Any]]  # n values each
    where: Where  # row → "train.csv:17"
    typed: bool  # whether the file tells 1 from "1"


@dataclass(frozen=True)
class Columns:
    """Which columns are read, and as what."""

    texts: tuple[str, ...]
    label: str | None
    others: tuple[str, ...] = ()

    @property
    def wanted(self) -> list[str]:
        """All of them once, a text first."""
        return list(dict.fromkeys([*self.texts, *([self.label] if self.label else []), *self.others]))


def choose_columns(part: Part, options: SourceOptions, need_label: bool = True) -> Columns:
    """What to read from parts like `part`. Raises UserError if it is not clear; a label must be so if it is needed."""
    names = part.column_names()
    texts = naming.text_columns(names, options.text, str(part))
    try:
        label = naming.label_column(names, options.label, texts, str(part))
    except UserError:
        if need_label or options.label:
            raise
        label = None
    if label in texts:
        raise UserError(f"{part}: '{label}' is asked for as text and as label; pass another --label")
    return Columns(texts, label, tuple(name for name in names if name not in texts and name != label))


def read_split(name: str, parts: Sequence[Part], columns: Columns, limit: int | None) -> Raw:
    """All rows of one split, or the first `limit`. Raises UserError if there are none."""
    texts: list[tuple[str, ...]] = []
    values: dict[str, list[Any]] = {column: [] for column in columns.wanted if column not in columns.texts}
    places: list[Place] = []
    for block, where in blocks_of(parts, columns, BLOCK_ROWS if limit is None else min(limit, BLOCK_ROWS)):
        room = None if limit is None else limit - len(texts)
        places.append((len(texts), where))
        texts += texts_of(block, columns.texts, where)[:room]
        for column in list(values):
            values[column] += block.columns[column][:room]
            if column != columns.label and not _is_small(block.columns[column], SMALL_COLUMN):
                del values[column]  # no use, and perhaps large
        if limit is not None and len(texts) >= limit:
            break
    if not texts:
        raise UserError(f"{parts[0]}: no rows; give a file with at least one row")
    label = values.pop(columns.label) if columns.label else None
    most = min(SMALL_COLUMN, max(20, len(texts) // 5))
    small = {column: held for column, held in values.items() if _is_small(held, most)}
    return Raw(name, texts, label, small, partial(_find, places), parts[0].typed)


def blocks_of(parts: Sequence[Part], columns: Columns, size: int) -> Iterator[tuple[files.Block, Where]]:
    """The rows of the parts of one split, with where each row of a block stands."""
    for part in parts:
        there = part.column_names()
        if missing := [column for column in columns.wanted if column not in there]:
            raise UserError(f"{part}: no '{missing[0]}' among {naming.shown(there)}; {parts[0].name} has that column")
        rows = 0
        for block in part.blocks(columns.wanted, size):
            yield block, partial(_place, part, block.lines, rows)
            rows += len(block.columns[columns.texts[0]])


def _place(part: Part, lines: list[int] | None, first: int, row: int) -> str:
    return f"{part}:{lines[row]}" if lines else f"{part} row {first + row}"


def _find(places: list[Place], row: int) -> str:
    first, where = next(place for place in reversed(places) if place[0] <= row)
    return where(row - first)


def texts_of(block: files.Block, columns: tuple[str, ...], where: Where) -> list[tuple[str, ...]]:
    """n tuples of strings. Raises UserError, naming the row, for what is no text."""
    parts = []
    for name in columns:
        values = block.columns[name]
        if set(map(type, values)) != {str}:
            values = [_text(value, row, name, where) for row, value in enumerate(values)]
        parts.append(values)
    return list(zip(*parts, strict=True))


def _text(value: Any, row: int, column: str, where: Where) -> str:
    if isinstance(value, list | dict | bytes):
        kind = type(value).__name__
        raise UserError(f"{where(row)}: '{column}' holds no text ({kind}); pass --text with another column")
    return "" if value is None else str(value)


def _is_small(values: list[Any], most: int) -> bool:
    """Whether a column may group rows: short single values, at most `most` different ones."""
    if not set(map(type, values)) <= {str, int, bool, type(None)}:
        return False
    distinct = set(values)
    return len(distinct) <= most and all(not isinstance(v, str) or len(v) <= 100 for v in distinct)


def class_names(source: Source, columns: Columns, raws: dict[str, Raw]) -> dict[int, str] | None:
    """Class id → name: from labels.json, what the rows themselves declare, or a column `label_text` beside."""
    assert columns.label is not None, "checked when the columns were chosen"
    if source.names:
        return source.names
    for parts in source.splits.values():
        if known := parts[0].class_names(columns.label):
            return known
    pairs = {
        (value, raw.columns[other][i])
        for raw in raws.values()
        for other in (f"{columns.label}_text", f"{columns.label}_name")
        if other in raw.columns and raw.labels is not None
        for i, value in enumerate(raw.labels)
        if type(value) is int and value >= 0
    }
    names = {number: str(name) for number, name in pairs if name}
    one_to_one = len(names) == len(pairs) == len(set(names.values()))
    return dict(sorted(names.items())) if names and one_to_one else None
