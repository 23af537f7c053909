"""Which of two runs is right more often on a pool without labels: only rows on which they differ can say so.

Where two models give one answer, both are right or both are wrong. So the difference of their accuracies on N texts is
that on the M of them on which they differ, times M / N, and labels for a random sample of those M are enough: for an
interval of one width about M / N as many as for a sample of the pool. Rows are drawn uniformly without replacement,
in an order that a seed gives, so that more can be drawn later; whoever labels them sees neither answer.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from . import Progress, UserError, choose, listed, log, one_line, silent
from .audit.review import guarded, write_csv
from .data.frames import Frames
from .data.sources import File
from .files import disk_errors, publish
from .metrics import change, decide
from .predict import Opening
from .predict.texts import file_blocks, source_of, texts_a_row
from .run import Run
from .untrusted import read_json
from .verdict.results import names_of
from .words import counted, notebook_table

ROW, LABEL = "pool_row", "label"
TEXTS = ("text", "text_pair")
Z = 1.959964  # two-sided, 95 %


@dataclass(frozen=True)
class Pool:
    """Texts without labels, and what two runs say of them."""

    texts: list[tuple[str, ...]]  # N
    answers: np.ndarray  # (2, N) class numbers
    class_names: tuple[str, ...]

    @property
    def differing(self) -> np.ndarray:
        """Positions (M,) of the texts on which the two differ."""
        return np.flatnonzero(self.answers[0] != self.answers[1])

    def order(self, seed: int) -> np.ndarray:
        """The same (M,) in the order in which they are drawn."""
        return np.random.default_rng([seed, 11]).permutation(self.differing)


@dataclass(frozen=True)
class Settled:
    """Who is right more often on the pool, as far as the labels say."""

    a: str
    b: str
    rows: int
    differing: int
    labelled: int
    verdict: str  # of a: better, worse, equivalent, undecided; unlabelled before there are labels
    difference: float | None = None  # accuracy of a less that of b on all rows
    low: float | None = None  # 95 % interval
    high: float | None = None
    uniform_labels: int | None = None  # that a uniform sample of the pool needs for an interval of this width
    drawn: int = 0  # rows that went to `out`
    out: Path | None = None
    notes: tuple[str, ...] = field(default=())
    to_label: dict[str, list[Any]] = field(default_factory=dict, repr=False)  # the next rows (n), by column

    def to_json(self) -> dict[str, Any]:
        """What `label-next --json` prints."""
        plain = asdict(replace(self, to_label={})) | {"out": None if self.out is None else str(self.out)}
        return {name: value for name, value in plain.items() if name != "to_label"}

    def _repr_html_(self) -> str:
        rows = [dict(zip(self.to_label, row, strict=True)) for row in zip(*self.to_label.values(), strict=True)]
        return notebook_table([self.sentence, *self.notes], rows[:10])

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        where = f"{self.a} and {self.b} differ on {self.differing:,} of {self.rows:,} rows"
        if self.difference is None or self.low is None or self.high is None:
            return f"{where}; label rows of those to see who is right"
        low, high = change("accuracy", self.low), change("accuracy", self.high)
        gap = change("accuracy", self.difference, sign=True)
        points = f"accuracy {gap} points (95 % interval {low} to {high})"
        heads = {
            "better": f"{self.a} is better than {self.b}",
            "worse": f"{self.a} is worse than {self.b}",
            "equivalent": f"{self.a} and {self.b} are equivalent",
            "undecided": f"Undecided between {self.a} and {self.b}",
        }
        spared = f"; a uniform sample needs about {self.uniform_labels:,} for that" if self.uniform_labels else ""
        return f"{heads[self.verdict]}: {points} on the pool. {where}, {self.labelled:,} of them labelled{spared}."


@dataclass(frozen=True)
class LabelSettings:
    """What is drawn, what is read back, and when a difference matters."""

    pool: Path | Frames
    text: tuple[str, ...] = ()
    count: int = 200
    out: Path | None = None
    labelled: Path | Frames | None = None
    margin: float = 0.01
    seed: int = 42


# ── the difference on the pool ──────────────────────────────────────────────────────────────────────────────────────


def interval(first: int, second: int, labelled: int, differing: int) -> tuple[float, float]:
    """95 % interval of the share of `differing` rows that one run gets right less the share that the other does.

    `first` and `second` are those that either alone got right among `labelled` rows, drawn without replacement. It is
    Tango's score interval for paired proportions (1998), its quantile shrunk by the finite population correction.
    """
    from scipy.optimize import brentq

    centre = (first - second) / labelled
    shrunk = Z * math.sqrt((differing - labelled) / max(1, differing - 1))

    def excess(delta: float) -> float:
        a, b = 2 * labelled, (2 * labelled - first + second) * delta - first - second
        q = (math.sqrt(max(0.0, b * b + 4 * a * second * delta * (1 - delta))) - b) / (2 * a)
        spread = labelled * (2 * q + delta * (1 - delta))
        return float((first - second - labelled * delta) / math.sqrt(max(spread, 1e-12)))

    if not shrunk:
        return centre, centre
    ends = []
    for sign, end in ((1, -1 + 1e-9), (-1, 1 - 1e-9)):
        inside = abs(centre - end) < 1e-6 or sign * excess(end) <= shrunk
        ends.append(round(end) if inside else brentq(lambda d, s=sign: s * excess(d) - shrunk, end, centre))
    return float(ends[0]), float(ends[1])


def verdict_of(low: float, high: float, margin: float) -> str:
    """What an interval of a − b says of a."""
    if low > 0 or high < 0:
        return "better" if low > 0 else "worse"
    return "equivalent" if -margin <= low and high <= margin else "undecided"


def settled(names: Sequence[str], pool: Pool, labels: Mapping[int, int], margin: float) -> Settled:
    """The verdict from `labels`: position in the pool → class number, of rows on which the two differ."""
    rows, differing = len(pool.texts), len(pool.differing)
    start = (names[0], names[1], rows, differing, len(labels))
    if not differing:
        return Settled(*start, "equivalent", 0.0, 0.0, 0.0)
    if not labels:
        return Settled(*start, "unlabelled")
    at, truth = np.array(list(labels)), np.array(list(labels.values()))
    right = pool.answers[:, at] == truth
    first, second = int(right[0].sum()), int(right[1].sum())
    share, count = differing / rows, len(labels)
    low, high = (share * end for end in interval(first, second, count, differing))
    difference = share * (first - second) / count
    half = (high - low) / 2
    uniform = None
    if half > 0:
        variance = share * (first + second) / count - difference**2
        needed = variance * (Z / half) ** 2
        uniform = min(rows, math.ceil(needed / (1 + needed / rows)))
    return Settled(*start, verdict_of(low, high, margin), difference, low, high, uniform)


# ── files ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def table(pool: Pool, rows: Sequence[int]) -> dict[str, list[Any]]:
    """Rows (m,) of the pool as columns for people to label, with an empty label."""
    texts = {name: [pool.texts[row][i] for row in rows] for i, name in enumerate(TEXTS[: len(pool.texts[0])])}
    return {ROW: [int(row) for row in rows], **texts, LABEL: [""] * len(rows)}


def check_new(out: Path) -> None:
    """Raises UserError for another suffix than `write` knows, and for a file that is there: it may hold labels."""
    choose({".csv": 0, ".json": 0}, out.suffix.lower(), "format for --out")
    if out.exists():
        raise UserError(f"{out}: is there already, and may hold labels; pass another --out")


def write(columns: Mapping[str, Sequence[Any]], out: Path) -> None:
    """Such columns as a CSV, or as tasks of Label Studio (.json), which has a place of its own for labels.

    Raises UserError if the file cannot be written.
    """
    rows = list(zip(*columns.values(), strict=True))
    if out.suffix.lower() == ".csv":
        write_csv(out, tuple(columns), rows)
        return
    tasks = [{"data": {name: cell for name, cell in zip(columns, row, strict=True) if name != LABEL}} for row in rows]
    with disk_errors(out, "cannot write", "choose another --out"):
        out.parent.mkdir(parents=True, exist_ok=True)
        publish(out, json.dumps(tasks, ensure_ascii=False, indent=1).encode("utf-8", "replace"))


def read_labels(file: Path | Frames, pool: Pool) -> dict[int, int]:
    """Position in the pool → class number, of the rows that have a label.

    `file` is what `write` wrote, or such columns, with labels filled in, or an export of Label Studio.

    Raises UserError for rows of another pool, rows on which both runs agree, and labels that are no class.
    """
    rows = _from_json(file) if isinstance(file, Path) and file.suffix.lower() == ".json" else _from_table(file)
    known = {name: i for i, name in enumerate(pool.class_names)}
    plain = {name.strip().casefold(): i for i, name in enumerate(pool.class_names)}
    known = known if len(plain) < len(known) else plain | known
    differing, labels = set(pool.differing.tolist()), dict[int, int]()
    strange: list[str] = []
    for place, text, label in rows:
        if not 0 <= place < len(pool.texts) or not _same(text, pool.texts[place][0]):
            raise UserError(f"{file}: {ROW} {place} is another text in the pool; pass the --pool of that draw")
        if place not in differing:
            raise UserError(f"{file}: the two runs agree on {ROW} {place}; pass the runs that it was drawn for")
        if not label.strip():
            continue
        number = known.get(label, known.get(label.strip().removeprefix("'").casefold(), -1))
        if number < 0:
            strange.append(label)
        elif labels.setdefault(place, number) != number:
            raise UserError(f"{file}: {ROW} {place} has two labels; settle on one")
    if strange:
        shown = listed(f"'{one_line(value, 30)}'" for value in sorted(set(strange))[:3])
        are = f"{counted(len(strange), 'label')} {'is' if len(strange) == 1 else 'are'}"
        raise UserError(f"{file}: {are} no class ({shown}); use {listed(pool.class_names)}")
    if not labels:
        raise UserError(f"{file}: no row has a label yet; fill in '{LABEL}' with one of {listed(pool.class_names)}")
    return labels


def _same(cell: str, text: str) -> bool:
    """Whether a cell is a text as `write` writes it, whatever a spreadsheet made of its line ends."""
    return " ".join(cell.split()) in (" ".join(one.split()) for one in (text, guarded(text)))


def _number(file: Path | Frames, value: Any) -> int:
    try:
        return int(float(value))
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{file}: '{one_line(str(value), 30)}' is no {ROW}; keep that column as it was") from error


def _from_table(file: Path | Frames) -> list[tuple[int, str, str]]:
    part = File(file) if isinstance(file, Path) else next(iter(file.splits.values()))
    wanted = [ROW, TEXTS[0], LABEL]
    if missing := [name for name in wanted if name not in part.column_names()]:
        raise UserError(f"{file}: no {listed(missing)} among {listed(part.column_names())}; label the file of --out")
    rows = []
    for block in part.blocks(wanted, 1 << 16):
        for row, text, label in zip(*(block.columns[name] for name in wanted), strict=True):
            rows.append((_number(file, row), str(text), "" if label is None else str(label)))
    return rows


def _from_json(file: Path) -> list[tuple[int, str, str]]:
    """Tasks of Label Studio: with their annotations, or flat (JSON-MIN)."""
    tasks = read_json(file, "export it again")
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise UserError(f"{file}: no list of tasks; export JSON from Label Studio")
    rows = []
    for task in tasks:
        data = task["data"] if isinstance(task.get("data"), dict) else task
        labels = {_choice(value) for value in (data.get(LABEL),) if value}
        for done in task.get("annotations") or ():
            if isinstance(done, dict) and not done.get("was_cancelled"):
                labels |= {_choice(one.get("value")) for one in done.get("result") or () if isinstance(one, dict)}
        place = _number(file, data.get(ROW))
        if len(labels) > 1:
            raise UserError(f"{file}: {ROW} {place} has labels {listed(sorted(labels))}; settle on one")
        rows.append((place, str(data.get(TEXTS[0], "")), next(iter(labels), "")))
    return rows


def _choice(value: Any) -> str:
    """`{"choices": ["spam"]}` or `spam` as the label that it is."""
    chosen = value.get("choices") if isinstance(value, dict) else value
    return "+".join(map(str, chosen)) if isinstance(chosen, list) else str(chosen or "")


# ── the command ─────────────────────────────────────────────────────────────────────────────────────────────────────


def label_next(runs: Sequence[Run], settings: LabelSettings, opening: Opening, progress: Progress = silent) -> Settled:
    """Judge by what has been labelled, and draw what is to be labelled next.

    Raises UserError for runs of other classes, and for files that cannot be read or written.
    """
    if settings.out:
        check_new(settings.out)  # before all is predicted
    pool = answered(runs, settings, opening, progress)
    labels = read_labels(settings.labelled, pool) if settings.labelled else {}
    result = settled(names_of(runs), pool, labels, settings.margin)
    order = pool.order(settings.seed).tolist()
    place = {row: i for i, row in enumerate(order)}
    reached = max((place[row] for row in labels), default=-1) + 1
    notes: tuple[str, ...] = ()
    if skipped := reached - len(labels):
        notes = (f"{skipped:,} rows that were drawn have no label: taken as if left out at random",)
    drawn = [row for row in order if row not in labels][: settings.count]
    columns = table(pool, drawn)
    if settings.out:
        if not drawn:
            raise UserError(f"{settings.pool}: no row is left on which they differ; leave out --out")
        write(columns, settings.out)
    written = len(drawn) if settings.out else 0
    return replace(result, drawn=written, out=settings.out, notes=notes, to_label=columns)


def answered(runs: Sequence[Run], settings: LabelSettings, opening: Opening, progress: Progress) -> Pool:
    """The pool, and what both runs say of it."""
    first, second = runs
    if set(first.class_names) != set(second.class_names):
        raise UserError(f"{second.folder}: knows other classes than {first.folder}; pass two runs on one data set")
    if texts_a_row(first) != texts_a_row(second):
        raise UserError(f"{second.folder}: reads another number of texts a row; pass two runs on one data set")
    order = np.array([first.class_names.index(name) for name in second.class_names])
    models = [(opening if run.settings.get("vectors") else replace(opening, vectors=None)).open(run) for run in runs]
    texts: list[tuple[str, ...]] = []
    answers: list[np.ndarray] = []
    for block in file_blocks(source_of(first, settings.pool, settings.text)):
        said = [decide(model.proba(block), getattr(model, "threshold", None)) for model in models]
        texts += block
        answers.append(np.stack([said[0], order[said[1]]]))
        progress("predict", len(texts), None)
    if not texts:
        raise UserError(f"{settings.pool}: no rows")
    log.info("%s: %s texts, predicted by both", settings.pool, f"{len(texts):,}")
    return Pool(texts, np.concatenate(answers, axis=1), first.class_names)
