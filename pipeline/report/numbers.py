"""What sections compute: a projection, a frontier, scores of a class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..metrics import METRICS


def principal(vectors: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
    """Vectors (n, d) on their two main components (n, 2), and the share of variance that each explains."""
    wide = np.pad(np.asarray(vectors, np.float64), ((0, 0), (0, max(0, 2 - vectors.shape[1]))))
    centred = wide - wide.mean(0)
    values, axes = np.linalg.eigh(centred.T @ centred)  # d × d: the axes of an SVD of (n, d), for less
    axes = axes[:, :-3:-1]
    axes = axes * np.where(axes.sum(0) < 0, -1, 1)  # a sign that does not depend on the solver
    share = np.clip(values[:-3:-1], 0, None) / max(float(values.sum()), 1e-300)
    return centred @ axes, (float(share[0]), float(share[1]))


def frontier(rows: Sequence[dict[str, Any]], metric: str) -> set[int]:
    """Places of the rows that score higher than everything that costs no more."""
    sign, best, names = METRICS[metric].sign, -math.inf, set()
    for row in sorted(rows, key=lambda row: (row["cost"], -sign * row["value"])):
        if sign * row["value"] > best:
            best = sign * row["value"]
            names.add(row["i"])
    return names


def sparse(table: np.ndarray) -> np.ndarray:
    """[true, predicted, count] of what is not 0, (cells, 3)."""
    rows, columns = np.nonzero(table)
    return np.stack([rows, columns, table[rows, columns]], axis=1)
