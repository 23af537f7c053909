"""The reference engine: torch, on a GPU or the CPU. Every other engine is tested against it in float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .. import UserError
from .batches import TokenBatch
from .checkpoint import Checkpoint
from .converted import equal_lengths_kept

IN_FLIGHT = 2  # batches on a GPU at once: one computes while the next is copied


class TorchEngine:
    """An encoder's graph on one device, in one precision."""

    calibration: str | None = None

    def __init__(
        self,
        checkpoint: Checkpoint,
        poolings: tuple[str, ...],
        precision: str,
        device: str,
        threads: int,
        cache: Path,
    ) -> None:
        import torch

        self.device = torch.device(device)
        if self.device.type == "cuda" and not torch.cuda.is_available():
            raise UserError(f"--device {device}: this torch cannot use a CUDA GPU; install torch for CUDA, or pass cpu")
        if self.device.type == "mps" and not torch.backends.mps.is_available():
            raise UserError("--device mps: this torch cannot use Apple's GPU; pass --device cpu")
        if self.device.type == "cpu":
            torch.set_num_threads(threads)
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        graphs = checkpoint.graphs()
        model = graphs.load_model(checkpoint)
        self.equal_lengths = equal_lengths_kept(checkpoint, poolings, model, cache)
        self.graph = graphs.build(checkpoint, poolings, model).to(self.device, dtype)
        self.poolings, self.cls_only = poolings, self.graph.cls_only
        self.in_flight = IN_FLIGHT if self.device.type == "cuda" else 1
        self.out_of_memory: tuple[type[BaseException], ...] = (torch.OutOfMemoryError, MemoryError)

    def release(self) -> None:
        """Give back what a failed batch still holds."""
        import torch

        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def start(self, batch: TokenBatch) -> Any:
        """Begin to encode a batch: (b, d) for each pooling, on a GPU perhaps not computed yet."""
        import torch

        def moved(array: np.ndarray | None) -> Any:
            if array is None:
                return None
            tensor = torch.from_numpy(np.ascontiguousarray(array))
            return tensor.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else tensor

        with torch.inference_mode():
            inputs = [moved(array) for array in (batch.ids, batch.mask, batch.types)]
            if self.device.type == "mps":
                inputs = [None if tensor is None else tensor.to(self.device) for tensor in inputs]
            vectors = [vector.float() for vector in self.graph(*inputs)]  # numpy has no bfloat16
            if self.device.type != "cuda":
                return vectors
            host = [torch.empty(v.shape, dtype=v.dtype, pin_memory=True) for v in vectors]
            for target, vector in zip(host, vectors, strict=True):
                target.copy_(vector, non_blocking=True)
            done = torch.cuda.Event()
            done.record(torch.cuda.current_stream(self.device))  # not that of the current device
            return host, done

    def fetch(self, started: Any) -> dict[str, np.ndarray]:
        """Wait for a batch: vectors (b, d) float32 for each pooling."""
        if self.device.type == "cuda":
            started, done = started
            done.synchronize()
        return {name: vector.cpu().numpy() for name, vector in zip(self.poolings, started, strict=True)}
