"""Dataset → Run: the whole encoder fine-tuned, with the head, the layers and the learning rate that were asked for.

`heads` builds and saves the model, `training` trains it; here a run is found or fitted, resumed, measured, saved and
opened again.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline import Progress, UserError, choose, silent
from pipeline.encoder.checkpoint import Checkpoint
from pipeline.encoder.tokens import tokenizer
from pipeline.finetune.device import is_main_process, machine, note, threads, together
from pipeline.finetune.heads import HEADS, HeadSpec, build, freeze_below, isolated, parameters, write
from pipeline.finetune.job import TrainingJob, TrainingState, last_state, train
from pipeline.finetune.rates import RATES, SCRATCH_RATES, search_rate
from pipeline.finetune.training import SCHEDULES, FineTuneSettings, Rows, logits, tokenised
from pipeline.finetune.tuned import FineTuned, load_finetuned
from pipeline.linear.probe import LinearModel, softmax
from pipeline.memory import forget_peak, peak_rss_mb
from pipeline.run import Cost, Predictions, Run, find, load_run, run_folder, save

if TYPE_CHECKING:
    from pipeline.data import Dataset
    from pipeline.encoder import Runtime

__all__ = [
    "FineTuneSettings",
    "FineTuned",
    "fine_tune",
    "fine_tune_seeds",
    "folder_of",
    "kind_of",
    "load_finetuned",
]

DEFAULT_RATE = 5e-5  # where there is no validation split to choose on
TIMED_BATCH, TIMED_SINGLE = 64, 8
CHECKED = {
    "epochs": lambda s: s.epochs >= 1,
    "batch-size": lambda s: s.batch_size >= 1,
    "learning-rate": lambda s: s.learning_rate is None or 0 < s.learning_rate < 1,
    "gradient-accumulation": lambda s: s.gradient_accumulation >= 1,
    "patience": lambda s: s.patience is None or s.patience >= 1,
    "label-smoothing": lambda s: 0 <= s.label_smoothing < 1,
    "weight-decay": lambda s: s.weight_decay >= 0,
    "warmup": lambda s: 0 <= s.warmup < 1,
    "dropout": lambda s: s.dropout is None or 0 <= s.dropout < 1,
}

OF_A_HEAD = {"weight_decay": 0, "schedule": "constant", "warmup": 0, "gradient_accumulation": 1, "init_head": None}


def kind_of(settings: FineTuneSettings) -> str:
    """The contender's name: `fine-tune`, `fine-tune+last-2`, `from-scratch`, `frozen-head`."""
    if settings.freeze:
        return "frozen-head"
    if settings.from_scratch:
        return "from-scratch"
    return "fine-tune" if settings.unfreeze is None else f"fine-tune+last-{settings.unfreeze}"


def check(settings: FineTuneSettings) -> None:
    """Raises UserError if a setting is unknown, out of range, or contradicts another."""
    choose(HEADS, settings.head, "head")
    choose(SCHEDULES, settings.schedule, "schedule")
    for name, good in CHECKED.items():
        if not good(settings):
            raise UserError(f"--{name} {getattr(settings, name.replace('-', '_'))}: out of range; see fine-tune --help")
    whole = {"--freeze": settings.freeze, "--unfreeze": settings.unfreeze is not None}
    whole["--from-scratch"] = settings.from_scratch
    given = [name for name, on in whole.items() if on]
    if len(given) > 1:
        raise UserError(f"{' and '.join(given)} contradict each other; pass one")
    if settings.freeze:
        default = FineTuneSettings()
        for name, value in OF_A_HEAD.items():
            if getattr(settings, name) not in (getattr(default, name), value):
                raise UserError(
                    f"--freeze takes no --{name.replace('_', '-')}: a head learns by Adam at a constant rate"
                )
    if settings.init_head is not None and (settings.head != "linear" or settings.from_scratch):
        raise UserError("--init-head starts a linear head on a pretrained encoder; pass --head linear with it")


def asked(settings: FineTuneSettings, dataset: Dataset, checkpoint: Checkpoint) -> dict[str, Any]:
    """What names the run's folder: everything that changes its numbers."""
    said = {name: value for name, value in asdict(settings).items() if name not in ("report_to", "seed")}
    said["learning_rate"] = settings.learning_rate or "auto"
    if settings.init_head is not None:  # a run's folder and its parent say everything that it depends on
        said["init_head"] = "/".join(Path(settings.init_head).resolve().parts[-2:])
    said["max_length"] = _max_length(settings, checkpoint)
    return said | {"encoder": checkpoint.name, "pooling": "cls", "text_parts": len(dataset.text_columns)}


def _max_length(settings: FineTuneSettings, checkpoint: Checkpoint) -> int:
    return min(settings.max_length or checkpoint.max_length, checkpoint.limit)


def folder_of(settings: FineTuneSettings, dataset: Dataset, checkpoint: Checkpoint, runs: Path) -> Path:
    """Where the run that answers exactly this question lies, fitted or not."""
    said = asked(settings, dataset, checkpoint) | {"encoder": None}  # its digest says it better than its name
    identity = checkpoint.checkpoint_digest("cls")
    return run_folder(runs, dataset.name, dataset.digest, kind_of(settings), said, identity, settings.seed)


# ── one run ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def fine_tune(
    dataset: Dataset,
    checkpoint: Checkpoint,
    settings: FineTuneSettings,
    runtime: Runtime,
    runs: Path,
    progress: Progress = silent,
) -> Run:
    """The run of a fine-tuned encoder: found if it has been fitted, resumed if it was interrupted, else fitted.

    Raises UserError for settings that make no sense, an encoder that cannot be fine-tuned, and a device that is not
    there.
    """
    check(settings)
    assert not settings.freeze, "a frozen encoder needs vectors: fit_frozen_head"
    folder = folder_of(settings, dataset, checkpoint, runs)
    if (old := find(folder)) is not None:
        shutil.rmtree(_work_of(folder), ignore_errors=True)  # of a process killed after the run was there
        return old
    with threads(runtime.threads), isolated(settings.seed), _mendable(folder.parent, settings):
        run = _Fit(dataset, checkpoint, settings, runtime, progress).run(folder)
    return run if is_main_process() else load_run(folder)  # every process has the saved one


@contextlib.contextmanager
def _mendable(home: Path, settings: FineTuneSettings) -> Iterator[None]:
    """Full memory and full disks as errors that say what to do."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if "memory" not in str(error).lower() and not isinstance(error, MemoryError):
            raise
        half = max(1, settings.batch_size // 2)
        twice = 2 * settings.gradient_accumulation
        raise UserError(
            f"out of memory; pass --batch-size {half} --gradient-accumulation {twice} for the same steps in halves"
        ) from error
    except OSError as error:
        raise UserError(f"{home}: {error.strerror or error}; make room, or choose another --runs") from error


class _Fit:
    """One fit, from tokens to the saved run."""

    def __init__(
        self, dataset: Dataset, checkpoint: Checkpoint, settings: FineTuneSettings, runtime: Runtime, progress: Progress
    ) -> None:
        self.dataset, self.checkpoint, self.settings, self.progress = dataset, checkpoint, settings, progress
        self.machine = machine(runtime.device, settings.precision)
        self.class_names = tuple(dataset.class_names)
        self.spec = HeadSpec(settings.head, settings.dropout, settings.xavier, _start(settings, dataset))
        self.tokenizer = tokenizer(checkpoint)

    def run(self, folder: Path) -> Run:
        forget_peak()
        started, worked = time.perf_counter(), time.process_time()
        with _work_folder(folder) as work:
            job = self.job(work)
            state, resumed = last_state(work)
            if resumed is not None:
                note(f"resuming after epoch {state.epoch} of {self.settings.epochs}")
            if not state.history:
                rate, state.history = self.rate(job)
            else:
                rate = _chosen_rate(state.history)
            state.seconds += time.perf_counter() - started
            state.cpu_seconds += time.process_time() - worked
            model = self.model()
            state = train(model, replace(job, rate=rate), state, resumed)
            return self.saved(folder, model, state, rate, time.perf_counter() - started)

    def job(self, work: Path) -> TrainingJob:
        roles = self.dataset.roles
        labelled = "validation" in roles and (self.dataset.validation.labels >= 0).all()
        validation = self.rows("validation") if labelled else None
        return TrainingJob(
            self.rows("train"), validation, self.class_names, self.settings, 0.0, self.machine, work, self.progress
        )

    def rows(self, role: str) -> Rows:
        """Tokenised texts of a role."""
        split = getattr(self.dataset, role)
        limit = _max_length(self.settings, self.checkpoint)
        return tokenised(split.texts, split.labels, self.tokenizer, limit, self.checkpoint.pad_id)

    def model(self) -> Any:
        """A fresh model, always the same one."""
        settings = self.settings
        model = build(self.checkpoint, self.class_names, self.spec, settings.seed, not settings.from_scratch)
        if settings.unfreeze is not None:
            freeze_below(model, settings.unfreeze)
        return model.to(self.machine.device)

    def rate(self, job: TrainingJob) -> tuple[float, list[dict[str, Any]]]:
        """The learning rate, and what was tried for it."""
        settings = self.settings
        if settings.learning_rate is not None:
            return settings.learning_rate, [{"learning_rate": settings.learning_rate, "chosen": True}]
        if job.validation is None:
            note(f"no validation split to choose a learning rate on: {DEFAULT_RATE:g} is taken")
            return DEFAULT_RATE, [{"learning_rate": DEFAULT_RATE, "chosen": True}]
        rates = SCRATCH_RATES if settings.from_scratch else RATES
        rate, tried = search_rate(self.model, job, rates)
        for record in tried:
            record["chosen"] = record["learning_rate"] == rate
        note(f"learning rate {rate:g}, by validation log loss after {tried[0]['steps']} steps each")
        return rate, tried

    def saved(self, folder: Path, model: Any, state: TrainingState, rate: float, seconds: float) -> Run:
        """The run of a trained model, written by the one process that writes."""
        opened = FineTuned(model, self.tokenizer, self.machine, _max_length(self.settings, self.checkpoint))
        opened.pad_id = self.checkpoint.pad_id
        predictions: dict[str, Predictions] = {}
        for role in ("validation", "test"):
            if role in self.dataset.roles and (getattr(self.dataset, role).labels >= 0).all():
                split, rows = getattr(self.dataset, role), self.rows(role)
                proba = softmax(logits(model, rows, self.machine))
                predictions[role] = Predictions(split.name, np.asarray(split.row_ids), rows.labels, proba)
        some = (self.dataset.validation if "validation" in self.dataset.roles else self.dataset.train).texts
        run = Run(
            kind=kind_of(self.settings),
            settings=asked(self.settings, self.dataset, self.checkpoint)
            | {"chosen": {"learning_rate": rate, "epoch": state.best_epoch, **asdict(self.machine)}},
            class_names=self.class_names,
            predictions=predictions,
            cost=Cost(
                fit_seconds=state.seconds,
                cpu_seconds=state.cpu_seconds,
                peak_rss_mb=peak_rss_mb(),
                trained_parameters=parameters(model, trained=True),
                ms_per_text_batch=opened.milliseconds(some[:TIMED_BATCH], together=True),
                ms_per_text_single=opened.milliseconds(some[:TIMED_SINGLE], together=False),
            ),
            dataset=self.dataset.name,
            dataset_digest=self.dataset.digest,
            checkpoint_digest=self.checkpoint.checkpoint_digest("cls"),
            seed=self.settings.seed,
            seconds=seconds,
            history=state.history,
        )
        if not is_main_process():
            return run
        return save(run, folder, lambda place: write(model, self.checkpoint, self.class_names, self.spec, place))


def _start(settings: FineTuneSettings, dataset: Dataset) -> LinearModel | None:
    if settings.init_head is None:
        return None
    run = load_run(settings.init_head)
    if run.dataset_digest != dataset.digest:  # what is test here may have been train there
        raise UserError(
            f"--init-head {settings.init_head}: fitted on other rows or splits than these; "
            "run fit-lr on this source with the same --seed, --split and --limit"
        )
    return LinearModel.load(run.model_folder)


def _chosen_rate(history: list[dict[str, Any]]) -> float:
    return next(float(record["learning_rate"]) for record in history if record.get("chosen"))


def _work_of(folder: Path) -> Path:
    return folder.parent / f".work-{folder.name}"


@contextlib.contextmanager
def _work_folder(folder: Path) -> Iterator[Path]:
    """Where a training keeps what it needs to be resumed, beside its run; removed when the run is there.

    Two processes that fit the same run at once do not share it: the second starts afresh in a folder of its own.
    """
    work = _work_of(folder)
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder.parent}: cannot be written ({error.strerror}); choose another --runs") from error
    with _alone(work) as alone:
        if not alone:
            work = work.with_name(f"{work.name}-{os.getpid()}")
            work.mkdir(exist_ok=True)
        yield work
        together()
        if is_main_process():
            shutil.rmtree(work, ignore_errors=True)


@contextlib.contextmanager
def _alone(work: Path) -> Iterator[bool]:
    """Whether no other process works in `work`; a killed one's claim ends with it."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield True
        return
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:  # the processes of one training belong together
        yield True
        return
    with open(work / "lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield True
        except BlockingIOError:
            yield False


# ── several seeds ───────────────────────────────────────────────────────────────────────────────────────────────────


def fine_tune_seeds(
    dataset: Dataset,
    checkpoint: Checkpoint,
    settings: FineTuneSettings,
    runtime: Runtime,
    runs: Path,
    progress: Progress = silent,
    seeds: int = 3,
) -> list[Run]:
    """Fine-tune with `seeds` seeds from `settings.seed` on; the learning rate is chosen once, with the first."""
    fitted = [fine_tune(dataset, checkpoint, settings, runtime, runs, progress)]
    rate = float(fitted[0].settings["chosen"]["learning_rate"])
    for number in range(1, seeds):
        again = replace(settings, seed=settings.seed + number, learning_rate=rate)
        fitted.append(fine_tune(dataset, checkpoint, again, runtime, runs, progress))
    return fitted
