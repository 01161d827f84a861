"""Two-level minimisation: a shortest disjunctive normal form of a Boolean function.

The function is given by the patterns on which it holds (ON) and those on which it must not (OFF);
all others are don't-cares. A formula is a *cover*: terms (conjunctions of literals) that together
hold on every ON pattern and on no OFF pattern. A term that loses its rightness with any literal
taken away is *prime*; some shortest cover consists of primes. So minimising is

1. finding primes: all of them, from a table of all 3^n terms (the tabular form of Quine and
   McCluskey's method) or, term by term, as minimal hitting sets of the differences to the OFF
   patterns; or good ones, by growing terms greedily (the EXPAND and REDUCE steps of espresso,
   Brayton et al., "Logic Minimization Algorithms for VLSI Synthesis", 1984), or by the recursion
   of Minato and Morreale (Minato, "Fast generation of prime-irredundant covers from binary decision
   diagrams", 1993);
2. choosing among them: a weighted set covering problem. Its linear relaxation bounds every cover
   from below, a local search finds a short one, and integer programming closes the gap.

With all primes at hand the bound holds for every formula; where it meets the cover's cost, the
cover is proved minimum.
"""

import itertools
import math
import time
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Bool, Float, Int, UInt64
from numpy.typing import ArrayLike

from workingpapers.foundation.errors import InputError

Method = Literal["auto", "isop", "heuristic", "exact"]

TABLE_VARIABLES = 20
"""Most variables of a truth table: 2^20 rows."""

# A table of all 3^16 terms takes 43 MB and half a second; one more variable triples both.
_TERNARY_VARIABLES = 16
# Primes, or hitting sets on the way to them, up to which all are generated: when the exact answer
# is asked for, and unasked.
_MOST_PRIMES = 500_000
_MANY_PRIMES = 100_000
# Up to so many patterns the heuristic may run to its end; that takes about a second.
_MOST_STEADY = 20_000
_NO_LIMIT = 1e6
# The masks of the hitting sets are 64-bit words.
_MASK_VARIABLES = 64
# A term table costs as much as this many entries for each hitting set that is found.
_ENTRIES_PER_HITTING_SET = 700
# Bytes, or a few words, for each of so many cells of a large working array.
_CELLS = 1 << 25
# Columns of a linear programme that is solved in one go; beyond, so many enter at a time.
_COLUMNS_AT_ONCE = 8000
_MORE_COLUMNS = 2000
# Entries of a linear programme that takes seconds.
_MOST_ENTRIES = 2_500_000
# Products of matrix entries up to which dominated rows and columns are looked for.
_DOMINANCE_WORK = 20_000_000
# Steps without success that end the local search, for each row and column and at most.
_STEPS = 10
_MOST_STEPS = 3000
# Patterns from which one round of growth starts.
_SEEDS = 1024
# Rounds of growth, or covers that the recursion makes, at most, and those without success that end
# the growth.
_ROUNDS = 12
_IDLE_ROUNDS = 2
# More patterns than these are too many to grow from: then the recursion supplies the primes. Where
# few patterns are free its primes are as good.
_MOST_GROWN = 50_000
_MOST_GROWN_OF_DENSE = 6000
# Terms times ON patterns up to which a choice among terms is made: 128 MB.
_MOST_BITS = 1 << 30


@dataclass(frozen=True, eq=False)
class Cover:
    """A formula in disjunctive normal form, and what is known about shorter ones.

    Row i of `positive` and `negative` marks the literals of term i. No term at all is the constant
    False; one term without literals is the constant True.
    """

    positive: Bool[np.ndarray, "terms n"]
    """Where a term has the variable as it is."""
    negative: Bool[np.ndarray, "terms n"]
    """Where a term has the variable negated."""
    method: str
    """"exact", "heuristic" or "isop": what found the cover."""
    lower_bound: float
    """No formula that solves the problem costs less; nan where nothing is proved."""
    seconds: float
    weights: Float[np.ndarray, " n"]
    """What a literal of each variable costs."""

    @property
    def terms(self) -> int:
        return len(self.positive)

    @property
    def literals(self) -> int:
        return int(self.positive.sum() + self.negative.sum())

    @property
    def cost(self) -> float:
        """The sum of the literals' weights: with weights of one, the number of literals."""
        return float(_prices(self.positive, self.negative, self.weights).sum())

    @property
    def gap(self) -> float:
        """(cost - lower bound) / cost: 0 for a cover proved minimum, nan where nothing is known."""
        if self.cost == 0:
            return 0.0
        share = (self.cost - self.lower_bound) / self.cost
        # The bound of weights without a common unit is right to a millionth.
        return 0.0 if share < 1e-6 else share

    @property
    def minimum(self) -> bool:
        """Whether it is proved that no formula costs less."""
        return self.gap == 0

    def __call__(self, patterns: Bool[np.ndarray, "rows n"]) -> Bool[np.ndarray, " rows"]:
        """The formula's value on each row; raises InputError for another number of columns."""
        if patterns.ndim != 2 or patterns.shape[1] != self.positive.shape[1]:
            raise InputError(
                f"patterns: expected a matrix of {self.positive.shape[1]} columns, one a variable, "
                f"found shape {patterns.shape}"
            )
        value = np.zeros(len(patterns), dtype=bool)
        used = np.flatnonzero((self.positive | self.negative).any(axis=0))
        for begin in range(0, len(patterns), 1 << 18):
            rows = patterns[begin : begin + (1 << 18)]
            holds = _packed(rows[:, used].T)
            fails = ~holds
            any_term = np.zeros(holds.shape[1], dtype=np.uint64)
            for positive, negative in zip(self.positive, self.negative, strict=True):
                term = np.full(holds.shape[1], ~np.uint64(0))
                for literal in holds[positive[used]]:
                    term &= literal
                for literal in fails[negative[used]]:
                    term &= literal
                any_term |= term
            value[begin : begin + len(rows)] = _unpacked(any_term[None], len(rows))[0]
        return value


def minimize(
    on: ArrayLike,
    off: ArrayLike | None = None,
    dont_care: ArrayLike | None = None,
    *,
    method: Method = "auto",
    weights: ArrayLike | None = None,
    time_limit: float = 2.0,
) -> Cover:
    """A DNF with as few literals as can be found that holds on all of `on` and on none of `off`.

    `on`, `off` and `dont_care` are each a truth table, a vector of 2^n truth values whose index has
    the value of variable j in bit j (n at most 20), or a matrix of patterns, one a row, of n
    columns. Values are Boolean or 0 and 1. Without `off` the formula is false on all patterns that
    are in neither `on` nor `dont_care`; with `off` every pattern named nowhere is free. A pattern
    in `dont_care` is free even when `on` or `off` has it.

    The cost is the number of literals, or the sum of their variables' `weights` (positive, one a
    variable); among covers of equal cost fewer terms are preferred. Every term of the answer is
    prime and none can be left out. `method`:

    - "exact": all primes, then a minimum cover. `Cover.minimum` says whether that was proved within
      the limits; otherwise `Cover.lower_bound` says how far from it the cover can be. With too many
      primes the heuristic answers instead, and `Cover.method` says so.
    - "heuristic": greedily grown primes and a local search for the cheapest choice among them.
    - "isop": one irredundant cover by recursion (n at most 20), the quickest for whole tables.
    - "auto": exact where all primes can be had in about a second and the proof succeeds, the
      heuristic otherwise.

    `time_limit` bounds the search for something shorter, in seconds; what every answer needs comes
    on top. Where it does not bite, equal calls give equal covers. With "auto" and at most 20,000
    patterns it bounds the proof alone, and an unproved cover is the heuristic's, which is the same
    each time.

    Raises InputError for shapes or values that are none of the above, for a pattern that is in both
    `on` and `off`, and for a table of more than 2^20 rows.
    """
    began = time.perf_counter()
    if method not in get_args(Method):
        raise InputError(f"method: expected one of {', '.join(get_args(Method))}, found {method!r}")
    if not time_limit > 0:
        raise InputError(f"time_limit: expected seconds above 0, found {time_limit}")
    problem = _problem(on, off, dont_care, weights)
    deadline = began + time_limit
    width = problem.on.shape[1]
    if method == "isop" and width > TABLE_VARIABLES:
        raise InputError(
            f"method isop: works on truth tables of at most {TABLE_VARIABLES} variables, "
            f"found {width}; method heuristic takes more"
        )
    if len(problem.on) == 0 or len(problem.off) == 0:
        constant = np.zeros((min(1, len(problem.on)), width), dtype=bool)
        solution = _Solution(_Primes(constant, constant), "exact", 0.0)
    elif method == "isop":
        solution = _Solution(_isop(problem), "isop", math.nan)
    elif method == "heuristic":
        solution = _heuristic(problem, deadline)
    else:
        solution = _exact(problem, deadline, patient=method == "exact")
        known = len(problem.on) + len(problem.off)
        if method == "auto" and known <= _MOST_STEADY and not _is_proved(problem, solution):
            # What an unfinished proof ends with depends on the clock; the heuristic's steps, let
            # run to their end, do not.
            steady = _heuristic(problem, began + _NO_LIMIT)
            solution = _Solution(steady.primes, "heuristic", solution.lower_bound)
    positive, negative = solution.primes
    # Short terms first; among equally long ones by variable, plain before negated.
    literals = np.stack([positive, negative], axis=2).reshape(len(positive), 2 * width)
    order = np.lexsort((*~literals.T[::-1], literals.sum(axis=1)))
    return Cover(
        positive=positive[order],
        negative=negative[order],
        method=solution.method,
        lower_bound=solution.lower_bound,
        seconds=time.perf_counter() - began,
        weights=problem.weights,
    )


# ------------------------------------------------------------------------------------------ input


def _is_proved(problem: "_Problem", solution: "_Solution") -> bool:
    """Whether no cover is cheaper than the solution's."""
    cost = float(((solution.primes.positive | solution.primes.negative) @ problem.weights).sum())
    return bool(cost <= solution.lower_bound * (1 + 1e-9) + 1e-9)


class _Problem(NamedTuple):
    """Distinct ON and OFF patterns, and the price of a literal of each variable."""

    on: Bool[np.ndarray, "on n"]
    off: Bool[np.ndarray, "off n"]
    weights: Float[np.ndarray, " n"]


class _Primes(NamedTuple):
    """Terms: where a variable stands as it is, and where negated."""

    positive: Bool[np.ndarray, "terms n"]
    negative: Bool[np.ndarray, "terms n"]

    def take(self, rows: Bool[np.ndarray, " terms"] | Int[np.ndarray, " rows"]) -> "_Primes":
        return _Primes(self.positive[rows], self.negative[rows])


class _Solution(NamedTuple):
    primes: _Primes
    method: str
    lower_bound: float


def _problem(
    on: ArrayLike, off: ArrayLike | None, dont_care: ArrayLike | None, weights: ArrayLike | None
) -> _Problem:
    """The checked arguments of `minimize` as patterns."""
    given = {"on": on, "off": off, "dont_care": dont_care}
    values = {
        name: _truth_values(name, value) for name, value in given.items() if value is not None
    }
    widths = {
        name: value.shape[1] if value.ndim == 2 else len(value).bit_length() - 1
        for name, value in values.items()
    }
    width = widths["on"]
    for name, found in widths.items():
        if found != width:
            raise InputError(f"{name}: expected {width} variables as in `on`, found {found}")
    prices = np.ones(width) if weights is None else np.asarray(weights, dtype=float)
    if prices.shape != (width,) or not np.all((prices > 0) & np.isfinite(prices)):
        raise InputError(f"weights: expected {width} finite numbers above 0, one a variable")
    if width > TABLE_VARIABLES:
        if off is None:
            raise InputError(
                f"off: without it all 2^{width} patterns outside `on` are meant, at most "
                f"2^{TABLE_VARIABLES} fit: give the observed patterns of both kinds as `on` and "
                "`off`, then the others are don't-cares"
            )
        free = {row.tobytes() for row in values.get("dont_care", ())}
        wanted, unwanted = (
            {row.tobytes() for row in values[name]} - free for name in ("on", "off")
        )
        both = [np.frombuffer(row, dtype=bool) for row in sorted(wanted & unwanted)]
        rows = [
            np.frombuffer(b"".join(sorted(found)), dtype=bool).reshape(-1, width)
            for found in (wanted, unwanted)
        ]
    else:
        tables = {name: _table(value) for name, value in values.items()}
        free_table = tables.get("dont_care", np.zeros(2**width, dtype=bool))
        on_table = tables["on"] & ~free_table
        off_table = tables.get("off", ~tables["on"]) & ~free_table
        both = list(_patterns(np.flatnonzero(on_table & off_table), width))
        rows = [_patterns(np.flatnonzero(table), width) for table in (on_table, off_table)]
    if both:
        first = "".join("01"[value] for value in both[0].astype(int))
        raise InputError(
            f"on and off overlap in {len(both)} patterns, for example {first} (variable 0 first): "
            "expected each pattern in one of them at most"
        )
    return _Problem(rows[0], rows[1], prices)


def _truth_values(name: str, given: ArrayLike) -> np.ndarray:
    """A truth table or a matrix of patterns as booleans, or InputError."""
    values = np.asarray(given)
    if values.dtype != np.bool_:
        if values.dtype.kind not in "iuf" or not np.isin(values, (0, 1)).all():
            raise InputError(f"{name}: expected truth values, or the numbers 0 and 1")
        values = values.astype(bool)
    if values.ndim == 2:
        return np.ascontiguousarray(values)
    if values.ndim != 1 or len(values).bit_count() != 1:
        raise InputError(
            f"{name}: expected a truth table of 2^n values or a matrix of one pattern a row, "
            f"found shape {values.shape}"
        )
    if len(values) > 2**TABLE_VARIABLES:
        raise InputError(
            f"{name}: a truth table of 2^{len(values).bit_length() - 1} rows, at most "
            f"2^{TABLE_VARIABLES} fit: give the observed patterns as matrices `on` and `off`"
        )
    return values


def _table(values: np.ndarray) -> Bool[np.ndarray, " table"]:
    """The truth table of a set of patterns; a table stays as it is."""
    if values.ndim == 1:
        return values
    table = np.zeros(2 ** values.shape[1], dtype=bool)
    table[values @ (1 << np.arange(values.shape[1], dtype=np.int64))] = True
    return table


def _patterns(numbers: Int[np.ndarray, " rows"], width: int) -> Bool[np.ndarray, "rows width"]:
    """Rows of a truth table by number: bit j is variable j."""
    return (numbers[:, None] >> np.arange(width)) & 1 == 1


# ---------------------------------------------------------------------------------------- bit sets


def _packed(rows: Bool[np.ndarray, "sets items"]) -> UInt64[np.ndarray, "sets words"]:
    """Each row as a bit set of 64-bit words."""
    count, items = rows.shape
    padded = np.zeros((count, -(-items // 64) * 8), dtype=np.uint8)
    padded[:, : -(-items // 8)] = np.packbits(rows, axis=1, bitorder="little")
    return padded.view("<u8").astype(np.uint64, copy=False)


def _unpacked(
    words: UInt64[np.ndarray, "sets words"], items: int
) -> Bool[np.ndarray, "sets items"]:
    """The inverse of `_packed`."""
    octets = np.ascontiguousarray(words.astype("<u8", copy=False)).view(np.uint8)
    return np.unpackbits(octets, axis=1, count=items, bitorder="little").view(bool)


def _coverage(
    primes: _Primes, patterns: Bool[np.ndarray, "rows n"]
) -> UInt64[np.ndarray, "terms words"]:
    """The set of patterns that each term covers."""
    words = -(-len(patterns) // 64)
    every = _packed(np.ones((1, len(patterns)), dtype=bool))
    covered = np.repeat(every, len(primes.positive), axis=0).reshape(-1, words)
    # 0: no literal, 1: the variable, 2: its negation.
    kinds = primes.positive + 2 * primes.negative.astype(np.int8)
    for variable in range(patterns.shape[1]):
        holds = patterns[:, variable]
        choices = np.concatenate([every, _packed(np.stack([holds, ~holds]))])
        covered &= choices[kinds[:, variable]]
    return covered


def _prices(
    positive: Bool[np.ndarray, "terms n"],
    negative: Bool[np.ndarray, "terms n"],
    weights: Float[np.ndarray, " n"],
) -> Float[np.ndarray, " terms"]:
    """What the literals of each term cost."""
    return (positive | negative) @ weights


# -------------------------------------------------------------------------------------------- ISOP


def _isop(problem: _Problem) -> _Primes:
    """The irredundant cover of Minato's recursion, on truth tables held as long integers.

    Splits on the last variable: what only the half with the variable off (on) can cover gets the
    negated (plain) literal, the rest gets none. Equal subproblems are solved once.
    """
    width = problem.on.shape[1]
    on, off = (_table(patterns) for patterns in (problem.on, problem.off))
    least, most = (
        int.from_bytes(np.packbits(table, bitorder="little").tobytes(), "little")
        for table in (on, ~off)
    )
    solved: dict[tuple[int, int, int], tuple[tuple[int, ...], int]] = {}
    plain = [1 << variable for variable in range(width)]
    negated = [1 << variable + width for variable in range(width)]
    whole = [(1 << (1 << variables)) - 1 for variables in range(width + 1)]

    def cover(least: int, most: int, variables: int) -> tuple[tuple[int, ...], int]:
        """Terms between two tables of so many variables, and their own table."""
        if not least:
            return (), 0
        if most == whole[variables]:
            return (0,), most
        key = (least, most, variables)
        if key in solved:
            return solved[key]
        variables -= 1
        half = 1 << variables
        low_least, low_most = least & whole[variables], most & whole[variables]
        high_least, high_most = least >> half, most >> half
        low, low_table = cover(low_least & ~high_most, low_most, variables)
        high, high_table = cover(high_least & ~low_most, high_most, variables)
        both, both_table = cover(
            low_least & ~low_table | high_least & ~high_table, low_most & high_most, variables
        )
        minus, plus = negated[variables], plain[variables]
        terms = (*[term | minus for term in low], *[term | plus for term in high], *both)
        answer = terms, low_table | both_table | (high_table | both_table) << half
        # Small tables come back often and take little room.
        if variables < 8:
            solved[key] = answer
        return answer

    terms, _ = cover(least, most, width)
    codes = np.array(terms, dtype=np.int64)
    literals = _patterns(codes, 2 * width)
    return _Primes(literals[:, :width], literals[:, width:])


# ------------------------------------------------------------------------------------------ primes


def _all_primes(problem: _Problem, deadline: float, most: int) -> _Primes | None:
    """Every prime that covers an ON pattern; None where there are more than `most`.

    Of two ways the one that needs less work is taken: the minimal hitting sets of each ON pattern,
    whose number is estimated from eight patterns, or a table of all 3^n terms.
    """
    on, off, _ = problem
    width = on.shape[1]
    tabular = width <= _TERNARY_VARIABLES
    limit = min(most, 3**width // _ENTRIES_PER_HITTING_SET) if tabular else most
    primes = None
    if width <= _MASK_VARIABLES and len(on) <= limit:
        primes = _primes_by_pattern(on, off, limit, deadline)
    if primes is None and tabular:
        primes = _primes_by_table(on, off)
    return None if primes is None or len(primes.positive) > most else primes


def _primes_by_table(on: Bool[np.ndarray, "on n"], off: Bool[np.ndarray, "off n"]) -> _Primes:
    """All primes that cover an ON pattern, from tables of all 3^n terms.

    In base 3, digit j of a term's index is 0 for the negated variable j, 1 for the plain one, 2 for
    none. A term is right if its two halves are, and prime if it is and no digit can become 2.
    """
    width = on.shape[1]
    right = _over_all_terms(~_table(off), np.logical_and)
    prime = _over_all_terms(_table(on), np.logical_or)
    prime &= right
    for variable in range(width):
        wider = right.reshape(-1, 3, 3**variable)[:, 2]
        within = prime.reshape(-1, 3, 3**variable)
        within[:, :2] &= ~wider[:, None]
    index = np.flatnonzero(prime)
    digits = np.empty((len(index), width), dtype=np.int8)
    for variable in range(width):
        index, digits[:, variable] = np.divmod(index, 3)
    return _Primes(digits == 1, digits == 0)


def _over_all_terms(
    table: Bool[np.ndarray, " table"], join: np.ufunc
) -> Bool[np.ndarray, " terms"]:
    """The values of a truth table joined over the patterns of each of the 3^n terms."""
    values = table
    for variable in range(len(table).bit_length() - 1):
        halves = values.reshape(-1, 2, 3**variable)
        values = np.empty((len(halves), 3, 3**variable), dtype=bool)
        values[:, :2] = halves
        join(halves[:, 0], halves[:, 1], out=values[:, 2])
    return values.reshape(-1)


def _primes_by_pattern(
    on: Bool[np.ndarray, "on n"], off: Bool[np.ndarray, "off n"], limit: int, deadline: float
) -> _Primes | None:
    """All primes that cover an ON pattern, pattern by pattern; None if more than `limit` in all.

    A term that covers a pattern is right if its variables hit, for each OFF pattern, the set of
    variables in which the two differ: the primes are the minimal hitting sets.
    """
    bits = np.uint64(1) << np.arange(on.shape[1], dtype=np.uint64)
    wanted, unwanted = on @ bits, off @ bits
    # Eight patterns spread over all come first and may use their share of the limit, to give up
    # early. Half-way there can be more sets than in the end.
    sample = np.unique(np.linspace(0, len(on) - 1, 8).astype(int))
    order = np.concatenate([sample, np.setdiff1d(np.arange(len(on)), sample)])
    found: list[np.ndarray] = []
    total = 0
    for tried, row in enumerate(order, start=1):
        share = limit * len(sample) // len(on) if tried <= len(sample) else limit
        sets = _minimal_hitting_sets(unwanted ^ wanted[row], 2 * share + 1000)
        if sets is None or total + len(sets) > share or time.perf_counter() > deadline:
            return None
        total += len(sets)
        found.append(np.stack([sets, sets & wanted[row]], axis=1))
    terms = np.unique(np.concatenate(found), axis=0)
    literal = (terms[:, :1] & bits) != 0
    value = (terms[:, 1:] & bits) != 0
    return _Primes(literal & value, literal & ~value)


def _minimal_hitting_sets(
    sets: UInt64[np.ndarray, " sets"], limit: int
) -> UInt64[np.ndarray, " hitting"] | None:
    """All minimal sets that meet each given set, as bit masks (Berge's algorithm)."""
    sets = np.unique(sets)
    sets = sets[np.argsort(np.bitwise_count(sets), kind="stable")]
    minimal = np.ones(len(sets), dtype=bool)
    for index in range(len(sets)):
        if minimal[index]:
            minimal[index + 1 :] &= (sets[index + 1 :] & sets[index]) != sets[index]
    bits = np.uint64(1) << np.arange(64, dtype=np.uint64)
    hitting = np.zeros(1, dtype=np.uint64)
    for edge in sets[minimal]:
        meets = (hitting & edge) != 0
        kept, extended = hitting[meets], hitting[~meets]
        if len(extended) == 0:
            continue
        grown = [kept]
        for bit in bits[(edge & bits) != 0]:
            wider = extended | bit
            # Only a kept set that meets the edge in this bit alone can lie inside.
            inside = kept[(kept & edge) == bit]
            if len(inside):
                wider = wider[~((wider[:, None] & inside) == inside).any(axis=1)]
            grown.append(wider)
        hitting = np.concatenate(grown)
        if len(hitting) > limit:
            return None
    return hitting


# ---------------------------------------------------------------------------------------- covering


class _Costs(NamedTuple):
    """The columns' costs, and how two choices of equal cost are told apart."""

    cost: Float[np.ndarray, " columns"]
    step: float
    """Smaller differences between the costs of two choices do not exist, or do not count."""
    tie: float
    """What each column costs beside; so little that all rows together do not make a step."""
    near: float
    """A cheap choice rarely has a column that costs so much more than its rows are worth."""


class _Choice(NamedTuple):
    """An answer to a covering problem."""

    columns: Int[np.ndarray, " chosen"]
    bound: float
    """No choice costs less, ties aside."""


def _choose(
    coverage: UInt64[np.ndarray, "columns words"],
    rows: int,
    costs: _Costs,
    deadline: float,
    *,
    prove: bool,
) -> _Choice:
    """Columns of little cost that together cover every row.

    Always: the linear relaxation, then a local search among the columns of least reduced cost. With
    `prove`, integer programming over all columns that can belong to a cheaper choice, while there
    is time, and then for as long again over those of an equally cheap one of fewer columns.
    """
    began = time.perf_counter()
    # Of columns that cover the same rows only the cheapest counts.
    by_cost = np.argsort(costs.cost, kind="stable")
    sets = np.ascontiguousarray(coverage[by_cost]).view(f"V{coverage.itemsize * coverage.shape[1]}")
    _, first = np.unique(sets[:, 0], return_index=True)
    kept = by_cost[first]
    kept = kept[coverage[kept].any(axis=1)]
    matrix = _incidence(coverage[kept], rows)
    cost, step, tie = costs.cost[kept], costs.step, costs.tie
    full = cost + tie

    # The search gets some of the time even where the relaxation could use all of it.
    duals, solution = _relaxation(matrix, full, began + 0.6 * (deadline - began))
    reduced = full - matrix.T @ duals
    least = float(duals.sum())
    # Some cheapest choice has no more columns than there are rows.
    bound = _rounded_up(least - tie * rows, step)
    close = np.flatnonzero((reduced <= costs.near) | (solution > 0) | (not solution.any()))
    forced, core_rows, core = _core(matrix[:, close], full[close])
    enough = _rounded_up(least, tie) - float(full[close[forced]].sum()) + tie / 2
    core = close[core]
    found = _search(
        matrix[:, core][core_rows],
        full[core],
        np.flatnonzero(solution[core] > 0.5),
        enough,
        tie / 2,
        deadline,
    )
    chosen = np.concatenate([close[forced], core[found]])
    if prove and cost[chosen].sum() > bound + step / 2:
        better = np.flatnonzero(reduced < cost[chosen].sum() - step / 2 + tie * rows - least)
        chosen, proved = _integer_program(matrix, cost, better, chosen, step, deadline)
        bound = max(bound, proved)
    value = float(full[chosen].sum())
    if (
        prove
        and cost[chosen].sum() < bound + step / 2
        and value > _rounded_up(least, tie) + tie / 2
    ):
        now = time.perf_counter()
        better = np.flatnonzero(reduced < value - tie / 2 - least)
        chosen, _ = _integer_program(
            matrix, full, better, chosen, tie, min(deadline, now + (now - began))
        )
    return _Choice(kept[chosen], bound)


def _rounded_up(bound: float, step: float) -> float:
    """The least multiple of `step` that is not below a computed bound."""
    return math.ceil(bound / step - 0.01) * step


def _incidence(coverage: UInt64[np.ndarray, "columns words"], rows: int) -> Any:
    """The covering problem's 0-1 matrix, rows by columns, compressed by columns."""
    from scipy.sparse import csc_array

    members = []
    block = max(1, _CELLS // max(rows, 1))
    for begin in range(0, len(coverage), block):
        members.append(np.nonzero(_unpacked(coverage[begin : begin + block], rows))[1])
    ends = np.bitwise_count(coverage).sum(axis=1, dtype=np.int64).cumsum()
    indices = np.concatenate(members).astype(np.int32)
    starts = np.concatenate([[0], ends]).astype(np.int32)
    return csc_array((np.ones(len(indices)), indices, starts), shape=(rows, len(coverage)))


def _relaxation(
    matrix: Any, cost: Float[np.ndarray, " columns"], deadline: float
) -> tuple[Float[np.ndarray, " rows"], Float[np.ndarray, " columns"]]:
    """Dual and primal solution of the covering problem with fractions allowed.

    Columns enter a few at a time, those that the duals of the last round price lowest. The duals
    are scaled to satisfy every column, so that their sum is a bound also when time runs out.
    """
    from scipy.optimize import linprog

    rows, columns = matrix.shape
    size = np.diff(matrix.indptr)
    # Each row pays an equal share of its cheapest column: always a bound.
    by_row = matrix.tocsr()
    share = cost / size
    duals = np.minimum.reduceat(share[by_row.indices], by_row.indptr[:-1])
    solution = np.zeros(columns)
    if matrix.nnz > _MOST_ENTRIES:
        return duals, solution
    active = np.arange(columns)
    if columns > _COLUMNS_AT_ONCE:
        rank = np.empty(columns, dtype=np.int64)
        rank[np.argsort(share, kind="stable")] = np.arange(columns)
        best = np.minimum.reduceat(rank[by_row.indices], by_row.indptr[:-1])
        active = np.flatnonzero(np.isin(rank, best) | (rank < _MORE_COLUMNS))
    while (left := deadline - time.perf_counter()) > 0:
        result = linprog(
            cost[active],
            A_ub=-matrix[:, active],
            b_ub=-np.ones(rows),
            bounds=(0, None),
            method="highs",
            options={"time_limit": left},
        )
        if result.status != 0:
            break
        solution = np.zeros(columns)
        solution[active] = result.x
        worth = np.maximum(-result.ineqlin.marginals, 0.0)
        paid = matrix.T @ worth
        scaled = worth / max(1.0, float((paid / cost).max()))
        if scaled.sum() > duals.sum():
            duals = scaled
        missing = np.flatnonzero(paid > cost * (1 + 1e-9))
        missing = missing[~np.isin(missing, active)]
        if len(missing) == 0:
            break
        order = np.argsort((cost - paid)[missing], kind="stable")
        active = np.union1d(active, missing[order[:_MORE_COLUMNS]])
    return duals, solution


def _core(
    matrix: Any, cost: Float[np.ndarray, " columns"]
) -> tuple[
    Int[np.ndarray, " forced"], Int[np.ndarray, " core_rows"], Int[np.ndarray, " core_columns"]
]:
    """What is left of a covering problem when its easy part is decided.

    A column that alone covers a row is forced. A row whose columns include all columns of another
    row needs no care. A column within another that costs no more is of no use. Again and again.
    """
    forced = np.zeros(0, dtype=np.int64)
    rows, columns = np.arange(matrix.shape[0]), np.arange(matrix.shape[1])
    while len(rows):
        by_row = matrix.tocsr()
        single = np.unique(by_row.indices[by_row.indptr[:-1]][np.diff(by_row.indptr) == 1])
        needed = np.ones(len(rows), dtype=bool)
        if len(single):
            forced = np.concatenate([forced, columns[single]])
            needed[matrix[:, single].indices] = False
        else:
            inner, outer, equal = _inclusions(by_row.T.tocsc())
            needed[outer[~equal | (inner < outer)]] = False
        rows, matrix = rows[needed], by_row[needed].tocsc()
        useful = np.diff(matrix.indptr) > 0
        if not len(single):
            inner, outer, equal = _inclusions(matrix)
            price = cost[columns]
            useful[inner[price[outer] < price[inner]]] = False
            tied = price[outer] == price[inner]
            useful[inner[tied & (~equal | (outer < inner))]] = False
            if needed.all() and useful.all():
                break
        columns, matrix = columns[useful], matrix[:, useful]
    return forced, rows, columns if len(rows) else columns[:0]


def _inclusions(
    matrix: Any,
) -> tuple[Int[np.ndarray, " pairs"], Int[np.ndarray, " pairs"], Bool[np.ndarray, " pairs"]]:
    """Pairs of columns of which the first lies within the second, and whether they are equal.

    None at all where looking for them would take too long.
    """
    size = np.diff(matrix.indptr)
    if (np.diff(matrix.tocsr().indptr).astype(float) ** 2).sum() > _DOMINANCE_WORK:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=bool)
    common = (matrix.T @ matrix).tocoo()
    inner, outer = common.coords
    within = (common.data == size[inner]) & (inner != outer)
    inner, outer = inner[within].astype(np.int64), outer[within].astype(np.int64)
    return inner, outer, size[inner] == size[outer]


def _search(
    matrix: Any,
    cost: Float[np.ndarray, " columns"],
    start: Int[np.ndarray, " start"],
    enough: float,
    step: float,
    deadline: float,
) -> Int[np.ndarray, " chosen"]:
    """A cheap choice, or one of cost `enough`: local search with row weights (Gao et al., 2015).

    Whenever every row is covered a column leaves. In each step one more leaves, the one that loses
    least covered weight for its cost, and columns of uncovered rows enter as long as the choice
    stays cheaper than the best one so far. Rows that stay uncovered gain weight. A column that left
    waits until a neighbour has moved, and of equally good ones the one that rested longest moves.
    """
    rows, columns = matrix.shape
    if rows == 0:
        return np.zeros(0, dtype=np.int64)
    rng = np.random.default_rng(0)
    by_row = matrix.tocsr()
    rows_of = np.split(matrix.indices.astype(np.int64), matrix.indptr[1:-1])
    columns_of = np.split(by_row.indices.astype(np.int64), by_row.indptr[1:-1])
    weight = np.ones(rows)
    chosen = np.zeros(columns, dtype=bool)
    chosen[start] = True
    # How many chosen columns cover a row, and the sum of their numbers: of a single one, its own.
    times = (by_row @ chosen.astype(float)).astype(np.int64)
    owners = (by_row @ np.where(chosen, np.arange(columns), 0.0)).astype(np.int64)
    moved = np.zeros(columns, dtype=np.int64)
    waiting = np.zeros(columns, dtype=bool)
    # The weight a column outside would newly cover; of one inside, minus what it alone covers.
    score = np.where(chosen, -(matrix.T @ (times == 1.0)), matrix.T @ (times == 0.0))

    def move(column: int, now: int) -> None:
        enters = not chosen[column]
        sign = 1 if enters else -1
        mine = rows_of[column]
        fewer = times[mine] - (not enters)
        times[mine] += sign
        owners[mine] += sign * column
        alone, shared = mine[fewer == 0], mine[fewer == 1]
        for row in alone.tolist():
            score[columns_of[row]] -= sign * weight[row]
        score[column] = -sign * weight[alone].sum()
        partners = owners[shared] - column if enters else owners[shared]
        np.add.at(score, partners, sign * weight[shared])
        for row in mine.tolist():
            waiting[columns_of[row]] = False
        waiting[column] = not enters
        chosen[column] = enters
        moved[column] = now

    def best_of(candidates: Int[np.ndarray, " candidates"]) -> int:
        value = score[candidates] / cost[candidates]
        tied = candidates[value >= value.max() - 1e-12]
        return int(tied[moved[tied].argmin()])

    while not times.all():
        move(best_of(np.flatnonzero(~chosen)), 0)
    best, least, newest = chosen.copy(), math.inf, -1
    patience = min(_MOST_STEPS, _STEPS * (rows + columns))
    for now in itertools.count(1):
        while times.all():
            spent = float(cost[chosen].sum())
            if spent < least - step:
                best, least, last = chosen.copy(), spent, now + patience
            move(best_of(np.flatnonzero(chosen)), now)
        if least <= enough or now > last or time.perf_counter() > deadline:
            break
        inside = np.flatnonzero(chosen)
        if len(inside) > 1:
            move(best_of(inside[inside != newest]), now)
        spent = float(cost[chosen].sum())
        while len(missing := np.flatnonzero(times == 0)):
            around = columns_of[missing[rng.integers(len(missing))]]
            allowed = around[~waiting[around]]
            entering = best_of(allowed if len(allowed) else around)
            if spent + cost[entering] > least - step:
                break
            move(entering, now)
            spent, newest = spent + cost[entering], entering
        weight[missing] += 1
        for row in missing.tolist():
            score[columns_of[row]] += 1
    return np.flatnonzero(best)


def _integer_program(
    matrix: Any,
    cost: Float[np.ndarray, " columns"],
    better: Int[np.ndarray, " better"],
    chosen: Int[np.ndarray, " chosen"],
    step: float,
    deadline: float,
) -> tuple[Int[np.ndarray, " chosen"], float]:
    """The cheaper of `chosen` and what HiGHS finds among the columns `better`, and a bound.

    Only choices among `better` can be cheaper than `chosen`: where there are none, it is minimum.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp

    value = float(cost[chosen].sum())
    part = matrix[:, better]
    if np.any(np.diff(part.tocsr().indptr) == 0):
        return chosen, value
    forced, rows, core = _core(part, cost[better])
    found = np.zeros(0, dtype=np.int64)
    bound = float(cost[better[forced]].sum())
    if len(rows):
        left = deadline - time.perf_counter()
        if left <= 0:
            return chosen, -math.inf
        result = milp(
            cost[better[core]],
            constraints=LinearConstraint(part[:, core][rows], lb=1),
            integrality=np.ones(len(core)),
            bounds=Bounds(0, 1),
            options={"time_limit": left, "mip_rel_gap": 0.0},
        )
        bound += -math.inf if result.mip_dual_bound is None else result.mip_dual_bound
        if result.x is None:
            return chosen, min(value, _rounded_up(bound, step)) if bound > 0 else -math.inf
        found = np.flatnonzero(result.x > 0.5)
    answer = better[np.concatenate([forced, core[found]])]
    if cost[answer].sum() < value - step / 2:
        chosen, value = answer, float(cost[answer].sum())
    return chosen, min(value, _rounded_up(bound, step))


# ----------------------------------------------------------------------------------------- growing


def _grow(
    problem: _Problem,
    seeds: Bool[np.ndarray, "seeds n"],
    allowed: Bool[np.ndarray, "seeds n"],
    worth: Int[np.ndarray, " on"],
    rng: np.random.Generator,
) -> _Primes:
    """A prime around each seed, of literals that the seed has in its allowed variables.

    `worth` says how much covering each ON pattern counts, in whole numbers from 1. All allowed
    literals of a seed together must exclude every OFF pattern. The random generator makes each seed
    weigh its choices a little differently.
    """
    on, off = _packed(problem.on.T), _packed(problem.off.T)
    # Plane k holds the ON patterns that have bit k in their worth.
    planes = _packed((worth >> np.arange(int(worth.max()).bit_length())[:, None]) & 1 == 1)
    every_on, every_off = (_packed(np.ones((1, len(rows)), dtype=bool)) for rows in problem[:2])
    used = np.zeros(seeds.shape, dtype=bool)
    block = max(1, _CELLS // (2 * (on.shape[1] + off.shape[1]) * len(problem.weights)))
    for begin in range(0, len(seeds), block):
        part = slice(begin, begin + block)
        count = len(seeds[part])
        noise = rng.random((count, 1)) * rng.random(seeds[part].shape)
        taste = (1 - noise / 2) / problem.weights
        patience = 0.05 * 10 ** rng.random((count, 1))
        # Of each seed's term, as sets of patterns in columns of words: what it covers.
        good, bad = (np.repeat(every.T, count, axis=1) for every in (every_on, every_off))
        active = np.arange(count)
        while len(active):
            values = seeds[begin + active]
            good_left, good_now = _sizes(good, on, values, planes)
            bad_left, bad_now = _sizes(bad, off, values, every_off)
            # The literal is added that removes the largest share of the OFF patterns for the share
            # of the ON patterns it removes, both on a logarithmic scale.
            loss = np.log((good_now + 1) / (good_left + 1)) + patience[active]
            gain = taste[active] * np.log((bad_now + 1) / (bad_left + 1)) / loss
            gain[~allowed[begin + active] | (bad_left == bad_now)] = -1
            variable = gain.argmax(axis=1)
            used[begin + active, variable] = True
            flip = np.where(values[np.arange(len(active)), variable], np.uint64(0), ~np.uint64(0))
            good &= on[variable].T ^ flip
            bad &= off[variable].T ^ flip
            left = bad.any(axis=0)
            active, good, bad = active[left], good[:, left], bad[:, left]
        _drop_unneeded(seeds[part], used[part], problem, off)
    return _Primes(used & seeds, used & ~seeds)


def _sizes(
    sets: UInt64[np.ndarray, "words seeds"],
    variables: UInt64[np.ndarray, "n words"],
    values: Bool[np.ndarray, "seeds n"],
    planes: UInt64[np.ndarray, "planes words"],
) -> tuple[Float[np.ndarray, "seeds n"], Float[np.ndarray, "seeds 1"]]:
    """The size of each set once its seed's literal of each variable is added, and as it is.

    Patterns count with the number that the planes write in binary.
    """
    now = np.zeros(sets.shape[1])
    plain = np.zeros((len(variables), sets.shape[1]))
    for digit, plane in enumerate(planes):
        counted = sets & plane[:, None]
        now += 2.0**digit * np.bitwise_count(counted).sum(axis=0, dtype=np.int64)
        for variable, words in enumerate(variables):
            common = np.bitwise_count(counted & words[:, None])
            plain[variable] += 2.0**digit * common.sum(axis=0, dtype=np.int64)
    return np.where(values, plain.T, now[:, None] - plain.T), now[:, None]


def _drop_unneeded(
    seeds: Bool[np.ndarray, "seeds n"],
    used: Bool[np.ndarray, "seeds n"],
    problem: _Problem,
    off: UInt64[np.ndarray, "n words"],
) -> None:
    """Take literals out of `used`, in place, until each alone excludes some OFF pattern."""
    # Of the literals that can go, the one goes that excludes most ON patterns for its weight.
    share = np.where(seeds, problem.on.mean(axis=0), 1 - problem.on.mean(axis=0))
    value = (share + 1 / len(problem.on)) / problem.weights
    padding = ~_packed(np.ones((1, len(problem.off)), dtype=bool)).T
    active = np.arange(len(seeds))
    while len(active):
        # Sets of OFF patterns that one literal, or more than one, excludes.
        once = np.repeat(padding, len(active), axis=1)
        again = once.copy()
        excluded = []
        for variable, words in enumerate(off):
            value_here = seeds[active, variable]
            broken = words[:, None] ^ np.where(value_here, ~np.uint64(0), np.uint64(0))
            broken &= np.where(used[active, variable], ~np.uint64(0), np.uint64(0))
            again |= once & broken
            once |= broken
            excluded.append(broken)
        alone = once & ~again
        spare = used[active] & ~np.array([(broken & alone).any(axis=0) for broken in excluded]).T
        left = spare.any(axis=1)
        active, spare = active[left], spare[left]
        used[active, np.where(spare, value[active], np.inf).argmin(axis=1)] = False


def _reduced(
    primes: _Primes, on: Bool[np.ndarray, "on n"]
) -> tuple[Bool[np.ndarray, "terms n"], Bool[np.ndarray, "terms n"]]:
    """For each term of an irredundant cover: a pattern it alone covers, and the variables in which
    all such patterns agree. Growing from there finds the term's alternatives."""
    covered = _unpacked(_coverage(primes, on), len(on))
    alone = covered & (covered.sum(axis=0) == 1)
    seeds = on[alone.argmax(axis=1)]
    counts = alone.astype(np.float32) @ on.astype(np.float32)
    return seeds, (counts == 0) | (counts == alone.sum(axis=1)[:, None])


# --------------------------------------------------------------------------------------- solutions


class _Objective(NamedTuple):
    """What is minimised: what the literals cost, in units, and then the number of terms.

    With weights that are whole multiples of a unit all costs are whole; of other weights the least
    is the unit, and costs less than a millionth of it apart count as equal.
    """

    weights: Float[np.ndarray, " n"]
    unit: float
    step: float
    tie: float

    @classmethod
    def of(cls, weights: Float[np.ndarray, " n"], rows: int) -> "_Objective":
        """The objective of a covering problem of so many rows."""
        for parts in range(1, 101):
            scaled = weights * parts
            if np.allclose(scaled, np.rint(scaled), rtol=0, atol=1e-9):
                return cls(weights, 1 / parts, 1.0, 0.5 ** (rows.bit_length() + 4))
        return cls(weights, float(weights.min()), 1e-6, 1e-6 / rows)

    def costs(self, primes: _Primes) -> _Costs:
        cost = _prices(*primes, self.weights) / self.unit
        near = float(self.weights.mean()) / self.unit
        return _Costs(np.rint(cost) if self.step == 1 else cost, self.step, self.tie, near)

    def total(self, primes: _Primes) -> float:
        return float(self.costs(primes).cost.sum()) + self.tie * len(primes.positive)


def _exact(problem: _Problem, deadline: float, *, patient: bool) -> _Solution:
    """A minimum cover from all primes; the heuristic's where that cannot be had or is better."""
    began = time.perf_counter()
    if len(problem.on) == 1:
        return _shortest_term(problem, deadline)
    primes = _all_primes(problem, deadline, _MOST_PRIMES if patient else _MANY_PRIMES)
    if primes is None:
        return _heuristic(problem, deadline)
    objective = _Objective.of(problem.weights, len(problem.on))
    # Choosing gets half of the time even where finding the primes took more.
    now = time.perf_counter()
    deadline = max(deadline, now + (deadline - began) / 2)
    best, bound = _cover(problem, primes, objective, now + 0.7 * (deadline - now), prove=True)
    if objective.costs(best).cost.sum() > bound + objective.step / 2:
        best = min(best, _heuristic(problem, deadline).primes, key=objective.total)
    return _Solution(best, "exact", bound * objective.unit)


def _shortest_term(problem: _Problem, deadline: float) -> _Solution:
    """One ON pattern needs one term: a cheapest set of variables that excludes all OFF patterns."""
    [pattern] = problem.on
    objective = _Objective.of(problem.weights, len(problem.off))
    every = np.eye(len(pattern), dtype=bool)
    costs = objective.costs(_Primes(every, np.zeros_like(every)))
    choice = _choose(
        _packed((problem.off ^ pattern).T), len(problem.off), costs, deadline, prove=True
    )
    used = np.zeros((1, len(pattern)), dtype=bool)
    used[0, choice.columns] = True
    return _Solution(
        _Primes(used & pattern, used & ~pattern), "exact", choice.bound * objective.unit
    )


def _heuristic(problem: _Problem, deadline: float) -> _Solution:
    """A short cover by primes from a pool that grows where the linear relaxation finds it dear."""
    on, off, weights = problem
    rows, width = on.shape
    known = rows + len(off)
    if width <= TABLE_VARIABLES and (
        known > _MOST_GROWN or (known > _MOST_GROWN_OF_DENSE and 2 * known >= 2**width)
    ):
        return _by_recursion(problem, deadline)
    objective = _Objective.of(weights, rows)
    rng = np.random.default_rng(0)
    flat = np.ones(rows, dtype=np.int64)

    def grown(seeds: np.ndarray, allowed: np.ndarray | None, worth: np.ndarray) -> _Primes:
        """Primes around the seeds, several for each where there are few."""
        again = np.resize(np.arange(len(seeds)), max(len(seeds), _SEEDS // 2))
        free = np.ones_like(seeds) if allowed is None else allowed
        return _grow(problem, seeds[again], free[again], worth, rng)

    pool = _isop(problem) if width <= _TERNARY_VARIABLES else _Primes(on[:0], on[:0])
    missing = on
    while len(missing):
        sample = np.linspace(0, len(missing) - 1, min(len(missing), _SEEDS)).astype(int)
        pool = _united(pool, grown(missing[sample], None, flat))
        covered = np.bitwise_or.reduce(_coverage(pool, on), axis=0)
        missing = on[~_unpacked(covered[None], rows)[0]]
    # Half of the time at most is for the pool, the rest for choosing from it.
    middle = (time.perf_counter() + deadline) / 2
    idle = 0
    for _ in range(_ROUNDS):
        if idle == _IDLE_ROUNDS or time.perf_counter() > middle:
            break
        matrix = _incidence(_coverage(pool, on), rows)
        duals, _ = _relaxation(matrix, objective.costs(pool).cost, middle)
        dear = np.argsort(-duals, kind="stable")[: min(_SEEDS, np.count_nonzero(duals))]
        worth = 1 + np.minimum(14, np.rint(duals * (4 / duals.mean())).astype(np.int64))
        found = grown(on[dear], None, worth)
        costs = objective.costs(found)
        reduced = costs.cost - _unpacked(_coverage(found, on), rows) @ duals
        idle = 0 if (reduced < -1e-6).any() else idle + 1
        pool = _united(pool, found.take(reduced < costs.near / 2))
    best, _ = _cover(problem, pool, objective, deadline, prove=False)
    idle = 0
    while idle < _IDLE_ROUNDS and time.perf_counter() < deadline:
        pool = _united(pool, grown(*_reduced(best, on), flat))
        cover, _ = _cover(problem, pool, objective, deadline, prove=False)
        idle = 0 if objective.total(cover) < objective.total(best) - objective.tie / 2 else idle + 1
        best = min(best, cover, key=objective.total)
    return _Solution(best, "heuristic", math.nan)


def _by_recursion(problem: _Problem, deadline: float) -> _Solution:
    """For large tables: a cover by terms of Minato's covers for several variable orders."""
    on, off, weights = problem
    objective = _Objective.of(weights, len(on))
    rng = np.random.default_rng(0)
    began = time.perf_counter()
    best = pool = _isop(problem)
    for _ in range(_ROUNDS):
        if time.perf_counter() > began + (deadline - began) / 4:
            break
        order = rng.permutation(len(weights))
        back = np.argsort(order)
        permuted = _isop(_Problem(on[:, order], off[:, order], weights[order]))
        cover = _Primes(permuted.positive[:, back], permuted.negative[:, back])
        best = min(best, cover, key=objective.total)
        pool = _united(pool, cover)
    if len(pool.positive) * len(on) <= _MOST_BITS and time.perf_counter() < deadline:
        cover, _ = _cover(problem, pool, objective, deadline, prove=False)
        best = min(best, cover, key=objective.total)
    return _Solution(best, "heuristic", math.nan)


def _cover(
    problem: _Problem,
    primes: _Primes,
    objective: _Objective,
    deadline: float,
    *,
    prove: bool,
) -> tuple[_Primes, float]:
    """An irredundant cover from the given primes, and a bound on what any such cover costs."""
    choice = _choose(
        _coverage(primes, problem.on),
        len(problem.on),
        objective.costs(primes),
        deadline,
        prove=prove,
    )
    chosen = primes.take(choice.columns)
    covered = _incidence(_coverage(chosen, problem.on), len(problem.on))
    times = np.bincount(covered.indices, minlength=len(problem.on))
    kept = np.ones(len(chosen.positive), dtype=bool)
    # The dearest terms whose patterns the others cover go first.
    for term in np.argsort(-objective.costs(chosen).cost, kind="stable"):
        mine = covered.indices[covered.indptr[term] : covered.indptr[term + 1]]
        if (times[mine] > 1).all():
            times[mine] -= 1
            kept[term] = False
    return chosen.take(kept), choice.bound


def _united(one: _Primes, other: _Primes) -> _Primes:
    """The terms of both, without repetition."""
    both = _Primes(*(np.concatenate(pair) for pair in zip(one, other, strict=True)))
    packed = np.packbits(np.hstack(both), axis=1)
    _, first = np.unique(packed.view(f"V{packed.shape[1]}")[:, 0], return_index=True)
    return both.take(np.sort(first))
