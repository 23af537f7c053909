"""Any source → Dataset: rows, labels, splits and what each split is for.

`read` holds a source in memory, for learning; `read_chunks` streams it, for extracting and predicting. Each module
imports only from those before it: `files` (formats), `labels` (ids and names), `splits` (which rows go where),
`naming` (what names of splits and columns say), `hub` (data sets of the Hub), `sources` (what a SOURCE means),
`dataset` (the types), `rows`, `roles`, `chunks`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .. import UserError, listed, log
from . import files, labels, naming, sources, splits
from .beside import labels_beside
from .chunks import EVERY, Chunk, columns_called, count_rows, read_chunks
from .dataset import ROLES, Dataset, SourceOptions, Split, digest_of, is_empty, subset
from .roles import assign, check_train, note_rare, seen_classes, train_name
from .rows import Columns, Looks, Raw, choose_columns, class_names, read_split, renumbered
from .sources import Source, samples

__all__ = [
    "EVERY", "ROLES", "Chunk", "Dataset", "SourceOptions", "Split", "columns_called", "count_rows", "is_empty", "read",
    "read_chunks", "samples", "subset",
]  # fmt: skip


def read(options: SourceOptions, allow_one_class: bool = False) -> Dataset:
    """A labelled source in memory, divided into train, validation and test as the options say.

    A source with one split is cut 80/10/10; one without a validation split gives a tenth of train; one without a
    labelled test split is judged on its first validation split. `notes` says what was decided, and so does the log.
    `allow_one_class`: do not refuse a train split with a single class (`class_names` then holds all that are named).

    Raises UserError, in one line, for everything that cannot be read or learnt from.
    """
    source = sources.locate(options.frames or options.source)
    notes: list[str] = []
    train = train_name(source.home, list(source.splits), options)
    raws, columns = _read_all(source, train, options, notes)
    raws = renumbered(raws, train, notes)
    where = {name: raw.where for name, raw in raws.items()}
    names = class_names(source, columns, raws, train)
    tidied = {
        name: labels.tidy(raw.labels or [None] * len(raw.texts), raw.typed, names is not None, raw.where)
        for name, raw in raws.items()
    }
    if names and labels.speak_of_others(tidied, names):
        notes.append(f"the known class names ({', '.join(list(names.values())[:3])}, ...) are not of '{columns.label}'")
        names = None
    numbers, classes = labels.encode(tidied, names, where)
    labels.refuse_ids(numbers, str(columns.label), source.home)
    if alike := labels.same_but_for_looks(classes):
        notes.append(f"classes that differ in case or white space alone: {listed(map(repr, alike[0]))}; merge them")
    complete = {name: _split(raw, numbers[name]) for name, raw in raws.items()}
    in_order = any(splits.sorted_by(split.labels) for split in complete.values())
    reduced = {name: _some(split, options, notes) for name, split in complete.items()}
    divided, roles = assign(source.home, reduced, options, notes)
    divided = {name: _limited(split, options) for name, split in divided.items()}
    if not allow_one_class:
        check_train(source.home, divided[roles["train"]], classes, options, in_order)
    divided, classes = seen_classes(divided, roles, classes, where, notes)
    note_rare(divided, roles, classes, notes)
    for note in notes:
        log.info("%s: %s", source.home, note)
    roles = {role: roles[role] for role in ROLES if role in roles}
    ordered = {name: divided[name] for name in dict.fromkeys([*roles.values(), *divided])}
    digest = digest_of(ordered, roles, classes)
    described = (source.name, ordered, roles, classes, columns.texts, columns.label, digest, tuple(notes))
    return Dataset(*described, options.group, options.time)


def _read_all(source: Source, train: str, options: SourceOptions, notes: list[str]) -> tuple[dict[str, Raw], Columns]:
    """Every split that has train's columns; one that has no role and other columns is left out with a note."""
    first = source.splits[train][0]
    columns = choose_columns(first, options)
    if files.kind(Path(first.name)) == ".txt":
        raise UserError(
            f"{first}: a .txt file has no labels to learn from; predict reads it, or write a CSV with a label"
        )
    if columns.label is None:
        known = first.column_names()
        guess = Looks(first).label() or next((name for name in known if name not in columns.texts), "COLUMN")
        raise UserError(f"{first}: no 'label' among {naming.shown(known)}; pass --label {naming.quoted(guess)}")
    count = None
    if options.rows and not (amount := splits.first_of(options.rows)).endswith("%"):
        count = int(amount)
    beside = labels_beside(source.splits, columns)
    raws = {}
    for name, parts in source.splits.items():
        known = parts[0].column_names()
        missing = [text for text in columns.texts if text not in known]
        if any(answers.split == name for answers in beside.values()):
            continue
        has_role = name in (options.train, options.validation, options.test) or naming.role_of(name)
        if missing and not has_role:
            notes.append(f"split '{name}' is left out: it has no column '{missing[0]}'")
            continue
        if missing:
            raise UserError(f"{parts[0]}: no '{missing[0]}' among {naming.shown(known)}; {first.name} has that column")
        label = columns.label if columns.label in known else None
        others = tuple(other for other in columns.others if other in known)
        answers = beside.get(name)
        its_columns = Columns(columns.texts, label, others, answers.key if answers else None, columns.required)
        raws[name] = read_split(name, parts, its_columns, count)
        if answers:
            raws[name] = answers.joined(raws[name])
            notes.append(f"the labels of '{name}' are those of '{answers.split}', by '{answers.key}'")
    return raws, columns


def _split(raw: Raw, numbers: np.ndarray) -> Split:
    ids = np.array([f"{raw.name}:{i}" for i in range(len(raw.texts))], dtype=str)
    columns = {name: np.array(["" if v is None else str(v) for v in values]) for name, values in raw.columns.items()}
    return Split(raw.name, raw.texts, numbers, ids, columns)


def _some(split: Split, options: SourceOptions, notes: list[str]) -> Split:
    """What --rows and --drop-empty leave of a split."""
    if options.rows:
        split = subset(split, np.arange(splits.rows_of(splits.first_of(options.rows), "--rows first:", len(split))))
    if not options.drop_empty:
        return split
    full = np.flatnonzero([not is_empty(text) for text in split.texts])
    if len(full) == 0:
        raise UserError(f"split '{split.name}': every text is empty; check --text")
    if len(full) < len(split):
        notes.append(f"{len(split) - len(full)} rows with an empty text dropped from {split.name}")
    return subset(split, full) if len(full) < len(split) else split


def _limited(split: Split, options: SourceOptions) -> Split:
    if not options.limit:
        return split
    count = splits.rows_of(options.limit, "--limit", len(split))
    return subset(split, splits.sample(split.labels, count, np.random.default_rng(options.seed)))
