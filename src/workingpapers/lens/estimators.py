"""Logic Explained Networks as scikit-learn estimators: classifier, explainer, clusters, cascade."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from sklearn.base import BaseEstimator, ClassifierMixin, ClusterMixin
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from workingpapers.foundation.errors import InputError
from workingpapers.foundation.tables import DataTable, is_table, read_table
from workingpapers.lens import metrics
from workingpapers.lens.concepts import Booleanizer, concept_degrees, infer_groups
from workingpapers.lens.explain import (
    GUARANTEES,
    STYLES,
    Certificate,
    ClassFunction,
    Explanation,
    Front,
    Guarantee,
    Level,
    Patterns,
    all_logits,
    class_functions,
    explain_function,
    make_front,
    paper_formula,
    possible_part,
    restyle,
    style_function,
    sufficient_reason,
)
from workingpapers.lens.formula import Formula, Predicate
from workingpapers.lens.minimization import Method
from workingpapers.lens.nets import NetConfig, make_net
from workingpapers.lens.training import (
    History,
    TrainingConfig,
    mutual_information,
    select_width,
    train,
)

Progress = Callable[[int], None]


@dataclass(frozen=True)
class _Options:
    """The options of one call of `explain`, checked; also the key under which it is remembered."""

    guarantee: Any
    target_level: str
    style: Any
    aggregation: str
    minimize: Any
    max_literals: int | None
    min_precision: float
    cost: float

    def __post_init__(self) -> None:
        for name, choices in (
            ("guarantee", GUARANTEES),
            ("style", STYLES),
            ("aggregation", ("exact", "paper")),
            ("minimize", get_args(Method)),
        ):
            value = getattr(self, name)
            if value not in choices:
                raise InputError(f"{name}: expected {', '.join(choices)}, got {value!r}")
        if not 0 < self.min_precision <= 1:
            raise InputError(
                f"min_precision: expected above 0 and at most 1, got {self.min_precision}"
            )


class _LogicModel(BaseEstimator, ABC):
    """What every logic explained network shares: concepts in, a pruned network, formulas out."""

    net: str
    hidden: tuple[int, ...] | None
    fan_in: int | None
    temperature: float | None
    random_state: int | None

    def _net_config(self) -> NetConfig:
        changes = {
            name: getattr(self, name)
            for name in ("hidden", "fan_in", "temperature")
            if getattr(self, name) is not None
        }
        if "hidden" in changes:
            changes["hidden"] = tuple(changes["hidden"])
        return NetConfig.of(self.net, **changes)

    def _seed(self) -> int:
        return 0 if self.random_state is None else int(self.random_state)

    # ---- concepts

    def _read(self, X: Any, concept_names: Sequence[str] | None) -> DataTable:
        """The training data as a table with named columns; sets what scikit-learn wants known."""
        if is_table(X):
            table = read_table(X)
            self.n_features_in_ = len(table.names)
            self.feature_names_in_ = np.array(table.names, dtype=object)
            return table
        data = validate_data(
            self, X, dtype="numeric", ensure_all_finite="allow-nan", ensure_min_samples=2
        )
        self._refuse_infinity(data)
        names = getattr(self, "feature_names_in_", concept_names)
        if names is None:
            names = [f"x{column}" for column in range(data.shape[1])]
        if len(names) != data.shape[1]:
            raise InputError(f"concept_names: expected {data.shape[1]} names, found {len(names)}")
        return read_table(data, names=list(names))

    def _fit_concepts(self, data: DataTable, y: Any) -> Float[np.ndarray, "rows concepts"]:
        """Make or take the concepts of the training data; sets everything known about them."""
        if self.booleanizer is None:
            self.booleanizer_ = None
            concepts = self._degrees(data)
            self.concept_names_ = tuple(data.names)
            self.predicates_: dict[str, Predicate] = {}
            self.groups_ = infer_groups(concepts > 0.5, self.concept_names_)
        else:
            given = Booleanizer() if self.booleanizer == "auto" else self.booleanizer
            if not isinstance(given, Booleanizer):
                raise InputError(
                    "booleanizer: expected 'auto', a Booleanizer, or None for concepts in [0, 1]"
                )
            self.booleanizer_ = Booleanizer(**given.get_params()).fit(data, y)
            concepts = self.booleanizer_.transform(data).astype(float)
            self.concept_names_ = self.booleanizer_.concept_names_
            self.predicates_ = self.booleanizer_.predicates_
            self.groups_ = self.booleanizer_.groups_
        return concepts

    def _degrees(self, table: DataTable) -> Float[np.ndarray, "rows concepts"]:
        """Concept degrees of a table, made Boolean if asked; InputError unless all in [0, 1]."""
        degrees, _ = concept_degrees(table)
        hard = getattr(self, "harden", False)
        return (degrees > 0.5).astype(float) if hard else degrees

    def _refuse_infinity(self, data: np.ndarray) -> None:
        if data.dtype.kind == "f" and np.isinf(data).any():
            raise InputError("X: contains infinity; expected finite numbers or NaN for missing")

    def concepts(self, X: Any) -> Float[np.ndarray, "rows concepts"]:
        """The concepts of rows of data: 0 and 1, or degrees in [0, 1] without a Booleanizer."""
        check_is_fitted(self, "net_")
        if is_table(X):
            table = read_table(X)
            data: Any = table.select(self._needed_columns())
        else:
            data = validate_data(
                self, X, dtype="numeric", ensure_all_finite="allow-nan", reset=False
            )
            self._refuse_infinity(data)
            data = read_table(data, names=list(self._column_names()))
        if self.booleanizer_ is None:
            return self._degrees(data)
        return self.booleanizer_.transform(data).astype(float)

    def _needed_columns(self) -> list[str]:
        """The columns that concepts are made of; a constant one need not be there."""
        if self.booleanizer_ is None:
            return list(self.concept_names_)
        return list(dict.fromkeys(one.column for one in self.predicates_.values()))

    def _column_names(self) -> Sequence[str]:
        if self.booleanizer_ is not None:
            return list(self.booleanizer_.feature_names_in_)
        return self.concept_names_

    # ---- the network

    @torch.no_grad()
    def _logits(self, concepts: Float[np.ndarray, "rows concepts"]) -> np.ndarray:
        return all_logits(self.net_, np.arange(len(self.concept_names_)), concepts)

    def _keep_patterns(
        self,
        concepts: Float[np.ndarray, "rows concepts"],
        members: Bool[np.ndarray, "rows classes"],
        held: Bool[np.ndarray, " rows"],
    ) -> None:
        """Remember the distinct Boolean patterns of the kept concepts, and forget the rows."""
        kept = self.net_.mask.cpu().numpy().any(axis=0)
        self.restore_patterns(Patterns.count(concepts[:, kept] > 0.5, members, held))

    def restore_patterns(self, patterns: Patterns) -> None:
        """Take patterns over the concepts the network kept as the observed ones."""
        self.kept_ = np.flatnonzero(self.net_.mask.cpu().numpy().any(axis=0))
        self.patterns_ = patterns
        self._explanations: dict[Any, Explanation] = {}
        self._wholes: dict[Any, tuple[Formula, Certificate, Callable[[], Front]]] = {}

    @property
    def concepts_(self) -> Bool[np.ndarray, "heads concepts"]:
        """The concepts each head kept."""
        check_is_fitted(self, "net_")
        return self.net_.mask.cpu().numpy()

    @property
    def observed_(self) -> Bool[np.ndarray, "patterns concepts"]:
        """The observed patterns over all concepts; those the network dropped are false."""
        check_is_fitted(self, "net_")
        return self._widen(self.patterns_.concepts)

    def _widen(
        self, patterns: Bool[np.ndarray, "patterns kept"]
    ) -> Bool[np.ndarray, "patterns concepts"]:
        full = np.zeros((len(patterns), len(self.concept_names_)), dtype=bool)
        full[:, self.kept_] = patterns
        return full

    def extrapolates(self, X: Any) -> Bool[np.ndarray, " rows"]:
        """Rows whose pattern of kept concepts was never observed.

        For these an "observed" formula is a generalisation, not a guarantee.
        """
        patterns = self.concepts(X)[:, self.kept_] > 0.5
        known = {row.tobytes() for row in np.packbits(self.patterns_.concepts, axis=1)}
        return np.array([row.tobytes() not in known for row in np.packbits(patterns, axis=1)])

    # ---- formulas

    @abstractmethod
    def _labels(self) -> Sequence[Any]:
        """What the formulas are called, in the order of the class functions."""

    @abstractmethod
    def _level(self, target_level: str) -> Level:
        """Whose decision a formula states: a head's, or that of the largest logit."""

    @property
    def formulas_(self) -> Mapping[Any, Formula]:
        """The formula of each class, right on every observed pattern."""
        return self.explain().formulas

    def explain(
        self,
        target: Any = None,
        *,
        guarantee: str = "observed",
        target_level: str = "auto",
        style: str | None = None,
        aggregation: str = "exact",
        minimize: str = "auto",
        max_literals: int | None = None,
        min_precision: float = 0.9,
        cost: float = 0.0,
        progress: Progress | None = None,
    ) -> Explanation:
        """Formulas for one class (`target`) or all.

        - guarantee: the formula equals the network on the patterns seen in training
          ("observed"), on all that the columns' values allow ("valid"), or on all 2^m ("all").
        - target_level: a class holds when its head fires ("head") or when its logit is the
          largest ("argmax"); "auto" follows `predict`.
        - style: "iff"; "if" is true only where the network is so sure of the class that its
          precision on held-out rows is `min_precision`; "only_if" is false only where it is so
          sure of the contrary that the recall is.
        - aggregation: "paper" is the paper's own procedure; it has no guarantee.
        - max_literals, cost: the best formula on the accuracy-against-length front within that
          many literals, or after paying `cost` of accuracy on the fitted rows a literal.

        Raises InputError for an unknown class or option, and for a domain of over 2^20 patterns.
        """
        check_is_fitted(self, "net_")
        options = _Options(
            guarantee,
            target_level,
            style or getattr(self, "style", "iff"),
            aggregation,
            minimize,
            max_literals,
            min_precision,
            cost,
        )
        labels = list(self._labels())
        targets = tuple(labels) if target is None else (self._find(target),)
        if (options, targets) not in self._explanations:
            functions = class_functions(self.net_, len(labels), self._level(target_level))
            formulas, certificates, fronts = {}, {}, {}
            for label in targets:
                index = labels.index(label)
                formulas[label], certificates[label], fronts[label] = self._explain_class(
                    index, functions[index], options
                )
                if progress is not None:
                    progress(1)
            self._explanations[options, targets] = Explanation(
                formulas,
                options.guarantee,
                certificates,
                options.style,
                self._scores(formulas, functions),
                fronts,
            )
        return self._explanations[options, targets]

    def _explain_class(
        self, index: int, function: ClassFunction, options: "_Options"
    ) -> tuple[Formula, Certificate, Callable[[], Front]]:
        # Formulas that differ only in how much is cut off share the minimisation and the front.
        key = (index, replace(options, max_literals=None, cost=0.0))
        if key not in self._wholes:
            self._wholes[key] = self._explain_whole(index, function, options)
        formula, certificate, front = self._wholes[key]
        if options.max_literals is not None or options.cost > 0:
            whole, observed = formula, self.observed_
            formula = front().best(options.max_literals, options.cost)
            if formula != whole:
                wrong = int((formula(observed) != whole(observed)).sum())
                certificate = restyle(certificate, wrong)
        return formula, certificate, front

    def _explain_whole(
        self, index: int, function: ClassFunction, options: "_Options"
    ) -> tuple[Formula, Certificate, Callable[[], Front]]:
        observed = self.observed_
        inside, outside = self.patterns_.membership(index)
        function = style_function(
            function, options.style, observed, inside, outside, options.min_precision
        )
        if options.aggregation == "paper":
            formula, certificate = self._explain_as_paper(index, function, observed)
        else:
            formula, certificate = explain_function(
                function,
                options.guarantee,
                self.concept_names_,
                observed,
                self.groups_,
                method=options.minimize,
            )
        # Shortening is judged by all known rows: the held-out ones alone are few, and chance
        # would choose what goes.
        known = self.patterns_.training[:, index] + self.patterns_.validation[:, index]
        others = self.patterns_.totals.sum(axis=1) - known
        return formula, certificate, cache(lambda: make_front(formula, observed, known, others))

    def _explain_as_paper(
        self,
        index: int,
        function: ClassFunction,
        observed: Bool[np.ndarray, "patterns concepts"],
    ) -> tuple[Formula, Certificate]:
        began = time.perf_counter()
        decided = function.decide(observed[:, function.relevant])
        formula = paper_formula(
            self.net_, index, observed, decided, self.patterns_, self.concept_names_
        )
        seconds = time.perf_counter() - began
        wrong = int((formula(observed) != decided).sum())
        nan = float("nan")
        return formula, Certificate("paper", nan, nan, seconds, len(observed), wrong)

    def _predicted(self, concepts: Float[np.ndarray, "rows concepts"]) -> Int[np.ndarray, " rows"]:
        """The index of the predicted class of rows of concepts."""
        logits = self._logits(concepts)
        if logits.shape[1] == 1:
            return (logits[:, 0] > 0).astype(int)
        return logits.argmax(axis=1)

    def _scores(
        self, formulas: Mapping[Any, Formula], functions: Sequence[ClassFunction]
    ) -> dict[str, float]:
        """Accuracy and fidelity of formulas on the held-out rows, from the kept counts."""
        labels = list(self._labels())
        observed = self.observed_
        part = int(self.patterns_.totals[:, 1].any())
        rows = np.repeat(np.arange(len(observed)), self.patterns_.totals[:, part])
        accuracies, fidelities = [], []
        for label, formula in formulas.items():
            function = functions[labels.index(label)]
            inside, outside = self.patterns_.membership(labels.index(label))
            fired = formula(observed)
            right = inside[fired].sum() + outside[~fired].sum()
            accuracies.append(right / max(len(rows), 1))
            decided = function.decide(observed[:, function.relevant])
            fidelities.append(metrics.fidelity({True: formula}, observed[rows], decided[rows]))
        return {"accuracy": float(np.mean(accuracies)), "fidelity": float(np.mean(fidelities))}

    def _find(self, target: Any) -> Any:
        """The class called `target`, also when given as text; InputError lists the classes."""
        for label in self._labels():
            if label == target or str(label) == str(target):
                return label
        listed = ", ".join(str(label) for label in self._labels())
        raise InputError(f"class {target}: no such class; the classes are {listed}")

    def explain_sample(self, x: Any, *, guarantee: str = "valid") -> Formula:
        """The fewest literals of one row that alone force its predicted class.

        Shortest over the whole domain of the guarantee; with more than 20 relevant concepts, over
        the observed patterns. `x` is one row: a vector, or a table with one row.
        """
        row = x if is_table(x) else np.asarray(x).reshape(1, -1)
        concepts = self.concepts(row)
        if len(concepts) != 1:
            raise InputError(f"x: expected one row, found {len(concepts)}")
        pattern = concepts[0] > 0.5
        index = int(self._predicted(pattern[None].astype(float))[0])
        functions = class_functions(self.net_, len(self._labels()), self._level("auto"))
        return sufficient_reason(
            functions[index],
            pattern,
            cast(Guarantee, guarantee),
            self.concept_names_,
            self.observed_,
            self.groups_,
        )


class LENClassifier(ClassifierMixin, _LogicModel):
    """A classifier whose every decision is a logic formula over readable concepts.

    Columns become Boolean concepts, a network with one head a class (one head for two classes) is
    trained with a sparsity term, pruned to few concepts a head, and trained on; formulas are the
    shortest DNF of the pruned heads (arXiv:2108.05149; the minimisation is ours).

    Parameters
    - net: "mu", "psi", "relu", "entropy" or "tell".
    - hidden, fan_in, temperature: shape of the network; None: what suits the net.
    - max_concepts: concepts a head keeps; "auto" chooses by validation from 5 to 20.
    - style: the loss. "iff" is symmetric; "if" punishes false positives and "only_if" misses, and
      the other error only `style_weight` times as much. For two classes it is the second's.
    - l1, learning_rate, epochs, patience: training; None: what suits the net.
    - booleanizer: "auto", a Booleanizer, or None where X holds concept degrees in [0, 1].
    - harden: take degrees for true or false at 0.5, in training and prediction; the network then
      uses nothing that its formulas cannot (booleanizer=None only).
    - validation_fraction: rows held out to choose the best epoch.

    Fitted: `classes_`, `concept_names_`, `concepts_` (classes kept mask), `formulas_`,
    `history_`, `patterns_` (distinct Boolean rows with counts; never the rows themselves).
    """

    def __init__(
        self,
        net: str = "mu",
        *,
        hidden: tuple[int, ...] | None = None,
        max_concepts: int | Literal["auto"] = 9,
        fan_in: int | None = None,
        temperature: float | None = None,
        style: str = "iff",
        style_weight: float = 0.2,
        l1: float | None = None,
        learning_rate: float | None = None,
        epochs: int = 600,
        patience: int | None = None,
        booleanizer: Any = "auto",
        harden: bool = False,
        validation_fraction: float = 0.25,
        random_state: int | None = 0,
        device: str = "cpu",
    ) -> None:
        self.net = net
        self.hidden = hidden
        self.max_concepts = max_concepts
        self.fan_in = fan_in
        self.temperature = temperature
        self.style = style
        self.style_weight = style_weight
        self.l1 = l1
        self.learning_rate = learning_rate
        self.epochs = epochs
        self.patience = patience
        self.booleanizer = booleanizer
        self.harden = harden
        self.validation_fraction = validation_fraction
        self.random_state = random_state
        self.device = device

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        concept_names: Sequence[str] | None = None,
        progress: Progress | None = None,
    ) -> "LENClassifier":
        """Fit to rows and their classes (one label a row), or to a 0/1 matrix of labels.

        X is an array, a DataFrame, a mapping of columns or a file; concept_names names an
        array's columns. Raises InputError (a ValueError) for one class, columns without values,
        and degrees outside [0, 1] where there is no Booleanizer.
        """
        if y is None:
            raise InputError("fit requires y to be passed, but the target y is None")
        targets = np.asarray(y)
        self.multilabel_ = targets.ndim == 2 and targets.shape[1] > 1
        if self.multilabel_:
            return self._fit_labels(X, targets, concept_names, progress)
        targets = column_or_1d(targets, warn=True)
        check_classification_targets(targets)
        data = self._read(X, concept_names)
        if len(targets) != data.n_rows:
            raise InputError(f"y: expected {data.n_rows} labels, found {len(targets)}")
        self.classes_, labels = np.unique(targets, return_inverse=True)
        if len(self.classes_) < 2:
            raise InputError(
                f"y: expected at least two classes, found only {str(self.classes_[0])!r}"
            )
        concepts = self._fit_concepts(data, targets)
        if len(self.classes_) == 2:
            heads = labels[:, None].astype(float)
        else:
            heads = np.eye(len(self.classes_))[labels]
        held = self._hold_out(labels)
        self._fit_network(concepts, heads, held, "binary" if heads.shape[1] == 1 else "classes",
                          progress)  # fmt: skip
        members = np.eye(len(self.classes_), dtype=bool)[labels]
        self._keep_patterns(concepts, members, held)
        return self

    def _fit_labels(
        self,
        X: Any,
        targets: np.ndarray,
        concept_names: Sequence[str] | None,
        progress: Progress | None,
    ) -> "LENClassifier":
        if not np.isin(targets, (0, 1)).all():
            raise InputError("y: expected a matrix of 0 and 1, a column a label")
        concepts = self._fit_concepts(self._read(X, concept_names), None)
        self.classes_ = np.arange(targets.shape[1])
        # Rows are stratified by nothing here: label combinations are too many to be balanced.
        held = self._hold_out(np.zeros(len(targets), dtype=int))
        self._fit_network(concepts, targets.astype(float), held, "multilabel", progress)
        self._keep_patterns(concepts, targets.astype(bool), held)
        return self

    def _hold_out(self, labels: Int[np.ndarray, " rows"]) -> Bool[np.ndarray, " rows"]:
        """A stratified validation part; empty where a class is too small to be split."""
        if not 0 <= self.validation_fraction < 1:
            raise InputError(
                f"validation_fraction: expected at least 0 and below 1, got "
                f"{self.validation_fraction}"
            )
        held = np.zeros(len(labels), dtype=bool)
        n_classes = len(np.unique(labels))
        count = round(self.validation_fraction * len(labels))
        if np.bincount(labels).min() < 2 or not n_classes <= count <= len(labels) - n_classes:
            return held
        splitter = StratifiedShuffleSplit(1, test_size=count, random_state=self._seed())
        _, chosen = next(splitter.split(labels, labels))
        held[chosen] = True
        return held

    def _fit_network(
        self,
        concepts: Float[np.ndarray, "rows concepts"],
        heads: Float[np.ndarray, "rows heads"],
        held: Bool[np.ndarray, " rows"],
        objective: str,
        progress: Progress | None,
    ) -> None:
        changes = {
            name: value
            for name in ("l1", "learning_rate", "patience")
            if (value := getattr(self, name)) is not None
        }
        if self.style not in STYLES:
            raise InputError(f"style: expected {', '.join(STYLES)}, got {self.style!r}")
        config = TrainingConfig.of(
            self.net,
            epochs=self.epochs,
            style=self.style,
            style_weight=self.style_weight,
            objective=objective,
            seed=self._seed(),
            **changes,
        )
        net = make_net(self._net_config(), concepts.shape[1], heads.shape[1], self._seed())
        self.net_ = net.to(torch.device(self.device))
        rows = torch.as_tensor(concepts, dtype=torch.float32, device=self.device)
        wanted = torch.as_tensor(heads, dtype=torch.float32, device=self.device)
        mask = torch.as_tensor(held, device=self.device)
        validation = (rows[mask], wanted[mask]) if held.any() else None
        known = (self.net_, rows[~mask], wanted[~mask], validation, config)
        self.history_: History
        if isinstance(self.max_concepts, str):
            self.history_ = select_width(*known, progress=progress)
        else:
            self.history_ = train(*known, max_concepts=self.max_concepts, progress=progress)
        self.n_iter_ = max(1, self.history_.epochs)

    # ---- predictions

    def decision_function(self, X: Any) -> Float[np.ndarray, "..."]:
        """Logits: one a row for two classes (the second's), else one a class."""
        logits = self._logits(self.concepts(X))
        return logits[:, 0] if logits.shape[1] == 1 else logits

    def predict_proba(self, X: Any) -> Float[np.ndarray, "rows classes"]:
        """Class probabilities: the heads' sigmoids, normalised where classes exclude each other."""
        logits = self._logits(self.concepts(X)).astype(float)
        fired = 1 / (1 + np.exp(-np.clip(logits, -50, 50)))
        if self.multilabel_:
            return fired
        if fired.shape[1] == 1:
            return np.hstack([1 - fired, fired])
        return fired / fired.sum(axis=1, keepdims=True)

    def predict(self, X: Any) -> np.ndarray:
        """The predicted class of each row, or the 0/1 label matrix."""
        concepts = self.concepts(X)
        if self.multilabel_:
            return (self._logits(concepts) > 0).astype(int)
        return self.classes_[self._predicted(concepts)]

    def evaluate(self, X: Any, y: Any, **explain: Any) -> dict[str, Any]:
        """Network and formulas on labelled rows: {"all": {...}, "classes": {name: {...}}}.

        model_accuracy and explanation_accuracy are one-versus-rest, averaged over classes;
        fidelity is macro F1 of the formulas against the network's predictions; literals is the
        mean a class; extraction_seconds is the whole extraction's. Options go to `explain`.
        """
        if self.multilabel_:
            raise InputError("y: evaluate takes one class a row, not a matrix of labels")
        truth = np.asarray(y)
        unknown = sorted({str(label) for label in truth} - {str(one) for one in self.classes_})
        if unknown:
            raise InputError(f"class {unknown[0]}: the model does not know this class")
        by_text = {str(label): label for label in self.classes_}
        truth = np.array([by_text[str(label)] for label in truth])
        concepts = self.concepts(X)
        predicted = self.classes_[self._predicted(concepts)]
        explanation = self.explain(**explain)
        boolean = concepts > 0.5

        def scores(formulas: Mapping[Any, Formula]) -> dict[str, float]:
            return {
                "model_accuracy": metrics.model_accuracy(predicted, truth, list(formulas)),
                "explanation_accuracy": metrics.explanation_accuracy(formulas, boolean, truth),
                "fidelity": metrics.fidelity(formulas, boolean, predicted),
                "literals": metrics.complexity(formulas),
            }

        classes = {}
        for label, formula in explanation.formulas.items():
            precision, recall = metrics.precision_recall(formula, boolean, truth == label)
            classes[str(label)] = {
                **scores({label: formula}),
                "precision": precision,
                "recall": recall,
                "extraction_seconds": explanation.certificates[label].seconds,
                "rows": int((truth == label).sum()),
            }
        whole = {
            **scores(explanation.formulas),
            "extraction_seconds": explanation.seconds,
            "rows": len(truth),
        }
        return {"all": whole, "classes": classes}

    def boolean_gap(self, X: Any, y: Any) -> float:
        """Accuracy on concept degrees less accuracy on the same concepts made Boolean."""
        concepts, truth = self.concepts(X), np.asarray(y)
        soft = self.classes_[self._predicted(concepts)] == truth
        hard = self.classes_[self._predicted((concepts > 0.5).astype(float))] == truth
        return float(np.mean(soft) - np.mean(hard))

    def _labels(self) -> Sequence[Any]:
        return list(self.classes_)

    def _level(self, target_level: str) -> Level:
        if target_level not in ("auto", "head", "argmax"):
            raise InputError(f"target_level: expected auto, head or argmax, got {target_level!r}")
        if target_level == "auto":
            return "head" if self.multilabel_ else "argmax"
        return target_level  # type: ignore[return-value]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.classifier_tags.multi_label = True
        return tags


class LENExplainer(BaseEstimator):
    """Explains a black box: a logic explained network trained on the box's own answers.

    `black_box` is a callable or a fitted estimator with `predict`; it is called once, on the rows
    given to `fit`. With `predictions` given to `fit`, no black box is needed. Other parameters
    are LENClassifier's. (Paper, section 2: fidelity to the box takes the place of labels.)
    """

    def __init__(self, black_box: Any = None, classifier: LENClassifier | None = None) -> None:
        self.black_box = black_box
        self.classifier = classifier

    def fit(
        self,
        X: Any,
        predictions: Any = None,
        *,
        progress: Progress | None = None,
    ) -> "LENExplainer":
        """Train on the black box's answers for X, or on `predictions`."""
        answers = self._answers(X) if predictions is None else np.asarray(predictions)
        given = LENClassifier() if self.classifier is None else self.classifier
        self.classifier_ = LENClassifier(**given.get_params()).fit(X, answers, progress=progress)
        self.classes_ = self.classifier_.classes_
        return self

    def _answers(self, X: Any) -> np.ndarray:
        if self.black_box is None:
            raise InputError("black_box: expected a callable or an estimator, or predictions")
        ask = getattr(self.black_box, "predict", self.black_box)
        return np.asarray(ask(X))

    def predict(self, X: Any) -> np.ndarray:
        """The network's imitation of the black box."""
        check_is_fitted(self, "classifier_")
        return self.classifier_.predict(X)

    def explain(self, target: Any = None, **options: Any) -> Explanation:
        """Formulas of the imitation; see LENClassifier.explain."""
        check_is_fitted(self, "classifier_")
        return self.classifier_.explain(target, **options)

    def score(self, X: Any, predictions: Any = None) -> float:
        """Accuracy of the formulas against the black box's answers on X, mean over classes."""
        check_is_fitted(self, "classifier_")
        answers = self._answers(X) if predictions is None else np.asarray(predictions)
        concepts = self.classifier_.concepts(X) > 0.5
        return metrics.explanation_accuracy(self.classifier_.formulas_, concepts, answers)


class LENClusterer(ClusterMixin, _LogicModel):
    """Clusters with formulas: heads trained to share the most information with the rows.

    The loss is the mutual information of cluster and row (paper, section 4.2); of several
    restarts the one with the most is kept, and empty clusters count as a failed restart.

    Fitted: `labels_`, `mutual_information_` (nats), `formulas_`.
    """

    def __init__(
        self,
        n_clusters: int = 2,
        net: str = "mu",
        *,
        hidden: tuple[int, ...] | None = None,
        max_concepts: int = 5,
        fan_in: int | None = None,
        temperature: float | None = None,
        l1: float | None = None,
        learning_rate: float | None = None,
        epochs: int = 400,
        restarts: int = 5,
        booleanizer: Any = "auto",
        random_state: int | None = 0,
        device: str = "cpu",
    ) -> None:
        self.n_clusters = n_clusters
        self.net = net
        self.hidden = hidden
        self.max_concepts = max_concepts
        self.fan_in = fan_in
        self.temperature = temperature
        self.l1 = l1
        self.learning_rate = learning_rate
        self.epochs = epochs
        self.restarts = restarts
        self.booleanizer = booleanizer
        self.random_state = random_state
        self.device = device

    def fit(self, X: Any, y: Any = None, *, progress: Progress | None = None) -> "LENClusterer":
        """Cluster the rows; y is ignored. Raises InputError for less than two clusters."""
        if self.n_clusters < 2:
            raise InputError(f"n_clusters: expected at least 2, got {self.n_clusters}")
        concepts = self._fit_concepts(self._read(X, None), None)
        if len(concepts) < self.n_clusters:
            raise InputError(
                f"n_clusters: {self.n_clusters} clusters need as many rows, found {len(concepts)}"
            )
        rows = torch.as_tensor(concepts, dtype=torch.float32, device=self.device)
        best = None
        changes = {
            name: value
            for name in ("l1", "learning_rate")
            if (value := getattr(self, name)) is not None
        }
        for restart in range(self.restarts):
            seed = int(np.random.SeedSequence([self._seed(), restart]).generate_state(1)[0])
            net = make_net(self._net_config(), concepts.shape[1], self.n_clusters, seed)
            net = net.to(torch.device(self.device))
            config = TrainingConfig.of(
                self.net, epochs=self.epochs, objective="mutual_information", seed=seed, **changes
            )
            train(net, rows, None, None, config, max_concepts=self.max_concepts, progress=progress)
            with torch.no_grad():
                logits = net(rows)
            sizes = torch.bincount(logits.argmax(dim=1), minlength=self.n_clusters)
            rank = (int((sizes > 0).sum()), float(mutual_information(logits)))
            if best is None or rank > best[0]:
                best = (rank, net)
        assert best is not None
        (filled, self.mutual_information_), self.net_ = best
        self.classes_ = np.arange(self.n_clusters)
        self.empty_clusters_ = self.n_clusters - filled
        self.labels_ = self._logits(concepts).argmax(axis=1)
        members = np.eye(self.n_clusters, dtype=bool)[self.labels_]
        self._keep_patterns(concepts, members, np.zeros(len(concepts), dtype=bool))
        return self

    def predict(self, X: Any) -> Int[np.ndarray, " rows"]:
        """The cluster of each row."""
        return self._logits(self.concepts(X)).argmax(axis=1)

    def _labels(self) -> Sequence[Any]:
        return list(self.classes_)

    def _level(self, target_level: str) -> Level:
        return "head" if target_level == "head" else "argmax"

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


class LENCascade(BaseEstimator):
    """Two classifiers in a row: low-level concepts -> named high-level concepts -> classes.

    `first` learns every high-level concept from the columns, `second` the classes from the first
    one's Boolean answers; formulas are composed by substitution (paper, section 4.1, V-Dem).
    """

    def __init__(
        self, first: LENClassifier | None = None, second: LENClassifier | None = None
    ) -> None:
        self.first = first
        self.second = second

    def fit(
        self, X: Any, middle: Any, y: Any, *, middle_names: Sequence[str] | None = None
    ) -> "LENCascade":
        """Fit on columns X, the 0/1 matrix of high-level concepts `middle`, and classes y."""
        levels = np.asarray(middle)
        if levels.ndim != 2 or levels.shape[1] < 2:
            raise InputError("middle: expected a 0/1 matrix with at least two columns")
        self.middle_names_ = tuple(
            middle_names or [f"concept {index}" for index in range(levels.shape[1])]
        )
        first = LENClassifier() if self.first is None else self.first
        second = LENClassifier() if self.second is None else self.second
        self.first_ = LENClassifier(**first.get_params()).fit(X, levels)
        self.second_ = LENClassifier(**second.get_params()).fit(
            self.first_.predict(X), y, concept_names=self.middle_names_
        )
        self.classes_ = self.second_.classes_
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The class of each row, through both networks with Boolean concepts between them."""
        check_is_fitted(self, "second_")
        return self.second_.predict(self.first_.predict(X))

    def formulas(self, *, expanded: bool = True, guarantee: str = "valid") -> Mapping[Any, Formula]:
        """One formula a class, over low-level concepts if `expanded`, else over high-level ones.

        With guarantee "valid" an expanded formula equals the composed networks on every row that
        the columns' values allow, with "all" on every input, with "observed" on the rows seen.
        Raises InputError for tables of over 2^20 rows.
        """
        check_is_fitted(self, "second_")
        upper = self.second_.explain(guarantee=guarantee).formulas
        if not expanded:
            return upper
        true, false = self._middle(guarantee, True), self._middle(guarantee, False)
        groups = () if guarantee == "all" else self.first_.groups_
        expanded_formulas = {}
        for label, formula in upper.items():
            whole = Formula.false(self.first_.concept_names_)
            for term in formula.terms:
                part = Formula.true(self.first_.concept_names_)
                for name, value in term.items():
                    part = possible_part(part & (true if value else false)[name], groups)
                whole = whole | part
            expanded_formulas[label] = whole
        return expanded_formulas

    def middle_formulas(self, *, guarantee: str = "valid") -> Mapping[str, Formula]:
        """The formula of each high-level concept over the low-level ones."""
        check_is_fitted(self, "second_")
        return self._middle(guarantee, True)

    def _middle(self, guarantee: str, value: bool) -> dict[str, Formula]:
        """Formulas for each high-level concept being true, or being false."""
        first = self.first_
        functions = class_functions(first.net_, len(self.middle_names_), "head")
        if not value:
            functions = [function.complement() for function in functions]
        return {
            name: explain_function(
                function,
                cast(Guarantee, guarantee),
                first.concept_names_,
                first.observed_,
                first.groups_,
            )[0]
            for name, function in zip(self.middle_names_, functions, strict=True)
        }
