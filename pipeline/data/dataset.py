"""What reading gives: rows, labels, splits and what each split is for."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from .. import UserError, listed
from .frames import Frames

ROLES = ("train", "validation", "test")
FEW_ROWS = 2000  # up to which a source without a test split is left whole where nobody says


@dataclass(frozen=True)
class SourceOptions:
    """What to read and how to divide it. All of it changes the numbers.

    `source` is a bundled sample, a folder, a file or a Hub data set; whatever else is None is found out.

    Raises nothing itself: `read` answers for what cannot be read.

    Examples
    --------
    >>> from probe_or_tune import SourceOptions
    >>> SourceOptions("reviews.csv", text=("body",), label="stars", split="80/0/20").split
    '80/0/20'
    """

    source: str
    text: tuple[str, ...] = ()
    label: str | None = None
    train: str | None = None  # which split plays which role
    validation: str | None = None
    test: str | None = None
    limit: str | None = None  # "500" or "5%": seeded, stratified, of every split
    rows: str | None = None  # "first:1000" or "first:5%": as they come, of every split
    split: str | None = None  # "80/0/20"
    drop_empty: bool = False
    seed: int = 42
    frames: Frames | None = None  # rows in memory, read instead of what `source` names
    group: str | None = None  # column whose rows stay together, wherever rows are divided
    time: str | None = None  # column in whose order rows are divided: train is the past
    whole: bool | None = False  # all labelled rows in one split, for cross-validation; None: if they are few

    def __post_init__(self) -> None:
        """One column is a tuple of it, and a path is its name."""
        if isinstance(self.source, os.PathLike):
            object.__setattr__(self, "source", os.fspath(self.source))
        if isinstance(self.text, str):
            object.__setattr__(self, "text", (self.text,))


@dataclass(frozen=True)
class Split:
    """The rows of one split, in the source's order: n texts, their class numbers (n,) and ids (n,).

    Raises nothing itself.

    Examples
    --------
    >>> import numpy as np
    >>> from probe_or_tune import Split
    >>> split = Split("train", [("win a prize",), ("see you",)], np.array([1, 0]), np.array(["train:0", "train:1"]))
    >>> len(split), split.labelled
    (2, True)
    """

    name: str
    texts: list[tuple[str, ...]]  # n tuples of 1 or 2 strings
    labels: np.ndarray  # (n,) int64 class numbers; all -1 if the split is unlabelled
    row_ids: np.ndarray  # (n,) str, "train:17" = split of the source : row in it, from 0
    columns: dict[str, np.ndarray] = field(default_factory=dict)  # other small columns, (n,) str each

    def __len__(self) -> int:
        return len(self.texts)

    def __repr__(self) -> str:
        return f"<Split {self.name}: {len(self):,} rows>"

    @property
    def labelled(self) -> bool:
        """Whether its rows have labels: all of them do, or none."""
        return bool(len(self.labels)) and bool(self.labels[0] >= 0)


@dataclass(frozen=True)
class Dataset:
    """Splits under the names that the source gives them, and their roles; `class_names` (k,) number the labels.

    Raises UserError where a role is requested (`.train`, `.validation`, `.test`) that no split plays.

    Examples
    --------
    >>> from probe_or_tune import SourceOptions, read
    >>> data = read(SourceOptions("sms-spam"))
    >>> data.class_names, len(data.train), len(data.validation), len(data.test)
    (('ham', 'spam'), 4459, 558, 557)
    """

    name: str
    splits: dict[str, Split]
    roles: dict[str, str]  # "train", "validation", "test" → split name; not every role need be there
    class_names: tuple[str, ...]  # (k,) every one has a row in train
    text_columns: tuple[str, ...]
    label_column: str | None
    digest: str  # of rows, labels, row ids, roles, class names: what a run depends on
    notes: tuple[str, ...] = ()
    group: str | None = None  # columns by which its rows are divided, see SourceOptions
    time: str | None = None

    def __repr__(self) -> str:
        roles = ", ".join(f"{role} {len(self.splits[name]):,}" for role, name in self.roles.items())
        return f"<Dataset {self.name}: {roles} rows, {len(self.class_names)} classes>"

    def role(self, role: str) -> Split:
        """Raises UserError if no split plays `role`."""
        if role not in self.roles:
            raise UserError(f"{self.name}: no {role} split among {listed(self.splits)}; pass --{role} NAME or --split")
        return self.splits[self.roles[role]]

    @property
    def train(self) -> Split:
        return self.role("train")

    @property
    def validation(self) -> Split:
        return self.role("validation")

    @property
    def test(self) -> Split:
        return self.role("test")

    def labelled(self, split: str) -> bool:
        return self.splits[split].labelled

    @property
    def whole(self) -> bool:
        """Whether nothing is held back: every labelled row stands in train, to be judged by cross-validation."""
        return set(self.roles) == {"train"}


def is_empty(text: tuple[str, ...]) -> bool:
    """Whether a text, or one of a pair, is nothing but white space."""
    return any(not part or part.isspace() for part in text)


def subset(split: Split, rows: np.ndarray, name: str | None = None) -> Split:
    """The `rows` (m,) of a split, in that order."""
    rows = np.asarray(rows, np.int64)
    return Split(
        name or split.name,
        [split.texts[i] for i in rows],
        split.labels[rows],
        split.row_ids[rows],
        {column: values[rows] for column, values in split.columns.items()},
    )


def digest_of(divided: dict[str, Split], roles: dict[str, str], classes: tuple[str, ...]) -> str:
    """Hexadecimal digest of the splits that play a role: texts, labels, row ids, roles, class names."""
    state = hashlib.blake2b(digest_size=16)

    def add(strings: Sequence[str]) -> None:
        raw = "".join(strings).encode("utf-8", "surrogatepass")
        lengths = np.fromiter(map(len, strings), np.int64, len(strings))
        state.update(len(strings).to_bytes(8, "little") + lengths.tobytes() + raw)

    add(classes)
    for role, name in sorted(roles.items()):
        split = divided[name]
        add([role, name, str(len(split.texts[0]))])
        add([part for text in split.texts for part in text])
        add(split.row_ids.tolist())
        state.update(split.labels.tobytes())
    return state.hexdigest()
