"""Rows come in batches and go to disk in shards."""

from __future__ import annotations

import time
from types import TracebackType

import numpy as np

from .files import NotUploadedError
from .folder import Store

SHARD_ROWS, SHARD_SECONDS = 4096, 5.0


class Writer:
    """Gathers rows into shards; leaving the `with` commits the last one, also when the user interrupts."""

    def __init__(self, store: Store, max_length: int, rows: int = SHARD_ROWS, seconds: float = SHARD_SECONDS) -> None:
        assert rows > 0, "a shard holds at least a row"
        self.store, self.max_length, self.rows, self.seconds = store, max_length, rows, seconds
        self._parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._pending, self._spent, self._since = 0, 0.0, 0.0

    def add(self, keys: np.ndarray, tokens: np.ndarray, vectors: np.ndarray, seconds: float) -> None:
        """Keys (n, 2), full token counts (n,) and vectors (n, d) of one batch that took `seconds` to encode.

        Raises what `Store.commit` raises, when the shard closes.
        """
        assert len(keys) == len(tokens) == len(vectors), "a key, a token count and a vector each"
        if not self._parts:
            self._since = time.monotonic() - seconds
        self._parts.append((keys, tokens, vectors))
        self._pending += len(keys)
        self._spent += seconds
        if self._pending >= self.rows or time.monotonic() - self._since >= self.seconds:
            self.flush()

    def flush(self) -> None:
        """Commit what was gathered, now."""
        if self._parts:
            keys, tokens, vectors = (np.concatenate(column) for column in zip(*self._parts, strict=True))
            try:
                self.store.commit(keys, tokens, vectors, self._spent, self.max_length)
            except NotUploadedError:
                self._parts, self._pending, self._spent = [], 0, 0.0  # they are safe on this machine
                raise
            self._parts, self._pending, self._spent = [], 0, 0.0

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or issubclass(kind, KeyboardInterrupt):
            self.flush()
