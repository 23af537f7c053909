"""Nested, seeded, stratified subsets of train, and the sizes that are tried if nobody says."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .. import UserError
from ..data import Dataset, Split, subset
from ..data.dataset import digest_of
from ..data.splits import order

STEPS, TUNED_STEPS = 8, 4  # sizes of a cheap line, and of one that is fine-tuned
TUNED_FACTOR = 3  # from each of those to the next


def nested(labels: np.ndarray, sizes: Sequence[int], seed: int, draw: int) -> dict[int, np.ndarray]:
    """Row numbers (size,), sorted, for each of `sizes`: a smaller subset is part of every larger one.

    They are prefixes of one stratified order of labels (n,), which `seed` and `draw` decide: class shares are train's
    to a row or so, and every class keeps a row as long as a size is not below the number of classes.
    """
    ranked = order(labels, np.arange(len(labels)), np.random.default_rng([seed, draw]))
    return {size: np.sort(ranked[:size]) for size in sizes}


def default_sizes(rows: int, classes: int) -> tuple[int, ...]:
    """Up to eight sizes, evenly spaced on a logarithmic axis, the last of them all `rows`."""
    first = min(rows, max(2 * classes, min(100, rows // 10)))
    return tuple(sorted({rounded(size, rows) for size in np.geomspace(first, rows, STEPS)}))


def default_tuned_sizes(rows: int, classes: int) -> tuple[int, ...]:
    """Up to four sizes, each three times the one before, the last of them all `rows`."""
    sizes = [rows / TUNED_FACTOR**step for step in range(TUNED_STEPS)]
    return tuple(sorted({rounded(size, rows) for size in sizes if size >= min(rows, 2 * classes)}))


def rounded(size: float, most: int) -> int:
    """`size` with two digits, but all rows exactly."""
    if size > most - 0.5:
        return most
    unit = 10 ** max(0, int(np.floor(np.log10(size))) - 1)
    return min(most, int(round(size / unit) * unit))


def check(sizes: Sequence[int], rows: int, option: str) -> tuple[int, ...]:
    """`sizes` in order, each once.

    Raises UserError for one that train does not have, or that cannot hold two classes.
    """
    wrong = [size for size in sizes if not 2 <= size <= rows]
    if wrong:
        raise UserError(f"{option} {wrong[0]}: train has {rows:,} rows; name sizes from 2 to {rows}")
    return tuple(sorted(set(sizes)))


def smaller(dataset: Dataset, rows: np.ndarray, seed: int) -> Dataset:
    """`dataset` with the `rows` (m,) of train, and validation in proportion: choosing an epoch takes labels too.

    Test stays whole. The class names are those of the whole, whatever of them the subset holds.
    """
    splits: dict[str, Split] = {}
    share = len(rows) / len(dataset.train)
    for role, name in dataset.roles.items():
        split = dataset.splits[name]
        if role == "train":
            split = subset(split, rows)
        elif role == "validation" and split.labelled:
            least = min(len(split), max(20, 2 * len(dataset.class_names)))
            count = max(least, round(share * len(split)))
            split = subset(split, nested(split.labels, [count], seed, 0)[count])
        splits[name] = split
    return Dataset(
        dataset.name,
        splits,
        dataset.roles,
        dataset.class_names,
        dataset.text_columns,
        dataset.label_column,
        digest_of(splits, dataset.roles, dataset.class_names),
    )
