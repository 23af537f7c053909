"""What makes vectors the same and what does not: a cache that is asked for other vectors never gives these."""

import hashlib
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import make_distilbert
from safetensors.numpy import load_file, save_file
from test_extract import texts

from pipeline import hub, predict, silent
from pipeline.contenders import linear_runs
from pipeline.data import SourceOptions, read
from pipeline.encoder import EncoderSpec, Runtime, Variant, choose_backend, locate, vectors_digest
from pipeline.encoder.hardware import Backend, Hardware
from pipeline.extract import Extractor, extract_source
from pipeline.extract.embedding_cache import open_cache, open_variant
from pipeline.run import load_run
from pipeline.store import Store, text_keys
from pipeline.store.shard import DTYPES
from pipeline.store.upkeep import holdings
from pipeline.task import Task

EFFORT = Runtime(device="cpu", threads=1, shard_rows=64)
COMMIT, NEWER = "a" * 40, "b" * 40
PLAIN = Hardware(cores=2, cpu_bf16=False, cuda=None, mps=False)  # float32 and nothing else


def vectors(encoder, rows, cache, **wishes):
    """Vectors of rows in their own order, and what it took."""
    spec = EncoderSpec(str(encoder), **({"engine": "torch", "precision": "fp32"} | wishes))
    extractor = Extractor(locate(spec), spec, EFFORT, cache, silent, text_keys(rows))
    done = extractor.run([rows], len(rows))
    return extractor.embedding_cache.serve(text_keys(rows), spec.pooling[0]).vectors, done


def digests(encoder, pooling="cls"):
    """Both digests of an encoder, as a run and a folder in the cache know it."""
    here = locate(EncoderSpec(str(encoder)))
    return here.checkpoint_digest(pooling), vectors_digest(here, pooling, Variant("torch", "fp32"))


# ── the checkpoint ──────────────────────────────────────────────────────────────────────────────────────────────────


def one_weight(folder):
    arrays = load_file(folder / "model.safetensors")
    arrays["transformer.layer.1.ffn.lin2.bias"][0] = np.nextafter(arrays["transformer.layer.1.ffn.lin2.bias"][0], 9)
    save_file(arrays, folder / "model.safetensors", {"format": "pt"})


def one_setting(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"activation": "relu"}))


def one_word(folder):
    tokenizer = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["happy"], vocabulary["sad"] = vocabulary["sad"], vocabulary["happy"]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), "utf-8")


@pytest.mark.parametrize("change", [one_weight, one_setting, one_word])
def test_another_checkpoint_is_never_served_the_vectors_of_this_one(tiny_distilbert, tmp_path, change):
    rows = [*texts(20), ("happy",)]
    copy = Path(shutil.copytree(tiny_distilbert, tmp_path / "copy"))
    assert digests(copy) == digests(tiny_distilbert)
    before, _ = vectors(copy, rows, tmp_path / "cache")
    change(copy)
    assert not set(digests(copy)) & set(digests(tiny_distilbert))
    after, done = vectors(copy, rows, tmp_path / "cache")
    assert done.encoded == 21
    fresh, _ = vectors(copy, rows, tmp_path / "fresh")
    np.testing.assert_array_equal(after, fresh)
    assert change is one_weight or np.abs(after[20] - before[20]).max() > 1e-3


def test_each_pooling_has_both_digests_of_its_own(tiny_bert):
    found = [digests(tiny_bert, pooling) for pooling in ("cls", "mean", "max", "cls+mean")]
    assert len({digest for both in found for digest in both}) == 8


def as_hub_cache(checkpoint: Path, home: Path, commit: str) -> Path:
    """The same files as huggingface_hub keeps them: blobs by digest, and links to them by name."""
    snapshot = home / "snapshots" / commit
    for folder in (home / "blobs", snapshot, home / "refs"):
        folder.mkdir(parents=True, exist_ok=True)
    for file in checkpoint.iterdir():
        blob = home / "blobs" / hashlib.sha256(file.read_bytes()).hexdigest()
        shutil.copyfile(file, blob)
        os.symlink(Path("../../blobs") / blob.name, snapshot / file.name)
    (home / "refs" / "main").write_text(commit)
    return snapshot


def test_renamed_moved_or_fetched_again_it_is_the_same_checkpoint(tiny_distilbert, tmp_path, monkeypatch):
    rows = texts(20)
    first, _ = vectors(tiny_distilbert, rows, tmp_path / "cache")
    moved = Path(shutil.copytree(tiny_distilbert, tmp_path / "elsewhere" / "under another name"))
    for file in moved.iterdir():
        os.utime(file, (1e9, 1e9))
    config = json.loads((moved / "config.json").read_text())
    again = {"transformers_version": "9.0", "_name_or_path": "somewhere"} | dict(reversed(config.items()))
    (moved / "config.json").write_text(json.dumps(again, indent=8))  # as save_pretrained would write it
    linked = as_hub_cache(tiny_distilbert, tmp_path / "hub" / "models--owner--tiny", COMMIT)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    for same in (moved, linked, "owner/tiny"):
        assert digests(same) == digests(tiny_distilbert)
        found, done = vectors(same, rows, tmp_path / "cache")
        assert done.encoded == 0
        np.testing.assert_array_equal(found, first)


def test_a_tag_that_moved_is_another_checkpoint(tiny_distilbert, tmp_path, monkeypatch):
    rows, home = texts(20), tmp_path / "hub" / "models--owner--tiny"
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    as_hub_cache(tiny_distilbert, home, COMMIT)
    before, first = digests("owner/tiny"), vectors("owner/tiny", rows, tmp_path / "cache")[0]
    as_hub_cache(make_distilbert(tmp_path / "newer", seed=9), home, NEWER)
    hub._snapshot.cache_clear()  # another process: within one, a name stays what it was
    assert not set(digests("owner/tiny")) & set(before)
    found, done = vectors("owner/tiny", rows, tmp_path / "cache")
    assert done.encoded == 20
    assert np.abs(found - first).max() > 1e-3
    (home / "refs" / "main").write_text(COMMIT)  # and back
    hub._snapshot.cache_clear()
    assert digests("owner/tiny") == before
    assert vectors("owner/tiny", rows, tmp_path / "cache")[1].encoded == 0


# ── how it was computed, and how it is kept ─────────────────────────────────────────────────────────────────────────


def test_all_that_moves_a_number_names_another_folder(tiny_distilbert):
    here = locate(EncoderSpec(str(tiny_distilbert)))
    ways = [
        vectors_digest(here, "cls", Variant(engine, precision, calibration, storage, cls_only))
        for engine in ("torch", "openvino")
        for precision in ("fp32", "bf16", "fp16", "int8")
        for calibration in (None, "one", "another")
        for storage in DTYPES
        for cls_only in (False, True)
    ]
    # float32 does not show whether the last layer was computed for [CLS] alone: half of its 24 are the same
    assert len(set(ways)) == 2 * 4 * 3 * 2 * 2 - 2 * 3 * 2


def test_what_only_the_clock_depends_on_names_none(tiny_distilbert, tmp_path):
    spec = EncoderSpec(str(tiny_distilbert), engine="torch", precision="fp32")
    efforts = (Runtime(), Runtime("cpu", 64, 1, 10, 0.5), Runtime("cpu", 4096, 2))
    found = {open_cache(locate(spec), spec, runtime, tmp_path).digest("cls") for runtime in efforts}
    on_gpu = Backend("torch", "fp32", "cuda", ""), Variant("torch", "fp32")
    found.add(open_variant(locate(spec), ("cls",), *on_gpu, tmp_path).digest("cls"))
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("text\nhappy film\n")
        found.add(
            extract_source(SourceOptions(str(tmp_path / name)), spec, EFFORT, tmp_path, silent).embedding_cache.digest(
                "cls"
            )
        )
    assert len(found) == 1


def test_each_engine_and_precision_keeps_its_own_vectors(tiny_distilbert, tmp_path):
    rows = texts(30)
    ways = [("torch", "fp32"), ("openvino", "fp32"), ("torch", "bf16")]
    found = [vectors(tiny_distilbert, rows, tmp_path, engine=e, precision=p) for e, p in ways]
    assert [done.encoded for _, done in found] == [30, 30, 30]
    again = [vectors(tiny_distilbert, rows, tmp_path, engine=e, precision=p) for e, p in ways]
    assert [done.encoded for _, done in again] == [0, 0, 0]
    for (first, _), (second, _) in zip(found, again, strict=True):
        np.testing.assert_array_equal(first, second)
    assert np.abs(found[0][0] - found[2][0]).max() > 1e-4  # bfloat16 is not float32


def test_float16_storage_is_a_folder_of_its_own_and_half_as_large(tiny_distilbert, tmp_path):
    rows = texts(200)
    exact, _ = vectors(tiny_distilbert, rows, tmp_path)
    rounded, done = vectors(tiny_distilbert, rows, tmp_path, storage="float16")
    assert done.encoded == 200
    assert rounded.dtype == np.float32
    np.testing.assert_array_equal(rounded, exact.astype(np.float16).astype(np.float32))
    found = {holding.about["storage"]: holding for holding in holdings(tmp_path) if holding.rows}
    assert {name: holding.rows for name, holding in found.items()} == {"float32": 200, "float16": 200}
    assert Store(found["float16"].folder).dtype == "float16"
    assert found["float32"].bytes - found["float16"].bytes == pytest.approx(200 * 32 * 2, rel=0.1)
    assert [vectors(tiny_distilbert, rows, tmp_path, storage=name)[1].encoded for name in DTYPES] == [0, 0]


def test_a_storage_that_there_is_not_is_answered_with_the_list(tiny_distilbert, tmp_path):
    with pytest.raises(Exception, match="no storage of vectors 'float8'; choose one of float32, float16"):
        vectors(tiny_distilbert, texts(2), tmp_path, storage="float8")


# ── the text ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_where_one_text_of_a_pair_ends_counts(tiny_bert, tmp_path):
    rows = [("ab", "c"), ("a", "bc"), ("abc",), ("abc", "")]
    assert len(np.unique(text_keys(rows), axis=0)) == 4
    found, done = vectors(tiny_bert, rows, tmp_path)
    assert done.encoded == 4
    assert len(np.unique(found.round(4), axis=0)) == 4
    np.testing.assert_array_equal(vectors(tiny_bert, rows[::-1], tmp_path)[0], found[::-1])


def pairs(count, seed=0):
    """Pairs of every length from a few tokens to more than 200, either text the longer one."""
    random = np.random.default_rng(seed)
    words = ["happy", "film", "boring", "people", "call", "prize", "night"]
    lengths = random.integers(1, 110, (count, 2))
    return [tuple(f"{i} " + " ".join(random.choice(words, n)) for n in both) for i, both in enumerate(lengths)]


@pytest.mark.parametrize("encoder", ["tiny_distilbert", "tiny_bert", "tiny_roberta"])
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_a_longer_limit_encodes_only_the_pairs_that_were_cut(encoder, pooling, tmp_path, request):
    folder, rows = request.getfixturevalue(encoder), pairs(60)
    wish = {"pooling": (pooling,)}
    short, first = vectors(folder, rows, tmp_path / "both", max_length=128, **wish)
    longer, second = vectors(folder, rows, tmp_path / "both", max_length=512, **wish)
    fresh, _ = vectors(folder, rows, tmp_path / "fresh", max_length=512, **wish)
    assert first.encoded == 60
    assert 10 < second.encoded == first.truncated_rows < 60
    np.testing.assert_allclose(longer, fresh, atol=1e-5)
    same = (short == longer).all(1)
    assert int((~same).sum()) == first.truncated_rows  # and the others are the very bytes that 128 wrote
    again, third = vectors(folder, rows, tmp_path / "both", max_length=128, **wish)
    assert third.encoded == 0
    np.testing.assert_array_equal(again, short)


# ── a run meets other vectors ───────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def mails(tmp_path):
    rows = [f"{'win a free prize' if i % 2 else 'come home after work'} {i},{'ab'[i % 2]}\n" for i in range(120)]
    (tmp_path / "mails.csv").write_text("text,label\n" + "".join(rows))
    return read(SourceOptions(str(tmp_path / "mails.csv")))


@pytest.mark.parametrize(
    ("made", "note"),
    [
        ({"precision": "bf16"}, "fitted on bf16 vectors, predicting from fp32 ones"),
        ({"precision": "fp32"}, None),
    ],
)
def test_a_run_fitted_on_other_vectors_predicts_with_a_note(
    mails, tiny_distilbert, tmp_path, monkeypatch, caplog, made, note
):
    spec = EncoderSpec(str(tiny_distilbert), engine="torch", **made)
    (run,) = linear_runs(
        Task(mails, encoders=(spec,), runtime=EFFORT, cache=tmp_path / "cache", runs=tmp_path / "runs")
    )
    monkeypatch.setattr(
        predict.models,
        "choose_backend",
        lambda engine, precision, device: choose_backend(engine, precision, device, PLAIN),
    )
    caplog.set_level("INFO", "pipeline")
    model = predict.open_run(load_run(run.folder), EFFORT, tmp_path / "cache")
    assert (model.model.encoder.engine, model.model.encoder.precision) == ("openvino", "fp32")  # type: ignore[attr-defined]
    assert [r.getMessage() for r in caplog.records if "predicting from" in r.getMessage()] == ([note] if note else [])
    kept = run.predictions["test"]
    proba = model.proba(mails.test.texts)
    np.testing.assert_allclose(proba, kept.proba, atol=0.05 if note else 1e-4)
    np.testing.assert_array_equal(proba.argmax(1), kept.proba.argmax(1))


def test_a_run_fitted_on_rounded_vectors_says_so_when_it_predicts(mails, tiny_distilbert, tmp_path, caplog):
    spec = EncoderSpec(str(tiny_distilbert), engine="torch", precision="fp32", storage="float16")
    (run,) = linear_runs(
        Task(mails, encoders=(spec,), runtime=EFFORT, cache=tmp_path / "cache", runs=tmp_path / "runs")
    )
    fitted = load_run(run.folder)
    caplog.set_level("INFO", "pipeline")
    fitted = replace(fitted, settings=fitted.settings | {"storage": "float16"})
    proba = predict.open_run(fitted, EFFORT, tmp_path / "cache").proba(mails.test.texts)
    assert "fitted on vectors kept as float16, predicting from ones that are not rounded" in caplog.text
    np.testing.assert_allclose(proba, run.predictions["test"].proba, atol=0.01)


def test_which_end_of_a_text_is_cut_is_part_of_the_encoder(tiny_distilbert, tmp_path):
    right, left = (shutil.copytree(tiny_distilbert, tmp_path / side) for side in ("right", "left"))
    for folder, side in ((right, "right"), (left, "left")):
        file = folder / "tokenizer_config.json"
        told = json.loads(file.read_text()) if file.exists() else {}
        file.write_text(json.dumps(told | {"truncation_side": side}))
    digests = [locate(EncoderSpec(str(folder))).checkpoint_digest("cls") for folder in (tiny_distilbert, right, left)]
    assert digests[0] == digests[1] != digests[2]
