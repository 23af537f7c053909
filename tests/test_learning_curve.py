"""Curves: nested subsets, crossings whose answer is known, points that are found again, and the command."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from tables import write_csv

from pipeline import UserError
from pipeline.contenders import estimates
from pipeline.data import Dataset, SourceOptions, Split, read
from pipeline.encoder.checkpoint import EncoderSpec
from pipeline.finetune import FineTuneSettings
from pipeline.learning_curve import part_seconds
from pipeline.learning_curve.crossing import ahead_from, between, common, redrawn, resampling, span
from pipeline.learning_curve.learners import epochs_at
from pipeline.learning_curve.results import Crossing, Curve, Line, Point, crossings, latest, save
from pipeline.learning_curve.subsets import check, default_sizes, default_tuned_sizes, nested, smaller
from pipeline.metrics import METRICS, scores
from pipeline.task import Task

LABELS = np.repeat([0, 1, 2], [700, 250, 50])

# ── subsets ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_smaller_subset_is_part_of_every_larger_one():
    found = nested(LABELS, [10, 100, 333, 1000], seed=1, draw=0)
    assert [len(rows) for rows in found.values()] == [10, 100, 333, 1000]
    for small, large in ((10, 100), (100, 333), (333, 1000)):
        assert set(found[small]) < set(found[large])
    assert found[1000].tolist() == list(range(1000))


def test_subsets_are_stratified_and_keep_every_class():
    for draw in range(5):
        found = nested(LABELS, [3, 20, 200], seed=1, draw=draw)
        assert sorted(LABELS[found[3]]) == [0, 1, 2]
        assert np.abs(np.bincount(LABELS[found[20]]) - [14, 5, 1]).max() <= 1
        assert np.abs(np.bincount(LABELS[found[200]]) - [140, 50, 10]).max() <= 1


def test_a_seed_and_a_draw_decide_the_rows():
    one, again = (nested(LABELS, [50], seed=1, draw=2)[50] for _ in range(2))
    assert one.tolist() == again.tolist()
    assert one.tolist() != nested(LABELS, [50], seed=1, draw=3)[50].tolist()
    assert one.tolist() != nested(LABELS, [50], seed=2, draw=2)[50].tolist()


def test_default_sizes_end_with_all_rows():
    assert default_sizes(16_000, 6) == (100, 210, 430, 880, 1800, 3800, 7700, 16_000)
    assert default_tuned_sizes(16_000, 6) == (590, 1800, 5300, 16_000)
    assert default_sizes(10_003, 77)[0] == 150
    assert default_sizes(10_003, 77)[-1] == 10_003
    assert len(default_sizes(240, 2)) >= 6
    assert default_sizes(4, 2) == (4,)


def test_sizes_that_train_does_not_have_are_refused():
    assert check([500, 20, 500], 1000, "--sizes") == (20, 500)
    for size in (0, 1, 1001):
        with pytest.raises(UserError, match=rf"--sizes {size}: train has 1,000 rows"):
            check([size], 1000, "--sizes")


def test_validation_shrinks_with_train_and_test_stays():
    def split(name, labels):
        ids = np.array([f"{name}:{i}" for i in range(len(labels))])
        return Split(name, [(f"{name} {i}",) for i in range(len(labels))], labels, ids)

    parts = {"train": split("train", LABELS), "validation": split("validation", LABELS), "test": split("test", LABELS)}
    whole = Dataset("d", parts, {name: name for name in parts}, ("a", "b", "c"), ("text",), "label", "0" * 32)
    part = smaller(whole, nested(LABELS, [100], 1, 0)[100], seed=1)
    assert (len(part.train), len(part.validation), len(part.test)) == (100, 100, 1000)
    assert np.abs(np.bincount(part.validation.labels) - [70, 25, 5]).max() <= 1
    assert part.digest != whole.digest
    assert part.class_names == ("a", "b", "c")


def test_few_rows_are_passed_over_more_often():
    assert epochs_at(16_000, 16_000, 3, 32) == 3
    assert epochs_at(590, 16_000, 3, 32) == 11  # 19 steps an epoch, 200 in all
    assert epochs_at(100, 16_000, 3, 32) == 20
    assert epochs_at(50, 200, 3, 32) == 11  # no more steps than the whole takes: 21
    assert epochs_at(5300, 16_000, 3, 32) == 3


# ── crossings ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_part_is_announced_with_its_epochs_and_the_whole_of_test(tmp_path, tiny_distilbert, monkeypatch):
    monkeypatch.setattr("pipeline.estimates.multiply_rate", lambda: 1e9)
    dataset = read(SourceOptions(str(write_csv(tmp_path / "a.csv", [(f"text {i}", "xy"[i % 2]) for i in range(4000)]))))
    task = Task(dataset, (EncoderSpec(str(tiny_distilbert)),), tuning=FineTuneSettings(epochs=2, learning_rate=1e-4))
    whole = estimates(task, ("fine-tune",))["fine-tune"] - 10
    part = part_seconds(task, "fine-tune", 320) - 10
    assert epochs_at(320, 3200, 2, 32) == 20  # a tenth of the rows, ten times as often: about the same steps
    assert 0.7 * whole < part < 1.5 * whole


def test_between_sizes_lines_are_straight_over_the_logarithm():
    weights = between([10, 1000], [10, 100, 1000])
    assert weights == pytest.approx(np.array([[1, 0], [0.5, 0.5], [0, 1]]))
    assert common([10, 100, 1000], [50, 500]) == [50, 100, 500]
    assert common([10, 20], [50, 500]) == []


def test_the_crossing_is_where_a_line_stays_ahead():
    gaps = np.array([[-1.0, 1, -1, 1, 1], [1, 1, 1, -1, 0], [1, 1, -1, 2, 1]])
    found = ahead_from([1, 10, 100], gaps)
    assert found[:3] == pytest.approx([10**0.5, -np.inf, np.inf])
    assert found[3] == pytest.approx(10 ** (1 + 1 / 3))
    assert found[4] == pytest.approx(10)


def test_an_interval_may_be_infinite():
    assert span(np.array([-np.inf] * 50 + [5.0] * 50)) == (-np.inf, 5)
    assert span(np.array([7.0] * 90 + [np.inf] * 10)) == (7, np.inf)


def test_few_draws_are_widened():
    weights = resampling(5, 20_000, np.random.default_rng(0))
    assert weights.sum(0) == pytest.approx(1)
    values = np.array([1.0, 2, 3, 4, 10])
    redrawn_means = (values[:, None] * weights).sum(0)
    assert redrawn_means.std() == pytest.approx(values.std(ddof=1) / np.sqrt(5), rel=0.03)
    assert resampling(1, 3, np.random.default_rng(0)).tolist() == [[1.0, 1.0, 1.0]]


def predictions(truth, rate, rng):
    """(n,), right with probability `rate`."""
    return np.where(rng.random(len(truth)) < rate, truth, 1 - truth)


def line_of(name, sizes, own, means):
    points = tuple(
        Point(s, v.mean(), *np.quantile(m, (0.025, 0.975)), tuple(v), 0.1)  # type: ignore[call-arg]
        for s, v, m in zip(sizes, own, means, strict=True)
    )
    return Line(name, name, points)


def simulated(rates_a, rates_b, sizes, rng, n=800, draws=4):
    """Two lines whose expected accuracies are known."""
    truth = rng.integers(0, 2, n)
    probas = [
        np.eye(2)[np.array([predictions(truth, rate, rng) for _ in range(draws)])]
        for rates in (rates_a, rates_b)
        for rate in rates
    ]
    own, means = redrawn("accuracy", truth, probas, 300, rng)
    k = len(sizes)
    lines = [line_of("a", sizes, own[:k], means[:k]), line_of("b", sizes, own[k:], means[k:])]
    (crossing,) = crossings(lines, [means[:k], means[k:]], "accuracy")
    return lines, crossing


def test_a_point_is_the_mean_of_its_draws_with_an_interval():
    rng = np.random.default_rng(0)
    lines, _ = simulated([0.8, 0.9], [0.7, 0.7], [10, 100], rng)
    point = lines[0].points[1]
    assert point.value == pytest.approx(np.mean(point.draws))
    assert point.value == pytest.approx(0.9, abs=0.02)
    assert 0.01 < point.high - point.low < 0.06
    assert point.low < point.value < point.high


def test_a_known_crossing_lies_in_its_interval():
    """a rises by 10 points a decade, b is flat: they cross at 100. 95 % intervals, 40 repetitions."""
    hits = 0
    for seed in range(40):
        _, c = simulated(
            [0.7, 0.75, 0.85, 0.9], [0.8] * 4, [10, 31.6227766, 316.227766, 1000], np.random.default_rng(seed)
        )
        assert (c.leader, c.verdict) == ("a", "overtakes")
        hits += c.low <= 100 <= c.high
        assert 20 < c.low < c.high < 500
    assert hits >= 35  # binomial(40, 0.95): 35 or more in 99 of 100


def test_without_a_crossing_it_is_said():
    _, c = simulated([0.9, 0.95], [0.6, 0.7], [10, 100], np.random.default_rng(0))
    assert (c.leader, c.verdict, c.low, c.high, c.certain) == ("a", "always", None, None, 1.0)
    assert c.sentence.startswith("No crossing up to 100 labels: a leads b from 10 on, by 2")
    _, c = simulated([0.8, 0.8], [0.8, 0.8], [10, 100], np.random.default_rng(1))
    assert c.verdict == "undecided"
    assert "No certain crossing up to 100 labels" in c.sentence
    _, c = simulated([0.7, 0.9], [0.9, 0.7], [10, 1000], np.random.default_rng(2))
    assert c.verdict == "overtakes"
    assert c.sentence.startswith(f"{c.leader} overtakes {c.other} between ")
    assert (c.once, "this training" in c.sentence) == ((), False)


@pytest.mark.parametrize("seed", range(8))
def test_one_row_that_two_fits_tell_apart_decides_nothing(seed):
    """500 rows, ten wrong by both, one by b alone: chance explains it, as McNemar's test would say (p = 1)."""
    truth = np.zeros(500, int)
    wrong = np.arange(500)[:, None] < np.array([10, 11])
    probas = [np.eye(2)[wrong[:, place].astype(int)][None] for place in (0, 0, 1, 1)]
    own, means = redrawn("accuracy", truth, probas, 1000, np.random.default_rng(seed))
    assert [v.tolist() for v in own] == [[0.98], [0.98], [0.978], [0.978]]
    lines = [line_of("a", [10, 100], own[:2], means[:2]), line_of("b", [10, 100], own[2:], means[2:])]
    (c,) = crossings(lines, [means[:2], means[2:]], "accuracy")
    assert (c.leader, c.verdict) == ("a", "undecided")
    assert 0.4 < c.certain < 0.9
    (c,) = crossings([lines[0], replace(lines[0], name="c")], [means[:2], means[:2]], "accuracy")
    assert c.sentence.startswith("No certain crossing up to 100 labels: a and c are level there. That is of")


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "balanced_accuracy"])
def test_all_rows_right_is_not_certain_to_stay_so(metric):
    truth = np.arange(60) % 2
    own, means = redrawn(metric, truth, [np.eye(2)[truth][None]], 2000, np.random.default_rng(0))
    assert own[0].tolist() == [1.0]
    low = np.quantile(means[0], 0.025)
    assert 0.92 < low < 0.985  # of 60 rows, all right, the exact interval begins at 0.940


def test_fewer_than_three_draws_speak_of_this_training():
    rng = np.random.default_rng(2)
    (a, b), _ = simulated([0.7, 0.9], [0.9, 0.7], [10, 1000], rng)
    once = replace(b, points=tuple(replace(point, draws=point.draws[:2]) for point in b.points))
    means = [np.array([[p.value] * 10 for p in line.points]) for line in (a, once)]
    (c,) = crossings([a, once], means, "accuracy")
    assert c.once == ("b",)
    assert c.sentence.endswith(
        " That is of this training of b: with fewer than three draws a size, another may cross elsewhere."
    )
    record = json.loads(json.dumps(asdict(c)))
    assert Crossing(**{**record, "once": tuple(record["once"])}) == c


@pytest.mark.parametrize("metric", METRICS)
def test_a_curve_takes_any_metric_and_gives_its_score(metric):

    rng = np.random.default_rng(3)
    truth = rng.integers(0, 3, 300)
    probas = rng.dirichlet(np.ones(3), (2, 300))
    own, means = redrawn(metric, truth, [probas], 200, rng)
    expected = [scores(truth, proba, "abc")[metric] for proba in probas]
    assert own[0] == pytest.approx(expected)
    assert means.shape == (1, 200)
    assert means.mean() == pytest.approx(np.mean(expected), abs=0.02)


# ── its file ────────────────────────────────────────────────────────────────────────────────────────────────────────


def made(created="2026-01-01T00:00:00Z", digests=("c" * 8,), metric="accuracy"):
    rng = np.random.default_rng(0)
    lines, crossing = simulated([0.7, 0.9], [0.9, 0.7], [10, 1000], rng)
    return Curve(
        "d", "0" * 32, digests, metric, "test", 1500, 1000, 42, tuple(lines), (crossing,), ("note",), created=created
    )


def test_a_curve_is_read_back_as_it_was(tmp_path):
    kept = save(made(), tmp_path)
    assert latest(tmp_path, "d", "0" * 32, {"c" * 8}, {None}) == kept
    assert Curve.from_json(json.loads(json.dumps(kept.to_json()))) == kept


def test_the_newest_curve_of_these_encoders_is_taken(tmp_path):
    save(made(), tmp_path)
    newer = save(made("2026-01-02T00:00:00Z", metric="macro_f1"), tmp_path)
    save(made("2026-01-03T00:00:00Z", digests=("other",)), tmp_path)
    assert latest(tmp_path, "d", "0" * 32, {"c" * 8}, {None}) == newer
    assert latest(tmp_path, "d", "1" * 32, {"c" * 8}, {None}) is None


def test_a_damaged_curve_is_passed_over(tmp_path):
    kept = save(made(), tmp_path)
    folder = tmp_path / "d-0000000000000000" / "curve"
    (folder / "curve-bad.json").write_text("{")
    (folder / "curve-list.json").write_text("[]")
    (folder / "curve-empty.json").write_text('{"lines": []}')
    assert latest(tmp_path, "d", "0" * 32, {"c" * 8}, {None}) == kept
