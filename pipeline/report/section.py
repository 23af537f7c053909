"""One section of the page."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .charts import Spec


@dataclass(frozen=True)
class Section:
    """What one block shows: `view` to its template, `charts` by the id of their place, `given` to its script."""

    title: str
    view: dict[str, Any] = field(default_factory=dict)
    charts: dict[str, Spec] = field(default_factory=dict)
    given: Any = None
    short: str = ""  # in the navigation
