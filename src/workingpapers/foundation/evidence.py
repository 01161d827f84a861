"""Claims, how each is judged, and what an experiment hands back for its report."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args, runtime_checkable

from workingpapers.foundation.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MatplotlibFigure

Scale = Literal["quick", "laptop", "paper"]
Kind = Literal["paper", "extension"]
Verdict = Literal[
    "reproduced",
    "not reproduced",
    "inconclusive",
    "not testable at this scale",
    "not testable here",
    "failed",
]

SCALES: tuple[Scale, ...] = get_args(Scale)
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)

# An interval narrower than this is rounding noise and cannot make a verdict inconclusive.
_LEAST_HALF_WIDTH = 1e-12


def reaches(scale: Scale, least: Scale) -> bool:
    """Whether `scale` is `least` or larger, in the order quick, laptop, paper."""
    return SCALES.index(scale) >= SCALES.index(least)


@dataclass(frozen=True)
class Test:
    """The closed range in which a claim's mean must lie; made by the four functions below."""

    low: float
    high: float

    # Keeps pytest from collecting this class where a test module imports it.
    __test__ = False

    def __post_init__(self) -> None:
        if math.isnan(self.low) or math.isnan(self.high) or self.low > self.high:
            raise InputError(f"test: expected low <= high, got {self.low} and {self.high}")

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high

    def thresholds(self) -> tuple[float, ...]:
        """The finite ends of the range."""
        return tuple(end for end in (self.low, self.high) if math.isfinite(end))

    def __str__(self) -> str:
        if self.low == -math.inf:
            return f"≤ {self.high:g}"
        if self.high == math.inf:
            return f"≥ {self.low:g}"
        if self.low == self.high:
            return f"= {self.low:g}"
        return f"{self.low:g} … {self.high:g}"


def at_least(value: float) -> Test:
    """Holds from `value` upwards."""
    return Test(value, math.inf)


def at_most(value: float) -> Test:
    """Holds up to `value`."""
    return Test(-math.inf, value)


def between(low: float, high: float) -> Test:
    """Holds from `low` to `high`, both included."""
    return Test(low, high)


def equals(value: float, tolerance: float = 0.0) -> Test:
    """Holds within `tolerance` of `value`."""
    return Test(value - tolerance, value + tolerance)


@dataclass(frozen=True)
class Needs:
    """What has to be there before something can be measured.

    `packages` are import names, `data_packages` map an import name to what pip installs with
    --no-deps, `files` map the NAME of `--data SYSTEM.NAME=PATH` to what the file holds.
    `per_scale` adds needs that only one scale and those above it have.
    """

    packages: tuple[str, ...] = ()
    data_packages: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    per_scale: Mapping[Scale, "Needs"] = field(default_factory=dict)

    def at(self, scale: Scale) -> "Needs":
        """All that is needed at `scale`, as one flat Needs."""
        parts = [self] + [need for least, need in self.per_scale.items() if reaches(scale, least)]
        return Needs(
            packages=tuple(name for part in parts for name in part.packages),
            data_packages={k: v for part in parts for k, v in part.data_packages.items()},
            files={k: v for part in parts for k, v in part.files.items()},
        )


@dataclass(frozen=True)
class Claim:
    """One sentence the paper stands for, with the test that judges it, fixed beforehand."""

    id: str
    statement: str
    """The claim in our words."""
    source: str
    """Where the paper says it: "arXiv:2108.05036, section 5, table 4"."""
    reported: str
    """The paper's own value, or "-" where it gives none."""
    test: Test
    scale: Scale
    """The least scale at which the test is fair."""
    kind: Kind = "paper"
    unit: str = ""
    runs: int = 3
    """Least number of runs (seeds) behind the verdict."""
    deterministic: bool = False
    """The value does not depend on the seed: one run decides, and runs must agree exactly."""
    timed: bool = False
    """A duration or a ratio of durations: measured alone, exempt from "same numbers again"."""
    needs: Needs = Needs()
    """What this claim needs beyond its experiment's own needs."""


@dataclass(frozen=True)
class Finding:
    """The measured values of one claim, one a seed, and what measuring them cost."""

    claim: str
    values: tuple[float, ...]
    seconds: float | None = None
    peak_mb: float | None = None


@dataclass(frozen=True)
class Figure:
    """A picture (or sound) for the report.

    `drawing` is a matplotlib figure, or the bytes of an SVG, PNG, MP4 or WAV file; `alt` says
    in words what it shows.
    """

    id: str
    drawing: "MatplotlibFigure | bytes"
    caption: str
    alt: str


@dataclass(frozen=True)
class Table:
    """Rows for the report, one mapping from column title to value a row, all with one key set."""

    id: str
    rows: Sequence[Mapping[str, Any]]
    caption: str


Result = Finding | Figure | Table


@runtime_checkable
class Study(Protocol):
    """What an experiment is given, and all it is given."""

    scale: Scale
    seed: int
    seeds: tuple[int, ...]
    device: str
    data: Mapping[str, Path]
    """The user's files, by the NAME of `--data SYSTEM.NAME=PATH`."""
    folder: Path
    """The system's own folder in the report, for files that are neither figure nor table."""

    def map(
        self,
        function: Callable[[Any], Any],
        tasks: Sequence[Any],
        *,
        label: str,
        alone: bool = False,
    ) -> list[Any]:
        """Run `function` on each task, in parallel and resumably; results in task order.

        `function` stands at the top of a module. A task is a frozen dataclass of plain fields.
        A result is made of numbers, strings, booleans, None, lists, dictionaries with string
        keys and NumPy arrays; tuples come back as lists. `alone=True` runs one task at a time,
        for durations.
        """
        ...

    def finding(self, claim_id: str, values: Sequence[float]) -> Finding:
        """The finding for `claim_id` from one value a seed, with the cost of its tasks."""
        ...

    def wants(self, *claim_ids: str) -> bool:
        """Whether any of these claims is asked for and can be measured here.

        True for all that can be measured unless the run was restricted with --claim; an
        experiment skips a section that no wanted claim needs.
        """
        ...


@dataclass(frozen=True)
class Experiment:
    """A paper's claims and the function that measures them, in the paper's own order."""

    claims: tuple[Claim, ...]
    run: Callable[[Study], Iterator[Result]]
    needs: Needs = Needs()

    def __post_init__(self) -> None:
        ids = [claim.id for claim in self.claims]
        twice = sorted({id for id in ids if ids.count(id) > 1})
        if twice:
            raise InputError(f"experiment: claim {twice[0]!r} is declared more than once")


@dataclass(frozen=True)
class Judgement:
    """A verdict with the numbers it rests on; `reason` says what the verdict alone does not."""

    verdict: Verdict
    measured: float | None = None
    low: float | None = None
    high: float | None = None
    reason: str = ""


def student_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % Student interval of the mean of `values`; None for fewer than two values."""
    count = len(values)
    if count < 2:
        return None
    from scipy.stats import t

    mean = math.fsum(values) / count
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    half_width = float(t.ppf(0.975, count - 1)) * math.sqrt(variance / count)
    return mean - half_width, mean + half_width


def judge(claim: Claim, values: Sequence[float], scale: Scale) -> Judgement:
    """Apply the claim's test to the mean of `values` (one a run), measured at `scale`.

    The verdict is inconclusive when the 95 % interval has a threshold strictly inside. Fewer
    runs than the claim asks for are decided by the mean, and the reason says so.
    """
    if not values:
        return Judgement("failed", reason="not measured")
    if not all(math.isfinite(value) for value in values):
        return Judgement("failed", reason=f"measured {list(values)}, which is not a finite number")
    mean = math.fsum(values) / len(values)
    if claim.deterministic:
        if any(value != values[0] for value in values):
            return Judgement("failed", mean, reason="declared deterministic, but its runs differ")
        mean, interval = values[0], None
    else:
        interval = student_interval(values)
    low, high = interval if interval is not None else (None, None)
    if not reaches(scale, claim.scale):
        reason = f"judged from scale {claim.scale} on"
        return Judgement("not testable at this scale", mean, low, high, reason)
    decided: Verdict = "reproduced" if claim.test.holds(mean) else "not reproduced"
    if claim.deterministic:
        return Judgement(decided, mean)
    if len(values) < claim.runs:
        runs = f"{len(values)} run" + "s" * (len(values) > 1)
        reason = f"decided by the mean of {runs}; {claim.runs} are asked for"
        return Judgement(decided, mean, low, high, reason)
    if interval is not None:
        wide = (interval[1] - interval[0]) / 2 > _LEAST_HALF_WIDTH
        inside = [end for end in claim.test.thresholds() if interval[0] < end < interval[1]]
        if wide and inside:
            reason = f"the interval has the threshold {inside[0]:g} inside"
            return Judgement("inconclusive", mean, low, high, reason)
    return Judgement(decided, mean, low, high)
