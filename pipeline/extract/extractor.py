"""Stage one: texts × encoder × store → vectors. What is on disk is not encoded again.

Texts come in chunks, so that memory does not grow with the source. Tokenising runs ahead in one thread, committing
runs behind in another, and the encoder in between waits for neither. It is opened only if something is missing, so that
a second run over the same texts imports no torch.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np

from pipeline import Progress, log, silent
from pipeline.batching import TokenBatch, pad, plan
from pipeline.encoder import Encoder, Runtime, open_encoder, tokenizer
from pipeline.encoder.checkpoint import Checkpoint, EncoderSpec
from pipeline.encoder.tokens import Tokenizer, Tokens
from pipeline.extract.embedding_cache import (
    IN_CACHE,
    INT8,
    EmbeddingCache,
    SharedWriter,
    cache_for,
    models_below,
    open_cache,
)
from pipeline.extract.prefetch import prefetch
from pipeline.store import text_keys
from pipeline.store.files import NotUploadedError
from pipeline.store.remote import send
from pipeline.store.sharing import blocks_of, share

WINDOW = 16_384  # texts that are sorted by length together
AHEAD, BEHIND = 8, 16  # batches that may wait to be encoded, and to be written
TIMED = 8  # texts that are encoded one at a time, to know how long one takes

Texts = Sequence[tuple[str, ...]]


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


@dataclass(frozen=True)
class Window:
    """Different texts that are sorted by length together."""

    base: int  # what the first of them is numbered in its extraction
    whole: np.ndarray  # (n, 2) keys
    lengths: np.ndarray  # (n,) full token counts
    place: np.ndarray  # (n,) where a text stands in `tokens`; -1: it was on disk
    tokens: Tokens
    count: int  # rows that these texts are, repetitions included

    def order(self) -> np.ndarray:
        """All texts, longest first, equally long ones by key: the same for every process that has these texts."""
        return np.lexsort((self.whole[:, 0], -self.lengths))

    def batches(self, rows: np.ndarray, budget: int, pad_id: int) -> Iterator[TokenBatch]:
        """Some of the texts that are not on disk, as token batches whose rows are numbered from `base` on."""
        ids, types = self.tokens.ids, self.tokens.types
        places = self.place[rows]
        for part in plan(np.array([len(ids[i]) for i in places]), budget):
            chosen = places[part]
            kinds = None if types is None else [types[i] for i in chosen]
            yield pad(self.base + rows[part], [ids[i] for i in chosen], kinds, pad_id)


class Extractor:
    """Fills the shelf of one encoder. For one extraction, from one thread."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        spec: EncoderSpec,
        runtime: Runtime,
        cache: Path,
        progress: Progress = silent,
        whole: np.ndarray | None = None,
    ) -> None:
        self.checkpoint, self.spec, self.runtime, self.cache, self.progress = checkpoint, spec, runtime, cache, progress
        self.tokenizer: Tokenizer = tokenizer(checkpoint, cache)
        self.embedding_cache: EmbeddingCache | None = (
            None if whole is None else open_cache(checkpoint, spec, runtime, cache, whole)
        )
        self.encoder: Encoder | None = None
        self.done = Extraction()
        self._writers: list[SharedWriter] = []
        self._window: Window | None = None  # the one that is being encoded
        self._seen = Distinct()
        self._flying = 0  # batches on their way from tokens to disk
        self._landed = threading.Condition()
        self._broken = False
        self._failed: BaseException | None = None  # what the thread that runs behind has raised

    def run(self, chunks: Iterable[Texts], total: int | None = None) -> Extraction:
        """Encode whatever of the texts is not on disk; `total` is how many there are, for the progress bar.

        Interrupted, it commits what is encoded. Raises UserError where encoder or store do.
        """
        started = time.perf_counter()
        try:
            with closing(prefetch(self._batches(self._windows_of(chunks), total), AHEAD)) as line:
                for first in line:  # the encoder is open as soon as there is a batch
                    self._encode(chain([first], line), total)
        except BaseException:
            self._broken = True
            raise
        self.done.seconds = time.perf_counter() - started - self.done.setup_seconds
        if self.encoder is not None and self.done.encoded:  # else there is no text whose length would be usual
            self._time_single()
        return self.done

    # ── in the thread that runs ahead ───────────────────────────────────────────────────────────────────────────────

    def _windows_of(self, chunks: Iterable[Texts]) -> Iterator[Window]:
        """The texts in windows of different ones; the encoder is opened at the first that is not on disk."""
        base = 0
        for texts in regrouped(chunks, WINDOW):
            whole, first, times = distinct(text_keys(texts))
            if self.embedding_cache is None:
                self.embedding_cache = open_cache(self.checkpoint, self.spec, self.runtime, self.cache, whole)
            if self.encoder is None and not self.embedding_cache.holds(whole):
                if (
                    self.embedding_cache.choice.reason == IN_CACHE
                ):  # made by another machine, it may be: read here, not made
                    self.embedding_cache = open_cache(self.checkpoint, self.spec, self.runtime, self.cache)
                self._open(self.embedding_cache, texts)
            found = self.embedding_cache.find(whole)
            absent = np.flatnonzero(~np.all([there.present for there in found.values()], axis=0))
            lengths = np.max([there.tokens for there in found.values()], axis=0).astype(np.int64)
            tokens = self.tokenizer.encode([texts[i] for i in first[absent]], self.embedding_cache.max_length)
            lengths[absent] = tokens.lengths
            place = np.full(len(whole), -1)
            place[absent] = np.arange(len(absent))
            self._count(whole, lengths, times)
            yield Window(base, whole, lengths, place, tokens, len(texts))
            base += len(whole)

    def _open(self, embedding_cache: EmbeddingCache, texts: Texts) -> None:
        started = time.perf_counter()
        wish = embedding_cache.choice
        log.info("encoding with %s in %s on %s: %s", wish.engine, wish.precision, wish.device, wish.reason)
        runtime = replace(self.runtime, device=wish.device)
        self.encoder = open_encoder(
            self.checkpoint, tuple(embedding_cache.stores), wish.engine, wish.precision, runtime, self.cache, texts
        )
        if wish.precision == "int8":  # calibrated once for all: another calibration gives other vectors
            send(self.cache, models_below(self.checkpoint), INT8)
        self.embedding_cache = cache_for(self.encoder, self.cache, self.spec.storage)
        self.embedding_cache.describe()
        self.done.setup_seconds = time.perf_counter() - started

    def _count(self, whole: np.ndarray, lengths: np.ndarray, times: np.ndarray) -> None:
        limit = self.checkpoint.max_length
        self.done.rows += int(times.sum())
        self.done.unique += self._seen.add(whole[:, 0])
        self.done.tokens += int((np.minimum(lengths, limit) * times).sum())
        self.done.truncated_rows += int(times[lengths > limit].sum())

    def _batches(self, windows: Iterable[Window], total: int | None) -> Iterator[TokenBatch | None]:
        """What is to be encoded, window by window, shared with whatever other process has the same texts.

        None among the batches: everything that has been begun is wanted now.
        """
        with closing(prefetch(windows, 1)) as prepared:
            for window in prepared:
                if (window.place >= 0).any():
                    yield from self._window_batches(window)
                self.done.from_cache += window.count - int((window.place >= 0).sum())
                self.progress("extract", self.done.from_cache + self.done.encoded, total)

    def _window_batches(self, window: Window) -> Iterator[TokenBatch | None]:
        assert self.embedding_cache is not None, "a window comes after its shelf"
        assert self.encoder is not None, "something is missing, so the encoder is open"
        budget = self.encoder.token_budget
        self._writers = [
            SharedWriter(store, self.embedding_cache.max_length, self.runtime)
            for store in self.embedding_cache.stores.values()
        ]
        self._window = window
        for writer in self._writers:  # the first shares out the work, the others find little left
            left = int((window.place >= 0).sum())
            blocks = blocks_of(window.order(), max(256, budget // 16))
            for rows in share(writer, window.whole, blocks):
                if not len(rows):  # about to wait for others, who may be waiting for what has begun here
                    yield None
                    self._land()
                    continue
                rows = rows[window.place[rows] >= 0]
                left -= len(rows)
                for batch in window.batches(rows, budget, self.checkpoint.pad_id):
                    with self._landed:
                        self._flying += 1
                    yield batch
                if left <= 0:  # before `share` lets go of the blocks that it holds
                    yield None
                    self._land()
            yield None
            self._land()

    def _land(self) -> None:
        """Wait until every batch on its way has been written. Raises what the writing of one raised."""
        with self._landed:
            while self._flying and not self._broken:
                self._landed.wait(0.1)
        if self._failed is not None:  # the caller's thread may be waiting for the next batch, and not look
            raise self._failed
        for writer in self._writers:
            writer.flush()

    # ── in the caller's thread, and in the one that runs behind ─────────────────────────────────────────────────────

    def _encode(self, batches: Iterable[TokenBatch | None], total: int | None) -> None:
        assert self.encoder is not None, "there is a batch, so the encoder is open"
        waiting: deque[Future[None]] = deque()
        with ThreadPoolExecutor(1, "behind") as behind:
            try:
                last = time.perf_counter()
                for batch, vectors in self.encoder.encode_many(batches):
                    now = time.perf_counter()
                    waiting.append(behind.submit(self._keep, batch, vectors, now - last))
                    last = now
                    if len(waiting) > BEHIND:
                        waiting.popleft().result()
                    self.progress(
                        "extract", min(self.done.rows, self.done.rows - self.done.unique + self.done.encoded), total
                    )
                for done in waiting:
                    done.result()
            except KeyboardInterrupt:
                for done in waiting:
                    done.result()
                for writer in self._writers:
                    writer.flush()  # what was encoded stays
                raise
            except NotUploadedError:
                for done in waiting:
                    with suppress(NotUploadedError):
                        done.result()
                for writer in self._writers:
                    with suppress(NotUploadedError):
                        writer.flush()  # to this machine's disk, where the next run finds it
                raise

    def _keep(self, batch: TokenBatch, vectors: dict[str, np.ndarray], seconds: float) -> None:
        """Hand the vectors (b, d) of one batch to the writers."""
        try:
            self._write(batch, vectors, seconds)
        except BaseException as error:
            self._failed = error
            raise
        finally:
            with self._landed:
                self._flying -= 1
                self._landed.notify_all()

    def _write(self, batch: TokenBatch, vectors: dict[str, np.ndarray], seconds: float) -> None:
        embedding_cache, window = self.embedding_cache, self._window
        assert embedding_cache, "a batch comes after its shelf"
        assert window, "a batch comes from a window"
        rows = batch.rows - window.base
        whole, lengths = window.whole[rows], window.lengths[rows]
        kept_here = None
        for writer, pooling in zip(self._writers, embedding_cache.stores, strict=True):
            new = writer.store.missing(whole, embedding_cache.max_length)
            try:
                writer.add(whole[new], lengths[new], vectors[pooling][new], seconds)
            except NotUploadedError as error:  # the other poolings of this batch shall be kept as well
                kept_here = error
        if kept_here is not None:
            raise kept_here
        fed = np.minimum(lengths, embedding_cache.max_length)
        self.done.encoded += len(rows)
        self.done.encoded_tokens += int(fed.sum())
        self.done.padded_tokens += batch.ids.size

    def _time_single(self) -> None:
        """Encode a few texts one at a time, and remember how long one takes."""
        assert self.encoder, "something was encoded"
        assert self.embedding_cache, "and kept"
        mean = max(2, round(self.done.encoded_tokens / max(self.done.encoded, 1)))
        ids = np.full((1, mean), self.checkpoint.pad_id, np.int64)
        batch = TokenBatch(np.zeros(1, np.int64), ids, np.ones_like(ids), np.zeros_like(ids))
        self.encoder.encode(batch)
        spent = []
        for _ in range(TIMED):
            started = time.perf_counter()
            self.encoder.encode(batch)
            spent.append(time.perf_counter() - started)
        self.embedding_cache.keep_timing(1000 * float(np.median(spent)))


def regrouped(chunks: Iterable[Texts], size: int) -> Iterator[list[tuple[str, ...]]]:
    """The same texts in lists of at most `size`."""
    for chunk in chunks:
        for start in range(0, len(chunk), size):
            yield list(chunk[start : start + size])


def distinct(whole: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of keys (n, 2): the different ones (m, 2), where each stands first (m,), and how often each occurs (m,)."""
    _, first, times = np.unique(whole.view("V16").ravel(), return_index=True, return_counts=True)
    order = np.argsort(first, kind="stable")
    return whole[first[order]], first[order], times[order]


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
