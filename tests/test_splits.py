"""Who plays which role, how a source is cut, and what its digest depends on."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tables import all_rows, folder, load, refused, rows, write_csv

from pipeline import UserError
from pipeline.data import SourceOptions, read, splits

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared" / "data"


# ── who plays which role ────────────────────────────────────────────────────────────────────────────────────────────


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


def test_a_test_split_without_labels_is_named_when_train_is_cut(tmp_path):
    rows = "".join(f"text number {i},{'ab'[i % 2]}\n" for i in range(60))
    (tmp_path / "train.csv").write_text("text,label\n" + rows)
    (tmp_path / "test.csv").write_text("text,label\none more,\nand another,\n")
    found = read(SourceOptions(str(tmp_path)))
    assert set(found.roles) == {"train", "validation", "test"}
    assert any("'test' has no labels" in note for note in found.notes)


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


def test_splits_that_nobody_plays_are_named(tmp_path):
    folder(tmp_path, train_1=rows(20), train_2=rows(20, start=20), test=rows(8, start=50))
    dataset = load(tmp_path)
    assert not {f"t{i}" for i in range(20, 40)} & {text for (text,) in dataset.train.texts}
    assert "not used: train_2 (--train, --validation and --test name others)" in dataset.notes
