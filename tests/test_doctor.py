"""What `doctor` says: measured speeds, a job's size, and what is in the way."""

import json
import re

import numpy as np
import pytest
from conftest import SENTENCES

import cli
from pipeline import UserError, doctor
from pipeline.data import SourceOptions
from pipeline.encoder import EncoderSpec, Hardware, Runtime, choose_backend
from pipeline.encoder.batches import pad

EFFORT = Runtime(device="cpu", threads=1)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(doctor, "SECONDS", 0.01)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def test_speeds_are_measured_and_the_choice_is_marked(tiny_distilbert, tmp_path):
    found = doctor.checkup(EncoderSpec(str(tiny_distilbert)), EFFORT, tmp_path)
    ran = {(row.engine, row.precision): row for row in found.speeds}
    for engine in ("torch", "openvino"):
        assert 100 < ran[engine, "fp32"].tokens_per_second < 1e8
        assert 0 < ran[engine, "fp32"].setup_seconds < 300
    backend = choose_backend(device="cpu")
    assert [(row.engine, row.precision) for row in found.speeds if row.chosen] == [(backend.engine, backend.precision)]
    assert ran["openvino", "int8"].tokens_per_second is None
    assert ran["openvino", "int8"].note
    assert found.trouble == ()
    assert "off" in found.machine["Hub"]
    assert re.search("slower than float32|multiplies 8-bit integers|cannot be seen", found.machine["int8"])


def test_a_speed_is_tokens_without_padding_over_seconds(monkeypatch):
    batches = [pad(np.arange(2), [np.ones(5), np.ones(3)]), pad(np.arange(1), [np.ones(2)])]  # 8 and 2 tokens

    class Clock:
        seconds = 100.0

        def perf_counter(self):
            return self.seconds

    class Steady:
        """4 tokens a second, and an hour for the first batch of all."""

        def encode(self, batch):
            clock.seconds += 3600

        def encode_many(self, several):
            for batch in several:
                clock.seconds += int(batch.mask.sum()) / 4
                yield batch, {}

    clock = Clock()
    monkeypatch.setattr(doctor, "time", clock)
    for seconds in (0.01, 3.0):
        monkeypatch.setattr(doctor, "SECONDS", seconds)
        assert doctor.tokens_per_second(Steady(), batches) == pytest.approx(4.0)


def test_a_job_is_counted(tiny_distilbert, tmp_path):
    data = tmp_path / "data.tsv"
    data.write_text("text\tlabel\n" + "".join(f"{text} {i}\t{i % 2}\n" for i, text in enumerate(SENTENCES * 3)))
    spec = EncoderSpec(str(tiny_distilbert))
    source = SourceOptions(str(data))
    found = doctor.checkup(spec, EFFORT, tmp_path / "cache", source)
    job = found.job
    (best,) = (row for row in found.speeds if row.chosen)
    assert job.seconds == pytest.approx(best.setup_seconds + job.tokens / best.tokens_per_second)
    assert job.rows == 3 * len(SENTENCES)
    assert job.cached_share == 0
    from pipeline import silent
    from pipeline.extract import extract_source

    done = extract_source(source, spec, EFFORT, tmp_path / "cache", silent).done
    assert job.tokens == done.tokens  # the whole source is the sample
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
