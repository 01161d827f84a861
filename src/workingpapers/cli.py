"""The command `workingpapers`: the main job, the catalogue, and every system's verbs, lazily."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.table import Table
from typer._click import Command, Context
from typer.core import TyperCommand, TyperGroup

from workingpapers.catalogue import PAPERS, Paper, built_papers, open_system, paper
from workingpapers.foundation import console
from workingpapers.foundation.console import Exit, Force, Json, Seed
from workingpapers.foundation.errors import InputError
from workingpapers.foundation.evidence import SCALES

if TYPE_CHECKING:
    from workingpapers.foundation.parallel import Engine


class SystemsGroup(TyperGroup):
    """The root: lists each built system from the catalogue and imports its verbs when called."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for entry in built_papers():
            stub = TyperCommand(
                entry.system, help=entry.summary, rich_help_panel="Systems, one a paper"
            )
            self.add_command(stub)

    def resolve_command(
        self, ctx: Context, args: list[str]
    ) -> tuple[str | None, Command | None, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        if name in {entry.system for entry in built_papers()}:
            assert name is not None
            app = open_system(name, "cli").app
            command = typer.main.get_group(app)
            command.name = name
        return name, command, rest


app = typer.Typer(
    cls=SystemsGroup,
    name="workingpapers",
    help="Eleven papers of one day as software: every claim measured again on your machine.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool | None) -> None:
    if wanted:
        from workingpapers import __version__

        console.out.print(f"workingpapers {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool | None,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = None,
) -> None:
    """Eleven papers of one day as software: every claim measured again on your machine."""


@app.command(
    epilog="Example: workingpapers reproduce lens --scale laptop --out my-report --json",
)
def reproduce(
    systems: Annotated[
        list[str] | None, typer.Argument(metavar="[SYSTEM]...", help="Systems; default: all.")
    ] = None,
    scale: Annotated[
        str, typer.Option(help="quick (seconds), laptop (minutes) or paper (the paper's sizes).")
    ] = "quick",
    claim: Annotated[
        list[str] | None, typer.Option(metavar="SYSTEM/ID", help="Only this claim; repeatable.")
    ] = None,
    seed: Seed = 0,
    out: Annotated[Path, typer.Option(help="Folder of the report; ours is continued.")] = Path(
        "report"
    ),
    engine: Annotated[str, typer.Option(help="local, or ray (RAY_ADDRESS or a local one).")] = (
        "local"
    ),
    jobs: Annotated[int, typer.Option(min=0, help="Tasks at a time; 0: one a core.")] = 0,
    device: console.Device = "auto",
    data: Annotated[
        list[str] | None,
        typer.Option(metavar="SYSTEM.NAME=PATH", help="A file of yours; repeatable."),
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="Compare with this findings.json, claim by claim.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget kept results first.")] = False,
    force: Force = False,
    as_json: Json = False,
) -> int:
    """Measure the papers' claims again and write a report.

    The report is one file, index.html, in the folder given by --out. A run that was interrupted
    goes on where it stopped when the same command is given again.
    """
    if scale not in SCALES:
        raise InputError(f"--scale {scale}: expected {', '.join(SCALES)}")
    if engine not in ("local", "ray"):
        raise InputError(f"--engine {engine}: expected local or ray")
    from workingpapers.reproduce.against import compare, read_findings
    from workingpapers.reproduce.report import terminal_table
    from workingpapers.reproduce.runner import Request, reproduce

    # Theirs is read first: a mistyped path should not cost a run.
    theirs = read_findings(against) if against is not None else None
    request = Request(
        systems=tuple(systems or ()),
        scale=scale,
        claims=tuple(claim or ()),
        seed=seed,
        out=out,
        engine=cast("Engine", engine),
        jobs=jobs,
        device=console.choose_device(device),
        data=_parse_data(data or []),
        fresh=fresh,
        force=force,
    )
    content = reproduce(request)
    compared = compare(content["findings"], theirs) if theirs is not None else None
    if compared is not None:
        content = {**content, "against": compared}
    if as_json:
        console.print_json(content)
    screen = console.err if as_json else console.out
    screen.print(terminal_table(content["findings"]))
    if compared is not None:
        screen.print(_comparison_table(compared, str(against)))
    screen.print(f"report: {out / 'index.html'}", markup=False)
    failed = _failed_systems(request.out, {finding["system"] for finding in content["findings"]})
    return Exit.NO if failed else Exit.DONE


def _parse_data(pairs: list[str]) -> dict[str, dict[str, Path]]:
    data: dict[str, dict[str, Path]] = {}
    for pair in pairs:
        name, equals, path = pair.partition("=")
        system, dot, key = name.partition(".")
        if not (equals and dot and system and key and path):
            raise InputError(f"--data {pair}: expected SYSTEM.NAME=PATH")
        data.setdefault(system, {})[key] = Path(path)
    return data


def _failed_systems(folder: Path, systems: set[str]) -> list[str]:
    """The systems whose run failed, or one of whose claims did."""
    failed = []
    for system in sorted(systems):
        status = json.loads((folder / system / "results.json").read_text())["status"]
        found = json.loads((folder / system / "findings.json").read_text())["findings"]
        if status == "failed" or any(finding["verdict"] == "failed" for finding in found):
            failed.append(system)
    return failed


def _comparison_table(rows: list[dict[str, Any]], name: str) -> Table:
    table = Table(title=f"against {name}", title_justify="left")
    for column in ("claim", "here", "there", "agreement"):
        table.add_column(column, justify="right" if column in ("here", "there") else "left")
    for row in rows:
        values = ["-" if row[side] is None else f"{row[side]:.4g}" for side in ("here", "there")]
        table.add_row(f"{row['system']}/{row['claim']}", *values, row["agreement"])
    return table


@app.command(epilog="Example: workingpapers papers lens")
def papers(
    system: Annotated[str | None, typer.Argument(help="A system: lists its claims.")] = None,
    as_json: Json = False,
) -> None:
    """List the eleven papers, or one system's claims and thresholds, without running anything."""
    if system is None:
        _list_papers(as_json)
        return
    names = [entry.system for entry in PAPERS]
    if system not in names:
        raise InputError(f"{system}: no such system; the papers are {', '.join(names)}")
    entry = paper(system)
    if not entry.built:
        raise InputError(f"{system}: this release does not hold this system yet")
    _list_claims(entry, as_json)


def _installed(entry: Paper) -> list[str]:
    """What the system's experiment lacks on this machine; empty where it can run."""
    from workingpapers.foundation.evidence import Needs
    from workingpapers.reproduce.needs import missing_needs

    needs: Needs = open_system(entry.system, "experiment").EXPERIMENT.needs
    return missing_needs(needs.at("quick"), entry.system, {})


def _list_papers(as_json: bool) -> None:
    lacking = {entry.system: _installed(entry) for entry in PAPERS if entry.built}
    if as_json:
        console.print_json(
            [
                {
                    "system": entry.system,
                    "title": entry.title,
                    "authors": list(entry.authors),
                    "arxiv": entry.arxiv,
                    "summary": entry.summary,
                    "built": entry.built,
                    "installed": entry.built and not lacking[entry.system],
                }
                for entry in PAPERS
            ]
        )
        return
    table = Table(title="Hot papers of 12 August 2021", title_justify="left", show_lines=False)
    table.add_column("system", style="bold")
    table.add_column("paper")
    table.add_column("arXiv")
    table.add_column("state")
    for entry in PAPERS:
        state = "not built yet"
        if entry.built:
            state = "ready" if not lacking[entry.system] else "; ".join(lacking[entry.system])
        table.add_row(entry.system, entry.title, entry.arxiv, state)
    console.out.print(table)


def _list_claims(entry: Paper, as_json: bool) -> None:
    claims = open_system(entry.system, "experiment").EXPERIMENT.claims
    if as_json:
        console.print_json(
            [
                {
                    "system": entry.system,
                    "claim": claim.id,
                    "kind": claim.kind,
                    "statement": claim.statement,
                    "source": claim.source,
                    "reported": claim.reported,
                    "test": str(claim.test),
                    "unit": claim.unit,
                    "scale": claim.scale,
                    "runs": 1 if claim.deterministic else claim.runs,
                    "deterministic": claim.deterministic,
                    "timed": claim.timed,
                }
                for claim in claims
            ]
        )
        return
    console.out.print(f"{entry.title}\n{', '.join(entry.authors)}\n{entry.url}", markup=False)
    for kind, title in (("paper", "Claims of the paper"), ("extension", "Extensions")):
        table = Table(title=title, title_justify="left", show_lines=True)
        for column in ("claim", "statement", "paper's value", "test", "judged from"):
            table.add_column(column, ratio=3 if column == "statement" else None)
        for claim in claims:
            if claim.kind == kind:
                test = f"{claim.test} {claim.unit}".strip()
                table.add_row(claim.id, claim.statement, claim.reported, test, claim.scale)
        if table.row_count:
            console.out.print(table)


def main() -> None:
    """Entry point of the command."""
    console.run_command(lambda: app(standalone_mode=False))
