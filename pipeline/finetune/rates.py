"""The learning rate of a fine-tuning: several start it together, and the one that does best on validation goes on."""

from __future__ import annotations

import gc
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .. import Progress
from ..metrics import scores
from ..words import counted
from .batches import HeldOut
from .job import DivergedError, TrainingState, advance, diverged
from .training import FineTuneSettings, Rows, TrainingJob, epochs_of, finite, log_losses, logits, steps_an_epoch

RATES = (2e-5, 5e-5, 1e-4)
SCRATCH_RATES = (1e-4, 3e-4, 1e-3)  # nothing pretrained can be spoilt
LORA_RATES = (2e-4, 5e-4, 1e-3)  # ten times as large (Schulman et al. 2025, LoRA Without Regret)
LAST_RUNG = 0.065  # share of the steps after which one rate is left; each rung before lies half as far
FEWEST_STEPS = 4  # of the first rung: the very first step is made at rate 0
JUDGED_SHARE, JUDGED = 0.012, (100, 1000)  # rows judged at each rung, for each row that is learnt from
FEW_ROWS = 100  # of train, on which a run says what chance decided


@dataclass(frozen=True)
class Search:
    """The learning rate that a search leaves, what it tried, and how far the training at that rate has come."""

    rate: float
    tried: list[dict[str, Any]]
    state: TrainingState
    folder: Path  # with the checkpoint to go on from


def rates_of(settings: FineTuneSettings) -> Sequence[float]:
    """The learning rates that start together, ascending; the middle one is taken where none can be chosen."""
    if settings.lora is not None:
        return LORA_RATES
    return SCRATCH_RATES if settings.from_scratch else RATES


def search_rate(make: Callable[[], Any], job: TrainingJob, rates: Sequence[float]) -> Search:
    """Successive halving (Jamieson and Talwalkar 2016) of `rates`, ascending: all start the very training that is
    meant, at each rung the worse half by validation log loss stops, and what the last one has learnt is kept.

    Of the last two the smaller rate goes on if it is not worse by more than one standard error of their difference
    over the rows (the one-standard-error rule of Breiman et al. 1984): early steps flatter large rates.

    Raises DivergedError if the training diverges at every rate.
    """
    steps, some = rungs(len(job.train), job.settings, len(rates)), judged_rows(job)
    states, tried = [TrainingState() for _ in rates], [_record(rate) for rate in rates]
    alive, done, total = list(range(len(rates))), 0, sum(steps_of_rungs(steps, len(rates)))
    checkpoints: list[Path | None] = [None for _ in rates]
    losses: dict[int, np.ndarray] = {}
    before = 0
    for step in steps:
        for place in alive:
            if place in losses and (states[place].finished(job.settings) or not np.isfinite(losses[place].mean())):
                continue  # nothing is left to train
            start = time.perf_counter()
            if states[0].history and not states[place].history:  # the same weights: they need not be judged again
                states[place].history = [dict(states[0].history[0])]
                states[place].looks = states[0].looks[:1]
            tell = partial(_told, job.progress, done - before, total)
            work = job.work / f"rate-{place}"
            one = replace(job, rate=rates[place], work=work, until=step, progress=tell)
            model = make()
            losses[place], found = _judged(model, one, states[place], checkpoints[place], some)
            checkpoints[place] = next(iter(one.work.glob("checkpoint-*")), None)
            done += step - before
            tried[place] |= {"steps": step, "log_loss": finite(losses[place].mean())}
            tried[place]["macro_f1"] = _macro_f1(found, some.labels, job.class_names)
            tried[place]["seconds"] = round(tried[place]["seconds"] + time.perf_counter() - start, 3)
            del model
            gc.collect()  # a Trainer and its model hold each other; three of them would lie side by side
        alive, before = survivors({place: losses[place] for place in alive}), step
    (winner,) = alive
    if not np.isfinite(losses[winner].mean()):
        raise diverged(1, rates[winner])
    return Search(rates[winner], tried, states[winner], job.work / f"rate-{winner}")


def _record(rate: float) -> dict[str, Any]:
    return {"search": "learning_rate", "learning_rate": rate, "seconds": 0.0}


def _told(progress: Progress, done: int, total: int, stage: str, step: int, steps: int) -> None:
    progress("learning rate", done + step, total)


def _judged(
    model: Any, job: TrainingJob, state: TrainingState, checkpoint: Path | None, some: Rows
) -> tuple[np.ndarray, np.ndarray]:
    """Log losses (n,) of rows and their logits (n, k) when a training has come to its rung; infinite if it diverged."""
    try:
        advance(model, job, state, checkpoint)
    except DivergedError:
        return np.full(len(some), np.inf), np.zeros((len(some), len(job.class_names)))
    found = logits(model, some, job.machine)
    return log_losses(found, some.labels), found


def survivors(losses: Mapping[int, np.ndarray]) -> list[int]:
    """The better half, by mean, of the places whose losses (n,) are given, ascending; of two, by `smallest_good`."""
    places = sorted(losses)
    if len(places) <= 2:
        return [places[smallest_good([losses[place] for place in places])]]
    best = sorted(places, key=lambda place: float(losses[place].mean()))
    return sorted(best[: -(-len(places) // 2)])


def rungs(rows: int, settings: FineTuneSettings, rates: int) -> list[int]:
    """The steps after which the worse half of `rates` rates stops, each once."""
    whole = steps_an_epoch(rows, settings) * epochs_of(settings, rows)
    count = max(1, math.ceil(math.log2(rates)))
    first = max(FEWEST_STEPS, round(LAST_RUNG * whole / 2 ** (count - 1)))
    return [min(whole, first * 2**rung) for rung in range(count)]


def steps_of_rungs(steps: Sequence[int], rates: int) -> list[int]:
    """Steps between each rung and the one before, of all the rates that are still trained."""
    alive = [rates]
    for _ in steps:
        alive.append(-(-alive[-1] // 2))
    return [count * (step - before) for count, step, before in zip(alive, steps, [0, *steps], strict=False)]


def judged_rows(job: TrainingJob) -> Rows:
    """The rows that rates are judged on: of validation, and those that train has held out."""
    assert job.validation is not None
    some = job.validation.joined(job.train.take(job.held.places))
    places = np.random.default_rng(job.settings.seed).permutation(len(some))[
        : judged_count(len(job.train), job.settings)
    ]
    return some.take(np.sort(places))


def judged_count(rows: int, settings: FineTuneSettings) -> int:
    low, high = JUDGED
    return max(low, min(high, round(JUDGED_SHARE * rows * epochs_of(settings, rows))))


def held_out(train: Rows, validation: Rows, settings: FineTuneSettings) -> HeldOut:
    """Rows of train that rates are judged on where validation has too few: a fifth of train at most.

    Their tokens are those of no other row of train, and they are not learnt from before the search has ended.
    """
    missing = min(JUDGED[0] - len(validation), len(train) // 5)
    if missing <= 0:
        return HeldOut()
    texts = [ids.tobytes() for ids in train.ids]
    times = Counter(texts)
    single = np.array([place for place, text in enumerate(texts) if times[text] == 1], np.int64)
    held = np.random.default_rng(settings.seed).permutation(single)[:missing]
    last = rungs(len(train), settings, len(RATES))[-1]
    return HeldOut(np.sort(held), -(-last // steps_an_epoch(len(train), settings)))


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


def row_passes(rows: int, settings: FineTuneSettings) -> int:
    """Rows that a whole fit on `rows` rows learns from, counted each time, the search included: what it costs."""
    step = settings.batch_size * settings.gradient_accumulation
    steps = rungs(rows, settings, len(RATES))
    searched = (sum(steps_of_rungs(steps, len(RATES))) - steps[-1]) * step if settings.learning_rate is None else 0
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
