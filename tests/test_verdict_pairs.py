"""Two contenders on the same rows: difference, interval, p, families, and the largest plausible loss."""

from dataclasses import replace

import numpy as np
import pytest
from verdict_runs import TRUTH, field, quick, run, wrong_on


def test_a_pair_by_hand():
    found = quick(field(lr=(0, 200), tfidf=(0, 120))[1:])
    (pair,) = found.pairs
    assert (pair.a, pair.b, pair.metric, pair.verdict) == ("tfidf", "lr", "accuracy", "better")
    assert pair.difference == pytest.approx(0.08)
    assert pair.p_value == pytest.approx(2 * 0.5**80)  # 80 rows that tfidf alone gets right
    assert 0.06 < pair.low < pair.low90 < 0.08 < pair.high90 < pair.high < 0.1
    assert "8.0 points" in pair.sentence
    assert "p < 0.001" in pair.sentence
    (other,) = found.other_pairs
    assert (other.metric, other.verdict) == ("macro_f1", "better")


def test_holm_goes_over_serious_pairs_and_guessing_is_a_family_of_its_own():
    found = quick(field(lr=(0, 110), tfidf=(0, 100), fine_tune=(0, 70)))
    raw = {(p.a, p.b): p.p_value for p in found.pairs}
    adjusted = {(p.a, p.b): p.p_adjusted for p in found.pairs}
    assert raw["tfidf", "lr"] == pytest.approx(2 * 0.5**10)
    assert adjusted["fine-tune", "lr"] == pytest.approx(3 * 2 * 0.5**40)
    assert adjusted["fine-tune", "tfidf"] == pytest.approx(2 * 2 * 0.5**30)
    assert adjusted["tfidf", "lr"] == pytest.approx(2 * 0.5**10)  # the largest of three is not multiplied
    assert adjusted["fine-tune", "majority"] == pytest.approx(3 * raw["fine-tune", "majority"], rel=1e-6)


def test_the_verdict_is_that_of_the_interval_shown():
    rng = np.random.default_rng(5)
    seen = set()
    for rows in (40, 100, 300):
        truth = np.arange(rows) % 2
        for _ in range(12):
            runs = [
                run(kind, truth, np.where(rng.random(rows) < skill, truth, 1 - truth))
                for kind, skill in (("lr", 0.75), ("tfidf", 0.65), ("fine-tune", 0.85))
            ]
            for pair in (found := quick(runs)).pairs:
                excluded = pair.low > 0 or pair.high < 0
                assert excluded is (pair.verdict in ("better", "worse"))
                assert not excluded or pair.p_adjusted < 0.05
                seen.add(pair.verdict)
            assert set(found.regret) == {"lr", "tfidf", "fine-tune"}
            assert min(found.regret.values()) >= 0
    assert {"better", "undecided"} <= seen


def test_near_copies_count_once():
    copy = wrong_on(TRUTH, (0, 100))
    copy[500:503] = 1 - TRUTH[500:503]
    runs = [*field(lr=(0, 100), tfidf=(0, 60))[1:], run("lr+smote", TRUTH, copy)]
    found = quick(runs)
    pairs = {(p.a, p.b): p for p in found.pairs}
    assert pairs["tfidf", "lr"].comparisons == 1  # one hypothesis: against lr or its copy
    assert pairs["tfidf", "lr"].p_adjusted == pytest.approx(pairs["tfidf", "lr"].p_value)
    assert pairs["lr", "lr+smote"].verdict != "better"


def test_the_largest_plausible_loss_by_hand():
    found = quick(field(lr=(0, 160), tfidf=(0, 120), fine_tune=(0, 100)), draws=4000)
    z = 1.9600  # 1 − 0.05 / 2, one-sided
    loss = {name: {(p.a, p.b): p for p in found.pairs}["fine-tune", name] for name in ("lr", "tfidf")}
    for name, pair in loss.items():
        assert found.regret[name] == pytest.approx(pair.difference + z * pair.error, abs=1e-4)
    assert found.regret["lr"] == pytest.approx(0.06 + 1.96 * np.sqrt(0.06 * 0.94 / 1000), abs=0.002)
    assert found.regret["fine-tune"] == 0.0


def test_few_discordant_rows_are_no_ground_for_equivalence():
    truth = np.arange(500) % 2
    apart = wrong_on(truth, (0, 50), (60, 62))
    assert quick([run("lr", truth, wrong_on(truth, (0, 50))), run("tfidf", truth, apart)]).pairs[0].verdict == (
        "undecided"
    )  # two rows of 500: the share of discordant rows may be 1.3 %
    many = np.arange(2000) % 2
    apart = wrong_on(many, (0, 50), (60, 62))
    assert quick([run("lr", many, wrong_on(many, (0, 50))), run("tfidf", many, apart)]).pairs[0].verdict == "equivalent"


def test_equal_predictions_are_equivalent():
    found = quick([run("lr", TRUTH, wrong_on(TRUTH, (0, 50))), run("tfidf", TRUTH, wrong_on(TRUTH, (0, 50)))])
    assert found.pairs[0].verdict == "equivalent"
    assert found.pairs[0].difference == 0.0
    assert "0.0 points" in found.pairs[0].sentence


def test_a_loss_is_better_where_it_is_lower():
    sure = run("lr", TRUTH, wrong_on(TRUTH, (0, 100)))
    unsure = run("tfidf", TRUTH, wrong_on(TRUTH, (0, 100)))
    flat = replace(unsure.predictions["test"], proba=np.full((1000, 2), 0.5, np.float32))
    found = quick([replace(unsure, predictions={"test": flat}), sure], metric="log_loss")
    assert [c.name for c in found.contenders] == ["lr", "tfidf"]
    (pair,) = found.pairs
    assert pair.difference < 0
    assert pair.gain > 0
    assert pair.verdict == "better"
    assert {p.metric for p in found.other_pairs} == {"accuracy", "macro_f1"}
    assert "beats tfidf by 0.36" in found.recommendation
    low, high = found.recommendation.partition("95 % interval ")[2].partition(")")[0].split(" to ")
    assert 0 < float(low) < float(high)  # how far ahead, whichever way the metric points
