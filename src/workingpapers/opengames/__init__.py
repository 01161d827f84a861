"""Compositional game theory: compose games into institutions, check which behaviour they sustain.

The public names are imported when they are first used, so that importing this package is quick.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workingpapers.opengames import design, draw, dynamic, files, library, simulate, solve
    from workingpapers.opengames.compile import ProbabilityError, StateSpaceTooLarge
    from workingpapers.opengames.equilibrium import Deviation, ImperfectRecall, Report
    from workingpapers.opengames.games import Game, GameFactory, game
    from workingpapers.opengames.spaces import ANY, UTILITY, Space, product
    from workingpapers.opengames.terms import (
        Context,
        OpenGame,
        backward,
        copy,
        counit,
        decision,
        discard,
        fold,
        forward,
        identity,
        lens,
        nature,
        payoff_table,
        repeat,
        role_decision,
        swap,
    )
    from workingpapers.opengames.trace import Trace, Wire

_HOMES = {
    "ANY": "spaces",
    "Context": "terms",
    "Deviation": "equilibrium",
    "Game": "games",
    "GameFactory": "games",
    "ImperfectRecall": "equilibrium",
    "OpenGame": "terms",
    "ProbabilityError": "compile",
    "Report": "equilibrium",
    "Space": "spaces",
    "StateSpaceTooLarge": "compile",
    "Trace": "trace",
    "UTILITY": "spaces",
    "Wire": "trace",
    "backward": "terms",
    "copy": "terms",
    "counit": "terms",
    "decision": "terms",
    "discard": "terms",
    "fold": "terms",
    "forward": "terms",
    "game": "games",
    "identity": "terms",
    "lens": "terms",
    "nature": "terms",
    "payoff_table": "terms",
    "product": "spaces",
    "repeat": "terms",
    "role_decision": "terms",
    "swap": "terms",
}
_MODULES = ("design", "draw", "dynamic", "files", "library", "simulate", "solve")

__all__ = [
    "ANY",
    "UTILITY",
    "Context",
    "Deviation",
    "Game",
    "GameFactory",
    "ImperfectRecall",
    "OpenGame",
    "ProbabilityError",
    "Report",
    "Space",
    "StateSpaceTooLarge",
    "Trace",
    "Wire",
    "backward",
    "copy",
    "counit",
    "decision",
    "design",
    "discard",
    "draw",
    "dynamic",
    "files",
    "fold",
    "forward",
    "game",
    "identity",
    "lens",
    "library",
    "nature",
    "payoff_table",
    "product",
    "repeat",
    "role_decision",
    "simulate",
    "solve",
    "swap",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"workingpapers.opengames.{name}")
    if name in _HOMES:
        return getattr(importlib.import_module(f"workingpapers.opengames.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
