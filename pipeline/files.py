"""Files that appear whole or not at all, and one error for a disk that refuses.

What is written goes to a draft beside its place, is synced and renamed: the rename is the only moment at which it
appears, and a draft that a killed process left is swept when it is a day old.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from pipeline import UserError, log
from pipeline.words import error_line

DRAFT = ".draft-"
DAY = 24 * 3600.0


@contextlib.contextmanager
def disk_errors(
    path: Path | str, problem: str, remedy: str, also: tuple[type[BaseException], ...] = ()
) -> Iterator[None]:
    """What the disk refuses inside the block, and errors of the types `also`, as `PATH: problem (why); remedy`.

    Raises UserError.
    """
    refused: tuple[type[BaseException], ...] = (OSError, *also)
    try:
        yield
    except refused as error:
        raise refusal(path, problem, error, remedy) from error


def refusal(path: Path | str, problem: str, error: BaseException, remedy: str) -> UserError:
    """`PATH: problem (why); remedy`, to be raised."""
    return UserError(f"{path}: {problem} ({error_line(error)}); {remedy}")


@contextlib.contextmanager
def draft(path: Path) -> Iterator[Path]:
    """A name beside `path`, under which the block makes a file or a folder; if it ends well, that is synced and becomes
    `path`, which it replaces if it is a file or an empty folder; else nothing is left of it.

    Raises OSError.
    """
    made = draft_of(path)
    try:
        yield made
        for file in [made] if made.is_file() else made.rglob("*"):
            if file.is_file():
                with open(file, "rb+") as handle:
                    os.fsync(handle.fileno())
        os.replace(made, path)
    except BaseException:
        with contextlib.suppress(OSError):
            remove(made)
        raise
    sync(path.parent)  # the rename itself survives a power cut


def draft_of(path: Path) -> Path:
    """A hidden name beside `path` that nobody else has, with the same suffix."""
    return path.with_name(f"{DRAFT}{secrets.token_hex(8)}{path.suffix}")


def publish(path: Path, payload: bytes) -> None:
    """Make `payload` appear at `path`, whole and durable, or not at all. Raises OSError; no draft is left behind."""
    with draft(path) as made, open(made, "xb") as file:
        file.write(payload)


def sync(folder: Path) -> None:
    """Make the names in a folder durable, where the system can."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def remove(path: Path) -> None:
    """Delete a file or a whole folder, if it is there. Raises OSError."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sweep(folder: Path, prefixes: tuple[str, ...] = (DRAFT,), age: float = DAY) -> tuple[str, ...]:
    """Delete what begins with one of `prefixes` in `folder` and was written to last more than `age` seconds ago; its
    names. What cannot be deleted is left, and said.
    """
    swept = []
    for path in sorted(folder.glob("*")) if folder.is_dir() else ():
        try:
            if path.name.startswith(prefixes) and time.time() - _touched(path) > age:
                remove(path)
                swept.append(path.name)
        except FileNotFoundError:
            continue  # another process was faster
        except OSError as error:
            log.warning("%s: cannot delete (%s)", path, error_line(error))
    return tuple(swept)


def _touched(path: Path) -> float:
    """When something in `path` was written to last."""
    return max(inside.lstat().st_mtime for inside in (path, *path.rglob("*")))
