"""Cross-validation of contenders: the runs of their folds, found or fitted, and what these predict pooled."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from . import Progress, UserError, kinds, listed, log, silent
from .contenders import estimates, fit
from .data import Split
from .fitting import absent, converted_meanwhile, missing, present, too_few, turn
from .folds import NEVER, Folds, folds_of
from .kinds import kind_row
from .metrics import scores
from .run import Predictions, Run, runs_of
from .task import Task, TaskOptions
from .verdict import Comparison
from .verdict.crossvalidation import LEAST_FOLDS, SOME_FOLDS
from .verdict.results import mean_cost
from .words import format_duration, roughly


def read_task(
    options: TaskOptions, progress: Progress = silent, divided: bool = False, existing: Sequence[str] | None = None
) -> Task:
    """The task of a comparison; few rows stay whole where nobody says otherwise, and folds of them make sense.

    They do not if runs of a division take part (`divided`), nor if runs that exist are wanted, of the contenders
    `existing`, and folds of fewer than two do. Raises UserError if the source cannot be read.
    """
    task = options.read(progress)
    if options.source.whole is not None or not task.dataset.whole:
        return task
    try:
        folds = folds_of(task)
        if not divided and (existing is None or len(present_folds(folds, existing)) >= 2):
            return task
    except UserError as error:
        log.info("no cross-validation: %s", error)
    return replace(options, source=replace(options.source, whole=False)).read(progress)


# ── what is fitted, and how long it takes ───────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Plan:
    """Which folds each contender is fitted on, and about how many seconds that takes."""

    folds: dict[str, tuple[int, ...]]
    seconds: dict[str, float]  # `extract` first, if vectors are missing
    left_out: tuple[str, ...] = ()
    final: float = 0.0  # of the winner on all rows, at most


def planned(folds: Folds, names: Sequence[str], budget: float | None = None) -> Plan:
    """All folds for those that are quick; five of them, or what the budget allows, for those that train an encoder.

    Raises UserError if nothing fits into the budget.
    """
    task = folds.of(next((n for n in names if kind_row(n).needs_validation), names[0]), folds.numbers[0])
    each = estimates(task, tuple(names))
    taken: dict[str, tuple[int, ...]] = {}
    seconds = {"extract": each["extract"]} if each.get("extract") else {}
    left_out: list[str] = []
    for name in sorted(names, key=lambda name: each[name]):
        wanted = _as_many_as_fit(folds, name, each[name], None if budget is None else budget - sum(seconds.values()))
        if not wanted:
            count = LEAST_FOLDS if kind_row(name).expensive else len(folds.numbers)
            left_out.append(f"{name}: {count} folds take {roughly(count * each[name])}, too long for the budget")
            continue
        taken[name] = wanted
        seconds[name] = each[name] * sum(missing(folds.of(name, number), name) for number in wanted)
    if not taken:
        raise UserError(f"nothing of {listed(names)} fits into {format_duration(budget or 0)}; pass a larger --budget")
    ordered = {name: taken[name] for name in names if name in taken}
    return Plan(ordered, seconds, tuple(left_out), max(each[name] for name in ordered))


def _as_many_as_fit(folds: Folds, name: str, each: float, left: float | None) -> tuple[int, ...]:
    """The folds that `left` seconds allow: all or none, from three on for what trains an encoder."""
    expensive = kind_row(name).expensive
    if left is None:
        return folds.numbers[:SOME_FOLDS] if expensive else folds.numbers
    spent = np.cumsum([each * missing(folds.of(name, number), name) for number in folds.numbers])
    count = int((spent <= left).sum())
    least = LEAST_FOLDS if expensive else len(folds.numbers)
    return folds.numbers[:count] if count >= least else ()


def announcement(folds: Folds, plan: Plan) -> list[str]:
    """What will be fitted and about how long it takes, one line each."""
    data, judged = folds.task.dataset, folds.judged
    lines = [
        f"{data.name}: {len(judged.place):,} rows, each judged out of fold ({folds.method}); --no-cv cuts 80/10/10"
    ]
    if (count := int((folds.place == NEVER).sum())) > 0:
        lines.append(f"  {count} of classes that stand together, or alone, are learnt from and never judged")
    if "extract" in plan.seconds:
        lines.append(f"  {'extract':<10} {roughly(plan.seconds['extract'])}: texts → vectors, once")
    for name, numbers in plan.folds.items():
        state = roughly(plan.seconds[name]) if plan.seconds[name] else "is there"
        lines.append(f"  {name:<10} {state}: {len(numbers)} folds of {kinds.describe(name)}")
    lines += [f"  left out: {line}" for line in plan.left_out]
    total = sum(plan.seconds.values()) + (plan.final if any(plan.seconds.values()) else 0.0)
    return [*lines, f"  together {roughly(total)}, with the winner on all rows"]


# ── runs ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, eq=False)
class Pooled:
    """A contender's runs, one a fold, and the one that they make together."""

    name: str  # as it is asked for
    parts: tuple[Run, ...]
    run: Run  # its predictions of `test` are those of all parts; its folder is the first part's

    @property
    def key(self) -> str:
        return key_of(self.run)


def key_of(run: Run) -> str:
    """Equal for the runs of one contender: kind and settings, without what follows from a fold's rows or its number."""
    settings = {key: value for key, value in run.settings.items() if key not in ("seed", "chosen")}
    return repr((run.kind, sorted((key, repr(value)) for key, value in settings.items())))


def fitted_folds(folds: Folds, plan: Plan, budget: float | None = None) -> list[Pooled]:
    """Every contender's runs, found or fitted; a contender that trains an encoder ends early when time is up."""
    started = time.monotonic()
    contenders: list[Pooled] = []
    with converted_meanwhile(folds.task, plan.seconds) as wait:
        for name, numbers in sorted(plan.folds.items(), key=lambda item: turn(item[0])):
            if kind_row(name).needs_vectors:
                wait()
            runs: list[tuple[int, Run]] = []
            for count, number in enumerate(numbers):
                late = budget is not None and time.monotonic() - started > budget
                if late and kind_row(name).expensive and count >= LEAST_FOLDS:
                    log.info("%s: %s of %s folds, time is up", name, count, len(numbers))
                    break
                runs += [(number, run) for run in fit(folds.of(name, number), name)]
                folds.task.progress(f"{name}, folds", count + 1, len(numbers))
            contenders += _pooled(folds, name, runs)
    return contenders


def present_folds(folds: Folds, names: Sequence[str]) -> list[Pooled]:
    """The contenders of which at least three folds are there; nothing is fitted."""
    by_key: dict[str, Pooled] = {}
    for name in names:
        runs = [(number, run) for number in folds.numbers for run in present(folds.of(name, number), (name,))]
        of_fold = [(number, run) for number, run in runs if run.seed == folds.task.seed + number]
        by_key |= {one.key: one for one in _pooled(folds, name, of_fold) if len(one.parts) >= LEAST_FOLDS}
    return list(by_key.values())


def _pooled(folds: Folds, name: str, runs: Sequence[tuple[int, Run]]) -> Iterator[Pooled]:
    """Runs of folds as contenders, in the order in which they first appear."""
    by_key: dict[str, dict[int, Run]] = {}
    for number, run in runs:
        by_key.setdefault(key_of(run), {})[number] = run
    for parts in by_key.values():
        several = tuple(parts.values())
        yield Pooled(name, several, pooled(folds, several))


def pooled(folds: Folds, parts: Sequence[Run]) -> Run:
    """Runs of several folds as one run, whose predictions stand in the data set's order."""
    data, first = folds.task.dataset, parts[0]
    predicted = [run.predictions["test"] for run in parts]
    ids = np.concatenate([p.row_ids for p in predicted])
    at = {row: i for i, row in enumerate(data.train.row_ids.tolist())}
    order = np.argsort([at[row] for row in ids.tolist()])
    truth, proba = (np.concatenate([getattr(p, part) for p in predicted])[order] for part in ("truth", "proba"))
    predictions = Predictions(data.roles["train"], ids[order], truth, proba, first.threshold)
    digests = {run.checkpoint_digest for run in parts}
    return replace(
        first,
        settings={key: value for key, value in first.settings.items() if key != "chosen"},
        predictions={"test": predictions},
        metrics={"test": scores(truth, proba, first.class_names, first.threshold)},
        cost=mean_cost([run.cost for run in parts]),
        dataset_digest=data.digest,
        checkpoint_digest=first.checkpoint_digest if len(digests) == 1 else None,
        seed=folds.task.seed,
        seconds=sum(run.seconds for run in parts),
        notes=tuple(dict.fromkeys(note for run in parts for note in run.notes)),
    )


def gathered(
    folds: Folds, names: Sequence[str], only_existing: bool, budget: float | None
) -> tuple[list[Pooled], tuple[str, ...]]:
    """Every contender's runs, pooled, and what is left out; says before it starts what is fitted, and about how long.

    Raises UserError if nothing fits into the budget, if fewer than two exist of which that is asked, or if a fit fails.
    """
    if only_existing:
        existing = present_folds(folds, names)
        if len(existing) < 2:
            raise too_few(folds.task, [one.run for one in existing])
        return existing, tuple(absent(names, [one.run for one in existing]))
    plan = planned(folds, names, budget)
    for line in announcement(folds, plan):
        log.info(line)
    return fitted_folds(folds, plan, budget), plan.left_out


def rows_of_all(split: Split, pooled: Sequence[Pooled]) -> np.ndarray:
    """Which rows (n,) of a split every contender predicted."""
    row_ids = [one.run.predictions["test"].row_ids for one in pooled]
    return np.isin(split.row_ids, functools.reduce(np.intersect1d, row_ids))


def winner(folds: Folds, chosen: Pooled, only_existing: bool = False) -> Run | None:
    """The run of a contender on all rows, found or fitted; None if it is not there and nothing is to be fitted."""
    task = folds.final(chosen.name)
    runs = present(task, (chosen.name,)) if only_existing else fit(task, chosen.name)
    return next((run for run in runs if key_of(run) == chosen.key), None)


def with_winner(
    folds: Folds, pooled: Sequence[Pooled], comparison: Comparison, only_existing: bool
) -> tuple[list[Run], Comparison]:
    """Runs and comparison with the run of what is recommended, fitted on all rows, in the place of its folds."""
    by_folder = {str(one.run.folder): one for one in pooled}
    runs, contenders = [], []
    for contender in comparison.contenders:
        one = by_folder[contender.run]
        taken = contender.name == comparison.recommended
        final = winner(folds, one, only_existing) if taken else None
        if final is not None:
            log.info("%s on all rows: %s", final.kind, final.folder)
        run = one.run if final is None else replace(final, predictions=one.run.predictions, metrics=one.run.metrics)
        runs.append(run)
        parts = tuple(str(part.folder) for part in one.parts)
        contenders.append(replace(contender, run=str(run.folder), runs=parts))
    return runs, replace(comparison, contenders=tuple(contenders))


def other_settings(folds: Folds, taking_part: Sequence[Pooled]) -> int:
    """How many other settings were judged on the first fold's rows before; 0 below the third in all."""
    here, first = {one.key for one in taking_part}, folds.numbers[0]
    seen: dict[str, Any] = {}
    for name in ("lr", "fine-tune"):  # one for each of the two ways in which a fold is cut
        data = folds.of(name, first)
        seen |= {key_of(run): run for run in runs_of(data.runs, data.dataset.name, data.dataset.digest)}
    others = {key for key, run in seen.items() if kind_row(run.kind).family != "constant"} - here
    return len(others) if len(others) + 1 >= 3 else 0
