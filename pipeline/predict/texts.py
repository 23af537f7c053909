"""Texts in: from arguments, from a file of any size, or from lines as they come."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import UserError
from ..data import SourceOptions, read_chunks
from ..run import Run

CHUNK = 1024  # texts that are sorted by length and encoded together

Texts = Sequence[tuple[str, ...]]


@dataclass(frozen=True)
class Given:
    """What is to be predicted: texts, or a file and its columns of text, or neither (then lines)."""

    texts: tuple[str, ...] = ()
    file: Path | None = None
    text: tuple[str, ...] = ()  # columns of the file


def texts_in(
    run: Run, texts: Sequence[str], file: Path | None, columns: tuple[str, ...], lines: Iterable[str]
) -> Iterator[Texts]:
    """The texts to predict: those given, else those of `file`, else `lines` as they come.

    A run on pairs takes two texts as one pair. Raises UserError if texts and a file are given both.
    """
    parts = texts_a_row(run)
    if texts and file:
        raise UserError("texts and --file were given; pass one of the two")
    if file:
        return file_blocks(file, columns)
    if texts and len(texts) % parts:
        raise UserError(f"this run reads {parts} texts a row and got {len(texts)}; pass them in pairs")
    if texts:
        return iter([[tuple(texts[i : i + parts]) for i in range(0, len(texts), parts)]])
    return line_blocks(lines, parts)


def texts_a_row(run: Run) -> int:
    """1, or 2 for a run on pairs; what does not say so (majority) takes single texts."""
    return int(run.settings.get("text_parts", 1))


def file_blocks(file: Path, columns: tuple[str, ...]) -> Iterator[Texts]:
    """The texts of a file of any size, a block at a time.

    Raises UserError if it cannot be read.
    """
    for chunk in read_chunks(SourceOptions(str(file), text=columns), rows=CHUNK):
        yield chunk.texts


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
