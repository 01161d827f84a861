"""Logic Explained Networks: classify a table and read the decisions as logic formulas.

The public names are imported when they are first used, so that importing this package is quick.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workingpapers.lens.concepts import Booleanizer
    from workingpapers.lens.estimators import (
        LENCascade,
        LENClassifier,
        LENClusterer,
        LENExplainer,
    )
    from workingpapers.lens.explain import Certificate, Explanation
    from workingpapers.lens.formula import Formula, Predicate
    from workingpapers.lens.minimization import Cover, minimize
    from workingpapers.lens.storage import load_model, save_model

_HOMES = {
    "Booleanizer": "concepts",
    "Certificate": "explain",
    "Cover": "minimization",
    "Explanation": "explain",
    "Formula": "formula",
    "LENCascade": "estimators",
    "LENClassifier": "estimators",
    "LENClusterer": "estimators",
    "LENExplainer": "estimators",
    "Predicate": "formula",
    "load_model": "storage",
    "minimize": "minimization",
    "save_model": "storage",
}

__all__ = [
    "Booleanizer",
    "Certificate",
    "Cover",
    "Explanation",
    "Formula",
    "LENCascade",
    "LENClassifier",
    "LENClusterer",
    "LENExplainer",
    "Predicate",
    "load_model",
    "minimize",
    "save_model",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"workingpapers.lens.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
