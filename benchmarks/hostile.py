"""Seeded mutations of what comes from outside (data, runs, checkpoints, caches) through the calls that commands make.

    python benchmarks/hostile.py                    # 2,000 mutations, minutes
    python benchmarks/hostile.py --count 200 --only data

A mutation ends in an answer or in a UserError of one line within 10 seconds. Answers are held against pandas and Arrow
(rows), the unchanged run (probabilities), transformers (vectors) and what was stored (vectors of the cache). Counted:
other exceptions, hangs, wrong answers, planted code that ran, sockets that were opened.
"""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np

sys.path[:0] = [str(Path(__file__).parent.parent), str(Path(__file__).parent.parent / "tests")]

from pipeline import UserError, log  # noqa: E402

SECONDS = 10
ODD = [
    "plain",
    'say "hi"',
    "a,b",
    "two\nlines",
    "tab\there",
    "",
    " ",
    "naïve",
    "评论",
    "NA",
    "nan",
    "007",
    "\u200bx",
    "=1+1",
]
VALUES = [
    None,
    5,
    -1,
    1.5,
    "x",
    "",
    True,
    [],
    {},
    [5],
    {"a": 5},
    float("inf"),
    10**400,
    "9" * 5000,
    "../../x",
    "\ud800",
]
sockets: list[str] = []


class HangError(BaseException):  # so that nobody takes it for an error of a file
    """A call took longer than it may."""


class WrongError(Exception):
    """An answer that looks right and is not."""


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Raises HangError after 10 seconds of the processor, or a minute of waiting: the machine may be busy."""

    def stop(number: int, frame: object) -> None:
        raise HangError(f"longer than {SECONDS} s")

    for number in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(number, stop)
    signal.setitimer(signal.ITIMER_REAL, 6 * SECONDS)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)


def guard_sockets() -> None:
    connect = socket.socket.connect

    def noted(self: socket.socket, address: Any) -> None:
        sockets.append(str(address))
        connect(self, address)

    socket.socket.connect = noted  # type: ignore[method-assign,assignment]


# ── mutations ───────────────────────────────────────────────────────────────────────────────────────────────────────


def mutate_bytes(path: Path, random: np.random.Generator) -> str:
    """Flip, cut, repeat or insert bytes of a file; what was done."""
    raw = bytearray(path.read_bytes())
    how = str(
        random.choice(
            ["flip", "cut", "repeat", "insert", "pipe", "zero", "empty"], p=[0.4, 0.2, 0.1, 0.2, 0.03, 0.03, 0.04]
        )
    )
    at = int(random.integers(max(1, len(raw))))
    if how in ("pipe", "zero"):
        path.unlink()
        os.mkfifo(path) if how == "pipe" else path.symlink_to("/dev/zero")
        return how
    if how == "flip":
        for place in random.integers(0, max(1, len(raw)), 3).tolist():
            raw[place] = int(random.integers(256))
    elif how == "cut":
        del raw[at:]
    elif how == "repeat":
        raw[at:at] = raw[at : at + 50]
    elif how == "insert":
        raw[at:at] = bytes(random.choice([b'"', b"\x00", b"\xff", b"\r", b"{" * 5000, b"[" * 100_000]))
    else:
        raw.clear()
    path.write_bytes(bytes(raw))
    return f"{how} at {at}"


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in inside:
        yield (*path, key)
        yield from leaves(inner, (*path, key))


def mutate_json(path: Path, random: np.random.Generator) -> str:
    """Give one field of a JSON file another value, or take it away."""
    made = copy.deepcopy(json.loads(path.read_text("utf-8")))
    places = [place for place in leaves(made) if len(place) < 6]
    place = places[int(random.integers(len(places)))]
    at = made
    for key in place[:-1]:
        at = at[key]
    value = VALUES[int(random.integers(len(VALUES)))]
    if random.random() < 0.1:
        del at[place[-1]]
    else:
        at[place[-1]] = value
    path.write_text(json.dumps(made), "utf-8")
    return f"{'.'.join(map(str, place))} = {str(value)[:20]!r}"


# ── data ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def data(home: Path, random: np.random.Generator) -> str:
    """A table of odd cells, in one of the formats, changed or not; rows equal those that pandas or Arrow read."""
    import pandas as pd
    import pyarrow.parquet as pq

    from pipeline.data import SourceOptions, read_chunks

    rows = int(random.integers(5, 60))
    texts = [f"{random.choice(ODD)} {i}" for i in range(rows)]
    frame = pd.DataFrame({"id": range(rows), "text": texts, "label": random.choice(["a", "b"], rows)})
    suffix = str(random.choice(["csv", "tsv", "jsonl", "parquet", "xlsx", "json"]))
    path = home / f"t.{suffix}"
    if suffix in ("csv", "tsv"):
        frame.to_csv(path, sep="\t" if suffix == "tsv" else ",", index=False, quoting=int(random.integers(0, 3)))
    elif suffix in ("jsonl", "json"):
        frame.to_json(path, orient="records", lines=suffix == "jsonl", force_ascii=bool(random.integers(2)))
    elif suffix == "parquet":
        frame.to_parquet(path)
    else:
        frame.to_excel(path, index=False)  # a cell that begins with = is a formula there, and has no value yet
        texts = pd.read_excel(path, dtype=str, keep_default_na=False).text.tolist()
    how = mutate_bytes(path, random) if random.random() < 0.7 else ""
    read = [text[0] for c in read_chunks(SourceOptions(str(path), text=("text",))) for text in c.texts]
    if not how and read != texts:
        raise WrongError(f"{suffix}: {next((a, b) for a, b in zip(read, texts, strict=False) if a != b)}")
    if how and suffix == "parquet":
        theirs = pq.read_table(path, columns=["text"]).column("text").to_pylist()
        if read != ["" if text is None else text for text in theirs]:
            raise WrongError(f"{suffix} {how}: other rows than Arrow reads")
    if how and suffix in ("csv", "tsv") and not how.startswith(("cut", "repeat")):
        cells = [row for row in path.read_text("utf-8", "replace").splitlines() if row]
        if len(read) < rows - 3 and len(cells) > rows:
            raise WrongError(f"{suffix} {how}: {len(read)} of {rows} rows")
    return f"{suffix} {how}"


# ── runs ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def fitted(home: Path) -> Path:
    """The folder of a TF-IDF run."""
    from tables import sentences, write_csv

    from pipeline.data import SourceOptions, read
    from pipeline.tfidf import TfidfSettings, tfidf_fit

    source = read(SourceOptions(str(write_csv(home / "reviews.csv", sentences(200)))))
    made = tfidf_fit(source, TfidfSettings(C=(1.0,), folds=2, features="words"), home / "runs").run().folder
    assert made is not None
    return made


TEXTS = [("love the film",), ("a sad and boring story",), ("",)]


def runs(home: Path, random: np.random.Generator, whole: Path, expected: np.ndarray) -> str:
    """A run with one file changed is refused, or says what it said before."""
    from pipeline.predict import open_run
    from pipeline.run import load_run

    folder = home / "run"
    shutil.copytree(whole, folder)
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    file = files[int(random.integers(len(files)))]
    how = mutate_json(file, random) if file.suffix == ".json" and random.random() < 0.7 else mutate_bytes(file, random)
    run = load_run(folder)
    json.dumps(run.to_json())
    proba = open_run(run, cache=home / "cache").proba(TEXTS)
    if not (np.isfinite(proba).all() and np.allclose(proba.sum(1), 1, atol=1e-3) and (proba >= 0).all()):
        raise WrongError(f"{file.name} {how}: probabilities that are none")
    if file.parent == folder and not np.allclose(proba, expected, atol=1e-4):
        raise WrongError(f"{file.name} {how}: other probabilities")
    return f"{file.name} {how}"


# ── caches ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def caches(home: Path, random: np.random.Generator) -> str:
    """A store with one file changed gives back what was put in, or has nothing."""
    from pipeline.store import Store, text_keys

    texts = [(f"text {i}",) for i in range(50)]
    vectors = random.normal(size=(50, 8)).astype(np.float32)
    store = Store(home / "store")
    for part in (slice(0, 20), slice(20, 50)):
        store.commit(text_keys(texts[part]), np.full(len(texts[part]), 5, np.uint32), vectors[part], 1.0, 128)
    files = sorted(file for file in (home / "store").rglob("*") if file.is_file())
    file = files[int(random.integers(len(files)))]
    how = mutate_json(file, random) if file.suffix == ".json" else mutate_bytes(file, random)
    served = Store(home / "store").serve(text_keys(texts), 128)
    there = served.present
    if there.any() and not np.array_equal(served.vectors[there], vectors[there]):
        raise WrongError(f"{file.name} {how}: other vectors")
    return f"{file.name} {how}"


# ── checkpoints ─────────────────────────────────────────────────────────────────────────────────────────────────────

HOOK = "from pathlib import Path\nPath({mark!r}).touch()\n"


def checkpoints(home: Path, random: np.random.Generator, whole: Path) -> str:
    """An encoder with one file changed is refused, or gives the vectors that transformers gives."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    from pipeline.encoder import EncoderSpec, Runtime, open_encoder
    from pipeline.encoder.checkpoint import locate
    from pipeline.encoder.tokens import tokenizer

    folder, mark = home / "encoder", home / "ran"
    shutil.copytree(whole, folder)
    (folder / "planted.py").write_text(HOOK.format(mark=str(mark)))
    files = sorted(file for file in folder.iterdir() if file.suffix in (".json", ".safetensors"))
    file = files[int(random.integers(len(files)))]
    if file.suffix == ".json" and random.random() < 0.2:
        record = json.loads(file.read_text("utf-8"))
        record["auto_map"] = {"AutoModel": "planted.Model", "AutoTokenizer": ["planted.Slow", None]}
        file.write_text(json.dumps(record))
        how = "auto_map"
    else:
        how = (
            mutate_json(file, random)
            if file.suffix == ".json" and random.random() < 0.7
            else mutate_bytes(file, random)
        )
    try:
        spec = EncoderSpec(str(folder), pooling=("cls",), precision="fp32", engine="torch")
        here = locate(spec)
        encoder = open_encoder(here, ("cls",), "torch", "fp32", Runtime(device="cpu"), home / "cache")
        vectors = encoder.encode_all(tokenizer(here, home / "cache").encode(TEXTS, here.max_length))["cls"]
    finally:
        if mark.exists():
            raise WrongError(f"{file.name} {how}: planted code ran")
    if not np.isfinite(vectors).all():
        raise WrongError(f"{file.name} {how}: vectors that are no numbers")
    try:
        model = AutoModel.from_pretrained(folder, trust_remote_code=False, local_files_only=True).eval()
        words = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        cut = {"truncation": True, "max_length": here.max_length, "return_tensors": "pt"}
        with torch.no_grad():
            theirs = [model(**words(text[0], **cut)).last_hidden_state[0, 0].numpy() for text in TEXTS]
    except Exception:  # what transformers cannot read has nothing to be held against
        return f"{file.name} {how} (transformers refuses)"
    if not np.allclose(vectors, np.stack(theirs), atol=1e-3):
        raise WrongError(f"{file.name} {how}: other vectors than transformers'")
    return f"{file.name} {how}"


# ── all of it ───────────────────────────────────────────────────────────────────────────────────────────────────────

SHARES = {"data": 0.45, "runs": 0.3, "caches": 0.15, "checkpoints": 0.1}


def kinds(home: Path, only: str | None) -> dict[str, Callable[[Path, np.random.Generator], str]]:
    """Kind → one mutation of it, in an empty folder."""
    made: dict[str, Callable[[Path, np.random.Generator], str]] = {"data": data, "caches": caches}
    if only in (None, "runs"):
        from pipeline.predict import open_run
        from pipeline.run import load_run

        whole = fitted(home)
        expected = open_run(load_run(whole)).proba(TEXTS)
        made["runs"] = lambda place, random: runs(place, random, whole, expected)
    if only in (None, "checkpoints"):
        import torch  # noqa: F401 - seconds of work that no mutation is to blame for
        from conftest import make_distilbert
        from transformers import AutoModel, AutoTokenizer

        encoder = make_distilbert(home / "tiny")
        model = AutoModel.from_pretrained(encoder)  # what is imported once is imported now
        model(**AutoTokenizer.from_pretrained(encoder)("warm", return_tensors="pt"))
        made["checkpoints"] = lambda place, random: checkpoints(place, random, encoder)
    return {kind: call for kind, call in made.items() if only in (None, kind)}


@click.command()
@click.option("--count", default=2000, show_default=True, help="Mutations.")
@click.option("--seed", default=0, show_default=True)
@click.option("--only", type=click.Choice(list(SHARES)))
def main(count: int, seed: int, only: str | None) -> None:
    """Exit code 1 if anything but an answer or a UserError came."""
    log.setLevel(logging.CRITICAL)
    logging.disable(logging.CRITICAL)
    guard_sockets()
    tally: Counter[tuple[str, str]] = Counter()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as root:
        calls = kinds(Path(root), only)
        for kind, call in calls.items():
            for number in range(round(count * (1.0 if only else SHARES[kind]))):
                outcome, said = attempt(call, Path(root) / "now", np.random.default_rng([seed, number]))
                tally[kind, outcome] += 1
                if outcome not in ("answered", "refused"):
                    click.echo(f"{kind} {number}: {outcome}: {said}")
    for (kind, outcome), times in sorted(tally.items()):
        click.echo(f"{kind:12} {outcome:10} {times:6,}")
    click.echo(f"sockets opened: {len(sockets)}; {time.perf_counter() - started:.0f} s")
    sys.exit(int(bool(sockets) or any(outcome not in ("answered", "refused") for _, outcome in tally)))


def attempt(
    call: Callable[[Path, np.random.Generator], str], place: Path, random: np.random.Generator
) -> tuple[str, str]:
    """How one mutation ended, and what was said."""
    place.mkdir()
    try:
        with watched():
            return "answered", call(place, random)
    except UserError as error:
        text = str(error)
        return ("refused", text) if "\n" not in text and len(text) < 1000 else ("long", text[:200])
    except WrongError as error:
        return "wrong", str(error)
    except HangError:
        return "hang", traceback.format_exc(limit=-3)[-400:]
    except Exception as error:
        return "traceback", f"{type(error).__name__}: {str(error)[:150]} {traceback.format_exc(limit=-2)[-350:]}"
    finally:
        shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    main()
