"""Runs made by hand from arrays: the same rows, pairs, costs, words, and a small simulation of the whole rule."""

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline import UserError
from pipeline.data import Dataset, Split
from pipeline.metrics import METRICS, scores
from pipeline.run import Cost, Predictions, Run
from pipeline.verdict import Comparison, admit, bootstrap, compare, group_column
from pipeline.verdict import statistics as st
from pipeline.verdict.recommend import fraction
from pipeline.verdict.regret import worth
from pipeline.verdict.results import break_even, readings, total_seconds, training_seconds

ROOT = Path(__file__).parent.parent
COSTS = {
    "majority": Cost(0.0, None, ms_per_text_batch=0.0),
    "tfidf": Cost(3.0, None, ms_per_text_batch=0.02),
    "lr": Cost(10.0, 10.0, ms_per_text_batch=3.0),
    "lr+smote": Cost(12.0, 10.0, ms_per_text_batch=3.0),
    "fine-tune": Cost(900.0, None, ms_per_text_batch=3.0),
}


def run(kind: str, truth: np.ndarray, predicted: np.ndarray, role: str = "test", **more) -> Run:
    """A run that gives 0.9 to the class it predicts."""
    k = more.pop("classes", int(truth.max()) + 1)
    proba = np.full((len(truth), k), 0.1 / (k - 1), np.float32)
    proba[np.arange(len(truth)), predicted] = 0.9
    ids = np.array([f"{role}:{i}" for i in range(len(truth))])
    return Run(
        kind=kind,
        settings=more.pop("settings", {}),
        class_names=tuple("abcdefghij"[:k]),
        predictions={role: Predictions(role, ids, truth, proba)},
        cost=more.pop("cost", COSTS.get(kind, Cost())),
        dataset="d",
        dataset_digest="0" * 16,
        **more,
    )


def wrong_on(truth: np.ndarray, *ranges: tuple[int, int]) -> np.ndarray:
    """The truth, except on rows `start` to `stop`."""
    predicted = truth.copy()
    for start, stop in ranges:
        predicted[start:stop] = (truth[start:stop] + 1) % (truth.max() + 1)
    return predicted


TRUTH = np.arange(1000) % 2


def climbed(*wrong: int) -> list[Run]:
    """The ladder's runs, with so many rows wrong: lr, the last layer, the last two, all."""
    costs = [COSTS["lr"], *(Cost(seconds, None, ms_per_text_batch=3.0) for seconds in (60.0, 90.0, 360.0))]
    kinds = ("lr", "fine-tune+last-1", "fine-tune+last-2", "fine-tune")
    return [
        run(kind, TRUTH, wrong_on(TRUTH, (0, n)), cost=cost) for kind, n, cost in zip(kinds, wrong, costs, strict=False)
    ]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (
            (150, 130, 110, 100),
            "80 % of what fine-tuning gains over lr (4.0 of 5.0 points) for 25 % of its",
        ),
        (
            (150, 100, 110, 100),
            "100 % of what fine-tuning gains over lr (5.0 of 5.0 points) for 17 %",
        ),
        ((150, 150, 140, 100), "the last 2 layers bring 20 % of what"),
        ((150, 160, 155, 100), "the last 2 layers bring 0 % of what"),
        ((105, 104, 103, 100), None),  # within the margin: no gain to share
        ((90, 95, 99, 100), None),
    ],
)
def test_the_ladder_says_what_the_last_layers_bring_and_for_what(wrong, sentence):
    recommendation = compare(climbed(*wrong)).recommendation
    assert sentence in recommendation if sentence else "of what fine-tuning gains" not in recommendation


def test_the_ladder_counts_a_loss_the_other_way_round():
    assert "the last 2 layers bring" in compare(climbed(300, 200, 110, 100), metric="log_loss").recommendation


def ended(wrong: tuple[int, int]) -> Run:
    """Fine-tuning that is wrong on a range of rows, ended as hopeless."""
    why = {"share": 0.5, "ahead": -0.004, "error": 0.002, "metric": "accuracy", "margin": 0.01, "against": "lr"}
    settings = {"stop_hopeless": "accuracy 0.01 above lr-1", "chosen": {"learning_rate": 1e-4, "ended": why}}
    return run("fine-tune", TRUTH, wrong_on(TRUTH, wrong), settings=settings)


@pytest.mark.parametrize(
    ("wrong", "taken", "sentence"),
    [
        (
            (50, 140),
            "lr",
            "but fine-tune was ended for being no better by more than the margin. fine-tune was ended after 50 %",
        ),
        (
            (50, 140),
            "lr",
            "points mattered to you: then have fine-tune trained to its end.",
        ),
        (
            (0, 20),
            "fine-tune",
            "fine-tune was ended after 50 % of its steps as hopeless: on validation it was 0.4 points behind lr",
        ),
        ((0, 130), "lr", "its score and cost are those of what was trained until then."),
    ],
)
def test_a_training_that_was_ended_is_taken_only_if_it_is_shown_to_be_better(wrong, taken, sentence):
    found = compare([*field(lr=(0, 100)), ended(wrong)])
    assert found.recommended == taken
    assert sentence in found.recommendation
    assert len(next(c for c in found.contenders if c.kind == "fine-tune").ended) == 1
    assert "share of its training time" not in compare([*climbed(150, 130, 110), ended((0, 100))]).recommendation


def field(**wrong: tuple[int, int]) -> list[Run]:
    """Runs that are wrong on the given range of 1,000 rows; `majority` always says class 0."""
    runs = [run(kind.replace("_", "-"), TRUTH, wrong_on(TRUTH, rows)) for kind, rows in wrong.items()]
    return [run("majority", TRUTH, np.zeros_like(TRUTH)), *runs]


def quick(runs, **options) -> Comparison:
    return compare(runs, draws=options.pop("draws", 500), row_draws=options.pop("row_draws", 100), **options)


# ── the table ───────────────────────────────────────────────────────────────────────────────────────────────────────


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


def test_what_cost_is_worth_is_the_users_to_say():
    runs = field(lr=(0, 130), fine_tune=(0, 100))
    assert quick(runs).recommended == "fine-tune"
    assert quick(runs, worth=worth("1 point = 1 min")).recommended == "lr"  # 15 minutes saved: 15 points
    assert quick(runs, worth=worth("1 point = 10 min")).recommended == "fine-tune"  # 1.5 points, lr may lose 4.1
    undecided = field(lr=(0, 110), fine_tune=(5, 110))
    assert quick(undecided, prefer="cheap").recommended == "lr"
    assert quick(runs, prefer="cheap").recommended == "fine-tune"  # what is shown counts
    assert "1 point = 1 min accepts" in quick(runs, worth=worth("1 point = 1 min")).recommendation


@pytest.mark.parametrize("text", ["10 min", "1 point", "0 points = 3 min", "1 point = 0 s", "1 point = 5 parsecs", ""])
def test_what_is_no_worth_is_refused(text):
    with pytest.raises(UserError, match="1 point = 10 min"):
        worth(text)


def test_few_discordant_rows_are_no_ground_for_equivalence():
    truth = np.arange(500) % 2
    apart = wrong_on(truth, (0, 50), (60, 62))
    assert quick([run("lr", truth, wrong_on(truth, (0, 50))), run("tfidf", truth, apart)]).pairs[0].verdict == (
        "undecided"
    )  # two rows of 500: the share of discordant rows may be 1.3 %
    many = np.arange(2000) % 2
    apart = wrong_on(many, (0, 50), (60, 62))
    assert quick([run("lr", many, wrong_on(many, (0, 50))), run("tfidf", many, apart)]).pairs[0].verdict == "equivalent"


def test_a_class_without_a_judged_row_widens_macro_f1():
    truth = np.arange(100) % 4
    plain = quick([run("lr", truth, wrong_on(truth, (0, 20)))]).contenders[0].metrics["macro_f1"]
    wide = quick([run("lr", truth, wrong_on(truth, (0, 20)), classes=5)]).contenders[0].metrics["macro_f1"]
    assert wide.low <= 0.8 * plain.low  # the fifth class may have an F1 of 0, or of 1
    assert wide.high >= 0.8 * plain.high + 0.1


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


# ── guests ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def host(labels=TRUTH) -> Dataset:
    """A data set whose test rows are those of the runs here."""
    n = len(labels)
    ids = {role: np.array([f"{role}:{i}" for i in range(n)]) for role in ("train", "test")}
    splits = {role: Split(role, [(f"{role} {i}",) for i in range(n)], labels, ids[role]) for role in ids}
    return Dataset("d", splits, {role: role for role in splits}, ("a", "b"), ("text",), "label", "0" * 16)


def test_a_guest_of_the_same_rows_stands_beside_the_others():
    own, external = run("lr", TRUTH, wrong_on(TRUTH, (0, 100))), run("lr", TRUTH, wrong_on(TRUTH, (0, 50)))
    order = np.random.default_rng(0).permutation(1000)
    mine = external.predictions["test"]
    mixed = replace(mine, row_ids=mine.row_ids[order], truth=mine.truth[order], proba=mine.proba[order])
    other = replace(external, dataset_digest="9" * 16, predictions={"test": mixed})
    found = quick([own, admit(other, host())])
    assert [c.metrics["accuracy"].value for c in found.contenders] == [0.95, 0.9]
    assert found.contenders[0].name == "lr (fitted on d 99999999)"
    assert any("other training rows" in note for note in found.contenders[0].notes)
    assert admit(external, host()).dataset_digest == own.dataset_digest
    assert "fitted on" not in admit(external, host()).settings


def test_a_guest_of_other_rows_classes_or_labels_is_refused():
    external = run("lr", TRUTH, TRUTH)
    mine = external.predictions["test"]
    shifted = replace(mine, row_ids=np.array([f"test:{i}" for i in range(100, 1100)]))
    with pytest.raises(UserError, match=r"1,000 rows of 'test', of which 900 are among the 1,000 of 'test' here"):
        admit(replace(external, predictions={"test": shifted}), host())
    with pytest.raises(UserError, match=r"other classes \(only there: z; only here: b\)"):
        admit(replace(external, class_names=("a", "z")), host())
    with pytest.raises(UserError, match="another order"):
        admit(replace(external, class_names=("b", "a")), host())
    other = TRUTH.copy()
    other[:7] = 1 - other[:7]
    with pytest.raises(UserError, match="7 of its test rows have another label"):
        admit(external, host(other))
    with pytest.raises(UserError, match="no predictions of a labelled test"):
        admit(replace(external, predictions={}), host())


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


# ── names ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_names_tell_apart_what_shares_a_kind():
    runs = [
        run("lr", TRUTH, TRUTH, settings={"encoder": "FacebookAI/roberta-base", "pooling": "cls", "C": 1}),
        run("lr", TRUTH, TRUTH, settings={"encoder": "minilm", "pooling": "cls", "C": 1}),
        run("lr", TRUTH, TRUTH, settings={"encoder": "minilm", "pooling": "mean", "C": 1}),
        run("tfidf", TRUTH, TRUTH),
    ]
    names = {c.name for c in quick(runs).contenders}
    assert names == {"lr (roberta-base, cls)", "lr (minilm, cls)", "lr (minilm, mean)", "tfidf"}


def test_the_table_says_which_encoder_is_read_and_how():
    chosen = [{"what": "pooling", "pooling": p, "log_loss": x} for p, x in (("cls", 0.5), ("mean", 0.3))]
    runs = [
        run("lr", TRUTH, TRUTH, settings={"encoder": "org/minilm", "pooling": "mean-normalized"}),
        run("lr+smote", TRUTH, TRUTH, settings={"encoder": "org/minilm", "pooling": "mean-normalized", "C": 1}),
        replace(run("lr+over", TRUTH, TRUTH, settings={"encoder": "bert", "pooling": "auto"}), history=chosen),
        run("tfidf", TRUTH, TRUTH),
    ]
    contenders = quick(runs).contenders
    assert {c.name: (c.encoder, c.pooling) for c in contenders} == {
        "lr": ("minilm", "mean-normalized"),
        "lr+smote": ("minilm", "mean-normalized"),
        "lr+over": ("bert", "mean"),
        "tfidf": ("", ""),
    }
    assert sorted(readings(contenders)) == ["bert, mean: lr+over", "minilm, mean-normalized: lr, lr+smote"]


def test_seeds_are_one_contender_with_a_spread():
    runs = [run("fine-tune", TRUTH, wrong_on(TRUTH, (0, 50 + 10 * s)), seed=s) for s in (1, 2, 3)]
    found = quick([*runs, run("lr", TRUTH, TRUTH)])
    assert {c.name for c in found.contenders} == {"fine-tune", "lr"}
    tuned = found.contenders[1]
    assert found.contenders[0].seed_spread is None
    assert tuned.seed_spread == pytest.approx(0.02)
    assert tuned.metrics["accuracy"].value == pytest.approx(0.93)
    alone = quick([runs[1], run("lr", TRUTH, TRUTH)]).contenders[1].metrics["accuracy"]
    assert alone.value == pytest.approx(0.93)
    assert tuned.metrics["accuracy"].low < alone.low  # what the seeds add: 4.3 · 1 point / √3


def test_the_model_handed_over_is_the_best_seed_on_validation():
    runs = [
        replace(
            run("fine-tune", TRUTH, wrong_on(TRUTH, (0, 50 + 10 * s)), seed=s, metrics={"validation": {"macro_f1": f}}),
            folder=Path(f"seed-{s}"),
        )
        for s, f in ((0, 0.5), (1, 0.9), (2, 0.7))
    ]
    (contender,) = quick(runs).contenders
    assert contender.run == "seed-1"
    assert contender.runs == ("seed-0", "seed-1", "seed-2")


def test_seeds_that_take_over_a_found_learning_rate_are_told_apart_by_the_seed_alone():
    asked = ({"learning_rate": None}, {"learning_rate": 1e-4}, {"learning_rate": 1e-4})
    found = (
        {"learning_rate": 1e-4, "epoch": 3},
        {"learning_rate": 1e-4, "epoch": 2},
        {"learning_rate": 1e-4, "epoch": 3},
    )
    runs = [
        run("fine-tune", TRUTH, wrong_on(TRUTH, (0, 50 + 10 * s)), seed=s, settings={**asked[s], "chosen": found[s]})
        for s in range(3)
    ]
    contenders = quick([*runs, run("lr", TRUTH, TRUTH)]).contenders
    assert [(c.name, c.seeds) for c in contenders] == [("lr", 1), ("fine-tune", 3)]
    assert {round(c.seed_spread, 3) for c in contenders if c.kind == "fine-tune"} == {0.02}


def test_the_same_run_twice_still_has_two_names():
    found = quick([run("lr", TRUTH, TRUTH), run("lr", TRUTH, TRUTH)])
    assert len({c.name for c in found.contenders}) == 2


def test_three_that_nothing_tells_apart_have_three_names():
    found = quick([run("lr", TRUTH, wrong_on(TRUTH, (0, n))) for n in (10, 20, 30)])
    assert {c.name for c in found.contenders} == {"lr (seed 0) #1", "lr (seed 0) #2", "lr (seed 0) #3"}
    assert len({(p.a, p.b) for p in found.pairs}) == 3


def test_encoders_of_one_name_are_told_apart_by_their_bytes():
    found = quick([run("lr", TRUTH, TRUTH, checkpoint_digest=d * 32, settings={"encoder": "best"}) for d in "abc"])
    assert {c.name for c in found.contenders} == {f"lr (checkpoint {d * 8})" for d in "abc"}


# ── the same rows ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_rows_in_another_order_are_put_in_order():
    one, two = field(lr=(0, 100), tfidf=(0, 50))[1:]
    mine = two.predictions["test"]
    order = np.random.default_rng(0).permutation(1000)
    mixed = replace(mine, row_ids=mine.row_ids[order], truth=mine.truth[order], proba=mine.proba[order])
    expected, found = quick([one, two]), quick([one, replace(two, predictions={"test": mixed})])
    assert found.pairs == expected.pairs


def test_other_rows_are_refused_with_their_number():
    one, two = run("lr", TRUTH, TRUTH), run("tfidf", TRUTH[:900], TRUTH[:900])
    with pytest.raises(UserError, match=r"100 of them"):
        quick([one, two])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset_digest": "1" * 16}, "other rows, labels or splits"),
        ({"class_names": ("a", "c")}, "knows the classes a, c"),
        ({"predictions": {}}, "labelled test split"),
    ],
)
def test_runs_of_another_question_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        quick([run("lr", TRUTH, TRUTH), replace(run("tfidf", TRUTH, TRUTH), **change)])


def test_bad_questions():
    with pytest.raises(UserError, match="no runs"):
        quick([])
    with pytest.raises(UserError, match="no metric 'f1'; choose one of accuracy"):
        quick(field(lr=(0, 1)), metric="f1")
    with pytest.raises(UserError, match="3 group labels for 1000"):
        quick(field(lr=(0, 1)), by=np.array(["x"] * 3))
    other = TRUTH.copy()
    other[5] = 1 - other[5]
    with pytest.raises(UserError, match="disagree on the label of 1 rows"):
        quick([run("lr", TRUTH, TRUTH), run("tfidf", other, TRUTH)])


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_a_handful_of_rows_gives_finite_numbers(rows):
    truth = np.arange(rows) % 2
    found = quick([run("lr", truth, truth, classes=2), run("tfidf", truth, 1 - truth, classes=2)])
    text = json.dumps(found.to_json())
    assert "NaN" not in text
    assert "Infinity" not in text


# ── cost ────────────────────────────────────────────────────────────────────────────────────────────────────────────


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


# ── the recommendation ──────────────────────────────────────────────────────────────────────────────────────────────


def test_fine_tuning_that_is_clearly_better_is_taken_and_tfidf_named():
    found = quick(field(lr=(0, 360), tfidf=(0, 120), fine_tune=(0, 70)))
    assert found.recommended == "fine-tune"
    start = "Fine-tune: fine-tune (accuracy 93.0 %, this training) is best seen: it beats tfidf by 5.0 points (95 %"
    assert found.recommendation.startswith(start)
    assert "; tfidf costs 1/290 of it (3.2 s against 16 min" in found.recommendation
    assert "and may lose up to 6." in found.recommendation  # 5.0 + 1.96 · 0.7
    assert "tfidf beats the probe lr too (88.0 % against 64.0 %) and is cheaper" in found.recommendation
    assert "It would change if 5.0 points over tfidf were not worth 15 min more" in found.recommendation


def test_a_probe_as_good_as_fine_tuning_is_taken():
    found = quick(field(lr=(0, 30), tfidf=(0, 120), fine_tune=(2, 30)))
    assert found.recommended == "lr"
    assert found.recommendation.startswith("Probe: fine-tune is best seen (accuracy 97.2 %")
    assert "may lose up to 0.5 points, within ±1.0 points" in found.recommendation
    assert "costs 1/19 of it (50 s against 16 min" in found.recommendation


def test_a_real_but_small_difference_does_not_pay_for_fine_tuning():
    truth = np.arange(20_000) % 2
    found = quick([run("lr", truth, wrong_on(truth, (0, 1000))), run("fine-tune", truth, wrong_on(truth, (0, 900)))])
    assert found.pairs[0].verdict == "better"
    assert found.recommended == "lr"
    assert "fine-tune is best seen (accuracy 95.5 %" in found.recommendation
    assert "may lose up to 0.6 points, within ±1.0 points" in found.recommendation


def test_tfidf_is_taken_where_it_is_the_finding():
    found = quick(field(lr=(0, 200), tfidf=(0, 60), fine_tune=(1, 60)))
    assert found.recommended == "tfidf"
    assert found.recommendation.startswith("Neither probe nor fine-tuning: fine-tune is best seen")
    assert "counting words is better than the frozen vectors and is cheaper" in found.recommendation


def test_undecided_says_how_many_rows_would_decide():
    rng = np.random.default_rng(0)
    a, b = (np.where(rng.random(1000) < p, TRUTH, 1 - TRUTH) for p in (0.85, 0.87))
    found = quick([run("lr", TRUTH, a), run("fine-tune", TRUTH, b)])
    pair = found.pairs[0]
    assert pair.verdict == "undecided"
    assert found.recommended == "fine-tune"  # the best seen, never the cheapest because nothing was shown
    assert "which may be chance (95 % interval −" in found.recommendation
    assert "lr costs 1/19 of it (50 s against 16 min for training and 10,000 predictions) and may lose up to" in (
        found.recommendation
    )
    assert f"About {pair.more_rows:,} more rows would narrow" in found.recommendation
    wanted = (1.96 * pair.error / 0.02) ** 2 * 1000 - 1000
    assert wanted <= pair.more_rows <= 1.1 * wanted + 1


def test_nothing_is_recommended_that_does_not_beat_guessing():
    rng = np.random.default_rng(1)
    coin = rng.integers(0, 2, 1000)
    found = quick([run("lr", TRUTH, coin), run("majority", TRUTH, np.zeros_like(TRUTH))])
    assert found.recommended is None
    assert found.recommendation.startswith("None of these")


def test_what_is_not_shown_to_beat_guessing_is_not_taken_because_it_is_cheap():
    truth = (np.arange(200) < 60).astype(int)  # guessing scores 70 %
    guess, weak = np.zeros_like(truth), np.where(np.arange(200) < 3, 1, 0)
    good = wrong_on(truth, (0, 20), (60, 80))
    found = quick([run("majority", truth, guess), run("tfidf", truth, weak), run("fine-tune", truth, good)])
    verdicts = {(p.a, p.b): p.verdict for p in found.pairs}
    assert verdicts["fine-tune", "majority"] == "better"
    assert verdicts["tfidf", "majority"] == "undecided"
    assert found.recommended == "fine-tune"


def test_uneven_classes_are_not_blamed_on_the_labels():
    truth = (np.arange(557) < 28).astype(int)
    found = quick(
        [run("majority", truth, np.zeros_like(truth)), run("tfidf", truth, wrong_on(truth, (0, 18), (100, 104)))]
    )
    assert found.recommended is None
    assert "not shown to beat always guessing one class (95.0 %" in found.recommendation
    assert "but by macro F1 tfidf is" in found.recommendation
    assert "--metric macro_f1" in found.recommendation
    assert "look at the labels" not in found.recommendation


def test_equal_scores_are_not_said_to_be_ahead():
    truth = np.arange(100) % 2
    found = quick([run("tfidf", truth, wrong_on(truth, (0, 5))), run("fine-tune", truth, wrong_on(truth, (5, 10)))])
    assert "ahead by 0.0" not in found.recommendation
    assert "scores the same" in found.recommendation
    assert found.recommended == "tfidf"  # both are best seen


@pytest.mark.parametrize(
    ("ratio", "said"), [(1.64, "61 %"), (2.05, "49 %"), (2.6, "1/3"), (19.4, "1/19"), (127, "1/130")]
)
def test_a_share_of_the_cost_in_words(ratio, said):
    assert fraction(ratio) == said


def test_a_borrowed_learning_rate_is_said():
    asked = {"learning_rate": 1e-4}
    runs = [
        run(kind, TRUTH, wrong_on(TRUTH, (0, n)), settings=asked) for kind, n in (("fine-tune", 9), ("frozen-head", 99))
    ]
    assert any("frozen-head had to take the learning rate" in reason for reason in quick(runs).reasons)
    runs[1] = run("frozen-head", TRUTH, wrong_on(TRUTH, (0, 99)), settings={"learning_rate": 1e-3})
    assert not any("had to take" in reason for reason in quick(runs).reasons)


def test_only_guessing_is_said_to_be_that():
    found = quick([run("majority", TRUTH, np.zeros_like(TRUTH))])
    assert found.recommended is None
    assert "only guesses" in found.recommendation


def test_without_fine_tuning_it_is_said_not_to_have_been_tried():
    found = quick(field(lr=(0, 50), tfidf=(0, 200)))
    assert found.recommended == "lr"
    assert "fine-tuning, which was not tried" in found.recommendation


def test_of_two_that_cost_alike_the_better_is_taken():
    found = quick([*field(lr=(0, 30), fine_tune=(0, 29)), run("lr+smote", TRUTH, wrong_on(TRUTH, (0, 35)))])
    assert found.recommended == "lr"


def rising(*accuracy: float) -> list[dict]:
    """The history of a fine-tuning with these validation accuracies, the untrained model's first."""
    judged = ({"accuracy": a, "macro_f1": a, "log_loss": 1 - a} for a in accuracy)
    return [{"epoch": i, "validation": found} for i, found in enumerate(judged)]


def test_a_training_that_had_not_levelled_off_is_named():
    lr, tuned = run("lr", TRUTH, wrong_on(TRUTH, (0, 100))), wrong_on(TRUTH, (0, 400))
    found = quick([lr, run("fine-tune", TRUTH, tuned, history=rising(0.1, 0.44, 0.51, 0.54))])
    said = "validation accuracy went from 51.0 % to 54.0 % in the last of 3 epochs"
    assert found.recommendation.endswith(f"It may change with more --epochs: fine-tune was still improving ({said}).")
    assert sum(said in reason for reason in found.reasons) == 1
    for history in (
        rising(0.1, 0.54, 0.543),
        rising(0.1, 0.99),
        rising(0.1, 0.6, 0.58),
        rising(0.5),
        [],
        [{"learning_rate": 1e-4}],
    ):
        level = quick([lr, run("fine-tune", TRUTH, tuned, history=history)])
        assert "--epochs" not in " ".join((*level.reasons, level.recommendation))


def test_a_rate_that_was_given_may_be_what_holds_a_training_back():
    tuned = run(
        "fine-tune", TRUTH, wrong_on(TRUTH, (0, 400)), history=rising(0.1, 0.4, 0.6), settings={"learning_rate": 2e-5}
    )
    found = quick([run("lr", TRUTH, wrong_on(TRUTH, (0, 100))), tuned])
    assert "It may change with more --epochs or --learning-rate auto: fine-tune was still" in found.recommendation


def test_a_rate_that_another_seed_found_was_not_given():
    history, wrong = rising(0.1, 0.4, 0.6), wrong_on(TRUTH, (0, 400))
    first = {"learning_rate": "auto", "chosen": {"learning_rate": 2e-5}}
    seeds = [
        run("fine-tune", TRUTH, wrong, history=history, seed=1, settings=first),
        run("fine-tune", TRUTH, wrong, history=history, seed=2, settings={"learning_rate": 2e-5}),
    ]
    found = quick([run("lr", TRUTH, wrong_on(TRUTH, (0, 100))), *seeds])
    assert "--learning-rate auto" not in " ".join((*found.reasons, found.recommendation))


def test_of_two_trainings_the_one_that_is_taken_is_not_doubted_for_the_other():
    runs = [
        run("fine-tune", TRUTH, wrong_on(TRUTH, (0, 100)), history=rising(0.1, 0.7, 0.9)),
        run("from-scratch", TRUTH, wrong_on(TRUTH, (100, 201)), cost=Cost(1.0, None, ms_per_text_batch=0.1)),
    ]
    found = quick(runs, margin=0.05)
    assert found.recommended == "from-scratch"
    assert "was still improving" not in found.recommendation


def test_a_rising_winner_is_named_in_the_reasons_alone():
    runs = [run("lr", TRUTH, wrong_on(TRUTH, (0, 400)))]
    runs.append(run("fine-tune", TRUTH, wrong_on(TRUTH, (0, 100)), history=rising(0.1, 0.7, 0.9)))
    found = quick(runs)
    assert found.recommended == "fine-tune"
    assert "--epochs" not in found.recommendation
    assert any("had not levelled off" in reason for reason in found.reasons)


def test_of_seeds_the_best_is_taken_whatever_each_happened_to_cost():
    wrong, cost = {0: 50, 1: 60, 2: 55}, {0: 3000.0, 1: 400.0, 2: 900.0}
    runs = [
        run("fine-tune", TRUTH, wrong_on(TRUTH, (0, n)), seed=s, cost=Cost(cost[s], None, ms_per_text_batch=3.0))
        for s, n in wrong.items()
    ]
    found = quick([*runs, run("lr", TRUTH, wrong_on(TRUTH, (0, 300)))])
    assert found.recommended == "fine-tune"
    best = found.contenders[0]
    assert (best.seeds, best.metrics["accuracy"].value) == (3, pytest.approx(0.945))
    assert best.cost.fit_seconds == pytest.approx(4300 / 3)


# ── speed and honesty ───────────────────────────────────────────────────────────────────────────────────────────────


def test_draws_cost_by_outcome_not_by_row(monkeypatch):
    """Ten times the rows, the same outcomes: as many random numbers."""
    truth = np.repeat(np.arange(77), 130)
    predicted = np.array([wrong_on(truth, (0, 800)), wrong_on(truth, (0, 1000))])
    few, many = st.outcomes(truth, predicted, 77), st.outcomes(np.tile(truth, 10), np.tile(predicted, 10), 77)
    assert len(few.rows) == len(many.rows)
    drawn: list[int] = []
    poisson = bootstrap.poisson

    def counted(*rates, **how):
        drawn[-1] += (found := poisson(*rates, **how)).size
        return found

    monkeypatch.setattr(bootstrap, "poisson", counted)
    for table in (few, many):
        drawn.append(0)
        own, apart = bootstrap.counts(table, [m for m in METRICS if METRICS[m].counts], 100, np.random.default_rng(0))
        assert (own.shape, apart.shape) == ((6, 2, 100), (6, 1, 100))
    assert drawn[0] == drawn[1]


@pytest.fixture(scope="module")
def simulation():
    path = ROOT / "benchmarks" / "verdict.py"
    spec = importlib.util.spec_from_file_location("benchmark_verdict", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["benchmark_verdict"] = module
    spec.loader.exec_module(module)
    return module


def honest(records, repeats):
    """Falsely better at most 5 % + 2 SE; coverage 93 to 98.5 %, give or take what chance does in `repeats`."""
    error = 2 * np.sqrt(0.05 * 0.95 / repeats)
    for record in records:
        assert record["better"] + record["worse"] <= 0.05 + error, record
        assert record["coverage"] >= 0.93 - error, record
        assert 0.93 - error <= record["coverage_difference"] <= 0.985 + error, record


@pytest.mark.parametrize("rows", [100, 500])
def test_exchangeable_contenders_are_rarely_called_better(simulation, rows):
    honest(simulation.simulate(simulation.CASES[2], rows, 150, 200), 150)


def test_a_real_gap_is_found(simulation):
    (accuracy, f1) = simulation.simulate(simulation.POWER[1], 2000, 40, 200)
    assert accuracy["better"] > 0.9
    assert f1["better"] > 0.8


@pytest.mark.slow
@pytest.mark.parametrize("rows", [100, 500, 2000])
def test_every_case_is_honest(simulation, rows):
    for case in simulation.CASES:
        honest(simulation.simulate(case, rows, 1000, 500), 1000)


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
