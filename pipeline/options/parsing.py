"""How options become values: bundles that are one value each, and callbacks that read lists, numbers, times, places."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from ..kinds import load
from ..urls import is_url


class LocalPath(click.Path):
    """A file or a folder of this machine, and no URL: that would become a folder called `s3:`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if is_url(str(value)):
            self.fail("a URL; pass a path on this machine", param, ctx)
        return super().convert(value, param, ctx)


class Number(click.FloatRange):
    """A number of a range, and a number: `nan` is in every range, and `inf` in those without an end."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is no finite number", param, ctx)
        return number


FOLDER = LocalPath(file_okay=False, path_type=Path)
FILE = LocalPath(dir_okay=False, path_type=Path)

Command = Callable[..., Any]
Options = dict[str, Callable[[Command], Command]]


@dataclass(frozen=True)
class Bundle:
    """Decorator: hands `options` over as the one argument `name`, made by `build`."""

    name: str
    options: Options
    build: Callable[..., Any]
    homes: dict[str, str] = field(default_factory=dict)  # option → name of the bundle that it came from, if another

    def __call__(self, function: Command) -> Command:
        @functools.wraps(function)
        def bundled(**values: Any) -> Any:
            mine = {key: values.pop(key) for key in self.options}
            return function(**values, **{self.name: self.build(**mine)})

        wrapper: Command = bundled
        for key, option in reversed(self.options.items()):
            wrapper = option(wrapper)
            wrapper.__click_params__[-1].section = SECTION_OF.get(self.homes.get(key, self.name))  # type: ignore[attr-defined]
        return wrapper


class OrderedGroup(click.Group):
    """A group that lists its commands in the order of use, not of the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the commands, as they were defined."""
        return list(self.commands)


SECTIONS = {  # of the help → the bundles whose options stand there, and options that are in none of these
    "Data": ("source",),
    "Texts": ("given",),
    "Judging": ("rules",),
    "Contenders": ("stack", "cascade"),
    "Curve": ("plan",),
    "What is made": ("settings", "out"),
    "What is done": ("show_tokens", "count", "litter"),
    "Answers": ("ask",),
    "Encoder": ("encoders", "encoder", "vectors", "recalibrate"),
    "Probe": ("linear",),
    "Fine-tuning": ("tuning", "seeds"),
    "Cluster": ("cluster",),
    "Machine": ("runtime", "device", "threads"),
    "Folders": ("cache", "runs"),
    "General": ("config", "as_json"),
}
SECTION_OF = {member: title for title, members in SECTIONS.items() for member in members}


def section_of(option: click.Option) -> str:
    """Of the help; that of --help itself is the last."""
    return getattr(option, "section", None) or SECTION_OF.get(str(option.name), list(SECTIONS)[-1])


class SectionedCommand(click.Command):
    """A command whose help lists its options under what they are about."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a section for each of SECTIONS that it has options of."""
        rows: dict[str, list[tuple[str, str]]] = {title: [] for title in SECTIONS}
        for parameter in self.get_params(ctx):
            if isinstance(parameter, click.Option) and (record := parameter.get_help_record(ctx)):
                rows[section_of(parameter)].append(record)
        for title, records in rows.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def joined(name: str, made_of: str, *parts: Bundle, **plain: Callable[[Command], Command]) -> Bundle:
    """Several bundles and `plain` options as the one argument `name`: a `made_of` ("module:name") with their values."""
    options = {key: option for part in parts for key, option in part.options.items()} | plain

    def build(**values: Any) -> Any:
        made = {part.name: part.build(**{key: values[key] for key in part.options}) for part in parts}
        return load(made_of)(**made, **{key: values[key] for key in plain})

    return Bundle(
        name, options, build, {key: part.name for part in parts for key in part.options} | dict.fromkeys(plain, "")
    )


def made(path: str) -> Callable[..., Any]:
    """What ".module:name" points to in this package, imported when it is called: `--help` loads nothing heavy."""

    def build(**values: Any) -> Any:
        return load(path)(**values)

    return build


def several(kind: Callable[[str], Any] = str) -> Callable[[click.Context, click.Parameter, str | None], Any]:
    """Option callback: `a,b` → ('a', 'b'), each through `kind`; None stays None."""

    def parse(_: click.Context, parameter: click.Parameter, value: str | None) -> tuple[Any, ...] | None:
        if value is None:
            return None
        try:
            parts = tuple(kind(part.strip()) for part in value.split(",") if part.strip())
        except ValueError as error:
            raise click.BadParameter(f"'{value}': {error}", param=parameter) from error
        if not parts:
            raise click.BadParameter("an empty list", param=parameter)
        return parts

    return parse


def positive(text: str) -> float:
    """A finite number above zero. Raises ValueError for another."""
    number = float(text)
    if not 0 < number < math.inf:
        raise ValueError(f"'{text}' is no positive number")
    return number


def auto(kind: Callable[[str], Any]) -> Callable[[click.Context, click.Parameter, str | None], Any]:
    """Option callback: `auto` → None, anything else through `kind`, which must be above zero."""

    def parse(_: click.Context, parameter: click.Parameter, value: str | None) -> Any:
        if value is None or value == "auto":
            return None
        try:
            number = kind(value)
        except ValueError:
            number = 0
        if not 0 < number < math.inf:
            raise click.BadParameter(f"'{value}' is neither auto nor a number above 0", param=parameter)
        return number

    return parse


def budget(_: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """Option callback: `20m` → seconds."""
    from ..fitting import seconds_of

    try:
        return None if value is None else seconds_of(value)
    except ValueError as error:
        raise click.BadParameter(f"'{value}': {error}", param=parameter) from error


def cache_place(_: click.Context, parameter: click.Parameter, value: str) -> Path:
    """Option callback: a folder as it is, a URL as the local folder that mirrors it."""
    if not is_url(value):
        return Path(FOLDER.convert(value, parameter, None))
    from ..store.remote import cache_folder

    return Path(FOLDER.convert(cache_folder(value), parameter, None))
