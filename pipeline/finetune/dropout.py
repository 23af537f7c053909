"""Dropout whose random numbers are cheap on a processor: a byte decides about a number, eight come from one draw.

torch draws a float for each number, and its attention leaves the fused kernel where weights are dropped: together a
quarter of a training step. A share that is no multiple of 1/256 is rounded to one, and the rest is scaled by what is
really kept, so that the mean stays.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

ATTENTION = "byte_dropout"  # what transformers knows `attention` as


def drop(numbers: Any, share: float) -> Any:
    """`numbers`, of any shape, with `share` of them 0 on average and the others scaled so that the mean stays."""
    cut = round(256 * share)
    return _drop().apply(numbers, cut) if cut else numbers


@lru_cache(maxsize=1)
def _drop() -> Any:
    import torch

    class Drop(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, numbers: Any, cut: int) -> Any:
            draws = torch.empty(-(-numbers.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
            drawn = draws.view(torch.uint8)[: numbers.numel()].view(numbers.shape)
            context.save_for_backward(drawn)  # a byte a number, not the four of a float
            context.cut = cut
            return numbers * _factors(drawn, cut, numbers.dtype)

        @staticmethod
        def backward(context: Any, *gradients: Any) -> Any:
            (drawn,) = context.saved_tensors
            return gradients[0] * _factors(drawn, context.cut, gradients[0].dtype), None

    return Drop


def _factors(drawn: Any, cut: int, dtype: Any) -> Any:
    return (drawn >= cut).to(dtype).mul_(256 / max(1, 256 - cut))


def attention(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **other: Any) -> tuple[Any, None]:
    """transformers' attention function: (b, t, h, d) of query, key and value (b, h, t, d), weights dropped by bytes.

    Whatever is not a plain encoder's attention under dropout is computed by torch's fused kernel.
    """
    import torch
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    dropout, causal = other.get("dropout", 0.0), other.get("is_causal")
    causal = getattr(module, "is_causal", True) if causal is None else causal
    plain = query.shape == key.shape and not causal and not {"position_bias", "softcap"} & set(other)
    if not dropout or not plain:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **other)
    scaling = other.get("scaling")
    scores = torch.matmul(query, key.transpose(-1, -2)) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if attention_mask is not None:
        boolean, lowest = attention_mask.dtype == torch.bool, torch.finfo(scores.dtype).min  # -inf alone is NaN
        scores = scores.masked_fill(~attention_mask, lowest) if boolean else scores + attention_mask
    weights = drop(torch.softmax(scores, -1), dropout)  # (b, h, t, t)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), None


@lru_cache(maxsize=1)
def _byte_dropout() -> Any:
    from torch import nn
    from transformers import AttentionInterface
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface

    class ByteDropout(nn.Dropout):
        def forward(self, input: Any) -> Any:
            return drop(input, self.p) if self.training else input

    AttentionInterface.register(ATTENTION, attention)
    AttentionMaskInterface.register(ATTENTION, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
    return ByteDropout


def cheapen(model: Any, encoder: Any) -> None:
    """Let every dropout of a model on a CPU, and that of its encoder's attention, draw bytes.

    Weights, names and what the model predicts stay as they are.
    """
    from torch import nn

    kind = _byte_dropout()
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Dropout:
                setattr(module, name, kind(child.p).train(child.training))
    if encoder.config._attn_implementation == "sdpa":
        encoder.set_attn_implementation(ATTENTION)
