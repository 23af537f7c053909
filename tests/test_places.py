"""How many places a new pooling, metric, contender and section of the page take: each is really added, on a copy."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from tables import names

ROOT = Path(__file__).parent.parent
COIN = '''"""Always the first class, with three quarters."""

import numpy as np

from .run import Cost, Fit, Fitted, Question


class Coin:
    def proba(self, texts):
        return np.tile(np.float32([0.75, 0.25]), (len(texts), 1))


def open_coin(run, runtime, cache, precision):
    return Coin()


def coin_fits(task, variant):
    def learn(_):
        proba = lambda role: Coin().proba(task.dataset.role(role).texts)
        return Fitted(proba, tuple(task.dataset.roles), lambda folder: (folder / "coin.json").write_text("2"), Cost)

    yield Fit(Question("coin", task.dataset, task.runs, task.seed, {}), learn)
'''
SECTION = '''

def coins(facts: Facts) -> Section:
    """How many contenders there are."""
    return Section("Coins", {"count": len(facts.comparison.contenders)})
'''
# What is added: file → (a line of it, or "" for its end or for a new file, what goes in after that). A place each.
Addition = dict[str, tuple[str, str]]
POOLING: Addition = {
    "encoder/pooling.py": (
        '    "cls": lambda hidden, mask: hidden[:, 0],\n',
        '    "twice": lambda hidden, mask: 2 * hidden[:, 0],\n',
    )
}
METRIC: Addition = {
    "metrics.py": (
        "METRICS: dict[str, Metric] = {\n",
        '    "error_rate": Metric("error rate", lambda hit, predicted, true: 1 - accuracy(hit, predicted, true),'
        " lower_is_better=True),\n",
    )
}
CONTENDER: Addition = {
    "kinds.py": (
        "KINDS: dict[str, Kind] = {\n",
        '    "coin": Kind("probe", "a coin", ".coin:open_coin", needs_encoder=False),\n',
    ),
    "contenders.py": (
        "CONTENDERS: dict[str, Contender] = {\n",
        '    "coin": Contender(kinds.load(".coin:coin_fits"), lambda job: 1.0),\n',
    ),
}
PAGE_SECTION: Addition = {
    "report/scores.py": ("", SECTION),
    "report/sections.py": ('    "scores": scores.scores,\n', '    "coins": scores.coins,\n'),
    "report/templates/coins.html.j2": ("", "<p>{{ view.count }} coins were thrown.</p>\n"),
}
CALLS = """
import sys, json, cli
for arguments in json.loads(sys.argv[1]):
    assert cli.main(arguments) == 0, arguments
"""


def add(tree: Path, addition: Addition) -> None:
    for name, (line, new) in addition.items():
        file = tree / "pipeline" / name
        text = file.read_text("utf-8") if file.exists() else ""
        assert text.count(line) == 1 or not line, f"{name} has no such line any more: {line}"
        file.write_text(text.replace(line, line + new) if line else text + new, "utf-8")


@pytest.mark.parametrize(
    ("addition", "places"), [(POOLING, 1), (METRIC, 1), (CONTENDER, 2), (PAGE_SECTION, 3)],
    ids=["pooling", "metric", "contender", "section"],
)  # fmt: skip
def test_places(addition, places):
    assert len(addition) == places


def test_one_of_each_added_on_a_copy(tmp_path, reviews, tiny_distilbert):
    tree = tmp_path / "tree"
    shutil.copytree(ROOT / "pipeline", tree / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "cli.py", tree)
    for addition in (POOLING, METRIC, CONTENDER, PAGE_SECTION):
        add(tree, addition)
    (tree / "pipeline" / "coin.py").write_text(COIN, "utf-8")  # the thing itself
    source = [str(word) for word in names(reviews)]
    encoder = ["--encoder", str(tiny_distilbert), "--engine", "torch", "--precision", "fp32", "--pooling", "cls,twice"]
    calls = [
        ["extract", *source, *encoder],
        ["cache", "export", *source, *encoder, "--out", str(tmp_path / "vectors.parquet")],
        ["compare", *source, *encoder, "--contenders", "majority,coin", "--metric", "error_rate", "--json"],
    ]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", CALLS, json.dumps(calls)], cwd=tree, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    vectors = pyarrow.parquet.read_table(tmp_path / "vectors.parquet").to_pydict()
    assert np.array_equal(2 * np.array(vectors["cls"], np.float32), np.array(vectors["twice"], np.float32))
    outcome = json.loads(done.stdout[done.stdout.index("\n{") :])
    metrics = {c["name"]: c["metrics"] for c in outcome["contenders"]}
    assert outcome["metric"] == "error_rate"
    assert metrics["coin"]["error_rate"]["value"] == pytest.approx(1 - metrics["coin"]["accuracy"]["value"])
    page = (tree / outcome["report"]).read_text("utf-8")
    assert "2 coins were thrown." in page
    assert "error rate" in page
