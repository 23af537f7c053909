"""What a person sees: results as tables on standard output, progress on standard error.

A result is shown by the row of `SHOWN` that is named after its type; `--json` prints its `to_json()` instead.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from rich.table import Table

from . import tables, verdicts
from .bars import progress as progress
from .parts import Output, Text

if TYPE_CHECKING:
    from ..finetune.seeds import Seeds


def result(value: Any, as_json: bool) -> None:
    """Print one result."""
    results([value], as_json)


def results(values: Sequence[Any], as_json: bool, seeds: Sequence[Seeds] = ()) -> None:
    """Print results of one kind; as JSON the first one's object, with all of them under `runs` if there are several.

    `seeds`: what several seeds of one fit have in common.
    """
    if as_json:
        objects = [value.to_json() for value in values]
        several = {"runs": objects} if len(objects) > 1 else {}
        several |= {"seeds": [of_fit.to_json() for of_fit in seeds]} if seeds else {}
        print(json.dumps(objects[0] | several, ensure_ascii=False, indent=2))
        return
    console = Output()
    for part in (*SHOWN[type(values[0]).__name__](values), *map(tables.seeds_line, seeds)):
        console.print(part)


def lines(values: Iterable[Any]) -> None:
    """Print one JSON object a line, each as soon as it is there."""
    for value in values:
        line = json.dumps(value.to_json(), ensure_ascii=sys.stdout.isatty())  # a terminal would obey some signs
        print(line.encode("utf-8", "replace").decode("utf-8"), flush=True)


def listing(values: Sequence[Any], as_json: bool) -> None:
    """Print dataclasses of one kind as a table, a column a field, or as one JSON object."""
    if as_json:
        folders = {"folders": [asdict(value) for value in values]}
        print(json.dumps(folders, ensure_ascii=False, indent=2, default=str))
        return
    table = Table(box=None, pad_edge=False)
    names = [field.name for field in fields(values[0])] if values else []
    for name in names:
        table.add_column(name.replace("_", " "), overflow="fold")
    for value in values:
        table.add_row(*(Text(_cell(name, getattr(value, name))) for name in names))
    Output().print(table if values else "nothing there yet")


def _cell(name: str, value: Any) -> str:
    """A field as a person reads it."""
    if value is None or value == () or value == {}:
        return "–"
    if isinstance(value, dict):
        return ", ".join(
            f"{value[key]}" for key in ("encoder", "pooling", "engine", "precision", "storage") if key in value
        )
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    if name == "last_used":
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(value))
    if name == "bytes" or name == "freed":
        return f"{value / 1e6:,.1f} MB"
    return (
        f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(getattr(value, "name", value))
    )


SHOWN: dict[str, Callable[[Any], Iterator[Any]]] = {  # type of a result → many of them, as what the terminal prints
    "Checkup": tables.checkup_tables,
    "Handed": tables.export_lines,
    "Recomputed": tables.recomputed_lines,
    "Exported": tables.parquet_lines,
    "Profile": tables.profile_tables,
    "Extracted": tables.extraction_tables,
    "Run": tables.run_tables,
    "Outcome": verdicts.comparison_tables,
    "Audit": tables.audit_tables,
    "Curve": verdicts.curve_tables,
}
