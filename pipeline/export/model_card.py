"""The model card that travels with an export: what it is, how to run it, what it scored, how it was checked."""

from __future__ import annotations

import json
from pathlib import Path

from pipeline.export.agreement import Checked
from pipeline.export.markdown import safe
from pipeline.kinds import describe
from pipeline.run import Run

SHOWN = ("accuracy", "macro_f1", "log_loss", "ece")

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
}


def card(run: Run, form: str, checked: Checked, notes: list[str], where: str) -> str:
    """The card as Markdown with the Hub's front matter; `where` is what stands for PATH in the snippet."""
    pair = int(run.settings.get("text_parts", 1)) == 2
    text = {"text": "first", "text_pair": "second"} if pair and form == "transformers" else "some text"
    given = '("first", "second")' if pair and form != "transformers" else json.dumps(text)
    lines = [
        "---",
        *(["library_name: transformers"] if form == "transformers" else [f"library_name: {LIBRARY[form]}"]),
        "pipeline_tag: text-classification",
        "tags:\n- text-classification\n- probe-or-tune",
        "---",
        "",
        f"# {safe(run.dataset)}: {safe(run.kind)}",
        "",
        _made(run),
        "",
        "```python",
        USE[form].format(text=given).replace("PATH", where),
        "```",
        "",
        *[f"- {safe(note)}." for note in notes],
        *_threshold(run, form),
        "",
        "## Classes",
        "",
        "| id | class |",
        "|---|---|",
        *[f"| {i} | {safe(name)} |" for i, name in enumerate(run.class_names)],
        "",
        *_scores(run),
        "## Check",
        "",
        f"Reloaded as above and compared with the run on {checked.texts:,} texts of {safe(Path(checked.source).name)}: "
        f"largest difference of a probability {checked.difference:.1e}, the same label for "
        f"{checked.same_labels:,} of {checked.texts:,}.",
        "",
        "The encoder's own licence applies to its weights.",
    ]
    return "\n".join(lines) + "\n"


LIBRARY = {"transformers": "transformers", "onnx": "onnx", "joblib": "sklearn"}


def _made(run: Run) -> str:
    encoder = run.settings.get("encoder")
    what = describe(run.kind).capitalize()
    on = (
        f", encoder {safe(Path(str(encoder)).name if Path(str(encoder)).is_absolute() else encoder)}" if encoder else ""
    )
    digest = f" (digest {str(run.checkpoint_digest)[:16]})" if run.checkpoint_digest else ""
    return f"{what}; fitted on {safe(run.dataset)} (digest {run.dataset_digest[:16]}){on}{digest}, seed {run.seed}."


def _threshold(run: Run, form: str) -> list[str]:
    if run.threshold is None:
        return []
    rule = f"{safe(run.class_names[1])} is answered from a probability of {run.threshold:.4g} on"
    known = "its `predict` does so" if form == "joblib" else "the format knows no threshold: apply it to the output"
    return [f"- {rule}; {known}."]


def _scores(run: Run) -> list[str]:
    if not run.metrics:
        return []
    head = ["## Scores", "", f"| split | rows | {' | '.join(name.replace('_', ' ') for name in SHOWN)} |"]
    rows = []
    for role in ("validation", "test"):
        if role in run.metrics:
            found = run.metrics[role]
            cells = " | ".join(f"{found[name]:.4f}" for name in SHOWN)
            rows.append(f"| {safe(run.predictions[role].split)} | {found['rows']:,} | {cells} |")
    return [*head, "|---|" + "---|" * (len(SHOWN) + 1), *rows, ""] if rows else []
