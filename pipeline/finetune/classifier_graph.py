"""A fine-tuned model's graphs: ids in and logits out, of [CLS] alone in the last layer where the block is known.

The model's own head stays as it is. Where only [CLS] is needed, its encoder is replaced by one that hands over that
row alone, which is all that the heads of these architectures look at. Imports torch.
"""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPooling

from ..encoder.checkpoint import Checkpoint
from ..encoder.graph import BLOCKS, ClsGraph, cut_down, takes_types
from .heads import encoder_of


class LogitsGraph(nn.Module):
    """A classifier's own forward."""

    poolings, cls_only = ("logits",), False

    def __init__(self, model: Any, types: bool) -> None:
        super().__init__()
        self.model, self.types = model, types

    def forward(self, ids: Tensor, mask: Tensor, types: Tensor | None = None) -> tuple[Tensor, ...]:
        """ids, mask, types (b, t) → logits (b, k), alone in a tuple."""
        inputs = {"token_type_ids": types} if self.types else {}
        return (self.model(input_ids=ids, attention_mask=mask, **inputs)["logits"].float(),)


class Given(nn.Module):
    """In an encoder's place: it hands over the row of [CLS] that has been computed, pooled as the encoder pools it."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.pooler = getattr(encoder, "pooler", None)
        self.hidden: list[Tensor] = []  # of (b, 1, d)

    def forward(self, *_: Any, **__: Any) -> BaseModelOutputWithPooling:
        hidden = self.hidden.pop()
        return BaseModelOutputWithPooling(hidden, None if self.pooler is None else self.pooler(hidden))


class CutLogitsGraph(nn.Module):
    """The same of an encoder of BERT's block, whose last layer is computed for [CLS] alone."""

    poolings, cls_only = ("logits",), True

    def __init__(self, model: Any, types: bool) -> None:
        super().__init__()
        encoder = encoder_of(model)
        self.types, self.cut, self.given = types, ClsGraph(encoder, types), Given(encoder)
        place = next(name for name, child in model.named_children() if child is encoder)
        self.head = copy.copy(model)  # shares every weight
        self.head._modules = {**model._modules, place: self.given}

    def forward(self, ids: Tensor, mask: Tensor, types: Tensor | None = None) -> tuple[Tensor, ...]:
        """ids, mask, types (b, t) → logits (b, k), alone in a tuple."""
        (vectors,) = self.cut(ids, mask, types)
        self.given.hidden.append(vectors[:, None])
        return (self.head(input_ids=ids, attention_mask=mask)["logits"].float(),)


def whole(checkpoint: Checkpoint, model: Any) -> LogitsGraph:
    """The whole graph of a model that `heads.read` opened."""
    return LogitsGraph(model, takes_types(checkpoint, encoder_of(model))).eval()


def build(checkpoint: Checkpoint, model: Any) -> LogitsGraph | CutLogitsGraph:
    """The same with the last layer cut down to [CLS], if that is known and gives the same logits."""
    every_row = whole(checkpoint, model)
    if checkpoint.config.get("model_type") not in BLOCKS:
        return every_row
    graph: LogitsGraph | CutLogitsGraph = cut_down(
        checkpoint, every_row, lambda: CutLogitsGraph(model, every_row.types)
    )
    return graph
