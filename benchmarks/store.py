"""The store beside sqlite3 and diskcache: the same rows, the same batches, the same questions, in one run.

    python benchmarks/store.py                      # up to 1,000,000 rows of 384 numbers; minutes, about 8 GB of disk
    python benchmarks/store.py --rows 20000         # seconds

Each system keeps 16-byte keys, token counts and float32 vectors, and makes every batch of 4,096 rows durable before it
takes the next. Our rows are checked when they are read; the others' are not. Files are warm (in the page cache): the
first round of each measurement is not counted, and the medians of the others are shown. Resident memory is that of a
fresh process, before and after it has opened the store and looked up its keys.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from pipeline.store import Store, text_keys

RESULTS = Path(__file__).parent / "results"
DIM, WIDE, WIDE_ROWS, ASKED, BATCH, LIMIT = 384, 768, 16_000, 10_000, 4096, 512


class Ours:
    name = "this store"

    def __init__(self, folder: Path):
        self.store = Store(folder / "enc")

    def add(self, keys: np.ndarray, tokens: np.ndarray, vectors: np.ndarray) -> None:
        self.store.commit(keys, tokens, vectors, 1.0, LIMIT)

    def lookup(self, keys: np.ndarray) -> int:
        return int(self.store.find(keys, LIMIT).present.sum())

    def read(self, keys: np.ndarray) -> np.ndarray:
        return self.store.serve(keys, LIMIT).vectors

    def close(self) -> None:
        pass


class Sqlite:
    name = "sqlite3"

    def __init__(self, folder: Path):
        folder.mkdir(exist_ok=True)
        self.base = sqlite3.connect(folder / "rows.db")
        self.base.execute("PRAGMA journal_mode = WAL")
        self.base.execute("PRAGMA synchronous = FULL")
        self.base.execute("CREATE TABLE IF NOT EXISTS rows (key BLOB PRIMARY KEY, tokens INTEGER, vector BLOB)")

    def add(self, keys: np.ndarray, tokens: np.ndarray, vectors: np.ndarray) -> None:
        rows = zip(map(bytes, keys), tokens.tolist(), map(bytes, vectors), strict=True)
        with self.base:
            self.base.executemany("INSERT OR IGNORE INTO rows VALUES (?, ?, ?)", rows)

    def lookup(self, keys: np.ndarray) -> int:
        ask = self.base.execute
        return sum(ask("SELECT tokens FROM rows WHERE key = ?", (bytes(key),)).fetchone() is not None for key in keys)

    def read(self, keys: np.ndarray) -> np.ndarray:
        ask = self.base.execute
        found = [ask("SELECT vector FROM rows WHERE key = ?", (bytes(key),)).fetchone()[0] for key in keys]
        return np.frombuffer(b"".join(found), np.float32).reshape(len(keys), -1)

    def close(self) -> None:
        self.base.close()


class Diskcache:
    name = "diskcache"

    def __init__(self, folder: Path):
        from diskcache import Cache

        self.cache = Cache(str(folder), size_limit=1 << 40, eviction_policy="none", sqlite_synchronous=2)  # 2 = FULL

    def add(self, keys: np.ndarray, tokens: np.ndarray, vectors: np.ndarray) -> None:
        with self.cache.transact():
            for key, count, vector in zip(map(bytes, keys), tokens, vectors, strict=True):
                self.cache.set(key, count.tobytes() + vector.tobytes())

    def lookup(self, keys: np.ndarray) -> int:
        return sum(bytes(key) in self.cache for key in keys)

    def read(self, keys: np.ndarray) -> np.ndarray:
        found = [self.cache.get(bytes(key))[4:] for key in keys]
        return np.frombuffer(b"".join(found), np.float32).reshape(len(keys), -1)

    def close(self) -> None:
        self.cache.close()


SYSTEMS: dict[str, Callable[[Path], Any]] = {system.name: system for system in (Ours, Sqlite, Diskcache)}


def key_of(first: int, last: int) -> np.ndarray:
    return text_keys([(f"text {row}",) for row in range(first, last)])


def vectors_of(first: int, rows: int, dim: int) -> np.ndarray:
    return np.random.default_rng([first, dim]).standard_normal((rows, dim), np.float32)


def grow(system: Any, first: int, last: int, dim: int) -> float:
    """Seconds to add rows `first` to `last`, making them up not counted."""
    spent = 0.0
    for at in range(first, last, BATCH):
        rows = min(BATCH, last - at)
        batch = key_of(at, at + rows), np.full(rows, 20, np.uint32), vectors_of(at, rows, dim)
        began = time.perf_counter()
        system.add(*batch)
        spent += time.perf_counter() - began
    return spent


def resident() -> int:
    import psutil

    return int(psutil.Process().memory_info().rss)


def measure(name: str, folder: Path, rows: int, rounds: int) -> dict[str, float]:
    """In a fresh process: open and look up, read scattered rows, resident bytes."""
    asked = key_of(0, rows)[np.random.default_rng(0).permutation(rows)[:ASKED]]
    with tempfile.TemporaryDirectory() as empty:  # imports, and pages that belong to no store
        warm = SYSTEMS[name](Path(empty))
        warm.lookup(asked[:0])
        warm.close()
    before, lookups, reads = resident(), [], []
    for turn in range(rounds + 1):
        began = time.perf_counter()
        system = SYSTEMS[name](folder)
        found = system.lookup(asked)
        lookups.append(time.perf_counter() - began)
        if turn == 0:
            memory = resident() - before
        assert found == len(asked), f"{name} found {found} of {len(asked)}"
        began = time.perf_counter()
        vectors = system.read(asked)
        reads.append(time.perf_counter() - began)
        assert vectors.shape == (len(asked), DIM)
        system.close()
    return {
        "open_lookup_seconds": statistics.median(lookups[1:]),
        "read_scattered_seconds": statistics.median(reads[1:]),
        "resident_bytes": memory,
        "resident_bytes_a_row": memory / rows,
    }


def measure_wide(name: str, folder: Path, rounds: int) -> dict[str, float]:
    """In a fresh process: read 16,000 x 768 in the order of the split, which is not the order of the files."""
    system, seconds = SYSTEMS[name](folder), []
    asked = key_of(0, WIDE_ROWS)[np.random.default_rng(1).permutation(WIDE_ROWS)]
    for _ in range(rounds + 1):
        began = time.perf_counter()
        vectors = system.read(asked)
        seconds.append(time.perf_counter() - began)
        assert vectors.shape == (WIDE_ROWS, WIDE)
        del vectors
    system.close()
    return {"read_wide_seconds": statistics.median(seconds[1:]), "read_wide_best_seconds": min(seconds)}


def apart(function: Callable[..., Any], *arguments: object) -> Any:
    """Call in a process of its own, so that memory is counted from nothing."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def grow_and_measure(names: list[str], work: Path, sizes: list[int], rounds: int) -> Iterator[dict[str, Any]]:
    """Every system grows to a size; then all of them are measured, one right after the other."""
    for have, size in itertools.pairwise([0, *sizes]):
        spent = {}
        for name in names:
            system = SYSTEMS[name](work / name)
            spent[name] = grow(system, have, size, DIM)
            system.close()
        for name in names:
            used = sum(path.stat().st_size for path in (work / name).rglob("*") if path.is_file())
            point = {"system": name, "rows": size}
            point |= {"rows_added_a_second": (size - have) / spent[name], "disk_bytes_a_row": used / size}
            yield point | apart(measure, name, work / name, size, rounds)


def wide_reads(names: list[str], work: Path, rounds: int) -> dict[str, dict[str, float]]:
    for name in names:
        system = SYSTEMS[name](work / f"{name} wide")
        grow(system, 0, WIDE_ROWS, WIDE)
        system.close()
    return {name: apart(measure_wide, name, work / f"{name} wide", rounds) for name in names}


def installed(name: str, work: Path) -> bool:
    try:
        SYSTEMS[name](work / f"{name} empty").close()
    except ImportError as error:
        click.echo(f"{name} left out: {error}; pip install '.[bench]'", err=True)
        return False
    return True


def table(points: list[dict[str, Any]], wide: dict[str, dict[str, float]]) -> str:
    lines = [
        "| rows | system | added a second | open + look up 10,000 | read 10,000 scattered | bytes in memory a row |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {p['rows']:,} | {p['system']} | {p['rows_added_a_second']:,.0f} | {p['open_lookup_seconds']:.3f} s "
        f"| {p['read_scattered_seconds']:.3f} s | {p['resident_bytes_a_row']:.1f} |"
        for p in sorted(points, key=lambda p: p["rows"])
    ]
    lines += ["", "| read 16,000 x 768 | median | best |", "|---|---|---|"]
    lines += [
        f"| {name} | {w['read_wide_seconds']:.3f} s | {w['read_wide_best_seconds']:.3f} s |" for name, w in wide.items()
    ]
    return "\n".join(lines)


def chart(points: list[dict[str, Any]]) -> Any:
    import altair as alt

    shown = {
        "open_lookup_seconds": "open + look up 10,000 keys (s)",
        "read_scattered_seconds": "read 10,000 scattered rows (s)",
        "rows_added_a_second": "rows added a second",
    }
    long = [
        {"rows": p["rows"], "system": p["system"], "what": label, "value": p[field]}
        for p in points
        for field, label in shown.items()
    ]
    lines = (
        alt.Chart(alt.Data(values=long))
        .mark_line(point=True)
        .encode(
            x=alt.X("rows:Q", scale=alt.Scale(type="log"), title="rows of 384 numbers"),
            y=alt.Y("value:Q", scale=alt.Scale(type="log"), title=None),
            color=alt.Color("system:N", title=None, sort=list(SYSTEMS)),
        )
        .properties(width=220, height=200)
    )
    return lines.facet(alt.Facet("what:N", title=None, sort=list(shown.values())), columns=3).resolve_scale(
        y="independent"
    )


@click.command()
@click.option("--rows", default=1_000_000, show_default=True, help="Grow to so many rows.")
@click.option("--rounds", default=3, show_default=True, help="Measurements a point, after one that is not counted.")
@click.option("--system", "names", multiple=True, type=click.Choice(list(SYSTEMS)), help="Only this one.")
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS, show_default="benchmarks/results")
def main(rows: int, rounds: int, names: tuple[str, ...], out: Path) -> None:
    """Measure the store beside sqlite3 and diskcache."""
    sizes = [size for size in (10_000, 30_000, 100_000, 300_000) if size < rows] + [rows]
    with tempfile.TemporaryDirectory(prefix="probe-or-tune-") as folder:
        work = Path(folder)
        systems = [name for name in names or SYSTEMS if installed(name, work)]
        wide = wide_reads(systems, work, rounds)
        points = list(grow_and_measure(systems, work, sizes, rounds))
    click.echo(table(points, wide))
    out.mkdir(parents=True, exist_ok=True)
    facts = {"dim": DIM, "asked": ASKED, "batch": BATCH, "rounds": rounds, "python": sys.version.split()[0]}
    (out / "store.json").write_text(json.dumps({**facts, "growth": points, "wide": wide}, indent=1) + "\n")
    chart(points).save(str(out / "store.svg"))


if __name__ == "__main__":
    main()
