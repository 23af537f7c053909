"""Sections on where the runs come from: the data, how training went, versions and settings."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Mapping
from typing import Any

from ..words import shorten, spaced
from . import charts
from .facts import Facts, metric_name, plain
from .section import Section

CLASSES, TRIED = 30, 60  # what keeps the page small, and readable
QUANTILES = {"min": 0.0, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p90": 0.9, "p95": 0.95, "p99": 0.99, "max": 1.0}


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
        totals = [max(1, sum(classes.values())) for classes in splits.values()]
        rows = [
            {"i": i, "split": j, "share": counts[name][j] / totals[j], "rows": counts[name][j]}
            for i, name in enumerate(largest)
            for j in range(len(splits))
        ]
        drawn["data-classes"] = charts.shares(rows, largest, list(splits))
    tokens, lengths = profile["tokens"], profile["tokens_by_class"]
    points = [{"share": s, "tokens": tokens[key]} for key, s in QUANTILES.items() if _number(tokens.get(key))]
    if len(points) > 1:
        drawn["data-tokens"] = charts.quantiles(points, profile["max_length"])
    for part, by_class, counted in (("lengths", lengths, "tokens"), ("words", profile["words_by_class"], "words")):
        if some := [name for name in largest if name in by_class]:
            drawn[f"data-{part}"] = charts.boxes(
                [{"i": i, **by_class[name]} for i, name in enumerate(some)], some, counted
            )
    view = {
        "splits": list(splits),
        "counts": counts,
        "shown": min(len(names), CLASSES),
        "findings": profile["findings"],
        "facts": _profile_facts(profile),
        "lengths": lengths,
    }
    return Section("The data", view, drawn, short="Data")


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


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _flat(point: Mapping[str, Any]) -> dict[str, Any]:
    """A record of a history without records in it, named in words: `validation macro F1`."""
    flat: dict[str, Any] = {}
    for key, value in point.items():
        if isinstance(value, Mapping):
            flat |= {f"{key} {metric_name(inner)}": v for inner, v in value.items()}
        else:
            flat["training loss" if key == "loss" else spaced(key)] = value
    return flat


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
