"""Documents from users' files, splits that leak nothing, and tokenizers."""

import csv
import gzip
import json
import sys
import zlib
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int, Integer, UInt16, UInt64

from workingpapers.foundation.errors import InputError, missing_package
from workingpapers.foundation.tables import listed

if TYPE_CHECKING:
    import tokenizers


@dataclass(frozen=True)
class Document:
    """A text, the class it belongs to where it has one, and where it comes from."""

    text: str
    label: str | None = None
    source: str = ""


def documents(path: Path, *, text: str = "text", label: str | None = None) -> Iterator[Document]:
    """The documents of a folder, a text file or a table, in the order of their names or lines.

    A folder holds `.txt` files, one document each; where it has sub folders, the documents are
    the files below these, with the name of the sub folder as their class. A `.txt` file is one
    document. In a table (`.csv`, `.tsv`, `.jsonl`, each also with `.gz`) each row or line has its
    text in the column or field `text` and its class, if asked for, in `label`. All are UTF-8.

    Raises InputError, in one line that names the file and the line, for a document without text,
    a row without class, half a character (a lone surrogate), and whatever cannot be read.
    """
    if path.is_dir():
        yield from _of_folder(path)
        return
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    kind = Path(path.name.removesuffix(".gz")).suffix.lower()
    if kind == ".txt":
        yield _of_file(path, None)
        return
    if kind in (".csv", ".tsv"):
        rows = _csv_rows(path, "\t" if kind == ".tsv" else ",")
    elif kind == ".jsonl":
        rows = _json_rows(path)
    else:
        raise InputError(
            f"{path}: expected a folder of .txt files, or a file .txt, .csv, .tsv or .jsonl "
            "(also .gz)"
        )
    empty = True
    for line, row in rows:
        empty = False
        where = f"{path}: line {line}"
        words = _field(row, text, where)
        if not words.strip():
            raise InputError(f"{where}: the text in {text!r} is empty")
        name = None if label is None else _field(row, label, where)
        if name is not None and not name.strip():
            raise InputError(f"{where}: the class in {label!r} is empty")
        yield Document(words, name, where)
    if empty:
        raise InputError(f"{path}: the file has no documents")


def _of_folder(folder: Path) -> Iterator[Document]:
    inside = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    classes = [entry for entry in inside if entry.is_dir()]
    files: list[tuple[Path, str | None]]
    if classes:
        files = [(file, each.name) for each in classes for file in sorted(each.rglob("*.txt"))]
    else:
        files = [(file, None) for file in inside if file.suffix == ".txt"]
    if not files:
        raise InputError(f"{folder}: expected .txt files in it or in its sub folders, found none")
    for file, name in files:
        yield _of_file(file, None if name is None else _whole(name, f"{folder}: the name {name!a}"))


def _of_file(path: Path, label: str | None) -> Document:
    return Document(read_text(path), label, str(path))


def read_text(path: Path) -> str:
    """The text in a file, also a .gz; InputError for one that is empty or not in UTF-8."""
    # Universal newlines, as in any text file read by Python.
    content = "".join(_lines(path)).replace("\r\n", "\n")
    if not content.strip():
        raise InputError(f"{path}: the text is empty")
    return content


def _lines(path: Path) -> Iterator[str]:
    """The lines of a text file, each with its end; InputError names the line that is not UTF-8."""
    number = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for number, data in enumerate(file, start=1):
                yield data.removeprefix(b"\xef\xbb\xbf" if number == 1 else b"").decode()
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: line {number}: expected text in UTF-8, found the byte "
            f"0x{error.object[error.start]:02x}; save the file as UTF-8"
        ) from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path}: not a readable gzip file ({error})") from error


def _csv_rows(path: Path, delimiter: str) -> Iterator[tuple[int, dict[str, Any]]]:
    # The module's default refuses fields above 128 KiB, which long documents are.
    csv.field_size_limit(sys.maxsize)
    reader = csv.reader(_lines(path), delimiter=delimiter, strict=True)
    names: list[str] | None = None
    line = 1
    try:
        for fields in reader:
            if names is None and fields:
                names = [name.strip() for name in fields]
            elif names is not None and fields:
                if len(fields) != len(names):
                    raise InputError(
                        f"{path}: line {line}: expected {len(names)} fields as in the first line, "
                        f"found {len(fields)}"
                    )
                yield line, dict(zip(names, fields, strict=True))
            line = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{path}: line {line}: {error}") from error


def _json_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for line, content in enumerate(_lines(path), start=1):
        if not content.strip():
            continue
        try:
            row = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}: line {line}: not valid JSON ({error})") from error
        if not isinstance(row, dict):
            raise InputError(f"{path}: line {line}: expected an object, found {type(row).__name__}")
        yield line, row


def _field(row: dict[str, Any], name: str, where: str) -> str:
    """A field as text; numbers and truth values, as JSON has them, in JSON's own form."""
    if name not in row:
        raise InputError(f"{where}: no column {name!r}; it has {listed(list(row))}")
    value = row[name]
    if isinstance(value, str):
        return _whole(value, f"{where}: {name!r}")
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    raise InputError(f"{where}: expected text in {name!r}, found {type(value).__name__}")


def _whole(text: str, where: str) -> str:
    """The text; InputError for half a character, which JSON and names of files may hold."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = ord(text[error.start])
        raise InputError(
            f"{where}: expected text that UTF-8 can hold, found the lone surrogate U+{half:04X} "
            f"at character {error.start + 1}"
        ) from None
    return text


def split(
    documents: Sequence[Document],
    shares: Sequence[float],
    seed: int,
    group: Sequence[Hashable] | None = None,
) -> list[list[Document]]:
    """Disjoint parts of the documents, one for each share; classes keep their proportions.

    `group` has one value a document; documents of one group come into one part.
    """
    part = assign([document.label for document in documents], shares, seed, group)
    return [
        [document for document, number in zip(documents, part, strict=True) if number == chosen]
        for chosen in range(len(shares))
    ]


def assign(
    labels: Sequence[Hashable],
    shares: Sequence[float],
    seed: int,
    group: Sequence[Hashable] | None = None,
) -> Int[np.ndarray, " count"]:
    """For each item the number of its part, in a random division that keeps classes and groups.

    Parts have the sizes of `shares` (positive, summing to 1) as nearly as the groups allow. The
    groups, the largest first and equal ones in random order, go one by one to the part that, for
    its share, lacks most whole groups of such classes; where none lacks a whole one, to the part
    that lacks most items.
    """
    if not shares or min(shares) <= 0 or abs(sum(shares) - 1) > 1e-9:
        raise InputError(f"shares: expected positive numbers that sum to 1, got {list(shares)}")
    if group is not None and len(group) != len(labels):
        raise InputError(f"group: expected {len(labels)} values, got {len(group)}")
    members = list(range(len(labels))) if group is None else _numbered(group)
    classes = _numbered(labels)
    # Row g: how many items of each class the group has, and in the last column how many in all.
    counts = np.zeros((max(members, default=-1) + 1, max(classes, default=-1) + 2))
    np.add.at(counts, (members, classes), 1)
    counts[:, -1] = counts.sum(axis=1)
    lacking = np.outer(shares, counts.sum(axis=0))
    order = np.random.default_rng(seed).permutation(len(counts))
    order = order[np.argsort(-counts[order, -1], kind="stable")]
    part_of_group = np.zeros(len(counts), dtype=np.int64)
    for number in order:
        classes_of_group = counts[number, :-1]
        lacks = lacking[:, :-1] @ classes_of_group / (classes_of_group @ classes_of_group)
        # Rounding errors neither lose a whole group nor break a tie.
        whole = np.floor(np.maximum(lacks, 0) + 1e-6)
        need = whole / shares if whole.any() else lacking[:, -1]
        chosen = int(np.argmax(np.round(need, 6)))
        part_of_group[number] = chosen
        lacking[chosen] -= counts[number]
    return part_of_group[members]


def _numbered(values: Sequence[Hashable]) -> list[int]:
    numbers: dict[Hashable, int] = {}
    return [numbers.setdefault(value, len(numbers)) for value in values]


def near_duplicates(
    texts: Sequence[str], shingle: int = 50, share: float = 0.5
) -> Int[np.ndarray, " count"]:
    """For each text the number of its group of near copies.

    Two texts are near copies when at least `share` of the fingerprints of the shorter one occur
    in the other, and so, by steps, is everything linked to them. Fingerprints are those of
    winnowing (Schleimer, Wilkerson and Aiken 2003): hashes of `shingle` consecutive characters,
    capitals and blanks made alike, of which the least of every 16 in a row is kept.
    """
    if shingle < 1:
        raise InputError(f"shingle: expected at least 1 character, got {shingle}")
    if not 0 < share <= 1:
        raise InputError(f"share: expected more than 0 and at most 1, got {share}")
    from scipy import sparse
    from scipy.sparse.csgraph import connected_components

    prints = [_fingerprints(text, shingle) for text in texts]
    sizes = np.array([len(each) for each in prints], dtype=np.int64)
    if not len(sizes):
        return sizes
    _, column = np.unique(np.concatenate(prints), return_inverse=True)
    row = np.repeat(np.arange(len(sizes)), sizes)
    occurs = sparse.csr_array((np.ones(len(row), dtype=np.int32), (row, column)))
    common = (occurs @ occurs.T).tocoo()
    shorter = np.minimum(sizes[common.row], sizes[common.col])
    linked = common.data >= share * shorter
    edges = (np.ones(linked.sum()), (common.row[linked], common.col[linked]))
    graph = sparse.coo_array(edges, shape=(len(sizes), len(sizes)))
    return connected_components(graph, directed=False)[1].astype(np.int64)


_WINDOW = 16


def _fingerprints(text: str, shingle: int) -> UInt64[np.ndarray, " prints"]:
    """The distinct hashes that winnowing keeps of a text; at least one."""
    alike = " ".join(text.lower().split())
    codes = np.frombuffer(alike.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    codes = np.pad(codes.astype(np.uint64), (0, max(0, shingle - len(codes))))
    hashes = codes[: len(codes) - shingle + 1] * np.uint64(0)
    # Horner's rule over the characters of each shingle, twice as many in each round.
    block, width, factor, done = codes, 1, 0x9E3779B97F4A7C15, 0
    while True:
        if shingle & width:
            hashes = hashes * np.uint64(factor) + block[done : done + len(hashes)]
            done += width
        if done == shingle:
            break
        block = block[:-width] * np.uint64(factor) + block[width:]
        width, factor = 2 * width, factor * factor % 2**64
    # The last steps of MurmurHash3, without which the least hash depends on the last character.
    for odd in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        hashes = (hashes ^ (hashes >> np.uint64(33))) * np.uint64(odd)
    hashes ^= hashes >> np.uint64(33)
    if len(hashes) <= _WINDOW:
        return hashes.min(keepdims=True)
    for offset in (1, 2, 4, 8):  # the least of 2, 4, 8 and 16 in a row
        hashes = np.minimum(hashes[:-offset], hashes[offset:])
    # Neighbouring windows mostly share their least; the fewer are left, the faster is unique.
    return np.unique(hashes[np.append(True, hashes[1:] != hashes[:-1])])


class Bytes:
    """The byte tokenizer: a byte is the token value + 1, so that 0 is left for padding."""

    vocabulary = 257
    padding = 0

    def encode(self, text: str, length: int | None = None) -> UInt16[np.ndarray, " tokens"]:
        """The tokens of a text's UTF-8 bytes, at most `length`, cut before a broken character.

        InputError for a lone surrogate.
        """
        data = _whole(text, "text").encode()
        if length is not None and len(data) > length:
            data = data[:length].decode(errors="ignore").encode()
        return np.frombuffer(data, dtype=np.uint8).astype(np.uint16) + np.uint16(1)

    def decode(self, tokens: Integer[np.ndarray, " tokens"]) -> str:
        """The text of tokens, padding left out; bytes that are no UTF-8 become U+FFFD."""
        if tokens.size and not 0 <= tokens.min() <= tokens.max() < self.vocabulary:
            raise InputError(f"tokens: expected numbers from 0 to {self.vocabulary - 1}")
        return (
            (tokens[tokens != self.padding] - 1)
            .astype(np.uint8)
            .tobytes()
            .decode("utf-8", "replace")
        )

    def batch(
        self, texts: Sequence[str], length: int | None = None
    ) -> UInt16[np.ndarray, "texts length"]:
        """The tokens of texts, padded at the end to `length` or, without it, to the longest."""
        rows = [self.encode(text, length) for text in texts]
        if length is None:
            length = max(map(len, rows), default=0)
        tokens = np.zeros((len(rows), length), dtype=np.uint16)
        for target, row in zip(tokens, rows, strict=True):
            target[: len(row)] = row
        return tokens


END_OF_TEXT = "<|endoftext|>"
"""The special token of `train_bpe`, which stands before each document; its number is 0."""


def train_bpe(texts: Iterable[str], size: int, *, extra: str) -> "tokenizers.Tokenizer":
    """A byte-level byte-pair tokenizer of at most `size` kinds of tokens, as GPT-2's is made.

    Kind 0 is END_OF_TEXT, 1 to 256 are the bytes, the rest are merges in the order of their
    frequency; fewer than `size` where the texts hold no more pairs. Every text comes back from its
    tokens byte for byte. The same texts give the same tokenizer, whatever the number of threads.

    `extra` is the extra of this package that brings the library `tokenizers`, for the error
    without it. InputError for a `size` that does not hold the bytes.
    """
    if size < 257:
        raise InputError(f"vocabulary: expected at least 257 kinds of tokens, got {size}")
    try:
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    except ImportError as error:
        raise missing_package("tokenizers", extra) from error
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer
