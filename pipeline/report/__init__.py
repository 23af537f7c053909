"""Comparison, runs, profile → one self-contained HTML page.

`facts` joins what is known, `sections` says what each section shows, `charts` draws, `page` writes it as HTML that
asks the network for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.files import disk_errors, publish
from pipeline.report.facts import collect
from pipeline.report.page import render
from pipeline.run import Run

if TYPE_CHECKING:
    from pipeline.data import Dataset
    from pipeline.explore import Profile
    from pipeline.verdict import Comparison

__all__ = ["write_report"]


def write_report(
    path: Path,
    comparison: Comparison,
    runs: Sequence[Run],
    profile: Profile | None = None,
    dataset: Dataset | None = None,
    vectors: Mapping[str, np.ndarray] | np.ndarray | None = None,
    curve: Any = None,
    audit: Any = None,
    command: str = "",
    machine: Mapping[str, Any] | None = None,
) -> Path:
    """Write the page to `path` in one rename.

    `runs` are those of the comparison, others are ignored; `dataset` gives the texts of the judged split; `vectors`,
    (n, d) or several of them by pooling, are that split's rows in its own order.

    Raises UserError if the file cannot be written.
    """
    path = Path(path)
    facts = collect(comparison, runs, profile, dataset, vectors, curve, audit, command, machine)
    page = render(facts)
    with disk_errors(path, "cannot write the page", "choose another place"):
        path.parent.mkdir(parents=True, exist_ok=True)
        publish(path, page)
    return path
