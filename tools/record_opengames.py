"""Record what pygambit answers about small games: tests/opengames/recorded/gambit.json.

Run it where pygambit is installed beside this package:

    pip install pygambit==16.7.0
    python tools/record_opengames.py

The games are ours: random ones, made below, and some of the library. Each is recorded with the
text of its extensive game file, from which pygambit computed and from which the tests compute.
"""

import importlib.metadata
import json
from pathlib import Path
from typing import Any

import numpy as np

from workingpapers.opengames import files, library
from workingpapers.opengames.games import Game
from workingpapers.opengames.strategy import random_profile
from workingpapers.opengames.trace import Trace

RECORD = Path(__file__).parent.parent / "tests" / "opengames" / "recorded" / "gambit.json"
RANDOM_GAMES = 20
LIBRARY_GAMES = (
    "prisoners_dilemma",
    "stag_hunt",
    "matching_pennies",
    "chicken_traffic_light",
    "irrigation",
    "irrigation_monitored",
    "irrigation_random_roles",
    "centipede",
    "seltens_horse",
    "bayesian_prisoners_dilemma",
)
# Enumeration of pure profiles stays instant below this.
_MOST_PROFILES = 2.6


def random_game(seed: int) -> Game:
    """Two or three players with perfect recall, chance, branches that are not always played.

    Payoffs are whole numbers from -4 to 4, so that ties occur.
    """
    generator = np.random.default_rng(seed)
    trace = Trace(f"random {seed}")
    players = ["alice", "bob", "carol"][: generator.integers(2, 4)]
    wires = []
    if generator.random() < 0.7:
        shares = generator.dirichlet(np.ones(3))
        wires.append(trace.nature(dict(enumerate(shares.tolist())), name="weather"))
    known: dict[str, list[Any]] = {player: [] for player in players}
    for number in range(int(generator.integers(2, 5))):
        player = players[number % len(players)]
        others = [wire for wire in wires if wire not in known[player]]
        seen = [wire for wire in others if generator.random() < 0.4]
        actions = list(range(int(generator.integers(2, 4))))
        # With perfect recall: all that was seen and done before, and perhaps more.
        known[player] += seen
        move = trace.decide(player, actions, sees=known[player], name=f"move{number}")
        known[player].append(move)
        wires.append(move)
    if generator.random() < 0.5:
        with trace.when(wires[-1], 0):
            last = trace.decide(players[0], ["in", "out"], sees=known[players[0]], name="last")
            for player in players:
                worth = dict(zip(["in", "out"], generator.integers(-4, 5, 2).tolist(), strict=True))
                trace.pay(player, worth.__getitem__, last)
    for player in players:
        for _ in range(2):
            size = min(len(wires), int(generator.integers(2, 4)))
            some = [wires[at] for at in sorted(generator.permutation(len(wires))[:size])]
            table = generator.integers(-4, 5, (3,) * size)
            trace.pay(player, lambda *codes, table=table: float(table[codes]), *some)
    return Game(trace)


def main() -> None:
    games = []
    seed = 0
    while len(games) < RANDOM_GAMES:
        game = random_game(seed)
        if game.size().log10_profiles <= _MOST_PROFILES:
            games.append(answers(game))
        seed += 1
    games += [answers(library.load(name).factory()) for name in LIBRARY_GAMES]
    version = json.dumps(importlib.metadata.version("pygambit"))
    lines = ",\n".join(json.dumps(one) for one in games)
    RECORD.parent.mkdir(parents=True, exist_ok=True)
    RECORD.write_text(f'{{"pygambit": {version}, "games": [\n{lines}\n]}}\n', encoding="utf-8")


def answers(game: Game) -> dict[str, Any]:
    """Regrets of three profiles and all pure equilibria, by labels of information sets."""
    import pygambit

    tree = files.to_gambit(game)
    sets = {one.label: one for one in files.information_sets(game, plain=True)}
    generator = np.random.default_rng(0)
    recorded = []
    for pure in (False, False, True):
        profile = random_profile(game.frontier, generator, pure=pure)
        behaviour = tree.mixed_behavior_profile()
        moves = {}
        for infoset in tree.infosets:
            first = sets[infoset.label].first_slot
            weights = profile[first : first + len(infoset.actions)].tolist()
            moves[infoset.label] = weights
            for action, weight in zip(infoset.actions, weights, strict=True):
                behaviour[action] = weight
        strategic = behaviour.as_strategy() if tree.is_perfect_recall else None
        recorded.append(
            {
                "moves": moves,
                "payoffs": {one.label: behaviour.payoff(one) for one in tree.players},
                "agent_max_regret": behaviour.agent_max_regret(),
                "agent_regrets": {
                    one.label: behaviour.infoset_regret(one)
                    for one in tree.infosets
                    if behaviour.infoset_prob(one) > 0
                },
                "player_regrets": strategic
                and {one.label: strategic.player_regret(one) for one in tree.players},
            }
        )
    agent = pygambit.nash.enumpure_agent_solve(tree).equilibria
    # Where somebody forgets, Gambit has no strategies to enumerate.
    nash = pygambit.nash.enumpure_solve(tree).equilibria if tree.is_perfect_recall else None
    return {
        "title": game.title,
        "efg": files.efg_text(game, plain=True),
        "profiles": recorded,
        "sets": [infoset.label for infoset in tree.infosets],
        "pure_agent_equilibria": sorted(_choices(tree, one) for one in agent),
        "pure_equilibrium_payoffs": nash
        and sorted([float(one.payoff(player)) for player in tree.players] for one in nash),
    }


def _choices(tree: Any, behaviour: Any) -> list[int]:
    """For each information set, the number of the action that a pure profile takes."""
    return [[behaviour[action] for action in infoset.actions].index(1) for infoset in tree.infosets]


if __name__ == "__main__":
    main()
