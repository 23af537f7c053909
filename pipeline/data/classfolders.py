"""A folder of .txt files for each class → rows: `train/pos/0_9.txt` is a text of class `pos`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import log
from .files import Block
from .lines import guarded, lines

UNLABELLED = ("unsup", "unlabeled", "unlabelled", "unsupervised")  # as in the large movie review data set


@dataclass(frozen=True)
class ClassFolders:
    """The rows of one split: class by class, and in each by the names of the files."""

    path: Path
    classes: tuple[str, ...]

    def __str__(self) -> str:
        return str(self.path)

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def typed(self) -> bool:
        return False

    def column_names(self) -> list[str]:
        return ["text", "label"]

    def plain_columns(self) -> set[str] | None:
        return {"label"}

    def class_names(self, column: str) -> tuple[str, ...] | None:
        return None

    def blocks(self, wanted: Sequence[str], size: int) -> Iterator[Block]:
        """The `wanted` columns, `size` rows at a time. Raises UserError for a file that cannot be read as text."""
        files = [(name, file) for name in self.classes for file in _texts(self.path / name)]
        for start in range(0, len(files), size):
            some = files[start : start + size]
            columns = {"label": [name for name, _ in some]}
            if "text" in wanted:
                columns["text"] = [_read(file) for _, file in some]
            yield Block({name: columns[name] for name in wanted}, None)

    def count_rows(self) -> int:
        return sum(len(_texts(self.path / name)) for name in self.classes)


def class_folders(folder: Path) -> dict[str, ClassFolders]:
    """Split name → its classes: of folders that hold folders of .txt files, else of `folder` itself; {} without any."""
    inside = [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    splits = {path.name: ClassFolders(path, classes) for path in inside if (classes := _classes(path))}
    if not splits and (classes := _classes(folder)):
        return {folder.resolve().name: ClassFolders(folder, classes)}
    return splits


def _classes(folder: Path) -> tuple[str, ...]:
    named = [entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith(".")]
    holding = sorted(name for name in named if _texts(folder / name))
    labelled = tuple(name for name in holding if name.lower() not in UNLABELLED)
    for name in holding if labelled else ():
        if name not in labelled:
            log.info("%s: '%s' is left out: its texts have no class", folder, name)
    return labelled


def _texts(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() == ".txt" and not path.name.startswith("."))


def _read(file: Path) -> str:
    with guarded(file):
        return "".join(lines(file)).rstrip("\r\n")
