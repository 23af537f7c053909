"""A data set's name on the Hugging Face Hub → files on this disk: asked once, for 3 seconds, then local only.

What the Hub's cache already holds is used when the Hub does not answer. No code of a data set is ever run.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from pipeline import UserError, hub, listed, log
from pipeline.data import files
from pipeline.data.naming import role_of

CARD = "README.md"

Names = dict[str, dict[int, str]]  # label column → class id → name


def fetch(source: str) -> tuple[str, dict[str, tuple[Path, ...]], Names, Path]:
    """Name, files of each split, class names by column and snapshot folder of `owner/name` or `owner/name:config`.

    Raises UserError if there is no such data set, if it cannot be reached and is not cached, or if it holds no files
    that can be read here.
    """
    repo, _, config = source.partition(":")
    folder, listing = _snapshot(repo)
    card = _card(folder)
    chosen, patterns = _config(source, card, config)
    if listing is not None:
        folder = _download(repo, folder.name, _needed(listing, patterns, config))
    splits = _files_of(source, folder, patterns, config)
    short = repo.rpartition("/")[2]
    return f"{short}-{config}" if config else short, splits, _features(card, chosen), folder


# ── one request, or the cache ───────────────────────────────────────────────────────────────────────────────────────


def _snapshot(repo: str) -> tuple[Path, list[str] | None]:
    """The folder of the data set's newest snapshot, and the files that the Hub lists in it (None: no answer)."""
    return _snapshot_in(repo, hub.cache_folder(), hub.offline(), hub.endpoint())


@lru_cache(maxsize=64)  # a name means one commit as long as the process lives
def _snapshot_in(repo: str, cache: Path, offline: bool, server: str) -> tuple[Path, list[str] | None]:
    if offline:
        return _kept(repo, "HF_HUB_OFFLINE is set"), None
    importlib.import_module("huggingface_hub.errors")  # takes long enough on a slow disk to eat up the time limit
    try:
        answer = hub.within(hub.TIMEOUT + 0.5, lambda: _ask(repo))
    except hub.UnreachableError as error:
        folder = _kept(repo, str(error))
        log.info("%s: the Hub cannot be reached (%s), the cached copy %s is read", repo, error, folder.name[:8])
        return folder, None
    hub.remember(_home(repo) / "refs" / "main", answer.commit)
    return _download(repo, answer.commit, [name for name in answer.files if name == CARD]), list(answer.files)


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
    except Exception as error:  # every transport has errors of its own
        raise hub.UnreachableError(type(error).__name__) from error
    return hub.Answer(str(info.sha), tuple(file.rfilename for file in info.siblings or ()))


def _home(repo: str) -> Path:
    return hub.cache_folder() / f"datasets--{repo.replace('/', '--')}"


def _kept(repo: str, why: str) -> Path:
    """The snapshot that the cache's `refs/main` names, else its newest one. Raises UserError if there is none."""
    snapshots, main = _home(repo) / "snapshots", _home(repo) / "refs" / "main"
    if main.is_file() and (named := snapshots / main.read_text("utf-8").strip()).is_dir():
        return named
    found = [folder for folder in snapshots.iterdir() if folder.is_dir()] if snapshots.is_dir() else []
    if not found:
        raise UserError(
            f"{repo}: no such file, not in {hub.cache_folder()}, and the Hub cannot be reached ({why}); "
            "pass a local folder with train.csv and test.csv, or the bundled sms-spam"
        )
    return max(found, key=lambda folder: folder.stat().st_mtime)


def _download(repo: str, commit: str, names: Sequence[str]) -> Path:
    """The snapshot folder, with files `names` in it. Raises UserError if the connection breaks."""
    home = _home(repo) / "snapshots" / commit
    if all((home / name).exists() for name in names):
        return home
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
    log.info("%s: fetching %s", repo, f"{len(names)} files" if len(names) > 1 else names[0])
    patterns = [re.sub(r"([*?\[])", r"[\1]", name) for name in names]  # each matches its own name alone
    try:
        place = snapshot_download(
            repo, repo_type="dataset", revision=commit, allow_patterns=patterns,
            cache_dir=hub.cache_folder(), endpoint=hub.endpoint(),
        )  # fmt: skip
    except Exception as error:  # the same: network, disk and server each raise their own
        reason = str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
        raise UserError(f"{repo}: the download broke off ({reason}); run it again, what came is kept") from error
    return Path(place)


# ── the data set's card ─────────────────────────────────────────────────────────────────────────────────────────────


def _card(folder: Path) -> dict[str, Any]:
    """The YAML head of the card, {} without one."""
    import yaml

    path = folder / CARD
    text = path.read_text("utf-8", errors="replace") if path.is_file() else ""
    match = re.match(r"\s*---\r?\n(.*?)\r?\n---", text, re.S)
    try:
        head = yaml.safe_load(match[1]) if match else {}
    except yaml.YAMLError:
        head = {}
    return head if isinstance(head, dict) else {}


def _config(source: str, card: dict[str, Any], asked: str) -> tuple[str, dict[str, list[str]]]:
    """The chosen configuration and the file patterns of its splits ({}: the card has none).

    Raises UserError, listing them, if it is not clear which of several is meant.
    """
    configs = {
        str(item["config_name"]): item
        for item in card.get("configs") or []
        if isinstance(item, dict) and "config_name" in item and "data_files" in item
    }
    if not configs:
        return asked or "default", {}
    standard = [name for name, item in configs.items() if item.get("default") or name == "default"]
    chosen = asked or (standard or list(configs))[0]
    if chosen not in configs or (not asked and not standard and len(configs) > 1):
        problem = f"no configuration '{asked}'" if asked else "it has several configurations"
        raise UserError(f"{source}: {problem}; pass {source.partition(':')[0]}:NAME, one of {listed(configs)}")
    return chosen, _patterns(configs[chosen]["data_files"])


def _patterns(data_files: Any) -> dict[str, list[str]]:
    """Split → patterns, from any of the forms a card may write."""

    def as_list(paths: Any) -> list[str]:
        return [paths] if isinstance(paths, str) else [str(path) for path in paths]

    if isinstance(data_files, dict):
        return {str(split): as_list(paths) for split, paths in data_files.items()}
    if isinstance(data_files, list) and all(isinstance(item, dict) for item in data_files):
        return {str(item["split"]): as_list(item["path"]) for item in data_files}
    return {"train": as_list(data_files)}


def _features(card: dict[str, Any], config: str) -> Names:
    """Names of the classes of every ClassLabel column that the card describes."""
    infos = card.get("dataset_info") or []
    infos = infos if isinstance(infos, list) else [infos]
    found: Names = {}
    for info in infos:
        if not isinstance(info, dict) or info.get("config_name", config) != config:
            continue
        for feature in info.get("features") or []:
            dtype = feature.get("dtype") if isinstance(feature, dict) else None
            names = (dtype.get("class_label") or {}).get("names") if isinstance(dtype, dict) else None
            if isinstance(names, dict):
                found[str(feature["name"])] = {int(i): str(name) for i, name in sorted(names.items(), key=_number)}
            elif isinstance(names, list):
                found[str(feature["name"])] = dict(enumerate(map(str, names)))
    return found


def _number(item: tuple[Any, Any]) -> int:
    return int(item[0])


# ── which files ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _matches(name: str, pattern: str) -> bool:
    """Whether a file of the data set matches a pattern of its card; `*` stays inside a folder, `**` does not."""
    parts = re.split(r"(\*\*/?|\*|\?|\[[^]]*\])", pattern.removeprefix("./"))
    table = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    regex = "".join(table.get(p, p if re.fullmatch(r"\[[^]]*\]", p) else re.escape(p)) for p in parts)
    return re.fullmatch(regex, name) is not None


def _needed(listing: Sequence[str], patterns: dict[str, list[str]], config: str) -> list[str]:
    """The files to fetch: those of the chosen configuration, the card, the class names."""
    flat = [pattern for paths in patterns.values() for pattern in paths]
    if flat:
        rows = [name for name in listing if any(_matches(name, pattern) for pattern in flat)]
    else:
        rows = [
            name for name in listing if files.holds_rows(Path(name)) and (not config or config in name.split("/")[:-1])
        ]
    return [*rows, *(name for name in listing if name in (CARD, "labels.json"))]


def _files_of(source: str, folder: Path, patterns: dict[str, list[str]], config: str) -> dict[str, tuple[Path, ...]]:
    there = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    if patterns:
        splits = {s: [n for n in there if any(_matches(n, p) for p in paths)] for s, paths in patterns.items()}
        if lacking := [split for split, names in splits.items() if not names]:
            raise UserError(
                f"{source}: the cached copy lacks split '{lacking[0]}'; run again where the Hub can be reached"
            )
    else:
        splits = _by_convention([n for n in _needed(there, {}, config) if n not in (CARD, "labels.json")])
    made = {split: tuple(folder / name for name in names) for split, names in splits.items()}
    if not made:
        raise UserError(
            f"{source}: no files in a format read here ({listed(files.FORMATS)}); fetch its Parquet branch "
            f"(hf download {source.partition(':')[0]} --repo-type dataset --revision refs/convert/parquet) "
            "and pass the folder"
        )
    for paths in made.values():
        files.check_shards(paths, folder)
        for path in paths:
            files.format_of(path)
    return made


def _by_convention(names: Sequence[str]) -> dict[str, list[str]]:
    """Split → files of a data set without configurations: by the last word in the path that names a split."""
    splits: dict[str, list[str]] = {}
    for name in names:
        path = Path(name)
        words = [match[1] if (match := files.SHARD.match(files.stem(path))) else files.stem(path), *path.parts[-2::-1]]
        split = next((word for word in words if role_of(word)), "train")
        splits.setdefault(split, []).append(name)
    return splits
