"""One command, one answer: say what will be fitted, fit what is missing, judge, write the page."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import UserError, choose, listed, log, spoken
from pipeline.audit import Audit, AuditSettings, audit
from pipeline.compare import Comparison, compare
from pipeline.compare.verdict import LABELS
from pipeline.contenders import (
    CONTENDERS,
    Task,
    chosen,
    estimates,
    linear_runs,
    multiply_rate,
    profile_of,
    single_poolings,
)
from pipeline.encoder import POOLERS, locate
from pipeline.encoder.hardware import cpu_name, hardware
from pipeline.extract.shelf import shelf_of
from pipeline.linear import kind_of
from pipeline.report import write_report
from pipeline.run import Run, runs_of
from pipeline.store import keys

NEAR_ROWS = 25_000  # rows up to which a page looks for near-repeats: n² products, here a few seconds


@dataclass(frozen=True)
class Rules:
    """What is compared, and by which measure."""

    contenders: tuple[str, ...] = ("majority", "tfidf", "lr", "lr+smote", "fine-tune")
    only_existing: bool = False
    metric: str = "accuracy"  # named before anything is seen
    margin: float = 0.01  # a difference below it does not matter
    page: Path | None = None


@dataclass(frozen=True)
class Outcome:
    """A comparison and the page that shows it."""

    comparison: Comparison
    report: Path | None

    def to_json(self) -> dict[str, Any]:
        """What `compare --json` prints."""
        return self.comparison.to_json() | {"report": str(self.report) if self.report else None}


def contest(task: Task, rules: Rules, command: str = "") -> Outcome:
    """Compare the contenders on the same test rows, fitting those that are missing, each once.

    Raises UserError if a contender is unknown, if `only_existing` finds fewer than two runs, or if a fit fails.
    """
    chosen(rules.contenders)
    choose(LABELS, rules.metric, "metric")  # before anything is fitted
    runs = existing(task, rules) if rules.only_existing else fitted(task, rules)
    profile = profile_of(task.dataset, task.encoders[0], task.cache)
    judged = profile.splits[task.dataset.roles["test"]]
    comparison = compare(runs, metric=rules.metric, margin=rules.margin, truncated_share=judged.truncated_share)
    page = rules.page or Path(runs[0].folder or task.runs).parent / "report.html"
    vectors = judged_vectors(task)
    found = looked_into(task, runs, rules)
    write_report(
        page, comparison, runs, profile, task.dataset, vectors, audit=found, command=command, machine=machine()
    )
    return Outcome(comparison, page)


def looked_into(task: Task, runs: list[Run], rules: Rules) -> Audit | None:
    """The audit of a comparison's runs, for its page; None, with a note, where they do not allow one."""
    vectors = role_vectors(task) if sum(map(len, task.dataset.splits.values())) <= NEAR_ROWS else None
    try:
        return audit(task.dataset, runs, vectors, AuditSettings(rules.metric, rules.margin), task.progress)
    except UserError as error:
        log.info("no audit on the page: %s", error)
        return None


def examine(task: Task, rules: Rules, settings: AuditSettings) -> Audit:
    """Audit the cheap contenders, found or fitted, and every run that trained an encoder and is there already.

    Raises UserError for a contender that is not cheap, and where fitting and auditing do.
    """
    for name, row in chosen(rules.contenders).items():
        if row.dear:
            raise UserError(
                f"audit does not fit '{name}'; leave it out of --contenders (a run of it that is there is used)"
            )
    dear = [name for name, row in CONTENDERS.items() if row.dear]
    if rules.only_existing:
        runs = present(task, (*rules.contenders, *dear))
    else:
        runs = [*fitted(task, rules), *present(task, dear)]
    vectors = role_vectors(task)
    if vectors is not None:
        rows, width = sum(map(len, vectors.values())), next(iter(vectors.values())).shape[1]
        seconds = rows**2 * width / 2 / multiply_rate()
        log.info("near-repeats among %s rows: about %s at most", f"{rows:,}", spoken(seconds))
    return audit(task.dataset, runs, vectors, settings, task.progress)


def role_vectors(task: Task) -> dict[str, np.ndarray] | None:
    """Vectors (n, d) of every role's split, of the first encoder and pooling; None if they are not all on disk."""
    spec, dataset = replace(task.encoders[0], pooling=single_poolings(task.encoders[0])), task.dataset
    own = {role: keys(dataset.role(role).texts) for role in dataset.roles}
    whole = np.concatenate(list(own.values()))
    shelf = shelf_of(locate(spec), spec, task.effort, task.cache, whole)
    if not shelf.holds(whole):
        return None
    pooling = next(iter(shelf.stores))
    return {role: shelf.serve(texts_keys, pooling).vectors for role, texts_keys in own.items()}


def judged_vectors(task: Task) -> dict[str, np.ndarray] | None:
    """Vectors of the judged split by pooling, for the page's map; None if they are not all on disk."""
    spec = replace(task.encoders[0], pooling=single_poolings(task.encoders[0]))
    whole = keys(task.dataset.test.texts)
    shelf = shelf_of(locate(spec), spec, task.effort, task.cache, whole)
    if not shelf.holds(whole):
        return None
    return {pooling: shelf.serve(whole, pooling).vectors for pooling in shelf.stores}


def machine() -> dict[str, Any]:
    """The machine that the costs were measured on, for people."""
    here = hardware()
    return {"processor": cpu_name(), "processors": here.cores, "system": platform.platform(terse=True)}


def existing(task: Task, rules: Rules) -> list[Run]:
    """The runs that are there for exactly these rows and encoders, of the kinds that take part.

    Raises UserError if there are fewer than two.
    """
    runs = present(task, rules.contenders)
    if len(runs) < 2:
        there = listed(run.kind for run in runs) or "none"
        raise UserError(
            f"{task.runs}: {len(runs)} of the runs to compare exist for {task.dataset.name} ({there}); "
            "leave out --only-existing to fit the rest"
        )
    return runs


def present(task: Task, names: Iterable[str]) -> list[Run]:
    """The runs of these kinds that are there for exactly these rows and encoders, oldest first."""
    kinds = set(names)
    own = {c.checkpoint_digest(p) for c in map(locate, task.encoders) for p in (*POOLERS, "cls+mean")}
    own |= {locate(s).checkpoint_digest(p) for s in task.encoders for p in s.pooling if p != "auto"}
    return [
        run
        for run in runs_of(task.runs, task.dataset.name, task.dataset.digest)
        if run.kind in kinds and (run.checkpoint_digest is None or run.checkpoint_digest in own)
    ]


def fitted(task: Task, rules: Rules) -> list[Run]:
    """Every contender's runs, found or fitted; says before it starts which, and about how long that takes."""
    announce(task, rules.contenders)
    runs: list[Run] = []
    for row in chosen(rules.contenders).values():
        for run in row.fit(task):
            log.info("%s: %s", run.kind, run.folder)
            runs.append(run)
    return runs


def announce(task: Task, names: tuple[str, ...]) -> None:
    """Say what will be fitted, and about how long that takes."""
    for line in announcement(task, names):
        log.info(line)


def announced(task: Task, fit: Callable[[Task], list[Run]]) -> list[Run]:
    """`fit` the task's own linear settings, or its fine-tuning, and say so beforehand."""
    if names := tuple(name for name in kinds_of(task, fit) if name in CONTENDERS):  # what is unknown, `fit` refuses
        announce(task, names)
    return fit(task)


def kinds_of(task: Task, fit: Callable[[Task], list[Run]]) -> tuple[str, ...]:
    """What the runs of one command are called among the contenders."""
    if fit is linear_runs:
        return tuple(dict.fromkeys(kind_of(settings) for settings in task.linear))
    tuning = task.tuning
    return ("frozen-head" if tuning.freeze else "from-scratch" if tuning.from_scratch else "fine-tune",)


def announcement(task: Task, names: tuple[str, ...]) -> list[str]:
    """What will be fitted and about how long it takes, one line each."""
    there = {run.kind for run in runs_of(task.runs, task.dataset.name, task.dataset.digest)}
    times = estimates(task, names)
    lines = [f"{task.dataset.name}: {len(task.dataset.train.texts):,} rows to learn from, {listed(names)}"]
    for name, seconds in times.items():
        state = "used if its settings are these, else " if name in there else ""
        says = CONTENDERS[name].says if name in CONTENDERS else "texts → vectors, those that are not in the cache"
        lines.append(f"  {name:<10} {state}about {spoken(seconds)}: {says}")
    return [*lines, f"  together about {spoken(sum(times.values()))} at most"]
