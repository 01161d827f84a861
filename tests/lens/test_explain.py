"""Formulas follow the network: on their domain exactly, on shuffled labels, for constants."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from workingpapers.foundation.errors import InputError
from workingpapers.lens import LENClassifier
from workingpapers.lens.concepts import Group, valid_patterns
from workingpapers.lens.explain import (
    ClassFunction,
    Patterns,
    class_functions,
    explain_function,
    make_front,
    possible_part,
    psi_formula,
    style_function,
    sufficient_reason,
    truth_table_rows,
)
from workingpapers.lens.formula import Formula
from workingpapers.lens.nets import NetConfig, make_net


def function_of(table: np.ndarray) -> ClassFunction:
    """A class function given by its truth table."""
    width = len(table).bit_length() - 1
    weights = 1 << np.arange(width)
    margin = np.where(table, 1.0, -1.0)
    return ClassFunction(np.arange(width), lambda patterns: margin[patterns @ weights])


tables = st.integers(2, 5).flatmap(
    lambda width: st.lists(st.booleans(), min_size=2**width, max_size=2**width)
).map(np.array)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(tables)
def test_a_formula_with_guarantee_all_is_the_function(table):
    width = len(table).bit_length() - 1
    names = [f"c{column}" for column in range(width)]
    rows = truth_table_rows(width)
    formula, certificate = explain_function(function_of(table), "all", names, rows[:1], ())
    assert (formula(rows) == table).all()
    assert certificate.domain_rows == 2**width
    assert certificate.shortness == "minimum"


@settings(max_examples=40, deadline=None)
@given(tables, st.integers(0, 2**32 - 1))
def test_a_sufficient_reason_is_the_smallest_one_by_brute_force(table, seed):
    width = len(table).bit_length() - 1
    names = [f"c{column}" for column in range(width)]
    rows = truth_table_rows(width)
    row = rows[np.random.default_rng(seed).integers(len(rows))]
    function = function_of(table)
    if not function.decide(row[None])[0]:
        table = ~table
        function = function_of(table)
    reason = sufficient_reason(function, row, "all", names, rows, ())
    assert reason(row[None])[0]
    assert table[reason(rows)].all()
    enough = [
        size
        for size in range(width + 1)
        for kept in itertools.combinations(range(width), size)
        if table[(rows[:, kept] == row[list(kept)]).all(axis=1)].all()
    ]
    assert reason.n_literals == min(enough)


def test_a_reason_may_use_that_a_group_is_exclusive():
    # True exactly for "a" and "b" of a complete group of three: valid rows need one literal.
    table = np.array([sum(row) == 1 and not row[2] for row in truth_table_rows(3)])
    group = Group("exclusive", (0, 1, 2), complete=True)
    row = np.array([True, False, False])
    names = ["x = a", "x = b", "x = c"]
    over_all = sufficient_reason(function_of(table), row, "all", names, row[None], (group,))
    valid = sufficient_reason(function_of(table), row, "valid", names, row[None], (group,))
    assert (over_all.n_literals, valid.n_literals) == (3, 1)


@pytest.mark.parametrize("net", ["mu", "psi", "relu", "entropy", "tell"])
@pytest.mark.parametrize("guarantee", ["observed", "valid", "all"])
def test_formulas_of_every_net_equal_it_on_the_domain_they_promise(net, guarantee):
    rng = np.random.default_rng(1)
    X = rng.integers(0, 2, (150, 7))
    y = (X[:, 0] & X[:, 1]) | X[:, 2]
    model = LENClassifier(net, max_concepts=5, epochs=60).fit(X, y)
    explanation = model.explain(guarantee=guarantee)
    domain = model.observed_ if guarantee == "observed" else truth_table_rows(7)
    predicted = model.classes_[model._predicted(domain.astype(float))]
    for label, formula in explanation.formulas.items():
        assert (formula(domain) == (predicted == label)).all()
        assert explanation.certificates[label].counter_examples == 0
    assert explanation.text(0).endswith("]")
    assert f"[{guarantee}, " in explanation.text(0)


def test_both_formulas_of_a_binary_model_are_complements_on_the_domain(rule_model):
    model, X, _ = rule_model
    formulas = model.explain(guarantee="all").formulas
    rows = truth_table_rows(X.shape[1])
    assert (formulas["yes"](rows) != formulas["no"](rows)).all()


def test_argmax_formulas_of_several_classes_hold_for_exactly_one_class(iris_model):
    model, _ = iris_model
    observed = model.observed_
    votes = sum(formula(observed).astype(int) for formula in model.formulas_.values())
    assert (votes == 1).all()


def test_on_shuffled_labels_formulas_follow_the_network_and_not_the_majority():
    rng = np.random.default_rng(0)
    X, y = rng.integers(0, 2, (300, 8)), rng.integers(0, 2, 300)
    model = LENClassifier(max_concepts=8, epochs=300, validation_fraction=0.0).fit(X, y)
    scores = model.evaluate(X, y)["all"]
    assert scores["fidelity"] == 1.0
    assert len(np.unique(model.predict(X))) == 2


def test_a_constant_network_has_constant_formulas():
    net = make_net(NetConfig.of("mu", hidden=()), 3, 1, 0)
    with torch.no_grad():
        net.weights[0].zero_()
        net.biases[0].fill_(1.0)
    net.prune()
    no, yes = class_functions(net, 2, "head")
    rows = truth_table_rows(3)
    for function, text, value in ((no, "False", False), (yes, "True", True)):
        formula, _ = explain_function(function, "observed", ["a", "b", "c"], rows, ())
        assert (str(formula), formula.n_literals) == (text, 0)
        assert (formula(rows) == value).all()


def test_too_wide_a_table_is_refused_with_the_guarantee_that_fits():
    function = ClassFunction(np.arange(21), lambda patterns: patterns[:, 0] - 0.5)
    with pytest.raises(InputError, match="a table of 2\\^21 rows; at most 20 fit: use guarantee"):
        explain_function(
            function, "all", [f"c{n}" for n in range(21)], np.zeros((1, 21), dtype=bool), ()
        )


def test_the_psi_formula_is_the_networks_boolean_form():
    X = np.random.default_rng(0).integers(0, 2, (200, 6))
    model = LENClassifier("psi", max_concepts=6, epochs=60).fit(X, X[:, 0] & X[:, 1])
    rows = truth_table_rows(6)
    formula = psi_formula(model.net_, 0, model.concept_names_)
    with torch.no_grad():
        wanted = model.net_.boolean_forward(torch.from_numpy(rows).float())[:, 0].numpy()
    assert (formula(rows) == wanted).all()


@pytest.mark.parametrize("net", ["mu", "psi", "relu", "entropy", "tell"])
def test_the_papers_aggregation_never_claims_more_than_it_has(net):
    X = np.random.default_rng(0).integers(0, 2, (200, 6))
    y = X[:, 0] & X[:, 1]
    model = LENClassifier(net, max_concepts=5, epochs=100).fit(X, y)
    explanation = model.explain(aggregation="paper")
    certificate = explanation.certificates[1]
    observed = model.observed_
    predicted = model._predicted(observed.astype(float)) == 1
    wrong = int((explanation.formulas[1](observed) != predicted).sum())
    assert (certificate.method, certificate.counter_examples) == ("paper", wrong)
    assert explanation.text(1).endswith("[no guarantee, not shortened]")


def rows_and_weights(seed: int):
    rng = np.random.default_rng(seed)
    concepts = truth_table_rows(4)
    inside, outside = rng.integers(0, 9, (2, len(concepts)))
    masks = rng.random((2, 5, 4)) < 0.35
    positive, negative = masks[0], masks[1] & ~masks[0]
    # No term without a literal: it would make the whole formula True.
    positive[~(positive | negative).any(axis=1), 0] = True
    return Formula(["a", "b", "c", "d"], positive, negative), concepts, inside, outside


@pytest.mark.parametrize("seed", range(8))
def test_the_front_removes_the_cheapest_part_at_each_step(seed):
    formula, concepts, inside, outside = rows_and_weights(seed)
    front = make_front(formula, concepts, inside, outside)
    assert front.formulas[0] == formula
    assert front.formulas[-1].n_literals == 0
    total = inside.sum() + outside.sum()
    for one, accuracy in zip(front.formulas, front.accuracies, strict=True):
        fired = one(concepts)
        right = inside[fired].sum() + outside[~fired].sum()
        assert accuracy == pytest.approx(right / total)
    lengths = [one.n_literals for one in front.formulas]
    assert lengths == sorted(lengths, reverse=True)
    assert len(set(lengths)) == len(lengths)
    # The first step by brute force: no single term or literal could go at a lower price.
    best = max(np.where(one(concepts), inside, outside).sum() / total for one in smaller(formula))
    assert front.accuracies[1] == pytest.approx(best)
    assert front.best(max_literals=lengths[1]).n_literals <= lengths[1]


def smaller(formula: Formula):
    """Every formula that lacks one term, or one literal of a term that has others."""
    terms = formula.terms
    for number, term in enumerate(terms):
        yield Formula.from_terms(formula.names, terms[:number] + terms[number + 1 :])
        for name in term if len(term) > 1 else ():
            rest = {other: value for other, value in term.items() if other != name}
            yield Formula.from_terms(formula.names, [*terms[:number], rest, *terms[number + 1 :]])


@pytest.mark.parametrize("seed", range(8))
def test_style_thresholds_are_the_nearest_that_keep_their_word(seed):
    rng = np.random.default_rng(seed)
    rows = truth_table_rows(5)
    inside, outside = rng.integers(0, 9, (2, len(rows)))
    sure = rng.normal(size=len(rows)) + 0.2 * (inside - outside)
    function = ClassFunction(np.arange(5), lambda patterns: sure[patterns @ (1 << np.arange(5))])
    for style, sign in (("if", 1), ("only_if", -1)):
        styled = style_function(function, style, rows, inside, outside, 0.8)

        def rate(threshold, style=style):
            fired = sure > threshold
            hits = inside[fired].sum()
            wanted = (hits + outside[fired].sum()) if style == "if" else inside.sum()
            return (hits + 1) / (wanted + 2)

        assert sign * styled.threshold >= 0
        steps = np.unique(sure)
        between = (steps[1:] + steps[:-1]) / 2
        nearer = [one for one in between if 0 < sign * one < sign * styled.threshold]
        if rate(styled.threshold) >= 0.8:
            assert all(rate(one) < 0.8 for one in [0.0, *nearer] if one != styled.threshold)
        else:
            every = [
                0.0,
                *(one for one in sure if sign * one > 0),
                *([sure.min() - 1] * (sign < 0)),
            ]
            assert rate(styled.threshold) >= max(rate(one) for one in every) - 1e-12


def test_impossible_terms_and_implied_literals_are_left_out():
    names = ["x = a", "x = b", "x = c", "y > 1", "y > 2", "z"]
    groups = (Group("exclusive", (0, 1, 2), complete=True), Group("ordered", (3, 4)))
    formula = Formula.from_terms(
        names,
        [
            {"x = a": True, "x = b": True},
            {"x = a": True, "x = b": False, "z": True},
            {"y > 1": False, "y > 2": True},
            {"y > 1": True, "y > 2": True},
            {"x = a": False, "x = b": False, "x = c": False, "z": False},
        ],
    )
    part = possible_part(formula, groups)
    assert str(part) == "x = a & z | y > 2"
    rows = valid_patterns(6, groups, range(6))
    assert (part(rows) == formula(rows)).all()


@pytest.mark.parametrize("seed", range(6))
def test_the_possible_part_equals_the_formula_on_valid_rows(seed):
    rng = np.random.default_rng(seed)
    groups = (
        Group("exclusive", (0, 1, 2), complete=bool(seed % 2)),
        Group("ordered", (3, 4, 5), missing=6),
    )
    masks = rng.random((2, 30, 8)) < 0.3
    formula = Formula([f"c{n}" for n in range(8)], masks[0], masks[1] & ~masks[0])
    rows = valid_patterns(8, groups, range(8))
    part = possible_part(formula, groups)
    assert (part(rows) == formula(rows)).all()
    assert part.n_literals <= formula.n_literals


def test_styles_move_precision_and_recall_as_they_say():
    rng = np.random.default_rng(3)
    X = rng.integers(0, 2, (1500, 10))
    chance = 0.1 + 0.5 * X[:, 0] + 0.35 * (X[:, 1] & X[:, 2])
    y = (rng.random(1500) < chance).astype(int)
    model = LENClassifier(max_concepts=6, epochs=200).fit(X[:1000], y[:1000])
    from workingpapers.lens.metrics import precision_recall

    rates = {}
    for style in ("iff", "if", "only_if"):
        explanation = model.explain(1, style=style, min_precision=0.85)
        rates[style] = precision_recall(explanation.formulas[1], X[1000:], y[1000:] == 1)
        arrow = {"iff": "<->", "if": "<-", "only_if": "->"}[style]
        assert f" {arrow} " in explanation.text(1)
    assert rates["if"][0] > rates["iff"][0]
    assert rates["only_if"][1] > rates["iff"][1]


def test_patterns_count_rows_by_class_and_part():
    concepts = np.array([[1, 0], [1, 0], [0, 1], [1, 0]], dtype=bool)
    members = np.array([[1, 0], [0, 1], [1, 0], [1, 0]], dtype=bool)
    held = np.array([False, False, False, True])
    patterns = Patterns.count(concepts, members, held)
    assert patterns.concepts.tolist() == [[False, True], [True, False]]
    assert patterns.training.tolist() == [[1, 0], [1, 1]]
    assert patterns.validation.tolist() == [[0, 0], [1, 0]]
    assert patterns.totals.tolist() == [[1, 0], [2, 1]]
    inside, outside = patterns.membership(0)
    assert (inside.tolist(), outside.tolist()) == ([0, 1], [0, 0])
