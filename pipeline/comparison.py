"""Judge what was fitted, then write the page and the card: what `compare`, `report` and `audit` do."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from . import Progress, UserError, listed, log, silent, trackers
from .audit import Audit, AuditSettings, audit
from .contenders import check_names, profile_for
from .data import Split
from .encoder.hardware import cpu_name, hardware
from .estimates import multiply_rate
from .explore import Profile
from .export.model_card import write_card
from .fitting import absent, digests_of, fitted, held_against_cheap, limits_of, present, remaining, together, too_few
from .fold_fitting import gathered, other_settings, planned, read_task, rows_of_all, with_winner
from .folds import folds_of
from .kinds import KINDS, kind_row
from .learning_curve import latest
from .metrics import METRICS, change, metric_for, score, unit
from .report import Material, write_report
from .run import Run, load_run, runs_folder, runs_of
from .task import Task, TaskOptions
from .vectors import judged_vectors, role_vectors
from .verdict import Comparison, admit, compare, group_column
from .verdict.imported import imported
from .verdict.regret import Worth
from .verdict.results import fit_key
from .words import roughly

LADDER = ("lr", "fine-tune+last-1", "fine-tune+last-2", "fine-tune")  # from probe to tune
NEAR_ROWS = 25_000  # rows up to which a page looks for near-repeats: n² products, here a few seconds


@dataclass(frozen=True)
class ComparisonSettings:
    """What is compared, and by which measure."""

    contenders: tuple[str, ...] = ("majority", "tfidf", "lr", "lr+smote", "stack", "fine-tune")
    only_existing: bool = False
    metric: str = "accuracy"  # named before anything is seen
    margin: float = 0.01  # a difference below it does not matter
    worth: Worth | None = None  # what the user gives for a point of the metric
    prefer: str = "best"  # or cheap: a loss that is not shown does not count
    by: str | None = None  # column of the judged split whose groups are scored apart
    external_runs: tuple[Path, ...] = ()  # folders of runs from elsewhere that take part
    predictions: tuple[str, ...] = ()  # NAME=FILE: answers of other models that take part
    budget: float | None = None  # seconds that fitting may take
    stop_hopeless: bool = False  # end a training that cannot pass the best cheap contender by more than the margin
    page: Path | None = None


@dataclass(frozen=True)
class Outcome:
    """A comparison, the page that shows it and the card of the winner."""

    comparison: Comparison
    report: Path | None
    card: Path | None = None
    cascade: tuple[dict[str, Any], ...] = ()  # cost and accuracy at several thresholds, from all dear to all cheap

    def to_json(self) -> dict[str, Any]:
        """What `compare --json` prints."""
        files = {"report": self.report, "card": self.card}
        front = {"cascade": list(self.cascade)} if self.cascade else {}
        return self.comparison.to_json() | front | {name: str(p) if p else None for name, p in files.items()}


@dataclass(frozen=True, eq=False)
class Judged:
    """The runs that took part, and what was found between them."""

    runs: list[Run]
    comparison: Comparison
    profile: Profile
    shared: np.ndarray | None = None  # (n,) rows of a whole data set that all runs predicted out of fold


def read(options: TaskOptions, rules: ComparisonSettings, progress: Progress = silent) -> Task:
    """The task of a comparison, its source read. Raises UserError for an unknown contender, or if it cannot be read."""
    check_names(rules.contenders)
    existing = rules.contenders if rules.only_existing else None
    return read_task(options, progress, bool(rules.external_runs or rules.predictions), existing)


def contest(task: Task, rules: ComparisonSettings, command: str = "") -> Outcome:
    """Compare the contenders on the same test rows, fitting those that are missing, each once; write page and card.

    Raises UserError if a contender is unknown, if `only_existing` finds fewer than two runs, if an external run was
    judged on other rows, if nothing fits into the budget, or if a fit fails.
    """
    trackers.check(task.tuning.report_to)
    if rules.stop_hopeless and not rules.only_existing:
        task = held_against_cheap(task, as_trained(task, rules.contenders), rules.metric, rules.margin)
    first_answer(task, rules, command)
    judged = judge(task, rules)
    outcome = publish(task, judged, rules, command)
    trackers.tell(task.tuning.report_to, judged.comparison, judged.runs, home_of(task, judged.runs))
    return outcome


def first_answer(task: Task, rules: ComparisonSettings, command: str) -> None:
    """Judge what is cheap before anything expensive is fitted, write its page, and say what the rest may still bring.

    Interrupted from there on, that verdict stays. Nothing of it where all is there, or cheap, or planned by a budget.
    """
    names = as_trained(task, rules.contenders)
    check_names(names)
    if rules.only_existing or rules.budget is not None:
        return
    expensive = tuple(name for name in names if kind_row(name).expensive)
    waiting = seconds_missing(task, expensive)
    cheap = tuple(name for name in names if not kind_row(name).expensive)
    if not waiting or len(cheap) < 2:
        return
    task = replace(task, cascade=None)  # its dear part is not fitted yet
    judged = judge(task, replace(rules, contenders=cheap))
    comparison = judged.comparison
    log.info("%s, before %s:", comparison.dataset, listed(waiting))
    for contender in comparison.contenders:
        log.info("  %-12s %s", contender.name, score(comparison.metric, contender.metrics[comparison.metric].value))
    log.info("  %s", comparison.recommendation)
    log.info("  %s; %s", outlook(comparison, tuple(waiting)), roughly(sum(waiting.values())))
    log.info("  Interrupted from here on, this stays: %s", publish(task, judged, rules, command).report)


def seconds_missing(task: Task, names: tuple[str, ...]) -> dict[str, float]:
    """About how long each contender takes that is not fitted yet, `extract` not counted."""
    if not names:
        return {}
    if task.dataset.whole:
        seconds = planned(folds_of(task), names).seconds
    else:
        seconds = {name: estimate.seconds for name, estimate in remaining(task, names).items() if estimate.missing}
    return {name: seconds[name] for name in names if seconds.get(name)}


def outlook(comparison: Comparison, waiting: Sequence[str]) -> str:
    """`fine-tune can still bring at most 1.4 points (8 of 557 rows are wrong by lr+smote)`."""
    metric, best = comparison.metric, comparison.contenders[0]
    value = best.metrics[metric].value
    room = value if METRICS[metric].lower_is_better else METRICS[metric].high - value
    start = f"{listed(waiting)} can still bring at most {change(metric, room)}{unit(metric)}"
    if not METRICS[metric].right_or_wrong:
        return f"{start} over {best.name}"
    return f"{start} ({round((1 - value) * comparison.rows):,} of {comparison.rows:,} rows are wrong by {best.name})"


def judge(task: Task, rules: ComparisonSettings) -> Judged:
    """The contenders' runs, loaded or fitted, and what the judged rows say of them; writes no page.

    Raises UserError where `contest` does.
    """
    rules = replace(rules, contenders=as_trained(task, rules.contenders))
    check_names(rules.contenders)
    data = task.dataset
    if data.whole:
        return judge_folds(task, rules)
    metric_for(rules.metric, data.role("test").labels)  # all of these before anything is fitted
    by = None if rules.by is None else group_column(data.test, rules.by)
    external_runs = [admit(known_kind(load_run(folder)), data) for folder in rules.external_runs]
    external_runs += [imported(given, data, rules.metric) for given in rules.predictions]
    if rules.only_existing:
        runs = present(task, rules.contenders)
        left_out = absent(rules.contenders, runs)
    else:
        runs, left_out = fitted(task, rules.contenders, rules.budget)
    runs = together(runs, external_runs)
    if len(runs) < 2 and rules.only_existing:
        raise too_few(task, runs)
    profile = profile_for(task, rules.contenders)
    comparison = compare(
        runs,
        **judging_of(rules),
        tried=tried_before(task, runs),
        truncated_share=profile.splits[data.roles["test"]].truncated_share,
        by=by,
        left_out=left_out,
    )
    return Judged(runs, comparison, profile)


def judging_of(rules: ComparisonSettings) -> dict[str, Any]:
    """What is judged by, as `compare` takes it."""
    same = ("metric", "margin", "worth", "prefer")
    return {name: getattr(rules, name) for name in same} | {"by_name": rules.by or ""}


def judge_folds(task: Task, rules: ComparisonSettings) -> Judged:
    """The same where every row is judged out of fold; the winner is then fitted on all rows.

    Raises UserError where `contest` does, and for an external run or answers: they are of a split of their own.
    """
    data = task.dataset
    external = [f"--run {run}" for run in rules.external_runs] + [f"--predictions {one}" for one in rules.predictions]
    if external:
        raise UserError(f"{external[0]}: every row is judged by cross-validation here; pass --no-cv")
    metric_for(rules.metric, data.train.labels)
    by = None if rules.by is None else group_column(data.train, rules.by)
    folds = folds_of(task)
    pooled, left_out = gathered(folds, rules.contenders, rules.only_existing, rules.budget)
    shared = rows_of_all(data.train, pooled)
    profile = profile_for(task, rules.contenders)
    comparison = compare(
        [one.run for one in pooled],
        **judging_of(rules),
        tried=other_settings(folds, pooled),
        truncated_share=profile.splits[data.roles["train"]].truncated_share,
        by=None if by is None else by[shared],
        left_out=left_out,
        folds=folds.judged,
    )
    return Judged(*with_winner(folds, pooled, comparison, rules.only_existing), profile=profile, shared=shared)


def tried_before(task: Task, runs: Sequence[Run]) -> int:
    """How many other settings the runs' folder holds that were judged on the same rows, 0 below the third in all.

    Guessing is no setting that anybody tries.
    """
    here = {fit_key(run) for run in runs}
    stored = runs_of(task.runs, task.dataset.name, task.dataset.digest)
    others = {fit_key(run) for run in stored if kind_row(run.kind).family != "constant"} - here
    return len(others) if len(others) + 1 >= 3 else 0


def publish(task: Task, judged: Judged, rules: ComparisonSettings, command: str = "") -> Outcome:
    """Write the page of a comparison, and the card of its winner.

    Raises UserError if the page cannot be written.
    """
    runs, comparison = judged.runs, judged.comparison
    page = rules.page or home_of(task, runs) / "report.html"
    material = Material(
        profile=judged.profile,
        dataset=task.dataset,
        vectors=judged_vectors(task, judged.shared),
        curve=latest(task.runs, task.dataset.name, task.dataset.digest, digests_of(task), limits_of(task)),
        audit=looked_into(task, judged),
        command=command,
        machine=machine(),
    )
    split, rows = task.dataset.train, judged.shared
    write_report(page, comparison, runs if rows is None else [on_rows(run, split, rows) for run in runs], material)
    front = [p for run in runs if run.kind == "cascade" for p in run.history if p.get("what") == "front"]
    return Outcome(comparison, page, card_of(task, runs, comparison), () if task.dataset.whole else tuple(front))


def on_rows(run: Run, split: Split, rows: np.ndarray) -> Run:
    """A run with what it predicts of the `rows` (n,) of a split alone: a page shows the same rows for all."""
    test = run.predictions["test"]
    return replace(run, predictions={"test": test.take(np.isin(test.row_ids, split.row_ids[rows]))})


def known_kind(run: Run) -> Run:
    """The run itself. Raises UserError, naming its folder, if its kind is none that is known here."""
    try:
        kind_row(run.kind)
    except UserError as error:
        raise UserError(f"--run {run.folder}: {error}") from error
    return run


def card_of(task: Task, runs: Sequence[Run], comparison: Comparison) -> Path | None:
    """The model card of what is recommended; none of an external run: nothing is written into other people's runs."""
    taken = next((c.run for c in comparison.contenders if c.name == comparison.recommended), None)
    winner = next((r for r in runs if taken and str(r.folder) == taken and at_home(task, r)), None)
    try:
        return write_card(winner, comparison) if winner else None
    except UserError as error:  # the verdict stands without it
        log.warning("%s", error)
        return None


def at_home(task: Task, run: Run) -> bool:
    """Whether a run lies below this task's runs."""
    return run.folder is not None and task.runs.resolve() in run.folder.resolve().parents


def as_trained(task: Task, names: tuple[str, ...]) -> tuple[str, ...]:
    """With --freeze what is called fine-tuning is a head on frozen vectors; --cascade is a contender, too."""
    names = (*names, "cascade") if task.cascade else names
    return tuple(dict.fromkeys("frozen-head" if task.tuning.freeze and n == "fine-tune" else n for n in names))


def home_of(task: Task, runs: Sequence[Run]) -> Path:
    """The folder of this data set's runs."""
    if task.dataset.whole:
        return runs_folder(task.runs, task.dataset.name, task.dataset.digest)
    folders = [run.folder.parent for run in runs if run.folder and at_home(task, run)]
    return folders[0] if folders else task.runs


def looked_into(task: Task, judged: Judged) -> Audit | None:
    """The audit of a comparison's runs, for its page; None, with a note, where they do not allow one."""
    if task.dataset.whole:  # it looks at one model a contender, and what that has learnt from
        return None
    vectors = role_vectors(task) if sum(map(len, task.dataset.splits.values())) <= NEAR_ROWS else None
    comparison = judged.comparison
    settings = AuditSettings(comparison.metric, comparison.margin)
    runs = [run for run in judged.runs if kind_row(run.kind).family != "external"]
    try:
        return audit(task.dataset, runs, vectors, settings, task.progress, comparison if runs == judged.runs else None)
    except UserError as error:
        log.info("no audit on the page: %s", error)
        return None


def examine(task: Task, rules: ComparisonSettings, settings: AuditSettings) -> Audit:
    """Audit the cheap contenders, loaded or fitted, and every run that trained an encoder and exists already.

    Raises UserError for a contender that is not cheap, and where fitting and auditing do.
    """
    check_names(rules.contenders)
    settings = replace(settings, metric=rules.metric, margin=rules.margin)
    for name in rules.contenders:
        if kind_row(name).expensive:
            raise UserError(
                f"audit does not fit '{name}'; leave it out of --contenders (a run of it that is there is used)"
            )
    expensive = [name for name, row in KINDS.items() if row.expensive]
    if rules.only_existing:
        runs = present(task, (*rules.contenders, *expensive))
    else:
        runs = together(fitted(task, rules.contenders)[0], present(task, expensive))
    vectors = role_vectors(task)
    if vectors is not None:
        rows, width = sum(map(len, vectors.values())), next(iter(vectors.values())).shape[1]
        seconds = rows**2 * width / 2 / multiply_rate()
        log.info("near-repeats among %s rows: %s at most", f"{rows:,}", roughly(seconds))
    return audit(task.dataset, runs, vectors, settings, task.progress)


def machine() -> dict[str, Any]:
    """The machine that the costs were measured on, for people."""
    here = hardware()
    return {"processor": cpu_name(), "processors": here.cores, "system": platform.platform(terse=True)}
