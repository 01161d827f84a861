"""Building games: what a trace refuses, what it warns of, contexts and folds."""

from typing import Any

import numpy as np
import pytest

from workingpapers.foundation.errors import InputError
from workingpapers.opengames.games import Game
from workingpapers.opengames.spaces import Space
from workingpapers.opengames.trace import (
    OPERATIONS,
    PayNode,
    Trace,
    check_warnings,
    function_key,
)


def refused(build: Any) -> str:
    trace = Trace("test")
    with pytest.raises(InputError) as caught:
        build(trace, trace.decide("ann", ["Left", "Right"], name="turn"))
    return str(caught.value)


def enter(context: Any) -> None:
    with context:
        pass


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda b, w: bool(w),
            "wire turn: its value is not known while the game is built; use b.let to compute with "
            "it, or b.when to branch on it",
        ),
        (lambda b, w: list(w), "wire turn: cannot be unpacked; use b.let for its parts"),
        (
            lambda b, w: w == "Left",
            "wire turn: compared with 'Left' while the game is built; use b.let to compare its "
            "value, or b.when to branch on it",
        ),
        (
            lambda b, w: "Left" in [w],
            "wire turn: compared with 'Left' while the game is built; use b.let to compare its "
            "value, or b.when to branch on it",
        ),
        (
            lambda b, w: b.let(lambda x: x, Trace().const(3)),
            "let: wire const is from another trace",
        ),
        (
            lambda b, w: b.decide("bob", "LR", sees=[Trace().decide("eve", "LR")]),
            "decide bob: wire eve is from another trace",
        ),
        (
            lambda b, w: b.pay("ann", lambda x: x, Trace().const(3)),
            "pay ann: wire const is from another trace",
        ),
        (lambda b, w: enter(b.when(Trace().const(1))), "when: wire const is from another trace"),
        (lambda b, w: b.decide("bob", []), "decide bob: actions are empty; expected at least one"),
        (
            lambda b, w: b.decide("bob", [np.zeros(2)]),
            "decide bob: actions: an action is an array; expected single values",
        ),
        (lambda b, w: b.decide("bob", "LL"), "space L|L: its values are not distinct"),
        (lambda b, w: b.decide("bob", "LR", eps=-0.1), "decide bob: eps -0.1 is negative"),
        (
            lambda b, w: b.decide("turn", "LR"),
            "turn: two decisions or draws have this name; give one of them another name=",
        ),
        (lambda b, w: b.const(np.zeros(2)), "const: expected one value, found an array"),
        (
            lambda b, w: b.nature([1, 2], w, name="coin"),
            "nature coin: has given wires, so its distribution must be a function of them",
        ),
        (
            lambda b, w: b.pay("ann", 3.0, w),
            "pay ann: a number takes no wires; expected a function of them",
        ),
        (lambda b, w: b.pay([], 3.0), "pay: expected at least one player"),
        (
            lambda b, w: b.fold("mean", [w]),
            "fold 'mean': expected sum, max, min, count, any, highest or a function of two values",
        ),
        (lambda b, w: b.fold("max", []), "fold: has no wires, and no unit was given"),
        (lambda b, w: b.merge(), "merge: expected at least one wire"),
        (
            lambda b, w: enter(b.when(w)),
            "when: wire turn never carries True; its values are Left, Right",
        ),
        (
            lambda b, w: enter(b.when(w, "left")),
            "when: wire turn never carries left; its values are Left, Right",
        ),
    ],
)
def test_what_a_trace_refuses(build, message):
    assert refused(build) == message


def test_names_get_the_suffix_of_their_context():
    trace = Trace()
    for day in (1, 2):
        with trace.named(f"@{day}"), trace.named("!"):
            assert trace.decide("ann", "LR").label == f"ann!@{day}"


def test_discounts_multiply():
    trace = Trace()
    for stage, paid in enumerate((0.5, 0.3, 1.0)):
        with trace.discount(0.9**stage):
            trace.pay("ann", paid)
    # What comes later counts less, not what comes earlier: 1.58, not 1.643.
    assert Game(trace).payoffs({})["ann"] == pytest.approx(0.5 + 0.9 * 0.3 + 0.81, abs=1e-12)
    with trace.discount(0.5), trace.discount(0.5):
        trace.pay("bob", 8.0)
    assert Game(trace).payoffs({})["bob"] == 2.0


def test_blocks_and_guards_end_with_their_context():
    trace = Trace()
    move = trace.decide("ann", "LR")
    with trace.block("outer"), trace.block("inner"), trace.when(move, "L"):
        inner = trace.decide("bob", "LR")
    outside = trace.decide("cleo", "LR")
    assert trace.nodes[inner.index].block == ("outer", "inner")
    assert trace.nodes[inner.index].guards == ((move.index, frozenset({"L"})),)
    assert trace.nodes[outside.index].block == trace.nodes[outside.index].guards == ()


def test_empty_folds_give_their_unit():
    trace = Trace()
    wires = [
        trace.fold("sum", []),
        trace.fold("count", []),
        trace.fold("any", []),
        trace.fold("max", [], 7),
        trace.fold(lambda a, b: a * b, [], 1),
    ]
    for place, wire in enumerate(wires):
        trace.pay(f"p{place}", float, wire)
    assert list(Game(trace).payoffs({}).values()) == [0.0, 0.0, 0.0, 7.0, 1.0]


@pytest.mark.parametrize("operation", [*OPERATIONS, "custom"])
def test_folds_combine_all_wires(operation):
    values = [2, 0, 5, 5, 1]
    expected = {
        "sum": 13, "max": 5, "min": 0, "count": 4, "any": 1, "highest": 52, "custom": 1,
    }[operation]  # fmt: skip
    trace = Trace()
    wires = [trace.const(value) for value in values]
    chosen = (lambda a, b: (a + b) % 4) if operation == "custom" else operation
    folded = trace.fold(chosen, wires)
    trace.pay("ann", lambda f: 10 * f[0] + f[1] if isinstance(f, tuple) else f, folded)
    assert Game(trace).payoffs({}) == {"ann": expected}


def test_a_payoff_written_twice_is_warned_of():
    trace = Trace()
    move = trace.decide("ann", [0, 1])
    trace.pay("ann", lambda m: 2 * m, move)
    assert check_warnings(trace) == []
    trace.pay("ann", lambda m: 2 * m, move)
    warning = "player ann is credited twice with one and the same payoff"
    assert check_warnings(trace) == [warning]
    assert Game(trace).check({"ann": 1}, engine="frontier").warnings == (warning,)
    assert Game(trace).check({"ann": 1}, engine="contraction").warnings == (warning,)
    assert f"note: {warning}" in Game(trace).check({"ann": 1}).explain()


def test_different_payoffs_are_not():
    trace = Trace()
    move = trace.decide("ann", [0, 1])
    for fee in (1, 2):
        trace.pay("ann", lambda m, fee=fee: fee * m, move)
        trace.pay("ann", -1.0)
    trace.pay("ann", lambda m: 2 * m, move)
    with trace.when(move, 1):
        trace.pay("ann", lambda m: 2 * m, move)
    assert check_warnings(trace) == []


def test_deciding_for_nothing_is_warned_of():
    trace = Trace()
    trace.decide("ann", [0, 1], name="turn")
    assert check_warnings(trace) == ["decision turn: player ann is never paid"]
    # A role may be anybody's.
    trace.pay(trace.nature(["ann", "bob"], name="who"), 1.0)
    assert check_warnings(trace) == []


def test_payoff_labels_name_few_players():
    trace = Trace()
    who = trace.nature(["ann", "bob"], name="who")
    trace.pay("ann", 1.0)
    trace.pay(["ann", "bob"], 1.0)
    trace.pay([f"p{n}" for n in range(9)], 1.0)
    trace.pay(who, 1.0)
    assert [node.label for node in trace.nodes if isinstance(node, PayNode)] == [
        "pay ann", "pay ann, bob", "pay p0, p1, p2, ..., p8", "pay the player of who",
    ]  # fmt: skip


# ---- when two functions are the same


def made(number: Any, other: Any = None) -> Any:
    return lambda value: (value, number, other)


def test_functions_with_equal_content_have_equal_keys():
    assert function_key(made(1)) == function_key(made(1))
    assert function_key(made(1)) != function_key(made(2))
    assert function_key(made(1)) != function_key(made(True))
    assert function_key(made(1)) != function_key(made(1.0))
    assert function_key(made(0, made(3))) == function_key(made(0, made(3)))
    assert function_key(made(0, made(3))) != function_key(made(0, made(4)))
    one, other = [1], [1]
    assert function_key(made(one)) == function_key(made(one))
    # Lists may change apart.
    assert function_key(made(one)) != function_key(made(other))
    assert function_key(len) == function_key(len)
    assert function_key(lambda x: x + 1) != function_key(lambda x: x + 1.0)


def test_recursive_functions_are_allowed():
    def factorial(n: int) -> int:
        return 1 if n < 2 else n * factorial(n - 1)

    trace = Trace()
    move = trace.decide("ann", Space("n", [3, 5]))
    trace.pay("ann", factorial, move)
    assert Game(trace).payoffs({"ann": 5}) == {"ann": 120.0}


def test_equal_functions_are_evaluated_once():
    calls = []

    def build(log: list[int]) -> Any:
        return lambda value: log.append(value) or float(value)

    trace = Trace()
    for player in ("ann", "bob", "cleo"):
        trace.pay(player, build(calls), trace.decide(player, [1, 2]))
    Game(trace).frontier  # noqa: B018
    assert sorted(calls) == [1, 2]
