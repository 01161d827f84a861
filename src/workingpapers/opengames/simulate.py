"""Sampled play, for what no closed form shows, and populations that learn to play.

`play` moves all plays along the compiled stages at once; `sample_trace` does without compiling,
for games whose states do not fit; `learn` lets populations adapt and reports where they go.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from jaxtyping import Float, Int

from workingpapers.foundation.errors import InputError
from workingpapers.opengames.compile import (
    Compiler,
    Decision,
    Frontier,
    Rows,
    Stage,
    available_memory,
)
from workingpapers.opengames.evaluate import chances
from workingpapers.opengames.solve import action_values, softmax
from workingpapers.opengames.spaces import key_text, show
from workingpapers.opengames.strategy import (
    Strategy,
    describe,
    observation_starts,
    random_profile,
    resolve,
    unknown_name,
)
from workingpapers.opengames.trace import DecideNode, LetNode, NatureNode, PayNode, Trace

if TYPE_CHECKING:
    from workingpapers.opengames.games import Game

Rule = Literal["replicator", "best_reply", "q_learning", "experience_weighted"]
RULES: tuple[Rule, ...] = get_args(Rule)


@dataclass(frozen=True, eq=False)
class Plays:
    """Sampled plays of a game."""

    n: int
    seed: int
    codes: dict[str, Int[np.ndarray, " n"]]
    """For each draw and decision, what happened in every play, as places in `values`."""
    values: list[Any]
    payoffs: dict[str, Float[np.ndarray, " n"]]

    @property
    def mean(self) -> dict[str, float]:
        """Each player's average payoff."""
        return {player: float(paid.mean()) for player, paid in self.payoffs.items()}

    @property
    def standard_error(self) -> dict[str, float]:
        """Of each average; infinite for one play."""
        return {player: _standard_error(paid) for player, paid in self.payoffs.items()}

    def outcomes(self, name: str) -> list[Any]:
        """What a draw or decision was in every play; ABSENT where it was not played."""
        return [self.values[code] for code in self._column(name).tolist()]

    def shares(self, name: str) -> dict[Any, float]:
        """How often each outcome of a draw or decision came, of all plays."""
        counts = np.bincount(self._column(name))
        return {self.values[at]: float(counts[at] / self.n) for at in np.flatnonzero(counts)}

    def _column(self, name: str) -> Int[np.ndarray, " n"]:
        if name not in self.codes:
            raise unknown_name("draw or decision", name, list(self.codes))
        return self.codes[name]

    def explain(self) -> str:
        """Averages with their standard errors, as text."""
        errors = self.standard_error
        lines = [f"{self.n:,} plays, seed {self.seed}"]
        lines += [
            f" {player}: {mean:.6g} ± {errors[player]:.2g}" for player, mean in self.mean.items()
        ]
        return "\n".join(lines)

    __str__ = explain


def _standard_error(sample: Float[np.ndarray, " n"]) -> float:
    if len(sample) < 2:
        return math.inf
    return float(sample.std(ddof=1) / math.sqrt(len(sample)))


# ---- plays of a compiled game


def play(
    game: "Game", strategies: Mapping[str, Strategy] | np.ndarray, n: int = 1, seed: int = 0
) -> Plays:
    """`n` plays of the compiled game, all moved along stage by stage."""
    from workingpapers.opengames import kernels

    if n < 1:
        raise InputError(f"n {n}: expected at least 1")
    frontier = game.frontier
    each = 4 * len(frontier.stages) + 8 * (len(frontier.players) + 3)
    most = int(0.6 * min(available_memory(), 1e15)) // each
    if n > most:
        raise InputError(f"n {n:,}: expected at most {most:,}, for the memory of this machine")
    profile = resolve(frontier, strategies)
    generator = np.random.default_rng(seed)
    state = np.zeros(n, dtype=np.int64)
    chosen = np.empty(n, dtype=np.int64)
    codes: dict[str, np.ndarray] = {}
    payoffs = {player: np.zeros(n) for player in frontier.players}
    for stage in frontier.stages:
        if len(stage.next) == stage.n_states:
            chosen[:] = state
            state = stage.next[state]
        else:
            kernels.sample_stage(
                stage.start, stage.next, cumulative(stage.start, chances(stage, profile)), state,
                generator.random(n), chosen,
            )  # fmt: skip
        if stage.decision >= 0 or stage.label != "start":
            codes[stage.label] = stage.outcome.astype(np.int32)[chosen]
        for player, paid in _paid(frontier, stage).items():
            payoffs[player] += paid[chosen]
    return Plays(n, seed, codes, frontier.values, payoffs)


def _paid(frontier: Frontier, stage: Stage) -> dict[str, Float[np.ndarray, " transitions"]]:
    """What each player who is paid on a stage gets on its transitions."""
    found: dict[str, np.ndarray] = {}
    for entry in stage.pays:
        worth = frontier.table[entry.rows, 0]
        for player in frontier.columns[entry.column]:
            found[player] = found[player] + worth if player in found else worth
    return {player: paid for player, paid in found.items() if paid.any()}


def cumulative(
    start: Int[np.ndarray, " _"], chance: Float[np.ndarray, " transitions"]
) -> Float[np.ndarray, " transitions"]:
    """Cumulated probabilities within each state, above 1 from the last possible one on.

    So that rounding never leads where the probability is 0.
    """
    sums = np.cumsum(chance)
    before = np.concatenate([[0.0], sums])[start[:-1]]
    within = sums - np.repeat(before, np.diff(start))
    possible = np.where(chance > 0, np.arange(len(chance)), -1)
    last = np.maximum.reduceat(possible, start[:-1])
    within[last[last >= 0]] = 2.0
    return within


# ---- plays of a trace that is not compiled


def sample_trace(
    game: "Game | Trace", strategies: Mapping[str, Strategy], n: int, seed: int = 0
) -> Plays:
    """`n` plays of a game that need not fit when compiled: its nodes one by one, on columns.

    Strategies are as everywhere, but only what is seen in some play has to have a move. Raises
    InputError for a game that is not made of a trace.
    """
    trace = game if isinstance(game, Trace) else game.trace
    if trace is None:
        raise InputError("sample_trace: needs the game's trace, not a file")
    if n < 1:
        raise InputError(f"n {n}: expected at least 1")
    return _Sampler(trace, strategies, n, seed).plays()


class _Sampler(Compiler):
    """Computes nodes as the compiler does, on rows that are plays instead of states."""

    def __init__(self, trace: Trace, strategies: Mapping[str, Strategy], n: int, seed: int) -> None:
        super().__init__(trace, 1, 0)
        self.strategies = strategies
        self.n = n
        self.seed = seed
        self.generator = np.random.default_rng(seed)
        names = [node.label for node in trace.nodes if isinstance(node, DecideNode)]
        for name in strategies:
            if name not in names:
                raise unknown_name("decision", name, names)
        for name in names:
            if name not in strategies:
                raise InputError(f"strategies: no strategy for the decision {name!r}")

    def plays(self) -> Plays:
        last = {wire: node.index for node in self.trace.nodes for wire in node.inputs}
        rows = Rows({}, np.empty(0, dtype=np.int64))
        codes: dict[str, np.ndarray] = {}
        payoffs: dict[str, np.ndarray] = {player: np.zeros(self.n) for player in self.players}
        for node in self.trace.nodes:
            if isinstance(node, PayNode):
                self._collect(node, rows, payoffs)
            elif isinstance(node, LetNode):
                rows.new[node.index] = self._let(node, rows, self.n)
            else:
                assert isinstance(node, NatureNode | DecideNode)
                drawn = self._draw(node, rows)
                rows.new[node.index] = drawn
                codes[node.label] = drawn.astype(np.int32)
            for wire in (*node.inputs, node.index):
                if last.get(wire, -1) <= node.index:
                    rows.new.pop(wire, None)
        return Plays(self.n, self.seed, codes, self.codes.values, payoffs)

    def _collect(self, node: PayNode, rows: Rows, payoffs: dict[str, np.ndarray]) -> None:
        self.table.clear()
        self.table_rows.clear()
        for entry in self._pay(node, rows, self.n):
            paid = np.array(self.table, dtype=float)[entry.rows]
            for player in list(self.columns)[entry.column]:
                payoffs[player] = payoffs.get(player, 0.0) + paid

    def _draw(self, node: NatureNode | DecideNode, rows: Rows) -> np.ndarray:
        """The outcome of a draw or decision in every play."""
        from workingpapers.opengames import kernels

        columns = [rows.column(wire) for wire in node.inputs]
        first, number, played = self._distinct_inputs(node, columns, self.n)
        wires = node.sees if isinstance(node, DecideNode) else node.parents
        arguments = self._arguments(node, columns, first, wires)
        outcomes: list[int] = []
        weights: list[float] = []
        sizes = []
        moves = self._moves(node, arguments, played) if isinstance(node, DecideNode) else None
        for given, fine in zip(arguments, played, strict=True):
            drawn, chance = [0], [1.0]
            if fine and moves is not None:
                drawn, chance = moves[given]
            elif fine:
                assert isinstance(node, NatureNode)
                drawn, chance = self._distribution(
                    node, [self.codes.values[code] for code in given]
                )
            outcomes += drawn
            weights += chance
            sizes.append(len(drawn))
        start = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        chosen = np.empty(self.n, dtype=np.int64)
        kernels.sample_stage(
            start, np.arange(len(weights)), cumulative(start, np.array(weights)),
            number.astype(np.int64), self.generator.random(self.n), chosen,
        )  # fmt: skip
        return np.array(outcomes, dtype=np.int64)[chosen]

    def _moves(
        self, node: DecideNode, arguments: list[tuple[int, ...]], played: list[bool]
    ) -> dict[tuple[int, ...], tuple[list[int], list[float]]]:
        """For what is seen in some play, the actions and their probabilities."""
        seen = list(dict.fromkeys(
            given for given, fine in zip(arguments, played, strict=True) if fine
        ))  # fmt: skip
        offered = [self._actions(node, given) for given in seen]
        values = self.codes.values
        starts = np.concatenate([[0], np.cumsum([len(codes) for codes in offered])])
        decision = Decision(
            node.label,
            node.eps,
            0,
            0,
            [tuple(values[code] for code in given) for given in seen],
            [tuple(values[code] for code in codes) for codes in offered],
            starts.astype(np.int64),
            [],
            [],
            0,
            0,
        )
        table = np.empty((0, 1))
        part = Frontier("", values, (), [], [decision], [], table, int(starts[-1]), 0, 0)
        strategy = self.strategies[node.label]
        if isinstance(strategy, np.ndarray):
            raise InputError(
                f"strategy of {node.label}: an array needs all observations, which are not known "
                "here; expected an action, a mapping or a function"
            )
        if isinstance(strategy, Mapping):
            strategy = _lookup(strategy, f"strategy of {node.label}")
        profile = resolve(part, {node.label: strategy}).tolist()
        return {
            given: (codes, profile[begin : begin + len(codes)])
            for given, codes, begin in zip(seen, offered, starts.tolist(), strict=False)
        }


def _lookup(strategy: Mapping[Any, Any], where: str) -> Any:
    """A function of what is seen, from a mapping that need not cover all that can be."""
    plain = all(isinstance(value, int | float | np.number) for value in strategy.values())

    def move(*observation: Any) -> Any:
        seen = observation[0] if len(observation) == 1 else observation
        for key in (seen, observation):
            if key in strategy:
                return strategy[key]
        if plain:
            return strategy
        try:
            return strategy[key_text(seen)]
        except (KeyError, InputError):
            raise InputError(
                f"{where} at {show(observation)}: no action is given for this observation"
            ) from None

    return move


# ---- populations that learn


@dataclass(frozen=True, eq=False)
class Learning:
    """Where learning populations went, over independent runs."""

    rule: Rule
    seed: int
    frontier: Frontier
    profiles: Float[np.ndarray, "rounds slots"]
    """The runs' mean probabilities, before learning and after each round."""
    profile_errors: Float[np.ndarray, "rounds slots"]
    """Standard errors of these means."""
    payoffs: Float[np.ndarray, "rounds players"]
    """The runs' mean expected payoffs."""
    payoff_errors: Float[np.ndarray, "rounds players"]
    final: Float[np.ndarray, "slots runs"]
    """What each run came to."""
    regrets: Float[np.ndarray, " runs"]
    """The most that any decision gains by deviating from what each run came to."""

    def strategies(self, round_number: int = -1) -> dict[str, Any]:
        """The mean probabilities of one round as strategies."""
        return describe(self.frontier, self.profiles[round_number])

    def explain(self) -> str:
        """How it ended, as text."""
        runs = self.final.shape[1]
        lines = [
            f"{self.rule}: {len(self.profiles) - 1:,} rounds, {runs} runs, seed {self.seed}; "
            f"largest regret at the end {self.regrets.mean():.3g} ± "
            f"{_standard_error(self.regrets):.2g}"
        ]
        for at, player in enumerate(self.frontier.players):
            lines.append(
                f" {player}: {self.payoffs[-1, at]:.6g} ± {self.payoff_errors[-1, at]:.2g}"
            )
        return "\n".join(lines)

    __str__ = explain


def learn(
    game: "Game",
    rule: Rule = "replicator",
    rounds: int = 1000,
    seed: int = 0,
    *,
    runs: int = 20,
    start: "Mapping[str, Strategy] | np.ndarray | None" = None,
    step: float = 0.1,
    precision: float = 1.0,
    memory: float = 0.9,
    foregone: float = 0.5,
) -> Learning:
    """Let populations learn in `runs` independent runs, from `start` or from random profiles.

    replicator           probabilities grow in proportion to exp(step x payoff): the replicator
                         equation's exact flow while payoffs stand still.
    best_reply           a share `step` of each population moves to its best reply.
    q_learning           each round one action is drawn at every observation, in proportion to
                         exp(precision x value); the value of what was done moves by the share
                         `step` to its payoff against what the others drew.
    experience_weighted  attractions of Camerer and Ho (1999): actions not taken count `foregone`,
                         the past `memory`, in averages; choices as in q_learning.

    Values and attractions start at 0, and the last two rules choose by them alone, so that they
    take no `start`. Payoffs of draws by nature are averaged. What is not reached is not learned.
    """
    if rule not in RULES:
        raise InputError(f"rule {rule!r}: expected {', '.join(RULES)}")
    if rounds < 1 or runs < 1:
        raise InputError(f"rounds {rounds}, runs {runs}: expected at least 1")
    for name, value in (("step", step), ("memory", memory), ("foregone", foregone)):
        if not 0 <= value <= 1:
            raise InputError(f"{name} {value}: expected at least 0 and at most 1")
    packed = game.packed
    frontier = packed.frontier
    if not frontier.n_slots:
        raise InputError(f"learn: nobody decides anything in {frontier.title}")
    generator = np.random.default_rng(seed)
    starts = observation_starts(frontier)
    sizes = np.diff(starts)
    by_choice = rule in ("q_learning", "experience_weighted")
    if by_choice and start is not None:
        raise InputError(f"start: {rule} starts from values of 0")
    if by_choice:
        profile = np.repeat(np.repeat(1 / sizes, sizes)[:, None], runs, axis=1)
    elif start is not None:
        profile = np.repeat(resolve(frontier, start)[:, None], runs, axis=1)
    else:
        profile = np.stack([random_profile(frontier, generator) for _ in range(runs)], axis=1)
    attraction = np.zeros_like(profile)
    experience = np.ones_like(profile)
    means = np.empty((rounds + 1, frontier.n_slots))
    errors = np.empty_like(means)
    paid = np.empty((rounds + 1, len(frontier.players)))
    paid_errors = np.empty_like(paid)
    for number in range(rounds + 1):
        values = packed.evaluate(profile)
        payoffs = packed.payoffs(values)
        means[number], errors[number] = _mean_and_error(profile)
        paid[number], paid_errors[number] = _mean_and_error(payoffs)
        if number == rounds:
            break
        if not by_choice:
            worth = action_values(packed, values)
            if rule == "replicator":
                profile = _replicate(profile, worth, starts, step)
            else:
                profile = _move_to_best(profile, worth, starts, step)
            continue
        drawn = draw_pure(starts, profile, generator)
        worth = action_values(packed, packed.evaluate(drawn))
        reached = ~np.isnan(worth)
        if rule == "q_learning":
            taken = reached & (drawn > 0)
            attraction[taken] += step * (worth - attraction)[taken]
        else:
            weight = foregone + (1 - foregone) * drawn
            before = memory * experience
            fresh = (before * attraction + weight * worth) / (before + 1)
            attraction = np.where(reached, fresh, attraction)
            experience = np.where(reached, before + 1, experience)
        profile = softmax(starts, precision * attraction)
    current, best = packed.gains(profile, values)
    gains = np.where(values.group_weight > 0, best - current, 0.0).max(axis=0)
    return Learning(
        rule, seed, frontier, means, errors, paid, paid_errors, profile, np.maximum(gains, 0.0)
    )


def _mean_and_error(
    sample: Float[np.ndarray, "rows runs"],
) -> tuple[Float[np.ndarray, " rows"], Float[np.ndarray, " rows"]]:
    runs = sample.shape[1]
    if runs == 1:
        return sample[:, 0], np.full(len(sample), np.inf)
    return sample.mean(axis=1), sample.std(axis=1, ddof=1) / math.sqrt(runs)


def _replicate(
    profile: Float[np.ndarray, "slots runs"],
    worth: Float[np.ndarray, "slots runs"],
    starts: Int[np.ndarray, " _"],
    step: float,
) -> Float[np.ndarray, "slots runs"]:
    with np.errstate(divide="ignore"):
        scores = np.log(profile)
    return softmax(starts, scores + step * np.nan_to_num(worth))


def _move_to_best(
    profile: Float[np.ndarray, "slots runs"],
    worth: Float[np.ndarray, "slots runs"],
    starts: Int[np.ndarray, " _"],
    step: float,
) -> Float[np.ndarray, "slots runs"]:
    sizes = np.diff(starts)
    highest = np.repeat(np.maximum.reduceat(worth, starts[:-1], axis=0), sizes, axis=0)
    # Where nobody comes the values are NaN, which nothing reaches: there nothing moves.
    best = (worth >= highest - 1e-12).astype(float)
    many = np.repeat(np.add.reduceat(best, starts[:-1], axis=0), sizes, axis=0)
    target = np.divide(best, many, out=profile.copy(), where=many > 0)
    return (1 - step) * profile + step * target


def draw_pure(
    starts: Int[np.ndarray, " _"],
    profile: Float[np.ndarray, "slots runs"],
    generator: np.random.Generator,
) -> Float[np.ndarray, "slots runs"]:
    """One action at every observation of every run, drawn with the profile's probabilities."""
    sizes = np.diff(starts)
    runs = profile.shape[1]
    sums = np.cumsum(profile, axis=0)
    before = np.concatenate([np.zeros((1, runs)), sums])[starts[:-1]]
    uniform = generator.random((len(sizes), runs))
    passed = sums - np.repeat(before, sizes, axis=0) <= np.repeat(uniform, sizes, axis=0)
    place = np.add.reduceat(passed.astype(np.int64), starts[:-1], axis=0)
    chosen = starts[:-1, None] + np.minimum(place, (sizes - 1)[:, None])
    drawn = np.zeros_like(profile)
    drawn[chosen, np.arange(runs)] = 1.0
    return drawn
