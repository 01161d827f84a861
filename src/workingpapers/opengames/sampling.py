"""Random terms, games and strategies: what the laws and the engines are compared on."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, no_type_check

import numpy as np

from workingpapers.opengames import terms
from workingpapers.opengames.games import Game, log10_leaves
from workingpapers.opengames.spaces import UTILITY, Ports, Space
from workingpapers.opengames.trace import Trace

BITS = Space("bit", [0, 1])
TRITS = Space("trit", [0, 1, 2])
PLAYERS = ("ann", "bob", "cleo")
NAMES = Space("Player", PLAYERS)


@dataclass(frozen=True)
class _Mix:
    """A fixed arbitrary function of small integers, equal for equal numbers."""

    number: int
    size: int

    @no_type_check
    def __call__(self, *values: Any) -> int:
        total = self.number
        for value in values:
            number = sum(value.encode()) if isinstance(value, str) else int(value)
            total = (total * 31 + number + 7) % 10_007
        return (total // 3) % self.size


def _mixing(number: int, size: int) -> Callable[..., int]:
    mix = _Mix(number, size)
    return lambda *values: mix(*values)


def _named(number: int) -> Callable[..., str]:
    mix = _Mix(number, len(PLAYERS))
    return lambda *values: PLAYERS[mix(*values)]


def _drawn(number: int, space: Space) -> Callable[..., dict[Any, float]]:
    mix = _Mix(number, 5)

    def distribution(*values: Any) -> dict[Any, float]:
        weights = [1 + mix(place, *values) for place in range(len(space))]
        return {value: weight / sum(weights) for value, weight in zip(space, weights, strict=True)}

    return distribution


class TermSampler:
    """Draws terms of matching ports from a seeded generator; decision names never repeat."""

    def __init__(self, generator: np.random.Generator) -> None:
        self.generator = generator
        self.decisions: list[tuple[str, int]] = []

    def _number(self, below: int) -> int:
        return int(self.generator.integers(below))

    def _space(self) -> Space:
        return (BITS, TRITS)[self._number(2)]

    def layer(self, x: Ports) -> terms.OpenGame:
        """A term (x, S) -> (y, R) of atoms side by side, S trivial."""
        parts: list[terms.OpenGame] = []
        at = 0
        while at < len(x):
            kind = self._number(8)
            port = x[at]
            if kind == 0 and at + 1 < len(x):
                parts.append(terms.swap(port, x[at + 1]))
                at += 1
            elif kind == 1:
                parts.append(terms.copy(port) >> (self.decide([port]) @ terms.identity(port)))
            elif kind == 2 and len(x) > 1:
                parts.append(self.decide([port]))
            elif kind == 3:
                space = self._space()
                drawn = _drawn(self._number(10_007), space)
                parts.append(terms.copy(port) >> (
                    terms.nature(drawn, [port], space, f"draw{self._number(10**9)}")
                    @ terms.identity(port)
                ))  # fmt: skip
            elif kind == 4:
                space = self._space()
                parts.append(
                    terms.forward(_mixing(self._number(10_007), len(space)), [port], [space])
                )
            elif kind == 5 and len(x) > 2:
                parts.append(terms.discard(port))
            elif kind == 6:
                parts.append(self._role(port))
            else:
                parts.append(terms.identity(port))
            at += 1
        if not x or self._number(3) == 0:
            parts.append(self.decide([]))
        game = parts[0]
        for part in parts[1:]:
            game = game @ part
        return game

    def decide(self, sees: list[Space]) -> terms.OpenGame:
        """A decision of one of three players on bits or trits."""
        space = self._space()
        name = f"d{len(self.decisions)}"
        self.decisions.append((name, len(space)))
        return terms.decision(PLAYERS[self._number(3)], space, sees, name=name)

    def _role(self, port: Space) -> terms.OpenGame:
        """A decision of the player that a function of the port names."""
        space = self._space()
        name = f"d{len(self.decisions)}"
        self.decisions.append((name, len(space)))
        role = terms.forward(_named(self._number(10_007)), [port], [terms.PLAYER])
        return (
            terms.copy(port)
            >> (terms.copy(port) @ terms.identity(port))
            >> (role @ terms.identity(port) @ terms.identity(port))
            >> (terms.role_decision(space, [port], name=name) @ terms.identity(port))
        )

    def choice(self, port: Space) -> terms.OpenGame:
        """A branch by a port's value: one decision in either branch."""
        tag = terms.forward(
            _tag(self._number(10_007)), [port], [terms.sum_of((port,), (port,))], "tag"
        )
        branches = self.decide([port]) + self.decide([port])
        merged = terms.forward(_untagged, branches.y, [terms.ANY], "untag")
        both = tag >> branches >> (merged @ terms.identity((), UTILITY))
        assert isinstance(both, terms.OpenGame)
        return both

    def finish(self, y: Ports, r: Ports) -> terms.OpenGame:
        """(y, r) -> (1, 1): returns to every utility port a number made of all that was made."""
        mixes = [_Mix(self._number(10_007), 9) for _ in r]

        def utilities(*made: Any) -> Any:
            paid = tuple(float(mix(*made)) for mix in mixes)
            return paid if len(paid) != 1 else paid[0]

        return terms.lens(lambda *made: (), utilities, y, r, (), (), "utilities")

    def closed(self, layers: int = 3, *, choice: bool = False) -> terms.OpenGame:
        """A closed term of some layers."""
        game = self.decide([]) @ terms.nature({0: 0.25, 1: 0.75}, makes=BITS, name="start")
        for _ in range(layers):
            following = self.layer(game.y)
            game = game >> (following @ terms.identity((), game.r))
        if choice and game.y:
            rest = terms.identity(game.y[1:]) if len(game.y) > 1 else None
            branch = self.choice(game.y[0])
            step = branch if rest is None else branch @ rest
            game = game >> (step @ terms.identity((), game.r))
        return game >> self.finish(game.y, game.r)

    def strategies(self) -> dict[str, Callable[..., dict[int, float]]]:
        """A mixed strategy for every decision drawn so far."""
        return {
            name: _drawn(self._number(10_007), BITS if size == 2 else TRITS)
            for name, size in self.decisions
        }


def random_term(
    generator: np.random.Generator, *, leaves: int = 300
) -> tuple[terms.OpenGame, dict[str, Callable[..., dict[int, float]]]]:
    """A closed term of at most so many outcomes, and a mixed profile for it."""
    while True:
        sampler = TermSampler(generator)
        term = sampler.closed(1 + int(generator.integers(3)), choice=generator.random() < 0.5)
        if log10_leaves(term.close().frontier) <= np.log10(leaves):
            return term, sampler.strategies()


def _tag(number: int) -> Callable[..., Any]:
    from workingpapers.opengames.spaces import Tagged

    mix = _Mix(number, 2)
    return lambda value: Tagged(mix(value), (value,))


def _untagged(value: Any) -> Any:
    return value.values[0]


def random_game(generator: np.random.Generator, *, decisions: int = 4, recall: bool = True) -> Game:
    """A random extensive game: draws and decisions in turn, each seeing some earlier wires.

    With `recall` a player sees all that he saw and did before.
    """
    trace = Trace("random")
    wires = [trace.nature(_drawn(int(generator.integers(10_007)), TRITS)(), name="start")]
    known: dict[str, list[Any]] = {player: [] for player in PLAYERS}
    count = 0
    while count < decisions:
        number = int(generator.integers(10_007))
        if generator.random() < 0.25:
            given = wires[int(generator.integers(len(wires)))]
            wires.append(trace.nature(_drawn(number, BITS), given, name=f"draw{len(wires)}"))
            continue
        player = PLAYERS[int(generator.integers(3))]
        fresh = [wire for wire in wires if wire not in known[player] and generator.random() < 0.4]
        sees = [*known[player], *fresh] if recall else fresh
        space = (BITS, TRITS)[int(generator.integers(2))]
        move = trace.decide(player, space, sees, name=f"d{count}")
        known[player] = [*sees, move]
        wires.append(move)
        count += 1
    for player in PLAYERS:
        for _ in range(3):
            size = min(len(wires), 3)
            scope = [wires[int(at)] for at in generator.choice(len(wires), size, replace=False)]
            pay = _mixing(int(generator.integers(10_007)), 11)
            trace.pay(player, pay, *scope)
    return Game(trace)
