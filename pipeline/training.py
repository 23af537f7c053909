"""One torch model trained on tokenised texts by Hugging Face's Trainer, epoch by epoch, so that a kill costs one epoch.

The Trainer shuffles, groups by length, steps and saves; what is judged, what is best and when to stop is decided here,
on the validation split.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import Progress
from pipeline.arithmetic import Machine, is_writer, shares, together
from pipeline.batching import TokenBatch, pad, plan
from pipeline.heads import isolated, quiet
from pipeline.run import scores
from pipeline.tokens import Tokenizer

TOKEN_BUDGET = 4096  # tokens a batch when nothing is learnt
MILESTONE = "done.json"  # written last into a checkpoint: only then is it whole


@dataclass(frozen=True)
class FineTuneSettings:
    """What a fine-tuned model depends on, besides rows and encoder (`report_to` alone changes no number)."""

    epochs: int = 3
    batch_size: int = 32  # rows a step, over all devices; times `gradient_accumulation`
    learning_rate: float | None = None  # None: chosen on validation in short runs
    weight_decay: float = 0.01
    warmup: float = 0.1  # share of the steps
    schedule: str = "linear"
    patience: int | None = None  # epochs without a better validation macro F1 before it stops
    gradient_accumulation: int = 1
    label_smoothing: float = 0.0
    class_weights: bool = False  # rows count n / (k · rows of their class)
    head: str = "standard"
    dropout: float | None = None
    xavier: bool = False
    init_head: Path | None = None  # folder of a fitted logistic regression
    freeze: bool = False  # only a head, on cached vectors
    unfreeze: int | None = None  # only the last N layers and the head
    from_scratch: bool = False
    precision: str = "auto"
    report_to: tuple[str, ...] = ()
    seed: int = 42
    max_length: int | None = None  # None: the checkpoint's


@dataclass(frozen=True)
class Rows:
    """Tokenised texts of one split."""

    ids: list[np.ndarray]  # n arrays (t_i,) int64
    types: list[np.ndarray] | None
    labels: np.ndarray  # (n,) int64
    pad_id: int

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, i: int) -> dict[str, Any]:
        """One text as the Trainer wants it: it reads the lengths off `input_ids`, without copying."""
        item = {"input_ids": self.ids[i], "labels": self.labels[i]}
        return item if self.types is None else item | {"token_type_ids": self.types[i]}

    @property
    def lengths(self) -> np.ndarray:
        return np.array([len(row) for row in self.ids], np.int64)

    def take(self, places: np.ndarray) -> Rows:
        types = None if self.types is None else [self.types[i] for i in places]
        return Rows([self.ids[i] for i in places], types, self.labels[places], self.pad_id)

    def batch(self, places: np.ndarray) -> TokenBatch:
        types = None if self.types is None else [self.types[i] for i in places]
        return pad(places, [self.ids[i] for i in places], types, self.pad_id)


def tokenised(
    texts: Sequence[tuple[str, ...]], labels: np.ndarray, tokenizer: Tokenizer, max_length: int, pad_id: int
) -> Rows:
    """Texts as ids, once and for all epochs."""
    tokens = tokenizer.encode(texts, max_length)
    return Rows(tokens.ids, tokens.types, np.asarray(labels, np.int64), pad_id)


# ── reading off a model ─────────────────────────────────────────────────────────────────────────────────────────────


def logits(model: Any, rows: Rows, machine: Machine, token_budget: int | None = None) -> np.ndarray:
    """Logits (n, k) float32 of every row, longest batches first; the model is left in the mode it was in."""
    import torch

    training, out = model.training, np.zeros((len(rows), 0), np.float32)
    model.eval()
    with torch.inference_mode(), machine.arithmetic():
        for places in plan(rows.lengths, token_budget or TOKEN_BUDGET):
            batch = inputs(rows.batch(places), machine)
            found = model(**batch)["logits"].float().cpu().numpy()  # (b, k)
            if not out.shape[1]:
                out = np.zeros((len(rows), found.shape[1]), np.float32)
            out[places] = found
    model.train(training)
    return out


def inputs(batch: TokenBatch, machine: Machine) -> dict[str, Any]:
    """A padded batch as the keyword arguments of a transformers model, on the machine's device."""
    import torch

    arrays = {"input_ids": batch.ids, "attention_mask": batch.mask, "token_type_ids": batch.types}
    return {name: torch.from_numpy(a).to(machine.device) for name, a in arrays.items() if a is not None}


def log_losses(found: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """-log p of each row's own class (n,) from logits (n, k); infinite where a logit is not a number."""
    wide = found.astype(np.float64)
    peak = wide.max(1, keepdims=True)
    with np.errstate(invalid="ignore"):
        losses = np.log(np.exp(wide - peak).sum(1)) + peak[:, 0] - wide[np.arange(len(wide)), labels]
    return np.where(np.isfinite(losses), losses, np.inf)


# ── the Trainer ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _collate(items: list[dict[str, Any]], pad_id: int) -> dict[str, Any]:
    import torch

    types = [item["token_type_ids"] for item in items] if "token_type_ids" in items[0] else None
    batch = pad(np.arange(len(items)), [item["input_ids"] for item in items], types, pad_id)
    arrays = {"input_ids": batch.ids, "attention_mask": batch.mask, "token_type_ids": batch.types}
    arrays["labels"] = np.array([item["labels"] for item in items])
    return {name: torch.from_numpy(array) for name, array in arrays.items() if array is not None}


def balanced_weights(labels: np.ndarray, classes: int) -> np.ndarray:
    """n / (k · n_c) for each class (k,): the mean over rows is 1. A class without rows has weight 1."""
    counts = np.bincount(labels, minlength=classes)
    return np.where(counts > 0, len(labels) / (np.maximum(counts, 1) * (counts > 0).sum()), 1.0)


def _loss(settings: FineTuneSettings, weights: np.ndarray | None) -> Callable[..., Any]:
    """Cross-entropy in float32, weighted and smoothed, as a mean over the rows of the whole step."""
    import torch

    weight = None if weights is None else torch.tensor(weights, dtype=torch.float32)

    def loss(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
        found = outputs["logits"].float()
        total = torch.nn.functional.cross_entropy(
            found,
            labels,
            weight=None if weight is None else weight.to(found.device),
            label_smoothing=settings.label_smoothing,
            reduction="sum",
        )
        return total / (len(labels) if num_items_in_batch is None else num_items_in_batch)

    return loss


def trainer_for(
    model: Any,
    rows: Rows,
    settings: FineTuneSettings,
    rate: float,
    machine: Machine,
    folder: Path,
    callback: Any,
    steps: int = -1,
) -> Any:
    """A Trainer that keeps quiet; `steps` > 0 is a short run that saves nothing."""
    from functools import partial

    from transformers import PrinterCallback, Trainer, TrainingArguments

    classes = int(model.config.num_labels)
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=settings.epochs,
        max_steps=steps,
        per_device_train_batch_size=max(1, settings.batch_size // shares(machine)),
        gradient_accumulation_steps=settings.gradient_accumulation,
        learning_rate=rate,
        weight_decay=settings.weight_decay,
        warmup_steps=settings.warmup,
        lr_scheduler_type=settings.schedule,
        train_sampling_strategy="group_by_length",
        bf16=machine.precision == "bf16",
        fp16=machine.precision == "fp16",
        use_cpu=machine.device == "cpu",
        eval_strategy="no",
        save_strategy="no" if steps > 0 else "epoch",
        logging_strategy="epoch",
        report_to=list(settings.report_to) if settings.report_to and steps < 0 else "none",
        disable_tqdm=True,
        log_level="error",
        seed=settings.seed,
        remove_unused_columns=False,
        dataloader_pin_memory=machine.device == "cuda",
        ddp_find_unused_parameters=False,
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=rows,
        data_collator=partial(_collate, pad_id=rows.pad_id),
        compute_loss_func=_loss(settings, balanced_weights(rows.labels, classes) if settings.class_weights else None),
        callbacks=[callback],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


# ── a course of epochs ──────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Course:
    """How far a training has come: what a resumed one has to know."""

    history: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int | None = None
    best_score: float = float("-inf")
    epoch: int = 0  # finished
    seconds: float = 0.0  # spent, the killed processes' finished epochs included
    cpu_seconds: float = 0.0

    def finished(self, settings: FineTuneSettings) -> bool:
        stale = settings.patience is not None and self.epoch - (self.best_epoch or 0) >= settings.patience
        return self.epoch >= settings.epochs or (stale and self.best_epoch is not None)

    def write(self, path: Path) -> None:
        """In one rename, so that it is there whole or not at all."""
        draft = path.with_suffix(".draft")
        draft.write_text(json.dumps(asdict(self)), "utf-8")
        os.replace(draft, path)


def last_course(work: Path) -> tuple[Course, Path | None]:
    """The course of the last epoch that was finished in `work`, and its checkpoint (None: start afresh)."""
    whole = sorted(work.glob(f"checkpoint-*/{MILESTONE}"), key=lambda file: int(file.parent.name.split("-")[1]))
    for file in reversed(whole):
        try:
            return Course(**json.loads(file.read_text("utf-8"))), file.parent
        except (ValueError, TypeError):
            continue
    return Course(), None


@dataclass(frozen=True)
class Lesson:
    """What one training needs to know."""

    train: Rows
    validation: Rows | None
    class_names: tuple[str, ...]
    settings: FineTuneSettings
    rate: float
    machine: Machine
    work: Path
    progress: Progress

    def judge(self, model: Any) -> dict[str, float] | None:
        """Scores on validation."""
        if self.validation is None:
            return None
        found = logits(model, self.validation, self.machine).astype(np.float64)
        if not np.isfinite(found).all():
            return {"accuracy": 0.0, "macro_f1": 0.0, "log_loss": float("inf")}
        proba = np.exp(found - found.max(1, keepdims=True))
        every = scores(self.validation.labels, proba / proba.sum(1, keepdims=True), self.class_names)
        return {name: every[name] for name in ("accuracy", "macro_f1", "log_loss")}


def train(model: Any, lesson: Lesson, course: Course, checkpoint: Path | None) -> Course:
    """Train `model` from `checkpoint` (None: from its present weights) to the end; it is left with the best epoch's
    weights, the last epoch's if there is no validation split.

    Raises UserError if the loss has become something that is not a number.
    """
    with quiet(), isolated(lesson.settings.seed):
        if not course.finished(lesson.settings):
            trainer = trainer_for(
                model,
                lesson.train,
                lesson.settings,
                lesson.rate,
                lesson.machine,
                lesson.work,
                _watcher(model, lesson, course),
            )
            trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        together()  # the writer may still be writing them
        _load(model, _weights(lesson.work, course.best_epoch or course.epoch))
    return course


def _weights(work: Path, epoch: int) -> Path:
    return work / f"epoch-{epoch}.safetensors"


def _keep(model: Any, file: Path) -> None:
    from safetensors.torch import save_model

    draft = file.with_suffix(".draft")
    save_model(model, str(draft))
    os.replace(draft, file)


def _load(model: Any, file: Path) -> None:
    from safetensors.torch import load_model

    load_model(model, str(file))


def _watcher(model: Any, lesson: Lesson, course: Course) -> Any:
    """A TrainerCallback that judges every epoch, keeps the best one's weights and says how far it is."""
    from transformers import TrainerCallback

    settings = lesson.settings
    clock = _Clock(course)

    class Watcher(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if not any("epoch" in record for record in course.history):
                course.history.append({"epoch": 0, **_flat(lesson.judge(model))})

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            lesson.progress("fine-tune", state.global_step, state.max_steps)

        def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.began = time.perf_counter()

        def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            seconds = time.perf_counter() - self.began
            course.epoch += 1
            found = lesson.judge(model)
            course.history.append({"epoch": course.epoch, "seconds": round(seconds, 3), **_flat(found)})
            score = 0.0 if found is None else found["macro_f1"]
            if found is None or score > course.best_score:
                course.best_epoch, course.best_score = course.epoch, score if found is not None else float("-inf")
                if is_writer():
                    _keep(model, _weights(lesson.work, course.epoch))
            if course.finished(settings):  # the weights are kept: nothing is left to resume
                control.should_save, control.should_training_stop = False, True

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if logs and "loss" in logs:
                course.history[-1] |= {"loss": logs["loss"], "learning_rate": lesson.rate}

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            clock.stop()
            if is_writer():
                home = lesson.work / f"checkpoint-{state.global_step}"
                course.write(home / MILESTONE)
                _tidy(lesson.work, home, _weights(lesson.work, course.best_epoch or course.epoch))

        def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            clock.stop()

    return Watcher()


def _flat(found: dict[str, float] | None) -> dict[str, Any]:
    return {} if found is None else {"validation": found}


class _Clock:
    """Adds what has been spent since it was last stopped to a course."""

    def __init__(self, course: Course) -> None:
        self.course, self.wall, self.cpu = course, time.perf_counter(), time.process_time()

    def stop(self) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        self.course.seconds += wall - self.wall
        self.course.cpu_seconds += cpu - self.cpu
        self.wall, self.cpu = wall, cpu


def _tidy(work: Path, home: Path, best: Path) -> None:
    """Remove what a resumed training will not read: older checkpoints, other epochs' weights."""
    for folder in work.glob("checkpoint-*"):
        if folder != home:
            shutil.rmtree(folder, ignore_errors=True)
    for file in work.glob("epoch-*.safetensors"):
        if file != best:
            file.unlink(missing_ok=True)
