"""An iterator in a thread: the same items, the same error, and no thread left behind."""

import threading

import pytest

from pipeline.extract.prefetch import prefetch


def test_the_same_items_in_the_same_order():
    assert list(prefetch(iter(range(1000)), 4)) == list(range(1000))
    assert list(prefetch([], 4)) == []


def test_it_runs_ahead_by_no_more_than_its_depth():
    changed, taken, ahead = threading.Condition(), 0, []

    def items():
        for i in range(100):
            with changed:
                ahead.append(i + 1 - taken)
                changed.notify()
            yield i

    for number, item in enumerate(prefetch(items(), 3)):
        with changed:
            assert item == number
            taken += 1
            assert changed.wait_for(lambda n=number: len(ahead) >= min(n + 5, 100), 30)  # three in line, one in hand
    assert max(ahead) <= 5  # and the one that is being taken


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
    (thread,) = (thread for thread in threading.enumerate() if thread.name == "prefetch")
    line.close()
    thread.join(30)
    assert not thread.is_alive()
