"""The files around the code agree with each other and with the code."""

import configparser
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
WORKFLOW = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8"))
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg", "utf-8")


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == SETUP["metadata"]["version"]
    assert citation["license"] == SETUP["metadata"]["license"]
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()


def test_the_changelog_ends_at_this_version_or_before():
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    titles = re.findall(r"^## (.+)$", text, re.M)
    assert titles[0] == "Unreleased"
    assert all(re.fullmatch(r"\d+\.\d+\.\d+ \(\d{4}-\d{2}-\d{2}\)", title) for title in titles[1:])


def test_public_ci_runs_what_ci_runs_on_every_python_that_is_named():
    jobs = WORKFLOW["jobs"]
    ran = {step["run"] for job in jobs.values() for step in job["steps"] if "run" in step}
    assert ran == {".ci/run", "make test CONSTRAINTS=constraints-lowest.txt"}
    named = re.findall(r":: Python :: (\d\.\d+)", SETUP["metadata"]["classifiers"])
    matrix = jobs["test"]["strategy"]["matrix"]["include"]
    assert [row["python"] for row in matrix if row["system"].startswith("ubuntu")] == named
    assert {row["system"].split("-")[0] for row in matrix} == {"ubuntu", "macos", "windows"}


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"])
def test_links_lead_somewhere(name):
    links = re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / name).read_text("utf-8"))
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_make_target_that_is_named_exists():
    text = "\n".join((ROOT / name).read_text("utf-8") for name in ("README.md", "CONTRIBUTING.md", ".ci/run"))
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))
    assert set(re.findall(r"(?m)(?:^|`)make ([a-z][\w-]*)", text)) <= targets


def test_hooks_are_the_linters_of_make_lint():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))["repos"][0]["hooks"]
    assert [hook["entry"] for hook in hooks] == [".venv/bin/ruff format", ".venv/bin/ruff check"]
