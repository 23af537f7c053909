"""The newest snapshot of a data set on the Hub: asked for once, within 3 seconds; without an answer, the cached one."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from .. import UserError, hub, log
from ..words import error_line, shorten

CARD = "README.md"
INFOS = "dataset_infos.json"  # what older data sets have instead of a card that speaks of columns
BESIDE = (CARD, INFOS, "labels.json")


def snapshot(repo: str) -> tuple[Path, list[str] | None]:
    """The folder of the data set's newest snapshot, and the files that the Hub lists in it (None: no answer)."""
    return _snapshot_in(repo, hub.cache_folder(), hub.offline(), hub.endpoint())


@lru_cache(maxsize=64)  # a name means one commit as long as the process lives
def _snapshot_in(repo: str, cache: Path, offline: bool, server: str) -> tuple[Path, list[str] | None]:
    if offline:
        return _cached(repo, "HF_HUB_OFFLINE is set"), None
    importlib.import_module("huggingface_hub.errors")  # takes long enough on a slow disk to eat up the time limit
    try:
        answer = hub.within(hub.TIMEOUT + 0.5, lambda: _ask(repo))
    except hub.UnreachableError as error:
        folder = _cached(repo, str(error))
        log.info("%s: the Hub cannot be reached (%s), the cached copy %s is read", repo, error, folder.name[:8])
        return folder, None
    hub.remember(_home(repo) / "refs" / "main", answer.commit)
    return download(repo, answer.commit, [name for name in answer.files if name in BESIDE]), list(answer.files)


def _ask(repo: str) -> hub.Answer:
    """Revision and file names of a data set, in one request.

    Raises UnreachableError if there is no answer, UserError if the answer is that there is no such data set.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    try:
        info = HfApi(endpoint=hub.endpoint()).dataset_info(repo, timeout=hub.TIMEOUT)
    except GatedRepoError as error:
        raise UserError(f"{repo}: its owner asks for an agreement; sign it on the Hub, then: hf auth login") from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise UserError(
            f"{repo}: no such file, and the Hub knows no such data set (or it is private: set HF_TOKEN); "
            "check the name, or try the bundled sms-spam"
        ) from error
    except Exception as error:  # every transport has different errors
        raise hub.UnreachableError(type(error).__name__) from error
    return hub.Answer(str(info.sha), tuple(file.rfilename for file in info.siblings or ()))


def _home(repo: str) -> Path:
    return hub.cache_folder() / f"datasets--{repo.replace('/', '--')}"


def _cached(repo: str, why: str) -> Path:
    """The snapshot that the cache's `refs/main` names, else its newest one. Raises UserError if there is none."""
    snapshots, main = _home(repo) / "snapshots", _home(repo) / "refs" / "main"
    if main.is_file() and (named := snapshots / main.read_text("utf-8").strip()).is_dir():
        return named
    folders = [folder for folder in snapshots.iterdir() if folder.is_dir()] if snapshots.is_dir() else []
    if not folders:
        raise UserError(
            f"{repo}: no such file, not in {hub.cache_folder()}, and the Hub cannot be reached ({why}); "
            "pass a local folder with train.csv and test.csv, or the bundled sms-spam"
        )
    return max(folders, key=lambda folder: folder.stat().st_mtime)


def download(repo: str, commit: str, names: Sequence[str]) -> Path:
    """The snapshot folder, with files `names` in it. Raises UserError if the connection breaks."""
    home = _home(repo) / "snapshots" / commit
    if all((home / name).exists() for name in names):
        return home
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
    log.info("%s: fetching %s", repo, f"{len(names)} files" if len(names) > 1 else names[0])
    patterns = [re.sub(r"([*?\[])", r"[\1]", name) for name in names]  # each matches its name alone
    try:
        place = snapshot_download(
            repo, repo_type="dataset", revision=commit, allow_patterns=patterns,
            cache_dir=hub.cache_folder(), endpoint=hub.endpoint(),
        )  # fmt: skip
    except Exception as error:  # the same: network, disk and server each raise their own
        why = reason_of(error)
        raise UserError(f"{repo}: the download broke off ({why}); run it again, what came is kept") from error
    return Path(place)


def reason_of(error: Exception, hidden: str = "") -> str:
    """The first line of what an error says, without the folder that is `hidden` from the user."""
    return shorten(error_line(error, 2000).replace(hidden, "").strip() or type(error).__name__, 160)
