"""The learning rate of a fine-tuning, chosen on validation in short runs of the same training."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..metrics import scores
from .heads import isolated, quiet
from .job import TrainingJob
from .training import FineTuneSettings, finite, log_losses, logits, trainer_for

RATES = (2e-5, 5e-5, 1e-4)
SCRATCH_RATES = (1e-4, 3e-4, 1e-3)  # nothing pretrained can be spoilt
SEARCH_SHARE, SEARCH_STEPS, SEARCH_ROWS = 0.15, (20, 150), 1000


def search_rate(
    make: Callable[[], Any], job: TrainingJob, rates: Sequence[float]
) -> tuple[float, list[dict[str, Any]]]:
    """The learning rate to train with, and what was tried: a short run of each rate, judged by validation log loss.

    The smallest rate that is not worse than the best by more than one standard error of their difference over the
    rows (the one-standard-error rule of Breiman et al. 1984): short runs flatter large rates.
    """
    assert job.validation is not None
    settings, tried, losses = job.settings, [], []
    steps = search_steps(len(job.train), settings)
    places = np.sort(np.random.default_rng(settings.seed).permutation(len(job.validation))[:SEARCH_ROWS])
    some = job.validation.take(places)
    for number, rate in enumerate(rates):
        start = time.perf_counter()
        found = _short_run(make(), job, rate, steps, (number, len(rates)))
        found = logits(found, some, job.machine)
        gc.collect()  # a Trainer and its model hold each other; three of them would lie side by side
        losses.append(log_losses(found, some.labels))
        f1 = _macro_f1(found, some.labels, job.class_names)
        tried.append(
            {
                "search": "learning_rate",
                "learning_rate": rate,
                "steps": steps,
                "log_loss": finite(losses[-1].mean()),
                "macro_f1": f1,
                "seconds": round(time.perf_counter() - start, 3),
            }
        )
    return rates[smallest_good(losses)], tried


def search_steps(rows: int, settings: FineTuneSettings) -> int:
    """Steps of one short run: 15 % of the real one's, between 20 and 150, never more than the real one's."""
    per_epoch = max(1, -(-rows // (settings.batch_size * settings.gradient_accumulation)))
    whole = per_epoch * settings.epochs
    low, high = SEARCH_STEPS
    return min(whole, max(low, min(high, round(SEARCH_SHARE * whole))))


def row_passes(rows: int, settings: FineTuneSettings) -> int:
    """Rows that a whole fit on `rows` rows learns from, counted each time, the search included: what it costs."""
    step = settings.batch_size * settings.gradient_accumulation
    searched = len(RATES) * search_steps(rows, settings) * step if settings.learning_rate is None else 0
    return rows * settings.epochs + searched


def smallest_good(losses: Sequence[np.ndarray]) -> int:
    """Place of the first of `losses` (each (n,)) whose mean is within one standard error of the lowest mean."""
    means = [float(loss.mean()) for loss in losses]
    best = int(np.argmin(means))
    if not np.isfinite(means[best]):
        return 0
    for place, loss in enumerate(losses):
        if np.isfinite(means[place]):
            difference = loss - losses[best]
            if difference.mean() <= difference.std(ddof=1) / np.sqrt(len(loss)) if len(loss) > 1 else place == best:
                return place
    return best


def _macro_f1(found: np.ndarray, labels: np.ndarray, class_names: tuple[str, ...]) -> float:
    onehot = np.eye(found.shape[1])[np.nan_to_num(found).argmax(1)]
    return float(scores(labels, onehot, class_names, names=("macro_f1",))["macro_f1"])


def _short_run(model: Any, job: TrainingJob, rate: float, steps: int, place: tuple[int, int]) -> Any:
    from transformers import TrainerCallback

    class Ticker(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            job.progress("learning rate", place[0] * steps + state.global_step, place[1] * steps)

    with quiet(), isolated(job.settings.seed):
        trainer = trainer_for(model, job.train, job.settings, rate, job.machine, job.work, Ticker(), steps)
        trainer.train()
    return model
