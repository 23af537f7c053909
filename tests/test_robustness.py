"""Hostile inputs, from the file to the page: each row of docs/robustness.md has its test here, or is named there."""

import csv
import json
import re
from pathlib import Path

import pytest

import cli

ROOT = Path(__file__).parent.parent
ROWS = 60
HOSTILE = {
    "markup": "<script>alert(1)</script><img src=x onerror=alert(2)>",
    "closing tag": "</script><script>alert(3)</script>",
    "quotes": "\"'`;--><!--",
    "right-to-left": "\u202egnp.exe \u05e9\u05dc\u05d5\u05dd \u2066x\u2069",
    "terminal escapes": "\x1b[2J\x1b]0;taken\x07",
    "emoji": "👩‍👩‍👧‍👦 👍🏽 🏳️‍🌈 e\u0301 ﷽",
    "templates": "{{ 7*7 }} ${alert(4)} {% raw %}",
    "formula": '=HYPERLINK("http://example.org","x")',
    "NA": "NA",
    "null": "null",
}


def rows_with(texts, labels=("good", "bad")):
    """ROWS rows of (text, label) that can be learnt, the hostile `texts` spread among them."""
    rows = [(f"{'happy love' if i % 2 else 'boring hate'} story {i}", labels[i % 2]) for i in range(ROWS)]
    return [
        (texts[i // 3] if i % 3 == 0 and i // 3 < len(texts) else text, label) for i, (text, label) in enumerate(rows)
    ]


def write_csv(file, rows):
    with open(file, "w", newline="", encoding="utf-8", errors="surrogatepass") as handle:
        csv.writer(handle).writerows([("text", "label"), *rows])
    return file


@pytest.fixture
def call(capsys, tmp_path, tiny_distilbert):
    def call(command, source, *words):
        places = ["--cache", tmp_path / "cache", "--encoder", tiny_distilbert]
        if command != "explore":
            places += ["--runs", tmp_path / "runs", "--engine", "torch", "--precision", "fp32"]
            places += ["--contenders", "majority,tfidf,lr"]
        code = cli.main([str(word) for word in (command, source, *places, *words)])
        return code, *capsys.readouterr()

    return call


def page_of(home) -> str:
    (page,) = home.glob("runs/*/report.html")
    return page.read_text("utf-8")


def check_page(page: str) -> None:
    """Nothing of the data stands in the page as markup, and no file is as large as it should not be."""
    assert len(page.encode()) < 3_000_000
    scripts = re.findall(r"<script[^>]*>", page)
    assert scripts == ['<script type="application/json" id="given">', "<script>", "<script>"]
    given = json.loads(page.split('id="given">', 1)[1].split("</script>", 1)[0])
    assert given["disagreements"] is not None or given["audit"] is not None


def test_hostile_texts_from_file_to_page(call, tmp_path):
    file = write_csv(tmp_path / "reviews.csv", rows_with(list(HOSTILE.values())))
    code, out, err = call("explore", file, "--show-tokens", 3)
    assert (code, "Traceback" in err) == (0, False)
    code, out, err = call("compare", file, "--json")
    assert code == 0, err
    check_page(page_of(tmp_path))
    code, out, err = call("audit", file, "--out", tmp_path / "suspicious.csv")
    assert code == 0, err
    assert "\x1b" not in out
    assert "\u202e" not in out
    for row in csv.reader((tmp_path / "suspicious.csv").read_text("utf-8-sig").splitlines()):
        assert not any(cell.startswith(("=", "+", "-", "@")) for cell in row)


def test_hostile_class_names_from_file_to_page(call, tmp_path):
    labels = ("<script>alert('c')</script>", "</script>\u202e__proto__\"'")
    file = write_csv(tmp_path / "reviews.csv", rows_with([], labels))
    assert call("explore", file)[0] == 0
    code, out, err = call("compare", file, "--json")
    assert code == 0, err
    assert set(json.loads(out)["class_names"]) == set(labels)
    check_page(page_of(tmp_path))


def test_a_terminal_shows_names_and_does_not_obey_them(call, tmp_path):
    odd = "\x1b]0;taken\x07"
    rows = rows_with([], labels=(f"good{odd}", "bad"))
    file = tmp_path / "odd.csv"
    with open(file, "w", newline="", encoding="utf-8") as handle:
        lines = [(*row, odd if i % 2 else "\x9b31m") for i, row in enumerate(rows)]
        csv.writer(handle).writerows([("text", "label", "source"), *lines, ("once", f"rare{odd}", odd)])
    code, out, err = call("compare", file, "--by", "source")
    assert code == 0, err
    code, said, wrong = call("compare", file, "--metric", odd)
    assert code == 1
    for sign in "\x1b\x9b\x07":
        assert sign not in out + err + said + wrong
    assert "\ufffd]0;taken\ufffd" in out


def test_seventy_seven_long_class_names(call, tmp_path):
    names = [f"a very long name of a class that nobody would want to read in full, number {i}" for i in range(77)]
    rows = [(f"word{i % 77} again{i % 77} {i}", names[i % 77]) for i in range(77 * 10)]
    file = write_csv(tmp_path / "reviews.csv", rows)
    code, out, err = call("explore", file)
    assert code == 0
    assert "the 40 largest of 77" in out
    code, out, err = call("compare", file, "--no-cv")
    assert code == 0, err
    check_page(page_of(tmp_path))


@pytest.mark.parametrize(
    "text", ["", " ", "x" * 1_000_000, "word " * 200_000], ids=["empty", "blank", "1 MB", "1 MB of words"]
)
def test_a_text_of_no_or_a_million_characters(call, tmp_path, text):
    file = write_csv(tmp_path / "reviews.csv", rows_with([text]))
    code, out, err = call("explore", file, "--json")
    assert code == 0, err
    assert json.loads(out)["empty"] == (1 if not text.strip() else 0)
    code, out, err = call("audit", file, "--json")
    assert code == 0, err


def test_na_is_a_text_like_any_other(call, tmp_path):
    file = write_csv(tmp_path / "reviews.csv", rows_with(["NA", "null", "None", "nan"]))
    code, out, err = call("explore", file, "--json")
    assert code == 0, err
    assert json.loads(out)["empty"] == 0


def test_half_of_a_surrogate_pair(call, tmp_path):
    rows = rows_with(["lone \ud800 half"])
    file = tmp_path / "reviews.jsonl"
    file.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows), "ascii")
    code, _, err = call("explore", file, "--show-tokens", 2)
    assert code == 0, err
    code, _, err = call("compare", file, "--json")
    assert code == 0, err
    check_page(page_of(tmp_path))


REFUSED = {
    "not UTF-8": (b"text,label\ncaf\xe9 hate,bad\nlove,good\n", r"reviews\.csv.*UTF-8"),
    "nothing": (b"", r"reviews\.csv"),
    "header only": (b"text,label\n", r"reviews\.csv.*row"),
    "a picture": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(256)), r"reviews\.csv"),
    "one class": (b"text,label\n" + b"".join(b"text %d,same\n" % i for i in range(30)), r"one class|same"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_learnt_from_is_one_line(call, tmp_path, name):
    content, said = REFUSED[name]
    file = tmp_path / "reviews.csv"
    file.write_bytes(content)
    code, out, err = call("audit", file)
    assert code == 1
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert re.search(said, line), line
    assert not out


def test_one_row_of_a_class(call, tmp_path):
    file = write_csv(tmp_path / "reviews.csv", [*rows_with([]), ("the only one", "rare")])
    code, out, err = call("audit", file, "--json")
    assert code in (0, 1)
    assert "Traceback" not in err
    if code == 0:
        assert "rare" in err or "rare" in out


def test_nul_bytes(call, tmp_path):
    file = write_csv(tmp_path / "reviews.csv", rows_with(["nul \0 inside"]))
    code, out, err = call("explore", file, "--json")
    assert code == 0, err
    code, out, err = call("audit", file, "--out", tmp_path / "suspicious.csv")
    assert code == 0, err
    assert "\0" not in out + (tmp_path / "suspicious.csv").read_text("utf-8-sig")


def test_the_document_names_tests_that_exist():
    told = (ROOT / "docs" / "robustness.md").read_text("utf-8")
    named = re.findall(r"`(test_\w+)\.py::(test_\w+)`", told)
    assert len(named) >= 15
    for file, name in named:
        assert f"def {name}(" in (ROOT / "tests" / f"{file}.py").read_text("utf-8"), name
