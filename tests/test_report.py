"""The page as a file: its numbers are the comparison's, it asks for nothing, and what people wrote stays text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import page_example as example
import pytest

from pipeline import UserError
from pipeline.metrics import class_f1, confusion
from pipeline.report import Material, charts, places, write_report
from pipeline.report.facts import collect, plain
from pipeline.report.numbers import frontier, principal, sparse
from pipeline.report.page import amount, embedded, environment, policy, score
from pipeline.report.scores import headline
from pipeline.report.sections import SECTIONS
from pipeline.run import Run
from pipeline.verdict import Group
from pipeline.words import shorten


class Page(HTMLParser):
    """What a browser makes of the page: tags with their attributes, the text of every table row, scripts."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.scripts: list[str] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(path.read_text("utf-8"))
        self.given = json.loads(self.scripts[0])

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th") and self.rows:
            self.rows[-1].append("")
        elif tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
            return
        if self.open and self.open[-1] == "style":
            return
        self.text.append(data)
        if self.rows and {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    def row(self, first: str) -> list[str]:
        """Cells of the first table row that starts with `first`, white space folded."""
        return next(
            [" ".join(cell.split()) for cell in row] for row in self.rows if row and row[0].split()[:1] == [first]
        )


@pytest.fixture(scope="module")
def runs() -> list[Run]:
    return example.runs()


@pytest.fixture(scope="module")
def comparison(runs):
    return example.comparison(runs)


@pytest.fixture(scope="module")
def path(runs, comparison, tmp_path_factory) -> Path:
    return write_report(
        tmp_path_factory.mktemp("page") / "deep" / "report.html",
        comparison,
        runs,
        Material(
            profile=example.profile(example.dataset(runs[0])),
            dataset=example.dataset(runs[0]),
            vectors={"cls": example.vectors(runs[0])},
            audit=example.audit(runs, example.dataset(runs[0])),
            command="python cli.py compare emotion",
            machine={"processor": "one"},
            curve=example.curve(runs, ("tfidf", "lr")),
        ),
    )


@pytest.fixture(scope="module")
def page(path) -> Page:
    return Page(path)


# ── numbers ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_table_holds_the_numbers_of_the_comparison(page, comparison):
    for contender in comparison.contenders:
        cells = page.row(contender.name)
        for cell, metric in zip(cells[1:3], ("accuracy", "macro_f1"), strict=True):
            at = contender.metrics[metric]
            assert cell == f"{100 * at.value:.1f} {100 * at.low:.1f}–{100 * at.high:.1f}"
        loss = comparison.regret.get(contender.name)  # none of guessing
        assert cells[3] == ("–" if loss is None else f"{100 * loss:.1f} points")
    assert page.row("fine-tune")[4:] == ["19 min", "1.98 ms", "91.3 MB"]
    assert page.row("majority")[4:] == ["< 0.1 s", "0.0004 ms", "0.001 MB"]
    assert page.row("lr")[4] == "34 s"  # learning and encoding


def test_charts_hold_the_numbers_of_the_comparison(page, comparison):
    spec = page.given["charts"]["scores-macro_f1"]
    layers = [layer.get("data", spec.get("data"))["values"] for layer in spec["layer"]]
    rows = {row["name"]: row for rows in layers for row in rows}
    expected = {c.name: c.metrics["macro_f1"] for c in comparison.contenders}
    assert {name: row["value"] for name, row in rows.items()} == {name: at.value for name, at in expected.items()}
    for name, at in expected.items():
        if name != "majority":  # a mark at the edge: the axis is the others'
            assert (rows[name]["low"], rows[name]["high"]) == (at.low, at.high)
    assert rows["majority"]["low"] > at.high


def test_the_first_screen_says_why_and_by_which_encoder_and_draws_score_against_cost(page, comparison):
    text = " ".join(page.text)
    assert "recommended: best seen" in text
    assert "Encoder and pooling: " in text
    assert "first-cost-total" in page.given["charts"]


def test_pairs_stand_in_the_table_with_their_verdicts(page, comparison):
    pair = comparison.pairs[0]
    cells = next(row for row in page.rows if row and row[0] == f"{pair.a} − {pair.b}")
    assert cells[1] == f"{100 * pair.difference:+.1f}".replace("-", "−")
    assert cells[-1] == pair.verdict
    assert all(p.sentence in "".join(page.text) for p in (*comparison.pairs, *comparison.other_pairs))


def test_confusion_is_that_of_the_predictions(page, runs, comparison):
    given = page.given["errors"]
    by_kind = {run.kind: run.predictions["test"] for run in runs}
    for name, cells in zip(given["names"], given["tables"], strict=True):
        table = np.zeros((6, 6), int)
        for truth, said, n in cells:
            table[truth, said] = n
        p = by_kind[name]
        assert (table == confusion(p.truth, p.proba.argmax(1), 6)).all()
    assert given["names"] == [c.name for c in comparison.contenders]


def test_disagreements_are_the_rows_on_which_contenders_differ(page, runs):
    given = page.given["disagreements"]
    by_kind = {run.kind: run.predictions["test"] for run in runs}
    place = {row: i for i, row in enumerate(runs[0].predictions["test"].row_ids)}
    assert "majority" not in given["names"], "what is constant does not take part"
    spreads = [row["spread"] for row in given["rows"]]
    assert spreads == sorted(spreads, reverse=True)
    for row in given["rows"][:20]:
        i = place[row["id"]]
        said = [int(by_kind[name].proba[i].argmax()) for name in given["names"]]
        assert [s for s, _ in row["said"]] == said
        assert len(set(said)) > 1
        assert row["label"] == by_kind["lr"].truth[i]
        assert row["text"] == list(example.dataset(runs[0]).test.texts[i])


def test_predictions_in_another_order_are_put_into_one(runs, comparison):
    p = runs[2].predictions["test"]
    back = np.arange(len(p.truth))[::-1]
    turned = replace(
        runs[2], predictions={"test": replace(p, row_ids=p.row_ids[back], truth=p.truth[back], proba=p.proba[back])}
    )
    facts = collect(comparison, [*runs[:2], turned, *runs[3:]])
    assert (facts.judged["lr"].proba == p.proba).all()


def test_a_curve_is_shown_with_its_crossings(comparison, tmp_path):
    runs = example.runs()
    curve = example.curve(runs, ("tfidf", "lr"))
    shown = Page(write_report(tmp_path / "page.html", comparison, runs, Material(curve=curve)))
    values = shown.given["charts"]["curve-score"]["data"]["values"]
    assert [(row["i"], row["labels"], row["value"]) for row in values] == [
        (0, 100, 0.7), (0, 1000, 0.8), (1, 100, 0.6), (1, 1000, 0.9)
    ]  # fmt: skip
    assert ["1,000", "80.0 78.0–82.0", "90.0 88.0–92.0"] in [
        [" ".join(cell.split()) for cell in row] for row in shown.rows
    ]
    assert curve.crossings[0].sentence in " ".join(shown.text)


def test_training_curves_start_before_training(page):
    assert page.row("0")[:1] == ["0"]
    curve = page.given["charts"]["training-0-score"]
    names = next(p["value"] for p in curve["params"] if p["name"] == "names")
    assert names == ["validation accuracy", "validation macro F1"]


# ── sections ────────────────────────────────────────────────────────────────────────────────────────────────────────


def sections(page: Page) -> list[str]:
    return [attributes["id"] for tag, attributes in page.tags if tag == "section"]


def test_all_sections_in_order_with_their_links(page):
    links = [a["href"][1:] for tag, a in page.tags if tag == "a" and (a.get("href") or "").startswith("#")]
    assert sections(page) == list(SECTIONS)
    assert set(sections(page)) <= set(links)
    places = {a["data-chart"] for tag, a in page.tags if "data-chart" in a}
    assert places == set(page.given["charts"]), "a place for every chart, and a chart for every place"


def test_what_is_not_known_is_left_out(comparison, tmp_path):
    page = Page(write_report(tmp_path / "report.html", comparison, []))
    assert sections(page) == ["verdict", "scores", "cost", "made"]
    assert page.row("fine-tune")[4] == "19 min"


def test_a_single_contender_without_costs(runs, tmp_path):
    from pipeline.run import Cost
    from pipeline.verdict import compare

    alone = [replace(runs[0], cost=Cost(), folder=None)]
    page = Page(write_report(tmp_path / "report.html", compare(alone, draws=50, row_draws=50), alone))
    assert sections(page) == ["verdict", "scores", "errors", "calibration", "made"]


def test_many_contenders_and_a_loss_as_the_metric(tmp_path):
    from pipeline.verdict import compare

    some = example.runs(200, ("ham", "spam"))
    runs = [replace(run, seed=seed, settings={"C": seed}, folder=None) for run in some for seed in range(3)]
    told = compare(runs, metric="log_loss", draws=50, row_draws=50)
    page = Page(write_report(tmp_path / "report.html", told, runs))
    assert len(told.contenders) == 15
    drawn = page.given["charts"]["differences"]
    names = next(p["value"] for p in drawn["params"] if p["name"] == "names")
    assert len(names) == 11, "of 105 pairs, those of the recommended contender with others that do more than guess"
    assert all((told.recommended or told.contenders[0].name) in name for name in names)
    best = told.contenders[0]
    cells = next(row for row in page.rows if row and row[0].split("recommended")[0].strip() == best.name)
    assert cells[1].split()[0] == f"{best.metrics['log_loss'].value:.3f}"


def test_many_classes_and_rows_stay_below_three_megabytes(tmp_path):
    classes = tuple(f"a class with a rather long name, number {i}" for i in range(150))
    runs = example.runs(3000, classes)
    told = example.dataset(runs[0])
    told.splits["test"].texts[:] = [("long " * 2000, "äöü€" * 2000)] * 3000
    path = write_report(
        tmp_path / "report.html", example.comparison(runs), runs,
        Material(
            profile=example.profile(told), dataset=told,
            vectors={name: example.vectors(runs[0]) for name in ("cls", "mean", "cls+mean")},
        ),
    )  # fmt: skip
    assert path.stat().st_size < 3_000_000


def test_an_unwritable_place_is_named(comparison, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/report\.html: cannot write the page"):
        write_report(tmp_path / "file" / "report.html", comparison, [])


def test_writing_again_replaces_and_leaves_no_draft(comparison, tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    assert write_report(path, comparison, []) == path
    assert path.read_text("utf-8").startswith("<!doctype html>")
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


# ── nothing gets out, nothing gets in ───────────────────────────────────────────────────────────────────────────────

LOADING = {"src", "href", "srcset", "action", "data", "poster", "background", "xlink:href", "formaction"}


def test_the_page_asks_for_nothing(page):
    loads = [(tag, name, value) for tag, a in page.tags for name, value in a.items() if name in LOADING]
    assert all(value.startswith("#") or value == "data:," for _, _, value in loads)
    assert not any(name.startswith("on") or name == "style" for _, a in page.tags for name in a)
    assert "http" not in json.dumps(page.given)
    content = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert content.startswith("default-src 'none'; ")
    assert "unsafe" not in content
    assert "connect-src" not in content  # so that default-src holds: none


def test_the_policy_names_the_parts_of_the_page_by_their_digests(page, path):
    style = re.search(r"<style>(.*?)</style>", path.read_text("utf-8"), re.S)
    assert style is not None
    content = next(a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert content == policy([style[1]], page.scripts[1:])
    assert policy([""], ["a", "b"]).split("; ")[1:3] == [
        "style-src 'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='",
        "script-src 'sha256-ypeBEsobvcr6wjGzmiPcTaeG7/gUfE5yuYB3ha/uSLs=' "
        "'sha256-PiPoFgA5WUoziU9lZOGxNIu9egCI1CxKy3PurtWcAJ0='",
    ]


@pytest.fixture(scope="module")
def hostile_kinds() -> Iterator[None]:
    with example.hostile_kinds():
        yield


@pytest.fixture(scope="module")
def hostile(tmp_path_factory, hostile_kinds) -> tuple[Path, list[Run]]:
    runs = example.hostile_runs()
    told = replace(
        example.comparison(runs),
        recommendation=example.HOSTILE[1],
        reasons=example.HOSTILE[:4],
        left_out=example.HOSTILE[:4],
        by=example.HOSTILE[0],
        groups=tuple(
            Group(text, 3, {c.name: c.metrics for c in example.comparison(runs).contenders})
            for text in example.HOSTILE[:4]
        ),
    )
    data = example.dataset(runs[0], hostile=True)
    path = write_report(
        tmp_path_factory.mktemp("page") / "hostile.html", told, runs,
        Material(
            profile=example.profile(data), dataset=data, vectors={example.HOSTILE[1]: example.vectors(runs[0])},
            curve=example.curve(runs, example.HOSTILE[:3]), command=example.HOSTILE[1],
            machine=dict.fromkeys(example.HOSTILE[:4], example.HOSTILE[2]),
        ),
    )  # fmt: skip
    return path, runs


def test_hostile_strings_open_no_element_and_come_back_whole(hostile, page):
    path, runs = hostile
    taken = Page(path)
    ours = {tag for tag, _ in page.tags}
    assert {tag for tag, _ in taken.tags} <= ours | {"p"}
    assert len(taken.scripts) == len(page.scripts)
    assert [t for t, _ in taken.tags].count("script") == 3
    assert not any(name.startswith("on") for _, a in taken.tags for name in a)
    assert sorted(taken.given["errors"]["names"]) == sorted(run.kind for run in runs)
    assert taken.given["errors"]["classes"] == list(example.HOSTILE_CLASSES)
    texts = dict(
        zip(runs[0].predictions["test"].row_ids, example.dataset(runs[0], hostile=True).test.texts, strict=True)
    )
    for row in taken.given["disagreements"]["rows"]:
        assert row["text"] == [shorten(part, 600).replace("\ud800", "?") for part in texts[row["id"]]]


def test_no_string_of_the_users_stands_where_vega_reads_code(hostile):
    """Names occur in data and in the parameter `names` alone: never as a field, an expression, a domain or a title."""
    specs = [*Page(hostile[0]).given["charts"].values(), Page(hostile[0]).given["map"]["spec"]]
    for spec in specs:
        code = json.loads(json.dumps(spec))
        code.pop("datasets", None)
        code.pop("data", None)
        for layer in code.get("layer", []):
            layer.pop("data", None)
        code["params"] = [{**p, "value": None} if p["name"] in ("names", "splits") else p for p in code["params"]]
        for name in (*example.HOSTILE_CLASSES, "</", "alert"):
            assert name not in json.dumps(code, ensure_ascii=False)


def test_embedded_json_neither_ends_nor_opens_an_element():
    value = {"</script>": ["<!--<script>", "&amp;", "\u2028", float("nan"), np.float32(np.inf), np.int64(3)]}
    text = embedded(value)
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"</script>": ["<!--<script>", "&amp;", "\u2028", None, None, 3]}


def test_every_template_escapes():
    made = environment()
    assert made.autoescape is True
    safe = [name for name in made.list_templates(["j2"]) if "|safe" in made.loader.get_source(made, name)[0]]
    assert safe == ["report.html.j2"]


# ── small functions ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_numbers_in_words():
    assert [amount(v) for v in (None, 0, 0.0004, 0.42, 1.337, 56.06, 1234.4, 66.4e6, float("inf"))] == [
        "–", "0", "0.0004", "0.42", "1.34", "56.1", "1,234", "66.4 M", "–",
    ]  # fmt: skip
    assert score(0.9334, "accuracy") == "93.3"
    assert score(0.2144, "log_loss") == "0.214"
    assert score(None, "accuracy") == "–"


def test_a_recommendation_is_split_into_what_to_do_and_why():
    assert headline("Probe: lr is enough. It would change: never.") == (
        "Probe",
        "lr is enough. It would change: never.",
    )
    assert headline("Take lr.") == ("Take lr.", "")
    long = "x" * 70 + ": y"
    assert headline(long) == (long, "")


def test_principal_components_of_a_known_cloud():
    spots, share = principal(np.array([[2.0, 0, 1], [-2, 0, 1], [0, 1, 1], [0, -1, 1]]))
    assert np.allclose(np.abs(spots), [[2, 0], [2, 0], [0, 1], [0, 1]])
    assert np.allclose(share, [0.8, 0.2])
    line, share = principal(np.array([[1.0], [3.0]]))
    assert np.allclose(np.abs(line), [[1, 0], [1, 0]])
    assert np.allclose(share, [1, 0])
    assert principal(np.ones((3, 4)))[1] == (0.0, 0.0)


def test_the_frontier_is_what_scores_higher_than_all_that_costs_no_more():
    rows = [
        {"i": i, "cost": c, "value": v} for i, (c, v) in enumerate([(1, 0.5), (2, 0.4), (2, 0.7), (9, 0.7), (10, 0.8)])
    ]
    assert frontier(rows, "accuracy") == {0, 2, 4}
    assert frontier(rows, "log_loss") == {0, 1}


def test_scores_of_a_class_and_its_cells():
    table = np.array([[3, 1, 0], [0, 2, 0], [0, 0, 0]])
    assert class_f1(np.diag(table), table.sum(0), table.sum(1)).tolist() == [6 / 7, 0.8, 0]
    assert sparse(table).tolist() == [[0, 0, 3], [0, 1, 1], [1, 1, 2]]


def test_plain_and_cut():
    assert plain(SimpleNamespace(a=1)).startswith("namespace")
    assert plain({1: (np.arange(2), None, True)}) == {"1": [[0, 1], None, True]}
    assert shorten("abcdef", 4) == "abc…"
    assert shorten("abcd", 4) == "abcd"


def test_who_is_as_sure_of_every_row_has_no_curve_of_abstaining(page, comparison):
    shown = page.given["charts"]["abstaining"]["params"][-1]["value"]
    assert set(shown) == {c.name for c in comparison.contenders} - {"majority"}


def test_specifications_are_valid_vega_lite(page):
    import altair

    for spec in page.given["charts"].values():
        altair.Chart.from_dict(spec, validate=True)


def test_colours_are_the_pages_own_variables(page):
    style = (Path(charts.__file__).parent / "templates" / "report.css").read_text("utf-8")
    used = set(re.findall(r"var\((--[\w-]+)\)", json.dumps(page.given) + style))
    defined = set(re.findall(r"(--[\w-]+):", style))
    assert used - {"--weight", "--hue"} <= defined


DOTS = {
    "tfidf": (10, 0.79),
    "lr": (180, 0.656),
    "lr+auto": (182, 0.660),
    "stack": (220, 0.81),
    "fine-tune+last-2": (400, 0.86),
}


def test_names_of_dots_stand_apart_and_inside_the_drawing():
    rows = [
        {"i": i, "cost": cost, "value": v, "low": v - 0.02, "high": v + 0.02, "strong": 0}
        for i, (cost, v) in enumerate(DOTS.values())
    ]
    tfidf, lr, lr_auto, stack, tuned = places.sides(rows, list(DOTS))
    assert (tfidf, stack, tuned) == ((9, -9), (9, -9), (-9, -9)), "the last one has no room at its right"
    assert (lr, lr_auto) == ((-9, -9), (9, -9)), "which lie on each other"
    assert places.sides(rows[:1], list(DOTS)) == [(9, -9)]
    same = [rows[1] | {"i": i} for i in range(4)]
    assert len(set(places.sides(same, list(DOTS)))) == 4


def test_a_logarithmic_axis_has_a_label_and_room_for_all():
    assert places.log_ends([10, 1000]) == [10, 1000]
    low, high = places.log_ends([9, 9])
    assert (low, high) == pytest.approx((4.5, 18))
    assert [places.log_digits([1, high]) for high in (50, 2000, 1e6)] == [[1, 2, 5], [1, 3], [1]]


@pytest.mark.parametrize(("value", "mark", "edge"), [(0.01, "← 1.0%", 0), (1.0, "1.0% →", 1)])
def test_a_score_beside_the_axis_points_to_its_side(value, mark, edge):
    rows = [{"i": i, "value": v, "low": v, "high": v, "strong": 0} for i, v in enumerate([0.5, 0.6, value])]
    room = charts.Room(0.5, 0.6, 0.7 if edge else 1.0)
    spec = charts.intervals(rows, ["a", "b", "c"], "accuracy", True, room)
    (marks,) = [layer for layer in spec["layer"] if layer["mark"]["type"] == "text"]
    (shown,) = marks["data"]["values"]
    assert shown["text"] == mark.replace("1.0% →", "100.0% →")
    assert shown["low"] == room.ends[edge]
    assert marks["mark"]["align"] == ["left", "right"][edge]


def test_no_difference_has_no_sign_on_its_axis():
    rows = [{"i": 0, "value": 0.5, "low": -1.0, "high": 2.0, "strong": 1}]
    drawn = json.dumps(charts.differences(rows, ["lr − tfidf"], "difference"))
    assert "datum.value ? format(datum.value, '+~f') : '0'" in drawn
