"""Kills, full disks and read-only disks: nothing that was committed is lost, and a row is never served wrong."""

from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pipeline import UserError
from pipeline.store import Store, Writer, text_keys
from pipeline.store.upkeep import verify

pytestmark = pytest.mark.skipif(os.name != "posix", reason="kills and limits of POSIX")

LIMIT = 128
BATCH, SHARD = 4, 16


def texts_of(rows: int) -> list[tuple[str, ...]]:
    return [(f"text {row}",) for row in range(rows)]


def extract(folder: Path, rows: int, attempt: int, pause: float, journal: Path | None = None) -> None:
    """What an extraction does, with an encoder whose vector is [number of the text, its square, this attempt]."""
    whole, store = text_keys(texts_of(rows)), Store(folder)
    missing = store.missing(whole, LIMIT)
    with Writer(store, LIMIT, rows=SHARD) as writer:
        for first in range(0, len(missing), BATCH):
            some = missing[first : first + BATCH]
            if journal is not None:
                with open(journal, "a") as file:
                    file.write("".join(f"{row:04}\n" for row in some))
            time.sleep(pause)
            vectors = np.stack([some, some**2, np.full(len(some), attempt)], axis=1).astype(np.float32)
            writer.add(whole[some], np.full(len(some), 5), vectors, pause)


@pytest.fixture
def no_sync(monkeypatch):
    """What was written outlives its process without being synced (not its machine, but that one is not killed here)."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def test_fifty_kills_lose_at_most_a_shard_each_and_change_nothing(tmp_path, no_sync):
    rows, kills, attempt = 3200, 0, 0
    random, folder, journal = np.random.default_rng(42), tmp_path / "enc", tmp_path / "journal"
    whole = text_keys(texts_of(rows))
    committed: dict[int, bytes] = {}  # row → its vector, as it was first seen on disk
    attempts_seen = set()
    fork = multiprocessing.get_context("fork")
    while kills < 50:
        attempt += 1
        journal.write_text("")
        child = fork.Process(target=extract, args=(folder, rows, attempt, 0.001, journal))
        child.start()
        batches = random.integers(0, 12)  # a random moment: so many batches begun, and up to a shard's time more
        while child.is_alive() and journal.stat().st_size < batches * BATCH * len("1234\n"):
            time.sleep(0.0005)
        time.sleep(float(random.uniform(0, 0.006)))
        child.kill()
        child.join()
        assert child.exitcode in (0, -signal.SIGKILL)
        kills += child.exitcode == -signal.SIGKILL
        served = Store(folder).serve(whole, LIMIT)
        here = np.flatnonzero(served.present)
        new = [row for row in here if row not in committed]
        assert all(served.vectors[row].tobytes() == vector for row, vector in committed.items())
        worked = {int(line) for line in journal.read_text().split("\n")[:-1]}
        assert set(new) <= worked
        assert len(worked) - len(new) <= SHARD
        committed |= {int(row): served.vectors[row].tobytes() for row in new}
        attempts_seen |= {float(served.vectors[row, 2]) for row in new}
    assert len(committed) < rows, "the kills came too late to matter"
    extract(folder, rows, 999, 0.0)
    served = Store(folder).serve(whole, LIMIT)
    number = np.arange(rows, dtype=np.float32)
    assert served.present.all()
    assert (served.vectors[:, :2] == np.stack([number, number**2], axis=1)).all()  # those of an uninterrupted run
    assert all(served.vectors[row].tobytes() == vector for row, vector in committed.items())
    assert len(attempts_seen) > 5  # rows of many attempts live side by side
    assert Store(folder).rows == rows
    assert not (folder / "quarantine").exists()


# ── disks ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def in_child(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parent.parent,
    )


FILLS_UP = """
import resource, sys
import numpy as np
from pipeline import UserError
from pipeline.store import Store, Writer, text_keys
store = Store(sys.argv[1])
whole = text_keys([(f"text {row}",) for row in range(3000)])
vectors = np.repeat(np.arange(3000, dtype="f4")[:, None], 64, axis=1)
store.commit(whole[:100], np.full(100, 5), vectors[:100], 1.0, 128)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
store.commit(whole[100:200], np.full(100, 5), vectors[100:200], 1.0, 128)
try:
    store.commit(whole[200:], np.full(2800, 5), vectors[200:], 1.0, 128)
except UserError as error:
    print(error)
"""


def test_a_shard_over_the_limit_of_files_is_not_half_there(tmp_path):
    done = in_child(FILLS_UP, tmp_path / "enc")
    assert done.stdout.startswith(f"{tmp_path}/enc: disk full (File too large), 200 rows committed before are kept;")
    assert done.stdout.count("\n") == 1
    assert (done.stderr, done.returncode) == ("", 0)
    assert all(len(name) == 32 + len(".safetensors") for name in os.listdir(tmp_path / "enc"))  # no draft
    served = Store(tmp_path / "enc").serve(text_keys(texts_of(3000)), LIMIT)
    assert served.present.tolist() == [True] * 200 + [False] * 2800
    assert (served.vectors[:200, 0] == np.arange(200)).all()


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 1 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if not mounted or mounted.returncode:
        pytest.skip("a small disk cannot be mounted here (needs root)")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def numbered(first: int, last: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    vectors = np.repeat(np.arange(first, last, dtype=np.float32)[:, None], 64, axis=1)
    return text_keys(texts_of(last))[first:], np.full(last - first, 5), vectors


def fill_up(store: Store) -> None:
    for first in range(0, 10_000, 500):
        store.commit(*numbered(first, first + 500), 1.0, LIMIT)


def test_a_full_disk_keeps_what_was_committed_and_goes_on_when_there_is_room(small_disk):
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(600_000))
    store = Store(small_disk / "enc")
    with pytest.raises(
        UserError, match=r"disk full \(No space left on device\), [\d,]+ rows committed before are kept"
    ):
        fill_up(store)  # the last shard finds room for a part of itself
    rows = store.rows
    assert rows >= 500
    assert not [name for name in os.listdir(small_disk / "enc") if name.startswith(".draft")]
    for look in (store, Store(small_disk / "enc")):
        served = look.serve(text_keys(texts_of(rows + 500)), LIMIT)
        assert served.present.tolist() == [True] * rows + [False] * 500
        assert (served.vectors[:rows, 0] == np.arange(rows)).all()
    ballast.unlink()
    store.commit(*numbered(rows, rows + 500), 1.0, LIMIT)
    assert Store(small_disk / "enc").serve(text_keys(texts_of(rows + 500)), LIMIT).present.all()


def test_a_read_only_disk_serves_and_refuses(small_disk, caplog):
    store = Store(small_disk / "enc")
    for first in (0, 100, 200):
        store.commit(*numbered(first, first + 100), 1.0, LIMIT)
    damaged = store.present_shards[0].path
    os.truncate(damaged, 999)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with caplog.at_level(logging.WARNING, "pipeline"):
        store = Store(small_disk / "enc")
        served = store.serve(text_keys(texts_of(300)), LIMIT)
    assert served.present.sum() == 200
    assert (served.vectors[served.present, 0] == np.arange(300)[served.present]).all()
    assert len(caplog.messages) == 1
    assert "not served (cannot be moved away: Read-only file system)" in caplog.messages[0]
    with pytest.raises(UserError, match=r"cannot write \(Read-only file system\), 200 rows .* choose another --cache"):
        store.commit(*numbered(300, 400), 1.0, LIMIT)
    checked = verify(small_disk / "enc")
    assert (checked.damaged, checked.rows, checked.sound) == ((damaged.name,), 200, False)
    with pytest.raises(UserError, match=r"new: cannot write \(Read-only file system\).*--cache"):
        Store(small_disk / "new").commit(*numbered(0, 1), 1.0, LIMIT)
