"""The CPU engine: a converted encoder, compiled by OpenVINO for this processor in one precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .. import UserError
from ..words import shorten
from . import int8
from .batches import TokenBatch
from .checkpoint import Checkpoint
from .converted import converted

HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
SHAPES = {"CPU_RUNTIME_CACHE_CAPACITY": 256}  # kernels stored for shapes seen; by default 5,000, which takes 100 MB
STREAM_THREADS = 4  # more threads on one batch of the usual size wait for each other more than they work


class OpenVinoEngine:
    """A converted encoder, compiled. As many batches are computed at once as there are streams."""

    out_of_memory: tuple[type[BaseException], ...] = (MemoryError,)

    def __init__(
        self,
        checkpoint: Checkpoint,
        poolings: tuple[str, ...],
        precision: str,
        device: str,
        threads: int,
        cache: Path,
    ) -> None:
        import openvino

        if precision == "int8":
            file, facts = int8.calibrated(checkpoint, poolings, cache)
        else:
            file, facts = converted(checkpoint, poolings, cache)
        self.poolings, self.cls_only = poolings, bool(facts["cls_only"])
        self.calibration: str | None = facts.get("calibration")
        self.equal_lengths = bool(facts["equal_lengths"])
        self.outputs = [facts["poolings"].index(name) for name in poolings]
        core = openvino.Core()
        self.in_flight = streams(threads)
        self.compiled = compiled(core, core.read_model(file), precision, threads)
        self.inputs = len(self.compiled.inputs)
        self.idle = [self.compiled.create_infer_request() for _ in range(self.in_flight)]

    def start(self, batch: TokenBatch) -> Any:
        """Begin to encode a batch; at most `in_flight` may have begun and not been fetched."""
        types = np.zeros_like(batch.ids) if batch.types is None else batch.types
        fed = [np.ascontiguousarray(array) for array in (batch.ids, batch.mask, types)][: self.inputs]
        request = self.idle.pop()
        request.start_async(fed, share_inputs=True)
        return request, fed  # shared with OpenVINO, so they must live until the answer is there

    def fetch(self, started: Any) -> dict[str, np.ndarray]:
        """Wait for a batch: vectors (b, d) float32 for each pooling."""
        request, _ = started
        try:
            request.wait()
            vectors = (request.get_output_tensor(number).data.astype(np.float32) for number in self.outputs)
            return dict(zip(self.poolings, vectors, strict=True))
        except RuntimeError as error:
            if "alloc" in str(error).lower():
                raise MemoryError(str(error)) from error
            raise
        finally:
            self.idle.append(request)

    def release(self) -> None:
        """Nothing is held between batches."""


def compiled(core: Any, model: Any, precision: str, threads: int) -> Any:
    """The model, ready to run on the processor, with a small cache of kernels where this OpenVINO lets one say so.

    Raises UserError if this processor cannot run it in `precision`: some of what it can do may be switched off.
    """
    config = settings(precision, threads)
    try:
        return core.compile_model(model, "CPU", config | SHAPES)
    except RuntimeError:  # an internal property: a later version may not know it
        pass
    try:
        return core.compile_model(model, "CPU", config)
    except RuntimeError as error:
        remedy = "--engine torch" if precision == "fp32" else "--precision fp32"
        why = shorten(str(error).strip().rpartition("\n")[2], 160)  # the last line: those before it say where it arose
        raise UserError(f"OpenVINO cannot run the encoder in {precision} here ({why}); pass {remedy}") from error


def streams(threads: int) -> int:
    """How many batches to compute side by side: one a few processors."""
    return max(1, threads // STREAM_THREADS)


def settings(precision: str, threads: int) -> dict[str, Any]:
    """How OpenVINO shall run. Threads are left unpinned: two processes that pin theirs sit on the same processors."""
    return {
        "INFERENCE_PRECISION_HINT": HINTS[precision],
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": streams(threads),
        "ENABLE_CPU_PINNING": False,
    }
