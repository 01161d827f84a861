"""Terms: the literal interpreter, the laws of a symmetric monoidal category, wiring mistakes."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workingpapers import opengames as og
from workingpapers.foundation.errors import InputError
from workingpapers.opengames import reference, terms
from workingpapers.opengames.sampling import BITS, TermSampler, random_term
from workingpapers.opengames.spaces import UTILITY, Tagged, sum_of

seeds = st.integers(0, 2**31)
PD = og.payoff_table(
    {("C", "C"): (3, 3), ("C", "D"): (0, 5), ("D", "C"): (5, 0), ("D", "D"): (1, 1)}
)


def table(term: og.OpenGame, strategies: Any) -> dict[Any, tuple[float, ...]]:
    """What the engine says of every reached decision: reach, gain, values from the best one."""
    report = term.close().check(strategies, engine="frontier")
    return {
        (one.player, one.decision, one.observation): (
            one.reach,
            one.gain,
            *(one.best_payoff - worth for worth in one.action_values.values()),
        )
        for one in report.decisions
    }


def literal(term: og.OpenGame, strategies: Any) -> dict[Any, tuple[float, ...]]:
    """The same from the definition."""
    return {
        (row.player, row.decision, row.observation): (
            row.reach,
            row.gain,
            *(max(row.worth.values()) - worth for worth in row.worth.values()),
        )
        for row in reference.rows(term, strategies)
    }


def assert_same(one: dict[Any, Any], other: dict[Any, Any]) -> None:
    assert one.keys() == other.keys()
    for key in one:
        np.testing.assert_allclose(one[key], other[key], rtol=0, atol=1e-9, err_msg=str(key))


@settings(max_examples=6)
@given(seeds)
def test_the_engine_is_the_definition(seed):
    term, strategies = random_term(np.random.default_rng(seed), leaves=40)
    assert_same(table(term, strategies), literal(term, strategies))
    payoffs = term.close().payoffs(strategies, engine="frontier")
    expected = reference.payoffs(term, strategies)
    for player, value in expected.items():
        assert payoffs[player] == pytest.approx(value, abs=1e-9)


def pieces(seed: int) -> tuple[TermSampler, og.OpenGame, og.OpenGame, og.OpenGame, og.OpenGame]:
    """A start and three layers that compose, and what closes them."""
    sampler = TermSampler(np.random.default_rng(seed))
    start = sampler.decide([]) @ terms.nature({0: 0.5, 1: 0.5}, makes=BITS, name="start")
    f = sampler.layer(start.y) @ terms.identity((), start.r)
    g = sampler.layer(f.y) @ terms.identity((), f.r)
    h = sampler.finish(g.y, g.r)
    return sampler, start, f, g, h


@settings(max_examples=6)
@given(seeds)
def test_composition_is_associative_and_has_units(seed):
    sampler, start, f, g, h = pieces(seed)
    strategies = sampler.strategies()
    left = ((start >> f) >> g) >> h
    right = start >> (f >> (g >> h))
    with_units = start >> terms.identity(start.y, start.r) >> f >> g >> h
    assert_same(table(left, strategies), table(right, strategies))
    assert_same(table(left, strategies), table(with_units, strategies))


@settings(max_examples=6)
@given(seeds)
def test_parallel_and_sequential_composition_interchange(seed):
    sampler = TermSampler(np.random.default_rng(seed))
    a, b = sampler.decide([]), sampler.decide([])
    c, d = sampler.layer(a.y), sampler.layer(b.y)
    c, d = c @ terms.identity((), a.r), d @ terms.identity((), b.r)
    strategies = sampler.strategies()
    together = (a @ b) >> (c @ d)
    apart = (a >> c) @ (b >> d)
    assert (together.x, together.s, together.y, together.r) == (apart.x, apart.s, apart.y, apart.r)
    end = sampler.finish(together.y, together.r)
    assert_same(table(together >> end, strategies), table(apart >> end, strategies))


@settings(max_examples=6)
@given(seeds)
def test_parallel_composition_is_associative_and_the_empty_game_is_its_unit(seed):
    sampler = TermSampler(np.random.default_rng(seed))
    a, b, c = (sampler.decide([]) for _ in range(3))
    strategies = sampler.strategies()
    end = sampler.finish(a.y + b.y + c.y, a.r + b.r + c.r)
    nothing = terms.identity(())
    one = ((a @ b) @ c) >> end
    for other in ((a @ (b @ c)) >> end, (a @ nothing @ b @ c @ nothing) >> end):
        assert_same(table(one, strategies), table(other, strategies))


@settings(max_examples=6)
@given(seeds)
def test_swaps_are_natural_and_undo_themselves(seed):
    sampler = TermSampler(np.random.default_rng(seed))
    start = terms.nature({0: 0.5, 1: 0.5}, makes=BITS, name="x") @ terms.nature(
        {0: 0.25, 1: 0.75}, makes=BITS, name="y"
    )
    f = terms.forward(lambda x: (x + 1) % 2, [BITS], [BITS])
    decision = terms.copy(BITS) >> (sampler.decide([BITS]) @ terms.identity(BITS))
    decided = decision.y[0]
    strategies = sampler.strategies()
    first = start >> (decision @ f)
    # (decision @ f) then moving f's port to the front = swapping first, then (f @ decision).
    moved = (
        first
        >> ((terms.identity(decided) @ terms.swap(BITS, BITS)) @ terms.identity((), first.r))
        >> ((terms.swap(decided, BITS) @ terms.identity(BITS)) @ terms.identity((), first.r))
    )
    other = start >> terms.swap(BITS, BITS) >> (f @ decision)
    assert moved.y == other.y
    end = sampler.finish(other.y, other.r)
    assert_same(table(moved >> end, strategies), table(other >> end, strategies))
    twice = start >> terms.swap(BITS, BITS) >> terms.swap(BITS, BITS) >> (decision @ f)
    end = sampler.finish(first.y, first.r)
    assert_same(table(first >> end, strategies), table(twice >> end, strategies))


@settings(max_examples=6)
@given(seeds)
def test_copies_and_discards_obey_their_laws(seed):
    sampler = TermSampler(np.random.default_rng(seed))
    start = terms.nature({0: 0.3, 1: 0.7}, makes=BITS, name="x")
    seen = sampler.decide([BITS])
    end = sampler.finish(seen.y, seen.r)
    strategies = sampler.strategies()
    plain = start >> seen >> end
    copied = (
        start >> terms.copy(BITS) >> (terms.identity(BITS) @ terms.discard(BITS)) >> seen >> end
    )
    swapped = (
        start >> terms.copy(BITS) >> terms.swap(BITS, BITS)
        >> (terms.discard(BITS) @ terms.identity(BITS)) >> seen >> end
    )  # fmt: skip
    for other in (copied, swapped):
        assert_same(table(plain, strategies), table(other, strategies))
    three = terms.copy(BITS) >> (terms.copy(BITS) @ terms.identity(BITS))
    also_three = terms.copy(BITS) >> (terms.identity(BITS) @ terms.copy(BITS))
    sampler.decisions.clear()
    names = [sampler.decide([BITS]) for _ in range(3)]
    everyone = names[0] @ names[1] @ names[2]
    end = sampler.finish(everyone.y, everyone.r)
    strategies = sampler.strategies()
    assert_same(
        table(start >> three >> everyone >> end, strategies),
        table(start >> also_three >> everyone >> end, strategies),
    )


@settings(max_examples=6)
@given(seeds, st.integers(0, 1))
def test_a_choice_after_an_injection_is_the_chosen_game(seed, number):
    sampler = TermSampler(np.random.default_rng(seed))
    start = terms.nature({0: 0.3, 1: 0.7}, makes=BITS, name="x")
    parts = [sampler.decide([BITS]), sampler.decide([BITS])]
    ports = [(BITS,), (BITS,)]
    chosen = start >> terms.inject(number, ports) >> (parts[0] + parts[1])
    direct = (
        start
        >> parts[number]
        >> (terms.inject(number, [part.y for part in parts]) @ terms.identity((), UTILITY))
    )
    assert chosen.y == direct.y
    strategies = sampler.strategies()
    end = sampler.finish(chosen.y, chosen.r)

    def number_of(value: Tagged) -> int:
        return value.values[0] + 5 * value.tag

    untag = terms.forward(number_of, chosen.y, [og.Space("small", range(10))])
    end = (untag @ terms.identity((), UTILITY)) >> sampler.finish(untag.y, chosen.r)
    one = table(chosen >> end, strategies)
    other_name = parts[1 - number].name
    played = {name: move for name, move in strategies.items() if name != other_name}
    assert_same(one, table(direct >> end, played))


def test_a_counit_bends_a_wire_back():
    # The utility is what the second player does, fed back through a counit.
    mirror = og.decision("p1", BITS) @ og.decision("p2", BITS)
    swapped = og.swap(BITS, BITS) @ og.identity((), (UTILITY, UTILITY))
    returns = og.counit(BITS) @ og.counit(BITS)
    term = mirror >> swapped >> og.lens(
        lambda y, x: (), lambda y, x, *r: (float(y), float(x)), [BITS, BITS],
        [UTILITY, UTILITY], [], [],
    )  # fmt: skip
    assert returns.s == (BITS, BITS)
    assert term.close().payoffs({"p1": 0, "p2": 1}) == {"p1": 1.0, "p2": 0.0}


def test_a_game_is_its_closed_normal_form():
    game = ((og.decision("p1", "CD") @ og.decision("p2", "CD")) >> PD).close()
    assert game.check({"p1": "D", "p2": "D"}).ok
    report = game.check({"p1": "C", "p2": {"C": 0.5, "D": 0.5}})
    assert [(one.player, one.gain) for one in report.deviations] == [("p1", 1.5), ("p2", 1.0)]


def test_an_open_part_is_analysed_in_a_context():
    part = og.decision("p1", BITS, [BITS])
    context = og.Context({0: 0.5, 1: 0.5}, lambda x, y: float(x[0] == y[0]))
    game = part.close(context)
    assert game.check({"p1": lambda x: x}).ok
    assert game.check({"p1": 0}).regret == {"p1": 1.0}
    rows = reference.rows(part, {"p1": 0}, reference.context_of(context, part))
    assert sorted((row.observation, row.gain) for row in rows) == [((0,), 0.0), ((1,), 1.0)]


def test_repeating_discounts_the_future_and_not_the_past():
    pair = (og.decision("p1", "CD") @ og.decision("p2", "CD")) >> PD
    state = og.Space("state", ["s"])
    stage = og.discard(state) >> pair >> og.forward(lambda: "s", [], [state])
    played = {"p1@1": "C", "p2@1": "D", "p1@2": "C", "p2@2": "C", "p1@3": "D", "p2@3": "C"}
    whole = og.nature({"s": 1.0}, makes=state) >> og.repeat(stage, 3, 0.9) >> og.discard(state)
    assert whole.close().payoffs(played)["p1"] == pytest.approx(0 + 0.9 * 3 + 0.81 * 5)
    assert_same(table(whole, played), literal(whole, played))


def level(actions: Any = "CD") -> og.OpenGame:
    return og.decision("p2", actions, [og.Space("Level", [1, 2])])


MISTAKES = [
    (lambda: og.decision("p1", "CD") >> level(),
     "cannot compose p1: () -> (C|D)/(Utility) with p2: (Level) -> (C|D)/(Utility)"),
    (lambda: og.decision("p1", "CD") >> og.discard(og.Space("C|D", "CD")),
     "cannot compose p1: () -> (C|D)/(Utility) with discard: (C|D) -> ()"),
    (lambda: og.decision("p1", "CD") >> PD,
     "cannot compose p1: () -> (C|D)/(Utility) with payoffs: (C|D, C|D)/(Utility, Utility) -> ()"),
    (lambda: (og.decision("p1", "CD") @ og.decision("p2", "AB")) >> PD,
     "cannot compose (p1 @ p2): () -> (C|D, A|B)/(Utility, Utility) with payoffs: "
     "(C|D, C|D)/(Utility, Utility) -> ()"),
    (lambda: og.nature({1: 0.5, 2: 0.5}) >> og.decision("p1", "CD"),
     "cannot compose nature: () -> (1|2) with p1: () -> (C|D)/(Utility)"),
    (lambda: level() + og.decision("p1", "CD") + og.discard(BITS),
     "cannot choose between (p2 + p1): (Level + 1) -> (C|D + C|D)/(Utility) and "
     "discard: (bit) -> (): both must receive and feed back the same"),
    (lambda: og.decision("p1", "CD").close(),
     "close: the port (C|D) that p1: () -> (C|D)/(Utility) makes is joined to "
     "nothing; compose it, or give a context"),
    (lambda: og.discard(BITS).close(),
     "close: the port (bit) that discard: (bit) -> () observes is joined to "
     "nothing; compose it, or give a context"),
    (lambda: og.repeat(og.decision("p1", "CD"), 3),
     "repeat: p1: () -> (C|D)/(Utility) does not lead from the state () to itself "
     "with nothing left to return"),
    (lambda: og.decision("p1", "CD") >> og.counit(og.Space("Utility")),
     "cannot compose p1: () -> (C|D)/(Utility) with counit: (Utility)/(Utility) -> ()"),
    (lambda: og.decision("p1", "CD") @ 3, "@: expected an open game, found int"),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "message"), MISTAKES)
def test_wiring_mistakes_are_refused_before_anything_is_evaluated(wrong, message):
    with pytest.raises(InputError) as caught:
        wrong()
    assert str(caught.value) == message


def test_a_table_with_a_hole_is_refused():
    with pytest.raises(InputError, match=r"payoffs: no payoffs for the moves \(C, D\)"):
        og.payoff_table({("C", "C"): (1, 1), ("D", "D"): (1, 1)})


def test_lengths_of_terms_do_not_grow_with_what_they_stand_for():
    small = og.repeat(og.identity(BITS), 2)
    large = og.repeat(og.identity(BITS), 2000)
    assert small.length() == large.length() == 2
    assert sum_of((BITS,), ()).name == "bit + 1"
