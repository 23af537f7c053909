"""Small tables on disk for the tests of reading, and what reading them gives."""

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import UserError
from pipeline.data import Dataset, SourceOptions, read

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared" / "data"
GOOD = ["happy", "love", "great", "win", "joy"]
BAD = ["boring", "hate", "sad", "angry", "fear"]


def rows(count: int, classes: str = "ab", start: int = 0) -> list[tuple[str, str]]:
    """t0 a, t1 b, t2 a, ..."""
    return [(f"t{i}", classes[i % len(classes)]) for i in range(start, start + count)]


def write_csv(path: Path, table, header=("text", "label")) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *table])
    return path


def write_jsonl(path: Path, objects) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in objects), "utf-8")
    return path


def write_parquet(path: Path, metadata=None, **columns) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns)
    pq.write_table(table.replace_schema_metadata(metadata) if metadata else table, path)
    return path


def load(source, allow_one_class: bool = False, **options) -> Dataset:
    return read(SourceOptions(str(source), **options), allow_one_class=allow_one_class)


def names_of(dataset: Dataset, split: str) -> list[str]:
    return [dataset.class_names[i] for i in dataset.splits[split].labels]


def all_rows(dataset: Dataset) -> dict[str, tuple[tuple[str, ...], str]]:
    """Row id → text and class name, over all splits."""
    return {
        row_id: (text, dataset.class_names[label])
        for split in dataset.splits.values()
        for row_id, text, label in zip(split.row_ids.tolist(), split.texts, split.labels, strict=True)
    }


def refused(source, **options) -> str:
    with pytest.raises(UserError) as caught:
        load(source, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def folder(home: Path, **tables) -> Path:
    for name, table in tables.items():
        write_csv(home / f"{name}.csv", table)
    return home


# ── reviews with two classes, for commands ──────────────────────────────────────────────────────────────────────────


def sentences(count, seed=0):
    """Rows of (text, label) whose label can be read off one word."""
    random = np.random.default_rng(seed)
    rows = []
    for i in range(count):
        words = random.choice(["the", "film", "people", "call", "now", "day", "story"], random.integers(2, 12)).tolist()
        words.insert(int(random.integers(len(words))), str(random.choice(GOOD if i % 3 else BAD)))
        rows.append((" ".join(words) + f" {i}", "good" if i % 3 else "bad"))
    return rows


def names(reviews):
    return [reviews, "--text", "body", "--label", "verdict"]
