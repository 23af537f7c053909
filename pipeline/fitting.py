"""What is there already, about how long the rest takes, and what of it fits into a budget of time."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from pipeline import UserError, listed
from pipeline.contenders import CONTENDERS, Task, estimates, tuning_of
from pipeline.encoder.checkpoint import EncoderSpec, locate
from pipeline.finetune import FineTuneSettings, folder_of
from pipeline.run import Run, find, runs_of
from pipeline.verdict.results import duration

UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600}


def seconds_of(text: str) -> float:
    """Seconds of `90s`, `20m`, `1.5h` or `1h30m`.

    Raises ValueError, with what to write, for anything else: a bare number might mean seconds or minutes.
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*(min|s|m|h)", text.strip().lower())
    whole = re.fullmatch(r"(?:\s*\d+(?:\.\d+)?\s*(?:min|s|m|h))+\s*", text.strip().lower())
    if re.fullmatch(r"\s*\d+(\.\d+)?\s*", text):
        raise ValueError(f"seconds, minutes or hours? write {text.strip()}s, {text.strip()}m or {text.strip()}h")
    total = sum(float(number) * UNITS[unit] for number, unit in parts)
    if not whole or not total > 0:
        raise ValueError("no time; write 90s, 20m, 2h or 1h30m")
    return total


@dataclass(frozen=True)
class Estimate:
    """What one contender will take."""

    alone: float  # seconds if nothing of it is there
    missing: float  # share of it that is not there, 0 to 1

    @property
    def seconds(self) -> float:
        return self.alone * self.missing


def remaining(task: Task, names: tuple[str, ...]) -> dict[str, Estimate]:
    """What each contender will take; `extract` first if vectors are missing and one that is not there needs them."""
    alone = estimates(task, names)
    there = runs_of(task.runs, task.dataset.name, task.dataset.digest)
    found = {name: Estimate(alone[name], missing(task, name, there)) for name in names}
    needed = any(found[name].missing and CONTENDERS[name].needs_vectors for name in names)
    return ({"extract": Estimate(alone["extract"], 1.0)} if needed else {}) | found


# ── what is there ───────────────────────────────────────────────────────────────────────────────────────────────────


def missing(task: Task, name: str, there: Sequence[Run]) -> float:
    """Share of a contender's runs that have not been fitted with these settings, 0 to 1."""
    wanted = WANTED.get(name, vector_questions if CONTENDERS[name].needs_vectors else plain_questions)(task, name)
    lacking = [question for question in wanted if not any(question(run) for run in there)]
    return len(lacking) / max(1, len(wanted))


Question = Callable[[Run], bool]  # whether a run is the one that is wanted


def plain_questions(task: Task, name: str) -> list[Question]:
    """Baselines: their kind and seed, and what they were asked."""
    asked = {"C": task.linear[0].C, "folds": task.linear[0].folds} if name == "tfidf" else {}
    return [lambda run: run.kind == name and run.seed == task.seed and holds(run, asked)]


def vector_questions(task: Task, name: str) -> list[Question]:
    """Logistic regressions: one a pooling of each encoder."""
    kind = name.partition("+")[2] or "none"
    asked = asdict(replace(task.linear[0], imbalance=kind, seed=task.seed))
    return [of_pooling(task, name, spec, pooling, asked) for spec in task.encoders for pooling in spec.pooling]


def frozen_questions(task: Task, name: str) -> list[Question]:
    """Heads on vectors: the settings that count for them."""
    asked = {key: getattr(task.tuning, key) for key in ("epochs", "batch_size", "head")}
    several = [replace(task, seed=task.seed + n) for n in range(task.seeds if task.tuning.freeze else 1)]
    return [
        of_pooling(t, name, spec, pooling, asked) for t in several for spec in t.encoders for pooling in spec.pooling
    ]


def of_pooling(task: Task, name: str, spec: EncoderSpec, pooling: str, asked: dict[str, Any]) -> Question:
    checkpoint = locate(spec)
    own = {checkpoint.checkpoint_digest(p) for p in (("cls", "mean", "cls+mean") if pooling == "auto" else (pooling,))}
    asked = asked | {"pooling": pooling, "max_length": checkpoint.max_length}
    return lambda run: run.kind == name and run.seed == task.seed and run.checkpoint_digest in own and holds(run, asked)


def tuned_questions(task: Task, name: str) -> list[Question]:
    """Trainings: one a seed of each encoder; those after the first take the learning rate that it chose."""
    found = []
    if name == "from-scratch":
        task = replace(task, tuning=replace(task.tuning, from_scratch=True, freeze=False))
    for spec in task.encoders:
        settings: FineTuneSettings = tuning_of(task, spec)
        first = folder_of(settings, task.dataset, locate(spec), task.runs)
        folders, run = [first], find(first) if task.seeds > 1 else None
        for number in range(1, task.seeds):
            rate = run.settings["chosen"]["learning_rate"] if run else settings.learning_rate
            again = replace(settings, seed=settings.seed + number, learning_rate=rate)
            folders.append(folder_of(again, task.dataset, locate(spec), task.runs))
        found += [at(folder) for folder in folders]
    return found


def at(folder: Any) -> Question:
    return lambda run: run.folder is not None and run.folder.resolve() == folder.resolve()


def holds(run: Run, asked: dict[str, Any]) -> bool:
    """Whether a run's record says all that was asked."""
    return all(run.settings.get(key) == (list(v) if isinstance(v, tuple) else v) for key, v in asked.items())


WANTED: dict[str, Callable[[Task, str], list[Question]]] = {
    "frozen-head": frozen_questions,
    "fine-tune": tuned_questions,
    "from-scratch": tuned_questions,
}


# ── a budget ────────────────────────────────────────────────────────────────────────────────────────────────────────


def within(prospects: dict[str, Estimate], budget: float) -> tuple[list[str], dict[str, str]]:
    """Contenders that fit into `budget` seconds together, the quickest first, and why each of the others does not.

    Extraction is paid by the first that needs vectors. Raises UserError if nothing fits.
    """
    extract = prospects["extract"].seconds if "extract" in prospects else 0.0
    names = [name for name in prospects if name != "extract"]
    taken: list[str] = []
    left_out: dict[str, str] = {}
    spent, extracted = 0.0, False
    for name in sorted(names, key=lambda name: price(name, prospects, extract)):
        own = price(name, prospects, 0.0 if extracted else extract)
        if spent + own > budget:
            rest = f"{duration(budget - spent)} of {duration(budget)} are left"
            left_out[name] = f"{name}: takes about {duration(own)}, {rest}"
            continue
        taken.append(name)
        spent += own
        extracted = extracted or needs_extraction(name, prospects)
    if not taken:
        least = min(price(name, prospects, extract) for name in names)
        raise UserError(
            f"nothing of {listed(names)} fits into {duration(budget)}; the quickest takes about {duration(least)}: "
            "pass a larger --budget"
        )
    return taken, left_out


def needs_extraction(name: str, prospects: dict[str, Estimate]) -> bool:
    return CONTENDERS[name].needs_vectors and prospects[name].missing > 0


def price(name: str, prospects: dict[str, Estimate], extract: float) -> float:
    """Seconds of one contender, with those of extraction if it needs vectors."""
    return prospects[name].seconds + (extract if needs_extraction(name, prospects) else 0.0)


def remedy(task: Task, name: str, seconds: float) -> str:
    """How fine-tuning would fit into `seconds`: shorter, at a learning rate not searched for; "" if it would not."""
    if name not in ("fine-tune", "from-scratch") or task.tuning.freeze:
        return ""
    rate = task.tuning.learning_rate or (1e-4 if name == "fine-tune" else 3e-4)
    for epochs in range(task.tuning.epochs, 0, -1):
        shorter = replace(task, tuning=replace(task.tuning, epochs=epochs, learning_rate=rate), seeds=1)
        needed = estimates(shorter, (name,))[name]
        if needed <= seconds:
            once = " --seeds 1" if task.seeds > 1 else ""
            return f"--epochs {epochs} --learning-rate {rate:g}{once} would take about {duration(needed)}"
    return ""
