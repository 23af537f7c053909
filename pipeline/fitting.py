"""What exists already, about how long the rest takes, and what of it fits into a budget of time."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from . import UserError, kinds, listed, log
from .contenders import estimates, fit, fits_of, linear_runs, tuned_runs
from .encoder import POOLERS, Checkpoint, EncoderSpec, locate
from .encoder.ahead import converting
from .encoder.hardware import cores
from .encoder.pooling import NORMALIZED, base, pairs
from .estimates import to_convert
from .finetune import check as check_tuning
from .finetune import kind_of as kind_of_tuning
from .finetune.training import epochs_of
from .kinds import kind_row
from .linear import kind_of as kind_of_linear
from .linear.tune import check as check_linear
from .run import Run, answer, ended, runs_of
from .store.remote import url_of
from .task import Task
from .verdict.results import fit_key
from .words import format_duration, roughly

LASTS = 3.0  # seconds of fits, below which a process beside them gains nothing
UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600}


def seconds_of(text: str) -> float:
    """Seconds of `90s`, `20m`, `1.5h` or `1h30m`.

    Raises ValueError, with what to write, for anything else: a bare number might mean seconds or minutes.
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*(min|s|m|h)", text.strip().lower())
    complete = re.fullmatch(r"(?:\s*\d+(?:\.\d+)?\s*(?:min|s|m|h))+\s*", text.strip().lower())
    if re.fullmatch(r"\s*\d+(\.\d+)?\s*", text):
        raise ValueError(f"seconds, minutes or hours? write {text.strip()}s, {text.strip()}m or {text.strip()}h")
    total = sum(float(number) * UNITS[unit] for number, unit in parts)
    if not complete or not total > 0:
        raise ValueError("no time; write 90s, 20m, 2h or 1h30m")
    return total


@dataclass(frozen=True)
class Estimate:
    """What one contender will take."""

    alone: float  # seconds if nothing of it is there
    missing: float  # share of it that is not there, 0 to 1

    @property
    def seconds(self) -> float:
        return self.alone * self.missing


def remaining(task: Task, names: tuple[str, ...]) -> dict[str, Estimate]:
    """What each contender will take; `extract` first if vectors are missing and one that is not there needs them."""
    alone = estimates(task, names)
    each = {name: Estimate(alone[name], missing(task, name)) for name in names}
    wanted = "extract" in alone and any(needs_extraction(n, each) for n in names)
    extract = {"extract": Estimate(alone["extract"], 1.0)} if wanted else {}
    return extract | each


def missing(task: Task, name: str) -> float:
    """Share of a contender's runs that have not been fitted with these settings, 0 to 1."""
    fits = list(fits_of(task, name))
    return sum(answer(fit.question) is None for fit in fits) / max(1, len(fits))


# ── what exists ───────────────────────────────────────────────────────────────────────────────────────────────────


def present(task: Task, names: Iterable[str]) -> list[Run]:
    """The runs of these kinds that are there for exactly these rows, encoders and lengths of text, oldest first.

    Raises UserError for an encoder that cannot be found and that one of these kinds reads.
    """
    wanted = tuple(names)
    if not task.vectors and any(kinds.kind_row(name).needs_encoder for name in wanted):
        for spec in task.encoders:
            locate(spec)
    limits, encoders = limits_of(task), {None, *digests_of(task)}
    candidates = [
        run
        for run in runs_of(task.runs, task.dataset.name, task.dataset.digest)
        if run.checkpoint_digest in encoders and any(kinds.covers(name, run.kind) for name in wanted)
    ]
    complete = {(fit_key(run), run.seed) for run in candidates if not ended(run)}
    candidates = [run for run in candidates if not (ended(run) and (fit_key(run), run.seed) in complete)]
    cut = {str(run.settings["max_length"]) for run in candidates if run.settings.get("max_length") not in limits}
    if cut:
        log.info("runs on texts cut at %s tokens are left out; --max-length names one", listed(sorted(cut)))
    return [run for run in candidates if run.settings.get("max_length") in limits]


def digests_of(task: Task) -> set[str]:
    """Of the task's encoders, under every pooling that a run may have."""
    digests: set[str] = {file.digest for file in task.vectors}
    for checkpoint, spec in located(task):
        several = checkpoint.auto_poolings
        usual = (*POOLERS, *(name + NORMALIZED for name in POOLERS), "cls+mean", *several, *pairs(several))
        names = [name for name in usual if not (checkpoint.is_decoder and base(name) == "cls")]
        for read in (checkpoint, replace(checkpoint, prompt="")):  # fine-tuning knows no prompts
            digests |= {read.checkpoint_digest(name) for name in (*names, *read.resolved(spec.pooling))}
    return digests


def limits_of(task: Task) -> set[int | None]:
    """How long texts may be in runs of this task; None: runs that know no tokens."""
    return {None, *(checkpoint.max_length for checkpoint, _ in located(task))}


def located(task: Task) -> list[tuple[Checkpoint, EncoderSpec]]:
    """The task's encoders; without those that cannot be found: who reads them has said so before."""
    opened = []
    for spec in task.encoders:
        with contextlib.suppress(UserError):
            opened.append((locate(spec), spec))
    return opened


def absent(names: Sequence[str], runs: Sequence[Run]) -> list[str]:
    """Which contenders have no run, and why; none of them where all that there may be were asked for (`report`)."""
    if set(kinds.names(numbered=False)) <= set(names):
        return []
    missed = [name for name in names if not any(kinds.covers(name, run.kind) for run in runs)]
    return [f"{name}: not fitted, and --only-existing fits nothing" for name in missed]


def too_few(task: Task, runs: Sequence[Run]) -> UserError:
    existing = listed(run.kind for run in runs) or "none"
    return UserError(
        f"{task.runs}: {len(runs)} of the runs to compare exist for {task.dataset.name} ({existing}); "
        "leave out --only-existing to fit the rest"
    )


def together(runs: Sequence[Run], external_runs: Sequence[Run]) -> list[Run]:
    """Runs and external ones, each folder once; what lies in none, each."""
    folders: dict[Path | int, Run] = {}
    for number, run in enumerate((*runs, *external_runs)):
        folders.setdefault(number if run.folder is None else run.folder.resolve(), run)
    return list(folders.values())


# ── a budget ────────────────────────────────────────────────────────────────────────────────────────────────────────


def within(prospects: dict[str, Estimate], budget: float) -> tuple[list[str], dict[str, str]]:
    """Contenders that fit into `budget` seconds together, the quickest first, and why each of the others does not.

    Extraction is paid by the first that needs vectors. Raises UserError if nothing fits.
    """
    extract = prospects["extract"].seconds if "extract" in prospects else 0.0
    names = [name for name in prospects if name != "extract"]
    taken: list[str] = []
    left_out: dict[str, str] = {}
    spent, extracted = 0.0, False
    for name in sorted(names, key=lambda name: price(name, prospects, extract)):
        cost = price(name, prospects, 0.0 if extracted else extract)
        if spent + cost > budget:
            rest = f"{format_duration(budget - spent)} of {format_duration(budget)} are left"
            left_out[name] = f"{name}: takes {roughly(cost)}, {rest}"
            continue
        taken.append(name)
        spent += cost
        extracted = extracted or needs_extraction(name, prospects)
    if not taken:
        least = min(price(name, prospects, extract) for name in names)
        raise UserError(
            f"nothing of {listed(names)} fits into {format_duration(budget)}; "
            f"the quickest takes {roughly(least)}: "
            "pass a larger --budget"
        )
    return taken, left_out


def needs_extraction(name: str, prospects: dict[str, Estimate]) -> bool:
    return kind_row(name).needs_vectors and prospects[name].missing > 0


def price(name: str, prospects: dict[str, Estimate], extract: float) -> float:
    """Seconds of one contender, with those of extraction if it needs vectors."""
    return prospects[name].seconds + (extract if needs_extraction(name, prospects) else 0.0)


def remedy(task: Task, name: str, seconds: float) -> str:
    """How fine-tuning would fit into `seconds`: shorter, at a learning rate not searched for; "" if it would not."""
    if not kinds.tuned(name) or task.tuning.freeze:
        return ""
    rate = task.tuning.learning_rate or kinds.learning_rate(name) or 1e-4
    train, classes = task.dataset.train, len(task.dataset.class_names)
    for epochs in range(epochs_of(task.tuning, len(train), classes), 0, -1):
        shorter = replace(task, tuning=replace(task.tuning, epochs=epochs, learning_rate=rate), seeds=1)
        needed = estimates(shorter, (name,))[name]
        if needed <= seconds:
            once = " --seeds 1" if task.seeds > 1 else ""
            return f"--epochs {epochs} --learning-rate {rate:g}{once} would take {roughly(needed)}"
    return ""


# ── fitting ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def fitted(task: Task, names: tuple[str, ...], budget: float | None = None) -> tuple[list[Run], list[str]]:
    """Every contender's runs, loaded or fitted; says before it starts which, and about how long that takes.

    With a `budget` (seconds) the quickest come first, and what does not fit, by estimate or as it turns out, is left
    out: the second list says what, and why.
    """
    started = time.monotonic()
    prospects = remaining(task, names)
    left_out: list[str] = []
    if budget is not None:
        taken, reasons = within(prospects, budget)
        names = tuple(taken)
        spent = sum(prospects[name].seconds for name in names)
        left_out += [advised(task, name, why, budget - spent) for name, why in reasons.items()]
    for line in announcement(task, names, prospects, left_out):
        log.info(line)
    runs: list[Run] = []
    pending = prospects["extract"].seconds if "extract" in prospects else 0.0
    planned = {name: prospects[name].seconds for name in ("extract", *names) if name in prospects}
    with converted_meanwhile(task, planned) as wait:
        for name in sorted(dict.fromkeys(names), key=turn):
            left = None if budget is None else budget - (time.monotonic() - started)
            needed = price(name, prospects, pending)
            if runs and left is not None and needed > max(left, 0.0):
                why = f"{name}: takes {roughly(needed)}, but the others took longer than planned"
                left_out.append(advised(task, name, why, left))
                continue
            if needs_extraction(name, prospects):
                wait()
                pending = 0.0
            for run in fit(task, name):
                log.info("%s: %s", run.kind, run.folder)
                runs.append(run)
    return runs, left_out


def turn(name: str) -> tuple[bool, bool]:
    """Where a contender stands in line: what trains an encoder is held against all others, what reads no vectors needs
    not wait for them."""
    return kind_row(name).expensive, kind_row(name).needs_vectors


def converted_meanwhile(task: Task, seconds: Mapping[str, float]) -> AbstractContextManager[Callable[[], Any]]:
    """Have the first encoder converted beside fits that read no vectors, if there are some that last and a processor
    is free; what is entered gives waits for it. `seconds` are those of each contender, and of `extract`, if it waits.
    """
    first = sum(taken for name, taken in seconds.items() if name != "extract" and turn(name) == (False, False))
    if "extract" in seconds and first > LASTS and cores() > 1 and not (task.vectors or url_of(task.cache)):
        spec = task.encoders[0]
        checkpoint = locate(spec)
        if to_convert(checkpoint, spec, task.runtime, task.cache):
            return converting(checkpoint, checkpoint.poolings(spec.pooling), task.cache)
    return contextlib.nullcontext(lambda: None)


def fit_linear(task: Task) -> list[Run]:
    """Logistic regression as the task's linear settings say it, announced first.

    Raises UserError for an unknown setting, and where a fit does.
    """
    for settings in task.linear:
        check_linear(settings, len(task.dataset.class_names))
    announce(task, tuple(dict.fromkeys(map(kind_of_linear, task.linear))))
    return linear_runs(task)


def fit_tuned(task: Task) -> list[Run]:
    """Fine-tuning as the task's settings say it, announced first.

    Raises UserError for settings that make no sense, and where a fit does.
    """
    check_tuning(task.tuning)
    announce(task, (kind_of_tuning(task.tuning),))
    return tuned_runs(task)


def held_against_cheap(task: Task, names: Sequence[str], metric: str, margin: float) -> Task:
    """The task with what fine-tuning has to beat, or is ended. Raises UserError where nothing is cheap."""
    cheap = tuple(name for name in names if not kind_row(name).expensive)
    if not cheap:
        raise UserError(
            "--stop-hopeless holds fine-tuning against what is cheap, and nothing is: add lr to --contenders"
        )
    if "validation" not in task.dataset.roles:
        log.info("--stop-hopeless: no validation rows that all have not learnt from; each training goes to its end")
        return task
    return replace(task, held_against=(cheap, metric, margin))


def announce(task: Task, names: tuple[str, ...]) -> None:
    """Say what will be fitted, and about how long that takes."""
    for line in announcement(task, names, remaining(task, names)):
        log.info(line)


def advised(task: Task, name: str, why: str, seconds: float) -> str:
    """The reason for which a contender is left out, with what would let it in."""
    way = remedy(task, name, seconds)
    return f"{why}; {way}" if way else why


def announcement(
    task: Task, names: Sequence[str], prospects: dict[str, Estimate], left_out: Sequence[str] = ()
) -> list[str]:
    """What will be fitted and about how long it takes, one line each."""
    lines = [f"{task.dataset.name}: {len(task.dataset.train.texts):,} rows to learn from, {listed(names)}"]
    total, width = 0.0, max(10, *map(len, names))
    for name in ("extract", *names):
        if name not in prospects:
            continue
        at, says = prospects[name], "texts → vectors, those that are not in the cache"
        if name != "extract":
            says = kinds.describe(name)
        total += at.seconds
        part = "" if at.missing == 1 else f" ({1 - at.missing:.0%} of it is there)"
        state = f"{roughly(at.seconds)}{part}" if at.missing else "is there"
        lines.append(f"  {name:<{width}} {state}: {says}")
    return [*lines, *(f"  left out: {line}" for line in left_out), f"  together {roughly(total)}"]
