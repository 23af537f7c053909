"""What exploring a data set gives."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Finding:
    """One thing worth knowing. `cost`: the share of the score, 0 to 1, that it may move, roughly; for sorting."""

    kind: str
    cost: float
    sentence: str


@dataclass(frozen=True)
class SplitProfile:
    """What one split holds."""

    role: str | None
    rows: int
    classes: dict[str, int]  # class name → rows
    empty: int  # rows with an empty text
    duplicates: int  # rows whose text stands in an earlier row of the split
    conflicting: int  # different texts that stand there with two labels or more
    outvoted: int  # rows whose label is not the most frequent one of their text: no model gets them right
    sorted_by_label: bool
    truncated_share: float  # at the effective max_length
    tokens: dict[str, float]


@dataclass(frozen=True)
class Profile:
    """A data set, looked at. Counts without a split are sums over all splits."""

    name: str
    digest: str
    class_names: tuple[str, ...]
    text_columns: tuple[str, ...]
    splits: dict[str, SplitProfile]
    tokens: dict[str, float]  # mean, p50, p90, p95, p99, max of all rows
    limit: int  # most tokens that the encoder reads
    max_length: int  # proposed: the 99 % quantile, up to a multiple of 8, at most `limit`
    effective_max_length: int  # what is used now
    truncated_share: float  # of all rows, at the effective max_length
    proposed_truncated_share: float  # of all rows, at the proposed one
    empty: int
    duplicates: int
    conflicting: int
    leaks: dict[str, int]  # "train/test": rows of test whose text stands in train
    near_leaks: dict[str, int]  # the same for texts that are equal but for white space, exact ones not counted
    sorted_by_label: bool  # whether any split is
    tokens_by_class: dict[str, dict[str, float]]  # min, p25, p50, p75, max, mean of the labelled rows
    words_by_class: dict[str, dict[str, float]]
    unknown_by_class: dict[str, float] | None  # share of tokens that the tokenizer does not know; None: cannot tell
    unknown_words: dict[str, int] | None  # the most frequent words that become the unknown token; None: cannot tell
    cut_at: dict[str, float]  # max_length → share of all rows that is longer, up to the first that cuts nothing
    named_in_text: dict[str, float]  # class → share of its rows in whose text the name of the class stands
    findings: tuple[Finding, ...]  # dearest first
    notes: tuple[str, ...]
    shown_tokens: tuple[dict[str, Any], ...] = ()  # of a few rows: row_id, text, tokens
    placeholders: int = 0  # rows whose text is a word for a missing value, such as nan
    padded_share: float = 0.0  # share of padding if every text were padded to the effective max_length

    def __repr__(self) -> str:
        rows = sum(split.rows for split in self.splits.values())
        counts = f"{rows:,} rows, {len(self.class_names)} classes, {len(self.findings)} findings"
        return f"<Profile of {self.name}: {counts}>"

    def to_json(self) -> dict[str, Any]:
        """One JSON object; findings as sentences, dearest first."""
        return asdict(self) | {"findings": [finding.sentence for finding in self.findings]}
