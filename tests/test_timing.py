"""What a text costs is measured alike for every contender: the same texts, the path that serves."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from pipeline import UserError, vectors
from pipeline.data import SourceOptions, read
from pipeline.encoder import Runtime
from pipeline.encoder.checkpoint import EncoderSpec
from pipeline.run import timing
from pipeline.task import Task

CPU = Runtime(device="cpu", threads=1)


def split(*texts: str) -> SimpleNamespace:
    return SimpleNamespace(texts=[(text,) for text in texts])


def test_the_same_texts_however_the_rows_are_split():
    one = SimpleNamespace(roles={"train": "a", "test": "b"}, train=split("x", "y", "x"), test=split("z"))
    other = SimpleNamespace(roles={"train": "a", "test": "b"}, train=split("z"), test=split("x", "y"))
    assert timing.timing_sample(one) == timing.timing_sample(other)
    assert sorted(timing.timing_sample(one)) == [("x",), ("y",), ("z",)]


class Machine:
    """One on which a call takes `call` and each of its texts `each` seconds."""

    def __init__(self, call: float, each: float) -> None:
        self.call, self.each, self.now, self.sizes = call, each, 0.0, list[int]()

    def perf_counter(self) -> float:
        return self.now

    def answer(self, texts: list[tuple[str, ...]]) -> None:
        self.now += self.call + self.each * len(texts)
        self.sizes.append(len(texts))


@pytest.mark.parametrize(
    ("call", "each", "largest"),
    [(0.004, 0.004, 64), (0.0, 1e-5, 1000), (0.0, 0.3, 16)],  # of a thousand texts: as many as fill a quarter second
)
def test_as_many_texts_together_as_can_be_measured(call, each, largest, monkeypatch):
    machine = Machine(call, each)
    monkeypatch.setattr(timing, "time", machine)
    together, alone = timing.milliseconds(machine.answer, [(str(i),) for i in range(1000)])
    assert max(machine.sizes) == largest
    assert together == pytest.approx(1e3 * (each + call / largest))
    assert alone == pytest.approx(1e3 * (each + call))


def test_no_texts_cost_nothing_known():
    assert timing.milliseconds(len, []) == (None, None)


@pytest.fixture
def task(tiny_distilbert, tmp_path):
    rows = "".join(f"mail {'good' if i % 2 else 'bad'} {i},{'ab'[i % 2]}\n" for i in range(60))
    (tmp_path / "mails.csv").write_text("text,label\n" + rows)
    spec = EncoderSpec(str(tiny_distilbert))
    data = read(SourceOptions(str(tmp_path / "mails.csv")))
    return Task(data, (spec,), CPU, cache=tmp_path / "cache", runs=tmp_path / "runs")


def test_encoding_is_timed_once_for_each_pooling_by_what_serves(task, monkeypatch):
    opened = []

    class Vectorizer(vectors.Vectorizer):
        def __init__(self, checkpoint, spec, runtime, cache):
            opened.append(spec.pooling)
            super().__init__(checkpoint, spec, runtime, cache)

    monkeypatch.setattr(vectors, "Vectorizer", Vectorizer)
    made = [vectors.TaskVectors(task, task.encoders[0]) for _ in range(2)]
    first = made[0].facts("cls")
    assert first.ms_per_text_batch > 0
    assert first.ms_per_text_single > 0
    assert made[1].facts("cls") == first  # by another object, from disk
    assert opened == [("cls",)]
    spec = EncoderSpec(str(task.encoders[0].name), pooling=("cls",))
    np.testing.assert_allclose(
        vectors.Vectorizer(made[0].checkpoint, spec, CPU, task.cache).vectors(task.dataset.train.texts[:5]),
        made[0].matrix("train", "cls")[:5],
        atol=1e-5,
    )


def test_what_cannot_be_made_here_is_not_known(task, monkeypatch):
    made = vectors.TaskVectors(task, task.encoders[0])
    assert made.embedded.seconds() > 0  # encoded elsewhere

    def missing(*_):
        raise UserError("no GPU here")

    monkeypatch.setattr(vectors, "Vectorizer", missing)
    facts = made.facts("cls")
    assert (facts.ms_per_text_batch, facts.ms_per_text_single) == (None, None)
    assert facts.extract_seconds > 0


def test_no_torch_is_loaded_to_time_what_is_there(task, monkeypatch):
    made = vectors.TaskVectors(task, replace(task.encoders[0], engine="torch", precision="fp32"))
    spent = made.embedded.seconds()
    monkeypatch.setattr(vectors, "sys", SimpleNamespace(modules={}))
    facts = made.facts("cls")
    assert facts.ms_per_text_batch == pytest.approx(1000 * spent / 60)  # what encoding 60 texts took
    assert facts.ms_per_text_single is None


def test_a_cache_that_takes_no_files_costs_no_fit(task, monkeypatch):
    made = vectors.TaskVectors(task, task.encoders[0])
    embedding_cache = made.embedded.extracted.embedding_cache

    def refused(path, payload):
        raise PermissionError(13, "read-only")

    monkeypatch.setattr("pipeline.extract.embedding_cache.publish", refused)
    assert made.facts("cls").ms_per_text_batch > 0
    with pytest.raises(UserError, match="cannot write"):
        embedding_cache.keep_timing("anything", (1.0, 2.0))
