"""Token vectors → text vectors: one row a pooling, and the names that are made of them.

`mean` is a row of the table, `mean@3` the same of the states behind the third layer instead of the last one (0: the
embeddings), `mean-normalized` brought to length 1, `cls+mean` two of them side by side. Only rows of the table are
stored, each with its layer: lengths and sides are made where vectors are served, so that each is encoded once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import Any

import numpy as np

from .. import UserError, choose

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
LAYER = "@"
INNER_STORAGE = "float16"  # of what inner layers give, because they are many
AUTO_POOLINGS = ("cls", "mean")  # what 'auto' chooses among, beside what the checkpoint declares, and side by side


def parts(poolings: Iterable[str]) -> tuple[str, ...]:
    """The rows of the table that `poolings` are made of, each once, in its order: ('cls+mean-normalized',) → cls, mean.

    Those of inner layers come last. Raises UserError if there is no such pooling.
    """
    wanted = {stored(component) for pooling in poolings for component in pooling.split("+")}
    for name in sorted(wanted):
        choose(POOLERS, base(name), "pooling")
        layer_of(name)
    return in_order(wanted)


def components(pooling: str) -> tuple[str, ...]:
    """What stands side by side in the vectors of `pooling`, each once, in the order of the table.

    Raises UserError if there is no such pooling.
    """
    parts((pooling,))
    return in_order(pooling.split("+"))


def stored(component: str) -> str:
    """The row of the table whose vectors `component` is made of."""
    return component.removesuffix(NORMALIZED)


def base(component: str) -> str:
    """The row of the table without its layer."""
    return stored(component).partition(LAYER)[0]


def layer_of(component: str) -> int | None:
    """The layer whose states `component` is made of; None: the last. Raises UserError if it names none by number."""
    _, inner, layer = stored(component).partition(LAYER)
    if inner and not (layer.isdecimal() and str(int(layer)) == layer):
        raise UserError(f"--pooling {component}: no layer '{layer}'; write a number, as in mean@3")
    return int(layer) if inner else None


def at_layer(component: str, layer: int | None) -> str:
    """The same row and length of another layer: ('mean-normalized', 3) → 'mean@3-normalized'."""
    return base(component) + ("" if layer is None else f"{LAYER}{layer}") + component[len(stored(component)) :]


def storage_of(pooling: str, wish: str) -> str:
    """What vectors of one pooling are stored as where `wish` may be auto."""
    return wish if wish != "auto" else INNER_STORAGE if LAYER in pooling else "float32"


def pairs(names: Iterable[str]) -> tuple[str, ...]:
    """Among single poolings, any two that come of different rows, side by side."""
    single = [name for name in names if "+" not in name]
    return tuple(f"{a}+{b}" for a, b in combinations(single, 2) if stored(a) != stored(b))


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """The different ones of `names`, as their rows stand in the table; those of several rows last."""
    order = list(POOLERS)

    def place(name: str) -> tuple[bool, int, int, str]:
        first = name.partition("+")[0]
        layer = layer_of(first)
        return ("+" in name, -1 if layer is None else layer, order.index(base(first)), name)

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
