"""Behaviour strategies: from what users write to one flat vector of probabilities, and back."""

import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from workingpapers.foundation.errors import InputError
from workingpapers.opengames.compile import Decision, Frontier, ProbabilityError
from workingpapers.opengames.spaces import canonical, key_text, matching, show

Strategy = Any
"""An action, {action: probability}, {observation: either}, a function of what is seen that returns
either, or an array of shape (observations, actions)."""

Strategies = Mapping[str, Strategy] | np.ndarray
"""A profile: {decision: strategy}, or one vector of probabilities."""


class Uniform:
    """The strategy that takes every action with equal probability; there is one, `UNIFORM`."""

    def __repr__(self) -> str:
        return "uniform"


UNIFORM = Uniform()

_TOLERANCE = 1e-9


def unknown_name(kind: str, name: str, known: Sequence[str]) -> InputError:
    """The error for a name that is not there, with the names near it or all of few parameters."""
    if kind == "parameter" and len(known) <= 8:
        near = list(known)
    else:
        near = get_close_matches(name, known, n=3) or list(known[:6])
    return InputError(f"{kind} {name!r} is not in the game; there are {', '.join(near) or 'none'}")


def resolve(
    frontier: Frontier, strategies: Mapping[str, Strategy] | np.ndarray
) -> Float[np.ndarray, " slots"]:
    """A profile as one vector: for every decision, observation and action its probability.

    Raises InputError that names the decision for a missing or unknown decision, an observation or
    action that is not there; ProbabilityError for probabilities that do not sum to 1.
    """
    if isinstance(strategies, np.ndarray):
        if strategies.shape != (frontier.n_slots,):
            raise InputError(
                f"strategies: expected {frontier.n_slots} probabilities, found the shape "
                f"{strategies.shape}"
            )
        _check_vector(frontier, strategies)
        return strategies.astype(float)
    names = [decision.name for decision in frontier.decisions]
    for name in strategies:
        if name not in names:
            raise unknown_name("decision", name, names)
    profile = np.zeros(frontier.n_slots)
    for decision in frontier.decisions:
        if decision.name not in strategies:
            raise InputError(f"strategies: no strategy for the decision {decision.name!r}")
        _fill(decision, strategies[decision.name], profile)
    return profile


def _check_vector(frontier: Frontier, vector: np.ndarray) -> None:
    for decision in frontier.decisions:
        part = vector[decision.first_slot : int(decision.starts[-1])]
        sums = np.add.reduceat(part, decision.starts[:-1] - decision.first_slot) if len(part) else 0
        if not np.all(part >= 0) or np.any(np.abs(sums - 1) > _TOLERANCE):
            for begin, end in itertools.pairwise(decision.starts.tolist()):
                _check_sum(vector[begin:end].tolist(), f"strategy of {decision.name}")


def _fill(decision: Decision, strategy: Strategy, profile: np.ndarray) -> None:
    where = f"strategy of {decision.name}"
    if strategy is UNIFORM:
        sizes = np.diff(decision.starts)
        profile[decision.first_slot : int(decision.starts[-1])] = np.repeat(1 / sizes, sizes)
        return
    if isinstance(strategy, np.ndarray):
        _fill_array(decision, strategy, profile, where)
        return
    by_observation: Mapping[Any, Any] | None = None
    if isinstance(strategy, Mapping) and not _is_mixture(decision, strategy):
        by_observation = _by_observation(decision, strategy, where)
    for number, observation in enumerate(decision.observations):
        begin, end = int(decision.starts[number]), int(decision.starts[number + 1])
        if by_observation is not None:
            if number not in by_observation:
                raise InputError(
                    f"{_at(where, observation)}: no action is given for this observation"
                )
            move = by_observation[number]
        elif callable(strategy):
            move = strategy(*observation)
        else:
            move = strategy
        actions = decision.actions[number]
        if not isinstance(move, Mapping):
            # What nearly every strategy gives: one action.
            try:
                profile[begin + actions.index(move)] = 1.0
                continue
            except ValueError:
                pass
        profile[begin:end] = _mixture(actions, move, _at(where, observation))


def _at(where: str, observation: tuple[Any, ...]) -> str:
    return f"{where} at {show(observation)}" if observation else where


def _fill_array(decision: Decision, strategy: np.ndarray, profile: np.ndarray, where: str) -> None:
    sizes = np.diff(decision.starts)
    table = np.atleast_2d(strategy)
    expected = (len(sizes), int(sizes.max(initial=0)))
    if table.shape != expected:
        raise InputError(f"{where}: expected an array of shape {expected}, found {strategy.shape}")
    for number, size in enumerate(sizes):
        begin = int(decision.starts[number])
        row = table[number, :size]
        _check_sum([float(value) for value in row], where)
        profile[begin : begin + size] = row


def _is_mixture(decision: Decision, strategy: Mapping[Any, Any]) -> bool:
    """Whether a mapping gives probabilities of actions, not moves at observations."""
    if not all(isinstance(value, int | float | np.number) for value in strategy.values()):
        return False
    if decision.observations == [()]:
        return set(strategy) != {()}
    find = _observation_finder(decision)
    if all(find(key) is None for key in strategy):
        return bool(strategy)
    # Where values can be seen and done alike, {0: 0.5, 1: 0.5} still cannot be moves.
    actions = {action for offered in decision.actions for action in offered}
    sums = abs(math.fsum(float(weight) for weight in strategy.values()) - 1) <= _TOLERANCE
    return sums and actions >= set(strategy) and not actions >= set(strategy.values())


def _observation_finder(decision: Decision) -> Callable[[Any], int | None]:
    """A function from a key, as users or JSON write it, to the number of the observation."""
    numbers: dict[Any, int] = {}
    single = [one[0] if len(one) == 1 else one for one in decision.observations]
    for number, (one, observation) in enumerate(zip(single, decision.observations, strict=True)):
        numbers.setdefault(observation, number)
        numbers.setdefault(one, number)
    by_text: dict[str, int] = {}

    def find(key: Any) -> int | None:
        try:
            wanted = canonical(key)
        except InputError:
            return None
        if wanted in numbers:
            return numbers[wanted]
        if not isinstance(key, str):
            return None
        if not by_text:
            by_text.update({key_text(one): number for number, one in enumerate(single)})
        if key in by_text:
            return by_text[key]
        try:
            return single.index(matching(key, single))
        except KeyError:
            return None

    return find


def _by_observation(decision: Decision, strategy: Mapping[Any, Any], where: str) -> dict[int, Any]:
    found: dict[int, Any] = {}
    find = _observation_finder(decision)
    for key, move in strategy.items():
        number = find(key)
        if number is None:
            shown = [show(one) for one in decision.observations]
            near = get_close_matches(show(key), shown, n=3, cutoff=0.3) or shown[:6]
            raise InputError(
                f"{where}: {show(key)} is never observed; observations are {'; '.join(near)}"
            )
        found[number] = move
    return found


def _mixture(actions: tuple[Any, ...], move: Any, where: str) -> list[float]:
    if isinstance(move, Mapping):
        weights = [0.0] * len(actions)
        for action, weight in move.items():
            if not isinstance(weight, int | float | np.number):
                raise InputError(
                    f"{where}: the probability of {show(canonical(action))} is no number"
                )
            weights[_action_number(actions, action, where)] = float(weight)
        _check_sum(weights, where)
        return weights
    chosen = _action_number(actions, move, where)
    return [float(number == chosen) for number in range(len(actions))]


def _action_number(actions: tuple[Any, ...], action: Any, where: str) -> int:
    wanted = canonical(action)
    if wanted in actions:
        return actions.index(wanted)
    if isinstance(action, str):
        try:
            return actions.index(matching(action, actions))
        except KeyError:
            pass
    raise InputError(
        f"{where}: {show(wanted)} is not an action there; actions are "
        f"{', '.join(show(one) for one in actions[:8])}"
    )


def _check_sum(weights: Sequence[float], where: str) -> None:
    if any(math.isnan(weight) for weight in weights):
        raise ProbabilityError(f"{where}: a probability is not a number (NaN)")
    if any(weight < 0 for weight in weights):
        raise ProbabilityError(f"{where}: a probability is negative")
    if abs(math.fsum(weights) - 1) > _TOLERANCE:
        raise ProbabilityError(
            f"{where}: the probabilities sum to {math.fsum(weights):.12g}, expected 1"
        )


# ---- profiles that need no user


def uniform(frontier: Frontier) -> Float[np.ndarray, " slots"]:
    """The profile that chooses every action with equal probability."""
    return resolve(frontier, {decision.name: UNIFORM for decision in frontier.decisions})


def observation_starts(frontier: Frontier) -> np.ndarray:
    """Where every observation of every decision begins in a profile; one more entry ends it."""
    parts = [decision.starts[:-1] for decision in frontier.decisions]
    return np.concatenate([*parts, [frontier.n_slots]]).astype(np.int64)


def random_profile(
    frontier: Frontier, generator: np.random.Generator, *, pure: bool = False
) -> Float[np.ndarray, " slots"]:
    """A profile drawn at random: pure, or uniform on the simplex of every observation."""
    starts = observation_starts(frontier)
    sizes = np.diff(starts)
    profile = np.zeros(frontier.n_slots)
    if pure:
        profile[starts[:-1] + generator.integers(0, sizes)] = 1.0
        return profile
    weights = generator.exponential(size=frontier.n_slots)
    if not len(weights):
        return profile
    return weights / np.repeat(np.add.reduceat(weights, starts[:-1]), sizes)


def tremble(
    frontier: Frontier, profile: Float[np.ndarray, " slots"], share: float
) -> Float[np.ndarray, " slots"]:
    """The profile in which every player plays uniformly with probability `share`."""
    return (1 - share) * profile + share * uniform(frontier)


def describe(frontier: Frontier, profile: Float[np.ndarray, " slots"]) -> dict[str, Any]:
    """A vector as {decision: move}: an action or mixture, by observation unless always the same."""
    found: dict[str, Any] = {}
    for decision in frontier.decisions:
        moves = []
        for number in range(len(decision.observations)):
            begin, end = int(decision.starts[number]), int(decision.starts[number + 1])
            moves.append(move_of(decision.actions[number], profile[begin:end]))
        if moves and all(move == moves[0] for move in moves):
            found[decision.name] = moves[0]
        else:
            found[decision.name] = {
                (observation[0] if len(observation) == 1 else observation): move
                for observation, move in zip(decision.observations, moves, strict=True)
            }
    return found


def move_of(actions: tuple[Any, ...], weights: np.ndarray) -> Any:
    """The action that is surely taken, else {action: probability}."""
    taken = [
        (action, float(weight)) for action, weight in zip(actions, weights, strict=True) if weight
    ]
    if len(taken) == 1:
        return taken[0][0]
    return dict(taken)


# ---- files


def to_json(frontier: Frontier, profile: Float[np.ndarray, " slots"]) -> dict[str, Any]:
    """{decision: {observation: {action: probability}}} with text keys, as files have it."""
    found: dict[str, Any] = {}
    for decision in frontier.decisions:
        moves: dict[str, dict[str, float]] = {}
        for number, observation in enumerate(decision.observations):
            begin, end = int(decision.starts[number]), int(decision.starts[number + 1])
            moves[key_text(observation[0] if len(observation) == 1 else observation)] = {
                key_text(action): float(weight)
                for action, weight in zip(decision.actions[number], profile[begin:end], strict=True)
                if weight
            }
        found[decision.name] = moves
    return found


def read_strategies(path: Path) -> dict[str, Strategy]:
    """A strategy file: {decision: action, mixture, or either by observation}, in JSON.

    Raises InputError that names the file, and the line where the JSON breaks or the key that is
    there twice.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise InputError(f"{path}: the key {key!r} is there twice in one object")
            found[key] = value
        return found

    if path.is_dir():
        raise InputError(f"{path}: expected a file, found a folder")
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=once)
    except InputError:
        raise
    except RecursionError:
        raise InputError(f"{path}: not JSON that can be read (nested too deeply)") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text") from None
    except ValueError as error:
        line = getattr(error, "lineno", 1)
        raise InputError(
            f"{path}, line {line}: not JSON ({getattr(error, 'msg', error)})"
        ) from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected an object, one strategy a decision")
    if isinstance(content.get("strategies"), dict):
        content = content["strategies"]
    return {name: _listed(value) for name, value in content.items()}


def _listed(value: Any) -> Any:
    """JSON's lists are the tuples of a game."""
    if isinstance(value, list):
        return tuple(_listed(part) for part in value)
    if isinstance(value, dict):
        return {key: _listed(part) for key, part in value.items()}
    return value
