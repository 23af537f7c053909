"""Does an engine compute what the encoder computes, and does a text's vector depend on the texts beside it?

Tracing keeps a Python branch as the example text took it, so that a conversion can be right at one length and wrong at
another. Every conversion is compared with torch in float32 on made-up texts of several lengths, each alone and padded
in a batch. The same texts show whether torch itself gives a padded text another vector than the text alone: there are
encoders without a mask for padding (FNet), or whose convolutions reach into it (ConvBERT, MobileBERT).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import UserError
from ..words import error_line
from .batches import TokenBatch, pad
from .checkpoint import Checkpoint
from .quiet import quiet
from .tokens import tokenizer

LENGTHS = (1, 2, 8, 17, 64)  # tokens; and as many as the encoder takes
SHORTEST = 3  # tokens of a text that an encoder must be able to take: a word between two special tokens
TOLERANCE = 1e-4  # between two vectors, relative to the larger of 1 and their largest number
EQUAL_ROWS = 3  # texts of one length that are also compared as a batch

Outputs = list[np.ndarray]  # one (b, d) an output
Run = Callable[[TokenBatch], Outputs]


@dataclass(frozen=True)
class Expected:
    """What torch makes of a batch of made-up texts."""

    batch: TokenBatch
    outputs: Outputs
    moved: bool = False  # padding gave one of the texts another vector than it has alone


def answers(checkpoint: Checkpoint, module: Any, vocabulary: int) -> list[Expected]:
    """What `module` (ids, mask, types → one (b, d) an output) makes of texts with ids below `vocabulary`.

    Raises UserError if it cannot encode a text of a length that the encoder is said to take.
    """
    run, expected = torch_run(module), []
    alone: dict[int, Outputs] = {}  # by length
    for batch in made_up_batches(checkpoint, vocabulary):
        lengths = batch.lengths.tolist()
        mixed = len(set(lengths)) > 1
        try:
            outputs = run(batch)
        except Exception as error:  # a stranger's architecture can fail in any way
            if mixed:
                expected.append(Expected(batch, [], moved=True))
            elif lengths[0] >= SHORTEST:
                raise UserError(
                    f"--encoder {checkpoint.name}: a text of {lengths[0]} tokens cannot be encoded "
                    f"({error_line(error)}); pass a smaller --max-length, or another encoder"
                ) from error
            continue
        if len(lengths) == 1:
            alone[lengths[0]] = outputs
        known = [row for row, n in enumerate(lengths) if n in alone and mixed]
        moved = any(apart(alone[lengths[row]], [rows[row : row + 1] for rows in outputs]) for row in known)
        expected.append(Expected(batch, outputs, moved))
    return expected


def needs_equal_lengths(expected: Sequence[Expected]) -> bool:
    """Whether a vector depends on its batch's padding, so that a batch must hold texts of one length only."""
    return any(answer.moved for answer in expected)


def fault_of(engine: Run, expected: Sequence[Expected]) -> str | None:
    """What is wrong with `engine`, by the first batch on which it is not torch; None if it may be used.

    Batches that would not be made, because padding moves vectors, do not count.
    """
    for answer in expected:
        if not answer.moved and (fault := _fault(answer.batch, answer.outputs, engine)):
            return fault
    return None


def _fault(batch: TokenBatch, expected: Outputs, engine: Run) -> str | None:
    rows, tokens = batch.ids.shape
    where = f"on {rows} texts of up to {tokens} tokens" if rows > 1 else f"on a text of {tokens} tokens"
    try:
        got = engine(batch)
    except Exception as error:  # as many ways as there are operations
        return f"fails {where} ({error_line(error)})"
    return f"gives other vectors than torch {where}" if apart(expected, got) else None


def apart(expected: Sequence[np.ndarray], got: Sequence[np.ndarray]) -> bool:
    """Whether two lists of arrays differ by more than float32 rounds, or hold what is no number."""
    pairs = list(zip(expected, got, strict=True))
    if any(a.shape != b.shape for a, b in pairs):
        return True
    limits = [TOLERANCE * max(1.0, float(np.abs(a).max(initial=0))) for a, _ in pairs]
    return not all(np.abs(a - b).max(initial=0) <= limit for (a, b), limit in zip(pairs, limits, strict=True))


def made_up_batches(checkpoint: Checkpoint, vocabulary: int) -> Iterator[TokenBatch]:
    """Each length alone, those up to 64 tokens together, several of one length, and a short one beside the longest.

    Ids are of the upper half of the vocabulary, where there are hardly any special tokens; those stand where they stand
    in any text.
    """
    random = np.random.default_rng(0)
    longest = checkpoint.max_length
    lengths = sorted({min(n, longest) for n in LENGTHS})
    before, after = tokenizer(checkpoint).frame()

    def text(tokens: int) -> np.ndarray:
        ids = random.integers(vocabulary // 2, vocabulary, tokens)
        if tokens > len(before) + len(after):
            ids[: len(before)], ids[tokens - len(after) :] = before, after
        return ids

    texts = {n: text(n) for n in [*lengths, longest]}

    def batch(*given: np.ndarray) -> TokenBatch:
        types = [(np.arange(len(ids)) >= len(ids) / 2).astype(np.int64) for ids in given]
        return pad(np.arange(len(given)), given, types if checkpoint.has_types else None, checkpoint.pad_id)

    middle = lengths[-2] if len(lengths) > 1 else longest
    for n in lengths:
        yield batch(texts[n])
    yield batch(*texts.values() if longest in lengths else [texts[n] for n in lengths])
    yield batch(*(text(middle) for _ in range(EQUAL_ROWS)))
    if longest not in lengths:
        yield batch(texts[longest])
        yield batch(texts[middle], texts[longest])


def torch_run(module: Any) -> Run:
    """A graph of ours, or any torch module that takes ids, mask and types, as a function of a batch."""
    import torch

    def run(batch: TokenBatch) -> Outputs:
        types = np.zeros_like(batch.ids) if batch.types is None else batch.types
        given = [torch.from_numpy(np.ascontiguousarray(array)) for array in (batch.ids, batch.mask, types)]
        with torch.inference_mode(), quiet():
            return [vectors.float().numpy() for vectors in module(*given)]

    return run


def openvino_run(file: Path) -> Run:
    """A model that OpenVINO has written, as a function of a batch, in float32. What is in memory before it is written
    may compute something else: constants are kept in other types."""
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": "f32", "ENABLE_CPU_PINNING": False}
    compiled = openvino.Core().compile_model(file, "CPU", settings)

    def run(batch: TokenBatch) -> Outputs:
        types = np.zeros_like(batch.ids) if batch.types is None else batch.types
        outputs = compiled([batch.ids, batch.mask, types][: len(compiled.inputs)])
        return [np.array(outputs[i], np.float32) for i in range(len(compiled.outputs))]

    return run
