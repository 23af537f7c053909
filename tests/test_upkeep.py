"""Looking after the store never costs a row."""

from __future__ import annotations

import logging
import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
import pytest

from pipeline import UserError
from pipeline.store import Store, text_keys, upkeep
from pipeline.store.upkeep import about, derived, describe, folders, holdings, prune, swept, verify

LIMIT = 128
ABOUT = {"encoder": "distilbert-base-uncased", "pooling": "cls", "engine": "openvino", "precision": "float32", "dim": 3}


def texts_of(first: int, last: int) -> list[tuple[str, ...]]:
    return [(f"text {row}",) for row in range(first, last)]


def put(folder: Path, first: int, last: int, seconds: float = 1.0, dtype: str = "float32") -> str:
    """Commit texts `first` to `last` with the vectors [number, -1, 0.5]; the shard's name."""
    number = np.arange(first, last, dtype=np.float32)
    vectors = np.stack([number, np.full_like(number, -1), np.full_like(number, 0.5)], axis=1)
    shard = Store(folder, dtype=dtype).commit(
        text_keys(texts_of(first, last)), np.full(last - first, 5), vectors, seconds, LIMIT
    )
    assert shard is not None
    return shard.path.name


def check(folder: Path, rows: int, twice: int = 0) -> None:
    """Texts 0 to `rows` are all there and right; `twice` of them stand twice."""
    store = Store(folder)
    served = store.serve(text_keys(texts_of(0, rows)), LIMIT)
    assert served.present.all()
    assert (served.vectors[:, 0] == np.arange(rows)).all()
    assert store.rows == rows + twice


def flip(path: Path, text: bytes) -> None:
    raw = bytearray(path.read_bytes())
    raw[raw.index(text)] ^= 1
    path.write_bytes(raw)


def number_bytes(row: int) -> bytes:
    """The bytes of the vector of text `row`."""
    return np.array([row, -1, 0.5], np.float32).tobytes()


# ── ls ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_ls_says_what_the_cache_holds(tmp_path):
    describe(tmp_path / "aaa", ABOUT)
    put(tmp_path / "aaa", 0, 30)
    put(tmp_path / "aaa", 30, 40)
    put(tmp_path / "bbb", 0, 7)
    os.utime(next((tmp_path / "bbb").iterdir()), (1000, 1000))
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "weights.safetensors").write_bytes(b"not a shard")
    (tmp_path / "aaa" / ".draft-1").write_bytes(b"")
    (tmp_path / "aaa" / "quarantine").mkdir()
    (tmp_path / "aaa" / "quarantine" / "x.safetensors").write_bytes(b"")
    os.utime(tmp_path / "models" / "weights.safetensors", (500, 500))
    (tmp_path / "models" / ".draft-2").write_bytes(b"123")
    os.utime(tmp_path / "models" / ".draft-2", (400, 400))
    first, second, models = holdings(tmp_path)
    assert (models.folder, models.shards, models.rows, models.bytes) == (tmp_path / "models", 1, 0, 14)
    assert (models.about["encoder"], models.drafts, models.last_used) == ("converted models", 1, 500)
    assert (first.folder, first.shards, first.rows) == (tmp_path / "aaa", 2, 40)
    assert {name: first.about[name] for name in ABOUT} == ABOUT
    assert first.bytes == sum(path.stat().st_size for path in (tmp_path / "aaa").glob("*.safetensors"))
    assert (first.quarantined, first.drafts) == (1, 1)
    assert (second.folder, second.rows, second.about, second.last_used) == (tmp_path / "bbb", 7, {}, 1000)
    assert (tmp_path / "models" / "weights.safetensors").exists()


def test_a_cache_that_is_not_there_is_empty(tmp_path):
    assert folders(tmp_path / "none") == []
    assert holdings(tmp_path / "none") == []


def test_the_card_is_written_once_and_remembers_the_last_use(tmp_path):
    describe(tmp_path / "enc", ABOUT)
    describe(tmp_path / "enc", {"encoder": "another"})
    assert about(tmp_path / "enc")["encoder"] == "distilbert-base-uncased"
    put(tmp_path / "enc", 0, 5)
    os.utime(tmp_path / "enc" / "about.json", (1000, 1000))
    os.utime(next((tmp_path / "enc").glob("*.safetensors")), (1000, 1000))
    assert holdings(tmp_path)[0].last_used == 1000
    Store(tmp_path / "enc").serve(text_keys(texts_of(0, 1)), LIMIT)
    assert time.time() - (holdings(tmp_path)[0].last_used or 0) < 60


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b"\xff\xfe", b"[" * 99999])
def test_a_damaged_card_costs_only_words(tmp_path, content):
    put(tmp_path / "enc", 0, 5)
    (tmp_path / "enc" / "about.json").write_bytes(content)
    assert holdings(tmp_path)[0].about == {}
    check(tmp_path / "enc", 5)


def test_a_card_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "enc").write_text("I am a file")
    with pytest.raises(UserError, match=r"enc: cannot write .*--cache"):
        describe(tmp_path / "enc", ABOUT)


# ── verify ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_verify_finds_nothing_wrong_with_a_sound_store(tmp_path):
    describe(tmp_path / "enc", ABOUT)
    put(tmp_path / "enc", 0, 30)
    put(tmp_path / "enc", 20, 40)
    seen = []
    found = verify(tmp_path / "enc", lambda stage, done, total: seen.append((stage, done / (total or 1))))
    assert (found.shards, found.rows, found.damaged, found.saved, found.foreign, found.drafts) == (2, 50, (), 0, (), ())
    assert found.sound
    assert [stage for stage, _ in seen] == ["verify"] * 2
    assert seen[-1][1] == 1.0


def test_verify_quarantines_what_is_damaged_and_saves_its_sound_rows(tmp_path, caplog):
    folder = tmp_path / "enc"
    one, two, three = put(folder, 0, 30), put(folder, 30, 60), put(folder, 60, 90)
    flip(folder / one, number_bytes(17))
    raw = (folder / two).read_bytes()  # the same header in another order: means the same, but is not what was written
    (folder / two).write_bytes(raw.replace(b'"dtype":"U64","shape":[30,2]', b'"shape":[30,2],"dtype":"U64"'))
    (folder / three).write_bytes(b"gone")
    (folder / "notes.txt").write_text("mine")
    (folder / ".draft-77").write_text("")
    with caplog.at_level(logging.WARNING, "pipeline"):
        found = verify(folder)
    assert found.damaged == tuple(sorted([one, two, three]))
    assert found.saved == 29 + 30
    assert (found.rows, found.foreign, found.drafts) == (59, ("notes.txt",), (".draft-77",))
    assert len(caplog.messages) == 3
    store = Store(folder)
    assert store.missing(text_keys(texts_of(0, 90)), LIMIT).tolist() == [17, *range(60, 90)]
    served = store.serve(text_keys(texts_of(0, 60)), LIMIT)
    assert (np.flatnonzero(served.vectors[:, 0] == np.arange(60)) == np.delete(np.arange(60), 17)).all()
    assert (folder / "notes.txt").read_text() == "mine"
    assert verify(folder).sound


def test_verify_knows_a_shard_by_its_name(tmp_path):
    name = put(tmp_path / "enc", 0, 30)
    (tmp_path / "enc" / name).rename(tmp_path / "enc" / "renamed.safetensors")
    found = verify(tmp_path / "enc")
    assert (found.damaged, found.saved, found.rows) == (("renamed.safetensors",), 30, 30)
    check(tmp_path / "enc", 30)


# ── prune ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # processes are killed here, machines are not
    monkeypatch.setattr(upkeep, "SHARD_ROWS", 100)


def test_prune_drops_what_stands_twice_and_merges_what_is_small(tmp_path, small_shards):
    folder = tmp_path / "enc"
    put(folder, 0, 100, seconds=10.0)
    kept = put(folder, 100, 200, seconds=10.0)
    for first in range(200, 260, 10):
        put(folder, first, first + 10, seconds=0.5)
    put(folder, 50, 80)
    put(folder, 50, 80)
    bytes_before = Store(folder).bytes
    done = prune(folder)
    assert (done.duplicates, done.replaced) == (60, 9)
    assert done.written == len(list(folder.iterdir())) - 1
    assert (folder / kept).exists()  # large, and nothing of it stands twice
    check(folder, 260)
    assert done.bytes_freed == bytes_before - Store(folder).bytes > 0
    store = Store(folder)
    cost = store.encode_seconds(store.find(text_keys(texts_of(0, 260)), LIMIT).positions)
    assert 21 <= cost <= 23.01  # 20 + 3, of which 30 rows are counted as in the shard that they were taken from
    again = prune(folder)
    assert (again.duplicates, again.replaced, again.written, again.bytes_freed) == (0, 0, 0, 0)
    check(folder, 260)


def test_prune_leaves_an_orderly_store_alone(tmp_path, small_shards):
    names = {put(tmp_path / "enc", 0, 100), put(tmp_path / "enc", 100, 110)}
    assert prune(tmp_path / "enc").replaced == 0
    assert set(os.listdir(tmp_path / "enc")) == names
    assert prune(tmp_path / "none").replaced == 0


def test_prune_keeps_float16_as_it_is(tmp_path, small_shards):
    for first in (0, 20, 30):
        put(tmp_path / "enc", first, first + 20, dtype="float16")
    prune(tmp_path / "enc")
    assert {shard.dtype for shard in Store(tmp_path / "enc").shards} == {"float16"}
    check(tmp_path / "enc", 50)


def test_prune_does_not_pass_on_a_damaged_row(tmp_path, small_shards):
    folder = tmp_path / "enc"
    damaged, _ = put(folder, 0, 30), put(folder, 30, 40)
    flip(folder / damaged, number_bytes(17))
    prune(folder)
    store = Store(folder)
    assert store.missing(text_keys(texts_of(0, 40)), LIMIT).tolist() == [17]
    assert os.listdir(folder / "quarantine") == [damaged]


def test_a_row_that_stands_twice_survives_damage_to_one_of_them(tmp_path, small_shards):
    folder = tmp_path / "enc"
    one, two = put(folder, 0, 30), put(folder, 0, 30)
    flip(folder / one, number_bytes(17))
    flip(folder / two, number_bytes(18))
    prune(folder)
    check(folder, 30)


def test_only_old_litter_is_swept_and_only_if_asked(tmp_path):
    folder = tmp_path / "enc"
    put(folder, 0, 5)
    (folder / "quarantine").mkdir()
    litter = [folder / ".draft-1", folder / ".claim-1", folder / "quarantine" / "bad.safetensors"]
    fresh = [folder / ".draft-2", folder / "quarantine" / "new.safetensors"]
    for path in (*litter, *fresh, folder / "notes.txt"):
        path.write_text("")
    for path in (*litter, folder / "notes.txt"):
        os.utime(path, (time.time() - 90000,) * 2)
    assert prune(folder).litter == ()
    assert prune(folder, litter=True).litter == (".claim-1", ".draft-1", "bad.safetensors")
    assert not any(path.exists() for path in litter)
    assert all(path.exists() for path in (*fresh, folder / "notes.txt"))


def test_states_and_models_are_swept_likewise(tmp_path):
    home = tmp_path / "models" / "abc"
    home.mkdir(parents=True)
    (tmp_path / "states").mkdir()
    for path in (home / ".draft-1", home / "all.bin", tmp_path / "states" / ".draft-2", tmp_path / "states" / "s"):
        path.write_bytes(b"12345")
        os.utime(path, (time.time() - 90000,) * 2)
    assert [(one.litter, one.bytes_freed) for one in (swept(folder, False) for folder in derived(tmp_path))] == [
        ((), 0)
    ] * 2
    found = {folder.name: swept(folder, True) for folder in derived(tmp_path)}
    assert {name: (one.litter, one.bytes_freed) for name, one in found.items()} == {
        "models": ((".draft-1",), 5),
        "states": ((".draft-2",), 5),
    }
    assert (home / "all.bin").exists()
    assert (tmp_path / "states" / "s").exists()


@pytest.mark.skipif(os.name != "posix", reason="forks")
def test_a_killed_prune_loses_nothing(tmp_path, small_shards):
    folder, random, kills = tmp_path / "enc", np.random.default_rng(0), 0
    while kills < 20:
        for first in range(0, 300, 60):
            put(folder, first, first + 80)
        child = multiprocessing.get_context("fork").Process(target=prune, args=(folder,))
        child.start()
        child.join(float(random.uniform(0, 0.03)))
        child.kill()
        child.join()
        kills += child.exitcode != 0
        served = Store(folder).serve(text_keys(texts_of(0, 320)), LIMIT)
        assert served.present.all()
        assert (served.vectors[:, 0] == np.arange(320)).all()
    assert prune(folder).duplicates > 0
    check(folder, 320)


def keep_writing(folder: Path, last: int) -> None:
    for first in range(0, last, 10):
        put(folder, first, first + 10)
        put(folder, max(0, first - 5), first + 5)


def keep_pruning(folder: Path, stop: Path) -> None:
    while not stop.exists():
        prune(folder)


@pytest.mark.skipif(os.name != "posix", reason="forks")
def test_prunes_beside_writers_and_readers_lose_nothing(tmp_path, small_shards):
    folder, stop, fork = tmp_path / "enc", tmp_path / "stop", multiprocessing.get_context("fork")
    put(folder, 0, 10)
    writer = fork.Process(target=keep_writing, args=(folder, 600))
    pruners = [fork.Process(target=keep_pruning, args=(folder, stop)) for _ in range(2)]
    for process in (writer, *pruners):
        process.start()
    reader, reads, wanted = Store(folder), 0, text_keys(texts_of(0, 600))
    while writer.is_alive():
        served = reader.serve(wanted, LIMIT)
        assert (served.vectors[served.present, 0] == np.flatnonzero(served.present)).all()
        reads += 1
    writer.join(60)
    stop.write_text("")
    for process in pruners:
        process.join(60)
    assert [process.exitcode for process in (writer, *pruners)] == [0, 0, 0]
    assert reads > 3
    prune(folder)
    check(folder, 600)
    assert not (folder / "quarantine").exists()
