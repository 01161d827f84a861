"""The pages' own promises: every code block runs, and the site is built whole and stands alone.

The blocks of a page run in page order in one temporary folder. `python` blocks share one
namespace. A `console` block is run by bash: each line `$ command` (a line ending in a backslash
goes on in the next) is followed by what it prints, where `...` stands for anything; a command
with nothing under it is only run. A command must succeed unless `$ echo $?` follows it.
"""

import doctest
import html.parser
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from sybil import Document, Example
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

EXEMPT = re.compile(r"^\$ .*(\bmake |\bpip install|--scale (laptop|paper))", re.MULTILINE)
"""A console block with such a command (an installation, a long run) is not run ..."""
EXEMPT_BLOCKS = {
    "README.md": 1,
    "CONTRIBUTING.md": 1,
    "docs/index.md": 1,
    "docs/lens.md": 1,
    "docs/opengames.md": 1,
}
"""... and these are all there may be."""

NEVER_RUN = {"text", "bash", "toml", "json", "sql", "bibtex"}
"""The other languages that a block may have; `sh`, `shell` or `py` would pass by unchecked."""


def commands(block: str) -> list[tuple[str, str]]:
    """(command, expected output) of each `$ ` line of a console block."""
    found: list[tuple[list[str], list[str]]] = []
    for line in block.splitlines():
        if found and not found[-1][1] and found[-1][0][-1].endswith("\\"):
            found[-1][0].append(line.removeprefix("> "))
        elif line.startswith("$ "):
            found.append(([line.removeprefix("$ ")], []))
        else:
            assert found, f"a console block starts with a command, not with {line!r}"
            found[-1][1].append(line)
    return [("\n".join(command), "\n".join(output).rstrip()) for command, output in found]


def run_console(example: Example) -> str | None:
    """Run a console block in the page's folder; what is wrong with it, or None."""
    block = str(example.parsed)
    if EXEMPT.search(block):
        return None
    pairs = commands(block)
    script = "".join(
        # The line with the exit status tells the outputs of the commands apart.
        f'{command}\nstatus=$?; printf "\\n@@@ $status\\n"; (exit $status)\n'
        for command, _ in pairs
    )
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    result = subprocess.run(
        ["bash", "-c", script],
        env=os.environ | {"PATH": path, "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
    )
    outputs = re.split(r"\n@@@ (\d+)\n", result.stdout)
    for number, (command, expected) in enumerate(pairs):
        printed, status = outputs[2 * number : 2 * number + 2]
        printed = "\n".join(line.rstrip() for line in printed.rstrip().splitlines())
        asks_for_status = [then for then, _ in pairs[number + 1 : number + 2]] == ["echo $?"]
        if status != "0" and not asks_for_status:
            return f"$ {command}\nended with exit code {status}:\n{printed}"
        checker = doctest.OutputChecker()
        if expected and not checker.check_output(expected, printed, doctest.ELLIPSIS):
            return f"$ {command}\nwas expected to print\n{expected}\nand printed\n{printed}"
    return None


def parse(page: Path) -> Document:
    parsers = PythonCodeBlockParser(), CodeBlockParser("console", run_console)
    return Document.parse(str(page), *parsers)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_code_blocks_of_a_page_do_what_it_says(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for example in parse(page):
        example.evaluate()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_code_block_escapes_the_tests(page):
    fences = re.findall(r"^[ \t]*(?:```|~~~)[ \t]*(\S.*)$", page.read_text(), re.MULTILINE)
    languages = [fence.split()[0] for fence in fences]
    assert {*languages} <= {"python", "console", *NEVER_RUN}
    for language in ("python", "console"):
        found = Document.parse(str(page), CodeBlockParser(language, run_console))
        assert languages.count(language) == len([*found]), language


def test_the_exempt_blocks_are_few_and_known():
    exempt = {}
    for page in PAGES:
        blocks = [example.parsed for example in parse(page) if EXEMPT.search(str(example.parsed))]
        if blocks:
            exempt[str(page.relative_to(ROOT))] = len(blocks)
    assert exempt == EXEMPT_BLOCKS


@pytest.mark.parametrize(
    ("block", "wrong"),
    [
        ("$ echo one; echo two; echo three\none\n...\nthree\n", None),
        ("$ echo one \\\n> two\none two\n", None),
        ("$ false\n$ echo $?\n1\n", None),
        ("$ echo shown nowhere\n$ x=3\n$ echo $x\n3\n", None),
        ("$ make nothing\nmagic\n", None),
        ("$ false\n", "ended with exit code 1"),
        ("$ false\n$ echo $?\n0\n", "was expected to print\n0\nand printed\n1"),
        ("$ echo one >&2\ntwo\n", "was expected to print\ntwo\nand printed\none"),
        ("$ printf one\none\ntwo\n", "was expected to print"),
    ],
)
def test_a_console_block_is_held_to_its_word(block, wrong, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"```console\n{block}```\n")
    (example,) = parse(page)
    outcome = run_console(example)
    assert (wrong in outcome) if wrong else (outcome is None)


class Loads(html.parser.HTMLParser):
    """Collects what a page makes a browser fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "link" and values.get("rel") not in ("canonical", "prev", "next"):
            self.addresses.append(values.get("href") or "")
        elif tag != "a" and values.get("src"):
            self.addresses.append(values["src"] or "")


def test_the_site_is_built_strictly_and_loads_nothing_from_outside(tmp_path):
    build = [sys.executable, "-m", "mkdocs", "build", "--strict"]
    result = subprocess.run(
        [*build, "--site-dir", tmp_path], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    pages = sorted(tmp_path.rglob("*.html"))
    assert {page.name for page in pages} >= {f"{page.stem}.html" for page in PAGES[2:]}
    for page in pages:
        loads = Loads()
        loads.feed(page.read_text())
        outside = [address for address in loads.addresses if re.match(r"(https?:)?//", address)]
        assert not outside, page.name
    for style in tmp_path.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", style.read_text()), style
