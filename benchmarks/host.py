"""What carries texts to an encoder and vectors away, measured around an encoder that costs nothing.

    python benchmarks/host.py                                 # 20,000 made-up texts of the bundled sample's words
    python benchmarks/host.py --data FOLDER --rows 20000 --rounds 5

Keys, tokens, batches, threads and shards on disk are those of every extraction; in place of a device stands an engine
that answers zeros. Whatever a GPU does on top, it cannot be fed faster than this. The tokenizer alone, on the same
texts and as many threads, is timed beside it: its share is that of the processor seconds. Rounds are interleaved, the
median counts.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np

from pipeline import encoder as rooms
from pipeline.data import SourceOptions, read_chunks
from pipeline.encoder import EncoderSpec, Runtime, locate, tokenizer
from pipeline.encoder.batches import TokenBatch
from pipeline.encoder.hardware import cpu_name, hardware
from pipeline.extract import Extractor

RESULTS = Path(__file__).parent / "results"
SAMPLE = Path(__file__).parent.parent / "pipeline" / "samples" / "sms-spam"


class FreeEngine:
    """An engine that costs nothing: zeros for every text."""

    cls_only, equal_lengths, calibration, in_flight = False, False, None, 1
    out_of_memory: tuple[type[BaseException], ...] = (MemoryError,)

    def __init__(self, checkpoint: Any, poolings: tuple[str, ...], *_: Any) -> None:
        self.poolings, self.dim = poolings, checkpoint.dim

    def start(self, batch: TokenBatch) -> int:
        """How many vectors are wanted."""
        return len(batch.ids)

    def fetch(self, started: int) -> dict[str, np.ndarray]:
        """Vectors (b, d) float32 for each pooling."""
        return {name: np.zeros((started, self.dim), np.float32) for name in self.poolings}

    def release(self) -> None:
        """Nothing is held."""


def made_up(texts: list[tuple[str, ...]], rows: int) -> list[tuple[str, ...]]:
    """`rows` different texts, of the lengths and words of `texts` (equal ones would be encoded once)."""
    random = np.random.default_rng(0)
    words = np.array([word for text in texts for word in text[0].split()])
    lengths = np.array([len(text[0].split()) for text in texts])
    return [(" ".join(random.choice(words, n)),) for n in random.choice(lengths, rows) if n]


def timed(call: Callable[[], object]) -> tuple[float, float]:
    """Seconds on the wall and of the processors."""
    wall, spent = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of texts as they are (default: made up)")
    parser.add_argument("--encoder", default="minilm", help="whose tokenizer and width")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    source = SourceOptions(str(options.data or SAMPLE))
    texts = [text for chunk in read_chunks(source) for text in chunk.texts]
    texts = texts[: options.rows] if options.data else made_up(texts, options.rows)
    checkpoint = locate(EncoderSpec(options.encoder))
    encode = tokenizer(checkpoint).encode
    tokens = int(encode(texts).lengths.sum())
    rooms.ENGINES["torch"] = FreeEngine
    spec = EncoderSpec(options.encoder, engine="torch", precision="fp32")

    def extract() -> None:
        with tempfile.TemporaryDirectory() as cache:
            Extractor(checkpoint, spec, Runtime(device="cpu"), Path(cache)).run([texts])

    calls = {"everything around a free encoder": extract, "the tokenizer alone": lambda: encode(texts)}
    rounds: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for _ in range(options.rounds):
        for name, call in calls.items():
            rounds[name].append(timed(call))
    wall, spent = (
        {name: statistics.median(row[i] for row in several) for name, several in rounds.items()} for i in (0, 1)
    )
    whole, part = spent.values()
    found = {
        "processor": cpu_name(),
        "cores": hardware().cores,
        "texts": len(texts),
        "tokens_per_text": tokens / len(texts),
        "texts_per_second": {name: len(texts) / seconds for name, seconds in wall.items()},
        "processor_seconds": spent,
        "tokenizer_share": part / whole,
    }
    for name in calls:
        print(
            f"{name:34s} {len(texts) / wall[name]:8,.0f} texts/s, {len(texts) / spent[name]:8,.0f} a processor second"
        )
    print(f"the tokenizer's share: {part / whole:.0%} ({found['tokens_per_text']:.1f} tokens a text)")
    RESULTS.joinpath("host.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
