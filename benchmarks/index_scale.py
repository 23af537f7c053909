"""How far one machine's index goes: memory and look-up time with 10⁶, 10⁷ and 10⁸ keys, by the store's own code.

    python benchmarks/index_scale.py            # about two minutes and 6 GB; results in benchmarks/results/index.json

Keys are random 16-byte numbers, as hashes of texts are; each size is measured in a process of its own. "opened" is what
a command does that finds a filled cache (all keys at once); "grown" is a writer that adds a shard of 4,096 rows.
Seconds are of one processor (the work is of one thread), so that whatever else runs on the machine counts little.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import resource
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pipeline.store.index import Index

RESULTS = Path(__file__).parent / "results" / "index.json"
SIZES = (1_000_000, 10_000_000, 100_000_000)
SHARD, ASKED, ROUNDS = 4096, 10_000, 5
PIECE = 1_000_000


def resident() -> int:
    """Bytes that this process holds now."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def random_keys(random: np.random.Generator, rows: int) -> np.ndarray:
    return random.integers(0, 2**64, (rows, 2), np.uint64)


def middle(times: list[float]) -> float:
    return statistics.median(times)


def timed(call: Any) -> float:
    started = time.process_time()
    call()
    return time.process_time() - started


def measure(rows: int, results: Any) -> None:
    """One size, in this process; puts its figures into `results`."""
    random, index = np.random.default_rng(rows), Index()
    index.find(random_keys(random, 10))  # what numpy itself takes is not counted
    before = resident()
    started = time.process_time()
    place = index.reserve(rows)
    for first in range(place, rows, PIECE):
        here = slice(first, min(first + PIECE, rows))
        index.keys[here] = random_keys(random, here.stop - here.start)
        index.tokens[here] = 20
    filled = time.process_time()
    index.insert(np.arange(rows, dtype=np.uint32))
    opened = time.process_time()
    held = resident() - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    present = index.keys[random.integers(0, rows, ASKED)]
    found = index.find(present)
    assert (index.keys[found] == present).all(), "a key that is there is found"
    absent = random_keys(random, ASKED)
    assert (index.find(absent) == -1).all(), "a key that is not there is not"
    figures = {
        "rows": rows,
        "held_bytes_a_row": held / rows,
        "peak_bytes_a_row": peak / rows,
        "fill_seconds": filled - started,
        "sort_seconds": opened - filled,
        "find_present_seconds": middle([timed(lambda: index.find(present)) for _ in range(ROUNDS)]),
        "find_absent_seconds": middle([timed(lambda: index.find(absent)) for _ in range(ROUNDS)]),
    }
    grown = []
    for keys in random_keys(random, 10 * SHARD).reshape(10, SHARD, 2):
        started = time.process_time()
        index.add(keys, np.full(SHARD, 20, np.uint32))
        grown.append(time.process_time() - started)
    figures |= {"first_shard_added_seconds": grown[0], "later_shard_added_seconds": middle(grown[1:])}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    results.put(figures | {"peak_growing_bytes_a_row": peak / rows, "runs": len(index.runs)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    spawn, table = multiprocessing.get_context("spawn"), []
    for rows in options.sizes:
        results = spawn.Queue()
        process = spawn.Process(target=measure, args=(rows, results))
        process.start()
        table.append(results.get(timeout=1800))
        process.join()
        print(json.dumps(table[-1]))
    told = {"asked": ASKED, "shard_rows": SHARD, "python": platform.python_version(), "cores": os.cpu_count()}
    options.out.write_text(json.dumps(told | {"sizes": table}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
