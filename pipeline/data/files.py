"""Files → blocks of rows: one reader a format, each of them flat in memory, none of them guessing at missing values.

CSV cells and JSON strings stay what they are: `NA`, `null` and the empty string are text here. Every complaint says
where: the line of a text file, the row of a parquet file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import UserError, listed
from ..untrusted import open_regular
from . import delimited, objects, tables
from .lines import guarded, lines

NOT_ROWS = {"labels.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "config.json"}
Rows = Iterator[tuple[dict[str, list[Any]], list[int] | None]]


@dataclass(frozen=True)
class Block:
    """Some rows of one file."""

    columns: dict[str, list[Any]]  # (n,) values each
    lines: list[int] | None  # (n,) the line at which a row starts, from 1; None where a file has no lines


@dataclass(frozen=True)
class Format:
    """How one kind of file is read. `typed` files tell the text `1` from the number 1."""

    names: Callable[[Path], list[str]]
    blocks: Callable[[Path, Sequence[str], int], Rows]
    typed: bool
    plain: Callable[[Path], set[str]] | None = None  # columns that may group rows; None: any
    count: Callable[[Path], int] | None = None  # rows, where that is cheaper than reading them


def kind(path: Path) -> str:
    """The suffix that decides the format: `.csv` of `a.csv` and of `a.csv.gz`."""
    suffixes = [s.lower() for s in path.suffixes]
    return suffixes[-2] if suffixes[-1:] == [".gz"] and len(suffixes) > 1 else "".join(suffixes[-1:])


def format_of(path: Path) -> Format:
    """Raises UserError, naming the formats there are, if `path` is of none of them."""
    if kind(path) not in FORMATS:
        how = "save it as .xlsx or .csv" if kind(path) in (".xls", ".ods", ".xlsm") else "convert it to one of "
        how += "" if how.startswith("save") else listed(FORMATS)
        raise UserError(f"{path}: cannot read '{kind(path) or path.name}' files; {how}")
    return FORMATS[kind(path)]


def column_names(path: Path) -> list[str]:
    """The columns of a file, in its order. Raises UserError if it is not there, empty, or not what its suffix says."""
    with guarded(path):
        open_regular(path).close()
        if path.stat().st_size == 0:
            raise UserError(f"{path}: empty file; give a file with at least one row")
        return format_of(path).names(path)


def blocks(path: Path, wanted: Sequence[str], size: int) -> Iterator[Block]:
    """The `wanted` columns of a file, `size` rows at a time. Raises UserError at the first row that cannot be read."""
    with guarded(path):
        for columns, starts in format_of(path).blocks(path, wanted, size):
            yield Block(columns, starts)


def plain_columns(path: Path) -> set[str] | None:
    """The columns whose single values may group rows; None: any may, by its values."""
    plain = format_of(path).plain
    with guarded(path):
        return plain(path) if plain else None


def class_names(path: Path, column: str) -> tuple[str, ...] | None:
    """The names that a file's metadata gives to the ids in `column` (a ClassLabel), in their order, if any.

    Raises UserError if they are no names, or if two are the same.
    """
    with guarded(path):
        if kind(path) == ".parquet":
            return tables.declared_names(tables.parquet_schema(path).metadata, column, str(path))
        if kind(path) == ".arrow":
            return tables.declared_names(tables.arrow_schema(path).metadata, column, str(path))
    return None


def count_rows(path: Path) -> int:
    """Rows of a file, without keeping any."""
    count = format_of(path).count
    with guarded(path):
        if count is not None:
            return count(path)
    first = column_names(path)[:1]
    return sum(len(block.columns[first[0]]) for block in blocks(path, first, 65536))


def _txt_blocks(path: Path, wanted: Sequence[str], size: int) -> Rows:
    held: list[str] = []
    first = 1
    for line in lines(path):
        held.append(line.rstrip("\r\n"))
        if len(held) == size:
            yield {"text": held}, list(range(first, first + size))
            held, first = [], first + size
    if held:
        yield {"text": held}, list(range(first, first + len(held)))


CSV = Format(delimited.names, delimited.blocks, typed=False)
JSON = Format(objects.names, objects.blocks, typed=True, count=objects.count_rows)
FORMATS: dict[str, Format] = {
    ".parquet": Format(
        tables.parquet_names,
        tables.parquet_blocks,
        typed=True,
        plain=lambda path: tables.plain_columns(tables.parquet_schema(path)),
        count=tables.parquet_rows,
    ),
    ".csv": CSV,
    ".tsv": CSV,
    ".jsonl": JSON,
    ".ndjson": JSON,
    ".json": JSON,
    ".txt": Format(lambda path: ["text"], _txt_blocks, typed=False),
    ".xlsx": Format(tables.sheet_names, tables.sheet_blocks, typed=True),
    ".arrow": Format(
        tables.arrow_names,
        tables.arrow_blocks,
        typed=True,
        plain=lambda path: tables.plain_columns(tables.arrow_schema(path)),
        count=tables.arrow_rows,
    ),
}

SHARD = re.compile(r"(.+?)-(\d{5})-of-(\d{5})$")


def holds_rows(path: Path) -> bool:
    """Whether a file found in a folder is one to read: of a known format, and not one that describes others."""
    known = kind(path) in FORMATS and kind(path) not in (".txt", ".arrow")
    return known and not path.name.startswith((".", "~$")) and path.name not in NOT_ROWS


def stem(path: Path) -> str:
    """`train` of `train.csv.gz`."""
    name = path.name[: -len(".gz")] if path.suffix.lower() == ".gz" else path.name
    return name[: -len(kind(path))] if kind(path) else name


def by_split(paths: Sequence[Path], home: Path) -> dict[str, tuple[Path, ...]]:
    """Split name → its files in order; `train-00000-of-00002` and its sibling are one split.

    Raises UserError if one split lies there in two formats, or if a shard of one is missing.
    """
    groups: dict[str, list[Path]] = {}
    for path in sorted(paths):
        match = SHARD.match(stem(path))
        groups.setdefault(match[1] if match else stem(path), []).append(path)
    for name, files in groups.items():
        shards = [SHARD.match(stem(path)) for path in files]
        if len(files) > 1 and not all(shards):
            names = listed(path.name for path in files)
            raise UserError(f"{home}: split '{name}' lies there more than once ({names}); keep one of them")
        check_shards(files, home)
    return {name: tuple(files) for name, files in groups.items()}


def check_shards(files: Sequence[Path], home: Path) -> None:
    """Raises UserError if `files` are numbered shards and one is missing."""
    shards = [m for m in (SHARD.match(stem(path)) for path in files) if m]
    if shards and len(shards) < (count := int(shards[0][3])):
        raise UserError(f"{home}: {len(shards)} of {count} files of '{shards[0][1]}' are there; fetch the rest")
