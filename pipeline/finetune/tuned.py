"""A fine-tuned run, opened: texts → probabilities, sorted by length, from safetensors and JSON alone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..encoder.checkpoint import EncoderSpec, locate
from ..encoder.tokens import Tokenizer, tokenizer
from ..linear.probe import softmax
from ..run import Run
from .device import Machine, machine
from .heads import read
from .training import logits, tokenised

if TYPE_CHECKING:
    from ..encoder import Runtime


class FineTuned:
    """A fine-tuned model that answers for texts."""

    pad_id = 0

    def __init__(self, model: Any, tokenizer: Tokenizer, machine: Machine, max_length: int) -> None:
        self.model, self.tokenizer, self.machine, self.max_length = model, tokenizer, machine, max_length

    def proba(self, texts: Sequence[tuple[str, ...]]) -> np.ndarray:
        """Probabilities (n, k) float32 of n texts, in their order; rows sum to 1."""
        if not texts:
            return np.zeros((0, int(self.model.config.num_labels)), np.float32)
        labels = np.zeros(len(texts), np.int64)
        rows = tokenised(texts, labels, self.tokenizer, self.max_length, self.pad_id)
        return softmax(logits(self.model, rows, self.machine))

    def milliseconds(self, texts: Sequence[tuple[str, ...]], together: bool) -> float | None:
        """What a text costs, from string to probabilities: in one call, or (median) in a call of its own."""
        calls = [list(texts)] if together else [[text] for text in texts]
        taken = []
        for call in calls:
            start = time.perf_counter()
            self.proba(call)
            taken.append(1e3 * (time.perf_counter() - start) / len(call))
        return float(np.median(taken)) if taken else None


def load_finetuned(run: Run, runtime: Runtime | None = None) -> FineTuned:
    """Open a fine-tuned run: safetensors and JSON only, no code from the folder.

    Raises UserError if the folder is damaged.
    """
    placed = locate(EncoderSpec(name=str(run.model_folder)))
    where = machine(runtime.device if runtime else "auto", run.settings.get("precision", "auto"))
    model = read(placed, run.class_names).to(where.device)
    opened = FineTuned(model, tokenizer(placed), where, int(run.settings["max_length"]))
    opened.pad_id = placed.pad_id
    return opened
