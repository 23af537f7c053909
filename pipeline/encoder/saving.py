"""What of a torch model goes into a safetensors file."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def separate(model: Any) -> dict[str, Any]:
    """A model's tensors by name as safetensors takes them: those that share memory, or lie in it with gaps, copied."""
    tensors, seen = {}, set()
    for name, tensor in model.state_dict().items():
        place = tensor.untyped_storage().data_ptr()
        fits = tensor.is_contiguous() and tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
        tensors[name] = tensor if fits and place not in seen else tensor.detach().clone().contiguous()
        seen.add(place)
    return tensors


def save(model: Any, file: Path) -> None:
    """Write the tensors of a torch model to one safetensors file. Raises OSError and what safetensors does."""
    from safetensors.torch import save_file

    save_file(separate(model), file)
