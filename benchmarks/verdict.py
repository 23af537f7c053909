"""Is the verdict honest? Simulated pairs with a known truth: coverage, falsely "better", power.

    python benchmarks/verdict.py [--repeats 2000] [--draws 1000] [--quick] [--parts pairs,recommendation,worlds,text]

Each case is a population of rows with two contenders. Where both are drawn alike they are exchangeable, and "better"
or "worse" is false; where b is worse by a known gap, "better" is the power. Coverage is the share of 95 % intervals
that hold the population's value. Prints a table and writes benchmarks/results/verdict.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent))

import advice

from pipeline.metrics import METRICS as TABLE
from pipeline.verdict import bootstrap
from pipeline.verdict import statistics as st
from pipeline.verdict.measure import interval_of

METRICS = ("accuracy", "macro_f1")
ROWS = (100, 500, 2000)
RESULTS = Path(__file__).parent / "results" / "verdict.json"


@dataclass(frozen=True)
class Case:
    """A population: how frequent the classes are, how often each is recognised, how alike two contenders err."""

    name: str
    prior: tuple[float, ...]  # (k,)
    recall: tuple[float, ...]  # (k,) of contender a
    alike: float = 0.6  # share of rows that are equally hard for both
    gap: float = 0.0  # how much lower every recall of contender b is


RARE = (0.335, 0.29, 0.16, 0.13, 0.055, 0.03)  # six classes, as uneven as those of emotion
CASES = (
    Case("two even classes, 90 %", (0.5, 0.5), (0.9, 0.9)),
    Case("two classes 87:13, 95 %", (0.87, 0.13), (0.97, 0.82)),
    Case("six classes, one of 3 %, 88 %", RARE, (0.93, 0.9, 0.88, 0.87, 0.8, 0.7)),
    Case("six classes, one of 3 %, 62 %", RARE, (0.75, 0.7, 0.5, 0.5, 0.3, 0.2)),
    Case("20 even classes, 85 %", (0.05,) * 20, tuple(np.linspace(0.72, 0.98, 20))),
)
POWER = tuple(Case(f"six classes, 88 %, gap {g:.0%}", RARE, CASES[2].recall, 0.6, g) for g in (0.02, 0.05, 0.1))


def draw(case: Case, rows: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Truth (n,) and predictions (2, n) of a sample; half of the common mistakes are the same mistake."""
    k = len(case.prior)
    truth = rng.choice(k, rows, p=case.prior)
    recall = np.array(case.recall)
    hard_a = rng.random(rows)
    hard_b = np.where(rng.random(rows) < case.alike, hard_a, rng.random(rows))
    wrong_a, other = (truth + rng.integers(1, k, rows)) % k, (truth + rng.integers(1, k, rows)) % k
    wrong_b = np.where(rng.random(rows) < 0.5, wrong_a, other)
    a = np.where(hard_a < recall[truth], truth, wrong_a)
    b = np.where(hard_b < (recall - case.gap)[truth], truth, wrong_b)
    return truth, np.array([a, b])


def population(case: Case, metric: str) -> np.ndarray:
    """The metric (2,) of both contenders on the whole population."""
    prior, values = np.array(case.prior), []
    for recall in (np.array(case.recall), np.array(case.recall) - case.gap):
        hit, miss = prior * recall, prior * (1 - recall)
        said = hit + (miss.sum() - miss) / (len(prior) - 1)
        values.append(float(TABLE[metric].counts(hit, said, prior)))  # type: ignore[misc]
    return np.array(values)


def sample_metric(table: st.Outcomes, metric: str) -> np.ndarray:
    """The metric (2,) of a sample."""
    true = np.bincount(table.truth, table.rows, table.classes)
    sums = [
        (np.bincount(p, table.rows * (p == table.truth), table.classes), np.bincount(p, table.rows, table.classes))
        for p in table.predicted
    ]
    return np.array([float(TABLE[metric].counts(hit.astype(float), predicted, true)) for hit, predicted in sums])  # type: ignore[misc]


def simulate(
    case: Case, rows: int, repeats: int, draws: int, seed: int = 0, margin: float = 0.01
) -> list[dict[str, Any]]:
    """One record a metric: coverage of a's interval and of the difference's, and how often each verdict fell."""
    rng = np.random.default_rng([seed, rows])
    records = {m: {"held": 0, "held_difference": 0, "width": 0.0, "percentile": 0, "p": 0} for m in METRICS}
    verdicts = {m: dict.fromkeys(("better", "worse", "equivalent", "undecided"), 0) for m in METRICS}
    true = {m: population(case, m) for m in METRICS}
    for _ in range(repeats):
        truth, predicted = draw(case, rows, rng)
        table = st.outcomes(truth, predicted, len(case.prior))
        own, apart = bootstrap.counts(table, METRICS, draws, rng)
        for i, m in enumerate(METRICS):
            gain = float(np.subtract(*sample_metric(table, m)))
            low, high = bootstrap.interval(own[i, 0])
            wide, narrow = bootstrap.interval(apart[i, 0], 0.95), bootstrap.interval(apart[i, 0], 0.90)
            if m == "accuracy":
                right = predicted == truth
                p = st.mcnemar(int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum()))
            else:
                p = st.permute_counts(m, table, draws, rng)
            gap = true[m][0] - true[m][1]
            records[m]["held"] += low - 1e-12 <= true[m][0] <= high + 1e-12
            records[m]["held_difference"] += wide[0] - 1e-12 <= gap <= wide[1] + 1e-12
            records[m]["width"] += wide[1] - wide[0]
            records[m]["percentile"] += wide[0] > 0 or wide[1] < 0
            records[m]["p"] += p < 0.05
            verdicts[m][st.judge(gain, wide, narrow, p, margin)] += 1
    return [
        {
            "case": case.name,
            "gap": case.gap,
            "rows": rows,
            "metric": m,
            "repeats": repeats,
            "draws": draws,
            "true_value": float(true[m][0]),
            "true_difference": float(true[m][0] - true[m][1]),
            "coverage": float(records[m]["held"] / repeats),
            "coverage_difference": float(records[m]["held_difference"] / repeats),
            "mean_width": float(records[m]["width"] / repeats),
            "interval_excludes_0": float(records[m]["percentile"] / repeats),
            "p_below_0.05": float(records[m]["p"] / repeats),
            **{verdict: count / repeats for verdict, count in verdicts[m].items()},
        }
        for m in METRICS
    ]


LOSSES = (
    ("four classes, 96 %", 3.0, 1.0),
    ("six classes, 76 %", 2.0, 1.0),
    ("six classes, 76 %, overconfident", 2.0, 0.5),
)


LOSS_METRICS = ["log_loss", "brier", "ece"]
RANKS = (  # share of the second class, by how much its scores are higher (in standard deviations)
    ("half, ROC area 0.80", 0.5, 1.19),
    ("half, ROC area 0.99", 0.5, 3.29),
    ("one in twenty, ROC area 0.80", 0.05, 1.19),
    ("one in twenty, ROC area 0.95", 0.05, 2.33),
    ("one in twenty, ROC area 0.99", 0.05, 3.29),
)
Draw = Callable[[int, np.random.Generator], tuple[np.ndarray, list[np.ndarray]]]


def draw_losses(
    signal: float, sharp: float, rows: int, rng: np.random.Generator, k: int
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Truth (n,) and probabilities (n, k) of two exchangeable contenders: calibrated if `sharp` is 1, else too sure."""
    truth, shared = rng.integers(0, k, rows), rng.normal(size=(rows, k))
    probas = []
    for _ in range(2):
        z = 0.8 * shared + 0.6 * rng.normal(size=(rows, k))
        z[np.arange(rows), truth] += signal
        z = signal / sharp * (z - z.max(1, keepdims=True))
        probas.append(np.exp(z) / np.exp(z).sum(1, keepdims=True))
    return truth, probas


def draw_ranks(
    positive: float, separation: float, rows: int, rng: np.random.Generator
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Two classes, a share of them `positive`, told apart by two normal scores that agree as models do (0.8)."""
    truth = np.zeros(rows, np.int64)
    truth[rng.random(rows) < positive] = 1
    truth[:2] = (0, 1)
    shared = rng.normal(size=rows)
    scores = [0.8 * shared + 0.6 * rng.normal(size=rows) + separation * truth for _ in range(2)]
    second = [1 / (1 + np.exp(-score)) for score in scores]
    return truth, [np.stack([1 - p, p], axis=1) for p in second]


def simulate_rows(
    name: str, draw: Draw, names: list[str], rows: int, repeats: int, draws: int, seed: int = 0
) -> list[dict[str, Any]]:
    """The same for metrics of rows, of the exchangeable contenders that `draw` gives for a number of rows."""
    rng = np.random.default_rng([seed, rows, 7])
    truth, probas = draw(400_000, rng)
    true = [float(TABLE[m].combine(TABLE[m].rows(truth, probas[0]).mean(0))) for m in names]  # type: ignore[misc]
    held, apart_held, false = np.zeros((3, len(names)))
    for _ in range(repeats):
        truth, probas = draw(rows, rng)
        own, apart = bootstrap.rows(names, truth, probas, draws, rng)
        for i, m in enumerate(names):
            terms = [TABLE[m].rows(truth, p) for p in probas]  # type: ignore[misc]
            value = float(TABLE[m].combine(terms[0].mean(0)))
            low, high = interval_of(TABLE[m], value, own[i, 0], (truth, probas[0]), rng)
            wide = bootstrap.interval(apart[i, 0])
            held[i] += low <= true[i] <= high
            apart_held[i] += wide[0] <= 0 <= wide[1]
            p = st.permute_rows(m, terms[0], terms[1], min(draws, 500), rng)
            false[i] += p < 0.05 and not wide[0] <= 0 <= wide[1]
    return [
        {
            "case": name,
            "gap": 0.0,
            "rows": rows,
            "metric": m,
            "repeats": repeats,
            "draws": draws,
            "true_value": float(true[i]),
            "coverage": float(held[i] / repeats),
            "coverage_difference": float(apart_held[i] / repeats),
            "better_or_worse": float(false[i] / repeats),
        }
        for i, m in enumerate(names)
    ]


def line(record: dict[str, Any]) -> str:
    """One row of the printed table, in percent."""
    called = record.get("better_or_worse", record.get("better", 0) + record.get("worse", 0))
    kind = "power" if record["gap"] else "false"
    return (
        f"{record['case']:34s} {record['rows']:5d} {record['metric']:17s} coverage {100 * record['coverage']:5.1f} "
        f"of difference {100 * record['coverage_difference']:5.1f}  {kind} {100 * called:5.1f}"
    )


def pairs(repeats: int, draws: int) -> Iterator[dict[str, Any]]:
    """One record for each case, number of rows and metric."""
    for case in (*CASES, *POWER):
        for rows in ROWS:
            yield from simulate(case, rows, repeats, draws)
    fewer = max(100, repeats // 4)
    for name, signal, sharp in LOSSES:
        for rows in ROWS:
            draw = partial(draw_losses, signal, sharp, k=4 if name.startswith("four") else 6)
            yield from simulate_rows(name, draw, LOSS_METRICS, rows, fewer, draws)
    for name, positive, separation in RANKS:
        for rows in ROWS:
            draw, metrics = partial(draw_ranks, positive, separation), ["roc_auc", "average_precision"]
            yield from simulate_rows(name, draw, metrics, rows, fewer, draws)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=2000)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--quick", action="store_true", help="200 repeats")
    parser.add_argument("--parts", default="pairs,recommendation,worlds", help="what is run; text wants --vectors")
    parser.add_argument("--vectors", type=Path, help="folder of .npz files, each with X, y, texts and k of a set")
    parser.add_argument("--subsets", type=int, default=30, help="draws of a subset of each set")
    options = parser.parse_args()
    repeats = 200 if options.quick else options.repeats
    pools = [advice.Pool.load(path) for path in sorted(options.vectors.glob("*.npz"))] if options.vectors else []
    records = {
        "pairs": lambda: pairs(repeats, options.draws),
        "recommendation": lambda: advice.recommendations(
            (30, 60, 100, 200, 500, 1000, 2000), max(100, repeats // 10), 300
        ),
        "worlds": lambda: advice.worlds((100, 300, 1000), max(100, repeats // 4)),
        "text": lambda: advice.text(pools, (100, 300, 1000), options.subsets),
    }
    start = time.perf_counter()
    for part in options.parts.split(","):
        gathered = []
        for record in records[part]():
            gathered.append(record)
            print(line(record) if part == "pairs" else advice.line(record), flush=True)
        path = RESULTS if part == "pairs" else RESULTS.with_name(f"verdict-{part}.json")
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(gathered, indent=1) + "\n", "utf-8")
        print(f"{part}: {len(gathered)} rows after {time.perf_counter() - start:.0f} s -> {path}")


if __name__ == "__main__":
    main()
