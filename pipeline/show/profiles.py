"""A profile as a person reads it in a terminal: findings first, then bars, boxes and numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..words import listed, one_line
from .parts import Cell, Text, facts, spread, table

if TYPE_CHECKING:
    from ..explore import Profile

BAR, BOX, NAME, CLASSES, TEXT = 30, 44, 30, 40, 110  # characters, but for CLASSES: classes that are drawn
FULL, PART, THIN, THICK, MIDDLE = "█", "▏▎▍▌▋▊▉", "─", "█", "┃"

Known = Mapping[str, Any]  # Profile.to_json()


def profile_tables(profile: Profile) -> Iterator[Any]:
    """Everything that `explore` prints."""
    known = profile.to_json()
    for finding in known["findings"]:
        yield Text(f"• {one_line(finding, 2000)}")
    if known["findings"]:
        yield Text()
    yield from spread((*_classes(known), *_boxes(known)))
    yield _numbers(known)
    for row in known["shown_tokens"]:
        yield Text()
        yield Text(f"{row['row_id']}: {one_line(row['text'], TEXT)}", style="dim")
        yield Text(" · ".join(one_line(token, NAME) for token in row["tokens"]))


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


def _classes(known: Known) -> Iterator[Any]:
    """Rows of each class in each split, and a bar for the split with the most."""
    splits = known["splits"]
    largest = max(splits, key=lambda name: splits[name]["rows"])
    names = sorted(
        {name: None for split in splits.values() for name in split["classes"]},
        key=lambda name: -splits[largest]["classes"].get(name, 0),
    )
    if not names:
        return
    more = f", the {CLASSES} largest of {len(names)}" if len(names) > CLASSES else ""
    counted = [f"{one_line(name, 20)} ({split['rows']:,})" for name, split in splits.items()]
    most = max(splits[largest]["classes"].values(), default=1) or 1
    rows: list[list[Cell]] = []
    for name in names[:CLASSES]:
        counts = [split["classes"].get(name, 0) for split in splits.values()]
        cells = [f"{n:,} ({n / max(split['rows'], 1):.0%})" for n, split in zip(counts, splits.values(), strict=True)]
        drawn = bar(splits[largest]["classes"].get(name, 0) / most)
        rows.append([one_line(name, NAME), *cells, Text(drawn, style="blue")])
    yield table(f"classes{more}", ["class", *counted, f"of {largest}"], rows, right=counted, wrap=False)


def _boxes(known: Known) -> Iterator[Any]:
    """Tokens of the texts of each class as box plots."""
    lengths = known["tokens_by_class"]
    if not lengths:
        return
    largest = max(at["max"] for at in lengths.values())
    rows = [
        (one_line(name, NAME), box(at, largest), f"{at['p50']:,.0f}") for name, at in list(lengths.items())[:CLASSES]
    ]
    columns = ("class", f"0 … {largest:,.0f}", "median")
    title = "tokens by class: smallest ─ quartiles █ median ┃ largest"
    yield table(title, columns, rows, right=("median",), wrap=False)


def _numbers(known: Known) -> Any:
    """Single numbers, a line each."""
    leaks = listed(f"{one_line(pair, 60)} {count:,}" for pair, count in known["leaks"].items() if count) or "none"
    return facts(
        None,
        [
            ("tokens a text", listed(f"{key} {value:,.0f}" for key, value in known["tokens"].items())),
            ("proposed --max-length", f"{known['max_length']} (99 % of the texts fit, up to a multiple of 8)"),
            ("cut at max_length", listed(f"{length}: {share:.1%}" for length, share in known["cut_at"].items())),
            ("cut at the one in use", f"{known['truncated_share']:.1%} at {known['effective_max_length']}"),
            ("empty", f"{known['empty']:,}"),
            ("repeated", f"{known['duplicates']:,}; {known['conflicting']:,} texts have more than one label"),
            ("leaks", leaks),
            ("sorted by label", "yes" if known["sorted_by_label"] else "no"),
            ("unknown to the tokenizer", _unknown(known)),
        ],
    )


def _unknown(known: Known) -> str:
    words, shares = known["unknown_words"], known["unknown_by_class"]
    if words is None:
        return "nothing: it can spell every text"
    named = listed(f"{one_line(word, 20)} ({count:,})" for word, count in list(words.items())[:8])
    most = max((shares or {}).values(), default=0.0)
    return f"{named} (at most {most:.2%} of the tokens of a class)" if named else "no word"
