"""Every export, read back by something that shares no code with it, for names of every kind."""

import inspect
import json
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workingpapers.foundation.errors import InputError
from workingpapers.lens import exports
from workingpapers.lens.exports import python_name
from workingpapers.lens.formula import Formula, Predicate

ADVERSARIAL = (
    *("x1", "x10", "", " ", " x", "x  y", "odor = n", "mean_radius > 14.2", "a & b", "a|b"),
    *("(a)", "~a", "a -> b", "<->", "<-", "not", "and", "x or y", "True", "false", "class"),
    *(
        "lambda",
        "bool",
        "x<-5",
        "row",
        "Symbol",
        "holds",
        "None",
        "it's",
        'say "hi"',
        "back\\slash",
        "\\",
        "\\n",
    ),
    *("line\nbreak", "tab\t", "\r", "'", '"', '"; DROP TABLE t; --', "'; DROP TABLE t; --", "--x"),
    *("'; import os; os.abort() #", '"""', "% no comment", "/* */", "größe", "花弁", "\u202etfel"),
    *("\u2028", "\x07", "{brace", "brace}", "$x_1^2$", "50%", "#tag", "[k]", "`tick`", ":name"),
    *(
        "\u0bf0",
        "e\u0301",
        "?",
        "X",
        "_",
        "fail",
        "\\end{document}",
        "\\x41\\",
        "a---b",
        "\U0001f344 cap",
    ),
)
# Names of characters that a table's header can hold; a surrogate alone is no text.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)


def random_formula(names: tuple[str, ...], seed: int) -> Formula:
    """Between none and eight terms of one to four literals."""
    generator = np.random.default_rng(seed)
    terms = []
    for _ in range(generator.integers(9)):
        chosen = generator.choice(len(names), min(len(names), generator.integers(1, 5)), False)
        terms.append({names[column]: bool(generator.integers(2)) for column in chosen})
    return Formula.from_terms(names, terms)


def random_rows(names: tuple[str, ...], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((40, len(names))) < 0.5


FORMULAS = [
    *(random_formula(ADVERSARIAL, seed) for seed in range(1, 9)),
    Formula.from_terms(ADVERSARIAL, [{name: True} for name in ADVERSARIAL]),
    Formula.from_terms(ADVERSARIAL, [dict.fromkeys(ADVERSARIAL, False)]),
    Formula.true(ADVERSARIAL),
    Formula.false(ADVERSARIAL),
]
each_formula = pytest.mark.parametrize("formula", FORMULAS, ids=range(len(FORMULAS)))


# Text


def test_text_reads_as_first_order_logic() -> None:
    formula = Formula.parse("odor = f | ~bruises & ring = p")
    assert formula.to_text() == "odor = f | ~bruises & ring = p"
    assert (
        formula.to_text("poisonous", "observed")
        == "forall x: poisonous(x) <-> odor = f | ~bruises & ring = p   [observed]"
    )
    assert Formula.parse("a").to_text("class = e", arrow="<-") == 'forall x: "class = e"(x) <- a'
    assert Formula.parse('"a & b" & "not c"').to_text() == '"a & b" & "not c"'
    assert Formula.true().to_text("y", "all", "->") == "forall x: y(x) -> True   [all]"
    assert Formula.false().to_text() == "False"


@each_formula
def test_text_is_read_back_by_the_parser(formula: Formula) -> None:
    text = formula.to_text()
    assert text.isprintable()
    assert Formula.parse(text, formula.names) == formula
    assert Formula.parse(text).over(formula.names) == formula


@given(st.lists(texts, min_size=1, max_size=4, unique=True), st.integers(0, 999))
@settings(max_examples=25, deadline=None)
def test_text_json_and_python_hold_any_name(drawn: list[str], seed: int) -> None:
    names = tuple(drawn)
    formula, X = random_formula(names, seed), random_rows(names, seed)
    assert Formula.parse(formula.to_text(), names) == formula
    assert Formula.from_json(formula.to_json()) == formula
    assert (
        run_python(formula.to_python(names[0]), python_name(names[0]), names, X)
        == formula(X).tolist()
    )


# Python


def run_python(source: str, function: str, names: tuple[str, ...], X: np.ndarray) -> list[bool]:
    """What the exported function answers for each row."""
    scope: dict[str, Any] = {}
    exec(source, scope)
    answers = [scope[function](dict(zip(names, row, strict=True))) for row in X.tolist()]
    assert all(type(answer) is bool for answer in answers)
    return answers


@each_formula
def test_python_gives_the_formulas_values(formula: Formula) -> None:
    X = random_rows(ADVERSARIAL, 0)
    source = formula.to_python("poisonous", "observed")
    assert source.startswith("# poisonous <-> the formula   [observed]\ndef poisonous(row):\n")
    assert run_python(source, "poisonous", ADVERSARIAL, X) == formula(X).tolist()
    soft = np.random.default_rng(1).random(X.shape)
    assert run_python(source, "poisonous", ADVERSARIAL, soft) == formula(soft).tolist()


@pytest.mark.parametrize("head", ADVERSARIAL)
def test_python_and_sympy_take_any_head(head: str) -> None:
    names = ("row", "bool")
    formula, X = Formula.parse("row & ~bool"), random_rows(names, 0)
    source = formula.to_python(head, "valid")
    assert run_python(source, python_name(head), names, X) == formula(X).tolist()
    scope: dict[str, Any] = {}
    exec(formula.to_sympy_source(head, "valid"), scope)
    assert scope[python_name(head)] == formula.to_sympy()


def test_python_names_are_close_to_the_heads() -> None:
    heads = ("poisonous", "class = e", "class", "3", "größe", "'; DROP TABLE t; --", "", "ﬁg")
    assert [python_name(head) for head in heads] == [
        *("poisonous", "class_e", "_class", "_3", "größe", "DROP_TABLE_t", "formula", "fig")
    ]


# SQL


def run_sql(query: Callable[[str], str], columns: Mapping[str, list[Any]]) -> list[bool]:
    """Which rows SQLite selects with the query for a table of these columns."""

    def quoted(name: str) -> str:
        return '"' + name.replace('"', '""') + '"'

    database = sqlite3.connect(":memory:")
    # NUL excluded, SQLite's column names are free but for the case of letters.
    table = "t'\"; DROP TABLE t; --"
    heading = ", ".join(map(quoted, columns))
    database.execute(f"CREATE TABLE {quoted(table)} (number, {heading})")
    rows = list(zip(*columns.values(), strict=True))
    database.executemany(
        f"INSERT INTO {quoted(table)} VALUES (?, {', '.join('?' * len(columns))})",
        [(number, *row) for number, row in enumerate(rows)],
    )
    selected = {row[0] for row in database.execute(query(table))}
    assert database.execute("SELECT count(*) FROM sqlite_master").fetchone() == (1,)
    return [number in selected for number in range(len(rows))]


def negated(formula: Formula, predicates: Mapping[str, Predicate] | None = None) -> Callable:
    """A query for the rows on which the exported condition is not true."""

    def query(table: str) -> str:
        name = table.replace('"', '""')
        return f'SELECT * FROM "{name}" WHERE NOT (\n{formula.to_sql(predicates=predicates)}\n)'

    return query


@each_formula
def test_sql_selects_the_formulas_rows(formula: Formula) -> None:
    X = random_rows(ADVERSARIAL, 0)
    columns = {name: X[:, column].tolist() for column, name in enumerate(ADVERSARIAL)}
    assert run_sql(formula.to_sql, columns) == formula(X).tolist()
    assert run_sql(negated(formula), columns) == (~formula(X)).tolist()


sql_names = st.lists(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6),
    min_size=1,
    max_size=4,
    unique_by=str.lower,
).filter(lambda names: "number" not in map(str.lower, names))


@given(sql_names, st.integers(0, 999))
@settings(max_examples=25, deadline=None)
def test_sql_holds_any_name_without_nul(drawn: list[str], seed: int) -> None:
    names = tuple(drawn)
    formula, X = random_formula(names, seed), random_rows(names, seed)
    columns = {name: X[:, column].tolist() for column, name in enumerate(names)}
    assert run_sql(formula.to_sql, columns) == formula(X).tolist()


def test_sql_is_written_for_three_kinds_of_databases() -> None:
    formula = Formula.parse('"a\\"`]" & ~b')
    predicates = {"b": Predicate("b", "=", "it's \\")}
    assert formula.to_sql("t", head="y", guarantee="all") == (
        "-- y <-> the formula   [all]\n"
        "SELECT *\n"
        'FROM "t"\n'
        'WHERE COALESCE(CAST("a""`]" AS INTEGER), 0) = 1 '
        'AND COALESCE(CAST("b" AS INTEGER), 0) <> 1;'
    )
    assert formula.to_sql("t", "mysql", predicates=predicates) == (
        "SELECT *\nFROM `t`\n"
        "WHERE COALESCE(`a\"``]`, 0) = 1 AND (`b` IS NULL OR `b` <> 'it''s \\\\');"
    )
    assert formula.to_sql(quoting="mssql", predicates=predicates) == (
        "COALESCE([a\"`]]], 0) = 1 AND ([b] IS NULL OR [b] <> N'it''s \\')"
    )
    assert Formula.true().to_sql() == "1 = 1"
    assert Formula.false().to_sql("t") == 'SELECT *\nFROM "t"\nWHERE 1 = 0;'


def test_sql_refuses_a_name_with_nul() -> None:
    with pytest.raises(InputError) as caught:
        Formula.parse('"a\\u0000b"').to_sql()
    assert str(caught.value) == "sql: 'a\\x00b' has a NUL character, which SQL cannot hold"


def test_unknown_quotings_and_arrows_are_refused() -> None:
    formula = Formula.parse("a")
    # As for a caller whose arguments no type checker has seen.
    with pytest.raises(InputError) as caught:
        inspect.unwrap(exports.to_sql)(formula, quoting="oracle")
    assert str(caught.value) == "quoting: expected one of ansi, mysql, mssql, found 'oracle'"
    with pytest.raises(InputError) as caught:
        inspect.unwrap(exports._checked)("=>")
    assert str(caught.value) == "arrow: expected one of <->, ->, <-, found '=>'"


# Raw columns, in SQL and Python

PREDICATES = {
    "radius > 14.2": Predicate('mean "radius"', ">", 14.2),
    "odor = n": Predicate("odor", "=", "it's; \\ n"),
    "rings = 3": Predicate("rings", "=", 3),
    "age is missing": Predicate("age", "is missing"),
    "bruised": Predicate("bruises?", "true"),
}
RAW: dict[str, list[Any]] = {
    'mean "radius"': [14.2, 14.3, None, 1e9, -1.0, None],
    "odor": ["it's; \\ n", "n", None, "", "it's; \\ n", None],
    "rings": [3, 3.0, None, 2, "3", None],
    "age": [1, None, 0, None, 2.5, None],
    "bruises?": [True, False, None, 1, 0, None],
    "plain": [1, 0, None, True, False, None],
}
FACTS = {
    "radius > 14.2": [0, 1, 0, 1, 0, 0],
    "odor = n": [1, 0, 0, 0, 1, 0],
    "rings = 3": [1, 1, 0, 0, 0, 0],
    "age is missing": [0, 1, 0, 1, 0, 1],
    "bruised": [1, 0, 0, 1, 0, 0],
    "plain": [1, 0, 0, 1, 0, 0],
}
CONCEPTS = tuple(FACTS)
X = np.array(list(FACTS.values()), bool).T
ABOUT_RAW = [
    *(Formula.literal(CONCEPTS, name, wanted) for name in CONCEPTS for wanted in (True, False)),
    *(random_formula(CONCEPTS, seed) for seed in range(6)),
]


@pytest.mark.parametrize("formula", ABOUT_RAW, ids=str)
def test_predicates_speak_about_raw_columns_and_missing_values_make_them_false(
    formula: Formula,
) -> None:
    expected = formula(X).tolist()
    sql = run_sql(lambda table: formula.to_sql(table, predicates=PREDICATES), RAW)
    assert sql == expected
    assert run_sql(negated(formula, PREDICATES), RAW) == [not answer for answer in expected]
    scope: dict[str, Any] = {}
    exec(formula.to_python("holds", predicates=PREDICATES), scope)
    for missing in (None, float("nan")):
        rows = [
            {
                column: missing if values[row] is None else values[row]
                for column, values in RAW.items()
            }
            for row in range(len(X))
        ]
        assert [scope["holds"](row) for row in rows] == expected


def test_predicates_are_spelled_as_one_would_write_them() -> None:
    formula = Formula.parse("~r & o | m", ("r", "o", "m"))
    predicates = {
        "r": Predicate("mean_radius", ">", float(np.float64(14.2))),
        "o": Predicate("odor", "=", "n"),
        "m": Predicate("age", "is missing"),
    }
    assert formula.to_sql(predicates=predicates) == (
        '("mean_radius" IS NULL OR "mean_radius" <= 14.2) '
        'AND ("odor" IS NOT NULL AND "odor" = \'n\')\n'
        '   OR "age" IS NULL'
    )
    assert formula.to_python(predicates=predicates) == (
        "# formula <-> the formula\n"
        "def formula(row):\n"
        "    return (\n"
        "        not (row['mean_radius'] is not None and row['mean_radius'] > 14.2) "
        "and row['odor'] == 'n'\n"
        "        or (row['age'] is None or row['age'] != row['age'])\n"
        "    )\n"
    )


# SymPy


@each_formula
def test_sympy_gives_the_formulas_values(formula: Formula) -> None:
    import sympy

    X = random_rows(ADVERSARIAL, 0)[:10]
    symbols = [sympy.Symbol(name) for name in ADVERSARIAL]
    scope: dict[str, Any] = {}
    exec(formula.to_sympy_source("class", "valid"), scope)
    for expression in (formula.to_sympy(), scope["_class"]):
        assert {symbol.name for symbol in expression.free_symbols} == set(formula.concepts)
        values = [
            bool(expression.xreplace(dict(zip(symbols, map(sympy.sympify, row), strict=True))))
            for row in X.tolist()
        ]
        assert values == formula(X).tolist()


def test_sympy_source_says_the_guarantee() -> None:
    assert Formula.parse("a & ~b | c").to_sympy_source("y", "valid") == (
        "from sympy import And, Not, Or, Symbol\n\n"
        "# y <-> the formula   [valid]\n"
        "y = Or(\n"
        "    And(Symbol('a'), Not(Symbol('b'))),\n"
        "    And(Symbol('c')),\n"
        ")\n"
    )


# Prolog

PROLOG = re.compile(
    r"""\s*(?:%[^\n]*\n)?\s*(?:(?P<quoted>'(?:[^'\\]|\\x[0-9a-f]+\\|\\['\\])*')
    |(?P<atom>[a-z]\w*)|(?P<variable>[A-Z_]\w*)|(?P<sign>:-|\\\+|[(),.]))""",
    re.VERBOSE | re.ASCII,
)


def prolog_tokens(text: str) -> Iterator[tuple[str, str]]:
    at = 0
    while text[at:].strip():
        match = PROLOG.match(text, at)
        assert match, text[at : at + 40]
        kind, at = str(match.lastgroup), match.end()
        token = match[kind]
        if kind == "quoted":
            token = re.sub(
                r"\\(?:x([0-9a-f]+)\\|(.))",
                lambda escape: chr(int(escape[1], 16)) if escape[1] else escape[2],
                token[1:-1],
            )
        yield ("atom" if kind == "quoted" else kind), token


def read_prolog(text: str) -> tuple[set[str], list[list[tuple[bool, str]]]]:
    """The heads and the bodies of clauses over holds/2: a parser of just this much Prolog."""
    tokens = list(prolog_tokens(text))
    heads, bodies = set(), []

    def take(*expected: tuple[str, str | None]) -> list[str]:
        found = [tokens.pop(0) for _ in expected]
        for (kind, token), (kind_wanted, token_wanted) in zip(found, expected, strict=True):
            assert kind == kind_wanted
            assert token_wanted in (None, token)
        return [token for _, token in found]

    while tokens:
        head, _, variable, _ = take(
            ("atom", None), ("sign", "("), ("variable", None), ("sign", ")")
        )
        heads.add(head)
        body: list[tuple[bool, str]] = []
        while take(("sign", None)) != ["."]:
            if tokens[0] == ("atom", "fail") and tokens[1] == ("sign", "."):
                take(("atom", "fail"), ("sign", "."))
                body = [(True, "fail")]
                break
            wanted = tokens[0] != ("sign", "\\+")
            if not wanted:
                take(("sign", "\\+"))
            _, _, name, *_ = take(
                ("atom", "holds"),
                ("sign", "("),
                ("atom", None),
                ("sign", ","),
                ("variable", variable),
                ("sign", ")"),
            )
            body.append((wanted, f"holds {name}"))
        bodies.append(body)
    return heads, bodies


@each_formula
def test_prolog_gives_the_formulas_values(formula: Formula) -> None:
    X = random_rows(ADVERSARIAL, 0)
    for head in ("poisonous", "'; :- halt. %", "Q\n"):
        heads, bodies = read_prolog(formula.to_prolog(head, "observed"))
        assert heads == {head}
        values = []
        for row in X:
            true = {f"holds {name}" for name, fact in zip(ADVERSARIAL, row, strict=True) if fact}
            values.append(any(all(w == (atom in true) for w, atom in body) for body in bodies))
        assert values == formula(X).tolist()


def test_prolog_has_one_clause_a_term() -> None:
    assert Formula.parse("odor = f | ~bruises & Ring").to_prolog("poisonous", "observed") == (
        "% poisonous <-> the formula   [observed]\n"
        "poisonous(X) :- holds('odor = f', X).\n"
        "poisonous(X) :- \\+ holds(bruises, X), holds('Ring', X).\n"
    )
    assert Formula.true().to_prolog("y").endswith("y(_).\n")
    assert Formula.false().to_prolog("y").endswith("y(_) :- fail.\n")


# LaTeX

LATEX_WORDS = {
    r"\textbackslash{}": "\\",
    r"\textasciitilde{}": "~",
    r"\textasciicircum{}": "^",
    r"\textless{}": "<",
    r"\textgreater{}": ">",
    r"\textbar{}": "|",
    r"\textasciigrave{}": "`",
    "-{}": "-",
    **{f"\\{char}": char for char in "{}$&#_%"},
}


def read_latex(text: str) -> tuple[list[str], str]:
    r"""What stands in each \text{...}, as LaTeX would print it, and all that stands outside."""
    inside: list[str] = []
    outside = ""
    while r"\text{" in text:
        before, text = text.split(r"\text{", 1)
        outside += before
        printed = ""
        while not text.startswith("}"):
            for word, char in LATEX_WORDS.items():
                if text.startswith(word):
                    printed, text = printed + char, text[len(word) :]
                    break
            else:
                assert text[0] not in "\\{}$&#_%~^<>|`"
                assert text[0].isprintable()
                assert not text.startswith("--")
                printed, text = printed + text[0], text[1:]
        inside.append(printed)
        text = text[1:]
    return inside, outside + text


@each_formula
def test_latex_escapes_every_name(formula: Formula) -> None:
    def shown(name: str) -> str:
        """As the name prints, what does not print as its JSON escape."""
        return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in name)

    inside, outside = read_latex(formula.to_latex('100 % "x_1"\n', "observed", "<-"))
    literals = [name for term in formula.terms for name in term]
    assert inside == [shown(name) for name in ('100 % "x_1"\n', *literals, "observed")]
    assert outside.startswith(r"\forall x \colon (x) \leftarrow ")
    assert outside.endswith(r" \quad []")
    assert outside.count(r"\lnot") == int(formula.negative.sum())
    assert outside.count(r"\lor") == max(0, formula.n_terms - 1)
    assert set(re.findall(r"\\[a-z]+", outside)) <= {
        *(r"\forall", r"\colon", r"\leftarrow", r"\lnot", r"\land", r"\lor", r"\top", r"\bot"),
        r"\quad",
    }


def test_latex_is_what_one_would_write() -> None:
    assert Formula.parse("odor = f | ~b_1 & c").to_latex("y", "all") == (
        r"\forall x \colon \text{y}(x) \leftrightarrow \text{odor = f}(x) \lor "
        r"\lnot \text{b\_1}(x) \land \text{c}(x) \quad [\text{all}]"
    )
    assert Formula.true().to_latex("y", arrow="->") == (
        r"\forall x \colon \text{y}(x) \rightarrow \top"
    )
    assert Formula.false().to_latex() == r"\bot"


# JSON


@each_formula
def test_json_is_a_round_trip(formula: Formula) -> None:
    document = formula.to_json("y", "valid", "->")
    assert Formula.from_json(document) == formula
    parsed = json.loads(document)
    assert Formula.from_json(parsed).terms == formula.terms
    assert list(parsed) == ["schema", "head", "arrow", "guarantee", "names", "terms"]
    assert (parsed["head"], parsed["arrow"], parsed["guarantee"]) == ("y", "->", "valid")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "schema: expected a formula's JSON document of schema 1"),
        ({"names": ["a", 1]}, "names: expected a list of strings"),
        ({"names": ["a", "a"]}, "names: expected distinct names, found 'a' twice"),
        ({"terms": {"a": True}}, "terms: expected a list of objects whose values are true or"),
        ({"terms": [{"a": 1}]}, "terms: expected a list of objects whose values are true or"),
        ({"terms": [{"b": True}]}, "formula: unknown concept 'b'"),
    ],
)
def test_bad_json_is_refused_with_the_field(change: dict[str, Any], message: str) -> None:
    document = {"schema": 1, "names": ["a"], "terms": [{"a": True}]}
    assert Formula.from_json(document) == Formula.parse("a")
    with pytest.raises(InputError, match=message):
        Formula.from_json(json.dumps({**document, **change}))


def test_text_that_is_no_json_is_refused() -> None:
    with pytest.raises(InputError, match="formula: expected a JSON document, Expecting value"):
        Formula.from_json("odor = n")


# All of them

RENDERINGS: dict[str, Callable[[Formula, str], str]] = {
    "text": lambda formula, guarantee: formula.to_text("y", guarantee),
    "text without a head": lambda formula, guarantee: formula.to_text(None, guarantee),
    "python": lambda formula, guarantee: formula.to_python("y", guarantee),
    "sql": lambda formula, guarantee: formula.to_sql("t", guarantee=guarantee),
    "sql condition": lambda formula, guarantee: formula.to_sql(head="y", guarantee=guarantee),
    "sympy": lambda formula, guarantee: formula.to_sympy_source("y", guarantee),
    "prolog": lambda formula, guarantee: formula.to_prolog("y", guarantee),
    "latex": lambda formula, guarantee: formula.to_latex("y", guarantee),
}


@pytest.mark.parametrize("rendering", RENDERINGS)
def test_a_guarantee_is_always_shown(rendering: str) -> None:
    for formula in (Formula.parse("a & ~b"), Formula.true(("a",)), Formula.false(("a",))):
        for guarantee in ("observed", "valid", "all, minimum"):
            assert guarantee in RENDERINGS[rendering](formula, guarantee)
    with pytest.raises(InputError, match="guarantee: expected one line of printable text"):
        RENDERINGS[rendering](Formula.parse("a"), "observed\nDROP TABLE t")
