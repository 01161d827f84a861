import gzip
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workingpapers.foundation.errors import InputError
from workingpapers.foundation.text import (
    Bytes,
    Document,
    assign,
    documents,
    near_duplicates,
    split,
)
from workingpapers.foundation.text import _fingerprints as fingerprints

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def written(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def test_sub_folders_are_classes_and_files_beside_them_are_left_out(tmp_path: Path) -> None:
    written(tmp_path / "README.txt", "about")
    written(tmp_path / "b" / "2.txt", "two\r\nlines")
    written(tmp_path / "b" / "deeper" / "3.txt", "three")
    written(tmp_path / "a" / "1.txt", "\ufeffone")
    written(tmp_path / "a" / "picture.png", b"\x89PNG")
    written(tmp_path / ".hidden" / "4.txt", "four")
    assert list(documents(tmp_path)) == [
        Document("one", "a", str(tmp_path / "a" / "1.txt")),
        Document("two\nlines", "b", str(tmp_path / "b" / "2.txt")),
        Document("three", "b", str(tmp_path / "b" / "deeper" / "3.txt")),
    ]


def test_files_of_a_plain_folder_and_a_single_file_have_no_class(tmp_path: Path) -> None:
    file = written(tmp_path / "texts" / "1.txt", "one")
    assert list(documents(tmp_path / "texts")) == [Document("one", None, str(file))]
    assert list(documents(file)) == [Document("one", None, str(file))]


ROWS = [("good, and long", "1"), ('two\nlines with a "mark"', "0"), ("x" * 200_000, "1")]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".csv.gz", ".tsv.gz"])
def test_tables_keep_text_exactly(tmp_path: Path, suffix: str) -> None:
    mark = "\t" if suffix.startswith(".tsv") else ","
    lines = [mark.join(["words", "class"])]
    lines += [
        mark.join(f'"{field}"'.replace('a "mark"', 'a ""mark""') for field in r) for r in ROWS
    ]
    path = written(tmp_path / f"rows{suffix}", "\n".join(lines) + "\n")
    read = list(documents(path, text="words", label="class"))
    assert [(document.text, document.label) for document in read] == ROWS
    # The second row stands on two lines.
    assert [document.source for document in read] == [f"{path}: line {n}" for n in (2, 3, 5)]
    assert [document.label for document in documents(path, text="words")] == [None] * 3


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_json_lines_may_have_numbers_and_truth_values_as_classes(
    tmp_path: Path, suffix: str
) -> None:
    rows = [
        {"text": "one", "label": True},
        {"text": "two", "label": 3},
        {"text": "3", "label": "x"},
    ]
    path = written(tmp_path / f"rows{suffix}", "\n\n".join(map(json.dumps, rows)))
    read = list(documents(path, label="label"))
    assert [(document.text, document.label) for document in read] == [
        ("one", "true"),
        ("two", "3"),
        ("3", "x"),
    ]
    assert [document.source for document in read] == [f"{path}: line {n}" for n in (1, 3, 5)]


BAD_FILES = [
    ("csv", "text,label\nfine,1\n  ,0\n", "line 3: the text in 'text' is empty"),
    ("csv", "text,label\nfine,\n", "line 2: the class in 'label' is empty"),
    ("csv", "words,label\nfine,1\n", "line 2: no column 'text'; it has words, label"),
    (
        "csv",
        "text,label\nfine,1,2\n",
        "line 2: expected 2 fields as in the first line, found 3",
    ),
    ("csv", 'text,label\n"fine,1\n', "line 2: unexpected end of data"),
    ("csv", "text,label\n", "the file has no documents"),
    (
        "csv",
        b"text,label\nfi\xffne,1\n",
        "line 2: expected text in UTF-8, found the byte 0xff; save the file as UTF-8",
    ),
    ("csv.gz", b"text", "not a readable gzip file (Not a gzipped file (b'te'))"),
    (
        "csv.gz",
        gzip.compress(b"text" * 99, mtime=0)[:-9],
        "not a readable gzip file (Compressed file ended before the end-of-stream marker was "
        "reached)",
    ),
    (
        "jsonl",
        '{"text": "fine", "label": 1}\n[1]\n',
        "line 2: expected an object, found list",
    ),
    (
        "jsonl",
        '{"text": 1',
        "line 1: not valid JSON (Expecting ',' delimiter: line 1 column 11 (char 10))",
    ),
    ("jsonl", '{"text": ["x"], "label": 1}', "line 1: expected text in 'text', found list"),
    (
        "jsonl",
        '{"text": "x", "label": null}',
        "line 1: expected text in 'label', found NoneType",
    ),
    ("txt", " \n", "the text is empty"),
    (
        "pdf",
        "x",
        "expected a folder of .txt files, or a file .txt, .csv, .tsv or .jsonl (also .gz)",
    ),
]


@pytest.mark.parametrize(("suffix", "content", "message"), BAD_FILES)
def test_bad_files_are_named_with_their_line(
    tmp_path: Path, suffix: str, content: str | bytes, message: str
) -> None:
    path = tmp_path / f"bad.{suffix}"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as caught:
        list(documents(path, label="label"))
    assert str(caught.value) == f"{path}: {message}"


def test_a_folder_without_texts_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected \.txt files in it or in its sub folders"):
        list(documents(tmp_path))
    with pytest.raises(InputError, match="no such file or folder"):
        list(documents(tmp_path / "none"))


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 8), st.sampled_from("abc")), max_size=40),
    st.integers(0, 5),
)
def test_a_split_is_a_partition_that_keeps_groups_whole(
    rows: list[tuple[int, str]], seed: int
) -> None:
    found = [Document(str(number), label) for number, (_, label) in enumerate(rows)]
    groups = [group for group, _ in rows]
    parts = split(found, (0.6, 0.2, 0.2), seed, groups)
    assert sorted(int(document.text) for part in parts for document in part) == list(
        range(len(rows))
    )
    homes = [{groups[int(document.text)] for document in part} for part in parts]
    assert sum(map(len, homes)) == len(set(groups))
    assert parts == split(found, (0.6, 0.2, 0.2), seed, groups)


def test_parts_have_their_sizes_and_the_proportions_of_the_classes() -> None:
    labels = ["a"] * 500 + ["b"] * 300 + ["c"] * 40
    part = assign(labels, (0.8, 0.1, 0.1), seed=3)
    counts = Counter(zip(labels, part.tolist(), strict=True))
    assert [[counts[name, number] for number in range(3)] for name in "abc"] == [
        [400, 50, 50],
        [240, 30, 30],
        [32, 4, 4],
    ]
    other = assign(labels, (0.8, 0.1, 0.1), seed=4)
    assert (part != other).any()


def test_rare_classes_leave_no_part_empty() -> None:
    labels = [str(number // 2) for number in range(100)]
    assert np.bincount(assign(labels, (0.8, 0.1, 0.1), 0)).tolist() == [80, 10, 10]


def test_a_large_group_goes_where_there_is_room() -> None:
    group = [0] * 60 + list(range(1, 41))
    part = assign([None] * 100, (0.8, 0.1, 0.1), 0, group)
    assert set(part[:60]) == {0}
    assert np.bincount(part).tolist() == [80, 10, 10]


@pytest.mark.parametrize("shares", [(), (0.5, 0.6), (1.0, 0.0)])
def test_shares_must_sum_to_one(shares: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="shares: expected positive numbers that sum to 1"):
        assign(["a"], shares, 0)


def test_every_document_has_a_group() -> None:
    with pytest.raises(InputError, match="group: expected 2 values, got 1"):
        assign(["a", "b"], (1.0,), 0, [0])


def slow_fingerprints(text: str, shingle: int) -> set[int]:
    """Winnowing by its definition: the least hash of each window of 16 shingles."""
    codes = [ord(character) for character in " ".join(text.lower().split())]
    codes += [0] * (shingle - len(codes))
    hashes = []
    for start in range(len(codes) - shingle + 1):
        value = 0
        for code in codes[start : start + shingle]:
            value = (value * 0x9E3779B97F4A7C15 + code) % 2**64
        for odd in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
            value = (value ^ (value >> 33)) * odd % 2**64
        hashes.append(value ^ (value >> 33))
    return {min(hashes[i : i + 16]) for i in range(max(1, len(hashes) - 15))}


@settings(max_examples=40)
@given(TEXTS.map(lambda text: text * 3), st.sampled_from([1, 2, 5, 8, 13, 50]))
def test_fingerprints_are_those_of_the_definition(text: str, shingle: int) -> None:
    found = fingerprints(text, shingle)
    assert set(found.tolist()) == slow_fingerprints(text, shingle)
    assert len(found) == len(set(found.tolist())) > 0


def words(seed: int, count: int = 300) -> list[str]:
    return [f"word{number}" for number in np.random.default_rng(seed).integers(10**6, size=count)]


def test_near_copies_are_found_and_others_are_not() -> None:
    original, other = words(0), words(1)
    changed = [*original]
    changed[150] = "different"
    excerpt, extended = original[:100], [*other, *original[-60:]]
    rows = [original, other, changed, excerpt, extended, words(2)]
    texts = [" ".join(row) for row in rows]
    texts[2] = "\n ".join(changed).upper()
    groups = near_duplicates(texts)
    assert groups[0] == groups[2] == groups[3]
    assert groups[1] == groups[4] != groups[0]
    assert len({*groups}) == 3
    # A fifth of the longer text is common with the first: enough for one who asks for no more.
    low = near_duplicates([texts[0], texts[4]], share=0.1)
    assert low[0] == low[1]


def test_short_texts_are_copies_only_of_themselves() -> None:
    groups = near_duplicates(["Great!", "great! ", "Great?", "", " "])
    assert groups.tolist() == [0, 0, 1, 2, 2]
    assert near_duplicates([]).tolist() == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shingle": 0}, "shingle: expected at least 1 character, got 0"),
        ({"share": 0.0}, "share: expected more than 0 and at most 1, got 0.0"),
    ],
)
def test_near_duplicates_refuses(arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        near_duplicates(["a"], **arguments)


@given(TEXTS)
def test_bytes_decode_to_what_was_encoded(text: str) -> None:
    tokens = Bytes().encode(text)
    assert tokens.tolist() == [byte + 1 for byte in text.encode()]
    assert Bytes().decode(tokens) == text
    assert Bytes().decode(np.pad(tokens, (0, 3))) == text


@given(TEXTS, st.integers(0, 20))
def test_a_cut_keeps_whole_characters(text: str, length: int) -> None:
    kept = Bytes().decode(Bytes().encode(text, length))
    assert text.startswith(kept)
    assert len(kept.encode()) <= length
    assert kept == text or len(text[: len(kept) + 1].encode()) > length


def test_a_batch_is_padded_at_the_end() -> None:
    assert Bytes().batch(["a", "bcd", ""]).tolist() == [[98, 0, 0], [99, 100, 101], [0, 0, 0]]
    assert Bytes().batch(["é1", "bcd"], 2).tolist() == [[0xC3 + 1, 0xA9 + 1], [99, 100]]
    assert Bytes().batch(["a"], 3).tolist() == [[98, 0, 0]]
    assert Bytes().batch([]).shape == (0, 0)


def test_broken_characters_and_foreign_tokens() -> None:
    assert Bytes().decode(np.array([0xC3 + 1, 98])) == "\ufffda"
    with pytest.raises(InputError, match="tokens: expected numbers from 0 to 256"):
        Bytes().decode(np.array([257]))


def test_half_a_character_is_named(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "fine", "label": "a"}\n{"text": "b\\ud800", "label": "\\udfff"}\n')
    with pytest.raises(InputError) as half:
        list(documents(path))
    assert str(half.value) == (
        f"{path}: line 2: 'text': expected text that UTF-8 can hold, found the lone surrogate "
        "U+D800 at character 2"
    )
    path.write_text('{"text": "fine", "label": "\\udfff"}\n')
    with pytest.raises(InputError, match=r"line 1: 'label': .* U\+DFFF at character 1"):
        list(documents(path, label="label"))
    with pytest.raises(InputError, match=r"text: expected text that UTF-8 can hold"):
        Bytes().encode("\udc80")


def test_json_nested_too_deep_is_named(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": ' + "[" * 100_000 + "\n")
    with pytest.raises(InputError, match=r"a\.jsonl: line 1: not valid JSON"):
        list(documents(path))
