"""The trace of a game: a graph of finite wires that a game's builder draws step by step.

Everything else reads this one form. A forward wire is drawn by nature, chosen by a player, or
computed; payoffs are terms that a player is credited with. Backward wires of open games become
payoff terms too, since utilities depend on forward values only.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from types import CodeType, FunctionType
from typing import Any, no_type_check

import numpy as np

from workingpapers.foundation.errors import InputError
from workingpapers.opengames.spaces import Space, as_space, canonical, show


@dataclass(frozen=True, eq=False)
class Wire:
    """A handle on a value that is known once the game is played; made by a Trace only."""

    trace: "Trace"
    index: int
    label: str

    def __bool__(self) -> bool:
        raise InputError(
            f"wire {self.label}: its value is not known while the game is built; use b.let to "
            "compute with it, or b.when to branch on it"
        )

    def __iter__(self) -> Iterator[Any]:
        raise InputError(f"wire {self.label}: cannot be unpacked; use b.let for its parts")

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Wire):
            return self is other
        raise InputError(
            f"wire {self.label}: compared with {other!r} while the game is built; use b.let to "
            "compare its value, or b.when to branch on it"
        )

    __hash__ = object.__hash__


Guard = tuple[int, frozenset[Any]]
"""A wire and the values of it for which a node is played."""


@dataclass(frozen=True)
class Node:
    """What every node of the graph has."""

    index: int
    label: str
    parents: tuple[int, ...]
    guards: tuple[Guard, ...]
    block: tuple[str, ...]
    """Names of the nested sub-games it stands in, for drawings."""

    @cached_property
    def inputs(self) -> tuple[int, ...]:
        """Every wire the node reads, each once."""
        return tuple(dict.fromkeys((*self.parents, *(wire for wire, _ in self.guards))))


@dataclass(frozen=True)
class NatureNode(Node):
    """A wire drawn from a distribution that may depend on its parents."""

    distribution: Any
    space: Space | None = None


@dataclass(frozen=True)
class DecideNode(Node):
    """A wire chosen by a player who sees the parents.

    A player that is a number is the wire that names him; it is then also the last parent, which
    strategies do not see.
    """

    player: str | int
    actions: Any
    eps: float
    space: Space | None = None

    @property
    def sees(self) -> tuple[int, ...]:
        return self.parents if isinstance(self.player, str) else self.parents[:-1]


@dataclass(frozen=True)
class LetNode(Node):
    """A wire computed from its parents; `merge` takes the one parent that is not absent."""

    function: Callable[..., Any] | None
    vectorize: bool
    merge: bool
    space: Space | None = None


@dataclass(frozen=True)
class Factor:
    """One factor of a payoff term: a function of some wires."""

    function: Callable[..., Any]
    parents: tuple[int, ...]
    vectorize: bool


@dataclass(frozen=True)
class PayNode(Node):
    """A payoff term: a product of factors, credited to players or to the player a wire names."""

    players: tuple[str, ...] | int
    factors: tuple[Factor, ...]
    scale: float


@dataclass(frozen=True)
class Fold:
    """A fold of wires by a commutative operation, kept beside the chain of lets that does it."""

    operation: str
    function: Callable[[Any, Any], Any]
    operands: tuple[int, ...]
    chain: tuple[int, ...]
    """The partial results; the last is the fold."""


def _count(total: Any, one: Any) -> Any:
    return total + bool(one)


def _any(one: Any, other: Any) -> Any:
    return bool(one) or bool(other)


def _highest(one: Any, other: Any) -> Any:
    """Of two (value, how often): the higher, or both together."""
    if one[0] == other[0]:
        return (one[0], one[1] + other[1])
    return max(one, other)


def _sum(one: Any, other: Any) -> Any:
    return one + other


def split_share(value: Any, highest: Any) -> Fraction:
    """One over how many have the greatest value, for those who have it; 0 for the others."""
    # A float on a wire is rounded; a third of a large prize should be a third.
    return Fraction(int(value == highest[0]), highest[1])


OPERATIONS: Mapping[str, tuple[Callable[[Any, Any], Any], Callable[[Any], Any]]] = {
    "sum": (_sum, lambda value: value),
    "max": (max, lambda value: value),
    "min": (min, lambda value: value),
    "count": (_sum, lambda value: int(bool(value))),
    "any": (_any, bool),
    "highest": (_highest, lambda value: (value, 1)),
}
"""Folds by name: the operation on partial results, and what one operand contributes.

"highest" gives (greatest value, how many have it), which is what ties need.
"""


class Trace:
    """Builds a game: `decide`, `nature`, `let`, `pay` add to it and give wires back."""

    def __init__(self, title: str = "game") -> None:
        self.title = title
        self.nodes: list[Node] = []
        self.folds: list[Fold] = []
        self._guards: tuple[Guard, ...] = ()
        self._block: tuple[str, ...] = ()
        self._suffix = ""
        self._scale = 1.0
        self._names: set[str] = set()

    # ---- the five kinds of nodes

    def const(self, value: Any, space: Space | None = None) -> Wire:
        """A wire that always carries `value`."""
        if isinstance(value, np.ndarray):
            raise InputError("const: expected one value, found an array")
        fixed = canonical(value)
        return self._let(lambda: fixed, (), "const", False, space)

    def nature(
        self,
        distribution: Any,
        *given: Wire,
        name: str | None = None,
        space: Space | None = None,
    ) -> Wire:
        """A wire drawn by nature.

        `distribution` is {value: probability}, a sequence of equally likely values, or a function
        of the `given` wires' values that returns one of the two. Probabilities sum to 1 within
        1e-9, else ProbabilityError when the game is compiled.
        """
        parents = self._indices(given, "nature")
        if given and not callable(distribution):
            raise InputError(
                f"nature {name or ''}: has given wires, so its distribution must be a function "
                "of them"
            )
        label = self._unique(name or f"nature{len(self.nodes) + 1}")
        return self._wire(
            NatureNode(
                len(self.nodes), label, parents, self._guards, self._block, distribution, space
            )
        )

    def decide(
        self,
        player: "str | Wire",
        actions: "Space | Sequence[Any] | Callable[..., Any]",
        sees: Sequence[Wire] = (),
        *,
        name: str | None = None,
        eps: float = 0.0,
    ) -> Wire:
        """A wire chosen by `player`, who sees the wires in `sees`.

        `actions` is a space, a sequence, or a function of what is seen that returns one. `player`
        may be a wire that carries the player's name (a role). `name` is the decision's name in
        strategies and reports, by default the player's; `eps` is the gain below which a deviation
        from this decision does not count.
        """
        if isinstance(sees, Wire):
            raise InputError(f"decide {name or player}: sees takes a list of wires")
        shown = name or (player if isinstance(player, str) else f"role{len(self.nodes) + 1}")
        parents = self._indices(sees, f"decide {shown}")
        if eps < 0:
            raise InputError(f"decide {shown}: eps {eps} is negative")
        space: Space | None = None
        if not callable(actions):
            space = as_space(_as_list(actions, f"decide {shown}: actions"))
            actions = space
        who: str | int
        if isinstance(player, Wire):
            (who,) = self._indices([player], f"decide {shown}")
            parents = (*parents, who)
        elif isinstance(player, str):
            who = player
        else:
            raise InputError(f"decide {shown}: expected a player's name or a wire as the player")
        label = self._unique(shown)
        return self._wire(
            DecideNode(
                len(self.nodes),
                label,
                parents,
                self._guards,
                self._block,
                who,
                actions,
                eps,
                space,
            )
        )

    def let(
        self,
        function: Callable[..., Any],
        *parents: Wire,
        space: Space | None = None,
        vectorize: bool = False,
        name: str | None = None,
    ) -> Wire:
        """A wire computed from its parents; the function is called once a distinct argument tuple.

        With `vectorize` it is called once with arrays, one entry a tuple.
        """
        indices = self._indices(parents, "let")
        label = name or str(getattr(function, "__name__", "let"))
        return self._let(function, indices, label, vectorize, space)

    def pay(
        self,
        players: "str | Sequence[str] | Wire",
        function: "Callable[..., Any] | float",
        *parents: Wire,
        times: Sequence[Any] = (),
        vectorize: bool = False,
    ) -> None:
        """Credit a player, several players alike, or the player a wire names, with a payoff.

        `function` is a number or a function of the parents' values; the payoff is multiplied by
        every further factor of `times`, each a tuple (function, wire, ...). Terms of one player
        add up: many small terms keep a game's states few.
        """
        shown = _pay_label(players)
        factors = [self._factor(function, parents, vectorize, shown)]
        factors += [self._factor(entry[0], entry[1:], vectorize, shown) for entry in times]
        who: tuple[str, ...] | int
        extra: tuple[int, ...] = ()
        if isinstance(players, Wire):
            extra = self._indices([players], shown)
            who = extra[0]
        else:
            who = (players,) if isinstance(players, str) else tuple(dict.fromkeys(players))
            if not who:
                raise InputError("pay: expected at least one player")
        scope = tuple(dict.fromkeys(wire for factor in factors for wire in factor.parents))
        self.nodes.append(
            PayNode(
                len(self.nodes),
                shown,
                (*scope, *extra),
                self._guards,
                self._block,
                who,
                tuple(factors),
                self._scale,
            )
        )

    # ---- made of the above

    def fold(self, operation: Any, wires: Sequence[Wire], unit: Any = None) -> Wire:
        """All wires combined by a commutative operation.

        `operation` is sum, max, min, count (of what is true), any, highest (the greatest value
        and how many have it), or a commutative, associative function of two values, with `unit`
        its neutral element if there may be no wires.
        """
        if not callable(operation) and operation not in OPERATIONS:
            raise InputError(
                f"fold {operation!r}: expected {', '.join(OPERATIONS)} or a function of two values"
            )
        indices = self._indices(wires, "fold")
        if not indices:
            empty = {"sum": 0, "count": 0, "any": False}.get(operation, unit)
            if empty is None:
                raise InputError("fold: has no wires, and no unit was given")
            return self.const(empty)
        if callable(operation):
            name, function = "custom", operation
            contribution: Callable[[Any], Any] = lambda value: value  # noqa: E731
        else:
            name = operation
            function, contribution = OPERATIONS[operation]
        operands = [self._let(contribution, (index,), "part", False, None) for index in indices]
        chain = [operands[0]]
        for operand in operands[1:]:
            pair = (chain[-1].index, operand.index)
            chain.append(self._let(function, pair, name, False, None))
        self.folds.append(
            Fold(
                name,
                function,
                tuple(wire.index for wire in operands),
                tuple(wire.index for wire in chain),
            )
        )
        return chain[-1]

    def share(self, wire: Wire, highest: Wire) -> Wire:
        """The part of a prize that `wire` wins if those with the greatest value split it evenly.

        `highest` is `fold("highest", wires)` over wires among which `wire` is.
        """
        return self.let(split_share, wire, highest, name="share")

    def merge(self, *wires: Wire) -> Wire:
        """The wire of the branch that is played: the one parent that is not absent."""
        indices = self._indices(wires, "merge")
        if not indices:
            raise InputError("merge: expected at least one wire")
        node = LetNode(
            len(self.nodes), "merge", indices, self._guards, self._block, None, False, True
        )
        return self._wire(node)

    # ---- contexts

    @contextmanager
    def when(self, wire: Wire, *values: Any) -> Iterator[None]:
        """What is added inside is played only where `wire` carries one of `values` (True)."""
        (index,) = self._indices([wire], "when")
        allowed = frozenset(canonical(value) for value in values) if values else frozenset({True})
        space = getattr(self.nodes[index], "space", None)
        if space is not None and space.values is not None and allowed.isdisjoint(space.values):
            raise InputError(
                f"when: wire {wire.label} never carries {', '.join(map(show, allowed))}; its "
                f"values are {', '.join(show(value) for value in space.values[:8])}"
            )
        before = self._guards
        self._guards = (*before, (index, allowed))
        try:
            yield
        finally:
            self._guards = before

    @contextmanager
    def block(self, name: str) -> Iterator[None]:
        """What is added inside is drawn as one named box."""
        before = self._block
        self._block = (*before, name)
        try:
            yield
        finally:
            self._block = before

    @contextmanager
    def named(self, suffix: str) -> Iterator[None]:
        """Names given inside end with `suffix`, so that one builder can be used twice."""
        before = self._suffix
        self._suffix = suffix + before
        try:
            yield
        finally:
            self._suffix = before

    @contextmanager
    def discount(self, factor: float) -> Iterator[None]:
        """Payoffs added inside are multiplied by `factor`."""
        before = self._scale
        self._scale = before * factor
        try:
            yield
        finally:
            self._scale = before

    # ---- inside: called several times a node, so without run-time checks of types

    @no_type_check
    def _let(
        self,
        function: Callable[..., Any],
        parents: tuple[int, ...],
        label: str,
        vectorize: bool,
        space: Space | None,
    ) -> Wire:
        node = LetNode(
            len(self.nodes),
            label,
            parents,
            self._guards,
            self._block,
            function,
            vectorize,
            False,
            space,
        )
        return self._wire(node)

    @no_type_check
    def _factor(
        self, function: Any, parents: Sequence[Wire], vectorize: bool, shown: str
    ) -> Factor:
        if not callable(function):
            if parents:
                raise InputError(f"{shown}: a number takes no wires; expected a function of them")
            value = function
            return Factor(lambda: value, (), False)
        return Factor(function, self._indices(parents, shown), vectorize)

    @no_type_check
    def _wire(self, node: Node) -> Wire:
        self.nodes.append(node)
        return Wire(self, node.index, node.label)

    @no_type_check
    def _indices(self, wires: Sequence[Any], where: str) -> tuple[int, ...]:
        for wire in wires:
            if not isinstance(wire, Wire):
                raise InputError(
                    f"{where}: expected a wire, found {wire!r}; b.const makes a wire of a value"
                )
            if wire.trace is not self:
                raise InputError(f"{where}: wire {wire.label} is from another trace")
        return tuple(wire.index for wire in wires)

    @no_type_check
    def _unique(self, name: str) -> str:
        full = name + self._suffix
        if full in self._names:
            raise InputError(
                f"{full}: two decisions or draws have this name; give one of them another name="
            )
        self._names.add(full)
        return full


def _pay_label(players: "str | Sequence[str] | Wire") -> str:
    if isinstance(players, Wire):
        return f"pay the player of {players.label}"
    names = [players] if isinstance(players, str) else [str(player) for player in players]
    return f"pay {', '.join(names if len(names) <= 4 else [*names[:3], '...', names[-1]])}"


def _as_list(values: Any, where: str) -> Any:
    if isinstance(values, Space):
        return values
    try:
        listed = list(values)
    except TypeError:
        raise InputError(f"{where}: expected a space or a sequence, found {values!r}") from None
    if not listed:
        raise InputError(f"{where} are empty; expected at least one")
    if any(isinstance(value, np.ndarray) for value in listed):
        raise InputError(f"{where}: an action is an array; expected single values")
    return listed


# ---- when two functions are the same


@dataclass(frozen=True)
class _ById:
    """Compares a value that cannot be compared by content: the very same object."""

    value: Any = field(compare=False)
    number: int


def function_key(function: Any, inside: tuple[Any, ...] = ()) -> Any:
    """Equal for functions that give equal answers: same code, and same values closed over.

    A loop that makes one lambda a player makes equal functions; they are then evaluated once.
    `inside` are the functions whose keys are being made, since a function may close over itself.
    """
    if not isinstance(function, FunctionType):
        return _ById(function, id(function))
    if function in inside:
        return inside.index(function)
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    # Where it stands in its file does not matter.
    code: CodeType = function.__code__.replace(co_firstlineno=1, co_linetable=b"")
    kept = [_content_key(value, (*inside, function)) for value in (*cells, *defaults)]
    return (code, id(function.__globals__), *kept)


def _content_key(value: Any, inside: tuple[Any, ...]) -> Any:
    if isinstance(value, FunctionType):
        return function_key(value, inside)
    if isinstance(value, str | int | float | bool | None | tuple):
        try:
            hash(value)
        except TypeError:
            return _ById(value, id(value))
        return (type(value), value)
    return _ById(value, id(value))


def check_warnings(trace: Trace) -> list[str]:
    """What is probably a mistake: a payoff written twice, a player who decides for nothing."""
    found = []
    credited: set[Any] = set()
    paid: set[str] = set()
    by_role = False
    for node in trace.nodes:
        if not isinstance(node, PayNode):
            continue
        if isinstance(node.players, int):
            by_role = True
            continue
        paid.update(node.players)
        what = tuple((function_key(part.function), part.parents) for part in node.factors)
        for player in node.players:
            # A number, such as a fixed fee, may well be paid twice.
            if node.parents and (player, what, node.guards) in credited:
                found.append(f"player {player} is credited twice with one and the same payoff")
            credited.add((player, what, node.guards))
    for node in trace.nodes:
        if not isinstance(node, DecideNode) or not isinstance(node.player, str):
            continue
        if node.player not in paid and not by_role:
            found.append(f"decision {node.label}: player {node.player} is never paid")
    return list(dict.fromkeys(found))
