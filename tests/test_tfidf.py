"""TF-IDF: terms as scikit-learn counts them, features chosen in the folds, models of earlier versions."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from pipeline import UserError, tfidf
from pipeline.predict import Given, answers, open_run, texts_in
from pipeline.run import load_run
from pipeline.tfidf import TfidfModel, TfidfSettings, tfidf_fit
from pipeline.tfidf.terms import ANALYZERS, Terms, candidates, learn_terms, matrix_of, pieces, words

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


def rows_of(*texts):
    return [(text,) for text in texts]


# ── terms ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_words_and_pairs_of_words():
    assert words("Not good, I say!") == ["not", "good", "say", "not good", "good say"]
    assert words("?") == words("") == []


def test_pieces_stay_within_words():
    assert pieces("I\n go", 2, 3) == [" i", "i ", " i ", " g", "go", "o ", " go", "go "]
    assert pieces("日本", 1, 4) == [" ", "日", "本", " ", " 日", "日本", "本 ", " 日本", "日本 ", " 日本 "]
    assert pieces(" \t", 2, 5) == []


HARD = [
    "",
    "good good good work work",
    "Schön, niño! 你好 x",
    "a",
    "tabs\t\tand\n\nlines  here",
    "I\u00a0 I",
    "\ud800 odd",
]


@pytest.mark.parametrize("analyzer", ANALYZERS)
def test_rows_equal_scikit_learns(analyzer):
    texts = [row[0] for row in reviews(100, 0)[0]] + HARD
    theirs = TfidfVectorizer(sublinear_tf=True, min_df=2, dtype=np.float32, **ANALYZERS[analyzer].options)
    expected = theirs.fit_transform(texts)
    (terms,), matrix = learn_terms(rows_of(*texts), (analyzer,), 2)
    assert list(terms.vocabulary) == theirs.get_feature_names_out().tolist()
    assert np.abs((matrix - expected).toarray()).max() == 0
    assert np.abs((matrix_of(rows_of(*texts), (terms,)) - expected).toarray()).max() < 1e-6
    assert np.abs((terms.vectorizer().transform(texts) - expected).toarray()).max() < 1e-6


def test_sides_and_analyzers_stand_side_by_side():
    texts = [("red hat", "blue"), ("red", "blue hat")]
    terms, matrix = learn_terms(texts, ("words", "characters"), 2)
    assert [(t.side, t.analyzer) for t in terms] == [(0, "words"), (0, "characters"), (1, "words"), (1, "characters")]
    assert terms[0].vocabulary == ("red",)
    assert terms[2].vocabulary == ("blue",)
    assert matrix.shape == (2, sum(len(t.vocabulary) for t in terms))
    assert np.allclose(np.sqrt(matrix.multiply(matrix).sum(1)), 2)  # four rows of length 1
    assert np.abs((matrix - matrix_of(texts, terms)).toarray()).max() < 1e-6


def test_of_much_text_every_second_text_gives_the_vocabulary(monkeypatch):
    monkeypatch.setattr(tfidf.terms, "MOST_CHARACTERS", 10)
    (terms,), matrix = learn_terms(rows_of("aa bb", "cc dd", "aa bb", "cc dd"), ("words",), 1)
    assert terms.vocabulary == ("aa", "aa bb", "bb")
    assert matrix.sum(1).ravel().tolist()[0][1::2] == [0, 0]


def test_a_vocabulary_keeps_the_most_frequent():
    (terms,), _ = learn_terms(rows_of("aa bb", "aa cc", "bb dd", "aa"), ("words",), 1, most=2)
    assert terms.vocabulary == ("aa", "bb")


@pytest.mark.parametrize(
    ("text", "spaced"),
    [
        ("An English sentence with one 日 in it", True),
        ("한국어는 띄어쓰기를 한다", True),
        ("это предложение", True),
        ("هذه جملة", True),
        ("今天天气很好", False),
        ("今日はいい天気ですね", False),
        ("วันนี้อากาศดี", False),
        ("ថ្ងៃនេះ", False),
        ("ဒီနေ့", False),
        ("𠮷𠮷", False),
    ],
)
def test_scripts_without_spaces_are_read_by_characters(text, spaced):
    table = candidates(rows_of(text) * 3, 2, "auto")
    assert list(table) == (["words", "characters", "both"] if spaced else ["characters", "both"])
    assert ("characters-1" in table["both"]) is not spaced


def test_an_unknown_feature_is_refused():
    with pytest.raises(UserError, match="no TF-IDF feature 'letters'; choose one of words, characters, both, auto"):
        candidates(rows_of("a"), 2, "letters")


# ── fits ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_run_learns_and_comes_back(tmp_path):
    dataset = world()
    run = tfidf_fit(dataset, TfidfSettings(), tmp_path).run()
    assert run.kind == "tfidf"
    assert run.metrics["test"]["accuracy"] > 0.95
    assert run.metrics["train"]["accuracy"] > 0.95
    model = TfidfModel.load(run.model_folder)
    assert np.abs(model.proba(dataset.test.texts) - run.predictions["test"].proba).max() == 0
    assert run.cost.trained_parameters == model.W.shape[1] + 1
    assert run.cost.ms_per_text_single > 0
    assert sorted(file.name for file in run.model_folder.iterdir()) == ["model.json", "model.safetensors"]
    assert load_run(run.folder).history == run.history
    assert tfidf_fit(dataset, TfidfSettings(), tmp_path).run().folder == run.folder


def test_features_are_those_of_the_lowest_loss(tmp_path):
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 160)
    endings = [("ung", "heit")[label] for label in truth]  # no two texts share a word
    stems = ["".join(rng.choice(list("abcdefgh"), 7)) for _ in truth]
    texts = [(f"{stem}{ending}",) for stem, ending in zip(stems, endings, strict=True)]
    run = tfidf_fit(world(train=part("train", texts, truth)), TfidfSettings(), tmp_path).run()
    losses = {point["features"]: point["log_loss"] for point in run.history if point["what"] == "features"}
    assert list(losses) == ["words", "characters", "both"]
    assert losses["characters"] < 0.2 < losses["words"]
    (final,) = [point for point in run.history if point["what"] == "final"]
    assert (
        final["features"]
        == {"characters": ["characters"], "both": ["words", "characters"]}[min(losses, key=losses.get)]
    )
    assert run.metrics["train"]["accuracy"] > 0.95
    only = tfidf_fit(world(train=part("train", texts, truth)), TfidfSettings(features="words"), tmp_path).run()
    assert only.folder != run.folder
    assert only.metrics["train"]["accuracy"] < 0.7


def test_chinese_is_told_apart(tmp_path):
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 120)
    filler = list("天地人山水火木金土日月星")
    texts = [("".join(rng.choice(filler, 5)) + "坏好"[label] + "".join(rng.choice(filler, 5)),) for label in truth]
    run = tfidf_fit(world(train=part("train", texts, truth)), TfidfSettings(), tmp_path).run()
    assert run.metrics["train"]["accuracy"] > 0.9  # a clause is one word: by words alone this is guessing


def test_model_is_scikit_learns_at_the_chosen_penalty(tmp_path):
    dataset = world()
    run = tfidf_fit(dataset, TfidfSettings(C=(3.0,), features="words"), tmp_path).run()
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
    run = tfidf_fit(world(train=part("train", texts, truth)), TfidfSettings(), tmp_path).run()
    assert run.metrics["train"]["accuracy"] == 1
    assert list(texts_in(run, Given(("warm", "cold")), [])) == [[("warm", "cold")]]
    assert list(texts_in(run, Given(), ["warm\tcold\n"])) == [[("warm", "cold")]]
    with pytest.raises(UserError, match="reads 2 texts a row and got 1"):
        list(answers(run, TfidfModel.load(run.model_folder), [[("warm",)]]))


@pytest.mark.parametrize("texts", [[("",)] * 10, [("\t",), (" ",), ("\n",), ("",), ("\u3000",)] * 2])
def test_no_terms_at_all_is_the_majority_class_and_said(tmp_path, texts):
    texts = [*texts[:-1], ("b",)]  # two different texts, so that there are folds
    run = tfidf_fit(
        world(train=part("train", texts, [0] * 7 + [1] * 3)), TfidfSettings(features="words"), tmp_path
    ).run()
    model = TfidfModel.load(run.model_folder)
    assert model.terms == ()
    assert np.allclose(model.proba([("anything at all",)]), [[0.7, 0.3]], atol=1e-3)
    assert any("TF-IDF is the majority class here" in note for note in run.notes)
    assert tfidf_fit(world(train=part("train", texts, [0] * 7 + [1] * 3)), TfidfSettings(), tmp_path / "auto").run()


def test_words_that_occur_once_are_used_where_nothing_else_is_there(tmp_path):
    texts = [(word,) for word in ("one", "two", "three", "four", "five", "six")]
    run = tfidf_fit(world(train=part("train", texts, [0, 1] * 3)), TfidfSettings(features="words"), tmp_path).run()
    assert len(TfidfModel.load(run.model_folder).terms[0].vocabulary) == 6


def test_folds_one_after_the_other_give_what_they_give_together(tmp_path, monkeypatch):
    settings = TfidfSettings(features="words")
    together = tfidf_fit(world(), settings, tmp_path / "1").run()
    monkeypatch.setattr(tfidf, "MOST_WEIGHTS", 10_000)
    apart = tfidf_fit(world(), settings, tmp_path / "2").run()
    assert np.abs(apart.predictions["train"].proba - together.predictions["train"].proba).max() < 1e-2
    assert np.abs(apart.predictions["test"].proba - together.predictions["test"].proba).max() < 1e-3


def test_a_class_that_is_not_in_train(tmp_path):
    texts, truth = reviews(30, 1)
    dataset = world(train=part("train", [*texts, ("odd one",)], [*(2 * truth), 1]))
    dataset.class_names = ("bad", "odd", "good", "never")
    run = tfidf_fit(dataset, TfidfSettings(), tmp_path).run()
    assert run.predictions["train"].proba.shape == (31, 4)
    assert run.predictions["train"].proba[:, 3].max() == 0
    assert any("odd" in note for note in run.notes)


# ── many classes ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_terms_are_bounded_by_the_classes():
    assert [tfidf.most_terms(k, 1) for k in (2, 100, 1000, 100_000)] == [100_000, 100_000, 10_000, 1_000]
    assert tfidf.most_terms(1000, 2) == 5_000


def test_characters_are_tried_where_that_takes_minutes_at_most():
    texts = rows_of("x" * 100) * 10_000  # a million characters
    assert list(candidates(texts, 2, "auto")) == ["words", "characters", "both"]
    assert list(candidates(texts, 1000, "auto")) == ["words"]
    assert list(candidates(rows_of("天" * 100) * 10_000, 1000, "auto")) == ["characters"]
    assert list(candidates(texts, 1000, "both")) == ["both"]  # asked for
    assert tfidf.seconds(texts, 2) == pytest.approx(1 + 3.5e6 * 5.5e-6)
    assert tfidf.seconds(texts, 1000) == pytest.approx(1 + 1002.5e6 * 5.5e-7)


def test_what_was_not_tried_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(tfidf.terms, "MOST_WORK", 10)
    run = tfidf_fit(world(), TfidfSettings(), tmp_path).run()
    assert "words and characters were not compared: words alone are counted" in run.notes
    assert [point["features"] for point in run.history if point["what"] == "final"] == [["words"]]


def test_many_classes_say_what_was_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(tfidf, "most_terms", lambda classes, vectorizers: 5)
    run = tfidf_fit(world(), TfidfSettings(features="words"), tmp_path).run()
    assert "of 2 classes, the 5 most frequent terms alone are counted" in run.notes
    assert len(TfidfModel.load(run.model_folder).terms[0].vocabulary) == 5


# ── models ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def model():
    terms = Terms(0, "words", ("a", "b"), np.ones(2, "f4"))
    return TfidfModel((terms,), np.zeros((2, 2), "f4"), np.zeros(2, "f4"), ("bad", "good"))


def changed(folder, change, drop=()):
    """The record of the model in `folder`, changed."""
    path = folder / "model.json"
    record = json.loads(path.read_text("utf-8")) | change
    path.write_text(json.dumps({k: v for k, v in record.items() if k not in drop}), "utf-8")


@pytest.mark.parametrize(
    "change",
    [
        {"terms": [{"side": 0, "analyzer": "words", "vocabulary": ["only one"]}]},
        {"terms": [{"side": 0, "analyzer": "words", "vocabulary": "ab"}]},
        {"terms": [{"side": 0, "analyzer": "words", "vocabulary": [1, 2]}]},
        {"terms": [{"side": 0, "analyzer": "words", "vocabulary": ["a", "a"]}]},
        {"terms": [{"side": 2, "analyzer": "words", "vocabulary": ["a", "b"]}]},
        {"terms": [{"side": 0, "analyzer": "os.system", "vocabulary": ["a", "b"]}]},
        {"terms": [{"side": 0, "analyzer": "words"}]},
        {"terms": 3},
        {"class_names": ["good"]},
        {"class_names": None},
        {"format": "1"},
    ],
)
def test_a_lying_record_is_refused(tmp_path, change):
    model().save(tmp_path)
    changed(tmp_path, change)
    with pytest.raises(UserError, match="damaged model"):
        TfidfModel.load(tmp_path)


def test_half_a_character_is_kept(tmp_path):
    terms = Terms(0, "characters", (" \ud800",), np.ones(1, "f4"))
    TfidfModel((terms,), np.zeros((2, 1), "f4"), np.zeros(2, "f4"), ("bad", "good")).save(tmp_path)
    assert TfidfModel.load(tmp_path).terms[0].vocabulary == (" \ud800",)


def test_a_model_of_an_earlier_version_predicts(tmp_path):
    """It has one vocabulary of words, and no terms."""
    dataset = world()
    run = tfidf_fit(dataset, TfidfSettings(features="words"), tmp_path).run()
    vocabulary = TfidfModel.load(run.model_folder).terms[0].vocabulary
    changed(run.model_folder, {"vocabulary": list(vocabulary)}, drop=("terms",))
    assert np.array_equal(open_run(run).proba(dataset.test.texts), run.predictions["test"].proba)
    record = json.loads((run.folder / "run.json").read_text("utf-8"))
    for name in ("features", "vectorizer"):
        del record["settings"][name]
    (run.folder / "run.json").write_text(json.dumps(record), "utf-8")
    again = tfidf_fit(dataset, TfidfSettings(), tmp_path).run()  # it answers no question of today
    assert again.folder != run.folder
    assert load_run(run.folder).settings == record["settings"]
    shutil.rmtree(again.folder)


def test_a_model_of_an_earlier_version_on_pairs_is_refused_with_the_way_out(tmp_path):
    model().save(tmp_path)
    changed(tmp_path, {"vocabulary": ["0:a", "1:b"]}, drop=("terms",))
    with pytest.raises(UserError, match="an earlier version fitted it on pairs of texts; fit it again"):
        TfidfModel.load(tmp_path)


def test_a_text_alone_is_refused_where_pairs_were_counted():
    pairs = [("one film", "a plot"), ("two films", "no plot"), ("one plot", "a film"), ("three", "films")] * 5
    learnt, _ = learn_terms(pairs, ["words"], 1)
    second = next(each for each in learnt if each.side == 1)
    assert second.rows(pairs[:1]).shape[0] == 1
    with pytest.raises(UserError, match="fitted on pairs, and a text stands alone"):
        second.rows([("one film",)])
