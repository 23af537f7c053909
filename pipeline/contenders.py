"""Who can take part: each contender is a row that says how it is fitted and about how long that takes.

A contender is found if it has been fitted on exactly these rows with exactly these settings, and fitted otherwise.
To add one, write a function `Task → list[Run]` and give it a row in `CONTENDERS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline import Progress, UserError, choose, silent
from pipeline.baseline import TfidfSettings, fit_majority, fit_tfidf
from pipeline.data import Dataset, SourceOptions, read
from pipeline.encoder import Runtime
from pipeline.encoder.checkpoint import AUTO_POOLINGS, EncoderSpec, locate, parts, single_poolings
from pipeline.encoder.tokens import tokenizer
from pipeline.estimates import (
    Job,
    extraction_seconds,
    head_seconds,
    jobs,
    linear_seconds,
    resampled_seconds,
    tuning_seconds,
)
from pipeline.explore import Profile
from pipeline.explore import profile as look_at
from pipeline.extract import Embedded, embed
from pipeline.finetune import FineTuneSettings, check, fine_tune, fine_tune_seeds
from pipeline.finetune.frozen import fit_frozen_head
from pipeline.finetune.heads import own_dropout
from pipeline.linear import EncodingFacts, LinearSettings, fit_lr
from pipeline.run import Run


@dataclass(frozen=True)
class Task:
    """Everything that a contender is fitted with; several encoders or linear settings mean several runs."""

    dataset: Dataset
    encoders: tuple[EncoderSpec, ...] = (EncoderSpec(),)
    runtime: Runtime = field(default_factory=Runtime)
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
        done = embed(
            task.dataset, replace(spec, pooling=single_poolings(spec)), task.runtime, task.cache, task.progress
        )
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
        "engine": done.extracted.embedding_cache.choice.engine,
        "precision": done.extracted.embedding_cache.choice.precision,
        "text_parts": len(task.dataset.text_columns),
    }
    if spec.storage != "float32":
        told["storage"] = spec.storage
    if done.extracted.embedding_cache.calibration:  # of int8: another one makes other vectors
        told["calibration"] = done.extracted.embedding_cache.calibration
    return told


def facts_of(done: Embedded) -> EncodingFacts:
    """What encoding costs, for a run on vectors to add to its own: of the rows that it learns from and chooses on."""
    return EncodingFacts(done.seconds(("train", "validation")), done.encoder_mb(), *done.ms_per_text())


def tuned_runs(task: Task) -> list[Run]:
    """The whole encoder, some of its layers, or a head on frozen vectors, for each encoder and seed."""
    check(task.tuning)
    if task.tuning.freeze:
        return frozen_runs(task)
    runs: list[Run] = []
    for spec in task.encoders:
        settings = tuning_of(task, spec)
        rest = (task.runtime, task.runs, task.progress)
        if task.seeds > 1:
            runs += fine_tune_seeds(task.dataset, locate(spec), settings, *rest, task.seeds)
        else:
            runs.append(fine_tune(task.dataset, locate(spec), settings, *rest))
    return runs


def tuning_of(task: Task, spec: EncoderSpec) -> FineTuneSettings:
    """How one encoder is fine-tuned; a precision that only vectors can have is none for training."""
    wish = spec.precision if spec.precision in ("fp32", "bf16", "fp16") else "auto"
    return replace(task.tuning, seed=task.seed, precision=wish)


def frozen_runs(task: Task) -> list[Run]:
    """A torch head on cached vectors, for each encoder, pooling and seed: one extraction, however many epochs.

    Several seeds only where this head is what is trained (--freeze), not where it stands beside the whole encoder.
    """
    check(task.tuning)
    runs = []
    for spec in task.encoders:
        done = embed(task.dataset, replace(spec, pooling=parts(spec.pooling)), task.runtime, task.cache, task.progress)
        for pooling in spec.pooling:
            vectors = {role: matrix.vectors for role, matrix in done.matrices(pooling).items()}
            digest, told = done.checkpoint.checkpoint_digest(pooling), told_of(task, done, spec, pooling)
            for number in range(task.seeds if task.tuning.freeze else 1):
                settings = replace(task.tuning, seed=task.seed + number, freeze=True)
                if settings.head == "standard" and settings.dropout is None:
                    settings = replace(settings, dropout=own_dropout(done.checkpoint.config))
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


# ── the table ───────────────────────────────────────────────────────────────────────────────────────────────────────


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
    "lr": Contender(resampled("none"), linear_seconds, True, "logistic regression on frozen vectors"),
    **{
        f"lr+{kind}": Contender(resampled(kind), resampled_seconds, True, f"the same, imbalance: {kind}")
        for kind in ("balanced", "smote", "smote-minority", "over", "auto")
    },
    "frozen-head": Contender(frozen_runs, head_seconds, True, "a torch head on frozen vectors"),
    "fine-tune": Contender(tuned_runs, tuning_seconds, says="the whole encoder, fine-tuned", dear=True),
    "from-scratch": Contender(
        scratch_runs, tuning_seconds, says="the same architecture with random weights", dear=True
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
        found["extract"] = sum(map(extraction_seconds, work))
    return found | {name: sum(map(row.seconds, work if row.needs_encoder else work[:1])) for name, row in table.items()}
