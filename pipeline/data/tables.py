"""Parquet, Arrow and Excel files → rows: the columns that are wanted and no others."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .. import UserError, log, need, one_line
from ..untrusted import open_regular
from .objects import field

Blocks = Iterator[tuple[dict[str, list[Any]], None]]
LARGEST_SHEET = 2**30  # bytes of one sheet, unpacked
DAMAGE = (UnicodeDecodeError, ValueError, OverflowError, KeyError, TypeError, NotImplementedError)  # Arrow's are theirs


def _said(error: BaseException) -> str:
    return one_line((str(error).strip() or type(error).__name__).splitlines()[0], 120)


# ── Parquet ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def open_parquet(path: Path) -> Iterator[Any]:
    """A ParquetFile, closed at the end. Raises UserError for what is none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with open_regular(path) as opened:
        try:
            file = pq.ParquetFile(opened)
        except (pa.ArrowException, OSError, *DAMAGE) as error:
            raise UserError(f"{path}: not a parquet file, or damaged ({_said(error)})") from error
        yield file


def parquet_schema(path: Path) -> Any:
    with open_parquet(path) as file:
        return file.schema_arrow


def parquet_rows(path: Path) -> int:
    with open_parquet(path) as file:
        return int(file.metadata.num_rows)


def parquet_names(path: Path) -> list[str]:
    return leaves(parquet_schema(path))


def leaves(schema: Any, before: str = "") -> list[str]:
    """Names of the columns, of fields inside a struct with their path."""
    import pyarrow as pa

    names: list[str] = []
    for column in schema:
        if pa.types.is_struct(column.type) and column.type.num_fields and before.count(".") < 4:
            names += leaves([column.type.field(i) for i in range(column.type.num_fields)], f"{before}{column.name}.")
        else:
            names.append(before + column.name)
    return names


def plain_columns(schema: Any) -> set[str]:
    """Top-level columns of short single values, which may group rows."""
    import pyarrow.types as types

    kinds = (types.is_string, types.is_large_string, types.is_string_view, types.is_integer, types.is_boolean)
    named = [
        column.name
        for column in schema
        if any(is_kind(getattr(column.type, "value_type", column.type)) for is_kind in kinds)
        and (types.is_dictionary(column.type) or any(is_kind(column.type) for is_kind in kinds))
    ]
    return {name for name in named if list(schema.names).count(name) == 1}


def parquet_blocks(path: Path, wanted: Sequence[str], size: int) -> Blocks:
    import pyarrow as pa

    done = 0
    try:
        with open_parquet(path) as file:
            for batch in file.iter_batches(batch_size=size, columns=list(wanted)):
                yield _columns(batch, wanted), None
                done += batch.num_rows
    except (pa.ArrowException, OSError, *DAMAGE) as error:
        raise _damaged(path, done, wanted, error) from error


def _damaged(path: Path, done: int, wanted: Sequence[str], error: BaseException) -> UserError:
    if isinstance(error, OverflowError) or "out of range" in str(error) or "would lose data" in str(error):
        return UserError(f"{path} from row {done}: a value of {', '.join(wanted)} is out of range; pass other columns")
    return UserError(f"{path} from row {done}: damaged ({_said(error)}); write it again")


def _columns(batch: Any, wanted: Sequence[str]) -> dict[str, list[Any]]:
    """The values of the wanted columns; those inside structs taken out."""
    columns: dict[str, list[Any]] = {}
    tops: dict[str, list[Any]] = {}
    for name in wanted:
        if name in batch.schema.names:
            columns[name] = values_of(batch.column(name))
            continue
        top = next(n for n in batch.schema.names if name.startswith(f"{n}."))
        rows = tops.setdefault(top, batch.column(top).to_pylist())
        columns[name] = [field(row, name[len(top) + 1 :])[1] for row in rows]
    return columns


def values_of(column: Any) -> list[Any]:
    """Values as Python has them; bytes that are UTF-8 are text, JSON of mixed types, kept as strings, is decoded."""
    import pyarrow as pa

    if isinstance(column, list):
        return column
    values: list[Any] = column.to_pylist()
    if isinstance(column.type, pa.JsonType):
        return [None if value is None else json.loads(value) for value in values]
    if any(type(value) is bytes for value in values[:100]):
        try:
            return [value.decode("utf-8") if isinstance(value, bytes) else value for value in values]
        except UnicodeDecodeError:
            return values
    return values


def declared_names(metadata: Any, column: str, where: str) -> tuple[str, ...] | None:
    """The class names that `datasets` wrote beside a column (a ClassLabel), in the order of their ids.

    Raises UserError if two of them are the same, or if they are no names.
    """
    try:
        info = json.loads((metadata or {}).get(b"huggingface", b"null"))
        return feature_names(info["info"]["features"], column, where)
    except (TypeError, KeyError, ValueError, RecursionError):
        return None


def feature_names(features: Any, column: str, where: str) -> tuple[str, ...] | None:
    """The same from a description of columns."""
    feature = features.get(column) if isinstance(features, dict) else None
    if not isinstance(feature, dict) or feature.get("_type") != "ClassLabel":
        return None
    names = feature.get("names")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or not names:
        raise UserError(f"{where}: the class names of '{column}' are no list of names; write the file again")
    return unique_names(tuple(names), column, where)


def unique_names(names: tuple[str, ...], column: str, where: str) -> tuple[str, ...]:
    """The names, if no two are the same. Raises UserError otherwise."""
    if twice := [name for i, name in enumerate(names) if name in names[:i]]:
        raise UserError(
            f"{where}: two classes of '{column}' are called '{one_line(twice[0], 40)}'; give each its own name"
        )
    return names


# ── Arrow, as save_to_disk writes it ────────────────────────────────────────────────────────────────────────────────


@contextmanager
def _arrow(path: Path) -> Iterator[Any]:
    """Schema and batches of a stream, which `datasets` writes, or of a file (feather); closed at the end."""
    import pyarrow as pa

    with open_regular(path) as file:
        try:
            if file.peek(6)[:6] == b"ARROW1":  # type: ignore[attr-defined]
                reader = pa.ipc.open_file(file)
                batches = (reader.get_batch(i) for i in range(reader.num_record_batches))
            else:
                batches = reader = pa.ipc.open_stream(file)
        except (pa.ArrowException, OSError, *DAMAGE) as error:
            raise UserError(f"{path}: not an Arrow file, or damaged ({_said(error)})") from error
        yield reader.schema, batches


def arrow_schema(path: Path) -> Any:
    with _arrow(path) as (schema, _):
        return schema


def arrow_names(path: Path) -> list[str]:
    return leaves(arrow_schema(path))


def arrow_blocks(path: Path, wanted: Sequence[str], size: int) -> Blocks:
    import pyarrow as pa

    done = 0
    try:
        with _arrow(path) as (_, batches):
            for batch in batches:
                narrow = batch.select([n for n in batch.schema.names if n in wanted or _is_top(n, wanted, batch)])
                for start in range(0, narrow.num_rows, size):
                    yield _columns(narrow.slice(start, size), wanted), None
                done += batch.num_rows
    except (pa.ArrowException, OSError, *DAMAGE) as error:
        raise _damaged(path, done, wanted, error) from error


def _is_top(name: str, wanted: Sequence[str], batch: Any) -> bool:
    return any(one.startswith(f"{name}.") and one not in batch.schema.names for one in wanted)


def arrow_rows(path: Path) -> int:
    import pyarrow as pa

    try:
        with _arrow(path) as (_, batches):
            return sum(batch.num_rows for batch in batches)
    except (pa.ArrowException, OSError, *DAMAGE) as error:
        raise _damaged(path, 0, [], error) from error


# ── Excel ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _sheet_rows(path: Path) -> Iterator[tuple[Any, ...]]:
    """The rows of the first sheet, as values; formulas as they were last computed."""
    openpyxl = need("openpyxl", "xlsx")
    with open_regular(path) as file:
        try:
            with zipfile.ZipFile(file) as parts:
                largest = max((part.file_size for part in parts.infolist()), default=0)
            if largest > LARGEST_SHEET:
                raise UserError(f"{path}: a sheet of {largest / 1e9:.1f} GB; save it as CSV or Parquet")
            file.seek(0)
            book = openpyxl.load_workbook(file, read_only=True, data_only=True)
            sheet = book.worksheets[0]
            sheet.reset_dimensions()  # what other programs write there is not always so
            if len(book.worksheets) > 1:
                log.info("%s: the sheet '%s' is read, the first of %d", path, sheet.title, len(book.worksheets))
            yield from sheet.iter_rows(values_only=True)
        except UserError:
            raise
        except Exception as error:  # zip, XML and openpyxl each raise their own
            raise UserError(f"{path}: not an Excel file, or damaged ({_said(error)}); save it as CSV") from error


def sheet_names(path: Path) -> list[str]:
    first = next((row for row in _sheet_rows(path) if _is_filled(row)), None)
    if first is None:
        raise UserError(f"{path}: empty file; give a file with a header and at least one row")
    while first and first[-1] is None:
        first = first[:-1]
    return [f"column {i + 1}" if name is None else str(name) for i, name in enumerate(first)]


def sheet_blocks(path: Path, wanted: Sequence[str], size: int) -> Iterator[tuple[dict[str, list[Any]], list[int]]]:
    header = sheet_names(path)
    places = [header.index(name) for name in wanted]
    held: list[list[Any]] = []
    lines: list[int] = []
    seen = False
    for number, row in enumerate(_sheet_rows(path), 1):
        if not _is_filled(row):
            continue
        if not seen:
            seen = True
            continue
        held.append([row[i] if i < len(row) else None for i in places])
        lines.append(number)
        if len(held) == size:
            yield dict(zip(wanted, map(list, zip(*held, strict=True)), strict=True)), lines
            held, lines = [], []
    if held:
        yield dict(zip(wanted, map(list, zip(*held, strict=True)), strict=True)), lines


def _is_filled(row: tuple[Any, ...]) -> bool:
    return any(cell is not None for cell in row)
