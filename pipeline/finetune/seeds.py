"""Several seeds of one fit: mean, spread and best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..run import Run


@dataclass(frozen=True)
class Seeds:
    """The same training with several seeds."""

    runs: tuple[Run, ...]
    best: Run  # by validation macro F1, never by test
    mean: dict[str, dict[str, float]]  # role → metric → mean
    spread: dict[str, dict[str, float]]  # role → metric → standard deviation (n - 1)

    def to_json(self) -> dict[str, Any]:
        runs = [str(run.folder) for run in self.runs]
        return {"runs": runs, "best": str(self.best.folder), "mean": self.mean, "spread": self.spread}


def several_seeds(runs: Sequence[Run]) -> list[Seeds]:
    """Runs of one encoder and settings together, where there is more than one seed of them."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(f"{run.kind} {run.checkpoint_digest} {run.settings.get('pooling')}", []).append(run)
    return [summary(group) for group in groups.values() if len({run.seed for run in group}) > 1]


def summary(fitted: Sequence[Run]) -> Seeds:
    """Mean, spread and best of runs that differ in their seed alone."""
    tables: dict[str, dict[str, np.ndarray]] = {}
    for role, first in fitted[0].metrics.items():
        names = [name for name in first if all(isinstance(run.metrics[role].get(name), float) for run in fitted)]
        tables[role] = {name: np.array([run.metrics[role][name] for run in fitted]) for name in names}

    def each(of: Callable[[np.ndarray], Any]) -> dict[str, dict[str, float]]:
        return {role: {name: float(of(values)) for name, values in table.items()} for role, table in tables.items()}

    best = max(fitted, key=lambda run: run.metrics.get("validation", {}).get("macro_f1", 0.0))
    return Seeds(tuple(fitted), best, each(np.mean), each(lambda v: v.std(ddof=1) if len(v) > 1 else 0.0))
