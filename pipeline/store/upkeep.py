"""Looking after the cache: what it holds, whether it is sound, and putting it in order beside running writers."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import Progress, UserError, log, silent
from ..files import DRAFT, disk_errors, publish, refusal, sweep
from . import ABOUT, SHARD_ROWS, Store
from .files import QUARANTINE
from .index import Index
from .remote import files_of, pull_folders
from .shard import DamagedError, Shard
from .sharing import CLAIM

TEMPORARY = (DRAFT, CLAIM)
CARDS = (ABOUT, "timing.json")
DERIVED = {  # folders of a cache that hold no vectors, each file whole and made again when it is missing
    "models": {"encoder": "converted models"},
    "states": {"encoder": "what layers that are not trained make of texts"},
}


@dataclass(frozen=True)
class Holding:
    """One folder of the cache, as `cache ls` shows it."""

    folder: Path
    about: dict[str, Any]  # encoder, pooling, engine, precision, ... in human words; {} if nobody wrote it
    shards: int
    rows: int
    bytes: int
    last_used: float | None  # seconds since 1970
    quarantined: int
    drafts: int


@dataclass(frozen=True)
class Checkup:
    """What `verify` found in one folder."""

    folder: Path
    shards: int  # sound
    rows: int  # in sound shards
    damaged: tuple[str, ...]  # now in quarantine
    saved: int  # sound rows of damaged shards, written again
    foreign: tuple[str, ...]  # not ours; left alone
    drafts: tuple[str, ...]  # left by processes that were killed, or being written now

    @property
    def sound(self) -> bool:
        return not self.damaged


@dataclass(frozen=True)
class Pruned:
    """What `prune` did to one folder."""

    folder: Path
    duplicates: int  # rows that stood twice
    replaced: int  # shards that were merged into others
    written: int  # shards that were written for them
    bytes_freed: int
    litter: tuple[str, ...]  # quarantined files, drafts and claims that were deleted


def describe(folder: Path, about: Mapping[str, Any]) -> None:
    """Say once what the folder holds (encoder, pooling, engine, precision, dim), for people.

    Raises UserError if the folder cannot be written.
    """
    if (Path(folder) / ABOUT).exists():
        return
    created = {"created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    with disk_errors(folder, "cannot write", "choose another --cache"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        publish(Path(folder) / ABOUT, json.dumps({**about, **created}, indent=1, ensure_ascii=False).encode())
        files_of(Path(folder)).announce(ABOUT)


def about(folder: Path) -> dict[str, Any]:
    """What `describe` wrote; empty if nobody did, or if it cannot be read."""
    try:
        record = json.loads((Path(folder) / ABOUT).read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def folders(cache: Path) -> list[Path]:
    """The stores in a cache: folders with a card or with shards of their own."""
    pull_folders(cache)
    try:
        below = sorted(entry for entry in Path(cache).iterdir() if entry.is_dir() and entry.name[0] != ".")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise refusal(cache, "cannot read", error, "choose another --cache") from error
    return [folder for folder in below if (folder / ABOUT).exists() or next(headers(folder), None)]


def headers(folder: Path) -> Iterator[Shard]:
    """The shards of a folder by their headers alone; what is damaged is left out, and left alone."""
    files = files_of(folder)
    for name in sorted(files.names()):
        with contextlib.suppress(DamagedError, FileNotFoundError, UserError):
            yield files.header(name)


def holdings(cache: Path) -> list[Holding]:
    """What the cache holds, last used first. Reads headers and cards only."""
    held = []
    for folder in folders(cache):
        shards = list(headers(folder))
        stamps = [path.stat().st_mtime for path in (folder / ABOUT, *(s.path for s in shards)) if path.exists()]
        held.append(
            Holding(
                folder=folder,
                about=about(folder),
                shards=len(shards),
                rows=sum(shard.rows for shard in shards),
                bytes=sum(shard.size for shard in shards),
                last_used=max(stamps, default=None),
                quarantined=len(_names(folder / QUARANTINE)),
                drafts=sum(name.startswith(DRAFT) for name in _names(folder)),
            )
        )
    held += [_derived_holding(folder) for folder in derived(cache)]
    return sorted(held, key=lambda holding: -(holding.last_used or 0.0))


def derived(cache: Path) -> list[Path]:
    """The folders of a cache that hold something else than vectors."""
    return [folder for name in DERIVED if (folder := Path(cache) / name).is_dir()]


def _derived_holding(folder: Path) -> Holding:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    drafts = sum(path.name.startswith(DRAFT) for path in paths)
    stats = [path.stat() for path in paths]
    return Holding(
        folder=folder,
        about=DERIVED[folder.name],
        shards=len(paths) - drafts,
        rows=0,
        bytes=sum(stat.st_size for stat in stats),
        last_used=max((stat.st_mtime for stat in stats), default=None),
        quarantined=0,
        drafts=drafts,
    )


def swept(folder: Path, litter: bool) -> Pruned:
    """What `prune` does to a folder without vectors: nothing stands twice; drafts older than a day are litter."""
    before = _derived_holding(folder).bytes
    homes = [folder, *(path for path in folder.rglob("*") if path.is_dir())] if litter else []
    gone = tuple(name for home in homes for name in sweep(home, lambda name: name.startswith(TEMPORARY)))
    return Pruned(folder, 0, 0, 0, before - _derived_holding(folder).bytes, gone)


def verify(folder: Path, progress: Progress = silent) -> Checkup:
    """Check every byte of every shard: the file against its name, the columns against the header, each row against
    its check. What is damaged is quarantined; its sound rows are written again. Shards behind a URL are read from there
    once more, whatever copy is here.

    Raises UserError if the folder cannot be read.
    """
    folder = Path(folder)
    before = set(_names(folder / QUARANTINE))
    store = Store(folder)
    shards, saved = store.present_shards, 0
    total = sum(shard.size for shard in shards)
    done = 0
    for shard in shards:
        positions = store.positions_of(shard)
        store.files.fetch([shard.path.name], again=True)
        rows = store.read(positions)
        if not (rows.present.all() and store.is_whole(shard)):
            try:
                saved += _write_again(store, positions[rows.present], rows.vectors[rows.present])
            except UserError as error:  # a cache that may only be read is checked all the same
                log.warning("%s", error)
        done += shard.size
        progress("verify", done, total)
    here = _names(folder)
    ours = {shard.path.name for shard in store.present_shards} | {*CARDS, *store.files.rooms}
    return Checkup(
        folder=folder,
        shards=len(store.present_shards),
        rows=store.rows,
        damaged=tuple(sorted((set(_names(folder / QUARANTINE)) - before) | store.refused)),
        saved=saved,
        foreign=tuple(name for name in here if name not in ours and not name.startswith(TEMPORARY)),
        drafts=tuple(name for name in here if name.startswith(DRAFT)),
    )


def prune(folder: Path, litter: bool = False, progress: Progress = silent) -> Pruned:
    """Merge small shards and drop rows that stand twice, safely beside writers, readers and other prunes.

    A shard is deleted only after each of its rows stands in a shard that this call has written. `litter`: also delete
    what lies in quarantine, and drafts and claims, if older than a day.
    Raises UserError if the folder cannot be written.
    """
    folder = Path(folder)
    store = Store(folder)
    before, written, replaced = store.bytes, 0, 0
    duplicates, group = _to_rewrite(store)
    index, waiting = Index(), []  # keys that this call has written; shards whose rows are gathered, not yet written
    positions: list[np.ndarray] = []
    vectors: list[np.ndarray] = []
    for done, shard in enumerate(group, 1):
        rows_of_shard = store.positions_of(shard)
        rows = store.read(rows_of_shard)
        rows_of_shard, vectors_of_shard = rows_of_shard[rows.present], rows.vectors[rows.present]
        keys = store.index.keys[rows_of_shard]
        new = index.find(keys) < 0  # not written before, by this call
        first = index.add(keys, store.index.tokens[rows_of_shard])
        new &= index.find(keys) == np.arange(first, first + len(rows_of_shard))  # nor twice in one shard
        positions.append(rows_of_shard[new])
        vectors.append(vectors_of_shard[new])
        waiting.append(shard)
        if sum(map(len, positions)) >= SHARD_ROWS or done == len(group):
            written += bool(_write_again(store, np.concatenate(positions), np.concatenate(vectors)))
            replaced += sum(store.remove(shard) for shard in waiting)
            positions, vectors, waiting = [], [], []
        progress("prune", done, len(group))
    swept: tuple[str, ...] = ()
    if litter:
        swept = sweep(folder, lambda name: name.startswith(TEMPORARY)) + sweep(folder / QUARANTINE, lambda _: True)
    return Pruned(folder, duplicates, replaced, written, before - store.bytes, swept)


def _to_rewrite(store: Store) -> tuple[int, list[Shard]]:
    """Rows that stand twice, and the shards to rewrite: those with such rows, and small ones if there are two."""
    shards = store.present_shards
    small = {shard.path.name for shard in shards if shard.rows < SHARD_ROWS // 2}
    wanted, duplicates = small if len(small) > 1 else set(), 0
    for shard in shards:
        positions = store.positions_of(shard)
        first = store.index.find(store.index.keys[positions])
        twice = first != positions
        if twice.any():
            duplicates += int(twice.sum())
            wanted = wanted | {shard.path.name} | {s.path.name for s in store.shards_of(first[twice])}
    return duplicates, [shard for shard in shards if shard.path.name in wanted]


def _write_again(store: Store, positions: np.ndarray, vectors: np.ndarray) -> int:
    """Publish rows at `positions` (n,), with their vectors (n, d), as a new shard; how many."""
    if len(positions):
        longest = max(shard.max_length for shard in store.shards_of(positions))
        cost = store.encode_seconds(positions)
        store.put(store.index.keys[positions], store.index.tokens[positions], vectors, cost, longest)
    return len(positions)


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise refusal(folder, "cannot read", error, "choose another --cache") from error
