"""The timing harness, with contenders whose cost is known."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import paired

SCRIPT = """
import os, sys, time
from pathlib import Path
import paired

LOG = Path(sys.argv[0]).with_name("log")

def log(line):
    with LOG.open("a") as file:
        file.write(line + "\\n")

def run(name, seconds):
    def step(case):
        print("a peer that chatters")
        log(f"{name} {case} {os.getpid()}")
        end = time.process_time() + seconds
        while time.process_time() < end:
            pass
        return {"accuracy": 0.5 if name == "ours" else 0.25}
    return step

def fail(case):
    raise ValueError("no such\\n  luck")

def remember(case):
    kept.append(bytearray(64 * 2**20))

kept = []

CONTENDERS = [
    paired.Contender("ours", str, run("ours", 0.01)),
    paired.Contender("peer", str, run("peer", 0.03), needs=("packaging",)),
    paired.Contender("absent", str, run("absent", 0.0), needs=("no_such_peer",)),
    paired.Contender("broken", fail, run("broken", 0.0)),
    paired.Contender("breaks", str, fail),
    paired.Contender("endless", str, lambda case: time.sleep(60)),
    paired.Contender("dies", str, lambda case: os._exit(3)),
    paired.Contender("large", lambda case: bytearray(200 * 2**20)[:0], remember),
]

if __name__ == "__main__":
    raise SystemExit(paired.main("A race", CONTENDERS, ("small", "large | wide")))
"""


@pytest.fixture(scope="module")
def race(tmp_path_factory) -> tuple[Path, str, dict[str, dict]]:
    """A folder with all that the script writes, its output, and the records of its only case."""
    folder = tmp_path_factory.mktemp("a race")
    (folder / "race.py").write_text(SCRIPT)
    options = ["--case", "large | wide", "--repeats", "3", "--limit", "1"]
    options += ["--json", "out.json", "--markdown", "out.md", "--plot", "out.svg"]
    result = subprocess.run(
        [sys.executable, "race.py", *options],
        cwd=folder,
        env={"PYTHONPATH": str(Path(paired.__file__).parent), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    records = json.loads((folder / "out.json").read_text())["records"]
    return folder, result.stdout, {record["name"]: record for record in records}


def test_contenders_run_in_turn_each_in_a_process_of_its_own(race):
    lines = (race[0] / "log").read_text().splitlines()
    names = [line.split()[0] for line in lines]
    # One warm-up and three repeats.
    assert names == ["ours", "peer"] * 4
    processes = {line.rsplit(" ", 1)[1] for line in lines}
    assert len(processes) == 2


def test_every_repeat_is_recorded_with_its_cost_and_values(race):
    ours, peer = race[2]["ours"], race[2]["peer"]
    assert len(ours["cpu"]) == len(ours["wall"]) == len(peer["cpu"]) == 3
    # A step that computes until a given CPU time has passed cannot have taken less.
    assert min(ours["cpu"]) >= 0.01
    assert min(peer["cpu"]) >= 0.03
    assert ours["values"] == {"accuracy": 0.5}
    assert peer["values"] == {"accuracy": 0.25}
    assert list(peer["versions"]) == ["packaging"]


def test_the_ratio_is_taken_round_by_round():
    assert paired.spread([2.0, 6.0, 3.0], [1.0, 2.0, 3.0]) == (1.0, 2.0, 3.0)


def test_the_first_contender_is_the_measure_of_all(race):
    ours, peer = race[2]["ours"], race[2]["peer"]
    assert ours["ratios"]["cpu"] == [1.0, 1.0, 1.0]
    assert peer["ratios"]["cpu"] == list(paired.spread(peer["cpu"], ours["cpu"]))


def test_peak_memory_is_what_the_step_adds_after_a_larger_setup(race):
    assert 60 < race[2]["large"]["peak_mb"] < 100


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("absent", "no_such_peer is not installed"),
        ("broken", "failed: ValueError: no such luck"),
        ("breaks", "failed: ValueError: no such luck"),
        ("endless", "took more than 1 s"),
        ("dies", "failed: its process ended with code 3"),
    ],
)
def test_who_was_not_measured_is_named_with_the_reason(race, name, reason):
    _, printed, records = race
    assert records[name]["why_not"] == reason
    assert (records[name]["cpu"], records[name]["ratios"]) == ([], {})
    assert f"not measured: {name}: {reason}" in printed


def test_the_markdown_table_has_a_row_a_contender(race):
    folder, _, records = race
    lines = (folder / "out.md").read_text().splitlines()
    assert len(lines) == 2 + len(records)
    columns = len(paired.rows([paired.Record("case", "name", values={"accuracy": 1.0})])[0])
    bars = [line.replace("\\|", "").count("|") for line in lines]
    assert bars == [columns + 1] * len(lines)
    assert "large \\| wide" in lines[2]


def test_the_plot_is_drawn(race):
    assert "<svg" in (race[0] / "out.svg").read_text()


def test_a_contender_may_run_in_another_python(tmp_path):
    other = tmp_path / "other python"
    other.write_text(f'#!/bin/sh\necho called >"{tmp_path}/called"\nexec {sys.executable} "$@"\n')
    other.chmod(0o755)
    script = tmp_path / "race.py"
    script.write_text(
        "import paired, sys\n"
        f"there = paired.Contender('there', str, lambda case: None, python={str(other)!r})\n"
        "sys.exit(paired.main('A race', [there], ['only']))\n"
    )
    result = subprocess.run(
        [sys.executable, script, "--repeats", "1"],
        env={"PYTHONPATH": str(Path(paired.__file__).parent)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "called").exists()
