"""Runs made by hand from arrays: what the tests of verdicts compare."""

import numpy as np

from pipeline.run import Cost, Predictions, Run
from pipeline.verdict import Comparison, compare

COSTS = {
    "majority": Cost(0.0, None, ms_per_text_batch=0.0),
    "tfidf": Cost(3.0, None, ms_per_text_batch=0.02),
    "lr": Cost(10.0, 10.0, ms_per_text_batch=3.0),
    "lr+smote": Cost(12.0, 10.0, ms_per_text_batch=3.0),
    "fine-tune": Cost(900.0, None, ms_per_text_batch=3.0),
}


def run(kind: str, truth: np.ndarray, predicted: np.ndarray, role: str = "test", **more) -> Run:
    """A run that gives 0.9 to the class it predicts."""
    k = more.pop("classes", int(truth.max()) + 1)
    proba = np.full((len(truth), k), 0.1 / (k - 1), np.float32)
    proba[np.arange(len(truth)), predicted] = 0.9
    ids = np.array([f"{role}:{i}" for i in range(len(truth))])
    return Run(
        kind=kind,
        settings=more.pop("settings", {}),
        class_names=tuple("abcdefghij"[:k]),
        predictions={role: Predictions(role, ids, truth, proba)},
        cost=more.pop("cost", COSTS.get(kind, Cost())),
        dataset="d",
        dataset_digest="0" * 16,
        **more,
    )


def wrong_on(truth: np.ndarray, *ranges: tuple[int, int]) -> np.ndarray:
    """The truth, except on rows `start` to `stop`."""
    predicted = truth.copy()
    for start, stop in ranges:
        predicted[start:stop] = (truth[start:stop] + 1) % (truth.max() + 1)
    return predicted


TRUTH = np.arange(1000) % 2


def field(**wrong: tuple[int, int]) -> list[Run]:
    """Runs that are wrong on the given range of 1,000 rows; `majority` always says class 0."""
    runs = [run(kind.replace("_", "-"), TRUTH, wrong_on(TRUTH, rows)) for kind, rows in wrong.items()]
    return [run("majority", TRUTH, np.zeros_like(TRUTH)), *runs]


def quick(runs, **options) -> Comparison:
    return compare(runs, draws=options.pop("draws", 500), row_draws=options.pop("row_draws", 100), **options)
