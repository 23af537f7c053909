"""What every fit is given: a data set in memory, encoders, settings, and where things lie."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from . import Progress, UserError, silent
from .data import Dataset, SourceOptions, read
from .encoder import Runtime
from .encoder.checkpoint import EncoderSpec
from .extract.vector_file import VectorFile
from .finetune.training import FineTuneSettings
from .linear.tune import LinearSettings

CASCADE = ("tfidf", "fine-tune")  # who answers first, and who the rest, if nobody says


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
    stack: tuple[str, ...] = ("tfidf", "lr")  # the contenders that a stack joins
    cascade: tuple[str, ...] | None = None  # who answers first, and who the rest; it is a contender where said
    vectors: tuple[VectorFile, ...] = ()  # what contenders on vectors read instead of the encoders' own
    held_against: tuple[tuple[str, ...], str, float] | None = None  # contenders, metric, margin: what ends fine-tuning
    progress: Progress = silent

    def joined(self, kind: str) -> tuple[str, ...]:
        """The contenders that a stack or cascade joins. Raises UserError for one that would join itself."""
        names = self.stack if kind == "stack" else self.cascade or CASCADE
        for name in names:
            if name == "cascade" or name == kind:
                raise UserError(f"--{kind}: a {name} cannot be a part of it; leave it out")
        return names


@dataclass(frozen=True)
class TaskOptions:
    """A task whose data set has not been read: what a command line or a file of settings says."""

    source: SourceOptions
    encoders: tuple[EncoderSpec, ...] = (EncoderSpec(),)
    runtime: Runtime = field(default_factory=Runtime)
    linear: tuple[LinearSettings, ...] = (LinearSettings(),)
    tuning: FineTuneSettings = field(default_factory=FineTuneSettings)
    cache: Path = Path("cache")
    runs: Path = Path("runs")
    seeds: int = 1
    stack: tuple[str, ...] = ("tfidf", "lr")
    cascade: tuple[str, ...] | None = None
    vectors: tuple[Any, ...] = ()  # files of vectors, or arrays (n, d)

    def read(self, progress: Progress = silent) -> Task:
        """The task, its source read. Raises UserError if it cannot be read."""
        given = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "source"}
        given["vectors"] = tuple(map(VectorFile.opened, self.vectors or ()))
        task = Task(read(self.source), seed=self.source.seed, progress=progress, **given)
        for file in task.vectors:
            file.of(task.dataset)  # a row without a vector is known before anything is fitted
        return task
