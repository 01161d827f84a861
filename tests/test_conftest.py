"""What the suite's own configuration promises, tried on a suite in another folder."""

import shutil
import subprocess
import sys
from pathlib import Path

import jaxtyping
import pytest

from workingpapers.foundation import errors

TESTS = Path(__file__).parent

SUITE = """
import pytest

def test_runs():
    pass

def test_waits_for_a_package():
    pytest.skip("ray is not installed")
"""

MOODY = """
import pytest

@pytest.mark.skip("in a bad mood")
def test_is_moody():
    pass
"""


def run_suite(folder: Path, *options: str, **files: str) -> subprocess.CompletedProcess[str]:
    (folder / "tests").mkdir()
    shutil.copy(TESTS / "conftest.py", folder / "tests")
    shutil.copy(TESTS.parent / "pyproject.toml", folder)
    for name, text in files.items():
        (folder / "tests" / f"{name}.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)


def test_a_known_skip_is_listed_and_passes(tmp_path):
    result = run_suite(tmp_path, test_suite=SUITE)
    assert "skipped: 1" in result.stdout
    assert "tests/test_suite.py::test_waits_for_a_package: ray is not installed" in result.stdout
    assert result.returncode == 0


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_an_unknown_skip_fails_the_run(tmp_path, options):
    result = run_suite(tmp_path, *options, test_suite=SUITE, test_moody=MOODY)
    assert "ERROR tests/test_moody.py::test_is_moody" in result.stdout
    assert "1 passed, 2 skipped" in result.stdout
    assert result.returncode == 1


def test_annotations_of_the_package_are_checked_at_run_time():
    with pytest.raises(jaxtyping.TypeCheckError, match="parameter 'package'"):
        errors.missing_package(3, "lens")
