"""The definition read literally: terms as optics in contexts, slow, the oracle of the tests.

A context of an open game is a distribution over what it observes together with everything it does
not, and the rest of the play: from what the game makes, through what it receives and feeds back, to
what everybody is credited in the end (arXiv:1603.04641 and arXiv:1910.03656, with payoffs of one
name added up over the whole game). Nothing here knows of traces, frontiers or merging:
distributions are lists that are never merged, and each deviation plays the whole game again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

from workingpapers.opengames import terms
from workingpapers.opengames.compile import distribution_pairs
from workingpapers.opengames.spaces import Tagged
from workingpapers.opengames.trace import OPERATIONS, Trace

Ledger = dict[str, float]
Values = tuple[Any, ...]
Update = Callable[[Values], tuple[Values, Ledger]]
"""The backward part of one play: from what is received to what is fed back and credited."""


@dataclass(frozen=True)
class ContextOf:
    """Where an open game stands: how it got there, and how the play ends."""

    history: list[tuple[Any, Values, float]]
    """(unobserved, observed, probability)."""
    end: Callable[[Any, Values, Update], list[tuple[Ledger, float]]]
    """From the unobserved, what is made and the game's own update: weighted total credits."""


CLOSED = ContextOf([(None, (), 1.0)], lambda theta, y, update: [(update(())[1], 1.0)])
"""The context of a game whose ports are all trivial."""


def context_of(context: terms.Context, game: terms.OpenGame) -> ContextOf:
    """The context of an open game played alone."""
    history = []
    for value, weight in context.prior.items():
        x = tuple(value) if len(game.x) > 1 else (value,) if game.x else ()
        history.append((x, x, weight))

    def end(theta: Any, y: Values, update: Update) -> list[tuple[Ledger, float]]:
        received = context.continuation(theta, y)
        r = () if not game.r else (received,) if len(game.r) == 1 else tuple(received)
        return [(update(r)[1], 1.0)]

    return ContextOf(history, end)


@dataclass(frozen=True)
class Row:
    """One decision at one observation for one player: what each action is worth there."""

    player: str
    decision: str
    observation: Values
    reach: float
    worth: dict[Any, float]
    """Expected credit over the whole game, by action."""
    played: dict[Any, float]

    @property
    def gain(self) -> float:
        current = sum(weight * self.worth[action] for action, weight in self.played.items())
        return max(self.worth.values()) - current


@dataclass(frozen=True)
class _Round(terms.OpenGame):
    """One round of a repeated game: its own names, and its weight."""

    stage: terms.OpenGame
    suffix: str
    weight: float

    def build(self, trace: Trace, x: terms.Wires) -> tuple[terms.Wires, terms.Back]:
        return self.stage.build(trace, x)


def unrolled(game: terms.Repeated) -> terms.OpenGame:
    """A repeated game as its rounds one after another."""
    rounds: list[terms.OpenGame] = [
        _Round(game.x, (), game.y, (), game.stage, f"@{t + 1}", game.discount**t)
        for t in range(game.horizon)
    ]
    return reduce(terms.Sequential.of, rounds)


def play(
    game: terms.OpenGame, strategies: Mapping[str, Any], x: Values
) -> list[tuple[Any, Values, float]]:
    """The view: a list of (residual, made, probability)."""
    match game:
        case terms.Sequential():
            return [
                ((a, b), z, p * q)
                for a, y, p in play(game.first, strategies, x)
                for b, z, q in play(game.second, strategies, y)
            ]
        case terms.Parallel():
            cut = len(game.first.x)
            return [
                ((a, b), y1 + y2, p * q)
                for a, y1, p in play(game.first, strategies, x[:cut])
                for b, y2, q in play(game.second, strategies, x[cut:])
            ]
        case terms.Choice():
            part = (game.first, game.second)[x[0].tag]
            return [
                ((x[0].tag, a), (Tagged(x[0].tag, y),), p)
                for a, y, p in play(part, strategies, x[0].values)
            ]
        case terms.Repeated():
            return play(unrolled(game), strategies, x)
        case _Round():
            return play(game.stage, _of_round(strategies, game.suffix), x)
        case terms.Decision():
            moves = mixture(strategies[game.label], x)
            return [(game.player, (y,), p) for y, p in moves.items()]
        case terms.RoleDecision():
            moves = mixture(strategies[game.label], x[1:])
            return [(x[0], (y,), p) for y, p in moves.items()]
        case terms.Nature():
            drawn = game.distribution(*x) if callable(game.distribution) else game.distribution
            return [(None, (y,), p) for y, p in distribution_pairs(drawn, "nature")]
        case terms.Lens():
            return [(x, _tuple(game.view, x, len(game.y)), 1.0)]
        case terms.Wiring():
            return [(None, tuple(x[place] for place in game.forward_from), 1.0)]
        case terms.Counit():
            return [(x, (), 1.0)]
        case terms.Credit():
            return [(x, x, 1.0)]
        case terms.Folding():
            return [(None, (_folded(game.operation, x),), 1.0)]
    raise TypeError(type(game).__name__)


def coplay(game: terms.OpenGame, residual: Any, r: Values) -> tuple[Values, Ledger]:
    """The update: what is fed back, and who is credited what."""
    match game:
        case terms.Sequential():
            middle, late = coplay(game.second, residual[1], r)
            s, early = coplay(game.first, residual[0], middle)
            return s, _added(early, late)
        case terms.Parallel():
            cut = len(game.first.r)
            s1, one = coplay(game.first, residual[0], r[:cut])
            s2, two = coplay(game.second, residual[1], r[cut:])
            return s1 + s2, _added(one, two)
        case terms.Choice():
            return coplay((game.first, game.second)[residual[0]], residual[1], r)
        case terms.Repeated():
            return coplay(unrolled(game), residual, r)
        case _Round():
            s, ledger = coplay(game.stage, residual, r)
            return s, {name: game.weight * paid for name, paid in ledger.items()}
        case terms.Decision() | terms.RoleDecision():
            return (), {residual: float(r[0])}
        case terms.Lens():
            return _tuple(game.update, (*residual, *r), len(game.s)), {}
        case terms.Wiring():
            return tuple(r[place] for place in game.backward_from), {}
        case terms.Counit():
            return residual, {}
        case terms.Credit():
            return (), {game.player: float(game.function(*residual))}
    return (), {}


def rows(
    game: terms.OpenGame, strategies: Mapping[str, Any], context: ContextOf = CLOSED
) -> list[Row]:
    """Every reached decision of the game, each in its own context: how contexts compose."""
    match game:
        case terms.Sequential():
            return rows(game.first, strategies, _before(game, strategies, context)) + rows(
                game.second, strategies, _after(game, strategies, context)
            )
        case terms.Parallel():
            return rows(game.first, strategies, _beside(game, strategies, context, 0)) + rows(
                game.second, strategies, _beside(game, strategies, context, 1)
            )
        case terms.Choice():
            found = []
            for number, part in enumerate((game.first, game.second)):
                branch = _in_branch(context, number)
                if branch.history:
                    found += rows(part, strategies, branch)
            return found
        case terms.Repeated():
            return rows(unrolled(game), strategies, context)
        case _Round():
            return _round_rows(game, strategies, context)
        case terms.Decision() | terms.RoleDecision():
            return _decision_rows(game, strategies, context)
    return []


def payoffs(
    game: terms.OpenGame, strategies: Mapping[str, Any], context: ContextOf = CLOSED
) -> Ledger:
    """Everybody's expected payoff."""
    total: Ledger = {}
    for theta, x, p in context.history:
        for residual, y, q in play(game, strategies, x):
            for ledger, w in context.end(theta, y, _update(game, residual)):
                total = _added(total, {name: p * q * w * paid for name, paid in ledger.items()})
    return total


def _update(game: terms.OpenGame, residual: Any) -> Update:
    return lambda r: coplay(game, residual, r)


def _before(game: terms.Sequential, strategies: Mapping[str, Any], context: ContextOf) -> ContextOf:
    """The context of G in G >> H: H is part of how the play ends."""

    def end(theta: Any, y: Values, update: Update) -> list[tuple[Ledger, float]]:
        found = []
        for residual, z, p in play(game.second, strategies, y):

            def whole(q: Values, residual: Any = residual) -> tuple[Values, Ledger]:
                r, late = coplay(game.second, residual, q)
                s, early = update(r)
                return s, _added(early, late)

            found += [(ledger, p * w) for ledger, w in context.end(theta, z, whole)]
        return found

    return ContextOf(context.history, end)


def _after(game: terms.Sequential, strategies: Mapping[str, Any], context: ContextOf) -> ContextOf:
    """The context of H in G >> H: G has been played, its residual is not observed."""
    history = [
        ((theta, residual), y, p * q)
        for theta, x, p in context.history
        for residual, y, q in play(game.first, strategies, x)
    ]

    def end(theta: Any, z: Values, update: Update) -> list[tuple[Ledger, float]]:
        def whole(q: Values) -> tuple[Values, Ledger]:
            r, late = update(q)
            s, early = coplay(game.first, theta[1], r)
            return s, _added(early, late)

        return context.end(theta[0], z, whole)

    return ContextOf(history, end)


def _beside(
    game: terms.Parallel, strategies: Mapping[str, Any], context: ContextOf, own: int
) -> ContextOf:
    """The context of one game beside another, whose play is not observed."""
    other = game.first if own else game.second
    cut, at = len(game.first.x), len(game.first.r)
    history = []
    for theta, x, p in context.history:
        mine, theirs = (x[cut:], x[:cut]) if own else (x[:cut], x[cut:])
        for residual, y, q in play(other, strategies, theirs):
            history.append(((theta, residual, y), mine, p * q))

    def end(theta: Any, y: Values, update: Update) -> list[tuple[Ledger, float]]:
        def whole(r: Values) -> tuple[Values, Ledger]:
            s1, one = update(r[at:] if own else r[:at])
            s2, two = coplay(other, theta[1], r[:at] if own else r[at:])
            return (s2 + s1 if own else s1 + s2), _added(one, two)

        return context.end(theta[0], theta[2] + y if own else y + theta[2], whole)

    return ContextOf(history, end)


def _in_branch(context: ContextOf, number: int) -> ContextOf:
    history = [(theta, x[0].values, p) for theta, x, p in context.history if x[0].tag == number]
    return ContextOf(
        history, lambda theta, y, update: context.end(theta, (Tagged(number, y),), update)
    )


def _round_rows(game: _Round, strategies: Mapping[str, Any], context: ContextOf) -> list[Row]:
    def end(theta: Any, y: Values, update: Update) -> list[tuple[Ledger, float]]:
        def weighted(r: Values) -> tuple[Values, Ledger]:
            s, ledger = update(r)
            return s, {name: game.weight * paid for name, paid in ledger.items()}

        return context.end(theta, y, weighted)

    own = rows(game.stage, _of_round(strategies, game.suffix), ContextOf(context.history, end))
    return [
        Row(
            row.player, row.decision + game.suffix, row.observation, row.reach, row.worth,
            row.played,
        )
        for row in own
    ]  # fmt: skip


def _decision_rows(
    game: terms.Decision | terms.RoleDecision, strategies: Mapping[str, Any], context: ContextOf
) -> list[Row]:
    by_seen: dict[tuple[str, Values], list[tuple[Any, float]]] = {}
    for theta, x, p in context.history:
        role = isinstance(game, terms.RoleDecision)
        player, seen = (x[0], x[1:]) if role else (game.player, x)  # type: ignore[union-attr]
        by_seen.setdefault((player, seen), []).append((theta, p))
    found = []
    for (player, seen), posterior in by_seen.items():
        reach = sum(p for _, p in posterior)
        if reach == 0:
            continue
        actions = game.actions(*seen) if callable(game.actions) else game.actions
        worth = {}
        for action in actions:
            total = 0.0
            for theta, p in posterior:
                ends = context.end(theta, (action,), _credited(player))
                total += p * sum(w * ledger.get(player, 0.0) for ledger, w in ends)
            worth[action] = total / reach
        moves = mixture(strategies[game.label], seen)
        found.append(Row(player, game.label, seen, reach, worth, moves))
    return found


def _credited(player: str) -> Update:
    """The update of a decision: it feeds nothing back and credits what it receives."""
    return lambda r: ((), {player: float(r[0])})


def mixture(strategy: Any, seen: Values) -> dict[Any, float]:
    """What a strategy plays at an observation, as {action: probability}."""
    move = strategy(*seen) if callable(strategy) else strategy
    return dict(move) if isinstance(move, Mapping) else {move: 1.0}


def _of_round(strategies: Mapping[str, Any], suffix: str) -> dict[str, Any]:
    return {
        name.removesuffix(suffix): move
        for name, move in strategies.items()
        if name.endswith(suffix)
    }


def _tuple(function: Any, given: Values, count: int) -> Values:
    if count == 0:
        return ()
    found = function(*given)
    return (found,) if count == 1 else tuple(found)


def _folded(operation: Any, values: Values) -> Any:
    if callable(operation):
        return reduce(operation, values)
    function, contribution = OPERATIONS[operation]
    return reduce(function, [contribution(value) for value in values])


def _added(one: Ledger, other: Ledger) -> Ledger:
    return {
        name: one.get(name, 0.0) + other.get(name, 0.0) for name in dict.fromkeys([*one, *other])
    }
