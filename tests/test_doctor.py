"""What `doctor` says: measured speeds, a job's size, and what is in the way."""

import json

import pytest
from conftest import SENTENCES

import cli
from pipeline import UserError, doctor
from pipeline.data import SourceOptions
from pipeline.encoder import EncoderSpec, Hardware, Runtime

EFFORT = Runtime(device="cpu", threads=1)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(doctor, "SECONDS", 0.01)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def test_speeds_are_measured_and_the_choice_is_marked(tiny_distilbert, tmp_path):
    found = doctor.checkup(EncoderSpec(str(tiny_distilbert)), EFFORT, tmp_path)
    ran = {(row.engine, row.precision): row for row in found.speeds}
    assert ran["torch", "fp32"].tokens_per_second > 0
    assert ran["openvino", "fp32"].tokens_per_second > 0
    assert sum(row.chosen for row in found.speeds) == 1
    assert ran["openvino", "int8"].tokens_per_second is None
    assert ran["openvino", "int8"].note
    assert found.trouble == ()
    assert "off" in found.machine["Hub"]


def test_a_job_is_counted(tiny_distilbert, tmp_path):
    data = tmp_path / "data.tsv"
    data.write_text("text\tlabel\n" + "".join(f"{text} {i}\t{i % 2}\n" for i, text in enumerate(SENTENCES * 3)))
    spec = EncoderSpec(str(tiny_distilbert))
    source = SourceOptions(str(data))
    job = doctor.checkup(spec, EFFORT, tmp_path / "cache", source).job
    assert job.rows == 3 * len(SENTENCES)
    assert job.cached_share == 0
    from pipeline import silent
    from pipeline.extract import extract_source

    done = extract_source(source, spec, EFFORT, tmp_path / "cache", silent).done
    assert job.tokens == done.tokens  # the whole source is the sample
    assert job.seconds > 0
    after = doctor.checkup(spec, EFFORT, tmp_path / "cache", source).job
    assert (after.cached_share, after.tokens, after.seconds, after.disk_mb) == (1, 0, 0, 0)


def test_an_encoder_that_cannot_be_had_is_no_end(tmp_path):
    found = doctor.checkup(EncoderSpec("nobody/nothing"), EFFORT, tmp_path)
    assert found.speeds == ()
    assert "minilm" in found.trouble[0]


def test_an_idle_gpu_is_named(monkeypatch):
    monkeypatch.setattr(doctor, "hardware", lambda: Hardware(2, False, (9, 0), False))
    monkeypatch.setattr(doctor, "torch_has_cuda", lambda: False)
    monkeypatch.setattr(doctor, "gpu_name", lambda: "a GPU")
    (line,) = doctor.gpu_trouble()
    assert line.startswith("a GPU is there")
    assert "pip install torch" in line


def test_a_missing_source_is_an_error(tiny_distilbert, tmp_path):
    with pytest.raises(UserError, match="no such file"):
        doctor.checkup(EncoderSpec(str(tiny_distilbert)), EFFORT, tmp_path, SourceOptions("nothing.csv"))


def test_the_command_prints_both_ways(tiny_distilbert, tmp_path, capsys):
    asked = ["doctor", "--encoder", str(tiny_distilbert), "--device", "cpu", "--cache", str(tmp_path)]
    assert cli.main(asked) == 0
    shown = capsys.readouterr().out
    assert "tokens/s" in shown
    assert "what auto takes" in shown
    assert cli.main([*asked, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["speeds"][0]["engine"] == "torch"
