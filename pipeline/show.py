"""What a person sees: results as tables on standard output, progress on standard error.

A result is shown by the row of `SHOWN` that is named after its type; `--json` prints its `to_json()` instead.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text as RichText

import pipeline
from pipeline.metrics import METRICS, with_usual
from pipeline.words import format_duration, printable, roughly

if TYPE_CHECKING:
    from pipeline.finetune.seeds import Seeds

WIDE = 2000  # columns, where no terminal sets a limit
LINE_SECONDS = 15.0  # how often progress speaks where nobody watches a bar


class Text(RichText):
    """What data and other people's runs may have put in is shown, not obeyed."""

    def __init__(self, text: object = "", *more: Any, **options: Any) -> None:
        super().__init__(printable(text), *more, **options)


def shown(text: object) -> str:
    """The same where rich reads markup."""
    return escape(printable(text))


class Output(Console):
    """Standard output: as wide as the terminal; where there is none, nothing is cut or folded."""

    def __init__(self) -> None:
        super().__init__(highlight=False)
        if not self.is_terminal:
            self.width = WIDE

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def result(value: Any, as_json: bool) -> None:
    """Print one result."""
    results([value], as_json)


def results(values: Sequence[Any], as_json: bool, seeds: Sequence[Seeds] = ()) -> None:
    """Print results of one kind; as JSON the first one's object, with all of them under `runs` if there are several.

    `seeds`: what several seeds of one fit have in common.
    """
    if as_json:
        objects = [value.to_json() for value in values]
        several = {"runs": objects} if len(objects) > 1 else {}
        several |= {"seeds": [found.to_json() for found in seeds]} if seeds else {}
        print(json.dumps(objects[0] | several, ensure_ascii=False, indent=2))
        return
    console = Output()
    for part in (*SHOWN[type(values[0]).__name__](values), *map(_seeds, seeds)):
        console.print(part)


def lines(values: Iterable[Any]) -> None:
    """Print one JSON object a line, each as soon as it is there."""
    for value in values:
        said = json.dumps(value.to_json(), ensure_ascii=sys.stdout.isatty())  # a terminal would obey some signs
        print(said.encode("utf-8", "replace").decode("utf-8"), flush=True)


def listing(values: Sequence[Any], as_json: bool) -> None:
    """Print dataclasses of one kind as a table, a column a field, or as one JSON object."""
    if as_json:
        found = {"folders": [asdict(value) for value in values]}
        print(json.dumps(found, ensure_ascii=False, indent=2, default=str))
        return
    table = Table(box=None, pad_edge=False)
    names = [field.name for field in fields(values[0])] if values else []
    for name in names:
        table.add_column(name.replace("_", " "), overflow="fold")
    for value in values:
        table.add_row(*(Text(_cell(name, getattr(value, name))) for name in names))
    Output().print(table if values else "nothing there yet")


def _cell(name: str, value: Any) -> str:
    """A field as a person reads it."""
    if value is None or value == () or value == {}:
        return "–"
    if isinstance(value, dict):
        return ", ".join(
            f"{value[key]}" for key in ("encoder", "pooling", "engine", "precision", "storage") if key in value
        )
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    if name == "last_used":
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(value))
    if name == "bytes" or name == "freed":
        return f"{value / 1e6:,.1f} MB"
    return (
        f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(getattr(value, "name", value))
    )


@contextmanager
def progress(stream: Any = None, quiet: bool = False) -> Iterator[pipeline.Progress]:
    """Progress on standard error: bars on a terminal, a line now and then anywhere else; nothing if `quiet`."""
    if quiet:
        yield pipeline.silent
        return
    console = Console(stderr=True, file=stream)
    if not console.is_terminal:
        yield Lines(console)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        tasks: dict[str, Any] = {}

        def tell(stage: str, done: int, total: int | None) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield tell


class Lines:
    """A line when a stage has run for a while, and each time that much more has passed."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.began: dict[str, tuple[float, int]] = {}  # stage → when it was first heard of, and how far it was
        self.spoke: dict[str, float] = {}

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        start, first = self.began.setdefault(stage, (now, done))
        if now - self.spoke.setdefault(stage, now) < LINE_SECONDS:
            return
        self.spoke[stage] = now
        share = f"{done:,} of {total:,} ({done / total:.0%})" if total else f"{done:,}"
        left = ""
        if total and first < done < total:
            left = f", {roughly((total - done) * (now - start) / (done - first))} left"
        self.console.print(f"{stage}: {share}{left}", highlight=False, markup=False)


# ── tables ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _facts(title: str, rows: Sequence[tuple[str, str]]) -> Table:
    table = Table(title=title, title_justify="left", show_header=False, box=None, pad_edge=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, Text(value))
    return table


def _extraction(values: Sequence[Any]) -> Iterator[Any]:
    for done in values:
        facts = done.to_json()
        yield _facts(
            f"{done.encoder}: {facts['rows']:,} rows",
            [
                ("vectors", f"{facts['dim']} wide, pooling {facts['pooling']}"),
                (
                    "encoded",
                    f"{facts['encoded']:,} of {facts['unique']:,} different texts; {facts['from_cache']:,} from cache",
                ),
                ("speed", f"{facts['texts_per_second']:,.0f} texts/s, {facts['tokens_per_second']:,.0f} tokens/s"),
                ("time", f"{facts['setup_seconds']:.1f} s to set up, {facts['seconds']:.1f} s to extract"),
                ("how", f"{facts['engine']}, {facts['precision']}, {facts['device']}"),
                ("cut", f"{facts['truncated_rows']:,} texts longer than {facts['max_length']} tokens"),
                ("padding", f"{facts['padding_share']:.1%}"),
                ("memory", f"{facts['peak_rss_mb']:,.0f} MB at most"),
                ("kept in", ", ".join(str(folder) for folder in facts["folders"])),
            ],
        )


def _runs(values: Sequence[Any]) -> Iterator[Any]:
    table = Table(title="runs", title_justify="left", box=None, pad_edge=False)
    table.add_column("run")
    table.add_column("split")
    brief = [name for name, metric in METRICS.items() if metric.brief]
    for name in brief:
        table.add_column(name.replace("_", " "), justify="right")
    for run in values:
        for role in ("validation", "test"):
            if role in run.metrics:
                cells = [_number(run.metrics[role].get(name)) for name in brief]
                table.add_row(Text(run.kind), Text(run.predictions[role].split), *cells)
    yield table
    for run in values:
        yield Text(f"{run.kind}: {run.folder}", style="dim")
        for note in run.notes:
            yield Text(f"  {note}", style="dim")


def _seeds(found: Seeds) -> Text:
    """`fine-tune, 3 seeds: test accuracy 0.924 ± 0.004, macro f1 …; best on validation: seed 43`."""
    role = "test" if "test" in found.mean else "validation"
    said = ", ".join(
        f"{metric.replace('_', ' ')} {found.mean[role][metric]:.3f} ± {found.spread[role][metric]:.3f}"
        for metric in ("accuracy", "macro_f1")
    )
    return Text(
        f"{found.best.kind}, {len(found.runs)} seeds: {role} {said} (mean ± standard deviation); "
        f"best on validation: seed {found.best.seed}"
    )


def _number(value: float | None, form: str = ".3f") -> str:
    return "–" if value is None else format(value, form)


def _interval(interval: Any) -> str:
    if math.isnan(interval.value):
        return "–"  # not defined on these rows
    return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def _comparison(values: Sequence[Any]) -> Iterator[Any]:
    for outcome in values:
        comparison = outcome.comparison
        where = f"{shown(comparison.dataset)}: {comparison.rows:,} rows of '{shown(comparison.split)}'"
        table = Table(
            title=f"{where}, 95 % intervals",
            title_justify="left",
            box=None,
            pad_edge=False,
        )
        measures = [name for name in METRICS if name in with_usual(comparison.metric)]
        for name in ("contender", *(METRICS[name].label for name in measures)):
            table.add_column(name)
        costs = Table(title="costs", title_justify="left", box=None, pad_edge=False)
        costs.add_column("contender")
        for name in ("fit", "extract", "ms/text", "ms/text alone", "model"):
            costs.add_column(name, justify="right")
        for c in comparison.contenders:
            who = Text(c.name, style="bold" if c.chosen else "")
            table.add_row(who, *(_interval(c.metrics[name]) for name in measures))
            costs.add_row(
                who,
                format_duration(c.cost.fit_seconds),
                format_duration(c.cost.extract_seconds),
                _number(c.cost.ms_per_text_batch, ".2f"),
                _number(c.cost.ms_per_text_single, ".1f"),
                f"{_number(c.cost.model_mb, '.1f')} MB",
            )
        yield table
        yield Text()
        yield costs
        yield Text()
        pairs = Table(
            title=f"differences in {METRICS[comparison.metric].label}", title_justify="left", box=None, pad_edge=False
        )
        for name in ("pair", "difference", "p (Holm)", "verdict"):
            pairs.add_column(name)
        for p in comparison.pairs:
            pairs.add_row(
                Text(f"{p.a} − {p.b}"),
                f"{p.difference:+.3f} [{p.low:+.3f}, {p.high:+.3f}]",
                f"{p.p_adjusted:.2g}",
                p.verdict,
            )
        yield pairs
        yield Text()
        yield Text(comparison.recommendation, style="bold")
        if comparison.groups:
            yield Text()
            yield from _groups(comparison)
        if comparison.truncated_share:
            yield Text(f"{comparison.truncated_share:.1%} of the texts were cut at the encoder's limit.", style="dim")
        for line in comparison.left_out:
            yield Text(f"left out: {line}", style="dim")
        if outcome.report:
            yield Text(f"page: {outcome.report}")
        if outcome.card:
            yield Text(f"model card: {outcome.card}")


def _groups(comparison: Any) -> Iterator[Any]:
    """Scores of each group of rows, the largest first."""
    table = Table(
        title=f"{METRICS[comparison.metric].label} by {shown(comparison.by)}, 95 % intervals",
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    table.add_column("group")
    table.add_column("rows", justify="right")
    for c in comparison.contenders:
        table.add_column(shown(c.name))
    for group in comparison.groups:
        cells = [_interval(group.metrics[c.name][comparison.metric]) for c in comparison.contenders]
        table.add_row(Text(group.group or "(empty)"), f"{group.rows:,}", *cells)
    yield table


def _curves(values: Sequence[Any]) -> Iterator[Any]:
    for curve in values:
        where = f"{curve.rows:,} rows of '{curve.split}', 95 % intervals"
        yield Text(f"{curve.dataset}: {METRICS[curve.metric].label} by number of labels, {where}", style="italic")
        table = Table(box=None, pad_edge=False)
        table.add_column("labels", justify="right")
        for line in curve.lines:
            table.add_column(shown(line.name))
        points = {(line.name, point.size): point for line in curve.lines for point in line.points}
        for size in sorted({size for _, size in points}):
            cells = [_interval(points[line.name, size]) if (line.name, size) in points else "" for line in curve.lines]
            table.add_row(f"{size:,}", *cells)
        yield table
        yield Text()
        for crossing in curve.crossings:
            yield Text(crossing.sentence, style="bold")
        for note in curve.notes:
            yield Text(note, style="dim")
        yield Text(f"{curve.fitted} fits made, {curve.found} found: {curve.file}", style="dim")


def _profile(values: Sequence[Any]) -> Iterator[Any]:
    from pipeline.explore.tables import tables

    for found in values:
        yield from tables(found.to_json())


def _audit(values: Sequence[Any]) -> Iterator[Any]:
    from pipeline.audit.tables import tables

    for found in values:
        yield from tables(found)


def _recomputed(values: Sequence[Any]) -> Iterator[Any]:
    for found in values:
        yield Text(found.verdict)


def _exported(values: Sequence[Any]) -> Iterator[Any]:
    for done in values:
        yield Text(f"{done.rows:,} rows of {', '.join(done.columns)}: {done.file} ({done.bytes / 1e6:,.1f} MB)")


def _checkup(values: Sequence[Any]) -> Iterator[Any]:
    for found in values:
        yield _facts("this machine", list(found.machine.items()))
        if found.speeds:
            table = Table(title=f"{shown(found.encoder)} runs here", title_justify="left", box=None, pad_edge=False)
            for name in ("engine", "precision", "device"):
                table.add_column(name)
            table.add_column("tokens/s", justify="right")
            table.add_column("set-up", justify="right")
            table.add_column(overflow="fold")
            for row in found.speeds:
                speed = _number(row.tokens_per_second, ",.0f")
                note = Text("; ".join(filter(None, ("what auto takes" if row.chosen else "", row.note))))
                table.add_row(row.engine, row.precision, row.device, speed, format_duration(row.setup_seconds), note)
            yield Text()
            yield table
        if found.job:
            job = found.job
            yield Text()
            yield _facts(
                f"{job.source}: {job.rows:,} rows",
                [
                    ("to extract", f"{roughly(job.seconds)}, for {job.tokens:,.0f} tokens"),
                    ("there already", f"{job.cached_share:.0%}"),
                    ("cut", f"{job.truncated_share:.1%} of the texts are longer than the limit"),
                    ("disk", f"{job.disk_mb:,.1f} MB of vectors"),
                ],
            )
        for line in found.trouble:
            yield Text(f"! {line}")


def _handed(values: Sequence[Any]) -> Iterator[Any]:
    for done in values:
        yield Text(f"{done.folder}: {', '.join(done.files)} ({sum(done.files.values()) / 1e6:,.1f} MB)")
        checked = done.checked
        yield Text(
            f"reloaded and compared with the run on {checked.texts:,} texts of {checked.source}: largest difference of "
            f"a probability {checked.difference:.1e}, the same label for {checked.same_labels:,}"
        )
        for note in done.notes:
            yield Text(f"  {note}", style="dim")
        if done.pushed:
            yield Text(f"uploaded: {done.pushed}")


SHOWN = {
    "Checkup": _checkup,
    "Handed": _handed,
    "Recomputed": _recomputed,
    "Exported": _exported,
    "Profile": _profile,
    "Extracted": _extraction,
    "Run": _runs,
    "Outcome": _comparison,
    "Audit": _audit,
    "Curve": _curves,
}
