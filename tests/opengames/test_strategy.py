"""Strategies: every way to write one, what is refused, vectors, files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workingpapers.foundation.errors import InputError
from workingpapers.opengames.compile import ProbabilityError, compile_trace
from workingpapers.opengames.games import Game, game
from workingpapers.opengames.sampling import random_game
from workingpapers.opengames.strategy import (
    describe,
    observation_starts,
    random_profile,
    read_strategies,
    resolve,
    to_json,
    tremble,
    uniform,
)
from workingpapers.opengames.trace import Trace

seeds = st.integers(0, 2**31)


@game
def water(b):
    level = b.nature({2: 0.25, 5: 0.75}, name="level")
    watch = b.decide("monitor", ["Work", "Shirk"])
    take = b.decide("farmer", ["Crack", "Flood"], sees=[level, watch], name="take1")
    leave = b.decide("farmer", lambda v: range(v), sees=[level], name="leave1")
    b.pay("farmer", lambda v, t, n: float(v - n) * (t == "Flood"), level, take, leave)
    b.pay("monitor", lambda w: float(w == "Work"), watch)


BASE = {"monitor": "Work", "take1": "Flood", "leave1": 0}
SEEN = [(2, "Work"), (2, "Shirk"), (5, "Work"), (5, "Shirk")]


def at(name: str, strategy: Any) -> dict[Any, dict[Any, float]]:
    """{observation: {action: probability}} of one decision."""
    frontier = water().frontier
    profile = resolve(frontier, {**BASE, name: strategy})
    decision = frontier.decision(name)
    return {
        observation: {
            action: float(weight)
            for action, weight in zip(
                decision.actions[k], profile[decision.starts[k] : decision.starts[k + 1]],
                strict=True,
            )
            if weight
        }
        for k, observation in enumerate(decision.observations)
    }  # fmt: skip


@pytest.mark.parametrize(
    "strategy",
    [
        "Flood",
        {"Flood": 1},
        lambda level, watch: "Flood",
        lambda level, watch: {"Flood": 1.0, "Crack": 0.0},
        dict.fromkeys(SEEN, "Flood"),
        {seen: {"Flood": 1} for seen in SEEN},
        {json.dumps(seen): {"Flood": 1} for seen in SEEN},
        np.tile([0.0, 1.0], (4, 1)),
    ],
)
def test_ways_to_write_one_strategy(strategy):
    assert at("take1", strategy) == {seen: {"Flood": 1.0} for seen in SEEN}


def test_mixtures_and_observations():
    mixed = {"Crack": 0.25, "Flood": 0.75}
    assert at("monitor", {"Work": 1 / 3, "Shirk": 2 / 3})[()]["Work"] == pytest.approx(1 / 3)
    assert at("monitor", {(): "Shirk"}) == {(): {"Shirk": 1.0}}
    assert at("take1", mixed) == dict.fromkeys(SEEN, mixed)
    assert at("take1", lambda level, watch: mixed if level == 2 else "Crack") == {
        seen: mixed if seen[0] == 2 else {"Crack": 1.0} for seen in SEEN
    }
    # One seen wire: its value is the key, or its text in a file.
    for keys in ((2, 5), ("2", "5"), ((2,), (5,))):
        assert at("leave1", dict(zip(keys, (1, {3: 0.5, 4: 0.5}), strict=True))) == {
            (2,): {1: 1.0},
            (5,): {3: 0.5, 4: 0.5},
        }
    assert at("leave1", {"0": 0.5, "1": 0.5}) == {(2,): {0: 0.5, 1: 0.5}, (5,): {0: 0.5, 1: 0.5}}
    # Where observations and actions are the same numbers, keys are observations.
    trace = Trace()
    seen = trace.nature([0, 1], name="seen")
    trace.decide("ann", [0, 1], sees=[seen])
    assert resolve(compile_trace(trace), {"ann": {0: 1, 1: 0}}).tolist() == [0, 1, 1, 0]
    alone = Trace()
    alone.decide("ann", [0, 1])
    for strategy in (1, {1: 1}, {(): 1}, {"1": 1.0}, {"[]": {"1": 1.0}}):
        assert resolve(compile_trace(alone), {"ann": strategy}).tolist() == [0, 1], strategy


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"take2": "Flood"},
            "decision 'take2' is not in the game; there are take1",
        ),
        (
            {"x": "Flood"},
            "decision 'x' is not in the game; there are monitor, take1, leave1",
        ),
        (
            {"take1": "flood"},
            "strategy of take1 at 2, Work: flood is not an action there; actions are Crack, Flood",
        ),
        (
            {"leave1": 3},
            "strategy of leave1 at 2: 3 is not an action there; actions are 0, 1",
        ),
        (
            {"monitor": {"Work": 0.5, "Shirk": 0.4}},
            "strategy of monitor: the probabilities sum to 0.9, expected 1",
        ),
        (
            {"monitor": {"Work": 1.5, "Shirk": -0.5}},
            "strategy of monitor: a probability is negative",
        ),
        (
            {"monitor": {"Work": float("nan"), "Shirk": 1.0}},
            "strategy of monitor: a probability is not a number (NaN)",
        ),
        (
            {"take1": lambda *seen: {"Crack": 0.7}},
            "strategy of take1 at 2, Work: the probabilities sum to 0.7, expected 1",
        ),
        (
            {"take1": {(2, "Work"): "Flood"}},
            "strategy of take1 at 2, Shirk: no action is given for this observation",
        ),
        (
            {"leave1": {2: 0, 5: 0, 55: 1}},
            "strategy of leave1: 55 is never observed; observations are 5",
        ),
        (
            {"leave1": {"deep": 0, 5: 0}},
            "strategy of leave1: deep is never observed; observations are 2; 5",
        ),
        (
            {"take1": np.ones((4, 3)) / 3},
            "strategy of take1: expected an array of shape (4, 2), found (4, 3)",
        ),
        (
            {"take1": np.ones((4, 2))},
            "strategy of take1: the probabilities sum to 2, expected 1",
        ),
    ],
)
def test_what_is_refused(change, message):
    with pytest.raises(InputError) as caught:
        water().check({**BASE, **change})
    assert str(caught.value) == message
    assert isinstance(caught.value, ProbabilityError) == ("probabilit" in message)


def test_a_missing_strategy_is_named():
    with pytest.raises(InputError) as caught:
        water().check({name: move for name, move in BASE.items() if name != "take1"})
    assert str(caught.value) == "strategies: no strategy for the decision 'take1'"


def test_vectors_are_checked():
    built = water()
    good = built.profile(BASE)
    assert built.payoffs(good) == built.payoffs(BASE)
    for wrong, message in (
        (good[:-1], f"strategies: expected {len(good)} probabilities, found the shape "
                    f"({len(good) - 1},)"),
        (good * 0.5, "strategy of monitor: the probabilities sum to 0.5, expected 1"),
        (np.append(good[:-2], [1.5, -0.5]), "strategy of leave1: a probability is negative"),
    ):  # fmt: skip
        with pytest.raises(InputError) as caught:
            built.payoffs(wrong)
        assert str(caught.value) == message


@settings(max_examples=8)
@given(seeds, st.booleans())
def test_vectors_are_described_and_read_back(seed, pure):
    generator = np.random.default_rng(seed)
    frontier = random_game(generator, decisions=3).frontier
    profile = random_profile(frontier, generator, pure=pure)
    starts = observation_starts(frontier)
    np.testing.assert_allclose(np.add.reduceat(profile, starts[:-1]), 1.0)
    np.testing.assert_allclose(resolve(frontier, describe(frontier, profile)), profile, atol=1e-15)
    there = json.loads(json.dumps(to_json(frontier, profile)))
    np.testing.assert_allclose(resolve(frontier, there), profile, atol=1e-15)
    mixed = tremble(frontier, profile, 0.1)
    np.testing.assert_allclose(mixed, 0.9 * profile + 0.1 * uniform(frontier))
    assert (mixed > 0).all()
    again = random_profile(random_game(np.random.default_rng(seed), decisions=3).frontier,
                           np.random.default_rng(1), pure=pure)  # fmt: skip
    np.testing.assert_array_equal(
        again, random_profile(frontier, np.random.default_rng(1), pure=pure)
    )


def test_many_observations_are_read_quickly():
    """A table of a thousand observations: keys are looked up, not compared one by one."""
    trace = Trace()
    seen = trace.nature(range(1000), name="seen")
    move = trace.decide("ann", ["a", "b"], sees=[seen])
    trace.pay("ann", lambda s, m: float(m == "ab"[s % 2]), seen, move)
    for text in (False, True):
        table = {(str(k) if text else k): "ab"[k % 2] for k in range(1000)}
        assert Game(trace).payoffs({"ann": table}, engine="frontier") == pytest.approx({"ann": 1.0})


# ---- files


def test_a_strategy_file(tmp_path: Path):
    path = tmp_path / "play.json"
    content = {
        "monitor": "Work",
        "take1": {'[2, "Work"]': "Crack", '[2, "Shirk"]': "Flood", '[5, "Work"]': {"Crack": 0.5,
                  "Flood": 0.5}, '[5, "Shirk"]': "Flood"},
        "leave1": {"2": 1, "5": {"4": 1.0}},
    }  # fmt: skip
    for written in (content, {"module": "x:y", "strategies": content}):
        path.write_text(json.dumps(written), encoding="utf-8")
        profile = water().profile(read_strategies(path))
        assert describe(water().frontier, profile) == {
            "monitor": "Work",
            "take1": {(2, "Work"): "Crack", (2, "Shirk"): "Flood", (5, "Shirk"): "Flood",
                      (5, "Work"): {"Crack": 0.5, "Flood": 0.5}},
            "leave1": {2: 1, 5: 4},
        }  # fmt: skip


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1,\n "b": }', ", line 2: not JSON (Expecting value)"),
        (b"[1]", ": expected an object, one strategy a decision"),
        (b"\xff\xfe{", ": not UTF-8 text"),
        (b'{"a": {"1": 0, "1": 1}}', ": the key '1' is there twice in one object"),
    ],
)
def test_bad_strategy_files(tmp_path: Path, content: bytes, message: str):
    path = tmp_path / "play.json"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_strategies(path)
    assert str(caught.value) == f"{path}{message}"


def test_a_probability_that_is_a_word_is_refused():
    with pytest.raises(InputError) as caught:
        water().profile({**BASE, "leave1": {2: {0: "half", 1: 0.5}, 5: 3}})
    assert str(caught.value) == "strategy of leave1 at 2: the probability of 0 is no number"
