"""Metrics from sums, paired tests and the rule, against values known by hand or from scipy."""

from itertools import product

import numpy as np
import pytest
from scipy.stats import binomtest, norm

from pipeline.metrics import METRICS, brier_scores, gap_by_chance, scores
from pipeline.verdict import bootstrap
from pipeline.verdict import statistics as st


def sample(seed: int = 0, rows: int = 400, k: int = 5) -> tuple[np.ndarray, list[np.ndarray]]:
    """Truth (n,) and the probabilities (n, k) of two contenders, right on about 80 and 65 % of the rows."""
    rng = np.random.default_rng(seed)
    truth, probas = rng.choice(k, rows, p=np.arange(1, k + 1) / np.arange(1, k + 1).sum()), []
    for signal in (2.5, 1.7):
        z = rng.normal(size=(rows, k))
        z[np.arange(rows), truth] += signal
        probas.append(np.exp(z) / np.exp(z).sum(1, keepdims=True))
    return truth, probas


# ── metrics ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("k", [2, 5])
def test_metrics_from_sums_equal_the_scores_of_the_run(k):
    truth, (proba, _) = sample(k=k)
    truth[truth == k - 1] = 0  # a class that occurs in predictions alone
    expected = scores(truth, proba, [str(c) for c in range(k)])
    predicted = proba.argmax(1)
    hit = np.bincount(truth[truth == predicted], minlength=k).astype(float)
    said, true = np.bincount(predicted, minlength=k).astype(float), np.bincount(truth, minlength=k).astype(float)
    for name in (m for m in METRICS if METRICS[m].counts):
        counted = METRICS[name].counts(hit[:, None], said[:, None], true[:, None])
        assert counted[0] == pytest.approx(expected[name])
    for name in (m for m in METRICS if METRICS[m].rows):
        value = METRICS[name].combine(METRICS[name].rows(truth, proba).mean(0))
        assert value == pytest.approx(np.nan if expected[name] is None else expected[name], nan_ok=True)


def test_the_joint_table_holds_each_outcome_once():
    table = st.outcomes(np.array([0, 0, 1, 0]), np.array([[0, 0, 1, 1], [0, 0, 0, 1]]), 2)
    assert table.truth.tolist() == [0, 0, 1]
    assert table.predicted.tolist() == [[0, 1, 1], [0, 1, 0]]
    assert table.rows.tolist() == [2, 1, 1]


# ── intervals ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_accuracy_interval_is_the_normal_one_where_there_are_many_rows():
    truth = np.zeros(5000, int)
    predicted = (np.arange(5000) >= 4000).astype(int)  # 80 % right
    own, apart = bootstrap.counts(
        st.outcomes(truth, predicted[None], 2), ("accuracy",), 20_000, np.random.default_rng(0)
    )
    low, high = bootstrap.interval(own[0, 0])
    error = np.sqrt(0.8 * 0.2 / 5000)
    assert low == pytest.approx(0.8 - 1.96 * error, abs=0.12 * error)
    assert high == pytest.approx(0.8 + 1.96 * error, abs=0.12 * error)
    assert apart.shape == (1, 0, 20_000)


def test_difference_interval_is_the_normal_one_of_paired_rows():
    truth = np.zeros(4000, int)
    a, b = np.zeros((2, 4000), int)
    a[:300], b[200:700] = 1, 1  # a alone wrong on 200 rows, b alone on 400, both on 100
    _, apart = bootstrap.counts(
        st.outcomes(truth, np.array([a, b]), 2), ("accuracy",), 20_000, np.random.default_rng(0)
    )
    difference = 200 / 4000
    error = np.sqrt((600 / 4000 - difference**2) / 4000)
    low, high = bootstrap.interval(apart[0, 0])
    assert (low, high) == pytest.approx((difference - 1.96 * error, difference + 1.96 * error), abs=0.12 * error)


def test_a_class_without_errors_still_has_an_interval():
    truth = np.array([0] * 97 + [1] * 3)
    own, apart = bootstrap.counts(
        st.outcomes(truth, np.array([truth, truth]), 2), ("accuracy", "macro_f1"), 4000, np.random.default_rng(0)
    )
    low, _ = bootstrap.interval(own[0, 0])
    assert 0.95 < low < 0.98  # the rule of three says 0.97
    assert bootstrap.interval(own[1, 0])[0] < 0.9  # three rows say little of a class
    assert bootstrap.interval(apart[0, 0])[0] < 0 < bootstrap.interval(apart[0, 0])[1]


def test_every_contender_is_drawn_with_the_same_rows():
    truth, (proba, _) = sample()
    table = st.outcomes(truth, np.array([proba.argmax(1)] * 2), 5)
    own, apart = bootstrap.counts(table, ("accuracy",), 2000, np.random.default_rng(0))
    assert apart[0, 0].std() < 0.25 * own[0, 0].std() * np.sqrt(2)  # unpaired it would be 1


def test_same_seed_same_draws():
    truth, probas = sample()
    table = st.outcomes(truth, np.array([p.argmax(1) for p in probas]), 5)
    first, second = (bootstrap.counts(table, ("macro_f1",), 50, np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(first[0], second[0])
    assert np.array_equal(first[1], second[1])


def test_fast_poisson_has_the_right_mean_and_variance():
    rates = np.array([[0.0, 0.02, 1.0], [3.0, 7.9, 60.0]])
    drawn = bootstrap.poisson(rates, 40_000, np.random.default_rng(0))
    assert drawn.shape == (2, 3, 40_000)
    assert drawn.mean(2) == pytest.approx(rates, rel=0.05, abs=1e-4)
    assert drawn.var(2) == pytest.approx(rates, rel=0.06, abs=1e-4)


def test_rows_interval_of_the_brier_score_is_near_the_normal_one():
    truth, probas = sample(rows=3000)
    own, apart = bootstrap.rows(("log_loss", "brier"), truth, probas, 4000, np.random.default_rng(0))
    values = brier_scores(truth, probas[0])[:, 0]
    error = values.std() / np.sqrt(3000)
    assert bootstrap.interval(own[1, 0]) == pytest.approx(
        (values.mean() - 1.96 * error, values.mean() + 1.96 * error), abs=0.1 * error
    )
    shift = values - brier_scores(truth, probas[1])[:, 0]
    assert apart[1, 0].std() == pytest.approx(shift.std() / np.sqrt(3000), rel=0.05)


def test_acceleration_moves_the_interval_of_a_skewed_mean_to_the_long_tail():
    values = np.random.default_rng(0).exponential(size=100) ** 2
    a = bootstrap.acceleration(values)
    assert a == pytest.approx(((values - values.mean()) ** 3).mean() / values.std() ** 3 / 6 / 10)
    draws = np.random.default_rng(1).normal(size=10_000)
    assert bootstrap.interval(draws, acceleration=a)[0] > bootstrap.interval(draws)[0]
    assert bootstrap.interval(draws, acceleration=a)[1] > bootstrap.interval(draws)[1]
    assert bootstrap.acceleration(np.ones(5)) == 0.0


def test_calibration_error_by_chance_is_what_calibrated_coins_show():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.5, 1, 300)
    proba = np.stack([confidence, 1 - confidence], 1)
    seen = []
    for _ in range(400):
        truth = (rng.random(300) > confidence).astype(int)
        seen.append(scores(truth, proba, ["a", "b"])["ece"])
    assert gap_by_chance(proba, 4000, rng) == pytest.approx(np.quantile(seen, 0.975), rel=0.1)


def test_bias_of_macro_f1_is_taken_out():
    rng = np.random.default_rng(0)
    k, rows = 50, 250  # five rows a class
    truth = np.repeat(np.arange(k), rows // k)
    predicted = np.where(rng.random(rows) < 0.8, truth, rng.integers(0, k, rows))
    own, _ = bootstrap.counts(st.outcomes(truth, predicted[None], k), ("macro_f1",), 2000, rng)
    low, high = bootstrap.interval(own[0, 0])
    assert low < scores(truth, np.eye(k)[predicted], range(k))["macro_f1"] < high


# ── tests ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (1, 0), (5, 0), (3, 9), (9, 3), (40, 61), (7, 7)])
def test_mcnemar_is_the_binomial_test_of_the_rows_that_differ(only_a, only_b):
    expected = binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    assert st.mcnemar(only_a, only_b) == pytest.approx(expected)


def test_mcnemar_by_hand():
    assert st.mcnemar(5, 0) == pytest.approx(2 / 32)


def test_few_rows_are_permuted_exactly():
    """Six rows that only a gets right: two of 2⁶ assignments are as extreme."""
    truth = np.zeros(20, int)
    a, b = np.zeros((2, 20), int)
    b[:6] = 1
    table = st.outcomes(truth, np.array([a, b]), 2)
    assert st.permute_counts("accuracy", table, 10, np.random.default_rng(0)) == 2 / 64


def test_permutation_of_accuracy_agrees_with_mcnemar():
    truth, probas = sample(rows=300)
    a, b = (p.argmax(1) for p in probas)
    table = st.outcomes(truth, np.array([a, b]), 5)
    exact = st.mcnemar(int(((a == truth) & (b != truth)).sum()), int(((a != truth) & (b == truth)).sum()))
    assert st.permute_counts("accuracy", table, 20_000, np.random.default_rng(0)) == pytest.approx(exact, abs=0.005)


@pytest.mark.parametrize("metric", ["macro_f1", "weighted_f1", "balanced_accuracy"])
def test_exact_permutation_of_f1_by_brute_force(metric):
    rng = np.random.default_rng(4)
    truth = rng.integers(0, 3, 12)
    a, b = rng.integers(0, 3, (2, 12))
    differ = np.flatnonzero(a != b)

    def gap(a, b):
        return scores(truth, np.eye(3)[a], "xyz")[metric] - scores(truth, np.eye(3)[b], "xyz")[metric]

    null = []
    for sides in product([False, True], repeat=len(differ)):
        x, y = a.copy(), b.copy()
        swapped = differ[list(sides)]
        x[swapped], y[swapped] = b[swapped], a[swapped]
        null.append(gap(x, y))
    expected = np.mean(np.abs(null) >= abs(gap(a, b)) - 1e-12)
    table = st.outcomes(truth, np.array([a, b]), 3)
    assert st.permute_counts(metric, table, 10, rng) == pytest.approx(expected)


def test_exact_sign_flips_of_losses():
    a, b = np.array([[1.0], [2.0], [4.0]]), np.zeros((3, 1))
    assert st.permute_rows("log_loss", a, b, 10, np.random.default_rng(0)) == 2 / 8
    assert st.permute_rows("log_loss", a, a, 10, np.random.default_rng(0)) == 1.0


def test_drawn_sign_flips_agree_with_the_normal_test():
    rng = np.random.default_rng(0)
    shift = rng.normal(0.08, 1, (500, 1))
    z = shift.mean() / np.sqrt((shift**2).mean() / 500)
    p = st.permute_rows("brier", shift, np.zeros((500, 1)), 20_000, rng)
    assert p == pytest.approx(2 * norm.sf(abs(z)), abs=0.01)


def test_swaps_are_fair_coins_for_small_and_large_counts():
    moved, exact = st.swaps(np.array([1, 8, 200]), 20_000, np.random.default_rng(0))
    assert not exact
    assert moved.mean(1) == pytest.approx([0.5, 4, 100], rel=0.02)
    assert moved.var(1) == pytest.approx([0.25, 2, 50], rel=0.05)


def test_holm_by_hand():
    assert st.holm([0.01, 0.04, 0.03]).tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert st.holm([0.5, 0.9]).tolist() == [1.0, 1.0]
    assert st.holm([]).tolist() == []


# ── the rule ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("gain", "wide", "narrow", "p", "verdict"),
    [
        (0.02, (0.001, 0.04), (0.004, 0.03), 0.01, "better"),
        (-0.02, (-0.04, -0.001), (-0.03, -0.004), 0.01, "worse"),
        (0.02, (-0.001, 0.04), (0.004, 0.03), 0.01, "undecided"),  # the interval holds 0
        (0.02, (0.001, 0.04), (0.004, 0.03), 0.06, "undecided"),  # the test does not say so
        (0.001, (-0.008, 0.011), (-0.007, 0.009), 0.7, "equivalent"),
        (0.005, (0.001, 0.009), (0.002, 0.008), 0.001, "better"),  # before equivalent
        (0.0, (0.0, 0.0), (0.0, 0.0), 1.0, "equivalent"),
    ],
)
def test_the_rule_in_its_order(gain, wide, narrow, p, verdict):
    assert st.judge(gain, wide, narrow, p, margin=0.01) == verdict


def test_rows_until_the_interval_is_narrow_by_hand():
    """14 % discordant rows of 60, evenly: (1.96/0.02)²·0.14 = 1,345 rows in all, 1,285 more, whatever is seen."""
    from pipeline.verdict.crossvalidation import normal_draws
    from pipeline.verdict.pairing import PairFacts, rows_to_precision

    error = np.sqrt(0.14 / 60)
    for difference in (0.0, 0.01, -0.02, 0.1):
        facts = PairFacts(difference, normal_draws(difference, error, 10_001), 1.0, 60, 8)
        assert rows_to_precision(facts) == 1300
    narrow = PairFacts(0.0, normal_draws(0.0, 0.01, 10_001), 1.0, 60, 8)
    assert rows_to_precision(narrow) is None
    seeds = PairFacts(0.0, normal_draws(0.0, 0.03, 10_001), 1.0, 60, 8, 0.0, 0.02)
    assert rows_to_precision(seeds) is None  # the seeds alone are wider than that
