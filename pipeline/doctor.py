"""What this machine can do and what a job will cost: measured, not guessed.

Every engine and precision that runs here encodes for about a second, on batches as extraction makes them; what cannot
run says why. A source's cost is its tokens, counted on a sample of its rows, over the speed of what `auto` chooses.
"""

from __future__ import annotations

import importlib.util
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from . import UserError, hub, install_command, installed_version
from .data import SourceOptions, read_chunks
from .data import sources as source_files
from .encoder import Encoder, EncoderSpec, Runtime, calibration_of, choose_backend, locate, open_encoder
from .encoder.batches import TokenBatch
from .encoder.checkpoint import Checkpoint
from .encoder.hardware import (
    PRECISIONS,
    RUNS,
    auto_device,
    bf16_gain,
    cpu_flags,
    cpu_name,
    gpu_name,
    hardware,
    torch_has_cuda,
)
from .encoder.int8 import speed_of
from .encoder.pooling import storage_of
from .encoder.tokens import Tokens, tokenizer
from .extract.embedding_cache import open_cache
from .extract.extractor import Texts
from .store import text_keys

SECONDS = 1.0  # of encoding that a speed is measured on
TEXT_TOKENS = (12, 20, 28, 40, 64)  # lengths of the texts that stand for a usual data set
SAMPLED = 2000  # rows of a source that are tokenised to estimate it
PACKAGES = ("torch", "transformers", "openvino", "scikit-learn", "nncf", "ray")


@dataclass(frozen=True)
class Speed:
    """One engine in one precision on one device."""

    engine: str
    precision: str
    device: str
    tokens_per_second: float | None  # None: it does not run here, or not yet
    setup_seconds: float | None  # load, convert if that has not happened, compile
    chosen: bool = False  # what `auto` stands for
    note: str = ""


@dataclass(frozen=True)
class Job:
    """What extracting a source will take with what `auto` chooses."""

    source: str
    rows: int
    cached_share: float  # of the sampled rows, on disk already
    tokens: float  # to encode, estimated
    truncated_share: float  # of the sampled rows
    seconds: float
    disk_mb: float


@dataclass(frozen=True)
class Checkup:
    """Everything that `doctor` found out."""

    machine: dict[str, str]
    encoder: str
    speeds: tuple[Speed, ...]
    job: Job | None
    trouble: tuple[str, ...]  # what is in the way, and the way out

    def to_json(self) -> dict[str, Any]:
        """What `doctor --json` prints."""
        return asdict(self)


def checkup(spec: EncoderSpec, runtime: Runtime, cache: Path, source: SourceOptions | None = None) -> Checkup:
    """Look at the machine, measure `spec`'s encoder in every way that runs here, and estimate `source` if given.

    An encoder that cannot be had is among `trouble`, and nothing is measured then.
    Raises UserError if the source cannot be read.
    """
    if source is not None:
        source_files.locate(source.source)  # before seconds are spent
    trouble = [*gpu_trouble()]
    speeds: tuple[Speed, ...] = ()
    job = None
    try:
        checkpoint = locate(spec)
    except UserError as error:
        trouble.append(str(error))
    else:
        speeds = tuple(measured(checkpoint, spec, runtime, cache))
        if source is not None:
            job = estimate(checkpoint, spec, runtime, cache, source, speeds)
    return Checkup(machine_facts(), spec.name, speeds, job, tuple(trouble))


# ── the machine ─────────────────────────────────────────────────────────────────────────────────────────────────────


def machine_facts() -> dict[str, str]:
    """What there is, for people."""
    import psutil

    here, gain = hardware(), bf16_gain()
    memory = psutil.virtual_memory()
    facts = {
        "processor": f"{cpu_name()}, {here.cores} cores",
        "memory": f"{memory.total / 2**30:.0f} GiB, {memory.available / 2**30:.0f} free",
        "GPU": gpu_facts(),
        "python": platform.python_version(),
        "packages": ", ".join(f"{name} {installed_version(name) or 'not installed'}" for name in PACKAGES),
        "Hub": "switched off (HF_HUB_OFFLINE)" if hub.offline() else reachable(),
    }
    if gain is not None:
        facts["bfloat16"] = f"a matrix product runs at {gain:.2g} x float32's speed on the processor"
    return facts | {"int8": speed_of(cpu_flags())}


def gpu_facts() -> str:
    here = hardware()
    if here.cuda:
        return f"{gpu_name() or 'CUDA'}, capability {here.cuda[0]}.{here.cuda[1]}"
    return "Apple's" if here.mps else "none"


def gpu_trouble() -> Iterator[str]:
    """A GPU that is there and lies idle."""
    if hardware().cuda and not torch_has_cuda():
        yield (
            f"{gpu_name() or 'the GPU'} is there, but torch {installed_version('torch')} is built without CUDA: "
            "pip install torch --index-url https://download.pytorch.org/whl/cu130"
        )


def reachable() -> str:
    """Whether the Hub answers: one request, as little as an encoder's name costs."""
    started = time.perf_counter()
    try:
        hub.within(hub.TIMEOUT + 0.5, lambda: hub.ask("distilbert/distilbert-base-uncased", None))
    except hub.UnreachableError as error:
        return f"cannot be reached ({error}); the packaged encoder works without: --encoder minilm"
    except UserError as error:
        return str(error)
    return f"answers in {time.perf_counter() - started:.1f} s"


# ── speed ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def measured(checkpoint: Checkpoint, spec: EncoderSpec, runtime: Runtime, cache: Path) -> Iterator[Speed]:
    """Each engine and precision that there is for this machine's devices."""
    best = choose_backend(spec.engine, spec.precision, runtime.device)
    devices = dict.fromkeys(("cpu", best.device, auto_device(hardware())))
    test = SpeedTest(checkpoint, checkpoint.poolings(spec.pooling), runtime, cache)
    for engine, able in RUNS.items():
        for device in devices:
            for precision in (name for name in PRECISIONS if name in able.get(device.partition(":")[0], ())):
                chosen = (engine, precision, device) == (best.engine, best.precision, best.device)
                yield replace(test.speed(engine, precision, device), chosen=chosen)


@dataclass(frozen=True)
class SpeedTest:
    """One encoder, encoding the same texts in every way."""

    checkpoint: Checkpoint
    poolings: tuple[str, ...]
    runtime: Runtime
    cache: Path

    @cached_property
    def batches(self) -> list[TokenBatch]:
        return usual_batches(self.checkpoint)

    def speed(self, engine: str, precision: str, device: str) -> Speed:
        """Tokens a second, padding left out; what cannot run says why."""
        untried = Speed(engine, precision, device, tokens_per_second=None, setup_seconds=None)
        if precision == "int8" and calibration_of(self.checkpoint, self.poolings, self.cache) is None:
            calibrates = importlib.util.find_spec("nncf") is not None
            note = "calibrated at first use" if calibrates else install_command("int8")
            return replace(untried, note=note)
        runtime = replace(self.runtime, device=device)
        try:
            encoder = open_encoder(self.checkpoint, self.poolings, engine, precision, runtime, self.cache)
            rate = tokens_per_second(encoder, self.batches)
        except UserError as error:
            return replace(untried, note=str(error))
        return replace(untried, tokens_per_second=rate, setup_seconds=encoder.setup_seconds)


def usual_batches(checkpoint: Checkpoint) -> list[TokenBatch]:
    """Batches of texts of usual lengths, the ids of which mean nothing."""
    random = np.random.default_rng(0)
    lengths = np.minimum(random.choice(TEXT_TOKENS, 400), checkpoint.max_length)
    vocabulary = int(checkpoint.config.get("vocab_size", 1000))
    ids = [random.integers(0, vocabulary, length) for length in lengths]
    types = [np.zeros(length, np.int64) for length in lengths] if checkpoint.has_types else None
    return list(Tokens(ids, types, lengths, checkpoint.pad_id).batches())


def tokens_per_second(encoder: Encoder, batches: Sequence[TokenBatch]) -> float:
    """Of `batches`, again and again for about `SECONDS`; the first, which is slower, is not counted."""
    encoder.encode(batches[0])
    done, started = 0, time.perf_counter()
    while True:
        for batch, _ in encoder.encode_many(batches):
            done += int(batch.mask.sum())
            spent = time.perf_counter() - started
            if spent > SECONDS and done:
                return done / spent


# ── a job ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def estimate(
    checkpoint: Checkpoint,
    spec: EncoderSpec,
    runtime: Runtime,
    cache: Path,
    source: SourceOptions,
    speeds: Sequence[Speed],
) -> Job:
    """What extracting `source` takes, by a sample of its first rows.

    Raises UserError if it cannot be read or has no rows.
    """
    rows = 0
    some: list[tuple[str, ...]] = []
    for chunk in read_chunks(source):
        rows += len(chunk.texts)
        step = max(1, len(chunk.texts) * 4 // SAMPLED)
        some += chunk.texts[::step]
    if not some:
        raise UserError(f"{source.source}: no rows; check --rows and --drop-empty")
    some = some[:: max(1, len(some) // SAMPLED)]
    lengths = tokenizer(checkpoint, cache).lengths(some)
    cached = present(checkpoint, spec, runtime, cache, some)
    tokens = float(np.minimum(lengths, checkpoint.max_length)[~cached].sum()) * rows / len(some)
    best = next((row for row in speeds if row.chosen and row.tokens_per_second), None)
    setup = (best.setup_seconds or 0.0) if best and tokens else 0.0
    seconds = setup + (tokens / best.tokens_per_second if best and best.tokens_per_second else 0.0)
    half = [storage_of(name, spec.storage) == "float16" for name in checkpoint.poolings(spec.pooling)]
    width = checkpoint.dim * sum(2 if rounded else 4 for rounded in half)  # bytes a row
    return Job(
        source=source.source,
        rows=rows,
        cached_share=float(cached.mean()),
        tokens=tokens,
        truncated_share=float((lengths > checkpoint.max_length).mean()),
        seconds=seconds,
        disk_mb=rows * float((~cached).mean()) * (width + 28) / 1e6,
    )


def present(checkpoint: Checkpoint, spec: EncoderSpec, runtime: Runtime, cache: Path, texts: Texts) -> np.ndarray:
    """Which texts (n,) bool are on disk in every pooling asked for."""
    keys = text_keys(texts)
    return open_cache(checkpoint, spec, runtime, cache, keys).present(keys)
