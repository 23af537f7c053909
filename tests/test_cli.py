"""The command line as a user meets it: contracts of --json, exit codes, one-line errors, and README's promises."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
from tables import names, sentences

import cli
from pipeline.options.parsing import section_of
from pipeline.run import load_run

ROOT = Path(__file__).parent.parent


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
    answers = {a["text"]: a["proba"]["good"] for a in map(json.loads, (tmp_path / "o.jsonl").read_text().splitlines())}  # type: ignore[assignment]
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


def test_several_runs_of_a_kind_are_told_apart(run, reviews, tmp_path):
    out = run("fit-lr", *names(reviews), "--runs", tmp_path / "runs", "--pooling", "cls,mean")[1]
    shown = re.findall(r"^lr \([^)]*\)", out, re.M)  # validation and test of each, then where each lies
    assert (len(shown), len(set(shown))) == (6, 2)
    assert shown[-2:] == ["lr (cls)", "lr (mean)"]


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


def test_a_contender_chooses_its_pooling_in_the_folds(run, reviews, tmp_path):
    rest = ["--runs", tmp_path / "runs", "--contenders", "lr,lr+auto", "--json"]
    contenders = json.loads(run("compare", *names(reviews), *rest)[1])["contenders"]
    poolings = {entry["kind"]: entry["pooling"] for entry in contenders}
    assert set(poolings) == {"lr", "lr+auto"}
    assert poolings["lr"] == "cls"
    run_of_auto = load_run(next(entry["run"] for entry in contenders if entry["kind"] == "lr+auto"))
    tried = {h["pooling"]: h["log_loss"] for h in run_of_auto.history if h.get("what") == "pooling"}
    assert poolings["lr+auto"] == min(tried, key=tried.get)


def test_an_unfrozen_layer_and_scratch_are_contenders(run, reviews, tmp_path):
    rest = ["--runs", tmp_path / "runs", "--epochs", "1", "--learning-rate", "1e-3", "--json"]
    _, out, err = run("fine-tune", *names(reviews), *rest, "--unfreeze", "1")
    assert json.loads(out)["kind"] == "fine-tune+last-1"
    assert "the encoder's last layer, fine-tuned" in err
    assert "the whole encoder" not in err
    assert json.loads(run("fine-tune", *names(reviews), *rest, "--from-scratch")[1])["kind"] == "from-scratch"
    code, _, err = run("fine-tune", *names(reviews), *rest, "--from-scratch", "--freeze")
    assert code == 1
    assert "contradict" in err


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


def test_a_misspelt_contender_is_said_once_and_before_anything_is_read(run, reviews):
    code, _, err = run("compare", *names(reviews), "--contenders", "tfidf,lrr", "--only-existing", encoder=False)
    assert code == 1
    assert err.startswith("error: no contender 'lrr'; choose one of majority, tfidf, lr")
    assert err.count("\n") == 1


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


class PanicException(BaseException):
    """As Rust's come to Python: no Exception."""


@pytest.mark.parametrize("kind", [TypeError, PanicException])
def test_an_unforeseen_error_is_one_line(kind, monkeypatch, capsys, reviews):
    def fail(*_, **__):
        raise kind("first line\nsecond line")

    monkeypatch.setattr("pipeline.contenders.profile", fail)
    assert cli.main(["explore", str(reviews)]) == 1
    err = capsys.readouterr().err.splitlines()
    assert re.match(
        rf"error: {kind.__name__} at test_cli\.py:\d+: first line; this is a bug: please report it", err[-1]
    )
    monkeypatch.setenv("PROBE_OR_TUNE_TRACEBACK", "1")
    with pytest.raises(kind):
        cli.main(["explore", str(reviews)])


WAITS = """
import sys, time, cli
import pipeline.contenders
def wait(*_):
    print("ready", flush=True)
    time.sleep(60)
pipeline.contenders.profile = wait
cli.door()
"""


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129), ("SIGINT", 130)])
def test_signals_end_like_an_interrupt(name, code, reviews):
    words = [sys.executable, "-c", WAITS, "explore", str(reviews)]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as job:
        assert job.stdout.readline() == "ready\n"
        job.send_signal(getattr(signal, name))
        _, err = job.communicate(timeout=30)
    assert job.returncode == code
    assert err.lstrip().startswith("interrupted; what was committed stays")
    assert "Traceback" not in err


@pytest.mark.parametrize("locale", [{"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}, {}])
def test_texts_are_utf8_whatever_the_locale(locale, tmp_path):
    file = tmp_path / "größe.csv"
    file.write_text("text,label\n" + "".join(f"naïve {i},{'日本' if i % 2 else 'ähm'}\n" for i in range(60)), "utf-8")
    words = [sys.executable, "cli.py", "explore", str(file), "--encoder", "nowhere", "--json"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, env=os.environ | locale)
    assert "größe.csv" in done.stderr.decode("utf-8"), done.stderr
    assert b"Traceback" not in done.stderr


NO_HOME = """
import os, pwd, sys
def nobody(number):
    raise KeyError(number)
os.environ.pop("HOME", None)
pwd.getpwuid = nobody
sys.path.insert(0, {root!r})
from pipeline.door import main
for words in {commands!r}:
    assert main(words) == 0, words
"""


def test_a_user_without_a_home_folder(reviews, tmp_path, tiny_distilbert):
    columns = ["--text", "body", "--label", "verdict"]
    compare = ["compare", str(reviews), *columns, "--encoder", str(tiny_distilbert), "--contenders", "majority,lr"]
    code = NO_HOME.format(root=str(ROOT), commands=[compare, ["doctor", "--encoder", str(tiny_distilbert)]])
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "XDG_"))}
    words = [sys.executable, "-c", code]
    done = subprocess.run(
        words, cwd=tmp_path, env=environment | {"HF_HUB_OFFLINE": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs").is_dir()
    assert not (tmp_path / "~").exists()


@pytest.mark.parametrize("source", ["~nobody-of-that-name/reviews.csv", "~nobody-of-that-name"])
def test_the_home_of_nobody_is_no_file(capsys, source):
    for words in (["explore", source], ["explore", "sms-spam", "--encoder", source]):
        assert cli.main(words) == 1
    assert "bug" not in capsys.readouterr().err


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_error(closed, reviews):
    line = f"{sys.executable} cli.py cache ls --cache {reviews.parent} {closed}"
    done = subprocess.run(["bash", "-c", line], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


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


def test_help_lists_commands_in_the_order_of_use_and_options_by_what_they_are_about(run):
    _, out, _ = run("--help", encoder=False)
    listed = re.findall(r"^  ([a-z-]+) ", out.split("Commands:")[1], re.M)
    assert listed[:5] == ["explore", "extract", "fit-lr", "fine-tune", "compare"]
    _, out, _ = run("compare", "--help", encoder=False)
    titles = re.findall(r"^([A-Z][\w-]+):$", out, re.M)
    assert titles == [
        "Data",
        "Judging",
        "Contenders",
        "Encoder",
        "Probe",
        "Fine-tuning",
        "Machine",
        "Folders",
        "General",
    ]
    assert out.index("--metric") < out.index("Encoder:") < out.index("--pooling") < out.index("Probe:")


@pytest.mark.parametrize(("name", "command"), list(commands()), ids=lambda value: str(value)[:20])
def test_every_option_has_a_section_and_every_summary_stands_whole(name, command):
    options = [option for option in command.params if isinstance(option, click.Option)]
    general = [option.name for option in options if section_of(option) == "General"]
    assert general == ["config", "as_json"]
    *groups, last = name.split()
    with click.Context(cli.cli, info_name="probe-or-tune", terminal_width=80, max_content_width=80) as ctx:
        out = click.Context(cli.cli.commands[groups[0]] if groups else cli.cli, parent=ctx).get_help()
    (line,) = re.findall(rf"^  {last} +(.+)$", out.split("Commands:")[1], re.M)
    assert not line.endswith(("...", "…"))
    assert line == " ".join(command.help.split())[: len(line)]


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
    from pipeline.options.builders import encoders

    monkeypatch.chdir(tmp_path)
    (tmp_path / "my@folder").mkdir()
    found = encoders(("bert", "org/deberta@refs/pr/4", "my@folder"), revision=None, pooling=("cls",))
    assert [(spec.name, spec.revision) for spec in found] == [
        ("bert", None),
        ("org/deberta", "refs/pr/4"),
        ("my@folder", None),
    ]
    assert cli.main(["explore", "sms-spam", "--encoder", "bert@"]) == 2
    assert "write NAME@REVISION" in capsys.readouterr().err
    assert cli.main(["explore", "sms-spam", "--encoder", "bert@main", "--revision", "dev"]) == 2
    assert "names its revision" in capsys.readouterr().err


def test_the_ladder_says_who_takes_part():
    from click.testing import CliRunner

    from pipeline.command_line import cli
    from pipeline.comparison import LADDER
    from pipeline.options.builders import rules

    told = CliRunner().invoke(cli, ["compare", "sms-spam", "--ladder", "--contenders", "lr"])
    assert told.exit_code == 2
    assert "--ladder and --contenders both say who takes part; pass one of the two" in told.output
    with cli.commands["compare"].make_context("compare", ["sms-spam", "--ladder"], resilient_parsing=True):
        assert rules(ladder=True, only_existing=False).contenders == LADDER


OF_TRAINING = ("--weight-decay", "--warmup", "--label-smoothing", "--dropout", "--learning-rate")
NUMBERS = {  # option → command that has it
    "--margin": ["compare", "S"],
    "--budget": ["compare", "S"],
    "--abstain-below": ["predict", "RUN", "a text"],
    "--C": ["fit-lr", "S"],
} | {option: ["fine-tune", "S"] for option in OF_TRAINING}


@pytest.mark.parametrize("option", NUMBERS)
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "-1", "many"])
def test_what_is_no_number_is_wrong_usage(capsys, option, value):
    assert cli.main([*NUMBERS[option], option, value]) == 2
    assert f"Invalid value for '{option}'" in capsys.readouterr().err
