"""Every recipe runs, on a few rows and a tiny encoder, and its table holds what its commands measured."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
RECIPES = sorted((ROOT / "recipes").glob("[1-5]-*.sh"))
sys.path.insert(0, str(ROOT / "recipes"))

import run_all  # noqa: E402
import table as tables  # noqa: E402

WORDS = ["the", "film", "people", "call", "now", "day", "story", "time", "want"]
TELLING = {"good": "happy", "bad": "boring", "odd": "surprise", "neutral": "people", "entailment": "really"}


def sentences(labels, seed):
    """A CSV's rows: a text, with a word in it that usually tells its label, and the label."""
    random, rows = np.random.default_rng(seed), []
    for i, label in enumerate(labels):
        words = random.choice(WORDS, random.integers(3, 9)).tolist()
        words.insert(0, TELLING.get(label, "prize") if random.random() < 0.85 else "like")
        rows.append((f"{' '.join(words)} {i}", label))
    return rows


def write(file, labels, seed=0, pairs=False):
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = sentences(labels, seed)
    if pairs:
        lines = ["premise,hypothesis,genre,label"]
        lines += [f"{text},so {text[:12]},{'fiction' if i % 3 else 'travel'},{y}" for i, (text, y) in enumerate(rows)]
    else:
        lines = ["text,label", *(f"{text},{y}" for text, y in rows)]
    file.write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Five sources, each of its original's kind: sorted, pairs, many classes, one split, uneven."""
    home = tmp_path_factory.mktemp("data")
    for split in ("train", "test"):
        write(home / "imdb" / f"{split}.csv", ["bad"] * 100 + ["good"] * 100, seed=len(split))
        write(home / "ag_news" / f"{split}.csv", ["good", "bad", "odd", "rare"] * 30, seed=10 + len(split))
    for split in ("train", "validation_matched"):
        three = ["entailment", "neutral", "contradiction"] * 40
        write(home / "mnli" / f"{split}.csv", three, seed=20 + len(split), pairs=True)
    (home / "mnli" / "labels.json").write_text('["entailment", "neutral", "contradiction"]')
    write(home / "movie_reviews" / "all.csv", ["bad"] * 50 + ["good"] * 50, seed=3)
    for split in ("train", "validation", "test"):
        write(home / "emotion" / f"{split}.csv", (["good"] * 6 + ["bad"] * 3 + ["odd"]) * 12, seed=40 + len(split))
    return home


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("recipes")


slow = pytest.mark.slow  # each is four to six processes that load torch: about a minute together


def perform(name, data, out, encoder):
    """Run a recipe as `make recipes` does; its standard output."""
    environment = run_all.settings(name, data, str(encoder), out)
    environment |= {"ROWS": "60", "PAIR_ROWS": "60", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    script = ROOT / "recipes" / f"{name}.sh"
    done = subprocess.run(["bash", str(script)], env=environment, capture_output=True, text=True, cwd=out)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def cells(text):
    """First cell of every row of a Markdown table → its other cells."""
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.strip().splitlines()[2:]]
    return {first.strip(): [cell.strip() for cell in rest] for first, *rest in rows}


def read(out, name, answer):
    return json.loads((out / name / f"{answer}.json").read_text())


def test_there_are_five_and_each_is_short():
    assert [file.stem for file in RECIPES] == list(tables.sources()) == list(tables.FACTS) == list(run_all.FOLDERS)
    for file in (*RECIPES, ROOT / "recipes" / "setup.sh"):
        assert len(file.read_text().splitlines()) <= 25, file.name
        assert os.access(file, os.X_OK) or file.name == "setup.sh"
    for file in RECIPES:  # nothing but commands of cli.py: no loop, no branch, no other program
        words = [line.split()[0] for line in file.read_text().replace("\\\n", "").splitlines() if line.strip()]
        allowed = re.compile(r"#.*|\.|cli|table|read|\w+=.*")
        assert [word for word in words if not allowed.fullmatch(word)] == []


@slow
def test_sorted_rows(data, out, tiny_distilbert):
    name = "1-imdb-frozen-head"
    shown = cells(perform(name, data, out, tiny_distilbert))
    accuracy = next(c for c in read(out, name, "compare")["contenders"] if c["kind"] == "frozen-head")
    accuracy = accuracy["metrics"]["accuracy"]
    ours, theirs, worth = shown["accuracy, head on frozen [CLS], test"]
    assert ours == f"{accuracy['value']:.3f} [{accuracy['low']:.3f}, {accuracy['high']:.3f}]"
    assert theirs == "–"
    assert "(sorted: yes)" in worth
    assert "100% of those test rows are 'bad': always answering it scores 1.000 there, 0.500" in worth
    losses = [record["loss"] for record in read(out, name, "head")["history"] if record["epoch"]]
    assert shown["train loss, epoch 1 → 5"][0] == f"{losses[0]:.2f} → {losses[-1]:.2f}"
    assert shown["train loss, epoch 1 → 5"][1] == "3.75 → 0.12"
    assert read(out, name, "head")["settings"]["learning_rate"] == 1e-3
    assert (out / name / "page.html").stat().st_size > 10_000


@slow
def test_pairs(data, out, tiny_distilbert):
    name = "2-mnli-pairs"
    shown = cells(perform(name, data, out, tiny_distilbert))
    explored = read(out, name, "explore")
    ours, theirs, worth = shown["tokens a pair: mean, max, 99 % → max_length"]
    mean, longest, p99 = (explored["tokens"][key] for key in ("mean", "max", "p99"))
    assert ours == f"{mean:.1f}, {longest:.0f}, {p99:.0f} → {explored['max_length']}"
    assert theirs == "44.1, 215, 103 → 104"
    assert f"it would have said {mean + 4:.1f}, {longest + 4:.0f}, {p99 + 4:.0f} →" in worth
    learnt = shown["numbers that learn in the head"]
    assert learnt[0].startswith(f"{32 * 32 + 32 + 3 * 32 + 3:,} ")
    assert f"a linear head has {3 * 32 + 3} " in learnt[2]
    assert read(out, name, "scratch")["kind"] == "from-scratch"
    assert read(out, name, "tuned")["settings"]["learning_rate"] == 2e-5
    assert {c["kind"] for c in read(out, name, "compare")["contenders"]} >= {"frozen-head", "from-scratch", "fine-tune"}
    recall = read(out, name, "standard")["metrics"]["test"]["per_class"]
    two = [recall[key]["recall"] for key in ("neutral", "contradiction")]
    assert shown["recall of neutral · contradiction"][0] == f"{two[0]:.3f} · {two[1]:.3f}"


@slow
def test_many_classes_and_two_sets_of_vectors(data, out, tiny_distilbert):
    name = "3-ag-news-many-classes"
    shown = cells(perform(name, data, out, tiny_distilbert))
    head, pairs = read(out, name, "head"), read(out, name, "pairs")
    assert len(head["class_names"]) == 4
    once = head["cost"]["extract_seconds"]
    assert shown["encoding for 20 epochs"][2].endswith(f"take {head['cost']['fit_seconds']:.1f} s")
    assert f"{19 * once:.1f} s more for 20 passes" in shown["encoding for 20 epochs"][2]
    assert shown["longest text in tokens; share past the encoder's limit of 512"][0].endswith("; 0.00%")
    assert {group["group"] for group in pairs["groups"]} == {"fiction", "travel"}
    two = {c["name"]: c["metrics"]["accuracy"]["value"] for c in pairs["contenders"] if c["kind"] == "lr"}
    assert len(two) == 2
    told = next(row for first, row in shown.items() if first.startswith("MNLI, frozen: "))
    apart = max(two.values()) - min(two.values())
    assert abs(float(re.search(r"difference ([+−-][\d.]+)", told[2])[1])) == pytest.approx(apart, abs=6e-4)


@slow
def test_two_ways_judge_the_same_rows(data, out, tiny_distilbert):
    name = "4-movie-reviews-two-ways"
    shown = cells(perform(name, data, out, tiny_distilbert))
    trainer, loop = read(out, name, "trainer"), read(out, name, "loop")
    assert trainer["metrics"]["validation"]["rows"] == loop["metrics"]["test"]["rows"] == 20
    assert (trainer["settings"]["head"], loop["settings"]["head"]) == ("standard", "linear")
    assert (trainer["settings"]["schedule"], loop["settings"]["schedule"]) == ("linear", "constant")
    assert trainer["settings"]["batch_size"] == loop["settings"]["batch_size"] == 8
    curve = [record["validation"]["accuracy"] for record in trainer["history"] if record.get("epoch")]
    chosen = trainer["metrics"]["validation"]["accuracy"]
    row = next(row for first, row in shown.items() if first.startswith("(a)"))
    assert row[0].startswith(", ".join(f"{value:.3f}" for value in curve) + f"; {chosen:.3f}")
    assert f"{chosen - curve[-1]:+.3f} against the last epoch" in row[2]
    from pipeline.run import load_run

    rows = load_run(loop["run"]).predictions["test"].row_ids.tolist()
    assert rows == load_run(trainer["run"]).predictions["validation"].row_ids.tolist()


@slow
def test_features_smote_and_fine_tuning(data, out, tiny_distilbert):
    name = "5-emotion-features-lr-finetune"
    shown = cells(perform(name, data, out, tiny_distilbert))
    plain, smote = read(out, name, "lr")["runs"]
    assert (plain["kind"], smote["kind"]) == ("lr", "lr+smote-minority")
    row = shown["accuracy, logistic regression on [CLS]: validation; test"]
    assert row[0].startswith(f"{plain['metrics']['validation']['accuracy']:.3f}; ")
    assert row[0].split("; ")[1].startswith(f"{plain['metrics']['test']['accuracy']:.3f} [")
    assert row[1] == "0.633"
    assert "converged, at most" in row[2]
    assert shown["the same after SMOTE of the smallest class"][1] == "0.621"
    pair = next(p for p in read(out, name, "compare")["pairs"] if {p["a"], p["b"]} == {"lr", "lr+smote-minority"})
    sign = 1 if pair["a"] == "lr+smote-minority" else -1
    assert f"SMOTE − none: {sign * pair['difference']:+.3f} [" in shown["the same after SMOTE of the smallest class"][2]
    found = read(out, name, "audit")["rows"]
    suspicious = [row for row in found if row["kind"] == "label error"]
    assert len(suspicious) < len(found)  # a tiny encoder may be sure of no wrong label
    told = shown["labels that are probably wrong, by cross-validated predictions"]
    assert told[0] == f"{len(suspicious)} of 360"
    page = (out / name / "page.html").read_text()
    for part in (
        "Confusion",
        "Words of the texts of each class",
        "highest and of the lowest loss",
        found[0]["row_id"],
    ):
        assert part.lower() in page.lower(), part


@slow
def test_results_say_commit_machine_and_date(data, out, tiny_distilbert):
    """After the five above: their tables, together."""
    took = dict.fromkeys(run_all.FOLDERS, 2.0)
    if not all((out / name / "compare.json").exists() for name in took):
        pytest.skip("needs the recipes that run before it")
    from pipeline.encoder.hardware import cpu_name

    written = run_all.results(out, took, "tiny", "0123456789ab", there=0)
    assert "commit 0123456789ab" in written
    assert cpu_name() in written
    assert "0.2 minutes together." in written
    assert written.count(tables.HEAD) == 5
    assert "Unlike the source: texts cut at 128 tokens" in written
    assert "{" not in written


def test_the_data_must_be_there(tmp_path):
    done = subprocess.run(
        [sys.executable, str(ROOT / "recipes" / "run_all.py"), "--data", str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "no imdb; DATA is a folder that holds imdb, mnli, ag_news" in done.stderr
