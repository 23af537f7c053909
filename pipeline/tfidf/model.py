"""The model as a folder: vocabularies in JSON, numbers in safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import UserError
from ..linear.probe import softmax
from ..run.model import Layout, damaged, read_model, write_model
from .terms import ANALYZERS, Terms, Texts, matrix_of

LAYOUT = Layout("tfidf", {"idf": "q", "W": "kq", "b": "k"})


@dataclass(frozen=True)
class TfidfModel:
    """softmax(tfidf(texts) Wᵀ + b)."""

    terms: tuple[Terms, ...]
    W: np.ndarray  # (k, q) float32, the columns of all terms side by side
    b: np.ndarray  # (k,) float32
    class_names: tuple[str, ...]

    def proba(self, texts: Texts) -> np.ndarray:
        """Probabilities (n, k) float32."""
        logits = np.asarray(matrix_of(texts, self.terms) @ self.W.T, np.float32)
        return softmax(logits.reshape(len(texts), -1) + self.b)

    @property
    def idf(self) -> np.ndarray:
        """(q,) float32, of all terms side by side."""
        return np.concatenate([np.empty(0, np.float32), *(each.idf for each in self.terms)])

    def save(self, folder: Path) -> None:
        """Write the model into `folder`."""
        terms = [
            {"side": each.side, "analyzer": each.analyzer, "vocabulary": list(each.vocabulary)} for each in self.terms
        ]
        write_model(folder, LAYOUT, self, terms=terms)

    @classmethod
    def load(cls, folder: Path | str) -> TfidfModel:
        """Read a model, of this version or of those before it, which counted words alone.

        Raises UserError if a file is missing or damaged, and for one of an earlier version on pairs of texts, which
        weighed both sides together. Nothing in it is executed.
        """
        record, values = read_model(folder, LAYOUT)
        with damaged(folder):
            terms = _terms(_entries(record), values.pop("idf"))
        if "terms" not in record and any(term.startswith(("0:", "1:")) for each in terms for term in each.vocabulary):
            raise UserError(f"{folder}: an earlier version fitted it on pairs of texts; fit it again")
        return cls(terms, **values)


def _entries(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What a record says of each Terms; of an earlier version's, that it counted words."""
    if "terms" in record:
        entries: list[Mapping[str, Any]] = record["terms"]
        return entries
    vocabulary = record["vocabulary"]
    return [{"side": 0, "analyzer": "words", "vocabulary": vocabulary}] if vocabulary else []


def _terms(entries: Any, idf: np.ndarray) -> tuple[Terms, ...]:
    """The terms of a model's record; TypeError, KeyError or ValueError if they are not what they should be."""
    made, start = [], 0
    for entry in entries:
        vocabulary = entry["vocabulary"]
        if not isinstance(vocabulary, list) or not all(isinstance(term, str) for term in vocabulary):
            raise ValueError("vocabulary is not a list of strings")
        if len(set(vocabulary)) != len(vocabulary) or not vocabulary:
            raise ValueError("vocabulary is empty or names a term twice")
        if entry["side"] not in (0, 1) or entry["analyzer"] not in ANALYZERS:
            raise ValueError(f"no analyzer {entry['analyzer']!r} of side {entry['side']!r}")
        end = start + len(vocabulary)
        made.append(Terms(entry["side"], entry["analyzer"], tuple(vocabulary), idf[start:end]))
        start = end
    if idf.shape != (start,):
        raise ValueError("idf does not fit the vocabularies")
    return tuple(made)
