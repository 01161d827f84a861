"""ListOps: nested operations on lists of digits, drawn as Long Range Arena draws them.

A sequence has one token a symbol: 0 is padding, 1 to 15 stand for `[MIN [MAX [MED [SM ] 0 ... 9`.
Its label is its value, a digit.
"""

import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Integer, UInt8

from workingpapers.foundation.console import write_atomically
from workingpapers.foundation.errors import InputError

OPERATORS = ("[MIN", "[MAX", "[MED", "[SM")
"""Least, greatest, median (truncated to a whole number) and sum modulo 10."""

SYMBOLS = (*OPERATORS, "]", *map(str, range(10)))
"""The symbol of token t is `SYMBOLS[t - 1]`."""

VOCABULARY = 1 + len(SYMBOLS)

_TOKEN_OF = {symbol: token for token, symbol in enumerate(SYMBOLS, start=1)}
_SPLITS = {"train": range(8), "validation": range(8, 9), "test": range(9, 10)}
_HEADER = "Source\tTarget"
_MOST_TREES = 1 << 22
"""So many trees in a row without one of the wanted length: there is none."""

_MOST_REPEATS = 1 << 18
"""So many trees in a row that are known or of other splits: there is no new one."""


class ListOpsSample(NamedTuple):
    """Distinct ListOps sequences with their values and what shallow baselines look at."""

    tokens: UInt8[np.ndarray, "count most"]
    """Padded with 0 at the end."""
    labels: Int[np.ndarray, " count"]
    """0 to 9."""
    depths: Int[np.ndarray, " count"]
    """The most brackets that are open at once: at least 1, at most `max_depth` - 1."""
    root_operators: Int[np.ndarray, " count"]
    """The outermost operator, an index into OPERATORS."""


def sample_listops(
    count: int, *, least: int, most: int, seed: int, split: str, max_depth: int = 10
) -> ListOpsSample:
    """`count` distinct sequences of the split with least < length < most, both in tokens.

    A node of a tree is an operator with probability 1/4, unless its depth (the root's is 1) is
    `max_depth`, else a digit; digits, operators and the numbers 2 to 10 of arguments are uniform.
    Long Range Arena has least = 500 and most = 2000 (Tay et al. 2021, arXiv:2011.04006, section
    2.2.1). A sequence belongs to the split "train", "validation" or "test" by a hash of its
    tokens, so that splits share none, whatever the seeds: 8, 1 and 1 tenths of all. The first
    sequences of a larger `count` are those of a smaller one.
    InputError where the arguments are out of range or there are fewer such trees.
    """
    for name, value, smallest in (
        ("count", count, 1),
        ("least", least, 1),
        ("most", most, least + 2),
        ("seed", seed, 0),
        ("max_depth", max_depth, 2),
    ):
        if value < smallest:
            raise InputError(f"{name}: expected at least {smallest}, got {value}")
    if split not in _SPLITS:
        raise InputError(f"split: expected {', '.join(_SPLITS)}, got {split}")
    from workingpapers.adamra import listops_kernels

    rng = np.random.default_rng(seed)
    tokens = np.zeros((count, most), np.uint8)
    depths = np.zeros(count, np.int64)
    grown = np.zeros((min(count, 256), most), np.uint8)
    grown_lengths, grown_depths = np.zeros((2, len(grown)), np.int64)
    seen: set[bytes] = set()
    repeats = 0
    while len(seen) < count:
        filled = listops_kernels.grow(
            rng, least, most, max_depth, _MOST_TREES, grown, grown_lengths, grown_depths
        )
        for row in range(filled):
            sequence = grown[row, : grown_lengths[row]].tobytes()
            if zlib.crc32(sequence) % 10 not in _SPLITS[split] or sequence in seen:
                repeats += 1
                continue
            repeats = 0
            tokens[len(seen)] = grown[row]
            depths[len(seen)] = grown_depths[row]
            seen.add(sequence)
            if len(seen) == count:
                break
        if filled == 0 or repeats > _MOST_REPEATS:
            raise InputError(
                f"count: expected at most {len(seen)}, got {count}: the split {split} has no more "
                f"trees with {least} < length < {most} and max_depth = {max_depth}"
            )
    return ListOpsSample(tokens, evaluate(tokens), depths, tokens[:, 0].astype(np.int64) - 1)


def evaluate(tokens: Integer[np.ndarray, "count length"]) -> Int[np.ndarray, " count"]:
    """The value of each sequence, 0 to 9; InputError for one that is no whole expression."""
    from workingpapers.adamra import listops_kernels

    values = np.empty(len(tokens), np.int64)
    listops_kernels.work_out(_checked(tokens), values)
    broken = np.flatnonzero(values < 0)
    if len(broken):
        raise InputError(f"tokens[{broken[0]}]: expected one whole ListOps expression")
    return values


def root_and_digits(
    tokens: Integer[np.ndarray, "count length"],
) -> tuple[Int[np.ndarray, " count"], Int[np.ndarray, "count 10"]]:
    """What a shallow reader sees: the outermost operator and the digits directly below it.

    The operator is an index into OPERATORS; of each digit it is told how many of the operator's
    arguments are this digit itself, rather than lists.
    """
    from workingpapers.adamra import listops_kernels

    digits = np.zeros((len(tokens), 10), np.int64)
    listops_kernels.count_direct_digits(_checked(tokens), digits)
    return tokens[:, 0].astype(np.int64) - 1, digits


def to_symbols(tokens: Integer[np.ndarray, " length"]) -> list[str]:
    """The symbols of one sequence, without its padding."""
    return [SYMBOLS[token - 1] for token in _checked(tokens).tolist() if token]


def from_symbols(symbols: list[str]) -> UInt8[np.ndarray, " length"]:
    """The tokens of one sequence; InputError names a symbol that is none of SYMBOLS."""
    try:
        return np.array([_TOKEN_OF[symbol] for symbol in symbols], np.uint8)
    except KeyError as error:
        found = error.args[0][:40]
        raise InputError(f"expected symbols of {' '.join(SYMBOLS)}, found {found!r}") from None


def write_tsv(
    path: Path, tokens: Integer[np.ndarray, "count length"], labels: Int[np.ndarray, " count"]
) -> None:
    """Write sequences and labels in Long Range Arena's format, which is held in memory whole.

    A line `Source<TAB>Target`, then a line a sequence: `( ( ( [MAX 3 ) 4 ) ] )<TAB>4`, where
    parentheses bind an operator to one argument after the other and to the closing bracket.
    """
    lines = [_HEADER]
    for row, label in zip(tokens, labels.tolist(), strict=True):
        lines.append(f"{_parenthesised(to_symbols(row))}\t{label}")
    write_atomically(path, "\n".join(lines) + "\n")


def read_tsv(
    path: Path, length: int = 2000
) -> tuple[UInt8[np.ndarray, "count length"], Int[np.ndarray, " count"]]:
    """Sequences, cut or padded to `length`, and labels of a file in Long Range Arena's format.

    Parentheses may be missing. InputError names file and line of what is not as expected.
    """
    if length < 1:
        raise InputError(f"length: expected at least 1, got {length}")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    lines = data.removeprefix(b"\xef\xbb\xbf").splitlines()
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise InputError(f"{path}: the file is empty; expected the header Source<TAB>Target")
    tokens = np.zeros((len(lines) - 1, length), np.uint8)
    labels = np.zeros(len(lines) - 1, np.int64)
    parentheses = str.maketrans("()", "  ")
    for number, line in enumerate(lines, start=1):
        where = f"{path}: line {number}"
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise InputError(
                f"{where}: expected text in UTF-8, found the byte 0x{line[error.start]:02x}"
            ) from error
        if number == 1:
            if text != _HEADER:
                raise InputError(
                    f"{where}: expected the header Source<TAB>Target, found {text[:40]!r}"
                )
            continue
        source, tab, target = text.partition("\t")
        if not tab:
            raise InputError(f"{where}: expected a sequence, a tab and a label")
        if target.strip() not in SYMBOLS[-10:]:
            raise InputError(f"{where}: expected a label from 0 to 9, found {target[:40]!r}")
        try:
            sequence = from_symbols(source.translate(parentheses).split())[:length]
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        if len(sequence) == 0:
            raise InputError(f"{where}: the sequence is empty")
        tokens[number - 2, : len(sequence)] = sequence
        labels[number - 2] = int(target)
    if len(labels) == 0:
        raise InputError(f"{path}: expected sequences below the header, found none")
    return tokens, labels


def _checked(tokens: Integer[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    """The tokens as bytes; the kernels rely on it that each is in the vocabulary."""
    if tokens.size and not 0 <= tokens.min() <= tokens.max() < VOCABULARY:
        raise InputError(
            f"tokens: expected 0 to {VOCABULARY - 1}, found {tokens.min()} to {tokens.max()}"
        )
    return tokens.astype(np.uint8, copy=False)


def _parenthesised(symbols: list[str]) -> str:
    """A well-formed sequence with a pair of parentheses around every binary application."""
    pieces: list[str] = []
    open_brackets: list[tuple[int, int]] = []  # Where each began, and its arguments so far.
    for symbol in symbols:
        if symbol in OPERATORS:
            open_brackets.append((len(pieces), 0))
            pieces.append(symbol)
            continue
        if symbol == "]":
            start, arguments = open_brackets.pop()
            pieces[start] = "( " * (arguments + 1) + pieces[start]
            pieces.append("] )")
        else:
            pieces.append(symbol)
        if open_brackets:
            start, arguments = open_brackets.pop()
            open_brackets.append((start, arguments + 1))
            pieces[-1] += " )"
    return " ".join(pieces)
