"""What is predicted of one text, and how a probability becomes a label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

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

    def to_json(self) -> dict[str, Any]:
        """One object of `predict`'s output; a pair's texts are a list."""
        known = {} if self.abstained is None else {"abstained": self.abstained}
        text = self.text[0] if len(self.text) == 1 else list(self.text)
        return {"text": text, "label": self.label, **known, "proba": self.proba}

    def to_row(self) -> dict[str, Any]:
        """One row of a table: the same columns for every text, whatever its likeliest classes are called."""
        pair = {"text_pair": self.text[1]} if len(self.text) > 1 else {}
        known = {} if self.abstained is None else {"abstained": self.abstained}
        columns: dict[str, Any] = {f"p_{name}": p for name, p in self.proba.items()}
        if self.ranked:
            columns = {}
            for place, (name, p) in enumerate(self.proba.items(), 1):
                columns |= {f"top_{place}": name, f"p_{place}": p}
        return {"text": self.text[0]} | pair | {"label": self.label} | known | columns


def answered(run: Run, text: tuple[str, ...], row: np.ndarray, threshold: float | None, ask: Ask) -> Answer:
    """The answer to one text from its probabilities (k,): the likeliest class, or by the run's threshold."""
    chosen = int(decide(row[None], threshold)[0])
    order = range(len(row)) if ask.top_k is None else np.argsort(-row, kind="stable")[: ask.top_k].tolist()
    proba = {run.class_names[i]: round(float(row[i]), 6) for i in order}
    unsure = None if ask.abstain_below is None else bool(row[chosen] < ask.abstain_below)
    return Answer(text, None if unsure else run.class_names[chosen], proba, ask.top_k is not None, unsure)
