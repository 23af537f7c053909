"""What no encoder is needed for: the majority class, and TF-IDF with logistic regression.

Both are cheap, both are contenders like any other, and the second is often the one to beat.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from . import Progress, silent
from .data.splits import normalize_whitespace
from .linear import timed
from .linear.calibrate import log_softmax
from .linear.folds import equal, split
from .linear.probe import softmax
from .linear.search import full, search, shared_block
from .linear.solver import Solution, own_axes, solve
from .linear.tune import all_classes
from .run import Cost, Fit, Fitted, Question, Run
from .run.model import Layout, damaged, read_model, write_model

WORD = re.compile(r"\b\w\w+\b")  # scikit-learn's idea of a word
GRID = (3.0, 10.0, 30.0, 100.0)
MOST = 100_000  # words and pairs that a vocabulary keeps, the most frequent
LARGE = 10_000_000  # weights of all folds (100 bytes each) from which on they are fitted one after the other
MAJORITY = Layout("majority")
TFIDF = Layout("tfidf", {"idf": "q", "W": "kq", "b": "k"}, lists={"k": "class_names", "q": "vocabulary"})
ENOUGH = 1e-7  # how far above its minimum the final mean loss may stay


@dataclass(frozen=True)
class TfidfSettings:
    """What the TF-IDF contender depends on; hashed."""

    C: tuple[float, ...] | None = None
    folds: int = 5
    min_df: int = 2  # texts that must hold a word or pair of words; 1 where that leaves nothing
    seed: int = 42


# ── majority ────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class MajorityModel:
    """The class shares of train, whatever the text."""

    prior: np.ndarray  # (k,) float32, sums to 1
    class_names: tuple[str, ...]

    def proba(self, texts: Sequence[tuple[str, ...]]) -> np.ndarray:
        """Probabilities (n, k) float32, n times the same."""
        return np.tile(self.prior, (len(texts), 1))

    def save(self, folder: Path) -> None:
        """Write the model into `folder`."""
        write_model(folder, MAJORITY, self, prior=self.prior.astype(float).tolist())

    @classmethod
    def load(cls, folder: Path | str) -> MajorityModel:
        """Read a model.

        Raises UserError if it is missing or damaged.
        """
        record, values = read_model(folder, MAJORITY)
        with damaged(folder):
            prior = np.array(record["prior"], np.float32)
            if prior.shape != (len(values["class_names"]),) or not np.isfinite(prior).all() or (prior < 0).any():
                raise ValueError("prior does not fit class_names")
        return cls(prior, **values)


def majority_fit(dataset: Any, runs: Path, seed: int = 42) -> Fit:
    """The fit of a run that knows only how often each class occurs in train."""

    def learn(_: Path) -> Fitted:
        labels, k = np.asarray(dataset.train.labels, np.int64), len(dataset.class_names)
        groups = equal(map(normalize_whitespace, dataset.train.texts))
        folds = split(labels, groups, tuple(dataset.class_names), 5, seed)
        shares = np.stack([np.bincount(labels[folds.kept(fold)], minlength=k) for fold in range(folds.count)])
        shares = shares / shares.sum(1, keepdims=True)
        model = MajorityModel((np.bincount(labels, minlength=k) / len(labels)).astype(np.float32), dataset.class_names)
        return Fitted(
            proba=lambda role: model.proba(getattr(dataset, role).texts),
            roles=tuple(dataset.roles),
            save=model.save,
            cost=lambda: Cost(trained_parameters=k, ms_per_text_batch=0.0, ms_per_text_single=0.0),
            out_of_fold=shares[folds.place].astype(np.float32),
            notes=folds.notes,
        )

    return Fit(Question("majority", dataset, runs, seed), learn)


def fit_majority(dataset: Any, runs: Path, seed: int = 42) -> Run:
    """The run that knows only how often each class occurs in train.

    Raises UserError if train has one class only.
    """
    return majority_fit(dataset, runs, seed).run()


# ── TF-IDF ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def words(texts: tuple[str, ...]) -> list[str]:
    """Words and pairs of neighbouring words of one row, in lower case; of a pair of texts each side has its own."""
    found = []
    for side, text in enumerate(texts):
        mark = f"{side}:" if len(texts) > 1 else ""
        single = WORD.findall(text.lower())
        found += [mark + word for word in single]
        found += [f"{mark}{a} {b}" for a, b in pairwise(single)]
    return found


@dataclass(frozen=True)
class TfidfModel:
    """softmax(tfidf(texts) Wᵀ + b): sublinear counts, smooth idf, rows of length 1, as scikit-learn has them."""

    vocabulary: tuple[str, ...]  # q words and pairs of words, in column order
    idf: np.ndarray  # (q,) float32
    W: np.ndarray  # (k, q) float32
    b: np.ndarray  # (k,) float32
    class_names: tuple[str, ...]

    def rows(self, texts: Sequence[tuple[str, ...]]) -> Any:
        """The texts as a CSR matrix (n, q) float32; words that train did not have are left out."""
        return weigh(count(texts, self.places), self.idf)

    @cached_property
    def places(self) -> dict[str, int]:
        """Column of each word."""
        return {word: place for place, word in enumerate(self.vocabulary)}

    def proba(self, texts: Sequence[tuple[str, ...]]) -> np.ndarray:
        """Probabilities (n, k) float32."""
        return softmax(np.asarray(self.rows(texts) @ self.W.T, np.float32).reshape(len(texts), -1) + self.b)

    def save(self, folder: Path) -> None:
        """Write the model into `folder`."""
        write_model(folder, TFIDF, self)

    @classmethod
    def load(cls, folder: Path | str) -> TfidfModel:
        """Read a model.

        Raises UserError if a file is missing or damaged. Nothing in it is executed.
        """
        return cls(**read_model(folder, TFIDF)[1])


def count(texts: Sequence[tuple[str, ...]], vocabulary: dict[str, int]) -> Any:
    """How often each word of `vocabulary` occurs in each text, a CSR matrix (n, q) float32 with sorted columns."""
    from scipy import sparse

    columns, ends = [], [0]
    for row in texts:
        columns += [place for word in words(row) if (place := vocabulary.get(word)) is not None]
        ends.append(len(columns))
    shape = len(texts), len(vocabulary)
    counted = sparse.csr_matrix((np.ones(len(columns), np.float32), columns, ends), shape)
    counted.sum_duplicates()
    return counted


def weigh(counted: Any, idf: np.ndarray) -> Any:
    """(1 + log count) · idf, each row divided by its length; rows without a known word stay empty."""
    out = counted.copy()
    out.data = (1 + np.log(out.data)) * idf[out.indices]
    lengths = np.sqrt(np.asarray(out.multiply(out).sum(1)).ravel())
    out.data /= np.repeat(np.where(lengths > 0, lengths, 1), np.diff(out.indptr)).astype(np.float32)
    return out


def vocabulary_of(texts: Sequence[tuple[str, ...]], min_df: int) -> tuple[tuple[str, ...], np.ndarray]:
    """Words and pairs of words in at least `min_df` of the texts, in alphabetical order, and their smooth idf (q,)."""
    seen: dict[str, int] = {}
    for row in texts:
        for word in set(words(row)):
            seen[word] = seen.get(word, 0) + 1
    frequent = sorted((-times, word) for word, times in seen.items() if times >= min_df)[:MOST]
    kept = sorted(word for _, word in frequent)
    times = np.array([seen[word] for word in kept], np.float64)
    return tuple(kept), (np.log((1 + len(texts)) / (1 + times)) + 1).astype(np.float32)


def reads_pairs(vocabulary: tuple[str, ...]) -> bool:
    """Whether a vocabulary marks the sides of a pair: no single word has a colon in it."""
    return any(word.startswith(("0:", "1:")) for word in vocabulary)


def tfidf_fit(dataset: Any, settings: TfidfSettings, runs: Path, progress: Progress = silent) -> Fit:
    """The fit of logistic regression on TF-IDF.

    Folds and the choice of C are those of the vectors' logistic regression. The vocabulary and its idf (which see no
    label) are taken from train once, so that the folds share one matrix.
    """
    texts, k = dataset.train.texts, len(dataset.class_names)
    asked = asdict(settings) | {"text_parts": len(texts[0])}
    question = Question("tfidf", dataset, runs, settings.seed, asked, asdict(TfidfSettings()) | {"text_parts": 1})

    def learn(_: Path) -> Fitted:
        labels = np.asarray(dataset.train.labels, np.int64)
        model, proba, history, notes = fit(texts, labels, dataset.class_names, settings, progress)
        sample = texts[:1024]
        return Fitted(
            proba=lambda role: model.proba(getattr(dataset, role).texts),
            roles=tuple(dataset.roles),
            save=model.save,
            cost=lambda: Cost(
                trained_parameters=(1 if k == 2 else k) * (len(model.vocabulary) + 1),
                ms_per_text_batch=timed(lambda: model.proba(sample)) / len(sample),
                ms_per_text_single=timed(lambda: model.proba(sample[:1])),
            ),
            out_of_fold=proba,
            history=history,
            notes=notes,
        )

    return Fit(question, learn)


def fit_tfidf(dataset: Any, settings: TfidfSettings, runs: Path, progress: Progress = silent) -> Run:
    """The run of logistic regression on TF-IDF: found if it has been fitted, else fitted.

    Raises UserError if train has one class only.
    """
    return tfidf_fit(dataset, settings, runs, progress).run()


def fit(
    texts: Sequence[tuple[str, ...]],
    labels: np.ndarray,
    class_names: tuple[str, ...],
    settings: TfidfSettings,
    progress: Progress = silent,
) -> tuple[TfidfModel, np.ndarray, list[dict[str, Any]], tuple[str, ...]]:
    """Model, out-of-fold probabilities (n, k), history and notes of TF-IDF on `texts` with `labels` (n,)."""
    k = len(class_names)
    present, truth = np.unique(labels, return_inverse=True)
    folds = split(labels, equal(map(normalize_whitespace, texts)), tuple(class_names), settings.folds, settings.seed)
    vocabulary, idf = vocabulary_of(texts, settings.min_df)
    if not vocabulary:
        vocabulary, idf = vocabulary_of(texts, 1)
    notes = [*folds.notes, "the folds share one vocabulary and idf, taken from train without its labels"]
    if not vocabulary:
        notes.append("no text of train has a word of two letters or more: TF-IDF is the majority class here")
    axes = own_axes(weigh(count(texts, {word: place for place, word in enumerate(vocabulary)}), idf))
    large = folds.count * len(present) * len(vocabulary) > LARGE
    block = shared_block(axes, truth, folds, folds.weights())
    found = search(
        block.apart() if large else [block],
        truth,
        folds,
        len(present),
        settings.C,
        GRID,
        tick=lambda done, total: progress("fit tfidf", done, total),
    )
    began = time.perf_counter()
    everything, start = np.ones((1, len(truth)), np.float32), np.concatenate(found.stacked).mean(0, keepdims=True)
    final = solve(axes, truth, everything, found.C, len(present), start, ENOUGH)
    if not final.converged[0]:
        notes.append(f"the final fit did not converge in {final.iterations[0]} iterations")
    record = {
        "what": "final",
        "C": found.C,
        "iterations": int(final.iterations[0]),
        "converged": bool(final.converged[0]),
        "gap": float(final.gap[0]),
        "seconds": time.perf_counter() - began,
    }
    proba = np.zeros((len(truth), k), np.float32)
    proba[:, present] = np.exp(log_softmax(found.logits))
    model = _model(vocabulary, idf, final, present, class_names)
    return model, proba, [*found.points, record], (*notes, *found.notes)


def fit_at(
    texts: Sequence[tuple[str, ...]], labels: np.ndarray, class_names: tuple[str, ...], C: float, min_df: int = 2
) -> TfidfModel:
    """TF-IDF on `texts` with `labels` (n,) of two classes or more, at a C that is known already: one fit, no folds."""
    present, truth = np.unique(labels, return_inverse=True)
    vocabulary, idf = vocabulary_of(texts, min_df)
    if not vocabulary:
        vocabulary, idf = vocabulary_of(texts, 1)
    axes = own_axes(weigh(count(texts, {word: place for place, word in enumerate(vocabulary)}), idf))
    once = np.ones((1, len(truth)), np.float32)
    return _model(vocabulary, idf, solve(axes, truth, once, C, len(present), None, ENOUGH), present, class_names)


def _model(
    vocabulary: tuple[str, ...], idf: np.ndarray, fitted: Solution, present: np.ndarray, class_names: Sequence[str]
) -> TfidfModel:
    """The model of one solution; classes that are not `present` (c,) are never predicted."""
    weights = full(fitted.stacked[0].T).T  # (c, q + 1)
    return TfidfModel(
        vocabulary, idf, *all_classes(weights[:, :-1], weights[:, -1], present, len(class_names)), tuple(class_names)
    )
