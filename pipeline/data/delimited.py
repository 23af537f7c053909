"""CSV and TSV → rows. The dialect is the one that gives every line the same number of columns.

Nobody says how a file was written: with quotes around cells (RFC 4180), with backslashes, or plain, where a quote is a
letter like any other. A quote that opens nothing swallows the lines up to the next one, labels and all; so the file
is read once with each way of reading until one fits all of it. TSV is plain first, CSV quoted first.
"""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from .. import UserError, log
from . import naming
from .lines import lines as read_lines
from .lines import opened

LARGEST_CELL = 8_000_000  # characters
DELIMITERS = (",", ";", "\t", "|")
SAMPLE = 1000  # rows that tell a delimiter or a header
Row = tuple[int, list[str]]  # first line of a row, its cells


@dataclass(frozen=True)
class Dialect:
    """How a file is read."""

    delimiter: str = ","
    quoted: bool = True  # cells may stand in quotes; else a quote is a letter
    escape: str | None = None  # what makes a quote inside quotes a letter; None: a second quote does
    skipped: int = 0  # lines before the header
    header: bool = True  # without one, columns are called 1, 2, ...


@dataclass
class Survey:
    """A whole file, read one way."""

    columns: int = 0
    rows: int = 0
    lines: int = 0  # that are not empty
    quotes: int = 0  # rows with a quote in what is read
    enclosed: int = 0  # rows with a cell between quotes, as far as they are letters
    doubled: bool = False  # whether a cell in quotes has a quote inside, as whoever quotes writes it
    all_quoted: bool = True
    problem: UserError | None = None


def names(path: Path) -> list[str]:
    """The columns of a file. Raises UserError if it has none."""
    dialect = dialect_of(path)
    _, first = next(_rows(path, dialect), (1, []))
    if not first:
        raise UserError(f"{path}: empty file; give a file with a header and at least one row")
    return first if dialect.header else [str(i + 1) for i in range(len(first))]


def blocks(path: Path, wanted: Sequence[str], size: int) -> Iterator[tuple[dict[str, list[Any]], list[int]]]:
    """The `wanted` columns, `size` rows at a time, and the line at which each row starts."""
    dialect, header = dialect_of(path), names(path)
    places = [header.index(name) for name in wanted]
    cleaned = [naming.plain(name) for name in header]
    held: list[list[str]] = []
    starts: list[int] = []
    for line, cells in islice(_rows(path, dialect), int(dialect.header), None):
        if problem := _misfit(path, line, cells, len(header)):
            raise problem
        if dialect.header and len(cells[0]) <= len(header[0]) + 3 and [naming.plain(cell) for cell in cells] == cleaned:
            raise UserError(f"{path}:{line}: the header stands here again (two files joined?); drop that line")
        held.append(cells)
        starts.append(line)
        if len(held) == size:
            yield {name: [row[i] for row in held] for name, i in zip(wanted, places, strict=True)}, starts
            held, starts = [], []
    if held:
        yield {name: [row[i] for row in held] for name, i in zip(wanted, places, strict=True)}, starts


def _misfit(path: Path, line: int, cells: list[str], columns: int) -> UserError | None:
    if len(cells) == columns:
        return None
    return UserError(
        f"{path}:{line}: {len(cells)} cells, but the header has {columns}; "
        "quote the cells that hold the separator or a line break"
    )


# ── reading one way ─────────────────────────────────────────────────────────────────────────────────────────────────


def _rows(path: Path, dialect: Dialect) -> Iterator[Row]:
    """Rows with any cell, the header included."""
    text = islice(read_lines(path), dialect.skipped, None)
    rows = _quoted_rows(path, text, dialect) if dialect.quoted else _plain_rows(text, dialect)
    for line, cells in rows:
        if cells:
            yield line + dialect.skipped, cells


def _plain_rows(text: Iterator[str], dialect: Dialect) -> Iterator[Row]:
    for number, line in enumerate(text, 1):
        line = line.rstrip("\r\n")
        if line:
            yield number, line.split(dialect.delimiter)


def _quoted_rows(path: Path, text: Iterator[str], dialect: Dialect) -> Iterator[Row]:
    csv.field_size_limit(LARGEST_CELL)  # the default refuses 131,073 characters
    reader = csv.reader(
        text, delimiter=dialect.delimiter, doublequote=dialect.escape is None, escapechar=dialect.escape, strict=True
    )
    start = 1
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise UserError(f"{path}:{start + dialect.skipped}: {_csv_problem(error)}") from error
        yield start, cells
        start = reader.line_num + 1


def _csv_problem(error: csv.Error) -> str:
    if "end of data" in str(error):
        return "a quoted cell starts here and never ends; close it, and write a quote inside one as two"
    if "field limit" in str(error):
        return f"a cell of more than {LARGEST_CELL:,} characters, or a quote that never ends; close it, or cut the text"
    return f"not valid CSV ({error}); quote the cell, and write a quote inside one as two"


# ── which way ───────────────────────────────────────────────────────────────────────────────────────────────────────


def dialect_of(path: Path) -> Dialect:
    """How a file is read; settled once, and said where it is not the usual way.

    Raises UserError where two ways of reading fit and give other rows.
    """
    status = path.stat()
    return _settled(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=256)
def _settled(path: Path, changed: int, size: int) -> Dialect:
    start = _start(path)
    dialect = _for_tabs(path, start) if start.delimiter == "\t" and _is_tsv(path) else _for_commas(path, start)
    return _with_header(path, dialect)


def _is_tsv(path: Path) -> bool:
    return ".tsv" in [suffix.lower() for suffix in path.suffixes[-2:]] or ".tab" in path.suffixes[-2:]


def _start(path: Path) -> Dialect:
    """The delimiter: what the file says (`sep=;`, as Excel writes), else what cuts its first rows alike."""
    head = next((line for line in islice(read_lines(path), 100) if line.strip()), "")
    if head[:4].lower() == "sep=" and len(head.strip()) == 5:
        return Dialect(head[4], skipped=1)
    wanted = ("\t", *DELIMITERS[:2], "|") if _is_tsv(path) else DELIMITERS
    present = [mark for mark in wanted if mark in head]
    if _is_tsv(path) and "\t" in present:
        present = ["\t"]
    if len(present) < 2:
        return Dialect(next(iter(present), "\t" if _is_tsv(path) else ","))
    fits = [mark for mark in present if _survey(path, Dialect(mark), SAMPLE).problem is None]
    return Dialect(next(iter(fits), present[0]))


def _for_tabs(path: Path, start: Dialect) -> Dialect:
    bare, quoted = replace(start, quoted=False), start
    plain = _survey(path, bare)
    if plain.problem is None and not plain.quotes:
        return bare
    read = _survey(path, quoted)
    if plain.problem is None:
        if read.problem is None and read.rows == plain.rows and (read.doubled or read.all_quoted):
            return quoted
        log.info("%s: quotes are read as letters, as in %d lines of it: so every line has the same columns", path,
                 plain.quotes)  # fmt: skip
        return bare
    if read.problem is None:
        _say_lines(path, read)
        return quoted
    return _escaped(path, start) or bare


def _for_commas(path: Path, start: Dialect) -> Dialect:
    read = _survey(path, start)
    if read.problem is None:
        if read.rows < read.lines:
            plain = _survey(path, replace(start, quoted=False))
            if plain.problem is None and plain.rows > read.rows:
                raise UserError(
                    f"{path}: {read.rows - 1:,} rows if quotes hold cells together, {plain.rows - 1:,} if they are "
                    "letters, and both fit; write a quote in a quoted cell as two, or save it as .tsv without quotes"
                )
            _say_lines(path, read)
        return start
    if escaped := _escaped(path, start):
        return escaped
    bare = replace(start, quoted=False)
    plain = _survey(path, bare)
    if plain.problem is None and plain.quotes and not plain.enclosed:
        log.info("%s: quotes are read as letters, as in %d lines of it: %s", path, plain.quotes,
                 str(read.problem).removeprefix(f"{path}:"))  # fmt: skip
        return bare
    return start  # reading says what is wrong with it


def _escaped(path: Path, start: Dialect) -> Dialect | None:
    """The dialect in which a backslash makes a quote a letter, if it fits."""
    dialect = replace(start, escape="\\")
    if not _holds(path, b'\\"') or _survey(path, dialect).problem is not None:
        return None
    log.info("%s: a backslash before a quote makes it a letter", path)
    return dialect


def _say_lines(path: Path, read: Survey) -> None:
    if read.rows < read.lines:
        log.info("%s: %s rows on %s lines: quoted cells go over several", path, f"{read.rows:,}", f"{read.lines:,}")


def _survey(path: Path, dialect: Dialect, most: int | None = None) -> Survey:
    """Read all of a file, or `most` rows of it, one way; the first problem ends it."""
    survey, counter = Survey(), [0]

    def counted(text: Iterator[str]) -> Iterator[str]:
        for line in text:
            counter[0] += bool(line.strip("\r\n"))
            yield line

    text = counted(islice(read_lines(path), dialect.skipped, None))
    rows = _quoted_rows(path, text, dialect) if dialect.quoted else _plain_rows(text, dialect)
    try:
        for line, cells in islice(((line, cells) for line, cells in rows if cells), most):
            survey.columns = survey.columns or len(cells)
            if problem := _misfit(path, line + dialect.skipped, cells, survey.columns):
                raise problem
            survey.rows += 1
            joined = dialect.delimiter.join(cells)
            if '"' in joined:
                survey.quotes += 1
                survey.enclosed += any(len(cell) > 1 and cell[0] == cell[-1] == '"' for cell in cells)
                survey.doubled = survey.doubled or dialect.quoted
    except UserError as error:
        survey.problem = error
    survey.lines = counter[0]
    if dialect.quoted and survey.problem is None:
        survey.all_quoted = _all_quoted(path, dialect)
        survey.doubled = survey.doubled and _holds(path, b'""')
    return survey


def _all_quoted(path: Path, dialect: Dialect) -> bool:
    """Whether the first lines are quoted throughout, header included, as QUOTE_ALL writes them."""
    some = [line.rstrip("\r\n") for line in islice(read_lines(path), dialect.skipped, 50) if line.strip()]
    return bool(some) and all(line.startswith('"') and line.endswith('"') and len(line) > 1 for line in some)


def _holds(path: Path, pair: bytes) -> bool:
    """Whether two bytes stand anywhere in a file."""
    last = b""
    with opened(path) as file:
        while piece := file.read(2**20):
            if pair in last + piece:
                return True
            last = piece[-1:]
    return False


# ── the header ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _with_header(path: Path, dialect: Dialect) -> Dialect:
    """The dialect, without a header where the first row has the values of a row.

    It has if none of its cells names a text or a label, and one of them stands in its column again.
    """
    first, *rest = [cells for _, cells in _some(path, dialect)] or [[]]
    if not rest or any(naming.is_known(cell) for cell in first):
        return dialect
    again = [i for i, cell in enumerate(first) if cell.strip() and any(i < len(row) and row[i] == cell for row in rest)]
    if not again:
        return dialect
    log.info("%s: no header (%r of the first line stands further down, too); columns are called 1, 2, ...", path,
             first[again[0]][:40])  # fmt: skip
    return replace(dialect, header=False)


def _some(path: Path, dialect: Dialect) -> list[Row]:
    rows: list[Row] = []
    with contextlib.suppress(UserError):  # reading says it, with the row
        rows.extend(islice(_rows(path, dialect), SAMPLE))
    return rows
