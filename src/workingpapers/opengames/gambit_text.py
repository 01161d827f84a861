"""The text of Gambit's files: labels, numbers and quotation marks, written and read again."""

import math
import re
import unicodedata
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from decimal import Decimal, localcontext
from fractions import Fraction
from pathlib import Path
from typing import Any, NoReturn

from workingpapers.foundation.errors import InputError
from workingpapers.opengames.compile import Frontier
from workingpapers.opengames.games import Game
from workingpapers.opengames.spaces import key_text, show

MAX_NODES = 200_000
"""How many nodes a tree, or profiles a table, may have in a file."""


# ---- writing


def labels(values: Sequence[Any], plain: bool) -> tuple[str, ...]:
    """Different labels for different values; in Gambit's characters if `plain`."""
    taken: set[str] = set()
    texts = [value_label(value) for value in values]
    return tuple(fresh(plain_label(text) if plain else text, taken) for text in texts)


def value_label(value: Any) -> str:
    """A value as text: words as they are, what has a JSON form in it, the rest as it is shown."""
    try:
        return key_text(value)
    except InputError:
        return show(value)


def fresh(name: str, taken: set[str]) -> str:
    """The name, with the least number after it that makes it new; it is taken from now on."""
    found, count = name, 1
    while found in taken:
        count += 1
        found = f"{name}#{count}"
    taken.add(found)
    return found


def plain_label(text: str) -> str:
    """The text in what Gambit takes as a label: printable ASCII, single blanks inside."""
    bare = "".join(
        mark for mark in unicodedata.normalize("NFKD", text) if not unicodedata.combining(mark)
    )
    printable = "".join(mark if " " <= mark < "\x7f" else "?" for mark in " ".join(bare.split()))
    return printable.replace("\\", "/") or "_"


def single_setting(game: Game) -> Frontier:
    """The frontier of a game with one set of payoffs; InputError for batched ones."""
    if game.frontier.n_points != 1:
        raise InputError(
            f"{game.title}: its payoffs are batched over {game.frontier.n_points} settings; "
            "expected one setting"
        )
    return game.frontier


def header(kind: str, title: str, players: Sequence[str], plain: bool) -> str:
    """The line before the game: what file it is, the game's title, the players."""
    shown = quoted(plain_label(title) if plain else title)
    names = "".join(f"{quoted(name)} " for name in labels(players, plain))
    return f"{kind} {shown} {{ {names}}}"


def quoted(text: str) -> str:
    """Text as Gambit's files quote it."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def decimal_text(value: float) -> str:
    """A float in the fewest digits that give it back, without an exponent."""
    if value == int(value) and abs(value) < 1e16:
        return str(int(value))
    return format(Decimal(repr(float(value))), "f")


def exact_texts(weights: Sequence[float]) -> list[str]:
    """Probabilities as fractions or decimals with the sum 1 exactly, moved by rounding only."""
    simple = [Fraction(weight).limit_denominator(1000) for weight in weights]
    close = all(
        abs(float(one) - weight) <= 1e-15 for one, weight in zip(simple, weights, strict=True)
    )
    if close and sum(simple) == 1:
        return [str(one) for one in simple]
    # Enough digits for the sum of any floats to be exact.
    with localcontext(prec=400):
        exact = [Decimal(repr(weight)) for weight in weights]
        largest = max(range(len(exact)), key=lambda at: exact[at])
        exact[largest] += 1 - sum(exact)
        return [format(one, "f") for one in exact]


# ---- reading: tokens, and errors with lines


_TOKEN = re.compile(
    r"""(?P<blank>[\s,]+)|(?P<text>"(?:[^"\\]++|\\.)*+")|(?P<word>[^\s,"{}]+)|(?P<brace>[{}])""",
    re.DOTALL,
)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?(/\d+)?")
_ESCAPE = re.compile(r'\\(["\\])')


class Scanner:
    """The tokens of a Gambit file, taken one by one; every error names the file and the line."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.text = text
        self.line_ends = [match.start() for match in re.finditer("\n", text)]
        self.tokens: list[tuple[str, str, int]] = []
        self.at = 0
        place = 0
        while place < len(text):
            match = _TOKEN.match(text, place)
            if match is None:
                self.fail("the text that begins here has no closing quotation mark", place)
            kind = str(match.lastgroup)
            if kind != "blank":
                self.tokens.append((kind, match[0], place))
            place = match.end()

    def fail(self, message: str, offset: int | None = None) -> NoReturn:
        if offset is None:
            offset = self.offset
        line = self.line(offset)
        raise InputError(f"{self.path}, line {line}: {message}")

    def line(self, offset: int) -> int:
        return bisect_left(self.line_ends, offset) + 1

    @property
    def offset(self) -> int:
        """Where the next token is; at the end, where the text ends."""
        return self.tokens[self.at][2] if self.at < len(self.tokens) else len(self.text.rstrip())

    @property
    def kind(self) -> str:
        """What comes next: text, word, { or }, or nothing at the end."""
        if self.at == len(self.tokens):
            return ""
        kind, value, _ = self.tokens[self.at]
        return value if kind == "brace" else kind

    def expected(self, what: str) -> NoReturn:
        if self.at == len(self.tokens):
            self.fail(f"the file ends where {what} was expected")
        found = self.tokens[self.at][1]
        shown = found if len(found) <= 40 else f"{found[:40]}..."
        self.fail(f"expected {what}, found {' '.join(shown.split())}")

    def take(self, kind: str, what: str) -> str:
        if self.kind != kind:
            self.expected(what)
        self.at += 1
        return self.tokens[self.at - 1][1]

    def word(self, allowed: Sequence[str], what: str) -> str:
        if self.kind != "word" or self.tokens[self.at][1] not in allowed:
            self.expected(what)
        return self.take("word", what)

    def quotation(self, what: str) -> str:
        return _ESCAPE.sub(r"\1", self.take("text", f"{what} in quotation marks")[1:-1])

    def whole(self, what: str) -> int:
        if self.kind != "word" or not re.fullmatch(r"\d{1,15}", self.tokens[self.at][1]):
            self.expected(what)
        return int(self.take("word", what))

    def _number(self, what: str) -> tuple[str, int]:
        """A number as a decimal's text, and what it is divided by."""
        if self.kind != "word" or not _NUMBER.fullmatch(self.tokens[self.at][1]):
            self.expected(f"{what} (a decimal number or a fraction)")
        above, _, below = self.tokens[self.at][1].partition("/")
        if below and int(below) == 0:
            self.expected(f"{what} with a denominator above 0")
        if math.isinf(float(above)):
            self.expected(f"{what} below 1e308")
        self.at += 1
        return above, int(below or 1)

    def exact(self, what: str) -> Fraction:
        above, below = self._number(what)
        return Fraction(above) / below

    def number(self, what: str) -> float:
        above, below = self._number(what)
        return float(above) if below == 1 else float(Fraction(above) / below)

    def braced(self, what: str) -> Iterator[None]:
        """Yields as long as something comes before the closing brace."""
        self.take("{", f"{{ before {what}")
        while self.kind not in ("}", ""):
            yield
        self.take("}", f"}} after {what}")

    def players(self) -> list[str]:
        names: list[str] = []
        for _ in self.braced("the players' names"):
            place = self.offset
            name = self.quotation("a player's name or }")
            name = name or f"player{len(names) + 1}"
            if name in names:
                self.fail(
                    f"players {names.index(name) + 1} and {len(names) + 1} are both called {name}",
                    place,
                )
            names.append(name)
        return names

    def payoffs(self, players: int) -> tuple[float, ...]:
        place = self.offset
        values = [self.number("a payoff or }") for _ in self.braced("the payoffs")]
        if len(values) != players:
            self.fail(f"expected {players} payoffs, one a player, found {len(values)}", place)
        return tuple(values)


def scan_file(path: Path) -> Scanner:
    """A scanner at the beginning of a file."""
    return Scanner(path, read_text(path))


def read_text(path: Path) -> str:
    """A UTF-8 file's text; InputError that names the file if it cannot be read."""
    if not path.exists():
        raise InputError(f"{path}: no such file")
    if path.is_dir():
        raise InputError(f"{path}: expected a file, found a folder")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text") from None
