"""What an encoder's config.json says of its architecture: width, layers, tokens that it takes, who sees what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeGuard

from .. import UserError, listed

LAYER_NAMES = ("num_hidden_layers", "n_layers", "n_layer", "num_layers")
DIM_NAMES = ("hidden_size", "dim", "d_model", "emb_dim", "n_embd")
LIMIT_NAMES = ("max_position_embeddings", "n_positions", "max_seq_len")
OFFSET_TYPES = (  # whose positions begin behind the id of padding
    "roberta xlm-roberta camembert longformer data2vec-text xmod ibert esm roberta-prelayernorm xlm-roberta-xl luke "
    "lilt layoutlmv3 markuplm mpnet"
).split()
DECODERS = (
    "gpt2 gpt_neo gpt_neox gptj gpt_bigcode llama mistral mixtral qwen2 qwen3 qwen2_moe gemma gemma2 gemma3_text "
    "phi phi3 opt bloom falcon mpt ctrl xglm olmo olmo2 starcoder2 stablelm cohere openai-gpt mamba rwkv biogpt"
).split()
NOT_TEXT = ("vit", "clip", "whisper", "wav2vec2", "hubert", "swin", "dinov2", "resnet", "beit", "deit", "convnext")


def refuse_what_is_no_encoder(name: str, config: dict[str, Any]) -> None:
    kind, architectures = str(config.get("model_type", "")), config.get("architectures") or []
    if not isinstance(architectures, list) or not all(isinstance(one, str) for one in architectures):
        raise UserError(f"--encoder {name}: 'architectures' in its config.json is no list of names; fetch it again")
    shown = listed(architectures) or kind
    if not kind:
        raise UserError(f"--encoder {name}: its config.json names no model_type; pass a Hugging Face encoder")
    if config.get("is_encoder_decoder"):
        raise UserError(f"--encoder {name}: {shown} is an encoder-decoder, not a [CLS] encoder; pass one such as BERT")
    if kind.startswith(NOT_TEXT):
        raise UserError(f"--encoder {name}: {shown} does not encode texts; pass a text encoder such as BERT")


def is_whole(value: Any) -> TypeGuard[int]:
    """Whether it is a whole number; true and false are none, though Python counts them."""
    return isinstance(value, int) and not isinstance(value, bool)


def pad_id(config: dict[str, Any]) -> int:
    """The id of padding; where a config names none that the encoder has a vector for, any will do: it is masked."""
    given, known = config.get("pad_token_id"), config.get("vocab_size")
    return given if isinstance(given, int) and 0 <= given < (known if isinstance(known, int) else given + 1) else 0


def is_decoder(config: dict[str, Any]) -> bool:
    """Whether a config is of a decoder, whose tokens see nothing of what follows them."""
    architectures = [str(a) for a in config.get("architectures") or ()]
    causal = any(a.endswith(("ForCausalLM", "LMHeadModel")) and not a.startswith("Bert") for a in architectures)
    return config.get("model_type") in DECODERS or bool(config.get("is_decoder")) or causal


def dim_of(name: str, config: dict[str, Any]) -> int:
    for key in DIM_NAMES:
        if is_whole(config.get(key)):
            return int(config[key])
    raise UserError(f"--encoder {name}: its config.json has none of {listed(DIM_NAMES)}; pass a Hugging Face encoder")


def token_limit(config: dict[str, Any], tokenizer: dict[str, Any]) -> int:
    """Tokens that an encoder takes at most: its positions, or what its tokenizer says if that is fewer."""
    positions = next((int(config[key]) for key in LIMIT_NAMES if is_whole(config.get(key))), 0)
    kind = str(config.get("model_type"))
    if positions and kind in OFFSET_TYPES:
        positions -= 2 if kind == "mpnet" else int(config.get("pad_token_id") or 0) + 1  # its own are always 0 and 1
    stated = tokenizer.get("model_max_length")
    known = [n for n in (positions, stated) if (is_whole(n) or isinstance(n, float)) and 0 < n < 1_000_000]
    return int(min(known, default=512))


def layer_count(name: str, config: dict[str, Any]) -> int:
    """How many layers follow the embeddings. Raises UserError if the config does not say."""
    for key in LAYER_NAMES:
        if is_whole(config.get(key)):
            return int(config[key])
    raise UserError(f"--encoder {name}: its config.json has none of {listed(LAYER_NAMES)}; pass --layers last")


def layers_of(name: str, config: dict[str, Any], wanted: Sequence[int | str]) -> tuple[int | None, ...]:
    """Layers by number, each once, in order; the last one, None, stands behind the others. 0: the embeddings.

    Raises UserError for a layer that the encoder has not.
    """
    layers: set[int | None] = set()
    for layer in wanted:
        if layer == "last":
            layers.add(None)
            continue
        count, text = layer_count(name, config), str(layer)
        if layer != "all" and not (text.isdecimal() and int(text) <= count):
            raise UserError(f"no layer '{layer}': {name} has 1 to {count}, and 0, the embeddings; or pass last, or all")
        numbers = range(1, count + 1) if layer == "all" else (int(text),)
        layers |= {None if number == count else number for number in numbers}
    return (*sorted(number for number in layers if number is not None), *([None] if None in layers else []))
