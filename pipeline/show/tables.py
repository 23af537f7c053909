"""Extractions, runs, exports and a check-up as tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from ..metrics import METRICS
from ..verdict.results import reading
from ..words import format_duration, roughly
from .parts import Text, facts, number, titled

if TYPE_CHECKING:
    from ..audit import Audit
    from ..doctor import Checkup
    from ..explore import Profile
    from ..export import Handed
    from ..extract import Extracted
    from ..extract.parquet import Exported
    from ..extract.recompute import Recomputed
    from ..finetune.seeds import Seeds
    from ..run import Run


def extraction_tables(extractions: Sequence[Extracted]) -> Iterator[Any]:
    """What was encoded, how fast, and where it lies."""
    for extraction in extractions:
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
                ("kept in", ", ".join(map(str, n["folders"]))),
            ],
        )


def run_tables(runs: Sequence[Run]) -> Iterator[Any]:
    """Scores of every run on validation and test, then folders and notes."""
    brief = [name for name, metric in METRICS.items() if metric.brief]
    measures = [name.replace("_", " ") for name in brief]
    table = titled("runs", ["run", "split", *measures], right=measures)
    for run in runs:
        for role in ("validation", "test"):
            if role in run.metrics:
                cells = [number(run.metrics[role].get(name)) for name in brief]
                table.add_row(Text(run.kind), Text(run.predictions[role].split), *cells)
    yield table
    for run in runs:
        read = ", ".join(filter(None, reading(run)))
        yield Text(f"{run.kind}: {run.folder}" + (f" (reads {read})" if read else ""), style="dim")
        for note in run.notes:
            yield Text(f"  {note}", style="dim")


def seeds_line(seeds: Seeds) -> Text:
    """`fine-tune, 3 seeds: test accuracy 0.924 ± 0.004, macro f1 …; best on validation: seed 43`."""
    role = "test" if "test" in seeds.mean else "validation"
    scores = ", ".join(
        f"{metric.replace('_', ' ')} {seeds.mean[role][metric]:.3f} ± {seeds.spread[role][metric]:.3f}"
        for metric in ("accuracy", "macro_f1")
    )
    return Text(
        f"{seeds.best.kind}, {len(seeds.runs)} seeds: {role} {scores} (mean ± standard deviation); "
        f"best on validation: seed {seeds.best.seed}"
    )


def profile_tables(profiles: Sequence[Profile]) -> Iterator[Any]:
    """What `explore` says."""
    from ..explore.tables import tables

    for profile in profiles:
        yield from tables(profile.to_json())


def audit_tables(audits: Sequence[Audit]) -> Iterator[Any]:
    """What `audit` says."""
    from ..audit.tables import tables

    for audit in audits:
        yield from tables(audit)


def recomputed_lines(checks: Sequence[Recomputed]) -> Iterator[Text]:
    """Whether cached vectors are what the encoder gives."""
    for check in checks:
        yield Text(check.verdict)


def parquet_lines(files: Sequence[Exported]) -> Iterator[Text]:
    """A Parquet file of vectors."""
    for file in files:
        yield Text(f"{file.rows:,} rows of {', '.join(file.columns)}: {file.file} ({file.bytes / 1e6:,.1f} MB)")


def checkup_tables(checkups: Sequence[Checkup]) -> Iterator[Any]:
    """What this machine can do, and what a job will cost."""
    for checkup in checkups:
        yield facts("this machine", list(checkup.machine.items()))
        if checkup.speeds:
            yield Text()
            yield _speeds(checkup)
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


def _speeds(checkup: Checkup) -> Table:
    columns = ("engine", "precision", "device", "tokens/s", "set-up")
    table = titled(f"{checkup.encoder} runs here", columns, right=("tokens/s", "set-up"))
    table.add_column(overflow="fold")
    for row in checkup.speeds:
        speed = number(row.tokens_per_second, ",.0f")
        note = Text("; ".join(filter(None, ("what auto takes" if row.chosen else "", row.note))))
        table.add_row(row.engine, row.precision, row.device, speed, format_duration(row.setup_seconds), note)
    return table


def export_lines(exports: Sequence[Handed]) -> Iterator[Text]:
    """A run in another form, and how it was checked."""
    for export in exports:
        yield Text(f"{export.folder}: {', '.join(export.files)} ({sum(export.files.values()) / 1e6:,.1f} MB)")
        checked = export.checked
        yield Text(
            f"reloaded and compared with the run on {checked.texts:,} texts of {checked.source}: largest difference of "
            f"a probability {checked.difference:.1e}, the same label for {checked.same_labels:,}"
        )
        for note in export.notes:
            yield Text(f"  {note}", style="dim")
        if export.pushed:
            yield Text(f"uploaded: {export.pushed}")
