"""CONTRIBUTING.md is true: its steps, followed on a copy, add a twelfth paper and a claim to it."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from workingpapers.catalogue import built_papers

ROOT = Path(__file__).parents[1]

PAPER = """    Paper(
        "coins",
        "On Coins",
        ("A. Author",),
        "2108.99999",
        "Flip coins and count heads.",
    ),
)
"""

FILES = {
    "__init__.py": '"""Coins."""\n',
    "flipping.py": '''"""The method: flips of a coin."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Flips:
    """A number of flips, and the seed of the coin."""

    count: int
    seed: int


def share_of_heads(task: Flips) -> float:
    """The share of heads, in [0, 1]."""
    return float(np.random.default_rng(task.seed).integers(0, 2, task.count).mean())
''',
    "data.py": '"""Coins need no data."""\n',
    "cli.py": '''"""The verbs of `workingpapers coins`."""

import typer

from workingpapers.foundation import console

app = typer.Typer(help="Flip coins.", no_args_is_help=True)


@app.callback()
def coins() -> None:
    """Flip coins."""


@app.command()
def flip(count: int = 10, seed: console.Seed = 0) -> None:
    """Flip a coin and print the share of heads."""
    from workingpapers.coins.flipping import Flips, share_of_heads

    console.out.print(f"{share_of_heads(Flips(count, seed)):.3f}")
''',
    "experiment.py": '''"""The claims about coins."""

from collections.abc import Iterator

from workingpapers.foundation.evidence import Claim, Experiment, Result, Study, between

CLAIMS = (
    Claim(
        "fair",
        "A coin is fair.",
        "arXiv:2108.99999, section 1",
        "0.5",
        between(0.45, 0.55),
        "quick",
    ),
)


def run(study: Study) -> Iterator[Result]:
    from workingpapers.coins.flipping import Flips, share_of_heads

    shares = study.map(share_of_heads, [Flips(4000, seed) for seed in study.seeds], label="flips")
    yield study.finding("fair", shares)


EXPERIMENT = Experiment(CLAIMS, run)
''',
}

CLAIM = """    Claim(
        "not-always-heads",
        "A coin does not always show heads.",
        "arXiv:2108.99999, section 2",
        "-",
        between(0.0, 0.9),
        "quick",
    ),
)
"""


def steps(heading: str) -> list[str]:
    """The numbered steps under a heading of CONTRIBUTING.md."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    section = text.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"^\d+\. ", section, flags=re.MULTILINE)


class Copy:
    """A copy of what the steps edit, and the commands they name."""

    def __init__(self, folder: Path) -> None:
        self.root = folder
        self.package = folder / "src" / "workingpapers"
        # The systems there are would only make the copy slow.
        built = [paper.system for paper in built_papers()]
        ignore = shutil.ignore_patterns("__pycache__", *built)
        shutil.copytree(ROOT / "src" / "workingpapers", self.package, ignore=ignore)
        for name in ("pyproject.toml", "mkdocs.yml", "README.md", "CHANGELOG.md"):
            shutil.copy(ROOT / name, folder / name)
        shutil.copytree(ROOT / "docs", folder / "docs")
        shutil.copy(ROOT / "CONTRIBUTING.md", folder / "CONTRIBUTING.md")

    def edit(self, name: str, old: str, new: str, count: int = 1) -> None:
        file = self.root / name
        text = file.read_text()
        assert text.count(old) >= count, f"{name} lacks {old!r}"
        file.write_text(text.replace(old, new, count))

    def run(self, *command: str) -> str:
        environment = os.environ | {"PYTHONPATH": str(self.root / "src"), "COLUMNS": "160"}
        done = subprocess.run(
            command, cwd=self.root, env=environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def workingpapers(self, *arguments: str) -> str:
        return self.run(sys.executable, "-m", "workingpapers", *arguments)


@pytest.fixture
def copy(tmp_path) -> Copy:
    return Copy(tmp_path)


def test_there_are_five_steps_each():
    assert len(steps("Add a paper")) == len(steps("Add a claim")) == 5


def test_the_steps_add_a_paper_and_then_a_claim(copy):
    # Add a paper, 1: the catalogue and both contracts.
    last = copy.package / "catalogue.py"
    text = last.read_text()
    end = text.index("\n)\n", text.index('"adamra"')) + 1
    last.write_text(text[:end] + PAPER + text[end + 2 :])
    copy.edit("pyproject.toml", "(adamra)", "(adamra) | (coins)", count=2)
    # 2: the rooms.
    (copy.package / "coins").mkdir()
    for name, content in FILES.items():
        (copy.package / "coins" / name).write_text(content)
    # 3: the extra.
    copy.edit("pyproject.toml", "\ncluster = [", '\ncoins = ["numpy"]\ncluster = [')
    copy.edit("pyproject.toml", "workingpapers[lens,", "workingpapers[coins,lens,")
    # 5: the page. (4 is the tests and the benchmark of the paper itself.)
    (copy.root / "docs" / "coins.md").write_text("# Coins\n")
    copy.edit("mkdocs.yml", "      - lens.md\n", "      - lens.md\n      - coins.md\n")

    assert "On Coins" in copy.workingpapers("papers")
    assert "Flip coins" in copy.workingpapers("--help")
    assert copy.workingpapers("coins", "flip", "--count", "1000").startswith("0.")
    lint = Path(sys.executable).with_name("lint-imports")
    assert "2 kept, 0 broken" in copy.run(str(lint), "--no-logo", "--no-cache")
    found = json.loads(copy.workingpapers("reproduce", "coins", "--json"))["findings"]
    assert [(one["claim"], one["verdict"]) for one in found] == [("fair", "reproduced")]
    assert "On Coins" in (copy.root / "report" / "index.html").read_text()

    # Add a claim, 1 and 2: the claim and its measurement.
    experiment = "src/workingpapers/coins/experiment.py"
    copy.edit(experiment, "    ),\n)\n", "    ),\n" + CLAIM)
    copy.edit(
        experiment,
        '    yield study.finding("fair", shares)\n',
        '    yield study.finding("fair", shares)\n'
        '    yield study.finding("not-always-heads", shares)\n',
    )
    # 3: it is listed, and measured alone.
    assert "not-always-heads" in copy.workingpapers("papers", "coins")
    claim = "coins/not-always-heads"
    found = json.loads(
        copy.workingpapers("reproduce", "coins", "--claim", claim, "--json", "--fresh")
    )["findings"]
    verdicts = {one["claim"]: one["verdict"] for one in found}
    assert verdicts["not-always-heads"] == "reproduced"
