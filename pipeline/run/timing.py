"""What one text costs, measured alike for every contender: on the same texts, from string to answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..store import text_keys

LEAST, MOST, ALONE = 16, 1024, 8  # texts: those of a call, as many as it takes to be measured, and those of calls apart
GROWTH = 4  # of a call that is too short to be measured well
ENOUGH = 0.25  # seconds that a call must take to be measured well

Texts = Sequence[tuple[str, ...]]


def timed(call: Callable[[], Any], times: int = 5) -> float:
    """Median milliseconds of `call`."""
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        call()
        taken.append(1e3 * (time.perf_counter() - started))
    return float(np.median(taken))


def timing_sample(dataset: Any) -> list[tuple[str, ...]]:
    """Texts of a data set, drawn by their keys: the same ones however its rows are split, and for every contender."""
    texts = [text for role in dataset.roles for text in getattr(dataset, role).texts]
    _, first = np.unique(text_keys(texts), axis=0, return_index=True)
    return [texts[i] for i in first[:MOST]]


def milliseconds(answer: Callable[[Texts], Any], texts: Texts) -> tuple[float | None, float | None]:
    """What a text costs: in a call with many others, and (median) in a call of its own. None where there is no text."""
    if not texts:
        return None, None
    count = min(LEAST, len(texts))
    while (together := _warm(answer, texts[:count])) < 1e3 * ENOUGH and count < len(texts):
        count = min(GROWTH * count, len(texts))
    if together < 4e3 * ENOUGH:
        together = timed(lambda: answer(texts[:count]), 3)
    return together / count, float(np.median([_warm(answer, [text], 3) for text in texts[:ALONE]]))


def _warm(answer: Callable[[Texts], Any], texts: Texts, times: int = 1) -> float:
    """Milliseconds of a call that is not the first of its shape."""
    answer(texts)
    return timed(lambda: answer(texts), times)
