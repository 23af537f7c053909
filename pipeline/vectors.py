"""The vectors of a task: of its encoders, extracted where they are missing, or from files that somebody else made."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from . import UserError, log
from .data import subset
from .encoder.checkpoint import EncoderSpec, locate
from .encoder.declared import note_pooling
from .encoder.hardware import cpu_name
from .encoder.pooling import pairs, storage_of
from .extract import Embedded, Matrices, distinct_keys, embed
from .extract.embedding_cache import EmbeddingCache, open_cache
from .extract.vector_file import FROM_FILE, VectorFile
from .linear import Encoded, EncodingFacts
from .predict.models import Vectorizer, needs_torch, spec_of
from .run import digest
from .run.timing import milliseconds, timing_sample
from .store import text_keys
from .task import Task


class GivenVectors:
    """Those of a file: nothing is extracted, and what they cost is not known."""

    config: Mapping[str, Any] = {}

    def __init__(self, task: Task, file: VectorFile) -> None:
        self.task, self.file = task, file
        self.name, self.poolings = file.name, ("",)

    @cached_property
    def by_role(self) -> dict[str, np.ndarray]:
        """Vectors (n, d) of each role's rows."""
        return self.file.of(self.task.dataset)

    def encoded(self, pooling: str = "") -> Encoded:
        """As a fit on vectors wants them."""
        return Encoded(lambda: self.by_role, self.file.digest, self.described(pooling))

    def matrix(self, role: str, pooling: str) -> np.ndarray:
        """Vectors (n, d) of one role's rows."""
        return self.by_role[role]

    def digest(self, pooling: str) -> str:
        """What a run on them belongs to."""
        return self.file.digest

    def described(self, pooling: str) -> dict[str, Any]:
        """What a run says of them."""
        return {
            "encoder": self.name,
            "vectors": FROM_FILE,
            "text_parts": len(self.task.dataset.text_columns),
        }


class TaskVectors:
    """The vectors of a task's data set by one encoder: known by name at once, extracted when somebody wants them."""

    def __init__(self, task: Task, spec: EncoderSpec) -> None:
        self.task, self.spec = task, spec
        self.checkpoint = locate(spec)
        self.single = replace(spec, pooling=self.checkpoint.poolings(spec.pooling))
        self.name, self.poolings, self.config = spec.name, spec.pooling, self.checkpoint.config
        note_pooling(self.checkpoint.declared, spec.pooling, spec.name)

    @cached_property
    def embedded(self) -> Embedded:
        """The vectors themselves; what is missing is encoded."""
        task = self.task
        return embed(task.dataset, self.single, task.runtime, task.cache, task.progress)

    @cached_property
    def cache(self) -> EmbeddingCache:
        """Where they lie, or will."""
        task, data = self.task, self.task.dataset
        keys = [text_keys(data.splits[split].texts) for split in dict.fromkeys(data.roles.values())]
        return open_cache(self.checkpoint, self.single, task.runtime, task.cache, np.concatenate(keys))

    def encoded(self, pooling: str) -> Encoded:
        """Those of one pooling; 'auto' is several, among which the folds choose."""
        pooling = self.checkpoint.pooling(pooling)
        several, digest = self._several(pooling), self.checkpoint.checkpoint_digest
        names = (*several, *pairs(several)) if several else (pooling,)
        digests = {name: digest(name) for name in names}
        return Encoded(
            vectors=lambda: self._vectors(pooling, several),
            checkpoint_digest=digests if several else digests[pooling],
            settings=self._described(pooling, self.cache),
            facts=self.facts,
            calibrated=lambda: self.described(pooling),
        )

    def _several(self, pooling: str) -> tuple[str, ...]:
        return self.checkpoint.auto_poolings if pooling == "auto" else ()

    def _vectors(self, pooling: str, several: tuple[str, ...]) -> dict[str, Any]:
        if not several:
            return {role: matrix.vectors for role, matrix in self.embedded.matrices(pooling).items()}
        return {role: Matrices(self.embedded, split, several) for role, split in self.task.dataset.roles.items()}

    def matrix(self, role: str, pooling: str) -> np.ndarray:
        """Vectors (n, d) of one role's rows."""
        return self.embedded.matrix(self.task.dataset.roles[role], pooling).vectors

    def digest(self, pooling: str) -> str:
        """What a run on them belongs to."""
        return self.checkpoint.checkpoint_digest(pooling)

    def described(self, pooling: str) -> dict[str, Any]:
        """What a run on them says of them, so that prediction can make the same ones."""
        return self._described(pooling, self.embedded.extracted.embedding_cache)

    def facts(self, pooling: str) -> EncodingFacts:
        """What encoding costs a run on them: all the rows that it learns from and chooses on, in every pooling that was
        compared; and one text in the pooling that was chosen, by what serves it."""
        done = self.embedded
        return EncodingFacts(done.seconds(("train", "validation")), done.encoder_mb(), *self._milliseconds(pooling))

    def _milliseconds(self, pooling: str) -> tuple[float | None, float | None]:
        texts, cache, task = timing_sample(self.task.dataset), self.embedded.extracted.embedding_cache, self.task
        name = f"{pooling} {digest(text_keys(texts).tobytes().hex())} {cpu_name()} {task.runtime}"
        known = cache.timing(name)
        if known is not None:
            return known
        spec = spec_of(self.described(pooling), pooling)
        if "torch" not in sys.modules and needs_torch(self.checkpoint, spec, task.runtime, task.cache):
            keys = distinct_keys(self.embedded.keys.values())  # what is on disk is learnt from without torch
            return 1000 * self.embedded.seconds() / max(1, len(keys)), None
        try:
            taken = milliseconds(Vectorizer(self.checkpoint, spec, task.runtime, task.cache).vectors, texts)
        except UserError as error:  # vectors that another machine made, which this one cannot
            log.warning(f"what encoding a text costs here is not known: {error}")
            return None, None
        with suppress(UserError):  # a cache that takes no files: measured again next time
            cache.keep_timing(name, taken)
        return taken

    def _described(self, pooling: str, cache: EmbeddingCache) -> dict[str, Any]:
        spec = self.spec
        facts = {
            "encoder": str(Path(spec.name).resolve()) if Path(spec.name).exists() else spec.name,
            "revision": spec.revision,
            "pooling": pooling,
            "max_length": self.checkpoint.max_length,
            "engine": cache.backend.engine,
            "precision": cache.backend.precision,
            "text_parts": len(self.task.dataset.text_columns),
        }
        if self.checkpoint.prompt:
            facts["prompt"] = self.checkpoint.prompt
        if (storage := storage_of(pooling, spec.storage)) != "float32":
            facts["storage"] = storage
        if pooling == "auto" and self.checkpoint.layers != (None,):
            facts["layers"] = ",".join("last" if layer is None else str(layer) for layer in self.checkpoint.layers)
        if cache.variant.calibration:  # of int8: another one makes other vectors
            facts["calibration"] = cache.variant.calibration
        return facts


Vectors = TaskVectors | GivenVectors


def vectors_of(task: Task) -> list[Vectors]:
    """Those of each of the task's files; without files, of each encoder."""
    return [GivenVectors(task, file) for file in task.vectors] or [TaskVectors(task, spec) for spec in task.encoders]


def one_each(task: Task) -> Iterator[Task]:
    """The task with one file of vectors at a time; without files, with one encoder and pooling."""
    for file in task.vectors:
        yield replace(task, vectors=(file,))
    for spec in () if task.vectors else task.encoders:
        for pooling in spec.pooling:
            yield replace(task, encoders=(replace(spec, pooling=(pooling,)),))


def role_vectors(task: Task) -> dict[str, np.ndarray] | None:
    """Vectors (n, d) of every role's split, of the first encoder and pooling; None if they are not all on disk."""
    if task.vectors:
        return task.vectors[0].of(task.dataset)
    keys = {role: text_keys(task.dataset.role(role).texts) for role in task.dataset.roles}
    embedding_cache = complete_cache(task, np.concatenate(list(keys.values())))
    if embedding_cache is None:
        return None
    pooling = next(iter(embedding_cache.stores))
    return {role: embedding_cache.serve(wanted, pooling).vectors for role, wanted in keys.items()}


def judged_vectors(task: Task, rows: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Vectors of the judged split, or of the `rows` (n,) of a whole one, by pooling, for the page's map.

    None of them if they are not all on disk.
    """
    split = task.dataset.test if rows is None else subset(task.dataset.train, np.flatnonzero(rows))
    if task.vectors:
        ids = split.row_ids.tolist()
        return {f.name: f.take(f.rows_of(ids, split.texts, task.dataset.text_columns), ids) for f in task.vectors}
    wanted = text_keys(split.texts)
    embedding_cache = complete_cache(task, wanted)
    return {p: embedding_cache.serve(wanted, p).vectors for p in embedding_cache.stores} if embedding_cache else {}


def complete_cache(task: Task, wanted: np.ndarray) -> EmbeddingCache | None:
    """The first encoder's cache, None unless it holds every text with keys `wanted` (n, 2)."""
    spec = replace(task.encoders[0], layers=("last",))  # the page's maps are of what is asked for by name
    try:
        checkpoint = locate(spec)
    except UserError:  # whoever needs it has said so by now
        return None
    embedding_cache = open_cache(checkpoint, spec, task.runtime, task.cache, wanted)
    return embedding_cache if embedding_cache.present(wanted).all() else None
