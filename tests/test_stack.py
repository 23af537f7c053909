"""A stack: weights by out-of-fold log loss, the parts' runs reused, the same answers wherever it is served."""

import json
from dataclasses import replace

import numpy as np
import pytest

from pipeline import UserError
from pipeline.contenders import estimates, fits_of
from pipeline.data import SourceOptions, read
from pipeline.encoder import EncoderSpec
from pipeline.export import export_run, program
from pipeline.export.parts import parts_of
from pipeline.predict import open_run
from pipeline.run import Cost, Run, load_run
from pipeline.stack import StackModel, choose_weights, joint_cost, known, pool
from pipeline.task import Task

RNG = np.random.default_rng(0)


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


# ── weights ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_pooling_is_a_product_of_powers():
    a, b = np.array([[0.5, 0.3, 0.2]], "f4"), np.array([[0.1, 0.1, 0.8]], "f4")
    product = a**2 * b**0.5
    assert np.allclose(pool([a, b], np.array([2, 0.5], "f4")), product / product.sum(), atol=1e-6)
    assert np.allclose(pool([a, b], np.array([1, 0], "f4")), a, atol=1e-6)
    never = pool(
        [np.eye(2, dtype="f4"), np.eye(2, dtype="f4")[::-1]], np.ones(2, "f4")
    )  # each rules out the other's class
    assert np.allclose(never, 0.5)


def test_weights_find_what_made_the_labels():
    """Labels are drawn from a pool whose weights are known."""
    logits = RNG.normal(0, 1, (2, 20_000, 3))
    parts = [softmax(z).astype("f4") for z in logits]
    truth = (RNG.random((20_000, 1)) > pool(parts, np.array([1.5, 0.5], "f4")).cumsum(1)).sum(1)
    weights, loss = choose_weights(parts, truth)
    assert np.allclose(weights, [1.5, 0.5], atol=0.1)
    own = pool(parts, weights)[np.arange(len(truth)), truth]
    assert loss == pytest.approx(-np.log(own).mean(), abs=1e-5)


def test_a_part_that_knows_nothing_or_lies_weighs_nothing():
    truth = RNG.integers(0, 2, 4000)
    good = softmax(np.stack([1 - truth, truth], 1) * 2 + RNG.normal(0, 1, (4000, 2))).astype("f4")
    flat, liar = np.full_like(good, 0.5), good[:, ::-1].copy()
    assert choose_weights([good, liar], truth)[0][1] == pytest.approx(0, abs=0.02)
    with_flat, alone = choose_weights([good, flat], truth)[1], choose_weights([good, good], truth)[1]
    assert with_flat == pytest.approx(alone, abs=1e-6)


def test_weights_stay_finite_where_every_row_is_right():
    truth = np.arange(50) % 2
    sure = np.stack([1 - truth, truth], 1).astype("f4") * 0.8 + 0.1
    weights, _ = choose_weights([sure, sure], truth)
    assert np.isfinite(weights).all()
    assert (weights <= 10).all()


def test_a_class_of_one_text_decides_nothing():
    assert known(np.array([0, 0, 1, 1, 2]), np.array([0, 1, 2, 2, 3])).tolist() == [0, 1]
    assert known(np.array([0, 1]), np.array([0, 1])).tolist() == [0, 1]


def test_costs_are_the_sum_and_an_encoder_counts_once():
    def part(kind, digest, *costs):
        names = ("fit_seconds", "extract_seconds", "model_mb", "ms_per_text_batch")
        settings = {"pooling": "cls"} if digest else {}
        cost = Cost(**dict(zip(names, costs, strict=True)), trained_parameters=5, cpu_seconds=1.0)
        return Run(kind, settings, ("a", "b"), {}, cost, "d", "d", digest)

    words, lr = part("tfidf", None, 2.0, None, 3.0, 0.5), part("lr", "x", 5.0, 60.0, 90.0, 6.0)
    smote = part("lr+smote", "x", 7.0, 60.0, 90.0, 6.1)
    cost = joint_cost([words, lr, smote], 0.25)
    assert (cost.fit_seconds, cost.extract_seconds, cost.model_mb) == (14.25, 60.0, 93.0)
    assert cost.ms_per_text_batch == pytest.approx(6.6)
    assert (cost.trained_parameters, cost.cpu_seconds) == (18, 3.0)
    assert joint_cost([words, replace(lr, cost=Cost())], 0).ms_per_text_batch is None


# ── runs ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def task(tmp_path_factory, tiny_distilbert):
    home = tmp_path_factory.mktemp("stack")
    data = read(SourceOptions("sms-spam", rows="first:300"))
    spec = EncoderSpec(str(tiny_distilbert), precision="fp32")
    return Task(data, (spec,), cache=home / "cache", runs=home / "runs")


@pytest.fixture(scope="module")
def joined(task):
    (fit,) = fits_of(task, "stack")
    return fit.run()


def test_a_stack_is_its_parts_runs_weighted(task, joined):
    parts = [next(fits_of(task, name)).run() for name in ("tfidf", "lr")]
    assert joined.settings["parts"] == ["tfidf", "lr"]
    model = StackModel.load(joined.model_folder)
    assert model.parts == ("tfidf", "lr")
    for role in ("validation", "test"):
        own = pool([part.predictions[role].proba for part in parts], model.weights)
        assert np.array_equal(joined.predictions[role].proba, own)
    losses = [part.metrics["train"]["log_loss"] for part in (joined, *parts)]
    assert losses[0] <= min(losses[1:]) + 0.01
    assert joined.cost.fit_seconds == pytest.approx(sum(part.cost.fit_seconds for part in parts), abs=1)
    assert joined.cost.extract_seconds == parts[1].cost.extract_seconds
    assert joined.checkpoint_digest == parts[1].checkpoint_digest
    assert next(fits_of(task, "stack")).run().folder == joined.folder  # found


def test_test_rows_are_seen_by_nothing(task, joined):
    """Other test labels, the same weights."""
    data = task.dataset
    split = data.roles["test"]
    turned = replace(data.splits[split], labels=1 - data.splits[split].labels)
    other = replace(task, dataset=replace(data, splits=data.splits | {split: turned}), runs=task.runs / "turned")
    (fit,) = fits_of(other, "stack")
    weights = [StackModel.load(run.model_folder).weights for run in (joined, fit.run())]
    assert np.allclose(*weights, atol=1e-5)


def test_it_predicts_what_it_said(task, joined):
    model = open_run(joined, cache=task.cache, precision="fp32")
    assert np.allclose(model.proba(task.dataset.test.texts), joined.predictions["test"].proba, atol=1e-4)


def test_its_parts_may_go(task, joined, tmp_path):
    import shutil

    moved = tmp_path / "moved"
    shutil.copytree(joined.folder, moved)
    texts = task.dataset.test.texts
    there, here = (open_run(load_run(folder), cache=task.cache).proba(texts) for folder in (moved, joined.folder))
    assert np.array_equal(there, here)
    part = moved / "model" / "parts" / "0" / "run.json"
    part.write_text(json.dumps(json.loads(part.read_text("utf-8")) | {"kind": "lr"}), "utf-8")
    with pytest.raises(UserError, match="not the tfidf run that was joined; fit the stack again"):
        open_run(load_run(moved), cache=task.cache)


@pytest.mark.parametrize("weights", [[-1.0, 1.0], [float("nan"), 1.0], [1.0]])
def test_lying_weights_are_refused(tmp_path, weights):
    StackModel(("tfidf", "lr"), np.float32(weights), ("a", "b")).save(tmp_path, [])
    with pytest.raises(UserError, match="damaged model"):
        StackModel.load(tmp_path)


def test_joblib_says_what_the_run_says(task, joined, tmp_path):
    done = export_run(joined, "joblib", tmp_path / "out", cache=task.cache)
    assert done.checked.difference < 1e-4
    served = program("joblib").reload(tmp_path / "out", joined.class_names)
    assert np.ptp(served([("win a prize",), ("see you",)])[:, 0]) > 1e-3


@pytest.mark.parametrize("form", ["onnx", "transformers"])
def test_words_have_no_network(task, joined, tmp_path, form):
    with pytest.raises(UserError, match="a stack of tfidf, lr is no single network"):
        export_run(joined, form, tmp_path / "out", cache=task.cache)


def test_linear_models_on_the_same_vectors_are_one(task, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    (fit,) = fits_of(replace(task, stack=("lr", "lr+balanced")), "stack")
    run = fit.run()
    assert parts_of(run).head.Q.shape == (2, 32)
    assert export_run(run, "onnx", tmp_path / "out", cache=task.cache).checked.difference < 1e-4


def test_a_part_without_out_of_fold_rows_is_weighed_on_validation(task):
    from pipeline.finetune import FineTuneSettings

    tuned = replace(task, stack=("tfidf", "fine-tune"), tuning=FineTuneSettings(epochs=1, learning_rate=1e-3))
    (fit,) = fits_of(tuned, "stack")
    run = fit.run()
    assert set(run.predictions) == {"validation", "test"}
    assert run.notes[0].startswith("weights of the parts, by log loss on validation: tfidf ")
    assert np.allclose(open_run(run).proba(task.dataset.test.texts), run.predictions["test"].proba, atol=1e-4)


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        (("lr",), "a stack of lr: pass two different contenders"),
        (("lr", "lr"), "a stack of lr, lr: pass two different contenders"),
        (("lr", "stack"), "--stack: a stack cannot be a part of it; leave it out"),
        (("lr", "svm"), "no contender 'svm'"),
    ],
)
def test_what_is_no_stack_is_refused(task, parts, says):
    with pytest.raises(UserError, match=says):
        list(fits_of(replace(task, stack=parts), "stack"))


def test_an_estimate_counts_parts_that_are_not_there(task, joined, tmp_path):
    new = replace(task, runs=tmp_path)
    together = estimates(new, ("tfidf", "lr", "stack"))
    alone = estimates(new, ("stack",))
    assert together["stack"] == pytest.approx(1)
    assert alone["stack"] == pytest.approx(1 + together["tfidf"] + together["lr"], rel=0.5)
    assert estimates(task, ("stack",))["stack"] == pytest.approx(1)  # its parts are there


# ── commands ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_it_stands_in_compare_curve_and_audit(run, task, joined):
    words = ["sms-spam", "--rows", "first:300", "--encoder", task.encoders[0].name, "--precision", "fp32"]
    words += ["--cache", task.cache, "--runs", task.runs, "--json"]
    code, out, err = run("compare", *words, "--no-cv", "--contenders", "tfidf,lr,stack", encoder=False)
    assert code == 0, err
    found = json.loads(out)
    assert {c["name"] for c in found["contenders"]} == {"tfidf", "lr", "stack"}
    assert next(c["run"] for c in found["contenders"] if c["name"] == "stack") == str(joined.folder)
    code, out, err = run("curve", *words, "--contenders", "stack", "--sizes", "60,120", "--draws", "2", encoder=False)
    assert code == 0, err
    (line,) = json.loads(out)["lines"]
    assert [point["size"] for point in line["points"]] == [60, 120]
    code, out, err = run("audit", *words, "--contenders", "tfidf,stack", encoder=False)
    assert code == 0, err
    assert set(json.loads(out)["contenders"]) >= {"tfidf", "stack"}
    code, out, err = run("predict", joined.folder, "win a prize now", "--cache", task.cache, encoder=False)
    assert code == 0, err
    assert set(json.loads(out)["proba"]) == {"ham", "spam"}
