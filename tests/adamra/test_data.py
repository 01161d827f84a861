import pickle
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from workingpapers.adamra import data
from workingpapers.adamra.data import MatchedPairs, PairFile, cifar10, film_reviews, grey
from workingpapers.foundation.errors import InputError
from workingpapers.foundation.text import Bytes, near_duplicates

needs_scattertext = pytest.mark.skipif(
    find_spec("scattertext") is None, reason="scattertext is not installed"
)
needs_documents = pytest.mark.skipif(
    find_spec("licensedcode") is None or find_spec("gensim") is None,
    reason="licensedcode-data or gensim is not installed",
)


@needs_scattertext
def test_reviews_are_distinct_and_a_film_under_two_names_is_one() -> None:
    reviews = film_reviews()
    assert Counter(review.label for review in reviews) == {"fresh": 7368, "rotten": 5383}
    assert len({review.film for review in reviews}) == 507
    assert len({review.text.lower() for review in reviews}) == len(reviews)
    assert all(review.text == " ".join(review.text.split()) for review in reviews)
    # El crimen del padre Amaro, or The Crime of Padre Amaro, has the reviews of both.
    padre = {review.film for review in reviews if "Padre Amaro" in review.text}
    assert len(padre) == 1


@needs_documents
def test_documents_are_long_enough_and_from_three_sources() -> None:
    found = data.mixed_documents(1024)
    assert {document.label for document in found} == {"python", "licence", "wikipedia"}
    assert min(len(document.text.encode()) for document in found) >= 1024
    names = {document.source for document in found}
    assert {"argparse.py", "json/decoder.py", "Anarchism"} <= names
    licences = [document.text for document in found if document.label == "licence"]
    assert not any(text.startswith("---\nkey:") for text in licences)
    assert len(set(near_duplicates(licences[:100]).tolist())) == 100


def test_digits_have_17_levels() -> None:
    images, labels = data.digits()
    assert (images.min(), images.max()) == (0, 16)
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def paragraphs(seed: int, count: int) -> str:
    """Text whose words no other seed has."""
    rng = np.random.default_rng(seed)
    return " ".join(f"{chr(97 + seed)}é{number}" for number in rng.integers(100, 999, size=count))


def test_pairs_are_excerpts_of_two_halves_of_one_document_or_of_two() -> None:
    texts = [paragraphs(seed, 400) for seed in range(10)]
    tokens, labels = MatchedPairs(texts, 90).draw(60, np.random.default_rng(0))
    assert tokens.shape == (60, 2, 90)
    assert labels.sum() == 30
    for pair, label in zip(tokens, labels, strict=True):
        first, second = (Bytes().decode(each) for each in pair)
        # Whole characters, so at most one byte is left out at either end.
        assert all("�" not in each and len(each.encode()) >= 88 for each in (first, second))
        homes = [
            next(index for index, text in enumerate(texts) if each in text)
            for each in (first, second)
        ]
        assert (homes[0] == homes[1]) == label
        for each, home, half in zip((first, second), homes, (0, 1), strict=True):
            data = texts[home].encode()
            assert each.encode() in (data[len(data) // 2 :] if half else data[: len(data) // 2])


def test_pairs_repeat_with_the_seed() -> None:
    pairs = MatchedPairs([paragraphs(seed, 100) for seed in range(9)], 64)
    one, again, other = (pairs.draw(20, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert all(np.array_equal(*each) for each in zip(one, again, strict=True))
    assert not np.array_equal(one[0], other[0])


def test_matching_takes_the_alphabet_out_of_the_decision() -> None:
    # Half of the documents are in small letters, half in capitals: unmatched, pairs of one
    # document would agree in this always and others in every second case.
    texts = [paragraphs(seed % 13, 300) for seed in range(26)]
    texts = [text.upper() if index % 2 else text for index, text in enumerate(texts)]
    tokens, labels = MatchedPairs(texts, 100).draw(100, np.random.default_rng(0))
    capitals = ((tokens - 1 >= 65) & (tokens - 1 <= 90)).any(axis=2)
    assert (capitals[:, 0] == capitals[:, 1]).all()
    assert labels.sum() == 50


LINE = "1.0\t12\t7\tnaïve text one\ttext\n"


def test_citation_pairs_are_read_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "new_aan_pairs.test.tsv"
    path.write_text(LINE + '0.0\t1\t2\t"quoted\tb\n', encoding="utf-8")
    pairs = PairFile(path, 8)
    assert len(pairs) == 2
    tokens, labels = pairs.read(np.array([1, 0]))
    assert labels.tolist() == [0, 1]
    assert [[Bytes().decode(each) for each in pair] for pair in tokens] == [
        ['"quoted', "b"],
        ["naïve t", "text"],
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty; expected a pair a line"),
        (
            LINE.encode() + b"1.0\tone\n",
            "line 2: expected label, two numbers and two texts between tabs, found 2 fields",
        ),
        (b"2.0\t1\t2\ta\tb\n", "line 1: expected the label 1.0 or 0.0, found '2.0'"),
        (b"1.0\t1\t2\ta\t\xff\n", "line 1: expected text in UTF-8, found the byte 0xff"),
    ],
)
def test_bad_citation_pairs_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "pairs.tsv"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        PairFile(path, 8).read(np.arange(2 if content.startswith(LINE.encode()) else 1))
    assert str(caught.value) == f"{path}: {message}"


def test_imdb_reviews_have_the_names_of_their_folders(tmp_path: Path) -> None:
    for label in ("pos", "neg", "unsup"):
        (tmp_path / "train" / label).mkdir(parents=True)
        (tmp_path / "train" / label / "0_9.txt").write_text(f"a {label} review")
    found = data.imdb(tmp_path, "train")
    assert [(review.text, review.label) for review in found] == [
        ("a neg review", "neg"),
        ("a pos review", "pos"),
    ]
    with pytest.raises(InputError, match=r"test/neg: no such file or folder"):
        data.imdb(tmp_path, "test")


def cifar_records(seed: int, count: int = 3) -> np.ndarray:
    records = np.random.default_rng(seed).integers(0, 256, (count, 3073), dtype=np.uint8)
    records[:, 0] %= 10
    return records


@pytest.fixture
def binary_cifar(tmp_path: Path) -> Path:
    for number in range(1, 6):
        (tmp_path / f"data_batch_{number}.bin").write_bytes(cifar_records(number).tobytes())
    (tmp_path / "test_batch.bin").write_bytes(cifar_records(6).tobytes())
    return tmp_path


def test_cifar10_is_read_as_grey_pictures(binary_cifar: Path) -> None:
    images, labels = cifar10(binary_cifar, "train")
    records = np.concatenate([cifar_records(number) for number in range(1, 6)])
    assert labels.tolist() == records[:, 0].tolist()
    red, green, blue = records[:, 1:].reshape(15, 3, 1024).transpose(1, 0, 2).astype(float)
    expected = np.floor(0.299 * red + 0.587 * green + 0.114 * blue + 0.5 + 1e-9)
    assert images.reshape(15, 1024).tolist() == expected.tolist()
    assert len(cifar10(binary_cifar, "test")[0]) == 3


def test_grey_keeps_grey_and_rounds_halves_up() -> None:
    assert grey(np.full((1, 3, 1, 1), 77, np.uint8)).item() == 77
    # 0.299 * 250 + 0.587 * 0 + 0.114 * 125 = 89.0; with 0.587 * 250 instead, 161.0; 74.75 is 75.
    pixels = np.array([[250, 0, 125], [0, 250, 125], [250, 0, 0]], np.uint8)
    assert grey(pixels[:, :, None, None]).ravel().tolist() == [89, 161, 75]
    assert grey(np.array([[[[0]], [[250]], [[250]]]], np.uint8)).item() == 175  # 175.25
    assert grey(np.array([[[[0]], [[500 // 2]], [[0]]]], np.uint8)).item() == 147  # 146.75


def test_pickles_of_cifar10_need_trust(tmp_path: Path) -> None:
    records = cifar_records(0)
    content = {b"data": records[:, 1:], b"labels": records[:, 0].tolist()}
    for name in ("test_batch", *(f"data_batch_{number}" for number in range(1, 6))):
        (tmp_path / name).write_bytes(pickle.dumps(content))
    with pytest.raises(InputError, match="test_batch: a pickle, which can run any code; take the"):
        cifar10(tmp_path, "test")
    images, labels = cifar10(tmp_path, "test", trust=True)
    assert np.array_equal(images, grey(records[:, 1:].reshape(-1, 3, 32, 32)))
    assert labels.tolist() == records[:, 0].tolist()
    (tmp_path / "test_batch").write_bytes(b"no pickle")
    with pytest.raises(InputError, match="test_batch: not a readable batch of CIFAR-10"):
        cifar10(tmp_path, "test", trust=True)


def test_bad_binary_files_of_cifar10_are_named(binary_cifar: Path) -> None:
    (binary_cifar / "data_batch_3.bin").unlink()
    with pytest.raises(InputError, match=r"data_batch_3\.bin: No such file or directory"):
        cifar10(binary_cifar, "train")
    test = binary_cifar / "test_batch.bin"
    test.write_bytes(b"\0" * 3074)
    with pytest.raises(InputError, match="expected records of 3073 bytes, found 3074 bytes"):
        cifar10(binary_cifar, "test")
    test.write_bytes(b"\0" * 3073 + b"\x0b" * 3073)
    with pytest.raises(InputError, match="record 2: expected a label from 0 to 9, found 11"):
        cifar10(binary_cifar, "test")


def test_a_folder_without_cifar10_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"binary version, found no data_batch_1\.bin"):
        cifar10(tmp_path, "train")
