"""From a trace to its frontier: stages of merged live states, the form that is evaluated.

The nodes of a trace are put in order; after each draw or decision only the wires that something
later still reads are kept, and states that agree on all of those are one. A game of n farmers on a
canal has as many states as water levels, not as histories.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, no_type_check

import numpy as np

from workingpapers.foundation.errors import InputError
from workingpapers.opengames.spaces import ABSENT, Space, canonical, show
from workingpapers.opengames.trace import (
    DecideNode,
    LetNode,
    NatureNode,
    Node,
    PayNode,
    Trace,
    function_key,
)

MAX_TRANSITIONS = 200_000_000
"""How many merged transitions a game may have."""

_PROBABILITY_TOLERANCE = 1e-9
_RADIX_LIMIT = 2**62
# Above this width of program order another order is looked for.
_WIDE = 6
# How many distinct arguments one function is called with at a stage.
_MOST_ARGUMENTS = 5_000_000
# Looking for another order takes time that grows with the square of the number of draws.
_MOST_REORDERED = 60


class ProbabilityError(InputError):
    """Probabilities that are negative or do not sum to 1."""


class StateSpaceTooLarge(InputError):  # noqa: N818 - says what is the matter  # noqa: N818
    """A game whose merged states would not fit; the message names the wires that keep it wide."""


@dataclass
class Decision:
    """One decision of the compiled game: what can be seen there, and the actions for it."""

    name: str
    eps: float
    stage: int
    first_slot: int
    """Where its part of a profile's flat vector of probabilities begins."""
    observations: list[tuple[Any, ...]]
    actions: list[tuple[Any, ...]]
    """For each observation, the actions."""
    starts: np.ndarray
    """For each observation, its first slot; one more entry ends the last."""
    group_players: list[str]
    """For each report group (an observation of one player), the player."""
    group_observations: list[int]
    first_group: int
    first_report_slot: int
    labels: tuple[str, ...] = ()
    """What the seen wires are called."""

    @property
    def players(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.group_players))

    @property
    def n_slots(self) -> int:
        return int(self.starts[-1]) - self.first_slot


@dataclass
class PayEntry:
    """Payoffs of one column on one stage's transitions, as rows of the payoff table."""

    column: int
    rows: np.ndarray
    """For each transition, its row of the table."""


@dataclass
class Stage:
    """One draw or decision: its states, and the transitions out of each."""

    label: str
    decision: int
    """Index of the decision, or -1 for nature."""
    start: np.ndarray
    """For each state, its first transition; one more entry ends the last."""
    next: np.ndarray
    """For each transition, the state of the next stage it leads to."""
    outcome: np.ndarray
    """For each transition, the code of the drawn or chosen value."""
    probability: np.ndarray
    """For each transition of nature; empty for decisions."""
    slot: np.ndarray
    """For each transition of a decision, its slot in a profile; -1 where none is taken."""
    group: np.ndarray
    """For each state, its report group; -1 where the decision is not played."""
    pays: list[PayEntry]
    live: tuple[str, ...]
    """What the wires are called that the states of this stage tell apart."""
    widths: tuple[int, ...]
    """How many values each of them takes."""
    states: np.ndarray
    """For each state, the codes of the live wires; shape (states, wires)."""

    @property
    def n_states(self) -> int:
        return len(self.start) - 1

    @property
    def n_transitions(self) -> int:
        return len(self.next)


@dataclass
class Frontier:
    """A compiled game."""

    title: str
    values: list[Any]
    """Values by code; 0 is ABSENT."""
    players: tuple[str, ...]
    columns: list[tuple[str, ...]]
    """Sets of players paid alike; a player's payoff is the sum of the columns with him in it."""
    decisions: list[Decision]
    stages: list[Stage]
    table: np.ndarray
    """Distinct payoffs, shape (rows, points): a point is one setting of batched parameters."""
    n_slots: int
    n_groups: int
    n_report_slots: int
    warnings: list[str] = field(default_factory=list)

    @property
    def n_points(self) -> int:
        return self.table.shape[1]

    @property
    def n_transitions(self) -> int:
        return sum(stage.n_transitions for stage in self.stages)

    def decision(self, name: str) -> Decision:
        """The decision of this name; InputError with near names if there is none."""
        for decision in self.decisions:
            if decision.name == name:
                return decision
        from workingpapers.opengames.strategy import unknown_name

        raise unknown_name("decision", name, [one.name for one in self.decisions])


def available_memory() -> float:
    """Bytes that this machine can still give, as far as it tells."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return float(line.split()[1]) * 1024
    except OSError:
        pass
    return math.inf


class _Codes:
    """Every value of the game with its number; equal values, equal numbers."""

    def __init__(self) -> None:
        self.values: list[Any] = [ABSENT]
        self._numbers: dict[Any, int] = {}

    # Called for every value of a game: run-time checks of types would take most of a test's time.
    @no_type_check
    def code(self, value: Any, space: Space | None, where: str) -> int:
        try:
            value = canonical(value)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        if value is ABSENT:
            return 0
        key = _told_apart(value)
        number = self._numbers.get(key)
        if number is None:
            number = len(self.values)
            self.values.append(value)
            self._numbers[key] = number
        if space is not None:
            check_inside(value, space, where)
        return number


def check_inside(value: Any, space: Space | None, where: str) -> None:
    """InputError if a value is outside its space."""
    if space is not None and space.values is not None and value not in space.values:
        raise InputError(
            f"{where}: the value {show(value)} is outside the space {space.name} "
            f"({', '.join(show(one) for one in space.values[:8])})"
        )


def check_actions(node: DecideNode, seen: tuple[Any, ...], offered: Sequence[Any]) -> None:
    """InputError if what a decision offers at an observation is empty, or not distinct."""
    if offered and len(set(offered)) == len(offered):
        return
    wrong = "an action is offered twice" if offered else "the actions are empty"
    raise InputError(
        f"decide {node.label} at observation {show(seen)}: {wrong}; expected distinct actions"
    )


@no_type_check
def _told_apart(value: Any) -> Any:
    """A key that differs for True and 1, which Python holds equal."""
    if isinstance(value, bool):
        return (bool, value)
    if isinstance(value, tuple):
        return tuple(_told_apart(part) for part in value)
    return value


def distinct(columns: Sequence[np.ndarray], n_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Number the distinct rows of columns of codes >= 0: (first row of each, number of each row).

    Keys are mixed-radix numbers; where those would leave 63 bits, a prefix is numbered first.
    """
    if not columns or n_rows <= 1:
        return np.zeros(min(n_rows, 1), dtype=np.int64), np.zeros(n_rows, dtype=np.int64)
    key = columns[0].astype(np.int64)
    size = int(key.max()) + 1
    for column in columns[1:]:
        radix = int(column.max()) + 1
        if radix == 1:
            continue
        if size > _RADIX_LIMIT // radix:
            _, key = np.unique(key, return_inverse=True)
            size = int(key.max()) + 1
        key = key * radix + column
        size *= radix
    if size <= 4 * n_rows + 1024:
        first = np.full(size, -1, dtype=np.int64)
        # Written from the back, so that the first of equal rows stays.
        first[key[::-1]] = np.arange(n_rows - 1, -1, -1)
        present = np.flatnonzero(first >= 0)
        number = np.empty(size, dtype=np.int64)
        number[present] = np.arange(len(present))
        return first[present], number[key]
    _, first, number = np.unique(key, return_index=True, return_inverse=True)
    return first, number


# ---- the order of nodes


def schedule(trace: Trace) -> list[list[Node]]:
    """Groups of nodes: draws and decisions one each, with all that can be computed after it.

    Computing as early as possible never adds a state and lets parents be forgotten sooner. Draws
    and decisions stay in program order unless another order keeps fewer wires at its widest point.
    """
    branches = [node for node in trace.nodes if isinstance(node, NatureNode | DecideNode)]
    order = _computed_early(trace, branches)
    widest = max(_live_counts(order))
    if widest > _WIDE and len(branches) <= _MOST_REORDERED:
        other = _computed_early(trace, _narrow_order(trace, branches))
        if max(_live_counts(other)) < widest:
            return other
    return order


def _computed_early(trace: Trace, branches: Sequence[Node]) -> list[list[Node]]:
    waiting: dict[int, int] = {}
    readers: dict[int, list[Node]] = {}
    ready: list[Node] = []
    for node in trace.nodes:
        if isinstance(node, LetNode | PayNode):
            waiting[node.index] = len(node.inputs)
            for wire in node.inputs:
                readers.setdefault(wire, []).append(node)
            if not node.inputs:
                ready.append(node)

    def settle(group: list[Node]) -> list[Node]:
        at = 0
        while at < len(group):
            for reader in readers.get(group[at].index, ()):
                waiting[reader.index] -= 1
                if waiting[reader.index] == 0:
                    group.append(reader)
            at += 1
        return group

    groups = [settle(ready)]
    groups += [settle([node]) for node in branches]
    return groups


def _live_counts(groups: Sequence[Sequence[Node]]) -> list[int]:
    """After each group, how many of its and earlier wires something later reads."""
    last = _last_use(groups)
    counts, live = [], set()
    for at, group in enumerate(groups):
        live |= {node.index for node in group if not isinstance(node, PayNode)}
        live = {wire for wire in live if last.get(wire, -1) > at}
        counts.append(len(live))
    return counts


def _last_use(groups: Sequence[Sequence[Node]]) -> dict[int, int]:
    return {wire: at for at, group in enumerate(groups) for node in group for wire in node.inputs}


def _narrow_order(trace: Trace, branches: Sequence[Node]) -> list[Node]:
    """Draws and decisions so that few wires are live: greedily the one that leaves fewest."""
    left = {node.index for node in branches}
    needs: dict[int, set[int]] = {}
    for node in trace.nodes:
        above: set[int] = set()
        for wire in node.inputs:
            above |= needs[wire]
            if wire in left:
                above.add(wire)
        needs[node.index] = above
    terms = [needs[node.index] for node in trace.nodes if isinstance(node, PayNode)]
    terms += [needs[node.index] for node in branches]
    by_wire: dict[int, list[set[int]]] = {}
    for term in terms:
        for wire in term:
            by_wire.setdefault(wire, []).append(term)
    done: set[int] = set()
    order: list[Node] = []
    remaining = list(branches)
    while remaining:
        ready = [node for node in remaining if needs[node.index] <= done]

        def open_after(node: Node) -> int:
            after = done | {node.index}
            touched = {wire for term in by_wire.get(node.index, ()) for wire in term}
            # Wires that stay live for the terms this node takes part in.
            return sum(
                1
                for wire in touched & after
                if any(not term <= after for term in by_wire.get(wire, ()))
            ) + sum(1 for wire in touched - after)

        best = min(ready[:64], key=open_after)
        order.append(best)
        done.add(best.index)
        remaining.remove(best)
    return order


# ---- compiling


def compile_trace(
    trace: Trace, *, n_points: int = 1, max_transitions: int = MAX_TRANSITIONS
) -> Frontier:
    """The frontier of a trace whose payoff functions give one number, or one a batched point.

    Raises InputError for values outside their space, empty action sets and NaN payoffs,
    ProbabilityError, and StateSpaceTooLarge.
    """
    return Compiler(trace, n_points, max_transitions).run()


class Compiler:
    def __init__(self, trace: Trace, n_points: int, max_transitions: int) -> None:
        self.trace = trace
        self.n_points = n_points
        self.max_transitions = max_transitions
        self.codes = _Codes()
        self.columns: dict[tuple[str, ...], int] = {}
        self.players: dict[str, None] = {}
        self.decisions: list[Decision] = []
        self.stages: list[Stage] = []
        self.table: list[Any] = []
        self.table_rows: dict[Any, int] = {}
        self.transitions = 0
        self.bytes = 0
        self.memory = 0.6 * available_memory()
        self.n_slots = self.n_groups = self.n_report_slots = 0
        self.memo: dict[Any, dict[Any, Any]] = {}
        self.keys: dict[int, Any] = {}
        for node in trace.nodes:
            if isinstance(node, DecideNode) and isinstance(node.player, str):
                self.players.setdefault(node.player)
        for node in trace.nodes:
            if isinstance(node, PayNode) and not isinstance(node.players, int):
                for player in node.players:
                    self.players.setdefault(player)

    def run(self) -> Frontier:
        groups = schedule(self.trace)
        last = _last_use(groups)
        live: dict[int, np.ndarray] = {}
        n_rows = 1
        for at, group in enumerate(groups):
            n_rows, live = self._stage(at, group, last, live, n_rows)
        table = np.array(
            [np.broadcast_to(row, self.n_points) for row in self.table], dtype=np.float64
        ).reshape(len(self.table), self.n_points)
        from workingpapers.opengames.trace import check_warnings

        return Frontier(
            self.trace.title,
            self.codes.values,
            tuple(self.players),
            list(self.columns),
            self.decisions,
            self.stages,
            table,
            self.n_slots,
            self.n_groups,
            self.n_report_slots,
            check_warnings(self.trace),
        )

    def _stage(
        self,
        at: int,
        group: list[Node],
        last: dict[int, int],
        live: dict[int, np.ndarray],
        n_rows: int,
    ) -> tuple[int, dict[int, np.ndarray]]:
        branch = group[0] if group and isinstance(group[0], NatureNode | DecideNode) else None
        label = "start" if branch is None else branch.label
        slot = np.empty(0, dtype=np.int64)
        group_of = np.full(n_rows, -1, dtype=np.int64)
        decision = -1
        if branch is None:
            counts = np.ones(n_rows, dtype=np.int64)
            outcome = np.zeros(n_rows, dtype=np.int64)
            probability = np.ones(n_rows)
        elif isinstance(branch, NatureNode):
            counts, outcome, probability = self._nature(branch, live, n_rows)
        else:
            assert isinstance(branch, DecideNode)
            decision = len(self.decisions)
            counts, outcome, slot, group_of = self._decide(branch, live, n_rows)
            probability = np.empty(0)
        names = tuple(self.trace.nodes[wire].label for wire in live)
        states = (
            np.stack(list(live.values()), axis=1) if live else np.zeros((n_rows, 0), dtype=np.int64)
        )
        widths = tuple(len(np.unique(column)) for column in live.values()) if n_rows > 64 else ()
        start = np.zeros(n_rows + 1, dtype=np.int64)
        np.cumsum(counts, out=start[1:])
        source = np.repeat(np.arange(n_rows), counts)
        n_after = len(outcome)
        # Gathered only when read: most wires of a wide game are dead by then.
        rows = Rows(live, source)
        if branch is not None:
            rows.new[branch.index] = outcome
        pays: list[PayEntry] = []
        for node in group if branch is None else group[1:]:
            if isinstance(node, LetNode):
                rows.new[node.index] = self._let(node, rows, n_after)
            else:
                assert isinstance(node, PayNode)
                pays += self._pay(node, rows, n_after)
        kept = [wire for wire in (*live, *rows.new) if last.get(wire, -1) > at]
        columns = [rows.column(wire) for wire in kept]
        first, number = distinct(columns, n_after)
        self.stages.append(
            Stage(
                label,
                decision,
                start,
                number,
                outcome,
                probability,
                slot,
                group_of,
                pays,
                names,
                widths,
                states,
            )
        )
        return len(first), {wire: column[first] for wire, column in zip(kept, columns, strict=True)}

    def _guard(
        self, label: str, n_states: int, counts: np.ndarray, live: dict[int, np.ndarray]
    ) -> None:
        new = int(counts.sum())
        self.transitions += new
        # Codes of the live wires and of the transition itself, while the stage is being merged.
        self.bytes += 8 * (new * 6 + n_states * (1 + len(live)))
        needed = self.bytes + 8 * new * (len(live) + 4)
        if self.transitions <= self.max_transitions and needed <= self.memory:
            return
        limit = f"more than {self.max_transitions:,} merged transitions"
        if self.transitions <= self.max_transitions:
            limit = f"{self.transitions:,} merged transitions, too many for this machine's memory,"
        wide = sorted(
            (
                (len(np.unique(column)), self.trace.nodes[wire].label)
                for wire, column in live.items()
            ),
            reverse=True,
        )
        named = ", ".join(f"{name} ({width} values)" for width, name in wide[:6])
        raise StateSpaceTooLarge(
            f"{self.trace.title}: {limit} at "
            f"{label}, where {n_states:,} states are kept apart by {named}; pay in separable "
            "terms, use b.fold for sums and maxima, or simulate"
        )

    # ---- the kinds of nodes

    def _distinct_inputs(
        self, node: Node, columns: Sequence[np.ndarray], n_rows: int
    ) -> tuple[np.ndarray, np.ndarray, list[bool]]:
        """(first row of each distinct input, number of each row, whether it is played there)."""
        first, number = distinct(columns, n_rows)
        inputs = node.inputs
        if len(first) > _MOST_ARGUMENTS:
            names = ", ".join(self.trace.nodes[wire].label for wire in inputs)
            raise StateSpaceTooLarge(
                f"{self.trace.title}: {node.label} reads {len(first):,} combinations of {names}; "
                f"at most {_MOST_ARGUMENTS:,} are computed; compute in steps of few wires, or use "
                "b.fold"
            )
        at = {wire: place for place, wire in enumerate(inputs)}
        values = self.codes.values
        played = np.ones(len(first), dtype=bool)
        for wire, allowed in node.guards:
            codes = columns[at[wire]][first].tolist()
            played &= np.array([values[code] in allowed for code in codes], dtype=bool)
        if not (isinstance(node, LetNode) and node.merge):
            for wire in node.parents:
                played &= columns[at[wire]][first] != 0
        return first, number, played.tolist()

    def _arguments(
        self, node: Node, columns: Sequence[np.ndarray], first: np.ndarray, wires: Sequence[int]
    ) -> list[tuple[int, ...]]:
        at = {wire: place for place, wire in enumerate(node.inputs)}
        chosen = [columns[at[wire]][first].tolist() for wire in wires]
        return list(zip(*chosen, strict=True)) if chosen else [()] * len(first)

    def _nature(
        self, node: NatureNode, live: dict[int, np.ndarray], n_rows: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        columns = [live[wire] for wire in node.inputs]
        first, number, played = self._distinct_inputs(node, columns, n_rows)
        arguments = self._arguments(node, columns, first, node.parents)
        drawn: list[tuple[list[int], list[float]]] = []
        known: dict[Any, tuple[list[int], list[float]]] = {}
        for codes, fine in zip(arguments, played, strict=True):
            if not fine:
                drawn.append(([0], [1.0]))
                continue
            if codes not in known:
                given = [self.codes.values[code] for code in codes]
                known[codes] = self._distribution(node, given)
            drawn.append(known[codes])
        sizes = np.array([len(values) for values, _ in drawn], dtype=np.int64)
        counts = sizes[number]
        self._guard(node.label, n_rows, counts, live)
        flat = np.array([code for values, _ in drawn for code in values], dtype=np.int64)
        weights = np.array([weight for _, part in drawn for weight in part])
        at = _ragged(sizes, number, counts)
        return counts, flat[at], weights[at]

    def _distribution(
        self, node: NatureNode, given: Sequence[Any]
    ) -> tuple[list[int], list[float]]:
        found = node.distribution(*given) if callable(node.distribution) else node.distribution
        where = f"nature {node.label}"
        try:
            pairs = distribution_pairs(found, where)
        except InputError as error:
            if not given:
                raise
            raise type(error)(f"{error}, given {show(tuple(given))}") from None
        codes = [self.codes.code(value, node.space, where) for value, _ in pairs]
        return codes, [weight for _, weight in pairs]

    def _decide(
        self, node: DecideNode, live: dict[int, np.ndarray], n_rows: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        columns = [live[wire] for wire in node.inputs]
        first, number, played = self._distinct_inputs(node, columns, n_rows)
        seen = self._arguments(node, columns, first, node.sees)
        roles = None
        if isinstance(node.player, int):
            roles = self._arguments(node, columns, first, [node.player])
        observations: dict[tuple[int, ...], int] = {}
        actions: list[list[int]] = []
        offered: list[int] | None = None
        groups: dict[tuple[str, int], int] = {}
        # For each distinct input: its observation, its report group, or -1 twice.
        where_seen, where_reported = [], []
        for row, (codes, fine) in enumerate(zip(seen, played, strict=True)):
            if not fine:
                where_seen.append(-1)
                where_reported.append(-1)
                continue
            if codes not in observations:
                observations[codes] = len(actions)
                if offered is None or callable(node.actions):
                    offered = self._actions(node, codes)
                actions.append(offered)
            if roles is None:
                player = str(node.player)
            else:
                player = self.codes.values[roles[row][0]]
                if not isinstance(player, str):
                    raise InputError(
                        f"decide {node.label}: its player's wire carries {show(player)}; "
                        "expected a player's name"
                    )
                self.players.setdefault(player)
            observation = observations[codes]
            where_seen.append(observation)
            where_reported.append(groups.setdefault((player, observation), len(groups)))
        sizes = np.array([len(part) for part in actions], dtype=np.int64)
        starts = self.n_slots + np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self.decisions.append(
            Decision(
                node.label,
                node.eps,
                len(self.stages),
                self.n_slots,
                [tuple(self.codes.values[code] for code in codes) for codes in observations],
                [tuple(self.codes.values[code] for code in part) for part in actions],
                starts,
                [player for player, _ in groups],
                [observation for _, observation in groups],
                self.n_groups,
                self.n_report_slots,
                tuple(self.trace.nodes[wire].label for wire in node.sees),
            )
        )
        self.n_slots = int(starts[-1])
        seen_at = np.array(where_seen, dtype=np.int64)[number] if n_rows else np.empty(0, int)
        reported = np.array(where_reported, dtype=np.int64)[number]
        # A row that is not played has one outcome, absent, and no slot.
        counts = np.where(seen_at >= 0, sizes[seen_at] if len(sizes) else 0, 1)
        self._guard(node.label, n_rows, counts, live)
        begin = np.cumsum(counts) - counts
        within = np.arange(int(counts.sum())) - np.repeat(begin, counts)
        of_row = np.repeat(seen_at, counts)
        slot = np.where(of_row >= 0, starts[of_row] + within, -1)
        flat = np.array([code for part in actions for code in part], dtype=np.int64)
        outcome = np.zeros(len(slot), dtype=np.int64)
        taken = slot >= 0
        outcome[taken] = flat[slot[taken] - starts[0]]
        group_of = np.where(reported >= 0, reported + self.n_groups, -1)
        self.n_groups += len(groups)
        self.n_report_slots += sum(len(actions[observation]) for _, observation in groups)
        return counts, outcome, slot, group_of

    def _actions(self, node: DecideNode, codes: tuple[int, ...]) -> list[int]:
        given = tuple(self.codes.values[code] for code in codes)
        where = f"decide {node.label}"
        offered = node.actions(*given) if callable(node.actions) else node.actions
        numbers = [self.codes.code(value, None, where) for value in offered]
        check_actions(node, given, numbers)
        return numbers

    def _let(self, node: LetNode, rows: "Rows", n_rows: int) -> np.ndarray:
        columns = [rows.column(wire) for wire in node.inputs]
        first, number, played = self._distinct_inputs(node, columns, n_rows)
        arguments = self._arguments(node, columns, first, node.parents)
        where = f"let {node.label}"
        if node.merge:
            found = [
                self._present(node, codes) if fine else 0
                for codes, fine in zip(arguments, played, strict=True)
            ]
        else:
            assert node.function is not None
            wanted = [codes for codes, fine in zip(arguments, played, strict=True) if fine]
            answers = self._call(node.index, node.function, node.vectorize, wanted, where)
            space = node.space
            coded = iter([self.codes.code(_one(value, where), space, where) for value in answers])
            found = [next(coded) if fine else 0 for fine in played]
        return np.array(found, dtype=np.int64)[number]

    def _present(self, node: LetNode, codes: tuple[int, ...]) -> int:
        there = [code for code in codes if code]
        if len(there) > 1:
            raise InputError("merge: two of its wires are present at once; expected one branch")
        return there[0] if there else 0

    def _call(
        self,
        key_of: Any,
        function: Callable[..., Any],
        vectorize: bool,
        wanted: list[tuple[int, ...]],
        where: str,
    ) -> list[Any]:
        """The function's answers; equal functions share what they have computed."""
        if key_of not in self.keys:
            self.keys[key_of] = function_key(function)
        known = self.memo.setdefault(self.keys[key_of], {})
        new = [codes for codes in dict.fromkeys(wanted) if codes not in known]
        values = self.codes.values
        if new and vectorize:
            given = [
                np.array([values[code] for code in column]) for column in zip(*new, strict=True)
            ]
            answers = np.asarray(function(*given))
            if answers.ndim == 0:
                answers = np.broadcast_to(answers, (len(new),))
            if len(answers) != len(new):
                raise InputError(
                    f"{where}: a vectorized function returned {len(answers)} values for "
                    f"{len(new)} arguments"
                )
            # Plain numbers are what every later step is quickest with.
            listed = answers.tolist() if answers.ndim == 1 else answers
            known.update(zip(new, listed, strict=True))
        else:
            for codes in new:
                known[codes] = function(*[values[code] for code in codes])
        return [known[codes] for codes in wanted]

    def _pay(self, node: PayNode, rows: "Rows", n_rows: int) -> list[PayEntry]:
        columns = [rows.column(wire) for wire in node.inputs]
        first, number, played = self._distinct_inputs(node, columns, n_rows)
        where = node.label
        totals: list[Any] = [node.scale if fine else 0.0 for fine in played]
        for place, factor in enumerate(node.factors):
            arguments = self._arguments(node, columns, first, factor.parents)
            wanted = [codes for codes, fine in zip(arguments, played, strict=True) if fine]
            answers = iter(
                self._call((node.index, place), factor.function, factor.vectorize, wanted, where)
            )
            totals = [
                total * self._payoff(next(answers), where, codes) if fine else 0.0
                for total, codes, fine in zip(totals, arguments, played, strict=True)
            ]
        if isinstance(node.players, int):
            names = self._arguments(node, columns, first, [node.players])
            who = [
                self.codes.values[codes[0]] if fine else None
                for codes, fine in zip(names, played, strict=True)
            ]
            entries = []
            for player in dict.fromkeys(name for name in who if name is not None):
                if not isinstance(player, str):
                    raise InputError(f"pay: its player's wire carries {show(player)}")
                self.players.setdefault(player)
                own = [
                    total if name == player else 0.0
                    for total, name in zip(totals, who, strict=True)
                ]
                entries.append(self._entry((player,), own, number))
            return entries
        return [self._entry(node.players, totals, number)]

    def _payoff(self, value: Any, where: str, codes: tuple[int, ...]) -> Any:
        kind = type(value)
        if kind is float or kind is int:
            if math.isfinite(value):
                return value
        else:
            try:
                array = np.asarray(value, dtype=np.float64)
            except (TypeError, ValueError):
                given = show(tuple(self.codes.values[code] for code in codes))
                raise InputError(
                    f"{where}: the payoff for ({given}) is {value!r}; expected a number"
                ) from None
            if array.ndim > 1 or (array.ndim == 1 and array.shape[0] != self.n_points):
                raise InputError(
                    f"{where}: a payoff has the shape {array.shape}; expected one number"
                )
            if np.isfinite(array).all():
                return float(array) if array.ndim == 0 else array
        given = show(tuple(self.codes.values[code] for code in codes))
        raise InputError(f"{where}: the payoff for ({given}) is not a finite number")

    def _entry(self, players: tuple[str, ...], totals: list[Any], number: np.ndarray) -> PayEntry:
        column = self.columns.setdefault(players, len(self.columns))
        rows = np.empty(len(totals), dtype=np.int64)
        for place, total in enumerate(totals):
            if isinstance(total, np.ndarray):
                rows[place] = len(self.table)
                self.table.append(total)
                continue
            row = self.table_rows.get(total)
            if row is None:
                row = len(self.table)
                self.table.append(float(total))
                self.table_rows[total] = row
            rows[place] = row
        return PayEntry(column, rows[number])


class Rows:
    """The columns after a draw: new ones, and old ones gathered when they are read."""

    def __init__(self, live: dict[int, np.ndarray], source: np.ndarray) -> None:
        self.live = live
        self.source = source
        self.new: dict[int, np.ndarray] = {}
        self._gathered: dict[int, np.ndarray] = {}

    def column(self, wire: int) -> np.ndarray:
        if wire in self.new:
            return self.new[wire]
        if wire not in self._gathered:
            self._gathered[wire] = self.live[wire][self.source]
        return self._gathered[wire]


def _ragged(sizes: np.ndarray, number: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """For rows that take their `sizes[number]` entries of a flat list, where each entry is."""
    begin = (np.cumsum(sizes) - sizes)[number]
    ends = np.cumsum(counts)
    return np.arange(int(ends[-1]) if len(ends) else 0) - np.repeat(ends - counts - begin, counts)


def _one(value: Any, where: str) -> Any:
    if isinstance(value, np.ndarray) and value.ndim > 0:
        raise InputError(f"{where}: its value is an array; expected one value")
    return value


def distribution_pairs(found: Any, where: str) -> list[tuple[Any, float]]:
    """(value, probability) of a mapping, or of a sequence of equally likely values, without zeros.

    Raises ProbabilityError for a negative weight or a sum away from 1.
    """
    if isinstance(found, Mapping):
        pairs = [(canonical(value), weight) for value, weight in found.items()]
    else:
        listed = [canonical(value) for value in found]
        if not listed:
            raise ProbabilityError(f"{where}: the distribution is empty")
        pairs = [(value, 1 / len(listed)) for value in listed]
    weights: dict[Any, float] = {}
    for value, weight in pairs:
        if np.ndim(weight) > 0:
            raise InputError(f"{where}: the probability of {show(value)} is an array")
        if not weight >= 0 or math.isinf(weight):
            raise ProbabilityError(f"{where}: the probability of {show(value)} is {weight}")
        weights[value] = weights.get(value, 0.0) + weight
    total = math.fsum(float(weight) for weight in weights.values())
    if abs(total - 1) > _PROBABILITY_TOLERANCE:
        raise ProbabilityError(f"{where}: the probabilities sum to {total:.12g}, expected 1")
    return [(value, float(weight)) for value, weight in weights.items() if weight > 0]
