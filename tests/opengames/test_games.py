"""Games and their factories: parameters, sub-games, size, and what the whole is asked."""

from itertools import product
from typing import Any

import numpy as np
import pytest

from workingpapers import opengames as og
from workingpapers.foundation.errors import InputError
from workingpapers.opengames.games import Game, game
from workingpapers.opengames.trace import Trace


@game
def irrigation(b, farmers=3, level=10, pay_rate=0.2, fine=0.7):
    """The monitored canal of the paper's figure 4C."""
    watch = b.decide("monitor", ["Work", "Shirk"])
    b.pay("monitor", lambda k: -1.0 if k == "Work" else 0.0, watch)
    water = b.const(level)

    def cut(move: str, work: str) -> Any:
        return (work == "Work") * (pay_rate + fine * (move == "Flood"))

    for number in range(farmers):
        move = b.decide(f"farmer{number + 1}", ["Crack", "Flood"], sees=[water],
                        name=f"take{number + 1}")  # fmt: skip
        taken = b.let(lambda w, m: min(w, 2 if m == "Crack" else 5), water, move, name="taken")
        b.pay(f"farmer{number + 1}", lambda t, m, k: (1 - cut(m, k)) * t, taken, move, watch)
        b.pay("monitor", lambda t, m, k: cut(m, k) * t, taken, move, watch)
        water = b.let(lambda w, t: w - t, water, taken, name="water")


def profile(watch: str, *moves: str) -> dict[str, str]:
    return {"monitor": watch, **{f"take{k + 1}": move for k, move in enumerate(moves)}}


def test_the_monitor_sustains_thrift():
    """The one constant equilibrium of figure 4C, and its payoffs."""
    built = irrigation()
    found = [
        combination
        for combination in product(["Work", "Shirk"], *[["Crack", "Flood"]] * 3)
        if built.check(profile(*combination))
    ]
    assert found == [("Work", "Crack", "Crack", "Crack")]
    report = built.check(profile(*found[0]))
    assert report.payoffs == pytest.approx(
        {"monitor": 0.2, "farmer1": 1.6, "farmer2": 1.6, "farmer3": 1.6}
    )


@pytest.mark.parametrize(
    ("pay_rate", "fine", "holds"),
    [(1 / 6, 0.5, True), (0.16, 0.7, False), (0.17, 0.49, False), (0.2, 0.48, True)],
)
def test_the_equilibrium_region_is_its_closed_form(pay_rate, fine, holds):
    worth_watching = 6 * pay_rate - 1
    worth_thrift = 2 * (1 - pay_rate) - 5 * (1 - pay_rate - fine)
    assert (min(worth_watching, worth_thrift) >= -1e-12) is holds
    built = irrigation(pay_rate=pay_rate, fine=fine)
    assert built.check(profile("Work", "Crack", "Crack", "Crack")).ok is holds


def test_parameters():
    assert irrigation.params == {"farmers": 3, "level": 10, "pay_rate": 0.2, "fine": 0.7}
    assert irrigation.name == "irrigation"
    assert irrigation(fine=0.5).parameters == {
        "farmers": 3, "level": 10, "pay_rate": 0.2, "fine": 0.5,
    }  # fmt: skip
    assert irrigation(farmers=2).factory is irrigation
    assert irrigation.__doc__ == "The monitored canal of the paper's figure 4C."
    known = "is not in irrigation; there are farmers, level, pay_rate, fine"
    for build in (irrigation, irrigation.trace):
        with pytest.raises(InputError) as caught:
            build(fines=0.5)
        assert str(caught.value) == f"parameter 'fines' {known}"
    with pytest.raises(InputError) as caught:
        irrigation.inline(Trace(), fines=0.5)
    assert str(caught.value) == f"parameter 'fines' {known}"
    with pytest.raises(InputError) as caught:
        irrigation(x=0.5)
    assert str(caught.value) == f"parameter 'x' {known}"

    @game
    def needs(b, players):
        for player in players:
            b.decide(player, "LR")

    assert needs(players=["ann", "bob"]).decisions == ("ann", "bob")
    with pytest.raises(InputError) as caught:
        needs()
    assert str(caught.value) == "needs: parameter 'players' has no default; give its value"
    with pytest.raises(InputError) as caught:
        game(lambda: None)
    assert str(caught.value) == "<lambda>: a game's function takes a trace as its first argument"


def test_names_of_the_package():
    assert og.game is game
    assert og.Game is Game
    assert set(og.__all__) <= set(dir(og))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        og.nothing  # noqa: B018


def test_text_is_as_long_as_the_rule_whatever_the_number():
    assert irrigation.description_length() == irrigation.description_length()
    sizes = {n: irrigation(farmers=n, level=2 * n).size() for n in (3, 20)}
    assert sizes[20].log10_outcomes == pytest.approx(21 * np.log10(2))
    assert 10 ** sizes[20].log10_outcomes / sizes[20].description_length > 1e4
    three = irrigation(farmers=3).size()
    observed = sum(len(seen) for seen in irrigation(farmers=3).reachable().values())
    assert three.log10_profiles == pytest.approx(observed * np.log10(2))
    assert 10**three.log10_outcomes == pytest.approx(16)


def test_what_can_be_seen():
    seen = irrigation().reachable()
    assert {name: sorted(levels) for name, levels in seen.items()} == {
        "monitor": [()], "take1": [10], "take2": [5, 8], "take3": [0, 3, 6],
    }  # fmt: skip
    assert irrigation().players == ("monitor", "farmer1", "farmer2", "farmer3")
    assert irrigation().decisions == ("monitor", "take1", "take2", "take3")
    assert repr(irrigation()) == "<Game irrigation: 4 decisions>"
    assert irrigation().title == "irrigation"


def test_an_explanation_of_how_it_is_evaluated():
    lines = irrigation().explain().splitlines()
    assert lines[0] == "irrigation: engine frontier"
    assert lines[1].endswith("stand for 10^1.2 outcomes and 10^2.1 profiles")
    assert any("kept apart by" in line and "water" in line for line in lines[2:])


@game
def dilemma(b, temptation=3.0):
    moves = [b.decide(player, ["C", "D"]) for player in ("ann", "bob")]
    for own in (0, 1):
        b.pay(
            ("ann", "bob")[own],
            lambda x, y: {"CC": 2.0, "CD": 0.0, "DC": temptation, "DD": 1.0}[x + y],
            moves[own], moves[1 - own],
        )  # fmt: skip


def test_games_inside_games():
    @game
    def chosen(b):
        choice = b.decide("judge", ["kind", "harsh"])
        for way, temptation in (("kind", 3.0), ("harsh", 1.5)):
            with b.when(choice, way), b.named(f" if {way}"):
                dilemma.inline(b, temptation=temptation)
        b.pay("judge", lambda c: float(c == "harsh"), choice)

    built = chosen()
    assert built.decisions == (
        "judge", "ann if kind", "bob if kind", "ann if harsh", "bob if harsh",
    )  # fmt: skip
    good = {"judge": "harsh", "ann if kind": "D", "bob if kind": "D",
            "ann if harsh": "C", "bob if harsh": "C"}  # fmt: skip
    for notion in ("agent", "player", "perfect", "pbe"):
        report = built.check(good, notion)
        assert report.ok, notion
        assert report.payoffs == {"judge": 1.0, "ann": 2.0, "bob": 2.0}
    naive = {**good, "ann if kind": "C", "bob if kind": "C"}
    assert built.check(naive).ok
    assert {d.decision for d in built.check(naive, "perfect").deviations} == {
        "ann if kind", "bob if kind",
    }  # fmt: skip
    blocks = {node.block for node in built.trace.nodes if node.label == "ann if harsh"}
    assert blocks == {("dilemma",)}


def test_repeated_play_is_its_transfer_matrix():
    """Three rounds in which both do as the other did, but for one time in ten."""
    discount, rounds = 0.9, 3
    worth = {"CC": 2.0, "CD": 0.0, "DC": 3.0, "DD": 1.0}
    trace = Trace("repeated")
    moves: list[Any] = []
    for number in range(rounds):
        with trace.discount(discount**number):
            moves = [
                trace.decide(player, "CD", sees=moves[::step], name=f"{player}{number}")
                for player, step in (("ann", 1), ("bob", -1))
            ]
            for own, player in enumerate(("ann", "bob")):
                trace.pay(player, lambda x, y: worth[x + y], moves[own], moves[1 - own])

    def copy(*seen: str) -> dict[str, float]:
        wanted = seen[1] if seen else "C"
        return {wanted: 0.9, "D" if wanted == "C" else "C": 0.1}

    found = Game(trace).payoffs(
        {f"{player}{number}": copy for player in ("ann", "bob") for number in range(rounds)}
    )
    # States are (ann's, bob's) move; bob sees them the other way round.
    states = ["CC", "CD", "DC", "DD"]
    follow = np.array([
        [copy(*one)[other[0]] * copy(*one[::-1])[other[1]] for other in states] for one in states
    ])  # fmt: skip
    share = np.array([copy()[one[0]] * copy()[one[1]] for one in states])
    expected = 0.0
    for number in range(rounds):
        expected += discount**number * share @ [worth[one] for one in states]
        share = share @ follow
    assert found == pytest.approx({"ann": expected, "bob": expected}, abs=1e-12)


def test_a_payoff_on_the_first_move_paid_at_the_end_costs_one_bit():
    def chain(length: int) -> Game:
        trace = Trace("chain")
        first = last = trace.decide("ann", [0, 1], name="d0")
        for number in range(1, length):
            last = trace.decide("ann", [0, 1], sees=[last], name=f"d{number}")
            trace.pay("ann", lambda m: 0.1 * m, last)
        trace.pay("ann", lambda a, b: float(a == b), first, last)
        return Game(trace)

    short, long = chain(10), chain(60)
    assert short.size().transitions == pytest.approx(8 * 10, abs=12)
    assert long.size().transitions - short.size().transitions == 8 * 50
    ones = {f"d{number}": 1 for number in range(60)}
    assert long.check(ones, "agent").ok
    assert long.payoffs(ones)["ann"] == pytest.approx(6.9)


def test_a_game_is_a_trace_or_a_frontier():
    for given in ({}, {"trace": Trace(), "frontier": irrigation().frontier}):
        with pytest.raises(InputError) as caught:
            Game(**given)
        assert str(caught.value) == "Game: expected a trace or a frontier"
    bare = Game(frontier=irrigation().frontier)
    play = profile("Work", "Crack", "Crack", "Crack")
    assert bare.check(play).payoffs == irrigation().check(play).payoffs
    assert (bare.engine, bare.title, bare.decisions) == (
        "frontier", "irrigation", irrigation().decisions,
    )  # fmt: skip
    with pytest.raises(InputError) as caught:
        bare.check(play, engine="contraction")
    assert str(caught.value) == "engine contraction: needs the game's trace, not a file"


def test_playing_evenly_needs_no_knowledge_of_what_is_seen():
    from workingpapers.opengames.strategy import UNIFORM, uniform

    for size in (2, 3):

        @og.game
        def guess(b, size=size):
            seen = b.nature(range(size), name="seen")
            move = b.decide("p", range(size), sees=[seen])
            b.pay("p", lambda x, y: float(x == y), seen, move)

        played = guess().profile({"p": UNIFORM})
        np.testing.assert_array_equal(played, uniform(guess().frontier))
        assert guess().payoffs({"p": UNIFORM}) == pytest.approx({"p": 1 / size})
