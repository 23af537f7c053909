"""Vectors encoded again: a sound cache passes, and one that was filled with other vectors does not."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline import UserError, silent
from pipeline.data import SourceOptions
from pipeline.encoder import EncoderSpec, Runtime
from pipeline.extract import extract_source
from pipeline.extract.recompute import TOLERANCE, insist, recompute
from pipeline.store import Store
from pipeline.store.upkeep import verify

EFFORT = Runtime(device="cpu", threads=1)


@pytest.fixture
def mails(tmp_path):
    file = tmp_path / "mails.csv"
    file.write_text("text\n" + "".join(f"call {i} now {'people want ' * (i % 9)}\n" for i in range(200)))
    return SourceOptions(str(file))


def spec(tiny, **wishes):
    return EncoderSpec(str(tiny), **({"engine": "torch", "precision": "fp32"} | wishes))


@pytest.mark.parametrize(
    ("wishes", "measure"),
    [
        ({}, "difference"),
        ({"engine": "openvino"}, "difference"),
        ({"pooling": ("cls+mean", "max"), "max_length": 16}, "difference"),
        ({"precision": "bf16"}, "cosine"),
        ({"storage": "float16"}, "difference"),
    ],
)
def test_a_sound_cache_passes(mails, tiny_distilbert, tmp_path, wishes, measure):
    wish = spec(tiny_distilbert, **wishes)
    extract_source(mails, wish, EFFORT, tmp_path / "cache", silent)
    found = recompute(mails, wish, EFFORT, tmp_path / "cache", rows=20)
    assert (found.within, found.rows, found.measure) == (True, 20, measure)
    assert found.smallest_cosine > 0.9995
    assert (found.largest_difference > TOLERANCE) == bool({"precision", "storage"} & wishes.keys())
    assert found.verdict.startswith("20 rows encoded again: largest difference")
    insist([found])
    assert set(found.to_json()) >= {"rows", "largest_difference", "smallest_cosine", "tolerance", "within"}


def shifted(embedding_cache, by: float) -> None:
    """Write the shelf's vectors again, all of them moved: no byte is damaged, and every check is right."""
    for store in embedding_cache.stores.values():
        (shard,) = store.present_shards
        places = store.positions_of(shard)
        rows, stored = store.read(places), store.index.keys[places].copy()
        store.remove(shard)
        store.commit(stored, rows.tokens, rows.vectors + np.float32(by), 1.0, shard.max_length)


@pytest.mark.parametrize(("wishes", "by"), [({}, 1e-4), ({"precision": "bf16"}, 0.5)])
def test_vectors_that_were_wrong_when_they_were_written_are_found(mails, tiny_distilbert, tmp_path, wishes, by):
    wish = spec(tiny_distilbert, **wishes)
    shifted(extract_source(mails, wish, EFFORT, tmp_path / "cache", silent).embedding_cache, by)
    (folder,) = (path for path in (tmp_path / "cache").iterdir() if Store(path).rows)
    assert verify(folder).sound  # the store's own checks cannot know
    found = recompute(mails, wish, EFFORT, tmp_path / "cache", rows=5)
    assert not found.within
    assert found.largest_difference >= by * 0.9
    assert found.worst.startswith("mails:")
    with pytest.raises(UserError, match=r"vectors in the cache are not what torch gives in .*extract again"):
        insist([found])


def test_one_wrong_row_is_found_if_every_row_is_compared(mails, tiny_distilbert, tmp_path):
    wish = spec(tiny_distilbert)
    (store,) = extract_source(mails, wish, EFFORT, tmp_path / "cache", silent).embedding_cache.stores.values()
    (shard,) = store.present_shards
    places = store.positions_of(shard)
    rows, stored = store.read(places), store.index.keys[places].copy()
    store.remove(shard)
    rows.vectors[70, 3] += np.float32(0.01)
    store.commit(stored, rows.tokens, rows.vectors, 1.0, shard.max_length)
    found = recompute(mails, wish, EFFORT, tmp_path / "cache", rows=1000)
    assert (found.rows, found.within) == (200, False)
    assert found.largest_difference == pytest.approx(0.01, abs=1e-5)


def test_the_sample_is_drawn_by_seed_from_what_is_there(mails, tiny_distilbert, tmp_path):
    wish, cache = spec(tiny_distilbert), tmp_path / "cache"
    with pytest.raises(UserError, match=r"mails\.csv: none of its rows is in the cache .*; run extract first"):
        recompute(mails, wish, EFFORT, cache, rows=5)
    extract_source(SourceOptions(mails.source, rows="first:30"), wish, EFFORT, cache, silent)
    found = [recompute(replace(mails, seed=seed), wish, EFFORT, cache, rows=100) for seed in (1, 1, 2)]
    assert [one.rows for one in found] == [30, 30, 30]
    assert found[0] == found[1]
    few = {recompute(replace(mails, seed=seed), wish, EFFORT, cache, rows=1).worst for seed in range(6)}
    assert len(few) > 1
    assert all(int(row.removeprefix("mails:")) < 30 for row in few)
