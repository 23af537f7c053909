"""Is the export what the run is? Texts go through both, and the largest difference is said."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from .. import UserError
from ..data import SourceOptions, read_chunks, samples
from ..kinds import kind_row
from ..metrics import decide
from ..predict.texts import texts_a_row
from ..run import Run

COUNT = 200
TOLERANCE = 1e-4  # of a probability: rounding of float32 stays below a tenth of it, anything wrong goes far beyond
HARD = ("", "?!", "Ünïcode 日本 🙂", "on and on " * 3000)  # empty, no word, no ASCII, longer than any encoder reads

Texts = Sequence[tuple[str, ...]]


@dataclass(frozen=True)
class Checked:
    """How near an export is to its run, on the texts that both were asked about."""

    texts: int
    source: str  # what the texts were
    difference: float  # largest, of any probability of any text
    same_labels: int  # texts with the same label


def texts_for(run: Run, source: SourceOptions | None) -> tuple[list[tuple[str, ...]], str]:
    """Texts to compare on, and where they are from: 200 of the run's own test rows in `source`, or in the bundled data
    set if that is its own, else the first there; and a few hard ones.

    Raises UserError if the source cannot be read, or if its rows have another number of texts than the run's.
    """
    parts, bundled = texts_a_row(run), run.dataset in samples()
    options = source or SourceOptions(run.dataset if bundled else next(iter(samples())))
    texts = _texts(options, run) if source is not None or bundled else []
    if source is None and not (texts and len(texts[0]) == parts):
        texts = _texts(options, None, COUNT * parts)
        if parts == 2:
            texts = [(a[0], b[0]) for a, b in zip(texts[::2], texts[1::2], strict=True)]
    elif texts and kind_row(run.kind).family != "constant" and len(texts[0]) != parts:
        raise UserError(f"{options.source}: {len(texts[0])} texts a row where the run reads {parts}; pass --text")
    parts = len(texts[0]) if texts else parts
    return [*texts, *((text,) * parts for text in HARD)], options.source


def _texts(options: SourceOptions, run: Run | None, count: int = COUNT) -> list[tuple[str, ...]]:
    """The first `count` texts of the run's own test split in a source; without a run, or where none is, its first."""
    wanted = set(run.predictions["test"].row_ids.tolist()) if run is not None and "test" in run.predictions else set()

    def rows() -> Iterator[tuple[str, tuple[str, ...]]]:
        for chunk in read_chunks(options, rows=COUNT):
            yield from zip(chunk.row_ids.tolist(), chunk.texts, strict=True)

    own_rows = islice((text for row_id, text in rows() if row_id in wanted), count)
    return (list(own_rows) if wanted else []) or [text for _, text in islice(rows(), count)]


def check(
    run: Run, reference: Callable[[Texts], np.ndarray], exported: Callable[[Texts], np.ndarray], texts: Texts, name: str
) -> Checked:
    """Compare probabilities (n, k) of run and export.

    Raises UserError if they are further apart than float32 rounds.
    """
    expected, other = np.asarray(reference(texts), np.float64), np.asarray(exported(texts), np.float64)
    if expected.shape != other.shape or not np.isfinite(other).all():
        raise UserError(f"the export answers {other.shape} where the run answers {expected.shape}; nothing was written")
    difference = float(np.abs(expected - other).max())
    same = int((decide(expected, run.threshold) == decide(other, run.threshold)).sum())
    if difference > TOLERANCE:
        raise UserError(
            f"the export differs from the run by up to {difference:.1e} in a probability (allowed: {TOLERANCE:.0e}); "
            "nothing was written; pass --format onnx or joblib"
        )
    return Checked(len(texts), name, difference, same)


def reference_of(run: Run, runtime: Any, cache: Path, encoder: str | None) -> Callable[[Texts], np.ndarray]:
    """texts → probabilities (n, k) of the run itself, computed in float32."""
    from ..predict import open_run

    return open_run(run, runtime, cache, encoder, precision="fp32").proba
