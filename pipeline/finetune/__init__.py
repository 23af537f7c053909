"""Dataset → Run: the whole encoder fine-tuned, with the head, the layers and the learning rate that were asked for.

`heads` builds and saves the model, `training` trains it; here a run is found or fitted, resumed, measured, saved and
opened again.
"""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import Progress, UserError, choose, log, silent
from ..encoder.checkpoint import Checkpoint
from ..encoder.tokens import tokenizer
from ..linear.probe import LinearModel, softmax
from ..run import ENDED, STOP, Cost, Fit, Fitted, Question, Run, answer, in_words, load_run
from ..store import text_keys
from ..words import error_line
from .batches import HeldOut
from .device import is_main_process, machine, note
from .heads import HEADS, HeadSpec, build, parameters, write
from .job import TrainingState, adopt, last_state, train
from .layers import Below, computes_the_same, freeze_below, upper_part
from .lora import add_adapters, merge
from .rates import by_chance, held_out, rates_of, search_rate
from .training import SCHEDULES, FineTuneSettings, Rows, TrainingJob, epochs_of, logits, steps_asked, tokenised
from .tuned import FineTuned, load_finetuned, priced
from .work import Places, working

if TYPE_CHECKING:
    from ..data import Dataset
    from ..encoder import Runtime

__all__ = [
    "FineTuneSettings",
    "FineTuned",
    "fine_tune",
    "kind_of",
    "load_finetuned",
    "priced",
    "question_of",
    "tuned_fit",
]

CHECKED = {
    "epochs": ("1 or more", lambda s: s.epochs is None or s.epochs >= 1),
    "batch-size": ("1 or more", lambda s: s.batch_size >= 1),
    "learning-rate": ("more than 0 and less than 1", lambda s: s.learning_rate is None or 0 < s.learning_rate < 1),
    "gradient-accumulation": ("1 or more", lambda s: s.gradient_accumulation >= 1),
    "patience": ("1 or more", lambda s: s.patience is None or s.patience >= 1),
    "unfreeze": ("0 or more", lambda s: s.unfreeze is None or s.unfreeze >= 0),
    "lora": ("1 or more", lambda s: s.lora is None or s.lora >= 1),
    "label-smoothing": ("0 or more and less than 1", lambda s: 0 <= s.label_smoothing < 1),
    "weight-decay": ("0 or more", lambda s: 0 <= s.weight_decay < 1e9),
    "warmup": ("0 or more and less than 1", lambda s: 0 <= s.warmup < 1),
    "dropout": ("0 or more and less than 1", lambda s: s.dropout is None or 0 <= s.dropout < 1),
}

OF_A_HEAD = {"weight_decay": 0, "schedule": "constant", "warmup": 0, "gradient_accumulation": 1, "init_head": None}


def kind_of(settings: FineTuneSettings) -> str:
    """The contender's name: `fine-tune`, `fine-tune+last-2`, `fine-tune+lora`, `from-scratch`, `frozen-head`."""
    if settings.freeze:
        return "frozen-head"
    if settings.from_scratch:
        return "from-scratch"
    if settings.lora is not None:
        return "fine-tune+lora"
    return "fine-tune" if settings.unfreeze is None else f"fine-tune+last-{settings.unfreeze}"


def check(settings: FineTuneSettings) -> None:
    """Raises UserError if a setting is unknown, out of range, or contradicts another."""
    choose(HEADS, settings.head, "head")
    choose(SCHEDULES, settings.schedule, "schedule")
    for name, (wanted, good) in CHECKED.items():
        if not good(settings):
            raise UserError(f"--{name} {getattr(settings, name.replace('-', '_'))}: out of range; pass {wanted}")
    exclusive = {"--freeze": settings.freeze, "--unfreeze": settings.unfreeze is not None}
    exclusive |= {"--lora": settings.lora is not None, "--from-scratch": settings.from_scratch}
    given = [name for name, on in exclusive.items() if on]
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
    """Everything that changes a run's numbers."""
    counted = _counted(settings) | {"max_length": _max_length(settings, checkpoint)}
    counted |= steps_asked(settings, len(dataset.class_names))
    return counted | {"encoder": checkpoint.name, "pooling": "cls", "text_parts": len(dataset.text_columns)}


def _counted(settings: FineTuneSettings) -> dict[str, Any]:
    counted = {name: value for name, value in asdict(settings).items() if name not in ("report_to", "seed")}
    counted |= {name: getattr(settings, name) or "auto" for name in ("epochs", "learning_rate")}
    if settings.init_head is not None:  # a run's folder and its parent say everything that it depends on
        counted["init_head"] = "/".join(Path(settings.init_head).resolve().parts[-2:])
    return counted


def question_of(settings: FineTuneSettings, dataset: Dataset, checkpoint: Checkpoint, runs: Path) -> Question:
    """What a training is asked."""
    default = _counted(FineTuneSettings()) | {"pooling": "cls", "text_parts": 1}
    settings_asked, digest = asked(settings, dataset, checkpoint), checkpoint.checkpoint_digest("cls")
    return Question(kind_of(settings), dataset, runs, settings.seed, settings_asked, default, (digest,))


def _max_length(settings: FineTuneSettings, checkpoint: Checkpoint) -> int:
    return min(settings.max_length or checkpoint.max_length, checkpoint.limit)


# ── one run ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def tuned_fit(
    dataset: Dataset,
    checkpoint: Checkpoint,
    settings: FineTuneSettings,
    runtime: Runtime,
    places: Places,
    progress: Progress = silent,
) -> Fit:
    """The fit of a fine-tuned encoder. Where only its last layers are trained, the cache keeps what those below make.

    Raises UserError for settings that make no sense.
    """
    check(settings)
    assert not settings.freeze, "a frozen encoder needs vectors: frozen_fit"

    question, bar = question_of(settings, dataset, checkpoint, places.runs), places.bar
    if bar is None or answer(question) is not None:
        places, asked_for = replace(places, bar=None), question
    else:  # of a run that was ended; one that was not answers the question as it stands
        asked_for = replace(question, settings=dict(question.settings) | {STOP: bar.asked})

    def learn(work: Path) -> Fitted:
        fitted = _Training(dataset, checkpoint, settings, (runtime, places), progress).fitted(work)
        return replace(fitted, question=asked_for if ENDED in fitted.chosen["chosen"] else question)

    return Fit(asked_for, learn, partial(working, settings, runtime.threads))


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
    return tuned_fit(dataset, checkpoint, settings, runtime, Places(runs), progress).run()


class _Training:
    """One training, from tokens to a model with what it says."""

    def __init__(
        self,
        dataset: Dataset,
        checkpoint: Checkpoint,
        settings: FineTuneSettings,
        here: tuple[Runtime, Places],
        progress: Progress,
    ) -> None:
        settings = replace(settings, epochs=epochs_of(settings, len(dataset.train), len(dataset.class_names)))
        self.dataset, self.checkpoint, self.settings, self.progress = dataset, checkpoint, settings, progress
        self.machine, self.places = machine(here[0].device, settings.precision), here[1]
        self.class_names = tuple(dataset.class_names)
        self.spec = HeadSpec(settings.head, settings.dropout, settings.xavier, _start(settings, dataset))
        self.tokenizer = tokenizer(checkpoint)
        self.states: dict[bytes, np.ndarray] | None = None  # text key → (t, d) below the layers that are trained

    def fitted(self, work: Path) -> Fitted:
        """The trained model, from the last epoch that is kept in `work` on."""
        started, worked = time.perf_counter(), time.process_time()
        model = self.model()
        self.states = self.below(model)
        job = self.job(work)
        state, resumed = last_state(work)
        if resumed is not None:
            note(f"resuming after epoch {state.epoch} of {self.settings.epochs}")
        if not state.history:
            state, resumed = self.start(job, started, worked)
        else:
            state.seconds += time.perf_counter() - started
            state.cpu_seconds += time.process_time() - worked
        rate = _chosen_rate(state.history)
        model = self.model()
        state = train(self.learner(model), replace(job, rate=rate), state, resumed)
        ended = () if state.ended is None else (in_words(state.ended),)
        for line in ended:
            note(f"{kind_of(self.settings)} {line}")
        return Fitted(
            proba=lambda role: softmax(logits(model, self.rows(role), self.machine)),
            roles=tuple(role for role in ("validation", "test") if role in self.dataset.roles),
            save=partial(self.save, model) if is_main_process() else None,
            cost=lambda: self.cost(model, state),
            history=state.history,
            chosen={"chosen": self.chosen(rate, state)},
            notes=(*ended, *by_chance(len(job.train), len(job.validation or ()))),
        )

    def save(self, model: Any, folder: Path) -> None:
        if self.settings.lora is not None:
            merge(model)
        write(model, self.checkpoint, self.class_names, self.spec, folder)

    def chosen(self, rate: float, state: TrainingState) -> dict[str, Any]:
        epochs = {"epoch": state.best_epoch, "epochs": self.settings.epochs}
        ended = {} if state.ended is None else {ENDED: state.ended}
        return {"learning_rate": rate, **epochs, **asdict(self.machine), **ended}

    def job(self, work: Path) -> TrainingJob:
        roles = self.dataset.roles
        labelled = "validation" in roles and (self.dataset.validation.labels >= 0).all()
        train, validation = self.fed("train"), self.fed("validation") if labelled else None
        searched = validation is not None and self.settings.learning_rate is None
        held = held_out(train, validation, self.settings) if validation is not None and searched else HeldOut()
        return TrainingJob(
            train,
            validation,
            self.class_names,
            self.settings,
            0.0,
            self.machine,
            work,
            self.progress,
            held,
            bar=self.places.bar,
            dataset=self.dataset.name,
        )

    def rows(self, role: str) -> Rows:
        """Tokenised texts of a role."""
        split = getattr(self.dataset, role)
        limit = _max_length(self.settings, self.checkpoint)
        return tokenised(split.texts, split.labels, self.tokenizer, limit, self.checkpoint.pad_id)

    def fed(self, role: str) -> Rows:
        """The same as what is trained is given them."""
        rows, states = self.rows(role), self.states
        if states is None:
            return rows
        return replace(rows, states=[states[key.tobytes()] for key in text_keys(getattr(self.dataset, role).texts)])

    def below(self, model: Any) -> dict[bytes, np.ndarray] | None:
        """What the layers that are not trained make of every text; None where they are run in every epoch."""
        if not self.settings.unfreeze or self.places.cache is None:
            return None
        texts = [text for split in self.dataset.roles.values() for text in self.dataset.splits[split].texts]
        keys, first = np.unique(text_keys(texts), axis=0, return_index=True)
        limit = _max_length(self.settings, self.checkpoint)
        unique, none = [texts[i] for i in first], np.zeros(len(first), np.int64)
        rows = tokenised(unique, none, self.tokenizer, limit, self.checkpoint.pad_id)
        below = Below(self.checkpoint, Path(self.places.cache), self.settings.unfreeze, self.machine.precision)
        states = below.states(below.file(keys, limit), rows, model, self.machine)
        try:
            good = states and computes_the_same(model, self.upper(model), replace(rows, states=states), self.machine)
        except (LookupError, StopIteration, AttributeError, TypeError, ValueError, RuntimeError) as error:
            log.debug("the layers below run in every epoch: %s", error_line(error))
            good = False
        return {key.tobytes(): state for key, state in zip(keys, states, strict=True)} if states and good else None

    def upper(self, model: Any) -> Any:
        return upper_part(model, self.settings.unfreeze or 0)

    def learner(self, model: Any) -> Any:
        """What is trained of a model, which shares its weights: all of it, or what lies above the kept states."""
        return model if self.states is None else self.upper(model)

    def model(self) -> Any:
        """A fresh model, always the same one."""
        settings = self.settings
        model = build(self.checkpoint, self.class_names, self.spec, settings.seed, not settings.from_scratch)
        if settings.unfreeze is not None:
            freeze_below(model, settings.unfreeze)
        if settings.lora is not None:
            add_adapters(model, settings.lora, settings.seed)
        return model.to(self.machine.device)

    def start(self, job: TrainingJob, started: float, worked: float) -> tuple[TrainingState, Path | None]:
        """A training that has a learning rate, and the checkpoint from which it goes on if that was searched for."""
        settings, search = self.settings, None
        if settings.learning_rate is None and job.validation is not None:
            search = search_rate(lambda: self.learner(self.model()), job, rates_of(settings))
            for record in search.tried:
                record["chosen"] = record["learning_rate"] == search.rate
            state = replace(search.state, history=[*search.tried, *search.state.history])
            last = search.tried[-1]["steps"]
            note(
                f"learning rate {search.rate:g}, by validation log loss; the others stopped after {last} steps at most"
            )
        else:
            rate = settings.learning_rate or rates_of(settings)[1]
            if settings.learning_rate is None:
                note(f"no validation split to choose a learning rate on: {rate:g} is taken")
            state = TrainingState(history=[{"learning_rate": rate, "chosen": True}])
        state.seconds, state.cpu_seconds = time.perf_counter() - started, time.process_time() - worked
        return state, adopt(search.folder, job.work, state) if search else None

    def cost(self, model: Any, state: TrainingState) -> Cost:
        """What the training took, over all the processes that it was resumed in."""
        return Cost(
            fit_seconds=state.seconds,
            cpu_seconds=state.cpu_seconds,
            trained_parameters=parameters(model, trained=True),
        )


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
