"""Formulas: their normal form, their algebra, their evaluation and their text."""

import itertools
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workingpapers.foundation.errors import InputError
from workingpapers.lens.formula import Formula, Predicate

NAMES = ("a", "b", "c", "d", "e")
ALL = np.array(list(itertools.product([False, True], repeat=len(NAMES))))

terms = st.lists(st.dictionaries(st.sampled_from(NAMES), st.booleans(), max_size=4), max_size=6)


def over_names(drawn: list[dict[str, bool]]) -> Formula:
    return Formula.from_terms(NAMES, drawn)


def value(drawn: list[dict[str, bool]], row: np.ndarray) -> bool:
    """A disjunction of conjunctions, read off its definition."""
    facts = dict(zip(NAMES, row, strict=True))
    return any(all(facts[name] == wanted for name, wanted in term.items()) for term in drawn)


@given(terms)
@settings(max_examples=20, deadline=None)
def test_a_formula_means_its_terms_and_keeps_none_that_is_implied(
    drawn: list[dict[str, bool]],
) -> None:
    formula = over_names(drawn)
    assert formula(ALL).tolist() == [value(drawn, row) for row in ALL]
    kept = [set(term.items()) for term in formula.terms]
    assert not any(one <= other for one, other in itertools.permutations(kept, 2))
    # The terms that are left stand in the order in which they first came.
    first = [drawn.index(term) for term in formula.terms]
    assert first == sorted(first)
    assert formula.n_literals == sum(len(term) for term in formula.terms)
    assert set(formula.concepts) == {name for term in formula.terms for name in term}


def test_contradictions_duplicates_and_absorbed_terms_are_dropped() -> None:
    positive = np.array([[1, 0, 0], [1, 1, 0], [1, 0, 0], [0, 0, 1], [0, 1, 0]], bool)
    negative = np.array([[0, 0, 0], [0, 0, 1], [0, 0, 0], [0, 0, 1], [0, 0, 0]], bool)
    formula = Formula(["x", "y", "z"], positive, negative)
    assert formula.terms == [{"x": True}, {"y": True}]
    assert np.array_equal(formula.positive, [[1, 0, 0], [0, 1, 0]])
    assert not formula.negative.any()


def test_constants_have_no_literals() -> None:
    true, false = Formula.true(NAMES), Formula.false(NAMES)
    assert (true.n_terms, true.n_literals, true.concepts) == (1, 0, ())
    assert (false.n_terms, false.n_literals, false.concepts) == (0, 0, ())
    assert true(ALL).all()
    assert not false(ALL).any()
    assert ~true == false
    assert ~false == true
    assert Formula.from_terms(NAMES, [{"a": True}, {}]) == true
    assert Formula.parse("a & ~a", NAMES) == false
    assert Formula.true()(np.zeros((3, 0), bool)).tolist() == [True] * 3
    assert Formula.true() & Formula.false() == Formula.false()


@pytest.mark.parametrize("concepts", [1, 7, 63, 64, 65, 130])
def test_evaluation_by_words_agrees_with_evaluation_by_rows(concepts: int) -> None:
    generator = np.random.default_rng(concepts)
    names = [f"x{column}" for column in range(concepts)]
    positive = generator.random((12, concepts)) < 1.5 / concepts
    negative = (generator.random((12, concepts)) < 1.5 / concepts) & ~positive
    formula = Formula(names, positive, negative)
    for rows in (0, 1, 63, 64, 65, 200):
        X = generator.random((rows, concepts))
        expected = [
            any(
                all(row[on] > 0.5) and not any(row[off] > 0.5)
                for on, off in zip(positive, negative, strict=True)
            )
            for row in X
        ]
        assert formula(X).tolist() == expected
        assert formula(X > 0.5).tolist() == expected
        assert formula(np.asfortranarray(X, np.float32)).tolist() == expected


def test_rows_may_be_lists_numbers_and_objects() -> None:
    formula = Formula.parse("a | ~b")
    assert formula([[1, 1], [0, 1], [0, 0]]).tolist() == [True, False, True]
    assert formula([[0.51, 1.0], [0.5, 0.9]]).tolist() == [True, False]
    assert formula([[np.nan, 1.0], [0.0, np.nan]]).tolist() == [False, True]
    assert formula(np.array([[True, 1], [None, 1]], object)).tolist() == [True, False]


def test_rows_of_the_wrong_width_or_kind_are_refused() -> None:
    formula = Formula.parse("a | b")
    message = r"X: expected rows of 2 values, one a concept, found the shape \(1, 3\)"
    with pytest.raises(InputError, match=message):
        formula([[1, 0, 1]])
    with pytest.raises(InputError, match=r"one a concept, found the shape \(2,\)"):
        formula([1, 0])
    with pytest.raises(InputError, match="X: expected Booleans or numbers"):
        formula([["yes", "no"]])


@given(terms, terms)
@settings(max_examples=20, deadline=None)
def test_the_algebra_is_boolean(one: list[dict[str, bool]], other: list[dict[str, bool]]) -> None:
    left, right = over_names(one), over_names(other)
    assert np.array_equal((left & right)(ALL), left(ALL) & right(ALL))
    assert np.array_equal((left | right)(ALL), left(ALL) | right(ALL))
    assert np.array_equal((~left)(ALL), ~left(ALL))
    assert left.equivalent(right) == np.array_equal(left(ALL), right(ALL))
    assert left.implies(right) == (not np.any(left(ALL) & ~right(ALL)))
    assert (left == right) == (
        {frozenset(term.items()) for term in left.terms}
        == {frozenset(term.items()) for term in right.terms}
    )


def test_the_complement_over_many_concepts_is_right() -> None:
    generator = np.random.default_rng(0)
    names = [f"x{column}" for column in range(16)]
    formula = Formula.from_terms(
        names,
        [
            {names[column]: bool(generator.integers(2)) for column in columns}
            for columns in (generator.choice(16, 3, replace=False) for _ in range(12))
        ],
    )
    assert len(formula.concepts) > 12
    assert np.array_equal((~formula).truth_table(names), ~formula.truth_table(names))


def test_the_complement_of_a_conjunction_has_one_literal_a_term() -> None:
    assert ~Formula.parse("a & ~b & c") == Formula.parse("~a | b | ~c")


def test_a_conjunction_that_would_explode_is_refused() -> None:
    wide = [Formula.parse(" | ".join(f"{name}{index}" for index in range(300))) for name in "xy"]
    message = "the conjunction has 300 x 300 terms before simplification, more than 65536"
    with pytest.raises(InputError, match=message):
        wide[0] & wide[1]


def test_names_of_both_sides_are_joined() -> None:
    joined = Formula.parse("b | a") & Formula.parse("c | a")
    assert joined.names == ("b", "a", "c")
    assert joined.terms == [{"b": True, "c": True}, {"a": True}]


def test_equality_minds_names_and_ignores_the_order_of_terms() -> None:
    formula = Formula.parse("a & b | ~c")
    same = Formula.from_terms(("a", "b", "c"), [{"c": False}, {"b": True, "a": True}])
    assert formula == same
    assert hash(formula) == hash(same)
    assert formula != formula.over(("c", "b", "a"))
    assert formula != Formula.parse("a & b | c")
    assert formula != "a & b | ~c"
    assert pickle.loads(pickle.dumps(formula)) == formula


def test_a_formula_cannot_be_changed() -> None:
    formula = Formula.parse("a & b")
    with pytest.raises(AttributeError):
        formula.names = ("x", "y")  # type: ignore[misc]
    with pytest.raises(AttributeError):
        formula.note = "mine"  # type: ignore[attr-defined]
    formula.positive[:] = False
    assert formula.terms == [{"a": True, "b": True}]


def test_formulas_over_other_names_are_compared_by_name() -> None:
    left = Formula.parse("a | b", ("a", "b", "unused"))
    right = Formula.parse("b | a & c | a", ("c", "b", "a"))
    assert left.equivalent(right)
    assert Formula.parse("b").implies(left)
    assert not left.implies(Formula.parse("b"))


def test_a_domain_decides_what_is_equivalent() -> None:
    one, other = Formula.parse("a", ("a", "b")), Formula.parse("~b & a | a", ("b", "a"))
    only = Formula.parse("~b", ("b",))
    exclusive = np.array([[True, False], [False, True]])
    assert one.equivalent(other)
    assert not one.equivalent(only)
    assert one.equivalent(only, exclusive)
    assert not one.implies(Formula.parse("b"), exclusive)
    with pytest.raises(InputError, match="formula: unknown concept 'z'"):
        one.equivalent(Formula.parse("z"), exclusive)


def test_too_many_concepts_to_try_all_assignments_are_refused() -> None:
    names = [f"x{column}" for column in range(21)]
    wide = Formula.parse(" & ".join(names))
    message = r"21 concepts are too many to try all assignments \(at most 20\)"
    with pytest.raises(InputError, match=message):
        wide.equivalent(wide)
    assert wide.equivalent(wide, np.ones((1, 21), bool))
    narrow = Formula.parse("x0 & x1", names)
    assert narrow.implies(Formula.parse("x1", names))


def test_bit_j_of_a_truth_tables_index_is_concept_j() -> None:
    formula = Formula.parse("a & ~c", NAMES)
    table = formula.truth_table(("c", "b", "a"))
    assert [index for index in range(8) if table[index]] == [0b100, 0b110]


@given(terms, terms, terms)
@settings(max_examples=20, deadline=None)
def test_substitution_composes_the_functions(
    outside: list[dict[str, bool]], first: list[dict[str, bool]], second: list[dict[str, bool]]
) -> None:
    low = dict(zip(NAMES, ("p", "q", "r", "s", "t"), strict=True))
    outer = over_names(outside)
    parts = {"a": over_names(first).rename(low), "b": over_names(second).rename(low)}
    composed = outer.substitute(parts)
    assert composed.names == ("c", "d", "e", *low.values())
    generator = np.random.default_rng(0)
    X = generator.random((64, 8)) < 0.5
    middle = np.column_stack([parts["a"](X[:, 3:]), parts["b"](X[:, 3:]), X[:, :3]])
    assert np.array_equal(composed(X), outer(middle))


def test_substitution_is_simultaneous() -> None:
    swapped = Formula.parse("a & ~b").substitute({"a": Formula.parse("b"), "b": Formula.parse("a")})
    assert swapped.equivalent(Formula.parse("b & ~a"))
    with pytest.raises(InputError, match="formula: unknown concept 'z'"):
        Formula.parse("a").substitute({"z": Formula.parse("b")})


def test_renaming_keeps_the_formula() -> None:
    renamed = Formula.parse("x1 & ~x10", ("x10", "x1")).rename({"x1": "odor = n"})
    assert renamed.names == ("x10", "odor = n")
    assert renamed.terms == [{"x10": False, "odor = n": True}]
    with pytest.raises(InputError, match="formula: unknown concept 'x'"):
        renamed.rename({"x": "y"})
    with pytest.raises(InputError, match="names: expected distinct names, found 'x10' twice"):
        renamed.rename({"odor = n": "x10"})


def test_a_formula_moves_only_to_names_that_have_its_concepts() -> None:
    formula = Formula.parse("a & ~b", ("a", "b", "c"))
    assert formula.over(("b", "x", "a")).names == ("b", "x", "a")
    assert formula.over(("b", "x", "a")).terms == [{"b": False, "a": True}]
    with pytest.raises(InputError, match="formula: unknown concept 'b'"):
        formula.over(("a", "c"))


def test_names_must_be_distinct_and_known() -> None:
    with pytest.raises(InputError, match="names: expected distinct names, found 'a' twice"):
        Formula.true(("a", "b", "a"))
    with pytest.raises(InputError, match="formula: unknown concept 'z'"):
        Formula.literal(NAMES, "z")
    empty = np.zeros((1, 2), bool)
    with pytest.raises(InputError, match="formula: expected 3 columns, one a concept, found 2"):
        Formula(("a", "b", "c"), empty, empty)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("a & ~b | c", "(a & ~b) | c"),
        ("a and not b or c", "a & ~b | c"),
        ("A AND NOT B OR C", "A & ~B | C"),
        ("a ∧ ¬b ∨ c", "a & ~b | c"),
        ("~(a | b)", "~a & ~b"),
        ("~~a & ~~~b", "a & ~b"),
        ("(a | b) & (a | c)", "a | b & c"),
        ("a & (true | b)", "a"),
        ("a & FALSE | b", "b"),
        ("  a\n  | b  ", "a | b"),
        ('"a" & "\\u0062"', "a & b"),
    ],
)
def test_the_parser_knows_every_spelling(text: str, same: str) -> None:
    names = "ABC" if "A" in text.replace("AND", "").replace("FALSE", "") else "abc"
    assert Formula.parse(text, list(names)) == Formula.parse(same, list(names))


def test_names_come_in_the_order_of_the_text() -> None:
    formula = Formula.parse('odor = f | ~bruises & "ring & \\"p\\"\\n" | mean_radius > 14.2')
    assert formula.names == ("odor = f", "bruises", 'ring & "p"\n', "mean_radius > 14.2")
    assert formula.terms == [
        {"odor = f": True},
        {"bruises": False, 'ring & "p"\n': True},
        {"mean_radius > 14.2": True},
    ]


def test_truth_words_are_constants_only_when_alone() -> None:
    formula = Formula.parse('veil = true & ~"true"')
    assert formula.terms == [{"veil = true": True, "true": False}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a name, '~' or '(', found the end"),
        ("a & | b", "expected a name, '~' or '(' at character 5, found '|'"),
        ("a |", "expected a name, '~' or '(', found the end"),
        ("(a | b", "expected '&', '|' or ')', found the end"),
        ("a | b)", "expected '&', '|' or the end at character 6, found ')'"),
        ("a (b)", "expected '&', '|' or the end at character 3, found '('"),
        ('"a" b', "expected '&', '|' or the end at character 5, found 'b'"),
        (
            "a | b!",
            "unexpected '!' at character 6: a name with such a character stands in double quotes",
        ),
        ('a & "b', "unexpected '\"' at character 5: the quote is not closed"),
        (
            "a -> b",
            "unexpected '->' at character 3: a name with an arrow in it stands in double quotes",
        ),
        ('a | "\\q"', "the name at character 5 has an escape that JSON lacks"),
        ("(" * 51 + "a", "parentheses are nested deeper than 50"),
    ],
)
def test_a_bad_text_is_refused_with_the_position(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        Formula.parse(text)
    assert str(caught.value) == f"formula: {message}"


def test_an_unknown_concept_in_a_text_is_named() -> None:
    with pytest.raises(InputError) as caught:
        Formula.parse("a & odor = x", ("a", "odor = n"))
    assert str(caught.value) == "formula: unknown concept 'odor = x' at character 5"


@st.composite
def expressions(draw: st.DrawFn, depth: int = 4) -> str:
    """A Python expression over NAMES with and, or, not and parentheses."""
    kind = draw(st.sampled_from(["name", "not", "and", "or"])) if depth else "name"
    if kind == "name":
        return draw(st.sampled_from([*NAMES, "True", "False"]))
    if kind == "not":
        return f"not ({draw(expressions(depth=depth - 1))})"
    return f"({draw(expressions(depth=depth - 1))} {kind} {draw(expressions(depth=depth - 1))})"


@given(expressions())
@settings(max_examples=20, deadline=None)
def test_a_parsed_text_has_the_value_that_python_gives_it(text: str) -> None:
    formula = Formula.parse(text, NAMES)
    code = compile(text, "expression", "eval")
    expected = [eval(code, {}, dict(zip(NAMES, row.tolist(), strict=True))) for row in ALL]
    assert formula(ALL).tolist() == expected


def test_a_predicate_has_a_value_that_fits_its_operator() -> None:
    assert Predicate("age", ">", 61.5).value == 61.5
    assert Predicate("odor", "=", "n").value == "n"
    for operator, wrong in [(">", "n"), (">", float("nan")), ("=", None), ("is missing", 1.0)]:
        with pytest.raises(InputError) as caught:
            Predicate("age", operator, wrong)  # type: ignore[arg-type]
        assert str(caught.value) == (
            "predicate: expected '>' with a finite number, '=' with a string or a finite number, "
            f"'is missing' or 'true' without a value, found {operator!r} with {wrong!r} "
            "for column 'age'"
        )


def test_importing_formulas_imports_neither_sympy_nor_scikit_learn() -> None:
    modules = "formula, exports, metrics"
    code = (
        f"import sys; from workingpapers.lens import {modules}; "
        "print({'sympy', 'sklearn', 'torch', 'scipy'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
