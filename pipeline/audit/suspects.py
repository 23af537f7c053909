"""Which labels are doubted, as rows for people: every contender speaks of the rows that it did not learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import UserError, listed
from ..data import Dataset, Split
from ..run import Predictions, Run
from ..verdict.results import names_of
from .confident import confident_joint, suspect, thresholds, together, weights

HEADER = ("row_id", "split", "text", "label", "suggested", "score", "kind", "says_so")
LEAST = 10  # judged rows a model must have before its word on a split is weighed


@dataclass(frozen=True)
class SuspectRow:
    """A row whose label is doubted."""

    row_id: str
    split: str
    text: Any  # str, or a list of two for pairs
    label: str
    suggested: str
    score: float  # 0 to 1, the more suspicious the higher
    kind: str  # "label error": passes the threshold of `suggested`; "doubtful": another class is only likelier
    says_so: str  # "2 of 3": contenders that predict `suggested`

    def to_json(self) -> dict[str, Any]:
        return dict(self.__dict__)

    def cells(self) -> tuple[object, ...]:
        """As a line of the CSV, in the order of HEADER."""
        text = self.text if isinstance(self.text, str) else " ⏐ ".join(self.text)
        rest = (self.label, self.suggested, round(self.score, 4), self.kind, self.says_so)
        return (self.row_id, self.split, text, *rest)


@dataclass(frozen=True, eq=False)
class Doubt:
    """What is thought of one split's labels."""

    split: str
    rows: tuple[SuspectRow, ...]
    weights: dict[str, float]  # contender → how much its word counts
    joint: np.ndarray  # (k, k)


def text_of(texts: tuple[str, ...]) -> Any:
    """A text as JSON shows it: a string, or a list of two."""
    return texts[0] if len(texts) == 1 else list(texts)


def doubts(dataset: Dataset, runs: Sequence[Run]) -> dict[str, Doubt]:
    """For each labelled role: of train by out-of-fold predictions, of the others by whoever predicts them.

    Raises UserError if no run has out-of-fold predictions of train that tell rows apart.
    """
    names, by_role = names_of(runs), {}
    for role in dataset.roles:
        part = dataset.role(role)
        speakers = {
            name: predictions
            for name, run in zip(names, runs, strict=True)
            if role in run.predictions and (predictions := in_split_order(run.predictions[role], part)) is not None
        }
        if speakers and part.labelled:
            by_role[role] = doubt(part, speakers, dataset.class_names)
    if "train" not in by_role:
        known = listed(names) or "none"
        raise UserError(
            f"{dataset.name}: no run says anything of train out of fold ({known}); leave out --only-existing, or fit lr"
        )
    return by_role


def in_split_order(p: Predictions, split: Split) -> np.ndarray | None:
    """Probabilities (n, k) in the split's order; None for other rows, and if all rows are answered alike."""
    if len(p.row_ids) != len(split) or len(split) < LEAST or not np.ptp(p.proba.argmax(1)):
        return None
    aligned = p.aligned_to(split.row_ids)
    return None if aligned is None else aligned.proba


def doubt(split: Split, speakers: dict[str, np.ndarray], class_names: tuple[str, ...]) -> Doubt:
    """Confident learning on the mixture of several contenders' probabilities (n, k)."""
    labels, probas = np.asarray(split.labels, np.int64), list(speakers.values())
    mixed = weights(labels, probas)
    proba = together(probas, mixed)
    at = thresholds(labels, proba)
    suspicion = suspect(labels, proba, at)
    predicted = np.stack([p.argmax(1) for p in probas])  # (c, n)
    agree = (predicted == suspicion.suggested).sum(0)
    order = np.argsort(-suspicion.score, kind="stable")
    rows = tuple(
        SuspectRow(
            row_id=str(split.row_ids[i]),
            split=split.name,
            text=text_of(split.texts[i]),
            label=class_names[labels[i]],
            suggested=class_names[suspicion.suggested[i]],
            score=round(float(suspicion.score[i]), 6),
            kind="label error" if suspicion.confident[i] else "doubtful",
            says_so=f"{agree[i]} of {len(probas)}",
        )
        for i in order[suspicion.suggested[order] != labels[order]].tolist()
    )
    joint = confident_joint(labels, suspicion, at, proba)
    return Doubt(split.name, rows, {n: round(float(w), 4) for n, w in zip(speakers, mixed, strict=True)}, joint)
