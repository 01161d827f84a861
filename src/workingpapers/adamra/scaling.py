"""What one attention layer costs in time and memory as sequences grow, measured by CPU time.

Every point (an attention at a length) has a process of its own, with one thread, so that its peak
memory is its alone; processes that are compared take their steps in turn, so that a slow minute of
the machine falls on all of them.
"""

import itertools
import json
import math
import os
import queue
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from workingpapers.foundation.errors import InputError
from workingpapers.foundation.memory import peak_since, return_free_memory, watch_memory

LEAST_TURN = 0.3
"""Seconds of a turn: shorter steps are repeated, and their mean is the turn's measurement."""
WARM_UP_LENGTH = 128
"""Tokens of the step before the first measured one: it loads code, and hardly takes memory."""


@dataclass(frozen=True)
class Measurement:
    """What a step of one layer takes; numbers are NaN where there was none."""

    name: str
    length: int
    cpu_seconds: float = math.nan
    """Median over the steps."""
    wall_seconds: float = math.nan
    """Median over the steps."""
    peak_mb: float = math.nan
    """How far a step raises the process's resident memory, in MiB; NaN where /proc is not."""
    gradients_mb: float = math.nan
    """The part of it that is gradients of parameters: it depends on the layer alone."""
    tokens_per_second: float = math.nan
    """Tokens a second of CPU time."""
    failed: str = ""
    """Why there are no numbers."""


@dataclass(frozen=True)
class Comparison:
    """A layer's measurement beside the first layer's, whose steps were taken in turn with its."""

    measurement: Measurement
    ratios: tuple[float, ...]
    """CPU time of each round / the first layer's in the same round; empty if either failed."""


@dataclass(frozen=True)
class _Point:
    """What is measured by a process."""

    name: str
    length: int
    dim: int
    heads: int
    batch: int
    backward: bool
    rates: tuple[int, ...] | None
    limit: float


@dataclass
class _Record:
    """What a process has told so far."""

    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    peak_mb: float = math.nan
    gradients_mb: float = math.nan
    failed: str = ""


def measure_scaling(
    attentions: Sequence[str],
    lengths: Sequence[int],
    dim: int = 256,
    heads: int = 8,
    *,
    batch: int = 1,
    backward: bool = True,
    repeats: int = 3,
    limit: float = 60.0,
    rates: Sequence[int] | None = None,
    tell: Callable[[str], None] = lambda step: None,
) -> list[Measurement]:
    """Measure each attention at each length, shortest first; the lengths of one take turns.

    `attentions` are names of `peers.ATTENTIONS`; `rates` are those of "adamra". A step is forward,
    and `backward` to the input and the parameters; each point takes one unmeasured step, then
    `repeats`. A step of more than `limit` seconds fails its point; after a failure longer
    sequences are not tried. `tell` is told what is being done. InputError for bad arguments.
    """
    points = _points(attentions, lengths, dim, heads, batch, backward, limit, rates, repeats)
    measurements = []
    for name in attentions:
        mine = [point for point in points if point.name == name]
        records = _take_turns(mine, repeats, tell, growing=True)
        measurements += [_measurement(*pair) for pair in zip(mine, records, strict=True)]
    return measurements


def measure_pairs(
    attentions: Sequence[str],
    length: int,
    dim: int = 256,
    heads: int = 8,
    *,
    batch: int = 1,
    backward: bool = True,
    repeats: int = 5,
    limit: float = 60.0,
    rates: Sequence[int] | None = None,
    tell: Callable[[str], None] = lambda step: None,
) -> list[Comparison]:
    """Measure attentions at one length, in turn, and compare their times with the first one's.

    Arguments are those of `measure_scaling`.
    """
    points = _points(attentions, [length], dim, heads, batch, backward, limit, rates, repeats)
    records = _take_turns(points, repeats, tell)
    comparisons = []
    for point, record in zip(points, records, strict=True):
        ratios: tuple[float, ...] = ()
        if not (record.failed or records[0].failed):
            rounds = zip(record.cpu, records[0].cpu, strict=True)
            ratios = tuple(mine / first for mine, first in rounds)
        comparisons.append(Comparison(_measurement(point, record), ratios))
    return comparisons


def fit_slope(lengths: Sequence[float], values: Sequence[float]) -> float:
    """Exponent b of values = a lengths^b by least squares of the logarithms.

    InputError unless there are at least two different lengths and all numbers are positive.
    """
    numbers = [*lengths, *values]
    if len(lengths) != len(values) or len(set(lengths)) < 2:
        raise InputError(
            f"slope: expected a value for each of two or more lengths, "
            f"found {len(lengths)} lengths and {len(values)} values"
        )
    if not all(0 < number < math.inf for number in numbers):
        raise InputError("slope: expected positive numbers, found one that is not")
    x, y = ([math.log(number) for number in axis] for axis in (lengths, values))
    return statistics.linear_regression(x, y).slope


def time_slope(measurements: Sequence[Measurement]) -> float:
    """Exponent of one attention's CPU time in the length, over the points that did not fail."""
    done = [each for each in measurements if not each.failed]
    return fit_slope([each.length for each in done], [each.cpu_seconds for each in done])


def memory_slope(measurements: Sequence[Measurement]) -> float:
    """Exponent of one attention's peak memory, less its parameters' gradients, in the length."""
    done = [each for each in measurements if not each.failed]
    memory = [each.peak_mb - each.gradients_mb for each in done]
    return fit_slope([each.length for each in done], memory)


# ---- the process that asks


def _points(
    attentions: Sequence[str],
    lengths: Sequence[int],
    dim: int,
    heads: int,
    batch: int,
    backward: bool,
    limit: float,
    rates: Sequence[int] | None,
    repeats: int,
) -> list[_Point]:
    """The points by name, then by length; InputError for what cannot be measured."""
    # What needs PyTorch is imported when it is needed: the command line reads this module.
    from workingpapers.adamra.attention import check_heads, check_rates
    from workingpapers.adamra.peers import ATTENTIONS

    for argument, given in (("attentions", attentions), ("lengths", lengths)):
        if not given:
            raise InputError(f"{argument}: expected at least one")
        if len(set(given)) < len(given):
            raise InputError(f"{argument} {', '.join(map(str, given))}: expected each once")
    for name in attentions:
        if name not in ATTENTIONS:
            raise InputError(f"attention {name!r}: expected {', '.join(ATTENTIONS)}")
    least = [("length", length) for length in lengths] + [("batch", batch), ("repeats", repeats)]
    for argument, number in least:
        if number < 1:
            raise InputError(f"{argument} {number}: expected at least 1")
    if not 0 < limit < math.inf:
        raise InputError(f"limit {limit}: expected seconds above 0")
    check_heads(dim, heads)
    if rates is not None:
        check_rates(rates)
        rates = tuple(rates)
    return [
        _Point(name, length, dim, heads, batch, backward, rates, limit)
        for name in attentions
        for length in sorted(lengths)
    ]


def _take_turns(
    points: Sequence[_Point],
    repeats: int,
    tell: Callable[[str], None],
    *,
    growing: bool = False,
) -> list[_Record]:
    """Let the points' processes take one step after the other in turn, once and `repeats` times.

    If the points are `growing`, those after one that failed at once are not tried.
    """
    records = [_Record() for _ in points]
    running: list[tuple[subprocess.Popen[str], _Point, _Record]] = []
    failure = ""
    try:
        for point, record in zip(points, records, strict=True):
            # All at once, so that what they import overlaps.
            running.append((_start(point), point, record))
        for process, point, record in running:
            if growing and failure:
                record.failed = f"not tried: {failure}"
                continue
            tell(f"{point.name}, {point.length} tokens: warm-up")
            answer = _ask(process, point, record)
            if record.failed:
                failure = f"{record.failed} at {point.length} tokens"
            else:
                record.peak_mb, record.gradients_mb = answer["peak_mb"], answer["gradients_mb"]
        for repeat in range(repeats):
            for process, point, record in running:
                if record.failed:
                    continue
                tell(f"{point.name}, {point.length} tokens: step {repeat + 1} of {repeats}")
                answer = _ask(process, point, record)
                if not record.failed:
                    record.cpu.append(answer["cpu"])
                    record.wall.append(answer["wall"])
    finally:
        for process, _, _ in running:
            process.kill()
            process.communicate()
    return records


def _start(point: _Point) -> subprocess.Popen[str]:
    return subprocess.Popen(
        # Not through multiprocessing: the workers of a parallel run may not have children by it.
        [sys.executable, "-P", "-m", __name__, json.dumps(asdict(point))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        # Ctrl-C in a terminal is for this process, which then ends the others.
        process_group=0,
    )


def _ask(process: subprocess.Popen[str], point: _Point, record: _Record) -> dict[str, Any]:
    """Have a process take a step and tell what it took; if it cannot, `record` gets the reason."""
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(BrokenPipeError):
        process.stdin.write("step\n")
        process.stdin.flush()
    line = process.stdout.readline()
    if line:
        answer: dict[str, Any] = json.loads(line)
        record.failed = answer.get("failed", "")
        return answer
    code = process.wait()
    if code == -signal.SIGALRM:
        record.failed = f"took more than {point.limit:g} s"
    elif code < 0:
        hint = " (out of memory?)" if code == -signal.SIGKILL else ""
        record.failed = f"ended by {signal.Signals(-code).name}{hint}"
    else:
        record.failed = f"ended with code {code}"
    return {}


def _measurement(point: _Point, record: _Record) -> Measurement:
    if record.failed:
        return Measurement(point.name, point.length, failed=record.failed)
    cpu = statistics.median(record.cpu)
    return Measurement(
        point.name,
        point.length,
        cpu,
        statistics.median(record.wall),
        record.peak_mb,
        record.gradients_mb,
        point.batch * point.length / cpu,
    )


# ---- the process that is asked


def _serve(point: _Point) -> None:
    """Take a step for each line of stdin, and end when it closes."""
    # What libraries print goes to stderr; the pipe that was stdout carries the answers alone.
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    requests: queue.SimpleQueue[str] = queue.SimpleQueue()

    def listen() -> None:
        for line in sys.stdin:
            requests.put(line)
        # However the other process ended, also in the middle of a step of minutes.
        os._exit(1)

    threading.Thread(target=listen, daemon=True).start()
    try:
        step, gradients_mb = _prepare(point)
        return_free_memory()
        for turns in itertools.count():
            requests.get()
            before = watch_memory()
            steps, cpu, wall = 0, time.process_time(), time.perf_counter()
            while steps == 0 or (turns and time.perf_counter() - wall < LEAST_TURN):
                # An alarm that nobody handles ends the process, even in compiled code.
                signal.setitimer(signal.ITIMER_REAL, point.limit)
                step()
                signal.setitimer(signal.ITIMER_REAL, 0)
                steps += 1
            numbers = {
                "cpu": (time.process_time() - cpu) / steps,
                "wall": (time.perf_counter() - wall) / steps,
                "gradients_mb": gradients_mb,
            }
            peak = peak_since(before)
            numbers["peak_mb"] = math.nan if peak is None else peak
            channel.write(json.dumps(numbers) + "\n")
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        channel.write(json.dumps({"failed": reason}) + "\n")


def _prepare(point: _Point) -> tuple[Callable[[], None], float]:
    """A step of the point's layer, and the gradients of its parameters in MiB."""
    import torch

    from workingpapers.adamra.peers import make_attention

    torch.set_num_threads(1)
    torch.manual_seed(0)
    layer = make_attention(point.name, point.dim, point.heads, point.length, point.rates)
    x = torch.randn(point.batch, point.length, point.dim)

    def step(length: int = point.length) -> None:
        if not point.backward:
            with torch.inference_mode():
                layer(x[:, :length])
            return
        layer(x[:, :length].requires_grad_()).square().mean().backward()
        layer.zero_grad()

    step(min(point.length, WARM_UP_LENGTH))
    size = sum(parameter.nbytes for parameter in layer.parameters()) if point.backward else 0
    return step, size / 2**20


if __name__ == "__main__":
    _serve(_Point(**json.loads(sys.argv[1])))
