"""Markov games against closed forms, transfer matrices and their own unrollings."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workingpapers.foundation.errors import InputError
from workingpapers.opengames import dynamic
from workingpapers.opengames.dynamic import (
    MarkovGame,
    ecological_public_good,
    grim_trigger,
    repeated_prisoners_dilemma,
)

GRIM = {player: {"trust": "C", "broken": "D"} for player in ("player1", "player2")}
# What the first player earns, by both moves.
EARNED = {("C", "C"): 3, ("C", "D"): 0, ("D", "C"): 5, ("D", "D"): 1}


def three_stages():
    """Payoffs .5, .3, 1 on the way through three states."""

    def stage(b, state):
        b.pay("one", lambda at: (0.5, 0.3, 1.0)[at], state)
        return b.let(lambda at: min(at + 1, 2), state)

    return MarkovGame([0, 1, 2], stage)


# ---- discounting


def test_a_stage_is_discounted_as_often_as_stages_came_before():
    game = three_stages().unroll(3, 0.9, 0)
    assert game.payoffs({})["one"] == pytest.approx(0.5 + 0.9 * 0.3 + 0.81 * 1, abs=1e-12)
    assert game.payoffs({})["one"] == pytest.approx(1.58, abs=1e-12)
    values = three_stages().values({}, 0.9)
    assert values[0]["one"] == pytest.approx(0.5 + 0.9 * 0.3 + 0.81 / 0.1)
    assert values[2]["one"] == pytest.approx(10)


def transfer_matrix_value(rounds, discount, first, second):
    """The first player's payoff, from the distribution of the last moves, round by round."""
    last = {("", ""): 1.0}
    total = 0.0
    for number in range(rounds):
        fresh = {}
        for moves, weight in last.items():
            p, q = first(*moves), second(*moves)
            for one, chance in (("C", p), ("D", 1 - p)):
                for two, other in (("C", q), ("D", 1 - q)):
                    fresh[one, two] = fresh.get((one, two), 0.0) + weight * chance * other
        total += discount**number * sum(w * EARNED[moves] for moves, w in fresh.items())
        last = fresh
    return total


@settings(max_examples=10)
@given(
    st.integers(1, 5),
    st.floats(0, 1),
    st.lists(st.floats(0, 1), min_size=10, max_size=10),
)
def test_repeated_dilemma_is_the_transfer_matrix(rounds, discount, chances):
    keys = [("", ""), ("C", "C"), ("C", "D"), ("D", "C"), ("D", "D")]
    first, second = (
        dict(zip(keys, chances, strict=False)),
        dict(zip(keys, chances[5:], strict=True)),
    )
    game = repeated_prisoners_dilemma(rounds=rounds, discount=discount)
    strategies = {}
    for name, plan in (("player1", first), ("player2", second)):
        for number in range(rounds):
            strategies[f"{name}@{number + 1}"] = lambda a, b, plan=plan: {
                "C": plan[a, b],
                "D": 1 - plan[a, b],
            }
    expected = transfer_matrix_value(
        rounds, discount, lambda a, b: first[a, b], lambda a, b: second[a, b]
    )
    assert game.payoffs(strategies)["player1"] == pytest.approx(expected, abs=1e-9)


def test_three_rounds_of_cooperation_nine_times_in_ten():
    game = repeated_prisoners_dilemma(rounds=3, discount=0.9)
    mostly = {f"player{i}@{t}": {"C": 0.9, "D": 0.1} for i in (1, 2) for t in (1, 2, 3)}
    stage = 0.81 * 3 + 0.09 * 5 + 0.01 * 1
    expected = transfer_matrix_value(3, 0.9, lambda *_: 0.9, lambda *_: 0.9)
    assert expected == pytest.approx(stage * (1 + 0.9 + 0.81))
    assert game.payoffs(mostly)["player1"] == pytest.approx(expected, abs=1e-12)


def test_a_repeated_dilemma_grows_by_the_round_not_by_the_history():
    sizes = [repeated_prisoners_dilemma(rounds=r).size() for r in (10, 20, 40)]
    steps = np.diff([size.transitions for size in sizes])
    assert steps[1] == 2 * steps[0]
    assert sizes[2].log10_outcomes == pytest.approx(40 * np.log10(4))


# ---- stationary equilibria


def test_grim_trigger_needs_a_discount_of_one_half():
    game = grim_trigger()
    assert game.critical_discount(GRIM) == pytest.approx(0.5, abs=1e-9)
    assert not game.check(GRIM, 0.499999).ok
    assert game.check(GRIM, 0.500001).ok
    assert game.max_gain(GRIM, 0.25) == pytest.approx(5 + 0.25 / 0.75 - 3 / 0.75)


@settings(max_examples=6)
@given(st.floats(1.5, 4), st.floats(0.1, 3), st.floats(-1, 0.9))
def test_grim_trigger_by_its_formula(reward, more, punishment):
    temptation = reward + more
    game = grim_trigger(
        reward=reward, temptation=temptation, punishment=punishment, sucker=punishment - 1
    )
    expected = more / (temptation - punishment)
    assert game.critical_discount(GRIM) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("discount", "expected"),
    [
        (0.5, {("D", "C"): (-2.58462, -7.50769)}),
        (0.9, {("C", "C"): (10, -16.31579), ("D", "C"): None}),
        (0.98, {("C", "C"): (50, 7.62712), ("D", "C"): None}),
    ],
)
def test_ecological_public_good(discount, expected):
    game = ecological_public_good()
    found = game.pure_equilibria(discount, symmetric=True)
    assert found.complete
    policies = {}
    for one in found:
        by_state = dict(
            zip(game.states, _moves(one.strategies["player1"], game.states), strict=True)
        )
        assert one.strategies["player2"] == one.strategies["player1"]
        values = game.values(one.profile, discount)
        policies[tuple(by_state.values())] = [values[state]["player1"] for state in game.states]
        assert one.ok
        assert one.regret <= 1e-9
    assert set(policies) == set(expected)
    for policy, values in expected.items():
        if values is not None:
            assert policies[policy] == pytest.approx(values, abs=1e-5)


def _moves(strategy, states):
    return [strategy] * len(states) if isinstance(strategy, str) else [strategy[s] for s in states]


def test_all_pure_equilibria_contain_the_symmetric_ones():
    game = ecological_public_good()
    for discount in (0.5, 0.9):
        everything = {tuple(one.profile) for one in game.pure_equilibria(discount)}
        symmetric = {tuple(one.profile) for one in game.pure_equilibria(discount, symmetric=True)}
        assert symmetric <= everything
        for profile in everything:
            assert game.check(np.array(profile), discount).ok


def test_values_are_the_limit_of_unrollings():
    game = ecological_public_good()
    plan = {"player1": {"prosperous": {"C": 0.3, "D": 0.7}, "degraded": "D"}, "player2": "C"}
    values = game.values(plan, 0.6)
    for start in game.states:
        long = game.unroll(80, 0.6, start)
        paid = long.payoffs(game.unrolled(plan, 80), engine="frontier")
        assert paid == pytest.approx(values[start], abs=1e-9)


def test_one_shot_gains_are_gains_of_long_games():
    """A profile that fails at one stage fails in the unrolled game, by the same amount."""
    game = grim_trigger()
    gain = game.max_gain(GRIM, 0.3)
    long = game.unroll(60, 0.3, "trust")
    report = long.check(game.unrolled(GRIM, 60), engine="frontier")
    first = next(one for one in report.deviations if one.decision == "player1@1")
    assert first.gain == pytest.approx(gain, abs=1e-9)


def test_many_states_go_through_the_sparse_solver(monkeypatch):
    def stage(b, state):
        b.pay("one", float, state)
        return b.nature(lambda at: {at: 0.5, (at + 1) % 7: 0.5}, state, name="drift")

    game = MarkovGame(range(7), stage)
    dense = game.values({}, 0.8)
    monkeypatch.setattr(dynamic, "_DENSE", 0)
    sparse = game.values({}, 0.8)
    moves = 0.5 * np.eye(7) + 0.5 * np.roll(np.eye(7), 1, axis=1)
    expected = np.linalg.solve(np.eye(7) - 0.8 * moves, np.arange(7.0))
    for at in range(7):
        assert dense[at]["one"] == pytest.approx(expected[at], abs=1e-12)
        assert sparse[at]["one"] == pytest.approx(expected[at], abs=1e-12)


def test_players_paid_together_and_alone_keep_their_own_continuations():
    def stage(b, state):
        move = b.decide("ann", [0, 1], sees=[state])
        b.pay(["ann", "bob"], lambda s: 2.0 * s, state)
        b.pay("bob", lambda m: -1.0 * m, move)
        return move

    game = MarkovGame([0, 1], stage)
    values = game.values({"ann": 1}, 0.5)
    assert values[0] == {"ann": pytest.approx(2), "bob": pytest.approx(0)}
    assert values[1] == {"ann": pytest.approx(4), "bob": pytest.approx(2)}
    assert game.check({"ann": 1}, 0.5).ok
    assert game.max_gain({"ann": 0}, 0.5) == pytest.approx(1.0)


# ---- refusals


def test_discounts_out_of_range_are_refused():
    game = grim_trigger()
    for discount in (1.0, 1.5, -0.1):
        with pytest.raises(InputError, match="expected at least 0 and below 1"):
            game.check(GRIM, discount)
        with pytest.raises(InputError, match="expected at least 0 and below 1"):
            game.values(GRIM, discount)
    with pytest.raises(InputError, match=r"discount 1\.1: expected at least 0 and at most 1"):
        game.unroll(2, 1.1, "trust")
    with pytest.raises(InputError, match="horizon 0: expected at least 1"):
        game.unroll(0, 0.5, "trust")
    with pytest.raises(InputError, match="start nowhere: expected one of trust, broken"):
        game.unroll(2, 0.5, "nowhere")


def test_no_change_between_the_ends_is_refused():
    always = dict.fromkeys(("player1", "player2"), "D")
    with pytest.raises(
        InputError, match=r"the profile is an equilibrium at 0 and at 0\.999999; expected a change"
    ):
        grim_trigger().critical_discount(always)


def test_stages_have_to_lead_to_a_state():
    def nowhere(b, state):
        b.pay("one", float, state)
        return 1

    def outside(b, state):
        return b.let(lambda at: at + 1, state)

    def sometimes(b, state):
        with b.when(state, 0):
            return b.let(lambda at: at, state)

    with pytest.raises(InputError, match="stage returned 1; expected the wire of the next state"):
        MarkovGame([0], nowhere).values({}, 0.5)
    with pytest.raises(InputError, match="the value 2 is outside the space State"):
        MarkovGame([0, 1], outside).values({}, 0.5)
    with pytest.raises(InputError, match="from state 1 there is not always a next state"):
        MarkovGame([0, 1], sometimes).values({}, 0.5)
    with pytest.raises(InputError, match="expected at least one state, each once"):
        MarkovGame([0, 0], outside)


def test_symmetric_needs_equals():
    def stage(b, state):
        one = b.decide("ann", [0, 1], sees=[state])
        two = b.decide("bob", [0, 1, 2], sees=[state])
        b.pay(["ann", "bob"], lambda x, y: x * y, one, two)
        return state

    with pytest.raises(InputError, match="symmetric: bob and ann do not see and do the same"):
        MarkovGame([0, 1], stage).pure_equilibria(0.5, symmetric=True)
