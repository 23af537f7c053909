"""What cannot be read is refused in one line that says what is wrong with it."""

from pathlib import Path

import pytest
from tables import folder, load, refused, rows, write_csv, write_jsonl, write_parquet

from pipeline import UserError
from pipeline.data.sources import locate

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared" / "data"


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
    "latin.csv": (
        GOOD.encode() + b"caf\xe9,a\n",
        "latin.csv:22: not UTF-8 (byte 0xe9); it looks like CP1252 ('café,a'); convert it: iconv -f CP1252",
    ),
    "utf16.csv": (
        GOOD.encode("utf-16"),
        "utf16.csv:1: not UTF-8 (byte 0xff); it looks like UTF-16 ('text,label'); convert it: iconv -f UTF-16",
    ),
    "more.csv": (GOOD + "x,a,b\n", "more.csv:22: 3 cells, but the header has 2"),
    "fewer.csv": (GOOD + '"two\nlines",a\nx\n', "fewer.csv:24: 1 cells, but the header has 2"),
    "unclosed.csv": (GOOD + '"x",a\n"abc,a\nfoo,b\n', "unclosed.csv:23: a quoted cell starts here and never ends"),
    "stray.csv": (GOOD + '"x",a\n"abc"d,a\n', "stray.csv:23: not valid CSV"),
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
    "table.xls": ("x", "cannot read '.xls' files; save it as .xlsx or .csv"),
    "table.pdf": ("x", "cannot read '.pdf' files; convert it to one of .parquet, .csv"),
    "lines.txt": ("a\nb\n", "a .txt file has no labels to learn from"),
    "fake.csv.gz": ("text,label\n", "fake.csv.gz: damaged gzip file"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_is_refused_in_one_line(tmp_path, name):
    content, message = WRONG[name]
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())  # type: ignore[attr-defined]
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


@pytest.mark.parametrize("source", ["", "  "])
def test_an_empty_name_is_no_folder(source):
    with pytest.raises(UserError, match="SOURCE is empty; pass a file"):
        locate(source)
