"""What is predicted of one text, and how a probability becomes a label."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import finite
from ..metrics import decide
from ..run import Run


@dataclass(frozen=True)
class Ask:
    """What is wanted of a prediction, besides the label."""

    top_k: int | None = None  # only the k likeliest classes, likeliest first; None: all, in the run's order
    abstain_below: float | None = None  # no label where its probability is lower


@dataclass(frozen=True)
class Answer:
    """What is predicted of one text. `proba` is in the run's order of classes, or the likeliest ones first."""

    text: tuple[str, ...]
    label: str | None  # None: abstained
    proba: dict[str, float]
    ranked: bool = False  # whether `proba` holds the likeliest classes, likeliest first
    abstained: bool | None = None  # None: abstaining was not asked for
    carried: Mapping[str, Any] = field(default_factory=dict)  # other columns of its row

    def to_json(self) -> dict[str, Any]:
        """One object of `predict`'s output; a pair's texts are a list."""
        known = {} if self.abstained is None else {"abstained": self.abstained}
        text = self.text[0] if len(self.text) == 1 else list(self.text)
        return self._beside({"text": text, "label": self.label, **known, "proba": self.proba})

    def to_row(self) -> dict[str, Any]:
        """One row of a table: the same columns for every text, whatever its likeliest classes are called."""
        pair = {"text_pair": self.text[1]} if len(self.text) > 1 else {}
        known = {} if self.abstained is None else {"abstained": self.abstained}
        columns: dict[str, Any] = {f"p_{name}": p for name, p in self.proba.items()}
        if self.ranked:
            columns = {}
            for place, (name, p) in enumerate(self.proba.items(), 1):
                columns |= {f"top_{place}": name, f"p_{place}": p}
        return self._beside({"text": self.text[0]} | pair | {"label": self.label} | known | columns)

    def _beside(self, made: dict[str, Any]) -> dict[str, Any]:
        """`made` with what is carried through in front; a name that is taken is told apart."""
        front: dict[str, Any] = {}
        for name, value in self.carried.items():
            while name in made or name in front:
                name += "_given"
            front[name] = plain_value(value)
        return front | made


def plain_value(value: Any) -> Any:
    """A value as JSON and tables know it: dates and the like as text, what is not a number as missing."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, list | dict):
        return finite(json.loads(json.dumps(value, default=str)))
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def answered(
    run: Run, text: tuple[str, ...], row: np.ndarray, threshold: float | None, ask: Ask, carried: Mapping[str, Any]
) -> Answer:
    """The answer to one text from its probabilities (k,): the likeliest class, or by the run's threshold."""
    chosen = int(decide(row[None], threshold)[0])
    order = range(len(row)) if ask.top_k is None else np.argsort(-row, kind="stable")[: ask.top_k].tolist()
    proba = {run.class_names[i]: round(float(row[i]), 6) for i in order}
    unsure = None if ask.abstain_below is None else bool(row[chosen] < ask.abstain_below)
    return Answer(text, None if unsure else run.class_names[chosen], proba, ask.top_k is not None, unsure, carried)
