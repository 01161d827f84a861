"""The report in a real browser: what a reader sees, on a phone and on a desk, light and dark."""

import io
import itertools
import json
import math
import os
import shutil
import struct
import wave
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from workingpapers.foundation import plots
from workingpapers.foundation.evidence import VERDICTS, Figure
from workingpapers.reproduce.report import save_figure, write_report

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
FLAGS = [
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--no-first-run",
    "--disable-component-update",
    "--disable-sync",
]
PHONE = {"width": 360, "height": 740}
DESK = {"width": 1280, "height": 900}

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")

# system, claim, kind, statement, source, reported, measured, unit, low, high, runs, test, verdict,
# reason, timed
LENS = "arXiv:2108.05149"
ROWS: list[tuple[Any, ...]] = [
    ("lens", "accuracy-over-trees", "paper",
     "Logic explained networks classify at least one point better than decision trees of depth "
     "five, in the mean over six tables of categorical data.",
     f"{LENS}, section 6, table 2", "+1.6 points", 2.94, "points", 2.61, 3.27, 3, "≥ 1",
     "reproduced", None, False),
    ("lens", "compact-mushroom", "paper",
     "On mushroom a class is described with at most half the literals that a tree of depth five "
     "needs at the same accuracy.",
     f"{LENS}, section 6, figure 8", "-", 0.357, "", None, None, 1, "≤ 0.5", "reproduced", None,
     False),
    ("lens", "fidelity-observed", "paper",
     "The formulas agree with the network they explain: macro F1 on test data, in the mean over "
     "six tables.",
     f"{LENS}, section 6, table 3", "0.96", 0.9873, "", 0.9831, 0.9915, 3, "≥ 0.97", "reproduced",
     None, False),
    ("lens", "explanation-accuracy", "paper",
     "Used as classifiers themselves, the formulas lose at most 1.5 points to the network.",
     f"{LENS}, section 6, table 3", "1.1 points", 1.38, "points", 0.71, 2.05, 3, "≤ 1.5",
     "inconclusive", "the interval has the threshold 1.5 inside", False),
    ("lens", "clusters-agree-with-parties", "paper",
     "Without labels, two clusters of the votes agree with the two parties: normalised mutual "
     "information of the restart whose own criterion is best.",
     f"{LENS}, section 6.5", "0.42", 0.341, "", 0.336, 0.346, 3, "≥ 0.38", "not reproduced", None,
     False),
    ("lens", "digits-even-odd", "paper",
     "From ten digit concepts that a convolutional network reads off real handwriting, parity is "
     "learned and explained with no more than twelve literals a class.",
     f"{LENS}, section 6.2", "9 literals", None, "literals", None, None, 0, "≤ 12",
     "not testable at this scale", "judged from scale laptop on", False),
    ("lens", "clinical-cohort", "paper",
     "Twenty-eight-day mortality of intensive-care patients is predicted and explained as well as "
     "by a random forest.",
     f"{LENS}, section 6, table 2", "79.2 %", None, "%", None, None, 0, "≥ 76", "not testable here",
     "--data lens.cohort=PATH: the file full_cohort_data.csv, which PhysioNet gives to registered "
     "users", False),
    ("lens", "cascade-equals-composition", "paper",
     "The expanded formula of two networks in a cascade equals their composition on the whole "
     "domain.",
     f"{LENS}, section 4.3", "-", 1.0, "", 1.0, 1.0, 3, "= 1", "reproduced", None, False),
    ("lens", "minimum-certified", "extension",
     "For functions of up to ten concepts the formula is certified shortest; no method of the "
     "paper or its peers gives such a certificate.",
     "ours", "-", 1.2e-13, "", None, None, 1, "≤ 1e-12", "reproduced", None, False),
    ("lens", "extraction-speed", "extension",
     "Formulas of a class with twelve concepts are extracted within half a second.",
     "ours", "138 s", 0.0417, "s", 0.0392, 0.0442, 3, "≤ 0.5", "reproduced", None, True),
    ("lens", "truth-table-rows", "extension",
     "A truth table of twenty concepts is evaluated at a million rows a second.",
     "ours", "-", 1_284_310.0, "rows/second", 1_102_544.0, 1_466_076.0, 2, "≥ 1e+06", "reproduced",
     "decided by the mean of 2 runs; 3 are asked for", True),
    ("hamiltonians", "samples-grow-with-logarithm", "paper",
     "The number of copies needed to learn all coefficients to a given error grows with the "
     "logarithm of the number of qubits, not with a power of it.",
     "arXiv:2108.04842, theorem 1.1", "1", 1.04, "", 0.97, 1.11, 3, "0.8 … 1.2", "reproduced",
     None, False),
    ("hamiltonians", "inverse-temperature", "paper",
     "Halving the inverse temperature doubles the copies' logarithm.",
     "arXiv:2108.04842, section 5", "-", None, "", None, None, 0, "≥ 0.9", "failed",
     "LinAlgError: the 4,096 × 4,096 covariance of task (qubits=12, seed=3141592653) is not "
     "positive definite; its least eigenvalue is -3.1e-09", False),
]  # fmt: skip
KEYS = ("system", "claim", "kind", "statement", "source", "reported", "measured", "unit", "low",
        "high", "runs", "test", "verdict", "reason", "timed")  # fmt: skip

OUTLINE = b"""<?xml version="1.0"?>
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 320 120">
<rect width="320" height="120" fill="#fff"/>
<g fill="none" stroke="#0072B2" stroke-width="2"><path d="M20 60h80M220 60h80"/>
<circle cx="160" cy="60" r="40"/><path d="M120 60h80"/></g></svg>"""


def front() -> Any:
    figure = plots.figure()
    axes = figure.subplots()
    literals = [2, 4, 5, 9, 17, 26, 37]
    axes.plot(literals, [0.91, 0.943, 0.951, 0.962, 0.968, 0.97, 0.971], "o-", label="formulas")
    axes.plot(literals, [0.88, 0.90, 0.912, 0.925, 0.934, 0.939, 0.941], "s--", label="trees")
    axes.set_xlabel("literals a class")
    axes.set_ylabel("accuracy on test data")
    axes.legend(loc="lower right")
    return figure


def heat_map(folder: Path) -> bytes:
    figure = plots.figure(5.2, 3.0)
    axes = figure.subplots()
    image = axes.imshow(
        [[math.sin(row * column / 3) for column in range(12)] for row in range(5)], aspect="auto"
    )
    axes.grid(False)
    axes.set_xlabel("concept")
    axes.set_ylabel("fold")
    figure.colorbar(image, label="relevance")
    plots.save(figure, folder / "map.png")
    return (folder / "map.png").read_bytes()


def tone() -> bytes:
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        swing = (int(9000 * math.sin(2 * math.pi * 440 * t / 8000)) for t in range(4000))
        file.writeframes(b"".join(struct.pack("<h", value) for value in swing))
    return content.getvalue()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The index.html of a report with all that a report can hold."""
    folder = tmp_path_factory.mktemp("report")
    findings: dict[str, list[dict[str, Any]]] = {"lens": [], "hamiltonians": [], "adamra": []}
    for row in ROWS:
        finding = dict(zip(KEYS, row, strict=True))
        finding |= {"values": [], "scale": "quick", "seed": 0, "seconds": 3.2, "peak_mb": 212.0}
        findings[finding["system"]].append(finding)
    lens = folder / "lens"
    figures = [
        save_figure(
            Figure(
                "front",
                front(),
                "Accuracy against the length of the explanation, wdbc, mean of three seeds. A "
                "formula of five literals is as accurate as a tree of thirty-seven.",
                "Two rising curves; the one of the formulas lies three points above the trees'.",
            ),
            lens,
        ),
        save_figure(
            Figure(
                "relevance",
                heat_map(tmp_path_factory.mktemp("map")),
                "Relevance of each concept in each fold.",
                "A grid of five folds by twelve concepts, bright where a concept is used.",
            ),
            lens,
        ),
        save_figure(Figure("outline", OUTLINE, "The cascade.", "A line through a circle."), lens),
        save_figure(
            Figure("tone", tone(), "The formula, sounded.", "Half a second of the note A."), lens
        ),
    ]
    table = {
        "id": "by-data-set",
        "caption": "By data set, mean over the seeds. Literals are a class's mean.",
        "columns": ["data set", "rows", "concepts", "model accuracy", "explanation accuracy",
                    "fidelity", "literals", "seconds"],
        "rows": [
            ["votes", 232, 32, 0.979, 0.968, 0.99, 6.5, 0.052],
            ["tic-tac-toe", 958, 27, 0.974, 0.975, 0.97, 37.0, 1.31],
            ["wdbc", 569, 90, 0.943, 0.941, 0.998, 17.0, 0.041],
            ["mushroom", 5644, 98, 1.0, 1.0, 1.0, 5.0, 0.093],
            ["chess", 3196, 73, 0.944, 0.944, 1.0, 6.8, 0.038],
            ["german", 1000, 61, 0.751, None, 0.99, 44.0, 0.047],
            ["pathfinder", 12000, 40, 0.9123, 0.9087, 0.981, 12.25, 0.118],
        ],
    }  # fmt: skip
    results: dict[str, dict[str, Any]] = {
        "lens": {
            "status": "done", "error": None, "seconds": 21.37, "peak_mb": 1412.0,
            "figures": figures, "tables": [table],
            "settings": {"engine": "local", "jobs": 2, "device": "cpu",
                         "seeds": [2968811710, 3677149159, 745650761],
                         "command": "workingpapers reproduce lens --scale quick --seed 0"},
        },
        "hamiltonians": {
            "status": "failed", "seconds": 4.02, "peak_mb": None, "figures": [], "tables": [],
            "error": ROWS[-1][13], "settings": {"engine": "local", "jobs": 2},
        },
        "adamra": {
            "status": "not installed", "seconds": None, "peak_mb": None, "figures": [],
            "tables": [], "settings": {},
            "error": "numba is not installed: pip install 'workingpapers[adamra]' brings it",
        },
    }  # fmt: skip
    for system, result in results.items():
        (folder / system).mkdir(exist_ok=True)
        content = {"system": system, "scale": "quick", "seed": 0, **result}
        (folder / system / "results.json").write_text(json.dumps(content))
        content = {"schema": 1, "findings": findings[system]}
        (folder / system / "findings.json").write_text(json.dumps(content))
    environment = {
        "workingpapers": "0.1.0", "python": "3.11.2", "platform": "Linux-6.1-x86_64",
        "cpu": "A processor with a rather long name @ 2.60GHz", "cores": 2, "memory_gb": 7.8,
        "device": "cpu", "packages": {f"package-{n}": f"1.{n}" for n in range(40)},
        "created": "2026-01-02T03:04:05+00:00",
    }  # fmt: skip
    (folder / "environment.json").write_text(json.dumps(environment))
    return write_report(folder)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Browser, report: Path) -> Iterator[Page]:
    """The report, open on a desk in light mode."""
    page = browser.new_page(viewport=DESK, color_scheme="light")
    page.goto(report.as_uri())
    yield page
    page.close()


# Every visible element with a text of its own: its contrast with the nearest painted background.
CONTRASTS = """() => {
  const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const luminance = (colour) => {
    const linear = channels(colour).slice(0, 3).map((channel) => channel / 255)
      .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  };
  const background = (element) => {
    for (let node = element; node; node = node.parentElement) {
      const colour = getComputedStyle(node).backgroundColor;
      if (channels(colour)[3] !== 0) return colour;
    }
    throw new Error("nothing is painted behind " + element.outerHTML);
  };
  return [...document.body.querySelectorAll("*")]
    .filter((element) => element.checkVisibility() && !element.closest("script, .unseen"))
    .filter((element) => [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim()))
    .map((element) => {
      const pair = [luminance(getComputedStyle(element).color), luminance(background(element))];
      return [(Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05), element.textContent.trim()];
    });
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("name", "size"), [("phone", PHONE), ("desk", DESK)])
def test_the_page_is_quiet_complete_and_legible(
    browser: Browser, report: Path, tmp_path: Path, name: str, size: Any, scheme: Any
) -> None:
    page = browser.new_page(viewport=size, color_scheme=scheme)
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(report.as_uri())
    page.wait_for_function("document.querySelector('audio').readyState > 0")

    assert said == []
    assert asked[0] == report.as_uri()
    assert all(url.startswith("data:") for url in asked[1:]), asked

    pictures = page.locator("figure img")
    assert pictures.count() == 3
    for index in range(3):
        picture = pictures.nth(index)
        assert picture.evaluate("image => image.complete && image.naturalWidth > 0")
        width, height = (int(picture.get_attribute(side) or 0) for side in ("width", "height"))
        box = picture.bounding_box()
        assert box is not None
        assert width > 0
        assert 100 < box["width"] <= min(width, size["width"])
        assert box["height"] == pytest.approx(box["width"] * height / width, abs=1)
    sound = page.locator("figure audio").bounding_box()
    assert sound is not None
    assert min(sound["width"], sound["height"]) > 30
    assert page.locator("audio").evaluate("sound => sound.duration") == pytest.approx(0.5)

    across = page.evaluate("[document.documentElement.scrollWidth, document.body.scrollWidth]")
    assert max(across) <= size["width"]

    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 150
    assert [entry for entry in contrasts if entry[0] < 4.5] == []

    luminance = page.evaluate(
        "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]"
    )
    card = page.locator(".card").first.evaluate("card => getComputedStyle(card).backgroundColor")
    assert (luminance > 200) == (scheme == "light")
    assert min(int(channel) for channel in card.strip("rgb()").split(",")) > 200

    shots = Path(os.environ.get("WORKINGPAPERS_SCREENSHOTS") or tmp_path)
    shots.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=shots / f"report-{name}-{scheme}.png", full_page=True)
    assert (shots / f"report-{name}-{scheme}.png").stat().st_size > 50_000
    page.close()


def test_the_tables_hold_every_claim_once_in_the_order_given(page: Page) -> None:
    tables = page.locator("table.claims")
    shown = [
        [row.locator("code").inner_text() for row in tables.nth(index).locator("tbody tr").all()]
        for index in range(tables.count())
    ]
    assert shown == [
        [row[1] for row in ROWS if (row[0], row[2]) == key]
        for key in (("lens", "paper"), ("lens", "extension"), ("hamiltonians", "paper"))
    ]
    cells = page.locator("tr[id='lens/explanation-accuracy'] > *").all_inner_texts()
    assert [" ".join(cell.split()) for cell in cells] == [
        "Used as classifiers themselves, the formulas lose at most 1.5 points to the network. "
        "arXiv:2108.05149, section 6, table 3 · explanation-accuracy",
        "1.1 points",
        "≤ 1.5 points",
        "1.38 points [0.71, 2.05] 3 runs",
        "inconclusive the interval has the threshold 1.5 inside",
    ]
    results = page.locator("table.results")
    assert results.locator("tbody tr").count() == 7
    assert results.locator("tbody tr").nth(5).locator("> *").all_inner_texts() == [
        "german", "1,000", "61", "0.751", "–", "0.990", "44.00", "0.047",
    ]  # fmt: skip


def verdicts(page: Page) -> list[str]:
    return page.locator("table.claims").first.locator("tbody .word").all_inner_texts()


def test_a_click_on_a_column_sorts_it_up_then_down_then_as_given(page: Page) -> None:
    table = page.locator("table.claims").first
    head = table.locator("thead th").last
    given = verdicts(page)
    up = sorted(given, key=list(VERDICTS).index)
    assert given != up
    head.get_by_role("button", name="Verdict").click()
    assert verdicts(page) == up
    assert head.get_attribute("aria-sort") == "ascending"
    head.locator("button").click()
    assert verdicts(page) == sorted(given, key=list(VERDICTS).index, reverse=True)
    assert head.get_attribute("aria-sort") == "descending"
    head.locator("button").click()
    assert verdicts(page) == given
    assert table.locator("[aria-sort]").count() == 0


def test_the_keyboard_sorts_too_and_one_column_at_a_time(page: Page) -> None:
    table = page.locator("table.claims").first
    measured, verdict = (table.locator("thead th").nth(index) for index in (3, 4))
    verdict.locator("button").focus()
    outline = "button => getComputedStyle(button).outlineStyle"
    page.keyboard.press("Shift+Tab")
    assert measured.locator("button").evaluate("button => button === document.activeElement")
    assert measured.locator("button").evaluate(outline) == "solid"
    page.keyboard.press("Enter")
    values = [float(text.split()[0]) for text in table.locator(".value").all_inner_texts()]
    assert values == sorted(values)
    assert table.locator("tbody .measured").last.inner_text().startswith("–")
    page.keyboard.press("Space")
    values = [float(text.split()[0]) for text in table.locator(".value").all_inner_texts()]
    assert values == sorted(values, reverse=True)
    assert table.locator("tbody .measured").last.inner_text().startswith("–")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert measured.get_attribute("aria-sort") is None
    assert verdict.get_attribute("aria-sort") == "ascending"


def test_numbers_of_a_result_table_sort_as_numbers(page: Page) -> None:
    table = page.locator("table.results")
    table.get_by_role("button", name="rows").click()
    assert table.locator("tbody td:nth-child(2)").all_inner_texts() == [
        "232", "569", "958", "1,000", "3,196", "5,644", "12,000",
    ]  # fmt: skip


def test_headings_are_in_order_and_the_first_stop_skips_to_the_papers(page: Page) -> None:
    levels = page.locator("h1, h2, h3, h4, h5, h6").evaluate_all(
        "headings => headings.map((heading) => Number(heading.tagName[1]))"
    )
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(below <= above + 1 for above, below in itertools.pairwise(levels))
    assert levels.count(2) == 3 + 3, "papers, verdicts, three systems, environment"
    page.keyboard.press("Tab")
    skip = page.locator("a.skip")
    assert skip.evaluate("link => link === document.activeElement")
    box = skip.bounding_box()
    assert box is not None
    assert box["y"] >= 0
    page.keyboard.press("Enter")
    assert page.locator("#papers").evaluate("heading => heading === document.activeElement")


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_without_scripts_everything_is_there_and_no_button_is_dead(
    browser: Browser, report: Path, size: Any
) -> None:
    context = browser.new_context(java_script_enabled=False, viewport=size)
    page = context.new_page()
    page.goto(report.as_uri())
    assert page.locator("button").count() == 0
    assert page.locator("table.claims tbody tr:visible").count() == len(ROWS)
    assert page.locator("table.claims thead").first.is_visible() == (size is DESK)
    context.close()


def test_on_a_phone_the_cards_are_still_a_table_to_a_screen_reader(
    browser: Browser, report: Path
) -> None:
    page = browser.new_page(viewport=PHONE)
    page.goto(report.as_uri())
    session = page.context.new_cdp_session(page)
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    roles = Counter(node["role"]["value"] for node in nodes if not node["ignored"])
    # Three tables of claims in five columns, and one of results, seven rows by eight.
    assert roles["table"] == 4
    assert roles["row"] == len(ROWS) + 3 + 8
    assert roles["rowheader"] == len(ROWS) + 7
    assert roles["columnheader"] == 3 * 5 + 8
    assert roles["cell"] + roles["gridcell"] == 4 * len(ROWS) + 7 * 7
    page.close()


def test_paper_is_printed_light_from_a_dark_screen(browser: Browser, report: Path) -> None:
    page = browser.new_page(color_scheme="dark")
    page.goto(report.as_uri())
    ink = "getComputedStyle(document.body).color"
    assert page.evaluate(ink) == "rgb(233, 229, 222)"
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate(ink) == "rgb(35, 33, 30)"
    page.close()
