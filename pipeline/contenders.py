"""Who can take part: each contender is a row that says how it is fitted and about how long that takes.

A contender is found if it has been fitted on exactly these rows with exactly these settings, and fitted otherwise.
To add one, write a function `Task → list[Run]` and give it a row in `CONTENDERS`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import Progress, UserError, choose, log, silent, spoken
from pipeline.baseline import TfidfSettings, fit_majority, fit_tfidf
from pipeline.data import Dataset, SourceOptions, count_rows, read, read_chunks
from pipeline.encoder import Effort
from pipeline.encoder.checkpoint import Checkpoint, EncoderSpec, locate, parts
from pipeline.encoder.tokens import tokenizer
from pipeline.explore import Profile
from pipeline.explore import profile as look_at
from pipeline.extract import Embedded, embed, missing_rows
from pipeline.finetune import FineTuneSettings, check, fine_tune, fine_tune_seeds
from pipeline.finetune.frozen import fit_frozen_head
from pipeline.finetune.rates import row_passes
from pipeline.linear import EncodingFacts, LinearSettings, fit_lr
from pipeline.run import Run


@dataclass(frozen=True)
class Task:
    """Everything that a contender is fitted with; several encoders or linear settings mean several runs."""

    dataset: Dataset
    encoders: tuple[EncoderSpec, ...] = (EncoderSpec(),)
    effort: Effort = field(default_factory=Effort)
    linear: tuple[LinearSettings, ...] = (LinearSettings(),)
    tuning: FineTuneSettings = field(default_factory=FineTuneSettings)
    cache: Path = Path("cache")
    runs: Path = Path("runs")
    seed: int = 42
    seeds: int = 1  # how many of them fine-tuning is repeated with
    progress: Progress = silent


def profile(source: SourceOptions, encoder: EncoderSpec, cache: Path, show_tokens: int = 0) -> Profile:
    """What there is to know of a source before anything is fitted, and the tokens of its first `show_tokens` rows.

    Raises UserError if the source or the encoder cannot be read.
    """
    return profile_of(read(source, allow_one_class=True), encoder, cache, show_tokens)


def profile_of(dataset: Dataset, encoder: EncoderSpec, cache: Path, show_tokens: int = 0) -> Profile:
    """The same for a data set in memory."""
    checkpoint = locate(encoder)
    return look_at(dataset, tokenizer(checkpoint, cache), checkpoint.limit, checkpoint.max_length, show_tokens)


# ── fitting ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def linear_runs(task: Task) -> list[Run]:
    """Logistic regression for each encoder, pooling and linear setting, extracting what is missing."""
    runs = []
    for spec in task.encoders:
        done = embed(task.dataset, replace(spec, pooling=single_poolings(spec)), task.effort, task.cache, task.progress)
        for pooling in spec.pooling:
            runs += [linear_run(task, done, spec, pooling, settings) for settings in task.linear]
    return runs


def linear_run(task: Task, done: Embedded, spec: EncoderSpec, pooling: str, settings: LinearSettings) -> Run:
    """One logistic regression on vectors that are there; pooling 'auto' is chosen inside the folds."""
    vectors: dict[str, Any]
    if pooling == "auto":
        several = {name: done.matrices(name) for name in AUTO_POOLINGS}
        vectors = {role: {name: found[role].vectors for name, found in several.items()} for role in task.dataset.roles}
    else:
        vectors = {role: matrix.vectors for role, matrix in done.matrices(pooling).items()}
    return fit_lr(
        vectors,
        task.dataset,
        done.checkpoint.checkpoint_digest,
        told_of(task, done, spec, pooling),
        replace(settings, seed=task.seed),
        task.runs,
        facts_of(done),
        task.progress,
    )


def told_of(task: Task, done: Embedded, spec: EncoderSpec, pooling: str) -> dict[str, Any]:
    """What a run on vectors says of them, so that prediction can make the same ones."""
    told = {
        "encoder": str(Path(spec.name).resolve()) if Path(spec.name).exists() else spec.name,
        "revision": spec.revision,
        "pooling": pooling,
        "max_length": done.checkpoint.max_length,
        "engine": done.extracted.shelf.choice.engine,
        "precision": done.extracted.shelf.choice.precision,
        "text_parts": len(task.dataset.text_columns),
    }
    return told | ({} if spec.storage == "float32" else {"storage": spec.storage})


def facts_of(done: Embedded) -> EncodingFacts:
    """What encoding costs, for a run on vectors to add to its own."""
    return EncodingFacts(done.seconds(), done.encoder_mb(), *done.ms_per_text())


AUTO_POOLINGS = ("cls", "mean")  # and both, side by side


def single_poolings(spec: EncoderSpec) -> tuple[str, ...]:
    """What has to be extracted for the poolings asked for, 'auto' among them."""
    return parts(tuple(name for given in spec.pooling for name in (AUTO_POOLINGS if given == "auto" else (given,))))


def tuned_runs(task: Task) -> list[Run]:
    """The whole encoder, some of its layers, or a head on frozen vectors, for each encoder and seed."""
    check(task.tuning)
    if task.tuning.freeze:
        return frozen_runs(task)
    runs: list[Run] = []
    for spec in task.encoders:
        settings = tuning_of(task, spec)
        rest = (task.effort, task.runs, task.progress)
        if task.seeds > 1:
            runs += fine_tune_seeds(task.dataset, locate(spec), settings, *rest, task.seeds).runs
        else:
            runs.append(fine_tune(task.dataset, locate(spec), settings, *rest))
    return runs


def tuning_of(task: Task, spec: EncoderSpec) -> FineTuneSettings:
    """How one encoder is fine-tuned; a precision that only vectors can have is none for training."""
    wish = spec.precision if spec.precision in ("fp32", "bf16", "fp16") else "auto"
    return replace(task.tuning, seed=task.seed, precision=wish)


def frozen_runs(task: Task) -> list[Run]:
    """A torch head on cached vectors, for each encoder and pooling: one extraction, however many epochs."""
    settings = replace(task.tuning, seed=task.seed, freeze=True)
    runs = []
    for spec in task.encoders:
        done = embed(task.dataset, replace(spec, pooling=parts(spec.pooling)), task.effort, task.cache, task.progress)
        for pooling in spec.pooling:
            vectors = {role: matrix.vectors for role, matrix in done.matrices(pooling).items()}
            digest, told = done.checkpoint.checkpoint_digest(pooling), told_of(task, done, spec, pooling)
            rest = (settings, task.runs, facts_of(done), task.progress)
            runs.append(fit_frozen_head(vectors, task.dataset, digest, told, *rest))
    return runs


def scratch_runs(task: Task) -> list[Run]:
    """The same architecture with random weights: what pretraining buys is seen against it."""
    return tuned_runs(replace(task, tuning=replace(task.tuning, from_scratch=True, freeze=False)))


def majority_runs(task: Task) -> list[Run]:
    """The class shares of train: what a score is worth is seen against it."""
    return [fit_majority(task.dataset, task.runs, task.seed)]


def tfidf_runs(task: Task) -> list[Run]:
    """Word 1-2-grams and logistic regression: what an encoder has to beat."""
    settings = TfidfSettings(C=task.linear[0].C, folds=task.linear[0].folds, seed=task.seed)
    return [fit_tfidf(task.dataset, settings, task.runs, task.progress)]


def resampled(imbalance: str) -> Callable[[Task], list[Run]]:
    """Logistic regression under one treatment of class imbalance."""

    def fit(task: Task) -> list[Run]:
        return linear_runs(replace(task, linear=(replace(task.linear[0], imbalance=imbalance),)))

    return fit


# ── how long it takes ───────────────────────────────────────────────────────────────────────────────────────────────

TRAIN_PASSES = 3  # forward, and about twice that backward
ENCODE_EFFICIENCY, TRAIN_EFFICIENCY = 1.4, 0.8  # of the float32 matrix-product rate; bfloat16 lifts the first above 1


@dataclass(frozen=True)
class Job:
    """What an estimate goes by."""

    task: Task
    spec: EncoderSpec
    checkpoint: Checkpoint
    rows: int  # of train
    tokens: float  # a text, on average, as fed
    rate: float  # float32 multiply-adds a second of this machine, measured

    @property
    def token_cost(self) -> float:
        return token_cost(self.checkpoint)


def token_cost(checkpoint: Checkpoint) -> float:
    """Multiply-adds of one token through the encoder's layers."""
    c = checkpoint.config
    layers = c.get("num_hidden_layers") or c.get("n_layers") or 6
    inner = c.get("intermediate_size") or c.get("hidden_dim") or 4 * checkpoint.dim
    return layers * (4 * checkpoint.dim**2 + 2 * checkpoint.dim * inner)


def announce_extraction(source: SourceOptions, spec: EncoderSpec, cache: Path) -> int:
    """Say how many rows will be encoded, and about how long that takes if none is there yet; returns how many."""
    rows, checkpoint = count_rows(source), locate(spec)
    some = next((chunk.texts[:256] for chunk in read_chunks(source)), [])
    if not some:
        return 0
    lengths = np.minimum(tokenizer(checkpoint, cache).lengths(some), checkpoint.max_length)
    seconds = rows * float(lengths.mean()) * token_cost(checkpoint) / (multiply_rate() * ENCODE_EFFICIENCY)
    said = f"{rows:,} rows through {spec.name}, those that are not in the cache"
    log.info("%s: %s; about %s for all of them", source.source, said, spoken(seconds + 1.5))
    return rows


def jobs(task: Task) -> list[Job]:
    """Measure what the estimates of each encoder need: 256 texts' lengths and the matrix-product rate. Under 1 s."""
    rate = multiply_rate()
    return [job(task, spec, rate) for spec in task.encoders]


def job(task: Task, spec: EncoderSpec, rate: float) -> Job:
    """The same for one of them."""
    checkpoint = locate(spec)
    train = task.dataset.train
    some = [train.texts[i] for i in np.linspace(0, len(train.texts) - 1, 256).astype(int)]
    lengths = np.minimum(tokenizer(checkpoint, task.cache).lengths(some), checkpoint.max_length)
    return Job(task, spec, checkpoint, len(train.texts), float(lengths.mean()), rate)


def multiply_rate(size: int = 768) -> float:
    """Float32 multiply-adds a second that a matrix product of the encoder's size reaches here."""
    a = np.ones((size, size), np.float32)
    best = np.inf
    for _ in range(4):
        start = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - start)
    return size**3 / best


def _extraction_seconds(job: Job) -> float:
    task = job.task
    spec = replace(job.spec, pooling=single_poolings(job.spec))
    tokens = job.tokens * missing_rows(task.dataset, spec, task.effort, task.cache)
    return tokens * job.token_cost / (job.rate * ENCODE_EFFICIENCY) + (1.5 if tokens else 0)


def _linear_seconds(job: Job) -> float:
    classes = len(job.task.dataset.class_names)
    return 1 + 4e-9 * job.rows * job.checkpoint.dim * classes * 35 * 4


def _resampled_seconds(job: Job) -> float:
    return 1 + 6 * _linear_seconds(job)


def _tuning_seconds(job: Job) -> float:
    passes = row_passes(job.rows, job.task.tuning) * job.task.seeds
    return passes * job.tokens * TRAIN_PASSES * job.token_cost / (job.rate * TRAIN_EFFICIENCY) + 10


@dataclass(frozen=True)
class Contender:
    """One row of the table."""

    fit: Callable[[Task], list[Run]]
    seconds: Callable[[Job], float]  # without extraction, which several contenders share
    needs_vectors: bool = False
    says: str = ""
    needs_encoder: bool = True  # one run, or several, for each encoder
    dear: bool = False  # trains an encoder: never fitted by the way


CONTENDERS: dict[str, Contender] = {
    "majority": Contender(majority_runs, lambda job: 0.1, False, "always the most frequent class", False),
    "tfidf": Contender(
        tfidf_runs, lambda job: 2 + 1e-3 * job.rows, False, "word 1-2-grams + logistic regression", False
    ),
    "lr": Contender(resampled("none"), _linear_seconds, True, "logistic regression on frozen vectors"),
    **{
        f"lr+{kind}": Contender(resampled(kind), _resampled_seconds, True, f"the same, imbalance: {kind}")
        for kind in ("balanced", "smote", "smote-minority", "over", "auto")
    },
    "frozen-head": Contender(frozen_runs, lambda job: 5 + 1e-4 * job.rows, True, "a torch head on frozen vectors"),
    "fine-tune": Contender(tuned_runs, _tuning_seconds, says="the whole encoder, fine-tuned", dear=True),
    "from-scratch": Contender(
        scratch_runs, _tuning_seconds, says="the same architecture with random weights", dear=True
    ),
}


def chosen(names: tuple[str, ...]) -> dict[str, Contender]:
    """The contenders of that name, in that order.

    Raises UserError for an unknown or no name.
    """
    if not names:
        raise UserError("no contenders; pass --contenders lr,fine-tune")
    return {name: choose(CONTENDERS, name, "contender") for name in names}


def estimates(task: Task, names: tuple[str, ...]) -> dict[str, float]:
    """About how many seconds each contender takes if nothing of it is there yet, `extract` first if one needs it."""
    table, work = chosen(names), jobs(task)
    found: dict[str, float] = {}
    if any(row.needs_vectors for row in table.values()):
        found["extract"] = sum(map(_extraction_seconds, work))
    return found | {name: sum(map(row.seconds, work if row.needs_encoder else work[:1])) for name, row in table.items()}
