"""Data sets of the Hub: asked once, cached for ever, read by `datasets`, and a way out where nothing helps."""

import gzip
import hashlib
import http.server
import json
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import UserError, hub
from pipeline.data import Dataset, SourceOptions, hub_snapshot, read, read_chunks
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


def as_jsonl(rows: list[dict]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def write_parquet(path: Path, metadata: dict | None = None, group: int | None = None, **columns) -> Path:
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), path, row_group_size=group)
    return path


def labelled(*names: str) -> dict[str, str]:
    """What `datasets` writes into a parquet file whose labels have names."""
    features = {
        "text": {"dtype": "large_string", "_type": "Value"},
        "label": {"names": list(names), "_type": "ClassLabel"},
    }
    return {"huggingface": json.dumps({"info": {"features": features}})}


def by_row(parts) -> dict[str, tuple[str, ...]]:
    """Row id → text, over splits or chunks."""
    return {row: text for part in parts for row, text in zip(part.row_ids.tolist(), part.texts, strict=True)}


def chunks(source: str, rows: int = 65536, split: str | None = None, **options) -> list:
    return list(read_chunks(SourceOptions(source, **options), split=split, rows=rows))


@pytest.fixture(autouse=True)
def _forget():
    """A process asks for a name once; every test is a process of its own here."""
    hub_snapshot._snapshot_in.cache_clear()


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

    def add(repo: str, files: dict[str, Path | str | bytes], ref: str | None = "main") -> Path:
        home = tmp_path / "hub" / f"datasets--{repo.replace('/', '--')}"
        for number, (name, content) in enumerate(files.items()):
            blob = home / "blobs" / f"blob{number}"
            blob.parent.mkdir(parents=True, exist_ok=True)
            raw = content.encode() if isinstance(content, str) else content
            blob.write_bytes(raw.read_bytes() if isinstance(raw, Path) else raw)
            link = home / "snapshots" / COMMIT / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(blob)
        if ref:
            (home / "refs").mkdir(exist_ok=True)
            (home / "refs" / ref).write_text(COMMIT)
        return home / "snapshots" / COMMIT

    return add


@pytest.fixture(scope="module", autouse=True)
def _imported():
    """Seconds, once; no test is to pay for it."""
    import datasets  # noqa: F401


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


def test_a_cached_data_set_works_offline_and_asks_nobody(cached_emotion, monkeypatch):
    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, lambda *address: pytest.fail(f"asks {address}"))
    dataset = load("someone/emotion")
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

    monkeypatch.setattr(hub_snapshot, "_ask", unreachable)
    assert load("someone/emotion").class_names == ("sadness", "joy")


def test_a_configuration_that_is_not_there_is_answered_with_the_list(cached_emotion):
    assert "no configuration 'nosuch'; pass someone/emotion:NAME, one of split, other" in refused(
        "someone/emotion:nosuch"
    )
    message = refused("someone/emotion:other")
    assert "the cached copy cannot be read (Unable to find 'other/train.jsonl'" in message
    assert message.endswith("run again where the Hub can be reached")


def test_a_data_set_without_a_card_is_read_by_its_file_names(hub_cache):
    files = {"data/train.csv": as_csv(20), "data/dev.csv": as_csv(6, 20), "data/test.csv": as_csv(8, 30)}
    hub_cache("someone/plain", files, ref=None)
    dataset = load("someone/plain")
    assert dataset.roles == {"train": "train", "validation": "validation", "test": "test"}
    assert dataset.train.texts == [(f"t{i}",) for i in range(20)]
    assert dataset.validation.row_ids.tolist() == [f"validation:{i}" for i in range(6)]


def test_without_a_card_a_configuration_is_a_folder(hub_cache):
    hub_cache("someone/folders", {"de/train.csv": as_csv(20), "fr/train.csv": as_csv(30), "fr/x.txt": "no rows"})
    assert len(load("someone/folders:fr").train) == 24
    assert "no configuration 'it', and no folder of that name" in refused("someone/folders:it")


def test_a_script_is_refused_with_the_way_to_its_parquet_files(hub_cache):
    hub_cache("someone/script", {"script.py": "raise SystemExit", "train.csv": as_csv(20)})
    message = refused("someone/script")
    assert "made by a script (script.py), and none is ever run" in message
    assert "hf download someone/script --repo-type dataset --revision refs/convert/parquet" in message


def test_nothing_to_read_names_the_formats(hub_cache):
    hub_cache("someone/pictures", {"1.png": "", "README.md": "# no head"})
    assert "no files in a format read here: .parquet, " in refused("someone/pictures")


def test_offline_and_not_cached_names_the_ways_out(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    for source in ("someone/nosuch", "someone/nosuch:config", "nosuch"):
        message = refused(source)
        assert "pass a local folder with train.csv and test.csv, or the bundled sms-spam" in message
        assert "HF_HUB_OFFLINE is set" in message


def test_a_hub_out_of_reach_is_asked_once(tmp_path):
    """A server that takes the connection and never answers: what a broken proxy does."""
    code = f"""
import os, socket
os.environ["HF_HUB_CACHE"] = {str(tmp_path)!r}
for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
    os.environ.pop(name, None)
silent = socket.create_server(("127.0.0.1", 0))
os.environ["HF_ENDPOINT"] = f"http://127.0.0.1:{{silent.getsockname()[1]}}"
from pipeline import UserError
from pipeline.data import SourceOptions, read
try:
    read(SourceOptions("someone/nosuch"))
except UserError as error:
    print(error)
silent.setblocking(False)
requests = 0
try:
    while silent.accept():
        requests += 1
except BlockingIOError:
    print(requests)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    message, requests = done.stdout.splitlines()
    assert "the Hub cannot be reached" in message
    assert "the bundled sms-spam" in message
    assert "within 4 s" in message or "Timeout" in message
    assert requests == "1"


# ── configurations, splits and files, as the card says ──────────────────────────────────────────────────────────────


def card(*configs: str, head: str = "") -> str:
    return "---\n" + head + "configs:\n" + "".join(f"- {config}\n" for config in configs) + "---\n# A data set\n"


ONE = "{config_name: one, data_files: [{split: train, path: one/*.csv}]}"
TWO = "{config_name: two, data_dir: two}"


def test_only_the_files_of_the_configuration_are_fetched(tmp_path):
    def needed(source: str, text: str, *listing: str) -> dict[str, list[str]]:
        (tmp_path / "README.md").write_text(text)
        return data_hub._plan(source, tmp_path, listing, cached=False)[1]

    listing = ["README.md", "split/train-0.parquet", "split/deep/train-1.parquet", "split/test-0.parquet", "x.py"]
    assert needed("someone/emotion:split", CARD, *listing, "other/train.jsonl") == {
        "train": ["split/train-0.parquet"],
        "test": ["split/test-0.parquet"],
    }
    assert needed("someone/emotion:other", CARD, *listing, "other/train.jsonl") == {"train": ["other/train.jsonl"]}
    deep = card("{config_name: all, data_files: 'split/**'}")
    assert needed("someone/emotion", deep, *listing[:3]) == {"train": [listing[2], listing[1]]}
    assert needed("someone/x", "", "data/train-0.csv", "data/test-0.csv", "y/a.png", "LICENSE") == {
        "train": ["data/train-0.csv"],
        "test": ["data/test-0.csv"],
    }


def test_a_configuration_is_read_where_no_other_is_cached(hub_cache):
    hub_cache("someone/both", {"README.md": card(ONE, TWO), "two/train.csv": as_csv(20), "two/test.csv": as_csv(6)})
    dataset = load("someone/both:two")
    assert (dataset.name, dataset.roles["test"]) == ("both-two", "test")
    assert "it has several configurations; pass someone/both:NAME, one of one, two" in refused("someone/both")
    assert "the cached copy cannot be read" in refused("someone/both:one")


def test_a_split_that_is_not_whole_in_the_cache_is_refused(hub_cache):
    hub_cache("someone/half", {"data/train-00000-of-00002.csv": as_csv(20)})
    assert "1 of 2 files of 'train' are there" in refused("someone/half")


@pytest.mark.parametrize("path", ["https://somewhere/rows.csv", "../../rows.csv", "/etc/passwd", "zip://a.csv::b.zip"])
def test_a_card_that_points_out_of_its_data_set_is_not_followed(hub_cache, path):
    hub_cache("someone/lure", {"README.md": card(f"{{config_name: x, data_files: '{path}'}}"), "train.csv": as_csv(20)})
    assert f"its rows lie elsewhere ({path})" in refused("someone/lure")


# ── rows, labels and class names ────────────────────────────────────────────────────────────────────────────────────


def test_parquet_with_named_labels(tmp_path, hub_cache):
    texts = pa.array([None, *(f"t{i}" for i in range(1, 40))], pa.large_string())
    names = labelled("neg", "pos")
    train = write_parquet(tmp_path / "a.parquet", names, text=texts, label=[0, 1] * 20)
    test = write_parquet(tmp_path / "b.parquet", names, text=["x", "y"], label=[-1, -1])
    hub_cache("someone/named", {"data/train-0.parquet": train, "data/test-0.parquet": test})
    dataset = load("someone/named")
    assert dataset.class_names == ("neg", "pos")
    assert dataset.roles["test"] == "test_of_train"
    assert dataset.splits["test"].texts == [("x",), ("y",)]
    assert dataset.splits["test"].labels.tolist() == [-1, -1]
    found = by_row(split for name, split in dataset.splits.items() if name != "test")
    assert found == {f"train:{i}": ((f"t{i}",) if i else ("",)) for i in range(40)}


def test_csv_cells_stay_what_they_are_and_a_card_names_their_labels(hub_cache):
    head = CARD[CARD.index("dataset_info") : CARD.index("configs")].replace("split", "one")
    strange = "text,label,score\nNA,0,\nnull,1,3\n,0,x\n01a,1,\n" + "".join(f"t{i},{i % 2},1\n" for i in range(40))
    hub_cache("someone/cells", {"README.md": card(ONE, head=head), "one/train.csv": strange})
    (chunk,) = chunks("someone/cells")
    assert chunk.texts[:5] == [("NA",), ("null",), ("",), ("01a",), ("t0",)]
    assert chunk.labels.tolist()[:5] == ["sadness", "joy", "sadness", "joy", "sadness"]
    assert load("someone/cells").class_names == ("sadness", "joy")


def test_labels_json_names_the_classes_and_holds_no_rows(hub_cache):
    hub_cache("someone/beside", {"rows.csv": as_csv(20), "labels.json": '["no", "yes"]'})
    dataset = load("someone/beside")
    assert dataset.class_names == ("no", "yes")
    assert sum(map(len, dataset.splits.values())) == 20


def test_csv_whose_columns_change_their_type_on_the_way(hub_cache):
    """pandas takes 10,000 rows at a time, and finds numbers in the first piece."""
    rows = "".join(f"t{i},{i % 2 if i < 10_000 else 'ab'[i % 2]}\n" for i in range(10_040))
    hub_cache("someone/changing", {"train.csv.gz": gzip.compress(f"text,label\n{rows}".encode())})
    (chunk,) = chunks("someone/changing")
    assert chunk.labels[[0, 1, 10_000, 10_001]].tolist() == ["0", "1", "a", "b"]
    assert load("someone/changing").class_names == ("0", "1", "a", "b")


@pytest.mark.parametrize("lines", [True, False])
def test_json_with_numbers_and_words_in_one_column(hub_cache, lines):
    rows = [{"text": f"t{i}", "label": (0, "x", "0", 1)[i % 4], "region": "ns"[i // 20]} for i in range(40)]
    files = {"train.jsonl": as_jsonl(rows)} if lines else {"train.json": json.dumps(rows)}
    hub_cache("someone/mixed", files)
    dataset = load("someone/mixed")
    assert dataset.class_names == ("0", "1", "x")
    assert [dataset.class_names[i] for i in dataset.train.labels[:3]] == [
        ("0", "x", "0", "1")[int(row.partition(":")[2]) % 4] for row in dataset.train.row_ids[:3]
    ]
    assert set(dataset.train.columns["region"].tolist()) == {"n", "s"}


def test_labels_that_are_none_name_the_row(tmp_path, hub_cache):
    texts = [f"t{i}" for i in range(4)]
    cases = {
        "several labels a row ([0])": pa.array([[0], [1], [0, 1], []]),
        "real-valued label 0.5": pa.array([0.5, 1.0, 0.0, 2.0]),
    }
    for number, (message, values) in enumerate(cases.items()):
        path = write_parquet(tmp_path / "f.parquet", text=texts, label=values)
        hub_cache(f"someone/wrong{number}", {"train.parquet": path})
        assert f"someone/wrong{number} train row 0: {message}" in refused(f"someone/wrong{number}")
        (chunk,) = chunks(f"someone/wrong{number}")
        assert (chunk.texts, chunk.labels) == ([(text,) for text in texts], None)


def test_columns_are_asked_for_as_of_a_local_file(hub_cache):
    hub_cache("someone/columns", {"train.jsonl": as_jsonl([{"body": {"a": 1}, "kind": "x"}] * 4)})
    assert "someone/columns train: no 'text' among ['body', 'kind']; pass --text kind" in refused("someone/columns")
    with pytest.raises(UserError, match=r"someone/columns train row 0: 'body' holds no text \(dict\)"):
        chunks("someone/columns", text=("body",))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train.csv", "text,label\na,1\nb,2,3\n", "someone/damaged train: cannot be read (Error tokenizing data."),
        ("train.csv", "text,label\n", "someone/damaged train: no rows"),
        ("train.jsonl", '{"text": "a", "label": 1}\n{"text":\n', "someone/damaged train: cannot be read (JSON parse"),
        ("train.parquet", "nonsense", "someone/damaged: cannot be read (Parquet magic bytes not found"),
        ("README.md", "---\nconfigs: [\n---\n", "cannot be read (while parsing"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(hub_cache, name, content, message):
    hub_cache(
        "someone/damaged", {"data/train.csv": as_csv(20), name: content} if name == "README.md" else {name: content}
    )
    assert message in refused("someone/damaged")


# ── in chunks ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
def test_chunks_and_read_agree(tmp_path, hub_cache, kind):
    rows = numbered(50)
    content = {
        "parquet": write_parquet(tmp_path / "a.parquet", labelled("no", "yes"), group=20, **rows),
        "csv": as_csv(50),
        "jsonl": as_jsonl([{"text": text, "label": label} for text, label in zip(*rows.values(), strict=True)]),
    }[kind]
    hub_cache("someone/both", {f"train.{kind}": content})
    found = chunks("someone/both", rows=15)
    assert [len(chunk.texts) for chunk in found] == [15, 15, 15, 5]
    names = ("no", "yes") if kind == "parquet" else ("0", "1")
    assert [label for chunk in found for label in chunk.labels] == [names[i % 2] for i in range(50)]
    assert (
        by_row(found) == by_row(load("someone/both").splits.values()) == {f"train:{i}": (f"t{i}",) for i in range(50)}
    )


def test_chunks_take_first_rows(hub_cache):
    hub_cache("someone/first", {"train.csv": as_csv(40), "test.csv": "text\nx\ny\n"})
    options = SourceOptions("someone/first", rows="first:50%")
    found = [(chunk.split, chunk.row_ids.tolist(), chunk.labels) for chunk in read_chunks(options, rows=15)]
    assert [(split, rows[0], len(rows)) for split, rows, _ in found] == [
        ("train", "train:0", 15),
        ("train", "train:15", 5),
        ("test", "test:0", 1),
    ]
    assert found[2][2] is None


def test_memory_of_chunks_does_not_grow_with_the_source(tmp_path, hub_cache):
    """Arrow reads ahead of whoever is slow, to the end of a file if nothing holds it back."""
    peaks = []
    for count in (10_000, 40_000):
        texts = [f"{i} {'many words ' * 20}" for i in range(count)]
        path = write_parquet(tmp_path / "a.parquet", group=1000, text=texts, label=[0] * count)
        hub_cache(f"someone/{count}", {"train.parquet": path})
        before, held = pa.total_allocated_bytes(), []
        for _ in read_chunks(SourceOptions(f"someone/{count}"), rows=1000):
            time.sleep(0.005)
            held.append(pa.total_allocated_bytes() - before)
        peaks.append(max(held))
        assert len(held) == count // 1000
    assert peaks[1] < 1.5 * peaks[0]


def test_neither_torch_nor_the_network_nor_a_copy_on_disk(tmp_path, cached_emotion):
    code = f"""
import os, socket, sys
from pathlib import Path
os.environ["HF_HUB_CACHE"] = {str(tmp_path / "hub")!r}
os.environ["HF_HOME"] = {str(tmp_path / "home")!r}
os.environ["HF_HUB_OFFLINE"] = "1"
socket.socket.connect = socket.getaddrinfo = None
from pipeline.data import SourceOptions, read, read_chunks
before = sorted(Path({str(tmp_path)!r}).rglob("*"))
print(read(SourceOptions("someone/emotion")).class_names, len(list(read_chunks(SourceOptions("someone/emotion")))))
print(sorted(Path({str(tmp_path)!r}).rglob("*")) == before, "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["('sadness', 'joy') 2", "True False"]
    assert done.stderr == ""


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
    hub_snapshot._snapshot_in.cache_clear()
    online.clear()
    assert load("someone/emotion").digest == first.digest
    assert [line for line in online if "/emotion" in line] == ["GET /api/datasets/someone/emotion"]
    hub_snapshot._snapshot_in.cache_clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert load("someone/emotion").digest == first.digest


def test_a_name_that_the_hub_does_not_know(online):
    message = refused("someone/nosuch")
    assert "someone/nosuch: no such file, and the Hub knows no such data set" in message
