"""What each section of the page shows: Facts → Section, a row of SECTIONS each.

A section whose facts are missing is None and left out. To add one: a function here, a row in SECTIONS, and a block
`pipeline/report/templates/<name>.html.j2`.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.metrics import METRICS, change, class_f1, confusion, reliability, unit, with_usual
from pipeline.report import audited, charts
from pipeline.report.facts import Facts, metric_name, plain
from pipeline.report.numbers import frontier, principal, sparse
from pipeline.verdict.results import HORIZON, total_seconds, training_seconds
from pipeline.words import format_duration, shorten, spaced

if TYPE_CHECKING:
    from pipeline.verdict import Contender, Pair

ROWS, POINTS, CLASSES, MISTAKES, PAIRS, TRIED = 400, 1200, 30, 40, 10, 60  # what keeps the page small, and readable
TEXT, SNIPPET, HEAD = 600, 140, 60  # characters
COSTS = {  # field of Cost -> how the page calls it
    "fit_seconds": "seconds to learn",
    "extract_seconds": "seconds to encode its rows once",
    "ms_per_text_batch": "ms a text, in batches",
    "ms_per_text_single": "ms a text, one at a time",
    "model_mb": "MB of model, encoder included",
    "peak_rss_mb": "MB of memory at most",
    "trained_parameters": "trained parameters",
}
QUANTILES = {"min": 0.0, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p90": 0.9, "p95": 0.95, "p99": 0.99, "max": 1.0}


@dataclass(frozen=True)
class Section:
    """What one block shows: `told` to its template, `charts` by the id of their place, `given` to its script."""

    title: str
    told: dict[str, Any] = field(default_factory=dict)
    charts: dict[str, charts.Spec] = field(default_factory=dict)
    given: Any = None
    short: str = ""  # in the navigation


# ── sections ────────────────────────────────────────────────────────────────────────────────────────────────────────


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
    told = {"head": head, "lead": lead, "metrics": _headline(facts), "learning": learning}
    told["remarks"] = [*remarks, *(f"left out: {line}" for line in c.left_out)]
    return Section("Verdict", told)


def scores(facts: Facts) -> Section:
    """Dots with intervals, and the paired differences."""
    c, names, drawn = facts.comparison, [x.name for x in facts.comparison.contenders], {}
    for metric in _headline(facts):
        rows = [_dot(i, x, metric, c.recommended) for i, x in enumerate(c.contenders) if metric in x.metrics]
        if rows:
            drawn[f"scores-{metric}"] = charts.intervals(rows, names, metric_name(metric), _percent(metric))
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
    told = {"metrics": facts.metrics, "shown": shown, "pairs": [*c.pairs, *c.other_pairs]}
    return Section("Scores", told, drawn)


def cost(facts: Facts) -> Section | None:
    """Score against every cost that was measured for at least two contenders."""
    c = facts.comparison
    spent = {"total": [total_seconds(x.cost) for x in c.contenders]}
    spent |= {key: [getattr(x.cost, key) for x in c.contenders] for key in COSTS}
    titles = {"total": f"seconds to learn and to label {HORIZON:,} texts"} | COSTS
    drawn = {}
    for key, values in spent.items():
        rows = [
            _dot(i, x, c.metric, c.recommended) | {"cost": value}
            for i, (x, value) in enumerate(zip(c.contenders, values, strict=True))
            if value is not None and 0 < value < math.inf
        ]
        if len(rows) > 1:
            front = frontier(rows, c.metric)
            rows = [row | {"pareto": int(row["i"] in front)} for row in rows]
            names = [x.name for x in c.contenders]
            drawn[f"cost-{key}"] = charts.cost(rows, names, titles[key], metric_name(c.metric), _percent(c.metric))
    if not drawn:
        return None
    measured = {key: title for key, title in COSTS.items() if any(v is not None for v in spent[key])}
    least = {key: min(v for v in spent[key] if v is not None) for key in measured}
    shown = {place: titles[place.removeprefix("cost-")] for place in drawn}
    return Section("Cost against score", {"shown": shown, "measured": measured, "least": least}, drawn, short="Cost")


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
    told = {"curve": curve, "sizes": sorted({row["labels"] for row in rows}), "points": points}
    return Section("Are more labels worth it?", told, drawn, short="Labels")


def errors(facts: Facts) -> Section | None:
    """Confusion of every contender, F1 of every class, and the mistakes made most often."""
    if not facts.judged:
        return None
    k = len(facts.classes)
    tables = [confusion(facts.truth, said, k) for said in facts.said().T]  # each (k, k)
    f1 = [class_f1(np.diag(table), table.sum(0), table.sum(1)) for table in tables]
    mistakes = np.sum(tables, axis=0)
    mistakes -= np.diag(np.diag(mistakes))
    shown = np.sort(np.argsort(-(mistakes.sum(0) + mistakes.sum(1)), kind="stable")[:CLASSES])
    order = np.argsort(-mistakes, axis=None, kind="stable")[:MISTAKES]
    worst = [
        {"true": facts.classes[t], "said": facts.classes[p], "counts": [int(table[t, p]) for table in tables]}
        for t, p in zip(*np.unravel_index(order, mistakes.shape), strict=True)
        if mistakes[t, p]
    ]
    by_class = [
        {"name": name, "rows": int((facts.truth == i).sum()), "f1": [float(of[i]) for of in f1]}
        for i, name in enumerate(facts.classes)
    ]
    told = {"names": facts.names, "worst": worst, "by_class": by_class, "k": k, "shown": len(shown)}
    cells = [sparse(table) for table in tables]
    given = {"names": facts.names, "classes": facts.classes, "shown": shown, "tables": cells}
    return Section("Where each one errs", told, given=given, short="Errors")


def calibration(facts: Facts) -> Section | None:
    """Reliability diagrams."""
    if not facts.judged:
        return None
    bins = {name: reliability(p.truth, np.asarray(p.proba, np.float64)) for name, p in facts.judged.items()}
    drawn = {f"calibration-{i}": charts.reliability(bins[name]) for i, name in enumerate(facts.names)}
    told = {"names": facts.names, "bins": bins, "few": charts.FEW}
    return Section("Can the probabilities be believed?", told, drawn, short="Reliability")


def training(facts: Facts) -> Section | None:
    """Losses and scores by epoch, the state before training included."""
    curves: list[dict[str, Any]] = []
    drawn: dict[str, charts.Spec] = {}
    for name, run in facts.runs.items():
        epochs = [_flat(point) for point in run.history if _number(point.get("epoch"))]
        keys = [key for key in dict.fromkeys(key for point in epochs for key in point) if key != "epoch"]
        keys = [key for key in keys if any(_number(point.get(key)) for point in epochs)]
        if len(epochs) < 2 or not keys:
            continue
        for part in ("loss", "score"):
            chosen = [key for key in keys if ("loss" in key) == (part == "loss") and re.search("loss|accuracy|F1", key)]
            rows = [
                {"epoch": point["epoch"], "value": point[key], "i": i}
                for i, key in enumerate(chosen)
                for point in epochs
                if _number(point.get(key))
            ]
            if rows:
                drawn[f"training-{len(curves)}-{part}"] = charts.history(rows, chosen, part)
        curves.append({"name": name, "keys": keys, "epochs": epochs})
    return Section("Training curves", {"curves": curves}, drawn, short="Training") if curves else None


def data(facts: Facts) -> Section | None:
    """Class balance, lengths, findings."""
    if facts.profile is None:
        return None
    profile = plain(facts.profile.to_json())
    splits = {name: split["classes"] for name, split in profile["splits"].items()}
    names = list(dict.fromkeys(name for classes in splits.values() for name in classes))
    counts = {name: [int(classes.get(name, 0)) for classes in splits.values()] for name in names}
    drawn: dict[str, charts.Spec] = {}
    largest = sorted(counts, key=lambda name: -sum(counts[name]))[:CLASSES]
    if counts:
        whole = [max(1, sum(classes.values())) for classes in splits.values()]
        rows = [
            {"i": i, "split": j, "share": counts[name][j] / whole[j], "rows": counts[name][j]}
            for i, name in enumerate(largest)
            for j in range(len(splits))
        ]
        drawn["data-classes"] = charts.shares(rows, largest, list(splits))
    tokens, lengths = profile["tokens"], profile["tokens_by_class"]
    points = [{"share": s, "tokens": tokens[key]} for key, s in QUANTILES.items() if _number(tokens.get(key))]
    if len(points) > 1:
        drawn["data-tokens"] = charts.quantiles(points, profile["max_length"])
    for part, found, counted in (("lengths", lengths, "tokens"), ("words", profile["words_by_class"], "words")):
        if some := [name for name in largest if name in found]:
            drawn[f"data-{part}"] = charts.boxes(
                [{"i": i, **found[name]} for i, name in enumerate(some)], some, counted
            )
    told = {
        "splits": list(splits),
        "counts": counts,
        "shown": min(len(names), CLASSES),
        "findings": profile["findings"],
        "facts": _profile_facts(profile),
        "lengths": lengths,
    }
    return Section("The data", told, drawn, short="Data")


def vector_map(facts: Facts) -> Section | None:
    """The judged split's vectors on their two main components, by label or by who errs."""
    if not facts.vectors or not facts.judged:
        return None
    n, truth = len(facts.truth), facts.truth
    kept = np.sort(np.random.default_rng(0).permutation(n)[:POINTS])
    common = np.sort(np.argsort(-np.bincount(truth, minlength=len(facts.classes)), kind="stable")[:7])
    place = {int(label): i for i, label in enumerate(common)}
    names = [facts.classes[label] for label in common] + ["other classes"] * (len(facts.classes) > 7)
    maps, explained = [], {}
    for name, vectors in facts.vectors.items():
        spots, explained[name] = principal(vectors)
        maps.append(spots[kept].round(3))
    by_label = {"names": names, "places": [place.get(int(label), 7) for label in truth[kept]]}
    wrong = facts.said()[kept] != truth[kept, None]  # (points, c)
    texts = facts.texts()
    given = {
        "maps": maps,
        "colourings": [by_label, *({"names": ["right", "wrong"], "places": w.astype(int)} for w in wrong.T)],
        "texts": [shorten(" ⏐ ".join(texts.get(str(row), ())), SNIPPET) for row in facts.row_ids[kept]],
        "labels": [facts.classes[label] for label in truth[kept]],
        "spec": charts.points(names),
        "palette": charts.PALETTE,
        "rightWrong": charts.RIGHT_WRONG,
    }
    told = {"explained": explained, "contenders": facts.names, "rows": len(kept), "of": n}
    return Section("A map of the vectors", told, given=given, short="Map")


def disagreements(facts: Facts) -> Section | None:
    """Rows on which the contenders do not say the same, those first on which they differ most about the truth.

    One that says the same of every row disagrees with everybody about nothing, and is left out.
    """
    names = [name for name, said in zip(facts.names, facts.said().T, strict=True) if len(set(said)) > 1]
    if len(names) < 2:
        return None
    truth, rows = facts.truth, np.arange(len(facts.truth))
    probas = np.stack([facts.judged[name].proba for name in names], axis=1)  # (n, c, k)
    said = np.stack([facts.judged[name].labels for name in names], axis=1)  # (n, c)
    sure = np.take_along_axis(probas, said[:, :, None], 2)[:, :, 0]  # (n, c)
    own = probas[rows, :, truth]  # (n, c): probability of the true label
    spread = own.max(1) - own.min(1)
    differ = np.flatnonzero((said != said[:, :1]).any(1))
    texts = facts.texts()
    shown = [
        {
            "id": str(facts.row_ids[i]),
            "text": [shorten(part, TEXT) for part in texts.get(str(facts.row_ids[i]), ())],
            "label": truth[i],
            "said": [[s, round(float(p), 3)] for s, p in zip(said[i], sure[i], strict=True)],
            "spread": round(float(spread[i]), 3),
        }
        for i in differ[np.argsort(-spread[differ], kind="stable")][:ROWS]
    ]
    silent = [name for name in facts.names if name not in names]
    told = {"shown": len(shown), "differ": len(differ), "of": len(said), "silent": silent}
    given = {"names": names, "classes": facts.classes, "rows": shown}
    return Section("Where they disagree", told, given=given, short="Disagreements")


def audit(facts: Facts) -> Section | None:
    """Labels in doubt, near-repeats, what leaks are worth, rows by their loss."""
    if facts.audit is None:
        return None
    told, given = audited.told(facts.audit), audited.given(facts.audit)
    return Section("What may be wrong with the data", told, given=given, short="Audit")


def made(facts: Facts) -> Section:
    """How it was made: versions, machine, commands, seeds, digests."""
    runs = []
    for name, run in facts.runs.items():
        settings = json.dumps(plain(run.settings), indent=1, ensure_ascii=False)
        tried = [_flat(point) for point in run.history if not _number(point.get("epoch"))][:TRIED]
        columns = list(dict.fromkeys(key for point in tried for key in point))
        runs.append({"name": name, "run": run, "settings": settings, "tried": tried, "columns": columns})
    versions = {name: version for run in facts.runs.values() for name, version in run.versions.items()}
    now = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    return Section("How it was made", {"runs": runs, "versions": versions, "when": now}, short="Made")


SECTIONS: dict[str, Callable[[Facts], Section | None]] = {
    "verdict": verdict,
    "scores": scores,
    "cost": cost,
    "curve": by_labels,
    "errors": errors,
    "calibration": calibration,
    "training": training,
    "data": data,
    "map": vector_map,
    "disagreements": disagreements,
    "audit": audit,
    "made": made,
}


# ── what they share ─────────────────────────────────────────────────────────────────────────────────────────────────


def headline(sentence: str) -> tuple[str, str]:
    """A recommendation as what to do and why: `Fine-tune: it is …` is split at its first colon."""
    head, _, rest = sentence.partition(": ")
    return (head, rest) if rest and len(head) <= HEAD else (sentence, "")


def _headline(facts: Facts) -> list[str]:
    """The metrics of the first screen."""
    return [m for m in facts.metrics if m in with_usual(facts.comparison.metric)]


def _telling(facts: Facts) -> list[Pair]:
    """Every pair if they are few, else those of the contender that is recommended, or best."""
    c = facts.comparison
    if len(c.pairs) <= PAIRS or not c.contenders:
        return list(c.pairs)
    taken = c.recommended or c.contenders[0].name
    return [pair for pair in c.pairs if taken in (pair.a, pair.b)]


def _percent(metric: str) -> bool:
    return METRICS[metric].percent


def _dot(place: int, contender: Contender, metric: str, recommended: str | None) -> dict[str, Any]:
    at = contender.metrics[metric]
    strong = int(contender.name == recommended)
    return {"i": place, "value": at.value, "low": at.low, "high": at.high, "strong": strong}


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _flat(point: Mapping[str, Any]) -> dict[str, Any]:
    """A record of a history without records in it, named in words: `validation macro F1`."""
    found: dict[str, Any] = {}
    for key, value in point.items():
        if isinstance(value, Mapping):
            found |= {f"{key} {metric_name(inner)}": v for inner, v in value.items()}
        else:
            found["training loss" if key == "loss" else spaced(key)] = value
    return found


def _profile_facts(profile: Mapping[str, Any]) -> dict[str, str]:
    """The profile's single numbers, in words."""
    facts = {f"tokens, {key}": f"{value:,.4g}" for key, value in profile["tokens"].items()}
    facts["proposed max_length"] = f"{profile['max_length']:,}"
    facts["texts longer than that"] = f"{profile['proposed_truncated_share']:.1%}"
    facts["texts cut at the max_length in use"] = f"{profile['truncated_share']:.1%}"
    counts = {"empty texts": "empty", "repeated texts": "duplicates", "texts with several labels": "conflicting"}
    facts |= {name: f"{profile[key]:,}" for name, key in counts.items()}
    facts |= {f"cut at max_length {length}": f"{share:.1%}" for length, share in profile.get("cut_at", {}).items()}
    if unknown := profile.get("unknown_words"):
        named = ", ".join(f"{shorten(word, 20)} ({n:,})" for word, n in list(unknown.items())[:10])
        facts["words unknown to the tokenizer"] = named
    return facts | {f"rows in both, {pair}": f"{n:,}" for pair, n in profile["leaks"].items()}
