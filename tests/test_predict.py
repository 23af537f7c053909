"""Texts in, answers out: whatever they come from, in order, in every format."""

import csv
import io
import json
import queue
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline import UserError
from pipeline.predict import Answer, Ask, Given, answers, line_blocks, open_run, texts_in, write
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
    assert next(texts_in(run, Given(("a", "b", "c", "d")), [])) == [("a", "b"), ("c", "d")]
    with pytest.raises(UserError, match="pass them in pairs"):
        texts_in(run, Given(("a", "b", "c")), [])
    assert list(line_blocks(["a\tb\n"], parts=2)) == [[("a", "b")]]


def test_a_line_that_is_not_utf8_ends_in_one_line_after_those_before_it():
    def lines():
        yield "good\n"
        raise UnicodeDecodeError("utf-8", b"caf\xe9", 3, 4, "unexpected end")

    found = line_blocks(lines())
    assert next(found) == [("good",)]
    with pytest.raises(UserError, match="not UTF-8; convert it"):
        next(found)


def test_texts_and_a_file_are_one_too_many(tmp_path):
    with pytest.raises(UserError, match="pass one of the two"):
        texts_in(a_run(), Given(("a",), tmp_path / "f.txt"), [])


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
    with pytest.raises(UserError, match=r"^runs/x: no kind of run 'oracle'"):
        open_run(Run("oracle", {}, ("a", "b"), {}, Cost(), "mails", "d" * 32, folder=Path("runs/x")))


# ── which label, and whether one at all ─────────────────────────────────────────────────────────────────────────────


class Thirds:
    """Three classes, in shares that the text itself states."""

    def proba(self, texts):
        return np.array([[float(part) for part in text[0].split()] for text in texts], np.float32)


def three(texts, **ask):
    run = Run("lr", {}, ("a", "b", "c"), {}, Cost(), "mails", "d" * 32)
    return list(answers(run, Thirds(), [[(text,) for text in texts]], Ask(**ask)))


def test_top_k_are_the_likeliest_first():
    (found,) = three(["0.2 0.5 0.3"], top_k=2)
    assert list(found.proba.items()) == [("b", 0.5), ("c", 0.3)]
    assert found.to_row() == {"text": "0.2 0.5 0.3", "label": "b", "top_1": "b", "p_1": 0.5, "top_2": "c", "p_2": 0.3}
    assert len(three(["0.2 0.5 0.3"], top_k=9)[0].proba) == 3


def test_below_the_limit_there_is_no_label():
    sure, unsure = three(["0.1 0.8 0.1", "0.3 0.4 0.3"], abstain_below=0.5)
    assert sure.to_json() == {
        "text": "0.1 0.8 0.1", "label": "b", "abstained": False, "proba": {"a": 0.1, "b": 0.8, "c": 0.1},
    }  # fmt: skip
    assert (unsure.label, unsure.to_json()["abstained"]) == (None, True)
    assert "abstained" not in three(["0.3 0.4 0.3"])[0].to_json()


def test_a_threshold_decides_instead_of_the_likelier_class():
    model = Shout()
    model.threshold = 0.25  # type: ignore[attr-defined]
    found = list(answers(a_run(), model, [[("Abcd",), ("Abc",), ("abc",)]], Ask(abstain_below=0.3)))
    assert [(a.label, a.abstained) for a in found] == [(None, True), ("loud", False), ("calm", False)]


@pytest.mark.parametrize("name", ["o.jsonl", "o.csv", "o.parquet"])
def test_a_file_whose_first_answers_all_abstain(tmp_path, name):
    texts = ["0.4 0.3 0.3"] * 9000 + ["0.9 0.1 0"]
    assert write(iter(three(texts, abstain_below=0.5, top_k=1)), tmp_path / name) == 9001
    if name.endswith("parquet"):
        last = pq.read_table(tmp_path / name).to_pylist()[-1]
        assert last | {"p_1": 0} == {"text": texts[-1], "label": "a", "abstained": False, "top_1": "a", "p_1": 0}


def test_metrics_and_verdict_use_the_threshold(tmp_path):
    from pipeline.run import Predictions, load_run, save
    from pipeline.verdict import compare

    rows, truth = np.array([f"test:{i}" for i in range(4)]), np.array([0, 1, 1, 0])
    second = np.array([0.1, 0.4, 0.45, 0.2])
    proba = np.stack([1 - second, second], 1).astype(np.float32)

    def saved(threshold):
        kept = {"test": Predictions("test", rows, truth, proba, threshold)}
        run = Run("lr", {"t": threshold}, ("calm", "loud"), kept, Cost(), "mails", "d" * 32, threshold=threshold)
        return load_run(save(run, tmp_path / str(threshold), lambda folder: (folder / "x").touch()).folder)

    plain, cut = saved(None), saved(0.3)
    assert (plain.metrics["test"]["accuracy"], cut.metrics["test"]["accuracy"]) == (0.5, 1.0)
    assert plain.metrics["test"]["log_loss"] == cut.metrics["test"]["log_loss"]
    found = compare([plain, cut], draws=50, row_draws=50)
    assert [c.metrics["accuracy"].value for c in found.contenders] == [1.0, 0.5]
    assert found.pairs[0].difference == 0.5
