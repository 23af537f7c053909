"""What people use to turn texts into [CLS] vectors, each as a function from texts to an array.

`benchmarks/extract.py` calls them in its own process, or, for what cannot be installed beside our transformers, in a
process of another interpreter, which runs this file and imports nothing of this project:

    OTHER/bin/python benchmarks/extract_peers.py "sentence-transformers, OpenVINO fp32" FOLDER

It reads lines from standard input: first a JSON list of texts, answered by "ready" (or by the reason why not), then a
path for each round, answered by the seconds that it took; the vectors (n, d) are saved there.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Encode = Callable[[list[str]], np.ndarray]


def map_recipe(folder: Path) -> Encode:
    """The usual notebook: Dataset.map, padding to the longest of 1,000 rows, torch in float32."""
    import torch
    from datasets import Dataset, disable_progress_bars
    from transformers import AutoModel, AutoTokenizer

    disable_progress_bars()
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder, dtype=torch.float32)

    def vectors(batch: dict[str, list[Any]]) -> dict[str, np.ndarray]:
        inputs = {k: torch.tensor(batch[k]) for k in ("input_ids", "attention_mask")}
        with torch.no_grad():
            return {"cls": model(**inputs).last_hidden_state[:, 0].numpy()}

    def encode(texts: list[str]) -> np.ndarray:
        def tokens(batch: dict[str, list[Any]]) -> Any:
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


def sentence_transformers(folder: Path, hint: str | None = None, backend: str = "torch") -> Encode:
    """sentence-transformers' encode with [CLS] pooling; `hint` is OpenVINO's precision."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    if backend == "torch":
        word = Transformer(str(folder), max_seq_length=512)
    else:
        import optimum.intel  # noqa: F401  - what the backend needs; absent, it says so here

        ours = {"ov_config": {"INFERENCE_PRECISION_HINT": hint}} if hint else {}
        word = Transformer(
            str(folder), max_seq_length=512, backend=backend, model_args={"export": True, "device": "CPU", **ours}
        )
    pool = Pooling(width_of(folder), pooling_mode="cls")
    model = SentenceTransformer(modules=[word, pool], device="cpu")
    return lambda texts: np.asarray(model.encode(texts, batch_size=32, show_progress_bar=False))


def width_of(folder: Path) -> int:
    return int(json.loads((folder / "config.json").read_text())["dim"])


PEERS: dict[str, Callable[[Path], Encode]] = {
    "Dataset.map recipe": map_recipe,
    "transformers pipeline": transformers_pipeline,
    "sentence-transformers, torch": sentence_transformers,
}
APART: dict[str, Callable[[Path], Encode]] = {  # optimum-intel asks for an older transformers than ours
    "sentence-transformers, OpenVINO fp32": lambda folder: sentence_transformers(folder, "f32", "openvino"),
    "sentence-transformers, OpenVINO as it comes": lambda folder: sentence_transformers(folder, None, "openvino"),
}


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is not an answer
    encode: Encode | None = None
    try:
        encode = (PEERS | APART)[sys.argv[1]](Path(sys.argv[2]))
        texts = json.loads(sys.stdin.readline())
        encode(texts[:64])  # what is slow the first time is not what is measured
    except Exception as error:  # whatever it is, the other side shows it
        print(f"{type(error).__name__}: {error}".splitlines()[0], file=answers)
        return
    print("ready", file=answers)
    for line in sys.stdin:
        started = time.perf_counter()
        found = encode(texts)
        spent = time.perf_counter() - started
        np.save(line.strip(), found)
        print(spent, file=answers)


if __name__ == "__main__":
    os.environ.update(TOKENIZERS_PARALLELISM="true", TRANSFORMERS_VERBOSITY="error", HF_HUB_OFFLINE="1")
    main()
