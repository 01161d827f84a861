"""Compiled games in JSON: data that is checked field by field, and never run."""

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from workingpapers.foundation.console import write_atomically
from workingpapers.foundation.errors import InputError
from workingpapers.opengames.compile import Decision, Frontier, PayEntry, Stage
from workingpapers.opengames.gambit_text import read_text
from workingpapers.opengames.games import Game
from workingpapers.opengames.spaces import ABSENT, from_json, to_json

SCHEMA = 1
"""The number of the form that is written here."""

_TOLERANCE = 1e-9


def write_json(game: Game, path: str | Path) -> None:
    """Write the compiled game, complete, as data: nothing in it is ever run.

    InputError for values that have no JSON form (see spaces.to_json).
    """
    frontier = game.frontier
    content = {
        "schema": SCHEMA,
        "title": game.title,
        "players": list(frontier.players),
        "columns": [list(players) for players in frontier.columns],
        "values": [_json_value(game, value) for value in frontier.values],
        "decisions": [
            {
                "name": decision.name,
                "eps": decision.eps,
                "sees": list(decision.labels),
                "observations": [_json_value(game, one) for one in decision.observations],
                "actions": [_json_value(game, one) for one in decision.actions],
                "groups": [
                    {"player": player, "observation": at}
                    for player, at in zip(
                        decision.group_players, decision.group_observations, strict=True
                    )
                ],
            }
            for decision in frontier.decisions
        ],
        "stages": [
            {
                "label": stage.label,
                "decision": stage.decision,
                "start": stage.start.tolist(),
                "next": stage.next.tolist(),
                "outcome": stage.outcome.tolist(),
                "probability": stage.probability.tolist(),
                "slot": stage.slot.tolist(),
                "group": stage.group.tolist(),
                "pays": [
                    {"column": entry.column, "rows": entry.rows.tolist()} for entry in stage.pays
                ],
                "live": list(stage.live),
                "widths": list(stage.widths),
                "states": stage.states.tolist(),
            }
            for stage in frontier.stages
        ],
        "table": frontier.table.tolist(),
        "warnings": list(frontier.warnings),
    }
    lines = [
        f" {json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}"
        for name, value in content.items()
    ]
    write_atomically(Path(path), "{\n" + ",\n".join(lines) + "\n}\n")


def _json_value(game: Game, value: Any) -> Any:
    if isinstance(value, float) and math.isinf(value):
        raise InputError(f"{game.title}: the value {value} has no JSON form")
    return to_json(value)


def read_json(path: str | Path) -> Game:
    """The game of a file that `write_json` wrote; it has no trace, only its compiled form.

    Everything is checked; InputError names the field, and the line where the JSON breaks.
    """
    content = load_json(Path(path))
    return Game(frontier=FrontierReader(Fields(str(path), content)).frontier())


def load_json(path: Path) -> Any:
    """A JSON file's content; InputError that names file and line where it breaks."""
    text = read_text(path)

    def refuse(constant: str) -> NoReturn:
        raise InputError(f"{path}: {constant} is not JSON; expected a finite number")

    try:
        return json.loads(text, parse_constant=refuse)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno}: not JSON ({error.msg})") from None
    except RecursionError:
        raise InputError(f"{path}: not JSON that can be read (nested too deeply)") from None


class Fields:
    """An object of a file, read field by field; every error names the file and the field."""

    def __init__(self, where: str, content: Any, place: str = "") -> None:
        self.where = where
        self.place = place
        if not isinstance(content, dict):
            raise InputError(f"{where}: {place or 'the file'}: expected an object")
        self.content = content

    def fail(self, name: str, message: str) -> NoReturn:
        raise InputError(f"{self.where}: {self._named(name)}: {message}")

    def _named(self, name: str) -> str:
        return f"{self.place}.{name}" if self.place else name

    def get(self, name: str, kinds: type | tuple[type, ...], what: str) -> Any:
        if name not in self.content:
            self.fail(name, f"is missing; expected {what}")
        value = self.content[name]
        if not isinstance(value, kinds) or isinstance(value, bool):
            self.fail(name, f"expected {what}, found {_short(value)}")
        return value

    def text(self, name: str) -> str:
        return str(self.get(name, str, "text"))

    def whole(self, name: str, low: int, high: int) -> int:
        found = self.integers(name, low, high, value=[self.get(name, int, "a whole number")])
        return int(found[0])

    def texts(self, name: str) -> list[str]:
        values = self.get(name, list, "a list of texts")
        for at, value in enumerate(values):
            if not isinstance(value, str):
                self.fail(f"{name}[{at}]", f"expected text, found {_short(value)}")
        return list(values)

    def integers(
        self, name: str, low: int, high: int, size: int | None = None, value: Any = None
    ) -> np.ndarray:
        """Whole numbers from low to high, both included."""
        values = self.get(name, list, "a list of whole numbers") if value is None else value
        if not isinstance(values, list):
            self.fail(name, f"expected a list of whole numbers, found {_short(values)}")
        self.sized(name, values, size)
        for at, one in enumerate(values):
            if type(one) is not int or not low <= one <= high:
                place = name if value is not None else f"{name}[{at}]"
                self.fail(
                    place, f"expected a whole number from {low} to {high}, found {_short(one)}"
                )
        return np.array(values, dtype=np.int64)

    def numbers(self, name: str, size: int | None = None, value: Any = None) -> np.ndarray:
        values = self.get(name, list, "a list of numbers") if value is None else value
        if not isinstance(values, list):
            self.fail(name, f"expected a list of numbers, found {_short(values)}")
        self.sized(name, values, size)
        for at, one in enumerate(values):
            if type(one) not in (int, float) or not abs(one) <= sys.float_info.max:
                self.fail(f"{name}[{at}]", f"expected a number, found {_short(one)}")
        return np.array(values, dtype=np.float64)

    def sized(self, name: str, values: Sequence[Any], size: int | None) -> None:
        if size is not None and len(values) != size:
            self.fail(name, f"expected {size} entries, found {len(values)}")

    def objects(self, name: str) -> "list[Fields]":
        values = self.get(name, list, "a list of objects")
        return [
            Fields(self.where, value, f"{self._named(name)}[{at}]")
            for at, value in enumerate(values)
        ]

    def value(self, name: str, content: Any) -> Any:
        try:
            return from_json(content)
        except (InputError, ValueError, TypeError, ZeroDivisionError):
            self.fail(name, f"{_short(content)} is not the JSON form of a value")

    def tuples(self, name: str) -> list[tuple[Any, ...]]:
        """A list of different lists, as tuples."""
        found = []
        for at, content in enumerate(self.get(name, list, "a list of lists")):
            if not isinstance(content, list):
                self.fail(f"{name}[{at}]", f"expected a list, found {_short(content)}")
            found.append(self.value(f"{name}[{at}]", content))
        return found

    def distinct(self, name: str, values: Sequence[Any]) -> None:
        # True is 1 to Python, but not to a game.
        seen = [(type(value) is bool, value) for value in values]
        if len(set(seen)) < len(seen):
            self.fail(name, "the entries are not all different")


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:40]}..."


class FrontierReader:
    """Builds a frontier from its JSON form and checks that it is one."""

    def __init__(self, fields: Fields) -> None:
        self.fields = fields
        self.n_slots = self.n_groups = self.n_report_slots = 0

    def frontier(self) -> Frontier:
        fields = self.fields
        schema = fields.get("schema", int, f"the number {SCHEMA}")
        if schema != SCHEMA:
            fields.fail("schema", f"expected {SCHEMA}, found {schema}")
        self.players = fields.texts("players")
        fields.distinct("players", self.players)
        columns = fields.tuples("columns")
        for at, column in enumerate(columns):
            if not column:
                fields.fail(f"columns[{at}]", "expected at least one player")
            for player in column:
                self._known_player(fields, f"columns[{at}]", player)
            fields.distinct(f"columns[{at}]", column)
        values = [
            fields.value(f"values[{at}]", one)
            for at, one in enumerate(fields.get("values", list, "a list of values"))
        ]
        if not values or values[0] is not ABSENT:
            fields.fail("values[0]", 'expected {"absent": true}')
        fields.distinct("values", values)
        self.n_values, self.n_columns = len(values), len(columns)
        table = self._table()
        self.n_rows = len(table)
        decisions = [self._decision(one) for one in fields.objects("decisions")]
        fields.distinct("decisions", [decision.name for decision in decisions])
        objects = fields.objects("stages")
        if not objects:
            fields.fail("stages", "expected at least one")
        stages: list[Stage] = []
        n_states = 1
        for at, one in enumerate(objects):
            stages.append(self._stage(one, at, n_states, decisions))
            n_states = int(stages[-1].next.max()) + 1
        played = [stage.decision for stage in stages if stage.decision >= 0]
        if played != list(range(len(decisions))):
            fields.fail("stages", "expected one stage for each decision, in their order")
        return Frontier(
            fields.text("title"),
            values,
            tuple(self.players),
            columns,
            decisions,
            stages,
            table,
            self.n_slots,
            self.n_groups,
            self.n_report_slots,
            fields.texts("warnings"),
        )

    def _known_player(self, fields: Fields, name: str, player: Any) -> None:
        if player not in self.players:
            fields.fail(name, f"{_short(player)} is none of the players")

    def _table(self) -> np.ndarray:
        content = self.fields.get("table", list, "a list of rows")
        rows = [self.fields.numbers(f"table[{at}]", value=row) for at, row in enumerate(content)]
        for at, row in enumerate(rows):
            if not len(row) or len(row) != len(rows[0]):
                self.fields.fail(f"table[{at}]", f"expected {max(len(rows[0]), 1)} entries")
        return np.stack(rows) if rows else np.zeros((0, 1))

    def _decision(self, fields: Fields) -> Decision:
        eps = float(fields.get("eps", (int, float), "a number"))
        if not 0 <= eps <= sys.float_info.max:
            fields.fail("eps", f"expected at least 0, found {eps}")
        labels = tuple(fields.texts("sees"))
        observations = fields.tuples("observations")
        actions = fields.tuples("actions")
        fields.sized("actions", actions, len(observations))
        for at, (observation, offered) in enumerate(zip(observations, actions, strict=True)):
            fields.sized(f"observations[{at}]", observation, len(labels))
            if not offered:
                fields.fail(f"actions[{at}]", "expected at least one action")
            fields.distinct(f"actions[{at}]", offered)
        fields.distinct("observations", observations)
        players, seen = [], []
        for group in fields.objects("groups"):
            players.append(group.text("player"))
            self._known_player(group, "player", players[-1])
            seen.append(group.whole("observation", 0, len(observations) - 1))
        fields.distinct("groups", list(zip(players, seen, strict=True)))
        if set(seen) != set(range(len(observations))):
            fields.fail("groups", "expected a group for every observation")
        sizes = [len(offered) for offered in actions]
        starts = self.n_slots + np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        decision = Decision(
            fields.text("name"),
            eps,
            -1,
            self.n_slots,
            observations,
            actions,
            starts,
            players,
            seen,
            self.n_groups,
            self.n_report_slots,
            labels,
        )
        self.n_slots = int(starts[-1])
        self.n_groups += len(players)
        self.n_report_slots += sum(sizes[observation] for observation in seen)
        return decision

    def _stage(
        self, fields: Fields, number: int, n_states: int, decisions: Sequence[Decision]
    ) -> Stage:
        decision = fields.whole("decision", -1, len(decisions) - 1)
        largest = np.iinfo(np.int64).max
        start = fields.integers("start", 0, largest, n_states + 1)
        if start[0] != 0 or (np.diff(start) < 1).any():
            fields.fail("start", "expected numbers that begin with 0 and rise")
        size = int(start[-1])
        following = fields.integers("next", 0, max(size - 1, 0), size)
        reached = np.zeros(int(following.max()) + 1, dtype=bool)
        reached[following] = True
        if not reached.all():
            fields.fail("next", f"no transition leads to the state {int(np.argmin(reached))}")
        outcome = fields.integers("outcome", 0, self.n_values - 1, size)
        probability = fields.numbers("probability", size if decision < 0 else 0)
        group = fields.integers("group", -1, self.n_groups - 1, n_states)
        slot = fields.integers("slot", -1, self.n_slots - 1, 0 if decision < 0 else size)
        if decision < 0:
            self._check_nature(fields, start, probability, group)
        else:
            decisions[decision].stage = number
            self._check_slots(fields, decisions[decision], start, group, slot)
        live = tuple(fields.texts("live"))
        widths = fields.integers("widths", 0, self.n_values)
        if len(widths) not in (0, len(live)):
            fields.fail("widths", f"expected {len(live)} entries or none, found {len(widths)}")
        rows = fields.get("states", list, "a list of lists")
        fields.sized("states", rows, n_states)
        states = [
            fields.integers(f"states[{at}]", 0, self.n_values - 1, len(live), value=row)
            for at, row in enumerate(rows)
        ]
        return Stage(
            fields.text("label"),
            decision,
            start,
            following,
            outcome,
            probability,
            slot,
            group,
            [
                PayEntry(
                    entry.whole("column", 0, self.n_columns - 1),
                    entry.integers("rows", 0, self.n_rows - 1, size),
                )
                for entry in fields.objects("pays")
            ],
            live,
            tuple(widths.tolist()),
            np.stack(states),
        )

    def _check_nature(
        self, fields: Fields, start: np.ndarray, probability: np.ndarray, group: np.ndarray
    ) -> None:
        if (probability < 0).any():
            at = int(np.argmax(probability < 0))
            fields.fail(f"probability[{at}]", "is negative")
        totals = np.add.reduceat(probability, start[:-1])
        wrong = np.abs(totals - 1) > _TOLERANCE
        if wrong.any():
            at = int(np.argmax(wrong))
            fields.fail(
                "probability", f"those of the state {at} sum to {totals[at]:.12g}, expected 1"
            )
        if (group >= 0).any():
            fields.fail("group", "expected -1 everywhere, since nature draws")

    def _check_slots(
        self,
        fields: Fields,
        decision: Decision,
        start: np.ndarray,
        group: np.ndarray,
        slot: np.ndarray,
    ) -> None:
        """Each state's transitions are the actions of what is seen there, or one that is none."""
        for state, number in enumerate(group.tolist()):
            wanted = np.array([-1])
            if number >= 0:
                place = number - decision.first_group
                if not 0 <= place < len(decision.group_observations):
                    fields.fail(f"group[{state}]", f"{number} is no group of {decision.name}")
                at = decision.group_observations[place]
                wanted = np.arange(decision.starts[at], decision.starts[at + 1])
            found = slot[start[state] : start[state + 1]]
            if not np.array_equal(found, wanted):
                fields.fail(
                    "slot",
                    f"expected {', '.join(map(str, wanted))} for the state {state}, "
                    f"found {', '.join(map(str, found))}",
                )
