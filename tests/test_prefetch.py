"""An iterator in a thread: the same items, the same error, and no thread left behind."""

import threading
import time

import pytest

from pipeline.extract.prefetch import prefetch


def test_the_same_items_in_the_same_order():
    assert list(prefetch(iter(range(1000)), 4)) == list(range(1000))
    assert list(prefetch([], 4)) == []


def test_it_runs_ahead_by_no_more_than_its_depth():
    made = []

    def items():
        for i in range(100):
            made.append(i)
            yield i

    line = prefetch(items(), 3)
    assert next(line) == 0
    deadline = time.monotonic() + 5
    while len(made) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert len(made) == 5  # one taken, three in line, one in hand
    line.close()


def test_an_error_comes_after_what_was_made_before_it():
    def items():
        yield 1
        yield 2
        raise ValueError("three")

    line = prefetch(items(), 8)
    assert [next(line), next(line)] == [1, 2]
    with pytest.raises(ValueError, match="three"):
        next(line)


def test_closing_stops_the_thread():
    def endless():
        while True:
            yield 0

    line = prefetch(endless(), 2)
    next(line)
    line.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "prefetch" and thread.is_alive()]
