"""An audit as a person reads it in a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..metrics import METRICS
from ..words import listed, one_line
from .parts import Text, spread, table

if TYPE_CHECKING:
    from ..audit import Audit, NearPair

ROWS, TEXT, CLASSES, LOSSES = 15, 110, 10, 5  # shown; with more classes, mistakes are listed instead


def audit_tables(audit: Audit) -> Iterator[Any]:
    """Confusion, losses, labels in doubt, repeats, and what rows are worth."""
    yield from spread((*_confusions(audit), *_losses(audit), *_doubted(audit), *_repeated(audit)))
    for dropped in audit.worth:
        yield Text(f"• {dropped.sentence}")
        for w in dropped.scores:
            worth = f"{w.worth:+.4f} [{w.low:+.4f}, {w.high:+.4f}]"
            yield Text(
                f"    {w.name}: {METRICS[audit.metric].label} {w.whole:.4f}, without them {w.rest:.4f}: worth {worth}"
            )
    for note in audit.notes:
        yield Text(note, style="dim")


def _confusions(audit: Audit) -> Iterator[Any]:
    """The best contender's confusion, or its mistakes where classes are many, and what differs between two."""
    best, k = audit.confusions[0], len(audit.class_names)
    names = [one_line(name, 30) for name in audit.class_names]
    if k <= CLASSES:
        title = f"{best.name} on {audit.judged:,} rows of '{audit.split}': rows of each true class by what was said"
        rows = [
            [names[i], *(f"{n:,} ({share:.0%})" for n, share in zip(counts, best.shares[i], strict=True))]
            for i, counts in enumerate(best.counts.tolist())
        ]
        yield table(title, ["true ↓ said →", *names], rows, right=names)
    else:
        wrong = best.counts * (1 - np.eye(k, dtype=np.int64))
        order = np.argsort(-wrong, axis=None, kind="stable")[:ROWS].tolist()
        places = [divmod(place, k) for place in order]
        rows = [[names[i], names[j], f"{wrong[i, j]:,}"] for i, j in places if wrong[i, j]]
        yield table(f"most frequent mistakes of {best.name}", ("true", "said", "rows"), rows, right=("rows",))
    if (b := audit.between) is not None:
        yield Text(
            f"{b.a} and {b.b} say different things of {b.differ:,} rows: {b.only_a:,} only {b.a} gets right, "
            f"{b.only_b:,} only {b.b}; both are right on {b.both_right:,}, both wrong on {b.both_wrong:,}."
        )


def _losses(audit: Audit) -> Iterator[Any]:
    """Rows that the best contender gets most wrong, and most right."""
    name = audit.contenders[0]
    for which, extremes in audit.losses[name].items():
        rows = [
            [
                r["row_id"],
                f"{r['loss']:.3f}",
                one_line(r["label"], 24),
                one_line(r["said"], 24),
                one_line(r["text"], TEXT),
            ]
            for r in extremes[:LOSSES]
        ]
        if rows:
            yield table(f"{which} loss of {name}", ("row", "loss", "label", "said", "text"), rows)


def _doubted(audit: Audit) -> Iterator[Any]:
    title = f"labels in doubt: {audit.confident:,} probably wrong, {len(audit.rows) - audit.confident:,} doubtful"
    rows = [
        [r.row_id, one_line(r.label, 24), one_line(r.suggested, 24), f"{r.score:.3f}", r.kind, one_line(r.text, TEXT)]
        for r in audit.rows[:ROWS]
    ]
    yield table(title, ("row", "label", "suggested", "score", "kind", "text"), rows)
    yield Text("\n".join(expected.sentence(split) for split, expected in audit.expected.items()))
    heard = [
        f"{split}: {listed(f'{name} {w:.2f}' for name, w in weights.items())}"
        for split, weights in audit.speakers.items()
    ]
    yield Text(f"who speaks of them, and how much it counts: {'; '.join(heard)}", style="dim")


def _repeated(audit: Audit) -> Iterator[Any]:
    near = [f"near (cosine ≥ {audit.near_threshold:g})"] if audit.near else []
    rows = [
        [pair, f"{count:,}", *([f"{audit.near.get(pair, 0):,}"] if near else [])] for pair, count in audit.exact.items()
    ]
    counts = ("exact", *near)
    yield table("repeated texts", ("rows of the second in the first", *counts), rows, right=counts)
    some = [
        [f"{p.cosine:.3f}", p.label, p.other_label, one_line(p.text, 60), one_line(p.other_text, 60)]
        for p in apart(audit)
    ]
    if some:
        header = ("cosine", "label", "other", "text", "near-repeat")
        yield table("nearest pairs with different labels", header, some)


def apart(audit: Audit) -> list[NearPair]:
    """The nearest pairs whose labels differ: one of the two is likely wrong."""
    return [pair for pair in audit.near_pairs if pair.label != pair.other_label][:LOSSES]
