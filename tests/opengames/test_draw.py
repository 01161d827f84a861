"""Pictures of games have a box a node, a line an information set, and nothing on anything else."""

import math
from collections import Counter
from contextlib import ExitStack
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workingpapers.foundation.errors import InputError
from workingpapers.foundation.plots import PALETTE, save
from workingpapers.opengames import draw
from workingpapers.opengames.games import Game, game
from workingpapers.opengames.layout import Arrangement, Box, Frame, all_boxes, nested, parts_of
from workingpapers.opengames.trace import DecideNode, LetNode, NatureNode, PayNode, Trace


@game
def irrigation(b, farmers=3, level=10, pay_rate=0.2, fine=0.7):
    watch = b.decide("monitor", ["Work", "Shirk"])
    b.pay("monitor", lambda k: -1.0 if k == "Work" else 0.0, watch)
    water = b.const(level)

    def cut(move, watched):
        if watched == "Shirk":
            return 0.0
        return pay_rate if move == "Crack" else pay_rate + fine

    for i in range(farmers):
        move = b.decide(f"farmer{i + 1}", ["Crack", "Flood"], sees=[water], name=f"take{i + 1}")
        taken = b.let(lambda w, m: min(w, 2 if m == "Crack" else 5), water, move, name="taken")
        b.pay(f"farmer{i + 1}", lambda w, m, k: (1 - cut(m, k)) * w, taken, move, watch)
        b.pay("monitor", lambda w, m, k: cut(m, k) * w, taken, move, watch)
        water = b.let(lambda w, t: w - t, water, taken, name="water")


@game
def two_by_two(b, reward=3, sucker=0, temptation=5, punishment=1, players=("p1", "p2")):
    first = b.decide(players[0], ["C", "D"])
    second = b.decide(players[1], ["C", "D"])
    table = {"CC": reward, "CD": sucker, "DC": temptation, "DD": punishment}
    b.pay(players[0], lambda x, y: table[x + y], first, second)
    b.pay(players[1], lambda x, y: table[y + x], first, second)


@game
def ultimatum(b, offers=3):
    offer = b.decide("proposer", range(1, offers + 1))
    answer = b.decide("responder", ["accept", "reject"], sees=[offer])
    b.pay("proposer", lambda o, a: 10 - o if a == "accept" else 0, offer, answer)
    b.pay("responder", lambda o, a: o if a == "accept" else 0, offer, answer)


@game
def vote(b):
    ann = b.decide("ann", ["PD", "SH"], name="ann votes")
    bob = b.decide("bob", ["PD", "SH"], name="bob votes")
    coin = b.nature({"PD": 0.5, "SH": 0.5}, name="tie break")
    chosen = b.let(lambda x, y, c: x if x == y else c, ann, bob, coin, name="chosen")
    with b.when(chosen, "PD"), b.named(" in PD"):
        two_by_two.inline(b, players=("ann", "bob"))
    with b.when(chosen, "SH"), b.named(" in SH"):
        two_by_two.inline(b, reward=2, temptation=1, players=("ann", "bob"))


@game
def signalling(b):
    kind = b.nature({"low": 0.8, "high": 0.2}, name="type")
    effort = b.decide("worker", ["study", "rest"], sees=[kind])
    wage = b.decide("firm", [40, 80], sees=[effort])
    b.pay("worker", lambda e, w: w - (45 if e == "study" else 0), effort, wage)
    b.pay("firm", lambda k, w: (50 if k == "low" else 100) - w, kind, wage)


@game
def roles(b):
    names = ("ann", "bob")
    who = b.nature(names, name="monitor")
    watch = b.decide(who, ["Work", "Shirk"], name="watch")
    other = b.let(lambda m: names[m == "ann"], who, name="farmer")
    take = b.decide(other, [2, 5], name="take")
    b.pay(other, lambda t, k: t if k == "Shirk" else 2, take, watch)


@game
def public_goods(b, players=5):
    gifts = [b.decide(f"p{i}", [0, 1, 2]) for i in range(players)]
    total = b.fold("sum", gifts)
    b.pay([f"p{i}" for i in range(players)], lambda t: 0.4 * t, total)
    for i, gift in enumerate(gifts):
        b.pay(f"p{i}", lambda g: -g, gift)


GAMES = {
    "irrigation": irrigation(),
    "long irrigation": irrigation(farmers=6, level=20),
    "dilemma": two_by_two(),
    "ultimatum": ultimatum(),
    "vote": vote(),
    "signalling": signalling(),
    "roles": roles(),
    "public goods": public_goods(),
}
SMALL = ("irrigation", "dilemma", "ultimatum", "vote", "signalling", "roles")


def drawn_boxes(figure) -> dict[str, object]:
    """The boxes of a diagram by name, without those of its key."""
    kinds = ("decide-", "nature-", "let-", "pay-")
    return {
        patch.get_gid(): patch
        for patch in figure.axes[0].patches
        if (patch.get_gid() or "").startswith(kinds)
    }


def names(figure, start: str) -> list[str]:
    artists = [*figure.axes[0].patches, *figure.axes[0].texts]
    return [one.get_gid() for one in artists if (one.get_gid() or "").startswith(start)]


def texts_on_each_other(figure) -> list[tuple[str, str]]:
    """Pairs of texts that overlap, and texts that leave the page."""
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    shown = [text for axes in figure.axes for text in axes.texts if text.get_text()]
    places = [(text.get_text(), text.get_window_extent(renderer)) for text in shown]
    found = [
        (text, other)
        for (text, one), (other, two) in combinations(places, 2)
        if one.x0 < two.x1 and two.x0 < one.x1 and one.y0 < two.y1 and two.y0 < one.y1
    ]
    page = figure.bbox
    found += [
        (text, "the edge")
        for text, one in places
        if one.x0 < 0 or one.y0 < 0 or one.x1 > page.width or one.y1 > page.height
    ]
    return found


# ---- string and influence diagrams


@pytest.mark.parametrize("name", GAMES)
@pytest.mark.parametrize("kind", ["diagram", "influence"])
def test_a_diagram_has_a_box_a_node_and_no_text_on_another(kind, name):
    drawn = getattr(draw, kind)(GAMES[name])
    trace = GAMES[name].trace
    inside_folds = {w for fold in trace.folds for w in (*fold.operands, *fold.chain[:-1])}
    kinds = {DecideNode: "decide", NatureNode: "nature", LetNode: "let", PayNode: "pay"}
    expected = {
        f"{kinds[type(node)]}-{node.index}"
        for node in trace.nodes
        if node.index not in inside_folds
    }
    assert set(drawn_boxes(drawn)) == expected
    assert texts_on_each_other(drawn) == []


def test_a_fold_is_one_box_that_reads_every_operand():
    parts = {part.wire: part for part in parts_of(GAMES["public goods"], "test")}
    (fold,) = [part for part in parts.values() if part.lines == ("sum",)]
    assert [parts[wire].kind for wire in fold.inputs] == ["decide"] * 5


def test_subgames_and_branches_are_frames():
    figure = draw.diagram(GAMES["vote"])
    titles = [text.get_text() for text in figure.axes[0].texts if text.get_color() == "#6B6860"]
    assert [titles.count(title) for title in ("if PD", "if SH", "two_by_two")] == [1, 1, 2]
    assert len(names(figure, "frame-")) == 4
    frame = nested(parts_of(GAMES["vote"], "test"))
    branches = [child for child in frame.children if isinstance(child, Frame)]
    assert [branch.title for branch in branches] == ["if PD", "if SH"]
    for branch in branches:
        assert branch.conditional
        (inner,) = branch.children
        assert isinstance(inner, Frame)
        assert len(inner.children) == 4


def test_payoffs_come_back_to_the_decisions_of_their_players_only():
    frame = nested(parts_of(GAMES["vote"], "test"))
    # Both branches pay the voters, so both players' lines leave both frames.
    for child in frame.children:
        if isinstance(child, Frame):
            assert list(child.lanes) == ["ann", "bob"]

    @game
    def split(b):
        coin = b.nature(["a", "b"])
        for side in "ab":
            with b.when(coin, side):
                move = b.decide("one", [1, 2], name=f"one {side}")
                b.pay("one", lambda m: m, move)

    # Neither branch pays for what is decided in the other.
    frame = nested(parts_of(split(), "test"))
    assert [list(child.lanes) for child in frame.children] == [[], [], []]


def test_a_role_that_is_never_paid_as_such_may_be_anyone_who_is():
    parts = {part.lines[0]: part for part in parts_of(GAMES["roles"], "test")}
    assert parts["watch"].lanes == parts["take"].lanes == parts["pay farmer"].lanes


def test_a_block_around_branches_stays_around_them():
    trace = Trace()
    with trace.block("outer"):
        choice = trace.decide("p", [True, False])
        with trace.when(choice):
            trace.pay("p", 1)
        with trace.when(choice, False):
            trace.pay("p", 2)
    (outer,) = nested(parts_of(Game(trace), "test")).children
    assert isinstance(outer, Frame)
    assert outer.title == "outer"
    assert [getattr(child, "title", None) for child in outer.children] == [
        None,
        "if yes",
        "if False",
    ]


KINDS = ("decide", "nature", "let", "pay", "block", "when", "close")
STEPS = st.lists(
    st.tuples(st.sampled_from(KINDS), st.integers(1, 3), st.lists(st.integers(0, 99), max_size=3)),
    min_size=1,
    max_size=25,
)


def built(steps) -> Trace:
    """A trace with nested blocks and branches, in which nodes read any earlier wires."""
    trace = Trace("random")
    wires = [trace.const(1)]
    with ExitStack() as whole:
        opened: list[ExitStack] = []
        for kind, number, picks in steps:
            seen = list(dict.fromkeys(wires[pick % len(wires)] for pick in picks))
            count, player = len(trace.nodes), f"p{number}"
            if kind == "decide":
                wires.append(trace.decide(player, [0, 1], sees=seen, name=f"d{count}"))
            elif kind == "nature":
                wires.append(trace.nature([0, 1], name=f"n{count}"))
            elif kind == "let":
                wires.append(trace.let(lambda *values: 0, *seen, name="f" * (count % 9 + 1)))
            elif kind == "pay":
                trace.pay(player, lambda *values: 0, *seen)
            elif kind == "close" and opened:
                opened.pop().close()
            elif kind in ("block", "when") and len(opened) < 3:
                opened.append(whole.enter_context(ExitStack()))
                guard = trace.when((seen or wires)[0], 1)
                opened[-1].enter_context(trace.block(player) if kind == "block" else guard)
        while opened:
            opened.pop().close()
    return trace


def arranged(trace: Trace) -> Frame:
    frame = nested(parts_of(Game(trace), "test"))
    Arrangement(frame, False, draw._size_box)
    return frame


@settings(max_examples=12)
@given(STEPS)
def test_boxes_stand_apart_and_no_wire_runs_through_a_box(steps):
    trace = built(steps)
    frame = arranged(trace)
    assert len(all_boxes([frame])) == len(trace.nodes)
    frames = [frame]
    while frames:
        one = frames.pop()
        frames += [child for child in one.children if isinstance(child, Frame)]
        for child, other in combinations(one.children, 2):
            assert (
                child.left + child.width <= other.left
                or other.left + other.width <= child.left
                or child.top + child.height <= other.top
                or other.top + other.height <= child.top
            )
        for child in one.children:
            assert child.left >= -1e-6
            assert child.top >= -1e-6
            assert child.left + child.width <= one.width + 1e-6
            assert child.top + child.height <= one.height + 1e-6
        for wire in one.wires:
            (x, start), (_, turn), (end, arrive), (_, stop) = wire.points
            assert start <= turn + 1e-9
            assert turn <= arrive + 1e-9
            assert arrive <= stop + 1e-9
            steps = np.linspace(0, 1, 21)
            bend = steps**2 * (3 - 2 * steps)
            across = np.r_[np.full(21, x), x + (end - x) * bend, np.full(21, end)]
            down = np.r_[
                start + (turn - start) * steps,
                turn + (arrive - turn) * steps,
                arrive + (stop - arrive) * steps,
            ]
            for child in one.children:
                inside = (across > child.left + 1e-6) & (across < child.left + child.width - 1e-6)
                inside &= (down > child.top + 1e-6) & (down < child.top + child.height - 1e-6)
                assert not inside.any()
        for back in one.returns:
            for x, edge, height, _ in back.joints:
                assert edge < height
                for child in one.children:
                    below = child.top < height < child.top + child.height
                    assert not (below and child.left + child.width > min(x, back.x))
        for number, back in enumerate(one.returns):
            for other in one.returns[:number]:
                if back.x == other.x and back.top < back.bottom and other.top < other.bottom:
                    assert back.bottom < other.top or other.bottom < back.top


def test_every_decision_that_is_paid_for_has_an_arrow():
    frame = arranged(GAMES["irrigation"].trace)
    ends = [joint for back in frame.returns for joint in back.joints]
    assert sum(decides for *_, decides in ends) == 4
    assert sum(not decides for *_, decides in ends) == 7
    assert {back.lane for back in frame.returns} == {"monitor", "farmer1", "farmer2", "farmer3"}


def test_a_diagram_needs_a_trace_of_moderate_size():
    from_file = Game(frontier=GAMES["dilemma"].frontier)
    with pytest.raises(InputError, match=r"draw\.diagram: two_by_two was read from a file"):
        draw.diagram(from_file)
    with pytest.raises(InputError, match=r"draw\.influence: irrigation has 303 boxes; expected at"):
        draw.influence(irrigation(farmers=60, level=100))


def test_names_with_dollars_are_not_taken_for_mathematics(tmp_path):
    @game
    def priced(b):
        price = b.decide("the $eller", ["5$", "$6"], name="price in $, or $x_1^{")
        b.pay("the $eller", lambda p: len(p), price)

    for kind in (draw.diagram, draw.influence, draw.tree):
        save(kind(priced()), tmp_path / "p.svg")


# ---- the tree


@pytest.mark.parametrize("name", SMALL)
def test_a_tree_has_every_outcome_and_joins_what_cannot_be_told_apart(name):
    one = GAMES[name]
    figure = draw.tree(one)
    leaves = names(figure, "leaf-")
    assert len(leaves) == round(10 ** one.size().log10_outcomes) * len(one.frontier.players)
    decisions = one.frontier.decisions
    stages = {decision.stage: decision for decision in decisions}
    moves = [int(gid.split("-")[1]) for gid in names(figure, "move-")]
    nodes = Counter(stage for stage in moves if stage in stages)
    # A set of k nodes is joined by k - 1 lines.
    joins = sum(nodes[stage] - len(stages[stage].group_players) for stage in nodes)
    assert len(names(figure, "set-")) == joins
    assert texts_on_each_other(figure) == []


def test_the_trees_of_known_games():
    figure = draw.tree(GAMES["ultimatum"])
    assert len(names(figure, "move-")) == 4
    assert len(names(figure, "set-")) == 0
    figure = draw.tree(GAMES["dilemma"])
    assert len(names(figure, "set-")) == 1
    shown = [t.get_text() for t in figure.axes[0].texts if (t.get_gid() or "").startswith("leaf")]
    assert shown == ["3", "3", "0", "5", "5", "0", "1", "1"]
    # The firm has two sets of two nodes, one for each effort.
    assert len(names(draw.tree(GAMES["signalling"]), "set-")) == 2


@pytest.mark.parametrize("name", SMALL)
def test_expected_payoffs_are_those_of_the_leaves(name):
    one = GAMES[name]
    unrolled = draw._Unrolling(one, 200)
    shares = {d.name: np.arange(1, d.n_slots + 1.0) for d in one.frontier.decisions}
    profile = np.zeros(one.frontier.n_slots)
    for decision in one.frontier.decisions:
        for begin, end in zip(decision.starts, decision.starts[1:], strict=False):
            part = shares[decision.name][begin - decision.first_slot : end - decision.first_slot]
            profile[begin:end] = part / part.sum()

    def expected(vertex):
        if not vertex.branches:
            return np.array(vertex.payoffs)
        stage = one.frontier.stages[vertex.stage]
        if stage.decision < 0:
            labels = [label for label, _ in vertex.branches]
            weights = [float(label.split("(")[1].rstrip(")")) for label in labels]
        else:
            decision = one.frontier.decisions[stage.decision]
            seen = decision.group_observations[vertex.group - decision.first_group]
            weights = profile[decision.starts[seen] : decision.starts[seen + 1]]
        values = [expected(child) for _, child in vertex.branches]
        return sum(weight * value for weight, value in zip(weights, values, strict=True))

    exact = one.payoffs(profile, engine="frontier")
    assert np.allclose(expected(unrolled.root), list(exact.values()))


def test_a_tree_that_is_too_large_is_refused_at_once():
    expected = r"draw\.tree: the tree of irrigation has more than 200 nodes; draw\.diagram shows"
    for farmers in (6, 60):
        with pytest.raises(InputError, match=expected):
            draw.tree(irrigation(farmers=farmers, level=100))
    # 15 nodes that move and 16 outcomes with 2 farmers and a monitor: 1 + 2 + 4 + 8.
    assert len(names(draw.tree(irrigation(farmers=2), 15), "move-")) == 7
    with pytest.raises(InputError, match="more than 14 nodes"):
        draw.tree(irrigation(farmers=2), 14)


def test_a_tree_needs_no_trace():
    assert len(names(draw.tree(Game(frontier=GAMES["dilemma"].frontier)), "move-")) == 3


# ---- charts


def test_a_heat_map_shows_flags_under_their_closed_form():
    rates, fines = np.linspace(0, 1, 41), np.linspace(0, 1, 31)
    rate, fine = np.meshgrid(rates, fines, indexing="ij")
    flags = (6 * rate >= 1) & (5 * (1 - rate - fine) <= 2 * (1 - rate))
    boundary = {"least fine": lambda x: 0.6 * (1 - x), "least rate": ([1 / 6] * 2, [0, 1])}
    figure = draw.heatmap("pay_rate", rates, "fine", fines, flags, "Crack", boundary)
    axes = figure.axes[0]
    shown = np.asarray(axes.collections[0].get_array()).reshape(31, 41)
    assert (shown == flags.T).all()
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["equilibrium", "not an equilibrium", "least fine", "least rate"]
    curve = next(line for line in axes.lines if line.get_label() == "least fine")
    assert np.allclose(curve.get_ydata(), 0.6 * (1 - curve.get_xdata()))
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("pay_rate", "fine")


def test_a_heat_map_of_values_has_a_labelled_scale():
    values = np.array([[1.0, 2.0], [3.0, np.nan], [5.0, 6.0]])
    figure = draw.heatmap("x", [0, 1, 2], "y", [0, 1], values, "Welfare")
    assert figure.axes[1].get_ylabel() == "Welfare"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"flags_or_values": np.ones((2, 3))},
            r"expected the shape \(3, 2\), one row a value",
        ),
        ({"xs": [0, 2, 1]}, "expected two or more rising values of x"),
        ({"ys": [0]}, "expected two or more rising values of y"),
        ({"boundary": ([0, 1], [0])}, r"boundary closed form has \(2,\) and \(1,\) points"),
    ],
)
def test_a_heat_map_names_what_does_not_fit(change, message):
    fine = {"xs": [0, 1, 2], "ys": [0, 1], "flags_or_values": np.ones((3, 2)), "title": "t"}
    with pytest.raises(InputError, match=message):
        draw.heatmap(x_name="x", y_name="y", **{**fine, **change})


def test_lines_are_drawn_a_series_each():
    figure = draw.lines("fine", [0, 0.5, 1], {"welfare": [1, 2, 3], "Gini": [0.5, math.nan, 0]})
    assert [line.get_ydata()[0] for line in figure.axes[0].lines] == [1, 0.5]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["welfare", "Gini"]
    with pytest.raises(InputError, match=r"Gini has the shape \(2,\); expected one number for"):
        draw.lines("fine", [0, 1, 2], {"Gini": [1, 2]})
    with pytest.raises(InputError, match=r"draw\.lines: there is no series"):
        draw.lines("fine", [0, 1], {})


def test_bars_are_grouped_by_institution():
    amounts = {"open": {"a": 5, "b": 5, "c": 0}, "watched": {"a": 2, "c": 2}}
    figure = draw.bars(amounts)
    bars = [
        [(round(bar.get_x() + bar.get_width() / 2), bar.get_height()) for bar in one]
        for one in figure.axes[0].containers
    ]
    assert bars == [[(0, 5), (1, 2)], [(0, 5)], [(0, 0), (1, 2)]]
    with pytest.raises(InputError, match=r"draw\.bars: there is nothing to draw"):
        draw.bars({"open": {}})


def test_payoffs_and_gains_are_those_of_the_report():
    profile = {"monitor": "Work", "take1": "Crack", "take2": "Crack", "take3": "Flood"}
    report = GAMES["irrigation"].check(profile, engine="frontier")
    figure = draw.payoffs(report)
    paid, gained = ([bar.get_width() for bar in one] for one in figure.axes[0].containers)
    assert paid == pytest.approx([4.3, 1.6, 1.6, 0.5])
    assert gained == pytest.approx([0, 0, 0, 1.1], abs=1e-12)
    assert "not an equilibrium" in figure.axes[0].get_title(loc="left")


def test_scaling_has_a_panel_a_family_and_a_line_a_peer():
    rows = [
        {"peer": peer, "family": family, "outcomes": 10**size, "seconds": 10.0**-size}
        for family in ("irrigation", "auction")
        for peer in ("ours", "theirs")
        for size in (3, 1, 2)
    ]
    rows.append({"peer": "ours", "family": "irrigation", "log10_outcomes": 602.0, "seconds": 1})
    figure = draw.scaling(rows)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["irrigation", "auction"]
    assert list(figure.axes[0].lines[0].get_xdata()) == [1, 2, 3, 602]
    assert [axes.lines[0].get_color() for axes in figure.axes] == [PALETTE[0]] * 2
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["ours", "theirs"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "there are no rows"),
        ([{"peer": "a", "seconds": 1}], "row 1: expected peer, seconds and log10_outcomes"),
        ([{"peer": "a", "seconds": 0, "outcomes": 10}], "row 1: expected a positive time"),
        ([{"peer": "a", "seconds": 1, "outcomes": 0}], "row 1: expected peer, seconds"),
    ],
)
def test_scaling_names_the_row_that_lacks_something(rows, message):
    with pytest.raises(InputError, match=rf"draw\.scaling.*{message}"):
        draw.scaling(rows)


# ---- two by two


@game
def pennies(b):
    even, odd = b.decide("even", "HT"), b.decide("odd", "HT")
    b.pay("even", lambda x, y: 1 if x == y else -1, even, odd)
    b.pay("odd", lambda x, y: -1 if x == y else 1, even, odd)


@pytest.mark.parametrize(
    ("one", "dots"),
    [
        (two_by_two(), [(0, 0)]),
        (two_by_two(reward=4, temptation=3, punishment=2), [(0, 0), (1, 1), (2 / 3, 2 / 3)]),
        (two_by_two(reward=0, sucker=-1, temptation=1, punishment=-10),
         [(0, 1), (1, 0), (0.9, 0.9)]),
        (pennies(), [(0.5, 0.5)]),
    ],
)  # fmt: skip
def test_a_phase_plot_marks_every_equilibrium(one, dots):
    axes = draw.phase(one).axes[0]
    (marked,) = [line for line in axes.lines if line.get_label() == "equilibrium"]
    found = list(zip(marked.get_xdata(), marked.get_ydata(), strict=True))
    assert np.allclose(found, dots)
    decisions = one.frontier.decisions
    for p, q in found:
        profile = {
            decision.name: dict(zip(decision.actions[0], (share, 1 - share), strict=True))
            for decision, share in zip(decisions, (p, q), strict=True)
        }
        assert one.check(profile, engine="frontier").ok


@given(st.floats(-3, 3), st.floats(-3, 3), st.floats(0, 1))
def test_best_responses_are_where_the_gain_is(low, high, other):
    own, against = draw._best_response(low, high)
    gain = low * (1 - other) + high * other
    if own is None:
        assert low == high == 0
        return
    assert list(against) == sorted(against)
    crossing = low / (low - high) if low != high else None
    if abs(gain) > 1e-9 and (crossing is None or abs(other - crossing) > 1e-9):
        # The line at this height, unless the height is one of its corners.
        at = np.searchsorted(against, other)
        if 0 < at < len(against) and against[at - 1] < other < against[at]:
            assert own[at] == own[at - 1] == float(gain > 0)


def test_one_who_does_not_care_may_do_anything():
    @game
    def bored(b):
        b.decide("p", "LR")
        second = b.decide("q", "LR")
        b.pay("p", 1)
        b.pay("q", lambda y: float(y == "L"), second)

    labels = [text.get_text() for text in draw.phase(bored()).legends[0].get_texts()]
    assert "best response of p: anything" in labels


def test_a_phase_plot_needs_two_players_with_two_actions_who_see_nothing():
    for one in (GAMES["ultimatum"], GAMES["vote"], GAMES["roles"]):
        with pytest.raises(InputError, match=r"draw\.phase: \w+ is not a game of two players with"):
            draw.phase(one)


# ---- files


def test_pictures_are_the_same_bytes_each_time_and_more_than_a_scrap(tmp_path):
    report = two_by_two().check({"p1": "C", "p2": "D"}, engine="frontier")
    rows = [{"peer": "a", "seconds": n, "outcomes": 10**n} for n in (1, 2, 3)]
    grid = np.linspace(0, 1, 21)
    pictures = {
        "diagram": lambda: draw.diagram(vote()),
        "influence": lambda: draw.influence(vote()),
        "tree": lambda: draw.tree(signalling()),
        "phase": lambda: draw.phase(two_by_two()),
        "heatmap": lambda: draw.heatmap(
            "x", grid, "y", grid, grid[:, None] > grid, "t", lambda x: x
        ),
        "lines": lambda: draw.lines("x", grid, {"a": grid, "b": grid**2}),
        "bars": lambda: draw.bars({"one": {"a": 1, "b": 2}, "two": {"a": 2, "b": 1}}),
        "payoffs": lambda: draw.payoffs(report),
        "scaling": lambda: draw.scaling(rows),
    }
    for name, picture in pictures.items():
        for number in (1, 2):
            figure = picture()
            save(figure, tmp_path / f"{name}{number}.svg")
            if name == "heatmap":
                save(figure, tmp_path / f"{name}{number}.png")
    for first in tmp_path.glob("*1.*"):
        second = first.with_name(first.name.replace("1.", "2."))
        assert first.read_bytes() == second.read_bytes()
        assert first.stat().st_size > 5000
    assert len(list(tmp_path.glob("*1.*"))) == len(pictures) + 1


def test_the_key_of_a_diagram_shows_the_kinds_it_has():
    labels = {text.get_text() for text in draw.diagram(GAMES["dilemma"]).axes[0].texts}
    assert {"decision", "payoff"} <= labels
    assert not {"nature", "computed"} & labels
    assert isinstance(all_boxes(nested(parts_of(GAMES["dilemma"], "test")).children)[0], Box)


def test_a_game_without_nodes_has_no_picture():
    @game
    def empty(b):
        pass

    for picture in (draw.diagram, draw.influence):
        with pytest.raises(InputError, match="empty has nothing to draw"):
            picture(empty())
