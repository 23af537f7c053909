"""Texts in: from arguments, from a file of any size, or from lines as they come."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import UserError
from ..data import SourceOptions, columns_called, read_chunks
from ..data.frames import Frames
from ..run import Run

CHUNK = 1024  # texts that are sorted by length and encoded together

Texts = Sequence[tuple[str, ...]]


@dataclass(frozen=True)
class Given:
    """What is to be predicted: texts, or a file and its columns of text, or neither (then lines)."""

    texts: tuple[str, ...] = ()
    file: Path | None = None
    text: tuple[str, ...] = ()  # columns of the file; none: those that the run was fitted on
    keep: tuple[str, ...] = ()  # other columns of the file, to be carried through


class Rows(list[tuple[str, ...]]):
    """Texts of a file, and the columns that are carried through beside them."""

    def __init__(self, texts: Texts, columns: Mapping[str, Sequence[Any]]) -> None:
        super().__init__(texts)
        self.columns = columns  # n values each

    def carried(self) -> Iterator[dict[str, Any]]:
        """What is carried through beside each text."""
        for i in range(len(self)):
            yield {name: values[i] for name, values in self.columns.items()}


def texts_in(run: Run, given: Given, lines: Iterable[str]) -> Iterator[Texts]:
    """The texts to predict: those given, else those of a file, else `lines` as they come.

    A run on pairs takes two texts as one pair. Raises UserError if texts and a file are given both, or columns without
    a file.
    """
    parts, texts = texts_a_row(run), given.texts
    if texts and given.file:
        raise UserError("texts and --file were given; pass one of the two")
    if given.keep and not given.file:
        raise UserError("--keep carries columns of a file through; pass --file")
    if given.text and not given.file:
        raise UserError("--text names columns of a file; pass --file with it, or leave it out")
    if given.file:
        return file_blocks(source_of(run, given.file, given.text), given.keep)
    if texts and len(texts) % parts:
        raise UserError(f"this run reads {parts} texts a row and got {len(texts)}; pass them in pairs")
    if texts:
        return iter([[tuple(texts[i : i + parts]) for i in range(0, len(texts), parts)]])
    return line_blocks(lines, parts)


def texts_a_row(run: Run) -> int:
    """1, or 2 for a run on pairs; what does not say so (majority) takes single texts."""
    return int(run.settings.get("text_parts", 1))


def source_of(run: Run, rows: Path | Frames, text: tuple[str, ...]) -> SourceOptions:
    """A file, or rows in memory, as what a run reads: columns `text`, else those that the run was fitted on.

    Where neither says which, their names must. Raises UserError if there is no column of that name.
    """
    frames = rows if isinstance(rows, Frames) else None
    if not text and run.text_columns:
        text = columns_called(frames or str(rows), run.text_columns)
    return SourceOptions(str(rows), text=text, frames=frames)


def file_blocks(source: SourceOptions, keep: tuple[str, ...] = ()) -> Iterator[Rows]:
    """The texts of a source of any size, a block at a time.

    Raises UserError if it cannot be read.
    """
    for chunk in read_chunks(source, rows=CHUNK, keep=keep):
        yield Rows(chunk.texts, chunk.columns)


def unread(error: BaseException) -> BaseException:
    """What to raise where standard input ended in an error."""
    if isinstance(error, UnicodeDecodeError):
        return UserError("standard input: a line is not UTF-8; convert it first, as with `iconv -f latin1 -t utf-8`")
    return error


def line_blocks(lines: Iterable[str], parts: int = 1) -> Iterator[Texts]:
    """Texts as lines bring them: whatever has arrived, one at least; a pair is two strings with a tab between them.

    Raises UserError for a line that is not UTF-8; what came before it has been yielded.
    """
    line: queue.Queue[str | BaseException | None] = queue.Queue(CHUNK)

    def work() -> None:
        try:
            for text in lines:
                line.put(text)
            line.put(None)
        except BaseException as error:  # whoever waits for a line must hear of it
            line.put(error)

    threading.Thread(target=work, daemon=True, name="lines").start()
    open_ = True
    while open_:
        block: list[tuple[str, ...]] = []
        while open_ and len(block) < CHUNK and not (block and line.empty()):
            text = line.get()
            if isinstance(text, BaseException):
                if block:
                    yield block
                raise unread(text)
            if text is None:
                open_ = False
            else:
                text = text.removesuffix("\n").removesuffix("\r")
                block.append(tuple(text.split("\t", 1)) if parts == 2 else (text,))
        if block:
            yield block
