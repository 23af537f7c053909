"""An encoder is converted by another process while this one fits what reads no vectors."""

import os
import shutil

import pytest
from tables import rows, write_csv

from pipeline import UserError, fitting
from pipeline.data import SourceOptions, read
from pipeline.encoder import EncoderSpec, ahead, converted, locate
from pipeline.encoder.converted import is_tried
from pipeline.fitting import converted_meanwhile
from pipeline.task import Task

pytest.importorskip("openvino", reason="openvino is not installed")


@pytest.fixture
def found(tiny_bert):
    return locate(EncoderSpec(str(tiny_bert)))


def test_what_it_converts_is_found_by_whoever_opens_the_encoder(found, tmp_path, monkeypatch):
    with ahead.converting(found, ("cls",), tmp_path) as wait:
        assert not is_tried(found, ("cls",), tmp_path)  # nobody has waited yet
        assert wait() == 0
    monkeypatch.setattr(converted, "convert", None)
    assert converted.converted(found, ("cls",), tmp_path)[0].exists()


def test_nothing_that_lies_in_the_folder_is_imported(found, tmp_path, monkeypatch):
    folder = tmp_path / "sent"
    folder.mkdir()
    for name in ("pickle", "numpy", "torch", "pipeline"):
        (folder / f"{name}.py").write_text("open('ran', 'w').close()\nraise SystemExit(1)\n")
    monkeypatch.chdir(folder)
    with ahead.converting(found, ("cls",), tmp_path / "cache") as wait:
        assert wait() == 0
    assert not (folder / "ran").exists()


def test_left_early_it_is_ended(found, tmp_path):
    with pytest.raises(KeyboardInterrupt), ahead.converting(found, ("cls",), tmp_path) as wait:
        raise KeyboardInterrupt
    assert wait() != 0
    assert not is_tried(found, ("cls",), tmp_path)


def test_where_it_fails_whoever_opens_the_encoder_says_so(tiny_bert, tmp_path):
    folder = shutil.copytree(tiny_bert, tmp_path / "encoder")
    found = locate(EncoderSpec(str(folder)))
    (folder / "model.safetensors").unlink()
    with ahead.converting(found, ("cls",), tmp_path / "cache") as wait:
        assert wait() != 0
    with pytest.raises(UserError, match="encoder"):
        converted.converted(found, ("cls",), tmp_path / "cache")


def test_without_another_process_there_is_nothing_to_wait_for(found, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("sys.executable", os.fspath(tmp_path / "nowhere"))
    with caplog.at_level("INFO"), ahead.converting(found, ("cls",), tmp_path) as wait:
        wait()
    assert not caplog.messages


@pytest.mark.parametrize(
    ("changed", "begun"),
    [
        ({}, True),
        ({"extract": None}, False),  # the vectors are there
        ({"tfidf": 0.5}, False),  # over before the other process has imported anything
        ({"cores": 1}, False),
        ({"there": True}, False),
    ],
)
def test_it_is_begun_where_that_gains_something(changed, begun, tiny_bert, tmp_path, monkeypatch):
    cache, spec = tmp_path / "cache", EncoderSpec(str(tiny_bert))
    seconds = {"extract": 20.0, "tfidf": 8.0, "lr": 1.0} | changed
    monkeypatch.setattr(fitting, "cores", lambda: changed.get("cores", 2))
    monkeypatch.setattr(fitting, "converting", lambda *given: given)
    if changed.get("there"):
        converted.converted(locate(spec), ("cls",), cache)
    data = read(SourceOptions(str(write_csv(tmp_path / "reviews.csv", rows(100)))))
    waiting = {name: s for name, s in seconds.items() if s and name in ("extract", "tfidf", "lr")}
    given = converted_meanwhile(Task(data, (spec,), cache=cache), waiting)
    assert (given == (locate(spec), ("cls",), cache)) == begun


def test_what_reads_no_vectors_does_not_wait_for_those_that_do():
    names = ("fine-tune", "stack", "lr", "tfidf", "majority")
    assert sorted(names, key=fitting.turn) == ["tfidf", "majority", "stack", "lr", "fine-tune"]
