"""Rows of numbers → Vega-Lite specifications, as plain dictionaries for the page's one copy of the library.

No string of the user's ever stands where Vega-Lite reads a field, an expression or a domain: charts work with
generic fields and integers, and names come back through `names[datum.value]`, a list that is only data. Colours
are the page's CSS variables, so that light, dark and print need no second chart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .places import BESIDE, LIMIT, log_digits, log_ends, sides

Rows = Sequence[dict[str, Any]]
Spec = dict[str, Any]

PAGE, INK, QUIET, LINE, ACCENT, OTHER = (
    "var(--page)",
    "var(--ink)",
    "var(--quiet)",
    "var(--strong)",
    "var(--accent)",
    "var(--other)",
)
PALETTE = [f"var(--c{i})" for i in range(8)]  # Okabe and Ito's, which colour-blind readers tell apart
RIGHT_WRONG = ["var(--other)", "var(--c5)"]
FEW = 10  # rows below which a bin says little
FIRST = "round(datum.value / pow(10, floor(log(datum.value) / LN10 + 1e-9)))"  # its first digit
AMOUNT = "format(datum.value, datum.value < 1e5 ? ',~g' : '~s')"  # 0.01, 10,000, 10M
ROUND = f"indexof({{digits}}, {FIRST}) < 0 ? '' : {AMOUNT}"  # on a logarithmic axis: the others overprint each other


def _alt() -> Any:
    import altair

    return altair


def _finish(chart: Any, names: Sequence[str], description: str, height: int) -> Spec:
    """`chart` as a dictionary: as wide as its container, with `names` as data for its labels."""
    alt = _alt()
    with alt.data_transformers.disable_max_rows():  # the page's limits are lower
        spec: Spec = chart.properties(width="container", height=height).to_dict()
    spec.pop("$schema", None)
    spec.pop("config", None)  # the page has one for all
    spec["description"] = description
    spec["params"] = [*spec.get("params", []), {"name": "names", "value": [str(name) for name in names]}]
    return spec


def _by_name(alt: Any) -> Any:
    """A line for each name."""
    axis = alt.Axis(labelExpr="names[datum.value]", title=None, ticks=False, domain=False, labelLimit=150)
    return alt.Y("i:O", axis=axis)


def _lines(names: Sequence[str]) -> int:
    """Height of a chart with one line a name."""
    return len(names) * (24 if len(names) < 20 else 16) + 8


def _named(alt: Any, rows: Rows, names: Sequence[str]) -> Any:
    """`rows` with the name of their place, for tooltips and marks."""
    return alt.Data(values=[{**row, "name": str(names[row["i"]])} for row in rows])


def _strong(alt: Any) -> Any:
    return alt.Color("strong:O", legend=None, scale=alt.Scale(domain=[0, 1], range=[OTHER, ACCENT]))


def _palette(count: int) -> list[str]:
    return [PALETTE[i % len(PALETTE)] for i in range(count)]


def _coloured(alt: Any, names: Sequence[str]) -> Any:
    """A colour for each of `names`, with a legend."""
    scale = alt.Scale(domain=list(range(len(names))), range=_palette(len(names)))
    return alt.Color("i:O", scale=scale, legend=_legend(alt, "names"))


def _legend(alt: Any, names: str) -> Any:
    """A legend above, in columns for which a phone has room."""
    columns, limit = ({"expr": f"width < 400 ? {phone} : {wide}"} for phone, wide in ((2, 4), (110, 220)))
    return alt.Legend(title=None, orient="top", labelExpr=f"{names}[datum.value]", labelLimit=limit, columns=columns)


def _rule(alt: Any, **at: float) -> Any:
    """A dashed line at one value of `x` or `y`."""
    (channel,) = at
    line = alt.Chart(alt.Data(values=[{"at": at[channel]}])).mark_rule(color=QUIET, strokeDash=[4, 3])
    return line.encode(**{channel: "at:Q"})


def _tips(alt: Any, fields: dict[str, str]) -> list[Any]:
    """Tooltip lines from `name: "field:type:format"`; the names are ours, never the user's."""
    tips = []
    for title, code in fields.items():
        name, kind, form = f"{code}::".split(":")[:3]
        more = {"format": form} if form else {}
        tips.append(alt.Tooltip(field=name, type="quantitative" if kind == "Q" else "nominal", title=title, **more))
    return tips


@dataclass(frozen=True)
class Room:
    """What an axis shows: the values that matter, and a tenth of their span beside them."""

    low: float
    high: float
    most: float  # largest possible value

    @property
    def ends(self) -> list[float]:
        """Both ends of the axis."""
        beside = max(0.1 * (self.high - self.low), 0.005)
        return [
            max(0.0, self.low - beside),
            min(self.most, self.high + beside) if self.high <= self.most else self.high,
        ]


def intervals(rows: Rows, names: Sequence[str], title: str, percent: bool, room: Room) -> Spec:
    """Dots with their intervals, one line a name; what lies outside the room is a mark at its edge.

    `rows`: `i` (place in `names`), `value`, `low`, `high`, `strong` (0 or 1).
    """
    form, ticks = (".1%", "format(datum.value, '~%')") if percent else (".3f", "format(datum.value, '~g')")
    return _dots(rows, names, title, form, ticks, room=room)


def differences(rows: Rows, names: Sequence[str], title: str) -> Spec:
    """The same for differences: with their sign, and a line where there is none."""
    return _dots(rows, names, title, "+.2~f", "datum.value ? format(datum.value, '+~f') : '0'")


def _dots(rows: Rows, names: Sequence[str], title: str, form: str, ticks: str, room: Room | None = None) -> Spec:
    alt = _alt()
    zero = room is None
    ends = room.ends if room else [-math.inf, math.inf]
    outside = [[row for row in rows if row["value"] < ends[0]], [row for row in rows if row["value"] > ends[1]]]
    rows = [row for row in rows if ends[0] <= row["value"] <= ends[1]]
    tips = {" ": "name:N", title: f"value:Q:{form}", "low": f"low:Q:{form}", "high": f"high:Q:{form}"}
    base = alt.Chart(_named(alt, rows, names)).encode(y=_by_name(alt), color=_strong(alt), tooltip=_tips(alt, tips))
    axis = alt.Axis(title=title, labelExpr=ticks, tickCount=5)
    rule = base.mark_rule(strokeWidth=3, strokeCap="round", opacity=0.55).encode(
        x=alt.X(
            "low:Q", scale=alt.Scale(domain=ends, clamp=True) if room else alt.Scale(zero=zero, nice=True), axis=axis
        ),
        x2="high:Q",
    )
    layers = [_rule(alt, x=0)] if zero else []
    layers += [rule, base.mark_point(filled=True, size=90, opacity=1).encode(x="value:Q")]
    for edge, align, dx, text, rows in zip(ends, ("left", "right"), (4, -4), ("← {}", "{} →"), outside, strict=True):
        words = [row | {"low": edge, "text": text.format(format(row["value"], form))} for row in rows]
        far = alt.Chart(_named(alt, words, names)).mark_text(align=align, dx=dx, color=QUIET)
        layers += [far.encode(y=_by_name(alt), x="low:Q", text="text:N")] * bool(words)
    return _finish(alt.layer(*layers), names, f"{title} with its interval, one line each", 30 * len(names))


def cost(rows: Rows, names: Sequence[str], x_title: str, y_title: str, percent: bool) -> Spec:
    """Score against cost, cost on a logarithmic axis; a line joins the frontier.

    `rows`: `i`, `cost` (> 0), `value`, `low`, `high`, `pareto` (0 or 1), `strong` (0 or 1).
    """
    alt = _alt()
    base = alt.Chart(_named(alt, rows, names))
    costs = [row["cost"] for row in rows]
    scale = alt.Scale(type="log", domain=log_ends(costs), nice=False, padding=BESIDE)
    rounded = ROUND.format(digits=log_digits(costs))
    x = alt.X("cost:Q", scale=scale, axis=alt.Axis(title=x_title, tickCount=5, labelExpr=rounded))
    axis = alt.Axis(title=y_title, format="~%" if percent else "~g", tickCount=5)
    y = alt.Y("value:Q", scale=alt.Scale(zero=False, padding=16), axis=axis)
    tips = {" ": "name:N", y_title: "value:Q:.1%" if percent else "value:Q:.3f", x_title: "cost:Q:,.3~r"}
    line = base.transform_filter("datum.pareto == 1").mark_line(color=LINE, strokeWidth=2, interpolate="step-after")
    rule = base.mark_rule(opacity=0.5, strokeWidth=2).encode(x=x, y=alt.Y("low:Q"), y2="high:Q", color=_strong(alt))
    dots = base.mark_point(filled=True, size=110, opacity=1).encode(
        x=x, y=y, color=_strong(alt), tooltip=_tips(alt, tips)
    )
    at = sides(rows, names)
    texts = [
        alt.Chart(_named(alt, [row for row, its in zip(rows, at, strict=True) if its == side], names))
        .mark_text(dx=side.dx, dy=side.dy, align=side.align, color=INK, limit=LIMIT)
        .encode(x=x, y=y, text="name:N")
        for side in sorted(set(at))
    ]
    return _finish(alt.layer(line.encode(x=x, y=y), rule, dots, *texts), names, f"{y_title} against {x_title}", 320)


def reliability(rows: Rows) -> Spec:
    """Confidence against accuracy; a line joins what rests on some rows. `rows`: `confidence`, `accuracy`, `rows`."""
    alt = _alt()
    scale = alt.Scale(domain=[0, 1])
    diagonal = (
        alt.Chart(alt.Data(values=[{"at": 0}, {"at": 1}]))
        .mark_line(color=QUIET, strokeDash=[4, 3])
        .encode(x="at:Q", y="at:Q")
    )
    base = alt.Chart(alt.Data(values=list(rows))).encode(
        x=alt.X("confidence:Q", scale=scale, axis=alt.Axis(title="confidence", tickCount=5, format=".1f")),
        y=alt.Y("accuracy:Q", scale=scale, axis=alt.Axis(title="share right", tickCount=5, format=".1f")),
    )
    dots = base.mark_point(filled=True, color=ACCENT, opacity=0.9).encode(
        size=alt.Size("rows:Q", legend=None, scale=alt.Scale(range=[20, 260])),
        tooltip=_tips(alt, {"confidence": "confidence:Q:.3f", "share right": "accuracy:Q:.3f", "rows": "rows:Q"}),
    )
    line = base.transform_filter(f"datum.rows >= {FEW}").mark_line(color=ACCENT, opacity=0.5)
    return _finish(alt.layer(diagonal, line, dots), [], "How often it is right, against how sure it is", 190)


def history(rows: Rows, names: Sequence[str], title: str) -> Spec:
    """Curves over epochs. `rows`: `epoch`, `value`, `i` (which curve, a place in `names`)."""
    alt = _alt()
    base = alt.Chart(_named(alt, rows, names)).encode(
        x=alt.X("epoch:Q", axis=alt.Axis(title="epoch", tickMinStep=1)),
        y=alt.Y("value:Q", scale=alt.Scale(zero=False), axis=alt.Axis(title=title, tickCount=5)),
        color=_coloured(alt, names),
        tooltip=_tips(alt, {" ": "name:N", "epoch": "epoch:Q", "value": "value:Q:.4f"}),
    )
    return _finish(alt.layer(base.mark_line(), base.mark_point(filled=True, size=50)), names, f"{title} by epoch", 220)


def abstaining(rows: Rows, names: Sequence[str]) -> Spec:
    """Accuracy of what is answered, by the share left unanswered. `rows`: `i` (place in `names`), `share`, `value`."""
    alt = _alt()
    base = alt.Chart(_named(alt, rows, names)).encode(
        x=alt.X("share:Q", axis=alt.Axis(title="share of rows without an answer", format="~%", tickCount=5)),
        y=alt.Y(
            "value:Q", scale=alt.Scale(zero=False), axis=alt.Axis(title="right of the rest", format="~%", tickCount=5)
        ),
        color=_coloured(alt, names),
        tooltip=_tips(alt, {" ": "name:N", "unanswered": "share:Q:.0%", "right of the rest": "value:Q:.1%"}),
    )
    return _finish(base.mark_line(point=True), names, "Accuracy against the share abstained", 240)


def by_labels(rows: Rows, names: Sequence[str], title: str, percent: bool) -> Spec:
    """Scores against number of labels, on a logarithmic axis, with intervals as bands.

    `rows`: `i` (place in `names`), `labels`, `value`, `low`, `high`, `draws`.
    """
    alt = _alt()
    form = ".1%" if percent else ".3f"
    rounded = ROUND.format(digits=log_digits([row["labels"] for row in rows]))
    base = alt.Chart(_named(alt, rows, names)).encode(
        x=alt.X(
            "labels:Q",
            scale=alt.Scale(type="log", nice=False),
            axis=alt.Axis(title="labels", tickCount=6, labelExpr=rounded),
        ),
        color=_coloured(alt, names),
    )
    axis = alt.Axis(title=title, format="~%" if percent else "~g", tickCount=5)
    y = alt.Y("value:Q", scale=alt.Scale(zero=False), axis=axis)
    tips = {" ": "name:N", "labels": "labels:Q:,", title: f"value:Q:{form}", "low": f"low:Q:{form}"}
    tips |= {"high": f"high:Q:{form}", "subsets": "draws:Q"}
    band = base.mark_area(opacity=0.2).encode(y=alt.Y("low:Q", scale=alt.Scale(zero=False), axis=axis), y2="high:Q")
    dots = base.mark_point(filled=True, size=55, opacity=1).encode(y=y, tooltip=_tips(alt, tips))
    return _finish(alt.layer(band, base.mark_line().encode(y=y), dots), names, f"{title} by number of labels", 320)


def shares(rows: Rows, names: Sequence[str], splits: Sequence[str]) -> Spec:
    """Share of each class in each split: bars for the first split, a mark for each.

    `rows`: `i` (class), `split` (place in `splits`), `share`, `rows`.
    """
    alt = _alt()
    places = list(range(len(splits)))
    shapes = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down"]
    named = [{**row, "name": names[row["i"]], "part": splits[row["split"]]} for row in rows]
    scale = alt.Scale(domain=places, range=_palette(len(splits)))
    legend = _legend(alt, "splits")
    dots = (
        alt.Chart(alt.Data(values=named))
        .mark_point(filled=True, size=80, opacity=0.85)
        .encode(
            y=_by_name(alt),
            x=alt.X("share:Q", axis=alt.Axis(title="share of the split's rows", format="%", tickCount=5)),
            color=alt.Color("split:N", scale=scale, legend=legend),
            shape=alt.Shape(
                "split:N",
                scale=alt.Scale(domain=places, range=[shapes[p % len(shapes)] for p in places]),
                legend=legend,
            ),
            tooltip=_tips(alt, {" ": "name:N", "split": "part:N", "rows": "rows:Q:,", "share": "share:Q:.2%"}),
        )
    )
    bars = (
        alt.Chart(alt.Data(values=[row for row in named if row["split"] == 0]))
        .mark_bar(color=PALETTE[0], opacity=0.35, height={"band": 0.6})
        .encode(y=_by_name(alt), x=alt.X("share:Q"))
    )
    spec = _finish(alt.layer(bars, dots), names, "Share of each class in each split", _lines(names))
    spec["params"].append({"name": "splits", "value": [str(split) for split in splits]})
    return spec


def quantiles(rows: Rows, max_length: int | None) -> Spec:
    """Token lengths as a curve. `rows`: `share` (0 to 1, of the texts), `tokens` (at most so long)."""
    alt = _alt()
    base = alt.Chart(alt.Data(values=list(rows))).encode(
        x=alt.X(
            "share:Q", axis=alt.Axis(title="share of texts", format="%", tickCount=5), scale=alt.Scale(domain=[0, 1])
        ),
        y=alt.Y("tokens:Q", axis=alt.Axis(title="tokens, at most", tickCount=5)),
        tooltip=_tips(alt, {"of the texts": "share:Q:.0%", "have at most": "tokens:Q:,"}),
    )
    layers = [base.mark_line(color=ACCENT, interpolate="monotone"), base.mark_point(filled=True, size=60, color=ACCENT)]
    if max_length:
        cut = alt.Chart(alt.Data(values=[{"at": max_length, "text": f"max_length {max_length}"}]))
        layers.append(cut.mark_rule(color=QUIET, strokeDash=[4, 3]).encode(y="at:Q"))
        layers.append(
            cut.mark_text(align="left", dx=4, dy=-7, color=QUIET).encode(y="at:Q", x=alt.value(0), text="text:N")
        )
    return _finish(alt.layer(*layers), [], "Token lengths of the texts", 220)


def boxes(rows: Rows, names: Sequence[str], title: str) -> Spec:
    """Minimum, quartiles and maximum, one line a name. `rows`: `i`, `min`, `p25`, `p50`, `p75`, `max`."""
    alt = _alt()
    tips = {" ": "name:N"} | {key: f"{key}:Q:,.0f" for key in ("min", "p25", "p50", "p75", "max")}
    base = alt.Chart(_named(alt, rows, names)).encode(y=_by_name(alt), tooltip=_tips(alt, tips))
    axis = alt.Axis(title=title, tickCount=5)
    whiskers = base.mark_rule(color=OTHER).encode(x=alt.X("min:Q", axis=axis), x2="max:Q")
    box = base.mark_bar(color=ACCENT, height={"band": 0.55}).encode(x="p25:Q", x2="p75:Q")
    middle = base.mark_tick(color=PAGE, thickness=2, height={"band": 0.55}).encode(x="p50:Q")
    return _finish(alt.layer(whiskers, box, middle), names, f"{title}, one line each", _lines(names))


def points(names: Sequence[str]) -> Spec:
    """A map in two dimensions, without its rows: the page puts in `x`, `y`, `i` (place in `names`), `text`, `label`,
    and colours it by something else by putting in other `i` and `names`."""
    alt = _alt()
    places = list(range(len(names)))
    shapes = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "circle"]
    legend = _legend(alt, "names")
    chart = (
        alt.Chart(alt.Data(values=[]))
        .mark_point(filled=True, opacity=0.75, size=30)
        .encode(
            x=alt.X("x:Q", axis=alt.Axis(title="first component", labels=False, ticks=False, grid=False)),
            y=alt.Y("y:Q", axis=alt.Axis(title="second component", labels=False, ticks=False, grid=False)),
            color=alt.Color("i:N", scale=alt.Scale(domain=places, range=PALETTE[: len(places)]), legend=legend),
            shape=alt.Shape("i:N", scale=alt.Scale(domain=places, range=shapes[: len(places)]), legend=legend),
            tooltip=_tips(alt, {"text": "text:N", "label": "label:N"}),
        )
    )
    return _finish(chart, names, "The vectors, projected on their two main components", 420)
