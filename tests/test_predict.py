"""Texts in, answers out: whatever they come from, in order, in every format."""

import csv
import io
import json
import queue

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline import UserError
from pipeline.predict import Answer, answers, line_blocks, open_run, texts_in, write
from pipeline.run import Cost, Run


class Shout:
    """Probability of 'loud' = share of capitals."""

    def proba(self, texts):
        share = np.array([sum(c.isupper() for c in text[0]) / max(1, len(text[0])) for text in texts])
        return np.stack([1 - share, share], 1).astype(np.float32)


def a_run(**settings):
    return Run("lr", settings, ("calm", "loud"), {}, Cost(), "mails", "d" * 32)


def told(texts):
    return [Answer((text,), "calm", {"calm": 0.75, "loud": 0.25}) for text in texts]


def test_answers_keep_the_order_across_blocks():
    found = list(answers(a_run(), Shout(), [[("ab",), ("AB",)], [("Ab",)]]))
    assert [(a.text[0], a.label, a.proba["loud"]) for a in found] == [
        ("ab", "calm", 0),
        ("AB", "loud", 1),
        ("Ab", "calm", 0.5),
    ]


def test_a_pair_for_a_run_on_single_texts_is_refused():
    with pytest.raises(UserError, match="reads 1 texts a row and got 2"):
        list(answers(a_run(text_parts=1), Shout(), [[("a", "b")]]))


def test_a_run_on_pairs_takes_arguments_in_pairs():
    run = a_run(text_parts=2)
    assert next(texts_in(run, ["a", "b", "c", "d"], None, (), [])) == [("a", "b"), ("c", "d")]
    with pytest.raises(UserError, match="pass them in pairs"):
        texts_in(run, ["a", "b", "c"], None, (), [])
    assert list(line_blocks(["a\tb\n"], parts=2)) == [[("a", "b")]]


def test_texts_and_a_file_are_one_too_many(tmp_path):
    with pytest.raises(UserError, match="pass one of the two"):
        texts_in(a_run(), ["a"], tmp_path / "f.txt", (), [])


def test_lines_are_answered_as_they_come():
    typed = queue.Queue()

    def lines():
        while (line := typed.get()) is not None:
            yield line

    blocks = line_blocks(lines())
    typed.put("first\n")
    assert next(blocks) == [("first",)]  # answered before the second is typed
    typed.put("second\r\n")
    assert next(blocks) == [("second",)]
    typed.put(None)
    assert list(blocks) == []


@pytest.mark.parametrize("name", ["o.jsonl", "o.csv", "o.parquet"])
def test_every_format_holds_the_same_answers(tmp_path, name):
    texts = ['with "quotes", and\nlines', "日本", ""]
    assert write(told(texts), tmp_path / name) == 3
    if name.endswith("jsonl"):
        rows = [json.loads(line) for line in (tmp_path / name).read_text("utf-8").splitlines()]
        assert rows[0] == {"text": texts[0], "label": "calm", "proba": {"calm": 0.75, "loud": 0.25}}
    elif name.endswith("csv"):
        rows = list(csv.DictReader(io.StringIO((tmp_path / name).read_bytes().decode("utf-8"), newline="")))
        assert rows[0] == {"text": texts[0], "label": "calm", "p_calm": "0.75", "p_loud": "0.25"}
    else:
        rows = pq.read_table(tmp_path / name).to_pylist()
        assert rows[0] == {"text": texts[0], "label": "calm", "p_calm": 0.75, "p_loud": 0.25}
    assert [row["text"] for row in rows] == texts
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_broken_off_write_leaves_nothing(tmp_path):
    def broken():
        yield told(["a"])[0]
        raise UserError("the encoder is gone")

    with pytest.raises(UserError, match="gone"):
        write(broken(), tmp_path / "o.csv")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_suffix_is_answered_with_the_list(tmp_path):
    with pytest.raises(UserError, match=r"\.jsonl, \.csv, \.parquet"):
        write(told(["a"]), tmp_path / "o.xlsx")


def test_an_unknown_kind_is_answered_with_the_list():
    with pytest.raises(UserError, match="no kind of run 'oracle'"):
        open_run(Run("oracle", {}, ("a", "b"), {}, Cost(), "mails", "d" * 32))
