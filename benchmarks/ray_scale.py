"""Extraction on Ray: texts a second with one and two workers of one thread, and what a kill costs.

    python benchmarks/ray_scale.py FOLDER                # of Parquet; minutes; keeps results/ray.json
    python benchmarks/ray_scale.py FOLDER --rounds 0     # the kills alone
    python benchmarks/ray_scale.py FOLDER --no-kills     # the speed alone

Each run is a process and a cluster of its own, and runs alternate (one worker, two workers, one worker, …). Every batch
that an actor encodes is written down with its time, so that "steady" counts from the moment when all workers have begun
until the first of them has nothing left: opening encoders and waiting for the last block are left out. Beside it stand
the texts that a worker encodes in a second of processor time, which other programs on the machine hardly change.
Kills: SIGKILL to one actor (the run goes on, Ray starts another) or to the driver (the command is given again), in the
middle.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pipeline.data import SourceOptions, read_chunks
from pipeline.encoder import EncoderSpec, Runtime
from pipeline.extract import Extractor, distinct_keys
from pipeline.extract.onray import Cluster, Worker, extract_on_ray
from pipeline.store import Store, text_keys

HERE = Path(__file__).resolve()
RESULTS = HERE.parent / "results" / "ray.json"
LOG = "PROBE_OR_TUNE_RAY_LOG"  # where actors write down what they encode


class LoggedWorker(Worker):
    """Writes a line for each batch that has been encoded: when, who, how many, and processor seconds until then."""

    def extractor(self) -> Extractor:
        extractor, logged = super().extractor(), 0

        def log_batch(stage: str, done: float, total: float | None) -> None:
            nonlocal logged
            rows, logged = extractor.done.encoded - logged, extractor.done.encoded
            if rows:
                line = f"{time.time()} {os.getpid()} {rows} {time.process_time()}\n".encode()
                handle = os.open(os.environ[LOG], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
                os.write(handle, line)
                os.close(handle)

        extractor.progress = log_batch
        return extractor


def extract(folder: str, encoder: str, cache: Path, workers: int) -> dict[str, Any]:
    """One extraction, in this process."""
    spec, runtime = EncoderSpec(encoder, precision="fp32"), Runtime(device="cpu", threads=1)
    source = SourceOptions(folder)
    told = extract_on_ray(source, spec, runtime, cache, Cluster(workers=workers, actor=LoggedWorker))
    return told.to_json()


def started(folder: str, encoder: str, cache: Path, workers: int, log: Path) -> subprocess.Popen[str]:
    command = [sys.executable, str(HERE), folder, "--encoder", encoder, "--one", str(cache), "--workers", str(workers)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, LOG: str(log)})


def finished(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, _ = process.communicate(timeout=1800)
    assert process.returncode == 0, "the run failed"
    told: dict[str, Any] = json.loads(out)
    return told


def batches(log: Path) -> np.ndarray:
    """(n, 4): time, process, rows, processor seconds of the process until then."""
    return np.loadtxt(log, ndmin=2) if log.exists() and log.stat().st_size else np.empty((0, 4))


def ended(processes: set[int], patience: float = 120) -> None:
    """Wait for the actors of a killed driver: they notice after some seconds, and work until then."""
    _, alive = psutil.wait_procs([psutil.Process(p) for p in processes if psutil.pid_exists(p)], timeout=patience)
    assert all(p.status() == psutil.STATUS_ZOMBIE for p in alive), "actors outlive their driver"


def steady(lines: np.ndarray) -> float:
    """Texts a second between the first batch of the last worker to begin and the last batch of the first to end."""
    each = [lines[lines[:, 1] == worker] for worker in np.unique(lines[:, 1])]
    low, high = max(own[0, 0] for own in each), min(own[-1, 0] for own in each)
    inside = lines[(lines[:, 0] > low) & (lines[:, 0] <= high)]
    return float(inside[:, 2].sum() / (high - low))


def per_processor_second(lines: np.ndarray) -> float:
    """Texts in a second of processor time, the mean of the workers."""
    each = [lines[lines[:, 1] == worker] for worker in np.unique(lines[:, 1])]
    return float(np.mean([own[1:, 2].sum() / (own[-1, 3] - own[0, 3]) for own in each]))


def longest_pause(lines: np.ndarray) -> float:
    """The longest time, in seconds, that a worker was without a finished batch: it would show one that starves."""
    return float(max(b - a for own in np.unique(lines[:, 1]) for a, b in pairwise(lines[lines[:, 1] == own][:, 0])))


def speed(folder: str, encoder: str, home: Path, workers: int) -> dict[str, Any]:
    log, cache = home / "log", home / "cache"
    told = finished(started(folder, encoder, cache, workers, log))
    lines = batches(log)
    assert len(np.unique(lines[:, 1])) == workers, "a worker had nothing to do"
    return {
        "workers": workers,
        "steady_texts_per_second": steady(lines),
        "texts_per_processor_second": per_processor_second(lines),
        "encoded": told["encoded"],
        "seconds": told["seconds"],
        "setup_seconds": told["setup_seconds"],
        "longest_pause": longest_pause(lines),
    }


def stores(cache: Path) -> list[Store]:
    return [Store(folder) for folder in {file.parent for file in cache.glob("*/*.safetensors")}]


def kill(victim: str, folder: str, encoder: str, home: Path, whole: np.ndarray) -> dict[str, Any]:
    """Kill in the middle, and count: committed rows that are gone, and texts that were encoded a second time."""
    log, cache = home / "log", home / "cache"
    driver = started(folder, encoder, cache, 2, log)
    while batches(log)[:, 2].sum() < 0.4 * len(whole):
        assert driver.poll() is None, "the run ended before the kill"
        time.sleep(0.05)
    if victim == "driver":
        driver.send_signal(signal.SIGKILL)
        driver.communicate()
        ended({int(process) for process in batches(log)[:, 1]})
    else:
        os.kill(int(batches(log)[-1, 1]), signal.SIGKILL)
    committed = {file.name for file in cache.glob("*/*.safetensors")}
    if victim == "driver":
        finished(started(folder, encoder, cache, 2, log))
    else:
        finished(driver)
    (store,) = stores(cache)
    again = int(batches(log)[:, 2].sum()) - len(whole)
    there = store.serve(whole, 512).present
    return {
        "killed": victim,
        "rows": len(whole),
        "committed_shards_gone": len(committed - {file.name for file in cache.glob("*/*.safetensors")}),
        "rows_lost": int((~there).sum()),
        "rows_encoded_again": again,
        "rows_standing_twice": store.rows - len(whole),
    }


@click.command()
@click.argument("folder")
@click.option("--encoder", default="minilm")
@click.option("--rounds", default=2)
@click.option("--kills/--no-kills", default=True)
@click.option("--one", type=click.Path(path_type=Path), hidden=True)
@click.option("--workers", default=1, hidden=True)
def main(folder: str, encoder: str, rounds: int, kills: bool, one: Path | None, workers: int) -> None:
    if one is not None:
        click.echo(json.dumps(extract(folder, encoder, one, workers)))
        return
    told = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if rounds:
        runs = []
        for _ in range(rounds):
            for count in (1, 2):
                with tempfile.TemporaryDirectory() as home:
                    runs.append(speed(folder, encoder, Path(home), count))
                    click.echo(json.dumps(runs[-1]))
        median = {
            count: float(np.median([run["steady_texts_per_second"] for run in runs if run["workers"] == count]))
            for count in (1, 2)
        }
        told |= {"runs": runs, "median": median, "gain": median[2] / median[1]}
        told |= {"encoder": encoder, "cores": os.cpu_count(), "python": platform.python_version()}
        RESULTS.write_text(json.dumps(told, indent=1) + "\n", "utf-8")
        click.echo(f"{median[1]:,.0f} and {median[2]:,.0f} texts/s: {median[2] / median[1]:.2f} times")
    if kills:
        chunks = read_chunks(SourceOptions(folder))
        whole = distinct_keys([text_keys(chunk.texts) for chunk in chunks])
        told["kills"] = []
        for victim in ("actor", "driver"):
            with tempfile.TemporaryDirectory() as home:
                told["kills"].append(kill(victim, folder, encoder, Path(home), whole))
                click.echo(json.dumps(told["kills"][-1]))
            RESULTS.write_text(json.dumps(told, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
