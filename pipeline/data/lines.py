"""A file of text → its lines, decoded: of a bounded length, whatever ends them; not UTF-8, with the code page."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any

from .. import UserError, one_line
from ..untrusted import MB, open_regular
from . import codepages

BOM = b"\xef\xbb\xbf"
LONGEST_LINE = 16 * MB  # bytes
PIECE = MB  # bytes that are decoded at once
READ = 64 * 1024  # bytes that are cut into lines at once


class guarded:  # noqa: N801 - reads as a verb
    """Turns what the operating system and the decompressors say into a UserError."""

    def __init__(self, path: Path):
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        import zlib

        if isinstance(error, FileNotFoundError):
            raise UserError(f"{self.path}: no such file") from error
        if isinstance(error, gzip.BadGzipFile | EOFError | zlib.error):
            raise UserError(f"{self.path}: damaged gzip file ({error}); fetch or pack it again") from error
        if isinstance(error, PermissionError):
            raise UserError(f"{self.path}: cannot be read ({error.strerror}); check its permissions") from error
        if isinstance(error, OSError):
            raise UserError(f"{self.path}: cannot be read ({error.strerror or error}); is its disk there?") from error


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """A regular file, unpacked if its suffix is `.gz`, closed at the end."""
    with open_regular(path) as file:
        if path.suffix.lower() != ".gz":
            yield file
            return
        with gzip.GzipFile(fileobj=file) as unpacked:
            yield unpacked  # type: ignore[misc]


def lines(path: Path) -> Iterator[str]:
    """Decoded lines with their ends. Raises UserError with the line that is too long or not UTF-8."""
    with opened(path) as file:
        numbered = enumerate(_raw_lines(file, path), 1)
        for number, raw in numbered:
            if number == 1:
                raw = raw.removeprefix(BOM)
                if codepages.has_nuls(raw[:1000]):
                    raise _not_utf8(path, number, raw, [], next((byte for byte in raw if byte > 127), 0))
            try:
                yield raw.decode("utf-8")
            except UnicodeDecodeError as error:
                more = (line for _, line in islice(numbered, 2000) if not line.isascii())
                raise _not_utf8(path, number, raw, list(islice(more, 200)), raw[error.start]) from error


def _raw_lines(file: IO[bytes], path: Path) -> Iterator[bytes]:
    """Lines ending in \\n; where a file has none, those that \\r ends, as old Macs wrote them."""
    end, rest, length, number = b"", [b""], 0, 0  # rest: what has been read of the line that is not over
    while piece := file.read(READ):
        end = end or (b"\r" if b"\r" in piece and b"\n" not in piece else b"\n")
        first, *full = piece.split(end)
        rest.append(first)
        length += len(first)
        for line in full:
            yield b"".join(rest) + b"\n"
            rest, length = [line], len(line)
        number += len(full)
        if length > LONGEST_LINE:
            raise UserError(
                f"{path}:{number + 1}: a line of more than {LONGEST_LINE // MB} MB; is it text? "
                "write one row a line, or convert it to Parquet"
            )
    if length:
        yield b"".join(rest)


def _not_utf8(path: Path, number: int, raw: bytes, more: list[bytes], byte: int = 0) -> UserError:
    page, text = codepages.likely(b"\n".join([raw, *more])[: 64 * 1024] if page_needs_more(raw) else raw)
    first = next((line for line in text.splitlines() if not line.isascii()), text)
    suffix = "".join(path.suffixes[-1:]) if path.suffix.lower() != ".gz" else "".join(path.suffixes[-2:-1])
    return UserError(
        f"{path}:{number}: not UTF-8 (byte 0x{byte:02x}); it looks like {page} ('{one_line(first, 40)}'); "
        f"convert it: iconv -f {page} -t UTF-8 {_shell(path.name)} > utf8{suffix}"
    )


def page_needs_more(raw: bytes) -> bool:
    """Whether one line says too little of its code page; of UTF-16 and UTF-32 the first bytes say it."""
    return not raw.startswith(tuple(codepages.MARKS)) and not codepages.has_nuls(raw)


def _shell(name: str) -> str:
    import shlex

    return shlex.quote(name)


def pieces(path: Path) -> Iterator[str]:
    """A file's text in pieces of about a megabyte, decoded. Raises UserError if it is not UTF-8."""
    with opened(path) as file:
        reader = io.TextIOWrapper(file, "utf-8-sig", newline="")
        try:
            while piece := reader.read(PIECE):
                yield piece
        except UnicodeDecodeError:
            for _ in lines(path):  # says where, and what to do
                pass
            raise
