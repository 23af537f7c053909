"""Files → blocks of rows: one reader a format, each of them flat in memory, none of them guessing at missing values.

CSV cells and JSON strings stay what they are: `NA`, `null` and the empty string are text here. Every complaint says
where: the line of a text file, the row of a parquet file.
"""

from __future__ import annotations

import csv
import gzip
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from .. import UserError, listed
from ..words import error_line

NOT_ROWS = {"labels.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "config.json"}
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Block:
    """Some rows of one file."""

    columns: dict[str, list[Any]]  # (n,) values each
    lines: list[int] | None  # (n,) the line at which a row starts, from 1; None where a file has no lines


@dataclass(frozen=True)
class Format:
    """How one kind of file is read. `typed` files tell the text `1` from the number 1."""

    names: Callable[[Path], list[str]]
    blocks: Callable[[Path, Sequence[str], int], Iterator[Block]]
    typed: bool


def kind(path: Path) -> str:
    """The suffix that decides the format: `.csv` of `a.csv` and of `a.csv.gz`."""
    suffixes = [s.lower() for s in path.suffixes]
    return suffixes[-2] if suffixes[-1:] == [".gz"] and len(suffixes) > 1 else "".join(suffixes[-1:])


def format_of(path: Path) -> Format:
    """Raises UserError, naming the formats there are, if `path` is of none of them."""
    if kind(path) not in FORMATS:
        raise UserError(
            f"{path}: cannot read '{kind(path) or path.name}' files; convert it to one of {listed(FORMATS)}"
        )
    return FORMATS[kind(path)]


def column_names(path: Path) -> list[str]:
    """The columns of a file, in its order. Raises UserError if it is not there, empty, or not what its suffix says."""
    with guarded(path):
        if path.stat().st_size == 0:
            raise UserError(f"{path}: empty file; give a file with at least one row")
        return format_of(path).names(path)


def blocks(path: Path, wanted: Sequence[str], size: int) -> Iterator[Block]:
    """The `wanted` columns of a file, `size` rows at a time. Raises UserError at the first row that cannot be read."""
    with guarded(path):
        yield from format_of(path).blocks(path, wanted, size)


class guarded:  # noqa: N801 - reads as a verb
    """Turns what the operating system and the decompressors say into a UserError."""

    def __init__(self, path: Path):
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, FileNotFoundError):
            raise UserError(f"{self.path}: no such file") from error
        if isinstance(error, gzip.BadGzipFile | EOFError):
            raise UserError(f"{self.path}: damaged gzip file ({error}); fetch or pack it again") from error
        if isinstance(error, OSError):
            raise UserError(f"{self.path}: cannot be read ({error_line(error)}); check its permissions") from error


# ── text files ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path, "rb") if path.suffix.lower() == ".gz" else open(path, "rb")  # type: ignore[return-value]


def _lines(path: Path) -> Iterator[str]:
    """Decoded lines with their ends. Raises UserError with the line that is not UTF-8."""
    with _open(path) as file:
        for number, raw in enumerate(file, 1):
            if number == 1:
                raw = raw.removeprefix(BOM)
            try:
                yield raw.decode("utf-8")
            except UnicodeDecodeError as error:
                raise UserError(
                    f"{path}:{number}: not UTF-8 (byte 0x{raw[error.start]:02x}); "
                    f"convert it: iconv -f {_likely(raw)} -t utf-8 {path.name} > utf8{kind(path)}"
                ) from error


def _likely(raw: bytes) -> str:
    return "utf-16" if raw.startswith((b"\xff\xfe", b"\xfe\xff")) else "latin1"


def _csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(first line, cells) of every row, the header included; rows without any cell are left out."""
    csv.field_size_limit(sys.maxsize)  # a cell may be a book; the default refuses 131,073 characters
    head = next(_lines(path), "")
    reader = csv.reader(_lines(path), delimiter=_delimiter(path, head), strict=True)
    start = 1
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise UserError(f"{path}:{start}: {_csv_problem(error)}") from error
        if cells:
            yield start, cells
        start = reader.line_num + 1


def _delimiter(path: Path, head: str) -> str:
    """A tab for tsv; for csv the comma, unless the header only has semicolons or tabs."""
    if kind(path) == ".tsv":
        return "\t"
    return next((mark for mark in ",;\t" if mark in head), ",")


def _csv_problem(error: csv.Error) -> str:
    if "end of data" in str(error):
        return "a quoted cell starts here and never ends; close it, and write a quote inside one as two"
    return f"not valid CSV ({error}); quote the cell, and write a quote inside one as two"


def _csv_names(path: Path) -> list[str]:
    _, names = next(_csv_rows(path), (1, []))
    if not names:
        raise UserError(f"{path}: empty file; give a file with a header and at least one row")
    return names


def _csv_blocks(path: Path, wanted: Sequence[str], size: int) -> Iterator[Block]:
    rows = _csv_rows(path)
    _, names = next(rows, (1, []))
    places = [names.index(name) for name in wanted]
    held: list[list[str]] = []
    lines: list[int] = []
    for line, cells in rows:
        if len(cells) != len(names):
            raise UserError(
                f"{path}:{line}: {len(cells)} cells, but the header has {len(names)}; "
                "quote the cells that hold the separator or a line break"
            )
        held.append(cells)
        lines.append(line)
        if len(held) == size:
            yield Block({name: [row[i] for row in held] for name, i in zip(wanted, places, strict=True)}, lines)
            held, lines = [], []
    if held:
        yield Block({name: [row[i] for row in held] for name, i in zip(wanted, places, strict=True)}, lines)


def _json_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line, object) of every row of a file of JSON lines, or of one JSON array (its rows all at line 1)."""
    for number, line in enumerate(_lines(path), 1):
        if number == 1 and line.lstrip().startswith("["):
            yield from _json_array(path)
            return
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            if number == 1 and line.strip() == "{":
                raise UserError(f"{path}: an object over many lines; write one object a line") from error
            why = getattr(error, "msg", error)
            raise UserError(f"{path}:{number}: not valid JSON ({why}); mend that line") from error
        if not isinstance(row, dict):
            raise UserError(f'{path}:{number}: not an object; write one {{"text": ..., "label": ...}} a line')
        yield number, _whole(row) if "\\ud" in line.lower() else row


def _json_array(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        rows = json.loads("".join(_lines(path)))
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error}); mend it, or write one object a line") from error
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise UserError(f"{path} row {number}: not an object; write a list of objects")
        yield 1, _whole(row)


def _whole(row: dict[str, Any]) -> dict[str, Any]:
    """`row` with half surrogate pairs, which no tokenizer accepts, replaced by U+FFFD."""

    def mend(text: str) -> str:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")

    return {name: mend(value) if isinstance(value, str) else value for name, value in row.items()}


def _json_names(path: Path) -> list[str]:
    for _, row in _json_rows(path):
        return list(row)
    raise UserError(f"{path}: empty file; give a file with at least one row")


def _json_blocks(path: Path, wanted: Sequence[str], size: int) -> Iterator[Block]:
    """A key that a row lacks is None there; but the first of `wanted`, a text, every row must have."""
    held: list[dict[str, Any]] = []
    lines: list[int] = []
    for line, row in _json_rows(path):
        if wanted[0] not in row:
            raise UserError(f"{path}:{line}: no '{wanted[0]}' among {list(row)[:20]}; add it, or drop the row")
        held.append(row)
        lines.append(line)
        if len(held) == size:
            yield Block({name: [row.get(name) for row in held] for name in wanted}, lines)
            held, lines = [], []
    if held:
        yield Block({name: [row.get(name) for row in held] for name in wanted}, lines)


def _txt_names(path: Path) -> list[str]:
    return ["text"]


def _txt_blocks(path: Path, wanted: Sequence[str], size: int) -> Iterator[Block]:
    held: list[str] = []
    first = 1
    for line in _lines(path):
        held.append(line.rstrip("\r\n"))
        if len(held) == size:
            yield Block({"text": held}, list(range(first, first + size)))
            held, first = [], first + size
    if held:
        yield Block({"text": held}, list(range(first, first + len(held))))


# ── parquet ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _parquet(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise UserError(f"{path}: not a parquet file, or damaged ({error_line(error)})") from error


def _parquet_names(path: Path) -> list[str]:
    return list(_parquet(path).schema_arrow.names)


def _parquet_blocks(path: Path, wanted: Sequence[str], size: int) -> Iterator[Block]:
    import pyarrow as pa

    done = 0
    try:
        for batch in _parquet(path).iter_batches(batch_size=size, columns=list(wanted)):
            yield Block({name: batch.column(name).to_pylist() for name in wanted}, None)
            done += batch.num_rows
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise UserError(f"{path} from row {done}: damaged ({error_line(error)}); write it again") from error


def class_names(path: Path, column: str) -> dict[int, str] | None:
    """The names that a parquet file's own metadata gives to the ids in `column` (a ClassLabel), if any."""
    if kind(path) != ".parquet":
        return None
    raw = (_parquet(path).schema_arrow.metadata or {}).get(b"huggingface", b"")
    try:
        feature = json.loads(raw)["info"]["features"][column]
        return dict(enumerate(map(str, feature["names"]))) if feature["_type"] == "ClassLabel" else None
    except (TypeError, KeyError, ValueError):
        return None


def count_rows(path: Path) -> int:
    """Rows of a file, without keeping any."""
    if kind(path) == ".parquet":
        with guarded(path):
            return int(_parquet(path).metadata.num_rows)
    if kind(path) in (".jsonl", ".ndjson", ".json"):  # no key need be in every row
        with guarded(path):
            return sum(1 for _ in _json_rows(path))
    first = column_names(path)[:1]
    return sum(len(block.columns[first[0]]) for block in blocks(path, first, 65536))


FORMATS: dict[str, Format] = {
    ".parquet": Format(_parquet_names, _parquet_blocks, typed=True),
    ".csv": Format(_csv_names, _csv_blocks, typed=False),
    ".tsv": Format(_csv_names, _csv_blocks, typed=False),
    ".jsonl": Format(_json_names, _json_blocks, typed=True),
    ".ndjson": Format(_json_names, _json_blocks, typed=True),
    ".json": Format(_json_names, _json_blocks, typed=True),
    ".txt": Format(_txt_names, _txt_blocks, typed=False),
}

SHARD = re.compile(r"(.+?)-(\d{5})-of-(\d{5})$")


def holds_rows(path: Path) -> bool:
    """Whether a file found in a folder is one to read: of a known format, and not one that describes others."""
    known = kind(path) in FORMATS and kind(path) != ".txt"
    return known and not path.name.startswith(".") and path.name not in NOT_ROWS


def stem(path: Path) -> str:
    """`train` of `train.csv.gz`."""
    name = path.name[: -len(".gz")] if path.suffix.lower() == ".gz" else path.name
    return name[: -len(kind(path))] if kind(path) else name


def by_split(paths: Sequence[Path], home: Path) -> dict[str, tuple[Path, ...]]:
    """Split name → its files in order; `train-00000-of-00002` and its sibling are one split.

    Raises UserError if one split lies there in two formats, or if a shard of one is missing.
    """
    found: dict[str, list[Path]] = {}
    for path in sorted(paths):
        match = SHARD.match(stem(path))
        found.setdefault(match[1] if match else stem(path), []).append(path)
    for name, files in found.items():
        shards = [SHARD.match(stem(path)) for path in files]
        if len(files) > 1 and not all(shards):
            names = listed(path.name for path in files)
            raise UserError(f"{home}: split '{name}' lies there more than once ({names}); keep one of them")
        check_shards(files, home)
    return {name: tuple(files) for name, files in found.items()}


def check_shards(files: Sequence[Path], home: Path) -> None:
    """Raises UserError if `files` are numbered shards and one is missing."""
    shards = [m for m in (SHARD.match(stem(path)) for path in files) if m]
    if shards and len(shards) < (count := int(shards[0][3])):
        raise UserError(f"{home}: {len(shards)} of {count} files of '{shards[0][1]}' are there; fetch the rest")
