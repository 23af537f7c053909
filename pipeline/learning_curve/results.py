"""What a curve says: lines, points with intervals, crossings in words; as JSON and back, and its file."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from .. import listed, log
from ..files import disk_errors, publish
from ..metrics import METRICS, change, unit
from ..run import digest, slug
from ..words import notebook_table
from .crossing import ahead_from, between, common, span

FORMAT = 1
FEW_DRAWS = 3  # below which an interval knows nothing of how trainings differ: with one it held the truth in 72 of 100


@dataclass(frozen=True)
class Point:
    """The score at one number of labels."""

    size: int
    value: float  # mean over draws
    low: float  # 95 % interval of that mean, over draws and test rows
    high: float
    draws: tuple[float, ...]  # the score of each
    seconds: float  # to fit one, on average


@dataclass(frozen=True)
class Line:
    """One contender's scores by number of labels, the fewest first."""

    name: str
    kind: str
    points: tuple[Point, ...]
    settings: dict[str, Any] = field(default_factory=dict)  # what all its points share: C, learning rate, …

    @property
    def sizes(self) -> list[int]:
        return [point.size for point in self.points]


@dataclass(frozen=True)
class Crossing:
    """From how many labels on `leader`, which is ahead at the largest size that both were tried at, stays ahead.

    `verdict` is *always* (it leads at every size tried), *overtakes* (between `low` and `high`; `low` is None where it
    may lead from the start) or *undecided* (it may not lead at the end). `certain` is the share of redrawings in which
    it leads there.
    """

    leader: str
    other: str
    verdict: str
    smallest: int  # sizes that both lines cover
    largest: int
    at: float | None  # where the means cross, if they do between those
    low: float | None  # 95 % interval
    high: float | None
    certain: float
    gap: float  # of the means, at the largest size
    sentence: str
    once: tuple[str, ...] = ()  # lines with fewer than three draws a size: they speak of these trainings alone


@dataclass(frozen=True)
class Curve:
    """Scores against number of labels, on one data set's test rows."""

    dataset: str
    dataset_digest: str
    checkpoint_digests: tuple[str, ...]  # of the encoders in it
    metric: str
    split: str
    rows: int  # of that split
    train_rows: int
    seed: int
    lines: tuple[Line, ...]
    crossings: tuple[Crossing, ...]
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    fitted: int = 0  # points, this time
    found: int = 0  # points that existed
    created: str = ""
    file: str = ""

    def __repr__(self) -> str:
        names = ", ".join(line.name for line in self.lines)
        return f"<Curve of {self.dataset}: {names} on up to {self.train_rows:,} labels>"

    def _repr_html_(self) -> str:
        sizes = sorted({size for line in self.lines for size in line.sizes})
        scores = [{p.size: f"{p.value:.3f} [{p.low:.3f}, {p.high:.3f}]" for p in line.points} for line in self.lines]
        rows = [
            {"labels": f"{size:,}"} | {line.name: of.get(size, "") for line, of in zip(self.lines, scores, strict=True)}
            for size in sizes
        ]
        return notebook_table([crossing.sentence for crossing in self.crossings], rows, self.file)

    def to_json(self) -> dict[str, Any]:
        """What `curve --json` prints."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Curve:
        """The curve of that object; KeyError and TypeError if it is none."""
        lines = [
            Line(**{**line, "points": tuple(Point(**{**p, "draws": tuple(p["draws"])}) for p in line["points"])})
            for line in record["lines"]
        ]
        known = {f.name: record[f.name] for f in fields(cls) if f.name in record}
        known["checkpoint_digests"], known["notes"] = tuple(record["checkpoint_digests"]), tuple(record["notes"])
        crossings = tuple(Crossing(**{**c, "once": tuple(c.get("once", ()))}) for c in record["crossings"])
        return cls(**{**known, "lines": tuple(lines), "crossings": crossings})


# ── crossings ───────────────────────────────────────────────────────────────────────────────────────────────────────


def crossings(lines: Sequence[Line], drawn: Sequence[np.ndarray], metric: str) -> tuple[Crossing, ...]:
    """Every two lines that share a range of sizes; `drawn`: redrawn means (points, s) a line."""
    result = []
    for (one, ones), (two, twos) in combinations(zip(lines, drawn, strict=True), 2):
        knots = common(one.sizes, two.sizes)
        if not knots:
            continue
        first, second = between(one.sizes, knots), between(two.sizes, knots)
        means = first @ [p.value for p in one.points] - second @ [p.value for p in two.points]
        redrawn = first @ ones - second @ twos
        better = METRICS[metric].sign
        leader, other, sign = (one, two, better) if better * means[-1] >= 0 else (two, one, -better)
        at = float(ahead_from(knots, sign * means[:, None])[0])
        low, high = span(ahead_from(knots, sign * redrawn))
        crossing = Crossing(
            leader.name,
            other.name,
            "always" if high == -math.inf else "undecided" if high == math.inf else "overtakes",
            knots[0],
            knots[-1],
            finite(at),
            finite(low),
            finite(high),
            certain=float((sign * redrawn[-1] > 0).mean()),
            gap=float(abs(means[-1])),
            sentence="",
            once=tuple(line.name for line in (leader, other) if few_draws(line)),
        )
        result.append(replace(crossing, sentence=sentence(crossing, metric)))
    return tuple(result)


def finite(size: float) -> float | None:
    """A size within those tried; None beyond."""
    return size if math.isfinite(size) else None


def few_draws(line: Line) -> bool:
    """Whether a size below the largest has fewer than three draws: how much trainings differ is then not known."""
    return any(len(point.draws) < FEW_DRAWS for point in line.points[:-1] or line.points)


def sentence(c: Crossing, metric: str) -> str:
    """`fine-tune overtakes lr between 400 and 900 labels (at about 600)`, and for which trainings that holds."""
    if not c.once:
        return statement(c, metric)
    return (
        f"{statement(c, metric)} That is of this training of {listed(c.once)}: with fewer than three draws a size, "
        "another may cross elsewhere."
    )


def statement(c: Crossing, metric: str) -> str:
    """The same, of the trainings that were made."""
    lead = f"by {change(metric, c.gap)}{unit(metric)} of {METRICS[metric].label} at {c.largest:,}"
    about = f" (the means cross at about {labels(c.at)})" if c.at else ""
    if c.verdict == "always":
        return f"No crossing up to {c.largest:,} labels: {c.leader} leads {c.other} from {c.smallest:,} on, {lead}."
    if c.verdict == "undecided" and change(metric, c.gap) == change(metric, 0.0):
        return f"No certain crossing up to {c.largest:,} labels: {c.leader} and {c.other} are level there{about}."
    if c.verdict == "undecided":
        return (
            f"No certain crossing up to {c.largest:,} labels: {c.leader} leads {c.other} {lead}{about}, "
            "which chance may explain."
        )
    if c.low is None:
        return (
            f"{c.leader} overtakes {c.other} by {labels(c.high or 0)} labels at the latest{about}; it may lead from "
            f"the fewest tried, {c.smallest:,}. It leads {lead}."
        )
    return (
        f"{c.leader} overtakes {c.other} between {labels(c.low)} and {labels(c.high or 0)} labels{about} "
        f"and leads {lead}."
    )


def labels(size: float) -> str:
    """A size with two digits, as an estimate deserves."""
    digits = 10 ** max(0, math.floor(math.log10(size)) - 1)
    return f"{int(round(size / digits) * digits):,}"


# ── its file ────────────────────────────────────────────────────────────────────────────────────────────────────────


def curve_folder(runs: Path, dataset: str, dataset_digest: str) -> Path:
    """Where the points and curves of a data set lie, beside its runs."""
    return Path(runs) / f"{slug(dataset)}-{dataset_digest[:16]}" / "curve"


def write(path: Path, payload: bytes) -> None:
    """Write a file in one rename.

    Raises UserError if it cannot be written.
    """
    with disk_errors(path, "cannot be written", "choose another --runs"):
        path.parent.mkdir(parents=True, exist_ok=True)
        publish(path, payload)


def save(curve: Curve, runs: Path) -> Curve:
    """Keep the curve under the runs; the same question overwrites its older answer."""
    lines = [(line.name, line.sizes, line.settings.get("max_length")) for line in curve.lines]
    question = [curve.metric, curve.seed, curve.checkpoint_digests, lines]
    path = curve_folder(runs, curve.dataset, curve.dataset_digest) / f"curve-{digest(question)}.json"
    curve = replace(curve, file=str(path))
    record = {"format": FORMAT} | curve.to_json()
    write(path, json.dumps(record, ensure_ascii=False).encode("utf-8", "replace"))
    return curve


def latest(
    runs: Path, dataset: str, dataset_digest: str, checkpoint_digests: set[str], limits: set[int | None]
) -> Curve | None:
    """The newest curve of exactly these rows in which every encoder is one of these, reading texts of one of these
    lengths; None if there is none."""
    curves = []
    for path in sorted(curve_folder(runs, dataset, dataset_digest).glob("curve-*.json")):
        try:
            record = json.loads(path.read_text("utf-8"))
            curve = Curve.from_json(record)
            known = set(curve.checkpoint_digests) <= checkpoint_digests
            if record["format"] == FORMAT and known and {x.settings.get("max_length") for x in curve.lines} <= limits:
                curves.append(curve)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("%s: not read (%s); delete it and run curve again", path, error)
    return max(curves, key=lambda curve: curve.created, default=None)
