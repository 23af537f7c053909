"""Conversions are compared with torch, and encoders whose vectors depend on padding are batched by equal length."""

import json

import numpy as np
import pytest
from conftest import SENTENCES, wordpiece

from pipeline import UserError
from pipeline.encoder import EncoderSpec, Runtime, converted, graph, locate, open_encoder, tokenizer, verification
from pipeline.encoder.batches import plan
from pipeline.extract.embedding_cache import open_cache

pytest.importorskip("openvino", reason="openvino is not installed")
TEXTS = [(text,) for text in (*SENTENCES, "a good film", "people want to go home " * 30)]
RUNTIME = Runtime(device="cpu", threads=1)
SIZE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "pad_token_id": 0}
PLACES = {"max_position_embeddings": 128}
SQUEEZE = ("q", "k", "v", "post_attention", "intermediate", "output")
CONFIGS = {  # architecture → its config: what only it needs
    "Electra": SIZE | PLACES | {"embedding_size": 16},
    "ConvBert": SIZE | PLACES | {"embedding_size": 32, "conv_kernel_size": 3},
    "FNet": {"hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64, "pad_token_id": 0} | PLACES,
    "MobileBert": SIZE | PLACES | {"embedding_size": 32, "intra_bottleneck_size": 32},
    "BigBird": SIZE | PLACES | {"attention_type": "block_sparse", "block_size": 4, "num_random_blocks": 1},
    "SqueezeBert": SIZE | PLACES | {"embedding_size": 32} | {f"{part}_groups": 1 for part in SQUEEZE},
    "LayoutLM": SIZE | PLACES,
    "Longformer": SIZE | {"max_position_embeddings": 130, "attention_window": 16},
    "Yoso": SIZE | PLACES,
    "ModernBert": SIZE | PLACES | {"local_attention": 16, "global_attn_every_n_layers": 2, "cls_token_id": 2,
                                   "bos_token_id": 2, "eos_token_id": 3, "sep_token_id": 3},
}  # fmt: skip


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    """A tiny random checkpoint by the name of its architecture; each is made once."""
    import torch
    import transformers

    home = tmp_path_factory.mktemp("encoders")

    def encoder(name):
        folder = home / name
        if not folder.exists():
            torch.manual_seed(0)
            config = getattr(transformers, f"{name}Config")(vocab_size=wordpiece().get_vocab_size(), **CONFIGS[name])
            model = getattr(transformers, f"{name}Model")(config)
            with torch.no_grad():
                for parameter in model.parameters():
                    if parameter.dim() > 1:
                        parameter.normal_(0, 0.15)
            model.save_pretrained(folder)
            wordpiece().save(str(folder / "tokenizer.json"))
        return locate(EncoderSpec(str(folder)))

    return encoder


def alone(checkpoint):
    """[CLS] vectors (n, 32) by transformers itself, one text at a time and unpadded, nothing left of the last one."""
    import torch
    from transformers import AutoModel

    def model():
        return AutoModel.from_pretrained(checkpoint.folder, local_files_only=True, dtype=torch.float32).eval()

    ids = tokenizer(checkpoint).encode(TEXTS).ids
    with torch.inference_mode():
        return np.stack([model()(torch.from_numpy(row[None])).last_hidden_state[0, 0].numpy() for row in ids])


@pytest.mark.parametrize("engine", ["auto", "torch"])
@pytest.mark.parametrize("name", CONFIGS)
def test_every_engine_gives_each_text_the_vector_that_it_has_alone(name, engine, encoders, tmp_path):
    checkpoint = encoders(name)
    encoder = open_encoder(checkpoint, ("cls",), engine, "fp32", RUNTIME, tmp_path)
    got = encoder.encode_all(tokenizer(checkpoint).encode(TEXTS))["cls"]
    np.testing.assert_allclose(got, alone(checkpoint), atol=1e-4)


@pytest.mark.parametrize(
    ("name", "equal"),
    [("Electra", False), ("ConvBert", True), ("FNet", True), ("MobileBert", True), ("BigBird", True)],
)
def test_an_encoder_that_reads_padding_is_batched_by_equal_length(name, equal, encoders, tmp_path):
    encoder = open_encoder(encoders(name), ("mean",), "torch", "fp32", RUNTIME, tmp_path)
    assert encoder.equal_lengths is equal
    batches = list(encoder.batches(tokenizer(encoder.checkpoint).encode(TEXTS * 3)))
    assert any(batch.mask.min() == 0 for batch in batches) is not equal
    assert sorted(np.concatenate([batch.rows for batch in batches])) == list(range(3 * len(TEXTS)))


def test_batches_of_equal_length_hold_as_many_texts_as_fit():
    groups = plan(np.array([5, 4, 5, 4, 5, 4, 4]), token_budget=10, call_cost=0)
    assert [group.tolist() for group in groups] == [[0, 2], [4], [1, 3], [5, 6]]


def test_a_faulty_conversion_runs_on_torch_says_so_and_is_remembered(encoders, tmp_path, monkeypatch, caplog):
    checkpoint = encoders("Electra")
    sound = open_encoder(checkpoint, ("cls",), "openvino", "fp32", RUNTIME, tmp_path / "sound")
    assert sound.engine == "openvino"
    traced = converted.traced

    class OffByLength(graph.WholeGraph):
        """Right on the texts that it was traced with, wrong from 65 tokens on."""

        def forward(self, ids, mask, types=None):
            (vectors,) = super().forward(ids, mask, types)
            return (vectors + 1e-3 * (mask.sum(1, keepdim=True) > 64),)

    monkeypatch.setattr(
        converted, "traced", lambda module: traced(OffByLength(module.model, ("cls",), module.types).eval())
    )
    caplog.set_level("INFO", "pipeline")
    encoder = open_encoder(checkpoint, ("cls",), "openvino", "fp32", RUNTIME, tmp_path)
    line = "OpenVINO gives other vectors than torch on a text of 128 tokens, so that it runs on torch"
    assert [record.getMessage() for record in caplog.records if line in record.getMessage()] == [
        f"{checkpoint.name}: {line}"
    ]
    assert encoder.engine == "torch"
    assert not list((tmp_path / "models").rglob("*.xml"))

    monkeypatch.setattr(converted, "traced", None)  # and nobody tries again
    assert open_encoder(checkpoint, ("cls",), "auto", "fp32", RUNTIME, tmp_path).engine == "torch"
    asked = EncoderSpec(str(checkpoint.folder), engine="openvino", precision="fp32")
    assert open_cache(checkpoint, asked, RUNTIME, tmp_path).backend.engine == "torch"
    with pytest.raises(UserError, match=r"--precision int8: .*gives other vectors than torch.*; pass --precision fp32"):
        open_encoder(checkpoint, ("cls",), "openvino", "int8", RUNTIME, tmp_path)


def test_another_openvino_is_tried_again(encoders, tmp_path, monkeypatch):
    checkpoint = encoders("Electra")
    monkeypatch.setattr(converted, "traced", lambda module: 1 / 0)
    assert open_encoder(checkpoint, ("cls",), "auto", "fp32", RUNTIME, tmp_path).engine == "torch"
    monkeypatch.undo()
    monkeypatch.setattr(converted, "installed_version", lambda package: "9999.1")
    assert open_encoder(checkpoint, ("cls",), "auto", "fp32", RUNTIME, tmp_path).engine == "openvino"


def test_longer_texts_than_it_was_compared_on_are_compared_first(encoders, tmp_path, monkeypatch):
    short = locate(EncoderSpec(str(encoders("Electra").folder), max_length=32))
    open_encoder(short, ("cls",), "openvino", "fp32", RUNTIME, tmp_path)
    record = converted.home_of(short, tmp_path) / "cls.json"
    assert json.loads(record.read_text())["tokens"] == 32
    open_encoder(encoders("Electra"), ("cls",), "openvino", "fp32", RUNTIME, tmp_path)
    assert json.loads(record.read_text())["tokens"] == 128
    monkeypatch.setattr(converted, "convert", None)
    open_encoder(short, ("cls",), "openvino", "fp32", RUNTIME, tmp_path)


def test_the_comparison_covers_the_lengths_alone_and_padded(encoders):
    seen = [batch.lengths.tolist() for batch in verification.made_up_batches(encoders("Electra"), 100)]
    assert seen == [[1], [2], [8], [17], [64], [1, 2, 8, 17, 64], [17, 17, 17], [128], [17, 128]]


@pytest.mark.parametrize("wrong", [np.nan, 2e-4])
def test_vectors_are_apart_beyond_the_tolerance(wrong):
    vectors = [np.zeros((2, 3), np.float32)]
    assert not verification.apart(vectors, [np.full((2, 3), 9e-5, np.float32)])
    assert verification.apart(vectors, [np.array([[0, 0, 0], [0, wrong, 0]], np.float32)])
