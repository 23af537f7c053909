"""Finding wrong labels: labels of train are replaced, then ranked, called and counted by `audit`.

    python benchmarks/audit.py --data ../shared/data/emotion --seeds 5        # about 2 minutes a seed
    python benchmarks/audit.py --rows 1000 --seeds 1                          # the bundled sample, seconds

For each seed a share of train's labels is replaced by another class, drawn uniformly or always the next one (`--to`);
TF-IDF and logistic regression on [CLS] (and [CLS] + mean) vectors are fitted in folds on what is left, and the ranking
of `audit` is scored by average precision and the area under the ROC curve: flipped rows are the ones to find.
Beside it every contender's plain
self-confidence (what the usual tools rank by). Rows that the data set itself labels wrongly count as mistakes, so that
1.0 cannot be reached. The interval is Student's over the seeds. Writes benchmarks/results/audit.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from pipeline import silent
from pipeline.audit.confident import suspect
from pipeline.data import Dataset, SourceOptions, read
from pipeline.encoder import EncoderSpec, Runtime
from pipeline.extract import embed
from pipeline.linear.folds import equal
from pipeline.linear.tune import LinearSettings
from pipeline.linear.tune import fit as fit_lr
from pipeline.run import versions
from pipeline.tfidf import TfidfSettings
from pipeline.tfidf import fit as fit_tfidf

RESULTS = Path(__file__).parent / "results"


def flipped(labels: np.ndarray, classes: int, share: float, seed: int, to: str) -> tuple[np.ndarray, np.ndarray]:
    """Labels (n,) of which `share` are another class, and which ones (n,) bool."""
    rng, wrong = np.random.default_rng(seed), np.zeros(len(labels), bool)
    wrong[rng.choice(len(labels), round(share * len(labels)), replace=False)] = True
    noisy = labels.copy()
    noisy[wrong] = (labels[wrong] + (rng.integers(1, classes, int(wrong.sum())) if to == "any" else 1)) % classes
    return noisy, wrong


def average_precision(wanted: np.ndarray, score: np.ndarray) -> float:
    """Mean precision at each wanted row (n,) bool, the highest score first."""
    hits = wanted[np.argsort(-score, kind="stable")]
    return float((np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits].mean())


def ranked(labels: np.ndarray, wrong: np.ndarray, probas: dict[str, np.ndarray]) -> dict[str, float]:
    """Average precision of every way to rank: probabilities (n, k) by contender."""
    rows = np.arange(len(labels))

    found = {f"self-confidence of {name}": average_precision(wrong, -p[rows, labels]) for name, p in probas.items()}
    both = {
        "audit, as it comes (tfidf, lr)": ["tfidf", "lr cls"],
        "audit, --pooling cls+mean": ["tfidf", "lr cls+mean"],
    }
    for what, names in both.items():
        found[what] = average_precision(wrong, suspect(labels, [probas[name] for name in names]).score)
    return found


def called(labels: np.ndarray, wrong: np.ndarray, probas: dict[str, np.ndarray]) -> dict[str, float]:
    """How `audit` ranks, calls and counts, as it comes; beside it the best of self-confidence and margin."""
    from sklearn.metrics import roc_auc_score

    rows, two = np.arange(len(labels)), [probas["tfidf"], probas["lr cls"]]
    found, plain = suspect(labels, two), []
    for proba in (*two, (two[0] + two[1]) / 2):
        others = proba.copy()
        others[rows, labels] = -1
        plain += [-proba[rows, labels], others.max(1) - proba[rows, labels]]
    return {
        "auc": float(roc_auc_score(wrong, found.score)),
        "best plain auc": max(float(roc_auc_score(wrong, score)) for score in plain),
        "called": int(found.confident.sum()),
        "flipped among the called": int(wrong[found.confident].sum()),
        **{name: getattr(found, name) * len(labels) for name in ("rate", "low", "high")},
    }


def probabilities(data: Dataset, labels: np.ndarray, vectors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Out-of-fold probabilities (n, k) of each contender, fitted on `labels` (n,)."""
    texts, names = data.train.texts, data.class_names
    found = {"tfidf": fit_tfidf(texts, labels, names, TfidfSettings()).proba.astype(np.float64)}
    groups = equal(texts)
    for pooling, own in vectors.items():
        found[f"lr {pooling}"] = fit_lr(own, labels, groups, names, LinearSettings()).proba.astype(np.float64)
    return found


def interval(values: list[float]) -> list[float] | None:
    """95 % interval of the mean over seeds, None for fewer than two."""
    from scipy.stats import t

    if len(values) < 2:
        return None
    half = float(t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5)
    return [mean(values) - half, mean(values) + half]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="sms-spam")
    parser.add_argument("--encoder", default="minilm")
    parser.add_argument("--cache", type=Path, default=Path("cache"))
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--to", choices=("any", "next"), default="any", help="which class a flipped label names")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rows", type=int, help="only so many of each split")
    parser.add_argument("--out", type=Path, default=RESULTS / "audit.json")
    given = parser.parse_args()
    data = read(SourceOptions(given.data, limit=str(given.rows) if given.rows else None))
    spec = EncoderSpec(given.encoder, pooling=("cls", "mean"))
    done = embed(data, spec, Runtime(), given.cache, silent)
    vectors = {name: done.matrix(data.roles["train"], name).vectors for name in ("cls", "cls+mean")}
    labels = np.asarray(data.train.labels, np.int64)
    by_seed: list[dict[str, Any]] = []
    for seed in range(given.seeds):
        started = time.perf_counter()
        noisy, wrong = flipped(labels, len(data.class_names), given.share, seed, given.to)
        probas = probabilities(data, noisy, vectors)
        found, calls = ranked(noisy, wrong, probas), called(noisy, wrong, probas)
        by_seed.append({"seed": seed, "flipped": int(wrong.sum()), "average_precision": found, "called": calls})
        print(f"seed {seed}, {time.perf_counter() - started:.0f} s:")
        for what, value in found.items():
            print(f"  {value:.4f}  {what}", flush=True)
        print("  " + ", ".join(f"{what} {value:.4g}" for what, value in calls.items()), flush=True)
        ways = {what: [one["average_precision"][what] for one in by_seed] for what in found}
        record = {
            "data": data.name,
            "rows": len(labels),
            "share": given.share,
            "encoder": given.encoder,
            "average_precision": {what: {"mean": mean(v), "interval": interval(v)} for what, v in ways.items()},
            "seeds": by_seed,
            "versions": versions(),
        }
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps(record, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
