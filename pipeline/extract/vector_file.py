"""Vectors that somebody else made, from a file: an embedding service's, an image model's, tabular features."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .. import UserError, listed, one_line
from ..data import Dataset
from ..data.lines import guarded
from ..data.tables import DAMAGE, open_parquet, parquet_schema
from ..files import expanded

FROM_FILE = "from a file"  # the setting `vectors` of a run on such vectors
IDS = ("row_id", "id")
ALIKE = 0.01  # of a vector's largest number: what two vectors of one text may differ by, as services round


@dataclass(frozen=True, eq=False)
class VectorFile:
    """The vectors (n, d) of a Parquet file, and what names their rows: a row id, the text, or (an array's) their order.

    Raises UserError if the file cannot be read, or has not exactly one column of lists of numbers.
    """

    name: str  # for people
    vectors: np.ndarray  # (n, d) float32
    digest: str  # of all that the file holds: what a run on its vectors belongs to
    path: Path | None = None  # None: an array in the order of the source's rows
    columns: tuple[str, ...] = ()  # that are not the vectors
    places: dict[tuple[str, ...], dict[Any, int]] = field(default_factory=dict)  # columns → value → row, once looked up

    @classmethod
    def opened(cls, given: Path | str | np.ndarray) -> VectorFile:
        """A file, or an array (n, d) in the order of the source's rows."""
        if isinstance(given, np.ndarray):
            if given.ndim != 2 or given.dtype.kind not in "fiu":
                raise UserError(f"vectors of shape {given.shape}: an array of numbers, (rows, dimensions), is wanted")
            digest = hashlib.blake2b(np.ascontiguousarray(given).tobytes(), digest_size=16).hexdigest()
            return cls("array", given.astype(np.float32), digest)
        path = expanded(given)
        if path.suffix.lower() != ".parquet":
            raise UserError(f"--vectors {path}: not Parquet; write row_id or text and one column of lists to .parquet")
        with readable(path):
            column, columns = column_of_lists(path)
            vectors = matrix_of(path, column)
            with open(path, "rb") as file:
                digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
        return cls(path.name, vectors, digest, path, columns)

    @cached_property
    def dim(self) -> int:
        """Numbers a vector."""
        return int(self.vectors.shape[1])

    def of(self, dataset: Dataset) -> dict[str, np.ndarray]:
        """Vectors (n, d) of each role's rows.

        Raises UserError, with how many and the first, for rows that have none, or one that is not finite.
        """
        roles = {role: dataset.role(role) for role in dataset.roles}
        ids = [row for split in roles.values() for row in split.row_ids.tolist()]
        texts = [text for split in roles.values() for text in split.texts]
        found = self.take(self.rows_of(ids, texts, dataset.text_columns), ids)
        ends = np.cumsum([len(split) for split in roles.values()])[:-1]
        return dict(zip(roles, np.split(found, ends), strict=True))

    def rows_of(self, ids: Sequence[str], texts: Sequence[tuple[str, ...]], names: Sequence[str]) -> list[int]:
        """The place of each row in the file, -1 without one: by its id, by its text, or by the order of an array."""
        if self.path is None:
            places = [int(row.rpartition(":")[2]) for row in ids]
            return [place if place < len(self.vectors) else -1 for place in places]
        for column in (name for name in IDS if name in self.columns):
            known = self.index((column,))
            if any(row in known for row in ids):
                return [known.get(row, -1) for row in ids]
        for columns in (tuple(names), ("text", "text_pair")[: max(1, len(names))]):
            if columns and set(columns) <= set(self.columns):
                known = self.index(columns)
                return [known.get(text, -1) for text in texts]
        wanted = f"'row_id' ({ids[0]}, ...) or '" if len(ids) else "'"
        raise UserError(f"--vectors {self.path}: give a column {wanted}{listed(names) or 'text'}' beside the vectors")

    def take(self, rows: Sequence[int], ids: Sequence[str]) -> np.ndarray:
        """The vectors (m, d) at some places. Raises UserError for a place of -1, and what is not finite."""
        missing = [i for i, row in enumerate(rows) if row < 0]
        if missing:
            raise UserError(
                f"--vectors {self.path or self.name}: {len(missing):,} of {len(rows):,} rows have no vector, the first "
                f"of them {one_line(str(ids[missing[0]]), 60)}; add them"
            )
        found = self.vectors[np.asarray(rows, np.int64)]
        bad = np.flatnonzero(~np.isfinite(found).all(1))
        if len(bad):
            raise UserError(
                f"--vectors {self.path or self.name}: {len(bad):,} of {len(rows):,} vectors hold numbers that are not "
                f"finite, the first of them that of {one_line(str(ids[bad[0]]), 60)}; make them again"
            )
        return found

    def index(self, columns: tuple[str, ...]) -> dict[Any, int]:
        """The first row of each value of `columns`; one column of ids has plain strings, texts are tuples.

        Raises UserError for a value that stands twice beside different vectors.
        """
        if columns not in self.places:
            assert self.path is not None
            with readable(self.path), open_parquet(self.path) as file:
                table = file.read(list(columns))
            values = [["" if v is None else str(v) for v in table.column(name).to_pylist()] for name in columns]
            keys: list[Any] = values[0] if columns[0] in IDS else list(zip(*values, strict=True))
            known: dict[Any, int] = {}
            for row, key in enumerate(keys):
                first = known.setdefault(key, row)
                if first != row and not self.alike(first, row):
                    shown = one_line(key if isinstance(key, str) else key[0], 60)
                    more = "" if columns[0] in IDS else "; name the rows by 'row_id'"
                    raise UserError(f"--vectors {self.path}: '{shown}' has two different vectors{more}")
            self.places[columns] = known
        return self.places[columns]

    def alike(self, first: int, second: int) -> bool:
        """Whether two rows hold one vector, up to rounding."""
        a, b = self.vectors[first], self.vectors[second]
        with np.errstate(invalid="ignore"):
            return bool(np.array_equal(a, b, equal_nan=True) or np.abs(a - b).max() <= ALIKE * np.abs(a).max())


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turns whatever reading a damaged file raises into a UserError."""
    import pyarrow as pa

    with guarded(path):
        try:
            yield
        except (pa.ArrowException, *DAMAGE) as error:
            raise UserError(f"--vectors {path}: damaged ({one_line(str(error), 100)}); write it again") from error


def column_of_lists(path: Path) -> tuple[str, tuple[str, ...]]:
    """The one column of lists, and the others. Raises UserError if there is none, or several."""
    import pyarrow as pa

    schema = parquet_schema(path)
    kinds = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    lists = [column.name for column in schema if any(kind(column.type) for kind in kinds)]
    if len(lists) != 1:
        seen = f"{len(lists) or 'none'} of the columns {listed(schema.names)} hold lists"
        raise UserError(f"--vectors {path}: {seen}; one is wanted, a vector a row")
    value = schema.field(lists[0]).type.value_type
    if not (pa.types.is_floating(value) or pa.types.is_integer(value)):
        raise UserError(f"--vectors {path}: '{lists[0]}' holds lists of {value}; lists of numbers are wanted")
    return lists[0], tuple(name for name in schema.names if name != lists[0])


def matrix_of(path: Path, column: str) -> np.ndarray:
    """The column as (n, d) float32. Raises UserError for lists that are missing, empty or of different lengths."""
    parts = []
    width, row = 0, 0
    with open_parquet(path) as file:
        chunks = file.read([column]).column(column).chunks
    for chunk in chunks:
        lengths = chunk.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
        width = width or int(lengths[0]) if len(lengths) else width
        wrong = np.flatnonzero((lengths != width) | (lengths == 0) | chunk.is_null().to_numpy(zero_copy_only=False))
        if len(wrong):
            at = row + int(wrong[0])
            raise UserError(f"--vectors {path} row {at}: {int(lengths[wrong[0]])} numbers instead of {width or 'some'}")
        values = chunk.flatten().to_numpy(zero_copy_only=False)  # a null becomes NaN, which whoever takes it refuses
        with np.errstate(over="ignore"):
            parts.append(values.astype(np.float32).reshape(len(chunk), width))
        row += len(chunk)
    if not row:
        raise UserError(f"--vectors {path}: no rows")
    return np.concatenate(parts)
