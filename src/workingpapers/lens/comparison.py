"""Networks beside trees, RIPPER and rule lists on one table, in cross-validation."""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from jaxtyping import Bool
from sklearn.base import clone
from sklearn.model_selection import StratifiedKFold
from sklearn.tree import DecisionTreeClassifier

from workingpapers.foundation.errors import InputError
from workingpapers.foundation.tables import DataTable
from workingpapers.lens import metrics
from workingpapers.lens.estimators import LENClassifier
from workingpapers.lens.formula import Formula

# Peers and the commands that bring them; their own requirements are older than ours.
PEERS = {
    "RIPPER": ("wittgenstein", "pip install --no-deps wittgenstein pandas"),
    "greedy rule list": ("imodels", "pip install --no-deps imodels mlxtend pandas tqdm"),
}

Scores = dict[str, Any]


def tree_formulas(tree: DecisionTreeClassifier, names: list[str]) -> dict[Any, Formula]:
    """Each class's paths through a decision tree over Boolean concepts, as a formula."""
    structure = tree.tree_
    positive: dict[Any, list[np.ndarray]] = {label: [] for label in tree.classes_}
    negative: dict[Any, list[np.ndarray]] = {label: [] for label in tree.classes_}

    def follow(node: int, yes: np.ndarray, no: np.ndarray) -> None:
        if structure.children_left[node] < 0:
            label = tree.classes_[structure.value[node, 0].argmax()]
            positive[label].append(yes)
            negative[label].append(no)
            return
        column = structure.feature[node]
        without, with_it = no.copy(), yes.copy()
        without[column] = with_it[column] = True
        follow(int(structure.children_left[node]), yes, without)
        follow(int(structure.children_right[node]), with_it, no)

    nothing = np.zeros(len(names), dtype=bool)
    follow(0, nothing, nothing.copy())
    shape = (-1, len(names))
    return {
        label: Formula(
            names,
            np.array(positive[label], dtype=bool).reshape(shape),
            np.array(negative[label], dtype=bool).reshape(shape),
        )
        for label in tree.classes_
    }


def score_tree(
    training: Bool[np.ndarray, "rows concepts"],
    labels: np.ndarray,
    test: Bool[np.ndarray, "held concepts"],
    truth: np.ndarray,
    *,
    depth: int = 5,
    seed: int = 0,
) -> Scores:
    """A decision tree of the paper's depth: accuracy, and the length of its paths by class."""
    tree = DecisionTreeClassifier(max_depth=depth, random_state=seed).fit(training, labels)
    names = [f"c{column}" for column in range(training.shape[1])]
    formulas = tree_formulas(tree, names)
    predicted = tree.predict(test)
    return {
        "model_accuracy": metrics.model_accuracy(predicted, truth, list(tree.classes_)),
        "explanation_accuracy": metrics.explanation_accuracy(formulas, test, truth),
        "fidelity": metrics.fidelity(formulas, test, predicted),
        "literals": metrics.complexity(formulas),
    }


def _of_rules(right: Sequence[float], lengths: Sequence[float]) -> Scores:
    """Scores of rules that are the model themselves, from those of each class."""
    accuracy = float(np.mean(right))
    return {
        "model_accuracy": accuracy,
        "explanation_accuracy": accuracy,
        "fidelity": 1.0,
        "literals": float(np.mean(lengths)),
    }


def score_rule_list(
    training: Bool[np.ndarray, "rows concepts"],
    labels: np.ndarray,
    test: Bool[np.ndarray, "held concepts"],
    truth: np.ndarray,
) -> Scores:
    """One greedy rule list (imodels) a class, scored one-versus-rest."""
    from imodels import GreedyRuleListClassifier

    right, lengths = [], []
    names = [f"c{column}" for column in range(training.shape[1])]
    for label in np.unique(labels):
        rules = GreedyRuleListClassifier()
        rules.fit(training.astype(float), (labels == label).astype(int), feature_names=names)
        fired = np.asarray(rules.predict(test.astype(float))) > 0.5
        right.append(float(np.mean(fired == (truth == label))))
        lengths.append(float(rules.complexity_))
    return _of_rules(right, lengths)


def score_ripper(
    training: Bool[np.ndarray, "rows concepts"],
    labels: np.ndarray,
    test: Bool[np.ndarray, "held concepts"],
    truth: np.ndarray,
    *,
    seed: int = 0,
) -> Scores:
    """One RIPPER rule set (wittgenstein) a class, scored one-versus-rest."""
    import pandas
    from wittgenstein import RIPPER

    columns = list(range(training.shape[1]))
    right, lengths = [], []
    for label in np.unique(labels):
        rules = RIPPER(random_state=seed)
        frame = pandas.DataFrame(training.astype(int), columns=columns)
        rules.fit(frame, (labels == label).astype(int), pos_class=1)
        held = pandas.DataFrame(test.astype(int), columns=columns)
        fired = np.asarray(rules.predict(held), dtype=bool)
        right.append(float(np.mean(fired == (truth == label))))
        lengths.append(sum(len(rule.conds) for rule in rules.ruleset_))
    return _of_rules(right, lengths)


def compare_methods(
    table: DataTable,
    labels: np.ndarray,
    model: LENClassifier,
    *,
    folds: int = 5,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> tuple[list[Scores], dict[str, str]]:
    """One row a method, scores averaged over folds; and the peers not installed, with commands.

    All methods see the same Boolean concepts, made from the training rows of each fold.
    Raises InputError when a class has fewer rows than there are folds.
    """
    _, counts = np.unique(labels, return_counts=True)
    if counts.min() < folds:
        raise InputError(f"--folds {folds}: the smallest class has only {counts.min()} rows")
    absent = {name: command for name, (module, command) in PEERS.items() if not find_spec(module)}
    found: dict[str, list[Scores]] = {}
    splits = StratifiedKFold(folds, shuffle=True, random_state=seed)
    for training, test in splits.split(labels, labels):
        fitted = clone(model).fit(table.rows(training), labels[training])
        scores = fitted.evaluate(table.rows(test), labels[test])["all"]
        keep = ("model_accuracy", "explanation_accuracy", "fidelity", "literals")
        found.setdefault(f"LEN ({model.net})", []).append({name: scores[name] for name in keep})
        known = fitted.concepts(table.rows(training)) > 0.5
        held = fitted.concepts(table.rows(test)) > 0.5
        parts = (known, labels[training], held, labels[test])
        found.setdefault("decision tree, depth 5", []).append(score_tree(*parts, seed=seed))
        if "RIPPER" not in absent:
            found.setdefault("RIPPER", []).append(score_ripper(*parts, seed=seed))
        if "greedy rule list" not in absent:
            found.setdefault("greedy rule list", []).append(score_rule_list(*parts))
        if progress is not None:
            progress(1)
    rows = [
        {
            "method": method,
            **{name: float(np.mean([one[name] for one in scores])) for name in scores[0]},
        }
        for method, scores in found.items()
    ]
    return rows, absent
