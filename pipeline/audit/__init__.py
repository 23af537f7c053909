"""Runs → Audit: where contenders err, which labels they doubt, what stands there twice, and what all that is worth.

`confident` ranks labels, `neighbours` finds near-repeats, `losses` says where contenders err, `dropped` what some rows
are worth, `suspects` makes rows of it for people, `review` writes them as a CSV. Nothing is fitted here: `contest`
does that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pipeline import Progress, UserError, choose, finite, listed, silent
from pipeline.audit.dropped import Dropped, called, recommended, without
from pipeline.audit.losses import Between, Confusion, between, confusions, extremes, loss
from pipeline.audit.neighbours import Near, across, near_repeats
from pipeline.audit.suspects import SuspectRow, doubts, text_of
from pipeline.data import Dataset, Split
from pipeline.linear.folds import equal
from pipeline.metrics import METRICS, decide, metric_for, scores
from pipeline.run import Predictions, Run
from pipeline.verdict import Comparison, aligned, judged_role
from pipeline.verdict.results import names_of

__all__ = ["Audit", "AuditSettings", "SuspectRow", "audit"]

PAIRS = 500  # near-repeats that are listed, the nearest
BOTH = ("train", "validation")  # what a contender has seen of, and may remember


@dataclass(frozen=True)
class AuditSettings:
    """What is looked for, and by which measure."""

    metric: str = "accuracy"  # of what leaks are worth
    margin: float = 0.01  # of the verdict that may stand or not
    near: float = 0.95  # cosine from which on two different texts are near-repeats
    top: int = 20  # rows of highest and of lowest loss, a contender
    pair: tuple[str, str] | None = None  # contenders whose difference is shown; None: the two best


@dataclass(frozen=True)
class NearPair:
    """Two different texts whose vectors nearly agree."""

    cosine: float
    split: str
    row_id: str
    text: Any  # str, or a list of two for pairs
    label: str
    other_split: str
    other_id: str
    other_text: Any
    other_label: str


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
    joint: np.ndarray  # (k, k) confident joint of train: row = the label given, column = the class it seems to be
    exact: dict[str, int]  # "a/b": rows of b whose text stands in a; "a/a": rows that repeat an earlier one
    near: dict[str, int]  # the same for near-repeats; empty without vectors
    near_total: int  # pairs
    near_threshold: float
    near_pairs: tuple[NearPair, ...]
    worth: tuple[Dropped, ...]  # leaked, near-repeated and suspicious rows of the judged split
    notes: tuple[str, ...]

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
    """Look at `runs`, fitted on `dataset`, and at the vectors (n, d) of its splits by role, if they are there.

    `known`: a comparison of these runs by the same metric and margin, where there is one already.

    Raises UserError if the runs cannot be compared row by row, if none of them learns anything, or for an unknown
    metric or contender.
    """
    choose(METRICS, settings.metric, "metric")
    if not 0 < settings.near <= 1:
        raise UserError(f"--near {settings.near}: a cosine above 0 and up to 1, such as 0.95")
    predictions, role = aligned(runs), judged_role(runs)
    metric_for(settings.metric, predictions[0].truth)
    named = dict(zip(names_of(runs), predictions, strict=True))
    judged = {name: named[name] for name in best_first(named, settings.metric, dataset.class_names)}
    own = dataset.role(role)
    by_split = doubts(dataset, runs)
    rows = [row for doubt in by_split.values() for row in doubt.rows]
    exact, leaked = repeated(dataset, role)
    near, pairs, nearly, notes = nearby(dataset, role, vectors, settings.near, progress)
    suspicious = np.isin(predictions[0].row_ids, [r.row_id for r in rows if r.kind == "label error"])
    order = places(own, predictions[0])
    drops = {"leaked": leaked[order]}
    if near is not None:
        drops["leaked or near-repeated"] = (leaked | nearly)[order]
    drops["suspicious"] = suspicious
    worth = worth_of(drops, runs, settings, progress, known)
    apart = chosen_pair(judged, settings, dataset.class_names)
    told = Teller([text_of(own.texts[i]) for i in order], predictions[0], dataset.class_names)
    return Audit(
        dataset=dataset.name,
        dataset_digest=dataset.digest,
        split=own.name,
        judged=len(predictions[0].truth),
        class_names=tuple(dataset.class_names),
        metric=settings.metric,
        contenders=tuple(judged),
        confusions=confusions(judged, len(dataset.class_names)),
        between=apart,
        between_rows=tuple(told.row(int(i), judged[apart.a], judged[apart.b]) for i in apart.rows[:PAIRS])
        if apart
        else (),
        losses={name: told.extremes(p, settings.top) for name, p in judged.items()},
        rows=tuple(sorted(rows, key=lambda row: -row.score)),
        speakers={doubt.split: doubt.weights for doubt in by_split.values()},
        joint=by_split["train"].joint,
        exact=exact,
        near=near.counts if near else {},
        near_total=near.total if near else 0,
        near_threshold=settings.near,
        near_pairs=pairs,
        worth=tuple(worth),
        notes=notes,
    )


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


def best_first(judged: Mapping[str, Predictions], metric: str, class_names: Sequence[str]) -> list[str]:
    """Names of the contenders, the best score first."""

    def key(p: Predictions) -> float:
        return -METRICS[metric].sign * float(scores(p.truth, p.proba, class_names, p.threshold, (metric,))[metric])

    return sorted(judged, key=lambda name: key(judged[name]))


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


def places(split: Split, predictions: Predictions) -> np.ndarray:
    """Where each predicted row (n,) stands in its split.

    Raises UserError if it is not there.
    """
    at = {str(row): i for i, row in enumerate(split.row_ids)}
    missing = [row for row in map(str, predictions.row_ids) if row not in at]
    if missing:
        raise UserError(f"{split.name}: {len(missing)} predicted rows ({listed(missing[:3])}) are not in it; fit again")
    return np.array([at[str(row)] for row in predictions.row_ids], np.int64)


@dataclass(frozen=True)
class Teller:
    """Judged rows as JSON objects."""

    texts: list[Any]  # n, str or a list of two
    first: Predictions  # whose order of rows is everyone's
    class_names: tuple[str, ...]

    def row(self, i: int, *several: Predictions) -> dict[str, Any]:
        """Row `i` of the predictions: what each of several contenders says of it."""
        said = [self.class_names[int(decide(p.proba[i : i + 1], p.threshold)[0])] for p in several]
        return {
            "row_id": str(self.first.row_ids[i]),
            "text": self.texts[i],
            "label": self.class_names[int(self.first.truth[i])],
            "said": said[0] if len(said) == 1 else said,
        }

    def extremes(self, p: Predictions, count: int) -> dict[str, list[dict[str, Any]]]:
        """Rows of the highest and of the lowest loss."""
        lost, found = loss(p), extremes(p, count)
        names = ("highest", "lowest")
        return {
            name: [self.row(int(i), p) | {"loss": round(float(lost[i]), 6)} for i in rows]
            for name, rows in zip(names, found, strict=True)
        }


# ── repeats ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class NearCounts:
    """How many rows have a near-repeat, by pair of splits, and how many pairs there are."""

    counts: dict[str, int]
    total: int


def repeated(dataset: Dataset, role: str) -> tuple[dict[str, int], np.ndarray]:
    """Exact repeats by pair of splits, and which rows (n,) of the judged split stand in train or validation."""
    names = list(dict.fromkeys(dataset.roles.values()))
    found = {}
    for i, a in enumerate(names):
        texts = dataset.splits[a].texts
        found[f"{a}/{a}"] = len(texts) - len(set(texts))
        for b in names[i + 1 :]:
            there = set(texts)
            found[f"{a}/{b}"] = sum(text in there for text in dataset.splits[b].texts)
    seen = {text for other in BOTH if other in dataset.roles and other != role for text in dataset.role(other).texts}
    return found, np.array([text in seen for text in dataset.role(role).texts], bool)


def nearby(
    dataset: Dataset, role: str, vectors: Mapping[str, np.ndarray] | None, threshold: float, progress: Progress
) -> tuple[NearCounts | None, tuple[NearPair, ...], np.ndarray, tuple[str, ...]]:
    """Near-repeats: counts, the nearest pairs, which rows (n,) of the judged split have one in train or validation."""
    nothing = np.zeros(len(dataset.role(role)), bool)
    if vectors is None:
        return None, (), nothing, ("no vectors on disk for these rows: near-repeats were not looked for",)
    roles = [r for r in dataset.roles if r in vectors]
    parts = [dataset.role(r) for r in roles]
    split = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    texts = [text for part in parts for text in part.texts]
    matrix = np.concatenate([vectors[r] for r in roles])
    found = near_repeats(matrix, equal(texts), split, len(parts), threshold, progress=progress)
    learnt = [i for i, r in enumerate(roles) if r in BOTH and r != role]
    mine = split == roles.index(role)
    nearly = found.beside[mine][:, learnt].any(1) if learnt else nothing
    ids = np.concatenate([part.row_ids for part in parts])
    labels = np.concatenate([part.labels for part in parts])
    names = [part.name for part in parts]
    where = [names[number] for number in split]
    pairs = near_pairs(found, texts, where, ids, labels, dataset.class_names)
    counts = NearCounts(across(found, split, names), found.total)
    return counts, pairs, nearly, ()


def near_pairs(
    found: Near,
    texts: Sequence[tuple[str, ...]],
    where: Sequence[str],
    ids: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
) -> tuple[NearPair, ...]:
    """The nearest pairs, as people read them; `where` (n,) is each row's split."""

    def told(i: int) -> tuple[str, str, Any, str]:
        return where[i], str(ids[i]), text_of(texts[i]), class_names[labels[i]] if labels[i] >= 0 else ""

    return tuple(
        NearPair(round(float(c), 4), *told(int(i)), *told(int(j)))
        for (i, j), c in zip(found.pairs[:PAIRS], found.cosine[:PAIRS], strict=True)
    )
