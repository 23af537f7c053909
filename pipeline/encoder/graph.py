"""An encoder as one torch module, ids in and pooled vectors out: what both engines run.

Only [CLS] is wanted more often than not, and the last layer's other rows are then never looked at: keys and values
are needed of every token, the query, the attention's output and the feed-forward part of the first one alone.
Imports torch; who only reads vectors from disk never comes here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .. import UserError, log
from ..words import error_line
from .architecture import layer_count
from .checkpoint import Checkpoint
from .opener import opened_model
from .pooling import POOLERS, base, layer_of

CODE_POINTS = 0x3000  # token ids that an encoder without a table of them surely takes
TOLERANCE = 1e-4  # between the cut and the whole graph in float32; wiring mistakes are 100 times larger


class WholeGraph(nn.Module):
    """Any encoder's forward, then the poolings. No pooling but those requested is computed."""

    cls_only = False

    def __init__(self, model: Any, poolings: tuple[str, ...], types: bool) -> None:
        super().__init__()
        self.model, self.poolings, self.types = model, poolings, types
        self.places = [(POOLERS[base(name)], layer_of(name)) for name in poolings]
        self.more = {"use_cache": False} if "use_cache" in inspect.signature(model.forward).parameters else {}
        if any(layer is not None for _, layer in self.places):
            self.more["output_hidden_states"] = True
        sparse = hasattr(model, "set_attention_type")  # BigBird's first short text would switch it off for good
        self.attention = str(model.config.attention_type) if sparse else None

    def forward(self, ids: Tensor, mask: Tensor, types: Tensor | None = None) -> tuple[Tensor, ...]:
        """ids, mask, types (b, t) → one (b, d) a pooling."""
        inputs = {"token_type_ids": types} if self.types else {}
        if self.attention is not None:
            self.model.set_attention_type(self.attention)
        states = self.model(input_ids=ids, attention_mask=mask, return_dict=True, **inputs, **self.more)
        last = states.last_hidden_state

        def hidden(layer: int | None) -> Any:
            return last.float() if layer is None else states.hidden_states[layer].float()

        return tuple(pool(hidden(layer), mask) for pool, layer in self.places)


class ClsGraph(nn.Module):
    """An encoder of BERT's block without what [CLS] does not need of the last layer. Pooling is always 'cls'."""

    cls_only, poolings = True, ("cls",)

    def __init__(self, model: Any, types: bool) -> None:
        super().__init__()
        self.model, self.types = model, types
        self.layers, self.last = BLOCKS[model.config.model_type](model)

    def forward(self, ids: Tensor, mask: Tensor, types: Tensor | None = None) -> tuple[Tensor, ...]:
        """ids, mask, types (b, t) → (b, d), alone in a tuple."""
        inputs = {"token_type_ids": types} if self.types else {}
        hidden = self.model.embeddings(input_ids=ids, **inputs)  # (b, t, d)
        seen = mask[:, None, None, :].to(torch.bool)  # (b, 1, 1, t), the same for every head and query
        for layer in self.layers:
            hidden = layer(hidden, seen)
        return (self.last(hidden, seen),)


def _attend(attention: Any, query: nn.Linear, key: nn.Linear, value: nn.Linear, hidden: Tensor, seen: Tensor) -> Tensor:
    """What [CLS] gathers from all tokens in `attention`: hidden (b, t, d) → (b, 1, d)."""

    def heads(projected: Tensor) -> Tensor:
        split: Tensor = projected.unflatten(-1, (-1, attention.attention_head_size))
        return split.transpose(1, 2)  # (b, h, ·, head's width)

    gathered = nn.functional.scaled_dot_product_attention(
        heads(query(hidden[:, :1])), heads(key(hidden)), heads(value(hidden)), attn_mask=seen, scale=attention.scaling
    )
    return gathered.transpose(1, 2).flatten(2)


def _distilbert(model: Any) -> tuple[list[nn.Module], Callable[[Tensor, Tensor], Tensor]]:
    *layers, final = model.transformer.layer
    attention = final.attention

    def last(hidden: Tensor, seen: Tensor) -> Tensor:
        gathered = _attend(attention, attention.q_lin, attention.k_lin, attention.v_lin, hidden, seen)
        attended = final.sa_layer_norm(attention.out_lin(gathered) + hidden[:, :1])
        hidden = final.output_layer_norm(final.ffn(attended) + attended)
        return hidden[:, 0]

    return layers, last


def _bert(model: Any) -> tuple[list[nn.Module], Callable[[Tensor, Tensor], Tensor]]:
    *layers, final = model.encoder.layer
    attention = final.attention.self

    def last(hidden: Tensor, seen: Tensor) -> Tensor:
        gathered = _attend(attention, attention.query, attention.key, attention.value, hidden, seen)
        attended = final.attention.output(gathered, hidden[:, :1])
        hidden = final.feed_forward_chunk(attended)
        return hidden[:, 0]

    return layers, last


BLOCKS = {  # model_type → all layers but the last, and the last one for [CLS] alone
    "distilbert": _distilbert,
    "bert": _bert,
    "roberta": _bert,
    "xlm-roberta": _bert,
    "camembert": _bert,
}


def fold_scale(model: Any) -> None:
    """Scale the queries' weights instead of every query: exact where a head is 4ⁿ wide (64), else to the last bit.

    A projection that is nothing but a product runs on OpenVINO's fastest kernel, one that is scaled afterwards does
    not; full encoders gain 2 to 3 %.
    """
    for module in model.modules():
        query = getattr(module, "query", None) or getattr(module, "q_lin", None)
        if isinstance(query, nn.Linear) and isinstance(getattr(module, "scaling", None), float):
            with torch.no_grad():
                query.weight.mul_(module.scaling)
                query.bias.mul_(module.scaling)
            module.scaling = 1.0


def load_model(checkpoint: Checkpoint) -> Any:
    """The encoder of `checkpoint` in float32 and in evaluation mode, from its folder alone.

    Raises UserError if this transformers cannot read it.
    """
    from transformers import AutoModel

    def loaded(**attention: Any) -> Any:
        return opened_model(AutoModel, checkpoint.folder, checkpoint.name, dtype=torch.float32, **attention)

    try:
        try:
            model = loaded(attn_implementation="sdpa")
        except ValueError:  # an architecture without fused attention is one of many reasons: the second time tells
            model = loaded()
    except UserError:
        raise
    except Exception as error:  # a stranger's files can be wrong in any way
        raise UserError(f"--encoder {checkpoint.name}: transformers cannot load it ({error_line(error)})") from error
    return model.eval()


def vocabulary(model: Any) -> int:
    """How many different token ids an encoder knows."""
    try:
        return len(model.get_input_embeddings().weight)
    except (AttributeError, NotImplementedError):  # CANINE reads code points
        return CODE_POINTS


def encoder_of(model: Any) -> Any:
    """The encoder inside of what `load_model` gives: all of it."""
    return model


def takes_types(checkpoint: Checkpoint, encoder: Any) -> bool:
    """Whether an encoder is fed token types."""
    return checkpoint.has_types and "token_type_ids" in inspect.signature(encoder.forward).parameters


def whole(checkpoint: Checkpoint, poolings: tuple[str, ...], model: Any) -> WholeGraph:
    """The whole graph of `checkpoint` for `poolings`. Raises UserError if it does not show its inner layers."""
    graph = WholeGraph(model, poolings, takes_types(checkpoint, model)).eval()
    if "output_hidden_states" in graph.more:
        _check_layers(checkpoint, model)
    return graph


def _check_layers(checkpoint: Checkpoint, model: Any) -> None:
    """Raises UserError unless an encoder hands out the states behind its embeddings and behind each of its layers."""
    ids = torch.zeros((1, 8), dtype=torch.int64)
    with torch.inference_mode():
        states = model(input_ids=ids, attention_mask=torch.ones_like(ids), output_hidden_states=True, return_dict=True)
    shapes = [tuple(hidden.shape) for hidden in getattr(states, "hidden_states", None) or ()]
    if shapes != [(1, 8, checkpoint.dim)] * (layer_count(checkpoint.name, checkpoint.config) + 1):
        raise UserError(f"--encoder {checkpoint.name}: it does not hand out its inner layers; pass --layers last")


def build(checkpoint: Checkpoint, poolings: tuple[str, ...], model: Any = None) -> WholeGraph | ClsGraph:
    """The graph of `checkpoint` for `poolings`, cut down to [CLS] where that is enough and the block is known."""
    model = load_model(checkpoint) if model is None else model
    every_row = whole(checkpoint, poolings, model)
    if poolings != ("cls",) or checkpoint.config.get("model_type") not in BLOCKS:
        return every_row
    cut: WholeGraph | ClsGraph = cut_down(checkpoint, every_row, lambda: ClsGraph(model, every_row.types))
    return cut


def cut_down(checkpoint: Checkpoint, every_row: Any, make: Callable[[], Any]) -> Any:
    """The graph that `make` gives, of [CLS] alone in the last layer, if it computes what `every_row` does; or that."""
    try:
        cut = make().eval()
        difference = _difference(cut, every_row, checkpoint)
    except (AttributeError, TypeError, RuntimeError, ValueError) as error:  # another transformers, another block
        log.info(f"{checkpoint.name}: the whole last layer is computed ({error_line(error)})")
        return every_row
    if difference < TOLERANCE:
        return cut
    log.info(f"{checkpoint.name}: the whole last layer is computed (for [CLS] alone it differs by {difference:.1e})")
    return every_row


def _difference(cut: nn.Module, every_row: nn.Module, checkpoint: Checkpoint) -> float:
    """Largest difference between two graphs on two made-up texts, one of them padded, relative to the vectors' size."""
    ids = torch.arange(16).reshape(2, 8) % max(2, int(checkpoint.config.get("vocab_size", 16)))
    mask = torch.ones_like(ids)
    ids[1, 5:], mask[1, 5:] = checkpoint.pad_id, 0
    with torch.inference_mode():
        (short,), (full,) = cut(ids, mask, torch.zeros_like(ids)), every_row(ids, mask, torch.zeros_like(ids))
    return float((short - full).abs().max() / full.abs().max().clamp(min=1))
