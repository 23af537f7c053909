"""What is counted: words, character pieces or both, as scikit-learn's vectorizers count them.

Vocabularies and idf are learnt by scikit-learn. Counting again, to predict, is done here: the same terms (a test holds
both side by side) without two seconds of imports. Where a script does not put spaces between its words, a "word" is a
clause and only characters tell anything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise
from typing import Any

import numpy as np

from .. import UserError, choose

Texts = Sequence[tuple[str, ...]]

WORD = re.compile(r"\b\w\w+\b")  # scikit-learn's idea of a word
SPACES = re.compile(r"\s\s+")
SHARED: dict[str, Any] = {"sublinear_tf": True, "dtype": np.float32}
FEATURES = {"words": ("words",), "characters": ("characters",), "both": ("words", "characters")}
UNSPACED_FEATURES = {"characters": ("characters-1",), "both": ("words", "characters-1")}
UNSPACED = re.compile(
    "[\u0e00-\u0eff\u0f00-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)  # Thai, Lao, Tibetan, Burmese, Khmer, kana, Han
LETTER = re.compile(r"[^\W\d_]")
FEW_UNSPACED = 0.05  # share of such letters from which on single characters are terms
MOST_TERMS = 100_000  # that one vectorizer keeps, the most frequent
FIXED_WORK, MOST_WORK = 2.5, 4.5e7  # of `work`: at most about four minutes of one processor
MOST_CHARACTERS = 10_000_000  # of text that vocabularies are taken from; of more, every second text or every third …


def words(text: str) -> list[str]:
    """Words of two letters or more and pairs of neighbouring words, in lower case."""
    single = WORD.findall(text.lower())
    return single + [f"{a} {b}" for a, b in pairwise(single)]


def pieces(text: str, shortest: int, longest: int) -> list[str]:
    """Runs of `shortest` to `longest` characters within words; a word has a space before and after it."""
    terms: list[str] = []
    for word in SPACES.sub(" ", text.lower()).split():
        padded = f" {word} "
        for n in range(shortest, longest + 1):
            if len(padded) <= n:  # a short word counts whole, once
                terms.append(padded)
                break
            terms += [padded[start : start + n] for start in range(len(padded) - n + 1)]
    return terms


@dataclass(frozen=True)
class Analyzer:
    """One way to take a text apart: what scikit-learn is given for it, and the same here."""

    options: dict[str, Any]
    terms: Callable[[str], list[str]]


def _pieces(shortest: int, longest: int) -> Analyzer:
    options = {"analyzer": "char_wb", "ngram_range": (shortest, longest)}
    return Analyzer(options, partial(pieces, shortest=shortest, longest=longest))


ANALYZERS = {
    "words": Analyzer({"analyzer": "word", "ngram_range": (1, 2)}, words),
    "characters": _pieces(2, 5),
    "characters-1": _pieces(1, 4),  # of scripts in which one character is a word
}


@dataclass(frozen=True)
class Terms:
    """The terms that are counted in one string of each text, by one analyzer."""

    side: int  # 0, or 1 for the second string of a pair
    analyzer: str  # row of ANALYZERS
    vocabulary: tuple[str, ...]  # q terms, in column order
    idf: np.ndarray  # (q,) float32

    @cached_property
    def columns(self) -> dict[str, int]:
        """Column of each term."""
        return {term: column for column, term in enumerate(self.vocabulary)}

    def vectorizer(self) -> Any:
        """scikit-learn's, fitted: sublinear counts, smooth idf, rows of length 1."""
        from sklearn.feature_extraction.text import TfidfVectorizer

        fitted = TfidfVectorizer(vocabulary=self.columns, **SHARED, **ANALYZERS[self.analyzer].options)
        fitted.idf_ = self.idf
        return fitted

    def rows(self, texts: Texts) -> Any:
        """What the vectorizer makes of `texts`, a CSR matrix (n, q) float32."""
        from scipy import sparse

        if any(len(text) <= self.side for text in texts):
            raise UserError("this TF-IDF was fitted on pairs, and a text stands alone; pass both texts of each pair")
        terms, columns, ends = ANALYZERS[self.analyzer].terms, list[int](), [0]
        for text in texts:
            columns += [column for term in terms(text[self.side]) if (column := self.columns.get(term)) is not None]
            ends.append(len(columns))
        counted = sparse.csr_matrix(
            (np.ones(len(columns), np.float32), columns, ends), (len(texts), len(self.vocabulary))
        )
        counted.sum_duplicates()
        return weighted(counted, self.idf)


def weighted(counted: Any, idf: np.ndarray) -> Any:
    """(1 + log count) · idf (q,) of a CSR matrix (n, q), each row divided by its length; empty rows stay empty."""
    counted.data = (1 + np.log(counted.data)) * idf[counted.indices]
    lengths = np.sqrt(np.asarray(counted.multiply(counted).sum(1)).ravel())
    counted.data /= np.repeat(np.where(lengths > 0, lengths, 1), np.diff(counted.indptr)).astype(np.float32)
    return counted


def learn_terms(
    texts: Texts, analyzers: Sequence[str], min_df: int, most: int = MOST_TERMS
) -> tuple[tuple[Terms, ...], Any]:
    """The terms of each side of `texts` by each of `analyzers`, and their matrix (n, q); what has none is left out.

    A term stands in at least `min_df` texts, in one where that leaves nothing; the `most` frequent ones are kept.
    """
    for least in dict.fromkeys((min_df, 1)):
        step = max(1, -(-sum(len(part) for text in texts for part in text) // MOST_CHARACTERS))
        learnt, blocks = list[Terms](), list[Any]()
        for side in range(len(texts[0])):
            for analyzer in analyzers:
                if (one := _learn(texts[::step], side, analyzer, least, most)) is not None:
                    learnt.append(one[0])
                    blocks.append(one[1] if step == 1 else one[0].rows(texts))
        if learnt:
            break
    return tuple(learnt), beside(blocks, len(texts))


def _learn(texts: Texts, side: int, analyzer: str, least: int, most: int) -> tuple[Terms, Any] | None:
    """Terms and matrix of one side by one analyzer; None if there are no terms."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(
        min_df=min(least, len(texts)), max_features=most, **SHARED, **ANALYZERS[analyzer].options
    )
    try:
        matrix = vectorizer.fit_transform([text[side] for text in texts])
    except ValueError:  # scikit-learn's word for: no terms remain
        return None
    vocabulary = tuple(map(str, vectorizer.get_feature_names_out()))
    return Terms(side, analyzer, vocabulary, np.asarray(vectorizer.idf_, np.float32)), matrix


def beside(blocks: Sequence[Any], rows: int) -> Any:
    """CSR matrices (n, q) of as many rows side by side."""
    from scipy import sparse

    if len(blocks) == 1:
        return blocks[0]
    return sparse.hstack([sparse.csr_matrix((rows, 0), dtype=np.float32), *blocks], "csr", np.float32)


def matrix_of(texts: Texts, terms: Sequence[Terms]) -> Any:
    """TF-IDF of `texts`, a CSR matrix (n, q) float32: the columns of all `terms` side by side."""
    return beside([each.rows(texts) for each in terms], len(texts))


def unspaced_share(texts: Texts) -> float:
    """Share of the letters that belong to scripts without spaces between words, in about 1,000 of `texts`."""
    sample = " ".join(part[:2000] for text in texts[:: max(1, len(texts) // 1000)] for part in text)
    return len(UNSPACED.findall(sample)) / max(1, len(LETTER.findall(sample)))


def work(texts: Texts, classes: int) -> float:
    """What character pieces cost, in characters times weights a term; some are spent whatever the classes."""
    characters = sum(len(part) for text in texts for part in text)
    return characters * (FIXED_WORK + (1 if classes == 2 else classes))


def candidates(texts: Texts, classes: int, features: str) -> dict[str, tuple[str, ...]]:
    """Which analyzers may be taken for `texts`, by the name of their choice, the cheapest first.

    Raises UserError for unknown `features`.
    """
    spaced = unspaced_share(texts) < FEW_UNSPACED
    table = FEATURES if spaced else {**FEATURES, **UNSPACED_FEATURES}
    choose({**table, "auto": ()}, features, "TF-IDF feature")
    if features != "auto":
        return {features: table[features]}
    names = list(FEATURES if spaced else UNSPACED_FEATURES)
    names = names[:1] if work(texts, classes) > MOST_WORK else names
    return {name: table[name] for name in names}
