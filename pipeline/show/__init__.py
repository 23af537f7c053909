"""What a person sees: results as tables on standard output, progress on standard error.

A result is shown by the row of `SHOWN` that is named after its type; `--json` prints its `to_json()` instead.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, fields
from itertools import chain
from typing import TYPE_CHECKING, Any

from ..words import MISSING, encodable, listed, spaced
from . import audits, profiles, tables, verdicts
from .bars import progress as progress
from .parts import Output, table

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
    console, kind = Output(), type(values[0]).__name__
    shown = tables.run_tables(values) if kind == "Run" else chain.from_iterable(map(SHOWN[kind], values))
    for part in chain(shown, map(tables.seeds_line, seeds)):
        console.print(part)


def lines(values: Iterable[Any]) -> None:
    """Print one JSON object a line, each as soon as it is there."""
    for value in values:
        line = json.dumps(value.to_json(), ensure_ascii=sys.stdout.isatty())  # a terminal would obey some signs
        print(encodable(line), flush=True)


def listing(values: Sequence[Any], as_json: bool) -> None:
    """Print dataclasses of one kind as a table, a column a field, or as one JSON object."""
    if as_json:
        folders = {"folders": [asdict(value) for value in values]}
        print(json.dumps(folders, ensure_ascii=False, indent=2, default=str))
        return
    names = [field.name for field in fields(values[0])] if values else []
    rows = [[_cell(name, getattr(value, name)) for name in names] for value in values]
    Output().print(table(None, list(map(spaced, names)), rows) if values else "nothing there yet")


def _cell(name: str, value: Any) -> str:
    """A field as a person reads it."""
    if value is None or value == () or value == {}:
        return MISSING
    if isinstance(value, dict):
        return listed(value[key] for key in ("encoder", "pooling", "engine", "precision", "storage") if key in value)
    if isinstance(value, tuple):
        return listed(value)
    if name == "last_used":
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(value))
    if name == "bytes" or name == "freed":
        return f"{value / 1e6:,.1f} MB"
    return f"{value:,}" if type(value) is int else str(getattr(value, "name", value))


SHOWN: dict[str, Callable[[Any], Iterable[Any]]] = {  # type of a result → what the terminal prints of it
    "Checkup": tables.checkup_tables,
    "Handed": tables.export_lines,
    "Recomputed": tables.recomputed_lines,
    "Exported": tables.parquet_lines,
    "Profile": profiles.profile_tables,
    "Extracted": tables.extraction_tables,
    "Outcome": verdicts.comparison_tables,
    "Audit": audits.audit_tables,
    "Settled": verdicts.settled_lines,
    "Curve": verdicts.curve_tables,
}
