"""What the store survives, counted: kills, flipped bytes, truncations, strangers' files, full disks, crowds.

    python benchmarks/store_faults.py               # about a minute

"Rows lost" are committed rows of undamaged shards that could not be served afterwards; "to encode again" are the rows
of damaged shards, which go to quarantine; a wrong vector is one served that differs from what was committed.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import click
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import test_sharing
import test_store
import test_store_crash
import test_upkeep

from pipeline import UserError
from pipeline.store import Store, text_keys
from pipeline.store.upkeep import prune

LIMIT, ROWS, SHARD = 128, 60, 20


@dataclass
class Tally:
    """One line of the table."""

    fault: str
    tried: int = 0
    survived: int = 0  # nothing lost, nothing wrong, and every row there again after encoding what was missing
    rows_lost: int = 0
    rows_to_encode_again: int = 0
    wrong_vectors: int = 0

    def count(self, wrong: int, lost: int, again: int, healed: bool = True) -> None:
        self.tried += 1
        self.survived += healed and not wrong and not lost
        self.wrong_vectors += wrong
        self.rows_lost += lost
        self.rows_to_encode_again += again


def damage(fault: str, change: Callable[[Path], object], times: int) -> Tally:
    """Damage one of three shards, serve everything, encode what is missing, serve everything again."""
    tally, texts = Tally(fault), test_store.words(0, ROWS)
    wanted, right = text_keys(texts), test_store.vectors_of(texts)
    for _ in range(times):
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "enc"
            for first in range(0, ROWS, SHARD):
                test_store.put(Store(folder), texts[first : first + SHARD])
            before = Store(folder)
            victim, order = before.present_shards[1], before.find(wanted, LIMIT).positions
            hurt = set(before.positions_of(victim).tolist())
            change(victim.path)
            store = Store(folder, dim=4)
            served = store.serve(wanted, LIMIT)
            wrong = int((served.vectors[served.present] != right[served.present]).any(axis=1).sum())
            lost = sum(
                not here and place not in hurt for here, place in zip(served.present, order.tolist(), strict=True)
            )
            again = store.missing(wanted, LIMIT)
            test_store.put(store, [texts[row] for row in again])
            healed = Store(folder, dim=4).serve(wanted, LIMIT)
            tally.count(wrong, lost, len(again), bool((healed.vectors == right).all()))
    return tally


def at_random(random: np.random.Generator) -> Iterator[tuple[str, Callable[[Path], object], int]]:
    def flip(path: Path) -> None:
        raw = bytearray(path.read_bytes())
        raw[random.integers(len(raw))] ^= 1 << int(random.integers(8))
        path.write_bytes(raw)

    yield "one bit flipped anywhere in a shard", flip, 400
    yield "shard cut short anywhere", lambda path: os.truncate(path, int(random.integers(path.stat().st_size))), 200
    yield "shard deleted by hand", lambda path: path.unlink(), 5
    yield "draft left behind", lambda path: (path.parent / ".draft-00").write_bytes(path.read_bytes()[:99]), 5
    yield "foreign files in the folder", lambda path: (path.parent / "notes.txt").write_text("?"), 5
    for name, change in test_store.FAULTS.items():
        yield f"shard: {name}", change, 5


def kills(random: np.random.Generator, times: int = 50) -> Tally:
    """Kill an extraction, again and again; then finish it."""
    tally, rows, attempt = Tally("extraction killed (SIGKILL) and resumed"), 4000, 0
    wanted = text_keys(test_store_crash.texts_of(rows))
    committed: dict[int, bytes] = {}
    with tempfile.TemporaryDirectory() as place:
        folder, journal = Path(place) / "enc", Path(place) / "journal"
        while tally.tried < times:
            attempt += 1
            journal.write_text("")
            arguments = (folder, rows, attempt, 0.002, journal)
            child = get_context("fork").Process(target=test_store_crash.extract, args=arguments)
            child.start()
            while child.is_alive() and not journal.stat().st_size:
                time.sleep(0.001)
            time.sleep(float(random.uniform(0, 0.05)))
            child.kill()
            child.join()
            served = Store(folder).serve(wanted, LIMIT)
            begun = len(journal.read_text().split())
            new = [row for row in np.flatnonzero(served.present).tolist() if row not in committed]
            lost = sum(not served.present[row] for row in committed)
            wrong = sum(
                bool(served.present[row]) and served.vectors[row].tobytes() != v for row, v in committed.items()
            )
            if child.exitcode == -signal.SIGKILL:
                tally.count(wrong, lost, begun - len(new), begun - len(new) <= test_store_crash.SHARD)
            committed |= {row: served.vectors[row].tobytes() for row in new}
        test_store_crash.extract(folder, rows, 0, 0.0)
        served = Store(folder).serve(wanted, LIMIT)
        assert served.present.all()
        assert (served.vectors[:, 0] == np.arange(rows)).all()
    return tally


def killed_prunes(random: np.random.Generator, times: int = 20) -> Tally:
    tally, wanted = Tally("prune killed (SIGKILL)"), text_keys(test_upkeep.texts_of(0, 320))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "enc"
        while tally.tried < times:
            for first in range(0, 300, 60):
                test_upkeep.put(folder, first, first + 80)
            child = get_context("fork").Process(target=prune, args=(folder,))
            child.start()
            child.join(float(random.uniform(0, 0.05)))
            child.kill()
            child.join()
            served = Store(folder).serve(wanted, LIMIT)
            wrong = int((served.vectors[served.present, 0] != np.flatnonzero(served.present)).sum())
            if child.exitcode:
                tally.count(wrong, int((~served.present).sum()), 0)
    return tally


def full_disks(times: int = 5) -> Tally:
    tally, wanted = Tally("disk full in the middle of a shard"), text_keys(test_store_crash.texts_of(3000))
    for _ in range(times):
        with tempfile.TemporaryDirectory() as place:
            said = test_store_crash.in_child(test_store_crash.FILLS_UP, Path(place) / "enc").stdout
            served = Store(Path(place) / "enc").serve(wanted, LIMIT)
            wrong = int((served.vectors[served.present, 0] != np.flatnonzero(served.present)).sum())
            tally.count(wrong, int((~served.present[:200]).sum()), 2800, "disk full" in said and said.count("\n") == 1)
    return tally


def crowds(times: int = 5) -> Tally:
    tally = Tally("eight processes on one cache")
    for _ in range(times):
        with tempfile.TemporaryDirectory() as place:
            encoded = test_sharing.eight(Path(place) / "enc", 0.0005)
            served = Store(Path(place) / "enc").serve(text_keys(test_sharing.TEXTS), LIMIT)
            wrong = int((served.vectors[:, 0] != np.arange(2000)).sum())
            twice = sum(map(len, encoded)) - 2000
            tally.count(wrong, int((~served.present).sum()), twice, twice <= 1000)
    return tally


def refusals() -> Tally:
    """Vectors that are not finite never reach the disk."""
    tally = Tally("NaN or infinity from the encoder")
    for bad in (np.nan, np.inf, -np.inf):
        with tempfile.TemporaryDirectory() as place:
            store = Store(Path(place) / "enc")
            try:
                store.commit(text_keys([("a",)]), np.array([3]), np.array([[1.0, bad]]), 0.0, LIMIT)
            except UserError:
                tally.count(0, 0, 1, store.rows == 0)
    return tally


@click.command()
@click.option("--seed", default=42, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path(__file__).parent / "results")
def main(seed: int, out: Path) -> None:
    """Count what the store survives."""
    logging.getLogger("pipeline").setLevel(logging.CRITICAL)
    random = np.random.default_rng(seed)
    tallies = [kills(random), killed_prunes(random), full_disks(), crowds(), refusals()]
    tallies += [damage(*fault) for fault in at_random(random)]
    total = Tally("all")
    click.echo("| fault | tried | survived | rows lost | wrong vectors | to encode again |\n|---|---|---|---|---|---|")
    for tally in tallies:
        for field in ("tried", "survived", "rows_lost", "wrong_vectors", "rows_to_encode_again"):
            setattr(total, field, getattr(total, field) + getattr(tally, field))
    for t in (*tallies, total):
        click.echo(
            f"| {t.fault} | {t.tried} | {t.survived} | {t.rows_lost} | {t.wrong_vectors} | {t.rows_to_encode_again} |"
        )
    out.mkdir(parents=True, exist_ok=True)
    (out / "store_faults.json").write_text(json.dumps([asdict(t) for t in (*tallies, total)], indent=1) + "\n")


if __name__ == "__main__":
    main()
