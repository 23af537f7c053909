"""The encoder's layers: which are trained, and those below them run once over all texts, however many epochs follow.

What the layers below hand over, a state (t, d) a text, is kept in float16 in the cache: one file a set of texts, named
by all that it depends on. Nothing below is dropped out or learns, so that training on it is training the encoder.
"""

from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import UserError, log
from ..encoder.checkpoint import Checkpoint, digest_of
from ..files import draft, mark_used
from ..words import error_line
from .device import Machine, is_main_process, together
from .heads import encoder_of
from .training import CPU_BUDGET, Rows

LAYERS = ("layer", "layers", "h", "block")  # what architectures call the list of their layers
FORMAT = 1
LARGEST = 4 * 2**30  # bytes of states that are kept; more are computed in every epoch
TOLERANCE = 0.02  # of the largest state, between the whole encoder and its upper part: float16 makes a tenth of it


def layers_of(model: Any) -> Any:
    """The encoder's layers, first to last, as one ModuleList.

    Raises UserError if the architecture keeps them in a way that is not known here.
    """
    return _place_of_layers(model)[1]


def _place_of_layers(model: Any) -> tuple[str, Any]:
    from torch import nn

    encoder = encoder_of(model)
    for name, module in encoder.named_modules():
        if isinstance(module, nn.ModuleList) and name.rpartition(".")[2] in LAYERS and len(module):
            return name, module
    raise UserError(f"--unfreeze: cannot tell the layers of {type(encoder).__name__}; train it whole")


def freeze_below(model: Any, layers: int) -> None:
    """Leave only the last `layers` layers of the encoder, what comes after them, and the head trainable.

    What is frozen drops nothing out either. Raises UserError if the encoder has fewer layers.
    """
    stack = layers_of(model)
    if not 0 <= layers <= len(stack):
        raise UserError(f"--unfreeze {layers}: the encoder has {len(stack)} layers; pass 0 to {len(stack)}")
    encoder = encoder_of(model)
    free = [*stack[len(stack) - layers :]]
    free += [part for name in ("pooler", "final_norm") if (part := getattr(encoder, name, None)) is not None]
    for parameter in encoder.parameters():
        parameter.requires_grad_(False)
    for part in free:
        for parameter in part.parameters():
            parameter.requires_grad_(True)
    learning = {id(module) for part in free for module in part.modules()}
    for module in encoder.modules():
        for name in ("p", "dropout", "attention_dropout"):
            if id(module) not in learning and isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)


# ── the layers above ────────────────────────────────────────────────────────────────────────────────────────────────


def upper_part(model: Any, layers: int) -> Any:
    """A model of the last `layers` layers and the head of `model`, of the same weights, that is fed states.

    They come as `inputs_embeds` (b, t, d). Raises KeyError for an architecture that is built otherwise.
    """
    from torch import nn

    class Given(nn.Module):
        """In the embeddings' place."""

        def forward(self, *given: Any, **named: Any) -> Any:
            return next(x for x in (*given, *named.values()) if x is not None and getattr(x, "ndim", 0) == 3)

    encoder, (place, stack) = encoder_of(model), _place_of_layers(model)
    upper = part = _shared(encoder)
    del upper._modules["embeddings"]  # KeyError: it has others
    upper._modules["embeddings"] = Given()
    *path, last = place.split(".")
    for name in path:
        part._modules[name] = _shared(part._modules[name])
        part = part._modules[name]
    part._modules[last] = nn.ModuleList(list(stack)[len(stack) - layers :])
    above = _shared(model)
    above._modules[next(name for name, child in model.named_children() if child is encoder)] = upper
    return above


def _shared(module: Any) -> Any:
    """A copy of a module with the same weights and parts, in which parts can be replaced."""
    other = copy.copy(module)
    other._modules = dict(module._modules)
    return other


def computes_the_same(model: Any, upper: Any, rows: Rows, machine: Machine) -> bool:
    """Whether the upper part makes of states what the encoder makes of the texts: on the first four, in float32."""
    import torch

    some = rows.take(np.arange(min(4, len(rows))))
    plain = replace(some, states=None)
    model.eval()
    upper.eval()
    with torch.inference_mode():
        for (batch, fed), (_, given) in zip(plain.fed(10**6, machine), some.fed(10**6, machine), strict=True):
            whole, part = (encoder_of(m)(**x)[0] for m, x in ((model, fed), (upper, given)))
            seen = torch.from_numpy(batch.mask).to(whole.device)[..., None]
            if not ((whole - part) * seen).abs().max() <= TOLERANCE * (whole * seen).abs().max():
                return False
    return True


# ── the layers below ────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Below:
    """States of texts below one layer of a checkpoint, kept in `cache`."""

    checkpoint: Checkpoint
    cache: Path
    layers: int  # that are trained, above them
    precision: str

    def file(self, keys: np.ndarray, max_length: int) -> Path:
        """Where the states of texts with `keys` (u, 2), sorted, lie."""
        texts = hashlib.blake2b(keys.tobytes(), digest_size=16).hexdigest()
        name = digest_of([FORMAT, self.checkpoint.digest, self.layers, self.precision, max_length, texts])
        return self.cache / "states" / f"{name}.safetensors"

    def states(self, file: Path, rows: Rows, model: Any, machine: Machine) -> list[np.ndarray] | None:
        """The states (t_i, d) float16 of every row, from `file`, or computed and written there.

        None if they cannot be kept: they would be too large, or the disk refuses.
        """
        ends = np.cumsum(rows.lengths)
        shape = (int(ends[-1]), self.checkpoint.dim)
        if 2 * shape[0] * shape[1] > LARGEST:
            log.info("the layers below run in every epoch: their states would be %.0f GB", shape[0] * shape[1] / 5e8)
            return None
        flat = _read(file, shape)
        if flat is None and is_main_process():
            try:
                _write(file, self.compute(rows, ends, model, machine))
            except OSError as error:
                log.warning("%s: cannot be written (%s); the layers below run in every epoch", file, error_line(error))
        together()
        flat = _read(file, shape) if flat is None else flat
        return None if flat is None else np.split(flat, ends[:-1])

    def compute(self, rows: Rows, ends: np.ndarray, model: Any, machine: Machine) -> np.ndarray:
        """States (Σ t_i, d) float16: what the lowest layer that is trained is fed."""
        import torch

        stack, out = layers_of(model), np.empty((ends[-1], self.checkpoint.dim), np.float16)

        class Reached(Exception):  # noqa: N818 - it ends a forward pass where enough is known
            pass

        def stop(module: Any, given: tuple[Any, ...], named: dict[str, Any]) -> None:
            raise Reached(given[0] if given else named["hidden_states"])

        handle = stack[len(stack) - self.layers].register_forward_pre_hook(stop, with_kwargs=True)
        model.eval()
        try:
            with torch.inference_mode(), machine.arithmetic():
                for batch, fed in rows.fed(CPU_BUDGET, machine):
                    try:
                        model(**fed)
                    except Reached as reached:
                        hidden = reached.args[0].float().cpu().numpy()  # (b, t, d)
                        for row, state in zip(batch.rows, hidden, strict=True):
                            length = len(rows.ids[row])
                            out[ends[row] - length : ends[row]] = state[:length]
        finally:
            handle.remove()
        return out


def _write(file: Path, states: np.ndarray) -> None:
    from safetensors.numpy import save_file

    file.parent.mkdir(parents=True, exist_ok=True)
    with draft(file) as made:
        save_file({"states": states}, made, {"check": _check(states)})


def _check(states: np.ndarray) -> str:
    return hashlib.blake2b(np.ascontiguousarray(states).data, digest_size=16).hexdigest()


def _read(file: Path, shape: tuple[int, int]) -> np.ndarray | None:
    """The states in a file, mapped into memory; None unless it is there, whole, and of that shape."""
    try:
        with open(file, "rb") as opened:
            size = int.from_bytes(opened.read(8), "little")
            header = json.loads(opened.read(size))
        flat = np.memmap(file, np.float16, "r", 8 + size, tuple(header["states"]["shape"]))
        good = flat.shape == shape and _check(flat) == header["__metadata__"]["check"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, MemoryError):
        good = False
    if not good:
        log.warning("%s: damaged states; they are computed again", file)
        return None
    mark_used(file)
    return flat
