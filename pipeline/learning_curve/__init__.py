"""Scores against number of labels: where does fine-tuning win, and are more labels worth their price?

`subsets` says which rows a size has, `learners` who is fitted on them, `crossing` where one line overtakes another
(with the method and its limits), `results` what is stored. Every point is stored as it is fitted: interrupted, the
same command goes on from there, and a second call fits nothing.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .. import CallableRoom, UserError, listed, log
from ..contenders import estimates
from ..finetune.rates import RATES
from ..fitting import Estimate, remaining
from ..kinds import curve_row, tuned
from ..metrics import METRICS, metric_for
from ..run import digest, slug
from ..task import Task
from ..verdict.bootstrap import interval, logit_interval
from ..verdict.measure import within
from ..words import roughly
from .crossing import redrawn
from .learners import Learner, learners_of, part_epochs
from .points import old_point, read_point, write_point
from .results import Crossing, Curve, Line, Point, crossings, curve_folder, latest, save
from .subsets import check, default_sizes, default_tuned_sizes, nested, smaller

__all__ = ["Crossing", "Curve", "Line", "Plan", "Point", "curve", "latest"]

FORMAT = 1
REDRAWN = 1000


@dataclass(frozen=True)
class Plan:
    """Which lines are drawn, at which sizes."""

    contenders: tuple[str, ...] = ("tfidf", "lr", "fine-tune")
    sizes: tuple[int, ...] | None = None  # None: eight, up to all of train
    tuned_sizes: tuple[int, ...] | None = None  # None: four, each three times the one before
    draws: int = 5  # subsets a size
    tuned_draws: int = 1
    metric: str = "accuracy"

    def grid(self, task: Task, tuned: bool) -> tuple[int, ...]:
        """The sizes of a line.

        Raises UserError for sizes that train does not have.
        """
        rows, classes = len(task.dataset.train), len(task.dataset.class_names)
        given = self.tuned_sizes if tuned else self.sizes
        if given is None:
            return default_tuned_sizes(rows, classes) if tuned else default_sizes(rows, classes)
        return check(given, rows, "--fine-tune-sizes" if tuned else "--sizes")

    def cells(self, task: Task, tuned: bool) -> list[tuple[int, int]]:
        """(size, draw) of every point of a line, the largest first; all of train can be drawn in one way only."""
        rows, draws = len(task.dataset.train), self.tuned_draws if tuned else self.draws
        sizes = self.grid(task, tuned)[::-1]
        return [(size, draw) for size in sizes for draw in range(1 if size == rows and not tuned else draws)]


def curve(task: Task, plan: Plan) -> Curve:
    """Fit what is missing of every line, then say where they cross; stored under the runs.

    Raises UserError for an unknown contender, metric or size, and where a fit does.
    """
    started = time.perf_counter()
    metric_for(plan.metric, task.dataset.test.labels)
    if task.tuning.freeze:
        raise UserError("--freeze: a curve knows no head on frozen vectors but logistic regression; leave it out")
    names = tuple(dict.fromkeys(plan.contenders))
    for name in names:
        curve_row(name)  # there is one, known before anything is fitted
    grids = {name: plan.grid(task, tuned(name)) for name in names}
    for line in announcement(task, plan, grids):
        log.info(line)
    learners = [learner for name in names for learner in learners_of(task, name)]
    by_line, counts = {}, np.zeros(2, int)
    for learner in learners:
        by_line[learner.name], new = points_of(task, plan, learner)
        counts += (new, len(by_line[learner.name]) - new)
    lines, drawn = judged(task, plan, learners, by_line)
    data = task.dataset
    result = Curve(
        dataset=data.name,
        dataset_digest=data.digest,
        checkpoint_digests=tuple(sorted({x.checkpoint_digest for x in learners if x.checkpoint_digest})),
        metric=plan.metric,
        split=data.test.name,
        rows=len(data.test),
        train_rows=len(data.train),
        seed=task.seed,
        lines=tuple(lines),
        crossings=crossings(lines, drawn, plan.metric),
        notes=notes(plan, learners),
        seconds=time.perf_counter() - started,
        fitted=int(counts[0]),
        found=int(counts[1]),
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    )
    return save(result, task.runs)


# ── points ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def points_of(task: Task, plan: Plan, learner: Learner) -> tuple[dict[tuple[int, int], dict[str, Any]], int]:
    """(size, draw) → record of every point of a line, and how many of them had to be fitted."""
    home = curve_folder(task.runs, task.dataset.name, task.dataset.digest) / "points"
    labels, cells = task.dataset.train.labels, plan.cells(task, learner.tuned)
    shape = len(task.dataset.test), len(task.dataset.class_names)
    subsets = {
        draw: nested(labels, [size for size, d in cells if d == draw], task.seed, draw)
        for draw in sorted({draw for _, draw in cells})
    }
    records: dict[tuple[int, int], dict[str, Any]] = {}
    new = 0
    for done, (size, draw) in enumerate(cells):
        task.progress(f"curve {learner.name}", done, len(cells))
        identity = digest([FORMAT, learner.identity, task.seed, size, draw, cells[0][0] if learner.tuned else None])
        path = home / f"{slug(learner.kind)}-{size}-{draw}-{identity}.safetensors"
        record = read_point(path, shape) or old_point(path, shape, plan.metric)
        if record is None:
            began = time.perf_counter()
            proba, facts = learner.fit(subsets[draw][size], draw, records[cells[0]] if records else {})
            record = {"kind": learner.kind, "size": size, "draw": draw}
            record |= {"seconds": time.perf_counter() - began} | facts
            write_point(path, record, proba)
            record["proba"] = proba
            new += 1
        records[size, draw] = record
    task.progress(f"curve {learner.name}", len(cells), len(cells))
    return records, new


def judged(
    task: Task, plan: Plan, learners: Sequence[Learner], by_line: dict[str, dict[tuple[int, int], dict[str, Any]]]
) -> tuple[list[Line], list[np.ndarray]]:
    """Every line with its intervals, and its redrawn means (points, s)."""
    test, metric = task.dataset.test, METRICS[plan.metric]
    sizes = {x.name: sorted({size for size, _ in by_line[x.name]}) for x in learners}
    records = [
        [by_line[x.name][cell] for cell in sorted(by_line[x.name]) if cell[0] == s]
        for x in learners
        for s in sizes[x.name]
    ]
    probas = [np.array([record["proba"] for record in group]) for group in records]
    scores, means = redrawn(plan.metric, test.labels, probas, REDRAWN, np.random.default_rng([task.seed, 7]))
    lines, drawn, place = [], [], 0
    for x in learners:
        points, upto = [], place + len(sizes[x.name])
        for i, size in zip(range(place, upto), sizes[x.name], strict=True):
            value = float(scores[i].mean())
            ends = (logit_interval if metric.ranked else interval)(means[i])
            seconds = float(np.mean([record["seconds"] for record in records[i]]))
            points.append(Point(size, value, *within(metric, value, *ends), tuple(scores[i].tolist()), seconds))
        first = records[upto - 1][0]
        more = {key: first[key] for key in ("learning_rate",) if key in first}
        lines.append(Line(x.name, x.kind, tuple(points), x.settings | more))
        drawn.append(means[place:upto])
        place = upto
    return lines, drawn


# ── words ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def notes(plan: Plan, learners: Sequence[Learner]) -> tuple[str, ...]:
    """What limits the curve."""
    sentences = []
    if plan.draws == 1:
        sentences.append("One subset a size: the intervals hold the chance of the test rows, not that of the labels.")
    if any(not x.tuned for x in learners):
        sentences.append("C is that of the fit on all labels; with few labels another one might do a little better.")
    if any(x.tuned for x in learners):
        sentences.append(
            "Fine-tuning takes the learning rate of its largest fit, validation rows in proportion to the labels, and "
            "more epochs where there are few labels."
        )
        if plan.tuned_draws == 1:
            sentences.append(
                "Fine-tuning has one subset and seed a size: its intervals hold the chance of the test rows alone."
            )
    return tuple(sentences)


def announcement(task: Task, plan: Plan, grids: dict[str, tuple[int, ...]]) -> list[str]:
    """What will be fitted and about how long it takes, one line each."""
    rows = len(task.dataset.train)
    expected: dict[str, Estimate] = remaining(task, tuple(grids))
    lines = [f"{task.dataset.name}: {rows:,} rows to learn from, scores against number of labels"]
    total = 0.0
    for name, estimate in expected.items():
        if name not in grids:
            total += estimate.seconds
            if estimate.seconds:
                lines.append(f"  {name}: {roughly(estimate.seconds)}")
            continue
        cells = plan.cells(task, tuned(name))
        labels = sum(size for size, _ in cells)
        if tuned(name):  # the fit on all labels is one of the points
            each = {size: part_seconds(task, name, size) for size in grids[name] if size < rows}
            seconds = sum(each.get(size, 0.0) for size, _ in cells)
            seconds += estimate.seconds if grids[name][-1] == rows else 0.0
        else:
            seconds = (
                estimate.seconds + estimate.alone * curve_row(name).refit_share * labels / rows + 0.05 * len(cells)
            )
        total += seconds
        lines.append(
            f"  {name}: {listed(f'{size:,}' for size in grids[name])} labels, {len(cells)} fits and the one on all; "
            f"{roughly(seconds)}"
        )
    return [*lines, f"  together {roughly(total)} at most; points that are there are not fitted again"]


def part_seconds(task: Task, name: str, size: int) -> float:
    """About how long a fine-tuning on `size` labels takes: more epochs than on all, no search, all of test."""
    tuning, data = task.tuning, task.dataset
    epochs = part_epochs(tuning, size, len(data.train))
    settings = replace(tuning, epochs=epochs, learning_rate=tuning.learning_rate or RATES[-1])
    part = replace(task, dataset=smaller(data, np.arange(size), task.seed), tuning=settings, seeds=1)
    return estimates(part, (name,))[name]


sys.modules[__name__].__class__ = CallableRoom
