"""What surrounds a training: threads and seeds of its own, a folder to be resumed from, errors that say what to do."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .. import UserError
from ..files import disk_errors, refusal
from ..run import work_folder
from .device import is_main_process, threads, together
from .heads import isolated
from .hopeless import Bar
from .training import FineTuneSettings

NO_ROOM = ("out of memory", "allocate memory", "not enough memory", "failed to allocate", "bad_alloc")  # torch's words


@dataclass(frozen=True)
class Places:
    """Where a training's run lies, what the layers that it leaves alone make of texts, and what it is held against."""

    runs: Path
    cache: Path | None = None  # nothing is kept
    bar: Bar | None = None  # it goes on to its end


@contextlib.contextmanager
def working(settings: FineTuneSettings, processors: int | None, folder: Path) -> Iterator[Path]:
    """The folder where the training of the run at `folder` keeps what it needs to be resumed."""
    with threads(processors), isolated(settings.seed), _mendable(folder.parent, settings), _resumable(folder) as work:
        yield work


@contextlib.contextmanager
def _mendable(home: Path, settings: FineTuneSettings) -> Iterator[None]:
    """Full memory and full disks as errors that say what to do."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not (isinstance(error, MemoryError) or any(words in str(error).lower() for words in NO_ROOM)):
            raise  # of others, too, some speak of memory
        half = max(1, settings.batch_size // 2)
        twice = 2 * settings.gradient_accumulation
        raise UserError(
            f"out of memory; pass --batch-size {half} --gradient-accumulation {twice} for the same steps in halves"
        ) from error
    except OSError as error:
        raise refusal(home, "cannot write", error, "make room, or choose another --runs") from error


@contextlib.contextmanager
def _resumable(folder: Path) -> Iterator[Path]:
    """Where a training keeps what it needs to be resumed, beside its run; removed when the run is there.

    Two processes that fit the same run at once do not share it: the second starts afresh in a folder of its own.
    """
    work = work_folder(folder)
    with disk_errors(folder.parent, "cannot be written", "choose another --runs"):
        work.mkdir(parents=True, exist_ok=True)
    with _alone(work) as alone:
        if not alone:
            work = work.with_name(f"{work.name}-{os.getpid()}")
            work.mkdir(exist_ok=True)
        try:
            yield work
        except BaseException:
            if all(file.name == "lock" for file in work.glob("*")):  # nothing to go on from
                shutil.rmtree(work, ignore_errors=True)
            raise
        together()
        if is_main_process():
            shutil.rmtree(work, ignore_errors=True)


@contextlib.contextmanager
def _alone(work: Path) -> Iterator[bool]:
    """Whether no other process works in `work`; a killed one's claim ends with it."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield True
        return
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:  # the processes of one training belong together
        yield True
        return
    with open(work / "lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield True
        except BlockingIOError:
            yield False
