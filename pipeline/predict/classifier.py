"""A fitted run as people use a classifier: strings in, class names out, under scikit-learn's names."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .. import UserError, in_keywords, listed, metrics, one_line
from ..data.frames import plain
from ..data.labels import tidy
from ..encoder import Runtime
from ..run import Run, as_run
from ..words import Keyword
from .models import Model, open_run
from .texts import texts_a_row

BLOCK = 1024  # texts encoded at a time
KEYWORDS = {"--encoder": Keyword("encoder"), "--cache": Keyword("cache"), "--vectors": Keyword("vectors")}
FORMS = {1: "strings", 2: "pairs of strings"}


class Classifier:
    """The model of a run, or of the folder of one, opened when it first predicts.

    `encoder` says where its encoder lies now, if not where it was.

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

    def __init__(
        self,
        run: Run | Path | str,
        runtime: Runtime | None = None,
        cache: Path | str = "cache",
        encoder: str | None = None,
    ) -> None:
        self.run = as_run(run)
        self.runtime = runtime or Runtime()
        self.cache = Path(cache)
        self.encoder = encoder

    @cached_property
    @in_keywords(KEYWORDS)
    def model(self) -> Model:
        """What computes the probabilities."""
        return open_run(self.run, self.runtime, self.cache, self.encoder)

    @property
    def classes_(self) -> np.ndarray:
        """Class names (k,), in the order of the columns of `predict_proba`."""
        return np.array(self.run.class_names)

    def predict_proba(self, texts: Any) -> np.ndarray:
        """Probabilities (n, k) of n texts: strings, or pairs of strings for a run on pairs; a list, a column, a table.

        Raises NoTextError, a UserError and a ValueError, for what is no text.
        """
        from ..transformer import NoTextError, rows_of

        rows, parts = rows_of(texts), texts_a_row(self.run)
        if rows and len(rows[0]) != parts:
            raise NoTextError(f"{len(rows[0])} texts a row, and this run reads {parts}; pass {FORMS[parts]}")
        blocks = [self.model.proba(rows[start : start + BLOCK]) for start in range(0, len(rows), BLOCK)]
        return np.concatenate(blocks) if blocks else np.zeros((0, len(self.run.class_names)), np.float32)

    def predict(self, texts: Any) -> np.ndarray:
        """Class names (n,) of n texts, by the run's threshold if it has one."""
        proba = self.predict_proba(texts)
        chosen: np.ndarray = self.classes_[metrics.decide(proba, getattr(self.model, "threshold", None))]
        return chosen

    def score(self, texts: Any, labels: Any) -> float:
        """Accuracy on n labelled texts; labels (n,) are class names, or their numbers where none of them is a name.

        Raises UserError for labels of another number than texts, and where no label is a class.
        """
        predicted, names = self.predict(texts), self.run.class_names
        truth = tidy(plain(labels), typed=True, coded=False, where=lambda row: f"label {row}")
        if len(truth) != len(predicted):
            raise UserError(f"{len(truth):,} labels for {len(predicted):,} texts; pass one a text")
        if not truth:
            raise UserError("no texts; pass at least one")
        if not {str(label) for label in truth} & set(names):
            numbers = [label for label in truth if isinstance(label, int) and 0 <= label < len(names)]
            if len(numbers) < len(truth):
                shown = one_line(str(truth[0]), 40)
                raise UserError(f"none of the labels is a class ({shown}); map them to {listed(names)}")
            truth = [names[number] for number in numbers]
        return float(np.mean(predicted == np.array([str(label) for label in truth])))

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.run!r}>"
