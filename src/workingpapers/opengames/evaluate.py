"""Evaluating a profile on a frontier: one pass forward, one back, and their NumPy references.

Expected payoffs are multilinear in the probabilities of a profile, so the derivative with respect
to the probability of an action is reach times the payoff of that action: one backward pass gives
the payoffs of all deviations of all decisions.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from workingpapers.opengames.compile import Frontier, Stage


@dataclass
class Values:
    """What a profile gives, with `points` the batched settings (1 if none)."""

    reach: Float[np.ndarray, "states points"]
    totals: Float[np.ndarray, "columns points"]
    """Expected payoff of each column."""
    weight: Float[np.ndarray, "states points"]
    """What states count within an observation: reach, or the belief asked for."""
    group_weight: Float[np.ndarray, "groups points"]
    numerator: Float[np.ndarray, "report_slots points"]
    """Weight times the player's expected payoff of each action, from its stage on."""


class Packed:
    """A frontier as flat arrays, with what the kernels need; made once a game."""

    def __init__(self, frontier: Frontier) -> None:
        self.frontier = frontier
        stages = frontier.stages
        n_states = [stage.n_states for stage in stages]
        # The last stage leads to end states, which are states too.
        ends = int(stages[-1].next.max()) + 1 if stages[-1].n_transitions else 1
        self.state_offset = np.concatenate([[0], np.cumsum([*n_states, ends])]).astype(np.int64)
        sizes = [stage.n_transitions for stage in stages]
        self.tr_offset = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self.start = np.concatenate(
            [stage.start + offset for stage, offset in zip(stages, self.tr_offset, strict=False)]
        )
        self.next = np.concatenate([stage.next for stage in stages]).astype(np.int64)
        self.probability = np.concatenate(
            [stage.probability if stage.decision < 0 else np.ones(stage.n_transitions)
             for stage in stages]
        )  # fmt: skip
        self.slot = np.concatenate(
            [np.full(stage.n_transitions, -1) if stage.decision < 0 else stage.slot
             for stage in stages]
        ).astype(np.int64)  # fmt: skip
        self.group = np.concatenate([stage.group for stage in stages]).astype(np.int64)
        self._groups()
        self._entries()
        self._work()

    @property
    def n_states(self) -> int:
        return int(self.state_offset[-1])

    # ---- report groups: an observation of one player at one decision

    def _groups(self) -> None:
        frontier = self.frontier
        names = {player: number for number, player in enumerate(frontier.players)}
        slots: list[int] = []
        sizes, players, decisions = [], [], []
        for number, decision in enumerate(frontier.decisions):
            for player, observation in zip(
                decision.group_players, decision.group_observations, strict=True
            ):
                first = int(decision.starts[observation])
                last = int(decision.starts[observation + 1])
                sizes.append(last - first)
                players.append(names[player])
                slots += range(first, last)
                decisions.append(number)
        self.group_start = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self.group_player = np.array(players, dtype=np.int64)
        self.group_decision = np.array(decisions, dtype=np.int64)
        # For each report slot, the slot of a profile.
        self.report_to_slot = np.array(slots, dtype=np.int64)
        self.actions_at = np.ones(frontier.n_slots)
        for decision in frontier.decisions:
            counts = np.diff(decision.starts)
            self.actions_at[decision.first_slot : int(decision.starts[-1])] = np.repeat(
                counts, counts
            )
        stage_of = np.repeat(np.arange(len(frontier.stages)), np.diff(self.state_offset)[:-1])
        counts = (
            self.start[np.arange(len(stage_of)) + stage_of + 1]
            - self.start[np.arange(len(stage_of)) + stage_of]
        )
        group_of = np.repeat(self.group, counts)
        begin = np.repeat(self.start[np.arange(len(stage_of)) + stage_of], counts)
        self.report_slot = np.full(len(self.next), -1, dtype=np.int64)
        decided = group_of >= 0
        self.report_slot[decided] = (
            self.group_start[group_of[decided]] + (np.arange(len(begin)) - begin)[decided]
        )
        self.owner = np.full(len(self.group), -1, dtype=np.int64)
        has = self.group >= 0
        self.owner[has] = self.group_player[self.group[has]]

    # ---- payoffs

    def _entries(self) -> None:
        offsets, columns, row_offsets, rows = [0], [], [], []
        at = 0
        for stage in self.frontier.stages:
            for entry in stage.pays:
                columns.append(entry.column)
                row_offsets.append(at)
                rows.append(entry.rows)
                at += len(entry.rows)
            offsets.append(len(columns))
        self.entry_offset = np.array(offsets, dtype=np.int64)
        self.entry_column = np.array(columns, dtype=np.int64)
        self.entry_rows_offset = np.array(row_offsets, dtype=np.int64)
        self.entry_rows = np.concatenate(rows).astype(np.int64) if rows else np.empty(0, np.int64)

    def _work(self) -> None:
        """Which payoff columns each stage of the backward pass carries.

        A column is carried only from the last stage that pays it back to the first decision of a
        player in it: what is paid before or without his decisions decides nothing.
        """
        frontier = self.frontier
        n_stages = len(frontier.stages)
        first_decision = dict.fromkeys(frontier.players, n_stages)
        for decision in frontier.decisions:
            for player in decision.players:
                first_decision[player] = min(first_decision[player], decision.stage)
        first = [min(first_decision[player] for player in players) for players in frontier.columns]
        last = [-1] * len(frontier.columns)
        entries: list[dict[int, list[int]]] = [{} for _ in range(n_stages)]
        number = 0
        for at, stage in enumerate(frontier.stages):
            for entry in stage.pays:
                last[entry.column] = at
                entries[at].setdefault(entry.column, []).append(number)
                number += 1
        # Column c is carried into stage t for first < t <= last.
        carried: list[list[int]] = [[] for _ in range(n_stages + 1)]
        for column, (low, high) in enumerate(zip(first, last, strict=True)):
            for at in range(low + 1, high + 1):
                carried[at].append(column)
        place = [{column: k for k, column in enumerate(part)} for part in carried]
        self.width = np.array([max(len(part), 0) for part in carried], dtype=np.int64)
        columns, follow, out = [], [], []
        offsets, ranges, of = [0], [0], []
        idle, idle_offsets = [], [0]
        for at in range(n_stages):
            for column, numbers in entries[at].items():
                if first[column] > at:
                    idle += numbers
            idle_offsets.append(len(idle))
            used = dict.fromkeys([*carried[at + 1], *(c for c in entries[at] if first[c] <= at)])
            for column in used:
                columns.append(column)
                follow.append(place[at + 1].get(column, -1))
                out.append(place[at].get(column, -1))
                of += entries[at].get(column, [])
                ranges.append(len(of))
            offsets.append(len(columns))
        self.idle = np.array(idle, dtype=np.int64)
        self.idle_offset = np.array(idle_offsets, dtype=np.int64)
        self.work_offset = np.array(offsets, dtype=np.int64)
        self.work_column = np.array(columns, dtype=np.int64)
        self.work_next = np.array(follow, dtype=np.int64)
        self.work_out = np.array(out, dtype=np.int64)
        self.entry_range = np.array(ranges, dtype=np.int64)
        self.entry_of = np.array(of, dtype=np.int64)
        member = np.zeros((len(frontier.columns), max(len(frontier.players), 1)), dtype=np.bool_)
        names = {player: place for place, player in enumerate(frontier.players)}
        for column, players in enumerate(frontier.columns):
            for player in players:
                member[column, names[player]] = True
        self.member = member
        self.work_own = member[self.work_column] if columns else np.zeros((0, 1), np.bool_)
        self.buffer = max(
            int(self.width[at]) * int(self.state_offset[at + 1] - self.state_offset[at])
            for at in range(n_stages + 1)
        )

    @cached_property
    def first_decision(self) -> Int[np.ndarray, " players"]:
        """For each player, the stage of his first decision; the number of stages if none."""
        stages = np.full(len(self.frontier.players), len(self.frontier.stages))
        for group, player in enumerate(self.group_player):
            stage = self.frontier.decisions[self.group_decision[group]].stage
            stages[player] = min(stages[player], stage)
        return stages

    # ---- evaluating

    def evaluate(
        self,
        profile: Float[np.ndarray, "slots #points"],
        table: Float[np.ndarray, "rows #points"] | None = None,
        weight: Float[np.ndarray, " states"] | None = None,
    ) -> Values:
        """Reach, payoffs and deviation payoffs of a profile: one pass forward and one back.

        `table` replaces the payoffs; `weight` replaces reach as what states count within an
        observation.
        """
        from workingpapers.opengames import kernels

        table = self.frontier.table if table is None else table
        points = max(profile.shape[1], table.shape[1])
        pi_step, table_step = int(profile.shape[1] > 1), int(table.shape[1] > 1)
        if not len(table):
            table = np.zeros((1, 1))
            table_step = 0
        if not len(profile):
            profile = np.zeros((1, 1))
            pi_step = 0
        profile = np.ascontiguousarray(profile)
        reach = np.zeros((self.n_states, points))
        totals = np.zeros((len(self.frontier.columns), points))
        kernels.forward(
            self.state_offset, self.tr_offset, self.start, self.next, self.probability, self.slot,
            profile, pi_step, self.idle_offset, self.idle, self.entry_column,
            self.entry_rows_offset, self.entry_rows, table, table_step, reach, totals,
        )  # fmt: skip
        weights = reach if weight is None else np.ascontiguousarray(weight[:, None])
        numerator = np.zeros((int(self.group_start[-1]), points))
        shape = (max(self.buffer, 1), points)
        fixed = (
            self.state_offset, self.tr_offset, self.start, self.next, self.probability, self.slot,
            self.report_slot, self.owner,
        )  # fmt: skip
        columns = (
            self.work_offset, self.work_column, self.work_next, self.work_out, self.work_own,
            self.width, self.entry_range, self.entry_of, self.entry_rows_offset, self.entry_rows,
        )  # fmt: skip
        if points == 1:
            kernels.backward_single(
                *fixed, profile.ravel(), *columns, np.ascontiguousarray(table).ravel(),
                reach.ravel(), weights.ravel(), np.zeros(shape[0]), np.zeros(shape[0]),
                numerator.ravel(), totals.ravel(),
            )  # fmt: skip
        else:
            kernels.backward(
                *fixed, profile, pi_step, *columns, table, table_step, reach, weights,
                int(weights.shape[1] > 1), np.zeros(shape), np.zeros(shape), numerator, totals,
            )  # fmt: skip
        return Values(reach, totals, weights, self._group_sums(weights), numerator)

    def _group_sums(self, weights: np.ndarray) -> np.ndarray:
        sums = np.zeros((self.frontier.n_groups, weights.shape[1]))
        playing = np.flatnonzero(self.group >= 0)
        if weights.shape[1] == 1 and len(playing):
            counted = np.bincount(
                self.group[playing], weights[playing, 0], minlength=self.frontier.n_groups
            )
            return counted[:, None]
        np.add.at(sums, self.group[playing], weights[playing])
        return sums

    def payoffs(self, values: Values) -> Float[np.ndarray, "players points"]:
        """Each player's expected payoff."""
        return self.member.T.astype(float)[: len(self.frontier.players)] @ values.totals

    def action_values(self, values: Values) -> Float[np.ndarray, "report_slots points"]:
        """Expected payoff of each action from its stage on; NaN where it is unreached."""
        sizes = np.diff(self.group_start)
        below = np.repeat(values.group_weight, sizes, axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(below > 0, values.numerator / below, np.nan)

    def gains(
        self, profile: Float[np.ndarray, "slots #points"], values: Values
    ) -> tuple[Float[np.ndarray, "groups points"], Float[np.ndarray, "groups points"]]:
        """For each group, the payoff of what is played there and the best action's payoff."""
        shares = self.action_values(values)
        if not len(shares):
            empty = np.zeros((0, values.reach.shape[1]))
            return empty, empty
        played = profile[self.report_to_slot] * shares
        current = np.add.reduceat(played, self.group_start[:-1], axis=0)
        best = np.maximum.reduceat(shares, self.group_start[:-1], axis=0)
        return current, best

    def counterfactual_reach(
        self, player: int, profile: Float[np.ndarray, " slots"]
    ) -> Float[np.ndarray, " states"]:
        """Reach of each state where the player's own choices count as certain."""
        from workingpapers.opengames import kernels

        reach = np.zeros(self.n_states)
        reach[0] = 1.0
        kernels.counterfactual(
            self.state_offset, self.start, self.next, self.probability, self.slot,
            self.owner == player, profile if len(profile) else np.zeros(1), 0,
            len(self.frontier.stages), reach,
        )  # fmt: skip
        return reach

    def stage_values(
        self, profile: Float[np.ndarray, " slots"], player: int
    ) -> list[Float[np.ndarray, " transitions"]]:
        """For each stage, the player's expected payoff from there on of each transition."""
        frontier = self.frontier
        result: list[np.ndarray] = [np.empty(0)] * len(frontier.stages)
        value = np.zeros(int(self.state_offset[-1] - self.state_offset[-2]))
        for at in range(len(frontier.stages) - 1, -1, -1):
            stage = frontier.stages[at]
            worth = value[stage.next] + self.own_pay(stage, player)
            result[at] = worth
            value = np.add.reduceat(worth * chances(stage, profile), stage.start[:-1])
        return result

    def own_pay(self, stage: Stage, player: int) -> Float[np.ndarray, " transitions"]:
        """What the player is paid on each transition of a stage (first point)."""
        paid = np.zeros(stage.n_transitions)
        for entry in stage.pays:
            if self.member[entry.column, player]:
                paid += self.frontier.table[entry.rows, 0]
        return paid


def chances(
    stage: Stage, profile: Float[np.ndarray, " slots"]
) -> Float[np.ndarray, " transitions"]:
    """The probability of each transition of a stage under a profile."""
    if stage.decision < 0:
        return stage.probability
    if not len(profile):
        return np.ones(stage.n_transitions)
    return np.where(stage.slot >= 0, profile[stage.slot], 1.0)


def evaluate_reference(packed: Packed, profile: Float[np.ndarray, " slots"]) -> Values:
    """What `Packed.evaluate` computes, stage by stage in NumPy, for one point."""
    frontier = packed.frontier
    reach = np.zeros(packed.n_states)
    reach[0] = 1.0
    totals = np.zeros(len(frontier.columns))
    offset = packed.state_offset
    for at, stage in enumerate(frontier.stages):
        source = np.repeat(np.arange(stage.n_states), np.diff(stage.start))
        flow = reach[offset[at] : offset[at + 1]][source] * chances(stage, profile)
        np.add.at(reach, offset[at + 1] + stage.next, flow)
        for entry in stage.pays:
            totals[entry.column] += flow @ frontier.table[entry.rows, 0]
    numerator = np.zeros(int(packed.group_start[-1]))
    for player in range(len(frontier.players)):
        worth = packed.stage_values(profile, player)
        for at, stage in enumerate(frontier.stages):
            source = np.repeat(np.arange(stage.n_states), np.diff(stage.start)) + offset[at]
            report = packed.report_slot[packed.tr_offset[at] : packed.tr_offset[at + 1]]
            own = (report >= 0) & (packed.owner[source] == player)
            np.add.at(numerator, report[own], (reach[source] * worth[at])[own])
    weights = reach[:, None]
    return Values(
        weights, totals[:, None], weights, packed._group_sums(weights), numerator[:, None]
    )
