"""Runs → Audit: where contenders err, which labels they doubt, what stands there twice, and what all that is worth.

`confident` ranks labels, `neighbours` and `repeats` find what stands there twice, `losses` says where contenders err,
`dropped` what some rows are worth, `suspects` makes rows of it for people, `review` writes them as a CSV. Nothing is
fitted here: `comparison` does that.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from .. import CallableRoom, Progress, UserError, choose, finite, listed, silent
from ..data import Dataset, Split
from ..metrics import METRICS, decide, metric_for, scores
from ..run import Predictions, Run
from ..verdict import Comparison, aligned, judged_role
from ..verdict.results import names_of
from ..words import notebook_table
from .dropped import Dropped, called, recommended, without
from .losses import Between, Confusion, between, confusions, extremes, loss
from .repeats import ExactRepeats, NearPair, NearRepeats, exact_repeats, near_repeats_of
from .suspects import HEADER, Expected, SuspectRow, doubts, text_of

__all__ = ["Audit", "AuditSettings", "SuspectRow", "audit"]

PAIRS = 500  # rows on which two contenders differ that are listed
SHOWN = 10  # rows in doubt that a notebook shows


@dataclass(frozen=True)
class AuditSettings:
    """What is looked for, and by which measure."""

    metric: str = "accuracy"  # of what leaks are worth
    margin: float = 0.01  # of the verdict that may stand or not
    near: float = 0.95  # cosine from which on two different texts are near-repeats
    top: int = 20  # rows of highest and of lowest loss, a contender
    pair: tuple[str, str] | None = None  # contenders whose difference is shown; None: the two best

    def check(self) -> None:
        """Raises UserError for an unknown metric, or a cosine that is none."""
        choose(METRICS, self.metric, "metric")
        if not 0 < self.near <= 1:
            raise UserError(f"--near {self.near}: a cosine above 0 and up to 1, such as 0.95")


@dataclass(frozen=True, eq=False)
class Audit:
    """What there is to know of a data set and its contenders before a model is blamed."""

    dataset: str
    dataset_digest: str
    split: str  # the judged one
    judged: int  # its rows
    class_names: tuple[str, ...]
    metric: str
    contenders: tuple[str, ...]  # best first
    confusions: tuple[Confusion, ...]
    between: Between | None  # None: one contender only
    between_rows: tuple[dict[str, Any], ...]
    losses: dict[str, dict[str, list[dict[str, Any]]]]  # contender → "highest", "lowest" → rows
    rows: tuple[SuspectRow, ...]  # most suspicious first
    speakers: dict[str, dict[str, float]]  # split → contender → its weight in what is thought of the labels
    joint: np.ndarray  # (k, k) rows of train: row = the label given, column = the class it seems to be
    expected: dict[str, Expected]  # split → how many of its labels are wrong
    exact: dict[str, int]  # "a/b": rows of b whose text stands in a; "a/a": rows that repeat an earlier one
    near: dict[str, int]  # the same for near-repeats; empty without vectors
    near_total: int  # pairs
    near_threshold: float
    near_pairs: tuple[NearPair, ...]
    worth: tuple[Dropped, ...]  # leaked, near-repeated and probably mislabelled rows of the judged split
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        return f"<Audit of {self.dataset}: {len(self.rows):,} labels in doubt, {self.confident:,} probably wrong>"

    def _repr_html_(self) -> str:
        doubted = [dict(zip(HEADER, row.cells(), strict=True)) for row in self.rows[:SHOWN]]
        return notebook_table([one.sentence(split) for split, one in self.expected.items()], doubted)

    @property
    def confident(self) -> int:
        """How many labels are probably wrong, over all splits."""
        return sum(row.kind == "label error" for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        """What `audit --json` prints."""
        plain = {
            name: getattr(self, name)
            for name in ("dataset", "dataset_digest", "split", "judged", "metric", "losses", "speakers")
        }
        return plain | {
            "rows": [row.to_json() for row in self.rows],
            "class_names": list(self.class_names),
            "contenders": list(self.contenders),
            "confusion": [one.to_json() for one in self.confusions],
            "between": self.between.to_json() | {"rows": list(self.between_rows)} if self.between else None,
            "confident_joint": self.joint.tolist(),
            "exact_repeats": self.exact,
            "near_repeats": self.near,
            "near_total": self.near_total,
            "near_threshold": self.near_threshold,
            "near_pairs": [asdict(pair) for pair in self.near_pairs],
            "worth": [finite(asdict(dropped)) for dropped in self.worth],
            "expected_errors": {split: asdict(one) for split, one in self.expected.items()},
            "notes": list(self.notes),
        }


def audit(
    dataset: Dataset,
    runs: Sequence[Run],
    vectors: Mapping[str, np.ndarray] | None = None,
    settings: AuditSettings = AuditSettings(),
    progress: Progress = silent,
    known: Comparison | None = None,
) -> Audit:
    """Look at `runs`, fitted on `dataset`, and at the vectors (n, d) of its splits by role, if they exist.

    `known`: a comparison of these runs by the same metric and margin, where there is one already.

    Raises UserError if the runs cannot be compared row by row, if none of them learns anything, or for an unknown
    metric or contender.
    """
    settings.check()
    predictions, role = aligned(runs), judged_role(runs)
    metric_for(settings.metric, predictions[0].truth)
    judged = best_first(dict(zip(names_of(runs), predictions, strict=True)), settings.metric, dataset.class_names)
    rows = JudgedRows(dataset.role(role), predictions[0], dataset.class_names)
    by_split, exact = doubts(dataset, runs), exact_repeats(dataset, role)
    suspects = [row for doubt in by_split.values() for row in doubt.rows]
    near = None if vectors is None else near_repeats_of(dataset, role, vectors, settings.near, progress)
    drops = {what: repeated[rows.positions] for what, repeated in repeated_rows(exact, near).items()}
    wrong = [row.row_id for row in suspects if row.kind == "label error"]
    drops["probably mislabelled"] = np.isin(predictions[0].row_ids, wrong)
    return Audit(
        dataset=dataset.name,
        dataset_digest=dataset.digest,
        split=rows.split.name,
        judged=len(predictions[0].truth),
        class_names=tuple(dataset.class_names),
        metric=settings.metric,
        contenders=tuple(judged),
        confusions=confusions(judged, len(dataset.class_names)),
        between=(apart := chosen_pair(judged, settings, dataset.class_names)),
        between_rows=rows.apart(apart, judged) if apart else (),
        losses={name: rows.extremes(p, settings.top) for name, p in judged.items()},
        rows=tuple(sorted(suspects, key=lambda row: -row.score)),
        speakers={doubt.split: doubt.weights for doubt in by_split.values()},
        joint=by_split["train"].joint,
        expected={doubt.split: doubt.expected for doubt in by_split.values()},
        exact=exact.counts,
        near=near.counts if near else {},
        near_total=near.total if near else 0,
        near_threshold=settings.near,
        near_pairs=near.pairs if near else (),
        worth=tuple(worth_of(drops, runs, settings, progress, known)),
        notes=() if near else ("no vectors on disk for these rows: near-repeats were not looked for",),
    )


def repeated_rows(exact: ExactRepeats, near: NearRepeats | None) -> dict[str, np.ndarray]:
    """Judged rows (n,), in the split's order, that repeat what is learnt from, by what they are called."""
    leaked = {"leaked": exact.leaked}
    return leaked if near is None else leaked | {"leaked or near-repeated": exact.leaked | near.leaked}


def worth_of(
    drops: Mapping[str, np.ndarray],
    runs: Sequence[Run],
    settings: AuditSettings,
    progress: Progress,
    known: Comparison | None,
) -> list[Dropped]:
    """What each of several sets of judged rows (n,) is worth; equal sets are judged once."""
    before = known.recommended if known else recommended(runs, settings.metric, settings.margin)
    judged: dict[bytes, Dropped] = {}
    worth = []
    for number, (what, drop) in enumerate(drops.items()):
        progress("what rows are worth", number, len(drops))
        if drop.tobytes() not in judged:
            judged[drop.tobytes()] = without(what, runs, drop, settings.metric, settings.margin, before)
        worth.append(called(judged[drop.tobytes()], what))
    return worth


def best_first(judged: Mapping[str, Predictions], metric: str, class_names: Sequence[str]) -> dict[str, Predictions]:
    """The contenders' predictions, the best score first."""

    def key(p: Predictions) -> float:
        return -METRICS[metric].sign * float(scores(p.truth, p.proba, class_names, p.threshold, (metric,))[metric])

    return dict(sorted(judged.items(), key=lambda item: key(item[1])))


def chosen_pair(
    judged: Mapping[str, Predictions], settings: AuditSettings, class_names: tuple[str, ...]
) -> Between | None:
    """The two contenders asked for, or the two best; None if there is one only."""
    names = list(judged)
    if settings.pair is None:
        return between(names[0], names[1], judged, class_names) if len(names) > 1 else None
    for name in settings.pair:
        choose(judged, name, "contender")
    return between(*settings.pair, judged, class_names)


# ── rows for people ─────────────────────────────────────────────────────────────────────────────────────────────────


def positions(split: Split, predictions: Predictions) -> np.ndarray:
    """Where each predicted row (n,) stands in its split.

    Raises UserError if it is not there.
    """
    position = {str(row): i for i, row in enumerate(split.row_ids)}
    missing = [row for row in map(str, predictions.row_ids) if row not in position]
    if missing:
        raise UserError(f"{split.name}: {len(missing)} predicted rows ({listed(missing[:3])}) are not in it; fit again")
    return np.array([position[str(row)] for row in predictions.row_ids], np.int64)


@dataclass(frozen=True)
class JudgedRows:
    """Judged rows as JSON objects."""

    split: Split
    first: Predictions  # whose order of rows is everyone's
    class_names: tuple[str, ...]

    @cached_property
    def positions(self) -> np.ndarray:
        """Where each row (n,) stands in the split."""
        return positions(self.split, self.first)

    def row(self, i: int, *several: Predictions) -> dict[str, Any]:
        """Row `i` of the predictions: what each of several contenders says of it."""
        answers = [self.class_names[int(decide(p.proba[i : i + 1], p.threshold)[0])] for p in several]
        return {
            "row_id": str(self.first.row_ids[i]),
            "text": text_of(self.split.texts[self.positions[i]]),
            "label": self.class_names[int(self.first.truth[i])],
            "said": answers[0] if len(answers) == 1 else answers,
        }

    def apart(self, difference: Between, judged: Mapping[str, Predictions]) -> tuple[dict[str, Any], ...]:
        """Rows of which two contenders say different things."""
        a, b = judged[difference.a], judged[difference.b]
        return tuple(self.row(int(i), a, b) for i in difference.rows[:PAIRS])

    def extremes(self, p: Predictions, count: int) -> dict[str, list[dict[str, Any]]]:
        """Rows of the highest and of the lowest loss."""
        lost, chosen = loss(p), extremes(p, count)
        names = ("highest", "lowest")
        return {
            name: [self.row(int(i), p) | {"loss": round(float(lost[i]), 6)} for i in rows]
            for name, rows in zip(names, chosen, strict=True)
        }


sys.modules[__name__].__class__ = CallableRoom
