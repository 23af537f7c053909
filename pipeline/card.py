"""The winner's model card: `README.md` in Hugging Face's format, in the run's own folder.

What people wrote (names of classes, of data sets) stands in it escaped; paths of this machine do not.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pipeline import UserError
from pipeline.export.markdown import code, safe
from pipeline.kinds import describe, kind_row
from pipeline.run import Run
from pipeline.store.shard import publish
from pipeline.verdict import Comparison, Contender
from pipeline.verdict.results import LABELS, LOWER_IS_BETTER, change, duration, plain, score, training_seconds, unit

SHOWN = ("accuracy", "macro_f1", "balanced_accuracy", "weighted_f1", "log_loss", "ece")
HUB_METRICS = {"accuracy": "accuracy", "macro_f1": "f1", "weighted_f1": "f1", "log_loss": "log_loss"}
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+)?$")
CLASSES = 100  # that are listed by name


def write_card(run: Run, comparison: Comparison) -> Path:
    """Write the card of `run`, the comparison's recommended contender, into its folder, in one rename.

    Raises UserError if it cannot be written.
    """
    assert run.folder is not None, "a run has a folder once it is saved"
    path = Path(run.folder) / "README.md"
    try:
        publish(path, card(run, comparison).encode("utf-8", "replace"))
    except OSError as error:
        why = error.strerror or error
        raise UserError(f"{path}: cannot write the model card ({why}); mend its permissions") from error
    return path


def card(run: Run, comparison: Comparison) -> str:
    """The card as Markdown with a YAML header."""
    from huggingface_hub import ModelCard

    me = next(c for c in comparison.contenders if c.run == str(run.folder))
    parts = [
        f"# {safe(me.name)} on {safe(comparison.dataset)}",
        f"{describe(run.kind).capitalize()}, for the classification of texts into {len(run.class_names)} classes.",
        "## Verdict",
        safe(comparison.recommendation),
        table(comparison),
        f"95 % intervals over the {comparison.rows:,} rows of `{code(comparison.split)}`. The verdict rests on "
        f"{LABELS[comparison.metric]}, named beforehand; differences within "
        f"±{change(comparison.metric, comparison.margin)}{unit(comparison.metric)} are taken not to matter.",
        bullets([safe(reason) for reason in comparison.reasons]),
        "## Intended use",
        intended(run, comparison),
        "## How it was made",
        bullets(made(run, comparison)),
        "## Limits",
        bullets(limits(run, me, comparison)),
    ]
    # assembled by hand and parsed back: a card that its own library cannot read would be none
    whole = f"---\n{header(run, me, comparison)}\n---\n\n" + "\n\n".join(part for part in parts if part) + "\n"
    return str(ModelCard(whole))


def header(run: Run, me: Contender, comparison: Comparison) -> str:
    """The YAML header, `model-index` with every metric included."""
    from huggingface_hub import EvalResult, ModelCardData

    results = [
        EvalResult(
            task_type="text-classification",
            task_name="Text Classification",
            dataset_type=comparison.dataset,
            dataset_name=comparison.dataset,
            dataset_split=comparison.split,
            metric_type=HUB_METRICS.get(name, name),
            metric_name=LABELS[name],
            metric_value=round(me.metrics[name].value, 6),
        )
        for name in SHOWN
    ]
    encoder = str(run.settings.get("encoder", ""))
    data = ModelCardData(
        model_name=f"{me.name} on {comparison.dataset}",
        library_name=kind_row(run.kind).library,
        pipeline_tag="text-classification",
        tags=["text-classification", "probe-or-tune", run.kind],
        datasets=[comparison.dataset.partition(":")[0]],
        metrics=list(dict.fromkeys(HUB_METRICS.values())),
        base_model=encoder if run.checkpoint_digest and HUB_NAME.match(encoder) else None,
        eval_results=results,
    )
    return str(data.to_yaml())


# ── parts ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def table(comparison: Comparison) -> str:
    """The contenders with intervals and costs."""
    metrics = [m for m in SHOWN if m in (comparison.metric, "accuracy", "macro_f1")]
    rows = [["contender", *(LABELS[m] for m in metrics), "training", "ms a text", "MB"]]
    rows.append(["---"] * len(rows[0]))
    for c in comparison.contenders:
        name = f"**{safe(c.name)}**" if c.name == comparison.recommended else safe(c.name)
        learning = training_seconds(c.cost)
        costs = [
            "–" if learning is None else duration(learning),
            "–" if c.cost.ms_per_text_batch is None else f"{c.cost.ms_per_text_batch:.2g}",
            "–" if c.cost.model_mb is None else f"{c.cost.model_mb:,.1f}",
        ]
        rows.append([name, *(interval(m, c) for m in metrics), *costs])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def interval(metric: str, c: Contender) -> str:
    at = c.metrics[metric]
    return f"{score(metric, at.value)} ({_bare(metric, at.low)} to {_bare(metric, at.high)})"


def _bare(metric: str, value: float) -> str:
    return f"{value:.3f}" if metric in LOWER_IS_BETTER else f"{100 * value:.1f}"


def intended(run: Run, comparison: Comparison) -> str:
    """For which texts, with which answers, and how it is called."""
    names = ", ".join(f"`{code(name)}`" for name in run.class_names[:CLASSES])
    more = f" and {len(run.class_names) - CLASSES} others" if len(run.class_names) > CLASSES else ""
    pair = "pairs of texts" if run.settings.get("text_parts") == 2 else "texts"
    return (
        f"{pair.capitalize()} of the kind that `{code(comparison.dataset)}` holds, each with one of these classes: "
        f"{names}{more}.\n\n```\nprobe-or-tune predict PATH/OF/THIS/FOLDER 'a text'\n```"
    )


def made(run: Run, comparison: Comparison) -> list[str]:
    """Data, encoder, settings, seed, versions."""
    facts = [f"data set `{code(comparison.dataset)}`, digest of rows, labels and splits `{comparison.dataset_digest}`"]
    if run.checkpoint_digest:
        encoder = plain("encoder", run.settings.get("encoder", "unknown"))
        facts.append(f"encoder `{code(encoder)}`, digest of weights, tokenizer and pooling `{run.checkpoint_digest}`")
    shown = {k: v for k, v in run.settings.items() if k not in ("encoder", "revision", "init_head") and v is not None}
    facts.append("settings: " + ", ".join(f"{safe(key)} `{code(value)}`" for key, value in sorted(shown.items())))
    facts.append(f"seed {run.seed}, fitted {safe(run.created) or 'at an unknown time'}")
    facts.append("versions: " + ", ".join(f"{safe(name)} {safe(version)}" for name, version in run.versions.items()))
    others = [safe(c.name) for c in comparison.contenders if c.run != str(run.folder)]
    facts.append(f"compared with {', '.join(others) or 'nothing'} on {time.strftime('%Y-%m-%d', time.gmtime())}")
    return [*facts, *map(safe, run.notes)]


def limits(run: Run, me: Contender, comparison: Comparison) -> list[str]:
    """What the figures do not say."""
    found = [
        f"The figures hold for rows like the {comparison.rows:,} judged ones; other sources and times may differ.",
        "The test holds for these trained models, not for every training of their kind.",
    ]
    if me.chosen:
        found.append(
            f"It scored best of {len(comparison.contenders)} on these very rows, which flatters its own score a little."
        )
    ece = me.metrics["ece"]
    found.append(
        f"Its probabilities are off by {100 * ece.value:.1f} points on average (expected calibration error, "
        f"{100 * ece.low:.1f} to {100 * ece.high:.1f})."
    )
    if comparison.truncated_share:
        found.append(f"{100 * comparison.truncated_share:.1f} % of the judged texts were cut at the encoder's limit.")
    weak = sorted(_by_class(run), key=lambda pair: pair[1])[:3]
    if weak:
        found.append("Weakest classes, by F1: " + ", ".join(f"`{code(name)}` {100 * f1:.0f} %" for name, f1 in weak))
    return [*found, *(f"Left out of the comparison: {safe(line)}" for line in comparison.left_out)]


def _by_class(run: Run) -> Iterable[tuple[str, float]]:
    """(class, F1) of those with a row in test."""
    by_class: dict[str, dict[str, Any]] = run.metrics.get("test", {}).get("per_class", {})
    return [(name, float(of["f1"])) for name, of in by_class.items() if of.get("rows")]


def bullets(lines: Sequence[str]) -> str:
    """A Markdown list."""
    return "\n".join(f"- {line}" for line in lines)
