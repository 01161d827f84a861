"""The metrics of formulas, against hand counts and independent definitions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workingpapers.foundation.errors import InputError
from workingpapers.lens.formula import Formula
from workingpapers.lens.metrics import (
    complexity,
    consistency,
    explanation_accuracy,
    fidelity,
    model_accuracy,
    precision_recall,
)

X = np.array([[1, 0], [1, 1], [0, 1], [0, 0]], bool)
A, B = Formula.parse("a", ("a", "b")), Formula.parse("b", ("a", "b"))
TRUE, FALSE = Formula.true(("a", "b")), Formula.false(("a", "b"))


def test_explanation_accuracy_is_one_versus_rest_averaged_over_classes() -> None:
    y = np.array(["u", "u", "v", "v"])
    # a is right about u on all four rows, b is right about v on rows 1 and 3 (0 and 2 from 0).
    assert explanation_accuracy({"u": A, "v": B}, X, y) == (4 / 4 + 2 / 4) / 2
    assert explanation_accuracy({"u": A, "v": ~A}, X, y) == 1
    assert explanation_accuracy({"u": FALSE}, X, y) == 0.5
    # A class that no row has is judged too.
    assert explanation_accuracy({"u": A, "w": FALSE}, X, y) == 1


def test_model_accuracy_is_one_versus_rest_averaged_over_classes() -> None:
    y, predictions = [0, 0, 1, 2], [0, 1, 1, 1]
    assert model_accuracy(predictions, y, [0, 1, 2]) == pytest.approx((3 / 4 + 2 / 4 + 3 / 4) / 3)
    # For two exclusive classes it is the plain accuracy.
    assert model_accuracy([0, 1, 1], [0, 1, 0], [0, 1]) == pytest.approx(2 / 3)


def macro_f1(truth: np.ndarray, answer: np.ndarray) -> float:
    """The harmonic mean of precision and recall of each answer that occurs, averaged."""
    scores = []
    for label in set(truth.tolist()) | set(answer.tolist()):
        hits = np.sum((truth == label) & (answer == label))
        precision = hits / max(1, np.sum(answer == label))
        recall = hits / max(1, np.sum(truth == label))
        scores.append(2 * precision * recall / (precision + recall) if hits else 0.0)
    return float(np.mean(scores))


@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
@settings(max_examples=12, deadline=None)
def test_fidelity_is_the_macro_f1_of_formula_and_network(seed: int, rows: int) -> None:
    generator = np.random.default_rng(seed)
    table = generator.random((rows, 2)) < 0.5
    predictions = generator.integers(0, 3, rows)
    formulas = {0: A, 1: B, 2: A & ~B, 3: FALSE}
    expected = np.mean(
        [macro_f1(predictions == label, formula(table)) for label, formula in formulas.items()]
    )
    assert fidelity(formulas, table, predictions) == pytest.approx(expected)


def test_fidelity_to_a_constant_network() -> None:
    always = ["u"] * 4
    assert fidelity({"u": TRUE, "v": FALSE}, X, always) == 1
    assert fidelity({"u": FALSE, "v": TRUE}, X, always) == 0
    # Right on half of the rows: F1 of "yes" is 2/3, of "no", which the network never says, 0.
    assert fidelity({"u": A}, X, always) == pytest.approx(1 / 3)


def test_fidelity_does_not_depend_on_the_labels_being_right() -> None:
    predictions = np.where(A(X), "u", "v")
    wrong_labels = np.array(["v", "v", "u", "u"])
    assert fidelity({"u": A, "v": ~A}, X, predictions) == 1
    assert explanation_accuracy({"u": A, "v": ~A}, X, wrong_labels) == 0


def test_constants_count_no_literals() -> None:
    assert complexity({"u": TRUE, "v": FALSE}) == 0
    assert complexity({"u": Formula.parse("a & ~b | c"), "v": A}) == 2


def test_consistency_is_the_share_of_folds_that_use_a_concept() -> None:
    folds = [Formula.parse("a & b"), Formula.parse("~a"), Formula.parse("a | c"), TRUE]
    # a in 3 of 4 folds, b and c in 1 each.
    assert consistency(folds) == pytest.approx((3 + 1 + 1) / 4 / 3)
    assert consistency([A, ~A, A & B | A]) == 1
    assert consistency([TRUE, FALSE]) == 1


def test_precision_and_recall() -> None:
    positive = np.array([True, False, True, True])
    assert precision_recall(A, X, positive) == (1 / 2, 1 / 3)
    assert precision_recall(FALSE, X, positive) == (1, 0)
    assert precision_recall(TRUE, X, positive) == (3 / 4, 1)
    assert precision_recall(A, X, np.zeros(4, bool)) == (0, 1)


def test_bad_input_is_named() -> None:
    with pytest.raises(InputError, match="X: expected as many rows as y has, 3, found 4"):
        explanation_accuracy({"u": A}, X, ["u", "v", "v"])
    with pytest.raises(InputError, match="X: expected as many rows as predictions has, 3, found 4"):
        fidelity({"u": A}, X, ["u", "v", "v"])
    with pytest.raises(InputError, match="X: expected as many rows as positive has, 1, found 4"):
        precision_recall(A, X, np.ones(1, bool))
    with pytest.raises(InputError, match="predictions: expected as many rows as y has, 2, found 1"):
        model_accuracy([1], [1, 2], [1, 2])
    with pytest.raises(InputError, match=r"y: expected one label a row, found the shape \(0,\)"):
        explanation_accuracy({"u": A}, np.zeros((0, 2)), [])
    for metric in (complexity, lambda formulas: explanation_accuracy(formulas, X, [0, 0, 1, 1])):
        with pytest.raises(InputError, match="formulas: expected at least one"):
            metric({})
    with pytest.raises(InputError, match="formulas: expected at least one"):
        consistency([])
    with pytest.raises(InputError, match="classes: expected at least one"):
        model_accuracy([1], [1], [])
