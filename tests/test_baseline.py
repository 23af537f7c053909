"""The contenders that need no encoder."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from pipeline import UserError, baseline
from pipeline.baseline import MajorityModel, TfidfModel, TfidfSettings, fit_majority, fit_tfidf
from pipeline.predict import answers, texts_in
from pipeline.run import load_run

GOOD, BAD = ["nice", "lovely", "great work", "well done"], ["awful", "terrible", "bad work", "badly done"]


def part(name, texts, truth):
    ids = np.array([f"{name}:{i}" for i in range(len(truth))])
    return SimpleNamespace(name=name, texts=texts, labels=np.array(truth), row_ids=ids)


def reviews(n, seed):
    rng = np.random.default_rng(seed)
    truth = (rng.random(n) < 0.3).astype(int)
    texts = [
        (f"it was {rng.choice((BAD, GOOD)[label])} and {rng.choice(['red', 'green', 'blue'])} number{i % 13}",)
        for i, label in enumerate(truth)
    ]
    return texts, truth


def world(**parts):
    parts = parts or {
        role: part(role, *reviews(n, n)) for role, n in (("train", 200), ("validation", 50), ("test", 51))
    }
    return SimpleNamespace(
        name="reviews", digest="d" * 16, class_names=("bad", "good"), roles={role: role for role in parts}, **parts
    )


def test_majority_is_the_class_shares(tmp_path):
    dataset = world(train=part("train", [("a",), ("b",), ("c",), ("d",)], [0, 0, 0, 1]), test=part("t", [("x",)], [1]))
    run = fit_majority(dataset, tmp_path)
    assert run.kind == "majority"
    assert run.checkpoint_digest is None
    assert run.predictions["test"].proba.tolist() == [[0.75, 0.25]]
    assert set(run.predictions) == {"train", "test"}
    assert MajorityModel.load(run.model_folder).proba([("x",), ("y",)]).tolist() == [[0.75, 0.25]] * 2
    assert fit_majority(dataset, tmp_path).folder == run.folder


def test_majority_of_one_class_is_refused(tmp_path):
    with pytest.raises(UserError, match="one class only"):
        fit_majority(world(train=part("train", [("a",), ("b",)], [1, 1])), tmp_path)


def test_words_and_pairs_of_words():
    assert baseline.words(("Not good, I say!",)) == ["not", "good", "say", "not good", "good say"]
    assert baseline.words(("Good day", "good")) == ["0:good", "0:day", "0:good day", "1:good"]
    assert baseline.words(("", "?")) == []


def test_rows_equal_scikit_learns():
    texts = [row[0] for row in reviews(100, 0)[0]] + ["", "good good good work work", "Schön, niño! 你好 x"]
    theirs = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2, dtype=np.float32)
    expected = theirs.fit_transform(texts)
    rows = [(text,) for text in texts]
    vocabulary, idf = baseline.vocabulary_of(rows, 2)
    assert list(vocabulary) == theirs.get_feature_names_out().tolist()
    found = baseline.weigh(baseline.count(rows, {w: i for i, w in enumerate(vocabulary)}), idf)
    assert np.abs((found - expected).toarray()).max() < 1e-6


def test_run_learns_and_comes_back(tmp_path):
    dataset = world()
    run = fit_tfidf(dataset, TfidfSettings(), tmp_path)
    assert run.kind == "tfidf"
    assert run.metrics["test"]["accuracy"] > 0.95
    assert run.metrics["train"]["accuracy"] > 0.95
    model = TfidfModel.load(run.model_folder)
    assert np.array_equal(model.proba(dataset.test.texts), run.predictions["test"].proba)
    assert run.cost.trained_parameters == len(model.vocabulary) + 1
    assert run.cost.ms_per_text_single > 0
    assert sorted(file.name for file in run.model_folder.iterdir()) == ["model.json", "model.safetensors"]
    assert load_run(run.folder).history == run.history
    assert fit_tfidf(dataset, TfidfSettings(), tmp_path).folder == run.folder


def test_model_is_scikit_learns_at_the_chosen_penalty(tmp_path):
    dataset = world()
    run = fit_tfidf(dataset, TfidfSettings(C=(3.0,)), tmp_path)
    vectoriser = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)
    rows = vectoriser.fit_transform([row[0] for row in dataset.train.texts])
    theirs = LogisticRegression(C=3.0, tol=1e-8, max_iter=5000).fit(rows, dataset.train.labels)
    expected = theirs.predict_proba(vectoriser.transform([row[0] for row in dataset.test.texts]))
    assert np.abs(run.predictions["test"].proba - expected).max() < 2e-3


def test_pairs_know_which_side_a_word_is_on(tmp_path):
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 120)
    texts = [("warm", "cold") if label else ("cold", "warm") for label in truth]
    texts = [(f"{a} number{i}", f"{b} number{i}") for i, (a, b) in enumerate(texts)]
    run = fit_tfidf(world(train=part("train", texts, truth)), TfidfSettings(), tmp_path)
    assert run.metrics["train"]["accuracy"] == 1
    silent = replace(run, settings={key: value for key, value in run.settings.items() if key != "text_parts"})
    for one in (run, silent):  # the second as runs were that did not say so
        assert list(texts_in(one, ["warm", "cold"], None, (), [])) == [[("warm", "cold")]]
        assert list(texts_in(one, [], None, (), ["warm\tcold\n"])) == [[("warm", "cold")]]
        with pytest.raises(UserError, match="reads 2 texts a row and got 1"):
            list(answers(one, TfidfModel.load(run.model_folder), [[("warm",)]]))


@pytest.mark.parametrize("texts", [[("",)] * 10, [("a",), ("I !",), ("?",), ("",), ("x y",)] * 2])
def test_no_words_at_all_is_the_majority_class_and_said(tmp_path, texts):
    texts = [*texts[:-1], ("b",)]  # two different texts, so that there are folds
    run = fit_tfidf(world(train=part("train", texts, [0] * 7 + [1] * 3)), TfidfSettings(), tmp_path)
    model = TfidfModel.load(run.model_folder)
    assert model.vocabulary == ()
    assert np.allclose(model.proba([("anything at all",)]), [[0.7, 0.3]], atol=1e-3)
    assert any("TF-IDF is the majority class here" in note for note in run.notes)


def test_words_that_occur_once_are_used_where_nothing_else_is_there(tmp_path):
    texts = [(word,) for word in ("one", "two", "three", "four", "five", "six")]
    run = fit_tfidf(world(train=part("train", texts, [0, 1] * 3)), TfidfSettings(), tmp_path)
    assert len(TfidfModel.load(run.model_folder).vocabulary) == 6


def test_folds_one_after_the_other_give_what_they_give_together(tmp_path, monkeypatch):
    together = fit_tfidf(world(), TfidfSettings(), tmp_path / "1")
    monkeypatch.setattr(baseline, "LARGE", 0)
    apart = fit_tfidf(world(), TfidfSettings(), tmp_path / "2")
    assert np.abs(apart.predictions["train"].proba - together.predictions["train"].proba).max() < 1e-3
    assert np.abs(apart.predictions["test"].proba - together.predictions["test"].proba).max() < 1e-3


def test_a_vocabulary_keeps_the_most_frequent(monkeypatch):
    monkeypatch.setattr(baseline, "MOST", 2)
    texts = [("aa bb",), ("aa cc",), ("bb dd",), ("aa",)]
    assert baseline.vocabulary_of(texts, 1)[0] == ("aa", "bb")


def test_one_row_in_a_class_and_unknown_classes(tmp_path):
    texts, truth = reviews(30, 1)
    dataset = world(train=part("train", [*texts, ("odd one",)], [*(2 * truth), 1]))
    dataset.class_names = ("bad", "odd", "good", "never")
    run = fit_tfidf(dataset, TfidfSettings(), tmp_path)
    assert run.predictions["train"].proba.shape == (31, 4)
    assert run.predictions["train"].proba[:, 3].max() == 0
    assert any("odd" in note for note in run.notes)


@pytest.mark.parametrize(
    "change",
    [
        {"vocabulary": ["only one"]},
        {"vocabulary": "abc"},
        {"vocabulary": [1, 2]},
        {"class_names": ["good"]},
        {"class_names": None},
        {"format": "1"},
    ],
)
def test_a_lying_record_is_refused(tmp_path, change):
    model = TfidfModel(("a", "b"), np.ones(2, "f4"), np.zeros((2, 2), "f4"), np.zeros(2, "f4"), ("bad", "good"))
    model.save(tmp_path)
    path = tmp_path / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | change), "utf-8")
    with pytest.raises(UserError, match="damaged model"):
        TfidfModel.load(tmp_path)


@pytest.mark.parametrize("prior", [[1.0], ["a", "b"], [float("nan"), 1], None, [-1, 2]])
def test_a_lying_prior_is_refused(tmp_path, prior):
    MajorityModel(np.array([0.5, 0.5], "f4"), ("a", "b")).save(tmp_path)
    path = tmp_path / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | {"prior": prior}), "utf-8")
    with pytest.raises(UserError, match="damaged model"):
        MajorityModel.load(tmp_path)
