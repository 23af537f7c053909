"""compare and curve on the command line: who takes part, groups, guests, budgets, several encoders, curves."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from tables import names, sentences

from pipeline.show.verdicts import interval_of


def test_compare_fits_judges_and_writes_a_page(run, reviews, tmp_path):
    rest = ["--no-cv", "--runs", tmp_path / "runs", "--contenders", "majority,tfidf,lr,fine-tune", "--epochs", "1"]
    code, out, err = run("compare", *names(reviews), *rest, "--learning-rate", "1e-3", "--json")
    found = json.loads(out)
    assert code == 0
    assert "about" in err  # said beforehand
    first, rest_of_it = err.split("before fine-tune:")  # what is cheap is judged before the rest is fitted
    assert "fine-tune/" not in first
    assert "fine-tune-" not in first
    assert re.search(r"fine-tune can still bring at most [\d.]+ points \(\d+ of \d+ rows are wrong by", rest_of_it)
    assert "Interrupted from here on, this stays: " in rest_of_it
    assert {c["name"] for c in found["contenders"]} == {"majority", "tfidf", "lr", "fine-tune"}
    assert len(found["pairs"]) == 6
    assert found["metric"] == "accuracy"
    page = Path(found["report"]).read_text("utf-8")
    assert found["contenders"][0]["name"] in page
    assert not re.search(
        r"""(src|href|action|url\()=?["']?(https?:)?//""", re.sub(r"(?s)<script.*?</script>", "", page)
    )

    code, out, _ = run("compare", *names(reviews), "--runs", tmp_path / "runs", "--only-existing")
    assert code == 0
    assert "differences in accuracy" in out
    assert "left out: stack: not fitted, and --only-existing fits nothing" in out
    assert "left out: lr:" not in out


def test_one_contender_alone_has_no_table_of_differences(run, reviews, tmp_path):
    code, out, err = run("compare", *names(reviews), "--runs", tmp_path / "runs", "--contenders", "tfidf", "--no-cv")
    assert code == 0, err
    assert "tfidf is all there is to choose from" in out
    assert "differences in" not in out


@pytest.fixture
def genres(tmp_path):
    """A folder of train and test files with a column genre beside text and label."""
    rows = [(text, label, ("drama", "crime", "")[i % 3]) for i, (text, label) in enumerate(sentences(360))]
    for name, part in {"train": rows[:240], "validation": rows[240:300], "test": rows[300:]}.items():
        lines = [f"{text},{label},{genre}\n" for text, label, genre in part]
        (tmp_path / "films").mkdir(exist_ok=True)
        (tmp_path / "films" / f"{name}.csv").write_text("text,label,genre\n" + "".join(lines))
    return tmp_path / "films"


def test_groups_of_rows_are_scored_apart(run, genres, tmp_path):
    rest = ["--runs", tmp_path / "runs", "--contenders", "majority,tfidf", "--by", "genre"]
    code, out, err = run("compare", genres, *rest, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert {g["group"]: g["rows"] for g in found["groups"]} == {"drama": 20, "crime": 20, "": 20}
    truth = [label for _, label in sentences(360)[300:]]
    drama = next(g for g in found["groups"] if g["group"] == "drama")["metrics"]["majority"]["accuracy"]
    assert drama["value"] == pytest.approx(np.mean([label == "good" for label in truth[::3]]))
    assert drama["low"] <= drama["value"] <= drama["high"]
    assert "drama" in Path(found["report"]).read_text("utf-8")
    code, out, _ = run("compare", genres, *rest, "--only-existing")
    assert code == 0
    assert "accuracy by genre" in out
    assert "(empty)" in out
    code, _, err = run("compare", genres, *rest[:-1], "nonsense")
    assert code == 1
    assert "--by nonsense: no such column that groups rows of 'test'; there are: genre" in err


def test_a_run_from_elsewhere_joins_or_is_refused(run, genres, tmp_path):
    from pipeline.run import runs_of

    few = ["--runs", tmp_path / "few", "--contenders", "tfidf", "--json"]
    fewer = tmp_path / "fewer"
    shutil.copytree(genres, fewer)
    lines = (fewer / "train.csv").read_text().splitlines(keepends=True)
    (fewer / "train.csv").write_text("".join(lines[:121]))
    external = json.loads(run("compare", fewer, *few)[1])["contenders"][0]["run"]
    rest = ["--runs", tmp_path / "runs", "--contenders", "majority,tfidf", "--json"]
    found = json.loads(run("compare", genres, *rest)[1])
    card = Path(found["card"])
    winner = next(c["run"] for c in found["contenders"] if c["name"] == found["recommended"])
    assert card == Path(winner) / "README.md"
    assert "model-index:" in card.read_text("utf-8")
    code, out, err = run("compare", genres, *rest, "--run", external)
    assert code == 0, err
    found = json.loads(out)
    assert found["card"] is None or not Path(found["card"]).is_relative_to(external)  # nothing is written there
    assert len(found["contenders"]) == 3
    named = next(c for c in found["contenders"] if c["run"] == external)
    assert named["name"].startswith("tfidf (fitted on fewer ")
    own = next(c["run"] for c in found["contenders"] if c["name"].startswith("tfidf") and c["run"] != external)
    assert len(json.loads(run("compare", genres, *rest, "--run", own)[1])["contenders"]) == 2  # it is there already

    (fewer / "test.csv").write_text("text,label,genre\n" + "".join(lines[121:161]))
    other = json.loads(run("compare", fewer, *few)[1])["contenders"][0]["run"]
    code, _, err = run("compare", genres, *rest, "--run", other)
    assert code == 1
    assert "was judged on 40 rows of 'test', of which 40 are among the 60 of 'test' here" in err
    code, _, err = run("compare", genres, *rest, "--run", tmp_path)
    assert code == 1
    assert "no run here" in err
    record = Path(external) / "run.json"
    record.write_text(record.read_text().replace('"kind": "tfidf"', '"kind": "oracle"'))
    code, _, err = run("compare", genres, *rest, "--run", external)
    assert code == 1
    assert f"--run {external}: no kind of run 'oracle'; choose one of majority" in err
    assert runs_of(tmp_path / "runs", "films", found["dataset_digest"])[0].metrics  # nothing of ours was changed


def test_a_budget_leaves_out_what_does_not_fit_and_says_why(run, genres, tmp_path, monkeypatch):
    from pipeline import contenders

    slow = dict(contenders.CONTENDERS)
    slow["fine-tune"] = contenders.replace(slow["fine-tune"], seconds=lambda job: 100.0 * (job.task.tuning.epochs or 3))
    monkeypatch.setattr(contenders, "CONTENDERS", slow)
    rest = ["--runs", tmp_path / "runs", "--contenders", "majority,tfidf,fine-tune", "--budget", "2m"]
    code, out, err = run("compare", genres, *rest, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert {c["name"] for c in found["contenders"]} == {"majority", "tfidf"}
    (line,) = found["left_out"]
    assert line.startswith("fine-tune: takes about 5 min, ")
    assert "--epochs 1 --learning-rate 0.0001 would take about 100 s" in line
    assert line in Path(found["report"]).read_text("utf-8")
    assert "left out: fine-tune" in err
    code, out, _ = run("compare", genres, *rest)
    assert "left out: fine-tune: takes about" in out
    assert run("compare", genres, *rest, "--only-existing")[0] == 2
    code, _, err = run("compare", genres, "--budget", "20")
    assert code == 2
    assert "write 20s, 20m or 20h" in err


def test_without_rows_to_judge_nothing_is_fitted(run, genres, tmp_path):
    code, _, err = run("compare", genres, "--runs", tmp_path / "runs", "--split", "80/20/0", "--contenders", "tfidf")
    assert code == 1
    assert "no test split" in err
    assert not (tmp_path / "runs").exists()


def test_a_frozen_head_takes_seeds_and_the_place_of_fine_tuning(run, genres, tmp_path):
    rest = ["--runs", tmp_path / "runs", "--freeze", "--epochs", "2", "--json"]
    code, out, err = run("fine-tune", genres, *rest, "--seeds", "2")
    assert code == 0, err
    told = json.loads(out)
    assert [r["kind"] for r in told["runs"]] == ["frozen-head"] * 2
    (seeds,) = told["seeds"]
    each = [r["metrics"]["test"]["accuracy"] for r in told["runs"]]
    assert seeds["mean"]["test"]["accuracy"] == pytest.approx(np.mean(each))
    assert seeds["best"] in [r["run"] for r in told["runs"]]
    code, out, err = run("compare", genres, *rest, "--contenders", "tfidf,fine-tune", "--budget", "5m")
    assert code == 0, err
    assert {c["kind"] for c in json.loads(out)["contenders"]} == {"tfidf", "frozen-head"}
    code, _, err = run("curve", genres, *rest)
    assert code == 1
    assert "leave it out" in err


def test_runs_of_the_last_layers_are_found_again(run, genres, tmp_path):
    rest = ["--runs", tmp_path / "runs", "--epochs", "1", "--learning-rate", "1e-3"]
    assert run("fine-tune", genres, *rest, "--unfreeze", "1")[0] == 0
    assert run("compare", genres, *rest, "--contenders", "tfidf")[0] == 0
    code, out, err = run("compare", genres, *rest, "--only-existing", "--json")
    assert code == 0, err
    assert {c["kind"] for c in json.loads(out)["contenders"]} == {"tfidf", "fine-tune+last-1"}


def test_several_encoders_are_told_apart(run, genres, tmp_path, tiny_bert, tiny_distilbert):
    words = ["--encoder", f"{tiny_distilbert},{tiny_bert}", "--cache", tmp_path / "c", "--engine", "torch"]
    words += ["--precision", "fp32", "--runs", tmp_path / "runs", "--epochs", "1", "--learning-rate", "1e-3"]
    names = "lr,frozen-head,from-scratch"
    code, out, err = run("compare", genres, *words, "--contenders", names, "--json", encoder=False)
    assert code == 0, err
    found = json.loads(out)
    assert {c["name"] for c in found["contenders"]} == {
        f"{kind} (tiny-{encoder})" for kind in names.split(",") for encoder in ("bert", "distilbert")
    }
    code, out, _ = run("compare", genres, *words, "--contenders", names, "--only-existing", "--json", encoder=False)
    again = json.loads(out)
    assert [c["name"] for c in again["contenders"]] == [c["name"] for c in found["contenders"]]


def test_a_curve_is_fitted_once_and_shown_on_the_page(run, genres, tmp_path):
    rest = ["--runs", tmp_path / "runs", "--contenders", "tfidf,lr", "--sizes", "20,60,240", "--draws", "3"]
    code, out, err = run("curve", genres, *rest, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert "20, 60, 240 labels, 7 fits" in err
    assert [line["name"] for line in found["lines"]] == ["tfidf", "lr"]
    assert [[p["size"] for p in line["points"]] for line in found["lines"]] == [[20, 60, 240]] * 2
    assert [len(p["draws"]) for p in found["lines"][0]["points"]] == [3, 3, 1]
    assert (found["fitted"], found["found"]) == (14, 0)
    (crossing,) = found["crossings"]
    assert {crossing["leader"], crossing["other"]} == {"tfidf", "lr"}
    again = json.loads(run("curve", genres, *rest, "--json")[1])
    assert (again["fitted"], again["found"]) == (0, 14)
    assert again["lines"] == found["lines"]
    assert again["crossings"] == found["crossings"]
    whole = json.loads(run("compare", genres, *rest[:4], "--json")[1])
    scores = {c["name"]: c["metrics"]["accuracy"]["value"] for c in whole["contenders"]}
    for line in found["lines"]:  # with all labels it is the run of the comparison
        assert line["points"][-1]["value"] == pytest.approx(scores[line["name"]])
    page = Path(whole["report"]).read_text("utf-8")
    assert 'id="curve"' in page
    code, out, _ = run("curve", genres, *rest)
    assert "0 fits made, 14 found" in out
    assert crossing["sentence"] in out
    code, _, err = run("curve", genres, *rest[:4], "--sizes", "1000")
    assert code == 1
    assert "--sizes 1000: train has 240 rows" in err
    code, out, _ = run("curve", genres, *rest, "--metric", "roc_auc")
    assert code == 0
    assert "ROC AUC by number of labels" in out
    assert "0 fits made, 14 found" in out  # points keep probabilities: another metric asks for no fit
    assert run("curve", genres, *rest, "--metric", "auc")[0] == 1


def test_a_curve_of_fine_tuning_takes_the_run_of_the_comparison(run, genres, tmp_path):
    from pipeline.run import runs_of

    rest = ["--runs", tmp_path / "runs", "--epochs", "1", "--learning-rate", "1e-3"]
    words = ["--contenders", "tfidf,fine-tune", "--sizes", "60,240", "--draws", "2", "--fine-tune-sizes", "60,240"]
    code, out, err = run("curve", genres, *rest, *words, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert [p["size"] for p in found["lines"][1]["points"]] == [60, 240]
    assert found["lines"][1]["settings"]["learning_rate"] == 1e-3
    (tuned,) = [r for r in runs_of(tmp_path / "runs", "films", found["dataset_digest"]) if r.kind == "fine-tune"]
    assert found["lines"][1]["points"][1]["value"] == pytest.approx(tuned.metrics["test"]["accuracy"])
    curve = {
        p.relative_to(tmp_path).parts[3] for p in (tmp_path / "runs").rglob("*") if p.is_file() and "curve" in p.parts
    }
    assert {part for part in curve if not part.startswith("curve-")} == {"points"}  # models of parts are not kept
    assert json.loads(run("curve", genres, *rest, *words, "--json")[1])["fitted"] == 0


def test_runs_on_texts_cut_elsewhere_are_left_out_and_said(run, genres, tmp_path):
    rest = ["--runs", tmp_path / "runs", "--contenders", "tfidf,lr"]
    assert run("compare", genres, *rest, "--max-length", "8")[0] == 0
    code, out, err = run("compare", genres, *rest, "--max-length", "16", "--json")
    assert code == 0, err
    code, out, err = run("compare", genres, *rest, "--max-length", "16", "--only-existing", "--json")
    assert code == 0, err
    assert len(json.loads(out)["contenders"]) == 2
    assert "runs on texts cut at 8 tokens are left out; --max-length names one" in err


def test_nothing_is_written_into_a_guest_that_wins(run, genres, tmp_path):
    away = ["--runs", tmp_path / "away", "--contenders", "tfidf", "--json"]
    external = json.loads(run("compare", genres, *away)[1])["contenders"][0]["run"]
    (Path(external) / "README.md").write_text("mine")
    rest = ["--runs", tmp_path / "runs", "--contenders", "majority", "--run", external, "--json"]
    code, out, err = run("compare", genres, *rest)
    assert code == 0, err
    found = json.loads(out)
    assert found["recommended"] == "tfidf"
    assert found["card"] is None
    assert (Path(external) / "README.md").read_text() == "mine"


def test_a_hopeless_training_is_ended_marked_and_found_again(run, genres, tmp_path, monkeypatch):
    """At a rate at which nothing is learnt; TF-IDF knows the words."""
    monkeypatch.setattr("pipeline.finetune.hopeless.UNLEARNT", 0.5)
    rest = ["--runs", tmp_path / "runs", "--epochs", "4", "--learning-rate", "1e-7", "--stop-hopeless", "--no-cv"]
    rest += ["--contenders", "fine-tune,majority,tfidf"]
    code, out, err = run("compare", genres, *rest, "--json")
    assert code == 0, err
    found = json.loads(out)
    (tuned,) = [c for c in found["contenders"] if c["kind"] == "fine-tune"]
    (why,) = tuned["ended"]
    assert why.startswith("ended after 50 % of its steps as hopeless: on validation it was ")
    assert why.endswith("behind tfidf and would hardly pass it by more than 1.0 points")
    assert f"fine-tune {why}" in err
    assert re.search(rf"fine-tune \([\d.]+ %\) was {re.escape(why)}; its score and cost", found["recommendation"])
    record = json.loads((Path(tuned["run"]) / "run.json").read_text("utf-8"))
    assert record["notes"][0] == why
    assert [point["epoch"] for point in record["history"] if "epoch" in point] == [0, 1, 2]
    ended = record["settings"]["chosen"]["ended"]
    assert (ended["share"], ended["against"], ended["metric"], ended["margin"]) == (0.5, "tfidf", "accuracy", 0.01)
    assert "ended early" in Path(found["report"]).read_text("utf-8")
    assert "fine-tune (ended early) |" in Path(found["card"]).read_text("utf-8")
    code, out, err = run("compare", genres, *rest)
    assert (code, "epoch" in err, out.count("fine-tune (ended early)")) == (0, False, 2), err
    assert run("compare", genres, *[w for w in rest if w != "--stop-hopeless"], "--json")[0] == 0  # is another run
    code, out, _ = run("compare", genres, *rest, "--json")  # and takes its place
    assert [c["ended"] for c in json.loads(out)["contenders"] if c["kind"] == "fine-tune"] == [[]]
    code, out, _ = run("compare", genres, *rest, "--only-existing", "--json")
    assert [c["ended"] for c in json.loads(out)["contenders"] if c["kind"] == "fine-tune"] == [[]]


def test_a_training_that_is_not_hopeless_is_the_one_without_the_option(run, genres, tmp_path):
    from pipeline.run import load_run

    rest = ["--epochs", "3", "--learning-rate", "1e-2", "--no-cv", "--contenders", "majority,fine-tune", "--json"]
    probas = []
    for name, more in (("a", ["--stop-hopeless"]), ("b", [])):
        code, out, err = run("compare", genres, *rest, "--runs", tmp_path / name, *more)
        assert code == 0, err
        (folder,) = [c["run"] for c in json.loads(out)["contenders"] if c["kind"] == "fine-tune"]
        probas.append((Path(folder).name, load_run(folder).predictions["test"].proba.tolist()))
    assert probas[0] == probas[1]


def test_seeds_are_ended_one_by_one_and_stay_one_contender(run, genres, tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.finetune.hopeless.UNLEARNT", 0.5)
    rest = ["--runs", tmp_path / "runs", "--epochs", "4", "--learning-rate", "1e-7", "--stop-hopeless", "--no-cv"]
    code, out, err = run("compare", genres, *rest, "--contenders", "majority,tfidf,fine-tune", "--seeds", "2", "--json")
    assert code == 0, err
    found = json.loads(out)
    (tuned,) = [c for c in found["contenders"] if c["kind"] == "fine-tune"]
    assert (tuned["seeds"], len(tuned["ended"])) == (2, 2)
    assert "(2 of 2 seeds)" in found["recommendation"]


def test_without_a_cheap_contender_nothing_can_be_hopeless(run, genres, tmp_path):
    rest = ["--runs", tmp_path / "runs", "--no-cv", "--stop-hopeless", "--contenders", "fine-tune,from-scratch"]
    code, _, err = run("compare", genres, *rest)
    assert code == 1
    assert "nothing is: add lr to --contenders" in err
    code, _, err = run("compare", genres, *rest[:-1], "tfidf,fine-tune", "--metric", "nonsense")
    assert (code, "Traceback" in err) == (1, False)


def test_a_difference_that_rounds_to_nothing_has_no_minus():
    assert interval_of(-0.0004, -0.0104, 0.0096) == "+0.000 [-0.010, +0.010]"
