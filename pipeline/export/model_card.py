"""The model card, in Hugging Face's format: of a comparison's winner in its folder, and of an export beside it.

What people wrote (names of classes, of data sets) stands in it escaped; paths of this machine do not.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files import disk_errors, publish
from ..kinds import describe, kind_row
from ..metrics import METRICS, bare, change, score, unit, with_usual
from ..run import Run
from ..verdict import Comparison, Contender
from ..verdict.results import LOSS, plain, training_seconds
from ..words import MISSING, format_duration, spaced
from .agreement import Checked
from .markdown import code, safe

EXPORTED = ("accuracy", "macro_f1", "log_loss", "ece")
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+)?$")
CLASSES = 100  # that are listed by name

USE = {
    "transformers": """from transformers import pipeline

classify = pipeline("text-classification", model="PATH")
classify({text}, top_k=None, truncation=True)""",
    "onnx": """import json
import numpy as np, onnxruntime, tokenizers

tokenizer = tokenizers.Tokenizer.from_file("PATH/tokenizer.json")  # cuts and pads
session = onnxruntime.InferenceSession("PATH/model.onnx")
rows = tokenizer.encode_batch([{text}])
columns = {{"input_ids": [r.ids for r in rows], "attention_mask": [r.attention_mask for r in rows],
           "token_type_ids": [r.type_ids for r in rows]}}
inputs = {{i.name: np.array(columns[i.name]) for i in session.get_inputs()}}
(probabilities,) = session.run(None, inputs)  # (texts, classes), in the order of the table below
names = json.load(open("PATH/config.json"))["class_names"]""",
    "joblib": """import joblib

model = joblib.load("PATH/model.joblib")  # pickle: only from where you trust
model.predict_proba([{text}])  # (texts, classes), in the order of model.classes_""",
    "skops": """from skops import io

types = io.get_untrusted_types(file="PATH/model.skops")  # look at them: they are what is built beside scikit-learn's
model = io.load("PATH/model.skops", trusted=types)
model.predict_proba([{text}])  # (texts, classes), in the order of model.classes_""",
}


LIBRARY = {"transformers": "transformers", "onnx": "onnx", "joblib": "sklearn", "skops": "sklearn"}


@dataclass(frozen=True)
class Exported:
    """What an export's card says beside its run."""

    form: str
    where: str  # what stands for PATH in the snippet
    checked: Checked
    notes: Sequence[str]


def write_card(run: Run, comparison: Comparison) -> Path:
    """Write the card of `run`, the comparison's recommended contender, into its folder, in one rename.

    Raises UserError if it cannot be written.
    """
    assert run.folder is not None, "a run has a folder once it is saved"
    path = Path(run.folder) / "README.md"
    with disk_errors(path, "cannot write the model card", "mend its permissions"):
        publish(path, card(run, comparison).encode("utf-8", "replace"))
    return path


def card(run: Run, comparison: Comparison) -> str:
    """The card of a contender."""
    me = next(c for c in comparison.contenders if c.run == str(run.folder))
    facts = {
        "model_name": f"{me.name} on {comparison.dataset}",
        "datasets": [comparison.dataset.partition(":")[0]],
        "metrics": list(dict.fromkeys(metric.hub for metric in METRICS.values() if metric.hub)),
        "eval_results": results(me, comparison),
    }
    others = ", ".join(safe(c.name) for c in comparison.contenders if c is not me)
    today = time.strftime("%Y-%m-%d", time.gmtime())
    folds = ", each judged by a model of its kind that had not seen it" if comparison.cv else ""
    parts = [
        f"# {safe(me.name)} on {safe(comparison.dataset)}",
        f"{describe(run.kind).capitalize()}, for the classification of texts into {len(run.class_names)} classes.",
        "## Verdict",
        safe(comparison.recommendation),
        table(comparison),
        f"95 % intervals over the {comparison.rows:,} rows of `{code(comparison.split)}`{folds}. "
        f"{LOSS.capitalize()}: the largest loss that these rows leave plausible. The verdict rests on "
        f"{METRICS[comparison.metric].label}, named beforehand; differences within "
        f"±{change(comparison.metric, comparison.margin)}{unit(comparison.metric)} are taken not to matter.",
        bullets([safe(reason) for reason in comparison.reasons]),
        "## Intended use",
        intended(run, comparison),
        "## How it was made",
        bullets([*made(run), f"compared with {others or 'nothing'} on {today}", *map(safe, run.notes)]),
        "## Limits",
        bullets(limits(run, me, comparison)),
    ]
    return assembled(run, kind_row(run.kind).library, facts, parts)


def export_card(run: Run, exported: Exported) -> str:
    """The card of an export: what it is, how to run it, what it scored, how it was checked."""
    checked, form = exported.checked, exported.form
    pair = int(run.settings.get("text_parts", 1)) == 2
    text = {"text": "first", "text_pair": "second"} if pair and form == "transformers" else "some text"
    given = '("first", "second")' if pair and form != "transformers" else json.dumps(text)
    shown = [role for role in ("validation", "test") if role in run.metrics]
    parts = [
        f"# {safe(run.dataset)}: {safe(run.kind)}",
        f"{describe(run.kind).capitalize()}.",
        "```python\n" + USE[form].format(text=given).replace("PATH", exported.where) + "\n```",
        bullets([*(f"{safe(note)}." for note in exported.notes), *threshold(run, form)]),
        "## Classes",
        grid(["id", "class"], [[str(i), safe(name)] for i, name in enumerate(run.class_names)]),
        "## Scores" if shown else "",
        grid(["split", "rows", *(spaced(name) for name in EXPORTED)], [scored(run, r) for r in shown]) if shown else "",
        "## How it was made",
        bullets(made(run)),
        "## Check",
        f"Reloaded as above and compared with the run on {checked.texts:,} texts of {safe(Path(checked.source).name)}: "
        f"largest difference of a probability {checked.difference:.1e}, the same label for "
        f"{checked.same_labels:,} of {checked.texts:,}.",
        "The encoder's own licence applies to its weights.",
    ]
    return assembled(run, LIBRARY[form], {}, parts)


def assembled(run: Run, library: str, facts: dict[str, Any], parts: Sequence[str]) -> str:
    """A YAML header, then the parts that are not empty."""
    from huggingface_hub import ModelCard, ModelCardData

    encoder = str(run.settings.get("encoder", ""))
    data = ModelCardData(
        library_name=library,
        pipeline_tag="text-classification",
        tags=["text-classification", "probe-or-tune", run.kind],
        base_model=encoder if run.checkpoint_digest and HUB_NAME.match(encoder) else None,
        **facts,
    )
    # assembled by hand and parsed back: a card that its library cannot read would be none
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(part for part in parts if part) + "\n"))


def results(me: Contender, comparison: Comparison) -> list[Any]:
    """The scores, as the Hub's `model-index` has them."""
    from huggingface_hub import EvalResult

    return [
        EvalResult(
            task_type="text-classification",
            task_name="Text Classification",
            dataset_type=comparison.dataset,
            dataset_name=comparison.dataset,
            dataset_split=comparison.split,
            metric_type=metric.hub or name,
            metric_name=metric.label,
            metric_value=round(me.metrics[name].value, 6),
        )
        for name, metric in METRICS.items()
        if math.isfinite(me.metrics[name].value)
    ]


# ── parts ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def table(comparison: Comparison) -> str:
    """The contenders with intervals and costs."""
    metrics = with_usual(comparison.metric)
    rows = []
    for c in comparison.contenders:
        name = f"**{safe(c.name)}**" if c.name == comparison.recommended else safe(c.name)
        name += " (ended early)" if c.ended else ""
        learning = training_seconds(c.cost)
        costs = [
            format_duration(learning),
            MISSING if c.cost.ms_per_text_batch is None else f"{c.cost.ms_per_text_batch:.2g}",
            MISSING if c.cost.model_mb is None else f"{c.cost.model_mb:,.1f}",
        ]
        rows.append([name, *(interval(m, c) for m in metrics), comparison.may_lose(c.name), *costs])
    return grid(["contender", *(METRICS[m].label for m in metrics), LOSS, "training", "ms a text", "MB"], rows)


def interval(metric: str, c: Contender) -> str:
    at = c.metrics[metric]
    return f"{score(metric, at.value)} ({bare(metric, at.low)} to {bare(metric, at.high)})"


def intended(run: Run, comparison: Comparison) -> str:
    """For which texts, with which answers, and how it is called."""
    names = ", ".join(f"`{code(name)}`" for name in run.class_names[:CLASSES])
    more = f" and {len(run.class_names) - CLASSES} others" if len(run.class_names) > CLASSES else ""
    pair = "pairs of texts" if run.settings.get("text_parts") == 2 else "texts"
    return (
        f"{pair.capitalize()} of the kind that `{code(comparison.dataset)}` holds, each with one of these classes: "
        f"{names}{more}.\n\n```\nprobe-or-tune predict PATH/OF/THIS/FOLDER 'a text'\n```"
    )


def made(run: Run) -> list[str]:
    """Data, encoder, settings, seed, versions."""
    facts = [f"data set `{code(run.dataset)}`, digest of rows, labels and splits `{run.dataset_digest}`"]
    if run.checkpoint_digest:
        encoder = plain("encoder", run.settings.get("encoder", "unknown"))
        facts.append(f"encoder `{code(encoder)}`, digest of weights, tokenizer and pooling `{run.checkpoint_digest}`")
    shown = {k: v for k, v in run.settings.items() if k not in ("encoder", "revision", "init_head") and v is not None}
    if shown:
        facts.append("settings: " + ", ".join(f"{safe(key)} `{code(value)}`" for key, value in sorted(shown.items())))
    facts.append(f"seed {run.seed}, fitted {safe(run.created) or 'at an unknown time'}")
    facts.append("versions: " + ", ".join(f"{safe(name)} {safe(version)}" for name, version in run.versions.items()))
    return facts


def limits(run: Run, me: Contender, comparison: Comparison) -> list[str]:
    """What the figures do not say."""
    lines = [f"The figures hold for rows like the {comparison.rows:,} judged ones; other sources and times may differ."]
    if comparison.cv:
        lines.append(
            "They are of models trained on the other folds; this one has learnt from all rows and is unjudged."
        )
    else:
        lines.append("The test holds for these trained models, not for every training of their kind.")
    if me.chosen:
        lines.append(
            f"It scored best of {len(comparison.contenders)} on these very rows, which flatters its own score a little."
        )
    ece = me.metrics["ece"]
    lines.append(
        f"Its probabilities are off by {100 * ece.value:.1f} points on average (expected calibration error, "
        f"{100 * ece.low:.1f} to {100 * ece.high:.1f})."
    )
    if comparison.truncated_share:
        lines.append(f"{100 * comparison.truncated_share:.1f} % of the judged texts were cut at the encoder's limit.")
    by_class: dict[str, dict[str, Any]] = run.metrics.get("test", {}).get("per_class", {})
    weak = sorted([(name, of["f1"]) for name, of in by_class.items() if of.get("rows")], key=lambda pair: pair[1])[:3]
    if weak:
        lines.append("Weakest classes, by F1: " + ", ".join(f"`{code(name)}` {100 * f1:.0f} %" for name, f1 in weak))
    return [*lines, *(f"Left out of the comparison: {safe(line)}" for line in comparison.left_out)]


def bullets(lines: Sequence[str]) -> str:
    """A Markdown list."""
    return "\n".join(f"- {line}" for line in lines)


def grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def threshold(run: Run, form: str) -> list[str]:
    """From which probability on the second class is answered, if the run has such a rule."""
    if run.threshold is None:
        return []
    rule = f"{safe(run.class_names[1])} is answered from a probability of {run.threshold:.4g} on"
    known = "its `predict` does so" if form == "joblib" else "the format knows no threshold: apply it to the output"
    return [f"{rule}; {known}."]


def scored(run: Run, role: str) -> list[str]:
    """One split's scores."""
    known = run.metrics[role]
    return [safe(run.predictions[role].split), f"{known['rows']:,}", *(f"{known[name]:.4f}" for name in EXPORTED)]
