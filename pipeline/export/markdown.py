"""What people wrote - names of classes, of data sets - as Markdown shows it literally, whatever it holds."""

from __future__ import annotations

import html
import re
from typing import Any

SIGNS = re.compile(r"([\\`*_{}\[\]#|~!])")
BREAKS = re.compile(r"[\x00-\x1f\x7f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")


def safe(text: Any) -> str:
    """Text that is neither Markdown nor HTML, on one line; signs that reverse what is read are left out."""
    flat = " ".join(BREAKS.sub(" ", str(text)).split())
    return SIGNS.sub(r"\\\1", html.escape(flat, quote=False)) or "(empty)"


def code(value: Any) -> str:
    """What stands between backticks in a line or table: one line, no backtick and no bar; code is not escaped."""
    text = BREAKS.sub(" ", str(value)).replace("`", "ˋ").replace("|", "¦")
    return text.replace("<", "‹").replace(">", "›").strip() or " "
