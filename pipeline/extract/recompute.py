"""Are the vectors on disk those that the encoder gives? A sample of them, encoded again and compared.

The store's checks find bytes that changed after they were written. This finds what was wrong when it was written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .. import Progress, UserError, silent
from ..data import SourceOptions, read_chunks
from ..encoder import Encoder, Runtime, open_encoder, tokenizer
from ..encoder.checkpoint import EncoderSpec, locate
from ..store import text_keys
from .embedding_cache import EmbeddingCache, open_cache

Text = tuple[str, ...]
TOLERANCE = 1e-5  # largest difference of a number in float32, where batches fall differently
COSINES = {"bf16": 0.9995, "fp16": 0.9995, "int8": 0.99}  # smallest cosine in less precise arithmetic
HALF = 2.0**-11  # a number stored in float16 is off by at most this share of itself


@dataclass(frozen=True)
class Recomputed:
    """Stored vectors beside new ones of the same texts."""

    encoder: str
    poolings: tuple[str, ...]
    engine: str
    precision: str
    rows: int  # that were compared
    largest_difference: float  # between two numbers of one vector
    smallest_cosine: float
    measure: str  # which of the two is judged
    tolerance: float  # what a difference may be at most, or a cosine at least
    within: bool
    worst: str  # id of the row that differs most

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def verdict(self) -> str:
        """One line."""
        differences = f"largest difference {self.largest_difference:.2g}, smallest cosine {self.smallest_cosine:.6f}"
        limit = f"{self.measure} at {'most' if self.measure == 'difference' else 'least'} {self.tolerance:.6g}"
        if self.within:
            return f"{self.rows:,} rows encoded again: {differences}; within {limit}"
        return (
            f"{self.encoder}: vectors in the cache are not what {self.engine} gives in {self.precision}: "
            f"{differences} at {self.worst}, and {limit} is stated; delete the folder in the cache and extract again"
        )


def recompute(
    source: SourceOptions,
    spec: EncoderSpec,
    runtime: Runtime,
    cache: Path,
    rows: int,
    progress: Progress = silent,
) -> Recomputed:
    """Encode `rows` rows of the source again, drawn by its seed from those that are in the cache, and compare.

    Raises UserError if none of them is in the cache, or if the encoder cannot be opened.
    """
    checkpoint = locate(spec)
    sample = _sample(source, partial(open_cache, checkpoint, spec, runtime, cache), rows, progress)
    embedding_cache, keys = sample.embedding_cache, text_keys(sample.texts)
    served = {pooling: embedding_cache.serve(keys, pooling) for pooling in embedding_cache.stores}
    sound = np.flatnonzero(np.all([rows.present for rows in served.values()], axis=0))
    if not len(sound):
        raise UserError(f"{source.source}: none of its rows is in the cache for this encoder; run extract first")
    tokens = tokenizer(checkpoint, cache).encode([sample.texts[i] for i in sound], checkpoint.max_length)
    fresh = _open(embedding_cache, runtime, cache).encode_all(tokens)
    stored = {pooling: rows.vectors[sound] for pooling, rows in served.items()}
    difference = np.max([np.abs(stored[name] - fresh[name]).max(1) for name in stored], axis=0)  # (k,)
    cosine = np.min([_cosines(stored[name], fresh[name]) for name in stored], axis=0)  # (k,)
    precision = embedding_cache.backend.precision
    exact = precision not in COSINES
    rounded = (float(np.abs(v).max()) for name, v in fresh.items() if embedding_cache.storage(name) == "float16")
    rounding = HALF * max(rounded, default=0.0)
    tolerance = TOLERANCE + rounding if exact else COSINES[precision]
    return Recomputed(
        encoder=checkpoint.name,
        poolings=tuple(stored),
        engine=embedding_cache.backend.engine,
        precision=precision,
        rows=len(sound),
        largest_difference=float(difference.max()),
        smallest_cosine=float(cosine.min()),
        measure="difference" if exact else "cosine",
        tolerance=tolerance,
        within=bool(difference.max() <= tolerance if exact else cosine.min() >= tolerance),
        worst=sample.ids[sound[int(difference.argmax() if exact else cosine.argmin())]],
    )


def insist(several: Sequence[Recomputed]) -> None:
    """Raises UserError if one of them is not within its tolerance."""
    for check in several:
        if not check.within:
            raise UserError(check.verdict)


@dataclass(frozen=True)
class Sample:
    """Some rows of a source, and where their vectors stand."""

    embedding_cache: EmbeddingCache
    ids: list[str]
    texts: list[Text]


def _sample(
    source: SourceOptions,
    cache_for_keys: Callable[[np.ndarray], EmbeddingCache],
    rows: int,
    progress: Progress,
) -> Sample:
    """At most `rows` random rows that are on disk: each draws a number, and the lowest stay."""
    random = np.random.default_rng(source.seed)
    embedding_cache: EmbeddingCache | None = None
    lots: list[tuple[float, str, Text]] = []
    seen = 0
    for chunk in read_chunks(source):
        keys = text_keys(chunk.texts)
        embedding_cache = embedding_cache or cache_for_keys(keys)
        cached = embedding_cache.present(keys)
        drawn = np.where(cached, random.random(len(keys)), np.inf)
        best = np.argsort(drawn)[: min(rows, int(cached.sum()))].tolist()
        lots = sorted([*lots, *((float(drawn[i]), str(chunk.row_ids[i]), chunk.texts[i]) for i in best)])[:rows]
        seen += len(keys)
        progress("verify", seen, None)
    if embedding_cache is None:
        raise UserError(f"{source.source}: no rows; check --rows and --drop-empty")
    return Sample(embedding_cache, [row_id for _, row_id, _ in lots], [text for *_, text in lots])


def _open(embedding_cache: EmbeddingCache, runtime: Runtime, cache: Path) -> Encoder:
    """The encoder that the cache's vectors were made with."""
    backend, poolings = embedding_cache.backend, tuple(embedding_cache.stores)
    if backend.precision in ("bf16", "fp16") and poolings == ("cls",) and not embedding_cache.variant.cls_only:
        poolings = ("cls", "mean")  # they come from the full graph, which another pooling asks for
    runtime = replace(runtime, device=backend.device)
    return open_encoder(embedding_cache.checkpoint, poolings, backend.engine, backend.precision, runtime, cache)


def _cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine (n,) of each pair of rows."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    return np.asarray((a * b).sum(1) / np.maximum(np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1), 1e-30))
