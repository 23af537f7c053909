"""What a run holds: settings, predictions, scores, cost."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import UserError
from ..metrics import decide

SUM_TOLERANCE = 1e-3  # of the sum of a row's probabilities, which may have been rounded on their way


def probabilities(proba: np.ndarray, where: object) -> np.ndarray:
    """`proba` (n, k), as it is.

    Raises UserError, naming `where` and the first row at fault, unless every row is finite, at least 0 and sums to 1.
    """
    proba = np.asarray(proba)
    sound = np.isfinite(proba).all(1) & (proba >= 0).all(1)
    with np.errstate(invalid="ignore", over="ignore"):
        sound &= np.abs(proba.sum(1, dtype=np.float64) - 1) <= SUM_TOLERANCE
    if not sound.all():
        row = int(np.argmin(sound))
        shown = ", ".join(f"{value:.3g}" for value in proba[row, :3])
        raise UserError(
            f"{where}: the probabilities of row {row} ({shown}{', ...' if proba.shape[1] > 3 else ''}) are not finite "
            "numbers of at least 0 that sum to 1: the model or its vectors are damaged; fit it again"
        )
    return proba


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a run says of one split, in the split's order."""

    split: str
    row_ids: np.ndarray  # (n,) str
    truth: np.ndarray  # (n,) int64
    proba: np.ndarray  # (n, k) float32, rows sum to 1
    threshold: float | None = None  # of the run that says it

    def __post_init__(self) -> None:
        """Raises UserError if `proba` are no probabilities."""
        probabilities(self.proba, f"predictions of '{self.split}'")

    @property
    def labels(self) -> np.ndarray:
        """Class numbers (n,): what the run answers, by its threshold if it has one."""
        return decide(self.proba, self.threshold)

    @property
    def graded(self) -> bool:
        """Whether there are probabilities at all: answers alone are all 0 and 1."""
        return bool(((self.proba > 0) & (self.proba < 1)).any())

    def take(self, rows: np.ndarray) -> Predictions:
        """The predictions of some rows: positions (m,), or a mask (n,)."""
        return replace(self, row_ids=self.row_ids[rows], truth=self.truth[rows], proba=self.proba[rows])

    def aligned_to(self, row_ids: np.ndarray) -> Predictions | None:
        """The same in the order of `row_ids` (n,); None unless these are exactly its rows."""
        if np.array_equal(self.row_ids, row_ids):
            return self
        order, wanted = (np.argsort(ids, kind="stable") for ids in (self.row_ids, row_ids))
        if not np.array_equal(self.row_ids[order], np.asarray(row_ids)[wanted]):
            return None
        positions = np.empty(len(order), np.int64)
        positions[wanted] = order
        return self.take(positions)


@dataclass(frozen=True)
class Cost:
    """What a run took and what its model takes. None where it was not measured."""

    fit_seconds: float | None = None  # learning, search included
    extract_seconds: float | None = None  # encoding its rows once, whether or not they came from the cache this time
    cpu_seconds: float | None = None
    peak_rss_mb: float | None = None
    trained_parameters: int | None = None
    model_mb: float | None = None  # everything prediction needs, the encoder included
    ms_per_text_batch: float | None = None  # text to probabilities, in large batches
    ms_per_text_single: float | None = None  # the same, one text at a time


@dataclass(frozen=True, eq=False)
class Run:
    """One fitted contender. `predictions` is keyed by role: 'validation', 'test', 'train' (out of fold).

    Costs are in seconds, megabytes (10⁶ bytes) and milliseconds a text, as their names say.

    Raises nothing itself: `load_run` answers for a folder that is no run.

    Examples
    --------
    >>> from probe_or_tune import load_run
    >>> run = load_run(RUN)
    >>> run.kind, run.class_names, run.predictions["test"].proba.shape
    ('lr', ('ham', 'spam'), (30, 2))
    >>> 0 <= run.metrics["test"]["macro_f1"] <= 1
    True
    """

    kind: str
    settings: dict[str, Any]
    class_names: tuple[str, ...]
    predictions: dict[str, Predictions]
    cost: Cost
    dataset: str
    dataset_digest: str
    checkpoint_digest: str | None = None  # None: needs no encoder
    seed: int = 0
    seconds: float = 0.0  # wall clock of the whole call
    history: list[dict[str, Any]] = field(default_factory=list)  # per epoch, or per point of a search
    notes: tuple[str, ...] = ()
    metrics: dict[str, dict[str, Any]] = field(default_factory=dict)  # role -> scores()
    threshold: float | None = None  # two classes: the second from this probability on, instead of the likelier one
    versions: dict[str, str] = field(default_factory=dict)
    created: str = ""
    text_columns: tuple[str, ...] = ()  # of its source; () where it is not known
    folder: Path | None = None  # where it lies; None until saved

    def __repr__(self) -> str:
        score = ""
        for role, rows in (("train", "rows out of fold"), ("test", "test rows")):  # a run on all rows has no test
            if role in self.predictions and "accuracy" in (judged := self.metrics.get(role) or {}):
                score = f": accuracy {judged['accuracy']:.3f} on {len(self.predictions[role].truth):,} {rows}"
        return f"<Run {self.kind} on {self.dataset}{score}>"

    @property
    def model_folder(self) -> Path:
        assert self.folder is not None, "a run has a model once it is saved"
        return self.folder / "model"

    def to_json(self) -> dict[str, Any]:
        """What `--json` prints of a run."""
        return {
            "run": str(self.folder),
            "kind": self.kind,
            "dataset": self.dataset,
            "class_names": list(self.class_names),
            "metrics": self.metrics,
            "settings": self.settings,
            "seconds": self.seconds,
            "cost": asdict(self.cost),
            "notes": list(self.notes),
            "checkpoint_digest": self.checkpoint_digest,
            "history": self.history,
        }
