"""Extractions, runs, exports and a check-up as tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..metrics import METRICS
from ..verdict.results import names_of, reading
from ..words import format_duration, listed, roughly, spaced
from .parts import Text, facts, number, table

if TYPE_CHECKING:
    from ..doctor import Checkup
    from ..export import Handed
    from ..extract import Extracted
    from ..extract.parquet import Exported
    from ..extract.recompute import Recomputed
    from ..finetune.seeds import Seeds
    from ..run import Run


def extraction_tables(extraction: Extracted) -> Iterator[Any]:
    """What was encoded, how fast, and where it lies."""
    n = extraction.to_json()
    yield facts(
        f"{extraction.encoder}: {n['rows']:,} rows",
        [
            ("vectors", f"{n['dim']} wide, pooling {n['pooling']}"),
            ("encoded", f"{n['encoded']:,} of {n['unique']:,} different texts; {n['from_cache']:,} from cache"),
            ("speed", f"{n['texts_per_second']:,.0f} texts/s, {n['tokens_per_second']:,.0f} tokens/s"),
            ("time", f"{n['setup_seconds']:.1f} s to set up, {n['seconds']:.1f} s to extract"),
            ("how", f"{n['engine']}, {n['precision']}, {n['device']}"),
            ("cut", f"{n['truncated_rows']:,} texts longer than {n['max_length']} tokens"),
            ("padding", f"{n['padding_share']:.1%}"),
            ("memory", f"{n['peak_rss_mb']:,.0f} MB at most"),
            ("kept in", listed(n["folders"])),
        ],
    )


def run_tables(runs: Sequence[Run]) -> Iterator[Any]:
    """Scores of every run on validation and test, then folders and notes."""
    brief = [name for name, metric in METRICS.items() if metric.brief]
    measures = list(map(spaced, brief))
    names = names_of(runs)
    rows = [
        [name, run.predictions[role].split, *(number(run.metrics[role].get(name)) for name in brief)]
        for name, run in zip(names, runs, strict=True)
        for role in ("validation", "test")
        if role in run.metrics
    ]
    yield table("runs", ["run", "split", *measures], rows, right=measures)
    for name, run in zip(names, runs, strict=True):
        read = ", ".join(filter(None, reading(run)))
        yield Text(f"{name}: {run.folder}" + (f" (reads {read})" if read else ""), style="dim")
        for note in run.notes:
            yield Text(f"  {note}", style="dim")


def seeds_line(seeds: Seeds) -> Text:
    """`fine-tune, 3 seeds: test accuracy 0.924 ± 0.004, macro f1 …; best on validation: seed 43`."""
    role = "test" if "test" in seeds.mean else "validation"
    scores = listed(
        f"{spaced(metric)} {seeds.mean[role][metric]:.3f} ± {seeds.spread[role][metric]:.3f}"
        for metric in ("accuracy", "macro_f1")
    )
    return Text(
        f"{seeds.best.kind}, {len(seeds.runs)} seeds: {role} {scores} (mean ± standard deviation); "
        f"best on validation: seed {seeds.best.seed}"
    )


def recomputed_lines(check: Recomputed) -> Iterator[Text]:
    """Whether cached vectors are what the encoder gives."""
    yield Text(check.verdict)


def parquet_lines(file: Exported) -> Iterator[Text]:
    """A Parquet file of vectors."""
    yield Text(f"{file.rows:,} rows of {listed(file.columns)}: {file.file} ({file.bytes / 1e6:,.1f} MB)")


def checkup_tables(checkup: Checkup) -> Iterator[Any]:
    """What this machine can do, and what a job will cost."""
    yield facts("this machine", checkup.machine.items())
    if checkup.speeds:
        yield Text()
        rows = [
            (
                *(row.engine, row.precision, row.device),
                *(number(row.tokens_per_second, ",.0f"), format_duration(row.setup_seconds)),
                "; ".join(filter(None, ("what auto takes" if row.chosen else "", row.note))),
            )
            for row in checkup.speeds
        ]
        columns = ("engine", "precision", "device", "tokens/s", "set-up", "")
        yield table(f"{checkup.encoder} runs here", columns, rows, right=("tokens/s", "set-up"))
    if job := checkup.job:
        yield Text()
        yield facts(
            f"{job.source}: {job.rows:,} rows",
            [
                ("to extract", f"{roughly(job.seconds)}, for {job.tokens:,.0f} tokens"),
                ("there already", f"{job.cached_share:.0%}"),
                ("cut", f"{job.truncated_share:.1%} of the texts are longer than the limit"),
                ("disk", f"{job.disk_mb:,.1f} MB of vectors"),
            ],
        )
    for line in checkup.trouble:
        yield Text(f"! {line}")


def export_lines(export: Handed) -> Iterator[Text]:
    """A run in another form, and how it was checked."""
    yield Text(f"{export.folder}: {listed(export.files)} ({sum(export.files.values()) / 1e6:,.1f} MB)")
    checked = export.checked
    yield Text(
        f"reloaded and compared with the run on {checked.texts:,} texts of {checked.source}: largest difference of "
        f"a probability {checked.difference:.1e}, the same label for {checked.same_labels:,}"
    )
    for note in export.notes:
        yield Text(f"  {note}", style="dim")
    if export.pushed:
        yield Text(f"uploaded: {export.pushed}")
