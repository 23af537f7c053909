"""TF-IDF and logistic regression: words, characters or both, whichever the folds find better. No encoder is needed.

`terms` counts, `model` is what is kept. Folds and the choice of C are those of the vectors' logistic regression.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from .. import Progress, listed, silent
from ..data.splits import normalize_whitespace
from ..linear.calibrate import log_softmax
from ..linear.folds import Folds, equal, split
from ..linear.search import STEP, Found, full, search, shared_block
from ..linear.solver import Axes, Descent, Solution, own_axes, solve
from ..linear.tune import all_classes
from ..run import Cost, Fit, Fitted, Question
from ..run.timing import milliseconds, timing_sample
from .model import TfidfModel
from .terms import MOST_TERMS, Terms, Texts, beside, candidates, learn_terms, work

__all__ = ["TfidfFit", "TfidfModel", "TfidfSettings", "fit", "fit_at", "tfidf_fit"]

GRID = (3.0, 10.0, 30.0, 100.0)
TRIAL_GRID = (30.0, 300.0)  # C at which the features are compared
TRIAL_ROWS, TRIAL_FOLDS = 2_000, 3  # rows that they are compared on at most, and folds
SEARCH_TOLERANCE = 1e-5  # how far above its minimum the mean loss of a fold may stay: a tenth of what tells two C apart
MOST_WEIGHTS = 10_000_000  # of a model, and of all folds that are fitted at once; each takes 100 bytes meanwhile
SECONDS_EACH, WORDS_SHARE = 5.5e-6, 0.1  # of a fit, for each unit of `work`; what words alone take of it
TOLERANCE = 1e-7  # how far above its minimum the final mean loss may stay


@dataclass(frozen=True)
class TfidfSettings:
    """What the TF-IDF contender depends on; hashed."""

    C: tuple[float, ...] | None = None
    folds: int = 5
    min_df: int = 2  # texts that must hold a term; 1 where that leaves nothing
    seed: int = 42
    features: str = "auto"  # words, characters, both; auto: chosen in the folds


@dataclass(frozen=True)
class TfidfFit:
    """A fitted model and what is known of the way there."""

    model: TfidfModel
    proba: np.ndarray  # (n, k) float32, out of fold
    history: list[dict[str, Any]]
    notes: tuple[str, ...]


def tfidf_fit(dataset: Any, settings: TfidfSettings, runs: Path, progress: Progress = silent) -> Fit:
    """The fit of logistic regression on TF-IDF."""
    texts = dataset.train.texts
    given = asdict(settings) | {"text_parts": len(texts[0]), "vectorizer": "scikit-learn"}
    defaults = asdict(TfidfSettings()) | {"text_parts": 1, "vectorizer": "own"}  # as earlier versions had it
    question = Question("tfidf", dataset, runs, settings.seed, given, defaults)

    def learn(_: Path) -> Fitted:
        labels = np.asarray(dataset.train.labels, np.int64)
        fitted = fit(texts, labels, dataset.class_names, settings, progress)
        model = fitted.model
        return Fitted(
            proba=lambda role: model.proba(getattr(dataset, role).texts),
            roles=tuple(dataset.roles),
            save=model.save,
            cost=lambda: _cost(fitted.model, dataset),
            out_of_fold=fitted.proba,
            history=fitted.history,
            notes=fitted.notes,
        )

    return Fit(question, learn)


def _cost(model: TfidfModel, dataset: Any) -> Cost:
    together, alone = milliseconds(model.proba, timing_sample(dataset))
    rows = 1 if len(model.b) == 2 else len(model.b)
    parameters = rows * (model.W.shape[1] + 1)
    return Cost(trained_parameters=parameters, ms_per_text_batch=together, ms_per_text_single=alone)


def fit(
    texts: Texts,
    labels: np.ndarray,
    class_names: tuple[str, ...],
    settings: TfidfSettings,
    progress: Progress = silent,
) -> TfidfFit:
    """TF-IDF and logistic regression on `texts` with `labels` (n,), features and C chosen by out-of-fold log loss.

    The vocabularies and their idf (which see no label) are taken from train once, so that the folds share one matrix.

    Raises UserError if there is one class only, and for unknown features.
    """
    present, truth = np.unique(labels, return_inverse=True)
    folds = split(labels, equal(map(normalize_whitespace, texts)), tuple(class_names), settings.folds, settings.seed)
    analyzers, points = choose_features(texts, labels, tuple(class_names), settings)
    most = most_terms(len(present), len(analyzers) * len(texts[0]))
    terms, matrix = learn_terms(texts, analyzers, settings.min_df, most)
    notes = [*folds.notes, "the folds share one vocabulary and idf, taken from train without its labels"]
    notes += terms_notes(terms, most, len(present))
    if settings.features == "auto" and not points:
        notes.append(f"words and characters were not compared: {listed(analyzers)} alone are counted")
    axes = own_axes(matrix)
    usual = around(points)
    found = searched(axes, truth, folds, settings.C, usual, tick=lambda done, total: progress("fit tfidf", done, total))
    began = time.perf_counter()
    every, start = np.ones((1, len(truth)), np.float32), np.concatenate(found.stacked).mean(0, keepdims=True)
    final = solve(axes, truth, every, found.C, len(present), Descent(start, TOLERANCE))
    if not final.converged[0]:
        notes.append(f"the final fit did not converge in {final.iterations[0]} iterations")
    record = {
        "what": "final",
        "features": list(analyzers),
        "C": found.C,
        "iterations": int(final.iterations[0]),
        "converged": bool(final.converged[0]),
        "gap": float(final.gap[0]),
        "seconds": time.perf_counter() - began,
    }
    proba = np.zeros((len(truth), len(class_names)), np.float32)
    proba[:, present] = np.exp(log_softmax(found.logits))
    model = _model(terms, final, present, class_names)
    return TfidfFit(model, proba, [*points, *found.points, record], (*notes, *found.notes))


def most_terms(classes: int, vectorizers: int) -> int:
    """How many terms each vectorizer keeps: of many classes fewer, so that the model stays within memory."""
    return max(1_000, min(MOST_TERMS, MOST_WEIGHTS // (classes * vectorizers)))


def terms_notes(terms: Sequence[Terms], most: int, classes: int) -> list[str]:
    """What limits the terms."""
    if not terms:
        return ["no text of train has a term to count: TF-IDF is the majority class here"]
    cut = most < MOST_TERMS and any(len(each.vocabulary) == most for each in terms)
    return [f"of {classes:,} classes, the {most:,} most frequent terms alone are counted"] if cut else []


def seconds(texts: Texts, classes: int) -> float:
    """About how long a fit takes; measured on one processor, with 2 to 77 classes."""
    tried = len(candidates(texts, classes, "auto")) > 1
    return 1 + work(texts, classes) * SECONDS_EACH * (1 if tried else WORDS_SHARE)


def choose_features(
    texts: Texts, labels: np.ndarray, class_names: tuple[str, ...], settings: TfidfSettings
) -> tuple[tuple[str, ...], list[dict[str, Any]]]:
    """The analyzers with the lowest out-of-fold log loss on at most TRIAL_ROWS rows, and a point for each choice."""
    table = candidates(texts, len(np.unique(labels)), settings.features)
    if len(table) == 1:
        return next(iter(table.values())), []
    rows = np.sort(np.random.default_rng(settings.seed).permutation(len(texts))[:TRIAL_ROWS])
    some, here = [texts[row] for row in rows], labels[rows]
    groups = equal(map(normalize_whitespace, some))
    if len(np.unique(here)) < 2 or len(np.unique(groups)) < 2:  # a class so rare that the sample has none of it
        return list(table.values())[-1], []
    truth = np.unique(here, return_inverse=True)[1]
    folds = split(here, groups, class_names, min(settings.folds, TRIAL_FOLDS), settings.seed)
    points: list[dict[str, Any]] = []

    @cache  # words and characters are counted once, and side by side for both
    def counted(analyzer: str, most: int) -> tuple[tuple[Terms, ...], Any]:
        return learn_terms(some, (analyzer,), settings.min_df, most)

    for name, analyzers in table.items():
        most = most_terms(int(truth.max()) + 1, len(analyzers) * len(some[0]))
        blocks = [matrix for terms, matrix in (counted(analyzer, most) for analyzer in analyzers) if terms]
        if blocks:
            trial = searched(own_axes(beside(blocks, len(some))), truth, folds, TRIAL_GRID)
            points.append({"what": "features", "features": name, "C": trial.C, "log_loss": trial.log_loss})
    if not points:
        return list(table.values())[-1], []
    return table[min(points, key=lambda point: float(point["log_loss"]))["features"]], points


def around(points: Sequence[dict[str, Any]]) -> tuple[float, ...]:
    """Where the search of C starts: at the C of the best trial, coming from a stronger penalty."""
    if not points:
        return GRID
    C = float(min(points, key=lambda point: float(point["log_loss"]))["C"])
    return (C / STEP, C)


def searched(
    axes: Axes, truth: np.ndarray, folds: Folds, grid: Sequence[float] | None, usual: Sequence[float] = GRID, **how: Any
) -> Found:
    """C by the folds' log loss, all folds at once unless their weights are too many."""
    classes = int(truth.max()) + 1
    block = replace(shared_block(axes, truth, folds, folds.weights()), tolerance=SEARCH_TOLERANCE)
    large = folds.count * classes * axes.rows.shape[1] > MOST_WEIGHTS
    return search(block.apart() if large else [block], truth, folds, grid, usual, **how)


def fit_at(
    texts: Texts,
    labels: np.ndarray,
    class_names: tuple[str, ...],
    C: float,
    analyzers: Sequence[str],
    min_df: int = 2,
) -> TfidfModel:
    """TF-IDF on `texts` with `labels` (n,) of two classes or more, at a C and terms that are known: no folds."""
    present, truth = np.unique(labels, return_inverse=True)
    most = most_terms(len(present), len(analyzers) * len(texts[0]))
    terms, matrix = learn_terms(texts, analyzers, min_df, most)
    once = np.ones((1, len(truth)), np.float32)
    solution = solve(own_axes(matrix), truth, once, C, len(present), Descent(tolerance=TOLERANCE))
    return _model(terms, solution, present, class_names)


def _model(terms: tuple[Terms, ...], solution: Solution, present: np.ndarray, class_names: Sequence[str]) -> TfidfModel:
    """The model of one solution; classes that are not `present` (c,) are never predicted."""
    weights = full(solution.stacked[0].T).T  # (c, q + 1)
    W, b = all_classes(weights[:, :-1], weights[:, -1], present, len(class_names))
    return TfidfModel(terms, W, b, tuple(class_names))
