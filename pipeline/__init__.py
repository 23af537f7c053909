"""Probe or Tune: is logistic regression on frozen [CLS] vectors enough, or is it worth fine-tuning the encoder?

`texts → vectors → runs → verdict`: each module of this package is one step of that line, and imports only from
the steps before it. Names are loaded on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Protocol, TypeVar

from .words import Keyword, as_keywords, listed
from .words import format_duration as format_duration
from .words import one_line as one_line
from .words import printable as printable

# OpenVINO reports every import of it to an analytics service, with a lasting id below the home folder, unless this
# module is missing: then it takes its stub.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

log = logging.getLogger(__name__)  # one-line notes for the user; the command line prints them on standard error

Row = TypeVar("Row")


class UserError(Exception):
    """Something the user can mend. The message is one line that says where, what and the next step."""


@contextmanager
def in_keywords(known: Mapping[str, Keyword]) -> Iterator[None]:
    """Inside, a UserError says keywords of a function where the command line says options, `known` by these."""
    try:
        yield
    except UserError as error:
        error.args = (as_keywords(str(error), known),)
        raise


class Progress(Protocol):
    """What a long call tells its caller: `done` of `total` (None if unknown) units of `stage`."""

    def __call__(self, stage: str, done: int, total: int | None) -> None: ...


def silent(stage: str, done: int, total: int | None) -> None:
    """Progress that nobody watches."""


def finite(value: Any) -> Any:
    """`value` as JSON knows it: a number that is not finite becomes null, at any depth."""
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def choose(table: Mapping[str, Row], name: str, what: str) -> Row:
    """The row `name` of `table`.

    Raises UserError, naming every choice, if there is no such row.
    """
    if name not in table:
        raise UserError(f"no {what} '{name}'; choose one of {listed(table)}")
    return table[name]


def install_command(extra: str) -> str:
    """What installs the packages of an extra, by their own names: this package need not be on any index."""
    from importlib import metadata

    try:
        packages = metadata.requires("probe-or-tune") or []
    except metadata.PackageNotFoundError:
        packages = []
    parts = [package.split(";") for package in packages if f'extra == "{extra}"' in package]
    return "pip install " + (" ".join(f"'{part[0].strip()}'" for part in parts) or f"'.[{extra}]' in the checkout")


def installed_version(package: str) -> str | None:
    """Of an installed package, without importing it; None where it is not there."""
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def need(module: str, extra: str) -> ModuleType:
    """Import an optional dependency.

    Raises UserError with the command that installs it.
    """
    if importlib.util.find_spec(module.partition(".")[0]) is None:
        raise UserError(f"this needs {module}: {install_command(extra)}")
    return importlib.import_module(module)


PUBLIC = {
    "SourceOptions": "data",
    "Dataset": "data",
    "Split": "data",
    "read": "stages",
    "EncoderSpec": "encoder",
    "Runtime": "encoder",
    "Store": "store",
    "EmbeddingMatrix": "extract",
    "FrozenEncoder": "transformer",
    "Run": "run",
    "load_run": "run",
    "open_run": "stages",
    "export_run": "stages",
    "Classifier": "predict.classifier",
    "Verdict": "api",
    "audit": "api",
    "compare": "api",
    "explore": "api",
    "fine_tune": "api",
    "fit_lr": "api",
    "fit_stack": "api",
    "label_next": "api",
    "learning_curve": "api",
}


RENAMED = {"Effort": "Runtime"}  # names of the release before, kept for one more


class CallableRoom(ModuleType):
    """A room of the same name as a public function: once imported it stands in its place, and is called like it."""

    def __call__(self, *given: Any, **options: Any) -> Any:
        public = importlib.import_module(".api", __name__)
        return getattr(public, self.__name__.rpartition(".")[2])(*given, **options)


def __getattr__(name: str) -> Any:
    name = RENAMED.get(name, name)
    if name not in PUBLIC:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(f".{PUBLIC[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *PUBLIC])
