"""Cross-validation of contenders: folds as data sets, their runs found or fitted, what they predict pooled.

Everything that learns or chooses is inside the training part of a fold. Folds are data sets like any other, so that
their runs are found again; texts are encoded once, since every fold holds the same.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from . import Progress, UserError, kinds, listed, log, silent
from .contenders import estimates, fit
from .data import Dataset, Split, subset
from .data.dataset import ROLES, digest_of
from .data.roles import groups, moments
from .data.splits import cut, cut_in_time
from .fitting import missing, present
from .kinds import kind_row
from .metrics import scores
from .run import Predictions, Run, runs_folder, runs_of
from .task import Task, TaskOptions
from .verdict import Comparison
from .verdict.crossvalidation import FOLDS, LEAST_FOLDS, SOME_FOLDS, RowFolds, split_folds
from .verdict.results import mean_cost
from .words import format_duration, roughly

NEVER = -1  # fold of rows that are learnt from alone


@dataclass(frozen=True, eq=False)
class Folds:
    """The folds of a data set that is whole."""

    task: Task  # its data set has one role, train
    place: np.ndarray  # (n,) int64: the fold that judges each row, or NEVER
    groups: np.ndarray  # (n,) int64: rows that stay together share a number
    numbers: tuple[int, ...]  # of the folds that are judged, in the order in which they are paid for
    method: str
    in_time: bool = False  # a fold is predicted by what stands before it
    made: dict[tuple[int, bool], Task] = field(default_factory=dict)

    @cached_property
    def judged(self) -> RowFolds:
        """The judged rows, as a comparison wants them."""
        rows = np.flatnonzero(np.isin(self.place, self.numbers))
        learnt = round(float(np.mean([self.learnt(number).sum() for number in self.numbers])))
        ids = self.task.dataset.train.row_ids[rows]
        return RowFolds(ids, self.place[rows], self.groups[rows], FOLDS, self.method, learnt)

    def learnt(self, number: int) -> np.ndarray:
        """Which rows (n,) a fold is predicted from."""
        return self.place < number if self.in_time else self.place != number

    def of(self, name: str, number: int) -> Task:
        """What a contender is fitted with to predict one fold: seed = base + fold."""
        held_out = kind_row(name).needs_validation
        if (number, held_out) not in self.made:
            rows = {"train": np.flatnonzero(self.learnt(number)), "test": np.flatnonzero(self.place == number)}
            self.made[number, held_out] = self._task(rows, held_out, self.task.seed + number)
        return self.made[number, held_out]

    def final(self, name: str) -> Task:
        """What the winner is fitted with: all rows, a tenth of which it chooses on if it has to."""
        if not kind_row(name).needs_validation:
            return replace(self.task, seeds=1)
        rows = {"train": np.arange(len(self.place))}
        return replace(self._task(rows, True, self.task.seed), runs=self.task.runs)

    def _task(self, rows: dict[str, np.ndarray], held_out: bool, seed: int) -> Task:
        task, whole = self.task, self.task.dataset.train
        if held_out:  # a tenth of train
            learnt = rows["train"]
            _, together = np.unique(self.groups[learnt], return_inverse=True)
            parts = cut(whole.labels[learnt], together, (90.0, 10.0), np.random.default_rng(seed))
            rows = rows | {"train": learnt[parts[0]], "validation": learnt[parts[1]]}
        parted: dict[str, Split] = {role: subset(whole, rows[role], role) for role in ROLES if role in rows}
        roles: dict[str, str] = {role: role for role in parted}
        digest = digest_of(parted, roles, task.dataset.class_names)
        dataset = replace(task.dataset, splits=parted, roles=roles, digest=digest)
        home = runs_folder(task.runs, task.dataset.name, task.dataset.digest) / "cv"
        return replace(task, dataset=dataset, runs=home, seed=seed, seeds=1)


def folds_of(task: Task) -> Folds:
    """The folds of a task's data set: stratified, equal texts and groups together; or the last five tenths in time.

    Raises UserError if there are too few rows, or classes that the past does not know.
    """
    data: Dataset = task.dataset
    rows = data.train
    if data.time is not None:
        return _in_time(task, data.time)
    together = groups(rows, data.group)
    try:
        place = split_folds(rows.labels, together, FOLDS, np.random.default_rng(task.seed))
    except UserError as error:
        raise UserError(f"{data.name}: {error}, or pass --no-cv") from error
    for number in range(FOLDS):  # a class that stands in one fold alone could not be learnt for it
        away = np.setdiff1d(rows.labels, rows.labels[place != number])
        place[np.isin(together, together[np.isin(rows.labels, away)])] = NEVER
    alike = f"equal texts and rows of the same '{data.group}'" if data.group else "equal texts"
    return Folds(task, place, together, tuple(range(FOLDS)), f"stratified, {alike} together")


def _in_time(task: Task, column: str) -> Folds:
    """Ten parts in time of which the later half is judged, each by all that stands before it."""
    rows, name = task.dataset.train, task.dataset.class_names
    tenths = cut_in_time(moments(rows, column), [1.0] * FOLDS)
    place = np.empty(len(rows), np.int64)
    for number, part in enumerate(tenths):
        place[part] = number
    first = FOLDS - SOME_FOLDS
    if len(unseen := np.setdiff1d(rows.labels, rows.labels[place < first])):
        raise UserError(
            f"--time {column}: {listed(name[i] for i in unseen[:5])} has no row in the earlier half, from which the "
            "later one is predicted; leave out --time, or those rows"
        )
    method = f"each of the last {SOME_FOLDS} tenths in order of '{column}', from all rows before it"
    numbers = tuple(range(FOLDS - 1, first - 1, -1))
    return Folds(task, place, groups(rows, None), numbers, method, in_time=True)


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
    found: list[Pooled] = []
    for name, numbers in plan.folds.items():
        runs: list[tuple[int, Run]] = []
        for count, number in enumerate(numbers):
            late = budget is not None and time.monotonic() - started > budget
            if late and kind_row(name).expensive and count >= LEAST_FOLDS:
                log.info("%s: %s of %s folds, time is up", name, count, len(numbers))
                break
            runs += [(number, run) for run in fit(folds.of(name, number), name)]
            folds.task.progress(f"{name}, folds", count + 1, len(numbers))
        found += _pooled(folds, name, runs)
    return found


def present_folds(folds: Folds, names: Sequence[str]) -> list[Pooled]:
    """The contenders of which at least three folds are there; nothing is fitted."""
    found: dict[str, Pooled] = {}
    for name in names:
        runs = [(number, run) for number in folds.numbers for run in present(folds.of(name, number), (name,))]
        of_fold = [(number, run) for number, run in runs if run.seed == folds.task.seed + number]
        found |= {one.key: one for one in _pooled(folds, name, of_fold) if len(one.parts) >= LEAST_FOLDS}
    return list(found.values())


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
    said = [run.predictions["test"] for run in parts]
    ids = np.concatenate([p.row_ids for p in said])
    at = {row: i for i, row in enumerate(data.train.row_ids.tolist())}
    order = np.argsort([at[row] for row in ids.tolist()])
    truth, proba = (np.concatenate([getattr(p, part) for p in said])[order] for part in ("truth", "proba"))
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
        whole = winner(folds, one, only_existing) if taken else None
        if whole is not None:
            log.info("%s on all rows: %s", whole.kind, whole.folder)
        run = one.run if whole is None else replace(whole, predictions=one.run.predictions, metrics=one.run.metrics)
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
