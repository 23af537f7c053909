"""A SOURCE as the user writes it → the parts of each split, and what names its classes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import UserError, listed, log
from ..files import expanded
from ..urls import checked_url, is_url
from . import files, hub, saved
from .classfolders import ClassFolders, class_folders
from .frames import Frame, Frames
from .labels import read_names
from .naming import role_of

LONGEST_NAME = 150  # owner, name and configuration of a Hub data set
SAMPLES = Path(__file__).resolve().parent.parent / "samples"


@dataclass(frozen=True)
class File:
    """A local file of rows."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def typed(self) -> bool:
        return files.format_of(self.path).typed

    def column_names(self) -> list[str]:
        return files.column_names(self.path)

    def plain_columns(self) -> set[str] | None:
        return files.plain_columns(self.path)

    def class_names(self, column: str) -> tuple[str, ...] | None:
        return files.class_names(self.path, column)

    def blocks(self, wanted: Sequence[str], size: int) -> Iterator[files.Block]:
        return files.blocks(self.path, wanted, size)

    def count_rows(self) -> int:
        return files.count_rows(self.path)


Part = File | ClassFolders | hub.HubSplit | Frame  # rows that lie together, under one name for messages


@dataclass(frozen=True)
class Source:
    """Where the rows of each split lie."""

    name: str
    home: str  # what messages call it
    splits: dict[str, tuple[Part, ...]]  # split name → its parts, in order
    names: dict[int, str] | None  # class id → name, if something beside the rows says it


def samples() -> list[str]:
    """Names of the bundled data sets."""
    return sorted(folder.name for folder in SAMPLES.iterdir() if folder.is_dir()) if SAMPLES.is_dir() else []


def locate(source: str | Frames) -> Source:
    """The rows behind `source`: those in memory, a path that exists, else a bundled sample, else a Hub data set.

    Raises UserError if there is nothing of that name, or nothing in it to read.
    """
    if isinstance(source, Frames):
        return Source(source.name, source.name, {name: (frame,) for name, frame in source.splits.items()}, None)
    if not source.strip():
        raise UserError(f"SOURCE is empty; pass a file, a folder (. is this one), or the bundled {listed(samples())}")
    path = expanded(source)
    if os.path.isdir(path):
        if source in samples():
            log.info("%s: the folder here is read, not the bundled sample of that name", source)
        with files.guarded(path):
            return _folder(path, source)
    if os.path.exists(path):  # unlike Path.exists, it has no quarrel with a name that is too long
        return _file(path, source)
    if source in samples():
        return _folder(SAMPLES / source, source)
    if is_url(source):
        raise UserError(f"{checked_url(source, 'SOURCE')}: a URL; fetch it, or pass --runner ray for Parquet behind it")
    if looks_like_a_path(source):
        short = source if len(source) <= LONGEST_NAME else source[:60] + "..."
        raise UserError(f"{short}: no such file or folder; check the path, or try the bundled {listed(samples())}")
    name, splits, folder = hub.fetch(source)
    return Source(name, source, {split: (rows,) for split, rows in splits.items()}, _names_beside(folder))


def looks_like_a_path(source: str) -> bool:
    """Whether `source` can only be meant as a path: it has a suffix, starts as paths do, or is no Hub name."""
    return (
        len(source) > LONGEST_NAME
        or source.startswith((".", "/", "~", "\\"))
        or bool(re.search(r"\.[A-Za-z]{2,}[0-9]?$", source.partition(":")[0]))
        or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?(:[\w.-]+)?", source)
    )


def _names_beside(folder: Path) -> dict[int, str] | None:
    path = folder / "labels.json"
    return read_names(path) if path.exists() else None


def _file(path: Path, source: str) -> Source:
    files.format_of(path)
    stem = files.stem(path)
    name = path.resolve().parent.name if role_of(stem) or stem in ("all", "data") else stem
    return Source(name or stem, source, {stem: (File(path),)}, _names_beside(path.parent))


def _folder(folder: Path, source: str) -> Source:
    rows = _data_files(folder) or _data_files(folder / "data")
    made = files.by_split(rows, folder) if rows else saved.splits_of(folder)
    splits: dict[str, tuple[Part, ...]] = {split: tuple(map(File, paths)) for split, paths in made.items()}
    splits = splits or {name: (part,) for name, part in class_folders(folder).items()}
    if not splits:
        inside = [path.name for path in sorted(folder.iterdir()) if path.is_dir() and _data_files(path)]
        if inside:
            raise UserError(f"{source}: no data files here, but in its folders {listed(inside[:10])}; pass one of them")
        raise UserError(
            f"{source}: no data files here; a folder holds train.csv and test.csv (or {listed(files.FORMATS)}), "
            "or a folder of .txt files for each class"
        )
    return Source(folder.resolve().name, source, splits, _names_beside(folder))


def _data_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [path for path in sorted(folder.iterdir()) if path.is_file() and files.holds_rows(path)]
