"""Files that appear atomically, and one error for a disk that refuses.

What is written goes to a draft beside its place, is synced and renamed: the rename is the only moment at which it
appears. A draft that a killed process left is a day old when the next draft beside it is begun: it is swept then.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

from . import UserError, log
from .words import error_line

DRAFT = ".draft-"
NAMED = re.compile(rf"{re.escape(DRAFT)}[0-9a-f]{{8,16}}([-.].*)?", re.DOTALL)  # the folder may be a user's own
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
    `path`, which it replaces if it is a file or an empty folder; else nothing is left of it. What killed processes have
    left beside it is swept.

    Raises OSError.
    """
    _sweep_once(path.parent.absolute())
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


def spare(out: Path, *sources: Path | str | None) -> None:
    """Raises UserError if `out` is what is read, or lies in a folder that is: what is made of it would replace it."""
    places = [Path(source) for source in sources if source and out.exists() and Path(source).exists()]
    if any(out.resolve().is_relative_to(place.resolve()) for place in places):
        raise UserError(f"{out}: is read here, and would be replaced; pass another --out")


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


def expanded(path: Path | str) -> Path:
    """`path` with a `~` that stands for a home folder; as it is where nobody knows of one."""
    return Path(os.path.expanduser(path))


def user_folder() -> Path:
    """Where this program keeps what is a user's, not a project's: below $XDG_CACHE_HOME, or ~/.cache, or ./.cache."""
    cache = expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    return (Path(".cache") if cache.parts[:1] == ("~",) else cache) / "probe-or-tune"  # a user without a home


def remove(path: Path) -> None:
    """Delete a file or a whole folder, if it exists. Raises OSError."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def mark_used(path: Path) -> None:
    """Let a file say when it was last of use, where that is allowed."""
    with contextlib.suppress(OSError):
        os.utime(path)


def is_draft(name: str) -> bool:
    """Whether a name beside a file or a folder is that of a draft."""
    return NAMED.fullmatch(name) is not None


def sweep(folder: Path, wanted: Callable[[str], bool] = is_draft, age: float = DAY) -> tuple[str, ...]:
    """Delete what is `wanted` in `folder`, by its name, and was written to last more than `age` seconds ago; its names.

    What cannot be deleted is left, and said.
    """
    swept = []
    for path in sorted(folder / name for name in os.listdir(folder) if wanted(name)) if folder.is_dir() else ():
        try:
            if time.time() - _touched(path) > age:
                remove(path)
                swept.append(path.name)
        except FileNotFoundError:
            continue  # another process was faster
        except OSError as error:
            log.warning("%s: cannot delete (%s)", path, error_line(error))
    return tuple(swept)


@lru_cache(maxsize=1024)
def _sweep_once(folder: Path) -> None:
    """Sweep a folder that is about to be written to, the first time in this process."""
    with contextlib.suppress(OSError):  # a folder that may be written to and not listed
        sweep(folder)


def _touched(path: Path) -> float:
    """When something in `path` was written to last."""
    return max(inside.lstat().st_mtime for inside in (path, *path.rglob("*")))
