"""Sampled play against exact payoffs, and learning rules against their closed forms."""

import math

import numpy as np
import pytest

from workingpapers.foundation.errors import InputError
from workingpapers.opengames.games import Game, game
from workingpapers.opengames.sampling import random_game
from workingpapers.opengames.simulate import (
    cumulative,
    draw_pure,
    learn,
    play,
    sample_trace,
)
from workingpapers.opengames.spaces import ABSENT
from workingpapers.opengames.strategy import describe, observation_starts, random_profile
from workingpapers.opengames.trace import Trace


@game
def irrigation(b, farmers=3, level=10):
    watch = b.decide("monitor", ["Work", "Shirk"])
    b.pay("monitor", lambda k: -1.0 if k == "Work" else 0.0, watch)
    water = b.const(level)
    for number in range(1, farmers + 1):
        farmer = f"farmer{number}"
        move = b.decide(farmer, ["Crack", "Flood"], sees=[water], name=f"take{number}")
        taken = b.let(lambda have, m: min(have, 2 if m == "Crack" else 5), water, move)
        b.pay(farmer, lambda w, k: w * (0.5 if k == "Work" else 1.0), taken, watch)
        water = b.let(lambda have, w: have - w, water, taken)


@game
def branching(b):
    """A draw, a branch that is played in one case only, and a player whom a wire names."""
    coin = b.nature({"heads": 0.3, "tails": 0.7}, name="coin")
    with b.when(coin, "heads"):
        move = b.decide("ann", [1, 2, 3], sees=[coin], name="call")
        b.pay("ann", lambda m: m**2, move)
    who = b.nature(lambda c: ["ann", "bob"] if c == "tails" else ["bob"], coin, name="who")
    b.pay(who, 1.5)


@game
def matrix(b, rows=((3, 0), (5, 1))):
    """A symmetric game of two."""
    one = b.decide("row", range(len(rows)))
    two = b.decide("column", range(len(rows)))
    b.pay("row", lambda i, j: rows[i][j], one, two)
    b.pay("column", lambda i, j: rows[j][i], one, two)


@game
def alone(b, worth=(0.0, 1.0, 0.25)):
    move = b.decide("one", range(len(worth)))
    b.pay("one", lambda m: worth[m], move)


MIXED = {"monitor": {"Work": 0.4, "Shirk": 0.6}, **{
    f"take{number}": {"Crack": 0.7, "Flood": 0.3} for number in (1, 2, 3)
}}  # fmt: skip
CALLS = {"call": {1: 0.2, 2: 0.5, 3: 0.3}}


def assert_near(plays, exact):
    """Every mean within four standard errors of the exact payoff."""
    for player, payoff in exact.items():
        error = plays.standard_error[player]
        assert abs(plays.mean[player] - payoff) <= 4 * error + 1e-12


# ---- plays


@pytest.mark.parametrize("sample", [play, sample_trace])
@pytest.mark.parametrize(("make", "strategies"), [(irrigation, MIXED), (branching, CALLS)])
def test_means_are_the_exact_payoffs(sample, make, strategies):
    one = make()
    plays = sample(one, strategies, 20_000, seed=7)
    assert plays.n == 20_000
    assert_near(plays, one.payoffs(strategies, engine="frontier"))


@pytest.mark.parametrize("seed", range(5))
def test_random_games_are_sampled_right_both_ways(seed):
    one = random_game(np.random.default_rng(seed))
    profile = random_profile(one.frontier, np.random.default_rng(seed + 100))
    strategies = describe(one.frontier, profile)
    exact = one.payoffs(profile, engine="frontier")
    assert_near(play(one, profile, 20_000, seed), exact)
    assert_near(sample_trace(one, strategies, 20_000, seed), exact)


@pytest.mark.parametrize("sample", [play, sample_trace])
def test_a_seed_repeats_and_another_does_not(sample):
    first, second, other = (sample(irrigation(), MIXED, 500, seed) for seed in (3, 3, 4))
    for name in first.codes:
        assert np.array_equal(first.codes[name], second.codes[name])
    for player in first.payoffs:
        assert np.array_equal(first.payoffs[player], second.payoffs[player])
    assert any(not np.array_equal(first.codes[name], other.codes[name]) for name in first.codes)


@pytest.mark.parametrize("sample", [play, sample_trace])
def test_outcomes_of_a_branch_that_is_not_played_are_absent(sample):
    plays = sample(branching(), CALLS, 2000, seed=1)
    coin, call, who = (plays.outcomes(name) for name in ("coin", "call", "who"))
    assert set(coin) == {"heads", "tails"}
    for side, move in zip(coin, call, strict=True):
        assert (move is ABSENT) == (side == "tails")
    paid = [
        (move**2 if side == "heads" else 0) + 1.5 * (person == "ann")
        for side, move, person in zip(coin, call, who, strict=True)
    ]
    assert plays.payoffs["ann"].tolist() == paid
    assert plays.payoffs["bob"].tolist() == [1.5 * (person == "bob") for person in who]
    shares = plays.shares("coin")
    assert shares["heads"] == pytest.approx(0.3, abs=4 * math.sqrt(0.21 / 2000))
    assert sum(plays.shares("call").values()) == pytest.approx(1)


def test_sure_play_has_no_spread():
    sure = {"monitor": "Shirk", "take1": "Flood", "take2": "Flood", "take3": "Flood"}
    plays = irrigation().play(sure, 100, seed=0)
    assert plays.mean == {"monitor": 0, "farmer1": 5, "farmer2": 5, "farmer3": 0}
    assert set(plays.standard_error.values()) == {0.0}
    assert plays.explain().splitlines()[0] == "100 plays, seed 0"
    assert play(irrigation(), sure, 1).standard_error["monitor"] == math.inf


def test_what_has_no_probability_never_happens():
    start = np.array([0, 3, 5])
    chance = np.array([0.0, 1 / 3 + 2 / 3, 0.0, 0.5, 0.5])
    within = cumulative(start, chance)
    assert within.tolist() == [0.0, 2.0, 1.0, 0.5, 2.0]
    # The last possible transition takes every number up to 1; one before it, those below its own.
    generator = np.random.default_rng(0)
    profile = np.array([[0.0], [1.0], [0.0]])
    for _ in range(50):
        assert draw_pure(np.array([0, 3]), profile, generator).tolist() == profile.tolist()


def test_games_that_do_not_fit_are_sampled():
    """A payoff on a whole history: 3^25 states when compiled."""
    trace = Trace("history")
    moves = [trace.decide("one", [0, 1, 2], name=f"m{number}") for number in range(25)]
    total = moves[0]
    history = trace.let(lambda m: (m,), total)
    for move in moves[1:]:
        history = trace.let(lambda h, m: (*h, m), history, move)
    trace.pay("one", lambda h: sum(h) - h[0] * h[-1], history)
    plays = sample_trace(
        Game(trace), {f"m{number}": {0: 0.5, 1: 0.25, 2: 0.25} for number in range(25)}, 500, 1
    )
    assert_near(plays, {"one": 25 * 0.75 - 0.75**2})


def test_sampling_a_trace_takes_every_form_of_strategy():
    one = irrigation()
    for take in (
        lambda level: "Flood" if level > 5 else "Crack",
        {10: "Flood", 8: "Flood", 6: "Flood", 5: "Crack", 3: "Crack", 1: "Crack", 0: "Crack",
         "4": "Crack"},
    ):  # fmt: skip
        plays = sample_trace(one, {"monitor": "Shirk", **dict.fromkeys(
            ("take1", "take2", "take3"), take)}, 10)  # fmt: skip
        assert plays.mean == {"monitor": 0, "farmer1": 5, "farmer2": 2, "farmer3": 2}


def test_sampling_refuses_what_it_cannot_play():
    one = irrigation()
    with pytest.raises(InputError, match="n 0: expected at least 1"):
        play(one, MIXED, 0)
    with pytest.raises(InputError, match="n 0: expected at least 1"):
        sample_trace(one, MIXED, 0)
    with pytest.raises(InputError, match="no strategy for the decision 'monitor'"):
        sample_trace(one, {f"take{number}": "Crack" for number in (1, 2, 3)}, 5)
    with pytest.raises(InputError, match="decision 'takes1' is not in the game; there are take1"):
        sample_trace(one, {**MIXED, "takes1": "Crack"}, 5)
    with pytest.raises(InputError, match="strategy of take1 at 10: no action is given for this"):
        sample_trace(one, {**MIXED, "take1": {3: "Crack"}}, 5)
    with pytest.raises(InputError, match="strategy of take1: an array needs all observations"):
        sample_trace(one, {**MIXED, "take1": np.array([0.5, 0.5])}, 5)
    with pytest.raises(InputError, match="needs the game's trace, not a file"):
        sample_trace(Game(frontier=one.frontier), MIXED, 5)
    with pytest.raises(InputError, match="draw or decision 'coins' is not in the game"):
        play(branching(), CALLS, 5).outcomes("coins")


# ---- learning


def test_replicator_of_one_player_grows_log_odds_by_payoff():
    start = np.array([0.5, 0.2, 0.3])
    found = learn(alone(), "replicator", 40, start=start, step=0.2, runs=2)
    rounds = np.arange(41)
    for action, worth in ((1, 1.0), (2, 0.25)):
        odds = np.log(found.profiles[:, action] / found.profiles[:, 0])
        expected = np.log(start[action] / start[0]) + 0.2 * rounds * worth
        np.testing.assert_allclose(odds, expected, atol=1e-9)
    assert (found.profile_errors == 0).all()


def test_replicator_of_hawks_and_doves_settles_at_value_over_cost():
    # V = 2, C = 5; hawk 0. From equal starts both populations stay equal, and go to V/C.
    found = learn(
        matrix(rows=((-1.5, 2), (0, 1))), "replicator", 500, runs=1,
        start={"row": {0: 0.9, 1: 0.1}, "column": {0: 0.9, 1: 0.1}},
    )  # fmt: skip
    assert found.profiles[-1] == pytest.approx([0.4, 0.6, 0.4, 0.6], abs=1e-6)
    assert found.regrets[0] == pytest.approx(0, abs=1e-5)
    assert found.payoffs[-1] == pytest.approx([0.6, 0.6], abs=1e-5)


def test_best_reply_to_a_dominant_action_is_geometric():
    found = learn(matrix(), "best_reply", 30, step=0.25, runs=5, seed=3)
    start = found.profiles[0, 0]
    np.testing.assert_allclose(found.profiles[:, 0], start * 0.75 ** np.arange(31), atol=1e-12)
    assert found.profile_errors[0, 0] > 0
    assert found.strategies()["row"][1] > 0.999


def test_best_reply_shares_ties_and_stays_where_nobody_comes():
    found = learn(alone(worth=(1.0, 1.0, 0.0)), "best_reply", 200, runs=1)
    assert found.profiles[-1] == pytest.approx([0.5, 0.5, 0.0], abs=1e-6)

    @game
    def gated(b):
        gate = b.decide("one", ["in", "out"])
        b.pay("one", lambda g: g == "out", gate)
        with b.when(gate, "in"):
            move = b.decide("two", [0, 1])
            b.pay("two", float, move)

    kept = learn(gated(), "best_reply", 5, runs=1, start={"one": "out", "two": 0})
    assert kept.strategies() == {"one": "out", "two": 0}


def test_q_learning_of_one_player_ends_at_the_logit_of_payoffs():
    found = learn(alone(), "q_learning", 600, runs=10, step=0.2, precision=2.0, seed=5)
    weights = np.exp(2.0 * np.array([0.0, 1.0, 0.25]))
    np.testing.assert_allclose(found.final, np.tile(weights / weights.sum(), (10, 1)).T, atol=1e-6)
    assert found.payoff_errors[-1, 0] < 1e-6


def test_experience_weighting_with_full_memory_averages_payoffs():
    found = learn(
        alone(), "experience_weighted", 9, runs=3, precision=1.0, memory=1.0, foregone=1.0
    )
    # All payoffs count alike, beside one round's worth of zeros from the start.
    weights = np.exp(0.9 * np.array([0.0, 1.0, 0.25]))
    np.testing.assert_allclose(found.final[:, 0], weights / weights.sum(), atol=1e-12)


def test_learning_repeats_and_reports_its_spread():
    for rule in ("replicator", "best_reply", "q_learning", "experience_weighted"):
        first, second, other = (learn(irrigation(), rule, 20, seed, runs=4) for seed in (1, 1, 2))
        assert np.array_equal(first.final, second.final)
        assert not np.array_equal(first.final, other.final)
        mean, error = first.final.mean(axis=1), first.final.std(axis=1, ddof=1) / 2
        np.testing.assert_allclose(first.profiles[-1], mean)
        np.testing.assert_allclose(first.profile_errors[-1], error)
        starts = observation_starts(first.frontier)
        np.testing.assert_allclose(np.add.reduceat(first.profiles, starts[:-1], axis=1), 1)
        exact = np.mean(
            [list(irrigation().payoffs(run, engine="frontier").values()) for run in first.final.T],
            axis=0,
        )
        np.testing.assert_allclose(first.payoffs[-1], exact)
        assert f"{rule}: 20 rounds, 4 runs, seed" in first.explain()


def test_learning_refuses_bad_arguments():
    with pytest.raises(InputError, match="rounds 0, runs 20: expected at least 1"):
        learn(alone(), rounds=0)
    with pytest.raises(InputError, match="step 2: expected at least 0 and at most 1"):
        learn(alone(), step=2)
    with pytest.raises(InputError, match="start: q_learning starts from values of 0"):
        learn(alone(), "q_learning", start={"one": 0})

    @game
    def nobody(b):
        b.pay("one", 1.0)

    with pytest.raises(InputError, match="learn: nobody decides anything in nobody"):
        learn(nobody())


def test_more_plays_than_fit_are_refused():
    sample = random_game(np.random.default_rng(1))
    profile = random_profile(sample.frontier, np.random.default_rng(1))
    with pytest.raises(InputError, match=r"n 1,000,000,000,000,000: expected at most [\d,]+, for"):
        play(sample, profile, 10**15)
