"""A store behind a URL: the same shards, a request a commit, and nothing lost where a request fails."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import UserError
from pipeline.store import Store, Writer, remote, text_keys
from pipeline.store import object_store as far_module
from pipeline.store.files import NotUploadedError
from pipeline.store.remote import OUTBOX, mirror, object_store, url_of
from pipeline.store.upkeep import describe, folders, holdings, prune, verify

ROOT = Path(__file__).parent.parent
LIMIT, DIM = 128, 8
TEXTS = [(f"text {row}",) for row in range(2000)]
KEYS = text_keys(TEXTS)


def vectors(rows: np.ndarray | list[int], dim: int = DIM) -> np.ndarray:
    """Vector of a row = [row, row + 1, …]."""
    return (np.asarray(rows)[:, None] + np.arange(dim)).astype(np.float32)


def fill(store: Store, rows: range, dim: int = DIM) -> None:
    """Commit `rows` as one shard."""
    at = np.array(rows)
    store.commit(KEYS[at], np.full(len(at), 5), vectors(at, dim), 1.0, LIMIT)


def holds(store: Store, rows: range, dim: int = DIM) -> bool:
    """Whether the store serves exactly what `fill` put there."""
    served = store.serve(KEYS[np.array(rows)], LIMIT)
    return bool(served.present.all()) and bool((served.vectors == vectors(np.array(rows), dim)).all())


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Local copies lie below the test's own folder, every listing is new, and nobody waits long for a retry."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "machine-1"))
    monkeypatch.setattr(remote, "LIST_SECONDS", 0.0)
    monkeypatch.setattr(remote, "LIST_SHARE", 1e9)
    monkeypatch.setattr(far_module, "PAUSE", 0.01)
    object_store.cache_clear()


def another_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """From here on, local copies are another machine's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / f"machine-{uuid.uuid4().hex[:6]}"))


# ── a real S3 endpoint ──────────────────────────────────────────────────────────────────────────────────────────────


class Endpoint:
    """moto's server with one bucket; counts the requests by method, and refuses some if asked."""

    def __init__(self) -> None:
        server = pytest.importorskip("moto.server", reason="moto is not installed: pip install '.[dev]'")
        pytest.importorskip("s3fs", reason="s3fs is not installed: pip install '.[s3]'")
        self.requests: Counter[str] = Counter()
        self.refuse: Counter[str] = Counter()  # method → how many requests of it are answered with 503
        self.server = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self.server.start()
        host, port = self.server.get_host_and_port()
        self.address = f"http://{host}:{port}"
        self._watch(self.server._server)

    def put(self, url: str, payload: bytes) -> None:
        """Make an object without asking for it over the network, which takes its time."""
        from moto.s3.models import s3_backends

        bucket, _, key = url.removeprefix("s3://").partition("/")
        s3_backends["123456789012"]["aws"].put_object(bucket, key, payload)

    def _watch(self, running: Any) -> None:
        """Put a counter in front of the application that the server runs."""
        application = running.app

        def counted(environ: dict[str, Any], respond: Any) -> Any:
            method = environ["REQUEST_METHOD"]
            if "list-type=2" in environ.get("QUERY_STRING", ""):
                method = "LIST"
            self.requests[method] += 1
            if self.refuse[method] > 0:
                self.refuse[method] -= 1
                length = int(environ.get("CONTENT_LENGTH") or 0)
                environ["wsgi.input"].read(length)
                respond("403 Forbidden" if method == "FORBIDDEN" else "503 Slow Down", [("Content-Length", "0")])
                return [b""]
            return application(environ, respond)

        running.app = counted


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    started = Endpoint()
    yield started
    started.server.stop()


@pytest.fixture
def bucket(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of an empty bucket, and the environment in which it is reached."""
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint.address,
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    s3fs = pytest.importorskip("s3fs")
    s3fs.S3FileSystem.clear_instance_cache()
    name = f"vectors-{uuid.uuid4().hex[:8]}"
    s3fs.S3FileSystem().mkdir(name)
    endpoint.requests.clear()
    endpoint.refuse.clear()
    yield f"s3://{name}/cache"
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(params=["memory", "file", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty cache behind a URL, of every kind that is tested."""
    if request.param == "s3":
        return str(request.getfixturevalue("bucket"))
    return f"memory://{uuid.uuid4().hex}/cache" if request.param == "memory" else f"file://{tmp_path}/shared/cache"


# ── the same store, wherever it is ──────────────────────────────────────────────────────────────────────────────────


def test_what_one_machine_writes_another_reads(url, tmp_path, monkeypatch):
    here = mirror(url)
    assert url_of(here) == url
    fill(Store(here / "enc"), range(300))
    fill(Store(here / "enc"), range(300, 400))
    (one, two) = sorted(object_store(url).names("enc"))
    another_machine(monkeypatch, tmp_path)
    there = mirror(url)
    assert there != here
    assert not list(there.rglob("*.safetensors"))
    store = Store(there / "enc")
    assert store.rows == 400
    assert holds(store, range(400))
    assert store.missing(KEYS, LIMIT).tolist() == list(range(400, 2000))
    for name in (one, two):  # the object is the shard, byte for byte
        payload = (here / "enc" / name).read_bytes()
        assert object_store(url).system.cat_file(f"{object_store(url).root}/enc/{name}") == payload
        assert name == hashlib.blake2b(payload, digest_size=16).hexdigest() + ".safetensors"


def test_a_draft_is_never_listed(url):
    home = mirror(url)
    object_store(url).write("enc/.draft-1", b"half a shard")
    object_store(url).write("enc/foreign.txt", b"not a shard")
    assert Store(home / "enc").rows == 0


def test_what_another_machine_adds_and_deletes_is_seen(url, tmp_path, monkeypatch):
    mine = Store(mirror(url) / "enc")
    fill(mine, range(10))
    another_machine(monkeypatch, tmp_path)
    other = Store(mirror(url) / "enc")
    fill(other, range(10, 20))
    assert mine.refresh() == 1
    assert holds(mine, range(20))
    (shard,) = [shard for shard in other.present_shards if other.serve(KEYS[:10], LIMIT).present.all()][:1]
    assert other.remove(shard)
    mine.refresh()
    assert mine.rows == 10
    assert shard.path.name not in object_store(url).names("enc")


def test_looking_after_it(url, tmp_path, monkeypatch):
    home = mirror(url)
    store = Store(home / "enc")
    describe(home / "enc", {"encoder": "tiny"})
    fill(store, range(100))
    fill(store, range(50, 150))
    another_machine(monkeypatch, tmp_path)
    home = mirror(url)
    (held,) = holdings(home)
    assert (held.about["encoder"], held.shards, held.rows, held.drafts) == ("tiny", 2, 200, 0)
    done = prune(home / "enc")
    assert (done.duplicates, done.replaced, done.written) == (50, 2, 1)
    assert len([name for name in object_store(url).names("enc") if name.endswith(".safetensors")]) == 1
    (folder,) = folders(home)
    assert folder == home / "enc"
    checked = verify(folder)
    assert (checked.shards, checked.rows, checked.damaged, checked.foreign, checked.drafts) == (1, 150, (), (), ())
    assert holds(Store(folder), range(150))


def test_a_damaged_copy_is_fetched_again_and_a_damaged_object_is_set_aside(url, tmp_path, monkeypatch):
    home = mirror(url)
    store = Store(home / "enc")
    fill(store, range(100))
    (name,) = store.files.names()
    copy = home / "enc" / name
    sound = copy.read_bytes()
    at = store.present_shards[0].offsets["vectors"] + 3 * 4 * DIM  # the vector of row 3
    torn = sound[:at] + bytes(4 * [255]) + sound[at + 4 :]
    copy.write_bytes(torn)
    assert holds(Store(home / "enc"), range(100))
    assert copy.read_bytes() == sound  # fetched again
    another_machine(monkeypatch, tmp_path)
    object_store(url).write(f"enc/{name}", torn)
    there = mirror(url)
    store = Store(there / "enc")
    served = store.serve(KEYS[:100], LIMIT)
    assert np.flatnonzero(~served.present).tolist() == [3]
    assert (served.vectors[served.present] == vectors(np.flatnonzero(served.present))).all()
    assert name not in object_store(url).names("enc")
    assert name in object_store(url).names("enc/quarantine")
    assert Store(there / "enc").rows == 0


def test_verify_reads_the_objects_and_not_the_copies(url):
    home = mirror(url)
    store = Store(home / "enc")
    fill(store, range(100))
    (name,) = store.files.names()
    payload = bytearray((home / "enc" / name).read_bytes())
    payload[store.present_shards[0].offsets["vectors"] + 4] ^= 1  # of the first row
    object_store(url).write(f"enc/{name}", bytes(payload))
    checked = verify(home / "enc")
    assert checked.damaged == (name,)
    assert checked.saved == 99
    assert Store(home / "enc").missing(KEYS[:100], LIMIT).tolist() == [0]


@pytest.mark.parametrize("kind", ["vectors", "columns"])
def test_an_object_whose_stored_checksum_differs_from_its_body_is_quarantined(
    bucket, endpoint, tmp_path, monkeypatch, kind
):
    """The client library itself refuses such a body, on every try; it is set aside there all the same."""
    from moto.s3.models import s3_backends

    fill(Store(mirror(bucket) / "enc"), range(100))
    (name,) = object_store(bucket).names("enc")
    stored = s3_backends["123456789012"]["aws"].get_object(bucket.split("/")[2], f"cache/enc/{name}")
    assert stored.checksum_value  # a PUT of today's client sends one along
    body = bytearray(stored.value)
    body[-200 if kind == "vectors" else 700] ^= 1
    stored.value = bytes(body)
    another_machine(monkeypatch, tmp_path)
    store = Store(mirror(bucket) / "enc")
    assert not store.serve(KEYS[:100], LIMIT).present.any()
    assert name not in object_store(bucket).names("enc")
    assert name in object_store(bucket).names("enc/quarantine")
    fill(store, range(100))
    assert holds(Store(mirror(bucket) / "enc"), range(100))


# ── only what is wanted is read ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("rows", [900, 2000])
def test_of_large_shards_only_the_keys_are_read_until_vectors_are_wanted(rows, tmp_path, monkeypatch):
    monkeypatch.setattr(remote, "SMALL", 1 << 10)
    monkeypatch.setattr(remote, "HEAD", 24_000)  # the larger shard's keys and checks do not fit
    monkeypatch.setattr(remote, "TAIL", 4_000)
    url = f"memory://{uuid.uuid4().hex}"
    fill(Store(mirror(url) / "enc"), range(rows), dim=100)
    another_machine(monkeypatch, tmp_path)
    asked = []
    read = object_store(url).read
    monkeypatch.setattr(object_store(url), "read", lambda ranges: asked.extend(ranges) or read(ranges))
    store = Store(mirror(url) / "enc")
    assert store.rows == rows
    assert sum(end - start for _, start, end in asked) < 90_000 < store.bytes
    (name,) = store.files.names()
    assert not (store.folder / name).exists()
    assert holds(store, range(rows), dim=100)
    before = len(asked)
    assert (store.folder / name).exists()
    assert not (store.folder / "columns" / name).exists()
    assert holds(Store(store.folder), range(rows), dim=100)
    assert len(asked) == before  # the local copy serves


@pytest.mark.parametrize(("shards", "others"), [(20, 1050), pytest.param(2300, 0, marks=pytest.mark.slow)])
def test_thousands_of_shards_are_listed_in_few_requests_and_read_once(bucket, endpoint, shards, others, monkeypatch):
    store, pages = Store(mirror(bucket) / "enc"), (shards + others) // 1000 + 1
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    for row in range(shards):
        payload, name = one_row(row)
        endpoint.put(f"{bucket}/enc/{name}", payload)
    for row in range(others):
        endpoint.put(f"{bucket}/enc/foreign-{row}.txt", b"not a shard")
    endpoint.requests.clear()
    assert store.refresh() == shards
    assert endpoint.requests == Counter(LIST=pages, GET=shards)  # a thousand a page; small ones take a request each
    endpoint.requests.clear()
    assert Store(mirror(bucket) / "enc").rows == shards
    assert endpoint.requests == Counter(LIST=pages)  # the rest lies here


def one_row(row: int) -> tuple[bytes, str]:
    """The bytes and the name of a shard of one row, whose key is a number."""
    from pipeline.store.shard import pack

    key = np.array([[row, row]], np.uint64)
    payload, shard = pack("enc", key, np.ones(1, np.uint32), vectors([row]), 1.0, LIMIT)
    return payload, shard.path.name


def test_a_listing_holds_for_a_while(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", f"/tmp/probe-or-tune-{uuid.uuid4().hex}")
    url = f"memory://{uuid.uuid4().hex}"
    store = Store(mirror(url) / "enc")
    asked = []
    names = object_store(url).names
    monkeypatch.setattr(object_store(url), "names", lambda folder: asked.append(folder) or names(folder))
    for _ in range(100):
        store.refresh()
    assert asked == []
    fill(store, range(10))
    assert holds(store, range(10))  # what was written here needs no listing


# ── requests that fail ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_failed_upload_is_tried_again(bucket, endpoint):
    store = Store(mirror(bucket) / "enc")
    endpoint.refuse["PUT"] = 2
    fill(store, range(100))
    assert endpoint.requests["PUT"] == 3
    assert len(object_store(bucket).names("enc")) == 1


def test_an_upload_that_keeps_failing_loses_nothing(bucket, endpoint):
    store = Store(mirror(bucket) / "enc")
    fill(store, range(50))
    endpoint.refuse["PUT"] = 10_000
    with Writer(store, LIMIT, rows=100) as writer:
        with pytest.raises(NotUploadedError, match=r"cannot write .*; 1 shards wait in .*outbox: the same command"):
            writer.add(KEYS[50:150], np.full(100, 5), vectors(range(50, 150)), 1.0)
        tried = endpoint.requests["PUT"]
        with pytest.raises(NotUploadedError, match="2 shards wait"):  # at once, without asking again
            writer.add(KEYS[150:250], np.full(100, 5), vectors(range(150, 250)), 1.0)
    assert endpoint.requests["PUT"] == tried
    assert holds(store, range(50))
    assert len(object_store(bucket).names("enc")) == 1
    with pytest.raises(UserError, match="check the network and the URL"):
        Store(store.folder)  # still out of reach, and still there
    endpoint.refuse.clear()
    again = Store(store.folder)
    assert again.missing(KEYS[:250], LIMIT).size == 0
    assert holds(again, range(250))
    assert len(object_store(bucket).names("enc")) == 3
    assert not list((store.folder / OUTBOX).iterdir())


def test_no_permission_is_said_at_once(monkeypatch):
    url = f"memory://{uuid.uuid4().hex}"
    home, asked = mirror(url), []

    def refused(*args: Any, **named: Any) -> None:
        asked.append(args)
        raise PermissionError("Access Denied")

    store = Store(home / "enc")
    monkeypatch.setattr(object_store(url).system, "pipe_file", refused)
    with pytest.raises(NotUploadedError, match=rf"{url}/enc/\w+.safetensors: cannot write \(Access Denied\); check"):
        fill(store, range(5))
    assert len(asked) == 1


def test_reading_and_listing_are_tried_again(bucket, endpoint, tmp_path, monkeypatch):
    fill(Store(mirror(bucket) / "enc"), range(100))
    another_machine(monkeypatch, tmp_path)
    endpoint.refuse["LIST"], endpoint.refuse["GET"] = 2, 2
    store = Store(mirror(bucket) / "enc")
    assert holds(store, range(100))


def test_an_endpoint_out_of_reach_is_one_line(bucket, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(far_module, "TRIES", 2)
    pytest.importorskip("s3fs").S3FileSystem.clear_instance_cache()
    with pytest.raises(UserError, match=rf"{bucket}/enc: cannot list \(.*\); check the network"):
        Store(mirror(bucket) / "enc")


@pytest.mark.parametrize("url", ["nonsense://bucket/x", "s4://bucket"])
def test_a_url_that_nothing_opens_is_one_line(url):
    with pytest.raises(UserError, match=f"--cache {url}: .*; pass s3://bucket/prefix or a folder"):
        Store(mirror(url) / "enc")


def test_without_s3fs_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "s3fs" else object())
    with pytest.raises(UserError, match=r"this needs s3fs: pip install 's3fs>="):
        Store(mirror("s3://bucket/cache") / "enc")


# ── many writers, and kills ─────────────────────────────────────────────────────────────────────────────────────────

WORKER = """
import os, sys, time
import numpy as np
sys.path.insert(0, {root!r})
from pipeline.store import Store, Writer, text_keys
from pipeline.store import remote
remote.LIST_SECONDS, remote.LIST_SHARE = 0.05, 1.0
from pipeline.store.sharing import blocks_of, share
texts = [(f"text {{row}}",) for row in range(2000)]
whole, encoded = text_keys(texts), 0
store = Store(remote.mirror(sys.argv[1]) / "enc")
print("ready", flush=True)
input()
with Writer(store, {limit}, rows=100, seconds=0.3) as writer:
    for some in share(writer, whole, blocks_of(np.arange(2000), 50)):
        time.sleep(0.002 * len(some))
        vectors = (some[:, None] + np.arange({dim})).astype(np.float32)
        writer.add(whole[some], np.full(len(some), 5), vectors, 0.001 * len(some))
        encoded += len(some)
print(encoded)
"""


def worker(url: str, machine: Path) -> subprocess.Popen[str]:
    code = WORKER.format(root=str(ROOT), limit=LIMIT, dim=DIM)
    environment = {**os.environ, "XDG_CACHE_HOME": str(machine)}
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", code, url]
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment)


def begin(*processes: subprocess.Popen[str]) -> None:
    """Let workers begin together, once all of them are ready."""
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()


def finished(process: subprocess.Popen[str]) -> int:
    out, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    return int(out)


def test_two_machines_share_the_work(bucket, tmp_path):
    workers = [worker(bucket, tmp_path / name) for name in ("a", "b")]
    begin(*workers)
    encoded = [finished(process) for process in workers]
    assert 2000 <= sum(encoded) < 4000  # each spared the other some, and tells only by what it has committed
    assert min(encoded) > 200
    assert holds(Store(mirror(bucket) / "enc"), range(2000))


def test_a_killed_writer_loses_at_most_its_open_shard(bucket, tmp_path):
    first = worker(bucket, tmp_path / "a")
    begin(first)
    while len(object_store(bucket).names("enc")) < 4:
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    rows = Store(mirror(bucket) / "enc").rows
    waiting = len(list((tmp_path / "a").rglob(f"{OUTBOX}/*.safetensors")))
    assert waiting <= 1  # killed between its disk and the upload
    second = worker(bucket, tmp_path / "b")
    begin(second)
    assert finished(second) == 2000 - rows
    assert holds(Store(mirror(bucket) / "enc"), range(2000))


# ── the whole of stage one ──────────────────────────────────────────────────────────────────────────────────────────


def run(*arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "cli.py", *arguments, "--json"], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.slow
def test_commands_take_a_url(bucket, tiny_bert, tmp_path, monkeypatch):
    (tmp_path / "mails.csv").write_text("text,label\n" + "".join(f"mail {i} is good,{i % 2}\n" for i in range(60)))
    options = ("--encoder", str(tiny_bert), "--precision", "fp32", "--cache", bucket)
    first = run("extract", str(tmp_path / "mails.csv"), *options)
    assert (first["encoded"], first["unique"]) == (60, 60)
    another_machine(monkeypatch, tmp_path)
    assert run("extract", str(tmp_path / "mails.csv"), *options)["encoded"] == 0
    (held,) = run("cache", "ls", "--cache", bucket)["folders"]
    assert held["rows"] == 60


def test_an_extraction_that_cannot_upload_keeps_every_vector(tiny_distilbert, tmp_path, monkeypatch):
    from pipeline import silent
    from pipeline.encoder import EncoderSpec, Runtime, locate
    from pipeline.extract import Extractor

    url = f"memory://{uuid.uuid4().hex}"
    home, wish = (
        mirror(url),
        EncoderSpec(str(tiny_distilbert), precision="fp32", engine="torch", pooling=("cls", "mean")),
    )
    put, fails = object_store(url).system.pipe_file, True

    def sometimes(path: str, payload: bytes, **named: Any) -> None:
        if fails and path.endswith(".safetensors"):
            raise OSError("connection reset")
        put(path, payload, **named)

    monkeypatch.setattr(object_store(url).system, "pipe_file", sometimes)

    def extracted() -> Any:
        extractor = Extractor(locate(wish), wish, Runtime(shard_rows=64), home, silent)
        return extractor.run([TEXTS[:200]], 200), extractor.embedding_cache

    with pytest.raises(NotUploadedError, match="connection reset"):
        extracted()
    waiting = {path.parent.parent.name: 0 for path in home.rglob(f"{OUTBOX}/*.safetensors")}
    assert len(waiting) == 2  # both poolings
    fails = False
    done, embedding_cache = extracted()
    assert done.encoded < 200  # what had been encoded was uploaded, and not encoded again
    assert embedding_cache.present(KEYS[:200]).all()
    assert not list(home.rglob(f"{OUTBOX}/*.safetensors"))
