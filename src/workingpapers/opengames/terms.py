"""Open games as terms: typed ports, and the algebra of composing them.

An open game (X, S) -> (Y, R) observes X, makes Y, receives R and passes S back (Ghani, Hedges,
Winschel and Zahn, arXiv:1603.04641). A term builds a trace: its forward part adds nodes and gives
wires, its backward part turns returned wires into payoffs. `>>`, `@` and `+` are sequential
composition, parallel composition and external choice. `reference.py` reads the same terms
literally, as contexts and best responses.
"""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from workingpapers.foundation.errors import InputError
from workingpapers.opengames.games import Game
from workingpapers.opengames.spaces import (
    ANY,
    UTILITY,
    Ports,
    Space,
    Tagged,
    as_space,
    canonical,
    show,
    sum_of,
)
from workingpapers.opengames.trace import Trace, Wire

Wires = tuple[Wire, ...]
Back = Callable[[Wires], Wires]
"""The backward part: returned wires in, feedback wires out."""


_LONGEST_NAME = 60


@dataclass(frozen=True)
class OpenGame(ABC):
    """An open game with its ports: observed, fed back, made, returned."""

    x: Ports
    s: Ports
    y: Ports
    r: Ports

    @abstractmethod
    def build(self, trace: Trace, x: Wires) -> tuple[Wires, Back]:
        """Add the game to a trace: the wires it makes, and its backward part."""

    @property
    def name(self) -> str:
        return type(self).__name__.lower()

    @property
    def parts(self) -> tuple["OpenGame", ...]:
        """What it is composed of; empty for an atom."""
        return ()

    def __rshift__(self, other: Any) -> "OpenGame":
        return Sequential.of(self, other)

    def __matmul__(self, other: Any) -> "OpenGame":
        return Parallel.of(self, other)

    def __add__(self, other: Any) -> "OpenGame":
        return Choice.of(self, other)

    def close(self, context: "Context | None" = None, title: str = "game") -> Game:
        """The closed game: alone if all its ports are trivial, else in a context.

        Raises InputError for a port that nothing is joined to.
        """
        trace = Trace(title)
        if context is None:
            for kind, ports in (
                ("observes", self.x), ("makes", self.y), ("returns", self.r), ("feeds back", self.s)
            ):  # fmt: skip
                if ports:
                    raise InputError(
                        f"close: the port ({_ports(ports)}) that {self.shown()} {kind} is joined "
                        "to nothing; compose it, or give a context"
                    )
            _, back = self.build(trace, ())
            back(())
        else:
            context.build(trace, self)
        return Game(trace)

    def length(self) -> int:
        """Operators and literals of the term: how long its description is."""
        return 1 + sum(part.length() for part in self.parts)

    def shown(self) -> str:
        """Name and ports, as in error messages: `p1: (X) -> (Y)/(R)`."""
        name = self.name
        if len(name) > _LONGEST_NAME:
            # A composite is known by how it begins and ends.
            name = f"{name[: _LONGEST_NAME // 2]}...{name[-_LONGEST_NAME // 3 :]}"
        left = f"({_ports(self.x)})" + (f"/({_ports(self.s)})" if self.s else "")
        right = f"({_ports(self.y)})" + (f"/({_ports(self.r)})" if self.r else "")
        return f"{name}: {left} -> {right}"


def _ports(ports: Ports) -> str:
    return ", ".join(space.name for space in ports)


def _fit(one: Ports, other: Ports) -> bool:
    return len(one) == len(other) and all(
        left.fits(right) for left, right in zip(one, other, strict=True)
    )


# ---- composition


@dataclass(frozen=True)
class Sequential(OpenGame):
    """G >> H: what G makes is what H observes, what H feeds back is what G receives."""

    first: OpenGame
    second: OpenGame

    @classmethod
    def of(cls, first: OpenGame, second: Any) -> "Sequential":
        _refuse_other(second, ">>")
        if not _fit(first.y, second.x) or not _fit(first.r, second.s):
            raise InputError(f"cannot compose {first.shown()} with {second.shown()}")
        return cls(first.x, first.s, second.y, second.r, first, second)

    @property
    def name(self) -> str:
        return f"({self.first.name} >> {self.second.name})"

    @property
    def parts(self) -> tuple[OpenGame, ...]:
        return (self.first, self.second)

    def build(self, trace: Trace, x: Wires) -> tuple[Wires, Back]:
        y, back_first = self.first.build(trace, x)
        z, back_second = self.second.build(trace, y)
        return z, lambda q: back_first(back_second(q))


@dataclass(frozen=True)
class Parallel(OpenGame):
    """G @ H: side by side, neither sees the other."""

    first: OpenGame
    second: OpenGame

    @classmethod
    def of(cls, first: OpenGame, second: Any) -> "Parallel":
        _refuse_other(second, "@")
        return cls(
            first.x + second.x,
            first.s + second.s,
            first.y + second.y,
            first.r + second.r,
            first,
            second,
        )

    @property
    def name(self) -> str:
        return f"({self.first.name} @ {self.second.name})"

    @property
    def parts(self) -> tuple[OpenGame, ...]:
        return (self.first, self.second)

    def build(self, trace: Trace, x: Wires) -> tuple[Wires, Back]:
        cut = len(self.first.x)
        y1, back_first = self.first.build(trace, x[:cut])
        y2, back_second = self.second.build(trace, x[cut:])
        at = len(self.first.r)
        return (*y1, *y2), lambda r: (*back_first(r[:at]), *back_second(r[at:]))


@dataclass(frozen=True)
class Choice(OpenGame):
    """G + H: plays G or H, as the tag of what it observes says; both receive and feed back alike.

    Observed and made is one wire of tagged values, see `inject`.
    """

    first: OpenGame
    second: OpenGame

    @classmethod
    def of(cls, first: OpenGame, second: Any) -> "Choice":
        _refuse_other(second, "+")
        if not _fit(first.s, second.s) or not _fit(first.r, second.r):
            raise InputError(
                f"cannot choose between {first.shown()} and {second.shown()}: both must receive "
                "and feed back the same"
            )
        return cls(
            (sum_of(first.x, second.x),),
            first.s,
            (sum_of(first.y, second.y),),
            first.r,
            first,
            second,
        )

    @property
    def name(self) -> str:
        return f"({self.first.name} + {self.second.name})"

    @property
    def parts(self) -> tuple[OpenGame, ...]:
        return (self.first, self.second)

    def build(self, trace: Trace, x: Wires) -> tuple[Wires, Back]:
        (tagged,) = x
        tag = trace.let(lambda value: value.tag, tagged, name="branch")
        made, backs = [], []
        for number, part in enumerate((self.first, self.second)):
            with trace.when(tag, number):
                own = tuple(
                    trace.let(_component(place), tagged, name=space.name)
                    for place, space in enumerate(part.x)
                )
                y, back = part.build(trace, own)
                made.append(trace.let(_tagged(number), *y, name=f"branch{number}"))
                backs.append(back)

        def backward_part(r: Wires) -> Wires:
            fed: list[Wires] = []
            for number, back in enumerate(backs):
                with trace.when(tag, number):
                    # Outside its branch a returned wire is not this branch's affair.
                    here = tuple(trace.let(_same, wire, name=wire.label) for wire in r)
                    fed.append(back(here))
            return tuple(trace.merge(*pair) for pair in zip(*fed, strict=True))

        return (trace.merge(*made),), backward_part


def _refuse_other(other: Any, operator: str) -> None:
    if not isinstance(other, OpenGame):
        raise InputError(f"{operator}: expected an open game, found {type(other).__name__}")


def _same(value: Any) -> Any:
    return value


def _component(place: int) -> Callable[[Any], Any]:
    return lambda value: value.values[place]


def _tagged(number: int) -> Callable[..., Any]:
    return lambda *values: Tagged(number, values)


@dataclass(frozen=True)
class Repeated(OpenGame):
    """A game from a state to a state, played `horizon` times, later payoffs discounted."""

    stage: OpenGame
    horizon: int
    discount: float

    @property
    def parts(self) -> tuple[OpenGame, ...]:
        return (self.stage,)

    def build(self, trace: Trace, x: Wires) -> tuple[Wires, Back]:
        backs: list[tuple[Back, str, float]] = []
        for round_ in range(self.horizon):
            suffix = f"@{round_ + 1}"
            with trace.named(suffix):
                x, back = self.stage.build(trace, x)
            backs.append((back, suffix, self.discount**round_))

        def backward_part(r: Wires) -> Wires:
            for back, suffix, weight in reversed(backs):
                with trace.named(suffix), trace.discount(weight):
                    r = back(r)
            return r

        return x, backward_part


# ---- atoms


@dataclass(frozen=True)
class Decision(OpenGame):
    """(X, 1) -> (Y, Utility): a player sees X, chooses Y, and receives the returned utility."""

    player: str
    actions: Any
    eps: float
    label: str

    @property
    def name(self) -> str:
        return self.label

    def build(self, trace: Trace, x: Wires) -> tuple[Wires, Back]:
        move = trace.decide(self.player, self.actions, x, name=self.label, eps=self.eps)

        def credit(r: Wires) -> Wires:
            trace.pay(self.player, _same, *r)
            return ()

        return (move,), credit


@dataclass(frozen=True)
class RoleDecision(OpenGame):
    """A decision whose player is named by its first port; strategies see the other ports only."""

    actions: Any
    eps: float
    label: str

    @property
    def name(self) -> str:
        return self.label

    def build(self, trace: Trace, x: Wires) -> tuple[Wires, Back]:
        role, *sees = x
        move = trace.decide(role, self.actions, sees, name=self.label, eps=self.eps)

        def credit(r: Wires) -> Wires:
            trace.pay(role, _same, *r)
            return ()

        return (move,), credit


@dataclass(frozen=True)
class Nature(OpenGame):
    """(X, 1) -> (Y, 1): a draw whose distribution may depend on what is observed."""

    distribution: Any
    label: str | None

    def build(self, trace: Trace, x: Wires) -> tuple[Wires, Back]:
        wire = trace.nature(self.distribution, *x, name=self.label)
        return (wire,), lambda r: ()


@dataclass(frozen=True)
class Lens(OpenGame):
    """A view from X to Y, and an update from X and R to S: no decision, no draw."""

    view: Callable[..., Any] | None
    update: Callable[..., Any] | None
    label: str

    @property
    def name(self) -> str:
        return self.label

    def build(self, trace: Trace, x: Wires) -> tuple[Wires, Back]:
        made = _computed(trace, self.view, x, self.y, self.label)

        def fed(r: Wires) -> Wires:
            return _computed(trace, self.update, (*x, *r), self.s, self.label)

        return made, fed


@dataclass(frozen=True)
class Wiring(OpenGame):
    """Identity, copy, discard and swap: forward ports picked by number, backward ones likewise."""

    forward_from: tuple[int, ...]
    backward_from: tuple[int, ...]
    label: str

    @property
    def name(self) -> str:
        return self.label

    def build(self, trace: Trace, x: Wires) -> tuple[Wires, Back]:
        made = tuple(x[place] for place in self.forward_from)
        return made, lambda r: tuple(r[place] for place in self.backward_from)


@dataclass(frozen=True)
class Counit(OpenGame):
    """(X, X) -> (1, 1): bends a forward wire into a backward one."""

    def build(self, trace: Trace, x: Wires) -> tuple[Wires, Back]:
        return (), lambda r: x


def _computed(
    trace: Trace, function: Callable[..., Any] | None, given: Wires, ports: Ports, label: str
) -> Wires:
    """The wires that a function of the given ones returns: one, or one a port of a tuple."""
    if not ports:
        return ()
    assert function is not None
    if len(ports) == 1:
        return (trace.let(function, *given, space=_listed(ports[0]), name=ports[0].name),)
    whole = trace.let(_counted(function, len(ports), label), *given, name=label)
    return tuple(
        trace.let(_part(place), whole, space=_listed(space), name=space.name)
        for place, space in enumerate(ports)
    )


def _listed(space: Space) -> Space | None:
    return space if space.values is not None else None


def _part(place: int) -> Callable[[Any], Any]:
    return lambda values: values[place]


def _counted(function: Callable[..., Any], count: int, label: str) -> Callable[..., Any]:
    def counted(*values: Any) -> Any:
        found = tuple(function(*values))
        if len(found) != count:
            raise InputError(f"{label}: returned {len(found)} values for {count} ports")
        return found

    return counted


# ---- what users write


def decision(
    player: str,
    actions: "Space | Sequence[Any] | Callable[..., Sequence[Any]]",
    sees: Sequence[Space] = (),
    eps: float = 0.0,
    name: str | None = None,
    makes: Space | None = None,
) -> OpenGame:
    """A player's decision (X, 1) -> (Y, Utility).

    `actions` is a space, a sequence, or a function of what is seen; `makes` is then the space of
    its port.
    """
    port = makes or (Space(f"{name or player}'s move") if callable(actions) else as_space(actions))
    return Decision(tuple(sees), (), (port,), (UTILITY,), player, actions, eps, name or player)


def role_decision(
    actions: "Space | Sequence[Any] | Callable[..., Sequence[Any]]",
    sees: Sequence[Space] = (),
    eps: float = 0.0,
    name: str = "role",
    makes: Space | None = None,
) -> OpenGame:
    """A decision whose player's name arrives on the first port."""
    port = makes or (Space(f"{name}'s move") if callable(actions) else as_space(actions))
    return RoleDecision((PLAYER, *sees), (), (port,), (UTILITY,), actions, eps, name)


PLAYER = Space("Player")
"""The space of ports that carry the name of a player."""


def nature(
    distribution: Any,
    given: Sequence[Space] = (),
    makes: Space | None = None,
    name: str | None = None,
) -> OpenGame:
    """A draw (X, 1) -> (Y, 1); a distribution that depends on X is a function of its ports."""
    if makes is None:
        if callable(distribution):
            makes = ANY
        else:
            makes = as_space(list(dict.fromkeys(canonical(value) for value in distribution)))
    return Nature(tuple(given), (), (makes,), (), distribution, name)


def forward(
    function: Callable[..., Any],
    dom: Sequence[Space],
    cod: Sequence[Space],
    name: str | None = None,
) -> OpenGame:
    """A function as (X, 1) -> (Y, 1); for several ports of Y it returns a tuple."""
    label = str(name or getattr(function, "__name__", "forward"))
    return Lens(tuple(dom), (), tuple(cod), (), function, None, label)


def backward(
    function: Callable[..., Any],
    returns: Sequence[Space],
    feeds: Sequence[Space],
    name: str | None = None,
) -> OpenGame:
    """A function from R to S as (1, S) -> (1, R)."""
    label = str(name or getattr(function, "__name__", "backward"))
    return Lens((), tuple(feeds), (), tuple(returns), None, function, label)


def lens(
    view: Callable[..., Any],
    update: Callable[..., Any],
    x: Sequence[Space],
    s: Sequence[Space],
    y: Sequence[Space],
    r: Sequence[Space],
    name: str = "lens",
) -> OpenGame:
    """A view X -> Y with an update X, R -> S."""
    return Lens(tuple(x), tuple(s), tuple(y), tuple(r), view, update, name)


def identity(x: "Space | Sequence[Space]", s: "Space | Sequence[Space]" = ()) -> OpenGame:
    """Hands everything through, in both directions."""
    ports, back = _as_ports(x), _as_ports(s)
    return Wiring(
        ports, back, ports, back, tuple(range(len(ports))), tuple(range(len(back))), "identity"
    )


def copy(x: Space) -> OpenGame:
    """(X, 1) -> (X x X, 1)."""
    return Wiring((x,), (), (x, x), (), (0, 0), (), "copy")


def discard(x: Space) -> OpenGame:
    """(X, 1) -> (1, 1)."""
    return Wiring((x,), (), (), (), (), (), "discard")


def swap(x: Space, y: Space) -> OpenGame:
    """(X x Y, 1) -> (Y x X, 1)."""
    return Wiring((x, y), (), (y, x), (), (1, 0), (), "swap")


def counit(x: Space) -> OpenGame:
    """(X, X) -> (1, 1): what was observed is fed back."""
    return Counit((x,), (x,), (), ())


def payoff_table(table: Mapping[Any, Sequence[float]], name: str = "payoffs") -> OpenGame:
    """(X1 x ... x Xn, Utility^n) -> (1, 1): each player's payoff from a table of all moves."""
    rows = {
        (canonical(moves) if isinstance(moves, tuple | list) else (canonical(moves),)): tuple(paid)
        for moves, paid in table.items()
    }
    widths = {(len(moves), len(paid)) for moves, paid in rows.items()}
    if len(widths) != 1:
        raise InputError(f"{name}: expected tuples of moves and of payoffs of one length each")
    ((n_moves, n_players),) = widths
    ports = tuple(
        as_space(list(dict.fromkeys(moves[place] for moves in rows))) for place in range(n_moves)
    )
    absent = [moves for moves in itertools.product(*ports) if moves not in rows]
    if absent:
        raise InputError(f"{name}: no payoffs for the moves ({show(absent[0])})")

    def paid(*moves: Any) -> Any:
        found = rows[moves]
        return found if n_players > 1 else found[0]

    returned = (UTILITY,) * n_players
    return Lens(ports, returned, (), (), None, paid, name)


def repeat(
    stage: OpenGame, horizon: int, discount: float = 1.0, state: Space | None = None
) -> OpenGame:
    """A game from a state to a state played `horizon` times; round t counts discount ** (t - 1)."""
    if horizon < 1:
        raise InputError(f"repeat: horizon {horizon}; expected at least 1")
    ports = (state,) if state is not None else stage.x
    if not _fit(stage.x, ports) or not _fit(stage.y, ports) or stage.s or stage.r:
        raise InputError(
            f"repeat: {stage.shown()} does not lead from the state ({_ports(ports)}) to itself "
            "with nothing left to return"
        )
    return Repeated(stage.x, (), stage.y, (), stage, horizon, discount)


def fold(operation: Any, x: Sequence[Space], makes: Space = ANY) -> OpenGame:
    """(X1 x ... x Xn, 1) -> (Y, 1): all ports combined, as `Trace.fold` does."""
    return Folding(tuple(x), (), (makes,), (), operation)


@dataclass(frozen=True)
class Folding(OpenGame):
    """A fold of all observed ports."""

    operation: Any

    def build(self, trace: Trace, x: Wires) -> tuple[Wires, Back]:
        return (trace.fold(self.operation, x),), lambda r: ()


def inject(number: int, ports: Sequence[Ports]) -> OpenGame:
    """The injection of one summand into a sum: tags what passes."""
    own = tuple(ports[number])
    return Lens(own, (), (sum_of(*ports),), (), _tagged(number), None, f"inject{number}")


def credit(player: str, x: Sequence[Space], function: Callable[..., float]) -> OpenGame:
    """(X, 1) -> (X, 1): hands X through and pays a player a function of it."""
    return Credit(tuple(x), (), tuple(x), (), player, function)


@dataclass(frozen=True)
class Credit(OpenGame):
    """A payoff that is not returned to a decision but credited by name."""

    player: str
    function: Callable[..., float]

    def build(self, trace: Trace, x: Wires) -> tuple[Wires, Back]:
        def pay(r: Wires) -> Wires:
            trace.pay(self.player, self.function, *x)
            return ()

        return x, pay


def _as_ports(spaces: "Space | Sequence[Space]") -> Ports:
    return (spaces,) if isinstance(spaces, Space) else tuple(spaces)


@dataclass(frozen=True)
class Context:
    """Where an open game is played alone: how likely it observes what, and what it then receives.

    `prior` is {observed: probability}, the observed a tuple for several ports; `continuation` maps
    what was observed and what was made (tuples) to what is returned, a tuple for several ports.
    """

    prior: Mapping[Any, float] = field(default_factory=lambda: {(): 1.0})
    continuation: Callable[..., Any] = lambda x, y: ()

    def build(self, trace: Trace, game: OpenGame) -> None:
        """Add prior, game and continuation to a trace."""
        count = len(game.x)
        prior = {
            (tuple(value) if count > 1 else (value,) if count else ()): weight
            for value, weight in self.prior.items()
        }
        whole = trace.nature(prior, name="context")
        x = tuple(
            trace.let(_part(place), whole, name=space.name) for place, space in enumerate(game.x)
        )
        y, back = game.build(trace, x)

        def continued(observed: Any, *made: Any) -> Any:
            return self.continuation(observed, made)

        back(_computed(trace, continued, (whole, *y), game.r, "continuation"))
