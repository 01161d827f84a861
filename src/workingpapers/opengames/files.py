"""Games in files: Gambit's trees and tables, compiled games in JSON, institutions by their code.

What other modules read and write is named here too, so that this is the one door to files.
"""

import difflib
import inspect
import io
import re
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workingpapers.foundation.errors import InputError, missing_package
from workingpapers.opengames.efg import (
    InformationSet,
    efg_text,
    information_sets,
    read_efg,
    write_efg,
)
from workingpapers.opengames.gambit_text import MAX_NODES, read_text
from workingpapers.opengames.game_json import (
    Fields,
    FrontierReader,
    load_json,
    read_json,
    write_json,
)
from workingpapers.opengames.games import Game, GameFactory
from workingpapers.opengames.nfg import nfg_text, read_nfg, write_nfg
from workingpapers.opengames.strategy import Strategy

__all__ = [
    "MAX_NODES",
    "InformationSet",
    "Institution",
    "efg_text",
    "information_sets",
    "load_user_game",
    "nfg_text",
    "read",
    "read_efg",
    "read_json",
    "read_nfg",
    "read_spec",
    "sniff",
    "to_gambit",
    "to_openspiel",
    "write_efg",
    "write_json",
    "write_nfg",
]


# ---- institutions: a game's function with its parameters and strategies


@dataclass(frozen=True)
class Institution:
    """What a file describes: a game, and a profile of strategies where the file gives one."""

    game: Game
    strategies: dict[str, Strategy]


def read_spec(path: str | Path, trust: bool = False) -> Institution:
    """The institution of a JSON or TOML file, or the compiled game of a JSON file.

    `{"module": "package.module:function" or "file.py:function", "params": {...}, "strategies":
    {...}}`; a `file.py` is looked for beside it. The module is imported, so that its
    code runs: only with `trust`, else InputError.
    """
    path = Path(path)
    content = _load_toml(path) if path.suffix == ".toml" else load_json(path)
    fields = Fields(str(path), content)
    if "schema" in fields.content:
        return Institution(Game(frontier=FrontierReader(fields).frontier()), {})
    known = ("module", "params", "strategies")
    for name in fields.content:
        if name not in known:
            near = difflib.get_close_matches(name, known) or known
            fields.fail(name, f"no such field; there are {', '.join(near)}")
    module = fields.text("module")
    params, strategies = (
        fields.get(name, dict, "an object") if name in fields.content else {}
        for name in ("params", "strategies")
    )
    if not trust:
        raise InputError(f"{path}: names the code {module}, which was not run; --trust imports it")
    factory = load_user_game(module, params, folder=path.parent)
    return Institution(
        factory(**params), {name: _tuples(moves) for name, moves in strategies.items()}
    )


def _tuples(value: Any) -> Any:
    """A file's lists are a game's tuples."""
    if isinstance(value, list):
        return tuple(_tuples(part) for part in value)
    if isinstance(value, dict):
        return {key: _tuples(part) for key, part in value.items()}
    return value


def _load_toml(path: Path) -> Any:
    import tomllib

    text = read_text(path)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)", str(error))
        reason, line = (found[1], found[2]) if found else (str(error), None)
        last = text.rstrip().count("\n") + 1
        raise InputError(f"{path}, line {line or last}: not TOML ({reason})") from None


def load_user_game(
    text: str, params: Mapping[str, Any] | None = None, *, folder: Path | None = None
) -> GameFactory:
    """The factory that `path/to/file.py:function` or `package.module:function` names.

    A plain function is made a factory. Its code runs. A path is relative to `folder`. InputError
    for a file or function that is not there, for `params` that the game does not have, and for
    what the code itself raises, with its line.
    """
    where, colon, name = text.rpartition(":")
    if not colon or not where or not name:
        raise InputError(f"{text}: expected path/to/file.py:function or package.module:function")
    if where.endswith(".py"):
        module = _import_file(Path(folder or ".") / where)
    else:
        module = _import_module(where)
    factory = getattr(module, name, None)
    if factory is None:
        games = [key for key, value in vars(module).items() if isinstance(value, GameFactory)]
        functions = [
            key
            for key, value in vars(module).items()
            if inspect.isfunction(value) and value.__module__ == module.__name__
        ]
        near = difflib.get_close_matches(name, games + functions) or games or functions
        raise InputError(
            f"{where}: no function {name!r}; there are {', '.join(near[:6]) or 'none'}"
        )
    if inspect.isfunction(factory):
        factory = GameFactory(factory)
    if not isinstance(factory, GameFactory):
        raise InputError(
            f"{where}: {name} is a {type(factory).__name__}; expected a function with @game"
        )
    factory.known(params or {})
    return factory


def _import_file(path: Path) -> Any:
    from importlib.util import module_from_spec, spec_from_file_location

    if not path.is_file():
        raise InputError(f"{path}: no such file")
    name = f"_opengames_{path.stem}"
    spec = spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    # Dataclasses look their module up; what stands beside the file can be imported from it.
    sys.modules[name] = module
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise _import_error(str(path), error) from error
    finally:
        sys.path.remove(str(path.resolve().parent))
    return module


def _import_module(name: str) -> Any:
    from importlib import import_module

    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise InputError(f"{name}: no such module") from None
        raise _import_error(name, error) from error
    except (Exception, SystemExit) as error:
        raise _import_error(name, error) from error


def _import_error(where: str, error: BaseException) -> InputError:
    """What a user's code raised, in one line with the line of that code."""
    name = where if where.endswith(".py") else where.replace(".", "/") + ".py"
    places = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    message = f"{type(error).__name__}: {error}"
    if isinstance(error, SyntaxError):
        places.append((error.filename or "", error.lineno))
        message = error.msg
    own = [line for file, line in places if Path(file).as_posix().endswith(Path(name).as_posix())]
    line = f", line {own[-1]}" if own else ""
    return InputError(f"{where}{line}: {' '.join(message.split())}")


# ---- other programs, and any file


def to_gambit(game: Game, max_nodes: int = MAX_NODES) -> Any:
    """The game as a pygambit.Game; its information sets are those of a plain file."""
    try:
        import pygambit
    except ImportError as error:
        raise missing_package("pygambit", "gambit") from error
    return pygambit.read_efg(io.BytesIO(efg_text(game, max_nodes, plain=True).encode()))


def to_openspiel(game: Game, max_nodes: int = MAX_NODES) -> Any:
    """The game as a pyspiel.Game."""
    try:
        import pyspiel
    except ImportError as error:
        raise missing_package("open_spiel", "spiel") from error
    # Its reader knows no quotation marks inside of names.
    return pyspiel.load_efg_game(efg_text(game, max_nodes, plain=True).replace('\\"', "'"))


def sniff(path: str | Path) -> Any:
    """The reader for a file, by its suffix: read_efg, read_nfg, read_json or read_spec.

    JSON that is no compiled game is an institution. InputError for another suffix.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".json":
        content = load_json(path)
        return read_json if isinstance(content, dict) and "schema" in content else read_spec
    readers = {".efg": read_efg, ".nfg": read_nfg, ".toml": read_spec}
    if suffix not in readers:
        raise InputError(f"{path}: expected a file that ends in .efg, .nfg, .json or .toml")
    return readers[suffix]


def read(path: str | Path, trust: bool = False) -> Institution:
    """The game of a file of any of these kinds, with the strategies where it gives some."""
    reader = sniff(path)
    if reader is read_spec:
        return read_spec(path, trust)
    return Institution(reader(path), {})
