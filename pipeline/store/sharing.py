"""Sharing the work: any number of processes encode the same texts into one store, and few rows are encoded twice.

Each process starts at a different block in a common list of blocks and looks at the folder again before each block.
A claim (an empty file, locked while its process lives) tells the others to do something else first. Claims are only
hints: where files cannot be locked, or a process hangs, a row is at worst encoded twice, and stands twice.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

import numpy as np

from ..files import refusal
from . import Writer

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

CLAIM = ".claim-"
BLOCK_ROWS = 256  # less than a shard: a shard gathers blocks until it is large or old enough
PATIENCE = 60.0  # seconds without a new row from anybody, after which other processes' claims no longer count
OPEN, TAKEN, DONE = range(3)
NO_ROWS = np.empty(0, np.int64)


def blocks_of(order: np.ndarray, rows: int = BLOCK_ROWS) -> list[np.ndarray]:
    """Cut row numbers (n,) into blocks. Processes share work if they arrive at the same blocks: order all wanted rows
    by what each of them knows (token count, then key), not only those that are missing now."""
    return [order[first : first + rows] for first in range(0, len(order), rows)]


def share(
    writer: Writer,
    keys: np.ndarray,
    blocks: Sequence[np.ndarray],
    flush: Callable[[], None] | None = None,
    seed: int | None = None,
    patience: float = PATIENCE,
) -> Generator[np.ndarray, None, None]:
    """Row numbers (m,) to encode next, and to `add` to `writer`, until every row of `blocks` is in the store.

    `keys` (n, 2) of all texts; a block holds row numbers of them. `flush` commits whatever has been handed out (None:
    what `writer` has gathered): it is called before waiting for other processes, which may be waiting for that, and at
    the end. `seed`: None = every process starts at a different block.
    Raises UserError if the folder cannot be written.
    """
    work, waiting, flush = _Work(writer, keys, blocks, seed), Waiting(patience), flush or writer.flush
    try:
        while work.unfinished:
            work.release_committed()
            number = work.next_block()
            if number is None:
                flush()
                waiting.pause(writer.store.rows)
                work.look_again()
            elif len(rows := work.take(number, waiting.over)):
                yield rows
        flush()
    finally:
        work.release_all()


class _Work:
    """The blocks of one process's share: which are open, which it holds, and where it goes on."""

    def __init__(self, writer: Writer, keys: np.ndarray, blocks: Sequence[np.ndarray], seed: int | None) -> None:
        self.store, self.max_length, self.keys, self.blocks = writer.store, writer.max_length, keys, blocks
        self.random = np.random.default_rng(seed)
        self.state = np.zeros(len(blocks), np.uint8)
        self.held: dict[int, Claim] = {}
        self.position = int(self.random.integers(len(blocks))) if blocks else 0

    @property
    def unfinished(self) -> bool:
        return bool((self.state != DONE).any())

    def missing(self, number: int) -> np.ndarray:
        """Rows (m,) of a block that are in the store of nobody, as far as this process has looked."""
        block = self.blocks[number]
        return np.asarray(block[self.store.missing(self.keys[block], self.max_length)])

    def next_block(self) -> int | None:
        """The next open block from the position on; None if other processes have all that are left."""
        left = np.flatnonzero(self.state == OPEN)
        return int(left[np.searchsorted(left, self.position) % len(left)]) if len(left) else None

    def take(self, number: int, insist: bool) -> np.ndarray:
        """Rows (m,) of a block to encode here; none if another process has done them, or is about to (unless
        `insist`)."""
        if not len(self.missing(number)):
            self.state[number] = DONE
            self.go_elsewhere()  # not on behind whoever did it: where claims are not seen, as between machines, both
            return NO_ROWS  # would go on side by side, with the same blocks
        claim = Claim.take(self.store.folder, self.keys[self.blocks[number]], self.max_length)
        if claim is None and not insist:
            self.state[number] = TAKEN
            self.go_elsewhere()
            return NO_ROWS
        new = self.store.refresh()
        self.state[number] = DONE
        rows = self.missing(number)
        if claim is not None:
            self.held[number] = claim
        if len(rows):
            self.position = number + 1
        elif new:
            self.go_elsewhere()
        return rows

    def go_elsewhere(self) -> None:
        """Go on at one of the open blocks: one of all would mostly be followed by where somebody works."""
        left = np.flatnonzero(self.state == OPEN)
        self.position = int(self.random.choice(left)) if len(left) else 0

    def look_again(self) -> None:
        """See what other processes have committed; what they had taken is open again."""
        self.store.refresh()
        self.state[self.state == TAKEN] = OPEN

    def release_committed(self) -> None:
        for number in [number for number in self.held if not len(self.missing(number))]:
            self.held.pop(number).release()

    def release_all(self) -> None:
        for claim in self.held.values():
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
            raise refusal(folder, "cannot write", error, "choose another --cache") from error
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
