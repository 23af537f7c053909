"""Suspicious rows as a CSV for people to go through: nothing in it is taken for a formula.

A spreadsheet takes a cell that begins with =, +, -, @, a tab or a carriage return for a formula, quoted or not; such
a cell gets an apostrophe in front, as OWASP advises. Whoever reads the file by program takes one such apostrophe off.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..files import disk_errors, publish
from .suspects import HEADER, SuspectRow

FORMULA = ("=", "+", "-", "@", "\t", "\r")


def guarded(cell: object) -> str:
    """A cell as a spreadsheet shows it, and nothing that it would compute; NUL bytes are left out."""
    text = str(cell).replace("\0", "")
    return f"'{text}" if text.startswith(FORMULA) else text


def export(rows: Sequence[SuspectRow], path: Path) -> int:
    """Write suspicious rows to `path`, the most suspicious first; returns how many.

    Raises UserError if the file cannot be written.
    """
    return write_csv(path, HEADER, (row.cells() for row in rows))


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> int:
    """Write UTF-8 with a byte order mark (spreadsheets guess wrongly without), in one rename; returns the rows.

    Raises UserError if the file cannot be written.
    """
    path, count, lines = Path(path), 0, io.StringIO()
    writer = csv.writer(lines)
    writer.writerow(header)
    for row in rows:
        writer.writerow([cell if isinstance(cell, float | int) else guarded(cell) for cell in row])
        count += 1
    with disk_errors(path, "cannot write", "choose another --out"):
        path.parent.mkdir(parents=True, exist_ok=True)
        publish(path, lines.getvalue().encode("utf-8-sig", "replace"))
    return count
