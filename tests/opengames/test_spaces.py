"""Values on wires: their one form, their spaces, their JSON."""

import json
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workingpapers.foundation.errors import InputError
from workingpapers.opengames.spaces import (
    ABSENT,
    ANY,
    Absent,
    Space,
    Tagged,
    as_space,
    canonical,
    from_json,
    key_text,
    matching,
    product,
    show,
    to_json,
)

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-50, 50)
    | st.floats(-50, 50)
    | st.text(max_size=4)
    | st.fractions(-3, 3, max_denominator=9),
    lambda part: st.lists(part, max_size=3).map(tuple),
    max_leaves=6,
)


@settings(max_examples=20)
@given(plain)
def test_json_gives_every_value_back(value):
    there = canonical(value)
    back = from_json(json.loads(json.dumps(to_json(there))))
    assert back == there
    assert canonical(there) == there
    assert matching(key_text(there), [there]) == there


def test_one_form_of_a_value():
    assert canonical(0.1 + 0.2) == canonical(0.3) == 0.3
    assert str(canonical(-0.0)) == "0.0"
    assert canonical([1, [2.0, "x"]]) == (1, (2.0, "x"))
    assert type(canonical(np.int64(3))) is int
    assert type(canonical(np.array(1.5))) is float
    assert canonical(np.array(True)) is True
    assert canonical(float("inf")) == float("inf")
    assert canonical(Tagged(1, (0.1 + 0.2,))) == Tagged(1, (0.3,))


@dataclass(frozen=True)
class Seat:
    row: int


def test_frozen_dataclasses_are_values_but_have_no_json():
    assert canonical(Seat(3)) == Seat(3)
    with pytest.raises(InputError) as caught:
        to_json(Seat(3))
    assert str(caught.value) == "Seat(row=3): a Seat has no JSON form"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (float("nan"), "a wire's value is NaN; expected a value that equals itself"),
        (
            {"a": 1},
            "a wire's value is a dict, which cannot be hashed; expected numbers, text, tuples or "
            "frozen dataclasses",
        ),
        (
            np.zeros(2),
            "a wire's value is a ndarray, which cannot be hashed; expected numbers, text, tuples "
            "or frozen dataclasses",
        ),
    ],
)
def test_what_no_wire_carries(value, message):
    with pytest.raises(InputError) as caught:
        canonical(value)
    assert str(caught.value) == message


def test_spaces():
    moves = Space("move", ["Crack", "Flood"])
    assert list(moves) == ["Crack", "Flood"]
    assert len(product(moves, Space("level", range(3)))) == 6
    assert moves.fits(Space("take", ["Flood", "Crack"]))
    assert not moves.fits(Space("move", ["Flood"]))
    assert moves.fits(Space("move"))
    assert moves.fits(ANY)
    assert ANY.fits(moves)
    assert not Space("level").fits(Space("move"))
    assert str(as_space(range(9))) == "0|1|...|8"
    assert as_space(moves) is moves
    assert Absent() is ABSENT
    assert repr(ABSENT) == "absent"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Space("move", []), "space move: expected at least one value"),
        (lambda: Space("move", [0.3, 0.1 + 0.2]), "space move: its values are not distinct"),
        (lambda: list(Space("move")), "space move: has no list of values"),
        (lambda: from_json({"tag": 1}), "{'tag': 1}: not the JSON form of a value"),
    ],
)
def test_bad_spaces(make, message):
    with pytest.raises(InputError) as caught:
        make()
    assert str(caught.value) == message


def test_keys_of_json_objects():
    assert [key_text(key) for key in ("a", 1, 1.5, (1, "a"), True)] == [
        "a", "1", "1.5", '[1, "a"]', "true",
    ]  # fmt: skip
    assert matching("1", [True, 1]) == 1
    assert matching("1", [True, 1]) is not True
    assert matching("[1,2]", [(1, 2)]) == (1, 2)
    assert matching("1.0", [1]) == 1
    assert matching('{"fraction": "1/3"}', [Fraction(1, 3)]) == Fraction(1, 3)
    for unknown in ("b", "[1", '{"x": 1}'):
        with pytest.raises(KeyError):
            matching(unknown, ["a", 1])


def test_values_for_people():
    assert show((1 / 3, True, "x", ())) == "0.333333, True, x, nothing"
    assert show(Tagged(1, (2,))) == "branch 1: 2"
