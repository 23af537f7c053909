"""EncoderSpec → Encoder: token batches in, pooled vectors out, by one of several engines."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import UserError, choose, log
from .batches import TOKEN_BUDGET, TokenBatch
from .checkpoint import Checkpoint, EncoderSpec, Variant, locate, vectors_digest
from .converted import FaultyConversionError, known_fault
from .hardware import PRECISIONS, RUNS, Backend, Hardware, choose_backend, signal_stack_kept
from .hardware import hardware as this_machine
from .int8 import calibration_of
from .openvino_engine import OpenVinoEngine
from .pooling import POOLERS, parts
from .tokens import Tokenizer, Tokens, tokenizer
from .torch_engine import TorchEngine

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
    "Variant",
    "backend_for",
    "calibration_of",
    "choose_backend",
    "locate",
    "open_encoder",
    "open_graph",
    "parts",
    "tokenizer",
    "vectors_digest",
]

ENGINES: dict[str, Any] = {"torch": TorchEngine, "openvino": OpenVinoEngine}
Encoded = tuple[TokenBatch, dict[str, np.ndarray]]  # a batch, and its vectors (b, dim) float32 for each pooling
GPU_BUDGET = 32_768  # tokens a batch on a GPU, which wants more at once than a CPU


@dataclass(frozen=True)
class Runtime:
    """What only the clock depends on: device, tokens a batch, threads, rows and seconds a shard. No vector does.

    Raises nothing itself.

    Examples
    --------
    >>> from probe_or_tune import Runtime
    >>> Runtime(threads=2).token_budget is None
    True
    """

    device: str = "auto"
    token_budget: int | None = None  # tokens a batch, padding included; None: what suits the device
    threads: int | None = None  # None: as many as this process may use
    shard_rows: int = 4096
    shard_seconds: float = 5.0


class Encoder:
    """An open encoder: `encode` for one batch, `encode_many` for many, `encode_all` for texts; for one thread.

    While one batch is computed the next is begun, `in_flight` of them at most: `push` begins one and hands back what
    is done, `flush` waits for the rest.
    """

    def __init__(
        self, checkpoint: Checkpoint, backend: Backend, engine: Any, budget: int, setup_seconds: float
    ) -> None:
        self.checkpoint, self.backend, self.running = checkpoint, backend, engine
        self.engine, self.precision, self.device = backend.engine, backend.precision, backend.device
        self.poolings: tuple[str, ...] = engine.poolings
        self.cls_only: bool = engine.cls_only
        self.calibration: str | None = engine.calibration
        self.in_flight: int = engine.in_flight
        self.equal_lengths: bool = engine.equal_lengths  # vectors depend on padding: no batch may have any
        self.token_budget, self.setup_seconds = budget, setup_seconds
        self._begun: deque[tuple[TokenBatch, Any]] = deque()

    def vectors_digest(self, pooling: str, storage: str = "auto") -> str:
        """The folder of the vectors that this encoder makes for `pooling`."""
        return vectors_digest(self.checkpoint, pooling, self.variant(storage))

    def variant(self, storage: str = "auto") -> Variant:
        """What its numbers depend on, if they are stored as `storage`."""
        return Variant(self.engine, self.precision, self.calibration, storage, self.cls_only)

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

    def encode_many(self, batches: Iterable[TokenBatch]) -> Iterator[Encoded]:
        """`encode` for many batches, each handed back with its vectors, in order."""
        try:
            for batch in batches:
                yield from self.push(batch)
            yield from self.flush()
        finally:
            while self._begun:  # nobody wants them any more, but their requests are wanted for others
                with suppress(Exception):
                    self.running.fetch(self._begun.popleft()[1])

    def encode_all(self, tokens: Tokens) -> dict[str, np.ndarray]:
        """Vectors (n, dim) float32 of n tokenised texts for each single pooling, in the order of the texts."""
        texts = len(tokens.ids)
        out: dict[str, np.ndarray] = {}
        for batch, vectors in self.encode_many(self.batches(tokens)):
            for name, rows in vectors.items():
                out.setdefault(name, np.empty((texts, rows.shape[1]), np.float32))[batch.rows] = rows
        return out or {name: np.empty((0, self.checkpoint.dim), np.float32) for name in self.poolings}

    def batches(self, tokens: Tokens, positions: np.ndarray | None = None) -> Iterator[TokenBatch]:
        """Tokenised texts (all, or those at `positions` (m,)) as batches that suit this encoder."""
        return tokens.batches(self.token_budget, positions, self.equal_lengths)

    def push(self, batch: TokenBatch) -> list[Encoded]:
        """Begin a batch; those that are done by now, in the order in which they were begun."""
        done = [self._finished(*self._begun.popleft()) for _ in range(len(self._begun) - self.in_flight + 1)]
        started = self._started(batch)
        if started is None:
            return [*done, *self.flush(), (batch, self._in_halves(batch))]  # what they hold may be all that is missing
        self._begun.append((batch, started))
        return self.flush() if self.in_flight == 1 else done  # nothing to overlap: waiting would only delay it

    def flush(self) -> list[Encoded]:
        """Wait for every batch that has begun."""
        return [self._finished(*self._begun.popleft()) for _ in range(len(self._begun))]

    def _started(self, batch: TokenBatch) -> Any:
        try:
            return self.running.start(batch)
        except self.running.out_of_memory:
            return None

    def _finished(self, batch: TokenBatch, started: Any) -> Encoded:
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
                remedy = (
                    "pass --precision fp32" if self.precision != "fp32" else "its weights are damaged: get it again"
                )
                raise UserError(
                    f"--encoder {self.checkpoint.name}: {name} vectors that are not finite numbers "
                    f"({self.engine}, {self.precision}); {remedy}"
                )
        return vectors


def backend_for(checkpoint: Checkpoint, poolings: tuple[str, ...], backend: Backend, cache: Path) -> Backend:
    """`backend`, or torch if it is OpenVINO and known to compute something else for this encoder, which is said.

    Raises UserError for a precision that torch does not have.
    """
    fault = known_fault(checkpoint, poolings, Path(cache)) if backend.engine == "openvino" else None
    return backend if fault is None else on_torch(checkpoint, backend, fault)


def on_torch(checkpoint: Checkpoint, backend: Backend, fault: str) -> Backend:
    """The torch backend in place of one that has a fault, with one line about it.

    Raises UserError for a precision that torch does not have.
    """
    if backend.precision not in RUNS["torch"][backend.device]:
        raise UserError(
            f"--precision {backend.precision}: for {checkpoint.name} OpenVINO {fault}; pass --precision fp32"
        )
    reason = f"OpenVINO {fault}"
    log.info(f"{checkpoint.name}: {reason}, so that it runs on torch")
    return replace(backend, engine="torch", reason=reason)


def open_encoder(
    checkpoint: Checkpoint,
    poolings: tuple[str, ...] = ("cls",),
    engine: str = "auto",
    precision: str = "auto",
    runtime: Runtime | None = None,
    cache: Path = Path("cache"),
) -> Encoder:
    """Load `checkpoint` for `poolings`; 'cls+mean' counts as its two parts.

    int8 that was never calibrated is calibrated now, on the bundled sample (`int8.calibrated` takes other texts).

    What OpenVINO does not compute as torch does runs on torch.

    Raises UserError if engine, precision and device do not go together, or if the encoder cannot be loaded.
    """
    return open_graph(checkpoint, checkpoint.poolings(poolings), engine, precision, runtime, cache)


@signal_stack_kept()
def open_graph(
    checkpoint: Checkpoint,
    outputs: tuple[str, ...],
    engine: str = "auto",
    precision: str = "auto",
    runtime: Runtime | None = None,
    cache: Path = Path("cache"),
) -> Encoder:
    """`open_encoder` for whatever outputs the graphs of `checkpoint` have: poolings, or what a head makes of them."""
    started, runtime = time.perf_counter(), runtime or Runtime()
    backend = backend_for(checkpoint, outputs, choose_backend(engine, precision, runtime.device), cache)
    if "auto" in (engine, precision, runtime.device):
        log.info(f"encoding with {backend.engine} in {backend.precision} on {backend.device}: {backend.reason}")
    rest = (runtime.threads or this_machine().cores, Path(cache))
    make = choose(ENGINES, backend.engine, "engine")
    try:
        running = make(checkpoint, outputs, backend.precision, backend.device, *rest)
    except FaultyConversionError as error:
        backend = on_torch(checkpoint, backend, error.fault)
        running = TorchEngine(checkpoint, outputs, backend.precision, backend.device, *rest)
    budget = runtime.token_budget or (TOKEN_BUDGET if backend.device == "cpu" else GPU_BUDGET)
    return Encoder(checkpoint, backend, running, budget, time.perf_counter() - started)
