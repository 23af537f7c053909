"""Where one encoder's vectors lie: a folder of the store for each pooling, found without loading the encoder."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import UserError, choose, log
from pipeline.encoder import Encoder, Runtime
from pipeline.encoder.checkpoint import CLS_BLOCKS, Checkpoint, EncoderSpec, parts, vectors_digest
from pipeline.encoder.hardware import PRECISIONS, RUNS, Backend, choice
from pipeline.encoder.int8 import calibration_of
from pipeline.store import Found, Rows, Store, Writer
from pipeline.store.remote import bring
from pipeline.store.shard import DTYPES, publish
from pipeline.store.upkeep import describe

LEFT_PADDED = ("xlnet",)  # whose vectors depend on max_length even where it cuts nothing
TIMING = "timing.json"
INT8 = "int8-"  # how the files of a calibrated model begin: the one model that a remote cache shares


IN_CACHE = "in the cache"  # why a choice that is not this machine's own is taken


class SharedStore(Store):
    """A store that one thread looks up in while another one adds to it."""

    def __init__(self, folder: Path, dim: int, dtype: str, by_length: bool) -> None:
        self.lock = threading.RLock()
        super().__init__(folder, dim, dtype, by_length)

    def refresh(self) -> int:
        with self.lock:
            return super().refresh()

    def find(self, whole: np.ndarray, max_length: int) -> Found:
        with self.lock:
            return super().find(whole, max_length)

    def read(self, places: np.ndarray) -> Rows:
        with self.lock:
            return super().read(places)

    def put(self, *row: Any) -> Any:
        with self.lock:
            return super().put(*row)


class SharedWriter(Writer):
    """A writer that one thread adds to while another one closes its shard."""

    def __init__(self, store: SharedStore, max_length: int, runtime: Runtime) -> None:
        self.lock = store.lock
        super().__init__(store, max_length, runtime.shard_rows, runtime.shard_seconds)

    def add(self, *rows: Any) -> None:
        with self.lock:
            super().add(*rows)

    def flush(self) -> None:
        with self.lock:
            super().flush()


@dataclass(frozen=True)
class EmbeddingCache:
    """The folders of one encoder's vectors, by single pooling."""

    checkpoint: Checkpoint
    choice: Backend
    stores: dict[str, SharedStore]
    calibration: str | None = None
    cls_only: bool = False
    storage: str = "float32"  # of the vectors on disk; they are always served as float32

    @property
    def max_length(self) -> int:
        return self.checkpoint.max_length

    def find(self, whole: np.ndarray) -> dict[str, Found]:
        """Where the texts with keys `whole` (n, 2) stand, for each pooling."""
        return {pooling: store.find(whole, self.max_length) for pooling, store in self.stores.items()}

    def holds(self, whole: np.ndarray) -> bool:
        """Whether every text is there in every pooling."""
        return all(found.present.all() for found in self.find(whole).values())

    def serve(self, whole: np.ndarray, pooling: str) -> Rows:
        """Checked vectors (n, d) of `pooling`; 'cls+mean' is both, side by side."""
        rows = [self.stores[part].serve(whole, self.max_length) for part in parts((pooling,))]
        return Rows(
            np.concatenate([part.vectors for part in rows], axis=1),
            np.max([part.tokens for part in rows], axis=0),
            np.all([part.present for part in rows], axis=0),
        )

    def digest(self, pooling: str) -> str:
        """What the vectors of `pooling` depend on; for a concatenation the digests of its parts."""
        return "+".join(self.stores[part].folder.name for part in parts((pooling,)))

    def encode_seconds(self, whole: np.ndarray) -> float:
        """What these texts cost to encode once, in the pooling that took longest (all are made in one pass)."""
        found = self.find(whole)
        return max(store.encode_seconds(found[pooling].places) for pooling, store in self.stores.items())

    def describe(self) -> None:
        """Say in each folder, for people, what it holds."""
        for pooling, store in self.stores.items():
            about = {
                "encoder": self.checkpoint.name,
                "checkpoint_digest": self.checkpoint.checkpoint_digest(pooling),
                "pooling": pooling,
                "engine": self.choice.engine,
                "precision": self.choice.precision,
                "storage": self.storage,
                "dim": self.checkpoint.dim,
            }
            describe(store.folder, about)

    # how long one text takes

    def keep_timing(self, ms_single: float) -> None:
        """Remember the time of one text encoded alone, in ms, on this machine."""
        payload = json.dumps({"ms_single": ms_single, "device": self.choice.device}).encode()
        for store in self.stores.values():
            if store.folder.exists():
                try:
                    publish(store.folder / TIMING, payload)
                except OSError as error:
                    raise UserError(
                        f"{store.folder}: cannot write ({error.strerror}); choose another --cache"
                    ) from error

    def timing(self) -> float | None:
        """What `keep_timing` kept, or None."""
        for store in self.stores.values():
            try:
                return float(json.loads((store.folder / TIMING).read_text("utf-8"))["ms_single"])
            except (OSError, ValueError, KeyError, TypeError):
                continue
        return None


def open_cache(
    checkpoint: Checkpoint, spec: EncoderSpec, runtime: Runtime, cache: Path, whole: np.ndarray | None = None
) -> EmbeddingCache:
    """The shelf that answers `spec`.

    What `auto` leaves open is settled by the folder that already holds all texts `whole` (n, 2), if there is one, and
    by the hardware otherwise.

    Raises UserError if engine, precision and device do not go together, or if vectors are not kept as `spec` asks.
    """
    chosen = choice(spec.engine, spec.precision, runtime.device)
    first = None
    calibration = None
    if chosen.precision == "int8":
        bring(cache, models_below(checkpoint), INT8)
        calibration = calibration_of(checkpoint, parts(spec.pooling), cache)
    for other, cls_only in _candidates(checkpoint, spec, chosen):
        embedding_cache = open_cache_at(checkpoint, spec.pooling, other, cls_only, cache, calibration, spec.storage)
        if whole is None or embedding_cache.holds(whole):
            if other != chosen:
                log.info(f"vectors from the cache: {other.engine}, {other.precision} (pass --precision for others)")
            return embedding_cache
        first = first or embedding_cache
    assert first is not None, "the choice itself is a candidate"
    return first


def models_below(checkpoint: Checkpoint) -> str:
    """Where in a cache the models of a checkpoint lie that were made from it."""
    return f"models/{checkpoint.digest}"


def open_cache_at(
    checkpoint: Checkpoint,
    pooling: tuple[str, ...],
    chosen: Backend,
    cls_only: bool,
    cache: Path,
    calibration: str | None = None,
    storage: str = "float32",
) -> EmbeddingCache:
    """The folders for exactly this encoder, engine, precision, graph and storage.

    Raises UserError for a storage that there is not.
    """
    choose(DTYPES, storage, "storage of vectors")
    by_length = checkpoint.config.get("model_type") in LEFT_PADDED
    stores = {}
    for part in parts(pooling):
        name = vectors_digest(checkpoint, part, chosen.engine, chosen.precision, calibration, storage, cls_only)
        stores[part] = SharedStore(Path(cache) / name, checkpoint.dim, storage, by_length)
    return EmbeddingCache(checkpoint, chosen, stores, calibration, cls_only, storage)


def cache_for(encoder: Encoder, cache: Path, storage: str = "float32") -> EmbeddingCache:
    """The folders that an open encoder's vectors belong to."""
    return open_cache_at(
        encoder.checkpoint, encoder.poolings, encoder.choice, encoder.cls_only, cache, encoder.calibration, storage
    )


def _candidates(checkpoint: Checkpoint, spec: EncoderSpec, chosen: Backend) -> Iterator[tuple[Backend, bool]]:
    """What would be made now, then whatever else answers the same wish."""
    short = parts(spec.pooling) == ("cls",) and checkpoint.config.get("model_type") in CLS_BLOCKS
    graphs = (short, not short) if parts(spec.pooling) == ("cls",) else (False,)
    engines = list(RUNS) if spec.engine == "auto" else [spec.engine]
    precisions = [p for p in PRECISIONS if p != "int8"] if spec.precision == "auto" else [spec.precision]
    device = chosen.device
    others = [
        Backend(engine, precision, device if device.partition(":")[0] in RUNS[engine] else "cpu", IN_CACHE)
        for engine in engines
        for precision in precisions
        if (engine, precision) != (chosen.engine, chosen.precision)
    ]
    for candidate in (chosen, *others):
        for cls_only in graphs:
            yield candidate, cls_only
