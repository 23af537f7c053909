"""The vectors of a source as one Parquet file with its texts and labels, for pandas, polars, DuckDB and `datasets`.

Vectors come from the cache and nothing is encoded. Rows go from source to file a block at a time, so that memory does
not grow with the source.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .. import Progress, UserError, listed, silent
from ..data import Chunk, SourceOptions, read_chunks
from ..encoder import Runtime
from ..encoder.checkpoint import EncoderSpec, locate
from ..files import disk_errors, draft, spare
from ..store import text_keys
from ..words import encodable
from .embedding_cache import EmbeddingCache, open_cache

BLOCK = 8192  # rows that are read, served and written together: a row group of the file


@dataclass(frozen=True)
class Exported:
    """What `export_parquet` wrote."""

    file: Path
    rows: int
    columns: tuple[str, ...]  # in the order of the file
    bytes: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"file": str(self.file)}


def export_parquet(
    source: SourceOptions, spec: EncoderSpec, runtime: Runtime, cache: Path, file: Path, progress: Progress = silent
) -> Exported:
    """Write `file`: a row for each row of the source, with split, row_id, text (and text_pair), label, and a column of
    float32 lists for each pooling of `spec`, named after it. The file appears atomically.

    Raises UserError if rows are not in the cache, saying how many, or if the file cannot be written.
    """
    if file.suffix.lower() != ".parquet":
        raise UserError(f"{file}: a file of vectors is Parquet; pass --out {file.with_suffix('.parquet').name}")
    spare(file, source.source)
    checkpoint = locate(spec)
    poolings = checkpoint.resolved(spec.pooling)
    cache_for_keys = partial(open_cache, checkpoint, spec, runtime, cache)
    with disk_errors(file, "cannot write", "choose another --out"):
        with draft(file) as new, open(new, "xb") as handle:
            rows, schema = _write(source, cache_for_keys, poolings, handle, progress)
        return Exported(file, rows, tuple(schema.names), file.stat().st_size)


def _write(
    source: SourceOptions,
    cache_for_keys: Callable[[np.ndarray], EmbeddingCache],
    poolings: tuple[str, ...],
    handle: Any,
    progress: Progress,
) -> tuple[int, Any]:
    """How many rows were written to `handle`, and their schema."""
    import pyarrow.parquet as pq

    table: Any = None
    embedding_cache: EmbeddingCache | None = None
    rows = missing = 0
    try:
        for chunk in read_chunks(source, rows=BLOCK):
            if not chunk.texts:
                continue
            keys = text_keys(chunk.texts)
            embedding_cache = embedding_cache or cache_for_keys(keys)
            served = {pooling: embedding_cache.serve(keys, pooling) for pooling in poolings}
            missing += int((~np.all([part.present for part in served.values()], axis=0)).sum())
            rows += len(keys)
            if not missing:  # otherwise the rest is only counted
                if table is None:
                    schema = _schema(embedding_cache, poolings, len(chunk.texts[0]))
                    table = pq.ParquetWriter(handle, schema, use_dictionary=["split", "label"])
                table.write_batch(_batch(chunk, {name: part.vectors for name, part in served.items()}, schema))
            progress("export", rows, None)
    finally:
        if table is not None:
            table.close()
    if embedding_cache is None:
        raise UserError(f"{source.source}: no rows; check --rows and --drop-empty")
    if missing:
        how = listed(
            [
                embedding_cache.backend.engine,
                embedding_cache.backend.precision,
                embedding_cache.storage(poolings[0]),
                *poolings,
            ]
        )
        raise UserError(
            f"{source.source}: {missing:,} of {rows:,} rows are not in the cache ({how}); "
            "run extract with the same options first"
        )
    return rows, schema


def _schema(embedding_cache: EmbeddingCache, poolings: tuple[str, ...], parts: int) -> Any:
    """Columns of texts with `parts` strings; what the vectors are stands in the schema's metadata."""
    import pyarrow as pa

    words = ["split", "row_id", *("text", "text_pair")[:parts], "label"]
    vectors = [(name, pa.list_(pa.float32(), embedding_cache.checkpoint.vector_dim(name))) for name in poolings]
    facts = {
        "encoder": embedding_cache.checkpoint.name,
        "engine": embedding_cache.backend.engine,
        "precision": embedding_cache.backend.precision,
        "storage": "+".join(sorted({embedding_cache.storage(name) for name in poolings})),
        "max_length": embedding_cache.max_length,
        "checkpoint_digest": {name: embedding_cache.checkpoint.checkpoint_digest(name) for name in poolings},
        "vectors_digest": {name: embedding_cache.digest(name) for name in poolings},
    }
    return pa.schema(
        [*((word, pa.string()) for word in words), *vectors], {"probe-or-tune": json.dumps(facts, ensure_ascii=False)}
    )


def _batch(chunk: Chunk, vectors: dict[str, np.ndarray], schema: Any) -> Any:
    """One block as Arrow arrays; vectors (n, d) are not copied."""
    import pyarrow as pa

    count, parts = len(chunk.texts), len(chunk.texts[0])
    if ("text_pair" in schema.names) != (parts == 2):
        raise UserError(f"split '{chunk.split}' has {parts} texts a row, another split has not; pass --text COLUMN")
    strings = list(zip(*chunk.texts, strict=True))  # 1 or 2 columns of n
    labels = [None] * count if chunk.labels is None else [label or None for label in chunk.labels.tolist()]
    plain = [[chunk.split] * count, chunk.row_ids.tolist(), *(list(map(encodable, column)) for column in strings)]
    arrays = [pa.array(column, pa.string()) for column in (*plain, labels)]
    arrays += [pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1]) for rows in vectors.values()]
    return pa.record_batch(arrays, schema=schema)
