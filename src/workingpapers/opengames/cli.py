"""The verbs of `workingpapers opengames`: institutions as games, checked, solved, swept, drawn."""

import functools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from workingpapers.foundation import console
from workingpapers.foundation.console import Exit, Force, Json, Seed
from workingpapers.foundation.errors import InputError
from workingpapers.opengames.sources import (
    Axis,
    Source,
    blame_own_code,
    open_file,
    open_game,
    open_with_settings,
    profile_of,
    read_setting,
    settings_of,
    split_params,
    takes_whole_numbers,
)

if TYPE_CHECKING:
    from rich.status import Status

    from workingpapers.opengames.design import Sweep
    from workingpapers.opengames.games import Game
    from workingpapers.opengames.simulate import Learning, Plays
    from workingpapers.opengames.solve import Solutions

NOTIONS = ("agent", "player", "perfect", "pbe")
METHODS = ("pure", "backward", "dynamics", "cfr", "fictitious", "logit")


app = typer.Typer(
    help="Compose games into institutions; check, solve, sweep and draw them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

GameText = Annotated[
    str,
    typer.Argument(
        metavar="GAME",
        help="A name of the library; FILE.py:FUNCTION, whose code is run; or an .efg, .nfg, .json "
        "or .toml file.",
    ),
]
StrategyText = Annotated[
    str | None,
    typer.Option(
        "--strategy",
        metavar="NAME-or-FILE",
        help="A profile of the library's, uniform, a .json file, a .csv file of observed play, or "
        "DECISION=ACTION,DECISION=ACTION.",
    ),
]
Params = Annotated[
    list[str] | None,
    typer.Option("--param", metavar="NAME=VALUE", help="A parameter of the game; repeatable."),
]
Ranges = Annotated[
    list[str] | None,
    typer.Option(
        "--param",
        metavar="NAME=LOW:HIGH[:COUNT]",
        help="A parameter to vary, also NAME=A,B,C; or NAME=VALUE, one to set; repeatable.",
    ),
]
NotionText = Annotated[
    str,
    typer.Option(
        "--notion",
        help="agent (each decision by itself), player (Nash), perfect (everywhere, with beliefs "
        "from trembles) or pbe (off the path with some belief).",
    ),
]


def _finite(option: str) -> Callable[[float], float]:
    """A callback that refuses NaN and infinity, which a least value lets pass."""

    def checked(value: float) -> float:
        if not math.isfinite(value):
            raise InputError(f"{option} {value}: expected a finite number")
        return value

    return checked


Eps = Annotated[
    float,
    typer.Option("--eps", min=0, callback=_finite("--eps"), help="A gain that does not count."),
]
Trust = Annotated[
    bool,
    typer.Option("--trust", help="Run the Python code that a .json or .toml file names."),
]
Picture = Annotated[
    Path | None,
    typer.Option("--picture", help="Also draw a picture into this .svg, .png or .pdf file."),
]


def _verb(command: Callable[..., Any]) -> Callable[..., Any]:
    """A verb that tells an error in a user's own game from one of ours."""

    @functools.wraps(command)
    def run(*args: Any, **options: Any) -> Any:
        given = options.get("game") or options.get("games") or ()
        with blame_own_code([given] if isinstance(given, str) else given):
            return command(*args, **options)

    return run


# ---- the library


@app.command("list", epilog="Example: workingpapers opengames list")
def list_games(as_json: Json = False) -> None:
    """List the institutions of the library."""
    from workingpapers.opengames import library

    rows = []
    for name in library.names():
        entry = library.load(name)
        module = str(entry.factory.__module__).rsplit(".", 1)[-1]
        brief, _, _ = entry.summary.partition(". ")
        rows.append({"name": name, "kind": module, "summary": brief.rstrip(".")})
    if as_json:
        console.print_json(rows)
        return
    _print_rows(rows, f"{len(rows)} institutions")


@app.command(epilog="Example: workingpapers opengames show irrigation_monitored --facts")
@_verb
def show(
    game: GameText,
    params: Params = None,
    facts: Annotated[
        bool, typer.Option("--facts", help="Measure what is known about a library game again.")
    ] = False,
    trust: Trust = False,
    as_json: Json = False,
) -> int:
    """Show a game: who decides what on which observations, its size, what is known about it.

    With --facts, the exit code is 1 if something known is not found.
    """
    from workingpapers.opengames import library

    source = open_game(game, trust)
    if facts and source.entry is None:
        raise InputError(f"--facts: {game} is not of the library")
    built = source.build(settings_of(source, params))
    content = _description(built, source)
    checked = list(library.facts(source.entry)) if facts and source.entry else []
    wrong = [fact for fact in checked if not fact.ok]
    if facts:
        content["facts"] = [{"fact": str(fact), "ok": fact.ok, "source": fact.source}
                            for fact in checked]  # fmt: skip
    if as_json:
        console.print_json(content)
    else:
        _print_description(content, source)
        for fact in checked:
            console.out.print(f"{'found' if fact.ok else 'NOT FOUND'}: {fact}", markup=False)
    return Exit.NO if wrong else Exit.DONE


# ---- equilibria


@app.command(
    epilog="Example: workingpapers opengames check irrigation_monitored --strategy 'work, crack' "
    "--param fine=.3"
)
@_verb
def check(
    game: GameText,
    strategy: StrategyText = None,
    notion: NotionText = "agent",
    params: Ranges = None,
    eps: Eps = 0.0,
    full: Annotated[
        bool, typer.Option("--full", help="Every decision, also those where nobody gains.")
    ] = False,
    picture: Picture = None,
    trust: Trust = False,
    force: Force = False,
    as_json: Json = False,
) -> int:
    """Check whether a profile of strategies is an equilibrium, and say who would deviate and why.

    Exit code 0: an equilibrium; 1: not. A --param with a range keeps its value; the report then
    says for which part of the range the profile holds. Where it is no equilibrium, this is also
    said, without being asked, of the first three parameters that have a decimal point and on which
    only payoffs depend.
    """
    console.check_choice("--notion", notion, NOTIONS)
    console.claim_picture(picture, force=force)
    source = open_game(game, trust)
    fixed, varied = split_params(source, params)
    _need_ends(varied)
    built = source.build(fixed)
    profile = profile_of(source, built, strategy)
    report = built.check(profile, cast(Any, notion), eps=eps)
    ranges = [axis for axis in varied.values() if not takes_whole_numbers(source, axis, fixed)]
    holds = [
        _holding_whole(source, profile, axis, fixed, notion, eps)
        for axis in varied.values()
        if axis not in ranges
    ]
    holds += _holding(built, profile, ranges, notion, eps, search=not (report.ok or varied))
    if as_json:
        content = {"game": built.title, "parameters": _plain(built.parameters), **report.to_json()}
        console.print_json(_plain({**content, "holds": [one.to_json() for one in holds]}))
    else:
        console.out.print(report.explain(full=full), markup=False)
        for one in holds:
            console.out.print(str(one), markup=False)
    if picture is not None:
        from workingpapers.opengames import draw

        console.save_picture(draw.payoffs(report), picture)
    return Exit.DONE if report.ok else Exit.NO


@app.command(epilog="Example: workingpapers opengames solve kuhn_poker --method cfr --out s.json")
@_verb
def solve(
    game: GameText,
    method: Annotated[
        str,
        typer.Option(
            help="pure, backward, dynamics, cfr, fictitious, logit, or gambit:METHOD (lcp, "
            "enummixed, gnm, ...).",
        ),
    ] = "pure",
    notion: NotionText = "agent",
    params: Params = None,
    constant: Annotated[
        bool, typer.Option("--constant", help="pure: the same action whatever is seen.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, help="pure, backward: at most so many.")] = 1000,
    time_limit: Annotated[float, typer.Option(min=0, help="pure: seconds.")] = 60.0,
    iterations: Annotated[int, typer.Option(min=1, help="cfr, fictitious.")] = 1000,
    precision: Annotated[
        float,
        typer.Option(
            min=0, callback=_finite("--precision"), help="logit: per unit of payoff; 0 is chance."
        ),
    ] = 1.0,
    restarts: Annotated[int, typer.Option(min=1, help="dynamics: random starts.")] = 10,
    tolerance: Annotated[
        float,
        typer.Option(
            min=0,
            callback=_finite("--tolerance"),
            help="cfr, fictitious: the regret that counts as converged.",
        ),
    ] = 0.01,
    eps: Eps = 0.0,
    out: Annotated[
        Path | None, typer.Option(help="Write the strategies of profile --pick to this .json file.")
    ] = None,
    pick: Annotated[int, typer.Option(min=1, help="Which profile --out writes, from 1.")] = 1,
    seed: Seed = 0,
    trust: Trust = False,
    force: Force = False,
    as_json: Json = False,
) -> int:
    """Find equilibria. Every profile is checked and printed with its measured regret.

    A list is called complete only where the method looked at everything. Exit code 1: nothing was
    found; 3: the method did not converge, or --tolerance is not met.
    """
    console.check_choice("--notion", notion, NOTIONS)
    if method.partition(":")[0] != "gambit":
        console.check_choice("--method", method, (*METHODS, "gambit:METHOD"))
    console.claim_file(out, force=force, option="--out")
    from workingpapers.opengames import solve as solving

    source = open_game(game, trust)
    built = source.build(settings_of(source, params))
    # A compiled loop cannot say how far it is; that it is at work is all there is to show.
    with _at_work(f"solving {built.title} by {method}"):
        if method == "pure":
            found = solving.pure(built, cast(Any, notion), constant, limit, time_limit, eps)
        elif method == "backward":
            found = solving.backward(built, limit)
        elif method == "dynamics":
            found = solving.dynamics(built, restarts, seed)
        elif method == "cfr":
            found = solving.cfr(built, iterations)
        elif method == "fictitious":
            found = solving.fictitious_play(built, iterations)
        elif method == "logit":
            found = solving.logit(built, precision)
        else:
            found = solving.gambit(built, method.partition(":")[2] or "lcp")
    averaged = method in ("cfr", "fictitious")
    missed = averaged and any(one.regret > tolerance for one in found)
    if as_json:
        console.print_json(_plain(_solutions_json(built, found)))
    else:
        console.out.print(found.explain(), markup=False)
    if out is not None and found.items:
        _write_strategies(built, found, out, pick)
    if missed:
        console.err.print(
            f"note: the regret is above --tolerance {tolerance:g}; this is not an equilibrium",
            markup=False,
        )
    if not found.converged or missed:
        return Exit.NOT_CONVERGED
    return Exit.DONE if found.items else Exit.NO


# ---- design


@app.command(
    epilog="Example: workingpapers opengames sweep irrigation_monitored --param fine=0:1:201 "
    "--param pay_rate=0:1:201 --strategy 'work, crack' --out map"
)
@_verb
def sweep(
    game: GameText,
    params: Ranges = None,
    strategy: StrategyText = None,
    solve_each: Annotated[
        bool,
        typer.Option("--solve", help="Count the constant pure equilibria instead of a profile's."),
    ] = False,
    measure: Annotated[
        str | None,
        typer.Option(
            help="Of equilibrium, gain, welfare, gini, payoff:PLAYER, with commas; not with "
            "--solve.",
        ),
    ] = None,
    notion: NotionText = "agent",
    eps: Eps = 0.0,
    out: Annotated[
        Path | None, typer.Option(help="Folder for sweep.csv, sweep.json and the pictures.")
    ] = None,
    picture: Annotated[str, typer.Option(help="Of the pictures: svg, png or pdf.")] = "svg",
    trust: Trust = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Measure a game over a grid of its parameters; two of them make a map.

    A parameter that only payoffs use is evaluated for the whole grid at once; one that changes
    what can happen has the game compiled again at each of its values.
    """
    console.check_choice("--notion", notion, NOTIONS)
    suffix = console.check_choice("--picture", picture, ("svg", "png", "pdf"))
    from workingpapers.opengames import design

    source = open_game(game, trust)
    factory = source.needs_factory("sweep")
    fixed, varied = split_params(source, params)
    if not varied:
        raise InputError("--param: expected at least one with a range, such as fine=0:1:201")
    if solve_each and strategy is not None:
        raise InputError("--solve: takes no --strategy")
    measures = _measures(measure, solve_each)
    for axis in varied.values():
        if axis.numeric and not axis.whole and takes_whole_numbers(source, axis, fixed):
            raise InputError(
                f"--param {axis.text}: {axis.name} takes whole numbers; expected A,B,C or a count "
                "that gives them"
            )
    grids = {name: axis.points() for name, axis in varied.items()}
    profile: Any = "solve"
    if not solve_each:
        profile = profile_of(source, source.build(fixed), strategy)
    if out is not None and out.exists():
        # Refused before the work; a new folder is made after it.
        console.claim_folder(out, force=force)
    points = math.prod(len(grid) for grid in grids.values())
    with console.progress("sweeping", points) as advance:
        found = design.sweep(
            factory, grids, profile, measures=measures, params=fixed, notion=cast(Any, notion),
            eps=eps, progress=advance,
        )  # fmt: skip
    pictures = []
    if out is not None:
        console.claim_folder(out, force=force)
        found.to_csv(out / "sweep.csv")
        console.write_atomically(out / "sweep.json", _json_text(found.to_json()))
        drawn = len(grids) <= 2 and all(axis.numeric for axis in varied.values())
        for name in measures if drawn else ():
            path = out / f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', name)}.{suffix}"
            console.save_picture(found.draw(name), path, quiet=True)
            pictures.append(str(path))
    if as_json:
        console.print_json(_plain(found.to_json()))
        return
    _print_sweep(found)
    if out is not None:
        written = [str(out / "sweep.csv"), str(out / "sweep.json"), *pictures]
        console.out.print(f"written: {', '.join(written)}", markup=False)


@app.command(
    epilog="Example: workingpapers opengames search irrigation_monitored --minimise pay_rate "
    "--minimise fine --param pay_rate=0:1 --param fine=0:1 --subject-to 'work, crack' "
    "--method bisect"
)
@_verb
def search(
    game: GameText,
    params: Ranges = None,
    maximise: Annotated[
        list[str] | None,
        typer.Option(
            help="welfare, a parameter, or payoff:PLAYER; repeated: later ones break ties."
        ),
    ] = None,
    minimise: Annotated[
        list[str] | None, typer.Option(help="As --maximise; only one of the two may be given.")
    ] = None,
    subject_to: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME-or-FILE", help="A profile that must be an equilibrium."),
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            help="grid, refined around the best; bisect, each of the parameters to its extreme; "
            "evolution; gradient, under logit play, where no profile has to hold.",
        ),
    ] = "grid",
    points: Annotated[int, typer.Option(min=3, help="grid, bisect: values a parameter.")] = 41,
    precision: Annotated[
        float,
        typer.Option(min=0, callback=_finite("--precision"), help="gradient: of the logit play."),
    ] = 10.0,
    notion: NotionText = "agent",
    eps: Eps = 0.0,
    seed: Seed = 0,
    trust: Trust = False,
    as_json: Json = False,
) -> int:
    """Search parameters of an institution: best by an objective, with profiles that must hold.

    Payoffs are those of the first profile. Exit code 1: no parameters were found with which all
    profiles are equilibria.
    """
    console.check_choice("--notion", notion, NOTIONS)
    console.check_choice("--method", method, ("grid", "bisect", "evolution", "gradient"))
    if bool(maximise) == bool(minimise):
        raise InputError("search: expected --maximise or --minimise, one of the two")
    if not subject_to and method != "gradient":
        raise InputError("--subject-to: expected a profile that is to be an equilibrium")
    if subject_to and method == "gradient":
        raise InputError("--subject-to: the gradient method takes no profiles")
    from workingpapers.opengames import design

    source = open_game(game, trust)
    factory = source.needs_factory("search")
    fixed, varied = split_params(source, params)
    if not varied:
        raise InputError("--param: expected at least one with a range, such as fine=0:1")
    _need_ends(varied)
    for axis in varied.values():
        if takes_whole_numbers(source, axis, fixed):
            raise InputError(
                f"--param {axis.text}: {axis.name} takes whole numbers; search needs decimals, "
                "sweep takes both"
            )
    space = {name: (axis.low, axis.high) for name, axis in varied.items()}
    built = source.build(fixed)
    goals = [*(maximise or []), *(f"-{name}" for name in minimise or [])]
    held = [
        design.equilibrium(profile_of(source, built, text), cast(Any, notion), eps)
        for text in subject_to or []
    ]
    with _at_work(f"searching by {method}"):
        found = design.search(
            factory, space, goals[0] if len(goals) == 1 else goals, subject_to=held,
            method=cast(Any, method), params=fixed, seed=seed, points=points, precision=precision,
        )  # fmt: skip
    if as_json:
        console.print_json(_plain(found.to_json()))
    elif not found.feasible:
        console.out.print(
            f"nothing found: of {found.evaluations:,} settings looked at none makes "
            f"{'the profile an equilibrium' if len(held) == 1 else 'all profiles equilibria'}",
            markup=False,
        )
    else:
        at = ", ".join(f"{name} {value:.9g}" for name, value in found.parameters.items())
        goal = goals[0].removeprefix("-")
        worth = -found.objective if goals[0].startswith("-") else found.objective
        head = "" if goal in found.parameters else f"{goal} {worth:.6g} at "
        console.out.print(head + at, markup=False)
        if found.payoffs:
            console.out.print(f"payoffs: {_cell(found.payoffs)}", markup=False)
        console.out.print(f"{found.method}: {found.evaluations:,} settings looked at", markup=False)
    return Exit.DONE if found.feasible else Exit.NO


@app.command(
    epilog="Example: workingpapers opengames compare irrigation irrigation_monitored "
    "irrigation_random_roles"
)
@_verb
def compare(
    games: Annotated[
        list[str],
        typer.Argument(
            metavar="GAME...",
            help="Two or more, each as for `check`, or with its own parameters: GAME,NAME=VALUE.",
        ),
    ],
    params: Annotated[
        list[str] | None,
        typer.Option("--param", metavar="NAME=VALUE", help="For every game that has it."),
    ] = None,
    pareto: Annotated[
        str | None,
        typer.Option(
            metavar="MEASURES",
            help="Keep only rows that no other beats in all of these, such as welfare,-gini.",
        ),
    ] = None,
    eps: Eps = 0.0,
    trust: Trust = False,
    as_json: Json = False,
) -> None:
    """Compare institutions side by side: equilibria in constant strategies, welfare, inequality.

    One row an equilibrium; an institution without any has a row that says so.
    """
    if len(games) < 2:
        raise InputError("compare: expected two games or more")
    from workingpapers.opengames import design

    shared = [read_setting(text) for text in params or []]
    opened = [open_with_settings(text, trust) for text in games]
    for name, _ in shared:
        if not any(source.factory and name in source.factory.params for source, _ in opened):
            raise InputError(f"--param {name}: none of the games has this parameter")
    built: dict[str, Game] = {}
    for text, (source, own) in zip(games, opened, strict=True):
        known = source.factory.params if source.factory else {}
        label = text if text not in built else f"{text} ({len(built) + 1})"
        built[label] = source.build({**{n: v for n, v in shared if n in known}, **own})
    rows: list[Any] = []
    with console.progress("comparing", len(built)) as advance:
        for label, one in built.items():
            rows += design.compare({label: one}, eps=eps)
            advance(1)
    if pareto is not None:
        measured = [row for row in rows if row["welfare"] is not None and row["gini"] is not None]
        rows = list(design.pareto(measured, [name.strip() for name in pareto.split(",")]))
    if as_json:
        console.print_json(_plain(rows))
        return
    _print_rows(rows, f"{len(built)} institutions")


# ---- play


@app.command(
    epilog="Example: workingpapers opengames simulate stag_hunt --learn replicator --seed 1"
)
@_verb
def simulate(
    game: GameText,
    strategy: StrategyText = None,
    n: Annotated[int, typer.Option("-n", min=1, help="Plays.")] = 10_000,
    learn: Annotated[
        str | None,
        typer.Option(
            metavar="RULE",
            help="Let populations learn instead: replicator, best_reply, q_learning or "
            "experience_weighted.",
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="--learn: rounds.")] = 1000,
    runs: Annotated[int, typer.Option(min=1, help="--learn: independent runs.")] = 20,
    params: Params = None,
    picture: Picture = None,
    seed: Seed = 0,
    trust: Trust = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Play a game many times, or let populations learn it; averages with their standard errors.

    Exact expected payoffs stand beside the averages where the game can be compiled.
    """
    console.claim_picture(picture, force=force)
    from workingpapers.opengames import simulate as simulating

    if learn is None:
        if picture is not None:
            raise InputError("--picture: only with --learn")
    else:
        console.check_choice("--learn", learn, simulating.RULES)
    source = open_game(game, trust)
    built = source.build(settings_of(source, params))
    if learn is None:
        plays, exact = _played(built, profile_of(source, built, strategy), n, seed)
        _show_plays(plays, exact, as_json)
        return
    start = None if strategy is None else profile_of(source, built, strategy)
    with _at_work(f"learning by {learn}"):
        learned = simulating.learn(built, cast(Any, learn), rounds, seed, runs=runs, start=start)
    if picture is not None:
        from workingpapers.opengames import draw

        series = {
            player: learned.payoffs[:, at] for at, player in enumerate(learned.frontier.players)
        }
        console.save_picture(
            draw.lines(
                "round", list(range(rounds + 1)), series, f"{built.title}: {learn}", "mean payoff"
            ),
            picture,
        )
    _show_learning(learned, as_json)


@app.command(epilog="Example: workingpapers opengames bench irrigation --param farmers=200")
@_verb
def bench(
    game: GameText,
    strategy: StrategyText = None,
    params: Params = None,
    repeats: Annotated[int, typer.Option(min=1, help="The median of so many is shown.")] = 5,
    trust: Trust = False,
    as_json: Json = False,
) -> None:
    """Time the building, the compilation and the check of a game, each as a median of repeats.

    Without --strategy the uniform profile is checked.
    """
    import statistics
    import time

    source = open_game(game, trust)
    settings = settings_of(source, params)
    seconds: dict[str, list[float]] = {"build": [], "compile": [], "check": []}

    def timed(what: str, work: Callable[..., Any], *given: Any) -> Any:
        begin = time.perf_counter()
        result = work(*given)
        seconds[what].append(time.perf_counter() - begin)
        return result

    built = source.build(settings)
    profile = profile_of(source, built, strategy or "uniform")
    # Once without the clock, so that no kernel is compiled while it runs.
    built.check(profile)
    with console.progress("timing", repeats) as advance:
        for _ in range(repeats):
            built = timed("build", source.rebuild, settings)
            timed("compile", _compile, built)
            timed("check", built.check, profile)
            advance(1)
    medians = {what: statistics.median(times) for what, times in seconds.items()}
    content: dict[str, Any] = {"game": built.title, "engine": built.engine, "repeats": repeats}
    if built.engine == "frontier":
        content["transitions"] = built.frontier.n_transitions
    if as_json:
        console.print_json({**content, "seconds": medians})
        return
    size = f", {content['transitions']:,} transitions" if "transitions" in content else ""
    console.out.print(f"{built.title}: engine {built.engine}{size}", markup=False)
    for what, median in medians.items():
        spread = f"{min(seconds[what]):.3g} to {max(seconds[what]):.3g}"
        console.out.print(f" {what}: {median:.3g} s (median of {repeats}; {spread})", markup=False)


# ---- pictures and files


@app.command(epilog="Example: workingpapers opengames draw ultimatum --kind tree --out tree.svg")
@_verb
def draw(
    game: GameText,
    out: Annotated[Path, typer.Option(help="A new .svg, .png or .pdf file.")],
    kind: Annotated[
        str, typer.Option(help="diagram, influence, tree, payoffs or phase.")
    ] = "diagram",
    strategy: StrategyText = None,
    params: Params = None,
    max_nodes: Annotated[int, typer.Option(min=1, help="tree: refuse more nodes.")] = 200,
    trust: Trust = False,
    force: Force = False,
) -> None:
    """Draw a game: string diagram, influence diagram, tree, payoffs of a profile, or phase plot."""
    console.check_choice("--kind", kind, ("diagram", "influence", "tree", "payoffs", "phase"))
    if strategy is not None and kind != "payoffs":
        raise InputError("--strategy: only with --kind payoffs")
    console.claim_picture(out, force=force, option="--out")
    source = open_game(game, trust)
    built = source.build(settings_of(source, params))
    from workingpapers.opengames import draw as drawing

    if kind == "payoffs":
        figure = drawing.payoffs(built.check(profile_of(source, built, strategy)))
    elif kind == "tree":
        figure = drawing.tree(built, max_nodes)
    else:
        figure = getattr(drawing, kind)(built)
    console.save_picture(figure, out)


@app.command(epilog="Example: workingpapers opengames export ultimatum --to efg --out game.efg")
@_verb
def export(
    game: GameText,
    out: Annotated[Path, typer.Option(help="The new file.")],
    to: Annotated[
        str | None, typer.Option(help="efg, nfg or json; by default as --out ends.")
    ] = None,
    params: Params = None,
    trust: Trust = False,
    force: Force = False,
) -> None:
    """Write a game as Gambit's tree (efg) or table (nfg), or compiled as data (json)."""
    kind = to or out.suffix.lower().removeprefix(".")
    console.check_choice("--to" if to else f"--out {out}: --to", kind, ("efg", "nfg", "json"))
    console.claim_file(out, force=force, option="--out")
    from workingpapers.opengames import files

    source = open_game(game, trust)
    built = source.build(settings_of(source, params))
    if kind == "json":
        files.write_json(built, out)
    else:
        (files.write_efg if kind == "efg" else files.write_nfg)(built, out)
    console.err.print(f"{kind}: {out}", markup=False)


@app.command("import", epilog="Example: workingpapers opengames import game.efg --out game.json")
def import_file(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="An .efg, .nfg, .json or .toml file.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Write the game, compiled, to this .json file.")
    ] = None,
    trust: Trust = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Read a game's file and say what is in it. No code is run but what --trust allows."""
    console.claim_file(out, force=force, option="--out")
    from workingpapers.opengames import files

    source = open_file(file, trust)
    built = source.build({})
    content = _description(built, source)
    if out is not None:
        files.write_json(built, out)
        console.err.print(f"json: {out}", markup=False)
    if as_json:
        console.print_json(content)
        return
    _print_description(content, source)


MEASURES = ("equilibrium", "gain", "welfare", "gini", "payoff:PLAYER")


def _measures(text: str | None, solve_each: bool) -> tuple[str, ...]:
    """What --measure asks for."""
    if solve_each:
        if text is not None:
            raise InputError("--measure: not with --solve, which counts the equilibria")
        return ("equilibria",)
    if text is None:
        return ("equilibrium", "welfare")
    measures = tuple(name.strip() for name in text.split(","))
    for name in measures:
        if name not in MEASURES[:-1] and not name.startswith("payoff:"):
            raise InputError(f"--measure {name or 'is empty'}: expected {', '.join(MEASURES)}")
    return measures


def _need_ends(varied: Mapping[str, Axis]) -> None:
    """Refuse words where a range is looked at."""
    for axis in varied.values():
        if not axis.numeric:
            raise InputError(f"--param {axis.text}: expected LOW:HIGH; only sweep takes words")


def _at_work(text: str) -> "Status":
    from rich.text import Text

    return console.err.status(Text(text))


# ---- doing


@dataclass(frozen=True)
class _Holding:
    """Where, along one parameter, a profile is an equilibrium."""

    name: str
    low: float
    high: float
    spans: list[tuple[float, float]]

    def __str__(self) -> str:
        looked = f"{self.low:.6g} ... {self.high:.6g}"
        if not self.spans:
            return f"holds for no {self.name} in {looked}"
        spans = " and ".join(f"{low:.6g} ... {high:.6g}" for low, high in self.spans)
        return f"holds for {self.name} in {spans} (looked at {looked})"

    def to_json(self) -> dict[str, Any]:
        return {
            "parameter": self.name,
            "low": self.low,
            "high": self.high,
            "spans": [list(span) for span in self.spans],
        }


_CHEAP = 20_000
"""Transitions of a game up to which parameters are looked at without being asked."""


def _holding(
    game: "Game",
    profile: Any,
    varied: Sequence[Axis],
    notion: str,
    eps: float,
    *,
    search: bool,
) -> list[_Holding]:
    """Where a profile holds along the parameters asked for, else along the first three."""
    import numpy as np

    from workingpapers.opengames import design

    def along(name: str, low: float, high: float) -> _Holding:
        spans = design.holding_range(
            game, profile, name, low, high, notion=cast(Any, notion), eps=eps
        )
        return _Holding(name, low, high, spans)

    if varied:
        with _at_work("looking where the profile holds"):
            return [along(axis.name, axis.low, axis.high) for axis in varied]
    if not search or game.factory is None or game.engine != "frontier":
        return []
    if game.frontier.n_transitions > _CHEAP:
        return []
    found: list[_Holding] = []
    for name, value in game.parameters.items():
        if not isinstance(value, float) or len(found) == 3:
            continue
        high = max(1.0, 2 * value)
        ends = np.array([0.0, high])
        try:
            if design.is_batched(game.factory, name, ends, game.parameters):
                found.append(along(name, 0.0, high))
        except InputError:
            # The parameter may not take all of these values.
            continue
    return found


_MOST_WHOLE = 1000


def _holding_whole(
    source: Source, profile: Any, axis: Axis, fixed: Mapping[str, Any], notion: str, eps: float
) -> _Holding:
    """Where a profile holds among whole numbers, each with a game of its own."""
    low, high = math.ceil(axis.low), math.floor(axis.high)
    if not 0 <= high - low < _MOST_WHOLE:
        raise InputError(
            f"--param {axis.text}: {axis.name} takes whole numbers; expected 1 to "
            f"{_MOST_WHOLE:,} of them"
        )
    spans: list[tuple[float, float]] = []
    for value in range(low, high + 1):
        try:
            game = source.build({**fixed, axis.name: value})
            ok = game.check(profile, cast(Any, notion), eps=eps).ok
        except InputError as error:
            raise InputError(f"--param {axis.text}: at {axis.name}={value}: {error}") from None
        if ok and spans and spans[-1][1] == value - 1:
            spans[-1] = (spans[-1][0], value)
        elif ok:
            spans.append((value, value))
    return _Holding(axis.name, low, high, spans)


def _compile(game: "Game") -> None:
    if game.engine == "contraction":
        game.contraction.players  # noqa: B018
    else:
        game.packed  # noqa: B018


def _played(
    game: "Game", profile: Any, n: int, seed: int
) -> tuple["Plays", Mapping[str, float] | None]:
    from workingpapers.opengames import simulate as simulating
    from workingpapers.opengames.compile import StateSpaceTooLarge

    try:
        exact = game.payoffs(profile)
        if game.engine == "frontier":
            return game.play(profile, n, seed), exact
    except StateSpaceTooLarge:
        exact = None
    return simulating.sample_trace(game, profile, n, seed), exact


def _write_strategies(game: "Game", found: "Solutions", out: Path, pick: int) -> None:
    from workingpapers.opengames.strategy import to_json

    if pick > len(found):
        many = "1 profile was" if len(found) == 1 else f"{len(found)} profiles were"
        raise InputError(f"--pick {pick}: only {many} found")
    content = {
        "game": game.title,
        "method": found.method,
        "strategies": to_json(game.frontier, found[pick - 1].profile),
    }
    console.write_atomically(out, _json_text(content))
    console.err.print(f"strategies: {out}", markup=False)


# ---- showing what was found


def _json_text(value: Any) -> str:
    import json

    return json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    """A value as JSON has it; numbers that are not finite are null, what has no form is text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple | range):
        return [_plain(part) for part in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, str | int | float) else str(value)


def _description(game: "Game", source: Source) -> dict[str, Any]:
    """Everything that `show` and `import` say."""
    from workingpapers.opengames.compile import StateSpaceTooLarge
    from workingpapers.opengames.data import UNNAMED
    from workingpapers.opengames.spaces import show as shown

    entry = source.entry
    content: dict[str, Any] = {"game": game.title, "parameters": _plain(game.parameters)}
    if game.factory is not None:
        import inspect

        content["about"] = inspect.getdoc(game.factory) or ""
    if entry is not None:
        content |= {"summary": entry.summary, "source": entry.source}
        content["profiles"] = {
            name: {decision: _move_text(move) for decision, move in profile.items()}
            for name, profile in entry.profiles.items()
        }
        content["known"] = [_known_json(known) for known in entry.known]
    if source.strategies:
        content["strategies"] = _plain(source.strategies)
    content |= {"decisions": list(game.decisions), "engine": game.engine}
    try:
        content["how"] = game.explain()
        content["players"] = list(game.players)
        if game.engine == "frontier":
            content["decisions"] = [
                {
                    "name": decision.name,
                    "players": list(decision.players),
                    "sees": [name for name in decision.labels if name not in UNNAMED],
                    "observations": len(decision.observations),
                    "actions": list(
                        dict.fromkeys(
                            shown(action) for offered in decision.actions for action in offered
                        )
                    ),
                }
                for decision in game.frontier.decisions
            ]
            size = game.size()
            content["size"] = {
                "log10_profiles": size.log10_profiles,
                "log10_outcomes": size.log10_outcomes,
                "states": size.states,
                "transitions": size.transitions,
                "nodes": size.description_length,
            }
            content["warnings"] = list(game.frontier.warnings)
    except StateSpaceTooLarge as error:
        content["how"] = str(error)
    return content


def _known_json(known: Any) -> dict[str, Any]:
    return {
        "profile": known.profile,
        "notion": known.notion,
        "equilibrium": known.equilibrium,
        "parameters": _plain(known.params),
        "payoffs": dict(known.payoffs),
        "eps": known.eps,
        "source": known.source,
    }


def _move_text(move: Any) -> str:
    from workingpapers.opengames.spaces import show as shown

    if isinstance(move, Mapping):
        parts = [f"{shown(key)}: {_move_text(part)}" for key, part in move.items()]
        return "{" + ", ".join(parts[:4] + (["..."] if len(parts) > 4 else [])) + "}"
    return "by what is seen" if callable(move) or hasattr(move, "shape") else shown(move)


def _print_description(content: Mapping[str, Any], source: Source) -> None:
    def say(text: str) -> None:
        console.out.print(text, markup=False)

    say(content["game"])
    for name in ("about", "source"):
        if content.get(name):
            say(content[name] if name == "about" else f"source: {content[name]}")
    if content["parameters"]:
        pairs = (f"{name}={value}" for name, value in content["parameters"].items())
        say("parameters: " + ", ".join(pairs))
    if "players" in content:
        say(f"players: {', '.join(content['players'][:12])}" + _more(content["players"], 12))
    for one in content["decisions"][:20]:
        if isinstance(one, str):
            say(f"  {one}")
            continue
        many = one["observations"]
        named = ", ".join(one["sees"]) or "what has no name"
        seen = f"sees {named} ({many} observations)" if many > 1 else ""
        actions = ", ".join(one["actions"][:8]) + _more(one["actions"], 8)
        line = f"  {one['name']} by {', '.join(one['players'][:6])}{_more(one['players'], 6)}"
        say(f"{line}: {actions}{'; ' if seen else ''}{seen}")
    if len(content["decisions"]) > 20:
        say(f"  ... and {len(content['decisions']) - 20} more decisions")
    if content.get("profiles"):
        say("profiles:")
        for name, moves in content["profiles"].items():
            parts = [f"{decision} {move}" for decision, move in moves.items()]
            say(f"  '{name}': {', '.join(parts[:6])}" + _more(parts, 6))
    if content.get("strategies"):
        say(f"the file gives strategies for {', '.join(content['strategies'])}")
    for known in content.get("known", ()):
        say(f"known: {_known_text(known)}")
    say(content["how"])
    for warning in content.get("warnings", ()):
        say(f"note: {warning}")
    if source.entry is not None and source.entry.profiles:
        first = next(iter(source.entry.profiles))
        say(f"check it: workingpapers opengames check {source.text} --strategy '{first}'")


def _more(items: Sequence[Any], shown: int) -> str:
    return f" and {len(items) - shown} more" if len(items) > shown else ""


def _known_text(known: Mapping[str, Any]) -> str:
    parts = []
    if known["equilibrium"] is not None:
        found = "an equilibrium" if known["equilibrium"] else "no equilibrium"
        within = f", eps {known['eps']:g}" if known["eps"] else ""
        parts.append(f"{found} ({known['notion']}{within})")
    if known["payoffs"]:
        paid = ", ".join(f"{player} {value:.6g}" for player, value in known["payoffs"].items())
        parts.append(f"payoffs {paid}")
    if known["parameters"]:
        parts.append("at " + ", ".join(f"{n}={value}" for n, value in known["parameters"].items()))
    return f"'{known['profile']}' {'; '.join(parts) or 'values'} [{known['source']}]"


def _solutions_json(game: "Game", found: "Solutions") -> dict[str, Any]:
    from workingpapers.opengames.strategy import to_json

    return {
        "game": game.title,
        "method": found.method,
        "complete": found.complete,
        "converged": found.converged,
        "residual": found.residual,
        "note": found.note,
        "profiles": [
            {
                "strategies": to_json(game.frontier, one.profile),
                "payoffs": one.payoffs,
                "regret": one.regret,
                "equilibrium": one.ok,
                "notion": one.notion,
            }
            for one in found
        ],
    }


def _print_sweep(found: "Sweep") -> None:
    axes = " by ".join(
        f"{name} {_cell(axis[0].item())} ... {_cell(axis[-1].item())} ({len(axis)})"
        for name, axis in found.axes.items()
    )
    console.out.print(f"{found.points:,} points in {found.seconds:.3g} s: {axes}", markup=False)
    for name, values in found.values.items():
        if values.dtype == bool:
            many = int(values.sum())
            console.out.print(
                f" {name}: at {many:,} points ({100 * many / values.size:.3g} %)", markup=False
            )
        else:
            low, high = float(values.min()), float(values.max())
            console.out.print(f" {name}: {low:.6g} ... {high:.6g}", markup=False)
    for what, names in (("at once", found.batched), ("compiled anew", found.retraced)):
        if names:
            console.out.print(f" {what}: {', '.join(names)}", markup=False)


def _show_plays(plays: "Plays", exact: Mapping[str, float] | None, as_json: bool) -> None:
    mean, error = plays.mean, plays.standard_error
    rows = [
        {
            "player": player,
            "mean": mean[player],
            "standard_error": error[player],
            **({"exact": exact[player]} if exact is not None else {}),
        }
        for player in mean
    ]
    if as_json:
        console.print_json(_plain({"plays": plays.n, "seed": plays.seed, "payoffs": rows}))
        return
    _print_rows(rows, f"{plays.n:,} plays, seed {plays.seed}")


def _show_learning(learned: "Learning", as_json: bool) -> None:
    if not as_json:
        console.out.print(learned.explain(), markup=False)
        for name, move in learned.strategies().items():
            console.out.print(f" {name}: {_move_text(move)}", markup=False)
        return
    from workingpapers.opengames.strategy import to_json

    players = learned.frontier.players
    console.print_json(
        _plain(
            {
                "rule": learned.rule,
                "rounds": len(learned.profiles) - 1,
                "runs": learned.final.shape[1],
                "seed": learned.seed,
                "payoffs": dict(zip(players, learned.payoffs[-1].tolist(), strict=True)),
                "standard_errors": dict(
                    zip(players, learned.payoff_errors[-1].tolist(), strict=True)
                ),
                "regrets": learned.regrets,
                "strategies": to_json(learned.frontier, learned.profiles[-1]),
            }
        )
    )


def _print_rows(rows: Sequence[Mapping[str, Any]], title: str) -> None:
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    names = list(dict.fromkeys(name for row in rows for name in row))
    for name in names:
        numbers = all(isinstance(row.get(name), int | float) for row in rows)
        table.add_column(
            name.replace("_", " "),
            justify="right" if numbers else "left",
            no_wrap=name == names[0],
        )
    for row in rows:
        table.add_row(*[_cell(row.get(name)) for name in names])
    console.out.print(table, markup=False)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_cell(part)}" for key, part in value.items())
    return "-" if value is None else str(value)
