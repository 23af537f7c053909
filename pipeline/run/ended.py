"""What a run says of a training that was ended before its last step."""

from __future__ import annotations

from typing import Any

from ..metrics import change, unit
from .record import Run

STOP, ENDED = "stop_hopeless", "ended"  # a setting that such runs alone have; why, among what was chosen


def ended(run: Run) -> dict[str, Any] | None:
    """Why its training was ended; None if it went to its end."""
    return (run.settings.get("chosen") or {}).get(ENDED)


def in_words(why: dict[str, Any]) -> str:
    """`ended after 67 % of its steps as hopeless: on validation it was 0.4 points behind lr, and would hardly …`."""
    metric, ahead = why["metric"], why["ahead"]
    gap = f"{change(metric, abs(ahead))}{unit(metric)} {'ahead of' if ahead > 0 else 'behind'} {why['against']}"
    return (
        f"ended after {100 * why['share']:.0f} % of its steps as hopeless: on validation it was {gap} and would hardly "
        f"pass it by more than {change(metric, why['margin'])}{unit(metric)}"
    )
