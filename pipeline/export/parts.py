"""What a run consists of, once it is taken apart: an encoder, a pooling, and a head of one or two layers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import UserError, listed, printable
from ..encoder.checkpoint import Checkpoint, EncoderSpec, locate
from ..kinds import kind_row, tuned
from ..run import Run
from ..run.model import kind_at


@dataclass(frozen=True)
class Head:
    """logits = relu(v Pᵀ + p) Qᵀ + q on raw vectors v (n, d), scaler and temperature folded in; no P: v Qᵀ + q."""

    Q: np.ndarray  # (k, m) float64
    q: np.ndarray  # (k,) float64
    P: np.ndarray | None = None  # (m, d) float64
    p: np.ndarray | None = None  # (m,) float64


@dataclass(frozen=True)
class Parts:
    """A run with an encoder, taken apart."""

    run: Run
    checkpoint: Checkpoint
    pooling: str
    head: Head | None  # None: a fine-tuned model whose head is not of that form, or the architecture's own
    threshold: float | None

    @property
    def tuned(self) -> bool:
        return tuned(self.run.kind)

    @property
    def stock(self) -> bool:
        """Whether the run's folder is a stock checkpoint already."""
        return self.tuned and not (self.checkpoint.folder / "head.json").exists()

    @property
    def pairs(self) -> bool:
        return int(self.run.settings.get("text_parts", 1)) == 2

    @property
    def max_length(self) -> int:
        """Tokens that the run looks at."""
        return int(self.run.settings["max_length"])


def rounded(run: Run) -> list[str]:
    """What to say of a run that was fitted on vectors of a lower precision than its export computes in."""
    precision = run.settings.get("precision")
    if tuned(run.kind) or precision not in ("int8", "bf16", "fp16"):
        return []
    return [f"fitted on {precision} vectors, computes in float32: probabilities differ from the run's own by that"]


def parts_of(run: Run, encoder: str | None = None) -> Parts:
    """Take a run apart; `encoder` says where its encoder lies now, if not where it was.

    Raises UserError if its files are damaged, or if its encoder is gone or another one now.
    """
    if not kind_row(run.kind).needs_encoder:
        raise UserError(f"{run.folder}: a {run.kind} run has no encoder; pass --format joblib")
    if tuned(run.kind):
        checkpoint = locate(EncoderSpec(name=str(run.model_folder)))
        return Parts(run, checkpoint, "cls", _tuned_head(checkpoint.folder), None)
    from ..predict.models import head_of, placed

    if encoder is not None:
        run = replace(run, settings=run.settings | {"encoder": encoder})
    if run.kind == "cascade":
        raise UserError(f"{run.folder}: a cascade is two models; export its parts, which lie in model/parts")
    if run.kind == "stack":
        return _joined(run, encoder)
    model = head_of(run)
    return Parts(run, placed(run, model), model.pooling, folded(model), getattr(model, "threshold", None))


def _joined(run: Run, encoder: str | None) -> Parts:
    """A stack of linear models on the same vectors, as the one linear model that it is.

    Raises UserError for any other stack.
    """
    from ..stack import StackModel, part_runs

    model, runs = StackModel.load(run.model_folder), part_runs(run)
    alike = {part.checkpoint_digest for part in runs if kind_row(part.kind).needs_vectors}
    each = [parts_of(part, encoder) for part in runs] if len(alike) == 1 and all(map(_linear, runs)) else []
    heads = [one.head for one in each if one.head is not None]
    if not heads:
        raise UserError(
            f"{run.folder}: a stack of {listed(model.parts)} is no single network: only logistic regressions on the "
            "same vectors are; pass --format joblib"
        )
    weights = model.weights.astype(np.float64)
    Q = sum(weight * head.Q for weight, head in zip(weights, heads, strict=True))
    q = sum(weight * head.q for weight, head in zip(weights, heads, strict=True))
    return replace(each[0], run=run, head=Head(np.asarray(Q), np.asarray(q)), threshold=None)


def _linear(run: Run) -> bool:
    """Whether a run is a logistic regression on frozen vectors."""
    return kind_row(run.kind).needs_vectors and kind_at(run.model_folder) == "linear"


def folded(model: Any) -> Head:
    """A LinearModel or a FrozenHead on standardised vectors as one on raw vectors, in float64."""
    mean, scale = model.mean.astype(np.float64), model.scale.astype(np.float64)
    if hasattr(model, "W"):
        W = model.W / scale
        return Head(W / model.temperature, (model.b - W @ mean) / model.temperature)
    P = model.A / scale
    return Head(model.B.astype(np.float64), model.b.astype(np.float64), P, model.a - P @ mean)


def _tuned_head(folder: Path) -> Head | None:
    """The linear head that a fine-tuned encoder was saved with; None if it has another one."""
    from ..finetune.heads import linear_head

    head = linear_head(folder)
    return None if head is None else Head(head[0].astype(np.float64), head[1].astype(np.float64))


def refuse_prompt(parts: Parts, form: str) -> None:
    """Raises UserError for a prompt before every text, which no stock tokenizer puts there."""
    if parts.checkpoint.prompt:
        raise UserError(
            f"--format {form}: the run reads '{printable(parts.checkpoint.prompt)}' before every text, which no stock "
            "tokenizer puts there; pass --format joblib"
        )


def refuse_pooling(parts: Parts) -> None:
    """Raises UserError for a pooling that no stock class computes."""
    if parts.pooling != "cls":
        raise UserError(
            f"--format transformers: no stock class puts a classifier on '{parts.pooling}' vectors; "
            "pass --format onnx, whose graph has the pooling in it"
        )
