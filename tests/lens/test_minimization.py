"""The two-level minimiser: against brute force, and what every cover has to satisfy."""

import heapq
import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workingpapers.foundation.errors import InputError
from workingpapers.lens.minimization import Cover, Method, minimize

METHODS: tuple[Method, ...] = ("auto", "exact", "heuristic", "isop")


def all_patterns(width: int) -> np.ndarray:
    """Every row of a truth table, with variable j in bit j of the row's number."""
    return np.array([[row >> bit & 1 for bit in range(width)] for row in range(2**width)], bool)


def fewest(on: np.ndarray, off: np.ndarray, weights: Sequence[float]) -> tuple[float, int]:
    """The least (cost, terms) of a DNF: primes by definition, covers in order of cost."""
    width = len(weights)
    patterns = all_patterns(width)
    right = {}
    for term in itertools.product((None, 0, 1), repeat=width):
        fixed = [bit for bit in range(width) if term[bit] is not None]
        inside = (patterns[:, fixed] == [term[bit] for bit in fixed]).all(axis=1)
        if not off[inside].any():
            right[term] = np.flatnonzero(inside & on)
    numbers = {row: number for number, row in enumerate(np.flatnonzero(on))}
    primes = [
        (
            sum(weights[bit] for bit in range(width) if term[bit] is not None),
            sum(1 << numbers[row] for row in rows),
        )
        for term, rows in right.items()
        if not any(
            term[bit] is not None and (*term[:bit], None, *term[bit + 1 :]) in right
            for bit in range(width)
        )
    ]
    covering = [[prime for prime in primes if prime[1] >> row & 1] for row in range(len(numbers))]
    queue: list[tuple[float, int, int]] = [(0, 0, 0)]
    seen = set()
    while True:
        cost, terms, covered = heapq.heappop(queue)
        missing = [row for row in range(len(numbers)) if not covered >> row & 1]
        if not missing:
            return cost, terms
        if covered not in seen:
            seen.add(covered)
            # Some prime of the cover has this row, whichever row it is.
            for price, rows in covering[min(missing, key=lambda row: len(covering[row]))]:
                heapq.heappush(queue, (cost + price, terms + 1, covered | rows))


def assert_right_prime_and_irredundant(cover: Cover, on: np.ndarray, off: np.ndarray) -> None:
    """`on` and `off` are patterns; every claim is read off its definition."""
    covers = np.array(
        [
            (on[:, positive].all(axis=1) & ~on[:, negative].any(axis=1))
            for positive, negative in zip(cover.positive, cover.negative, strict=True)
        ]
    ).reshape(cover.terms, len(on))
    assert covers.any(axis=0).all()
    assert not (cover.positive & cover.negative).any()
    # No term can go: each has a pattern of its own.
    assert (covers & (covers.sum(axis=0) == 1)).any(axis=1).all()
    for positive, negative in zip(cover.positive, cover.negative, strict=True):
        broken = (~off & positive) | (off & negative)
        assert broken.any(axis=1).all()
        # No literal can go: each alone keeps some OFF pattern out.
        alone = broken[broken.sum(axis=1) == 1]
        assert np.array_equal(alone.any(axis=0), positive | negative)


def random_table(seed: int, width: int, free: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    draw = rng.random(2**width)
    share = rng.uniform(0.15, 0.7) * (1 - free)
    return draw < share, draw >= share + free


def network_table(seed: int, width: int, hidden: int = 8) -> np.ndarray:
    """Where the output of a random sigmoid network is above its median."""
    rng = np.random.default_rng(seed)
    signs = 2.0 * all_patterns(width) - 1
    values = 1 / (1 + np.exp(-(signs @ rng.normal(size=(width, hidden)) + rng.normal(size=hidden))))
    output = values @ rng.normal(size=hidden)
    return output > np.median(output)


@pytest.mark.parametrize("free", [0.0, 0.3])
def test_covers_of_small_functions_are_as_short_as_brute_force_finds(free: float) -> None:
    for seed in range(100):
        width = 2 + seed % 5
        on, off = random_table(seed, width, free)
        cover = minimize(on, off)
        if not on.any() or not off.any():
            assert cover.literals == 0
            continue
        assert (cover.cost, cover.terms) == fewest(on, off, [1] * width)
        assert cover.minimum
        assert cover.lower_bound == cover.literals
        if seed % 5 == 0:
            heuristic = minimize(on, off, method="heuristic")
            assert cover.literals <= heuristic.literals <= cover.literals * 1.2


@pytest.mark.parametrize("whole", [True, False])
def test_the_weights_decide_which_cover_is_cheapest(whole: bool) -> None:
    for seed in range(30):
        rng = np.random.default_rng(seed)
        width = 2 + seed % 4
        on, off = random_table(seed, width, 0.3)
        if not on.any() or not off.any():
            continue
        weights = rng.integers(1, 9, width) / 4 if whole else rng.uniform(0.5, 3, width)
        cover = minimize(on, off, weights=weights)
        cost, _ = fewest(on, off, weights.tolist())
        assert cover.cost == pytest.approx(cost, abs=1e-6)
        assert cover.minimum


def test_a_dear_variable_is_avoided() -> None:
    # x0 = x1 and x2 on all known patterns: one literal or two.
    on = np.array([[1, 1, 1]], bool)
    off = np.array([[0, 1, 0], [0, 0, 1]], bool)
    for method in ("exact", "heuristic"):
        assert minimize(on, off, method=method).positive.tolist() == [[True, False, False]]
        dear = minimize(on, off, method=method, weights=[5, 1, 1])
        assert dear.positive.tolist() == [[False, True, True]]
        assert dear.cost == 2


def test_multiplexer_and_parity_have_their_known_lengths() -> None:
    rows = all_patterns(6)
    multiplexer = rows[np.arange(64), 2 + rows[:, 0] + 2 * rows[:, 1]]
    cover = minimize(multiplexer)
    assert (cover.literals, cover.terms, cover.minimum) == (12, 4, True)
    for width in (2, 3, 5):
        parity = all_patterns(width).sum(axis=1) % 2 == 1
        cover = minimize(parity)
        assert (cover.literals, cover.terms) == (width * 2 ** (width - 1), 2 ** (width - 1))


@pytest.mark.parametrize("method", METHODS)
def test_constants_need_no_literal(method: Method) -> None:
    nothing, everything = np.zeros(8, bool), np.ones(8, bool)
    false = minimize(nothing, method=method)
    assert (false.terms, false.literals, false.cost, false.gap) == (0, 0, 0, 0)
    assert not false(all_patterns(3)).any()
    true = minimize(everything, method=method)
    assert (true.terms, true.literals, true.minimum) == (1, 0, True)
    assert true(all_patterns(3)).all()
    # What need not be right is not what makes a function change.
    assert minimize(everything, nothing, nothing, method=method).literals == 0
    assert minimize(np.arange(8) > 2, None, np.arange(8) <= 2, method=method).literals == 0
    assert minimize(np.zeros((0, 3)), np.ones((1, 3)), method=method).terms == 0
    assert minimize([True], method=method).terms == 1


@given(st.data(), st.sampled_from(METHODS), st.booleans(), st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_every_cover_is_right_prime_and_irredundant(
    data: st.DataObject, method: Method, as_patterns: bool, width: int
) -> None:
    kinds = st.sampled_from((0, 1, 2))
    kind = np.array(data.draw(st.lists(kinds, min_size=2**width, max_size=2**width)))
    on, off, free = kind == 1, kind == 0, kind == 2
    rows = all_patterns(width)
    given_tables = (on, None, free) if data.draw(st.booleans()) else (on, off, None)
    given_form = [
        rows[table] if as_patterns and table is not None else table for table in given_tables
    ]
    cover = minimize(*given_form, method=method)
    assert not cover(rows[off]).any()
    if off.any() and on.any():
        assert_right_prime_and_irredundant(cover, rows[on], rows[off])
        assert cover(rows[on]).all()
        assert cover.lower_bound <= cover.cost or math.isnan(cover.lower_bound)


@pytest.mark.parametrize("method", ["auto", "heuristic", "isop"])
@pytest.mark.parametrize("free", [0.0, 0.6, 0.9])
def test_larger_tables_are_right_prime_and_irredundant(method: Method, free: float) -> None:
    width = 10
    table = network_table(3, width)
    known = np.random.default_rng(5).random(2**width) >= free
    cover = minimize(table & known, ~table & known, method=method, time_limit=0.3)
    rows = all_patterns(width)
    assert_right_prime_and_irredundant(cover, rows[table & known], rows[~table & known])
    if method == "auto":
        assert cover.gap < 0.05


def test_tables_too_large_to_grow_from_are_right_prime_and_irredundant() -> None:
    table = network_table(1, 13)
    cover = minimize(table, method="heuristic", time_limit=0.2)
    rows = all_patterns(13)
    assert_right_prime_and_irredundant(cover, rows[table], rows[~table])
    assert cover.literals <= minimize(table, method="isop").literals


@pytest.mark.parametrize("width", [24, 90])
def test_patterns_of_many_variables_are_separated_by_the_rule_behind_them(width: int) -> None:
    rng = np.random.default_rng(width)
    rows = rng.random((500, width)) < 0.5
    truth = (rows[:, 3] & ~rows[:, 17]) | (rows[:, 5] & rows[:, 11])
    cover = minimize(rows[truth], rows[~truth], method="heuristic")
    assert_right_prime_and_irredundant(cover, rows[truth], rows[~truth])
    assert cover.literals == 4
    assert np.array_equal(cover(rows), truth)


def test_all_primes_come_out_the_same_from_the_table_and_from_the_patterns() -> None:
    # 17 variables are too many for a table of terms; the same function with idle variables fits.
    rng = np.random.default_rng(0)
    rows = np.unique(rng.random((60, 9)) < 0.5, axis=0)
    truth = rng.random(len(rows)) < 0.5
    narrow = minimize(rows[truth], rows[~truth])
    idle = np.zeros((len(rows), 11), bool)
    wide = minimize(*(np.hstack([rows, idle])[part] for part in (truth, ~truth)))
    assert narrow.method == wide.method == "exact"
    assert narrow.minimum
    assert wide.minimum
    assert narrow.literals == wide.literals


def test_one_pattern_gets_a_smallest_set_of_variables_that_tells_it_apart() -> None:
    rng = np.random.default_rng(2)
    off = rng.random((40, 12)) < 0.5
    row = np.ones((1, 12), bool)
    cover = minimize(row, off[~off.all(axis=1)])
    hitting = (~off[~off.all(axis=1)]).astype(int)
    smallest = next(
        size
        for size in range(1, 13)
        if any(
            hitting[:, list(chosen)].any(axis=1).all()
            for chosen in itertools.combinations(range(12), size)
        )
    )
    assert (cover.terms, cover.literals, cover.minimum) == (1, smallest, True)
    far = rng.random((300, 200)) < 0.5
    cover = minimize(far[:1], far[1:], time_limit=0.2)
    assert_right_prime_and_irredundant(cover, far[:1], far[1:])


def isop_by_definition(least: np.ndarray, most: np.ndarray) -> set[tuple[int, ...]]:
    """Minato's recursion on plain arrays; a term has 1, -1 or 0 for each variable."""
    if not least.any():
        return set()
    if most.all():
        return {(0,) * (len(most).bit_length() - 1)}
    half = len(most) // 2
    (low, high), (low_most, high_most) = np.split(least, 2), np.split(most, 2)
    without = isop_by_definition(low & ~high_most, low_most)
    having = isop_by_definition(high & ~low_most, high_most)
    rest = isop_by_definition(
        low & ~table_of(without, half) | high & ~table_of(having, half), low_most & high_most
    )
    return (
        {(*term, -1) for term in without}
        | {(*term, 1) for term in having}
        | {(*term, 0) for term in rest}
    )


def table_of(terms: set[tuple[int, ...]], size: int) -> np.ndarray:
    signs = 2 * all_patterns(size.bit_length() - 1).astype(int) - 1
    table = np.zeros(size, bool)
    for term in terms:
        table |= (signs * np.array(term, dtype=int) >= 0).all(axis=1)
    return table


@pytest.mark.parametrize("free", [0.0, 0.4])
def test_the_recursion_on_long_integers_follows_its_definition(free: float) -> None:
    for seed in range(20):
        on, off = random_table(seed, 6, free)
        cover = minimize(on, off, method="isop")
        terms = cover.positive.astype(int) - cover.negative.astype(int)
        assert {tuple(term) for term in terms.tolist()} == isop_by_definition(on, ~off)
        assert cover.method == "isop"
        assert math.isnan(cover.gap)
        assert not cover.minimum


def test_free_patterns_are_free_whatever_else_names_them() -> None:
    table = np.array([0, 1, 1, 0, 1, 1, 1, 1], bool)
    free = np.array([0, 0, 0, 1, 1, 0, 0, 0], bool)
    expected = minimize(table & ~free, ~table & ~free)
    rows = all_patterns(3)
    for form in (lambda value: value, lambda value: rows[value]):
        for off in (None, form(~table), form(~table & ~free)):
            cover = minimize(form(table), off, form(free))
            assert np.array_equal(cover.positive, expected.positive)
            assert np.array_equal(cover.negative, expected.negative)
    wide = np.hstack([rows, np.zeros((8, 30), bool)])
    cover = minimize(wide[table], wide[~table], wide[free])
    assert cover.literals == expected.literals


def test_tables_patterns_and_numbers_mean_the_same() -> None:
    table = network_table(0, 5)
    rows = all_patterns(5)
    expected = minimize(table)
    again = [
        minimize(table.astype(int).tolist()),
        minimize(rows[table]),
        minimize(table, ~table),
        minimize(np.repeat(rows[table], 2, axis=0)[::-1], rows[~table].astype(float)),
        minimize(table, rows[~table]),
    ]
    for cover in again:
        assert np.array_equal(cover.positive, expected.positive)
        assert np.array_equal(cover.negative, expected.negative)


def test_equal_calls_give_equal_covers() -> None:
    on, off = random_table(1, 9, 0.7)
    for method in METHODS:
        one, other = (minimize(on, off, method=method, time_limit=60) for _ in range(2))
        assert np.array_equal(one.positive, other.positive)
        assert np.array_equal(one.negative, other.negative)


def test_a_cover_is_evaluated_row_by_row() -> None:
    rng = np.random.default_rng(0)
    positive = rng.random((6, 70)) < 0.03
    negative = (rng.random((6, 70)) < 0.03) & ~positive
    cover = Cover(positive, negative, "isop", math.nan, 0.0, np.ones(70))
    rows = rng.random((1000, 70)) < 0.5
    expected = [
        any(
            row[one].all() and not row[other].any()
            for one, other in zip(positive, negative, strict=True)
        )
        for row in rows
    ]
    assert cover(rows).tolist() == expected
    assert 0 < sum(expected) < 1000
    assert cover(rows[:0]).shape == (0,)
    assert (cover.literals, cover.terms) == (int(positive.sum() + negative.sum()), 6)
    with pytest.raises(InputError, match=r"expected a matrix of 70 columns, .* shape \(1000, 69\)"):
        cover(rows[:, 1:])


def test_bad_input_is_named() -> None:
    table = np.array([0, 1, 1, 1], bool)
    rows = np.zeros((2, 30), bool)
    cases = [
        (
            lambda: minimize(table, np.array([1, 0, 1, 0], bool)),
            "on and off overlap in 1 patterns, for example 01 (variable 0 first): "
            "expected each pattern in one of them at most",
        ),
        (
            lambda: minimize(rows, rows),
            f"on and off overlap in 1 patterns, for example {'0' * 30} (variable 0 first): "
            "expected each pattern in one of them at most",
        ),
        (
            lambda: minimize(np.zeros(2**21, bool)),
            "on: a truth table of 2^21 rows, at most 2^20 fit: give the observed patterns as "
            "matrices `on` and `off`",
        ),
        (
            lambda: minimize(rows),
            "off: without it all 2^30 patterns outside `on` are meant, at most 2^20 fit: give the "
            "observed patterns of both kinds as `on` and `off`, then the others are don't-cares",
        ),
        (
            lambda: minimize(rows, ~rows, method="isop"),
            "method isop: works on truth tables of at most 20 variables, found 30; "
            "method heuristic takes more",
        ),
        (
            lambda: minimize(table[:3]),
            "on: expected a truth table of 2^n values or a matrix of one pattern a row, "
            "found shape (3,)",
        ),
        (
            lambda: minimize(table, rows),
            "off: expected 2 variables as in `on`, found 30",
        ),
        (
            lambda: minimize([0, 1, 2, 1]),
            "on: expected truth values, or the numbers 0 and 1",
        ),
        (
            lambda: minimize(table, None, ["a", "b", "c", "d"]),
            "dont_care: expected truth values, or the numbers 0 and 1",
        ),
        (
            lambda: minimize(table, weights=[1, 0]),
            "weights: expected 2 finite numbers above 0, one a variable",
        ),
        (
            lambda: minimize(table, time_limit=0),
            "time_limit: expected seconds above 0, found 0",
        ),
    ]
    for call, message in cases:
        with pytest.raises(InputError) as error:
            call()
        assert str(error.value) == message
