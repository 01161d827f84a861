"""Composed games beside Gambit, OpenSpiel, QuantEcon and Nashpy: checking, solving, learning.

A check builds a game and finds what the players regret where everybody plays every action equally
often, so that every part of the game counts. The values beside the times are the seconds of its two
steps, the largest gain by one decision (regret), and the sum of what each player gains at most
(nash conv): they have to agree. "pure" counts all pure Nash equilibria; "cfr+" is 1000 iterations
on Kuhn poker, whose value is -1/18. This package starts from a game's function each time; the
others are handed the same game as the text of a tree or as arrays, whose making is not timed.
"""

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from paired import Contender, main
from workingpapers import opengames as og
from workingpapers.opengames import files, library, solve
from workingpapers.opengames.trace import Trace

ITERATIONS = 1000

# ---- the games


@og.game
def first_price_auction(b: Trace, levels: int = 8) -> None:
    """Two bidders with values and bids from 0 to levels - 1; equal bids share the object."""
    values = [b.nature(range(levels), name=f"value{number}") for number in (1, 2)]
    bids = [
        b.decide(f"bidder{number}", range(levels), sees=[value])
        for number, value in enumerate(values, start=1)
    ]
    highest = b.fold("highest", bids)
    for number, (value, bid) in enumerate(zip(values, bids, strict=True), start=1):
        share = (float, b.share(bid, highest))
        b.pay(f"bidder{number}", lambda value, bid: value - bid, value, bid, times=[share])


STAGE = {("C", "C"): (3, 3), ("C", "D"): (0, 5), ("D", "C"): (5, 0), ("D", "D"): (1, 1)}


@og.game
def repeated_dilemma(b: Trace, rounds: int = 6, discount: float = 0.5) -> None:
    """The prisoner's dilemma again and again; both see what was played in the round before."""
    before = b.const(("C", "C"))
    for number in range(rounds):
        one, other = (
            b.decide(player, "CD", sees=[before], name=f"{player} in round {number + 1}")
            for player in ("first", "second")
        )
        with b.discount(discount**number):
            b.pay("first", lambda one, other: STAGE[one, other][0], one, other)
            b.pay("second", lambda one, other: STAGE[one, other][1], one, other)
        before = b.let(lambda one, other: (one, other), one, other, name="before")


@og.game
def bimatrix(b: Trace, actions: int = 100) -> None:
    """A two-player table of random integers."""
    row, column = (b.decide(player, range(actions)) for player in ("row", "column"))
    for player, table in zip(("row", "column"), random_tables(actions), strict=True):
        b.pay(player, lambda i, j, table=table: table[i, j], row, column, vectorize=True)


def random_tables(actions: int) -> list[np.ndarray]:
    return list(np.random.default_rng(actions).integers(0, 1000, (2, actions, actions)) * 1.0)


def public_goods_tables(players: int) -> list[np.ndarray]:
    """The payoffs of the library's public goods game, one array a player."""
    gifts = np.meshgrid(*[np.arange(11)] * players, indexing="ij")
    return [10 - gift + 0.4 * sum(gifts) for gift in gifts]


@dataclass(frozen=True)
class Workload:
    """One case: what is asked of which game."""

    build: Callable[[], og.Game]
    task: str = "check"
    tables: Callable[[], list[np.ndarray]] | None = None
    """Its normal form, for games that players of tables can take."""
    forgetful: bool = False
    """Whether players forget, so that best responses are not defined."""


def irrigation(farmers: int) -> og.Game:
    return library.load("irrigation").game(farmers=farmers, level=3 * farmers)


def public_goods(players: int) -> og.Game:
    return library.load("public_goods").game(players=players)


WORKLOADS = {
    "irrigation 8": Workload(lambda: irrigation(8)),
    "irrigation 12": Workload(lambda: irrigation(12)),
    "irrigation 14": Workload(lambda: irrigation(14)),
    "auction 8": Workload(lambda: first_price_auction(levels=8)),
    "auction 16": Workload(lambda: first_price_auction(levels=16)),
    "public goods 5": Workload(lambda: public_goods(5), tables=lambda: public_goods_tables(5)),
    "repeated dilemma 6": Workload(lambda: repeated_dilemma(rounds=6), forgetful=True),
    "repeated dilemma 7": Workload(lambda: repeated_dilemma(rounds=7), forgetful=True),
    "bimatrix 100": Workload(lambda: bimatrix(actions=100), tables=lambda: random_tables(100)),
    "irrigation 3 pure": Workload(lambda: irrigation(3), "pure"),
    "auction 3 pure": Workload(lambda: first_price_auction(levels=3), "pure"),
    "public goods 4 pure": Workload(
        lambda: public_goods(4), "pure", tables=lambda: public_goods_tables(4)
    ),
    "Kuhn poker cfr+": Workload(library.load("kuhn_poker").game, "cfr+"),
}


def steps(build: Callable[[], Any], answer: Callable[[Any], dict[str, float]]) -> dict[str, float]:
    """The answer about a game, with the seconds of making the game and of finding the answer."""
    begin = time.perf_counter()
    game = build()
    built = time.perf_counter()
    found = answer(game)
    answered = time.perf_counter()
    return {"build s": built - begin, "answer s": answered - built, **found}


# ---- ours


def ours() -> Contender:
    def compiled(workload: Workload) -> og.Game:
        game = workload.build()
        # The pure search and CFR+ are of the frontier; a check takes the engine that is cheaper.
        if workload.task != "check" or game.engine == "frontier":
            game.packed  # noqa: B018
        return game

    def check(game: og.Game, workload: Workload, everything: Any) -> dict[str, float]:
        report = game.check(everything)
        if workload.forgetful:
            return {"regret": report.max_regret}
        # Nobody moves twice in these games, so that a player's gain is the sum of his decisions'.
        conv = sum(one.reach * max(one.gain, 0.0) for one in report.decisions)
        return {"regret": report.max_regret, "nash conv": conv}

    def pure(game: og.Game) -> dict[str, float]:
        found = solve.pure(game, notion="player")
        assert found.complete
        return {"equilibria": len(found)}

    def learn(game: og.Game) -> dict[str, float]:
        (one,) = solve.cfr(game, ITERATIONS)
        return {"exploitability": one.nash_conv / 2, "value": one.payoffs["player1"]}

    def setup(case: str) -> Any:
        workload = WORKLOADS[case]
        game = workload.build()
        everything = {
            decision.name: {
                observation: {action: 1 / len(actions) for action in actions}
                for observation, actions in zip(
                    decision.observations, decision.actions, strict=True
                )
            }
            for decision in game.frontier.decisions
        }
        # Loads the compiled kernels, so that the first peak of memory is not theirs.
        run((workload, everything))
        return workload, everything

    def run(state: Any) -> dict[str, float]:
        workload, everything = state
        answers = {
            "check": lambda game: check(game, workload, everything),
            "pure": pure,
            "cfr+": learn,
        }
        return steps(lambda: compiled(workload), answers[workload.task])

    return Contender("workingpapers", setup, run)


# ---- Gambit


def gambit() -> Contender:
    def check(game: Any) -> dict[str, float]:
        if game.is_tree:
            return {"regret": game.mixed_behavior_profile().agent_max_regret()}
        return {"regret": game.mixed_strategy_profile().max_regret()}

    def setup(case: str) -> Any:
        import io

        import pygambit

        workload = WORKLOADS[case]
        if workload.task == "cfr+":
            raise RuntimeError("has no CFR+")
        if workload.tables is not None:
            tables = workload.tables()
            return workload, lambda: pygambit.Game.from_arrays(*tables)
        text = files.efg_text(workload.build(), plain=True).encode()
        return workload, lambda: pygambit.read_efg(io.BytesIO(text))

    def run(state: Any) -> dict[str, float]:
        import pygambit

        workload, build = state
        if workload.task == "check":
            return steps(build, check)
        solver = pygambit.nash.enumpure_solve
        return steps(build, lambda game: {"equilibria": len(solver(game).equilibria)})

    return Contender("pygambit", setup, run, needs=("pygambit",))


# ---- OpenSpiel


def openspiel(name: str, *, compiled: bool) -> Contender:
    """OpenSpiel by its C++ functions or by its Python ones, on games that C++ holds."""

    def check(game: Any) -> dict[str, float]:
        import pyspiel
        from open_spiel.python.algorithms import exploitability
        from open_spiel.python.policy import UniformRandomPolicy

        if compiled:
            return {"nash conv": pyspiel.nash_conv(game, pyspiel.UniformPolicy(), True)}
        return {"nash conv": exploitability.nash_conv(game, UniformRandomPolicy(game))}

    def learn(game: Any) -> dict[str, float]:
        import pyspiel
        from open_spiel.python.algorithms import cfr, expected_game_score, exploitability

        solver = pyspiel.CFRPlusSolver(game) if compiled else cfr.CFRPlusSolver(game)
        for _ in range(ITERATIONS):
            solver.evaluate_and_update_policy()
        average = solver.average_policy()
        start = game.new_initial_state()
        if compiled:
            conv = pyspiel.nash_conv(game, average)
            values = pyspiel.expected_returns(start, average, -1, True)
        else:
            conv = exploitability.nash_conv(game, average)
            values = expected_game_score.policy_value(start, [average] * 2)
        return {"exploitability": conv / 2, "value": values[0]}

    def setup(case: str) -> Any:
        import pyspiel

        workload = WORKLOADS[case]
        if workload.task == "cfr+":
            return lambda: pyspiel.load_game("kuhn_poker"), learn
        if workload.task == "pure":
            raise RuntimeError("lists no pure equilibria")
        if workload.forgetful:
            raise RuntimeError("NashConv is not defined where players forget")
        if workload.tables is not None:
            raise RuntimeError("is measured on trees")
        text = files.efg_text(workload.build(), plain=True)
        return lambda: pyspiel.load_efg_game(text), check

    def run(state: Any) -> dict[str, float]:
        return steps(*state)

    return Contender(name, setup, run, needs=("pyspiel", "open_spiel"))


# ---- tools for tables


def tables_of(case: str) -> tuple[str, list[np.ndarray]]:
    workload = WORKLOADS[case]
    if workload.tables is None:
        raise RuntimeError("takes tables only")
    return workload.task, workload.tables()


def regrets(gains: list[float]) -> dict[str, float]:
    return {"regret": max(gains), "nash conv": sum(gains)}


def quantecon() -> Contender:
    def check(game: Any) -> dict[str, float]:
        gains = []
        for number, player in enumerate(game.players):
            # A player's array has his own axis first, then the others' in turn.
            others = (*game.nums_actions[number + 1 :], *game.nums_actions[:number])
            mixed = tuple(np.full(many, 1 / many) for many in others)
            worth = player.payoff_vector(mixed if len(mixed) > 1 else mixed[0])
            gains.append(worth.max() - worth.mean())
        return regrets(gains)

    def setup(case: str) -> Any:
        from quantecon.game_theory import NormalFormGame, Player

        task, tables = tables_of(case)
        axes = range(len(tables))
        turned = [
            np.ascontiguousarray(
                np.transpose(table, [(number + axis) % len(axes) for axis in axes])
            )
            for number, table in enumerate(tables)
        ]
        return task, lambda: NormalFormGame([Player(table) for table in turned])

    def run(state: Any) -> dict[str, float]:
        from quantecon.game_theory import pure_nash_brute

        task, build = state
        if task == "check":
            return steps(build, check)
        return steps(build, lambda game: {"equilibria": len(pure_nash_brute(game))})

    return Contender("quantecon", setup, run, needs=("quantecon",))


def nashpy() -> Contender:
    def check(game: Any) -> dict[str, float]:
        row, column = (np.full(many, 1 / many) for many in game.payoff_matrices[0].shape)
        current = game[row, column]
        best = (game.payoff_matrices[0] @ column).max(), (row @ game.payoff_matrices[1]).max()
        return regrets([high - now for high, now in zip(best, current, strict=True)])

    def setup(case: str) -> Any:
        import nashpy

        task, tables = tables_of(case)
        if len(tables) != 2 or task != "check":
            raise RuntimeError("takes two players")
        return lambda: nashpy.Game(*tables)

    def run(build: Any) -> dict[str, float]:
        warnings.simplefilter("ignore")
        return steps(build, check)

    return Contender("nashpy", setup, run, needs=("nashpy",))


CONTENDERS = (
    ours(),
    gambit(),
    openspiel("OpenSpiel, C++", compiled=True),
    openspiel("OpenSpiel, Python", compiled=False),
    quantecon(),
    nashpy(),
)

if __name__ == "__main__":
    raise SystemExit(main("Composed games", CONTENDERS, tuple(WORKLOADS)))
