"""Dataset + token lengths → Profile: what is in the data, and what of it will cost score before any model is blamed."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from .. import CallableRoom
from ..data import Dataset, Split, is_empty
from ..data.splits import normalize_whitespace, sorted_by
from .findings import find
from .record import Profile, SplitProfile
from .vocabulary import tokens_of, unknown_words

MULTIPLE = 8  # a proposed max_length is a multiple of this: hardware likes it, and so do people
PLACEHOLDERS = {"nan", "null", "none", "n/a", "na", "<na>", "nat", "undefined", "#n/a", "nil", "missing"}
CHUNK = 4096  # texts whose ids are held at once
QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
FIVE = {"min": 0.0, "p25": 0.25, "p50": 0.5, "p75": 0.75, "max": 1.0}  # what a box plot draws


class Lengths(Protocol):
    """What explore asks of a tokenizer. Unknown tokens are counted, and tokens shown, where it has a `backend` too."""

    def lengths(self, texts: Sequence[tuple[str, ...]]) -> np.ndarray:
        """Tokens of each full text (n,), special ones included."""


# ── tokens ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def quantiles(values: np.ndarray, table: Mapping[str, float]) -> dict[str, float]:
    """Named quantiles of values (n,), interpolated linearly; 0 where there are none."""
    if len(values) == 0:
        return dict.fromkeys(table, 0.0)
    return dict(zip(table, map(float, np.quantile(values, list(table.values()))), strict=True))


def token_summary(lengths: np.ndarray) -> dict[str, float]:
    """mean, p50, p90, p95, p99 and max of token counts (n,)."""
    mean = float(lengths.mean()) if len(lengths) else 0.0
    return {"mean": mean, **quantiles(lengths, QUANTILES), "max": float(lengths.max(initial=0))}


def proposed_length(lengths: np.ndarray, limit: int) -> int:
    """The 99 % quantile of token counts (n,), rounded up to a multiple of 8, at most `limit`."""
    p99 = quantiles(lengths, QUANTILES)["p99"]
    return min(limit, max(MULTIPLE, int(np.ceil(p99 / MULTIPLE)) * MULTIPLE))


def cut_at(lengths: np.ndarray, limit: int, proposed: int) -> dict[str, float]:
    """Share of token counts (n,) above 8, 16, 32, …, `proposed` and `limit`, up to the first that cuts none."""
    shares, powers = {}, [MULTIPLE * 2**i for i in range(12)]
    for length in sorted({*(p for p in powers if p < limit), proposed, limit}):
        shares[str(length)] = float((lengths > length).mean()) if len(lengths) else 0.0
        if shares[str(length)] == 0 and length >= proposed:
            break
    return shares


def count_tokens(texts: Sequence[tuple[str, ...]], tokenizer: Lengths) -> tuple[np.ndarray, np.ndarray | None]:
    """Tokens of each text (n,), and how many of them are unknown (n,) if the tokenizer can tell."""
    unknown_id = _unknown_id(tokenizer)
    if unknown_id is None:
        return np.asarray(tokenizer.lengths(texts), np.int64), None
    lengths, unknown = np.zeros(len(texts), np.int64), np.zeros(len(texts), np.int64)
    for start in range(0, len(texts), CHUNK):
        ids = tokenizer.encode(texts[start : start + CHUNK], 2**31 - 1).ids  # type: ignore[attr-defined]
        lengths[start : start + CHUNK] = [len(row) for row in ids]
        unknown[start : start + CHUNK] = [int((np.asarray(row) == unknown_id).sum()) for row in ids]
    return lengths, unknown


def _unknown_id(tokenizer: Lengths) -> int | None:
    """The id that stands for what the vocabulary lacks, None for tokenizers that spell everything."""
    backend = getattr(tokenizer, "backend", None)
    unknown = getattr(getattr(backend, "model", None), "unk_token", None)
    return backend.token_to_id(unknown) if backend is not None and isinstance(unknown, str) else None


# ── repeated texts ──────────────────────────────────────────────────────────────────────────────────────────────────


def repeats(texts: Sequence[tuple[str, ...]], labels: np.ndarray) -> tuple[int, int, int]:
    """Rows that repeat an earlier text, texts with two labels or more, and rows that their text's majority outvotes."""
    by_text: dict[tuple[str, ...], Counter[int]] = {}
    for text, label in zip(texts, labels.tolist(), strict=True):
        by_text.setdefault(text, Counter())[label] += 1
    mixed = [votes for votes in by_text.values() if len(votes) > 1]
    return len(texts) - len(by_text), len(mixed), sum(votes.total() - max(votes.values()) for votes in mixed)


def leaks(splits: Mapping[str, Split]) -> tuple[dict[str, int], dict[str, int]]:
    """For every pair "a/b" of splits: rows of b whose text stands in a; and rows that do only but for white space."""
    exact, near = {}, {}
    plain = {name: [normalize_whitespace(text) for text in split.texts] for name, split in splits.items()}
    names = list(splits)
    for i, first in enumerate(names):
        exact_texts, squeezes = set(splits[first].texts), set(plain[first])
        for second in names[i + 1 :]:
            same = sum(text in exact_texts for text in splits[second].texts)
            exact[f"{first}/{second}"] = same
            near[f"{first}/{second}"] = sum(text in squeezes for text in plain[second]) - same
    return exact, near


# ── by class ────────────────────────────────────────────────────────────────────────────────────────────────────────


def by_class(values: np.ndarray, labels: np.ndarray, class_names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Box-plot numbers of values (n,) for each class that has rows."""
    boxes = {}
    for i, name in enumerate(class_names):
        of_class = values[labels == i]
        if len(of_class):
            boxes[name] = {**quantiles(of_class, FIVE), "mean": float(of_class.mean())}
    return boxes


def named_in_text(texts: Sequence[tuple[str, ...]], labels: np.ndarray, class_names: Sequence[str]) -> dict[str, float]:
    """Share of each class's rows in which the class's name stands as a word, whatever its case.

    Names without two letters in a row, such as numbers, are left out.
    """
    shares = {}
    for i, name in enumerate(class_names):
        plain = re.sub(r"[_\s]+", " ", name).strip().lower()
        rows = np.flatnonzero(labels == i)
        if not re.search(r"[^\W\d_]{2}", plain) or not len(rows):
            continue
        word = re.compile(rf"(?<!\w){re.escape(plain)}(?!\w)")
        lowered = (" ".join(texts[row]).lower() for row in rows.tolist())
        shares[name] = sum(plain in text and word.search(text) is not None for text in lowered) / len(rows)
    return shares


# ── all of it ───────────────────────────────────────────────────────────────────────────────────────────────────────


def profile(
    dataset: Dataset, tokenizer: Lengths, limit: int, max_length: int | None = None, show_tokens: int = 0
) -> Profile:
    """Look at every split of `dataset` with the token counts of an encoder that reads `limit` tokens.

    `max_length`: what is used now, `limit` if None. `show_tokens`: how many rows of train to list the
    tokens of.
    """
    effective = min(max_length or limit, limit)
    counted = {name: count_tokens(split.texts, tokenizer) for name, split in dataset.splits.items()}
    lengths = np.concatenate([tokens for tokens, _ in counted.values()])
    labels = np.concatenate([split.labels for split in dataset.splits.values()])
    texts = [text for split in dataset.splits.values() for text in split.texts]
    words = np.fromiter((sum(len(part.split()) for part in text) for text in texts), np.int64, len(texts))
    exact, near = leaks(dataset.splits)
    splits = {name: _split(dataset, name, counted[name][0], effective) for name in dataset.splits}
    proposed = proposed_length(lengths, limit)
    made = Profile(
        name=dataset.name,
        digest=dataset.digest,
        class_names=dataset.class_names,
        text_columns=dataset.text_columns,
        splits=splits,
        tokens=token_summary(lengths),
        limit=limit,
        max_length=proposed,
        effective_max_length=effective,
        truncated_share=float((lengths > effective).mean()),
        proposed_truncated_share=float((lengths > proposed).mean()),
        empty=sum(split.empty for split in splits.values()),
        placeholders=sum(any(part.strip().lower() in PLACEHOLDERS for part in text) for text in texts),
        duplicates=sum(split.duplicates for split in splits.values()),
        conflicting=sum(split.conflicting for split in splits.values()),
        leaks=exact,
        near_leaks=near,
        sorted_by_label=any(split.sorted_by_label for split in splits.values()),
        tokens_by_class=by_class(lengths, labels, dataset.class_names),
        words_by_class=by_class(words, labels, dataset.class_names),
        unknown_by_class=_unknown(counted, labels, dataset.class_names),
        unknown_words=_unknown_words(counted, texts, tokenizer),
        cut_at=cut_at(lengths, limit, proposed),
        named_in_text=named_in_text(texts, labels, dataset.class_names),
        findings=(),
        notes=dataset.notes,
        shown_tokens=_shown(dataset, tokenizer, show_tokens),
        padded_share=1 - float(np.minimum(lengths, effective).mean()) / effective,
    )
    return replace(made, findings=find(made, dataset.roles))


def _split(dataset: Dataset, name: str, lengths: np.ndarray, effective: int) -> SplitProfile:
    split = dataset.splits[name]
    duplicates, conflicting, outvoted = repeats(split.texts, split.labels)
    counts = np.bincount(split.labels[split.labels >= 0], minlength=len(dataset.class_names))
    return SplitProfile(
        role=next((role for role, played_by in dataset.roles.items() if played_by == name), None),
        rows=len(split),
        classes=dict(zip(dataset.class_names, counts.tolist(), strict=True)) if split.labelled else {},
        empty=sum(map(is_empty, split.texts)),
        duplicates=duplicates,
        conflicting=conflicting,
        outvoted=outvoted,
        sorted_by_label=sorted_by(split.labels),
        truncated_share=float((lengths > effective).mean()) if len(lengths) else 0.0,
        tokens=token_summary(lengths),
    )


def _unknown(
    counted: Mapping[str, tuple[np.ndarray, np.ndarray | None]], labels: np.ndarray, class_names: Sequence[str]
) -> dict[str, float] | None:
    parts = [unknown for _, unknown in counted.values() if unknown is not None]
    if len(parts) < len(counted):
        return None
    unknown, lengths = np.concatenate(parts), np.concatenate([tokens for tokens, _ in counted.values()])
    return {
        name: float(unknown[labels == i].sum() / max(1, lengths[labels == i].sum()))
        for i, name in enumerate(class_names)
        if (labels == i).any()
    }


def _unknown_words(
    counted: Mapping[str, tuple[np.ndarray, np.ndarray | None]], texts: Sequence[tuple[str, ...]], tokenizer: Lengths
) -> dict[str, int] | None:
    parts, unknown_id = [unknown for _, unknown in counted.values() if unknown is not None], _unknown_id(tokenizer)
    if unknown_id is None or len(parts) < len(counted):
        return None
    return unknown_words(texts, np.concatenate(parts), tokenizer.backend, unknown_id)  # type: ignore[attr-defined]


def _shown(dataset: Dataset, tokenizer: Lengths, rows: int) -> tuple[dict[str, Any], ...]:
    backend, train = getattr(tokenizer, "backend", None), dataset.train
    if backend is None:
        return ()
    return tuple(
        {
            "row_id": str(train.row_ids[i]),
            "text": list(train.texts[i]),
            "tokens": tokens_of(train.texts[i], backend),
        }
        for i in range(min(rows, len(train)))
    )


sys.modules[__name__].__class__ = CallableRoom
