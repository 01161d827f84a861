"""The engine against every history listed one by one, its NumPy reference, and derivatives."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workingpapers.opengames import kernels
from workingpapers.opengames.compile import compile_trace
from workingpapers.opengames.evaluate import Packed, evaluate_reference
from workingpapers.opengames.games import Game
from workingpapers.opengames.sampling import PLAYERS, random_game
from workingpapers.opengames.spaces import ABSENT
from workingpapers.opengames.strategy import random_profile, resolve, uniform
from workingpapers.opengames.trace import DecideNode, LetNode, NatureNode, Trace, Wire

seeds = st.integers(0, 2**31)


# ---- the slow reference


def listed(trace: Trace, strategies: dict[str, Any]) -> tuple[Counter[str], dict[Any, Any]]:
    """Expected credits, and (reach, {action: credit}) by (player, decision, seen): all histories.

    Reads the trace's nodes in their order and keeps whole histories; nothing is merged.
    """
    rows: dict[Any, tuple[list[float], Counter[Any]]] = {}

    def play(at: int, values: dict[int, Any], chance: float) -> Counter[str]:
        if at == len(trace.nodes):
            return Counter()
        node = trace.nodes[at]
        there = all(values[wire] in allowed for wire, allowed in node.guards)
        given = [values[wire] for wire in node.parents if values[wire] is not ABSENT]
        merge = isinstance(node, LetNode) and node.merge
        there = there and (len(given) == len(node.parents) or (merge and bool(given)))

        def then(value: Any, weight: float = 1.0) -> Counter[str]:
            return play(at + 1, {**values, at: value}, chance * weight)

        if not there:
            return then(ABSENT)
        if isinstance(node, LetNode):
            return then(given[0] if node.function is None else node.function(*given))
        if isinstance(node, NatureNode):
            drawn = node.distribution(*given) if callable(node.distribution) else node.distribution
            return mixed({v: (p, then(v, p)) for v, p in drawn.items()})
        if isinstance(node, DecideNode):
            seen = tuple(values[wire] for wire in node.sees)
            who = node.player if isinstance(node.player, str) else values[node.player]
            move = strategies[node.label](*seen)
            worth = {a: then(a, move.get(a, 0.0)) for a in node.actions}
            reach, credit = rows.setdefault((who, node.label, seen), ([0.0], Counter()))
            reach[0] += chance
            for action, total in worth.items():
                credit[action] += chance * total[who]
            return mixed({a: (move.get(a, 0.0), total) for a, total in worth.items()})
        paid = node.scale
        for factor in node.factors:
            paid *= factor.function(*[values[wire] for wire in factor.parents])
        total = then(None)
        for who in (values[node.players],) if isinstance(node.players, int) else node.players:
            total[who] += paid
        return total

    def mixed(parts: dict[Any, tuple[float, Counter[str]]]) -> Counter[str]:
        total: Counter[str] = Counter()
        for weight, credits in parts.values():
            for who, credit in credits.items():
                total[who] += weight * credit
        return total

    return play(0, {}, 1.0), rows


def with_branches_and_roles(game: Game, generator: np.random.Generator) -> Game:
    """The random game, then a branch with a draw, a decision and a merge, and a named player."""
    trace = game.trace
    assert trace is not None
    wires = [
        Wire(trace, node.index, node.label)
        for node in trace.nodes
        if isinstance(node, NatureNode | DecideNode)
    ]
    gate = wires[int(generator.integers(len(wires)))]
    with trace.when(gate, 0):
        coin = trace.nature({0: 0.25, 1: 0.75}, name="coin")
        inner = trace.decide(PLAYERS[0], [0, 1], sees=[coin], name="inner")
        with trace.discount(0.5):
            trace.pay(PLAYERS[:2], lambda c, m: 3.0 * (c == m), coin, inner)
    with trace.when(gate, 1, 2):
        other = trace.let(lambda g: g + 4, gate)
    both = trace.merge(inner, other)
    who = trace.let(lambda v: PLAYERS[v % 2], both)
    role = trace.decide(who, [0, 1, 2], sees=[both, wires[-1]], name="role")
    trace.pay(who, lambda v, m: float((2 * v + m) % 4), both, role, times=[(lambda m: m - 1, role)])
    trace.pay(PLAYERS[2], lambda m, w: float(m * w), role, wires[0])
    return Game(trace)


def mixed_strategies(game: Game, generator: np.random.Generator) -> dict[str, Any]:
    """For every decision a function of what is seen, with some actions never taken."""

    def strategy(table: dict[Any, dict[Any, float]]) -> Any:
        return lambda *seen: table[seen]

    found = {}
    for decision in game.frontier.decisions:
        table = {}
        for observation, actions in zip(decision.observations, decision.actions, strict=True):
            weights = generator.dirichlet(np.ones(len(actions))) * (
                generator.random(len(actions)) < 0.7
            )
            weights = weights / weights.sum() if weights.sum() else np.eye(len(actions))[0]
            table[observation] = dict(zip(actions, map(float, weights), strict=True))
        found[decision.name] = strategy(table)
    return found


@settings(max_examples=10)
@given(seeds, st.booleans())
def test_the_engine_is_all_histories_one_by_one(seed, extended):
    generator = np.random.default_rng(seed)
    game = random_game(generator, decisions=3, recall=bool(seed % 2))
    if extended:
        game = with_branches_and_roles(game, generator)
    strategies = mixed_strategies(game, generator)
    payoffs, rows = listed(game.trace, strategies)
    report = game.check(strategies, engine="frontier")
    for player, value in report.payoffs.items():
        assert value == pytest.approx(payoffs[player], abs=1e-9)
    found = {(one.player, one.decision, one.observation): one for one in report.decisions}
    reached = {key: row for key, row in rows.items() if row[0][0] > 0}
    assert found.keys() == reached.keys()
    for key, ([reach], credit) in reached.items():
        one = found[key]
        played = strategies[key[1]](*key[2])
        best = max(credit.values())
        current = sum(weight * credit[action] for action, weight in played.items())
        assert one.reach == pytest.approx(reach, abs=1e-12)
        assert one.gain * reach == pytest.approx(best - current, abs=1e-9)
        for action, worth in one.action_values.items():
            # Payoffs count from here on: only differences are comparable.
            assert (one.best_payoff - worth) * reach == pytest.approx(
                best - credit[action], abs=1e-9
            )
    assert report.ok == all(one.gain <= 1e-9 for one in found.values())


# ---- kernels and their reference


def same(one: Any, other: Any, at: int = 0) -> None:
    """Values at one point against those of the reference."""
    for name in ("reach", "totals", "group_weight", "numerator"):
        np.testing.assert_allclose(
            getattr(one, name)[:, at], getattr(other, name)[:, 0], rtol=0, atol=1e-9, err_msg=name
        )


@settings(max_examples=10)
@given(seeds)
def test_kernels_are_their_numpy_reference(seed):
    generator = np.random.default_rng(seed)
    game = with_branches_and_roles(random_game(generator, decisions=3), generator)
    packed = game.packed
    profiles = [random_profile(game.frontier, generator, pure=pure) for pure in (True, False, True)]
    expected = [evaluate_reference(packed, profile) for profile in profiles]
    for profile, values in zip(profiles, expected, strict=True):
        same(packed.evaluate(profile[:, None]), values)
    batch = packed.evaluate(np.stack(profiles, axis=1))
    for at, values in enumerate(expected):
        same(batch, values, at)
    np.testing.assert_allclose(
        packed.payoffs(batch)[:, 1], packed.payoffs(expected[1])[:, 0], atol=1e-9
    )
    current, best = packed.gains(np.stack(profiles, axis=1), batch)
    for at, profile in enumerate(profiles):
        one, top = packed.gains(profile[:, None], expected[at])
        np.testing.assert_allclose(current[:, at], one[:, 0], atol=1e-9)
        np.testing.assert_allclose(best[:, at], top[:, 0], atol=1e-9)


def taxed(fine: Any) -> Trace:
    trace = Trace()
    kind = trace.nature({"strict": 0.3, "lax": 0.7}, name="kind")
    move = trace.decide("ann", ["obey", "steal"], name="move")
    watch = trace.decide("bob", ["look", "doze"], sees=[kind], name="watch")
    trace.pay(
        "ann",
        lambda m, w, k: (4.0 - fine * (1 + (k == "strict")) * (w == "look")) * (m == "steal"),
        move, watch, kind,
    )  # fmt: skip
    trace.pay("bob", lambda m, w: (fine * (m == "steal") - 1.0) * (w == "look"), move, watch)
    return trace


@pytest.mark.parametrize("batched_profile", [False, True])
def test_batched_payoffs_are_one_game_a_point(batched_profile):
    fines = np.array([0.0, 1.5, 4.0, 9.0])
    frontier = compile_trace(taxed(fines), n_points=4)
    packed = Packed(frontier)
    generator = np.random.default_rng(1)
    count = 4 if batched_profile else 1
    profile = np.stack([random_profile(frontier, generator) for _ in range(count)], axis=1)
    values = packed.evaluate(profile)
    for at, fine in enumerate(fines):
        alone = Packed(compile_trace(taxed(float(fine))))
        same(values, evaluate_reference(alone, profile[:, at % count]), at)


def test_weights_replace_reach_within_observations():
    game = Game(taxed(2.0))
    packed = game.packed
    profile = uniform(game.frontier)
    weight = np.ones(packed.n_states)
    values = packed.evaluate(profile[:, None], weight=weight)
    plain = packed.evaluate(profile[:, None])
    np.testing.assert_allclose(values.totals, plain.totals)
    np.testing.assert_allclose(values.reach, plain.reach)
    # Stealing is worth 4, less a fine of 2 or 4 at even odds; the kind is strict with .3, or with
    # .5 if its two states weigh the same.
    assert packed.action_values(plain)[:2, 0] == pytest.approx([0.0, 2.7])
    assert packed.action_values(values)[:2, 0] == pytest.approx([0.0, 2.5])
    np.testing.assert_allclose(packed.action_values(values)[2:], packed.action_values(plain)[2:])


# ---- one pass forward, one back


def test_an_agent_check_is_one_pass_forward_and_one_back(monkeypatch):
    rng = np.random.default_rng(0)
    games = [random_game(rng, decisions=4), Game(taxed(2.0))]
    packs = [(game, game.packed, uniform(game.frontier)) for game in games]
    calls: Counter[str] = Counter()

    def counted(name: str, kernel: Any) -> Any:
        def call(*arguments: Any) -> Any:
            calls[name] += 1
            return kernel(*arguments)

        return call

    for name, kernel in vars(kernels).copy().items():
        if hasattr(kernel, "py_func"):
            monkeypatch.setattr(kernels, name, counted(name, kernel))
    for game, packed, profile in packs:
        calls.clear()
        report = game.check(profile, engine="frontier")
        assert report.checked > 1
        assert game.packed is packed
        assert sorted(name.split("_")[0] for name in calls) == ["backward", "forward"]
        assert set(calls.values()) == {1}


# ---- derivatives


@settings(max_examples=8)
@given(seeds)
def test_the_derivative_of_a_payoff_is_reach_times_value(seed):
    """dU/dπ(x, y) = P(x) Q(x, y), and U is multilinear: any step gives it exactly."""
    generator = np.random.default_rng(seed)
    game = random_game(generator, decisions=4, recall=False)
    frontier, packed = game.frontier, game.packed
    profile = random_profile(frontier, generator)
    values = packed.evaluate(profile[:, None])
    moved = np.repeat(profile[:, None], frontier.n_slots, axis=1) + 0.5 * np.eye(frontier.n_slots)
    payoffs = packed.payoffs(packed.evaluate(moved))
    before = packed.payoffs(values)[:, :1]
    derivative = (payoffs - before) / 0.5
    owner = np.repeat(packed.group_player, np.diff(packed.group_start))
    numeric = derivative[owner, packed.report_to_slot]
    np.testing.assert_allclose(values.numerator[:, 0], numeric, atol=1e-9)


@settings(max_examples=5)
@given(seeds)
def test_action_values_average_to_what_is_still_to_come(seed):
    """Over a decision's observations, reach times mean value is one and the same expectation."""
    generator = np.random.default_rng(seed)
    game = random_game(generator, decisions=4)
    packed = game.packed
    profile = random_profile(game.frontier, generator)
    values = packed.evaluate(profile[:, None])
    current, _ = packed.gains(profile[:, None], values)
    total = packed.payoffs(values)[:, 0]
    for number, decision in enumerate(game.frontier.decisions):
        groups = np.flatnonzero(packed.group_decision == number)
        assert values.group_weight[groups, 0].sum() == pytest.approx(1.0, abs=1e-12)
        (player,) = decision.players
        ahead = values.group_weight[groups, 0] @ current[groups, 0]
        paid = sum(
            float(
                (values.reach[packed.state_offset[at] + source(stage), 0] * chances(stage, profile))
                @ packed.own_pay(stage, game.players.index(player))
            )
            for at, stage in enumerate(game.frontier.stages[: decision.stage])
        )
        assert ahead + paid == pytest.approx(total[game.players.index(player)], abs=1e-9)


def source(stage: Any) -> np.ndarray:
    return np.repeat(np.arange(stage.n_states), np.diff(stage.start))


def chances(stage: Any, profile: np.ndarray) -> np.ndarray:
    return stage.probability if stage.decision < 0 else profile[stage.slot]


def test_games_without_decisions_payoffs_or_anything():
    coin = Trace()
    coin.pay("ann", float, coin.nature([0, 1], name="coin"))
    assert Game(coin).payoffs({}) == {"ann": 0.5}
    idle = Trace()
    idle.decide("ann", "LR")
    assert Game(idle).payoffs({"ann": "L"}) == {"ann": 0.0}
    for trace, strategies in ((coin, {}), (idle, {"ann": "R"}), (Trace(), {})):
        for notion in ("agent", "player", "perfect", "pbe"):
            assert Game(trace).check(strategies, notion).ok
    assert Game(Trace()).payoffs({}) == {}
    values = Game(idle).packed.evaluate(uniform(Game(idle).frontier)[:, None])
    assert values.totals.shape == (0, 1)
    assert resolve(Game(coin).frontier, {}).shape == (0,)
