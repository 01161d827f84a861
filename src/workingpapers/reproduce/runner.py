"""Run the systems' experiments, each in a process of its own, and keep what they find."""

import json
import logging
import os
import platform
import shutil
import time
import traceback
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from workingpapers import __version__
from workingpapers.catalogue import Paper, built_papers, open_system
from workingpapers.foundation.console import claim_folder, err, write_atomically
from workingpapers.foundation.errors import InputError, UserFacingError
from workingpapers.foundation.evidence import (
    Claim,
    Experiment,
    Figure,
    Finding,
    Judgement,
    Scale,
    Table,
    judge,
    reaches,
)
from workingpapers.foundation.parallel import (
    Engine,
    Outcome,
    check_engine,
    map_tasks,
    run_in_process,
)
from workingpapers.reproduce.needs import missing_needs
from workingpapers.reproduce.report import save_figure, write_report
from workingpapers.reproduce.store import TaskStore, installed_packages, path_digest, source_digest

SEEDS: dict[Scale, int] = {"quick": 3, "laptop": 5, "paper": 5}

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """One call of the main job, as the command line gives it."""

    systems: tuple[str, ...] = ()
    """Empty: every system that is built and has what it needs."""
    scale: Scale = "quick"
    claims: tuple[str, ...] = ()
    """SYSTEM/ID; empty: every claim."""
    seed: int = 0
    out: Path = Path("report")
    engine: Engine = "local"
    jobs: int = 0
    device: str = "cpu"
    data: Mapping[str, Mapping[str, Path]] = field(default_factory=dict)
    """User files by system and name."""
    fresh: bool = False
    force: bool = False

    def claims_of(self, system: str) -> frozenset[str]:
        """The ids of this system's claims the run is restricted to; empty: all."""
        pairs = (claim.split("/", 1) for claim in self.claims)
        return frozenset(id for name, id in pairs if name == system)


def reproduce(request: Request) -> dict[str, Any]:
    """Run the main job and write its report; returns what findings.json holds.

    Raises InputError, before anything runs, for unknown systems, claims and files, for a folder
    in use, and for named systems that lack something.
    """
    check_engine(request.engine)
    papers = _choose_systems(request)
    experiments = {entry.system: load_experiment(entry.system) for entry in papers}
    _check_claims_and_files(request, experiments)
    ready: list[Paper] = []
    absent: dict[str, str] = {}
    for entry in papers:
        lacking = missing_needs(
            experiments[entry.system].needs.at(request.scale),
            entry.system,
            request.data.get(entry.system, {}),
        )
        if not lacking:
            ready.append(entry)
        elif request.systems or request.claims:
            raise InputError(f"{entry.system}: {'; '.join(lacking)}")
        else:
            absent[entry.system] = "; ".join(lacking)
    _prepare_folder(request)
    for system, reason in absent.items():
        err.print(f"{system}: not run: {reason}", markup=False)
        _write_absent(request, system, reason)
    for entry in ready:
        _run_guarded(request, entry.system, experiments[entry.system])
    findings = collect_findings(request.out)
    write_atomically(request.out / "findings.json", json.dumps(findings, indent=2))
    write_report(request.out)
    return findings


def load_experiment(system: str) -> Experiment:
    """The system's EXPERIMENT."""
    experiment = open_system(system, "experiment").EXPERIMENT
    if not isinstance(experiment, Experiment):
        raise TypeError(f"workingpapers.{system}.experiment.EXPERIMENT is not an Experiment")
    return experiment


def collect_findings(folder: Path) -> dict[str, Any]:
    """The findings of every system in a report folder, in the order of the catalogue."""
    findings: list[dict[str, Any]] = []
    for entry in built_papers():
        file = folder / entry.system / "findings.json"
        if file.is_file():
            findings += json.loads(file.read_text())["findings"]
    return {"schema": 1, "findings": findings}


def _choose_systems(request: Request) -> list[Paper]:
    built = {entry.system: entry for entry in built_papers()}
    named = list(request.systems)
    for claim in request.claims:
        system, slash, _ = claim.partition("/")
        if not slash:
            raise InputError(f"--claim {claim}: expected SYSTEM/ID")
        if request.systems and system not in request.systems:
            raise InputError(f"--claim {claim}: {system} is not among the systems named")
        named.append(system)
    for system in named:
        if system not in built:
            raise InputError(f"{system}: no such system; built are {', '.join(built)}")
    return [entry for system, entry in built.items() if not named or system in named]


def _check_claims_and_files(request: Request, experiments: Mapping[str, Experiment]) -> None:
    for system, experiment in experiments.items():
        ids = [claim.id for claim in experiment.claims]
        for id in request.claims_of(system):
            if id not in ids:
                raise InputError(
                    f"--claim {system}/{id}: no such claim; `workingpapers papers {system}` "
                    "lists them"
                )
    for system, files in request.data.items():
        if system not in experiments:
            raise InputError(f"--data {system}.…: {system} is not among the systems of this run")
        experiment = experiments[system]
        scale: Scale = "paper"
        known = dict(experiment.needs.at(scale).files)
        for claim in experiment.claims:
            known.update(claim.needs.at(scale).files)
        for name, path in files.items():
            if name not in known:
                expected = ", ".join(known) or "no files"
                raise InputError(f"--data {system}.{name}: {system} takes {expected}")
            if not path.exists():
                raise InputError(f"--data {system}.{name}={path}: no such file or folder")


def _prepare_folder(request: Request) -> None:
    """Take the report folder: a new or empty one, our own, or any with --force."""
    marker = request.out / "environment.json"
    try:
        ours = "workingpapers" in json.loads(marker.read_text())
    except (OSError, ValueError):
        ours = False
    claim_folder(request.out, force=request.force or ours)
    write_atomically(marker, json.dumps(environment(request.device), indent=2))


def environment(device: str) -> dict[str, Any]:
    """Where and with what a run was made."""
    return {
        "workingpapers": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "device": device,
        "packages": installed_packages(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _run_guarded(request: Request, system: str, experiment: Experiment) -> None:
    """Run one system in its own process; if that process dies, its claims are failed."""
    folder = request.out / system
    try:
        run_in_process(run_system, request, system)
    except UserFacingError as error:
        _LOG.debug("%s died", system, exc_info=True)
        recorder = _Recorder(request, system, experiment)
        recorder.finish(status="failed", error=str(error))
        err.print(f"{system}: failed: {error} (log: {folder / 'run.log'})", markup=False)


def run_system(request: Request, system: str) -> None:
    """Measure one system and leave its findings, figures and tables in its folder."""
    # What a task's library warns about is no news to the reader of a report.
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    experiment = load_experiment(system)
    recorder = _Recorder(request, system, experiment)
    recorder.start()
    study = RunStudy(request, system, experiment, recorder.folder)
    try:
        for result in experiment.run(study):
            recorder.take(result)
    except Exception as error:
        _LOG.error("%s failed\n%s", system, "".join(traceback.format_exception(error)))
        told = str(error) if isinstance(error, UserFacingError) else repr(error)
        recorder.finish(status="failed", error=told, study=study)
        err.print(f"{system}: failed: {told} (log: {recorder.folder / 'run.log'})", markup=False)
        return
    recorder.finish(status="done", study=study)


class RunStudy:
    """The study given to an experiment: parallel, resumable tasks and findings with their cost."""

    def __init__(self, request: Request, system: str, experiment: Experiment, folder: Path) -> None:
        self.scale = request.scale
        self.seed = request.seed
        state = np.random.SeedSequence(request.seed).generate_state(SEEDS[request.scale])
        self.seeds = tuple(int(word) for word in state)
        self.device = request.device
        self.data: Mapping[str, Path] = dict(request.data.get(system, {}))
        self.folder = folder
        self._request = request
        self._system = system
        self._claims = {claim.id: claim for claim in experiment.claims}
        self._store = TaskStore(folder / "tasks", task_settings(request, system))
        if request.fresh:
            self._store.forget()
        self._seconds = 0.0
        self._peak_mb: float | None = None
        self._told = False
        self.peak_mb: float | None = None

    def map(
        self,
        function: Any,
        tasks: Sequence[Any],
        *,
        label: str,
        alone: bool = False,
    ) -> list[Any]:
        if self._told:
            # A finding was made since the last map: what follows is another claim's cost.
            self._seconds, self._peak_mb, self._told = 0.0, None, False
        keys = [self._store.key(function, task) for task in tasks]
        if len(set(keys)) < len(keys):
            raise ValueError(f"{label}: two tasks have the same fields")
        records = [self._store.load(key) for key in keys]
        waiting = [index for index, record in enumerate(records) if record is None]

        def keep(position: int, outcome: Outcome) -> None:
            index = waiting[position]
            result = self._store.save(keys[index], outcome.result, outcome.seconds, outcome.peak_mb)
            records[index] = {
                "result": result,
                "seconds": outcome.seconds,
                "peak_mb": outcome.peak_mb,
            }

        if waiting:
            kept = len(tasks) - len(waiting)
            map_tasks(
                function,
                [tasks[index] for index in waiting],
                engine=self._request.engine,
                jobs=1 if alone else self._request.jobs,
                label=f"{self._system}: {label}" + (f" ({kept} kept)" if kept else ""),
                done=keep,
            )
        done = [record for record in records if record is not None]
        self._seconds += sum(record["seconds"] for record in done)
        for record in done:
            self._peak_mb = _larger(self._peak_mb, record["peak_mb"])
        self.peak_mb = _larger(self.peak_mb, self._peak_mb)
        return [record["result"] for record in done]

    def finding(self, claim_id: str, values: Sequence[float]) -> Finding:
        self._told = True
        return Finding(
            claim_id,
            tuple(float(value) for value in values),
            round(self._seconds, 3),
            None if self._peak_mb is None else round(self._peak_mb, 1),
        )

    def wants(self, *claim_ids: str) -> bool:
        chosen = self._request.claims_of(self._system)
        for id in claim_ids:
            claim = self._claims[id]
            lacking = missing_needs(claim.needs.at(self.scale), self._system, self.data)
            if not lacking and (not chosen or id in chosen):
                return True
        return False


def task_settings(request: Request, system: str) -> dict[str, Any]:
    """All that decides a task's result beside the task: part of the key it is stored under."""
    return {
        "source": source_digest(system),
        "python": platform.python_version(),
        "packages": installed_packages(),
        "scale": request.scale,
        "seed": request.seed,
        "device": request.device,
        "data": {name: path_digest(path) for name, path in request.data.get(system, {}).items()},
    }


class _Recorder:
    """Takes an experiment's results as they come and writes the system's folder."""

    def __init__(self, request: Request, system: str, experiment: Experiment) -> None:
        self.request = request
        self.system = system
        self.experiment = experiment
        self.folder = request.out / system
        self.found: dict[str, list[Finding]] = {}
        self.figures: list[dict[str, Any]] = []
        self.tables: list[dict[str, Any]] = []
        self.began = time.perf_counter()

    def start(self) -> None:
        """Clear the last run's pictures and open the log."""
        self.folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self.folder / "figures", ignore_errors=True)
        logging.captureWarnings(True)
        warnings.simplefilter("default")
        logging.basicConfig(
            filename=self.folder / "run.log",
            filemode="w",
            level=logging.INFO,
            format="%(asctime)s %(levelname)s %(name)s: %(message)s",
            force=True,
        )

    def take(self, result: Finding | Figure | Table) -> None:
        if isinstance(result, Finding):
            if all(claim.id != result.claim for claim in self.experiment.claims):
                raise KeyError(f"a finding names the claim {result.claim!r}, which is not declared")
            self.found.setdefault(result.claim, []).append(result)
            _LOG.info("%s: %s", result.claim, result.values)
        elif isinstance(result, Figure):
            record = save_figure(result, self.folder / "figures")
            record["file"] = f"figures/{record['file']}"
            self.figures.append(record)
        else:
            columns = list(result.rows[0]) if result.rows else []
            rows = [[_plain(row[column]) for column in columns] for row in result.rows]
            self.tables.append(
                {"id": result.id, "caption": result.caption, "columns": columns, "rows": rows}
            )

    def finish(self, *, status: str, error: str | None = None, study: Any = None) -> None:
        """Judge every claim and write findings.json and results.json."""
        self.folder.mkdir(parents=True, exist_ok=True)
        seconds = round(time.perf_counter() - self.began, 2)
        results = {
            "system": self.system,
            "scale": self.request.scale,
            "seed": self.request.seed,
            "status": status,
            "error": error,
            "seconds": seconds,
            "peak_mb": None if study is None else study.peak_mb,
            "settings": {
                "engine": self.request.engine,
                "jobs": self.request.jobs or os.cpu_count(),
                "device": self.request.device,
                "seeds": list(study.seeds) if study else [],
                "command": f"workingpapers reproduce {self.system} --scale {self.request.scale} "
                f"--seed {self.request.seed}",
            },
            "figures": self.figures,
            "tables": self.tables,
        }
        findings = [self._judged(claim, error) for claim in self._chosen_claims()]
        order = [claim.id for claim in self.experiment.claims]
        findings = sorted(
            self._others() + findings, key=lambda finding: order.index(finding["claim"])
        )
        content = {"schema": 1, "findings": findings}
        write_atomically(self.folder / "results.json", json.dumps(results, indent=2))
        write_atomically(self.folder / "findings.json", json.dumps(content, indent=2))

    def _chosen_claims(self) -> list[Claim]:
        chosen = self.request.claims_of(self.system)
        return [claim for claim in self.experiment.claims if not chosen or claim.id in chosen]

    def _others(self) -> list[dict[str, Any]]:
        """Findings of earlier runs with this scale and seed, for claims this run left out."""
        chosen = self.request.claims_of(self.system)
        file = self.folder / "findings.json"
        if not chosen or not file.is_file():
            return []
        known = {claim.id for claim in self.experiment.claims}
        return [
            finding
            for finding in json.loads(file.read_text())["findings"]
            if finding["claim"] in known - chosen
            and (finding["scale"], finding["seed"]) == (self.request.scale, self.request.seed)
        ]

    def _judged(self, claim: Claim, error: str | None) -> dict[str, Any]:
        found = self.found.get(claim.id, [])
        values: tuple[float, ...] = found[0].values if found else ()
        lacking = missing_needs(
            claim.needs.at(self.request.scale),
            self.system,
            self.request.data.get(self.system, {}),
        )
        if len(found) > 1:
            judged = Judgement("failed", reason=f"measured {len(found)} times; once is expected")
        elif found:
            judged = judge(claim, values, self.request.scale)
        elif not reaches(self.request.scale, claim.scale):
            reason = f"judged from scale {claim.scale} on"
            judged = Judgement("not testable at this scale", reason=reason)
        elif lacking:
            judged = Judgement("not testable here", reason="; ".join(lacking))
        else:
            judged = Judgement("failed", reason=error or "not measured")
        return {
            "system": self.system,
            "claim": claim.id,
            "kind": claim.kind,
            "statement": claim.statement,
            "source": claim.source,
            "reported": claim.reported,
            "measured": judged.measured,
            "unit": claim.unit,
            "low": judged.low,
            "high": judged.high,
            "values": [_plain(value) for value in values],
            "runs": len(values),
            "scale": self.request.scale,
            "seed": self.request.seed,
            "test": str(claim.test),
            "verdict": judged.verdict,
            "reason": judged.reason or None,
            "timed": claim.timed,
            "seconds": found[0].seconds if found else None,
            "peak_mb": found[0].peak_mb if found else None,
        }


def _write_absent(request: Request, system: str, reason: str) -> None:
    folder = request.out / system
    folder.mkdir(parents=True, exist_ok=True)
    results = {
        "system": system,
        "scale": request.scale,
        "seed": request.seed,
        "status": "not installed",
        "error": reason,
        "seconds": None,
        "peak_mb": None,
        "settings": {},
        "figures": [],
        "tables": [],
    }
    write_atomically(folder / "results.json", json.dumps(results, indent=2))
    write_atomically(folder / "findings.json", json.dumps({"schema": 1, "findings": []}))


def _larger(first: float | None, second: float | None) -> float | None:
    known = [value for value in (first, second) if value is not None]
    return max(known, default=None)


def _plain(value: Any) -> Any:
    """A cell for JSON: NumPy scalars become Python's, what is not finite becomes null."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
