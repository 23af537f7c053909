"""Several contenders joined into one: their probabilities multiplied, each to a power of its own.

That is logarithmic pooling (Genest & Zidek 1986, "Combining probability distributions"), with weights of at least 0
that minimise the log loss of out-of-fold predictions (stacking: Wolpert 1992). The loss is convex in the weights. The
parts are runs of their own, found or fitted; nothing here sees a row that is judged.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import UserError, listed
from .data.splits import normalize_whitespace
from .linear import VECTOR_DEFAULTS
from .linear.folds import equal, split
from .linear.probe import softmax
from .run import Cost, Fit, Fitted, Question, Run, digest, load_run
from .run.fit import UNNAMED
from .run.model import Layout, damaged, read_model, write_model

FLOOR = 1e-12  # of a probability, before its logarithm is taken
MOST_WEIGHT = 10.0  # that a part has; where every row is right, more would always be better
LAYOUT = Layout("stack", {"weights": "m"}, lists={"k": "class_names", "m": "parts"})
OF_VECTORS = ("encoder", "revision", "pooling", "max_length", "engine", "precision", "vectors", *VECTOR_DEFAULTS)


@dataclass(frozen=True)
class StackModel:
    """softmax(Σ weight · log probability) over the parts; their runs lie beside it."""

    parts: tuple[str, ...]  # m kinds
    weights: np.ndarray  # (m,) float32, at least 0
    class_names: tuple[str, ...]

    def save(self, folder: Path, runs: Sequence[Run]) -> None:
        """Write the model into `folder`, and the `runs` of its parts: linked where the disk can, else copied."""
        write_model(folder, LAYOUT, self)
        save_parts(folder, runs)

    @classmethod
    def load(cls, folder: Path | str) -> StackModel:
        """Read a model. Raises UserError if a file is missing or damaged."""
        values = read_model(folder, LAYOUT)[1]
        with damaged(folder):
            if not (values["weights"] >= 0).all() or not len(values["weights"]):
                raise ValueError("weights: none, or below 0")
        return cls(**values)


def save_parts(folder: Path, runs: Sequence[Run]) -> None:
    """Put the runs of the parts beside a model that joins them."""
    for place, run in enumerate(runs):
        assert run.folder is not None, "a part was found or saved"
        ignored = shutil.ignore_patterns("README.md")
        shutil.copytree(run.folder, folder / "parts" / str(place), ignore=ignored, copy_function=_link)


def _link(source: str, target: str) -> None:
    """A second name for a file that is never written to again; a copy where the disk has no such names."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def part_runs(run: Run) -> list[Run]:
    """The runs that a stack or cascade joins, as they lie in it.

    Raises UserError if they are damaged, or know other classes.
    """
    kinds = read_model(run.model_folder, LAYOUT if run.kind == "stack" else Layout(run.kind, lists=LAYOUT.lists))[1][
        "parts"
    ]
    parts = [load_run(run.model_folder / "parts" / str(place)) for place in range(len(kinds))]
    for part, kind in zip(parts, kinds, strict=True):
        if part.kind != kind or part.class_names != run.class_names:
            raise UserError(f"{part.folder}: not the {kind} run that was joined; fit the {run.kind} again")
    return parts


# ── weights ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def pool(probabilities: Sequence[np.ndarray], weights: np.ndarray) -> np.ndarray:
    """∏ p^weight of the m arrays (n, k), each row divided by its sum: (n, k) float32."""
    logits = np.zeros(probabilities[0].shape, np.float32)
    for proba, weight in zip(probabilities, weights, strict=True):
        logits += np.float32(weight) * np.log(np.maximum(proba, FLOOR), dtype=np.float32)
    return softmax(logits)


def choose_weights(probabilities: Sequence[np.ndarray], truth: np.ndarray) -> tuple[np.ndarray, float]:
    """The weights (m,) in 0 … MOST_WEIGHT with the lowest mean log loss on `truth` (n,), and that loss."""
    from scipy.optimize import minimize

    logs = np.log(np.maximum(np.stack(probabilities).astype(np.float64), FLOOR))  # (m, n, k)
    of_truth = logs[:, np.arange(len(truth)), truth]  # (m, n)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        logits = np.tensordot(weights, logs, 1)
        highest = logits.max(1, keepdims=True)
        shares = np.exp(logits - highest)
        total = shares.sum(1, keepdims=True)
        value = float((np.log(total) + highest).sum() - (weights @ of_truth).sum())
        slope = np.einsum("nk,mnk->m", shares / total, logs) - of_truth.sum(1)
        return value / len(truth), slope / len(truth)

    count = len(probabilities)
    best = minimize(loss, np.full(count, 1 / count), jac=True, bounds=[(0, MOST_WEIGHT)] * count, method="L-BFGS-B")
    return best.x.astype(np.float32), float(best.fun)


# ── fits ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def stack_fit(parts: Sequence[Fit], dataset: Any, runs: Path, seed: int) -> Fit:
    """The fit of a stack; its parts are found or fitted before its clock starts.

    Raises UserError for fewer than two different parts.
    """
    question = joint_question("stack", parts, dataset, runs, seed)

    @contextlib.contextmanager
    def around(_: Path) -> Iterator[list[Run]]:
        yield [part.run() for part in parts]

    return Fit(question, lambda fitted: _joined(fitted, dataset, seed), around)


def joint_question(kind: str, parts: Sequence[Fit], dataset: Any, runs: Path, seed: int) -> Question:
    """What a run that joins `parts` depends on. Raises UserError for fewer than two different parts."""
    questions = [part.question for part in parts]
    kinds = [question.kind for question in questions]
    if len(set(kinds)) != len(kinds) or len(kinds) < 2:
        given = listed(kinds) or "nothing"
        raise UserError(f"a {kind} of {given}: pass two different contenders, as in --{kind} tfidf,lr")
    on_vectors: Mapping[str, Any] = next((q.settings for q in questions if "encoder" in q.settings), {})
    settings = {key: on_vectors[key] for key in OF_VECTORS if key in on_vectors}
    settings |= {
        "text_parts": len(dataset.train.texts[0]),
        "parts": kinds,
        "of": [question_digest(q) for q in questions],
    }
    digests = tuple(dict.fromkeys(digest for question in questions for digest in question.checkpoint_digests))
    return Question(kind, dataset, runs, seed, settings, VECTOR_DEFAULTS, digests)


def question_digest(question: Question) -> str:
    """What is asked of a part, as a digest: its settings, without the seed and what else is said better elsewhere."""
    return digest([question.kind, {k: v for k, v in question.settings.items() if k not in UNNAMED}])


def chosen_on(parts: Sequence[Run], option: str) -> str:
    """The role of the rows that none of the parts has learnt from: train, out of fold, or else validation.

    Raises UserError if there are none.
    """
    role = "train" if all("train" in part.predictions for part in parts) else "validation"
    if lacking := [part.kind for part in parts if role not in part.predictions]:
        raise UserError(
            f"{option}: {listed(lacking)} says nothing of rows that it did not learn from; leave it out, "
            "or keep rows for validation"
        )
    return role


def said_of(parts: Sequence[Run], dataset: Any, role: str) -> list[np.ndarray]:
    """What each part says of a role's rows: m arrays (n, k)."""
    ids = np.asarray(getattr(dataset, role).row_ids)
    aligned = [part.predictions[role].aligned_to(ids) for part in parts]
    assert all(one is not None for one in aligned), "parts are fitted on this very data set"
    return [one.proba for one in aligned if one is not None]


def _joined(parts: Sequence[Run], dataset: Any, seed: int) -> Fitted:
    """The parts' weights, and what they say together."""
    began = time.perf_counter()
    role = chosen_on(parts, "--stack")
    probabilities, truth = said_of(parts, dataset, role), np.asarray(getattr(dataset, role).labels, np.int64)
    groups = equal(map(normalize_whitespace, getattr(dataset, role).texts))
    rows = known(truth, groups)
    weights, loss = choose_weights([proba[rows] for proba in probabilities], truth[rows])
    model = StackModel(tuple(part.kind for part in parts), weights, tuple(dataset.class_names))
    shown = listed(f"{part.kind} {weight:.2f}" for part, weight in zip(parts, weights, strict=True))
    notes = [f"weights of the parts, by log loss {'out of fold' if role == 'train' else 'on validation'}: {shown}"]
    seconds = time.perf_counter() - began
    return Fitted(
        proba=lambda role: pool(said_of(parts, dataset, role), weights),
        roles=tuple(dataset.roles),
        save=lambda folder: model.save(folder, parts),
        cost=lambda: joint_cost(parts, seconds),
        out_of_fold=crossed(probabilities, truth, groups, rows, seed) if role == "train" else None,
        history=[{"what": "weights", "role": role, "weights": weights.tolist(), "log_loss": loss}],
        notes=tuple(notes),
        checkpoint_digest=next((part.checkpoint_digest for part in parts if part.checkpoint_digest), None),
    )


def known(labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Rows (r,) whose class has two different texts or more: no fold can know a class that has one. All, if none is."""
    pairs = np.unique(np.stack([labels, groups]), axis=1)[0]
    rows = np.flatnonzero(np.bincount(pairs, minlength=int(labels.max()) + 1)[labels] > 1)
    return rows if len(rows) else np.arange(len(labels))


def crossed(
    probabilities: Sequence[np.ndarray], truth: np.ndarray, groups: np.ndarray, rows: np.ndarray, seed: int
) -> np.ndarray:
    """What the stack says of train (n, k), the weights of each fold chosen on the other folds' rows."""
    folds = split(truth, groups, tuple(map(str, range(int(truth.max()) + 1))), 5, seed)
    joined = np.empty_like(probabilities[0])
    for fold in range(folds.count):
        learnt, held = np.intersect1d(folds.kept(fold), rows), folds.held(fold)
        weights, _ = choose_weights([proba[learnt] for proba in probabilities], truth[learnt])
        joined[held] = pool([proba[held] for proba in probabilities], weights)
    return joined


def joint_cost(parts: Sequence[Run], seconds: float) -> Cost:
    """The sum of the parts' costs and `seconds`; parts on the same vectors share their encoder, which counts once."""

    def total(name: str, shared: bool) -> float | None:
        values: dict[Any, float] = {}
        for place, part in enumerate(parts):
            key = part.checkpoint_digest if shared and "pooling" in part.settings else place
            value = getattr(part.cost, name)
            if value is None and name != "extract_seconds":  # what knows no encoder extracts nothing
                return None
            values[key] = max(values.get(key, 0.0), value or 0.0)
        return sum(values.values())

    parameters = total("trained_parameters", False)
    peaks = [part.cost.peak_rss_mb for part in parts if part.cost.peak_rss_mb is not None]
    fit = total("fit_seconds", False)
    return Cost(
        fit_seconds=None if fit is None else fit + seconds,
        extract_seconds=total("extract_seconds", True)
        if any(p.cost.extract_seconds is not None for p in parts)
        else None,
        cpu_seconds=total("cpu_seconds", False),
        peak_rss_mb=max(peaks, default=None),
        trained_parameters=None if parameters is None else int(parameters) + len(parts),
        model_mb=total("model_mb", True),
        ms_per_text_batch=total("ms_per_text_batch", True),
        ms_per_text_single=total("ms_per_text_single", True),
    )
