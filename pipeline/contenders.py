"""Who can take part: each contender is a row that says which fits it consists of and about how long they take.

What it is says its row in `KINDS`. To add one, write a function from `Task` and the contender's variant (`smote` of
`lr+smote`) to its fits, and give it a row in both tables. A fit says what is asked before anything is learnt or
extracted, so that the same function answers what exists, what is missing, and has the missing fitted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from . import UserError, choose, kinds
from .baseline import majority_fit
from .cascade import cascade_fit
from .data import Dataset, SourceOptions, read, subset
from .encoder.checkpoint import EncoderSpec, locate, trained
from .encoder.declared import note_pooling
from .encoder.pooling import pairs, parts, storage_of
from .encoder.tokens import tokenizer
from .estimates import (
    Job,
    extraction_seconds,
    head_seconds,
    jobs,
    linear_seconds,
    resampled_seconds,
    tfidf_seconds,
    tuning_seconds,
)
from .explore import Profile
from .explore import profile as look_at
from .extract import Embedded, Matrices, embed
from .extract.embedding_cache import EmbeddingCache, open_cache
from .finetune import FineTuneSettings, check, timed, tuned_fit
from .finetune.device import is_main_process
from .finetune.frozen import frozen_fit
from .finetune.heads import own_dropout
from .linear import Encoded, EncodingFacts, LinearSettings, linear_fit
from .run import Fit, Run, answer
from .stack import stack_fit
from .store import text_keys
from .task import Task
from .tfidf import TfidfSettings, tfidf_fit


def profile(source: SourceOptions, encoder: EncoderSpec, cache: Path, show_tokens: int = 0) -> Profile:
    """A source before anything is fitted. Raises UserError if it, or the encoder, cannot be read."""
    return profile_of(read(source, allow_one_class=True), encoder, cache, show_tokens)


def profile_of(dataset: Dataset, encoder: EncoderSpec, cache: Path, show_tokens: int = 0) -> Profile:
    """The same for a data set in memory."""
    checkpoint = locate(encoder)
    return look_at(dataset, tokenizer(checkpoint, cache), checkpoint.limit, checkpoint.max_length, show_tokens)


# ── vectors ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class TaskVectors:
    """The vectors of a task's data set by one encoder: known by name at once, extracted when somebody wants them."""

    def __init__(self, task: Task, spec: EncoderSpec) -> None:
        self.task, self.spec = task, spec
        self.checkpoint = locate(spec)
        self.single = replace(spec, pooling=self.checkpoint.poolings(spec.pooling))
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
            settings=self.described(pooling, self.cache),
            facts=lambda: facts_of(self.embedded),
            calibrated=lambda: self.described(pooling, self.embedded.extracted.embedding_cache),
        )

    def _several(self, pooling: str) -> tuple[str, ...]:
        return self.checkpoint.auto_poolings if pooling == "auto" else ()

    def _vectors(self, pooling: str, several: tuple[str, ...]) -> dict[str, Any]:
        if not several:
            return {role: matrix.vectors for role, matrix in self.embedded.matrices(pooling).items()}
        return {role: Matrices(self.embedded, split, several) for role, split in self.task.dataset.roles.items()}

    def described(self, pooling: str, cache: EmbeddingCache) -> dict[str, Any]:
        """What a run on vectors says of them, so that prediction can make the same ones."""
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


def facts_of(done: Embedded) -> EncodingFacts:
    """What encoding costs, for a run on vectors to add to its own: of the rows that it learns from and chooses on."""
    return EncodingFacts(done.seconds(("train", "validation")), done.encoder_mb(), *done.ms_per_text())


def role_vectors(task: Task) -> dict[str, np.ndarray] | None:
    """Vectors (n, d) of every role's split, of the first encoder and pooling; None if they are not all on disk."""
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
    wanted = text_keys(split.texts)
    embedding_cache = complete_cache(task, wanted)
    return {p: embedding_cache.serve(wanted, p).vectors for p in embedding_cache.stores} if embedding_cache else {}


def complete_cache(task: Task, wanted: np.ndarray) -> EmbeddingCache | None:
    """The first encoder's cache, None unless it holds every text with keys `wanted` (n, 2)."""
    spec = task.encoders[0]
    embedding_cache = open_cache(locate(spec), spec, task.runtime, task.cache, wanted)
    return embedding_cache if embedding_cache.present(wanted).all() else None


# ── fits ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def majority_fits(task: Task, variant: str = "") -> Iterator[Fit]:
    """The class shares of train: what a score is worth is seen against it."""
    yield majority_fit(task.dataset, task.runs, task.seed)


def tfidf_fits(task: Task, variant: str = "") -> Iterator[Fit]:
    """Words or character pieces and logistic regression: what an encoder has to beat."""
    settings = TfidfSettings(C=task.linear[0].C, folds=task.linear[0].folds, seed=task.seed)
    yield tfidf_fit(task.dataset, settings, task.runs, task.progress)


def linear_fits(task: Task, settings: tuple[LinearSettings, ...] | None = None) -> Iterator[Fit]:
    """Logistic regression for each encoder, pooling and linear setting (None: the task's)."""
    for spec in task.encoders:
        vectors = TaskVectors(task, spec)
        for pooling in spec.pooling:
            encoded = vectors.encoded(pooling)
            for one in settings or task.linear:
                yield linear_fit(encoded, task.dataset, replace(one, seed=task.seed), task.runs, task.progress)


def treated_fits(task: Task, variant: str = "") -> Iterator[Fit]:
    """Logistic regression under one treatment of class imbalance; with `auto` the folds choose the pooling instead."""
    if variant == "auto":
        task = replace(task, encoders=tuple(replace(spec, pooling=("auto",)) for spec in task.encoders))
    imbalance = {"": "none", "auto": "none", "imbalance-auto": "auto"}.get(variant, variant)
    return linear_fits(task, (replace(task.linear[0], imbalance=imbalance),))


def frozen_fits(task: Task, variant: str = "") -> Iterator[Fit]:
    """A torch head on cached vectors, for each encoder, pooling and seed: one extraction, however many epochs.

    Several seeds only where this head is what is trained (--freeze), not where it stands beside the full encoder.
    """
    check(task.tuning)
    for spec in task.encoders:
        if "auto" in spec.pooling:
            parts(spec.pooling)  # is for logistic regression, whose folds choose
        vectors = TaskVectors(task, spec)
        for pooling in spec.pooling:
            encoded = vectors.encoded(pooling)
            for number in range(task.seeds if task.tuning.freeze else 1):
                settings = replace(task.tuning, seed=task.seed + number, freeze=True)
                if settings.head == "standard" and settings.dropout is None:
                    settings = replace(settings, dropout=own_dropout(vectors.checkpoint.config))
                yield frozen_fit(encoded, task.dataset, settings, task.runs, task.progress)


def tuned_fits(task: Task, variant: str = "") -> Iterator[Fit]:
    """The whole encoder, or its last layers, for each encoder and seed; a head on frozen vectors with --freeze.

    Only the first seed searches a learning rate; the others take what it chose.
    """
    if variant:  # last-2
        task = replace(task, tuning=replace(task.tuning, unfreeze=int(variant.rpartition("-")[2])))
    check(task.tuning)
    if task.tuning.freeze:
        yield from frozen_fits(task)
        return
    for spec in task.encoders:
        fit = partial(_tuned, task, locate(trained(spec)))
        settings = tuning_of(task, spec)
        first = fit(settings)
        yield first
        run = answer(first.question) if task.seeds > 1 else None  # there, unless nothing is to be fitted
        for number in range(1, task.seeds):
            rate = run.settings["chosen"]["learning_rate"] if run else settings.learning_rate
            yield fit(replace(settings, seed=settings.seed + number, learning_rate=rate))


def _tuned(task: Task, checkpoint: Any, settings: FineTuneSettings) -> Fit:
    fit = tuned_fit(task.dataset, checkpoint, settings, task.runtime, task.runs, task.progress)
    some = task.dataset.validation if "validation" in task.dataset.roles else task.dataset.train
    served = partial(timed, texts=some.texts, runtime=task.runtime, cache=task.cache)
    return replace(fit, after=served) if is_main_process() else fit


def tuning_of(task: Task, spec: EncoderSpec) -> FineTuneSettings:
    """How one encoder is fine-tuned; a precision that only vectors can have is none for training."""
    wish = spec.precision if spec.precision in ("fp32", "bf16", "fp16") else "auto"
    return replace(task.tuning, seed=task.seed, precision=wish)


def from_scratch(task: Task) -> Task:
    """The same, from random weights."""
    return replace(task, tuning=replace(task.tuning, from_scratch=True, freeze=False))


def scratch_fits(task: Task, variant: str = "") -> Iterator[Fit]:
    """The same architecture with random weights: what pretraining buys is seen against it."""
    return tuned_fits(from_scratch(task))


def joined_fits(task: Task, variant: str = "", kind: str = "stack") -> Iterator[Fit]:
    """A stack or cascade of the contenders that the task names, for each encoder and pooling."""
    for spec in task.encoders:
        for pooling in spec.pooling:
            one = replace(task, encoders=(replace(spec, pooling=(pooling,)),), seeds=1)
            parts = [next(fits_of(one, name)) for name in task.joined(kind)]
            yield (stack_fit if kind == "stack" else cascade_fit)(parts, task.dataset, task.runs, task.seed)


# ── the table ───────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Contender:
    """How one kind of run is fitted."""

    fits: Callable[[Task, str], Iterator[Fit]]  # task, variant → its fits, each learnt when it is run
    seconds: Callable[[Job], float]  # without extraction, which several contenders share, and without its parts
    parts: Callable[[Task], tuple[str, ...]] = lambda task: ()  # the contenders that it joins


CONTENDERS: dict[str, Contender] = {
    "majority": Contender(majority_fits, lambda job: 0.1),
    "tfidf": Contender(tfidf_fits, tfidf_seconds),
    "lr": Contender(treated_fits, lambda job: resampled_seconds(job) if job.variant else linear_seconds(job)),
    "stack": Contender(joined_fits, lambda job: 1.0, lambda task: task.joined("stack")),
    "cascade": Contender(partial(joined_fits, kind="cascade"), lambda job: 0.1, lambda task: task.joined("cascade")),
    "frozen-head": Contender(frozen_fits, head_seconds),
    "fine-tune": Contender(tuned_fits, tuning_seconds),
    "from-scratch": Contender(scratch_fits, tuning_seconds),
}


def contender(name: str) -> tuple[Contender, str]:
    """The row of that name, and the variant that it is requested in.

    Raises UserError, naming every contender, for one that there is not.
    """
    row, variant = kinds.split(name, "contender")
    return choose(CONTENDERS, row, "contender"), variant


def check_names(names: tuple[str, ...]) -> None:
    """Raises UserError for an unknown contender, or none."""
    if not names:
        raise UserError("no contenders; pass --contenders lr,fine-tune")
    for name in names:
        contender(name)


def fits_of(task: Task, name: str) -> Iterator[Fit]:
    """The fits that a contender consists of. Raises UserError if there is no such contender."""
    row, variant = contender(name)
    return row.fits(task, variant)


def fit(task: Task, name: str) -> list[Run]:
    """A contender's runs, loaded or fitted. Raises UserError if there is no such contender, and where a fit does."""
    return [one.run() for one in fits_of(task, name)]


def linear_runs(task: Task) -> list[Run]:
    """Logistic regression for each encoder, pooling and linear setting of the task, loaded or fitted."""
    return [one.run() for one in linear_fits(task)]


def tuned_runs(task: Task) -> list[Run]:
    """Fine-tuning as the task's settings say it, loaded or fitted."""
    return [one.run() for one in tuned_fits(task)]


def estimates(task: Task, names: tuple[str, ...]) -> dict[str, float]:
    """About how many seconds each contender takes if nothing of it is there yet, `extract` first if one needs it."""
    check_names(names)
    work, seconds = jobs(task), {}
    if any(kinds.kind_row(name).needs_vectors for name in names):
        seconds["extract"] = sum(map(extraction_seconds, work))
    for name in names:
        row, variant = contender(name)
        each = work if kinds.kind_row(name).needs_encoder else work[:1]
        seconds[name] = sum(row.seconds(replace(job, variant=variant)) for job in each)
        seconds[name] += parts_seconds(task, [part for part in row.parts(task) if part not in names])
    return seconds


def parts_seconds(task: Task, names: list[str]) -> float:
    """About how long those of `names` take that are not there."""
    waiting = tuple(name for name in names if any(answer(fit.question) is None for fit in fits_of(task, name)))
    return sum(v for name, v in estimates(task, waiting).items() if name != "extract") if waiting else 0
