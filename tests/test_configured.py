"""`--config FILE.toml`: what it may say, what is refused by name, and the file that repeats a command."""

import json
import re
from html import unescape
from pathlib import Path

import click
import pytest

import cli
from pipeline import UserError
from pipeline.options import configured


def parsed(text, tmp_path, *words):
    """The context of a command with a file of settings."""
    file = tmp_path / "settings.toml"
    file.write_text(text, "utf-8")
    root = cli.cli.make_context("probe-or-tune", [words[0]], resilient_parsing=True)
    command, parent = cli.cli.commands[words[0]], root
    rest = list(words)
    while isinstance(command, click.Group):
        parent = command.make_context(rest[0], rest[1:2], parent=parent, resilient_parsing=True)
        rest = rest[1:]
        command = command.commands[rest[0]]
    return command.make_context(rest[0], [*rest[1:], "--config", str(file)], parent=parent)


def test_the_file_gives_options_arguments_lists_and_flags(tmp_path):
    text = """
        [compare]
        source = "sms-spam"
        contenders = ["tfidf", "lr"]
        text = ["title", "body"]
        max_length = 64
        only-existing = true
        margin = 0.02
    """
    values = parsed(text, tmp_path, "compare").params
    assert values["source"] == "sms-spam"
    assert values["contenders"] == ("tfidf", "lr")
    assert values["text"] == ("title", "body")
    assert values["max_length"] == 64
    assert values["only_existing"] is True
    assert values["margin"] == 0.02


def test_what_the_command_line_says_goes_before_it(tmp_path):
    values = parsed(
        "[compare]\nsource = 'a'\nseed = 1\nonly-existing = true", tmp_path, "compare", "b", "--seed", "2"
    ).params
    assert (values["source"], values["seed"], values["only_existing"]) == ("b", 2, True)


def test_a_command_of_a_group_has_a_table_within(tmp_path):
    text = "[cache.export]\nsource = 'x'\nout = 'vectors.parquet'"
    assert parsed(text, tmp_path, "cache", "export").params["out"] == Path("vectors.parquet")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[compare]\nencodr = 'x'", r"\[compare\]: no option 'encodr'; did you mean encoder"),
        ("[compare]\nqqq = 'x'", r"\[compare\]: no option 'qqq'; choose one of source, "),
        ("[compare]\nconfig = 'x'", r"no option 'config'"),
        ("[predict]\ntopk = 1", r"\[predict\]: no option 'topk'; did you mean top-k"),  # another command's table
        ("[cache.ls]\ncach = 'x'", r"\[cache\.ls\]: no option 'cach'"),
        ("[compar]", r"no command 'compar'; did you mean compare"),
        ("[cache.lss]", r"no command 'lss'; did you mean ls"),
        ("encoder = 'x'", r"'encoder' stands in no command's table"),
        ("[compare]\nonly-existing = 'yes'", r"only-existing = \"yes\": true or false"),
        ("[compare]\nencoder = true", r"encoder = true: no flag"),
        ("[compare]\nencoder = {a = 1}", r"a table or a list of lists"),
        ("[compare]\nmax-length = 1\nmax_length = 2", r"max-length is there twice"),
        ("[compare", r"no TOML"),
        ("[compare]\nencoder = '\x00'", r"no TOML"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(text, message, tmp_path):
    with pytest.raises(UserError, match=message) as caught:
        parsed(text, tmp_path, "compare", "sms-spam")
    assert "settings.toml: " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_value_of_the_wrong_type_names_the_file(tmp_path):
    with pytest.raises(UserError, match=r"settings.toml: \[compare\] margin: 'much' is not a valid float range"):
        parsed("[compare]\nmargin = 'much'", tmp_path, "compare", "a")
    with pytest.raises(UserError, match=r"settings.toml: \[compare\] prefer: 'dear' is not one of"):
        parsed("[compare]\nprefer = 'dear'", tmp_path, "compare", "a")
    with pytest.raises(click.UsageError, match="'x' is not a valid float range"):
        parsed("[compare]\nmargin = 'much'", tmp_path, "compare", "a", "--margin", "x")


def test_a_file_that_is_missing_large_or_no_text_is_one_line(tmp_path, run):
    for content, message in ((None, "cannot be read"), (b"#" * 2**21, "larger than"), (b"\xff\xfe", "no TOML")):
        file = tmp_path / f"{message}.toml"
        if content is not None:
            file.write_bytes(content)
        code, _, err = run("compare", "sms-spam", "--config", file)
        assert (code, message in err, err.count("\n")) == (1, True, 1)


def test_every_command_takes_it():
    def commands(group):
        for command in group.commands.values():
            yield from commands(command) if isinstance(command, click.Group) else [command]

    assert all(any(p.name == "config" for p in command.params) for command in commands(cli.cli))


def test_the_page_shows_the_file_that_repeats_it(run, tmp_path):
    texts = tmp_path / 'a "quoted" name.csv'
    texts.write_text("body,stars\n" + "".join(f"{'good' if i % 2 else 'bad'} film {i},{i % 2}\n" for i in range(80)))
    words = [texts, "--text", "body", "--label", "stars", "--contenders", "majority,tfidf", "--runs", tmp_path / "runs"]
    code, out, err = run("compare", *words, "--metric", "macro_f1", "--json")
    assert code == 0, err
    first = json.loads(out)
    page = Path(first["report"]).read_text("utf-8")
    shown = unescape(re.search(r"the file being\n(\[compare\].*?)</code>", page, re.S)[1])
    file = tmp_path / "again.toml"
    file.write_text(shown, "utf-8")
    code, out, err = run("compare", "--config", file, "--json")
    assert code == 0, err
    again = json.loads(out)
    assert [c["run"] for c in again["contenders"]] == [c["run"] for c in first["contenders"]]
    assert again["metric"] == "macro_f1"


@pytest.mark.parametrize("value", ["plain", 'with "quotes"', "back\\slash", "tab\tand\x7f", "Ünï 🙂", ["a", "b"], True])
def test_a_value_is_read_back_from_toml(value):
    import tomllib

    assert tomllib.loads(f"key = {configured._toml(value)}")["key"] == value
