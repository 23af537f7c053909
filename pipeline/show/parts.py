"""Text that is shown and not obeyed, tables under a title, and standard output as wide as it is."""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text as RichText

from ..words import printable

WIDE = 2000  # columns, where no terminal sets a limit


class Text(RichText):
    """What data and other people's runs may have put in is shown, not obeyed."""

    def __init__(self, text: object = "", *more: Any, **options: Any) -> None:
        super().__init__(printable(text), *more, **options)


def shown(text: object) -> str:
    """The same where rich reads markup."""
    return escape(printable(text))


class Output(Console):
    """Standard output: as wide as the terminal; where there is none, nothing is cut or folded."""

    def __init__(self) -> None:
        super().__init__(highlight=False)
        if not self.is_terminal:
            self.width = WIDE

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def titled(title: str | None, columns: Sequence[str], right: Container[str] = ()) -> Table:
    """An empty table under its title, with its columns; those named in `right` have their cells there."""
    table = Table(title=title and shown(title), title_justify="left", box=None, pad_edge=False)
    for name in columns:
        table.add_column(shown(name), justify="right" if name in right else "left")
    return table


def facts(title: str, rows: Sequence[tuple[str, str]]) -> Table:
    """Names and values under a title."""
    table = Table(title=shown(title), title_justify="left", show_header=False, box=None, pad_edge=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, Text(value))
    return table


def number(value: float | None, form: str = ".3f") -> str:
    return "–" if value is None else format(value, form)


def interval(value: Any) -> str:
    if math.isnan(value.value):
        return "–"  # not defined on these rows
    return f"{value.value:.3f} [{value.low:.3f}, {value.high:.3f}]"
