"""What `datasets`' save_to_disk writes → the Arrow files of each split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .. import UserError
from ..untrusted import check, read_json

AGAIN = "save the data set again"
STATE = {"_data_files": [{"filename": str}], "_indices_files?": (None, list), "_split?": (None, str)}


def splits_of(folder: Path) -> dict[str, tuple[Path, ...]]:
    """Split name → its files, in order; {} where save_to_disk has not written `folder`.

    Raises UserError for what it would not have written.
    """
    if (folder / "dataset_dict.json").exists():
        names = _read(folder / "dataset_dict.json", {"splits": [str]})["splits"]
        return {name: _files(folder / _plain(name, folder))[1] for name in names}
    if (folder / "state.json").exists():
        split, paths = _files(folder)
        return {split or folder.resolve().name: paths}
    return {}


def _files(folder: Path) -> tuple[str | None, tuple[Path, ...]]:
    state = _read(folder / "state.json", STATE)
    if state.get("_indices_files"):
        raise UserError(f"{folder}: rows in another order than its files have; call flatten_indices() and {AGAIN}")
    return state.get("_split"), tuple(folder / _plain(entry["filename"], folder) for entry in state["_data_files"])


def _plain(name: str, folder: Path) -> str:
    if name in ("", ".", "..") or "/" in name or "\\" in name or "\0" in name:
        raise UserError(f"{folder}: its description names files elsewhere ({name[:40]!r}); {AGAIN}")
    return name


def _read(path: Path, shape: Any) -> Any:
    value = read_json(path, AGAIN)
    try:
        check(value, shape, path.name)
    except ValueError as error:
        raise UserError(f"{path}: not as save_to_disk writes it ({error}); {AGAIN}") from error
    return value
