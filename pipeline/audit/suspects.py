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
from .confident import Suspicion, suspect

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
    score: float  # probability that the label is wrong
    kind: str  # "label error": probably wrong; "doubtful": another class is likelier, by models that err themselves
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
    joint: np.ndarray  # (k, k) rows by label and by the class that they seem to be
    expected: Expected


@dataclass(frozen=True)
class Expected:
    """How many labels of a split are wrong, as far as its contenders can tell."""

    rows: int
    errors: float
    low: float  # 95 % interval
    high: float
    too_weak: bool  # the contenders' own mistakes hide whatever wrong labels there are

    def sentence(self, split: str) -> str:
        between = f"between {self.low:,.0f} and {self.high:,.0f}"
        if self.too_weak:
            start = f"{split}: {between} of {self.rows:,} labels may be wrong (95 % interval)"
            return f"{start}; the contenders are too weak to tell which: their own mistakes look the same"
        return f"{split}: about {self.errors:,.0f} of {self.rows:,} labels are wrong, {between} with 95 % confidence"


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
    """What several contenders' probabilities (n, k) say of a split's labels."""
    labels, probas = np.asarray(split.labels, np.int64), list(speakers.values())
    suspicion = suspect(labels, probas)
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
    weights = {name: round(float(weight), 4) for name, weight in zip(speakers, suspicion.weights, strict=True)}
    joint = joint_counts(labels, suspicion, len(class_names))
    return Doubt(split.name, rows, weights, joint, expected_errors(suspicion))


def joint_counts(labels: np.ndarray, suspicion: Suspicion, k: int) -> np.ndarray:
    """Rows (k, k) by label and, where that is probably wrong, by the suggested class; else by the label."""
    seems = np.where(suspicion.confident, suspicion.suggested, labels)
    return np.bincount(labels * k + seems, minlength=k * k).reshape(k, k)


def expected_errors(suspicion: Suspicion) -> Expected:
    """The rates of `suspicion` as rows."""
    n = len(suspicion.score)
    errors, low, high = (round(rate * n, 1) for rate in (suspicion.rate, suspicion.low, suspicion.high))
    return Expected(n, errors, low, high, suspicion.weak)
