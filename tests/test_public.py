"""Every public name says what it takes, gives and refuses, and its example runs as it stands."""

import doctest
import importlib
import inspect

import pytest

import pipeline
from pipeline import UserError
from pipeline.encoder import checkpoint

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.fixture(scope="module")
def known(tmp_path_factory, tiny_distilbert):
    """What the examples may name: RUN and BASELINE are folders of runs, TMP is a folder to write into."""
    from pipeline.baseline import majority_fit
    from pipeline.contenders import linear_runs
    from pipeline.data import SourceOptions, read
    from pipeline.task import Task

    home = tmp_path_factory.mktemp("public")
    data = read(SourceOptions("sms-spam", rows="first:300"))
    spec = checkpoint.EncoderSpec(str(tiny_distilbert), engine="torch", precision="fp32")
    task = Task(data, encoders=(spec,), cache=home / "cache", runs=home / "runs")
    run, baseline = linear_runs(task)[0], majority_fit(data, home / "runs").run()
    return {"RUN": run.folder, "BASELINE": baseline.folder, "TMP": home}


def documented(name):
    value = getattr(pipeline, name)
    return (
        getattr(importlib.import_module(f"pipeline.{pipeline.PUBLIC[name]}"), name)
        if inspect.ismodule(value)
        else value
    )


@pytest.mark.parametrize("name", sorted(pipeline.PUBLIC))
def test_the_example_of_every_public_name_runs(name, known, tiny_distilbert, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(checkpoint, "packaged", lambda: tiny_distilbert)  # as if that were the packaged encoder
    monkeypatch.setattr(checkpoint, "MINILM_SHA256", checkpoint.sha256(tiny_distilbert / "model.safetensors"))
    text = inspect.getdoc(documented(name))
    assert "Raises" in text, f"{name}: says no errors"
    examples = doctest.DocTestParser().get_doctest(text, dict(known), name, None, None)
    assert examples.examples, f"{name}: has no example"
    said = []
    doctest.DocTestRunner(optionflags=FLAGS).run(examples, out=said.append)
    assert "".join(said) == ""


@pytest.mark.parametrize("name", ["audit", "explore", "learning_curve"])
def test_a_room_of_a_functions_name_is_called_like_it(name):
    room = importlib.import_module(f"pipeline.{name}")
    assert inspect.ismodule(room)
    assert callable(getattr(pipeline, name))
    with pytest.raises(UserError, match="no such file"):
        getattr(pipeline, name)("./nowhere.csv")
