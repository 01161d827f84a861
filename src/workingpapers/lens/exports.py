"""Formulas in the languages of others; every name is safe in every one of them.

Each function takes `head`, the name of what the formula explains, `guarantee`, on which inputs the
formula is exact, and `arrow`: `<->` when both imply each other, `<-` when the formula implies the
head, `->` when the head implies the formula. A guarantee that is given is always shown.
"""

import json
import keyword
import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

from workingpapers.foundation.errors import InputError, missing_package
from workingpapers.lens.formula import (
    ARROW,
    CONNECTIVES,
    CONSTANTS,
    WORD,
    Arrow,
    Formula,
    Predicate,
)

Quoting = Literal["ansi", "mysql", "mssql"]

_SCHEMA = 1


def to_text(
    formula: Formula, head: str | None = None, guarantee: str | None = None, arrow: Arrow = "<->"
) -> str:
    """One line: `forall x: poisonous(x) <-> odor = f | ~bruises & ring = p   [observed]`.

    Without a head it is the formula alone, which `Formula.parse` reads. Names with other than plain
    words, and those that a connective could be read in, stand in double quotes.
    """
    body = _disjunction(formula, _quoted, _negated, " & ", " | ", "True", "False")
    if head is not None:
        # A head of several words would leave open what the (x) belongs to.
        name = _quoted(head) if " " not in head else _in_quotes(head)
        body = f"forall x: {name}(x) {_checked(arrow)} {body}"
    return body + _in_brackets(guarantee)


def _negated(name: str) -> str:
    """`~bruises`, but `~(age > 49.5)`: the sign belongs to the whole name."""
    quoted = _quoted(name)
    return f"~({quoted})" if " " in quoted and not quoted.startswith('"') else f"~{quoted}"


def to_python(
    formula: Formula,
    head: str = "formula",
    guarantee: str | None = None,
    arrow: Arrow = "<->",
    *,
    predicates: Mapping[str, Predicate] | None = None,
) -> str:
    """The source of a function of one row, a mapping from concept to Boolean or number.

    A number is true above 0.5, a missing value (None or NaN) is false. With `predicates` the row
    holds the columns of the user's table instead, for the concepts they name. The function is
    called `python_name(head)`.
    """

    def holds(name: str) -> str:
        predicate = _predicate(name, predicates)
        value = f"row[{predicate.column!r}]"
        match predicate.operator:
            case ">":
                return f"({value} is not None and {value} > {_number(predicate.value)})"
            case "=" if isinstance(predicate.value, str):
                return f"{value} == {predicate.value!r}"
            case "=":
                return f"{value} == {_number(predicate.value)}"
            case "is missing":
                return f"({value} is None or {value} != {value})"
            case "true":
                return f"({value} or 0) > 0.5"

    terms = _disjunction(
        formula, holds, lambda name: f"not {holds(name)}", " and ", "\n        or ", "True", "False"
    )
    return (
        f"{_comment('#', head, guarantee, arrow)}def {python_name(head)}(row):\n"
        f"    return (\n        {terms}\n    )\n"
    )


def python_name(head: str) -> str:
    """The Python identifier nearest to `head`: `class = e` becomes `class_e`."""
    letters = [
        char if f"_{char}".isidentifier() else "_" for char in unicodedata.normalize("NFKC", head)
    ]
    name = re.sub("_+", "_", "".join(letters)).strip("_") or "formula"
    if not name.isidentifier() or keyword.iskeyword(name):
        name = f"_{name}"
    return name


def to_sql(
    formula: Formula,
    table: str | None = None,
    quoting: Quoting = "ansi",
    *,
    head: str | None = None,
    guarantee: str | None = None,
    arrow: Arrow = "<->",
    predicates: Mapping[str, Predicate] | None = None,
) -> str:
    """A condition for WHERE, or the whole SELECT when `table` is given.

    Columns are named like the concepts and hold Booleans or 0 and 1; with `predicates` the
    condition speaks about the columns of the user's table instead. It is never NULL: a missing
    value makes a concept false and its negation true, so NOT works around it. `quoting` is that of
    standard SQL (PostgreSQL, DuckDB, SQLite), of MySQL or of
    SQL Server. Raises InputError for a name with a NUL character, which SQL cannot hold.
    """
    if quoting not in get_args(Quoting):
        raise InputError(
            f"quoting: expected one of {', '.join(get_args(Quoting))}, found {quoting!r}"
        )

    def identifier(name: str) -> str:
        opening, closing = {"ansi": ('"', '"'), "mysql": ("`", "`"), "mssql": ("[", "]")}[quoting]
        return opening + _without_nul(name).replace(closing, 2 * closing) + closing

    def constant(value: float | int | str | None) -> str:
        if not isinstance(value, str):
            return _number(value)
        # MySQL reads backslash escapes in strings; SQL Server needs N for more than one code page.
        escaped = value.replace("\\", "\\\\") if quoting == "mysql" else value
        return (
            ("N" if quoting == "mssql" else "")
            + "'"
            + _without_nul(escaped).replace("'", "''")
            + "'"
        )

    def literal(name: str, wanted: bool) -> str:
        predicate = _predicate(name, predicates)
        column = identifier(predicate.column)
        if predicate.operator == "is missing":
            return f"{column} IS NULL" if wanted else f"{column} IS NOT NULL"
        if predicate.operator == "true":
            # The cast lets one condition serve Boolean and 0/1 columns where the two are distinct.
            value = f"CAST({column} AS INTEGER)" if quoting == "ansi" else column
            return f"COALESCE({value}, 0) {'=' if wanted else '<>'} 1"
        sign = {(">", True): ">", (">", False): "<=", ("=", True): "=", ("=", False): "<>"}[
            predicate.operator, wanted
        ]
        test = f"{column} {sign} {constant(predicate.value)}"
        if wanted:
            return f"({column} IS NOT NULL AND {test})"
        return f"({column} IS NULL OR {test})"

    condition = _disjunction(
        formula,
        lambda name: literal(name, True),
        lambda name: literal(name, False),
        " AND ",
        "\n   OR ",
        "1 = 1",
        "1 = 0",
        # SQLite nests each OR a level deeper and refuses more than 1,000 levels.
        group=200,
    )
    comment = _comment("--", head, guarantee, arrow)
    if table is None:
        return comment + condition
    return f"{comment}SELECT *\nFROM {identifier(table)}\nWHERE {condition};"


def to_sympy(formula: Formula) -> Any:
    """The formula as `sympy.Or` of `sympy.And`, over symbols with the concepts' full names.

    Raises MissingPackageError without SymPy.
    """
    try:
        import sympy
    except ImportError:
        raise missing_package("sympy", "lens") from None

    def literal(name: str, wanted: bool) -> Any:
        symbol = sympy.Symbol(name)
        return symbol if wanted else sympy.Not(symbol)

    return sympy.Or(
        *(
            sympy.And(*(literal(name, wanted) for name, wanted in term.items()))
            for term in formula.terms
        )
    )


def to_sympy_source(
    formula: Formula, head: str = "formula", guarantee: str | None = None, arrow: Arrow = "<->"
) -> str:
    """Python source that assigns the SymPy expression to the variable `python_name(head)`."""
    terms = [
        ", ".join(
            f"Symbol({name!r})" if wanted else f"Not(Symbol({name!r}))"
            for name, wanted in term.items()
        )
        for term in formula.terms
    ]
    body = "".join(f"    And({term}),\n" for term in terms)
    return (
        f"from sympy import And, Not, Or, Symbol\n\n"
        f"{_comment('#', head, guarantee, arrow)}{python_name(head)} = Or(\n{body})\n"
    )


def to_prolog(
    formula: Formula, head: str = "formula", guarantee: str | None = None, arrow: Arrow = "<->"
) -> str:
    """One clause a term: `poisonous(X) :- holds('odor = f', X), \\+ holds(bruises, X).`

    The facts are `holds(Concept, X)`, so that no concept's name can meet a built-in predicate.
    """

    def literal(name: str) -> str:
        return f"holds({_atom(name)}, X)"

    clauses = [
        f"{_atom(head)}(X) :- "
        + ", ".join(
            literal(name) if wanted else f"\\+ {literal(name)}" for name, wanted in term.items()
        )
        + "."
        for term in formula.terms
    ]
    if formula.n_literals == 0:
        clauses = [f"{_atom(head)}(_)." if formula.n_terms else f"{_atom(head)}(_) :- fail."]
    return _comment("%", head, guarantee, arrow) + "\n".join(clauses) + "\n"


def to_latex(
    formula: Formula, head: str | None = None, guarantee: str | None = None, arrow: Arrow = "<->"
) -> str:
    r"""LaTeX for mathematics mode; `\text` is amsmath's, and known to MathJax and KaTeX."""

    def atom(name: str) -> str:
        return rf"\text{{{_latex(name)}}}(x)"

    body = _disjunction(
        formula, atom, lambda name: rf"\lnot {atom(name)}", r" \land ", r" \lor ", r"\top", r"\bot"
    )
    if head is not None:
        sign = {"<->": r"\leftrightarrow", "->": r"\rightarrow", "<-": r"\leftarrow"}
        body = rf"\forall x \colon {atom(head)} {sign[_checked(arrow)]} {body}"
    if guarantee is not None:
        body += rf" \quad [\text{{{_latex(_one_line(guarantee))}}}]"
    return body


def to_json(
    formula: Formula, head: str | None = None, guarantee: str | None = None, arrow: Arrow = "<->"
) -> str:
    """`{"schema": 1, "head", "arrow", "guarantee", "names": [...], "terms": [{name: bool}]}`."""
    document = {
        "schema": _SCHEMA,
        "head": head,
        "arrow": _checked(arrow),
        "guarantee": guarantee,
        "names": list(formula.names),
        "terms": formula.terms,
    }
    return json.dumps(document, indent=2, ensure_ascii=False)


def from_json(document: str | Mapping[str, Any]) -> Formula:
    """The formula that `to_json` wrote, from its text or its parsed form.

    Raises InputError that names the field at fault.
    """
    if isinstance(document, str):
        try:
            document = json.loads(document)
        except json.JSONDecodeError as error:
            raise InputError(f"formula: expected a JSON document, {error}") from None
    if not isinstance(document, Mapping) or document.get("schema") != _SCHEMA:
        raise InputError(f"schema: expected a formula's JSON document of schema {_SCHEMA}")
    names, terms = document.get("names"), document.get("terms")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError("names: expected a list of strings")
    if not isinstance(terms, list) or not all(
        isinstance(term, Mapping) and all(isinstance(value, bool) for value in term.values())
        for term in terms
    ):
        raise InputError("terms: expected a list of objects whose values are true or false")
    return Formula.from_terms(names, terms)


def _disjunction(
    formula: Formula,
    positive: Callable[[str], str],
    negative: Callable[[str], str],
    conjunction: str,
    disjunction: str,
    true: str,
    false: str,
    *,
    group: int | None = None,
) -> str:
    """The formula in a language that binds conjunction tighter than disjunction.

    More than `group` terms are put in brackets by so many, for languages that nest to the left.
    """
    if formula.n_literals == 0:
        return true if formula.n_terms else false
    terms = [
        conjunction.join(
            positive(name) if wanted else negative(name) for name, wanted in term.items()
        )
        for term in formula.terms
    ]
    if group is None or len(terms) <= group:
        return disjunction.join(terms)
    parts = [terms[start : start + group] for start in range(0, len(terms), group)]
    return disjunction.join(f"({disjunction.join(part)})" for part in parts)


def _predicate(name: str, predicates: Mapping[str, Predicate] | None) -> Predicate:
    """What the concept says about a column; by default, that the column of its name is true."""
    return (predicates or {}).get(name) or Predicate(name, "true")


def _number(value: float | int | str | None) -> str:
    """A plain literal, without the type's name that newer NumPy scalars print."""
    assert value is not None
    return repr(int(value)) if isinstance(value, int) else repr(float(value))


def _checked(arrow: Arrow) -> Arrow:
    if arrow not in get_args(Arrow):
        raise InputError(f"arrow: expected one of {', '.join(get_args(Arrow))}, found {arrow!r}")
    return arrow


def _one_line(guarantee: str) -> str:
    """The guarantee, once it is known to stay inside a one-line comment."""
    if not guarantee.isprintable():
        raise InputError(f"guarantee: expected one line of printable text, found {guarantee!r}")
    return guarantee


def _in_brackets(guarantee: str | None) -> str:
    return "" if guarantee is None else f"   [{_one_line(guarantee)}]"


def _comment(mark: str, head: str | None, guarantee: str | None, arrow: Arrow) -> str:
    """A line above the formula that says what it explains and where it is exact."""
    if head is None and guarantee is None:
        return ""
    about = "" if head is None else f" {_quoted(head)} {_checked(arrow)} the formula"
    return f"{mark}{about}{_in_brackets(guarantee)}\n"


def _quoted(name: str) -> str:
    """The name as `Formula.parse` reads it: bare where nothing in it could be misread."""
    words = name.split(" ")
    bare = (
        all(
            WORD.fullmatch(word) and not ARROW.search(word) and word.lower() not in CONNECTIVES
            for word in words
        )
        and name.lower() not in CONSTANTS
    )
    return name if bare else _in_quotes(name)


def _in_quotes(name: str) -> str:
    """The name as a JSON string, with everything escaped that does not print."""
    escaped = (json.dumps(char, ensure_ascii=not char.isprintable())[1:-1] for char in name)
    return f'"{"".join(escaped)}"'


def _without_nul(name: str) -> str:
    if "\0" in name:
        raise InputError(f"sql: {name!r} has a NUL character, which SQL cannot hold")
    return name


def _atom(name: str) -> str:
    """A Prolog atom, bare where it is a plain lower-case word."""
    if re.fullmatch(r"[a-z][a-zA-Z0-9_]*", name):
        return name
    escaped = "".join(
        char if char.isprintable() else f"\\x{ord(char):x}\\"
        for char in name.replace("\\", "\\\\").replace("'", "\\'")
    )
    return f"'{escaped}'"


_LATEX = {
    **{char: f"\\{char}" for char in "{}$&#_%"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
}


def _latex(name: str) -> str:
    """The name for LaTeX's text mode; what does not print is shown as its JSON escape."""
    printable = "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in name)
    escaped = "".join(_LATEX.get(char, char) for char in printable)
    # Two hyphens would become a dash.
    return re.sub("-(?=-)", "-{}", escaped)
