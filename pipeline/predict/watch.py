"""What a person hears while a file is predicted: how much there is, how long it takes, how far it has come."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .. import Progress, log
from ..data import count_rows
from ..run import Run
from ..words import roughly
from .answer import Answer
from .texts import Given, source_of


def announce(run: Run, given: Given) -> int:
    """Say how many texts of a file will be predicted and about how long that takes; returns how many.

    Raises UserError if the file cannot be read.
    """
    assert given.file is not None, "texts from arguments and lines are not announced"
    rows = count_rows(source_of(run, given.file, given.text))
    each = run.cost.ms_per_text_batch
    about = "" if each is None else f", {roughly(rows * each / 1000)} where nothing is in the cache"
    log.info("%s: %s texts for %s%s", given.file, f"{rows:,}", run.kind, about)
    return rows


def watched(answers: Iterable[Answer], total: int | None, progress: Progress) -> Iterator[Answer]:
    """The same answers, with progress told now and then."""
    for done, answer in enumerate(answers, 1):
        yield answer
        if done % 64 == 0 or done == total:
            progress("predict", done, total)
