import json
import sys
from fractions import Fraction
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tools.record_opengames import random_game

from workingpapers.foundation.errors import InputError, MissingPackageError
from workingpapers.opengames import equilibrium, files
from workingpapers.opengames.gambit_text import exact_texts, plain_label
from workingpapers.opengames.games import Game, game
from workingpapers.opengames.strategy import observation_starts, random_profile
from workingpapers.opengames.trace import Trace

RECORD = json.loads((Path(__file__).parent / "recorded" / "gambit.json").read_text("utf-8"))


@game
def canal(b: Trace, farmers: int = 3, level: int = 10, pay_rate: float = 0.2) -> None:
    watch = b.decide("monitor", ["Work", "Shirk"])
    b.pay("monitor", lambda k: -1.0 if k == "Work" else 0.0, watch)
    water = b.const(level)
    for number in range(1, farmers + 1):
        move = b.decide(f"farmer{number}", ["Crack", "Flood"], sees=[water], name=f"take{number}")
        taken = b.let(lambda left, m: min(left, 2 if m == "Crack" else 5), water, move)
        b.pay(
            f"farmer{number}",
            lambda w, m, k: w * (1.0 if k == "Shirk" else 0.8 if m == "Crack" else 0.1),
            taken,
            move,
            watch,
        )
        b.pay("monitor", lambda w, k: pay_rate * w * (k == "Work"), taken, watch)
        water = b.let(lambda left, w: left - w, water, taken)


@game
def dilemma(b: Trace, reward: float = 3.0) -> None:
    moves = [b.decide(player, "CD") for player in ("row", "column")]
    worth = {"CC": (reward, reward), "CD": (0, 5), "DC": (5, 0), "DD": (1, 1)}
    for number, player in enumerate(("row", "column")):
        b.pay(player, lambda x, y, number=number: worth[x + y][number], *moves)


@game
def roles(b: Trace) -> None:
    """Who guards is drawn; both players may come to the same decision."""
    guard = b.nature({"anna": 1 / 3, "berta": 2 / 3}, name="guard")
    other = b.let(lambda name: "berta" if name == "anna" else "anna", guard)
    watch = b.decide(guard, ["Work", "Shirk"], name="watch")
    steal = b.decide(other, ["Take", "Leave"], name="steal")
    b.pay(guard, lambda w: -1.0 if w == "Work" else 0.0, watch)
    b.pay(other, lambda w, s: {"Take": -3.0 if w == "Work" else 4.0}.get(s, 1.0), watch, steal)


@game
def quarrel(b: Trace) -> None:
    """Names that need care: quotation marks, backslashes, letters beyond ASCII."""
    move = b.decide('Zoë "the\\cat"', ["naïve", 'say "no"', "back\\", 2, False, "2"], name="Zug №1")
    answer = b.decide("Ωmega", [(1, "x"), 2.5], sees=[move], name="réponse")
    b.pay('Zoë "the\\cat"', lambda m, a: hash_of(m) + hash_of(a), move, answer)
    b.pay("Ωmega", lambda m, a: hash_of(a) * 0.1, move, answer)


def hash_of(value: Any) -> float:
    return float(len(repr(value)))


GAMES = {
    "canal": canal(),
    "dilemma": dilemma(),
    "roles": roles(),
    "quarrel": quarrel(),
    **{f"random {seed}": random_game(seed) for seed in (0, 1, 3, 7, 22)},
}


def through(original: Game, tree: Game, profile: np.ndarray) -> np.ndarray:
    """The profile in the game that was read: labels say which decision is which observation."""
    found = np.full(tree.frontier.n_slots, np.nan)
    for one in files.information_sets(original):
        decision = tree.frontier.decision(one.label)
        assert decision.actions == [one.actions]
        weights = profile[one.first_slot : one.first_slot + len(one.actions)]
        found[decision.first_slot : decision.first_slot + len(weights)] = weights
    assert not np.isnan(found).any()
    return found


def assert_same_game(original: Game, other: Game, mapped: bool, notions: tuple[Any, ...]) -> None:
    generator = np.random.default_rng(1)
    for pure in (False, False, True):
        profile = random_profile(original.frontier, generator, pure=pure)
        moved = through(original, other, profile) if mapped else profile
        for notion in notions:
            ours = equilibrium.check(original.packed, profile, notion=notion)
            theirs = equilibrium.check(other.packed, moved, notion=notion)
            assert theirs.payoffs == pytest.approx(ours.payoffs, abs=1e-9)
            assert theirs.regret == pytest.approx(ours.regret, abs=1e-9)
            assert theirs.ok == ours.ok


# ---- trees


@pytest.mark.parametrize("name", GAMES)
def test_a_tree_reads_back_as_the_same_game(name: str, tmp_path: Path) -> None:
    original = GAMES[name]
    files.write_efg(original, tmp_path / "game.efg")
    tree = files.read_efg(tmp_path / "game.efg")
    assert tree.title == original.title
    assert set(tree.frontier.players) == set(original.frontier.players)
    assert_same_game(original, tree, True, ("agent", "player", "perfect"))


@pytest.mark.parametrize("name", GAMES)
def test_a_tree_that_was_read_is_written_as_the_same_text(name: str, tmp_path: Path) -> None:
    once, twice = tmp_path / "once.efg", tmp_path / "twice.efg"
    files.write_efg(GAMES[name], once)
    tree = files.read_efg(once)
    files.write_efg(tree, twice)
    ours, theirs = once.read_text("utf-8").splitlines(), twice.read_text("utf-8").splitlines()
    # Players are numbered as they first decide, sets and chance in the order of levels.
    assert len(ours) == len(theirs)
    ends = [
        sorted(tuple(sorted(line.split("{")[1].strip(" }").split(", "))) for line in lines[3:]
               if line.startswith("t"))
        for lines in (ours, theirs)
    ]  # fmt: skip
    assert ends[0] == ends[1]


def test_the_text_of_a_small_tree() -> None:
    @game
    def signal(b: Trace) -> None:
        state = b.nature({"good": 1 / 3, "bad": 2 / 3}, name="state")
        sure = b.nature({"always": 1.0}, name="sure")
        move = b.decide("ann", ["in", "out"], sees=[state])
        with b.when(move, "in"):
            reply = b.decide("bob", [1, 2], sees=[sure], name="reply")
            b.pay("bob", lambda r, s: r * (0.1 if s == "good" else -1), reply, state)
        b.pay("ann", 1e-7)

    assert files.efg_text(signal()) == (
        'EFG 2 R "signal" { "ann" "bob" }\n'
        '""\n'
        "\n"
        'c "" 1 "state" { "good" 1/3 "bad" 2/3 } 0\n'
        'p "" 1 1 "ann:good" { "in" "out" } 0\n'
        'p "" 2 1 "reply:always" { "1" "2" } 0\n'
        't "" 1 "" { 0.0000001, 0.1 }\n'
        't "" 2 "" { 0.0000001, 0.2 }\n'
        't "" 3 "" { 0.0000001, 0 }\n'
        'p "" 1 2 "ann:bad" { "in" "out" } 0\n'
        'p "" 2 1 "reply:always" { "1" "2" } 0\n'
        't "" 4 "" { 0.0000001, -1 }\n'
        't "" 5 "" { 0.0000001, -2 }\n'
        't "" 6 "" { 0.0000001, 0 }\n'
    )


def test_information_sets_of_roles_are_the_players_own() -> None:
    sets = files.information_sets(roles())
    assert {(one.player, one.label) for one in sets} == {
        (player, f"{decision} ({player})")
        for player in ("anna", "berta")
        for decision in ("watch", "steal")
    }
    for player in ("anna", "berta"):
        assert [one.number for one in sets if one.player == player] == [1, 2]


def test_plain_files_hold_printable_ascii_with_labels_that_differ() -> None:
    text = files.efg_text(GAMES["quarrel"], plain=True)
    assert text.isascii()
    assert text.splitlines()[0] == 'EFG 2 R "quarrel" { "Zoe \\"the/cat\\"" "?mega" }'
    assert '"Zug No1" { "naive" "say \\"no\\"" "back/" "2" "false" "2#2" }' in text
    assert plain_label("  a \t b\n") == "a b"
    assert plain_label("") == "_"


@given(st.lists(st.floats(1e-12, 1.0), min_size=2, max_size=8))
def test_written_probabilities_sum_to_exactly_one(weights: list[float]) -> None:
    shares = (np.array(weights) / sum(weights)).tolist()
    texts = exact_texts(shares)
    exact = [Fraction(text) for text in texts]
    assert sum(exact) == 1
    assert [float(one) for one in exact] == pytest.approx(shares, abs=1e-15)


def test_simple_probabilities_are_written_as_fractions() -> None:
    assert exact_texts([1 / 3, 1 / 3, 1 / 3]) == ["1/3", "1/3", "1/3"]
    assert exact_texts([0.1, 0.9]) == ["1/10", "9/10"]
    assert exact_texts([0.123456, 0.876544]) == ["0.123456", "0.876544"]


def test_a_tree_that_is_too_large_is_refused_before_it_is_built() -> None:
    with pytest.raises(InputError) as caught:
        files.efg_text(canal(farmers=12, level=36), max_nodes=1000)
    # 2 for the monitor's move, then a doubling with every farmer.
    assert str(caught.value) == (
        "canal: its tree has 16,383 nodes; expected at most 1,000 (max_nodes); JSON keeps the "
        "game as it is compiled"
    )

    @game
    def votes(b: Trace) -> None:
        for number in range(200):
            b.pay("all", 1.0, *[])
            b.decide(f"voter{number}", ["yes", "no"])

    # 2 to the 200 leaves, and as many other nodes.
    with pytest.raises(InputError, match=r"^votes: its tree has about 10\^60 nodes; expected"):
        files.efg_text(votes())


def test_a_long_chain_is_written_and_read_without_recursion(tmp_path: Path) -> None:
    @game
    def centipede(b: Trace, moves: int = 120) -> None:
        alive = b.const("go")
        for number in range(moves):
            with b.when(alive, "go"):
                player = ("ann", "bob")[number % 2]
                move = b.decide(player, ["go", "stop"], name=f"move{number}")
                b.pay(player, lambda m, number=number: number * (m == "stop"), move)
            alive = b.merge(move)

    original = centipede()
    files.write_efg(original, tmp_path / "long.efg")
    tree = files.read_efg(tmp_path / "long.efg")
    assert tree.payoffs(dict.fromkeys(tree.decisions, "go") | {"move119": "stop"}) == {
        "ann": 0.0,
        "bob": 119.0,
    }


def test_windows_files_comments_and_old_forms_are_read(tmp_path: Path) -> None:
    text = (
        '﻿EFG 2 D "Old \\"form\\"" { "1" "2" }\n"a comment\nof two lines"\n'
        'c "ROOT" 1 "coin" { "H" .5 "T" 1/2 } 7 "fee" { -1 -2e0 }\n'
        'p "" 1 1 "x" { "L" "L" "" } 0\nt "" 1 "A" { 1, 2 }\nt "" 1\nt "" 0\n'
        'p "" 1 1 7\nt "" 1 t "" 2 { +3 4. }\nt "" 2\n'
    )
    path = tmp_path / "windows.efg"
    path.write_bytes(text.replace("\n", "\r\n").encode())
    tree = files.read_efg(path)
    assert tree.title == 'Old "form"'
    assert tree.frontier.decision("x").actions == [("L", "L#2", "_3")]
    # The fee of the root, once or twice, and what the end pays.
    assert tree.payoffs({"x": "L"}) == {"1": -1 - 0.5 + 1, "2": -2 - 1 + 2}
    assert tree.payoffs({"x": "_3"}) == {"1": -1 - 0.5 + 1.5, "2": -2 - 1 + 2}


def test_sets_without_a_label_of_their_own_are_called_by_player_and_number(tmp_path: Path) -> None:
    path = tmp_path / "game.efg"
    path.write_text(
        'EFG 2 R "" { "ann" "" }\n'
        'p "" 1 3 "same" { "l" "r" } 0\n'
        'p "" 2 1 "same" { "l" "r" } 0\nt "" 1 "" { 1, 0 }\nt "" 2 "" { 0, 1 }\n'
        'p "" 2 2 "" { "l" "r" } 0\nt "" 0\nt "" 0\n',
        encoding="utf-8",
    )
    assert files.read_efg(path).decisions == ("ann:3", "player2:1", "player2:2")


def test_a_tree_of_one_node_is_a_game_without_decisions(tmp_path: Path) -> None:
    path = tmp_path / "end.efg"
    path.write_text('EFG 2 R "end" { "ann" "bob" }\nt "" 1 "" { 1, 2 }\n', encoding="utf-8")
    assert files.read_efg(path).payoffs({}) == {"ann": 1.0, "bob": 2.0}
    assert files.efg_text(files.read_efg(path)).splitlines()[-1] == 't "" 1 "" { 1, 2 }'


def test_what_chance_never_draws_is_no_part_of_the_game(tmp_path: Path) -> None:
    path = tmp_path / "never.efg"
    path.write_text(
        'EFG 2 R "never" { "ann" }\nc "" 1 "" { "a" 0 "b" 1 } 0\n'
        'p "" 1 1 "never" { "x" "y" } 0\nt "" 1 "" { 1 }\nt "" 2 "" { 2 }\n'
        'p "" 1 2 "here" { "x" "y" } 0\nt "" 1\nt "" 2\n',
        encoding="utf-8",
    )
    tree = files.read_efg(path)
    report = tree.check({"never": {}, "here": "x"})
    assert report.regret == {"ann": 1.0}


HEAD = 'EFG 2 R "t" { "a" "b" }\n'
BROKEN_TREES = {
    "no file type": ('GAME 2 R "t" {}', "line 1: expected EFG, found GAME"),
    "version": ('EFG 3 R "t" { "a" }', "line 1: expected version 2, found 3"),
    "title": ("EFG 2 R t { }", "line 1: expected the game's title in quotation marks, found t"),
    "unterminated text": (
        'EFG 2 R "t" { "a" }\n\nt "open 1\n',
        "line 3: the text that begins here has no closing quotation mark",
    ),
    "missing brace": (
        HEAD + 'p "" 1 1 "x" { "l" "r" 0\nt "" 0\nt "" 0\n',
        "line 2: expected an action's name or } in quotation marks, found 0",
    ),
    "too few payoffs": (
        HEAD + 't "" 1 "" { 1 }\n',
        "line 2: expected 2 payoffs, one a player, found 1",
    ),
    "too many payoffs": (
        HEAD + '\nt "" 1 "" { 1, 2,\n 3 }\n',
        "line 3: expected 2 payoffs, one a player, found 3",
    ),
    "unknown outcome": (
        HEAD + 'p "" 1 1 "x" { "l" "r" } 0\nt "" 1 "" { 1, 2 }\nt "" 2\n',
        "line 4: outcome 2 has no payoffs here or before",
    ),
    "another outcome": (
        HEAD + 'p "" 1 1 "x" { "l" "r" } 0\nt "" 1 "" { 1, 2 }\nt "" 1 "" { 1, 3 }\n',
        "line 4: outcome 1 has other payoffs than on line 3",
    ),
    "probabilities": (
        HEAD + 'c "" 1 "n" { "l" 1/3 "r" 1/2 } 0\nt "" 0\nt "" 0\n',
        "line 2: information set 1 of chance: the probabilities sum to 0.833333333333, expected 1",
    ),
    "negative": (
        HEAD + 'c "" 1 "n" { "l" -1/2 "r" 3/2 } 0\nt "" 0\nt "" 0\n',
        "line 2: information set 1 of chance: a probability is negative",
    ),
    "other actions": (
        HEAD + 'c "" 1 "n" { "l" 1/2 "r" 1/2 } 0\np "" 1 1 "x" { "u" "d" } 0\nt "" 0\nt "" 0\n'
        'p "" 1 1 "x" { "u" "v" } 0\nt "" 0\nt "" 0\n',
        "line 6: information set 1 of player 1 has other actions than on line 3",
    ),
    "no actions": (
        HEAD + 'p "" 1 1 0\n',
        "line 2: information set 1 of player 1 has no actions here or before",
    ),
    "empty actions": (
        HEAD + 'p "" 1 1 "x" { } 0\n',
        "line 2: information set 1 of player 1: expected at least one action",
    ),
    "trailing": (HEAD + 't "" 0\nt "" 0\n', "line 3: expected the end of the file, since the "
                 "tree is complete, found t"),
    "too early": (
        HEAD + 'p "" 1 1 "x" { "l" "r" } 0\nt "" 0\n\n',
        'line 3: the file ends before the tree does: no node follows the action "r" of the node '
        "on line 2",
    ),
    "nothing": (HEAD, "line 1: the file ends where a node (c, p or t) was expected"),
    "kind": (HEAD + 'q "" 0', "line 2: expected a node (c, p or t), found q"),
    "player": (HEAD + 'p "" 3 1 "x" { "l" } 0', "line 2: expected a player from 1 to 2, found 3"),
    "number": (
        HEAD + 't "" 1 "" { one, 2 }',
        "line 2: expected a payoff or } (a decimal number or a fraction), found one",
    ),
    "division": (
        HEAD + 't "" 1 "" { 1/0, 2 }',
        "line 2: expected a payoff or } with a denominator above 0, found 1/0",
    ),
    "infinite": (
        HEAD + 't "" 1 "" { 1e999, 2 }',
        "line 2: expected a payoff or } below 1e308, found 1e999",
    ),
    "same players": ('EFG 2 R "t" { "a"\n"a" }', "line 2: players 1 and 2 are both called a"),
    "twice on a path": (
        HEAD + 'p "" 1 1 "x" { "l" "r" } 0\np "" 1 1 0\nt "" 0\nt "" 0\nt "" 0\n',
        'line 2: information set "x" comes twice on one path; expected an order of all '
        "information sets",
    ),
    "no order": (
        HEAD + 'c "" 1 "" { "l" 1/2 "r" 1/2 } 0\n'
        'p "" 1 1 "x" { "u" "d" } 0\np "" 2 1 "y" { "u" "d" } 0\nt "" 0\nt "" 0\nt "" 0\n'
        'p "" 2 1 0\np "" 1 1 0\nt "" 0\nt "" 0\nt "" 0\n',
        'line 3: information set "x" comes both before and after "y"; expected an order of all '
        "information sets",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN_TREES)
def test_a_broken_tree_is_refused_with_its_line(what: str, tmp_path: Path) -> None:
    text, message = BROKEN_TREES[what]
    path = tmp_path / "broken.efg"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        files.read_efg(path)
    assert str(caught.value) == f"{path}, {message}"


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_tree_with_a_damaged_place_is_read_or_refused_in_words(
    data: st.DataObject, tmp_path: Path
) -> None:
    text = files.efg_text(GAMES["random 3"])
    at = data.draw(st.integers(0, len(text) - 1))
    damage = data.draw(st.sampled_from(["", '"', "{", "}", "x", "1", "-", "\\", "\n", "/0", " t "]))
    path = tmp_path / "damaged.efg"
    path.write_text(text[:at] + damage + text[at + 1 :], encoding="utf-8")
    try:
        tree = files.read_efg(path)
    except InputError as error:
        refusal = str(error)
    else:
        refusal = f"{path}, line 0"
        assert tree.frontier.n_slots > 0
    assert refusal.startswith(f"{path}, line ")


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    missing, wrong = tmp_path / "no.efg", tmp_path / "bytes.efg"
    wrong.write_bytes(b'EFG 2 R "\xff"')
    for path, message in (
        (missing, "no such file"),
        (tmp_path, "expected a file, found a folder"),
        (wrong, "not UTF-8 text"),
    ):
        with pytest.raises(InputError) as caught:
            files.read_efg(path)
        assert str(caught.value) == f"{path}: {message}"


# ---- against the record of pygambit


@pytest.mark.parametrize("number", range(len(RECORD["games"])))
def test_regrets_and_pure_equilibria_are_those_of_gambit(number: int, tmp_path: Path) -> None:
    entry = RECORD["games"][number]
    path = tmp_path / "game.efg"
    path.write_text(entry["efg"], encoding="utf-8")
    tree = files.read_efg(path)
    packed, frontier = tree.packed, tree.frontier
    for recorded in entry["profiles"]:
        profile = np.zeros(frontier.n_slots)
        for label, weights in recorded["moves"].items():
            first = frontier.decision(label).first_slot
            profile[first : first + len(weights)] = weights
        agent = equilibrium.check(packed, profile)
        assert agent.payoffs == pytest.approx(recorded["payoffs"], abs=1e-9)
        assert agent.max_regret == pytest.approx(recorded["agent_max_regret"], abs=1e-9)
        gains = {one.decision: max(one.gain, 0.0) for one in agent.decisions}
        assert gains == pytest.approx(recorded["agent_regrets"], abs=1e-9)
        if recorded["player_regrets"] is not None:
            nash = equilibrium.check(packed, profile, notion="player")
            assert nash.regret == pytest.approx(recorded["player_regrets"], abs=1e-9)
    profiles = pure_profiles(tree, entry["sets"])
    excess, payoffs = equilibrium.flags(packed, np.array(list(profiles.values())).T)
    found = [choices for choices, gain in zip(profiles, excess, strict=True) if gain <= 0]
    assert sorted(found) == [tuple(one) for one in entry["pure_agent_equilibria"]]
    wanted = entry["pure_equilibrium_payoffs"]
    if wanted is not None:
        # A Nash equilibrium is one in agent form; what a player rules out himself is left open.
        kept: dict[Any, list[float]] = {}
        for choices, values in zip(profiles, payoffs.T.tolist(), strict=True):
            if choices in set(found):
                profile = profiles[choices]
                if all(gain(tree, profile, number) <= 1e-9 for number in range(len(values))):
                    named = dict(zip(frontier.players, values, strict=True))
                    kept[reduced(tree, profile)] = [named[p] for p in recorded["payoffs"]]
        ours, theirs = (
            np.array(sorted(rows, key=lambda row: [round(value, 6) for value in row]))
            for rows in (kept.values(), wanted)
        )
        assert ours == pytest.approx(theirs, abs=1e-9)


def gain(tree: Game, profile: np.ndarray, player: int) -> float:
    best, stays, _ = equilibrium.best_response_value(tree.packed, profile, player)
    return best - stays


def pure_profiles(tree: Game, labels: list[str]) -> dict[tuple[int, ...], np.ndarray]:
    """Every pure profile, by the number of the action at each information set."""
    decisions = [tree.frontier.decision(label) for label in labels]
    found = {}
    for choices in product(*(range(len(decision.actions[0])) for decision in decisions)):
        profile = np.zeros(tree.frontier.n_slots)
        for decision, choice in zip(decisions, choices, strict=True):
            profile[decision.first_slot + choice] = 1.0
        found[choices] = profile
    return found


def reduced(tree: Game, profile: np.ndarray) -> bytes:
    """The profile without the choices that their player's own earlier choices make idle."""
    packed = tree.packed
    kept = np.zeros(len(profile))
    for player in range(len(tree.frontier.players)):
        own = packed.group_player == player
        slots = [packed.report_to_slot[packed.group_start[one] : packed.group_start[one + 1]]
                 for one in range(len(own))]  # fmt: skip
        # Whatever the others do: everywhere but at his own information sets all moves are made.
        free = np.ones(len(profile))
        for group in np.flatnonzero(own):
            free[slots[group]] = profile[slots[group]]
        possible = np.zeros(packed.n_states, dtype=bool)
        possible[0] = True
        for at, stage in enumerate(tree.frontier.stages):
            source = np.repeat(np.arange(stage.n_states), np.diff(stage.start))
            moves = np.ones(stage.n_transitions)
            if stage.decision >= 0:
                moves = np.where(stage.slot >= 0, free[stage.slot], 1.0)
            here, there = packed.state_offset[at], packed.state_offset[at + 1]
            passed = possible[here + source] & (moves > 0)
            possible[there + stage.next[passed]] = True
        for group in np.flatnonzero(own):
            if possible[np.flatnonzero(packed.group == group)].any():
                kept[slots[group]] = profile[slots[group]]
    return kept.tobytes()


# ---- tables


@pytest.mark.parametrize("outcomes", [False, True])
def test_a_table_reads_back_as_the_same_game(outcomes: bool, tmp_path: Path) -> None:
    @game
    def crowd(b: Trace) -> None:
        luck = b.nature({"sun": 0.25, "rain": 0.75}, name="luck")
        moves = [
            b.decide(player, actions, name=f"{player}'s move")
            for player, actions in (("Ann", "xyz"), ('Bo "B"', [1, 2]), ("Cy", ["only"]))
        ]
        b.pay("Ann", lambda w, x, y: (w == "sun") + "xyz".index(x) * y, luck, *moves[:2])
        b.pay('Bo "B"', lambda x, y: -0.5 * "xyz".index(x) / y, *moves[:2])
        b.pay("nobody", lambda y: y / 3, moves[1])

    original = crowd()
    path = tmp_path / "game.nfg"
    files.write_nfg(original, path, outcomes=outcomes)
    table = files.read_nfg(path)
    assert table.decisions == ("Ann", 'Bo "B"', "Cy", "nobody")
    for first, second in product("xyz", [1, 2]):
        ours = original.check({"Ann's move": first, 'Bo "B"\'s move': second, "Cy's move": "only"})
        theirs = table.check({"Ann": first, 'Bo "B"': str(second), "Cy": "only", "nobody": "-"})
        assert theirs.payoffs == pytest.approx(ours.payoffs, abs=1e-12)
        assert theirs.regret == pytest.approx(ours.regret, abs=1e-12)
    again = files.nfg_text(table, outcomes=outcomes)
    assert again.replace(table.title, original.title) == path.read_text("utf-8")


def test_the_two_texts_of_a_table() -> None:
    top = 'NFG 1 R "dilemma" { "row" "column" }\n\n{ { "C" "D" }\n{ "C" "D" } }\n""\n\n'
    # The first player's strategy changes fastest.
    assert files.nfg_text(dilemma()) == top + "3 3\n5 0\n0 5\n1 1\n"
    assert files.nfg_text(dilemma(reward=1), outcomes=True) == (
        top + '{\n{ "" 1, 1 }\n{ "" 5, 0 }\n{ "" 0, 5 }\n}\n1 2 3 1\n'
    )


def test_a_table_by_numbers_of_strategies_is_read(tmp_path: Path) -> None:
    path = tmp_path / "game.nfg"
    path.write_bytes(b'NFG 1 R "t" { "a" "b" } { 2 1 }\r\n1 2\r\n3/4 4\r\n')
    table = files.read_nfg(path)
    assert table.payoffs({"a": "2", "b": "1"}) == {"a": 0.75, "b": 4.0}
    path.write_text('NFG 1 R "t" { "a" } { { "x" "y" } } "c" { { "o" 5 } } 0 1', encoding="utf-8")
    assert [files.read_nfg(path).payoffs({"a": x})["a"] for x in "xy"] == [0.0, 5.0]


TABLE = 'NFG 1 R "t" { "a" "b" } { { "x" "y" }\n{ "u" } }\n'
BROKEN_TABLES = {
    "a tree": ('EFG 2 R "t" { }', "line 1: expected NFG, found EFG"),
    "too few": (TABLE + "1 2 3\n", "line 3: the file ends where payoff 4 of 4 (a decimal number "
                "or a fraction) was expected"),
    "too many": (
        TABLE + "1 2 3 4\n5\n", "line 4: expected the end of the file after 2 profiles, found 5"
    ),
    "players": (
        'NFG 1 R "t" { "a" "b" }\n{ { "x" } }', "line 2: expected the strategies of 2 players, "
        "found 1"
    ),
    "no strategy": (
        'NFG 1 R "t" { "a" }\n{ { } }', "line 2: expected at least one strategy of a player"
    ),
    "hordes": (
        'NFG 1 R "t" { "a" }\n{ 99999999999 } 1',
        "line 2: 99999999999 strategies are more than this file has payoffs for",
    ),
    "outcome": (TABLE + '{ { "" 1, 2 } }\n1 2', "line 4: outcome 2 is not there; there are 1"),
    "payoffs": (
        TABLE + '{\n{ "" 1 } }\n1 2', "line 4: expected 2 payoffs, one a player, found 1"
    ),
    "brace": (TABLE + '{ { "" 1 2 }\n', "line 3: the file ends where } after the outcomes was "
              "expected"),
    "word": (TABLE + "1 two", "line 3: expected payoff 2 of 4 (a decimal number or a fraction), "
             "found two"),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN_TABLES)
def test_a_broken_table_is_refused_with_its_line(what: str, tmp_path: Path) -> None:
    text, message = BROKEN_TABLES[what]
    path = tmp_path / "broken.nfg"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        files.read_nfg(path)
    assert str(caught.value) == f"{path}, {message}"


def test_games_that_are_no_tables_are_refused() -> None:
    wanted = "a strategic game file has one decision a player, who sees nothing there"

    @game
    def twice(b: Trace) -> None:
        for name in ("first", "second"):
            b.pay("ann", lambda m: m, b.decide("ann", [0, 1], name=name))

    for made, message in (
        (canal(), f"canal: the decision take1 depends on what is seen; {wanted} (write_efg has "
         "trees)"),
        (twice(), f"twice: the decision second is not the only one of ann; {wanted}"),
        (roles(), f"roles: the decision watch is taken by one of several players; {wanted}"),
    ):  # fmt: skip
        with pytest.raises(InputError) as caught:
            files.nfg_text(made)
        assert str(caught.value) == message
    with pytest.raises(InputError) as caught:
        files.nfg_text(dilemma(), max_profiles=3)
    assert str(caught.value) == (
        "dilemma: its table has 4 profiles; expected at most 3 (max_profiles)"
    )


# ---- compiled games


@pytest.mark.parametrize("name", GAMES)
def test_json_gives_back_the_very_frontier(name: str, tmp_path: Path) -> None:
    original, path = GAMES[name], tmp_path / "game.json"
    files.write_json(original, path)
    other = files.read_json(path)
    assert_same_frontier(other.frontier, original.frontier)
    assert other.title == original.title
    assert_same_game(original, other, False, ("agent", "player", "perfect"))
    files.write_json(other, tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()


def assert_same_frontier(one: Any, other: Any) -> None:
    """Field by field, through lists and dataclasses, bit for bit."""
    assert type(one) is type(other)
    if hasattr(one, "__dataclass_fields__") and not isinstance(one, type):
        for name in one.__dataclass_fields__:
            assert_same_frontier(getattr(one, name), getattr(other, name))
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            assert_same_frontier(left, right)
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        assert one.tobytes() == other.tobytes()
    else:
        assert one == other


def test_a_game_whose_values_have_no_json_form_is_refused(tmp_path: Path) -> None:
    @game
    def odd(b: Trace) -> None:
        move = b.decide("ann", [complex(1, 2), 3])
        b.pay("ann", lambda m: abs(m), move)

    with pytest.raises(InputError) as caught:
        files.write_json(odd(), tmp_path / "odd.json")
    assert str(caught.value) == "(1+2j): a complex has no JSON form"


BROKEN_GAMES: dict[str, tuple[Any, str]] = {
    "schema": (lambda c: c.update(schema=2), "schema: expected 1, found 2"),
    "no players": (lambda c: c.pop("players"), "players: is missing; expected a list of texts"),
    "player": (lambda c: c["columns"][0].append("eve"), 'columns[0]: "eve" is none of the players'),
    "nobody": (lambda c: c["columns"].__setitem__(0, []),
               "columns[0]: expected at least one player"),
    "twice": (lambda c: c.update(players=["row", "row"]),
              "players: the entries are not all different"),
    "absent": (lambda c: c["values"].pop(0), 'values[0]: expected {"absent": true}'),
    "value": (lambda c: c["values"].append({"fraction": "1/0"}),
              'values[3]: {"fraction": "1/0"} is not the JSON form of a value'),
    "payoff": (lambda c: c["table"][1].__setitem__(0, "5"),
               'table[1][0]: expected a number, found "5"'),
    "ragged": (lambda c: c["table"][1].append(3), "table[1]: expected 1 entries"),
    "actions": (lambda c: c["decisions"][0]["actions"].__setitem__(0, []),
                "decisions[0].actions[0]: expected at least one action"),
    "group": (lambda c: c["decisions"][0]["groups"][0].update(player="x"),
              'decisions[0].groups[0].player: "x" is none of the players'),
    "observation": (lambda c: c["decisions"][0]["groups"][0].update(observation=1),
                    "decisions[0].groups[0].observation: expected a whole number from 0 to 0, "
                    "found 1"),
    "eps": (lambda c: c["decisions"][1].update(eps=-1),
            "decisions[1].eps: expected at least 0, found -1.0"),
    "next": (lambda c: c["stages"][1]["next"].__setitem__(1, 7),
             "stages[1].next[1]: expected a whole number from 0 to 1, found 7"),
    "gap": (lambda c: c["stages"][2].update(next=[0, 0, 2, 2]),
            "stages[2].next: no transition leads to the state 1"),
    "start": (lambda c: c["stages"][1].update(start=[0, 0]),
              "stages[1].start: expected numbers that begin with 0 and rise"),
    "states": (lambda c: c["stages"][2]["start"].pop(),
               "stages[2].start: expected 3 entries, found 2"),
    "outcome": (lambda c: c["stages"][2]["outcome"].__setitem__(0, 9),
                "stages[2].outcome[0]: expected a whole number from 0 to 2, found 9"),
    "probability": (lambda c: c["stages"][0].update(probability=[0.5]),
                    "stages[0].probability: those of the state 0 sum to 0.5, expected 1"),
    "negative": (lambda c: c["stages"][0].update(probability=[-1]),
                 "stages[0].probability[0]: is negative"),
    "slot": (lambda c: c["stages"][1].update(slot=[1, 0]),
             "stages[1].slot: expected 0, 1 for the state 0, found 1, 0"),
    "another's group": (lambda c: c["stages"][1].update(group=[1]),
                        "stages[1].group[0]: 1 is no group of row"),
    "rows": (lambda c: c["stages"][2]["pays"][0]["rows"].append(0),
             "stages[2].pays[0].rows: expected 4 entries, found 5"),
    "column": (lambda c: c["stages"][2]["pays"][0].update(column=2),
               "stages[2].pays[0].column: expected a whole number from 0 to 1, found 2"),
    "live": (lambda c: c["stages"][2]["states"][0].append(0),
             "stages[2].states[0]: expected 1 entries, found 2"),
    "no stage": (lambda c: c["stages"].pop(),
                 "stages: expected one stage for each decision, in their order"),
    "a list": (lambda c: c.update(stages={}), "stages: expected a list of objects, found {}"),
    "an object": (lambda c: c["decisions"].append(3), "decisions[2]: expected an object"),
    "true": (lambda c: c.update(schema=True), "schema: expected the number 1, found true"),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN_GAMES)
def test_a_broken_compiled_game_is_refused_with_its_field(what: str, tmp_path: Path) -> None:
    change, message = BROKEN_GAMES[what]
    path = tmp_path / "broken.json"
    files.write_json(dilemma(), path)
    content = json.loads(path.read_text("utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        files.read_json(path)
    assert str(caught.value) == f"{path}: {message}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{\n "schema": 1,\n "title" 2}', ", line 3: not JSON (Expecting ':' delimiter)"),
        ('{\n "schema": NaN}', ": NaN is not JSON; expected a finite number"),
        ("[1]", ": the file: expected an object"),
        ("[" * 100_000, ": not JSON that can be read (nested too deeply)"),
        ("", ", line 1: not JSON (Expecting value)"),
    ],
)
def test_json_that_breaks_is_refused_with_its_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        files.read_json(path)
    assert str(caught.value) == f"{path}{message}"


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_compiled_game_with_any_number_changed_is_a_game_or_refused(
    data: st.DataObject, tmp_path: Path
) -> None:
    path = tmp_path / "game.json"
    files.write_json(GAMES["random 3"], path)
    content = json.loads(path.read_text("utf-8"))
    holder, key = content, data.draw(st.sampled_from(sorted(content)))
    while isinstance(holder[key], list | dict) and holder[key] and data.draw(st.integers(0, 9)):
        holder = holder[key]
        keys = list(range(len(holder))) if isinstance(holder, list) else sorted(holder)
        key = data.draw(st.sampled_from(keys))
    holder[key] = data.draw(st.sampled_from([-1, 0, 1, 2, 10**30, 0.5, "x", None, [], {}, True]))
    path.write_text(json.dumps(content), encoding="utf-8")
    try:
        made = files.read_json(path)
    except InputError as error:
        refusal = str(error)
    else:
        refusal = f"{path}: "
        assert_playable(made)
    assert refusal.startswith(f"{path}: ")


def assert_playable(made: Game) -> None:
    profile = random_profile(made.frontier, np.random.default_rng(0))
    assert np.isfinite(list(equilibrium.check(made.packed, profile).payoffs.values())).all()


# ---- institutions and users' code


SOURCE = """
from workingpapers.opengames.games import game


@game
def hunt(b, stag=2.0):
    moves = [b.decide(player, ["Stag", "Hare"]) for player in ("ann", "bob")]
    for player in ("ann", "bob"):
        b.pay(player, lambda x, y: stag if x == y == "Stag" else 0.0, *moves)


def plain(b, prize=1):
    b.pay("ann", prize, *[])
    b.decide("ann", ["x"])


FIVE = 5
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "hunt.py"
    path.write_text(SOURCE, encoding="utf-8")
    return path


def test_an_institution_is_run_only_with_trust(source: Path, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    source.write_text(SOURCE + f"\nopen({str(marker)!r}, 'w').close()\n", encoding="utf-8")
    path = tmp_path / "hunt.json"
    content = {
        "module": "hunt.py:hunt",
        "params": {"stag": 3.0},
        "strategies": {"ann": "Stag", "bob": {"Stag": 0.5, "Hare": 0.5}},
    }
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        files.read_spec(path)
    assert str(caught.value) == (
        f"{path}: names the code hunt.py:hunt, which was not run; --trust imports it"
    )
    assert not marker.exists()
    found = files.read_spec(path, trust=True)
    assert marker.exists()
    assert found.game.payoffs(found.strategies) == {"ann": 1.5, "bob": 1.5}
    assert files.read(path, trust=True).game.parameters == {"stag": 3.0}


def test_an_institution_may_be_toml(source: Path, tmp_path: Path) -> None:
    path = tmp_path / "hunt.toml"
    path.write_text(
        'module = "hunt.py:hunt"\n[params]\nstag = 4\n[strategies]\nann = "Stag"\nbob = "Stag"\n',
        encoding="utf-8",
    )
    found = files.read(path, trust=True)
    assert found.game.payoffs(found.strategies) == {"ann": 4.0, "bob": 4.0}
    path.write_text('module = "a"\nparams = {\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"hunt\.toml, line \d: not TOML \(.*\)$"):
        files.read_spec(path)


def test_a_compiled_game_is_read_as_an_institution_without_trust(tmp_path: Path) -> None:
    path = tmp_path / "game.json"
    files.write_json(dilemma(), path)
    found = files.read_spec(path)
    assert found.strategies == {}
    assert found.game.payoffs({"row": "D", "column": "C"}) == {"row": 5.0, "column": 0.0}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"modul": "x:y"}, "modul: no such field; there are module"),
        ({"params": {}}, "module: is missing; expected text"),
        ({"module": "hunt.py:hunt", "params": []}, "params: expected an object, found []"),
    ],
)
def test_an_institution_with_a_wrong_field_is_refused(
    content: Any, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        files.read_spec(path, trust=True)
    assert str(caught.value) == f"{path}: {message}"


def test_a_users_function_is_loaded_decorated_or_not(source: Path) -> None:
    hunt = files.load_user_game(f"{source}:hunt", {"stag": 2})
    assert hunt(stag=6).payoffs({"ann": "Stag", "bob": "Stag"}) == {"ann": 6.0, "bob": 6.0}
    assert files.load_user_game(f"{source}:plain").params == {"prize": 1}
    assert hunt.description_length() > 10
    module = "workingpapers.opengames.library.social:prisoners_dilemma"
    assert files.load_user_game(module).name == "prisoners_dilemma"


def test_what_stands_beside_a_users_file_can_be_imported(source: Path, tmp_path: Path) -> None:
    neighbour = tmp_path / "neighbour_of_hunt.py"
    neighbour.write_text("STAG = 7.0\n", encoding="utf-8")
    source.write_text("from neighbour_of_hunt import STAG\n" + SOURCE, encoding="utf-8")
    before = list(sys.path)
    files.load_user_game(f"{source}:hunt")
    assert sys.path == before


def test_a_relative_path_names_the_line_too(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source.write_text("\n\nraise KeyError(3)\n", encoding="utf-8")
    with pytest.raises(InputError) as caught:
        files.load_user_game("hunt.py:hunt")
    assert str(caught.value) == "hunt.py, line 3: KeyError: 3"


def test_users_code_that_is_not_there_or_wrong_is_refused(source: Path, tmp_path: Path) -> None:
    def refused(text: str, params: Any = None) -> str:
        with pytest.raises(InputError) as caught:
            files.load_user_game(text, params)
        return str(caught.value)

    assert refused("hunt") == ("hunt: expected path/to/file.py:function or package.module:function")
    assert refused(f"{tmp_path / 'no.py'}:hunt") == f"{tmp_path / 'no.py'}: no such file"
    assert refused(f"{source}:hunf") == f"{source}: no function 'hunf'; there are hunt"
    assert refused(f"{source}:FIVE") == f"{source}: FIVE is a int; expected a function with @game"
    assert refused(f"{source}:hunt", {"stagg": 1}) == (
        "parameter 'stagg' is not in hunt; there are stag"
    )
    assert refused("no_such_package.games:hunt") == "no_such_package.games: no such module"
    source.write_text(SOURCE + "\nx = [][1]\n", encoding="utf-8")
    line = SOURCE.count("\n") + 2
    assert (
        refused(f"{source}:hunt") == f"{source}, line {line}: IndexError: list index out of range"
    )
    source.write_text("def (:\n", encoding="utf-8")
    assert refused(f"{source}:hunt") == f"{source}, line 1: invalid syntax"
    source.write_text("import no_such_package\n", encoding="utf-8")
    assert refused(f"{source}:hunt") == (
        f"{source}, line 1: ModuleNotFoundError: No module named 'no_such_package'"
    )
    source.write_text("raise SystemExit(3)\n", encoding="utf-8")
    assert refused(f"{source}:hunt") == f"{source}, line 1: SystemExit: 3"


# ---- other programs, any file


def test_the_reader_of_a_file_is_told_by_its_suffix(tmp_path: Path) -> None:
    files.write_json(dilemma(), tmp_path / "game.json")
    (tmp_path / "spec.json").write_text('{"module": "a:b"}', encoding="utf-8")
    assert files.sniff(tmp_path / "x.EFG") is files.read_efg
    assert files.sniff("x.nfg") is files.read_nfg
    assert files.sniff(tmp_path / "game.json") is files.read_json
    assert files.sniff(tmp_path / "spec.json") is files.read_spec
    assert files.sniff("x.toml") is files.read_spec
    with pytest.raises(InputError) as caught:
        files.sniff("x.txt")
    assert str(caught.value) == ("x.txt: expected a file that ends in .efg, .nfg, .json or .toml")
    files.write_nfg(dilemma(), tmp_path / "game.nfg")
    assert files.read(tmp_path / "game.nfg").game.decisions == ("row", "column")


def test_other_programs_are_named_with_the_extra_that_brings_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for convert, package, module, extra in (
        (files.to_gambit, "pygambit", "pygambit", "gambit"),
        (files.to_openspiel, "open_spiel", "pyspiel", "spiel"),
    ):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(MissingPackageError) as caught:
            convert(dilemma())
        assert str(caught.value) == (
            f"{package} is not installed: pip install 'workingpapers[{extra}]' brings it"
        )


@pytest.mark.skipif(find_spec("pygambit") is None, reason="pygambit is not installed")
@pytest.mark.parametrize("name", GAMES)
def test_gambit_takes_what_is_written_and_agrees(name: str) -> None:
    original = GAMES[name]
    tree = files.to_gambit(original)
    sets = {one.label: one for one in files.information_sets(original, plain=True)}
    profile = random_profile(original.frontier, np.random.default_rng(2))
    behaviour = tree.mixed_behavior_profile()
    for infoset in tree.infosets:
        for at, action in enumerate(infoset.actions):
            behaviour[action] = profile[sets[infoset.label].first_slot + at]
    report = equilibrium.check(original.packed, profile)
    assert behaviour.agent_max_regret() == pytest.approx(report.max_regret, abs=1e-9)


def test_every_observation_has_one_information_set() -> None:
    for made in GAMES.values():
        sets = files.information_sets(made)
        assert len({one.label for one in sets}) == len(sets)
        assert {one.first_slot for one in sets} == set(
            observation_starts(made.frontier)[:-1].tolist()
        )
