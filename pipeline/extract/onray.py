"""Stage one on a Ray cluster: a folder of Parquet streams through actors that each hold the encoder.

An actor runs the very extraction that one machine runs (`Extractor`), a block of rows at a time, and commits its shards
to the same cache: a folder that every node sees, or a URL. Precision is settled once, where the encoder will run, and
is the same on every node. Ray starts a killed actor again and gives it the block it was at; what it had committed is
not encoded a second time.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from .. import Progress, UserError, log, need, silent
from ..data import SourceOptions
from ..data.dataset import is_empty
from ..data.files import Block
from ..data.naming import text_columns
from ..data.rows import choose_columns, texts_of
from ..data.sources import File
from ..data.sources import locate as locate_source
from ..encoder import Backend, EncoderSpec, Runtime, Variant, choose_backend
from ..encoder.checkpoint import Checkpoint, locate
from ..encoder.declared import note_pooling
from ..encoder.hardware import hardware
from ..encoder.int8 import calibrated
from ..files import expanded
from ..memory import peak_rss_mb
from ..store.remote import bring, cache_folder, send, url_of
from ..urls import checked_url, is_url
from ..words import error_line
from . import Extracted
from .counting import Extraction
from .embedding_cache import INT8, models_below, open_variant
from .extractor import WINDOW, Extractor

SUFFIXES = (".parquet", ".pq")
SMALLEST, LARGEST = 1024, 4 * WINDOW  # rows of a block
BLOCKS = 16  # for each worker, where there are rows enough: the last ones shall end at about the same time
ADDED = tuple(field.name for field in fields(Extraction) if field.name not in ("seconds", "setup_seconds"))
SHARE = 0.5  # of a processor is what an actor asks for, for each of its threads: the rest is for reading


@dataclass(frozen=True)
class Cluster:
    """Where actors run, and how many. Only the clock depends on it."""

    address: str | None = None  # of a running cluster; None: one of its own, on this machine
    workers: int | None = None  # None: a worker for each GPU, or for each `threads` processors
    actor: type[Worker] | None = None  # what each of them is; None: `Worker`


@dataclass(frozen=True)
class Job:
    """What every actor gets; the same for all."""

    source: str  # for messages
    columns: tuple[str, ...]
    drop_empty: bool
    spec: EncoderSpec  # engine and precision are settled
    runtime: Runtime  # device and threads are settled
    checkpoint: str  # digest of the bytes that every node must find under the encoder's name
    cache: str  # a folder that every node sees, or a URL


class Worker:
    """An actor: holds the encoder and an open store from its first block on."""

    def __init__(self, job: Job):
        self.job = job
        self.checkpoint: Checkpoint | None = None
        self.former: Extractor | None = None

    def open(self) -> None:
        """Find the encoder and the cache on this node: by the first block, since Ray hides what a constructor raises.

        Raises UserError if the encoder is not the one that the driver found.
        """
        self.checkpoint, self.cache = locate(self.job.spec), cache_folder(self.job.cache)
        if self.checkpoint.digest != self.job.checkpoint:
            raise UserError(
                f"{self.job.spec.name} is not the same on every machine ({socket.gethostname()} has another); "
                "give each the same files, or pass --revision"
            )

    def __call__(self, table: Any) -> dict[str, list[Any]]:
        """Extract the texts of an Arrow table; one row that says what was done.

        A UserError comes back in the row: on its way through Ray Data an exception loses its cause.
        """
        began, done, embedding_cache, error = time.time(), Extraction(), None, ""
        try:
            done, embedding_cache = self.extract(table)
        except UserError as caught:
            error = str(caught)
        record = {field.name: [getattr(done, field.name)] for field in fields(Extraction)}
        return record | {
            "error": [error],
            "worker": [f"{socket.gethostname()}:{os.getpid()}"],
            "began": [began],
            "ended": [time.time()],
            "peak_rss_mb": [peak_rss_mb()],
            "engine": [(embedding_cache and embedding_cache.variant.engine) or ""],
            "cls_only": [bool(embedding_cache and embedding_cache.variant.cls_only)],
            "calibration": [(embedding_cache and embedding_cache.variant.calibration) or ""],
        }

    def extract(self, table: Any) -> tuple[Extraction, Any]:
        """What was done with the table's texts, and the cache that they stand in (None: there were none).

        Raises UserError for an encoder that differs from the driver's, and where the extraction does.
        """
        if self.checkpoint is None:
            self.open()
        columns = {name: table.column(name).to_pylist() for name in self.job.columns}
        texts = texts_of(Block(columns, None), self.job.columns, lambda row: self.job.source)
        if self.job.drop_empty:
            texts = [text for text in texts if not is_empty(text)]
        if not texts:
            return Extraction(), None
        extractor = self.extractor()
        if self.former is not None:
            extractor.encoder, extractor.embedding_cache = self.former.encoder, self.former.embedding_cache
        done, self.former = extractor.run([texts]), extractor
        return done, extractor.embedding_cache

    def extractor(self) -> Extractor:
        assert self.checkpoint is not None, "opened by the first block"
        return Extractor(self.checkpoint, self.job.spec, self.job.runtime, self.cache)


def extract_on_ray(
    source: SourceOptions,
    spec: EncoderSpec,
    runtime: Runtime,
    cache: Path,
    cluster: Cluster,
    progress: Progress = silent,
) -> Extracted:
    """`extract_source` by the actors of a cluster. A text that repeats counts as new in each block that holds it.

    Raises UserError if Ray is not installed or not reached, if the source is not Parquet, or what an actor raises; what
    was committed before stays.
    """
    started, done = time.perf_counter(), Extraction()
    last: dict[str, Any] | None = None
    checkpoint = locate(spec)
    spec = settled_spec(checkpoint, spec)
    with connected(cluster) as ray:
        rows, columns = reader(ray, source)
        total = rows.count()
        workers, runtime = size(ray, cluster, runtime)
        backend = settled(ray, here(spec), runtime, cache)
        job = Job(
            source=source.source,
            columns=columns,
            drop_empty=source.drop_empty,
            spec=replace(here(spec), engine=backend.engine, precision=backend.precision),
            runtime=replace(runtime, device=backend.device),
            checkpoint=checkpoint.digest,
            cache=place_of(cache),
        )
        done.setup_seconds = time.perf_counter() - started
        for record in stream(ray, rows, total, job, workers, cluster.actor or Worker):
            if record["error"]:
                raise UserError(record["error"])
            for field in ADDED:
                setattr(done, field, getattr(done, field) + record[field])
            last = record if record["rows"] else last
            progress("extract", done.rows, total)
    if last is None or not done.rows:
        raise UserError(f"{source.source}: no rows; check the files and --drop-empty")
    done.seconds = time.perf_counter() - started - done.setup_seconds
    calibration, backend = last["calibration"] or None, replace(backend, engine=last["engine"])
    variant = Variant(backend.engine, backend.precision, calibration, spec.storage, last["cls_only"])
    embedding_cache = open_variant(checkpoint, spec.pooling, backend, variant, cache)
    if not all(store.rows for store in embedding_cache.stores.values()):
        raise UserError(f"{cache}: what the workers wrote is not here; pass a folder that every node sees, or a URL")
    return Extracted(spec, checkpoint, embedding_cache, done)


def here(spec: EncoderSpec) -> EncoderSpec:
    """The same encoder by its whole path, if it is a folder: actors work elsewhere."""
    folder = expanded(spec.name)
    return replace(spec, name=str(folder.absolute())) if folder.exists() else spec


@contextmanager
def connected(cluster: Cluster) -> Iterator[Any]:
    """Ray, connected to a running cluster or to one of its own; nothing is reported over the network.

    Raises UserError if Ray is not installed or the address does not answer; an actor's UserError comes out as itself.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # read when it is imported
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what goes wrong comes as an exception
    ray = need("ray", "ray")
    need("ray.data", "ray")
    started = not ray.is_initialized()
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    here: dict[str, Any] = {"include_dashboard": False, "num_cpus": max(2, hardware().cores)}  # one of them reads
    try:
        if started:
            ray.init(cluster.address or "local", **quiet, **({} if cluster.address else here))
    except Exception as error:  # it raises that very class where a node does not start in time
        where = cluster.address or "this machine"
        raise UserError(f"--runner ray: no cluster at {where} ({error_line(error)}); check --address") from error
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_no_progress_timeout_s = -1  # a block of long texts may take an hour on one processor
    with redirect_stdout(sys.stderr):  # Ray prints who died where the caller's answer belongs
        try:
            yield ray
        except ray.exceptions.RayError as error:
            if cause := user_error(error):
                raise UserError(str(cause)) from error
            raise UserError(
                f"--runner ray: {error_line(error)}; what was committed stays, the same command goes on from there"
            ) from error
        finally:
            if started:
                ray.shutdown()


def user_error(error: BaseException | None) -> UserError | None:
    """The UserError that an actor raised, somewhere in what Ray made of it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, UserError):
            return UserError(str(getattr(error, "cause", error)))
        error = getattr(error, "cause", None) or error.__cause__
    return None


def reader(ray: Any, source: SourceOptions) -> tuple[Any, tuple[str, ...]]:
    """A Ray data set of the source's texts, and their columns. Raises UserError for what is not a folder of Parquet."""
    if source.limit or source.rows:
        raise UserError("--runner ray reads whole folders; leave out --limit and --rows")
    if is_url(source.source):
        checked_url(source.source, "SOURCE")
        try:
            names = ray.data.read_parquet(source.source).schema().names
        except (OSError, ValueError, AttributeError) as error:  # what Ray raises where nothing is there
            raise UserError(f"{source.source}: Ray cannot read it ({error_line(error)}); check the URL") from error
        columns, paths = text_columns(names, source.text, source.source), [source.source]
    else:
        parts = [part for several in locate_source(source.source).splits.values() for part in several]
        other = [str(part) for part in parts if not (isinstance(part, File) and part.path.suffix.lower() in SUFFIXES)]
        if other:
            raise UserError(f"{other[0]}: --runner ray reads Parquet; write it with to_parquet, or leave out --runner")
        columns = choose_columns(parts[0], source, need_label=False).texts
        paths = [str(part.path.absolute()) for part in parts if isinstance(part, File)]
    return ray.data.read_parquet(paths, columns=list(columns)), columns


def size(ray: Any, cluster: Cluster, runtime: Runtime) -> tuple[int, Runtime]:
    """How many workers, and the effort of each; one processor stays free for reading, or they would wait for ever.

    Raises UserError if there is nothing to run them on.
    """
    in_all = ray.cluster_resources()
    gpus, cores = int(in_all.get("GPU", 0)), int(in_all.get("CPU", 0))
    device = runtime.device if runtime.device != "auto" else ("cuda" if gpus else "cpu")
    if device.startswith("cuda"):
        if not gpus:
            raise UserError(f"--device {device}: no GPU in the cluster ({cores} processors); pass --device cpu")
        wanted, runtime = cluster.workers or gpus, replace(runtime, device="cuda")
    else:
        threads = runtime.threads or 1
        wanted, runtime = cluster.workers or max(1, cores // threads), replace(runtime, device=device, threads=threads)
    each = resources(runtime)["num_cpus"]
    most = int((cores - 1) / each)
    if most < 1 or (cluster.workers or 1) > most:
        raise UserError(
            f"--workers {wanted}: each asks for {each:g} of {cores} processors and reading for one, so {most} fit; "
            "pass fewer --workers or --threads"
        )
    return min(wanted, most), runtime


def resources(runtime: Runtime) -> dict[str, float]:
    """What an actor asks for. Less than the processors it uses: what it does not ask for is left for reading, without
    which it would wait for ever."""
    return (
        {"num_gpus": 1, "num_cpus": SHARE} if runtime.device == "cuda" else {"num_cpus": SHARE * (runtime.threads or 1)}
    )


def settled_spec(checkpoint: Checkpoint, spec: EncoderSpec) -> EncoderSpec:
    """What the driver read of the checkpoint's declarations, said aloud: every actor shall read its texts alike."""
    note_pooling(checkpoint.declared, spec.pooling, spec.name)
    prompt = f"={checkpoint.prompt}" if checkpoint.prompt else "none"
    pooling = checkpoint.resolved(spec.pooling)
    return replace(spec, pooling=pooling, prompt=prompt, max_length=checkpoint.max_length)


def settled(ray: Any, spec: EncoderSpec, runtime: Runtime, cache: Path) -> Backend:
    """Engine and precision for all, asked once where an actor would run; int8 is calibrated there if it never was."""
    settler = ray.remote(**resources(runtime))(settle)
    backend: Backend = ray.get(settler.remote(spec, runtime, place_of(cache)))
    log.info("encoding with %s in %s on %s: %s", backend.engine, backend.precision, backend.device, backend.reason)
    return backend


def settle(spec: EncoderSpec, runtime: Runtime, place: str) -> Backend:
    """On a node of the cluster: what `auto` means there."""
    backend = choose_backend(spec.engine, spec.precision, runtime.device)
    if backend.precision == "int8":
        cache, checkpoint = cache_folder(place), locate(spec)
        bring(cache, models_below(checkpoint), INT8)
        calibrated(checkpoint, checkpoint.poolings(spec.pooling), cache)
        send(cache, models_below(checkpoint), INT8)
    return backend


def place_of(cache: Path) -> str:
    """The cache as every node finds it."""
    return url_of(cache) or str(Path(cache).absolute())


def stream(ray: Any, rows: Any, total: int, job: Job, workers: int, worker: type[Worker]) -> Iterator[dict[str, Any]]:
    """Run the job; what the actors told of each block, as the blocks are done."""
    block = min(LARGEST, max(SMALLEST, total // (workers * BLOCKS)))
    blocks = rows.repartition(target_num_rows_per_block=block)  # a small file would be one block, for one actor
    done = blocks.map_batches(
        worker,
        fn_constructor_args=(job,),
        batch_size=None,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=workers),
        **resources(job.runtime),
    )
    yield from done.iter_rows()
