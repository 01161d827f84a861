"""A copy of the package whose catalogue holds two small made-up systems, run as a user would."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import workingpapers
from workingpapers.catalogue import built_papers

GOOD = '''
"""A made-up system that measures six claims."""
import os, time
from dataclasses import dataclass
import numpy as np
from workingpapers.foundation.evidence import *

def made(id, test, **changes):
    return Claim(**{"id": id, "statement": f"Says {id}.", "source": "nowhere", "reported": "-",
                    "test": test, "scale": "quick", **changes})

CLAIMS = (
    made("mean", at_least(0.2)),
    made("exact", equals(3.0), deterministic=True),
    made("duration", at_least(0.0), timed=True, kind="extension"),
    made("larger", at_least(0.0), scale="laptop"),
    made("file", at_least(0.0), needs=Needs(files={"cohort": "a CSV"})),
    made("peer", at_least(0.0), needs=Needs(packages=("no_such_peer",))),
)

@dataclass(frozen=True)
class Task:
    number: int
    seed: int

def draw(task):
    with open(os.environ["COUNT"], "a") as file:
        file.write(f"{task.number}-{task.seed}\\n")
    time.sleep(float(os.environ.get("SLOW", "0")))
    values = np.random.default_rng((task.number, task.seed)).random(1000)
    return {"mean": values.mean(), "head": values[:3], "pair": (1, None)}

def run(study):
    tasks = [Task(number, seed) for seed in study.seeds for number in range(2)]
    drawn = study.map(draw, tasks, label="draws")
    assert all(len(one["head"]) == 3 and one["pair"] == [1, None] for one in drawn)
    by_seed = [drawn[at : at + 2] for at in range(0, len(drawn), 2)]
    yield study.finding("mean", [np.mean([one["mean"] for one in group]) for group in by_seed])
    yield study.finding("exact", [3])
    alone = study.map(draw, [Task(9, seed) for seed in study.seeds], label="alone", alone=True)
    yield study.finding("duration", [1.0 + one["mean"] for one in alone])
    if study.wants("file"):
        yield study.finding("file", [study.data["cohort"].stat().st_size] * 3)
    if study.wants("peer"):
        raise AssertionError("a peer that is not installed is not wanted")
    yield Table("draws", [{"seed": seed, "mean": one["mean"]} for seed, one in
                          zip(study.seeds, drawn)], caption="Means by seed.")
    yield Figure("dot", b"<svg xmlns='http://www.w3.org/2000/svg' width='20' height='10'/>",
                 caption="Nothing.", alt="An empty picture.")

EXPERIMENT = Experiment(CLAIMS, run)
'''

BAD = '''
"""A made-up system that breaks in the way the environment asks for."""
import os, signal
from dataclasses import dataclass
from workingpapers.foundation.evidence import *

def made(id):
    return Claim(id, f"Says {id}.", "nowhere", "-", at_least(0.0), "quick")

@dataclass(frozen=True)
class Task:
    seed: int

def break_in_task(task):
    if os.environ.get("BREAK") == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    raise RuntimeError("no luck today")

def run(study):
    how = os.environ.get("BREAK", "raise")
    yield study.finding("first", [1.0, 1.0, 1.0])
    if how == "twice":
        yield study.finding("first", [1.0, 1.0, 1.0])
        yield study.finding("second", [1.0, 1.0, 1.0])
    elif how == "unknown":
        yield study.finding("third", [1.0])
    elif how == "raise":
        raise RuntimeError("no luck today")
    elif how == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how in ("task", "kill"):
        study.map(break_in_task, [Task(seed) for seed in study.seeds], label="breaking")

EXPERIMENT = Experiment((made("first"), made("second")), run)
'''

CATALOGUE = """
PAPERS = tuple(
    Paper(name, f"On {name}", ("A. Author",), "2108.00000", f"Does {name} things.")
    for name in ("good", "bad")
)
"""


class Package:
    """The copied package and a folder to run it in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source = folder / "src" / "workingpapers"
        built = [paper.system for paper in built_papers()]
        shutil.copytree(
            Path(workingpapers.__file__).parent,
            self.source,
            ignore=shutil.ignore_patterns("__pycache__", *built),
        )
        with (self.source / "catalogue.py").open("a") as file:
            file.write(CATALOGUE)
        for name, text in (("good", GOOD), ("bad", BAD)):
            (self.source / name).mkdir()
            (self.source / name / "__init__.py").write_text(f'"""{name}."""\n')
            (self.source / name / "experiment.py").write_text(text)
        self.count = folder / "count"

    def environment(self, **changes: str) -> dict[str, str]:
        return {
            **os.environ,
            "PYTHONPATH": str(self.folder / "src"),
            "COUNT": str(self.count),
            **changes,
        }

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-m", "workingpapers", "reproduce", *arguments],
            cwd=self.folder,
            env=self.environment(**environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, **environment: str) -> tuple[int, str, str]:
        process = self.start(*arguments, **environment)
        stdout, stderr = process.communicate(timeout=120)
        return process.returncode, stdout, stderr

    def findings(self, *arguments: str, **environment: str) -> tuple[int, dict[str, dict]]:
        code, stdout, stderr = self.run(*arguments, "--json", **environment)
        assert stdout, stderr
        found = json.loads(stdout)["findings"]
        return code, {f"{one['system']}/{one['claim']}": one for one in found}

    def calls(self) -> list[str]:
        return self.count.read_text().split() if self.count.exists() else []

    def wait_for_calls(self, number: int) -> None:
        limit = time.monotonic() + 60
        while len(self.calls()) < number:
            assert time.monotonic() < limit, "the tasks did not start"
            time.sleep(0.02)


@pytest.fixture
def package(tmp_path) -> Package:
    return Package(tmp_path)
