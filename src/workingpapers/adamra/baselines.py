"""Shallow classifiers that a model must beat before it is said to have learned a task."""

from typing import Any

import numpy as np
from jaxtyping import Float, Int, Integer, Num

from workingpapers.adamra.tasks import Examples, LongRangeTask
from workingpapers.foundation.errors import missing_package


def baselines(task: LongRangeTask, train: Examples, test: Examples) -> dict[str, float]:
    """Accuracies on `test`, 0 to 1, of classifiers fitted to `train` that ignore the order.

    "majority class": the commonest of `train`. "bag of tokens": logistic regression on how often
    each token occurs; for pairs on the differences and products of the two frequencies. For
    ListOps also "root operator": the commonest label under this operator; and "root and digits":
    logistic regression, one an operator, on the counts of the digits directly below it.
    """
    scores = {"majority class": _majority(train.labels, test.labels)}
    bag, test_bag = (bag_of_tokens(task, examples) for examples in (train, test))
    # By standard deviations; a token that no training example has says nothing.
    scale = bag.std(axis=0)
    scale[scale == 0] = np.inf
    scores["bag of tokens"] = _fitted(
        _logistic(0.01),
        (bag - bag.mean(axis=0)) / scale,
        train.labels,
        (test_bag - bag.mean(axis=0)) / scale,
        test.labels,
    )
    if task.name.startswith("listops"):
        from workingpapers.adamra.listops import OPERATORS, root_and_digits

        (roots, digits), (test_roots, test_digits) = (
            root_and_digits(examples.tokens) for examples in (train, test)
        )
        by_operator = {"root operator": 0.0, "root and digits": 0.0}
        for operator in range(len(OPERATORS)):
            here, there = roots == operator, test_roots == operator
            if not here.any() or not there.any():
                continue
            share = float(np.mean(there))
            by_operator["root operator"] += share * _majority(
                train.labels[here], test.labels[there]
            )
            by_operator["root and digits"] += share * _fitted(
                _logistic(1.0),
                digits[here],
                train.labels[here],
                test_digits[there],
                test.labels[there],
            )
        scores |= by_operator
    return scores


def bag_of_tokens(task: LongRangeTask, examples: Examples) -> Float[np.ndarray, "count features"]:
    """The share of each token in a sequence; for pairs |u - v| and u * v of the two shares."""
    if not task.pair:
        return _shares(examples.tokens, task.vocabulary)
    u, v = (_shares(examples.tokens[:, side], task.vocabulary) for side in range(2))
    return np.hstack([np.abs(u - v), u * v])


def _shares(
    tokens: Integer[np.ndarray, "count length"], vocabulary: int
) -> Float[np.ndarray, "count vocabulary"]:
    counts = np.array([np.bincount(row, minlength=vocabulary) for row in tokens])
    counts[:, 0] = 0
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def _majority(labels: Int[np.ndarray, " train"], test_labels: Int[np.ndarray, " test"]) -> float:
    return float(np.mean(test_labels == np.bincount(labels).argmax()))


def _fitted(
    classifier: Any,
    features: Num[np.ndarray, "train features"],
    labels: Int[np.ndarray, " train"],
    test_features: Num[np.ndarray, "test features"],
    test_labels: Int[np.ndarray, " test"],
) -> float:
    if len(np.unique(labels)) < 2:  # scikit-learn refuses a single class.
        return _majority(labels, test_labels)
    return float(classifier.fit(features, labels).score(test_features, test_labels))


def _logistic(inverse_penalty: float) -> Any:
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise missing_package("scikit-learn", "adamra") from error
    return LogisticRegression(C=inverse_penalty, max_iter=1000)
