"""Many processes, one store: every vector right, hardly any work done twice."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
import pytest

from pipeline.store import Store, Writer, sharing, text_keys
from pipeline.store.sharing import Claim, blocks_of, share

LIMIT = 128
TEXTS = [(f"text {row}",) for row in range(2000)]


@pytest.fixture(autouse=True)
def no_sync(monkeypatch):
    """What was written outlives its process without being synced (not its machine, but that one is not killed here)."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def work(folder: Path, rows: int, pause: float, seed: int | None = None, die: int = 0) -> list[int]:
    """Extract the first `rows` texts with an encoder whose vector is [number of the text, -1]; the rows encoded here.

    `die`: leave without a word after so many blocks.
    """
    store, whole, encoded = Store(folder), text_keys(TEXTS[:rows]), []
    with Writer(store, LIMIT, rows=200, seconds=0.5) as writer:
        for number, some in enumerate(share(writer, whole, blocks_of(np.arange(rows), 50), seed=seed)):
            if die and number == die:
                os._exit(9)
            time.sleep(pause * len(some))
            vectors = np.stack([some, np.full(len(some), -1)], axis=1).astype(np.float32)
            writer.add(whole[some], np.full(len(some), 5), vectors, pause * len(some))
            encoded += some.tolist()
    assert not store.missing(whole, LIMIT).size
    return encoded


def worker(folder: Path, pause: float, results: multiprocessing.Queue) -> None:
    results.put(work(folder, len(TEXTS), pause))


def eight(folder: Path, pause: float) -> list[list[int]]:
    fork = multiprocessing.get_context("fork")
    results = fork.Queue()
    workers = [fork.Process(target=worker, args=(folder, pause, results)) for _ in range(8)]
    for process in workers:
        process.start()
    encoded = [results.get(timeout=60) for _ in workers]
    for process in workers:
        process.join(10)
    assert [process.exitcode for process in workers] == [0] * 8
    return encoded


@pytest.mark.skipif(os.name != "posix", reason="forks")
@pytest.mark.parametrize("locks", [True, False], ids=["locks", "no locks here"])
def test_eight_processes_do_little_more_than_the_work_of_one(tmp_path, monkeypatch, locks):
    if not locks:
        monkeypatch.setattr(sharing, "fcntl", None)
    encoded = eight(tmp_path / "enc", 0.0005)
    done = sum(map(len, encoded))
    assert set().union(*encoded) == set(range(2000))
    assert done <= 1.5 * 2000
    store = Store(tmp_path / "enc")
    rows = store.serve(text_keys(TEXTS), LIMIT)
    assert store.rows == done
    assert rows.present.all()
    assert (rows.vectors[:, 0] == np.arange(2000)).all()
    assert not [name for name in os.listdir(tmp_path / "enc") if not name.endswith(".safetensors")]  # no claims left


def test_alone_everything_is_encoded_once_from_a_place_of_its_own(tmp_path):
    first = work(tmp_path / "a", 500, 0.0, seed=1)
    other = work(tmp_path / "b", 500, 0.0, seed=2)
    assert sorted(first) == sorted(other) == list(range(500))
    assert first[0] != other[0]
    assert first == [*range(first[0], 500), *range(first[0])]  # neighbours stay together
    assert work(tmp_path / "a", 500, 0.0) == []
    assert sorted(work(tmp_path / "a", 520, 0.0)) == list(range(500, 520))


def test_no_blocks_no_work(tmp_path):
    assert work(tmp_path / "enc", 0, 0.0) == []
    assert blocks_of(np.arange(5), 2)[2].tolist() == [4]


@pytest.mark.skipif(os.name != "posix", reason="forks")
def test_a_killed_process_holds_nothing_up(tmp_path, monkeypatch):
    child = multiprocessing.get_context("fork").Process(target=work, args=(tmp_path, 500, 0.0, 1, 6))
    child.start()
    child.join(30)
    assert child.exitcode == 9
    left = [name for name in os.listdir(tmp_path) if name.startswith(".claim-")]
    assert len(left) == 3  # blocks 5, 6 and 7 of its order: begun, not committed
    monkeypatch.setattr(sharing.Waiting, "pause", lambda self, rows: pytest.fail("it waits for a dead process"))
    assert len(work(tmp_path, 500, 0.0)) == 300


def test_a_claim_is_held_by_one_at_a_time(tmp_path):
    block = text_keys(TEXTS[:5])
    first = Claim.take(tmp_path, block, LIMIT)
    assert Claim.take(tmp_path, block, LIMIT) is None
    other = Claim.take(tmp_path, block, 512)
    assert first is not None
    assert other is not None
    first.release()
    again = Claim.take(tmp_path, block, LIMIT)
    assert again is not None
    again.release()
    other.release()
    assert os.listdir(tmp_path) == []


def test_a_hung_process_is_waited_for_only_so_long(tmp_path):
    blocks, keys = blocks_of(np.arange(20), 10), text_keys(TEXTS[:20])
    hung = Claim.take(tmp_path, keys[blocks[1]], LIMIT)
    assert hung is not None
    store, steps = Store(tmp_path), []
    writer = Writer(store, LIMIT)

    def flush():
        steps.append("flush")
        writer.flush()

    for some in share(writer, keys, blocks, flush, patience=0.2):
        steps += some.tolist()
        writer.add(keys[some], np.full(len(some), 5), np.ones((len(some), 2)), 0.0)
    assert steps[:11] == [*range(10), "flush"]  # before it waits, what it has begun itself is committed
    assert [step for step in steps if step != "flush"] == list(range(20))  # its own, then what the other did not do
    assert steps[-1] == "flush"
    assert not store.missing(keys, LIMIT).size
    hung.release()


def test_where_files_cannot_be_locked_work_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(sharing, "fcntl", None)
    assert sorted(work(tmp_path / "windows", 300, 0.0)) == list(range(300))
    monkeypatch.undo()

    def unsupported(*args):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(sharing.fcntl, "flock", unsupported)
    assert sorted(work(tmp_path / "network", 300, 0.0)) == list(range(300))
