"""How good formulas are: against the labels, against the network, and as something to read."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool
from numpy.typing import ArrayLike

from workingpapers.foundation.errors import InputError, missing_package
from workingpapers.lens.formula import Formula

Formulas = Mapping[Any, Formula]
"""One formula a class, under the class's label."""


def model_accuracy(predictions: ArrayLike, y: ArrayLike, classes: Iterable[Any]) -> float:
    """One-versus-rest accuracy of predicted labels, averaged over `classes`; in [0, 1].

    Raises InputError for no class, no row, or labels of two lengths.
    """
    predicted, labels = _labels("predictions", predictions), _labels("y", y)
    _same_length("predictions", len(predicted), "y", len(labels))
    return _mean(
        "classes", [float(np.mean((predicted == name) == (labels == name))) for name in classes]
    )


def explanation_accuracy(formulas: Formulas, X: ArrayLike, y: ArrayLike) -> float:
    """One-versus-rest accuracy of each class's formula on the labels, averaged; in [0, 1].

    `X` has the concepts of the formulas as columns. Raises InputError for no formula, no row, or a
    table and labels of two lengths.
    """
    labels = _labels("y", y)
    return _mean(
        "formulas",
        [
            float(np.mean(_values(formula, X, "y", labels) == (labels == name)))
            for name, formula in formulas.items()
        ],
    )


def fidelity(formulas: Formulas, X: ArrayLike, predictions: ArrayLike) -> float:
    """Agreement of the formulas with the network's own predicted labels; in [0, 1].

    For each class the macro F1 of its formula against "the network says this class", averaged over
    the classes. F1 is averaged over the answers, yes and no, that formula or network give at all:
    both saying no everywhere is a fidelity of 1. Raises as `explanation_accuracy`.
    """
    try:
        from sklearn.metrics import f1_score
    except ImportError:
        raise missing_package("scikit-learn", "lens") from None
    labels = _labels("predictions", predictions)
    return _mean(
        "formulas",
        [
            f1_score(labels == name, _values(formula, X, "predictions", labels), average="macro")
            for name, formula in formulas.items()
        ],
    )


def complexity(formulas: Formulas) -> float:
    """Literals in the disjunctive normal form, mean over the classes; a constant has none."""
    return _mean("formulas", [formula.n_literals for formula in formulas.values()])


def consistency(formulas: Sequence[Formula]) -> float:
    """How much one class's formulas over several folds speak of the same concepts; in [0, 1].

    The share of the folds that use a concept, averaged over the concepts that any of them uses; 1
    when none uses any. Raises InputError for no fold.
    """
    used = [formula.concepts for formula in formulas]
    concepts = dict.fromkeys(name for fold in used for name in fold)
    if used and not concepts:
        return 1.0
    return _mean("formulas", [sum(name in fold for fold in used) / len(used) for name in concepts])


def precision_recall(
    formula: Formula, X: ArrayLike, positive: Bool[np.ndarray, "rows"]
) -> tuple[float, float]:
    """Share of the rows chosen by the formula that are positive, and of the positive ones chosen.

    Each is 1 when it is a share of nothing: what is never chosen is never wrong.
    """
    chosen = _values(formula, X, "positive", positive)
    precision = np.mean(positive[chosen]) if chosen.any() else 1.0
    recall = np.mean(chosen[positive]) if positive.any() else 1.0
    return float(precision), float(recall)


def _labels(argument: str, labels: ArrayLike) -> np.ndarray:
    """The labels as an array of one dimension, at least one of them."""
    array = np.asarray(labels)
    if array.ndim != 1 or len(array) == 0:
        raise InputError(f"{argument}: expected one label a row, found the shape {array.shape}")
    return array


def _values(
    formula: Formula, X: ArrayLike, argument: str, labels: np.ndarray
) -> Bool[np.ndarray, "rows"]:
    """The formula's value on each row of X, of which there are as many as labels."""
    values = formula(X)
    _same_length("X", len(values), argument, len(labels))
    return values


def _same_length(one: str, rows: int, other: str, labels: int) -> None:
    if rows != labels:
        raise InputError(f"{one}: expected as many rows as {other} has, {labels}, found {rows}")


def _mean(argument: str, values: Sequence[float]) -> float:
    """The mean of values of which there is at least one."""
    if not values:
        raise InputError(f"{argument}: expected at least one")
    return float(np.mean(values))
