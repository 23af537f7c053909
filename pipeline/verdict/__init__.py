"""Runs → Comparison: the same rows for all, scores with intervals, paired tests, costs and the verdict."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from types import ModuleType
from typing import Any

import numpy as np

from pipeline import UserError, choose, listed
from pipeline.run import Predictions, Run
from pipeline.verdict import bootstrap
from pipeline.verdict import statistics as st
from pipeline.verdict.external import admit
from pipeline.verdict.measure import METRICS, Group, Measured, group_column, groups_of, measure
from pipeline.verdict.recommend import recommend
from pipeline.verdict.results import (
    LABELS,
    Contender,
    Interval,
    Pair,
    break_evens,
    describe,
    fit_key,
    names_of,
    pareto_front,
)

__all__ = ["Comparison", "Contender", "Group", "Interval", "Pair", "admit", "aligned", "compare", "group_column"]

ALWAYS = ("accuracy", "macro_f1")  # paired for the reader even when the verdict rests on another metric


@dataclass(frozen=True)
class Comparison:
    """Contenders on the same rows, every pair of them, and what follows."""

    dataset: str
    dataset_digest: str
    split: str
    rows: int
    class_names: tuple[str, ...]
    metric: str
    margin: float
    truncated_share: float | None
    contenders: tuple[Contender, ...]  # best first
    pairs: tuple[Pair, ...]  # every pair, in the pre-named metric; a stands before b in `contenders`
    recommendation: str
    reasons: tuple[str, ...] = ()
    break_even: tuple[dict[str, Any], ...] = ()
    by: str = ""  # column that groups the judged rows
    groups: tuple[Group, ...] = ()
    left_out: tuple[str, ...] = ()
    other_pairs: tuple[Pair, ...] = ()  # the same in accuracy and macro F1, where they are not the metric
    recommended: str | None = None  # name of the contender to take; None: none of them

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def compare(
    runs: Sequence[Run],
    *,
    metric: str = "accuracy",
    margin: float = 0.01,
    draws: int = 10_000,
    row_draws: int = 2_000,
    seed: int = 0,
    truncated_share: float | None = None,
    by: np.ndarray | None = None,
    by_name: str = "",
    left_out: Sequence[str] = (),
) -> Comparison:
    """Judge `runs` on the rows they share; `by` (n,) groups the judged rows, in the order of the first run's split.

    `margin` is the difference, in the metric's own unit (accuracy: a share from 0 to 1), below which two are
    equivalent; `draws` and `row_draws` are bootstrap draws of counts and of rows.

    Raises UserError if there are no runs, if they answer different questions (data set, classes, rows) or if the
    metric is unknown.

    Examples
    --------
    >>> from pipeline import compare, load_run
    >>> found = compare([load_run(RUN), load_run(BASELINE)], metric="macro_f1", draws=200, row_draws=50)
    >>> found.rows, len(found.pairs), found.pairs[0].verdict in ("better", "equivalent", "undecided")
    (30, 1, True)
    >>> interval = found.contenders[0].metrics["macro_f1"]
    >>> interval.low <= interval.value <= interval.high
    True
    """
    choose(LABELS, metric, "metric")
    judged = aligned(runs)
    truth, probas = judged[0].truth, [np.asarray(p.proba, np.float64) for p in judged]
    names = names_of(runs)
    found = measure(judged, runs[0].class_names, draws, row_draws, seed)
    sign = 1 if metric in st.LOWER_IS_BETTER else -1
    order = sorted(range(len(runs)), key=lambda i: (sign * found.value[metric][i], names[i]))  # ties: not by the clock
    spread = seed_spreads(runs, found.value[metric])
    contenders = [
        Contender(
            name=names[i],
            kind=runs[i].kind,
            run=str(runs[i].folder or ""),
            metrics={m: Interval(float(found.value[m][i]), *found.interval[m][i]) for m in METRICS},
            cost=runs[i].cost,
            notes=runs[i].notes,
            chosen=rank == 0 and len(runs) > 1,
            seed_spread=spread[i],
        )
        for rank, i in enumerate(order)
    ]
    front = pareto_front(contenders, metric)
    contenders = [replace(c, pareto=c.name in front) for c in contenders]
    paired = {
        m: pairs_of(m, order, names, judged, probas, found, margin, draws, seed)
        for m in dict.fromkeys((metric, *ALWAYS))
    }
    recommended, sentence, reasons = recommend(
        contenders,
        paired[metric],
        {names[i]: runs[i] for i in order},
        metric,
        margin,
        len(truth),
        [pair for m in ALWAYS if m != metric for pair in paired[m]],
    )
    return Comparison(
        dataset=runs[0].dataset,
        dataset_digest=runs[0].dataset_digest,
        split=judged[0].split,
        rows=len(truth),
        class_names=runs[0].class_names,
        metric=metric,
        margin=margin,
        truncated_share=truncated_share,
        contenders=tuple(contenders),
        pairs=tuple(paired[metric]),
        recommendation=sentence,
        reasons=(*reasons, *caveats(len(truth), truncated_share, left_out)),
        break_even=tuple(break_evens(contenders)),
        by=by_name,
        groups=groups_of(by, [judged[i] for i in order], [names[i] for i in order], runs[0].class_names, seed),
        left_out=tuple(left_out),
        other_pairs=tuple(pair for m in ALWAYS if m != metric for pair in paired[m]),
        recommended=recommended,
    )


# ── the same rows for all ───────────────────────────────────────────────────────────────────────────────────────────


def aligned(runs: Sequence[Run]) -> list[Predictions]:
    """Every run's predictions of the judged split (test, else validation), in the first run's order.

    Raises UserError if the runs cannot be compared row by row.
    """
    if not runs:
        raise UserError("no runs to compare; fit one with fit-lr or fine-tune, or leave out --only-existing")
    first = runs[0]
    for run in runs[1:]:
        if run.dataset_digest != first.dataset_digest:
            raise UserError(
                f"{label(run)} was fitted on other rows, labels or splits ({run.dataset}, {run.dataset_digest[:8]}) "
                f"than {label(first)} ({first.dataset}, {first.dataset_digest[:8]}); fit both on the same rows"
            )
        if run.class_names != first.class_names:
            raise UserError(
                f"{label(run)} knows the classes {listed(run.class_names)}, "
                f"{label(first)} {listed(first.class_names)}; fit both on the same source"
            )
    role = judged_role(runs)
    return [in_order(run, run.predictions[role], first, first.predictions[role]) for run in runs]


def judged_role(runs: Sequence[Run]) -> str:
    """The role that runs are judged on: test, or validation where one of them has no labelled test split.

    Raises UserError if there is neither.
    """
    role = next((role for role in ("test", "validation") if all(judgeable(run, role) for run in runs)), None)
    if role is None:
        lacking = [label(run) for run in runs if not judgeable(run, "test")]
        raise UserError(f"{listed(lacking)}: no predictions of a labelled test split; fit again on a labelled one")
    return role


def judgeable(run: Run, role: str) -> bool:
    """Whether the run predicted that role and its labels are known."""
    found = run.predictions.get(role)
    return found is not None and len(found.truth) > 0 and bool((found.truth >= 0).all())


def in_order(run: Run, mine: Predictions, first: Run, wanted: Predictions) -> Predictions:
    """`mine` in the row order of `wanted`.

    Raises UserError, with how many rows differ, unless both hold the same row ids with the same labels.
    """
    if not np.array_equal(mine.row_ids, wanted.row_ids):
        alone = np.setxor1d(mine.row_ids, wanted.row_ids)
        if len(alone) or len(mine.row_ids) != len(wanted.row_ids):
            count = max(len(alone), abs(len(mine.row_ids) - len(wanted.row_ids)))
            raise UserError(
                f"{label(run)} and {label(first)} were judged on different rows of '{wanted.split}' ({count} of them "
                "are in one only); fit both with the same --limit, --rows and --split"
            )
        order = np.argsort(mine.row_ids, kind="stable")[np.argsort(np.argsort(wanted.row_ids, kind="stable"))]
        mine = replace(mine, row_ids=mine.row_ids[order], truth=mine.truth[order], proba=mine.proba[order])
    wrong = int((mine.truth != wanted.truth).sum())
    if wrong:
        raise UserError(f"{label(run)} and {label(first)} disagree on the label of {wrong} rows; fit both again")
    return mine


def label(run: Run) -> str:
    """How an error names a run."""
    return run.folder.name if run.folder else run.kind


# ── numbers ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def pairs_of(
    metric: str,
    order: Sequence[int],
    names: Sequence[str],
    judged: Sequence[Predictions],
    probas: Sequence[np.ndarray],
    found: Measured,
    margin: float,
    draws: int,
    seed: int,
) -> list[Pair]:
    """Every pair of contenders, the better-scored first, tested in one metric."""
    couples = list(combinations(order, 2))
    tests = np.random.default_rng([seed, 1]).spawn(len(couples))
    raw = [
        paired_p(metric, (judged[a], judged[b]), probas[a], probas[b], draws, rng)
        for (a, b), rng in zip(couples, tests, strict=True)
    ]
    sign = -1 if metric in st.LOWER_IS_BETTER else 1
    result = []
    for (a, b), p, adjusted in zip(couples, raw, st.holm(raw), strict=True):
        difference = float(found.value[metric][a] - found.value[metric][b])
        drawn = found.apart[metric][a, b]
        wide, narrow = bootstrap.interval(drawn, 0.95), bootstrap.interval(drawn, 0.90)
        verdict = st.judge(sign * difference, wide, narrow, float(adjusted), margin)
        more = None
        if verdict == "undecided":
            more = st.rows_to_decide(difference, float(drawn.std()), len(judged[0].truth), margin, len(couples))
        pair = Pair(
            names[a], names[b], metric, difference, *wide, float(p), float(adjusted), verdict, more, "", *narrow
        )
        result.append(replace(pair, sentence=describe(pair, margin)))
    return result


def paired_p(
    metric: str,
    judged: tuple[Predictions, Predictions],
    a: np.ndarray,
    b: np.ndarray,
    draws: int,
    rng: np.random.Generator,
) -> float:
    """Exact McNemar for accuracy, the paired permutation test for every other metric; a and b (n, k)."""
    truth, said = judged[0].truth, np.array([p.labels for p in judged])
    if metric == "accuracy":
        right_a, right_b = said == truth
        return st.mcnemar(int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum()))
    if metric in st.COUNT_METRICS:
        table = st.outcomes(truth, said, a.shape[1])
        return st.permute_counts(metric, table, draws, rng)
    return st.permute_rows(metric, st.row_sums(metric, truth, a), st.row_sums(metric, truth, b), draws, rng)


def caveats(rows: int, truncated_share: float | None, left_out: Sequence[str]) -> list[str]:
    """What limits the whole comparison."""
    found = []
    if rows < 200:
        found.append(f"Only {rows} rows were judged: all but large differences stay undecided.")
    if truncated_share is not None and truncated_share >= 0.05:
        found.append(
            f"{100 * truncated_share:.0f} % of the texts were cut at max_length: "
            "an encoder that reads more of them may score higher."
        )
    if left_out:
        found.append(f"Left out: {listed(left_out)}.")
    return found


def seed_spreads(runs: Sequence[Run], values: np.ndarray) -> list[float | None]:
    """For each run, largest minus smallest value (c,) over the runs that differ from it in nothing but the seed."""
    groups: dict[str, list[float]] = {}
    keys = [fit_key(run) for run in runs]
    for key, value in zip(keys, values, strict=True):
        groups.setdefault(key, []).append(float(value))
    return [max(groups[key]) - min(groups[key]) if len(groups[key]) > 1 else None for key in keys]


# ── a room and a function of one name ───────────────────────────────────────────────────────────────────────────────


class _Room(ModuleType):
    """`from pipeline import compare` gives the function, or this room once it has been imported: both can be called."""

    def __call__(self, *runs: Any, **rules: Any) -> Comparison:
        return compare(*runs, **rules)


sys.modules[__name__].__class__ = _Room
