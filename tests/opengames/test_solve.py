"""Solvers against enumeration, closed forms and each other; every regret is measured again."""

import importlib.util
import itertools
import math

import numpy as np
import pytest
from scipy.optimize import brentq

from workingpapers.foundation.errors import InputError, MissingPackageError
from workingpapers.opengames import kernels, solve
from workingpapers.opengames.equilibrium import ImperfectRecall, flags
from workingpapers.opengames.games import game
from workingpapers.opengames.sampling import random_game
from workingpapers.opengames.strategy import observation_starts, random_profile, uniform


@game
def bimatrix(b, rows=((3, 0), (5, 1)), columns=((3, 5), (0, 1))):
    one = b.decide("row", range(len(rows)))
    two = b.decide("column", range(len(rows[0])))
    b.pay("row", lambda i, j: rows[i][j], one, two)
    b.pay("column", lambda i, j: columns[i][j], one, two)


@game
def ultimatum(b, pie=4):
    offer = b.decide("proposer", range(1, pie + 1))
    answer = b.decide("responder", ["accept", "reject"], sees=[offer])
    b.pay("proposer", lambda o, a: (pie - o) if a == "accept" else 0, offer, answer)
    b.pay("responder", lambda o, a: o if a == "accept" else 0, offer, answer)


@game
def centipede(b, moves=4):
    """Whoever takes gets the larger share of a pot that doubles."""
    playing = b.const(True)
    for number in range(moves):
        player = f"player{number % 2 + 1}"
        other = f"player{(number + 1) % 2 + 1}"
        with b.when(playing):
            move = b.decide(player, ["take", "pass"], sees=[b.const(number)], name=f"m{number}")
            pot = 2**number
            b.pay(player, lambda m, pot=pot: 4 * pot if m == "take" else 0, move)
            b.pay(other, lambda m, pot=pot: pot if m == "take" else 0, move)
            if number == moves - 1:
                b.pay(other, lambda m, pot=pot: 8 * pot if m == "pass" else 0, move)
                b.pay(player, lambda m, pot=pot: 2 * pot if m == "pass" else 0, move)
            go_on = b.let(lambda m: m == "pass", move)
        playing = go_on


@game
def irrigation(b, farmers=3, level=10, pay_rate=0.2, fine=0.7, monitor=True):
    watch = b.decide("monitor", ["Work", "Shirk"]) if monitor else b.const("Shirk")
    if monitor:
        b.pay("monitor", lambda k: -1.0 if k == "Work" else 0.0, watch)
    water = b.const(level)

    def cut(move, watched):
        return 0.0 if watched == "Shirk" else pay_rate + fine * (move == "Flood")

    for number in range(1, farmers + 1):
        farmer = f"farmer{number}"
        move = b.decide(farmer, ["Crack", "Flood"], sees=[water], name=f"take{number}")
        taken = b.let(lambda level, m: min(level, 2 if m == "Crack" else 5), water, move)
        b.pay(farmer, lambda w, m, k: (1 - cut(m, k)) * w, taken, move, watch)
        if monitor:
            b.pay("monitor", lambda w, m, k: cut(m, k) * w, taken, move, watch)
        water = b.let(lambda level, w: level - w, water, taken)


@game
def kuhn(b):
    """Kuhn poker: three cards, one bet of one."""
    one = b.nature([0, 1, 2], name="card1")
    two = b.nature(lambda c: [k for k in (0, 1, 2) if k != c], one, name="card2")
    first = b.decide("first", ["check", "bet"], sees=[one], name="open")
    second = b.decide("second", ["pass", "bet"], sees=[two, first], name="answer")
    again = b.let(lambda f, s: (f, s) == ("check", "bet"), first, second)
    won = b.let(lambda a, c: 1 if a > c else -1, one, two)
    for player, sign in (("first", 1), ("second", -1)):
        with b.when(again, False):
            b.pay(
                player,
                lambda f, s, w, sign=sign: (
                    sign * (w if f == "check" else 1 if s == "pass" else 2 * w)
                ),
                first, second, won,
            )  # fmt: skip
    with b.when(again):
        third = b.decide("first", ["pass", "bet"], sees=[one], name="call")
        for player, sign in (("first", 1), ("second", -1)):
            b.pay(player, lambda t, w, s=sign: s * (-1 if t == "pass" else 2 * w), third, won)


@game
def selten_horse(b):
    one = b.decide("one", ["C", "D"])
    with b.when(one, "C"):
        two = b.decide("two", ["c", "d"])
        past = b.let(lambda m: "end" if m == "c" else "asked", two)
    with b.when(one, "D"):
        down = b.let(lambda m: "asked", one)
    asked = b.merge(past, down)
    with b.when(asked, "asked"):
        three = b.decide("three", ["L", "R"])
        table = {("D", "L"): (3, 3, 2), ("D", "R"): (0, 0, 0), ("C", "L"): (4, 4, 0),
                 ("C", "R"): (0, 0, 1)}  # fmt: skip
        for at, player in enumerate(("one", "two", "three")):
            b.pay(player, lambda x, y, at=at: table[x, y][at], one, three)
    with b.when(asked, "end"):
        b.pay(["one", "two", "three"], 1.0)


@game
def forgetful(b):
    """One player who acts twice and forgets what he did."""
    one = b.decide("driver", ["go", "exit"], name="first")
    two = b.decide("driver", ["go", "exit"], name="second")
    b.pay("driver", lambda x, y: {"go": {"go": 1, "exit": 4}, "exit": {"go": 0, "exit": 0}}[x][y],
          one, two)  # fmt: skip


def all_pure(frontier):
    """Every pure profile, one by one."""
    parts = [
        range(int(first), int(last))
        for decision in frontier.decisions
        for first, last in itertools.pairwise(decision.starts)
    ]
    for slots in itertools.product(*parts):
        profile = np.zeros(frontier.n_slots)
        profile[list(slots)] = 1.0
        yield profile


def keys(solutions):
    return sorted(tuple(one.profile) for one in solutions)


# ---- exhaustive search


@pytest.mark.parametrize("notion", ["agent", "player", "perfect", "pbe"])
@pytest.mark.parametrize("make", [ultimatum, selten_horse, centipede])
def test_pure_finds_what_looking_at_every_profile_finds(make, notion):
    one = make()
    found = solve.pure(one, notion)
    expected = [p for p in all_pure(one.frontier) if one.check(p, notion, engine="frontier").ok]
    assert found.complete
    assert keys(found) == sorted(tuple(profile) for profile in expected)
    assert all(item.ok and item.regret <= 1e-9 and item.notion == notion for item in found)


@pytest.mark.parametrize("notion", ["agent", "player", "perfect", "pbe"])
def test_pure_on_random_games_is_exhaustive(notion):
    generator = np.random.default_rng(5)
    for _ in range(6):
        one = random_game(generator, decisions=3)
        if one.size().log10_profiles > 3:
            continue
        found = solve.pure(one, notion)
        expected = [p for p in all_pure(one.frontier) if one.check(p, notion, engine="frontier").ok]
        assert found.complete
        assert keys(found) == sorted(tuple(profile) for profile in expected)


def test_constant_irrigation_equilibria():
    watched = solve.pure(irrigation(), constant=True)
    assert [one.strategies for one in watched] == [
        {"monitor": "Work", "take1": "Crack", "take2": "Crack", "take3": "Crack"}
    ]
    assert watched[0].payoffs == pytest.approx(
        {"monitor": 0.2, "farmer1": 1.6, "farmer2": 1.6, "farmer3": 1.6}
    )
    alone = solve.pure(irrigation(monitor=False), constant=True)
    moves = {tuple(one.strategies.values()) for one in alone}
    assert moves == {("Flood", "Flood", "Flood"), ("Flood", "Flood", "Crack")}
    assert all(list(one.payoffs.values()) == [5, 5, 0] for one in alone)


def test_every_solution_is_checked_again():
    for one in solve.pure(ultimatum(), "player"):
        report = ultimatum().check(one.strategies, "player", engine="frontier")
        assert report.ok
        assert report.payoffs == one.payoffs
        assert report.regret == one.regrets


def test_a_limit_or_a_time_limit_makes_a_list_incomplete():
    everything = solve.pure(ultimatum(), "agent")
    assert everything.complete
    some = solve.pure(ultimatum(), "agent", limit=3)
    assert not some.complete
    assert len(some) == 3
    assert solve.pure(ultimatum(), "agent", limit=len(everything)).complete
    assert not solve.pure(ultimatum(), "agent", time_limit=-1.0).complete


def test_eps_widens_the_set():
    rows, columns = ((3, 0), (3.05, 1)), ((3, 3.05), (0, 1))
    one = bimatrix(rows=rows, columns=columns)
    assert len(solve.pure(one, "player")) == 1
    assert len(solve.pure(one, "player", eps=0.1)) == 2


def test_too_many_profiles_are_refused_with_advice():
    with pytest.raises(
        InputError,
        match=r"pure: irrigation has 10\^\d+\.\d pure profiles, more than 10,000,000; try "
        r"constant=True, or solve\.backward, solve\.dynamics, solve\.cfr",
    ):
        solve.pure(irrigation(farmers=12, level=40))
    with pytest.raises(ImperfectRecall, match="player driver does not recall"):
        solve.pure(forgetful(), "player")


def test_constant_needs_a_common_action():
    @game
    def shrinking(b):
        seen = b.nature([0, 1])
        move = b.decide("one", lambda s: [s], sees=[seen])
        b.pay("one", lambda m: m, move)

    with pytest.raises(
        InputError, match="constant: no action of one is there at all of its observations"
    ):
        solve.pure(shrinking(), constant=True)


# ---- backward induction


def test_backward_induction_is_the_perfect_equilibria():
    for make in (ultimatum, centipede):
        one = make()
        found = solve.backward(one)
        assert found.complete
        assert keys(found) == keys(solve.pure(one, "perfect"))
    (only,) = solve.backward(centipede())
    assert set(only.strategies.values()) == {"take"}


def test_backward_counts_every_tie():
    # Indifferent at an offer of nothing: two answers there, and for each the best offer.
    @game
    def free(b):
        offer = b.decide("proposer", [0, 1])
        answer = b.decide("responder", ["accept", "reject"], sees=[offer])
        b.pay("proposer", lambda o, a: 2 - o if a == "accept" else 0, offer, answer)
        b.pay("responder", lambda o, a: o if a == "accept" else 0, offer, answer)

    found = solve.backward(free())
    outcomes = sorted((one.payoffs["proposer"], one.payoffs["responder"]) for one in found)
    assert outcomes == [(1, 1), (2, 0)]
    assert found.complete
    first = solve.backward(free(), limit=1)
    assert len(first) == 1
    assert not first.complete


def test_backward_solves_a_canal_without_enumerating():
    found = solve.backward(irrigation(farmers=30, level=60, monitor=False), limit=1)
    assert found[0].ok
    paid = list(found[0].payoffs.values())
    assert paid[:12] == [5] * 12
    assert sum(paid) == 60


def test_backward_refuses_hidden_states():
    with pytest.raises(
        InputError, match=r"backward: open, seeing 0, does not know which of 2 states the game is"
    ):
        solve.backward(kuhn())


# ---- dynamics


def test_dynamics_settles_or_says_that_it_cycles():
    found = solve.dynamics(bimatrix(), seed=3)
    assert [one.strategies for one in found] == [{"row": 1, "column": 1}]
    assert found.note == "of 10 starts 10 settled, 0 ran into a cycle"
    pennies = solve.dynamics(bimatrix(rows=((1, -1), (-1, 1)), columns=((-1, 1), (1, -1))))
    assert len(pennies) == 0
    assert not pennies.converged
    assert pennies.note == "of 10 starts 0 settled, 10 ran into a cycle"
    short = solve.dynamics(irrigation(farmers=8, level=20), steps=1, restarts=4)
    assert "did not end in 1 moves" in short.note


def test_dynamics_repeats_and_finds_the_equilibria_of_coordination():
    meeting = bimatrix(rows=((1, 0), (0, 1)), columns=((1, 0), (0, 1)))
    first, second = (solve.dynamics(meeting, restarts=20, seed=1) for _ in range(2))
    assert keys(first) == keys(second)
    assert keys(first) == keys(solve.pure(meeting))


# ---- counterfactual regret, fictitious play


@pytest.mark.parametrize("variant", ["plus", "linear"])
def test_kuhn_poker_by_regret_minimisation(variant):
    (one,) = solve.cfr(kuhn(), 1000, variant)
    assert one.notion == "player"
    assert one.payoffs["first"] == pytest.approx(-1 / 18, abs=5e-4)
    assert one.nash_conv / 2 <= 1e-3
    report = kuhn().check(one.profile, "player", engine="frontier")
    assert report.regret == one.regrets


def test_regret_minimisation_matches_a_direct_computation():
    """Against regret matching on a matrix, written out."""
    rows = np.array([[0.0, -1.0, 2.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]])
    one = bimatrix(rows=tuple(map(tuple, rows)), columns=tuple(map(tuple, -rows)))
    payoff = [rows, -rows.T]
    regret = [np.zeros(3), np.zeros(3)]
    plan = [np.full(3, 1 / 3), np.full(3, 1 / 3)]
    total = [np.zeros(3), np.zeros(3)]
    for number in range(1, 51):
        for me in (0, 1):
            worth = payoff[me] @ plan[1 - me]
            total[me] += number * plan[me]
            regret[me] = np.maximum(regret[me] + worth - plan[me] @ worth, 0)
            if regret[me].sum() > 0:
                plan[me] = regret[me] / regret[me].sum()
            else:
                plan[me] = np.full(3, 1 / 3)
    (found,) = solve.cfr(one, 50)
    expected = np.concatenate([part / part.sum() for part in total])
    np.testing.assert_allclose(found.profile, expected, atol=1e-12)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("variant", ["plus", "linear", "vanilla"])
def test_regret_minimisation_matches_the_passes_of_check(variant, seed):
    """Against the forward and backward passes that `check` makes, player by player."""
    one = random_game(np.random.default_rng(seed), decisions=4)
    packed, frontier = one.packed, one.frontier
    starts = observation_starts(frontier)
    owner = np.repeat(packed.group_player, np.diff(packed.group_start))
    profile = uniform(frontier)
    regret, total = np.zeros(frontier.n_slots), np.zeros(frontier.n_slots)
    reach = np.empty(packed.n_states)
    playing = np.flatnonzero(packed.group >= 0)
    for number in range(1, 8):
        for player in range(len(frontier.players)):
            others = packed.counterfactual_reach(player, profile)
            values = packed.evaluate(profile[:, None], weight=others)
            worth = values.numerator[:, 0]
            mean = np.add.reduceat(profile * worth, starts[:-1])
            gain = worth - np.repeat(mean, np.diff(starts))
            mine = owner == player
            kernels.own_reach(
                packed.state_offset, packed.start, packed.next, packed.slot, mine, profile, reach
            )
            own = np.zeros(frontier.n_groups)
            np.maximum.at(own, packed.group[playing], reach[playing])
            own = np.repeat(own, np.diff(starts))
            regret[mine] += (gain * (number if variant == "linear" else 1))[mine]
            if variant == "plus":
                regret = np.maximum(regret, 0)
            total[mine] += (own * profile * (1 if variant == "vanilla" else number))[mine]
            positive = np.maximum(regret, 0)
            sums = np.repeat(np.add.reduceat(positive, starts[:-1]), np.diff(starts))
            matched = np.where(sums > 0, positive / np.where(sums > 0, sums, 1), uniform(frontier))
            profile = np.where(mine, matched, profile)
    (found,) = solve.cfr(one, 7, variant)
    sums = np.repeat(np.add.reduceat(total, starts[:-1]), np.diff(starts))
    reached = sums > 0
    np.testing.assert_allclose(found.profile[reached], (total / sums)[reached], atol=1e-10)


def test_own_reach_is_the_product_of_ones_own_choices():
    one = kuhn()
    packed = one.packed
    profile = random_profile(one.frontier, np.random.default_rng(2))
    reach = np.empty(packed.n_states)
    by_name = {decision.name: decision for decision in one.frontier.decisions}
    own = np.zeros(one.frontier.n_slots, dtype=bool)
    for name in ("open", "call"):
        own[by_name[name].first_slot : by_name[name].starts[-1]] = True
    kernels.own_reach(
        packed.state_offset, packed.start, packed.next, packed.slot, own, profile, reach
    )
    openings = dict(zip(by_name["open"].observations, by_name["open"].starts, strict=False))
    for number, card in enumerate(by_name["call"].observations):
        group = by_name["call"].first_group + number
        states = np.flatnonzero(packed.group == group)
        assert reach[states] == pytest.approx(profile[openings[card]])
    first = by_name["open"].first_group
    opening = np.flatnonzero((packed.group >= first) & (packed.group < first + 3))
    assert (reach[opening] == 1).all()


def test_vanilla_and_fictitious_play_come_near_too():
    (vanilla,) = solve.cfr(kuhn(), 4000, "vanilla")
    assert vanilla.nash_conv / 2 <= 5e-3
    (played,) = solve.fictitious_play(kuhn(), 300)
    assert played.nash_conv / 2 <= 0.05
    assert played.payoffs["first"] == pytest.approx(-1 / 18, abs=0.02)


def test_iterations_in_pieces_are_the_same_iterations(monkeypatch):
    whole = solve.cfr(kuhn(), 60)
    monkeypatch.setattr(solve, "_CHUNK", 1)
    assert np.array_equal(solve.cfr(kuhn(), 60)[0].profile, whole[0].profile)


def test_forgetting_players_get_a_measured_regret_and_no_promise():
    found = solve.cfr(forgetful(), 100)
    assert found[0].notion == "agent"
    assert "some player forgets" in found.note
    report = forgetful().check(found[0].profile, "agent", engine="frontier")
    assert report.max_regret == found[0].regret
    with pytest.raises(ImperfectRecall):
        solve.fictitious_play(forgetful(), 1)


def test_learning_methods_refuse_bad_arguments():
    for method in (solve.cfr, solve.fictitious_play):
        with pytest.raises(InputError, match="iterations 0: expected at least 1"):
            method(kuhn(), 0)


# ---- quantal response


def test_logit_of_the_prisoners_dilemma_is_the_root_of_one_equation():
    # Defecting gains 1 + p against an opponent who cooperates with probability p.
    for precision in (0.5, 1.0, 5.0):
        found = solve.logit(bimatrix(), precision)
        root = brentq(lambda p, v=precision: p - 1 / (1 + math.exp(v * (1 + p))), 0, 1, xtol=1e-14)
        assert found.converged
        assert found[0].profile == pytest.approx([root, 1 - root] * 2, abs=1e-9)


def test_logit_of_asymmetric_pennies_at_high_precision():
    rows, columns = ((9, 0), (0, 1)), ((0, 1), (1, 0))
    for precision in (1.0, 10.0, 100.0):
        found = solve.logit(bimatrix(rows=rows, columns=columns), precision)
        p, q = found[0].profile[0], found[0].profile[2]
        assert found.converged
        assert found.residual <= 1e-10
        assert p == pytest.approx(1 / (1 + math.exp(-precision * (10 * q - 1))), abs=1e-8)
        assert q == pytest.approx(1 / (1 + math.exp(-precision * (1 - 2 * p))), abs=1e-8)


def test_logit_tends_to_the_equilibrium_of_kuhn():
    found = solve.logit(kuhn(), 1000.0)
    assert found.converged
    assert found[0].payoffs["first"] == pytest.approx(-1 / 18, abs=1e-4)
    worth = solve.action_values(kuhn().packed, kuhn().packed.evaluate(found[0].profile[:, None]))
    assert np.isfinite(worth).all()


def test_logit_without_precision_is_uniform_and_failure_is_flagged():
    assert solve.logit(kuhn(), 0.0)[0].profile == pytest.approx(0.5)
    with pytest.raises(InputError, match="precision -1: expected a finite number, at least 0"):
        solve.logit(kuhn(), -1)
    failed = solve.logit(kuhn(), 5.0, tol=0.0, iterations=3)
    assert not failed.converged
    assert failed.residual > 0
    assert "NOT converged" in failed.explain()


# ---- Gambit, and what all share


def test_gambit_agrees_or_says_what_brings_it():
    if importlib.util.find_spec("pygambit") is None:
        with pytest.raises(MissingPackageError, match="pygambit is not installed"):
            solve.gambit(kuhn())
        return
    for method in ("lcp", "lp", "logit"):
        found = solve.gambit(kuhn(), method)
        assert found[0].payoffs["first"] == pytest.approx(-1 / 18, abs=1e-6)
        assert found[0].nash_conv <= 1e-6
    meeting = bimatrix(rows=((1, 0), (0, 1)), columns=((1, 0), (0, 1)))
    found = solve.gambit(meeting, "enumpure")
    assert found.complete
    assert keys(found) == keys(solve.pure(meeting, "player"))
    assert keys(solve.gambit(meeting, "enummixed")) == sorted([*keys(found), (0.5,) * 4])


def test_gambit_refuses_what_a_tree_cannot_say():
    @game
    def roles(b):
        who = b.nature(["ann", "bob"])
        move = b.decide(who, [0, 1], name="move")
        b.pay(who, lambda m: m, move)

    with pytest.raises(InputError, match="several players share a decision"):
        solve.gambit(roles())
    with pytest.raises(InputError, match="method 'simplex': expected enummixed, enumpoly"):
        solve.gambit(kuhn(), "simplex")


def test_solutions_read_like_a_list():
    found = solve.pure(ultimatum(pie=2), "perfect")
    text = found.explain()
    assert text.splitlines()[0] == "pure (perfect form): 1 profile, all there are"
    assert "regret 0 (perfect form)" in text
    assert str(found) == text
    dynamics = solve.dynamics(ultimatum(pie=2))
    assert "not proved to be all" in dynamics.explain()


def test_batches_hold_every_profile_once():
    frontier = irrigation().frontier
    seen = [
        tuple(profile[:, column])
        for profile in solve.profile_batches(frontier.n_slots, solve.dials(frontier), 7)
        for column in range(profile.shape[1])
    ]
    assert len(seen) == len(set(seen))
    assert sorted(seen) == sorted(tuple(profile) for profile in all_pure(frontier))
    excess, _ = flags(irrigation().packed, np.array(seen).T)
    assert (excess <= 0).sum() == len(solve.pure(irrigation()))


def test_softmax_and_action_values_by_observation():
    one = kuhn()
    packed = one.packed
    profile = random_profile(one.frontier, np.random.default_rng(0))
    worth = solve.action_values(packed, packed.evaluate(profile[:, None]))[:, 0]
    report = one.check(profile, engine="frontier")
    by_place = {}
    for entry in report.decisions:
        by_place[entry.decision, entry.observation] = list(entry.action_values.values())
    at = 0
    for decision in one.frontier.decisions:
        for observation in decision.observations:
            expected = by_place[decision.name, observation]
            assert worth[at : at + len(expected)] == pytest.approx(expected)
            at += len(expected)
