"""Texts of a data set that stand in it twice, or nearly: counts by pair of splits, and which judged rows they touch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import Progress
from ..data import Dataset
from ..linear.folds import equal
from .neighbours import Near, across, near_repeats
from .suspects import text_of

PAIRS = 500  # near-repeats that are listed, the nearest
LEARNT = ("train", "validation")  # what a contender has seen of, and may remember


@dataclass(frozen=True)
class NearPair:
    """Two different texts whose vectors nearly agree."""

    cosine: float
    split: str
    row_id: str
    text: Any  # str, or a list of two for pairs
    label: str
    other_split: str
    other_id: str
    other_text: Any
    other_label: str


@dataclass(frozen=True, eq=False)
class ExactRepeats:
    """Equal texts."""

    counts: dict[str, int]  # "a/b": rows of b whose text stands in a; "a/a": rows that repeat an earlier one
    leaked: np.ndarray  # (n,) bool: judged rows whose text stands in train or validation


@dataclass(frozen=True, eq=False)
class NearRepeats:
    """Different texts whose vectors nearly agree."""

    counts: dict[str, int]  # "a/b": rows of b whose text has a near-repeat in a
    total: int  # pairs
    pairs: tuple[NearPair, ...]  # the nearest
    leaked: np.ndarray  # (n,) bool: judged rows that have one in train or validation


def exact_repeats(dataset: Dataset, role: str) -> ExactRepeats:
    """Exact repeats by pair of splits, and which of the n rows of `role` stand in what is learnt from."""
    texts = {name: dataset.splits[name].texts for name in dict.fromkeys(dataset.roles.values())}
    names, distinct = list(texts), {name: set(of_split) for name, of_split in texts.items()}
    counts = {}
    for i, a in enumerate(names):
        counts[f"{a}/{a}"] = len(texts[a]) - len(distinct[a])
        for b in names[i + 1 :]:
            counts[f"{a}/{b}"] = sum(text in distinct[a] for text in texts[b])
    seen = {text for other in LEARNT if other in dataset.roles and other != role for text in dataset.role(other).texts}
    return ExactRepeats(counts, np.array([text in seen for text in dataset.role(role).texts], bool))


def near_repeats_of(
    dataset: Dataset, role: str, vectors: Mapping[str, np.ndarray], threshold: float, progress: Progress
) -> NearRepeats:
    """Near-repeats among the roles that have vectors (n, d), from a cosine of `threshold` on."""
    rows = Rows(dataset, [name for name in dataset.roles if name in vectors])
    matrix = np.concatenate([vectors[name] for name in rows.roles])
    near = near_repeats(matrix, equal(rows.texts), rows.split, len(rows.roles), threshold, progress)
    learnt = [i for i, name in enumerate(rows.roles) if name in LEARNT and name != role]
    judged = rows.split == rows.roles.index(role)
    leaked = near.beside[judged][:, learnt].any(1) if learnt else np.zeros(int(judged.sum()), bool)
    return NearRepeats(across(near, rows.split, rows.split_names), near.total, tuple(_pairs(near, rows)), leaked)


class Rows:
    """The rows of several roles, one after the other."""

    def __init__(self, dataset: Dataset, roles: list[str]) -> None:
        splits = [dataset.role(role) for role in roles]
        self.roles, self.class_names = roles, dataset.class_names
        self.split_names = [split.name for split in splits]
        self.split = np.repeat(np.arange(len(splits)), [len(split) for split in splits])  # (n,) which role
        self.texts = [text for split in splits for text in split.texts]
        self.row_ids = np.concatenate([split.row_ids for split in splits])
        self.labels = np.concatenate([split.labels for split in splits])

    def row(self, i: int) -> tuple[str, str, Any, str]:
        """Split, row id, text and label of one."""
        label = self.class_names[self.labels[i]] if self.labels[i] >= 0 else ""
        return self.split_names[self.split[i]], str(self.row_ids[i]), text_of(self.texts[i]), label


def _pairs(near: Near, rows: Rows) -> list[NearPair]:
    """The nearest pairs, as people read them."""
    return [
        NearPair(round(float(cosine), 4), *rows.row(int(i)), *rows.row(int(j)))
        for (i, j), cosine in zip(near.pairs[:PAIRS], near.cosine[:PAIRS], strict=True)
    ]
