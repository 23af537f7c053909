"""What only some commands need is loaded by those alone: everything else answers without it, installed or not."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAZY = ("altair", "accelerate", "imblearn", "jinja2")
BLOCKED = f"""
import sys
for name in {LAZY}:
    sys.modules[name] = None  # whoever imports it fails
import cli
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.fixture
def blocked(tmp_path):
    """Run commands one after the other, without what is lazy."""

    def run(*words: str) -> str:
        place = ["--runs", str(tmp_path / "runs"), "--cache", str(tmp_path / "cache")]
        options = {"fit-lr": place, "extract": place[2:], "predict": place[2:]}.get(words[0], [])
        done = subprocess.run(
            [sys.executable, "-c", BLOCKED, *words, *options], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_help_needs_none_of_it(blocked):
    assert "compare" in blocked("--help")
    assert "--contenders" in blocked("compare", "--help")


def test_stage_one_two_and_predict_need_none_of_it(blocked, tmp_path, tiny_distilbert):
    words = ["sms-spam", "--rows", "first:200", "--encoder", str(tiny_distilbert)]
    assert '"encoded"' in blocked("extract", *words, "--json")
    blocked("fit-lr", *words)
    (run,) = tmp_path.glob("runs/*/lr-*")
    assert '"label"' in blocked("predict", str(run), "win a prize")
