"""Frontiers: which states are one, how many there are, and what is refused on the way."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workingpapers import opengames as og
from workingpapers.foundation.errors import InputError
from workingpapers.opengames import compile as compile_module
from workingpapers.opengames.compile import (
    ProbabilityError,
    StateSpaceTooLarge,
    compile_trace,
    distinct,
    distribution_pairs,
    schedule,
)
from workingpapers.opengames.games import Game, game
from workingpapers.opengames.spaces import ABSENT, Space
from workingpapers.opengames.trace import Trace


@game
def canal(b, farmers=3, level=10, step=1):
    """Farmers along a canal take 2 or 5 units of what is left, each of `step`."""
    water = b.const(level)
    for number in range(farmers):
        move = b.decide(f"farmer{number}", ["Crack", "Flood"], sees=[water])
        taken = b.let(
            lambda w, m: min(w, (2 if m == "Crack" else 5) * step), water, move, name="taken"
        )
        b.pay(f"farmer{number}", lambda w: float(w), taken)
        water = b.let(lambda w, t: w - t, water, taken, name="water")


# ---- rows that are one


def assert_numbers_rows(columns: list[np.ndarray], n_rows: int) -> None:
    first, number = distinct(columns, n_rows)
    table = np.stack(columns, axis=1)
    unique = np.unique(table, axis=0)
    assert len(first) == len(unique)
    np.testing.assert_array_equal(table[first][number], table)
    assert sorted(map(tuple, table[first].tolist())) == sorted(map(tuple, unique.tolist()))
    for row in first:
        # The first of equal rows stands for them.
        assert not (table[:row] == table[row]).all(axis=1).any()


@settings(max_examples=8)
@given(st.integers(0, 2**31), st.integers(1, 5), st.integers(1, 30), st.integers(1, 4))
def test_distinct_is_unique(seed, n_columns, n_rows, width):
    generator = np.random.default_rng(seed)
    assert_numbers_rows([generator.integers(0, width, n_rows) for _ in range(n_columns)], n_rows)


def test_twenty_columns_of_a_hundred_values_do_not_overflow():
    generator = np.random.default_rng(0)
    few = generator.integers(0, 100, (300, 20))
    # 100^20 is far past 63 bits; rows that differ in one column only must stay apart.
    close = np.repeat(few[:1], 40, axis=0)
    close[np.arange(20), np.arange(20)] += 1
    rows = np.concatenate([few, few[::2], close])[generator.permutation(490)]
    assert_numbers_rows(list(rows.T), len(rows))


def test_no_columns_and_no_rows():
    assert [part.tolist() for part in distinct([], 3)] == [[0], [0, 0, 0]]
    assert [part.tolist() for part in distinct([], 0)] == [[], []]


def test_a_wide_frontier_keeps_its_states_apart():
    """Twenty live wires of 100 values each, all functions of one draw."""
    trace = Trace()
    drawn = trace.nature(list(range(100)), name="drawn")
    wires = [
        trace.let(lambda v, k=k: (v * (2 * k + 1) + k) % 101, drawn, name=f"w{k}")
        for k in range(20)
    ]
    last = trace.decide("ann", [0, 1])
    for wire in wires:
        trace.pay("ann", lambda m, w: float(m * w), last, wire)
    frontier = compile_trace(trace)
    assert frontier.stages[-1].n_states == 100
    expected = np.mean([sum((v * (2 * k + 1) + k) % 101 for k in range(20)) for v in range(100)])
    assert Game(trace).payoffs({"ann": 1})["ann"] == pytest.approx(expected, abs=1e-9)


# ---- how many states


def test_many_farmers_are_few_states():
    farmers = 80
    compiled = canal(farmers=farmers, level=2 * farmers, step=1)
    size = compiled.size()
    arrays = [
        array
        for part in (*compiled.frontier.stages, compiled.packed)
        for array in vars(part).values()
        if isinstance(array, np.ndarray)
    ]
    assert size.log10_outcomes == pytest.approx(farmers * np.log10(2), abs=1e-6)
    # The state is the water level, of at most 2n + 1 values.
    assert size.transitions <= 4 * farmers * farmers
    assert size.states <= 2 * farmers * farmers + 2 * farmers
    assert sum(array.nbytes for array in arrays) < 4e6
    assert all(stage.live in ((), ("water",), ("const",)) for stage in compiled.frontier.stages)


def test_a_trace_grows_by_a_constant_a_farmer():
    lengths = [canal(farmers=n, level=2 * n).size().description_length for n in (3, 4, 30)]
    assert lengths[1] - lengths[0] == 4
    assert lengths[2] - lengths[0] == 4 * 27


def test_floats_that_differ_by_rounding_are_one_state():
    exact = canal(farmers=6, level=Fraction(10), step=Fraction(13, 20)).frontier
    rounded = canal(farmers=6, level=10.0, step=0.65).frontier
    tenths = canal(farmers=6, level=3.0, step=0.1).frontier
    assert [s.n_states for s in rounded.stages] == [s.n_states for s in exact.stages]
    # After k farmers who took .2 or .5 there are k + 1 levels as long as there is water.
    assert [s.n_states for s in tenths.stages[1:]] == [1, 2, 3, 4, 5, 6]


def test_values_that_python_holds_equal_stay_apart():
    trace = Trace()
    sides = [trace.nature([True, False], name=name) for name in ("one", "other")]
    pair = trace.let(lambda a, b: (a, b), *sides, name="pair")
    number = trace.let(lambda a: int(a), sides[0], name="number")
    seen = trace.decide("ann", [0, 1], sees=[pair], name="by pair")
    both = trace.decide("ann", [0, 1], sees=[pair, number, sides[0], seen], name="by all")
    trace.pay("ann", lambda *moves: float(sum(moves)), seen, both)
    reachable = Game(trace).reachable()
    assert sorted(reachable["by pair"]) == [
        (False, False), (False, True), (True, False), (True, True),
    ]  # fmt: skip
    assert all(type(n) is int and type(a) is bool and n == a for _, n, a, _ in reachable["by all"])


def test_equal_numbers_are_one_value():
    trace = Trace()
    drawn = trace.nature({0.1 + 0.2: 0.25, 0.3: 0.25, Fraction(1, 2): 0.5}, name="drawn")
    half = trace.let(lambda v: 0.5 if v == 0.5 else v, drawn, name="half")
    trace.decide("ann", "LR", sees=[half])
    assert Game(trace).reachable() == {"ann": [0.3, 0.5]}
    assert Game(trace).frontier.stages[1].n_transitions == 2


def test_states_merge_for_all_players_together():
    """What one player's payoff forgets another's may need: equal to listing all histories."""

    def worth(*moves: int) -> float:
        return sum((place + 1) * move for place, move in enumerate(moves)) % 7

    trace = Trace()
    wires: list[Any] = []
    for place in range(5):
        wires.append(trace.decide(f"p{place % 2}", [0, 1], sees=wires[-1:], name=f"d{place}"))
    trace.pay("p0", lambda last: float(last), wires[-1])
    trace.pay("p1", worth, wires[0], wires[2], wires[4])
    trace.pay("idle", worth, wires[1], wires[3])
    chances = {f"d{k}": (lambda *seen, k=k: {0: 0.3, 1: 0.7} if sum(seen) + k > 2 else 1)
               for k in range(5)}  # fmt: skip
    expected = dict.fromkeys(("p0", "p1", "idle"), 0.0)
    for number in range(32):
        moves = [number >> k & 1 for k in range(5)]
        chance = 1.0
        for k, move in enumerate(moves):
            mixed = chances[f"d{k}"](*moves[max(k - 1, 0) : k])
            chance *= mixed[move] if isinstance(mixed, dict) else float(mixed == move)
        expected["p0"] += chance * moves[4]
        expected["p1"] += chance * worth(moves[0], moves[2], moves[4])
        expected["idle"] += chance * worth(moves[1], moves[3])
    assert Game(trace).payoffs(chances) == pytest.approx(expected, abs=1e-12)


def test_another_order_is_taken_where_it_is_narrower():
    """Ten pairs whose members only meet each other, written first members first."""
    trace = Trace()
    first = [trace.nature([0, 1, 2], name=f"first{k}") for k in range(10)]
    for k, wire in enumerate(first):
        move = trace.decide(f"p{k}", [0, 1, 2])
        trace.pay(f"p{k}", lambda a, b: float(a == b), wire, move)
    widest = max(len(stage.live) for stage in compile_trace(trace).stages)
    assert widest <= 2
    assert [group[0].label for group in schedule(trace)[1:]] != [w.label for w in first] + [
        f"p{k}" for k in range(10)
    ]
    assert Game(trace).payoffs({f"p{k}": 1 for k in range(10)})["p7"] == pytest.approx(1 / 3)


def test_public_terms_are_one_column():
    trace = Trace()
    players = [f"p{k}" for k in range(6)]
    total = trace.fold("sum", [trace.decide(player, [0, 1]) for player in players])
    trace.pay(players, lambda t: 0.5 * t, total)
    trace.pay("p0", -1.0)
    frontier = compile_trace(trace)
    assert frontier.columns == [("p0",), tuple(players)]
    assert Game(trace).payoffs(dict.fromkeys(players, 1)) == {
        player: 2.0 if player == "p0" else 3.0 for player in players
    }


# ---- branches


def test_what_is_not_played_is_absent():
    trace = Trace()
    gate = trace.nature(["in", "out"], name="gate")
    with trace.when(gate, "in"):
        move = trace.decide("ann", [1, 2])
        doubled = trace.let(lambda m: 2 * m, move)
        coin = trace.nature([0, 10], name="coin")
        trace.pay("ann", lambda d, c: float(d + c), doubled, coin)
    with trace.when(gate, "out"):
        alone = trace.const(7)
    both = trace.merge(doubled, alone)
    reply = trace.decide("bob", [0, 1], sees=[both])
    trace.pay("bob", lambda v, r: float(v * r), both, reply)
    compiled = Game(trace)
    assert compiled.payoffs({"ann": 2, "bob": 1}) == {"ann": 4.5, "bob": 5.5}
    assert sorted(compiled.reachable()["bob"]) == [2, 4, 7]
    assert compiled.reachable()["ann"] == [()]
    assert compiled.frontier.values[0] is ABSENT


def test_merging_two_present_branches_is_refused():
    trace = Trace()
    trace.pay("ann", float, trace.merge(trace.const(1), trace.const(2)))
    with pytest.raises(InputError) as caught:
        compile_trace(trace)
    assert str(caught.value) == "merge: two of its wires are present at once; expected one branch"


# ---- what is refused


def compiled(build: Any) -> str:
    trace = Trace("bad")
    build(trace)
    with pytest.raises(InputError) as caught:
        compile_trace(trace)
    return str(caught.value)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda b: b.decide("ann", lambda w: range(w), [b.nature([1, 0], name="w")]),
            "decide ann at observation 0: the actions are empty; expected distinct actions",
        ),
        (
            lambda b: b.decide("ann", lambda: ["x", "x"]),
            "decide ann at observation nothing: an action is offered twice; expected distinct "
            "actions",
        ),
        (
            lambda b: b.nature({0: 0.5, 1: 0.4}, name="coin"),
            "nature coin: the probabilities sum to 0.9, expected 1",
        ),
        (
            lambda b: b.nature(lambda v: {0: v, 1: 0.6}, b.const(0.5), name="coin"),
            "nature coin: the probabilities sum to 1.1, expected 1, given 0.5",
        ),
        (
            lambda b: b.nature({0: 1.5, 1: -0.5}, name="coin"),
            "nature coin: the probability of 1 is -0.5",
        ),
        (
            lambda b: b.nature({0: float("nan")}, name="coin"),
            "nature coin: the probability of 0 is nan",
        ),
        (lambda b: b.nature([], name="coin"), "nature coin: the distribution is empty"),
        (
            lambda b: b.pay("ann", lambda m, v: m * np.nan, b.const(1), b.const(1.5)),
            "pay ann: the payoff for (1, 1.5) is not a finite number",
        ),
        (
            lambda b: b.pay(["ann", "bob"], lambda v: float("inf"), b.const("high")),
            "pay ann, bob: the payoff for (high) is not a finite number",
        ),
        (
            lambda b: b.pay("ann", lambda v: "much", b.const(1)),
            "pay ann: the payoff for (1) is 'much'; expected a number",
        ),
        (
            lambda b: b.pay("ann", lambda v: [1.0, 2.0], b.const(1)),
            "pay ann: a payoff has the shape (2,); expected one number",
        ),
        (
            lambda b: b.let(lambda v: v + 5, b.const(1), space=Space("level", range(4)), name="up"),
            "let up: the value 6 is outside the space level (0, 1, 2, 3)",
        ),
        (
            lambda b: b.nature([1, 9], name="coin", space=Space("level", range(4))),
            "nature coin: the value 9 is outside the space level (0, 1, 2, 3)",
        ),
        (
            lambda b: b.let(lambda v: np.zeros(2), b.const(1), name="pair"),
            "let pair: its value is an array; expected one value",
        ),
        (
            lambda b: b.let(lambda v: v[:1], b.nature([1, 2]), vectorize=True, name="cut"),
            "let cut: a vectorized function returned 1 values for 2 arguments",
        ),
        (
            lambda b: b.decide(b.const(3), [0, 1], name="turn"),
            "decide turn: its player's wire carries 3; expected a player's name",
        ),
        (
            lambda b: b.pay(b.const(3), lambda: 1.0),
            "pay: its player's wire carries 3",
        ),
        (
            lambda b: b.let(lambda v: float("nan"), b.const(1), name="nan"),
            "let nan: a wire's value is NaN; expected a value that equals itself",
        ),
    ],
)
def test_what_is_refused(build, message):
    found = compiled(lambda b: build(b) is None)
    assert found == message


def test_bad_probabilities_have_their_own_class():
    with pytest.raises(ProbabilityError):
        distribution_pairs({0: 0.5}, "here")
    assert distribution_pairs("aab", "here") == [("a", 2 / 3), ("b", 1 / 3)]
    assert distribution_pairs({1: 1.0, 2: 0.0}, "here") == [(1, 1.0)]
    assert distribution_pairs({0.1 + 0.2: 0.5, 0.3: 0.5}, "here") == [(0.3, 1.0)]
    assert distribution_pairs({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3 + 9e-10}, "here")


def test_a_game_too_large_names_what_keeps_it_wide():
    trace = Trace("wide")
    wires = [trace.nature(list(range(6)), name=f"draw{k}") for k in range(5)]
    last = trace.decide("ann", [0, 1])
    trace.pay("ann", lambda *values: float(sum(values)), *wires, last)
    with pytest.raises(StateSpaceTooLarge) as caught:
        Game(trace, max_transitions=500).frontier  # noqa: B018
    assert str(caught.value) == (
        "wide: more than 500 merged transitions at draw3, where 216 states are kept apart by "
        "draw2 (6 values), draw1 (6 values), draw0 (6 values); pay in separable terms, use b.fold "
        "for sums and maxima, or simulate"
    )
    assert Game(trace, max_transitions=30_000).frontier.n_transitions == 1 + 6 + 36 + 216 + (
        6**4 + 6**5 + 2 * 6**5
    )
    assert isinstance(caught.value, InputError)
    assert og.StateSpaceTooLarge is StateSpaceTooLarge


def test_vectorized_functions_give_the_same_game():
    def build(vectorize: bool) -> Game:
        trace = Trace()
        bids = [trace.decide(f"p{k}", [0, 1, 2]) for k in range(3)]
        top = trace.fold("highest", bids)
        price = trace.let(lambda a, b: abs(a - b), *bids[:2], vectorize=vectorize)
        trace.pay(
            "p0",
            (lambda h, p: h[:, 0] * 1.0 - p) if vectorize else (lambda h, p: h[0] - p),
            top, price, vectorize=vectorize,
        )  # fmt: skip
        return Game(trace)

    mixed = {f"p{k}": {0: 0.2, 1: 0.3, 2: 0.5} for k in range(3)}
    for engine in ("frontier", "contraction"):
        found = [build(way).payoffs(mixed, engine="frontier")["p0"] for way in (False, True)]
        assert found[0] == pytest.approx(found[1], abs=1e-12), engine


def test_what_would_not_fit_is_refused_before_it_is_made(monkeypatch):
    @game
    def crowd(b, players=6):
        moves = [b.decide(f"p{n}", range(10)) for n in range(players)]
        total = b.let(lambda *all_of_them: sum(all_of_them), *moves, name="total")
        b.pay("p0", float, total)

    monkeypatch.setattr(compile_module, "available_memory", lambda: 2e6)
    with pytest.raises(StateSpaceTooLarge, match=r"too many for this machine's memory, at p\d"):
        assert crowd().frontier
    monkeypatch.undo()
    monkeypatch.setattr(compile_module, "_MOST_ARGUMENTS", 5000)
    with pytest.raises(
        StateSpaceTooLarge,
        match=r"total reads 10,000 combinations of p0, p1, p2, p3; at most 5,000",
    ):
        assert crowd(players=4).frontier
