"""Text that is shown and not obeyed, tables under a title, and standard output as wide as it is."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Iterator, Sequence
from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text as RichText

from ..words import MISSING, printable

WIDE = 2000  # columns, where no terminal sets a limit

Cell = str | RichText


class Text(RichText):
    """What data and other people's runs may have put in is shown, not obeyed."""

    def __init__(self, text: object = "", *more: Any, **options: Any) -> None:
        super().__init__(printable(text), *more, **options)


class Output(Console):
    """Standard output: as wide as the terminal; where there is none, nothing is cut or folded."""

    def __init__(self) -> None:
        super().__init__(highlight=False)
        if not self.is_terminal:
            self.width = WIDE

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def table(
    title: str | None,
    columns: Sequence[str],
    rows: Iterable[Sequence[Cell]],
    right: Container[str] = (),
    wrap: bool = True,
) -> Group:
    """Rows of cells under a title, which may be wider than they are; columns named in `right` have theirs there."""
    grid = Table(box=None, pad_edge=False)
    for name in columns:
        justify: Any = "right" if name in right else "left"
        grid.add_column(Text(name), justify=justify, no_wrap=not wrap, overflow="fold" if wrap else "ellipsis")
    return _under(title, grid, rows)


def facts(title: str | None, rows: Iterable[tuple[str, str]]) -> Group:
    """Names and values under a title."""
    grid = Table(show_header=False, box=None, pad_edge=False)
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    return _under(title, grid, rows)


def _under(title: str | None, grid: Table, rows: Iterable[Sequence[Cell]]) -> Group:
    for row in rows:
        grid.add_row(*(cell if isinstance(cell, RichText) else Text(cell) for cell in row))
    return Group(grid) if title is None else Group(Text(title, style="italic"), grid)


def spread(parts: Iterable[Any]) -> Iterator[Any]:
    """Parts of an answer with an empty line after each."""
    for part in parts:
        yield part
        yield Text()


def number(value: float | None, form: str = ".3f") -> str:
    return MISSING if value is None else format(value, form)


def interval(value: Any) -> str:
    if math.isnan(value.value):
        return MISSING  # not defined on these rows
    return f"{value.value:.3f} [{value.low:.3f}, {value.high:.3f}]"
