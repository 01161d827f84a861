"""transformers' Auto classes know our models, without this package importing transformers.

Importing transformers takes seconds, and most of what this package does needs none of it. So the
type "demix" is registered at once where transformers' table of types is in memory already, and
else as soon as somebody imports it.
"""

import importlib
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

TABLE = "transformers.models.auto.configuration_auto"
"""The module of transformers that says which class a type of model has."""


def register_auto_classes() -> None:
    """Make AutoConfig and AutoModelForCausalLM open folders of DEMixForCausalLM, now or later.

    Calling it again changes nothing. The model's class is registered with its first config:
    transformers imports the table while its own base classes are half there.
    """
    if TABLE in sys.modules:
        _register()
    elif not any(isinstance(finder, _AfterImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterImport())


def _register() -> None:
    # The import registers the class.
    importlib.import_module("workingpapers.demix.configuration")


class _AfterImport(MetaPathFinder):
    """Finds the one module as Python would, and registers ours when it has been run."""

    def find_spec(
        self, fullname: str, path: Any, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != TABLE:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return spec
        loader: Any = spec.loader
        run = loader.exec_module

        def run_and_register(module: ModuleType) -> None:
            run(module)
            if self in sys.meta_path:
                sys.meta_path.remove(self)
            _register()

        loader.exec_module = run_and_register
        return spec
