import itertools
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.estimator_checks import check_estimator

from workingpapers.foundation.errors import InputError
from workingpapers.lens.concepts import (
    Booleanizer,
    Group,
    accuracy_ceiling,
    concept_degrees,
    concept_name,
    infer_groups,
    is_valid,
    threshold_between,
    valid_patterns,
)
from workingpapers.lens.formula import Predicate

NaN = float("nan")
COLUMNS = {
    "age": [20, 30, 40, 50, 60, 70, 80, NaN],
    "size": [1.5, 1.5, 2.5, 2.5, 2.5, 1.5, 1.5, 1.5],
    "flag": [0, 1, 0, 1, 0, 1, 0, NaN],
    "smokes": [True, False, True, False, True, False, True, False],
    "bruises": ["t", "f", "t", "f", "t", "t", "f", "t"],
    "odor": ["n", "a", "l", "n", None, "a", "l", "n"],
    "veil": ["p"] * 8,
}


@pytest.fixture
def fitted() -> Booleanizer:
    with pytest.warns(UserWarning, match=r"no concept made of veil \(always p\)"):
        return Booleanizer().fit(COLUMNS)


def quietly_fitted(columns: object, **parameters: object) -> Booleanizer:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Booleanizer(**parameters).fit(columns)  # type: ignore[arg-type]


def test_every_kind_of_column_becomes_readable_concepts(fitted: Booleanizer) -> None:
    assert fitted.predicates_ == {
        "age > 35": Predicate("age", ">", 35.0),
        "age > 55": Predicate("age", ">", 55.0),
        "age > 65": Predicate("age", ">", 65.0),
        "age is missing": Predicate("age", "is missing"),
        "size > 2": Predicate("size", ">", 2.0),
        "flag": Predicate("flag", "true"),
        "flag is missing": Predicate("flag", "is missing"),
        "smokes": Predicate("smokes", "true"),
        "bruises = t": Predicate("bruises", "=", "t"),
        "odor = a": Predicate("odor", "=", "a"),
        "odor = l": Predicate("odor", "=", "l"),
        "odor = n": Predicate("odor", "=", "n"),
        "odor is missing": Predicate("odor", "is missing"),
    }
    assert fitted.concept_names_ == tuple(fitted.predicates_)
    assert fitted.get_feature_names_out().tolist() == list(fitted.predicates_)
    assert fitted.groups_ == (
        Group("ordered", (0, 1, 2), missing=3),
        Group("exclusive", (5, 6)),
        Group("exclusive", (9, 10, 11, 12), complete=True),
    )
    assert fitted.dropped_ == {"veil": "always p"}


def test_concepts_hold_where_their_predicates_say(fitted: Booleanizer) -> None:
    concepts = fitted.transform(COLUMNS)
    assert concepts.dtype == bool
    for row, name in itertools.product(range(8), fitted.concept_names_):
        predicate = fitted.predicates_[name]
        value = COLUMNS[predicate.column][row]
        is_missing = value is None or value != value
        expected = {
            "is missing": is_missing,
            "true": not is_missing and value == 1,
            "=": value == predicate.value,
            ">": not is_missing and predicate.operator == ">" and value > predicate.value,
        }[predicate.operator]
        assert concepts[row, fitted.concept_names_.index(name)] == expected, (row, name)


def test_the_same_table_from_a_csv_file_has_the_same_concepts(
    tmp_path: Path, fitted: Booleanizer
) -> None:
    rows = [
        ",".join(COLUMNS),
        *(",".join(map(str, row)) for row in zip(*COLUMNS.values(), strict=True)),
    ]
    path = tmp_path / "data.csv"
    path.write_text("\n".join(rows).replace("None", "?"))
    assert (fitted.transform(path) == fitted.transform(COLUMNS)).all()
    assert quietly_fitted(path).predicates_ == fitted.predicates_


def test_a_table_of_zeros_and_ones_is_its_own_concepts() -> None:
    rng = np.random.default_rng(0)
    values = rng.random((50, 6)) < 0.5
    for table in (values, values.astype(int), values.astype(np.float32), values.tolist()):
        booleanizer = Booleanizer().fit(table)
        assert booleanizer.concept_names_ == ("x0", "x1", "x2", "x3", "x4", "x5")
        assert booleanizer.groups_ == ()
        assert (booleanizer.transform(table) == values).all()


def test_words_true_and_false_with_missing_values_are_one_concept(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("sick,x\ntrue,1\n,2\nFalse,3\n")
    booleanizer = Booleanizer().fit(path)
    assert booleanizer.concept_names_[:2] == ("sick = true", "sick is missing")
    assert booleanizer.transform(path)[:, :2].tolist() == [
        [True, False],
        [False, True],
        [False, False],
    ]
    later = {"sick": [True, False], "x": [1, 2]}
    assert booleanizer.transform(later)[:, 0].tolist() == [True, False]


@settings(max_examples=80, deadline=None)
@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_a_threshold_parts_two_numbers_in_the_fewest_digits(a: float, b: float) -> None:
    low, high = min(a, b), max(a, b)
    if low == high:
        high = np.nextafter(high, np.inf)
    threshold = threshold_between(low, high)
    assert low <= threshold < high
    assert low < threshold or np.nextafter(low, np.inf) == high
    digits = len(repr(threshold).partition("e")[0].replace(".", "").strip("-0").rstrip("0"))
    if low < threshold and digits > 1:
        shorter = float(f"{low / 2 + high / 2:.{digits - 1}g}")
        assert not low < shorter < high


@pytest.mark.parametrize(
    ("low", "high", "threshold"),
    [(14.18, 14.21, 14.2), (1, 2, 1.5), (61, 62, 61.5), (1234567, 1234999, 1234800), (-1, 1, 0)],
)
def test_thresholds_are_readable(low: float, high: float, threshold: float) -> None:
    assert threshold_between(low, high) == threshold


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.one_of(st.floats(-1e3, 1e3), st.integers(0, 5), st.none()), min_size=2, max_size=60
    ),
    st.integers(1, 5),
)
def test_quantile_thresholds_are_the_nearest_splits_to_the_quantiles(
    column: list[float | None], n: int
) -> None:
    values = np.array([value for value in column if value is not None], dtype=float)
    distinct = np.unique(values)
    if len(distinct) < 2 or distinct.tolist() == [0, 1]:
        return
    booleanizer = quietly_fitted({"x": column}, n_thresholds=n)
    cuts = [p.value for p in booleanizer.predicates_.values() if p.operator == ">"]
    splits = [np.mean(values <= value) for value in distinct[:-1]]
    chosen = [np.mean(values <= cut) for cut in cuts]
    levels = np.arange(1, n + 1) / (n + 1)

    def is_nearest(split: float, level: float) -> bool:
        return abs(split - level) <= min(abs(other - level) for other in splits) + 1e-12

    assert cuts == sorted(set(cuts))
    assert all(any(is_nearest(split, level) for level in levels) for split in chosen)
    assert all(any(is_nearest(split, level) for split in chosen) for level in levels)


def test_tree_thresholds_recover_a_rule_over_real_numbers() -> None:
    x = np.random.default_rng(0).random((2000, 5))
    y = np.where((x[:, 0] > 0.5) & ((x[:, 1] > 0.2) | (x[:, 2] > 0.7)), "yes", "no")
    booleanizer = Booleanizer(thresholds="tree").fit(x, y)
    for column, threshold in (("x0", 0.5), ("x1", 0.2), ("x2", 0.7)):
        cuts = [p.value for p in booleanizer.predicates_.values() if p.column == column]
        assert min(abs(cut - threshold) for cut in cuts) < 0.01  # type: ignore[operator]
        assert len(cuts) <= 3


def test_tree_thresholds_do_not_lose_what_single_precision_would() -> None:
    x = 1.0 + np.arange(40)[:, None] * 1e-12
    booleanizer = Booleanizer(thresholds="tree", n_thresholds=1).fit(x, np.arange(40) >= 17)
    assert booleanizer.transform(x)[:, 0].tolist() == (np.arange(40) >= 17).tolist()


def test_a_column_whose_tree_finds_no_split_is_dropped() -> None:
    columns = {"a": [1.0, 2.0, 3.0, 4.0], "b": [1.0, 2.0, None, None]}
    with pytest.warns(UserWarning, match=r"b \(no threshold helps\)"):
        booleanizer = Booleanizer(thresholds="tree", n_thresholds=1).fit(columns, [0, 0, 1, 1])
    assert booleanizer.concept_names_ == ("a > 2.5", "b is missing")


def test_only_the_most_frequent_of_too_many_categories_become_concepts() -> None:
    words = ["a"] * 5 + ["b"] * 4 + ["c"] * 3 + ["d", "e"]
    with pytest.warns(UserWarning, match="city") as caught:
        booleanizer = Booleanizer(max_categories=3).fit({"city": words})
    assert str(caught[0].message) == (
        "mapping of columns: column 'city' has 5 categories; only the 3 most frequent ones, "
        "86% of its values, become concepts"
    )
    assert booleanizer.concept_names_ == ("city = a", "city = b", "city = c")
    assert booleanizer.groups_ == (Group("exclusive", (0, 1, 2)),)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not booleanizer.transform({"city": ["e", "new"]}).any()


def test_what_was_unseen_makes_no_concept_true_and_is_said_once(fitted: Booleanizer) -> None:
    new = {name: values[:2] for name, values in COLUMNS.items()}
    new |= {"odor": ["x", "y"], "bruises": ["z", None], "smokes": [None, True]}
    with pytest.warns(UserWarning, match="in the fitted data") as caught:
        concepts = fitted.transform(new)
    assert [str(warning.message) for warning in caught] == [
        "mapping of columns: missing values in columns that had none in the fitted data, for "
        "which all concepts of their column are false: smokes, bruises",
        "mapping of columns: categories not in the fitted data, for which all concepts of their "
        "column are false: bruises (z), odor (x, y)",
    ]
    assert not concepts[:, 8:].any()
    assert concepts[:, 7].tolist() == [False, True]


@pytest.mark.parametrize(
    ("columns", "parameters", "said"),
    [
        (
            {"a": [1, 2], "b": [None, None]},
            {},
            "mapping of columns: column 'b' has no value in any row; drop the column",
        ),
        (
            {"a": [1, None, 3]},
            {"missing": "error"},
            "mapping of columns: column 'a' has 1 missing values, the first in row 2; "
            "missing='concept' makes them a concept",
        ),
        (
            {"a": [1, 1], "b": ["x", "x"]},
            {},
            "mapping of columns: no column makes a concept: a (always 1), b (always x)",
        ),
        (
            {"a": [1.0, 2.0], "a > 1.5": [0, 1]},
            {},
            "two concepts are both named 'a > 1.5'; rename a column",
        ),
        (
            {"a": [1, 2]},
            {"thresholds": "tree"},
            "y: thresholds='tree' needs the classes of the rows",
        ),
        (
            {"a": [1, 2]},
            {"thresholds": "best"},
            "thresholds: expected auto or quantile or tree or learned, got 'best'",
        ),
        ({"a": [1, 2]}, {"missing": ""}, "missing: expected concept or error, got ''"),
        (
            {"a": [1, 2]},
            {"n_thresholds": 0},
            "n_thresholds: expected an integer of at least 1, got 0",
        ),
        (
            {"a": [1, 2]},
            {"max_categories": 1},
            "max_categories: expected an integer of at least 2, got 1",
        ),
    ],
)
def test_what_cannot_be_made_boolean_is_refused_in_one_line(
    columns: object, parameters: dict[str, object], said: str
) -> None:
    with pytest.raises(InputError) as error:
        quietly_fitted(columns, **parameters)
    assert str(error.value) == said


def test_other_data_than_fitted_is_refused_in_one_line(fitted: Booleanizer) -> None:
    with pytest.raises(InputError, match="mapping of columns: no column 'age'; it has odor"):
        fitted.transform({"odor": ["n"]})
    text = {name: values[:1] for name, values in COLUMNS.items()}
    said = "mapping of columns: column 'age': expected numbers as in the fitted data, found 'old'"
    with pytest.raises(InputError, match=said):
        fitted.transform(text | {"age": ["old"]})
    said = "column 'smokes': expected true or false as in the fitted data, found 'maybe'"
    with pytest.raises(InputError, match=said):
        fitted.transform(text | {"smokes": ["maybe"]})
    with pytest.raises(InputError, match="X has 2 features, but Booleanizer is expecting 7"):
        fitted.transform(np.zeros((1, 2)))
    with pytest.raises(InputError, match="y: expected 3 classes, one a row, got 2"):
        Booleanizer(thresholds="tree").fit(np.arange(3.0)[:, None], [0, 1])
    strict = Booleanizer(missing="error").fit({"a": [1.0, 2.0]})
    with pytest.raises(InputError, match="mapping of columns: missing values in a"):
        strict.transform({"a": [None, 1.0]})
    with pytest.raises(NotFittedError):
        Booleanizer().transform({"a": [1]})


def test_numbers_stand_for_the_categories_they_are_written_like(tmp_path: Path) -> None:
    booleanizer = Booleanizer().fit({"code": ["1", "2", "x"]})
    path = tmp_path / "data.csv"
    path.write_text("code\n1\n2\n\n")
    assert booleanizer.transform(path).tolist() == [[True, False, False], [False, True, False]]


def test_a_configuration_gives_the_same_booleanizer_back(fitted: Booleanizer) -> None:
    text = json.dumps(fitted.to_config(), allow_nan=False)
    back = Booleanizer.from_config(json.loads(text))
    assert (back.transform(COLUMNS) == fitted.transform(COLUMNS)).all()
    assert back.to_config() == fitted.to_config()
    for name in ("predicates_", "groups_", "dropped_", "categories_", "concept_names_"):
        assert getattr(back, name) == getattr(fitted, name)
    with pytest.raises(InputError, match="the Booleanizer's configuration is malformed"):
        Booleanizer.from_config({"parameters": {}})
    with pytest.raises(InputError, match="the Booleanizer's configuration is malformed"):
        Booleanizer.from_config(fitted.to_config() | {"groups": [{"kind": "ordered"}]})
    with pytest.raises(InputError, match=r"expected the kind exclusive or ordered|malformed"):
        Booleanizer.from_config(fitted.to_config() | {"groups": [{"kind": "", "members": []}]})


def test_a_configuration_holds_no_row_of_the_data() -> None:
    secrets = ["Ada Lovelace", "Alan Turing", "Grace Hopper"]
    columns = {"name": secrets * 2 + ["x"] * 3 + ["y"] * 3, "age": list(range(12))}
    text = json.dumps(quietly_fitted(columns, max_categories=2).to_config())
    assert not any(secret in text for secret in secrets)


def test_it_is_a_scikit_learn_transformer(fitted: Booleanizer) -> None:
    assert clone(Booleanizer(n_thresholds=5)).get_params()["n_thresholds"] == 5
    x = np.random.default_rng(0).normal(size=(60, 3))
    y = x[:, 0] > 0
    model = make_pipeline(Booleanizer(), DecisionTreeClassifier(random_state=0)).fit(x, y)
    assert model.score(x, y) > 0.9
    assert model[:-1].get_feature_names_out()[0].startswith("x0 > ")


def test_scikit_learn_finds_the_transformer_well_behaved() -> None:
    words = "says the same in other words"
    expected = {
        "check_complex_data": words,
        "check_estimators_empty_data_messages": words,
        "check_estimator_sparse_tag": words,
        "check_estimator_sparse_array": words,
        "check_estimator_sparse_matrix": words,
        "check_fit2d_1sample": words,
        "check_fit2d_predict1d": words,
        "check_transformer_preserve_dtypes": "concepts are Boolean",
        "check_do_not_raise_errors_in_init_or_set_params": "the test suite checks annotations",
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_estimator(Booleanizer(), expected_failed_checks=expected)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.one_of(st.none(), st.sampled_from(["a", "b", "c"]), st.floats(0, 9), st.integers(0, 1)),
        min_size=2,
        max_size=40,
    ),
    st.booleans(),
)
def test_the_valid_patterns_of_one_column_are_those_its_values_have(
    column: list[object], as_text: bool
) -> None:
    if as_text:
        column = [None if value is None else str(value) for value in column]
    else:
        column = [None if isinstance(value, str) else value for value in column]
    if len({value for value in column if value is not None}) < 2:
        return
    booleanizer = quietly_fitted({"x": column})
    concepts = booleanizer.transform({"x": column})
    n = concepts.shape[1]
    valid = valid_patterns(n, booleanizer.groups_, range(n))
    assert set(map(tuple, valid)) == set(map(tuple, concepts))


GROUPS = (
    Group("exclusive", (0, 3, 1), complete=True),
    Group("ordered", (6, 2, 5), missing=4),
    Group("exclusive", (7, 8)),
)


def whole_rows() -> np.ndarray:
    """All rows of ten concepts that GROUPS allow, straight from the definitions."""
    rows = np.array(list(itertools.product((False, True), repeat=10)))
    keep = [
        row
        for row in rows
        if row[[0, 3, 1]].sum() == 1
        and (not row[2] or row[6])
        and (not row[5] or row[2])
        and not (row[4] and row[6])
        and not (row[7] and row[8])
    ]
    return np.array(keep)


@settings(max_examples=60, deadline=None)
@given(st.permutations(range(10)), st.integers(0, 10))
def test_valid_patterns_are_the_projections_of_valid_rows(order: list[int], size: int) -> None:
    subset = order[:size]
    patterns = valid_patterns(10, GROUPS, subset)
    expected = set(map(tuple, whole_rows()[:, subset]))
    assert set(map(tuple, patterns)) == expected
    assert len(patterns) == len(expected)
    everything = np.array(list(itertools.product((False, True), repeat=size)), dtype=bool)
    valid = is_valid(everything, GROUPS, subset)
    assert set(map(tuple, everything[valid])) == expected


def test_without_groups_the_row_number_spells_the_pattern() -> None:
    patterns = valid_patterns(9, (), [4, 0, 7])
    assert (patterns @ [1, 2, 4]).tolist() == list(range(8))


def test_too_many_valid_patterns_are_counted_and_refused() -> None:
    assert len(valid_patterns(40, (Group("exclusive", tuple(range(40))),), range(40))) == 41
    said = (
        "guarantee valid: the decision depends on 21 concepts with 2097152 valid patterns, more "
        "than 1048576: use guarantee observed, or fewer concepts"
    )
    with pytest.raises(InputError) as error:
        valid_patterns(30, (), range(21))
    assert str(error.value) == said


@pytest.mark.parametrize(
    ("groups", "subset", "said"),
    [
        ((), [0, 0], "subset: expected distinct concepts from 0 to 4"),
        ((), [5], "subset: expected distinct concepts from 0 to 4"),
        (
            (Group("exclusive", (0, 1)), Group("ordered", (1, 2))),
            [0],
            "groups: a concept is in more than one group",
        ),
    ],
)
def test_subsets_and_groups_that_make_no_sense_are_refused(
    groups: tuple[Group, ...], subset: list[int], said: str
) -> None:
    with pytest.raises(InputError) as error:
        valid_patterns(5, groups, subset)
    assert str(error.value) == said


def test_an_ordered_group_is_never_complete() -> None:
    with pytest.raises(InputError, match="group: only an exclusive group can be complete"):
        Group("ordered", (0, 1), complete=True)


def test_groups_are_found_by_name_and_only_where_the_data_agree() -> None:
    concepts = np.array([[1, 0, 1, 0, 1, 0], [0, 1, 0, 0, 1, 1], [1, 0, 0, 1, 0, 0]], dtype=bool)
    names = ["sex = f", "sex = m", "odor=n", "odor=a", "flag = x", "flag = y"]
    assert infer_groups(concepts, names) == (
        Group("exclusive", (0, 1), complete=True),
        Group("exclusive", (2, 3)),
    )
    table = dict(zip(["free", *names], np.column_stack([[1, 0, 1], concepts]).T, strict=True))
    assert Booleanizer().fit(table).groups_ == (
        Group("exclusive", (1, 2), complete=True),
        Group("exclusive", (3, 4)),
    )
    with pytest.raises(InputError, match="two concepts are both named 'a'"):
        infer_groups(concepts[:, :2], ["a", "a"])


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.booleans(), st.booleans(), st.sampled_from("xyz")), min_size=1, max_size=20
    )
)
def test_the_accuracy_ceiling_is_the_best_of_all_functions(
    rows: list[tuple[bool, bool, str]],
) -> None:
    concepts = np.array([row[:2] for row in rows])
    y = np.array([row[2] for row in rows])
    best = max(
        np.mean([function[2 * a + b] == label for a, b, label in rows])
        for function in itertools.product("xyz", repeat=4)
    )
    assert accuracy_ceiling(concepts, y) == pytest.approx(best)


def test_degrees_are_taken_as_they_are_and_checked() -> None:
    degrees, names = concept_degrees({"a": [0.2, 1.0], "b": [True, False]})
    assert degrees.tolist() == [[0.2, 1.0], [1.0, 0.0]]
    assert names == ("a", "b")
    for columns, found in (
        ({"a": [0.2, 1.5]}, "found 1.5 in row 2"),
        ({"a": [NaN, 0.5]}, "found nan in row 1"),
        ({"a": ["x", "y"]}, "found text"),
    ):
        with pytest.raises(InputError, match=f"column 'a': expected degrees.*{found}"):
            concept_degrees(columns)


def test_predicates_have_one_name_each() -> None:
    predicates = [
        Predicate("a", ">", 0.5),
        Predicate("a", ">", 1e-7),
        Predicate("a", "=", "x"),
        Predicate("a", "=", 3.0),
        Predicate("a", "is missing"),
        Predicate("a", "true"),
    ]
    assert list(map(concept_name, predicates)) == [
        "a > 0.5",
        "a > 1e-07",
        "a = x",
        "a = 3",
        "a is missing",
        "a",
    ]
