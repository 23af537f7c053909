"""Low-rank adapters are trained, merged, and leave a stock checkpoint that says what was judged."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from test_finetune import FAST, KilledError, dataset

from pipeline import UserError
from pipeline.encoder import Runtime
from pipeline.encoder.checkpoint import EncoderSpec, locate
from pipeline.finetune import fine_tune, load_finetuned
from pipeline.finetune.heads import HeadSpec, build, encoder_of, parameters
from pipeline.finetune.lora import add_adapters, merge

SETTINGS = replace(FAST, lora=4, learning_rate=2e-2, epochs=8)
TEXT = {"input_ids": torch.tensor([[2, 5, 6, 7, 3]]), "attention_mask": torch.ones(1, 5, dtype=torch.long)}


def names_in(file):
    with safe_open(file, "pt") as opened:
        return {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118


@pytest.mark.parametrize("encoder", ["tiny_distilbert", "tiny_bert", "tiny_roberta"])
@pytest.mark.parametrize("head", ["standard", "linear"])
def test_adapters_change_nothing_at_first_and_are_gone_when_merged(encoder, head, request):
    checkpoint = locate(EncoderSpec(str(request.getfixturevalue(encoder))))
    model = build(checkpoint, ("a", "b"), HeadSpec(head), 1).eval()
    names, whole, plain = list(model.state_dict()), parameters(model), model(**TEXT)["logits"]
    add_adapters(model, 2, 0)
    torch.testing.assert_close(model(**TEXT)["logits"], plain)
    learning = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert {"lora_A" in name or "lora_B" in name for name in learning if "encoder.layer" in name} <= {True}
    assert any("lora_A" in name for name in learning)
    assert any("lora" not in name for name in learning)  # the head
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.constant_(parameter, 0.05)
    adapted = model(**TEXT)["logits"]
    assert (adapted - plain).abs().max() > 1e-4
    merge(model)
    torch.testing.assert_close(model(**TEXT)["logits"], adapted)
    assert (list(model.state_dict()), parameters(model)) == (names, whole)
    assert not hasattr(encoder_of(model), "peft_config")


@pytest.mark.parametrize(("encoder", "head"), [("tiny_distilbert", "standard"), ("tiny_bert", "mlp")])
def test_it_learns_and_the_checkpoint_is_a_stock_one(encoder, head, request, tmp_path):
    checkpoint = locate(EncoderSpec(str(request.getfixturevalue(encoder))))
    run = fine_tune(dataset(), checkpoint, replace(SETTINGS, head=head), Runtime(), tmp_path / "lora")
    assert (run.kind, run.settings["lora"]) == ("fine-tune+lora", 4)
    assert run.metrics["test"]["accuracy"] > 0.9
    plain = fine_tune(dataset(), checkpoint, replace(FAST, head=head, epochs=1), Runtime(), tmp_path / "plain")
    for file in run.model_folder.glob("*.safetensors"):
        assert names_in(file) == names_in(plain.model_folder / file.name)
    assert not list(run.model_folder.glob("adapter*"))
    assert run.cost.trained_parameters < plain.cost.trained_parameters / 2
    proba = load_finetuned(run, cache=tmp_path).proba(dataset().test.texts)
    np.testing.assert_allclose(proba, run.predictions["test"].proba, atol=1e-6)


def test_interrupted_and_resumed_it_ends_the_same(tiny_distilbert, tmp_path):
    checkpoint = locate(EncoderSpec(str(tiny_distilbert)))
    whole = fine_tune(dataset(), checkpoint, SETTINGS, Runtime(), tmp_path / "whole")

    def kill(stage, done, total):
        if done == 25:
            raise KilledError

    with pytest.raises(KilledError):
        fine_tune(dataset(), checkpoint, SETTINGS, Runtime(), tmp_path / "killed", kill)
    seen = []
    run = fine_tune(dataset(), checkpoint, SETTINGS, Runtime(), tmp_path / "killed", lambda *told: seen.append(told[1]))
    assert seen == list(range(21, 81))
    np.testing.assert_array_equal(run.predictions["test"].proba, whole.predictions["test"].proba)


def test_rates_of_its_own_start_together(tiny_distilbert, tmp_path):
    checkpoint = locate(EncoderSpec(str(tiny_distilbert)))
    run = fine_tune(dataset(), checkpoint, replace(SETTINGS, learning_rate=None, epochs=2), Runtime(), tmp_path)
    assert [record["learning_rate"] for record in run.history if "search" in record] == [2e-4, 5e-4, 1e-3]


def test_without_peft_it_says_what_to_install(tiny_distilbert, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UserError, match=r"--lora needs peft: pip install 'probe-or-tune\[lora\]'"):
        fine_tune(dataset(), locate(EncoderSpec(str(tiny_distilbert))), SETTINGS, Runtime(), tmp_path)
