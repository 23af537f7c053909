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
    """Texts to compare on, and what they are: 200 of `source`, else of the bundled data set; and a few hard ones.

    Raises UserError if the source cannot be read, or if its rows have another number of texts than the run's.
    """
    parts = texts_a_row(run)
    name = run.dataset if run.dataset in samples() else next(iter(samples()))
    if source is None:
        texts = list(islice(_texts(SourceOptions(name), None), COUNT * parts))
        if parts == 2:
            texts = [(a[0], b[0]) for a, b in zip(texts[::2], texts[1::2], strict=True)]
    else:
        name = source.source
        split = run.predictions["test"].split if "test" in run.predictions else None
        try:
            texts = list(islice(_texts(source, split), COUNT))
        except UserError as error:
            if "no split" not in str(error):
                raise
            texts = list(islice(_texts(source, None), COUNT))
        if texts and kind_row(run.kind).family != "constant" and len(texts[0]) != parts:
            raise UserError(f"{name}: {len(texts[0])} texts a row where the run reads {parts}; pass --text")
    parts = len(texts[0]) if texts else parts
    return [*texts, *((text,) * parts for text in HARD)], name


def _texts(options: SourceOptions, split: str | None) -> Iterator[tuple[str, ...]]:
    for chunk in read_chunks(options, split, rows=COUNT):
        yield from chunk.texts


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
