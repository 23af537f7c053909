"""JSON → rows: one object a line, or one array of objects, which is read piece by piece.

`content.text` is the field `text` inside the object `content`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from .. import UserError, one_line
from ..untrusted import parse_json
from .lines import LONGEST_LINE, lines, pieces

NAMED = 100  # rows whose keys are the columns
BLANK = re.compile(r"[ \t\r\n]*")
LONELY = re.compile("[\ud800-\udfff]")


def names(path: Path) -> list[str]:
    """The columns: keys of the first rows, those inside objects with their path."""
    columns: dict[str, None] = {}
    for _, row in islice(_rows(path), NAMED):
        columns |= dict.fromkeys(_paths(row))
    if not columns:
        raise UserError(f"{path}: empty file; give a file with at least one row")
    return list(columns)


def _paths(row: dict[str, Any], before: str = "", depth: int = 0) -> Iterator[str]:
    for key, value in row.items():
        if isinstance(value, dict) and value and depth < 4:
            yield from _paths(value, f"{before}{key}.", depth + 1)
        else:
            yield f"{before}{key}"


def field(row: Any, name: str) -> tuple[bool, Any]:
    """Whether a row has the field `name`, and its value; a key of that very name comes before a path."""
    if not isinstance(row, dict):
        return False, None
    if name in row:
        return True, row[name]
    for cut in [i for i, sign in enumerate(name) if sign == "."]:
        if isinstance(row.get(name[:cut]), dict):
            present, value = field(row[name[:cut]], name[cut + 1 :])
            if present:
                return True, value
    return False, None


def blocks(path: Path, wanted: Sequence[str], size: int) -> Iterator[tuple[dict[str, list[Any]], list[int] | None]]:
    """A key that a row lacks is None there; but the first of `wanted`, a text, every row must have."""
    held: list[list[Any]] = []
    places: list[int] = []
    numbered = True
    for number, (line, row) in enumerate(_rows(path)):
        values = [field(row, name) for name in wanted]
        numbered = line is not None
        if not values[0][0]:
            where = f"{path}:{line}" if line else f"{path} row {number}"
            keys = [one_line(key, 40) for key in list(row)[:20]]
            raise UserError(f"{where}: no '{wanted[0]}' among {keys}; add it, or drop the row")
        held.append([_mended(value) for _, value in values])
        places.append(line or 0)
        if len(held) == size:
            yield dict(zip(wanted, map(list, zip(*held, strict=True)), strict=True)), places if numbered else None
            held, places = [], []
    if held:
        yield dict(zip(wanted, map(list, zip(*held, strict=True)), strict=True)), places if numbered else None


def count_rows(path: Path) -> int:
    return sum(1 for _ in _rows(path))


def _mended(value: Any) -> Any:
    """`value` with half surrogate pairs, which no tokenizer accepts, replaced by U+FFFD."""
    if isinstance(value, str) and not value.isascii() and LONELY.search(value):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value


def _rows(path: Path) -> Iterator[tuple[int | None, dict[str, Any]]]:
    """(line, object) of every row; an array's rows have no line."""
    for number, line in enumerate(lines_or_array(path), 1):
        if isinstance(line, dict):
            yield None, line
            continue
        if not line.strip():
            continue
        try:
            row = parse_json(line)
        except ValueError as error:
            if number == 1 and line.strip() == "{":
                raise UserError(f"{path}: an object over many lines; write one object a line") from error
            why = getattr(error, "msg", error)
            raise UserError(f"{path}:{number}: not valid JSON ({one_line(str(why), 80)}); mend that line") from error
        if not isinstance(row, dict):
            raise UserError(f'{path}:{number}: not an object; write one {{"text": ..., "label": ...}} a line')
        yield number, row


def lines_or_array(path: Path) -> Iterator[str | dict[str, Any]]:
    """The lines of a file, or, where it begins with a bracket, the objects of its array."""
    beginning = ""
    for piece in pieces_of_start(path):
        beginning = piece.lstrip()
        break
    yield from _array(path) if beginning.startswith("[") else lines(path)


def pieces_of_start(path: Path) -> Iterator[str]:
    """The first pieces that are not blank; nothing where it is no UTF-8, which reading says better."""
    for piece in pieces(path):
        if piece.strip():
            yield piece


def _array(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of one array, in bounded memory: what has been read is let go of."""
    decoder, text, at, number = json.JSONDecoder(), "", 0, 0
    source = pieces(path)
    state = "["  # what comes next: the bracket, a value, or a comma

    def more() -> bool:
        nonlocal text, at
        piece = next(source, None)
        text, at = text[at:] + (piece or ""), 0
        return piece is not None

    while True:
        at = BLANK.match(text, at).end()  # type: ignore[union-attr]
        if at >= len(text):
            if more():
                continue
            raise UserError(f"{path}: not valid JSON (the array never ends, after row {number}); fetch it again")
        sign = text[at]
        if state == "[":
            at, state = at + 1, "first"
        elif sign == "]" and state in ("first", ","):
            return
        elif state == "," and sign == ",":
            at, state = at + 1, "value"
        elif state == ",":
            raise UserError(f"{path} row {number}: not valid JSON (no comma before it); mend it")
        else:
            try:
                row, at = decoder.raw_decode(text, at)
            except (ValueError, RecursionError) as error:
                if isinstance(error, ValueError) and len(text) - at < LONGEST_LINE and more():
                    continue
                why = getattr(error, "msg", None) or (
                    "nested too deeply" if isinstance(error, RecursionError) else error
                )
                raise UserError(f"{path} row {number}: not valid JSON ({one_line(str(why), 80)}); mend it") from error
            if not isinstance(row, dict):
                raise UserError(f"{path} row {number}: not an object; write a list of objects")
            yield row
            number, state = number + 1, ","
