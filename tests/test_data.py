"""Reading: every kind of source, every way to divide it, and a line that says what is wrong with it."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline import UserError
from pipeline.data import Dataset, SourceOptions, labels, naming, read, read_chunks, sources, splits

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared" / "data"


def rows(count: int, classes: str = "ab", start: int = 0) -> list[tuple[str, str]]:
    """t0 a, t1 b, t2 a, ..."""
    return [(f"t{i}", classes[i % len(classes)]) for i in range(start, start + count)]


def write_csv(path: Path, table, header=("text", "label")) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *table])
    return path


def write_jsonl(path: Path, objects) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in objects), "utf-8")
    return path


def write_parquet(path: Path, metadata=None, **columns) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns)
    pq.write_table(table.replace_schema_metadata(metadata) if metadata else table, path)
    return path


def load(source, allow_one_class: bool = False, **options) -> Dataset:
    return read(SourceOptions(str(source), **options), allow_one_class=allow_one_class)


def names_of(dataset: Dataset, split: str) -> list[str]:
    return [dataset.class_names[i] for i in dataset.splits[split].labels]


def all_rows(dataset: Dataset) -> dict[str, tuple[tuple[str, ...], str]]:
    """Row id → text and class name, over all splits."""
    return {
        row_id: (text, dataset.class_names[label])
        for split in dataset.splits.values()
        for row_id, text, label in zip(split.row_ids.tolist(), split.texts, split.labels, strict=True)
    }


def refused(source, **options) -> str:
    with pytest.raises(UserError) as caught:
        load(source, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


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


# ── who plays which role ────────────────────────────────────────────────────────────────────────────────────────────


def folder(home: Path, **tables) -> Path:
    for name, table in tables.items():
        write_csv(home / f"{name}.csv", table)
    return home


def test_three_splits_are_taken_as_they_are(tmp_path):
    folder(tmp_path, train=rows(20), dev=rows(6, start=20), testing=rows(8, start=30))
    dataset = load(tmp_path)
    assert dataset.roles == {"train": "train", "validation": "dev", "test": "testing"}
    assert dataset.notes == ()
    assert dataset.train.texts == [(f"t{i}",) for i in range(20)]
    assert dataset.test.row_ids.tolist() == [f"testing:{i}" for i in range(8)]


def test_one_split_is_cut_80_10_10(tmp_path):
    dataset = load(write_csv(tmp_path / "reviews.csv", rows(200)))
    assert dataset.name == "reviews"
    assert {name: np.bincount(split.labels).tolist() for name, split in dataset.splits.items()} == {
        "train": [80, 80],
        "validation": [10, 10],
        "test": [10, 10],
    }
    assert len(all_rows(dataset)) == 200
    assert dataset.notes == ("no validation and no test split: 'reviews' cut 80/10/10 into train, validation and test",)


def test_no_validation_split_takes_a_tenth_of_train(tmp_path):
    dataset = load(folder(tmp_path, train=rows(100), test=rows(10, start=100)))
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 90, "validation": 10, "test": 10}
    assert set(dataset.validation.row_ids) < {f"train:{i}" for i in range(100)}
    assert dataset.notes == ("no validation split: 10 % of 'train' taken for it",)


def test_no_test_split_judges_the_first_validation_split(tmp_path):
    home = folder(
        tmp_path, train=rows(100), validation_matched=rows(10, start=100), validation_mismatched=rows(10, start=200)
    )
    dataset = load(home)
    assert dataset.roles == {"train": "train", "validation": "validation", "test": "validation_matched"}
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (90, 10, 10)
    assert set(dataset.splits) == {"train", "validation", "validation_matched", "validation_mismatched"}
    assert dataset.notes[0] == "no test split: judged on 'validation_matched'"


@pytest.mark.parametrize("missing", ["-1", ""])
def test_an_unlabelled_test_split_is_not_judged(tmp_path, missing):
    home = folder(tmp_path, train=rows(100), validation=rows(10, start=100), test=[("x", missing), ("y", missing)])
    dataset = load(home)
    assert dataset.roles == {"train": "train", "validation": "validation_of_train", "test": "validation"}
    assert dataset.notes[0] == "the split 'test' has no labels: judged on 'validation'"
    assert dataset.splits["test"].labels.tolist() == [-1, -1]
    assert not dataset.labelled("test")


def test_a_test_file_without_a_label_column_is_unlabelled(tmp_path):
    write_csv(tmp_path / "train.csv", rows(100))
    write_csv(tmp_path / "test.csv", [("x",), ("y",)], ("text",))
    dataset = load(tmp_path)
    assert dataset.roles == {"train": "train", "validation": "validation", "test": "test_of_train"}
    assert dataset.splits["test"].texts == [("x",), ("y",)]
    assert dataset.splits["test"].labels.tolist() == [-1, -1]


def test_splits_chosen_by_hand(tmp_path):
    home = folder(tmp_path, one=rows(20), two=rows(6, start=20), three=rows(8, start=30), test=rows(4, start=50))
    dataset = load(home, train="three", validation="two", test="one")
    assert dataset.roles == {"train": "three", "validation": "two", "test": "one"}
    assert dataset.train.texts[0] == ("t30",)
    assert "which of the splits one, test, three, two is for training? pass --train NAME" in refused(home)
    assert "no split 'four' among" in refused(home, train="four")
    assert "cannot play two roles" in refused(home, train="one", test="one")


def test_ratios_by_hand(tmp_path):
    path = write_csv(tmp_path / "f.csv", rows(100))
    dataset = load(path, split="80/0/20")
    assert {role: len(dataset.role(role)) for role in dataset.roles} == {"train": 80, "test": 20}
    with pytest.raises(UserError, match="no validation split among train, test"):
        _ = dataset.validation
    for wrong in ("80/20", "a/b/c", "0/10/90", "100/0/0", "-1/1/1"):
        assert wrong in refused(path, split=wrong)


def test_other_files_in_the_folder_do_no_harm(tmp_path):
    folder(tmp_path, train=rows(20), test=rows(8, start=20))
    write_csv(tmp_path / "vocabulary.csv", [("word", 3)], ("word", "count"))
    for name in ("README.md", "notes.txt", ".hidden.csv", "dataset_infos.json"):
        (tmp_path / name).write_text("{}")
    dataset = load(tmp_path)
    assert set(dataset.splits) == {"train", "validation", "test"}
    assert dataset.notes[0] == "split 'vocabulary' is left out: it has no column 'text'"


def test_a_split_that_nobody_plays_with_labels_of_its_own_is_unlabelled(tmp_path):
    dataset = load(folder(tmp_path, train=rows(20), test=rows(8, start=20), extra=rows(4, "xy")))
    assert dataset.splits["extra"].labels.tolist() == [-1, -1, -1, -1]
    assert dataset.class_names == ("a", "b")


# ── cutting ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3)), min_size=30, max_size=120),
    st.integers(0, 1000),
)
def test_a_cut_loses_no_row_and_keeps_equal_texts_together(pairs, seed):
    groups = splits.groups_of([(str(text),) for text, _ in pairs])
    classes = np.array([label for _, label in pairs])
    of_group = splits.labels_of(groups, classes)
    if len(of_group) < len(np.unique(of_group)) + 2:
        return
    parts = splits.cut(classes, groups, (80, 10, 10), np.random.default_rng(seed))
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(pairs)))
    assert all(len(part) for part in parts)
    for i, part in enumerate(parts):
        for other in parts[i + 1 :]:
            assert not set(groups[part]) & set(groups[other])
    assert set(of_group) <= set(classes[parts[0]])  # every class can be learnt


def test_a_cut_is_stratified_and_seeded():
    classes = np.repeat([0, 1, 2], [500, 300, 50])
    groups = np.arange(850)
    parts = splits.cut(classes, groups, (80, 10, 10), np.random.default_rng(0))
    counts = np.array([np.bincount(classes[part]) for part in parts])
    assert counts.sum(1).tolist() == [680, 85, 85]
    assert np.abs(counts - np.outer([0.8, 0.1, 0.1], [500, 300, 50])).max() <= 1
    again = splits.cut(classes, groups, (80, 10, 10), np.random.default_rng(0))
    assert all((a == b).all() for a, b in zip(parts, again, strict=True))
    other = splits.cut(classes, groups, (80, 10, 10), np.random.default_rng(1))
    assert parts[2].tolist() != other[2].tolist()


def test_equal_texts_stand_on_one_side_even_with_other_white_space(tmp_path):
    table = [(text, "ab"[i % 2]) for i in range(50) for text in (f"t {i}", f"t {i}", f" t  {i} ")]
    dataset = load(write_csv(tmp_path / "f.csv", table))
    sides = [{" ".join(text[0].split()) for text in split.texts} for split in dataset.splits.values()]
    assert sum(map(len, sides)) == len(set.union(*sides)) == 50


def test_a_class_with_one_row_stays_in_train_and_is_said(tmp_path):
    for seed in range(5):
        dataset = load(write_csv(tmp_path / "f.csv", [*rows(40), ("rare", "c")]), seed=seed)
        assert ("rare",) in dataset.train.texts
        assert "one row in train: c" in dataset.notes
        assert "1 of 3 classes have no row in 'test': c" in dataset.notes


def test_a_class_that_only_repeats_texts_of_another_stays_in_train(tmp_path):
    table = [*rows(40), ("t0", "c"), ("t1", "c")]
    for seed in range(5):
        dataset = load(write_csv(tmp_path / "f.csv", table), seed=seed)
        assert {("t0",), ("t1",)} & set(dataset.train.texts)
        assert dataset.class_names == ("a", "b", "c")


def test_small_classes_get_their_share_of_the_small_parts():
    """150 classes of 4 rows: no class alone fills a tenth, all together they do."""
    classes = np.repeat(np.arange(150), 4)
    parts = splits.cut(classes, np.arange(600), (90, 10, 0), np.random.default_rng(3))
    assert [len(part) for part in parts] == [540, 60, 0]
    assert len(set(classes[parts[1]])) > 50


def test_limit_is_stratified_seeded_nested_and_for_every_split(tmp_path):
    home = folder(tmp_path, train=rows(300, "aab"), validation=rows(30, start=300), test=rows(90, "aab", start=400))
    dataset = load(home, limit="60")
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 60, "validation": 30, "test": 60}
    assert np.bincount(dataset.train.labels).tolist() == [40, 20]
    assert dataset.digest == load(home, limit="60").digest != load(home, limit="60", seed=1).digest
    assert set(dataset.train.row_ids) < set(load(home, limit="90").train.row_ids)
    assert {name: len(s) for name, s in load(home, limit="10%").splits.items()} == {
        "train": 30,
        "validation": 3,
        "test": 9,
    }
    for wrong in ("0", "-5", "x", "150%", "1.5"):
        assert f"--limit {wrong}" in refused(home, limit=wrong)


def test_limit_keeps_a_row_of_every_class(tmp_path):
    table = [*rows(1000, "a"), *rows(3, "b", start=1000), ("rare", "c")]
    home = folder(tmp_path, train=table, validation=rows(4, start=2000), test=rows(4, start=3000))
    assert load(home, limit="3").class_names == ("a", "b", "c")


def test_first_rows_are_taken_as_they_come(tmp_path):
    home = folder(tmp_path, train=rows(100), validation=rows(40, start=100), test=rows(20, start=200))
    dataset = load(home, rows="first:10")
    assert dataset.train.texts == [(f"t{i}",) for i in range(10)]
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 10, "validation": 10, "test": 10}
    shares = load(home, rows="first:5%")
    assert {name: len(split) for name, split in shares.splits.items()} == {"train": 5, "validation": 2, "test": 1}
    for wrong in ("10", "last:5", "first:", "first:x", "first:0"):
        assert "--rows" in refused(home, rows=wrong)


def test_first_rows_of_a_sorted_source_have_one_class(tmp_path):
    home = folder(
        tmp_path, train=[*rows(50, "n"), *rows(50, "p", start=50)], validation=rows(4, "np"), test=rows(4, "n")
    )
    message = refused(home, rows="first:5%")
    assert "split 'train' has one class, 'n' (5 rows)" in message
    assert "the source is sorted by label" in message
    assert "--limit 5%" in message
    dataset = load(home, rows="first:5%", allow_one_class=True)
    assert dataset.class_names == ("n", "p")
    assert dataset.train.labels.tolist() == [0] * 5


def test_empty_texts_are_kept_unless_dropped(tmp_path):
    table = [*rows(20), ("", "a"), ("  ", "b"), ("", "b")]
    home = folder(tmp_path, train=table, validation=rows(4), test=rows(4))
    assert len(load(home).train) == 23
    dropped = load(home, drop_empty=True)
    assert dropped.train.row_ids.tolist() == [f"train:{i}" for i in range(20)]
    assert dropped.notes == ("3 rows with an empty text dropped from train",)


# ── identity ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_digest_changes_with_everything_a_run_depends_on(tmp_path):
    tables = {"train": rows(20), "validation": rows(6, start=20), "test": rows(6, start=30)}
    first = load(folder(tmp_path / "0", **tables))
    changes = {
        "same": tables,
        "text": tables | {"train": [("other", "a"), *rows(19, start=1)[:19]]},
        "label": tables | {"test": [("t30", "b"), *rows(5, start=31)]},
        "order": tables | {"train": [*rows(20)[1:], rows(20)[0]]},
        "role": {"train": tables["train"], "validation": tables["test"], "test": tables["validation"]},
        "names": {name: [(t, c.upper()) for t, c in table] for name, table in tables.items()},
    }
    digests = {name: load(folder(tmp_path / name, **table)).digest for name, table in changes.items()}
    assert digests.pop("same") == first.digest
    assert len({*digests.values(), first.digest}) == 1 + len(digests)
    extra = load(folder(tmp_path / "extra", **tables, other=rows(5)))
    assert extra.digest == first.digest  # nothing is learnt from it, nothing is judged on it


def test_the_digest_tells_pairs_from_other_pairs(tmp_path):
    def pairs(name, texts):
        table = [(*texts, "a"), *((f"x{i}", f"y{i}", "ab"[i % 2]) for i in range(20))]
        return load(write_csv(tmp_path / f"{name}.csv", table, ("premise", "hypothesis", "label"))).digest

    assert pairs("one", ("ab", "c")) != pairs("one", ("a", "bc"))


# ── what cannot be read ─────────────────────────────────────────────────────────────────────────────────────────────

GOOD = "text,label\n" + "".join(f"t{i},{'ab'[i % 2]}\n" for i in range(20))
OBJECT = '{"text": "a", "label": "x"}\n'
WRONG = {
    "empty.csv": ("", "empty.csv: empty file"),
    "header.csv": ("text,label\n", "header.csv: no rows"),
    "empty.jsonl": ("\n\n", "empty.jsonl: empty file"),
    "columns.csv": ("body,label\nx,1\n", "columns.csv: no 'text' among ['body', 'label']; pass --text body"),
    "label.csv": ("text,kind\nx,1\n", "label.csv: no 'label' among ['text', 'kind']; pass --label kind"),
    "texts.csv": ("review,content,label\na,b,1\n", "which of ['review', 'content', 'label'] is the text?"),
    "labels.csv": ("text,class,target\na,b,1\n", "which of ['text', 'class', 'target'] is the label?"),
    "latin.csv": (GOOD.encode() + b"caf\xe9,a\n", "latin.csv:22: not UTF-8 (byte 0xe9); convert it: iconv -f latin1"),
    "utf16.csv": (GOOD.encode("utf-16"), "utf16.csv:1: not UTF-8 (byte 0xff); convert it: iconv -f utf-16"),
    "more.csv": (GOOD + "x,a,b\n", "more.csv:22: 3 cells, but the header has 2"),
    "fewer.csv": (GOOD + '"two\nlines",a\nx\n', "fewer.csv:24: 1 cells, but the header has 2"),
    "unclosed.csv": (GOOD + '"abc,a\nfoo,b\n', "unclosed.csv:22: a quoted cell starts here and never ends"),
    "stray.csv": (GOOD + '"abc"d,a\n', "stray.csv:22: not valid CSV"),
    "broken.jsonl": (OBJECT + '{"text": "b",\n', "broken.jsonl:2: not valid JSON"),
    "latin.jsonl": (OBJECT.encode() + b'{"text": "\xe9"}\n', "latin.jsonl:2: not UTF-8"),
    "number.jsonl": (OBJECT + "3\n", "number.jsonl:2: not an object"),
    "pretty.json": ("{\n}\n", "pretty.json: an object over many lines; write one object a line"),
    "keyless.jsonl": (OBJECT + '{"label": "x"}\n', "keyless.jsonl:2: no 'text' among ['label']"),
    "list.jsonl": ('{"text": ["a"], "label": 1}\n', "list.jsonl:1: 'text' holds no text (list)"),
    "several.jsonl": ('{"text": "a", "label": [1, 2]}\n', "several.jsonl:1: several labels a row ([1, 2])"),
    "lists.csv": ('text,label\na,"[1, 2]"\nb,[3]\n', "lists.csv:2: several labels a row ([1, 2])"),
    "nan.csv": (GOOD + "x,\n", "nan.csv:22: label missing"),
    "nan_number.csv": ("text,label\na,1\nb,0\nc,NaN\n", "nan_number.csv:4: label missing"),
    "real.csv": ("text,label\nx,1.0\ny,0.5\n", "real.csv:3: real-valued label 0.5"),
    "one.csv": ("text,label\n" + "".join(f"t{i},a\n" for i in range(20)), "has one class, 'a' (16 rows); a classifier"),
    "tiny.csv": ("text,label\na,x\nb,y\n", "2 different texts of 2 classes are too few"),
    "fake.parquet": ("not parquet", "fake.parquet: not a parquet file"),
    "table.xlsx": ("x", "cannot read '.xlsx' files; convert it to one of .parquet, .csv"),
    "lines.txt": ("a\nb\n", "a .txt file has no labels to learn from"),
    "fake.csv.gz": ("text,label\n", "fake.csv.gz: damaged gzip file"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_is_refused_in_one_line(tmp_path, name):
    content, message = WRONG[name]
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    assert message in refused(tmp_path / name)


def test_wrong_labels_in_parquet_name_the_row(tmp_path):
    texts = [f"t{i}" for i in range(4)]
    cases = {
        "row 2: real-valued label 0.5": [0.0, 1.0, 0.5, 1.0],
        "row 1: label missing": [0.0, float("nan"), 1.0, 1.0],
        "row 3: label missing": [0, 1, 0, None],
        "row 0: several labels a row ([0])": [[0], [1], [0, 1], [1]],
    }
    for message, values in cases.items():
        assert message in refused(write_parquet(tmp_path / "f.parquet", text=texts, label=values))


def test_a_test_label_unseen_in_train_names_the_row(tmp_path):
    home = folder(tmp_path, train=rows(20), test=[("x", "a"), ("y", "c")])
    assert "test.csv:3: label 'c' of split 'test' has no row in 'train'" in refused(home)


def test_a_label_outside_labels_json_names_the_row(tmp_path):
    write_csv(tmp_path / "train.csv", [(f"t{i}", i % 3) for i in range(30)])
    (tmp_path / "labels.json").write_text('["a", "b"]')
    assert "train.csv:4: label '2' is none of the 2 named classes (a, b)" in refused(tmp_path).replace(
        "label 2", "label '2'"
    )


@pytest.mark.parametrize("text", ['["a"', "3", "[]", '{"x": "y"}', '["a", "a"]', '{"a": 0, "b": 0}'])
def test_a_wrong_labels_json_is_refused(tmp_path, text):
    write_csv(tmp_path / "train.csv", rows(20))
    (tmp_path / "labels.json").write_text(text)
    assert "labels.json" in refused(tmp_path)


def test_a_wrong_folder_is_refused_in_one_line(tmp_path):
    assert "no data files here" in refused(tmp_path)
    write_csv(tmp_path / "inner" / "train.csv", rows(4))
    assert "but in its folders inner; pass one of them" in refused(tmp_path)
    write_csv(tmp_path / "train.csv", rows(4))
    write_jsonl(tmp_path / "train.jsonl", [{"text": "a", "label": 1}])
    assert "split 'train' lies there more than once (train.csv, train.jsonl)" in refused(tmp_path)
    write_csv(tmp_path / "shards" / "train-00000-of-00003.csv", rows(4))
    assert "1 of 3 files of 'train' are there" in refused(tmp_path / "shards")


@pytest.mark.parametrize(
    "source", ["./nosuch", "nosuch.csv", "/nosuch", "~/nosuch", "a/b/c", "dir/train.parquet", "a b", "x" * 5000]
)
def test_what_looks_like_a_path_is_never_asked_of_the_hub(monkeypatch, source):
    monkeypatch.setattr("pipeline.data.hub.fetch", lambda name: pytest.fail(f"asked the Hub for {name}"))
    assert "no such file or folder" in refused(source)


def test_a_path_that_exists_is_never_taken_for_a_hub_name(tmp_path, monkeypatch):
    folder(tmp_path / "dair-ai" / "emotion", train=rows(20), test=rows(4))
    monkeypatch.chdir(tmp_path)
    assert load("dair-ai/emotion").class_names == ("a", "b")


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
    order = "files labels splits naming hub sources dataset rows roles chunks __init__".split()
    home = ROOT / "pipeline" / "data"
    assert sorted(path.stem for path in home.glob("*.py")) == sorted(order)
    for name in order:
        found = re.findall(
            r"^from pipeline\.data(?:\.(\w+))? import (.*)$", (home / f"{name}.py").read_text("utf-8"), re.M
        )
        parts = {part for module, names in found for part in ([module] if module else names.split(", "))}
        assert parts <= set(order[: order.index(name)]), name


def test_a_test_split_without_labels_is_named_when_train_is_cut(tmp_path):
    rows = "".join(f"text number {i},{'ab'[i % 2]}\n" for i in range(60))
    (tmp_path / "train.csv").write_text("text,label\n" + rows)
    (tmp_path / "test.csv").write_text("text,label\none more,\nand another,\n")
    found = read(SourceOptions(str(tmp_path)))
    assert set(found.roles) == {"train", "validation", "test"}
    assert any("'test' has no labels" in note for note in found.notes)
