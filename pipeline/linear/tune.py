"""A logistic regression on arrays: what to do about imbalance, which C, which temperature and threshold, all in folds.

Everything that learns sees training rows only. Without resampling all folds share one matrix, scaled on train once;
with it each fold scales, resamples and fits its own rows, and is judged on rows as they are.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import Progress, UserError, choose, listed, log, silent
from ..encoder.pooling import pairs
from ..metrics import METRICS
from .calibrate import best_threshold, calibration, paired_interval, prior_shift, temperature
from .folds import Folds, split
from .probe import LinearModel, softmax
from .resample import SAMPLERS, Resampled, balanced_weights, resample
from .search import (
    Block,
    Found,
    full,
    moments,
    resampled_blocks,
    search,
    shared_block,
    standardise,
    unscaled,
)
from .solver import Axes, Descent, principal_axes, solve

AUTO = ("none", "balanced", "smote")  # what imbalance "auto" chooses among; the first wins ties
IMBALANCE = dict.fromkeys(("none", "balanced", *SAMPLERS, "auto"))
CALIBRATE = dict.fromkeys(("none", "temperature"))
THRESHOLD = dict.fromkeys(("f1",))
NEVER = -1e4  # logit of a class that train does not have
SMALL = 200  # megabytes that are not worth a line on the screen
TIE = 1e-6  # difference of the objective below which "auto" sees none
SHARED = "without resampling the folds share one matrix, whose scaler was fitted on train once"

Vectors = np.ndarray | Mapping[str, np.ndarray]  # (n, d), or several poolings of the same rows by name


@dataclass(frozen=True)
class LinearSettings:
    """What a logistic regression depends on, besides its vectors; hashed."""

    imbalance: str = "none"
    C: tuple[float, ...] | None = None  # None: by half decades, growing at its ends
    folds: int = 5
    objective: str = "macro_f1"  # by which imbalance "auto" is chosen
    calibrate: str = "none"
    threshold: str | None = None
    prior_correction: bool = False
    scale: bool = True
    seed: int = 42


@dataclass(frozen=True)
class Fitted:
    """A model, with what its folds said of the rows that they had not seen."""

    model: LinearModel
    proba: np.ndarray  # (n, k) float32, out of fold, of every train row
    history: list[dict[str, Any]]
    notes: tuple[str, ...]


def check(settings: LinearSettings, classes: int) -> None:
    """Raises UserError if a setting is unknown or does not suit the number of classes."""
    choose(IMBALANCE, settings.imbalance, "imbalance")
    choose(METRICS, settings.objective, "objective")
    choose(CALIBRATE, settings.calibrate, "calibration")
    if settings.threshold is not None:
        choose(THRESHOLD, settings.threshold, "threshold")
        if classes != 2:
            raise UserError(f"a threshold needs two classes, the data has {classes}; leave --threshold out")


def f1_both(truth: np.ndarray, proba: np.ndarray, threshold: float) -> dict[str, float]:
    """F1 of the second class at the threshold and at one half."""

    def f1(chosen: np.ndarray) -> float:
        hit = int((chosen & (truth == 1)).sum())
        return 2 * hit / max(1, int(chosen.sum() + (truth == 1).sum()))

    at_half = proba.argmax(1) == 1
    return {"threshold": threshold, "f1": f1(proba[:, 1] >= threshold), "f1_at_half": f1(at_half)}


def pooled(given: Vectors, pooling: str) -> np.ndarray:
    """The vectors (n, d) of one pooling, or of several side by side ("cls+mean")."""
    if not isinstance(given, Mapping):
        return np.asarray(given)
    if pooling in given:
        return np.asarray(given[pooling])
    return np.concatenate([np.asarray(given[name]) for name in pooling.split("+")], 1)


@dataclass(frozen=True)
class _Candidate:
    """One way to treat imbalance, searched in the folds."""

    name: str
    path: Found
    shift: np.ndarray  # (folds, k): prior correction of each fold's logits
    notes: tuple[str, ...]

    def proba(self, folds: Folds, corrected: bool) -> np.ndarray:
        """Out-of-fold probabilities (n, k) float32."""
        return softmax(self.logits(folds, corrected))

    def logits(self, folds: Folds, corrected: bool) -> np.ndarray:
        shift = self.shift[folds.place].astype(np.float32)
        return self.path.logits + shift if corrected else self.path.logits


class _Problem:
    """The training rows of the classes that occur, and what several candidates can share."""

    def __init__(self, matrix: np.ndarray, truth: np.ndarray, folds: Folds, names: tuple[str, ...], s: LinearSettings):
        self.matrix, self.truth, self.folds, self.names, self.settings = matrix, truth, folds, names, s
        self.mean, self.scale = moments(matrix) if s.scale else unscaled(matrix.shape[1])
        self._axes: Axes | None = None

    @property
    def classes(self) -> int:
        return len(self.names)

    @property
    def axes(self) -> Axes:
        """All rows, scaled on train once, in their principal axes."""
        if self._axes is None:
            self._axes = principal_axes(standardise(self.matrix, self.mean, self.scale))
        return self._axes

    def weights(self, name: str, mask: np.ndarray) -> np.ndarray:
        """Weights of the rows (P, n) that the problems of `mask` (P, n) learn from."""
        return balanced_weights(self.truth, mask, self.classes) if name == "balanced" else mask

    def blocks(self, name: str) -> tuple[list[Block], tuple[str, ...]]:
        if name in SAMPLERS:

            def resampler(rows: np.ndarray, truth: np.ndarray, fold: int) -> Resampled:
                return resample(name, rows, truth, self.names, self.settings.seed + fold)

            return resampled_blocks(self.matrix, self.truth, self.folds, resampler, self.settings.scale)
        weights = self.weights(name, self.folds.weights())
        return [shared_block(self.axes, self.truth, self.folds, weights)], (SHARED,) if self.settings.scale else ()

    def candidate(self, name: str, progress: Progress) -> _Candidate:
        """Search C for `name` in the folds."""
        blocks, notes = self.blocks(name)
        path = search(
            blocks,
            self.truth,
            self.folds,
            self.settings.C,
            tick=lambda done, total: progress(f"fit lr ({name})", done, total),
        )
        learned = np.concatenate([block.prior(self.classes) for block in blocks])
        mask = self.folds.weights()
        counts = np.stack([np.bincount(self.truth, row, self.classes) for row in mask])
        true = counts / counts.sum(1, keepdims=True)
        shift = np.stack([prior_shift(a, b) for a, b in zip(learned, true, strict=True)])
        return _Candidate(name, path, shift, (*notes, *path.notes))

    def final(self, chosen: _Candidate) -> tuple[np.ndarray, np.ndarray, dict[str, Any], tuple[str, ...]]:
        """Weights (k, d), intercepts (k,), a history record and notes of the fit on all rows at the chosen C."""
        started, n = time.perf_counter(), len(self.truth)
        notes: tuple[str, ...] = ()
        if chosen.name in SAMPLERS:
            scaled = standardise(self.matrix, self.mean, self.scale)
            new = resample(chosen.name, scaled, self.truth, self.names, self.settings.seed)
            axes, truth, notes, start = principal_axes(new.rows), new.truth, new.notes, None
            weights = np.ones((1, len(truth)), np.float32)
        else:
            axes, truth = self.axes, self.truth
            weights = self.weights(chosen.name, np.ones((1, n), np.float32))
            start = chosen.path.stacked[0].mean(0, keepdims=True)  # the folds agree almost
        fit = solve(axes, truth, weights, chosen.path.C, self.classes, Descent(start))
        W, b = axes.weights(full(fit.stacked[0].T).T if self.classes == 2 else fit.stacked[0])
        if self.settings.prior_correction:
            learned = np.bincount(truth, weights[0], self.classes) / weights.sum(dtype=np.float64)
            b = b + prior_shift(learned, np.bincount(self.truth, minlength=self.classes) / n)
        converged = bool(fit.converged[0])
        if not converged:
            notes += (f"the final fit did not converge in {fit.iterations[0]} iterations",)
        record = {
            "what": "final",
            "C": chosen.path.C,
            "iterations": int(fit.iterations[0]),
            "converged": converged,
            "gap": float(fit.gap[0]),
            "seconds": time.perf_counter() - started,
        }
        return W, b, record, notes


def fit(
    matrix: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    class_names: tuple[str, ...],
    settings: LinearSettings,
    progress: Progress = silent,
) -> Fitted:
    """Fit `matrix` (n, d) with `labels` (n,); rows of equal `groups` (n,) stay in one fold.

    Raises UserError if there is nothing to tell apart or not enough memory.
    """
    check(settings, len(class_names))
    present, truth = np.unique(labels, return_inverse=True)
    folds = split(labels, groups, class_names, settings.folds, settings.seed)
    memory = state_memory(len(matrix), matrix.shape[1], truth, folds.count, settings.imbalance)
    names = tuple(class_names[c] for c in present)
    problem = _Problem(np.asarray(matrix, np.float32), truth, folds, names, settings)
    wanted = AUTO if settings.imbalance == "auto" else tuple(dict.fromkeys(("none", settings.imbalance)))
    candidates = {name: problem.candidate(name, progress) for name in wanted}
    chosen, history = _choose(candidates, truth, folds, settings)
    W, b, record, notes = problem.final(chosen)
    history = [{**point, "imbalance": c.name} for c in candidates.values() for point in c.path.points] + history
    logits = chosen.logits(folds, settings.prior_correction)
    heat = temperature(logits, truth) if settings.calibrate == "temperature" else 1.0
    proba = softmax(logits / np.float32(heat))
    if settings.calibrate == "temperature":
        both = {"before": calibration(truth, softmax(logits)), "after": calibration(truth, proba)}
        history.append({"what": "temperature", "role": "train", "temperature": heat, **both})
    cut = None
    if settings.threshold is not None:
        cut, _ = best_threshold(truth, proba[:, 1])
        history.append({"what": "threshold", "role": "train", **f1_both(truth, proba, cut)})
    model = LinearModel(
        *all_classes(W, b, present, len(class_names)),
        mean=problem.mean,
        scale=problem.scale,
        class_names=tuple(class_names),
        temperature=heat,
        threshold=cut,
    )
    of_all_classes = np.zeros((len(truth), len(class_names)), np.float32)
    of_all_classes[:, present] = proba
    others = [f"{c.name}: {note}" for c in candidates.values() if c is not chosen for note in c.notes if note != SHARED]
    all_notes = dict.fromkeys((*folds.notes, *chosen.notes, *notes, *others))  # each once
    history += [record, {"what": "memory", "expected_mb": memory}]
    return Fitted(model, of_all_classes, history, tuple(all_notes))


def all_classes(W: np.ndarray, b: np.ndarray, present: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows for classes that train does not have: never predicted."""
    all_W, all_b = np.zeros((k, W.shape[1]), np.float32), np.full(k, NEVER, np.float32)
    all_W[present], all_b[present] = W, b
    return all_W, all_b


def _choose(
    candidates: Mapping[str, _Candidate], truth: np.ndarray, folds: Folds, settings: LinearSettings
) -> tuple[_Candidate, list[dict[str, Any]]]:
    """The candidate requested (with "auto" the best by the objective), and what each was worth against none."""
    plain, history, gain = candidates["none"], [], {"none": 0.0}
    reference = plain.proba(folds, False)
    for name, candidate in candidates.items():
        if name == "none":
            continue
        used = candidate.proba(folds, settings.prior_correction)
        interval = paired_interval(settings.objective, truth, used, reference, settings.seed)
        gain[name] = interval["difference"]
        ways = {
            "none": reference,
            "as fitted": candidate.proba(folds, False),
            "prior corrected": candidate.proba(folds, True),
        }
        history.append(
            {
                "what": "resampling",
                "imbalance": name,
                "objective": settings.objective,
                **interval,
                "helped": interval["low"] > 0,
                "calibration": {way: calibration(truth, proba) for way, proba in ways.items()},
            }
        )
    if settings.imbalance != "auto":
        return candidates[settings.imbalance], history
    best = max(AUTO, key=lambda name: (gain[name] > TIE) * gain[name])  # the first of equals, so ties go to none
    history.append({"what": "auto", "imbalance": best, "objective": settings.objective, "gain": gain})
    return candidates[best], history


def choose_pooling(
    vectors: Mapping[str, np.ndarray],
    labels: np.ndarray,
    groups: np.ndarray,
    class_names: tuple[str, ...],
    settings: LinearSettings,
    progress: Progress = silent,
) -> tuple[str, list[dict[str, Any]]]:
    """Among poolings (name -> (n, d) of the train rows) and the best two side by side, the lowest out-of-fold log loss.

    Judged without resampling, in the folds that the fit itself uses.
    """
    truth = np.unique(labels, return_inverse=True)[1]
    folds = split(labels, groups, class_names, settings.folds, settings.seed)
    names = tuple(class_names[c] for c in np.unique(labels))
    scores: dict[str, tuple[float, float]] = {}  # pooling → log loss, C

    def judge(way: str) -> None:
        matrix = np.asarray(pooled(vectors, way), np.float32)
        state_memory(len(matrix), matrix.shape[1], truth, folds.count, "none")
        path = _Problem(matrix, truth, folds, names, settings).candidate("none", progress).path
        scores[way] = (path.log_loss, path.C)

    for name in vectors:
        judge(name)
    together = pairs(vectors)
    if together:
        judge(min(together, key=lambda pair: sum(scores[name][0] for name in pair.split("+"))))
    best = min(scores, key=lambda way: scores[way])
    log.info(f"pooling {best} of {listed(scores)}, by log loss in the folds")
    return best, [{"what": "pooling", "pooling": way, "C": C, "log_loss": loss} for way, (loss, C) in scores.items()]


def state_memory(n: int, d: int, truth: np.ndarray, folds: int, imbalance: str) -> float:
    """Say how much memory a fit of (n, d) will need, and return it in megabytes.

    Raises UserError, naming the way out, if this machine has less available.
    """
    import psutil

    counts = np.bincount(truth)
    k = len(counts)
    grown = k * int(counts.max()) if imbalance in (*SAMPLERS, "auto") and imbalance != "smote-minority" else 0
    if imbalance == "smote-minority":
        grown = n + int(counts.max() - counts.min())
    rows = 3 * n + (folds + 1) * grown  # scaled, turned, held out; with resampling, a matrix a fold
    state = 26 * folds * k * min(n, d) * 4 + 32 * n * k + 16 * d * d  # memory of the solver, logits, axes
    needed, free = (4 * rows * d + state) / 1e6, psutil.virtual_memory().available / 1e6
    if needed > free:
        raise UserError(
            f"logistic regression on {n:,} x {d} with {k} classes needs about {needed:,.0f} MB, {free:,.0f} MB are "
            "available; `fine-tune --freeze` fits a linear head out of core"
        )
    if needed > SMALL:
        log.info(f"logistic regression on {n:,} x {d} with {k} classes: about {needed:,.0f} MB of memory")
    return needed
