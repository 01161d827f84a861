"""Pictures of games and of what was found out about them; all are Figures for `plots.save`.

`diagram` and `influence` show a game's trace, laid out in layers: wires run downwards, payoffs come
back up. `tree` unrolls a small game. The others are charts of sweeps, reports and timings.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Ellipse, FancyBboxPatch, Patch, PathPatch, Polygon
from matplotlib.path import Path
from matplotlib.ticker import FuncFormatter, MaxNLocator

from workingpapers.foundation.errors import InputError
from workingpapers.foundation.plots import (
    BLUE,
    GREY,
    INK,
    PALETTE,
    RULE,
    SKY_BLUE,
    VERMILION,
    figure,
)
from workingpapers.opengames.compile import Frontier, StateSpaceTooLarge, compile_trace
from workingpapers.opengames.equilibrium import Report
from workingpapers.opengames.games import Game
from workingpapers.opengames.layout import (
    CONDITION,
    LARGE,
    LINE,
    MAX_BOXES,
    SMALL,
    VALUE,
    Arrangement,
    Box,
    Frame,
    Item,
    Lane,
    Part,
    Return,
    Wire,
    all_boxes,
    nested,
    parts_of,
    plain,
    short,
    text_width,
)
from workingpapers.opengames.spaces import show

__all__ = [
    "MAX_BOXES",
    "bars",
    "diagram",
    "heatmap",
    "influence",
    "lines",
    "payoffs",
    "phase",
    "scaling",
    "tree",
]

_PALE = "#F4F2ED"
_LINE_STYLES: Any = ("-", "--", "-.", ":")
_MARKERS = "osD^vPX"


def _page(width: float, height: float, title: str, subtitle: str) -> tuple[Figure, Axes]:
    """A figure whose axes measure inches from its upper left corner."""
    drawing = figure(width, height)
    axes = drawing.add_subplot()
    axes.set_position((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.text(0.2, 0.24, plain(title), fontsize=11.5, weight="bold", va="center")
    axes.text(0.2, 0.46, plain(subtitle), fontsize=SMALL, color=GREY, va="center")
    return drawing, axes


_HEAD = 0.66


def _page_width(width: float, title: str, subtitle: str) -> float:
    wanted = max(text_width(title, 11.5, True), text_width(subtitle, SMALL))
    return max(width, wanted + 0.4)


# ---- the string diagram


def diagram(game: Game) -> Figure:
    """The string diagram of a game: wires run down from box to box, utilities bend back up.

    A dot copies a wire. Each player's payoffs leave their boxes on lines of his colour, which end
    in arrows at his decisions. Sub-games (`block`, `inline`) are frames, branches (`when`) dashed
    frames. InputError for a game without a trace or with more than MAX_BOXES boxes.
    """
    parts = parts_of(game, "draw.diagram")
    colors = _lane_colors(parts)
    frame = nested(parts)
    Arrangement(frame, False, _size_box)
    title = f"{game.title}: string diagram"
    subtitle = "Wires run down, dots copy them; coloured lines bring payoffs back to decisions."
    width = max(_page_width(frame.width + 0.5, title, subtitle), _KEY_WIDTH + 0.4)
    drawing, axes = _page(width, _HEAD + frame.height + 0.62, title, subtitle)
    left = (width - frame.width) / 2
    _draw_frame(axes, frame, left, _HEAD + 0.1, colors, 0)
    kinds = {part.kind for part in parts}
    _draw_key(axes, _HEAD + frame.height + 0.36, kinds, influence=False)
    return drawing


def _lane_colors(parts: Sequence[Part]) -> dict[Lane, str]:
    lanes = dict.fromkeys(lane for part in parts for lane in part.lanes)
    return {lane: PALETTE[number % len(PALETTE)] for number, lane in enumerate(lanes)}


def _size_box(box: Box) -> None:
    part = box.part
    bold = part.kind == "decide"
    widths = [text_width(part.lines[0], LARGE, bold)]
    widths += [text_width(line, SMALL) for line in part.lines[1:]]
    ports = max(len(part.inputs), len(box.lanes) + 1)
    padding = 0.34 if part.kind == "nature" else 0.2
    box.width = max(max(widths) + padding, 0.12 * (ports + 1), 0.34)
    box.height = 0.13 + LINE * len(part.lines)
    slots = [*box.outputs, *box.lanes]
    for number, slot in enumerate(slots):
        offset = ((number + 1) / (len(slots) + 1) - 0.5) * box.width * (1.2 if bold else 0.9)
        if number < len(box.outputs):
            box.out[box.outputs[number]] = offset
        else:
            box.lanes[slot] = offset


def _draw_frame(
    axes: Axes, frame: Frame, left: float, top: float, colors: Mapping[Lane, str], depth: int
) -> None:
    base = 4 * depth
    if frame.title:
        axes.add_patch(
            FancyBboxPatch(
                (left, top),
                frame.width,
                frame.height,
                boxstyle="round,pad=0,rounding_size=0.07",
                facecolor=_PALE if depth % 2 else "white",
                edgecolor=GREY,
                linewidth=0.9,
                linestyle=(0, (4, 2.5)) if frame.conditional else "-",
                zorder=base,
                gid=f"frame-{depth}-{all_boxes(frame.children)[0].part.wire}",
            )
        )
        axes.text(
            left + frame.title_at,
            top + 0.14,
            plain(frame.title),
            fontsize=SMALL,
            weight="bold",
            color=GREY,
            va="center",
            zorder=base + 3,
        )
    for back in frame.returns:
        _draw_return(axes, back, left, top, colors[back.lane], base + 1)
    for wire in frame.wires:
        _draw_wire(axes, wire, left, top, base + 2)
    for x, y in frame.joints:
        axes.add_patch(Circle((left + x, top + y), 0.028, color=INK, zorder=base + 2.5))
    for child in frame.children:
        if isinstance(child, Frame):
            _draw_frame(axes, child, left + child.left, top + child.top, colors, depth + 1)
        elif isinstance(child, Box):
            _draw_box(axes, child, left + child.left, top + child.top, colors, base + 3)


def _draw_wire(axes: Axes, wire: Wire, left: float, top: float, zorder: float) -> None:
    (x, start), (_, turn), (end, arrive), (_, stop) = ((left + x, top + y) for x, y in wire.points)
    bend = (turn + arrive) / 2
    path = Path(
        [(x, start), (x, turn), (x, bend), (end, bend), (end, arrive), (end, stop)],
        [Path.MOVETO, Path.LINETO, Path.CURVE4, Path.CURVE4, Path.CURVE4, Path.LINETO],
    )
    guard = wire.kind == CONDITION
    style: Any = (0, (3, 2)) if guard else "-"
    color = GREY if guard else INK
    axes.add_patch(
        PathPatch(path, facecolor="none", edgecolor="white", linewidth=2.8, zorder=zorder)
    )
    axes.add_patch(
        PathPatch(
            path, facecolor="none", edgecolor=color, linewidth=1.1, linestyle=style,
            zorder=zorder + 0.1,
        )
    )  # fmt: skip
    if wire.arrow:
        _arrowhead(axes, end, stop, 0.07, color, zorder + 0.6)


def _arrowhead(axes: Axes, x: float, y: float, length: float, color: str, zorder: float) -> None:
    """A triangle with its point at (x, y), down the page for a positive length."""
    corners = [(x, y), (x - 0.035, y - length), (x + 0.035, y - length)]
    axes.add_patch(Polygon(corners, closed=True, facecolor=color, edgecolor="none", zorder=zorder))


def _draw_return(
    axes: Axes, back: Return, left: float, top: float, color: str, zorder: float
) -> None:
    lane = left + back.x
    joints = sorted(back.joints, key=lambda joint: joint[2])
    lower = back.bottom
    paths = []
    if lower > joints[0][2]:
        paths.append([(lane, top + joints[0][2]), (lane, top + lower)])
    for x, edge, height, _ in joints:
        corner = (left + x, top + height)
        beside = [] if left + x == lane else [(lane, top + height)]
        paths.append([(left + x, top + edge), corner, *beside])
    for points in paths:
        rounded = _rounded(points, 0.05)
        axes.add_patch(
            PathPatch(
                rounded,
                facecolor="none",
                edgecolor=color,
                linewidth=1.4,
                capstyle="round",
                zorder=zorder,
            )
        )
    for x, edge, _, decides in joints:
        if decides:
            _arrowhead(axes, left + x, top + edge, -0.08, color, zorder + 0.5)


def _rounded(points: Sequence[tuple[float, float]], radius: float) -> Path:
    """A line down and then right, its corner rounded."""
    if len(points) < 3:
        return Path(list(points))
    (x, start), (_, corner), (end, _) = points
    turned = radius if end >= x else -radius
    return Path(
        [(x, start), (x, corner - radius), (x, corner), (x + turned, corner), (end, corner)],
        [Path.MOVETO, Path.LINETO, Path.CURVE3, Path.CURVE3, Path.LINETO],
    )


def _draw_box(
    axes: Axes, box: Box, left: float, top: float, colors: Mapping[Lane, str], zorder: float
) -> None:
    part = box.part
    own = colors[part.lanes[0]] if len(part.lanes) == 1 else INK
    name = f"{part.kind}-{part.wire}" if part.wire >= 0 else None
    face, edge, width, corner = {
        "decide": ("white", own, 1.8, 0.02),
        "nature": ("#E3F1FB", SKY_BLUE, 1.2, box.height / 2),
        "let": (_PALE, RULE, 1.0, 0.05),
        "pay": ("#FDF3E7", own, 0.9, 0.05),
    }[part.kind]
    axes.add_patch(
        FancyBboxPatch(
            (left, top),
            box.width,
            box.height,
            boxstyle=f"round,pad=0,rounding_size={corner}",
            facecolor=face,
            edgecolor=edge,
            linewidth=width,
            zorder=zorder,
            gid=name,
        )
    )
    _draw_lines(axes, box, left + box.width / 2, top + box.height / 2, zorder)


def _draw_lines(axes: Axes, box: Box, x: float, middle: float, zorder: float) -> None:
    part = box.part
    for number, line in enumerate(part.lines):
        axes.text(
            x,
            middle + (number - (len(part.lines) - 1) / 2) * LINE,
            plain(line),
            fontsize=SMALL if number else LARGE,
            weight="bold" if part.kind == "decide" and not number else "normal",
            color=GREY if number else INK,
            ha="center",
            va="center",
            zorder=zorder + 0.5,
        )


_KINDS = {"decide": "decision", "nature": "nature", "let": "computed", "pay": "payoff"}
_KEY_STEP = 1.05
_KEY_WIDTH = 4.2


def _draw_key(axes: Axes, y: float, kinds: set[str], *, influence: bool) -> None:
    shown = [kind for kind in _KINDS if kind in kinds]
    for number, kind in enumerate(shown):
        part = Part(-1, kind, ("",), (), (), ())
        box = Box([], [], part=part, width=0.22, height=0.13)
        left = 0.2 + _KEY_STEP * number
        if influence:
            _draw_symbol(axes, box, left, y - 0.065, {}, 3)
        else:
            _draw_box(axes, box, left, y - 0.065, {}, 3)
        axes.text(left + 0.3, y, _KINDS[kind], fontsize=SMALL, color=GREY, va="center")


# ---- the influence diagram


def influence(game: Game) -> Figure:
    """The influence diagram of a game: what every decision sees and every payoff depends on.

    Decisions are squares, nature's draws round, payoffs diamonds, what is computed small. Dashed
    arrows are information (into decisions) and conditions of branches. InputError as `diagram`.
    """
    parts = parts_of(game, "draw.influence")
    children: list[Item] = []
    for part in parts:
        ports = [(wire, CONDITION if part.kind == "decide" else VALUE) for wire in part.inputs]
        guards = dict.fromkeys(wire for wire, _ in part.guards)
        ports += [(wire, CONDITION) for wire in guards if wire not in part.inputs]
        children.append(Box(ports, [] if part.kind == "pay" else [part.wire], part=part))
    frame = Frame([], [], children=children)
    Arrangement(frame, True, _size_symbol)
    title = f"{game.title}: influence diagram"
    subtitle = "Arrows: what depends on what; dashed: what a decision sees, or when it is played."
    width = max(_page_width(frame.width + 0.5, title, subtitle), _KEY_WIDTH + 0.4)
    drawing, axes = _page(width, _HEAD + frame.height + 0.62, title, subtitle)
    left, top = (width - frame.width) / 2, _HEAD + 0.1
    colors = _lane_colors(parts)
    for wire in frame.wires:
        _draw_wire(axes, wire, left, top, 2)
    for x, y in frame.joints:
        axes.add_patch(Circle((left + x, top + y), 0.028, color=INK, zorder=2.5))
    for box in all_boxes(children):
        _draw_symbol(axes, box, left + box.left, top + box.top, colors, 3)
    _draw_key(axes, top + frame.height + 0.26, {part.kind for part in parts}, influence=True)
    return drawing


def _size_symbol(box: Box) -> None:
    _size_box(box)
    if box.part.kind == "pay":
        # The text has to fit between the slanted sides.
        box.width = box.width * 1.35 + 0.12
        box.height = 0.46
    elif box.part.kind == "nature":
        box.width = box.width * 1.15
        box.height += 0.1
    box.out = dict.fromkeys(box.outputs, 0.0)


def _draw_symbol(
    axes: Axes, box: Box, left: float, top: float, colors: Mapping[Lane, str], zorder: float
) -> None:
    part = box.part
    if part.kind in ("decide", "let"):
        _draw_box(axes, box, left, top, colors, zorder)
        return
    x, y = left + box.width / 2, top + box.height / 2
    name = f"{part.kind}-{part.wire}" if part.wire >= 0 else None
    own = colors[part.lanes[0]] if len(part.lanes) == 1 else INK
    if part.kind == "nature":
        axes.add_patch(
            Ellipse((x, y), box.width, box.height, facecolor="#E3F1FB", edgecolor=SKY_BLUE,
                    linewidth=1.2, zorder=zorder, gid=name)
        )  # fmt: skip
    else:
        corners = [(left, y), (x, top), (left + box.width, y), (x, top + box.height)]
        axes.add_patch(
            Polygon(corners, closed=True, facecolor="#FDF3E7", edgecolor=own, linewidth=1.1,
                    zorder=zorder, gid=name)
        )  # fmt: skip
    _draw_lines(axes, box, x, y, zorder)


# ---- the tree


@dataclass(eq=False)
class _Vertex:
    """A node of the game tree; a leaf has payoffs instead of branches."""

    stage: int
    group: int
    branches: list[tuple[str, "_Vertex"]] = field(default_factory=list)
    payoffs: tuple[float, ...] = ()
    y: float = 0.0


class _Unrolling:
    """The tree of a compiled game, grown from the root and stopped above `most` nodes."""

    def __init__(self, game: Game, most: int) -> None:
        self.game = game
        self.most = most
        self.frontier = self._compiled()
        self.vertices: list[_Vertex] = []
        self.root = self._grow(0, 0, np.zeros(len(self.frontier.columns)))

    def _compiled(self) -> Frontier:
        """The game's frontier, but given up as soon as its tree is surely too large."""
        trace = self.game.trace
        if trace is None:
            return self.game.frontier
        try:
            # No stage has more transitions than the tree has nodes.
            return compile_trace(trace, max_transitions=self.most * (len(trace.nodes) + 1))
        except StateSpaceTooLarge:
            raise self._too_large() from None

    def _too_large(self) -> InputError:
        return InputError(
            f"draw.tree: the tree of {self.game.title} has more than {self.most} nodes; "
            "draw.diagram shows larger games"
        )

    def _grow(self, number: int, state: int, totals: Float[np.ndarray, " columns"]) -> _Vertex:
        frontier = self.frontier
        while number < len(frontier.stages):
            stage = frontier.stages[number]
            begin, end = int(stage.start[state]), int(stage.start[state + 1])
            # The first stage only computes, and a branch that is not played has one way on.
            if stage.outcome[begin] != 0:
                break
            totals = self._paid(number, begin, totals)
            number, state = number + 1, int(stage.next[begin])
        vertex = _Vertex(number, -1)
        self.vertices.append(vertex)
        if len(self.vertices) > self.most:
            raise self._too_large()
        if number == len(frontier.stages):
            vertex.payoffs = tuple(
                math.fsum(
                    total
                    for total, who in zip(totals, frontier.columns, strict=True)
                    if player in who
                )
                for player in frontier.players
            )
            return vertex
        vertex.group = int(stage.group[state])
        for at in range(begin, end):
            label = show(frontier.values[stage.outcome[at]])
            if stage.decision < 0:
                label += f" ({stage.probability[at]:.3g})"
            child = self._grow(number + 1, int(stage.next[at]), self._paid(number, at, totals))
            vertex.branches.append((short(label, 28), child))
        return vertex

    def _paid(
        self, number: int, at: int, totals: Float[np.ndarray, " columns"]
    ) -> Float[np.ndarray, " columns"]:
        after = totals.copy()
        for entry in self.frontier.stages[number].pays:
            after[entry.column] += self.frontier.table[entry.rows[at], 0]
        return after

    def player(self, vertex: _Vertex) -> str:
        """Who moves: a player, or nobody for nature."""
        number = self.frontier.stages[vertex.stage].decision
        if number < 0:
            return ""
        decision = self.frontier.decisions[number]
        return decision.group_players[vertex.group - decision.first_group]


def tree(game: Game, max_nodes: int = 200) -> Figure:
    """The game tree, from left to right; nodes of one information set are joined by dashed lines.

    Payoffs stand at the leaves, a column a player; nature's branches carry their probabilities.
    InputError where the tree has more than `max_nodes` nodes, leaves included.
    """
    unrolled = _Unrolling(game, max_nodes)
    inner = [vertex for vertex in unrolled.vertices if not vertex.payoffs and vertex.branches]
    leaves = [vertex for vertex in unrolled.vertices if not vertex.branches]
    players = unrolled.frontier.players
    colors = {player: PALETTE[at % len(PALETTE)] for at, player in enumerate(players)}
    levels = _levels(inner)
    boxes = {vertex: short(unrolled.player(vertex) or "nature", 20) for vertex in inner}

    pitch = 0.34 if len(leaves) <= 24 else 0.25
    headline = _HEAD + 0.18
    for number, leaf in enumerate(leaves):
        leaf.y = headline + 0.24 + pitch * number
    # Children come after their parents in the list.
    for vertex in reversed(inner):
        vertex.y = (vertex.branches[0][1].y + vertex.branches[-1][1].y) / 2

    sets = _information_sets(inner)
    by_level: dict[int, list[_Vertex]] = {}
    for vertex in inner:
        by_level.setdefault(levels[vertex.stage], []).append(vertex)
    bows = {level: _bows(found, sets) for level, found in by_level.items()}
    lefts, widths, fans = {}, {}, {}
    x = 0.25
    for level in sorted(by_level):
        found = by_level[level]
        lefts[level] = x
        widths[level] = max(text_width(boxes[vertex], SMALL, True) for vertex in found) + 0.18
        fans[level] = 0.34 + 0.1 * max(bows[level].values(), default=0)
        labels = [text_width(label, SMALL) for vertex in found for label, _ in vertex.branches]
        x += widths[level] + fans[level] + max(labels) + 0.18
    payoff_texts = [[f"{value:.4g}" for value in leaf.payoffs] for leaf in leaves]
    leaf_x, columns = x, []
    for number, player in enumerate(players):
        wanted = [text_width(row[number], LARGE) for row in payoff_texts]
        width = max([*wanted, text_width(short(player, 20), SMALL, True)]) + 0.2
        columns.append(x + 0.08 + width / 2)
        x += width
    title = f"{game.title}: game tree"
    subtitle = "Dashed lines join nodes that the player cannot tell apart; payoffs at the right."
    height = headline + 0.24 + pitch * len(leaves) + 0.1
    drawing, axes = _page(_page_width(x + 0.3, title, subtitle), height, title, subtitle)

    for number, vertex in enumerate(inner):
        level = levels[vertex.stage]
        start = lefts[level] + widths[level]
        for label, child in vertex.branches:
            turn = start + fans[level]
            stop = leaf_x if not child.branches else lefts[levels[child.stage]]
            after = turn + text_width(label, SMALL) + 0.1
            axes.plot([start, turn, after], [vertex.y, child.y, child.y], color=INK,
                      linewidth=1.0, zorder=2)  # fmt: skip
            if stop > after:
                axes.plot([after, stop], [child.y, child.y], linewidth=0.9, zorder=1,
                          color=INK if child.branches else RULE)  # fmt: skip
            axes.text(turn + 0.05, child.y - 0.02, plain(label), fontsize=SMALL, va="bottom")
        _draw_vertex(axes, vertex, number, boxes[vertex], lefts[level], widths[level],
                     colors.get(unrolled.player(vertex)))  # fmt: skip
    for group, members in sets.items():
        level = levels[members[0].stage]
        column = sorted(by_level[level], key=lambda vertex: vertex.y)
        color = colors[unrolled.player(members[0])]
        right = lefts[level] + widths[level]
        for number, (one, other) in enumerate(pairwise(members)):
            near = column.index(other) == column.index(one) + 1
            bow = 0 if near else bows[level][group]
            look = {"edgecolor": color, "gid": f"set-{group}-{number}"}
            _join(axes, (one.y, other.y), right, bow, widths[level], look)
    for at, player in zip(columns, players, strict=True):
        axes.text(at, headline, plain(short(player, 20)), fontsize=SMALL, weight="bold",
                  color=colors[player], ha="center", va="center")  # fmt: skip
    for number, (leaf, row) in enumerate(zip(leaves, payoff_texts, strict=True)):
        for at, text, player in zip(columns, row, players, strict=True):
            axes.text(at, leaf.y, text, fontsize=LARGE, ha="center", va="center",
                      gid=f"leaf-{number}-{player}")  # fmt: skip
    return drawing


def _levels(inner: Sequence[_Vertex]) -> dict[int, int]:
    """The column of every stage: behind every stage that leads to it."""
    before: dict[int, set[int]] = {}
    for vertex in inner:
        before.setdefault(vertex.stage, set())
        for _, child in vertex.branches:
            if child.branches:
                before.setdefault(child.stage, set()).add(vertex.stage)
    levels: dict[int, int] = {}
    for stage in sorted(before):
        levels[stage] = 1 + max((levels[earlier] for earlier in before[stage]), default=-1)
    return levels


def _information_sets(inner: Sequence[_Vertex]) -> dict[int, list[_Vertex]]:
    """The report groups that have several nodes, from top to bottom."""
    found: dict[int, list[_Vertex]] = {}
    for vertex in sorted(inner, key=lambda one: one.y):
        if vertex.group >= 0:
            found.setdefault(vertex.group, []).append(vertex)
    return {group: members for group, members in found.items() if len(members) > 1}


def _bows(found: Sequence[_Vertex], sets: Mapping[int, Sequence[_Vertex]]) -> dict[int, int]:
    """For each information set of a column how far its lines swing out; 0 where nothing is between.

    Sets whose lines would lie on one another swing out by different amounts.
    """
    column = sorted(found, key=lambda one: one.y)
    bows: dict[int, int] = {}
    for group in dict.fromkeys(vertex.group for vertex in column if vertex.group in sets):
        places = [at for at, vertex in enumerate(column) if vertex.group == group]
        apart = any(after - before > 1 for before, after in pairwise(places))
        bows[group] = max(bows.values(), default=0) + 1 if apart else 0
    return bows


def _draw_vertex(
    axes: Axes,
    vertex: _Vertex,
    number: int,
    text: str,
    left: float,
    width: float,
    color: str | None,
) -> None:
    round_ends = color is None
    axes.add_patch(
        FancyBboxPatch(
            (left, vertex.y - 0.09),
            width,
            0.18,
            boxstyle=f"round,pad=0,rounding_size={0.09 if round_ends else 0.02}",
            facecolor="#E3F1FB" if round_ends else "white",
            edgecolor=color or SKY_BLUE,
            linewidth=1.3,
            zorder=4,
            gid=f"move-{vertex.stage}-{number}",
        )
    )
    axes.text(left + width / 2, vertex.y, plain(text), fontsize=SMALL, ha="center", va="center",
              weight="normal" if round_ends else "bold", zorder=5)  # fmt: skip


def _join(
    axes: Axes, ends: tuple[float, float], right: float, bow: int, width: float, look: Any
) -> None:
    """The dashed line between two nodes of an information set, around what stands between."""
    upper, lower = ends
    x, swing = right - width / 2, right + 0.1 + 0.1 * bow
    path = Path([(x, upper + 0.09), (x, lower - 0.09)])
    if bow:
        path = Path(
            [(right, upper + 0.05), (swing, upper + 0.05), (swing, upper + 0.2),
             (swing, lower - 0.2), (swing, lower - 0.05), (right, lower - 0.05)],
            [Path.MOVETO, Path.CURVE3, Path.CURVE3, Path.LINETO, Path.CURVE3, Path.CURVE3],
        )  # fmt: skip
    axes.add_patch(
        PathPatch(path, facecolor="none", linewidth=1.5, linestyle=(0, (3, 2)), zorder=3, **look)
    )


# ---- charts of two parameters and of one


Curve = Callable[[Any], Any] | tuple[Any, Any]
"""A curve over a heat map: y as a function of x, or the two sequences (xs, ys)."""


def heatmap(
    x_name: str,
    xs: Any,
    y_name: str,
    ys: Any,
    flags_or_values: Any,
    title: str,
    boundary: Curve | Mapping[str, Curve] | None = None,
) -> Figure:
    """A map over two parameters: where a profile is an equilibrium (flags), or a measure (values).

    `flags_or_values` has the shape (len(xs), len(ys)); flags are booleans, values numbers, NaN
    where there is none. `boundary` is a closed form to lay over it: y as a function of an array of
    x, or (xs, ys), or several of them by label. InputError for shapes that do not fit.
    """
    across, up = _grid(x_name, xs), _grid(y_name, ys)
    found = np.asarray(flags_or_values)
    if found.shape != (len(across), len(up)):
        raise InputError(
            f"draw.heatmap: expected the shape ({len(across)}, {len(up)}), one row a value of "
            f"{x_name}, one column a value of {y_name}; found {found.shape}"
        )
    drawing = figure(6.4, 4.8)
    axes = drawing.add_subplot()
    handles: list[Any] = []
    if found.dtype == bool:
        image = axes.pcolormesh(
            across, up, found.T.astype(float), shading="nearest", rasterized=True, vmin=0, vmax=1,
            cmap=ListedColormap([_ABSENT, _PRESENT]),
        )  # fmt: skip
        handles += [
            Patch(facecolor=_PRESENT, edgecolor=GREY, label="equilibrium"),
            Patch(facecolor=_ABSENT, edgecolor=GREY, label="not an equilibrium"),
        ]
    else:
        values = np.asarray(found, dtype=np.float64)
        image = axes.pcolormesh(across, up, values.T, shading="nearest", rasterized=True)
        drawing.colorbar(image, ax=axes, label=plain(title))
    curves: Mapping[str, Curve] = {}
    if boundary is not None:
        curves = boundary if isinstance(boundary, Mapping) else {"closed form": boundary}
    left, right, low, high = *axes.get_xlim(), *axes.get_ylim()
    for number, (label, curve) in enumerate(curves.items()):
        at, height = _curve_points(curve, label, (left, right))
        style = _LINE_STYLES[number % len(_LINE_STYLES)]
        axes.plot(at, height, color="white", linewidth=4)
        handles += axes.plot(at, height, color=VERMILION, linestyle=style, linewidth=2,
                             label=plain(label))  # fmt: skip
    axes.set_xlim(left, right)
    axes.set_ylim(low, high)
    axes.grid(False)
    axes.set_xlabel(plain(x_name))
    axes.set_ylabel(plain(y_name))
    axes.set_title(plain(title))
    if handles:
        drawing.legend(
            handles=handles, loc="outside lower center", ncols=3 if len(handles) == 3 else 2
        )
    return drawing


_PRESENT = BLUE
_ABSENT = "#EFECE6"


def _grid(name: str, values: Any) -> Float[np.ndarray, " points"]:
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != 1 or len(found) < 2 or not (np.diff(found) > 0).all():
        raise InputError(f"draw.heatmap: expected two or more rising values of {name}")
    return found


def _curve_points(curve: Curve, label: str, ends: tuple[float, float]) -> tuple[Any, Any]:
    if callable(curve):
        at = np.linspace(*ends, 401)
        height = np.broadcast_to(np.asarray(curve(at), dtype=np.float64), at.shape)
        return at, height
    at, height = (np.asarray(part, dtype=np.float64) for part in curve)
    if at.shape != height.shape or at.ndim != 1:
        raise InputError(f"draw.heatmap: boundary {label} has {at.shape} and {height.shape} points")
    return at, height


def lines(
    parameter: str, xs: Any, series: Mapping[str, Any], title: str = "", ylabel: str = ""
) -> Figure:
    """Measures, such as welfare or the Gini coefficient, against one parameter.

    Each entry of `series` has one number a value of `xs`, NaN where there is none; InputError for
    another length.
    """
    at = np.asarray(xs, dtype=np.float64)
    if not series:
        raise InputError("draw.lines: there is no series to draw")
    drawing = figure()
    axes = drawing.add_subplot()
    for number, (label, values) in enumerate(series.items()):
        heights = np.asarray(values, dtype=np.float64)
        if heights.shape != at.shape or at.ndim != 1:
            raise InputError(
                f"draw.lines: {label} has the shape {heights.shape}; expected one number for each "
                f"of {at.size} values of {parameter}"
            )
        axes.plot(at, heights, color=PALETTE[number % len(PALETTE)], label=plain(label),
                  linestyle=_LINE_STYLES[number % len(_LINE_STYLES)],
                  marker="o" if len(at) == 1 else None)  # fmt: skip
    axes.set_xlabel(plain(parameter))
    axes.set_ylabel(plain(ylabel or (next(iter(series)) if len(series) == 1 else "value")))
    axes.set_title(plain(title or f"{', '.join(series)} against {parameter}"))
    if len(series) > 1:
        drawing.legend(loc="outside lower center", ncols=min(len(series), 4))
    return drawing


def bars(
    amounts: Mapping[str, Mapping[str, float]],
    title: str = "Water by farmer and institution",
    ylabel: str = "water",
) -> Figure:
    """Bars grouped by institution, one a farmer: {institution: {farmer: water}}.

    A farmer that an institution lacks has no bar there.
    """
    who = list(dict.fromkeys(name for row in amounts.values() for name in row))
    if not who:
        raise InputError("draw.bars: there is nothing to draw; expected {institution: {farmer: n}}")
    widest = max(text_width(short(name), 10.5) for name in amounts) + 0.25
    drawing = figure(max(4.5, 1.2 + len(amounts) * max(widest, 0.4 + 0.26 * len(who))), 4.0)
    axes = drawing.add_subplot()
    thickness = 0.8 / len(who)
    for number, name in enumerate(who):
        places = [at for at, row in enumerate(amounts.values()) if name in row]
        heights = [float(row[name]) for row in amounts.values() if name in row]
        drawn = axes.bar(
            [at + (number - (len(who) - 1) / 2) * thickness for at in places],
            heights,
            thickness * 0.9,
            color=PALETTE[number % len(PALETTE)],
            # From the eighth on the colours come again.
            hatch="//" if number >= len(PALETTE) else None,
            edgecolor="white",
            label=plain(name),
        )
        axes.bar_label(drawn, [f"{height:.3g}" for height in heights], padding=2, fontsize=7,
                       color=GREY)  # fmt: skip
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.set_xticks(range(len(amounts)), [plain(short(name)) for name in amounts])
    axes.grid(False, axis="x")
    axes.set_ylabel(plain(ylabel))
    axes.set_title(plain(title))
    drawing.legend(loc="outside lower center", ncols=min(len(who), 5))
    return drawing


def payoffs(report: Report) -> Figure:
    """Every player's expected payoff, and what he gains at most by deviating."""
    players = list(report.payoffs)
    drawing = figure(6.4, 1.9 + 0.42 * len(players))
    axes = drawing.add_subplot()
    axes.margins(x=0.16)
    places = np.arange(len(players))
    for shift, values, label, color in (
        (-0.19, report.payoffs, "expected payoff", BLUE),
        (0.19, report.regret, "gain from the best deviation", VERMILION),
    ):
        lengths = [max(values.get(name, 0.0), 0.0) if values is report.regret
                   else values[name] for name in players]  # fmt: skip
        drawn = axes.barh(places + shift, lengths, 0.36, color=color, label=label)
        axes.bar_label(drawn, [f"{length:.4g}" for length in lengths], padding=3, fontsize=LARGE,
                       color=INK)  # fmt: skip
    axes.axvline(0, color=GREY, linewidth=0.8)
    axes.set_yticks(places, [plain(short(name)) for name in players])
    axes.set_ylim(len(players) - 0.4, -0.6)
    axes.grid(False, axis="y")
    axes.set_xlabel("payoff")
    outcome = "an equilibrium" if report.ok else "not an equilibrium"
    axes.set_title(f"Payoffs and gains: {outcome} ({report.notion} form)")
    drawing.legend(loc="outside lower center", ncols=2)
    return drawing


def scaling(rows: Sequence[Mapping[str, Any]], title: str = "Time against size") -> Figure:
    """Time against the number of outcomes, both on logarithmic scales, a line a peer.

    A row has peer, seconds (positive), log10_outcomes or outcomes, and maybe family; families
    stand side by side. InputError for a row that lacks one.
    """
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for number, row in enumerate(rows, start=1):
        try:
            peer, seconds = str(row["peer"]), float(row["seconds"])
            size = row["log10_outcomes"] if "log10_outcomes" in row else math.log10(row["outcomes"])
        except (KeyError, ValueError, TypeError) as error:
            raise InputError(
                f"draw.scaling, row {number}: expected peer, seconds and log10_outcomes or "
                f"outcomes ({error})"
            ) from None
        if not seconds > 0 or not math.isfinite(float(size)):
            raise InputError(f"draw.scaling, row {number}: expected a positive time and a size")
        family = found.setdefault(str(row.get("family", "")), {})
        family.setdefault(peer, []).append((float(size), seconds))
    if not found:
        raise InputError("draw.scaling: there are no rows to draw")
    peers = list(dict.fromkeys(peer for family in found.values() for peer in family))
    drawing = figure(max(6.4, 3.6 * len(found)), 4.2)
    panels = drawing.subplots(1, len(found), sharey=True, squeeze=False)[0]
    for axes, (name, family) in zip(panels, found.items(), strict=True):
        for peer, points in family.items():
            number = peers.index(peer)
            points.sort()
            axes.plot(
                [point[0] for point in points],
                [point[1] for point in points],
                color=PALETTE[number % len(PALETTE)],
                marker=_MARKERS[number % len(_MARKERS)],
                linestyle=_LINE_STYLES[number % len(_LINE_STYLES)],
                markersize=5,
            )
        axes.set_yscale("log")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda power, _: f"$10^{{{power:g}}}$"))
        axes.set_xlabel("outcomes")
        axes.set_title(plain(name or title))
    panels[0].set_ylabel("seconds")
    handles = [
        Line2D([], [], color=PALETTE[number % len(PALETTE)], label=plain(peer), markersize=5,
               marker=_MARKERS[number % len(_MARKERS)],
               linestyle=_LINE_STYLES[number % len(_LINE_STYLES)])
        for number, peer in enumerate(peers)
    ]  # fmt: skip
    drawing.legend(handles=handles, loc="outside lower center", ncols=min(len(peers), 4))
    if any(found):
        drawing.suptitle(plain(title), weight="bold", fontsize=12, x=0.01, ha="left")
    return drawing


# ---- two players with two actions


def phase(game: Game) -> Figure:
    """Best responses and replicator dynamics of two players with two actions who see nothing.

    Axes are the probabilities of each player's first action; arrows point the way of the
    two-population replicator equation, all drawn equally long; lines are the best responses, dots
    the equilibria. InputError for any other game.
    """
    first, second = _two_by_two(game)
    worth = np.zeros((2, 2, 2))
    for row in range(2):
        for column in range(2):
            profile = {first.name: first.actions[0][row], second.name: second.actions[0][column]}
            paid = game.payoffs(profile, engine="frontier")
            worth[row, column] = paid[first.players[0]], paid[second.players[0]]
    # What each player's first action gains on his second: first where the other player takes his
    # second action, then where he takes his first.
    mine, others = worth[0, :, 0] - worth[1, :, 0], worth[:, 0, 1] - worth[:, 1, 1]
    gains = (float(mine[1]), float(mine[0])), (float(others[1]), float(others[0]))
    drawing = figure(5.6, 5.8)
    axes = drawing.add_subplot()
    grid = (np.arange(13) + 0.5) / 13
    p, q = np.meshgrid(grid, grid)
    across = p * (1 - p) * (gains[0][0] * (1 - q) + gains[0][1] * q)
    up = q * (1 - q) * (gains[1][0] * (1 - p) + gains[1][1] * p)
    length = np.hypot(across, up)
    still = length < 1e-12
    length[still] = 1.0
    axes.quiver(p, q, across / length, up / length, color="#B9B4A9", pivot="mid", scale=24,
                width=0.004)  # fmt: skip
    names = [decision.players[0] for decision in (first, second)]
    for number, (width, style, color) in enumerate(((4.0, "-", SKY_BLUE), (1.8, "--", VERMILION))):
        own, other = _best_response(*gains[number])
        own_first = number == 0
        label = plain(f"best response of {short(names[number])}")
        if own is None:
            axes.fill([0, 1, 1, 0], [0, 0, 1, 1], color=color, alpha=0.15, linewidth=0,
                      label=label + ": anything")  # fmt: skip
            continue
        axes.plot(own if own_first else other, other if own_first else own, style, color=color,
                  linewidth=width, label=label, clip_on=False)  # fmt: skip
    dots = _equilibria(gains)
    if dots:
        axes.plot([dot[0] for dot in dots], [dot[1] for dot in dots], "o", color=INK,
                  markersize=8, label="equilibrium", clip_on=False, zorder=5)  # fmt: skip
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(-0.03, 1.03)
    axes.set_aspect("equal")
    for decision, name_axis in ((first, axes.set_xlabel), (second, axes.set_ylabel)):
        action = short(show(decision.actions[0][0]))
        name_axis(plain(f"probability that {short(decision.players[0])} plays {action}"))
    axes.set_title(plain(f"{game.title}: best responses"))
    drawing.legend(loc="outside lower center", ncols=2)
    return drawing


def _two_by_two(game: Game) -> Any:
    found = game.frontier.decisions
    fits = len(found) == 2 and all(
        len(decision.observations) == 1 and len(decision.actions[0]) == 2
        and len(decision.players) == 1 and not decision.observations[0]
        for decision in found
    )  # fmt: skip
    if not fits or found[0].players == found[1].players:
        shown = "; ".join(
            f"{decision.name} has {len(decision.observations)} observations and "
            f"{max(len(actions) for actions in decision.actions)} actions"
            for decision in found[:3]
        )
        raise InputError(
            f"draw.phase: {game.title} is not a game of two players with two actions each who see "
            f"nothing ({shown})"
        )
    return found


def _best_response(low: float, high: float) -> tuple[Any, Any]:
    """(own, other): a line through all best responses; (None, None) where all are.

    `low` and `high` are what the first action gains at probability 0 and 1 of the other player.
    """
    if low == 0 and high == 0:
        return None, None
    marks = {0.0, 1.0}
    if low * high < 0:
        marks.add(low / (low - high))
    own: list[float] = []
    other: list[float] = []
    stops = sorted(marks)
    best = [float(low * (1 - middle) + high * middle > 0)
            for middle in ((a + b) / 2 for a, b in pairwise(stops))]  # fmt: skip
    if low == 0:
        own.append(1 - best[0])
        other.append(0.0)
    for (begin, end), play in zip(pairwise(stops), best, strict=True):
        own += [play, play]
        other += [begin, end]
    if high == 0:
        own.append(1 - best[-1])
        other.append(1.0)
    return own, other


def _equilibria(
    gains: tuple[tuple[float, float], tuple[float, float]],
) -> list[tuple[float, float]]:
    """Pure equilibria and the one where both mix, as probabilities of the first actions.

    `gains[i]` is what player i's first action gains on his second, against the other's second and
    first action.
    """

    def best(gain: float, play: float) -> bool:
        return gain >= 0 if play else gain <= 0

    found = [
        (p, q)
        for p in (0.0, 1.0)
        for q in (0.0, 1.0)
        if best(gains[0][int(q)], p) and best(gains[1][int(p)], q)
    ]
    if gains[0][0] * gains[0][1] < 0 and gains[1][0] * gains[1][1] < 0:
        q = gains[0][0] / (gains[0][0] - gains[0][1])
        p = gains[1][0] / (gains[1][0] - gains[1][1])
        found.append((float(p), float(q)))
    return found
