"""A recipe's last step: what its commands measured beside what the source reported, as one Markdown table.

    python recipes/table.py recipes/out/1-imdb-frozen-head

The folder holds what the recipe's commands printed with --json. `sources.toml` holds the sources' numbers and the
words; here are only the numbers that fill its {…}.
"""

from __future__ import annotations

import json
import math
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

Answers = dict[str, Any]  # stem of a JSON file → what it holds
Facts = dict[str, Any]  # name in sources.toml → number or words

# ── reading answers ─────────────────────────────────────────────────────────────────────────────────────────────────


def contender(compared: Any, kind: str) -> Any:
    """The contender of that kind."""
    return next(c for c in compared["contenders"] if c["kind"] == kind)


def score(compared: Any, kind: str, metric: str = "accuracy") -> str:
    """`0.639 [0.619, 0.661]`, on the judged rows."""
    return format_duration(contender(compared, kind)["metrics"][metric])


def format_duration(interval: Any) -> str:
    return f"{interval['value']:.3f} [{interval['low']:.3f}, {interval['high']:.3f}]"


def difference(compared: Any, a: str, b: str) -> str:
    """`+0.230 [+0.201, +0.259]`: contender `a` less contender `b`, of those names."""
    for pair in compared["pairs"]:
        if {pair["a"], pair["b"]} == {a, b}:
            sign = 1 if pair["a"] == a else -1
            low, high = sorted((sign * pair["low"], sign * pair["high"]))
            return f"{sign * pair['difference']:+.3f} [{low:+.3f}, {high:+.3f}]"
    raise KeyError(f"no pair {a}, {b}")


def between(compared: Any, a: str, b: str) -> str:
    """The same for two kinds."""
    return difference(compared, contender(compared, a)["name"], contender(compared, b)["name"])


def epochs(run: Any) -> list[Any]:
    """The records of a training's epochs, 0 (before it) first."""
    return [record for record in run["history"] if "epoch" in record]


def accuracies(run: Any) -> list[float]:
    """Validation accuracy before training and after every epoch."""
    return [record["validation"]["accuracy"] for record in epochs(run)]


def kept(run: Any) -> int:
    """The epoch whose weights the run holds and its test score is of: the best macro F1 on validation."""
    judged = [(record["validation"], record["epoch"]) for record in epochs(run)[1:]]
    return int(max(judged, key=lambda one: (one[0]["macro_f1"], -one[0]["log_loss"]))[1])


def losses(run: Any) -> tuple[float, float]:
    """Mean train loss of the first and of the last epoch."""
    return epochs(run)[1]["loss"], epochs(run)[-1]["loss"]


def passes(run: Any) -> Facts:
    """What encoding once costs, and what encoding in every epoch would cost more."""
    count, once = len(epochs(run)) - 1, run["cost"]["extract_seconds"]
    return {"epochs": count, "encode": once, "waste": once * (count - 1), "fit": run["cost"]["fit_seconds"]}


# ── the five ────────────────────────────────────────────────────────────────────────────────────────────────────────


def imdb(found: Answers) -> Facts:
    judged = next(split for split in found["first"]["splits"].values() if split["role"] == "test")
    most = max(judged["classes"], key=judged["classes"].get)
    first, last = losses(found["head"])
    return passes(found["head"]) | {
        "sorted": "yes" if found["whole"]["sorted_by_label"] else "no",
        "first_class": most,
        "first_share": judged["classes"][most] / judged["rows"],
        "loss_first": first,
        "loss_last": last,
        "padded": found["whole"]["padded_share"],
        "head": score(found["compare"], "frozen-head"),
        "lr": score(found["compare"], "lr"),
        "tfidf": score(found["compare"], "tfidf"),
        "majority": score(found["compare"], "majority"),
        "tfidf_head": between(found["compare"], "tfidf", "frozen-head"),
    }


def mnli(found: Answers) -> Facts:
    tokens, compared, standard = found["explore"]["tokens"], found["compare"], found["standard"]
    judged, names = standard["metrics"]["test"], standard["class_names"]
    recalls = [judged["per_class"][name]["recall"] for name in names[1:3]]
    interval = next(  # two heads are two contenders of one kind: this is the one that the recipe fitted first
        c["metrics"]["accuracy"] for c in compared["contenders"] if c["run"] == standard["run"]
    )
    curves = {name: losses(found[name]) for name in ("tuned", "scratch")}
    limit = found["explore"]["limit"]
    return {
        **{name: tokens[name] for name in ("mean", "max", "p99")},
        **{f"{name}4": tokens[name] + 4 for name in ("mean", "max", "p99")},
        "max_length": found["explore"]["max_length"],
        "max_length4": min(limit, 8 * math.ceil((tokens["p99"] + 4) / 8)),
        "epochs": len(epochs(standard)) - 1,
        "kept": kept(standard),
        **{f"kept_{name}": kept(found[name]) for name in ("linear", "tuned", "scratch")},
        "before": accuracies(standard)[0],
        "after": accuracies(standard)[-1],
        "rows": f"{judged['rows']:,}",
        "settles": 50 * (interval["high"] - interval["low"]),
        "trained": standard["cost"]["trained_parameters"],
        "trained_linear": found["linear"]["cost"]["trained_parameters"],
        "standard_point": judged["accuracy"],
        "linear_point": found["linear"]["metrics"]["test"]["accuracy"],
        "class1": names[1],
        "class2": names[2],
        "recall1": recalls[0],
        "recall2": recalls[1],
        "swap": abs(recalls[0] - recalls[1]),
        **{f"{name}_first": first for name, (first, _) in curves.items()},
        **{f"{name}_last": last for name, (_, last) in curves.items()},
        "standard": format_duration(interval),
        "tuned": score(compared, "fine-tune"),
        "scratch": score(compared, "from-scratch"),
        "majority": score(compared, "majority"),
        "tfidf": score(compared, "tfidf"),
        "pretraining": between(compared, "fine-tune", "from-scratch"),
        "frozen_tfidf": between(compared, "frozen-head", "tfidf"),
    }


def ag_news(found: Answers) -> Facts:
    head, compared, explored, pairs = found["head"], found["compare"], found["explore"], found["pairs"]
    curve = accuracies(head)[1:]
    best = max(range(len(curve)), key=curve.__getitem__)
    two = [c for c in pairs["contenders"] if c["kind"] == "lr"]
    pair = next(p for p in pairs["pairs"] if {p["a"], p["b"]} == {c["name"] for c in two})
    rows = sum(split["rows"] for split in explored["splits"].values())
    apart = [
        group["metrics"][pair["a"]]["accuracy"]["value"] - group["metrics"][pair["b"]]["accuracy"]["value"]
        for group in pairs["groups"]
    ]
    return passes(head) | {
        "classes": len(head["class_names"]),
        "curve_first": curve[0],
        "curve_last": curve[-1],
        "curve_best": curve[best],
        "best_epoch": best + 1,
        "kept": kept(head),
        "spread": curve[best] - min(curve[best:]),
        "limit": explored["limit"],
        "longest": explored["tokens"]["max"],
        "past": explored["truncated_share"],
        "past_rows": round(explored["truncated_share"] * rows),
        "all_rows": rows,
        "head": score(compared, "frozen-head"),
        "lr": score(compared, "lr"),
        "tfidf": score(compared, "tfidf"),
        "tfidf_head": between(compared, "tfidf", "frozen-head"),
        "pair_a": pair["a"],
        "pair_b": pair["b"],
        "score_a": next(format_duration(c["metrics"]["accuracy"]) for c in two if c["name"] == pair["a"]),
        "score_b": next(format_duration(c["metrics"]["accuracy"]) for c in two if c["name"] == pair["b"]),
        "pair": difference(pairs, pair["a"], pair["b"]),
        "pair_verdict": pair["verdict"],
        "genre_low": min(apart),
        "genre_high": max(apart),
    }


def movie_reviews(found: Answers) -> Facts:
    trainer, compared = found["trainer"], found["compare"]
    curve, chosen = accuracies(trainer)[1:], trainer["metrics"]["validation"]
    loop = contender(compared, "fine-tune")
    return {
        "epochs": len(curve),
        "curve": ", ".join(f"{value:.3f}" for value in curve),
        "chosen": chosen["accuracy"],
        "precision": chosen["precision"],
        "recall": chosen["recall"],
        "f1": chosen["macro_f1"],
        "optimism": chosen["accuracy"] - curve[-1],
        "max_length": trainer["settings"]["max_length"],
        "loop": score(compared, "fine-tune"),
        "b_a": loop["metrics"]["accuracy"]["value"] - chosen["accuracy"],
        "padded": found["explore"]["padded_share"],
        "cut": found["explore"]["truncated_share"],
        "tfidf": score(compared, "tfidf"),
        "lr": score(compared, "lr"),
        "loop_tfidf": between(compared, "fine-tune", "tfidf"),
        "tfidf_seconds": contender(compared, "tfidf")["cost"]["fit_seconds"],
        "loop_seconds": loop["cost"]["fit_seconds"],
    }


def emotion(found: Answers) -> Facts:
    compared, tuned = found["compare"], found["tuned"]
    plain, smote = found["lr"]["runs"]
    searched = [point for point in plain["history"] if "iterations" in point]
    suspicious = [row for row in found["audit"]["rows"] if row["kind"] == "label error"]
    return {
        "suspicious": len(suspicious),
        "suspicious_train": sum(row["split"] == "train" for row in suspicious),
        "audited": sum(split["rows"] for split in found["explore"]["splits"].values()),
        "lr_validation": plain["metrics"]["validation"]["accuracy"],
        "smote_validation": smote["metrics"]["validation"]["accuracy"],
        "converged": "converged" if all(point["converged"] for point in searched) else "not converged everywhere",
        "iterations": max(point["iterations"] for point in searched),
        "curve": ", ".join(f"{value:.3f}" for value in accuracies(tuned)[1:]),
        "tuned_f1": tuned["metrics"]["validation"]["weighted_f1"],
        "lr": score(compared, "lr"),
        "smote": score(compared, "lr+smote-minority"),
        "tfidf": score(compared, "tfidf"),
        "tuned": score(compared, "fine-tune"),
        "smote_lr": between(compared, "lr+smote-minority", "lr"),
        "tfidf_lr": between(compared, "tfidf", "lr"),
        "tuned_tfidf": between(compared, "fine-tune", "tfidf"),
    }


FACTS: dict[str, Callable[[Answers], Facts]] = {
    "1-imdb-frozen-head": imdb,
    "2-mnli-pairs": mnli,
    "3-ag-news-many-classes": ag_news,
    "4-movie-reviews-two-ways": movie_reviews,
    "5-emotion-features-lr-finetune": emotion,
}

# ── the table ───────────────────────────────────────────────────────────────────────────────────────────────────────

HEAD = "| | ours | the source's | what it did wrong: what that was worth |\n|---|---|---|---|"


def sources() -> dict[str, Any]:
    """Recipe → question, answer and rows, with the names of measured numbers in {}."""
    return tomllib.loads(Path(__file__).with_name("sources.toml").read_text("utf-8"))


def answers(folder: Path) -> Answers:
    """Every JSON file of a recipe's folder."""
    return {file.stem: json.loads(file.read_text("utf-8")) for file in sorted(folder.glob("*.json"))}


def answer(folder: Path) -> str:
    """One sentence: what the recipe found."""
    return str(sources()[folder.name]["answer"]).format(**FACTS[folder.name](answers(folder)))


def table(folder: Path) -> str:
    """The Markdown table of a recipe's folder."""
    facts = FACTS[folder.name](answers(folder))
    lines = [HEAD]
    for row in sources()[folder.name]["rows"]:
        what, ours, source, wrong, worth = (
            row[part].format(**facts).replace("|", "\\|") for part in ("what", "ours", "source", "wrong", "worth")
        )
        lines.append(f"| {what} | {ours} | {source} | {wrong}: {worth} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(Path(sys.argv[1])))
