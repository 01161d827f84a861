"""The values that wires carry: named finite sets, canonical forms, and their JSON."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, no_type_check

import numpy as np

from workingpapers.foundation.errors import InputError

# Floats that differ by rounding only have to be one value, or states never merge.
_DECIMALS = 12


class Absent:
    """What a wire carries where its branch is not played; there is one, `ABSENT`."""

    _one: "Absent | None" = None

    def __new__(cls) -> "Absent":
        if cls._one is None:
            cls._one = super().__new__(cls)
        return cls._one

    def __repr__(self) -> str:
        return "absent"


ABSENT = Absent()


@dataclass(frozen=True)
class Tagged:
    """A value of a sum of spaces: which summand, and the values of its ports."""

    tag: int
    values: tuple[Any, ...]


# Called for every value of a game: run-time checks of types would take most of a test's time.
@no_type_check
def canonical(value: Any) -> Any:
    """The one form of a value: plain Python, tuples for lists, floats rounded to 12 decimals.

    Raises InputError for NaN and for what cannot be hashed.
    """
    kind = type(value)
    if kind is str or kind is int or kind is bool or value is None:
        return value
    if isinstance(value, np.generic) or (kind is np.ndarray and value.ndim == 0):
        return canonical(value.item())
    if kind is float:
        if math.isnan(value):
            raise InputError("a wire's value is NaN; expected a value that equals itself")
        return value if math.isinf(value) else round(value, _DECIMALS) + 0.0
    if kind is tuple or kind is list:
        return tuple(canonical(part) for part in value)
    if kind is Tagged:
        return Tagged(value.tag, canonical(value.values))
    try:
        hash(value)
    except TypeError:
        raise InputError(
            f"a wire's value is a {kind.__name__}, which cannot be hashed; expected numbers, "
            "text, tuples or frozen dataclasses"
        ) from None
    return value


@dataclass(frozen=True)
class Space:
    """A named set of values; `values=None` allows any value.

    Two spaces fit together when they have the same name or the same values.
    """

    name: str
    values: tuple[Any, ...] | None = None

    def __init__(self, name: str, values: Iterable[Any] | None = None) -> None:
        given = None if values is None else tuple(canonical(value) for value in values)
        if given is not None and not given:
            raise InputError(f"space {name}: expected at least one value")
        if given is not None and len(set(given)) < len(given):
            raise InputError(f"space {name}: its values are not distinct")
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "values", given)

    def __iter__(self) -> Any:
        if self.values is None:
            raise InputError(f"space {self.name}: has no list of values")
        return iter(self.values)

    def __len__(self) -> int:
        return len(tuple(iter(self)))

    def fits(self, other: "Space") -> bool:
        """Whether a port of this space may be joined to a port of the other."""
        if self.values is not None and other.values is not None:
            return self.values == other.values or set(self.values) == set(other.values)
        return self.name == other.name or ANY in (self, other)

    def __str__(self) -> str:
        return self.name


ANY = Space("Any")
"""The space of ports that take every value."""
UTILITY = Space("Utility")
"""The space of backward ports that carry payoffs."""

Ports = tuple[Space, ...]


def as_space(values: "Space | Iterable[Any]") -> Space:
    """A space from a space or from its values, then named after them."""
    if isinstance(values, Space):
        return values
    listed = [canonical(value) for value in values]
    shown = [str(value) for value in listed]
    name = "|".join(shown if len(shown) <= 4 else [*shown[:2], "...", shown[-1]])
    return Space(name or "nothing", listed)


def product(*spaces: Space) -> Space:
    """All tuples with one value of each space."""
    from itertools import product as all_tuples

    return Space(" x ".join(space.name for space in spaces), all_tuples(*spaces))


def sum_of(*ports: Ports) -> Space:
    """The tagged union of tuples of ports, as external choice has it."""
    names = [" x ".join(space.name for space in part) or "1" for part in ports]
    return Space(" + ".join(names))


# ---- JSON


def to_json(value: Any) -> Any:
    """A value as JSON: tuples become lists, fractions and tagged values one-key objects."""
    if isinstance(value, tuple):
        return [to_json(part) for part in value]
    if isinstance(value, Fraction):
        return {"fraction": str(value)}
    if isinstance(value, Tagged):
        return {"tag": value.tag, "values": to_json(value.values)}
    if value is ABSENT:
        return {"absent": True}
    if value is None or isinstance(value, str | int | float):
        return value
    raise InputError(f"{value!r}: a {type(value).__name__} has no JSON form")


def from_json(value: Any) -> Any:
    """The inverse of `to_json`."""
    if isinstance(value, list):
        return tuple(from_json(part) for part in value)
    if isinstance(value, dict):
        if set(value) == {"fraction"}:
            return Fraction(value["fraction"])
        if set(value) == {"tag", "values"}:
            return Tagged(value["tag"], from_json(value["values"]))
        if set(value) == {"absent"}:
            return ABSENT
        raise InputError(f"{value!r}: not the JSON form of a value")
    return canonical(value)


def key_text(value: Any) -> str:
    """A value as the key of a JSON object: text as it is, the rest as JSON."""
    if isinstance(value, str):
        return value
    return json.dumps(to_json(value))


def matching(key: str, values: Sequence[Any]) -> Any:
    """The one of `values` that a JSON object's key stands for; KeyError if none does."""
    for value in values:
        if key_text(value) == key:
            return value
    try:
        read = from_json(json.loads(key))
    except (ValueError, InputError):
        raise KeyError(key) from None
    for value in values:
        if value == read and isinstance(value, bool) == isinstance(read, bool):
            return value
    raise KeyError(key)


def show(value: Any) -> str:
    """A value for people: short numbers, tuples with commas."""
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, tuple):
        return ", ".join(show(part) for part in value) if value else "nothing"
    if isinstance(value, Tagged):
        return f"branch {value.tag}: {show(value.values)}"
    return str(value)
