"""Answers out: a file by its suffix, atomically, of any number of rows."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from .. import choose
from ..files import disk_errors, draft
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
            schema = schema or pa.schema([(name, _type(value)) for name, value in records[0].items()])
            table = table or pq.ParquetWriter(path, schema)
            part = pa.Table.from_pylist(records, schema)
            table.write_table(part)
            rows += len(block)
    finally:
        if table is not None:
            table.close()
    if table is None:
        pq.write_table(pa.table({"text": pa.array([], pa.string()), "label": pa.array([], pa.string())}), path)
    return rows


def _type(value: Any) -> Any:
    """The column's type, from its first value; where that is missing it is a text (an abstained label)."""
    import pyarrow as pa

    return pa.bool_() if isinstance(value, bool) else pa.float64() if isinstance(value, float) else pa.string()


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
