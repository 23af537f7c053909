"""A frozen encoder as a scikit-learn transformer: texts → vectors, from the same store as every command's."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from . import UserError, in_keywords
from .encoder import Runtime, open_encoder
from .encoder.checkpoint import Checkpoint, EncoderSpec, locate
from .encoder.pooling import components, side_by_side
from .encoder.tokens import tokenizer
from .extract.extractor import Extractor
from .files import user_folder
from .store import text_keys
from .store.remote import cache_folder
from .words import Keyword

KEYWORDS = {
    f"--{name.replace('_', '-')}": Keyword(name)
    for name in ("encoder", "pooling", "max_length", "revision", "precision", "engine", "device", "prompt")
} | {"--cache": Keyword("cache_dir")}
TRIES = 2  # how often rows that fail their check are encoded again


class NoTextError(UserError, ValueError):
    """The input holds something that is no text: also a ValueError, which is what scikit-learn's callers catch."""


class FrozenEncoder(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Texts → vectors of a frozen encoder, as a scikit-learn transformer. No text is encoded twice.

    The vectors are those of `extract` and `fit-lr`: found in the same store by what the encoder is and by the text,
    encoded if they are missing, and stored. A grid search, a second fold or another process therefore pays for nothing
    that has been paid for. Learns nothing from the data: `fit` only finds the encoder.

    Input of `fit` and `transform` is n texts: a list, an array (n,), a pandas Series, or a table with one text column;
    pairs are a list of tuples, or a table with two. Output is (n, d) float32 without a unit; a pandas or polars table
    after `set_output`, with columns such as `cls_0`.

    Parameters
    ----------
    encoder : str or Path
        A Hugging Face name, a folder, or `minilm` (the encoder that comes as a package and needs no network).
    pooling : str
        `declared` (what the checkpoint declares, else `cls`), `cls`, `mean`, `max` or `last`; `cls+mean` puts both side
        by side, `mean-normalized` brings vectors to length 1.
    prompt : str
        What stands before every text: a name that the checkpoint declares, or the text itself; `auto` is its default,
        `none` nothing.
    max_length : int or None
        Tokens a text, special ones included, at most; None is as many as the encoder takes.
    revision : str or None
        Branch, tag or commit of a Hugging Face name.
    precision, engine, device : str
        `auto` is what is fastest on this machine without moving more than last bits.
    cache_dir : str, Path or None
        Folder or URL of the store, shared with `--cache` of the command line. None keeps no vectors and leaves
        the encoder open between calls: for serving, where every text is new.

    Attributes
    ----------
    pooling_ : str
        The pooling that `declared` stands for.
    n_features_out_ : int
        Width d of the vectors.
    checkpoint_digest_ : str
        Hexadecimal digest of the encoder's bytes and the pooling: what a model on top belongs to.

    Raises
    ------
    UserError
        If the encoder cannot be found, its options do not go together, or the input holds something that is no text
        (numbers, missing values).

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from probe_or_tune import FrozenEncoder
    >>> texts = ["win a prize now", "see you at home", "free prize call now", "how was your day"] * 3
    >>> model = make_pipeline(FrozenEncoder("minilm"), StandardScaler(), LogisticRegression())
    >>> model.fit(texts, ["spam", "ham", "spam", "ham"] * 3).predict(texts[:2]).tolist()
    ['spam', 'ham']
    >>> FrozenEncoder("minilm", pooling="mean").set_output(transform="pandas").fit_transform(texts).columns[:2].tolist()
    ['mean_0', 'mean_1']
    """

    def __init__(
        self,
        encoder: str | Path = "distilbert-base-uncased",
        *,
        pooling: str = "declared",
        max_length: int | None = None,
        revision: str | None = None,
        precision: str = "auto",
        engine: str = "auto",
        device: str = "auto",
        prompt: str = "auto",
        cache_dir: str | Path | None = "cache",
    ) -> None:
        self.encoder, self.pooling, self.max_length, self.revision = encoder, pooling, max_length, revision
        self.precision, self.engine, self.device, self.cache_dir = precision, engine, device, cache_dir
        self.prompt = prompt

    @in_keywords(KEYWORDS)
    def fit(self, X: Any, y: Any = None) -> FrozenEncoder:
        """Find the encoder and look at the shape of the input; nothing is encoded and nothing is learnt.

        Raises UserError if there is no such encoder, or if X holds no texts.
        """
        self._see(X)
        texts = texts_of(X)
        checkpoint = self._located()
        self.n_parts_ = len(texts[0])
        self.pooling_ = checkpoint.pooling(self.pooling)
        self.n_features_out_ = checkpoint.vector_dim(self.pooling)
        self.checkpoint_digest_ = checkpoint.checkpoint_digest(self.pooling)
        return self

    @in_keywords(KEYWORDS)
    def transform(self, X: Any) -> np.ndarray:
        """Vectors (n, d) float32 of n texts, in their order.

        Raises NotFittedError before `fit`; UserError if X holds no texts, if there are pairs where `fit` saw single
        texts, or if the encoder has changed since.
        """
        check_is_fitted(self)
        self._see(X, reset=False)
        texts = texts_of(X)
        if len(texts[0]) != self.n_parts_:
            raise NoTextError(f"fitted on {self.n_parts_} texts a row and given {len(texts[0])}; fit it again")
        checkpoint = self._located()
        if checkpoint.checkpoint_digest(self.pooling) != self.checkpoint_digest_:
            raise UserError(f"{self.encoder}: not the checkpoint that this was fitted with; fit it again")
        return self._vectors(checkpoint, texts)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names (d,) of the columns: `cls_0` …, for `cls+mean` those of both."""
        check_is_fitted(self)
        several = components(self.pooling_)
        width = self.n_features_out_ // len(several)
        return np.array([f"{name}_{i}" for name in several for i in range(width)], dtype=object)

    def _see(self, X: Any, reset: bool = True) -> None:
        """Remember, or compare, the number and names of a table's columns as scikit-learn does."""
        from sklearn.utils.validation import _check_feature_names, _check_n_features

        _check_feature_names(self, X, reset=reset)
        if getattr(X, "ndim", 1) == 2:
            _check_n_features(self, X, reset=reset)

    def _spec(self) -> EncoderSpec:
        if not isinstance(self.pooling, str):
            raise UserError(f"pooling={self.pooling!r}: write one name, such as 'cls', or several joined as 'cls+mean'")
        fields = (str(self.encoder), self.revision, (self.pooling,), self.max_length, self.precision, self.engine)
        return EncoderSpec(*fields, prompt=self.prompt)

    def _located(self) -> Checkpoint:
        return locate(self._spec())

    def _vectors(self, checkpoint: Checkpoint, texts: list[tuple[str, ...]]) -> np.ndarray:
        if self.cache_dir is None:
            return self._direct(checkpoint, texts)
        keys = text_keys(texts)
        spec = self._spec()
        for _ in range(TRIES):
            extractor = Extractor(
                checkpoint, spec, Runtime(device=self.device), cache_folder(self.cache_dir), keys=keys
            )
            extractor.run([texts], len(texts))
            assert extractor.embedding_cache is not None, "given keys, the cache is known from the start"
            rows = extractor.embedding_cache.serve(keys, self.pooling)
            if rows.present.all():
                return rows.vectors
        raise UserError(f"{self.cache_dir}: vectors keep failing their check; delete the folder and run again")

    def _direct(self, checkpoint: Checkpoint, texts: list[tuple[str, ...]]) -> np.ndarray:
        """Vectors from an encoder that is opened once and stays open; converted models lie in the user's cache."""
        identity = (self.checkpoint_digest_, self.precision, self.engine, str(self.device))
        if getattr(self, "_open", (None,))[0] != identity:
            home = user_folder()
            poolings, runtime = checkpoint.poolings((self.pooling,)), Runtime(device=self.device)
            encoder = open_encoder(checkpoint, poolings, self.engine, self.precision, runtime, home)
            tokens = tokenizer(checkpoint, home)
            self._open = (identity, encoder, tokens)
        _, encoder, tokens = self._open
        vectors = encoder.encode_all(tokens.encode(texts, checkpoint.max_length))
        return side_by_side(vectors, checkpoint.pooling(self.pooling))

    def __getstate__(self) -> Any:
        """Without the open encoder, which opens again where this is loaded."""
        return {name: value for name, value in super().__getstate__().items() if name != "_open"}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.sparse = False
        tags.transformer_tags.preserves_dtype = []
        return tags


def texts_of(X: Any) -> list[tuple[str, ...]]:
    """n rows of 1 or 2 strings, of whatever scikit-learn's users pass: lists, arrays, columns, tables.

    Raises NoTextError, naming the first row at fault, for anything that is no text; never converts in silence.
    """
    rows = rows_of(X)
    if not rows:
        raise NoTextError("no texts; pass at least one")
    return rows


def rows_of(X: Any) -> list[tuple[str, ...]]:
    """The same, for no texts no rows."""
    if isinstance(X, str | bytes | os.PathLike):
        raise NoTextError("one string was given where a list of texts is expected; pass [text]")
    if hasattr(X, "tocsr"):
        raise NoTextError("a sparse matrix holds no texts; pass a list, a column or a table of strings")
    if isinstance(X, Mapping | Set):
        raise NoTextError(f"a {type(X).__name__} is no list of texts; pass a list, a column or a table")
    if hasattr(X, "to_numpy"):  # pandas, polars
        X = X.to_numpy()
    if isinstance(X, np.ndarray):
        if X.ndim not in (1, 2) or (X.ndim == 2 and X.shape[1] not in (1, 2)):
            raise NoTextError(
                f"an array of shape {X.shape} holds no texts; pass (n,), or a table of 1 or 2 text columns"
            )
        X = X.tolist()
    try:
        rows = list(X)
    except TypeError as error:
        raise NoTextError(f"{type(X).__name__} is no list of texts; pass a list, a column or a table") from error
    texts = [_row(row, i) for i, row in enumerate(rows)]
    odd = next((i for i, row in enumerate(texts) if len(row) != len(texts[0])), None)
    if odd is not None:
        raise NoTextError(f"row {odd}: {len(texts[odd])} texts where row 0 has {len(texts[0])}")
    return texts


def _row(row: Any, place: int) -> tuple[str, ...]:
    given: Sequence[Any] = row if isinstance(row, tuple | list) else (row,)
    wrong = [part for part in given if not isinstance(part, str)]
    if wrong or len(given) not in (1, 2):
        fault = f"{type(wrong[0]).__name__} {str(wrong[0])[:20]!r} is no text" if wrong else "no or more than two texts"
        raise NoTextError(f"row {place}: {fault}; pass strings, with missing values filled or dropped")
    return tuple(map(str, given))
