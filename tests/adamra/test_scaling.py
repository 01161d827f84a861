"""Measuring growth: slopes, points in processes of their own, and what happens to those that fail.

Times are compared with nothing but themselves.
"""

import math
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from workingpapers.adamra.scaling import (
    Measurement,
    fit_slope,
    measure_pairs,
    measure_scaling,
    memory_slope,
    time_slope,
)
from workingpapers.foundation.errors import InputError
from workingpapers.foundation.parallel import map_tasks

LENGTHS = [2048, 4096, 8192, 16384, 32768]


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
def test_the_slope_of_a_power_is_the_power(power):
    values = [3.7 * length**power for length in LENGTHS]
    assert math.isclose(fit_slope(LENGTHS, values), power, abs_tol=1e-12)


def test_the_slope_is_that_of_least_squares():
    # One of three points lies at twice the line: its logarithm moves the middle, not the slope.
    assert math.isclose(fit_slope([1, 2, 4], [1, 4, 4]), 1.0, abs_tol=1e-12)


@pytest.mark.parametrize(
    ("lengths", "values", "message"),
    [
        ([4], [1.0], "a value for each of two or more lengths, found 1 lengths and 1 values"),
        ([4, 4], [1.0, 2.0], "two or more lengths, found 2 lengths and 2 values"),
        ([4, 8], [1.0], "two or more lengths, found 2 lengths and 1 values"),
        ([4, 8], [1.0, 0.0], "slope: expected positive numbers, found one that is not"),
        ([4, 8], [1.0, math.nan], "slope: expected positive numbers, found one that is not"),
    ],
)
def test_what_has_no_slope_is_refused(lengths, values, message):
    with pytest.raises(InputError, match=message):
        fit_slope(lengths, values)


def test_slopes_leave_out_failures_and_gradients_of_parameters():
    points = [
        Measurement("x", length, 2e-6 * length**2, 1.0, 5.0 + 0.01 * length, 5.0)
        for length in LENGTHS
    ]
    points.append(Measurement("x", 65536, failed="took more than 1 s"))
    assert math.isclose(time_slope(points), 2.0, abs_tol=1e-12)
    assert math.isclose(memory_slope(points), 1.0, abs_tol=1e-12)


def test_the_lengths_of_an_attention_take_turns_until_one_fails():
    told: list[str] = []
    points = measure_scaling(
        ["softmax"], [32768, 16384, 256], 8, 1, repeats=2, limit=0.5, tell=told.append
    )
    assert [point.length for point in points] == [256, 16384, 32768]
    done, failed, untried = points
    assert done.failed == ""
    assert done.cpu_seconds > 0
    assert done.wall_seconds > 0
    assert done.tokens_per_second == 256 / done.cpu_seconds
    # Four projections of 8 x 8 in float32, and the output's bias.
    assert done.gradients_mb == (4 * 8 * 8 + 8) * 4 / 2**20
    # A third of a billion exponentials, over matrices of 1 GiB, take longer than half a second.
    assert failed.failed == "took more than 0.5 s"
    assert untried.failed == "not tried: took more than 0.5 s at 16384 tokens"
    assert math.isnan(failed.cpu_seconds)
    assert told == [
        "softmax, 256 tokens: warm-up",
        "softmax, 16384 tokens: warm-up",
        "softmax, 256 tokens: step 1 of 2",
        "softmax, 256 tokens: step 2 of 2",
    ]


def test_pairs_are_compared_round_by_round_also_in_a_task_of_a_parallel_run():
    names = ["sdpa", "softmax", "local"]
    compare = partial(measure_pairs, names, dim=30, heads=2, repeats=3, backward=False)
    (outcome,) = map_tasks(compare, [1024], alone=True)
    fused, explicit, failed = outcome.result
    assert fused.ratios == (1.0, 1.0, 1.0)
    assert len(explicit.ratios) == 3
    assert all(ratio > 0 for ratio in explicit.ratios)
    assert (explicit.measurement.name, explicit.measurement.length) == ("softmax", 1024)
    # The scores and the weights of two heads, in float32.
    assert 15 < explicit.measurement.peak_mb - fused.measurement.peak_mb < 25
    assert failed.measurement.failed == (
        "InputError: local: expected heads of even width, found 15"
    )
    assert failed.ratios == ()
    assert explicit.measurement.gradients_mb == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"attentions": []}, "attentions: expected at least one"),
        ({"attentions": ["reformer"]}, "attention 'reformer': expected adamra, adamra-coarse"),
        ({"attentions": ["linear", "linear"]}, "attentions linear, linear: expected each once"),
        ({"lengths": []}, "lengths: expected at least one"),
        ({"lengths": [8, 0]}, "length 0: expected at least 1"),
        ({"lengths": [8, 8]}, "lengths 8, 8: expected each once"),
        ({"heads": 3}, "heads 3: expected a divisor of dim 64"),
        ({"batch": 0}, "batch 0: expected at least 1"),
        ({"repeats": 0}, "repeats 0: expected at least 1"),
        ({"limit": 0.0}, "limit 0.0: expected seconds above 0"),
        ({"rates": (4, 1)}, r"rates \(4, 1\): expected them to grow, each once"),
    ],
)
def test_bad_arguments_are_refused_before_anything_starts(arguments, message):
    given = {"attentions": ["linear"], "lengths": [8], "dim": 64, "heads": 2} | arguments
    with pytest.raises(InputError, match="^" + message):
        measure_scaling(**given)


ASKING = """
import sys
from workingpapers.adamra.scaling import _Point, _start
process = _start(_Point("softmax", 16384, 8, 1, 1, True, None, 60.0))
process.stdin.write("step\\n")
process.stdin.flush()
print(process.pid, flush=True)
sys.stdin.read()
"""


def test_a_process_does_not_outlive_the_one_that_asks():
    asking = subprocess.Popen(
        [sys.executable, "-c", ASKING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert asking.stdout is not None
    try:
        measuring = int(asking.stdout.readline())
        # It is in the middle of the step once it holds a matrix of 1 GiB.
        wait_until(lambda: memory_mb(measuring) > 1024)
    finally:
        asking.kill()
        asking.communicate()
    wait_until(lambda: memory_mb(measuring) == 0)


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def memory_mb(process: int) -> float:
    """Resident memory; 0 once the process has ended."""
    with suppress(OSError):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    return 0.0
