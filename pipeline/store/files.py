"""The shards of one folder of the store as files: which there are, how one comes, and how it goes.

`Files` is a folder on this machine's disk and all there is to it. A folder that mirrors a remote one answers the same
calls (see `remote.py`), so that the store does not know which of the two it stands on.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from pathlib import Path

from .. import UserError, log
from ..files import publish, refusal, sync
from ..words import error_line
from .shard import SUFFIX, Shard, read_header

QUARANTINE = "quarantine"


class NotUploadedError(UserError):
    """A shard is safe on this machine's disk, but not yet where its store is."""


class Files:
    """A local folder: the rename is the commit, the listing is the manifest."""

    rooms: tuple[str, ...] = (QUARANTINE,)  # folders inside it that are not shards

    def __init__(self, folder: Path):
        self.folder = folder

    def names(self) -> set[str]:
        """The shards that are there now. Raises UserError if the folder may not be read."""
        return listing(self.folder)

    def header(self, name: str) -> Shard:
        """A shard by its header; `path` is a file whose header, keys, tokens and checks can be read.

        Raises what `read_header` raises.
        """
        return read_header(self.folder / name, self.folder.name)

    def fetch(self, names: Iterable[str], again: bool = False) -> None:
        """Make the vectors of these shards readable; what is gone is left out. `again`: as they lie in the store now,
        whatever copy is here."""

    def add(self, name: str, payload: bytes) -> None:
        """Commit a shard. Raises OSError if nothing could be written, NotUploadedError if it is stored here alone."""
        if not self.folder.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            sync(self.folder.parent)
        publish(self.folder / name, payload)

    def remove(self, name: str) -> None:
        """Delete a shard. Raises OSError if it cannot be deleted."""
        (self.folder / name).unlink(missing_ok=True)

    def quarantine(self, name: str, reason: str) -> bool:
        """Set a damaged shard aside; False if it cannot be moved."""
        path, aside = self.folder / name, self.folder / QUARANTINE / name
        try:
            aside.parent.mkdir(exist_ok=True)
            if aside.exists():
                aside = aside.with_name(f"{path.stem}-{secrets.token_hex(4)}{SUFFIX}")
            os.rename(path, aside)
            log.warning("%s: %s; moved to %s/, its rows will be encoded again", path, reason, QUARANTINE)
        except FileNotFoundError:
            pass  # another process was faster
        except OSError as error:
            log.warning("%s: %s; not served (cannot be moved away: %s)", path, reason, error_line(error))
            return False
        return True

    def announce(self, name: str) -> None:
        """A small file beside the shards has been written here: whoever else uses the store shall see it."""


def listing(folder: Path) -> set[str]:
    """Names of the shards in a local folder. Raises UserError if it may not be read."""
    try:
        with os.scandir(folder) as entries:
            return {e.name for e in entries if is_shard(e.name) and e.is_file()}
    except FileNotFoundError:
        return set()
    except OSError as error:
        raise refusal(folder, "cannot read", error, "choose another --cache") from error


def is_shard(name: str) -> bool:
    """Whether a file of this name is a shard; drafts are hidden."""
    return name.endswith(SUFFIX) and name[0] != "."
