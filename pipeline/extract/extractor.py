"""Stage one: texts × encoder × store → vectors. What is on disk is not encoded again.

Texts come in chunks, so that memory does not grow with the source. The next window of them is tokenised in one thread
while this one is encoded in the caller's, and what is encoded goes to disk in a third. The encoder is opened only if
something is missing, so that a second run over the same texts imports no torch.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from .. import Progress, log, silent
from ..encoder import Encoded, Encoder, Runtime, open_encoder, tokenizer
from ..encoder.batches import TokenBatch
from ..encoder.checkpoint import Checkpoint, EncoderSpec
from ..encoder.int8 import calibrated
from ..encoder.tokens import Tokenizer, Tokens
from ..store import Writer, text_keys
from ..store.files import NotUploadedError
from ..store.remote import send
from ..store.sharing import blocks_of, share
from .counting import Distinct, Extraction, distinct
from .embedding_cache import IN_CACHE, INT8, EmbeddingCache, cache_of, models_below, open_cache
from .prefetch import prefetch

WINDOW = 16_384  # texts that are sorted by length together
BEHIND = 16  # batches that may wait to be written

Texts = Sequence[tuple[str, ...]]


@dataclass(frozen=True)
class Window:
    """Different texts that are sorted by length together."""

    keys: np.ndarray  # (n, 2)
    lengths: np.ndarray  # (n,) full token counts
    missing: np.ndarray  # (m,) which of them were not on disk, ascending
    tokens: Tokens  # of those m
    cached_rows: int  # rows of the source that cost nothing: on disk, or the same text again

    def order(self) -> np.ndarray:
        """All texts, longest first, equally long ones by key: the same for every process that has these texts."""
        return np.lexsort((self.keys[:, 0], -self.lengths))

    def batches(self, rows: np.ndarray, encoder: Encoder) -> Iterator[TokenBatch]:
        """Those of `rows` (r,) that are missing, for `encoder`; a batch's own `rows` are positions in `missing`."""
        _, _, positions = np.intersect1d(rows, self.missing, assume_unique=True, return_indices=True)
        return encoder.batches(self.tokens, positions)


class Extractor:
    """Fills the folders of one encoder. For one extraction, from one thread."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        spec: EncoderSpec,
        runtime: Runtime,
        cache: Path,
        progress: Progress = silent,
        keys: np.ndarray | None = None,
    ) -> None:
        self.checkpoint, self.spec, self.runtime, self.cache, self.progress = checkpoint, spec, runtime, cache, progress
        self.tokenizer: Tokenizer = tokenizer(checkpoint, cache)
        self.embedding_cache: EmbeddingCache | None = (
            None if keys is None else open_cache(checkpoint, spec, runtime, cache, keys)
        )
        self.encoder: Encoder | None = None
        self.done = Extraction()
        self._seen = Distinct()

    def run(self, chunks: Iterable[Texts], total: int | None = None) -> Extraction:
        """Encode whatever of the texts is not on disk; `total` is how many there are, for the progress bar.

        `chunks` are gone through a second time, as far as necessary, where the first of them are on disk in another
        engine's numbers and a later one is not: all vectors shall lie in one folder.
        Interrupted, or where something fails, it commits what is encoded. Raises UserError where encoder or store do.
        """
        started = time.perf_counter()
        with closing(prefetch(self._windows(chunks), 1)) as windows, ThreadPoolExecutor(1, "commit") as thread:
            for window in windows:
                if len(window.missing):
                    self._encode(window, thread, total)
                self.done.from_cache += window.cached_rows
                self.progress("extract", self.done.from_cache + self.done.encoded, total)
        self.done.seconds = time.perf_counter() - started - self.done.setup_seconds
        return self.done

    # ── in the thread that runs ahead ───────────────────────────────────────────────────────────────────────────────

    def _windows(self, chunks: Iterable[Texts]) -> Iterator[Window]:
        """The texts in windows of different ones; the encoder is opened at the first that is not on disk."""
        elsewhere = 0  # windows that were found in the folder of another engine, before that had to be left
        for number, texts in enumerate(regrouped(chunks, WINDOW)):
            keys, first, times = distinct(text_keys(texts))
            if self.embedding_cache is None:
                self.embedding_cache = open_cache(self.checkpoint, self.spec, self.runtime, self.cache, keys)
            if self.encoder is None and not self.embedding_cache.present(keys).all():
                if self.embedding_cache.backend.reason == IN_CACHE:  # by another machine, maybe: read here, not made
                    self.embedding_cache = open_cache(self.checkpoint, self.spec, self.runtime, self.cache)
                    elsewhere = number
                    if elsewhere:
                        log.info("the first %d texts are encoded as well: all vectors of one engine", self.done.rows)
                self._open(self.embedding_cache, texts)
            window = self._window(texts, keys, first)
            self._count(keys, window.lengths, times)
            yield replace(window, cached_rows=len(texts) - len(window.missing))
        for texts in islice(regrouped(chunks, WINDOW), elsewhere):  # counted as cached when they were seen first
            keys, first, _ = distinct(text_keys(texts))
            window = self._window(texts, keys, first)
            yield replace(window, cached_rows=-len(window.missing))

    def _window(self, texts: Texts, keys: np.ndarray, first: np.ndarray) -> Window:
        """Different texts with `keys` (n, 2), which stand `first` (n,) in `texts`; what is missing is tokenised."""
        assert self.embedding_cache is not None, "a window comes after its cache"
        located = self.embedding_cache.find(keys).values()
        missing = np.flatnonzero(~np.all([part.present for part in located], axis=0))
        lengths = np.max([part.tokens for part in located], axis=0).astype(np.int64)
        tokens = self.tokenizer.encode([texts[i] for i in first[missing]], self.embedding_cache.max_length)
        lengths[missing] = tokens.lengths
        return Window(keys, lengths, missing, tokens, 0)

    def _open(self, embedding_cache: EmbeddingCache, texts: Texts) -> None:
        started = time.perf_counter()
        backend, poolings = embedding_cache.backend, tuple(embedding_cache.stores)
        log.info("encoding with %s in %s on %s: %s", backend.engine, backend.precision, backend.device, backend.reason)
        if backend.precision == "int8":  # calibrated once for all: another calibration gives other vectors
            calibrated(self.checkpoint, poolings, self.cache, texts)
            send(self.cache, models_below(self.checkpoint), INT8)
        runtime = replace(self.runtime, device=backend.device)
        self.encoder = open_encoder(self.checkpoint, poolings, backend.engine, backend.precision, runtime, self.cache)
        self.embedding_cache = cache_of(self.encoder, self.cache, self.spec.storage)
        self.embedding_cache.describe()
        self.done.setup_seconds = time.perf_counter() - started

    def _count(self, keys: np.ndarray, lengths: np.ndarray, times: np.ndarray) -> None:
        limit = self.checkpoint.max_length
        self.done.rows += int(times.sum())
        self.done.unique += self._seen.add(keys[:, 0])
        self.done.tokens += int((np.minimum(lengths, limit) * times).sum())
        self.done.truncated_rows += int(times[lengths > limit].sum())

    # ── in the caller's thread ──────────────────────────────────────────────────────────────────────────────────────

    def _encode(self, window: Window, thread: ThreadPoolExecutor, total: int | None) -> None:
        """Encode what is missing of a window, sharing the work with whatever other process has the same texts."""
        assert self.encoder is not None, "something is missing, so the encoder is open"
        assert self.embedding_cache is not None, "and its cache with it"
        limit, runtime, encoder = self.embedding_cache.max_length, self.runtime, self.encoder
        stores = self.embedding_cache.stores
        writers = {name: Writer(s, limit, runtime.shard_rows, runtime.shard_seconds) for name, s in stores.items()}
        commits = Commits(window, writers, self.done, thread)

        def flush() -> None:
            commits.add(*timed(encoder.flush))
            commits.flush()

        blocks = blocks_of(window.order(), max(256, encoder.token_budget // 16))
        for writer in writers.values():  # the first shares out the work, the others find little left
            with closing(share(writer, window.keys, blocks, flush)) as shares:
                try:
                    for rows in shares:
                        for batch in window.batches(rows, encoder):
                            commits.add(*timed(encoder.push, batch))
                            rest = self.done.rows - self.done.unique + self.done.encoded
                            self.progress("extract", min(self.done.rows, rest), total)
                except BaseException:
                    commits.rescue()
                    raise


class Commits:
    """What was encoded of one window on its way to disk, in a separate thread."""

    def __init__(
        self, window: Window, writers: dict[str, Writer], done: Extraction, thread: ThreadPoolExecutor
    ) -> None:
        self.window, self.writers, self.done, self.thread = window, writers, done, thread
        self._waiting: deque[Future[None]] = deque()
        self._spent = 0.0  # seconds of encoding that no batch has been charged with yet

    def add(self, encoded: list[Encoded], seconds: float) -> None:
        """Batches with their vectors, which took `seconds`. Raises what writing an earlier one raised."""
        self._spent += seconds
        for batch, vectors in encoded:
            self._waiting.append(self.thread.submit(self._keep, batch, vectors, self._spent / len(encoded)))
        if encoded:
            self._spent = 0.0
        while len(self._waiting) > BEHIND:
            self._waiting.popleft().result()

    def flush(self) -> None:
        """Return when all of it is on disk. Raises what `Writer.add` and `flush` raise."""
        while self._waiting:
            self._waiting.popleft().result()
        for writer in self.writers.values():
            writer.flush()

    def rescue(self) -> None:
        """`flush` as far as that goes, after something failed."""
        while self._waiting:
            with suppress(Exception):
                self._waiting.popleft().result()
        for writer in self.writers.values():
            with suppress(Exception):
                writer.flush()

    def _keep(self, batch: TokenBatch, vectors: dict[str, np.ndarray], seconds: float) -> None:
        """Hand the vectors (b, d) of one batch to the writers."""
        rows = self.window.missing[batch.rows]
        keys, lengths = self.window.keys[rows], self.window.lengths[rows]
        not_uploaded = None
        for pooling, writer in self.writers.items():
            new = writer.store.missing(keys, writer.max_length)
            try:
                writer.add(keys[new], lengths[new], vectors[pooling][new], seconds)
            except NotUploadedError as error:  # the other poolings of this batch shall be stored as well
                not_uploaded = error
        if not_uploaded is not None:
            raise not_uploaded
        self.done.encoded += len(rows)
        self.done.encoded_tokens += int(batch.mask.sum())
        self.done.padded_tokens += batch.ids.size


def timed(call: Callable[..., list[Encoded]], *given: TokenBatch) -> tuple[list[Encoded], float]:
    """What a call returns, and the seconds it took."""
    started = time.perf_counter()
    return call(*given), time.perf_counter() - started


def regrouped(chunks: Iterable[Texts], size: int) -> Iterator[list[tuple[str, ...]]]:
    """The same texts in lists of at most `size`."""
    for chunk in chunks:
        for start in range(0, len(chunk), size):
            yield list(chunk[start : start + size])
