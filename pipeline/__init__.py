"""Probe or Tune: is logistic regression on frozen [CLS] vectors enough, or is it worth fine-tuning the encoder?

`texts → vectors → runs → verdict`: each module of this package is one step of that line, and imports only from
the steps before it. Names are loaded on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import math
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any, Protocol, TypeVar

log = logging.getLogger("pipeline")  # one-line notes for the user; the command line prints them on standard error

Row = TypeVar("Row")


class UserError(Exception):
    """Something the user can mend. The message is one line that says where, what and the next step."""


def printable(text: object) -> str:
    """Text that a terminal shows and does not obey: signs that cannot be printed become replacement characters."""
    return "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in str(text))


class Progress(Protocol):
    """What a long call tells its caller: `done` of `total` (None if unknown) units of `stage`."""

    def __call__(self, stage: str, done: int, total: int | None) -> None: ...


def silent(stage: str, done: int, total: int | None) -> None:
    """Progress that nobody watches."""


def listed(names: Iterable[str]) -> str:
    """`a, b, c`, as errors and tables show a list of names."""
    return ", ".join(map(str, names))


def format_duration(seconds: float) -> str:
    """`4 s`, `3 min`, `1.5 h`."""
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def one_line(text: str | Iterable[str], limit: int) -> str:
    """A stranger's text, or a pair, on one line of at most `limit` characters.

    What would steer a terminal or turn the direction of writing becomes a mark.
    """
    parts = [text] if isinstance(text, str) else list(text)
    joined = " ⏐ ".join(" ".join(part[: 4 * limit].split()) for part in parts)
    plain = "".join(character if character.isprintable() else "\ufffd" for character in joined)
    return plain if len(plain) <= limit else plain[: limit - 1] + "…"


def finite(value: Any) -> Any:
    """`value` as JSON knows it: a number that is not finite becomes null, at any depth."""
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def choose(table: Mapping[str, Row], name: str, what: str) -> Row:
    """The row `name` of `table`.

    Raises UserError, naming every choice, if there is no such row.
    """
    if name not in table:
        raise UserError(f"no {what} '{name}'; choose one of {listed(table)}")
    return table[name]


def need(module: str, extra: str) -> ModuleType:
    """Import an optional dependency.

    Raises UserError with the command that installs it.
    """
    if importlib.util.find_spec(module.partition(".")[0]) is None:
        raise UserError(f"this needs {module}: pip install 'probe-or-tune[{extra}]'")
    return importlib.import_module(module)


PUBLIC = {
    "SourceOptions": "data",
    "Dataset": "data",
    "Split": "data",
    "read": "data",
    "EncoderSpec": "encoder",
    "Runtime": "encoder",
    "Store": "store",
    "EmbeddingMatrix": "extract",
    "FrozenEncoder": "transformer",
    "Run": "run",
    "load_run": "run",
    "open_run": "predict",
    "export_run": "export",
    "compare": "verdict",
}


RENAMED = {"Effort": "Runtime"}  # names of the release before, kept for one more


def __getattr__(name: str) -> Any:
    name = RENAMED.get(name, name)
    if name not in PUBLIC:
        raise AttributeError(f"module 'pipeline' has no attribute '{name}'")
    return getattr(importlib.import_module(f"pipeline.{PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *PUBLIC])
