"""What the page shows of an audit."""

from __future__ import annotations

from typing import Any

from ..audit import Audit
from ..words import shorten

ROWS, TEXT = 400, 400  # rows of a table, characters of a text: what keeps the page small


def summary(audit: Audit) -> dict[str, Any]:
    """For the section's template."""
    lines = [dropped.sentence for dropped in audit.worth]
    repeats = {"repeat": audit.exact, "nearly repeat": audit.near}
    for verb, counts in repeats.items():
        across = {pair: n for pair, n in counts.items() if n and pair.split("/")[0] != pair.split("/")[1]}
        within = {pair.split("/")[0]: n for pair, n in counts.items() if n and pair.split("/")[0] == pair.split("/")[1]}
        if across or within:
            counted = [f"{n:,} rows of {pair.split('/')[1]} one of {pair.split('/')[0]}" for pair, n in across.items()]
            counted += [f"{n:,} rows of {name} another one of it" for name, n in within.items()]
            lines.append(f"Texts that {verb} others: {', '.join(counted)}.")
    return {
        "lines": [*lines, *audit.notes],
        "worth": [(d.what, d.rows, w) for d in audit.worth for w in d.scores],
        "metric": audit.metric,
        "expected": [expected.sentence(split) for split, expected in audit.expected.items()],
        "doubted": len(audit.rows),
        "shown": min(len(audit.rows), ROWS),
        "pairs": len(audit.near_pairs),
        "threshold": f"{audit.near_threshold:g}",
        "losses": bool(audit.losses),
    }


def parts(text: Any) -> list[str]:
    """A text as the page's script takes it: its strings, cut."""
    return [shorten(part, TEXT) for part in ([text] if isinstance(text, str) else text)]


def place(split: str, row_id: str) -> str:
    """`test:17`, or `test all:17` where the source's split is called otherwise."""
    return row_id if row_id.startswith(f"{split}:") else f"{split} {row_id}"


def tables(audit: Audit) -> dict[str, Any]:
    """For the page's script: three tables that can be searched, sorted and exported."""
    return {
        "rows": [
            [r.row_id, r.split, parts(r.text), r.label, r.suggested, round(r.score, 3), r.kind, r.says_so]
            for r in audit.rows[:ROWS]
        ],
        "near": [
            [
                p.cosine,
                *(place(p.split, p.row_id), parts(p.text), p.label),
                *(place(p.other_split, p.other_id), parts(p.other_text), p.other_label),
                int(p.split != p.other_split),
            ]
            for p in audit.near_pairs[:ROWS]
        ],
        "losses": [
            [name, which, r["row_id"], parts(r["text"]), r["label"], r["said"], round(r["loss"], 3)]
            for name, both in audit.losses.items()
            for which, rows in both.items()
            for r in rows[: ROWS // (2 * max(1, len(audit.losses)))]
        ],
    }
