"""The parts of a training, on numbers that fit in the head."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline import UserError
from pipeline.finetune import device
from pipeline.finetune.device import Machine, machine
from pipeline.finetune.hopeless import Bar, Look, guessing, reachable
from pipeline.finetune.job import TrainingState, looked_at
from pipeline.finetune.rates import by_chance, held_out, row_passes, rungs, smallest_good, steps_of_rungs, survivors
from pipeline.finetune.training import (
    FineTuneSettings,
    Rows,
    balanced_weights,
    epochs_of,
    log_losses,
    logits,
    steps_asked,
)
from pipeline.run import Predictions


def test_balanced_weights_average_to_one():
    labels = np.array([0, 0, 0, 1])
    weights = balanced_weights(labels, 3)
    assert weights.tolist() == [4 / 6, 2.0, 1.0]  # nobody is of the third class
    assert weights[labels].mean() == 1


def test_log_losses_are_those_of_softmax_and_never_nan():
    found = np.array([[0.0, np.log(3)], [1000.0, 0.0], [np.nan, 0.0]], np.float32)
    losses = log_losses(found, np.array([1, 1, 0]))
    assert losses[0] == pytest.approx(-np.log(0.75))
    assert losses[1] == pytest.approx(1000)
    assert losses[2] == np.inf


def test_the_smallest_rate_that_is_as_good_is_taken():
    random = np.random.default_rng(0)
    good = random.uniform(0.4, 0.6, 500)
    assert smallest_good([good + 0.5, good + 0.001 * random.normal(size=500), good]) == 1  # a tie goes to the smaller
    assert smallest_good([good + 0.5, good + 0.1, good]) == 2
    assert smallest_good([good, good + 0.1, np.full(500, np.inf)]) == 0  # the last one diverged
    assert smallest_good([np.full(3, np.inf)] * 2) == 0


@pytest.mark.parametrize(
    ("rows", "batch", "epochs", "steps"),
    [(16000, 64, 2, [16, 32]), (16000, 32, 3, [49, 98]), (300, 32, 3, [4, 8]), (64, 32, 3, [4, 6]), (9, 9, 3, [3, 3])],
)
def test_rungs_are_a_share_of_the_training(rows, batch, epochs, steps):
    assert rungs(rows, FineTuneSettings(epochs=epochs, batch_size=batch), rates=3) == steps


@pytest.mark.parametrize(("rows", "epochs"), [(4459, 3), (16000, 3), (2000, 4), (480, 17)])
def test_a_search_costs_an_eighth_of_the_steps_at_most(rows, epochs):
    settings = FineTuneSettings(epochs=epochs)
    searched = row_passes(rows, settings) / row_passes(rows, replace(settings, learning_rate=1e-4))
    assert 1.09 < searched < 1.105  # and 2 % go into judging


def test_steps_are_those_of_the_rates_that_are_left():
    assert steps_of_rungs([16, 32], rates=3) == [3 * 16, 2 * 16]
    assert steps_of_rungs([10], rates=2) == [20]


def test_the_worse_half_stops():
    losses = {place: np.full(50, value) for place, value in enumerate([0.9, 0.4, np.inf, 0.5, 0.3])}
    assert survivors(losses) == [1, 3, 4]
    assert survivors({0: np.full(50, 0.9), 2: np.full(50, np.inf)}) == [0]
    noisy = np.random.default_rng(0).uniform(0, 1, 50)
    assert survivors({1: noisy, 2: noisy[::-1]}) == [1]  # as good: the smaller rate


def test_a_course_ends_with_its_epochs_or_its_patience():
    settings = FineTuneSettings(epochs=5, patience=2)
    assert not TrainingState(epoch=3, best_epoch=2, better_epoch=2).finished(settings)
    assert TrainingState(epoch=4, best_epoch=4, better_epoch=2).finished(settings)
    assert TrainingState(epoch=5, best_epoch=5, better_epoch=5).finished(settings)
    assert not TrainingState().finished(settings)


class Counting:
    """A model whose logits are [tokens of the text, id of its first token]."""

    training = True

    def __init__(self):
        self.shapes = []

    def eval(self):
        self.training = False

    def train(self, on):
        self.training = on

    def __call__(self, input_ids, attention_mask):
        import torch

        assert not self.training
        self.shapes.append(tuple(input_ids.shape))
        return {"logits": torch.stack([attention_mask.sum(1), input_ids[:, 0]], 1)}


def test_logits_come_back_in_order_from_batches_of_like_length():
    rows = Rows([np.full(n, 10 * n) for n in (2, 9, 3, 9, 2)], None, np.zeros(5, np.int64), pad_id=0)
    model = Counting()
    found = logits(model, rows, Machine("cpu", "fp32"), token_budget=18)
    assert found.tolist() == [[n, 10 * n] for n in (2, 9, 3, 9, 2)]
    assert model.shapes[0] == (2, 9)
    assert model.training


def test_rows_can_be_taken():
    rows = Rows([np.array([1]), np.array([2, 3])], [np.array([0]), np.array([0, 1])], np.array([5, 6]), pad_id=7)
    some = rows.take(np.array([1]))
    assert (len(some), some.labels.tolist(), some.lengths.tolist()) == (1, [6], [2])
    assert rows[1]["token_type_ids"].tolist() == [0, 1]
    (batch,) = rows.batches(100)
    assert batch.ids[np.argsort(batch.rows)].tolist() == [[1, 7], [2, 3]]


# ── the machine ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_bfloat16_only_where_it_is_native_and_faster(monkeypatch):
    from pipeline.encoder.hardware import Hardware

    def here(native, gain):
        monkeypatch.setattr(device, "hardware", lambda: Hardware(2, native, None, False))
        monkeypatch.setattr(device, "bf16_gain", lambda: gain)
        return machine("cpu").precision

    assert (here(True, 4.5), here(True, 0.5), here(False, 4.5)) == ("bf16", "fp32", "fp32")


def test_a_device_that_is_not_there_is_refused():
    import torch

    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="--device cuda: none here"):
            machine("cuda")
    with pytest.raises(UserError, match="no device 'tpu'; choose one of cpu, cuda, mps"):
        machine("tpu")
    with pytest.raises(UserError, match="fp16 trains on CUDA only"):
        machine("cpu", "fp16")


# ── how long, and what chance decides ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("rows", "batch", "accumulation", "epochs"),
    [(16000, 32, 1, 3), (480, 32, 1, 17), (480, 16, 2, 17), (60, 32, 1, 30), (1, 32, 1, 30), (2000, 32, 1, 4)],
)
def test_auto_is_about_250_steps_in_3_to_30_passes(rows, batch, accumulation, epochs):
    assert epochs_of(FineTuneSettings(batch_size=batch, gradient_accumulation=accumulation), rows) == epochs
    assert epochs_of(FineTuneSettings(epochs=2, batch_size=batch), rows) == 2


@pytest.mark.parametrize(("classes", "epochs"), [(2, 3), (25, 3), (77, 9), (400, 30)])
def test_many_classes_take_ten_steps_each(classes, epochs):
    settings = FineTuneSettings()
    assert epochs_of(settings, 3000, classes) == epochs  # of 94 steps
    assert epochs_of(replace(settings, epochs=2), 3000, classes) == 2


def test_a_run_says_how_many_steps_it_was_given_where_they_are_not_the_usual_ones():
    assert [steps_asked(FineTuneSettings(), classes) for classes in (2, 25, 26, 77)] == [
        {},
        {},
        {"steps": 260},
        {"steps": 770},
    ]
    assert steps_asked(FineTuneSettings(epochs=3), 77) == {}


def rows_of(start, numbers):
    """Rows whose only token is their number."""
    return Rows([np.array([start + i]) for i in numbers], None, np.asarray(numbers), pad_id=0)


def test_a_search_judges_on_rows_of_train_where_validation_is_small():
    names = [*range(479), 478]  # the last two are the same text
    held = held_out(rows_of(0, names), rows_of(1000, range(50)), FineTuneSettings(epochs=17))
    assert (len(held.places), held.epochs) == (50, 2)  # 33 steps of 17 times 15
    assert not {478, 479} & set(held.places.tolist())
    assert len(held_out(rows_of(0, range(100)), rows_of(1000, range(5)), FineTuneSettings(epochs=3)).places) == 20
    assert len(held_out(rows_of(0, names), rows_of(1000, range(100)), FineTuneSettings(epochs=3)).places) == 0


def test_a_run_on_few_rows_says_what_chance_decides():
    assert by_chance(101, 10) == ()
    assert by_chance(100, 25) == (
        "100 rows to learn from: chance decides much of this run, and an epoch chosen on 25 rows, where 10 points are "
        "one standard error; --seeds 5 shows how much",
    )
    assert by_chance(1, 0) == ("1 row to learn from: chance decides much of this run; --seeds 5 shows how much",)


def bar(wrong: int = 0, metric: str = "accuracy") -> Bar:
    """A cheap contender that is wrong on the first rows of 200, of two classes in turn."""
    truth = np.arange(200) % 2
    said = np.where(np.arange(200) < wrong, 1 - truth, truth)
    ids = np.arange(200).astype(str)
    predictions = Predictions("validation", ids, truth, np.eye(2)[said].astype(np.float32))
    return Bar("lr", "lr-1", predictions, metric, 0.01, guessing(predictions, metric))


def test_guessing_is_told_as_far_behind_as_it_is():
    assert guessing(bar(10).predictions, "accuracy") == pytest.approx(0.5 - 0.95)
    assert guessing(bar(0, "log_loss").predictions, "log_loss") == pytest.approx(
        -np.log(2), abs=1e-3
    )  # lower is better


def test_what_answers_with_one_class_for_half_of_its_steps_has_not_begun_to_learn():
    seen = [Look(i / 8, ahead, 0.012) for i, ahead in enumerate((-0.25, -0.107, -0.107, -0.107, -0.107))]
    mostly_one = replace(bar(), guessing=-0.107)  # as far as the shares of two uneven classes go
    assert [mostly_one.ended(seen[:many]) for many in (4, 5)] == [None, None]
    assert replace(bar(), guessing=-0.5).ended(seen) is not None
    seen += [Look(0.625, -0.05, 0.01), Look(0.75, 0.0, 0.01)]  # then it does
    assert [mostly_one.ended(seen[:many]) for many in (6, 7)] == [None, None]


def test_a_look_compares_on_the_same_rows():
    truth = np.arange(200) % 2
    right, wrong = np.eye(2)[truth], np.eye(2)[1 - truth]
    look = bar(10).look(0.5, right)
    assert (look.share, look.ahead) == (0.5, pytest.approx(0.05))
    assert look.error == pytest.approx(np.sqrt((0.05 * 0.95) / 200 + 2 / 200**2), rel=0.2)
    same = bar(10).look(1.0, bar(10).predictions.proba)
    assert (same.ahead, same.error) == (0, pytest.approx(np.sqrt(2) / 200))  # none here is not none elsewhere
    assert bar(10).look(1.0, wrong).ahead == pytest.approx(-0.95)
    smooth = np.where(np.eye(2)[truth] == 1, 0.9, 0.1)
    assert (
        bar(10, "log_loss").look(1.0, smooth).ahead > 0 > bar(0, "log_loss").look(1.0, smooth).ahead
    )  # lower is better
    assert bar(10, "macro_f1").look(1.0, right).ahead == pytest.approx(0.05, abs=1e-3)


def looks(*ahead: float, of: int, error: float = 0.002) -> list[Look]:
    return [Look(i / of, value, error) for i, value in enumerate(ahead)]


@pytest.mark.parametrize(
    ("seen", "ended"),
    [
        (looks(-0.5, -0.02, -0.01, -0.01, -0.01, of=8), True),  # flat, and behind
        (looks(-0.5, -0.02, -0.01, -0.01, of=4), True),
        (looks(-0.5, -0.02, -0.01, -0.01, -0.01, of=4), False),  # at its end
        (looks(-0.5, -0.01, -0.01, of=8), False),  # too early
        (looks(-0.5, -0.2, -0.15, -0.1, -0.05, of=8), False),  # it rises still
        (looks(-0.5, -0.02, -0.01, -0.01, -0.01, of=8, error=0.03), False),  # few rows say little
        (looks(-0.5, 0.02, 0.02, 0.02, 0.02, of=8), False),  # it wins
        (looks(-0.5, -0.5, -0.5, -0.5, -0.5, of=8), False),  # nothing is learnt yet
        (looks(-0.5, *[-0.5] * 6, of=8), True),  # nor later
        (looks(-0.03, -0.01, -0.01, -0.01, -0.02, of=8), False),  # back where it began
    ],
)
def test_what_cannot_win_any_more_is_ended(seen, ended):
    assert (bar().ended(seen) is not None) is ended


def test_what_a_training_may_still_gain_is_what_it_gained_of_late():
    assert reachable(looks(0, 0.1, 0.2, 0.3, 0.4, of=8)) == pytest.approx(0.8)
    assert reachable(looks(0, 0.3, 0.4, 0.35, 0.4, of=8)) == pytest.approx(0.4)  # nothing since the quarter
    assert reachable(looks(0, 0.3, of=2)) == pytest.approx(0.6)


def test_a_training_is_looked_at_eight_times_at_least():
    assert looked_at(140, 3) == {47, 93}  # and at the end of each epoch
    assert looked_at(10, 25) == set()
    assert looked_at(2, 1) == {1}
    assert len(looked_at(100, 1)) == 7
