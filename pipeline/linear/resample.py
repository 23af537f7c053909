"""Answers to class imbalance that act on training rows: each is a row of a table, and only folds call them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .. import choose, listed

NEIGHBOURS = 5


@dataclass(frozen=True)
class Resampled:
    """Training rows after a sampler."""

    rows: np.ndarray  # (m, d) float32
    truth: np.ndarray  # (m,) int64
    notes: tuple[str, ...] = ()

    def prior(self, classes: int) -> np.ndarray:
        """Share of each class, (k,)."""
        return np.bincount(self.truth, minlength=classes) / len(self.truth)


Sampler = Callable[[np.ndarray, np.ndarray, int], tuple[np.ndarray, np.ndarray]]


def _smote(strategy: str) -> Sampler:
    def sample(rows: np.ndarray, truth: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        from imblearn.over_sampling import SMOTE

        counts = np.bincount(truth)
        counts = counts[counts > 0]
        if (strategy == "minority" and counts.min() == counts.max()) or len(counts) < 2:
            return rows, truth  # already balanced
        smallest = int(counts.min())
        neighbours = min(NEIGHBOURS, smallest - 1)
        sampler = SMOTE(sampling_strategy=strategy, k_neighbors=neighbours, random_state=seed)
        more, labels = sampler.fit_resample(rows, truth)
        return more, labels

    return sample


def _over(rows: np.ndarray, truth: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    from imblearn.over_sampling import RandomOverSampler

    more, labels = RandomOverSampler(random_state=seed).fit_resample(rows, truth)
    return more, labels


SAMPLERS: dict[str, Sampler] = {
    "smote": _smote("not majority"),  # every class up to the largest (Chawla et al. 2002)
    "smote-minority": _smote("minority"),  # the smallest class only
    "over": _over,  # repeats rows
}


def resample(name: str, rows: np.ndarray, truth: np.ndarray, class_names: tuple[str, ...], seed: int) -> Resampled:
    """`rows` (n, d) and `truth` (n,) after sampler `name`; what it had to do otherwise is in the notes.

    A class with one row is repeated once, so that it has a neighbour: its new rows are copies. A sampler that raises
    is skipped: the rows come back as they were.
    """
    sampler, notes = choose(SAMPLERS, name, "sampler"), []
    counts = np.bincount(truth, minlength=len(class_names))
    lonely = np.flatnonzero(counts == 1)
    given = rows, truth
    if len(lonely):
        copies = np.flatnonzero(np.isin(truth, lonely))
        given = np.concatenate([rows, rows[copies]]), np.concatenate([truth, truth[copies]])
        notes.append(f"one row only, repeated instead of interpolated: {listed(class_names[c] for c in lonely)}")
    try:
        new_rows, new_truth = sampler(given[0], given[1], seed)
    except Exception as error:  # whatever a sampler cannot do, the fit goes on without it
        return Resampled(rows, truth, (*notes, f"{name} was skipped: {type(error).__name__}: {error}".split("\n")[0]))
    return Resampled(np.ascontiguousarray(new_rows, np.float32), np.asarray(new_truth, np.int64), tuple(notes))


def balanced_weights(truth: np.ndarray, mask: np.ndarray, classes: int) -> np.ndarray:
    """`mask` (P, n) times n / (k · n_c) of each row's class, counted within each problem, (P, n) float32."""
    out = np.empty_like(mask, np.float32)
    for row, known in zip(out, mask, strict=True):
        counts = np.bincount(truth, known, classes)
        present = counts > 0
        factor = np.zeros(classes)
        factor[present] = counts.sum() / (present.sum() * counts[present])
        row[:] = known * factor[truth]
    return out
