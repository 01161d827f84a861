"""Contraction against the frontier on static games, folds against enumeration, and the choice."""

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workingpapers.foundation.errors import InputError
from workingpapers.opengames.contract import (
    Contraction,
    NotStatic,
    choose_engine,
    distribution_of,
    ties_at,
)
from workingpapers.opengames.games import Game
from workingpapers.opengames.trace import OPERATIONS, Fold, Trace, Wire

seeds = st.integers(0, 2**31)


def third(one: int, other: int) -> int:
    return (one + other) % 3


FOLDS = (*OPERATIONS, third)


def scalar(value: Any) -> float:
    return 10.0 * value[0] + value[1] if isinstance(value, tuple) else float(value)


def columnar(values: np.ndarray) -> np.ndarray:
    return 10.0 * values[:, 0] + values[:, 1] if values.ndim > 1 else values * 1.0


# ---- the two engines


def mixtures(trace: Trace, generator: np.random.Generator) -> dict[str, Any]:
    """A mixed strategy for every decision, at times pure."""

    def strategy(numbers: np.ndarray, sizes: Any) -> Any:
        def play(*seen: Any) -> dict[int, float]:
            actions = sizes(*seen) if callable(sizes) else tuple(sizes)
            weights = numbers[sum(int(v) * (k + 1) for k, v in enumerate(seen)) % 7, : len(actions)]
            weights = weights if weights.sum() else np.ones(len(actions))
            return dict(zip(actions, (weights / weights.sum()).tolist(), strict=True))

        return play

    found = {}
    for node in trace.nodes:
        if hasattr(node, "actions"):
            numbers = generator.exponential(size=(7, 4)) * (generator.random((7, 4)) < 0.7)
            found[node.label] = strategy(numbers, node.actions)
    return found


def random_static(generator: np.random.Generator) -> Trace:
    """Players with private draws and moves, one fold of their moves, every kind of payoff."""
    trace = Trace("static")
    count = int(generator.integers(2, 5))
    operation = FOLDS[int(generator.integers(len(FOLDS)))]
    vectorize = bool(generator.integers(2))
    moves: list[Wire] = []
    signals: list[Wire | None] = []
    for number in range(count):
        signal = None
        if generator.random() < 0.6:
            signal = trace.nature({0: 0.2, 1: 0.5, 2: 0.3}, name=f"signal{number}")
        sees = [] if signal is None else [signal]
        width = int(generator.integers(2, 4))
        actions: Any = range(width)
        if signal is not None and generator.random() < 0.3:
            actions = lambda s, width=width: tuple(range(s % 2, width))  # noqa: E731
        moves.append(trace.decide(f"p{number}", actions, sees))
        signals.append(signal)
    operands = [
        move if signal is None or generator.random() < 0.5
        else trace.let(lambda m, s: (m + s) % 3, move, signal)
        for move, signal in zip(moves, signals, strict=True)
    ]  # fmt: skip
    total = trace.fold(operation, operands)
    trace.pay([f"p{k}" for k in range(count)], columnar if vectorize else scalar, total,
              vectorize=vectorize)  # fmt: skip
    for number, (move, signal) in enumerate(zip(moves, signals, strict=True)):
        player = f"p{number}"
        other = moves[(number + 1) % count]
        trace.pay(player, lambda m, k=number: float((m * 7 + k) % 5), move)
        trace.pay(player, lambda a, b, k=number: float((3 * a + 5 * b + k) % 4), move, other)
        trace.pay(player, lambda t, m: scalar(t) * (1 + m), total, move)
        level = trace.let(lambda t: scalar(t) % 4, total)
        trace.pay(player, lambda v: v + 1, level, times=[(lambda m: m - 0.5, move)])
        if signal is not None:
            trace.pay(player, lambda s, m: s * m, signal, move, vectorize=vectorize)
            with trace.discount(0.5):
                trace.pay(player, lambda t, s: scalar(t) * s, total, signal)
        if operation == "highest" and operands[number] is move:
            trace.pay(player, lambda s: s, trace.share(move, total),
                      times=[(lambda m: 6.0 - m, move)])  # fmt: skip
    trace.pay("idle", scalar, total)
    return trace


def assert_engines_agree(trace: Trace, strategies: dict[str, Any]) -> None:
    game = Game(trace)
    one = game.check(strategies, engine="frontier")
    other = Game(trace).check(strategies, engine="contraction")
    assert (one.engine, other.engine) == ("frontier", "contraction")
    assert other.payoffs == pytest.approx(one.payoffs, abs=1e-9)
    assert other.regret == pytest.approx(one.regret, abs=1e-9)
    assert one.payoffs.keys() == other.payoffs.keys()
    assert one.ok == other.ok
    assert one.checked == other.checked
    known = {(row.decision, row.observation): row for row in one.decisions}
    for row in other.decisions:
        twin = known.pop((row.decision, row.observation))
        assert row.player == twin.player
        assert row.reach == pytest.approx(twin.reach, abs=1e-12)
        assert row.current == pytest.approx(twin.current)
        assert row.gain == pytest.approx(twin.gain, abs=1e-9)
        # The frontier leaves out what was paid before; differences are what both give.
        for action, worth in row.action_values.items():
            assert row.best_payoff - worth == pytest.approx(
                twin.best_payoff - twin.action_values[action], abs=1e-9
            )
    assert not known


@settings(max_examples=10)
@given(seeds)
def test_contraction_is_the_frontier(seed):
    generator = np.random.default_rng(seed)
    trace = random_static(generator)
    assert_engines_agree(trace, mixtures(trace, generator))


@settings(max_examples=5)
@given(seeds)
def test_player_form_is_the_frontiers(seed):
    generator = np.random.default_rng(seed)
    trace = random_static(generator)
    strategies = mixtures(trace, generator)
    one = Game(trace).check(strategies, "player", engine="frontier")
    other = Game(trace).check(strategies, "player", engine="contraction")
    assert other.regret == pytest.approx(one.regret, abs=1e-9)
    assert one.ok == other.ok
    assert {(d.decision, d.observation) for d in one.deviations} == {
        (d.decision, d.observation) for d in other.deviations
    }


def test_a_player_with_two_decisions_and_a_shared_draw():
    """No fold: what several see in common, a player who moves twice, a wire read twice."""
    trace = Trace()
    common = trace.nature({0: 0.3, 1: 0.7}, name="common")
    private = trace.nature(lambda c: {c: 0.8, 1 - c: 0.2}, common, name="private")
    one = trace.decide("ann", [0, 1], sees=[common, private], name="one")
    two = trace.decide("ann", [0, 1, 2], sees=[private], name="two")
    bob = trace.decide("bob", [0, 1], sees=[common])
    trace.pay("ann", lambda a, b, c: float((a + 2 * b + c) % 3), one, two, bob)
    trace.pay("bob", lambda c, b, again: float(c == b) + again, common, bob, bob)
    trace.pay(["ann", "bob"], lambda c, p: float(c * p), common, private)
    assert_engines_agree(trace, mixtures(trace, np.random.default_rng(3)))
    with pytest.raises(InputError) as caught:
        Game(trace).check(mixtures(trace, np.random.default_rng(3)), "player", engine="contraction")
    assert str(caught.value) == (
        "notion player: the engine contraction needs one decision a player; take frontier"
    )


def test_the_share_of_the_highest_bid():
    """Three bidders at random: an even split of ties, by hand."""
    trace = Trace()
    bids = [trace.decide(f"p{k}", [0, 1, 2]) for k in range(3)]
    top = trace.fold("highest", bids)
    for number, bid in enumerate(bids):
        trace.pay(f"p{number}", lambda s: s, trace.share(bid, top),
                  times=[(lambda b: 5.0 - b, bid)])  # fmt: skip
    chances = [(0.2, 0.3, 0.5), (0.6, 0.4, 0.0), (1 / 3, 1 / 3, 1 / 3)]
    expected = [0.0, 0.0, 0.0]
    for chosen in product(range(3), repeat=3):
        chance = float(np.prod([chances[k][b] for k, b in enumerate(chosen)]))
        for number, bid in enumerate(chosen):
            if bid == max(chosen):
                expected[number] += chance * (5 - bid) / chosen.count(bid)
    strategies = {f"p{k}": dict(enumerate(part)) for k, part in enumerate(chances)}
    for engine in ("frontier", "contraction"):
        found = Game(trace).payoffs(strategies, engine=engine)
        assert list(found.values()) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("vectorize", [False, True])
@pytest.mark.parametrize("engine", ["frontier", "contraction"])
def test_a_third_of_a_large_prize_is_a_third(engine, vectorize):
    """All three bid and get back what they pay: no rounding makes staying out better."""
    trace = Trace()
    bids = [trace.decide(f"p{k}", [0, 1]) for k in range(3)]
    top = trace.fold("highest", bids)
    for number, bid in enumerate(bids):
        trace.pay(f"p{number}", lambda s: s * 3e6, trace.share(bid, top), vectorize=vectorize)
        trace.pay(f"p{number}", lambda b: -1e6 * b, bid)
    report = Game(trace).check({f"p{k}": 1 for k in range(3)}, engine=engine)
    assert report.ok
    assert report.max_regret <= 1e-9


def test_shares_of_bids_that_are_not_numbers():
    trace = Trace()
    bids = [trace.decide(f"p{k}", [(0, "a"), (0, "b"), (1, "a")]) for k in range(3)]
    top = trace.fold("highest", bids)
    for number, bid in enumerate(bids):
        trace.pay(f"p{number}", lambda s: s, trace.share(bid, top))
    mixed = {(0, "a"): 0.2, (0, "b"): 0.3, (1, "a"): 0.5}
    for engine in ("frontier", "contraction"):
        found = Game(trace).payoffs({f"p{k}": mixed for k in range(3)}, engine=engine)
        assert list(found.values()) == pytest.approx([1 / 3] * 3, abs=1e-10)


def test_a_crowd_of_bidders_is_the_closed_form():
    """P(win with y) = (F(y)^n - F(y-1)^n) / (n p): ten thousand to the fortieth outcomes."""
    bidders, levels = 40, 100
    trace = Trace("crowd")
    bids = [trace.decide(f"p{k}", range(levels)) for k in range(bidders)]
    top = trace.fold("highest", bids)
    for number, bid in enumerate(bids):
        trace.pay(f"p{number}", lambda b: levels - b, bid, vectorize=True,
                  times=[(lambda s: s, trace.share(bid, top))])  # fmt: skip
    game = Game(trace)
    assert game.engine == "contraction"
    even = np.full((1, levels), 1 / levels)
    report = game.check({f"p{k}": even for k in range(bidders)})
    y = np.arange(levels)
    win = (((y + 1) / levels) ** bidders - (y / levels) ** bidders) * levels / bidders
    worth = (levels - y) * win
    assert report.max_regret == pytest.approx(worth.max() - worth.mean(), abs=1e-9)
    found = np.array(list(report.decisions[7].action_values.values()))
    np.testing.assert_allclose(found, worth, atol=1e-9)
    assert report.payoffs["p3"] == pytest.approx(worth.mean(), abs=1e-9)


def test_unequal_action_sets_and_fractions_in_a_sum():
    trace = Trace()
    gifts = [
        trace.decide("ann", [0.5, 1.5, 4.0]),
        trace.decide("bob", [0, 1]),
        trace.decide("cleo", [-0.25, 0.25]),
    ]
    total = trace.fold("sum", gifts)
    trace.pay(["ann", "bob", "cleo"], lambda t: t * t, total)
    assert_engines_agree(trace, {"ann": {0.5: 0.2, 4.0: 0.8}, "bob": 1, "cleo": {-0.25: 1.0}})
    assert Contraction(trace).domain(total.index)[:3] == (0.25, 0.75, 1.25)


# ---- folds of independent contributions


@settings(max_examples=10)
@given(seeds, st.sampled_from(FOLDS), st.integers(1, 4))
def test_the_distribution_of_a_fold_is_its_enumeration(seed, operation, many):
    generator = np.random.default_rng(seed)
    name = "custom" if callable(operation) else operation
    function, contribution = (
        (operation, lambda v: v) if callable(operation) else OPERATIONS[operation]
    )
    groups = []
    for _ in range(many):
        width = int(generator.integers(1, 4))
        values = sorted(generator.choice(5, width, replace=False).tolist())
        domain = tuple(dict.fromkeys(contribution(value) for value in values))
        groups.append((domain, generator.dirichlet(np.ones(len(domain))), int(seed % 3) + 1))
    copies = [(domain, shares) for domain, shares, count in groups for _ in range(count)][:6]
    groups = [(domain, shares, 1) for domain, shares in copies] if len(copies) == 6 else groups
    expected: dict[Any, float] = {}
    for chosen in product(*(range(len(domain)) for domain, _ in copies)):
        value: Any = None
        chance = 1.0
        for place, (domain, shares) in zip(chosen, copies, strict=True):
            value = domain[place] if value is None else function(value, domain[place])
            chance *= shares[place]
        expected[value] = expected.get(value, 0.0) + chance
    found = distribution_of(Fold(name, function, (), ()), groups)
    assert sum(found.values()) == pytest.approx(1.0, abs=1e-12)
    for value in {*found, *expected}:
        assert found.get(value, 0.0) == pytest.approx(expected.get(value, 0.0), abs=1e-12)


@settings(max_examples=15)
@given(seeds, st.integers(1, 3))
def test_ties_are_their_enumeration(seed, many):
    generator = np.random.default_rng(seed)
    groups = []
    for _ in range(many):
        domain = tuple(generator.permutation(4)[: generator.integers(1, 5)].tolist())
        groups.append((domain, generator.dirichlet(np.ones(len(domain))), 2))
    values = (2, 0, 3, 5)
    copies = [(domain, shares) for domain, shares, count in groups for _ in range(count)]
    expected = np.zeros((len(values), len(copies) + 1))
    for chosen in product(*(range(len(domain)) for domain, _ in copies)):
        bids = [domain[place] for place, (domain, _) in zip(chosen, copies, strict=True)]
        chance = np.prod([shares[place] for place, (_, shares) in zip(chosen, copies, strict=True)])
        for row, value in enumerate(values):
            if max(bids) <= value:
                expected[row, bids.count(value)] += chance
    np.testing.assert_allclose(ties_at(groups, values), expected, atol=1e-12)


# ---- what cannot be contracted


def refused(build: Any) -> str:
    trace = Trace()
    a, b = trace.decide("ann", range(3)), trace.decide("bob", range(3))
    build(trace, a, b)
    with pytest.raises(NotStatic) as caught:
        Contraction(trace).prepare()
    return str(caught.value)


def branch(t: Trace, a: Wire, b: Wire) -> None:
    with t.when(a, 1):
        t.decide("cleo", "LR", name="inner")


def forty(t: Trace, a: Wire, b: Wire) -> None:
    t.pay("ann", lambda *values: 0.0, *[t.nature([0, 1]) for _ in range(15)])


def share_and_price(t: Trace, a: Wire, b: Wire) -> None:
    top = t.fold("highest", [a, b])
    t.pay("ann", lambda s: s, t.share(a, top), times=[(lambda h: h[0], top)])


def share_and_later_price(t: Trace, a: Wire, b: Wire) -> None:
    top = t.fold("highest", [a, b])
    price = t.let(lambda h: 5 - h[0], top)
    t.pay("ann", lambda s, p: s * p, t.share(a, top), price)


def double_fold(t: Trace, a: Wire, b: Wire) -> None:
    t.pay("ann", lambda x, y: x - y, t.fold("max", [a, b]), t.fold("min", [a, b]))


def correlated(t: Trace, a: Wire, b: Wire) -> None:
    card = t.nature(range(3), name="card")
    other = t.nature(lambda c: [k for k in range(3) if k != c], card, name="other")
    t.decide("cleo", "LR", sees=[card, other])


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (branch, "inner is played in a branch only"),
        (lambda t, a, b: t.merge(a), "it merges branches"),
        (
            lambda t, a, b: t.decide(t.nature(["ann", "bob"]), "LR", name="turn"),
            "the player of turn is named by a wire",
        ),
        (
            lambda t, a, b: t.pay(t.nature(["ann", "bob"]), 1.0),
            "a payoff goes to a player whom a wire names",
        ),
        (
            lambda t, a, b: t.fold("sum", [t.fold("max", [a, b]), t.decide("cleo", range(2))]),
            "a fold's contribution depends on another fold",
        ),
        (
            lambda t, a, b: t.fold("sum", [a, b, a]),
            "contributions to a fold depend on one another",
        ),
        (
            lambda t, a, b: t.decide("cleo", "LR", sees=[t.fold("sum", [a, b])]),
            "cleo is made after a fold is known",
        ),
        (forty, "a payoff depends on 15 wires"),
        (double_fold, "a payoff depends on two folds at once"),
        (share_and_price, "a payoff depends on a fold and on a share of it"),
        (share_and_later_price, "a payoff depends on a fold and on a share of it"),
        (
            lambda t, a, b: t.pay("ann", lambda s, x, y: s - x - y, t.fold("sum", [a, b]), a, b),
            "a payoff depends on several contributions to a fold",
        ),
        (
            lambda t, a, b: t.pay(
                "ann", lambda s: s, t.share(t.decide("cleo", range(3)), t.fold("highest", [a, b]))
            ),
            "share: its wire is not among those of its fold",
        ),
        (
            lambda t, a, b: t.decide("cleo", "LR", sees=[a, a]),
            "cleo sees a wire twice",
        ),
        (correlated, "cleo never sees some combinations of its wires' values"),
        (
            lambda t, a, b: t.pay("ann", float, t.fold("sum", [t.decide("dan", [0, 2**0.5]), b])),
            "a sum's contributions are not on one grid",
        ),
    ],
)
def test_why_a_game_is_not_static(build, reason):
    assert refused(lambda *wires: build(*wires) is None) == reason


def test_what_contraction_does_not_answer():
    trace = Trace()
    seen = trace.nature([1, 0], name="seen")
    trace.pay("ann", lambda m: m, trace.decide("ann", [0, 1], sees=[seen]))
    game = Game(trace)
    for notion in ("perfect", "pbe"):
        with pytest.raises(InputError) as caught:
            game.check({"ann": 1}, notion, engine="contraction")
        assert str(caught.value) == (
            f"notion {notion}: the engine contraction checks agent and player"
        )
    with pytest.raises(InputError) as caught:
        game.check({"ann": np.eye(2)}, engine="contraction")
    assert str(caught.value) == (
        "strategy of ann: the engine contraction takes no array for several observations; give "
        "{observation: move} or a function"
    )
    with pytest.raises(InputError) as caught:
        game.check(np.ones(4) / 2, engine="contraction")
    assert str(caught.value) == (
        "strategies: the engine contraction takes {decision: strategy}, not one vector"
    )


# ---- the choice


def gifts(players: int, levels: int) -> Game:
    trace = Trace("gifts")
    given_ = [trace.decide(f"p{k}", range(levels)) for k in range(players)]
    total = trace.fold("sum", given_)
    for number, gift in enumerate(given_):
        trace.pay(f"p{number}", lambda t, g: 0.4 * t - g, total, gift)
    return Game(trace)


def auction(levels: int) -> Game:
    trace = Trace("auction")
    values = [trace.nature(range(levels), name=f"v{k}") for k in range(2)]
    bids = [trace.decide(f"p{k}", range(levels), sees=[values[k]]) for k in range(2)]
    for own in range(2):
        trace.pay(
            f"p{own}",
            lambda v, x, y: np.where(x > y, v - x, np.where(x == y, (v - x) / 2, 0.0)),
            values[own], bids[own], bids[1 - own], vectorize=True,
        )  # fmt: skip
    return Game(trace)


def test_wide_games_are_contracted_and_small_ones_not():
    assert auction(4).engine == "frontier"
    wide = auction(24)
    assert choose_engine(wide) == "contraction"
    # Half of one's value is an equilibrium up to the grid.
    report = wide.check({"p0": lambda v: v // 2, "p1": lambda v: v // 2})
    assert report.engine == "contraction"
    assert 0 <= report.max_regret <= 0.5
    assert wide.explain().splitlines()[:2] == [
        "auction: engine contraction",
        "  pay p0: 13,824 combinations of v0, p0, p1",
    ]
    assert gifts(4, 3).engine == "frontier"
    assert gifts(40, 30).engine == "contraction"
    assert gifts(40, 30).check({f"p{k}": 0 for k in range(40)}).ok
    # What can be seen is known without listing states.
    assert wide.reachable() == {"p0": list(range(24)), "p1": list(range(24))}


def test_combinations_that_never_occur_do_not_matter():
    """Functions that fail on impossible arguments: contraction would ask, the frontier does not."""

    def build(copies: int) -> Game:
        trace = Trace("cards")
        better = {(a, b): a > b for a in range(3) for b in range(3) if a != b}
        for number in range(copies):
            card = trace.nature(range(3), name=f"card{number}")
            other = trace.nature(
                lambda c: [k for k in range(3) if k != c], card, name=f"other{number}"
            )
            wins = trace.let(lambda a, b: better[a, b], card, other)
            move = trace.decide(f"p{number}", [0, 1], sees=[card])
            trace.pay(f"p{number}", lambda w, m: m * (1 if w else -1), wins, move)
        return Game(trace)

    game = build(2)
    assert game.engine == "frontier"
    assert game.payoffs({"p0": 1, "p1": {0: 0, 1: 0, 2: 1}}) == pytest.approx(
        {"p0": 0.0, "p1": 1 / 3}
    )


def test_a_wide_game_that_only_the_frontier_can_sum_goes_there():
    trace = Trace("pairs")
    moves = [trace.decide(f"p{k}", range(12)) for k in range(4)]
    total = trace.fold("sum", moves)
    for k in range(4):
        trace.pay(f"p{k}", lambda t, a, b: float(t - a - b), total, moves[k], moves[(k + 1) % 4])
    game = Game(trace)
    assert game.engine == "frontier"
    assert game.payoffs({f"p{k}": k for k in range(4)}) == {
        "p0": 5.0, "p1": 3.0, "p2": 1.0, "p3": 3.0,
    }  # fmt: skip
