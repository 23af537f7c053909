"""Temperature, priors, threshold and intervals against answers known beforehand."""

import numpy as np
import pytest

from pipeline.linear import calibrate
from pipeline.linear.probe import softmax
from pipeline.metrics import METRICS, scores


def drawn(n: int = 20000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits (n, 3) and labels drawn from exactly these probabilities."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(n, 3))
    truth = (softmax(logits).cumsum(1) < rng.random((n, 1))).sum(1)
    return logits, truth


def test_temperature_finds_the_factor_that_was_put_in():
    logits, truth = drawn()
    assert calibrate.temperature(logits, truth) == pytest.approx(1, abs=0.05)
    assert calibrate.temperature(3 * logits, truth) == pytest.approx(3, abs=0.15)
    assert calibrate.temperature(logits / 2, truth) == pytest.approx(0.5, abs=0.03)


def test_temperature_mends_calibration():
    logits, truth = drawn()
    before = calibrate.calibration(truth, softmax(3 * logits))
    after = calibrate.calibration(truth, softmax(3 * logits / calibrate.temperature(3 * logits, truth)))
    assert before["ece"] > 0.1
    assert after["ece"] < 0.02
    assert after["brier"] < before["brier"]
    assert sum(row["rows"] for row in after["reliability"]) == 20000


def test_prior_shift_is_bayes_rule():
    likelihood = np.array([0.2, 0.6])
    balanced = softmax(np.log(likelihood)[None])
    shift = calibrate.prior_shift(np.array([0.5, 0.5]), np.array([0.9, 0.1]))
    assert np.allclose(softmax(np.log(balanced) + shift), [[0.18 / 0.24, 0.06 / 0.24]])
    assert calibrate.prior_shift(np.array([1.0, 0.0]), np.array([0.5, 0.5])).tolist() == pytest.approx([np.log(0.5), 0])


def test_threshold_by_hand():
    truth = np.array([0, 0, 1, 0, 1])
    positive = np.array([0.1, 0.2, 0.3, 0.35, 0.45])
    threshold, f1 = calibrate.best_threshold(truth, positive)
    assert threshold == pytest.approx(0.25)  # 0.3, 0.35 and 0.45 called positive: precision 2/3, recall 1
    assert f1 == pytest.approx(0.8)


def test_threshold_does_not_cut_between_equal_probabilities():
    threshold, f1 = calibrate.best_threshold(np.array([1, 0, 0]), np.array([0.4, 0.4, 0.1]))
    assert threshold == pytest.approx(0.25)
    assert f1 == pytest.approx(2 / 3)


@pytest.mark.parametrize("objective", METRICS)
def test_difference_is_that_of_the_scores(objective):
    logits, truth = drawn(500)
    a, b = softmax(logits), softmax(logits + np.random.default_rng(1).normal(size=logits.shape))
    found = calibrate.paired_interval(objective, truth, a, b, 0)
    names = ["a", "b", "c"]
    expected = scores(truth, a, names)[objective] - scores(truth, b, names)[objective]
    expected *= -1 if objective in ("log_loss", "brier", "ece") else 1  # positive where a is better
    assert found["difference"] == pytest.approx(expected)
    assert found["low"] < expected < found["high"]


def test_equal_predictions_differ_by_nothing():
    logits, truth = drawn(100)
    found = calibrate.paired_interval("macro_f1", truth, softmax(logits), softmax(2 * logits), 0)
    assert found == {"difference": 0, "low": 0, "high": 0}


def test_interval_has_the_width_of_the_usual_formula():
    truth = np.zeros(1000, np.int64)
    right, wrong = np.array([0.9, 0.1]), np.array([0.1, 0.9])
    a = np.tile(right, (1000, 1))
    b = np.where(np.arange(1000)[:, None] < 100, wrong, right)  # loses 10 %
    found = calibrate.paired_interval("accuracy", truth, a, b, 0)
    half = 1.96 * np.sqrt(0.1 * 0.9 / 1000)
    assert found["difference"] == pytest.approx(0.1)
    assert found["low"] == pytest.approx(0.1 - half, abs=0.004)
    assert found["high"] == pytest.approx(0.1 + half, abs=0.004)
