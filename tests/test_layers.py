"""Inner layers: `mean@1` is what torch has there, one pass keeps all, and the folds choose among them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from test_encoder import EFFORT, batches_of, vectors

from pipeline import UserError
from pipeline.encoder import ENGINES, EncoderSpec, locate, open_encoder
from pipeline.encoder.converted import names_of
from pipeline.encoder.pooling import at_layer, base, layer_of, pairs, parts
from pipeline.encoder.quiet import quiet
from pipeline.linear.tune import LinearSettings, choose_pooling
from pipeline.run import load_run

INNER = ("cls@0", "mean@0", "cls@1", "mean@1", "max@1")


def hidden_states(here, batch):
    """The states (layers + 1, t, d) of one text by transformers itself."""
    import torch
    from transformers import AutoModel

    with quiet():
        model = AutoModel.from_pretrained(here.folder, local_files_only=True, dtype=torch.float32).eval()
    types = {} if batch.types is None else {"token_type_ids": torch.from_numpy(batch.types)}
    with torch.inference_mode():
        ids, mask = torch.from_numpy(batch.ids), torch.from_numpy(batch.mask)
        states = model(ids, mask, output_hidden_states=True, **types).hidden_states
    return np.stack([state[0].numpy() for state in states])


@pytest.mark.parametrize("engine", list(ENGINES))
@pytest.mark.parametrize("encoder", ["tiny_distilbert", "tiny_bert", "tiny_roberta"])
def test_each_layer_is_what_torch_has_there(encoder, engine, tmp_path, request):
    here = locate(EncoderSpec(str(request.getfixturevalue(encoder))))
    found = vectors(open_encoder(here, (*INNER, "mean"), engine, "fp32", EFFORT, tmp_path))
    assert list(found) == ["mean", *INNER]
    for batch in batches_of(here, budget=1):
        states, row = hidden_states(here, batch), int(batch.rows[0])
        for name in found:
            of_layer = states[-1 if layer_of(name) is None else layer_of(name)]
            expected = {"cls": of_layer[0], "mean": of_layer.mean(0), "max": of_layer.max(0)}[base(name)]
            np.testing.assert_allclose(found[name][row], expected, atol=1e-5, err_msg=name)


def test_the_highest_layer_wanted_is_the_last_one_computed(tiny_bert, tmp_path):
    here = locate(EncoderSpec(str(tiny_bert)))
    open_encoder(here, ("mean@1",), "openvino", "fp32", EFFORT, tmp_path)
    open_encoder(here, ("mean",), "openvino", "fp32", EFFORT, tmp_path)
    sizes = [
        (tmp_path / "models" / here.digest / f"{names_of(p)[0]}.bin").stat().st_size for p in [("mean@1",), ("mean",)]
    ]
    assert sizes[0] < 0.8 * sizes[1]


def test_names(tiny_bert):
    here = locate(EncoderSpec(str(tiny_bert), layers=("all", 0)))  # two layers
    assert here.auto_poolings == ("cls", "mean", "cls@0", "mean@0", "cls@1", "mean@1")
    assert locate(EncoderSpec(str(tiny_bert), layers=("1",))).auto_poolings == ("cls@1", "mean@1")
    assert here.pooling("mean@2+cls@1-normalized") == "mean+cls@1-normalized"
    assert parts(["mean@1-normalized+cls", "max"]) == ("cls", "max", "mean@1")
    assert (at_layer("mean-normalized", 3), at_layer("mean@3", None)) == ("mean@3-normalized", "mean")
    assert pairs(("cls", "mean", "mean-normalized")) == ("cls+mean", "cls+mean-normalized")
    plain = locate(EncoderSpec(str(tiny_bert)))
    assert here.checkpoint_digest("mean@2") == plain.checkpoint_digest("mean")
    assert len({plain.checkpoint_digest(name) for name in ("mean", "mean@0", "mean@1", "cls@1")}) == 4


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"layers": ("3",)}, "no layer '3': .* has 1 to 2, and 0, the embeddings"),
        ({"layers": ("-1",)}, "no layer '-1'"),
        ({"layers": ("first",)}, "no layer 'first'"),
        ({"pooling": ("mean@7",)}, "no layer '7'"),
        ({"pooling": ("mean@x",)}, "no layer 'x'; write a number, as in mean@3"),
        ({"pooling": ("mean@",)}, "no layer ''"),
        ({"pooling": ("mean@01",)}, "no layer '01'"),
        ({"pooling": ("median@1",)}, "no pooling 'median'"),
    ],
)
def test_what_is_no_layer_is_refused(tiny_bert, wish, message):
    with pytest.raises(UserError, match=message):
        locate(EncoderSpec(str(tiny_bert), **wish))


def test_a_config_that_does_not_say_how_many(tiny_bert, tmp_path):
    shutil.copytree(tiny_bert, tmp_path / "bert")
    config = json.loads((tmp_path / "bert" / "config.json").read_text())
    del config["num_hidden_layers"]
    (tmp_path / "bert" / "config.json").write_text(json.dumps(config))
    assert locate(EncoderSpec(str(tmp_path / "bert"))).layers == (None,)
    with pytest.raises(UserError, match=r"none of num_hidden_layers.*pass --layers last"):
        locate(EncoderSpec(str(tmp_path / "bert"), layers=("all",)))


def test_one_pass_keeps_all_and_the_folds_choose(run, reviews, tmp_path):
    columns = (reviews, "--text", "body", "--label", "verdict", "--json")
    runs = ("--runs", tmp_path / "runs")
    status, out, err = run("extract", *columns, "--layers", "all")
    first = json.loads(out)
    assert (status, first["pooling"], first["storage"]) == (0, "cls,mean,cls@1,mean@1", "float32"), err
    storage = {}
    for folder in first["folders"]:
        about = json.loads((tmp_path / "cache" / folder.rpartition("/")[2] / "about.json").read_text("utf-8"))
        storage[about["pooling"]] = about["storage"]
    assert storage == {"cls": "float32", "mean": "float32", "cls@1": "float16", "mean@1": "float16"}
    status, out, err = run("fit-lr", *columns, *runs, "--layers", "all", "--pooling", "auto")
    fitted = json.loads(out)
    assert (status, fitted["kind"], fitted["settings"]["layers"]) == (0, "lr+auto", "1,last"), err
    record = json.loads((Path(fitted["run"]) / "run.json").read_text("utf-8"))
    tried = [point["pooling"] for point in record["history"] if point["what"] == "pooling"]
    assert tried[:4] == ["cls", "mean", "cls@1", "mean@1"]
    assert len(tried) == 5
    assert json.loads(run("extract", *columns)[1])["encoded"] == 0  # the last layer's are those of any other pass
    exact = json.loads(run("extract", *columns, "--layers", "all", "--storage", "float32")[1])
    assert exact["encoded"] > 0
    status, _, err = run("extract", *columns, "--layers", "9")
    assert status == 1
    assert "no layer '9'" in err


@pytest.mark.parametrize(("storage", "tolerance"), [("auto", 1e-2), ("float32", 1e-5)])
def test_a_probe_on_an_inner_layer_predicts_what_it_predicted(run, reviews, tmp_path, storage, tolerance):
    columns = (reviews, "--text", "body", "--label", "verdict", "--json", "--runs", tmp_path / "runs")
    status, out, err = run("fit-lr", *columns, "--pooling", "cls@1+mean@0", "--storage", storage)
    assert status == 0, err
    fitted = load_run(Path(json.loads(out)["run"]))
    test = fitted.predictions["test"]
    rows = [int(name.rpartition(":")[2]) for name in test.row_ids]
    texts = [line.partition(",")[0] for line in reviews.read_text("utf-8").splitlines()[1:]]
    status, out, err = run("predict", fitted.folder, *(texts[row] for row in rows), encoder=False)
    answers = [json.loads(line)["proba"] for line in out.splitlines()]
    np.testing.assert_allclose([[a[c] for c in fitted.class_names] for a in answers], test.proba, atol=tolerance)


def test_the_best_two_stand_side_by_side():
    random = np.random.default_rng(0)
    y = np.repeat(np.arange(3), 60)
    centres = np.eye(3, 6, dtype=np.float32) * 3
    better, good, noise = (
        (centres[y] * size + random.normal(size=(180, 6))).astype(np.float32) for size in (1.0, 0.7, 0.0)
    )
    vectors = {"cls": noise, "mean": good, "cls@1": better, "mean@1": noise}
    _, tried = choose_pooling(vectors, y, np.arange(180), ("a", "b", "c"), LinearSettings())
    assert [point["pooling"] for point in tried] == ["cls", "mean", "cls@1", "mean@1", "mean+cls@1"]
