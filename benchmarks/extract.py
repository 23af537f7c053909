"""Texts in hand to vectors in hand: ours in each precision beside what people use, in one run on one machine.

    python benchmarks/extract.py                                        # the bundled sample
    python benchmarks/extract.py --data FOLDER --rows 4000 --long FOLDER --long-rows 300 --rounds 3
    python benchmarks/extract.py --other OTHER/bin/python               # runs sentence-transformers on OpenVINO too

Everybody gets the same texts, the same checkpoint (distilbert-base-uncased's shape, random weights: right for timing)
and a limit of 512 tokens. Models are loaded before the clock starts; ours writes its vectors to disk and reads them
back, the others keep them in memory. Rounds are interleaved, the median counts, and only ratios of one run carry over
to another machine. `make bench` sets up the other interpreter, whose transformers is older than ours.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.update(TOKENIZERS_PARALLELISM="true", HF_HUB_DISABLE_PROGRESS_BARS="1", TRANSFORMERS_VERBOSITY="error")
sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np

from benchmarks.ceiling import Shape, ceiling, encoder_alone
from benchmarks.extract_peers import APART, PEERS, Encode
from pipeline import UserError, silent
from pipeline.data import SourceOptions, read_chunks
from pipeline.encoder import EncoderSpec, Runtime, locate, open_encoder, tokenizer
from pipeline.encoder.checkpoint import packaged
from pipeline.encoder.hardware import cpu_name, hardware
from pipeline.extract import Extractor
from pipeline.store import text_keys

RESULTS = Path(__file__).parent / "results"
LENGTHS = ["short", "long"]
REFERENCE = "sentence-transformers, torch"
Timed = Callable[[list[str]], tuple[np.ndarray, float]]  # texts → vectors (n, d), seconds


def base_shaped(folder: Path) -> Path:
    """A checkpoint of distilbert-base-uncased's shape with random weights and a real tokenizer."""
    import torch
    from transformers import DistilBertConfig, DistilBertModel

    torch.manual_seed(0)
    DistilBertModel(DistilBertConfig()).eval().save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
        shutil.copy(packaged() / name, folder / name)
    return folder


# ── who takes part ──────────────────────────────────────────────────────────────────────────────────────────────────


def here(encode: Encode) -> Timed:
    """A peer in this process."""

    def timed(texts: list[str]) -> tuple[np.ndarray, float]:
        started = time.perf_counter()
        found = encode(texts)
        return found, time.perf_counter() - started

    return timed


class Apart:
    """A peer in a process of another interpreter, which keeps its own time."""

    def __init__(self, interpreter: str, name: str, folder: Path, texts: list[str]) -> None:
        script = Path(__file__).parent / "extract_peers.py"
        call = [interpreter, str(script), name, str(folder)]
        self.process = subprocess.Popen(
            call, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=folder
        )
        self.out = folder / f"{abs(hash(name))}.npy"
        answer = self.ask(json.dumps(texts))
        if answer != "ready":
            raise UserError(answer or "the other interpreter ended without a word")

    def ask(self, line: str) -> str:
        assert self.process.stdin, "a pipe"
        assert self.process.stdout, "a pipe"
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def __call__(self, texts: list[str]) -> tuple[np.ndarray, float]:
        spent = float(self.ask(str(self.out)))
        return np.load(self.out), spent

    def close(self) -> None:
        assert self.process.stdin, "a pipe"
        self.process.stdin.close()
        self.process.wait()


def ours(folder: Path, precision: str) -> Timed:
    """This project: vectors go to a fresh store on disk and are read back from it."""
    spec = EncoderSpec(str(folder), precision=precision)
    checkpoint = locate(spec)
    models = Path(tempfile.mkdtemp())  # the converted model is kept, the vectors are not

    def timed(texts: list[str]) -> tuple[np.ndarray, float]:
        rows = [(text,) for text in texts]
        started = time.perf_counter()
        whole = text_keys(rows)
        extractor = Extractor(checkpoint, spec, Runtime(), models, silent, whole)
        done = extractor.run([rows])
        assert extractor.embedding_cache is not None, "there are texts"
        found = extractor.embedding_cache.serve(whole, "cls").vectors
        spent = time.perf_counter() - started - done.setup_seconds  # models are loaded before anybody's clock starts
        timed.ran = f"{extractor.embedding_cache.backend.engine}, {extractor.embedding_cache.backend.precision}"  # type: ignore[attr-defined]
        for store in extractor.embedding_cache.stores.values():
            shutil.rmtree(store.folder)
        return found, spent

    return timed


OURS = {f"ours, {precision}": precision for precision in ("fp32", "bf16", "auto", "int8")}


def ready(
    texts: list[str], folder: Path, names: list[str], other: str | None, table: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """Everybody who can be set up here, warmed up; in `table` the reason for everybody else."""
    found: dict[str, Timed] = {}
    for name in names:
        try:
            if name in OURS:
                found[name] = ours(folder, OURS[name])
                found[name](texts[:400])  # int8 is calibrated on 300
            elif name in PEERS:
                found[name] = here(PEERS[name](folder))
                found[name](texts[:64])
            elif other is None:
                raise UserError("needs another interpreter: --other PYTHON")
            else:
                found[name] = Apart(other, name, folder, texts)
        except (ImportError, UserError, TypeError, ValueError, OSError) as error:
            found.pop(name, None)
            table[name] = {"skipped": f"{type(error).__name__}: {error}".splitlines()[0][:160]}
    return found


def measure(
    texts: list[str], folder: Path, names: list[str], rounds: int, other: str | None
) -> dict[str, dict[str, Any]]:
    """Seconds of each round for each contender that can be set up here, and how near its vectors are to float32."""
    table: dict[str, dict[str, Any]] = {}
    runners = ready(texts, folder, names, other, table)
    exact: np.ndarray | None = None
    for _ in range(rounds):
        for name, timed in runners.items():
            found, spent = timed(texts)
            assert found.shape[0] == len(texts), "a vector a text"
            exact = found if exact is None or name == REFERENCE else exact
            table.setdefault(name, {"seconds": []})["seconds"].append(spent)
            table[name]["cosine"] = float(cosines(found, exact).mean())
            print(f"  {name}: {len(texts) / spent:,.0f} texts/s", file=sys.stderr, flush=True)
    for name, timed in runners.items():
        row = table[name]
        row["texts_per_second"] = len(texts) / statistics.median(row["seconds"])
        row["ran"] = str(getattr(timed, "ran", ""))
        if isinstance(timed, Apart):
            timed.close()
    reference = table.get(REFERENCE, {}).get("texts_per_second")
    for row in table.values():
        if reference and "skipped" not in row:
            row["ratio"] = row["texts_per_second"] / reference
    return {name: table[name] for name in names}


def cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(n,) cosine of each row of two (n, d)."""
    return np.asarray((first * second).sum(1) / (np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)))


def limit(texts: list[str], folder: Path) -> dict[str, dict[str, float]]:
    """What the machine can do in each precision, and what share of it the encoder alone reaches on these texts."""
    spec, found = EncoderSpec(str(folder)), {}
    checkpoint = locate(spec)
    batches = list(tokenizer(checkpoint).encode([(text,) for text in texts], 512).batches())[::4]
    for precision, hint in (("fp32", "f32"), ("bf16", "bf16")):
        encoder = open_encoder(checkpoint, engine="openvino", precision=precision, cache=folder / "models")
        best, runs = 0.0, []
        for _ in range(3):
            best = max(best, ceiling(hint))
            runs.append(encoder_alone(encoder, batches, Shape()))
        speed, work = sorted(runs)[1]
        found[precision] = {"gflops": best / 1e9, "tokens_per_second": speed, "share": work / best}
    return found


# ── the texts ───────────────────────────────────────────────────────────────────────────────────────────────────────


def texts_of(source: str, rows: int) -> list[str]:
    """The first `rows` different texts of a source: the others would pay for repeats, which is not the point here."""
    chunks = read_chunks(SourceOptions(source, rows=f"first:{rows}"))
    return list(dict.fromkeys(text for chunk in chunks for (text,) in chunk.texts))[:rows]


def long_texts(source: str | None, rows: int) -> list[str]:
    """Reviews of a given source, or as many texts made of the bundled sample, as long as film reviews are."""
    if source is not None:
        return texts_of(source, rows)
    random, pieces = np.random.default_rng(0), texts_of("sms-spam", 5000)
    sizes = np.clip(random.lognormal(2.4, 0.6, rows), 2, 60).astype(int)  # messages a text: about 290 tokens
    return [" ".join(random.choice(pieces, size)) for size in sizes]


# ── the run ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="sms-spam", help="source of short texts, as the command line takes it")
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--long", help="source of long texts (default: the bundled sample, put together)")
    parser.add_argument("--long-rows", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--lengths", nargs="+", choices=LENGTHS, default=LENGTHS, help="one of them: added to --out")
    parser.add_argument("--only", action="append", default=[], help="part of a contender's name; may be repeated")
    parser.add_argument("--other", help="interpreter that has sentence-transformers[openvino]")
    parser.add_argument("--out", type=Path, default=RESULTS / "extract.json")
    wish = parser.parse_args()
    folder = base_shaped(Path(tempfile.mkdtemp()))
    names = [name for name in (*PEERS, *APART, *OURS) if not wish.only or any(part in name for part in wish.only)]
    machine = hardware()
    facts = {"processor": cpu_name(), "cores": machine.cores, "auto_bf16": machine.cpu_bf16, "rounds": wish.rounds}
    before = json.loads(wish.out.read_text()) if wish.lengths != LENGTHS and wish.out.exists() else {"lengths": {}}
    result: dict[str, dict[str, Any]] = {
        "machine": facts | {"python": platform.python_version()},
        "lengths": before["lengths"],
    }
    for length in wish.lengths:
        texts = texts_of(wish.data, wish.rows) if length == "short" else long_texts(wish.long, wish.long_rows)
        table = measure(texts, folder, names, wish.rounds, wish.other)
        source = {"short": wish.data, "long": wish.long or "sms-spam, put together"}[length]
        data = {"source": Path(source).name, "rows": len(texts)}
        result["lengths"][length] = {"data": data, "table": table, "limit": limit(texts, folder)}
        shown(length, result["lengths"][length], facts)
        wish.out.parent.mkdir(parents=True, exist_ok=True)
        wish.out.write_text(json.dumps(result, indent=1))
    chart(result, wish.out.with_suffix(".svg"))


def shown(length: str, result: dict[str, dict[str, Any]], facts: dict[str, Any]) -> None:
    data = result["data"]
    print(f"\n{length} texts: {data['rows']} of {data['source']}; {facts['processor']}, {facts['cores']} cores")
    for name, row in result["table"].items():
        if "skipped" in row:
            print(f"{name:44s} not run: {row['skipped']}")
            continue
        ratio = f"{row['ratio']:5.2f} x" if "ratio" in row else ""
        print(
            f"{name:44s} {row['texts_per_second']:8.1f} texts/s {ratio:>8s}  cosine {row['cosine']:.5f}  {row['ran']}"
        )
    for precision, row in result["limit"].items():
        print(
            f"the limit in {precision}: {row['gflops']:,.0f} GFLOP/s in one matrix product; the encoder alone runs "
            f"at {row['tokens_per_second']:,.0f} tokens/s, {row['share']:.0%} of it"
        )


def chart(result: dict[str, dict[str, Any]], path: Path) -> None:
    """Bars of texts a second, short and long side by side, for the README."""
    import altair as alt

    panels = []
    for length, found in result["lengths"].items():
        rows = [
            {"who": name, "texts/s": row["texts_per_second"]}
            for name, row in found["table"].items()
            if "skipped" not in row
        ]
        title = f"{length} texts ({found['data']['source']})"
        panels.append(
            alt.Chart(alt.Data(values=rows), title=title)
            .mark_bar()
            .encode(
                y=alt.Y("who:N", sort=None, title=None, axis=alt.Axis(labelLimit=280)),
                x=alt.X("texts/s:Q", title="texts a second"),
                color=alt.condition("indexof(datum.who, 'ours') == 0", alt.value("#1f6fb2"), alt.value("#b5b9be")),
            )
            .properties(width=420)
        )
    alt.vconcat(*panels).save(str(path))


if __name__ == "__main__":
    main()
