"""A fitted run as people use a classifier: strings in, class names out, under scikit-learn's names."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .. import UserError, metrics
from ..encoder import Runtime
from ..run import Run
from .models import Model, open_run
from .texts import texts_a_row

BLOCK = 1024  # texts encoded at a time


class Classifier:
    """The model of a run, opened when it first predicts.

    Raises UserError where `open_run` does, and for what is no text.

    Examples
    --------
    >>> from probe_or_tune import Classifier, load_run
    >>> model = Classifier(load_run(RUN), cache=TMP / "cache")
    >>> model.predict_proba(["win a prize now", "see you at home"]).shape
    (2, 2)
    >>> model.classes_
    array(['ham', 'spam'], dtype='<U4')
    """

    def __init__(self, run: Run, runtime: Runtime | None = None, cache: Path | str = "cache") -> None:
        self.run = run
        self.runtime = runtime or Runtime()
        self.cache = Path(cache)

    @cached_property
    def model(self) -> Model:
        """What computes the probabilities."""
        return open_run(self.run, self.runtime, self.cache)

    @property
    def classes_(self) -> np.ndarray:
        """Class names (k,), in the order of the columns of `predict_proba`."""
        return np.array(self.run.class_names)

    def predict_proba(self, texts: Sequence[Any]) -> np.ndarray:
        """Probabilities (n, k) of n texts: strings, or pairs of strings for a run on pairs."""
        rows = [self._row(text, i) for i, text in enumerate(texts)]
        blocks = [self.model.proba(rows[start : start + BLOCK]) for start in range(0, len(rows), BLOCK)]
        return np.concatenate(blocks) if blocks else np.zeros((0, len(self.run.class_names)), np.float32)

    def predict(self, texts: Sequence[Any]) -> np.ndarray:
        """Class names (n,) of n texts, by the run's threshold if it has one."""
        proba = self.predict_proba(texts)
        chosen: np.ndarray = self.classes_[metrics.decide(proba, getattr(self.model, "threshold", None))]
        return chosen

    def score(self, texts: Sequence[Any], labels: Sequence[Any]) -> float:
        """Accuracy on n labelled texts."""
        return float(np.mean(self.predict(texts) == np.array([str(label) for label in labels])))

    def _row(self, text: Any, position: int) -> tuple[str, ...]:
        parts = (text,) if isinstance(text, str) else tuple(text) if isinstance(text, (tuple, list)) else (None,)
        if len(parts) != texts_a_row(self.run) or not all(isinstance(part, str) for part in parts):
            form = "a string" if texts_a_row(self.run) == 1 else "a pair of strings"
            raise UserError(f"text {position}: {type(text).__name__} is not {form}, which this run reads")
        return parts

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.run!r}>"
