"""Looking at a data set: every number of the profile against one that fits in the head."""

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data import Dataset, SourceOptions, read
from pipeline.explore import count_tokens, cut_at, leaks, profile, proposed_length, repeats, token_summary
from pipeline.explore.vocabulary import unknown_words
from pipeline.show.profiles import bar, box

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared" / "data"


class Words:
    """One token a word, and one special token for every text and one before them, as [CLS] a [SEP] b [SEP]."""

    def lengths(self, texts):
        return np.array([1 + sum(len(part.split()) + 1 for part in text) for text in texts])


def write(home: Path, header=("text", "label"), **tables) -> Path:
    for name, table in tables.items():
        with open(home / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header, *table])
    return home


def load(source, **options) -> Dataset:
    return read(SourceOptions(str(source), **options))


@pytest.fixture
def small(tmp_path) -> Dataset:
    """6 rows of train, 2 of validation, 3 of test; what is wrong with them stands beside."""
    return load(
        write(
            tmp_path,
            train=[
                ("one", "a"),
                ("two words", "b"),
                ("one", "b"),  # repeats, with another label
                ("two words", "b"),  # repeats
                ("", "a"),  # empty
                ("three short words", "a"),
            ],
            validation=[("new", "a"), ("two words", "b")],  # the second leaks
            test=[("new", "b"), ("one", "a"), (" two  words", "a")],  # all three leak, the last but for white space
        )
    )


def test_the_contract_of_the_json_output(small):
    found = json.loads(json.dumps(profile(small, Words(), limit=512).to_json()))
    assert found["splits"]["train"]["rows"] == 6
    assert found["splits"]["train"]["classes"] == {"a": 3, "b": 3}
    assert found["splits"]["test"]["classes"] == {"a": 2, "b": 1}
    assert set(found["tokens"]) == {"mean", "p50", "p90", "p95", "p99", "max"}
    assert found["tokens"]["max"] == 5
    assert found["max_length"] == 8
    assert found["truncated_share"] == 0
    assert found["empty"] == 1
    assert found["duplicates"] == 2
    assert found["conflicting"] == 1
    assert found["leaks"] == {"train/validation": 1, "train/test": 1, "validation/test": 1}
    assert found["near_leaks"] == {"train/validation": 0, "train/test": 1, "validation/test": 1}
    assert found["sorted_by_label"] is False
    assert all(isinstance(sentence, str) for sentence in found["findings"])


def test_roles_are_named_beside_the_splits(small):
    found = profile(small, Words(), limit=512)
    assert {name: split.role for name, split in found.splits.items()} == {
        "train": "train",
        "validation": "validation",
        "test": "test",
    }


def test_numbers_by_class(small):
    found = profile(small, Words(), limit=512)
    # a: "one", "", "three short words", "new", "one", " two  words"; b: "two words", "one", "two words", twice, "new"
    assert found.words_by_class["a"] == {"min": 0, "p25": 1, "p50": 1, "p75": 1.75, "max": 3, "mean": 8 / 6}
    assert found.tokens_by_class["a"]["max"] == 5
    assert found.words_by_class["b"] == {"min": 1, "p25": 1, "p50": 2, "p75": 2, "max": 2, "mean": 8 / 5}


def test_truncation_counts_texts_longer_than_the_effective_length(small):
    found = profile(small, Words(), limit=512, max_length=3)
    # tokens: 3, 4, 3, 4, 2, 5 | 3, 4 | 3, 3, 4
    assert found.truncated_share == pytest.approx(5 / 11)
    assert found.splits["train"].truncated_share == pytest.approx(3 / 6)
    assert (found.effective_max_length, found.max_length, found.limit) == (3, 8, 512)
    assert found.padded_share == pytest.approx(1 - (10 * 3 + 2) / 33)  # each padded to 3: only the text of 2 is
    assert profile(small, Words(), limit=4, max_length=99).effective_max_length == 4


def test_pairs_are_measured_as_they_are_fed(tmp_path):
    table = [(f"a premise {i}", "one two three four", "xy"[i % 2]) for i in range(20)]
    dataset = load(write(tmp_path, ("premise", "hypothesis", "label"), train=table))
    assert profile(dataset, Words(), limit=512).tokens["max"] == 3 + 4 + 3
    assert profile(dataset, Words(), limit=512).max_length == 16


@pytest.mark.parametrize(
    ("lengths", "limit", "proposed"),
    [([8] * 100, 512, 8), ([9] * 100, 512, 16), ([103] * 100, 512, 104), ([3], 512, 8), ([600] * 9, 512, 512)],
)
def test_the_proposed_length_is_the_99_percent_quantile_up_to_a_multiple_of_8(lengths, limit, proposed):
    assert proposed_length(np.array(lengths), limit) == proposed


def test_one_long_text_in_a_thousand_does_not_set_the_length():
    assert proposed_length(np.array([20] * 999 + [400]), 512) == 24


@given(st.lists(st.integers(2, 600), min_size=1))
def test_at_most_a_hundredth_is_longer_than_the_proposed_length(lengths):
    found = np.array(lengths)
    proposed = proposed_length(found, 10_000)
    assert proposed % 8 == 0
    assert (found > proposed).mean() <= 0.01 + 1 / len(found)
    assert token_summary(found)["max"] == max(lengths)


def test_repeats_and_conflicts():
    texts = [("a",), ("b",), ("a",), ("a",), ("c",), ("b",)]
    assert repeats(texts, np.array([0, 1, 0, 1, 2, 1])) == (3, 1, 1)  # one of the three "a" is outvoted
    assert repeats(texts, np.full(6, -1)) == (3, 0, 0)


def test_leaks_count_rows_of_the_second_split(small):
    exact, near = leaks(small.splits)
    assert exact["train/test"] == 1
    assert near["train/test"] == 1


def test_label_names_in_the_text(tmp_path):
    table = [
        ("I feel JOY today", "joy"),
        ("enjoyable", "joy"),  # not a word of its own
        ("my top up failed", "top_up"),
        ("top-up", "top_up"),
        *((f"nothing {i}", name) for i in range(8) for name in ("joy", "top_up")),
    ]
    dataset = load(write(tmp_path, train=table, validation=[("x", "joy")], test=[("y", "top_up"), ("z", "top_up")]))
    found = profile(dataset, Words(), limit=512).named_in_text
    assert found == {"joy": 1 / 11, "top_up": 1 / 12}


def test_sorted_by_label(tmp_path):
    table = [*((f"a{i}", "a") for i in range(20)), *((f"b{i}", "b") for i in range(20))]
    dataset = load(
        write(tmp_path, train=table, validation=table[::7] + table[:3], test=[("x", "b"), ("y", "a"), ("z", "b")])
    )
    found = profile(dataset, Words(), limit=512)
    assert found.sorted_by_label
    assert [name for name, split in found.splits.items() if split.sorted_by_label] == ["train"]


# ── findings ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_findings_say_what_is_wrong_dearest_first(small):
    found = profile(small, Words(), limit=512).findings
    assert [finding.cost for finding in found] == sorted((f.cost for f in found), reverse=True)
    sentences = [finding.sentence for finding in found]
    assert "1 row of test (33.3%) stands in train: scores on test flatter whoever remembers train." in sentences
    assert (
        "1 row of test (33.3%) stands in train but for white space: scores on test flatter whoever remembers train."
        in sentences
    )
    assert "1 texts of train have more than one label: at best 83.3% of its rows can be got right." not in sentences
    assert "1 text of train has more than one label: at best 83.3% of its rows can be got right." in sentences
    assert "2 rows of train (33.3%) repeat an earlier text." in sentences
    assert "1 row (9.1%) has an empty text; --drop-empty leaves them out." in sentences


def test_uneven_classes_are_found(tmp_path):
    table = [(f"t{i}", "b" if i % 10 == 0 else "a") for i in range(100)]
    other = [("x", "a"), ("y", "b")]
    dataset = load(write(tmp_path, train=table, validation=other, test=[("z", "a"), ("w", "b")]))
    first = profile(dataset, Words(), limit=512).findings[0]
    assert first.kind == "imbalance"
    assert first.cost == pytest.approx(0.4)
    assert first.sentence.startswith(
        "Classes are uneven: 90 rows of 'a', 10 of 'b' in train; always answering 'a' is right for 90.0% of them"
    )


def sentences_of(dataset) -> str:
    return "\n".join(finding.sentence for finding in profile(dataset, Words(), limit=512).findings)


def test_texts_that_stand_for_nothing_are_found(tmp_path):
    table = [("nan" if i % 4 else f"t{i} NaN", "ab"[i % 2]) for i in range(40)]
    dataset = load(write(tmp_path, train=table, validation=table[:4], test=[("None ", "a"), ("nan", "b")]))
    assert profile(dataset, Words(), limit=512).placeholders == 30 + 3 + 2
    assert "35 rows (76.1%) are nothing but a word for a missing value, such as 'nan'" in sentences_of(dataset)


@pytest.mark.parametrize("names", [("good", "Good"), ("good", "good "), ("not spam", "not-spam"), ("a\u200b", "a")])
def test_labels_that_differ_in_looks_alone_are_found(tmp_path, names):
    table = [(f"t{i}", names[i % 2] if i % 4 < 2 else "other") for i in range(80)]
    dataset = load(write(tmp_path, train=table, validation=table[:4], test=table[:4]))
    sentence = f"hyphens alone: {', '.join(map(repr, sorted(names)))}; these are 2 classes here."
    assert sentence in sentences_of(dataset)


def test_labels_that_are_moments_or_names_are_found(tmp_path):
    table = [(f"t{i}", f"2024-{i % 12 + 1:02}-01 00:00") for i in range(120)]
    dated = load(write(tmp_path, train=table, validation=table[:12], test=table[:12]))
    assert "The labels are dates (12 classes in 144 rows)" in sentences_of(dated)
    table = [(f"t{i}", f"user{i // 3}") for i in range(180)]
    named = load(write(tmp_path, train=table, validation=table[:12], test=table[:12]))
    assert "60 classes in 204 rows, fewer than 5 a class" in sentences_of(named)


def test_a_clean_data_set_has_no_findings(tmp_path):
    table = [(f"t{i}", "ab"[i % 2]) for i in range(120)]
    dataset = load(write(tmp_path, train=table[:60], validation=table[60:90], test=table[90:]))
    assert profile(dataset, Words(), limit=512).findings == ()


# ── with a real tokenizer ───────────────────────────────────────────────────────────────────────────────────────────


class Backed:
    """A tokenizer of the `tokenizers` library behind the two calls that explore makes."""

    def __init__(self, backend):
        self.backend = backend

    def encode(self, texts, max_length):
        return SimpleNamespace(ids=[np.array(self.backend.encode(*text).ids) for text in texts])

    def lengths(self, texts):
        return np.array([len(ids) for ids in self.encode(texts, None).ids])


@pytest.fixture
def spelling():
    """Knows 'good' and 'bad'."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    backend = Tokenizer(models.WordLevel({"[UNK]": 0, "good": 1, "bad": 2}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return Backed(backend)


def test_unknown_tokens_are_counted(spelling):
    lengths, unknown = count_tokens([("good bad",), ("gut good schlecht",), ("",)], spelling)
    assert lengths.tolist() == [2, 3, 0]
    assert unknown.tolist() == [0, 2, 0]
    assert count_tokens([("gut",)], Words())[1] is None


def test_unknown_tokens_by_class_and_the_tokens_of_some_rows(tmp_path, spelling):
    table = [(("good", "bad gut")[i % 2], "xy"[i % 2]) for i in range(20)]
    dataset = load(write(tmp_path, train=table, validation=table[:2], test=table[:2]))
    found = profile(dataset, spelling, limit=512, show_tokens=2)
    assert found.unknown_by_class == {"x": 0, "y": 0.5}
    assert found.unknown_words == {"gut": 12}  # 10 rows of train, one of validation, one of test
    assert found.shown_tokens == (
        {"row_id": "train:0", "text": ["good"], "tokens": ["good"]},
        {"row_id": "train:1", "text": ["bad gut"], "tokens": ["bad", "[UNK]"]},
    )
    assert any(finding.sentence.startswith("The tokenizer does not know 50.0%") for finding in found.findings)
    assert profile(dataset, Words(), limit=512, show_tokens=2).shown_tokens == ()


def test_unknown_words_of_pairs_are_read_from_the_side_they_stand_on(spelling):
    texts = [("good schlecht", "gut bad"), ("good", "gut"), ("good", "bad")]
    unknown = count_tokens(texts, spelling)[1]
    assert unknown_words(texts, unknown, spelling.backend, 0) == {"gut": 2, "schlecht": 1}
    assert unknown_words([("half \ud800",)], np.array([1]), spelling.backend, 0) == {"half": 1, "?": 1}


def test_what_each_max_length_cuts():
    lengths = np.array([4] * 90 + [20] * 9 + [100])
    found = cut_at(lengths, limit=512, proposed=24)
    assert found == {"8": 0.10, "16": 0.10, "24": 0.01, "32": 0.01, "64": 0.01, "128": 0.0}
    assert cut_at(lengths, limit=64, proposed=24) == {"8": 0.10, "16": 0.10, "24": 0.01, "32": 0.01, "64": 0.01}


def test_bars_and_boxes_in_a_terminal():
    assert bar(1, 4) == "████"
    assert bar(0.5, 4) == "██"
    assert bar(0.53125, 4) == "██▏"
    assert (bar(0, 4), bar(0.0001, 4)) == ("", "▏")  # nothing, and next to nothing
    assert box({"min": 0, "p25": 2, "p50": 4, "p75": 6, "max": 9}, 9, 10) == "──██┃██───"
    assert box({"min": 5, "p25": 5, "p50": 5, "p75": 5, "max": 5}, 10, 11) == "     ┃"


# ── real data ───────────────────────────────────────────────────────────────────────────────────────────────────────


def looked_at(name: str):
    if not (SHARED / name).is_dir():
        pytest.skip("../shared/data is not here")
    return profile(load(SHARED / name), Words(), limit=512)


def test_the_bundled_sample_repeats_itself():
    found = profile(load("sms-spam"), Words(), limit=512)
    assert found.duplicates == 403
    assert sum(found.leaks.values()) == sum(found.near_leaks.values()) == 0
    assert found.findings[0].kind == "imbalance"


def test_emotion_has_repeats_conflicts_and_leaks():
    found = looked_at("emotion")
    assert (found.splits["train"].duplicates, found.splits["train"].conflicting) == (31, 30)
    assert (found.leaks["train/test"], found.leaks["train/validation"]) == (11, 5)
    assert found.splits["train"].classes["surprise"] == 572


def test_ag_news_has_a_near_leak():
    found = looked_at("ag_news")
    assert sum(found.leaks.values()) == 0
    assert sum(found.near_leaks.values()) == 1


def test_imdb_is_sorted_and_long():
    found = looked_at("imdb")
    assert found.sorted_by_label
    assert found.leaks["train/test"] + found.leaks["validation/test"] == 5
    assert found.max_length == 512
    assert found.findings[0].kind == "truncated"
