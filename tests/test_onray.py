"""Stage one on Ray: the same vectors as on one machine, whoever is killed in the middle."""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas
import pytest

import cli
from pipeline import UserError, silent
from pipeline.data import SourceOptions
from pipeline.encoder import EncoderSpec, Runtime
from pipeline.extract import extract_source
from pipeline.extract.anywhere import EncodingOptions, extract_on
from pipeline.extract.onray import Cluster, Job, Worker, connected, extract_on_ray, resources, size, user_error
from pipeline.store import Store, text_keys

ROOT = Path(__file__).parent.parent
WORDS = ["the", "film", "was", "boring", "happy", "call", "now", "free", "prize", "people", "want"]
HAS_RAY = importlib.util.find_spec("ray") is not None
needs_ray = pytest.mark.skipif(not HAS_RAY, reason="ray is not installed: pip install '.[ray]'")


def texts(count: int) -> list[str]:
    random = np.random.default_rng(0)
    return [" ".join(random.choice(WORDS, random.integers(1, 30))) + f" {i}" for i in range(count)]


@pytest.fixture(scope="module")
def mails(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two small Parquet files, 3,000 texts in all."""
    home = tmp_path_factory.mktemp("mails")
    for number, some in enumerate(np.array_split(texts(3000), 2)):
        pandas.DataFrame({"body": some, "label": 0}).to_parquet(home / f"train-{number}.parquet")
    return home


def source(folder: Path, **more: Any) -> SourceOptions:
    return SourceOptions(str(folder), text=("body",), **more)


def spec(encoder: Path, **more: Any) -> EncoderSpec:
    return EncoderSpec(str(encoder), precision="fp32", engine="torch", **more)


# ── without a cluster ───────────────────────────────────────────────────────────────────────────────────────────────


def table(some: list[str]) -> Any:
    import pyarrow

    return pyarrow.table({"body": some})


def test_a_worker_does_what_the_local_runner_does(mails, tiny_bert, tmp_path):
    wish, runtime = spec(tiny_bert), Runtime(device="cpu", threads=1, shard_rows=64)
    done = extract_source(source(mails), wish, runtime, tmp_path / "local", silent)
    job = Job(str(mails), ("body",), False, wish, runtime, done.checkpoint.digest, str(tmp_path / "ray"))
    worker = Worker(job)
    rows = texts(3000)
    first, second, again = (worker(table(some)) for some in (rows[:1500], rows[1500:], rows[:10]))
    assert (first["encoded"], second["encoded"], again["encoded"]) == ([1500], [1500], [0])
    assert first["worker"] == second["worker"]
    assert first["setup_seconds"][0] > 0
    assert second["setup_seconds"] == [0]  # the encoder stays open
    (name,) = (store.folder.name for store in done.embedding_cache.stores.values())
    whole = text_keys([(text,) for text in rows])
    one, other = (Store(tmp_path / home / name).serve(whole, 512) for home in ("local", "ray"))
    assert other.present.all()
    np.testing.assert_allclose(one.vectors, other.vectors, atol=1e-5)


def test_a_worker_leaves_out_what_it_is_asked_to_and_takes_nothing(tiny_bert, tmp_path):
    wish = spec(tiny_bert)
    from pipeline.encoder import locate

    job = Job("mails", ("body",), True, wish, Runtime(threads=1), locate(wish).digest, str(tmp_path))
    worker = Worker(job)
    assert worker(table([" ", ""]))["rows"] == [0]
    assert worker(table(["happy", " ", "happy"]))["rows"] == [2]


def test_another_encoder_of_the_same_name_is_refused(tiny_bert, tmp_path):
    job = Job("mails", ("body",), False, spec(tiny_bert), Runtime(), "00" * 16, str(tmp_path))
    (error,) = Worker(job)(table(["happy"]))["error"]  # raised, it would lose its words on its way through Ray
    assert "tiny-bert is not the same on every machine" in error


class FakeRay:
    """A cluster of so many processors and GPUs."""

    def __init__(self, **resources: float) -> None:
        self.resources = resources

    def cluster_resources(self) -> dict[str, float]:
        return self.resources


@pytest.mark.parametrize(
    ("there", "cluster", "runtime", "expected"),
    [
        ({"CPU": 2.0}, Cluster(), Runtime(), (2, "cpu", 1)),
        ({"CPU": 16.0}, Cluster(), Runtime(threads=4), (4, "cpu", 4)),
        ({"CPU": 2.0}, Cluster(), Runtime(threads=2), (1, "cpu", 2)),
        ({"CPU": 4.0}, Cluster(), Runtime(threads=2), (2, "cpu", 2)),
        ({"CPU": 16.0, "GPU": 2.0}, Cluster(), Runtime(), (2, "cuda", None)),
        ({"CPU": 16.0, "GPU": 2.0}, Cluster(workers=5), Runtime(device="cpu", threads=2), (5, "cpu", 2)),
    ],
)
def test_workers_fill_the_cluster(there, cluster, runtime, expected):
    workers, each = size(FakeRay(**there), cluster, runtime)
    assert (workers, each.device, each.threads) == expected


def test_an_actor_leaves_half_of_its_processors_to_reading():
    assert resources(Runtime(device="cpu", threads=4)) == {"num_cpus": 2.0}
    assert resources(Runtime(device="cuda")) == {"num_gpus": 1, "num_cpus": 0.5}


@pytest.mark.parametrize(
    ("there", "cluster", "runtime"),
    [
        ({"CPU": 2.0}, Cluster(workers=3), Runtime()),
        ({"CPU": 2.0}, Cluster(workers=2), Runtime(threads=2)),
        ({"CPU": 2.0}, Cluster(), Runtime(threads=4)),
        ({"CPU": 1.0}, Cluster(), Runtime()),
        ({"CPU": 4.0, "GPU": 1.0}, Cluster(workers=7), Runtime()),
    ],
)
def test_workers_that_leave_nothing_for_reading_are_refused(there, cluster, runtime):
    with pytest.raises(UserError, match="reading for one"):
        size(FakeRay(**there), cluster, runtime)


def test_no_gpu_is_one_line():
    with pytest.raises(UserError, match="--device cuda: no GPU in the cluster"):
        size(FakeRay(CPU=2.0), Cluster(), Runtime(device="cuda"))


def test_what_an_actor_raises_is_found_in_what_ray_makes_of_it():
    inner = RuntimeError("task failed")
    inner.__cause__ = UserError("mails: no text")
    outer = RuntimeError("job failed")
    outer.__cause__ = inner
    assert str(user_error(outer)) == "mails: no text"
    assert user_error(ValueError()) is None


def clustered(mails, cache) -> EncodingOptions:
    return EncodingOptions(source(mails), cache=cache, cluster=Cluster())


def test_without_ray_it_says_how_to_get_it(mails, tiny_bert, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ray" else find(name))
    with pytest.raises(UserError, match=r"this needs ray: pip install 'ray\[data\]>="):
        extract_on(clustered(mails, tmp_path), spec(tiny_bert), silent)


def test_recalibrating_is_for_one_machine(mails, tiny_bert, tmp_path):
    with pytest.raises(UserError, match="do it first, without --runner ray"):
        extract_on(replace(clustered(mails, tmp_path), recalibrate=True), spec(tiny_bert), silent)


def test_an_address_without_ray_is_wrong_usage(mails):
    with pytest.raises(click.UsageError, match="--address and --workers are for --runner ray"):
        cli.cli(["extract", str(mails), "--address", "auto"], standalone_mode=False)


# ── with one ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A cluster on this machine that several tests use: two processors, whatever there are."""
    pytest.importorskip("ray", reason="ray is not installed: pip install '.[ray]'")
    with connected(Cluster()):
        yield Cluster(workers=2)


@needs_ray
@pytest.mark.slow
def test_a_cluster_makes_the_same_vectors_and_a_rerun_encodes_nothing(cluster, mails, tiny_bert, tmp_path):
    wish, runtime, seen = spec(tiny_bert, pooling=("cls", "mean")), Runtime(), []
    done = extract_on_ray(
        source(mails), wish, runtime, tmp_path / "ray", cluster, lambda stage, rows, total: seen.append((rows, total))
    )
    told = done.to_json()
    assert (told["rows"], told["unique"], told["encoded"], told["precision"]) == (3000, 3000, 3000, "fp32")
    assert seen[-1] == (3000, 3000)
    assert len(seen) >= 2  # two workers have shared the work of what would have been two blocks
    alone = extract_source(source(mails), wish, runtime, tmp_path / "local", silent).to_json()
    assert told["vectors_digest"] == alone["vectors_digest"]
    whole = text_keys([(text,) for text in texts(3000)])
    for one, other in zip(told["folders"], alone["folders"], strict=True):
        np.testing.assert_allclose(
            Store(one).serve(whole, 512).vectors, Store(other).serve(whole, 512).vectors, atol=1e-5
        )
    again = extract_on_ray(source(mails), wish, runtime, tmp_path / "ray", cluster).to_json()
    assert (again["encoded"], again["from_cache"]) == (0, 3000)


@needs_ray
@pytest.mark.slow
def test_what_cannot_be_read_is_one_line(cluster, mails, tiny_bert, tmp_path):
    (tmp_path / "mails.csv").write_text("body\nhappy\n")
    for wish, says in (
        (source(tmp_path / "mails.csv"), "--runner ray reads Parquet"),
        (source(mails, rows="first:10"), "leave out --limit and --rows"),
        (SourceOptions(str(mails), text=("nonsense",)), "no 'nonsense' among"),
    ):
        with pytest.raises(UserError, match=says):
            extract_on_ray(wish, spec(tiny_bert), Runtime(), tmp_path / "cache", cluster)


@needs_ray
@pytest.mark.slow
def test_what_an_actor_raises_reaches_the_user(cluster, mails, tiny_bert, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(UserError, match=r"cannot (read|write) .*choose another --cache"):
        extract_on_ray(source(mails), spec(tiny_bert), Runtime(), tmp_path / "cache", cluster)


KILLED = """
import sys
sys.path[:0] = [{root!r}, {tests!r}]
import test_onray
from pathlib import Path
done = test_onray.extract_on_ray(
    test_onray.source(Path({mails!r})), test_onray.spec(Path({encoder!r})),
    test_onray.Runtime(shard_rows=128, token_budget=512), Path({cache!r}), test_onray.Cluster(workers=2)
)
print(test_onray.json.dumps(done.to_json()))
"""


@needs_ray
@pytest.mark.slow
@pytest.mark.parametrize("victim", ["actor", "driver"])
def test_whoever_is_killed_loses_nothing_that_was_committed(victim, mails, tiny_bert, tmp_path):
    import psutil

    cache = tmp_path / "cache"
    code = KILLED.format(
        root=str(ROOT), tests=str(ROOT / "tests"), mails=str(mails), encoder=str(tiny_bert), cache=str(cache)
    )
    command = [sys.executable, "-c", code]
    driver = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    while not list(cache.glob("*/*.safetensors")):
        assert driver.poll() is None, driver.communicate()[1]
        time.sleep(0.02)
    actors = [
        process
        for process in psutil.Process(driver.pid).children(recursive=True)
        if any("MapWorker" in word for word in process.cmdline())
    ]
    assert actors
    if victim == "driver":
        driver.send_signal(signal.SIGKILL)
        driver.communicate()
        _, alive = psutil.wait_procs(actors, timeout=120)  # they notice after some seconds, and work until then
        assert all(process.status() == psutil.STATUS_ZOMBIE for process in alive)
    else:
        actors[0].kill()
        assert json.loads(driver.communicate(timeout=600)[0])["rows"] == 3000
    committed = {file.name for file in cache.glob("*/*.safetensors")}
    (folder,) = {file.parent for file in cache.glob("*/*.safetensors")}
    before = Store(folder).rows
    last = json.loads(subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout)
    assert last["encoded"] == 3000 - before if victim == "driver" else last["encoded"] == 0
    assert committed <= {file.name for file in cache.glob("*/*.safetensors")}
    store = Store(folder)
    assert store.serve(text_keys([(text,) for text in texts(3000)]), 512).present.all()
    assert store.rows == 3000  # nothing stands twice
