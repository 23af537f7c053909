"""The rows of a split as they lie in its files, before labels have numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

from .. import UserError, listed, log
from . import files, naming
from .dataset import SourceOptions
from .labels import Where
from .sources import Part, Source

BLOCK_ROWS = 65536
LONGEST_TEXT = 2_000_000  # characters; a tokenizer reads about 200,000 a second
LOOKED_AT = 200  # rows whose values tell what a column holds
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
    table: tuple[str, ...] | None = None  # names that its files declare for the ids 0, 1, ...
    part: str = ""  # its first file, for messages
    keys: list[Any] | None = None  # n values of the column that labels elsewhere go by

    @property
    def is_labelled(self) -> bool:
        """Whether any row has a label."""
        return any(value is not None and value != -1 for value in self.labels or [])


@dataclass(frozen=True)
class Columns:
    """Which columns are read, and as what."""

    texts: tuple[str, ...]
    label: str | None
    others: tuple[str, ...] = ()
    key: str | None = None  # by which labels in another file belong to rows
    required: tuple[str, ...] = ()  # of the others, those that are read however many values they have

    @property
    def wanted(self) -> list[str]:
        """All of them once, a text first."""
        named = [name for name in (self.label, self.key) if name is not None]
        return list(dict.fromkeys([*self.texts, *named, *self.others]))


def choose_columns(part: Part, options: SourceOptions, need_label: bool = True) -> Columns:
    """What to read from parts like `part`. Raises UserError if it is not clear; a label must be so if it is needed."""
    names = part.column_names()
    guess = Looks(part)
    texts, label = options.text, options.label
    if names and all(name.isdigit() for name in names) and not texts and (text := guess.text()):  # without a header
        texts, label = (text,), label or guess.label()
        log.info("%s: column %s is read as the text and column %s as the label", part, text, label)
    texts = naming.text_columns(names, texts, str(part), guess.text)
    try:
        label = naming.label_column(names, label, texts, str(part), guess.label)
    except UserError:
        if need_label or options.label:
            raise
        label = None
    if label in texts:
        raise UserError(f"{part}: '{label}' is asked for as text and as label; pass another --label")
    plain = part.plain_columns()
    others = [
        n for n in names if n not in texts and n != label and names.count(n) == 1 and (plain is None or n in plain)
    ]
    required = {"--group": options.group, "--time": options.time}
    for option, column in required.items():
        if column is not None and column not in others:
            raise UserError(
                f"{part}: {option} {column}: no such column beside text and label; there are: {naming.shown(others)}"
            )
    named = tuple(column for column in required.values() if column is not None)
    return Columns(texts, label, tuple(others), required=named)


class Looks:
    """What the values of the first rows say of the columns: for advice, and for files without a header."""

    def __init__(self, part: Part) -> None:
        self.part = part

    @cached_property
    def values(self) -> dict[str, list[str]]:
        """Column → its first values, as strings."""
        names, plain = self.part.column_names(), self.part.plain_columns()
        usable = [name for name in names if names.count(name) == 1 and (plain is None or name in plain or "." in name)]
        try:
            block = next(self.part.blocks(usable, LOOKED_AT), None) if usable else None
        except UserError:
            return {}
        columns = block.columns if block else {}
        return {
            name: ["" if v is None else str(v) for v in values]
            for name, values in columns.items()
            if not any(isinstance(v, list | dict | bytes) for v in values)
        }

    def text(self) -> str | None:
        """The one that is called a text, else that with the longest values that are words, and not always the same."""
        named = [name for name in self.values if naming.plain(name.rpartition(".")[2]) in naming.TEXTS]
        if len(named) == 1:
            return named[0]
        scored = {name: self._wordiness(values) for name, values in self.values.items()}
        best = max(scored, key=lambda name: scored[name], default=None)
        return best if best is not None and scored[best] > 0 else None

    @staticmethod
    def _wordiness(values: list[str]) -> float:
        filled = [value for value in values if value.strip()]
        wordy = [value for value in filled if sum(map(str.isalpha, value)) > len(value) / 2 and "://" not in value[:10]]
        if not filled or len(wordy) < len(filled) / 2:
            return 0.0
        return sum(min(len(value), 2000) for value in wordy) / len(values) * len(set(filled)) / len(filled)

    def label(self) -> str | None:
        """The column with the fewest values, two at least, that is not the text."""
        text = self.text()
        kinds = {name: len(set(values)) for name, values in self.values.items() if name != text}
        few = {n: k for n, k in kinds.items() if 2 <= k <= max(2, len(self.values[n]) // 2)}
        return min(few, key=lambda name: few[name], default=None)


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
            needed = column in (columns.label, columns.key, *columns.required)
            if not needed and not _is_small(block.columns[column], SMALL_COLUMN):
                del values[column]  # no use, and perhaps large
        if limit is not None and len(texts) >= limit:
            break
    if not texts:
        raise UserError(f"{parts[0]}: no rows; give a file with at least one row")
    label = values.pop(columns.label) if columns.label else None
    keys = values[columns.key] if columns.key else None
    most = min(SMALL_COLUMN, max(20, len(texts) // 5))
    small = {column: cells for column, cells in values.items() if column in columns.required or _is_small(cells, most)}
    table = declared_names(parts, columns.label) if columns.label else None
    return Raw(name, texts, label, small, partial(_find, places), parts[0].typed, table, str(parts[0]), keys)


def declared_names(parts: Sequence[Part], label: str) -> tuple[str, ...] | None:
    """The class names that the files of a split declare, in the order of their ids.

    Raises UserError if its files number them differently.
    """
    tables = {str(part): part.class_names(label) for part in parts}
    first, *others = tables
    for other in others:
        if tables[other] != tables[first]:
            raise UserError(f"{other}: its classes are numbered otherwise than those of {first}; write both again")
    return tables[first]


def blocks_of(parts: Sequence[Part], columns: Columns, size: int) -> Iterator[tuple[files.Block, Where]]:
    """The rows of the parts of one split, with where each row of a block stands."""
    for part in parts:
        known = part.column_names()
        if missing := [column for column in columns.wanted if column not in known]:
            raise UserError(f"{part}: no '{missing[0]}' among {naming.shown(known)}; {parts[0].name} has that column")
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
        _check_length(values, name, where)
        parts.append(values)
    return list(zip(*parts, strict=True))


def _text(value: Any, row: int, column: str, where: Where) -> str:
    if isinstance(value, list | dict | bytes):
        kind = type(value).__name__
        raise UserError(f"{where(row)}: '{column}' holds no text ({kind}); pass --text with another column")
    missing = value is None or (isinstance(value, float) and math.isnan(value))  # pandas has no other way to say it
    return "" if missing else str(value)


def _check_length(values: list[str], column: str, where: Where) -> None:
    """Raises UserError for a text that would keep a tokenizer busy for minutes."""
    if values and max(map(len, values)) > LONGEST_TEXT:
        row = next(i for i, value in enumerate(values) if len(value) > LONGEST_TEXT)
        raise UserError(
            f"{where(row)}: '{column}' has {len(values[row]):,} characters, at most {LONGEST_TEXT:,} are read; "
            "cut the text into rows, or is a quote never closed?"
        )


def _is_small(values: list[Any], most: int) -> bool:
    """Whether a column may group rows: short single values, at most `most` different ones."""
    if not set(map(type, values)) <= {str, int, bool, type(None)}:
        return False
    distinct = set(values)
    return len(distinct) <= most and all(not isinstance(v, str) or len(v) <= 100 for v in distinct)


def names_of_ids(
    source: Source, tables: Sequence[tuple[str, ...]], table: tuple[str, ...] | None
) -> dict[int, str] | None:
    """Class id → name: labels.json, unless the files declare several `tables`; else the `table` that holds, if any."""
    if source.names and len(set(tables)) < 2:
        return source.names
    return dict(enumerate(table)) if table else None


def class_names(source: Source, columns: Columns, raws: dict[str, Raw], train: str) -> dict[int, str] | None:
    """Class id → name: from labels.json, what the rows themselves declare, or a column `label_text` beside.

    Where splits declare the same names in another order, the ids of train hold (see `renumbered`).
    """
    assert columns.label is not None, "checked when the columns were chosen"
    tables = {name: raw.table for name, raw in raws.items() if raw.table is not None}
    if names := names_of_ids(source, list(tables.values()), tables.get(train) or next(iter(tables.values()), None)):
        return names
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


def renumbered(raws: dict[str, Raw], train: str, notes: list[str]) -> dict[str, Raw]:
    """Splits that declare their class names, with the ids that these names have in train.

    Raises UserError, with the names that differ, for a labelled split that declares other names.
    """
    tables = {name: raw.table for name, raw in raws.items() if raw.table is not None and raw.is_labelled}
    if len(set(tables.values())) < 2:
        return raws
    first = train if train in tables else next(iter(tables))
    ids = {name: number for number, name in enumerate(tables[first])}
    made = dict(raws)
    for split, table in tables.items():
        if set(table) != set(ids):
            raise _other_names(raws[split], raws[first], table, tables[first])
        if table != tables[first]:
            numbers = [ids[name] for name in table]
            values = [numbers[v] if type(v) is int and 0 <= v < len(numbers) else v for v in raws[split].labels or []]
            made[split] = replace(raws[split], labels=values)
            notes.append(f"'{split}' numbers its classes otherwise than '{first}': matched by name")
    return made


def _other_names(other: Raw, first: Raw, table: tuple[str, ...], known: tuple[str, ...]) -> UserError:
    extra = [name for name in table if name not in known]
    lacking = [name for name in known if name not in table]
    says = [f"only there: {listed(extra[:5])}"] if extra else []
    says += [f"only in {first.part}: {listed(lacking[:5])}"] if lacking else []
    return UserError(
        f"{other.part}: split '{other.name}' names other classes than '{first.name}' ({'; '.join(says)}); "
        "give both the same class names, or write labels as text"
    )
