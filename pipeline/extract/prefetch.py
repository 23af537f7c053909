"""An iterator that runs ahead of its consumer, in a separate thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable
from typing import Any, TypeVar

Item = TypeVar("Item")
END = object()


def prefetch(items: Iterable[Item], depth: int) -> Generator[Item, None, None]:
    """The same items in the same order, at most `depth` of them made before they are requested.

    An error in `items` is raised here, after what came before it. Closing this generator stops the thread at the next
    item.
    """
    line: queue.Queue[Any] = queue.Queue(depth)
    stop = threading.Event()

    def hand(item: Any) -> bool:
        while not stop.is_set():
            try:
                line.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for item in items:
                if not hand((item, None)):
                    return
            hand((END, None))
        except BaseException as error:
            hand((END, error))

    thread = threading.Thread(target=work, daemon=True, name="prefetch")
    thread.start()
    try:
        while True:
            item, error = line.get()
            if error is not None:
                raise error
            if item is END:
                return
            yield item
    finally:
        stop.set()
        thread.join(1)  # it may be in the middle of something long, and dies with the process
