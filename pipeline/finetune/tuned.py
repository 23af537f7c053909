"""A fine-tuned run, opened: texts → probabilities, by the engines that encode for frozen runs.

The model is converted once, head included, and then predicts without torch; its bytes are those of safetensors and JSON
alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..encoder import Encoder, open_graph
from ..encoder.checkpoint import Checkpoint, EncoderSpec, digest_of, file_digest, locate, trained
from ..encoder.tokens import Tokenizer, tokenizer
from ..linear.probe import softmax
from ..run import Run, rewritten
from ..run.timing import milliseconds, timing_sample

if TYPE_CHECKING:
    from ..encoder import Runtime

OUTPUTS = ("logits",)


@dataclass(frozen=True)
class TunedCheckpoint(Checkpoint):
    """A fine-tuned model's folder: an encoder with the head that it was trained with."""

    class_names: tuple[str, ...] = ()

    def graphs(self) -> Any:
        """The graphs of the whole classifier, with logits (b, k) for their output. Imports torch."""
        from . import classifier_graph, heads

        return SimpleNamespace(
            load_model=lambda checkpoint: heads.read(checkpoint, self.class_names),
            encoder_of=heads.encoder_of,
            whole=lambda checkpoint, outputs, model: classifier_graph.whole(checkpoint, model),
            build=lambda checkpoint, outputs, model: classifier_graph.build(checkpoint, model),
        )


def tuned_checkpoint(run: Run) -> TunedCheckpoint:
    """The model of a fine-tuned run, identified by all of its bytes, the head's too.

    Raises UserError if the folder is damaged.
    """
    limit = int(run.settings["max_length"])
    placed = locate(trained(EncoderSpec(name=str(run.model_folder), max_length=limit if limit >= 3 else None)))
    given = {field.name: getattr(placed, field.name) for field in fields(Checkpoint)}
    parts = [file for name in ("head.json", "head.safetensors") if (file := placed.folder / name).exists()]
    if parts:
        given["digest"] = digest_of([placed.digest, *(file_digest(file, placed.name) for file in parts)])
    return TunedCheckpoint(**given, class_names=run.class_names)


class FineTuned:
    """A fine-tuned model that answers for texts."""

    def __init__(self, encoder: Encoder, tokenizer: Tokenizer, classes: int) -> None:
        self.encoder, self.tokenizer, self.classes = encoder, tokenizer, classes

    @property
    def served(self) -> str:
        """By what it computes: engine, precision and device."""
        return f"{self.encoder.engine} {self.encoder.precision} {self.encoder.device}"

    def logits(self, texts: Sequence[tuple[str, ...]]) -> np.ndarray:
        """Logits (n, k) float32 of n texts, in their order."""
        if not texts:
            return np.zeros((0, self.classes), np.float32)
        return self.encoder.encode_all(self.tokenizer.encode(texts))["logits"]

    def proba(self, texts: Sequence[tuple[str, ...]]) -> np.ndarray:
        """Probabilities (n, k) float32 of n texts, in their order; rows sum to 1."""
        return softmax(self.logits(texts)) if texts else self.logits(texts)


def load_finetuned(
    run: Run, runtime: Runtime | None = None, cache: Path = Path("cache"), precision: str | None = None
) -> FineTuned:
    """Open a fine-tuned run: safetensors and JSON only, no code from the folder; its converted model lies in `cache`.

    `precision` is what to compute in, instead of what suits the machine.

    Raises UserError if the folder is damaged.
    """
    checkpoint = tuned_checkpoint(run)
    wish = precision or ("fp32" if run.settings.get("precision") == "fp32" else "auto")
    encoder = open_graph(checkpoint, OUTPUTS, "auto", wish, runtime, cache)
    return FineTuned(encoder, tokenizer(checkpoint, cache), len(run.class_names))


def priced(run: Run, dataset: Any, runtime: Runtime, cache: Path) -> Run:
    """`run` with what a text costs on the path that serves it: measured on texts of `dataset` unless that is known.

    Runs of an earlier version were timed in plain torch.
    """
    chosen = run.settings.get("chosen") or {}
    if "served" in chosen or run.folder is None:
        return run
    model = load_finetuned(run, runtime, cache)
    together, alone = milliseconds(model.proba, timing_sample(dataset))
    cost = replace(run.cost, ms_per_text_batch=together, ms_per_text_single=alone)
    settings = run.settings | {"chosen": {**chosen, "served": model.served}}
    return rewritten(replace(run, cost=cost, settings=settings))
