"""All five recipes on local data, one after the other, and what they found as recipes/RESULTS.md: `make recipes`.

    python recipes/run_all.py --data ../shared/data --encoder minilm

A recipe that was interrupted goes on where it was; RESULTS.md then says how many runs were there already.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from table import answer, sources, table  # noqa: E402

from pipeline.encoder.hardware import cpu_name, hardware  # noqa: E402

FOLDERS = dict(  # recipe → folder of --data
    zip(sources(), ("imdb", "mnli", "ag_news", "movie_reviews", "emotion"), strict=True)
)
# What differs from the sources' settings: the data at hand are samples, and one encoder needs no network
CHANGED: dict[str, tuple[dict[str, str], str]] = {
    "1-imdb-frozen-head": (
        {"ROWS": "1250"},
        "1,250 rows of train and of test, as many as 5 % of the whole train split",
    ),
    "2-mnli-pairs": (
        {},
        "an encoder smaller than its DistilBERT, whose learning rate of 2e-5 is kept: 160 steps leave it near always "
        "answering the same class",
    ),
    "3-ag-news-many-classes": (
        {"ROWS": "5%", "VECTORS": "--pooling cls,mean"},
        "5 % of the train and test splits at hand; [CLS] against mean vectors, since one encoder is at hand",
    ),
    "4-movie-reviews-two-ways": (
        {"MAX_LENGTH": "128"},
        "texts cut at 128 tokens instead of 512, to stay within 40 minutes on two cores",
    ),
}


def settings(name: str, data: Path, encoder: str, out: Path) -> dict[str, str]:
    """The environment of a recipe."""
    own = CHANGED.get(name, ({}, ""))[0]
    there = {"SOURCE": str(data / FOLDERS[name]), "PAIRS": str(data / "mnli"), "ENCODER": encoder, "OUT": str(out)}
    return {**os.environ, "PYTHON": sys.executable, **there, **{k: os.environ.get(k, v) for k, v in own.items()}}


def run(name: str, environment: Mapping[str, str]) -> float:
    """Run one recipe; seconds that it took."""
    started = time.monotonic()
    subprocess.run(["bash", str(HERE / f"{name}.sh")], env=dict(environment), check=True)
    return time.monotonic() - started


def commit() -> str:
    """The commit that ran, and whether the tree differed from it (this run's own RESULTS.md does not count)."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=HERE, capture_output=True, text=True).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", "..", ":!RESULTS.md")
    return (git("rev-parse", "--short=12", "HEAD") or "unknown") + (" with changes" if changed else "")


def results(out: Path, took: Mapping[str, float], encoder: str, commit: str, there: int) -> str:
    """RESULTS.md: the commit, the machine and the date, then every recipe's table."""
    lines = [
        "# What the recipes found",
        "",
        f"Written by `make recipes` on {datetime.now(UTC):%d %B %Y}, commit {commit}, {cpu_name()}, "
        f"{hardware().cores} cores, encoder `{encoder}`: {sum(took.values()) / 60:.1f} minutes together"
        + (f" ({there} runs were there already)." if there else "."),
        "Scores are followed by 95 % intervals; differences are paired, on the same rows.",
    ]
    for name, seconds in took.items():
        changed = CHANGED.get(name, ({}, ""))[1]
        lines += ["", f"## [{name}]({name}.sh)", "", f"**{sources()[name]['question']}** {answer(out / name)}", ""]
        lines += [table(out / name), "", f"{seconds:.0f} s." + (f" Unlike the source: {changed}." if changed else "")]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with imdb, mnli, ag_news, ...")
    parser.add_argument("--encoder", default="distilbert-base-uncased")
    parser.add_argument("--out", type=Path, default=HERE / "out", help="where JSON, pages, vectors and runs go")
    parser.add_argument("--results", type=Path, default=HERE / "RESULTS.md", help="file to write")
    given = parser.parse_args()
    data, out, ran = given.data.resolve(), given.out.resolve(), commit()
    if missing := [folder for folder in FOLDERS.values() if not (data / folder).exists()]:
        sys.exit(f"{data}: no {missing[0]}; DATA is a folder that holds {', '.join(FOLDERS.values())}")
    there = len(list(out.glob("runs/*/*/run.json")))
    took = {name: run(name, settings(name, data, given.encoder, out)) for name in FOLDERS}
    given.results.write_text(results(out, took, given.encoder, ran, there), "utf-8")
    print(f"{given.results}: {sum(took.values()) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
