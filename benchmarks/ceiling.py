"""The limit: how fast this machine multiplies matrices, and how near to it the encoder runs.

Operations are counted as the [CLS]-only graph needs them (a multiply-add is 2): every layer but the last for all
tokens, of the last one keys and values for all tokens and the rest for one row a text. Padding counts as work.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.encoder import Encoder
from pipeline.encoder.batches import TokenBatch


@dataclass(frozen=True)
class Shape:
    """What decides how much an encoder of DistilBERT's kind computes."""

    layers: int = 6
    width: int = 768
    inner: int = 3072


def operations(rows: int, tokens: int, shape: Shape) -> float:
    """Floating point operations for a batch of `rows` texts, each padded to `tokens`, with the last layer for [CLS]."""
    d, f, every = shape.width, shape.inner, rows * tokens
    whole = 2 * every * (4 * d * d + 2 * d * f) + 4 * every * tokens * d
    last = 2 * every * 2 * d * d + 2 * rows * (2 * d * d + 2 * d * f) + 4 * rows * tokens * d
    return float((shape.layers - 1) * whole + last)


def ceiling(precision: str, rows: int = 2048, inner: int = 768, outer: int = 3072, tries: int = 30) -> float:
    """Operations a second of one matrix product (rows, inner) x (inner, outer) by OpenVINO, all threads: the best."""
    import openvino
    from openvino import opset13 as ops

    given = ops.parameter((rows, inner), np.float32)
    weights = np.random.default_rng(0).standard_normal((inner, outer)).astype(np.float32)
    product = ops.matmul(given, ops.constant(weights), False, False)
    hints = {"INFERENCE_PRECISION_HINT": precision, "ENABLE_CPU_PINNING": False}
    compiled = openvino.Core().compile_model(openvino.Model([product], [given]), "CPU", hints)
    request, array, best = compiled.create_infer_request(), np.ones((rows, inner), np.float32), np.inf
    for _ in range(tries):
        started = time.perf_counter()
        request.infer([array])
        best = min(best, time.perf_counter() - started)
    return 2 * rows * inner * outer / best


def encoder_alone(encoder: Encoder, batches: Sequence[TokenBatch], shape: Shape) -> tuple[float, float]:
    """(tokens a second, operations a second) of the encoder on batches that lie ready, padding counted as tokens."""
    for _ in encoder.encode_many(batches[:3]):
        pass
    started = time.perf_counter()
    for _ in encoder.encode_many(batches):
        pass
    spent = time.perf_counter() - started
    tokens = sum(batch.ids.size for batch in batches)
    return tokens / spent, sum(operations(len(batch.ids), batch.ids.shape[1], shape) for batch in batches) / spent
