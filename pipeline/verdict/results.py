"""Contenders and pairs, and what they say: names, a sentence for each pair, costs, break-even, Pareto front.

Nothing here draws or tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..metrics import METRICS, change, unit
from ..run import STOP, Cost, Run
from ..words import format_duration, format_p

LOSS = "may lose up to"  # heading of the largest plausible loss, wherever contenders stand in a table
HORIZON = 10_000  # texts to predict, when training and prediction are added up to one cost


@dataclass(frozen=True)
class Interval:
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Contender:
    """One run, as it stands beside the others on the judged rows."""

    name: str
    kind: str
    run: str  # its folder, "" if it was never saved
    metrics: dict[str, Interval]
    cost: Cost
    notes: tuple[str, ...] = ()
    pareto: bool = False  # nothing else here scores as high for as little
    chosen: bool = False  # the best on these rows: its score is flattered by having been picked on them
    seed_spread: float | None = None  # largest minus smallest score of the metric over its seeds, if there are several
    seeds: int = 1  # trainings that it stands for: judged by their mean
    runs: tuple[str, ...] = ()  # their folders; `run` is the best on validation
    rows: int = 0  # judged
    encoder: str = ""  # as it was asked for; "" without one
    pooling: str = ""  # of token vectors to a text's
    ended: tuple[str, ...] = ()  # trainings that were ended as hopeless, each in words


@dataclass(frozen=True)
class Pair:
    """The paired difference of two contenders in one metric, `a` minus `b`."""

    a: str
    b: str
    metric: str
    difference: float
    low: float  # 95 % interval, adjusted for the other pairs as p is
    high: float
    p_value: float
    p_adjusted: float  # Holm, over the pairs of this metric
    verdict: str  # of a against b: better, worse, equivalent, undecided
    more_rows: int | None  # about how many more rows until the interval is ±2 points; None unless undecided
    sentence: str
    low90: float = float("nan")  # 90 % interval, adjusted likewise: what equivalence is judged by
    high90: float = float("nan")
    rows: int = 0  # that both predicted
    error: float = float("nan")  # standard error of the difference
    comparisons: int = 1  # that p and interval are adjusted for

    @property
    def gain(self) -> float:
        """How far a is ahead of b, whichever way the metric points."""
        return METRICS[self.metric].sign * self.difference


# ── names and numbers in words ──────────────────────────────────────────────────────────────────────────────────────

TELLING = ("encoder", "pooling", "imbalance", "head", "max_length", "learning_rate", "epochs")  # asked first


def names_of(runs: Sequence[Run]) -> list[str]:
    """A name for each run: its kind, and where runs share a kind, the fewest settings that tell them apart.

    What came with a name is called by it.
    """
    names = []
    for run in runs:
        group = [other for other in runs if other.kind == run.kind]
        if called := run.settings.get("called"):
            names.append(str(called))
            continue
        names.append(run.kind if len(group) == 1 else f"{run.kind} ({', '.join(apart(run, group))})")
    return [f"{name} #{1 + names[:i].count(name)}" if names.count(name) > 1 else name for i, name in enumerate(names)]


def fit_settings(run: Run) -> dict[str, Any]:
    """A run's settings without its seed and what followed from it: runs alike in these differ by their seed alone.

    A learning rate that was found counts as that rate: the other seeds of a fit are given it.
    """
    chosen = run.settings.get("chosen") or {}
    settings = {key: value for key, value in run.settings.items() if key not in ("seed", "chosen", STOP)}
    return settings | ({"learning_rate": chosen["learning_rate"]} if "learning_rate" in chosen else {})


def fit_key(run: Run) -> str:
    """Equal for runs that differ in nothing but the seed."""
    return repr((run.kind, sorted((k, repr(v)) for k, v in fit_settings(run).items()), run.checkpoint_digest))


def apart(run: Run, group: Sequence[Run]) -> list[str]:
    """What tells `run` from the others of its kind."""
    facts = [{k: plain(k, v) for k, v in fit_settings(r).items()} | last(r) for r in group]
    mine = facts[[r is run for r in group].index(True)]
    keys = sorted({key for fact in facts for key in fact} - set(last(run)))
    keys.sort(key=lambda key: TELLING.index(key) if key in TELLING else len(TELLING))
    used: list[str] = []
    for key in [*keys, *last(run)]:
        if len({fact.get(key) for fact in facts}) > 1:
            used.append(key)
            if len({tuple(fact.get(k) for k in used) for fact in facts}) == len(facts):
                break
    return [mine[key] for key in used if key in mine] or [f"seed {run.seed}"]


def last(run: Run) -> dict[str, str]:
    """What runs are distinguished by where no setting does it: the encoder's bytes, then the seed."""
    return {
        "bytes": f"checkpoint {run.checkpoint_digest[:8] if run.checkpoint_digest else 'none'}",
        "seed": f"seed {run.seed}",
    }


def plain(key: str, value: Any) -> str:
    """A setting as a name shows it: `roberta-base`, `mean`, `learning_rate 2e-05`."""
    if isinstance(value, (list, tuple)):
        value = "+".join(map(str, value))
    if key == "encoder":
        return str(value).rstrip("/").rpartition("/")[2]
    return str(value) if key in ("pooling", "imbalance", "head") else f"{key} {value}"


def reading(run: Run) -> tuple[str, str]:
    """The encoder of a run and its pooling, the chosen one where the folds chose; empty without an encoder."""
    encoder, pooling = (str(run.settings.get(key) or "") for key in ("encoder", "pooling"))
    tried = [point for point in run.history if point.get("what") == "pooling"]
    if pooling == "auto" and tried:
        pooling = min(tried, key=lambda point: point["log_loss"])["pooling"]
    return (plain("encoder", encoder), pooling) if encoder else ("", "")


def readings(contenders: Sequence[Contender]) -> list[str]:
    """Which encoder the contenders read, and how: `minilm, mean-normalized: lr, lr+smote`."""
    names: dict[str, list[str]] = {}
    for contender in contenders:
        if contender.encoder:
            names.setdefault(", ".join(filter(None, (contender.encoder, contender.pooling))), []).append(contender.name)
    return [f"{read}: {', '.join(sorted(who))}" for read, who in names.items()]


def describe(pair: Pair, margin: float) -> str:
    """One sentence with the verdict of a pair and the numbers it rests on."""
    m = pair.metric
    gap = f"{METRICS[m].label} {change(m, pair.difference, True)}{unit(m)}"
    wide = f"95 % interval {change(m, pair.low)} to {change(m, pair.high)}, adjusted {format_p(pair.p_adjusted)}"
    if pair.verdict in ("better", "worse"):
        return f"{pair.a} is {pair.verdict} than {pair.b}: {gap} ({wide})."
    if pair.verdict == "equivalent":
        return (
            f"{pair.a} and {pair.b} are equivalent: {gap} (90 % interval {change(m, pair.low90)} to "
            f"{change(m, pair.high90)}, within ±{change(m, margin)}{unit(m)})."
        )
    width = f"±{change(m, 0.02)}{unit(m)}"
    more = f"; about {pair.more_rows:,} more rows make it {width}" if pair.more_rows else ""
    return f"Undecided between {pair.a} and {pair.b}: {gap} ({wide}){more}."


# ── cost ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def training_seconds(cost: Cost) -> float | None:
    """Learning and encoding the rows it learnt from; None if it was not measured."""
    return None if cost.fit_seconds is None else cost.fit_seconds + (cost.extract_seconds or 0.0)


def total_seconds(cost: Cost, texts: int = HORIZON) -> float:
    """Training and the prediction of `texts` texts; infinite if not measured."""
    training = training_seconds(cost)
    if training is None or cost.ms_per_text_batch is None:
        return float("inf")
    return training + texts * cost.ms_per_text_batch / 1000


def mean_cost(costs: Sequence[Cost]) -> Cost:
    """What one training of several costs on average; None where one was not measured."""
    means = {}
    for name in asdict(costs[0]):
        values = [getattr(cost, name) for cost in costs]
        means[name] = None if None in values else type(values[0])(np.mean(values))
    return Cost(**means)


def break_evens(contenders: Sequence[Contender]) -> list[dict[str, Any]]:
    """For every pair: after how many predictions the dearer training has paid for itself in seconds; None: never."""
    break_evens = []
    for i, one in enumerate(contenders):
        for other in contenders[i + 1 :]:
            times = training_seconds(one.cost), training_seconds(other.cost)
            rates = one.cost.ms_per_text_batch, other.cost.ms_per_text_batch
            if None not in times and None not in rates:
                break_evens.append(break_even(*((one, other) if times[0] >= times[1] else (other, one))))  # type: ignore[operator]
    return break_evens


def break_even(dear: Contender, cheap: Contender) -> dict[str, Any]:
    """The same for one pair, `dear` in training against `cheap`; both measured."""
    extra = (training_seconds(dear.cost) or 0.0) - (training_seconds(cheap.cost) or 0.0)
    saved = (cheap.cost.ms_per_text_batch or 0.0) - (dear.cost.ms_per_text_batch or 0.0)
    predictions = int(np.ceil(1000 * extra / saved)) if saved > 0 else None
    if predictions is None:
        sentence = (
            f"{dear.name} takes {format_duration(extra)} longer to train than {cheap.name} and never wins it back."
        )
    else:
        spent = format_duration(extra)
        sentence = f"{dear.name} wins back its {spent} of training over {cheap.name} after {predictions:,} texts."
    return {
        "dear": dear.name,
        "cheap": cheap.name,
        "extra_training_seconds": extra,
        "saved_ms_per_text": saved,
        "predictions": predictions,
        "sentence": sentence,
    }


def pareto_front(contenders: Sequence[Contender], metric: str) -> set[str]:
    """Names of those that no other contender matches in score for less, or beats in score for as much."""
    sign = METRICS[metric].sign
    points = [(sign * c.metrics[metric].value, -total_seconds(c.cost)) for c in contenders]
    return {
        c.name
        for c, (gain, thrift) in zip(contenders, points, strict=True)
        if not any(g >= gain and t >= thrift and (g, t) != (gain, thrift) for g, t in points)
    }
