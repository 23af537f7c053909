"""Vectors as a Parquet file: what other libraries read is what the store holds."""

import json

import numpy as np
import pandas
import pyarrow.parquet as pq
import pytest

from pipeline import UserError, silent
from pipeline.data import SourceOptions
from pipeline.encoder import EncoderSpec, Runtime
from pipeline.extract import extract_source, parquet
from pipeline.extract.parquet import export_parquet
from pipeline.store import text_keys

EFFORT = Runtime(device="cpu", threads=1)


@pytest.fixture
def mails(tmp_path):
    """A folder with a labelled train split and a test split without labels."""
    folder = tmp_path / "mails"
    folder.mkdir()
    train = [("film happy", "good"), ("boring plot", "bad"), ("film happy", "good"), ("日本 🙂 çafé", "good")]
    train += [(f"call {i} now " * (i % 7), ["bad", "good"][i % 2]) for i in range(40)]
    (folder / "train.csv").write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in train), "utf-8")
    (folder / "test.csv").write_text("text\n" + "".join(f"prize {i}\n" for i in range(7)))
    return folder


def spec(tiny, **wishes):
    return EncoderSpec(str(tiny), **({"engine": "torch", "precision": "fp32", "pooling": ("cls", "cls+mean")} | wishes))


@pytest.fixture
def exported(mails, tiny_bert, tmp_path):
    """What extracting and exporting give: the file, what is said of it, and the shelf it came from."""
    source, cache, file = SourceOptions(str(mails)), tmp_path / "cache", tmp_path / "vectors.parquet"
    embedding_cache = extract_source(source, spec(tiny_bert), EFFORT, cache, silent).embedding_cache
    return file, export_parquet(source, spec(tiny_bert), EFFORT, cache, file), embedding_cache


def test_pandas_reads_what_the_store_holds(exported):
    file, told, embedding_cache = exported
    table = pandas.read_parquet(file)
    assert list(table.columns) == ["split", "row_id", "text", "label", "cls", "cls+mean"] == list(told.columns)
    assert (told.rows, told.bytes) == (len(table), file.stat().st_size) == (51, told.bytes)
    assert told.to_json()["file"] == str(file)
    assert table.split.tolist() == ["test"] * 7 + ["train"] * 44  # as the files stand in the folder
    assert table.row_id.tolist() == [f"test:{i}" for i in range(7)] + [f"train:{i}" for i in range(44)]
    assert table.text[10] == "日本 🙂 çafé"
    assert table.label[7:11].tolist() == ["good", "bad", "good", "good"]
    assert table.label[:7].isna().all()
    whole = text_keys([(text,) for text in table.text])
    for name, dim in (("cls", 32), ("cls+mean", 64)):
        vectors = np.stack(table[name].to_list())
        assert (vectors.dtype, vectors.shape) == (np.float32, (51, dim))
        np.testing.assert_array_equal(vectors, embedding_cache.serve(whole, name).vectors)


def test_arrow_knows_the_width_and_where_the_vectors_come_from(exported):
    file, _, embedding_cache = exported
    schema = pq.read_schema(file)
    assert str(schema.field("cls").type).startswith("fixed_size_list<")
    assert schema.field("cls+mean").type.list_size == 64
    facts = json.loads(schema.metadata[b"probe-or-tune"])
    assert facts["vectors_digest"] == {
        "cls": embedding_cache.digest("cls"),
        "cls+mean": embedding_cache.digest("cls+mean"),
    }
    assert (facts["engine"], facts["precision"], facts["max_length"]) == ("torch", "fp32", 512)


def test_datasets_reads_it(exported, tmp_path):
    datasets = pytest.importorskip("datasets")
    file, _, embedding_cache = exported
    read = datasets.Dataset.from_parquet(str(file), cache_dir=str(tmp_path / "hf")).with_format("numpy")
    assert read.features["cls"].length == 32
    whole = text_keys([(text,) for text in read["text"]])
    np.testing.assert_array_equal(read[:]["cls"], embedding_cache.serve(whole, "cls").vectors)


@pytest.mark.parametrize("library", ["polars", "duckdb"])
def test_other_libraries_read_it(exported, library):
    reader = pytest.importorskip(library)
    file, _, _ = exported
    expected = pandas.read_parquet(file)
    if library == "polars":
        vectors = reader.read_parquet(file)["cls"].to_list()
    else:
        vectors = [row[0] for row in reader.sql(f"select cls from '{file}'").fetchall()]
    np.testing.assert_array_equal(np.array(vectors, np.float32), np.stack(expected["cls"].to_list()))


def test_pairs_have_a_column_each(tiny_bert, tmp_path):
    (tmp_path / "pairs.csv").write_text("a,b,label\nfilm,boring plot,no\nhappy,happy,yes\n")
    source = SourceOptions(str(tmp_path / "pairs.csv"), text=("a", "b"))
    embedding_cache = extract_source(source, spec(tiny_bert), EFFORT, tmp_path / "cache", silent).embedding_cache
    export_parquet(source, spec(tiny_bert), EFFORT, tmp_path / "cache", tmp_path / "v.parquet")
    table = pandas.read_parquet(tmp_path / "v.parquet")
    assert table[["text", "text_pair", "label"]].to_numpy().tolist() == [
        ["film", "boring plot", "no"],
        ["happy", "happy", "yes"],
    ]
    expected = embedding_cache.serve(text_keys([("film", "boring plot"), ("happy", "happy")]), "cls").vectors
    np.testing.assert_array_equal(np.stack(table["cls"].to_list()), expected)


def test_a_file_is_written_block_by_block(mails, tiny_bert, tmp_path, monkeypatch, exported):
    monkeypatch.setattr(parquet, "BLOCK", 10)
    small = tmp_path / "small.parquet"
    export_parquet(SourceOptions(str(mails)), spec(tiny_bert), EFFORT, tmp_path / "cache", small)
    assert [pq.ParquetFile(small).metadata.row_group(i).num_rows for i in range(6)] == [7, 10, 10, 10, 10, 4]
    pandas.testing.assert_frame_equal(pandas.read_parquet(small), pandas.read_parquet(exported[0]))


def test_rows_that_are_not_in_the_cache_are_counted_and_nothing_is_written(mails, tiny_bert, tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "BLOCK", 10)
    some, cache = SourceOptions(str(mails), rows="first:12"), tmp_path / "cache"
    extract_source(some, spec(tiny_bert), EFFORT, cache, silent)
    # 44 rows of train less 12, and less 4 further empty ones: an empty text is among the 12
    with pytest.raises(UserError, match=r"mails: 28 of 51 rows are not in the cache \(torch, fp32, .*\); run extract"):
        export_parquet(SourceOptions(str(mails)), spec(tiny_bert), EFFORT, cache, tmp_path / "v.parquet")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "mails"]
    assert export_parquet(some, spec(tiny_bert), EFFORT, cache, tmp_path / "v.parquet").rows == 19


def test_a_file_that_is_read_is_not_replaced(mails, tiny_bert, tmp_path):
    file = mails / "vectors.parquet"
    file.write_bytes(b"kept")
    with pytest.raises(UserError, match=r"vectors\.parquet: is read here, and would be replaced; pass another --out"):
        export_parquet(SourceOptions(str(mails)), spec(tiny_bert), EFFORT, tmp_path / "cache", file)
    assert file.read_bytes() == b"kept"


@pytest.mark.parametrize(
    ("file", "says"), [("v.csv", "pass --out v.parquet"), ("absent/v.parquet", "cannot write .*; choose another --out")]
)
def test_a_file_that_cannot_be_written_is_one_line(mails, tiny_bert, tmp_path, file, says, exported):
    with pytest.raises(UserError, match=says):
        export_parquet(SourceOptions(str(mails)), spec(tiny_bert), EFFORT, tmp_path / "cache", tmp_path / file)
