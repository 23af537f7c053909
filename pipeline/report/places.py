"""Where the names of dots stand, so that none lies on another, on a phone and on a wide screen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

WIDTH, HEIGHT, BESIDE = 290, 320, 40  # pixels of a drawing on a phone, free room at both ends; wider, names move apart
LETTER, LINE, DOT, LIMIT = 6.5, 7, 6, 130  # pixels: a letter's width, half a line, half a dot, the longest name
LEAST = 4.0  # between the ends of a logarithmic axis, so that one of 1, 2 and 5 lies on it


class Side(NamedTuple):
    """Of a dot: pixels to a name's start or end, pixels down to its middle."""

    dx: int
    dy: int

    @property
    def align(self) -> str:
        return "left" if self.dx > 0 else "right"


class Box(NamedTuple):
    left: float
    top: float
    right: float
    bottom: float

    def on(self, other: Box) -> bool:
        """Whether they overlap."""
        across = self.left < other.right and other.left < self.right
        return across and self.top < other.bottom and other.top < self.bottom


SIDES = [Side(dx, dy) for dy in (-9, 12, -23, 26) for dx in (9, -9)]


def log_ends(values: Sequence[float]) -> list[float]:
    """Both ends of a logarithmic axis for `values` > 0."""
    low, high = min(values), max(values)
    more = math.sqrt(max(1.0, LEAST * low / high))
    return [low / more, high * more]


def log_digits(values: Sequence[float]) -> list[int]:
    """First digits of the numbers that a phone has room for on such an axis."""
    decades = math.log10(max(values) / min(values))
    return [1, 2, 5] if decades <= 2 else [1, 3] if decades <= 4 else [1]


def sides(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> list[Side]:
    """The side of each dot at which its name lies on the least: names, then the edge, dots, intervals.

    `rows`: `i` (place in `names`), `cost` (> 0), `value`, `low`, `high`, `strong` (0 or 1: it chooses first).
    """
    first, last = (math.log(end) for end in log_ends([row["cost"] for row in rows]))
    bottom: float = min(row["low"] for row in rows)
    top: float = max(row["high"] for row in rows)

    def right(row: dict[str, Any]) -> float:
        return BESIDE + (WIDTH - 2 * BESIDE) * (math.log(row["cost"]) - first) / (last - first)

    def down(value: float) -> float:
        return HEIGHT * 0.9 * (top - value) / (top - bottom or 1)

    dots = [(right(row), down(row["value"])) for row in rows]
    spots = [Box(x - DOT, y - DOT, x + DOT, y + DOT) for x, y in dots]
    lines = [Box(right(row) - 1, down(row["high"]), right(row) + 1, down(row["low"])) for row in rows]
    taken: dict[int, tuple[Side, Box]] = {}

    def weight(at: int, box: Box) -> int:
        on_names = sum(box.on(other) for _, other in taken.values())
        on_dots = sum(box.on(spot) for place, spot in enumerate(spots) if place != at)
        on_lines = sum(box.on(line) for place, line in enumerate(lines) if place != at)
        outside = box.left < 0 or box.right > WIDTH
        return 1000 * on_names + 100 * outside + 10 * on_dots + on_lines

    for at in sorted(range(len(rows)), key=lambda at: (-rows[at]["strong"], -rows[at]["value"])):
        (x, y), wide = dots[at], min(LIMIT, LETTER * len(names[rows[at]["i"]]))
        boxes = [(side, _name_box(x + side.dx, y + side.dy, wide * (1 if side.dx > 0 else -1))) for side in SIDES]
        taken[at] = min(boxes, key=lambda candidate: weight(at, candidate[1]))
    return [taken[at][0] for at in range(len(rows))]


def _name_box(x: float, y: float, wide: float) -> Box:
    return Box(min(x, x + wide), y - LINE, max(x, x + wide), y + LINE)
