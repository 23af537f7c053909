"""A profile as a person reads it in a terminal: findings first, then bars, boxes and numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from .. import one_line

BAR, BOX, NAME, CLASSES, TEXT = 30, 44, 30, 40, 110  # characters, but for CLASSES: classes that are drawn
FULL, PART, THIN, THICK, MIDDLE = "█", "▏▎▍▌▋▊▉", "─", "█", "┃"

Facts = Mapping[str, Any]


def tables(facts: Facts) -> Iterator[Any]:
    """Everything that `explore` prints of Profile.to_json()."""
    for finding in facts["findings"]:
        yield Text(f"• {one_line(finding, 2000)}")
    if facts["findings"]:
        yield Text()
    yield from _classes(facts)
    yield from _boxes(facts)
    yield from _numbers(facts)
    yield from _tokens(facts)


def bar(share: float, width: int = BAR) -> str:
    """A bar of `share` (0 to 1) of `width` characters, to an eighth of one; never empty above 0."""
    eighths = max(round(share * width * 8), 1 if share > 0 else 0)
    full, rest = divmod(eighths, 8)
    return FULL * full + (PART[rest - 1] if rest else "")


def box(at: Mapping[str, float], largest: float, width: int = BOX) -> str:
    """A box plot in one line of `width` characters: whiskers to min and max, box from p25 to p75, p50 inside."""

    def place(value: float) -> int:
        return round(value / max(largest, 1e-9) * (width - 1))

    line = [" "] * width
    for start, end, mark in (("min", "max", THIN), ("p25", "p75", THICK)):
        for i in range(place(at[start]), place(at[end]) + 1):
            line[i] = mark
    line[place(at["p50"])] = MIDDLE
    return "".join(line).rstrip()


def _table(title: str, header: Sequence[str], right: Sequence[int] = ()) -> tuple[Text, Table]:
    table = Table(box=None, pad_edge=False)
    for i, name in enumerate(header):
        table.add_column(Text(name), justify="right" if i in right else "left", no_wrap=True)
    return Text(title, style="italic"), table


def _classes(facts: Facts) -> Iterator[Any]:
    """Rows of each class in each split, and a bar for the split with the most."""
    splits = facts["splits"]
    largest = max(splits, key=lambda name: splits[name]["rows"])
    totals = {name: None for split in splits.values() for name in split["classes"]}
    names = sorted(totals, key=lambda name: -splits[largest]["classes"].get(name, 0))
    if not names:
        return
    more = f", the {CLASSES} largest of {len(names)}" if len(names) > CLASSES else ""
    header = [
        "class",
        *(f"{one_line(name, 20)} ({split['rows']:,})" for name, split in splits.items()),
        f"of {largest}",
    ]
    title, table = _table(f"classes{more}", header, range(1, len(splits) + 1))
    most = max(splits[largest]["classes"].values(), default=1) or 1
    for name in names[:CLASSES]:
        counts = [split["classes"].get(name, 0) for split in splits.values()]
        cells = [f"{n:,} ({n / max(split['rows'], 1):.0%})" for n, split in zip(counts, splits.values(), strict=True)]
        drawn = bar(splits[largest]["classes"].get(name, 0) / most)
        table.add_row(Text(one_line(name, NAME)), *cells, Text(drawn, style="blue"))
    yield title
    yield table
    yield Text()


def _boxes(facts: Facts) -> Iterator[Any]:
    """Tokens of the texts of each class as box plots."""
    lengths = facts["tokens_by_class"]
    if not lengths:
        return
    largest = max(at["max"] for at in lengths.values())
    title, table = _table(
        "tokens by class: smallest ─ quartiles █ median ┃ largest", ["class", f"0 … {largest:,.0f}", "median"], (2,)
    )
    for name, at in list(lengths.items())[:CLASSES]:
        table.add_row(Text(one_line(name, NAME)), Text(box(at, largest)), f"{at['p50']:,.0f}")
    yield title
    yield table
    yield Text()


def _numbers(facts: Facts) -> Iterator[Any]:
    """Single numbers, a line each."""
    leaks = ", ".join(f"{one_line(pair, 60)} {count:,}" for pair, count in facts["leaks"].items() if count) or "none"
    cut = ", ".join(f"{length}: {share:.1%}" for length, share in facts["cut_at"].items())
    rows = [
        ("tokens a text", ", ".join(f"{key} {value:,.0f}" for key, value in facts["tokens"].items())),
        ("proposed --max-length", f"{facts['max_length']} (99 % of the texts fit, up to a multiple of 8)"),
        ("cut at max_length", cut),
        ("cut at the one in use", f"{facts['truncated_share']:.1%} at {facts['effective_max_length']}"),
        ("empty", f"{facts['empty']:,}"),
        ("repeated", f"{facts['duplicates']:,}; {facts['conflicting']:,} texts have more than one label"),
        ("leaks", leaks),
        ("sorted by label", "yes" if facts["sorted_by_label"] else "no"),
        ("unknown to the tokenizer", _unknown(facts)),
    ]
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, Text(value))
    yield table


def _unknown(facts: Facts) -> str:
    words, shares = facts["unknown_words"], facts["unknown_by_class"]
    if words is None:
        return "nothing: it can spell every text"
    named = ", ".join(f"{one_line(word, 20)} ({count:,})" for word, count in list(words.items())[:8])
    most = max((shares or {}).values(), default=0.0)
    return f"{named} (at most {most:.2%} of the tokens of a class)" if named else "no word"


def _tokens(facts: Facts) -> Iterator[Any]:
    """The tokens of a few rows."""
    for row in facts["shown_tokens"]:
        yield Text()
        yield Text(f"{row['row_id']}: {one_line(row['text'], TEXT)}", style="dim")
        yield Text(" · ".join(one_line(token, NAME) for token in row["tokens"]))
