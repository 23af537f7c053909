"""Anybody's answers as a contender: a file of predictions, by row id, by text, or in the order of the judged rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import UserError, kinds, listed, log, one_line
from ..data import Dataset
from ..data.sources import File
from ..files import expanded
from ..metrics import METRICS
from ..run import Cost, Predictions, Run

KIND = "predictions"
IDS = ("row_id", "id")
FORMS = ("p_{}", "proba_{}", "probability_{}", "proba.{}", "{}")  # the last but one: JSON as `predict` writes it
LABELS = ("label", "prediction", "predicted", "answer", "output")
SECONDS, MONEY = {"seconds": 1.0, "ms": 1e-3, "latency": 1.0}, ("cost", "money", "usd", "price")
UNKNOWN = "predictions from a file: whether their model has seen the judged rows is not known"
CHUNK = 65536


@dataclass(frozen=True)
class Table:
    """The columns of a file of predictions, n rows each."""

    path: Path
    columns: dict[str, list[Any]]

    def first(self, names: Sequence[str]) -> str | None:
        """The first of the names that is a column."""
        return next((name for name in names if name in self.columns), None)

    def numbers(self, name: str) -> np.ndarray:
        """A column as numbers (n,). Raises UserError, naming the row, for what is none."""
        values = np.empty(len(self.columns[name]))
        for row, value in enumerate(self.columns[name]):
            try:
                values[row] = float(value)
            except (TypeError, ValueError) as error:
                shown = one_line(repr(value), 40)
                raise UserError(f"{self.path} row {row}: {shown} in '{name}' is no number") from error
        return values


def opened(*_: Any) -> Any:
    """Raises UserError: there is no model behind a file of predictions."""
    raise UserError("a file of predictions answers no new text; ask the model that it came from")


def imported(given: str, dataset: Dataset, metric: str = "accuracy") -> Run:
    """`NAME=FILE` as a run on the test split of `dataset`.

    FILE is csv, tsv, parquet or jsonl. It holds a label (or the probability of each class: `p_CLASS`, `proba_CLASS`,
    or columns called like the classes), a row id (`row_id`) or the text itself, or as many rows as the split, in its
    order; and `seconds` or `ms` a text, and a price (`cost`), if they are known.

    Raises UserError if it cannot be read, leaves judged rows out, or answers something that is no class.
    """
    name, path = named(given)
    part = File(path)
    wanted = part.column_names()
    columns: dict[str, list[Any]] = {column: [] for column in wanted}
    for block in part.blocks(wanted, CHUNK):
        for column in wanted:
            columns[column] += block.columns[column]
    table = Table(path, columns)
    rows = positions(table, dataset)
    proba, graded = probabilities(table, dataset.class_names, rows)
    if not graded and not METRICS[metric].right_or_wrong and METRICS[metric].rows is not None:
        raise UserError(f"--predictions {name}: {metric} needs probabilities, {path} has none; pass another --metric")
    test = dataset.test
    cost, notes = priced(table)
    return Run(
        kind=KIND,
        settings={"called": name, "file": str(path)},
        class_names=dataset.class_names,
        predictions={"test": Predictions(test.name, test.row_ids, test.labels, proba)},
        cost=cost,
        dataset=dataset.name,
        dataset_digest=dataset.digest,
        notes=(UNKNOWN, *notes),
    )


def named(given: str) -> tuple[str, Path]:
    """`NAME=FILE` apart. Raises UserError if it is not that, or if NAME is a contender's."""
    name, equals, file = given.partition("=")
    name = name.strip()
    if not (name and equals and file):
        raise UserError(f"--predictions {given}: write NAME=FILE, such as gpt=answers.csv")
    if name.partition("+")[0] in kinds.KINDS:
        raise UserError(f"--predictions {given}: '{name}' is a contender's name; choose another")
    return name, expanded(file)


# ── which row is which ──────────────────────────────────────────────────────────────────────────────────────────────


def positions(table: Table, dataset: Dataset) -> np.ndarray:
    """Row of the table (n,) for each row of the judged split.

    Raises UserError if a judged row has none, or if it has several that differ.
    """
    test = dataset.test
    by_id, texts = table.first(IDS), [name for name in dataset.text_columns if name in table.columns]
    if by_id is not None and set(map(str, table.columns[by_id])) & set(test.row_ids.tolist()):
        keys: list[Any] = list(map(str, table.columns[by_id]))
        wanted: list[Any] = test.row_ids.tolist()
    elif len(texts) == len(dataset.text_columns) or "text" in table.columns:
        texts = texts or ["text", *(["text_pair"] if len(dataset.text_columns) > 1 else [])]
        keys, wanted = list(zip(*(table.columns[name] for name in texts), strict=True)), list(test.texts)
    elif by_id is not None:
        raise UserError(
            f"{table.path}: no '{by_id}' is that of a judged row ({test.row_ids[0]}, ...); give these, or "
            f"'{dataset.text_columns[0]}', or leave '{by_id}' out if the rows are in order"
        )
    else:
        count = len(next(iter(table.columns.values())))
        if count != len(test):
            raise UserError(
                f"{table.path}: {count:,} rows, the judged split '{test.name}' has {len(test):,}; give a column "
                f"'row_id' ({test.row_ids[0]}, ...) or '{dataset.text_columns[0]}', or these rows in order"
            )
        log.info("%s: no row id and no text; taken to be the %d rows of '%s' in order", table.path, count, test.name)
        return np.arange(count)
    places: dict[Any, list[int]] = {}
    for row, key in enumerate(keys):
        places.setdefault(key, []).append(row)
    missing = [i for i, key in enumerate(wanted) if key not in places]
    if missing:
        raise UserError(
            f"{table.path}: {len(missing):,} of the {len(test):,} judged rows are not in it, the first of them "
            f"{test.row_ids[missing[0]]}; answer all of them"
        )
    for key in set(wanted):
        answers = {str(table.columns[c][row]) for row in places[key] for c in [table.first(LABELS)] if c}
        if len(answers) > 1:
            raise UserError(f"{table.path}: rows {listed(places[key][:3])} answer one text in different ways")
    return np.array([places[key][0] for key in wanted], np.int64)


# ── what it says ────────────────────────────────────────────────────────────────────────────────────────────────────


def probabilities(table: Table, class_names: Sequence[str], rows: np.ndarray) -> tuple[np.ndarray, bool]:
    """Probabilities (n, k) of the judged rows, and whether the file holds them; else 1 for the label it gives.

    Raises UserError for a label that is no class, and for numbers that are no probabilities.
    """
    label = table.first(LABELS)
    form = next((form for form in FORMS if all(form.format(name) in table.columns for name in class_names)), None)
    if form is None and label is None:
        each = listed(f"p_{name}" for name in class_names[:3]) + (", …" if len(class_names) > 3 else "")
        raise UserError(
            f"{table.path}: neither a label nor a probability of each class among {listed(table.columns)}; call the "
            f"label one of {listed(LABELS[:3])}, or the probabilities {each}"
        )
    if form is None:
        assert label is not None
        return np.eye(len(class_names), dtype=np.float32)[numbers_of(table, label, class_names, rows)], False
    proba = np.stack([table.numbers(form.format(name))[rows] for name in class_names], axis=1)
    sums = proba.sum(1)
    if not np.isfinite(proba).all() or (proba < 0).any() or (np.abs(sums - 1) > 0.01).any():
        bad = int(np.flatnonzero(~np.isfinite(sums) | (proba < 0).any(1) | ~(np.abs(sums - 1) <= 0.01))[0])
        raise UserError(f"{table.path} row {rows[bad]}: its probabilities are no shares of 1 ({sums[bad]:.3g} in all)")
    proba = proba / sums[:, None]
    if label is not None:
        given = numbers_of(table, label, class_names, rows)
        other = int((proba[np.arange(len(rows)), given] < proba.max(1) - 1e-6).sum())
        if other:
            raise UserError(
                f"{table.path}: in {other:,} rows '{label}' is not the likeliest class; leave one of the two out"
            )
    return proba.astype(np.float32), True


def numbers_of(table: Table, column: str, class_names: Sequence[str], rows: np.ndarray) -> np.ndarray:
    """Class numbers (n,) of the labels of some rows; case and white space around them do not count where none is lost.

    Raises UserError, with the most frequent ones, for labels that are no class.
    """
    number = {name: i for i, name in enumerate(class_names)}
    plain = {name.strip().casefold(): i for i, name in enumerate(class_names)}
    known = number if len(plain) < len(number) else plain | number
    said = [str(table.columns[column][row]) for row in rows]
    at = [known.get(value, known.get(value.strip().casefold(), -1)) for value in said]
    strange = [value for value, i in zip(said, at, strict=True) if i < 0]
    if strange:
        shown = listed([f"'{one_line(value, 30)}'" for value in sorted(set(strange), key=strange.count)[::-1][:3]])
        raise UserError(
            f"{table.path}: {len(strange):,} answers are none of the classes ({shown}); "
            f"map them to {listed(class_names)}"
        )
    return np.array(at, np.int64)


def priced(table: Table) -> tuple[Cost, list[str]]:
    """Seconds and money a text, on average, as far as the file says.

    Raises UserError, naming the row, for what is less than nothing or no number.
    """
    time, money = table.first(tuple(SECONDS)), table.first(MONEY)
    for column in filter(None, (time, money)):
        bad = np.flatnonzero(~(np.isfinite(numbers := table.numbers(column)) & (numbers >= 0)))
        if len(bad):
            raise UserError(f"{table.path} row {bad[0]}: '{column}' is {numbers[bad[0]]:g}; give 0 or more")
    seconds = float(table.numbers(time).mean()) * SECONDS[time] if time else None
    prices = table.numbers(money) if money else np.empty(0)
    notes = [f"{prices.mean():.4g} ({money}) a text, {prices.sum():.4g} in all"] if money else []
    return Cost(ms_per_text_batch=None if seconds is None else 1000 * seconds), notes
