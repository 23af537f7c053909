"""Every metric against scikit-learn; rank metrics' pseudo-values, intervals and paired tests; aligned predictions."""

import numpy as np
import pytest
from sklearn import metrics as sk

from pipeline import UserError
from pipeline.metrics import METRICS, Metric, metric_for, rank_support, scores
from pipeline.run import Cost, Predictions, Run
from pipeline.verdict import bootstrap, compare
from pipeline.verdict import statistics as st


def sample(rows: int = 300, k: int = 2, seed: int = 0, digits: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Truth (n,) and rounded probabilities (n, k), so that ties abound."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(k, rows, p=np.arange(k, 0, -1) / np.arange(1, k + 1).sum())
    z = rng.normal(size=(rows, k))
    z[np.arange(rows), truth] += 1.5
    proba = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    if k == 2:
        proba[:, 1] = proba[:, 1].round(digits)
        proba[:, 0] = 1 - proba[:, 1]
    return truth, proba


REFERENCE = {
    "accuracy": lambda y, p, q: sk.accuracy_score(y, q),
    "macro_f1": lambda y, p, q: sk.f1_score(y, q, average="macro"),
    "weighted_f1": lambda y, p, q: sk.f1_score(y, q, average="weighted"),
    "balanced_accuracy": lambda y, p, q: sk.balanced_accuracy_score(y, q),
    "precision": lambda y, p, q: sk.precision_score(y, q, average="macro", zero_division=0),
    "recall": lambda y, p, q: sk.recall_score(y, q, average="macro", zero_division=0),
    "roc_auc": lambda y, p, q: sk.roc_auc_score(y, p[:, 1] if p.shape[1] == 2 else p, multi_class="ovr"),
    "average_precision": lambda y, p, q: (
        sk.average_precision_score(y, p[:, 1]) if p.shape[1] == 2 else sk.average_precision_score(y, p)
    ),
    "log_loss": lambda y, p, q: sk.log_loss(y, p),
    "brier": lambda y, p, q: ((p - np.eye(p.shape[1])[y]) ** 2).sum(1).mean() / (2 if p.shape[1] == 2 else 1),
}


@pytest.mark.parametrize("name", REFERENCE)
@pytest.mark.parametrize(("rows", "k"), [(300, 2), (40, 2), (300, 5), (2000, 20)])
def test_a_metric_is_scikit_learns(name, rows, k):
    truth, proba = sample(rows, k)
    proba = np.clip(proba, 1e-15, 1)
    assert scores(truth, proba, range(k))[name] == pytest.approx(REFERENCE[name](truth, proba, proba.argmax(1)))


def test_every_metric_of_the_table_has_a_reference_but_the_calibration_error():
    assert set(METRICS) == {*REFERENCE, "ece"}


@pytest.mark.parametrize("name", ["roc_auc", "average_precision"])
def test_ranks_of_special_cases(name):
    truth = np.array([0, 0, 0, 1, 1])
    perfect = np.eye(2)[truth]
    assert scores(truth, perfect, "ab")[name] == 1
    assert scores(truth, 1 - perfect, "ab")["roc_auc"] == 0
    alike = np.full((5, 2), 0.5)
    assert scores(truth, alike, "ab")[name] == pytest.approx({"roc_auc": 0.5, "average_precision": 0.4}[name])
    assert scores(truth * 0, perfect, "ab")[name] is None  # as scikit-learn says nan
    with pytest.raises(UserError, match=f"--metric {name}: not defined where all judged rows have one class"):
        metric_for(name, truth * 0)
    assert metric_for("accuracy", truth * 0) is METRICS["accuracy"]
    three = np.array([[0.7, 0.2, 0.1], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1]])
    assert scores(np.array([0, 1, 1]), three, "abc")[name] == 1  # over the classes in truth


@pytest.mark.parametrize("k", [2, 4])
@pytest.mark.parametrize(
    ("name", "reference"), [("roc_auc", sk.roc_auc_score), ("average_precision", sk.average_precision_score)]
)
def test_pseudo_values_are_the_derivative_in_a_rows_weight(name, reference, k):
    truth, proba = sample(120, k, seed=1)

    def weighted(weights):
        classes = [1] if k == 2 else range(k)
        return np.mean([reference(truth == c, proba[:, c], sample_weight=weights) for c in classes])

    terms = METRICS[name].rows(truth, proba)[:, 0]
    once, step = np.ones(120), 1e-6
    assert terms.mean() == pytest.approx(weighted(once))
    for row in (0, 17, 50, 119):
        more = once.copy()
        more[row] += step
        change = (weighted(more) - weighted(once)) / step * 120
        assert terms[row] - terms.mean() == pytest.approx(change, abs=1e-3)


def test_the_variance_of_a_roc_area_is_delongs():
    truth, proba = sample(200, seed=2, digits=9)
    p, q = proba[truth == 1, 1], proba[truth == 0, 1]
    above = (p[:, None] > q[None]).mean(1), (p[:, None] > q[None]).mean(0)
    delong = sum(part.var(ddof=1) / len(part) for part in above)
    terms = METRICS["roc_auc"].rows(truth, proba)[:, 0]
    assert terms.var() / 200 == pytest.approx(delong, rel=0.03)


@pytest.mark.parametrize("name", ["roc_auc", "average_precision"])
def test_the_interval_agrees_with_scores_of_redrawn_rows(name):
    truth, proba = sample(600, seed=3)
    rng = np.random.default_rng(0)
    redrawn = []
    for _ in range(400):
        rows = rng.integers(0, 600, 600)
        redrawn.append(REFERENCE[name](truth[rows], proba[rows], None))
    own, _ = bootstrap.rows((name,), truth, [proba], 2000, rng)
    low, high = bootstrap.logit_interval(own[0, 0])
    assert high - low == pytest.approx(np.subtract(*np.quantile(redrawn, [0.975, 0.025])), rel=0.12)
    assert low < REFERENCE[name](truth, proba, None) < high


def test_a_perfect_ranking_still_has_an_interval():
    truth = np.repeat([0, 1], [80, 20])
    perfect = np.eye(2)[truth]
    own, apart = bootstrap.rows(("roc_auc",), truth, [perfect, perfect], 4000, np.random.default_rng(0))
    low, high = bootstrap.logit_interval(own[0, 0])
    assert 0.8 < low < 0.97  # of 20 rows all right one may think that 86 % are
    assert high > 0.99
    narrow = bootstrap.interval(apart[0, 0])
    assert narrow[0] < 0 < narrow[1]


def test_rank_support_is_about_the_smaller_side():
    assert rank_support(np.repeat([0, 1], [900, 100]), 2) == pytest.approx(100, rel=0.01)
    assert rank_support(np.repeat([0, 1, 2], 100), 3) > rank_support(np.repeat([0, 1], [200, 100]), 2)


@pytest.mark.parametrize("name", ["roc_auc", "average_precision"])
def test_the_paired_test_of_ranks_holds_its_level_and_finds_a_difference(name):
    rng = np.random.default_rng(4)
    false, found = 0, 0
    for _ in range(100):
        truth = (rng.random(300) < 0.3).astype(int)
        common = rng.normal(size=300) + 1.5 * truth
        contenders = [common + rng.normal(size=300) for _ in range(2)] + [common + 4 * rng.normal(size=300)]
        terms = [METRICS[name].rows(truth, np.stack([-s, s], 1)) for s in contenders]
        false += st.permute_rows(name, terms[0], terms[1], 200, rng) < 0.05
        found += st.permute_rows(name, terms[0], terms[2], 200, rng) < 0.05
    assert false <= 11  # binomial(100, 0.05): 11 or fewer in 99 of 100
    assert found > 90


# ── a metric is one row ─────────────────────────────────────────────────────────────────────────────────────────────


def run_of(kind: str, truth: np.ndarray, proba: np.ndarray) -> Run:
    p = Predictions("test", np.arange(len(truth)).astype(str), truth, proba.astype(np.float32))
    return Run(kind, {}, ("a", "b", "c"), {"test": p}, Cost(1.0, 0.0, ms_per_text_batch=0.1), "d", "0" * 32)


def test_a_metric_of_rows_where_higher_is_better_takes_one_row_of_the_table(monkeypatch):
    """The label among the two likeliest classes: impossible while every metric of rows was a loss."""

    def among_two(truth, proba):
        return (np.argsort(-proba, 1)[:, :2] == truth[:, None]).any(1).astype(float)[:, None]

    truth, proba = sample(400, 3)
    _, other = sample(400, 3, seed=9)
    monkeypatch.setitem(METRICS, "top_two", Metric("accuracy of the best two", rows=among_two))
    comparison = compare([run_of("tfidf", truth, proba), run_of("lr", truth, other)], metric="top_two", row_draws=300)
    assert comparison.contenders[0].metrics["top_two"].value == pytest.approx(among_two(truth, proba).mean())
    assert comparison.pairs[0].verdict == "better"
    assert "points of accuracy" not in comparison.recommendation
    assert "accuracy of the best two" in comparison.pairs[0].sentence


# ── predictions in another order ────────────────────────────────────────────────────────────────────────────────────


def test_aligned_predictions_keep_rows_and_threshold():
    p = Predictions(
        "test", np.array(["b", "a", "c"]), np.array([1, 0, 1]), np.array([[1, 0], [0, 1], [0.5, 0.5]]), threshold=0.2
    )
    aligned = p.aligned_to(np.array(["a", "b", "c"]))
    assert (aligned.row_ids.tolist(), aligned.truth.tolist(), aligned.threshold) == (["a", "b", "c"], [0, 1, 1], 0.2)
    assert aligned.proba.tolist() == [[0, 1], [1, 0], [0.5, 0.5]]
    assert p.aligned_to(p.row_ids) is p
    assert p.aligned_to(np.array(["a", "b", "d"])) is None
    assert p.aligned_to(np.array(["a", "b"])) is None
    assert p.aligned_to(np.array(["a", "b", "c", "c"])) is None
    assert p.take(np.array([True, False, True])).row_ids.tolist() == ["b", "c"]
    assert p.take(np.array([2, 0])).threshold == 0.2


def test_the_page_keeps_a_threshold_whatever_the_order_of_rows():
    """The page answered with the likelier class where its rows were in another order than the first contender's."""
    from pipeline.report.facts import collect

    truth = np.array([0, 1, 0, 1, 0, 1])
    proba = np.array([[0.9, 0.1], [0.7, 0.3]] * 3)  # the second class from 0.25 on, never the likelier
    ids = np.array(list("abcdef"))
    first = Predictions("test", ids, truth, proba, 0.25)
    back = first.take(np.arange(6)[::-1])
    runs = [
        Run(kind, {}, ("x", "y"), {"test": p}, Cost(), "d", "0" * 32) for kind, p in (("lr", first), ("tfidf", back))
    ]
    facts = collect(compare(runs, draws=100, row_draws=50), runs)
    assert [(p.labels == truth).all() for p in facts.judged.values()] == [True, True]
