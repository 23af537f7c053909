"""Token vectors → text vectors: one row a pooling, and the names that are made of them.

`mean` is a row of the table, `mean-normalized` the same brought to length 1, `cls+mean` two of them side by side. Only
rows of the table are stored: lengths and sides are made where vectors are served, so that each is encoded once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from .. import choose

POOLERS: dict[str, Any] = {  # hidden (b, t, d), mask (b, t) → (b, d); torch tensors, but nothing here needs torch
    "cls": lambda hidden, mask: hidden[:, 0],
    "mean": lambda hidden, mask: (hidden * mask[..., None]).sum(1) / mask.sum(1)[:, None],
    "max": lambda hidden, mask: hidden.masked_fill(mask[..., None] == 0, float("-inf")).amax(1),
    "last": lambda hidden, mask: hidden.gather(1, (mask.sum(1) - 1)[:, None, None].expand(-1, 1, hidden.shape[-1]))[
        :, 0
    ],
    "weightedmean": lambda hidden, mask: POOLERS["mean"](hidden, mask * mask.cumsum(1)),  # later tokens count for more
    "mean_sqrt_len_tokens": lambda hidden, mask: (
        POOLERS["mean"](hidden, mask) * mask.sum(1)[:, None].to(hidden.dtype).sqrt()
    ),
}
NORMALIZED = "-normalized"
AUTO_POOLINGS = ("cls", "mean")  # what 'auto' chooses among, beside what the checkpoint declares, and side by side


def parts(poolings: Iterable[str]) -> tuple[str, ...]:
    """The rows of the table that `poolings` are made of, each once, in its order: ('cls+mean-normalized',) → cls, mean.

    Raises UserError if there is no such pooling.
    """
    wanted = {stored(component) for pooling in poolings for component in pooling.split("+")}
    for name in sorted(wanted):
        choose(POOLERS, name, "pooling")
    return tuple(name for name in POOLERS if name in wanted)


def components(pooling: str) -> tuple[str, ...]:
    """What stands side by side in the vectors of `pooling`, each once, in the order of the table.

    Raises UserError if there is no such pooling.
    """
    parts((pooling,))
    return in_order(pooling.split("+"))


def stored(component: str) -> str:
    """The row of the table whose vectors `component` is made of."""
    return component.removesuffix(NORMALIZED)


def ways(names: tuple[str, ...]) -> tuple[str, ...]:
    """Among several poolings, each alone and those that come of different rows side by side."""
    first = {stored(name): name for name in reversed(names)}
    together = [name for name in names if "+" not in name and first[stored(name)] == name]
    return (*names, "+".join(together)) if len(together) > 1 else names


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """The different ones of `names`, as their rows stand in the table; those of several rows last."""
    order = list(POOLERS)

    def place(name: str) -> tuple[int, str]:
        return (len(order) if "+" in name else order.index(stored(name)), name)

    return tuple(sorted(set(names), key=place))


def side_by_side(vectors: Mapping[str, np.ndarray], pooling: str) -> np.ndarray:
    """Vectors (n, d) of `pooling`, made of those of its rows (n, dim)."""
    several = [scaled(vectors[stored(name)], name) for name in components(pooling)]
    return several[0] if len(several) == 1 else np.concatenate(several, axis=1)


def scaled(vectors: np.ndarray, component: str) -> np.ndarray:
    """Vectors (n, dim) float32 as `component` has them: of length 1 where its name says so."""
    if not component.endswith(NORMALIZED):
        return vectors
    lengths = np.sqrt(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64))
    unit: np.ndarray = (vectors / np.maximum(lengths, 1e-12)[:, None]).astype(np.float32)
    return unit
