"""The page in a browser without a network: nothing is asked for, nothing is complained of, everything works."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import page_example as example
import pytest

from pipeline.report import Material, write_report

webdriver = pytest.importorskip("selenium.webdriver", reason="the page's tests need selenium: pip install selenium")
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
if not (BROWSER and DRIVER):
    pytest.skip("no chromium and chromedriver here: apt-get install chromium chromium-driver", allow_module_level=True)

WIDE, NARROW = (1280, 900), (390, 844)


class Browser:
    """A headless Chromium, and what it asked for and complained of since the page was opened."""

    def __init__(self, downloads: Path) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = BROWSER
        for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        service = webdriver.ChromeService(DRIVER)
        self.driver = webdriver.Chrome(options=options, service=service)
        self.do = self.driver.execute_script
        self.command("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads))
        self.command("Network.enable")
        self.command(
            "Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=0, uploadThroughput=0
        )

    def command(self, name: str, **arguments: Any) -> Any:
        return self.driver.execute_cdp_cmd(name, arguments)

    def open(self, path: Path, size: tuple[int, int] = WIDE, dark: bool = False) -> Browser:
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=size[0],
            height=size[1],
            deviceScaleFactor=1,
            mobile=size is NARROW,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.command("Emulation.setEmulatedMedia", features=[scheme])
        self.driver.get("about:blank")
        self.complaints(), self.requests()
        self.driver.get(path.as_uri())
        self.until(lambda: self.do("return document.documentElement.dataset.ready"))
        self.until(self.drawn)
        return self

    def drawn(self) -> bool:
        """Whether every chart that is to be seen has been drawn."""
        return self.do(
            "return [...document.querySelectorAll('.chart')].filter(c => c.getClientRects().length)"
            ".every(c => c.querySelector('svg .mark-symbol, svg .mark-rule, svg .mark-line'))"
        )

    def until(self, happened: Callable[[], Any], seconds: float = 10) -> Any:
        end = time.monotonic() + seconds
        while not (found := happened()):
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.03)
        return found

    def complaints(self) -> list[str]:
        """What the console has been told since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Addresses asked for since the last call, the page's own, inline data and exported files left out."""
        told = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [m["params"]["request"]["url"] for m in told if m["method"] == "Network.requestWillBeSent"]
        own = self.driver.current_url.partition("#")[0]
        return [url for url in sent if url != own and not url.startswith(("data:", "blob:", "about:"))]

    def texts(self, selector: str) -> list[str]:
        return self.do("return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)", selector)

    def choose(self, selector: str, value: str) -> None:
        self.do(
            "const e = document.querySelector(arguments[0]); e.value = arguments[1];"
            "e.dispatchEvent(new Event('change', {bubbles: true}))",
            selector, value,
        )  # fmt: skip

    def type(self, selector: str, text: str) -> None:
        self.do(
            "const e = document.querySelector(arguments[0]); e.value = arguments[1];"
            "e.dispatchEvent(new Event('input', {bubbles: true}))",
            selector, text,
        )  # fmt: skip

    def click(self, selector: str) -> None:
        self.do("document.querySelector(arguments[0]).click()", selector)


@pytest.fixture(scope="module")
def downloads(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="module")
def browser(downloads) -> Iterator[Browser]:
    try:
        opened = Browser(downloads)
    except Exception as error:
        pytest.skip(f"chromium does not start here: {str(error).splitlines()[0]}")
    yield opened
    opened.driver.quit()


@pytest.fixture(scope="module")
def runs():
    return example.runs()


@pytest.fixture(scope="module")
def path(runs, tmp_path_factory) -> Path:
    data, vectors = example.dataset(runs[0]), example.vectors(runs[0])
    return write_report(
        tmp_path_factory.mktemp("page") / "report.html", example.comparison(runs), runs,
        Material(
            profile=example.profile(data), dataset=data, vectors={"cls": vectors, "mean": vectors[::-1]},
            audit=example.audit(runs, data), command="python cli.py compare emotion",
        ),
    )  # fmt: skip


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_opens_without_a_request_or_a_complaint(browser, path, size, dark):
    browser.open(path, size, dark)
    assert browser.complaints() == []
    assert browser.requests() == []
    assert browser.do("return document.documentElement.scrollWidth <= innerWidth"), "nothing sticks out sideways"
    page, ink = browser.do("const s = getComputedStyle(document.body); return [s.backgroundColor, s.color]")
    lightness = [sum(map(int, colour[4:-1].split(","))) for colour in (page, ink)]
    assert (lightness[0] < lightness[1]) is dark


WORDS_IN_CHARTS = """
const bad = [];
for (const svg of document.querySelectorAll('.chart svg')) {
  const words = [...svg.querySelectorAll('text')].filter(t => t.getAttribute('opacity') !== '0')
    .map(t => [t.textContent, t.getBoundingClientRect()]).filter(w => w[1].width);
  words.forEach(([a, p], i) => {
    if (p.left < 0 || p.right > innerWidth) bad.push(a);
    for (const [b, q] of words.slice(i + 1))
      if (Math.min(p.right, q.right) - Math.max(p.left, q.left) > 1 &&
          Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top) > 3)
        bad.push(a + ' on ' + b);
  });
}
return bad"""


@pytest.mark.parametrize("size", [WIDE, (660, 900), NARROW], ids=["wide", "between", "narrow"])
def test_words_in_charts_lie_apart_and_nothing_sticks_out(browser, path, size):
    browser.open(path, size)
    assert browser.do(WORDS_IN_CHARTS) == []
    assert browser.do("return document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_the_verdict_is_in_the_first_screen(browser, path):
    for size in (WIDE, NARROW):
        browser.open(path, size)
        bottom = browser.do("return document.querySelector('.contenders tbody tr').getBoundingClientRect().bottom")
        assert bottom < size[1]
    assert browser.texts(".taken th")[0].split() == ["fine-tune", "recommended:", "best", "seen"]


def test_charts_follow_the_theme_without_being_drawn_again(browser, path):
    browser.open(path)
    dot = "return getComputedStyle(document.querySelector('#scores-accuracy .mark-symbol path')).fill"
    light = browser.do(dot)
    scheme = {"name": "prefers-color-scheme", "value": "dark"}
    browser.command("Emulation.setEmulatedMedia", features=[scheme])
    dark = browser.do(dot)
    assert light != dark
    browser.command("Emulation.setEmulatedMedia", media="print", features=[scheme])
    assert browser.do(dot) == light  # paper is white
    browser.command("Emulation.setEmulatedMedia", media="")


def test_charts_have_words_for_those_who_do_not_see_them(browser, path):
    browser.open(path)
    labels = browser.do(
        "return [...document.querySelectorAll('.chart')].filter(c => c.getClientRects().length)"
        ".map(c => c.getAttribute('aria-label'))"
    )
    assert len(labels) > 10
    assert all(labels)


def test_confusion_of_any_and_the_difference_of_two(browser, path, runs):
    from pipeline.metrics import confusion

    browser.open(path)
    tables = {r.kind: confusion(r.predictions["test"].truth, r.predictions["test"].proba.argmax(1), 6) for r in runs}
    names = browser.texts("#confusion-controls [name=a] option")
    cells = lambda: browser.texts("#confusion tbody td")  # noqa: E731
    shown = lambda table: [f"{n:,}" if n else "·" for n in table.ravel()]  # noqa: E731
    for place, name in enumerate(names):
        browser.choose("#confusion-controls [name=a]", str(place))
        assert cells() == shown(tables[name])
        assert browser.texts("#confusion caption") == [f"{name}, rows"]
    browser.choose("#confusion-controls [name=a]", str(names.index("fine-tune")))
    browser.choose("#confusion-controls [name=b]", str(names.index("lr")))
    difference = (tables["fine-tune"] - tables["lr"]).ravel()
    assert cells() == [f"{n:+,}".replace("-", "−") if n else "·" for n in difference]
    browser.choose("#confusion-controls [name=b]", "")
    browser.click("#confusion-controls [name=share]")
    share = 100 * tables["fine-tune"] / tables["fine-tune"].sum(1, keepdims=True)
    assert [c for c in cells() if c != "·"] == [f"{v:.0f}" for v in share.ravel() if v]


def test_costs_can_be_chosen(browser, path):
    browser.open(path)
    for value in browser.do("return [...document.querySelector('[data-shows=cost]').options].map(o => o.value)"):
        browser.choose("[data-shows=cost]", value)
        browser.until(browser.drawn)
        assert browser.do("return [...document.querySelectorAll('[data-shown]')].filter(e => !e.hidden).length") == 1
        marks = "#%s .mark-symbol path" % value  # noqa: UP031
        assert len(browser.texts(marks)) >= 2
    assert browser.complaints() == []


def test_the_map_is_coloured_by_label_and_by_error(browser, path, runs):
    browser.open(path)
    spots = "#vector-map .mark-symbol.role-mark path"
    colours = lambda: set(  # noqa: E731
        browser.do(f"return [...document.querySelectorAll('{spots}')].map(e => getComputedStyle(e).fill)")
    )
    assert len(browser.texts(spots)) == 500
    assert len(colours()) == 6
    before = browser.do(f"return document.querySelector('{spots}').getAttribute('transform')")
    browser.choose("#map-controls [name=colour]", "1")
    browser.until(lambda: len(colours()) == 2)
    browser.choose("#map-controls [name=map]", "1")
    browser.until(lambda: browser.do(f"return document.querySelector('{spots}').getAttribute('transform')") != before)
    assert browser.complaints() == []


def test_a_tooltip_tells_what_a_dot_stands_for(browser, path):
    browser.open(path)
    browser.do("document.querySelector('#scores-accuracy').scrollIntoView({block: 'center', behavior: 'instant'})")
    x, y = browser.do(
        "const b = document.querySelector('#scores-accuracy .mark-symbol path').getBoundingClientRect();"
        "return [b.x + b.width / 2, b.y + b.height / 2]"
    )
    browser.command("Input.dispatchMouseEvent", type="mouseMoved", x=x - 60, y=y - 60)
    browser.command("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    browser.until(lambda: browser.do("return !document.getElementById('tip').hidden"))
    assert browser.texts("#tip bdi")[0] == "fine-tune"


def test_disagreements_are_searched_filtered_and_sorted(browser, path):
    browser.open(path)
    rows = lambda: browser.do(  # noqa: E731
        "return [...document.querySelectorAll('[data-rows=disagreements] tbody tr')]"
        ".map(r => [...r.cells].map(c => c.textContent))"
    )
    count = lambda: browser.texts("[data-rows=disagreements] output")[0]  # noqa: E731
    first = rows()
    assert len(first) == 25
    whole = count()
    browser.click("[data-rows=disagreements] [name=more]")
    assert len(rows()) == 125
    one = first[3][0]
    browser.type("[data-rows=disagreements] [name=search]", one.upper())
    assert all(one in row[0] for row in rows())
    assert count().endswith(f"of {whole}")
    browser.type("[data-rows=disagreements] [name=search]", "no such words")
    assert rows() == []
    assert count() == f"0 of {whole}"
    browser.type("[data-rows=disagreements] [name=search]", "")
    options = browser.texts("[data-rows=disagreements] [name=filter] option")
    browser.choose("[data-rows=disagreements] [name=filter]", str(options.index("all wrong")))
    assert all(cell.endswith(tuple("0123456789")) and "(wrong)" in cell for row in rows() for cell in row[3:-1])
    browser.choose("[data-rows=disagreements] [name=filter]", "0")
    heads = browser.texts("[data-rows=disagreements] th")
    sort = f"[data-rows=disagreements] th:nth-child({heads.index('label') + 1})"
    browser.click(f"{sort} button")
    labels = [row[heads.index("label")] for row in rows()]
    assert labels == sorted(labels)
    assert browser.do(f"return document.querySelector('{sort}').getAttribute('aria-sort')") == "ascending"
    browser.click(f"{sort} button")
    assert rows()[0][heads.index("label")] == "surprise"


def cells(browser, place: str) -> list[list[str]]:
    return browser.do(
        "return [...document.querySelectorAll(`[data-rows=${arguments[0]}] tbody tr`)]"
        ".map(r => [...r.cells].map(c => c.textContent))",
        place,
    )


def test_labels_in_doubt_are_searched_filtered_sorted_and_exported(browser, path, runs, downloads):
    import csv

    found = example.audit(runs, example.dataset(runs[0]))
    browser.open(path)
    rows = cells(browser, "audit")
    assert [row[0] for row in rows] == [row.row_id for row in found.rows[:25]]
    options = browser.texts("[data-rows=audit] [name=filter] option")
    assert {"all", "label error", "doubtful", "in train", "in test"} <= set(options)
    browser.choose("[data-rows=audit] [name=filter]", str(options.index("label error")))
    assert {row[6] for row in cells(browser, "audit")} == {"label error"}
    assert browser.texts("[data-rows=audit] output")[0].split()[0] == str(
        sum(row.kind == "label error" for row in found.rows[:400])
    )
    browser.type("[data-rows=audit] [name=search]", "train:")
    wanted = int(browser.texts("[data-rows=audit] output")[0].split()[0])
    browser.click("[data-rows=audit] th:nth-child(6) button")
    scores = [float(row[5]) for row in cells(browser, "audit")]
    assert scores == sorted(scores)
    browser.click("[data-rows=audit] [name=export]")
    file = downloads / "suspicious.csv"
    browser.until(lambda: file.exists() and file.stat().st_size)
    with open(file, encoding="utf-8-sig", newline="") as handle:
        told = list(csv.DictReader(handle))
    assert len(told) == wanted
    assert {row["kind"] for row in told} == {"label error"}
    file.unlink()
    assert browser.complaints() == []


def test_near_repeats_and_losses_are_tables_too(browser, path):
    browser.open(path)
    (pair,) = cells(browser, "near")
    assert {pair[1], pair[4]} == {"train:3", "test:7"}
    browser.do("document.querySelector('#audit details').open = true")
    options = browser.texts("[data-rows=losses] [name=filter] option")
    browser.choose("[data-rows=losses] [name=filter]", str(options.index("highest loss")))
    rows = cells(browser, "losses")
    assert len(rows) == 4 * 4  # four rows of each of four contenders
    assert all(row[4] != row[5] for row in rows)  # the label is not what was said
    assert browser.complaints() == []


def test_export_is_a_csv_of_what_is_shown(browser, path, downloads):
    import csv

    browser.open(path)
    browser.type("[data-rows=disagreements] [name=search]", "test:1")
    wanted = int(browser.texts("[data-rows=disagreements] output")[0].split()[0])
    browser.click("[data-rows=disagreements] [name=export]")
    file = downloads / "disagreements.csv"
    browser.until(lambda: file.exists() and file.stat().st_size)
    with open(file, encoding="utf-8-sig", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == wanted
    assert {"row", "text", "label", "fine-tune", "spread"} <= set(rows[0])
    texts = dict(zip(runs_ids(), example.dataset(example.runs()[0]).test.texts, strict=True))
    assert all(row["text"] == texts[row["row"]][0] for row in rows)
    file.unlink()


def runs_ids() -> list[str]:
    return [f"test:{i}" for i in range(500)]


def test_everything_is_reached_by_the_keyboard(browser, path):
    """Tab goes through links, choices, buttons, folds and wide tables; each shows that it has the focus."""
    from selenium.webdriver.common.keys import Keys

    browser.open(path)
    reached, body = [], browser.driver.switch_to.active_element
    for _ in range(90):
        body.send_keys(Keys.TAB)
        body = browser.driver.switch_to.active_element
        if body.tag_name == "body":
            break  # once around
        reached.append(browser.do("const e = document.activeElement; return e.name || e.tagName + (e.className || '')"))
        width = browser.do("return getComputedStyle(document.activeElement).outlineStyle")
        assert width != "none", reached[-1]
    assert reached[0] == "Askip"
    assert {"a", "b", "share", "colour", "map", "search", "filter", "export", "SUMMARY"} <= set(reached)


def test_on_a_phone_rows_become_cards_that_can_be_sorted(browser, path):
    browser.open(path, NARROW)
    assert browser.do("return getComputedStyle(document.querySelector('.cards td')).display") == "block"
    options = browser.texts("[data-rows=disagreements] [name=order] option")
    browser.choose("[data-rows=disagreements] [name=order]", str(options.index("label") - 1))
    assert browser.texts(".cards td.class")[0] == "anger"


# ── strings that mean harm ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def hostile_kinds() -> Iterator[None]:
    with example.hostile_kinds():
        yield


@pytest.fixture(scope="module")
def hostile(tmp_path_factory, hostile_kinds) -> Path:
    runs = example.hostile_runs()
    data = example.dataset(runs[0], hostile=True)
    return write_report(
        tmp_path_factory.mktemp("page") / "hostile.html", example.comparison(runs), runs,
        Material(
            profile=example.profile(data), dataset=data, vectors={"vectors": example.vectors(runs[0])},
            audit=example.audit(runs, data), command=example.HOSTILE[1],
        ),
    )  # fmt: skip


def test_hostile_strings_are_text(browser, hostile, runs):
    classes = example.HOSTILE_CLASSES
    browser.open(hostile)
    assert browser.complaints() == []
    assert browser.requests() == []
    assert browser.do("return document.title") == "Probe or Tune: <b>set</b>"
    assert browser.do("return [document.scripts.length, document.images.length, window.alerted]") == [3, 0, None]
    assert browser.texts("#confusion tbody th bdi") == list(classes)
    assert browser.texts("#confusion thead th bdi") == list(classes)
    for _ in range(4):
        browser.click("[data-rows=disagreements] [name=more]")
    shown = browser.do(
        "return [...document.querySelectorAll('[data-rows=disagreements] tbody tr')]"
        ".map(r => [r.cells[0].textContent, [...r.cells[1].querySelectorAll('p')].map(p => p.textContent)])"
    )
    texts = dict(zip(runs_ids(), example.dataset(runs[0], hostile=True).test.texts, strict=True))
    assert len(shown) > 200
    for row, parts in shown:
        source, pair = (part.replace("\ud800", "?") for part in texts[row])
        assert parts == [source[:599] + "…" if len(source) > 600 else source or "(empty)", pair]
    heads = browser.texts("[data-rows=disagreements] thead th")
    assert {"<script>alert('kind')</script>", "__proto__", '" onfocus="alert(1)'} <= set(heads)
    names = browser.texts("#data-classes .role-axis-label text")
    assert {"__proto__", "constructor", "a.b[0]['c']\"d\""} <= set(names)
    browser.choose("#map-controls [name=colour]", "2")
    browser.until(browser.drawn)
    browser.choose("#confusion-controls [name=b]", "2")
    assert browser.complaints() == []
    assert browser.requests() == []


def test_hostile_cells_are_no_formulas_in_a_spreadsheet(browser, hostile, downloads):
    browser.open(hostile)
    browser.type("[data-rows=disagreements] [name=search]", "=hyperlink")
    browser.click("[data-rows=disagreements] [name=export]")
    file = downloads / "disagreements.csv"
    browser.until(lambda: file.exists() and file.stat().st_size)
    assert '"\'=HYPERLINK(""https://example.org"",""x"")' in file.read_text("utf-8-sig")
    file.unlink()


def test_the_script_draws_what_altair_writes():
    """The vendored Vega-Lite is of the version whose schema the charts follow, or a later one of that major version."""
    import altair

    from pipeline.report.page import VENDOR, bundle

    written = tuple(map(int, re.search(r"/v(\d+)\.(\d+)", altair.SCHEMA_URL).groups()))
    vendored = tuple(map(int, re.search(r"vega-lite (\d+)\.(\d+)", (VENDOR / "README.md").read_text("utf-8")).groups()))
    assert vendored[0] == written[0]
    assert vendored >= written
    assert f'"{".".join(map(str, vendored))}.' in bundle()
    assert all((VENDOR / f"LICENSE.{name}").stat().st_size for name in ("vega", "vega-lite", "vega-embed"))
