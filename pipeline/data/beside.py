"""Labels that lie in a separate file: `test_labels.csv` beside `test.csv`, matched by a column both have."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .. import UserError, listed, one_line
from . import naming
from .rows import BLOCK_ROWS, Columns, Raw
from .sources import Part

BESIDE = re.compile(r"(?P<split>.+?)[ _.-]?(labels?|answers?|targets?|solutions?|y)", re.IGNORECASE)


@dataclass(frozen=True)
class Answers:
    """The labels of a split's rows, in a separate file."""

    split: str  # what that file is called
    parts: tuple[Part, ...]
    label: str
    key: str  # the column that says which row a label is of

    def joined(self, raw: Raw) -> Raw:
        """`raw` with these labels. Raises UserError where a key is there twice, or a row has no label."""
        labels: dict[str, Any] = {}
        for part in self.parts:
            for block in part.blocks([self.key, self.label], BLOCK_ROWS):
                for key, label in zip(block.columns[self.key], block.columns[self.label], strict=True):
                    if str(key) in labels:
                        raise UserError(f"{part}: {self.key} {_short(key)} is there twice; keep one row of it")
                    labels[str(key)] = label
        keys = [str(key) for key in raw.keys or []]
        if lacking := [row for row, key in enumerate(keys) if key not in labels]:
            row = lacking[0]
            raise UserError(
                f"{raw.where(row)}: {self.key} {_short(keys[row])} is not in {self.parts[0]}, as for "
                f"{len(lacking):,} of {len(keys):,} rows; add them, or drop the rows"
            )
        return replace(raw, labels=[labels[key] for key in keys], typed=self.parts[0].typed)


def labels_beside(splits: Mapping[str, Sequence[Part]], columns: Columns) -> dict[str, Answers]:
    """Split name → its labels, for those that have none of their own and a file of labels beside.

    Raises UserError if nothing says which label is of which row.
    """
    beside = {}
    for name, parts in splits.items():
        match = BESIDE.fullmatch(name)
        split = match["split"] if match else ""
        if split not in splits or columns.label is None:
            continue
        here, theirs = parts[0].column_names(), splits[split][0].column_names()
        if columns.label not in here or columns.label in theirs or any(text in here for text in columns.texts):
            continue
        shared = [column for column in here if column in theirs and column != columns.label]
        keys = [column for column in shared if naming.plain(column) in naming.IDS] or shared
        if not keys:
            raise UserError(
                f"{parts[0]}: no column says which row of {splits[split][0].name} a label is of "
                f"({listed(here)}); add one that both have"
            )
        beside[split] = Answers(name, tuple(parts), columns.label, keys[0])
    return beside


def _short(value: object) -> str:
    return one_line(repr(value), 40)
