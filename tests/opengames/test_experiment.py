"""The experiment's own measurements: what they compare can differ, and is noticed when it does."""

import numpy as np
import pytest

from workingpapers.opengames import library, reference
from workingpapers.opengames import measurements as measure
from workingpapers.opengames.compile import Frontier
from workingpapers.opengames.evaluate import Packed


def test_known_answers_are_compared_and_a_wrong_engine_is_noticed(monkeypatch):
    task = measure.EntryTask("prisoners_dilemma")
    assert measure.compare_known(task)["wrong"] == 0
    assert measure.compare_known(task)["facts"] >= 4
    right = Packed.gains

    def wrong(self, profile, values):
        current, _ = right(self, profile, values)
        return current, current

    monkeypatch.setattr(Packed, "gains", wrong)
    assert measure.compare_known(task)["wrong"] > 0


def test_the_definition_is_compared_and_a_difference_is_noticed(monkeypatch):
    task = measure.RandomTask(5, 0, 1, leaves=20)
    assert measure.compare_literal(task)["worst"] < 1e-9
    right = reference.payoffs
    monkeypatch.setattr(
        reference, "payoffs", lambda *given: {k: v + 1e-6 for k, v in right(*given).items()}
    )
    assert measure.compare_literal(task)["worst"] > 1e-7


def test_laws_are_compared_on_eight_pairs():
    found = measure.check_laws(measure.RandomTask(3, 0, 1))
    assert found == {"failures": 0, "pairs": 8}


@pytest.mark.parametrize(
    "function", [measure.compare_normal_form, measure.round_trips, measure.compare_pure]
)
def test_random_games_agree(function):
    (value,) = function(measure.RandomTask(2, 0, 2)).values()
    assert value < 1e-9


def test_the_term_of_the_canal_is_the_canal_of_the_library():
    found = measure.measure_modularity(measure.CanalTask())
    assert found["changed"] == 1
    assert found["held"]
    assert found["difference"] < 1e-12


def test_all_ten_wiring_mistakes_are_refused():
    assert measure.count_refused_wirings(measure.CanalTask()) == {"refused": 10, "of": 10}


def test_the_region_is_compared_with_whole_numbers():
    found = measure.sweep_irrigation(measure.SweepTask(7))
    assert found["agree"] == 1.0
    assert found["flags"].shape == (7, 7)
    assert 0 < found["flags"].mean() < 1


def test_families_are_compared_with_the_reference():
    found = measure.compare_family(measure.FamilyTask("irrigation_monitored", 2, 7))
    assert (found["mismatch"], found["complete"]) == (0, True)
    assert len(measure.family_tasks()) >= 12


def test_exponents_are_slopes():
    sizes = (10, 100, 1000, 10_000)
    found = [{"compile": size**1.5, "check": 0.0} for size in sizes]
    assert measure.exponent(sizes, found) == pytest.approx(1.5)


def test_a_wide_game_is_right_and_takes_little_memory():
    found = measure.time_scale(measure.TimingTask("irrigation", 20))
    assert found["right"]
    built = library.load("irrigation").game(farmers=20, level=60)
    assert isinstance(built.frontier, Frontier)
    assert built.frontier.n_transitions < 20**2 * 4


def test_samples_are_measured_in_standard_errors():
    found = measure.compare_plays(measure.PlayTask("matching_pennies", 1, 2000))
    assert 0 <= found["worst"] < 5
    assert np.isfinite(found["worst"])
