"""What the experiment measures: tasks and the functions that perform them, one result a task."""

import math
import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from workingpapers.foundation.errors import InputError
from workingpapers.opengames import design, dynamic, library, reference, simulate, solve, terms
from workingpapers.opengames.equilibrium import best_response_value, flags
from workingpapers.opengames.evaluate import Packed, evaluate_reference
from workingpapers.opengames.games import Game, game
from workingpapers.opengames.sampling import TermSampler, random_game, random_term
from workingpapers.opengames.solve import profile_batches
from workingpapers.opengames.spaces import Space
from workingpapers.opengames.strategy import describe, random_profile, uniform
from workingpapers.opengames.trace import Trace

Record = dict[str, Any]


def once(work: Callable[[], Any]) -> float:
    """Seconds that one call takes."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def median_seconds(work: Callable[[], Any], repeats: int = 5) -> float:
    """Median of repeated calls, after one that warms up."""
    work()
    return statistics.median(once(work) for _ in range(repeats))


def peak_memory(*, reset: bool = False) -> float:
    """This process's peak of resident memory in MiB, by request from now on; NaN if unknown."""
    if reset:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
    with suppress(OSError):
        found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
        if found:
            return int(found[1]) / 1024
    return math.nan


# ---- known answers


@dataclass(frozen=True)
class EntryTask:
    """One institution of the library."""

    name: str


def compare_known(task: EntryTask) -> Record:
    """How many known numbers and flags of an entry are found, and those that are not."""
    found = list(library.facts(library.load(task.name)))
    wrong = [str(fact) for fact in found if not fact.ok]
    return {"name": task.name, "facts": len(found), "wrong": len(wrong), "which": wrong[:5]}


@dataclass(frozen=True)
class PictureTask:
    """The picture of one institution."""

    name: str


def draw_entry(task: PictureTask) -> Record:
    """The size of an entry's string diagram as a file; 0 if it cannot be drawn."""
    import tempfile

    from workingpapers.foundation.plots import save
    from workingpapers.opengames import draw

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "diagram.svg"
        try:
            save(draw.diagram(library.load(task.name).game()), path)
        except InputError as error:
            return {"name": task.name, "bytes": 0, "why": str(error)}
        return {"name": task.name, "bytes": path.stat().st_size, "why": ""}


# ---- random terms and games


@dataclass(frozen=True)
class RandomTask:
    """Some random terms or games, drawn from a seed of their own."""

    seed: int
    part: int
    count: int
    leaves: int = 300
    """Outcomes that a random term may have."""

    def generator(self) -> np.random.Generator:
        return np.random.default_rng([self.seed, self.part])


def compare_literal(task: RandomTask) -> Record:
    """The engine beside the definition on random terms: the largest difference of any number."""
    generator = task.generator()
    worst = 0.0
    for _ in range(task.count):
        term, strategies = random_term(generator, leaves=task.leaves)
        closed = term.close()
        report = closed.check(strategies, engine="frontier")
        found = {
            (one.player, one.decision, one.observation): (one.reach, one.gain)
            for one in report.decisions
        }
        expected = {
            (row.player, row.decision, row.observation): (row.reach, row.gain)
            for row in reference.rows(term, strategies)
        }
        if found.keys() != expected.keys():
            return {"worst": math.inf}
        for key, numbers in expected.items():
            worst = max(worst, *(abs(a - b) for a, b in zip(found[key], numbers, strict=True)))
        paid = reference.payoffs(term, strategies)
        worst = max(worst, *(abs(report.payoffs[player] - value) for player, value in paid.items()))
    return {"worst": float(worst)}


def check_laws(task: RandomTask) -> Record:
    """Categorical laws on random terms: how many pairs of equal terms have different reports."""
    generator = task.generator()
    failures = 0
    for _ in range(task.count):
        sampler = TermSampler(generator)
        pairs = _equal_terms(sampler)
        strategies = sampler.strategies()
        failures += sum(_report(a, strategies) != _report(b, strategies) for a, b in pairs)
    return {"failures": failures, "pairs": len(pairs) * task.count}


def _equal_terms(sampler: TermSampler) -> list[tuple[terms.OpenGame, terms.OpenGame]]:
    """Pairs of terms that the laws say are equal."""
    bit = Space("bit", [0, 1])
    start = sampler.decide([]) @ terms.nature({0: 0.5, 1: 0.5}, makes=bit, name="start")
    f = sampler.layer(start.y) @ terms.identity((), start.r)
    g = sampler.layer(f.y) @ terms.identity((), f.r)
    end = sampler.finish(g.y, g.r)
    plain = ((start >> f) >> g) >> end
    one, two, three = (sampler.decide([]) for _ in range(3))
    abreast = sampler.finish(one.y + two.y + three.y, one.r + two.r + three.r)
    lower = sampler.layer(one.y) @ terms.identity((), one.r)
    upper = sampler.layer(two.y) @ terms.identity((), two.r)
    both = (one @ two) >> (lower @ upper)
    after = sampler.finish(both.y, both.r)
    drawn = terms.nature({0: 0.3, 1: 0.7}, makes=bit, name="x")
    seen = sampler.decide([bit])
    shut = sampler.finish(seen.y, seen.r)
    branches = (sampler.decide([bit]), seen)
    chosen = terms.inject(1, [(bit,), (bit,)]) >> (branches[0] + branches[1])
    direct = seen >> (
        terms.inject(1, [part.y for part in branches]) @ terms.identity((), seen.r[0])
    )
    untag = terms.forward(lambda value: value.values[0], chosen.y, [Space("small", range(3))])
    ending = (untag @ terms.identity((), seen.r[0])) >> sampler.finish(untag.y, chosen.r)
    return [
        (plain, start >> (f >> (g >> end))),
        (plain, start >> terms.identity(start.y, start.r) >> f >> g >> end),
        (((one @ two) @ three) >> abreast, (one @ (two @ three)) >> abreast),
        ((one @ terms.identity(()) @ two @ three) >> abreast, ((one @ two) @ three) >> abreast),
        (both >> after, ((one >> lower) @ (two >> upper)) >> after),
        (
            drawn >> terms.copy(bit) >> (terms.identity(bit) @ terms.discard(bit)) >> seen >> shut,
            drawn >> seen >> shut,
        ),
        (
            drawn >> terms.copy(bit) >> terms.swap(bit, bit)
            >> (terms.discard(bit) @ terms.identity(bit)) >> seen >> shut,
            drawn >> seen >> shut,
        ),
        (drawn >> chosen >> ending, drawn >> direct >> ending),
    ]  # fmt: skip


def _report(term: terms.OpenGame, strategies: Mapping[str, Any]) -> dict[Any, Any]:
    closed = term.close()
    own = {name: strategies[name] for name in closed.decisions}
    # A branch that is never taken is a decision never met.
    met = {decision.name for decision in closed.frontier.decisions if decision.observations}
    report = closed.check(own, engine="frontier")
    return {
        (one.player, one.decision, one.observation): (round(one.reach, 9), round(one.gain, 9))
        for one in report.decisions
        if one.decision in met
    }


def compare_normal_form(task: RandomTask) -> Record:
    """Player-form regret beside the best of all pure strategies of the player, on random games."""
    generator = task.generator()
    worst = 0.0
    for _ in range(task.count):
        sample = random_game(generator, decisions=3)
        packed, frontier = sample.packed, sample.frontier
        profile = random_profile(frontier, generator)
        payoffs = packed.payoffs(packed.evaluate(profile[:, None]))[:, 0]
        for number, player in enumerate(frontier.players):
            best, stays, _ = best_response_value(packed, profile, number)
            own = [d for d in frontier.decisions if player in d.players]
            if not own:
                continue
            regret = _best_pure(packed, profile, number, own) - payoffs[number]
            worst = max(worst, abs(best - stays - regret))
    return {"worst": float(worst)}


def _best_pure(packed: Packed, profile: np.ndarray, player: int, own: Any) -> float:
    """The player's payoff of his best pure strategy, all of them tried."""
    dials = [
        range(int(decision.starts[number]), int(decision.starts[number + 1]))
        for decision in own
        for number in range(len(decision.observations))
    ]
    best = -math.inf
    count = math.prod(len(dial) for dial in dials)
    if count > 20_000:
        return _best_by_coordinates(packed, profile, player, dials)
    fixed = profile.copy()
    for dial in dials:
        fixed[dial.start : dial.stop] = 0.0
    for begin in range(0, count, 4096):
        block = np.arange(begin, min(begin + 4096, count))
        batch = np.repeat(fixed[:, None], len(block), axis=1)
        rest = block.copy()
        for dial in dials:
            batch[dial.start + rest % len(dial), np.arange(len(block))] = 1.0
            rest //= len(dial)
        best = max(best, float(packed.payoffs(packed.evaluate(batch))[player].max()))
    return best


def _best_by_coordinates(packed: Packed, profile: np.ndarray, player: int, dials: Any) -> float:
    """Best reply one observation at a time until nothing improves, last observations first.

    With perfect recall this is backward induction and ends at the best pure strategy.
    """
    current = profile.copy()
    best = float(packed.payoffs(packed.evaluate(current[:, None]))[player, 0])
    improved = True
    while improved:
        improved = False
        for dial in reversed(dials):
            batch = np.repeat(current[:, None], len(dial), axis=1)
            batch[dial.start : dial.stop] = np.eye(len(dial))
            worth = packed.payoffs(packed.evaluate(batch))[player]
            at = int(np.argmax(worth))
            if worth[at] > best + 1e-12:
                improved = True
            best = max(best, float(worth[at]))
            current = batch[:, at].copy()
    return best


def _few_strategies(generator: np.random.Generator, most: int = 100) -> Game:
    """A random game in which no player has more than `most` pure strategies."""
    while True:
        sample = random_game(generator, decisions=3)
        counts = dict.fromkeys(sample.frontier.players, 1)
        for decision in sample.frontier.decisions:
            many = math.prod(len(actions) for actions in decision.actions)
            for player in decision.players:
                counts[player] *= many
        if max(counts.values()) <= most:
            return sample


def compare_gambit(task: RandomTask) -> Record:
    """Agent and player regrets of random profiles beside pygambit's, on random games."""
    from workingpapers.opengames import files
    from workingpapers.opengames.efg import information_sets

    generator = task.generator()
    worst = 0.0
    for _ in range(task.count):
        sample = _few_strategies(generator)
        profile = random_profile(sample.frontier, generator)
        theirs = files.to_gambit(sample)
        mixed = theirs.mixed_behavior_profile()
        slots = {one.label: one.first_slot for one in information_sets(sample, plain=True)}
        for player in theirs.players:
            for infoset in player.infosets:
                for place, action in enumerate(infoset.actions):
                    mixed[action] = float(profile[slots[infoset.label] + place])
        agent = sample.check(profile, "agent", engine="frontier")
        nash = sample.check(profile, "player", engine="frontier")
        worst = max(
            worst,
            abs(float(mixed.agent_max_regret()) - max(agent.regret.values())),
            abs(float(mixed.max_regret()) - max(nash.regret.values())),
        )
    return {"worst": float(worst)}


def round_trips(task: RandomTask) -> Record:
    """Written as .efg and JSON and read again: the largest change of any player's regret."""
    import tempfile

    from workingpapers.opengames.efg import information_sets, read_efg, write_efg
    from workingpapers.opengames.game_json import read_json, write_json

    generator = task.generator()
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for number in range(task.count):
            sample = random_game(generator, decisions=3)
            profile = random_profile(sample.frontier, generator)
            before = sample.check(profile, "player", engine="frontier").regret
            path = Path(folder) / f"{number}.json"
            write_json(sample, path)
            after = read_json(path).check(profile, "player").regret
            worst = max(worst, *(abs(before[name] - after[name]) for name in before))
            path = Path(folder) / f"{number}.efg"
            write_efg(sample, path)
            again = read_efg(path)
            moves = {
                one.label: profile[one.first_slot : one.first_slot + len(one.actions)][None]
                for one in information_sets(sample)
            }
            played = {name: moves[name] for name in again.decisions}
            after = again.check(played, "player").regret
            worst = max(worst, *(abs(before[name] - after.get(name, 0.0)) for name in before))
    return {"worst": float(worst)}


# ---- describing and changing institutions


@dataclass(frozen=True)
class CanalTask:
    """A measurement that has no settings."""


def measure_canals(task: CanalTask) -> Record:
    """The three canals of the paper beside their numbers: the largest difference of each."""
    found: Record = {"water": {}}
    for label, name, payoffs, count in (
        ("without-monitor", "irrigation", {"farmer1": 5, "farmer2": 5, "farmer3": 0}, 2),
        (
            "with-monitor", "irrigation_monitored",
            {"monitor": 0.2, "farmer1": 1.6, "farmer2": 1.6, "farmer3": 1.6}, 1,
        ),
        (
            "with-random-roles", "irrigation_random_roles",
            {"farmer1": 2, "farmer2": 2, "farmer3": 2}, 1,
        ),
    ):  # fmt: skip
        built = library.load(name).game()
        holds = [
            profile
            for profile in map(built.profile, library.constant_profiles(built))
            if built.check(profile, engine="frontier").ok
        ]
        worst = float(abs(len(holds) - count))
        for profile in holds:
            paid = built.payoffs(profile, engine="frontier")
            worst = max(worst, *(abs(paid[player] - value) for player, value in payoffs.items()))
        found[label] = worst
        if holds:
            found["water"][label.replace("-", " ")] = _water(built, holds[-1])
    return found


def draw_water(water: Mapping[str, Mapping[str, float]]) -> Any:
    """Bars of what each farmer takes."""
    from workingpapers.opengames import draw

    return draw.bars(water)


def draw_institution() -> Any:
    """The monitored canal as a string diagram."""
    from workingpapers.opengames import draw

    return draw.diagram(library.load("irrigation_monitored").game(farmers=2))


def draw_region(axis: np.ndarray, found: np.ndarray) -> Any:
    """Where the monitored canal holds, with the closed form."""
    from workingpapers.opengames import draw

    rates = np.linspace(1 / 6, 1, 100)
    boundary = {
        "6t = 1": (np.array([1 / 6, 1 / 6]), np.array([0.5, 1.0])),
        "5(1-t-p) = 2(1-t)": (rates, 0.6 * (1 - rates)),
    }
    return draw.heatmap(
        "pay_rate", axis, "fine", axis, np.asarray(found, dtype=bool),
        "Working monitor, moderate farmers: an equilibrium", boundary=boundary,
    )  # fmt: skip


def exponent(sizes: Sequence[int], found: Sequence[Record]) -> float:
    """The slope of time in size on logarithmic axes, from the middle size on."""
    half = len(sizes) // 2
    times = [one["compile"] + one["check"] for one in found]
    return float(np.polyfit(np.log(sizes[half:]), np.log(times[half:]), 1)[0])


def measure_parsimony(task: CanalTask) -> Record:
    """How long descriptions are beside what they describe."""
    small, large = (library.load("irrigation_monitored").game(farmers=n, level=3 * n)
                    for n in (3, 200))  # fmt: skip
    factory = library.load("irrigation_monitored").factory
    assert small.trace is not None
    assert large.trace is not None
    twenty = library.load("irrigation_monitored").game(farmers=20, level=60)
    assert twenty.trace is not None
    text = factory.description_length()
    grown = (len(large.trace.nodes) - len(small.trace.nodes)) / 197
    return {
        "grown text": _text_growth(),
        "nodes per farmer": grown,
        "ratio": 10 ** twenty.size().log10_outcomes / len(twenty.trace.nodes),
        "rows": [
            {
                "farmers": n,
                "names, literals and operators": text,
                "nodes of the trace": (size := _monitored(n).size()).description_length,
                "merged transitions": size.transitions,
                "leaves of the tree, log10": size.log10_outcomes,
                "entries of the table, log10": size.log10_profiles,
            }
            for n in (3, 5, 10, 20, 50, 200)
        ],
    }


def _text_growth() -> int:
    """What the text of the institution for 200 farmers has more than that for 3."""
    entry = library.load("irrigation_monitored")
    few, many = entry.game(farmers=3).factory, entry.game(farmers=200).factory
    assert few is not None
    assert many is not None
    return many.description_length() - few.description_length()


def _monitored(farmers: int) -> Game:
    return library.load("irrigation_monitored").game(farmers=farmers, level=3 * farmers)


EFFORT = Space("Effort", ["Work", "Shirk"])
WATER = Space("Water")
MOVE = Space("Move", ["Crack", "Flood"])
UTILITY = Space("Utility")


def canal(farmers: int = 3, level: int = 10) -> terms.OpenGame:
    """The canal as a term: () -> what each took and how, each farmer's utility returned."""
    game: terms.OpenGame = terms.forward(lambda: level, [], [WATER], "spring")
    for number in range(1, farmers + 1):
        done = terms.identity(game.y[:-1], game.r)
        sees = terms.copy(WATER) >> (
            terms.decision(f"farmer{number}", MOVE, [WATER], name=f"take{number}")
            @ terms.identity(WATER)
        )
        takes = terms.forward(_taken, [MOVE, WATER], [MOVE, WATER, WATER], f"gate{number}")
        game = game >> (done @ (sees >> (takes @ terms.identity((), UTILITY))))
    return game >> (terms.identity(game.y[:-1], game.r) @ terms.discard(WATER))


def _taken(move: str, level: float) -> tuple[str, float, float]:
    units = min(level, 2 if move == "Crack" else 5)
    return move, units, level - units


def collect(farmers: int, rule: Callable[[str, str], float]) -> terms.OpenGame:
    """The rule of payment: what the monitor and each farmer receive of the water taken."""

    def paid(effort: str, *taken: Any) -> tuple[float, ...]:
        pairs = list(zip(taken[::2], taken[1::2], strict=True))
        shares = [rule(move, effort) for move, _ in pairs]
        wage = sum(share * units for share, (_, units) in zip(shares, pairs, strict=True))
        return (
            wage - (effort == "Work"),
            *((1 - share) * units for share, (_, units) in zip(shares, pairs, strict=True)),
        )

    ports = [EFFORT, *[MOVE, WATER] * farmers]
    return terms.lens(lambda *x: (), paid, ports, [UTILITY] * (farmers + 1), [], [], "collect")


def _taxed(move: str, effort: str) -> float:
    if effort == "Shirk":
        return 0.0
    return 0.2 if move == "Crack" else 0.9


def _flat(move: str, effort: str) -> float:
    if effort == "Shirk":
        return 0.0
    return 0.25 if move == "Crack" else 0.8


def measure_modularity(task: CanalTask) -> Record:
    """Components that change with the monitor or the rule, and whether the games are right."""
    farmers = canal()
    external = terms.decision("monitor", EFFORT)
    rotating = terms.nature(
        dict.fromkeys(("ann", "bob", "cleo"), 1 / 3), makes=terms.PLAYER, name="turn"
    ) >> terms.role_decision(EFFORT, name="monitor")
    rule, other = collect(3, _taxed), collect(3, _flat)
    institutions = {
        "external monitor": (external, farmers, rule),
        "rotating monitor": (rotating, farmers, rule),
        "other rule": (external, farmers, other),
    }
    base = institutions["external monitor"]
    moves = {"monitor": "Work", "take1": "Crack", "take2": "Crack", "take3": "Crack"}
    changed, held = [], []
    for parts in institutions.values():
        changed.append(sum(one is not two for one, two in zip(base, parts, strict=True)))
        watch, plots, payment = parts
        held.append(bool(((watch @ plots) >> payment).close().check(moves).ok))
    flags_ = library.load("irrigation_monitored").game().check(moves).payoffs
    same = ((external @ farmers) >> rule).close().payoffs(moves)
    return {
        "changed": max(changed),
        "held": all(held),
        "difference": max(abs(flags_[name] - same[name]) for name in flags_),
    }


def count_refused_wirings(task: CanalTask) -> Record:
    """Of ten wiring mistakes, how many are refused, with both names, before anything is played."""
    p1, p2 = terms.decision("p1", "CD"), terms.decision("p2", "CD")
    sees = terms.decision("p3", "CD", [WATER])
    cells = {(a, b): (0, 0) for a in "CD" for b in "CD"}
    pays = terms.payoff_table(cells, name="bimatrix")
    mistakes: list[tuple[Callable[[], Any], tuple[str, str]]] = [
        (lambda: p1 >> sees, ("p1:", "p3:")),
        (lambda: p1 >> pays, ("p1:", "bimatrix:")),
        (lambda: (p1 @ p2 @ sees) >> pays, ("p1", "bimatrix:")),
        (lambda: terms.nature({1: 0.5, 2: 0.5}) >> sees, ("nature:", "p3:")),
        (lambda: p1 >> terms.discard(Space("C|D", "CD")), ("p1:", "discard:")),
        (lambda: p1 >> terms.counit(UTILITY), ("p1:", "counit:")),
        (lambda: canal() >> collect(3, _taxed), ("spring", "collect:")),
        (lambda: (terms.decision("m", EFFORT) @ canal(2)) >> collect(3, _taxed), ("m", "collect:")),
        (lambda: sees + terms.discard(WATER), ("p3:", "discard:")),
        (lambda: terms.swap(WATER, MOVE) >> sees, ("swap:", "p3:")),
    ]
    refused = 0
    for wrong, both in mistakes:
        try:
            wrong()
        except InputError as error:
            refused += all(name in str(error) for name in both)
    return {"refused": refused, "of": len(mistakes)}


# ---- time and size


@dataclass(frozen=True)
class TimingTask:
    """Something timed alone."""

    what: str
    size: int = 0


def time_repeated(task: TimingTask) -> Record:
    """Compile and check of the prisoner's dilemma repeated `size` times."""
    factory = dynamic.repeated_prisoners_dilemma
    moves = _tit_for_tat(task.size)
    factory(rounds=3).check(_tit_for_tat(3), engine="frontier")
    built = factory(rounds=task.size)
    compiling = once(lambda: built.frontier)
    checking = median_seconds(lambda: built.check(moves, engine="frontier"), 3)
    return {"compile": compiling, "check": checking, "log10 outcomes": built.size().log10_outcomes}


def _tit_for_tat(rounds: int) -> dict[str, Any]:
    moves: dict[str, Any] = {}
    for number in range(1, rounds + 1):
        moves[f"player1@{number}"] = lambda first, second: second or "C"
        moves[f"player2@{number}"] = lambda first, second: first or "C"
    return moves


def _flooding(farmers: int) -> dict[str, str]:
    return {f"take{number}": "Flood" for number in range(1, farmers + 1)}


def time_scale(task: TimingTask) -> Record:
    """Build, compile and check of one wide game, kernels warm; with the memory that it adds."""
    work, expected = _SCALED[task.what](task.size)
    small, _ = _SCALED[task.what](3)
    small()
    before = peak_memory(reset=True)
    begin = time.perf_counter()
    ok = work()
    seconds = time.perf_counter() - begin
    return {"seconds": seconds, "memory": peak_memory() - before, "right": ok == expected}


def _irrigation_200(farmers: int) -> Any:
    def work() -> bool:
        built = library.load("irrigation").game(farmers=farmers, level=3 * farmers)
        return built.check(_flooding(farmers)).ok

    return work, True


def _public_goods(players: int) -> Any:
    def work() -> bool:
        built = library.load("public_goods").game(players=players)
        moves = {f"give{number}": 0 for number in range(1, players + 1)}
        return built.check(moves, engine="frontier").ok

    return work, True


@game
def first_price(b: Trace, size: int = 8) -> None:
    """Two bidders with values 0, 1, ..., size - 1 and bids alike; ties split the difference."""
    values = [b.nature(range(size), name=f"value{n}") for n in (1, 2)]
    bids = [
        b.decide(f"bidder{n}", range(size), sees=[value], name=f"bid{n}")
        for n, value in enumerate(values, start=1)
    ]
    for n in (0, 1):
        b.pay(f"bidder{n + 1}", _gain, values[n], bids[n], bids[1 - n], vectorize=True)


def _gain(value: Any, own: Any, other: Any) -> Any:
    return np.where(own > other, value - own, np.where(own == other, (value - own) / 2, 0.0))


def _auction(size: int) -> Any:
    def work() -> bool:
        half = {"bid1": lambda value: value // 2, "bid2": lambda value: value // 2}
        return first_price(size=size).check(half).ok

    # Half the value is an equilibrium up to the grid: of the two neighbours none is better.
    return work, True


@game
def full_information_auction(b: Trace, bidders: int = 100, bids: int = 1000) -> None:
    """First price among bidders who all know that the prize is worth `bids` to each; ties split."""
    offers = [b.decide(f"bidder{n}", range(bids), name=f"bid{n}") for n in range(1, bidders + 1)]
    best = b.fold("highest", offers)
    for n, offer in enumerate(offers, start=1):
        b.pay(
            f"bidder{n}",
            lambda own: float(bids) - own,
            offer,
            times=[(_itself, b.share(offer, best))],
            vectorize=True,
        )


def _itself(value: Any) -> Any:
    return value


def _crowd(bidders: int) -> Any:
    bids = 1000 if bidders > 3 else 10

    def work() -> bool:
        built = full_information_auction(bidders=bidders, bids=bids)
        even = np.full((1, bids), 1 / bids)
        report = built.check({f"bid{n}": even for n in range(1, bidders + 1)},
                             engine="contraction")  # fmt: skip
        own = np.arange(bids)
        above, below = (own + 1) / bids, own / bids
        worth = (bids - own) * (above**bidders - below**bidders) / (bidders / bids)
        exact = worth.max() - worth.mean()
        return bool(abs(report.max_regret - exact) < 1e-9 * max(exact, 1))

    return work, True


def _volunteers(players: int) -> Any:
    from workingpapers.opengames.library.commons import volunteering

    def work() -> bool:
        built = library.load("volunteers_dilemma").game(players=players)
        return built.check(volunteering(players), engine="contraction").ok

    return work, True


_SCALED: Mapping[str, Callable[[int], Any]] = {
    "irrigation": _irrigation_200,
    "public goods": _public_goods,
    "auction": _auction,
    "crowd": _crowd,
    "volunteers": _volunteers,
}


def time_kernel(task: TimingTask) -> Record:
    """Merged transitions per second of one evaluation, forward and backward together."""
    packed = first_price(size=task.size).packed
    profile = uniform(packed.frontier)[:, None]
    seconds = median_seconds(lambda: packed.evaluate(profile))
    return {"rate": packed.frontier.n_transitions / seconds,
            "transitions": packed.frontier.n_transitions}  # fmt: skip


# ---- design


CRACKING = {"monitor": "Work", "take1": "Crack", "take2": "Crack", "take3": "Crack"}


@dataclass(frozen=True)
class SweepTask:
    """A grid of pay rates and fines."""

    points: int


def sweep_irrigation(task: SweepTask) -> Record:
    """The monitored canal on a grid, beside the closed form: 6t >= 1 and 5(1-t-p) <= 2(1-t)."""
    factory = library.load("irrigation_monitored").factory
    axis = np.linspace(0, 1, task.points)
    grid = {"pay_rate": axis, "fine": axis}
    design.sweep(factory, {"pay_rate": axis[:3], "fine": axis[:3]}, CRACKING)
    seconds, found = [], None
    for _ in range(3):
        found = design.sweep(factory, grid, CRACKING, measures=("equilibrium",))
        seconds.append(found.seconds)
    assert found is not None
    rate, fine = np.meshgrid(axis, axis, indexing="ij")
    # Exact on the grid: its points are multiples of 1 / (points - 1), compared as whole numbers.
    n = task.points - 1
    t, p = np.rint(rate * n).astype(int), np.rint(fine * n).astype(int)
    exact = (6 * t >= n) & (5 * (n - t - p) <= 2 * (n - t))
    return {
        "agree": float(np.mean(exact == found.values["equilibrium"])),
        "rate": found.points / statistics.median(seconds),
        "points": found.points,
        "flags": found.values["equilibrium"],
        "axis": axis,
    }


def search_irrigation(task: CanalTask) -> Record:
    """The least pay rate that sustains cracking, and the least fine at that rate."""
    factory = library.load("irrigation_monitored").factory
    found = design.search(
        factory, {"pay_rate": (0.0, 1.0), "fine": (0.0, 1.0)}, ["-pay_rate", "-fine"],
        [design.equilibrium(CRACKING)], method="bisect",
    )  # fmt: skip
    return {
        "pay_rate": abs(found.parameters["pay_rate"] - 1 / 6),
        "fine": abs(found.parameters["fine"] - 0.5),
        "evaluations": found.evaluations,
    }


@dataclass(frozen=True)
class FamilyTask:
    """One institution of a family of related ones."""

    name: str
    farmers: int
    level: int


def family_tasks() -> list[FamilyTask]:
    """Irrigation institutions: variants, numbers of farmers, and water levels."""
    return [
        FamilyTask(name, farmers, level)
        for name, sizes in (
            ("irrigation", (2, 3, 4)),
            ("irrigation_monitored", (2, 3, 4)),
            ("irrigation_restitution", (2, 3, 4)),
        )
        for farmers in sizes
        for level in (2 * farmers, 3 * farmers + 1)
    ]


def compare_family(task: FamilyTask) -> Record:
    """The constant equilibria of an institution, by the solver and by an exhaustive reference."""
    built = library.load(task.name).game(farmers=task.farmers, level=task.level)
    packed, frontier = built.packed, built.frontier
    solved = solve.pure(built, constant=True)
    found = {tuple(one.profile.tolist()) for one in solved}
    expected = set()
    # Listed apart from the solver, whose list is what is compared.
    for profile in map(built.profile, library.constant_profiles(built)):
        values = evaluate_reference(packed, profile)
        current, best = packed.gains(profile[:, None], values)
        reached = values.group_weight[:, 0] > 0
        if (best[reached] - current[reached] <= 1e-9).all():
            expected.add(tuple(profile.tolist()))
    rows = []
    for chosen in sorted(expected, reverse=True)[:1]:
        vector = np.array(chosen)
        _, payoffs = flags(packed, vector[:, None])
        unequal = float(design.gini(payoffs)[0])
        moves = "".join(str(move)[0] for move in describe(frontier, vector).values())
        taken = _water(built, vector)
        rows.append({"plays": moves, "welfare": float(payoffs.sum()), "gini": unequal,
                     "water left": task.level - sum(taken.values()), "taken": taken})  # fmt: skip
    return {
        "mismatch": len(found ^ expected),
        "complete": solved.complete,
        "equilibria": len(expected),
        "rows": rows,
    }


def _water(built: Game, profile: np.ndarray) -> dict[str, float]:
    """What each farmer takes from the canal under a pure profile."""
    level = float(built.parameters["level"])
    taken = {}
    for name, move in describe(built.frontier, profile).items():
        if name.startswith("take"):
            units = min(level, 2 if move == "Crack" else 5)
            taken[name.replace("take", "farmer")] = units
            level -= units
    return taken


# ---- solving, repetition, simulation


def measure_kuhn(task: TimingTask) -> Record:
    """Kuhn poker by CFR+."""
    kuhn = library.load("kuhn_poker").game()
    solve.cfr(kuhn, iterations=10)
    begin = time.perf_counter()
    result = solve.cfr(kuhn, iterations=task.size)
    seconds = time.perf_counter() - begin
    item = result[0]
    first = next(iter(item.payoffs.values()))
    return {"error": abs(first + 1 / 18), "exploitability": item.nash_conv / 2, "seconds": seconds}


def measure_common_pool(task: CanalTask) -> Record:
    """The symmetric Nash total of the laboratory commons, its optimum, and Nash's share of it."""
    commons = library.load("common_pool")
    built = commons.game()
    users = 8

    def total_rent(own: int) -> float:
        paid = built.payoffs({f"put{n}": own for n in range(1, users + 1)})
        return sum(paid.values()) - users * 5.0 * 25

    nash = [
        own for own in range(26)
        if built.check({f"put{n}": own for n in range(1, users + 1)}).ok
    ]  # fmt: skip
    # 36 is no multiple of 8: totals are reached by users who differ by one token.
    rents = {}
    for total in range(30, 43):
        low, extra = divmod(total, users)
        moves = {f"put{n}": low + (n <= extra) for n in range(1, users + 1)}
        rents[total] = sum(built.payoffs(moves).values()) - users * 5.0 * 25
    optimum = max(rents, key=lambda total: rents[total])
    return {
        "nash": users * nash[0] if len(nash) == 1 else math.nan,
        "optimum": optimum,
        "share": total_rent(nash[0]) / rents[optimum],
    }


def measure_dynamic(task: CanalTask) -> Record:
    """Repeated and endless games beside their closed forms."""
    grim = dynamic.grim_trigger()
    trigger = {name: {"trust": "C", "broken": "D"} for name in ("player1", "player2")}
    critical = grim.critical_discount(trigger, 0.1, 0.9)
    ecology = dynamic.ecological_public_good()
    known: dict[float, dict[Any, Any]] = {
        0.5: {("D", "C"): (-2.58462, -7.50769)},
        0.9: {("C", "C"): (10.0, -16.31579), ("D", "C"): None},
        0.98: {("C", "C"): (50.0, 7.62712), ("D", "C"): None},
    }
    worst, sets_differ = 0.0, 0
    for discount, policies in known.items():
        found = {}
        for item in ecology.pure_equilibria(discount, symmetric=True):
            moves = item.strategies["player1"]
            policy = (
                (moves["prosperous"], moves["degraded"]) if isinstance(moves, dict)
                else (moves, moves)
            )  # fmt: skip
            values = ecology.values(
                {name: dict(zip(("prosperous", "degraded"), policy, strict=True))
                 for name in ("player1", "player2")}, discount,
            )  # fmt: skip
            found[policy] = tuple(values[state]["player1"] for state in ("prosperous", "degraded"))
        sets_differ += found.keys() != policies.keys()
        for policy, numbers in policies.items():
            if numbers is not None and policy in found:
                worst = max(
                    worst, *(abs(a - b) for a, b in zip(found[policy], numbers, strict=True))
                )
    staged = _three_stages().payoffs({"player": "go"})["player"]
    return {"critical": critical, "sets": sets_differ, "values": worst, "discounted": staged}


@game
def _stages(b: Trace, discount: float = 0.9) -> None:
    move = b.decide("player", ["go"])
    for number, paid in enumerate((0.5, 0.3, 1.0)):
        with b.discount(discount**number):
            b.pay("player", _constant(paid), move)


def _constant(paid: float) -> Callable[[Any], float]:
    return lambda move: paid


def _three_stages() -> Game:
    return _stages()


SIMULATED = (
    "irrigation_random_roles", "signal_coordination", "bayesian_prisoners_dilemma", "lemons",
    "job_signalling", "kuhn_poker", "meeting_in_new_york", "matching_pennies", "vote_on_game",
    "chicken_traffic_light",
)  # fmt: skip


@dataclass(frozen=True)
class PlayTask:
    """Sampled plays of one library game under a random profile."""

    name: str
    seed: int
    plays: int


def compare_plays(task: PlayTask) -> Record:
    """The largest distance of a sampled mean from the exact payoff, in standard errors."""
    built = library.load(task.name).game()
    profile = random_profile(built.frontier, np.random.default_rng(task.seed))
    exact = built.payoffs(profile, engine="frontier")
    plays = simulate.play(built, profile, task.plays, task.seed)
    worst = 0.0
    for player, value in exact.items():
        error = plays.standard_error[player]
        distance = abs(plays.mean[player] - value)
        worst = max(worst, distance / error if error > 0 else (0.0 if distance < 1e-9 else 1e9))
    return {"worst": float(worst)}


def time_plays(task: TimingTask) -> Record:
    """Seconds of a million plays on a canal with ten farmers."""
    built = library.load("irrigation").game(farmers=10, level=30)
    profile = uniform(built.frontier)
    seconds = median_seconds(lambda: simulate.play(built, profile, task.size, 0), 3)
    return {"seconds": seconds}


def compare_pure(task: RandomTask) -> Record:
    """Pure equilibria of random games, by the solver and one profile at a time."""
    generator = task.generator()
    differ = 0
    for _ in range(task.count):
        sample = random_game(generator, decisions=2)
        packed = sample.packed
        count = math.prod(
            len(actions) for one in packed.frontier.decisions for actions in one.actions
        )
        if count > 3000:
            continue
        found = {tuple(one.profile.tolist()) for one in solve.pure(sample, limit=10_000)}
        expected = set()
        for batch in profile_batches(packed.frontier.n_slots, solve.dials(packed.frontier), 1024):
            for column in batch.T:
                values = evaluate_reference(packed, np.ascontiguousarray(column))
                current, best = packed.gains(column[:, None], values)
                reached = values.group_weight[:, 0] > 0
                if (best[reached] - current[reached] <= 1e-9).all():
                    expected.add(tuple(column.tolist()))
        differ += found != expected
    return {"differ": differ}
