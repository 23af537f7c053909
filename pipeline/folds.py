"""Cross-validation of contenders: the folds as data sets, each of which a fit can be given like any other.

Everything that learns or chooses is inside the training part of a fold. Texts are encoded once, since every fold holds
the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from . import UserError, listed
from .data import Dataset, Split, subset
from .data.dataset import ROLES, digest_of
from .data.roles import groups, moments
from .data.splits import cut, cut_in_time
from .kinds import kind_row
from .run import runs_folder
from .task import Task
from .verdict.crossvalidation import FOLDS, SOME_FOLDS, RowFolds, split_folds

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
        task, train = self.task, self.task.dataset.train
        if held_out:  # a tenth of train
            learnt = rows["train"]
            _, together = np.unique(self.groups[learnt], return_inverse=True)
            parts = cut(train.labels[learnt], together, (90.0, 10.0), np.random.default_rng(seed))
            rows = rows | {"train": learnt[parts[0]], "validation": learnt[parts[1]]}
        parted: dict[str, Split] = {role: subset(train, rows[role], role) for role in ROLES if role in rows}
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
