"""The table of a verdict: scores, groups, costs, and what it says as JSON."""

import json
from dataclasses import replace

import numpy as np
import pytest
from verdict_runs import COSTS, TRUTH, field, quick, run, wrong_on

from pipeline import UserError
from pipeline.data import Split
from pipeline.metrics import scores
from pipeline.run import Cost
from pipeline.verdict import group_column
from pipeline.verdict.results import break_even, total_seconds, training_seconds


def test_contenders_come_best_first_with_the_scores_of_their_runs():
    found = quick(field(lr=(0, 200), fine_tune=(0, 100), tfidf=(0, 120)))
    assert [c.name for c in found.contenders] == ["fine-tune", "tfidf", "lr", "majority"]
    assert [c.metrics["accuracy"].value for c in found.contenders] == [0.9, 0.88, 0.8, 0.5]
    assert [c.chosen for c in found.contenders] == [True, False, False, False]
    assert (found.rows, found.split, found.metric, found.margin) == (1000, "test", "accuracy", 0.01)
    best = found.contenders[0]
    expected = scores(TRUTH, np.float64(field(fine_tune=(0, 100))[1].predictions["test"].proba), ["a", "b"])
    for name, interval in best.metrics.items():
        assert interval.value == pytest.approx(expected[name])
        assert interval.low <= interval.value <= interval.high
    assert best.metrics["accuracy"].low == pytest.approx(0.9 - 1.96 * np.sqrt(0.09 / 1000), abs=0.004)


def test_a_class_without_a_judged_row_widens_macro_f1():
    truth = np.arange(100) % 4
    plain = quick([run("lr", truth, wrong_on(truth, (0, 20)))]).contenders[0].metrics["macro_f1"]
    wide = quick([run("lr", truth, wrong_on(truth, (0, 20)), classes=5)]).contenders[0].metrics["macro_f1"]
    assert wide.low <= 0.8 * plain.low  # the fifth class may have an F1 of 0, or of 1
    assert wide.high >= 0.8 * plain.high + 0.1


def test_validation_is_judged_where_there_is_no_test():
    found = quick([run(kind, TRUTH, TRUTH, role="validation") for kind in ("lr", "tfidf")])
    assert found.split == "validation"


def test_scores_of_each_group():
    genre = np.where(np.arange(1000) < 250, "fiction", "travel")
    genre[0] = "letters"  # a group of one row
    found = quick(field(lr=(0, 100)), by=genre, by_name="genre")
    assert [(g.group, g.rows) for g in found.groups] == [("travel", 750), ("fiction", 249), ("letters", 1)]
    travel, fiction, letters = (g.metrics["lr"]["accuracy"] for g in found.groups)
    assert (travel.value, fiction.value, letters.value) == (1.0, pytest.approx(150 / 249), 0.0)
    assert fiction.low == pytest.approx(0.6 - 1.96 * np.sqrt(0.24 / 249), abs=0.02)
    assert fiction.low < fiction.value < fiction.high
    assert letters.high - letters.low > 0.3  # one row says little
    told = json.loads(json.dumps(found.to_json()))
    assert told["by"] == "genre"
    assert told["groups"][1]["metrics"]["lr"]["accuracy"]["value"] == fiction.value


def test_a_column_that_groups_nothing_is_refused_with_those_that_do():
    columns = {"genre": np.array(["a", "b"])}
    split = Split("test", [("x",), ("y",)], np.array([0, 1]), np.array(["test:0", "test:1"]), columns)
    assert group_column(split, "genre").tolist() == ["a", "b"]
    with pytest.raises(UserError, match=r"--by id: no such column that groups rows of 'test'; there are: genre"):
        group_column(split, "id")


def test_json_holds_the_contract():
    found = json.loads(
        json.dumps(quick(field(lr=(0, 100), tfidf=(0, 90)), truncated_share=0.1, left_out=["x"]).to_json())
    )
    assert {"metric", "truncated_share", "contenders", "pairs", "recommendation"} <= found.keys()
    assert {"name", "kind", "run", "metrics", "cost"} <= found["contenders"][0].keys()
    assert {"a", "b", "metric", "difference", "low", "high", "p_value", "verdict"} <= found["pairs"][0].keys()
    assert any("10 % of the texts" in reason for reason in found["reasons"])
    assert any("Left out: x" in reason for reason in found["reasons"])


def test_same_seed_same_comparison():
    assert quick(field(lr=(0, 100), tfidf=(0, 90))).to_json() == quick(field(lr=(0, 100), tfidf=(0, 90))).to_json()


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_a_handful_of_rows_gives_finite_numbers(rows):
    truth = np.arange(rows) % 2
    found = quick([run("lr", truth, truth, classes=2), run("tfidf", truth, 1 - truth, classes=2)])
    text = json.dumps(found.to_json())
    assert "NaN" not in text
    assert "Infinity" not in text


def test_costs_by_hand():
    assert training_seconds(COSTS["lr"]) == 20.0
    assert total_seconds(COSTS["lr"]) == 50.0  # and 10,000 texts at 3 ms
    assert total_seconds(Cost()) == float("inf")


def test_break_even_by_hand():
    found = quick(field(lr=(0, 100), tfidf=(0, 50)))
    dear, cheap = (next(c for c in found.contenders if c.name == name) for name in ("lr", "tfidf"))
    assert break_even(dear, cheap)["predictions"] is None  # dearer to train and to use
    fast = replace(dear, cost=Cost(33.0, None, ms_per_text_batch=0.01))
    assert break_even(fast, cheap)["predictions"] == pytest.approx(3_000_000, abs=1)  # 30 s at 0.01 ms a text
    entries = {(e["dear"], e["cheap"]) for e in found.break_even}
    assert entries == {("lr", "tfidf"), ("lr", "majority"), ("tfidf", "majority")}


def test_pareto_front_of_score_and_cost():
    found = quick(field(lr=(0, 200), tfidf=(0, 120), fine_tune=(0, 60)))
    assert {c.name for c in found.contenders if c.pareto} == {"majority", "tfidf", "fine-tune"}


@pytest.mark.parametrize(
    ("metric", "value", "shown"),
    [
        ("accuracy", 0.2, "20.0"),
        ("accuracy", 0.9, "90.0"),
        ("accuracy", -0.1, "−10.0"),
        ("accuracy", 0.0004, "0.0"),
        ("accuracy", -0.0004, "0.0"),
        ("log_loss", 10.0, "10.000"),
        ("log_loss", -0.0004, "0.000"),
    ],
)
def test_a_difference_is_said_as_it_is(metric, value, shown):
    from pipeline.metrics import change

    assert change(metric, value) == shown
