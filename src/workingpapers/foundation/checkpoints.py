"""Trained models on disk: a folder of an index and safetensors files, written whole or not."""

import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from types import MappingProxyType, NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import torch
from jaxtyping import Shaped
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from safetensors.torch import save as to_safetensors
from torch import Tensor

from workingpapers.foundation.console import write_atomically
from workingpapers.foundation.errors import InputError

Config = TypeVar("Config")
Tensors = Mapping[str, Shaped[Tensor, "..."]]
Metadata = Mapping[str, Any]
NOTHING: Mapping[str, Any] = MappingProxyType({})

FORMAT = 1
"""Version of the layout on disk; a checkpoint of another version is not read."""

INDEX = "config.json"
"""The file of a checkpoint that names the others, unless a caller chooses another name."""

REMOVED = ".removed"
"""Where `change` moves what it removes from a checkpoint."""

_ADDING = ".adding"
_METADATA = "workingpapers"
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")


def save(
    folder: Path,
    config: Any,
    parts: Mapping[str, Tensors],
    *,
    overwrite: bool = False,
    index: str = INDEX,
    files: Mapping[str, str | bytes] = NOTHING,
    metadata: Mapping[str, Metadata] = NOTHING,
) -> None:
    """Write a checkpoint, whole or not at all: the part "experts/news" to experts/news.safetensors.

    `config` is a frozen dataclass whose fields are str, int, float, bool, None, tuples and
    dictionaries with string keys of these, further such dataclasses, Literal and unions with
    None. `files` are further ones by their path in the folder, `metadata` what JSON can hold, to be
    kept in the file of a part. An existing folder is replaced if it is empty or, with `overwrite`,
    a checkpoint and nothing more; InputError if it is anything else, or for a config or name as
    above not allowed. If the process is killed meanwhile, `load` finds the checkpoint that was
    there before.
    """
    check_target(folder, overwrite, index)
    values = _encoded(config)
    _check_names(parts, files, index)
    with written_whole(folder) as partial:
        entries = {
            part: _write_part(partial, part, parts[part], metadata.get(part))
            for part in sorted(parts)
        }
        digests = {name: _write_file(partial, name, files[name]) for name in sorted(files)}
        listing = _Index(FORMAT, type(config).__name__, values, entries, digests)
        (partial / index).write_text(listing.text(), encoding="utf-8")


def change(
    folder: Path,
    config: Any,
    *,
    add: Mapping[str, Tensors] = NOTHING,
    remove: Collection[str] = (),
    files: Mapping[str, str | bytes | None] = NOTHING,
    metadata: Mapping[str, Metadata] = NOTHING,
    index: str = INDEX,
    out: Path | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Give a checkpoint another config, and some other parts and files; all else stays as it is.

    `add` and `metadata` are new parts as in `save`, `remove` the names of old ones; in `files`, the
    new content of a file or None for one to be removed. With `out` the result is a new checkpoint
    there, written as by `save` with copies of what is kept. Without, it is changed in place: the
    index is replaced when all that is new has been written, so that a process killed at any moment
    leaves the old parts or the new; what is removed is moved to the hidden folder REMOVED, and
    never overwrites another file there. Returns where it was moved.

    InputError for a part that is there already or is not, or has been cut off or changed.
    """
    old = _read_index(folder, index)
    values = _encoded(config)
    _check_names(add, files, index)
    for part in remove:
        old.entry(part, folder / index)
    for part in add:
        if part in old.parts:
            raise InputError(f"{folder / index}: has a part {part!r} already")
    kept = {part: entry for part, entry in old.parts.items() if part not in remove}
    digests = {name: digest for name, digest in old.files.items() if name not in files}
    contents = {name: content for name, content in files.items() if content is not None}

    def write_new(target: Path) -> _Index:
        entries = kept | {
            part: _write_part(target, part, tensors, metadata.get(part))
            for part, tensors in add.items()
        }
        written = {name: _write_file(target, name, text) for name, text in contents.items()}
        return _Index(
            FORMAT,
            type(config).__name__,
            values,
            dict(sorted(entries.items())),
            dict(sorted((digests | written).items())),
        )

    if out is None:
        gone = [old.parts[part].file for part in remove]
        gone += [name for name, content in files.items() if content is None and name in old.files]
        return _change_in_place(folder, index, old, write_new, gone)
    check_target(out, overwrite, index)
    with written_whole(out) as partial:
        for entry in kept.values():
            _copy_file(folder, entry.file, partial, entry.sha256, index)
        for name in digests:
            # Whoever reads it compares it with its SHA-256, if nobody else may have changed it.
            _copy_file(folder, name, partial, None, index)
        (partial / index).write_text(write_new(partial).text(), encoding="utf-8")
    return []


def _change_in_place(
    folder: Path, index: str, old: "_Index", write_new: Callable[[Path], "_Index"], gone: list[str]
) -> list[Path]:
    adding = folder / _ADDING
    shutil.rmtree(adding, ignore_errors=True)
    adding.mkdir()
    placed: list[Path] = []
    replaced: dict[Path, bytes] = {}
    try:
        listing = write_new(adding)
        _finish(adding)
        for path in sorted(path for path in adding.rglob("*") if not path.is_dir()):
            name = path.relative_to(adding).as_posix()
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if not old.names(name):
                if target.exists():
                    # Somebody's own, or what a killed change has left.
                    _move_aside(folder, name)
                placed.append(target)
            elif target.exists():
                replaced[target] = target.read_bytes()
            path.rename(target)
            _sync(target.parent)
        write_atomically(folder / index, listing.text())
    except BaseException:
        for path in placed:
            path.unlink(missing_ok=True)
        for path, content in replaced.items():
            path.write_bytes(content)
        shutil.rmtree(adding, ignore_errors=True)
        raise
    _sync(folder)
    moved = [_move_aside(folder, name) for name in gone if (folder / name).exists()]
    shutil.rmtree(adding, ignore_errors=True)
    return moved


def _move_aside(folder: Path, name: str) -> Path:
    """Move a file into the folder REMOVED, under a name that is free there."""
    aside = folder / REMOVED
    aside.mkdir(exist_ok=True)
    path = Path(name)
    target, number = aside / path.name, 1
    while target.exists():
        number += 1
        target = aside / f"{path.stem}-{number}{path.suffix}"
    (folder / name).rename(target)
    _sync(aside)
    return target


def load(
    folder: Path,
    config_type: type[Config],
    parts: Collection[str] | None = None,
    device: str | torch.device = "cpu",
    *,
    index: str = INDEX,
) -> tuple[Config, dict[str, dict[str, Shaped[Tensor, "..."]]]]:
    """The config and the named parts (None: all) of a checkpoint, its tensors on `device`.

    InputError, one line that names the file, for whatever is missing, cut off, changed since it
    was written, of another version or of another type.
    """
    folder = locate(folder)
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing"
        raise InputError(f"{folder}: expected a checkpoint folder, found {found}")
    path = folder / index
    listing = _read_index(folder, index)
    if listing.type != config_type.__name__:
        raise InputError(f"{path}: holds a {listing.type}, expected a {config_type.__name__}")
    try:
        config = decode(config_type, listing.config, "config")
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    tensors = {}
    for part in listing.parts if parts is None else parts:
        entry = listing.entry(part, path)
        _check_digest(folder / entry.file, entry.sha256, index)
        tensors[part] = read_part(folder / entry.file, device)
    return config, tensors


def locate(folder: Path) -> Path:
    """Where the checkpoint of this folder is: elsewhere only if a save of it has been killed.

    That is when it had moved the one before aside, and its own was not yet in place.
    """
    before = _before(folder)
    return before if not folder.exists() and before.is_dir() else folder


def read_file(folder: Path, name: str, *, index: str = INDEX) -> bytes:
    """One of a checkpoint's `files`; InputError if it is missing, or changed since."""
    folder = locate(folder)
    listing = _read_index(folder, index)
    if name not in listing.files:
        there = ", ".join(listing.files) or "none"
        raise InputError(f"{folder / index}: has no file {name!r} (files: {there})")
    _check_digest(folder / name, listing.files[name], index)
    return (folder / name).read_bytes()


def read_part(path: Path, device: str | torch.device = "cpu") -> dict[str, Shaped[Tensor, "..."]]:
    """The tensors of one safetensors file; InputError for a file that is missing or cut off."""
    if not path.is_file():
        raise InputError(f"{path}: the file is missing")
    try:
        return load_file(path, device=str(device))
    except SafetensorError as error:
        raise _no_safetensors(path, error) from None


def read_header(path: Path) -> tuple[dict[str, tuple[int, ...]], dict[str, Any]]:
    """The shapes of a part's tensors and its metadata, from the first bytes of its file.

    Without metadata of `save` it is empty. InputError for a file that is missing or cut off.
    """
    if not path.is_file():
        raise InputError(f"{path}: the file is missing")
    try:
        with safe_open(path, framework="pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            text = (file.metadata() or {}).get(_METADATA, "{}")
    except SafetensorError as error:
        raise _no_safetensors(path, error) from None
    try:
        metadata = json.loads(text)
    except (ValueError, RecursionError):
        metadata = None
    if not isinstance(metadata, dict):
        raise InputError(f"{path}: expected JSON as its metadata, found {text!r:.80}")
    return shapes, metadata


def digest(tensors: Tensors, metadata: Metadata | None = None) -> str:
    """The SHA-256 of the file that `save` writes for a part."""
    content = to_safetensors(_contiguous(tensors), _header(metadata))
    return hashlib.sha256(content).hexdigest()


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
        sha256 = content["sha256"]
        skeleton = content["state"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: not the state of a run ({error})") from None
    if version != FORMAT:
        raise InputError(f"{path}: written by another version, format {version!r} not {FORMAT}")
    _check_digest(step_folder / "tensors.safetensors", sha256, INDEX)
    tensors = read_part(step_folder / "tensors.safetensors")
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
    """The content of the index; `config` is decoded when its type is known."""

    format: int
    type: str
    config: dict[str, Any]
    parts: dict[str, _PartFile]
    files: dict[str, str]
    """SHA-256 of further files, by their path; left out where there are none."""

    def __post_init__(self) -> None:
        for part, entry in self.parts.items():
            if not _PART.fullmatch(part) or entry.file != f"{part}.safetensors":
                raise InputError(f"part {part!r} cannot be in the file {entry.file!r}")
        for name in self.files:
            if not _PART.fullmatch(name):
                raise InputError(f"file {name!r}: expected letters, digits and _-. between slashes")

    def entry(self, part: str, path: Path) -> _PartFile:
        """Where a part is; InputError if there is none of this name."""
        if part not in self.parts:
            there = ", ".join(self.parts) or "none"
            raise InputError(f"{path}: has no part {part!r} (parts: {there})")
        return self.parts[part]

    def names(self, file: str) -> bool:
        """Whether a file belongs to the checkpoint."""
        return file in self.files or file in {entry.file for entry in self.parts.values()}

    def text(self) -> str:
        """As JSON."""
        content = asdict(self)
        if not self.files:
            del content["files"]
        return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _encoded(config: Any) -> dict[str, Any]:
    """A config as JSON; what cannot be read again is refused before it is written."""
    values = json.loads(json.dumps(asdict(config)))
    decode(type(config), values, "config")
    return values


def _check_names(parts: Collection[str], files: Collection[str], index: str) -> None:
    for part in parts:
        if not _PART.fullmatch(part):
            raise InputError(f"part {part!r}: expected letters, digits and _-. between slashes")
    taken = {index, *(f"{part}.safetensors" for part in parts)}
    for name in files:
        if not _PART.fullmatch(name):
            raise InputError(f"file {name!r}: expected letters, digits and _-. between slashes")
        if name in taken:
            raise InputError(f"file {name!r}: expected another name, it is the checkpoint's own")


@contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """A new folder, which takes the place of `folder` when all is written."""
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.partial-"))
    before = _before(folder)
    try:
        yield partial
        _finish(partial)
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


def _finish(folder: Path) -> None:
    """Sync a folder with all in it."""
    # mkdtemp's folders and safetensors' files are private; give all the modes of new ones.
    mask = os.umask(0)
    os.umask(mask)
    for path in (*folder.rglob("*"), folder):
        path.chmod((0o777 if path.is_dir() else 0o666) & ~mask)
        _sync(path)


def _before(folder: Path) -> Path:
    """Where a save keeps the checkpoint it replaces until its own is in place."""
    return folder.parent / f".{folder.name}.before"


def check_target(folder: Path, overwrite: bool, index: str = INDEX) -> None:
    """InputError unless `save` may write to the folder; asked before long work begins."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: expected a folder, found a file")
    if not folder.exists() or not any(folder.iterdir()):
        return
    try:
        listing = _read_index(folder, index)
    except InputError:
        raise InputError(
            f"{folder}: the folder is not empty and holds no checkpoint of this version"
        ) from None
    if not overwrite:
        raise InputError(f"{folder}: the folder is not empty, it holds a checkpoint")
    for path in sorted(path for path in folder.rglob("*") if not path.is_dir()):
        name = path.relative_to(folder).as_posix()
        if name != index and not listing.names(name) and not name.startswith(f"{_ADDING}/"):
            raise InputError(f"{path}: not replaced, it is no part of the checkpoint there")


def _contiguous(tensors: Tensors) -> dict[str, Tensor]:
    # Copies: safetensors takes neither views with gaps nor two tensors that share memory.
    return {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }


def _header(metadata: Metadata | None) -> dict[str, str] | None:
    """Metadata as safetensors takes it: one entry, as it gives several in no fixed order."""
    if metadata is None:
        return None
    return {_METADATA: json.dumps(metadata, ensure_ascii=False, allow_nan=False, sort_keys=True)}


def _write_part(
    folder: Path, part: str, tensors: Tensors, metadata: Metadata | None = None
) -> _PartFile:
    path = folder / f"{part}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(_contiguous(tensors), path, _header(metadata))
    return _PartFile(f"{part}.safetensors", _digest(path))


def _write_file(folder: Path, name: str, content: str | bytes) -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return _digest(path)


def _copy_file(source: Path, name: str, target: Path, sha256: str | None, index: str) -> None:
    path = target / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if not (source / name).is_file():
        raise InputError(f"{source / name}: the file is missing")
    shutil.copyfile(source / name, path)
    if sha256 is not None and _digest(path) != sha256:
        raise _changed(source / name, index)


def _check_digest(path: Path, sha256: str, index: str) -> None:
    if not path.is_file():
        raise InputError(f"{path}: the file is missing")
    if _digest(path) != sha256:
        raise _changed(path, index)


def _changed(path: Path, index: str) -> InputError:
    return InputError(f"{path}: cut off or changed, its SHA-256 is not the one in {index}")


def _no_safetensors(path: Path, error: SafetensorError) -> InputError:
    return InputError(f"{path}: expected a safetensors file ({error})")


def _read_index(folder: Path, index: str) -> _Index:
    path = folder / index
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
        return decode(_Index, {"files": {}} | content, "")
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
