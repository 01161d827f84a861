"""Designs: sweeps against games one by one, searches against closed forms, comparisons."""

import csv
import math

import numpy as np
import pytest

from workingpapers import opengames as og
from workingpapers.foundation.errors import InputError
from workingpapers.opengames import design
from workingpapers.opengames.games import game

CRACKING = {"monitor": "Work", "take1": "Crack", "take2": "Crack"}


@game
def canal(b, farmers=2, level=8, pay_rate=0.2, fine=0.7):
    """A short canal with a monitor."""
    watch = b.decide("monitor", ["Work", "Shirk"])
    b.pay("monitor", lambda k: -1.0 if k == "Work" else 0.0, watch)
    water = b.const(level)

    def cut(move, effort):
        if effort == "Shirk":
            return 0.0
        return pay_rate if move == "Crack" else pay_rate + fine

    for i in range(1, farmers + 1):
        move = b.decide(f"farmer{i}", ["Crack", "Flood"], sees=[water], name=f"take{i}")
        taken = b.let(lambda left, m: min(left, 2 if m == "Crack" else 5), water, move)
        b.pay(f"farmer{i}", lambda w, m, k: (1 - cut(m, k)) * w, taken, move, watch)
        b.pay("monitor", lambda w, m, k: cut(m, k) * w, taken, move, watch)
        water = b.let(lambda left, w: left - w, water, taken)


@game
def bent(b, threshold=0.5, prize=1.0, odds=0.5):
    """A threshold that a payoff compares, a prize it multiplies, odds of a draw."""
    luck = b.nature({True: odds, False: 1 - odds}, name="luck")
    move = b.decide("player", [0.0, 1.0])
    b.pay("player", lambda x, y: prize * x if x > threshold and y else 0.0, move, luck)


def test_a_sweep_is_every_game_by_itself():
    grid = {"fine": np.linspace(0, 1, 4), "level": [4, 8], "pay_rate": np.array([0.1, 0.3])}
    measures = ("equilibrium", "gain", "welfare", "gini", "payoff:monitor")
    found = design.sweep(canal, grid, CRACKING, measures=measures)
    assert (found.batched, found.retraced) == (("fine", "pay_rate"), ("level",))
    assert found.points == 16
    for i, fine in enumerate(grid["fine"]):
        for j, level in enumerate(grid["level"]):
            for k, rate in enumerate(grid["pay_rate"]):
                single = canal(fine=float(fine), level=level, pay_rate=float(rate))
                report = single.check(CRACKING)
                at = (i, j, k)
                assert found.values["equilibrium"][at] == report.ok
                assert found.values["gain"][at] == pytest.approx(
                    report.max_regret if not report.ok else 0.0, abs=1e-8
                )
                paid = np.array(list(report.payoffs.values()))
                assert found.values["welfare"][at] == pytest.approx(paid.sum())
                spread = np.abs(paid[:, None] - paid).sum() / (2 * len(paid) * paid.sum())
                assert found.values["gini"][at] == pytest.approx(spread)
                assert found.values["payoff:monitor"][at] == pytest.approx(
                    report.payoffs["monitor"]
                )


def test_what_an_array_would_break_is_traced_value_by_value():
    values = np.array([0.25, 0.75])
    assert design.is_batched(bent, "prize", values, {})
    assert not design.is_batched(bent, "threshold", values, {})
    assert not design.is_batched(bent, "odds", values, {})
    found = design.sweep(
        bent, {"odds": values, "prize": np.array([1.0, 2.0])}, {"player": 1.0}, measures=["welfare"]
    )
    np.testing.assert_allclose(found.values["welfare"], [[0.25, 0.5], [0.75, 1.5]])


def test_a_payoff_that_adds_up_its_points_is_not_taken_for_a_batch():
    @game
    def summing(b, rate=0.5):
        move = b.decide("player", [0, 1])
        b.pay("player", lambda x: float(np.sum(rate)) * x, move)

    assert not design.is_batched(summing, "rate", np.array([0.1, 0.2, 0.3]), {})
    found = design.sweep(summing, {"rate": [0.1, 0.4]}, {"player": 1}, measures=["welfare"])
    np.testing.assert_allclose(found.values["welfare"], [0.1, 0.4])


def test_other_notions_are_swept_too():
    found = design.sweep(canal, {"fine": [0.0, 0.7]}, CRACKING, notion="perfect")
    singles = [canal(fine=fine).check(CRACKING, "perfect").ok for fine in (0.0, 0.7)]
    assert found.values["equilibrium"].tolist() == singles


def test_solving_counts_constant_equilibria():
    found = design.sweep(canal, {"fine": [0.0, 0.7], "pay_rate": [0.0, 0.3]}, "solve")
    for i, fine in enumerate((0.0, 0.7)):
        for j, rate in enumerate((0.0, 0.3)):
            rows = design.compare({"one": canal(fine=fine, pay_rate=rate)})
            count = sum(row["equilibrium"] is not None for row in rows)
            assert found.values["equilibria"][i, j] == count


def test_a_sweep_is_written_and_drawn(tmp_path):
    found = design.sweep(canal, {"fine": [0.0, 0.7], "pay_rate": [0.0, 0.3]}, CRACKING)
    found.to_csv(tmp_path / "sweep.csv")
    rows = list(csv.reader((tmp_path / "sweep.csv").open()))
    assert rows[0] == ["fine", "pay_rate", "equilibrium", "welfare"]
    assert rows[4][:3] == ["0.7", "0.3", "1"]
    assert len(rows) == 5
    text = found.to_json()
    assert text["measures"]["equilibrium"] == found.values["equilibrium"].ravel().tolist()
    assert found.draw().axes[0].get_xlabel().replace(" ", "_") == "fine"
    with pytest.raises(InputError, match="measure 'gini': expected equilibrium, welfare"):
        found.draw("gini")


def test_the_least_pay_rate_and_fine_are_found():
    # The monitor gets 4t - 1 for work and 0 for none; the last farmer sees 6: 5(1-t-p) <= 2(1-t).
    best = design.search(
        canal, {"pay_rate": (0.0, 1.0), "fine": (0.0, 1.0)}, ["-pay_rate", "-fine"],
        [design.equilibrium(CRACKING)], method="bisect",
    )  # fmt: skip
    assert best.feasible
    assert best.parameters["pay_rate"] == pytest.approx(0.25, abs=1e-7)
    assert best.parameters["fine"] == pytest.approx(0.45, abs=1e-6)


@pytest.mark.parametrize("method", ["grid", "evolution"])
def test_a_search_meets_its_conditions(method):
    best = design.search(
        canal, {"fine": (0.0, 1.0)}, "-fine", [design.equilibrium(CRACKING)], method=method,
        params={"pay_rate": 0.3},
    )  # fmt: skip
    # 5(0.7 - p) <= 1.4.
    assert best.parameters["fine"] == pytest.approx(0.42, abs=2e-3)
    assert best.parameters["fine"] >= 0.42 - 1e-8
    assert canal(pay_rate=0.3, **best.parameters).check(CRACKING).ok


def test_a_search_without_an_answer_says_so():
    shirking = design.equilibrium({**CRACKING, "monitor": "Shirk"})
    best = design.search(canal, {"fine": (0.0, 1.0)}, "welfare", [shirking])
    assert not best.feasible
    assert math.isnan(best.objective)


def test_the_gradient_climbs_to_the_top_of_a_smooth_objective():
    @game
    def effort(b, wage=1.0):
        # Logit play of work with probability 1 / (1 + exp(-(wage - 1))) at precision 1.
        work = b.decide("worker", [0, 1])
        b.pay("worker", lambda x: (wage - 1.0) * x, work)
        b.pay("firm", lambda x: (4.0 - wage) * x, work)

    best = design.search(effort, {"wage": (0.0, 4.0)}, "payoff:firm", method="gradient",
                         precision=1.0)  # fmt: skip
    wages = np.linspace(0, 4, 40_001)
    profit = (4 - wages) / (1 + np.exp(1 - wages))
    assert best.parameters["wage"] == pytest.approx(wages[np.argmax(profit)], abs=1e-3)
    assert best.objective == pytest.approx(profit.max(), abs=1e-8)


def test_where_an_equilibrium_holds():
    ((low, high),) = design.holding_range(canal(pay_rate=0.3), CRACKING, "fine", 0.0, 1.0)
    assert low == pytest.approx(0.42, abs=1e-7)
    assert high == 1.0
    assert design.holding_range(canal(pay_rate=0.1), CRACKING, "fine", 0.0, 1.0) == []


def test_comparing_and_what_nothing_beats():
    rows = design.compare({"none": canal(pay_rate=0.0, fine=0.0), "paid": canal(pay_rate=0.3)})
    assert {row["institution"] for row in rows} == {"none", "paid"}
    paid = [row for row in rows if row["institution"] == "paid"]
    assert [row["profile"] for row in paid] == [CRACKING]
    assert paid[0]["welfare"] == pytest.approx(3.0)
    points = [{"a": 1.0, "b": 3.0}, {"a": 2.0, "b": 2.0}, {"a": 1.0, "b": 2.0}]
    assert design.pareto(points, ["a", "b"]) == points[:2]
    assert design.pareto(points, ["a", "-b"]) == points[1:2]


def test_gini_of_equals_is_nothing_and_of_one_owner_is_nearly_all():
    assert design.gini(np.array([2.0, 2.0, 2.0])) == 0.0
    assert design.gini(np.array([0.0, 0.0, 0.0, 1.0])) == pytest.approx(0.75)
    assert np.isnan(design.gini(np.array([1.0, -1.0])))


def test_sensitivity_is_the_slope_of_payoffs():
    rows = {row["parameter"]: row for row in design.sensitivity(canal, CRACKING)}
    assert rows["pay_rate"]["payoff:farmer1"] == pytest.approx(-2.0)
    assert rows["pay_rate"]["payoff:monitor"] == pytest.approx(4.0)
    assert rows["fine"]["welfare"] == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: design.sweep(canal, {"fines": [0.1]}, CRACKING),
         "parameter 'fines' is not in canal; there are farmers, level, pay_rate, fine"),
        (lambda: design.sweep(canal, {}, CRACKING),
         "sweep: expected at least one parameter with its values"),
        (lambda: design.sweep(canal, {"fine": [0.1]}, CRACKING, measures=["wealth"]),
         "measure 'wealth': expected equilibrium, gain, welfare, gini, payoff:PLAYER, equilibria"),
        (lambda: design.sweep(canal, {"fine": [0.1]}, CRACKING, measures=["payoff:bob"]),
         "measure payoff:bob: the players are monitor, farmer1, farmer2"),
        (lambda: design.search(canal, {"fine": (0.0, 1.0)}, "fine"),
         "search: expected at least one condition, equilibrium(strategies)"),
        (lambda: design.search(canal, {"fine": (1.0, 0.0)}, "fine", [og.design.equilibrium({})]),
         "parameter fine: expected low < high, got 1 and 0"),
    ],
)  # fmt: skip
def test_bad_designs_are_refused(call, message):
    with pytest.raises(InputError) as caught:
        call()
    assert str(caught.value) == message
