"""A training, epoch by epoch: judged on validation, stopped when it gets no better, resumed where it was killed.

Every epoch ends in a checkpoint with weights, optimiser, schedule and random state, and last of all a file that says
that it is whole; a training that goes on from there ends exactly like one that was never interrupted.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, astuple, dataclass, field
from pathlib import Path
from typing import Any

from .. import UserError
from ..files import disk_errors, draft, publish
from .device import is_main_process, together
from .heads import isolated, quiet
from .hopeless import LOOKS, Look
from .training import FineTuneSettings, TrainingJob, finite, trainer_for

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
    looks: list[list[float]] = field(default_factory=list)  # at what it has to beat, each a `Look`
    ended: dict[str, Any] | None = None  # why, if it was hopeless

    def finished(self, settings: FineTuneSettings) -> bool:
        assert settings.epochs is not None, "auto is settled before a training"
        stale = settings.patience is not None and self.epoch - self.better_epoch >= settings.patience
        return self.epoch >= settings.epochs or self.ended is not None or (stale and self.best_epoch is not None)

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


class DivergedError(UserError):
    """The numbers of a training are no numbers any more."""


def train(model: Any, job: TrainingJob, state: TrainingState, checkpoint: Path | None) -> TrainingState:
    """Train `model` from `checkpoint` (None: from its present weights) to the end; it is left with the best epoch's
    weights, the last epoch's if there is no validation split.

    Raises UserError if the loss has become something that is not a number.
    """
    advance(model, job, state, checkpoint)
    _load(model, _weights(job.work, state.best_epoch or state.epoch))
    return state


def advance(model: Any, job: TrainingJob, state: TrainingState, checkpoint: Path | None) -> None:
    """The same up to the step where the job pauses, or to its end; `model` has the weights of then.

    Raises DivergedError as `train` does.
    """
    with quiet(), isolated(job.settings.seed):
        if not any("epoch" in record for record in state.history):
            found, look = job.judge(model)
            state.history.append({"epoch": 0, **_flat(found)})
            state.looks += [] if look is None else [list(astuple(look))]
        if not state.finished(job.settings):
            watcher = _watcher(model, job, state)
            trainer = trainer_for(model, job, watcher)
            watcher.tell = trainer.log
            trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        together()  # the writer may still be writing them


def adopt(folder: Path, work: Path, state: TrainingState) -> Path:
    """Go on in `work` with what the training at one rate has kept in `folder`; returns its checkpoint."""
    (checkpoint,) = folder.glob("checkpoint-*")
    if is_main_process():
        for file in folder.glob("epoch-*.safetensors"):
            file.replace(work / file.name)
        state.write(checkpoint / MILESTONE)
        checkpoint.replace(work / checkpoint.name)
        for other in work.glob("rate-*"):
            shutil.rmtree(other, ignore_errors=True)
    together()
    return work / checkpoint.name


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
    """A TrainerCallback that judges every epoch, keeps the best one's weights, pauses and says how far it is."""
    from transformers import TrainerCallback

    clock = _Clock(training)

    class Watcher(TrainerCallback):
        tell: Callable[[dict[str, Any]], None]  # to the trackers
        paused, judged = False, None  # within an epoch; scores there, if the training ends with them

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            job.progress("fine-tune", state.global_step, state.max_steps)
            steps = state.max_steps // (epochs := int(args.num_train_epochs))
            place = state.global_step % steps  # within the epoch, 0 at its end
            if place and state.global_step == job.until:
                self.paused = control.should_save = control.should_training_stop = True
            elif job.bar is not None and job.until is None and place in looked_at(steps, epochs):
                self.judged = _judged(model, job, training, state.global_step / state.max_steps)
                control.should_training_stop = training.ended is not None

        def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.began = time.perf_counter()

        def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if self.paused:  # the Trainer ends an epoch wherever it stops
                control.should_save = control.should_log = False
                return
            seconds = time.perf_counter() - self.began
            found = (
                self.judged if training.ended else _judged(model, job, training, state.global_step / state.max_steps)
            )
            if _ended(training, found, seconds, job.rate) and is_main_process():
                _keep(model, _weights(job.work, training.epoch))
            if job.settings.report_to and found is not None:
                self.tell({f"eval_{name}": value for name, value in found.items()})
            if training.finished(job.settings) or state.global_step == job.until:
                control.should_training_stop = True
                control.should_save = job.until is not None  # else its weights are kept, and nothing is resumed

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            _logged(training, logs or {}, job.rate)

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            clock.stop()
            _saved(training, job.work, state.global_step)

        def on_train_end(self, *_: Any, **__: Any) -> None:
            clock.stop()

    return Watcher()


def _saved(training: TrainingState, work: Path, step: int) -> None:
    if is_main_process():
        home = work / f"checkpoint-{step}"
        training.write(home / MILESTONE)
        _tidy(work, home, _weights(work, training.best_epoch or training.epoch))


def _logged(training: TrainingState, logs: dict[str, Any], rate: float) -> None:
    if "loss" in logs:
        if finite(logs["loss"]) is None:
            raise diverged(training.epoch, rate)
        training.history[-1] |= {"loss": finite(logs["loss"]), "learning_rate": rate}


def _judged(model: Any, job: TrainingJob, training: TrainingState, share: float) -> dict[str, Any] | None:
    """Scores after a share of the steps; the training has ended if they say that it is hopeless."""
    found, look = job.judge(model, share)
    if job.bar is not None and look is not None:
        training.looks.append(list(astuple(look)))
        if job.until is None:
            training.ended = job.bar.ended([Look(*one) for one in training.looks])
    return found


def looked_at(steps: int, epochs: int) -> set[int]:
    """The steps of an epoch after which a training is held against its bar, besides the last one."""
    parts = min(steps, -(-LOOKS // epochs))
    return {round(part * steps / parts) for part in range(1, parts)}


def _ended(training: TrainingState, found: dict[str, Any] | None, seconds: float, rate: float) -> bool:
    """Add an epoch and its scores on validation to a course; whether it is the best so far.

    Raises DivergedError if its loss is not a number.
    """
    training.epoch += 1
    if found is not None and found["log_loss"] is None:
        raise diverged(training.epoch, rate)
    training.history.append({"epoch": training.epoch, "seconds": round(seconds, 3), **_flat(found)})
    score = (0.0, 0.0) if found is None else (found["macro_f1"], -found["log_loss"])
    if found is not None and score <= (training.best_score, -training.best_loss):
        return False
    training.best_epoch = training.epoch
    if found is None or found["macro_f1"] > training.best_score:
        training.better_epoch = training.epoch
    if found is not None:
        training.best_score, training.best_loss = found["macro_f1"], found["log_loss"]
    return True


def diverged(epoch: int, rate: float) -> DivergedError:
    return DivergedError(
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
