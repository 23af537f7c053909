"""Reading: every kind of source, columns, labels, chunks, and the real sets."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import all_rows, folder, load, refused, rows, write_csv, write_jsonl, write_parquet

from pipeline import UserError
from pipeline.data import SourceOptions, count_rows, labels, naming, read_chunks, sources

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared" / "data"


# ── formats ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_format_gives_the_same_rows(tmp_path):
    table = rows(20)
    objects = [{"text": text, "label": label} for text, label in table]
    made = [
        write_csv(tmp_path / "csv" / "train.csv", table),
        write_jsonl(tmp_path / "jsonl" / "train.jsonl", objects),
        write_jsonl(tmp_path / "ndjson" / "train.ndjson", objects),
        write_jsonl(tmp_path / "json" / "train.json", objects),
        write_parquet(tmp_path / "parquet" / "train.parquet", text=[t for t, _ in table], label=[c for _, c in table]),
    ]
    tsv = tmp_path / "tsv" / "train.tsv"
    tsv.parent.mkdir()
    tsv.write_text("text\tlabel\n" + "".join(f"{t}\t{c}\n" for t, c in table))
    array = tmp_path / "array" / "train.json"
    array.parent.mkdir()
    array.write_text(json.dumps(objects))
    digests = {load(path).digest for path in [*made, tsv, array]}
    assert len(digests) == 1
    assert all_rows(load(tsv)) == {f"train:{i}": ((text,), label) for i, (text, label) in enumerate(table)}


def test_gzip_is_read_as_what_it_holds(tmp_path):
    import gzip

    path = tmp_path / "train.csv.gz"
    path.write_bytes(gzip.compress(write_csv(tmp_path / "plain.csv", rows(20)).read_bytes()))
    assert load(path).digest == load(write_csv(tmp_path / "x" / "train.csv", rows(20))).digest


def test_csv_text_stays_text(tmp_path):
    strange = ["NA", "null", "", "nan", "None", '"quoted", twice', "two\nlines", "1", "x" * 1_000_000, "  ", "\u2028"]
    table = [(text, "ab"[i % 2]) for i, text in enumerate(strange)]
    dataset = load(write_csv(tmp_path / "train.csv", table))
    found = {int(row_id.split(":")[1]): text for row_id, (text, _) in all_rows(dataset).items()}
    assert [found[i] for i in range(len(strange))] == [(text,) for text in strange]


def test_csv_with_bom_windows_line_ends_or_semicolons(tmp_path):
    plain = write_csv(tmp_path / "a" / "train.csv", rows(20)).read_text()
    (tmp_path / "b").mkdir()
    variants = {
        "bom.csv": "\ufeff" + plain,
        "windows.csv": plain.replace("\n", "\r\n"),
        "semicolons.csv": plain.replace(",", ";"),
        "blank.csv": plain.replace("t3", "t3") + "\n\n",
        "no_end.csv": plain.rstrip("\n"),
    }
    expected = {text: label for (text,), label in all_rows(load(tmp_path / "a")).values()}
    for name, text in variants.items():
        path = tmp_path / "b" / name
        path.write_bytes(text.encode())
        assert {text: label for (text,), label in all_rows(load(path)).values()} == expected, name


def test_half_a_surrogate_pair_becomes_a_replacement_character(tmp_path):
    path = tmp_path / "train.jsonl"
    lines = ['{"text": "broken \\ud83d", "label": 0}', '{"text": "whole \\ud83d\\ude42", "label": 1}']
    path.write_text("\n".join(lines + [f'{{"text": "t{i}", "label": {i % 2}}}' for i in range(20)]))
    texts = {text for (text,), _ in all_rows(load(path)).values()}
    assert {"broken \ufffd", "whole \U0001f642"} <= texts


def test_shards_of_one_split_are_one_split(tmp_path):
    write_csv(tmp_path / "data" / "train-00000-of-00002.csv", rows(20))
    write_csv(tmp_path / "data" / "train-00001-of-00002.csv", rows(20, start=20))
    dataset = load(tmp_path)
    assert {row_id: text[0] for row_id, (text, _) in all_rows(dataset).items()} == {
        f"train:{i}": f"t{i}" for i in range(40)
    }


def test_null_text_is_an_empty_text(tmp_path):
    path = write_parquet(tmp_path / "train.parquet", text=[None, *(f"t{i}" for i in range(19))], label=[0, 1] * 10)
    assert all_rows(load(path))["train:0"] == (("",), "0")


# ── columns ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("names", "texts", "label"),
    [
        (["text", "label"], ("text",), "label"),
        (["idx", "premise", "hypothesis", "label"], ("premise", "hypothesis"), "label"),
        (["sentence1", "sentence2", "label", "idx"], ("sentence1", "sentence2"), "label"),
        (["question1", "question2", "label"], ("question1", "question2"), "label"),
        (["question", "sentence", "label"], ("question", "sentence"), "label"),
        (["Review", "Sentiment"], ("Review",), "Sentiment"),
        (["text", "content", "intent"], ("text",), "intent"),
        (["text", "label", "label_text"], ("text",), "label"),
        (["text", "target", "label"], ("text",), "label"),
        (["sentence"], ("sentence",), None),
    ],
)
def test_columns_are_found_by_their_names(names, texts, label):
    found = naming.text_columns(names, (), "f.csv")
    assert (found, naming.label_column(names, None, found, "f.csv")) == (texts, label)


def test_asked_for_columns_win(tmp_path):
    table = [(f"t{i}", f"u{i}", "ab"[i % 2], "xy"[i // 2 % 2]) for i in range(20)]
    path = write_csv(tmp_path / "f.csv", table, ("text", "other", "label", "class"))
    dataset = load(path, text=("other", "text"), label="class")
    assert all_rows(dataset)["f:3"] == (("u3", "t3"), "y")
    assert (dataset.text_columns, dataset.label_column) == (("other", "text"), "class")


def test_other_small_columns_come_along(tmp_path):
    table = [(f"t{i}", "ab"[i % 2], "north" if i < 10 else "south", i) for i in range(30)]
    path = write_csv(tmp_path / "f.csv", table, ("text", "label", "region", "id"))
    split = load(path).train
    assert set(split.columns) == {"region"}
    assert split.columns["region"].tolist() == [
        "north" if int(row_id.split(":")[1]) < 10 else "south" for row_id in split.row_ids
    ]


# ── labels ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_integers_are_named_by_labels_json(tmp_path):
    write_csv(tmp_path / "train.csv", [(f"t{i}", i % 3) for i in range(30)])
    for table in (["c", "a", "b"], {"0": "c", "1": "a", "2": "b"}, {"c": 0, "a": 1, "b": 2}):
        (tmp_path / "labels.json").write_text(json.dumps(table))
        dataset = load(tmp_path)
        assert dataset.class_names == ("c", "a", "b")
        assert all_rows(dataset)["train:4"] == (("t4",), "a")


def test_integers_without_names_are_called_by_their_digits_in_order(tmp_path):
    dataset = load(write_csv(tmp_path / "f.csv", [(f"t{i}", (2, 10, 9)[i % 3]) for i in range(30)]))
    assert dataset.class_names == ("2", "9", "10")
    assert all_rows(dataset)["f:1"] == (("t1",), "10")


def test_strings_are_sorted_and_labels_json_gives_their_order(tmp_path):
    write_csv(tmp_path / "train.csv", rows(20, "ba"))
    assert load(tmp_path).class_names == ("a", "b")
    (tmp_path / "labels.json").write_text('["b", "a"]')
    assert load(tmp_path).class_names == ("b", "a")
    assert all_rows(load(tmp_path))["train:0"] == (("t0",), "b")


def test_class_names_in_parquet_metadata_are_used(tmp_path):
    feature = {"label": {"names": ["neg", "pos"], "_type": "ClassLabel"}, "text": {"_type": "Value"}}
    metadata = {"huggingface": json.dumps({"info": {"features": feature}})}
    path = write_parquet(tmp_path / "train.parquet", metadata, text=[f"t{i}" for i in range(20)], label=[0, 1] * 10)
    assert load(path).class_names == ("neg", "pos")


def test_a_column_of_label_names_beside_the_ids_is_used(tmp_path):
    table = [(f"t{i}", i % 2, ("no", "yes")[i % 2]) for i in range(20)]
    objects = [{"text": t, "label": i, "label_text": name} for t, i, name in table]
    assert load(write_jsonl(tmp_path / "f.jsonl", objects)).class_names == ("no", "yes")


def test_labels_json_of_another_column_is_not_used(tmp_path):
    table = [(f"t{i}", i % 2, "xyz"[i % 3]) for i in range(30)]
    write_csv(tmp_path / "train.csv", table, ("text", "label", "genre"))
    (tmp_path / "labels.json").write_text('["no", "yes"]')
    dataset = load(tmp_path, label="genre")
    assert dataset.class_names == ("x", "y", "z")
    assert dataset.notes[0] == "the known class names (no, yes, ...) are not of 'genre'"
    assert load(tmp_path).class_names == ("no", "yes")


def test_whole_floats_are_integers_and_booleans_are_classes(tmp_path):
    texts = [f"t{i}" for i in range(20)]
    assert load(write_parquet(tmp_path / "f.parquet", text=texts, label=[0.0, 1.0] * 10)).class_names == ("0", "1")
    assert load(write_csv(tmp_path / "g.csv", [(t, f"{i % 2}.0") for i, t in enumerate(texts)])).class_names == (
        "0",
        "1",
    )
    booleans = load(write_parquet(tmp_path / "h.parquet", text=texts, label=[False, True] * 10))
    assert booleans.class_names == ("False", "True")
    assert all_rows(booleans)["h:1"] == (("t1",), "True")


def test_minus_one_is_a_class_if_it_has_a_name(tmp_path):
    write_csv(tmp_path / "train.csv", [(f"t{i}", i % 3 - 1) for i in range(30)])
    assert "label missing" in refused(tmp_path)
    (tmp_path / "labels.json").write_text('{"-1": "bad", "0": "so-so", "1": "good"}')
    assert load(tmp_path).class_names == ("bad", "so-so", "good")
    assert all_rows(load(tmp_path))["train:0"] == (("t0",), "bad")


def test_named_classes_without_a_row_in_train_are_left_out_and_said(tmp_path):
    write_csv(tmp_path / "train.csv", [(f"t{i}", (0, 2)[i % 2]) for i in range(20)])
    (tmp_path / "labels.json").write_text('["a", "b", "c"]')
    dataset = load(tmp_path)
    assert dataset.class_names == ("a", "c")
    assert all_rows(dataset)["train:1"] == (("t1",), "c")
    assert "1 of 3 named classes have no row in train: b" in dataset.notes


@given(st.lists(st.integers(-1, 5), min_size=1, max_size=30))
def test_numbers_and_names_agree(found):
    known = {i: f"c{i}" for i in range(6)}
    values = [label for label in found if label >= 0] or [-1]
    numbers, names = labels.encode({"s": values}, known, {"s": str})
    assert [-1 if v < 0 else known[v] for v in values] == [-1 if n < 0 else names[n] for n in numbers["s"]]


# ── in chunks ───────────────────────────────────────────────────────────────────────────────────────────────────────


def chunks(source, rows=65536, split=None, **options):
    return list(read_chunks(SourceOptions(str(source), **options), split=split, rows=rows))


def test_chunks_give_every_row_in_order_with_its_name(tmp_path):
    home = folder(tmp_path, train=rows(10), test=[("x", ""), ("y", "")])
    found = chunks(home, rows=4)
    assert [(c.split, len(c.texts)) for c in found] == [("test", 2), ("train", 4), ("train", 4), ("train", 2)]
    assert [row_id for c in found[1:] for row_id in c.row_ids] == [f"train:{i}" for i in range(10)]
    assert found[1].labels.tolist() == ["a", "b", "a", "b"]
    assert found[0].labels.tolist() == ["", ""]
    assert [c.split for c in chunks(home, split="test")] == ["test"]
    with pytest.raises(UserError, match="no split 'dev' among test, train"):
        chunks(home, split="dev")


def test_chunks_need_no_labels(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text("first\n\nNA\n", encoding="utf-8")
    (chunk,) = chunks(path)
    assert chunk.texts == [("first",), ("",), ("NA",)]
    assert chunk.labels is None
    assert chunk.row_ids.tolist() == ["texts:0", "texts:1", "texts:2"]
    (dropped,) = chunks(path, drop_empty=True)
    assert dropped.row_ids.tolist() == ["texts:0", "texts:2"]


def test_chunks_do_without_labels_that_make_no_sense(tmp_path):
    path = write_csv(tmp_path / "f.csv", [("x", "0.5"), ("y", "1")])
    (chunk,) = chunks(path)
    assert (chunk.texts, chunk.labels) == ([("x",), ("y",)], None)
    with pytest.raises(UserError, match="real-valued label"):
        chunks(path, label="label")
    (chunk,) = chunks(write_csv(tmp_path / "g.csv", [("x", 1, 2)], ("text", "class", "target")))
    assert chunk.labels is None


def test_counting_needs_no_key_in_every_row(tmp_path):
    file = write_jsonl(tmp_path / "a.jsonl", [{"title": "t", "text": "a", "label": "x"}, {"text": "b", "label": "y"}])
    assert count_rows(SourceOptions(str(file))) == 2


def test_chunks_name_the_classes(tmp_path):
    write_parquet(tmp_path / "test.parquet", text=["x", "y", "z"], label=[1, 0, -1])
    (tmp_path / "labels.json").write_text('["no", "yes"]')
    assert chunks(tmp_path)[0].labels.tolist() == ["yes", "no", ""]


def test_chunks_take_first_rows_but_no_sample(tmp_path):
    path = write_csv(tmp_path / "f.csv", rows(10))
    found = list(read_chunks(SourceOptions(str(path), rows="first:30%"), rows=2))
    assert [c.row_ids.tolist() for c in found] == [["f:0", "f:1"], ["f:2"]]
    with pytest.raises(UserError, match="--limit 5"):
        chunks(path, limit="5")


def test_chunks_and_read_agree(tmp_path):
    home = folder(tmp_path, train=rows(50), validation=rows(6), test=rows(7))
    dataset = load(home)
    streamed = {
        row_id: text for c in chunks(home, rows=7) for row_id, text in zip(c.row_ids.tolist(), c.texts, strict=True)
    }
    assert streamed == {row_id: text for row_id, (text, _) in all_rows(dataset).items()}


def test_memory_of_chunks_does_not_grow_with_the_source(tmp_path):
    import tracemalloc

    peaks = []
    for count in (5_000, 20_000):
        path = write_csv(tmp_path / f"{count}.csv", ((f"text number {i} of many", i % 2) for i in range(count)))
        tracemalloc.start()
        assert sum(len(c.texts) for c in read_chunks(SourceOptions(str(path)), rows=500)) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


# ── the bundled sample, and real data ───────────────────────────────────────────────────────────────────────────────


def test_the_bundled_sample():
    dataset = load("sms-spam")
    assert dataset.name == "sms-spam"
    assert dataset.class_names == ("ham", "spam")
    counts = sum(np.bincount(split.labels, minlength=2) for split in dataset.splits.values())
    assert counts.tolist() == [4827, 747]
    assert [len(dataset.role(role)) for role in ("train", "validation", "test")] == pytest.approx(
        [4459, 557, 557], abs=3
    )
    sides = [set(split.texts) for split in dataset.splits.values()]
    assert sum(map(len, sides)) == len(set.union(*sides)) == 5574 - 403
    home = sources.SAMPLES / "sms-spam"
    assert "CC BY 4.0" in (home / "README.md").read_text("utf-8")
    assert sum(file.stat().st_size for file in home.iterdir()) < 600_000


def shared(name: str) -> Path:
    if not (SHARED / name).is_dir():
        pytest.skip("../shared/data is not here")
    return SHARED / name


@pytest.mark.parametrize(
    ("name", "sizes", "classes"),
    [
        ("emotion", (16000, 2000, 2000), 6),
        ("ag_news", (8797, 977, 7600), 4),
        ("mnli", (2110, 234, 3815), 3),
        ("imdb", (4500, 500, 5000), 2),
        ("movie_reviews", (1600, 200, 200), 2),
        ("banking77", (9003, 1000, 3080), 77),
        ("sms_spam", (4459, 557, 557), 2),
    ],
)
def test_real_data(name, sizes, classes):
    dataset = load(shared(name))
    assert [len(dataset.role(role)) for role in ("train", "validation", "test")] == pytest.approx(list(sizes), abs=3)
    assert len(dataset.class_names) == classes
    assert all(split.labelled for split in dataset.splits.values())


def test_real_pairs_and_genres():
    dataset = load(shared("mnli"))
    assert dataset.text_columns == ("premise", "hypothesis")
    assert all(len(text) == 2 for text in dataset.test.texts)
    assert set(dataset.test.columns) == {"genre"}
    assert "fiction" in dataset.test.columns["genre"].tolist()
    assert dataset.roles["test"] == "validation_matched"


def test_the_first_rows_of_imdb_are_one_class():
    assert "the source is sorted by label" in refused(shared("imdb"), rows="first:5%")
    dataset = load(shared("imdb"), rows="first:5%", allow_one_class=True)
    assert dataset.class_names == ("neg", "pos")
    assert set(dataset.train.labels) == set(dataset.test.labels) == {0}


def test_the_parts_of_reading_import_backwards():
    order = (
        "codepages lines naming delimited objects tables files frames labels splits saved classfolders hub_snapshot "
        "hub sources dataset rows beside roles chunks __init__"
    ).split()
    home = ROOT / "pipeline" / "data"
    assert sorted(path.stem for path in home.glob("*.py")) == sorted(order)
    for name in order:
        found = re.findall(r"^from \.(\w*) import (.*)$", (home / f"{name}.py").read_text("utf-8"), re.M)
        parts = {part for module, names in found for part in ([module] if module else names.split(", "))}
        assert parts or name in ("codepages", "naming", "labels", "splits", "dataset", "saved", "hub_snapshot"), name
        assert parts <= set(order[: order.index(name)]), name
