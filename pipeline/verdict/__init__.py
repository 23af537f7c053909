"""Runs → Comparison: the same rows for all, scores with intervals, paired tests, costs and the verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from dataclasses import field as field_of  # `field` is a module of this room
from itertools import combinations
from typing import Any

import numpy as np

from .. import UserError, choose, finite, listed
from ..kinds import kind_row
from ..metrics import ALWAYS, METRICS, change, metric_for, unit, with_usual
from ..run import Predictions, Run, as_run, ended, in_words
from ..words import MISSING
from .alignment import aligned, judged_role
from .crossvalidation import RowFolds
from .evidence import Entrant, Evidence, Sampling, entrants, on_one_split
from .external import admit
from .families import false_share, near_copies
from .field import Advice
from .fold_evidence import out_of_fold
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
    reading,
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

    def __repr__(self) -> str:
        return f"<Comparison on {self.rows:,} rows of {self.dataset}: {self.recommendation}>"

    def to_json(self) -> dict[str, Any]:
        record: dict[str, Any] = finite(asdict(self))
        return record

    @property
    def judged_rows(self) -> str:
        """What scores and intervals are over: `557 rows of 'test'`, or `300 rows of 'all', each out of fold`."""
        return f"{self.rows:,} rows of '{self.split}'" + (", each out of fold" if self.cv else "")

    def may_lose(self, name: str) -> str:
        """The largest loss that the rows leave plausible if it is taken, `3.1 points`; – for one that only guesses."""
        loss = self.regret.get(name)
        return MISSING if loss is None else f"{change(self.metric, loss)}{unit(self.metric)}"


@dataclass(frozen=True)
class Judging:
    """By which measure contenders are judged, what a loss is worth, and how often is drawn.

    `margin` is the difference, in the metric's unit (accuracy: a share from 0 to 1), below which two are
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

    def check(self) -> None:
        """Raises UserError if the metric or the preference is unknown, or the margin is no number from 0 on."""
        choose(METRICS, self.metric, "metric")
        if not 0 <= self.margin < math.inf:
            raise UserError(f"margin {self.margin}: pass a number from 0 on, such as 0.01")
        choose(dict.fromkeys(PREFERENCES), self.prefer, "preference")


def compare(runs: Sequence[Run], judging: Judging = Judging(), **changes: Any) -> Comparison:
    """Judge `runs` on the rows they share, as `judging` says with `changes` (its fields) made to it.

    Runs that differ in their seed alone are one contender. With `folds` the predictions of every run are out of fold,
    and each two are judged on the rows that both predicted.

    Raises UserError if there are no runs, they answer different questions, or metric or preference are unknown.

    Examples
    --------
    >>> from probe_or_tune import load_run, verdict
    >>> found = verdict.compare([load_run(RUN), load_run(BASELINE)], metric="macro_f1", draws=200, row_draws=50)
    >>> found.rows, len(found.pairs), found.pairs[0].verdict in ("better", "equivalent", "undecided")
    (30, 1, True)
    >>> interval = found.contenders[0].metrics["macro_f1"]
    >>> interval.low <= interval.value <= interval.high
    True
    """
    rules, runs = replace(judging, **changes), [as_run(run) for run in runs]
    rules.check()
    judged = aligned(runs) if rules.folds is None else [run.predictions[judged_role(runs)] for run in runs]
    metric_for(rules.metric, judged[0].truth)
    ranked, first = ranked_fits(runs, judged, rules), runs[0]
    contenders = ranked.contenders()
    paired = {m: ranked.pairs(m) for m in with_usual(rules.metric)}
    others = tuple(pair for m in ALWAYS if m != rules.metric for pair in paired[m])
    advice = ranked.advice(paired[rules.metric])
    recommended, sentence, reasons = recommend(contenders, paired[rules.metric], ranked.handed_over, advice, others)
    return Comparison(
        dataset=first.dataset,
        dataset_digest=first.dataset_digest,
        split=judged[0].split,
        rows=advice.rows,
        class_names=first.class_names,
        metric=rules.metric,
        margin=rules.margin,
        truncated_share=rules.truncated_share,
        contenders=tuple(contenders),
        pairs=tuple(paired[rules.metric]),
        recommendation=sentence,
        reasons=(*reasons, *caveats(advice.rows, rules)),
        break_even=tuple(break_evens(contenders)),
        by=rules.by_name,
        groups=ranked.groups(first.class_names),
        left_out=tuple(rules.left_out),
        other_pairs=others,
        recommended=recommended,
        regret=advice.regret,
        cv=None if rules.folds is None else rules.folds.to_json(),
    )


@dataclass(frozen=True)
class Ranked:
    """Fits, what the judged rows say of each, and their order by it."""

    fits: Sequence[Entrant]
    names: Sequence[str]
    evidence: Evidence
    rules: Judging

    @property
    def order(self) -> list[int]:
        """Places in `fits`, the best first; equal ones by their names, not by the clock."""
        metric = self.rules.metric
        values = -METRICS[metric].sign * self.evidence.order[metric]
        return sorted(range(len(self.fits)), key=lambda i: (values[i], self.names[i]))

    @property
    def handed_over(self) -> dict[str, Run]:
        """The run that each contender hands over, by name."""
        return {name: fit.best for name, fit in zip(self.names, self.fits, strict=True)}

    def contenders(self) -> list[Contender]:
        """The table, best first."""
        evidence, metric, order = self.evidence, self.rules.metric, self.order
        contenders = []
        for rank, i in enumerate(order):
            fit, best = self.fits[i], self.fits[i].best
            contenders.append(
                Contender(
                    name=self.names[i],
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
                    encoder=reading(best)[0],
                    pooling=reading(best)[1],
                    ended=tuple(in_words(why) for run in fit.runs if (why := ended(run))),
                )
            )
        front = pareto_front(contenders, metric)
        return [replace(c, pareto=c.name in front) for c in contenders]

    def pairs(self, metric: str) -> list[Pair]:
        """Every two contenders, the better-scored first, in one metric; guessing is judged in a separate family."""
        order = self.order
        couples = list(combinations(order, 2))
        random = np.random.default_rng([self.rules.seed, 1]).spawn(len(couples))
        facts = {c: self.evidence.pair(metric, *c, rng) for c, rng in zip(couples, random, strict=True)}
        copies = near_copies(np.array([p.labels for p in self.evidence.shared]))
        constant = {i for i in order if family_of(self.fits[i].best.kind) == "constant"}
        pairs: dict[tuple[int, int], Pair] = {}
        for guessing in (False, True):
            family = [couple for couple in couples if bool(constant & set(couple)) is guessing]
            of_family = [facts[couple] for couple in family]
            judged = judged_pairs(metric, self.rules.margin, self.names, family, copies, of_family)
            pairs |= zip(family, judged, strict=True)
        return [pairs[couple] for couple in couples]

    def advice(self, pairs: Sequence[Pair]) -> Advice:
        """What a recommendation rests on, the largest plausible loss of taking each contender but guessing included."""
        rules, rows = self.rules, max(self.evidence.rows)
        names = [self.names[i] for i in self.order if family_of(self.fits[i].best.kind) != "constant"]
        preference = Preference(rules.margin, rules.worth, rules.prefer)
        return Advice(rules.metric, preference, rows, regrets(names, pairs), rules.folds)

    def groups(self, class_names: Sequence[str]) -> tuple[Group, ...]:
        """Scores of groups of the judged rows, where a column groups them."""
        shared, names = [self.evidence.shared[i] for i in self.order], [self.names[i] for i in self.order]
        return groups_of(self.rules.by, shared, names, class_names, self.rules.seed)


def ranked_fits(runs: Sequence[Run], judged: Sequence[Predictions], rules: Judging) -> Ranked:
    """Runs as contenders, with what their judged rows, one set a run, say of each."""
    fits = entrants(runs)
    of = {id(run): predictions for run, predictions in zip(runs, judged, strict=True)}
    sampling = Sampling(runs[0].class_names, rules.draws, rules.row_draws, rules.seed)
    if rules.folds is not None:
        evidence = out_of_fold([of[id(fit.best)] for fit in fits], rules.folds, sampling)
    else:
        evidence = on_one_split([[of[id(run)] for run in fit.best_first] for fit in fits], sampling)
    return Ranked(fits, names_of([fit.best for fit in fits]), evidence, rules)


# ── numbers ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def family_of(kind: str) -> str:
    return kind_row(kind).family


def caveats(rows: int, rules: Judging) -> list[str]:
    """What limits the whole comparison."""
    limits = []
    if rows < 200:
        limits.append(f"Only {rows} rows were judged: all but large differences stay undecided.")
    if rules.tried:
        limits.append(
            f"{rules.tried} other settings have been judged on these rows before, and no p is adjusted for them: "
            f"a false verdict is to be expected in about {100 * false_share(rules.tried):.0f} of 100 such searches "
            "instead of 5; judge the one that you take on rows that have not been looked at."
        )
    if rules.truncated_share is not None and rules.truncated_share >= 0.05:
        limits.append(
            f"{100 * rules.truncated_share:.0f} % of the texts were cut at max_length: "
            "an encoder that reads more of them may score higher."
        )
    if rules.left_out:
        limits.append(f"Left out: {listed(rules.left_out)}.")
    return limits
