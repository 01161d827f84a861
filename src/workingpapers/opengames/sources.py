"""What a command line names: games, their parameters with ranges, and strategies."""

import itertools
import re
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workingpapers.foundation import console
from workingpapers.foundation.errors import InputError, UserFacingError

if TYPE_CHECKING:
    from workingpapers.opengames.games import Game, GameFactory
    from workingpapers.opengames.library import Entry


@dataclass
class Source:
    """Where a game comes from: a factory, with its library entry, or one game of a file."""

    text: str
    factory: "GameFactory | None" = None
    entry: "Entry | None" = None
    game: "Game | None" = None
    params: Mapping[str, Any] = field(default_factory=dict)
    """What a file sets."""
    strategies: Mapping[str, Any] = field(default_factory=dict)
    """What a file gives."""

    def build(self, settings: Mapping[str, Any]) -> "Game":
        """The game with these parameters."""
        if self.game is not None and not settings:
            return self.game
        if self.factory is None:
            raise InputError(
                f"--param {next(iter(settings))}: {self.text} has no parameters to set"
            )
        return self.factory(**{**self.params, **settings})

    def rebuild(self, settings: Mapping[str, Any]) -> "Game":
        """As `build`, but never a game that is compiled already."""
        if self.factory is not None:
            return self.factory(**{**self.params, **settings})
        from workingpapers.opengames import files

        return files.read(self.text).game

    def needs_factory(self, verb: str) -> "GameFactory":
        if self.factory is None:
            raise InputError(f"{verb}: {self.text} has no parameters to vary")
        return self.factory


def open_game(text: str, trust: bool) -> Source:
    from workingpapers.opengames import files, library

    if ":" in text:
        return Source(text, files.load_user_game(text))
    path = Path(text)
    if path.suffix.lower() in (".efg", ".nfg", ".json", ".toml"):
        return open_file(path, trust)
    if path.suffix == ".py":
        raise InputError(f"{text}: expected {text}:FUNCTION, the function that builds the game")
    if path.is_file():
        files.sniff(path)
    entry = library.load(text)
    return Source(text, entry.factory, entry)


def open_with_settings(text: str, trust: bool) -> tuple[Source, dict[str, Any]]:
    """A game that may be followed by parameters: GAME,NAME=VALUE,NAME=VALUE."""
    game, *own = text.split(",")
    source = open_game(game, trust)
    return source, settings_of(source, own)


def open_file(path: Path, trust: bool) -> Source:
    from workingpapers.opengames import files

    if not path.is_file():
        raise InputError(f"{path}: no such file")
    read = files.read(path, trust)
    if read.game.factory is not None and trust:
        console.err.print(f"note: ran the code that {path} names, as --trust says", markup=False)
    return Source(
        str(path), read.game.factory, None, read.game, read.game.parameters, read.strategies
    )


@contextmanager
def blame_own_code(games: Sequence[str]) -> Iterator[None]:
    """Name the line of a user's file in what its functions raise; other errors pass."""
    try:
        yield
    except UserFacingError:
        raise
    except Exception as error:
        files = [Path(text.rpartition(":")[0]).resolve() for text in games if ".py:" in text]
        for frame in reversed(traceback.extract_tb(error.__traceback__)):
            for file in files:
                if Path(frame.filename).resolve() == file:
                    raise InputError(
                        f"{file.name}, line {frame.lineno}: {type(error).__name__}: {error}"
                    ) from error
        raise


@dataclass(frozen=True)
class Axis:
    """The values that a parameter is to take, or the ends between which it is searched."""

    name: str
    low: float
    high: float
    values: tuple[Any, ...] = ()

    def points(self) -> Any:
        import numpy as np

        return np.array(self.values)


_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_RANGE = re.compile(f"({_NUMBER}):({_NUMBER})(?::(.*))?")
_DEFAULT_COUNT = 51


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip() or not value.strip():
        raise InputError(f"--param {text}: expected NAME=VALUE")
    return name.strip(), value.strip()


def read_setting(text: str) -> tuple[str, Any]:
    """NAME=VALUE, where VALUE is a number, JSON, a Python literal, or else text."""
    import ast
    import json

    name, value = _pair(text)
    for read in (json.loads, ast.literal_eval):
        try:
            return name, _tuples(read(value))
        except (ValueError, SyntaxError):
            continue
    return name, value


def _tuples(value: Any) -> Any:
    return tuple(_tuples(part) for part in value) if isinstance(value, list) else value


def settings_of(source: Source, params: Sequence[str] | None) -> dict[str, Any]:
    """Parameters that are set, none that is varied."""
    fixed, varied = split_params(source, params)
    for name in varied:
        raise InputError(f"--param {name}: expected one value, not a range")
    return fixed


def split_params(
    source: Source, params: Sequence[str] | None
) -> tuple[dict[str, Any], dict[str, Axis]]:
    """The parameters that are set, and those that are varied."""
    fixed: dict[str, Any] = {}
    varied: dict[str, Axis] = {}
    for text in params or []:
        name, value = _pair(text)
        if source.factory is not None:
            source.factory.known({name: value})
        if name in fixed or name in varied:
            raise InputError(f"--param {text}: {name} is given twice")
        axis = _axis(name, value)
        if axis is None:
            fixed[name] = read_setting(text)[1]
        else:
            varied[name] = axis
    return fixed, varied


def _axis(name: str, value: str) -> Axis | None:
    """LOW:HIGH[:COUNT] or A,B,C as an axis; None for what is neither."""
    found = _RANGE.fullmatch(value)
    if found is None:
        parts = [part.strip() for part in value.split(",")]
        if len(parts) < 2 or not all(re.fullmatch(_NUMBER, part) for part in parts):
            return None
        listed = tuple(_number(part) for part in parts)
        if any(later <= earlier for earlier, later in itertools.pairwise(listed)):
            raise InputError(f"--param {name}={value}: expected numbers that rise")
        return Axis(name, listed[0], listed[-1], listed)
    low, high = _number(found[1]), _number(found[2])
    count = found[3] if found[3] is not None else str(_DEFAULT_COUNT)
    if not count.isdecimal() or int(count) < 2:
        raise InputError(f"--param {name}={value}: the count is {count}; expected 2 or more")
    if not low < high:
        raise InputError(f"--param {name}={value}: expected the low end below the high one")
    steps = int(count) - 1
    whole = isinstance(low, int) and isinstance(high, int)
    if whole and found[3] is None and high - low < steps:
        steps = int(high - low)
    if whole and (high - low) % steps == 0:
        values: tuple[Any, ...] = tuple(range(int(low), int(high) + 1, int(high - low) // steps))
    else:
        values = tuple(low + (high - low) * step / steps for step in range(steps + 1))
    return Axis(name, low, high, values)


def _number(text: str) -> float:
    return int(text) if re.fullmatch(r"[-+]?\d+", text) else float(text)


def profile_of(source: Source, game: "Game", text: str | None) -> Any:
    """The strategies that --strategy names."""
    from workingpapers.opengames import strategy

    named = source.entry.profiles if source.entry else {}
    if text is None:
        if source.strategies:
            return source.strategies
        there = f"; profiles of {source.text} are {_quoted(named)}" if named else ""
        raise InputError(f"--strategy: expected a .json or .csv file or DECISION=ACTION,...{there}")
    if text in named:
        return named[text]
    if text == "uniform":
        return _uniform(game)
    path = Path(text)
    if path.suffix.lower() in (".csv", ".parquet"):
        from workingpapers.opengames import data

        return data.empirical_strategies(game, data.observed_play(path), prior=0.0)
    if path.is_file():
        return strategy.read_strategies(path)
    if path.suffix.lower() == ".json":
        raise InputError(f"{path}: no such file")
    if "=" in text:
        return _pairs(text)
    near = get_close_matches(text, named, n=3) or list(named)[:6]
    there = f"; profiles of {source.text} are {_quoted(near)}" if near else ""
    raise InputError(f"--strategy {text}: neither a file nor a profile{there}")


def _uniform(game: "Game") -> Any:
    from workingpapers.opengames.strategy import uniform
    from workingpapers.opengames.trace import DecideNode

    if game.engine == "frontier" or game.trace is None:
        return uniform(game.frontier)
    # Without compiling, which this game is too large for.
    found = {}
    for node in game.trace.nodes:
        if isinstance(node, DecideNode):
            actions = node.space.values if node.space else None
            if actions is None:
                return uniform(game.frontier)
            found[node.label] = dict.fromkeys(actions, 1 / len(actions))
    return found


def _quoted(names: Any) -> str:
    return ", ".join(f"'{name}'" if re.search(r"\W", name) else str(name) for name in names)


def _pairs(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in text.split(","):
        name, equals, action = (piece.strip() for piece in part.partition("="))
        if not equals or not name or not action:
            raise InputError(f"--strategy {text}: expected DECISION=ACTION, found {part.strip()!r}")
        if name in found:
            raise InputError(f"--strategy {text}: {name} is given twice")
        found[name] = action
    return found
