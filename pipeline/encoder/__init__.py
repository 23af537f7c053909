"""EncoderSpec → Encoder: token batches in, pooled vectors out, by one of several engines."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import UserError, choose, log
from pipeline.batching import TOKEN_BUDGET, TokenBatch
from pipeline.encoder.checkpoint import POOLERS, Checkpoint, EncoderSpec, locate, parts, vectors_digest
from pipeline.encoder.hardware import PRECISIONS, Backend, Hardware, choice, signal_stack_kept
from pipeline.encoder.hardware import hardware as this_machine
from pipeline.encoder.int8 import calibration_of
from pipeline.encoder.openvino_engine import OpenVinoEngine
from pipeline.encoder.tokens import Tokenizer, Tokens, tokenizer
from pipeline.encoder.torch_engine import TorchEngine

__all__ = [
    "ENGINES",
    "POOLERS",
    "PRECISIONS",
    "Backend",
    "Checkpoint",
    "Encoder",
    "EncoderSpec",
    "Hardware",
    "Runtime",
    "Tokenizer",
    "Tokens",
    "calibration_of",
    "choice",
    "locate",
    "open_encoder",
    "parts",
    "tokenizer",
    "vectors_digest",
]

ENGINES: dict[str, Any] = {"torch": TorchEngine, "openvino": OpenVinoEngine}
GPU_BUDGET = 32_768  # tokens a batch on a GPU, which wants more at once than a CPU


@dataclass(frozen=True)
class Runtime:
    """What only the clock depends on: device, tokens a batch, threads, rows and seconds a shard. No vector does.

    Raises nothing itself.

    Examples
    --------
    >>> from pipeline import Runtime
    >>> Runtime(threads=2).token_budget is None
    True
    """

    device: str = "auto"
    token_budget: int | None = None  # tokens a batch, padding included; None: what suits the device
    threads: int | None = None  # None: as many as this process may use
    shard_rows: int = 4096
    shard_seconds: float = 5.0


class Encoder:
    """An open encoder. `encode` answers for one batch, `encode_many` overlaps the work of many."""

    def __init__(self, checkpoint: Checkpoint, chosen: Backend, engine: Any, budget: int, setup_seconds: float) -> None:
        self.checkpoint, self.choice, self.running = checkpoint, chosen, engine
        self.engine, self.precision, self.device = chosen.engine, chosen.precision, chosen.device
        self.poolings: tuple[str, ...] = engine.poolings
        self.cls_only: bool = engine.cls_only
        self.calibration: str | None = engine.calibration
        self.in_flight: int = engine.in_flight
        self.token_budget, self.setup_seconds = budget, setup_seconds

    def vectors_digest(self, pooling: str, storage: str = "float32") -> str:
        """The folder of the vectors that this encoder makes for `pooling`."""
        return vectors_digest(
            self.checkpoint, pooling, self.engine, self.precision, self.calibration, storage, self.cls_only
        )

    def encode(self, batch: TokenBatch) -> dict[str, np.ndarray]:
        """Vectors (b, dim) float32 for each single pooling.

        Where memory runs out the batch is halved, and the halves again, down to one text.

        Raises UserError if a single text does not fit, or if a vector is not finite.
        """
        try:
            return self._checked(self.running.fetch(self.running.start(batch)))
        except self.running.out_of_memory:
            pass  # halved outside: as long as the error is handled, its frames hold the memory that is missing
        return self._in_halves(batch)

    def encode_many(self, batches: Iterable[TokenBatch | None]) -> Iterator[tuple[TokenBatch, dict[str, np.ndarray]]]:
        """`encode` for many batches, each handed back with its vectors, in order.

        While one batch is computed the next is begun, `in_flight` of them at most; a None among the batches asks for
        all that have begun, before anything else is taken.
        """
        begun: deque[tuple[TokenBatch, Any]] = deque()
        for batch in batches:
            while begun and (batch is None or len(begun) >= self.in_flight):
                yield self._finished(*begun.popleft())
            if batch is None:
                continue
            started = self._started(batch)
            if started is None:
                while begun:  # what they hold may be all that is missing
                    yield self._finished(*begun.popleft())
                yield batch, self._in_halves(batch)
            else:
                begun.append((batch, started))
            if (
                self.in_flight == 1 and begun
            ):  # nothing to overlap: waiting for the next batch would only delay this one
                yield self._finished(*begun.popleft())
        while begun:
            yield self._finished(*begun.popleft())

    def _started(self, batch: TokenBatch) -> Any:
        try:
            return self.running.start(batch)
        except self.running.out_of_memory:
            return None

    def _finished(self, batch: TokenBatch, started: Any) -> tuple[TokenBatch, dict[str, np.ndarray]]:
        try:
            return batch, self._checked(self.running.fetch(started))
        except self.running.out_of_memory:
            del started
        return batch, self._in_halves(batch)

    def _in_halves(self, batch: TokenBatch) -> dict[str, np.ndarray]:
        self.running.release()
        rows, tokens = batch.ids.shape
        if rows < 2:
            raise UserError(f"one text of {tokens} tokens does not fit into memory; pass a smaller --max-length")
        self.token_budget = max(1, min(self.token_budget, rows * tokens // 2))
        log.info(f"out of memory at {rows * tokens} tokens a batch; going on with {self.token_budget}")
        first, second = (self.encode(half) for half in batch.halves())
        return {name: np.concatenate([first[name], second[name]]) for name in self.poolings}

    def _checked(self, vectors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        for name, rows in vectors.items():
            if not np.isfinite(rows).all():
                raise UserError(
                    f"--encoder {self.checkpoint.name}: {name} vectors that are not finite numbers "
                    f"({self.engine}, {self.precision}); pass --precision fp32"
                )
        return vectors


@signal_stack_kept()
def open_encoder(
    checkpoint: Checkpoint,
    poolings: tuple[str, ...] = ("cls",),
    engine: str = "auto",
    precision: str = "auto",
    runtime: Runtime | None = None,
    cache: Path = Path("cache"),
    texts: Iterable[tuple[str, ...]] = (),
) -> Encoder:
    """Load `checkpoint` for `poolings`; 'cls+mean' counts as its two parts.

    `texts` are for calibrating int8 if that has not happened yet (`int8.forget` makes it happen again).

    Raises UserError if engine, precision and device do not go together, or if the encoder cannot be loaded.
    """
    started, runtime = time.perf_counter(), runtime or Runtime()
    chosen = choice(engine, precision, runtime.device)
    if "auto" in (engine, precision, runtime.device):
        log.info(f"encoding with {chosen.engine} in {chosen.precision} on {chosen.device}: {chosen.reason}")
    threads = runtime.threads or this_machine().cores
    make = choose(ENGINES, chosen.engine, "engine")
    asked = (checkpoint, parts(poolings), chosen.precision, chosen.device, threads, Path(cache))
    running = make(*asked, texts=texts)
    budget = runtime.token_budget or (TOKEN_BUDGET if chosen.device == "cpu" else GPU_BUDGET)
    return Encoder(checkpoint, chosen, running, budget, time.perf_counter() - started)
