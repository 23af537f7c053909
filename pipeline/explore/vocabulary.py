"""What a tokenizer makes of texts: words that it does not know, and the tokens of a few rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..words import encodable

MOST = 20  # unknown words that are named, the most frequent
READ = 20_000  # texts with unknown tokens that are read again for them
LONGEST = 40  # characters of a word that are kept


def unknown_words(
    texts: Sequence[tuple[str, ...]], unknown: np.ndarray, backend: Any, unknown_id: int
) -> dict[str, int]:
    """The words that most often become the unknown token, and how often; `unknown` (n,) counts them by text."""
    counts: Counter[str] = Counter()
    for row in np.flatnonzero(unknown)[:READ].tolist():
        parts = tuple(map(encodable, texts[row]))
        encoding = backend.encode(*parts)
        for token, (start, end), part in zip(encoding.ids, encoding.offsets, encoding.sequence_ids, strict=True):
            if token == unknown_id and part is not None:
                counts[parts[part][start:end][:LONGEST]] += 1
    return dict(counts.most_common(MOST))


def tokens_of(text: tuple[str, ...], backend: Any) -> list[str]:
    """The tokens of a full text, special ones included."""
    return list(backend.encode(*map(encodable, text)).tokens)
