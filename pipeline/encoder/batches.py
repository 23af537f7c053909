"""Token lengths → batches under a token budget, and the padded arrays that an encoder takes.

A batch is as wide as its longest text, so texts are sorted by length first, and a batch ends where going on would
cost more padding than a further call to the encoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

TOKEN_BUDGET = 2048  # tokens a batch, padding included: large enough for full-speed matrix products on a CPU
CALL_COST = 24  # what one more call to an encoder costs, in tokens that it could have encoded meanwhile
MAX_ROWS = 2048


@dataclass(frozen=True)
class TokenBatch:
    """Texts as an encoder takes them, padded on the right to the longest of them."""

    rows: np.ndarray  # (b,) int64, positions of the texts in whatever the caller planned
    ids: np.ndarray  # (b, t) int64
    mask: np.ndarray  # (b, t) int64, 1 = token, 0 = padding
    types: np.ndarray | None = None  # (b, t) int64, which text of a pair; None: the encoder has no token types

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each text (b,)."""
        return np.asarray(self.mask.sum(1))

    def halves(self) -> tuple[TokenBatch, TokenBatch]:
        """The same texts as two batches, for an encoder that ran out of memory; needs at least 2 rows."""
        middle = len(self.rows) // 2
        return self._part(slice(None, middle)), self._part(slice(middle, None))

    def _part(self, rows: slice) -> TokenBatch:
        width = max(1, int(self.mask[rows].sum(1).max()))
        return TokenBatch(
            self.rows[rows],
            self.ids[rows, :width],
            self.mask[rows, :width],
            None if self.types is None else self.types[rows, :width],
        )


def plan(
    lengths: np.ndarray,
    token_budget: int = TOKEN_BUDGET,
    multiple: int = 1,
    max_rows: int = MAX_ROWS,
    call_cost: float = CALL_COST,
) -> list[np.ndarray]:
    """Positions of texts of `lengths` (n,) tokens, as batches: longest first, every position once.

    A batch of r texts, the longest of t tokens rounded up to `multiple`, has r·t ≤ `token_budget` and r ≤ `max_rows`;
    a text longer than the budget is a separate batch. Where a batch ends is chosen so that padded tokens plus
    `call_cost` a batch are fewest: the shortest path over the distinct lengths, solved by dynamic programming.
    """
    lengths = np.asarray(lengths, np.int64)
    if len(lengths) == 0:
        return []
    widths = -(-np.maximum(lengths, 1) // multiple) * multiple
    order = np.argsort(-widths, kind="stable")
    distinct, counts = np.unique(widths, return_counts=True)
    distinct, counts = distinct[::-1], counts[::-1]  # longest first, as `order`
    fits = np.clip(token_budget // distinct, 1, max_rows)
    starts = np.concatenate([[0], np.cumsum(counts)])
    batches = []
    for first, last in _groups(distinct, starts, fits, call_cost):
        group = order[starts[first] : starts[last]]
        batches += [group[i : i + fits[first]] for i in range(0, len(group), int(fits[first]))]
    return batches


def _groups(distinct: np.ndarray, starts: np.ndarray, fits: np.ndarray, call_cost: float) -> list[tuple[int, int]]:
    """Runs [first, last) of distinct lengths (k,) that share batches, cheapest; `starts` (k + 1,) adds rows up."""
    k = len(distinct)
    best, follow = np.zeros(k + 1), np.full(k, k)
    for first in range(k - 1, -1, -1):
        rows = starts[first + 1 :] - starts[first]  # (k - first,), the group's size if it ends after each length
        cost = rows * distinct[first] + call_cost * -(-rows // fits[first]) + best[first + 1 :]
        follow[first] = first + 1 + int(np.argmin(cost))
        best[first] = cost[follow[first] - first - 1]
    groups, first = [], 0
    while first < k:
        groups.append((first, int(follow[first])))
        first = int(follow[first])
    return groups


def pad(
    rows: np.ndarray, ids: Sequence[np.ndarray], types: Sequence[np.ndarray] | None = None, pad_id: int = 0
) -> TokenBatch:
    """Texts given by their token ids as one batch, padded on the right with `pad_id`; types are padded with 0."""
    lengths = np.array([len(row) for row in ids], np.int64)
    mask = (np.arange(max(1, lengths.max(initial=0)))[None, :] < lengths[:, None]).astype(np.int64)
    return TokenBatch(
        np.asarray(rows, np.int64),
        _filled(mask, ids, pad_id),
        mask,
        None if types is None else _filled(mask, types, 0),
    )


def _filled(mask: np.ndarray, rows: Sequence[np.ndarray], value: int) -> np.ndarray:
    array = np.full(mask.shape, value, np.int64)
    if len(rows):
        array[mask.astype(bool)] = np.concatenate(list(rows))
    return array


def padding_share(lengths: np.ndarray, batches: Sequence[np.ndarray]) -> float:
    """Share of the tokens in `batches` that are padding, between 0 and 1."""
    lengths = np.asarray(lengths, np.int64)
    padded = sum(len(batch) * int(lengths[batch].max()) for batch in batches)
    return 1 - sum(int(lengths[batch].sum()) for batch in batches) / padded if padded else 0.0
