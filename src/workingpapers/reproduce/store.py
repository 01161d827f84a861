"""Results of finished tasks on disk, so that an interrupted run goes on where it stopped."""

import dataclasses
import hashlib
import io
import json
from collections.abc import Mapping
from functools import cache
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from workingpapers.foundation.console import write_atomically

_ARRAY = "__array__"


def encode(result: Any) -> tuple[Any, dict[str, np.ndarray]]:
    """Split a task's result into JSON and arrays; TypeError for anything else in it."""
    arrays: dict[str, np.ndarray] = {}

    def walk(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            if value.dtype == object:
                raise TypeError("a task's result holds an object array; only plain arrays are kept")
            name = f"a{len(arrays)}"
            arrays[name] = value
            return {_ARRAY: name}
        if isinstance(value, np.generic):
            return value.item()
        if isinstance(value, Mapping):
            if not all(isinstance(key, str) for key in value) or _ARRAY in value:
                raise TypeError("a task's result has a dictionary whose keys are not all strings")
            return {key: walk(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [walk(item) for item in value]
        if value is None or isinstance(value, bool | int | float | str):
            return value
        raise TypeError(
            f"a task's result holds a {type(value).__name__}; expected numbers, strings, booleans, "
            "None, lists, dictionaries and arrays"
        )

    return walk(result), arrays


def decode(value: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """Put the arrays back where `encode` took them from."""
    if isinstance(value, dict):
        if set(value) == {_ARRAY}:
            return arrays[value[_ARRAY]]
        return {key: decode(item, arrays) for key, item in value.items()}
    if isinstance(value, list):
        return [decode(item, arrays) for item in value]
    return value


class TaskStore:
    """One system's finished tasks in a folder: KEY.json, and KEY.npz where there are arrays."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        """`settings` is all that decides a result beside the task itself, part of each key."""
        self.folder = folder
        self.settings = dict(settings)

    def key(self, function: Any, task: Any) -> str:
        """The name under which the result of `function(task)` is kept."""
        described = {
            "settings": self.settings,
            "function": f"{function.__module__}.{function.__qualname__}",
            "task": dataclasses.asdict(task),
        }
        text = json.dumps(described, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def load(self, key: str) -> dict[str, Any] | None:
        """The stored record, or None; a damaged one counts as absent."""
        try:
            record = json.loads((self.folder / f"{key}.json").read_text())
            arrays: dict[str, np.ndarray] = {}
            if record.pop("arrays"):
                with np.load(self.folder / f"{key}.npz", allow_pickle=False) as stored:
                    arrays = dict(stored)
            record["result"] = decode(record["result"], arrays)
        except (OSError, ValueError, KeyError):
            return None
        return record

    def save(self, key: str, result: Any, seconds: float, peak_mb: float | None) -> Any:
        """Keep a result and what it cost; returns it as a later `load` would."""
        plain, arrays = encode(result)
        self.folder.mkdir(parents=True, exist_ok=True)
        if arrays:
            buffer = io.BytesIO()
            np.savez(buffer, **arrays)  # type: ignore[arg-type]
            write_atomically(self.folder / f"{key}.npz", buffer.getvalue())
        record = {
            "arrays": bool(arrays),
            "result": plain,
            "seconds": seconds,
            "peak_mb": peak_mb,
        }
        # The JSON comes last: its presence says that the record is whole.
        write_atomically(self.folder / f"{key}.json", json.dumps(record))
        return decode(plain, arrays)

    def forget(self) -> None:
        """Delete every stored result."""
        for file in self.folder.glob("*"):
            if file.suffix in (".json", ".npz"):
                file.unlink()


def source_digest(system: str) -> str:
    """A digest of the source that can decide a result: foundation, scene and the system."""
    digest = hashlib.sha256()
    for package in ("foundation", "scene", system):
        spec = find_spec(f"workingpapers.{package}")
        for location in (spec.submodule_search_locations or ()) if spec else ():
            for file in sorted(Path(location).rglob("*.py")):
                digest.update(f"{package}/{file.relative_to(location)}\0".encode())
                digest.update(file.read_bytes())
    return digest.hexdigest()


@cache
def installed_packages() -> dict[str, str]:
    """Every installed distribution and its version: the lock as it is on this machine."""
    found = {dist.metadata["Name"].lower(): dist.version for dist in distributions()}
    return dict(sorted(found.items()))


def path_digest(path: Path) -> str:
    """A digest of a user's file, or of the names, sizes and times below a user's folder."""
    digest = hashlib.sha256()
    if path.is_file():
        with path.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    for file in sorted(entry for entry in path.rglob("*") if entry.is_file()):
        stat = file.stat()
        digest.update(f"{file.relative_to(path)}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()
