"""Labels where two runs differ: an unbiased difference whose interval covers, files there and back, and a verdict."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

import cli
import pipeline
from pipeline import UserError
from pipeline.disagreement import Pool, interval, read_labels, settled, table, write


def pool_of(differing=300, rows=2000, classes=3, first=0.5, second=0.3, seed=0):
    """A pool, and its truth (N,): where the two differ, either is right with these shares, else neither."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(classes, size=rows)
    answers = np.stack([truth, truth])
    at = rng.permutation(rows)[:differing]
    who = rng.choice(3, differing, p=[first, second, 1 - first - second])
    answers[0, at] = np.where(who == 0, truth[at], (truth[at] + 1) % classes)
    answers[1, at] = np.where(who == 1, truth[at], (truth[at] + 2) % classes)
    names = ("down", "up", "flat", "none")[:classes]
    return Pool([(f"text {i}",) for i in range(rows)], answers, names), truth


@pytest.mark.parametrize(
    ("differing", "labelled", "first", "second"),
    [(300, 60, 0.5, 0.3), (300, 30, 0.9, 0.05), (80, 60, 0.4, 0.4), (1000, 100, 0.2, 0.1), (40, 10, 0.5, 0.5)],
)
def test_the_difference_is_unbiased_and_its_interval_covers(differing, labelled, first, second):
    pool, truth = pool_of(differing, 2000, 3, first, second)
    true = (pool.answers[0] == truth).mean() - (pool.answers[1] == truth).mean()
    found = []
    for seed in range(600):
        rows = pool.order(seed)[:labelled].tolist()
        found.append(settled("ab", pool, {row: int(truth[row]) for row in rows}, 0.01))
    differences = np.array([one.difference for one in found])
    error = differences.std() / np.sqrt(len(found))
    assert abs(differences.mean() - true) < 4 * error
    covered = np.mean([one.low - 1e-9 <= true <= one.high + 1e-9 for one in found])
    assert covered > 0.925  # 0.95 less three standard errors of 600 draws


def test_all_labels_give_the_difference_itself():
    pool, truth = pool_of(50)
    found = settled("ab", pool, {int(row): int(truth[row]) for row in pool.differing}, 0.0)
    true = (pool.answers[0] == truth).mean() - (pool.answers[1] == truth).mean()
    assert found.difference == pytest.approx(true)
    assert (found.low, found.high) == (pytest.approx(true), pytest.approx(true))
    said = replace(found, difference=-0.06, low=-0.081, high=0.0).sentence
    assert ": accuracy −6.0 points (95 % interval −8.1 to 0.0) on the pool." in said


@pytest.mark.parametrize(("first", "second", "labelled"), [(12, 2, 40), (5, 5, 10), (30, 70, 120)])
def test_the_interval_is_tangos_where_the_pool_is_endless(first, second, labelled):
    for end in interval(first, second, labelled, 10**12):  # the score statistic there, by a search for the likeliest q
        q = np.linspace(max(0, -end), (1 - end) / 2, 200_001)[1:-1]
        neither = labelled - first - second
        likelihood = first * np.log(q + end) + second * np.log(q) + neither * np.log(1 - 2 * q - end)
        best = q[np.argmax(likelihood)]
        spread = np.sqrt(labelled * (2 * best + end * (1 - end)))
        assert abs(first - second - labelled * end) / spread == pytest.approx(1.96, abs=0.002)
    assert interval(10, 0, 10, 10**9)[1] == 1
    assert interval(0, 10, 10, 10**9)[0] == -1


def test_fewer_labels_than_a_uniform_sample_by_the_share_that_differs():
    pool, truth = pool_of(200, 2000)
    found = settled("ab", pool, {int(row): int(truth[row]) for row in pool.order(1)[:80]}, 0.01)
    rng, widths = np.random.default_rng(0), []
    right = (pool.answers == truth).astype(float)
    for _ in range(400):  # what a uniform sample of that size gives
        rows = rng.permutation(2000)[: found.uniform_labels]
        gap = right[0, rows] - right[1, rows]
        widths.append(2 * 1.96 * gap.std() * np.sqrt((1 - len(rows) / 2000) / len(rows)))
    assert np.mean(widths) == pytest.approx(found.high - found.low, rel=0.15)
    assert found.labelled < found.uniform_labels / 3


@pytest.mark.parametrize("form", ["csv", "label studio", "json-min", "label studio csv"])
def test_files_go_there_and_back(form, tmp_path):
    pool, truth = pool_of(40, 200)
    pool.texts[int(pool.order(1)[0])] = ('=1+2, "quoted"\nand a second line',)
    rows = pool.order(1)[:10]
    expected = {int(row): int(truth[row]) for row in rows[:8]}  # two are left without
    names = {int(row): pool.class_names[truth[row]] for row in rows[:8]}
    out = tmp_path / ("next.json" if form in ("label studio", "json-min") else "next.csv")
    write(table(pool, rows), out)
    if out.suffix == ".csv":
        with open(out, encoding="utf-8-sig", newline="") as file:
            written = list(csv.DictReader(file))
        assert list(written[0]) == ["pool_row", "text", "label"]
        assert {row["label"] for row in written} == {""}  # nobody is told what the models say
        with open(out, "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, ["id", "pool_row", "text", "label"], extrasaction="ignore")
            writer.writeheader()
            writer.writerows(row | {"id": 1, "label": names.get(int(row["pool_row"]), "").upper()} for row in written)
    else:
        tasks = json.loads(out.read_text("utf-8"))
        for task in tasks:
            name = names.get(task["data"]["pool_row"])
            done = {"result": [{"type": "choices", "value": {"choices": [name]}}]} if name else {"was_cancelled": True}
            task["annotations"] = [done]
        if form == "json-min":
            tasks = [task["data"] | ({"label": names[task["data"]["pool_row"]]} if task["data"]["pool_row"] in names
                                     else {}) for task in tasks]  # fmt: skip
        out.write_text(json.dumps(tasks), "utf-8")
    assert read_labels(out, pool) == expected


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        (["{d},{t},maybe"], "1 label is no class .*maybe.*use down, up, flat"),
        (["{d},another text,up"], "pool_row .* is another text in the pool"),
        (["99999,{t},up"], "pool_row 99999 is another text"),
        (["{a},text {a},up"], "the two runs agree on pool_row"),
        (["{d},{t},up", "{d},{t},down"], "has two labels"),
        (["x,{t},up"], "'x' is no pool_row"),
        (["{d},{t},"], "no row has a label yet"),
    ],
)
def test_what_is_wrong_with_labels_is_said(rows, problem, tmp_path):
    pool, _ = pool_of(20, 100)
    d, a = int(pool.differing[0]), int(np.flatnonzero(pool.answers[0] == pool.answers[1])[0])
    file = tmp_path / "labelled.csv"
    file.write_text("pool_row,text,label\n" + "".join(r.format(d=d, a=a, t=f"text {d}") + "\n" for r in rows), "utf-8")
    with pytest.raises(UserError, match=problem):
        read_labels(file, pool)


def test_the_command_draws_goes_on_and_ends_in_a_verdict(tmp_path, capsys):
    rng = np.random.default_rng(3)
    films = [f"{'good' if i % 2 else 'bad'} film {i}" for i in range(120)]
    (tmp_path / "films.csv").write_text(
        "text,label\n" + "".join(f"{t},{'up' if i % 2 else 'down'}\n" for i, t in enumerate(films)), "utf-8"
    )
    pool = [f"{'good' if i % 3 else 'bad'} film of {rng.integers(99)}" for i in range(90)]
    (tmp_path / "pool.csv").write_text("text\n" + "\n".join(pool) + "\n", "utf-8")
    compare = ["compare", tmp_path / "films.csv", "--contenders", "majority,tfidf", "--encoder", "minilm", "--no-cv"]

    def run(*words):
        code = cli.main([*map(str, words), "--json"])
        out, err = capsys.readouterr()
        return (code, json.loads(out) if code == 0 else err)

    code, compared = run(*compare, "--runs", tmp_path / "runs")
    assert code == 0
    by_kind = {one["kind"]: one["run"] for one in compared["contenders"]}
    given = ["label-next", by_kind["tfidf"], by_kind["majority"], "--pool", tmp_path / "pool.csv"]
    code, drawn = run(*given, "--count", 10, "--out", tmp_path / "first.csv")
    assert (drawn["drawn"], drawn["rows"], drawn["verdict"]) == (10, 90, "unlabelled")
    assert drawn["differing"] in (30, 60)

    def labelled(file):
        with open(file, encoding="utf-8-sig", newline="") as handle:
            table = list(csv.DictReader(handle))
        with open(file, "w", encoding="utf-8", newline="") as handle:
            writer = csv.DictWriter(handle, list(table[0]))
            writer.writeheader()
            writer.writerows(row | {"label": "up" if "good" in row["text"] else "down"} for row in table)
        return {row["pool_row"] for row in table}

    first = labelled(tmp_path / "first.csv")
    code, found = run(*given, "--labelled", tmp_path / "first.csv", "--count", 5, "--out", tmp_path / "more.json")
    assert (found["labelled"], found["verdict"], found["notes"]) == (10, "better", [])
    assert found["low"] > 0
    more = {str(task["data"]["pool_row"]) for task in json.loads((tmp_path / "more.json").read_text("utf-8"))}
    assert len(more) == 5
    assert not more & first
    assert cli.main([*map(str, given), "--labelled", str(tmp_path / "first.csv")]) == 0
    assert "tfidf is better than majority: accuracy +" in " ".join(capsys.readouterr().out.split())
    code, found = run(*given)
    assert (code, found["verdict"], found["differing"], found["drawn"]) == (0, "unlabelled", drawn["differing"], 0)
    assert "to_label" not in found
    assert cli.main([*map(str, given)]) == 0
    assert "--out FILE.csv draws rows to label" in capsys.readouterr().out
    for out, problem in [
        ("x.txt", "choose one of .csv, .json"),
        ("first.csv", "first.csv: is there already, and may hold labels; pass another --out"),
        ("pool.csv", "pool.csv: is there already"),
    ]:
        code, said = run(*given, "--labelled", tmp_path / "first.csv", "--out", tmp_path / out)
        assert (code, said.count(problem)) == (1, 1)
        assert "predicted by both" not in said  # it is said before that
    assert labelled(tmp_path / "first.csv") == first


def in_pandas(columns):
    return pytest.importorskip("pandas").DataFrame(columns)


def in_polars(columns):
    return pytest.importorskip("polars").DataFrame(columns)


def in_a_file(columns, name="labelled.csv"):
    with open(name, "w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return name


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """A verdict on 60 films of either kind, and a pool (n,) of others, on which one model is right and one guesses."""
    home = tmp_path_factory.mktemp("films")
    texts = [f"{'good' if i % 2 else 'bad'} film {i}" for i in range(120)]
    labels = ["up" if i % 2 else "down" for i in range(120)]
    given = {"encoder": "minilm", "contenders": ["majority", "tfidf"], "cv": False, "runs": home / "runs"}
    pool = [f"{'good' if i % 3 else 'bad'} film of {1900 + i}" for i in range(90)]
    return pipeline.compare(texts, labels, **given), pool


@pytest.mark.parametrize("back", [dict, in_pandas, in_polars, in_a_file])
@pytest.mark.parametrize("form", ["models", "runs", "folders"])
def test_python_draws_and_reads_back_in_any_form(form, back, films, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    verdict, texts = films
    pair = [verdict.models["tfidf"], verdict.models["majority"]]
    pair = pair if form == "models" else [one.run for one in pair] if form == "runs" else [m.run.folder for m in pair]
    pool = texts if form == "models" else {"body": texts} if form == "runs" else in_a_file({"body": texts}, "pool.csv")
    drawn = pipeline.label_next(pair, pool, count=12)
    assert (drawn.verdict, drawn.rows, drawn.differing in (30, 60), drawn.drawn) == ("unlabelled", 90, True, 0)
    columns = drawn.to_label
    assert list(columns) == ["pool_row", "text", "label"]
    assert [texts[row] for row in columns["pool_row"]] == columns["text"]
    assert columns["label"] == [""] * 12
    labels = ["up" if "good" in text else "down" for text in columns["text"]]
    found = pipeline.label_next(pair, pool, labelled=back(columns | {"label": labels}), count=5)
    assert (found.labelled, found.verdict, found.notes) == (12, "better", ())
    assert found.difference == pytest.approx(drawn.differing / 90)
    assert not set(found.to_label["pool_row"]) & set(columns["pool_row"])
    assert len(found.to_label["text"]) == 5
    assert found._repr_html_().count("<tr>") == 1 + 5


def test_python_draws_as_the_command_does_and_says_what_is_wrong(films, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    verdict, texts = films
    pair = list(verdict.models.values())
    drawn = pipeline.label_next(pair, texts, count=7, seed=3, out="next.csv")
    with open("next.csv", encoding="utf-8-sig", newline="") as file:
        assert [int(row["pool_row"]) for row in csv.DictReader(file)] == drawn.to_label["pool_row"]
    assert (drawn.drawn, drawn.to_json()["out"]) == (7, "next.csv")
    for given, problem in [
        (((pair[0],), texts), "1 runs; pass the two"),
        ((pair, {"a": texts, "b": texts}), "which of .* is the text|no 'text'"),
        ((pair, texts, drawn.to_label), "labelled: no row has a label yet"),
        ((pair, texts[1:], drawn.to_label), "labelled: pool_row .* is another text"),
        ((pair, texts, {"text": texts}), "labelled: no pool_row, label among text"),
        ((pair, []), "a list is no source"),
    ]:
        with pytest.raises(UserError, match=problem):
            pipeline.label_next(*given)
