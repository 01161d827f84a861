"""Logic Explained Networks beside torch-explain, RIPPER, rule lists, RuleFit and trees.

Every method sees the same Boolean concepts of the same rows: three fifths for training, one fifth
for validation, one fifth for test. A case is a data set and a step: "wdbc fit" times training,
"wdbc extract" times turning a trained network into formulas, which only networks have. The values
beside the times are scores on test rows: accuracy and rule accuracy are one class against the
rest, fidelity is macro F1 against the method's own predictions, literals are the mean a class.
"""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.model_selection import train_test_split

from paired import Contender, main
from workingpapers.lens import Booleanizer, Formula, LENClassifier
from workingpapers.lens.comparison import score_ripper, score_rule_list, score_tree
from workingpapers.lens.data import load
from workingpapers.lens.metrics import (
    complexity,
    explanation_accuracy,
    fidelity,
    model_accuracy,
)

DATA = ("votes", "tic-tac-toe", "wdbc", "mushroom", "chess", "german")
EPOCHS = 500


@dataclass
class Split:
    """One data set's concepts and class numbers, in three parts."""

    names: tuple[str, ...]
    training: np.ndarray
    training_classes: np.ndarray
    validation: np.ndarray
    validation_classes: np.ndarray
    test: np.ndarray
    test_classes: np.ndarray

    @property
    def known(self) -> np.ndarray:
        return np.vstack([self.training, self.validation])

    @property
    def known_classes(self) -> np.ndarray:
        return np.concatenate([self.training_classes, self.validation_classes])


def split(name: str) -> Split:
    """The concepts of a data set, split with a fixed seed."""
    warnings.simplefilter("ignore")
    data = load(name)
    booleanizer = Booleanizer().fit(data.table, data.target)
    concepts = booleanizer.transform(data.table)
    classes = np.unique(data.target, return_inverse=True)[1]
    known, test, known_classes, test_classes = train_test_split(
        concepts, classes, test_size=0.2, random_state=0, stratify=classes
    )
    training, validation, training_classes, validation_classes = train_test_split(
        known, known_classes, test_size=0.25, random_state=0, stratify=known_classes
    )
    return Split(
        booleanizer.concept_names_,
        training,
        training_classes,
        validation,
        validation_classes,
        test,
        test_classes,
    )


def step_of(case: str, *, network: bool) -> tuple[str, str]:
    """Data set and step of a case; a method that is its own explanation has nothing to extract."""
    name, step = case.rsplit(" ", 1)
    if step == "extract" and not network:
        raise RuntimeError("has no step of extraction")
    return name, step


def scores(formulas: dict[int, Formula], predicted: np.ndarray, data: Split) -> dict[str, float]:
    """The four numbers of a network and its formulas on test rows."""
    return {
        "accuracy": model_accuracy(predicted, data.test_classes, list(formulas)),
        "rule accuracy": explanation_accuracy(formulas, data.test, data.test_classes),
        "fidelity": fidelity(formulas, data.test, predicted),
        "literals": complexity(formulas),
    }


# ---- ours


def ours(width: int) -> Contender:
    """A mu network of `width` concepts a head, with formulas exact on observed patterns."""

    def fit(data: Split) -> LENClassifier:
        model = LENClassifier(max_concepts=width, epochs=EPOCHS, booleanizer=None)
        return model.fit(data.known.astype(float), data.known_classes, concept_names=data.names)

    def setup(case: str) -> Any:
        name, step = step_of(case, network=True)
        data = split(name)
        return data, step, fit(data) if step == "extract" else None

    def run(state: Any) -> dict[str, float]:
        data, step, model = state
        if step == "fit":
            fit(data)
            return {}
        # What an earlier call extracted is kept by the model; a timed call starts anew.
        model.restore_patterns(model.patterns_)
        formulas = model.explain().formulas
        return scores(formulas, model.predict(data.test.astype(float)), data)

    return Contender(f"workingpapers mu, {width} concepts", setup, run)


# ---- torch-explain


def torch_explain(name: str, *, minterm: int | None, top: int | None) -> Contender:
    """The entropy network of torch-explain 1.5.1 with its own extraction."""

    def fit(data: Split) -> Any:
        import torch
        import torch_explain as te

        torch.manual_seed(0)
        heads = int(data.training_classes.max()) + 1
        network = torch.nn.Sequential(
            te.nn.EntropyLinear(data.training.shape[1], 20, n_classes=heads),
            torch.nn.LeakyReLU(),
            torch.nn.Linear(20, 10),
            torch.nn.LeakyReLU(),
            torch.nn.Linear(10, 1),
        )
        rows = torch.tensor(data.training, dtype=torch.float32)
        targets = torch.eye(heads)[torch.as_tensor(data.training_classes)]
        optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
        for _ in range(EPOCHS):
            optimizer.zero_grad()
            loss = torch.nn.functional.binary_cross_entropy_with_logits(
                network(rows).squeeze(-1), targets
            )
            loss = loss + 1e-4 * te.nn.functional.entropy_logic_loss(network)
            loss.backward()
            optimizer.step()
        return network.eval()

    def setup(case: str) -> Any:
        data_name, step = step_of(case, network=True)
        data = split(data_name)
        return data, step, fit(data) if step == "extract" else None

    def run(state: Any) -> dict[str, float]:
        import torch
        from torch_explain.logic.nn import entropy

        data, step, network = state
        if step == "fit":
            fit(data)
            return {}
        rows = torch.tensor(data.known, dtype=torch.float32)
        heads = int(data.known_classes.max()) + 1
        targets = torch.eye(heads)[torch.as_tensor(data.known_classes)]
        training = torch.arange(len(data.training))
        validation = torch.arange(len(data.training), len(rows))
        formulas = {}
        width = data.known.shape[1]
        names = tuple(f"feature{column:010d}" for column in range(width))
        with torch.no_grad():
            for target in range(heads):
                text, _ = entropy.explain_class(
                    network, rows, targets, training, validation, target,
                    max_minterm_complexity=minterm, topk_explanations=top, try_all=False,
                    simplify=True,
                )  # fmt: skip
                formulas[target] = Formula.parse(text or "False", names)
            test = torch.tensor(data.test, dtype=torch.float32)
            predicted = network(test).squeeze(-1).argmax(1).numpy()
        return scores(formulas, predicted, data)

    return Contender(name, setup, run, needs=("torch_explain",))


# ---- methods that are their own explanation


def of_scores(name: str, score: Any, needs: tuple[str, ...] = ()) -> Contender:
    """A method fitted and scored by a function of the four parts (known rows are training)."""

    def setup(case: str) -> Split:
        return split(step_of(case, network=False)[0])

    def run(data: Split) -> dict[str, float]:
        found = score(data.known, data.known_classes, data.test, data.test_classes)
        return {
            "accuracy": found["model_accuracy"],
            "rule accuracy": found["explanation_accuracy"],
            "fidelity": found["fidelity"],
            "literals": found["literals"],
        }

    return Contender(name, setup, run, needs=needs)


def of_imodels(kind: str, **settings: Any) -> Contender:
    """One rule model of imodels a class, scored one-versus-rest."""

    def setup(case: str) -> Split:
        return split(step_of(case, network=False)[0])

    def run(data: Split) -> dict[str, float]:
        import imodels

        warnings.simplefilter("ignore")
        names = [f"x{column}" for column in range(data.known.shape[1])]
        right, lengths = [], []
        for target in np.unique(data.known_classes):
            rules = getattr(imodels, kind)(**settings)
            wanted = (data.known_classes == target).astype(int)
            rules.fit(data.known.astype(float), wanted, feature_names=names)
            fired = np.asarray(rules.predict(data.test.astype(float))) > 0.5
            right.append(float(np.mean(fired == (data.test_classes == target))))
            lengths.append(float(getattr(rules, "complexity_", float("nan"))))
        accuracy = float(np.mean(right))
        return {
            "accuracy": accuracy,
            "rule accuracy": accuracy,
            "fidelity": 1.0,
            "literals": float(np.mean(lengths)),
        }

    return Contender(f"imodels {kind}", setup, run, needs=("imodels",))


CONTENDERS = (
    ours(9),
    ours(20),
    torch_explain("torch-explain, terms of 5", minterm=5, top=20),
    torch_explain("torch-explain, unlimited", minterm=None, top=20),
    of_scores("scikit-learn tree, depth 5", score_tree),
    of_scores("RIPPER (wittgenstein)", score_ripper, needs=("wittgenstein",)),
    of_scores("greedy rule list (imodels)", score_rule_list, needs=("imodels",)),
    of_imodels("RuleFitClassifier"),
    of_imodels("BayesianRuleListClassifier"),
)

CASES = tuple(f"{name} {step}" for name in DATA for step in ("fit", "extract"))

if __name__ == "__main__":
    raise SystemExit(main("Logic Explained Networks", CONTENDERS, CASES))
