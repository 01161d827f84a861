"""From columns to Boolean concepts: thresholds, one-hot values, and which patterns can occur."""

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from workingpapers.foundation.errors import InputError
from workingpapers.foundation.tables import (
    DataTable,
    column_text,
    is_table,
    listed,
    number_text,
    read_table,
    value_text,
)
from workingpapers.lens.formula import Predicate

GroupKind = Literal["exclusive", "ordered"]

# Of two values of a column, the one that gives its concept the name: "bruises = t", not "= f".
_AFFIRMATIVE = frozenset({"+", "y", "yes", "t", "true", "positive", "present", "high"})
# A threshold that leaves fewer rows than this on one side says nothing about the column.
_LEAST_LEAF = 0.01


@dataclass(frozen=True)
class Group:
    """Concepts that cannot take every combination of values, because they stem from one column.

    exclusive: at most one of `members` is true, exactly one when the group is `complete`.
    ordered: each member is implied by the next, as thresholds in ascending order are; `missing`
    is the concept, if there is one, that makes all members false. Members are concept numbers.
    """

    kind: GroupKind
    members: tuple[int, ...]
    complete: bool = False
    missing: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(GroupKind):
            raise InputError(f"group: expected the kind exclusive or ordered, got {self.kind!r}")
        if self.kind == "ordered" and self.complete:
            raise InputError("group: only an exclusive group can be complete")

    def concepts(self) -> tuple[int, ...]:
        """All concepts that the group ties together."""
        return self.members if self.missing is None else (*self.members, self.missing)

    def patterns(self, within: AbstractSet[int]) -> Bool[np.ndarray, "patterns own"]:
        """The value patterns of those of its concepts that are in `within`, in concepts' order."""
        own = [member for member in self.members if member in within]
        if self.kind == "exclusive":
            one_each = np.eye(len(own), dtype=bool)
            if self.complete and len(own) == len(self.members):
                return one_each
            return np.vstack([np.zeros((1, len(own)), dtype=bool), one_each])
        prefixes = np.tri(len(own) + 1, len(own), -1, dtype=bool)
        if self.missing not in within:
            return prefixes
        is_missing = np.zeros((len(prefixes) + 1, len(own) + 1), dtype=bool)
        is_missing[:-1, :-1] = prefixes
        is_missing[-1, -1] = True
        return is_missing


def valid_patterns(
    n_concepts: int, groups: Sequence[Group], subset: Sequence[int], limit: int = 2**20
) -> Bool[np.ndarray, "patterns m"]:
    """All assignments of the concepts in `subset` that some valid row can have, each once.

    Columns are in the order of `subset`. Without groups bit j of the row number is the value of
    column j. A complete group with a member outside of `subset` only allows one true member there.
    Raises InputError when there are more than `limit` patterns.
    """
    position = _positions(n_concepts, subset)
    blocks = {index: ([index], np.array([[False], [True]])) for index in range(len(position))}
    for group in _disjoint(groups):
        columns = [position[concept] for concept in group.concepts() if concept in position]
        for column in columns:
            del blocks[column]
        if columns:
            blocks[min(columns)] = (columns, group.patterns(position.keys()))
    total = 1
    for _, choices in blocks.values():
        total *= len(choices)
    if total > limit:
        raise InputError(
            f"guarantee valid: the decision depends on {len(subset)} concepts with {total} valid "
            f"patterns, more than {limit}: use guarantee observed, or fewer concepts"
        )
    result = np.empty((total, len(subset)), dtype=bool)
    row, stride = np.arange(total), 1
    for _, (columns, choices) in sorted(blocks.items()):
        result[:, columns] = choices[row // stride % len(choices)]
        stride *= len(choices)
    return result


def is_valid(
    patterns: Bool[np.ndarray, "patterns m"], groups: Sequence[Group], subset: Sequence[int]
) -> Bool[np.ndarray, " patterns"]:
    """Which patterns over the concepts in `subset` agree with the groups."""
    position = {concept: column for column, concept in enumerate(subset)}
    valid = np.ones(len(patterns), dtype=bool)
    for group in groups:
        own = [position[member] for member in group.members if member in position]
        members = patterns[:, own]
        if group.kind == "ordered":
            valid &= (members[:, :-1] >= members[:, 1:]).all(axis=1)
            if group.missing in position:
                valid &= ~(patterns[:, position[group.missing]] & members.any(axis=1))
            continue
        count = members.sum(axis=1)
        valid &= count <= 1
        if group.complete and len(own) == len(group.members):
            valid &= count == 1
    return valid


def infer_groups(
    concepts: Bool[np.ndarray, "rows concepts"], names: Sequence[str]
) -> tuple[Group, ...]:
    """The exclusive groups among concepts named `column = value` that one column's values form.

    Concepts with the same text before the equals sign are a group only when no row has two of
    them, and a complete one when every row has one.
    """
    _check_distinct(names)
    families: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        column, equals, _ = name.partition("=")
        if equals and column.strip():
            families.setdefault(column.strip(), []).append(index)
    groups = []
    for members in families.values():
        count = concepts[:, members].sum(axis=1)
        if len(members) > 1 and (count <= 1).all():
            groups.append(Group("exclusive", tuple(members), complete=bool((count == 1).all())))
    return tuple(groups)


def accuracy_ceiling(concepts: Bool[np.ndarray, "rows concepts"], y: ArrayLike) -> float:
    """The best accuracy that any function of the concepts can have: the majority per pattern."""
    _, pattern = np.unique(np.packbits(concepts, axis=1), axis=0, return_inverse=True)
    classes, label = np.unique(np.asarray(y), return_inverse=True)
    table = np.zeros((pattern.max() + 1, len(classes)), dtype=np.int64)
    np.add.at(table, (pattern.ravel(), label), 1)
    return float(table.max(axis=1).sum() / len(concepts))


def concept_degrees(X: Any) -> tuple[Float[np.ndarray, "rows concepts"], tuple[str, ...]]:
    """Columns that are concepts already, each value a degree of truth in [0, 1], with their names.

    InputError names the first column with text, a missing value or a value outside of [0, 1].
    """
    table = read_table(X)
    for name in table.names:
        where = f"{table.source}: column {name!r}"
        if table.kind(name) == "categorical":
            raise InputError(f"{where}: expected degrees of truth in [0, 1], found text")
        values = table.column(name).astype(float)
        outside = np.flatnonzero(~((values >= 0) & (values <= 1)))
        if outside.size:
            found = number_text(values[outside[0]])
            raise InputError(
                f"{where}: expected degrees of truth in [0, 1], found {found} in row "
                f"{outside[0] + 1}; a Booleanizer takes columns of any kind"
            )
    degrees = np.column_stack([table.column(name).astype(float) for name in table.names])
    return degrees, table.names


def concept_name(predicate: Predicate) -> str:
    """How a concept is called: `age > 61.5`, `odor = n`, `age is missing`, or the column's name."""
    if predicate.operator == "true":
        return predicate.column
    if predicate.operator == "is missing":
        return f"{predicate.column} is missing"
    return f"{predicate.column} {predicate.operator} {value_text(predicate.value)}"


def threshold_between(low: float, high: float) -> float:
    """A number from `low` to below `high`, near halfway, in the fewest decimal digits there are.

    `value > threshold` then tells the two apart. It is `low` itself only when no number lies
    between them.
    """
    middle = low / 2 + high / 2
    for digits in range(1, 18):
        threshold = float(f"{middle:.{digits}g}")
        if low < threshold < high:
            return threshold + 0.0
    return float(low)


class Booleanizer(TransformerMixin, BaseEstimator):
    """Makes Boolean concepts of numeric, boolean and categorical columns.

    - A numeric column becomes up to `n_thresholds` cumulative concepts such as `age > 61.5`. The
      thresholds stand between two data values, in the fewest digits that keep the split of the
      fitted data: near the quantiles (thresholds="quantile"), where a small decision tree on this
      column splits the classes ("tree"), or where a network over all columns learns to put them
      ("learned"). The last two need y; "auto" is "tree" where there is y, else "quantile".
    - A column of 0 and 1, or of true and false, is the concept itself, with the column's name.
    - A column of two categories becomes one concept, more become one concept each, `odor = n`; of
      more than `max_categories` only the most frequent do.
    - A column with missing values gets the concept `age is missing`, which makes its other
      concepts false; missing="error" refuses it instead.
    - A constant column is dropped, with a warning.

    Fitted: `concept_names_`; `predicates_`, a Predicate by concept name; `groups_`, which
    concepts exclude or imply each other (also those among columns of 0 and 1 named
    `column = value`, see `infer_groups`); `dropped_`, the reason by column name; `categories_`,
    the known values of every categorical column whose rare values were not left out.
    """

    def __init__(
        self,
        n_thresholds: int = 3,
        thresholds: str = "auto",
        max_categories: int = 30,
        missing: str = "concept",
    ) -> None:
        self.n_thresholds = n_thresholds
        self.thresholds = thresholds
        self.max_categories = max_categories
        self.missing = missing

    def fit(self, X: Any, y: ArrayLike | None = None) -> "Booleanizer":
        """Choose the concepts of a table, as `read_table` takes it, or of an array.

        InputError names a column without any value; a table of constants only; two concepts of
        the same name; y missing where the thresholds need it.
        """
        self._check_parameters()
        table = read_table(X)
        classes = self._check_classes(y, table.n_rows)
        self.feature_names_in_ = np.array(table.names, dtype=object)
        self.n_features_in_ = len(table.names)
        self.dropped_: dict[str, str] = {}
        self.categories_: dict[str, tuple[str, ...]] = {}
        predicates: list[Predicate] = []
        groups: list[Group] = []
        learned = {}
        if self.thresholds == "learned" and classes is not None:
            learned = _learned_thresholds(table, classes, self.n_thresholds)
        for name in table.names:
            own = self._choose(table, name, classes, learned.get(name))
            first = len(predicates)
            predicates.extend(own)
            groups.extend(self._group(own, first))
        dropped = listed([f"{name} ({reason})" for name, reason in self.dropped_.items()])
        if not predicates:
            raise InputError(f"{table.source}: no column makes a concept: {dropped}")
        if dropped:
            warnings.warn(f"{table.source}: no concept made of {dropped}", stacklevel=2)
        self.concept_names_ = tuple(concept_name(predicate) for predicate in predicates)
        _check_distinct(self.concept_names_)
        self.predicates_ = dict(zip(self.concept_names_, predicates, strict=True))
        self.groups_ = (*groups, *self._groups_among_identities(table, groups))
        return self

    def transform(self, X: Any) -> Bool[np.ndarray, "rows concepts"]:
        """The concepts' values. Columns are found by name in a table, by position in an array.

        Unseen categories, and missing values in a column that had none when fitted, make all
        concepts of their column false; a warning names them.
        """
        check_is_fitted(self, "predicates_")
        table = self._table(X)
        self._warn_about_unseen(table)
        return self._evaluate(table, list(self.predicates_.values()))

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """The concepts' names."""
        check_is_fitted(self, "predicates_")
        return np.array(self.concept_names_, dtype=object)

    def to_config(self) -> dict[str, Any]:
        """The fitted state as JSON values: thresholds and categories, never a row of the data."""
        check_is_fitted(self, "predicates_")
        return {
            "parameters": {
                name: int(value) if isinstance(value, np.integer) else value
                for name, value in self.get_params().items()
            },
            "columns": list(self.feature_names_in_),
            "predicates": [asdict(predicate) for predicate in self.predicates_.values()],
            "groups": [asdict(group) | {"members": list(group.members)} for group in self.groups_],
            "categories": {name: list(values) for name, values in self.categories_.items()},
            "dropped": self.dropped_,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Booleanizer":
        """The fitted Booleanizer that `to_config` described; InputError if it is malformed."""
        try:
            result = cls(**config["parameters"])
            result._check_parameters()
            result.feature_names_in_ = np.array(config["columns"], dtype=object)
            result.n_features_in_ = len(config["columns"])
            predicates = [Predicate(**fields) for fields in config["predicates"]]
            result.concept_names_ = tuple(concept_name(predicate) for predicate in predicates)
            _check_distinct(result.concept_names_)
            result.predicates_ = dict(zip(result.concept_names_, predicates, strict=True))
            result.groups_ = tuple(
                Group(**{**fields, "members": tuple(fields["members"])})
                for fields in config["groups"]
            )
            result.categories_ = {
                name: tuple(values) for name, values in config["categories"].items()
            }
            result.dropped_ = dict(config["dropped"])
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"the Booleanizer's configuration is malformed: {error!r}") from error
        return result

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        return tags

    def _check_parameters(self) -> None:
        for name, least in (("n_thresholds", 1), ("max_categories", 2)):
            value = getattr(self, name)
            if not isinstance(value, int | np.integer) or value < least:
                raise InputError(f"{name}: expected an integer of at least {least}, got {value!r}")
        for name, choices in (
            ("thresholds", ("auto", "quantile", "tree", "learned")),
            ("missing", ("concept", "error")),
        ):
            if getattr(self, name) not in choices:
                expected = " or ".join(choices)
                raise InputError(f"{name}: expected {expected}, got {getattr(self, name)!r}")

    def _check_classes(self, y: ArrayLike | None, n_rows: int) -> np.ndarray | None:
        if self.thresholds == "quantile" or (self.thresholds == "auto" and y is None):
            return None
        if y is None:
            raise InputError(f"y: thresholds={self.thresholds!r} needs the classes of the rows")
        _, classes = np.unique(np.asarray(y), return_inverse=True)
        if len(classes) != n_rows:
            raise InputError(f"y: expected {n_rows} classes, one a row, got {len(classes)}")
        return classes

    def _choose(
        self,
        table: DataTable,
        name: str,
        classes: np.ndarray | None,
        learned: np.ndarray | None = None,
    ) -> list[Predicate]:
        """The concepts of one column; an empty list and an entry in `dropped_` if it has none."""
        is_missing = table.missing(name)
        where = f"{table.source}: column {name!r}"
        if is_missing.all():
            raise InputError(f"{where} has no value in any row; drop the column")
        if is_missing.any() and self.missing == "error":
            raise InputError(
                f"{where} has {is_missing.sum()} missing values, the first in row "
                f"{np.flatnonzero(is_missing)[0] + 1}; missing='concept' makes them a concept"
            )
        present = table.column(name)[~is_missing]
        distinct, counts = np.unique(
            present.astype(str) if table.kind(name) == "categorical" else present,
            return_counts=True,
        )
        extra = [Predicate(name, "is missing")] if is_missing.any() else []
        if len(distinct) == 1:
            constant = value_text(distinct[0])
            self.dropped_[name] = f"always {constant}" + (" or missing" if extra else "")
            return extra
        if table.kind(name) != "categorical" and _is_truth(distinct):
            return [Predicate(name, "true"), *extra]
        if table.kind(name) == "numeric":
            if learned is not None:
                boundaries = _boundaries_near(learned, distinct)
            elif classes is None:
                boundaries = _quantile_boundaries(counts, self.n_thresholds)
            else:
                ranks = np.searchsorted(distinct, present)
                boundaries = _tree_boundaries(ranks, classes[~is_missing], self.n_thresholds)
            if not boundaries.size:
                self.dropped_[name] = "no threshold helps"
            cuts = [threshold_between(distinct[i], distinct[i + 1]) for i in boundaries]
            return [Predicate(name, ">", cut) for cut in cuts] + extra
        values = [str(value) for value in distinct]
        if len(values) > self.max_categories:
            kept = np.sort(np.argsort(-counts, kind="stable")[: self.max_categories])
            share = counts[kept].sum() / counts.sum()
            warnings.warn(
                f"{where} has {len(values)} categories; only the {len(kept)} most frequent ones, "
                f"{share:.0%} of its values, become concepts",
                stacklevel=3,
            )
            values = [values[index] for index in kept]
        else:
            self.categories_[name] = tuple(values)
            if len(values) == 2:
                values = [_affirmative(values)]
        return [Predicate(name, "=", value) for value in values] + extra

    def _group(self, own: list[Predicate], first: int) -> list[Group]:
        """The group of one column's concepts, which are numbered from `first`; none if free."""
        members = tuple(
            first + index for index, one in enumerate(own) if one.operator != "is missing"
        )
        missing = first + len(members) if len(members) < len(own) else None
        if own and own[0].operator == ">" and len(members) > 1:
            return [Group("ordered", members, missing=missing)]
        if missing is not None and members:
            members = (*members, missing)
        if len(members) < 2:
            return []
        one_hot = own[0].operator == "=" and own[1].operator == "="
        return [Group("exclusive", members, complete=one_hot and own[0].column in self.categories_)]

    def _groups_among_identities(
        self, table: DataTable, groups: Sequence[Group]
    ) -> tuple[Group, ...]:
        """The groups that columns of 0 and 1 form by their names, such as a one-hot table has."""
        taken = {concept for group in groups for concept in group.concepts()}
        predicates = list(self.predicates_.values())
        free = [
            index
            for index, predicate in enumerate(predicates)
            if predicate.operator == "true" and index not in taken
        ]
        values = self._evaluate(table, [predicates[index] for index in free])
        found = infer_groups(values, [self.concept_names_[index] for index in free])
        return tuple(
            Group(group.kind, tuple(free[member] for member in group.members), group.complete)
            for group in found
        )

    def _table(self, X: Any) -> DataTable:
        if is_table(X):
            return read_table(X)
        array = np.array(X, dtype=object) if isinstance(X, list | tuple) else np.asarray(X)
        if array.ndim == 2 and array.shape[1] != self.n_features_in_:
            raise InputError(
                f"X has {array.shape[1]} features, but Booleanizer is expecting "
                f"{self.n_features_in_} features as input"
            )
        return read_table(array, names=tuple(self.feature_names_in_))

    def _evaluate(
        self, table: DataTable, predicates: Sequence[Predicate]
    ) -> Bool[np.ndarray, "rows concepts"]:
        concepts = np.zeros((table.n_rows, len(predicates)), dtype=bool)
        convert = {">": _numbers, "=": column_text, "true": _truth, "is missing": DataTable.missing}
        last: tuple[str, str] | None = None
        for index, predicate in enumerate(predicates):
            # Concepts of one column and operator are neighbours: convert the column once.
            if last != (predicate.column, predicate.operator):
                last = (predicate.column, predicate.operator)
                values = convert[predicate.operator](table, predicate.column)
            if predicate.operator == ">":
                concepts[:, index] = values > predicate.value
            elif predicate.operator == "=":
                concepts[:, index] = values == predicate.value
            else:
                concepts[:, index] = values
        return concepts

    def _warn_about_unseen(self, table: DataTable) -> None:
        with_missing = {
            predicate.column
            for predicate in self.predicates_.values()
            if predicate.operator == "is missing"
        }
        columns = dict.fromkeys(predicate.column for predicate in self.predicates_.values())
        new = [name for name in columns if table.missing(name).any() and name not in with_missing]
        if new and self.missing == "error":
            raise InputError(f"{table.source}: missing values in {listed(new)}")
        if new:
            warnings.warn(
                f"{table.source}: missing values in columns that had none in the fitted data, "
                f"for which all concepts of their column are false: {listed(new)}",
                stacklevel=3,
            )
        unseen = []
        for name, known in self.categories_.items():
            new = sorted(set(column_text(table, name)) - {None, *known})
            if new:
                unseen.append(f"{name} ({listed(new)})")
        if unseen:
            warnings.warn(
                f"{table.source}: categories not in the fitted data, for which all concepts of "
                f"their column are false: {listed(unseen)}",
                stacklevel=3,
            )


def _quantile_boundaries(counts: Int[np.ndarray, " values"], n: int) -> Int[np.ndarray, " cuts"]:
    """The boundaries nearest to the n inner quantiles; boundary i is above distinct value i."""
    below = np.cumsum(counts)[:-1] / counts.sum()
    levels = np.arange(1, n + 1) / (n + 1)
    return np.unique(np.abs(below - levels[:, None]).argmin(axis=1))


def _tree_boundaries(
    ranks: Int[np.ndarray, " rows"], classes: Int[np.ndarray, " rows"], n: int
) -> Int[np.ndarray, " cuts"]:
    """The at most n boundaries where a tree on one column splits best; none if none helps.

    It is grown on the ranks of the values: trees round their inputs to single precision.
    """
    tree = DecisionTreeClassifier(
        max_leaf_nodes=n + 1,
        min_samples_leaf=int(np.ceil(_LEAST_LEAF * len(ranks))),
        random_state=0,
    )
    grown = tree.fit(ranks[:, None], classes).tree_
    return np.unique(np.floor(grown.threshold[grown.feature >= 0]).astype(np.int64))


def _learned_thresholds(
    table: DataTable, classes: Int[np.ndarray, " rows"], n: int
) -> dict[str, Float[np.ndarray, " thresholds"]]:
    """n thresholds of each numeric column, learned together by a network over all of them."""
    import torch

    from workingpapers.lens.training import learn_thresholds

    columns = {}
    for name in table.names:
        column, is_missing = table.column(name), table.missing(name)
        if table.kind(name) == "numeric" and len(np.unique(column[~is_missing])) > 2:
            # A missing value tells nothing: it stands at the mean here, and false as a concept.
            columns[name] = np.where(is_missing, column[~is_missing].mean(), column)
    if not columns:
        return {}
    features = torch.tensor(np.column_stack(list(columns.values())), dtype=torch.float32)
    count = int(classes.max()) + 1
    targets = torch.eye(count)[torch.as_tensor(classes)]
    found = learn_thresholds(features, targets[:, 1:] if count == 2 else targets, n)
    return dict(zip(columns, found.numpy().astype(float), strict=True))


def _boundaries_near(
    thresholds: Float[np.ndarray, " thresholds"], distinct: Float[np.ndarray, " values"]
) -> Int[np.ndarray, " cuts"]:
    """The boundaries between data values that the thresholds fall into, outer ones left out."""
    below = np.searchsorted(distinct, thresholds) - 1
    return np.unique(below[(below >= 0) & (below < len(distinct) - 1)])


def _is_truth(distinct: np.ndarray) -> bool:
    """Whether these are the two truth values, as booleans or numbers."""
    return distinct.dtype == np.bool_ or distinct.tolist() == [0, 1]


def _affirmative(values: list[str]) -> str:
    """Of two categories the affirmative one, else the later in alphabetical order."""
    affirmative = [value for value in values if value.lower() in _AFFIRMATIVE]
    return affirmative[0] if len(affirmative) == 1 else values[-1]


def _numbers(table: DataTable, name: str) -> Float[np.ndarray, " rows"]:
    """A column as numbers, NaN where it is missing."""
    column = table.column(name)
    if table.kind(name) != "categorical":
        return column.astype(np.float64)
    words = [value for value in column if value is not None]
    if words:
        raise InputError(
            f"{table.source}: column {name!r}: expected numbers as in the fitted data, "
            f"found {words[0]!r}"
        )
    return np.full(len(column), np.nan)


def _truth(table: DataTable, name: str) -> Bool[np.ndarray, " rows"]:
    """A column as truth values, false where it is missing; a number is true above one half."""
    if table.kind(name) != "categorical":
        return table.column(name) > 0.5
    column = table.column(name)
    other = set(column) - {"true", "false", None}
    if other:
        raise InputError(
            f"{table.source}: column {name!r}: expected true or false as in the fitted data, "
            f"found {min(other)!r}"
        )
    return column == "true"


def _positions(n_concepts: int, subset: Sequence[int]) -> dict[int, int]:
    """The column of each concept of a subset; InputError if it repeats or leaves the range."""
    position = {concept: column for column, concept in enumerate(subset)}
    if len(position) < len(subset) or not all(0 <= concept < n_concepts for concept in position):
        raise InputError(f"subset: expected distinct concepts from 0 to {n_concepts - 1}")
    return position


def _disjoint(groups: Sequence[Group]) -> Sequence[Group]:
    concepts = [concept for group in groups for concept in group.concepts()]
    if len(set(concepts)) < len(concepts):
        raise InputError("groups: a concept is in more than one group")
    return groups


def _check_distinct(names: Sequence[str]) -> None:
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise InputError(f"two concepts are both named {twice[0]!r}; rename a column")
