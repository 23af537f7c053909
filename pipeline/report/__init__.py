"""Comparison, runs, profile → one self-contained HTML page.

`facts` joins what is known, `sections` lists what each section shows, `charts` draws, `page` writes it as HTML that
asks the network for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..files import disk_errors, publish
from ..run import Run
from .facts import NOTHING, Material, collect
from .page import render

if TYPE_CHECKING:
    from ..verdict import Comparison

__all__ = ["Material", "write_report"]


def write_report(path: Path, comparison: Comparison, runs: Sequence[Run], material: Material = NOTHING) -> Path:
    """Write the page to `path` in one rename. `runs` are those of the comparison, others are ignored.

    Raises UserError if the file cannot be written.
    """
    path = Path(path)
    page = render(collect(comparison, runs, material))
    with disk_errors(path, "cannot write the page", "choose another place"):
        path.parent.mkdir(parents=True, exist_ok=True)
        publish(path, page)
    return path
