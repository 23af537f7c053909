"""Budgets: what a time means, what fits into it, and why the rest does not."""

from types import SimpleNamespace

import pytest
from tables import rows, write_csv

from pipeline import UserError
from pipeline.data import SourceOptions, read
from pipeline.encoder.checkpoint import EncoderSpec, locate
from pipeline.estimates import Job, tuning_seconds
from pipeline.finetune import FineTuneSettings
from pipeline.fitting import Estimate, announcement, seconds_of, within
from pipeline.task import Task


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("20m", 1200), ("20 min", 1200), ("2h", 7200), ("1h30m", 5400), ("1.5H", 5400)]
)
def test_a_time_has_a_unit(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize(("text", "says"), [("20", "write 20s, 20m or 20h"), ("soon", "write 90s"), ("0s", "no time")])
def test_anything_else_is_explained(text, says):
    with pytest.raises(ValueError, match=says):
        seconds_of(text)


def prospects(**seconds):
    return {name.replace("_", "-").replace("lr-smote", "lr+smote"): Estimate(s, 1.0) for name, s in seconds.items()}


def test_the_quickest_come_first_and_extraction_is_paid_once():
    found = prospects(extract=30, tfidf=5, lr=10, lr_smote=20, fine_tune=600)
    taken, left_out = within(found, 65)
    assert taken == ["tfidf", "lr", "lr+smote"]  # 5 + (30 + 10) + 20
    assert list(left_out) == ["fine-tune"]
    assert left_out["fine-tune"] == "fine-tune: takes about 10 min, 0.0 s of 65 s are left"
    assert within(found, 64)[0] == ["tfidf", "lr"]


def test_what_is_there_costs_nothing():
    found = prospects(extract=0, tfidf=5) | {"fine-tune": Estimate(600, 0.0), "lr": Estimate(10, 0.0)}
    assert set(within(found, 5)[0]) == {"fine-tune", "lr", "tfidf"}
    half = {"fine-tune": Estimate(600, 0.5)}
    assert within(half, 300)[0] == ["fine-tune"]


def reviews_file(home):
    return write_csv(home / "reviews.csv", rows(1000))


def estimated(tmp_path, checkpoint, **more):
    dataset = read(SourceOptions(str(reviews_file(tmp_path))))
    task = Task(dataset, (EncoderSpec(str(checkpoint)),), tuning=FineTuneSettings(**more.pop("tuning", {})), **more)
    return Job(task, task.encoders[0], locate(task.encoders[0]), 800, 20.0, 1e10, "cpu", 1e10)


def test_only_the_first_seed_searches_a_learning_rate(tmp_path, tiny_distilbert):
    found = {n: tuning_seconds(estimated(tmp_path, tiny_distilbert, seeds=n)) - 10 for n in (1, 2)}
    given = tuning_seconds(estimated(tmp_path, tiny_distilbert, tuning={"learning_rate": 1e-4})) - 10
    assert found[2] - found[1] == pytest.approx(given)
    assert found[1] > given


def test_twice_the_epochs_cost_about_twice(tmp_path, tiny_distilbert):
    once, twice = (
        tuning_seconds(estimated(tmp_path, tiny_distilbert, tuning={"learning_rate": 1e-4, "epochs": e})) - 10
        for e in (3, 6)
    )
    assert twice == pytest.approx(2 * once, rel=0.02)


def test_a_budget_for_nothing_is_refused():
    with pytest.raises(UserError, match=r"nothing of lr, fine-tune fits into 5\.0 s; the quickest takes about 40 s"):
        within(prospects(extract=30, lr=10, fine_tune=600), 5)


def test_what_is_announced_stands_in_columns():
    task = SimpleNamespace(dataset=SimpleNamespace(name="mails", train=SimpleNamespace(texts=[("a",)] * 9)))
    lines = announcement(task, ["lr", "from-scratch"], prospects(lr=10, from_scratch=600))
    assert lines[0] == "mails: 9 rows to learn from, lr, from-scratch"
    assert [line.index("about") for line in lines[1:3]] == [15, 15]
