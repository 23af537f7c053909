"""A source of any size, some rows at a time: for extracting and predicting."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from .. import UserError, listed, log
from . import naming, sources, splits
from .beside import labels_beside
from .dataset import SourceOptions, is_empty
from .frames import Frames
from .labels import Where, tidy
from .rows import BLOCK_ROWS, Columns, Looks, blocks_of, choose_columns, declared_names, names_of_ids, texts_of
from .sources import Part, Source


@dataclass(frozen=True)
class Chunk:
    """Some rows of one split of a source of any size."""

    split: str
    texts: list[tuple[str, ...]]  # n tuples of 1 or 2 strings
    labels: np.ndarray | None  # (n,) str class names, "" where missing; None without a label column
    row_ids: np.ndarray  # (n,) str
    columns: dict[str, list[Any]] = field(default_factory=dict)  # n values each, of those to keep


EVERY = "*"  # every other column


def read_chunks(
    options: SourceOptions, split: str | None = None, rows: int = BLOCK_ROWS, keep: Sequence[str] | None = None
) -> Iterator[Chunk]:
    """The rows of a source of any size, `rows` at a time: of `split`, or of all its splits one after another.

    Labels are optional here and come as names; those that make no sense are left out unless --label asks for them.
    --rows is honoured; roles and --split have no meaning. `keep`: the columns to bring beside the texts, none of them
    read as a label.
    Raises UserError for what cannot be read, and for --limit, which would need the whole.
    """
    if options.limit:
        raise UserError(
            f"--limit {options.limit}: a stratified sample needs labels in memory; pass --rows first:N here"
        )
    source = sources.locate(options.frames or options.source)
    if split is not None and split not in source.splits:
        raise UserError(f"{source.home}: no split '{split}' among {listed(source.splits)}; pass one of them")
    for name, columns in _readable(source, options, split, keep).items():
        yield from _chunks(source, name, columns, options, rows)


def _readable(
    source: Source, options: SourceOptions, split: str | None, keep: Sequence[str] | None = None
) -> dict[str, Columns]:
    """The splits with texts, and their columns: those of train, or of the first; labels where a split has them.

    Raises UserError if it is not clear which columns hold the texts, or if a split with a role lacks them.
    """
    named = [split] if split else sorted(source.splits, key=lambda name: naming.role_of(name) != "train")
    first = choose_columns(source.splits[named[0]][0], options, need_label=False)
    answers = {answer.split for answer in labels_beside(source.splits, first).values()}
    readable = {named[0]: first}
    for name in named[1:]:
        part = source.splits[name][0]
        known = part.column_names()
        missing = [text for text in first.texts if text not in known]
        if missing and (name in answers or not naming.role_of(name)):
            log.info("%s: split '%s' is left out: it has no column '%s'", source.home, name, missing[0])
            continue
        label = options.label if options.label in known else None
        readable[name] = choose_columns(part, replace(options, text=first.texts, label=label), need_label=False)
    kept = {
        name: columns if keep is None else Columns(columns.texts, None, _kept(source.splits[name][0], columns, keep))
        for name, columns in readable.items()
    }
    return {
        name: kept[name] if keep is not None else replace(kept[name], others=())
        for name in source.splits
        if name in kept
    }


def _kept(part: Part, columns: Columns, keep: Sequence[str]) -> tuple[str, ...]:
    """The columns of `part` to keep. Raises UserError if one is missing or there twice."""
    names = part.column_names()
    wanted = [name for name in names if names.count(name) == 1] if EVERY in keep else list(keep)
    found = [naming.column(names, name, "--keep", str(part)) for name in wanted]
    return tuple(name for name in dict.fromkeys(found) if name not in columns.texts)


def columns_called(source: str | Frames, wanted: Sequence[str]) -> tuple[str, ...]:
    """The columns of a source that are called `wanted`; where it has one column, that is the text.

    Raises UserError, naming the column that looks like a text, if one is missing.
    """
    part = next(iter(sources.locate(source).splits.values()))[0]
    names = part.column_names()
    if len(names) == len(wanted) == 1:
        return (names[0],)
    plain = {naming.plain(name) for name in names}
    if missing := [name for name in wanted if naming.plain(name) not in plain]:
        advice = naming.quoted(Looks(part).text() or "COLUMN")
        raise UserError(
            f"{part}: no '{missing[0]}', which the run was fitted on, among {naming.shown(names)}; pass --text {advice}"
        )
    return tuple(naming.column(names, name, "--text", str(part)) for name in wanted)


def count_rows(options: SourceOptions) -> int:
    """How many rows `read_chunks` will bring, those that --drop-empty leaves out included. Reads text files once.

    Raises UserError for what cannot be read.
    """
    total = 0
    source = sources.locate(options.frames or options.source)
    for name in _readable(source, options, None):
        rows = sum(part.count_rows() for part in source.splits[name])
        total += (
            min(rows, splits.rows_of(splits.first_of(options.rows), "--rows first:", rows)) if options.rows else rows
        )
    return total


def _chunks(source: Source, name: str, columns: Columns, options: SourceOptions, rows: int) -> Iterator[Chunk]:
    parts = source.splits[name]
    names = None
    if columns.label:
        tables = [declared_names(some, columns.label) for some in source.splits.values()]
        names = names_of_ids(source, [table for table in tables if table], declared_names(parts, columns.label))
    left = sys.maxsize
    if options.rows:
        left = splits.rows_of(splits.first_of(options.rows), "--rows first:", sum(part.count_rows() for part in parts))
    typed = parts[0].typed
    first = 0
    for block, where in blocks_of(parts, columns, rows):
        texts = texts_of(block, columns.texts, where)
        words = None
        if columns.label:
            try:
                words = _names(block.columns[columns.label], names, typed, where)
            except UserError as error:  # whoever did not ask for labels can do without
                if options.label:
                    raise
                log.info("%s; the labels are not read", str(error).partition(";")[0])
                columns = replace(columns, label=None)
        ids = np.array([f"{name}:{first + i}" for i in range(len(texts))], dtype=str)
        keep = [i for i in range(min(left, len(texts))) if not (options.drop_empty and is_empty(texts[i]))]
        others = {other: [block.columns[other][i] for i in keep] for other in columns.others}
        yield Chunk(name, [texts[i] for i in keep], None if words is None else words[keep], ids[keep], others)
        first += len(texts)
        left -= len(texts)
        if left <= 0:
            return


def _names(values: list[Any], names: dict[int, str] | None, typed: bool, where: Where) -> np.ndarray:
    """Labels (n,) as the names of their classes; "" where one is missing."""
    named = names or {}
    tidied = tidy(values, typed, names is not None, where)
    missing = [label is None or (label == -1 and -1 not in named) for label in tidied]
    words = [named.get(label, str(label)) if isinstance(label, int) else str(label) for label in tidied]
    return np.array(["" if lacks else word for lacks, word in zip(missing, words, strict=True)], dtype=str)
