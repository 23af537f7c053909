"""Who can take part: each contender is a row that says which fits it consists of and about how long they take.

What it is says its row in `KINDS`. To add one, write a function from `Task` and the contender's variant (`smote` of
`lr+smote`) to its fits, and give it a row in both tables. A fit says what is asked before anything is learnt or
extracted, so that the same function answers what exists, what is missing, and has the missing fitted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from . import UserError, choose, kinds
from .baseline import majority_fit
from .cascade import cascade_fit
from .data import Dataset, SourceOptions, read
from .encoder.checkpoint import EncoderSpec, locate, trained
from .encoder.pooling import parts
from .encoder.tokens import tokenizer
from .estimates import (
    Job,
    extraction_seconds,
    given_jobs,
    head_seconds,
    jobs,
    linear_seconds,
    resampled_seconds,
    tfidf_seconds,
    tuning_seconds,
)
from .explore import Profile
from .explore import profile as look_at
from .finetune import FineTuneSettings, check, priced, tuned_fit
from .finetune.device import is_main_process
from .finetune.frozen import frozen_fit
from .finetune.heads import own_dropout
from .finetune.hopeless import Bar, guessing
from .finetune.work import Places
from .linear import LinearSettings, linear_fit
from .metrics import METRICS
from .run import Fit, Run, answer
from .stack import stack_fit
from .task import Task
from .tfidf import TfidfSettings, tfidf_fit
from .vectors import one_each, vectors_of

UNCUT = 1_000_000  # words a text, of which nothing is cut


def profile(source: SourceOptions, encoder: EncoderSpec, cache: Path, show_tokens: int = 0) -> Profile:
    """A source before anything is fitted. Raises UserError if it, or the encoder, cannot be read."""
    return profile_of(read(source, allow_one_class=True), encoder, cache, show_tokens)


class Words:
    """White space for a tokenizer, where no encoder reads the texts."""

    def lengths(self, texts: Sequence[tuple[str, ...]]) -> np.ndarray:
        """Words of each text (n,)."""
        return np.array([sum(len(part.split()) for part in text) for text in texts], np.int64)


def profile_for(task: Task, names: tuple[str, ...]) -> Profile:
    """A task's data set before anything is fitted; counted in words where no encoder of its own takes part."""
    reading = [name for name in names if kinds.kind_row(name).needs_encoder]
    if not reading or (task.vectors and not any(map(kinds.tuned, reading))):
        return look_at(task.dataset, Words(), UNCUT)
    return profile_of(task.dataset, task.encoders[0], task.cache)


def profile_of(dataset: Dataset, encoder: EncoderSpec, cache: Path, show_tokens: int = 0) -> Profile:
    """The same for a data set in memory."""
    checkpoint = locate(encoder)
    return look_at(dataset, tokenizer(checkpoint, cache), checkpoint.limit, checkpoint.max_length, show_tokens)


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
    for vectors in vectors_of(task):
        for pooling in vectors.poolings:
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
    for vectors in vectors_of(task):
        if "auto" in vectors.poolings:
            parts(vectors.poolings)  # is for logistic regression, whose folds choose
        for pooling in vectors.poolings:
            encoded = vectors.encoded(pooling)
            for number in range(task.seeds if task.tuning.freeze else 1):
                settings = replace(task.tuning, seed=task.seed + number, freeze=True)
                if settings.head == "standard" and settings.dropout is None:
                    settings = replace(settings, dropout=own_dropout(vectors.config))
                yield frozen_fit(encoded, task.dataset, settings, task.runs, task.progress)


def tuned_fits(task: Task, variant: str = "") -> Iterator[Fit]:
    """The whole encoder, or its last layers, for each encoder and seed; a head on frozen vectors with --freeze.

    Only the first seed searches a learning rate; the others take what it chose.
    """
    if variant == "lora":
        task = replace(task, tuning=replace(task.tuning, lora=task.tuning.lora or kinds.RANK))
    elif variant:  # last-2
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
    places = Places(task.runs, task.cache, bar_of(task))
    fit = tuned_fit(task.dataset, checkpoint, settings, task.runtime, places, task.progress)
    served = partial(priced, dataset=task.dataset, runtime=task.runtime, cache=task.cache)
    return replace(fit, after=served) if is_main_process() else fit


def bar_of(task: Task) -> Bar | None:
    """The best on validation of the contenders that fine-tuning is held against; None while there is none."""
    if task.held_against is None or "validation" not in task.dataset.roles:
        return None
    names, metric, margin = task.held_against
    runs = [run for name in names for one in fits_of(task, name) if (run := answer(one.question)) is not None]
    sign = choose(METRICS, metric, "metric").sign
    scored = [(sign * run.metrics["validation"][metric], run) for run in runs if _scored(run, metric)]
    if not scored:
        return None
    best = max(scored, key=lambda pair: pair[0])[1]
    predictions = best.predictions["validation"].aligned_to(task.dataset.validation.row_ids)
    if predictions is None:
        return None
    name = Path(best.folder or "").name
    return Bar(best.kind, name, predictions, metric, margin, guessing(predictions, metric))


def _scored(run: Run, metric: str) -> bool:
    return run.metrics.get("validation", {}).get(metric) is not None


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
    for one in one_each(replace(task, seeds=1)):
        joined = [next(fits_of(one, name)) for name in task.joined(kind)]
        yield (stack_fit if kind == "stack" else cascade_fit)(joined, task.dataset, task.runs, task.seed)


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
    rows = {name: kinds.kind_row(name) for name in names}
    given = given_jobs(task, any(row.needs_encoder for row in rows.values()))
    work = jobs(task) if not given or any(kinds.tuned(name) for name in names) else []
    seconds = {}
    if not given and any(row.needs_vectors for row in rows.values()):
        seconds["extract"] = sum(map(extraction_seconds, work))
    for name in names:
        row, variant = contender(name)
        each = given if given and not kinds.tuned(name) else work
        each = each if rows[name].needs_encoder else each[:1]
        seconds[name] = sum(row.seconds(replace(job, variant=variant)) for job in each)
        seconds[name] += parts_seconds(task, [part for part in row.parts(task) if part not in names])
    return seconds


def parts_seconds(task: Task, names: list[str]) -> float:
    """About how long those of `names` take that are not there."""
    waiting = tuple(name for name in names if any(answer(fit.question) is None for fit in fits_of(task, name)))
    return sum(v for name, v in estimates(task, waiting).items() if name != "extract") if waiting else 0
