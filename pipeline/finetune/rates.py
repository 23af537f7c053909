"""The learning rate of a fine-tuning, chosen on validation in short runs of the same training."""

from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..metrics import scores
from ..words import counted
from .heads import isolated, quiet
from .job import TrainingJob
from .training import FineTuneSettings, epochs_of, finite, log_losses, logits, steps_an_epoch, trainer_for

RATES = (2e-5, 5e-5, 1e-4)
SCRATCH_RATES = (1e-4, 3e-4, 1e-3)  # nothing pretrained can be spoilt
SEARCH_SHARE, SEARCH_STEPS, SEARCH_ROWS = 0.15, (20, 150), 1000
JUDGED_ROWS = 200  # of validation, and of train where it has fewer: on 10 rows chance chooses a rate
FEW_ROWS = 100  # of train, on which a run says what chance decided


def search_rate(
    make: Callable[[], Any], job: TrainingJob, rates: Sequence[float]
) -> tuple[float, list[dict[str, Any]]]:
    """The learning rate to train with, and what was tried: a short run of each rate, judged by validation log loss.

    The smallest rate that is not worse than the best by more than one standard error of their difference over the
    rows (the one-standard-error rule of Breiman et al. 1984): short runs flatter large rates.
    """
    settings, tried, losses = job.settings, [], []
    steps = search_steps(len(job.train), settings)
    job = with_held_out(job)
    assert job.validation is not None
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


def with_held_out(job: TrainingJob) -> TrainingJob:
    """The same training, judged on at least `JUDGED_ROWS` rows where a fifth of train makes them up.

    Held out are rows whose tokens no other row of train has: what is judged is nowhere learnt.
    """
    assert job.validation is not None
    missing = min(JUDGED_ROWS - len(job.validation), len(job.train) // 5)
    if missing <= 0:
        return job
    texts = [ids.tobytes() for ids in job.train.ids]
    times = Counter(texts)
    single = np.array([place for place, text in enumerate(texts) if times[text] == 1], np.int64)
    held = np.random.default_rng(job.settings.seed).permutation(single)[:missing]
    learnt = np.setdiff1d(np.arange(len(texts)), held)
    return replace(job, train=job.train.take(learnt), validation=job.validation.joined(job.train.take(held)))


def by_chance(train: int, validation: int) -> tuple[str, ...]:
    """What a run on `train` rows owes to chance, for whoever reads it: nothing to say above `FEW_ROWS`."""
    if train > FEW_ROWS:
        return ()
    judged = ""
    if validation:
        error = 50 / np.sqrt(validation)  # percentage points, of a share near one half
        judged = (
            f", and an epoch chosen on {counted(validation, 'row')}, where {error:.0f} points are one standard error"
        )
    return (
        f"{counted(train, 'row')} to learn from: chance decides much of this run{judged}; --seeds 5 shows how much",
    )


def search_steps(rows: int, settings: FineTuneSettings) -> int:
    """Steps of one short run: 15 % of the real one's, between 20 and 150, never more than the real one's."""
    whole = steps_an_epoch(rows, settings) * epochs_of(settings, rows)
    low, high = SEARCH_STEPS
    return min(whole, max(low, min(high, round(SEARCH_SHARE * whole))))


def row_passes(rows: int, settings: FineTuneSettings) -> int:
    """Rows that a whole fit on `rows` rows learns from, counted each time, the search included: what it costs."""
    step = settings.batch_size * settings.gradient_accumulation
    searched = len(RATES) * search_steps(rows, settings) * step if settings.learning_rate is None else 0
    return rows * epochs_of(settings, rows) + searched


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
