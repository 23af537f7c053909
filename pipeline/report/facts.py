"""What the page is told, joined: contenders with their runs, predictions in one order of rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..metrics import METRICS, with_usual
from ..run import Predictions, Run
from ..verdict.results import names_of
from ..words import spaced

if TYPE_CHECKING:
    from ..audit import Audit
    from ..data import Dataset
    from ..explore import Profile
    from ..learning_curve import Curve
    from ..verdict import Comparison


@dataclass(frozen=True, kw_only=True)
class Material:
    """What is known beside a comparison and its runs; what is missing leaves its section out."""

    profile: Profile | None = None
    dataset: Dataset | None = None  # gives the texts of the judged split
    vectors: Mapping[str, np.ndarray] = field(default_factory=dict)  # pooling -> (n, d), rows as in the judged split
    curve: Curve | None = None
    audit: Audit | None = None
    command: str = ""
    machine: Mapping[str, Any] = field(default_factory=dict)


NOTHING = Material()


@dataclass(frozen=True, kw_only=True)
class Facts(Material):
    """Everything that a section may show. `judged` holds the predictions of the judged split, by contender."""

    comparison: Comparison
    runs: dict[str, Run]
    judged: dict[str, Predictions]

    @property
    def names(self) -> list[str]:
        """The contenders that have predictions, in the order of the comparison."""
        return [c.name for c in self.comparison.contenders if c.name in self.judged]

    @property
    def classes(self) -> list[str]:
        return list(map(str, self.comparison.class_names))

    @property
    def row_ids(self) -> np.ndarray:
        """(n,) str"""
        return self.judged[self.names[0]].row_ids

    @property
    def truth(self) -> np.ndarray:
        """(n,)"""
        return self.judged[self.names[0]].truth

    @property
    def metrics(self) -> list[str]:
        """Every metric that was measured: the one named beforehand, accuracy, macro F1, then the others."""
        c = self.comparison
        known = dict.fromkeys(metric for x in c.contenders for metric in x.metrics)
        return [m for m in dict.fromkeys([*with_usual(c.metric), *known]) if m in known]

    @property
    def taken(self) -> str:
        """The contender that is recommended, or the best of those whose predictions are known."""
        return self.comparison.recommended if self.comparison.recommended in self.names else self.names[0]

    def texts(self) -> dict[str, tuple[str, ...]]:
        """Texts of the judged split by row id; empty without a data set."""
        if self.dataset is None:
            return {}
        name = self.comparison.split
        split = self.dataset.splits.get(name) or self.dataset.splits.get(self.dataset.roles.get(name, ""))
        return dict(zip(map(str, split.row_ids), split.texts, strict=True)) if split else {}

    def predicted(self) -> np.ndarray:
        """(n, c): what each contender predicts."""
        return np.stack([self.judged[name].labels for name in self.names], axis=1) if self.judged else np.empty((0, 0))


def collect(comparison: Comparison, runs: Sequence[Run], material: Material = NOTHING) -> Facts:
    """Join contenders with their runs, and put the judged split's predictions into one order of rows."""
    by_folder = {str(run.folder): run for run in runs if run.folder}
    by_name = dict(zip(names_of(runs), runs, strict=True))
    candidates = {c.name: by_folder.get(c.run) or by_name.get(c.name) for c in comparison.contenders}
    joined = {name: run for name, run in candidates.items() if run is not None}
    judged: dict[str, Predictions] = {}
    for name, run in joined.items():
        first = next(iter(judged.values()), None)
        predictions = next((p for p in run.predictions.values() if p.split == comparison.split), None)
        aligned = predictions and predictions.aligned_to((first or predictions).row_ids)
        if aligned:
            judged[name] = aligned
    rows = len(next(iter(judged.values())).truth) if judged else -1
    vectors = {name: v for name, v in material.vectors.items() if len(v) == rows}
    return Facts(**vars(material) | {"vectors": vectors}, comparison=comparison, runs=joined, judged=judged)


# ── words and numbers ──────────────────────────────────────────────────────────────────────────────────────────────


def metric_name(metric: str) -> str:
    """`macro F1`."""
    return METRICS[metric].label if metric in METRICS else spaced(metric)


def plain(value: Any) -> Any:
    """`value` as JSON knows it: NumPy and dataclasses unfolded, what is not finite as null."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(v) for key, v in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(v) for v in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)
