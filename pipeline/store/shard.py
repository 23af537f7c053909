"""One shard: texts' keys, token counts, checks and vectors as one safetensors file that never changes.

A shard is drafted, synced and renamed to the digest of its bytes: the rename is the commit. Its header carries a digest
of itself with keys, tokens and checks, verified when these are read; each row's check covers key, token count and
vector, verified when the row is served. The header also names the folder that the shard belongs to, so that a copy
in the folder of another encoder is not believed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import itertools
import json
import math
import operator
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from ..files import refusal

FORMAT = "probe-or-tune vectors 1"
SUFFIX = ".safetensors"
DTYPES: dict[str, tuple[str, np.dtype[Any]]] = {
    "float32": ("F32", np.dtype("<f4")),
    "float16": ("F16", np.dtype("<f2")),
}
LONGEST_HEADER = 1 << 16  # bytes; ours have about 500
PIECE = 1 << 20  # bytes read at a time: small enough to stay in the processor's cache between read, check and copy


class DamagedError(Exception):
    """A shard that cannot be trusted, and why. Never leaves the store."""


@dataclass(frozen=True, eq=False)
class Shard:
    """What the header of a shard says; its arrays stay on disk."""

    path: Path
    rows: int
    dim: int
    dtype: str  # a key of DTYPES
    size: int  # bytes of the file
    seconds: float  # what its rows cost to encode
    max_length: int  # that they were cut to; with `tokens`, how the seconds divide among the rows
    facts: Mapping[str, str]  # of the header, `columns` among them: a digest of the others with keys, tokens and checks
    offsets: Mapping[str, int]  # of each array, from the beginning of the file


# ── keys ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def text_keys(texts: Sequence[tuple[str, ...]], cut: int | None = None) -> np.ndarray:
    """16-byte hashes (n, 2) uint64 of texts as they are fed: each string with its length in front.

    `cut` mixes in the max_length that a text was cut to (see `cut_keys`).
    """
    assert not (len(texts) and isinstance(texts[0], str)), "a text is a tuple of strings"
    blake = hashlib.blake2b
    joined = bytearray()
    for text in texts:
        raw = [part.encode("utf-8", "surrogatepass") for part in text]
        fed = b"".join([len(part).to_bytes(8, "little") + part for part in raw])
        joined += blake(fed, digest_size=16).digest()
    keys = np.frombuffer(bytes(joined), "<u8").reshape(-1, 2)
    return keys if cut is None else cut_keys(keys, cut)


def cut_keys(keys: np.ndarray, cut: int) -> np.ndarray:
    """Keys (n, 2) of the same texts cut to `cut` tokens: a one-to-one scrambling, so that nothing is hashed twice."""
    with np.errstate(over="ignore"):
        salt = np.uint64((cut + 1) * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF)
        high, low = keys[:, 0], keys[:, 1]
        high = _mix(high + _mix(low + salt))
        return np.stack([high, _mix(low + _mix(high + salt))], axis=1)


def row_checks(keys: np.ndarray, tokens: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Check (n,) uint64 of each row: XXH3 of the vector's bytes, seeded with key (n, 2) and tokens (n,)."""
    seeds = _mix(keys[:, 0] + _mix(keys[:, 1] + _mix(tokens.astype(np.uint64))))
    return np.fromiter(map(xxhash.xxh3_64_intdigest, vectors, seeds.tolist()), np.uint64, len(keys))


def _mix(x: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014) on uint64: one-to-one."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)))


# ── one shard, one file ─────────────────────────────────────────────────────────────────────────────────────────────


def pack(
    folder: str, keys: np.ndarray, tokens: np.ndarray, vectors: np.ndarray, seconds: float, max_length: int
) -> tuple[bytes, Shard]:
    """The bytes of a shard of the folder called `folder`, and what its header says (its path is a bare file name).

    keys (n, 2) uint64, tokens (n,) uint32, vectors (n, d) of one of DTYPES; little-endian, as everything in a shard.
    """
    from safetensors.numpy import save

    checks = row_checks(keys, tokens, vectors)
    facts = {
        "format": FORMAT,
        "folder": folder,
        "dim": str(vectors.shape[1]),
        "seconds": repr(float(seconds)),
        "max_length": str(max_length),
        "made": secrets.token_hex(8),  # no two shards ever have the same name, so that a name never comes back
    }
    facts["columns"] = _columns(facts, keys, tokens, checks)
    payload = save({"keys": keys, "tokens": tokens, "check": checks, "vectors": vectors}, facts)
    path = Path(hashlib.blake2b(payload, digest_size=16).hexdigest() + SUFFIX)
    length = int.from_bytes(payload[:8], "little")
    return payload, _shard(path, json.loads(payload[8 : 8 + length]), len(payload), 8 + length)


def read_header(path: Path, folder: str) -> Shard:
    """What the shard at `path` says of itself.

    Raises DamagedError if it is not a full shard of the folder called `folder`, FileNotFoundError if it is gone.
    """
    with _opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(LONGEST_HEADER, size - 8):
            raise DamagedError("no header of a shard")
        try:
            header = json.loads(file.read(length))
            shard = _shard(path, header, size, 8 + length)
            owner = header["__metadata__"]["folder"]
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
            raise DamagedError(f"its header makes no sense ({type(error).__name__})") from error
    if owner != folder:
        raise DamagedError(f"it belongs to {owner}")
    return shard


def _shard(path: Path, header: Mapping[str, Any], size: int, data: int) -> Shard:
    """Check every fact of a header against the others. `data`: where the arrays begin."""
    facts, rows = header["__metadata__"], operator.index(header["tokens"]["shape"][0])
    if facts["format"] != FORMAT:
        raise DamagedError(f"its format is {facts['format']!r}, not {FORMAT!r}")
    dim, dtype = int(facts["dim"]), {code: name for name, (code, _) in DTYPES.items()}[header["vectors"]["dtype"]]
    wanted = {"keys": ("U64", [rows, 2]), "tokens": ("U32", [rows]), "check": ("U64", [rows])}
    wanted["vectors"] = (DTYPES[dtype][0], [rows, dim])
    if header.keys() - {"__metadata__"} != wanted.keys():
        raise DamagedError("it holds other arrays than a shard")
    spans = []
    for array, (code, shape) in wanted.items():
        start, end = map(operator.index, header[array]["data_offsets"])
        width = {"U64": 8, "U32": 4, "F32": 4, "F16": 2}[code]
        if header[array]["dtype"] != code or header[array]["shape"] != shape or end - start != width * math.prod(shape):
            raise DamagedError(f"its array '{array}' has the wrong type or shape")
        spans.append((start, end))
    spans.sort()
    if rows < 1 or dim < 1 or spans[0][0] != 0 or any(a[1] != b[0] for a, b in itertools.pairwise(spans)):
        raise DamagedError("its arrays do not fit together")
    if data + spans[-1][1] != size:
        raise DamagedError(f"it has {size} bytes instead of {data + spans[-1][1]}")
    seconds, max_length = float(facts["seconds"]), int(facts["max_length"])
    offsets = {array: data + header[array]["data_offsets"][0] for array in wanted}
    return Shard(path, rows, dim, dtype, size, seconds, max_length, facts, offsets)


def read_columns(shard: Shard, keys: np.ndarray, tokens: np.ndarray) -> None:
    """Fill keys (n, 2) and tokens (n,) from the shard. Raises DamagedError if a byte of what was read has changed."""
    checks = np.empty(shard.rows, np.uint64)
    with _opened(shard.path) as file:
        for array, into in (("keys", keys), ("tokens", tokens), ("check", checks)):
            _fill(file, shard.offsets[array], into)
    if _columns(shard.facts, keys, tokens, checks) != shard.facts.get("columns"):
        raise DamagedError("its keys, tokens or checks have changed")


def read_rows(
    shard: Shard, rows: np.ndarray, keys: np.ndarray, tokens: np.ndarray, out: np.ndarray, at: np.ndarray
) -> np.ndarray:
    """Copy the vectors of `rows` (m,), ascending, to `out[at]`; keys (m, 2) and tokens (m,) are theirs.

    Returns (m,) bool, whether each row's check holds. Raises DamagedError if the file is too short.
    """
    dtype = DTYPES[shard.dtype][1]
    width = shard.dim * dtype.itemsize
    block = max(1, PIECE // width)
    buffer = np.empty((min(block, len(rows)), shard.dim), dtype)
    holds, checks = np.zeros(len(rows), bool), np.empty(shard.rows, np.uint64)
    with _opened(shard.path) as file:
        _fill(file, shard.offsets["check"], checks)
        for low in range(0, len(rows), block):
            here = slice(low, min(low + block, len(rows)))
            some = rows[here]
            starts = np.flatnonzero(np.diff(some, prepend=some[0] - 2) != 1)  # of rows that follow each other
            for first, last in itertools.pairwise([*starts.tolist(), len(some)]):
                _fill(file, shard.offsets["vectors"] + int(some[first]) * width, buffer[first:last])
            vectors = buffer[: len(some)]
            holds[here] = row_checks(keys[here], tokens[here], vectors) == checks[some]
            out[at[here]] = vectors
    return holds


def check_name(shard: Shard) -> None:
    """Raises DamagedError if any byte of the file has changed: its name is their digest."""
    digest, piece = hashlib.blake2b(digest_size=16), bytearray(PIECE)
    with _opened(shard.path) as file:
        while got := file.readinto(piece):
            digest.update(memoryview(piece)[:got])
    if digest.hexdigest() != shard.path.name.removesuffix(SUFFIX):
        raise DamagedError("its bytes are not those it is named after")


def _columns(facts: Mapping[str, str], *arrays: np.ndarray) -> str:
    """One digest of a header's facts and of the arrays that the index believes."""
    others = {name: fact for name, fact in facts.items() if name != "columns"}
    digest = xxhash.xxh3_128(json.dumps(others, sort_keys=True).encode())
    for array in arrays:
        digest.update(array.data)
    return digest.hexdigest()


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[io.FileIO]:
    """Raises FileNotFoundError if it is gone, DamagedError if the disk fails, UserError if reading is refused."""
    try:
        with io.FileIO(path) as file:
            yield file
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno == errno.EIO:
            raise DamagedError("the disk cannot read it") from error
        raise refusal(path, "cannot read", error, "mend that or choose another --cache") from error


def _fill(file: io.FileIO, offset: int, into: np.ndarray) -> None:
    """Read an array from its place; never mapped, so that a file cut short meanwhile is an error and not a crash."""
    view = into.data.cast("B")
    file.seek(offset)
    while len(view):
        got = file.readinto(view)
        if not got:
            raise DamagedError("it is cut short")
        view = view[got:]
