"""What a fine-tuning is made of: its settings, tokenised rows, a loss, and Hugging Face's Trainer set up to be fast.

Texts are tokenised once. Rows of like length make a step, padded to its own longest text only, on a CPU in calls that
hold hardly any padding; weights and optimiser stay float32 whatever it computes in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from .. import Progress, UserError, listed
from ..encoder.batches import TokenBatch, pad
from ..encoder.tokens import Tokenizer, Tokens
from ..metrics import scores
from ..words import error_line
from .batches import HeldOut, LengthSampler, calls
from .device import Machine, world_size
from .dropout import cheapen
from .heads import encoder_of
from .hopeless import Bar, Look
from .tracking import place_of, spare, variables

CPU_BUDGET, GPU_BUDGET = 4096, 32768  # tokens a batch when nothing is learnt; what keeps a GPU busy is more
AUTO_STEPS, AUTO_EPOCHS = 250, (3, 30)  # Mosbach et al. 2021: on few rows it takes steps, not passes
STEPS_A_CLASS = 10  # at least: with 77 classes 250 steps are too few
SCHEDULES = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}  # ours → transformers' name


@dataclass(frozen=True)
class FineTuneSettings:
    """What a fine-tuned model depends on, besides rows and encoder (`report_to` alone changes no number)."""

    epochs: int | None = None  # None: about AUTO_STEPS steps, by `epochs_of`
    batch_size: int = 32  # rows a step, over all devices; times `gradient_accumulation`
    learning_rate: float | None = None  # None: chosen on validation among several that start together
    weight_decay: float = 0.01
    warmup: float = 0.1  # share of the steps
    schedule: str = "linear"  # of SCHEDULES
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
    lora: int | None = None  # low-rank adapters of this rank, and the head
    from_scratch: bool = False
    precision: str = "auto"
    report_to: tuple[str, ...] = ()
    seed: int = 42
    max_length: int | None = None  # None: the checkpoint's


def steps_an_epoch(rows: int, settings: FineTuneSettings) -> int:
    """Steps of one pass over `rows` rows."""
    return max(1, -(-rows // (settings.batch_size * settings.gradient_accumulation)))


def epochs_of(settings: FineTuneSettings, rows: int, classes: int = 2) -> int:
    """Passes over `rows` rows: as given, else as many as make `auto_steps`, at least 3 and at most 30."""
    if settings.epochs is not None:
        return settings.epochs
    low, high = AUTO_EPOCHS
    return max(low, min(high, -(-auto_steps(classes) // steps_an_epoch(rows, settings))))


def auto_steps(classes: int) -> int:
    """About how many steps a training takes where nobody says."""
    return max(AUTO_STEPS, STEPS_A_CLASS * classes)


def steps_asked(settings: FineTuneSettings, classes: int) -> dict[str, int]:
    """What a run's name says of its steps: nothing where its epochs say it, or where they are the usual ones."""
    steps = auto_steps(classes)
    return {} if settings.epochs is not None or steps == AUTO_STEPS else {"steps": steps}


@dataclass(frozen=True)
class Rows:
    """Tokenised texts of one split."""

    ids: list[np.ndarray]  # n arrays (t_i,) int64
    types: list[np.ndarray] | None
    labels: np.ndarray  # (n,) int64
    pad_id: int
    states: list[np.ndarray] | None = None  # n arrays (t_i, d) float16: what the layers below make of them

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, i: int) -> dict[str, Any]:
        """One text as the Trainer wants it: it reads the lengths off `input_ids`, without copying."""
        item = {"input_ids": self.ids[i], "labels": self.labels[i]}
        if self.states is not None:
            return item | {"states": self.states[i]}
        return item if self.types is None else item | {"token_type_ids": self.types[i]}

    @property
    def lengths(self) -> np.ndarray:
        return np.array([len(row) for row in self.ids], np.int64)

    def take(self, places: np.ndarray) -> Rows:
        types = None if self.types is None else [self.types[i] for i in places]
        states = None if self.states is None else [self.states[i] for i in places]
        return Rows([self.ids[i] for i in places], types, self.labels[places], self.pad_id, states)

    def joined(self, other: Rows) -> Rows:
        """These rows, then those of `other`."""
        types = None if self.types is None or other.types is None else [*self.types, *other.types]
        states = None if self.states is None or other.states is None else [*self.states, *other.states]
        return Rows([*self.ids, *other.ids], types, np.concatenate([self.labels, other.labels]), self.pad_id, states)

    def batches(self, token_budget: int) -> Iterator[TokenBatch]:
        """All rows under a token budget, longest first."""
        return Tokens(self.ids, self.types, self.lengths, self.pad_id).batches(token_budget)

    def fed(self, token_budget: int, machine: Machine) -> Iterator[tuple[TokenBatch, dict[str, Any]]]:
        """The same, each with what a model is given of it."""
        for batch in self.batches(token_budget):
            states = None if self.states is None else [self.states[row] for row in batch.rows]
            yield batch, inputs(batch, machine, states)


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
        for batch, fed in rows.fed(token_budget or (CPU_BUDGET if machine.device == "cpu" else GPU_BUDGET), machine):
            found = model(**fed)["logits"].float().cpu().numpy()  # (b, k)
            if not out.shape[1]:
                out = np.zeros((len(rows), found.shape[1]), np.float32)
            out[batch.rows] = found
    model.train(training)
    return out


def inputs(batch: TokenBatch, machine: Machine, states: list[np.ndarray] | None = None) -> dict[str, Any]:
    """A padded batch as the keyword arguments of a transformers model, on the machine's device."""
    import torch

    return {name: torch.from_numpy(a).to(machine.device) for name, a in _arrays(batch, states).items()}


def _arrays(batch: TokenBatch, states: list[np.ndarray] | None) -> dict[str, np.ndarray]:
    if states is None:
        arrays = {"input_ids": batch.ids, "attention_mask": batch.mask, "token_type_ids": batch.types}
        return {name: array for name, array in arrays.items() if array is not None}
    padded = np.zeros((*batch.mask.shape, states[0].shape[1]), np.float32)  # (b, t, d)
    for row, state in zip(padded, states, strict=True):
        row[: len(state)] = state
    return {"inputs_embeds": padded, "attention_mask": batch.mask}


def log_losses(found: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """-log p of each row's own class (n,) from logits (n, k); infinite where a logit is not a number."""
    wide = found.astype(np.float64)
    peak = wide.max(1, keepdims=True)
    with np.errstate(invalid="ignore"):
        losses = np.log(np.exp(wide - peak).sum(1)) + peak[:, 0] - wide[np.arange(len(wide)), labels]
    return np.where(np.isfinite(losses), losses, np.inf)


# ── the Trainer ─────────────────────────────────────────────────────────────────────────────────────────────────────


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
    held: HeldOut = field(default_factory=HeldOut)
    until: int | None = None  # the step after which it pauses; None: it goes on to the end
    bar: Bar | None = None  # what it is ended for not reaching
    dataset: str = ""  # its name, for trackers

    def judge(self, model: Any, share: float = 0.0) -> tuple[dict[str, Any] | None, Look | None]:
        """Scores on validation; and after a share of the steps how that stands to the bar, if there is one."""
        if self.validation is None:
            return None, None
        found = logits(model, self.validation, self.machine).astype(np.float64)
        if not np.isfinite(found).all():
            return {"accuracy": 0.0, "macro_f1": 0.0, "log_loss": None}, None
        proba = np.exp(found - found.max(1, keepdims=True))
        proba /= proba.sum(1, keepdims=True)
        names = ("accuracy", "macro_f1", "log_loss")
        judged = scores(self.validation.labels, proba, self.class_names, names=names)
        look = self.bar.look(share, proba) if self.bar is not None else None
        return {name: judged[name] for name in names}, look


def _collate(items: list[dict[str, Any]], pad_id: int) -> dict[str, Any]:
    import torch

    types = [item["token_type_ids"] for item in items] if "token_type_ids" in items[0] else None
    batch = pad(np.arange(len(items)), [item["input_ids"] for item in items], types, pad_id)
    arrays = _arrays(batch, [item["states"] for item in items] if "states" in items[0] else None)
    arrays["labels"] = np.array([item["labels"] for item in items])
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


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


@lru_cache(maxsize=1)
def _trainer_class() -> Any:
    from transformers import Trainer

    class LengthTrainer(Trainer):
        """A Trainer whose steps are rows of like length; alone on a CPU it computes each in the calls that it needs."""

        held = HeldOut()

        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            rows = self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps * world_size()
            learnt: Any = self.train_dataset  # our `Rows`
            return LengthSampler(learnt.lengths, rows, self.args.seed, self.held)

        def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
            if self.args.device.type != "cpu" or world_size() > 1:  # processes must agree in how often they exchange
                return super().training_step(model, inputs, num_items_in_batch)
            rows = len(inputs["labels"]) if num_items_in_batch is None else num_items_in_batch
            return sum(super(LengthTrainer, self).training_step(model, call, rows) for call in calls(inputs))

    return LengthTrainer


def trainer_for(model: Any, job: TrainingJob, callback: Any) -> Any:
    """A Trainer that keeps quiet; only one that goes on to the end speaks to trackers."""
    from transformers import PrinterCallback

    settings, rows, folder = job.settings, job.train, job.work
    trackers = list(settings.report_to) if job.until is None else []
    place = str(folder.parent / "trackers" / _name(job))  # its own is the work folder, which does not last
    if job.machine.device == "cpu":
        cheapen(model, encoder_of(model))
    weights = balanced_weights(rows.labels, int(model.config.num_labels)) if settings.class_weights else None
    try:
        with variables({"TENSORBOARD_LOGGING_DIR": place}):
            trainer = _trainer_class()(
                model=model,
                args=_arguments(job, trackers),
                train_dataset=rows,
                data_collator=partial(_collate, pad_id=rows.pad_id),
                compute_loss_func=_loss(settings, weights),
                callbacks=[callback],
            )
    except (ValueError, RuntimeError, ImportError) as error:
        if not trackers:
            raise
        raise UserError(f"--report-to {listed(trackers)}: {error_line(error)}; or leave it out") from error
    spare(trainer, job.dataset)
    trainer.held = job.held
    trainer.remove_callback(PrinterCallback)
    return trainer


def _name(job: TrainingJob) -> str:
    """What trackers call a training."""
    return job.work.name.lstrip(".").removeprefix("work-")


def _arguments(job: TrainingJob, trackers: list[str]) -> Any:
    from transformers import TrainingArguments

    settings, machine = job.settings, job.machine
    arguments = TrainingArguments(
        output_dir=str(job.work),
        num_train_epochs=epochs_of(settings, len(job.train)),
        per_device_train_batch_size=max(1, settings.batch_size // world_size()),
        gradient_accumulation_steps=settings.gradient_accumulation,
        learning_rate=job.rate,
        weight_decay=settings.weight_decay,
        warmup_steps=settings.warmup,
        lr_scheduler_type=SCHEDULES[settings.schedule],
        bf16=machine.precision == "bf16",
        fp16=machine.precision == "fp16",
        use_cpu=machine.device == "cpu",
        eval_strategy="no",
        save_strategy="epoch",
        logging_strategy="epoch",
        report_to=trackers or "none",
        run_name=_name(job),
        project=place_of("trackio", job.dataset),
        disable_tqdm=True,
        log_level="error",
        seed=settings.seed,
        remove_unused_columns=False,
        dataloader_pin_memory=machine.device == "cuda",
        ddp_find_unused_parameters=False,
    )
    arguments._n_gpu = min(1, arguments.n_gpu)  # several GPUs by `accelerate launch`; DataParallel is slower than one
    return arguments


def finite(number: float) -> float | None:
    """A number as JSON can say it: None if it is infinite or none at all."""
    return float(number) if np.isfinite(number) else None
