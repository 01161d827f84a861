"""Games without an end: Markov games with discounting, and their finite unrollings.

A Markov game is one open game played again and again: a state goes in, the next state comes out.
Stationary strategies are checked by one-shot deviations: the values V = (I - discount P)^-1 r are
paid as the continuation, and the ordinary engine looks at one stage.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float

from workingpapers.foundation.errors import InputError
from workingpapers.opengames import equilibrium
from workingpapers.opengames.compile import Frontier, compile_trace
from workingpapers.opengames.equilibrium import Report
from workingpapers.opengames.evaluate import Packed
from workingpapers.opengames.games import Game
from workingpapers.opengames.games import game as as_game
from workingpapers.opengames.solve import (
    MAX_PROFILES,
    Solution,
    Solutions,
    batch_size,
    dials,
    profile_batches,
)
from workingpapers.opengames.spaces import Space, canonical, show
from workingpapers.opengames.strategy import Strategy, describe, resolve
from workingpapers.opengames.trace import DecideNode, PayNode, Trace, Wire

StageStrategies = Mapping[str, Strategy] | np.ndarray
"""A strategy for every decision of the stage, or all of them as one vector."""

_NOW = "current state"
_NEXT = "next state"
# Above this many states the linear systems are solved one by one, as sparse ones.
_DENSE = 64


class MarkovGame:
    """A game played for ever on finitely many states that everybody may see.

    `stage(b, state)` builds one stage on a trace, from the wire of the state to the wire of the
    next state, with that stage's payoffs. Strategies are those of one stage, stationary.
    """

    def __init__(self, states: Sequence[Any], stage: Callable[[Trace, Wire], Wire]) -> None:
        self.states = tuple(canonical(state) for state in states)
        if not self.states or len(set(self.states)) < len(self.states):
            raise InputError("MarkovGame: expected at least one state, each once")
        self.stage = stage
        self._space = Space("State", self.states)

    # ---- one stage, compiled once

    @cached_property
    def _frontier(self) -> Frontier:
        """One stage from a state drawn uniformly, with a payoff for every player and next state.

        Payoffs have a point for the stage itself and one for each state that may come next: there
        1 is added if it does. Any continuation is a linear combination of these.
        """
        trace = Trace("Markov game")
        now = trace.nature(list(self.states), name=_NOW, space=self._space)
        coming = self._next(trace, now)
        points = np.eye(len(self.states) + 1)
        arriving = {state: points[1 + at] for at, state in enumerate(self.states)}
        players = {
            node.player
            for node in trace.nodes
            if isinstance(node, DecideNode) and isinstance(node.player, str)
        }
        for node in trace.nodes:
            if isinstance(node, PayNode):
                if isinstance(node.players, int):
                    raise InputError("MarkovGame: pays a player whom a wire names; name him")
                players.update(node.players)
            if isinstance(node, DecideNode) and isinstance(node.player, int):
                raise InputError(
                    f"MarkovGame: {node.label} is decided by a player whom a wire names; name him"
                )
        for player in sorted(players):
            trace.pay(player, arriving.__getitem__, coming)
        # A draw with one outcome, so that the states of its stage are the next states.
        trace.nature(_stays, coming, name=_NEXT)
        return compile_trace(trace, n_points=len(self.states) + 1)

    def _next(self, trace: Trace, now: Wire) -> Wire:
        coming = self.stage(trace, now)
        if not isinstance(coming, Wire):
            raise InputError(
                f"MarkovGame: stage returned {coming!r}; expected the wire of the next state"
            )
        return trace.let(_same, coming, space=self._space, name=_NEXT)

    @cached_property
    def _packed(self) -> Packed:
        return Packed(replace(self._frontier, table=self._frontier.table[:, :1].copy()))

    @cached_property
    def _continuation(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(rows of the payoff table that are continuations, their player, their next state)."""
        table = self._frontier.table
        player_of = np.full(len(table), -1)
        names = list(self.players)
        arrives = table[:, 1:] - table[:, :1]
        for stage in self._frontier.stages:
            for entry in stage.pays:
                rows = entry.rows[arrives[entry.rows].any(axis=1)]
                if len(rows):
                    player_of[rows] = names.index(self._frontier.columns[entry.column][0])
        rows = np.flatnonzero(player_of >= 0)
        return rows, player_of[rows], np.argmax(arrives[rows], axis=1)

    @property
    def players(self) -> tuple[str, ...]:
        return self._frontier.players

    def profile(self, strategies: StageStrategies) -> Float[np.ndarray, " slots"]:
        """The strategies of a stage as one vector; decisions see states as the stage lets them."""
        return resolve(self._frontier, strategies)

    def _play(
        self, profiles: Float[np.ndarray, "slots points"]
    ) -> tuple[
        Float[np.ndarray, "states players points"], Float[np.ndarray, "states states points"]
    ]:
        """Expected stage payoffs from each state, and the chances of each next state."""
        packed = self._packed
        labels = [stage.label for stage in packed.frontier.stages]
        drawn = labels.index(_NOW)
        part = slice(packed.tr_offset[drawn], packed.tr_offset[drawn + 1])
        outcome = packed.frontier.stages[drawn].outcome
        last = labels.index(_NEXT)
        ends = packed.frontier.stages[last]
        reached = slice(packed.state_offset[last], packed.state_offset[last + 1])
        codes = {packed.frontier.values[code]: int(code) for code in np.unique(outcome)}
        arrived = ends.states[:, ends.live.index(_NEXT)]
        uniform = packed.probability[part].copy()
        points = profiles.shape[1]
        paid = np.empty((len(self.states), len(self.players), points))
        moves = np.zeros((len(self.states), len(self.states), points))
        try:
            for at, state in enumerate(self.states):
                packed.probability[part] = outcome == codes[state]
                values = packed.evaluate(profiles)
                paid[at] = packed.payoffs(values)
                reach = values.reach[reached]
                for to, other in enumerate(self.states):
                    moves[at, to] = reach[arrived == codes[other]].sum(axis=0)
        finally:
            packed.probability[part] = uniform
        lost = np.abs(moves.sum(axis=1) - 1).max(axis=1)
        if lost.max() > 1e-9:
            state = self.states[int(np.argmax(lost))]
            raise InputError(
                f"MarkovGame: from state {show(state)} there is not always a next state; b.merge "
                "joins the wires of branches"
            )
        return paid, moves

    # ---- asking

    def values(self, strategies: StageStrategies, discount: float) -> dict[Any, dict[str, float]]:
        """For each state, every player's discounted payoff from there on.

        Payoffs of the stage after n others count discount to the power of n. InputError for a
        discount below 0, or of 1 and more.
        """
        worth = self._values(self.profile(strategies)[:, None], _discount(discount))[:, :, 0]
        return {
            state: {player: float(v) for player, v in zip(self.players, row, strict=True)}
            for state, row in zip(self.states, worth, strict=True)
        }

    def _values(
        self, profiles: Float[np.ndarray, "slots points"], discount: float
    ) -> Float[np.ndarray, "states players points"]:
        paid, moves = self._play(profiles)
        n = len(self.states)
        if n <= _DENSE:
            systems = np.eye(n) - discount * np.moveaxis(moves, 2, 0)
            return np.moveaxis(np.linalg.solve(systems, np.moveaxis(paid, 2, 0)), 0, 2)
        from scipy.sparse import csc_matrix, identity
        from scipy.sparse.linalg import splu

        worth = np.empty_like(paid)
        for point in range(paid.shape[2]):
            system = identity(n, format="csc") - discount * csc_matrix(moves[:, :, point])
            worth[:, :, point] = splu(csc_matrix(system)).solve(paid[:, :, point])
        return worth

    def _table(
        self, worth: Float[np.ndarray, "states players points"], discount: float
    ) -> Float[np.ndarray, "rows points"]:
        """Payoffs of a stage with the discounted values of the next state added."""
        rows, players, to = self._continuation
        table = np.repeat(self._frontier.table[:, :1], worth.shape[2], axis=1)
        table[rows] += discount * worth[to, players]
        return table

    def check(self, strategies: StageStrategies, discount: float, tol: float = 1e-9) -> Report:
        """Whether no player gains by a deviation at one stage, in any state, played once.

        By the one-shot deviation principle that is a Markov-perfect equilibrium if every decision
        of a stage is reached. The report's payoffs are those of a start in a uniformly drawn
        state. InputError for a discount below 0, or of 1 and more.
        """
        profile = self.profile(strategies)
        table = self._table(self._values(profile[:, None], _discount(discount)), discount)
        packed = Packed(replace(self._packed.frontier, table=table))
        return equilibrium.check(packed, profile, tol=tol)

    def max_gain(self, strategies: StageStrategies, discount: float) -> float:
        """The most that a one-shot deviation gains anywhere; not above 0 in equilibrium."""
        return float(self._gains(self.profile(strategies)[:, None], discount, 0.0)[0][0])

    def _gains(
        self, profiles: Float[np.ndarray, "slots points"], discount: float, tol: float
    ) -> tuple[Float[np.ndarray, " points"], Float[np.ndarray, "players points"]]:
        table = self._table(self._values(profiles, _discount(discount)), discount)
        return equilibrium.flags(self._packed, profiles, table, tol=tol)

    def pure_equilibria(self, discount: float, symmetric: bool = False) -> Solutions:
        """All pure stationary equilibria, by looking at every profile.

        `symmetric` looks only at those where all decisions take the same action when they see the
        same, which needs the same observations and actions at all of them. InputError for too
        many profiles.
        """
        frontier = self._frontier
        choices = self._shared_dials() if symmetric else dials(frontier)
        many = 1
        for options in choices:
            many *= len(options)
        if many > MAX_PROFILES:
            raise InputError(
                f"pure_equilibria: {many:.3g} pure stationary profiles, more than "
                f"{MAX_PROFILES:,}; try symmetric=True"
            )
        size = max(1, batch_size(self._packed) // len(self.states))
        found = []
        for profiles in profile_batches(frontier.n_slots, choices, size):
            excess, _ = self._gains(profiles, discount, 1e-9)
            for column in np.flatnonzero(excess <= 0):
                profile = np.ascontiguousarray(profiles[:, column])
                report = self.check(profile, discount)
                found.append(
                    Solution(
                        profile,
                        describe(frontier, profile),
                        report.payoffs,
                        report.max_regret,
                        report.ok,
                        "agent",
                        report.regret,
                    )
                )
        name = "pure stationary" + (", symmetric" if symmetric else "")
        return Solutions(True, name, found)

    def _shared_dials(self) -> list[np.ndarray]:
        decisions = self._frontier.decisions
        first = decisions[0]
        offered = dict(zip(first.observations, first.actions, strict=True))
        for decision in decisions[1:]:
            if dict(zip(decision.observations, decision.actions, strict=True)) != offered:
                raise InputError(
                    f"symmetric: {decision.name} and {first.name} do not see and do the same"
                )
        found = []
        for observation, actions in offered.items():
            firsts = [
                int(decision.starts[decision.observations.index(observation)])
                for decision in decisions
            ]
            found.append(np.array(firsts)[None] + np.arange(len(actions))[:, None])
        return found

    def critical_discount(
        self,
        strategies: StageStrategies,
        low: float = 0.0,
        high: float = 1 - 1e-6,
        tol: float = 1e-10,
    ) -> float:
        """The discount between `low` and `high` where a profile starts or ends to be supported.

        By bisection to within `tol`; InputError if the answer is the same at both ends.
        """
        profile = self.profile(strategies)[:, None]

        def holds(discount: float) -> bool:
            return bool(self._gains(profile, discount, 1e-12)[0][0] <= 0)

        at_low = holds(low)
        if at_low == holds(high):
            raise InputError(
                f"critical_discount: the profile {'is' if at_low else 'is not'} an equilibrium "
                f"at {low:g} and at {high:g}; expected a change in between"
            )
        while high - low > tol:
            middle = (low + high) / 2
            if middle in (low, high):
                break
            if holds(middle) == at_low:
                low = middle
            else:
                high = middle
        return (low + high) / 2

    # ---- finitely often

    def unroll(self, horizon: int, discount: float, start: Any) -> Game:
        """The game of `horizon` stages from the state `start`.

        Payoffs of stage t = 0, 1, ... count discount**t; here discount may be 1. Names of
        decisions get the suffix @1, @2, ....
        """
        if horizon < 1:
            raise InputError(f"horizon {horizon}: expected at least 1")
        if not 0 <= discount <= 1:
            raise InputError(f"discount {discount}: expected at least 0 and at most 1")
        first = canonical(start)
        if first not in self.states:
            raise InputError(f"start {show(first)}: expected one of {self._listed()}")
        trace = Trace(f"Markov game, {horizon} stages")
        now = trace.const(first, self._space)
        for number in range(horizon):
            with trace.discount(discount**number), trace.named(f"@{number + 1}"):
                now = self._next(trace, now)
        return Game(trace)

    def unrolled(self, strategies: StageStrategies, horizon: int) -> dict[str, Callable[..., Any]]:
        """Stationary strategies as strategies of the unrolled game."""
        profile = self.profile(strategies)
        moves: dict[str, Mapping[Any, Any]] = {}
        for decision in self._frontier.decisions:
            moves[decision.name] = {
                observation: {
                    action: float(weight)
                    for action, weight in zip(
                        actions, profile[begin : begin + len(actions)], strict=True
                    )
                }
                for observation, actions, begin in zip(
                    decision.observations, decision.actions, decision.starts, strict=False
                )
            }
        return {
            f"{name}@{number + 1}": _Lookup(by_observation)
            for number in range(horizon)
            for name, by_observation in moves.items()
        }

    def _listed(self) -> str:
        shown = ", ".join(show(state) for state in self.states[:8])
        return shown + (", ..." if len(self.states) > 8 else "")


class _Lookup:
    """A strategy that looks up what is seen."""

    def __init__(self, moves: Mapping[Any, Any]) -> None:
        self.moves = moves

    def __call__(self, *seen: Any) -> Any:
        return self.moves[seen]


def _same(value: Any) -> Any:
    return value


def _stays(value: Any) -> dict[Any, float]:
    return {value: 1.0}


def _discount(discount: float) -> float:
    if not 0 <= discount < 1:
        raise InputError(f"discount {discount}: expected at least 0 and below 1")
    return discount


# ---- examples with known answers


def _dilemma(
    temptation: float, reward: float, punishment: float, sucker: float
) -> dict[tuple[str, str], float]:
    """What the first of two earns in a prisoner's dilemma."""
    return {
        ("C", "C"): reward,
        ("C", "D"): sucker,
        ("D", "C"): temptation,
        ("D", "D"): punishment,
    }


def grim_trigger(
    reward: float = 3.0, sucker: float = 0.0, temptation: float = 5.0, punishment: float = 1.0
) -> MarkovGame:
    """The repeated prisoner's dilemma with one public memory: has anybody ever defected?

    States are "trust" and "broken", decisions player1 and player2, actions C and D. Grim trigger
    is {"trust": "C", "broken": "D"}, an equilibrium from a discount of (temptation - reward) /
    (temptation - punishment) on.
    """
    payoff = _dilemma(temptation, reward, punishment, sucker)

    def stage(b: Trace, state: Wire) -> Wire:
        one = b.decide("player1", ["C", "D"], sees=[state])
        two = b.decide("player2", ["C", "D"], sees=[state])
        b.pay("player1", lambda own, other: payoff[own, other], one, two)
        b.pay("player2", lambda own, other: payoff[own, other], two, one)
        return b.let(
            lambda s, x, y: "trust" if (s, x, y) == ("trust", "C", "C") else "broken",
            state, one, two,
        )  # fmt: skip

    return MarkovGame(["trust", "broken"], stage)


def ecological_public_good(
    collapse: float = 0.2,
    recovery: float = 0.1,
    factor: float = 1.2,
    cost: float = 5.0,
    degraded_payoff: float = -4.0,
) -> MarkovGame:
    """Two players sustain an environment that collapses under defection and recovers slowly.

    States are "prosperous" and "degraded", decisions player1 and player2, actions C and D. With k
    cooperators the prosperous state collapses with probability collapse * (2 - k) / 2, the
    degraded one recovers with recovery * k / 2; a player gets `degraded_payoff` if the state is or
    becomes degraded, else factor * cost * k / 2, less `cost` if he cooperates.
    """

    def change(state: str, one: str, two: str) -> dict[str, float]:
        k = (one == "C") + (two == "C")
        if state == "prosperous":
            down = collapse * (2 - k) / 2
            return {"prosperous": 1 - down, "degraded": down}
        up = recovery * k / 2
        return {"prosperous": up, "degraded": 1 - up}

    def earned(state: str, coming: str, own: str, other: str) -> float:
        if "degraded" in (state, coming):
            return degraded_payoff
        k = (own == "C") + (other == "C")
        return factor * cost * k / 2 - cost * (own == "C")

    def stage(b: Trace, state: Wire) -> Wire:
        one = b.decide("player1", ["C", "D"], sees=[state])
        two = b.decide("player2", ["C", "D"], sees=[state])
        coming = b.nature(change, state, one, two, name="change")
        b.pay("player1", earned, state, coming, one, two)
        b.pay("player2", earned, state, coming, two, one)
        return coming

    return MarkovGame(["prosperous", "degraded"], stage)


@as_game
def repeated_prisoners_dilemma(
    b: Trace,
    rounds: int = 10,
    discount: float = 1.0,
    reward: float = 3.0,
    sucker: float = 0.0,
    temptation: float = 5.0,
    punishment: float = 1.0,
) -> None:
    """The prisoner's dilemma in rounds; both see the last moves, ("", "") before the first.

    Decisions are player1@1, player2@1, player1@2, ...; the payoffs of round t = 1, 2, ... count
    discount**(t - 1). A Markov strategy is a function of (first player's move, second player's).
    """
    payoff = _dilemma(temptation, reward, punishment, sucker)
    last = (b.const(""), b.const(""))
    for number in range(rounds):
        with b.discount(discount**number), b.named(f"@{number + 1}"):
            one = b.decide("player1", ["C", "D"], sees=last, name="player1")
            two = b.decide("player2", ["C", "D"], sees=last, name="player2")
            b.pay("player1", lambda own, other: payoff[own, other], one, two)
            b.pay("player2", lambda own, other: payoff[own, other], two, one)
        last = (one, two)
