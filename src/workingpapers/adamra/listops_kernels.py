"""The loops over ListOps sequences, compiled: growing trees, working them out, the root's digits.

Tokens are those of `listops.py`: 0 padding, 1 to 4 the operators, 5 the bracket that closes, 6 to
15 the digits.
"""

import typing

import numpy as np

from workingpapers.foundation.errors import missing_package

try:
    from numba import njit
except ImportError as error:
    raise missing_package("numba", "adamra") from error


@njit(cache=True)
@typing.no_type_check
def grow(rng, least, most, max_depth, trials, tokens, lengths, depths):
    """Fill rows of `tokens` with trees of least < length < most; how many it filled.

    It gives up after `trials` trees. The sequence is written from left to right with a stack of
    open brackets. A tree is dropped as soon as it cannot stay below `most`: what is written, one
    token for each argument to come and the brackets to close already need as many.
    """
    waiting = np.empty(max_depth + 1, np.int64)
    filled = 0
    for _ in range(trials):
        if filled == len(tokens):
            break
        row = tokens[filled]
        open_brackets = 0
        deepest = 0
        written = 0
        to_come = 1
        while to_come > 0:
            # One uniform number decides it all: digit or operator, and which.
            u = rng.random()
            if open_brackets + 1 < max_depth and u < 0.25:
                kind = int(u * 4.0 * 36.0)
                row[written] = 1 + kind // 9
                waiting[open_brackets] = 2 + kind % 9
                open_brackets += 1
                deepest = max(deepest, open_brackets)
                to_come += 1 + kind % 9
                written += 1
                if written + to_come + open_brackets >= most:
                    break
            else:
                if open_brackets + 1 < max_depth:
                    u = (u - 0.25) / 0.75
                row[written] = 6 + int(u * 10.0)
                written += 1
                to_come -= 1
                while open_brackets > 0:
                    waiting[open_brackets - 1] -= 1
                    if waiting[open_brackets - 1] > 0:
                        break
                    open_brackets -= 1
                    row[written] = 5
                    written += 1
        if to_come == 0 and least < written < most:
            row[written:] = 0
            lengths[filled] = written
            depths[filled] = deepest
            filled += 1
    return filled


@njit(cache=True)
@typing.no_type_check
def work_out(tokens, values):
    """The value of each row's expression; -1 where the row is not one whole expression."""
    width = tokens.shape[1]
    # An operator's arguments matter only by how often each digit is among them.
    counts = np.zeros((width // 2 + 2, 10), np.int64)
    operators = np.empty(width // 2 + 2, np.int64)
    for i in range(len(tokens)):
        level = 0
        value = -1
        for j in range(width):
            token = tokens[i, j]
            if token == 0:
                # Nothing may follow the padding.
                for k in range(j, width):
                    if tokens[i, k] != 0:
                        level = -1
                break
            if level == 0 and j > 0:
                level = -1
                break
            if token < 5:
                # A row that opens more brackets than it could close is not an expression.
                if level > width // 2:
                    level = -1
                    break
                level += 1
                operators[level] = token
                counts[level] = 0
                continue
            if token > 5:
                value = token - 6
            else:
                total = 0
                for digit in range(10):
                    total += counts[level, digit]
                if level == 0 or total == 0:
                    level = -1
                    break
                value = 0
                if operators[level] == 1:
                    while counts[level, value] == 0:
                        value += 1
                elif operators[level] == 2:
                    value = 9
                    while counts[level, value] == 0:
                        value -= 1
                elif operators[level] == 3:
                    # The mean of the two in the middle, which are one where the number is odd.
                    lower = 0
                    seen = counts[level, 0]
                    while seen <= (total - 1) // 2:
                        lower += 1
                        seen += counts[level, lower]
                    upper = lower
                    while seen <= total // 2:
                        upper += 1
                        seen += counts[level, upper]
                    value = (lower + upper) // 2
                else:
                    for digit in range(10):
                        value += digit * counts[level, digit]
                    value %= 10
                level -= 1
            if level > 0:
                counts[level, value] += 1
        values[i] = value if level == 0 else -1


@njit(cache=True)
@typing.no_type_check
def count_direct_digits(tokens, counts):
    """Add to `counts[row, digit]` how often the row's first operator has the digit as argument."""
    for i in range(len(tokens)):
        level = 0
        for token in tokens[i]:
            if token == 0:
                break
            if token < 5:
                level += 1
            elif token == 5:
                level -= 1
            elif level == 1:
                counts[i, token - 6] += 1
