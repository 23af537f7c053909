"""Answers out: a file by its suffix, atomically, of any number of rows."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from .. import UserError, choose
from ..files import disk_errors, draft
from ..words import encodable, error_line
from .answer import Answer
from .texts import CHUNK


def write(answers: Iterable[Answer], out: Path) -> int:
    """Write answers to `out` in the format of its suffix, atomically; returns how many.

    Raises UserError for an unknown suffix, or if the file cannot be written.
    """
    form = choose(WRITERS, out.suffix.lower(), "format for --out")
    with disk_errors(out, "cannot write", "choose another --out"), draft(out) as new:
        return form(answers, new)


def _jsonl(answers: Iterable[Answer], path: Path) -> int:
    rows = 0
    with open(path, "w", encoding="utf-8", errors="replace") as file:
        for answer in answers:
            file.write(json.dumps(answer.to_json(), ensure_ascii=False) + "\n")
            rows += 1
    return rows


def _csv(answers: Iterable[Answer], path: Path) -> int:
    rows = 0
    with open(path, "w", encoding="utf-8", errors="replace", newline="") as file:
        table: csv.DictWriter[str] | None = None
        for answer in answers:
            row = answer.to_row()
            if table is None:
                table = csv.DictWriter(file, list(row))
                table.writeheader()
            table.writerow(row)
            rows += 1
    return rows


def _parquet(answers: Iterable[Answer], path: Path) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows, table, schema = 0, None, None
    try:
        for block in batched(answers, 8 * CHUNK):
            records = [answer.to_row() for answer in block]
            schema = schema or pa.schema([(name, _type([row[name] for row in records])) for name in records[0]])
            table = table or pq.ParquetWriter(path, schema)
            columns = [_column([row[field.name] for row in records], field, rows) for field in schema]
            table.write_table(pa.Table.from_arrays(columns, schema=schema))
            rows += len(block)
    finally:
        if table is not None:
            table.close()
    if table is None:
        pq.write_table(pa.table({"text": pa.array([], pa.string()), "label": pa.array([], pa.string())}), path)
    return rows


def _type(values: list[Any]) -> Any:
    """The column's type, from its first values; text where they are missing (abstained labels) or of several types."""
    import pyarrow as pa

    kinds = {type(value) for value in values if value is not None}
    integers = kinds == {int} and all(value is None or -(2**63) <= value < 2**63 for value in values)
    numeric = kinds and kinds <= {int, float} and not integers
    return pa.bool_() if kinds == {bool} else pa.int64() if integers else pa.float64() if numeric else pa.string()


def _column(values: list[Any], field: Any, before: int) -> Any:
    """The values as an array of the field's type. Raises UserError where they are of another than the first ones."""
    import pyarrow as pa

    if pa.types.is_string(field.type):
        values = [None if value is None else as_text(value) for value in values]
    try:
        return pa.array(values, field.type)
    except (pa.ArrowException, OverflowError, TypeError) as error:
        raise UserError(
            f"--keep {field.name}: from row {before} on, its values are of another type than before "
            f"({error_line(error)}); write --out FILE.jsonl"
        ) from error


def as_text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return encodable(text)


def batched(answers: Iterable[Answer], size: int) -> Iterator[list[Answer]]:
    """Lists of `size` answers, the last one shorter."""
    block: list[Answer] = []
    for answer in answers:
        block.append(answer)
        if len(block) == size:
            yield block
            block = []
    if block:
        yield block


WRITERS: dict[str, Callable[[Iterable[Answer], Path], int]] = {
    ".jsonl": _jsonl,
    ".csv": _csv,
    ".parquet": _parquet,
}
