"""Sections on what the contenders score and cost: verdict, scores, costs, scores by number of labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..kinds import kind_row
from ..metrics import METRICS, change, unit, with_usual
from ..verdict.results import HORIZON, plain, total_seconds, training_seconds
from ..words import format_duration
from . import charts
from .facts import Facts, metric_name
from .numbers import frontier
from .section import Section

if TYPE_CHECKING:
    from ..verdict import Comparison, Contender, Pair

PAIRS, HEAD = 10, 60  # differences that are drawn, characters of a heading
COSTS = {  # field of Cost -> how the page calls it
    "fit_seconds": "seconds to learn",
    "extract_seconds": "seconds to encode its rows once",
    "ms_per_text_batch": "ms a text, in batches",
    "ms_per_text_single": "ms a text, one at a time",
    "model_mb": "MB of model, encoder included",
    "peak_rss_mb": "MB of memory at most",
    "trained_parameters": "trained parameters",
}
TITLES = {"total": f"seconds to learn and to label {HORIZON:,} texts"} | COSTS
PRICE = "cost-total"  # what the first screen draws


def verdict(facts: Facts) -> Section:
    """The recommendation and the contenders' table."""
    c = facts.comparison
    remarks = [
        f"{x.name}: {change(c.metric, x.seed_spread)}{unit(c.metric)} of {metric_name(c.metric)} between its seeds"
        for x in c.contenders
        if x.seed_spread is not None
    ]
    if c.truncated_share:
        remarks.append(f"{100 * c.truncated_share:.1f} % of the texts are longer than max_length and were cut")
    learning = {x.name: format_duration(training_seconds(x.cost)) for x in c.contenders}
    head, lead = headline(c.recommendation)
    rows = ", ".join(f"{x.name} {x.rows:,}" for x in c.contenders)
    view = {"head": head, "lead": lead, "metrics": _headline(facts), "learning": learning, "rows": rows}
    view["remarks"] = [*remarks, *(f"left out: {line}" for line in c.left_out)]
    view |= {"why": why(c), "encoders": encoders(facts), "price": PRICE}
    drawn = {key: chart for key, chart in priced(facts, serious(c)).items() if key == PRICE}
    return Section("Verdict", view, {f"first-{key}": chart for key, chart in drawn.items()})


def why(c: Comparison) -> str:
    """In a word, why the recommended contender is recommended."""
    if c.recommended is None:
        return ""
    rivals = [x for x in c.contenders if kind_row(x.kind).family != "constant"]
    if c.recommended == next((x.name for x in rivals), ""):
        return "best seen"
    loss = c.regret.get(c.recommended)
    lost = "" if loss is None else f", loses at most {change(c.metric, loss)}{unit(c.metric)}"
    whole = c.recommended == next((x.name for x in rivals if not x.ended), "")
    return f"{'best of those trained to their end' if whole else 'cheaper'}{lost}"


def encoders(facts: Facts) -> list[str]:
    """Encoder and pooling of the runs that have one: `all-MiniLM-L6-v2, mean`."""
    settings = [run.settings for run in facts.runs.values() if run.settings.get("encoder")]
    named = [", ".join(plain(key, s[key]) for key in ("encoder", "pooling") if s.get(key)) for s in settings]
    names = list(dict.fromkeys(named))
    return [name for name in names if not any(other != name and other.startswith(f"{name},") for other in names)]


def serious(c: Comparison) -> list[Contender]:
    """Those that do more than guess; all where nobody does."""
    return [x for x in c.contenders if kind_row(x.kind).family != "constant"] or list(c.contenders)


def scores(facts: Facts) -> Section:
    """Dots with intervals, and the paired differences."""
    c, names, drawn = facts.comparison, [x.name for x in facts.comparison.contenders], {}
    for metric in _headline(facts):
        rows = [_dot(i, x, metric, c.recommended) for i, x in enumerate(c.contenders) if metric in x.metrics]
        ends = [
            end for x in serious(c) if metric in x.metrics for end in (x.metrics[metric].low, x.metrics[metric].high)
        ]
        ends = [end for end in ends if math.isfinite(end)]
        if rows and ends:
            room = charts.Room(min(ends), max(ends), METRICS[metric].high)
            drawn[f"scores-{metric}"] = charts.intervals(rows, names, metric_name(metric), _percent(metric), room)
    shown = _telling(facts)
    if shown:
        by = 100 if _percent(c.metric) else 1
        rows = [
            {
                "i": i,
                "value": by * p.difference,
                "low": by * p.low,
                "high": by * p.high,
                "strong": int(not p.low <= 0 <= p.high),
            }
            for i, p in enumerate(shown)
        ]
        title = f"difference in {metric_name(c.metric)}" + (", points" if by == 100 else "")
        drawn["differences"] = charts.differences(rows, [f"{p.a} − {p.b}" for p in shown], title)
    view = {"metrics": facts.metrics, "shown": shown, "pairs": [*c.pairs, *c.other_pairs]}
    return Section("Scores", view, drawn)


def cost(facts: Facts) -> Section | None:
    """Score against every cost that was measured for at least two contenders."""
    c = facts.comparison
    drawn = priced(facts, serious(c))
    if not drawn:
        return None
    known = {key: [value for x in c.contenders if (value := getattr(x.cost, key)) is not None] for key in COSTS}
    measured = {key: COSTS[key] for key, values in known.items() if values}
    least = {key: min(known[key]) for key in measured}
    shown = {place: TITLES[place.removeprefix("cost-")] for place in drawn}
    return Section("Cost against score", {"shown": shown, "measured": measured, "least": least}, drawn, short="Cost")


def priced(facts: Facts, contenders: Sequence[Contender]) -> dict[str, Any]:
    """The metric against every cost that was measured for at least two of the contenders, drawn."""
    c = facts.comparison
    spent = {"total": [total_seconds(x.cost) for x in contenders]}
    spent |= {key: [getattr(x.cost, key) for x in contenders] for key in COSTS}
    drawn = {}
    for key, values in spent.items():
        rows = [
            _dot(i, x, c.metric, c.recommended) | {"cost": value}
            for i, (x, value) in enumerate(zip(contenders, values, strict=True))
            if value is not None and 0 < value < math.inf
        ]
        if len(rows) > 1:
            front = frontier(rows, c.metric)
            rows = [row | {"pareto": int(row["i"] in front)} for row in rows]
            names = [x.name for x in contenders]
            drawn[f"cost-{key}"] = charts.cost(rows, names, TITLES[key], metric_name(c.metric), _percent(c.metric))
    return drawn


def by_labels(facts: Facts) -> Section | None:
    """Scores against number of labels, and where the lines cross."""
    curve = facts.curve
    if curve is None or not curve.lines:
        return None
    rows = [
        {"i": i, "labels": p.size, "value": p.value, "low": p.low, "high": p.high, "draws": len(p.draws)}
        for i, line in enumerate(curve.lines)
        for p in line.points
    ]
    names = [line.name for line in curve.lines]
    drawn = {"curve-score": charts.by_labels(rows, names, metric_name(curve.metric), _percent(curve.metric))}
    points = [{point.size: point for point in line.points} for line in curve.lines]
    view = {"curve": curve, "sizes": sorted({row["labels"] for row in rows}), "points": points}
    return Section("Are more labels worth it?", view, drawn, short="Labels")


def headline(sentence: str) -> tuple[str, str]:
    """A recommendation as what to do and why: `Fine-tune: it is …` is split at its first colon."""
    head, _, rest = sentence.partition(": ")
    return (head, rest) if rest and len(head) <= HEAD else (sentence, "")


def _headline(facts: Facts) -> list[str]:
    """The metrics of the first screen."""
    return [m for m in facts.metrics if m in with_usual(facts.comparison.metric)]


def _telling(facts: Facts) -> list[Pair]:
    """Every pair of those that do more than guess if they are few, else those of who is recommended, or best."""
    c = facts.comparison
    names = {x.name for x in serious(c)}
    pairs = [pair for pair in c.pairs if {pair.a, pair.b} <= names] or list(c.pairs)
    if len(pairs) <= PAIRS or not c.contenders:
        return pairs
    taken = c.recommended or c.contenders[0].name
    return [pair for pair in pairs if taken in (pair.a, pair.b)]


def _percent(metric: str) -> bool:
    return METRICS[metric].percent


def _dot(place: int, contender: Contender, metric: str, recommended: str | None) -> dict[str, Any]:
    at = contender.metrics[metric]
    strong = int(contender.name == recommended)
    return {"i": place, "value": at.value, "low": at.low, "high": at.high, "strong": strong}
