"""Whatever people have is read by value: the same rows as pandas and Arrow read, or as whoever wrote them meant."""

import contextlib
import csv
import io
import json

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tables import all_rows, load, names_of, refused, rows, write_csv, write_jsonl, write_parquet

from pipeline import UserError
from pipeline.data import SourceOptions, read_chunks
from pipeline.data.codepages import likely

PAIRS = [(f"t{i}", "ab"[i % 2]) for i in range(40)]


def content(dataset) -> list[tuple[str, str]]:
    """Every (text, class name), sorted."""
    return sorted((text[0], name) for text, name in all_rows(dataset).values())


# ── CSV and TSV: the dialect that fits all of the file ──────────────────────────────────────────────────────────────

ODD = ['say "hi"', "a, b; c", "it's 5\" wide", "two\nlines", 'ends in "quotes"', '"whole"', "tab\there", "back\\slash"]


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_what_pandas_writes_is_read_as_it_was(tmp_path, suffix, quoting, delimiter):
    if suffix == "tsv" and delimiter != "\t":
        pytest.skip("a TSV file is cut by tabs")
    table = pd.DataFrame({"text": [*ODD, *(f"plain {i}" for i in range(30))], "label": ["a", "b"] * 19})
    path = tmp_path / f"t.{suffix}"
    table.to_csv(path, sep=delimiter, quoting=quoting, index=False)
    assert content(load(path)) == sorted(zip(table.text, table.label, strict=True))


@pytest.mark.parametrize(
    "opening", ['"never closed', 'in the "middle', 'a 5" pipe', '"one" and "two"', '""', '"whole"']
)
def test_a_quote_in_a_plain_tsv_is_a_letter(tmp_path, caplog, opening):
    lines = [f"{opening} {i}\t{'ab'[i % 2]}" if i % 9 == 3 else f"plain {i}\t{'ab'[i % 2]}" for i in range(60)]
    path = tmp_path / "t.tsv"
    path.write_text("text\tlabel\n" + "\n".join(lines) + "\n")
    read = pd.read_csv(path, sep="\t", quoting=csv.QUOTE_NONE)
    assert content(load(path)) == sorted(zip(read.text, read.label, strict=True))


def test_quotes_that_could_be_either_are_refused(tmp_path):
    """Two rows whose quotes would make one row of them; both ways of reading fit."""
    path = tmp_path / "t.csv"
    plain = "".join(f"t{i},{'ab'[i % 2]}\n" for i in range(30))
    path.write_text('text,label\n"x,a\ny",b\n' + plain.replace("t7,b", "t7,a"))
    message = refused(path)
    assert "31 rows if quotes hold cells together, 32 if they are letters" in message


@pytest.mark.parametrize(
    ("head", "line", "texts"),
    [
        ("sep=;\ntext;label\n", "t{i};{c}", "t{i}"),
        ("text|label\n", "t{i}|{c}", "t{i}"),
        ("text;label\n", '"x; t{i}";{c}', "x; t{i}"),
        ("text,label\n", '"x \\"y\\", t{i}",{c}', 'x "y", t{i}'),
        ("\ntext,label\n", "t{i},{c}", "t{i}"),
    ],
)
def test_other_dialects(tmp_path, head, line, texts):
    path = tmp_path / "t.csv"
    path.write_text(head + "".join(line.format(i=i, c="ab"[i % 2]) + "\n" for i in range(40)))
    assert content(load(path)) == sorted((texts.format(i=i), "ab"[i % 2]) for i in range(40))


@pytest.mark.parametrize("end", ["\r", "\r\n", "\n"])
def test_lines_end_as_they_may(tmp_path, end):
    (tmp_path / "t.csv").write_bytes(end.join(["text,label", *(f"{t},{c}" for t, c in PAIRS)]).encode())
    assert content(load(tmp_path / "t.csv")) == sorted(PAIRS)


def test_a_file_without_a_header_is_read_by_its_values(tmp_path):
    """As AG News and Sentiment140 come: the class first, then words."""
    table = [(i % 3 + 1, f"a title, number {i}", f"a longer text with many words, number {i}") for i in range(60)]
    with open(tmp_path / "train.csv", "w", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows(table)
    dataset = load(tmp_path)
    assert (dataset.text_columns, dataset.label_column, dataset.class_names) == (("3",), "1", ("1", "2", "3"))
    assert content(dataset) == sorted((text, str(number)) for number, _, text in table)


def test_two_files_joined_are_refused_at_the_second_header(tmp_path):
    path = write_csv(tmp_path / "t.csv", [*rows(20), ("text", "label"), *rows(20, start=20)])
    assert "t.csv:22: the header stands here again" in refused(path)


# ── too large, too deep, too odd ────────────────────────────────────────────────────────────────────────────────────


def test_a_cell_and_a_line_have_a_limit(tmp_path):
    big = "x" * 3_000_000
    assert "t.csv:2: 'text' has 3,000,000 characters, at most 2,000,000" in refused(
        write_csv(tmp_path / "t.csv", [(big, "a"), *rows(20)])
    )
    huge = tmp_path / "huge.csv"
    huge.write_bytes(b"text,label\n" + b"word " * 4_000_000 + b",a\n")
    assert "huge.csv:2: a line of more than 16 MB" in refused(huge)
    (tmp_path / "huge.jsonl").write_bytes(b'{"text": "' + b"word " * 4_000_000 + b'"}\n')
    assert "huge.jsonl:1: a line of more than 16 MB" in refused(tmp_path / "huge.jsonl")
    (tmp_path / "huge.json").write_bytes(b'[{"text": "' + b"word " * 4_000_000 + b'"}]\n')
    assert "huge.json row 0: not valid JSON" in refused(tmp_path / "huge.json")


@pytest.mark.parametrize("deep", ['{"a":' * 100_000, "[" * 100_000, '{"text":' + "[" * 5000 + "]" * 5000 + "}"])
@pytest.mark.parametrize("name", ["deep.jsonl", "deep.json", "labels.json"])
def test_deep_json_is_one_line(tmp_path, deep, name):
    write_csv(tmp_path / "train.csv", rows(20))
    (tmp_path / name).write_text(deep)
    assert "nested too deeply" in (message := refused(tmp_path if name == "labels.json" else tmp_path / name)) or (
        "not valid JSON" in message or "no text" in message
    )


def test_a_number_of_thousands_of_digits_is_one_line(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text('{"text": "x", "label": ' + "1" * 5000 + "}\n")
    assert "t.jsonl:1: not valid JSON" in refused(path)
    assert load(write_csv(tmp_path / "t.csv", [(f"t{i}", "12"[i % 2] * 5000) for i in range(40)])).class_names == (
        "1" * 5000,
        "2" * 5000,
    )


def test_what_is_no_regular_file_is_refused_at_once(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "zero.jsonl").symlink_to("/dev/zero")
    write_csv(tmp_path / "with" / "train.csv", rows(20))
    os.mkfifo(tmp_path / "with" / "labels.json")
    assert "pipe.csv: a pipe, not a file" in refused(tmp_path / "pipe.csv")
    assert "zero.jsonl: a device, not a file" in refused(tmp_path / "zero.jsonl")
    assert "labels.json: a pipe, not a file" in refused(tmp_path / "with")


# ── Parquet ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_columns_that_nobody_asked_for_are_not_read(tmp_path):
    n = 40
    columns = [
        pa.array([t for t, _ in PAIRS]),
        pa.array([c for _, c in PAIRS]),
        pa.array([2**62] * n, pa.timestamp("us")),  # the year 148,108
        pa.array([2**62] * n, pa.timestamp("ns")),
        pa.array([[1.0, 2.0]] * n),
        pa.array(["x"] * n),
        pa.array(["y"] * n),
        pa.array([b"\xff\xfe"] * n),
        pa.array([2**40] * n, pa.duration("s")),
    ]
    names = ["text", "label", "when", "then", "vector", "twice", "twice", "raw", "took"]
    pq.write_table(pa.Table.from_arrays(columns, names), tmp_path / "t.parquet")
    assert content(load(tmp_path / "t.parquet")) == sorted(PAIRS)
    assert "2 columns are called twice" in refused(tmp_path / "t.parquet", text=("twice",))
    assert "out of range" in refused(tmp_path / "t.parquet", text=("when",))


@pytest.mark.parametrize(
    "kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string()), pa.binary()]
)
def test_text_of_every_arrow_type(tmp_path, kind):
    texts = pa.array([t for t, _ in PAIRS])
    array = texts.dictionary_encode() if pa.types.is_dictionary(kind) else texts.cast(kind)
    pq.write_table(pa.table({"text": array, "label": [c for _, c in PAIRS]}), tmp_path / "t.parquet")
    assert content(load(tmp_path / "t.parquet")) == sorted(PAIRS)


def test_a_text_that_is_not_a_number_is_empty(tmp_path):
    texts = [float("nan") if i % 4 == 0 else i / 2 for i in range(40)]
    path = write_parquet(tmp_path / "t.parquet", text=texts, label=[c for _, c in PAIRS])
    wanted = [("" if i % 4 == 0 else str(i / 2), "ab"[i % 2]) for i in range(40)]
    assert content(load(path, split="80/0/20")) == sorted(wanted)


def test_damaged_parquet_is_one_line(tmp_path):
    path = write_parquet(tmp_path / "t.parquet", text=[t for t, _ in PAIRS], label=[c for _, c in PAIRS])
    raw, random = path.read_bytes(), np.random.default_rng(0)
    for _ in range(40):
        broken = bytearray(raw)
        for at in random.integers(4, len(raw) - 8, 3):
            broken[at] = random.integers(256)
        path.write_bytes(bytes(broken))
        with contextlib.suppress(UserError):
            assert len(content(load(path))) == 40


# ── nested fields ───────────────────────────────────────────────────────────────────────────────────────────────────

NESTED = [{"content": {"text": t, "more": {"kind": c}}, "label": {"name": c}} for t, c in PAIRS]


@pytest.mark.parametrize("suffix", ["jsonl", "json", "parquet", "arrow"])
def test_nested_fields_have_their_path_as_name(tmp_path, suffix):
    path = tmp_path / f"t.{suffix}"
    if suffix == "jsonl":
        write_jsonl(path, NESTED)
    elif suffix == "json":
        path.write_text(json.dumps(NESTED))
    elif suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(NESTED), path)
    else:
        table = pa.Table.from_pylist(NESTED)
        with pa.ipc.new_stream(path, table.schema) as writer:
            writer.write_table(table)
    assert content(load(path, text=("content.text",), label="content.more.kind")) == sorted(PAIRS)
    assert content(load(path, text=("content.text",), label="label.name")) == sorted(PAIRS)
    assert "pass --text content.text" in refused(path)


# ── Excel ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_excel(tmp_path, caplog):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.append(["text", "label", "when"])
    for i, (text, label) in enumerate(PAIRS):
        book.active.append([text, label, pd.Timestamp("2024-01-01")])
        if i == 3:
            book.active.append([])
    book.create_sheet("other").append(["not", "read"])
    book.save(tmp_path / "t.xlsx")
    read = pd.read_excel(tmp_path / "t.xlsx").dropna(how="all")
    assert content(load(tmp_path / "t.xlsx")) == sorted(zip(read.text, read.label, strict=True)) == sorted(PAIRS)
    (tmp_path / "broken.xlsx").write_bytes((tmp_path / "t.xlsx").read_bytes()[:2000])
    assert "broken.xlsx: not an Excel file, or damaged" in refused(tmp_path / "broken.xlsx")


def test_numbers_in_excel_are_classes(tmp_path):
    pytest.importorskip("openpyxl")
    pd.DataFrame({"text": [t for t, _ in PAIRS], "label": [1.0, 2.0] * 20}).to_excel(tmp_path / "t.xlsx", index=False)
    assert load(tmp_path / "t.xlsx").class_names == ("1", "2")


# ── folders ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def write_texts(home, **classes):
    for name, texts in classes.items():
        (home / name).mkdir(parents=True)
        for i, text in enumerate(texts):
            (home / name / f"{i}_{i % 10}.txt").write_text(text)


def test_a_folder_of_texts_for_each_class(tmp_path):
    """As the large movie review data set comes: with texts that have no class, and lists of addresses beside."""
    write_texts(tmp_path / "train", pos=[f"good\n{i}" for i in range(20)], neg=[f"bad {i}\n" for i in range(20)])
    write_texts(tmp_path / "train", unsup=["who knows"] * 3)
    write_texts(tmp_path / "test", pos=["fine"], neg=["poor"])
    (tmp_path / "train" / "urls_pos.txt").write_text("http://x\n")
    dataset = load(tmp_path)
    assert dataset.class_names == ("neg", "pos")
    assert content(dataset) == sorted(
        [(f"good\n{i}", "pos") for i in range(20)]
        + [(f"bad {i}", "neg") for i in range(20)]
        + [("fine", "pos"), ("poor", "neg")]
    )
    assert sum(len(c.texts) for c in read_chunks(SourceOptions(str(tmp_path)))) == 42
    assert len(content(load(tmp_path / "train"))) == 40
    (tmp_path / "train" / "pos" / "0_0.txt").write_bytes("très déçu".encode("cp1252"))
    assert "0_0.txt:1: not UTF-8 (byte 0xe8); it looks like CP1252 ('très déçu')" in refused(tmp_path)


def test_what_save_to_disk_writes(tmp_path):
    names = datasets.ClassLabel(names=["bad", "good"])
    features = datasets.Features({"text": datasets.Value("string"), "label": names})
    made = datasets.Dataset.from_dict({"text": [t for t, _ in PAIRS], "label": [0, 1] * 20}, features=features)
    datasets.DatasetDict(train=made, test=made.select(range(6))).save_to_disk(tmp_path / "both")
    made.select(range(20, 40)).shuffle(seed=1).save_to_disk(tmp_path / "one", num_shards=3)
    both = load(tmp_path / "both")
    assert (both.class_names, len(both.test)) == (("bad", "good"), 6)
    assert sorted(content(load(tmp_path / "one"))) == sorted((f"t{i}", ["bad", "good"][i % 2]) for i in range(20, 40))
    state = tmp_path / "both" / "test" / "state.json"
    state.write_text(state.read_text().replace("data-", "../train/data-"))
    assert "names files elsewhere" in refused(tmp_path / "both")
    state.write_text('{"_data_files": [{"filename": 5}]}')
    assert "_data_files[0].filename is 5, not a string" in refused(tmp_path / "both")


@pytest.mark.parametrize("name", ["test_labels", "test-answers", "testlabels"])
def test_labels_beside_their_rows(tmp_path, name):
    write_csv(tmp_path / "train.csv", [(i, f"t{i}", "ab"[i % 2]) for i in range(40)], ("id", "text", "label"))
    write_csv(tmp_path / "test.csv", [(i, f"x{i}") for i in range(6)], ("id", "text"))
    write_csv(tmp_path / f"{name}.csv", [(i, "ab"[i % 2]) for i in reversed(range(6))], ("id", "label"))
    write_csv(tmp_path / "sample_submission.csv", [(i, "a") for i in range(6)], ("id", "label"))
    dataset = load(tmp_path)
    assert dataset.roles["test"] == "test"
    assert names_of(dataset, "test") == ["a", "b"] * 3
    assert [text for (text,) in dataset.test.texts] == [f"x{i}" for i in range(6)]
    assert len([text for c in read_chunks(SourceOptions(str(tmp_path))) for text in c.texts]) == 46
    write_csv(tmp_path / f"{name}.csv", [(i, "a") for i in (0, 1, 2, 2, 3, 4, 5)], ("id", "label"))
    assert f"{name}.csv: id '2' is there twice" in refused(tmp_path)
    write_csv(tmp_path / f"{name}.csv", [(i, "a") for i in range(5)], ("id", "label"))
    assert f"test.csv:7: id '5' is not in {tmp_path}" in refused(tmp_path)
    write_csv(tmp_path / f"{name}.csv", [("a",)] * 6, ("label",))
    assert "no column says which row of test.csv a label is of" in refused(tmp_path)


# ── labels ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def declared(names):
    features = {"text": {"dtype": "string", "_type": "Value"}, "label": {"names": names, "_type": "ClassLabel"}}
    return {"huggingface": json.dumps({"info": {"features": features}})}


def test_class_labels_are_matched_by_name(tmp_path):
    texts = [t for t, _ in PAIRS]
    write_parquet(tmp_path / "train.parquet", declared(["bad", "good"]), text=texts, label=[0, 1] * 20)
    write_parquet(tmp_path / "validation.parquet", declared(["good", "bad"]), text=texts[:4], label=[1, 0, 1, 0])
    write_parquet(tmp_path / "test.parquet", declared(["good", "bad"]), text=texts[:4], label=[1, 0, 1, 0])
    dataset = load(tmp_path)
    assert names_of(dataset, "test") == names_of(dataset, "validation") == ["bad", "good"] * 2
    words = [w for c in read_chunks(SourceOptions(str(tmp_path)), split="test") for w in c.labels]
    assert words == ["bad", "good"] * 2
    write_parquet(tmp_path / "test.parquet", declared(["good", "awful"]), text=texts[:4], label=[1, 0, 1, 0])
    message = refused(tmp_path)
    assert "test.parquet: split 'test' names other classes than 'train' (only there: awful; only in" in message
    write_parquet(tmp_path / "test.parquet", declared(["good", "good"]), text=texts[:4], label=[1, 0, 1, 0])
    assert "test.parquet: two classes of 'label' are called 'good'" in refused(tmp_path)


@pytest.mark.parametrize(
    ("written", "classes"),
    [
        (["0110", "820"], ("0110", "820")),
        (["007", "7"], ("007", "7")),
        (["1e2", "100"], ("100", "1e2")),
        (["1.10", "1.1"], ("1.1", "1.10")),
        (["+1", "1"], ("+1", "1")),
        (["1_000", "1000"], ("1000", "1_000")),
        (["0x1F", "31"], ("0x1F", "31")),
        (["٣", "3"], ("3", "٣")),
        (["-0", "0"], ("-0", "0")),
        (["Infinity", "nan."], ("Infinity", "nan.")),
        (["True", "False"], ("False", "True")),
        ([" 1", "1"], (" 1", "1")),
        (["10", "9"], ("9", "10")),
        (["1.0", "0.0"], ("0", "1")),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_codes_are_names(tmp_path, suffix, written, classes):
    texts, values = [f"t{i}" for i in range(40)], written * 20
    path = tmp_path / f"t.{suffix}"
    if suffix == "csv":
        write_csv(path, zip(texts, values, strict=True))
    elif suffix == "jsonl":
        write_jsonl(path, [{"text": t, "label": v} for t, v in zip(texts, values, strict=True)])
    else:
        write_parquet(path, text=texts, label=values)
    if suffix != "csv" and written == ["1.0", "0.0"]:
        classes = ("0.0", "1.0")  # typed files say that it is text
    assert load(path).class_names == classes


def test_labels_that_name_rows_are_refused(tmp_path):
    assert "'label' has 60 different values in 60 rows: it names rows" in refused(
        write_csv(tmp_path / "t.csv", [(f"t{i}", f"id-{i}") for i in range(60)])
    )


def test_labels_that_differ_in_looks_alone_are_said(tmp_path):
    names = ["Good", "good ", "bad", "bad\u200b"]
    notes = load(write_csv(tmp_path / "t.csv", [(f"t{i}", names[i % 4]) for i in range(80)])).notes
    assert "classes that differ in case or white space alone: 'Good', 'good '; merge them" in notes


# ── code pages ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("cp1252", "it’s “fine” – works"),
        ("cp1252", "Diseño pésimo, no volveré a comprar ¿por qué?"),
        ("latin1", "Très déçu"),
        ("latin1", "Größe paßt"),
        ("mac_roman", "café works"),
        ("shift_jis", "とても良い商品でした。"),
        ("cp932", "最悪の映画"),
        ("euc_jp", "退屈な話だと思う"),
        ("gb18030", "质量很差,不推荐购买"),
        ("big5", "品質很差不推薦購買"),
        ("euc_kr", "배송이 너무 느려요"),
        ("cp1251", "Очень хороший товар"),
        ("koi8_r", "плохое качество"),
        ("cp1250", "bardzo zły produkt, nie polecam żółty"),
        ("cp1254", "çok güzel bir ürün, teşekkürler"),
        ("utf-16", "text,label"),
        ("utf-16-le", "text,label"),
        ("utf-16-be", "text,label"),
        ("utf-32", "text,label"),
    ],
)
def test_the_code_page_that_is_named_reads_the_text(page, text):
    name, shown = likely(text.encode(page))
    assert text in shown
    assert text in io.TextIOWrapper(io.BytesIO(text.encode(page)), name.replace("MACINTOSH", "mac_roman")).read()
