"""Low-rank adapters (LoRA, Hu et al. 2022) on every linear layer of an encoder, by peft, and back into its weights.

What is trained are two thin matrices a layer and the head. Before it is saved each pair is added to the weights that it
stands beside, so that the checkpoint is a stock one, of the architecture's own names and shapes.
"""

from __future__ import annotations

from typing import Any

from .. import UserError
from .heads import encoder_of, isolated

SCALE = 2  # alpha / rank: an update counts twice (Hu et al. leave it to be tuned with the rate; 2 is peft's examples')
KEPT_WHOLE = ("pooler", "final_norm")  # what comes after the layers is trained as it is: often it was never pretrained


def add_adapters(model: Any, rank: int, seed: int) -> None:
    """Freeze the encoder of `model` and put adapters of `rank` beside all its linear layers, in place.

    Their weights depend on `seed` alone, and change nothing before they are trained.

    Raises UserError if peft is not installed, or finds no linear layer.
    """
    encoder = encoder_of(model)
    try:
        from peft import LoraConfig
        from peft.tuners.lora import LoraModel
    except ImportError as error:
        raise UserError("--lora needs peft: pip install 'probe-or-tune[lora]'") from error
    whole = {name: part for name in KEPT_WHOLE if (part := getattr(encoder, name, None)) is not None}
    config = LoraConfig(
        r=rank,
        lora_alpha=SCALE * rank,
        target_modules="all-linear",
        exclude_modules=rf"({'|'.join(whole)})(\..*)?" if whole else None,
    )
    try:
        with isolated(seed):
            LoraModel(encoder, {"default": config}, "default")
    except ValueError as error:
        raise UserError(f"--lora: peft finds no linear layer in {type(encoder).__name__}; train it whole") from error
    for part in whole.values():
        part.requires_grad_(True)


def merge(model: Any) -> None:
    """Add every adapter of `model` to the weights beside it, in place: no trace of adapters is left."""
    from peft.tuners.lora import LoraLayer

    encoder = encoder_of(model)
    for name, module in list(encoder.named_modules()):
        if isinstance(module, LoraLayer):
            module.merge(safe_merge=True)
            encoder.set_submodule(name, module.get_base_layer())
    for leftover in ("peft_config", "_hf_peft_config_loaded"):
        if leftover in vars(encoder):
            delattr(encoder, leftover)
