"""Game trees in extensive game files, version 2, as Gambit has them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from workingpapers.foundation.console import write_atomically
from workingpapers.foundation.errors import InputError
from workingpapers.opengames.compile import Frontier, Stage
from workingpapers.opengames.gambit_text import (
    MAX_NODES,
    Scanner,
    decimal_text,
    exact_texts,
    fresh,
    header,
    labels,
    plain_label,
    quoted,
    scan_file,
    single_setting,
    value_label,
)
from workingpapers.opengames.games import Game, log10_leaves
from workingpapers.opengames.spaces import ABSENT
from workingpapers.opengames.trace import Trace

OVER = "over"
"""Where the play is once it has ended, in games read from trees."""

_TOLERANCE = 1e-9
# Deeper than this a node is called by its number instead of the moves that lead to it.
_SHOWN_MOVES = 20


# ---- information sets: what the observations of a game are in a tree


@dataclass(frozen=True)
class InformationSet:
    """What one player sees at one decision, as one information set of the game's tree."""

    player: str
    number: int
    """From 1, for each player by itself."""
    label: str
    """`decision:observation`, different for every set of the game."""
    decision: str
    observation: tuple[Any, ...]
    actions: tuple[str, ...]
    """Their labels, in the order of the decision's actions."""
    first_slot: int
    """Where the probabilities of its actions begin in a profile's flat vector."""


def information_sets(game: Game, *, plain: bool = False) -> list[InformationSet]:
    """Every information set that `write_efg` writes, by report group of the compiled game.

    `plain` gives the labels of a plain file.
    """
    found = []
    numbers: dict[str, int] = {}
    taken: set[str] = set()
    for decision in game.frontier.decisions:
        shared = Counter(decision.group_observations)
        for player, at in zip(decision.group_players, decision.group_observations, strict=True):
            numbers[player] = numbers.get(player, 0) + 1
            seen = decision.observations[at]
            label = decision.name
            if seen:
                label += ":" + value_label(seen[0] if len(seen) == 1 else seen)
            if shared[at] > 1:
                label += f" ({player})"
            found.append(
                InformationSet(
                    player,
                    numbers[player],
                    fresh(plain_label(label) if plain else label, taken),
                    decision.name,
                    seen,
                    labels(decision.actions[at], plain),
                    int(decision.starts[at]),
                )
            )
    return found


# ---- writing trees


def write_efg(
    game: Game, path: str | Path, max_nodes: int = MAX_NODES, *, plain: bool = False
) -> None:
    """Write the game's tree as an extensive game file, version 2.

    Names are written as they are, in UTF-8; `plain` writes them in the characters that Gambit's
    own reader takes. InputError if the tree has more than `max_nodes` nodes.
    """
    write_atomically(Path(path), efg_text(game, max_nodes, plain=plain))


def efg_text(game: Game, max_nodes: int = MAX_NODES, *, plain: bool = False) -> str:
    """The text of the extensive game file: one node a history, in preorder.

    Draws with more than one outcome become chance nodes, whose probabilities sum to exactly 1;
    each observation of a player at a decision is one information set; a branch that is not played
    has no node. Payoffs are the sums along the path, and stand at its end.
    """
    frontier = single_setting(game)
    count = _count_nodes(frontier)
    if count > max_nodes:
        many = f"{count:,.0f}" if count < 1e15 else f"about 10^{log10_leaves(frontier):.0f}"
        raise InputError(
            f"{game.title}: its tree has {many} nodes; expected at most {max_nodes:,} (max_nodes); "
            "JSON keeps the game as it is compiled"
        )
    sets = information_sets(game, plain=plain)
    players = {player: number for number, player in enumerate(frontier.players, start=1)}
    personal = [
        f'p "" {players[one.player]} {one.number} {quoted(one.label)} '
        f"{{ {' '.join(quoted(action) for action in one.actions)} }} 0"
        for one in sets
    ]
    lines = [header("EFG 2 R", game.title, frontier.players, plain), '""', ""]
    stages = [_TreeStage(frontier, stage) for stage in frontier.stages]
    chance: dict[tuple[int, int], str] = {}
    taken: set[str] = set()
    leaves = 0
    nothing = (0.0,) * len(frontier.players)
    waiting = [(0, 0, nothing)]
    while waiting:
        at, state, paid = waiting.pop()
        while at < len(stages) and not stages[at].written[state]:
            # One outcome: no node, but perhaps a payoff.
            only = stages[at].start[state]
            paid = stages[at].add(paid, only)
            state = stages[at].next[only]
            at += 1
        if at == len(stages):
            leaves += 1
            lines.append(f't "" {leaves} "" {{ {", ".join(decimal_text(one) for one in paid)} }}')
            continue
        stage = stages[at]
        begin, end = stage.start[state], stage.start[state + 1]
        if stage.group[state] >= 0:
            lines.append(personal[stage.group[state]])
        else:
            if (at, state) not in chance:
                label = fresh(plain_label(stage.label) if plain else stage.label, taken)
                drawn = [frontier.values[code] for code in stage.outcome[begin:end]]
                weights = exact_texts(stage.probability[begin:end])
                pairs = zip(labels(drawn, plain), weights, strict=True)
                written = " ".join(f"{quoted(name)} {weight}" for name, weight in pairs)
                chance[at, state] = f'c "" {len(chance) + 1} {quoted(label)} {{ {written} }} 0'
            lines.append(chance[at, state])
        waiting += [
            (at + 1, stage.next[one], stage.add(paid, one)) for one in reversed(range(begin, end))
        ]
    return "\n".join(lines) + "\n"


class _TreeStage:
    """A stage as lists, which a walk through a tree reads faster than arrays."""

    def __init__(self, frontier: Frontier, stage: Stage) -> None:
        self.label = stage.label
        self.start = stage.start.tolist()
        self.next = stage.next.tolist()
        self.outcome = stage.outcome.tolist()
        self.probability = stage.probability.tolist()
        self.group = stage.group.tolist()
        self.written = _has_nodes(stage).tolist()
        paid = np.zeros((stage.n_transitions, len(frontier.players)))
        for entry in stage.pays:
            for player in frontier.columns[entry.column]:
                paid[:, frontier.players.index(player)] += frontier.table[entry.rows, 0]
        self.paid = [tuple(row) if any(row) else None for row in paid.tolist()]

    def add(self, paid: tuple[float, ...], transition: int) -> tuple[float, ...]:
        more = self.paid[transition]
        return paid if more is None else tuple(map(float.__add__, paid, more))


def _has_nodes(stage: Stage) -> np.ndarray:
    """For each state, whether it is a node of the tree: a decision that is played, a real draw."""
    return stage.group >= 0 if stage.decision >= 0 else np.diff(stage.start) > 1


def _count_nodes(frontier: Frontier) -> float:
    """The number of nodes of the tree; infinity where no float holds it."""
    histories: np.ndarray = np.ones(1)
    total = 0.0
    with np.errstate(over="ignore"):
        for stage in frontier.stages:
            total += float(histories[_has_nodes(stage)].sum())
            source = np.repeat(np.arange(stage.n_states), np.diff(stage.start))
            histories = np.bincount(stage.next, histories[source])
        return total + float(histories.sum())


# ---- reading trees


@dataclass(eq=False)
class _Set:
    """An information set of a file; chance has player 0, and probabilities."""

    player: int
    number: int
    label: str
    actions: list[str]
    probabilities: list[Fraction]
    line: int
    name: str = ""
    """What its decision is called in the game."""


@dataclass(eq=False)
class _TreeNode:
    set: _Set | None
    """None at the end of a play."""
    payoffs: tuple[float, ...] | None
    line: int
    name: str
    """The moves that lead to it."""
    depth: int
    children: list[int] = field(default_factory=list)


def read_efg(path: str | Path) -> Game:
    """The game of an extensive game file, version 2.

    Every information set becomes a decision without observations, called by its label where that
    is there and nobody else's, else `player:number`. Payoffs are floats. InputError names the
    line of what is wrong, also for a tree whose information sets have no order: one that comes
    twice on a path, or two of which each comes before the other.
    """
    scan = scan_file(Path(path))
    scan.word(["EFG"], "EFG")
    scan.word(["2"], "version 2")
    scan.word(["R", "D"], "R or D")
    title = scan.quotation("the game's title")
    players = scan.players()
    if scan.kind == "text":
        scan.quotation("a comment")
    nodes = _EfgReader(scan, len(players)).nodes()
    _name_sets(nodes, players)
    return Game(_tree_trace(scan, title, players, nodes))


class _EfgReader:
    def __init__(self, scan: Scanner, players: int) -> None:
        self.scan = scan
        self.players = players
        self.sets: dict[tuple[int, int], _Set] = {}
        self.outcomes: dict[int, tuple[tuple[float, ...], int]] = {}

    def nodes(self) -> list[_TreeNode]:
        """All nodes in preorder, children by number."""
        found = [self._node("root", 0)]
        taken = {"root", OVER}
        # Nodes whose children are not all there yet; the innermost is last.
        open_nodes = [0]
        while open_nodes:
            above = found[open_nodes[-1]]
            place = len(above.children)
            if above.set is None or place == len(above.set.actions):
                open_nodes.pop()
                continue
            action = above.set.actions[place]
            if not self.scan.kind:
                self.scan.fail(
                    f"the file ends before the tree does: no node follows the action "
                    f"{quoted(action)} of the node on line {above.line}"
                )
            name = action if above.depth == 0 else f"{above.name}, {action}"
            if above.depth >= _SHOWN_MOVES:
                name = f"node {len(found) + 1}"
            above.children.append(len(found))
            open_nodes.append(len(found))
            found.append(self._node(fresh(name, taken), above.depth + 1))
        if self.scan.kind:
            self.scan.expected("the end of the file, since the tree is complete")
        return found

    def _node(self, name: str, depth: int) -> _TreeNode:
        scan = self.scan
        line = scan.line(scan.offset)
        kind = scan.word(["c", "p", "t"], "a node (c, p or t)")
        scan.quotation("the node's name")
        player = 0
        if kind == "p":
            place = scan.offset
            player = scan.whole("the number of the player")
            if not 1 <= player <= self.players:
                scan.fail(f"expected a player from 1 to {self.players}, found {player}", place)
        owner = None if kind == "t" else self._set(player, line)
        return _TreeNode(owner, self._outcome(), line, name, depth)

    def _set(self, player: int, line: int) -> _Set:
        scan = self.scan
        place = scan.offset
        number = scan.whole("the number of the information set")
        label = scan.quotation("a name") if scan.kind == "text" else ""
        known = self.sets.get((player, number))
        shown = f"information set {number} of {f'player {player}' if player else 'chance'}"
        if scan.kind != "{":
            if known is None:
                scan.fail(f"{shown} has no actions here or before", place)
            return known
        place = scan.offset
        actions, probabilities = [], []
        for _ in scan.braced("the actions"):
            actions.append(scan.quotation("an action's name or }"))
            if not player:
                probabilities.append(scan.exact("a probability"))
        if not actions:
            scan.fail(f"{shown}: expected at least one action", place)
        if player == 0:
            self._check_chance(shown, probabilities, place)
        given = [action or f"_{at}" for at, action in enumerate(actions, start=1)]
        taken: set[str] = set()
        given = [fresh(action, taken) for action in given]
        if known is None:
            known = _Set(player, number, label, given, probabilities, line)
            self.sets[player, number] = known
        elif known.actions != given or known.probabilities != probabilities:
            scan.fail(
                f"{shown} has other {'actions' if known.actions != given else 'probabilities'} "
                f"than on line {known.line}",
                place,
            )
        return known

    def _check_chance(self, shown: str, probabilities: list[Fraction], place: int) -> None:
        if any(one < 0 for one in probabilities):
            self.scan.fail(f"{shown}: a probability is negative", place)
        total = sum(probabilities, Fraction(0))
        if abs(total - 1) > _TOLERANCE:
            self.scan.fail(
                f"{shown}: the probabilities sum to {float(total):.12g}, expected 1", place
            )

    def _outcome(self) -> tuple[float, ...] | None:
        scan = self.scan
        place = scan.offset
        number = scan.whole("the number of the outcome")
        if scan.kind == "text":
            scan.quotation("the outcome's name")
        known = self.outcomes.get(number)
        if scan.kind == "{":
            if number == 0:
                scan.expected("no payoffs, since outcome 0 stands for none")
            line = scan.line(scan.offset)
            payoffs = scan.payoffs(self.players)
            if known is not None and known[0] != payoffs:
                scan.fail(f"outcome {number} has other payoffs than on line {known[1]}", place)
            known = self.outcomes.setdefault(number, (payoffs, line))
        if number == 0:
            return None
        if known is None:
            scan.fail(f"outcome {number} has no payoffs here or before", place)
        return known[0]


def _name_sets(nodes: Sequence[_TreeNode], players: Sequence[str]) -> None:
    """Decisions called by their labels where these are unique, else by player and number."""
    sets = list(dict.fromkeys(node.set for node in nodes if node.set and node.set.player))
    counts = Counter(one.label for one in sets)
    taken = {label for label, count in counts.items() if label and count == 1}
    for one in sets:
        if one.label in taken:
            one.name = one.label
        else:
            one.name = fresh(f"{players[one.player - 1]}:{one.number}", taken)


def _tree_trace(
    scan: Scanner, title: str, players: Sequence[str], nodes: Sequence[_TreeNode]
) -> Trace:
    """The trace of a tree: a wire says where the play is, each information set may move it on."""
    trace = Trace(title)
    for player in players:
        # So that who is never paid is a player all the same.
        trace.pay(player, 0.0)
    names = {node.name: node for node in nodes}
    taken = {node.set.name for node in nodes if node.set}
    state = trace.const(nodes[0].name)
    _pay_at(trace, players, nodes, [0], state)
    for level, members in enumerate(_levels(scan, nodes), start=1):
        own = [nodes[at] for at in members]
        owner = own[0].set
        assert owner is not None
        inside = frozenset(node.name for node in own)
        follow = {
            (node.name, action): nodes[child]
            for node in own
            for action, child in zip(_actions(node), node.children, strict=True)
        }
        with trace.when(state, *inside):
            if owner.player == 0:
                drawn = {node.name: _distribution(node) for node in own}
                move = trace.nature(drawn.__getitem__, state, name=fresh(f"chance{level}", taken))
            else:
                move = trace.decide(players[owner.player - 1], owner.actions, name=owner.name)
            reached = trace.let(_NextNode(follow), state, move, name="node")
            _pay_at(trace, players, nodes, [c for node in own for c in node.children], reached)
            after = trace.let(_Inner(names), reached, name="node")
        stay = trace.let(_Elsewhere(inside), state, name="node")
        state = trace.merge(after, stay)
    return trace


def _actions(node: _TreeNode) -> list[str]:
    return node.set.actions if node.set is not None else []


def _distribution(node: _TreeNode) -> dict[str, float]:
    assert node.set is not None
    return dict(zip(node.set.actions, map(float, node.set.probabilities), strict=True))


@dataclass(frozen=True, eq=False)
class _NextNode:
    follow: Mapping[tuple[str, str], _TreeNode]

    def __call__(self, node: str, action: str) -> str:
        return self.follow[node, action].name


@dataclass(frozen=True, eq=False)
class _Inner:
    """Plays that have ended are one state, or none of them would ever merge."""

    names: Mapping[str, _TreeNode]

    def __call__(self, node: str) -> str:
        return node if self.names[node].set is not None else OVER


@dataclass(frozen=True, eq=False)
class _Elsewhere:
    inside: frozenset[str]

    def __call__(self, node: str) -> Any:
        return ABSENT if node in self.inside else node


def _pay_at(
    trace: Trace,
    players: Sequence[str],
    nodes: Sequence[_TreeNode],
    reached: Sequence[int],
    wire: Any,
) -> None:
    """Credit what the outcomes at the reached nodes give."""
    for number, player in enumerate(players):
        paid = {
            nodes[at].name: payoffs[number]
            for at in reached
            if (payoffs := nodes[at].payoffs) is not None and payoffs[number]
        }
        if paid:
            trace.pay(player, _Lookup(paid), wire)


@dataclass(frozen=True, eq=False)
class _Lookup:
    table: Mapping[Any, float]

    def __call__(self, key: Any) -> float:
        return self.table.get(key, 0.0)


def _levels(scan: Scanner, nodes: Sequence[_TreeNode]) -> list[list[int]]:
    """Nodes by stage: an information set each, or the chance nodes of one level.

    A level is the longest path from the root to it, so that nothing on it follows another.
    """
    # Chance nodes go by themselves: what chance does not know is nobody's concern.
    item_of: dict[int, Any] = {
        at: (node.set if node.set.player else at)
        for at, node in enumerate(nodes)
        if node.set is not None
    }
    follows: dict[Any, dict[Any, None]] = {item: {} for item in item_of.values()}
    members: dict[Any, list[int]] = {}
    for at, item in item_of.items():
        members.setdefault(item, []).append(at)
        follows[item].update({item_of[c]: None for c in nodes[at].children if c in item_of})
    before = dict.fromkeys(follows, 0)
    for after in follows.values():
        for item in after:
            before[item] += 1
    level = {item: 0 for item, count in before.items() if count == 0}
    ready = list(level)
    for item in ready:
        for after in follows[item]:
            level[after] = max(level.get(after, 0), level[item] + 1)
            before[after] -= 1
            if before[after] == 0:
                ready.append(after)
    if len(ready) < len(follows):
        _fail_on_circle(scan, {item for item, count in before.items() if count}, follows)
    stages: dict[tuple[int, Any], list[int]] = {}
    for item in sorted(ready, key=lambda item: (level[item], members[item][0])):
        group = item if isinstance(item, _Set) else None
        stages.setdefault((level[item], group), []).extend(members[item])
    return list(stages.values())


def _fail_on_circle(
    scan: Scanner, left: set[Any], follows: Mapping[Any, Mapping[Any, None]]
) -> NoReturn:
    # Backwards one never leaves what is left, so one meets something again.
    behind = {after: item for item in left for after in follows[item]}
    item, path = next(iter(left)), []
    while item not in path:
        path.append(item)
        item = behind[item]
    circle = [one for one in path[path.index(item) :] if isinstance(one, _Set)]
    first = min(circle, key=lambda one: one.line)
    if len(circle) == 1:
        message = f"information set {quoted(first.name)} comes twice on one path"
    else:
        others = sorted((one for one in circle if one is not first), key=lambda one: one.line)
        message = (
            f"information set {quoted(first.name)} comes both before and after "
            + " and ".join(quoted(one.name) for one in others)
        )
    raise InputError(
        f"{scan.path}, line {first.line}: {message}; expected an order of all information sets"
    )
