"""The majority class: what a score is worth is seen against it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .data.splits import normalize_whitespace
from .linear.folds import equal, split
from .run import Cost, Fit, Fitted, Question
from .run.model import Layout, damaged, read_model, write_model

MAJORITY = Layout("majority")


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
