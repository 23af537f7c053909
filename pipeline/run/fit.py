"""A question and what answers it: a run that is there, or one that is fitted, timed, measured and saved.

Every kind of run is made here. What a contender adds is a `Question` (kind, data set, settings, encoder, seed) and a
function that learns; it never times, names, finds or saves anything itself.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .. import UserError, kinds, log
from ..memory import forget_peak, peak_rss_mb
from .folder import FORMAT, as_json, digest, find, load_run, runs_folder, save, set_aside, slug
from .record import Cost, Predictions, Run
from .shape import read_record

UNNAMED = ("encoder", "revision", "seed", "chosen", "fitted on")  # said better elsewhere, or known after the fit alone


class Data(Protocol):
    """What a question asks of its data set: a split for each role, with `name`, `labels` (n,) and `row_ids` (n,)."""

    @property
    def name(self) -> str: ...
    @property
    def digest(self) -> str: ...
    @property
    def class_names(self) -> tuple[str, ...]: ...
    @property
    def roles(self) -> Mapping[str, str]: ...


@dataclass(frozen=True)
class Question:
    """Everything that a run's numbers depend on. The run's folder is named by it, where it differs from the defaults.

    `settings` holds all that was asked, so that a record says it in full; `defaults` what each is if nobody asks. A
    new setting with a default changes no name. Whoever changes a default raises the `version` of the row in `KINDS`.
    """

    kind: str
    dataset: Data
    runs: Path
    seed: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    checkpoint_digests: tuple[str, ...] = ()  # of the encoder that it is on; several where the fit chooses among them

    def __post_init__(self) -> None:
        kinds.split(self.kind)  # an unknown kind is refused

    @property
    def folder(self) -> Path:
        """Where the run that answers it lies, fitted or not.

        Where an encoder lies and what it is called does not count: its digest says what it is.
        """
        default = as_json(dict(self.defaults))
        named = {k: v for k, v in self.settings.items() if k not in UNNAMED}
        named = {k: v for k, v in named.items() if k not in default or as_json(v) != default[k]}
        version = kinds.kind_row(self.kind).version
        named |= {"version": version} if version > 1 else {}
        several = sorted(self.checkpoint_digests)
        identity = digest(several) if len(several) > 1 else next(iter(several), None)
        name = digest([FORMAT, self.kind, named, identity, self.seed])
        return runs_folder(self.runs, self.dataset.name, self.dataset.digest) / f"{slug(self.kind)}-{name}"

    def answered_by(self, record: Mapping[str, Any]) -> bool:
        """Whether a run with this record is the one that is requested; what it does not name is the default."""
        if (record["kind"], record["seed"], record["dataset_digest"]) != (self.kind, self.seed, self.dataset.digest):
            return False
        if record["checkpoint_digest"] not in (self.checkpoint_digests or (None,)):
            return False
        recorded, wanted = record["settings"], as_json(dict(self.settings))
        default = as_json(dict(self.defaults))
        return all(
            recorded.get(key, default.get(key)) == wanted.get(key, default.get(key))
            for key in {*recorded, *wanted}
            if key not in UNNAMED
        )


@dataclass(frozen=True, eq=False)
class Fitted:
    """What a fit hands back: a model, what it says of each role's rows, and what the fit alone knows of itself."""

    proba: Callable[[str], np.ndarray]  # role → probabilities (n, k) of its rows
    roles: tuple[str, ...]  # that it is asked about; those without labels are left out
    save: Callable[[Path], None] | None  # writes the model into an empty folder; None: another process does
    cost: Callable[[], Cost]  # of prediction and model, measured once the clock has stopped; what it says itself counts
    out_of_fold: np.ndarray | None = None  # (n, k) of train
    history: list[dict[str, Any]] = field(default_factory=list)
    notes: tuple[str, ...] = ()
    threshold: float | None = None
    checkpoint_digest: str | None = None  # None: the question's only one
    chosen: Mapping[str, Any] = field(default_factory=dict)  # settings that followed from the data
    question: Question | None = None  # as it turned out, where it could not be known before
    held_out: Callable[[Mapping[str, Predictions]], list[dict[str, Any]]] = lambda predictions: []  # more history


@dataclass(frozen=True, eq=False)
class Fit:
    """A question and how it is answered.

    `around` is entered before the clock starts and left once the run is saved; `learn` takes what it gives: vectors
    that have to be extracted first, a folder of checkpoints that a killed training goes on from.
    """

    question: Question
    learn: Callable[[Any], Fitted]
    around: Callable[[Path], AbstractContextManager[Any]] = nullcontext
    after: Callable[[Run], Run] | None = None  # what is known of a run only once it is there; None: nothing

    def run(self) -> Run:
        """The run, loaded or fitted."""
        run = fit_once(self.question, self.learn, self.around)
        return run if self.after is None else self.after(run)


def fit_once(
    question: Question,
    learn: Callable[[Any], Fitted],
    around: Callable[[Path], AbstractContextManager[Any]] = nullcontext,
) -> Run:
    """The run that answers `question`: loaded, or fitted, timed (wall and processor), measured (peak memory) and saved.

    Raises UserError where `learn` does, and if the run cannot be written.
    """
    started = time.perf_counter()
    if (existing := answer(question)) is not None:
        shutil.rmtree(work_folder(question.folder), ignore_errors=True)  # of a process killed after the run was there
        return existing
    kinds.import_libraries(question.kind)
    with around(question.folder) as given:
        forget_peak()
        began, worked = time.perf_counter(), time.process_time()
        fitted = learn(given)
        spent = Cost(fit_seconds=time.perf_counter() - began, cpu_seconds=time.process_time() - worked)
        question = fitted.question or question
        run = _run(question, fitted, spent)
        run = replace(run, seconds=time.perf_counter() - started)
        if fitted.save is not None:
            return save(run, question.folder, fitted.save)
    return load_run(question.folder)


def _run(question: Question, fitted: Fitted, spent: Cost) -> Run:
    """What was learnt, as a run that has not been saved."""
    data = question.dataset
    predictions = {
        role: Predictions(part.name, np.asarray(part.row_ids), truth, proba, fitted.threshold)
        for role, part, truth in labelled(data, fitted.roles)
        if (proba := fitted.out_of_fold if role == "train" else fitted.proba(role)) is not None
    }
    given = fitted.cost()
    spent = replace(spent, peak_rss_mb=peak_rss_mb())
    only = question.checkpoint_digests[0] if len(question.checkpoint_digests) == 1 else None
    return Run(
        kind=question.kind,
        settings=dict(question.settings) | dict(fitted.chosen),
        class_names=tuple(data.class_names),
        predictions=predictions,
        cost=replace(spent, **{k: v for k, v in asdict(given).items() if v is not None}),
        dataset=data.name,
        dataset_digest=data.digest,
        checkpoint_digest=fitted.checkpoint_digest or only,
        seed=question.seed,
        history=[*fitted.history, *fitted.held_out(predictions)],
        notes=fitted.notes,
        threshold=fitted.threshold,
        text_columns=tuple(getattr(data, "text_columns", ())),
    )


def labelled(data: Any, roles: tuple[str, ...]) -> Iterator[tuple[str, Any, np.ndarray]]:
    """(role, split, labels (n,)) of those `roles` of a data set whose rows have labels."""
    for role in roles:
        part = getattr(data, role)
        truth = np.asarray(part.labels, np.int64)
        if len(truth) and truth.min() >= 0:
            yield role, part, truth


def work_folder(folder: Path) -> Path:
    """Where a fit keeps what it needs to be resumed, beside its run."""
    return folder.parent / f".work-{folder.name}"


# ── what exists ───────────────────────────────────────────────────────────────────────────────────────────────────


def answer(question: Question) -> Run | None:
    """The run that answers `question`, or None.

    It lies in the question's folder. Where it does not, the records of the runs beside it are read once more: runs of
    an earlier version are named otherwise. A run that has the name, but by its record is another (a default has
    changed since it was fitted), is set aside; nothing is deleted.
    """
    folder = question.folder
    run = find(folder)
    if run is not None and question.answered_by({name: as_json(getattr(run, name)) for name in ASKED}):
        return run
    for file in sorted(folder.parent.glob(f"{slug(question.kind)}-*/run.json")):
        if file.parent != folder and _answers(question, file) and (older := find(file.parent)) is not None:
            return older
    if run is not None:
        set_aside(folder, "fitted when its settings had other defaults; fitting again")
    return None


def _answers(question: Question, file: Path) -> bool:
    try:
        record = read_record(file.parent, FORMAT)
        return question.answered_by({name: record[name] for name in ASKED})
    except UserError as error:
        log.debug("%s: %s", file, error)  # whoever loads it says what is wrong with it
        return False


ASKED = ("kind", "seed", "dataset_digest", "checkpoint_digest", "settings")
