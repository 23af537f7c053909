"""compare by cross-validation: what each fold learns from, how many fits there are, what is found again."""

import json
from pathlib import Path

import numpy as np
import pytest
from tables import refused, sentences, write_csv

from pipeline import UserError, contenders, load_run
from pipeline.data import SourceOptions, read
from pipeline.fold_fitting import planned
from pipeline.folds import folds_of
from pipeline.run import Fit
from pipeline.task import Task


@pytest.fixture
def small(tmp_path):
    """60 rows of 30 users, two each, two a month from 2020 on."""
    table = [(t, y, f"u{i // 2}", f"20{20 + i // 24}-{1 + i // 2 % 12:02d}") for i, (t, y) in enumerate(sentences(60))]
    return write_csv(tmp_path / "small.csv", table, ("text", "label", "user", "posted"))


@pytest.fixture
def learnt(monkeypatch):
    """The kinds that were fitted, not found, in order."""
    done = []
    run = Fit.run

    def counting(fit):
        there = fit.question.folder.exists()
        answer = run(fit)
        if not there:
            done.append(fit.question.kind)
        return answer

    monkeypatch.setattr(Fit, "run", counting)
    return done


def task_of(source, tmp_path, **options):
    return Task(read(SourceOptions(str(source), whole=True, **options)), runs=tmp_path / "runs", cache=tmp_path / "c")


def test_few_rows_without_a_test_split_stay_whole(small, tmp_path):
    assert read(SourceOptions(str(small))).roles.keys() == {"train", "validation", "test"}
    data = read(SourceOptions(str(small), whole=None))
    assert (data.whole, len(data.train)) == (True, 60)
    assert not read(SourceOptions(str(small), whole=None, split="80/10/10")).whole
    many = write_csv(tmp_path / "many.csv", sentences(2001))
    assert not read(SourceOptions(str(many), whole=None)).whole
    assert read(SourceOptions(str(many), whole=None, limit="2000")).whole
    assert read(SourceOptions(str(many), whole=True)).whole
    home = tmp_path / "home"
    for name, start in {"train": 0, "test": 40}.items():
        write_csv(home / f"{name}.csv", sentences(60)[start : start + 20])
    assert not read(SourceOptions(str(home), whole=None)).whole
    assert len(read(SourceOptions(str(home), whole=True)).train) == 40  # asked for: every row is judged


def test_each_row_is_judged_once_by_folds_that_have_not_seen_it(small, tmp_path):
    folds = folds_of(task_of(small, tmp_path))
    judged = []
    for number in folds.numbers:
        cheap, dear = folds.of("lr", number), folds.of("fine-tune", number)
        assert cheap.seed == dear.seed == 42 + number
        assert (len(cheap.dataset.train), len(cheap.dataset.test)) == (54, 6)
        assert cheap.dataset.roles.keys() == {"train", "test"}
        assert (len(dear.dataset.train), len(dear.dataset.validation)) == (49, 5)
        for data in (cheap.dataset, dear.dataset):
            ids = [row for split in data.splits.values() for row in split.row_ids]
            assert sorted(ids) == sorted(folds.task.dataset.train.row_ids)
        assert cheap.dataset.test.row_ids.tolist() == dear.dataset.test.row_ids.tolist()
        judged += cheap.dataset.test.row_ids.tolist()
    assert sorted(judged) == sorted(folds.task.dataset.train.row_ids)


def test_groups_stay_together_in_folds_and_in_the_plain_split(small, tmp_path):
    folds = folds_of(task_of(small, tmp_path, group="user"))
    users = folds.task.dataset.train.columns["user"]
    assert all(len(set(folds.place[users == user])) == 1 for user in set(users))
    assert len(set(folds.judged.groups)) == 30
    assert "rows of the same 'user' together" in folds.method
    cut = read(SourceOptions(str(small), group="user"))
    parts = [set(split.columns["user"]) for split in cut.splits.values()]
    assert sum(map(len, parts)) == len(set.union(*parts))


def test_equal_texts_and_groups_join_each_other(tmp_path):
    rows = [(f"t{i}", "ab"[i % 2], f"u{i}") for i in range(40)] + [("t0", "a", "u1"), ("t1", "b", ""), ("x", "a", "")]
    folds = folds_of(task_of(write_csv(tmp_path / "g.csv", rows, ("text", "label", "user")), tmp_path, group="user"))
    assert len({folds.groups[i] for i in (0, 1, 40, 41)}) == 1  # t0 – u1 – t1
    assert folds.groups[42] not in folds.groups[:42]  # no user joins nobody


def test_the_past_judges_the_future(small, tmp_path):
    folds = folds_of(task_of(small, tmp_path, time="posted"))
    assert folds.numbers == (9, 8, 7, 6, 5)
    for number in folds.numbers:
        data = folds.of("fine-tune", number).dataset
        first = min(data.test.columns["posted"])
        assert max([*data.train.columns["posted"], *data.validation.columns["posted"]]) < first
    assert folds.judged.training_rows == 42  # 30, 36, … 54
    cut = read(SourceOptions(str(small), time="posted"))
    months = [cut.role(role).columns["posted"] for role in ("train", "validation", "test")]
    assert max(months[0]) < min(months[1]) <= max(months[1]) < min(months[2])


def test_what_is_no_time_or_no_column_is_named(small):
    assert "--time user: 'u0' of row small:0 is neither a number nor a date" in refused(small, time="user")
    assert "--group nobody: no such column beside text and label; there are: ['user', 'posted']" in refused(
        small, group="nobody"
    )
    assert "pass one of them" in refused(small, group="user", time="posted")


def test_a_class_that_one_fold_would_hold_alone_is_only_learnt_from(tmp_path):
    rows = [*sentences(40), ("once", "rare"), ("twice a", "two"), ("twice b", "two")]
    folds = folds_of(task_of(write_csv(tmp_path / "rare.csv", rows), tmp_path))
    assert folds.place[40] == -1
    assert folds.place[41] != folds.place[42]
    assert len(folds.judged.place) == 42
    for number in folds.numbers:
        assert len(set(folds.of("fine-tune", number).dataset.train.labels)) == 4
    few = write_csv(tmp_path / "few.csv", sentences(8))
    with pytest.raises(UserError, match=r"8 different texts .* too few for 10 folds; add rows, or pass --no-cv"):
        folds_of(task_of(few, tmp_path))


def test_compare_fits_each_fold_once_and_the_winner_on_all_rows(run, small, tmp_path, learnt):
    rest = ["--runs", tmp_path / "runs", "--contenders", "majority,tfidf,lr", "--json"]
    code, out, err = run("compare", small, *rest)
    assert code == 0, err
    told = json.loads(out)
    assert "60 rows, each judged out of fold" in err
    assert "together about" in err
    winner = told["recommended"]
    assert {kind: learnt.count(kind) for kind in told["regret"]} == {"tfidf": 10, "lr": 10} | {winner: 11}
    assert learnt.count("majority") == 10
    assert told["cv"] == {"folds": 10, "repeats": 1, "rows": 60, "method": "stratified, equal texts together"}
    assert {c["name"]: c["rows"] for c in told["contenders"]} == {"majority": 60, "tfidf": 60, "lr": 60}
    taken = next(c for c in told["contenders"] if c["name"] == told["recommended"])
    final = load_run(Path(taken["run"]))
    assert final.dataset_digest == told["dataset_digest"]
    assert len(taken["runs"]) == 10
    assert final.predictions == {} or "test" not in final.predictions  # it has seen all of them
    assert told["card"] == str(Path(taken["run"]) / "README.md")
    # the pooled accuracy is that of the folds' own predictions
    right = [p.labels == p.truth for p in (load_run(Path(f)).predictions["test"] for f in taken["runs"])]
    assert taken["metrics"]["accuracy"]["value"] == pytest.approx(np.concatenate(right).mean())

    learnt.clear()
    again = json.loads(run("compare", small, *rest)[1])
    assert (learnt, again["pairs"], again["recommended"]) == ([], told["pairs"], told["recommended"])
    shown = json.loads(run("compare", small, *rest, "--only-existing")[1])
    assert (learnt, shown["pairs"]) == ([], told["pairs"])
    assert next(c["run"] for c in shown["contenders"] if c["name"] == shown["recommended"]) == taken["run"]


def test_report_shows_the_folds_that_are_there(run, small, tmp_path, tiny_distilbert):
    rest, users = ["--runs", tmp_path / "runs", "--group", "user", "--json"], ["--by", "user"]
    told = json.loads(run("compare", small, *rest, "--contenders", "majority,tfidf", *users)[1])
    assert sum(group["rows"] for group in told["groups"]) == 60
    place = ["--encoder", tiny_distilbert, "--cache", tmp_path / "cache"]
    code, out, err = run("report", small, *rest, *place, encoder=False)
    assert code == 0, err
    assert json.loads(out)["pairs"] == told["pairs"]
    assert Path(json.loads(out)["report"]).read_text("utf-8")


def test_what_trains_an_encoder_has_five_of_the_folds(run, small, tmp_path, learnt):
    rest = ["--runs", tmp_path / "runs", "--epochs", "1", "--learning-rate", "1e-3", "--json"]
    code, out, err = run("compare", small, *rest, "--contenders", "tfidf,fine-tune,frozen-head")
    assert code == 0, err
    first, rest_of_it = err.split("before fine-tune:")  # what is cheap is judged before the rest is fitted
    assert "5 folds" not in first
    assert "Interrupted from here on, this stays: " in rest_of_it
    told = json.loads(out)
    assert {c["name"]: c["rows"] for c in told["contenders"]} == {"tfidf": 60, "fine-tune": 30, "frozen-head": 60}
    assert {kind: learnt.count(kind) for kind in set(learnt)} == {"tfidf": 10, "fine-tune": 5, "frozen-head": 10} | {
        c["kind"]: (5 if c["kind"] == "fine-tune" else 10) + 1
        for c in told["contenders"]
        if c["name"] == told["recommended"]
    }
    pair = next(p for p in told["pairs"] if {p["a"], p["b"]} == {"tfidf", "fine-tune"})
    assert pair["rows"] == 30


@pytest.mark.parametrize(("budget", "folds"), [(None, 5), (1020.0, 10), (450.0, 4), (250.0, 0)])
def test_a_budget_decides_how_many_folds(small, tmp_path, tiny_distilbert, monkeypatch, budget, folds):
    from dataclasses import replace

    from pipeline.encoder.checkpoint import EncoderSpec

    table = {
        k: replace(v, seconds=lambda job, k=k: 100.0 if k == "fine-tune" else 1.0)
        for k, v in contenders.CONTENDERS.items()
    }
    monkeypatch.setattr(contenders, "CONTENDERS", table)
    task = replace(task_of(small, tmp_path), encoders=(EncoderSpec(str(tiny_distilbert)),))
    plan = planned(folds_of(task), ("tfidf", "fine-tune"), budget)
    assert len(plan.folds["tfidf"]) == 10
    assert len(plan.folds.get("fine-tune", ())) == folds
    assert bool(plan.left_out) == (folds == 0)


def test_contradictions_are_refused(run, small, tmp_path):
    assert run("compare", small, "--cv", "--split", "80/10/10")[0] == 2
    rest = ["--runs", tmp_path / "runs"]
    code, _, err = run("compare", small, *rest, "--cv", "--only-existing")
    assert code == 1
    assert "0 of the runs to compare exist" in err
    one = json.loads(run("fit-lr", small, *rest, "--json")[1])["run"]
    code, _, err = run("compare", small, *rest, "--cv", "--run", one)
    assert code == 1
    assert "pass --no-cv" in err
    answers = write_csv(tmp_path / "answers.csv", sentences(60))
    code, _, err = run("compare", small, *rest, "--cv", "--predictions", f"gpt={answers}")
    assert code == 1
    assert "--predictions gpt=" in err
    given = ["--predictions", f"gpt={answers}", "--contenders", "tfidf", "--json"]
    told = json.loads(run("compare", small, *rest, *given)[1])  # nobody asks for folds
    assert ({c["name"] for c in told["contenders"]}, told["cv"]) == ({"tfidf", "gpt"}, None)


def test_runs_of_a_division_are_judged_on_it_where_nobody_asks_for_folds(run, small, tmp_path):
    rest = ["--runs", tmp_path / "runs", "--json"]
    one = json.loads(run("fit-lr", small, *rest)[1])["run"]
    told = json.loads(run("compare", small, *rest, "--contenders", "tfidf", "--run", one)[1])
    assert ({c["name"] for c in told["contenders"]}, told["cv"], told["rows"]) == ({"tfidf", "lr"}, None, 6)
    again = json.loads(run("compare", small, *rest, "--contenders", "tfidf,lr", "--only-existing")[1])
    assert (again["pairs"][0]["difference"], again["cv"]) == (told["pairs"][0]["difference"], None)


def test_too_few_rows_for_folds_are_divided(run, tmp_path):
    few = write_csv(tmp_path / "few.csv", sentences(9))
    code, out, err = run("compare", few, "--runs", tmp_path / "runs", "--contenders", "majority,tfidf", "--json")
    assert "no cross-validation: few: 9 different texts" in err
    assert (code, json.loads(out)["cv"]) == (0, None)
