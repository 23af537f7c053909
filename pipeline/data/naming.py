"""What the names of splits and columns say: which role a split plays, which columns hold the text and the label."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence

from .. import UserError, one_line

Guess = Callable[[], str | None] | None

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

IDS = ("id", "idx", "index", "row_id", "text_id", "title", "date", "author", "user", "rating", "stars", "score")


def role_of(split: str) -> str | None:
    """The role a split's name says: `dev_matched` is a validation split, `reviews` says nothing."""
    first = re.split(r"[^a-z]+", split.lower())[0]
    return next((role for role, names in ROLES.items() if first in names), None)


def candidates(splits: Sequence[str], role: str) -> list[str]:
    """Splits whose name says `role`, those that are called exactly so first, else in the source's order."""
    return sorted((s for s in splits if role_of(s) == role), key=lambda s: s.lower() not in ROLES[role])


def plain(name: str) -> str:
    """A name as it is compared: without what nobody sees (zero width, byte order marks) and in lower case."""
    return "".join(sign for sign in name if unicodedata.category(sign) != "Cf").strip().lower()


def is_known(name: str) -> bool:
    """Whether a column's name says that it is a text or a label, or an id, as headers do."""
    return plain(name) in (*TEXTS, *LABELS, *IDS, *(part for pair in PAIRS for part in pair))


def column(names: Sequence[str], wanted: str, option: str, where: str) -> str:
    """The column called `wanted`, or so but for case and what nobody sees.

    Raises UserError, listing the columns there are, if there is none, or more than one.
    """
    same = [name for name in names if name == wanted] or [name for name in names if plain(name) == plain(wanted)]
    if not same:
        raise UserError(f"{where}: no '{one_line(wanted, 40)}' among {shown(names)}; pass {option} with one of them")
    if len(same) > 1:
        raise UserError(f"{where}: {len(same)} columns are called {quoted(plain(wanted))}; rename all but one")
    return same[0]


def text_columns(names: Sequence[str], wanted: Sequence[str], where: str, guess: Guess = None) -> tuple[str, ...]:
    """The one or two text columns among `names`: those requested, else those whose names say so.

    `guess`: the column whose values look like texts, for the advice. Raises UserError, listing the columns there are,
    if one is missing or it is not clear which are meant.
    """
    if len(wanted) > 2:
        raise UserError(f"--text {','.join(wanted)}: a text or a pair of texts can be read; name one column or two")
    if wanted:
        return tuple(column(names, name, "--text", where) for name in wanted)
    lower = {plain(name) for name in names}
    pairs: list[tuple[str, ...]] = [pair for pair in PAIRS if lower.issuperset(pair)]
    single: list[tuple[str, ...]] = [(name,) for name in TEXTS if name in lower]
    known = [("text", "text_pair") if "text_pair" in lower else ("text",)] if "text" in lower else pairs or single
    advice = quoted((guess and guess()) or (known[0][0] if known else next(iter(names), "COLUMN")))
    if len(known) > 1:
        raise UserError(f"{where}: which of {shown(names)} is the text? pass --text {advice}")
    if not known:
        raise UserError(f"{where}: no 'text' among {shown(names)}; pass --text {advice}")
    return tuple(column(names, name, "--text", where) for name in known[0])


def label_column(
    names: Sequence[str], wanted: str | None, texts: Sequence[str], where: str, guess: Guess = None
) -> str | None:
    """The label column among `names`, None if none is called like one.

    Raises UserError if the one requested is missing, or if several could be meant.
    """
    if wanted is not None:
        return column(names, wanted, "--label", where)
    known = [name for name in names if plain(name) in LABELS and name not in texts]
    exact = [name for name in known if plain(name) == "label"]
    if len(exact) > 1:
        return column(names, "label", "--label", where)
    if len(known) > 1 and not exact:
        advice = quoted((guess and guess()) or known[0])
        raise UserError(f"{where}: which of {shown(names)} is the label? pass --label {advice}")
    return next(iter(exact or known), None)


def shown(names: Sequence[str]) -> str:
    """The columns as a list, long names cut: a file without a header has its first row here."""
    short = [one_line(name, 30) for name in names[:20]]
    return str([*short, "..."] if len(names) > 20 else short)


def quoted(name: str) -> str:
    return f"'{name}'" if re.search(r"[^\w.-]", name) or not name else name
