"""Options as keyword arguments: a Python function takes what its command takes, and makes of it what that makes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any

import click
import numpy as np

from .. import UserError, in_keywords, listed
from ..words import Keyword
from .parsing import Bundle


@contextmanager
def asked(bundles: Sequence[Bundle], given: dict[str, Any], *arguments: str) -> Iterator[list[Any]]:
    """What the command line makes of the same options, for as long as it is at work: the value of each bundle.

    Raises TypeError for an option that is none of theirs, UserError for a value that the command line refuses.
    """

    command = command_of(bundles)
    words = [*words_of(command, given), "--", *arguments]
    with in_keywords(keywords_of(command)):
        try:
            made = command.main(args=words, standalone_mode=False)
        except click.ClickException as error:
            raise UserError(error.format_message()) from error
        yield [made[bundle.name] for bundle in bundles]


def command_of(bundles: Sequence[Bundle]) -> click.Command:
    """A command that takes the options of `bundles`, and answers with their values."""

    def collect(**made: Any) -> dict[str, Any]:
        return made

    for bundle in reversed(bundles):
        collect = bundle(collect)
    return click.command()(collect)


def spoken(*bundles: Bundle, **others: str) -> AbstractContextManager[None]:
    """Inside, what is refused is said in keywords: those of the bundles' options, and of `others` by option."""
    known = keywords_of(command_of(bundles)) | {f"--{flag}": Keyword(name) for flag, name in others.items()}
    return in_keywords(known)


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


def options_of(command: click.Command) -> dict[str, click.Option]:
    """The options of a command by the keywords that they are in Python."""
    options = [option for option in command.params if isinstance(option, click.Option)]
    return {option.opts[0].lstrip("-").replace("-", "_"): option for option in options}


def words_of(command: click.Command, given: dict[str, Any]) -> list[str]:
    """Keyword arguments as the words of a command line."""
    known = options_of(command)
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
        elif value is True:  # of an option that may stand alone, such as --lora
            words.append(flag)
        elif option.multiple:
            words += [word for one in ([value] if isinstance(value, str | int) else value) for word in (flag, str(one))]
        else:
            several = isinstance(value, Sequence) and not isinstance(value, str)
            words += [flag, ",".join(map(str, value)) if several else str(value)]
    return words


def keywords_of(command: click.Command) -> dict[str, Keyword]:
    """What a command's options are called where it is a function, by how they are spelt on the command line."""
    return {
        flag: Keyword(name, flag in option.opts if option.is_flag else None, re.split(r"\W+", option.metavar or ""))
        for name, option in options_of(command).items()
        for flag in (*option.opts, *option.secondary_opts)
    }
