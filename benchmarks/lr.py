"""Choosing C in folds: ours beside scikit-learn's LogisticRegressionCV (lbfgs), on the same grid, folds and data.

    python benchmarks/lr.py                                  # 768 wide; rows 1,000 … 16,000, classes 2 … 77
    python benchmarks/lr.py --rows 500 --classes 2 --repeats 1 --width 64      # seconds
    python benchmarks/lr.py --vectors vectors.npz            # arrays X (n, d) and y (n,) instead of made-up ones

Both are timed from raw vectors to a model refitted on all rows, alternately, and the median of the repeats is shown.
"whole grid" is ours without the early stop, so that the solver and the stop can be judged apart. Made-up vectors have
a spectrum that falls off like 1 / i, as those of encoders do. Writes benchmarks/results/lr.json and lr.svg.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from pipeline.linear.folds import split
from pipeline.linear.search import moments, standardise
from pipeline.linear.solver import SEARCH, Descent, principal_axes, solve
from pipeline.linear.tune import LinearSettings, fit
from pipeline.run import versions

GRID = tuple(float(f"1e{exponent}") for exponent in range(-4, 3))
RESULTS = Path(__file__).parent / "results"


def made_up(rows: int, width: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Vectors (n, d) float32 and labels (n,): classes of unequal size, a weak signal in every direction."""
    rng = np.random.default_rng(seed)
    spread = 1 / np.sqrt(np.arange(1, width + 1))
    share = 1 / np.arange(2, classes + 2)
    truth = rng.choice(classes, rows, p=share / share.sum())
    truth[: 5 * classes] = np.arange(classes).repeat(5)[:rows]  # every class can be split five ways
    inner = rng.normal(size=(rows, width)) + rng.normal(size=(classes, width))[truth] / (0.3 * width) ** 0.5
    mix = np.linalg.qr(rng.normal(size=(width, width)))[0]
    return ((inner * spread) @ mix).astype(np.float32), truth


def searched(rows: np.ndarray, y: np.ndarray, pairs: list[tuple[np.ndarray, np.ndarray]]) -> Any:
    """scikit-learn's search over our grid and folds, fitted to standardised rows (n, d)."""
    from sklearn.linear_model import LogisticRegressionCV

    model = LogisticRegressionCV(
        Cs=list(GRID),
        cv=pairs,
        solver="lbfgs",
        scoring="neg_log_loss",
        l1_ratios=(0.0,),
        use_legacy_attributes=False,
        max_iter=3000,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(rows, y)


def scikit_learn(X: np.ndarray, y: np.ndarray, pairs: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, Any]:
    """C, log loss of each C and seconds of scikit-learn's search."""
    from sklearn.preprocessing import StandardScaler

    started = time.perf_counter()
    model = searched(StandardScaler().fit_transform(X), y, pairs)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "C": float(model.C_), "losses": (-model.scores_.mean(0)).ravel().tolist()}


def ours(X: np.ndarray, y: np.ndarray, pairs: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, Any]:
    """The same of this project, with everything that `fit-lr` does."""
    started = time.perf_counter()
    names = tuple(map(str, range(int(y.max()) + 1)))
    found = fit(X, y, np.arange(len(y)), names, LinearSettings(C=GRID))
    seconds = time.perf_counter() - started
    points = [point for point in found.history if point["what"] == "search"]
    return {
        "seconds": seconds,
        "C": next(point["C"] for point in found.history if point["what"] == "final"),
        "losses": [point["log_loss"] for point in points],
    }


def whole_grid(X: np.ndarray, y: np.ndarray, pairs: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, Any]:
    """Every C in every fold, warm, without a stop and without the last fit."""
    started = time.perf_counter()
    axes, k, start = principal_axes(standardise(X, *moments(X))), int(y.max()) + 1, None
    weights = np.ones((len(pairs), len(y)), np.float32)
    for row, (_, held) in zip(weights, pairs, strict=True):
        row[held] = 0
    for C in GRID:
        start = solve(axes, y, weights, C, k, Descent(start, SEARCH)).stacked
    return {"seconds": time.perf_counter() - started}


WAYS: dict[str, Callable[..., dict[str, Any]]] = {
    "scikit-learn": scikit_learn,
    "ours": ours,
    "ours, whole grid": whole_grid,
}


def measure(X: np.ndarray, y: np.ndarray, repeats: int, ways: list[str], what: str) -> dict[str, Any]:
    """Median seconds of each way, taken in turn, and how far apart their answers are."""
    folds = split(y, np.arange(len(y)), tuple(map(str, range(int(y.max()) + 1))), 5, LinearSettings().seed)
    pairs = [(folds.kept(fold), folds.held(fold)) for fold in range(folds.count)]
    taken: dict[str, list[float]] = {way: [] for way in ways}
    worked: dict[str, list[float]] = {way: [] for way in ways}
    last: dict[str, dict[str, Any]] = {}
    for _ in range(repeats):
        for way in ways:
            before = time.process_time()
            last[way] = WAYS[way](X, y, pairs)
            worked[way].append(time.process_time() - before)
            taken[way].append(last[way]["seconds"])
    record: dict[str, Any] = {"what": what, "rows": len(y), "width": X.shape[1], "classes": int(y.max()) + 1}
    record["seconds"] = {way: median(values) for way, values in taken.items()}
    record["cpu_seconds"] = {way: median(values) for way, values in worked.items()}  # tells a busy machine's story
    record["all_seconds"] = taken
    record["C"] = {way: found["C"] for way, found in last.items() if "C" in found}
    if "scikit-learn" in last and "ours" in last:
        both = zip(last["ours"]["losses"], last["scikit-learn"]["losses"], strict=False)
        record["log_loss_difference"] = max(abs(a - b) for a, b in both)  # over every C that ours visited
        best = GRID.index(last["ours"]["C"])
        record["log_loss_difference_at_C"] = abs(last["ours"]["losses"][best] - last["scikit-learn"]["losses"][best])
        record["ratio"] = record["seconds"]["scikit-learn"] / record["seconds"]["ours"]
        record["cpu_ratio"] = record["cpu_seconds"]["scikit-learn"] / record["cpu_seconds"]["ours"]
    print(line(record), flush=True)
    return record


def line(record: dict[str, Any]) -> str:
    """One row of the table."""
    seconds = record["seconds"]
    shown = [f"{seconds[way]:18.2f}" if way in seconds else f"{'-':>18}" for way in WAYS]
    same = "-"
    if "ratio" in record:
        same = f"{record['ratio']:.1f}x (processor {record['cpu_ratio']:.1f}x), "
        same += f"C {record['C']['ours']:g} / {record['C']['scikit-learn']:g}, "
        same += f"log loss within {record['log_loss_difference_at_C']:.1e} there, "
        same += f"{record['log_loss_difference']:.1e} everywhere"
    return f"{record['rows']:>8,} x {record['width']:<5}{record['classes']:>4} {''.join(shown)}   {same}"


def chart(records: list[dict[str, Any]]) -> Any:
    """Seconds against rows and against classes, both axes logarithmic."""
    import altair as alt

    points = [
        {"axis": r["what"], "size": r[r["what"]], "seconds": seconds, "who": way}
        for r in records
        if r["what"] in ("rows", "classes")
        for way, seconds in r["seconds"].items()
    ]

    def panel(axis: str) -> Any:
        return (
            alt.Chart(alt.Data(values=[p for p in points if p["axis"] == axis]), width=300, height=220)
            .mark_line(point=True)
            .encode(
                x=alt.X("size:Q", title=axis, scale=alt.Scale(type="log")),
                y=alt.Y("seconds:Q", title="seconds", scale=alt.Scale(type="log")),
                color=alt.Color("who:N", title=None, sort=list(WAYS)),
            )
        )

    return alt.hconcat(*(panel(axis) for axis in ("rows", "classes") if any(p["axis"] == axis for p in points)))


def numbers(text: str) -> list[int]:
    return [int(part.replace("_", "")) for part in text.split(",") if part]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=numbers, default=[1000, 4000, 16000], help="1000,100000")
    parser.add_argument("--classes", type=numbers, default=[2, 20, 77], help="2,77")
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--fixed-rows", type=int, default=4000, help="rows while the classes grow")
    parser.add_argument("--fixed-classes", type=int, default=6, help="classes while the rows grow")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--sklearn-up-to", type=int, default=16000, help="rows beyond which only ours runs")
    parser.add_argument("--vectors", type=Path, help="an .npz with X and y instead of made-up vectors")
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    print(f"{'rows':>8} x {'width':<5}{'k':>4} {''.join(f'{way:>18}' for way in WAYS)}   ours against scikit-learn")
    records = []
    if asked.vectors:
        with np.load(asked.vectors, allow_pickle=False) as arrays:
            X, y = arrays["X"].astype(np.float32), arrays["y"].astype(np.int64)
        records.append(measure(X, y, asked.repeats, list(WAYS), asked.vectors.stem))
    else:
        for rows in asked.rows:
            ways = list(WAYS) if rows <= asked.sklearn_up_to else ["ours"]
            data = made_up(rows, asked.width, asked.fixed_classes)
            records.append(measure(*data, asked.repeats, ways, "rows"))
        for classes in asked.classes:
            data = made_up(asked.fixed_rows, asked.width, classes)
            records.append(measure(*data, asked.repeats, list(WAYS), "classes"))
    asked.out.mkdir(parents=True, exist_ok=True)
    name = "lr-vectors" if asked.vectors else "lr"
    machine = {
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "processor": platform.processor(),
        **versions(),
    }
    whole = {"grid": GRID, "folds": 5, "machine": machine, "records": records}
    (asked.out / f"{name}.json").write_text(json.dumps(whole, indent=1), "utf-8")
    if not asked.vectors:
        chart(records).save(asked.out / f"{name}.svg")


if __name__ == "__main__":
    main()
