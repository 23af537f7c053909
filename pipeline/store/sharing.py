"""Sharing the work: any number of processes encode the same texts into one store, and few rows are encoded twice.

Each process starts at a place of its own in a common list of blocks and looks at the folder again before each block.
A claim (an empty file, locked while its process lives) tells the others to do something else first. Claims are only
hints: where files cannot be locked, or a process hangs, a row is at worst encoded twice, and stands twice.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from pipeline import UserError
from pipeline.store import Writer

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

CLAIM = ".claim-"
BLOCK_ROWS = 256  # less than a shard: a shard gathers blocks until it is large or old enough
PATIENCE = 60.0  # seconds without a new row from anybody, after which other processes' claims no longer count
OPEN, TAKEN, DONE = range(3)


def blocks_of(order: np.ndarray, rows: int = BLOCK_ROWS) -> list[np.ndarray]:
    """Cut row numbers (n,) into blocks. Processes share work if they arrive at the same blocks: order all wanted rows
    by what each of them knows (token count, then key), not only those that are missing now."""
    return [order[first : first + rows] for first in range(0, len(order), rows)]


def share(
    writer: Writer,
    whole: np.ndarray,
    blocks: Sequence[np.ndarray],
    seed: int | None = None,
    patience: float = PATIENCE,
) -> Iterator[np.ndarray]:
    """Row numbers (m,) to encode next, and to `add` to `writer`, until every row of `blocks` is in the store.

    `whole` (n, 2): keys of all texts; a block holds row numbers of it. `seed`: None = a place of its own for each
    process. When only other processes' blocks are left, yields no rows (whatever has begun is wanted in `writer` now),
    commits what `writer` has gathered and waits for them.
    Raises UserError if the folder cannot be written.
    """
    store, random = writer.store, np.random.default_rng(seed)
    held: dict[int, Claim] = {}
    state = np.zeros(len(blocks), np.uint8)
    here = int(random.integers(len(blocks))) if len(blocks) else 0

    def elsewhere() -> int:
        """A place among what is open: a place among all would mostly be followed by where somebody works."""
        left = np.flatnonzero(state == OPEN)
        return int(random.choice(left)) if len(left) else 0

    def missing(number: int) -> np.ndarray:
        return blocks[number][store.missing(whole[blocks[number]], writer.max_length)]

    waiting = Waiting(patience)
    try:
        while (state != DONE).any():
            for number in [number for number in held if not len(missing(number))]:
                held.pop(number).release()
            open_ = np.flatnonzero(state == OPEN)
            if not len(open_):
                yield np.empty(0, np.int64)
                writer.flush()  # others may be waiting for these
                waiting.pause(store.rows)
                store.refresh()
                state[state == TAKEN] = OPEN
                continue
            number = int(open_[np.searchsorted(open_, here) % len(open_)])
            if not len(missing(number)):
                state[number] = DONE
                here = elsewhere()  # not on behind whoever did it: where claims are not seen, as between machines,
                continue  # both would go on side by side, with the same blocks
            claim = Claim.take(store.folder, whole[blocks[number]], writer.max_length)
            if claim is None and not waiting.over:
                state[number] = TAKEN
                here = elsewhere()  # away from where somebody else works
                continue
            new = store.refresh()
            state[number] = DONE
            rows = missing(number)
            if claim and len(rows):
                held[number] = claim
            elif claim:
                claim.release()
            if len(rows):
                here = number + 1
                yield rows
            elif new:
                here = elsewhere()
        writer.flush()
    finally:
        for claim in held.values():
            claim.release()


class Waiting:
    """Pauses that grow while nothing happens; `over` once nothing has happened for `patience` seconds."""

    def __init__(self, patience: float):
        self.patience, self.seen, self.since, self.length = patience, -1, time.monotonic(), 0.01

    def pause(self, rows: int) -> None:
        if rows != self.seen:
            self.seen, self.since, self.length = rows, time.monotonic(), 0.01
        time.sleep(self.length)
        self.length = min(2 * self.length, 0.5)

    @property
    def over(self) -> bool:
        return self.seen >= 0 and time.monotonic() - self.since > self.patience


class Claim:
    """A file that says "being encoded". It is locked, so that it ends with its process, however that ends; where files
    cannot be locked, it counts for PATIENCE seconds."""

    def __init__(self, path: Path, handle: int | None):
        self.path, self.handle = path, handle

    @classmethod
    def take(cls, folder: Path, keys: np.ndarray, max_length: int) -> Claim | None:
        """The claim on a block of texts (n, 2) under max_length; None if another process has it.

        Raises UserError if the folder cannot be written.
        """
        name = hashlib.blake2b(keys.tobytes() + max_length.to_bytes(8, "little"), digest_size=16).hexdigest()
        path = folder / f"{CLAIM}{name}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            age = time.time() - path.stat().st_mtime if path.exists() else PATIENCE
            handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
        except FileNotFoundError:
            return None  # released this very moment
        except OSError as error:
            raise UserError(f"{folder}: cannot write ({error.strerror}); choose another --cache") from error
        try:
            if fcntl is None:
                raise OSError(errno.ENOTSUP, "no locks on this system")
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(handle).st_ino == path.stat().st_ino:
                return cls(path, handle)
        except (BlockingIOError, FileNotFoundError):
            pass  # held, or released this very moment
        except OSError:
            if age >= PATIENCE:
                os.utime(path)
                os.close(handle)
                return cls(path, None)
        os.close(handle)
        return None

    def release(self) -> None:
        with contextlib.suppress(OSError):
            self.path.unlink()  # before the lock is given up, so that nobody locks a file that is going
        if self.handle is not None:
            os.close(self.handle)
            self.handle = None
