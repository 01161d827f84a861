"""Domains as tokens."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from workingpapers.demix import corpora as module
from workingpapers.demix.corpora import (
    PARTS,
    BlockSampler,
    Corpora,
    DomainCorpus,
    blocks,
    encode,
    end_of_text,
    load_domains,
    load_tokenizer,
    random_split,
    token_bytes,
)
from workingpapers.demix.data import EMBEDDED, DomainTexts, DomainTokens, documents
from workingpapers.foundation.errors import InputError, MissingPackageError
from workingpapers.foundation.text import END_OF_TEXT, Document, train_bpe

WORDS = ["river", "stone", "über", "light;", "walk", "green\tseven", "cloud.", "bread", "paper\n"]


def texts(count: int, length: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, length)) for _ in range(count)]


def domain(name: str, found: list[str]) -> DomainTexts:
    return DomainTexts(name, {"all": [Document(text, name, name) for text in found]}, name)


TWO = {"a": domain("a", texts(40, 60, 1)), "b": domain("b", texts(60, 90, 2))}
LOADED = load_domains(TWO, block=16, vocabulary=300)


def message(call: Callable[[], object]) -> str:
    with pytest.raises(InputError) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


def split_texts(corpora: Corpora, name: str, part: str) -> list[str]:
    """The documents again, from their tokens."""
    tokens = corpora.domains[name].part(part).tolist()
    assert tokens[0] == corpora.end_of_text
    text = corpora.tokenizer.decode(tokens, skip_special_tokens=False)
    return text.split(END_OF_TEXT)[1:]


def test_every_document_is_in_one_part() -> None:
    for name, given_texts in TWO.items():
        found = {part: split_texts(LOADED, name, part) for part in PARTS}
        everything = [text for part in PARTS for text in found[part]]
        assert Counter(everything) == Counter(each.text for each in given_texts.parts["all"])
        corpus = LOADED.domains[name]
        total = sum(corpus.bytes.values())
        for part in PARTS:
            assert corpus.documents[part] == len(found[part])
            assert corpus.bytes[part] == len("".join(found[part]).encode())
            assert corpus.part(part).dtype == np.uint16
        assert 0.05 * total < corpus.bytes["dev"] <= 0.1 * total
        assert 0.05 * total < corpus.bytes["test"] <= 0.1 * total


def test_the_same_seed_gives_the_same_parts() -> None:
    again = load_domains(TWO, block=16, vocabulary=300)
    other = load_domains(TWO, block=16, vocabulary=300, seed=1)
    assert again.tokenizer.to_str() == LOADED.tokenizer.to_str()
    assert np.array_equal(again.domains["a"].test, LOADED.domains["a"].test)
    assert split_texts(other, "a", "test") != split_texts(LOADED, "a", "test")


def test_held_out_parts_have_at_most_so_many_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HELD_OUT", 700)
    corpus = load_domains(TWO, block=16, vocabulary=300).domains["b"]
    assert 0 < corpus.bytes["dev"] <= 700
    assert 0 < corpus.bytes["test"] <= 700


def test_copies_are_dropped_and_near_copies_stay_together() -> None:
    different = texts(30, 60, 3)
    near = [f"{text} {mark}" for text in different for mark in ("one", "two", "three")]
    source = {"a": domain("a", [*near, *near])}
    found = load_domains(source, block=16, vocabulary=300)
    part_of = {text: part for part in PARTS for text in split_texts(found, "a", part)}
    assert sorted(part_of) == sorted(near)
    assert sum(found.domains["a"].documents.values()) == len(near)
    for text in different:
        assert len({part_of[f"{text} {mark}"] for mark in ("one", "two", "three")}) == 1
    kept = load_domains(source, block=16, vocabulary=300, deduplicate=False)
    assert sum(kept.domains["a"].documents.values()) == 2 * len(near)


def test_few_documents_are_cut_into_pieces() -> None:
    text = "\n".join(texts(1, 3000, 4))
    found = load_domains({"a": domain("a", [text])}, block=16, vocabulary=300)
    everything = [piece for part in PARTS for piece in split_texts(found, "a", part)]
    assert len(everything) >= 20
    assert sorted("".join(sorted(everything))) == sorted(text)
    assert all(piece in text for piece in everything)


def test_parts_that_files_give_are_kept(tmp_path: Path) -> None:
    for part, count in (("train", 300), ("dev", 50), ("test", 60)):
        (tmp_path / "a").mkdir(exist_ok=True)
        (tmp_path / "a" / f"{part}.txt").write_text(f"{part}! " * count, encoding="utf-8")
    found = load_domains(tmp_path, block=16, vocabulary=300)
    assert split_texts(found, "a", "test") == ["test! " * 60]
    assert found.domains["a"].documents == {"train": 1, "dev": 1, "test": 1}
    less = load_domains(str(tmp_path), block=16, vocabulary=300, limit_bytes=700)
    assert less.domains["a"].bytes == {"train": 700, "dev": 250, "test": 360}


def test_limit_and_anonymise() -> None:
    source = {"a": domain("a", [f"{text} @ann" for text in texts(60, 60, 5)])}
    found = load_domains(source, block=16, vocabulary=300, limit_bytes=9_000, anonymise=True)
    assert sum(found.domains["a"].bytes.values()) == 9_000
    text = "".join(split_texts(found, "a", "train"))
    assert "@USER" in text
    assert "@ann" not in text


def test_the_tokenizer_comes_from_training_parts_of_training_domains(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[str] = []

    def spy(found: list[str], size: int, *, extra: str) -> Tokenizer:
        seen.extend(found)
        return train_bpe(seen, size, extra=extra)

    monkeypatch.setattr(module, "train_bpe", spy)
    source = {
        "pycode": domain("pycode", texts(40, 60, 6)),
        "news": domain("news", texts(40, 60, 7)),
    }
    found = load_domains(source, block=16, vocabulary=300)
    assert sorted(seen) == sorted(split_texts(found, "pycode", "train"))
    seen.clear()
    given_one = load_domains(source, found.tokenizer, block=16)
    assert not seen
    assert np.array_equal(given_one.domains["news"].train, found.domains["news"].train)


def test_embedded_domains_by_name() -> None:
    found = load_domains(["tweets", "milton"], limit_bytes=60_000, block=16, vocabulary=300)
    assert [corpus.name for corpus in found.select(["milton", "tweets"])] == ["milton", "tweets"]
    assert found.domains["milton"].source == EMBEDDED["milton"].source
    assert found.domains["milton"].licence == "public domain"
    assert sum(found.domains["tweets"].bytes.values()) == 60_000


def test_tokens_are_kept_and_mapped_into_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    for name, found in TWO.items():
        (data / name).mkdir(parents=True)
        for number, each in enumerate(found.parts["all"]):
            (data / name / f"{number}.txt").write_text(each.text, encoding="utf-8")
    cache = tmp_path / "cache"
    plain = load_domains(data, block=16, vocabulary=300)
    stored = load_domains(data, block=16, vocabulary=300, cache=cache)
    for name, corpus in stored.domains.items():
        assert isinstance(corpus.train, np.memmap)
        for part in PARTS:
            assert np.array_equal(corpus.part(part), plain.domains[name].part(part))
        assert corpus.bytes == plain.domains[name].bytes
        assert corpus.documents == plain.domains[name].documents
    assert stored.tokenizer.to_str() == plain.tokenizer.to_str()
    with monkeypatch.context() as patch:
        patch.setattr(module, "read_domains", None)
        again = load_domains(data, block=16, vocabulary=300, cache=cache)
    assert np.array_equal(again.domains["a"].dev, plain.domains["a"].dev)
    # A changed file is read again; nothing unfinished is left.
    (data / "a" / "0.txt").write_text("something else", encoding="utf-8")
    changed = load_domains(data, block=16, vocabulary=300, cache=cache)
    assert sum(changed.domains["a"].bytes.values()) < sum(plain.domains["a"].bytes.values())
    assert len(list(cache.iterdir())) == 2


def test_the_end_of_a_text_is_read_where_it_is_written_out() -> None:
    tokens = encode([f"a{END_OF_TEXT}b", ""], LOADED.tokenizer)
    # As `MixtureLM.encode` and transformers read it.
    whole = LOADED.tokenizer.encode(f"a{END_OF_TEXT}b", add_special_tokens=False).ids
    end = LOADED.end_of_text
    assert tokens.tolist() == [end, *whole, end]
    assert whole.count(end) == 1


@given(st.text())
@settings(max_examples=50)
def test_bytes_of_tokens_are_those_of_the_text(text: str) -> None:
    tokens = encode([text], LOADED.tokenizer)
    assert token_bytes(LOADED.tokenizer)[tokens].sum() == len(text.encode())


def test_bytes_of_tokens_of_the_llama_type() -> None:
    kinds = {"<unk>": 0, "</s>": 1, "<0x0A>": 2, "\u2581über": 3, "n": 4}
    tokenizer = Tokenizer(models.WordLevel(kinds, unk_token="<unk>"))
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(["<unk>", "</s>"])
    assert token_bytes(tokenizer).tolist() == [0, 0, 1, 6, 1]
    assert end_of_text(tokenizer) == 1


def test_large_vocabularies_take_four_bytes() -> None:
    kinds = {END_OF_TEXT: 0, "[U]": 1} | {f"w{number}": number for number in range(2, 65_537)}
    tokenizer = Tokenizer(models.WordLevel(kinds, unk_token="[U]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokens = encode(["w65536 w2"], tokenizer)
    assert tokens.dtype == np.uint32
    assert tokens.tolist() == [0, 65_536, 2]


def test_tokens_of_fairseq_need_gpt2_s_tokenizer() -> None:
    tokens = np.array([50256, 1, 2, 1, 50256, 2, 2], np.uint16)
    source = {"a": DomainTokens("a", dict.fromkeys(PARTS, tokens), "a")}
    refusal = "tokenizer: fairseq's data are tokens of GPT-2; expected its tokenizer.json"
    assert message(lambda: load_domains(source, block=4)) == refusal
    assert message(lambda: load_domains(source, LOADED.tokenizer, block=4)) == refusal
    kinds = {f"{number:05}": number for number in range(50_256)} | {"one": 1, END_OF_TEXT: 50_256}
    del kinds["00001"]
    tokenizer = Tokenizer(models.WordLevel(kinds, unk_token="one"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    tokenizer.add_special_tokens([END_OF_TEXT])
    found = load_domains(source, tokenizer, block=4).domains["a"]
    assert np.array_equal(found.train, tokens)
    assert found.bytes["test"] == 3 + 5 + 3 + 5 + 5
    assert found.documents["test"] == 2


def test_refusals(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("too little text, but some words", encoding="utf-8")
    found = message(lambda: load_domains(tmp_path, LOADED.tokenizer, block=64))
    assert found.startswith(f"{tmp_path}/a.txt: domain 'a' has ")
    assert found.endswith(
        " tokens in its part 'train', expected at least 65, a block and the token before it"
    )
    assert message(lambda: load_domains(["pycode", "nws"], limit_bytes=1000)).startswith(
        "domain 'nws': expected one of pycode, cxx, licences"
    )
    assert message(lambda: load_domains(["news", "news"])) == (
        "domain 'news': there is one of this name"
    )
    assert message(lambda: load_domains([])) == "domains: expected at least one"
    assert message(lambda: load_domains(TWO, splits=(0.5, 0.5, 0.5))) == (
        "splits: expected three positive shares that sum to 1, got [0.5, 0.5, 0.5]"
    )
    assert message(lambda: load_domains(TWO, block=0)) == "block: expected at least 1 token, got 0"
    assert message(lambda: LOADED.select(["c"])) == "domain 'c': expected one of a, b"
    assert message(lambda: LOADED.domains["a"].part("valid")) == (
        "part 'valid': expected one of train, dev, test"
    )
    path = tmp_path / "tokenizer.json"
    path.write_text("{}", encoding="utf-8")
    assert message(lambda: load_tokenizer(path)).startswith(f"{path}: expected a tokenizer.json")
    assert message(lambda: load_tokenizer(tmp_path / "no.json")) == (
        f"{tmp_path}/no.json: No such file or directory"
    )
    nothing = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    assert message(lambda: end_of_text(nothing)) == (
        f"tokenizer: expected a token for the end of a text, such as {END_OF_TEXT}"
    )


# Blocks


def corpus(name: str, size: int) -> DomainCorpus:
    """Tokens that say their place."""
    tokens = np.arange(size, dtype=np.uint16)
    return DomainCorpus(name, tokens, tokens[:0], tokens[:0], {}, {})


def test_batches_are_a_function_of_their_number_alone() -> None:
    corpora = [corpus("a", 50), corpus("b", 1000)]
    one = BlockSampler(corpora, block=4, rows=3, seed=5)
    other = BlockSampler(corpora, block=4, rows=3, seed=5)
    forwards = [one(index) for index in range(30)]
    backwards = [other(index) for index in reversed(range(30))]
    assert all(map(np.array_equal, forwards, reversed(backwards)))
    assert forwards[0].shape == (2, 3, 5)
    assert forwards[0].dtype == np.int64
    # Its own order for every name and seed, whatever domains stand beside it.
    alone = BlockSampler(corpora[1:], block=4, rows=3, seed=5)
    assert np.array_equal(alone(7)[0], forwards[7][1])
    assert not np.array_equal(BlockSampler(corpora, 4, 3, seed=6)(0), forwards[0])
    renamed = BlockSampler([corpus("c", 1000)], block=4, rows=3, seed=5)
    assert not np.array_equal(renamed(0)[0], forwards[0][1])


@given(st.integers(5, 60), st.integers(1, 4), st.integers(1, 5), st.integers(0, 3))
@settings(max_examples=50)
def test_an_epoch_has_every_block_once(size: int, block: int, rows: int, seed: int) -> None:
    sampler = BlockSampler([corpus("a", size)], block, rows, seed)
    count = (size - 1) // block
    batches = [sampler(index)[0] for index in range(-(-3 * count // rows))]
    found = np.concatenate(batches)
    # Block i holds the tokens from i * block on, and one more.
    assert np.array_equal(found, found[:, :1] + np.arange(block + 1))
    starts = found[:, 0] // block
    for epoch in range(3):
        once = starts[epoch * count : (epoch + 1) * count]
        assert sorted(once.tolist()) == list(range(count))


def test_smaller_domains_begin_again() -> None:
    sampler = BlockSampler([corpus("a", 41), corpus("b", 401)], block=4, rows=2, seed=0)
    assert sampler.epochs(10) == {"a": 2.0, "b": 0.2}
    assert len({sampler(index)[0, row, 0] for index in range(5) for row in range(2)}) == 10


def test_sampler_refuses() -> None:
    assert message(lambda: BlockSampler([corpus("a", 4)], 4, 1)).endswith(
        "domain 'a' has 4 tokens in its part 'train', expected at least 5, a block and the token "
        "before it"
    )
    assert message(lambda: BlockSampler([corpus("a", 9)], 4, 0)) == (
        "block, rows: expected at least 1, got 4 and 0"
    )


def test_blocks_to_evaluate() -> None:
    found, previous = blocks(np.arange(12, dtype=np.uint16), 4)
    assert found.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert previous.tolist() == [0, 4]
    assert found.dtype == previous.dtype == np.int64
    assert [each.shape for each in blocks(np.arange(3, dtype=np.uint16), 4)] == [(0, 4), (0,)]


# Controls


def test_random_split_deals_the_same_documents_out_again() -> None:
    dealt = random_split(LOADED, seed=0)
    for part in PARTS:
        before = [text for name in "ab" for text in split_texts(LOADED, name, part)]
        after = {name: split_texts(dealt, name, part) for name in "ab"}
        assert Counter(before) == Counter(after["a"] + after["b"])
        for name in "ab":
            one = dealt.domains[name]
            assert one.documents[part] == len(after[name])
            assert one.bytes[part] == len("".join(after[name]).encode())
            assert one.part(part).dtype == np.uint16
    sizes = [len(one.train) for one in dealt.domains.values()]
    longest = max(len(encode([each.text], LOADED.tokenizer)) for each in TWO["b"].parts["all"])
    assert abs(sizes[0] - sizes[1]) <= longest
    from_a = set(split_texts(LOADED, "a", "train"))
    assert 0.2 < len(from_a & set(split_texts(dealt, "a", "train"))) / len(from_a) < 0.8
    again = random_split(LOADED, seed=0)
    assert np.array_equal(again.domains["a"].train, dealt.domains["a"].train)


def passages(found: list[str], length: int) -> list[int]:
    """Hashes of every so many words in a row."""
    words = [text.split() for text in found]
    return [
        hash(tuple(each[i : i + length])) for each in words for i in range(len(each) - length + 1)
    ]


@pytest.mark.parametrize("name", list(EMBEDDED))
def test_training_and_test_parts_share_no_passages(name: str) -> None:
    # Tweets and reviews are sentences: many texts, and shorter passages of them.
    limit, length = (100_000, 12) if name in ("tweets", "reviews") else (300_000, 50)
    try:
        found = documents(name, limit)
    except MissingPackageError as error:
        pytest.skip(str(error).partition(":")[0])
    source = DomainTexts(name, {"all": found}, "")
    parted = module._parted(source.parts, (0.8, 0.1, 0.1), False, 0)
    known = set(passages(parted["train"], length))
    test = passages(parted["test"], length)
    assert test
    assert sum(each in known for each in test) <= 0.01 * len(test)


def test_texts_are_parted_alike_under_any_name() -> None:
    """So that nothing is tested on what was trained on when a domain is read again."""
    found = [
        load_domains({name: DomainTexts(name, TWO["a"].parts, "")}, LOADED.tokenizer, block=16)
        for name in ("sea", "ocean")
    ]
    sea, ocean = found[0].domains["sea"], found[1].domains["ocean"]
    for part in ("train", "dev", "test"):
        assert np.array_equal(sea.part(part), ocean.part(part))
