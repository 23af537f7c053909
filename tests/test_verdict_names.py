"""Names tell contenders apart, and seeds of one fit are one contender."""

from dataclasses import replace
from pathlib import Path

import pytest
from verdict_runs import TRUTH, quick, run, wrong_on

from pipeline.run import Cost
from pipeline.verdict.results import readings


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
