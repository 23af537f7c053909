"""A cascade: a threshold that no judged row has chosen, a front with paired intervals, a dear model that waits."""

import json
from dataclasses import replace

import numpy as np
import pytest

from pipeline import UserError, comparison
from pipeline.cascade import (
    NEVER,
    CascadeModel,
    cascade_cost,
    choose_threshold,
    front,
    paired,
    steps,
    together,
    unsure,
)
from pipeline.contenders import fits_of
from pipeline.data import SourceOptions, read
from pipeline.encoder import EncoderSpec
from pipeline.export import export_run
from pipeline.predict import joined, open_run
from pipeline.run import Cost, Run
from pipeline.task import Task


def two(*of_second):
    second = np.array(of_second, np.float32)
    return np.stack([1 - second, second], 1)


CHEAP = two(0.9, 0.1, 0.8, 0.4, 0.55)  # answers 1 0 1 0 1, the surest first
DEAR = two(0.8, 0.2, 0.3, 0.7, 0.2)  # answers 1 0 0 1 0
TRUTH = np.array([1, 0, 1, 1, 0])  # the dear one is wrong on the third, the cheap one on the last two

# ── thresholds ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_threshold_has_its_share_and_accuracy():
    thresholds, share, accuracy = steps(CHEAP, DEAR, TRUTH)
    assert thresholds.tolist() == pytest.approx([NEVER, 0.9, 0.8, 0.6, 0.55])  # the first two rows are equally sure
    assert share.tolist() == pytest.approx([1, 0.6, 0.4, 0.2, 0])
    assert accuracy.tolist() == pytest.approx([0.8, 0.8, 1, 0.8, 0.6])
    for threshold, part, right in zip(thresholds, share, accuracy, strict=True):
        rows = unsure(CHEAP, threshold)
        assert rows.mean() == pytest.approx(part)
        both = together(CHEAP, threshold, lambda rows: DEAR[rows])
        assert (both.argmax(1) == TRUTH).mean() == pytest.approx(right)


def test_the_threshold_is_the_lowest_that_loses_nothing():
    assert choose_threshold(CHEAP, DEAR, TRUTH) == pytest.approx(0.6)
    assert choose_threshold(DEAR, DEAR, TRUTH) == pytest.approx(0.7)  # alike: the cheap one answers all
    assert choose_threshold(two(0.9, 0.9), two(0.1, 0.1), np.array([0, 0])) == NEVER  # it is surely wrong


def test_the_dear_one_is_asked_for_what_needs_it():
    asked = []

    def dear(rows):
        asked.append(rows.tolist())
        return DEAR[rows]

    both = together(CHEAP, 0.7, dear)
    assert asked == [[3, 4]]
    assert np.array_equal(both[:3], CHEAP[:3])
    assert np.array_equal(both[3:], DEAR[3:])
    together(CHEAP, 0.0, dear)
    assert len(asked) == 1


def test_a_cost_is_the_cheap_ones_and_a_share_of_the_dear_ones():
    parts = [
        Run("tfidf", {}, ("a", "b"), {}, Cost(1.0, ms_per_text_batch=0.1, model_mb=2.0), "d", "d"),
        Run("fine-tune", {}, ("a", "b"), {}, Cost(60.0, ms_per_text_batch=6.0, model_mb=90.0), "d", "d"),
    ]
    cost = cascade_cost(parts, 0.25)
    assert (cost.fit_seconds, cost.model_mb) == (61.0, 92.0)
    assert cost.ms_per_text_batch == pytest.approx(1.6)
    assert cost.ms_per_text_single is None


# ── the front ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_paired_intervals_hold_the_truth():
    """1,000 samples of 200 rows on which one of two is better by 5 points."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(1000):
        draw = rng.random(200)
        low, high = paired(draw < 0.85, (draw < 0.75) | (draw > 0.95), 0.05)  # +10 and −5 points
        held += low <= 0.05 <= high
    assert 930 <= held <= 985
    assert paired(np.ones(50, bool), np.ones(50, bool), 0.05) == pytest.approx((-0.0377, 0.0377), abs=1e-3)


def test_a_front_goes_from_all_dear_to_all_cheap():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 2000)
    strength = rng.normal(0, 1, 2000)

    def said(noise):
        logit = (2 * truth - 1) * 1.5 + noise * rng.normal(0, 1, 2000) + strength
        return two(*(1 / (1 + np.exp(-logit))))

    cheap, dear = said(2.0), said(0.5)
    chosen, judged = (tuple(a[part] for a in (cheap, dear, truth)) for part in (slice(1000), slice(1000, None)))
    points = front(chosen, judged, [0.1, 6.0])
    shares = [point["share"] for point in points]
    assert shares[0] == 1
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] < 0.02
    assert points[0]["difference"] == 0
    assert points[0]["ms_per_text_batch"] == pytest.approx(6.1)
    assert points[-1]["accuracy"] == pytest.approx((cheap[1000:].argmax(1) == truth[1000:]).mean(), abs=0.01)
    assert points[-1]["high"] < 0  # the cheap one alone is worse, and that is seen
    assert all(point["low"] <= point["difference"] <= point["high"] for point in points)
    other = (judged[0], judged[1], 1 - judged[2])
    assert [p["threshold"] for p in front(chosen, other, [0.1, 6.0])] == [p["threshold"] for p in points]


# ── runs ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def task(tmp_path_factory, tiny_distilbert):
    home = tmp_path_factory.mktemp("cascade")
    data = read(SourceOptions("sms-spam", rows="first:300"))
    spec = EncoderSpec(str(tiny_distilbert), precision="fp32")
    return Task(data, (spec,), cache=home / "cache", runs=home / "runs", cascade=("lr", "tfidf"))


@pytest.fixture(scope="module")
def run_of_two(task):
    (fit,) = fits_of(task, "cascade")
    return fit.run()


def test_a_cascade_is_its_parts_runs(task, run_of_two):
    cheap, dear = (next(fits_of(task, name)).run().predictions for name in ("lr", "tfidf"))
    threshold = CascadeModel.load(run_of_two.model_folder).threshold
    assert threshold == choose_threshold(cheap["train"].proba, dear["train"].proba, cheap["train"].truth)
    own = together(cheap["test"].proba, threshold, lambda rows: dear["test"].proba[rows])
    assert np.array_equal(run_of_two.predictions["test"].proba, own)
    assert run_of_two.notes[0].startswith("lr answers from a probability of ")
    assert [point["what"] for point in run_of_two.history].count("front") >= 2


def test_test_labels_choose_nothing(task, run_of_two):
    data = task.dataset
    split = data.roles["test"]
    turned = replace(data.splits[split], labels=1 - data.splits[split].labels)
    other = replace(task, dataset=replace(data, splits=data.splits | {split: turned}), runs=task.runs / "turned")
    again = next(fits_of(other, "cascade")).run()
    assert CascadeModel.load(again.model_folder).threshold == pytest.approx(
        CascadeModel.load(run_of_two.model_folder).threshold, abs=1e-5
    )


def test_the_dear_model_is_opened_when_a_text_needs_it(task, run_of_two, monkeypatch):
    opened = []
    monkeypatch.setattr(joined, "open_run", lambda run, *rest: opened.append(run.kind) or open_run(run, *rest))
    model = joined.Cascade(run_of_two, task.runtime, task.cache, "fp32")
    model.limit = 0.0
    texts = task.dataset.test.texts
    assert np.allclose(model.proba(texts), open_run(model.parts[0], cache=task.cache, precision="fp32").proba(texts))
    assert opened == ["lr"]
    model.limit = CascadeModel.load(run_of_two.model_folder).threshold
    assert np.allclose(model.proba(texts), run_of_two.predictions["test"].proba, atol=1e-4)
    model.limit = NEVER
    assert np.allclose(model.proba(texts), open_run(model.parts[1]).proba(texts), atol=1e-6)
    assert opened == ["lr", "tfidf"]


@pytest.mark.parametrize("form", ["joblib", "onnx", "transformers"])
def test_it_is_exported_in_parts(task, run_of_two, tmp_path, form):
    with pytest.raises(UserError, match="a cascade is two models; export its parts, which lie in model/parts"):
        export_run(run_of_two, form, tmp_path / "out", cache=task.cache)


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        (("lr",), "a cascade of lr: pass two different contenders"),
        (("lr", "tfidf", "majority"), "--cascade: pass two contenders, the cheap one first"),
        (("lr", "cascade"), "--cascade: a cascade cannot be a part of it"),
    ],
)
def test_what_is_no_cascade_is_refused(task, parts, says):
    with pytest.raises(UserError, match=says):
        list(fits_of(replace(task, cascade=parts), "cascade"))


@pytest.mark.parametrize("change", [{"threshold": "high"}, {"threshold": None}, {"parts": ["lr"]}])
def test_a_lying_record_is_refused(tmp_path, change):
    CascadeModel(("lr", "tfidf"), 0.5, ("a", "b")).save(tmp_path, [])
    path = tmp_path / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | change), "utf-8")
    with pytest.raises(UserError, match="damaged model"):
        CascadeModel.load(tmp_path)


def test_the_first_answer_waits_for_no_cascade(task, tmp_path, monkeypatch):
    """It is there before the dear part is fitted; a cascade would fit that by the way."""
    asked: list[tuple[str, ...]] = []

    def judge(task, rules):
        asked.append(comparison.as_trained(task, rules.contenders))
        raise KeyboardInterrupt

    monkeypatch.setattr(comparison, "judge", judge)
    rules = comparison.ComparisonSettings(("majority", "tfidf", "fine-tune"))
    with pytest.raises(KeyboardInterrupt):
        comparison.first_answer(replace(task, runs=tmp_path, cascade=("tfidf", "fine-tune")), rules, "")
    assert asked == [("majority", "tfidf")]


def test_compare_shows_the_front(run, task, run_of_two):
    words = ["sms-spam", "--rows", "first:300", "--encoder", task.encoders[0].name, "--precision", "fp32", "--no-cv"]
    words += ["--cache", task.cache, "--runs", task.runs, "--contenders", "lr,tfidf", "--cascade", "lr,tfidf"]
    code, out, err = run("compare", *words, "--json", encoder=False)
    assert code == 0, err
    found = json.loads(out)
    assert {c["name"] for c in found["contenders"]} == {"lr", "tfidf", "cascade"}
    assert found["cascade"][0]["share"] == 1
    assert set(found["cascade"][0]) >= {"threshold", "ms_per_text_batch", "accuracy", "difference", "low", "high"}
    code, out, err = run("compare", *words, encoder=False)
    assert code == 0, err
    assert "share for the dear one" in out
    code, out, err = run("predict", run_of_two.folder, "win a prize now", "--cache", task.cache, encoder=False)
    assert code == 0, err
    assert set(json.loads(out)["proba"]) == {"ham", "spam"}
