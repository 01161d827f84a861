"""A fitted model as a folder: config.json and safetensors, without a row of the user's data.

What is kept of the data: thresholds and category names, and the distinct Boolean patterns of the
concepts the network kept, with how many rows of each class have them.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from workingpapers.foundation import checkpoints
from workingpapers.foundation.errors import InputError
from workingpapers.lens.concepts import Booleanizer, Group
from workingpapers.lens.estimators import LENClassifier, LENClusterer
from workingpapers.lens.explain import Patterns
from workingpapers.lens.nets import make_net

_ESTIMATORS = {one.__name__: one for one in (LENClassifier, LENClusterer)}
_PLAIN = {"str": str, "int": int, "float": float, "bool": bool}


@dataclass(frozen=True)
class ModelConfig:
    """All of a fitted model but its tensors."""

    estimator: str
    parameters: dict[str, Any]
    concept_names: tuple[str, ...]
    columns: tuple[str, ...]
    """Columns of the table the model was fitted to, in order."""
    named_columns: bool
    """Whether those names came with the data; an array has none."""
    classes: tuple[Any, ...]
    class_kind: str
    """str, int, float or bool."""
    multilabel: bool = False
    booleanizer: dict[str, Any] | None = None
    groups: tuple[dict[str, Any], ...] = ()
    target: str | None = None
    """Name of the column that held the classes."""
    card: dict[str, Any] = field(default_factory=dict)
    """Rows, epochs and scores of the training, for the reader of the folder."""

    def __post_init__(self) -> None:
        if self.estimator not in _ESTIMATORS:
            raise InputError(f"estimator: expected {' or '.join(_ESTIMATORS)}")
        if self.class_kind not in _PLAIN:
            raise InputError(f"class_kind: expected {', '.join(_PLAIN)}")


def save_model(
    model: LENClassifier | LENClusterer,
    folder: Path,
    *,
    target: str | None = None,
    overwrite: bool = False,
) -> None:
    """Write a fitted model; InputError if the folder is in use and not to be overwritten."""
    parameters = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in model.get_params(deep=False).items()
        if name != "booleanizer"
    }
    kind = model.classes_.dtype.kind
    config = ModelConfig(
        estimator=type(model).__name__,
        parameters=parameters,
        concept_names=tuple(model.concept_names_),
        columns=tuple(str(name) for name in model._column_names()),
        named_columns=hasattr(model, "feature_names_in_"),
        classes=tuple(model.classes_.tolist()),
        class_kind={"i": "int", "u": "int", "f": "float", "b": "bool"}.get(kind, "str"),
        multilabel=getattr(model, "multilabel_", False),
        booleanizer=None if model.booleanizer_ is None else model.booleanizer_.to_config(),
        groups=tuple(
            {
                "kind": group.kind,
                "members": list(group.members),
                "complete": group.complete,
                "missing": group.missing,
            }
            for group in model.groups_
        ),
        target=target,
        card={
            "rows": int(model.patterns_.totals.sum()),
            "epochs": int(getattr(model, "n_iter_", 0)),
        },
    )
    patterns = model.patterns_
    parts = {
        "network": {
            name: tensor.contiguous().cpu() for name, tensor in model.net_.state_dict().items()
        },
        "patterns": {
            "concepts": torch.from_numpy(patterns.concepts.astype(np.uint8)),
            "training": torch.from_numpy(patterns.training),
            "validation": torch.from_numpy(patterns.validation),
            "totals": torch.from_numpy(patterns.totals),
        },
    }
    checkpoints.save(folder, config, parts, overwrite=overwrite)


def load_model(folder: Path) -> LENClassifier | LENClusterer:
    """Read a model folder; InputError names the file that is missing, damaged or foreign."""
    config, parts = checkpoints.load(folder, ModelConfig)
    try:
        model = _ESTIMATORS[config.estimator](**_tuples(config.parameters))
        model.device = "cpu"
        model.concept_names_ = config.concept_names
        model.n_features_in_ = len(config.columns)
        if config.named_columns:
            model.feature_names_in_ = np.array(config.columns, dtype=object)
        model.booleanizer_ = (
            None if config.booleanizer is None else Booleanizer.from_config(config.booleanizer)
        )
        model.booleanizer = "auto" if config.booleanizer is not None else None
        model.predicates_ = {} if model.booleanizer_ is None else model.booleanizer_.predicates_
        model.groups_ = tuple(
            Group(**{**group, "members": tuple(group["members"])}) for group in config.groups
        )
        model.classes_ = np.array([_PLAIN[config.class_kind](one) for one in config.classes])
        if config.estimator == "LENClassifier":
            model.multilabel_ = config.multilabel
        network = parts["network"]
        heads, width = network["mask"].shape
        names = (
            model.concept_names_
            if model.booleanizer_ is None
            else (model.booleanizer_.concept_names_)
        )
        if width != len(config.concept_names) or tuple(names) != config.concept_names:
            raise ValueError("its concepts are not those of its network")
        count = len(config.classes)
        if parts["patterns"]["training"].shape[1] != count or heads not in (
            (1, 2) if count == 2 else (count,)
        ):
            raise ValueError(f"{count} classes do not fit a network of {heads} heads")
        model.net_ = make_net(model._net_config(), width, heads, 0)
        model.net_.load_state_dict(network)
        stored = parts["patterns"]
        patterns = Patterns(
            stored["concepts"].numpy().astype(bool),
            stored["training"].numpy(),
            stored["validation"].numpy(),
            stored["totals"].numpy(),
        )
    except (KeyError, TypeError, RuntimeError, ValueError) as error:
        line = " ".join(str(error).split())
        raise InputError(f"{folder}: the folder holds no usable model: {line}") from None
    model.restore_patterns(patterns)
    return model


def target_of(folder: Path) -> str | None:
    """The name of the column that held the classes of a saved model."""
    return checkpoints.load(folder, ModelConfig, parts=())[0].target


def _tuples(parameters: dict[str, Any]) -> dict[str, Any]:
    """JSON's lists as the tuples that parameters are."""
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in parameters.items()
    }
