"""The report of a reproduction: one self-contained page, and the table that closes a run."""

import base64
import json
import math
import re
import struct
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from rich import box
from rich.table import Table
from rich.text import Text

from workingpapers import catalogue
from workingpapers.catalogue import Paper
from workingpapers.foundation.console import write_atomically
from workingpapers.foundation.errors import InputError
from workingpapers.foundation.evidence import VERDICTS, Figure, Verdict

Record = Mapping[str, Any]
"""One JSON object as the runner wrote it: a finding, a figure, a table, an environment."""


@dataclass(frozen=True)
class Look:
    """How a verdict is shown: by a sign and its words, never by colour alone."""

    sign: str
    style: str
    """Its colour in the terminal."""
    meaning: str


LOOKS: dict[Verdict, Look] = {
    "reproduced": Look("✓", "green", "The mean over the runs passes the test."),
    "not reproduced": Look("✗", "red", "The mean over the runs does not pass the test."),
    "inconclusive": Look(
        "≈", "yellow", "The 95 % interval has a threshold inside, so these runs cannot decide."
    ),
    "not testable at this scale": Look(
        "↑", "cyan", "The test is fair only from a larger scale on, which is named."
    ),
    "not testable here": Look(
        "○", "dim", "This machine lacks a package, a peer or a file, which is named."
    ),
    "failed": Look("!", "magenta", "There is nothing to judge; the error says why."),
}


def write_report(folder: Path) -> Path:
    """Write `folder`/index.html from what the runner left there, and return its path.

    The page holds every system of the catalogue that has a results.json in `folder`, and
    everything it shows: nothing is loaded from elsewhere. Equal files give equal bytes.

    Raises InputError for a file that is missing or not what the runner writes.
    """
    environment = _read(folder / "environment.json")
    sections = [
        _read_section(entry, folder / entry.system)
        for entry in catalogue.PAPERS
        if (folder / entry.system / "results.json").is_file()
    ]
    template = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    template.filters.update(
        value_and_interval=_value_and_interval,
        duration=format_duration,
        memory=format_memory,
        date=_format_date,
        sort_key=_sort_key,
        test=_format_test,
    )
    page = template.get_template("report.html.j2").render(
        sections=sections,
        papers=len(catalogue.PAPERS),
        counts=_count(finding for section in sections for finding in section.findings),
        looks=LOOKS,
        verdicts=VERDICTS,
        environment=environment,
    )
    path = folder / "index.html"
    write_atomically(path, page)
    return path


def save_figure(figure: Figure, folder: Path) -> dict[str, Any]:
    """Write the figure's drawing into `folder` and return its record for results.json.

    A matplotlib figure is written as SVG; the bytes of an SVG, PNG, MP4 or WAV file as they are,
    under the extension of what they are. `width` and `height` of the record are CSS pixels, null
    for sound.

    Raises InputError for other bytes, and for an id that does not make a file name.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", figure.id):
        raise InputError(f"figure {figure.id!r}: expected an id of letters, digits, - and _")
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(figure.drawing, bytes):
        media_type, extension = _recognise(figure.id, figure.drawing)
        width, height = _size(figure.id, media_type, figure.drawing)
        path = folder / f"{figure.id}.{extension}"
        write_atomically(path, figure.drawing)
    else:
        from workingpapers.foundation import plots

        media_type = "image/svg+xml"
        path = folder / f"{figure.id}.svg"
        plots.save(figure.drawing, path)
        width, height = _size(figure.id, media_type, path.read_bytes())
    return {
        "id": figure.id,
        "caption": figure.caption,
        "alt": figure.alt,
        "file": path.name,
        "media_type": media_type,
        "width": width,
        "height": height,
    }


def terminal_table(findings: Sequence[Record]) -> Table:
    """The findings as a Rich table: claim, measured value with its interval, test, verdict."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("claim", overflow="fold", min_width=20)
    table.add_column("measured", overflow="fold")
    table.add_column("test", overflow="fold")
    table.add_column("verdict", overflow="fold", min_width=12)
    system = None
    for finding in findings:
        if system not in (None, finding["system"]):
            table.add_section()
        system = finding["system"]
        look = LOOKS[finding["verdict"]]
        claim = Text(f"{finding['system']}/{finding['claim']}")
        if finding["kind"] == "extension":
            claim.append(" (extension)", "dim")
        table.add_row(
            claim,
            Text(
                format_value(finding["measured"], finding["unit"], finding["low"], finding["high"])
            ),
            # The unit stands beside the measured value already.
            Text(_format_test(finding["test"], "")),
            Text(f"{look.sign} {finding['verdict']}", look.style),
        )
    counts = ", ".join(f"{count} {verdict}" for verdict, count in _count(findings).items())
    claims = f"{len(findings)} claim" + "s" * (len(findings) > 1)
    table.caption = Text(f"{claims}: {counts}" if findings else "no claims")
    table.caption_justify = "left"
    return table


def format_value(
    value: float | None, unit: str = "", low: float | None = None, high: float | None = None
) -> str:
    """A value with its unit and interval: `0.957 [0.951, 0.963]`, `1.24 s [1.19, 1.29]`.

    Three or four significant digits: with an interval as many decimals as its half-width calls
    for, without one four digits less their trailing zeros. None is a dash.
    """
    return " ".join(part for part in _value_and_interval(value, unit, low, high) if part)


def format_column(values: Sequence[Any]) -> list[str]:
    """The cells of one column of a result table.

    Numbers of like size (within a factor of 1,000) get the same number of decimals, so that they
    align; others are written as `format_value` writes them. None is a dash.
    """
    texts = [_format_cell(value) for value in values]
    numbers = [value for value in values if _is_number(value)]
    sizes = [abs(number) for number in numbers if number]
    if not sizes or min(sizes) < 1e-4 or max(sizes) >= min(1e6, 1000 * min(sizes)):
        return texts
    wanted = max(len(text.partition(".")[2]) for text in texts)
    decimals = min(wanted, max(3 - math.floor(math.log10(max(sizes))), 0))
    return [
        _decimal(value, decimals, largest=max(sizes)) if _is_number(value) else text
        for value, text in zip(values, texts, strict=True)
    ]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _format_cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return format_value(value)
    if isinstance(value, int):
        return _decimal(value, 0, largest=abs(value))
    if isinstance(value, list | tuple):
        return ", ".join(_format_cell(item) for item in value)
    return str(value)


def format_duration(seconds: float) -> str:
    """`0.84 s`, `23 s`, `4 min 12 s`, `1 h 3 min`."""
    if seconds < 9.95:
        return _with_unit(f"{seconds:.2g}", "s")
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    if hours:
        return f"{_with_unit(str(hours), 'h')} {_with_unit(str(minutes_left), 'min')}"
    if minutes:
        return f"{_with_unit(str(minutes), 'min')} {_with_unit(str(rest), 's')}"
    return _with_unit(str(rest), "s")


def format_memory(megabytes: float) -> str:
    """`412 MB`, `1.4 GB`."""
    if megabytes < 1000:
        return _with_unit(f"{megabytes:.0f}", "MB")
    return _with_unit(f"{megabytes / 1000:.1f}", "GB")


def _value_and_interval(
    value: float | None, unit: str = "", low: float | None = None, high: float | None = None
) -> tuple[str, str]:
    if value is None:
        return "–", ""
    interval = () if low is None or high is None else (low, high)
    first, *ends = _format_together((value, *interval))
    return _with_unit(first, unit, " "), f"[{ends[0]}, {ends[1]}]" if ends else ""


def _format_together(numbers: Sequence[float]) -> list[str]:
    """A value, alone or with the ends of its interval, all with the same number of decimals."""
    if not all(math.isfinite(number) for number in numbers):
        return [str(number) for number in numbers]
    largest = max(abs(number) for number in numbers)
    if largest != 0 and not 1e-4 <= largest < 1e6:
        return [_scientific(f"{number:.2e}") for number in numbers]
    leading = math.floor(math.log10(largest)) if largest else 0
    most = max(3 - leading, 0)
    half_width = (numbers[-1] - numbers[1]) / 2 if len(numbers) == 3 else 0.0
    if half_width <= 0:
        # Nothing says how many digits count: four, less the zeros at the end.
        texts = [_decimal(number, most, largest) for number in numbers]
        return [text.rstrip("0").rstrip(".") if "." in text else text for text in texts]
    wanted = max(-math.floor(math.log10(half_width)), 2 - leading, 0)
    return [_decimal(number, min(wanted, most), largest) for number in numbers]


def _decimal(number: float, decimals: int, largest: float) -> str:
    """`number` in decimals; thousands are set apart where the largest beside it has five digits."""
    text = f"{number:,.{decimals}f}" if largest >= 10_000 else f"{number:.{decimals}f}"
    is_zero = not text.strip("-0.")
    return text.lstrip("-") if is_zero else text.replace("-", "−")


def _scientific(text: str) -> str:
    """`1.20e-13` as 1.20·10⁻¹³, `1e-12` as 10⁻¹²."""
    mantissa, _, exponent = text.partition("e")
    if float(mantissa) == 0:
        return "0"
    power = "10" + str(int(exponent)).translate(_SUPERSCRIPTS)
    return power if mantissa == "1" else f"{mantissa.replace('-', '−')}·{power}"


_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def _format_test(test: str, unit: str) -> str:
    powers = re.sub(r"-?[\d.]+e[+-]?\d+", lambda match: _scientific(match[0]), test)
    # A line may break before the unit, never behind the sign.
    return _with_unit(powers.replace(" ", "\N{NO-BREAK SPACE}"), unit, " ")


def _with_unit(number: str, unit: str, separator: str = "\N{NO-BREAK SPACE}") -> str:
    return f"{number}{unit}" if unit in ("", "×") else f"{number}{separator}{unit}"


def _sort_key(text: str) -> str:
    """The first number in `text`, by which a column of thresholds is sorted; else `text`."""
    match = re.search(r"[-−]?\d[\d,]*(\.\d+)?(e[+-]?\d+)?", text)
    return match[0].replace(",", "").replace("−", "-") if match else text


def _format_date(created: str) -> str:
    moment = datetime.fromisoformat(created).astimezone(UTC)
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC"


@dataclass(frozen=True)
class _Section:
    """One system in the report."""

    paper: Paper
    results: Record
    findings: tuple[Record, ...]
    figures: tuple[Record, ...]
    """With the file's content as a data URI under "source"."""
    tables: tuple[Record, ...]
    """With every cell as its text and the key it is sorted by."""

    @property
    def counts(self) -> dict[Verdict, int]:
        return _count(self.findings)

    def of_kind(self, kind: str) -> list[Record]:
        return [finding for finding in self.findings if finding["kind"] == kind]


def _read_section(paper: Paper, folder: Path) -> _Section:
    results = _read(folder / "results.json")
    path = folder / "findings.json"
    content = _read(path)
    if content.get("schema") != 1:
        raise InputError(f"{path}: expected schema 1, found {content.get('schema')!r}")
    figures = tuple(
        {**figure, "source": _data_uri(folder / figure["file"], figure["media_type"])}
        for figure in results["figures"]
    )
    tables = tuple(_lay_out(table) for table in results["tables"])
    return _Section(paper, results, tuple(content["findings"]), figures, tables)


def _lay_out(table: Record) -> Record:
    columns = [[row[index] for row in table["rows"]] for index in range(len(table["columns"]))]
    texts = [format_column(column) for column in columns]
    rows = [
        [
            {"text": texts[index][number], "sort": "" if value is None else value}
            for index, value in enumerate(row)
        ]
        for number, row in enumerate(table["rows"])
    ]
    numeric = [
        all(value is None or _is_number(value) for value in column) and any(map(_is_number, column))
        for column in columns
    ]
    return {**table, "columns": list(zip(table["columns"], numeric, strict=True)), "rows": rows}


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; `workingpapers reproduce` writes it") from None
    except ValueError:
        raise InputError(f"{path}: expected JSON") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a JSON object")
    return content


def _data_uri(path: Path, media_type: str) -> str:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; results.json beside it names it") from None
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def _count(findings: Iterable[Record]) -> dict[Verdict, int]:
    """How often each verdict occurs, in the order of the verdicts; without those that do not."""
    counts = Counter(finding["verdict"] for finding in findings)
    return {verdict: counts[verdict] for verdict in VERDICTS if counts[verdict]}


def _recognise(id: str, data: bytes) -> tuple[str, str]:
    """Media type and extension of a drawing, by the first bytes of its format."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png", "png"
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        return "audio/wav", "wav"
    if data[4:8] == b"ftyp":
        return "video/mp4", "mp4"
    if _svg_root(data) is not None:
        return "image/svg+xml", "svg"
    raise InputError(f"figure {id!r}: expected the bytes of an SVG, PNG, MP4 or WAV file")


def _svg_root(data: bytes) -> ElementTree.Element | None:
    """The root element of an SVG file; None if it is not one."""
    try:
        root = ElementTree.fromstring(data)
    except ElementTree.ParseError:
        return None
    return root if root.tag == "{http://www.w3.org/2000/svg}svg" else None


def _size(id: str, media_type: str, data: bytes) -> tuple[int | None, int | None]:
    """Width and height in CSS pixels; None for sound."""
    if media_type == "audio/wav":
        return None, None
    sizes = {"image/svg+xml": _svg_size, "image/png": _png_size, "video/mp4": _mp4_size}
    size = sizes[media_type](data)
    if size is None or min(size) <= 0:
        raise InputError(f"figure {id!r}: the {media_type} file states no width and height")
    return size


_LENGTH = re.compile(r"\s*(\d*\.?\d+(?:[eE][+-]?\d+)?)(px|pt|pc|in|cm|mm|)\s*")
_PIXELS = {"": 1, "px": 1, "pt": 4 / 3, "pc": 16, "in": 96, "cm": 96 / 2.54, "mm": 96 / 25.4}


def _svg_size(data: bytes) -> tuple[int, int] | None:
    """From width and height where both are absolute lengths, else from the viewBox."""
    root = _svg_root(data)
    assert root is not None, "recognised as SVG before"
    lengths = [_LENGTH.fullmatch(root.get(name, "")) for name in ("width", "height")]
    pixels = [float(match[1]) * _PIXELS[match[2]] for match in lengths if match]
    if len(pixels) != 2:
        pixels = [float(number) for number in re.split(r"[\s,]+", root.get("viewBox", ""))[2:4]]
    return (round(pixels[0]), round(pixels[1])) if len(pixels) == 2 else None


def _png_size(data: bytes) -> tuple[int, int] | None:
    """From the header chunk, which comes first (PNG specification, section 11.2.1)."""
    if len(data) < 24:
        return None
    width, height = struct.unpack(">II", data[16:24])
    return width, height


def _mp4_size(data: bytes) -> tuple[int, int] | None:
    """From the first track header that states a size (ISO/IEC 14496-12, section 8.3.2)."""
    for match in re.finditer(b"tkhd", data):
        # Version 1 of the box has three 64-bit times, version 0 has 32-bit ones.
        start = match.end() + (88 if data[match.end() : match.end() + 1] == b"\1" else 76)
        if start + 8 <= len(data):
            width, height = struct.unpack(">II", data[start : start + 8])
            if width and height:
                # Fixed point with 16 bits after the point.
                return round(width / 65536), round(height / 65536)
    return None
