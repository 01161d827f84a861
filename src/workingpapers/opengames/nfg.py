"""Payoff tables in strategic game files, version 1, as Gambit has them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from workingpapers.foundation.console import write_atomically
from workingpapers.foundation.errors import InputError
from workingpapers.opengames.compile import Decision, Frontier
from workingpapers.opengames.gambit_text import (
    MAX_NODES,
    Scanner,
    decimal_text,
    fresh,
    header,
    labels,
    quoted,
    scan_file,
    single_setting,
)
from workingpapers.opengames.games import Game
from workingpapers.opengames.trace import Trace


def write_nfg(
    game: Game,
    path: str | Path,
    max_profiles: int = MAX_NODES,
    *,
    outcomes: bool = False,
    plain: bool = False,
) -> None:
    """Write the table of expected payoffs as a strategic game file, version 1.

    With `outcomes` equal payoffs are one outcome. InputError unless every player has at most one
    decision and sees nothing there, and if there are more than `max_profiles` profiles.
    """
    write_atomically(Path(path), nfg_text(game, max_profiles, outcomes=outcomes, plain=plain))


def nfg_text(
    game: Game, max_profiles: int = MAX_NODES, *, outcomes: bool = False, plain: bool = False
) -> str:
    """The text of the strategic game file; who decides nothing has the one strategy `-`."""
    frontier = single_setting(game)
    own = _decision_of_player(game, frontier)
    decisions = [own[player] for player in frontier.players]
    actions = [("-",) if one is None else one.actions[0] for one in decisions]
    count = math.prod(len(one) for one in actions)
    if count > max_profiles:
        raise InputError(
            f"{game.title}: its table has {count:,} profiles; expected at most "
            f"{max_profiles:,} (max_profiles)"
        )
    payoffs = _all_payoffs(game, decisions, count)
    strategies = "\n".join(
        f"{{ {' '.join(quoted(name) for name in labels(one, plain))} }}" for one in actions
    )
    top = header("NFG 1 R", game.title, frontier.players, plain)
    lines = [top, "", f"{{ {strategies} }}", '""', ""]
    rows = [tuple(decimal_text(one) for one in row) for row in payoffs.T.tolist()]
    if not outcomes:
        return "\n".join([*lines, *(" ".join(row) for row in rows)]) + "\n"
    numbers = {row: number for number, row in enumerate(dict.fromkeys(rows), start=1)}
    lines += ["{", *(f'{{ "" {", ".join(row)} }}' for row in numbers), "}"]
    return "\n".join([*lines, " ".join(str(numbers[row]) for row in rows)]) + "\n"


def _decision_of_player(game: Game, frontier: Frontier) -> dict[str, Decision | None]:
    own: dict[str, Decision | None] = dict.fromkeys(frontier.players)
    for decision in frontier.decisions:
        where = f"{game.title}: the decision {decision.name}"
        wanted = "a strategic game file has one decision a player, who sees nothing there"
        if any(decision.observations):
            raise InputError(f"{where} depends on what is seen; {wanted} (write_efg has trees)")
        if len(decision.players) > 1:
            raise InputError(f"{where} is taken by one of several players; {wanted}")
        for player in decision.players:
            if own[player] is not None:
                raise InputError(f"{where} is not the only one of {player}; {wanted}")
            own[player] = decision
    return own


def _all_payoffs(game: Game, decisions: Sequence[Decision | None], count: int) -> np.ndarray:
    """Expected payoffs of every pure profile, the first player's actions changing fastest."""
    packed = game.packed
    parts = []
    chunk = max(1, 4_000_000 // packed.n_states)
    for first in range(0, count, chunk):
        profiles = np.arange(first, min(first + chunk, count))
        matrix = np.zeros((packed.frontier.n_slots, len(profiles)))
        left = profiles
        for decision in decisions:
            if decision is not None:
                size = len(decision.actions[0])
                matrix[decision.first_slot + left % size, np.arange(len(profiles))] = 1.0
                left = left // size
        payoffs = packed.payoffs(packed.evaluate(matrix))
        parts.append(np.broadcast_to(payoffs, (payoffs.shape[0], len(profiles))))
    return np.concatenate(parts, axis=1)


def read_nfg(path: str | Path) -> Game:
    """The game of a strategic game file, version 1, with payoffs or with outcomes.

    Each player has one decision, called by his name. InputError names the line of what is wrong.
    """
    scan = scan_file(Path(path))
    scan.word(["NFG"], "NFG")
    scan.word(["1"], "version 1")
    scan.word(["R", "D"], "R or D")
    title = scan.quotation("the game's title")
    players = scan.players()
    place = scan.offset
    strategies = [_strategies(scan) for _ in scan.braced("the players' strategies")]
    if len(strategies) != len(players):
        scan.fail(
            f"expected the strategies of {len(players)} players, found {len(strategies)}", place
        )
    if scan.kind == "text":
        scan.quotation("a comment")
    count = math.prod(len(own) for own in strategies)
    if scan.kind == "{":
        rows = _outcome_rows(scan, len(players), count)
    else:
        rows = [
            tuple(
                scan.number(f"payoff {at * len(players) + number} of {count * len(players)}")
                for number in range(1, len(players) + 1)
            )
            for at in range(count)
        ]
    if scan.kind:
        scan.expected(f"the end of the file after {count} profiles")
    trace = Trace(title)
    moves = [trace.decide(player, own) for player, own in zip(players, strategies, strict=True)]
    for number, player in enumerate(players):
        trace.pay(player, _Table(strategies, [row[number] for row in rows]), *moves)
    return Game(trace)


def _strategies(scan: Scanner) -> list[str]:
    """A player's strategies by name, or by how many there are."""
    place = scan.offset
    taken: set[str] = set()
    if scan.kind != "{":
        count = scan.whole("{ before a player's strategies, or their number")
        if count > len(scan.tokens):
            scan.fail(f"{count} strategies are more than this file has payoffs for", place)
        names = [str(number) for number in range(1, count + 1)]
    else:
        names = []
        for _ in scan.braced("a player's strategies"):
            name = scan.quotation("a strategy's name or }")
            names.append(fresh(name or f"_{len(names) + 1}", taken))
    if not names:
        scan.fail("expected at least one strategy of a player", place)
    return names


def _outcome_rows(scan: Scanner, players: int, count: int) -> list[tuple[float, ...]]:
    known: list[tuple[float, ...]] = [(0.0,) * players]
    for _ in scan.braced("the outcomes"):
        place = scan.offset
        values = []
        for at, _ in enumerate(scan.braced("an outcome's name and payoffs")):
            if at == 0 and scan.kind == "text":
                scan.quotation("the outcome's name")
            if scan.kind != "}":
                values.append(scan.number("a payoff or }"))
        if len(values) != players:
            scan.fail(f"expected {players} payoffs, one a player, found {len(values)}", place)
        known.append(tuple(values))
    rows = []
    for at in range(count):
        place = scan.offset
        number = scan.whole(f"outcome {at + 1} of {count}")
        if number >= len(known):
            scan.fail(f"outcome {number} is not there; there are {len(known) - 1}", place)
        rows.append(known[number])
    return rows


@dataclass(frozen=True, eq=False)
class _Table:
    """A player's payoffs, the first player's strategies changing fastest."""

    strategies: Sequence[Sequence[str]]
    payoffs: Sequence[float]

    def __call__(self, *moves: str) -> float:
        at, stride = 0, 1
        for names, move in zip(self.strategies, moves, strict=True):
            at += names.index(move) * stride
            stride *= len(names)
        return self.payoffs[at]
