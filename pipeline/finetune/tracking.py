"""A Trainer's callbacks to experiment trackers: where they write to; and none of them may cost a training."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from .. import log
from ..words import error_line

PROJECT = "probe-or-tune"
PLACES = {  # tracker → the variable that says under what name its runs are kept, and the name where it is not set
    "mlflow": ("MLFLOW_EXPERIMENT_NAME", f"{PROJECT} {{}}"),
    "trackio": ("TRACKIO_PROJECT", f"{PROJECT}-{{}}"),
    "wandb": ("WANDB_PROJECT", PROJECT),
}


def place_of(tracker: str, dataset: str) -> str:
    """The experiment, or the project, of a data set: one for its trainings, its contenders and its verdict."""
    variable, name = PLACES[tracker]
    return os.environ.get(variable) or name.format(dataset)


@contextmanager
def variables(values: Mapping[str, str]) -> Iterator[None]:
    """The environment with those of `values` that it does not have, for as long as this lasts."""
    new = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            os.environ.pop(name, None)


def spare(trainer: Any, dataset: str = "") -> None:
    """Let a tracker that fails, at whatever event, be said once and left out; the training goes on.

    They begin their runs under the name of the data set.
    """
    places = {variable: place_of(tracker, dataset) for tracker, (variable, _) in PLACES.items()}
    for callback in trainer.callback_handler.callbacks:
        if type(callback).__module__.startswith("transformers.integrations"):
            _spare(callback, places)


def _spare(callback: Any, places: Mapping[str, str]) -> None:
    failed: list[Exception] = []

    def spared(event: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            if failed:
                return None
            try:
                with variables(places):
                    return event(*given, **named)
            except Exception as error:
                failed.append(error)
                name = type(callback).__name__.removesuffix("Callback")
                log.warning("--report-to: %s: %s; the training goes on without it", name, error_line(error))

        return call

    for name in dir(callback):
        if name.startswith("on_"):
            setattr(callback, name, spared(getattr(callback, name)))
