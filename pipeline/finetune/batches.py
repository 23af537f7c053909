"""Which rows make a step, and in which calls a step is computed.

A step has the same number of rows whatever their length. Rows of like length make a step; one whose rows still differ
is computed in several calls, so that hardly anything is padded and no call holds more tokens than its budget. The
gradient is the sum over a step's rows, so that it does not depend on how they were called.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..encoder.batches import plan

POOL = 50  # steps whose rows are sorted together: the more, the less padding and the less mixing
CALL_TOKENS = 2048  # padding included: what keeps matrix products fast, and activations small
CALL_COST = 50  # tokens that could be learnt from in the time that one more call takes


def epoch_order(lengths: np.ndarray, rows: int, random: np.random.Generator) -> np.ndarray:
    """Positions (n,) of texts of `lengths` (n,) tokens, in steps of `rows` of like length, steps in random order.

    Of `POOL` steps drawn together, the longest `rows` make a step, the next longest the next; where n is no multiple
    of `rows`, the last step is the short one, of whatever length.
    """
    mixed = random.permutation(len(lengths))
    steps, rest = [], mixed[:0]
    for start in range(0, len(mixed), POOL * rows):
        pool = mixed[start : start + POOL * rows]
        pool = pool[np.argsort(-lengths[pool], kind="stable")]  # equal lengths stay mixed
        if short := len(pool) % rows:
            place = rows * int(random.integers(len(pool) // rows + 1))
            rest, pool = pool[place : place + short], np.delete(pool, slice(place, place + short))
        steps += list(pool.reshape(-1, rows))
    return np.concatenate([*(steps[i] for i in random.permutation(len(steps))), rest])


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Rows that the first epochs do not learn from, because something is chosen on them meanwhile."""

    places: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # (h,) of the n rows, fewer than all
    epochs: int = 0


class LengthSampler:
    """A sampler in `epoch_order`: every epoch another order, the same for the same seed and epoch.

    Every epoch has as many rows; where some are held out, others are drawn in their place.
    """

    def __init__(self, lengths: np.ndarray, rows: int, seed: int, held: HeldOut | None = None) -> None:
        self.lengths, self.rows, self.seed, self.epoch = lengths, rows, seed, 0
        self.held = held or HeldOut()

    def __len__(self) -> int:
        return len(self.lengths)

    def set_epoch(self, epoch: int) -> None:
        """Choose the order."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng([self.seed, self.epoch])
        rows, held = np.arange(len(self.lengths)), self.held.places
        if self.epoch < self.held.epochs and len(held):
            rows[held] = random.choice(np.delete(rows, held), len(held), replace=len(held) > len(rows) / 2)
        yield from rows[epoch_order(self.lengths[rows], self.rows, random)].tolist()


def calls(batch: dict[str, Any]) -> list[dict[str, Any]]:
    """A padded batch of tensors as the calls that cost least: each row once, each call as wide as its longest row."""
    lengths = batch["attention_mask"].sum(1).cpu().numpy()
    parts = []
    for places in plan(lengths, CALL_TOKENS, 1, len(lengths), CALL_COST):
        width = int(lengths[places].max())
        parts.append({name: a[places, :width] if a.ndim > 1 else a[places] for name, a in batch.items()})
    return parts
