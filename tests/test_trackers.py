"""Every contender and the verdict reach the tracker that is named; a missing or failing one costs no verdict."""

import importlib.machinery
import sys
from contextlib import contextmanager
from types import ModuleType

import pytest

import cli
from pipeline import trackers
from pipeline.finetune.tracking import place_of


class Recorded(ModuleType):
    """A tracker that remembers what it is told."""

    def __init__(self, name):
        super().__init__(name)
        self.__spec__ = importlib.machinery.ModuleSpec(name, None)
        self.runs = []

    def set_experiment(self, name):
        self.place = name

    @contextmanager
    def start_run(self, run_name):
        self.init(name=run_name)
        yield

    def init(self, name, config=None, project=None, **_):
        self.place = project or self.place
        self.runs.append((name, dict(config or {}), {}))
        return self

    def log_params(self, settings):
        self.runs[-1][1].update(settings)

    def log(self, numbers):
        self.runs[-1][2].update(numbers)

    log_metrics = log

    def finish(self):
        pass


@pytest.fixture
def words(tmp_path):
    rows = [f"{'good' if i % 2 else 'bad'} film {i},{'up' if i % 2 else 'down'}\n" for i in range(120)]
    (tmp_path / "films.csv").write_text("text,label\n" + "".join(rows), "utf-8")
    given = [tmp_path / "films.csv", "--contenders", "majority,tfidf", "--no-cv", "--runs", tmp_path / "runs"]
    return ["compare", *map(str, given), "--encoder", "minilm"]


@pytest.mark.parametrize("name", ["mlflow", "wandb", "trackio"])
def test_every_contender_and_the_verdict_are_told(name, words, monkeypatch, capsys):
    told = Recorded(name)
    monkeypatch.setitem(sys.modules, name, told)
    assert cli.main([*words, "--report-to", name]) == 0, capsys.readouterr().err
    by_name = {run[0]: run[1:] for run in told.runs}
    assert set(by_name) == {"majority", "tfidf", "verdict"}
    settings, numbers = by_name["tfidf"]
    assert numbers["test/accuracy"] == 1
    assert numbers["cost/fit_seconds"] > 0
    assert settings["recommended"] == "True"
    assert told.place == place_of(name, "films")  # where a training's own run is
    assert by_name["verdict"][0]["recommended"] == "tfidf"
    assert by_name["verdict"][1]["difference/tfidf/majority"] == pytest.approx(
        1 - by_name["majority"][1]["test/accuracy"]
    )


def test_tensorboard_reads_what_was_written(words, tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR", raising=False)
    assert cli.main([*words, "--report-to", "tensorboard"]) == 0
    (home,) = (tmp_path / "runs").glob("*/trackers")
    assert {folder.name for folder in home.iterdir()} == {"majority", "tfidf", "verdict"}
    events = EventAccumulator(str(home / "tfidf"))
    events.Reload()
    assert events.Scalars("test/accuracy")[0].value == 1


def test_a_tracker_that_is_not_there_is_said_before_anything_is_fitted(words, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: None)
    assert cli.main([*words, "--report-to", "mlflow"]) == 1
    assert "error: --report-to mlflow: mlflow is not installed; pip install mlflow" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_one_that_fails_costs_no_verdict(words, monkeypatch, capsys):
    told = Recorded("wandb")

    def refused(**_):
        raise RuntimeError("not logged in")

    monkeypatch.setattr(told, "init", refused)
    monkeypatch.setitem(sys.modules, "wandb", told)
    assert cli.main([*words, "--report-to", "wandb"]) == 0
    out, err = capsys.readouterr()
    assert "--report-to wandb: not logged in; the verdict stands" in err
    assert "tfidf" in out
