"""The loops that lay out a Pathfinder picture, compiled: where each dash of each curve goes.

A dash is a row (shape, y, x): its shape in `Shapes` of `pathfinder.py`, and where it starts.
Occupancy is how much of each pixel is taken, 0 to 1, by dashes and the clearance around them.
"""

import typing

import numpy as np

from workingpapers.foundation.errors import missing_package

try:
    from numba import njit
except ImportError as error:
    raise missing_package("numba", "adamra") from error

FREE = 0.3
"""A curve may begin on pixels that are taken up to this."""

CLASH = 1.8
"""Two dashes clash where what they take of a pixel adds up to this."""

RETRIES = 2
"""A dash is tried so many times again before its curve is given up."""

CURVE_RETRIES = 4
"""A distractor is tried so many times again before it is left out."""

FULL = 0.01
"""Where less than this share of the picture is free, no further distractor is tried."""


@njit(cache=True)
@typing.no_type_check
def stamp(picture, pattern, y, x):
    """Raise the picture to a square pattern whose centre is put at (y, x)."""
    side = len(picture)
    half = len(pattern) // 2
    for i in range(max(0, half - y), min(len(pattern), side + half - y)):
        for j in range(max(0, half - x), min(len(pattern), side + half - x)):
            if pattern[i, j] > picture[y + i - half, x + j - half]:
                picture[y + i - half, x + j - half] = pattern[i, j]


@njit(cache=True)
@typing.no_type_check
def stamp_all(picture, patterns, dashes):
    """Raise the picture to the patterns of all dashes."""
    for k in range(len(dashes)):
        stamp(picture, patterns[dashes[k, 0]], dashes[k, 1], dashes[k, 2])


@njit(cache=True)
@typing.no_type_check
def copy(source, target):
    """`target[:] = source`, which alone would take numba three seconds more to compile."""
    for y in range(len(source)):
        for x in range(len(source)):
            target[y, x] = source[y, x]


@njit(cache=True)
@typing.no_type_check
def clashes(occupancy, clearance, y, x):
    """Whether a dash that takes this much around (y, x) comes too near another."""
    side = len(occupancy)
    half = len(clearance) // 2
    for i in range(max(0, half - y), min(len(clearance), side + half - y)):
        for j in range(max(0, half - x), min(len(clearance), side + half - x)):
            if occupancy[y + i - half, x + j - half] + clearance[i, j] >= CLASH:
                return True
    return False


@njit(cache=True)
@typing.no_type_check
def inside(side, y, x):
    return 0 <= y < side and 0 <= x < side


@njit(cache=True)
@typing.no_type_check
def stays_inside(side, shapes, shape, y, x):
    """Whether both ends of a first dash, with the gap before it, lie in the picture."""
    return (
        inside(side, y, x)
        and inside(side, y + shapes.head[shape, 0], x + shapes.head[shape, 1])
        and inside(side, y + shapes.pivot[shape, 0], x + shapes.pivot[shape, 1])
    )


@njit(cache=True)
@typing.no_type_check
def begin(rng, shapes, occupancy, frame, places, dash):
    """Place a curve's first dash: at any angle, anywhere that all its pixels are free; success.

    Pixels less than `frame` from the border count as taken. `places` is room for all pixels.
    """
    side = len(occupancy)
    for _ in range(RETRIES + 1):
        shape = int(rng.random() * shapes.angles)
        found = 0
        for y in range(frame, side - frame):
            for x in range(frame, side - frame):
                free = True
                for k in range(shapes.core_sizes[shape]):
                    i, j = y + shapes.core[shape, k, 0], x + shapes.core[shape, k, 1]
                    framed = inside(side - 2 * frame, i - frame, j - frame)
                    if not framed or occupancy[i, j] > FREE:
                        free = False
                        break
                if free:
                    places[found, 0] = y
                    places[found, 1] = x
                    found += 1
        if found == 0:
            return False
        pick = int(rng.random() * found)
        y, x = places[pick, 0], places[pick, 1]
        if stays_inside(side, shapes, shape, y, x):
            dash[0], dash[1], dash[2] = shape, y, x
            return True
    return False


@njit(cache=True)
@typing.no_type_check
def begin_beside(rng, shapes, occupancy, first, dash):
    """Place the second curve's first dash around the start of the first one's; success."""
    side = len(occupancy)
    for _ in range(RETRIES + 1):
        shape = int(rng.random() * shapes.angles)
        direction = int(rng.random() * shapes.angles)
        y = first[1] + shapes.around[direction, 0]
        x = first[2] + shapes.around[direction, 1]
        if stays_inside(side, shapes, shape, y, x) and not clashes(
            occupancy, shapes.clearance[shape], y, x
        ):
            dash[0], dash[1], dash[2] = shape, y, x
            return True
    return False


@njit(cache=True)
@typing.no_type_check
def extend(rng, shapes, occupancy, pivot, last, dash):
    """Place the dash after `last`, the likelier the less it turns; success. Moves the pivot.

    The pivot is the middle of the gap before a dash, around which the dash may turn.
    """
    side = len(occupancy)
    pivot_y = pivot[0] + shapes.step[last[0], 0]
    pivot_x = pivot[1] + shapes.step[last[0], 1]
    ring = len(shapes.ring)
    upto = np.empty(ring)
    total = 0.0
    for k in range(ring):
        y, x = pivot_y + shapes.ring[k, 0], pivot_x + shapes.ring[k, 1]
        if inside(side, y, x):
            taken = 0.0
            for near in range(len(shapes.disc)):
                i, j = y + shapes.disc[near, 0], x + shapes.disc[near, 1]
                if inside(side, i, j):
                    taken = max(taken, occupancy[i, j])
            total += (1.0 - taken) * shapes.likelihood[last[0], k]
        upto[k] = total
    if total < 1e-4:
        return False
    for _ in range(RETRIES + 1):
        u = rng.random() * total
        k = 0
        while k < ring - 1 and upto[k] <= u:
            k += 1
        y, x = pivot_y + shapes.ring[k, 0], pivot_x + shapes.ring[k, 1]
        shape = shapes.angles + k
        if not clashes(occupancy, shapes.clearance[shape], y, x):
            pivot[0], pivot[1] = pivot_y, pivot_x
            dash[0], dash[1], dash[2] = shape, y, x
            return True
    return False


@njit(cache=True)
@typing.no_type_check
def lay_pair(rng, shapes, padding, seed_distance, occupancy, curves):
    """Lay out the two long curves, dash by dash in turn, from the start until it works out.

    `curves` (2, dashes, 3) is filled, `occupancy` (side, side) becomes what both take.
    """
    side = len(occupancy)
    places = np.empty((side * side, 2), np.int64)
    pivots = np.empty((2, 2), np.int64)
    # What each curve sees: all but its own last dash, which the next one touches.
    seen = np.empty((2, side, side), occupancy.dtype)
    while True:
        for y in range(side):
            for x in range(side):
                framed = inside(side - 2 * padding, y - padding, x - padding)
                seen[0, y, x] = seen[1, y, x] = 0.0 if framed else 1.0
        if not begin(rng, shapes, seen[0], 2 * seed_distance, places, curves[0, 0]):
            continue
        stamp_all(seen[1], shapes.clearance, curves[0, :1])
        if not begin_beside(rng, shapes, seen[1], curves[0, 0], curves[1, 0]):
            continue
        stamp_all(seen[0], shapes.clearance, curves[1, :1])
        for curve in range(2):
            first = curves[curve, 0]
            pivots[curve, 0] = first[1] + shapes.pivot[first[0], 0]
            pivots[curve, 1] = first[2] + shapes.pivot[first[0], 1]
        laid = True
        for k in range(1, curves.shape[1]):
            for curve in range(2):
                laid = laid and extend(
                    rng, shapes, seen[curve], pivots[curve], curves[curve, k - 1], curves[curve, k]
                )
                if laid:
                    stamp_all(seen[curve], shapes.clearance, curves[curve, k - 1 : k])
                    stamp_all(seen[1 - curve], shapes.clearance, curves[curve, k : k + 1])
            if not laid:
                break
        if laid:
            for y in range(side):
                for x in range(side):
                    occupancy[y, x] = max(seen[0, y, x], seen[1, y, x])
            return


@njit(cache=True)
@typing.no_type_check
def lay_distractors(rng, shapes, padding, occupancy, curves):
    """Lay out short curves wherever there is room for them; how many there are.

    `curves` (most, dashes, 3) is filled from the front; what they take is added to `occupancy`.
    """
    side = len(occupancy)
    places = np.empty((side * side, 2), np.int64)
    pivot = np.empty(2, np.int64)
    trial = np.empty_like(occupancy)
    laid_curves = 0
    for _ in range(len(curves)):
        free = 0
        for pixel in occupancy.flat:
            free += pixel <= FREE
        if free < FULL * side * side:
            break
        for _ in range(CURVE_RETRIES + 1):
            curve = curves[laid_curves]
            copy(occupancy, trial)
            if not begin(rng, shapes, trial, padding, places, curve[0]):
                continue
            pivot[0] = curve[0, 1] + shapes.pivot[curve[0, 0], 0]
            pivot[1] = curve[0, 2] + shapes.pivot[curve[0, 0], 1]
            laid = True
            for k in range(1, len(curve)):
                laid = extend(rng, shapes, trial, pivot, curve[k - 1], curve[k])
                if not laid:
                    break
                stamp_all(trial, shapes.clearance, curve[k - 1 : k])
            if laid:
                stamp_all(trial, shapes.clearance, curve[len(curve) - 1 :])
                copy(trial, occupancy)
                laid_curves += 1
                break
    return laid_curves
