"""Domains as tokens: split by document, encoded, cut into blocks, and sampled in balance."""

import hashlib
import importlib.metadata
import json
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int, Int64, Integer

from workingpapers.demix.data import (
    EMBEDDED,
    GPT2_END_OF_TEXT,
    TRAINING,
    DomainTexts,
    DomainTokens,
    documents,
    generator,
    limited,
    pieces,
    read_domains,
    visible_files,
    without_copies,
)
from workingpapers.demix.data import anonymise as without_persons
from workingpapers.demix.protocol import check_names
from workingpapers.foundation import text as foundation_text
from workingpapers.foundation.errors import InputError, missing_package
from workingpapers.foundation.tables import listed
from workingpapers.foundation.text import END_OF_TEXT, Document, near_duplicates, train_bpe

if TYPE_CHECKING:
    import tokenizers

PARTS = ("train", "dev", "test")

HELD_OUT = 200_000
"""Bytes at most of the parts "dev" and "test" of a domain that is split here."""

Tokens = Integer[np.ndarray, " _tokens"]


@dataclass(frozen=True)
class DomainCorpus:
    """The tokens of one domain, each document with the end-of-text token before it.

    They are uint16 where the vocabulary fits, else uint32, in memory or mapped into it. `bytes`
    (UTF-8, of the texts) and `documents` are by part.
    """

    name: str
    train: Integer[np.ndarray, " train"]
    dev: Integer[np.ndarray, " dev"]
    test: Integer[np.ndarray, " test"]
    bytes: Mapping[str, int]
    documents: Mapping[str, int]
    source: str = ""
    licence: str = ""

    def part(self, name: str) -> Tokens:
        """The tokens of "train", "dev" or "test"."""
        if name not in PARTS:
            raise InputError(f"part {name!r}: expected one of {listed(PARTS)}")
        tokens: Tokens = getattr(self, name)
        return tokens


@dataclass(frozen=True)
class Corpora:
    """Domains by name, and the tokenizer of all their tokens."""

    domains: Mapping[str, DomainCorpus]
    tokenizer: "tokenizers.Tokenizer"
    end_of_text: int

    def select(self, names: Sequence[str]) -> list[DomainCorpus]:
        """These domains in this order; InputError for an unknown one."""
        for name in names:
            if name not in self.domains:
                raise InputError(f"domain {name!r}: expected one of {listed(list(self.domains))}")
        return [self.domains[name] for name in names]


def load_domains(
    source: Path | str | Sequence[str] | Mapping[str, DomainTexts | DomainTokens],
    tokenizer: "tokenizers.Tokenizer | None" = None,
    *,
    splits: Sequence[float] = (0.8, 0.1, 0.1),
    anonymise: bool = False,
    deduplicate: bool = True,
    limit_bytes: int | None = None,
    seed: int = 0,
    vocabulary: int = 2048,
    block: int = 128,
    cache: Path | None = None,
    text: str = "text",
    domain: str = "domain",
    only: Sequence[str] = (),
) -> Corpora:
    """Domains as tokens: embedded ones by their names, or a user's at a path (`read_domains`).

    Documents are split at random into parts of the sizes `splits` in bytes, "dev" and "test" of
    at most HELD_OUT, unless the files are parted already. With `deduplicate` copies are dropped
    and near copies come into one part. Where a domain has fewer than 20 documents, these are cut
    into pieces first. `anonymise` replaces addresses of persons. `limit_bytes` is a domain's size
    at most (of its training part, where it is parted). Of a path, `only` are the domains to be
    read, in this order (none: all).

    Without a tokenizer one of at most `vocabulary` kinds is made from the training parts, of the
    embedded domains only of those in TRAINING if there are any; every domain has the same weight
    in it. fairseq's data need GPT-2's tokenizer.

    With `cache` the tokens are kept in a folder below it and mapped into memory, and found again
    there as long as files, versions and arguments are the same.

    InputError, in one line: what `read_domains` raises, an unknown name, and a domain of which a
    part has fewer tokens than a block and the one before it.
    """
    _check(splits, block, limit_bytes)
    settings = {
        "splits": list(splits),
        "anonymise": anonymise,
        "deduplicate": deduplicate,
        "limit_bytes": limit_bytes,
        "seed": seed,
        "vocabulary": vocabulary if tokenizer is None else None,
        "fields": [text, domain],
        "only": list(only),
    }
    folder = None
    if cache is not None and not isinstance(source, Mapping):
        known = {"settings": settings, "tokenizer": tokenizer and tokenizer.to_str()}
        folder = cache / _fingerprint(source, known)
        if (folder / "corpora.json").exists():
            return _checked(_stored(folder), block)
    found: Mapping[str, DomainTexts | DomainTokens]
    if isinstance(source, Mapping):
        found = source
        check_names(list(found))
    elif isinstance(source, Path | str):
        found = read_domains(Path(source), text=text, domain=domain)
        for name in only:
            if name not in found:
                raise InputError(f"{source}: has no domain {name!r}, only {listed(list(found))}")
        found = {name: found[name] for name in only or found}
    else:
        check_names(source)
        found = {name: _embedded(name, limit_bytes, seed) for name in source}
    if not found:
        raise InputError("domains: expected at least one")
    embedded = not isinstance(source, Path | str | Mapping)
    parted: dict[str, dict[str, list[str]]] = {}
    for name, each in found.items():
        if isinstance(each, DomainTexts):
            prepared = _prepared(each, anonymise, deduplicate and not embedded, limit_bytes, seed)
            parted[name] = _parted(prepared, splits, deduplicate and not embedded, seed)
    if tokenizer is None:
        if len(parted) < len(found):
            raise InputError(
                "tokenizer: fairseq's data are tokens of GPT-2; expected its tokenizer.json"
            )
        tokenizer = train_bpe(_sample(parted, vocabulary, seed), vocabulary, extra="demix")
    end = end_of_text(tokenizer)
    if len(parted) < len(found) and end != GPT2_END_OF_TEXT:
        raise InputError(
            "tokenizer: fairseq's data are tokens of GPT-2; expected its tokenizer.json"
        )
    domains = {}
    for name, each in found.items():
        if isinstance(each, DomainTokens):
            domains[name] = _of_tokens(each, tokenizer, end)
        else:
            domains[name] = _of_texts(each, parted.pop(name), tokenizer)
    corpora = _checked(Corpora(domains, tokenizer, end), block)
    if folder is None:
        return corpora
    _store(folder, corpora)
    return _stored(folder)


def _check(splits: Sequence[float], block: int, limit_bytes: int | None) -> None:
    if len(splits) != 3 or min(splits) <= 0 or abs(sum(splits) - 1) > 1e-9:
        raise InputError(
            f"splits: expected three positive shares that sum to 1, got {list(splits)}"
        )
    if block < 1:
        raise InputError(f"block: expected at least 1 token, got {block}")
    if limit_bytes is not None and limit_bytes < 1:
        raise InputError(f"limit_bytes: expected at least 1, got {limit_bytes}")


def _checked(corpora: Corpora, block: int) -> Corpora:
    for corpus in corpora.domains.values():
        for part in PARTS:
            size = len(corpus.part(part))
            if size <= block:
                raise InputError(
                    f"{corpus.source}: domain {corpus.name!r} has {size} tokens in its part "
                    f"{part!r}, expected at least {block + 1}, a block and the token before it"
                )
    return corpora


def end_of_text(tokenizer: "tokenizers.Tokenizer") -> int:
    """The token that a tokenizer has for the end of a text; InputError if it has none."""
    for name in (END_OF_TEXT, "<|end_of_text|>", "</s>", "<eos>"):
        number = tokenizer.token_to_id(name)
        if number is not None:
            return int(number)
    raise InputError(f"tokenizer: expected a token for the end of a text, such as {END_OF_TEXT}")


def load_tokenizer(path: Path) -> "tokenizers.Tokenizer":
    """The tokenizer of a file `tokenizer.json`; InputError for another file."""
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise missing_package("tokenizers", "demix") from error
    try:
        return Tokenizer.from_str(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    # The library raises a bare Exception for what it cannot read.
    except Exception as error:
        raise InputError(f"{path}: expected a tokenizer.json ({error})") from error


def _embedded(name: str, limit_bytes: int | None, seed: int) -> DomainTexts:
    found = documents(name, limit_bytes, seed)
    return DomainTexts(name, {"all": found}, EMBEDDED[name].source, EMBEDDED[name].licence)


def _prepared(
    domain: DomainTexts, anonymise: bool, deduplicate: bool, limit_bytes: int | None, seed: int
) -> Mapping[str, list[Document]]:
    prepared = {}
    for part, found in domain.parts.items():
        if anonymise:
            found = [
                Document(without_persons(each.text), each.label, each.source) for each in found
            ]
        if deduplicate:
            found = without_copies(found)
        if limit_bytes is not None and part in ("all", "train"):
            order = generator(seed, _digest(found), 1).permutation(len(found))
            found = limited((found[index] for index in order), limit_bytes)
        prepared[part] = found
    return prepared


def _digest(documents: Sequence[Document]) -> str:
    """By which chance is decided: not by the name, as texts may be read again under another."""
    digest = hashlib.sha256()
    for document in documents:
        digest.update(document.text.encode() + b"\0")
    return digest.hexdigest()


_FEWEST = 20
"""Documents that a domain has at least when it is split; fewer are cut into pieces."""


def _parted(
    parts: Mapping[str, list[Document]],
    splits: Sequence[float],
    deduplicate: bool,
    seed: int,
) -> dict[str, list[str]]:
    """The texts of train, dev and test."""
    if "all" not in parts:
        return {part: [each.text for each in parts[part]] for part in PARTS}
    texts = [each.text for each in parts["all"]]
    if len(texts) < _FEWEST:
        size = max(1, sum(map(len, texts)) // _FEWEST)
        texts = [piece for text in texts for piece in pieces(text, size)]
    sizes = np.array([len(text.encode()) for text in texts])
    group = near_duplicates(texts) if deduplicate else np.arange(len(texts))
    rng = generator(seed, _digest(parts["all"]), 2)
    place = _divided(np.bincount(group, sizes), splits, rng)[group]
    return {
        part: [texts[index] for index in np.flatnonzero(place == number)]
        for number, part in enumerate(PARTS)
    }


def _divided(
    sizes: np.ndarray, splits: Sequence[float], rng: np.random.Generator
) -> Int[np.ndarray, " groups"]:
    """For each group the number of its part.

    In random order a group goes to "test", else to "dev", if it still fits in there; so groups
    larger than such a part are for training. A part for which none fits gets the smallest left.
    """
    place = np.zeros(len(sizes), dtype=np.int64)
    order = rng.permutation(len(sizes))
    for part in (2, 1):
        room = min(splits[part] * sizes.sum(), HELD_OUT)
        for group in order:
            if place[group] == 0 and sizes[group] <= room:
                place[group] = part
                room -= sizes[group]
        left = np.flatnonzero(place == 0)
        if len(left) > 1 and not (place == part).any():
            place[left[np.argmin(sizes[left])]] = part
    return place


def _sample(
    parted: Mapping[str, Mapping[str, list[str]]], vocabulary: int, seed: int
) -> Iterator[str]:
    """Training texts that a tokenizer is made from, as many bytes of each domain.

    500 kB a domain are enough for a small vocabulary: a merge of the last ones occurs hundreds of
    times.
    """
    names = [name for name in parted if name in TRAINING] or list(parted)
    for name in names:
        texts = parted[name]["train"]
        room = max(500_000, 250 * vocabulary)
        for index in generator(seed, name, 3).permutation(len(texts)):
            yield texts[index][:room]
            room -= len(texts[index])
            if room <= 0:
                break


def _dtype(tokenizer: "tokenizers.Tokenizer") -> type[np.uint16] | type[np.uint32]:
    # Numbers may have gaps.
    largest = max(tokenizer.get_vocab().values())
    return np.uint16 if largest < 1 << 16 else np.uint32


_AT_ONCE = 8_000_000
"""Characters that are encoded at once, so that the library's own records stay small."""


def encode(texts: Iterable[str], tokenizer: "tokenizers.Tokenizer") -> Tokens:
    """The tokens of texts, one after the other, each with the end-of-text token before it.

    A special token that is written out in a text is read as this token, as transformers does.
    """
    end, dtype = end_of_text(tokenizer), _dtype(tokenizer)
    found = [np.empty(0, dtype)]
    for some in _batches(texts):
        for encoding in tokenizer.encode_batch_fast(some, add_special_tokens=False):
            found.append(np.array([end, *encoding.ids], dtype))
    return np.concatenate(found)


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    some: list[str] = []
    size = 0
    for text in texts:
        some.append(text)
        size += len(text)
        if size >= _AT_ONCE:
            yield some
            some, size = [], 0
    if some:
        yield some


def token_bytes(tokenizer: "tokenizers.Tokenizer") -> Int64[np.ndarray, " vocabulary"]:
    """How many bytes of text each token stands for; 0 for special ones.

    Bits per byte of any stretch of tokens are its bits over the sum of these. For tokenizers over
    bytes, and for those of the llama type, in which a blank is one sign.
    """
    special = {
        number for number, each in tokenizer.get_added_tokens_decoder().items() if each.special
    }
    over_bytes = '"ByteLevel"' in tokenizer.to_str()
    vocabulary = tokenizer.get_vocab()
    # Numbers may have gaps.
    sizes = np.zeros(max(vocabulary.values()) + 1, dtype=np.int64)
    for token, number in vocabulary.items():
        if number in special:
            continue
        if over_bytes:
            sizes[number] = len(token)
        elif len(token) == 6 and token.startswith("<0x"):
            sizes[number] = 1
        else:
            sizes[number] = len(token.replace("\u2581", " ").encode())
    return sizes


def _of_texts(
    domain: DomainTexts,
    parted: dict[str, list[str]],
    tokenizer: "tokenizers.Tokenizer",
) -> DomainCorpus:
    sizes = {part: sum(len(text.encode()) for text in parted[part]) for part in PARTS}
    counts = {part: len(parted[part]) for part in PARTS}
    tokens = {part: encode(parted[part], tokenizer) for part in PARTS}
    return DomainCorpus(
        domain.name,
        **tokens,
        bytes=sizes,
        documents=counts,
        source=domain.source,
        licence=domain.licence,
    )


def _of_tokens(domain: DomainTokens, tokenizer: "tokenizers.Tokenizer", end: int) -> DomainCorpus:
    of_token = token_bytes(tokenizer)
    counts = {
        part: np.bincount(tokens, minlength=len(of_token)) for part, tokens in domain.parts.items()
    }
    return DomainCorpus(
        domain.name,
        **domain.parts,
        bytes={part: int(count @ of_token) for part, count in counts.items()},
        documents={part: int(count[end]) for part, count in counts.items()},
        source=domain.source,
        licence=domain.licence,
    )


def _fingerprint(source: Path | str | Sequence[str], known: Mapping[str, Any]) -> str:
    """A name for what these arguments give: files by size and time, packages by version."""
    parts: list[Any] = [known, sys.version]
    # What the code makes of them: another version of it may give other texts.
    own = [Path(__file__).with_name(name) for name in ("data.py", "markup.py", "corpora.py")]
    vendored = sorted(Path(__file__).with_name("texts").glob("*.gz"))
    for path in (*own, *vendored, Path(foundation_text.__file__)):
        parts.append(hashlib.sha256(path.read_bytes()).hexdigest())
    if isinstance(source, Path | str):
        path = Path(source)
        if not path.exists():
            raise InputError(f"{path}: no such file or folder")
        files = [path] if path.is_file() else visible_files(path)
        states = ((file, file.stat()) for file in files)
        parts.append([[str(file.resolve()), s.st_size, s.st_mtime_ns] for file, s in states])
    else:
        parts.append(list(source))
        parts.append(
            sorted(f"{each.name}=={each.version}" for each in importlib.metadata.distributions())
        )
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _store(folder: Path, corpora: Corpora) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.partial-"))
    try:
        corpora.tokenizer.save(str(partial / "tokenizer.json"))
        records = []
        for corpus in corpora.domains.values():
            (partial / corpus.name).mkdir()
            for part in PARTS:
                np.save(partial / corpus.name / f"{part}.npy", corpus.part(part))
            records.append(
                {
                    "name": corpus.name,
                    "bytes": dict(corpus.bytes),
                    "documents": dict(corpus.documents),
                    "source": corpus.source,
                    "licence": corpus.licence,
                }
            )
        text = json.dumps(records, indent=2, ensure_ascii=False) + "\n"
        (partial / "corpora.json").write_text(text, encoding="utf-8")
        partial.chmod(0o755)
        try:
            partial.rename(folder)
        except OSError:
            # Another process has stored the same meanwhile.
            if not (folder / "corpora.json").exists():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _stored(folder: Path) -> Corpora:
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    domains = {}
    try:
        for record in json.loads((folder / "corpora.json").read_text("utf-8")):
            name = record["name"]
            tokens = {part: np.load(folder / name / f"{part}.npy", mmap_mode="r") for part in PARTS}
            domains[name] = DomainCorpus(**record, **tokens)
    except (OSError, EOFError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise InputError(
            f"{folder}: the tokens kept there are damaged ({error}); they are made again when this "
            "folder is deleted"
        ) from None
    return Corpora(domains, tokenizer, end_of_text(tokenizer))


class BlockSampler:
    """Batches with as many rows of each domain, a function of the batch's number alone.

    Block i of a domain are its training tokens from i * block on, `block` of them and one more.
    A domain's blocks come in a new random order in each of its epochs; domains of fewer blocks
    begin their next epoch sooner (arXiv:2108.05036, section 3: balanced).
    """

    def __init__(
        self, corpora: Sequence[DomainCorpus], block: int, rows: int, seed: int = 0
    ) -> None:
        if block < 1 or rows < 1:
            raise InputError(f"block, rows: expected at least 1, got {block} and {rows}")
        self.corpora, self.block, self.rows, self.seed = tuple(corpora), block, rows, seed
        self._counts = [(len(corpus.train) - 1) // block for corpus in self.corpora]
        for corpus, count in zip(self.corpora, self._counts, strict=True):
            if count < 1:
                raise InputError(
                    f"{corpus.source}: domain {corpus.name!r} has {len(corpus.train)} tokens in "
                    f"its part 'train', expected at least {block + 1}, a block and the token "
                    "before it"
                )
        self._orders: list[dict[int, np.ndarray]] = [{} for _ in self.corpora]

    def __call__(self, index: int) -> Int64[np.ndarray, "domains rows length"]:
        """Batch `index`, from 0: rows of block + 1 tokens, of each domain in turn."""
        batch = np.empty((len(self.corpora), self.rows, self.block + 1), dtype=np.int64)
        for number, corpus in enumerate(self.corpora):
            for row in range(self.rows):
                epoch, place = divmod(index * self.rows + row, self._counts[number])
                start = int(self._order(number, epoch)[place]) * self.block
                batch[number, row] = corpus.train[start : start + self.block + 1]
        return batch

    def epochs(self, batches: int) -> dict[str, float]:
        """How often so many batches read each domain."""
        return {
            corpus.name: batches * self.rows / count
            for corpus, count in zip(self.corpora, self._counts, strict=True)
        }

    def _order(self, number: int, epoch: int) -> Int[np.ndarray, " blocks"]:
        orders = self._orders[number]
        if epoch not in orders:
            # A batch may hold the end of one epoch and the beginning of the next.
            for old in [each for each in orders if each != epoch - 1]:
                del orders[old]
            rng = generator(self.seed, self.corpora[number].name, 4, epoch)
            orders[epoch] = rng.permutation(self._counts[number])
        return orders[epoch]


def blocks(
    tokens: Tokens, block: int
) -> tuple[Int64[np.ndarray, "count block"], Int64[np.ndarray, " count"]]:
    """Blocks to evaluate, and the token before each; what is left at the end is cut off.

    The first token stands before the first block and is in none.
    """
    count = (len(tokens) - 1) // block
    whole = tokens[: count * block + 1].astype(np.int64)
    return whole[1:].reshape(count, block), whole[:-1:block][:count]


def random_split(corpora: Corpora, seed: int) -> Corpora:
    """The control without domains: the same documents, dealt out to the domains at random.

    Each part is dealt by itself, so that all its documents together stay the same: in random
    order, each to the domain that has the fewest tokens so far. Gains of experts should vanish
    (arXiv:2208.03306).
    """
    names = list(corpora.domains)
    of_token = token_bytes(corpora.tokenizer)
    dealt: dict[str, dict[str, np.ndarray]] = {name: {} for name in names}
    for number, part in enumerate(PARTS):
        found = [
            document
            for corpus in corpora.domains.values()
            for document in _single(corpus.part(part), corpora.end_of_text)
        ]
        hands: list[list[Tokens]] = [[] for _ in names]
        sizes = np.zeros(len(names), dtype=np.int64)
        for index in np.random.default_rng([seed, number]).permutation(len(found)):
            fewest = int(np.argmin(sizes))
            hands[fewest].append(found[index])
            sizes[fewest] += len(found[index])
        for name, hand in zip(names, hands, strict=True):
            dealt[name][part] = np.concatenate(hand) if hand else np.empty(0, np.uint16)
    domains = {
        name: DomainCorpus(
            name,
            **parts,
            bytes={part: int(of_token[parts[part]].sum()) for part in PARTS},
            documents={part: int((parts[part] == corpora.end_of_text).sum()) for part in PARTS},
            source="a random share of " + ", ".join(names),
            licence="that of the domains",
        )
        for name, parts in dealt.items()
    }
    return Corpora(domains, corpora.tokenizer, corpora.end_of_text)


def _single(tokens: Tokens, end: int) -> list[Tokens]:
    starts = np.flatnonzero(tokens == end)
    return np.split(tokens, starts[starts > 0])
