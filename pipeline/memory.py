"""The most memory that this process has held, since it began or since it was asked to forget."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

FORGET = Path("/proc/self/clear_refs")  # Linux: a 5 written here lets the peak start from what is held now


def forget_peak() -> None:
    """Let the peak start anew, so that a fit does not answer for what ran before it; does nothing outside Linux."""
    try:
        FORGET.write_text("5")
    except OSError:
        return


def peak_rss_mb() -> float:
    """The most memory held, in MB (10⁶ bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6  # bytes there, kibibytes elsewhere
