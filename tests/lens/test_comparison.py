"""A tree read as formulas is the tree; the comparison treats all methods alike."""

import numpy as np
import pytest
from sklearn.tree import DecisionTreeClassifier

from workingpapers.foundation.errors import InputError
from workingpapers.lens import LENClassifier
from workingpapers.lens.comparison import compare_methods, score_tree, tree_formulas
from workingpapers.lens.data import load
from workingpapers.lens.explain import truth_table_rows


@pytest.mark.parametrize("classes", [2, 4])
def test_the_formulas_of_a_tree_are_its_predictions_everywhere(classes):
    rng = np.random.default_rng(classes)
    X = rng.random((300, 7)) < 0.5
    y = rng.integers(0, classes, 300)
    tree = DecisionTreeClassifier(max_depth=5, random_state=0).fit(X, y)
    rows = truth_table_rows(7)
    predicted = tree.predict(rows)
    formulas = tree_formulas(tree, [f"c{n}" for n in range(7)])
    for label, formula in formulas.items():
        assert (formula(rows) == (predicted == label)).all()
    scores = score_tree(X, y, rows, predicted, seed=0)
    assert (scores["fidelity"], scores["model_accuracy"]) == (1.0, 1.0)


def test_a_comparison_has_a_row_a_method_and_names_what_is_missing():
    data = load("votes")
    rows, absent = compare_methods(
        data.table, data.target, LENClassifier(epochs=40), folds=2, seed=0
    )
    methods = [row["method"] for row in rows]
    assert methods[:2] == ["LEN (mu)", "decision tree, depth 5"]
    assert len(methods) + len(absent) == 4
    assert all(0.7 < row["explanation_accuracy"] <= 1 for row in rows)


def test_more_folds_than_rows_of_a_class_are_refused():
    data = load("votes")
    with pytest.raises(InputError, match="--folds 500: the smallest class has only"):
        compare_methods(data.table, data.target, LENClassifier(), folds=500)


def test_peers_are_scored_where_they_are_installed():
    pytest.importorskip("imodels", reason="imodels is not installed")
    from workingpapers.lens.comparison import score_rule_list

    X = np.random.default_rng(0).random((200, 4)) < 0.5
    y = X[:, 0].astype(int)
    assert score_rule_list(X, y, X, y)["explanation_accuracy"] == 1.0
