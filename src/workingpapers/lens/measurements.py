"""The tasks behind the claims: what is fitted, extracted and scored for one data set and seed."""

import itertools
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import Bounds, LinearConstraint, milp
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import normalized_mutual_info_score
from sklearn.model_selection import train_test_split

from workingpapers.foundation.tables import DataTable
from workingpapers.lens import metrics
from workingpapers.lens.comparison import score_rule_list, score_tree
from workingpapers.lens.concepts import Booleanizer, is_valid
from workingpapers.lens.data import (
    fabricated_cascade,
    load,
    load_cub,
    load_mimic,
    load_vdem,
    mask_missing,
    mnist,
    threshold_rule,
)
from workingpapers.lens.estimators import LENCascade, LENClassifier, LENClusterer, LENExplainer
from workingpapers.lens.explain import class_functions, truth_table_rows
from workingpapers.lens.minimization import minimize

Record = dict[str, Any]

KINDS: dict[str, dict[str, Any]] = {
    "mu": {},
    "mu, slow": {"learning_rate": 2e-3, "epochs": 300},
}
"""The networks that validation chooses from, by their settings."""

COST = 0.001
"""Accuracy on the fitted rows that a literal of a short formula must bring: a tenth of a point."""


@dataclass(frozen=True)
class TableTask:
    """One data set and seed: a network and a tree on the same split and concepts."""

    name: str
    seed: int
    kinds: tuple[str, ...] = ("mu",)
    """Names in KINDS."""
    widths: tuple[int, ...] = (9,)
    missing: float = 0.0
    """Share of cells hidden."""
    rule_lists: bool = False


def split(
    table: DataTable, labels: np.ndarray, seed: int
) -> tuple[DataTable, np.ndarray, DataTable, np.ndarray]:
    """Four fifths of the rows for fitting (of which a quarter validates) and one fifth for test."""
    rows = np.arange(len(labels))
    known, held = train_test_split(rows, test_size=0.2, random_state=seed % 2**32, stratify=labels)
    return table.rows(known), labels[known], table.rows(held), labels[held]


def measure_table(task: TableTask) -> Record:
    """Networks of some kinds and widths beside a tree: accuracy, fidelity, length, seconds."""
    data = load(task.name)
    table = mask_missing(data.table, task.missing, task.seed) if task.missing else data.table
    known, labels, held, truth = split(table, data.target, task.seed)
    networks = [
        _measure_network(kind, width, known, labels, held, truth, task.seed)
        for kind in task.kinds
        for width in task.widths
    ]
    # The guarantee over the valid domain and short formulas are claims about the first alone.
    first = networks[0].pop("model")
    networks[0]["valid"] = valid_agreement(first)
    networks[0]["short"] = short_formulas(first, held, truth)
    networks = [{name: one[name] for name in one if name != "model"} for one in networks]
    booleanizer = Booleanizer().fit(known, labels)
    concepts, test = booleanizer.transform(known), booleanizer.transform(held)
    record: Record = {
        "networks": networks,
        "tree": score_tree(concepts, labels, test, truth, seed=task.seed % 2**32),
    }
    if task.rule_lists:
        record["rule list"] = score_rule_list(concepts, labels, test, truth)
    return record


def _measure_network(
    kind: str,
    width: int,
    known: DataTable,
    labels: np.ndarray,
    held: DataTable,
    truth: np.ndarray,
    seed: int,
) -> Record:
    began = time.perf_counter()
    model = LENClassifier(max_concepts=width, random_state=seed % 2**32, **KINDS[kind])
    model.fit(known, labels)
    fit_seconds = time.perf_counter() - began
    scores = model.evaluate(held, truth)["all"]
    explanation = model.explain()
    return {
        "kind": kind,
        "width": width,
        "validation": model.history_.best_score,
        "fit_seconds": fit_seconds,
        "slowest_class_seconds": max(one.seconds for one in explanation.certificates.values()),
        "observed": observed_agreement(model),
        **scores,
        "model": model,
    }


def observed_agreement(model: LENClassifier) -> float:
    """Share of the observed patterns on which formulas and network agree, all classes."""
    observed = model.observed_
    predicted = model.classes_[model._predicted(observed.astype(float))]
    return min(
        float(np.mean(formula(observed) == (predicted == label)))
        for label, formula in model.formulas_.items()
    )


def valid_agreement(model: LENClassifier) -> float:
    """Agreement of the "valid" formulas with the network's forward pass, over the whole domain.

    The domain is enumerated again as the valid rows of the truth table, where that has at most
    2^16 rows; nan where it has more.
    """
    worst = 1.0
    functions = class_functions(model.net_, len(model.classes_), "argmax")
    for index, function in enumerate(functions):
        width = len(function.relevant)
        if width > 16:
            return float("nan")
        table = truth_table_rows(width)
        domain = table[is_valid(table, model.groups_, function.relevant.tolist())]
        rows = np.zeros((len(domain), len(model.concept_names_)), dtype=bool)
        rows[:, function.relevant] = domain
        label = model.classes_[index]
        formula = model.explain(label, guarantee="valid").formulas[label]
        decided = model._predicted(rows.astype(float)) == index
        worst = min(worst, float(np.mean(formula(rows) == decided)))
    return worst


def short_formulas(model: LENClassifier, held: DataTable, truth: np.ndarray) -> Record:
    """Length and test accuracy of formulas in which every literal pays for itself; see COST."""
    formulas = model.explain(cost=COST).formulas
    concepts = model.concepts(held) > 0.5
    return {
        "literals": metrics.complexity(formulas),
        "accuracy": metrics.explanation_accuracy(formulas, concepts, truth),
    }


@dataclass(frozen=True)
class StyleTask:
    """One data set and seed: IFF, IF and ONLY IF formulas of one network."""

    name: str
    wanted: float
    """Precision asked of IF, and recall asked of ONLY IF."""
    seed: int


def measure_styles(task: StyleTask) -> Record:
    """Precision and recall on test rows of each style, for the rarest class against the rest.

    A style can be asked of the loss, of the extraction, or of both: two networks are trained, one
    with the symmetric loss and one with the style's, and held-out rows choose between them.
    """
    data = load(task.name)
    known, labels, held, truth = split(data.table, data.target, task.seed)
    names, counts = np.unique(labels, return_counts=True)
    target = names[counts.argmin()]
    wanted = np.where(labels == target, "target", "other")
    models = {
        style: LENClassifier(max_concepts=12, style=style, random_state=task.seed % 2**32).fit(
            known, wanted
        )
        for style in ("iff", "if", "only_if")
    }
    record: Record = {"target": str(target)}
    for style in models:
        trained = dict.fromkeys(("iff", style))
        best = max(trained, key=lambda loss: _styled_rank(models[loss], style, task.wanted))
        formula = models[best].explain("target", style=style, min_precision=task.wanted)
        test = models[best].concepts(held) > 0.5
        rule = formula.formulas["target"]
        precision, recall = metrics.precision_recall(rule, test, truth == target)
        record[style] = {
            "loss": best,
            "precision": precision,
            "recall": recall,
            "literals": rule.n_literals,
        }
    return record


def _styled_rank(model: LENClassifier, style: str, wanted: float) -> tuple[bool, float]:
    """Whether a styled formula keeps its word on held-out rows, then its other rate."""
    rule = model.explain("target", style=style, min_precision=wanted).formulas["target"]
    inside, outside = model.patterns_.membership(1)
    fired = rule(model.observed_)
    hits, alarms = float(inside[fired].sum()), float(outside[fired].sum())
    precision = (hits + 1) / (hits + alarms + 2)
    recall = (hits + 1) / (float(inside.sum()) + 2)
    promised, other = (recall, precision) if style == "only_if" else (precision, recall)
    if style == "iff":
        return True, precision + recall
    return promised >= wanted, other if promised >= wanted else promised


@dataclass(frozen=True)
class BlackBoxTask:
    """One data set and seed: a random forest of 200 trees and its imitation."""

    name: str
    max_literals: int
    seed: int


def measure_black_box(task: BlackBoxTask) -> Record:
    """Formulas trained on a forest's answers, scored against its answers on test rows."""
    data = load(task.name)
    known, labels, held, _ = split(data.table, data.target, task.seed)
    booleanizer = Booleanizer().fit(known, labels)
    forest = RandomForestClassifier(200, random_state=task.seed % 2**32)
    forest.fit(booleanizer.transform(known), labels)
    explainer = LENExplainer(
        lambda table: forest.predict(booleanizer.transform(table)),
        LENClassifier(max_concepts=12, random_state=task.seed % 2**32),
    ).fit(known)
    explanation = explainer.explain(max_literals=task.max_literals)
    answers = forest.predict(booleanizer.transform(held))
    concepts = explainer.classifier_.concepts(held) > 0.5
    return {
        "accuracy": metrics.explanation_accuracy(explanation.formulas, concepts, answers),
        "literals": explanation.literals,
        "formulas": [explanation.text(label) for label in explanation.formulas],
    }


@dataclass(frozen=True)
class ClusterTask:
    """One data set and seed: clusters found without labels."""

    name: str
    clusters: int
    seed: int


def measure_clusters(task: ClusterTask) -> Record:
    """Mutual information of clusters and classes, and the fidelity of formulas on held-out rows."""
    data = load(task.name)
    known, labels, held, _ = split(data.table, data.target, task.seed)
    model = LENClusterer(
        task.clusters, max_concepts=9 if task.clusters > 2 else 5, random_state=task.seed % 2**32
    ).fit(known)
    formulas = model.formulas_
    concepts = model.concepts(held) > 0.5
    return {
        "nmi": float(normalized_mutual_info_score(labels, model.labels_)),
        "fidelity": metrics.fidelity(formulas, concepts, model.predict(held)),
        "literals": metrics.complexity(formulas),
        "empty": model.empty_clusters_,
        "information": model.mutual_information_,
    }


@dataclass(frozen=True)
class MnistTask:
    """One seed of even or odd from predicted digits."""

    seed: int


def measure_mnist(task: MnistTask) -> Record:
    """A convolutional network predicts ten digit concepts; a logic network reads parity there."""
    images, digits = mnist()
    rows = np.arange(len(digits))
    known, held = train_test_split(
        rows, test_size=0.2, random_state=task.seed % 2**32, stratify=digits
    )
    degrees = digit_concepts(images, digits, known, task.seed)
    names = [f"digit {digit}" for digit in range(10)]
    parity = np.where(digits % 2 == 0, "even", "odd")
    concepts = (degrees > 0.5).astype(float)
    model = LENClassifier(max_concepts=10, booleanizer=None, random_state=task.seed % 2**32)
    model.fit(concepts[known], parity[known], concept_names=names)
    scores = model.evaluate(concepts[held], parity[held])["all"]
    return {
        **{name: scores[name] for name in ("model_accuracy", "fidelity", "literals")},
        "digits": float(np.mean(degrees[held].argmax(axis=1) == digits[held])),
        "formulas": [model.explain().text(label) for label in model.classes_],
    }


def digit_concepts(
    images: Float[np.ndarray, "images 28 28"],
    digits: np.ndarray,
    known: np.ndarray,
    seed: int,
    epochs: int = 8,
) -> Float[np.ndarray, "images 10"]:
    """Degrees of "this is digit d", by a small convolutional network fitted to the known images."""
    import torch
    from torch import nn

    torch.manual_seed(seed % 2**32)
    network = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(0.3), nn.Linear(32 * 49, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip
    inputs = torch.tensor(images[:, None], dtype=torch.float32)
    targets = torch.eye(10)[torch.as_tensor(digits)]
    rows = torch.as_tensor(known)
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    for _ in range(epochs):
        for batch in rows[torch.randperm(len(rows))].split(64):
            optimizer.zero_grad()
            loss = nn.functional.binary_cross_entropy_with_logits(
                network(inputs[batch]), targets[batch]
            )
            loss.backward()
            optimizer.step()
    network.eval()
    with torch.no_grad():
        return torch.cat([network(part) for part in inputs.split(500)]).sigmoid().numpy()


@dataclass(frozen=True)
class CascadeTask:
    """One seed of the fabricated cascade."""

    seed: int


def measure_cascade(task: CascadeTask) -> Record:
    """Rows, seen and drawn at random, on which expanded formulas differ from the networks."""
    data = fabricated_cascade(seed=task.seed)
    middle = np.column_stack([data.middle.column(name) for name in data.middle.names])
    stage = LENClassifier(max_concepts=9, epochs=400, random_state=task.seed % 2**32)
    cascade = LENCascade(stage, stage).fit(
        data.low, middle.astype(int), data.target, middle_names=data.middle.names
    )
    drawn = _valid_rows(data.low, task.seed)
    formulas = cascade.formulas(expanded=True)
    differing = []
    for rows in (data.low, drawn):
        predicted = cascade.predict(rows)
        concepts = cascade.first_.concepts(rows) > 0.5
        differing += [
            float(np.mean(formula(concepts) != (predicted == label)))
            for label, formula in formulas.items()
        ]
    return {
        "differing": max(differing),
        "accuracy": float(np.mean(cascade.predict(data.low) == data.target)),
        "literals": metrics.complexity(formulas),
        "unexpanded": metrics.complexity(cascade.formulas(expanded=False)),
        "lower": {name: one.to_json() for name, one in cascade.middle_formulas().items()},
        "upper": {
            str(label): one.to_json() for label, one in cascade.formulas(expanded=False).items()
        },
    }


def _valid_rows(low: DataTable, seed: int) -> DataTable:
    """5,000 rows whose indicators have levels drawn at random, independently of each other."""
    rng = np.random.default_rng(seed)
    columns: dict[str, np.ndarray] = {}
    families = itertools.groupby(low.names, key=lambda name: name.split(" = ")[0])
    for _, family in families:
        members = list(family)
        level = rng.integers(len(members), size=5000)
        columns |= {name: level == number for number, name in enumerate(members)}
    return DataTable(columns, "drawn rows")


@dataclass(frozen=True)
class RuleTask:
    """A data set that a known rule decides, and a seed."""

    name: str
    width: int
    seed: int


def measure_rule(task: RuleTask) -> Record:
    """Formulas of a network fitted to all rows of a rule: their accuracy and length."""
    data = load(task.name)
    model = LENClassifier(max_concepts=task.width, random_state=task.seed % 2**32)
    model.fit(data.table, data.target)
    concepts = model.concepts(data.table) > 0.5
    return {
        "accuracy": metrics.explanation_accuracy(model.formulas_, concepts, data.target),
        "literals": max(formula.n_literals for formula in model.formulas_.values()),
        "formula": model.explain().text(model.classes_[-1]),
    }


@dataclass(frozen=True)
class ThresholdTask:
    """One seed of the rule over real numbers."""

    seed: int


def measure_thresholds(task: ThresholdTask) -> Record:
    """Learned thresholds against the rule's own: (x1 > .5) and ((x2 > .2) or (x3 > .7))."""
    data, fresh = threshold_rule(seed=task.seed), threshold_rule(seed=task.seed + 1)
    model = LENClassifier(
        booleanizer=Booleanizer(thresholds="learned"), random_state=task.seed % 2**32
    ).fit(data.table, data.target)
    formula = model.explain("1", cost=COST).formulas["1"]
    used = {
        (predicate.column, float(predicate.value))
        for name, predicate in model.predicates_.items()
        if name in formula.concepts and predicate.operator == ">" and predicate.value is not None
    }
    true = {"x1": 0.5, "x2": 0.2, "x3": 0.7}
    errors = [
        min((abs(value - at) for column, value in used if column == name), default=1.0)
        for name, at in true.items()
    ]
    concepts = model.concepts(fresh.table) > 0.5
    return {
        "accuracy": float(np.mean(formula(concepts) == (fresh.target == "1"))),
        "error": max(errors),
        "formula": model.explain("1", cost=COST).text("1"),
    }


@dataclass(frozen=True)
class MinimalityTask:
    """A number of random functions to minimise, from one seed."""

    functions: int
    seed: int


def measure_small_functions(task: MinimalityTask) -> Record:
    """How many of some random functions of 2 to 6 variables get more literals than needed."""
    rng = np.random.default_rng(task.seed)
    longer = 0
    for number in range(task.functions):
        width = 2 + number % 5
        table = rng.random(2**width) < rng.uniform(0.2, 0.8)
        longer += minimize(table).literals != fewest_literals(table)
    return {"longer": longer}


def fewest_literals(table: Bool[np.ndarray, " rows"]) -> int:
    """The literal count of the shortest DNF, over all implicants without any reduction."""
    if not table.any() or table.all():
        return 0
    width = len(table).bit_length() - 1
    rows = truth_table_rows(width)
    covers, costs = [], []
    for cube in itertools.product((None, False, True), repeat=width):
        fixed = [(column, value) for column, value in enumerate(cube) if value is not None]
        inside = np.ones(len(table), dtype=bool)
        for column, value in fixed:
            inside &= rows[:, column] == value
        if not (inside & ~table).any():
            covers.append(inside[table])
            costs.append(len(fixed))
    found = milp(
        np.array(costs),
        constraints=LinearConstraint(np.array(covers, dtype=float).T, lb=1),
        integrality=np.ones(len(costs)),
        bounds=Bounds(0, 1),
        options={"mip_rel_gap": 0.0},
    )
    return round(found.fun)


def measure_wide_functions(task: MinimalityTask) -> Record:
    """Gap and seconds of functions of 8 to 10 variables, half random, half network-like."""
    rng = np.random.default_rng(task.seed)
    gaps, seconds = [], []
    for number in range(task.functions):
        width = 8 + number % 3
        rows = truth_table_rows(width)
        if number % 2:
            table = rng.random(len(rows)) < 0.3
        else:
            hidden = np.tanh(2 * (rows - 0.5) @ rng.normal(size=(width, 6)))
            table = hidden @ rng.normal(size=6) > 0.3
        began = time.perf_counter()
        cover = minimize(table)
        seconds.append(time.perf_counter() - began)
        gaps.append(cover.gap)
    return {"gap": max(gaps), "seconds": max(seconds)}


@dataclass(frozen=True)
class CohortTask:
    """One seed of a table the user gives."""

    name: str
    path: str
    seed: int


def measure_cohort(task: CohortTask) -> Record:
    """Accuracy, fidelity and length on a fifth of MIMIC-II or CUB; a cascade on V-Dem."""
    if task.name == "vdem":
        return _measure_vdem(task)
    data = load_mimic(task.path) if task.name == "mimic" else load_cub(task.path)
    known, labels, held, truth = split(data.table, data.target, task.seed)
    model = LENClassifier(max_concepts="auto", random_state=task.seed % 2**32)
    model.fit(known, labels)
    scores = model.evaluate(held, truth)["all"]
    return {**scores, "accuracy": float(np.mean(model.predict(held) == truth))}


def _measure_vdem(task: CohortTask) -> Record:
    data = load_vdem(task.path)
    rows = np.arange(len(data.target))
    known, held = train_test_split(
        rows, test_size=0.2, random_state=task.seed % 2**32, stratify=data.target
    )
    middle = np.column_stack([data.middle.column(name) for name in data.middle.names]).astype(int)
    stage = LENClassifier(max_concepts=12, random_state=task.seed % 2**32)
    cascade = LENCascade(stage, clone(stage)).fit(
        data.low.rows(known), middle[known], data.target[known], middle_names=data.middle.names
    )
    predicted = cascade.predict(data.low.rows(held))
    return {"accuracy": float(np.mean(predicted == data.target[held]))}
