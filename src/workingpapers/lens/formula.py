"""Formulas: disjunctions of conjunctions of named Boolean concepts, and their algebra."""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, UInt64
from numpy.typing import ArrayLike

from workingpapers.foundation.errors import InputError

Operator = Literal[">", "=", "is missing", "true"]
Arrow = Literal["<->", "->", "<-"]

# 2^20 assignments of 20 concepts take about a tenth of a second; each further concept doubles it.
_MOST_ENUMERATED = 20
# The minimiser answers at once up to here; above, De Morgan's law is the faster way.
_MOST_MINIMISED = 12
# Absorption compares terms pairwise: this many take seconds.
_MOST_TERMS = 1 << 16
_DEEPEST = 50


@dataclass(frozen=True)
class Predicate:
    """What a concept says about a column of the user's own table.

    `>` compares with a finite number, `=` with a string or a number, `is missing` and `true` take
    no value. A missing value makes `>`, `=` and `true` false. Raises InputError where operator and
    value do not fit.
    """

    column: str
    operator: Operator
    value: float | int | str | None = None

    def __post_init__(self) -> None:
        number = isinstance(self.value, (int, float)) and math.isfinite(self.value)
        fitting = {
            ">": number,
            "=": number or isinstance(self.value, str),
            "is missing": self.value is None,
            "true": self.value is None,
        }
        if not fitting.get(self.operator):
            raise InputError(
                f"predicate: expected '>' with a finite number, '=' with a string or a finite "
                f"number, 'is missing' or 'true' without a value, found {self.operator!r} with "
                f"{self.value!r} for column {self.column!r}"
            )


class Formula:
    """A formula in disjunctive normal form over named Boolean concepts; immutable.

    Two bit masks a term, of uint64 words, hold the concepts that the term wants true and those it
    wants false: bit j of word w is concept 64 w + j. No term contradicts itself or is implied by
    another; the rest keep their order. No term at all is False, one empty term is True.

    `names` are distinct strings; `positive` and `negative` have one row a term and one column a
    name. Raises InputError for names that are not distinct or masks of another width.
    """

    __slots__ = ("_names", "_negative", "_positive")

    def __init__(
        self,
        names: Sequence[str],
        positive: Bool[np.ndarray, "terms concepts"],
        negative: Bool[np.ndarray, "terms concepts"],
    ) -> None:
        self._names = _distinct(names)
        for mask in (positive, negative):
            if mask.shape[1] != len(self._names):
                raise InputError(
                    f"formula: expected {len(self._names)} columns, one a concept, "
                    f"found {mask.shape[1]}"
                )
        self._positive, self._negative = _absorb(_pack(positive), _pack(negative))

    @classmethod
    def _of_words(
        cls,
        names: tuple[str, ...],
        positive: UInt64[np.ndarray, "terms words"],
        negative: UInt64[np.ndarray, "terms words"],
    ) -> "Formula":
        """The formula with these masks over names that are known to be distinct."""
        formula = cls.__new__(cls)
        formula._names = names
        formula._positive, formula._negative = _absorb(positive, negative)
        return formula

    @classmethod
    def true(cls, names: Sequence[str] = ()) -> "Formula":
        """The formula that always holds."""
        empty = np.zeros((1, len(names)), bool)
        return cls(names, empty, empty)

    @classmethod
    def false(cls, names: Sequence[str] = ()) -> "Formula":
        """The formula that never holds."""
        empty = np.zeros((0, len(names)), bool)
        return cls(names, empty, empty)

    @classmethod
    def literal(cls, names: Sequence[str], name: str, value: bool = True) -> "Formula":
        """The concept `name` itself, or its negation when `value` is False."""
        return cls.from_terms(names, [{name: value}])

    @classmethod
    def from_terms(cls, names: Sequence[str], terms: Iterable[Mapping[str, bool]]) -> "Formula":
        """The disjunction of `terms`, each the conjunction of {concept: wanted value}."""
        position = {name: column for column, name in enumerate(names)}
        rows = list(terms)
        positive = np.zeros((len(rows), len(names)), bool)
        negative = np.zeros((len(rows), len(names)), bool)
        for row, term in enumerate(rows):
            for name, value in term.items():
                if name not in position:
                    raise InputError(f"formula: unknown concept {name!r}")
                (positive if value else negative)[row, position[name]] = True
        return cls(names, positive, negative)

    @classmethod
    def parse(cls, text: str, names: Sequence[str] | None = None) -> "Formula":
        """The formula that `text` spells, as `to_text` without a head writes it.

        Operators, the tightest first: `~ not ¬`, `& and ∧`, `| or ∨`; also parentheses, `true` and
        `false`, in any case. A name is one or more words of letters, digits and `_ . : % / + - = <
        > ≤ ≥ ≠` with single blanks between them (`odor = n`). Any other name, or one with an
        operator's word or an arrow in it, stands in double quotes with the escapes of JSON. Without
        `names` the concepts are those of the text in the order of their first appearance.

        Raises InputError with the position, from 1, of the first character that does not fit.
        """
        return _Parser(text, names).formula()

    @classmethod
    def from_json(cls, document: str | Mapping[str, Any]) -> "Formula":
        """The formula that `to_json` wrote; raises InputError that names the field at fault."""
        from workingpapers.lens import exports

        return exports.from_json(document)

    @property
    def names(self) -> tuple[str, ...]:
        """All concepts the formula is over, used or not: the columns it is evaluated on."""
        return self._names

    @property
    def positive(self) -> Bool[np.ndarray, "terms concepts"]:
        """Which concepts each term wants true."""
        return _unpack(self._positive, len(self._names))

    @property
    def negative(self) -> Bool[np.ndarray, "terms concepts"]:
        """Which concepts each term wants false."""
        return _unpack(self._negative, len(self._names))

    @property
    def n_terms(self) -> int:
        return len(self._positive)

    @property
    def n_literals(self) -> int:
        """Literals summed over the terms; 0 for True and False."""
        return int(np.bitwise_count(self._positive).sum() + np.bitwise_count(self._negative).sum())

    @property
    def concepts(self) -> tuple[str, ...]:
        """The names that some term uses, in the order of `names`."""
        return tuple(self._names[column] for column in self._used())

    @property
    def terms(self) -> list[dict[str, bool]]:
        """Each term as {concept: wanted value}."""
        return [
            {
                self._names[column]: bool(positive[column])
                for column in np.flatnonzero(positive | negative)
            }
            for positive, negative in zip(self.positive, self.negative, strict=True)
        ]

    def _used(self) -> list[int]:
        """The columns of the concepts that some term uses."""
        used = np.bitwise_or.reduce(self._positive | self._negative, axis=0)
        return np.flatnonzero(_unpack(used[None], len(self._names))[0]).tolist()

    def __call__(self, X: ArrayLike) -> Bool[np.ndarray, "rows"]:
        """Whether the formula holds, for each row of `X`.

        `X` has one column a name, Booleans or numbers, where more than 0.5 is true (NaN is not).
        Raises InputError for another number of columns or entries that are no numbers.
        """
        table = np.asarray(X)
        if table.ndim != 2 or table.shape[1] != len(self._names):
            raise InputError(
                f"X: expected rows of {len(self._names)} values, one a concept, "
                f"found the shape {table.shape}"
            )
        if table.dtype != bool:
            try:
                table = np.asarray(table, float if table.dtype.kind not in "iuf" else None) > 0.5
            except (TypeError, ValueError):
                raise InputError("X: expected Booleans or numbers") from None
        return self._evaluate(table.T[self._used()])

    def _evaluate(self, used: Bool[np.ndarray, "used rows"]) -> Bool[np.ndarray, "rows"]:
        """Whether the formula holds, given the columns it uses: 64 rows an operation."""
        rows = used.shape[1]
        bits = np.zeros((len(used), -(-rows // 64) * 8), np.uint8)
        bits[:, : -(-rows // 8)] = np.packbits(used, axis=1, bitorder="little")
        literals = np.concatenate([bits, ~bits]).view(np.uint64)
        columns = self._used()
        wanted = np.concatenate([self.positive[:, columns], self.negative[:, columns]], axis=1)
        holds = np.zeros(literals.shape[1], np.uint64)
        for term in wanted:
            holds |= np.bitwise_and.reduce(literals[term], axis=0)
        return np.unpackbits(holds.view(np.uint8), count=rows, bitorder="little").astype(bool)

    def truth_table(self, concepts: Sequence[str]) -> Bool[np.ndarray, "assignments"]:
        """The formula's value at all 2^n assignments of `concepts`: bit j of an index is concept j.

        Raises InputError when a used concept is not among them, or for more than 20.
        """
        if len(concepts) > _MOST_ENUMERATED:
            raise InputError(
                f"formula: {len(concepts)} concepts are too many to try all assignments "
                f"(at most {_MOST_ENUMERATED}); give the domain as a table of rows"
            )
        formula = self.over(concepts)
        index = np.arange(1 << len(concepts), dtype=np.uint32)
        used = np.zeros((len(formula._used()), len(index)), bool)
        for row, column in enumerate(formula._used()):
            used[row] = index >> column & 1
        return formula._evaluate(used)

    def __and__(self, other: "Formula") -> "Formula":
        """Both hold; the names are this formula's, then those only the other has."""
        left, right = _aligned(self, other)
        if left.n_terms * right.n_terms > _MOST_TERMS:
            raise InputError(
                f"formula: the conjunction has {left.n_terms} x {right.n_terms} terms before "
                f"simplification, more than {_MOST_TERMS}"
            )
        shape = (left.n_terms * right.n_terms, left._positive.shape[1])
        positive = left._positive[:, None] | right._positive[None]
        negative = left._negative[:, None] | right._negative[None]
        return Formula._of_words(left._names, positive.reshape(shape), negative.reshape(shape))

    def __or__(self, other: "Formula") -> "Formula":
        """At least one holds; the names are this formula's, then those only the other has."""
        left, right = _aligned(self, other)
        return _any(left._names, [left, right])

    def __invert__(self) -> "Formula":
        """The complement: minimised for up to 12 used concepts, by De Morgan's law for more.

        Raises InputError when the complement has more than 65,536 terms on the way.
        """
        if self.n_literals == 0:
            return Formula.false(self._names) if self.n_terms else Formula.true(self._names)
        used = self._used()
        if self.n_terms > 1 and len(used) <= _MOST_MINIMISED:
            from workingpapers.lens.minimization import minimize

            cover = minimize(~self.truth_table(self.concepts), method="heuristic")
            positive = np.zeros((len(cover.positive), len(self._names)), bool)
            negative = np.zeros_like(positive)
            positive[:, used] = cover.positive
            negative[:, used] = cover.negative
            return Formula(self._names, positive, negative)
        complement = Formula.true(self._names)
        # Short clauses first keep the product small for longest.
        for term in sorted(self.terms, key=len):
            clause = [{name: not value} for name, value in term.items()]
            complement &= Formula.from_terms(self._names, clause)
        return complement

    def __eq__(self, other: object) -> bool:
        """Whether both have the same names and the same terms, in any order of terms."""
        if not isinstance(other, Formula):
            return NotImplemented
        return self._names == other._names and self._term_set() == other._term_set()

    def __hash__(self) -> int:
        return hash((self._names, self._term_set()))

    def _term_set(self) -> frozenset[bytes]:
        return frozenset(
            term.tobytes() for term in np.concatenate([self._positive, self._negative], axis=1)
        )

    def equivalent(
        self, other: "Formula", domain: Bool[np.ndarray, "rows concepts"] | None = None
    ) -> bool:
        """Whether both have the same value on every row of `domain`, whose columns are `names`.

        Without a domain: at all assignments of the concepts that either uses. Concepts are matched
        by name. Raises InputError for more than 20 of them without a domain, or when the other
        formula uses a concept that is not a column of the domain.
        """
        mine, others = self._values(other, domain)
        return bool(np.array_equal(mine, others))

    def implies(
        self, other: "Formula", domain: Bool[np.ndarray, "rows concepts"] | None = None
    ) -> bool:
        """Whether the other holds wherever this one does; domain and errors as in `equivalent`."""
        mine, others = self._values(other, domain)
        return not bool(np.any(mine & ~others))

    def _values(
        self, other: "Formula", domain: Bool[np.ndarray, "rows concepts"] | None
    ) -> tuple[Bool[np.ndarray, "rows"], Bool[np.ndarray, "rows"]]:
        """The values of both formulas on the domain, or at all assignments."""
        if domain is not None:
            return self(domain), other.over(self._names)(domain)
        concepts = _union(self.concepts, other.concepts)
        return self.truth_table(concepts), other.truth_table(concepts)

    def rename(self, mapping: Mapping[str, str]) -> "Formula":
        """The same formula with new names for some concepts; raises InputError for unknown ones."""
        self._know(mapping)
        names = _distinct([mapping.get(name, name) for name in self._names])
        return Formula._of_words(names, self._positive, self._negative)

    def over(self, names: Sequence[str]) -> "Formula":
        """The same formula over another list of names, which has all the concepts it uses."""
        if tuple(names) == self._names:
            return self
        return Formula.from_terms(names, self.terms)

    def substitute(self, replacements: Mapping[str, "Formula"]) -> "Formula":
        """Each named concept replaced by a formula, its negation by the formula's complement.

        All at once. The names are those kept, then those of the replacements in order. Raises
        InputError for a concept that is not among the names, or where the result is too long.
        """
        self._know(replacements)
        names = _union(
            [name for name in self._names if name not in replacements],
            *(formula.names for formula in replacements.values()),
        )
        literals: dict[tuple[str, bool], Formula] = {}

        def literal(name: str, value: bool) -> Formula:
            if (name, value) not in literals:
                if name in replacements:
                    formula = replacements[name] if value else ~replacements[name]
                    literals[name, value] = formula.over(names)
                else:
                    literals[name, value] = Formula.literal(names, name, value)
            return literals[name, value]

        products = []
        for term in self.terms:
            product = Formula.true(names)
            for name, value in term.items():
                product &= literal(name, value)
            products.append(product)
        return _any(names, products)

    def _know(self, names: Iterable[str]) -> None:
        for name in names:
            if name not in self._names:
                raise InputError(f"formula: unknown concept {name!r}")

    def __str__(self) -> str:
        return self.to_text()

    def __repr__(self) -> str:
        return f"<Formula {self.to_text()} over {len(self._names)} concepts>"

    def to_text(
        self, head: str | None = None, guarantee: str | None = None, arrow: Arrow = "<->"
    ) -> str:
        """One line of first-order logic, see `exports.to_text`."""
        from workingpapers.lens import exports

        return exports.to_text(self, head, guarantee, arrow)

    def to_python(
        self,
        head: str = "formula",
        guarantee: str | None = None,
        arrow: Arrow = "<->",
        *,
        predicates: Mapping[str, Predicate] | None = None,
    ) -> str:
        """The source of a Python function of one row, see `exports.to_python`."""
        from workingpapers.lens import exports

        return exports.to_python(self, head, guarantee, arrow, predicates=predicates)

    def to_sql(
        self,
        table: str | None = None,
        quoting: Literal["ansi", "mysql", "mssql"] = "ansi",
        *,
        head: str | None = None,
        guarantee: str | None = None,
        arrow: Arrow = "<->",
        predicates: Mapping[str, Predicate] | None = None,
    ) -> str:
        """A SQL condition, or a SELECT when `table` is given, see `exports.to_sql`."""
        from workingpapers.lens import exports

        return exports.to_sql(
            self, table, quoting, head=head, guarantee=guarantee, arrow=arrow, predicates=predicates
        )

    def to_sympy(self) -> Any:
        """A SymPy Boolean expression over symbols with the concepts' full names."""
        from workingpapers.lens import exports

        return exports.to_sympy(self)

    def to_sympy_source(
        self, head: str = "formula", guarantee: str | None = None, arrow: Arrow = "<->"
    ) -> str:
        """Python source that makes the SymPy expression, see `exports.to_sympy_source`."""
        from workingpapers.lens import exports

        return exports.to_sympy_source(self, head, guarantee, arrow)

    def to_prolog(
        self, head: str = "formula", guarantee: str | None = None, arrow: Arrow = "<->"
    ) -> str:
        """Prolog clauses, see `exports.to_prolog`."""
        from workingpapers.lens import exports

        return exports.to_prolog(self, head, guarantee, arrow)

    def to_latex(
        self, head: str | None = None, guarantee: str | None = None, arrow: Arrow = "<->"
    ) -> str:
        """LaTeX for mathematics mode, see `exports.to_latex`."""
        from workingpapers.lens import exports

        return exports.to_latex(self, head, guarantee, arrow)

    def to_json(
        self, head: str | None = None, guarantee: str | None = None, arrow: Arrow = "<->"
    ) -> str:
        """A JSON document that `from_json` reads, see `exports.to_json`."""
        from workingpapers.lens import exports

        return exports.to_json(self, head, guarantee, arrow)


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    """The names as a tuple of plain strings, once they are known to be distinct."""
    plain = tuple(str(name) for name in names)
    if len(set(plain)) < len(plain):
        twice = next(name for name in plain if plain.count(name) > 1)
        raise InputError(f"names: expected distinct names, found {twice!r} twice")
    return plain


def _union(*groups: Iterable[str]) -> tuple[str, ...]:
    """All names once, in the order of their first appearance."""
    return tuple(dict.fromkeys(name for group in groups for name in group))


def _aligned(left: Formula, right: Formula) -> tuple[Formula, Formula]:
    """Both formulas over the names of either."""
    names = _union(left.names, right.names)
    return left.over(names), right.over(names)


def _any(names: tuple[str, ...], formulas: Sequence[Formula]) -> Formula:
    """The disjunction of formulas that all are over `names`."""
    if not formulas:
        return Formula.false(names)
    terms = sum(formula.n_terms for formula in formulas)
    if terms > _MOST_TERMS:
        raise InputError(
            f"formula: the disjunction has {terms} terms before simplification, "
            f"more than {_MOST_TERMS}"
        )
    return Formula._of_words(
        names,
        np.concatenate([formula._positive for formula in formulas]),
        np.concatenate([formula._negative for formula in formulas]),
    )


def _pack(mask: Bool[np.ndarray, "terms concepts"]) -> UInt64[np.ndarray, "terms words"]:
    """One bit a concept, in little-endian words of 64."""
    words = -(-mask.shape[1] // 64)
    packed = np.zeros((len(mask), words * 8), np.uint8)
    packed[:, : -(-mask.shape[1] // 8)] = np.packbits(mask, axis=1, bitorder="little")
    return packed.view("<u8").astype(np.uint64)


def _unpack(
    words: UInt64[np.ndarray, "terms words"], concepts: int
) -> Bool[np.ndarray, "terms concepts"]:
    """The inverse of `_pack`."""
    packed = np.ascontiguousarray(words.astype("<u8")).view(np.uint8)
    return np.unpackbits(packed, axis=1, count=concepts, bitorder="little").astype(bool)


def _absorb(
    positive: UInt64[np.ndarray, "terms words"], negative: UInt64[np.ndarray, "terms words"]
) -> tuple[UInt64[np.ndarray, "kept words"], UInt64[np.ndarray, "kept words"]]:
    """The terms in their order, less the contradictions and those that another term contains."""
    consistent = ~np.any(positive & negative, axis=1)
    terms = np.concatenate([positive, negative], axis=1)[consistent]
    words = positive.shape[1]
    if len(terms) > 1:
        if words == 0:
            terms = terms[:1]
        else:
            terms = terms[np.sort(np.unique(terms, axis=0, return_index=True)[1])]
        # Distinct terms of one length cannot absorb each other, only longer ones.
        lengths = np.bitwise_count(terms).sum(axis=1)
        kept = np.zeros(len(terms), bool)
        for length in np.unique(lengths):
            shorter = np.ascontiguousarray(terms[kept].T)
            for row in np.flatnonzero(lengths == length):
                absent = ~terms[row]
                # Most of the shorter terms drop out at the first word.
                inside = np.flatnonzero(shorter[0] & absent[0] == 0)
                for word in range(1, 2 * words):
                    inside = inside[shorter[word][inside] & absent[word] == 0]
                kept[row] = not len(inside)
        terms = terms[kept]
    positive, negative = terms[:, :words].copy(), terms[:, words:].copy()
    positive.flags.writeable = negative.flags.writeable = False
    return positive, negative


# What the text form knows: a bare word of a name, what may not be in one, and what is none.
WORD = re.compile(r"[\w.:%/+=<>≤≥≠-]+")
CONNECTIVES = {"and": "&", "or": "|", "not": "~", "∧": "&", "∨": "|", "¬": "~"}
CONSTANTS = {"true": True, "false": False}
ARROW = re.compile("->|<-")
_TOKEN = re.compile(
    rf'\s*(?:(?P<quoted>"(?:[^"\\]|\\.)*")|(?P<sign>[&|~()∧∨¬])|(?P<word>{WORD.pattern}))',
    re.DOTALL,
)


class _Token(NamedTuple):
    kind: Literal["name", "constant", "sign"]
    text: str
    position: int
    """Of its first character, from 1."""


def _tokens(text: str) -> list[_Token]:
    """The signs, names and constants of a formula's text; the words of a name are put together."""
    tokens: list[_Token] = []
    words: list[str] = []
    start = 0

    def end_name() -> None:
        if words:
            name = " ".join(words)
            kind: Literal["constant", "name"] = "constant" if name.lower() in CONSTANTS else "name"
            tokens.append(_Token(kind, name.lower() if kind == "constant" else name, start))
            words.clear()

    at, text = 0, text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            at = len(text) - len(text[at:].lstrip())
            reason = (
                "the quote is not closed"
                if text[at] == '"'
                else "a name with such a character stands in double quotes"
            )
            raise InputError(f"formula: unexpected {text[at]!r} at character {at + 1}: {reason}")
        kind, at = str(match.lastgroup), match.end()
        found, position = match[kind], match.start(kind) + 1
        if kind == "word" and ARROW.search(found):
            raise InputError(
                f"formula: unexpected {found!r} at character {position}: "
                "a name with an arrow in it stands in double quotes"
            )
        if kind == "word" and found.lower() not in CONNECTIVES:
            start = start if words else position
            words.append(found)
            continue
        end_name()
        if kind == "quoted":
            try:
                tokens.append(_Token("name", json.loads(found, strict=False), position))
            except json.JSONDecodeError:
                raise InputError(
                    f"formula: the name at character {position} has an escape that JSON lacks"
                ) from None
        else:
            sign = CONNECTIVES.get(found.lower(), found)
            tokens.append(_Token("sign", sign, position))
    end_name()
    return tokens


class _Parser:
    """Recursive descent over the tokens: a disjunction of conjunctions of factors."""

    def __init__(self, text: str, names: Sequence[str] | None) -> None:
        self.tokens = _tokens(text)
        found = _union(token.text for token in self.tokens if token.kind == "name")
        self.names = found if names is None else _distinct(names)
        self.next = 0
        self.depth = 0

    def formula(self) -> Formula:
        formula = self.disjunction()
        if self.next < len(self.tokens):
            raise self.unexpected("'&', '|' or the end")
        return formula

    def disjunction(self) -> Formula:
        parts = [self.conjunction()]
        while self.take("|"):
            parts.append(self.conjunction())
        return _any(self.names, parts)

    def conjunction(self) -> Formula:
        product = self.factor()
        while self.take("&"):
            product &= self.factor()
        return product

    def factor(self) -> Formula:
        negated = False
        while self.take("~"):
            negated = not negated
        if self.take("("):
            self.depth += 1
            if self.depth > _DEEPEST:
                raise InputError(f"formula: parentheses are nested deeper than {_DEEPEST}")
            inner = self.disjunction()
            self.depth -= 1
            if not self.take(")"):
                raise self.unexpected("'&', '|' or ')'")
            return ~inner if negated else inner
        if self.next == len(self.tokens) or self.tokens[self.next].kind == "sign":
            raise self.unexpected("a name, '~' or '('")
        token = self.tokens[self.next]
        self.next += 1
        if token.kind == "constant":
            true = CONSTANTS[token.text] != negated
            return Formula.true(self.names) if true else Formula.false(self.names)
        if token.text not in self.names:
            raise InputError(
                f"formula: unknown concept {token.text!r} at character {token.position}"
            )
        return Formula.literal(self.names, token.text, not negated)

    def take(self, sign: str) -> bool:
        """Move past the next token if it is this sign."""
        here = self.tokens[self.next : self.next + 1]
        if here and here[0].kind == "sign" and here[0].text == sign:
            self.next += 1
            return True
        return False

    def unexpected(self, expected: str) -> InputError:
        if self.next == len(self.tokens):
            return InputError(f"formula: expected {expected}, found the end")
        token = self.tokens[self.next]
        return InputError(
            f"formula: expected {expected} at character {token.position}, found {token.text!r}"
        )
