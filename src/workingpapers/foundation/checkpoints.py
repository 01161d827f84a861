"""Trained models on disk: a folder of config.json and safetensors files, written whole or not."""

import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import torch
from jaxtyping import Shaped
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from workingpapers.foundation.console import write_atomically
from workingpapers.foundation.errors import InputError

Config = TypeVar("Config")
Tensors = Mapping[str, Shaped[Tensor, "..."]]

FORMAT = 1
"""Version of the layout on disk; a checkpoint of another version is not read."""

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")


def save(
    folder: Path, config: Any, parts: Mapping[str, Tensors], *, overwrite: bool = False
) -> None:
    """Write a checkpoint, whole or not at all: the part "experts/news" to experts/news.safetensors.

    `config` is a frozen dataclass whose fields are str, int, float, bool, None, tuples and
    dictionaries with string keys of these, further such dataclasses, Literal and unions with
    None. An existing folder is replaced if it is empty or, with `overwrite`, a checkpoint and
    nothing more; InputError if it is anything else, or for a config or part name as above not
    allowed. If the process is killed meanwhile, `load` finds the checkpoint that was there before.
    """
    check_target(folder, overwrite)
    folder = folder.resolve()
    values = json.loads(json.dumps(asdict(config)))
    # What cannot be read again is refused before it is written.
    decode(type(config), values, "config")
    for part in parts:
        if not _PART.fullmatch(part):
            raise InputError(f"part {part!r}: expected letters, digits and _-. between slashes")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.partial-"))
    before = _before(folder)
    try:
        files = {part: _write_part(partial, part, parts[part]) for part in sorted(parts)}
        index = _Index(FORMAT, type(config).__name__, values, files)
        text = json.dumps(asdict(index), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        (partial / "config.json").write_text(text, encoding="utf-8")
        # mkdtemp's folders and safetensors' files are private; give all the modes of new ones.
        mask = os.umask(0)
        os.umask(mask)
        for path in (*partial.rglob("*"), partial):
            path.chmod((0o777 if path.is_dir() else 0o666) & ~mask)
            _sync(path)
        if folder.exists():
            shutil.rmtree(before, ignore_errors=True)
            folder.rename(before)
        partial.rename(folder)
    except BaseException:
        if before.exists() and not folder.exists():
            before.rename(folder)
        shutil.rmtree(partial, ignore_errors=True)
        raise
    _sync(folder.parent)
    shutil.rmtree(before, ignore_errors=True)


def load(
    folder: Path,
    config_type: type[Config],
    parts: Collection[str] | None = None,
    device: str | torch.device = "cpu",
) -> tuple[Config, dict[str, dict[str, Shaped[Tensor, "..."]]]]:
    """The config and the named parts (None: all) of a checkpoint, its tensors on `device`.

    InputError, one line that names the file, for whatever is missing, cut off, changed since it
    was written, of another version or of another type.
    """
    if not folder.exists() and _before(folder).is_dir():
        # A save was killed after it had moved this aside and before its own was in place.
        folder = _before(folder)
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing"
        raise InputError(f"{folder}: expected a checkpoint folder, found {found}")
    path = folder / "config.json"
    index = _read_index(folder)
    if index.type != config_type.__name__:
        raise InputError(f"{path}: holds a {index.type}, expected a {config_type.__name__}")
    try:
        config = decode(config_type, index.config, "config")
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    tensors = {}
    for part in index.parts if parts is None else parts:
        if part not in index.parts:
            there = ", ".join(index.parts) or "none"
            raise InputError(f"{path}: has no part {part!r} (parts: {there})")
        tensors[part] = _read_part(folder, index.parts[part], device)
    return config, tensors


def save_training_state(folder: Path, step: int, state: Mapping[str, Any]) -> None:
    """Keep what a run needs to go on after `step` updates; the last two kept are left there.

    `state` holds tensors, numbers, strings, None, lists, tuples (read back as lists) and mappings
    with keys of text or whole numbers, nested at will. A process killed at any moment, also in
    here, leaves the states kept before.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob("step-*.partial"):
        shutil.rmtree(leftover)
    partial, target = folder / f"step-{step}.partial", folder / f"step-{step}"
    partial.mkdir()
    tensors: dict[str, Tensor] = {}
    skeleton = _without_tensors(state, tensors)
    entry = _write_part(partial, "tensors", tensors)
    content = {"format": FORMAT, "step": step, "sha256": entry.sha256, "state": skeleton}
    (partial / "state.json").write_text(json.dumps(content), encoding="utf-8")
    for path in (*partial.iterdir(), partial):
        _sync(path)
    if target.exists():
        shutil.rmtree(target)
    partial.rename(target)
    _sync(folder)
    write_atomically(folder / "latest", f"{target.name}\n")
    _sync(folder)
    for old in _kept_steps(folder)[:-_KEPT_STATES]:
        shutil.rmtree(folder / f"step-{old}")


def load_training_state(folder: Path) -> tuple[int, dict[str, Any]] | None:
    """The step and the state last kept in a folder, None where none is.

    InputError names the file that is cut off, changed or of another version.
    """
    path = folder / "latest"
    steps = _kept_steps(folder)
    if not steps:
        return None
    # A process killed between the first save and its `latest` leaves none.
    name = f"step-{steps[-1]}"
    if path.is_file():
        name = path.read_text(encoding="utf-8", errors="replace").strip()
    step_folder = folder / name
    if name not in {f"step-{step}" for step in steps}:
        raise InputError(f"{path}: names {name!r}, which is not there")
    path = step_folder / "state.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version, step = content["format"], int(content["step"])
        entry = _PartFile("tensors.safetensors", content["sha256"])
        skeleton = content["state"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: not the state of a run ({error})") from None
    if version != FORMAT:
        raise InputError(f"{path}: written by another version, format {version!r} not {FORMAT}")
    tensors = _read_part(step_folder, entry, "cpu")
    try:
        state = _with_tensors(skeleton, tensors)
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: not the state of a run ({error!r})") from None
    if not isinstance(state, dict):
        raise InputError(f"{path}: not the state of a run (no mapping)")
    return step, state


_KEPT_STATES = 2


def _kept_steps(folder: Path) -> list[int]:
    """The steps whose states are in a folder, in order."""
    found = (re.fullmatch(r"step-(\d+)", path.name) for path in folder.glob("step-*"))
    return sorted(int(match[1]) for match in found if match)


def _without_tensors(value: Any, tensors: dict[str, Tensor]) -> Any:
    """`value` as JSON, its tensors moved into `tensors`; mappings become lists of pairs."""
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value
        return {"tensor": name}
    if isinstance(value, Mapping):
        return {"pairs": [[key, _without_tensors(item, tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return [_without_tensors(item, tensors) for item in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"a training state has no values of type {type(value).__name__}")


def _with_tensors(value: Any, tensors: Tensors) -> Any:
    if isinstance(value, list):
        return [_with_tensors(item, tensors) for item in value]
    if isinstance(value, dict):
        if "tensor" in value:
            return tensors[value["tensor"]]
        return {key: _with_tensors(item, tensors) for key, item in value["pairs"]}
    return value


@dataclass(frozen=True)
class _PartFile:
    file: str
    sha256: str


@dataclass(frozen=True)
class _Index:
    """The content of config.json; `config` is decoded when its type is known."""

    format: int
    type: str
    config: dict[str, Any]
    parts: dict[str, _PartFile]

    def __post_init__(self) -> None:
        for part, entry in self.parts.items():
            if not _PART.fullmatch(part) or entry.file != f"{part}.safetensors":
                raise InputError(f"part {part!r} cannot be in the file {entry.file!r}")


def _before(folder: Path) -> Path:
    """Where a save keeps the checkpoint it replaces until its own is in place."""
    return folder.parent / f".{folder.name}.before"


def check_target(folder: Path, overwrite: bool) -> None:
    """InputError unless `save` may write to the folder; asked before long work begins."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: expected a folder, found a file")
    if not folder.exists() or not any(folder.iterdir()):
        return
    try:
        index = _read_index(folder)
    except InputError:
        raise InputError(
            f"{folder}: the folder is not empty and holds no checkpoint of this version"
        ) from None
    if not overwrite:
        raise InputError(f"{folder}: the folder is not empty, it holds a checkpoint")
    ours = {folder / "config.json", *(folder / entry.file for entry in index.parts.values())}
    others = sorted(path for path in folder.rglob("*") if not path.is_dir() and path not in ours)
    if others:
        raise InputError(f"{others[0]}: not replaced, it is no part of the checkpoint there")


def _write_part(folder: Path, part: str, tensors: Tensors) -> _PartFile:
    path = folder / f"{part}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    # Copies: safetensors takes neither views with gaps nor two tensors that share memory.
    copies = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    save_file(copies, path)
    return _PartFile(f"{part}.safetensors", _digest(path))


def _read_part(
    folder: Path, entry: _PartFile, device: str | torch.device
) -> dict[str, Shaped[Tensor, "..."]]:
    path = folder / entry.file
    if not path.is_file():
        raise InputError(f"{path}: the file is missing")
    if _digest(path) != entry.sha256:
        raise InputError(f"{path}: cut off or changed, its SHA-256 is not the one in config.json")
    try:
        return load_file(path, device=str(device))
    except SafetensorError as error:
        raise InputError(f"{path}: expected a safetensors file ({error})") from None


def _read_index(folder: Path) -> _Index:
    path = folder / "config.json"
    if not path.is_file():
        raise InputError(f"{path}: the file is missing")
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: expected JSON ({error})") from None
    version = content.get("format") if isinstance(content, dict) else None
    if version is None:
        raise InputError(f"{path}: expected the config of a checkpoint, found other JSON")
    if version != FORMAT:
        raise InputError(f"{path}: written by another version, format {version!r} not {FORMAT}")
    try:
        return decode(_Index, content, "")
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def decode(kind: Any, value: Any, where: str) -> Any:
    """A JSON value as the type `kind`, a dataclass as `save` takes; InputError names the field."""
    origin, kinds = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        return _decode_dataclass(kind, value, where)
    if kind is Any:
        return value
    if origin in (Union, UnionType):
        if value is None and NoneType in kinds:
            return None
        arms = [arm for arm in kinds if arm is not NoneType]
        for arm in arms[:-1]:
            with suppress(InputError):
                return decode(arm, value, where)
        return decode(arms[-1], value, where)
    if origin is Literal:
        if any(value == arm and type(value) is type(arm) for arm in kinds):
            return value
    elif origin is tuple:
        if isinstance(value, list):
            items = kinds[:1] * len(value) if kinds[-1:] == (Ellipsis,) else kinds
            if len(items) == len(value):
                pairs = enumerate(zip(items, value, strict=True))
                return tuple(decode(item, part, f"{where}[{i}]") for i, (item, part) in pairs)
    elif origin is dict and kinds[0] is str:
        if isinstance(value, dict):
            return {name: decode(kinds[1], item, f"{where}.{name}") for name, item in value.items()}
    elif kind is float:
        # False for what is not finite, and for an int that no float can hold.
        if type(value) in (int, float) and abs(value) <= sys.float_info.max:
            return float(value)
    elif kind in (str, int, bool, NoneType):
        if type(value) is kind:
            return value
    else:
        raise TypeError(f"{where}: a config has no fields of type {kind}")
    name = str(kind) if kinds or not hasattr(kind, "__name__") else kind.__name__
    raise InputError(f"{where}: expected {name.removeprefix('typing.')}, found {value!r:.80}")


def _decode_dataclass(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise InputError(f"{where}: expected an object, found {value!r:.80}")
    inside = f"{where}." if where else ""
    names = [field.name for field in fields(kind)]
    for name in value:
        if name not in names:
            raise InputError(f"{inside}{name}: unknown field")
    for name in names:
        if name not in value:
            raise InputError(f"{inside}{name}: missing field")
    hints = get_type_hints(kind)
    return kind(**{name: decode(hints[name], value[name], inside + name) for name in names})
