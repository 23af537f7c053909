"""A training, epoch by epoch: judged on validation, stopped when it gets no better, resumed where it was killed.

Every epoch ends in a checkpoint with weights, optimiser, schedule and random state, and last of all a file that says
that it is whole; a training that goes on from there ends exactly like one that was never interrupted.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .. import Progress, UserError
from ..files import disk_errors, draft, publish
from ..metrics import scores
from .device import Machine, is_main_process, together
from .heads import isolated, quiet
from .training import FineTuneSettings, Rows, finite, logits, trainer_for

MILESTONE = "done.json"  # written last into a checkpoint: only then is it whole


@dataclass
class TrainingState:
    """How far a training has come: what a resumed one has to know."""

    history: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int | None = None
    best_score: float = float("-inf")  # macro F1 on validation
    best_loss: float = float("inf")  # log loss on validation, which decides between equal scores
    better_epoch: int = 0  # the last one with a higher macro F1 than all before it: what patience counts from
    epoch: int = 0  # finished
    seconds: float = 0.0  # spent, the killed processes' finished epochs included
    cpu_seconds: float = 0.0

    def finished(self, settings: FineTuneSettings) -> bool:
        assert settings.epochs is not None, "auto is settled before a training"
        stale = settings.patience is not None and self.epoch - self.better_epoch >= settings.patience
        return self.epoch >= settings.epochs or (stale and self.best_epoch is not None)

    def write(self, path: Path) -> None:
        """In one rename, so that it is there whole or not at all."""
        publish(path, json.dumps(asdict(self)).encode())


def last_state(work: Path) -> tuple[TrainingState, Path | None]:
    """The course of the last epoch that was finished in `work`, and its checkpoint (None: start afresh)."""
    whole = sorted(work.glob(f"checkpoint-*/{MILESTONE}"), key=lambda file: int(file.parent.name.split("-")[1]))
    for file in reversed(whole):
        try:
            return TrainingState(**json.loads(file.read_text("utf-8"))), file.parent
        except (ValueError, TypeError):
            continue
    return TrainingState(), None


@dataclass(frozen=True)
class TrainingJob:
    """What one training needs to know."""

    train: Rows
    validation: Rows | None
    class_names: tuple[str, ...]
    settings: FineTuneSettings
    rate: float
    machine: Machine
    work: Path
    progress: Progress

    def judge(self, model: Any) -> dict[str, Any] | None:
        """Scores on validation."""
        if self.validation is None:
            return None
        found = logits(model, self.validation, self.machine).astype(np.float64)
        if not np.isfinite(found).all():
            return {"accuracy": 0.0, "macro_f1": 0.0, "log_loss": None}
        proba = np.exp(found - found.max(1, keepdims=True))
        names = ("accuracy", "macro_f1", "log_loss")
        judged = scores(self.validation.labels, proba / proba.sum(1, keepdims=True), self.class_names, names=names)
        return {name: judged[name] for name in names}


def train(model: Any, job: TrainingJob, state: TrainingState, checkpoint: Path | None) -> TrainingState:
    """Train `model` from `checkpoint` (None: from its present weights) to the end; it is left with the best epoch's
    weights, the last epoch's if there is no validation split.

    Raises UserError if the loss has become something that is not a number.
    """
    with quiet(), isolated(job.settings.seed):
        if not state.finished(job.settings):
            watcher = _watcher(model, job, state)
            trainer = trainer_for(model, job.train, job.settings, job.rate, job.machine, job.work, watcher)
            watcher.tell = trainer.log
            trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        together()  # the writer may still be writing them
        _load(model, _weights(job.work, state.best_epoch or state.epoch))
    return state


def _weights(work: Path, epoch: int) -> Path:
    return work / f"epoch-{epoch}.safetensors"


def _keep(model: Any, file: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_model

    remedy = "free some space or choose another --runs"
    with disk_errors(file, "cannot write", remedy, (SafetensorError,)), draft(file) as new:
        save_model(model, str(new))


def _load(model: Any, file: Path) -> None:
    from safetensors.torch import load_model

    load_model(model, str(file))


def _watcher(model: Any, job: TrainingJob, training: TrainingState) -> Any:
    """A TrainerCallback that judges every epoch, keeps the best one's weights and says how far it is."""
    from transformers import TrainerCallback

    settings = job.settings
    clock = _Clock(training)

    class Watcher(TrainerCallback):
        tell: Callable[[dict[str, Any]], None]  # to the trackers

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if not any("epoch" in record for record in training.history):
                training.history.append({"epoch": 0, **_flat(job.judge(model))})

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            job.progress("fine-tune", state.global_step, state.max_steps)

        def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.began = time.perf_counter()

        def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            seconds = time.perf_counter() - self.began
            training.epoch += 1
            found = job.judge(model)
            if found is not None and found["log_loss"] is None:
                raise diverged(training.epoch, job.rate)
            training.history.append({"epoch": training.epoch, "seconds": round(seconds, 3), **_flat(found)})
            if settings.report_to and found is not None:
                self.tell({f"eval_{name}": value for name, value in found.items()})
            score = (0.0, 0.0) if found is None else (found["macro_f1"], -found["log_loss"])
            if found is None or score > (training.best_score, -training.best_loss):
                training.best_epoch = training.epoch
                if found is None or found["macro_f1"] > training.best_score:
                    training.better_epoch = training.epoch
                if found is not None:
                    training.best_score, training.best_loss = found["macro_f1"], found["log_loss"]
                if is_main_process():
                    _keep(model, _weights(job.work, training.epoch))
            if training.finished(settings):  # the weights are kept: nothing is left to resume
                control.should_save, control.should_training_stop = False, True

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if logs and "loss" in logs:
                if finite(logs["loss"]) is None:
                    raise diverged(training.epoch, job.rate)
                training.history[-1] |= {"loss": finite(logs["loss"]), "learning_rate": job.rate}

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            clock.stop()
            if is_main_process():
                home = job.work / f"checkpoint-{state.global_step}"
                training.write(home / MILESTONE)
                _tidy(job.work, home, _weights(job.work, training.best_epoch or training.epoch))

        def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            clock.stop()

    return Watcher()


def diverged(epoch: int, rate: float) -> UserError:
    return UserError(
        f"the training diverged: in epoch {epoch} its numbers are no numbers any more, at learning rate {rate:g}; "
        "pass a smaller --learning-rate"
    )


def _flat(found: dict[str, Any] | None) -> dict[str, Any]:
    return {} if found is None else {"validation": found}


class _Clock:
    """Adds what has been spent since it was last stopped to a course."""

    def __init__(self, state: TrainingState) -> None:
        self.state, self.wall, self.cpu = state, time.perf_counter(), time.process_time()

    def stop(self) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        self.state.seconds += wall - self.wall
        self.state.cpu_seconds += cpu - self.cpu
        self.wall, self.cpu = wall, cpu


def _tidy(work: Path, home: Path, best: Path) -> None:
    """Remove what a resumed training will not read: older checkpoints, other epochs' weights."""
    for folder in work.glob("checkpoint-*"):
        if folder != home:
            shutil.rmtree(folder, ignore_errors=True)
    for file in work.glob("epoch-*.safetensors"):
        if file != best:
            file.unlink(missing_ok=True)
