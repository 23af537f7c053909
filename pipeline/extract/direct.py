"""Texts → vectors without a store: for serving, where a text comes once and an encoder stays open."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.batching import pad, plan
from pipeline.encoder import Encoder
from pipeline.encoder.checkpoint import parts
from pipeline.encoder.tokens import Tokenizer


def vectors_of(
    encoder: Encoder, tokenizer: Tokenizer, pooling: str, texts: Sequence[tuple[str, ...]], max_length: int
) -> np.ndarray:
    """Vectors (n, d) float32 of n texts, in their order; nothing is looked up and nothing is kept."""
    checkpoint = encoder.checkpoint
    tokens = tokenizer.encode(texts, max_length)
    batches = (
        pad(
            rows,
            [tokens.ids[i] for i in rows],
            None if tokens.types is None else [tokens.types[i] for i in rows],
            checkpoint.pad_id,
        )
        for rows in plan(np.array([len(row) for row in tokens.ids]), encoder.token_budget)
    )
    out = np.empty((len(texts), checkpoint.vector_dim(pooling)), np.float32)
    for batch, found in encoder.encode_many(batches):
        out[batch.rows] = np.concatenate([found[part] for part in parts((pooling,))], axis=1)
    return out
