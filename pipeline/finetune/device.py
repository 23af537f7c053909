"""Where a model is trained and in which arithmetic: device, precision, threads, and which process writes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from .. import UserError, choose, listed, log
from ..encoder.hardware import auto_precision, hardware

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
WORTH_IT = 1.2  # how much faster bfloat16 products must be before they are used: casts cost time too


@dataclass(frozen=True)
class Machine:
    """Where it is computed, and in which arithmetic; weights and optimiser stay float32."""

    device: str
    precision: str

    def arithmetic(self) -> Any:
        """Context in which a model computes in `precision`."""
        import torch

        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device, torch.bfloat16 if self.precision == "bf16" else torch.float16)


def machine(device: str = "auto", precision: str = "auto") -> Machine:
    """The device and arithmetic to train with: bfloat16 where it is native and faster, float16 on older CUDA GPUs.

    Raises UserError for a device that is not there, or an arithmetic that it has not.
    """
    import torch

    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        device = next(name for name in ("cuda", "mps", "cpu") if there[name])
    if not choose(there, device, "device"):
        raise UserError(f"--device {device}: none here; pass --device {listed(d for d in there if there[d])}")
    if precision not in PRECISIONS:
        raise UserError(f"no precision '{precision}' for training; choose one of {listed(PRECISIONS)}")
    if precision == "auto":
        precision = AUTO[device]()
    if precision == "fp16" and device != "cuda":
        raise UserError("--precision fp16 trains on CUDA only; pass bf16 or fp32")
    if device == "cuda" and world_size() > 1:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    return Machine(device, precision)


@lru_cache(maxsize=1)
def bf16_gain() -> float:
    """How many times faster this processor multiplies matrices in bfloat16 than in float32.

    An instruction set does not say: with AVX512_BF16 an AMD EPYC reached 4.5, an Intel Xeon without AMX 0.5.
    """
    import torch

    wide, weight = torch.ones(256, 768), torch.ones(768, 768)
    return _fastest(wide, weight) / _fastest(wide.bfloat16(), weight.bfloat16())


def _fastest(wide: Any, weight: Any, times: int = 7) -> float:
    import torch

    taken = []
    for _ in range(times):
        start = time.perf_counter()
        torch.nn.functional.linear(wide, weight)
        taken.append(time.perf_counter() - start)
    return min(taken)


AUTO: dict[str, Callable[[], str]] = {
    "cpu": lambda: "bf16" if hardware().cpu_bf16 and bf16_gain() >= WORTH_IT else "fp32",
    "cuda": lambda: auto_precision("cuda", hardware())[0],
    "mps": lambda: "fp32",
}


def is_main_process() -> bool:
    """Whether this process is the one that writes: the only one, or the first of those that torchrun started."""
    return int(os.environ.get("RANK", "0")) == 0


def together() -> None:
    """Wait for the other processes of a distributed training, if there are any."""
    import torch

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()


def world_size() -> int:
    """Over how many processes, one a device, a batch is spread: 1 unless torchrun or accelerate started several."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """torch computes with `count` threads inside; None leaves it as it is."""
    import torch

    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def note(line: str) -> None:
    """One line for the user, from the one process that speaks."""
    if is_main_process():
        log.info(line)
