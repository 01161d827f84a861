"""The library says what is known, every known number is found, and closed forms hold."""

import importlib
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workingpapers.foundation.errors import InputError
from workingpapers.opengames import library
from workingpapers.opengames.compile import compile_trace
from workingpapers.opengames.library.auctions import (
    everybody_bids,
    kth_price_auction,
    reserve_price_auction,
    truthful,
)
from workingpapers.opengames.library.commons import (
    alike,
    common_pool,
    irrigation_monitored,
    public_goods,
    takes,
    volunteer_probability,
    volunteering,
    volunteers_dilemma,
)
from workingpapers.opengames.library.information import kuhn_equilibrium, kuhn_poker, seltens_horse
from workingpapers.opengames.library.ledger import swap, tullock_deposit, tullock_deposits
from workingpapers.opengames.strategy import random_profile
from workingpapers.opengames.trace import check_warnings


@pytest.mark.parametrize("name", library.names())
def test_everything_known_is_found(name):
    found = list(library.facts(library.load(name)))
    assert found
    assert [str(fact) for fact in found if not fact.ok] == []


@pytest.mark.parametrize("name", library.names())
def test_entries_describe_themselves(name):
    entry = library.load(name)
    assert entry.name == name == entry.factory.name
    assert 2 <= len([part for part in entry.summary.split(". ") if part]) <= 4
    assert entry.summary.endswith(".")
    assert entry.factory.__doc__
    assert entry.source
    assert entry.profiles
    assert entry.known
    assert all(known.profile in entry.profiles for known in entry.known)


@pytest.mark.parametrize("name", library.names())
def test_defaults_build_games_without_warnings(name):
    trace = library.load(name).game().trace
    assert trace is not None
    assert check_warnings(trace) == []


def test_names_are_distinct_and_modules_hold_them_all():
    names = library.names()
    assert len(set(names)) == len(names) >= 45
    for module, held in library._MODULES.items():
        entries = importlib.import_module(f"workingpapers.opengames.library.{module}").ENTRIES
        assert [entry.name for entry in entries] == list(held)


def test_unknown_names_give_near_ones():
    with pytest.raises(InputError) as error:
        library.load("irigation")
    assert str(error.value).startswith("library: entry 'irigation' does not exist; there are irri")
    with pytest.raises(InputError) as error:
        library.load("irrigation").profile("floods")
    assert str(error.value) == "irrigation: profile 'floods' does not exist; there are flood"


def test_profiles_are_enumerated():
    game = library.load("signal_coordination").game()
    assert list(library.constant_profiles(game)) == [{"guess": "A"}, {"guess": "B"}]
    assert len(list(library.pure_profiles(game))) == 4
    poker = kuhn_poker()
    kept = {"open": "Check", "after_bet": "Fold"}
    profiles = list(library.pure_profiles(poker, kept))
    assert len(profiles) == 2**6
    assert all(one["open"] == "Check" for one in profiles)
    some = list(library.constant_profiles(poker, kept, {"after_check": ["Bet"]}))
    assert [one["after_check_bet"] for one in some] == ["Fold", "Call"]
    assert {one["after_check"] for one in some} == {"Bet"}


STRUCTURAL = {"good", "green_first", "high_weight", "low_weight", "precision", "prior"}
"""Parameters with decimals that are probabilities or values of wires; so is a fine of water."""


@pytest.mark.parametrize("name", [one for one in library.names() if one != "and_gate_staking"])
def test_parameters_of_payoffs_may_be_arrays(name):
    factory = library.load(name).factory
    small = {"common_pool": {"users": 2}}.get(name, {})
    for param, default in factory.params.items():
        if not isinstance(default, float) or param in STRUCTURAL:
            continue
        if param == "fine" and name != "irrigation_monitored":
            continue
        grid = np.array([default, default + 0.01])
        batched = compile_trace(factory.trace(**small, **{param: grid}), n_points=2)
        assert batched.n_transitions == factory(**small).frontier.n_transitions


# ---- commons


@settings(max_examples=8)
@given(pay_rate=st.floats(0, 1), fine=st.floats(0, 1))
def test_a_monitored_canal_is_stable_where_the_closed_form_says(pay_rate, fine):
    works = 6 * pay_rate - 1
    cracks = 2 * (1 - pay_rate) - 5 * (1 - pay_rate - fine)
    if min(abs(works), abs(cracks)) < 1e-7:
        return
    game = irrigation_monitored(pay_rate=pay_rate, fine=fine)
    report = game.check(takes("CCC", "Work"))
    assert report.ok == (works > 0 and cracks > 0)
    assert report.payoffs["monitor"] == pytest.approx(works, abs=1e-12)


def test_the_least_fine_at_the_least_pay_rate_is_a_half():
    profile = takes("CCC", "Work")
    for fine, stable in ((0.5, True), (0.5 - 1e-6, False)):
        assert irrigation_monitored(pay_rate=1 / 6, fine=fine).check(profile).ok == stable


@pytest.mark.parametrize("users", [2, 3])
def test_users_of_a_common_pool_put_in_72_by_one_more_than_they_are(users):
    each = 72 // (users + 1)
    game = common_pool(users=users)
    report = game.check(alike("put", users, each))
    assert report.ok
    rent = each * (18 - 0.25 * users * each)
    assert report.payoffs["user1"] == pytest.approx(125 + rent)
    assert not game.check(alike("put", users, each - 1)).ok


def test_eight_users_waste_three_fifths_of_the_rent():
    def rent(tokens):
        return tokens * (23 - 0.25 * tokens) - 5 * tokens

    assert max(range(201), key=rent) == 36
    assert rent(64) / rent(36) == pytest.approx(0.395, abs=5e-4)


@pytest.mark.parametrize(("mpcr", "gift"), [(0.4, 0), (0.99, 0), (1.01, 10), (3.0, 10)])
def test_gifts_are_all_or_nothing_by_what_a_unit_returns(mpcr, gift):
    game = public_goods(players=5, mpcr=mpcr)
    report = game.check(alike("give", 5, gift), "player")
    assert report.ok
    assert report.payoffs["player3"] == pytest.approx(10 - gift + 5 * mpcr * gift)
    assert not game.check(alike("give", 5, 10 - gift), "player").ok


@pytest.mark.parametrize(("players", "benefit", "cost"), [(2, 2, 1), (5, 3, 0.5), (60, 2, 1)])
def test_volunteers_are_indifferent_at_their_probability(players, benefit, cost):
    game = volunteers_dilemma(players=players, benefit=benefit, cost=cost)
    report = game.check(volunteering(players, benefit, cost))
    assert report.ok
    for one in report.decisions:
        assert one.action_values["Wait"] == pytest.approx(one.action_values["Volunteer"])
        assert one.payoff == pytest.approx(benefit - cost)
    share = volunteer_probability(players, benefit, cost)
    off = alike("move", players, {"Volunteer": share * 0.9, "Wait": 1 - share * 0.9})
    assert not game.check(off).ok


def test_a_thousand_volunteers_hardly_ever_volunteer():
    assert volunteer_probability(1000) == pytest.approx(0.000694, abs=5e-7)


# ---- information


@pytest.mark.parametrize("alpha", [0.0, 0.1, 1 / 3])
def test_kuhn_poker_has_perfect_recall_and_a_line_of_equilibria(alpha):
    report = kuhn_poker().check(kuhn_equilibrium(alpha), "player")
    assert report.ok
    assert report.payoffs["player1"] == pytest.approx(-1 / 18, abs=1e-12)


@settings(max_examples=6)
@given(seed=st.integers(0, 2**32 - 1))
def test_kuhn_poker_is_zero_sum_and_worth_a_loss_to_the_first(seed):
    game = kuhn_poker()
    profile = random_profile(game.frontier, np.random.default_rng(seed))
    report = game.check(profile, "player")
    assert report.payoffs["player1"] + report.payoffs["player2"] == pytest.approx(0, abs=1e-12)
    # Best replies bound the value from both sides.
    payoff, regret = report.payoffs["player1"], report.regret
    assert payoff - regret["player2"] - 1e-9 <= -1 / 18 <= payoff + regret["player1"] + 1e-9


@pytest.mark.parametrize(("share", "stable"), [(0.1, True), (0.3, True), (0.4, False)])
def test_seltens_third_player_believes_in_trembles(share, stable):
    # He is asked after D with weight `share` against all of (C, d): believed share / (share + w).
    trembles = {
        "player1": {"D": share, "C": 1 - share},
        "player2": {"d": 1 - share, "c": share},
        "player3": {"L": 0.5, "R": 0.5},
    }
    profile = {"player1": "C", "player2": "c", "player3": "R"}
    report = seltens_horse().check(profile, "perfect", beliefs=trembles)
    assert report.ok == stable


# ---- auctions


@pytest.mark.parametrize("tie", ["all", "split", "order"])
@pytest.mark.parametrize("bidders", [2, 3])
def test_tie_rules_share_the_object_as_they_say(tie, bidders):
    game = kth_price_auction(
        bidders=bidders, kth=1, tie=tie, values=(10, 20), bids=(0, 5), free_counts=True
    )
    payoffs = game.payoffs(everybody_bids(bidders, 5))
    shares = {
        "all": [1] * bidders,
        "split": [1 / bidders] * bidders,
        "order": [1] + [0] * (bidders - 1),
    }[tie]
    for number, share in enumerate(shares, start=1):
        assert payoffs[f"bidder{number}"] == pytest.approx(share * (15 - 5))
    assert payoffs["seller"] == pytest.approx(5 * sum(shares))


@pytest.mark.parametrize("kth", [1, 2, 3])
def test_the_kth_highest_bid_is_the_price(kth):
    bids = {"bid1": 3, "bid2": 7, "bid3": 5}
    game = kth_price_auction(bidders=3, kth=kth, values=(9,), bids=(3, 5, 7))
    price = (7, 5, 3)[kth - 1]
    expected = {"bidder1": 0, "bidder2": 9 - price, "bidder3": 0, "seller": price}
    assert game.payoffs(bids) == pytest.approx(expected)


@pytest.mark.parametrize("tie", ["split", "order"])
def test_truth_is_dominant_at_the_second_price(tie):
    game = kth_price_auction(values=range(4), bids=range(4), tie=tie)
    for bid in range(4):
        report = game.check({"bid1": truthful, "bid2": bid})
        assert all(one.decision != "bid1" for one in report.deviations)


def test_auctions_refuse_what_they_cannot_do():
    with pytest.raises(InputError, match=r"^tie 'coin': expected all, split, order$"):
        kth_price_auction(tie="coin")
    with pytest.raises(InputError, match=r"^kth 3: expected 1 to the number of bidders, 2$"):
        kth_price_auction(kth=3)
    with pytest.raises(InputError, match=r"^how 'lot': expected random, fixed, vcg or resale$"):
        library.load("permit_sale").game(how="lot")


def test_the_best_reserve_for_uniform_values_is_near_a_half():
    grid = [number / 10 for number in range(11)]
    game = reserve_price_auction(values=grid, reserves=grid, tie="split", free_counts=True)
    profile = {"reserve": 0.0, **everybody_bids(2, truthful)}
    report = game.check(profile)
    (choice,) = [one for one in report.decisions if one.decision == "reserve"]
    assert choice.best_action == pytest.approx(0.5, abs=0.1 + 1e-12)


# ---- ledgers


@pytest.mark.parametrize(("stakers", "each"), [(2, 5), (2, 3), (3, 4), (3, 2)])
def test_contests_have_the_deposit_of_the_closed_form(stakers, each):
    cost = (stakers - 1) / (stakers**2 * each)
    assert tullock_deposit(stakers, 1.0, cost) == pytest.approx(each)
    game = tullock_deposits(stakers=stakers, cost=cost)
    report = game.check(alike("deposit", stakers, each))
    assert report.ok
    assert report.payoffs["staker1"] == pytest.approx(1 / stakers - cost * each)
    assert not game.check(alike("deposit", stakers, each + 1)).ok


@given(sent=st.floats(0.01, 1000), first=st.floats(10, 1000), second=st.floats(10, 1000))
def test_a_pool_keeps_the_product_and_one_unit(sent, first, second):
    received, (more, less) = swap((first, second), sent)
    assert math.isclose(received + less, second)
    assert math.isclose(more * (less - 1), first * second)
