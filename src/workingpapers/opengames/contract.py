"""Evaluating wide static games by contracting their factors instead of enumerating states.

A static game is a product: draws, strategies and payoff terms each depend on a few wires. The
payoff of a deviation is a sum over all other wires, which opt_einsum orders well. A fold of
independent contributions (the sum of all gifts, the greatest of all bids) is replaced by its
distribution without one contributor, in closed form for the named operations.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float

from workingpapers.foundation.errors import InputError
from workingpapers.opengames.compile import (
    Decision,
    Frontier,
    check_actions,
    check_inside,
    distribution_pairs,
    schedule,
)
from workingpapers.opengames.equilibrium import Deviation, Notion, Report
from workingpapers.opengames.spaces import canonical, show
from workingpapers.opengames.strategy import Strategies, move_of, resolve
from workingpapers.opengames.trace import (
    DecideNode,
    Factor,
    Fold,
    LetNode,
    NatureNode,
    PayNode,
    Trace,
    check_warnings,
    function_key,
    split_share,
)

if TYPE_CHECKING:
    from workingpapers.opengames.games import Game

_LARGEST_TABLE = 30_000_000
_MOST_ANCESTORS = 14
# Below this many merged transitions the frontier is never worth avoiding.
_SMALL = 200_000


class NotStatic(InputError):  # noqa: N818 - says what is the matter  # noqa: N818
    """A game that cannot be contracted: branches, roles, or folds that depend on each other."""


Wired = tuple[np.ndarray, tuple[int, ...]]
"""A table with the wire of each of its axes."""


@dataclass(frozen=True)
class _Plan:
    """How a sum is made: the tables it needs of wires, of shares, and of folds."""

    summed: set[int]
    shares: set[int]
    folds: dict[int, int | None]
    """For each fold, its contribution that is itself a wire of the sum."""


@dataclass(frozen=True)
class Outcome:
    """A profile's values at one decision."""

    decision: Decision
    reach: Float[np.ndarray, " observations"]
    worth: Float[np.ndarray, "observations actions"]
    """Reach times expected payoff of each action."""


class Contraction:
    """The factors of a static game; the tables that no strategy touches are made once.

    Raises NotStatic with the reason.
    """

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.pays: list[PayNode] = []
        self.players_of: dict[int, str] = {}
        self._tables: dict[Any, np.ndarray] = {}
        self._keys: dict[tuple[int, int], Any] = {}
        self._paths: dict[Any, Any] = {}
        self._domains: dict[int, tuple[Any, ...]] = {}
        self._numbers: dict[int, int] = {}
        self._numbered: dict[tuple[Any, ...], int] = {}
        self._folds = {fold.chain[-1]: fold for fold in trace.folds if len(fold.chain) > 1}
        inner = {
            wire
            for fold in self._folds.values()
            for wire in (*fold.chain[:-1],)
            if wire not in fold.operands
        }
        self._inner = inner
        for node in trace.nodes:
            if node.guards:
                raise NotStatic(f"{node.label} is played in a branch only")
            if isinstance(node, LetNode) and node.merge:
                raise NotStatic("it merges branches")
            if isinstance(node, DecideNode):
                if isinstance(node.player, int):
                    raise NotStatic(f"the player of {node.label} is named by a wire")
                self.players_of[node.index] = node.player
            if isinstance(node, PayNode):
                if isinstance(node.players, int):
                    raise NotStatic("a payoff goes to a player whom a wire names")
                self.pays.append(node)
        self._above = self._ancestors()
        self._contributor = {
            result: {wire: operand for operand in fold.operands for wire in self._above[operand]}
            for result, fold in self._folds.items()
        }
        for fold in self._folds.values():
            self._check_fold(fold)
        self._check_width()
        self._check_terms()

    @property
    def players(self) -> tuple[str, ...]:
        """Players in the order of their first decision, then those who are only paid."""
        paid = [player for node in self.pays for player in node.players]  # type: ignore[union-attr]
        return tuple(dict.fromkeys([*self.players_of.values(), *paid]))

    def _ancestors(self) -> list[frozenset[int]]:
        """For each node the wires it depends on, itself included; a fold's stand in for it."""
        above: list[frozenset[int]] = []
        for node in self.trace.nodes:
            if node.index in self._folds:
                above.append(frozenset({node.index}))
                continue
            if node.index in self._inner:
                above.append(frozenset())
                continue
            total: frozenset[int] = frozenset({node.index})
            for wire in node.inputs:
                total |= above[wire]
            above.append(total)
        return above

    def _check_fold(self, fold: Fold) -> None:
        taken: set[int] = set()
        for operand in fold.operands:
            own = self._above[operand]
            if any(wire in self._folds for wire in own):
                raise NotStatic("a fold's contribution depends on another fold")
            if taken & own:
                raise NotStatic("contributions to a fold depend on one another")
            taken |= own
        for node in self.trace.nodes:
            if isinstance(node, DecideNode | NatureNode) and any(
                wire in self._folds or wire in self._inner for wire in node.inputs
            ):
                raise NotStatic(f"{node.label} is made after a fold is known")

    def _check_terms(self) -> None:
        """Raise NotStatic for a payoff that `_Evaluation` could not sum."""
        for node in self.pays:
            self.plan(node.parents)
            for index, player in self.players_of.items():
                if player in node.players:  # type: ignore[operator]
                    decision = self.trace.nodes[index]
                    assert isinstance(decision, DecideNode)
                    self.plan((*node.parents, *decision.sees, index))

    def plan(self, scope: Sequence[int]) -> "_Plan":
        """What a sum over all wires but those of a scope runs over."""
        needed: set[int] = set().union(*(self._above[wire] for wire in scope))
        nodes = self.trace.nodes
        shares = {
            wire
            for wire in needed
            if isinstance(node := nodes[wire], LetNode)
            and node.function is split_share
            and node.parents[1] in self._folds
        }
        folds = {wire for wire in needed if wire in self._folds}
        computed = (needed - shares - folds) - self._inner
        read = {wire for one in computed for wire in nodes[one].inputs} | set(scope)
        direct = read & folds
        if len(folds) > 1:
            raise NotStatic("a payoff depends on two folds at once")
        if shares and direct:
            raise NotStatic("a payoff depends on a fold and on a share of it")
        # A contribution that depends on wires of the term is one of its wires.
        own = {wire: self.own_operand(self._folds[wire], needed) for wire in folds}
        for wire in shares:
            value, result = nodes[wire].parents
            fold, operand = self._folds[result], own[result]
            if operand is None or nodes[operand].parents != (value,) or fold.operation != "highest":
                raise NotStatic("share: its wire is not among those of its fold")
        for wire in direct:
            operand = own[wire]
            if operand is not None:
                needed |= self._above[operand]
        return _Plan(needed - folds - shares, shares, {wire: own[wire] for wire in direct})

    def own_operand(self, fold: Fold, needed: set[int]) -> int | None:
        """The contribution that depends on wires of the term; NotStatic if several do."""
        of_wire = self._contributor[fold.chain[-1]]
        own = {of_wire[wire] for wire in needed if wire in of_wire}
        if len(own) > 1:
            raise NotStatic("a payoff depends on several contributions to a fold")
        return own.pop() if own else None

    def _check_width(self) -> None:
        for node in self.pays:
            scope = frozenset().union(*(self._above[wire] for wire in node.parents), frozenset())
            if len(scope) > _MOST_ANCESTORS:
                raise NotStatic(f"a payoff depends on {len(scope)} wires")

    def prepare(self) -> None:
        """Make every table now, so that what is wrong with them shows; NotStatic, InputError."""
        for node in self.pays:
            for place, factor in enumerate(node.factors):
                self._pay_table(node, place, factor)
        self.decisions  # noqa: B018

    # ---- what no strategy touches

    def domain(self, wire: int) -> tuple[Any, ...]:
        """The values a wire may take, given all values of its parents."""
        if wire not in self._domains:
            domain = self._make_domain(wire)
            node = self.trace.nodes[wire]
            if isinstance(node, NatureNode | LetNode) and node.space is not None:
                for value in domain:
                    check_inside(value, node.space, f"wire {node.label}")
            self._domains[wire] = domain
        return self._domains[wire]

    def _make_domain(self, wire: int) -> tuple[Any, ...]:
        node = self.trace.nodes[wire]
        if isinstance(node, NatureNode):
            found: dict[Any, None] = {}
            for given in self._given(node.parents):
                found.update(dict.fromkeys(value for value, _ in self._drawn(node, given)))
            return tuple(found)
        if isinstance(node, DecideNode):
            if not callable(node.actions):
                return tuple(node.actions)
            offered: dict[Any, None] = {}
            for given in self._given(node.parents):
                offered.update(dict.fromkeys(canonical(one) for one in node.actions(*given)))
            return tuple(offered)
        assert isinstance(node, LetNode)
        if wire in self._folds:
            return self._fold_domain(self._folds[wire])
        if node.function is split_share and node.parents[1] in self._folds:
            many = len(self._folds[node.parents[1]].operands)
            return (Fraction(0), *(Fraction(1, count) for count in range(1, many + 1)))
        return tuple(dict.fromkeys(self._computed(node)))

    def _given(self, parents: Sequence[int]) -> list[tuple[Any, ...]]:
        domains = [self.domain(wire) for wire in parents]
        if math.prod(len(domain) for domain in domains) > _LARGEST_TABLE // 30:
            raise NotStatic("a function's arguments have too many combinations")
        return list(product(*domains))

    def _drawn(self, node: NatureNode, given: tuple[Any, ...]) -> list[tuple[Any, float]]:
        found = node.distribution(*given) if callable(node.distribution) else node.distribution
        return [(canonical(v), w) for v, w in distribution_pairs(found, f"nature {node.label}")]

    def _computed(self, node: LetNode) -> list[Any]:
        assert node.function is not None
        key = (self._key(node.index, 0, node.function), self._shape_key(node.parents))
        found = self._tables.get(("let", key))
        if found is None:
            given = self._given(node.parents)
            if node.vectorize and given:
                columns = [np.array(column) for column in zip(*given, strict=True)]
                answers = list(np.broadcast_to(node.function(*columns), len(given)))
            else:
                answers = [node.function(*values) for values in given]
            found = np.empty(len(answers), dtype=object)
            for place, value in enumerate(answers):
                found[place] = canonical(value)
            self._tables["let", key] = found
        return list(found)

    def _fold_domain(self, fold: Fold) -> tuple[Any, ...]:
        domains = [self.domain(operand) for operand in fold.operands]
        if fold.operation in ("max", "min"):
            return tuple(sorted({value for domain in domains for value in domain}))
        if fold.operation == "any":
            return (False, True)
        if fold.operation in ("sum", "count"):
            return tuple(_Grid.of(domains).values())
        values = set(domains[0])
        for domain in domains[1:]:
            values = {canonical(fold.function(a, b)) for a in values for b in domain}
            if len(values) > 100_000:
                raise NotStatic(f"a fold by {fold.operation} takes too many values")
        return tuple(values)

    def _key(self, index: int, place: int, function: Any) -> Any:
        if (index, place) not in self._keys:
            self._keys[index, place] = function_key(function)
        return self._keys[index, place]

    def _shape_key(self, wires: Sequence[int]) -> tuple[int, ...]:
        """Equal for wires of equal domains."""
        for wire in wires:
            if wire not in self._numbers:
                domain = self.domain(wire)
                # Python holds True and 1 equal, a function may not.
                told = (domain, tuple(map(type, domain)))
                self._numbers[wire] = self._numbered.setdefault(told, len(self._numbered))
        return tuple(self._numbers[wire] for wire in wires)

    def _pay_table(self, node: PayNode, place: int, factor: Factor) -> Wired:
        key = (self._key(node.index, place, factor.function), self._shape_key(factor.parents))
        shape = tuple(len(self.domain(wire)) for wire in factor.parents)
        if ("pay", key) not in self._tables:
            if math.prod(shape) > _LARGEST_TABLE:
                raise NotStatic("a payoff's table is too large; split it into factors")
            domains = [self.domain(wire) for wire in factor.parents]
            if factor.vectorize and domains:
                places = np.indices(shape).reshape(len(shape), -1)
                flat = factor.function(
                    *[np.array(domain)[at] for domain, at in zip(domains, places, strict=True)]
                )
                table = np.array(np.broadcast_to(flat, math.prod(shape)), dtype=float)
            else:
                table = np.array([factor.function(*values) for values in product(*domains)], float)
            if not np.isfinite(table).all():
                at = int(np.flatnonzero(~np.isfinite(table))[0])
                values = tuple(
                    domain[n]
                    for domain, n in zip(domains, np.unravel_index(at, shape), strict=True)
                )
                raise InputError(
                    f"{node.label}: the payoff for ({show(values)}) is not a finite number"
                )
            self._tables["pay", key] = table.reshape(shape)
        return self._tables["pay", key], factor.parents

    def _let_table(self, node: LetNode) -> Wired:
        key = ("dense", self._key(node.index, 0, node.function), self._shape_key(node.parents))
        if key not in self._tables:
            values = self._computed(node)
            domain = self.domain(node.index)
            number = {value: place for place, value in enumerate(domain)}
            table = np.zeros((len(values), len(domain)))
            table[np.arange(len(values)), [number[value] for value in values]] = 1.0
            shape = tuple(len(self.domain(wire)) for wire in node.parents)
            self._tables[key] = table.reshape(*shape, len(domain))
        return self._tables[key], (*node.parents, node.index)

    def _nature_table(self, node: NatureNode) -> Wired:
        key = ("nature", node.index)
        if key not in self._tables:
            domain = self.domain(node.index)
            number = {value: place for place, value in enumerate(domain)}
            given = self._given(node.parents)
            table = np.zeros((len(given), len(domain)))
            for row, values in enumerate(given):
                for value, weight in self._drawn(node, values):
                    table[row, number[value]] = weight
            shape = tuple(len(self.domain(wire)) for wire in node.parents)
            self._tables[key] = table.reshape(*shape, len(domain))
        return self._tables[key], (*node.parents, node.index)

    @cached_property
    def decisions(self) -> list[Decision]:
        """Every decision; NotStatic if some combination of what it sees never occurs."""
        slots = int(self.all_decisions[-1].starts[-1]) if self.all_decisions else 0
        # Any profile in which every action has a chance shows what can occur.
        evaluation = _Evaluation(self, np.ones(slots))
        for decision in self.all_decisions:
            node = self.trace.nodes[decision.stage]
            assert isinstance(node, DecideNode)
            if len(set(node.sees)) < len(node.sees):
                raise NotStatic(f"{node.label} sees a wire twice")
            roots = all(not self.trace.nodes[wire].inputs for wire in node.sees)
            if not roots and not (evaluation.contract([], node.sees) > 0).all():
                raise NotStatic(f"{node.label} never sees some combinations of its wires' values")
        return self.all_decisions

    @cached_property
    def all_decisions(self) -> list[Decision]:
        """Every decision with all combinations of the values of what it sees."""
        found: list[Decision] = []
        at = groups = 0
        for node in self.trace.nodes:
            if not isinstance(node, DecideNode):
                continue
            observations = self._given(node.sees)
            if callable(node.actions):
                actions = [
                    tuple(canonical(one) for one in node.actions(*seen)) for seen in observations
                ]
                for seen, offered in zip(observations, actions, strict=True):
                    check_actions(node, seen, offered)
            else:
                actions = [tuple(node.actions)] * len(observations)
            sizes = np.array([len(part) for part in actions])
            starts = at + np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
            found.append(
                Decision(
                    node.label,
                    node.eps,
                    node.index,
                    at,
                    observations,
                    actions,
                    starts,
                    [str(node.player)] * len(observations),
                    list(range(len(observations))),
                    groups,
                    at,
                    tuple(self.trace.nodes[wire].label for wire in node.sees),
                )
            )
            at = int(starts[-1])
            groups += len(observations)
        return found

    def resolve(self, strategies: Strategies) -> Float[np.ndarray, " slots"]:
        """The strategies as one vector over `decisions`."""
        if isinstance(strategies, np.ndarray):
            raise InputError(
                "strategies: the engine contraction takes {decision: strategy}, not one vector"
            )
        for decision in self.decisions:
            given = strategies.get(decision.name)
            # The frontier numbers observations as it meets them, which may be another order.
            if isinstance(given, np.ndarray) and len(decision.observations) > 1:
                raise InputError(
                    f"strategy of {decision.name}: the engine contraction takes no array for "
                    "several observations; give {observation: move} or a function"
                )
        slots = int(self.decisions[-1].starts[-1]) if self.decisions else 0
        nothing = np.zeros((0, 1))
        empty = Frontier(
            self.trace.title, [], self.players, [], self.decisions, [], nothing, slots, 0, slots
        )
        return resolve(empty, strategies)

    # ---- evaluating a profile

    def outcomes(
        self, profile: Float[np.ndarray, " slots"]
    ) -> tuple[list[Outcome], dict[str, float]]:
        """The values of every decision, and everybody's expected payoff."""
        return _Evaluation(self, profile).run()

    def payoffs(self, strategies: Strategies) -> dict[str, float]:
        """Everybody's expected payoff under a profile."""
        return self.outcomes(self.resolve(strategies))[1]

    def check(
        self,
        strategies: Strategies,
        notion: Notion = "agent",
        *,
        eps: float = 0.0,
        tol: float = 1e-9,
    ) -> Report:
        """The report that the frontier would give, in agent or player form."""
        owners = list(self.players_of.values())
        if notion not in ("agent", "player"):
            raise InputError(f"notion {notion}: the engine contraction checks agent and player")
        if notion == "player" and len(set(owners)) < len(owners):
            raise InputError(
                "notion player: the engine contraction needs one decision a player; take frontier"
            )
        profile = self.resolve(strategies)
        outcomes, payoffs = self.outcomes(profile)
        found: list[Deviation] = []
        regret = dict.fromkeys(self.players, 0.0)
        bad: set[int] = set()
        for outcome in outcomes:
            decision = outcome.decision
            total = 0.0
            for number, observation in enumerate(decision.observations):
                reach = float(outcome.reach[number])
                if reach <= 0:
                    continue
                begin, end = int(decision.starts[number]), int(decision.starts[number + 1])
                actions = decision.actions[number]
                worth = outcome.worth[number, : end - begin] / reach
                played = profile[begin:end]
                payoff = float(played @ worth)
                at = int(np.argmax(worth))
                gain = float(worth[at]) - payoff
                player = decision.group_players[0]
                total += reach * max(gain, 0.0)
                if notion == "agent":
                    regret[player] = max(regret[player], gain)
                    if gain > eps + tol + decision.eps:
                        bad.add(len(found))
                move = move_of(actions, played)
                found.append(
                    Deviation(
                        player, decision.name, observation, reach, {},
                        move if isinstance(move, dict) else {move: 1.0}, payoff, actions[at],
                        float(worth[at]), gain,
                        {action: float(w) for action, w in zip(actions, worth, strict=True)},
                        decision.eps, decision.labels,
                    )
                )  # fmt: skip
                if notion == "player" and gain > eps + tol + decision.eps:
                    bad.add(len(found) - 1)
            if notion == "player":
                player = decision.group_players[0]
                regret[player] = total
                if total <= eps + tol + decision.eps:
                    bad -= {at for at, one in enumerate(found) if one.decision == decision.name}
        return Report(
            notion,
            not bad,
            payoffs,
            sorted((found[at] for at in bad), key=lambda one: -one.gain),
            found,
            regret,
            len(found),
            engine="contraction",
            warnings=tuple(check_warnings(self.trace)),
        )

    def explain(self) -> list[str]:
        """The scopes that are contracted, the largest first."""
        scopes = sorted(
            (
                (math.prod(len(self.domain(wire)) for wire in node.parents), node)
                for node in self.pays
            ),
            key=lambda entry: -entry[0],
        )
        lines = []
        for size, node in scopes[:5]:
            names = ", ".join(self.trace.nodes[wire].label for wire in node.parents)
            lines.append(f"  {node.label}: {size:,} combinations of {names or 'nothing'}")
        for fold in self._folds.values():
            lines.append(
                f"  fold {fold.operation}: {len(fold.operands)} independent contributions, "
                f"{len(self.domain(fold.chain[-1])):,} values"
            )
        return lines


Groups = Sequence[tuple[tuple[Any, ...], np.ndarray, int]]
"""Independent contributions: values, their probabilities, and how many contribute so."""


@dataclass(frozen=True)
class _Grouped:
    """A fold's contributions under a profile, equal ones together."""

    entries: list[tuple[tuple[Any, ...], np.ndarray]]
    group_of: dict[int, int]
    counts: Counter[int]

    def without(self, own: int | None) -> Groups:
        """All contributions but one."""
        left = Counter(self.counts)
        if own is not None:
            left[self.group_of[own]] -= 1
        return [
            (domain, share, left[number])
            for number, (domain, share) in enumerate(self.entries)
            if left[number]
        ]


class _Evaluation:
    """One profile on one contraction."""

    def __init__(self, game: Contraction, profile: Float[np.ndarray, " slots"]) -> None:
        self.game = game
        self.profile = profile
        self.strategies: dict[int, Wired] = {}
        self.by_node = {decision.stage: decision for decision in game.all_decisions}
        self.interned: dict[bytes, np.ndarray] = {}
        self.answers: dict[Any, tuple[np.ndarray, list[Wired]]] = {}
        self.others: dict[Any, np.ndarray] = {}
        self.grouped: dict[int, _Grouped] = {}

    def run(self) -> tuple[list[Outcome], dict[str, float]]:
        game = self.game
        outcomes = []
        payoffs = dict.fromkeys(game.players, 0.0)
        by_player: dict[str, list[PayNode]] = {player: [] for player in game.players}
        for node in game.pays:
            assert not isinstance(node.players, int)
            for player in node.players:
                by_player[player].append(node)
        paid: set[str] = set()
        for index, player in game.players_of.items():
            decision = self.by_node[index]
            deciding = game.trace.nodes[index]
            assert isinstance(deciding, DecideNode)
            seen = deciding.sees
            reach = self.contract([], seen, without=index)
            worth = np.zeros((*reach.shape, len(game.domain(index))))
            for term in by_player[player]:
                worth += self._term(term, (*seen, index), without=index)
            flat_reach = reach.ravel()
            flat = worth.reshape(len(flat_reach), -1)
            flat = self._by_actions(decision, flat, index)
            outcomes.append(Outcome(decision, flat_reach, flat))
            if player not in paid:
                paid.add(player)
                payoffs[player] = self._own_payoff(decision, flat)
        for player in game.players:
            if player not in paid:
                payoffs[player] = sum(float(self._term(term, ())) for term in by_player[player])
        return outcomes, payoffs

    def _by_actions(self, decision: Decision, flat: np.ndarray, index: int) -> np.ndarray:
        """Columns in the order of each observation's own actions."""
        domain = self.game.domain(index)
        if all(actions == domain for actions in decision.actions[:1]) and not callable(
            self.game.trace.nodes[index].actions  # type: ignore[attr-defined]
        ):
            return flat
        place = {value: number for number, value in enumerate(domain)}
        width = max(len(actions) for actions in decision.actions)
        found = np.full((len(flat), width), -np.inf)
        for row, actions in enumerate(decision.actions):
            found[row, : len(actions)] = flat[row, [place[action] for action in actions]]
        return found

    def _own_payoff(self, decision: Decision, flat: np.ndarray) -> float:
        """Expected payoff of a player from the values of any one of his decisions."""
        total = 0.0
        for number in range(len(decision.observations)):
            begin, end = int(decision.starts[number]), int(decision.starts[number + 1])
            total += float(self.profile[begin:end] @ flat[number, : end - begin])
        return total

    def _strategy(self, index: int) -> Wired:
        if index not in self.strategies:
            game, decision = self.game, self.by_node[index]
            node = game.trace.nodes[index]
            assert isinstance(node, DecideNode)
            domain = game.domain(index)
            if callable(node.actions):
                place = {value: number for number, value in enumerate(domain)}
                table = np.zeros((len(decision.observations), len(domain)))
                for row, actions in enumerate(decision.actions):
                    begin, end = int(decision.starts[row]), int(decision.starts[row + 1])
                    table[row, [place[action] for action in actions]] = self.profile[begin:end]
            else:
                table = self.profile[decision.first_slot : int(decision.starts[-1])]
            shape = tuple(len(game.domain(wire)) for wire in node.sees)
            table = table.reshape(*shape, len(domain))
            # Equal strategies are one object, so that equal players are computed once.
            table = self.interned.setdefault(table.tobytes() + str(table.shape).encode(), table)
            self.strategies[index] = (table, (*node.sees, index))
        return self.strategies[index]

    def _factor_of(self, wire: int) -> Wired:
        node = self.game.trace.nodes[wire]
        if isinstance(node, NatureNode):
            return self.game._nature_table(node)
        if isinstance(node, DecideNode):
            return self._strategy(wire)
        assert isinstance(node, LetNode)
        return self.game._let_table(node)

    def _term(self, node: PayNode, out: tuple[int, ...], without: int = -1) -> np.ndarray:
        """A payoff term summed over everything but `out`, times reach of what is kept."""
        tables = [
            self.game._pay_table(node, place, factor) for place, factor in enumerate(node.factors)
        ]
        return np.asarray(node.scale * self.contract(tables, out, without))

    def contract(self, tables: list[Wired], out: tuple[int, ...], without: int = -1) -> np.ndarray:
        game = self.game
        plan = game.plan([*dict.fromkeys(wire for _, wires in tables for wire in wires), *out])
        operands = list(tables)
        operands += [self._factor_of(wire) for wire in sorted(plan.summed) if wire != without]
        operands += [self._share_table(wire) for wire in sorted(plan.shares)]
        operands += [self._fold_table(game._folds[wire], own) for wire, own in plan.folds.items()]
        return self._einsum(operands, out)

    def _grouped(self, fold: Fold) -> "_Grouped":
        result = fold.chain[-1]
        if result not in self.grouped:
            numbers: dict[Any, int] = {}
            entries: list[tuple[tuple[Any, ...], np.ndarray]] = []
            group_of = {}
            for operand in fold.operands:
                share = self.contract([], (operand,))
                key = (self.game._shape_key([operand]), share.tobytes())
                if key not in numbers:
                    numbers[key] = len(entries)
                    entries.append((self.game.domain(operand), share))
                group_of[operand] = numbers[key]
            self.grouped[result] = _Grouped(entries, group_of, Counter(group_of.values()))
        return self.grouped[result]

    def _fold_table(self, fold: Fold, own: int | None) -> Wired:
        """P(fold | own contribution), or P(fold) where no contribution is the term's own."""
        result = fold.chain[-1]
        grouped = self._grouped(fold)
        key = ("fold", result, None if own is None else grouped.group_of[own])
        if key not in self.others:
            domain = self.game.domain(result)
            others = distribution_of(fold, grouped.without(own))
            place = {value: number for number, value in enumerate(domain)}
            if own is None:
                table = np.zeros(len(domain))
                for value, weight in others.items():
                    table[place[value]] += weight
            else:
                table = _conditional(fold, self.game.domain(own), others, domain, place)
            self.others[key] = table
        return self.others[key], (result,) if own is None else (own, result)

    def _share_table(self, wire: int) -> Wired:
        """P(share | own value): how many others have exactly as much and none has more."""
        value, fold_wire = self.game.trace.nodes[wire].parents
        fold = self.game._folds[fold_wire]
        own = self.game.own_operand(fold, {value})
        assert own is not None
        grouped = self._grouped(fold)
        key = ("share", fold_wire, grouped.group_of[own])
        if key not in self.others:
            domain = self.game.domain(value)
            groups = [
                (tuple(number for number, _ in values), shares, count)
                for values, shares, count in grouped.without(own)
            ]
            counts = ties_at(groups, domain)
            table = np.zeros((len(domain), len(fold.operands) + 1))
            table[:, 1 : counts.shape[1] + 1] = counts
            table[:, 0] = 1 - counts.sum(axis=1)
            self.others[key] = table
        return self.others[key], (value, wire)

    def _ones(self, size: int) -> np.ndarray:
        return self.others.setdefault(("ones", size), np.ones(size))

    def _einsum(self, operands: Sequence[Wired], out: tuple[int, ...]) -> np.ndarray:
        from opt_einsum import contract_expression

        game = self.game
        present = {wire for _, wires in operands for wire in wires}
        missing = [wire for wire in out if wire not in present]
        # An action that no payoff depends on, or an observation of a constant.
        tables = [*operands, *((self._ones(len(game.domain(wire))), (wire,)) for wire in missing)]
        if not tables:
            return np.ones(())
        local: dict[int, int] = {}
        named = [tuple(local.setdefault(w, len(local)) for w in wires) for _, wires in tables]
        target = tuple(local[wire] for wire in out)
        key = (
            tuple((id(table), names) for (table, _), names in zip(tables, named, strict=True)),
            target,
        )
        if key not in self.answers:
            shapes = tuple(table.shape for table, _ in tables)
            path_key = (shapes, tuple(named), target)
            if path_key not in game._paths:
                text = ",".join("".join(map(_letter, names)) for names in named)
                text += "->" + "".join(map(_letter, target))
                game._paths[path_key] = contract_expression(text, *shapes)
            # The tables stay referenced, so that no id is used twice.
            self.answers[key] = (game._paths[path_key](*[table for table, _ in tables]), tables)
        return np.asarray(self.answers[key][0])


def _letter(number: int) -> str:
    from opt_einsum import get_symbol

    return str(get_symbol(number))


# ---- distributions of folds


@dataclass(frozen=True)
class _Grid:
    """Values on a lattice: low + step * k."""

    low: Any
    step: Any
    count: int

    @classmethod
    def of(cls, domains: Sequence[Sequence[Any]]) -> "_Grid":
        """The lattice of sums of one value of each domain; NotStatic if there is none."""
        lows = [min(domain) for domain in domains]
        gaps = {value - low for domain, low in zip(domains, lows, strict=True) for value in domain}
        ratios = {gap: Fraction(gap).limit_denominator(10_000) for gap in gaps}
        if any(abs(gap - ratio) > 1e-12 * max(1, gap) for gap, ratio in ratios.items()):
            raise NotStatic("a sum's contributions are not on one grid")
        below = math.lcm(*(ratio.denominator for ratio in ratios.values()))
        above = math.gcd(*(int(ratio * below) for ratio in ratios.values())) or below
        step = above // below if above % below == 0 else above / below
        span = sum(max(domain) - low for domain, low in zip(domains, lows, strict=True))
        count = round(span / step) + 1
        if count > 2_000_000:
            raise NotStatic("a sum takes too many values")
        return cls(sum(lows), step, count)

    def values(self) -> list[Any]:
        return [canonical(self.low + self.step * number) for number in range(self.count)]


def distribution_of(fold: Fold, groups: Groups) -> dict[Any, float]:
    """The distribution of a fold of independent contributions; equal ones are given once."""
    if not groups:
        return {}
    if fold.operation in ("sum", "count"):
        return _sum_distribution(groups)
    if fold.operation in ("max", "min", "any"):
        return _extreme_distribution(groups, least=fold.operation == "min")
    total: dict[Any, float] | None = None
    for domain, shares, count in groups:
        one = {value: float(share) for value, share in zip(domain, shares, strict=True) if share}
        power = _power(fold, one, count)
        total = power if total is None else _combined(fold, total, power)
    assert total is not None
    return total


def _power(fold: Fold, one: dict[Any, float], count: int) -> dict[Any, float]:
    """`count` independent copies combined, by repeated squaring."""
    result: dict[Any, float] | None = None
    while count:
        if count & 1:
            result = one if result is None else _combined(fold, result, one)
        count >>= 1
        if count:
            one = _combined(fold, one, one)
    assert result is not None
    return result


def _combined(fold: Fold, one: Mapping[Any, float], other: Mapping[Any, float]) -> dict[Any, float]:
    found: dict[Any, float] = {}
    for a, p in one.items():
        for b, q in other.items():
            value = canonical(fold.function(a, b))
            found[value] = found.get(value, 0.0) + p * q
    return found


def _sum_distribution(
    groups: Groups,
) -> dict[Any, float]:
    grid = _Grid.of([domain for domain, _, count in groups for _ in range(count)])
    size = grid.count
    spectrum = np.ones(size // 2 + 1, dtype=complex)
    for domain, shares, count in groups:
        low = min(domain)
        pmf = np.zeros(size)
        for value, share in zip(domain, shares, strict=True):
            pmf[round((value - low) / grid.step)] += share
        spectrum = spectrum * np.fft.rfft(pmf) ** count
    pmf = np.maximum(np.fft.irfft(spectrum, size), 0.0)
    # What the transform leaves where nothing is possible is rounding.
    pmf[pmf < 1e-17] = 0.0
    return {
        value: float(share) for value, share in zip(grid.values(), pmf / pmf.sum(), strict=True)
    }


def _extreme_distribution(groups: Groups, *, least: bool) -> dict[Any, float]:
    values = sorted({value for domain, _, _ in groups for value in domain}, reverse=least)
    cumulative = np.ones(len(values))
    place = {value: number for number, value in enumerate(values)}
    for domain, shares, count in groups:
        mass = np.zeros(len(values))
        for value, share in zip(domain, shares, strict=True):
            mass[place[value]] += share
        cumulative = cumulative * np.minimum(np.cumsum(mass), 1.0) ** count
    weights = np.diff(cumulative, prepend=0.0)
    return {value: float(weight) for value, weight in zip(values, weights, strict=True)}


def _conditional(
    fold: Fold,
    own: tuple[Any, ...],
    others: Mapping[Any, float],
    domain: tuple[Any, ...],
    place: Mapping[Any, int],
) -> Float[np.ndarray, "own folded"]:
    """P(fold | own contribution)."""
    table = np.zeros((len(own), len(domain)))
    if not others:
        table[np.arange(len(own)), [place[value] for value in own]] = 1.0
        return table
    weights = np.array(list(others.values()))
    if fold.operation in ("max", "min") and list(domain) == sorted(domain):
        # Numbers of sorted values compare as the values do.
        columns = np.array([place[value] for value in others])
        extreme = np.maximum if fold.operation == "max" else np.minimum
        for row, value in enumerate(own):
            np.add.at(table[row], extreme(columns, place[value]), weights)
        return table
    for row, value in enumerate(own):
        for other, weight in others.items():
            table[row, place[canonical(fold.function(other, value))]] += weight
    return table


def ties_at(groups: Groups, values: Sequence[Any]) -> Float[np.ndarray, "values counts"]:
    """P(none has more than a value, and exactly c have it), for independent contributions.

    With F below and p at the value, m equal contributors give the binomial terms of (F + p t)^m.
    """
    from scipy.special import gammaln, xlogy

    total = np.ones((len(values), 1))
    # Values need not be numbers: their places in order compare as they do.
    known = sorted({*values, *(value for domain, _, _ in groups for value in domain)})
    place = {value: number for number, value in enumerate(known)}
    wanted = np.array([place[value] for value in values])
    for domain, shares, count in groups:
        levels = np.array([place[value] for value in domain])
        order = np.argsort(levels)
        levels = levels[order]
        cumulative = np.concatenate([[0.0], np.cumsum(shares[order])])
        below = cumulative[np.searchsorted(levels, wanted, side="left")]
        at = cumulative[np.searchsorted(levels, wanted, side="right")] - below
        c = np.arange(count + 1)
        ways = gammaln(count + 1) - gammaln(c + 1) - gammaln(count - c + 1)
        term = np.exp(ways + xlogy(count - c, below[:, None]) + xlogy(c, at[:, None]))
        wider = np.zeros((len(values), total.shape[1] + count))
        for shift in range(total.shape[1]):
            wider[:, shift : shift + count + 1] += total[:, shift : shift + 1] * term
        total = wider
    return total


# ---- which engine


def choose_engine(game: "Game") -> Literal["frontier", "contraction"]:
    """The engine with the smaller estimated cost; the frontier wherever that is small."""
    if game.trace is None:
        return "frontier"
    # A user's function may fail on combinations of values that never occur together, which only
    # the contraction asks for.
    try:
        contraction = game.contraction
        bound = frontier_bound(contraction)
        if bound <= _SMALL or contraction_cost(contraction) >= bound:
            return "frontier"
        contraction.prepare()
    except Exception:
        return "frontier"
    return "contraction"


def frontier_bound(contraction: Contraction) -> float:
    """At most how many merged transitions the frontier has, by the sizes of live wires."""
    groups = schedule(contraction.trace)
    last = {wire: at for at, group in enumerate(groups) for node in group for wire in node.inputs}
    live: set[int] = set()
    total = 0.0
    for at, group in enumerate(groups):
        branch = group[0] if group else None
        log = sum(math.log(_width(contraction, wire)) for wire in live)
        if isinstance(branch, NatureNode | DecideNode):
            log += math.log(_width(contraction, branch.index))
        total += math.exp(min(log, 600.0))
        if total > 1e200:
            return total
        live |= {node.index for node in group if not isinstance(node, PayNode)}
        live = {wire for wire in live if last.get(wire, -1) > at}
    return total


def _width(contraction: Contraction, wire: int) -> int:
    """At most how many values a wire takes; a partial fold takes those of the whole."""
    for fold in contraction._folds.values():
        if wire in fold.chain:
            if fold.operation == "highest":
                return len(contraction.domain(fold.operands[0])) * len(fold.operands)
            return len(contraction.domain(fold.chain[-1]))
    return max(len(contraction.domain(wire)), 1)


def contraction_cost(contraction: Contraction) -> float:
    """Multiplications of all contractions, by the combinations of each payoff's own wires."""
    total = 0.0
    decided = {
        player: sum(owner == player for owner in contraction.players_of.values())
        for player in contraction.players
    }
    for node in contraction.pays:
        scope: set[int] = set()
        for wire in node.parents:
            scope |= contraction._above[wire]
        size = math.prod(len(contraction.domain(wire)) for wire in node.parents)
        if size > _LARGEST_TABLE:
            raise NotStatic("a payoff's table is too large")
        assert not isinstance(node.players, int)
        total += size * sum(decided[player] for player in node.players) * max(len(scope), 1)
    return total
