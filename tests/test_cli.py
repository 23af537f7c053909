"""The command line as a user meets it: contracts of --json, exit codes, one-line errors, and README's promises."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest

import cli
from pipeline.run import load_run

ROOT = Path(__file__).parent.parent
GOOD = ["happy", "love", "great", "win", "joy"]
BAD = ["boring", "hate", "sad", "angry", "fear"]


def sentences(count, seed=0):
    """Rows of (text, label) whose label can be read off one word."""
    random = np.random.default_rng(seed)
    rows = []
    for i in range(count):
        words = random.choice(["the", "film", "people", "call", "now", "day", "story"], random.integers(2, 12)).tolist()
        words.insert(int(random.integers(len(words))), str(random.choice(GOOD if i % 3 else BAD)))
        rows.append((" ".join(words) + f" {i}", "good" if i % 3 else "bad"))
    return rows


@pytest.fixture
def reviews(tmp_path):
    """A CSV of 300 rows with columns body and verdict."""
    file = tmp_path / "reviews.csv"
    file.write_text("body,verdict\n" + "".join(f"{text},{label}\n" for text, label in sentences(300)))
    return file


@pytest.fixture
def run(capsys, tmp_path, tiny_distilbert):
    """Call a command with the tiny encoder; returns exit code, standard output, standard error."""

    def call(*arguments, encoder=True):
        words = [str(a) for a in arguments]
        if encoder:
            words += ["--encoder", str(tiny_distilbert), "--cache", str(tmp_path / "cache")]
            words += ["--engine", "torch", "--precision", "fp32"]
        code = cli.main(words)
        out, err = capsys.readouterr()
        return code, out, err

    return call


def names(reviews):
    return [reviews, "--text", "body", "--label", "verdict"]


def test_extract_then_fit_then_predict(run, reviews, tmp_path, tiny_distilbert):
    code, out, _ = run("extract", *names(reviews), "--json")
    extracted = json.loads(out)
    assert code == 0
    assert (extracted["rows"], extracted["encoded"]) == (300, 300)

    code, out, _ = run("fit-lr", *names(reviews), "--runs", tmp_path / "runs", "--json")
    fitted = json.loads(out)
    assert code == 0
    assert fitted["kind"] == "lr"
    assert fitted["class_names"] == ["bad", "good"]
    assert set(fitted["metrics"]) == {"train", "validation", "test"}
    assert fitted["metrics"]["test"]["rows"] == 30
    kept = load_run(fitted["run"]).predictions["test"]
    assert fitted["metrics"]["test"]["accuracy"] == pytest.approx((kept.proba.argmax(1) == kept.truth).mean())
    assert fitted["cost"]["ms_per_text_single"] > 0

    again = json.loads(run("fit-lr", *names(reviews), "--runs", tmp_path / "runs", "--json")[1])
    assert again == fitted  # found, not fitted

    rest = ["--cache", tmp_path / "cache", "--device", "cpu"]
    code, out, _ = run("predict", fitted["run"], "love the film", "hate the film", *rest, encoder=False)
    answers = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [answer["text"] for answer in answers] == ["love the film", "hate the film"]
    assert set(answers[0]["proba"]) == {"bad", "good"}
    assert sum(answers[0]["proba"].values()) == pytest.approx(1, abs=1e-5)

    code, _, _ = run(
        "predict",
        fitted["run"],
        "--file",
        reviews,
        "--text",
        "body",
        "--out",
        tmp_path / "o.jsonl",
        *rest,
        encoder=False,
    )
    answers = {a["text"]: a["proba"]["good"] for a in map(json.loads, (tmp_path / "o.jsonl").read_text().splitlines())}
    told = load_run(fitted["run"]).predictions["test"]
    texts = [text for text, _ in sentences(300)]
    of_test = [answers[texts[int(row.rpartition(":")[2])]] for row in told.row_ids]
    np.testing.assert_allclose(of_test, told.proba[:, 1], atol=2e-3)


def test_people_get_tables(run, reviews, tmp_path):
    code, out, _ = run("extract", *names(reviews))
    assert code == 0
    assert "300 of 300 different texts; 0 from cache" in out
    code, out, _ = run("fit-lr", *names(reviews), "--runs", tmp_path / "runs")
    assert code == 0
    assert "macro f1" in out
    assert str(tmp_path / "runs") in out.replace("\n", "")
    assert cli.main(["cache", "ls", "--cache", str(tmp_path / "cache")]) == 0
    assert cli.main(["cache", "verify", "--cache", str(tmp_path / "cache")]) == 0
    assert cli.main(["cache", "prune", "--cache", str(tmp_path / "cache")]) == 0


def test_smote_is_imbalance_smote(run, reviews, tmp_path):
    one = json.loads(run("fit-lr", *names(reviews), "--runs", tmp_path / "runs", "--smote", "--json")[1])
    other = json.loads(run("fit-lr", *names(reviews), "--runs", tmp_path / "runs", "--imbalance", "smote", "--json")[1])
    assert one["run"] == other["run"]
    assert one["kind"] == "lr+smote"


def test_a_list_means_several_runs(run, reviews, tmp_path):
    out = run("fit-lr", *names(reviews), "--runs", tmp_path / "runs", "--imbalance", "none,balanced", "--json")[1]
    found = json.loads(out)
    assert [one["kind"] for one in found["runs"]] == ["lr", "lr+balanced"]
    assert found["run"] == found["runs"][0]["run"]


def test_a_frozen_head_is_a_run_that_predicts(run, reviews, tmp_path):
    rest = ["--runs", tmp_path / "runs", "--freeze", "--epochs", "3", "--json"]
    fitted = json.loads(run("fine-tune", *names(reviews), *rest)[1])
    assert fitted["kind"] == "frozen-head"
    words = ["predict", fitted["run"], "love the film", "--cache", tmp_path / "cache", "--device", "cpu"]
    code, out, _ = run(*words, encoder=False)
    assert code == 0
    assert json.loads(out)["label"] in ("bad", "good")


def test_pooling_auto_is_chosen_in_the_folds(run, reviews, tmp_path):
    fitted = json.loads(run("fit-lr", *names(reviews), "--runs", tmp_path / "runs", "--pooling", "auto", "--json")[1])
    history = load_run(fitted["run"]).history
    assert {h["pooling"] for h in history if h.get("what") == "pooling"} == {"cls", "mean", "cls+mean"}


def test_an_unfrozen_layer_and_scratch_are_contenders(run, reviews, tmp_path):
    rest = ["--runs", tmp_path / "runs", "--epochs", "1", "--learning-rate", "1e-3", "--json"]
    assert json.loads(run("fine-tune", *names(reviews), *rest, "--unfreeze", "1")[1])["kind"] == "fine-tune+last-1"
    assert json.loads(run("fine-tune", *names(reviews), *rest, "--from-scratch")[1])["kind"] == "from-scratch"
    code, _, err = run("fine-tune", *names(reviews), *rest, "--from-scratch", "--freeze")
    assert code == 1
    assert "contradict" in err


def test_compare_fits_judges_and_writes_a_page(run, reviews, tmp_path):
    rest = ["--runs", tmp_path / "runs", "--contenders", "majority,tfidf,lr,fine-tune", "--epochs", "1"]
    code, out, err = run("compare", *names(reviews), *rest, "--learning-rate", "1e-3", "--json")
    found = json.loads(out)
    assert code == 0
    assert "about" in err  # said beforehand
    assert {c["name"] for c in found["contenders"]} == {"majority", "tfidf", "lr", "fine-tune"}
    assert len(found["pairs"]) == 6
    assert found["metric"] == "accuracy"
    page = Path(found["report"]).read_text("utf-8")
    assert found["contenders"][0]["name"] in page
    assert "http://" not in page.replace("http://www.w3.org", "")

    code, out, _ = run("compare", *names(reviews), "--runs", tmp_path / "runs", "--only-existing")
    assert code == 0
    assert "differences in accuracy" in out


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
    guest = json.loads(run("compare", fewer, *few)[1])["contenders"][0]["run"]
    rest = ["--runs", tmp_path / "runs", "--contenders", "majority,tfidf", "--json"]
    code, out, err = run("compare", genres, *rest, "--run", guest)
    assert code == 0, err
    found = json.loads(out)
    assert len(found["contenders"]) == 3
    named = next(c for c in found["contenders"] if c["run"] == guest)
    assert named["name"].startswith("tfidf (fitted on fewer ")
    card = Path(found["card"])
    winner = next(c["run"] for c in found["contenders"] if c["name"] == found["recommended"])
    assert card == Path(winner) / "README.md"
    assert "model-index:" in card.read_text("utf-8")
    own = next(c["run"] for c in found["contenders"] if c["name"].startswith("tfidf") and c["run"] != guest)
    assert len(json.loads(run("compare", genres, *rest, "--run", own)[1])["contenders"]) == 2  # it is there already

    (fewer / "test.csv").write_text("text,label,genre\n" + "".join(lines[121:161]))
    other = json.loads(run("compare", fewer, *few)[1])["contenders"][0]["run"]
    code, _, err = run("compare", genres, *rest, "--run", other)
    assert code == 1
    assert "was judged on 40 rows of 'test', of which 40 are among the 60 of 'test' here" in err
    code, _, err = run("compare", genres, *rest, "--run", tmp_path)
    assert code == 1
    assert "no run here" in err
    assert runs_of(tmp_path / "runs", "films", found["dataset_digest"])[0].metrics  # nothing of ours was changed


def test_a_budget_leaves_out_what_does_not_fit_and_says_why(run, genres, tmp_path, monkeypatch):
    from pipeline import contenders

    slow = dict(contenders.CONTENDERS)
    slow["fine-tune"] = contenders.replace(slow["fine-tune"], seconds=lambda job: 100.0 * job.task.tuning.epochs)
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
    assert run("curve", genres, *rest, "--metric", "log_loss")[0] == 1


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
    kept = [
        path for path in (tmp_path / "runs").rglob("*") if path.name.endswith(".safetensors") and "curve" in path.parts
    ]
    assert kept == []  # the models of parts are not kept
    assert json.loads(run("curve", genres, *rest, *words, "--json")[1])["fitted"] == 0


def test_an_encoder_out_of_reach_is_named_with_the_ways_out(run, reviews):
    code, _, err = run("explore", *names(reviews), "--json", encoder=False)
    assert code == 1
    assert "--encoder minilm" in err
    assert "local" in err


def test_explore_tells_what_is_in_the_data(tmp_path, reviews, tiny_distilbert, capsys):
    words = ["explore", *map(str, names(reviews)), "--encoder", str(tiny_distilbert), "--cache", str(tmp_path / "c")]
    assert cli.main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert sum(split["rows"] for split in told["splits"].values()) == 300
    assert {"mean", "p50", "p90", "p95", "p99", "max"} <= set(told["tokens"])
    assert told["max_length"] % 8 == 0
    assert cli.main(words) == 0
    assert "proposed --max-length" in capsys.readouterr().out


# ── what goes wrong ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["explore", "./nowhere.csv"], "no such file"),
        (["fit-lr", "{reviews}", "--text", "nonsense", "--label", "verdict"], "nonsense"),
        (["fit-lr", "{reviews}", "--text", "body", "--label", "verdict", "--imbalance", "magic"], "magic"),
        (["predict", "./nowhere", "text"], "no run here"),
        (["compare", "{reviews}", "--text", "body", "--label", "verdict", "--contenders", "magic"], "magic"),
        (["compare", "{reviews}", "--text", "body", "--label", "verdict", "--only-existing"], "--only-existing"),
    ],
)
def test_an_error_is_one_line_and_exit_code_1(arguments, says, reviews, tmp_path, capsys, tiny_distilbert):
    words = [word.replace("{reviews}", str(reviews)) for word in arguments]
    if words[0] != "predict":
        words += ["--encoder", str(tiny_distilbert), "--cache", str(tmp_path / "cache")]
    if words[0] in ("fit-lr", "compare"):
        words += ["--runs", str(tmp_path / "runs")]
    assert cli.main(words) == 1
    out, err = capsys.readouterr()
    last = err.strip().splitlines()[-1]
    assert out == ""
    assert last.startswith("error: ")
    assert says in last


def test_wrong_usage_is_exit_code_2(capsys):
    assert cli.main(["fit-lr", "sms-spam", "--smote", "--imbalance", "over"]) == 2
    assert cli.main(["fit-lr", "sms-spam", "--max-length", "none"]) == 2
    assert cli.main(["nonsense"]) == 2


@pytest.mark.parametrize("words", [["--encoder", ","], ["--pooling", ""], ["--imbalance", ","], ["--seed", "-1"]])
def test_an_empty_list_and_a_negative_seed_are_wrong_usage(words, capsys):
    assert cli.main(["fit-lr", "sms-spam", *words]) == 2


def test_an_unknown_metric_is_refused_before_anything_is_fitted(run, reviews, tmp_path):
    code, _, err = run("compare", *names(reviews), "--runs", tmp_path / "runs", "--metric", "nonsense")
    assert code == 1
    assert "nonsense" in err
    assert not (tmp_path / "runs").exists()


def test_a_moved_encoder_is_found_by_its_new_place(run, reviews, tmp_path, tiny_distilbert, tiny_bert):
    old, new = tmp_path / "old", tmp_path / "new"
    shutil.copytree(tiny_distilbert, old)
    words = [*map(str, names(reviews)), "--encoder", str(old), "--cache", str(tmp_path / "c")]
    code, out, _ = run("fit-lr", *words, "--runs", tmp_path / "runs", "--json", encoder=False)
    fitted = json.loads(out)["run"]
    old.rename(new)
    rest = ["--cache", tmp_path / "c", "--device", "cpu"]
    assert run("predict", fitted, "love it", *rest, encoder=False)[0] == 1
    assert run("predict", fitted, "love it", "--encoder", new, *rest, encoder=False)[0] == 0
    code, _, err = run("predict", fitted, "love it", "--encoder", tiny_bert, *rest, encoder=False)
    assert code == 1
    assert "not the checkpoint" in err


def test_only_existing_runs_of_the_encoder_asked_for_take_part(run, reviews, tmp_path, tiny_bert):
    rest = ["--runs", tmp_path / "runs"]
    for kind in ("none", "balanced"):
        run("fit-lr", *names(reviews), *rest, "--imbalance", kind)
    words = ["--encoder", str(tiny_bert), "--contenders", "lr,lr+balanced", "--only-existing"]
    code, _, err = run("compare", *names(reviews), *rest, *words, encoder=False)
    assert code == 1
    assert "0 of the runs" in err


def test_output_that_is_no_terminal_is_not_cut(run, reviews, tmp_path, capsys):
    run("extract", *names(reviews))
    assert cli.main(["cache", "ls", "--cache", str(tmp_path / "cache")]) == 0
    folder = next(path for path in (tmp_path / "cache").iterdir() if (path / "about.json").exists())
    assert folder.name in capsys.readouterr().out


def test_a_reader_that_leaves_is_no_error(tmp_path, reviews, tiny_distilbert):
    words = ["explore", *map(str, names(reviews)), "--encoder", str(tiny_distilbert), "--cache", str(tmp_path / "c")]
    line = f"{sys.executable} cli.py {' '.join(words)} --json | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


def test_an_interrupt_is_exit_code_130(monkeypatch, capsys, reviews):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.contenders.profile", interrupt)
    assert cli.main(["explore", str(reviews)]) == 130
    assert "interrupted" in capsys.readouterr().err


# ── documentation that breaks the build when it lies ────────────────────────────────────────────────────────────────


def commands():
    for name, command in cli.cli.commands.items():
        if isinstance(command, click.Group):
            yield from ((f"{name} {sub}", inner) for sub, inner in command.commands.items())
        else:
            yield name, command


@pytest.mark.parametrize(("name", "command"), list(commands()), ids=lambda value: str(value)[:20])
def test_every_command_and_option_is_explained(name, command):
    assert command.help
    assert command.epilog.startswith("Example:  ")
    assert f"probe-or-tune {name}" in command.epilog or f"{name} " in command.epilog
    for option in command.params:
        assert isinstance(option, click.Argument) or option.help, f"{name} {option.name}"


def test_readme_names_every_command():
    readme = (ROOT / "README.md").read_text("utf-8")
    for name in cli.cli.commands:
        assert f"`{name}" in readme or f"probe-or-tune {name}" in readme, name


def test_readme_commands_parse():
    """Every probe-or-tune line of the README is a command with options that exist."""
    readme = (ROOT / "README.md").read_text("utf-8")
    lines = re.findall(r"^probe-or-tune (.+?)(?:\s{2,}#.*)?$", readme, re.M)
    assert len(lines) >= 5
    for line in lines:
        name, *words = line.split()
        cli.cli.commands[name].make_context(name, words)


def test_python_cli_py_is_the_same_door():
    done = subprocess.run([sys.executable, "cli.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "Usage: probe-or-tune" in done.stdout


CACHED_FIT = """
import sys, cli
code = cli.main(sys.argv[1:])
print(sorted({"torch", "transformers", "datasets"} & set(sys.modules)), file=sys.stderr)
sys.exit(code)
"""


def test_a_fit_on_cached_vectors_imports_no_torch(run, reviews, tmp_path, tiny_distilbert):
    assert run("extract", *names(reviews))[0] == 0
    words = ["fit-lr", *map(str, names(reviews)), "--encoder", str(tiny_distilbert), "--cache", str(tmp_path / "cache")]
    words += ["--runs", str(tmp_path / "runs"), "--smote"]
    done = subprocess.run([sys.executable, "-c", CACHED_FIT, *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stderr.splitlines()[-1] == "[]"


# ── what long commands say ──────────────────────────────────────────────────────────────────────────────────────────


def test_progress_that_nobody_watches_speaks_now_and_then(monkeypatch):
    import io

    from rich.console import Console

    from pipeline import show

    clock, told = [0.0], io.StringIO()
    monkeypatch.setattr(show.time, "monotonic", lambda: clock[0])
    lines = show.Lines(Console(file=told, width=200))
    for seconds, done in ((0, 0), (5, 100), (16, 400), (20, 500), (32, 800), (60, 1000)):
        clock[0] = seconds
        lines("extract", done, 1000)
    assert told.getvalue().splitlines() == [
        "extract: 400 of 1,000 (40%), about 24 s left",
        "extract: 800 of 1,000 (80%), about 8 s left",
        "extract: 1,000 of 1,000 (100%)",
    ]


def test_long_commands_say_beforehand_what_they_do_and_how_long(run, reviews, tmp_path):
    code, _, err = run("extract", *names(reviews))
    assert code == 0
    assert re.search(r"300 rows through .*about \d+ (s|min) for all of them", err.splitlines()[0])
    code, out, err = run("fit-lr", *names(reviews), "--runs", tmp_path / "runs", "--json")
    assert re.search(r"^  lr +about \d+ s: logistic regression on frozen vectors$", err, re.M)
    assert re.search(r"^  together about \d+ s( at most)?$", err, re.M)
    fitted = json.loads(out)["run"]
    code, _, err = run(
        "predict", fitted, "--file", reviews, "--text", "body", "--out", tmp_path / "o.csv", encoder=False
    )
    assert code == 0, err
    assert re.search(r"300 texts for lr, about \d+ s", err.splitlines()[0])


def test_tokens_of_a_few_rows(run, reviews, tmp_path, tiny_distilbert):
    words = ["explore", *names(reviews), "--encoder", tiny_distilbert, "--cache", tmp_path / "cache"]
    code, out, _ = run(*words, "--show-tokens", 3, encoder=False)
    assert code == 0
    assert out.count("[CLS] · ") == 3
    code, out, _ = run(*words, "--show-tokens", 3, "--json", encoder=False)
    assert [row["tokens"][0] for row in json.loads(out)["shown_tokens"]] == ["[CLS]"] * 3


def test_an_encoder_may_name_its_revision(tmp_path, monkeypatch, capsys):
    from pipeline.options import _encoders

    monkeypatch.chdir(tmp_path)
    (tmp_path / "my@folder").mkdir()
    found = _encoders(("bert", "org/deberta@refs/pr/4", "my@folder"), revision=None, pooling=("cls",))
    assert [(spec.name, spec.revision) for spec in found] == [
        ("bert", None),
        ("org/deberta", "refs/pr/4"),
        ("my@folder", None),
    ]
    assert cli.main(["explore", "sms-spam", "--encoder", "bert@"]) == 2
    assert "write NAME@REVISION" in capsys.readouterr().err
    assert cli.main(["explore", "sms-spam", "--encoder", "bert@main", "--revision", "dev"]) == 2
    assert "names its revision" in capsys.readouterr().err
