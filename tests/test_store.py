"""The store gives back what was put in, under the right key, or says that it has nothing."""

from __future__ import annotations

import builtins
import errno
import io
import logging
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from pipeline import UserError
from pipeline.store import Store, Writer, text_keys
from pipeline.store.index import Index
from pipeline.store.shard import cut_keys, row_checks

LIMIT = 128


def vector_of(text: str) -> list[float]:
    """Length, code of the first letter, and two numbers that fill up a row."""
    return [len(text), ord(text[0]), 0.5, -1.0]


def vectors_of(texts: list[tuple[str, ...]]) -> np.ndarray:
    return np.array([vector_of(text[0]) for text in texts], np.float32)


def words(first: int, last: int) -> list[tuple[str, ...]]:
    return [(f"{chr(97 + i % 26)} text {i}",) for i in range(first, last)]


def put(store: Store, texts: list[tuple[str, ...]], tokens: int | list[int] = 5, seconds: float = 1.0) -> None:
    counts = np.broadcast_to(np.asarray(tokens, np.uint32), len(texts)).copy()
    store.commit(text_keys(texts), counts, vectors_of(texts), seconds, LIMIT)


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """Three shards of 20 rows."""
    store = Store(tmp_path / "enc")
    for first in (0, 20, 40):
        put(store, words(first, first + 20))
    return tmp_path / "enc"


# ── keys ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_key_says_where_each_string_ends():
    pair = [("ab", "c"), ("a", "bc"), ("abc",), ("abc", ""), ("", "abc")]
    assert len({tuple(key) for key in text_keys(pair).tolist()}) == 5


def test_keys_are_the_same_on_every_machine():
    assert text_keys([("a", "bc")]).dtype == np.dtype("<u8")
    assert text_keys([("a", "bc")]).tolist() == [[3956747362130217713, 11217512115407789243]]
    assert text_keys([("a", "bc")], cut=128).tolist() == [[2210825020418898506, 7092656010610222070]]


def test_a_cut_text_has_a_key_of_its_own_for_each_cut():
    whole = text_keys(words(0, 1000))
    every = np.concatenate([whole, *(cut_keys(whole, cut) for cut in (1, 2, 127, 128, 512))])
    assert len(np.unique(every, axis=0)) == 6000
    assert (text_keys(words(0, 1000), cut=512) == cut_keys(whole, 512)).all()


@given(st.lists(st.lists(st.text(alphabet=st.characters(codec=None)), min_size=1, max_size=2).map(tuple), max_size=20))
@settings(max_examples=50, deadline=None)
def test_equal_keys_mean_equal_texts(texts):
    rows = [tuple(key) for key in text_keys(texts).tolist()]
    assert len(set(rows)) == len(set(texts))


def test_half_a_character_has_a_key_too():
    assert text_keys([("\ud800",)]).tolist() != text_keys([("\udfff",)]).tolist()


def test_no_texts_no_keys():
    assert text_keys([]).shape == (0, 2)
    assert cut_keys(text_keys([]), 128).shape == (0, 2)


def test_the_check_of_a_row_depends_on_key_tokens_and_vector():
    key, tokens, vector = text_keys([("a",)]), np.array([3], np.uint32), np.array([[1.0, 2.0]], np.float32)
    check = row_checks(key, tokens, vector)
    assert (row_checks(key, tokens, vector) == check).all()
    assert (row_checks(text_keys([("b",)]), tokens, vector) != check).all()
    assert (row_checks(key, tokens + 1, vector) != check).all()
    assert (row_checks(key, tokens, vector + 1) != check).all()


# ── the index ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_index_tells_keys_apart_that_share_their_first_half():
    index = Index()
    index.add(np.array([[7, 1], [7, 2], [9, 1]], np.uint64), np.array([1, 2, 3], np.uint32))
    wanted = np.array([[7, 2], [9, 1], [7, 1], [7, 3], [8, 1], [10, 1]], np.uint64)
    assert index.find(wanted).tolist() == [1, 2, 0, -1, -1, -1]


@given(st.lists(st.integers(1, 40), max_size=30), st.integers(0, 2**32))
@settings(max_examples=50, deadline=None)
def test_index_finds_every_key_however_it_was_added(steps, seed):
    random, index, everything = np.random.default_rng(seed), Index(), []
    for rows in steps:
        everything.append(random.integers(0, 6, (rows, 2)).astype(np.uint64))  # few values: halves and rows repeat
        index.add(everything[-1], np.ones(rows, np.uint32))
    every = np.concatenate([np.zeros((0, 2), np.uint64), *everything])
    assert (index.keys[index.find(every)] == every).all()
    assert (index.find(every + np.uint64(10)) == -1).all()


def test_index_keeps_few_sorted_runs():
    index, rows = Index(), np.arange(2000, dtype=np.uint64).reshape(1000, 2)
    for row in rows:
        index.add(row[None], np.ones(1, np.uint32))
    assert len(index.runs) <= 10
    assert index.find(rows).tolist() == list(range(1000))
    index.remove(100, 800)
    assert index.find(rows).tolist() == [*range(100), *[-1] * 800, *range(900, 1000)]


# ── what is put in comes out ────────────────────────────────────────────────────────────────────────────────────────


def test_rows_come_back_in_the_order_asked_for(filled):
    asked = [*words(59, 60), *words(3, 25), *words(3, 4), *words(99, 100)]
    rows = Store(filled).serve(text_keys(asked), LIMIT)
    assert rows.present.tolist() == [True] * 24 + [False]
    assert rows.vectors.dtype == np.float32
    assert (rows.vectors[:-1] == vectors_of(asked[:-1])).all()
    assert np.isnan(rows.vectors[-1]).all()
    assert rows.tokens.tolist() == [5] * 24 + [0]


def test_a_store_that_nobody_wrote_to_is_empty(tmp_path):
    store = Store(tmp_path / "none")
    assert store.rows == store.bytes == 0
    assert store.lookup([("a",)], LIMIT).positions.tolist() == [-1]
    assert store.read(np.array([-1])).present.tolist() == [False]
    assert store.serve(text_keys([]), LIMIT).vectors.shape == (0, 0)
    assert store.commit(text_keys([]), np.zeros(0), np.zeros((0, 4)), 0.0, LIMIT) is None
    assert not (tmp_path / "none").exists()


def test_reading_takes_any_pattern_of_rows(tmp_path):
    random = np.random.default_rng(0)
    vectors = random.normal(size=(3000, 400)).astype(np.float32)  # 1,600 bytes a row: several pieces a shard, and gaps
    whole, store = random.integers(0, 2**63, (3000, 2)).astype(np.uint64), Store(tmp_path / "enc")
    for low, high in ((0, 1), (1, 2000), (2000, 3000)):
        store.commit(whole[low:high], np.full(high - low, 5), vectors[low:high], 1.0, LIMIT)
    store = Store(tmp_path / "enc")
    for pick in (np.arange(3000), random.permutation(3000), np.arange(0, 3000, 37), random.integers(0, 3000, 50)):
        rows = store.serve(whole[pick], LIMIT)
        assert rows.present.all()
        assert (rows.vectors == vectors[pick]).all()


def test_float16_storage_is_half_as_large_and_says_when_it_does_not_suffice(tmp_path):
    texts = words(0, 50)
    full, half = Store(tmp_path / "f4"), Store(tmp_path / "f2", dtype="float16")
    wide = np.random.default_rng(0).normal(size=(50, 500)).astype(np.float32)
    for store in (full, half):
        store.commit(text_keys(texts), np.full(50, 5), wide, 1.0, LIMIT)
    assert half.bytes < 0.53 * full.bytes
    rows = Store(tmp_path / "f2", dtype="float16").serve(text_keys(texts), LIMIT)
    assert rows.vectors.dtype == np.float32
    assert (rows.vectors == wide.astype(np.float16).astype(np.float32)).all()
    with pytest.raises(UserError, match="too large for float16; keep them as float32"):
        half.commit(text_keys([("new",)]), np.array([5]), np.full((1, 500), 1e6), 1.0, LIMIT)
    assert half.rows == 50


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_vectors_that_are_not_finite_are_refused(tmp_path, bad):
    store, vectors = Store(tmp_path / "enc"), vectors_of(words(0, 3))
    vectors[1, 2] = bad
    with pytest.raises(UserError, match="not finite"):
        store.commit(text_keys(words(0, 3)), np.full(3, 5), vectors, 1.0, LIMIT)
    assert store.rows == 0
    assert not (tmp_path / "enc").exists()


def test_vectors_of_another_width_are_refused(filled):
    with pytest.raises(UserError, match="vectors of 7 numbers, not 4"):
        Store(filled).commit(text_keys([("a",)]), np.array([5]), np.ones((1, 7)), 1.0, LIMIT)


def test_a_wrong_width_is_the_callers_mistake_and_costs_no_shard(filled):
    with pytest.raises(UserError, match="enc: vectors of 4 numbers, not 7"):
        Store(filled, dim=7)
    assert Store(filled, dim=4).rows == 60


def test_serve_sees_the_first_shard_come(tmp_path):
    early = Store(tmp_path / "enc")
    put(Store(tmp_path / "enc"), words(0, 5))
    rows = early.serve(text_keys(words(0, 6)), LIMIT)
    assert rows.present.tolist() == [True] * 5 + [False]
    assert (rows.vectors[:5] == vectors_of(words(0, 5))).all()


def test_a_shard_has_the_arrays_that_others_can_read(filled):
    for path in filled.glob("*.safetensors"):
        arrays = load_file(path)
        assert {n: (a.dtype.str, a.shape) for n, a in arrays.items()} == {
            "keys": ("<u8", (20, 2)),
            "tokens": ("<u4", (20,)),
            "check": ("<u8", (20,)),
            "vectors": ("<f4", (20, 4)),
        }


def test_refresh_reads_only_what_is_new(filled):
    store = Store(filled)
    assert store.refresh() == 0
    put(Store(filled), words(60, 70))
    assert store.missing(text_keys(words(55, 75)), LIMIT).tolist() == list(range(5, 20))
    assert store.refresh() == 1
    assert store.missing(text_keys(words(55, 75)), LIMIT).tolist() == list(range(15, 20))
    assert (store.rows, len(store.shards)) == (70, 4)


def test_a_shard_that_is_gone_is_absent_not_an_error(filled):
    store = Store(filled)
    store.present_shards[0].path.unlink()
    rows = store.serve(text_keys(words(0, 60)), LIMIT)
    assert rows.present.sum() == 40
    assert (rows.vectors[rows.present] == vectors_of(words(0, 60))[rows.present]).all()
    assert store.rows == 40


def test_a_moved_row_is_found_at_its_new_place(filled):
    store = Store(filled)
    put(Store(filled), words(0, 20))
    store.present_shards[0].path.unlink()
    found = store.serve(text_keys(words(0, 60)), LIMIT)
    assert found.present.sum() >= 40
    again = store.serve(text_keys(words(0, 60)), LIMIT)
    assert (again.vectors[again.present] == vectors_of(words(0, 60))[again.present]).all()


# ── lengths ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_only_the_texts_that_were_cut_depend_on_max_length(tmp_path):
    texts, tokens = words(0, 4), [4, 128, 129, 600]
    store = Store(tmp_path / "enc")
    store.commit(text_keys(texts), np.array(tokens), vectors_of(texts), 1.0, max_length=128)
    assert store.lookup(texts, 128).present.tolist() == [True] * 4
    assert store.lookup(texts, 128).tokens.tolist() == tokens
    assert store.lookup(texts, 512).present.tolist() == [True, True, False, False]
    assert store.lookup(texts, 64).present.tolist() == [True, False, False, False]
    longer = vectors_of(texts)[2:] + 100
    store.commit(text_keys(texts[2:]), np.array(tokens[2:]), longer, 1.0, max_length=512)
    assert store.lookup(texts, 512).present.tolist() == [True] * 4
    assert store.lookup(texts, 512).tokens.tolist() == tokens
    assert (store.serve(text_keys(texts), 512).vectors[2:] == longer).all()
    assert (
        store.serve(text_keys(texts), 128).vectors == vectors_of(texts)
    ).all()  # the cut ones are still those of 128
    assert store.lookup(texts, 256).present.tolist() == [True, True, True, False]  # 129 tokens are whole in both


def test_some_encoders_make_every_vector_depend_on_max_length(tmp_path):
    store = Store(tmp_path / "enc", by_length=True)
    put(store, words(0, 4), tokens=[4, 128, 129, 600])
    assert store.lookup(words(0, 4), LIMIT).present.all()
    assert not store.lookup(words(0, 4), 512).present.any()


def test_seconds_divide_among_rows_by_tokens_fed(tmp_path):
    texts, store = words(0, 4), Store(tmp_path / "enc")
    put(store, texts, tokens=[9, 29, 59, 1000], seconds=228.0)  # fed, with one for the row: 10, 30, 60, 129
    put(store, words(4, 6), tokens=7, seconds=3.0)
    store = Store(tmp_path / "enc")
    cost = [store.encode_seconds(store.lookup([text], LIMIT).positions) for text in words(0, 7)]
    assert cost == pytest.approx([228 * 10 / 229, 228 * 30 / 229, 228 * 60 / 229, 228 * 129 / 229, 1.5, 1.5, 0.0])
    assert store.encode_seconds(store.lookup(words(0, 6), LIMIT).positions) == pytest.approx(231.0)


# ── writing ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def feed(writer, first: int, last: int, step: int = 10) -> None:
    for at in range(first, last, step):
        some = words(at, at + step)
        writer.add(text_keys(some), np.full(step, 5), vectors_of(some), 0.25)


def test_a_shard_closes_after_so_many_rows(tmp_path):
    store = Store(tmp_path / "enc")
    with Writer(store, LIMIT, rows=20) as writer:
        feed(writer, 0, 50)
        assert [shard.rows for shard in store.shards] == [20, 20]
    assert [shard.rows for shard in store.shards] == [20, 20, 10]
    assert [shard.seconds for shard in store.shards] == [0.5, 0.5, 0.25]


def test_a_shard_closes_after_so_many_seconds(tmp_path):
    store = Store(tmp_path / "enc")
    with Writer(store, LIMIT, rows=1000, seconds=0.7) as writer:
        feed(writer, 0, 60)  # each batch says that it took 0.25 s: the third is over 0.7 s only with the first's start
    assert sum(shard.rows for shard in store.shards) == 60
    assert len(store.shards) <= 6
    with Writer(Store(tmp_path / "enc"), LIMIT, rows=1000, seconds=0.0) as writer:
        feed(writer, 60, 80)
        assert writer.store.rows == 80


def stopped_by(error: BaseException, store: Store, first: int, last: int) -> None:
    with Writer(store, LIMIT) as writer:
        feed(writer, first, last)
        raise error


def test_an_interrupted_writer_commits_what_it_has_and_a_failed_one_does_not(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        stopped_by(KeyboardInterrupt(), Store(tmp_path / "enc"), 0, 20)
    assert Store(tmp_path / "enc").rows == 20
    with pytest.raises(ZeroDivisionError):
        stopped_by(ZeroDivisionError(), Store(tmp_path / "enc"), 20, 40)
    assert Store(tmp_path / "enc").rows == 20


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.EROFS, "cannot write"),
        (errno.EACCES, "cannot write"),
        (errno.ENOSPC, "disk full"),
        (errno.EDQUOT, "disk full"),
    ],
)
def test_a_folder_that_cannot_be_written_is_one_line(filled, monkeypatch, number, says):
    real = builtins.open

    def refusing(path, mode="r", *args, **kwargs):
        if "x" in mode:
            raise OSError(number, os.strerror(number), str(path))
        return real(path, mode, *args, **kwargs)

    store = Store(filled)
    monkeypatch.setattr(builtins, "open", refusing)
    with pytest.raises(UserError, match=rf"enc: {says}.*60 rows committed before are kept.*--cache") as caught:
        put(store, words(60, 80))
    assert "\n" not in str(caught.value)
    monkeypatch.undo()
    put(store, words(60, 80))  # the same store goes on
    assert store.serve(text_keys(words(0, 80)), LIMIT).present.all()


def test_a_failing_disk_leaves_no_draft(filled, monkeypatch):
    def failing(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", failing)
    store, before = Store(filled), sorted(os.listdir(filled))
    with pytest.raises(UserError, match="disk full"):
        put(store, words(60, 80))
    assert sorted(os.listdir(filled)) == before
    assert store.rows == 60


def test_a_file_in_the_way_of_the_folder_is_one_line(tmp_path):
    (tmp_path / "enc").write_text("I am a file")
    with pytest.raises(UserError, match=r"enc: cannot read .*--cache"):
        Store(tmp_path / "enc")


# ── damage ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def at_array(path: Path, array: str) -> int:
    """Where an array of a shard begins."""
    from pipeline.store.shard import read_header

    return read_header(path, path.parent.name).offsets[array]


def flip(path: Path, at: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[at] ^= 0x10
    path.write_bytes(raw)


def rewritten(path: Path, change, **facts: str) -> None:
    """The same shard with other arrays or other facts, under the old name."""
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        metadata = {**file.metadata(), **facts}
    save_file(change(load_file(path)), path, metadata)


FAULTS = {
    "flipped byte in keys": lambda path: flip(path, at_array(path, "keys") + 35),
    "flipped byte in tokens": lambda path: flip(path, at_array(path, "tokens") + 8),
    "flipped byte in check": lambda path: flip(path, at_array(path, "check") + 17),
    "flipped byte in vectors": lambda path: flip(path, at_array(path, "vectors") + 50),
    "flipped byte in header": lambda path: flip(path, path.read_bytes().index(b"seconds") + 11),
    "flipped byte in the header's length": lambda path: flip(path, 0),
    "huge header": lambda path: path.write_bytes(b"\xff" * 8 + path.read_bytes()[8:]),
    "header of brackets": lambda path: path.write_bytes((50000).to_bytes(8, "little") + b"[" * 60000),
    "header of another kind": lambda path: path.write_bytes((2).to_bytes(8, "little") + b"[]" + bytes(99)),
    "truncated in vectors": lambda path: os.truncate(path, path.stat().st_size - 5),
    "truncated in keys": lambda path: os.truncate(path, at_array(path, "keys") + 5),
    "truncated in header": lambda path: os.truncate(path, 40),
    "empty": lambda path: os.truncate(path, 0),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"more"),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "foreign text": lambda path: path.write_text("dear diary"),
    "foreign safetensors": lambda path: save_file({"weight": np.ones((3, 4), np.float32)}, path),
    "arrays of another dtype": lambda path: rewritten(path, lambda a: {**a, "tokens": a["tokens"].astype(np.int64)}),
    "arrays of another shape": lambda path: rewritten(path, lambda a: {**a, "vectors": a["vectors"][:-1]}),
    "no checks": lambda path: rewritten(path, lambda a: {n: a[n] for n in a if n != "check"}),
    "one array more": lambda path: rewritten(path, lambda a: {**a, "more": a["check"]}),
    "vectors exchanged": lambda path: rewritten(path, lambda a: {**a, "vectors": a["vectors"][::-1].copy()}),
    "keys exchanged": lambda path: rewritten(path, lambda a: {**a, "keys": a["keys"][::-1].copy()}),
    "shard of another folder": lambda path: rewritten(path, lambda a: a, folder="other"),
    "format of the future": lambda path: rewritten(path, lambda a: a, format="probe-or-tune vectors 99"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_damage_is_noticed_said_quarantined_and_never_served(filled, caplog, fault):
    texts, first = words(0, 60), Store(filled).present_shards[0].path
    FAULTS[fault](first)
    with caplog.at_level(logging.WARNING, "pipeline"):
        store = Store(filled)
        rows = store.serve(text_keys(texts), LIMIT)
    assert (rows.vectors[rows.present] == vectors_of(texts)[rows.present]).all()
    assert rows.present.sum() >= 40
    assert store.missing(text_keys(texts), LIMIT).tolist() == [*store.missing(text_keys(texts), LIMIT)]
    assert len(store.missing(text_keys(texts), LIMIT)) == 20  # the whole shard counts as absent
    assert [path.name for path in (filled / "quarantine").iterdir()] == [first.name]
    assert not first.exists()
    assert len(caplog.messages) == 1
    assert first.name in caplog.messages[0]
    assert "\n" not in caplog.messages[0]
    again = [texts[place] for place in store.missing(text_keys(texts), LIMIT)]
    put(store, again)
    healed = Store(filled).serve(text_keys(texts), LIMIT)
    assert healed.present.all()
    assert (healed.vectors == vectors_of(texts)).all()


def test_no_byte_of_a_shard_can_change_unnoticed(tmp_path, caplog):
    caplog.set_level(logging.CRITICAL, "pipeline")
    texts, folder = words(0, 3), tmp_path / "enc"
    store = Store(folder)
    put(store, texts, tokens=[5, 128, 700])
    path = store.present_shards[0].path
    raw, noticed = path.read_bytes(), 0
    for at in range(len(raw)):
        for other in {raw[at] ^ 1, ord(" ")} - {raw[at]}:
            path.write_bytes(raw[:at] + bytes([other]) + raw[at + 1 :])
            rows = Store(folder, dim=4).serve(text_keys(texts), LIMIT)
            assert (rows.vectors[rows.present] == vectors_of(texts)[rows.present]).all(), f"byte {at} → {other}"
            assert (rows.tokens[rows.present] == np.array([5, 128, 700])[rows.present]).all(), f"byte {at} → {other}"
            noticed += not rows.present.all()
    assert noticed > 1.8 * len(raw)  # all but the blanks behind the header


def test_a_shard_damaged_while_a_store_is_open_is_not_served(filled):
    store, texts = Store(filled), words(0, 60)
    os.truncate(store.present_shards[1].path, 1000)
    flip(store.present_shards[2].path, at_array(store.present_shards[2].path, "vectors") + 300)  # row 18 of 20
    rows = store.serve(text_keys(texts), LIMIT)
    assert (rows.vectors[rows.present] == vectors_of(texts)[rows.present]).all()
    assert len(store.missing(text_keys(texts), LIMIT)) == 40
    assert len(list((filled / "quarantine").iterdir())) == 2


def failing_file(bad: Path, number: int) -> type:
    """A file that opens, except the one at `bad`."""

    class Failing(io.FileIO):
        def __init__(self, path, *args, **kwargs):
            if Path(path) == bad:
                raise OSError(number, os.strerror(number), str(path))
            super().__init__(path, *args, **kwargs)

    return Failing


def test_a_shard_that_the_disk_cannot_read_is_quarantined(filled, monkeypatch):
    store = Store(filled)
    bad = store.present_shards[1].path
    monkeypatch.setattr("pipeline.store.shard.io.FileIO", failing_file(bad, errno.EIO))
    assert store.serve(text_keys(words(0, 60)), LIMIT).present.sum() == 40
    assert (filled / "quarantine" / bad.name).exists()


def test_a_shard_that_may_not_be_read_is_an_error_and_stays(filled, monkeypatch):
    bad = Store(filled).present_shards[1].path
    monkeypatch.setattr("pipeline.store.shard.io.FileIO", failing_file(bad, errno.EACCES))
    with pytest.raises(UserError, match=rf"{bad.name}: cannot read \(Permission denied\); .*--cache"):
        Store(filled)
    assert bad.exists()


def test_two_readers_agree_on_a_damaged_shard(filled, caplog):
    one, two = Store(filled), Store(filled)
    flip(one.present_shards[0].path, at_array(one.present_shards[0].path, "vectors") + 3)
    for store in (one, two):
        assert len(store.serve(text_keys(words(0, 60)), LIMIT).vectors) == 60
        assert len(store.missing(text_keys(words(0, 60)), LIMIT)) == 20
    assert len(caplog.messages) == 1
    assert not two.refused


def test_two_damaged_shards_of_one_name_are_both_kept(filled):
    path = Store(filled).present_shards[0].path
    for content in (b"one", b"two"):
        path.write_bytes(content)
        Store(filled)
    assert sorted(file.read_bytes() for file in (filled / "quarantine").iterdir()) == [b"one", b"two"]


def test_what_is_not_a_shard_is_left_alone(filled):
    for name in ("notes.txt", ".draft-0123", ".hidden.safetensors"):
        (filled / name).write_text("?")
    (filled / "folder.safetensors").mkdir()
    store = Store(filled)
    assert store.rows == 60
    assert not (filled / "quarantine").exists()
    assert (filled / ".draft-0123").exists()


def test_a_shard_copied_from_another_encoder_is_not_believed(filled, tmp_path):
    path = Store(filled).present_shards[0].path
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / path.name).write_bytes(path.read_bytes())
    assert Store(tmp_path / "bert").rows == 0
    assert (tmp_path / "bert" / "quarantine" / path.name).exists()


def test_a_cache_can_be_moved(filled, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    filled.rename(tmp_path / "elsewhere" / "enc")
    assert Store(tmp_path / "elsewhere" / "enc").serve(text_keys(words(0, 60)), LIMIT).present.all()


def test_a_damaged_shard_that_cannot_be_moved_is_not_served_either(filled, monkeypatch, caplog):
    flip(Store(filled).present_shards[0].path, 300)

    def refusing(*args):
        raise PermissionError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "rename", refusing)
    store = Store(filled)
    for _ in range(3):
        store.refresh()
        assert store.serve(text_keys(words(0, 60)), LIMIT).present.sum() == 40
    assert len(caplog.messages) == 1
    assert "not served (cannot be moved away: Read-only file system)" in caplog.messages[0]
