"""Near-repeats: pairs of different texts whose vectors point the same way, found in blocks so that memory stays flat.

Vectors of one encoder share a direction that says nothing of the text, and that alone makes raw cosines high; their
mean is taken off first, so that a cosine of 0 is what two unrelated texts have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .. import Progress, silent

BLOCK = 1024  # rows and columns of a product that is held at once: 4 MB
MOST = 50_000  # pairs that are listed, the nearest


@dataclass(frozen=True, eq=False)
class Near:
    """Near-repeats among n rows of several splits. Rows with equal texts are not near but exact, and left out."""

    pairs: np.ndarray  # (p, 2) row numbers, first < second: one pair for each two different texts; nearest first
    cosine: np.ndarray  # (p,) float32
    beside: np.ndarray  # (n, s) bool: the row's text has a near-repeat in split s
    total: int  # pairs of different texts, listed or not


def normalised(vectors: np.ndarray, mean: np.ndarray | None = None) -> np.ndarray:
    """Vectors (n, d) without their mean (d,), each of length 1; float32. A vector that is the mean itself is all 0."""
    moved = np.asarray(vectors, np.float32) - (vectors.mean(0, dtype=np.float64) if mean is None else mean)
    lengths = np.linalg.norm(moved, axis=1, keepdims=True)
    return np.asarray(
        np.divide(moved, lengths, out=np.zeros_like(moved, np.float32), where=lengths > 1e-6).astype(np.float32)
    )


def near_repeats(
    vectors: np.ndarray,
    texts: np.ndarray,
    split: np.ndarray,
    splits: int,
    threshold: float,
    progress: Progress = silent,
) -> Near:
    """Pairs of rows with a cosine of at least `threshold`.

    `vectors` (n, d); `texts` (n,) numbers, equal for equal texts; `split` (n,) in 0 … splits-1. Each different text is
    multiplied once, however often it stands in them. Work grows with n² d, memory with n alone.
    """
    _, first, place = np.unique(texts, return_index=True, return_inverse=True)
    unit = normalised(vectors[first])  # (u, d)
    u = len(unit)
    stands_in = np.zeros((u, splits), bool)
    stands_in[place, split] = True
    beside = np.zeros((u, splits), bool)
    nearest = Nearest(MOST)
    starts = range(0, u, BLOCK)
    for number, a in enumerate(starts):
        for b in range(a, u, BLOCK):
            product = unit[a : a + BLOCK] @ unit[b : b + BLOCK].T
            i, j = np.nonzero(product >= threshold)
            i, j, cosine = i + a, j + b, product[i, j]
            above = i < j  # each pair once, and none with itself
            i, j = i[above], j[above]
            np.logical_or.at(beside, i, stands_in[j])
            np.logical_or.at(beside, j, stands_in[i])
            nearest.add(i, j, cosine[above])
        progress("near-repeats", number + 1, len(starts))
    pairs, cosine = nearest.sorted()
    rows = np.sort(first[pairs], axis=1) if len(pairs) else pairs
    return Near(rows, cosine, beside[place], nearest.total)


class Nearest:
    """The `most` nearest pairs of all that are added, held in at most twice that room."""

    def __init__(self, most: int) -> None:
        self.most, self.total = most, 0
        self.pairs, self.cosine = np.empty((0, 2), np.int64), np.empty(0, np.float32)

    def add(self, i: np.ndarray, j: np.ndarray, cosine: np.ndarray) -> None:
        """Pairs i (m,), j (m,) with their cosine (m,)."""
        if len(i) == 0:
            return
        self.total += len(i)
        self.pairs = np.concatenate([self.pairs, np.stack([i, j], axis=1)])
        self.cosine = np.concatenate([self.cosine, cosine])
        if len(self.cosine) > 2 * self.most:
            self._cut()

    def _cut(self) -> None:
        order = np.argsort(-self.cosine, kind="stable")[: self.most]
        self.pairs, self.cosine = self.pairs[order], self.cosine[order]

    def sorted(self) -> tuple[np.ndarray, np.ndarray]:
        """Pairs (p, 2) and cosines (p,), nearest first."""
        self._cut()
        return self.pairs, self.cosine


def across(near: Near, split: np.ndarray, names: Sequence[str]) -> dict[str, int]:
    """For "a/b": rows of b whose text has a near-repeat in a; "a/a" is within a. `split` (n,): a place in `names`."""
    return {
        f"{names[a]}/{names[b]}": int(near.beside[split == b, a].sum())
        for a in range(len(names))
        for b in range(a, len(names))
    }
