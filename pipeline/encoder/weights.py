"""What lies in a checkpoint's safetensors files, by their headers alone: names, kinds of number, how many."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import UserError
from ..words import error_line
from .architecture import DIM_NAMES, LAYER_NAMES, LIMIT_NAMES, is_whole

FLOATS = ("F64", "F32", "F16", "BF16")
BUFFERS = ("I64", "I32", "I16", "U8", "BOOL")  # of masks and positions, never of a weight
INNER_NAMES = ("intermediate_size", "hidden_dim", "d_ff", "ffn_dim", "n_inner")
VOCABULARY_NAMES = ("vocab_size", "n_words")
MOST_LAYERS = 1000
POSITION_TABLES = ("position", "wpe.")  # in the name of a learned one


def refuse_weights(name: str, config: dict[str, Any], files: Sequence[Path]) -> None:
    """Raises UserError for weights that are quantised, or too few for what `config` asks for.

    Without it, transformers takes whole numbers for weights, and makes what a config of a stranger's asks for, of any
    size, before it compares.
    """
    kinds, numbers = _header(name, files)
    twice = [key for key in kinds if "." in key and key.partition(".")[2] in kinds]
    if len(twice) > 1:  # one may be a chance of names
        raise UserError(
            f"--encoder {name}: the same weights twice, such as {twice[0]} with and without its first word; which are "
            "meant? save the encoder again with save_pretrained"
        )
    if strange := [key for key, kind in kinds.items() if not _is_plain(key, kind)]:
        raise UserError(
            f"--encoder {name}: its weights are quantised ({strange[0]} is {kinds[strange[0]]}); "
            "fetch the checkpoint in float32, float16 or bfloat16"
        )
    for key, most in _bounds(config, numbers, any(part in key for key in kinds for part in POSITION_TABLES)).items():
        if is_whole(config.get(key)) and not 0 < config[key] <= most:
            raise UserError(
                f"--encoder {name}: its config.json asks for {key} {config[key]}, which its weights ({numbers:,} "
                "numbers) cannot have; fetch the checkpoint again"
            )


def _is_plain(key: str, kind: str) -> bool:
    return kind in FLOATS or (kind in BUFFERS and not key.endswith("weight"))


def _header(name: str, files: Sequence[Path]) -> tuple[dict[str, str], int]:
    """The kind of number of each tensor, and how many numbers there are. Raises UserError for a damaged file."""
    from safetensors import SafetensorError, safe_open

    kinds, numbers = {}, 0
    for file in files:
        try:
            with safe_open(file, framework="np") as opened:
                for key in opened.keys():  # noqa: SIM118 - it is no dict
                    tensor = opened.get_slice(key)
                    kinds[key] = tensor.get_dtype()
                    numbers += math.prod(tensor.get_shape())
        except (OSError, SafetensorError) as error:
            raise UserError(
                f"--encoder {name}: {file.name} cannot be read ({error_line(error)}); fetch the checkpoint again"
            ) from error
    return kinds, numbers


def _bounds(config: dict[str, Any], numbers: int, has_positions: bool) -> dict[str, int]:
    """The most that each size in `config` can be: a layer has a square of its width, a vocabulary a table."""
    width = next((config[key] for key in DIM_NAMES if is_whole(config.get(key))), 1)
    embedded = config.get("embedding_size")
    row = min(max(width, 1), embedded) if is_whole(embedded) and embedded > 0 else max(width, 1)
    return (
        dict.fromkeys(LAYER_NAMES, MOST_LAYERS)
        | dict.fromkeys(DIM_NAMES, math.isqrt(numbers))
        | dict.fromkeys(INNER_NAMES, numbers // max(width, 1))
        | dict.fromkeys(VOCABULARY_NAMES, numbers // row)
        | (dict.fromkeys(LIMIT_NAMES, numbers // row) if has_positions else {})
    )
