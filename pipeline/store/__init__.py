"""The store: vectors on disk, each found by the key of its text, for one encoder a folder.

`cache/<vectors_digest>/` holds shards that never change; the listing of the folder is the manifest, so that writers
need no lock and a kill costs only the shard that was being made. Keys and token counts lie apart from the vectors, so
that the index reads only them. A shard that fails a check goes to `quarantine/`, and its rows count as absent.
"""

from __future__ import annotations

from .folder import ABOUT, Store
from .index import Located, Rows
from .shard import text_keys
from .writer import SHARD_ROWS, Writer

__all__ = ["ABOUT", "SHARD_ROWS", "Located", "Rows", "Store", "Writer", "text_keys"]
