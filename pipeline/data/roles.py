"""Which split plays which role, what is cut from train where one is wanting, and what cannot be learnt from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from .. import UserError, listed
from . import naming, splits
from .dataset import FEW_ROWS, ROLES, SourceOptions, Split, subset
from .labels import Where


def train_name(home: str, names: Sequence[str], options: SourceOptions) -> str:
    """The split to learn from. Raises UserError if no split is called so and there is more than one."""
    for choice in (options.train, options.validation, options.test):
        if choice is not None and choice not in names:
            raise UserError(f"{home}: no split '{choice}' among {listed(names)}; pass one of them")
    matches = [options.train] if options.train else naming.candidates(names, "train")
    if not matches and len(names) == 1:
        matches = [names[0]]
    if not matches:
        raise UserError(f"{home}: which of the splits {listed(names)} is for training? pass --train NAME")
    return str(matches[0])


def assign(
    home: str, available: dict[str, Split], options: SourceOptions, notes: list[str]
) -> tuple[dict[str, Split], dict[str, str]]:
    """Splits and roles: the source's own, those asked for, and parts of train where one is wanting."""
    if options.group and options.time:
        raise UserError("--group and --time divide rows in two ways; pass one of them")
    train = train_name(home, list(available), options)
    if not available[train].labelled:
        raise UserError(f"{home}: split '{train}' has no labels to learn from; pass --label or another --train")
    if options.split:
        return _by_ratios(home, available, train, options, notes)
    free = [name for name in available if name != train and available[name].labelled]
    roles = {"train": train}
    for role in ("validation", "test"):
        wanted = getattr(options, role)
        if wanted is not None and wanted in roles.values():
            raise UserError(f"{home}: split '{wanted}' cannot play two roles; pass another --{role}")
        if wanted is not None and not available[wanted].labelled:
            raise UserError(f"{home}: split '{wanted}' has no labels to score; pass another --{role}")
        if wanted is not None:
            roles[role] = wanted
    free = [name for name in free if name not in roles.values()]
    choices: list[str] = []
    _fill_roles(roles, free, available, choices)
    if _stays_whole(roles, available, options):
        return _whole(available, roles)
    notes += choices
    if idle := [name for name in free if name not in roles.values()]:
        notes.append(f"not used: {listed(idle)} (--train, --validation and --test name others)")
    return _carve(available, roles, options, notes)


def _fill_roles(roles: dict[str, str], free: list[str], available: dict[str, Split], notes: list[str]) -> None:
    """Give the roles that nobody asked for to the splits whose names say so."""
    tests, validations = naming.candidates(free, "test"), naming.candidates(free, "validation")
    if "test" not in roles and tests:
        roles["test"] = tests[0]
    elif "test" not in roles and validations:
        roles["test"] = validations[0]
        validations = []  # what is judged stays apart: validation comes from train, even where there is a second one
        notes.append(f"{_why_no_test(available) or 'no test split'}: judged on '{roles['test']}'")
    if "validation" not in roles and validations:
        roles["validation"] = validations[0]


def _why_no_test(available: dict[str, Split]) -> str:
    """What is wrong with the test split, if there is one that cannot be judged on."""
    unlabelled = [name for name in naming.candidates(list(available), "test") if not available[name].labelled]
    return f"the split '{unlabelled[0]}' has no labels" if unlabelled else ""


def _carve(
    available: dict[str, Split], roles: dict[str, str], options: SourceOptions, notes: list[str]
) -> tuple[dict[str, Split], dict[str, str]]:
    """Cut the roles that are still open from train: 10 % each, equal texts on one side."""
    wanted = [role in roles for role in ROLES]
    if all(wanted):
        return available, roles
    train = roles["train"]
    ratios = [80.0 if len(roles) == 1 else 90.0, *(0.0 if filled else 10.0 for filled in wanted[1:])]
    if len(roles) == 1:
        why = _why_no_test(available)
        lacking = f"{why} and there is no validation split" if why else "no validation and no test split"
        notes.append(f"{lacking}: '{train}' cut 80/10/10 into train, validation and test")
    else:
        notes.append(f"no {ROLES[wanted.index(False)]} split: 10 % of '{train}' taken for it")
    return _parts(available, train, ratios, roles, options)


def _by_ratios(
    home: str, available: dict[str, Split], train: str, options: SourceOptions, notes: list[str]
) -> tuple[dict[str, Split], dict[str, str]]:
    """--split: the split to learn from is cut, whatever else there is."""
    if options.validation or options.test:
        raise UserError(f"{home}: --split cuts '{train}' itself; pass either it or --validation and --test")
    notes.append(f"'{train}' cut {options.split} into train, validation and test")
    if len(available) > 1:
        notes.append(f"not used: {listed(name for name in available if name != train)}")
    return _parts({train: available[train]}, train, splits.ratios_of(options.split or ""), {}, options)


def _parts(
    available: dict[str, Split], source: str, ratios: Sequence[float], roles: dict[str, str], options: SourceOptions
) -> tuple[dict[str, Split], dict[str, str]]:
    """`kept` with split `source` cut by `ratios` (train, validation, test); a ratio of 0 leaves a role as it is."""
    split = available[source]
    rng = np.random.default_rng(options.seed)
    try:
        if options.time:
            pieces = splits.cut_in_time(moments(split, options.time), ratios)
        else:
            pieces = splits.cut(split.labels, groups(split, options.group), ratios, rng)
    except UserError as error:
        raise UserError(f"split '{source}': {error}") from error
    others = {name: split for name, split in available.items() if name != source}
    made, named = {}, dict(roles)
    for role, ratio, rows in zip(ROLES, ratios, pieces, strict=True):
        if ratio > 0:
            name = role if role not in others else f"{role}_of_{source}"
            made[name] = subset(split, rows, name)
            named[role] = name
    return made | others, named


def _stays_whole(roles: Mapping[str, str], kept: Mapping[str, Split], options: SourceOptions) -> bool:
    """Whether all labelled rows stay in one split: where that is asked for, or nobody says and they are few."""
    if options.whole is not None:
        return options.whole
    rows = len(kept[roles["train"]])
    rows = splits.rows_of(options.limit, "--limit", rows) if options.limit else rows
    return len(roles) == 1 and rows <= FEW_ROWS


def _whole(kept: dict[str, Split], roles: Mapping[str, str]) -> tuple[dict[str, Split], dict[str, str]]:
    """The splits that play a role as one, which learns and is judged."""
    parts = [kept[name] for name in dict.fromkeys(roles.values())]
    columns = [column for column in parts[0].columns if all(column in part.columns for part in parts)]
    others = {name: split for name, split in kept.items() if name not in roles.values()}
    name = "all" if "all" not in others else f"all_of_{roles['train']}"
    joined = Split(
        name,
        [text for part in parts for text in part.texts],
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.row_ids for part in parts]),
        {column: np.concatenate([part.columns[column] for part in parts]) for column in columns},
    )
    return {name: joined} | others, {"train": name}


def groups(split: Split, column: str | None) -> np.ndarray:
    """(n,) numbers of rows that stay together: equal texts, and those that share a value of `column`."""
    equal = splits.groups_of(split.texts)
    return equal if column is None else splits.joined(equal, _column(split, "--group", column))


def moments(split: Split, column: str) -> np.ndarray:
    """(n,) numbers in the order of `column`. Raises UserError if it holds no times."""
    return splits.moments_of(_column(split, "--time", column), split.row_ids, f"--time {column}")


def _column(split: Split, option: str, column: str) -> np.ndarray:
    if column not in split.columns:
        raise UserError(
            f"{option} {column}: no such column in split '{split.name}'; it is needed wherever rows are divided"
        )
    return split.columns[column].astype(str)


# ── what cannot be learnt from ──────────────────────────────────────────────────────────────────────────────────────


def check_train(home: str, train: Split, classes: tuple[str, ...], options: SourceOptions, in_order: bool) -> None:
    """Raises UserError if train has a single class. `in_order`: the source is sorted by label."""
    present = np.unique(train.labels)
    if len(present) > 1:
        return
    what = f"{home}: split '{train.name}' has one class, '{classes[present[0]]}' ({len(train)} rows)"
    if options.rows:
        order = "is sorted by label" if in_order else "may be sorted by label"
        raise UserError(f"{what}: --rows takes the first rows and the source {order}; pass --limit {options.rows[6:]}")
    raise UserError(f"{what}; a classifier needs two: check --label, or add rows of another class")


def seen_classes(
    divided: dict[str, Split],
    roles: dict[str, str],
    classes: tuple[str, ...],
    where: Mapping[str, Where],
    notes: list[str],
) -> tuple[dict[str, Split], tuple[str, ...]]:
    """Renumber the labels so that exactly the classes with a row in train are left.

    Raises UserError, naming the row, if validation or test has a class that train lacks.
    """
    present = np.unique(divided[roles["train"]].labels)
    if len(present) == 1:
        present = np.arange(len(classes))  # the caller allowed it; all named classes stay
    renumber = np.full(len(classes) + 1, -1, np.int64)  # the last place serves -1
    renumber[present] = np.arange(len(present))
    made = {}
    for name, split in divided.items():
        numbers = renumber[split.labels]
        unseen = np.flatnonzero((numbers < 0) & (split.labels >= 0))
        if len(unseen) and name in roles.values():
            row = split.row_ids[unseen[0]]
            origin, _, number = str(row).rpartition(":")
            label = classes[split.labels[unseen[0]]]
            raise UserError(
                f"{where[origin](int(number))}: label '{label}' of split '{name}' has no row in '{roles['train']}' "
                f"(rows like it: {len(unseen)}); add some to train, raise --limit, or drop them"
            )
        if len(unseen):
            notes.append(f"split '{name}' has labels that train lacks: treated as unlabelled")
            numbers = np.full(len(split), -1, np.int64)
        made[name] = replace(split, labels=numbers)
    if len(present) < len(classes):
        absent = [name for i, name in enumerate(classes) if i not in set(present.tolist())]
        notes.append(f"{len(absent)} of {len(classes)} named classes have no row in train: {listed(absent[:5])}")
    return made, tuple(classes[i] for i in present)


def note_rare(divided: dict[str, Split], roles: dict[str, str], classes: tuple[str, ...], notes: list[str]) -> None:
    """Say which classes have one row to learn from, and which the test split cannot judge."""
    counts = np.bincount(divided[roles["train"]].labels, minlength=len(classes))
    if rare := [classes[i] for i in np.flatnonzero(counts == 1)]:
        notes.append(f"one row in train: {listed(rare[:5])}{', ...' if len(rare) > 5 else ''}")
    judged = divided[roles["test"]] if "test" in roles else None
    if judged is not None and len(unjudged := np.setdiff1d(np.arange(len(classes)), judged.labels)):
        shown = listed(classes[i] for i in unjudged[:5])
        notes.append(f"{len(unjudged)} of {len(classes)} classes have no row in '{judged.name}': {shown}")
