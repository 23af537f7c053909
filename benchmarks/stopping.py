"""How often --stop-hopeless ends a training that would have won, and what it saves.

    python benchmarks/stopping.py simulate [--worlds 40000]
    python benchmarks/stopping.py real FOLDER… [--seeds 3] [--rows 300]   # of ../shared/data, or your own

Simulated: rows of known difficulty, a cheap contender and a training that agree on them more or less, curves of several
shapes (flattening, still at chance for up to half of the steps, wandering), and so the true accuracy that a training
would have reached. It would have won if that is more than the margin above the cheap contender's. Real: small
fits of the last layers to their end, each with its looks at validation, so that the rule is replayed; one would have
won if it is ahead by more than the margin on test rows. Writes benchmarks/results/stopping.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from pipeline.contenders import fits_of
from pipeline.data import SourceOptions, read
from pipeline.encoder.checkpoint import EncoderSpec
from pipeline.finetune import FineTuneSettings
from pipeline.finetune.hopeless import Bar, Look, guessing
from pipeline.run import Predictions
from pipeline.task import Task

RESULTS = Path(__file__).parent / "results" / "stopping.json"
MARGIN = 0.01
CHEAP = ("tfidf", "lr", "stack")
NONE = Bar("cheap", "", Predictions("", np.empty(0, str), np.empty(0, np.int64), np.empty((0, 2))), "accuracy", MARGIN)


def ended_at(looks: list[Look], guess: float) -> float | None:
    """The share of its steps after which a training with these looks is ended; None: it goes to its end.

    `guess`: how far ahead of the cheap contender a constant answer is.
    """
    bar = replace(NONE, guessing=guess)
    return next((one.share for i, one in enumerate(looks) if bar.ended(looks[: i + 1])), None)


# ── simulated ───────────────────────────────────────────────────────────────────────────────────────────────────────


def curve(shares: np.ndarray, start: float, end: float, random: np.random.Generator) -> tuple[str, np.ndarray]:
    """True accuracies (l,) after `shares` (l,) of the steps, from `start` to about `end`, and what they look like.

    `start` is what guessing reaches; before the first step the head, which is random, is below that.
    """
    shape = str(random.choice(["flattening", "late", "wandering"], p=[0.6, 0.2, 0.2]))
    if shape == "late":  # at chance, then a steep rise
        middle, width = random.uniform(0.1, 0.6), random.uniform(0.02, 0.1)
        part = 1 / (1 + np.exp(-(shares - middle) / width))
    else:
        speed = random.uniform(2, 15)
        part = (1 - np.exp(-speed * shares)) / (1 - np.exp(-speed))
    wander = 0.0 if shape != "wandering" else random.normal(0, 0.01, len(shares)).cumsum() * (1 - shares)
    truth = start + (end - start) * part + wander
    truth[0] *= random.uniform(0.3, 1)
    return shape, np.clip(truth, 0.01, 0.995)


def world(random: np.random.Generator) -> dict[str, Any]:
    """One training beside a cheap contender: what would have come of it, and where the rule ends it."""
    from scipy.stats import norm

    rows, looks = int(random.choice([100, 300, 600, 2000])), int(random.choice([8, 9, 12, 25]))
    cheap, gain = random.uniform(0.6, 0.98), random.normal(0, 0.04)
    end = float(np.clip(cheap + gain, 0.05, 0.995))
    shares = np.arange(looks + 1) / looks
    start = random.uniform(0.05, 0.95) * cheap
    shape, truth = curve(shares, start, end, random)
    alike, steady = random.uniform(0.4, 0.9), random.uniform(0.5, 0.95)  # correlations of rows' latent difficulty
    hard, of_cheap, of_fit = random.normal(size=(3, rows))
    wrong_cheap = alike * hard + np.sqrt(1 - alike**2) * of_cheap > norm.ppf(cheap)
    seen = []
    for share, accuracy in zip(shares, truth, strict=True):
        own = steady * of_fit + np.sqrt(1 - steady**2) * random.normal(size=rows)
        wrong = alike * hard + np.sqrt(1 - alike**2) * own > norm.ppf(accuracy)
        ahead = wrong_cheap.astype(float) - wrong
        seen.append(Look(float(share), float(ahead.mean()), float(np.sqrt(ahead.var() / rows + 2 / rows**2))))
    final = float(truth[-1])
    return {"rows": rows, "looks": looks, "shape": shape, "gain": final - cheap, "ended": ended_at(seen, start - cheap)}


def summary(worlds: list[dict[str, Any]]) -> dict[str, Any]:
    """Shares of the winners that were ended and of the others that were, and what part of all steps was saved."""
    won = [one for one in worlds if one["gain"] > MARGIN]
    lost = [one for one in worlds if one["gain"] <= MARGIN]
    stopped = [[one["ended"] for one in part if one["ended"] is not None] for part in (won, lost)]
    return {
        "trainings": len(worlds),
        "would_have_won": len(won),
        "falsely_ended": len(stopped[0]) / max(1, len(won)),
        "rightly_ended": len(stopped[1]) / max(1, len(lost)),
        "steps_saved_of_those_that_lose": sum(1 - share for share in stopped[1]) / max(1, len(lost)),
    }


def simulate(worlds: int, seed: int = 0) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    drawn = [world(random) for _ in range(worlds)]
    cells = {
        f"{name} {value}": summary([one for one in drawn if one[name] == value])
        for name in ("rows", "looks", "shape")
        for value in sorted({one[name] for one in drawn})
    }
    return {"all": summary(drawn)} | cells


# ── real ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def real(source: Path, seed: int, kind: str, rows: int, folder: Path) -> dict[str, Any]:
    """A fit to its end beside the best cheap contender on validation, with every look that the rule could have had."""
    tuning = FineTuneSettings(epochs=8, learning_rate=1e-4)
    spec, data = EncoderSpec("minilm", max_length=64), read(SourceOptions(str(source), limit=str(rows), seed=seed))
    task = Task(data, (spec,), tuning=tuning, cache=folder / "cache", runs=folder / "runs", seed=seed)
    for name in CHEAP:
        for fit in fits_of(task, name):
            fit.run()
    taken: list[list[Look]] = []
    whole = Bar.ended
    try:
        Bar.ended = lambda self, looks: taken.append(list(looks))  # type: ignore[method-assign]
        (fit,) = fits_of(replace(task, held_against=(CHEAP, "accuracy", MARGIN)), kind)
        run = replace(fit, after=None).run()
    finally:
        Bar.ended = whole  # type: ignore[method-assign]
    cheap = [fit.run() for name in CHEAP for fit in fits_of(task, name)]
    best = max(cheap, key=lambda one: one.metrics["validation"]["accuracy"])
    guess = guessing(best.predictions["validation"], "accuracy")
    gain = run.metrics["test"]["accuracy"] - best.metrics["test"]["accuracy"]
    looks = [[round(value, 5) for value in astuple(look)] for look in taken[-1]]
    facts = {"source": source.name, "seed": seed, "kind": kind, "against": best.kind}
    return facts | {"gain": gain, "guess": guess, "looks": looks}


def replayed(fits: list[dict[str, Any]]) -> dict[str, Any]:
    ends = [
        {"gain": one["gain"], "ended": ended_at([Look(*look) for look in one["looks"]], one["guess"])} for one in fits
    ]
    return summary(ends)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["simulate", "real", "replay"])
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--worlds", type=int, default=40_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=300)
    options = parser.parse_args()
    found = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {"simulated": {}, "real": {}, "fits": []}
    if options.what == "simulate":
        found["simulated"] = simulate(options.worlds)
    done = {(one["source"], one["seed"], one["kind"]) for one in found["fits"]}
    kinds = ("fine-tune+last-1", "fine-tune+last-2")
    wanted = [(source, seed, kind) for seed in range(options.seeds) for source in options.folders for kind in kinds]
    with tempfile.TemporaryDirectory() as folder:
        for source, seed, kind in wanted:
            if (source.name, seed, kind) not in done:
                found["fits"].append(real(source, seed, kind, options.rows, Path(folder)))
                RESULTS.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    found["real"] = replayed(found["fits"])
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    for name, part in {"real": found["real"], **found["simulated"]}.items():
        print(f"{name:<16}", {k: round(v, 3) for k, v in part.items()})


if __name__ == "__main__":
    main()
