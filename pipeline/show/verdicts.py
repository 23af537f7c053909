"""A comparison and a learning curve as tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..metrics import METRICS, with_usual
from ..verdict.results import LOSS, readings
from ..words import MISSING, format_duration
from .parts import Cell, Text, interval, number, spread, table

if TYPE_CHECKING:
    from ..learning_curve import Curve
    from ..verdict import Comparison, Contender


def settled_lines(found: Any) -> Iterator[Any]:
    """Who is right more often on a pool, and what is to be labelled."""
    yield Text(found.sentence, style="bold")
    for note in found.notes:
        yield Text(note, style="dim")
    if found.out:
        yield Text(f"{found.drawn:,} rows to label: {found.out}")
    elif found.differing and not found.labelled:
        yield Text("--out FILE.csv draws rows to label, --labelled FILE.csv reads them back", style="dim")


def comparison_tables(outcome: Any) -> Iterator[Any]:
    """Scores, costs and differences, then the recommendation and what is known beyond it."""
    comparison = outcome.comparison
    yield from spread((_scores(comparison), _costs(comparison)))
    if comparison.pairs:
        yield from spread((_differences(comparison),))
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


def _front(points: Sequence[Mapping[str, Any]]) -> Any:
    """What a cascade costs and scores, the more its cheap part answers."""
    columns = ("share for the dear one", "ms/text", "accuracy", "against it alone")
    rows = [
        (
            *(f"{p['share']:.0%}", number(p["ms_per_text_batch"], ".2f"), number(p["accuracy"])),
            interval_of(p["difference"], p["low"], p["high"]),
        )
        for p in points
    ]
    return table("cascade: at thresholds chosen on other rows", columns, rows, right=columns)


def _name(contender: Contender) -> Text:
    return Text(
        contender.name + (" (ended early)" if contender.ended else ""), style="bold" if contender.chosen else ""
    )


def _scores(comparison: Comparison) -> Any:
    title = f"{comparison.dataset}: {comparison.judged_rows}, 95 % intervals"
    metrics = [name for name in METRICS if name in with_usual(comparison.metric)]
    columns = ["contender", *(METRICS[name].label for name in metrics), LOSS]
    rows: list[list[Cell]] = [
        [_name(c), *(interval(c.metrics[name]) for name in metrics), comparison.may_lose(c.name)]
        for c in comparison.contenders
    ]
    if len({contender.rows for contender in comparison.contenders}) > 1:  # folds for what trains an encoder
        columns.append("rows")
        rows = [[*row, f"{c.rows:,}"] for row, c in zip(rows, comparison.contenders, strict=True)]
    return table(title, columns, rows)


def _costs(comparison: Comparison) -> Any:
    columns = ("fit", "extract", "ms/text", "ms/text alone", "model")
    rows = [
        (
            _name(contender),
            *(format_duration(cost.fit_seconds), format_duration(cost.extract_seconds)),
            *(number(cost.ms_per_text_batch, ".2f"), number(cost.ms_per_text_single, ".1f")),
            MISSING if cost.model_mb is None else f"{cost.model_mb:.1f} MB",
        )
        for contender in comparison.contenders
        for cost in (contender.cost,)
    ]
    return table("costs", ["contender", *columns], rows, right=columns)


def _differences(comparison: Comparison) -> Any:
    rows = [
        (
            *(f"{p.a} − {p.b}", interval_of(p.difference, p.low, p.high)),
            *(f"{p.p_adjusted:.2g}", p.verdict),
        )
        for p in comparison.pairs
    ]
    title = f"differences in {METRICS[comparison.metric].label}"
    return table(title, ("pair", "difference", "p (Holm)", "verdict"), rows)


def _groups(comparison: Comparison) -> Any:
    """Scores of each group of rows, the largest first."""
    names = [contender.name for contender in comparison.contenders]
    title = f"{METRICS[comparison.metric].label} by {comparison.by}, 95 % intervals"
    rows = [
        [g.group or "(empty)", f"{g.rows:,}", *(interval(g.metrics[name][comparison.metric]) for name in names)]
        for g in comparison.groups
    ]
    return table(title, ["group", "rows", *names], rows, right=["rows"])


def curve_tables(curve: Curve) -> Iterator[Any]:
    """Scores by number of labels, and where the lines cross."""
    title = f"{curve.dataset}: {METRICS[curve.metric].label} by number of labels, {curve.rows:,} rows of"
    names = [line.name for line in curve.lines]
    points = {(line.name, point.size): point for line in curve.lines for point in line.points}
    rows = [
        [f"{size:,}", *(interval(points[name, size]) if (name, size) in points else "" for name in names)]
        for size in sorted({size for _, size in points})
    ]
    columns = ["labels", *names]
    yield from spread([table(f"{title} '{curve.split}', 95 % intervals", columns, rows, right=["labels"])])
    for crossing in curve.crossings:
        yield Text(crossing.sentence, style="bold")
    for note in curve.notes:
        yield Text(note, style="dim")
    yield Text(f"{curve.fitted} fits made, {curve.found} found: {curve.file}", style="dim")


def interval_of(*values: float) -> str:
    """A difference and its interval: `+0.010 [-0.002, +0.022]`; what rounds to nothing is `+0.000`."""
    middle, low, high = (f"{round(value, 3) + 0.0:+.3f}" for value in values)
    return f"{middle} [{low}, {high}]"
