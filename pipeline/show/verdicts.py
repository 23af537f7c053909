"""A comparison and a learning curve as tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from ..metrics import METRICS, with_usual
from ..verdict.results import LOSS, readings
from ..words import format_duration
from .parts import Text, interval, number, titled

if TYPE_CHECKING:
    from ..learning_curve import Curve
    from ..verdict import Comparison, Contender


def comparison_tables(outcomes: Sequence[Any]) -> Iterator[Any]:
    """Scores, costs and differences, then the recommendation and what is known beyond it."""
    for outcome in outcomes:
        comparison = outcome.comparison
        for table in (_scores(comparison), _costs(comparison), _differences(comparison)):
            yield table
            yield Text()
        for line in readings(comparison.contenders):
            yield Text(f"reads {line}", style="dim")
        yield Text(comparison.recommendation, style="bold")
        if outcome.cascade:
            yield Text()
            yield _front(outcome.cascade)
        if comparison.groups:
            yield Text()
            yield _groups(comparison)
        if comparison.truncated_share:
            yield Text(f"{comparison.truncated_share:.1%} of the texts were cut at the encoder's limit.", style="dim")
        for line in comparison.left_out:
            yield Text(f"left out: {line}", style="dim")
        if outcome.report:
            yield Text(f"page: {outcome.report}")
        if outcome.card:
            yield Text(f"model card: {outcome.card}")


def _front(points: Sequence[Mapping[str, Any]]) -> Table:
    """What a cascade costs and scores, the more its cheap part answers."""
    columns = ("share for the dear one", "ms/text", "accuracy", "against it alone")
    table = titled("cascade: at thresholds chosen on other rows", columns, right=columns)
    for p in points:
        difference = f"{p['difference']:+.3f} [{p['low']:+.3f}, {p['high']:+.3f}]"
        table.add_row(f"{p['share']:.0%}", number(p["ms_per_text_batch"], ".2f"), number(p["accuracy"]), difference)
    return table


def _name(contender: Contender) -> Text:
    return Text(contender.name, style="bold" if contender.chosen else "")


def _scores(comparison: Comparison) -> Table:
    title = f"{comparison.dataset}: {comparison.judged_rows}, 95 % intervals"
    metrics = [name for name in METRICS if name in with_usual(comparison.metric)]
    columns = [*(METRICS[name].label for name in metrics), LOSS]
    fewer = len({contender.rows for contender in comparison.contenders}) > 1  # folds for what trains an encoder
    table = titled(title, ["contender", *columns, *(["rows"] if fewer else [])])
    for contender in comparison.contenders:
        scores = [interval(contender.metrics[name]) for name in metrics]
        rows = [f"{contender.rows:,}"] if fewer else []
        table.add_row(_name(contender), *scores, comparison.may_lose(contender.name), *rows)
    return table


def _costs(comparison: Comparison) -> Table:
    columns = ("fit", "extract", "ms/text", "ms/text alone", "model")
    table = titled("costs", ["contender", *columns], right=columns)
    for contender in comparison.contenders:
        cost = contender.cost
        table.add_row(
            _name(contender),
            format_duration(cost.fit_seconds),
            format_duration(cost.extract_seconds),
            number(cost.ms_per_text_batch, ".2f"),
            number(cost.ms_per_text_single, ".1f"),
            f"{number(cost.model_mb, '.1f')} MB",
        )
    return table


def _differences(comparison: Comparison) -> Table:
    columns = ("pair", "difference", "p (Holm)", "verdict")
    table = titled(f"differences in {METRICS[comparison.metric].label}", columns)
    for pair in comparison.pairs:
        difference = f"{pair.difference:+.3f} [{pair.low:+.3f}, {pair.high:+.3f}]"
        table.add_row(Text(f"{pair.a} − {pair.b}"), difference, f"{pair.p_adjusted:.2g}", pair.verdict)
    return table


def _groups(comparison: Comparison) -> Table:
    """Scores of each group of rows, the largest first."""
    names = [contender.name for contender in comparison.contenders]
    title = f"{METRICS[comparison.metric].label} by {comparison.by}, 95 % intervals"
    table = titled(title, ["group", "rows", *names], right=["rows"])
    for group in comparison.groups:
        cells = [interval(group.metrics[name][comparison.metric]) for name in names]
        table.add_row(Text(group.group or "(empty)"), f"{group.rows:,}", *cells)
    return table


def curve_tables(curves: Sequence[Curve]) -> Iterator[Any]:
    """Scores by number of labels, and where the lines cross."""
    for curve in curves:
        where = f"{curve.rows:,} rows of '{curve.split}', 95 % intervals"
        yield Text(f"{curve.dataset}: {METRICS[curve.metric].label} by number of labels, {where}", style="italic")
        names = [line.name for line in curve.lines]
        table = titled(None, ["labels", *names], right=["labels"])
        points = {(line.name, point.size): point for line in curve.lines for point in line.points}
        for size in sorted({size for _, size in points}):
            cells = [interval(points[name, size]) if (name, size) in points else "" for name in names]
            table.add_row(f"{size:,}", *cells)
        yield table
        yield Text()
        for crossing in curve.crossings:
            yield Text(crossing.sentence, style="bold")
        for note in curve.notes:
            yield Text(note, style="dim")
        yield Text(f"{curve.fitted} fits made, {curve.found} found: {curve.file}", style="dim")
