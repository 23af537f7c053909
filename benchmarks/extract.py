"""Texts in hand to vectors in hand: ours in each precision beside what people use, in one run on one machine.

    python benchmarks/extract.py                                   # the bundled sample, DistilBERT-base's shape
    python benchmarks/extract.py --data FOLDER --rows 4000 --rounds 5

Everybody gets the same texts, the same checkpoint (random weights: right for timing) and --max-length 512. Models are
loaded before the clock starts; ours writes its vectors to disk and reads them back, the others keep them in memory.
Rounds are interleaved, the median counts, and only ratios of one run carry over to another machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.update(TOKENIZERS_PARALLELISM="true", HF_HUB_DISABLE_PROGRESS_BARS="1", TRANSFORMERS_VERBOSITY="error")
sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np

from pipeline import UserError, silent
from pipeline.data import SourceOptions, read_chunks
from pipeline.encoder import Effort, EncoderSpec, locate
from pipeline.encoder.checkpoint import packaged
from pipeline.encoder.hardware import cpu_name, hardware
from pipeline.extract import Extractor
from pipeline.store import keys

RESULTS = Path(__file__).parent / "results"
PEER = "sentence-transformers, torch"
Encode = Callable[[list[str]], np.ndarray]


def base_shaped(folder: Path) -> Path:
    """A checkpoint of distilbert-base-uncased's shape with random weights and a real tokenizer."""
    import torch
    from transformers import DistilBertConfig, DistilBertModel

    torch.manual_seed(0)
    DistilBertModel(DistilBertConfig()).eval().save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
        shutil.copy(packaged() / name, folder / name)
    return folder


# ── who takes part: checkpoint folder → a function from texts to [CLS] vectors (n, d) ───────────────────────────────


def map_recipe(folder: Path) -> Encode:
    """The usual notebook: Dataset.map, padding to the longest of 1,000 rows, torch in float32."""
    import torch
    from datasets import Dataset, disable_progress_bars
    from transformers import AutoModel, AutoTokenizer

    disable_progress_bars()
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder, dtype=torch.float32)

    def vectors(batch: dict[str, list]) -> dict[str, np.ndarray]:
        inputs = {k: torch.tensor(batch[k]) for k in ("input_ids", "attention_mask")}
        with torch.no_grad():
            return {"cls": model(**inputs).last_hidden_state[:, 0].numpy()}

    def encode(texts: list[str]) -> np.ndarray:
        def tokens(batch: dict[str, list]) -> dict:
            return tokenizer(batch["text"], padding=True, truncation=True, max_length=512)

        data = Dataset.from_dict({"text": texts}).map(tokens, batched=True, batch_size=1000, keep_in_memory=True)
        data = data.map(vectors, batched=True, batch_size=100, keep_in_memory=True)
        return np.array(data.with_format("numpy")[:]["cls"])

    return encode


def transformers_pipeline(folder: Path) -> Encode:
    """transformers' own pipeline("feature-extraction"), 32 texts a batch."""
    import torch
    from transformers import pipeline

    extract = pipeline("feature-extraction", model=str(folder), tokenizer=str(folder), dtype=torch.float32)

    def encode(texts: list[str]) -> np.ndarray:
        found = extract(texts, batch_size=32, truncation=True, max_length=512, return_tensors=True)
        return np.stack([row[0, 0].numpy() for row in found])

    return encode


def sentence_transformers(folder: Path, backend: str = "torch") -> Encode:
    """sentence-transformers' encode with [CLS] pooling."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    if backend == "torch":
        word = Transformer(str(folder), max_seq_length=512)
        pool = Pooling(word.get_embedding_dimension(), pooling_mode="cls")
        model = SentenceTransformer(modules=[word, pool], device="cpu")
    else:
        import optimum.intel  # noqa: F401  - what the backend needs; absent, it says so here

        model = SentenceTransformer(str(folder), backend=backend, device="cpu")
    return lambda texts: model.encode(texts, batch_size=32, show_progress_bar=False)


def ours(precision: str) -> Callable[[Path], Encode]:
    """This project: vectors go to a fresh store on disk and are read back from it."""

    def opened(folder: Path) -> Encode:
        spec = EncoderSpec(str(folder), precision=precision)
        checkpoint = locate(spec)
        models = Path(tempfile.mkdtemp())  # the converted model is kept, the vectors are not

        def encode(texts: list[str]) -> np.ndarray:
            rows = [(text,) for text in texts]
            whole = keys(rows)
            extractor = Extractor(checkpoint, spec, Effort(), models, silent, whole)
            started = time.perf_counter()
            done = extractor.run([rows])
            assert extractor.shelf is not None, "there are texts"
            found = extractor.shelf.serve(whole, "cls").vectors
            encode.seconds = time.perf_counter() - started - done.setup_seconds  # type: ignore[attr-defined]
            encode.said = f"{extractor.shelf.choice.engine} {extractor.shelf.choice.precision}"  # type: ignore[attr-defined]
            for store in extractor.shelf.stores.values():
                shutil.rmtree(store.folder)
            return found

        return encode

    return opened


CONTENDERS: dict[str, Callable[[Path], Encode]] = {
    "Dataset.map recipe": map_recipe,
    "transformers pipeline": transformers_pipeline,
    PEER: sentence_transformers,
    "sentence-transformers, OpenVINO": lambda folder: sentence_transformers(folder, "openvino"),
    "ours, fp32": ours("fp32"),
    "ours, bf16": ours("bf16"),
    "ours, auto": ours("auto"),
    "ours, int8": ours("int8"),
}


# ── the run ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def ceiling(precision: str = "f32") -> float:
    """Multiply-adds a second of a matrix product of the encoder's size, all threads (OpenVINO)."""
    import openvino
    from openvino import opset13 as ops

    rows, inner, outer = 2048, 768, 3072
    given = ops.parameter((rows, inner), np.float32)
    product = ops.matmul(given, ops.constant(np.full((inner, outer), 1e-3, np.float32)), False, False)
    compiled = openvino.Core().compile_model(
        openvino.Model([product], [given]), "CPU", {"INFERENCE_PRECISION_HINT": precision}
    )
    request, array, best = compiled.create_infer_request(), np.ones((rows, inner), np.float32), np.inf
    for _ in range(12):
        started = time.perf_counter()
        request.infer([array])
        best = min(best, time.perf_counter() - started)
    return rows * inner * outer / best


def measure(texts: list[str], folder: Path, names: list[str], rounds: int) -> dict[str, dict]:
    """Seconds of each round for each contender that can be set up here."""
    ready: dict[str, Encode] = {}
    table: dict[str, dict] = {}
    for name in names:
        try:
            ready[name] = CONTENDERS[name](folder)
            ready[name](texts[:64])  # what is slow the first time is not what is measured
        except (ImportError, UserError, TypeError, ValueError) as error:
            table[name] = {"skipped": f"{type(error).__name__}: {error}".splitlines()[0][:120]}
    for _ in range(rounds):
        for name, encode in ready.items():
            started = time.perf_counter()
            found = encode(texts)
            spent = getattr(encode, "seconds", time.perf_counter() - started)
            assert found.shape == (len(texts), 768), "a vector a text"
            table.setdefault(name, {"seconds": []})["seconds"].append(spent)
            print(f"  {name}: {len(texts) / spent:,.0f} texts/s", file=sys.stderr, flush=True)
    for name, encode in ready.items():
        table[name] |= {"texts_per_second": len(texts) / statistics.median(table[name]["seconds"])}
        table[name] |= {"ran": getattr(encode, "said", "")}
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="sms-spam", help="source of the texts, as the command line takes it")
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", action="append", default=[], help="part of a contender's name; may be repeated")
    parser.add_argument("--out", type=Path, default=RESULTS / "extract.json")
    wish = parser.parse_args()
    source = SourceOptions(wish.data, rows=f"first:{wish.rows}")
    texts = [text for chunk in read_chunks(source) for (text,) in chunk.texts][: wish.rows]
    texts = list(dict.fromkeys(texts))  # the others pay for repeated texts, which is not the point here
    folder = base_shaped(Path(tempfile.mkdtemp()))
    names = [name for name in CONTENDERS if not wish.only or any(part in name for part in wish.only)]
    table = measure(texts, folder, names, wish.rounds)
    reference = table.get(PEER, {}).get("texts_per_second")
    here = hardware()
    facts = {"data": wish.data, "rows": len(texts), "rounds": wish.rounds, "processor": cpu_name()}
    facts |= {"cores": here.cores, "bf16_pays": here.cpu_bf16, "python": platform.python_version()}
    facts |= {"ceiling_gflops": {hint: 2e-9 * ceiling(hint) for hint in ("f32", "bf16")}}
    print(f"\n{wish.data}: {len(texts)} texts, {facts['processor']}, {here.cores} cores")
    for name, row in table.items():
        if "skipped" in row:
            print(f"{name:34s} not run: {row['skipped']}")
            continue
        row["ratio"] = row["texts_per_second"] / reference if reference else None
        ratio = f"{row['ratio']:5.2f} x" if reference else ""
        print(f"{name:34s} {row['texts_per_second']:8.0f} texts/s {ratio:>9s}  {row['ran']}")
    wish.out.parent.mkdir(parents=True, exist_ok=True)
    wish.out.write_text(json.dumps(facts | {"table": table}, indent=1))
    chart(table, wish.out.with_suffix(".svg"))


def chart(table: dict[str, dict], path: Path) -> None:
    """Bars of texts a second, for the README."""
    import altair as alt

    rows = [{"who": name, "texts/s": row["texts_per_second"]} for name, row in table.items() if "skipped" not in row]
    bars = (
        alt.Chart(alt.Data(values=rows))
        .mark_bar()
        .encode(
            y=alt.Y("who:N", sort=None, title=None, axis=alt.Axis(labelLimit=260)),
            x=alt.X("texts/s:Q", title="texts a second"),
            color=alt.condition("indexof(datum.who, 'ours') == 0", alt.value("#1f6fb2"), alt.value("#b5b9be")),
        )
    )
    bars.properties(width=420).save(str(path))


if __name__ == "__main__":
    main()
