"""A fine-tuned run predicts by the engines that encode for frozen runs, and says what torch says."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_finetune import FAST, dataset
from test_heads import NAMES

from pipeline import UserError, load_run, open_run
from pipeline.contenders import tuned_runs
from pipeline.encoder import Runtime, converted
from pipeline.encoder.checkpoint import EncoderSpec, locate
from pipeline.encoder.tokens import tokenizer
from pipeline.finetune import load_finetuned
from pipeline.finetune.heads import HEADS, HeadSpec, build, head_of, read, write
from pipeline.linear.probe import softmax
from pipeline.run import Cost, Run
from pipeline.task import Task

pytest.importorskip("openvino", reason="openvino is not installed")
ROOT = Path(__file__).parent.parent
TEXTS = [
    ("i feel good today",),
    ("the film was boring and the plot too " * 9,),
    ("",),
    ("WOW",),
    ("win a prize " * 300,),
]
CPU = Runtime(device="cpu", threads=1)


def saved(encoder: Path, head: str, folder: Path, change=lambda model: None) -> Run:
    """A run of a model with random weights, as large as trained ones."""
    import torch

    checkpoint = locate(EncoderSpec(str(encoder)))
    model = build(checkpoint, NAMES, HeadSpec(head), 3)
    with torch.no_grad():
        for part in head_of(model):
            for parameter in part.parameters():
                parameter.normal_(0, 0.3)
    change(model)
    (folder / "model").mkdir(parents=True)
    write(model, checkpoint, NAMES, HeadSpec(head), folder / "model")
    settings = {"max_length": checkpoint.limit, "precision": "fp32", "chosen": {}}
    return Run("fine-tune", settings, NAMES, {}, Cost(), "toy", "ab" * 16, folder=folder)


def by_torch(run: Run) -> np.ndarray:
    """Probabilities (n, 3) by the model itself, one text at a time and unpadded."""
    import torch

    checkpoint = locate(EncoderSpec(str(run.model_folder)))
    model, rows = read(checkpoint, NAMES), tokenizer(checkpoint).encode(TEXTS)
    logits = []
    with torch.inference_mode():
        for i, ids in enumerate(rows.ids):
            types = {} if rows.types is None else {"token_type_ids": torch.from_numpy(rows.types[i][None])}
            batch = torch.from_numpy(ids[None])
            logits.append(model(input_ids=batch, attention_mask=torch.ones_like(batch), **types)["logits"][0].numpy())
    return softmax(np.array(logits))


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", ["tiny_distilbert", "tiny_bert", "tiny_roberta"])
def test_probabilities_are_those_of_torch_with_the_last_layer_for_cls_alone(name, head, request, tmp_path):
    run = saved(request.getfixturevalue(name), head, tmp_path / "run")
    opened = load_finetuned(run, CPU, tmp_path / "cache")
    assert opened.served == "openvino fp32 cpu"
    assert opened.encoder.cls_only
    expected = by_torch(run)
    got = opened.proba(TEXTS)
    np.testing.assert_allclose(got, expected, atol=1e-5)
    assert got.argmax(1).tolist() == expected.argmax(1).tolist()
    assert np.ptp(got, axis=0).max() > 0.01  # texts are told apart
    assert opened.proba([]).shape == (0, 3)


def test_an_architecture_of_another_block_and_one_that_openvino_gets_wrong(tiny_bert, tmp_path, monkeypatch, caplog):
    import torch
    from transformers import ElectraConfig, ElectraModel

    shutil.copytree(tiny_bert, tmp_path / "electra")
    (tmp_path / "electra" / "model.safetensors").unlink()
    torch.manual_seed(0)
    vocabulary = json.loads((tiny_bert / "config.json").read_text())["vocab_size"]
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    ElectraModel(ElectraConfig(vocab_size=vocabulary, embedding_size=16, **size)).save_pretrained(tmp_path / "electra")
    run = saved(tmp_path / "electra", "standard", tmp_path / "run")
    opened = load_finetuned(run, CPU, tmp_path / "cache")
    assert (opened.encoder.engine, opened.encoder.cls_only) == ("openvino", False)
    np.testing.assert_allclose(opened.proba(TEXTS), by_torch(run), atol=1e-5)

    monkeypatch.setattr(converted, "traced", lambda module: 1 / 0)
    caplog.set_level("INFO", "pipeline")
    opened = load_finetuned(run, CPU, tmp_path / "other")
    assert opened.served == "torch fp32 cpu"
    assert "so that it runs on torch" in caplog.text
    np.testing.assert_allclose(opened.proba(TEXTS), by_torch(run), atol=1e-5)


def test_it_is_converted_once_and_another_head_is_another_model(tiny_bert, tmp_path, monkeypatch):
    first = saved(tiny_bert, "linear", tmp_path / "first")
    second = saved(tiny_bert, "linear", tmp_path / "second", lambda model: model.head[-1].weight.data.mul_(-1))
    both = [load_finetuned(run, CPU, tmp_path / "cache").proba(TEXTS) for run in (first, second)]
    for run, proba in zip((first, second), both, strict=True):
        np.testing.assert_allclose(proba, by_torch(run), atol=1e-5)
    monkeypatch.setattr(converted, "convert", None)
    np.testing.assert_array_equal(load_finetuned(first, CPU, tmp_path / "cache").proba(TEXTS), both[0])


@pytest.mark.parametrize("head", ["standard", "linear"])
def test_weights_that_overflow_answer_with_one_line(head, tiny_distilbert, tmp_path):
    def overflow(model):
        for part in head_of(model):
            for parameter in part.parameters():
                parameter.data.mul_(1e39)

    run = saved(tiny_distilbert, head, tmp_path / "run", overflow)
    with pytest.raises(UserError, match=r"finite"):
        open_run(run, CPU, tmp_path / "cache").proba(TEXTS)


def test_what_a_text_costs_is_measured_where_it_is_served_in_old_runs_too(tiny_distilbert, tmp_path):
    task = Task(
        dataset(), encoders=(EncoderSpec(str(tiny_distilbert), precision="fp32"),), runtime=CPU,
        tuning=replace(FAST, epochs=1), cache=tmp_path / "cache", runs=tmp_path / "runs",
    )  # fmt: skip
    (run,) = tuned_runs(task)
    assert run.settings["chosen"]["served"] == "openvino fp32 cpu"
    assert run.cost.ms_per_text_batch > 0
    assert run.cost.ms_per_text_single > 0
    assert load_run(run.folder).cost == run.cost
    assert (tuned_runs(task)[0].cost, tuned_runs(task)[0].created) == (run.cost, run.created)

    record = json.loads((run.folder / "run.json").read_text())  # as an earlier version left it
    del record["settings"]["chosen"]["served"]
    record["cost"]["ms_per_text_batch"] = 1e6
    (run.folder / "run.json").write_text(json.dumps(record))
    (again,) = tuned_runs(task)
    assert again.created == run.created
    assert again.cost.ms_per_text_batch < 1e6
    assert again.cost.fit_seconds == run.cost.fit_seconds
    assert load_run(run.folder).settings["chosen"]["served"] == "openvino fp32 cpu"


def test_predicting_imports_neither_torch_nor_transformers(tiny_distilbert, tmp_path):
    from test_predict_light import CODE

    task = Task(
        dataset(), encoders=(EncoderSpec(str(tiny_distilbert)),), runtime=CPU, tuning=replace(FAST, epochs=1),
        cache=tmp_path / "cache", runs=tmp_path / "runs",
    )  # fmt: skip
    (run,) = tuned_runs(task)
    words = ["predict", str(run.folder), "it was good", "--cache", str(tmp_path / "cache"), "--device", "cpu"]
    done = subprocess.run([sys.executable, "-c", CODE, *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert '"label": ' in done.stdout
    assert done.stderr.splitlines()[-1] == "[]"
