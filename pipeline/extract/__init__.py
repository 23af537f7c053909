"""Stage one, as everybody calls it: a source or a data set in, vectors on disk and, if asked, in memory out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import Progress, UserError
from ..data import Dataset, SourceOptions, read_chunks
from ..encoder import Runtime
from ..encoder.checkpoint import Checkpoint, EncoderSpec, locate
from ..encoder.declared import note_pooling
from ..encoder.int8 import forget
from ..memory import peak_rss_mb
from ..store import text_keys
from ..store.remote import url_of
from .counting import Extraction
from .embedding_cache import EmbeddingCache, open_cache
from .extractor import Extractor, Texts


@dataclass(frozen=True)
class EmbeddingMatrix:
    """Vectors (n, d) of some texts in float32, without a unit, their full token counts (n,), and what they belong to.

    Raises nothing itself.

    Examples
    --------
    >>> import numpy as np
    >>> from probe_or_tune import EmbeddingMatrix
    >>> ids, vectors, tokens = np.array(["test:0"]), np.zeros((1, 384), np.float32), np.array([7])
    >>> EmbeddingMatrix(ids, vectors, tokens, "checkpoint", "vectors").vectors.shape
    (1, 384)
    """

    row_ids: np.ndarray  # (n,) str
    vectors: np.ndarray  # (n, d) float32
    tokens: np.ndarray  # (n,) full token counts, before any cut
    checkpoint_digest: str
    vectors_digest: str


@dataclass(frozen=True)
class Extracted:
    """An extraction with everything that a person wants to know of it."""

    spec: EncoderSpec
    checkpoint: Checkpoint
    embedding_cache: EmbeddingCache
    done: Extraction

    @property
    def encoder(self) -> str:
        return self.spec.name

    def to_json(self) -> dict[str, Any]:
        """What `extract --json` prints."""
        done, first = self.done, self.spec.pooling[0]
        spent = max(done.seconds, 1e-9)
        return {
            "encoder": self.spec.name,
            "rows": done.rows,
            "unique": done.unique,
            "encoded": done.encoded,
            "from_cache": done.unique - done.encoded,
            "tokens": done.tokens,
            "truncated_rows": done.truncated_rows,
            "padding_share": done.padding_share,
            "setup_seconds": done.setup_seconds,
            "seconds": done.seconds,
            "texts_per_second": done.rows / spent,
            "tokens_per_second": done.tokens / spent,
            "dim": self.checkpoint.vector_dim(first),
            "pooling": ",".join(self.spec.pooling),
            "precision": self.embedding_cache.backend.precision,
            "storage": self.embedding_cache.storage(first),
            "engine": self.embedding_cache.backend.engine,
            "device": self.embedding_cache.backend.device,
            "prompt": self.checkpoint.prompt,
            "max_length": self.checkpoint.max_length,
            "checkpoint_digest": self.checkpoint.checkpoint_digest(first),
            "vectors_digest": self.embedding_cache.digest(first),
            "peak_rss_mb": peak_rss_mb(),
            "folders": [str(store.folder) for store in self.embedding_cache.stores.values()],
        }


@dataclass(frozen=True)
class SourceTexts:
    """The texts of a source, chunk by chunk, as often as they are requested."""

    source: SourceOptions

    def __iter__(self) -> Iterator[Texts]:
        return (chunk.texts for chunk in read_chunks(self.source))


def extract_source(
    source: SourceOptions,
    spec: EncoderSpec,
    runtime: Runtime,
    cache: Path,
    progress: Progress,
    total: int | None = None,
) -> Extracted:
    """Encode every split of a source of any size, labelled or not; `total` is its number of rows, for progress.

    Raises UserError if the source, the encoder or the cache cannot be used; what was committed before stays.
    """
    checkpoint = locate(spec)
    note_pooling(checkpoint.declared, spec.pooling, spec.name)
    spec = replace(spec, pooling=checkpoint.resolved(spec.pooling))
    extractor = Extractor(checkpoint, spec, runtime, cache, progress)
    done = extractor.run(SourceTexts(source), total)
    if extractor.embedding_cache is None:
        raise UserError(f"{source.source}: no rows; check --rows, --limit and --drop-empty")
    return Extracted(spec, checkpoint, extractor.embedding_cache, done)


def forget_calibration(spec: EncoderSpec, cache: Path) -> None:
    """Have int8 calibrated anew, on the first texts of what is extracted next; those vectors get their folder.

    Raises UserError if `spec` is not in int8, or if the cache is shared.
    """
    if spec.precision != "int8":
        raise UserError("--recalibrate: only int8 is calibrated; pass --precision int8 with it")
    if url_of(cache):
        raise UserError(f"--recalibrate: whoever uses {url_of(cache)} shares its calibration; pass another --cache")
    checkpoint = locate(spec)
    forget(checkpoint, checkpoint.poolings(spec.pooling), cache)


# ── for learning: a data set in memory ──────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Embedded:
    """The vectors of a data set's splits, read from the store pooling by pooling."""

    dataset: Dataset
    extracted: Extracted
    keys: dict[str, np.ndarray]  # split → (n, 2)

    @property
    def checkpoint(self) -> Checkpoint:
        return self.extracted.checkpoint

    def matrix(self, split: str, pooling: str) -> EmbeddingMatrix:
        """Vectors of one split in its order.

        Raises UserError if rows keep failing their check.
        """
        embedding_cache = self.extracted.embedding_cache
        rows = embedding_cache.serve(self.keys[split], pooling)
        if not rows.present.all():
            raise UserError(f"{int((~rows.present).sum())} vectors of '{split}' were damaged; run the command again")
        return EmbeddingMatrix(
            self.dataset.splits[split].row_ids,
            rows.vectors,
            rows.tokens,
            self.checkpoint.checkpoint_digest(pooling),
            embedding_cache.digest(pooling),
        )

    def matrices(self, pooling: str) -> dict[str, EmbeddingMatrix]:
        """Vectors by role: train, validation, test, those present."""
        return {role: self.matrix(split, pooling) for role, split in self.dataset.roles.items()}

    @property
    def truncated_share(self) -> float:
        """Share of the rows that the encoder saw cut."""
        return self.extracted.done.truncated_rows / max(1, self.extracted.done.rows)

    def seconds(self, roles: tuple[str, ...] | None = None) -> float:
        """What encoding the rows of these roles (None: all) once costs, whether or not it was paid this time."""
        wanted = [split for role, split in self.dataset.roles.items() if roles is None or role in roles]
        return self.extracted.embedding_cache.encode_seconds(distinct_keys(self.keys[split] for split in wanted))

    def encoder_mb(self) -> float:
        """Size of the encoder's weights, in MB."""
        return sum(file.stat().st_size for file in self.checkpoint.weights) / 1e6


@dataclass(frozen=True)
class Matrices(Mapping[str, np.ndarray]):
    """Vectors (n, d) of one split by pooling, read when they are wanted: those of all layers at once are many."""

    embedded: Embedded
    split: str
    poolings: tuple[str, ...]

    def __getitem__(self, pooling: str) -> np.ndarray:
        if pooling not in self.poolings:
            raise KeyError(pooling)
        return self.embedded.matrix(self.split, pooling).vectors

    def __iter__(self) -> Iterator[str]:
        return iter(self.poolings)

    def __len__(self) -> int:
        return len(self.poolings)


def embed(dataset: Dataset, spec: EncoderSpec, runtime: Runtime, cache: Path, progress: Progress) -> Embedded:
    """Vectors for every row that plays a role in `dataset`, encoding what is missing.

    Raises UserError where the encoder or the store do.
    """
    checkpoint = locate(spec)
    spec = replace(spec, pooling=checkpoint.resolved(spec.pooling))
    texts = {split: dataset.splits[split].texts for split in dict.fromkeys(dataset.roles.values())}
    keys = {split: text_keys(rows) for split, rows in texts.items()}
    extractor = Extractor(checkpoint, spec, runtime, cache, progress, np.concatenate(list(keys.values())))
    done = extractor.run(texts.values(), sum(map(len, texts.values())))
    assert extractor.embedding_cache is not None, "given keys, the cache is known from the start"
    return Embedded(dataset, Extracted(spec, checkpoint, extractor.embedding_cache, done), keys)


def missing_rows(dataset: Dataset, spec: EncoderSpec, runtime: Runtime, cache: Path) -> int:
    """How many different texts of `dataset` are not on disk for `spec`."""
    keys = distinct_keys(text_keys(dataset.splits[split].texts) for split in set(dataset.roles.values()))
    return int((~open_cache(locate(spec), spec, runtime, cache, keys).present(keys)).sum())


def distinct_keys(several: Iterable[np.ndarray]) -> np.ndarray:
    """The different keys (m, 2) among several (n, 2)."""
    return np.unique(np.concatenate(list(several)).view("V16").ravel()).view(np.uint64).reshape(-1, 2)
