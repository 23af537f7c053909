"""Every file that is opened for its rows is closed again, read to the end or not, sound or damaged."""

import gc
import gzip
import json
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import UserError
from pipeline.data import files
from pipeline.extract.vector_file import VectorFile

ROWS = pd.DataFrame({"text": [f"text {i}" for i in range(30)], "label": [i % 2 for i in range(30)]})


def stream(path):
    table = pa.table(ROWS)
    with open(path, "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)


WRITERS = {
    "rows.csv": lambda path: ROWS.to_csv(path, index=False),
    "rows.csv.gz": lambda path: ROWS.to_csv(path, index=False),
    "rows.tsv": lambda path: ROWS.to_csv(path, index=False, sep="\t"),
    "rows.jsonl": lambda path: ROWS.to_json(path, orient="records", lines=True),
    "rows.jsonl.gz": lambda path: path.write_bytes(
        gzip.compress("\n".join(map(json.dumps, ROWS.to_dict("records"))).encode())
    ),
    "rows.json": lambda path: ROWS.to_json(path, orient="records"),
    "rows.txt": lambda path: path.write_text("\n".join(ROWS.text), "utf-8"),
    "rows.parquet": ROWS.to_parquet,
    "rows.arrow": stream,
    "feather.arrow": ROWS.to_feather,
    "rows.xlsx": lambda path: ROWS.to_excel(path, index=False),
}


def left_open(work):
    """What Python says of files that `work` leaves to the garbage collector."""
    gc.collect()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", ResourceWarning)
        work()
        gc.collect()
    return [str(one.message) for one in said if issubclass(one.category, ResourceWarning)]


@pytest.mark.parametrize("name", WRITERS)
def test_files_of_rows_are_closed(name, tmp_path):
    path = tmp_path / name
    if name.endswith("xlsx"):
        pytest.importorskip("openpyxl")
    WRITERS[name](path)
    asks = [
        files.column_names,
        files.plain_columns,
        files.count_rows,
        lambda path: files.class_names(path, "label"),
        lambda path: list(files.blocks(path, ["text"], 8)),
        lambda path: next(files.blocks(path, ["text"], 8)),  # and no further
    ]
    for ask in asks:
        assert left_open(lambda ask=ask: ask(path)) == []
    assert [t for block in files.blocks(path, ["text"], 8) for t in block.columns["text"]] == ROWS.text.tolist()


@pytest.mark.parametrize("name", ["rows.csv.gz", "rows.parquet", "rows.arrow", "feather.arrow"])
def test_damaged_files_are_closed(name, tmp_path):
    path = tmp_path / name
    WRITERS[name](path)
    path.write_bytes(path.read_bytes()[:12] + b"\xff" * 40)

    def work():
        with pytest.raises(UserError):
            list(files.blocks(path, ["text"], 8))

    assert left_open(work) == []


def test_a_file_of_vectors_is_closed(tmp_path):
    path = tmp_path / "vectors.parquet"
    pq.write_table(pa.table({"row_id": list("abc"), "vector": np.eye(3).tolist()}), path)

    def work():
        file = VectorFile.opened(str(path))
        assert file.index(("row_id",)) == {"a": 0, "b": 1, "c": 2}

    assert left_open(work) == []
