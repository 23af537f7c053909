"""About how long extraction and each kind of fit take on this machine, before they start.

A matrix product is timed where the encoder will run, and 256 texts are tokenised: under a second.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from . import Progress, log, tfidf
from .data import SourceOptions, count_rows, read_chunks
from .encoder import Runtime, choose_backend
from .encoder.checkpoint import Checkpoint, EncoderSpec, locate
from .encoder.converted import is_tried
from .encoder.hardware import auto_device, hardware
from .encoder.tokens import tokenizer
from .extract import Extracted, missing_rows
from .extract.anywhere import EncodingOptions, extract_on
from .finetune.rates import row_passes
from .finetune.training import epochs_of
from .task import Task
from .words import roughly

TRAIN_PASSES = 3  # forward, and about twice that backward
# Fitted to measured fits of MiniLM on two cores (emotion, banking77, ag_news); a GPU's share of its rate is a guess.
EFFICIENCY = {"cpu": 1.4, "cuda": 0.2}  # of the measured rate, encoding; OpenVINO lifts the first above 1
TRAIN_EFFICIENCY = {"cpu": 1.0, "cuda": 0.15}
STEP_SECONDS, STEP_COST = 0.03, 670  # of a training step whatever its rows, and multiply-adds for each number it moves
OPENING, CONVERTING = 1.5, (9.0, 6e-8)  # seconds; the second once a cache, and for each number of the encoder
LINEAR_COST = 5000  # multiply-adds for each row, column and class of logistic regression with its search of C


@dataclass(frozen=True)
class Job:
    """What an estimate goes by."""

    task: Task
    spec: EncoderSpec
    checkpoint: Any  # a Checkpoint, or a VectorFile: both know their `dim`; None where nobody reads an encoder
    rows: int  # of train
    tokens: float  # a text, on average, as fed
    rate: float  # float32 multiply-adds a second of this machine's processors, measured
    device: str  # where the encoder runs: cpu or cuda
    device_rate: float  # multiply-adds a second there; the same as `rate` on cpu
    variant: str = ""  # in which a contender is requested: `smote` of `lr+smote`

    @property
    def token_cost(self) -> float:
        return token_cost(self.checkpoint)

    @property
    def parameters(self) -> float:
        return parameters(self.checkpoint)


def parameters(checkpoint: Checkpoint) -> float:
    """About how many numbers an encoder has: its layers use each once a token; and the embeddings."""
    return float(token_cost(checkpoint) + checkpoint.config.get("vocab_size", 30_000) * checkpoint.dim)


def token_cost(checkpoint: Checkpoint) -> float:
    """Multiply-adds of one token through the encoder's layers."""
    c = checkpoint.config
    layers = c.get("num_hidden_layers") or c.get("n_layers") or 6
    inner = c.get("intermediate_size") or c.get("hidden_dim") or 4 * checkpoint.dim
    return layers * (4 * checkpoint.dim**2 + 2 * checkpoint.dim * inner)


def extract_announced(job: EncodingOptions, progress: Progress) -> list[Extracted]:
    """Encode a source with each encoder, here or on a cluster; says before it starts about how long that takes.

    Raises UserError where extraction does.
    """
    source, cluster = job.source, job.cluster
    unseen = cluster is not None and "://" in source.source  # only Ray can look into it
    total = None if unseen else announce_extraction(source, job.encoders[0], job.runtime, job.cache)
    return [extract_on(job, spec, progress, total) for spec in job.encoders]


def announce_extraction(source: SourceOptions, spec: EncoderSpec, runtime: Runtime, cache: Path) -> int:
    """Say how many rows will be encoded, and about how long that takes if none is there yet; returns how many."""
    rows, checkpoint = count_rows(source), locate(spec)
    some = next((chunk.texts[:256] for chunk in read_chunks(source)), [])
    if not some:
        return 0
    lengths = np.minimum(tokenizer(checkpoint, cache).lengths(some), checkpoint.max_length)
    device, rate = device_rate(runtime)
    seconds = rows * float(lengths.mean()) * token_cost(checkpoint) / (rate * EFFICIENCY[device])
    what = f"{rows:,} rows through {spec.name}, those that are not in the cache"
    seconds += setup_seconds(checkpoint, spec, runtime, cache)
    log.info("%s: %s; %s for all of them", source.source, what, roughly(seconds))
    return rows


def jobs(task: Task) -> list[Job]:
    """Measure what the estimates of each encoder need: 256 texts' lengths and the matrix-product rate. Under 1 s."""
    rate, (device, rate_there) = multiply_rate(), device_rate(task.runtime)
    return [job(task, spec, rate, device, rate_there) for spec in task.encoders]


def given_jobs(task: Task, reads_encoder: bool = True) -> list[Job]:
    """The same for each file of vectors, whose rows nothing has to encode; one job where nobody reads an encoder."""
    rate, rows, spec = multiply_rate(), len(task.dataset.train.texts), task.encoders[0]
    known: tuple[Any, ...] = task.vectors or (() if reads_encoder else (None,))
    return [Job(task, spec, file, rows, 0.0, rate, "cpu", rate) for file in known]


def job(task: Task, spec: EncoderSpec, rate: float, device: str, device_rate: float) -> Job:
    """The same for one of them."""
    checkpoint = locate(spec)
    train = task.dataset.train
    some = [train.texts[i] for i in np.linspace(0, len(train.texts) - 1, 256).astype(int)]
    lengths = np.minimum(tokenizer(checkpoint, task.cache).lengths(some), checkpoint.max_length)
    return Job(task, spec, checkpoint, len(train.texts), float(lengths.mean()), rate, device, device_rate)


def multiply_rate(size: int = 768) -> float:
    """Float32 multiply-adds a second that a matrix product of the encoder's size reaches here."""
    a = np.ones((size, size), np.float32)
    best = np.inf
    for _ in range(4):
        start = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - start)
    return size**3 / best


def device_rate(runtime: Runtime) -> tuple[str, float]:
    """Where the encoder will run, cpu or cuda, and the multiply-adds a second that are reached there."""
    device = runtime.device if runtime.device != "auto" else auto_device(hardware())
    if not device.startswith("cuda"):
        return "cpu", multiply_rate()
    import torch

    if not torch.cuda.is_available():  # whoever opens the encoder says so
        return "cpu", multiply_rate()
    size, best = 4096, float("inf")
    a = torch.ones(size, size, device=device, dtype=torch.bfloat16)
    for _ in range(4):
        torch.cuda.synchronize(device)
        start = time.perf_counter()
        a @ a
        torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start)
    return "cuda", size**3 / best


def extraction_seconds(job: Job) -> float:
    task = job.task
    tokens = job.tokens * missing_rows(task.dataset, job.spec, task.runtime, task.cache)
    setup = setup_seconds(job.checkpoint, job.spec, task.runtime, task.cache) if tokens else 0.0
    return tokens * job.token_cost / (job.device_rate * EFFICIENCY[job.device]) + setup


def setup_seconds(checkpoint: Checkpoint, spec: EncoderSpec, runtime: Runtime, cache: Path) -> float:
    """Opening an encoder, and converting it where that is to be done."""
    waits = to_convert(checkpoint, spec, runtime, cache)
    return OPENING + (CONVERTING[0] + CONVERTING[1] * parameters(checkpoint) if waits else 0)


def to_convert(checkpoint: Checkpoint, spec: EncoderSpec, runtime: Runtime, cache: Path) -> bool:
    """Whether OpenVINO runs the encoder, and `cache` has no conversion of it yet."""
    backend = choose_backend(spec.engine, spec.precision, runtime.device)
    return backend.engine == "openvino" and not is_tried(checkpoint, checkpoint.poolings(spec.pooling), cache)


def linear_seconds(job: Job) -> float:
    classes = len(job.task.dataset.class_names)
    return 0.5 + LINEAR_COST * job.rows * int(job.checkpoint.dim) * classes / job.rate


def resampled_seconds(job: Job) -> float:
    inner = 0 if job.spec.layers == ("last",) else len(locate(job.spec).auto_poolings)  # that auto chooses among
    return 3 + (3 + (inner if job.variant == "auto" else 0)) * linear_seconds(job)


def tuning_seconds(job: Job) -> float:
    """Training an encoder with every seed; only the first searches its learning rate."""
    settings, dataset, seeds = job.task.tuning, job.task.dataset, job.task.seeds
    epochs = epochs_of(settings, job.rows, len(dataset.class_names))
    settings = replace(settings, epochs=epochs)
    passes = row_passes(job.rows, settings) + (seeds - 1) * job.rows * epochs
    steps = passes / (settings.batch_size * settings.gradient_accumulation)
    shown = len(dataset.role("validation").texts) * epochs if "validation" in dataset.roles else 0
    judged = seeds * (shown + (len(dataset.test.texts) if "test" in dataset.roles else 0))
    token = job.token_cost / (job.device_rate * TRAIN_EFFICIENCY[job.device])
    share = trained_share(job)
    step = STEP_SECONDS + STEP_COST * (job.parameters if share == 1 else share * job.token_cost) / job.device_rate
    below = (1 - share) * sum(map(len, dataset.splits.values()))  # run once, then kept
    return step * steps + (share * (TRAIN_PASSES * passes + judged) + below) * job.tokens * token + 10


def trained_share(job: Job) -> float:
    """Share of the encoder's layers that are trained: N of `--unfreeze N` or `fine-tune+last-N`, else all (so LoRA)."""
    last = job.variant.partition("-")[2] or job.task.tuning.unfreeze
    layers = job.checkpoint.config.get("num_hidden_layers") or job.checkpoint.config.get("n_layers") or 6
    return 1.0 if last is None else min(1.0, int(last) / layers)


def head_seconds(job: Job) -> float:
    """A torch head on vectors."""
    return 5 + 1e-4 * job.rows


def tfidf_seconds(job: Job) -> float:
    """About how long TF-IDF takes."""
    data = job.task.dataset
    return tfidf.seconds(data.train.texts, len(data.class_names))
