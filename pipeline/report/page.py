"""Facts → the page's bytes.

One block `pipeline/report/templates/<name>.html.j2` shows each section. What people wrote (texts, names of classes,
paths) goes through Jinja's escaping, or through JSON into `textContent`, never into markup; a content security policy
allows this page's script and style by their digests, and no request at all.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ..metrics import METRICS, bare, change, unit
from ..words import MISSING, format_duration, format_p, spaced
from .facts import Facts, metric_name, plain
from .section import Section
from .sections import SECTIONS

TEMPLATES = Path(__file__).parent / "templates"
VENDOR = Path(__file__).parent / "vendor"


def render(facts: Facts) -> bytes:
    """The page, as UTF-8."""
    sections = {name: section for name, make in SECTIONS.items() if (section := make(facts)) is not None}
    style, script = ((TEMPLATES / name).read_text("utf-8") for name in ("report.css", "report.js"))
    page = (
        environment()
        .get_template("report.html.j2")
        .render(
            facts=facts,
            c=facts.comparison,
            sections=sections,
            style=style,
            scripts=[bundle(), script],
            given=embedded(given(sections)),
            policy=policy([style], [bundle(), script]),
        )
    )
    return str(page).encode("utf-8", "replace")  # a lone surrogate has no bytes


def environment() -> Any:
    """Jinja with everything escaped, and numbers written as the verdict writes them."""
    import jinja2

    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["metrics"] = METRICS
    made.filters |= {
        "amount": amount,
        "change": lambda value, metric: change(metric, value, True),
        "figure": figure,
        "heading": heading,
        "margin": lambda value, metric: change(metric, value) + unit(metric),
        "metric": metric_name,
        "p": format_p,
        "score": score,
        "seconds": format_duration,
        "unit": lambda metric: f",{unit(metric)}" if unit(metric) else "",
        "words": spaced,
    }
    return made


def given(sections: Mapping[str, Section]) -> dict[str, Any]:
    """What the page's script works with: every chart by its place, and what sections hand to it."""
    drawn = {place: spec for section in sections.values() for place, spec in section.charts.items()}
    return {"charts": drawn} | {name: s.given for name, s in sections.items() if s.given is not None}


@lru_cache(maxsize=1)
def bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script."""
    parts = [(VENDOR / f"{name}.min.js").read_text("utf-8").strip() for name in ("vega", "vega-lite", "vega-embed")]
    script = "\n;".join(parts)
    assert "</script" not in script.lower(), "it would end its own element"
    return script


def policy(styles: Sequence[str], scripts: Sequence[str]) -> str:
    """Content security policy that allows exactly these inline parts, and no request."""
    parts = {"style-src": styles, "script-src": scripts}
    allowed = [f"{kind} {' '.join(map(source, texts))}" for kind, texts in parts.items()]
    return "; ".join(["default-src 'none'", *allowed, "img-src data:", "base-uri 'none'", "form-action 'none'"])


def source(text: str) -> str:
    """How a policy names an inline script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def embedded(value: Any) -> str:
    """JSON that neither ends a script element nor opens one."""
    text = json.dumps(plain(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


# ── numbers ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def heading(metric: str) -> str:
    """The name over a column of `score`s."""
    return metric_name(metric) + (", %" if METRICS[metric].percent else "")


def score(value: float | None, metric: str) -> str:
    """`93.3`, in per cent, or `0.214` for a loss."""
    if value is None or not np.isfinite(value):
        return MISSING
    return bare(metric, value)


def figure(value: Any) -> str:
    """A number of a training history."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return MISSING if value is None else str(value)


def amount(value: float | None) -> str:
    """A cost with about three figures: 0.42, 1.34, 56.1, 1,234, 66.4 M."""
    if value is None or not np.isfinite(value):
        return MISSING
    if value >= 1e6:
        return f"{value / 1e6:,.1f} M"
    if value >= 100:
        return f"{value:,.0f}"
    if value >= 0.1:
        return f"{value:.{1 if value >= 10 else 2}f}"
    return f"{value:.2g}"
