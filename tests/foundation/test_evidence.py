"""Claims and verdicts: every test on both sides, inside the interval, and the exact cases."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workingpapers.foundation.errors import InputError
from workingpapers.foundation.evidence import (
    Claim,
    Experiment,
    Needs,
    Test,
    at_least,
    at_most,
    between,
    equals,
    judge,
    reaches,
    student_interval,
)


def claim(test: Test, **changes) -> Claim:
    return Claim(**{"id": "c", "statement": "s", "source": "p", "reported": "-", "test": test,
                    "scale": "quick", **changes})  # fmt: skip


@pytest.mark.parametrize(
    ("test", "values", "verdict"),
    [
        (at_least(1.0), [1.1, 1.11, 1.12], "reproduced"),
        (at_least(1.0), [0.9, 0.91, 0.92], "not reproduced"),
        (at_least(1.0), [0.8, 1.0, 1.3], "inconclusive"),
        (at_most(1.0), [0.9, 0.91, 0.92], "reproduced"),
        (at_most(1.0), [1.1, 1.11, 1.12], "not reproduced"),
        (at_most(1.0), [0.8, 1.0, 1.1], "inconclusive"),
        (between(1.0, 2.0), [1.5, 1.51, 1.52], "reproduced"),
        (between(1.0, 2.0), [0.5, 0.51, 0.52], "not reproduced"),
        (between(1.0, 2.0), [2.5, 2.51, 2.52], "not reproduced"),
        (between(1.0, 2.0), [0.9, 1.0, 1.2], "inconclusive"),
        (between(1.0, 2.0), [1.9, 2.0, 2.2], "inconclusive"),
        (between(1.0, 2.0), [0.0, 1.5, 3.0], "inconclusive"),
        (equals(2.0, 0.1), [2.0, 2.01, 2.02], "reproduced"),
        (equals(2.0, 0.1), [2.2, 2.21, 2.22], "not reproduced"),
        (equals(2.0, 0.1), [2.0, 2.1, 2.2], "inconclusive"),
    ],
)
def test_verdicts_on_both_sides_of_every_test_and_inside_the_interval(test, values, verdict):
    assert judge(claim(test), values, "quick").verdict == verdict


def test_equal_runs_on_the_threshold_are_decided_and_not_inconclusive():
    assert judge(claim(at_least(0.3)), [0.1 + 0.2] * 3, "quick").verdict == "reproduced"
    assert judge(claim(at_most(1.0)), [1.0, 1.0, 1.0], "quick").verdict == "reproduced"


def test_an_exact_claim_is_decided_by_one_run_and_has_no_interval():
    exact = claim(equals(12.0), deterministic=True)
    judged = judge(exact, [12.0], "quick")
    assert (judged.verdict, judged.measured, judged.low, judged.reason) == (
        "reproduced", 12.0, None, "",
    )  # fmt: skip
    assert judge(exact, [13.0], "quick").verdict == "not reproduced"


def test_an_exact_claim_whose_runs_differ_is_failed():
    judged = judge(claim(equals(12.0), deterministic=True), [12.0, 12.5], "quick")
    assert judged.verdict == "failed"
    assert judged.reason == "declared deterministic, but its runs differ"


def test_fewer_runs_than_asked_for_are_decided_by_the_mean_and_marked():
    judged = judge(claim(at_least(1.0), runs=3), [0.5, 1.7], "quick")
    assert judged.verdict == "reproduced"
    assert judged.reason == "decided by the mean of 2 runs; 3 are asked for"
    assert judge(claim(at_least(1.0)), [0.5], "quick").reason.startswith("decided by the mean of 1")


def test_below_its_scale_a_claim_shows_its_number_and_is_not_judged():
    judged = judge(claim(at_least(1.0), scale="laptop"), [2.0, 2.0, 2.1], "quick")
    assert judged.verdict == "not testable at this scale"
    assert judged.reason == "judged from scale laptop on"
    assert judged.measured == pytest.approx(2.0333333333)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_fails_its_claim(value):
    assert judge(claim(at_least(1.0)), [1.0, value], "quick").verdict == "failed"


def test_no_values_fail_a_claim():
    assert judge(claim(at_least(1.0)), [], "quick").reason == "not measured"


def test_the_interval_is_students():
    low, high = student_interval([1.0, 2.0, 4.0])
    # t(0.975, 2) = 4.302653, s = 1.527525
    half = 4.302652729911275 * 1.5275252316519468 / math.sqrt(3)
    assert (low, high) == (pytest.approx(7 / 3 - half), pytest.approx(7 / 3 + half))
    assert student_interval([1.0]) is None


@settings(max_examples=60)
@given(
    st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=6),
    st.floats(-1e3, 1e3),
)
def test_at_least_and_at_most_never_both_fail(values, threshold):
    verdicts = {judge(claim(make(threshold)), values, "quick").verdict
                for make in (at_least, at_most)}  # fmt: skip
    assert verdicts != {"not reproduced"}
    assert verdicts == {"inconclusive"} or "reproduced" in verdicts


def test_tests_print_as_a_reader_expects():
    assert [str(t) for t in (at_least(0.97), at_most(8), between(1, 2), equals(12))] == [
        "≥ 0.97", "≤ 8", "1 … 2", "= 12",
    ]  # fmt: skip


def test_a_range_upside_down_is_refused():
    with pytest.raises(InputError, match="expected low <= high, got 2 and 1"):
        between(2, 1)


def test_scales_are_ordered():
    assert reaches("paper", "laptop")
    assert reaches("laptop", "laptop")
    assert not reaches("quick", "laptop")


def test_needs_grow_with_the_scale():
    needs = Needs(packages=("sklearn",), per_scale={"laptop": Needs(data_packages={"a": "a==1"}),
                  "paper": Needs(files={"mimic": "a table"})})  # fmt: skip
    assert needs.at("quick") == Needs(packages=("sklearn",))
    assert needs.at("laptop") == Needs(packages=("sklearn",), data_packages={"a": "a==1"})
    assert needs.at("paper").files == {"mimic": "a table"}


def test_a_claim_declared_twice_is_refused():
    one = claim(at_least(1))
    with pytest.raises(InputError, match="claim 'c' is declared more than once"):
        Experiment((one, one), lambda study: iter(()))
