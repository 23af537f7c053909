"""Options as keyword arguments: a Python function takes what its command takes, and makes of it what that makes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import click
import numpy as np

from .. import UserError, listed
from .parsing import Bundle


@contextmanager
def asked(bundles: Sequence[Bundle], given: dict[str, Any], *arguments: str) -> Iterator[list[Any]]:
    """What the command line makes of the same options, for as long as it is at work: the value of each bundle.

    Raises TypeError for an option that is none of theirs, UserError for a value that the command line refuses.
    """

    def collect(**made: Any) -> dict[str, Any]:
        return made

    for bundle in reversed(bundles):
        collect = bundle(collect)
    command = click.command()(collect)
    words = [*words_of(command, given), "--", *arguments]
    try:
        made = command.main(args=words, standalone_mode=False)
        yield [made[bundle.name] for bundle in bundles]
    except click.ClickException as error:
        raise UserError(error.format_message()) from error


@contextmanager
def asked_on(source: Any, label: Any, bundles: Sequence[Bundle], given: dict[str, Any]) -> Iterator[list[Any]]:
    """The same of a command on a SOURCE, the rows of `source` in the first value."""
    named = label is None or isinstance(label, str | int)  # a column, which pandas may call by a number
    given = given | ({"label": label} if named else {})
    vectors = given.get("vectors")
    if hasattr(vectors, "shape"):  # an array is no word
        given = given | {"vectors": None}
    with asked(bundles, given, "data" if in_memory(source) else os.fspath(source)) as made:
        if in_memory(source) or not named:
            from ..data.frames import frames

            made[0] = with_rows(made[0], frames(source, None if named else label))
        if hasattr(vectors, "shape"):
            made[0] = with_vectors(made[0], vectors)
        yield made


def in_memory(source: Any) -> bool:
    """Whether it is rows, not where they lie."""
    return not isinstance(source, (str, os.PathLike))


def with_vectors(value: Any, vectors: Any) -> Any:
    """TaskOptions with an array of vectors (n, d), one for each row of the one table in memory, in its order.

    Raises UserError for a source of another form, or of another number of rows.
    """
    frames = value.source.frames
    rows = [frame.count_rows() for frame in frames.splits.values()] if frames else []
    if rows != [len(vectors)]:
        told = f"{listed(rows)} rows" if rows else "a source that is not in memory"
        raise UserError(f"vectors: {len(vectors):,} for {told}; pass one for each row of one table, or a file")
    return replace(value, vectors=(np.asarray(vectors),))


def with_rows(value: Any, rows: Any) -> Any:
    """SourceOptions, or what holds them as `source`, with rows from memory."""
    if hasattr(value, "frames"):
        return replace(value, frames=rows)
    return replace(value, source=replace(value.source, frames=rows))


def words_of(command: click.Command, given: dict[str, Any]) -> list[str]:
    """Keyword arguments as the words of a command line."""
    options_of = (option for option in command.params if isinstance(option, click.Option))
    known = {option.opts[0].lstrip("-").replace("-", "_"): option for option in options_of}
    words: list[str] = []
    for name, value in given.items():
        if name not in known:
            raise TypeError(f"no option '{name}'; choose among {listed(sorted(map(str, known)))}")
        option, flag = known[name], known[name].opts[0]
        if value is False and option.secondary_opts:
            words.append(option.secondary_opts[0])
        if option.is_flag and value is not None:
            words += [flag] if value else option.secondary_opts[:1]
        elif value is None or value is False:
            continue
        elif option.multiple:
            words += [word for one in ([value] if isinstance(value, str | int) else value) for word in (flag, str(one))]
        else:
            several = isinstance(value, Sequence) and not isinstance(value, str)
            words += [flag, ",".join(map(str, value)) if several else str(value)]
    return words
