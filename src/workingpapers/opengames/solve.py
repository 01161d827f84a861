"""Finding equilibria: exhaustive, backward, by learning, and through Gambit.

No method announces what it has not measured: every profile that is returned went through `check`
and carries its regret there, and only an exhaustive method that looked at everything says that its
list is complete.
"""

import importlib
import itertools
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float, Int

from workingpapers.foundation.errors import InputError
from workingpapers.opengames import equilibrium
from workingpapers.opengames.compile import Decision, Frontier, Stage
from workingpapers.opengames.equilibrium import NOTIONS, ImperfectRecall, Notion
from workingpapers.opengames.evaluate import Packed, Values, chances
from workingpapers.opengames.spaces import show
from workingpapers.opengames.strategy import (
    describe,
    observation_starts,
    random_profile,
    uniform,
)

if TYPE_CHECKING:
    from workingpapers.opengames.games import Game

MAX_PROFILES = 10_000_000
"""How many pure profiles an exhaustive search may have before it."""

_TOLERANCE = 1e-9
# How many numbers a batch of profiles may take in one array.
_BATCH_CELLS = 4_000_000
# Transitions between two looks at the keyboard: a compiled loop cannot be interrupted.
_CHUNK = 100_000_000

Variant = Literal["plus", "linear", "vanilla"]


@dataclass(frozen=True, eq=False)
class Solution:
    """One profile, with what `check` says of it."""

    profile: Float[np.ndarray, " slots"]
    strategies: dict[str, Any]
    payoffs: dict[str, float]
    regret: float
    """The most that any player gains, in the notion's sense."""
    ok: bool
    notion: Notion
    regrets: dict[str, float] = field(default_factory=dict)
    """What each player gains at most."""

    @property
    def nash_conv(self) -> float:
        """The players' regrets together; half of it is the exploitability of two players."""
        return math.fsum(self.regrets.values())


@dataclass(frozen=True)
class Solutions:
    """What a method found."""

    complete: bool
    """Whether every profile of the kind the method looks for was looked at."""
    method: str
    items: list[Solution]
    converged: bool = True
    """False where an iteration ended before it met its own tolerance."""
    residual: float = 0.0
    """How far an iteration's result is from its own fixed point."""
    note: str = ""

    def __iter__(self) -> Iterator[Solution]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, place: int) -> Solution:
        return self.items[place]

    def explain(self) -> str:
        """The list as text: how it was found, and each profile with its payoffs and regret."""
        many = len(self.items)
        all_of_them = "all there are" if self.complete else "not proved to be all"
        lines = [f"{self.method}: {many} profile{'' if many == 1 else 's'}, {all_of_them}"]
        if not self.converged:
            lines.append(f" NOT converged; the fixed point is missed by {self.residual:.3g}")
        if self.note:
            lines.append(f" {self.note}")
        for one in self.items:
            moves = "; ".join(f"{name}: {_text(move)}" for name, move in one.strategies.items())
            paid = ", ".join(f"{player} {value:.6g}" for player, value in one.payoffs.items())
            lines.append(f" {moves} | payoffs {paid} | regret {one.regret:.3g} ({one.notion} form)")
        return "\n".join(lines)

    __str__ = explain


def _text(move: Any) -> str:
    if isinstance(move, dict):
        parts = (f"{show(key)} {_text(value)}" for key, value in move.items())
        return "{" + ", ".join(parts) + "}"
    return show(move)


def solution(
    packed: Packed, profile: Float[np.ndarray, " slots"], notion: Notion, eps: float = 0.0
) -> Solution:
    """A profile as a solution: checked, described."""
    report = equilibrium.check(packed, profile, notion=notion, eps=eps, details=False)
    return Solution(
        profile,
        describe(packed.frontier, profile),
        report.payoffs,
        report.max_regret,
        report.ok,
        notion,
        report.regret,
    )


def strongest_notion(packed: Packed) -> Notion:
    """Player form where every player has perfect recall, else agent form."""
    try:
        for player in range(len(packed.frontier.players)):
            equilibrium.check_recall(packed, player)
    except ImperfectRecall:
        return "agent"
    return "player"


def action_values(packed: Packed, values: Values) -> Float[np.ndarray, "slots points"]:
    """Expected payoff of each action where its observation is reached, else NaN.

    Where a decision is one of several players', these are averaged by how often each is there.
    """
    points = values.numerator.shape[1]
    worth = np.zeros((packed.frontier.n_slots, points))
    below = np.zeros((packed.frontier.n_slots, points))
    np.add.at(worth, packed.report_to_slot, values.numerator)
    sizes = np.diff(packed.group_start)
    np.add.at(below, packed.report_to_slot, np.repeat(values.group_weight, sizes, axis=0))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(below > 0, worth / below, np.nan)


def softmax(
    starts: Int[np.ndarray, " _"], scores: Float[np.ndarray, "slots points"]
) -> Float[np.ndarray, "slots points"]:
    """Within every observation, probabilities in proportion to the exponentials of the scores."""
    sizes = np.diff(starts)
    highest = np.maximum.reduceat(scores, starts[:-1], axis=0)
    weights = np.exp(scores - np.repeat(highest, sizes, axis=0))
    return weights / np.repeat(np.add.reduceat(weights, starts[:-1], axis=0), sizes, axis=0)


# ---- exhaustive


def pure(
    game: "Game",
    notion: Notion = "agent",
    constant: bool = False,
    limit: int = 1000,
    time_limit: float = 60.0,
    eps: float = 0.0,
) -> Solutions:
    """Every equilibrium in pure strategies, by looking at every profile.

    `constant` looks only at strategies that take one action whatever is seen. The search ends
    after `limit` equilibria or `time_limit` seconds; the list is complete if it did not.
    Raises InputError for more than MAX_PROFILES profiles, ImperfectRecall in player form.
    """
    if notion not in NOTIONS:
        raise InputError(f"notion {notion!r}: expected {', '.join(NOTIONS)}")
    packed = game.packed
    method = f"pure{', constant' if constant else ''} ({notion} form)"
    ends = time.monotonic() + time_limit
    if notion in ("perfect", "pbe"):
        _expect_few(packed, constant, free_only=True)
        candidates = _prune_flagged(packed, _prune_backward(packed, constant, eps), eps)
    else:
        _expect_few(packed, constant, free_only=False)
        if notion == "player":
            for player in range(len(packed.frontier.players)):
                equilibrium.check_recall(packed, player)
        candidates = _prune_in_batches(packed, constant, notion, eps)
    found: list[Solution] = []
    complete = True
    for candidate in candidates:
        if time.monotonic() > ends:
            complete = False
            break
        if candidate is None:
            continue
        one = solution(packed, candidate, notion, eps)
        if one.ok and len(found) == limit:
            complete = False
            break
        if one.ok:
            found.append(one)
    return Solutions(complete, method, found)


def dials(frontier: Frontier, constant: bool = False) -> list[Int[np.ndarray, "options places"]]:
    """The free choices of a pure profile: for each, the slots that every option sets to 1."""
    found = []
    for decision in frontier.decisions:
        if constant:
            found.append(_constant_options(decision))
        else:
            found += [
                np.arange(first, last)[:, None]
                for first, last in itertools.pairwise(decision.starts)
            ]
    return [options for options in found if options.size]


def _constant_options(decision: Decision) -> Int[np.ndarray, "options places"]:
    if not decision.observations:
        return np.empty((0, 0), dtype=np.int64)
    common = [
        action
        for action in decision.actions[0]
        if all(action in actions for actions in decision.actions)
    ]
    if not common:
        raise InputError(
            f"constant: no action of {decision.name} is there at all of its observations"
        )
    firsts = decision.starts[:-1]
    return np.array(
        [
            [first + actions.index(action) for first, actions in zip(firsts, decision.actions,
                                                                     strict=True)]
            for action in common
        ]
    )  # fmt: skip


def profile_batches(
    n_slots: int, choices: Sequence[Int[np.ndarray, "_ _"]], size: int
) -> Iterator[Float[np.ndarray, "_ _"]]:
    """All pure profiles, as arrays of shape (slots, at most `size`)."""
    total = math.prod(len(options) for options in choices)
    for begin in range(0, total, size):
        number = np.arange(begin, min(begin + size, total))
        profile = np.zeros((n_slots, len(number)))
        column = np.arange(len(number))
        for options in choices:
            profile[options[number % len(options)].T, column] = 1.0
            number //= len(options)
        yield profile


def _expect_few(packed: Packed, constant: bool, *, free_only: bool) -> None:
    """Refuse a search over too many profiles; `free_only` counts what no pruning decides."""
    choices = dials(packed.frontier, constant)
    if free_only and not constant:
        single = _single_slots(packed)
        choices = [options for options in choices if not single[options[0, 0]]]
    digits = math.fsum(math.log10(len(options)) for options in choices)
    if digits > math.log10(MAX_PROFILES) + 1e-9:
        raise InputError(
            f"pure: {packed.frontier.title} has 10^{digits:.1f} pure profiles, more than "
            f"{MAX_PROFILES:,}; try constant=True, or solve.backward, solve.dynamics, solve.cfr"
        )


def _prune_in_batches(
    packed: Packed, constant: bool, notion: Notion, eps: float
) -> Iterator[Float[np.ndarray, " slots"] | None]:
    """Profiles without a profitable change of one decision; None after each batch."""
    frontier = packed.frontier
    size = batch_size(packed)
    for profile in profile_batches(frontier.n_slots, dials(frontier, constant), size):
        if notion == "agent":
            excess, _ = equilibrium.flags(packed, profile, eps=eps)
        else:
            excess = _player_excess(packed, profile, eps)
        for column in np.flatnonzero(excess <= 0):
            yield np.ascontiguousarray(profile[:, column])
        yield None


def batch_size(packed: Packed) -> int:
    """How many profiles to evaluate at once."""
    cells = packed.n_states + 4 * packed.frontier.n_slots + 2 * packed.buffer + 1
    return max(1, min(8192, _BATCH_CELLS // cells))


def _prune_flagged(
    packed: Packed, candidates: Iterator[Float[np.ndarray, " slots"] | None], eps: float
) -> Iterator[Float[np.ndarray, " slots"] | None]:
    """Of the candidates those where, on the path, no decision gains; None in between."""
    while batch := list(itertools.islice(candidates, batch_size(packed))):
        profiles = [one for one in batch if one is not None]
        if profiles:
            excess, _ = equilibrium.flags(packed, np.stack(profiles, axis=1), eps=eps)
            yield from (profiles[column] for column in np.flatnonzero(excess <= 0))
        yield None


def _player_excess(
    packed: Packed, profile: Float[np.ndarray, "slots points"], eps: float
) -> Float[np.ndarray, " points"]:
    """By how much one decision's gain, times its reach, is past what its player may forgo."""
    values = packed.evaluate(profile)
    current, best = packed.gains(profile, values)
    if not len(current):
        return np.zeros(profile.shape[1])
    allowed = np.full(len(packed.frontier.players), eps + _TOLERANCE)
    names = list(packed.frontier.players)
    for decision in packed.frontier.decisions:
        for player in decision.players:
            allowed[names.index(player)] += decision.eps
    gain = np.where(values.group_weight > 0, (best - current) * values.group_weight, 0.0)
    return (gain - allowed[packed.group_player][:, None]).max(axis=0)


# ---- backwards


def backward(game: "Game", limit: int = 1000) -> Solutions:
    """Backward induction: every pure subgame-perfect equilibrium, ties enumerated up to `limit`.

    Raises InputError unless what is seen at every decision tells the whole state.
    """
    packed = game.packed
    for at, stage in enumerate(packed.frontier.stages):
        if stage.decision < 0:
            continue
        for first, states in _observed_states(packed, at).items():
            if len(states) > 1:
                decision = packed.frontier.decisions[stage.decision]
                number = int(np.searchsorted(decision.starts, first, side="right")) - 1
                seen = show(decision.observations[number])
                raise InputError(
                    f"backward: {decision.name}, seeing {seen}, does not know which of "
                    f"{len(states)} states the game is in; try solve.pure, solve.cfr or "
                    "solve.dynamics"
                )
    found: list[Solution] = []
    complete = True
    for profile in _prune_backward(packed, False, 0.0):
        if profile is None:
            continue
        if len(found) == limit:
            complete = False
            break
        found.append(solution(packed, profile, "perfect"))
    return Solutions(complete, "backward induction", found)


def _observed_states(packed: Packed, at: int) -> dict[int, list[int]]:
    """For each observation of a stage's decision, by its first slot, the stage's states there."""
    stage = packed.frontier.stages[at]
    states: dict[int, list[int]] = {}
    for state in np.flatnonzero(stage.group >= 0):
        states.setdefault(int(stage.slot[stage.start[state]]), []).append(int(state))
    return states


def _single_slots(packed: Packed) -> np.ndarray:
    """For each slot, whether its observation tells the whole state."""
    single = np.zeros(packed.frontier.n_slots, dtype=bool)
    for at, stage in enumerate(packed.frontier.stages):
        if stage.decision < 0:
            continue
        for first, states in _observed_states(packed, at).items():
            size = int(stage.start[states[0] + 1] - stage.start[states[0]])
            single[first : first + size] = len(states) == 1
    return single


def _prune_backward(
    packed: Packed, constant: bool, eps: float
) -> Iterator[Float[np.ndarray, " slots"] | None]:
    """Pure profiles, the last decision first, optimal wherever the state is known.

    There what is best depends on later decisions only, so that a partial profile that fails is
    not completed. Depth first, with a stack of its own: a game may have thousands of stages.
    None each time all choices at a stage are through.
    """
    frontier = packed.frontier
    stages = frontier.stages
    profile = np.zeros(frontier.n_slots)
    ends = int(packed.state_offset[-1] - packed.state_offset[-2])
    at = len(stages) - 1
    pending = [_moves(packed, at, np.zeros((ends, len(frontier.players))), profile, constant, eps)]
    while pending:
        before = next(pending[-1], None)
        if before is None:
            pending.pop()
            at += 1
            yield None
        elif at == 0:
            yield profile.copy()
        else:
            at -= 1
            pending.append(_moves(packed, at, before, profile, constant, eps))


def _moves(
    packed: Packed,
    at: int,
    after: Float[np.ndarray, "states players"],
    profile: Float[np.ndarray, " slots"],
    constant: bool,
    eps: float,
) -> Iterator[Float[np.ndarray, "_ _"]]:
    """Write each admissible choice at one stage into the profile; gives the values before it."""
    stage = packed.frontier.stages[at]
    worth = after[stage.next] + _stage_pay(packed, stage)
    begin = stage.start[:-1]
    if stage.decision < 0:
        yield np.add.reduceat(worth * stage.probability[:, None], begin, axis=0)
        return
    decision = packed.frontier.decisions[stage.decision]
    allowed = eps + _TOLERANCE + decision.eps
    fine = np.ones(decision.n_slots, dtype=bool)
    for states in _observed_states(packed, at).values():
        if len(states) == 1:
            first, last = int(stage.start[states[0]]), int(stage.start[states[0] + 1])
            own = worth[first:last, packed.owner[packed.state_offset[at] + states[0]]]
            fine[stage.slot[first:last] - decision.first_slot] = own >= own.max() - allowed
    if constant:
        options = _constant_options(decision)
        good = fine[options - decision.first_slot].all(axis=1)
        choices: Iterator[Any] = iter(options[good])
    else:
        by_observation = [
            [slot for slot in range(first, last) if fine[slot - decision.first_slot]]
            for first, last in itertools.pairwise(decision.starts.tolist())
        ]
        choices = itertools.product(*by_observation)
    for chosen in choices:
        profile[decision.first_slot : int(decision.starts[-1])] = 0.0
        profile[np.asarray(chosen, dtype=np.int64)] = 1.0
        yield np.add.reduceat(worth * chances(stage, profile)[:, None], begin, axis=0)


def _stage_pay(packed: Packed, stage: Stage) -> Float[np.ndarray, "transitions players"]:
    paid = np.zeros((stage.n_transitions, len(packed.frontier.players)))
    for entry in stage.pays:
        members = packed.member[entry.column, : paid.shape[1]]
        paid[:, members] += packed.frontier.table[entry.rows, :1]
    return paid


# ---- by learning


def dynamics(game: "Game", restarts: int = 10, seed: int = 0, steps: int = 1000) -> Solutions:
    """Best-response dynamics from random pure profiles: the decision that gains most moves.

    A restart ends where no decision gains (agent form), in a cycle, or after `steps` moves; the
    note says how often each happened.
    """
    packed = game.packed
    frontier = packed.frontier
    generator = np.random.default_rng(seed)
    slack = np.array([decision.eps for decision in frontier.decisions])
    allowed = _TOLERANCE + slack[packed.group_decision] if len(slack) else np.zeros(0)
    found: dict[bytes, Solution] = {}
    cycles = unfinished = 0
    for _ in range(restarts):
        profile = random_profile(frontier, generator, pure=True)
        seen: set[bytes] = set()
        for _ in range(steps):
            key = np.packbits(profile > 0).tobytes()
            if key in seen:
                cycles += 1
                break
            seen.add(key)
            values = packed.evaluate(profile[:, None])
            current, best = packed.gains(profile[:, None], values)
            gain = np.where(values.group_weight > 0, best - current, 0.0)[:, 0] - allowed
            if not len(gain) or gain.max() <= 0:
                found.setdefault(key, solution(packed, profile, "agent"))
                break
            group = int(np.argmax(gain))
            part = slice(packed.group_start[group], packed.group_start[group + 1])
            slots = packed.report_to_slot[part]
            profile[slots] = 0.0
            profile[slots[np.argmax(values.numerator[part, 0])]] = 1.0
        else:
            unfinished += 1
    settled = restarts - cycles - unfinished
    note = f"of {restarts} starts {settled} settled, {cycles} ran into a cycle"
    if unfinished:
        note += f", {unfinished} did not end in {steps} moves"
    return Solutions(False, "best-response dynamics", list(found.values()), settled > 0, note=note)


def cfr(game: "Game", iterations: int = 1000, variant: Variant = "plus") -> Solutions:
    """Counterfactual regret minimisation; gives the average profile and its measured regret.

    plus: regrets never below zero, averages weighted by the iteration (Tammelin 2014); linear:
    both weighted by the iteration (Brown and Sandholm 2019); vanilla: neither (Zinkevich et al.
    2007). The average of two players in a zero-sum game with perfect recall tends to an
    equilibrium; elsewhere only the measured regret says anything.
    """
    if variant not in ("plus", "linear", "vanilla"):
        raise InputError(f"variant {variant!r}: expected plus, linear or vanilla")
    if iterations < 1:
        raise InputError(f"iterations {iterations}: expected at least 1")
    from workingpapers.opengames import kernels

    packed = game.packed
    frontier = packed.frontier
    pay = np.ascontiguousarray(
        np.concatenate([_stage_pay(packed, stage) for stage in frontier.stages]).T
    )
    profile = uniform(frontier)
    regret, total = np.zeros(frontier.n_slots), np.zeros(frontier.n_slots)
    chunk = max(1, _CHUNK // max(frontier.n_transitions * len(frontier.players), 1))
    for begin in range(0, iterations, chunk):
        kernels.regret_matching(
            packed.state_offset, packed.start, packed.next, packed.probability, packed.slot,
            packed.owner, packed.group, packed.group_start, packed.group_player,
            packed.report_to_slot, pay, profile, regret, total, begin,
            min(begin + chunk, iterations), variant == "plus", variant == "linear",
            variant != "vanilla",
        )  # fmt: skip
    return _averaged(packed, total, f"cfr {variant}, {iterations} iterations")


def fictitious_play(game: "Game", iterations: int = 1000) -> Solutions:
    """Fictitious play: everyone answers the average of what the others did before (Brown 1951).

    Averages are of plans, so each answer counts at a decision by its player's own reach. Raises
    ImperfectRecall.
    """
    if iterations < 1:
        raise InputError(f"iterations {iterations}: expected at least 1")
    from workingpapers.opengames import kernels

    packed = game.packed
    frontier = packed.frontier
    own_slot = []
    for player in range(len(frontier.players)):
        mask = np.zeros(frontier.n_slots, dtype=np.bool_)
        sizes = np.diff(packed.group_start)
        mask[packed.report_to_slot[np.repeat(packed.group_player == player, sizes)]] = True
        own_slot.append(mask)
    average = uniform(frontier)
    total = np.zeros(frontier.n_slots)
    reach = np.empty(packed.n_states)
    deciding = np.flatnonzero(packed.group >= 0)
    for _ in range(iterations):
        for player, mask in enumerate(own_slot):
            _, _, chosen = equilibrium.best_response_value(packed, average, player)
            if not chosen:
                continue
            groups = np.fromiter(chosen, dtype=np.int64)
            taken = packed.group_start[groups] + np.fromiter(chosen.values(), dtype=np.int64)
            answer = np.zeros(frontier.n_slots)
            answer[packed.report_to_slot[taken]] = 1.0
            kernels.own_reach(
                packed.state_offset, packed.start, packed.next, packed.slot, mask, answer, reach
            )
            weight = np.zeros(frontier.n_groups)
            np.maximum.at(weight, packed.group[deciding], reach[deciding])
            np.add.at(total, packed.report_to_slot[taken], weight[groups])
        average = _normalised(frontier, total)
    return _averaged(packed, total, f"fictitious play, {iterations} iterations")


def _normalised(
    frontier: Frontier, total: Float[np.ndarray, " slots"]
) -> Float[np.ndarray, " slots"]:
    """Weights as probabilities; uniform at observations without weight."""
    starts = observation_starts(frontier)
    if len(starts) == 1:
        return total
    sizes = np.diff(starts)
    sums = np.repeat(np.add.reduceat(total, starts[:-1]), sizes)
    return np.where(sums > 0, total / np.where(sums > 0, sums, 1.0), 1 / np.repeat(sizes, sizes))


def _averaged(packed: Packed, total: Float[np.ndarray, " slots"], method: str) -> Solutions:
    notion = strongest_notion(packed)
    one = solution(packed, _normalised(packed.frontier, total), notion)
    note = f"an average; largest measured regret {one.regret:.3g} ({notion} form)"
    if notion == "agent":
        note += "; some player forgets, so that nothing promises a small one"
    return Solutions(False, method, [one], note=note)


# ---- quantal response


def logit(
    game: "Game", precision: float = 1.0, tol: float = 1e-10, iterations: int = 500
) -> Solutions:
    """Agent quantal response equilibrium: probabilities proportional to exp(precision x payoff).

    McKelvey and Palfrey (1998). The precision is raised step by step from 0, where everything is
    equally likely; each step is a damped fixed-point iteration, then Powell's hybrid method. What
    does not come within `tol` of its own response is returned with `converged` False.
    """
    if not (precision >= 0 and math.isfinite(precision)):
        raise InputError(f"precision {precision}: expected a finite number, at least 0")
    packed = game.packed
    frontier = packed.frontier
    starts = observation_starts(frontier)
    scores = np.zeros(frontier.n_slots)
    method = f"logit, precision {precision:g}"
    if not frontier.n_slots or precision == 0:
        return Solutions(False, method, [solution(packed, uniform(frontier), "agent")])
    reached, step = 0.0, precision / 8
    while reached < precision:
        wanted = min(precision, reached + step)
        found, residual = _logit_at(packed, starts, wanted, scores, tol, iterations)
        if residual <= tol:
            scores, reached = found, wanted
            step *= 2
        elif step > precision / 4096:
            step /= 4
        else:
            found, residual = _logit_at(packed, starts, precision, scores, tol, iterations)
            return _quantal(packed, starts, found, residual, tol, method)
    return _quantal(packed, starts, scores, residual, tol, method)


def _quantal(
    packed: Packed,
    starts: Int[np.ndarray, " _"],
    scores: Float[np.ndarray, " slots"],
    residual: float,
    tol: float,
    method: str,
) -> Solutions:
    one = solution(packed, softmax(starts, scores[:, None])[:, 0], "agent")
    return Solutions(False, method, [one], residual <= tol, residual)


def _response(
    packed: Packed,
    starts: Int[np.ndarray, " _"],
    precision: float,
    scores: Float[np.ndarray, " slots"],
) -> tuple[Float[np.ndarray, " slots"], float]:
    """(precision times payoffs against the profile of these scores, distance of the two)."""
    profile = softmax(starts, scores[:, None])
    worth = action_values(packed, packed.evaluate(profile))
    # A probability that underflows leaves what follows it unreached: any score will do there.
    answer = np.where(np.isnan(worth[:, 0]), scores, precision * worth[:, 0])
    sizes = np.diff(starts)
    answer = answer - np.repeat(np.add.reduceat(answer, starts[:-1]) / sizes, sizes)
    return answer, float(np.abs(softmax(starts, answer[:, None]) - profile).max())


def _logit_at(
    packed: Packed,
    starts: Int[np.ndarray, " _"],
    precision: float,
    scores: Float[np.ndarray, " slots"],
    tol: float,
    iterations: int,
) -> tuple[Float[np.ndarray, " slots"], float]:
    """Scores near a fixed point, from scores near by, and how far they are from it."""
    damping = 1.0
    answer, residual = _response(packed, starts, precision, scores)
    for _ in range(iterations):
        if residual <= tol:
            return scores, residual
        trial = scores + damping * (answer - scores)
        next_answer, next_residual = _response(packed, starts, precision, trial)
        if next_residual < residual:
            scores, answer, residual = trial, next_answer, next_residual
            damping = min(1.0, 1.5 * damping)
        elif damping < 1e-3:
            break
        else:
            damping /= 2
    if residual <= tol or len(scores) > 400:
        return scores, residual
    from scipy.optimize import root

    result = root(
        lambda point: point - _response(packed, starts, precision, point)[0], scores, tol=1e-13
    )
    found = np.asarray(result.x, dtype=float)
    better = _response(packed, starts, precision, found)[1]
    return (found, better) if better < residual else (scores, residual)


# ---- Gambit

_GAMBIT_METHODS = (
    "enummixed",
    "enumpoly",
    "enumpure",
    "gnm",
    "ipa",
    "lcp",
    "liap",
    "logit",
    "lp",
    "simpdiv",
)


def gambit(game: "Game", method: str = "lcp") -> Solutions:
    """Nash equilibria by one of Gambit's algorithms, on the game's tree; needs pygambit.

    enumpure gives every pure equilibrium, enummixed every extreme one of two players; no other
    list is complete. Raises InputError for an unknown method, a decision that several players
    share, or what the algorithm refuses; MissingPackageError without pygambit.
    """
    if method not in _GAMBIT_METHODS:
        raise InputError(f"method {method!r}: expected {', '.join(_GAMBIT_METHODS)}")
    from workingpapers.opengames import files

    packed = game.packed
    frontier = packed.frontier
    if frontier.n_report_slots != frontier.n_slots:
        raise InputError(
            f"gambit: in {frontier.title} several players share a decision and its strategy, "
            "which a game tree cannot say"
        )
    tree = files.to_gambit(game)
    # to_gambit has refused in words if the package is missing.
    nash = importlib.import_module("pygambit").nash
    start: Any = tree
    options: dict[str, Any] = {}
    if method in ("lcp", "lp"):
        options["rational"] = False
    elif method in ("liap", "simpdiv"):
        start = tree.mixed_strategy_profile(rational=method == "simpdiv")
    try:
        found = getattr(nash, f"{method}_solve")(start, **options).equilibria
    except (RuntimeError, ValueError) as error:
        raise InputError(f"gambit {method}: {error}") from None
    sets = {one.label: one for one in files.information_sets(game, plain=True)}
    notion = strongest_notion(packed)
    items = []
    for one in found:
        behaviour = one.as_behavior() if hasattr(one, "as_behavior") else one
        profile = np.zeros(frontier.n_slots)
        for infoset in tree.infosets:
            first = sets[infoset.label].first_slot
            weights = np.array([float(behaviour[action]) for action in infoset.actions])
            # A strategy of the normal form says nothing where it never comes.
            profile[first : first + len(weights)] = np.nan_to_num(weights)
        items.append(solution(packed, _normalised(frontier, profile), notion))
    return Solutions(method in ("enumpure", "enummixed"), f"gambit {method}", items)
