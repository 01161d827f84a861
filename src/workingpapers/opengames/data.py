"""Observed play: tables of choices, what they say of strategies, regret, and noise in choices."""

import csv
import io
import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from workingpapers.foundation.console import write_atomically
from workingpapers.foundation.errors import InputError
from workingpapers.foundation.tables import DataTable, column_text, listed, read_table, value_text
from workingpapers.opengames.compile import Decision
from workingpapers.opengames.equilibrium import Report
from workingpapers.opengames.games import Game
from workingpapers.opengames.spaces import matching, show
from workingpapers.opengames.strategy import Strategy, describe, unknown_name

COLUMNS = ("group", "round", "player", "decision", "observation", "action")
"""The columns of a table of observed play; `payoff` may follow."""
UNNAMED = ("let", "merge", "const", "<lambda>")
"""Labels of wires that their makers gave no name."""


@dataclass(frozen=True, eq=False)
class ObservedPlay:
    """Observed choices, one a row.

    Observations and actions are texts: JSON, or a word as it is. An observation is empty where
    nothing is seen, a JSON list where several wires are. `player` is whoever the data say: a
    player of the game or a person in his place.
    """

    group: tuple[str, ...]
    round: tuple[str, ...]
    player: tuple[str, ...]
    decision: tuple[str, ...]
    observation: tuple[str, ...]
    action: tuple[str, ...]
    payoff: Float[np.ndarray, " rows"] | None
    """NaN where a row has none; None where the table has no such column."""
    source: str

    def __len__(self) -> int:
        return len(self.decision)


def observed_play(path: str | Path | DataTable) -> ObservedPlay:
    """Read a long table, one row a choice, with the columns of COLUMNS and perhaps `payoff`.

    A CSV or Parquet file, or a table. InputError for a column that is not there, and for a row
    without a decision or an action.
    """
    table = read_table(path)
    texts = {name: [_clean(cell) for cell in column_text(table, name)] for name in COLUMNS}
    for name in ("decision", "action"):
        for row, cell in enumerate(texts[name], start=1):
            if not cell:
                raise InputError(f"{table.source}: row {row} has no {name}")
    payoff = None
    if "payoff" in table.names:
        payoff = _numbers(table, "payoff")
    columns = {name: tuple(cells) for name, cells in texts.items()}
    return ObservedPlay(**columns, payoff=payoff, source=table.source)


def write_play(play: ObservedPlay, path: str | Path) -> None:
    """Write observed play as the long CSV file that `observed_play` reads."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*COLUMNS, *(["payoff"] if play.payoff is not None else [])])
    columns: list[Sequence[Any]] = [getattr(play, name) for name in COLUMNS]
    if play.payoff is not None:
        columns.append(["" if math.isnan(one) else repr(one) for one in play.payoff.tolist()])
    writer.writerows(zip(*columns, strict=True))
    write_atomically(Path(path), text.getvalue())


def _clean(cell: str | None) -> str:
    return "" if cell is None else str(cell).strip()


def _numbers(table: DataTable, name: str) -> Float[np.ndarray, " rows"]:
    if table.kind(name) != "numeric":
        raise InputError(f"{table.source}: column {name!r}: expected numbers")
    return table.column(name)


# ---- from choices to a profile


def counts(game: Game, play: ObservedPlay) -> Int[np.ndarray, " slots"]:
    """How often each action was taken, by decision and observation, as a profile is laid out.

    InputError names the row whose decision, observation or action the game does not have, or whose
    player is one of the game's who does not take the decision.
    """
    return np.bincount(_slots(game, play), minlength=game.frontier.n_slots)


def _slots(game: Game, play: ObservedPlay) -> Int[np.ndarray, " rows"]:
    """For each row, the slot of a profile that stands for what was chosen."""
    decisions = {decision.name: decision for decision in game.frontier.decisions}
    known: dict[tuple[str, str, str], int] = {}
    slots = []
    choices = zip(play.player, play.decision, play.observation, play.action, strict=True)
    for row, (player, name, observation, action) in enumerate(choices, start=1):
        key = (name, observation, action)
        where = f"{play.source}: row {row}"
        if name not in decisions:
            raise InputError(f"{where}: {unknown_name('decision', name, list(decisions))}")
        # Other names are of persons, who may be in anybody's place.
        if player in game.frontier.players and player not in decisions[name].players:
            raise InputError(f"{where}: player {player} does not decide {name}")
        if key not in known:
            known[key] = _slot(decisions[name], observation, action, where)
        slots.append(known[key])
    return np.array(slots, dtype=np.int64)


def _slot(decision: Decision, observation: str, action: str, where: str) -> int:
    seen = [one[0] if len(one) == 1 else one for one in decision.observations]
    if observation or () not in decision.observations:
        at = _place(observation, seen, f"{where}: observation of {decision.name}")
    else:
        at = decision.observations.index(())
    actions = decision.actions[at]
    return int(decision.starts[at]) + _place(action, actions, f"{where}: action of {decision.name}")


def _place(text: str, values: Sequence[Any], where: str) -> int:
    try:
        found = matching(text, values)
    except KeyError:
        shown = [show(value) for value in values]
        near = get_close_matches(text, shown, n=3) or shown[:6]
        raise InputError(
            f"{where}: {text or 'nothing'} is not in the game; there are {'; '.join(near)}"
        ) from None
    # The very value, since 1 and True are equal to Python.
    return next(at for at, value in enumerate(values) if value is found)


def smoothed(
    game: Game, counted: Int[np.ndarray, " slots"], prior: float
) -> Float[np.ndarray, " slots"]:
    """Counts as probabilities, with `prior` added to each action's count.

    This is the mean under a symmetric Dirichlet prior. With prior 0, what was never observed is
    played uniformly.
    """
    if not (prior >= 0 and math.isfinite(prior)):
        raise InputError(f"prior {prior}: expected a finite number, at least 0")
    profile = counted + float(prior)
    for decision in game.frontier.decisions:
        for begin, end in zip(decision.starts[:-1], decision.starts[1:], strict=True):
            total = profile[begin:end].sum()
            profile[begin:end] = profile[begin:end] / total if total else 1 / (end - begin)
    return profile


def unobserved(game: Game, counted: Int[np.ndarray, " slots"]) -> list[str]:
    """Where no choice was observed: each decision with what is seen there, such as bid1 at v1=2."""
    found = []
    for decision in game.frontier.decisions:
        ends = itertools.pairwise(decision.starts.tolist())
        for observation, (begin, end) in zip(decision.observations, ends, strict=True):
            if counted[begin:end].any():
                continue
            seen = ", ".join(
                show(value) if label in UNNAMED else f"{label}={show(value)}"
                for label, value in zip(decision.labels, observation, strict=True)
            )
            found.append(f"{decision.name} at {seen}" if seen else decision.name)
    return found


def empirical_strategies(game: Game, play: ObservedPlay, prior: float = 1.0) -> dict[str, Strategy]:
    """The strategies that the choices show, each action's count raised by `prior`.

    With prior 0 they are the observed frequencies, uniform where nothing was observed.
    """
    return describe(game.frontier, smoothed(game, counts(game, play), prior))


@dataclass(frozen=True, eq=False)
class RegretOfPlay:
    """What observed choices forwent, against the others as they were observed."""

    report: Report
    """The check of the empirical strategies, in agent form."""
    rows: Float[np.ndarray, " rows"]
    """For each observed choice, the best action's expected payoff less the chosen action's."""
    by_decision: dict[str, float]
    """The mean over a decision's rows."""

    @property
    def mean(self) -> float:
        return float(self.rows.mean())


def regret_of_play(game: Game, play: ObservedPlay, prior: float = 1.0) -> RegretOfPlay:
    """How much better each observed choice could have been, given how everybody was seen to play.

    Payoffs of actions are expectations under the empirical strategies. With prior 0 an
    observation may be one that these strategies never lead to: such rows are NaN.
    """
    slots = _slots(game, play)
    profile = smoothed(game, np.bincount(slots, minlength=game.frontier.n_slots), prior)
    worth = _action_values(game, profile)
    best = np.empty_like(worth)
    for decision in game.frontier.decisions:
        for begin, end in zip(decision.starts[:-1], decision.starts[1:], strict=True):
            best[begin:end] = worth[begin:end].max()
    rows = (best - worth)[slots]
    names = np.array(play.decision)
    by_decision = {name: float(rows[names == name].mean()) for name in dict.fromkeys(play.decision)}
    return RegretOfPlay(game.check(profile, engine="frontier"), rows, by_decision)


def _action_values(game: Game, profile: Float[np.ndarray, " slots"]) -> Float[np.ndarray, " slots"]:
    """Expected payoff of each action for whoever decides there; NaN where nobody comes."""
    packed = game.packed
    values = packed.evaluate(profile[:, None])
    n_slots = game.frontier.n_slots
    weight = np.repeat(values.group_weight[:, 0], np.diff(packed.group_start))
    total = np.bincount(packed.report_to_slot, values.numerator[:, 0], n_slots)
    below = np.bincount(packed.report_to_slot, weight, n_slots)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(below > 0, total / below, np.nan)


# ---- noise


@dataclass(frozen=True, eq=False)
class LogitFit:
    """Agent quantal response fitted to choices."""

    precision: float
    """The most likely lambda, per unit of payoff: 0 is chance, infinity is best response."""
    log_likelihood: float
    uniform_log_likelihood: float
    """Of choices by chance alone."""
    choices: int
    profile: Float[np.ndarray, " slots"]
    """The quantal response equilibrium at this precision."""
    at_bound: bool
    """Whether the likelihood still rises at an end of the interval that was searched."""
    converged: bool
    """Whether the profile is a fixed point of quantal response within the solver's tolerance."""


def fit_logit(
    game: Game, play: ObservedPlay, bounds: tuple[float, float] = (1e-3, 1e3)
) -> LogitFit:
    """The precision of agent quantal response that makes the observed choices most likely.

    McKelvey and Palfrey (1998). The likelihood may have several peaks in the precision: a coarse
    logarithmic grid between the bounds comes first, Brent's search around its best point second.
    """
    low, high = bounds
    if not 0 < low < high < math.inf:
        raise InputError(f"bounds {bounds}: expected two finite numbers above 0 that rise")
    from scipy.optimize import minimize_scalar

    from workingpapers.opengames import solve

    counted = counts(game, play)
    taken = counted > 0

    def loss(log_precision: float) -> float:
        profile = solve.logit(game, precision=math.exp(log_precision))[0].profile
        # A probability that underflows must not end the search.
        return -float(counted[taken] @ np.log(np.maximum(profile[taken], 1e-300)))

    grid = np.linspace(math.log(low), math.log(high), 13)
    losses = [loss(float(point)) for point in grid]
    at = int(np.argmin(losses))
    around = (float(grid[max(at - 1, 0)]), float(grid[min(at + 1, len(grid) - 1)]))
    result = minimize_scalar(loss, bounds=around, method="bounded", options={"xatol": 1e-8})
    best, least = float(result.x), float(result.fun)
    if losses[at] < least:
        best, least = float(grid[at]), losses[at]
    precision = math.exp(best)
    response = solve.logit(game, precision=precision)
    chance = smoothed(game, np.zeros_like(counted), 0.0)
    return LogitFit(
        precision,
        -least,
        float(counted[taken] @ np.log(chance[taken])),
        int(counted.sum()),
        response[0].profile,
        bool(min(best - grid[0], grid[-1] - best) < 1e-6),
        response.converged,
    )


# ---- wide tables


def melt_wide(
    path: str | Path | DataTable, mapping: str | Path | Mapping[str, Any]
) -> ObservedPlay:
    """Observed play from a wide export, where a row is a person and a column one field.

    `mapping` is a JSON file or its content: {"group": column, "decisions": [{"decision": name in
    the game, "action": column, "observation": column or list of columns, "player": column,
    "payoff": column, "where": {column: value}}, ...]}. A column's name may contain {round}; every
    round that a column for the action is there for gives rows, and so does every person with an
    action. All but "decision" and "action" may be left out; the player is then called as the
    decision. "where" keeps the rows in which these columns have these values, as for roles.
    """
    table = read_table(path)
    source, content = _mapping(mapping)
    entries = content.get("decisions")
    if not isinstance(entries, list) or not entries:
        raise InputError(f"{source}: decisions: expected a list of objects")
    _known_fields(content, ("group", "decisions"), source)
    rows: list[dict[str, str]] = []
    payoffs: list[float] = []
    for number, entry in enumerate(entries):
        where = f"{source}: decisions[{number}]"
        for row, payoff in _melted(table, entry, content.get("group"), where):
            rows.append(row)
            payoffs.append(payoff)
    if not rows:
        raise InputError(f"{table.source}: no row has an action in the columns of {source}")
    columns = {name: tuple(row[name] for row in rows) for name in COLUMNS}
    paid = any("payoff" in entry for entry in entries)
    return ObservedPlay(**columns, payoff=np.array(payoffs) if paid else None, source=table.source)


_FIELDS = ("decision", "action", "observation", "player", "payoff", "where")
_ROUND = "{round}"


def _mapping(mapping: str | Path | Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    if isinstance(mapping, Mapping):
        return "mapping", mapping
    from workingpapers.opengames.game_json import Fields, load_json

    return str(mapping), Fields(str(mapping), load_json(Path(mapping))).content


def _known_fields(content: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for name in content:
        if name not in known:
            near = get_close_matches(name, known) or known
            raise InputError(f"{where}: no field {name!r} is known; there are {listed(near)}")


def _melted(
    table: DataTable, entry: Any, group: str | None, where: str
) -> Iterator[tuple[dict[str, str], float]]:
    """(row, payoff) of one decision, round by round."""
    if not isinstance(entry, Mapping):
        raise InputError(f"{where}: expected an object")
    _known_fields(entry, _FIELDS, where)
    for name in ("decision", "action"):
        if not isinstance(entry.get(name), str):
            raise InputError(f"{where}: {name}: expected text")
    seen = entry.get("observation", [])
    observed = [seen] if isinstance(seen, str) else seen
    roles = entry.get("where", {})
    if not isinstance(observed, list) or not isinstance(roles, Mapping):
        raise InputError(f"{where}: expected observation as text or a list, where as an object")
    for turn in _rounds(table, entry["action"], where):

        def cells(pattern: str, turn: str = turn) -> list[str]:
            return [_clean(cell) for cell in column_text(table, pattern.replace(_ROUND, turn))]

        action = cells(entry["action"])
        keeps = [(cells(column), value_text(value)) for column, value in roles.items()]
        views = [cells(column) for column in observed]
        players = cells(entry["player"]) if "player" in entry else None
        groups = cells(group) if group is not None else None
        payoff = None
        if "payoff" in entry:
            payoff = _numbers(table, entry["payoff"].replace(_ROUND, turn))
        for at in range(table.n_rows):
            if not action[at] or any(column[at] != wanted for column, wanted in keeps):
                continue
            row = {
                "group": groups[at] if groups is not None else "",
                "round": turn,
                "player": players[at] if players is not None else entry["decision"],
                "decision": entry["decision"],
                "observation": _joined([view[at] for view in views]),
                "action": action[at],
            }
            yield row, math.nan if payoff is None else float(payoff[at])


def _rounds(table: DataTable, pattern: str, where: str) -> list[str]:
    """What {round} stands for in the table's columns, numbers in their order."""
    if _ROUND not in pattern:
        table.column(pattern)
        return [""]
    before, _, after = pattern.partition(_ROUND)
    shape = re.compile(f"{re.escape(before)}(\\d+){re.escape(after)}")
    found = [match[1] for name in table.names if (match := shape.fullmatch(name))]
    if not found:
        raise InputError(
            f"{where}: action: no column of {table.source} is like {pattern}; it has "
            f"{listed(table.names)}"
        )
    return sorted(found, key=int)


def _joined(cells: Sequence[str]) -> str:
    """What is seen as one text: empty, a word or number as it is, or a JSON list."""
    if len(cells) < 2:
        return "".join(cells)
    return json.dumps([_json_or_text(cell) for cell in cells], ensure_ascii=False)


def _json_or_text(cell: str) -> Any:
    try:
        return json.loads(cell)
    except ValueError:
        return cell
