"""Stratified folds that keep equal texts together and adapt to the smallest class."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass

import numpy as np

from .. import UserError, listed


@dataclass(frozen=True)
class Folds:
    """Which fold holds each row out."""

    place: np.ndarray  # (n,) int64 in 0 … count-1
    count: int
    notes: tuple[str, ...] = ()

    def held(self, fold: int) -> np.ndarray:
        """Rows (h,) that `fold` holds out."""
        return np.flatnonzero(self.place == fold)

    def kept(self, fold: int) -> np.ndarray:
        """Rows (n - h,) that `fold` learns from."""
        return np.flatnonzero(self.place != fold)

    def weights(self) -> np.ndarray:
        """(count, n) float32: 1 where a fold learns from a row, else 0."""
        return np.asarray((self.place[None] != np.arange(self.count)[:, None]).astype(np.float32))


def equal(values: Iterable[Hashable]) -> np.ndarray:
    """Group numbers (n,) int64: equal values have equal numbers."""
    seen: dict[Hashable, int] = {}
    return np.array([seen.setdefault(value, len(seen)) for value in values], np.int64)


def split(labels: np.ndarray, groups: np.ndarray, class_names: tuple[str, ...], count: int, seed: int) -> Folds:
    """Deal rows with `labels` (n,) and `groups` (n,) into at most `count` folds, each class evenly over them.

    There are no more folds than the smallest class has groups, but at least two: a class with a single group is then
    missing from the training rows of the fold that holds it out, and is named in the notes.

    Raises UserError if there are fewer than two classes, two groups or two folds asked for.
    """
    if count < 2:
        raise UserError(f"folds = {count}: a search needs at least 2; pass --folds 5")
    present = np.unique(labels)
    if len(present) < 2:
        only = class_names[present[0]] if len(present) else "none"
        raise UserError(f"train has one class only ({only}), nothing to learn; check the label column, or --train")
    if len(np.unique(groups)) < 2:
        raise UserError("train is one text repeated, nothing to learn; check the text column")
    pairs = np.unique(np.stack([labels, groups]), axis=1)[0]
    sizes = {int(c): int((pairs == c).sum()) for c in present}  # class -> distinct texts
    lonely = [class_names[c] for c, size in sizes.items() if size == 1]
    smallest = min((size for size in sizes.values() if size > 1), default=2)
    used = max(2, min(count, smallest))
    notes = []
    if used < count:
        name = next((class_names[c] for c, size in sizes.items() if size == smallest), class_names[present[0]])
        notes.append(f"{used} folds instead of {count}: class '{name}' has {smallest} different texts")
    if lonely:
        notes.append(f"one text only, so that no fold can both learn and judge it: {listed(lonely)}")
    return Folds(_deal(labels, groups, used, seed), used, tuple(notes))


def _deal(labels: np.ndarray, groups: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Fold (n,) of each row. Repeated texts go first, whole, then single rows fill up, class by class."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(labels))
    _, numbers, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    single = sizes[numbers] == 1
    filled = np.zeros((count, int(labels.max()) + 1))  # rows of each class in each fold
    place = np.full(len(labels), -1, np.int64)
    repeated = order[~single[order]]
    for members in _runs(repeated[np.argsort(numbers[repeated], kind="stable")], numbers):
        classes = labels[members]
        fold = int(np.lexsort((filled.sum(1), filled[:, classes].sum(1)))[0])
        place[members] = fold
        np.add.at(filled[fold], classes, 1)
    total = filled.sum(1)
    for label in np.unique(labels):
        rows = order[single[order] & (labels[order] == label)]
        inside = filled[:, label].tolist()
        for row in rows:
            fold = min(range(count), key=lambda f: (inside[f], total[f]))
            place[row] = fold
            inside[fold] += 1
            total[fold] += 1
    return place


def _runs(rows: np.ndarray, numbers: np.ndarray) -> list[np.ndarray]:
    """`rows`, sorted by their group number, cut into one array a group."""
    if not len(rows):
        return []
    return np.split(rows, np.flatnonzero(np.diff(numbers[rows])) + 1)
