"""Every architecture gets every head, keeps it through a folder, and starts where a fitted regression ended."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline import UserError
from pipeline.encoder import Runtime
from pipeline.encoder.checkpoint import EncoderSpec, locate
from pipeline.encoder.tokens import tokenizer
from pipeline.finetune import fine_tune, load_finetuned
from pipeline.finetune.device import Machine
from pipeline.finetune.heads import (
    HEADS,
    HeadSpec,
    build,
    encoder_of,
    folded,
    linear_head,
    parameters,
    read,
    write,
)
from pipeline.finetune.layers import freeze_below, layers_of
from pipeline.finetune.training import logits, tokenised
from pipeline.linear.probe import LinearModel

NAMES = ("no", "yes", "maybe")
TEXTS = [("i feel good", "you win a prize"), ("a", "the film was boring and the plot too"), ("", "wow")]
CPU = Machine("cpu", "fp32")


def others():
    """Configurations of architectures that have no fixture, by name."""
    from transformers import DebertaV2Config, ElectraConfig, ModernBertConfig

    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    return {
        "deberta": DebertaV2Config(**small, relative_attention=True, pos_att_type=["p2c", "c2p"], type_vocab_size=0),
        "electra": ElectraConfig(**small, embedding_size=16),
        "modernbert": ModernBertConfig(
            **small, pad_token_id=0, cls_token_id=2, sep_token_id=3, bos_token_id=2, eos_token_id=3
        ),
    }


@pytest.fixture(scope="session")
def architectures(tiny_distilbert, tiny_bert, tiny_roberta, tmp_path_factory):
    """Folder of a tiny checkpoint of every architecture, by name."""
    import shutil

    import torch
    from transformers import AutoModel

    folders = {"distilbert": tiny_distilbert, "bert": tiny_bert, "roberta": tiny_roberta}
    for name, config in others().items():
        folder = tmp_path_factory.mktemp("architectures") / name
        torch.manual_seed(0)
        AutoModel.from_config(config, dtype=torch.float32).save_pretrained(folder)
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copyfile(tiny_bert / file, folder / file)
        folders[name] = folder
    return folders


ARCHITECTURES = ("distilbert", "bert", "roberta", "deberta", "electra", "modernbert")


def rows_of(checkpoint):
    return tokenised(TEXTS, np.zeros(len(TEXTS), np.int64), tokenizer(checkpoint), 64, checkpoint.pad_id)


def cls_vectors(checkpoint):
    """What transformers itself says, text by text (n, d)."""
    import torch
    from transformers import AutoModel

    model = AutoModel.from_pretrained(checkpoint.folder, dtype=torch.float32, local_files_only=True).eval()
    rows, out = rows_of(checkpoint), []
    for i in range(len(rows)):
        types = {} if rows.types is None else {"token_type_ids": torch.from_numpy(rows.types[i])[None]}
        with torch.no_grad():
            out.append(model(input_ids=torch.from_numpy(rows.ids[i])[None], **types)[0][0, 0].numpy())
    return np.stack(out)


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("head", HEADS)
def test_a_model_is_the_same_after_its_folder(name, head, architectures, tmp_path):
    checkpoint = locate(EncoderSpec(str(architectures[name])))
    spec = HeadSpec(head, xavier=True)
    model = build(checkpoint, NAMES, spec, seed=3)
    before = logits(model, rows_of(checkpoint), CPU)
    assert before.shape == (3, 3)
    write(model, checkpoint, NAMES, spec, tmp_path)
    placed = locate(EncoderSpec(str(tmp_path)))
    np.testing.assert_allclose(logits(read(placed, NAMES), rows_of(placed), CPU), before, atol=1e-6)
    assert (linear_head(tmp_path) is not None) == (head == "linear")


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_linear_head_starts_where_the_regression_ended(name, architectures):
    checkpoint = locate(EncoderSpec(str(architectures[name])))
    random = np.random.default_rng(0)
    start = LinearModel(
        random.normal(size=(3, 32)).astype("f4"),
        random.normal(size=3).astype("f4"),
        random.normal(size=32).astype("f4"),
        random.uniform(0.5, 2, 32).astype("f4"),
        NAMES,
        checkpoint.checkpoint_digest("cls"),
    )
    model = build(checkpoint, NAMES, HeadSpec("linear", start=start), seed=0)
    found = logits(model, rows_of(checkpoint), CPU)
    np.testing.assert_allclose(found, start.logits(cls_vectors(checkpoint)), atol=1e-4)


def test_a_regression_of_another_encoder_or_pooling_is_refused(tiny_distilbert):
    checkpoint = locate(EncoderSpec(str(tiny_distilbert)))
    arrays = np.zeros((3, 32), "f4"), np.zeros(3, "f4"), np.zeros(32, "f4"), np.ones(32, "f4")
    with pytest.raises(UserError, match="checkpoint other"):
        build(checkpoint, NAMES, HeadSpec("linear", start=LinearModel(*arrays, NAMES, "other")), seed=0)
    with pytest.raises(UserError, match="--pooling cls"):
        build(checkpoint, NAMES, HeadSpec("linear", start=LinearModel(*arrays, NAMES, None, "mean")), seed=0)
    with pytest.raises(UserError, match="--head linear"):
        build(checkpoint, NAMES, HeadSpec("mlp", start=LinearModel(*arrays, NAMES)), seed=0)


def test_the_scaler_is_folded_in():
    model = LinearModel(
        np.array([[2.0, 0], [0, 4]], "f4"),
        np.zeros(2, "f4"),
        np.array([1.0, 3], "f4"),
        np.array([2.0, 4], "f4"),
        NAMES[:2],
    )
    weight, bias = folded(model)
    assert weight.tolist() == [[1, 0], [0, 1]]
    assert bias.tolist() == [-1, -3]


def test_the_seed_decides_new_weights_and_touches_nothing_else(tiny_distilbert):
    import torch

    checkpoint = locate(EncoderSpec(str(tiny_distilbert)))
    torch.manual_seed(5)
    expected = torch.rand(1).item()
    torch.manual_seed(5)
    one, same, other = (build(checkpoint, NAMES, HeadSpec(), seed) for seed in (1, 1, 2))
    assert torch.rand(1).item() == expected
    assert torch.equal(one.classifier.weight, same.classifier.weight)
    assert not torch.equal(one.classifier.weight, other.classifier.weight)


def test_dropout_reaches_the_architecture_s_own_head(tiny_distilbert, tiny_bert):
    distilbert = build(locate(EncoderSpec(str(tiny_distilbert))), NAMES, HeadSpec(dropout=0.35), 0)
    bert = build(locate(EncoderSpec(str(tiny_bert))), NAMES, HeadSpec(dropout=0.35), 0)
    assert (distilbert.dropout.p, bert.dropout.p) == (0.35, 0.35)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_only_the_last_layers_learn(name, architectures):
    model = build(locate(EncoderSpec(str(architectures[name]))), NAMES, HeadSpec("linear"), 0)
    every = parameters(model)
    freeze_below(model, 1)
    first, last = layers_of(model)
    assert parameters(first, trained=True) == 0
    assert parameters(last, trained=True) == parameters(last)
    head = 3 * 32 + 3
    assert parameters(last) + head <= parameters(model, trained=True) < every
    with pytest.raises(UserError, match="has 2 layers"):
        freeze_below(model, 3)


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("pairs", [False, True])
def test_every_architecture_learns(name, pairs, architectures, tmp_path):
    from test_finetune import FAST, dataset

    rate = 1e-2 if name == "distilbert" else 5e-3
    settings = replace(FAST, epochs=8, learning_rate=rate)
    checkpoint = locate(EncoderSpec(str(architectures[name])))
    run = fine_tune(dataset(pairs), checkpoint, settings, Runtime(), tmp_path)
    assert run.metrics["test"]["accuracy"] >= 0.9
    proba = load_finetuned(run, cache=tmp_path).proba(dataset(pairs).test.texts)
    np.testing.assert_allclose(proba, run.predictions["test"].proba, atol=1e-5)


def test_an_encoder_without_a_classifier_is_refused(tiny_distilbert, tmp_path):
    import json
    import shutil

    shutil.copytree(tiny_distilbert, tmp_path / "odd")
    config = json.loads((tmp_path / "odd" / "config.json").read_text())
    (tmp_path / "odd" / "config.json").write_text(json.dumps({**config, "model_type": "vision-text-dual-encoder"}))
    with pytest.raises(UserError, match="cannot be fine-tuned"):
        build(locate(EncoderSpec(str(tmp_path / "odd"))), NAMES, HeadSpec(), 0)


@pytest.mark.parametrize("head", ["standard", "linear"])
def test_weights_that_share_memory_or_lie_in_it_with_gaps_are_saved(head, tiny_bert, tmp_path):
    import torch

    checkpoint = locate(EncoderSpec(str(tiny_bert)))
    model = build(checkpoint, NAMES, HeadSpec(head), 0)
    first, second = encoder_of(model).encoder.layer
    first.attention.self.query.weight.data = first.attention.self.query.weight.data.T.contiguous().T  # strided
    first.output.dense.bias.data = torch.arange(64.0)[::2]  # with gaps
    second.attention.self.key.weight = second.attention.self.query.weight  # shared
    second.attention.self.value.bias.data = torch.arange(64.0)[32:]  # a part of something larger
    assert not first.attention.self.query.weight.is_contiguous()
    write(model, checkpoint, NAMES, HeadSpec(head), tmp_path)
    again = read(locate(EncoderSpec(str(tmp_path))), NAMES).state_dict()
    assert {name: tensor.tolist() for name, tensor in model.state_dict().items()} == {
        name: tensor.tolist() for name, tensor in again.items()
    }


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "out of memory; pass --batch-size 16"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "out of memory; pass --batch-size 16"),
        (MemoryError(), "out of memory; pass --batch-size 16"),
    ],
)
def test_full_memory_says_what_to_do(error, words, tmp_path):
    from pipeline.finetune.training import FineTuneSettings
    from pipeline.finetune.work import working

    with pytest.raises(UserError, match=words), working(FineTuneSettings(), None, tmp_path / "run"):
        raise error


def test_an_error_that_only_speaks_of_memory_is_another(tmp_path):
    from pipeline.finetune.training import FineTuneSettings
    from pipeline.finetune.work import working

    with pytest.raises(RuntimeError, match="share memory"), working(FineTuneSettings(), None, tmp_path / "run"):
        raise RuntimeError("Some tensors share memory, this will lead to duplicate memory on disk")
