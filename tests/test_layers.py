"""The layers below those that are trained run once, and training on what they make is training the encoder."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_finetune import FAST, dataset

from pipeline.encoder import Runtime
from pipeline.encoder.checkpoint import EncoderSpec, locate
from pipeline.finetune import fine_tune, layers, tuned_fit
from pipeline.finetune.device import Machine
from pipeline.finetune.heads import HeadSpec, build
from pipeline.finetune.layers import freeze_below
from pipeline.finetune.training import Rows
from pipeline.finetune.work import Places

SETTINGS = replace(FAST, unfreeze=1, epochs=2)


def kept(folder):
    return list((folder / "states").glob("*"))


@pytest.mark.parametrize("encoder", ["tiny_distilbert", "tiny_bert"])
@pytest.mark.parametrize(("head", "rate"), [("standard", 1e-3), ("linear", None)])
def test_training_on_kept_states_is_training_the_encoder(encoder, head, rate, request, tmp_path):
    checkpoint = locate(EncoderSpec(str(request.getfixturevalue(encoder))))
    settings, data = replace(SETTINGS, head=head, learning_rate=rate), dataset(pairs=encoder == "tiny_bert")
    plain = fine_tune(data, checkpoint, settings, Runtime(), tmp_path / "plain")
    run = tuned_fit(data, checkpoint, settings, Runtime(), Places(tmp_path / "runs", tmp_path / "cache")).run()
    assert len(kept(tmp_path / "cache")) == 1
    assert run.settings["chosen"]["learning_rate"] == plain.settings["chosen"]["learning_rate"]
    for one, other in zip(run.history, plain.history, strict=True):
        if one.get("epoch"):
            assert one["loss"] == pytest.approx(other["loss"], abs=5e-5)
    np.testing.assert_allclose(run.predictions["test"].proba, plain.predictions["test"].proba, atol=1e-4)
    assert (
        abs(run.history[-1]["validation"]["log_loss"] - run.history[-3]["validation"]["log_loss"]) > 4e-4
    )  # it learnt
    assert run.cost.trained_parameters == plain.cost.trained_parameters


def test_states_are_computed_once_for_a_set_of_texts_and_again_where_damaged(tiny_bert, tmp_path, monkeypatch, caplog):
    checkpoint, places = locate(EncoderSpec(str(tiny_bert))), Places(tmp_path / "runs", tmp_path / "cache")
    computed, compute = [], layers.Below.compute

    def counted(self, rows, *rest):
        computed.append(len(rows))
        return compute(self, rows, *rest)

    monkeypatch.setattr(layers.Below, "compute", counted)

    def fit(**changes):
        return tuned_fit(dataset(), checkpoint, replace(SETTINGS, **changes), Runtime(), places).run()

    first = fit()
    texts = {text for rows in dataset().splits.values() for text in rows.texts}
    assert computed == [len(texts)]  # each text once, however often it stands there
    fit(seed=1)
    assert computed == [len(texts)]
    (file,) = kept(places.cache)
    damaged = bytearray(file.read_bytes())
    damaged[-3] ^= 4
    file.write_bytes(damaged)
    places = replace(places, runs=tmp_path / "again")
    again = fit()
    assert computed == [len(texts)] * 2
    assert "damaged states" in caplog.text
    np.testing.assert_array_equal(again.predictions["test"].proba, first.predictions["test"].proba)


@pytest.mark.parametrize("why", ["large", "disk", "architecture"])
def test_where_states_cannot_be_kept_every_epoch_computes_them(why, tiny_bert, tmp_path, monkeypatch):
    checkpoint, places = locate(EncoderSpec(str(tiny_bert))), Places(tmp_path / "runs", tmp_path / "cache")
    if why == "large":
        monkeypatch.setattr(layers, "LARGEST", 100)
    elif why == "disk":
        (tmp_path / "cache").write_text("a file")
    else:
        monkeypatch.setattr(layers, "TOLERANCE", -1.0)
    plain = fine_tune(dataset(), checkpoint, SETTINGS, Runtime(), tmp_path / "plain")
    run = tuned_fit(dataset(), checkpoint, SETTINGS, Runtime(), places).run()
    np.testing.assert_array_equal(run.predictions["test"].proba, plain.predictions["test"].proba)


def test_states_that_are_not_those_below_are_noticed(tiny_bert):
    checkpoint = locate(EncoderSpec(str(tiny_bert)))
    model, here = build(checkpoint, ("a", "b"), HeadSpec(), 0), Machine("cpu", "fp32")
    words = [np.array([2, 7, 8, 9, 3]), np.array([2, 11, 3]), np.array([2, 12, 13, 3])]
    rows = Rows(words, None, np.zeros(3, np.int64), pad_id=0)
    below = layers.Below(checkpoint, Path(), 1, "fp32")
    states = np.split(below.compute(rows, np.array([5, 8, 12]), model, here), [5, 8])
    upper = layers.upper_part(model, 1)
    assert layers.computes_the_same(model, upper, replace(rows, states=states), here)
    assert not layers.computes_the_same(model, layers.upper_part(model, 2), replace(rows, states=states), here)
    states[2] = states[2][::-1]
    assert not layers.computes_the_same(model, upper, replace(rows, states=states), here)


def test_what_is_frozen_drops_nothing_out(tiny_bert):
    import torch

    model = build(locate(EncoderSpec(str(tiny_bert))), ("a", "b"), HeadSpec("linear"), 0)
    freeze_below(model, 1)
    model.train()
    seen = []
    layers.layers_of(model)[1].register_forward_pre_hook(lambda module, given: seen.append(given[0].detach()))
    words = {"input_ids": torch.tensor([[2, 7, 8, 3]]), "attention_mask": torch.ones(1, 4, dtype=torch.long)}
    answers = [model(**words)["logits"] for _ in range(2)]
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(answers[0], answers[1])  # above, it does
