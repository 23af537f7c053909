"""What the names of splits and columns say: which role a split plays, which columns hold the text and the label."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .. import UserError, listed

ROLES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "development", "eval", "evaluation"),
    "test": ("test", "testing", "heldout"),
}

# Column names that say what they are. `text` and `label` win; of the others exactly one may be there.
PAIRS = (
    ("premise", "hypothesis"),
    ("sentence1", "sentence2"),
    ("sentence_1", "sentence_2"),
    ("question1", "question2"),
    ("text1", "text2"),
    ("text_a", "text_b"),
    ("question", "sentence"),
    ("question", "passage"),
    ("question", "context"),
    ("question", "answer"),
    ("query", "passage"),
    ("query", "document"),
)
TEXTS = ("text", "sentence", "content", "review", "message", "tweet", "comment", "utterance", "query", "document")
LABELS = ("label", "labels", "target", "class", "category", "intent", "sentiment", "emotion", "topic", "y")


def role_of(split: str) -> str | None:
    """The role a split's name says: `dev_matched` is a validation split, `reviews` says nothing."""
    first = re.split(r"[^a-z]+", split.lower())[0]
    return next((role for role, names in ROLES.items() if first in names), None)


def candidates(splits: Sequence[str], role: str) -> list[str]:
    """Splits whose name says `role`, those that are called exactly so first, else in the source's order."""
    return sorted((s for s in splits if role_of(s) == role), key=lambda s: s.lower() not in ROLES[role])


def text_columns(names: Sequence[str], asked: Sequence[str], where: str) -> tuple[str, ...]:
    """The one or two text columns among `names`: those asked for, else those whose names say so.

    Raises UserError, listing the columns there are, if one is missing or it is not clear which are meant.
    """
    if len(asked) > 2:
        raise UserError(f"--text {listed(asked)}: a text or a pair of texts can be read; pass --text once or twice")
    for name in asked:
        if name not in names:
            raise UserError(f"{where}: no '{name}' among {shown(names)}; pass --text with one of them")
    if asked:
        return tuple(asked)
    lower = {name.strip().lower(): name for name in reversed(names)}
    if "text" in lower:
        return (lower["text"], lower["text_pair"]) if "text_pair" in lower else (lower["text"],)
    pairs = [(lower[a], lower[b]) for a, b in PAIRS if a in lower and b in lower]
    single = [(lower[name],) for name in TEXTS if name in lower]
    found: list[tuple[str, ...]] = [*pairs] or [*single]
    if len(found) > 1:
        raise UserError(f"{where}: which of {shown(names)} is the text? pass --text {quoted(found[0][0])}")
    if not found:
        guess = next((name for name in names if not _is_in(name, LABELS)), names[0] if names else "COLUMN")
        raise UserError(f"{where}: no 'text' among {shown(names)}; pass --text {quoted(guess)}")
    return found[0]


def label_column(names: Sequence[str], asked: str | None, texts: Sequence[str], where: str) -> str | None:
    """The label column among `names`, None if none is called like one.

    Raises UserError if the one asked for is missing, or if several could be meant.
    """
    if asked is not None:
        if asked not in names:
            raise UserError(f"{where}: no '{asked}' among {shown(names)}; pass --label with one of them")
        return asked
    found = [name for name in names if _is_in(name, LABELS) and name not in texts]
    exact = [name for name in found if name.strip().lower() == "label"]
    if len(found) > 1 and not exact:
        raise UserError(f"{where}: which of {shown(names)} is the label? pass --label {quoted(found[0])}")
    return next(iter(exact or found), None)


def _is_in(name: str, table: Sequence[str]) -> bool:
    return name.strip().lower() in table


def shown(names: Sequence[str]) -> str:
    """The columns as a list, long names cut: a file without a header has its first row here."""
    short = [name if len(name) <= 30 else name[:27] + "..." for name in names[:20]]
    return str([*short, "..."] if len(names) > 20 else short)


def quoted(name: str) -> str:
    return f"'{name}'" if re.search(r"[^\w.-]", name) or not name else name
