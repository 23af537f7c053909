"""A Trainer's callbacks to experiment trackers, none of which may cost a training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import log
from ..words import error_line


def spare(trainer: Any) -> None:
    """Let a tracker that fails, at whatever event, be said once and left out; the training goes on."""
    for callback in trainer.callback_handler.callbacks:
        if type(callback).__module__.startswith("transformers.integrations"):
            _spare(callback)


def _spare(callback: Any) -> None:
    failed: list[Exception] = []

    def spared(event: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            if failed:
                return None
            try:
                return event(*given, **named)
            except Exception as error:
                failed.append(error)
                name = type(callback).__name__.removesuffix("Callback")
                log.warning("--report-to: %s: %s; the training goes on without it", name, error_line(error))

        return call

    for name in dir(callback):
        if name.startswith("on_"):
            setattr(callback, name, spared(getattr(callback, name)))
