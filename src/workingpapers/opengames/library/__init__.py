"""Institutions and textbook games with known answers: `load("irrigation").factory()` is a game.

Every entry holds a factory, named strategy profiles, and what is known about them from the
literature, from a closed form, or from another program. `facts` compares the known with what is
found here; nothing known was ever adjusted to that.
"""

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import product
from typing import Any

from workingpapers.foundation.errors import InputError
from workingpapers.opengames.equilibrium import Notion, Report
from workingpapers.opengames.games import Game, GameFactory
from workingpapers.opengames.strategy import describe

Profile = Mapping[str, Any]
"""A strategy for every decision, as `Game.check` takes it."""


@dataclass(frozen=True)
class Known:
    """One statement with a known answer about a named profile of an entry.

    `source` is a book or paper, "closed form" for what a calculation by hand gives, "open-games
    engine" for what that program's examples record or give when run, or its tutorial models' name.
    """

    profile: str
    equilibrium: bool | None
    """Whether the profile is an equilibrium; None where only numbers are known."""
    source: str
    notion: Notion = "agent"
    params: Mapping[str, Any] = field(default_factory=dict)
    """Parameters of the game that are not the factory's defaults."""
    payoffs: Mapping[str, float] = field(default_factory=dict)
    """Expected payoffs of (some) players."""
    values: Mapping[tuple[str, Any], tuple[float, float | None]] = field(default_factory=dict)
    """(decision, observation): (payoff of what is played there, best payoff; None: not known)."""
    deviating: tuple[str, ...] | None = None
    """All decisions with a profitable deviation; None where they are not known."""
    deviating_at: tuple[tuple[str, Any], ...] | None = None
    """All (decision, observation) with a profitable deviation; None where they are not known."""
    eps: float = 0.0
    within: float = 1e-9
    """Absolute error allowed: the digits that are known."""


@dataclass(frozen=True)
class OnlyEquilibria:
    """These profiles, of all there are to choose from, are the equilibria."""

    profiles: tuple[Profile, ...]
    source: str
    params: Mapping[str, Any] = field(default_factory=dict)
    notion: Notion = "agent"
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """Strategies of decisions that are not varied."""
    among: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """Actions that a decision chooses from, if not from all of its own."""


@dataclass(frozen=True)
class Entry:
    """An institution of the library: how to build it, how to behave in it, what is known of it."""

    name: str
    factory: GameFactory
    summary: str
    source: str
    profiles: Mapping[str, Profile]
    known: tuple[Known, ...] = ()
    constant_equilibria: tuple[OnlyEquilibria, ...] = ()
    """Which are the equilibria among profiles that play one action a decision everywhere."""
    pure_equilibria: tuple[OnlyEquilibria, ...] = ()
    """Which are the equilibria among all pure profiles."""

    def game(self, **params: Any) -> Game:
        """The game, with `params` instead of the factory's defaults."""
        return self.factory(**params)

    def profile(self, name: str) -> Profile:
        """The strategies of a named profile; InputError if there is none of this name."""
        if name not in self.profiles:
            raise _unknown(f"{self.name}: profile", name, list(self.profiles))
        return self.profiles[name]


@dataclass(frozen=True)
class Fact:
    """One known number or flag beside what is found here."""

    entry: str
    profile: str
    what: str
    expected: Any
    found: Any
    ok: bool
    source: str

    def __str__(self) -> str:
        known = f"known {self.expected}" + ("" if self.ok else " (differs)")
        return f"{self.entry}, {self.profile}: {self.what} is {self.found}, {known}"


_MODULES: Mapping[str, tuple[str, ...]] = {
    "commons": (
        "irrigation",
        "irrigation_monitored",
        "irrigation_restitution",
        "irrigation_plot_monitor",
        "irrigation_rotating_monitor",
        "irrigation_random_roles",
        "common_pool",
        "public_goods",
        "volunteers_dilemma",
    ),
    "social": (
        "prisoners_dilemma",
        "meeting_in_new_york",
        "matching_pennies",
        "stag_hunt",
        "chicken",
        "chicken_traffic_light",
        "commitment_device",
        "commitment_choice",
        "extortion",
        "coordinator_auction",
    ),
    "bargaining": (
        "ultimatum",
        "trust",
        "centipede",
        "share_cropping",
        "wage_setting",
    ),
    "voting": (
        "dictator_chooses_game",
        "vote_on_game",
        "dictator_sets_penalty",
        "elected_dictator",
        "land_tenure",
        "vote_on_bargaining",
        "vote_on_roles",
    ),
    "information": (
        "signal_coordination",
        "bayesian_prisoners_dilemma",
        "lemons",
        "job_signalling",
        "seltens_horse",
        "kuhn_poker",
    ),
    "auctions": (
        "kth_price_auction",
        "all_pay_auction",
        "reserve_price_auction",
        "relay_auction",
        "permit_sale",
    ),
    "ledger": (
        "constant_product_market",
        "and_gate_staking",
        "tullock_deposits",
    ),
}
"""The entries by the module that holds them."""


def names() -> list[str]:
    """The names of all entries, module by module."""
    return [name for held in _MODULES.values() for name in held]


def load(name: str) -> Entry:
    """The entry of this name; InputError that names near matches if there is none."""
    for module, held in _MODULES.items():
        if name in held:
            entries = importlib.import_module(f"{__name__}.{module}").ENTRIES
            return next(entry for entry in entries if entry.name == name)
    raise _unknown("library: entry", name, names())


def _unknown(what: str, name: str, known: list[str]) -> InputError:
    near = get_close_matches(name, known, n=3) or known[:6]
    return InputError(f"{what} {name!r} does not exist; there are {', '.join(near)}")


# ---- what is known beside what is found


def constant_profiles(
    game: Game,
    fixed: Mapping[str, Any] | None = None,
    among: Mapping[str, Sequence[Any]] | None = None,
) -> Iterator[dict[str, Any]]:
    """Every profile in which each decision takes one action whatever is observed.

    Decisions in `fixed` keep the strategy given there; those in `among` choose from these actions.
    """
    choices: list[list[Any]] = []
    for decision in game.frontier.decisions:
        if fixed and decision.name in fixed:
            choices.append([fixed[decision.name]])
        elif among and decision.name in among:
            choices.append(list(among[decision.name]))
        else:
            first, *others = decision.actions
            choices.append([move for move in first if all(move in other for other in others)])
    for moves in product(*choices):
        yield {one.name: move for one, move in zip(game.frontier.decisions, moves, strict=True)}


def pure_profiles(game: Game, fixed: Mapping[str, Any] | None = None) -> Iterator[dict[str, Any]]:
    """Every profile that takes one action at each observation; those in `fixed` are kept."""
    places: list[tuple[str, Any, tuple[Any, ...]]] = [
        (decision.name, observation, actions)
        for decision in game.frontier.decisions
        if not fixed or decision.name not in fixed
        for observation, actions in zip(decision.observations, decision.actions, strict=True)
    ]
    for moves in product(*(actions for _, _, actions in places)):
        profile: dict[str, Any] = dict(fixed or {})
        for (name, observation, _), move in zip(places, moves, strict=True):
            profile.setdefault(name, {})[observation] = move
        yield profile


def facts(entry: Entry) -> Iterator[Fact]:
    """Every known number and flag of an entry, measured."""
    games: dict[str, Game] = {}

    def game_for(params: Mapping[str, Any]) -> Game:
        return games.setdefault(repr(sorted(params.items())), entry.factory(**params))

    for known in entry.known:
        report = game_for(known.params).check(
            entry.profile(known.profile), known.notion, eps=known.eps
        )
        yield from _compare(entry, known, report)
    for only in entry.constant_equilibria:
        game = game_for(only.params)
        profiles = constant_profiles(game, only.fixed, only.among)
        yield _compare_sets(entry, "constant", only, game, profiles)
    for only in entry.pure_equilibria:
        game = game_for(only.params)
        yield _compare_sets(entry, "pure", only, game, pure_profiles(game, only.fixed))


def _compare_sets(
    entry: Entry, kind: str, only: OnlyEquilibria, game: Game, profiles: Iterator[dict[str, Any]]
) -> Fact:
    found = [
        vector
        for vector in (game.profile(one) for one in profiles)
        if game.check(vector, only.notion, engine="frontier").ok
    ]
    expected = [game.profile({**only.fixed, **one}) for one in only.profiles]
    ok = sorted(map(tuple, found)) == sorted(map(tuple, expected))
    shown = [[describe(game.frontier, one) for one in vectors] for vectors in (expected, found)]
    what = f"the set of {kind} equilibria ({only.notion})"
    if only.params:
        what += f" at {dict(only.params)}"
    return Fact(entry.name, kind, what, shown[0], shown[1], ok, only.source)


def _compare(entry: Entry, known: Known, report: Report) -> Iterator[Fact]:
    def fact(what: str, expected: Any, found: Any, ok: bool) -> Fact:
        shown = f"{what} at {dict(known.params)}" if known.params else what
        return Fact(entry.name, known.profile, shown, expected, found, ok, known.source)

    if known.equilibrium is not None:
        what = f"equilibrium ({known.notion}{f', eps {known.eps:g}' if known.eps else ''})"
        yield fact(what, known.equilibrium, report.ok, report.ok == known.equilibrium)
    for player, expected in known.payoffs.items():
        found = report.payoffs[player]
        yield fact(f"payoff of {player}", expected, found, abs(found - expected) <= known.within)
    for (decision, observation), (expected, best) in known.values.items():
        where = f"{decision} at {observation}"
        # A role's decision is one entry a player; what is known holds for each of them.
        rows = [
            one
            for one in report.decisions
            if one.decision == decision and one.observation in (observation, (observation,))
        ]
        found_here = [one.payoff for one in rows]
        near = [abs(one - expected) <= known.within for one in found_here]
        yield fact(f"payoff of {where}", expected, found_here, bool(rows) and all(near))
        if best is not None:
            found_best = [one.best_payoff for one in rows]
            near = [abs(one - best) <= known.within for one in found_best]
            yield fact(f"best payoff of {where}", best, found_best, bool(rows) and all(near))
    if known.deviating is not None:
        found_names = sorted({one.decision for one in report.deviations})
        wanted = sorted(known.deviating)
        yield fact("decisions that deviate", wanted, found_names, found_names == wanted)
    if known.deviating_at is not None:
        places = {
            (one.decision, one.observation[0] if len(one.observation) == 1 else one.observation)
            for one in report.deviations
        }
        yield fact(
            "places that deviate",
            sorted(known.deviating_at, key=repr),
            sorted(places, key=repr),
            places == set(known.deviating_at),
        )
