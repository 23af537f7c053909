"""What an extraction counts while it runs: rows, tokens, seconds, and how many of the texts are different."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass
class Extraction:
    """What one extraction did, while it does it."""

    rows: int = 0
    unique: int = 0
    encoded: int = 0
    from_cache: int = 0  # rows that cost nothing: on disk, or the same text again
    tokens: int = 0  # of all rows, as fed
    encoded_tokens: int = 0
    padded_tokens: int = 0  # the same with padding
    truncated_rows: int = 0
    setup_seconds: float = 0.0  # load, convert, calibrate
    seconds: float = 0.0  # texts in hand → last rename, without setup

    @property
    def padding_share(self) -> float:
        """Share of the tokens that the encoder saw which were padding."""
        return 1 - self.encoded_tokens / self.padded_tokens if self.padded_tokens else 0.0


def distinct(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of keys (n, 2): the different ones (m, 2), where each stands first (m,), and how often each occurs (m,)."""
    _, first, times = np.unique(keys.view("V16").ravel(), return_index=True, return_counts=True)
    order = np.argsort(first, kind="stable")
    return keys[first[order]], first[order], times[order]


class Distinct:
    """Counts different numbers, 8 bytes each: sorted runs, each more than twice as long as the next."""

    def __init__(self) -> None:
        self.runs: list[np.ndarray] = []

    def add(self, numbers: np.ndarray) -> int:
        """How many of `numbers` (n,) uint64, all different, have not been added before."""
        new = np.sort(numbers)
        for run in self.runs:
            new = new[run[np.minimum(np.searchsorted(run, new), len(run) - 1)] != new]
        if len(new):
            self.runs.append(new)
        while len(self.runs) > 1 and len(self.runs[-2]) < 2 * len(self.runs[-1]):
            last = self.runs.pop()
            self.runs[-1] = np.sort(np.concatenate([self.runs[-1], last]))
        return len(new)
