"""Games: what a trace, a term or a file becomes, and the factories whose parameters are swept."""

import ast
import inspect
import math
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float

from workingpapers.foundation.errors import InputError
from workingpapers.opengames.compile import MAX_TRANSITIONS, Frontier, compile_trace
from workingpapers.opengames.equilibrium import Notion, Report
from workingpapers.opengames.strategy import Strategies, resolve, unknown_name
from workingpapers.opengames.trace import DecideNode, Trace

if TYPE_CHECKING:
    from workingpapers.opengames.contract import Contraction
    from workingpapers.opengames.evaluate import Packed
    from workingpapers.opengames.simulate import Plays

Engine = Literal["auto", "frontier", "contraction"]


@dataclass(frozen=True)
class Size:
    """How large a game is, in its three forms."""

    log10_profiles: float
    """Pure profiles: entries of the normal form."""
    log10_outcomes: float
    """Leaves of the game tree."""
    states: int
    """Merged states of the frontier."""
    transitions: int
    """Merged transitions of the frontier."""
    description_length: int
    """Nodes of the trace."""


class Game:
    """A closed game. Made by a factory (`@game`), by closing a term, or by reading a file."""

    def __init__(
        self,
        trace: Trace | None = None,
        *,
        frontier: Frontier | None = None,
        factory: "GameFactory | None" = None,
        parameters: Mapping[str, Any] | None = None,
        max_transitions: int = MAX_TRANSITIONS,
    ) -> None:
        if (trace is None) == (frontier is None):
            raise InputError("Game: expected a trace or a frontier")
        self.trace = trace
        self.factory = factory
        self.parameters: dict[str, Any] = dict(parameters or {})
        self.max_transitions = max_transitions
        self._frontier = frontier
        self._packed: Packed | None = None
        self._contraction: Contraction | None = None
        self._engine: Engine | None = None

    @property
    def title(self) -> str:
        return self.trace.title if self.trace is not None else self.frontier.title

    @property
    def frontier(self) -> Frontier:
        """The game's merged states, compiled when first asked for; StateSpaceTooLarge."""
        if self._frontier is None:
            assert self.trace is not None
            self._frontier = compile_trace(self.trace, max_transitions=self.max_transitions)
        return self._frontier

    @property
    def packed(self) -> "Packed":
        if self._packed is None:
            from workingpapers.opengames.evaluate import Packed

            self._packed = Packed(self.frontier)
        return self._packed

    @property
    def contraction(self) -> "Contraction":
        """The game's factors, for wide parallel games; InputError if it is not static."""
        if self._contraction is None:
            from workingpapers.opengames.contract import Contraction

            if self.trace is None:
                raise InputError("engine contraction: needs the game's trace, not a file")
            self._contraction = Contraction(self.trace)
        return self._contraction

    @property
    def engine(self) -> Engine:
        """The engine that "auto" takes: the cheaper by estimated cost."""
        if self._engine is None:
            from workingpapers.opengames.contract import choose_engine

            self._engine = choose_engine(self)
        return self._engine

    @property
    def players(self) -> tuple[str, ...]:
        if self.engine == "contraction":
            return self.contraction.players
        return self.frontier.players

    @property
    def decisions(self) -> tuple[str, ...]:
        if self.trace is not None:
            return tuple(node.label for node in self.trace.nodes if isinstance(node, DecideNode))
        return tuple(decision.name for decision in self.frontier.decisions)

    # ---- asking

    def check(
        self,
        strategies: Strategies,
        notion: Notion = "agent",
        *,
        eps: float = 0.0,
        tol: float = 1e-9,
        beliefs: Any = None,
        engine: Engine = "auto",
    ) -> Report:
        """Whether a profile is an equilibrium, in one of four notions, and why not.

        `strategies` maps each decision to an action, a mixture, either by observation, a function
        of what is seen, or an array. `eps` is a gain that does not count.
        """
        from dataclasses import replace

        from workingpapers.opengames import equilibrium

        if notion not in equilibrium.NOTIONS:
            raise InputError(f"notion {notion!r}: expected {', '.join(equilibrium.NOTIONS)}")
        used = self._engine_for(engine, notion)
        if used == "contraction":
            report = self.contraction.check(strategies, notion, eps=eps, tol=tol)
        else:
            trembles = None if beliefs is None else resolve(self.frontier, beliefs)
            report = equilibrium.check(
                self.packed,
                resolve(self.frontier, strategies),
                notion=notion,
                eps=eps,
                tol=tol,
                beliefs=trembles,
            )
        return replace(report, game=self, strategies=strategies)

    def payoffs(self, strategies: Strategies, *, engine: Engine = "auto") -> dict[str, float]:
        """Each player's expected payoff."""
        if self._engine_for(engine, "agent") == "contraction":
            return self.contraction.payoffs(strategies)
        profile = resolve(self.frontier, strategies)
        values = self.packed.evaluate(profile[:, None])
        totals = self.packed.payoffs(values)[:, 0]
        players = self.frontier.players
        return {player: float(v) for player, v in zip(players, totals, strict=True)}

    def play(self, strategies: Strategies, n: int = 1, seed: int = 0) -> "Plays":
        """`n` sampled plays: every wire's values and every player's payoff."""
        from workingpapers.opengames.simulate import play

        return play(self, strategies, n, seed)

    def reachable(self) -> dict[str, list[Any]]:
        """For each decision, what can be observed there."""
        contracted = self._engine_for("auto", "agent") == "contraction"
        decisions = self.contraction.decisions if contracted else self.frontier.decisions
        return {
            decision.name: [one[0] if len(one) == 1 else one for one in decision.observations]
            for decision in decisions
        }

    def profile(self, strategies: Strategies) -> Float[np.ndarray, " slots"]:
        """The strategies as one vector of probabilities."""
        return resolve(self.frontier, strategies)

    def size(self) -> Size:
        """How many profiles, leaves, merged states and nodes the game has."""
        frontier = self.frontier
        profiles = sum(
            math.log10(len(actions))
            for decision in frontier.decisions
            for actions in decision.actions
        )
        return Size(
            profiles,
            log10_leaves(frontier),
            sum(stage.n_states for stage in frontier.stages),
            frontier.n_transitions,
            len(self.trace.nodes) if self.trace is not None else len(frontier.stages),
        )

    def explain(self) -> str:
        """How the game is evaluated: the engine, the widest stages, and what keeps them wide."""
        lines = [f"{self.title}: engine {self.engine}"]
        if self.engine == "contraction":
            return "\n".join([*lines, *self.contraction.explain()])
        frontier = self.frontier
        size = self.size()
        lines.append(
            f"{size.transitions:,} merged transitions in {size.states:,} states stand for "
            f"10^{size.log10_outcomes:.1f} outcomes and 10^{size.log10_profiles:.1f} profiles"
        )
        widest = sorted(frontier.stages, key=lambda stage: -stage.n_transitions)[:5]
        for stage in widest:
            kept = ", ".join(stage.live) or "nothing"
            lines.append(
                f"  {stage.label}: {stage.n_states:,} states, {stage.n_transitions:,} "
                f"transitions; kept apart by {kept}"
            )
        return "\n".join(lines)

    def _engine_for(self, engine: Engine, notion: Notion) -> Engine:
        if engine not in ("auto", "frontier", "contraction"):
            raise InputError(f"engine {engine!r}: expected auto, frontier or contraction")
        if engine != "auto":
            return engine
        if notion not in ("agent", "player") or self._frontier is not None:
            return "frontier"
        return self.engine

    def __repr__(self) -> str:
        return f"<Game {self.title}: {len(self.decisions)} decisions>"


def log10_leaves(frontier: Frontier) -> float:
    """The logarithm of the number of histories, which no float could hold."""
    scale = 0.0
    count = np.ones(1)
    for stage in frontier.stages:
        source = np.repeat(np.arange(stage.n_states), np.diff(stage.start))
        summed = np.bincount(stage.next, count[source])
        largest = float(summed.max())
        count = summed / largest
        scale += math.log10(largest)
    return scale + math.log10(float(count.sum()))


# ---- factories


class GameFactory:
    """A function that builds games; its keyword arguments are the parameters of the institution."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        update_wrapper(self, function)
        signature = inspect.signature(function)
        arguments = list(signature.parameters.values())
        if not arguments:
            raise InputError(
                f"{function.__name__}: a game's function takes a trace as its first argument"
            )
        self.params: dict[str, Any] = {
            one.name: (None if one.default is one.empty else one.default)
            for one in arguments[1:]
            if one.kind in (one.KEYWORD_ONLY, one.POSITIONAL_OR_KEYWORD)
        }
        self._required = [
            one.name
            for one in arguments[1:]
            if one.name in self.params and one.default is one.empty
        ]

    @property
    def name(self) -> str:
        return self.function.__name__

    def __call__(self, **parameters: Any) -> Game:
        """The game for these parameters; InputError for a parameter it does not have."""
        chosen = {**self.params, **self.known(parameters)}
        return Game(self.trace(**parameters), factory=self, parameters=chosen)

    def known(self, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        for name in parameters:
            if name not in self.params:
                raise unknown_parameter(self.name, name, list(self.params))
        return parameters

    def trace(self, **parameters: Any) -> Trace:
        """The trace alone, as batched evaluation needs it."""
        self.known(parameters)
        for name in self._required:
            if name not in parameters:
                raise InputError(f"{self.name}: parameter {name!r} has no default; give its value")
        trace = Trace(self.name)
        self.function(trace, **parameters)
        return trace

    def inline(self, trace: Trace, *arguments: Any, **parameters: Any) -> Any:
        """Build this game inside another one; gives what its function returns."""
        self.known(parameters)
        with trace.block(self.name):
            return self.function(trace, *arguments, **parameters)

    def description_length(self) -> int:
        """Names, literals and operators of the function's source: how long the game's text is."""
        source = textwrap.dedent(inspect.getsource(self.function))
        kinds = (
            ast.Name,
            ast.Attribute,
            ast.Constant,
            ast.operator,
            ast.cmpop,
            ast.boolop,
            ast.arg,
        )
        return sum(isinstance(node, kinds) for node in ast.walk(ast.parse(source)))


def unknown_parameter(game: str, name: str, known: list[str]) -> InputError:
    """The error for a parameter that the game of this name does not have."""
    return InputError(str(unknown_name("parameter", name, known)).replace("the game", game))


def game(function: Callable[..., Any]) -> GameFactory:
    """Make a function on wires a factory of games: `@game def pd(b, reward=3): ...`."""
    return GameFactory(function)
