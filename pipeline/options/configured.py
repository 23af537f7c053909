"""A file of settings: `--config FILE.toml` holds what any command's options may say, and a command as such a file.

A table for each command, `[compare]` or `[cache.export]`; keys are the options' long names, arguments go by their own
(`source`). What the command line says goes before what the file says.
"""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from .. import UserError, listed
from ..files import disk_errors
from .parsing import OrderedGroup, SectionedCommand

OPTION = "config"
LARGEST = 2**20  # bytes of a file of settings


class ConfiguredCommand(SectionedCommand):
    """A command that takes `--config`, and remembers what was given to it, from the line or from the file."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        help = "A TOML file of options, a table for each command; what the command line says goes before it."
        option = click.Option([f"--{OPTION}"], metavar="FILE", expose_value=False, help=help)
        self.params.insert(len(self.params) - 1, option)  # before --json

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the file before anything is asked for what it may say."""
        given, _, _ = self.make_parser(ctx).parse_args(list(args))
        file = given.pop(OPTION, None)
        settings = {} if file is None else settings_of(Path(file), ctx)
        ctx.default_map = settings
        ctx.meta[__name__] = settings | {
            n: v for n, v in given.items() if isinstance(v, str | bool | list | tuple) and v != ()
        }
        try:
            return super().parse_args(ctx, args)
        except click.BadParameter as error:
            wrong = error.param
            if wrong is None or ctx.get_parameter_source(str(wrong.name)) is not ParameterSource.DEFAULT_MAP:
                raise
            raise UserError(f"{file}: [{'.'.join(path_of(ctx))}] {name_of(wrong)}: {error.message}") from error


class ConfiguredGroup(OrderedGroup):
    """A group of such commands."""

    command_class = ConfiguredCommand
    group_class = type


def path_of(ctx: click.Context) -> list[str]:
    """The words that name a command: `["cache", "export"]`."""
    words = []
    while ctx.parent is not None:
        words.append(str(ctx.info_name))
        ctx = ctx.parent
    return words[::-1]


def settings_of(file: Path, ctx: click.Context) -> dict[str, Any]:
    """What a file says for one command, by the names of its parameters.

    Raises UserError if it cannot be read, or names a command or an option that there is not.
    """
    tables = _read(file)
    root = ctx.find_root().command
    _check_commands(file, tables, root, [])
    table: Any = tables
    for word in path_of(ctx):
        table = table.get(word, {})
    return _named(file, ctx.command, path_of(ctx), table)


def _read(file: Path) -> dict[str, Any]:
    with disk_errors(file, "cannot be read", "pass --config the path of a TOML file"), file.open("rb") as opened:
        content = opened.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise UserError(f"{file}: larger than {LARGEST >> 20} MiB; no file of settings")
    try:
        return tomllib.loads(content.decode("utf-8-sig"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise UserError(f'{file}: no TOML ({error}); a table a command: [compare], then encoder = "minilm"') from error


def _check_commands(file: Path, tables: dict[str, Any], command: click.Command, path: list[str]) -> None:
    """Every table is a command's, every key an option of it: what a misspelt one asks for would be lost silently."""
    if not isinstance(command, click.Group):
        _named(file, command, path, tables)
        return
    for name, table in tables.items():
        if not isinstance(table, dict):
            example = ".".join([*path, next(iter(command.commands))])
            raise UserError(f"{file}: '{name}' stands in no command's table; write it below [{example}], say")
        if name not in command.commands:
            raise _unknown(f"{file}: no command", name, command.commands)
        _check_commands(file, table, command.commands[name], [*path, name])


def _named(file: Path, command: click.Command, path: list[str], table: dict[str, Any]) -> dict[str, Any]:
    """A command's table, by the names of its parameters and as click reads them off a command line."""
    known = {spelt: p for p in command.params if p.name != OPTION for spelt in spellings(p)}
    where = f"{file}: [{'.'.join(path)}]"
    values = {}
    for key, value in table.items():
        parameter = known.get(str(key).replace("_", "-"))
        if parameter is None:
            raise _unknown(f"{where}: no option", key, map(name_of, known.values()))
        if str(parameter.name) in values:
            raise UserError(f"{where}: {name_of(parameter)} is there twice; drop one")
        values[str(parameter.name)] = _as_given(where, key, value, parameter)
    return values


def _unknown(what: str, name: str, names: Iterable[str]) -> UserError:
    """The error for a name that there is not, with those that are like it, else with all."""
    names = list(dict.fromkeys(names))
    like = difflib.get_close_matches(name, names, n=3)
    return UserError(f"{what} '{name}'; {'did you mean' if like else 'choose one of'} {listed(like or names)}")


def spellings(parameter: click.Parameter) -> list[str]:
    """How a parameter may be called in a file: its long options without their dashes, or an argument's name."""
    if isinstance(parameter, click.Option):
        return [option[2:] for option in (*parameter.opts, *parameter.secondary_opts) if option.startswith("--")]
    return [str(parameter.name)]


def name_of(parameter: click.Parameter) -> str:
    """The first of them."""
    return spellings(parameter)[0]


def _as_given(where: str, key: str, value: Any, parameter: click.Parameter) -> Any:
    """A value of TOML as the command line would have given it: a flag is true or false, a list has commas."""
    flag = isinstance(parameter, click.Option) and parameter.is_flag
    if flag != isinstance(value, bool):
        raise UserError(f"{where} {key} = {json.dumps(value, default=str)}: {'true or false' if flag else 'no flag'}")
    if flag:
        return value != (key in [option[2:] for option in parameter.secondary_opts])
    parts = value if isinstance(value, list) else [value]
    if any(isinstance(part, dict | list) for part in parts):
        raise UserError(f"{where} {key}: a table or a list of lists; write a string, a number or a list of these")
    if parameter.multiple or parameter.nargs != 1:  # type: ignore[attr-defined]
        return [str(part) for part in parts]
    return ",".join(map(str, parts))


# ── a command as a file ─────────────────────────────────────────────────────────────────────────────────────────────


def as_toml(ctx: click.Context) -> str:
    """The file of settings that repeats a command, once it is parsed."""
    given = ctx.meta.get(__name__, {})
    parameters = [p for p in ctx.command.params if p.name in given and p.name != "as_json"]
    lines = [f"{name_of(p)} = {_toml(given[str(p.name)])}" for p in parameters]
    return "\n".join([f"[{'.'.join(path_of(ctx))}]", *lines])


def _toml(value: Any) -> str:
    """A value in TOML, whose basic strings are those of JSON (but for a delete character, which it escapes)."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, bool):
        return json.dumps(value)
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
