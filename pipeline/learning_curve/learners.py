"""Who can be fitted on a part of the labels: what its points depend on, and how one is fitted.

A learner is named in its kind's row of `KINDS`: a function from `Task` to its lines' learners, after the fit on all
labels that gives them their C.
"""

from __future__ import annotations

import contextlib
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from .. import kinds
from ..contenders import fits_of, from_scratch, tuned_fits, tuned_runs, tuning_of
from ..encoder.checkpoint import EncoderSpec, locate, trained
from ..finetune import FineTuneSettings, asked, kind_of
from ..linear import linear_fit
from ..linear.fixed import fit_at
from ..linear.probe import LinearModel
from ..run import Run
from ..stack import StackModel, pool
from ..task import Task
from ..tfidf import fit_at as fit_tfidf_at
from ..vectors import GivenVectors, TaskVectors, Vectors, one_each, vectors_of
from ..verdict.results import plain
from .results import curve_folder
from .subsets import smaller

Facts = Mapping[str, Any]
TUNED_STEPS, MOST_EPOCHS = 200, 20  # steps that a training on few labels gets at least, and its passes at most


@dataclass(frozen=True)
class Learner:
    """One line to be: `fit` takes rows of train (m,), the draw's number and the facts of its largest fit."""

    name: str
    kind: str
    settings: dict[str, Any]  # what every point shares, for people
    identity: dict[str, Any]  # what every point depends on, besides size and draw: hashed
    checkpoint_digest: str | None
    fit: Callable[[np.ndarray, int, Facts], tuple[np.ndarray, dict[str, Any]]]  # → proba (n, k) of test, facts
    tuned: bool = False


def tfidf_learners(task: Task) -> list[Learner]:
    """TF-IDF at the C and features of the fit on all labels; the vocabulary is the subset's own."""
    run, data = next(fits_of(task, "tfidf")).run(), task.dataset
    C, min_df = chosen_c(run), int(run.settings["min_df"])
    features = tuple(last_fit(run).get("features", ("words",)))

    def fit(rows: np.ndarray, draw: int, first: Facts) -> tuple[np.ndarray, dict[str, Any]]:
        texts = [data.train.texts[i] for i in rows]
        model = fit_tfidf_at(texts, data.train.labels[rows], data.class_names, C, features, min_df)
        return model.proba(data.test.texts), {}

    shared = {"C": C, "min_df": min_df, "features": "+".join(features)}
    return [Learner("tfidf", "tfidf", shared, shared, None, fit)]


def linear_learners(task: Task) -> list[Learner]:
    """Logistic regression on stored vectors at the C of the fit on all labels, for each encoder and pooling."""
    return [linear_learner(task, vectors, pooling) for vectors in vectors_of(task) for pooling in vectors.poolings]


def stack_learners(task: Task) -> list[Learner]:
    """The parts' fits on the subset joined with the weights of the fit on all labels, for each encoder and pooling."""
    learners = []
    for one in one_each(task):
        run = next(fits_of(one, "stack")).run()
        weights = StackModel.load(run.model_folder).weights
        parts = [learners_of(one, kinds.split(name)[0])[0] for name in task.stack]
        (vectors,) = vectors_of(one)
        name = named(task, "stack", vectors, vectors.poolings[0])
        learners.append(_stack_learner(name, parts, weights, run))
    return learners


def _stack_learner(name: str, parts: Sequence[Learner], weights: np.ndarray, run: Run) -> Learner:
    def fit(rows: np.ndarray, draw: int, first: Facts) -> tuple[np.ndarray, dict[str, Any]]:
        return pool([part.fit(rows, draw, first)[0] for part in parts], weights), {}

    shown = {"parts": "+".join(part.kind for part in parts)}
    identity = {"parts": [part.identity for part in parts], "weights": weights.tolist()}
    return Learner(name, "stack", shown, identity, run.checkpoint_digest, fit)


def linear_learner(task: Task, vectors: Vectors, pooling: str) -> Learner:
    """One of them; pooling 'auto' is the one that the fit on all labels chose."""
    settings = replace(task.linear[0], imbalance="none", seed=task.seed)
    run = linear_fit(vectors.encoded(pooling), task.dataset, settings, task.runs, task.progress).run()
    chosen, data = LinearModel.load(run.model_folder).pooling, task.dataset
    train, test = vectors.matrix("train", chosen), vectors.matrix("test", chosen)
    C = chosen_c(run)

    def fit(rows: np.ndarray, draw: int, first: Facts) -> tuple[np.ndarray, dict[str, Any]]:
        return fit_at(train[rows], data.train.labels[rows], data.class_names, C).proba(test), {}

    digest, facts = vectors.digest(chosen), vectors.described(chosen)
    counted = {key: value for key, value in facts.items() if key not in ("encoder", "revision")}
    shared = {"C": C} | {key: facts[key] for key in ("pooling", "max_length") if key in facts}
    return Learner(named(task, "lr", vectors, pooling), "lr", shared, counted | {"C": C, "of": digest}, digest, fit)


def tuned_learners(task: Task) -> list[Learner]:
    """The whole encoder, at the learning rate of its fit on the most labels."""
    return [tuned_learner(task, spec) for spec in task.encoders]


def scratch_learners(task: Task) -> list[Learner]:
    """The same architecture with random weights."""
    return [tuned_learner(from_scratch(task), spec) for spec in task.encoders]


def tuned_learner(task: Task, spec: EncoderSpec) -> Learner:
    """One of them. The fit on all labels is the run that `compare` finds; the others leave predictions alone."""
    tuning, name = replace(task.tuning, freeze=False), partial(named, task)
    task = replace(task, encoders=(spec,), tuning=tuning, seeds=1)
    data, checkpoint = task.dataset, locate(trained(spec))
    place = curve_folder(task.runs, data.name, data.digest) / "fits"

    def fit(rows: np.ndarray, draw: int, first: Facts) -> tuple[np.ndarray, dict[str, Any]]:
        if len(rows) == len(data.train):
            return outcome_of(tuned_runs(replace(task, seed=task.seed + draw))[0])
        rate = tuning.learning_rate or first.get("learning_rate")
        epochs = part_epochs(tuning, len(rows), len(data.train))
        some = replace(tuning, learning_rate=rate, epochs=epochs)
        part = smaller(data, rows, task.seed + draw)
        fits = tuned_fits(replace(task, dataset=part, tuning=some, runs=place, seed=task.seed + draw))
        run = replace(next(fits), after=None).run()  # nobody serves it
        predicted = outcome_of(run)
        assert run.folder is not None
        shutil.rmtree(run.folder)  # a point is its predictions; the model of a part is nobody's
        for empty in (run.folder.parent, place):
            with contextlib.suppress(OSError):
                empty.rmdir()
        return predicted

    settings = tuning_of(task, spec)
    kind, digest = kind_of(settings), checkpoint.checkpoint_digest("cls")
    counted = {key: value for key, value in asked(settings, data, checkpoint).items() if key != "encoder"}
    shared = {key: counted[key] for key in ("epochs", "batch_size", "max_length")}
    return Learner(name(kind, spec), kind, shared, counted | {"of": digest}, digest, fit, tuned=True)


def part_epochs(tuning: FineTuneSettings, rows: int, all_rows: int) -> int | None:
    """Passes over `rows` of `all_rows` rows; None: as many as such a fit takes by itself."""
    step = tuning.batch_size * tuning.gradient_accumulation
    return None if tuning.epochs is None else epochs_at(rows, all_rows, tuning.epochs, step)


def epochs_at(rows: int, all_rows: int, epochs: int, step: int) -> int:
    """Passes over `rows` rows: as requested, but with few rows more, up to 200 steps or as many as the whole takes.

    Three passes over 500 rows are 47 steps, in which no encoder learns much (Mosbach et al. 2021): a matter of
    settings, not of labels.
    """
    least = min(TUNED_STEPS, epochs * math.ceil(all_rows / step))
    return min(MOST_EPOCHS, max(epochs, math.ceil(least / math.ceil(rows / step)))) if rows < all_rows else epochs


def outcome_of(run: Run) -> tuple[np.ndarray, dict[str, Any]]:
    """A run's probabilities of test (n, k), and how it was trained."""
    chosen = run.settings["chosen"]
    facts = {
        "learning_rate": chosen["learning_rate"],
        "epoch": chosen["epoch"],
        "epochs": chosen.get("epochs", run.settings["epochs"]),
    }
    return run.predictions["test"].proba, facts | {"seconds": run.cost.fit_seconds}


def chosen_c(run: Run) -> float:
    """The C that a run's folds chose."""
    return float(last_fit(run)["C"])


def last_fit(run: Run) -> dict[str, Any]:
    """What a run's history says of the fit on all rows."""
    return next(point for point in reversed(run.history) if point.get("what") == "final")


def named(task: Task, kind: str, read: Vectors | EncoderSpec, pooling: str = "") -> str:
    """The line's name: its kind, and what tells it from the others of that kind."""
    if isinstance(read, GivenVectors):
        return f"{kind} ({read.name})" if len(task.vectors) > 1 else kind
    spec = read.spec if isinstance(read, TaskVectors) else read
    short = {plain("encoder", one.name) for one in task.encoders}
    encoder = plain("encoder", spec.name) if len(short) == len(task.encoders) else spec.name
    if [one.name for one in task.encoders].count(spec.name) > 1:
        encoder += f"@{spec.revision or 'default'}"
    more = [encoder] if len(task.encoders) > 1 else []
    more += [pooling] if pooling and len(spec.pooling) > 1 else []
    return f"{kind} ({', '.join(more)})" if more else kind


def learners_of(task: Task, name: str) -> list[Learner]:
    """The lines of a contender. Raises UserError, naming all that have lines, if it has none."""
    made: list[Learner] = kinds.load(kinds.curve_row(name).learner or "")(task)
    return made
