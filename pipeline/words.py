"""Numbers, durations and names as people read them: one way for each, for terminal, page, card and error."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import NamedTuple

MISSING = "–"  # a figure that was not measured


def printable(text: object) -> str:
    """Text that a terminal shows and does not obey: signs that cannot be printed become replacement characters."""
    return "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in str(text))


def encodable(text: str) -> str:
    """Text that UTF-8 can hold: half of a surrogate pair is no character and becomes '?'."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def one_line(text: str | Iterable[str], limit: int) -> str:
    """A stranger's text, or a pair, on one line of at most `limit` characters.

    What would steer a terminal or turn the direction of writing becomes a mark.
    """
    parts = [text] if isinstance(text, str) else list(text)
    joined = " ⏐ ".join(" ".join(part[: 4 * limit].split()) for part in parts)
    return shorten(printable(joined), limit)


def shorten(text: str, limit: int) -> str:
    """At most `limit` characters of `text`, with a mark where something was left out."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def listed(names: Iterable[object]) -> str:
    """`a, b, c`, as errors and tables show a list of names."""
    return ", ".join(map(str, names))


def spaced(name: object) -> str:
    """An identifier as words: `log_loss` is `log loss`."""
    return str(name).replace("_", " ")


def counted(count: int, thing: str) -> str:
    """`1 row`, `2,000 rows`."""
    return f"{count:,} {thing}" + ("" if count == 1 else "s")


def format_duration(seconds: float | None) -> str:
    """`< 0.1 s`, `0.4 s`, `45 s`, `12 min`, `3.1 h`; a dash for None."""
    if seconds is None:
        return MISSING
    if 0 < seconds < 0.05:
        return "< 0.1 s"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def roughly(seconds: float) -> str:
    """`about 4 s`, `about 3 min`: a duration that is expected, not measured."""
    return f"about {format_duration(max(1, round(seconds)))}".replace(".0 s", " s")


def format_p(p: float) -> str:
    """`p < 0.001`, `p = 0.012`, `p = 0.34`."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}" if p < 0.1 else f"p = {p:.2f}"


def format_change(value: float, decimals: int, sign: bool = False) -> str:
    """`5.3`, `+5.3` or `−5.3`: the minus is a real one, and nothing is `0.0` with a sign."""
    if round(value, decimals) == 0:
        return f"{0:.{decimals}f}"
    return f"{value:{'+' if sign else ''}.{decimals}f}".replace("-", "−")


def notebook_table(sentences: Sequence[str], rows: Sequence[Mapping[str, object]], link: object = None) -> str:
    """Sentences, a table of `rows` with their keys above, and a link, as HTML for a notebook."""
    from html import escape

    def line(cells: Iterable[object], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(str(cell))}</{tag}>" for cell in cells) + "</tr>"

    words = "".join(f"<p><strong>{escape(sentence)}</strong></p>\n" for sentence in sentences)
    body = "".join(line(row.values(), "td") for row in rows)
    table = f"<table><thead>{line(rows[0], 'th')}</thead>\n<tbody>{body}</tbody>\n</table>" if rows else ""
    return words + table + (f'<p><a href="{escape(str(link))}">{escape(str(link))}</a></p>' if link else "")


def error_line(error: BaseException, limit: int = 160) -> str:
    """What an error says, on one line: the system's words if a disk refuses, else its first line, else its name."""
    text = (getattr(error, "strerror", None) if isinstance(error, OSError) else None) or str(error)
    lines = (line.strip() for line in text.splitlines())
    return shorten(next(filter(None, lines), type(error).__name__), limit)


# ── an option of the command line as a function's keyword ───────────────────────────────────────────────────────────


class Keyword(NamedTuple):
    """What an option is called where it is an argument of a function."""

    name: str
    flag: bool | None = None  # what it says, if it takes no value
    values: Container[str] = ()  # words in small letters that may be its value


OPTION = re.compile(
    r"(?P<quote>'?)(?P<flag>--[A-Za-z][\w-]*)(?P=quote)"  # click quotes an option whose value it refuses
    r"(?: (?P<value>'[^']*'|(?!--)\S*[^\s.,;:)])(?P<last>(?=$|[.,;:)]| \(| (?P=flag)))?)?"  # the next word; at an end?
)
TWICE = re.compile(r"\b(\w+)=(\S*[^\s,]) \1=(\S+)")  # `--text a --text b`, not `--pooling last, --pooling mean`


def as_keywords(message: str, known: Mapping[str, Keyword]) -> str:
    """What the command line says, as a function says it: `--text body` is `text="body"`, `--no-cv` is `cv=False`.

    What is no option of `known` stays as it is.
    """

    def said(found: re.Match[str]) -> str:
        flag, value, last = found["flag"], found["value"], found["last"]
        if flag not in known:
            return found[0]
        name, says, values = known[flag]
        after = f" {value}" if value else ""
        if found["quote"]:
            return f"'{name}'{after}"
        if says is not None:
            return f"{name}={says}{after}"
        # a sentence goes on in small letters and ends otherwise
        is_value = value and (last is not None or not re.fullmatch("[a-z]+", value) or value in values)
        return f"{name}={literal(value)}" if is_value else f"{name}={after}"

    return TWICE.sub(r"\1=(\2, \3)", OPTION.sub(said, message))


def literal(word: str) -> str:
    """A word of the command line as Python writes it."""
    return word if re.fullmatch(r"'.*'|-?\d+(\.\d+)?(e-?\d+)?", word) else f'"{word}"'
