"""A store behind a URL (`s3://bucket/prefix`, or anything that fsspec opens), beside a local copy of what was read.

The objects are the same shards under the same names, and an object's PUT is its commit. `mirror(url)` is a local folder
that stands for the URL: handed to the store as any other cache, it holds

    <digest>/<name>.safetensors           full shards: written here, or whose vectors were read here
    <digest>/columns/<name>.safetensors   keys, token counts and checks of the others, in a file with a hole for vectors
    <digest>/outbox/<name>.safetensors    encoded here and not yet uploaded: the next command does that first
    models/                               converted models, which every machine makes for itself (but see `bring`)

and may be deleted at any time when its outboxes are empty. A listing costs a request a thousand shards; keys of a shard
are read once a machine (one request for a small one, two for others), vectors once, and only if they are wanted.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from .. import UserError, log
from ..files import disk_errors, draft, publish, user_folder
from ..urls import checked_url, is_url
from .files import QUARANTINE, Files, NotUploadedError, is_shard, listing
from .object_store import ObjectStore, object_store
from .shard import SUFFIX, DamagedError, Shard, read_header

MARK = "remote.json"  # what tells a mirror from a separate cache
CARD = "about.json"
COLUMNS, OUTBOX = "columns", "outbox"
LIST_SECONDS = 5.0  # between two listings of a folder: others' shards come about as often
LIST_SHARE = 0.05  # of the time may go into listing, however many shards there are
HEAD, TAIL = 1 << 17, 1 << 15  # bytes at both ends of a shard that hold keys, checks and tokens of 5,000 rows
SMALL = 1 << 18  # bytes of a shard that is read whole at once
BATCH = 32  # shards whose keys are read together


_urls: dict[Path, str] = {}  # of the mirrors that this process has named; others' mirrors have a MARK


def mirror(url: str) -> Path:
    """The local folder that stands for `url`: below $XDG_CACHE_HOME (or ~/.cache), the same for every process.

    It is made, and the URL opened, when the folder is first used. Raises UserError for a URL that is none, that names
    no bucket or that carries credentials.
    """
    url = checked_url(url, "--cache")
    words = re.sub(r"[^a-z0-9.]+", "-", url.lower()).strip("-")[:60]
    folder = user_folder().absolute() / f"{words}-{hashlib.blake2b(url.encode(), digest_size=6).hexdigest()}"
    _urls[folder] = url
    return folder


def cache_folder(place: Path | str) -> Path:
    """The local folder of a cache that is given as a folder, or as a URL (see `mirror`)."""
    return mirror(str(place)) if isinstance(place, str) and is_url(place) else Path(place)


def opened(cache: Path, url: str) -> ObjectStore:
    """What is behind a mirror's URL; the mirror is there from now on.

    Raises UserError if nothing installed opens such a URL, or if the mirror cannot be written.
    """
    remote = object_store(url)
    with disk_errors(cache, "cannot write", "set XDG_CACHE_HOME to another folder"):
        cache.mkdir(parents=True, exist_ok=True)
        if not (cache / MARK).exists():
            publish(cache / MARK, json.dumps({"url": url}).encode())
    return remote


def url_of(cache: Path) -> str | None:
    """The URL that a folder mirrors; None for a separate cache."""
    if Path(cache) in _urls:
        return _urls[Path(cache)]
    try:
        return str(json.loads((Path(cache) / MARK).read_text("utf-8"))["url"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


def files_of(folder: Path) -> Files:
    """The files of one folder of a cache, wherever that cache is."""
    url = url_of(folder.parent)
    return Files(folder) if url is None else Mirrored(folder, opened(folder.parent, url))


# ── a folder of the store whose shards are objects ──────────────────────────────────────────────────────────────────


class Mirrored(Files):
    """A folder that mirrors one behind a URL. For any number of processes of this machine, one thread of each."""

    rooms = (QUARANTINE, COLUMNS, OUTBOX)

    def __init__(self, folder: Path, remote: ObjectStore):
        super().__init__(folder)
        self.far = remote
        self._sizes: dict[str, int] = {}  # of the objects, as last listed
        self._listed, self._pause = -1e9, 0.0  # when that was, and how long it holds
        self._unreachable: str | None = None  # why the last upload failed
        self._uploaded_leftovers = False

    # what exists

    def names(self) -> set[str]:
        if not self._uploaded_leftovers:
            self._upload_leftovers()
        if time.monotonic() - self._listed >= self._pause:
            self._pull()
        return listing(self.folder) | listing(self.folder / COLUMNS)

    def header(self, name: str) -> Shard:
        path = self.folder / name
        if not path.exists():
            path = self.folder / COLUMNS / name
        return read_header(path, self.folder.name)

    def fetch(self, names: Iterable[str], again: bool = False) -> None:
        wanted = [name for name in names if again or not (self.folder / name).exists()]
        for first in range(0, len(wanted), 8):  # some 100 MB
            some = wanted[first : first + 8]
            for name, payload in zip(some, self._download(some), strict=True):
                if payload is None:
                    self._listed = -1e9  # the listing is of yesterday
                    self._drop(name)
                else:
                    self._place(self.folder / name, payload)
                    (self.folder / COLUMNS / name).unlink(missing_ok=True)

    # what changes

    def add(self, name: str, payload: bytes) -> None:
        """The shard is on this disk before it is uploaded, so that nothing is lost where that fails."""
        waiting = self.folder / OUTBOX / name
        waiting.parent.mkdir(parents=True, exist_ok=True)
        publish(waiting, payload)
        if self._unreachable is None:
            try:
                self._upload(name, payload)
                return
            except UserError as error:
                self._unreachable = str(error)
        raise NotUploadedError(
            f"{self._unreachable}; {len(listing(waiting.parent))} shards wait in {waiting.parent}: "
            "the same command uploads them and encodes only what is missing"
        )

    def remove(self, name: str) -> None:
        self.far.delete(self._far_name(name))
        self._drop(name)

    def quarantine(self, name: str, reason: str) -> bool:
        """A damaged copy is set aside here and fetched again; a damaged object is set aside there."""
        if (self.folder / name).exists() and not super().quarantine(name, reason):
            return False
        (self.folder / COLUMNS / name).unlink(missing_ok=True)
        (payload,) = self._download([name])
        if payload is None:
            return True
        if is_whole(name, payload):
            log.warning("%s: fetched again from %s", name, self.far.url)
            self._place(self.folder / name, payload)
            return True
        if not (self.folder / QUARANTINE / name).exists():
            self._place(self.folder / QUARANTINE / name, payload)
        try:
            self.far.move(self._far_name(name), f"{self.folder.name}/{QUARANTINE}/{name}")
        except (UserError, FileNotFoundError) as error:
            log.warning("%s: damaged in %s and not served (%s)", name, self.far.url, error)
            return False
        log.warning("%s: damaged in %s; moved to %s/ there", name, self.far.url, QUARANTINE)
        return True

    def announce(self, name: str) -> None:
        if name not in self.far.names(self.folder.name):
            self.far.write(self._far_name(name), (self.folder / name).read_bytes())

    # inside

    def _far_name(self, name: str) -> str:
        return f"{self.folder.name}/{name}"

    def _place(self, path: Path, payload: bytes) -> None:
        with disk_errors(path, "cannot write the local copy", "free some space"):
            path.parent.mkdir(parents=True, exist_ok=True)
            publish(path, payload)

    def _drop(self, name: str) -> None:
        """Forget the local copy of an object that is gone."""
        for path in (self.folder / name, self.folder / COLUMNS / name):
            path.unlink(missing_ok=True)

    def _upload(self, name: str, payload: bytes) -> None:
        self.far.write(self._far_name(name), payload)  # the only moment at which others see it
        with contextlib.suppress(FileNotFoundError):  # another process found it waiting, and uploaded the same bytes
            os.replace(self.folder / OUTBOX / name, self.folder / name)

    def _upload_leftovers(self) -> None:
        """Upload what a command could not that ran before."""
        for name in sorted(listing(self.folder / OUTBOX)):
            try:
                payload = (self.folder / OUTBOX / name).read_bytes()
            except FileNotFoundError:
                continue
            self._upload(name, payload)
            log.info("%s: uploaded to %s, where it had been missing", name, self.far.url)
        self._uploaded_leftovers = True

    def _pull(self) -> None:
        """List the far folder; get the keys of what is new, forget what is gone."""
        started = time.monotonic()
        here = listing(self.folder) | listing(self.folder / COLUMNS)  # before: what is added meanwhile is not "gone"
        remote = self.far.names(self.folder.name)
        self._sizes = {name: size for name, size in remote.items() if size is not None and is_shard(name)}
        spent = time.monotonic() - started
        for name in here - self._sizes.keys():
            self._drop(name)
        self._get_columns(sorted(self._sizes.keys() - here))
        if CARD in remote and not (self.folder / CARD).exists():
            (card,) = self.far.read([(self._far_name(CARD), 0, remote[CARD] or 0)])
            if card is not None:
                self._place(self.folder / CARD, card)
        self._listed, self._pause = time.monotonic(), max(LIST_SECONDS, spent / LIST_SHARE)

    def _get_columns(self, names: Sequence[str]) -> None:
        for first in range(0, len(names), BATCH):
            some = names[first : first + BATCH]
            ranges = [part for name in some for part in self._ends(name)]
            ends = iter(zip(ranges, self.far.read(ranges), strict=True))
            for name in some:
                pieces = [next(ends) for _ in self._ends(name)]
                if all(payload is not None for _, payload in pieces):
                    self._keep_columns(name, {start: payload or b"" for (_, start, _), payload in pieces})

    def _ends(self, name: str) -> list[tuple[str, int, int]]:
        size, path = self._sizes[name], self._far_name(name)
        return [(path, 0, size)] if size <= SMALL else [(path, 0, HEAD), (path, size - TAIL, size)]

    def _keep_columns(self, name: str, pieces: dict[int, bytes]) -> None:
        """Write the pieces (by where they begin) into a file as long as the shard, with a hole for the vectors."""
        size = self._sizes[name]
        if len(pieces) == 1:
            self._place(self.folder / name, pieces[0])
            return
        path = self.folder / COLUMNS / name
        with disk_errors(path, "cannot write the local copy", "free some space"):
            path.parent.mkdir(parents=True, exist_ok=True)
            with draft(path) as new:
                write_pieces(new, size, pieces)
                with contextlib.suppress(DamagedError):  # the store will see that it is
                    if rest := missing_columns(read_header(new, self.folder.name), pieces):
                        got = self.far.read([(self._far_name(name), start, end) for start, end in rest])
                        write_pieces(new, size, {start: p or b"" for (start, _), p in zip(rest, got, strict=True)})

    def _download(self, names: Sequence[str]) -> list[bytes | None]:
        """Complete shards; those whose bytes are not what they are named after are asked for once more."""
        got = self.far.read([(self._far_name(name), 0, self._size(name)) for name in names])
        for i, name in enumerate(names):
            payload = got[i]
            if payload is not None and not is_whole(name, payload):
                (got[i],) = self.far.read([(self._far_name(name), 0, self._size(name))])
        return got

    def _size(self, name: str) -> int:
        """Bytes of an object; more than any has, if it was not in the last listing."""
        return self._sizes.get(name, 1 << 40)


def is_whole(name: str, payload: bytes) -> bool:
    """Whether these are the bytes that the shard is named after."""
    return hashlib.blake2b(payload, digest_size=16).hexdigest() == name.removesuffix(SUFFIX)


def write_pieces(path: Path, size: int, pieces: Mapping[int, bytes]) -> None:
    """Write pieces to their places in a file of `size` bytes."""
    with open(path, "r+b" if path.exists() else "xb") as file:
        file.truncate(size)
        for start, payload in pieces.items():
            file.seek(start)
            file.write(payload)


def missing_columns(shard: Shard, pieces: Mapping[int, bytes]) -> list[tuple[int, int]]:
    """Which ranges of keys, tokens and checks no piece covers."""
    lengths = {"keys": 16 * shard.rows, "tokens": 4 * shard.rows, "check": 8 * shard.rows}
    ranges = [(shard.offsets[array], shard.offsets[array] + length) for array, length in lengths.items()]
    return [
        (start, end)
        for start, end in ranges
        if not any(first <= start and end <= first + len(payload) for first, payload in pieces.items())
    ]


# ── beside the shards ───────────────────────────────────────────────────────────────────────────────────────────────


def pull_folders(cache: Path) -> None:
    """Make a local folder for each folder of vectors behind a mirror's URL; nothing for a separate cache."""
    url = url_of(cache)
    for name, size in ({} if url is None else opened(Path(cache), url).names("")).items():
        if size is None and name[0] != "." and name != "models":
            (Path(cache) / name).mkdir(exist_ok=True)


def bring(cache: Path, below: str, start: str) -> None:
    """Get the files of folder `below` whose names begin with `start` and that are not here, a record (.json) last."""
    url = url_of(cache)
    if url is None:
        return
    remote, home = opened(Path(cache), url), Path(cache) / below
    sizes = {name: size for name, size in remote.names(below).items() if size is not None and name.startswith(start)}
    for name in sorted(sizes, key=lambda name: name.endswith(".json")):
        if not (home / name).exists():
            (payload,) = remote.read([(f"{below}/{name}", 0, sizes[name] or 0)])
            home.mkdir(parents=True, exist_ok=True)
            publish(home / name, payload or b"")


def send(cache: Path, below: str, start: str) -> None:
    """Upload the files of folder `below` whose names begin with `start`, a record last, unless a record is there."""
    url, home = url_of(cache), Path(cache) / below
    if url is None or not home.is_dir():
        return
    remote = object_store(url)
    present = remote.names(below)
    mine = [path for path in home.iterdir() if path.name.startswith(start) and path.is_file()]
    if any(path.name in present for path in mine if path.suffix == ".json"):
        return
    for path in sorted(mine, key=lambda path: path.suffix == ".json"):
        remote.write(f"{below}/{path.name}", path.read_bytes())
