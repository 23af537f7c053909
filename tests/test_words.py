"""Numbers, durations and names as people read them."""

import errno

import pytest

from pipeline.words import (
    counted,
    error_line,
    format_change,
    format_duration,
    format_p,
    notebook_table,
    one_line,
    printable,
    roughly,
    shorten,
)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),
        (0.0, "0.0 s"),
        (0.03, "< 0.1 s"),
        (0.07, "0.1 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (119.4, "119 s"),
        (120, "2 min"),
        (7140, "119 min"),
        (7200, "2.0 h"),
    ],
)
def test_a_duration_is_said_one_way(seconds, text):
    assert format_duration(seconds) == text


def test_an_expected_duration_claims_no_tenths():
    assert [roughly(s) for s in (0.2, 4.4, 59.6, 600.0)] == ["about 1 s", "about 4 s", "about 60 s", "about 10 min"]


def test_p_and_change():
    assert [format_p(p) for p in (0.0004, 0.0123, 0.34)] == ["p < 0.001", "p = 0.012", "p = 0.34"]
    assert [format_change(v, 1, True) for v in (5.31, -5.31, -0.04)] == ["+5.3", "−5.3", "0.0"]


def test_texts_are_cut_counted_and_shown_not_obeyed():
    assert [shorten("abcdef", 6), shorten("abcdef", 4)] == ["abcdef", "abc…"]
    assert [counted(1, "row"), counted(2000, "row")] == ["1 row", "2,000 rows"]
    assert printable("a\x1b[2Jb\nc") == "a\ufffd[2Jb\nc"
    assert one_line(("a\n b", "c\u202ed"), 20) == "a b ⏐ c\ufffdd"


def test_an_error_says_one_line():
    assert error_line(OSError(errno.ENOSPC, "No space left on device", "/x")) == "No space left on device"
    assert error_line(OSError("\n  cannot reach\nmore")) == "cannot reach"
    assert error_line(ValueError()) == "ValueError"
    assert error_line(ValueError("x" * 300), 10) == "x" * 9 + "…"


def test_a_table_for_a_notebook_is_text_not_html():
    rows = [{"<i>": "<b>", "n": 1}, {"<i>": "c", "n": 2}]
    html = notebook_table(["a < b"], rows, 'x".html')
    assert html == (
        "<p><strong>a &lt; b</strong></p>\n<table><thead><tr><th>&lt;i&gt;</th><th>n</th></tr></thead>\n<tbody>"
        "<tr><td>&lt;b&gt;</td><td>1</td></tr><tr><td>c</td><td>2</td></tr></tbody>\n</table>"
        '<p><a href="x&quot;.html">x&quot;.html</a></p>'
    )
    assert notebook_table([], []) == ""
