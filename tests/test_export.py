"""A run handed over: every format is loaded by its own program and says what the run says."""

import importlib.util
import json
from dataclasses import replace

import numpy as np
import pytest

from pipeline import UserError
from pipeline.data import SourceOptions
from pipeline.export import agreement as checking
from pipeline.export import export_run
from pipeline.export.model_card import safe
from pipeline.export.parts import Head, parts_of
from pipeline.export.stock import as_relu
from pipeline.run import Cost, Predictions, Run, save

NAMES = ("ham", "spam")
TEXTS = [("win a prize now",), ("come home today",), ("",), ("very " * 700,)]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """One cache for all of these tests: each tiny encoder is converted once."""
    return tmp_path_factory.mktemp("cache")


def linear_run(folder, encoder, class_names=NAMES, seed=0, pooling="cls", parts=1, **more):
    """A saved run of a linear model with seeded weights on `encoder`'s vectors."""
    from pipeline.encoder.checkpoint import EncoderSpec, locate
    from pipeline.linear.probe import LinearModel

    random, k = np.random.default_rng(seed), len(class_names)
    checkpoint = locate(EncoderSpec(str(encoder)))
    d = checkpoint.vector_dim(pooling)
    weights = random.normal(0, 0.3, (k, d)), random.normal(0, 0.1, k), random.normal(0, 1, d), random.uniform(0.5, 2, d)
    arrays = [array.astype(np.float32) for array in weights]
    model = LinearModel(*arrays, tuple(class_names), checkpoint.checkpoint_digest(pooling), pooling, **more)  # type: ignore[call-arg]
    settings = {"encoder": str(encoder), "revision": None, "pooling": pooling, "max_length": checkpoint.max_length}
    settings |= {"engine": "torch", "precision": "fp32", "text_parts": parts}
    run = Run("lr", settings, tuple(class_names), {}, Cost(), "mails", "d" * 32, checkpoint.checkpoint_digest(pooling))
    return save(run, folder, model.save)


def exported(run, form, folder, cache):
    """The export's own answers (n, k) to TEXTS, by the program that will run it."""
    from pipeline.export import program

    done = export_run(run, form, folder, cache=cache)
    assert done.checked.texts >= 200
    return program(form).reload(folder, run.class_names)(TEXTS), done


# ── a linear model in relu's clothes ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("classes", "narrow"), [(2, False), (16, False), (17, True), (40, True)])
def test_a_linear_model_fits_into_distilberts_head(classes, narrow):
    random = np.random.default_rng(0)
    gamma, beta = random.normal(1, 0.3, 32), random.normal(0, 0.3, 32)
    z = random.normal(size=(500, 32))
    z = (z - z.mean(1, keepdims=True)) / z.std(1, keepdims=True)  # what a LayerNorm makes
    v, head = z * gamma + beta, Head(random.normal(size=(classes, 32)), random.normal(size=classes))
    P, p, Q, q, only32 = as_relu(head, gamma, beta)
    assert only32 is narrow
    np.testing.assert_allclose(np.maximum(v @ P.T + p, 0) @ Q.T + q, v @ head.Q.T + head.q, atol=1e-10)


# ── formats ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["tiny_distilbert", "tiny_bert"])
@pytest.mark.parametrize("form", ["transformers", "onnx", "joblib", "skops"])
def test_an_export_says_what_the_run_says(form, kind, tmp_path, request, cache):
    if form == "skops":
        pytest.importorskip("skops")
    if form == "onnx":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnx")
    from pipeline.predict import open_run

    run = linear_run(tmp_path / "run", request.getfixturevalue(kind), ("a", "c", "b"), temperature=1.7)
    found, done = exported(run, form, tmp_path / "out", cache)
    own = open_run(run, cache=cache, precision="fp32").proba(TEXTS)
    np.testing.assert_allclose(found, own, atol=2e-5)
    assert np.ptp(own[:, 0]) > 0.01  # texts are told apart at all
    assert done.checked.difference < 1e-5
    assert "README.md" in done.files
    assert not list(tmp_path.glob(".draft*"))


def test_the_stock_checkpoint_is_stock(tmp_path, tiny_bert, cache):
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    run = linear_run(tmp_path / "run", tiny_bert)
    export_run(run, "transformers", tmp_path / "out", cache=cache)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out", local_files_only=True)
    assert type(model).__name__ == "DistilBertForSequenceClassification"
    assert AutoConfig.from_pretrained(tmp_path / "out").label2id == {"ham": 0, "spam": 1}
    encoded = AutoTokenizer.from_pretrained(tmp_path / "out")(["happy", "love " * 900], truncation=True)
    assert set(encoded) == {"input_ids", "attention_mask"}
    assert len(encoded["input_ids"][1]) == 512


def test_many_classes_are_marked_float32_only(tmp_path, tiny_distilbert, cache):
    run = linear_run(tmp_path / "run", tiny_distilbert, [f"class {i}" for i in range(20)])
    done = export_run(run, "transformers", tmp_path / "out", cache=cache)
    assert "float32 only" in done.notes[0]
    assert "float32 only" in (tmp_path / "out" / "README.md").read_text("utf-8")
    assert (
        "float32 only" in json.loads((tmp_path / "out" / "config.json").read_text("utf-8"))["probe_or_tune"]["notes"][0]
    )


@pytest.mark.parametrize(
    ("kind", "pooling", "parts", "says"),
    [
        ("tiny_distilbert", "mean", 1, "no stock class puts a classifier on 'mean' vectors"),
        ("tiny_distilbert", "cls+mean", 1, "--format onnx"),
        ("tiny_roberta", "cls", 1, "only distilbert, bert encoders"),
        ("tiny_bert", "cls", 2, "no token types"),
    ],
)
def test_what_no_stock_class_computes_is_refused_with_the_way_out(kind, pooling, parts, says, tmp_path, request, cache):
    run = linear_run(tmp_path / "run", request.getfixturevalue(kind), pooling=pooling, parts=parts)
    with pytest.raises(UserError, match=says) as found:
        export_run(run, "transformers", tmp_path / "out", cache=cache)
    assert "onnx" in str(found.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("kind", "pooling", "parts"), [("tiny_roberta", "cls+mean", 1), ("tiny_bert", "max", 2)])
def test_onnx_takes_every_pooling_and_pairs(kind, pooling, parts, tmp_path, request, cache):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    run = linear_run(tmp_path / "run", request.getfixturevalue(kind), pooling=pooling, parts=parts)
    done = export_run(run, "onnx", tmp_path / "out", cache=cache)
    assert done.checked.difference < 1e-5
    assert json.loads((tmp_path / "out" / "config.json").read_text("utf-8"))["class_names"] == ["ham", "spam"]


def test_a_threshold_travels(tmp_path, tiny_distilbert, cache):
    import joblib

    run = linear_run(tmp_path / "run", tiny_distilbert, threshold=0.9)
    run = save(replace_threshold(run), tmp_path / "second", lambda folder: copy_model(tmp_path / "run", folder))
    export_run(run, "joblib", tmp_path / "out", cache=cache)
    model = joblib.load(tmp_path / "out" / "model.joblib")
    texts = [" ".join(["win", "home", "very", "sad"][: i % 4 + 1]) + " now" * (i % 7) for i in range(40)]
    proba = model.predict_proba(texts)[:, 1]
    assert model.predict(texts).tolist() == ["spam" if p >= 0.9 else "ham" for p in proba]
    assert "from a probability of 0.9 on" in (tmp_path / "out" / "README.md").read_text("utf-8")


def replace_threshold(run):
    from dataclasses import replace

    return replace(run, threshold=0.9)


def copy_model(source, folder):
    import shutil

    shutil.copytree(source / "model", folder, dirs_exist_ok=True)


# ── other kinds of run ──────────────────────────────────────────────────────────────────────────────────────────────


def baseline_run(folder, model, kind):
    return save(Run(kind, {}, NAMES, {}, Cost(), "mails", "d" * 32), folder, model.save)


def test_baselines_become_plain_scikit_learn(tmp_path):
    import joblib

    from pipeline.baseline import MajorityModel
    from pipeline.tfidf.model import TfidfModel
    from pipeline.tfidf.terms import Terms

    counted = (
        Terms(0, "words", ("prize", "win prize"), np.float32([1.5, 2])),
        Terms(0, "characters", (" win ",), np.float32([1.2])),
    )
    tfidf = TfidfModel(counted, *weights(), NAMES)  # type: ignore[call-arg]
    for kind, model in {"tfidf": tfidf, "majority": MajorityModel(np.float32([0.8, 0.2]), NAMES)}.items():
        run = baseline_run(tmp_path / kind, model, kind)
        export_run(run, "joblib", tmp_path / f"{kind}-out")
        served = joblib.load(tmp_path / f"{kind}-out" / "model.joblib")
        texts = ["win prize win", "nothing known", "Prize!"]
        np.testing.assert_allclose(served.predict_proba(texts), model.proba([(t,) for t in texts]), atol=1e-6)  # type: ignore[attr-defined]
        with pytest.raises(UserError, match="no encoder; pass --format joblib"):
            export_run(run, "transformers", tmp_path / "no")
        if importlib.util.find_spec("skops"):
            from skops import io

            export_run(run, "skops", tmp_path / f"{kind}-skops")
            kept = tmp_path / f"{kind}-skops" / "model.skops"
            assert io.get_untrusted_types(file=kept) == []
            np.testing.assert_array_equal(io.load(kept).predict_proba(texts), served.predict_proba(texts))


def test_tfidf_on_pairs_takes_pairs(tmp_path):
    import joblib

    from pipeline.tfidf.model import TfidfModel
    from pipeline.tfidf.terms import Terms

    sides = Terms(0, "words", ("win",), np.float32([1.5])), Terms(1, "words", ("prize", "win"), np.float32([1.2, 2]))
    model = TfidfModel(sides, *weights(), NAMES)  # type: ignore[call-arg]
    run = Run("tfidf", {"text_parts": 2}, NAMES, {}, Cost(), "mails", "d" * 32)
    done = export_run(save(run, tmp_path / "run", model.save), "joblib", tmp_path / "out")
    assert not any("imports this package" in note for note in done.notes)
    pairs = [("win a prize", "no"), ("no", "win a prize")]
    served = joblib.load(tmp_path / "out" / "model.joblib")
    np.testing.assert_allclose(served.predict_proba(pairs), model.proba(pairs), atol=1e-6)


def weights():
    return np.float32([[0, 0, 0], [1, 2, 3]]), np.float32([0, -1])


def frozen_head_run(folder, encoder):
    from pipeline.encoder.checkpoint import EncoderSpec, locate
    from pipeline.finetune.frozen import FrozenHead

    base = linear_run(folder.parent / "base", encoder, ("x", "y", "z"))
    random, d = np.random.default_rng(3), 32
    shapes = (d, d), (d,), (3, d), (3,), (d,)
    arrays = [random.normal(0, 0.3, shape).astype(np.float32) for shape in shapes]
    digest = locate(EncoderSpec(str(encoder))).checkpoint_digest("cls")
    head = FrozenHead(*arrays, random.uniform(0.5, 2, d).astype(np.float32), ("x", "y", "z"), digest)  # type: ignore[call-arg]
    run = Run("frozen-head", base.settings, ("x", "y", "z"), {}, Cost(), "mails", "d" * 32, digest)
    return save(run, folder, head.save)


@pytest.mark.parametrize("form", ["transformers", "joblib"])
def test_a_frozen_head_is_distilberts_own(form, tmp_path, tiny_distilbert, cache):
    run = frozen_head_run(tmp_path / "run", tiny_distilbert)
    assert exported(run, form, tmp_path / "out", cache)[1].checked.difference < 1e-5


@pytest.mark.parametrize("head", ["standard", "linear", "mlp"])
def test_fine_tuned_runs(head, tmp_path, tiny_distilbert):
    from pipeline.encoder.checkpoint import EncoderSpec, locate
    from pipeline.finetune.heads import HeadSpec, build, write

    checkpoint, spec = locate(EncoderSpec(str(tiny_distilbert))), HeadSpec(head)
    model = build(checkpoint, NAMES, spec, seed=1)
    settings = {"max_length": 64, "precision": "fp32", "text_parts": 1}
    run = Run("fine-tune", settings, NAMES, {}, Cost(), "mails", "d" * 32)
    run = save(run, tmp_path / "run", lambda folder: write(model, checkpoint, NAMES, spec, folder))
    if head == "mlp":
        with pytest.raises(UserError, match="--format onnx"):
            export_run(run, "transformers", tmp_path / "out")
    else:
        assert export_run(run, "transformers", tmp_path / "out").checked.difference < 1e-5
    with pytest.raises(UserError, match="no scikit-learn model"):
        export_run(run, "joblib", tmp_path / "no")
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    assert export_run(run, "onnx", tmp_path / "onnx").checked.difference < 1e-5


# ── what goes wrong ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_export_that_differs_is_not_published(tmp_path, tiny_distilbert, monkeypatch, cache):
    run = linear_run(tmp_path / "run", tiny_distilbert)
    honest = checking.reference_of
    monkeypatch.setattr(
        "pipeline.export.reference_of", lambda *given: lambda texts: honest(*given)(texts)[:, ::-1].copy()
    )
    with pytest.raises(UserError, match="differs from the run"):
        export_run(run, "joblib", tmp_path / "out", cache=cache)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run"]


def test_a_folder_that_is_there_is_left_alone(tmp_path, tiny_distilbert):
    run = linear_run(tmp_path / "run", tiny_distilbert)
    with pytest.raises(UserError, match="is there already"):
        export_run(run, "joblib", tmp_path / "run")
    with pytest.raises(UserError, match=r"no format of an export 'pmml'; choose one of .*joblib, skops"):
        export_run(run, "pmml", tmp_path / "out")


def test_a_missing_package_is_named(tmp_path, tiny_distilbert, monkeypatch, cache):
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "onnx" else real(name, *a))
    with pytest.raises(UserError, match=r"pip install 'onnx>="):
        export_run(linear_run(tmp_path / "run", tiny_distilbert), "onnx", tmp_path / "out", cache=cache)


def test_the_card_shows_names_as_they_are(tmp_path, tiny_distilbert, cache):
    names = ("<script>alert(1)</script>", "a|b`c*")
    run = linear_run(tmp_path / "run", tiny_distilbert, names)
    export_run(run, "transformers", tmp_path / "out", cache=cache)
    card = (tmp_path / "out" / "README.md").read_text("utf-8")
    assert "<script>" not in card
    assert r"| 1 | a\|b\`c\* |" in card
    assert str(tmp_path) not in card  # no path of this machine travels
    assert safe("") == "(empty)"
    found = json.loads((tmp_path / "out" / "config.json").read_text("utf-8"))
    assert tuple(found["id2label"].values()) == names


# ── the Hub ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class FakeHub:
    """Keeps what is uploaded."""

    kept: dict = {}  # noqa: RUF012

    def create_repo(self, name, repo_type, exist_ok):
        return f"https://hub/{name}"

    def upload_folder(self, repo_id, folder_path, commit_message):
        self.kept[repo_id] = sorted(file.name for file in folder_path.iterdir())


def test_push_uploads_what_was_checked(tmp_path, tiny_distilbert, monkeypatch, cache):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "HfApi", FakeHub)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_x")
    run = linear_run(tmp_path / "run", tiny_distilbert)
    done = export_run(run, "transformers", tmp_path / "out", cache=cache, repository="me/mails")
    assert done.pushed == "https://hub/me/mails"
    files = ["README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    assert FakeHub.kept["me/mails"] == files
    assert 'model="me/mails"' in (tmp_path / "out" / "README.md").read_text("utf-8")


def test_push_says_beforehand_what_is_missing(tmp_path, tiny_distilbert, monkeypatch):
    import huggingface_hub

    run = linear_run(tmp_path / "run", tiny_distilbert)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    with pytest.raises(UserError, match="hf auth login"):
        export_run(run, "joblib", tmp_path / "out", repository="me/mails")
    with pytest.raises(UserError, match="not OWNER/NAME"):
        export_run(run, "joblib", tmp_path / "out", repository="mails")


def test_a_hub_out_of_reach_leaves_the_export(tmp_path, tiny_distilbert, monkeypatch, cache):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_x")
    run = linear_run(tmp_path / "run", tiny_distilbert)
    with pytest.raises(UserError, match="the export itself is in"):
        export_run(run, "joblib", tmp_path / "out", cache=cache, repository="me/mails")
    assert (tmp_path / "out" / "model.joblib").exists()


def test_checking_texts_come_from_the_runs_own_source(tmp_path):
    file = tmp_path / "mails.csv"
    file.write_text("text,label\n" + "".join(f"mail {i},{i % 2}\n" for i in range(300)))
    truth = np.zeros(1, np.int64)
    kept = {"test": Predictions("test", np.array(["test:0"]), truth, np.float32([[1, 0]]))}
    run = Run("lr", {"text_parts": 1}, NAMES, kept, Cost(), "mails", "d" * 32)
    texts, name = checking.texts_for(run, SourceOptions(str(file)))
    assert texts[:2] == [("mail 0",), ("mail 1",)]
    assert len(texts) == 200 + len(checking.HARD)
    assert name == str(file)
    pairs, name = checking.texts_for(Run("lr", {"text_parts": 2}, NAMES, {}, Cost(), "m", "d"), None)
    assert {len(text) for text in pairs} == {2}
    assert name == "sms-spam"


def test_parts_of_a_baseline_are_refused():
    with pytest.raises(UserError, match="tfidf"):
        parts_of(Run("tfidf", {}, NAMES, {}, Cost(), "mails", "d" * 32))


def test_the_runs_own_test_rows_are_what_it_is_compared_on(tmp_path):
    """Of one file that was cut into splits, too: they are found by their row ids."""
    file = tmp_path / "one.csv"
    file.write_text("text,label\n" + "".join(f"text {i},{'ab'[i % 2]}\n" for i in range(400)), "utf-8")
    ids = np.array([f"one:{i}" for i in range(3, 400, 40)])
    proba = np.full((len(ids), 2), 0.5, np.float32)
    predictions = {"test": Predictions("test", ids, np.zeros(len(ids), np.int64), proba)}
    run = Run("tfidf", {"text_parts": 1}, ("a", "b"), predictions, Cost(), "one", "d")
    texts, _ = checking.texts_for(run, SourceOptions(str(file)))
    assert texts[: len(ids)] == [(f"text {i}",) for i in range(3, 400, 40)]
    assert len(texts) == len(ids) + len(checking.HARD)
    elsewhere = replace(
        run, predictions={"test": replace(predictions["test"], row_ids=np.array(["other:1"] * len(ids)))}
    )
    assert checking.texts_for(elsewhere, SourceOptions(str(file)))[0][:2] == [("text 0",), ("text 1",)]
