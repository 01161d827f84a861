"""Is a profile an equilibrium? Four notions, each labelled, with who would deviate and why.

agent    every decision separately, where it is reached: Bayes-Nash in agent form, the notion of
         open games (arXiv:1910.03656).
player   Nash: no player gains by changing all his decisions together; needs perfect recall.
perfect  every decision at every observation, with beliefs from vanishing uniform trembles: perfect
         and consistent, so a sequential equilibrium for these trembles.
pbe      weak perfect Bayesian: off the path some belief must make the prescribed action optimal.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from jaxtyping import Bool, Float

from workingpapers.foundation.errors import InputError
from workingpapers.opengames.compile import Decision
from workingpapers.opengames.evaluate import Packed, Values
from workingpapers.opengames.spaces import key_text, show, to_json
from workingpapers.opengames.strategy import move_of

if TYPE_CHECKING:
    from workingpapers.opengames.games import Game

Notion = Literal["agent", "player", "perfect", "pbe"]
NOTIONS: tuple[Notion, ...] = get_args(Notion)

TITLES: Mapping[Notion, str] = {
    "agent": "agent form: each decision by itself, where it is reached",
    "player": "Nash: each player's decisions together",
    "perfect": "perfect: everywhere, beliefs from vanishing uniform trembles",
    "pbe": "weak perfect Bayesian: off the path with some belief",
}


class ImperfectRecall(InputError):  # noqa: N818 - the term of the field  # noqa: N818
    """A player who forgets what he saw or did; the player form is not defined by best responses."""


@dataclass(frozen=True)
class Deviation:
    """What one player sees at one decision, and what he would get there by each action.

    Payoffs count from this decision on, given what is seen; what was paid before cannot change.
    """

    player: str
    decision: str
    observation: tuple[Any, ...]
    reach: float
    """Probability of being here."""
    belief: dict[str, float]
    """What is not seen, with its probability given what is."""
    current: dict[Any, float]
    """What is played here."""
    payoff: float
    best_action: Any
    best_payoff: float
    gain: float
    action_values: dict[Any, float]
    eps: float = 0.0
    sees: tuple[str, ...] = ()
    """What the seen wires are called."""

    def seen(self) -> str:
        if not self.observation:
            return "-"
        names = self.sees if len(self.sees) == len(self.observation) else ()
        named = [name not in ("let", "merge", "const", "<lambda>") for name in names]
        if names and all(named):
            return ", ".join(
                f"{name}={show(value)}" for name, value in zip(names, self.observation, strict=True)
            )
        return show(self.observation)

    def to_json(self) -> dict[str, Any]:
        return {
            "player": self.player,
            "decision": self.decision,
            "observation": to_json(self.observation),
            "reach": self.reach,
            "belief": self.belief,
            "current": {key_text(action): weight for action, weight in self.current.items()},
            "payoff": self.payoff,
            "best_action": to_json(self.best_action),
            "best_payoff": self.best_payoff,
            "gain": self.gain,
            "action_values": {
                key_text(action): worth for action, worth in self.action_values.items()
            },
        }


@dataclass(frozen=True)
class Report:
    """The answer to `check`: whether the profile is an equilibrium, and the numbers behind it."""

    notion: Notion
    ok: bool
    payoffs: dict[str, float]
    deviations: list[Deviation]
    """Profitable ones, the largest gain first."""
    decisions: list[Deviation]
    """Every decision and observation the notion looks at."""
    regret: dict[str, float]
    """What each player gains at most: by one decision, or in player form by all of them."""
    checked: int
    """How many decisions and observations were looked at."""
    engine: str = "frontier"
    warnings: tuple[str, ...] = ()
    game: "Game | None" = field(default=None, repr=False)
    strategies: Any = field(default=None, repr=False)

    def __bool__(self) -> bool:
        return self.ok

    @property
    def max_regret(self) -> float:
        return max(self.regret.values(), default=0.0)

    def headline(self) -> str:
        title = TITLES[self.notion]
        if self.ok:
            return f"An equilibrium ({title}). {self.checked} decisions looked at."
        if not self.deviations:
            player = max(self.regret, key=lambda name: self.regret[name])
            return (
                f"NOT an equilibrium ({title}). {player} gains {self.regret[player]:.6g} by "
                "changing several decisions together."
            )
        worst = self.deviations[0]
        many = len(self.deviations)
        return (
            f"NOT an equilibrium ({title}). {many} of {self.checked} decisions "
            f"{'has' if many == 1 else 'have'} a profitable deviation; largest gain "
            f"{worst.gain:.6g} ({worst.player})."
        )

    def explain(self, *, full: bool = False) -> str:
        """The report as text: the headline, who would deviate and why, and the payoffs."""
        lines = [self.headline()]
        shown = self.decisions if full else self.deviations
        if shown:
            rows = [("decision", "player", "sees", "plays", "gets", "better", "would get",
                     "gain", "reach")]  # fmt: skip
            rows += [
                (
                    one.decision,
                    one.player,
                    one.seen(),
                    _mixed(one.current),
                    f"{one.payoff:.6g}",
                    "-" if one.gain <= 0 else show(one.best_action),
                    f"{one.best_payoff:.6g}",
                    f"{max(one.gain, 0.0):.6g}",
                    f"{one.reach:.4g}",
                )
                for one in shown[:50]
            ]
            widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
            lines += [
                " "
                + "  ".join(
                    cell.ljust(width) for cell, width in zip(row, widths, strict=True)
                ).rstrip()
                for row in rows
            ]
            if len(shown) > 50:
                lines.append(f" ... and {len(shown) - 50} more")
        for one in self.deviations[:5]:
            if one.belief:
                believed = ", ".join(f"{state} {share:.3g}" for state, share in one.belief.items())
                lines.append(f" {one.decision} at {one.seen()} believes: {believed}")
            ranked = sorted(one.action_values.items(), key=lambda entry: -entry[1])
            values = ", ".join(f"{show(action)} {worth:.6g}" for action, worth in ranked[:4])
            lines.append(f" {one.decision} at {one.seen()} would get: {values}")
        lines.append("payoffs: " + ", ".join(f"{p} {v:.6g}" for p, v in self.payoffs.items()))
        lines += [f"note: {warning}" for warning in self.warnings]
        return "\n".join(lines)

    __str__ = explain

    def to_json(self) -> dict[str, Any]:
        return {
            "equilibrium": self.ok,
            "notion": self.notion,
            "engine": self.engine,
            "payoffs": self.payoffs,
            "regret": self.regret,
            "checked": self.checked,
            "deviations": [one.to_json() for one in self.deviations],
            "decisions": [one.to_json() for one in self.decisions],
            "warnings": list(self.warnings),
        }

    def to_html(self) -> str:
        """The report as one HTML fragment."""
        from html import escape

        rows = "".join(
            "<tr>"
            + "".join(
                f"<td>{escape(cell)}</td>"
                for cell in (
                    one.decision, one.player, one.seen(), _mixed(one.current),
                    f"{one.payoff:.6g}", show(one.best_action), f"{one.best_payoff:.6g}",
                    f"{max(one.gain, 0):.6g}", f"{one.reach:.4g}",
                )
            )
            + "</tr>"
            for one in self.decisions
        )  # fmt: skip
        heads = (
            "decision",
            "player",
            "sees",
            "plays",
            "gets",
            "best",
            "would get",
            "gain",
            "reach",
        )
        head = "".join(f"<th>{name}</th>" for name in heads)
        return f"<p>{escape(self.headline())}</p><table><tr>{head}</tr>{rows}</table>"


def _mixed(current: Mapping[Any, float]) -> str:
    if len(current) == 1:
        return show(next(iter(current)))
    return " ".join(f"{show(action)}:{weight:.3g}" for action, weight in current.items())


def rounding(table: Float[np.ndarray, "rows points"]) -> float:
    """What rounding may do to a gain, given the sizes of payoffs."""
    return 1e-14 * float(np.abs(table).max(initial=0.0))


def check(
    packed: Packed,
    profile: Float[np.ndarray, " slots"],
    *,
    notion: Notion = "agent",
    eps: float = 0.0,
    tol: float = 1e-9,
    beliefs: Float[np.ndarray, " slots"] | None = None,
    details: bool = True,
) -> Report:
    """Test a profile; `eps` is the gain that does not count, `tol` what rounding may do.

    `beliefs` is, for the perfect notion, a completely mixed profile whose small share gives the
    trembles. Raises ImperfectRecall in player form.
    """
    if notion not in NOTIONS:
        raise InputError(f"notion {notion!r}: expected {', '.join(NOTIONS)}")
    if notion == "player":
        return _check_players(packed, profile, eps, tol)
    weight = None
    if notion == "perfect":
        weight = _tremble_weights(packed, profile, beliefs)
    values = packed.evaluate(profile[:, None], weight=weight)
    current, best = packed.gains(profile[:, None], values)
    slack = np.array([decision.eps for decision in packed.frontier.decisions])
    allowed = eps + tol + rounding(packed.frontier.table) + slack[packed.group_decision]
    reached = values.group_weight[:, 0] > 0
    gain = np.where(reached, best[:, 0] - current[:, 0], 0.0)
    bad = gain > allowed
    looked = reached
    if notion == "pbe":
        least = _least_gains(packed, profile, ~reached)
        # The programme's solver is exact to about 1e-9 itself.
        bad = bad | (least > allowed + 1e-8)
        gain = np.where(reached, gain, least)
        looked = np.ones(len(reached), dtype=bool)
    entries = _deviations(packed, profile, values, notion, looked if details else bad)
    return _report(packed, values, notion, bad, gain, looked, entries, eps)


def _report(
    packed: Packed,
    values: Values,
    notion: Notion,
    bad: Bool[np.ndarray, " groups"],
    gain: Float[np.ndarray, " groups"],
    looked: Bool[np.ndarray, " groups"],
    entries: list[tuple[int, Deviation]],
    eps: float,
) -> Report:
    players = packed.frontier.players
    payoffs = packed.payoffs(values)[:, 0]
    regret = dict.fromkeys(players, 0.0)
    for group in np.flatnonzero(looked).tolist():
        name = players[packed.group_player[group]]
        regret[name] = max(regret[name], float(gain[group]))
    wrong = [one for group, one in entries if bad[group]]
    return Report(
        notion,
        not bad.any(),
        {player: float(value) for player, value in zip(players, payoffs, strict=True)},
        sorted(wrong, key=lambda one: -one.gain),
        [one for _, one in entries],
        regret,
        int(looked.sum()),
        warnings=tuple(packed.frontier.warnings),
    )


def _deviations(
    packed: Packed,
    profile: Float[np.ndarray, " slots"],
    values: Values,
    notion: Notion,
    wanted: Bool[np.ndarray, " groups"],
) -> list[tuple[int, Deviation]]:
    shares = packed.action_values(values)[:, 0]
    frontier = packed.frontier
    found = []
    beliefs = _belief_finder(packed, values)
    playing = np.flatnonzero(packed.group >= 0)
    reach = np.bincount(
        packed.group[playing], values.reach[playing, 0], minlength=frontier.n_groups
    )
    for group in np.flatnonzero(wanted).tolist():
        decision = frontier.decisions[packed.group_decision[group]]
        number = decision.group_observations[group - decision.first_group]
        actions = decision.actions[number]
        begin, end = int(packed.group_start[group]), int(packed.group_start[group + 1])
        slots = packed.report_to_slot[begin:end]
        own = shares[begin:end]
        if np.isnan(own).any():
            own = _believed_values(packed, profile, group)
        at = int(np.argmax(own))
        played = profile[slots]
        payoff = float(played @ own)
        move = move_of(actions, played)
        found.append(
            (
                group,
                Deviation(
                    decision.group_players[group - decision.first_group],
                    decision.name,
                    decision.observations[number],
                    float(reach[group]),
                    beliefs(decision, group),
                    move if isinstance(move, dict) else {move: 1.0},
                    payoff,
                    actions[at],
                    float(own[at]),
                    float(own[at]) - payoff,
                    {action: float(worth) for action, worth in zip(actions, own, strict=True)},
                    decision.eps,
                    decision.labels,
                ),
            )
        )
    return found


def _belief_finder(packed: Packed, values: Values) -> Any:
    """A function that says what is not seen at a group, by wires that are live and not seen."""
    frontier = packed.frontier
    by_group = np.argsort(packed.group, kind="stable")
    sorted_groups = packed.group[by_group]
    hidden: dict[int, list[int]] = {}

    def find(decision: Decision, group: int) -> dict[str, float]:
        stage = frontier.stages[decision.stage]
        low, high = np.searchsorted(sorted_groups, [group, group + 1])
        states = by_group[low:high]
        weights = values.weight[states, 0]
        if weights.sum() <= 0 or len(states) > 1000:
            return {}
        local = states - packed.state_offset[decision.stage]
        if decision.stage not in hidden:
            hidden[decision.stage] = [
                at
                for at, label in enumerate(stage.live)
                if label not in decision.labels and len(np.unique(stage.states[:, at])) > 1
            ]
        unseen = hidden[decision.stage]
        if not unseen:
            return {}
        total: dict[str, float] = {}
        for state, weight in zip(local, weights / weights.sum(), strict=True):
            if weight > 0:
                name = ", ".join(
                    f"{stage.live[at]}={show(frontier.values[stage.states[state, at]])}"
                    for at in unseen
                )
                total[name] = total.get(name, 0.0) + float(weight)
        return dict(sorted(total.items(), key=lambda entry: -entry[1])[:8])

    return find


# ---- off the path


def _tremble_weights(
    packed: Packed,
    profile: Float[np.ndarray, " slots"],
    beliefs: Float[np.ndarray, " slots"] | None,
) -> Float[np.ndarray, " states"]:
    """Weights of states within each observation: the least order of smallness only."""
    from workingpapers.opengames import kernels

    if beliefs is not None and not (beliefs > 0).all():
        raise InputError("beliefs: expected a positive probability of every action")
    order = np.zeros(packed.n_states, dtype=np.int64)
    exponent = np.zeros(packed.n_states, dtype=np.int32)
    weight = np.zeros(packed.n_states)
    # With trembles of one's own, a choice of probability zero is made in their proportion.
    at = packed.actions_at if beliefs is None else 1 / beliefs
    kernels.lexicographic(
        packed.state_offset, packed.start, packed.next, packed.probability, packed.slot,
        at if len(at) else np.ones(1), profile if len(profile) else np.zeros(1), order, weight,
        exponent,
    )  # fmt: skip
    states = np.flatnonzero(packed.group >= 0)
    group = packed.group[states]
    least = np.full(packed.frontier.n_groups, np.iinfo(np.int64).max)
    np.minimum.at(least, group, order[states])
    states = states[order[states] == least[group]]
    group = packed.group[states]
    # Only proportions within a group matter: each is scaled to what floats hold.
    most = np.full(packed.frontier.n_groups, np.iinfo(np.int32).min, dtype=np.int32)
    np.maximum.at(most, group, exponent[states])
    kept = np.zeros(packed.n_states)
    kept[states] = np.ldexp(weight[states], exponent[states] - most[group])
    return kept


def _state_values(
    packed: Packed, profile: Float[np.ndarray, " slots"], group: int
) -> tuple[Float[np.ndarray, "states actions"], Float[np.ndarray, " actions"]]:
    """The player's payoff of each action in each state of a group, and what is played."""
    cache: dict[Any, Any] = packed.__dict__.setdefault("_stage_values", {})
    player = int(packed.group_player[group])
    key = profile.tobytes()
    if cache.get("key") != key:
        cache.clear()
        cache["key"] = key
    if player not in cache:
        cache[player] = packed.stage_values(profile, player)
    decision = packed.frontier.decisions[packed.group_decision[group]]
    stage = packed.frontier.stages[decision.stage]
    local = np.flatnonzero(stage.group == group)
    size = int(packed.group_start[group + 1] - packed.group_start[group])
    rows = stage.start[local][:, None] + np.arange(size)
    begin = int(packed.group_start[group])
    return cache[player][decision.stage][rows], profile[packed.report_to_slot[begin : begin + size]]


def _believed_values(
    packed: Packed, profile: Float[np.ndarray, " slots"], group: int
) -> Float[np.ndarray, " actions"]:
    """Values of the actions of an unreached group under the belief that supports it best."""
    worth, played = _state_values(packed, profile, group)
    belief, _ = _supporting_belief(worth, played)
    return belief @ worth


def _supporting_belief(
    worth: Float[np.ndarray, "states actions"], played: Float[np.ndarray, " actions"]
) -> tuple[Float[np.ndarray, " states"], float]:
    """The belief under which the best deviation gains least, and that gain (a linear programme)."""
    gains = worth - (worth @ played)[:, None]
    each = gains.max(axis=1)
    at = int(np.argmin(each))
    alone = np.zeros(len(worth))
    alone[at] = 1.0
    if each[at] <= 0 or len(worth) == 1:
        return alone, float(each[at])
    from scipy.optimize import linprog

    # Least z with mu @ gains[:, y] <= z for every action y.
    n_states, n_actions = gains.shape
    result = linprog(
        np.append(np.zeros(n_states), 1.0),
        A_ub=np.hstack([gains.T, -np.ones((n_actions, 1))]),
        b_ub=np.zeros(n_actions),
        A_eq=np.append(np.ones(n_states), 0.0)[None],
        b_eq=[1.0],
        bounds=[(0, None)] * n_states + [(None, None)],
    )
    if result.status != 0:
        return alone, float(each[at])
    return result.x[:-1], float(result.fun)


def _least_gains(
    packed: Packed,
    profile: Float[np.ndarray, " slots"],
    off_path: Bool[np.ndarray, " groups"],
) -> Float[np.ndarray, " groups"]:
    """Off the path, what the best deviation gains under the belief that supports best."""
    least = np.zeros(len(off_path))
    for group in np.flatnonzero(off_path).tolist():
        worth, played = _state_values(packed, profile, group)
        _, least[group] = _supporting_belief(worth, played)
    return least


# ---- Nash: all decisions of a player together


def check_recall(packed: Packed, player: int) -> None:
    """Raise ImperfectRecall if the player's observations do not tell what he saw and did."""
    from workingpapers.opengames import kernels

    frontier = packed.frontier
    own = packed.group_player == player
    stages = {frontier.decisions[number].stage for number in packed.group_decision[own]}
    if len(stages) < 2:
        return
    history = np.empty(packed.n_states, dtype=np.int64)
    past = np.full(frontier.n_groups, -1, dtype=np.int64)
    clash = kernels.recall_clash(
        packed.state_offset, packed.start, packed.next, packed.slot, packed.group, own, past,
        history, max(stages) + 1,
    )  # fmt: skip
    if clash < 0:
        return
    decision = frontier.decisions[packed.group_decision[clash]]
    number = decision.group_observations[clash - decision.first_group]
    raise ImperfectRecall(
        f"player {frontier.players[player]} does not recall what he saw or did when he decides "
        f"{decision.name} at {show(decision.observations[number])}; the player form needs perfect "
        "recall, the agent form does not"
    )


def best_response_value(
    packed: Packed, profile: Float[np.ndarray, " slots"], player: int
) -> tuple[float, float, dict[int, int]]:
    """(best-response payoff, payoff, best action by group) of a player, from his first decision."""
    from workingpapers.opengames import kernels

    check_recall(packed, player)
    frontier = packed.frontier
    first = int(packed.first_decision[player])
    if first >= len(frontier.stages):
        return 0.0, 0.0, {}
    own_pays = [
        any(packed.member[entry.column, player] for entry in stage.pays)
        for stage in frontier.stages
    ]
    own_groups = packed.group_player == player
    decided = max(frontier.decisions[number].stage for number in packed.group_decision[own_groups])
    last = max([decided, *(at for at, paid in enumerate(own_pays) if paid)]) + 1
    weight = packed.counterfactual_reach(player, profile)
    offsets = np.full(len(frontier.stages), -1, dtype=np.int64)
    parts, at = [], 0
    for number in range(first, last):
        if own_pays[number]:
            offsets[number] = at
            parts.append(packed.own_pay(frontier.stages[number], player))
            at += len(parts[-1])
    pay = np.concatenate(parts) if parts else np.zeros(1)
    widest = int(np.diff(packed.state_offset).max())
    numerator = np.zeros(max(int(packed.group_start[-1]), 1))
    choice = np.full(frontier.n_groups, -1, dtype=np.int64)
    profile_ = profile if len(profile) else np.zeros(1)
    begin = packed.state_offset[first]
    width = int(packed.state_offset[first + 1] - begin)
    value = kernels.best_response(
        packed.state_offset, packed.tr_offset, packed.start, packed.next, packed.probability,
        packed.slot, packed.group, packed.group_start, own_groups, profile_, offsets, pay, weight,
        first, last, np.zeros(widest), np.zeros(widest), numerator, choice,
    )[:width]  # fmt: skip
    stays = kernels.best_response(
        packed.state_offset, packed.tr_offset, packed.start, packed.next, packed.probability,
        packed.slot, packed.group, packed.group_start, np.zeros_like(own_groups), profile_, offsets,
        pay, weight, first, last, np.zeros(widest), np.zeros(widest), np.zeros_like(numerator),
        np.full_like(choice, -1),
    )[:width]  # fmt: skip
    reach = weight[begin : begin + width]
    chosen = {int(group): int(choice[group]) for group in np.flatnonzero(choice >= 0)}
    return float(reach @ value), float(reach @ stays), chosen


def _check_players(
    packed: Packed, profile: Float[np.ndarray, " slots"], eps: float, tol: float
) -> Report:
    values = packed.evaluate(profile[:, None])
    players = packed.frontier.players
    regret = {}
    for number, player in enumerate(players):
        best, stays, _ = best_response_value(packed, profile, number)
        regret[player] = max(best - stays, 0.0)
    # An eps of a single decision also bounds what the player may forgo there.
    allowed = dict.fromkeys(players, eps + tol + rounding(packed.frontier.table))
    for decision in packed.frontier.decisions:
        for player in decision.players:
            allowed[player] += decision.eps
    ok = all(regret[player] <= allowed[player] for player in players)
    looked = values.group_weight[:, 0] > 0
    entries = _deviations(packed, profile, values, "player", looked)
    wrong = [
        one
        for _, one in entries
        if one.gain > tol + eps + one.eps and regret[one.player] > allowed[one.player]
    ]
    payoffs = packed.payoffs(values)[:, 0]
    return Report(
        "player",
        ok,
        {player: float(value) for player, value in zip(players, payoffs, strict=True)},
        sorted(wrong, key=lambda one: -one.gain),
        [one for _, one in entries],
        regret,
        int(looked.sum()),
        warnings=tuple(packed.frontier.warnings),
    )


def flags(
    packed: Packed,
    profile: Float[np.ndarray, "slots #points"],
    table: Float[np.ndarray, "rows #points"] | None = None,
    *,
    eps: float = 0.0,
    tol: float = 1e-9,
) -> tuple[Float[np.ndarray, " points"], Float[np.ndarray, "players points"]]:
    """In agent form for many points at once: the largest gain past what is allowed, and payoffs.

    A point is an equilibrium where the first is at most 0.
    """
    values = packed.evaluate(profile, table)
    paid = packed.frontier.table if table is None else table
    current, best = packed.gains(profile, values)
    slack = np.array([decision.eps for decision in packed.frontier.decisions])
    payoffs = packed.payoffs(values)
    if not len(current):
        return np.full(payoffs.shape[1], -np.inf), payoffs
    allowed = (eps + tol + rounding(paid) + slack[packed.group_decision])[:, None]
    gain = np.where(values.group_weight > 0, best - current - allowed, -np.inf)
    return gain.max(axis=0), payoffs
