"""How far a long call is: lines where nobody watches, bars in a notebook, and the time that is left."""

import io
import sys
from types import SimpleNamespace

import pytest
from rich.console import Console

from pipeline.show import bars


@pytest.fixture
def clock(monkeypatch):
    """The time now, as its only item."""
    now = [0.0]
    monkeypatch.setattr(bars.time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize(
    ("stage", "total", "told", "heard"),
    [
        (
            "extract",
            1000,
            ((0, 0), (5, 100), (16, 400), (20, 500), (32, 800), (60, 1000)),
            [
                "extract: 400 of 1,000 (40%), about 24 s left",
                "extract: 800 of 1,000 (80%), about 8 s left",
                "extract: 1,000 of 1,000 (100%)",
            ],
        ),
        (  # two trainings, one after the other: each counts its own time
            "fine-tune",
            100,
            ((0, 0), (1000, 100), (1000, 0), (1020, 2), (1040, 4)),
            [
                "fine-tune: 100 of 100 (100%)",
                "fine-tune: 2 of 100 (2%), about 16 min left",
                "fine-tune: 4 of 100 (4%), about 16 min left",
            ],
        ),
    ],
)
def test_progress_that_nobody_watches_speaks_now_and_then(stage, total, told, heard, clock):
    stream = io.StringIO()
    lines = bars.Lines(Console(file=stream, width=200))
    for clock[0], done in told:
        lines(stage, done, total)
    assert stream.getvalue().splitlines() == heard


def test_a_bar_of_the_next_training_begins_anew(monkeypatch):
    """On a terminal, where `rich` estimates what is left."""
    reset = []
    monkeypatch.delenv("JPY_PARENT_PID", raising=False)
    monkeypatch.setattr(bars, "Console", lambda **_: Console(file=io.StringIO(), force_terminal=True))
    monkeypatch.setattr(bars.Progress, "reset", lambda self, task, total: reset.append((task, total)))
    with bars.progress() as tell:
        for done in (0, 50, 100, 1, 2):
            tell("fine-tune", done, 100)
    assert reset == [(0, 100)]


def test_bars_in_a_notebook_are_drawn_in_one_place_and_gone_at_the_end(clock, monkeypatch):
    """Nothing for a call that is done within a second."""
    shown = []
    handle = SimpleNamespace(update=lambda bundle, raw: shown.append(bundle))

    def display(bundle, raw, display_id):
        shown.append(bundle)
        return handle

    monkeypatch.setattr(bars, "Console", lambda **_: SimpleNamespace(is_jupyter=True))
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display))
    with bars.progress() as tell:
        tell("fit <a>", 1, 4)
    assert shown == []
    with bars.progress() as tell:
        for second, done in ((0.5, 1), (1.5, 2), (1.6, 3), (2.0, 4)):
            clock[0] = second
            tell("fit <a>", done, 4)
        tell("extract", 7, None)
    texts = [bundle["text/plain"] for bundle in shown]
    assert texts == ["fit <a>: 2 of 4 (50%)", "fit <a>: 4 of 4 (100%)", ""]
    assert shown[0]["text/html"] == '<div>fit &lt;a&gt; <progress max="4" value="2"></progress> 2 of 4 (50%)</div>'
    assert shown[-1]["text/html"] == ""
