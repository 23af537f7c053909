"""The index of a store: where the row of a key lies, in memory, without the vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np


@dataclass(frozen=True)
class Located:
    """Where wanted rows stand."""

    positions: np.ndarray  # (n,) int64, valid as long as the Store object; -1 = absent
    tokens: np.ndarray  # (n,) uint32, full token counts (before any cut); 0 = absent

    @property
    def present(self) -> np.ndarray:
        """(n,) bool"""
        return self.positions >= 0


@dataclass(frozen=True)
class Rows:
    """Rows as they were served: each of them checked, or marked as absent."""

    vectors: np.ndarray  # (n, d) float32; NaN where not present
    tokens: np.ndarray  # (n,) uint32, full token counts; 0 where not present
    present: np.ndarray  # (n,) bool


class Index:
    """Key → position, in memory: 32 bytes a row.

    Sorted runs of the keys' first halves, each more than twice as long as the next, so that n rows added in any number
    of steps cost O(n log n). Positions are given out in order and never again.
    """

    def __init__(self) -> None:
        self.size = 0
        self.keys = np.empty((0, 2), np.uint64)  # by position
        self.tokens = np.empty(0, np.uint32)  # by position
        self.runs: list[tuple[np.ndarray, np.ndarray]] = []  # sorted first halves (m,) u8, their positions (m,) u4

    def reserve(self, rows: int) -> int:
        """Room for `rows` more positions; returns the first. They are found once they have been inserted."""
        first, self.size = self.size, self.size + rows
        if self.size > len(self.tokens):
            room = max(self.size, len(self.tokens) * 5 // 4)  # what is not written to takes no memory
            grown_keys, grown_tokens = np.empty((room, 2), np.uint64), np.empty(room, np.uint32)
            grown_keys[:first], grown_tokens[:first] = self.keys[:first], self.tokens[:first]
            self.keys, self.tokens = grown_keys, grown_tokens
        return first

    def add(self, keys: np.ndarray, tokens: np.ndarray) -> int:
        """Give keys (n, 2) with token counts (n,) the next positions; returns the first."""
        first = self.reserve(len(keys))
        self.keys[first : self.size], self.tokens[first : self.size] = keys, tokens
        self.insert(np.arange(first, self.size, dtype=np.uint32))
        return first

    def insert(self, positions: np.ndarray) -> None:
        if not len(positions):
            return
        self.runs.append(self._sorted(positions.astype(np.uint32, copy=False), "quicksort"))
        while len(self.runs) > 1 and len(self.runs[-2][1]) < 2 * len(self.runs[-1][1]):
            (_, older), (_, newer) = self.runs[-2:]
            self.runs[-2:] = [self._sorted(np.concatenate([older, newer]), "stable")]  # older first

    def remove(self, first: int, rows: int) -> None:
        left = [positions[(positions < first) | (positions >= first + rows)] for _, positions in self.runs]
        self.runs = [(self.keys[positions, 0], positions) for positions in left if len(positions)]

    def find(self, keys: np.ndarray) -> np.ndarray:
        """Positions (n,) int64 of keys (n, 2); -1 where there is none."""
        result = np.full(len(keys), -1, np.int64)
        for halves, positions in self.runs:
            open_ = np.flatnonzero(result < 0)
            spot = np.searchsorted(halves, keys[open_, 0])
            while len(open_):  # one turn, unless two keys share their first half or a row stands twice
                inside = spot < len(halves)
                open_, spot = open_[inside], spot[inside]
                same = halves[spot] == keys[open_, 0]
                open_, spot = open_[same], spot[same]
                hit = self.keys[positions[spot], 1] == keys[open_, 1]
                result[open_[hit]] = positions[spot[hit]]
                open_, spot = open_[~hit], spot[~hit] + 1
        return result

    def _sorted(self, positions: np.ndarray, kind: Literal["quicksort", "stable"]) -> tuple[np.ndarray, np.ndarray]:
        """One run of `positions` (m,). "quicksort" is the fastest from scratch, "stable" merges two sorted halves."""
        halves = self.keys[positions, 0]
        positions = positions[np.argsort(halves, kind=kind)]
        halves.sort(kind=kind)  # in place: opening a large store shall not need twice its memory
        return halves, positions
