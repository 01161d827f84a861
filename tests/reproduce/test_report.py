"""What the report says, how it writes numbers, and how pictures get into it."""

import base64
import io
import itertools
import json
import re
import struct
import wave
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from workingpapers import catalogue
from workingpapers.catalogue import PAPERS, Paper
from workingpapers.foundation import plots
from workingpapers.foundation.errors import InputError
from workingpapers.foundation.evidence import VERDICTS, Figure
from workingpapers.reproduce import report
from workingpapers.reproduce.report import (
    LOOKS,
    format_column,
    format_duration,
    format_memory,
    format_value,
    save_figure,
    terminal_table,
    write_report,
)

NBSP = "\N{NO-BREAK SPACE}"
TEMPLATE = Path(report.__file__).with_name("report.html.j2").read_text()


def finding(system: str = "lens", **changes: Any) -> dict[str, Any]:
    return {
        "system": system,
        "claim": "fidelity",
        "kind": "paper",
        "statement": "Formulas agree with their network.",
        "source": "arXiv:2108.05149, table 3",
        "reported": "0.96",
        "measured": 0.957,
        "unit": "",
        "low": 0.951,
        "high": 0.963,
        "values": [0.95, 0.957, 0.964],
        "runs": 3,
        "scale": "quick",
        "seed": 0,
        "test": "≥ 0.95",
        "verdict": "reproduced",
        "reason": None,
        "timed": False,
        "seconds": 3.0,
        "peak_mb": 200.0,
        **changes,
    }


def results(**changes: Any) -> dict[str, Any]:
    return {
        "scale": "quick",
        "seed": 0,
        "seconds": 21.4,
        "peak_mb": 312.0,
        "status": "done",
        "error": None,
        "settings": {"jobs": 2},
        "figures": [],
        "tables": [],
        **changes,
    }


ENVIRONMENT = {
    "workingpapers": "0.1.0",
    "python": "3.11.2",
    "platform": "Linux",
    "cpu": "a processor",
    "cores": 2,
    "memory_gb": 7.8,
    "device": "cpu",
    "packages": {"numpy": "2.4.0"},
    "created": "2026-01-02T04:04:05+01:00",
}


def leave(
    folder: Path, system: str, findings: Sequence[Mapping[str, Any]] = (), **changes: Any
) -> Path:
    """What the runner leaves in a report folder for one system."""
    (folder / system).mkdir(exist_ok=True)
    (folder / "environment.json").write_text(json.dumps(ENVIRONMENT))
    (folder / system / "results.json").write_text(json.dumps(results(**changes)))
    content = {"schema": 1, "findings": list(findings)}
    (folder / system / "findings.json").write_text(json.dumps(content))
    return folder


class Elements(HTMLParser):
    """Every element's name and attributes, and the text outside style and script."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page.read_text())
        self.text = " ".join("".join(self.texts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1][0] not in ("style", "script"):
            self.texts.append(data)

    def values(self, attribute: str) -> list[str]:
        return [found[attribute] or "" for _, found in self.elements if attribute in found]


# Numbers


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((0.957, "", 0.951, 0.963), "0.957 [0.951, 0.963]"),
        ((0.95731, "", 0.95728, 0.95734), "0.9573 [0.9573, 0.9573]"),
        ((0.95731, "", 0.93, 0.98), "0.957 [0.930, 0.980]"),
        ((0.98, "", 0.98, 0.98), "0.98 [0.98, 0.98]"),
        ((1.0, "", 1.0, 1.0), "1 [1, 1]"),
        ((1.2374, "s", 1.19, 1.29), "1.24 s [1.19, 1.29]"),
        ((23.41, "×"), "23.41×"),
        ((-0.0213, "", -0.031, -0.0116), "−0.0213 [−0.0310, −0.0116]"),
        ((0.0, "", -0.0004, 0.0004), "0.000000 [−0.000400, 0.000400]"),
        ((1 / 3,), "0.3333"),
        ((5.0, "literals"), "5 literals"),
        ((1234.4,), "1234"),
        ((12345.6, "", 11800.0, 12900.0), "12,346 [11,800, 12,900]"),
        ((98765.0, "", 9000.0, 188530.0), "98,765 [9,000, 188,530]"),
        ((1.2e-13,), "1.20·10⁻¹³"),
        ((1_284_310.0, "rows/s"), "1.28·10⁶ rows/s"),
        ((0.0,), "0"),
        ((-0.0,), "0"),
        ((None, "s"), "–"),
        ((None, "", 0.1, 0.2), "–"),
    ],
)
def test_a_value_is_written_with_its_unit_and_interval(
    arguments: tuple[Any, ...], text: str
) -> None:
    assert format_value(*arguments) == text


@settings(max_examples=60)
@given(
    value=st.floats(1e-3, 6e5),
    share=st.floats(1e-5, 0.5),
    sign=st.sampled_from([-1, 1]),
)
def test_a_written_value_is_within_half_a_percent_and_its_interval_has_the_same_decimals(
    value: float, share: float, sign: int
) -> None:
    value, half_width = sign * value, share * value
    text = format_value(value, "", value - half_width, value + half_width)
    shown = text.replace("−", "-").replace(",", "").replace("[", "").replace("]", "").split()
    ends = (value, value - half_width, value + half_width)
    for number, exact in zip(shown, ends, strict=True):
        assert abs(float(number) - exact) <= 5.1e-3 * max(map(abs, ends))
    assert len({len(number.partition(".")[2]) for number in shown}) == 1


@settings(max_examples=60)
@given(value=st.floats(0.01, 1e5), share=st.floats(1e-3, 0.5), beyond=st.floats(1.01, 3))
def test_a_value_never_reads_as_a_threshold_that_its_interval_excludes(
    value: float, share: float, beyond: float
) -> None:
    low, high = value * (1 - share), value * (1 + share)
    threshold = value * (1 + share * beyond)
    shown = format_value(value, "", low, high).split(" [")[0].replace(",", "")
    decimals = len(shown.partition(".")[2])
    assert shown != f"{threshold:.{decimals}f}"


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([0.979, 1.0, 0.9, None], ["0.979", "1.000", "0.900", "–"]),
        ([6.5, 37.0, 5], ["6.5", "37.0", "5.0"]),
        ([0.0312, 264678.0], ["0.0312", "264,678"]),
        ([0.912345, 0.5], ["0.9123", "0.5000"]),
        ([232, 5644], ["232", "5644"]),
        ([5644, 12000], ["5,644", "12,000"]),
        ([0, 0.0], ["0", "0"]),
        ([-2.5, 1.25], ["−2.50", "1.25"]),
        ([1e-9, 0.5], ["1.00·10⁻⁹", "0.5"]),
        (["votes", True, False, ["a", 1]], ["votes", "yes", "no", "a, 1"]),
    ],
)
def test_the_numbers_of_a_column_align(values: list[Any], texts: list[str]) -> None:
    assert format_column(values) == texts


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s"),
        (0.837, "0.84 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (252, "4 min 12 s"),
        (3780, "1 h 3 min"),
    ],
)
def test_durations_are_written_in_the_units_a_person_uses(seconds: float, text: str) -> None:
    assert format_duration(seconds).replace(NBSP, " ") == text


def test_memory_is_written_in_megabytes_or_gigabytes() -> None:
    assert [format_memory(size).replace(NBSP, " ") for size in (412.4, 1412.0)] == [
        "412 MB",
        "1.4 GB",
    ]


# Pictures


def svg(attributes: str) -> bytes:
    return f'<svg xmlns="http://www.w3.org/2000/svg" {attributes}><rect/></svg>'.encode()


def mp4(version: int) -> bytes:
    """File type and one track header of 640 by 360, written out by ISO/IEC 14496-12."""
    times = struct.pack(">QQIIQ" if version else ">IIIII", 1, 2, 1, 0, 9)
    matrix = struct.pack(">9I", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    size = struct.pack(">II", 640 << 16, 360 << 16)
    body = bytes([version, 0, 0, 3]) + times + bytes(16) + matrix + size
    boxes = b"tkhd" + body
    for name in (b"trak", b"moov"):
        boxes = name + struct.pack(">I", len(boxes) + 4) + boxes
    file_type = b"ftypisom" + bytes(4) + b"isom"
    return b"".join(struct.pack(">I", len(box) + 4) + box for box in (file_type, boxes))


def wav() -> bytes:
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(800))
    return content.getvalue()


@pytest.mark.parametrize(
    ("drawing", "extension", "media_type", "size"),
    [
        (svg('width="320" height="120"'), "svg", "image/svg+xml", (320, 120)),
        (svg('width="72pt" height="1in"'), "svg", "image/svg+xml", (96, 96)),
        (svg('width="100%" height="100%" viewBox="0,0 40,30"'), "svg", "image/svg+xml", (40, 30)),
        (b"\xef\xbb\xbf<?xml version='1.0'?><!-- drawn -->" + svg('viewBox="0 0 9.6 5.2"'),
         "svg", "image/svg+xml", (10, 5)),
        (mp4(0), "mp4", "video/mp4", (640, 360)),
        (mp4(1), "mp4", "video/mp4", (640, 360)),
        (wav(), "wav", "audio/wav", (None, None)),
    ],
)  # fmt: skip
def test_a_drawing_in_bytes_is_kept_and_recognised(
    tmp_path: Path, drawing: bytes, extension: str, media_type: str, size: tuple[int, int]
) -> None:
    record = save_figure(Figure("a-1", drawing, "Caption.", "Alt."), tmp_path / "figures")
    assert record == {
        "id": "a-1",
        "caption": "Caption.",
        "alt": "Alt.",
        "file": f"a-1.{extension}",
        "media_type": media_type,
        "width": size[0],
        "height": size[1],
    }
    assert (tmp_path / "figures" / record["file"]).read_bytes() == drawing


def test_a_matplotlib_figure_becomes_the_same_svg_each_time_and_a_png_keeps_its_pixels(
    tmp_path: Path,
) -> None:
    for name in ("one", "two"):
        drawing = plots.figure(5, 3)
        drawing.subplots().plot([1, 2, 3])
        record = save_figure(Figure("chart", drawing, "", ""), tmp_path / name)
        assert (record["media_type"], record["width"], record["height"]) == (
            "image/svg+xml",
            480,
            288,
        )
    one, two = (tmp_path / name / "chart.svg" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    plots.save(drawing, tmp_path / "chart.png")
    picture = Figure("picture", (tmp_path / "chart.png").read_bytes(), "", "")
    record = save_figure(picture, tmp_path)
    assert (record["media_type"], record["width"], record["height"]) == ("image/png", 1000, 600)


@pytest.mark.parametrize(
    ("id", "drawing", "message"),
    [
        ("a", b"GIF89a", "figure 'a': expected the bytes of an SVG, PNG, MP4 or WAV file"),
        ("a", b"<html/>", "figure 'a': expected the bytes of an SVG, PNG, MP4 or WAV file"),
        ("a", b"<svg", "figure 'a': expected the bytes of an SVG, PNG, MP4 or WAV file"),
        ("a", b"", "figure 'a': expected the bytes of an SVG, PNG, MP4 or WAV file"),
        ("a", svg(""), "figure 'a': the image/svg+xml file states no width and height"),
        ("a", svg('viewBox="0 0 0 0"'),
         "figure 'a': the image/svg+xml file states no width and height"),
        ("a", svg('viewBox="none"'),
         "figure 'a': the image/svg+xml file states no width and height"),
        ("a", b"\x89PNG\r\n\x1a\n", "figure 'a': the image/png file states no width and height"),
        ("a", mp4(0)[:60], "figure 'a': the video/mp4 file states no width and height"),
        ("../a", wav(), "figure '../a': expected an id of letters, digits, - and _"),
    ],
)  # fmt: skip
def test_a_drawing_that_cannot_be_shown_is_an_error_and_leaves_no_file(
    tmp_path: Path, id: str, drawing: bytes, message: str
) -> None:
    with pytest.raises(InputError) as error:
        save_figure(Figure(id, drawing, "", ""), tmp_path)
    assert str(error.value) == message
    assert [path for path in tmp_path.iterdir() if path.is_file()] == []


# The page


def test_the_page_holds_the_systems_of_the_folder_in_the_order_of_the_catalogue(
    tmp_path: Path,
) -> None:
    leave(tmp_path, "lens", [finding()], scale="laptop", seed=7)
    leave(tmp_path, "adamra", [finding("adamra")])
    leave(tmp_path, "demix", [finding("demix")], seconds=252.0)
    path = write_report(tmp_path)
    assert path == tmp_path / "index.html"
    page = Elements(path)
    names = [paper.system for paper in PAPERS]
    assert [id for id in page.values("id") if id in names] == ["demix", "lens", "adamra"]
    for paper in PAPERS:
        listed = paper.system in ("demix", "lens", "adamra")
        assert (paper.title in page.text) == listed
        assert (paper.url in page.values("href")) == listed
    assert (
        "This report holds 3 of the 11 papers. Written on 2 January 2026, 03:04 UTC." in page.text
    )
    assert page.text.count("laptop scale seed 7") == 2, "in the summary and at the system"
    assert page.text.count("quick scale seed 0") == 4
    assert page.text.count("4 min 12 s") == 2


def test_a_finding_is_shown_with_all_that_a_reader_needs_to_judge_it(tmp_path: Path) -> None:
    shown = finding(
        unit="s", verdict="inconclusive", reason="the interval has the threshold 0.95 inside",
        timed=True,
    )  # fmt: skip
    leave(tmp_path, "lens", [shown, finding(claim="mine", kind="extension", reported="-")])
    text = Elements(write_report(tmp_path)).text
    assert (
        "Formulas agree with their network. arXiv:2108.05149, table 3 · fidelity 0.96 ≥ 0.95 s "
        "0.957 s [0.951, 0.963] 3 runs, timed alone inconclusive "
        "the interval has the threshold 0.95 inside"
    ) in text
    assert text.index("Claims of the paper") < text.index("fidelity") < text.index("Extensions")
    assert text.index("Extensions") < text.index("· mine – no value given ≥ 0.95 0.957 [")
    assert "1 reproduced 1 inconclusive" in text


def test_every_verdict_is_told_by_an_icon_and_by_its_words(tmp_path: Path) -> None:
    assert tuple(LOOKS) == VERDICTS
    assert len({look.sign for look in LOOKS.values()}) == len(VERDICTS)
    findings = [finding(claim=f"claim-{n}", verdict=name) for n, name in enumerate(VERDICTS)]
    page = Elements(write_report(leave(tmp_path, "lens", findings)))
    for verdict in VERDICTS:
        name = verdict.replace(" ", "-")
        icons = [a for tag, a in page.elements if tag == "use" and a["href"] == f"#icon-{name}"]
        assert len(icons) == 5, "in three tallies, the legend and the table"
        assert f"icon-{name}" in page.values("id")
        assert LOOKS[verdict].meaning in page.text
        assert page.text.count(f"1 {verdict}") >= 3


def test_the_page_refers_only_to_itself_and_to_arxiv(tmp_path: Path) -> None:
    figures = [
        save_figure(Figure(id, drawing, f"Caption of {id}.", f"Alt of {id}."), tmp_path / "lens")
        for id, drawing in (("s", svg('viewBox="0 0 4 3"')), ("m", mp4(0)), ("w", wav()))
    ]
    table = {"id": "t", "caption": "A table.", "columns": ["a", "b"], "rows": [["x", 1.5]]}
    leave(tmp_path, "lens", [finding()], figures=figures, tables=[table])
    leave(tmp_path, "adamra", status="failed", error="Boom", seconds=None, peak_mb=None)
    page = Elements(write_report(tmp_path))
    ids = page.values("id")
    assert len(set(ids)) == len(ids)
    for target in page.values("aria-labelledby"):
        assert target in ids
    for target in page.values("href"):
        local = target.startswith("#") and target[1:] in ids
        assert local or target.startswith(("data:image/svg+xml,", "https://arxiv.org/abs/")), target
    sources = {tag: found for tag, found in page.elements if "src" in found}
    assert set(sources) == {"img", "video", "audio"}
    for found in sources.values():
        assert (found["src"] or "").startswith("data:")
    assert sources["img"]["alt"] == "Alt of s."
    assert (sources["video"]["width"], sources["video"]["height"]) == ("640", "360")
    assert sources["audio"]["aria-label"] == "Alt of w."
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(below <= above + 1 for above, below in itertools.pairwise(levels))
    assert ("html", {"lang": "en"}) in page.elements


def test_tables_that_become_cards_state_their_roles_which_some_browsers_forget(
    tmp_path: Path,
) -> None:
    page = Elements(write_report(leave(tmp_path, "lens", [finding()])))
    expected = {
        "table": "table",
        "thead": "rowgroup",
        "tbody": "rowgroup",
        "tr": "row",
        "td": "cell",
    }
    for tag, role in expected.items():
        assert {found.get("role") for name, found in page.elements if name == tag} == {role}
    heads = [(found.get("scope"), found.get("role")) for tag, found in page.elements if tag == "th"]
    assert heads == [("col", "columnheader")] * 5 + [("row", "rowheader")]


def test_what_a_system_says_cannot_become_markup(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
    clean = write_report(leave(tmp_path, "lens", [finding()])).read_text()
    figure = save_figure(Figure("f", svg('viewBox="0 0 4 3"'), evil, evil), tmp_path / "lens")
    table = {"id": "t", "caption": evil, "columns": [evil], "rows": [[evil]]}
    changes = dict.fromkeys(("statement", "source", "reported", "test", "unit", "reason"), evil)
    leave(
        tmp_path, "lens", [finding(**changes)], status="failed", error=evil,
        settings={evil: evil}, figures=[figure], tables=[table],
    )  # fmt: skip
    path = write_report(tmp_path)
    page = Elements(path)
    assert path.read_text().count("<script>") == clean.count("<script>") == 1
    assert [found["src"] for tag, found in page.elements if tag == "img"] == [
        "data:image/svg+xml;base64," + base64.b64encode(svg('viewBox="0 0 4 3"')).decode()
    ]
    assert not any("onerror" in found for _, found in page.elements)
    assert page.text.count("<script>alert(1)</script>") >= 10


def test_equal_folders_give_equal_bytes_and_nothing_beside_the_page(tmp_path: Path) -> None:
    leave(tmp_path, "lens", [finding()])
    before = set(tmp_path.rglob("*"))
    first = write_report(tmp_path).read_bytes()
    assert write_report(tmp_path).read_bytes() == first
    assert set(tmp_path.rglob("*")) - before == {tmp_path / "index.html"}


def test_a_system_that_failed_or_was_not_run_says_why(tmp_path: Path) -> None:
    leave(tmp_path, "lens", [finding(verdict="failed", measured=None, low=None, high=None,
                                     runs=0, reason="not measured")],
          status="failed", error="ValueError('no rows')")  # fmt: skip
    leave(tmp_path, "adamra", status="not installed", error="pip install X", seconds=None,
          peak_mb=None, settings={})  # fmt: skip
    text = Elements(write_report(tmp_path)).text
    assert "The run failed ValueError('no rows')" in text
    assert "Not run: something is missing pip install X" in text
    assert "≥ 0.95 – not measured failed not measured" in text


def test_a_twelfth_system_of_the_catalogue_is_reported_like_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = Paper("twelfth", "A Twelfth Paper", ("A. Author",), "2108.00000", "Nothing.")
    monkeypatch.setattr(catalogue, "PAPERS", (*PAPERS, added))
    leave(tmp_path, "twelfth", [finding("twelfth")])
    text = Elements(write_report(tmp_path)).text
    assert "A Twelfth Paper A. Author · arXiv:2108.00000" in text
    assert "This report holds 1 of the 12 papers." in text


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("environment.json", None, "no such file; `workingpapers reproduce` writes it"),
        ("lens/findings.json", None, "no such file; `workingpapers reproduce` writes it"),
        ("lens/results.json", "{", "expected JSON"),
        ("lens/results.json", "[]", "expected a JSON object"),
        ("lens/findings.json", "\ud800", "expected JSON"),
        ("lens/findings.json", '{"schema": 2}', "expected schema 1, found 2"),
        ("lens/f.svg", None, "no such file; results.json beside it names it"),
    ],
)
def test_a_file_that_is_missing_or_broken_is_named_and_the_old_page_stays(
    tmp_path: Path, file: str, content: str | None, told: str
) -> None:
    figure = save_figure(Figure("f", svg('viewBox="0 0 4 3"'), "", ""), tmp_path / "lens")
    leave(tmp_path, "lens", [finding()], figures=[figure])
    page = write_report(tmp_path).read_bytes()
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(InputError) as error:
        write_report(tmp_path)
    assert str(error.value) == f"{tmp_path / file}: {told}"
    assert (tmp_path / "index.html").read_bytes() == page


# Colours


def colours(block: str) -> dict[str, str]:
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block))


def contrast(first: str, second: str) -> float:
    """WCAG 2.2's contrast ratio of two colours."""

    def luminance(colour: str) -> float:
        channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_computed_as_the_guidelines_say() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_every_text_colour_stands_out_from_every_ground_in_both_modes(mode: str) -> None:
    light, dark = re.findall(r":root \{(.*?)\}", TEMPLATE, re.DOTALL)
    palette = colours(light)
    verdicts = {verdict.replace(" ", "-") for verdict in VERDICTS}
    assert verdicts | {"ink", "muted", "accent", "page", "surface", "card"} <= set(palette)
    assert set(colours(dark)) == set(palette), "each mode sets every colour"
    if mode == "dark":
        palette = colours(dark)
    for text in verdicts | {"ink", "muted", "accent"}:
        for ground in ("page", "surface"):
            assert contrast(palette[text], palette[ground]) >= 4.5, (text, ground)
    assert contrast(palette["card-ink"], palette["card"]) >= 4.5
    assert contrast(palette["card"], "#000000") > 15, "the card is light, so black lines show"


# The terminal


def printed(findings: Sequence[Mapping[str, Any]], **console: Any) -> str:
    screen = Console(file=io.StringIO(), **console)
    screen.print(terminal_table(findings))
    return screen.file.getvalue()  # type: ignore[attr-defined]


def test_the_closing_table_words_every_verdict_and_counts_them() -> None:
    findings = [
        finding(claim="fidelity"),
        finding(claim="speed", unit="×", measured=23.4, low=20.1, high=26.7, test="≥ 1e+06",
                kind="extension", verdict="not reproduced"),
        finding("adamra", claim="linear", measured=None, low=None, high=None,
                verdict="not testable at this scale"),
    ]  # fmt: skip
    lines = [" ".join(line.split()) for line in printed(findings, width=120).splitlines()]
    lines = [line for line in lines if line.strip("─ ")]
    assert lines == [
        "claim measured test verdict",
        "lens/fidelity 0.957 [0.951, 0.963] ≥ 0.95 ✓ reproduced",
        "lens/speed (extension) 23.4× [20.1, 26.7] ≥ 10⁶ ✗ not reproduced",
        "adamra/linear – ≥ 0.95 ↑ not testable at this scale",
        "3 claims: 1 reproduced, 1 not reproduced, 1 not testable at this scale",
    ]


def test_the_closing_table_takes_markup_for_text_and_loses_nothing_on_a_narrow_screen() -> None:
    text = printed([finding(claim="[red]a-claim-with-a-long-name[/red]", unit="[b]")], width=70)
    lines = text.splitlines()
    assert all(len(line) <= 70 for line in lines)
    edge = lines[0].index("measured")
    claim = "".join(line[:edge].strip() for line in lines[2:-1])
    assert claim == "lens/[red]a-claim-with-a-long-name[/red]"
    assert "0.957 [b]" in text
    assert "✓ reproduced" in text


def test_an_empty_closing_table_says_so() -> None:
    assert "no claims" in printed([], width=80)
