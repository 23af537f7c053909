"""A data set's name on the Hugging Face Hub → its rows: asked once, for 3 seconds, then local only.

Which snapshot, and where it lies, `hub_snapshot` says; what is in it, `datasets` does: configurations, splits, files,
types, class names, rows. It sees nothing but files of the snapshot. What the Hub's cache already holds is used when the
Hub does not answer. No code of a data set is ever run.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from .. import UserError, listed
from . import files, tables
from .hub_snapshot import CARD, INFOS, download, reason_of, snapshot

FORMATS = (".parquet", ".arrow", ".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".txt")  # of those that `datasets` reads
ELSEWHERE = re.compile(r"://|::|^[/\\~]|(^|[/\\])\.\.([/\\]|$)")  # a path out of the snapshot


@dataclass(frozen=True)
class HubSplit:
    """All rows of one split, streamed by `datasets`: never the whole at once, and no copy on disk."""

    home: str  # the data set, as messages call it
    name: str
    rows: Any  # datasets.IterableDataset
    features: Mapping[str, Any]  # column → its type, where something says it
    typed: bool  # whether a column has one type throughout; in a CSV file each piece may have its own

    def __str__(self) -> str:
        return f"{self.home} {self.name}"

    @cached_property
    def _columns(self) -> list[str]:
        with self._guarded():
            names = self.rows.column_names or list(next(iter(self.rows), {}))
        if not names:
            raise UserError(f"{self}: no rows; pass another data set or configuration")
        return names

    def column_names(self) -> list[str]:
        """Its columns, in their order. Raises UserError if it has no rows to tell them by."""
        return self._columns

    def plain_columns(self) -> set[str] | None:
        """None: any column may group rows, by its values."""
        return None

    def class_names(self, column: str) -> tuple[str, ...] | None:
        """The names of the ids 0, 1, ..., if `column` is a ClassLabel. Raises UserError if two are the same."""
        from datasets import ClassLabel

        feature = self.features.get(column)
        return tables.unique_names(tuple(feature.names), column, str(self)) if isinstance(feature, ClassLabel) else None

    def blocks(self, wanted: Sequence[str], size: int) -> Iterator[files.Block]:
        """The `wanted` columns, `size` rows at a time. Raises UserError for what `datasets` cannot read."""
        with self._guarded():
            with _without_torch():
                rows = self.rows.select_columns(list(wanted))
                if self.typed:  # as tables, and parquet by row groups: Arrow reads ahead, to the end of a file
                    rows = rows.with_format("arrow").reshard()
            for batch in rows.iter(batch_size=size):  # a table (n, columns), or a list (n,) for each column
                yield files.Block({name: tables.values_of(batch[name]) for name in wanted}, None)

    def count_rows(self) -> int:
        """Rows, without keeping any."""
        first = self.column_names()[:1]
        return sum(len(block.columns[first[0]]) for block in self.blocks(first, 65536))

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except UserError:
            raise
        except Exception as error:  # pandas, Arrow and `datasets` each raise their own
            repo = self.home.partition(":")[0]
            raise UserError(f"{self}: cannot be read ({reason_of(error)}); {_parquet_branch(repo)}") from error


def fetch(source: str) -> tuple[str, dict[str, HubSplit], Path]:
    """Name, splits and snapshot folder of `owner/name` or `owner/name:config`.

    Raises UserError if there is no such data set or configuration, if it cannot be reached and is not cached, or if it
    holds nothing that can be read here.
    """
    repo, _, config = source.partition(":")
    folder, listing = snapshot(repo)
    names = listing if listing is not None else _inside(folder)
    builder, splits = _plan(source, folder, names, listing is None)
    if listing is not None:
        folder = download(repo, folder.name, [name for names in splits.values() for name in names])
    for names in splits.values():
        files.check_shards([Path(name) for name in names], Path(source))
    builder.config.data_files = {split: [str(folder / name) for name in names] for split, names in splits.items()}
    short = repo.rpartition("/")[2]
    return f"{short}-{config}" if config else short, _streams(source, builder), folder


def _streams(source: str, builder: Any) -> dict[str, HubSplit]:
    declared, typed = builder.info.features, builder.name != "csv"
    if not typed:  # cells stay what they are, as in a local file: `NA` is a text, and no column has to fit a type
        builder.info.features, builder.config.keep_default_na = None, False
    try:
        with _without_torch():
            streams = builder.as_streaming_dataset()
    except Exception as error:  # the first rows are looked at here
        raise _unreadable(source, reason_of(error), False) from error
    return {
        str(name): HubSplit(source, str(name), rows, declared or rows.features or {}, typed)
        for name, rows in streams.items()
    }


@contextmanager
def _without_torch() -> Iterator[None]:
    """Keep `datasets` from importing torch, seconds of work, only to make a stream a subclass of torch's."""
    from datasets import config

    known = config.TORCH_AVAILABLE
    config.TORCH_AVAILABLE = False
    try:
        yield
    finally:
        config.TORCH_AVAILABLE = known


# ── which configuration, which files ────────────────────────────────────────────────────────────────────────────────


def _plan(source: str, folder: Path, names: Sequence[str], cached: bool) -> tuple[Any, dict[str, list[str]]]:
    """`datasets`' builder of the configuration that `source` means, and the names of the files of each split.

    The builder is shown an outline: empty files under their names, and a card that speaks of one configuration. So it
    says which files are wanted before any is fetched, and what is cached of one configuration needs no other.
    """
    repo, _, configuration = source.partition(":")
    if (script := f"{repo.rpartition('/')[2]}.py") in names:
        raise UserError(f"{source}: made by a script ({script}), and none is ever run; {_parquet_branch(repo)}")
    rows = [name for name in names if _holds_rows(name)]
    if not rows:
        raise _unreadable(source, f"no files in a format read here: {listed(FORMATS)}", cached)
    datasets = _quiet()
    with tempfile.TemporaryDirectory() as place:
        outline = Path(place).resolve() / "outline"
        try:
            card, config, rows = _choose(source, _card(folder), rows, configuration)
            _draw(outline, rows, card, folder / INFOS)
            builder = datasets.load_dataset_builder(str(outline), name=config, cache_dir=place)
        except UserError:
            raise
        except Exception as error:  # of its card, its files, their names
            raise _unreadable(source, reason_of(error, f"{outline}{os.sep}"), cached) from error
        return builder, {
            str(split): [Path(path).relative_to(outline).as_posix() for path in paths]
            for split, paths in builder.config.data_files.items()
        }


def _quiet() -> Any:
    """`datasets`, silent: what it would log as an error comes as one line of ours, bars are for terminals."""
    import datasets

    if "DATASETS_VERBOSITY" not in os.environ:
        datasets.logging.set_verbosity(logging.CRITICAL)
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    return datasets


def _card(folder: Path) -> dict[str, Any]:
    """The head of the data set's card, {} without one."""
    from huggingface_hub import metadata_load

    return (metadata_load(folder / CARD) or {}) if (folder / CARD).is_file() else {}


def _choose(
    source: str, card: dict[str, Any], rows: list[str], configuration: str
) -> tuple[dict[str, Any], str | None, list[str]]:
    """The card with one configuration left, the name of that, and the files among which its rows are.

    Without configurations, a name that was requested is that of a folder. Raises UserError, listing them, if it is not
    clear which of several is meant, and if its files do not lie in the data set.
    """
    repo = source.partition(":")[0]
    configs = {str(item["config_name"]): item for item in card.get("configs") or []}
    if not configs:
        inside = [name for name in rows if not configuration or configuration in name.split("/")[:-1]]
        if not inside:
            raise UserError(f"{source}: no configuration '{configuration}', and no folder of that name; pass {repo}")
        return card, None, inside
    standard = [n for n, item in configs.items() if len(configs) == 1 or n == "default" or item.get("default")]
    chosen = configuration or next(iter(standard), "")
    if chosen not in configs:
        problem = f"no configuration '{configuration}'" if configuration else "it has several configurations"
        raise UserError(f"{source}: {problem}; pass {repo}:NAME, one of {listed(configs)}")
    item = configs[chosen]
    for path in _strings([item.get("data_files"), item.get("data_dir")]):
        if ELSEWHERE.search(path):
            raise UserError(f"{source}: its rows lie elsewhere ({path}); fetch them from there, and pass their folder")
    return card | {"configs": [item]}, chosen, rows


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)


def _draw(outline: Path, names: Sequence[str], card: dict[str, Any], infos: Path) -> None:
    """Empty files `names` in folder `outline`, with the `card`."""
    from huggingface_hub import metadata_save

    for name in names:
        (outline / name).parent.mkdir(parents=True, exist_ok=True)
        (outline / name).touch()
    outline.mkdir(exist_ok=True)
    if card:
        metadata_save(outline / CARD, card)
    if infos.is_file():
        shutil.copyfile(infos, outline / INFOS)


def _inside(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _holds_rows(name: str) -> bool:
    """Whether a file of a data set can be one of rows: of a known format, and not one that describes others."""
    path = Path(name)
    known = any(suffix.lower() in FORMATS for suffix in path.suffixes)
    return known and path.name not in files.NOT_ROWS and not ELSEWHERE.search(name)


def _unreadable(source: str, why: str, cached: bool) -> UserError:
    repo = source.partition(":")[0]
    if cached:
        return UserError(f"{source}: the cached copy cannot be read ({why}); run again where the Hub can be reached")
    return UserError(f"{source}: cannot be read ({why}); {_parquet_branch(repo)}")


def _parquet_branch(repo: str) -> str:
    """The next step for whatever cannot be read: the Hub keeps most data sets as Parquet, too."""
    return (
        f"fetch its Parquet branch (hf download {repo} --repo-type dataset --revision refs/convert/parquet "
        "--local-dir FOLDER), name the files train.parquet and test.parquet, and pass their folder"
    )
