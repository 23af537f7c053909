"""Weights that are quantised, there twice, too few for their config, or without a place in it are refused by name."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline import UserError
from pipeline.encoder import EncoderSpec, Runtime, locate, open_encoder

HUGE = 10**9


@pytest.fixture
def copy(tmp_path, tiny_distilbert) -> Path:
    return Path(shutil.copytree(tiny_distilbert, tmp_path / "copy"))


def change(folder: Path, make) -> None:
    file = folder / "model.safetensors"
    save_file(make(load_file(file)), file, {"format": "pt"})


def settle(folder: Path, **values) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | values), "utf-8")


def opened(folder: Path, cache: Path):
    return open_encoder(locate(EncoderSpec(str(folder))), ("cls",), "torch", "fp32", Runtime(), cache)


@pytest.mark.parametrize(("kind", "shown"), [(torch.int8, "I8"), (torch.uint8, "U8"), (torch.float8_e4m3fn, "F8_E4M3")])
def test_quantised_weights(copy, kind, shown):
    change(copy, lambda all: {key: value.to(kind) if "lin1.weight" in key else value for key, value in all.items()})
    with pytest.raises(UserError, match=rf"quantised \(transformer\.layer\.0\.ffn\.lin1\.weight is {shown}\)"):
        locate(EncoderSpec(str(copy)))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_are_weights_and_whole_numbers_may_be_positions(copy, tmp_path, kind):
    buffers = {"embeddings.position_ids": torch.arange(512)[None]}
    change(copy, lambda all: {key: value.to(kind) for key, value in all.items()} | buffers)
    assert opened(copy, tmp_path).engine == "torch"


@pytest.mark.parametrize("name", ["vocab_size", "max_position_embeddings", "dim", "hidden_dim", "n_layers"])
@pytest.mark.parametrize("value", [HUGE, 0, -1])
def test_sizes_that_the_weights_cannot_have(copy, name, value):
    settle(copy, **{name: value})
    with pytest.raises(UserError, match=f"asks for {name} {value}, which its weights"):
        locate(EncoderSpec(str(copy)))


def test_a_layer_that_the_config_leaves_out(copy, tmp_path):
    settle(copy, n_layers=1)
    with pytest.raises(UserError, match=r"no place for \(transformer\.layer\.1\..* and 13 more\)"):
        opened(copy, tmp_path)


@pytest.mark.parametrize(
    "name", ["classifier.weight", "vocab_projector.bias", "pooler.dense.weight", "criterion.sigma"]
)
def test_weights_of_a_head_are_left_out(copy, tmp_path, name):
    change(copy, lambda all: all | {name: torch.ones(3)})
    assert opened(copy, tmp_path).engine == "torch"


def test_two_encoders_in_one_file(copy):
    change(copy, lambda all: all | {f"distilbert.{key}": value * 2 for key, value in all.items()})
    with pytest.raises(UserError, match=r"the same weights twice, such as distilbert\."):
        locate(EncoderSpec(str(copy)))
