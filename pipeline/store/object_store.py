"""Objects behind a URL, by fsspec: listed, read, written, deleted; every request that fails is tried again."""

from __future__ import annotations

import contextlib
import errno
import secrets
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, TypeVar

from .. import UserError, need
from ..files import DRAFT, refusal
from ..words import error_line

TRIES, PAUSE = 5, 0.5  # of a request that failed: after 0.5, 1, 2 and 4 seconds
TOGETHER = 64  # objects that are asked for at a time
REFUSED = ("credential", "accessdenied", "access denied", "forbidden", "signature", "invalidaccesskey", "unauthorized")
NO_SPACE = ("quota", "no space")
FULL = (errno.ENOSPC, errno.EDQUOT)
ATOMIC = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "memory")  # where an object appears whole

Answer = TypeVar("Answer")


@lru_cache(maxsize=8)
def object_store(url: str) -> ObjectStore:
    """Raises UserError if there is nothing installed that opens such a URL."""
    protocol = url.partition("://")[0]
    fsspec = need("fsspec", "s3")
    options: dict[str, Any] = {"use_listings_cache": False}
    if protocol in ("s3", "s3a"):
        need("s3fs", "s3")
        # our checks find what has changed, and then we want the bytes; the client would only go on refusing them
        users = fsspec.config.conf.get(protocol, {}).get("config_kwargs", {})
        options["config_kwargs"] = {"response_checksum_validation": "when_required"} | users
    try:
        system, root = fsspec.url_to_fs(url, **options)
    except (ImportError, ValueError) as error:
        raise UserError(f"--cache {url}: {error_line(error)}; pass s3://bucket/prefix or a folder") from error
    return ObjectStore(url, system, root.rstrip("/"), protocol in ATOMIC)


def remedy(error: BaseException) -> str:
    """What to do about a request that failed for good, by what the answer says."""
    answer = f"{type(error).__name__} {error}".lower()
    if isinstance(error, PermissionError) or any(word in answer for word in REFUSED):
        return "check your credentials and what they may do"
    if any(word in answer for word in NO_SPACE) or (isinstance(error, OSError) and error.errno in FULL):
        return "free some space there"
    if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
        return "mend that, or pass another --cache"  # of a disk, which no network lies between
    return "check the network and the URL"


class ObjectStore:
    """Objects below a URL. Every request that fails is tried again, then told as a UserError."""

    def __init__(self, url: str, system: Any, root: str, atomic: bool):
        self.url, self.system, self.root, self.atomic = url, system, root, atomic

    def names(self, folder: str) -> dict[str, int | None]:
        """What lies in a folder, with its bytes; None: a folder. Empty if there is no such folder."""
        try:
            entries = self._tried("list", folder, lambda: self.system.ls(self._path(folder), detail=True))
        except FileNotFoundError:
            return {}
        names = ((entry["name"].rstrip("/").rpartition("/")[2], entry) for entry in entries)
        return {name: None if entry["type"] == "directory" else entry["size"] for name, entry in names if name}

    def read(self, ranges: Sequence[tuple[str, int, int]]) -> list[bytes | None]:
        """The bytes from `start` to before `end` of several objects, many at a time; None for one that is gone."""
        got: list[bytes | None] = []
        for first in range(0, len(ranges), TOGETHER):
            got += self._read(ranges[first : first + TOGETHER])
        return got

    def _read(self, ranges: Sequence[tuple[str, int, int]]) -> list[bytes | None]:
        got: dict[int, bytes | None] = {}

        def ask() -> None:
            """Ask for those that have not come yet."""
            left = [i for i in range(len(ranges)) if i not in got]
            paths = [self._path(ranges[i][0]) for i in left]
            starts, ends = [ranges[i][1] for i in left], [ranges[i][2] for i in left]
            answers = self.system.cat_ranges(paths, starts, ends, on_error="return")
            failed = None
            for i, answer in zip(left, answers, strict=True):
                if isinstance(answer, FileNotFoundError):
                    got[i] = None
                elif isinstance(answer, Exception):
                    failed = answer
                else:
                    got[i] = bytes(answer)
            if failed is not None:
                raise failed

        self._tried("read", ranges[0][0], ask)
        return [got[i] for i in range(len(ranges))]

    def write(self, name: str, payload: bytes) -> None:
        """Make an object appear, atomically."""

        def put() -> None:
            path = self._path(name)
            if self.atomic:
                self.system.pipe_file(path, payload)
                return
            draft = f"{path.rpartition('/')[0]}/{DRAFT}{secrets.token_hex(8)}"
            self.system.makedirs(path.rpartition("/")[0], exist_ok=True)
            self.system.pipe_file(draft, payload)
            self.system.mv(draft, path)

        self._tried("write", name, put)

    def delete(self, name: str) -> None:
        """Delete an object; one that is gone is as good."""

        def drop() -> None:
            with contextlib.suppress(FileNotFoundError):
                self.system.rm_file(self._path(name))

        self._tried("delete", name, drop)

    def move(self, name: str, to: str) -> None:
        """Rename an object; where there is no renaming, a copy and a deletion."""

        def rename() -> None:
            self.system.makedirs(self._path(to).rpartition("/")[0], exist_ok=True)
            self.system.mv(self._path(name), self._path(to))

        self._tried("move", name, rename)

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}" if name else self.root

    def _tried(self, verb: str, name: str, request: Callable[[], Answer]) -> Answer:
        """The answer to a request; asked again, with longer and longer pauses, where it fails.

        Raises FileNotFoundError, or UserError once it has failed often enough.
        """
        for turn in range(TRIES):
            try:
                return request()
            except FileNotFoundError:
                raise
            except Exception as error:  # every backend has different errors
                if turn == TRIES - 1 or isinstance(error, PermissionError):
                    raise refusal(f"{self.url}/{name}", f"cannot {verb}", error, remedy(error)) from error
                time.sleep(PAUSE * 2**turn)
        raise AssertionError("the last turn answers or raises")
