"""Runs → Comparison: the same rows for all, scores with intervals, paired tests, costs and the verdict."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from dataclasses import field as field_of  # `field` is a module of this room
from itertools import combinations
from types import ModuleType
from typing import Any

import numpy as np

from .. import choose, finite, listed
from ..kinds import kind_row
from ..metrics import ALWAYS, METRICS, metric_for, with_usual
from ..run import Predictions, Run
from .alignment import aligned, judged_role
from .crossvalidation import RowFolds
from .evidence import Entrant, Evidence, Sampling, entrants, on_one_split, out_of_fold
from .external import admit
from .families import false_share, near_copies
from .field import Advice
from .measure import Group, group_column, groups_of
from .pairing import judged_pairs
from .recommend import recommend
from .regret import PREFERENCES, Preference, Worth, regrets
from .results import (
    Contender,
    Interval,
    Pair,
    break_evens,
    mean_cost,
    names_of,
    pareto_front,
)

__all__ = [
    "Comparison",
    "Contender",
    "Group",
    "Interval",
    "Judging",
    "Pair",
    "admit",
    "aligned",
    "compare",
    "group_column",
    "judged_role",
]


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
    regret: dict[str, float] = field_of(default_factory=dict)  # name -> the largest plausible loss of taking it
    cv: dict[str, Any] | None = None  # folds, repeats, rows, method, where each row was judged out of fold

    def to_json(self) -> dict[str, Any]:
        record: dict[str, Any] = finite(asdict(self))
        return record


@dataclass(frozen=True)
class Judging:
    """By which measure contenders are judged, what a loss is worth, and how often is drawn.

    `margin` is the difference, in the metric's own unit (accuracy: a share from 0 to 1), below which two are
    equivalent; `draws` and `row_draws` are bootstrap draws of counts and of rows; `by` (n,) groups the judged rows, in
    the order of the first run's split.
    """

    metric: str = "accuracy"
    margin: float = 0.01
    worth: Worth | None = None  # what the user gives for a point
    prefer: str = "best"  # or cheap
    draws: int = 10_000
    row_draws: int = 2_000
    seed: int = 0
    truncated_share: float | None = None
    by: np.ndarray | None = None
    by_name: str = ""
    left_out: Sequence[str] = ()
    folds: RowFolds | None = None  # predictions are out of fold
    tried: int = 0  # other settings that were judged on the same rows before


def compare(runs: Sequence[Run], judging: Judging = Judging(), **changes: Any) -> Comparison:
    """Judge `runs` on the rows they share, as `judging` says with `changes` (its fields) made to it.

    Runs that differ in their seed alone are one contender. With `folds` the predictions of every run are out of fold,
    and each two are judged on the rows that both predicted.

    Raises UserError if there are no runs, if they answer different questions (data set, classes, rows) or if the
    metric or the preference is unknown.

    Examples
    --------
    >>> from probe_or_tune import compare, load_run
    >>> found = compare([load_run(RUN), load_run(BASELINE)], metric="macro_f1", draws=200, row_draws=50)
    >>> found.rows, len(found.pairs), found.pairs[0].verdict in ("better", "equivalent", "undecided")
    (30, 1, True)
    >>> interval = found.contenders[0].metrics["macro_f1"]
    >>> interval.low <= interval.value <= interval.high
    True
    """
    ask = replace(judging, **changes)
    choose(METRICS, ask.metric, "metric")
    choose(dict.fromkeys(PREFERENCES), ask.prefer, "preference")
    judged = aligned(runs) if ask.folds is None else [run.predictions[judged_role(runs)] for run in runs]
    metric_for(ask.metric, judged[0].truth)
    fits = entrants(runs)
    evidence = evidence_of(fits, runs, judged, ask)
    names = names_of([fit.best for fit in fits])
    sign = METRICS[ask.metric].sign
    order = sorted(
        range(len(fits)), key=lambda i: (-sign * evidence.order[ask.metric][i], names[i])
    )  # not by the clock
    contenders = contenders_of(fits, names, order, evidence, ask.metric)
    paired = {m: pairs_of(m, order, names, fits, evidence, ask) for m in with_usual(ask.metric)}
    others = [pair for m in ALWAYS if m != ask.metric for pair in paired[m]]
    serious = [c.name for c in contenders if family_of(c.kind) != "constant"]
    losses = regrets(serious, paired[ask.metric])
    rows = max(evidence.rows)
    known = {names[i]: fits[i].best for i in range(len(fits))}
    advice = Advice(ask.metric, Preference(ask.margin, ask.worth, ask.prefer), rows, losses, ask.folds)
    recommended, sentence, reasons = recommend(contenders, paired[ask.metric], known, advice, others)
    first, shared = runs[0], [evidence.shared[i] for i in order]
    return Comparison(
        dataset=first.dataset,
        dataset_digest=first.dataset_digest,
        split=judged[0].split,
        rows=rows,
        class_names=first.class_names,
        metric=ask.metric,
        margin=ask.margin,
        truncated_share=ask.truncated_share,
        contenders=tuple(contenders),
        pairs=tuple(paired[ask.metric]),
        recommendation=sentence,
        reasons=(*reasons, *caveats(rows, ask)),
        break_even=tuple(break_evens(contenders)),
        by=ask.by_name,
        groups=groups_of(ask.by, shared, [names[i] for i in order], first.class_names, ask.seed),
        left_out=tuple(ask.left_out),
        other_pairs=tuple(others),
        recommended=recommended,
        regret=losses,
        cv=None if ask.folds is None else ask.folds.to_json(),
    )


def evidence_of(fits: Sequence[Entrant], runs: Sequence[Run], judged: Sequence[Predictions], ask: Judging) -> Evidence:
    """What the judged rows say of each fit."""
    of = {id(run): predictions for run, predictions in zip(runs, judged, strict=True)}
    sampling = Sampling(runs[0].class_names, ask.draws, ask.row_draws, ask.seed)
    if ask.folds is not None:
        return out_of_fold([of[id(fit.best)] for fit in fits], ask.folds, sampling)
    seeds = [sorted(fit.runs, key=lambda run, best=fit.best: run is not best) for fit in fits]  # type: ignore[misc]
    return on_one_split([[of[id(run)] for run in several] for several in seeds], sampling)


def contenders_of(
    fits: Sequence[Entrant], names: Sequence[str], order: Sequence[int], evidence: Evidence, metric: str
) -> list[Contender]:
    """The table, best first."""
    contenders = []
    for rank, i in enumerate(order):
        fit, best = fits[i], fits[i].best
        contenders.append(
            Contender(
                name=names[i],
                kind=best.kind,
                run=str(best.folder or ""),
                metrics={m: Interval(float(evidence.value[m][i]), *evidence.interval[m][i]) for m in METRICS},
                cost=best.cost if len(fit.runs) == 1 else mean_cost([run.cost for run in fit.runs]),
                notes=best.notes,
                chosen=rank == 0 and len(order) > 1,
                seed_spread=evidence.spread[metric][i],
                seeds=len(fit.runs),
                runs=tuple(str(run.folder or "") for run in fit.runs),
                rows=evidence.rows[i],
            )
        )
    front = pareto_front(contenders, metric)
    return [replace(c, pareto=c.name in front) for c in contenders]


# ── numbers ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def family_of(kind: str) -> str:
    return kind_row(kind).family


def pairs_of(
    metric: str, order: Sequence[int], names: Sequence[str], fits: Sequence[Entrant], evidence: Evidence, ask: Judging
) -> list[Pair]:
    """Every pair of contenders, the better-scored first, in one metric; guessing is judged in a family of its own."""
    couples = list(combinations(order, 2))
    random = np.random.default_rng([ask.seed, 1]).spawn(len(couples))
    measured = {couple: evidence.pair(metric, *couple, rng) for couple, rng in zip(couples, random, strict=True)}
    copies = near_copies(np.array([p.labels for p in evidence.shared]))
    constant = {i for i in order if family_of(fits[i].best.kind) == "constant"}
    found: dict[tuple[int, int], Pair] = {}
    for guessing in (False, True):
        family = [couple for couple in couples if bool(constant & set(couple)) is guessing]
        facts = [measured[couple] for couple in family]
        found |= zip(family, judged_pairs(metric, ask.margin, names, family, copies, facts), strict=True)
    return [found[couple] for couple in couples]


def caveats(rows: int, ask: Judging) -> list[str]:
    """What limits the whole comparison."""
    found = []
    if rows < 200:
        found.append(f"Only {rows} rows were judged: all but large differences stay undecided.")
    if ask.tried:
        found.append(
            f"{ask.tried} other settings have been judged on these rows before, and no p is adjusted for them: "
            f"a false verdict is to be expected in about {100 * false_share(ask.tried):.0f} of 100 such searches "
            "instead of 5; judge the one that you take on rows that have not been looked at."
        )
    if ask.truncated_share is not None and ask.truncated_share >= 0.05:
        found.append(
            f"{100 * ask.truncated_share:.0f} % of the texts were cut at max_length: "
            "an encoder that reads more of them may score higher."
        )
    if ask.left_out:
        found.append(f"Left out: {listed(ask.left_out)}.")
    return found


# ── a room and a function of one name ───────────────────────────────────────────────────────────────────────────────


class _Room(ModuleType):
    """`from pipeline import compare` gives the function, or this room once it has been imported: both can be called."""

    def __call__(self, *runs: Any, **changes: Any) -> Comparison:
        return compare(*runs, **changes)


sys.modules[__name__].__class__ = _Room
