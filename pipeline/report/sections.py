"""The sections of the page, in its order: Facts → Section, a row each.

A section whose facts are missing is None and left out. To add one: a function, a row here, and a block
`pipeline/report/templates/<name>.html.j2`.
"""

from __future__ import annotations

from collections.abc import Callable

from . import origins, rows, scores
from .facts import Facts
from .section import Section

SECTIONS: dict[str, Callable[[Facts], Section | None]] = {
    "verdict": scores.verdict,
    "scores": scores.scores,
    "cost": scores.cost,
    "curve": scores.by_labels,
    "errors": rows.errors,
    "calibration": rows.calibration,
    "training": origins.training,
    "data": origins.data,
    "disagreements": rows.disagreements,
    "audit": rows.audit,
    "map": rows.vector_map,
    "made": origins.made,
}
