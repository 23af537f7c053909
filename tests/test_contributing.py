"""The tutorials of CONTRIBUTING.md, followed word by word on a copy of the tree."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
STEP = re.compile(r"^`(\S+)`, (new|at the end|among its imports|in `(\w+)`):\n\n```\w+\n(.*?)^```", re.M | re.S)
COMMAND = re.compile(r"^python cli\.py (.+)$", re.M)


def tutorials() -> dict[str, str]:
    """Title → text."""
    parts = re.split(r"^### (.+)\n", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def follow(tree: Path, text: str) -> None:
    """Make every edit that a tutorial shows."""
    for name, where, table, code in STEP.findall(text):
        path = tree / name
        assert path.exists() == (where != "new"), path
        old = "" if where == "new" else path.read_text("utf-8")
        pattern = rf"(?ms)^{table}\b[^\n]*= {{.*?\n(?=}})" if table else r"(?ms)\A.*?\n(?=from \.)"
        place = re.match(r"(?s).*", old) if where in ("new", "at the end") else re.search(pattern, old)
        assert place, f"{name}: no place for {code}"
        between = "\n\n" if where == "at the end" else ""
        path.write_text(old[: place.end()] + between + code + old[place.end() :], "utf-8")


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the tree with everything added."""
    home = tmp_path_factory.mktemp("contributing")
    shutil.copytree(ROOT / "pipeline", home / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "cli.py", home)
    for text in tutorials().values():
        follow(home, text)
    return home


@pytest.fixture
def run(tree, tiny_distilbert):
    """Run the commands of a tutorial; what the last of them printed."""

    def run(title: str) -> str:
        for line in COMMAND.findall(tutorials()[title]):
            words = [str(tiny_distilbert) if word == "minilm" else word for word in shlex.split(line)]
            words = [str(*tree.glob(word.replace("…", "*"))) if "…" in word else word for word in words]
            words += ["--rows", "first:200"] if "sms-spam" in words else []
            words += ["--no-cv"] if "compare" in words else []
            done = subprocess.run(
                [sys.executable, "cli.py", *words],
                cwd=tree,
                env=os.environ | {"COVERAGE": ""},
                capture_output=True,
                text=True,
                encoding="utf-8",
            )
            assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.mark.parametrize(
    ("title", "places"), [("A pooling", 1), ("A metric", 1), ("A contender", 4), ("A section of the page", 3)]
)
def test_how_many_places_each_takes(title, places):
    """A contender: its own module, its row in each of two tables, and the import of the one in the other."""
    assert len(STEP.findall(tutorials()[title])) == places


def test_a_pooling_is_a_row(run):
    answer = json.loads(run("A pooling"))
    assert answer["pooling"] == "min"
    assert answer["encoded"] == answer["unique"]


def test_a_metric_is_a_row(run):
    answer = json.loads(run("A metric"))
    scores = {c["name"]: c["metrics"]["geometric_mean"]["value"] for c in answer["contenders"]}
    assert answer["metric"] == "geometric_mean"
    assert scores["majority"] == 0.0 < scores["tfidf"] <= 1.0
    assert {pair["metric"] for pair in answer["pairs"]} >= {"geometric_mean"}


def test_a_contender_is_a_model_and_two_rows(run, tree):
    answer = json.loads(run("A contender"))
    assert sum(answer["proba"].values()) == pytest.approx(1, abs=1e-5)
    (record,) = tree.glob("runs/*/length-*/run.json")
    assert json.loads(record.read_text("utf-8"))["cost"]["trained_parameters"] == 8  # four lengths, two classes


def test_a_section_is_a_function_a_row_and_a_template(run, tree):
    page = (tree / json.loads(run("A section of the page"))["report"]).read_text("utf-8")
    assert 'href="#agreement"' in page
    assert re.search(r"<bdi>majority</bdi> and <bdi>tfidf</bdi></td><td class=\"n\">\d+\.\d %", page)
