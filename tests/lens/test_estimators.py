"""scikit-learn's own checks, and what the estimators promise beside them."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import check_estimator

from workingpapers.foundation.errors import InputError
from workingpapers.lens import Booleanizer, LENCascade, LENClassifier, LENClusterer, LENExplainer
from workingpapers.lens.data import fabricated_cascade, load, mask_missing, threshold_rule
from workingpapers.lens.metrics import fidelity

# What scikit-learn's checks expect and this estimator does otherwise, with the reason.
EXPECTED_FAILURES = {
    "check_do_not_raise_errors_in_init_or_set_params": "the suite's run-time type checks refuse "
    "what this check passes to __init__; without them it passes",
}

SHORT_LIST = (
    "check_estimator_cloneable",
    "check_fit2d_1feature",
    "check_classifiers_train",
    "check_fit_idempotent",
    "check_n_features_in",
    "check_methods_subset_invariance",
    "check_dict_unchanged",
)


def test_mu_passes_scikit_learns_whole_check():
    results = check_estimator(
        LENClassifier("mu", epochs=60, hidden=(10,)),
        expected_failed_checks=EXPECTED_FAILURES,
        on_fail=None,
        on_skip=None,
    )
    failed = {one["check_name"]: repr(one["exception"]) for one in results
              if one["status"] == "failed"}  # fmt: skip
    assert failed == {}
    assert sum(one["status"] == "passed" for one in results) >= 40


@pytest.mark.parametrize("net", ["psi", "relu", "entropy", "tell"])
def test_the_other_nets_pass_a_short_list(net):
    from sklearn.utils.estimator_checks import estimator_checks_generator

    wanted = set(SHORT_LIST)
    ran = 0
    for one, check in estimator_checks_generator(LENClassifier(net, epochs=200)):
        name = getattr(check, "func", check).__name__
        if name in wanted:
            check(one)
            ran += 1
    assert ran >= 5


def test_fitting_twice_gives_the_same_network_bit_for_bit():
    X, y = load_iris(return_X_y=True)
    first, second = (LENClassifier(epochs=40).fit(X, y) for _ in range(2))
    assert (first.decision_function(X) == second.decision_function(X)).all()
    assert str(first.explain()) == str(second.explain())
    other = LENClassifier(epochs=40, random_state=1).fit(X, y)
    assert (first.decision_function(X) != other.decision_function(X)).any()


def test_it_stands_in_pipelines_and_cross_validation():
    X, y = load_iris(return_X_y=True)
    pipeline = make_pipeline(FunctionTransformer(), LENClassifier(epochs=60))
    assert cross_val_score(pipeline, X, y, cv=3).mean() > 0.85
    assert clone(LENClassifier(max_concepts="auto")).max_concepts == "auto"


def test_pruned_columns_never_change_a_prediction(iris_model):
    model, data = iris_model
    concepts = model.concepts(data.table)
    flipped = concepts.copy()
    others = np.setdiff1d(np.arange(concepts.shape[1]), model.kept_)
    flipped[:, others] = 1 - flipped[:, others]
    assert (model._logits(concepts) == model._logits(flipped)).all()


def test_a_learned_rule_is_printed_as_it_is(rule_model):
    model, X, y = rule_model
    assert model.score(X, y) == 1.0
    assert str(model.formulas_["yes"]) == "c0 & c1 | c2 & ~c3"
    assert model.explain().text("yes") == (
        "forall x: yes(x) <-> c0 & c1 | c2 & ~c3   [observed, minimum]"
    )


def test_one_row_is_explained_by_its_reason(rule_model):
    model, X, _ = rule_model
    row = np.array([1, 1, 0, 0, 0, 0, 0, 0])
    assert str(model.explain_sample(row)) == "c0 & c1"
    assert model.predict(row[None])[0] == "yes"
    with pytest.raises(InputError, match="x: expected one row, found 2"):
        model.explain_sample({f"c{n}": X[:2, n] for n in range(8)})


def test_rows_never_seen_are_said_to_extrapolate():
    X = np.array([[0, 0], [0, 1], [1, 0]] * 20)
    model = LENClassifier(max_concepts=2, epochs=60).fit(X, X.any(axis=1))
    assert model.extrapolates(np.array([[0, 1], [1, 1]])).tolist() == [False, True]


def test_missing_values_become_concepts_and_formulas_name_them():
    data = load("iris")
    holes = mask_missing(data.table, 0.2, 0)
    model = LENClassifier(max_concepts=8, epochs=150).fit(holes, data.target)
    assert any(name.endswith("is missing") for name in model.concept_names_)
    assert model.score(holes, data.target) > 0.8


def test_degrees_need_no_booleanizer_and_the_gap_is_reported():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, (300, 3))
    degrees = np.clip(truth * 0.5 + 0.25 + rng.uniform(-0.2, 0.2, truth.shape), 0, 1)
    y = truth[:, 0] & truth[:, 1]
    model = LENClassifier(booleanizer=None, max_concepts=2, epochs=200).fit(degrees, y)
    assert abs(model.boolean_gap(degrees, y)) < 0.02
    assert str(model.explain(1, guarantee="all").formulas[1]) == "x0 & x1"
    hard = LENClassifier(booleanizer=None, max_concepts=2, epochs=50, harden=True).fit(degrees, y)
    assert hard.boolean_gap(degrees, y) == 0.0
    assert (hard.decision_function(degrees) == hard.decision_function(degrees > 0.5)).all()
    with pytest.raises(InputError, match=r"in \[0, 1\], found 2"):
        LENClassifier(booleanizer=None).fit(degrees * 2 + 1, y)


def test_several_labels_a_row_get_a_formula_each():
    X = np.random.default_rng(0).integers(0, 2, (200, 4))
    Y = np.stack([X[:, 0] & X[:, 1], X[:, 2] | X[:, 3]], axis=1)
    model = LENClassifier(max_concepts=2, epochs=200).fit(X, Y)
    assert (model.predict(X) == Y).all()
    assert [str(one) for one in model.formulas_.values()] == ["x0 & x1", "x2 | x3"]
    assert model.explain().accuracy == 1.0


def test_a_black_box_is_explained_from_its_answers_alone():
    data = load("wdbc")
    known = Booleanizer().fit(data.table)
    box = RandomForestClassifier(30, random_state=0).fit(known.transform(data.table), data.target)
    explainer = LENExplainer(
        lambda table: box.predict(known.transform(table)), LENClassifier(epochs=150)
    ).fit(data.table)
    assert explainer.score(data.table) > 0.9
    assert (explainer.predict(data.table) == explainer.classifier_.predict(data.table)).all()
    with pytest.raises(InputError, match="black_box: expected a callable or an estimator"):
        LENExplainer().fit(data.table)


def test_clusters_have_formulas_and_none_is_empty():
    data = load("votes")
    model = LENClusterer(2, epochs=150, restarts=2).fit(data.table)
    assert model.empty_clusters_ == 0
    assert 0.5 < model.mutual_information_ <= np.log(2) + 1e-6
    concepts = model.concepts(data.table) > 0.5
    assert fidelity(model.formulas_, concepts, model.labels_) == 1.0
    with pytest.raises(InputError, match="n_clusters: expected at least 2, got 1"):
        LENClusterer(1).fit(data.table)


def test_a_cascades_expanded_formulas_are_the_composed_networks():
    data = fabricated_cascade(rows=400)
    middle = np.column_stack([data.middle.column(name) for name in data.middle.names]).astype(int)
    stage = LENClassifier(max_concepts=6, epochs=100)
    cascade = LENCascade(stage, stage).fit(
        data.low, middle, data.target, middle_names=data.middle.names
    )
    rng = np.random.default_rng(0)
    levels = {number: rng.integers(0, 3, 2000) for number in range(20)}
    drawn = {name: levels[number // 3] == number % 3 for number, name in enumerate(data.low.names)}
    concepts = cascade.first_.concepts(drawn) > 0.5
    predicted = cascade.predict(drawn)
    for label, formula in cascade.formulas().items():
        assert (formula(concepts) == (predicted == label)).all()
    assert set(cascade.formulas(expanded=False)["democratic"].concepts) <= set(data.middle.names)


def test_learned_thresholds_find_the_rule_that_halving_misses():
    data = threshold_rule(seed=4)
    model = LENClassifier(booleanizer=Booleanizer(thresholds="learned")).fit(
        data.table, data.target
    )
    assert model.score(data.table, data.target) > 0.95


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"net": "nu"}, "net: expected one of mu, psi, relu, entropy, tell, got 'nu'"),
        ({"max_concepts": 0}, "max_concepts: expected at least 1, got 0"),
        ({"epochs": 0}, "epochs: expected at least 1, got 0"),
        ({"style": "maybe"}, "style: expected iff, if, only_if"),
        ({"validation_fraction": 1.0}, "validation_fraction: expected at least 0 and below 1"),
        ({"booleanizer": 3}, "booleanizer: expected 'auto', a Booleanizer, or None"),
    ],
)
def test_bad_parameters_are_named(parameters, message):
    X, y = load_iris(return_X_y=True)
    with pytest.raises(InputError) as caught:
        LENClassifier(**parameters).fit(X, y)
    assert message in str(caught.value)


def test_bad_options_of_explain_are_named(rule_model):
    model, _, _ = rule_model
    for options, message in (
        ({"target": "maybe"}, "class maybe: no such class; the classes are no, yes"),
        ({"style": "maybe"}, "style: expected iff, if, only_if, got 'maybe'"),
        ({"aggregation": "x"}, "aggregation: expected exact, paper, got 'x'"),
        ({"min_precision": 0}, "min_precision: expected above 0 and at most 1, got 0"),
        ({"target_level": "x"}, "target_level: expected auto, head or argmax, got 'x'"),
    ):
        with pytest.raises(InputError) as caught:
            model.explain(**options)
        assert str(caught.value) == message


def test_one_class_is_refused():
    with pytest.raises(InputError, match="expected at least two classes, found only 'a'"):
        LENClassifier().fit(np.eye(4), ["a"] * 4)
