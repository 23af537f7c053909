"""How far a long call is: bars on a terminal, a line now and then anywhere else."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from .. import Progress as Watcher
from .. import silent
from ..words import roughly

LINE_SECONDS = 15.0  # how often progress speaks where nobody watches a bar


@contextmanager
def progress(stream: Any = None, quiet: bool = False) -> Iterator[Watcher]:
    """Progress on standard error: bars on a terminal, a line now and then anywhere else; nothing if `quiet`."""
    if quiet:
        yield silent
        return
    console = Console(stderr=True, file=stream)
    if not console.is_terminal:
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
            bars.update(tasks[stage], completed=done, total=total)

        yield tell


class Lines:
    """A line when a stage has run for a while, and each time that much more has passed."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.began: dict[str, tuple[float, int]] = {}  # stage → when it was first heard of, and how far it was
        self.spoke: dict[str, float] = {}

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        start, first = self.began.setdefault(stage, (now, done))
        if now - self.spoke.setdefault(stage, now) < LINE_SECONDS:
            return
        self.spoke[stage] = now
        share = f"{done:,} of {total:,} ({done / total:.0%})" if total else f"{done:,}"
        left = ""
        if total and first < done < total:
            left = f", {roughly((total - done) * (now - start) / (done - first))} left"
        self.console.print(f"{stage}: {share}{left}", highlight=False, markup=False)
