"""The one timing harness: contenders measured side by side, each in a process of its own.

A script lists its contenders, the one the others are compared with first, and its cases (data
sets, sizes), and ends with `raise SystemExit(main(title, contenders, cases))`. For every case each
contender gets a fresh process: it is set up, warmed up once, then timed in turn with the others
(A B A B ...), so that a slow minute of the machine falls on all of them alike. Peers are imported
inside `setup` or `run`, so that one that is missing stops nobody, and a contender that cannot
live in this environment names another Python interpreter, which then runs the same script.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import resource
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
"""How many threads each contender uses, unless the caller's environment says otherwise."""


@dataclass(frozen=True)
class Contender:
    """One way of doing the job."""

    name: str
    setup: Callable[[str], Any]
    """Makes from a case's name what `run` works on; not timed."""
    run: Callable[[Any], Mapping[str, float] | None]
    """The timed step; the numbers it returns (accuracy, length, ...) are shown beside the times."""
    needs: tuple[str, ...] = ()
    """Import names of the peers it uses."""
    python: str = sys.executable
    """The interpreter that runs it."""


@dataclass
class Record:
    """What was measured of one contender in one case, one entry a repeat; times in seconds."""

    case: str
    name: str
    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    values: dict[str, float] = field(default_factory=dict)
    """What `run` returned, averaged over the repeats."""
    peak_mb: float | None = None
    """How far the warm-up run raised the process's peak memory; None where Linux's /proc is not."""
    versions: dict[str, str] = field(default_factory=dict)
    why_not: str = ""
    """Why there are no times: not installed, failed, or past the limit."""
    ratios: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    """"cpu" and "wall": least, median and greatest of this time / the first contender's time."""


def spread(times: Sequence[float], first: Sequence[float]) -> tuple[float, float, float]:
    """Least, median and greatest ratio of times taken in the same round."""
    ratios = [mine / max(theirs, 1e-9) for mine, theirs in zip(times, first, strict=True)]
    return min(ratios), statistics.median(ratios), max(ratios)


def compare(
    contenders: Sequence[Contender],
    case: str,
    *,
    repeats: int,
    limit: int,
    script: str,
    tell: Callable[[str], None] = lambda step: None,
) -> list[Record]:
    """Measure all contenders on one case; the first is the one that ratios refer to.

    `limit` is the most seconds that a setup or a single run may take, `script` the file whose
    `main` knows the contenders, `tell` is told of each step.
    """
    records = [Record(case, contender.name) for contender in contenders]
    processes: list[subprocess.Popen[str]] = []
    environment = ONE_THREAD | os.environ
    try:
        for contender, record in zip(contenders, records, strict=True):
            tell(f"{case}: setting up {record.name}")
            serve = ["--serve", contender.name, "--case", case, "--limit", str(limit)]
            processes.append(
                subprocess.Popen(
                    [contender.python, script, *serve],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    env=environment,
                )
            )
            record.versions = _answer(processes[-1], record, limit).get("versions", {})
        for repeat in range(repeats + 1):
            for process, record in zip(processes, records, strict=True):
                if record.why_not:
                    continue
                tell(f"{case}: {record.name}, " + (f"repeat {repeat}" if repeat else "warm-up"))
                answer = _answer(process, record, limit, "run\n")
                if record.why_not:
                    record.cpu, record.wall, record.values = [], [], {}
                elif repeat == 0:
                    record.peak_mb = answer["peak_mb"]
                else:
                    record.cpu.append(answer["cpu"])
                    record.wall.append(answer["wall"])
                    for name, value in answer["values"].items():
                        record.values[name] = record.values.get(name, 0.0) + value / repeats
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    for record in records:
        if not record.why_not and not records[0].why_not:
            record.ratios["cpu"] = spread(record.cpu, records[0].cpu)
            record.ratios["wall"] = spread(record.wall, records[0].wall)
    return records


def _answer(
    process: subprocess.Popen[str], record: Record, limit: int, request: str = ""
) -> dict[str, Any]:
    """The process's next answer; a process that has none leaves the reason in `record`."""
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(BrokenPipeError):
        process.stdin.write(request)
        process.stdin.flush()
    line = process.stdout.readline()
    if line:
        answer: dict[str, Any] = json.loads(line)
        record.why_not = answer.get("why_not", "")
        return answer
    if process.wait() == -signal.SIGALRM:
        record.why_not = f"took more than {limit} s"
    else:
        record.why_not = f"failed: its process ended with code {process.returncode}"
    return {}


def serve(contender: Contender, case: str, limit: int) -> None:
    """Be a contender's process: set up, then do one timed run for each line on stdin."""
    # What peers print goes to stderr; the pipe that was stdout carries the answers alone.
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    try:
        for name in contender.needs:
            if importlib.util.find_spec(name) is None:
                channel.write(json.dumps({"why_not": f"{name} is not installed"}) + "\n")
                return
        # An alarm nobody handles ends the process, even in the middle of compiled code.
        signal.alarm(limit)
        state = contender.setup(case)
        signal.alarm(0)
        channel.write(json.dumps({"versions": _versions(contender.needs)}) + "\n")
        for _ in sys.stdin:
            before = _peak_mb(reset=True)
            signal.alarm(limit)
            cpu, wall = _cpu_seconds(), time.perf_counter()
            values = contender.run(state)
            wall, cpu = time.perf_counter() - wall, _cpu_seconds() - cpu
            signal.alarm(0)
            after = _peak_mb()
            raised = None if before is None or after is None else after - before
            numbers = {key: float(value) for key, value in (values or {}).items()}
            answer = {"cpu": cpu, "wall": wall, "peak_mb": raised, "values": numbers}
            channel.write(json.dumps(answer) + "\n")
    except Exception as error:
        signal.alarm(0)
        reason = " ".join(f"failed: {type(error).__name__}: {error}".split())
        channel.write(json.dumps({"why_not": reason}) + "\n")


def _cpu_seconds() -> float:
    """CPU time of this process, all its threads and the children it has waited for."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _peak_mb(*, reset: bool = False) -> float | None:
    """This process's peak memory (VmHWM), by request since now."""
    if reset:
        # Without this a setup that took more than the run would hide what the run takes.
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return None


def _versions(needs: Sequence[str]) -> dict[str, str]:
    """The installed versions of the distributions behind the import names."""
    owners = importlib.metadata.packages_distributions() if needs else {}
    owned = [owner for name in needs for owner in owners.get(name, [])[:1]]
    return {owner: importlib.metadata.version(owner) for owner in owned}


def rows(records: Sequence[Record]) -> list[dict[str, str]]:
    """One table row a record, all with one key set."""
    names = list(dict.fromkeys(name for record in records for name in record.values))
    table = []
    for record in records:
        row = {"case": record.case, "contender": record.name}
        for kind in ("cpu", "wall"):
            times = getattr(record, kind)
            row[f"{kind} s"] = f"{statistics.median(times):.3g}" if times else "-"
            low, median, high = record.ratios.get(kind, (0.0, 0.0, 0.0))
            ratio = f"{median:.3g} ({low:.3g} to {high:.3g})"
            row[f"{kind} ratio"] = ratio if kind in record.ratios else "-"
        row["peak MB"] = "-" if record.peak_mb is None else f"{record.peak_mb:.0f}"
        for name in names:
            row[name] = f"{record.values[name]:.4g}" if name in record.values else "-"
        versions = ", ".join(f"{key} {value}" for key, value in record.versions.items())
        row["note"] = record.why_not or versions
        table.append(row)
    return table


def markdown(records: Sequence[Record]) -> str:
    """The rows as a Markdown table."""
    table = rows(records)
    lines = [list(table[0]), ["---"] * len(table[0]), *(list(row.values()) for row in table)]
    cells = ([cell.replace("|", "\\|") for cell in line] for line in lines)
    return "".join(f"| {' | '.join(line)} |\n" for line in cells)


def draw(title: str, records: Sequence[Record], path: Path) -> None:
    """Median CPU time of each contender in each case as bars on a logarithmic axis."""
    from matplotlib.figure import Figure

    timed = [record for record in records if record.cpu]
    figure = Figure(figsize=(8, 1.2 + 0.3 * len(timed)), layout="constrained")
    axes = figure.subplots()
    names = list(dict.fromkeys(record.name for record in records))
    axes.barh(
        [f"{record.case}: {record.name}" for record in timed],
        [statistics.median(record.cpu) for record in timed],
        color=[f"C{names.index(record.name) % 10}" for record in timed],
    )
    axes.invert_yaxis()
    axes.set(title=title, xlabel="CPU seconds (median)", xscale="log")
    figure.savefig(path)


def main(
    title: str,
    contenders: Sequence[Contender],
    cases: Sequence[str],
    arguments: Sequence[str] | None = None,
) -> int:
    """Read the command line, measure, print the table and write the files asked for."""
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--case", action="append", choices=cases, help="only this case; repeatable")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each (5)")
    parser.add_argument("--limit", type=int, default=600, help="seconds one run may take (600)")
    parser.add_argument("--json", type=Path, help="write all numbers to this file")
    parser.add_argument("--markdown", type=Path, help="write the table to this file")
    parser.add_argument("--plot", type=Path, help="draw the times into this .png or .svg file")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve is not None:
        chosen = next(entry for entry in contenders if entry.name == options.serve)
        serve(chosen, options.case[0], options.limit)
        return 0
    if options.repeats < 1:
        parser.error(f"--repeats {options.repeats}: expected at least 1")

    from rich.console import Console
    from rich.table import Table

    records: list[Record] = []
    with Console(stderr=True).status(title) as status:
        for case in options.case or cases:
            records += compare(
                contenders,
                case,
                repeats=options.repeats,
                limit=options.limit,
                script=sys.argv[0],
                tell=status.update,
            )
    table = Table(title=title, caption=f"ratios are to {contenders[0].name}")
    for column in rows(records)[0]:
        table.add_column(column, overflow="fold")
    for row in rows(records):
        table.add_row(*row.values())
    console = Console()
    console.print(table)
    for reason in dict.fromkeys(f"{r.name}: {r.why_not}" for r in records if r.why_not):
        console.print(f"not measured: {reason}", markup=False, soft_wrap=True)
    if options.markdown:
        options.markdown.write_text(markdown(records), encoding="utf-8")
    if options.plot:
        draw(title, records, options.plot)
    if options.json:
        machine = {"system": platform.platform(), "cores": os.cpu_count()}
        measured = [vars(record) for record in records]
        report = {"title": title, "machine": machine, "records": measured}
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0
