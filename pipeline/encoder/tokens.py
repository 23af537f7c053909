"""Texts → token ids, by the `tokenizers` library alone: neither torch nor transformers is imported.

A tokenizer's file may have truncation and padding built in, which would hide how long a text is; both are switched
off, every text is tokenised whole, once, and cut here the way transformers cuts.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import UserError
from ..files import draft
from ..words import encodable, error_line
from .batches import CALL_COST, TOKEN_BUDGET, TokenBatch, pad, plan
from .checkpoint import Checkpoint, cuts_left, tokenizer_digest
from .opener import opened, read_json

CHUNK = 4096  # texts a call: what is held of the tokenizer's own, larger, objects


@dataclass(frozen=True)
class Tokens:
    """Texts as ids, special tokens included, cut to the encoder's limit."""

    ids: list[np.ndarray]  # n arrays (t_i,) int64
    types: list[np.ndarray] | None  # n arrays (t_i,) int64, or None if the encoder has no token types
    lengths: np.ndarray  # (n,) int64, tokens of the full text: more than len(ids[i]) where it was cut
    pad_id: int = 0

    def batches(
        self, token_budget: int = TOKEN_BUDGET, positions: np.ndarray | None = None, equal_lengths: bool = False
    ) -> Iterator[TokenBatch]:
        """The texts (all n, or those at `positions` (m,)) under a token budget, longest first; a batch's `rows` are
        positions in these tokens. With `equal_lengths` no batch is padded."""
        positions = np.arange(len(self.ids)) if positions is None else positions
        lengths = np.array([len(self.ids[i]) for i in positions], np.int64)
        for group in plan(lengths, token_budget, call_cost=0 if equal_lengths else CALL_COST):
            chosen = positions[group]
            types = None if self.types is None else [self.types[i] for i in chosen]
            yield pad(chosen, [self.ids[i] for i in chosen], types, self.pad_id)


@dataclass(frozen=True)
class Tables:
    """How many ids an encoder has vectors for; None: it is not known."""

    encoder: str = "the encoder"
    tokens: int | None = None
    types: int | None = None

    def check(self, backend: Any, ids: np.ndarray, types: np.ndarray | None) -> None:
        """Raises UserError for ids (t,), or types (t,), beyond their tables: OpenVINO would read on behind them."""
        if self.tokens is not None and ids.max(initial=0) >= self.tokens:
            beyond = int(ids[ids >= self.tokens][0])
            raise UserError(
                f"--encoder {self.encoder}: the token {backend.id_to_token(beyond)!r} has id {beyond}, and there are "
                f"vectors for {self.tokens} tokens: call resize_token_embeddings(len(tokenizer)) and save both again"
            )
        if types is not None and self.types is not None and types.max(initial=0) >= self.types:
            raise UserError(
                f"--encoder {self.encoder}: its tokenizer gives token type {types.max()}, and there are vectors for "
                f"{self.types} types; fetch both files again"
            )


class Tokenizer:
    """A checkpoint's tokenizer. Every text is a tuple of 1 string, or 2 for a pair."""

    def __init__(
        self,
        backend: Any,
        max_length: int,
        types: bool,
        cut_left: bool = False,
        pad_id: int = 0,
        prompt: str = "",
    ) -> None:
        backend.no_truncation()
        backend.no_padding()
        self.backend, self.max_length, self.types = backend, max_length, types
        self.cut_left, self.pad_id, self.prompt = cut_left, pad_id, prompt
        self.tables = Tables()

    def encode(self, texts: Sequence[tuple[str, ...]], max_length: int | None = None) -> Tokens:
        """Ids of n texts, each cut to `max_length` tokens (None: the encoder's limit).

        A pair loses tokens from its longer text first, as transformers' `truncation=True` does.
        Raises UserError for an id that the encoder has no vector for.
        """
        limit = max_length or self.max_length
        ids, types = [], []
        lengths = np.zeros(len(texts), np.int64)
        for i, encoding in enumerate(self._encodings(texts)):
            row = np.array(encoding.ids, np.int64)
            kind = np.array(encoding.type_ids, np.int64) if self.types else None
            lengths[i] = len(row)
            if len(row) > limit:
                keep = self._kept(encoding, limit)
                row, kind = row[keep], None if kind is None else kind[keep]
            self.tables.check(self.backend, row, kind)
            ids.append(row)
            if kind is not None:
                types.append(kind)
        return Tokens(ids, types if self.types else None, lengths, self.pad_id)

    def lengths(self, texts: Sequence[tuple[str, ...]]) -> np.ndarray:
        """Tokens of each full text (n,) int64, special ones included."""
        return np.array([len(encoding) for encoding in self._encodings(texts)], np.int64)

    def frame(self) -> tuple[list[int], list[int]]:
        """The special ids before and after any single text."""
        encoding = self.backend.encode("a")
        ids, special = encoding.ids, encoding.special_tokens_mask
        first = next((i for i, known in enumerate(special) if not known), len(ids))
        last = next((i for i in range(len(ids), first, -1) if not special[i - 1]), first)
        return ids[:first], ids[last:]

    def _encodings(self, texts: Sequence[tuple[str, ...]]) -> Iterator[Any]:
        for start in range(0, len(texts), CHUNK):
            chunk = [self._fed(text) for text in texts[start : start + CHUNK]]
            try:
                yield from self.backend.encode_batch_fast(chunk)
            except (TypeError, UnicodeEncodeError):  # half of a surrogate pair is no character: it becomes '?'
                yield from self.backend.encode_batch_fast(
                    [encodable(t) if isinstance(t, str) else tuple(map(encodable, t)) for t in chunk]
                )

    def _fed(self, text: tuple[str, ...]) -> str | tuple[str, ...]:
        """A text with the prompt before it; the first of a pair has it."""
        if self.prompt:
            text = (self.prompt + text[0], *text[1:])
        return text[0] if len(text) == 1 else tuple(text)

    def _kept(self, encoding: Any, limit: int) -> np.ndarray:
        """Which tokens (t,) bool of a text survive being cut to `limit`: special ones and the start of each part."""
        special = np.array(encoding.special_tokens_mask, bool)
        part = np.array([-1 if s is None else s for s in encoding.sequence_ids])
        part[special] = -1
        room = max(0, limit - int(special.sum()))
        first, second = int((part == 0).sum()), int((part == 1).sum())
        keep = special.copy()
        for number, count in enumerate(longest_first(first, second, room)):
            positions = np.flatnonzero(part == number)
            keep[positions[len(positions) - count :] if self.cut_left else positions[:count]] = True
        return keep


def longest_first(first: int, second: int, room: int) -> tuple[int, int]:
    """How many of `first` and `second` tokens stay when both together may have `room`, as `tokenizers` decides.

    The shorter text stays whole while the other alone can make room; otherwise both get half, the longer one the odd
    token.
    """
    if first + second <= room:
        return first, second
    if second == 0:
        return room, 0
    short, long = min(first, second), max(first, second)
    long = short if short > room else max(short, room - short)
    if short + long > room:
        short, long = room // 2, room // 2 + room % 2
    return (short, long) if first <= second else (long, short)


# ── from a checkpoint ───────────────────────────────────────────────────────────────────────────────────────────────


def tokenizer(checkpoint: Checkpoint, cache: Path | None = None) -> Tokenizer:
    """The tokenizer of `checkpoint`. Where it has only a vocabulary, tokenizer.json is made once and stored in `cache`.

    Raises UserError if the file cannot be read.
    """
    _quiet_forks()
    from tokenizers import Tokenizer as Backend

    file = checkpoint.folder / "tokenizer.json"
    if not file.exists():
        file = _made(checkpoint, cache)
    try:
        backend = Backend.from_file(str(file))
        backend.encode_batch(["a", ("a", "a")])  # a template may name tokens that the file has not
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # bare Exception, and where its Rust panics what is not even that
        raise UserError(
            f"--encoder {checkpoint.name}: {file} cannot be read ({error_line(error)}); fetch it again"
        ) from error
    left = cuts_left(checkpoint.folder, checkpoint.name)
    _check_end(backend, checkpoint)
    made = Tokenizer(backend, checkpoint.max_length, checkpoint.has_types, left, checkpoint.pad_id, checkpoint.prompt)
    vocabulary, types = (checkpoint.config.get(name) for name in ("vocab_size", "type_vocab_size"))
    made.tables = Tables(checkpoint.name, vocabulary if isinstance(vocabulary, int) else None, types)
    return made


def _check_end(backend: Any, checkpoint: Checkpoint) -> None:
    """Raises UserError where the files want texts to end, or to be written, otherwise than tokenizer.json does it."""
    if checkpoint.declared.lower_case and backend.encode("A").ids != backend.encode("a").ids:
        raise UserError(
            f"--encoder {checkpoint.name}: wants texts in lower case (do_lower_case) and its tokenizer.json tells case "
            "apart; put a Lowercase normalizer into that, or pass lower-cased texts and take do_lower_case out"
        )
    file = checkpoint.folder / "tokenizer_config.json"
    settings = read_json(file, checkpoint.name) if checkpoint.is_decoder and file.exists() else {}
    for wanted, place in (("add_bos_token", 0), ("add_eos_token", -1)):
        token = settings.get(wanted.removeprefix("add_"))
        text = token.get("content") if isinstance(token, dict) else token
        ids = backend.encode("a").ids
        if settings.get(wanted) is True and text and (not ids or ids[place] != backend.token_to_id(str(text))):
            raise UserError(
                f"--encoder {checkpoint.name}: tokenizer_config.json says {wanted} and tokenizer.json does not add it; "
                "save the tokenizer again with transformers (save_pretrained)"
            )


def _made(checkpoint: Checkpoint, cache: Path | None) -> Path:
    """tokenizer.json for a checkpoint without one, made by transformers the first time."""
    key = checkpoint.tokenizer_digest or tokenizer_digest(checkpoint.folder, checkpoint.name)
    home = Path(cache) / "tokenizers" if cache is not None else Path(tempfile.gettempdir()) / "probe-or-tune-tokenizers"
    final = home / f"{key}.json"
    if final.exists():
        return final
    from transformers import AutoTokenizer

    try:
        made = opened(AutoTokenizer, checkpoint.folder, checkpoint.name)
        if not made.is_fast:
            raise UserError(
                f"--encoder {checkpoint.name}: its tokenizer ({type(made).__name__}) exists in Python only, which is "
                "not run here; choose an encoder with a tokenizer.json"
            )
        home.mkdir(parents=True, exist_ok=True)
        with draft(final) as new:
            made.backend_tokenizer.save(str(new))
    except UserError:
        raise
    except OSError as error:
        raise UserError(
            f"--encoder {checkpoint.name}: no tokenizer.json, and none can be kept ({error_line(error)})"
        ) from error
    except Exception as error:  # a stranger's files can be wrong in any way
        raise UserError(
            f"--encoder {checkpoint.name}: no tokenizer.json, and none can be made from its vocabulary "
            f"({error_line(error)}); choose an encoder that has one"
        ) from error
    return final


def _quiet_forks() -> None:
    """Tokenise in parallel here and serially in forked children, whose copy of the thread pool is dead.

    Saying either aloud is also what keeps the library from warning about forks on standard error.
    """
    if "TOKENIZERS_PARALLELISM" not in os.environ:
        os.environ["TOKENIZERS_PARALLELISM"] = "true"
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=lambda: os.environ.update(TOKENIZERS_PARALLELISM="false"))
