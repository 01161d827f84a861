"""The layering contracts: they know every paper, and they catch what they are there to catch."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from workingpapers.catalogue import PAPERS

ROOT = Path(__file__).parents[1]

# A small house of the same floors: two systems, each file with what it imports.
HOUSE = {
    "__init__": "",
    "__main__": "from workingpapers import cli",
    "cli": "from workingpapers import reproduce",
    "reproduce": "from workingpapers import catalogue",
    "lens": "from workingpapers import foundation",
    "demix": "from workingpapers import foundation, scene",
    "scene": "from workingpapers import foundation",
    "foundation": "from workingpapers import catalogue",
    "catalogue": "",
}


def lint(folder: Path, house: dict[str, str]) -> subprocess.CompletedProcess[str]:
    package = folder / "workingpapers"
    package.mkdir()
    for name, text in house.items():
        (package / f"{name}.py").write_text(text + "\n")
    command = Path(sys.executable).with_name("lint-imports")
    return subprocess.run(
        [command, "--no-logo", "--no-cache", "--config", ROOT / "pyproject.toml"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_small_house_keeps_the_contracts(tmp_path):
    result = lint(tmp_path, HOUSE)
    assert "2 kept, 0 broken" in result.stdout, result.stdout
    assert result.returncode == 0


@pytest.mark.parametrize(
    ("changed", "broken"),
    [
        ({"attic": ""}, "- workingpapers.attic"),
        ({"lens": "from workingpapers import demix"}, "lens is not allowed to import"),
        ({"foundation": "from workingpapers import lens"}, "foundation is not allowed to import"),
        ({"catalogue": "import workingpapers.foundation"}, "catalogue is not allowed to import"),
        ({"lens": "import workingpapers.reproduce"}, "lens is not allowed to import"),
        ({"cli": "import workingpapers.lens"}, "cli is not allowed to import workingpapers.lens"),
        (
            {"reproduce": "def run():\n    import workingpapers.lens"},
            "reproduce is not allowed to import workingpapers.lens",
        ),
    ],
)
def test_a_breach_of_the_layers_is_named(tmp_path, changed, broken):
    result = lint(tmp_path, HOUSE | changed)
    assert result.returncode == 1
    assert broken in result.stdout


def test_both_contracts_name_exactly_the_systems_of_the_catalogue():
    configuration = tomllib.loads((ROOT / "pyproject.toml").read_text())
    systems = [entry.system for entry in PAPERS]
    for contract in configuration["tool"]["importlinter"]["contracts"]:
        layer = next(line for line in contract["layers"] if "|" in line)
        names = [name.strip().strip("()") for name in layer.split("|")]
        assert names == systems, contract["id"]
