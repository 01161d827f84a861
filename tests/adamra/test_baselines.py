from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest

from workingpapers.adamra.baselines import bag_of_tokens, baselines
from workingpapers.adamra.listops import from_symbols
from workingpapers.adamra.tasks import Examples, open_task

needs_documents = pytest.mark.skipif(
    find_spec("licensedcode") is None or find_spec("gensim") is None,
    reason="licensedcode-data or gensim is not installed",
)


def padded(rows: list[list[int]], length: int) -> np.ndarray:
    return np.array([row + [0] * (length - len(row)) for row in rows], np.uint8)


def test_bags_are_shares_without_padding() -> None:
    task = open_task("digits-256")
    examples = Examples(padded([[1, 1, 3], [2]], 4), np.array([0, 1]))
    bag = bag_of_tokens(task, examples)
    assert bag.shape == (2, 18)
    assert bag[:, :4].tolist() == [[0, 2 / 3, 0, 1 / 3], [0, 0, 1, 0]]
    pairs = Examples(examples.tokens[None], np.array([0]))
    pair_bag = bag_of_tokens(replace(task, pair=True), pairs)[0]
    assert np.allclose(pair_bag[:18], np.abs(bag[0] - bag[1]))
    assert np.allclose(pair_bag[18:], bag[0] * bag[1])


def test_a_bag_decides_what_counts_decide_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 2
    counted = np.where(rng.random((400, 30)) < 0.3 + 0.4 * labels[:, None], 1, 2).astype(np.uint8)
    # The same bag always: only the order tells the classes apart.
    ordered = np.tile(np.repeat([[1, 2], [2, 1]], 15, axis=1), (200, 1)).astype(np.uint8)
    task = open_task("digits-256")
    for tokens, low, high in ((counted, 0.9, 1.0), (ordered, 0.0, 0.5)):
        examples = Examples(tokens, labels)
        half = np.arange(200)
        scores = baselines(task, examples.take(half), examples.take(half + 200))
        assert scores["majority class"] == 0.5
        assert low <= scores["bag of tokens"] <= high


def test_majority_is_that_of_the_training_labels() -> None:
    task = open_task("digits-256")
    tokens = np.ones((4, 5), np.uint8)
    train = Examples(tokens, np.array([3, 3, 3, 1]))
    test = Examples(tokens, np.array([3, 1, 1, 1]))
    assert baselines(task, train, test)["majority class"] == 0.25
    one_class = Examples(tokens, np.array([3, 3, 3, 3]))
    assert baselines(task, one_class, test)["bag of tokens"] == 0.25


def test_roots_and_their_digits_are_read_on_listops() -> None:
    # The root alone says 0 or 9; with the digits below it all is known, without them half.
    rows, labels = [], []
    for first, second in [(0, 1), (1, 0), (0, 0), (1, 1)] * 10:
        root = ("[MIN", "[MAX")[first]
        digit = str(4 + second)
        rows.append(from_symbols([root, digit, "[SM", "7", "8", "]", "]"]).tolist())
        labels.append((0, 9)[first] if second else 5)
    labels_array = np.array(labels)
    examples = Examples(padded(rows, 8), labels_array)
    scores = baselines(open_task("listops-short"), examples, examples)
    assert scores.keys() == {"majority class", "bag of tokens", "root operator", "root and digits"}
    assert scores["majority class"] == scores["root operator"] == 0.5
    assert scores["root and digits"] == 1.0
    # An operator that training never had is never right.
    unseen = Examples(padded([from_symbols(["[SM", "1", "1", "]"]).tolist()], 8), np.array([2]))
    assert baselines(open_task("listops-short"), examples, unseen)["root operator"] == 0


def test_shallow_readers_of_listops_stay_where_the_benchmark_has_them() -> None:
    task = open_task("listops-short")
    scores = baselines(task, task.sample("train", 1500, 0), task.sample("test", 1500, 0))
    assert scores["majority class"] < 0.2
    assert 0.28 < scores["root operator"] < 0.4
    assert scores["root operator"] + 0.08 < scores["root and digits"] < 0.56


@pytest.mark.parametrize("name", ["pathfinder32-easy"])
def test_grey_levels_say_nothing_of_pathfinder(name: str) -> None:
    task = open_task(name)
    scores = baselines(task, task.sample("train", 400, 0), task.sample("test", 400, 0))
    assert abs(scores["bag of tokens"] - 0.5) < 0.08


@needs_documents
def test_bytes_say_nothing_of_retrieval() -> None:
    task = open_task("retrieval")
    scores = baselines(task, task.sample("train", 600, 0), task.sample("test", 600, 0))
    assert abs(scores["bag of tokens"] - 0.5) < 0.07
