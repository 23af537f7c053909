"""How far a long call is: bars on a terminal and in a notebook, a line now and then anywhere else."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from .. import Progress as Watcher
from .. import silent
from ..words import roughly

REDRAW_SECONDS = 0.2
LINE_SECONDS = 15.0  # how often progress speaks where nobody watches a bar


@contextmanager
def progress(stream: Any = None, quiet: bool = False) -> Iterator[Watcher]:
    """Progress on standard error, in a notebook below the cell; nothing if `quiet`.

    Bars on a terminal and in a notebook, gone at the end; a line now and then anywhere else.
    """
    if quiet:
        yield silent
        return
    console = Console(stderr=True, file=stream)
    if console.is_jupyter and stream is None:
        below = Below()
        try:
            yield below
        finally:
            below.clear()
        return
    if not console.is_terminal or "JPY_PARENT_PID" in os.environ:  # a notebook's `!command`: it shows no moving bars
        yield Lines(console)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        tasks: dict[str, Any] = {}

        def tell(stage: str, done: int, total: int | None) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            elif done < bars.tasks[tasks[stage]].completed:  # the next training, fold or file
                bars.reset(tasks[stage], total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield tell


class Below:
    """Bars below a notebook's cell, redrawn in their place; none for a call that is done within a second."""

    def __init__(self) -> None:
        self.stages: dict[str, tuple[int, int | None]] = {}
        self.handle: Any = None  # of the output, once there is one
        self.drawn = time.monotonic() + 1.0 - REDRAW_SECONDS

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        self.stages[stage] = (done, total)
        if time.monotonic() - self.drawn >= REDRAW_SECONDS:
            self.draw(self.as_html(), "\n".join(f"{name}: {share(*far)}" for name, far in self.stages.items()))

    def as_html(self) -> str:
        """A line a stage: its name, a bar, how far it is."""
        rows = []
        for name, (done, total) in self.stages.items():
            bar = f'<progress max="{total}" value="{min(done, total)}"></progress>' if total else ""
            rows.append(f"<div>{escape(name)} {bar} {share(done, total)}</div>")
        return "".join(rows)

    def draw(self, html: str, text: str) -> None:
        """Put this where the bars stand, as a page and as text alone."""
        from IPython.display import display

        self.drawn = time.monotonic()
        bundle = {"text/html": html, "text/plain": text}
        if self.handle is None:
            self.handle = display(bundle, raw=True, display_id=True)
        else:
            self.handle.update(bundle, raw=True)

    def clear(self) -> None:
        """Leave nothing behind."""
        if self.handle is not None:
            self.draw("", "")


def share(done: int, total: int | None) -> str:
    """`90 of 360 (25%)`."""
    return f"{done:,} of {total:,} ({done / total:.0%})" if total else f"{done:,}"


class Lines:
    """A line when a stage has run for a while, and each time that much more has passed."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.began: dict[str, tuple[float, int]] = {}  # stage → when it was first heard of, and how far it was
        self.came: dict[str, int] = {}  # stage → how far it is; one that falls back is another of its kind
        self.spoke: dict[str, float] = {}

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        if done < self.came.get(stage, 0):
            del self.began[stage]
        self.came[stage] = done
        start, first = self.began.setdefault(stage, (now, done))
        if now - self.spoke.setdefault(stage, now) < LINE_SECONDS:
            return
        self.spoke[stage] = now
        left = ""
        if total and first < done < total:
            left = f", {roughly((total - done) * (now - start) / (done - first))} left"
        self.console.print(f"{stage}: {share(done, total)}{left}", highlight=False, markup=False)
