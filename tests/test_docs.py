"""The pages of docs/: every command parses, those of the bundled data set run, every Python block runs."""

import re
import shlex
from pathlib import Path

import click
import pytest

import cli
from pipeline.encoder import checkpoint

DOCS = Path(__file__).parent.parent / "docs"
PAGES = sorted(DOCS.glob("*.md"))
QUICK = {"rows": "first:200", "epochs": "1", "batch_size": "16"}  # where a command has them and the page says nothing


def lines_of(page):
    """The probe-or-tune lines of a page, without their comments."""
    found = re.findall(r"^probe-or-tune (.+?)(?:\s{2,}#.*)?$", page.read_text("utf-8"), re.M)
    return [shlex.split(line) for line in found]


def resolved(words):
    """The command that words name, and what is left of them."""
    command = cli.cli.commands[words[0]]
    if isinstance(command, click.Group):
        return command.commands[words[1]], words[2:]
    return command, words[1:]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_parse(page):
    for words in lines_of(page):
        command, rest = resolved(words)
        command.make_context(words[0], list(rest))


@pytest.fixture
def bundled(monkeypatch, tmp_path, tiny_distilbert):
    """An empty working folder, with a tiny encoder as if it were the packaged one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(checkpoint, "packaged", lambda: tiny_distilbert)
    monkeypatch.setattr(checkpoint, "MINILM_SHA256", checkpoint.sha256(tiny_distilbert / "model.safetensors"))
    rows = [f"{'a great film' if i % 2 else 'a boring story'} {i},{1 + i % 2}\n" for i in range(120)]
    Path("reviews.csv").write_text("body,stars\n" + "".join(rows), "utf-8")
    Path("texts.csv").write_text("id,text\n1,win a prize\n2,come home\n", "utf-8")
    return tmp_path


def found_run(word):
    """`runs/sms-spam-…/lr-…` as the folder that an earlier command made."""
    if "…" not in word:
        return word
    return str(sorted(path for path in Path().glob(word.replace("…", "*")) if "+" not in path.name)[0])


@pytest.mark.parametrize("name", ["index.md", "data.md", "serving.md"])
def test_commands_run_as_they_stand(name, bundled, capsys):
    pytest.importorskip("openvino")
    if name == "serving.md":
        assert cli.main(["fit-lr", "sms-spam", "--encoder", "minilm", "--rows", "first:200"]) == 0
    for words in lines_of(DOCS / name):
        if words[:2] == ["compare", "sms-spam"] and "--only-existing" not in words:
            words += ["--contenders", "majority,tfidf,lr"]  # the whole contest has tests of its own
        command, _ = resolved(words)
        options = {p.name: p.opts[0] for p in command.params if isinstance(p, click.Option)}
        extra = [w for key, value in QUICK.items() if key in options for w in (options[key], value)]
        code = cli.main([*map(found_run, words), *extra])
        assert code == 0, f"{words}: {capsys.readouterr().err}"
    assert "error" not in capsys.readouterr().err


@pytest.mark.parametrize("page", [*PAGES, DOCS.parent / "README.md"], ids=lambda page: page.name)
def test_python_blocks_run(page, bundled):
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.M | re.S):
        exec(compile(block, str(page), "exec"), {})


def test_the_site_shows_every_page():
    listed = re.search(r"```{toctree}\n(.*?)```", (DOCS / "index.md").read_text("utf-8"), re.S)[1]
    named = set(re.findall(r"<([\w-]+)>$", listed, re.M))
    assert named == {"self"} | {page.stem for page in [*PAGES, *DOCS.glob("*.ipynb")]} - {"index"}


def test_the_reference_holds_every_public_name():
    import pipeline

    text = (DOCS / "api.md").read_text("utf-8")
    named = {line.rpartition(".")[2] for line in re.findall(r"^\.\. auto\w+:: (\S+)$", text, re.M)}
    assert named == set(pipeline.PUBLIC)
