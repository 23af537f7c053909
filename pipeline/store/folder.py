"""One folder of the store: looked up, read and added to by the keys of texts. It takes care of its own locking."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from .. import UserError
from ..files import disk_errors
from ..urls import is_url
from ..words import error_line
from .files import NotUploadedError
from .index import Index, Located, Rows
from .remote import files_of
from .shard import (
    DTYPES,
    DamagedError,
    Shard,
    check_name,
    cut_keys,
    pack,
    read_columns,
    read_rows,
    text_keys,
)

ABOUT = "about.json"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Method = TypeVar("Method", bound=Callable[..., Any])


def locked(method: Method) -> Method:
    """One thread at a time in any such method of a store."""

    @wraps(method)
    def alone(self: Store, *given: Any, **named: Any) -> Any:
        with self.lock:
            return method(self, *given, **named)

    return alone  # type: ignore[return-value]


class Store:
    """The vectors of one encoder, pooling, engine and precision: the folder `cache/<vectors_digest>`.

    `dim`: checked if given. `dtype`: how new vectors are stored, "float32" or "float16" (None: as those present,
    else float32); they are always served as float32. `by_length`: the encoder's vectors depend on max_length even for
    texts that it does not cut. For any number of processes and threads.

    Raises UserError if the folder cannot be read, or holds vectors of another width.

    Examples
    --------
    >>> from probe_or_tune import Store
    >>> from probe_or_tune.store import text_keys
    >>> keys = text_keys([("win a prize",), ("see you",)])  # (n, 2) uint64, what a text is found by
    >>> Store(TMP / "empty").find(keys, max_length=128).present.tolist()
    [False, False]
    """

    def __init__(self, folder: Path | str, dim: int | None = None, dtype: str | None = None, by_length: bool = False):
        assert dtype in (None, *DTYPES), f"vectors are kept as one of {list(DTYPES)}"
        if is_url(str(folder)):
            raise UserError("a URL is no folder; pass the one that stands for it: pipeline.store.remote.mirror(url)")
        self.folder = Path(os.path.abspath(folder))
        self.files = files_of(self.folder)
        self.dim, self.dtype, self.by_length = dim, dtype, by_length
        self.index = Index()
        self.shards: list[Shard] = []  # in the order of their positions; those that are gone too
        self._starts = np.empty(0, np.int64)  # first position of each
        self._numbers: dict[str, int] = {}  # file name → number, of those present
        self.refused: set[str] = set()  # damaged, but could not be moved away
        self.lock = threading.RLock()
        self.refresh()

    # what exists

    @property
    def present_shards(self) -> list[Shard]:
        return [self.shards[number] for number in self._numbers.values()]

    @property
    def rows(self) -> int:
        """Rows that can be served, a row that stands twice counted twice."""
        return sum(shard.rows for shard in self.present_shards)

    @property
    def bytes(self) -> int:
        return sum(shard.size for shard in self.present_shards)

    @locked
    def refresh(self) -> int:
        """List the folder again: read the keys of new shards, forget those that are gone. Returns how many are new.

        Raises UserError if the folder or a shard may not be read.
        """
        names = self.files.names()
        for name in self._numbers.keys() - names:
            self._forget(name)
        fresh = []
        for name in sorted(names - self._numbers.keys() - self.refused):
            with self._distrust(self.folder / name):
                fresh.append(self.files.header(name))
        position = self.index.reserve(sum(shard.rows for shard in fresh))
        good = []
        for shard in fresh:
            here = slice(position, position + shard.rows)
            with self._distrust(shard.path):
                read_columns(shard, self.index.keys[here], self.index.tokens[here])
                self._register(replace(shard, path=self.folder / shard.path.name), position)
                if shard.dim != self.dim:
                    raise UserError(self._wrong_width(shard.dim))
                good.append(np.arange(here.start, here.stop, dtype=np.uint32))
            position += shard.rows
        if good:
            self.index.insert(np.concatenate(good))
        return len(good)

    # looking up

    def lookup(self, texts: Sequence[tuple[str, ...]], max_length: int) -> Located:
        """Where the vectors of texts under `max_length` stand."""
        return self.find(text_keys(texts), max_length)

    @locked
    def find(self, keys: np.ndarray, max_length: int) -> Located:
        """Where the texts with keys `keys` (n, 2) stand: a text of at most max_length tokens under its key,
        whatever max_length it was encoded with, a longer one under the key for this cut."""
        if self.by_length:
            positions = self.index.find(cut_keys(keys, max_length))
        else:
            positions = self.index.find(keys)
            positions[(positions >= 0) & (self._tokens(positions) > max_length)] = -1
            rest = np.flatnonzero(positions < 0)
            positions[rest] = self.index.find(cut_keys(keys[rest], max_length))
        return Located(positions, self._tokens(positions))

    def missing(self, keys: np.ndarray, max_length: int) -> np.ndarray:
        """Which rows (m,) of `keys` (n, 2) are absent as far as this store has looked; `refresh()` looks again."""
        return np.flatnonzero(~self.find(keys, max_length).present)

    @locked
    def read(self, positions: np.ndarray) -> Rows:
        """The vectors at `positions` (n,), in this order; every one is checked.

        A row that fails its check is not present; its shard is quarantined, so that `missing` names what to encode
        again. A position of -1, or in a shard that is gone, is not present either.
        """
        positions = np.asarray(positions, np.int64)
        out = np.empty((len(positions), self.dim or 0), np.float32)
        present = np.zeros(len(positions), bool)
        order = np.argsort(positions, kind="stable")
        which = self._shard_numbers(positions[order])
        numbers = [number for number in np.unique(which).tolist() if number >= 0]
        self.files.fetch(name for name in (self.shards[n].path.name for n in numbers) if name in self._numbers)
        edges = [0, *(np.flatnonzero(np.diff(which)) + 1).tolist(), len(which)]
        for low, high in itertools.pairwise(edges):
            if high > low and which[low] >= 0:
                at = order[low:high]
                present[at] = self._read_from(int(which[low]), positions[at], out, at)
        out[~present] = np.nan  # never to be mistaken for a vector
        return Rows(out, np.where(present, self._tokens(positions), 0).astype(np.uint32), present)

    def serve(self, keys: np.ndarray, max_length: int) -> Rows:
        """The vectors of the texts with keys `keys` (n, 2); looks a second time for what moved or failed its check."""
        rows = self.read(self.find(keys, max_length).positions)
        if not rows.present.all():
            self.refresh()
            if rows.vectors.shape[1] != (self.dim or 0):  # the first shard has just come
                rows = self.read(self.find(keys, max_length).positions)
            again = np.flatnonzero(~rows.present)
            more = self.read(self.find(keys[again], max_length).positions)
            rows.vectors[again], rows.tokens[again], rows.present[again] = more.vectors, more.tokens, more.present
        self._touch()
        return rows

    @locked
    def encode_seconds(self, positions: np.ndarray) -> float:
        """What the rows at `positions` cost to encode: the seconds of their shards, divided by tokens fed."""
        positions = np.asarray(positions, np.int64)
        positions = positions[positions >= 0]
        which = self._shard_numbers(positions)
        total = 0.0
        for number in np.unique(which).tolist():
            shard, start = self.shards[number], int(self._starts[number])
            work = np.minimum(self.index.tokens[start : start + shard.rows], shard.max_length).astype(float) + 1
            total += shard.seconds * float(work[positions[which == number] - start].sum() / work.sum())
        return total

    # adding

    def commit(
        self, keys: np.ndarray, tokens: np.ndarray, vectors: np.ndarray, seconds: float, max_length: int
    ) -> Shard | None:
        """Publish texts with keys `keys` (n, 2), full token counts (n,) and vectors (n, d) as one shard.

        `seconds`: what they cost to encode; `max_length`: what they were cut to. None if there are no rows.
        Raises UserError if a vector is not finite or does not fit the dtype, if the disk is full, or if the folder
        cannot be written; NotUploadedError if the rows are safe on this machine's disk, but could not be uploaded.
        Nothing that was committed before is touched.
        """
        cut = np.ones(len(keys), bool) if self.by_length else np.asarray(tokens) > max_length
        stored = np.where(cut[:, None], cut_keys(keys, max_length), keys)
        return self.put(stored, tokens, vectors, seconds, max_length)

    def put(
        self, stored: np.ndarray, tokens: np.ndarray, vectors: np.ndarray, seconds: float, max_length: int
    ) -> Shard | None:
        """`commit` under keys that are used as they are."""
        vectors = np.asarray(vectors)
        if not len(stored):
            return None
        assert stored.shape == (len(vectors), 2), "a key a vector"
        assert len(tokens) == len(vectors), "a token count a vector"
        if vectors.shape[1:] != (self.dim or vectors.shape[1],):
            raise UserError(self._wrong_width(vectors.shape[1]))
        with np.errstate(over="ignore"):
            rounded = np.ascontiguousarray(vectors, DTYPES[self.dtype or "float32"][1])
        if not np.isfinite(rounded).all():
            raise UserError(self._not_finite(vectors))
        stored, tokens = np.ascontiguousarray(stored, "<u8"), np.ascontiguousarray(tokens, "<u4")
        payload, shard = pack(self.folder.name, stored, tokens, rounded, seconds, max_length)
        shard = replace(shard, path=self.folder / shard.path)
        waiting: NotUploadedError | None = None
        try:
            self.files.add(shard.path.name, payload)  # not locked: lookups go on while the disk is busy
        except NotUploadedError as error:
            waiting = error
        except OSError as error:
            raise UserError(self._not_written(error)) from error
        with self.lock:
            if shard.path.name not in self._numbers:  # another thread may have listed it meanwhile
                self._register(shard, self.index.add(stored, tokens))
        if waiting is not None:
            raise waiting
        return shard

    # for upkeep

    def positions_of(self, shard: Shard) -> np.ndarray:
        """Places (rows,) of a shard's rows."""
        start = int(self._starts[self.shards.index(shard)])
        return np.arange(start, start + shard.rows)

    def shards_of(self, positions: np.ndarray) -> list[Shard]:
        """The shards in which `positions` (n,) lie, each once."""
        return [self.shards[number] for number in np.unique(self._shard_numbers(positions)).tolist()]

    @locked
    def is_whole(self, shard: Shard) -> bool:
        """Whether no byte of the shard's file has changed; quarantines it otherwise."""
        with self._distrust(shard.path):
            self.files.fetch([shard.path.name])
            check_name(shard)
        return shard.path.name in self._numbers

    @locked
    def remove(self, shard: Shard) -> bool:
        """Delete a shard; False if it was gone. Raises UserError if it cannot be deleted."""
        if shard.path.name not in self._numbers:
            return False
        self._forget(shard.path.name)
        with disk_errors(shard.path, "cannot delete", "mend its permissions"):
            self.files.remove(shard.path.name)
        return True

    # inside

    def _shard_numbers(self, positions: np.ndarray) -> np.ndarray:
        return np.searchsorted(self._starts, positions, "right") - 1

    def _tokens(self, positions: np.ndarray) -> np.ndarray:
        """Token counts (n,) uint32 at positions (n,); 0 where absent."""
        if not self.index.size:
            return np.zeros(len(positions), np.uint32)
        return np.where(positions >= 0, self.index.tokens[np.maximum(positions, 0)], 0).astype(np.uint32)

    def _touch(self) -> None:
        """Remember that the folder was used now: the time stamp of its card."""
        with contextlib.suppress(OSError):  # no card, or a cache that may only be read
            os.utime(self.folder / ABOUT)

    def _register(self, shard: Shard, start: int) -> None:
        self.dim, self.dtype = self.dim or shard.dim, self.dtype or shard.dtype
        self._numbers[shard.path.name] = len(self.shards)
        self.shards.append(shard)
        self._starts = np.append(self._starts, start)

    def _forget(self, name: str) -> None:
        number = self._numbers.pop(name)
        self.index.remove(int(self._starts[number]), self.shards[number].rows)

    def _read_from(self, number: int, positions: np.ndarray, out: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Read ascending `positions` (m,) of one shard into `out[at]`; which of them (m,) hold what was written."""
        shard, start = self.shards[number], int(self._starts[number])
        holds = np.zeros(len(positions), bool)
        if shard.path.name not in self._numbers:
            return holds
        with self._distrust(shard.path):
            holds = read_rows(
                shard, positions - start, self.index.keys[positions], self.index.tokens[positions], out, at
            )
            if not holds.all():
                raise DamagedError(f"{len(holds) - int(holds.sum())} of {len(holds)} rows that were read have changed")
        return holds

    @contextlib.contextmanager
    def _distrust(self, path: Path) -> Iterator[None]:
        """Within this, a damaged shard is quarantined and forgotten, and one that is gone is forgotten."""
        try:
            yield
        except FileNotFoundError:
            if path.name in self._numbers:
                self._forget(path.name)
        except DamagedError as error:
            if path.name in self._numbers:
                self._forget(path.name)
            if not self.files.quarantine(path.name, str(error)):
                self.refused.add(path.name)

    def _wrong_width(self, dim: int) -> str:
        return f"{self.folder}: vectors of {dim} numbers, not {self.dim}; use another --cache"

    def _not_finite(self, vectors: np.ndarray) -> str:
        if np.isfinite(vectors).all():
            return f"{self.folder}: vectors too large for {self.dtype or 'float32'}; keep them as float32"
        return f"{self.folder}: the encoder gave vectors that are not finite; try --precision float32"

    def _not_written(self, error: OSError) -> str:
        committed = f"{self.rows:,} rows committed before are kept"
        if error.errno in FULL:
            return f"{self.folder}: disk full ({error_line(error)}), {committed}; free space or choose another --cache"
        return f"{self.folder}: cannot write ({error_line(error)}), {committed}; choose another --cache"
