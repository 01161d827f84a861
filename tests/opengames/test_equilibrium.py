"""Notions of equilibrium: on the path, everywhere, with beliefs, and for players as a whole."""

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workingpapers.foundation.errors import InputError
from workingpapers.opengames.equilibrium import ImperfectRecall, best_response_value, check
from workingpapers.opengames.games import Game, game
from workingpapers.opengames.sampling import random_game
from workingpapers.opengames.strategy import observation_starts, random_profile, tremble
from workingpapers.opengames.trace import Trace

seeds = st.integers(0, 2**31)


@game
def ultimatum(b, pie=10):
    offer = b.decide("proposer", range(1, pie + 1))
    answer = b.decide("responder", ["Accept", "Reject"], sees=[offer])
    b.pay("proposer", lambda o, a: float(pie - o) * (a == "Accept"), offer, answer)
    b.pay("responder", lambda o, a: float(o) * (a == "Accept"), offer, answer)


def accept_from(least: int) -> Any:
    return lambda offer: "Accept" if offer >= least else "Reject"


@game
def horse(b):
    """Selten's horse: 3 cannot tell whether 1 or 2 has come down to him."""
    first = b.decide("1", ["D", "C"])
    with b.when(first, "D"):
        at_once = b.const(True)
    with b.when(first, "C"):
        second = b.decide("2", ["d", "c"])
        later = b.let(lambda move: move == "d", second)
        with b.when(second, "c"):
            b.pay(["1", "2", "3"], 1.0)
    with b.when(b.merge(at_once, later)):
        last = b.decide("3", ["L", "R"])
        with b.when(first, "D"):
            for player, worth in (("1", 3.0), ("2", 3.0), ("3", 2.0)):
                b.pay(player, lambda m, worth=worth: worth * (m == "L"), last)
        with b.when(first, "C"):
            for player in "12":
                b.pay(player, lambda m: 4.0 * (m == "L"), last)
            b.pay("3", lambda m: 1.0 * (m == "R"), last)


@game
def pennies(b, second="bob"):
    one = b.decide("ann", ["H", "T"], name="one")
    two = b.decide(second, ["H", "T"], name="two")
    b.pay("ann", lambda x, y: 1.0 if x == y else -1.0, one, two)
    b.pay(second, lambda x, y: -1.0 if x == y else 1.0, one, two)


# ---- on the path, and off it


def test_a_nash_equilibrium_of_the_ultimatum_game_is_not_perfect():
    play = {"proposer": 4, "responder": accept_from(4)}
    built = ultimatum()
    for notion in ("agent", "player"):
        assert built.check(play, notion).ok
    report = built.check(play, "perfect")
    assert not report.ok
    assert not report
    bad = {one.observation: one for one in report.deviations}
    assert sorted(bad) == [(1,), (2,), (3,)]
    for (offer,), one in bad.items():
        assert (one.decision, one.player, one.reach) == ("responder", "responder", 0.0)
        assert (one.best_action, one.current) == ("Accept", {"Reject": 1.0})
        assert one.gain == pytest.approx(offer)
    assert report.regret == pytest.approx({"proposer": 0.0, "responder": 3.0})
    assert report.checked == 11
    assert built.check({"proposer": 1, "responder": "Accept"}, "perfect").ok
    # What is offered is seen: no belief can excuse the threat.
    threat = built.check(play, "pbe")
    assert not threat.ok
    assert {one.observation for one in threat.deviations} == {(1,), (2,), (3,)}
    assert threat.regret == {"proposer": 0.0, "responder": 3.0}


def test_behaviour_off_the_path_does_not_hurt_a_nash_equilibrium():
    report = ultimatum().check({"proposer": 10, "responder": accept_from(10)})
    assert report.ok
    assert report.checked == 2
    assert {one.observation for one in report.decisions} == {(), (10,)}


def test_a_deviation_is_described():
    answers = {1: "Reject", 2: "Accept", 3: "Accept", 4: "Accept"}
    report = ultimatum(pie=4).check({"proposer": 1, "responder": answers})
    assert report.headline() == (
        "NOT an equilibrium (agent form: each decision by itself, where it is reached). 2 of 2 "
        "decisions have a profitable deviation; largest gain 2 (proposer)."
    )
    assert [line.split() for line in report.explain().splitlines()[1:4]] == [
        ["decision", "player", "sees", "plays", "gets", "better", "would", "get", "gain", "reach"],
        ["proposer", "proposer", "-", "1", "0", "2", "2", "2", "1"],
        ["responder", "responder", "proposer=1", "Reject", "0", "Accept", "1", "1", "1"],
    ]
    assert report.explain().splitlines()[-1] == "payoffs: proposer 0, responder 0"
    told = report.to_json()
    assert (told["equilibrium"], told["notion"], told["checked"]) == (False, "agent", 2)
    assert told["deviations"][1] == {
        "player": "responder",
        "decision": "responder",
        "observation": [1],
        "reach": 1.0,
        "belief": {},
        "current": {"Reject": 1.0},
        "payoff": 0.0,
        "best_action": "Accept",
        "best_payoff": 1.0,
        "gain": 1.0,
        "action_values": {"Accept": 1.0, "Reject": 0.0},
    }
    assert "<td>proposer=1</td>" in report.to_html()


def test_json_keeps_actions_apart_that_print_alike():
    trace = Trace()
    move = trace.decide("ann", [100000.1, 100000.2, (1, "x")])
    trace.pay("ann", lambda m: m if isinstance(m, float) else 0.0, move)
    (told,) = Game(trace).check({"ann": 100000.2}).to_json()["decisions"]
    assert told["action_values"] == {"100000.1": 100000.1, "100000.2": 100000.2, '[1, "x"]': 0.0}
    assert told["current"] == {"100000.2": 1.0}


def test_moves_that_pay_alike_are_no_deviation():
    trace = Trace()
    trace.pay("ann", lambda m: 0.0 * m, trace.decide("ann", [1, 2, 3]))
    for move in (1, 3, {1: 0.5, 2: 0.25, 3: 0.25}):
        assert Game(trace).check({"ann": move}).ok


def test_small_gains_count_past_eps_only():
    def built(eps: float) -> Game:
        trace = Trace()
        trace.pay("ann", lambda m: 0.1 * m, trace.decide("ann", [0, 1], eps=eps))
        return Game(trace)

    for engine in ("frontier", "contraction"):
        for notion in ("agent", "player"):
            assert not built(0.0).check({"ann": 0}, notion, engine=engine).ok
            assert built(0.1).check({"ann": 0}, notion, engine=engine).ok
            assert built(0.0).check({"ann": 0}, notion, eps=0.1, engine=engine).ok
            assert not built(0.05).check({"ann": 0}, notion, eps=0.04, engine=engine).ok
            assert built(0.05).check({"ann": 0}, notion, eps=0.05, engine=engine).ok
    assert built(0.1).check({"ann": 0}, "perfect").ok
    assert built(0.1).check({"ann": 0}, "pbe").ok


# ---- who is credited


def test_pennies_of_two_players_are_not_balanced_by_a_quarter():
    half, quarter = {"H": 0.5, "T": 0.5}, {"H": 0.25, "T": 0.75}
    assert pennies().check({"one": half, "two": half}).ok
    report = pennies().check({"one": half, "two": quarter})
    assert not report.ok
    assert report.regret == pytest.approx({"ann": 0.5, "bob": 0.0})
    # One player who is both is paid the sum, which is always zero.
    alone = pennies(second="ann").check({"one": half, "two": quarter})
    assert alone.ok
    assert alone.payoffs == {"ann": 0.0}


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_a_player_is_credited_over_the_whole_game_in_any_order_of_writing(order):
    """Both decisions of one player are credited with every payoff that depends on them."""
    trace = Trace()
    one = trace.decide("ann", [0, 1], name="one")
    two = trace.decide("ann", [0, 1], sees=[one], name="two")
    lines = [
        lambda: trace.pay("ann", lambda a: -1.0 * a, one),
        lambda: trace.pay("ann", lambda a, b: 3.0 * a * b, one, two),
        lambda: trace.pay("ann", lambda b: -1.0 * b, two),
    ]
    for place in order:
        lines[place]()
    report = Game(trace).check({"one": 1, "two": 1})
    assert report.ok
    assert report.payoffs == {"ann": 1.0}
    lazy = Game(trace).check({"one": 0, "two": {0: 0, 1: 1}})
    assert [(d.decision, d.gain) for d in lazy.deviations] == [("one", 1.0)]


@game
def guards(b, fine=0.65):
    """Nature picks who watches; the other takes."""
    guard = b.nature(["ann", "bob"], name="guard")
    other = b.let(lambda name: "bob" if name == "ann" else "ann", guard, name="other")
    watch = b.decide(guard, ["Work", "Shirk"], name="watch")
    take = b.decide(other, ["Crack", "Flood"], name="take")
    taken = b.let(lambda m: 2.0 if m == "Crack" else 5.0, take)
    b.pay(other, lambda m, w: -fine * 5.0 * (m == "Flood") * (w == "Work"), take, watch)
    b.pay(other, float, taken)
    b.pay(guard, lambda t: 5.0 - t, taken)


def test_roles_are_credited_to_whom_they_name():
    report = guards().check({"watch": "Work", "take": "Flood"})
    assert report.payoffs == pytest.approx({"ann": 0.875, "bob": 0.875})
    rows = {(one.player, one.decision): one for one in report.decisions}
    assert set(rows) == {(p, d) for p in ("ann", "bob") for d in ("watch", "take")}
    for player in ("ann", "bob"):
        assert rows[player, "take"].reach == pytest.approx(0.5)
        assert rows[player, "take"].gain == pytest.approx(0.25)
        assert rows[player, "watch"].gain == 0.0
    player_form = guards().check({"watch": "Work", "take": "Flood"}, "player")
    assert player_form.regret == pytest.approx({"ann": 0.125, "bob": 0.125})
    assert guards().check({"watch": "Work", "take": "Crack"}, "perfect").ok
    # With the roles fixed ann would never take anything.
    fixed = Trace()
    guards.function(fixed)
    fixed.nodes[0] = type(fixed.nodes[0])(0, "guard", (), (), (), ["ann"])
    assert Game(fixed).payoffs({"watch": "Work", "take": "Crack"}) == {"ann": 3.0, "bob": 2.0}


# ---- beliefs


@game
def signals(b, prior=0.6, precision=0.7):
    state = b.nature({"A": prior, "B": 1 - prior}, name="state")
    signal = b.nature(
        lambda s: {s: precision, "B" if s == "A" else "A": 1 - precision}, state, name="signal"
    )
    action = b.decide("ann", ["A", "B"], sees=[signal])
    b.pay("ann", lambda s, a: float(s == a), state, action)


def test_posteriors():
    follow = {"ann": {"A": "A", "B": "B"}}
    report = signals().check(follow)
    assert report.ok
    rows = {one.observation[0]: one for one in report.decisions}
    assert rows["A"].belief == pytest.approx({"state=A": 0.42 / 0.54, "state=B": 0.12 / 0.54})
    assert round(rows["A"].belief["state=A"], 4) == 0.7778
    assert round(rows["B"].belief["state=B"], 4) == 0.6087
    assert rows["A"].action_values["A"] == pytest.approx(0.42 / 0.54)
    assert (rows["A"].reach, rows["B"].reach) == pytest.approx((0.54, 0.46))
    (bad,) = signals(prior=0.8).check(follow).deviations
    assert bad.observation == ("B",)
    assert (round(bad.payoff, 4), round(bad.best_payoff, 4)) == (0.3684, 0.6316)


def test_rows_that_differ_in_what_is_not_seen_are_one():
    trace = Trace()
    hidden = trace.nature(list(range(5)), name="hidden")
    trace.pay("ann", lambda h, m: float(h * m), hidden, trace.decide("ann", [0, 1]))
    (one,) = Game(trace).check({"ann": 1}).decisions
    assert one.belief == {f"hidden={k}": pytest.approx(0.2) for k in range(5)}
    assert one.action_values == pytest.approx({0: 0.0, 1: 2.0})


def test_the_horse():
    built = horse()
    nash, good = {"1": "D", "2": "c", "3": "L"}, {"1": "C", "2": "c", "3": "R"}
    for play in (nash, good):
        for notion in ("agent", "player"):
            assert built.check(play, notion).ok, (play, notion)
    # 2 would go down to a third player who goes left; no belief is needed at his own move.
    for notion in ("perfect", "pbe"):
        report = built.check(nash, notion)
        assert [(d.decision, d.best_action, d.gain) for d in report.deviations] == [("2", "d", 3.0)]
    # Uniform trembles make both ways down as likely: going left is then better, 1 to 1/2.
    (bad,) = built.check(good, "perfect").deviations
    assert (bad.decision, bad.payoff, bad.best_payoff) == ("3", 0.5, 1.0)
    assert list(bad.belief.values()) == pytest.approx([0.5, 0.5])
    # Some belief supports going right, namely one that gives the first way at most a third.
    assert built.check(good, "pbe").ok
    for share, holds in ((0.32, True), (1 / 3, True), (0.35, False)):
        trembles = {
            "1": {"D": share, "C": 1 - share},
            "2": {"d": 1 - share, "c": share},
            "3": {"L": 0.5, "R": 0.5},
        }
        assert built.check(good, "perfect", beliefs=trembles).ok is holds


def test_trembles_smaller_than_any_float():
    """Each of ten mistakes has odds of 1e-200; what to do after them is still looked at."""
    trace = Trace()
    mistakes = trace.const(0)
    for stage in range(10):
        move = trace.decide("ann", ["right", "wrong"], sees=[mistakes], name=f"d{stage}")
        mistakes = trace.let(lambda n, m: n + (m == "wrong"), mistakes, move, name="mistakes")
        trace.pay("ann", lambda m: -1.0 * (m == "wrong"), move)
    built = Game(trace)
    play = {f"d{stage}": "right" for stage in range(10)}
    rare = {f"d{stage}": {"right": 1.0, "wrong": 1e-200} for stage in range(10)}
    report = built.check(play, "perfect", beliefs=rare)
    assert report.ok
    assert report.checked == built.frontier.n_groups == 55
    late = {**play, "d9": lambda n: "wrong" if n == 9 else "right"}
    (bad,) = built.check(late, "perfect", beliefs=rare).deviations
    assert (bad.observation, bad.gain) == ((9,), 1.0)
    with pytest.raises(InputError) as caught:
        built.check(play, "perfect", beliefs=play)
    assert str(caught.value) == "beliefs: expected a positive probability of every action"


def off_path(payoffs: dict[str, tuple[float, float]]) -> Game:
    """One player stays out; if he came in by either door, another would have to choose."""
    trace = Trace()
    door = trace.decide("in", ["out", "left", "right"])
    with trace.when(door, "left", "right"):
        choice = trace.decide("chooser", list(payoffs))
        trace.pay("chooser", lambda d, c: payoffs[c][d == "right"], door, choice)
        trace.pay("in", -1.0)
    return Game(trace)


def test_a_belief_between_the_states_may_be_needed():
    built = off_path({"bet left": (3.0, -3.0), "bet right": (-3.0, 3.0), "pass": (1.0, 1.0)})
    report = built.check({"in": "out", "chooser": "pass"}, "pbe")
    assert report.ok
    assert report.regret == {"in": 0.0, "chooser": 0.0}
    poor = off_path({"bet left": (3.0, -3.0), "bet right": (-3.0, 3.0), "pass": (-1.0, -1.0)})
    report = poor.check({"in": "out", "chooser": "pass"}, "pbe")
    assert not report.ok
    # At even odds betting either way is worth 0: no belief makes passing lose less than 1.
    assert report.regret["chooser"] == pytest.approx(1.0, abs=1e-7)
    assert report.deviations[0].gain == pytest.approx(1.0, abs=1e-7)
    assert report.max_regret == pytest.approx(1.0, abs=1e-7)


@settings(max_examples=6)
@given(seeds)
def test_beliefs_are_the_limit_of_trembles(seed):
    generator = np.random.default_rng(seed)
    built = random_game(generator, decisions=3)
    packed, frontier = built.packed, built.frontier
    profile = random_profile(frontier, generator, pure=True)
    small = tremble(frontier, profile, 1e-5)
    weight = packed.evaluate(small[:, None]).reach[:, 0]
    expected = packed.action_values(packed.evaluate(profile[:, None], weight=weight))[:, 0]
    report = check(packed, profile, notion="perfect")
    assert report.checked == frontier.n_groups
    found = np.array([value for one in report.decisions for value in one.action_values.values()])
    np.testing.assert_allclose(found, expected, atol=2e-3)


# ---- players as a whole


def brute_regret(game: Game, profile: np.ndarray, player: str) -> float:
    """The best of all pure strategies of a player, listed, less what he has."""
    frontier, packed = game.frontier, game.packed
    starts = observation_starts(frontier)
    owners = [decision.players[0] for decision in frontier.decisions for _ in decision.observations]
    own = [at for at, owner in enumerate(owners) if owner == player]
    plans = list(product(*(range(starts[at], starts[at + 1]) for at in own)))
    batch = np.repeat(profile[:, None], len(plans) + 1, axis=1)
    for column, plan in enumerate(plans):
        for at, slot in zip(own, plan, strict=True):
            batch[starts[at] : starts[at + 1], column] = 0.0
            batch[slot, column] = 1.0
    worth = packed.payoffs(packed.evaluate(batch))[frontier.players.index(player)]
    return float(worth.max() - worth[-1])


@settings(max_examples=10)
@given(seeds)
def test_regret_is_the_best_of_all_plans(seed):
    generator = np.random.default_rng(seed)
    built = random_game(generator, decisions=3)
    profile = random_profile(built.frontier, generator, pure=bool(seed % 2))
    report = check(built.packed, profile, notion="player")
    sizes = {
        player: np.prod([
            float(len(actions)) for decision in built.frontier.decisions
            if decision.players == (player,) for actions in decision.actions
        ])
        for player in built.players
    }  # fmt: skip
    for player, size in sizes.items():
        if size <= 3000:
            expected = brute_regret(built, profile, player)
            assert report.regret[player] == pytest.approx(expected, abs=1e-9)
    agent = check(built.packed, profile)
    for one in agent.decisions:
        # One decision is one plan.
        assert report.regret[one.player] >= one.gain * one.reach - 1e-9


def test_two_decisions_together_may_gain_where_neither_does_alone():
    trace = Trace()
    one = trace.decide("ann", [0, 1], name="one")
    two = trace.decide("ann", [0, 1], sees=[one], name="two")
    trace.pay("ann", lambda a, b: 5.0 if a and b else 1.0 - a, one, two)
    stay = {"one": 0, "two": 0}
    assert Game(trace).check(stay).ok
    report = Game(trace).check(stay, "player")
    assert not report.ok
    assert report.regret == {"ann": 4.0}
    assert report.headline() == (
        "NOT an equilibrium (Nash: each player's decisions together). ann gains 4 by changing "
        "several decisions together."
    )
    best, now, chosen = best_response_value(Game(trace).packed, Game(trace).profile(stay), 0)
    assert (best, now) == (5.0, 1.0)
    assert sorted(chosen.values()) in ([0, 1, 1], [1, 1, 1])
    (bad,) = Game(trace).check(stay, "perfect").deviations
    assert (bad.decision, bad.observation, bad.gain) == ("two", (1,), 5.0)


def remembering(sees: str) -> Trace:
    """Ann sees a card, moves, and moves again; `sees` is what she then knows."""
    trace = Trace()
    card = trace.nature([0, 1], name="card")
    one = trace.decide("ann", [0, 1], sees=[card], name="one")
    known = {
        "all": [card, one],
        "a function": [trace.let(lambda c, m: 10 * c + m, card, one)],
        "card": [card],
        "move": [one],
        "nothing": [],
        "sum": [trace.let(lambda c, m: c + m, card, one)],
    }[sees]
    two = trace.decide("ann", [0, 1], sees=known, name="two")
    trace.pay("ann", lambda c, a, b: float((c + a + 2 * b) % 3), card, one, two)
    return trace


@pytest.mark.parametrize("sees", ["all", "a function"])
def test_recall_that_holds(sees):
    assert Game(remembering(sees)).check({"one": 1, "two": 0}, "player").regret["ann"] > 0


@pytest.mark.parametrize(
    ("sees", "where"), [("card", "0"), ("move", "0"), ("nothing", "nothing"), ("sum", "1")]
)
def test_recall_that_fails(sees, where):
    with pytest.raises(ImperfectRecall) as caught:
        Game(remembering(sees)).check({"one": 1, "two": 0}, "player")
    assert str(caught.value) == (
        "player ann does not recall what he saw or did when he decides two at "
        f"{where}; the player form needs perfect recall, the agent form does not"
    )
    assert Game(remembering(sees)).check({"one": 1, "two": 0}).checked > 0


def test_forgetting_a_branch_is_forgetting():
    def built(told: bool) -> Game:
        trace = Trace()
        gate = trace.nature([0, 1], name="gate")
        with trace.when(gate, 1):
            trace.decide("ann", ["only"], name="one")
        two = trace.decide("ann", [0, 1], sees=[gate] if told else [], name="two")
        trace.pay("ann", float, two)
        return Game(trace)

    assert built(True).check({"one": "only", "two": 1}, "player").ok
    with pytest.raises(ImperfectRecall):
        built(False).check({"one": "only", "two": 1}, "player")


def test_what_others_forget_is_their_matter():
    trace = Trace()
    hidden = trace.decide("ann", [0, 1])
    guess = trace.decide("bob", [0, 1])
    trace.pay("bob", lambda h, g: float(h == g), hidden, guess)
    trace.pay("ann", lambda h, g: float(h != g), hidden, guess)
    report = Game(trace).check({"ann": {0: 0.5, 1: 0.5}, "bob": {0: 0.5, 1: 0.5}}, "player")
    assert report.ok
