"""Where the boxes and wires of a game's diagram go: layers of boxes, frames within frames.

A wire passes each layer once, however many boxes read it; the order within a layer is chosen for
few crossings, the places for straight wires. Payoffs come back up at the right of each frame.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

from workingpapers.foundation.errors import InputError
from workingpapers.opengames.games import Game
from workingpapers.opengames.spaces import show
from workingpapers.opengames.trace import DecideNode, LetNode, NatureNode, PayNode, Trace

MAX_BOXES = 200
"""How many boxes a diagram has at most."""

LARGE = 9.0
SMALL = 8.0
"""Sizes of letters in points."""
LINE = 0.155
"""Inches from line to line in a box."""

# ---- text


@lru_cache(maxsize=4096)
def text_width(text: str, size: float, bold: bool = False) -> float:
    """Inches that a line of text takes."""
    if not text.strip():
        return 0.0
    font = FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal")
    return float(TextPath((0, 0), plain(text), size=size, prop=font).get_extents().x1) / 72


def plain(text: str) -> str:
    """A dollar sign would open matplotlib's mathematics."""
    return text.replace("$", r"\$")


def short(text: str, most: int = 24) -> str:
    """At most `most` characters of a text."""
    return text if len(text) <= most else text[: most - 3] + "..."


# ---- what a trace shows: boxes, with folds as one box


Lane = str | int
"""Who is paid along a backward wire: a player, or the number of the wire that names him."""


@dataclass(frozen=True)
class Part:
    """One box of a diagram."""

    wire: int
    kind: str
    lines: tuple[str, ...]
    inputs: tuple[int, ...]
    guards: tuple[tuple[int, frozenset[Any]], ...]
    block: tuple[str, ...]
    lanes: tuple[Lane, ...] = ()


def parts_of(game: Game, what: str) -> list[Part]:
    """The boxes of a game's trace in its order, a fold being one box.

    InputError that begins with `what` for a game without a trace or with more than MAX_BOXES.
    """
    if game.trace is None:
        raise InputError(f"{what}: {game.title} was read from a file; expected a game with a trace")
    trace = game.trace
    if not trace.nodes:
        raise InputError(f"{what}: {game.title} has nothing to draw; expected a decision or a draw")
    whole = {fold.chain[-1]: fold for fold in trace.folds}
    hidden = {wire for fold in trace.folds for wire in (*fold.operands, *fold.chain)} - set(whole)
    paid: dict[Lane, None] = {}
    for node in trace.nodes:
        if isinstance(node, PayNode):
            who = (node.players,) if isinstance(node.players, int) else node.players
            paid.update(dict.fromkeys(who))
    found: list[Part] = []
    for node in trace.nodes:
        if node.index in hidden:
            continue
        inputs = tuple(dict.fromkeys(node.parents))
        lanes: tuple[Lane, ...] = ()
        if isinstance(node, DecideNode):
            kind, lines, lanes = "decide", _decision_lines(trace, node), _earned(node, paid)
        elif isinstance(node, NatureNode):
            kind, lines = "nature", (short(node.label),)
        elif isinstance(node, PayNode):
            kind, lines = "pay", _payoff_lines(trace, node)
            lanes = (node.players,) if isinstance(node.players, int) else node.players
        else:
            assert isinstance(node, LetNode)
            kind, lines = "let", (_computed_label(node),)
            if node.index in whole:
                fold = whole[node.index]
                lines = (fold.operation,)
                parents = [trace.nodes[operand].parents[0] for operand in fold.operands]
                inputs = tuple(dict.fromkeys(parents))
        found.append(Part(node.index, kind, lines, inputs, node.guards, node.block, lanes))
    if len(found) > MAX_BOXES:
        raise InputError(
            f"{what}: {game.title} has {len(found)} boxes; expected at most {MAX_BOXES}"
        )
    return found


def _earned(node: DecideNode, paid: Mapping[Lane, None]) -> tuple[Lane, ...]:
    """The backward wires that reach a decision.

    Someone who is not paid as whom he decides, say by a role only, may be whoever is paid.
    """
    if node.player in paid:
        return (node.player,)
    if isinstance(node.player, int):
        return tuple(paid)
    return tuple(lane for lane in paid if isinstance(lane, int))


def _wire_name(label: str) -> str:
    return "f" if label in ("<lambda>", "let") else short(label)


def _decision_lines(trace: Trace, node: DecideNode) -> tuple[str, ...]:
    if isinstance(node.player, int):
        return (short(node.label), "by " + _wire_name(trace.nodes[node.player].label))
    return (node.label,) if node.label == node.player else (short(node.label), short(node.player))


def _payoff_lines(trace: Trace, node: PayNode) -> tuple[str, ...]:
    if isinstance(node.players, int):
        return ("pay " + _wire_name(trace.nodes[node.players].label),)
    if len(node.players) > 3:
        return (f"pay {len(node.players)} players",)
    return ("pay " + ", ".join(short(player, 16) for player in node.players),)


def _computed_label(node: LetNode) -> str:
    if node.label == "const" and node.function is not None and not node.parents:
        return short(show(node.function()), 18)
    return _wire_name(node.label)


# ---- layout in layers


# What moving everything to the left is worth against a straight wire.
_TIDY = 1e-3
CONDITION = "condition"
VALUE = "value"
"""Why a box reads a wire: to compute with it, or to know whether it is played."""


@dataclass(eq=False)
class Item:
    """A box or a frame around boxes; lengths in inches, offsets from its middle."""

    inputs: list[tuple[int, str]]
    """Wires that enter at the top, and whether they carry a value or decide if it is played."""
    outputs: list[int]
    lanes: dict[Lane, float] = field(default_factory=dict)
    width: float = 0.0
    height: float = 0.0
    into: dict[tuple[int, str], float] = field(default_factory=dict)
    out: dict[int, float] = field(default_factory=dict)
    left: float = 0.0
    top: float = 0.0


@dataclass(eq=False)
class Box(Item):
    """What is drawn for one node of the trace."""

    part: Part = field(kw_only=True)


@dataclass(eq=False)
class Frame(Item):
    """A sub-game, or what is played under one condition; the outermost has no title."""

    title: str = ""
    conditional: bool = False
    children: list[Item] = field(default_factory=list)
    wires: list["Wire"] = field(default_factory=list)
    joints: list[tuple[float, float]] = field(default_factory=list)
    """Where a wire is copied."""
    returns: list["Return"] = field(default_factory=list)
    title_at: float = 0.0


@dataclass(eq=False)
class Place:
    """A slot of a layer: an item, or a point through which a wire passes."""

    width: float
    layer: int
    item: Item | None = None
    fixed: int | None = None
    """Rank of what stays at the left of its layer."""
    x: float = 0.0


@dataclass(eq=False)
class Edge:
    """A wire's way from one layer to the next; offsets from the places' middles."""

    upper: Place
    lower: Place
    wire: int
    kind: str
    port: tuple[int, str] | None
    out: float = 0.0
    into: float = 0.0


@dataclass(frozen=True)
class Wire:
    """Points of one stretch of a wire: straight down, a curve, straight down."""

    points: tuple[tuple[float, float], ...]
    kind: str
    arrow: bool


@dataclass(frozen=True)
class Return:
    """One player's backward wire within a frame: its vertical line and what joins it."""

    lane: Lane
    x: float
    top: float
    bottom: float
    """Below the last joint only where the line leaves the frame."""
    joints: tuple[tuple[float, float, float, bool], ...]
    """(x and y of the box's edge, y of the horizontal line, whether it ends in a decision)."""


def _nest(parts: Sequence[Part], used_guards: int, used_blocks: int) -> list[Item]:
    """Boxes, and frames around neighbours in the same sub-game or under the same condition."""
    items: list[Item] = []
    at = 0
    while at < len(parts):
        part = parts[at]
        guard = part.guards[used_guards : used_guards + 1]
        block = part.block[used_blocks : used_blocks + 1]
        under, inside = at, at
        while (
            guard
            and under < len(parts)
            and (parts[under].guards[used_guards : used_guards + 1] == guard)
        ):
            under += 1
        while (
            block
            and inside < len(parts)
            and (parts[inside].block[used_blocks : used_blocks + 1] == block)
        ):
            inside += 1
        # A sub-game all of which is conditional was built under the condition, not around it.
        conditional = all(len(one.guards) > used_guards for one in parts[at:inside])
        if guard and (conditional or under >= inside):
            items.append(_framed(parts[at:under], used_guards + 1, used_blocks, guard[0]))
            at = under
        elif block:
            items.append(_framed(parts[at:inside], used_guards, used_blocks + 1, block[0]))
            at = inside
        else:
            outputs = [] if part.kind == "pay" else [part.wire]
            items.append(
                Box(
                    [(wire, VALUE) for wire in part.inputs],
                    outputs,
                    dict.fromkeys(part.lanes, 0.0),
                    part=part,
                )
            )
            at += 1
    return items


def _framed(parts: Sequence[Part], used_guards: int, used_blocks: int, reason: Any) -> Frame:
    children = _nest(parts, used_guards, used_blocks)
    made = {part.wire for part in parts}
    needed = dict.fromkeys(port[0] for child in children for port in child.inputs)
    inputs = [(wire, VALUE) for wire in needed if wire not in made]
    conditional = not isinstance(reason, str)
    if conditional:
        inputs.insert(0, (reason[0], CONDITION))
    frame = Frame(inputs, [], children=children, conditional=conditional)
    if conditional:
        values = sorted(show(value) for value in reason[1])
        frame.title = "if yes" if values == ["True"] else "if " + short(" or ".join(values), 30)
    else:
        frame.title = short(reason, 30)
    # Which of these leave the frame is settled by `nested`.
    frame.outputs = [wire for child in children for wire in child.outputs]
    frame.lanes = dict.fromkeys((lane for child in children for lane in child.lanes), 0.0)
    return frame


def all_boxes(items: Iterable[Item]) -> list[Box]:
    """The boxes of items and of all frames in them."""
    found: list[Box] = []
    for item in items:
        if isinstance(item, Frame):
            found += all_boxes(item.children)
        elif isinstance(item, Box):
            found.append(item)
    return found


def nested(parts: Sequence[Part]) -> Frame:
    """The outermost frame: sub-games and branches nested, with what passes their borders."""
    frame = Frame([], [], children=_nest(parts, 0, 0))
    _trim(frame, set(), _partners(parts))
    return frame


Partners = Mapping[tuple[Lane, int], set[int]]


def _partners(parts: Sequence[Part]) -> Partners:
    """For each lane of each part, the parts at the other ends: decisions' payoffs and back.

    Branches that exclude each other have nothing to do with each other's payoffs.
    """
    found: dict[tuple[Lane, int], set[int]] = {}
    for decision in parts:
        for payoff in parts:
            if (decision.kind, payoff.kind) != ("decide", "pay") or _exclusive(decision, payoff):
                continue
            for lane in decision.lanes:
                if lane in payoff.lanes:
                    found.setdefault((lane, decision.wire), set()).add(payoff.wire)
                    found.setdefault((lane, payoff.wire), set()).add(decision.wire)
    return found


def _exclusive(one: Part, other: Part) -> bool:
    conditions = dict(one.guards)
    return any(not values & conditions.get(wire, values) for wire, values in other.guards)


def _trim(frame: Frame, wanted: set[int], partners: Partners) -> None:
    """Keep of boxes the lanes that lead anywhere, of frames what something outside them shares."""
    for child in frame.children:
        if isinstance(child, Box):
            wire = child.part.wire
            child.lanes = {lane: 0.0 for lane in child.lanes if (lane, wire) in partners}
        if not isinstance(child, Frame):
            continue
        others = {
            port[0] for other in frame.children if other is not child for port in other.inputs
        }
        child.outputs = [wire for wire in child.outputs if wire in wanted | others]
        inside = [box.part.wire for box in all_boxes(child.children)]
        child.lanes = {
            lane: 0.0
            for lane in child.lanes
            if any(partners.get((lane, wire), set()) - set(inside) for wire in inside)
        }
        _trim(child, wanted | others, partners)


class Arrangement:
    """Places the children of a frame, frames within it first."""

    def __init__(self, frame: Frame, arrows: bool, size: Callable[[Box], None]) -> None:
        self.frame = frame
        self.arrows = arrows
        self.edges: list[Edge] = []
        self.layers: list[list[Place]] = []
        for child in frame.children:
            if isinstance(child, Frame):
                Arrangement(child, arrows, size)
            elif isinstance(child, Box):
                size(child)
        self._layer()
        self._order()
        self._spread_ports()
        self._abscissas()
        self._rows()

    # -- which layer

    def _layer(self) -> None:
        frame = self.frame
        first = 1 if frame.title else 0
        level: dict[int, int] = {}
        of_item: dict[Item, int] = {}
        for child in frame.children:
            of_item[child] = max(
                (level[wire] + 1 for wire, _ in child.inputs if wire in level), default=first
            )
            level.update(dict.fromkeys(child.outputs, of_item[child]))
        for child in frame.children:
            # A constant stands right above what first reads it.
            if isinstance(child, Box) and child.part.kind == "let":
                readers = [
                    of_item[other]
                    for other in frame.children
                    if any(wire in child.outputs for wire, _ in other.inputs)
                ]
                if not child.inputs and readers:
                    of_item[child] = min(readers) - 1
        last = max(of_item.values(), default=first)
        self.layers = [[] for _ in range(last + 2)]
        place_of = {item: self._add(item.width, layer, item) for item, layer in of_item.items()}
        sources: dict[int, tuple[Place, Item | None]] = {}
        for wire, kind in frame.inputs:
            if kind == CONDITION:
                self.guard = self._add(0.16, 0, None, fixed=0)
            else:
                sources[wire] = (self._add(0.06, 0, None), None)
        if frame.title:
            # Room for the title: wires enter at its right.
            self._add(text_width(frame.title, SMALL, True) + 0.1, 0, None, fixed=1)
        for item, place in place_of.items():
            sources.update((wire, (place, item)) for wire in item.outputs)
        targets: dict[int, list[tuple[Place, tuple[int, str] | None]]] = {}
        for item, place in place_of.items():
            for port in item.inputs:
                targets.setdefault(port[0], []).append((place, port))
        self.exits: dict[int, Place] = {}
        for wire in frame.outputs:
            self.exits[wire] = self._add(0.06, last + 1, None)
            targets.setdefault(wire, []).append((self.exits[wire], None))
        self.entries = {wire: place for wire, (place, item) in sources.items() if item is None}
        for wire, ends in targets.items():
            self._chain(wire, sources[wire][0], ends)

    def _add(self, width: float, layer: int, item: Item | None, fixed: int | None = None) -> Place:
        place = Place(width, layer, item, fixed)
        self.layers[layer].append(place)
        return place

    def _chain(
        self, wire: int, source: Place, ends: Sequence[tuple[Place, tuple[int, str] | None]]
    ) -> None:
        """One line a wire, however many read it: it passes every layer once."""
        stations = [source]
        for layer in range(source.layer + 1, max(end.layer for end, _ in ends)):
            later = [port for end, port in ends if end.layer > layer]
            kind = VALUE if any(port is None or port[1] == VALUE for port in later) else CONDITION
            stations.append(self._add(0.06, layer, None))
            self.edges.append(Edge(stations[-2], stations[-1], wire, kind, None))
        for end, port in ends:
            kind = VALUE if port is None else port[1]
            self.edges.append(Edge(stations[end.layer - 1 - source.layer], end, wire, kind, port))

    # -- which order within a layer

    def _order(self) -> None:
        for layer in self.layers:
            layer.sort(key=_rank)
            _pack(layer)
        self._offsets()
        best = self._crossings()
        kept = [list(layer) for layer in self.layers]
        upper_edges, lower_edges = self._by_place()
        for sweep in range(16):
            downwards = sweep % 2 == 0
            for layer in self.layers if downwards else self.layers[::-1]:
                # Where a place would like to be; those without neighbours stay put.
                wish = {
                    place: _wish(place, upper_edges if downwards else lower_edges, downwards)
                    for place in layer
                }
                layer.sort(key=lambda place: (_rank(place), wish[place]))
                _pack(layer)
            self._exchange()
            crossings = self._crossings()
            if crossings < best:
                best, kept = crossings, [list(layer) for layer in self.layers]
        self.layers = kept
        for layer in self.layers:
            _pack(layer)

    def _exchange(self) -> None:
        """Swap neighbours while that removes crossings."""
        for number, layer in enumerate(self.layers):
            near = [edge for edge in self.edges if number in (edge.upper.layer, edge.lower.layer)]
            before = _count_crossings(near)
            for at in range(len(layer) - 1):
                if _rank(layer[at]) != _rank(layer[at + 1]) or not before:
                    continue
                layer[at], layer[at + 1] = layer[at + 1], layer[at]
                _pack(layer)
                after = _count_crossings(near)
                if after < before:
                    before = after
                else:
                    layer[at], layer[at + 1] = layer[at + 1], layer[at]
                    _pack(layer)

    def _crossings(self) -> int:
        return _count_crossings(self.edges)

    def _by_place(self) -> tuple[dict[Place, list[Edge]], dict[Place, list[Edge]]]:
        above: dict[Place, list[Edge]] = {}
        below: dict[Place, list[Edge]] = {}
        for edge in self.edges:
            above.setdefault(edge.lower, []).append(edge)
            below.setdefault(edge.upper, []).append(edge)
        return above, below

    def _offsets(self) -> None:
        for edge in self.edges:
            item = edge.upper.item
            edge.out = item.out.get(edge.wire, 0.0) if item is not None else 0.0
            item = edge.lower.item
            edge.into = item.into.get(edge.port, 0.0) if item is not None and edge.port else 0.0

    def _spread_ports(self) -> None:
        """Inputs of a box in the order in which their wires arrive."""
        above, _ = self._by_place()
        for place, edges in above.items():
            if not isinstance(place.item, Box):
                continue
            edges.sort(key=lambda edge: edge.upper.x + edge.out)
            for number, edge in enumerate(edges):
                share = (number + 1) / (len(edges) + 1) - 0.5
                if edge.port is not None:
                    place.item.into[edge.port] = share * place.item.width * 0.8
        self._offsets()

    # -- where within the page

    def _abscissas(self) -> None:
        """Least total sideways way of all wires, long ones weighing more, by linear programming."""
        from scipy.optimize import linprog
        from scipy.sparse import coo_array

        places = [place for layer in self.layers for place in layer]
        number = {place: at for at, place in enumerate(places)}
        many = len(places)
        # Variables: the middle of every place, then every wire's way to the side.
        costs = np.zeros(many + len(self.edges))
        costs[:many] = _TIDY
        entries: list[tuple[int, int, float]] = []
        limits: list[float] = []
        for layer in self.layers:
            for one, other in pairwise(layer):
                distance = (one.width + other.width) / 2 + _gap(one, other)
                entries += [(len(limits), number[one], 1.0), (len(limits), number[other], -1.0)]
                limits.append(-distance)
        for at, edge in enumerate(self.edges, start=many):
            passing = (edge.upper.item is None) + (edge.lower.item is None)
            costs[at] = 4.0**passing
            for sign in (1.0, -1.0):
                row = len(limits)
                entries += [
                    (row, number[edge.upper], sign),
                    (row, number[edge.lower], -sign),
                    (row, at, -1.0),
                ]
                limits.append(sign * (edge.into - edge.out))
        lowest = [place.width / 2 for place in places] + [0.0] * len(self.edges)
        rows, columns, values = zip(*entries, strict=True) if entries else ((), (), ())
        shape = (len(limits), len(costs))
        found = linprog(
            costs,
            A_ub=coo_array((values, (rows, columns)), shape=shape) if entries else None,
            b_ub=limits or None,
            bounds=[(low, None) for low in lowest],
            method="highs-ds",
        )
        for place, x in zip(places, found.x, strict=False):
            place.x = round(float(x), 6)

    def _rows(self) -> None:
        frame = self.frame
        titled = bool(frame.title)
        margin = 0.14 if titled else 0.0
        left = min((place.x - place.width / 2 for layer in self.layers for place in layer),
                   default=0.0)  # fmt: skip
        right = max((place.x + place.width / 2 for layer in self.layers for place in layer),
                    default=0.0) - left + margin  # fmt: skip
        for layer in self.layers:
            for place in layer:
                place.x += margin - left
        tops, bottoms, tracks = [], [], []
        y = 0.0
        for number, layer in enumerate(self.layers):
            if number == len(self.layers) - 1:
                tops.append(y)
                bottoms.append(y)
                break
            height = max((place.item.height for place in layer if place.item), default=0.0)
            if titled and number == 0:
                height = 0.24
            tops.append(y)
            bottoms.append(y + height)
            lines = self._tracks(layer)
            tracks.append({lane: y + height + 0.1 + 0.1 * at for at, lane in enumerate(lines)})
            ways = [
                abs(edge.upper.x + edge.out - edge.lower.x - edge.into)
                for edge in self.edges
                if edge.upper.layer == number
            ]
            below = bool(ways)
            # Wires that go far to the side need height, or they run together.
            y += height + (0.27 + 0.06 * min(max(ways), 6.0) if ways else 0.1) + 0.1 * len(lines)
            if titled and number == 0 and not below:
                y -= 0.06
        frame.height = tops[-1] + (0.06 if titled else 0.0)
        for number, layer in enumerate(self.layers):
            for place in layer:
                if place.item is not None:
                    middle = (tops[number] + bottoms[number]) / 2
                    place.item.left = place.x - place.item.width / 2
                    place.item.top = middle - place.item.height / 2
        frame.returns, lanes_right = self._lanes(right, tracks)
        frame.width = lanes_right + (margin if titled else 0.0)
        self._draw_wires(tops, bottoms)
        middle = frame.width / 2
        for wire, place in self.entries.items():
            frame.into[(wire, VALUE)] = place.x - middle
        if frame.conditional:
            frame.into[frame.inputs[0]] = self.guard.x - middle
        for wire, place in self.exits.items():
            frame.out[wire] = place.x - middle
        for back in frame.returns:
            if back.lane in frame.lanes:
                frame.lanes[back.lane] = back.x - middle
        if titled:
            frame.title_at = self.guard.x + 0.12 if frame.conditional else margin

    def _tracks(self, layer: Sequence[Place]) -> list[Lane]:
        """Backward wires that leave the boxes of a layer: the rightmost turns first."""
        leftmost: dict[Lane, float] = {}
        for place in layer:
            if place.item is not None:
                for lane, offset in place.item.lanes.items():
                    leftmost[lane] = min(leftmost.get(lane, math.inf), place.x + offset)
        return sorted(leftmost, key=lambda lane: -leftmost[lane])

    def _lanes(
        self, right: float, tracks: Sequence[Mapping[Lane, float]]
    ) -> tuple[list[Return], float]:
        joints: dict[Lane, list[tuple[float, float, float, bool]]] = {}
        for layer, heights in zip(self.layers, tracks, strict=False):
            for place in layer:
                item = place.item
                if item is None:
                    continue
                for lane, offset in item.lanes.items():
                    decides = isinstance(item, Box) and item.part.kind == "decide"
                    bottom = item.top + item.height
                    joints.setdefault(lane, []).append(
                        (place.x + offset, bottom, heights[lane], decides)
                    )
        spans: dict[Lane, tuple[float, float]] = {}
        for lane, ends in joints.items():
            levels = [end[2] for end in ends]
            leaves = lane in self.frame.lanes
            spans[lane] = (min(levels), self.frame.height if leaves else max(levels))
        columns: list[list[tuple[float, float]]] = []
        found: list[Return] = []
        # Short lines inside; rounded, so that equal lengths compare equal.
        for lane in sorted(spans, key=lambda one: (round(spans[one][1] - spans[one][0], 3),
                                                   spans[one])):  # fmt: skip
            top, bottom = spans[lane]
            if top == bottom:
                # One horizontal line joins all there is.
                end = max(joint[0] for joint in joints[lane])
                found.append(Return(lane, end, top, bottom, tuple(joints[lane])))
                continue
            column = 0
            while column < len(columns) and any(
                top < other[1] + 0.08 and other[0] < bottom + 0.08 for other in columns[column]
            ):
                column += 1
            columns[column:] = columns[column:] or [[]]
            columns[column].append((top, bottom))
            x = right + 0.12 + 0.12 * column
            found.append(Return(lane, x, top, bottom, tuple(joints[lane])))
        return found, right + (0.06 + 0.12 * len(columns) if columns else 0.0)

    def _draw_wires(self, tops: Sequence[float], bottoms: Sequence[float]) -> None:
        leaving: dict[tuple[Place, int], int] = {}
        for edge in self.edges:
            key = (edge.upper, edge.wire)
            leaving[key] = leaving.get(key, 0) + 1
        joined: set[tuple[Place, int]] = set()
        for edge in self.edges:
            upper, lower = edge.upper, edge.lower
            x, end = upper.x + edge.out, lower.x + edge.into
            item = upper.item
            start = tops[upper.layer] if item is None else item.top + item.height
            turn = bottoms[upper.layer]
            if leaving[(upper, edge.wire)] > 1:
                turn += 0.06
                if (upper, edge.wire) not in joined:
                    joined.add((upper, edge.wire))
                    self.frame.joints.append((x, turn))
            stop = tops[lower.layer]
            if lower.item is not None:
                stop = lower.item.top + (_recess(lower.item, edge.into) if self.arrows else 0.0)
            if lower in self.exits.values():
                stop = self.frame.height
            points = ((x, start), (x, turn), (end, tops[lower.layer]), (end, stop))
            self.frame.wires.append(Wire(points, edge.kind, self.arrows and lower.item is not None))
        if self.frame.conditional:
            at = self.guard.x
            self.frame.wires.append(Wire(((at, 0.0), (at, 0.0), (at, 0.12), (at, 0.12)),
                                          CONDITION, True))  # fmt: skip


def _recess(item: Item, offset: float) -> float:
    """How far below its top a diamond or an ellipse begins, `offset` from its middle."""
    share = abs(2 * offset / item.width)
    kind = item.part.kind if isinstance(item, Box) else ""
    if kind == "pay":
        return share * item.height / 2
    return (1 - math.sqrt(1 - share**2)) * item.height / 2 if kind == "nature" else 0.0


def _rank(place: Place) -> int:
    return 2 if place.fixed is None else place.fixed


def _gap(one: Place, other: Place) -> float:
    return 0.2 if one.item is not None or other.item is not None else 0.14


def _pack(layer: Sequence[Place]) -> None:
    at = 0.0
    for number, place in enumerate(layer):
        if number:
            at += _gap(layer[number - 1], place)
        place.x = at + place.width / 2
        at += place.width
    for place in layer:
        place.x -= at / 2


def _wish(place: Place, edges: Mapping[Place, list[Edge]], downwards: bool) -> float:
    near = edges.get(place, [])
    if not near:
        return place.x
    if downwards:
        return sum(edge.upper.x + edge.out - edge.into for edge in near) / len(near)
    return sum(edge.lower.x + edge.into - edge.out for edge in near) / len(near)


def _count_crossings(edges: Sequence[Edge]) -> int:
    by_layer: dict[int, list[tuple[float, float]]] = {}
    for edge in edges:
        pair = (edge.upper.x + edge.out, edge.lower.x + edge.into)
        by_layer.setdefault(edge.upper.layer, []).append(pair)
    total = 0
    for pairs in by_layer.values():
        ends = np.array(pairs)
        signs = np.sign(ends[:, None, :] - ends[None, :, :])
        total += int((signs[:, :, 0] * signs[:, :, 1] < 0).sum()) // 2
    return total
