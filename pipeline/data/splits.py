"""Which rows go where: array functions over labels and groups of equal texts, randomness as an argument."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .. import UserError


def normalize_whitespace(text: tuple[str, ...]) -> tuple[str, ...]:
    """A text with every run of white space as one space, and none at its ends."""
    return tuple([" ".join(part.split()) for part in text])


def groups_of(texts: Sequence[tuple[str, ...]]) -> np.ndarray:
    """(n,) int64: rows whose texts are equal but for white space share a number; 0, 1, ... by first appearance."""
    numbers: dict[tuple[str, ...], int] = {}
    return np.fromiter(
        (numbers.setdefault(normalize_whitespace(text), len(numbers)) for text in texts), np.int64, len(texts)
    )


def joined(groups: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(n,) int64: rows that share a number in groups (n,) or a value (n,) str, directly or through others.

    An empty value joins nothing.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(groups)
    _, number = np.unique(values, return_inverse=True)
    named = np.flatnonzero(values != "")
    row, link = np.concatenate([np.arange(n), named]), np.concatenate([groups, groups.max() + 1 + number[named]])
    graph = coo_array((np.ones(len(row)), (row, n + link)), shape=(n + link.max() + 1,) * 2)
    component = connected_components(graph, directed=False)[1][:n]
    return np.unique(component, return_inverse=True)[1].astype(np.int64)


def moments_of(values: np.ndarray, row_ids: np.ndarray, option: str) -> np.ndarray:
    """(n,) int64 0, 1, … in the order of time of values (n,) str: numbers, or ISO dates; equal ones share a number.

    Raises UserError, naming the row, for what is neither.
    """
    moments = np.empty(len(values))
    for i, value in enumerate(values.tolist()):
        try:
            moments[i] = _moment(value.strip())
        except (ValueError, OverflowError) as error:
            raise UserError(
                f"{option}: '{value[:40]}' of row {row_ids[i]} is neither a number nor a date such as 2024-05-31; "
                "mend it or leave the row out"
            ) from error
    return np.unique(moments, return_inverse=True)[1].astype(np.int64)


def _moment(value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        return _seconds(value)
    if not np.isfinite(number):
        raise ValueError(value)
    return number


def _seconds(value: str) -> float:
    from datetime import UTC, datetime

    if len(value) == 7:  # 2024-05
        value += "-01"
    moment = datetime.fromisoformat(value)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def cut_in_time(moments: np.ndarray, ratios: Sequence[float]) -> list[np.ndarray]:
    """Row numbers of each part, sorted, the earliest moments (n,) in the first; equal moments are never parted.

    Raises UserError if a part with a ratio above 0 would get no row.
    """
    sizes = np.bincount(moments)
    share = (np.cumsum(sizes) - sizes / 2) / len(moments)
    bounds = np.cumsum(np.asarray(ratios, float) / np.sum(ratios))[:-1]
    part = np.searchsorted(bounds, share, side="right")[moments]
    parts = [np.flatnonzero(part == p) for p in range(len(ratios))]
    if any(ratio > 0 and not len(rows) for ratio, rows in zip(ratios, parts, strict=True)):
        raise UserError(f"{len(sizes)} different times are too few to cut into splits; leave out --time, or add rows")
    return parts


def labels_of(groups: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """One label for each group (g,): of those that its rows have, the one that is rarest in labels (n,).

    So that a class is not lost from train because its only rows repeat a text of a large class.
    """
    rows_of_class = np.bincount(labels - labels.min())[labels - labels.min()]
    ranked = np.lexsort((labels, rows_of_class, groups))
    return labels[ranked[np.unique(groups[ranked], return_index=True)[1]]]


def order(labels: np.ndarray, groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The groups (g,) in an order every prefix of which is stratified.

    labels (n,) and groups (n,) are per row; a group counts for one label (see `labels_of`). Within a class the groups
    are shuffled and spread evenly over 0 to 1 from a random offset (systematic sampling: Cochran 1977, chapter 8); one
    group of every class stands before all others, so that no class is missing from the front part.
    """
    sizes, label = np.bincount(groups), labels_of(groups, labels)
    shuffled = rng.permutation(len(sizes))
    by_class = shuffled[np.argsort(label[shuffled], kind="stable")]  # (g,) class by class, shuffled inside
    _, starts, counts = np.unique(label[by_class], return_index=True, return_counts=True)
    before = np.cumsum(sizes[by_class]) - sizes[by_class]  # rows that stand before a group
    rows = np.add.reduceat(sizes[by_class], starts)  # (k,) rows of each class
    inside = before - np.repeat(before[starts], counts)
    offset = np.repeat(rng.random(len(starts)), counts)
    position = (inside + offset * sizes[by_class]) / np.repeat(rows, counts)
    position[starts] -= 1.0
    return by_class[np.argsort(position, kind="stable")]


def cut(labels: np.ndarray, groups: np.ndarray, ratios: Sequence[float], rng: np.random.Generator) -> list[np.ndarray]:
    """Row numbers of each part, sorted: stratified, no group in two parts, sizes as `ratios` (p,) say.

    Every class has a row in the first part. Raises UserError if another part with a ratio above 0 would get no row.
    """
    ranked = order(labels, groups, rng)
    sizes = np.bincount(groups)[ranked]
    share = (np.cumsum(sizes) - sizes / 2) / len(labels)
    bounds = np.cumsum(np.asarray(ratios, float) / np.sum(ratios))[:-1]
    part = np.searchsorted(bounds, share, side="right")  # (g,) in ranked order
    classes = len(np.unique(labels_of(groups, labels)))
    part[:classes] = 0  # one group of every class, see order()
    for p in np.flatnonzero(np.asarray(ratios) > 0)[:0:-1]:  # a tiny source: fill what rounding left empty
        if not (part == p).any():
            crowded = np.flatnonzero(np.bincount(part, minlength=len(ratios))[part] > 1)
            if not len(crowded) or crowded[-1] < classes:
                raise UserError(
                    f"{len(ranked)} different texts of {classes} classes are too few to cut into splits; add rows"
                )
            part[crowded[-1]] = p
    of_group = np.empty(len(ranked), np.int64)
    of_group[ranked] = part
    return [np.flatnonzero(of_group[groups] == p) for p in range(len(ratios))]


def sample(labels: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` row numbers, sorted, stratified by label: each class keeps a row if `count` allows."""
    if count >= len(labels):
        return np.arange(len(labels))
    return np.sort(order(labels, np.arange(len(labels)), rng)[:count])


def sorted_by(labels: np.ndarray) -> bool:
    """Whether every class of labels (n,) stands in one piece (two classes at least, and more rows than classes)."""
    changes = int((labels[1:] != labels[:-1]).sum())
    classes = len(np.unique(labels))
    return classes > 1 and changes == classes - 1 and len(labels) > 2 * classes


def amount(text: str, option: str) -> tuple[float, bool]:
    """(500, False) of `500`, (0.05, True) of `5%`. Raises UserError if it is neither."""
    number = text.strip().removesuffix("%")
    share = text.strip().endswith("%")
    try:
        value = float(number) / 100 if share else int(number)
    except ValueError:
        value = 0
    if not value > 0 or (share and value > 1):
        raise UserError(f"{option} {text}: neither a number of rows nor a share; write 500 or 5%")
    return value, share


def rows_of(text: str, option: str, total: int) -> int:
    """How many of `total` rows `500` or `5%` means, at least 1."""
    value, share = amount(text, option)
    return max(1, round(value * total)) if share else min(int(value), total)


def first_of(text: str) -> str:
    """`5%` of `first:5%`. Raises UserError for anything else."""
    head, _, rest = text.partition(":")
    if head.strip() != "first" or not rest:
        raise UserError(f"--rows {text}: write first:1000 or first:5%")
    amount(rest, "--rows first:")
    return rest


def ratios_of(text: str) -> tuple[float, float, float]:
    """(80, 0, 20) of `80/0/20`. Raises UserError if it is not three numbers of which the first is above 0."""
    try:
        numbers = [float(part) for part in text.split("/")]
    except ValueError:
        numbers = []
    if len(numbers) != 3 or min(numbers) < 0 or not numbers[0] or not np.isfinite(numbers).all():
        raise UserError(f"--split {text}: write train/validation/test as three numbers, such as 80/10/10 or 80/0/20")
    if not numbers[1] and not numbers[2]:
        raise UserError(f"--split {text}: nothing is left to judge by; write 80/10/10 or 80/0/20")
    return numbers[0], numbers[1], numbers[2]
