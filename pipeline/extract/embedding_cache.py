"""Where one encoder's vectors lie: a folder of the store for each pooling, found without loading the encoder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import choose, log
from ..encoder import Encoder, Runtime, backend_for
from ..encoder.checkpoint import CLS_BLOCKS, Checkpoint, EncoderSpec, Variant, vectors_digest
from ..encoder.converted import known_fault
from ..encoder.hardware import PRECISIONS, RUNS, Backend, choose_backend
from ..encoder.int8 import calibration_of
from ..encoder.pooling import parts, side_by_side, storage_of
from ..files import disk_errors, publish
from ..store import Located, Rows, Store
from ..store.remote import bring
from ..store.shard import DTYPES
from ..store.upkeep import describe

LEFT_PADDED = ("xlnet",)  # whose vectors depend on max_length even where it cuts nothing
TIMING = "timing.json"
INT8 = "int8-"  # how the files of a calibrated model begin: the one model that a remote cache shares
IN_CACHE = "in the cache"  # why a backend that is not this machine's own is taken


@dataclass(frozen=True)
class EmbeddingCache:
    """The folders of one encoder's vectors, by single pooling."""

    checkpoint: Checkpoint
    backend: Backend
    variant: Variant
    stores: dict[str, Store]

    @property
    def max_length(self) -> int:
        return self.checkpoint.max_length

    def find(self, keys: np.ndarray) -> dict[str, Located]:
        """Where the texts with `keys` (n, 2) stand, for each pooling."""
        return {pooling: store.find(keys, self.max_length) for pooling, store in self.stores.items()}

    def present(self, keys: np.ndarray) -> np.ndarray:
        """Which texts (n,) bool are there in every pooling."""
        return np.asarray(np.all([located.present for located in self.find(keys).values()], axis=0))

    def serve(self, keys: np.ndarray, pooling: str) -> Rows:
        """Checked vectors (n, d) of `pooling`; 'cls+mean' is both, side by side."""
        pooling = self.checkpoint.pooling(pooling)
        rows = {part: self.stores[part].serve(keys, self.max_length) for part in parts((pooling,))}
        return Rows(
            side_by_side({name: part.vectors for name, part in rows.items()}, pooling),
            np.max([part.tokens for part in rows.values()], axis=0),
            np.all([part.present for part in rows.values()], axis=0),
        )

    def digest(self, pooling: str) -> str:
        """What the vectors of `pooling` depend on; for a concatenation the digests of its parts."""
        return "+".join(self.stores[part].folder.name for part in parts((self.checkpoint.pooling(pooling),)))

    def storage(self, pooling: str) -> str:
        """What the vectors of `pooling` are stored as."""
        return storage_of(pooling, self.variant.storage)

    def encode_seconds(self, keys: np.ndarray) -> float:
        """What these texts cost to encode once, in the pooling that took longest (all are made in one pass)."""
        located = self.find(keys)
        return max(store.encode_seconds(located[pooling].positions) for pooling, store in self.stores.items())

    def describe(self) -> None:
        """Say in each folder, for people, what it holds."""
        for pooling, store in self.stores.items():
            about = {
                "encoder": self.checkpoint.name,
                "checkpoint_digest": self.checkpoint.checkpoint_digest(pooling),
                "pooling": pooling,
                **({"prompt": self.checkpoint.prompt} if self.checkpoint.prompt else {}),
                "engine": self.backend.engine,
                "precision": self.backend.precision,
                "storage": self.storage(pooling),
                "dim": self.checkpoint.dim,
            }
            describe(store.folder, about)

    # what one text costs to encode, where it is served

    def keep_timing(self, name: str, taken: tuple[float | None, float | None]) -> None:
        """Remember milliseconds that were measured as `name`: among others, and alone."""
        store = next(iter(self.stores.values()))
        if store.folder.exists():
            payload = json.dumps({**self._timings(store), name: taken}).encode()
            with disk_errors(store.folder, "cannot write", "choose another --cache"):
                publish(store.folder / TIMING, payload)

    def timing(self, name: str) -> tuple[float, float] | None:
        """What `keep_timing` stored as `name`, or None."""
        try:
            together, alone = map(float, self._timings(next(iter(self.stores.values())))[name])
            return together, alone
        except (ValueError, KeyError, TypeError):
            return None

    @staticmethod
    def _timings(store: Store) -> dict[str, Any]:
        try:
            return dict(json.loads((store.folder / TIMING).read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            return {}


def open_cache(
    checkpoint: Checkpoint, spec: EncoderSpec, runtime: Runtime, cache: Path, keys: np.ndarray | None = None
) -> EmbeddingCache:
    """The folders that answer `spec`.

    What `auto` leaves open is settled by the folder that already holds all texts `keys` (n, 2), if there is one, and
    by the hardware otherwise.

    Raises UserError if engine, precision and device do not go together, or if vectors are not stored as `spec` asks.
    """
    backend = choose_backend(spec.engine, spec.precision, runtime.device)
    backend = backend_for(checkpoint, checkpoint.poolings(spec.pooling), backend, cache)
    first = None
    for other, variant in _variants(checkpoint, spec, backend, cache):
        embedding_cache = open_variant(checkpoint, checkpoint.poolings(spec.pooling), other, variant, cache)
        if keys is None or embedding_cache.present(keys).all():
            if other.reason == IN_CACHE:
                log.info(f"vectors from the cache: {other.engine}, {other.precision} (pass --precision for others)")
            return embedding_cache
        first = first or embedding_cache
    assert first is not None, "what would be made now is a variant"
    return first


def open_variant(
    checkpoint: Checkpoint, pooling: tuple[str, ...], backend: Backend, variant: Variant, cache: Path
) -> EmbeddingCache:
    """The folders for exactly these numbers.

    Raises UserError for a storage that there is not.
    """
    by_length = checkpoint.config.get("model_type") in LEFT_PADDED
    stores = {}
    for part in parts(pooling):
        folder = Path(cache) / vectors_digest(checkpoint, part, variant)
        storage = storage_of(part, variant.storage)
        choose(DTYPES, storage, "storage of vectors")
        stores[part] = Store(folder, checkpoint.dim, storage, by_length)
    return EmbeddingCache(checkpoint, backend, variant, stores)


def cache_of(encoder: Encoder, cache: Path, storage: str = "auto") -> EmbeddingCache:
    """The folders that an open encoder's vectors belong to."""
    return open_variant(encoder.checkpoint, encoder.poolings, encoder.backend, encoder.variant(storage), cache)


def models_below(checkpoint: Checkpoint) -> str:
    """Where in a cache the models of a checkpoint lie that were made from it."""
    return f"models/{checkpoint.digest}"


def _variants(
    checkpoint: Checkpoint, spec: EncoderSpec, backend: Backend, cache: Path
) -> Iterator[tuple[Backend, Variant]]:
    """What would be made now, then whatever else answers the same wish."""
    calibration, poolings = None, checkpoint.poolings(spec.pooling)
    if backend.precision == "int8":
        bring(cache, models_below(checkpoint), INT8)
        calibration = calibration_of(checkpoint, poolings, cache)
    short = poolings == ("cls",) and checkpoint.config.get("model_type") in CLS_BLOCKS
    graphs = (short, not short) if poolings == ("cls",) else (False,)
    engines = list(RUNS) if spec.engine == "auto" else [backend.engine]
    if known_fault(checkpoint, poolings, cache) is not None:  # what it made before that was known is wrong
        engines = [engine for engine in engines if engine != "openvino"]
    precisions = [p for p in PRECISIONS if p != "int8"] if spec.precision == "auto" else [spec.precision]
    device = backend.device
    others = [
        Backend(engine, precision, device if device.partition(":")[0] in RUNS[engine] else "cpu", IN_CACHE)
        for engine in engines
        for precision in precisions
        if (engine, precision) != (backend.engine, backend.precision)
    ]
    for candidate in (backend, *others):
        for cls_only in graphs:
            yield candidate, Variant(candidate.engine, candidate.precision, calibration, spec.storage, cls_only)
