"""Does memory grow with the source? A million short texts from Parquet through a tiny encoder, resident memory watched.

    python benchmarks/memory.py [--rows 1000000]

Every text is different, so that the index of what is on disk grows as it must: it is what may grow. The growth counts
from the moment at which 50,000 rows have been encoded. Writes benchmarks/results/memory.json and memory.svg.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from pipeline.data import SourceOptions
from pipeline.encoder import EncoderSpec, Runtime
from pipeline.encoder.checkpoint import packaged
from pipeline.extract import extract_source

RESULTS = Path(__file__).parent / "results"
SETTLED = 50_000  # rows after which whatever is loaded once has been loaded
WORDS = "the a free call now we you they go home late meet good bad film great money win time day night love".split()


def tiny_encoder(folder: Path) -> Path:
    """A DistilBERT of 2 layers, 32 wide, with random weights and a real tokenizer."""
    import torch
    from transformers import DistilBertConfig, DistilBertModel

    torch.manual_seed(0)
    DistilBertModel(DistilBertConfig(dim=32, hidden_dim=64, n_layers=2, n_heads=2)).eval().save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
        shutil.copy(packaged() / name, folder / name)
    return folder


def short_texts(file: Path, rows: int, block: int = 50_000) -> Path:
    """A Parquet file of `rows` different texts of 4 to 14 words."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    random, schema = np.random.default_rng(0), pa.schema([("text", pa.string())])
    with parquet.ParquetWriter(file, schema) as out:
        for start in range(0, rows, block):
            sizes = random.integers(3, 13, min(block, rows - start))
            texts = [
                f"{' '.join(random.choice(WORDS, size))} {start + i}" for i, size in enumerate(sizes)
            ]  # the number makes it different
            out.write_table(pa.table({"text": texts}, schema=schema))
    return file


def main() -> None:
    import psutil

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    asked = parser.parse_args()
    process = psutil.Process()
    points: list[tuple[int, float]] = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        encoder = tiny_encoder(folder / "encoder")
        source = short_texts(folder / "texts.parquet", asked.rows)

        def watch(stage: str, done: int, total: int | None) -> None:
            if not points or done - points[-1][0] >= 10_000:
                points.append((done, process.memory_info().rss / 1e6))
                print(f"{done:>10,} rows {points[-1][1]:8.0f} MB", file=sys.stderr, flush=True)

        started = time.perf_counter()
        found = extract_source(
            SourceOptions(str(source)), EncoderSpec(str(encoder)), Runtime(), folder / "cache", watch
        ).to_json()
        seconds = time.perf_counter() - started
    assert found["encoded"] == asked.rows, "every text is different"
    settled = next(memory for done, memory in points if done >= SETTLED)
    growth = max(memory for done, memory in points if done >= SETTLED) - settled
    print(f"{asked.rows:,} rows in {seconds:.0f} s; {settled:.0f} MB at {SETTLED:,} rows, growth {growth:.0f} MB")
    result = {"rows": asked.rows, "seconds": seconds, "settled_mb": settled, "growth_mb": growth, "points": points}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "memory.json").write_text(json.dumps(result | {"engine": found["engine"]}, indent=1))
    chart(points)


def chart(points: list[tuple[int, float]]) -> None:
    import altair as alt

    rows = [{"rows": done, "MB": memory} for done, memory in points]
    line = alt.Chart(alt.Data(values=rows), width=420, height=180).mark_line()
    line.encode(
        x=alt.X("rows:Q", title="rows encoded"),
        y=alt.Y("MB:Q", title="resident memory, MB", scale=alt.Scale(zero=True)),
    ).save(str(RESULTS / "memory.svg"))


if __name__ == "__main__":
    main()
