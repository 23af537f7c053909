"""What each treatment of class imbalance does to scores and calibration, scikit-learn's own search beside it.

    python benchmarks/imbalance.py SOURCE [SOURCE …] [--encoder minilm] [--cache cache]

For every source: `fit-lr` with --imbalance none, balanced, smote and auto on the [CLS] vectors, and scikit-learn's
LogisticRegressionCV on the same standardised vectors and folds (whole decades of C; ours halves them). Scores of the
test split with 95 % intervals (those of `compare`). Prints a table a source and adds it to
benchmarks/results/imbalance.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.lr import searched
from pipeline import silent
from pipeline.data import SourceOptions, read
from pipeline.data.splits import normalize_whitespace
from pipeline.encoder import EncoderSpec, Runtime
from pipeline.extract import Embedded, embed
from pipeline.linear import LinearSettings, fit_lr
from pipeline.linear.folds import equal, split
from pipeline.run import Predictions
from pipeline.task import Task
from pipeline.vectors import TaskVectors
from pipeline.verdict.measure import measure

RESULTS = Path(__file__).parent / "results" / "imbalance.json"
KINDS = ("none", "balanced", "smote", "auto")
SHOWN = ("accuracy", "macro_f1", "log_loss", "ece")


@dataclass(frozen=True)
class Fit:
    """One way to fit, judged on the test split."""

    name: str
    proba: np.ndarray  # (n, k) of the test rows
    C: float
    seconds: float
    notes: tuple[str, ...] = ()


def ours(task: Task, kind: str) -> Fit:
    """`fit-lr --imbalance KIND`."""
    started = time.perf_counter()
    encoded = TaskVectors(task, task.encoders[0]).encoded("cls")
    run = fit_lr(encoded, task.dataset, LinearSettings(imbalance=kind), task.runs)
    C = float(next(point["C"] for point in run.history if point["what"] == "final"))
    return Fit(kind, run.predictions["test"].proba, C, time.perf_counter() - started, run.notes)


def scikit_learn(task: Task, done: Embedded) -> Fit:
    """LogisticRegressionCV on the same standardised vectors and folds, its own lbfgs and whole decades of C."""
    from sklearn.preprocessing import StandardScaler

    data, matrices = task.dataset, done.matrices("cls")
    started = time.perf_counter()
    scaler = StandardScaler().fit(matrices["train"].vectors)
    folds = split(data.train.labels, equal(map(normalize_whitespace, data.train.texts)), data.class_names, 5, task.seed)
    pairs = [(folds.kept(fold), folds.held(fold)) for fold in range(folds.count)]
    model = searched(scaler.transform(matrices["train"].vectors), data.train.labels, pairs)
    proba = model.predict_proba(scaler.transform(matrices["test"].vectors))
    whole = np.zeros((len(proba), len(data.class_names)))
    whole[:, model.classes_] = proba
    return Fit("scikit-learn", whole, float(model.C_), time.perf_counter() - started)


def judge(source: str, encoder: str, cache: Path) -> dict[str, Any]:
    """Every treatment on one source."""
    data = read(SourceOptions(source))
    spec = EncoderSpec(encoder, pooling=("cls",))
    done = embed(data, spec, Runtime(), cache, silent)
    with tempfile.TemporaryDirectory() as runs:
        task = Task(dataset=data, encoders=(spec,), cache=cache, runs=Path(runs))
        fits = [*(ours(task, kind) for kind in KINDS), scikit_learn(task, done)]
    truth = data.splits[data.roles["test"]].labels
    ids = data.splits[data.roles["test"]].row_ids
    judged = [Predictions("test", ids, truth, fit.proba) for fit in fits]
    found = measure(judged, data.class_names, 10_000, 2_000, 0)
    shares = np.bincount(data.train.labels, minlength=len(data.class_names)) / len(data.train.labels)
    record: dict[str, Any] = {"rows": len(data.train.labels), "judged": len(truth), "classes": len(data.class_names)}
    record |= {"rarest_share": float(shares.min()), "most_frequent_share": float(shares.max()), "fits": {}}
    for i, fit in enumerate(fits):
        scores = {m: [float(found.value[m][i]), *map(float, found.interval[m][i])] for m in SHOWN}
        record["fits"][fit.name] = {"C": fit.C, "seconds": fit.seconds, "notes": list(fit.notes), **scores}
    return record


def shown(name: str, record: dict[str, Any]) -> None:
    print(f"\n{name}: {record['rows']:,} rows, {record['classes']} classes, judged on {record['judged']:,}")
    print("| fit | " + " | ".join(metric.replace("_", " ") for metric in SHOWN) + " | C | seconds |")
    print("|---" * (len(SHOWN) + 3) + "|")
    for fit, row in record["fits"].items():
        cells = [f"{row[m][0]:.3f} [{row[m][1]:.3f}, {row[m][2]:.3f}]" for m in SHOWN]
        print(f"| {fit} | {' | '.join(cells)} | {row['C']:g} | {row['seconds']:.1f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", metavar="SOURCE")
    parser.add_argument("--encoder", default="minilm")
    parser.add_argument("--cache", type=Path, default=Path("cache"))
    asked = parser.parse_args()
    for source in asked.sources:
        name = Path(source).name
        record = judge(source, asked.encoder, asked.cache)
        shown(name, record)
        before = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        RESULTS.write_text(json.dumps(before | {name: record}, indent=1))


if __name__ == "__main__":
    main()
