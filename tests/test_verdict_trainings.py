"""What the sentence says of trainings: the ladder, those that were ended, rates, those that were still improving."""

from dataclasses import replace

import pytest
from verdict_runs import COSTS, TRUTH, field, quick, run, wrong_on

from pipeline.run import Cost, Run
from pipeline.verdict import compare


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
            "Probe: lr (accuracy 90.0 %) is best of those trained to their end, and may lose up to 2.5 points. "
            "fine-tune (91.0 %) was ended after 50 %",
        ),
        (
            (50, 140),
            "lr",
            "points mattered to you: then have fine-tune trained to its end.",
        ),
        (
            (0, 20),
            "fine-tune",
            "fine-tune (98.0 %) was ended after 50 % of its steps as hopeless: on validation it was 0.4 points behind",
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


def test_a_borrowed_learning_rate_is_said():
    asked = {"learning_rate": 1e-4}
    runs = [
        run(kind, TRUTH, wrong_on(TRUTH, (0, n)), settings=asked) for kind, n in (("fine-tune", 9), ("frozen-head", 99))
    ]
    assert any("frozen-head had to take the learning rate" in reason for reason in quick(runs).reasons)
    runs[1] = run("frozen-head", TRUTH, wrong_on(TRUTH, (0, 99)), settings={"learning_rate": 1e-3})
    assert not any("had to take" in reason for reason in quick(runs).reasons)


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


def test_one_that_is_level_with_the_best_of_those_trained_to_their_end_is_taken_for_its_cost():
    """tfidf scores as lr does and costs less: that is why, not a preference that nobody stated."""
    cheap, dear = (Cost(fit_seconds=s, extract_seconds=None, ms_per_text_batch=0.01) for s in (1.0, 900.0))
    runs = [*field(lr=(0, 100), tfidf=(0, 100)), ended((50, 140))]
    found = compare([replace(r, cost=cheap if r.kind == "tfidf" else dear) for r in runs])
    assert found.recommended == "tfidf"
    assert "tfidf (accuracy 90.0 %) is best of those trained to their end, and may lose up to" in found.recommendation
    assert "preferred" not in found.recommendation
