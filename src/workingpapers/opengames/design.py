"""Designing institutions: sweep parameters, search for the best ones, compare whole families.

A parameter that only payoffs depend on is evaluated for all its values at once: the game is traced
and compiled once, each payoff function is called with the array of all values, and one pass forward
and back checks every institution. A parameter that reaches anything else (a draw, an action set,
what is computed, how often something is repeated) makes a new trace for each of its values. Which
is which is found out by trying, and checked on some values of each parameter.
"""

import copy
import csv
import io
import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Bool, Float

from workingpapers.foundation.errors import InputError
from workingpapers.opengames.compile import Frontier, compile_trace
from workingpapers.opengames.equilibrium import Notion, check, flags
from workingpapers.opengames.evaluate import Packed
from workingpapers.opengames.games import Game, GameFactory
from workingpapers.opengames.strategy import Strategies, resolve, uniform

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MEMORY = 256_000_000
"""Bytes that one batch of parameter points may take."""
_MOST_CONSTANT_PROFILES = 4096

MEASURES = ("equilibrium", "gain", "welfare", "gini", "payoff:PLAYER", "equilibria")
Method = Literal["grid", "bisect", "evolution", "gradient"]
Objective = str | Sequence[str] | Callable[[Mapping[str, float], Mapping[str, float]], float]


# ---- batches of parameter points


@dataclass(frozen=True)
class _Batch:
    """A compiled game at many points of its parameters."""

    packed: Packed

    @property
    def frontier(self) -> Frontier:
        return self.packed.frontier

    @property
    def points(self) -> int:
        return self.frontier.n_points

    def at(self, point: int) -> Packed:
        """The game at one of the points."""
        single = copy.copy(self.packed)
        single.__dict__.pop("_stage_values", None)
        single.frontier = replace(self.frontier, table=self.frontier.table[:, point : point + 1])
        return single


def is_batched(
    factory: GameFactory, name: str, values: np.ndarray, fixed: Mapping[str, Any]
) -> bool:
    """Whether only payoffs depend on a parameter, so that all its values are evaluated at once.

    Tried with up to three of the values, whose payoffs must equal those of games traced one by one.
    """
    some = values[np.unique(np.linspace(0, len(values) - 1, 3).round().astype(int))]
    if some.dtype.kind not in "fi":
        return False
    singles = []
    for value in some.tolist():
        frontier = compile_trace(factory.trace(**{**fixed, name: value}))
        profile = uniform(frontier)[:, None]
        packed = Packed(frontier)
        singles.append(packed.payoffs(packed.evaluate(profile))[:, 0])
    if len({len(payoffs) for payoffs in singles}) > 1:
        return False
    # Twice the values, so that no axis of the user's own has their number by accident.
    twice = np.concatenate([some, some]).astype(float)
    try:
        frontier = compile_trace(factory.trace(**{**fixed, name: twice}), n_points=len(twice))
        packed = Packed(frontier)
        together = packed.payoffs(packed.evaluate(uniform(frontier)[:, None]))
    except Exception:
        # Whatever an array breaks in the user's function, the parameter is not for payoffs alone.
        return False
    if together.shape[1] != len(twice):
        return len(some) == 1 or np.ptp(np.array(singles), axis=0).max() < 1e-12
    expected = np.array([*singles, *singles]).T
    return together.shape == expected.shape and bool(
        np.allclose(together, expected, rtol=1e-9, atol=1e-12)
    )


def _batches(
    factory: GameFactory, fixed: Mapping[str, Any], columns: Mapping[str, np.ndarray]
) -> Any:
    """(slice of the points, compiled batch) of payoff parameters, as large as memory allows."""
    n_points = len(next(iter(columns.values()))) if columns else 1
    first = {name: float(values[0]) for name, values in columns.items()}
    packed = Packed(compile_trace(factory.trace(**{**fixed, **first})))
    if not columns:
        yield slice(0, 1), _Batch(packed)
        return
    a_point = 8 * (
        len(packed.frontier.table) * 4
        + packed.n_states
        + 3 * packed.frontier.n_report_slots
        + 2 * packed.buffer
        + 64
    )
    size = max(1, min(n_points, _MEMORY // a_point))
    for begin in range(0, n_points, size):
        part = slice(begin, min(begin + size, n_points))
        given = {name: values[part].astype(float) for name, values in columns.items()}
        frontier = compile_trace(
            factory.trace(**{**fixed, **given}), n_points=part.stop - part.start
        )
        yield part, _Batch(Packed(frontier))


def _evaluate(
    batch: _Batch, strategies: Strategies, notion: Notion, eps: float
) -> tuple[Float[np.ndarray, " points"], Float[np.ndarray, "players points"]]:
    """The largest gain past what is allowed (an equilibrium: at most 0), and the payoffs."""
    profile = resolve(batch.frontier, strategies)
    gain, payoffs = flags(batch.packed, profile[:, None], eps=eps)
    if notion != "agent":
        gain = np.empty(batch.points)
        for point in range(batch.points):
            report = check(batch.at(point), profile, notion=notion, eps=eps, details=False)
            gain[point] = -1e-9 if report.ok else max(report.max_regret, 1e-9)
    return (
        np.broadcast_to(gain, (batch.points,)),
        np.broadcast_to(payoffs, (len(payoffs), batch.points)),
    )


def gini(payoffs: Float[np.ndarray, "players *points"]) -> Float[np.ndarray, "*points"]:
    """Gini coefficient over players: half the mean absolute difference over the mean.

    NaN where the mean is not positive.
    """
    ordered = np.sort(payoffs, axis=0)
    count = len(ordered)
    rank = (2 * np.arange(1, count + 1) - count - 1).reshape(-1, *[1] * (ordered.ndim - 1))
    total = ordered.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 0, (rank * ordered).sum(axis=0) / (count * total), np.nan)


# ---- sweeps


@dataclass(frozen=True)
class Sweep:
    """A family of institutions on a grid of parameters, and what was measured of each."""

    title: str
    axes: dict[str, np.ndarray]
    values: dict[str, np.ndarray]
    """Each measure as an array over the grid, one axis a parameter."""
    batched: tuple[str, ...]
    """Parameters evaluated all at once."""
    retraced: tuple[str, ...]
    """Parameters for each of whose values the game was traced again."""
    seconds: float
    notion: Notion = "agent"

    @property
    def parameters(self) -> tuple[str, ...]:
        return tuple(self.axes)

    @property
    def points(self) -> int:
        return math.prod(len(values) for values in self.axes.values())

    def to_json(self) -> dict[str, Any]:
        return {
            "title": self.title,
            "notion": self.notion,
            "parameters": {name: values.tolist() for name, values in self.axes.items()},
            "measures": {
                name: [None if isinstance(v, float) and math.isnan(v) else v for v in part]
                for name, part in (
                    (name, values.ravel().tolist()) for name, values in self.values.items()
                )
            },
            "order": "the last parameter varies fastest",
            "batched": list(self.batched),
            "retraced": list(self.retraced),
            "seconds": self.seconds,
        }

    def to_csv(self, path: Path) -> None:
        """One row a point: its parameters, then its measures."""
        from workingpapers.foundation.console import write_atomically

        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*self.axes, *self.values])
        columns = [values.ravel().tolist() for values in self.values.values()]
        for point, measured in zip(
            itertools.product(*self.axes.values()), zip(*columns, strict=True), strict=True
        ):
            writer.writerow([*point, *(int(v) if isinstance(v, bool) else v for v in measured)])
        write_atomically(path, text.getvalue())

    def draw(self, measure: str | None = None, boundary: Any = None) -> "Figure":
        """A heat map over two parameters, or lines over one."""
        from workingpapers.opengames import draw

        chosen = measure or next(iter(self.values))
        if chosen not in self.values:
            raise InputError(f"measure {chosen!r}: expected {', '.join(self.values)}")
        names = list(self.axes)
        if len(names) == 1:
            shown = [chosen] if measure else list(self.values)
            series = {name: self.values[name].astype(float) for name in shown}
            return draw.lines(names[0], self.axes[names[0]], series, title=self.title)
        if len(names) != 2:
            raise InputError(f"a picture needs one or two parameters, the sweep has {len(names)}")
        x, y = names
        return draw.heatmap(
            x,
            self.axes[x],
            y,
            self.axes[y],
            self.values[chosen],
            f"{self.title}: {chosen}",
            boundary=boundary,
        )


def sweep(
    factory: GameFactory,
    grid: Mapping[str, Any],
    strategies: Any,
    *,
    measures: Sequence[str] = ("equilibrium", "welfare"),
    params: Mapping[str, Any] | None = None,
    notion: Notion = "agent",
    eps: float = 0.0,
    progress: Callable[[int], None] = lambda points: None,
) -> Sweep:
    """Measure a family of institutions on the grid of some parameters.

    `strategies` is a profile, or "solve": then "equilibria" counts the pure equilibria among the
    profiles that are constant over observations. Measures: equilibrium, gain (of the best
    deviation), welfare (sum of payoffs), gini, payoff:PLAYER, equilibria.
    """
    begin = time.perf_counter()
    axes = {name: np.atleast_1d(np.asarray(values)) for name, values in grid.items()}
    fixed = dict(params or {})
    factory.known({**fixed, **axes})
    if not axes:
        raise InputError("sweep: expected at least one parameter with its values")
    solving = isinstance(strategies, str)
    if solving and strategies != "solve":
        raise InputError(f'strategies {strategies!r}: expected a profile or "solve"')
    wanted = ("equilibria",) if solving else tuple(measures)
    for measure in wanted:
        known = measure in MEASURES or measure.startswith("payoff:")
        if not known or (measure == "equilibria") != solving:
            raise InputError(f"measure {measure!r}: expected {', '.join(MEASURES)}")
    start = {name: values[0].item() for name, values in axes.items()}
    batched = tuple(
        name
        for name, values in axes.items()
        if is_batched(factory, name, values, {**fixed, **start})
    )
    retraced = tuple(name for name in axes if name not in batched)
    together = np.meshgrid(*[axes[name] for name in batched], indexing="ij")
    columns = {name: part.ravel() for name, part in zip(batched, together, strict=True)}
    n_batch = math.prod(len(axes[name]) for name in batched)
    found: dict[str, np.ndarray] = {}
    shape = tuple(len(axes[name]) for name in (*retraced, *batched))
    for number, chosen in enumerate(itertools.product(*[axes[name] for name in retraced])):
        at = dict(zip(retraced, (value.item() for value in chosen), strict=True))
        for part, batch in _batches(factory, {**fixed, **at}, columns):
            measured = (
                {"equilibria": _count_equilibria(batch, eps).astype(float)}
                if solving
                else _measured(batch, strategies, wanted, notion, eps)
            )
            for measure, values in measured.items():
                whole = found.setdefault(
                    measure, np.zeros((math.prod(shape) // n_batch, n_batch), dtype=values.dtype)
                )
                whole[number, part] = values
            progress(part.stop - part.start)
    order = [(*retraced, *batched).index(name) for name in axes]
    on_grid = {name: array.reshape(shape).transpose(order) for name, array in found.items()}
    seconds = time.perf_counter() - begin
    return Sweep(factory.name, axes, on_grid, batched, retraced, seconds, notion)


def _measured(
    batch: _Batch, strategies: Strategies, wanted: Sequence[str], notion: Notion, eps: float
) -> dict[str, np.ndarray]:
    gain, payoffs = _evaluate(batch, strategies, notion, eps)
    players = batch.frontier.players
    found: dict[str, np.ndarray] = {}
    for measure in wanted:
        if measure == "equilibrium":
            found[measure] = gain <= 0
        elif measure == "gain":
            found[measure] = np.maximum(gain, 0.0)
        elif measure == "welfare":
            found[measure] = payoffs.sum(axis=0)
        elif measure == "gini":
            found[measure] = gini(payoffs)
        else:
            player = measure.removeprefix("payoff:")
            if player not in players:
                raise InputError(f"measure {measure}: the players are {', '.join(players)}")
            found[measure] = payoffs[players.index(player)]
    return found


def _count_equilibria(batch: _Batch, eps: float) -> np.ndarray:
    counts = np.zeros(batch.points, dtype=np.int64)
    for profile in constant_profiles(batch.frontier):
        gain, _ = flags(batch.packed, profile[:, None], eps=eps)
        counts += np.broadcast_to(gain, counts.shape) <= 0
    return counts


def constant_profiles(frontier: Frontier) -> Iterator[Float[np.ndarray, " slots"]]:
    """Every pure profile in which each decision takes one action, whatever is observed.

    InputError where there are more than are tried at every point.
    """
    from workingpapers.opengames.solve import dials, profile_batches

    choices = dials(frontier, constant=True)
    many = math.prod(len(options) for options in choices)
    if many > _MOST_CONSTANT_PROFILES:
        raise InputError(
            f"{frontier.title}: {many:,} constant profiles; at most {_MOST_CONSTANT_PROFILES:,} "
            "are tried at every point"
        )
    for batch in profile_batches(frontier.n_slots, choices, 256):
        yield from np.ascontiguousarray(batch.T)


# ---- where an equilibrium holds


@dataclass(frozen=True)
class Condition:
    """That a profile is an equilibrium, as a condition of a search."""

    strategies: Strategies
    notion: Notion = "agent"
    eps: float = 0.0


def equilibrium(strategies: Strategies, notion: Notion = "agent", eps: float = 0.0) -> Condition:
    """The condition that a profile is an equilibrium."""
    return Condition(strategies, notion, eps)


class _Family:
    """A factory with some free parameters, evaluated at any points of them."""

    def __init__(
        self,
        factory: GameFactory,
        space: Mapping[str, tuple[float, float]],
        fixed: Mapping[str, Any],
    ) -> None:
        self.factory, self.fixed = factory, dict(fixed)
        self.names = tuple(space)
        self.bounds = {name: (float(low), float(high)) for name, (low, high) in space.items()}
        factory.known({**self.fixed, **self.bounds})
        for name, (low, high) in self.bounds.items():
            if not low < high:
                raise InputError(f"parameter {name}: expected low < high, got {low:g} and {high:g}")
        start = {name: low for name, (low, _) in self.bounds.items()}
        self.batched = {
            name
            for name, (low, high) in self.bounds.items()
            if is_batched(
                factory, name, np.array([low, (low + high) / 2, high]), {**fixed, **start}
            )
        }
        self.evaluations = 0

    def at(
        self, points: Float[np.ndarray, "points parameters"], conditions: Sequence[Condition]
    ) -> tuple[Bool[np.ndarray, " points"], Float[np.ndarray, " points"], list[dict[str, float]]]:
        """Which points meet all conditions, the largest gain, and payoffs under the first."""
        feasible = np.ones(len(points), dtype=bool)
        gains = np.full(len(points), -np.inf)
        paid: list[dict[str, float]] = [{} for _ in points]
        self.evaluations += len(points)
        free = [n for n, name in enumerate(self.names) if name in self.batched]
        held = [n for n, name in enumerate(self.names) if name not in self.batched]
        groups: dict[tuple[float, ...], list[int]] = {}
        for row, point in enumerate(points):
            groups.setdefault(tuple(point[held].tolist()), []).append(row)
        for values, rows in groups.items():
            fixed = {**self.fixed, **{self.names[n]: v for n, v in zip(held, values, strict=True)}}
            columns = {self.names[n]: points[rows, n] for n in free}
            for part, batch in _batches(self.factory, fixed, columns):
                own = rows[part]
                for number, condition in enumerate(conditions):
                    gain, payoffs = _evaluate(
                        batch, condition.strategies, condition.notion, condition.eps
                    )
                    feasible[own] &= gain <= 0
                    gains[own] = np.maximum(gains[own], gain)
                    if number == 0:
                        for at, row in enumerate(own):
                            paid[row] = dict(
                                zip(batch.frontier.players, payoffs[:, at].tolist(), strict=True)
                            )
        return feasible, gains, paid


def holding_range(
    game: "Game | GameFactory",
    strategies: Strategies,
    parameter: str,
    low: float,
    high: float,
    *,
    notion: Notion = "agent",
    eps: float = 0.0,
    points: int = 101,
    tolerance: float = 1e-9,
) -> list[tuple[float, float]]:
    """The intervals of a parameter on which a profile stays an equilibrium.

    Found on a grid of `points` between low and high; the ends are bisected to `tolerance`. An
    interval narrower than the grid's step may be missed.
    """
    factory = game if isinstance(game, GameFactory) else game.factory
    if factory is None:
        raise InputError(f"parameter {parameter}: a game read from a file has no parameters")
    fixed = {} if isinstance(game, GameFactory) else dict(game.parameters)
    fixed.pop(parameter, None)
    family = _Family(factory, {parameter: (low, high)}, fixed)
    condition = [Condition(strategies, notion, eps)]
    grid = np.linspace(low, high, points)
    holds, _, _ = family.at(grid[:, None], condition)

    def edge(inside: float, outside: float) -> float:
        """Between a value that holds and one that does not, the last that holds."""
        while abs(outside - inside) > tolerance:
            # Many cuts a round, since a batch costs little more than a point.
            cuts = np.linspace(inside, outside, 34)[1:-1]
            fine, _, _ = family.at(cuts[:, None], condition)
            first_bad = int(np.argmin(fine)) if not fine.all() else len(cuts)
            inside, outside = (
                (float(cuts[first_bad - 1]) if first_bad else inside),
                (float(cuts[first_bad]) if first_bad < len(cuts) else outside),
            )
        return inside

    found = []
    at = 0
    while at < len(grid):
        if not holds[at]:
            at += 1
            continue
        last = at
        while last + 1 < len(grid) and holds[last + 1]:
            last += 1
        begin = float(grid[at]) if at == 0 else edge(float(grid[at]), float(grid[at - 1]))
        end = float(grid[last])
        if last + 1 < len(grid):
            end = edge(end, float(grid[last + 1]))
        found.append((begin, end))
        at = last + 1
    return found


# ---- search


@dataclass(frozen=True)
class Found:
    """The result of a search."""

    parameters: dict[str, float]
    objective: float
    feasible: bool
    evaluations: int
    """How many institutions were looked at."""
    method: str
    payoffs: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "parameters": self.parameters,
            "objective": self.objective,
            "feasible": self.feasible,
            "evaluations": self.evaluations,
            "method": self.method,
            "payoffs": self.payoffs,
        }


def search(
    factory: GameFactory,
    space: Mapping[str, tuple[float, float]],
    objective: Objective,
    subject_to: Sequence[Condition] = (),
    *,
    method: Method = "grid",
    params: Mapping[str, Any] | None = None,
    seed: int = 0,
    points: int = 41,
    precision: float = 10.0,
    tolerance: float = 1e-9,
) -> Found:
    """The best institution within bounds, subject to profiles being equilibria.

    The objective is a parameter, "welfare" or "payoff:PLAYER", with a minus to minimise (payoffs
    are those under the first condition), or a function of parameters and payoffs. Methods: grid
    (refined around the best), bisect (parameters one after another to their extremes, to
    `tolerance`), evolution (differential evolution), gradient (ascent under logit play of the
    given precision, which has no kinks; conditions are then not used).
    """
    family = _Family(factory, space, params or {})
    if method == "gradient":
        return _by_gradient(family, objective, precision)
    if not subject_to:
        raise InputError("search: expected at least one condition, equilibrium(strategies)")
    if method == "bisect":
        return _by_bisection(family, objective, subject_to, points, tolerance)
    score = _scorer(family.names, objective)
    if method == "evolution":
        return _by_evolution(family, score, subject_to, seed)
    if method != "grid":
        raise InputError(f"method {method!r}: expected grid, bisect, evolution or gradient")
    return _by_grid(family, score, subject_to, points)


def _scorer(names: Sequence[str], objective: Objective) -> Callable[..., float]:
    """What is maximised, as a function of parameters and payoffs."""
    if callable(objective):
        return objective
    if not isinstance(objective, str):
        (objective,) = objective if len(objective) == 1 else ("",)
        if not objective:
            raise InputError("objective: only the method bisect takes several, one after another")
    sign = -1.0 if objective.startswith("-") else 1.0
    what = objective.removeprefix("-")
    if what in names:
        return lambda parameters, payoffs: sign * parameters[what]
    if what == "welfare":
        return lambda parameters, payoffs: sign * sum(payoffs.values())
    if what.startswith("payoff:"):
        player = what.removeprefix("payoff:")

        def payoff(parameters: Mapping[str, float], payoffs: Mapping[str, float]) -> float:
            if player not in payoffs:
                raise InputError(f"objective {objective}: the players are {', '.join(payoffs)}")
            return sign * payoffs[player]

        return payoff
    raise InputError(
        f"objective {objective!r}: expected welfare, payoff:PLAYER or one of {', '.join(names)}"
    )


def _grid_points(bounds: Sequence[tuple[float, float]], points: int) -> np.ndarray:
    axes = [np.linspace(low, high, points) for low, high in bounds]
    return np.stack([part.ravel() for part in np.meshgrid(*axes, indexing="ij")], axis=1)


def _best(
    family: _Family, grid: np.ndarray, score: Callable[..., float], conditions: Sequence[Condition]
) -> tuple[int | None, float, dict[str, float]]:
    feasible, _, paid = family.at(grid, conditions)
    best, value = None, -math.inf
    for row in np.flatnonzero(feasible):
        parameters = dict(zip(family.names, grid[row].tolist(), strict=True))
        worth = score(parameters, paid[row])
        if worth > value:
            best, value = int(row), worth
    return best, value, paid[best] if best is not None else {}


def _by_grid(
    family: _Family, score: Callable[..., float], conditions: Sequence[Condition], points: int
) -> Found:
    bounds = [family.bounds[name] for name in family.names]
    if points ** len(bounds) > 1_000_000:
        raise InputError(
            f"search: {points}^{len(bounds)} points are too many for a grid; take evolution"
        )
    limits = list(bounds)
    result: tuple[np.ndarray, float, dict[str, float]] | None = None
    for _ in range(6):
        grid = _grid_points(bounds, points)
        row, value, paid = _best(family, grid, score, conditions)
        if row is None:
            break
        if result is None or value >= result[1]:
            result = (grid[row], value, paid)
        # Around the best, two steps to either side.
        steps = [2 * (high - low) / (points - 1) for low, high in bounds]
        bounds = [
            (max(at - step, low), min(at + step, high))
            for at, step, (low, high) in zip(result[0], steps, limits, strict=True)
        ]
    return _found(family, result, "grid")


def _found(
    family: _Family, result: "tuple[np.ndarray, float, dict[str, float]] | None", method: str
) -> Found:
    if result is None:
        nothing = dict.fromkeys(family.names, math.nan)
        return Found(nothing, math.nan, False, family.evaluations, method)
    point, value, paid = result
    parameters = dict(zip(family.names, point.tolist(), strict=True))
    return Found(parameters, float(value), True, family.evaluations, method, paid)


def _by_bisection(
    family: _Family,
    objective: Objective,
    conditions: Sequence[Condition],
    points: int,
    tolerance: float,
) -> Found:
    """Each parameter in turn to the extreme that some values of those after it still support."""
    if callable(objective):
        raise InputError("method bisect: expected parameters, such as -fine, as the objective")
    wanted = [objective] if isinstance(objective, str) else list(objective)
    for name in wanted:
        if name.removeprefix("-") not in family.names:
            raise InputError(
                f"method bisect: {name} is not one of the parameters {', '.join(family.names)}"
            )
    settled: dict[str, float] = {}
    witness: np.ndarray | None = None

    def supported(fixed: Mapping[str, float]) -> np.ndarray | None:
        free = [name for name in family.names if name not in fixed]
        grid = np.empty((max(points, 201) ** len(free) if len(free) <= 1 else points ** len(free),
                         len(family.names)))  # fmt: skip
        count = max(points, 201) if len(free) <= 1 else points
        parts = _grid_points([family.bounds[name] for name in free], count) if free else None
        for column, name in enumerate(family.names):
            grid[:, column] = fixed[name] if name in fixed else parts[:, free.index(name)]  # type: ignore[index]
        feasible, _, _ = family.at(grid, conditions)
        rows = np.flatnonzero(feasible)
        return grid[rows[0]] if len(rows) else None

    for name in wanted:
        down = name.startswith("-")
        own = name.removeprefix("-")
        low, high = family.bounds[own]
        start = None
        values = np.linspace(low, high, points)
        for value in values if down else values[::-1]:
            start = supported({**settled, own: float(value)})
            if start is not None:
                break
        if start is None:
            return _found(family, None, "bisect")
        inside = float(start[family.names.index(own)])
        step = (high - low) / (points - 1)
        outside = inside - step if down else inside + step
        witness = start
        if low <= outside <= high:
            while abs(outside - inside) > tolerance:
                middle = (inside + outside) / 2
                support = supported({**settled, own: middle})
                if support is None:
                    outside = middle
                else:
                    inside, witness = middle, support
        settled[own] = inside
    assert witness is not None
    for own, value in settled.items():
        witness[family.names.index(own)] = value
    feasible, _, paid = family.at(witness[None], conditions)
    first = wanted[0]
    value = settled[first.removeprefix("-")] * (-1.0 if first.startswith("-") else 1.0)
    result = (witness, value, paid[0]) if feasible[0] else None
    return _found(family, result, "bisect")


def _by_evolution(
    family: _Family, score: Callable[..., float], conditions: Sequence[Condition], seed: int
) -> Found:
    from scipy.optimize import differential_evolution

    best: list[tuple[np.ndarray, float, dict[str, float]]] = []

    def cost(points: np.ndarray) -> np.ndarray:
        rows = np.atleast_2d(points.T)
        feasible, gains, paid = family.at(rows, conditions)
        costs = np.empty(len(rows))
        for row in range(len(rows)):
            parameters = dict(zip(family.names, rows[row].tolist(), strict=True))
            # Outside the feasible set only the way back counts.
            costs[row] = -score(parameters, paid[row]) if feasible[row] else 1e6 + float(gains[row])
            if feasible[row] and (not best or -costs[row] > best[0][1]):
                best[:] = [(rows[row].copy(), -float(costs[row]), paid[row])]
        return costs

    differential_evolution(
        cost, [family.bounds[name] for name in family.names], rng=seed, vectorized=True,
        updating="deferred", polish=False, tol=1e-10, maxiter=300,
    )  # fmt: skip
    return _found(family, best[0] if best else None, "evolution")


def _by_gradient(family: _Family, objective: Objective, precision: float) -> Found:
    """Ascent of a smooth objective: payoffs under logit play, which has no kinks.

    Derivatives are central differences, all points of one step in one batch.
    """
    from scipy.optimize import minimize

    if len(family.batched) < len(family.names):
        held = [name for name in family.names if name not in family.batched]
        raise InputError(f"method gradient: more than payoffs depend on {', '.join(held)}")
    score = _scorer(family.names, objective)
    lows, highs = np.array([family.bounds[name] for name in family.names]).T

    def worth(points: np.ndarray) -> tuple[np.ndarray, list[dict[str, float]]]:
        columns = {name: points[:, n] for n, name in enumerate(family.names)}
        family.evaluations += len(points)
        found, paid = [], []
        for part, batch in _batches(family.factory, family.fixed, columns):
            payoffs = _logit_payoffs(batch, precision)
            for at, row in enumerate(range(part.start, part.stop)):
                named = dict(zip(batch.frontier.players, payoffs[:, at].tolist(), strict=True))
                parameters = dict(zip(family.names, points[row].tolist(), strict=True))
                found.append(score(parameters, named))
                paid.append(named)
        return np.array(found), paid

    def cost(point: np.ndarray) -> tuple[float, np.ndarray]:
        steps = 1e-5 * (highs - lows)
        around = [point]
        for n, step in enumerate(steps):
            for sign in (1.0, -1.0):
                moved = point.copy()
                moved[n] = np.clip(moved[n] + sign * step, lows[n], highs[n])
                around.append(moved)
        rows = np.array(around)
        values, _ = worth(rows)
        ahead, behind = values[1::2], values[2::2]
        widths = np.array([rows[1 + 2 * n, n] - rows[2 + 2 * n, n] for n in range(len(steps))])
        return -float(values[0]), -(ahead - behind) / widths

    starts = _grid_points(list(zip(lows.tolist(), highs.tolist(), strict=True)), 5)
    values, _ = worth(starts)
    result = minimize(
        cost, starts[int(np.argmax(values))], jac=True, method="L-BFGS-B",
        bounds=list(zip(lows, highs, strict=True)),
    )  # fmt: skip
    final, paid = worth(result.x[None])
    return _found(family, (result.x, float(final[0]), paid[0]), "gradient")


def _logit_payoffs(batch: _Batch, precision: float) -> Float[np.ndarray, "players points"]:
    """Payoffs under agent quantal response, by a damped fixed point at every point at once."""
    from workingpapers.opengames.solve import action_values, softmax
    from workingpapers.opengames.strategy import observation_starts

    packed = batch.packed
    starts = observation_starts(packed.frontier)
    profile = np.repeat(uniform(packed.frontier)[:, None], batch.points, axis=1)
    for strength in np.linspace(precision / 10, precision, 10):
        for _ in range(200):
            worth = action_values(packed, packed.evaluate(profile))
            change = softmax(starts, strength * worth) - profile
            profile = profile + 0.5 * change
            if np.abs(change).max(initial=0.0) < 1e-11:
                break
    return packed.payoffs(packed.evaluate(profile))


# ---- comparing


def compare(
    games: Mapping[str, Game],
    strategies: Mapping[str, Strategies] | None = None,
    *,
    eps: float = 0.0,
) -> list[dict[str, Any]]:
    """Institutions side by side: one row an equilibrium, with payoffs, welfare and Gini.

    Without `strategies` (a profile for each label) the pure equilibria among the profiles constant
    over observations are found; an institution without any has one row that says so.
    """
    from workingpapers.opengames.strategy import describe

    rows: list[dict[str, Any]] = []
    for label, game in games.items():
        frontier = game.frontier
        if strategies is not None:
            profiles = [resolve(frontier, strategies[label])]
        else:
            profiles = [
                profile
                for profile in constant_profiles(frontier)
                if flags(game.packed, profile[:, None], eps=eps)[0][0] <= 0
            ]
        if not profiles:
            rows.append({"institution": label, "equilibrium": None, "profile": None,
                         "payoffs": {}, "welfare": None, "gini": None})  # fmt: skip
        for number, profile in enumerate(profiles, start=1):
            gain, payoffs = flags(game.packed, profile[:, None], eps=eps)
            unequal = float(gini(payoffs)[0])
            rows.append(
                {
                    "institution": label,
                    "equilibrium": number if gain[0] <= 0 else False,
                    "profile": describe(frontier, profile),
                    "payoffs": dict(zip(frontier.players, payoffs[:, 0].tolist(), strict=True)),
                    "welfare": float(payoffs[:, 0].sum()),
                    "gini": None if math.isnan(unequal) else unequal,
                }
            )
    return rows


def pareto(rows: Sequence[Mapping[str, Any]], measures: Sequence[str]) -> list[Mapping[str, Any]]:
    """The rows that no other row beats in all measures (larger is better; a minus reverses)."""
    signs = [-1.0 if name.startswith("-") else 1.0 for name in measures]
    names = [name.removeprefix("-") for name in measures]
    for row in rows:
        for name in names:
            if name not in row:
                raise InputError(f"measure {name!r}: expected {', '.join(row)}")
    table = np.array(
        [[sign * row[name] for sign, name in zip(signs, names, strict=True)] for row in rows]
    )
    kept = []
    for at, row in enumerate(rows):
        worse = (table >= table[at]).all(axis=1) & (table > table[at]).any(axis=1)
        if not worse.any():
            kept.append(row)
    return kept


def sensitivity(
    factory: GameFactory,
    strategies: Strategies,
    params: Mapping[str, Any] | None = None,
    *,
    step: float = 1e-4,
) -> list[dict[str, Any]]:
    """How payoffs and the largest gain react to every numeric parameter, by central differences."""
    fixed = {**factory.params, **(params or {})}
    rows = []
    for name, value in fixed.items():
        if isinstance(value, bool) or not isinstance(value, float):
            continue
        width = step * max(abs(value), 1.0)
        sides = []
        for at in (value - width, value + width):
            game = factory(**{**fixed, name: at})
            gain, payoffs = flags(game.packed, resolve(game.frontier, strategies)[:, None])
            sides.append((float(gain[0]), payoffs[:, 0]))
        slope = (sides[1][1] - sides[0][1]) / (2 * width)
        rows.append(
            {
                "parameter": name,
                "value": value,
                "gain": (sides[1][0] - sides[0][0]) / (2 * width),
                "welfare": float(slope.sum()),
                **{
                    f"payoff:{player}": float(part)
                    for player, part in zip(game.frontier.players, slope, strict=True)
                },
            }
        )
    return rows
