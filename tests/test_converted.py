import json
import os
from dataclasses import replace

import numpy as np
import pytest
from conftest import SENTENCES

from pipeline import UserError
from pipeline.encoder import EncoderSpec, Runtime, converted, locate, open_encoder, tokenizer
from pipeline.encoder.pooling import POOLERS
from pipeline.estimates import setup_seconds

pytest.importorskip("openvino", reason="openvino is not installed")
EFFORT = Runtime(device="cpu", threads=1)


@pytest.fixture
def found(tiny_bert):
    return locate(EncoderSpec(str(tiny_bert)))


@pytest.fixture(scope="module")
def made():
    """Models that were converted before, by poolings: converting one takes a second."""
    return {}


@pytest.fixture(autouse=True)
def converted_once(monkeypatch, made):
    convert = converted.convert

    def remembering(checkpoint, poolings):
        key = (poolings, checkpoint.max_length)
        if key not in made:
            made[key] = convert(checkpoint, poolings)
        return made[key]

    monkeypatch.setattr(converted, "convert", remembering)


def encoded(found, cache, poolings=("cls",), engine="openvino"):
    encoder = open_encoder(found, poolings, engine, "fp32", EFFORT, cache)
    return encoder.encode_all(tokenizer(found).encode([(text,) for text in SENTENCES]))


def files(found, cache):
    return sorted(file.name for file in converted.home_of(found, cache).iterdir())


def test_it_is_converted_once(found, tmp_path, monkeypatch):
    first = encoded(found, tmp_path)
    assert files(found, tmp_path) == ["cls.bin", "cls.json", "cls.xml"]
    monkeypatch.setattr(converted, "convert", None)
    assert (encoded(found, tmp_path)["cls"] == first["cls"]).all()


def test_a_new_row_in_the_table_is_a_new_pooling_also_where_a_model_was_kept_without_it(found, tmp_path, monkeypatch):
    mean = encoded(found, tmp_path, ("mean",))["mean"]
    monkeypatch.setitem(POOLERS, "double", lambda hidden, mask: 2 * POOLERS["mean"](hidden, mask))
    for engine in ("openvino", "torch"):
        both = encoded(found, tmp_path, ("double", "mean"), engine)
        np.testing.assert_allclose(both["double"], 2 * mean, atol=1e-5)
        np.testing.assert_allclose(both["mean"], mean, atol=1e-5)
    monkeypatch.setattr(converted, "convert", None)  # and the new model serves all of them
    assert encoded(found, tmp_path, ("max", "double")).keys() == {"max", "double"}


def test_two_models_serve_every_pooling(found, tmp_path, monkeypatch):
    encoded(found, tmp_path)
    every = encoded(found, tmp_path, ("cls", "mean", "max"))
    monkeypatch.setattr(converted, "convert", None)
    assert (encoded(found, tmp_path, ("max",))["max"] == every["max"]).all()
    assert [name for name in files(found, tmp_path) if name.endswith(".xml")] == ["all.xml", "cls.xml"]


def test_weights_stay_float32(found, tmp_path, tiny_bert):
    from safetensors.numpy import load_file

    encoded(found, tmp_path)
    kept = (converted.home_of(found, tmp_path) / "cls.bin").read_bytes()
    for name in ("embeddings.word_embeddings.weight", "encoder.layer.0.intermediate.dense.weight"):
        assert load_file(tiny_bert / "model.safetensors")[name].tobytes() in kept


@pytest.mark.parametrize("file", ["cls.bin", "cls.xml"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_a_damaged_model_is_put_aside_and_made_again(found, tmp_path, caplog, file, damage):
    expected, place = encoded(found, tmp_path), converted.home_of(found, tmp_path) / file
    content = bytearray(place.read_bytes())
    if damage == "remove":
        place.unlink()
    else:
        content[len(content) // 2] ^= 1
        place.write_bytes(content if damage == "flip" else content[:-5])
    caplog.set_level("INFO", "pipeline")
    assert (encoded(found, tmp_path)["cls"] == expected["cls"]).all()
    (note,) = [record.getMessage() for record in caplog.records if "damaged" in record.getMessage()]
    assert "cls.xml: damaged" in note
    assert "made again" in note
    assert [name for name in files(found, tmp_path) if not name.startswith("damaged-")] == [
        "cls.bin",
        "cls.json",
        "cls.xml",
    ]
    assert any(name.startswith("damaged-") for name in files(found, tmp_path))  # kept, for someone to look at


@pytest.mark.parametrize("text", ["{", "[]", f'{{"format": {converted.FORMAT}}}', ""])
def test_a_damaged_record_is_no_record(found, tmp_path, caplog, text):
    expected = encoded(found, tmp_path)
    (converted.home_of(found, tmp_path) / "cls.json").write_text(text)
    assert (encoded(found, tmp_path)["cls"] == expected["cls"]).all()
    assert "damaged" in caplog.text


def test_a_model_of_another_version_is_made_again(found, tmp_path, caplog):
    encoded(found, tmp_path)
    record = converted.home_of(found, tmp_path) / "cls.json"
    for version in (0, converted.FORMAT + 1):
        facts = {key: fact for key, fact in json.loads(record.read_text()).items() if key != "check"}
        facts["format"] = version
        record.write_text(json.dumps(facts | {"check": converted.digest_of(facts)}))
        encoded(found, tmp_path)
        assert json.loads(record.read_text())["format"] == converted.FORMAT
    assert "damaged" not in caplog.text


def test_no_byte_of_the_record_can_change_unnoticed(found, tmp_path, caplog):
    encoded(found, tmp_path)
    home = converted.home_of(found, tmp_path)
    whole = {name: (home / name).read_bytes() for name in files(found, tmp_path)}
    meant = json.loads(whole["cls.json"])
    for at in range(0, len(whole["cls.json"]), 7):
        for name, content in whole.items():
            (home / name).write_bytes(content)
        changed = bytearray(whole["cls.json"])
        changed[at] ^= 1
        (home / "cls.json").write_bytes(changed)
        caplog.clear()
        served = converted.load(home, "cls")
        if served is None:
            assert len(caplog.records) == 1
            assert "cls.json" not in files(found, tmp_path)  # put aside
        else:
            assert served[1] | {"check": meant["check"]} == meant  # only space between two words was hit


def test_without_the_record_there_is_no_model(found, tmp_path):
    """The record is written last: a conversion that was killed before leaves nothing that is used."""
    expected, home = encoded(found, tmp_path), converted.home_of(found, tmp_path)
    (home / "cls.json").unlink()
    (home / ".draft-0123.bin").write_bytes(b"left behind")
    assert (encoded(found, tmp_path)["cls"] == expected["cls"]).all()
    assert "cls.json" in files(found, tmp_path)


def test_a_full_disk_costs_only_time(found, tmp_path, monkeypatch, caplog):
    import openvino

    expected, save = encoded(found, tmp_path / "other"), openvino.save_model
    cache = tmp_path / "full"

    def refuse(model, place, **settings):
        if str(place).startswith(str(cache)):
            raise RuntimeError("cannot write")
        save(model, place, **settings)

    monkeypatch.setattr(openvino, "save_model", refuse)
    assert (encoded(found, cache)["cls"] == expected["cls"]).all()
    assert "the converted model cannot be kept (no room to write it)" in caplog.text
    assert files(found, cache) == []
    monkeypatch.setattr(converted.tempfile, "mkdtemp", lambda prefix: str(cache / "temporary"))
    with pytest.raises(UserError, match="no room for the converted model"):
        encoded(found, cache)


def test_a_cache_that_takes_no_files_costs_only_time(found, tmp_path, caplog):
    """A file where the folder should be: root, who may write into any folder, meets an error here too."""
    (tmp_path / "models").write_text("in the way")
    assert encoded(found, tmp_path)["cls"].shape == (len(SENTENCES), 32)
    assert "cannot be kept" in caplog.text


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_cache_costs_only_time(found, tmp_path, caplog):
    tmp_path.chmod(0o500)
    assert encoded(found, tmp_path)["cls"].shape == (len(SENTENCES), 32)
    assert "cannot be kept" in caplog.text


def test_an_estimate_knows_whether_the_encoder_is_converted(tiny_bert, tmp_path):
    spec = EncoderSpec(str(tiny_bert), engine="openvino", precision="fp32")
    here = locate(spec)
    new = setup_seconds(here, spec, Runtime(), tmp_path)
    assert new == pytest.approx(10.5, abs=0.1)
    assert setup_seconds(here, replace(spec, engine="torch"), Runtime(), tmp_path) == 1.5
    open_encoder(here, ("cls",), "openvino", "fp32", Runtime(), tmp_path)
    assert setup_seconds(here, spec, Runtime(), tmp_path) == 1.5
