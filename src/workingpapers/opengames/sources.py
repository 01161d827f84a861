"""What a command line names: games, their parameters with ranges, and strategies."""

import itertools
import math
import os
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
    """The game that GAME on the command line names; InputError with near names if there is none."""
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
    """The game of a .efg, .nfg, .json or .toml file; what it names is run with `trust` only."""
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
    text: str
    """As it was given: NAME=LOW:HIGH, for errors."""
    low: Any
    high: Any
    values: tuple[Any, ...] = ()

    @property
    def numeric(self) -> bool:
        return all(isinstance(v, int | float) and not isinstance(v, bool) for v in self.values)

    @property
    def whole(self) -> bool:
        return all(isinstance(value, int) for value in self.values)

    def points(self) -> Any:
        import numpy as np

        return np.array(self.values)


_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_RANGE = re.compile(f"({_NUMBER}):({_NUMBER})(?::(.*))?")
_NOT_FINITE = re.compile(r"[-+]?(?:nan|inf|infinity)|", re.IGNORECASE)
"""NaN, an infinity, or nothing: what is no entry of a list and no end of a range."""
_DEFAULT_COUNT = 51
_MOST_VALUES = 1_000_000


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
    found: Any = value
    for read in (json.loads, ast.literal_eval):
        try:
            found = _tuples(read(value))
            break
        except (ValueError, SyntaxError):
            continue
    if _NOT_FINITE.fullmatch(value) or not _finite(found):
        raise InputError(f"--param {text}: expected a finite number")
    return name, found


def _finite(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(_finite(part) for part in value)
    return not isinstance(value, float) or math.isfinite(value)


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
        default = None if source.factory is None else source.factory.params.get(name)
        axis = _axis(name, value, default)
        if axis is None:
            fixed[name] = read_setting(text)[1]
        else:
            varied[name] = axis
    return fixed, varied


def takes_whole_numbers(source: Source, axis: Axis, fixed: Mapping[str, Any]) -> bool:
    """Whether a parameter counts something: a whole number on which more than payoffs depend."""
    import numpy as np

    from workingpapers.opengames import design

    factory = source.factory
    default = None if factory is None else factory.params.get(axis.name)
    if factory is None or isinstance(default, bool) or not isinstance(default, int):
        return False
    ends = np.array([axis.low, axis.high], dtype=float)
    try:
        return not design.is_batched(factory, axis.name, ends, {**source.params, **fixed})
    except Exception:
        # Whatever a decimal breaks in the game's function, the parameter is not for payoffs alone.
        return True


def _axis(name: str, value: str, default: Any) -> Axis | None:
    """LOW:HIGH[:COUNT] or A,B,C as an axis; None for what is neither."""
    text = f"{name}={value}"
    found = _RANGE.fullmatch(value)
    if found is None:
        ends = value.split(":")
        numbers = all(_is_number(end) or _NOT_FINITE.fullmatch(end) for end in ends[:2])
        if len(ends) in (2, 3) and numbers and not isinstance(default, str):
            _refuse_not_finite(text, ends[:2])
        return _listed(name, value, default)
    low, high = _number(found[1]), _number(found[2])
    _refuse_not_finite(text, [end for end in found.groups()[:2] if math.isinf(float(end))])
    count = found[3] if found[3] is not None else str(_DEFAULT_COUNT)
    if not count.isdecimal() or (len(count) < 20 and int(count) < 2):
        raise InputError(f"--param {text}: the count is {count}; expected 2 or more")
    if len(count) >= 20 or int(count) > _MOST_VALUES:
        raise InputError(f"--param {text}: the count is {count}; expected {_MOST_VALUES:,} at most")
    if not low < high:
        raise InputError(f"--param {text}: expected the low end below the high one")
    steps = int(count) - 1
    whole = isinstance(low, int) and isinstance(high, int)
    if whole and found[3] is None and high - low < steps:
        steps = int(high - low)
    if whole and (high - low) % steps == 0:
        values: tuple[Any, ...] = tuple(range(int(low), int(high) + 1, int(high - low) // steps))
    else:
        values = tuple(low + (high - low) * step / steps for step in range(steps + 1))
    return Axis(name, text, low, high, values)


def _listed(name: str, value: str, default: Any) -> Axis | None:
    """A,B,C as an axis: of numbers that rise, or of words where the default is one."""
    text = f"{name}={value}"
    parts = [part.strip() for part in value.split(",")]
    if len(parts) < 2 or value[0] in "[({\"'":
        return None
    if not all(_is_number(part) for part in parts):
        if not any(_is_number(part) for part in parts) and not isinstance(default, int | float):
            _refuse_not_finite(text, [part for part in parts if not part])
            return Axis(name, text, None, None, tuple(parts)) if isinstance(default, str) else None
        _refuse_not_finite(text, parts)
        settings = tuple(read_setting(f"{name}={part}")[1] for part in parts)
        if isinstance(default, bool) and all(isinstance(one, bool) for one in settings):
            return Axis(name, text, None, None, settings)
        if isinstance(default, str):
            return Axis(name, text, None, None, tuple(parts))
        wrong = next(part for part in parts if not _is_number(part))
        raise InputError(f"--param {text}: expected numbers, found {wrong!r}")
    listed = tuple(_number(part) for part in parts)
    _refuse_not_finite(
        text, [part for part, one in zip(parts, listed, strict=True) if math.isinf(one)]
    )
    if any(later <= earlier for earlier, later in itertools.pairwise(listed)):
        raise InputError(f"--param {text}: expected numbers that rise")
    return Axis(name, text, listed[0], listed[-1], listed)


def _refuse_not_finite(text: str, entries: Sequence[str]) -> None:
    """Refuse NaN, an infinity (also as 1e999) or nothing among the entries."""
    for entry in entries:
        if _NOT_FINITE.fullmatch(entry) or (_is_number(entry) and math.isinf(float(entry))):
            raise InputError(
                f"--param {text}: expected finite numbers, found {entry or 'an empty entry'}"
            )


def _is_number(text: str) -> bool:
    return re.fullmatch(_NUMBER, text) is not None


def _number(text: str) -> float:
    return int(text) if re.fullmatch(r"[-+]?\d+", text) else float(text)


def profile_of(source: Source, game: "Game", text: str | None) -> Any:
    """The strategies that --strategy names."""
    named = source.entry.profiles if source.entry else {}
    if text is None:
        if source.strategies:
            return source.strategies
        if not game.decisions:
            return {}
        there = f"; profiles of {source.text} are {_quoted(named)}" if named else ""
        raise InputError(f"--strategy: expected a .json or .csv file or DECISION=ACTION,...{there}")
    if text in named:
        return named[text]
    if text == "uniform":
        return _uniform(game)
    path = Path(text)
    # Unlike Path's, these take a text too long for a file's name, as many pairs make.
    if os.path.isdir(text):
        raise InputError(f"--strategy {text}: expected a file, found a folder")
    if path.suffix.lower() in (".csv", ".parquet"):
        return _as_observed(game, path)
    if os.path.isfile(text):
        return _from_file(game, path)
    if path.suffix.lower() == ".json":
        raise InputError(f"{path}: no such file")
    if "=" in text:
        return _pairs(text)
    near = get_close_matches(text, named, n=3) or list(named)[:6]
    there = f"; profiles of {source.text} are {_quoted(near)}" if near else ""
    raise InputError(f"--strategy {text}: neither a file nor a profile{there}")


_MOST_NOTES = 5


def _as_observed(game: "Game", path: Path) -> Any:
    """Observed frequencies, with a note for each place that has none."""
    from workingpapers.opengames import data
    from workingpapers.opengames.strategy import describe

    counted = data.counts(game, data.observed_play(path))
    places = data.unobserved(game, counted)
    for place in places[:_MOST_NOTES]:
        console.err.print(f"note: no data for {place}: played uniformly", markup=False)
    if len(places) > _MOST_NOTES:
        console.err.print(f"note: and {len(places) - _MOST_NOTES} more", markup=False)
    return describe(game.frontier, data.smoothed(game, counted, 0.0))


def _from_file(game: "Game", path: Path) -> Any:
    """The strategies of a file; what is wrong with them is said with the file's name."""
    from workingpapers.opengames.compile import StateSpaceTooLarge
    from workingpapers.opengames.strategy import read_strategies

    strategies = read_strategies(path)
    try:
        if game.engine == "contraction":
            game.contraction.resolve(strategies)
        else:
            game.profile(strategies)
    except StateSpaceTooLarge:
        # Such a game can still be sampled, where the names are checked as it is played.
        pass
    except InputError as error:
        raise type(error)(f"{path}: {error}") from None
    return strategies


def _uniform(game: "Game") -> Any:
    from workingpapers.opengames.strategy import UNIFORM

    return dict.fromkeys(game.decisions, UNIFORM)


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
