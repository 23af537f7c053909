"""Data sets of the Hub: asked once, cached for ever, and a way out where neither helps."""

import hashlib
import http.server
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import UserError, hub
from pipeline.data import Dataset, SourceOptions, read
from pipeline.data import hub as data_hub

ROOT = Path(__file__).parent.parent
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def load(source: str) -> Dataset:
    return read(SourceOptions(source))


def refused(source: str) -> str:
    with pytest.raises(UserError) as caught:
        load(source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def as_csv(count: int, start: int = 0) -> str:
    return "text,label\n" + "".join(f"t{i},{i % 2}\n" for i in range(start, start + count))


def write_parquet(path: Path, **columns) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


@pytest.fixture(autouse=True)
def _forget():
    """A process asks for a name once; every test is a process of its own here."""
    data_hub._snapshot_in.cache_clear()


CARD = """---
dataset_info:
- config_name: split
  features:
  - name: text
    dtype: string
  - name: label
    dtype:
      class_label:
        names:
          '0': sadness
          '1': joy
configs:
- config_name: split
  data_files:
  - split: train
    path: split/train-*
  - split: test
    path: split/test-*
  default: true
- config_name: other
  data_files:
  - split: train
    path: other/train.jsonl
---
# A data set
"""


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """A made-up cache, laid out as huggingface_hub does: blobs, snapshots that link to them, refs."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))

    def add(repo: str, files: dict[str, Path | str], ref: str | None = "main") -> Path:
        home = tmp_path / "hub" / f"datasets--{repo.replace('/', '--')}"
        for number, (name, content) in enumerate(files.items()):
            blob = home / "blobs" / f"blob{number}"
            blob.parent.mkdir(parents=True, exist_ok=True)
            blob.write_bytes(content.read_bytes() if isinstance(content, Path) else content.encode())
            link = home / "snapshots" / COMMIT / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(blob)
        if ref:
            (home / "refs").mkdir(exist_ok=True)
            (home / "refs" / ref).write_text(COMMIT)
        return home / "snapshots" / COMMIT

    return add


def numbered(count: int, start: int = 0) -> dict[str, list]:
    return {"text": [f"t{i}" for i in range(start, start + count)], "label": [i % 2 for i in range(count)]}


@pytest.fixture
def cached_emotion(tmp_path, hub_cache):
    hub_cache(
        "someone/emotion",
        {
            "README.md": CARD,
            "split/train-00000-of-00001.parquet": write_parquet(tmp_path / "a.parquet", **numbered(40)),
            "split/test-00000-of-00001.parquet": write_parquet(tmp_path / "b.parquet", **numbered(10, 40)),
        },
    )


def test_a_cached_data_set_works_at_once_offline(cached_emotion):
    start = time.perf_counter()
    dataset = load("someone/emotion")
    assert time.perf_counter() - start < 2
    assert dataset.name == "emotion"
    assert dataset.class_names == ("sadness", "joy")
    assert dataset.roles == {"train": "train", "validation": "validation", "test": "test"}
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (36, 4, 10)
    assert load("someone/emotion:split").name == "emotion-split"


def test_a_hub_that_does_not_answer_is_replaced_by_the_cache(cached_emotion, monkeypatch):
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)

    def unreachable(repo):
        raise hub.UnreachableError("ConnectError")

    monkeypatch.setattr(data_hub, "_ask", unreachable)
    assert load("someone/emotion").class_names == ("sadness", "joy")


def test_a_configuration_that_is_not_there_is_answered_with_the_list(cached_emotion):
    assert "no configuration 'nosuch'; pass someone/emotion:NAME, one of split, other" in refused(
        "someone/emotion:nosuch"
    )
    assert "the cached copy lacks split 'train'" in refused("someone/emotion:other")


def test_a_data_set_without_a_card_is_read_by_its_file_names(hub_cache):
    plain = as_csv(20)
    hub_cache("someone/plain", {"data/train.csv": plain, "data/dev.csv": plain, "test/part.csv": plain}, ref=None)
    dataset = load("someone/plain")
    assert dataset.roles == {"train": "train", "validation": "dev", "test": "test"}


def test_a_data_set_that_is_only_a_script_says_how_to_get_its_parquet_files(hub_cache):
    hub_cache("someone/script", {"script.py": "print()", "README.md": "# no head"})
    assert "refs/convert/parquet" in refused("someone/script")


def test_offline_and_not_cached_names_the_ways_out(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    for source in ("someone/nosuch", "someone/nosuch:config", "nosuch"):
        message = refused(source)
        assert "pass a local folder with train.csv and test.csv, or the bundled sms-spam" in message
        assert "HF_HUB_OFFLINE is set" in message


def test_a_hub_out_of_reach_fails_in_less_than_5_seconds(tmp_path):
    """A server that takes the connection and never answers: what a broken proxy does."""
    code = f"""
import os, socket, sys, time
os.environ["HF_HUB_CACHE"] = {str(tmp_path)!r}
for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
    os.environ.pop(name, None)
silent = socket.create_server(("127.0.0.1", 0))
os.environ["HF_ENDPOINT"] = f"http://127.0.0.1:{{silent.getsockname()[1]}}"
from pipeline import UserError
from pipeline.data import SourceOptions, read
start = time.perf_counter()
try:
    read(SourceOptions("someone/nosuch"))
except UserError as error:
    print(error)
print(time.perf_counter() - start)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    message, seconds = done.stdout.splitlines()
    assert "the Hub cannot be reached" in message
    assert "the bundled sms-spam" in message
    assert float(seconds) < 5


def test_only_the_files_of_the_configuration_are_fetched():
    listing = ["README.md", "split/train-0.parquet", "split/deep/train-1.parquet", "other/train-0.parquet", "x.py"]
    assert data_hub._needed(listing, {"train": ["split/train-*"]}, "") == ["split/train-0.parquet", "README.md"]
    assert data_hub._needed(listing, {"train": ["split/**"]}, "") == [*listing[1:3], "README.md"]
    assert data_hub._needed(listing, {}, "other") == ["other/train-0.parquet", "README.md"]


# ── a Hub that answers ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def online(tmp_path, monkeypatch):
    """A server that speaks as much of the Hub's language as fetching a data set takes; a list of what it was asked."""
    files = {"README.md": CARD.encode(), "other/train.jsonl": b"", "loader.py": b"raise SystemExit"}
    files |= {f"split/{name}-0.csv": as_csv(count, start).encode() for name, count, start in SETS}
    asked: list[str] = []

    class Hub(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(f"{self.command} {self.path.partition('?')[0]}")
            kind, body = _answer(self.path.partition("?")[0], files)
            self.send_response(200 if kind else 404)
            for name, value in {"X-Repo-Commit": COMMIT, "X-Error-Code": "RepoNotFound", **(kind or {})}.items():
                if kind is None or name != "X-Error-Code":
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    yield asked
    server.shutdown()
    server.server_close()


SETS = (("train", 40, 0), ("test", 10, 100))


def _answer(path: str, files: dict[str, bytes]) -> tuple[dict[str, str] | None, bytes]:
    """Headers and body of the answer; no headers: there is no such thing."""
    if path.startswith("/api/datasets/someone/emotion/tree/"):
        listing = [
            {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
            for name, content in files.items()
        ]
        return {"Content-Type": "application/json"}, json.dumps(listing).encode()
    if path.startswith("/api/datasets/someone/emotion"):
        info = {"id": "someone/emotion", "sha": COMMIT, "siblings": [{"rfilename": name} for name in files]}
        return {"Content-Type": "application/json"}, json.dumps(info).encode()
    name = path.removeprefix(f"/datasets/someone/emotion/resolve/{COMMIT}/")
    if name in files:
        return {"ETag": f'"{hashlib.sha1(files[name]).hexdigest()}"'}, files[name]
    return None, b"{}"


def test_a_data_set_is_fetched_once_and_then_read_without_the_hub(tmp_path, online, monkeypatch):
    first = load("someone/emotion")
    assert first.class_names == ("sadness", "joy")
    assert (len(first.train), len(first.validation), len(first.test)) == (36, 4, 10)
    fetched = {line.rpartition("/")[2] for line in online if line.startswith("GET /datasets/")}
    assert fetched == {"README.md", "train-0.csv", "test-0.csv"}  # not the other configuration, and never a script
    data_hub._snapshot_in.cache_clear()
    online.clear()
    assert load("someone/emotion").digest == first.digest
    assert [line for line in online if "/emotion" in line] == ["GET /api/datasets/someone/emotion"]
    data_hub._snapshot_in.cache_clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert load("someone/emotion").digest == first.digest


def test_a_name_that_the_hub_does_not_know(online):
    message = refused("someone/nosuch")
    assert "someone/nosuch: no such file, and the Hub knows no such data set" in message
