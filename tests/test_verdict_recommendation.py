"""What is taken, and the sentence that says why."""

import io
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console
from verdict_runs import TRUTH, field, quick, run, wrong_on

from pipeline import UserError
from pipeline.run import Cost
from pipeline.show.verdicts import comparison_tables
from pipeline.verdict.recommend import fraction
from pipeline.verdict.regret import worth


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


def test_only_guessing_is_said_to_be_that():
    found = quick([run("majority", TRUTH, np.zeros_like(TRUTH))])
    assert found.recommended is None
    assert "only guesses" in found.recommendation


def test_without_fine_tuning_it_is_said_not_to_have_been_tried():
    found = quick(field(lr=(0, 50), tfidf=(0, 200)))
    assert found.recommended == "lr"
    assert "fine-tuning, which was not tried" in found.recommendation


@pytest.mark.parametrize(("wrong", "gain"), [(0, "nothing"), (4, "0.4 points at most")])
def test_fine_tuning_cannot_gain_more_than_is_wrong(wrong, gain):
    found = quick(field(lr=(0, wrong), tfidf=(0, 200)))
    assert found.recommended == "lr"
    assert found.recommendation.endswith(f" Fine-tuning, which was not tried, could gain {gain} on these rows.")


def test_a_cost_that_is_not_known_is_not_said_to_be_higher():
    unknown = replace(run("lr", TRUTH, wrong_on(TRUTH, (0, 50))), cost=Cost())
    found = quick([unknown, run("tfidf", TRUTH, wrong_on(TRUTH, (0, 100)))])
    assert "; tfidf takes 3.2 s for training and 10,000 predictions (lr: not known) and may lose up to" in (
        found.recommendation
    )
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(list(comparison_tables(SimpleNamespace(comparison=found, cascade=(), report=None, card=None)))[2])
    assert console.export_text().splitlines()[2].split() == ["lr", *"–––––"]  # no "– MB"


def test_of_two_that_cost_alike_the_better_is_taken():
    found = quick([*field(lr=(0, 30), fine_tune=(0, 29)), run("lr+smote", TRUTH, wrong_on(TRUTH, (0, 35)))])
    assert found.recommended == "lr"


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
