"""A run × texts → answers, in blocks: the memory it takes does not grow with the source.

`texts` brings them in, `models` opens the run, `answer` says what is predicted of one text, `files` writes answers.
Nothing here imports torch or transformers; a run that was fine-tuned does when it is opened.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

from .. import UserError
from ..kinds import kind_row
from ..run import Run
from .answer import Answer, Ask, answered
from .files import write
from .models import Model, Opening, open_run
from .texts import Given, Rows, Texts, file_blocks, line_blocks, texts_a_row, texts_in
from .watch import announce, watched

__all__ = [
    "Answer",
    "Ask",
    "Given",
    "Model",
    "Opening",
    "announce",
    "answers",
    "file_blocks",
    "line_blocks",
    "open_run",
    "texts_in",
    "watched",
    "write",
]


def answers(run: Run, model: Model, blocks: Iterable[Texts], ask: Ask = Ask()) -> Iterator[Answer]:  # noqa: B008 - frozen
    """Label and probabilities of each text, block by block, in order.

    The label is the likeliest class; where the run has a threshold (two classes), that decides.
    Raises UserError if a text has another number of parts than those that the run learnt from.
    """
    parts = 0 if kind_row(run.kind).family == "constant" else texts_a_row(run)
    threshold = getattr(model, "threshold", None)
    for block in blocks:
        wrong = next((text for text in block if parts and len(text) != parts), None)
        if wrong is not None:
            raise UserError(f"this run reads {parts} texts a row and got {len(wrong)}: {wrong[0][:40]!r}")
        carried = block.carried() if isinstance(block, Rows) else itertools.repeat({})
        for text, row, others in zip(block, model.proba(block), carried):  # noqa: B905 - what is repeated has no end
            yield answered(run, text, row, threshold, ask, others)
