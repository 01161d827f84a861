import hashlib
import json
import os
import signal
import stat
import string
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from workingpapers.foundation import checkpoints
from workingpapers.foundation.checkpoints import (
    change,
    check_target,
    digest,
    load,
    load_training_state,
    locate,
    read_file,
    read_header,
    read_part,
    save,
    save_training_state,
)
from workingpapers.foundation.errors import InputError
from workingpapers.foundation.parallel import run_in_process


@dataclass(frozen=True)
class Layer:
    size: int
    activation: Literal["relu", "tanh", 3] = "relu"
    dropout: float | None = None


@dataclass(frozen=True)
class Network:
    name: str
    rate: float
    bias: bool
    nothing: None
    layers: tuple[Layer, ...]
    shape: tuple[int, str]
    names: dict[str, tuple[str, ...]]
    first: Layer | None = None
    limit: int | str | None = None

    def __post_init__(self) -> None:
        if self.rate < 0:
            raise InputError(f"rate: expected a number from 0, got {self.rate:g}")


@dataclass(frozen=True)
class Tree:
    depth: int


NETWORK = Network(
    name="Größe",
    rate=0.1,
    bias=True,
    nothing=None,
    layers=(Layer(3), Layer(2, 3, 0.5)),
    shape=(4, "x"),
    names={"class": ("a", "b")},
    first=Layer(1, "tanh"),
)
PARTS = {
    "shared": {"weight": torch.arange(6.0).view(2, 3)},
    "experts/news": {"bias": torch.ones(2)},
}

finite = st.floats(allow_nan=False, allow_infinity=False)
layers = st.builds(Layer, st.integers(), st.sampled_from(["relu", "tanh", 3]), st.none() | finite)
networks = st.builds(
    Network,
    name=st.text(),
    rate=finite.map(abs),
    bias=st.booleans(),
    nothing=st.none(),
    layers=st.lists(layers, max_size=3).map(tuple),
    shape=st.tuples(st.integers(), st.text()),
    names=st.dictionaries(st.text(), st.lists(st.text(), max_size=3).map(tuple), max_size=3),
    first=st.none() | layers,
    limit=st.none() | st.integers() | st.text(),
)


@settings(max_examples=40, deadline=None)
@given(networks)
def test_any_config_comes_back_equal_and_with_its_types(network: Network) -> None:
    with tempfile.TemporaryDirectory() as name:
        save(Path(name), network, {})
        again, parts = load(Path(name), Network)
    assert again == network
    assert repr(again) == repr(network)
    assert parts == {}


def test_any_tensor_comes_back_bit_for_bit(tmp_path: Path) -> None:
    weight = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    tensors = {
        "double": weight.double().requires_grad_(),
        "half": weight.bfloat16(),
        "transposed": weight.T,
        "part": weight[1:3, ::2],
        "tied": weight,
        "tied too": weight,
        "whole": torch.tensor([2**62, -1]),
        "mask": torch.tensor([True, False]),
        "number": torch.tensor(3.5),
        "empty": torch.zeros(0, 7),
        "not finite": torch.tensor([torch.inf, -torch.inf, -0.0]),
    }
    save(tmp_path / "model", NETWORK, {"all": tensors})
    loaded = load(tmp_path / "model", Network)[1]["all"]
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor)
    assert torch.signbit(loaded["not finite"]).tolist() == [False, True, True]


def test_the_folder_holds_what_the_format_says(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "model"
    save(folder, NETWORK, PARTS)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    news, shared = folder / "experts/news.safetensors", folder / "shared.safetensors"
    assert files == [folder / "config.json", news, shared]
    assert os.listdir(folder.parent) == ["model"]
    layer = {"size": 3, "activation": "relu", "dropout": None}
    assert json.loads((folder / "config.json").read_text()) == {
        "format": 1,
        "type": "Network",
        "config": {
            "name": "Größe",
            "rate": 0.1,
            "bias": True,
            "nothing": None,
            "layers": [layer, {"size": 2, "activation": 3, "dropout": 0.5}],
            "shape": [4, "x"],
            "names": {"class": ["a", "b"]},
            "first": {"size": 1, "activation": "tanh", "dropout": None},
            "limit": None,
        },
        "parts": {
            "experts/news": {
                "file": "experts/news.safetensors",
                "sha256": hashlib.sha256(news.read_bytes()).hexdigest(),
            },
            "shared": {
                "file": "shared.safetensors",
                "sha256": hashlib.sha256(shared.read_bytes()).hexdigest(),
            },
        },
    }
    assert torch.equal(load_file(shared)["weight"], PARTS["shared"]["weight"])


def test_a_checkpoint_has_the_modes_of_any_new_file(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        save(tmp_path / "model", NETWORK, PARTS)
    finally:
        os.umask(before)
    for path in (tmp_path / "model", *(tmp_path / "model").rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o750 if path.is_dir() else 0o640), path


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    save(tmp_path / "one", NETWORK, PARTS)
    save(tmp_path / "two", NETWORK, dict(reversed(PARTS.items())))
    for path in (tmp_path / "one").rglob("*.*"):
        assert (
            path.read_bytes()
            == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()
        )


def test_only_the_parts_asked_for_are_read(tmp_path: Path) -> None:
    save(tmp_path, NETWORK, PARTS)
    (tmp_path / "experts/news.safetensors").unlink()
    assert load(tmp_path, Network, []) == (NETWORK, {})
    _, parts = load(tmp_path, Network, ["shared"])
    assert list(parts) == ["shared"]
    assert torch.equal(parts["shared"]["weight"], PARTS["shared"]["weight"])
    with pytest.raises(InputError) as caught:
        load(tmp_path, Network, ["shared", "experts/law"])
    assert str(caught.value) == (
        f"{tmp_path}/config.json: has no part 'experts/law' (parts: experts/news, shared)"
    )


# ------------------------------------------------------------------------ what is not replaced


def refusal(folder: Path, overwrite: bool = True) -> str:
    with pytest.raises(InputError) as caught:
        save(folder, NETWORK, PARTS, overwrite=overwrite)
    return str(caught.value)


def test_a_checkpoint_is_replaced_only_when_asked(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    save(folder, Tree(1), {"old": {}})
    assert (
        refusal(folder, overwrite=False)
        == f"{folder}: the folder is not empty, it holds a checkpoint"
    )
    assert load(folder, Tree) == (Tree(1), {"old": {}})
    save(folder, NETWORK, PARTS, overwrite=True)
    assert load(folder, Network)[0] == NETWORK
    assert not (folder / "old.safetensors").exists()
    assert os.listdir(tmp_path) == ["model"]


def test_a_link_to_a_checkpoint_stays_a_link(tmp_path: Path) -> None:
    save(tmp_path / "model", Tree(1), {})
    (tmp_path / "latest").symlink_to("model")
    save(tmp_path / "latest", Tree(2), {}, overwrite=True)
    assert (tmp_path / "latest").is_symlink()
    assert load(tmp_path / "model", Tree)[0] == Tree(2)


@pytest.mark.parametrize("overwrite", [False, True])
def test_other_peoples_files_are_never_replaced(tmp_path: Path, overwrite: bool) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    assert refusal(file, overwrite) == f"{file}: expected a folder, found a file"
    assert refusal(tmp_path, overwrite) == (
        f"{tmp_path}: the folder is not empty and holds no checkpoint of this version"
    )
    assert file.read_text() == "mine"


def test_a_file_added_to_a_checkpoint_is_never_lost(tmp_path: Path) -> None:
    save(tmp_path, NETWORK, PARTS)
    notes = tmp_path / "experts" / "notes.txt"
    notes.write_text("mine")
    assert refusal(tmp_path) == f"{notes}: not replaced, it is no part of the checkpoint there"
    assert notes.read_text() == "mine"


@pytest.mark.parametrize("part", ["", "/etc/x", "../x", "a//b", "a/../b", ".hidden", "a b", "a/"])
def test_a_part_cannot_be_outside_the_folder(tmp_path: Path, part: str) -> None:
    with pytest.raises(InputError) as caught:
        save(tmp_path / "model", NETWORK, {part: {}})
    assert str(caught.value) == f"part {part!r}: expected letters, digits and _-. between slashes"
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (replace(NETWORK, rate=float("inf")), "config.rate: expected float, found inf"),
        (replace(NETWORK, rate=float("nan")), "config.rate: expected float, found nan"),
        (replace(NETWORK, layers=(Layer(2.5),)), "config.layers[0].size: expected int, found 2.5"),
    ],
)
def test_a_config_that_could_not_be_read_again_is_not_saved(
    tmp_path: Path, config: Network, message: str
) -> None:
    with pytest.raises(InputError) as caught:
        save(tmp_path / "model", config, {})
    assert str(caught.value) == message
    assert os.listdir(tmp_path) == []


# ----------------------------------------------------- another index, further files, metadata

FILES: dict[str, str | bytes] = {"README.md": "# Größe\n", "words/all.bin": b"\x00\xff"}
NEWS = {"name": "news", "Größe": [1, 2.5, None]}


def save_all(folder: Path, depth: int = 1) -> None:
    """A checkpoint with all that there can be."""
    save(
        folder,
        Tree(depth),
        PARTS,
        index="tree.json",
        files=FILES,
        metadata={"experts/news": NEWS},
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_further_files_and_metadata_come_back(tmp_path: Path) -> None:
    save_all(tmp_path)
    assert sorted(contents(tmp_path)) == [
        "README.md",
        "experts/news.safetensors",
        "shared.safetensors",
        "tree.json",
        "words/all.bin",
    ]
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == FILES["README.md"]
    assert read_file(tmp_path, "words/all.bin", index="tree.json") == FILES["words/all.bin"]
    listing = json.loads((tmp_path / "tree.json").read_text(encoding="utf-8"))
    assert listing["files"]["words/all.bin"] == hashlib.sha256(b"\x00\xff").hexdigest()
    news = tmp_path / "experts/news.safetensors"
    assert read_header(news) == ({"bias": (2,)}, NEWS)
    assert read_header(tmp_path / "shared.safetensors") == ({"weight": (2, 3)}, {})
    assert torch.equal(read_part(news)["bias"], PARTS["experts/news"]["bias"])
    config, parts = load(tmp_path, Tree, index="tree.json")
    assert config == Tree(1)
    assert sorted(parts) == ["experts/news", "shared"]


@pytest.mark.parametrize("metadata", [None, NEWS])
def test_a_digest_is_that_of_the_file_to_be_written(
    tmp_path: Path, metadata: dict[str, Any] | None
) -> None:
    tensors = {"b": torch.ones(3, 2).T, "a": torch.arange(5)}
    save(tmp_path, Tree(1), {"x": tensors}, metadata={} if metadata is None else {"x": metadata})
    written = (tmp_path / "x.safetensors").read_bytes()
    assert digest(tensors, metadata) == hashlib.sha256(written).hexdigest()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../x", "file '../x': expected letters, digits and _-. between slashes"),
        ("tree.json", "file 'tree.json': expected another name, it is the checkpoint's own"),
        (
            "shared.safetensors",
            "file 'shared.safetensors': expected another name, it is the checkpoint's own",
        ),
    ],
)
def test_a_further_file_has_a_place_of_its_own(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        save(tmp_path / "model", Tree(1), PARTS, index="tree.json", files={name: ""})
    assert str(caught.value) == message
    assert os.listdir(tmp_path) == []


def test_a_changed_file_and_an_unknown_one_are_named(tmp_path: Path) -> None:
    save_all(tmp_path)
    (tmp_path / "README.md").write_text("other")
    for name, message in (
        ("README.md", "README.md: cut off or changed, its SHA-256 is not the one in tree.json"),
        ("notes", "tree.json: has no file 'notes' (files: README.md, words/all.bin)"),
    ):
        with pytest.raises(InputError) as caught:
            read_file(tmp_path, name, index="tree.json")
        assert str(caught.value) == f"{tmp_path}/{message}"
    (tmp_path / "words/all.bin").unlink()
    with pytest.raises(InputError) as caught:
        read_file(tmp_path, "words/all.bin", index="tree.json")
    assert str(caught.value) == f"{tmp_path}/words/all.bin: the file is missing"


def test_a_file_that_is_no_part_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    for read in (read_part, read_header):
        with pytest.raises(InputError) as caught:
            read(path)
        assert str(caught.value) == f"{path}: the file is missing"
    path.write_bytes(b"weights")
    for read in (read_part, read_header):
        with pytest.raises(InputError) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path}: expected a safetensors file (")
    save_file({"a": torch.ones(1)}, path, {"workingpapers": "[1"})
    with pytest.raises(InputError) as caught:
        read_header(path)
    assert str(caught.value) == f"{path}: expected JSON as its metadata, found '[1'"


# ------------------------------------------------------------------- a checkpoint that changes

LAW = {"bias": torch.full((2,), 2.0)}


def to_law(folder: Path, out: Path | None = None) -> list[Path]:
    """Replace the expert for news, and one of the files by another."""
    return change(
        folder,
        Tree(2),
        add={"experts/law": LAW},
        metadata={"experts/law": {"name": "law"}},
        remove=["experts/news"],
        files={"words/all.bin": None, "words/more": "more", "README.md": "# Klein\n"},
        index="tree.json",
        out=out,
    )


def state_of(folder: Path) -> int:
    """1 before `to_law` and 2 after it; all that belongs to the checkpoint is whole."""
    config, parts = load(folder, Tree, index="tree.json")
    other = {1: "experts/news", 2: "experts/law"}[config.depth]
    assert sorted(parts) == sorted(["shared", other])
    assert torch.equal(parts[other]["bias"], LAW["bias"] if config.depth == 2 else torch.ones(2))
    file = {1: "words/all.bin", 2: "words/more"}[config.depth]
    read_file(folder, file, index="tree.json")
    return config.depth


def test_a_change_makes_a_new_checkpoint_or_changes_the_old(tmp_path: Path) -> None:
    save_all(tmp_path / "old")
    before = contents(tmp_path / "old")
    assert to_law(tmp_path / "old", tmp_path / "new") == []
    assert contents(tmp_path / "old") == before
    after = contents(tmp_path / "new")
    assert sorted(after) == [
        "README.md",
        "experts/law.safetensors",
        "shared.safetensors",
        "tree.json",
        "words/more",
    ]
    assert after["shared.safetensors"] == before["shared.safetensors"]
    assert read_header(tmp_path / "new/experts/law.safetensors") == (
        {"bias": (2,)},
        {"name": "law"},
    )
    moved = to_law(tmp_path / "old")
    names = [path.relative_to(tmp_path / "old").as_posix() for path in moved]
    assert names == [".removed/news.safetensors", ".removed/all.bin"]
    assert [path.read_bytes() for path in moved] == [
        before["experts/news.safetensors"],
        before["words/all.bin"],
    ]
    left = contents(tmp_path / "old")
    assert {name: left[name] for name in left if name not in names} == after
    assert state_of(tmp_path / "new") == state_of(tmp_path / "old") == 2


def test_what_is_removed_never_overwrites_what_was(tmp_path: Path) -> None:
    save(tmp_path, Tree(0), {})
    for depth in range(3):
        change(tmp_path, Tree(1), add={"leaf": {"depth": torch.tensor(depth)}})
        (moved,) = change(tmp_path, Tree(1), remove=["leaf"])
        name = "leaf.safetensors" if depth == 0 else f"leaf-{depth + 1}.safetensors"
        assert moved == tmp_path / ".removed" / name
        assert load_file(moved)["depth"] == depth
    assert load(tmp_path, Tree) == (Tree(1), {})
    with pytest.raises(InputError) as caught:
        check_target(tmp_path, overwrite=True)
    assert str(caught.value) == (
        f"{tmp_path}/.removed/leaf-2.safetensors: not replaced, it is no part of the checkpoint "
        "there"
    )


def test_a_file_in_the_way_of_a_new_part_is_moved_aside(tmp_path: Path) -> None:
    save(tmp_path, Tree(0), {})
    (tmp_path / "leaf.safetensors").write_bytes(b"mine")
    change(tmp_path, Tree(1), add={"leaf": {}})
    assert load(tmp_path, Tree)[1] == {"leaf": {}}
    assert (tmp_path / ".removed/leaf.safetensors").read_bytes() == b"mine"


def test_what_a_change_cannot_do_is_named(tmp_path: Path) -> None:
    folder, out = tmp_path / "old", tmp_path / "new"
    save_all(folder)
    before = contents(folder)

    def refused(**arguments: Any) -> str:
        with pytest.raises(InputError) as caught:
            change(folder, Tree(2), index="tree.json", **arguments)
        assert contents(folder) == before
        assert not out.exists()
        return str(caught.value)

    assert refused(add={"shared": {}}) == f"{folder}/tree.json: has a part 'shared' already"
    assert refused(remove=["law"]) == (
        f"{folder}/tree.json: has no part 'law' (parts: experts/news, shared)"
    )
    assert refused(add={"../x": {}}) == (
        "part '../x': expected letters, digits and _-. between slashes"
    )
    assert refused(out=tmp_path) == (
        f"{tmp_path}: the folder is not empty and holds no checkpoint of this version"
    )
    shared = folder / "shared.safetensors"
    shared.write_bytes(shared.read_bytes()[:-1])
    before = contents(folder)
    assert refused(out=out, remove=["experts/news"]) == (
        f"{shared}: cut off or changed, its SHA-256 is not the one in tree.json"
    )
    shared.unlink()
    before = contents(folder)
    assert refused(out=out) == f"{shared}: the file is missing"
    # What is not asked for need not be there.
    assert change(folder, Tree(2), remove=["shared"], index="tree.json") == []


# ------------------------------------------------------------------- faults in a checkpoint


def change_config(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / "config.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def set_field(*keys: Any, to: Any) -> Callable[[Path], None]:
    def change(content: Any) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = to

    return lambda folder: change_config(folder, change)


def drop_field(*keys: Any) -> Callable[[Path], None]:
    def change(content: Any) -> None:
        for key in keys[:-1]:
            content = content[key]
        del content[keys[-1]]

    return lambda folder: change_config(folder, change)


def write(name: str, content: bytes) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_bytes(content)


def cut_off(folder: Path) -> None:
    path = folder / "shared.safetensors"
    path.write_bytes(path.read_bytes()[:-4])


def flip_a_bit(folder: Path) -> None:
    path = folder / "shared.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def cut_off_with_its_digest(folder: Path) -> None:
    cut_off(folder)
    digest = hashlib.sha256((folder / "shared.safetensors").read_bytes()).hexdigest()
    set_field("parts", "shared", "sha256", to=digest)(folder)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "config.json: the file is missing"),
        (
            write("config.json", b"weights: 3"),
            "config.json: expected JSON (Expecting value: line 1 column 1 (char 0))",
        ),
        (write("config.json", b"\xff\x00"), "config.json: expected JSON ("),
        (write("config.json", b"[" * 100_000), "config.json: expected JSON ("),
        (
            write("config.json", b"[1]"),
            "config.json: expected the config of a checkpoint, found other JSON",
        ),
        (
            write("config.json", b'{"model_type": "bert"}'),
            "config.json: expected the config of a checkpoint, found other JSON",
        ),
        (
            set_field("format", to=2),
            "config.json: written by another version, format 2 not 1",
        ),
        (
            set_field("type", to="Tree"),
            "config.json: holds a Tree, expected a Network",
        ),
        (drop_field("parts"), "config.json: parts: missing field"),
        (set_field("extra", to=1), "config.json: extra: unknown field"),
        (drop_field("config", "bias"), "config.json: config.bias: missing field"),
        (drop_field("config", "first", "size"), "config.json: config.first.size: missing field"),
        (
            set_field("config", "layers", 1, "sise", to=1),
            "config.json: config.layers[1].sise: unknown field",
        ),
        (
            set_field("config", "bias", to=1),
            "config.json: config.bias: expected bool, found 1",
        ),
        (
            set_field("config", "layers", 0, "size", to=True),
            "config.json: config.layers[0].size: expected int, found True",
        ),
        (
            set_field("config", "layers", 0, "activation", to="swish"),
            "config.json: config.layers[0].activation: "
            "expected Literal['relu', 'tanh', 3], found 'swish'",
        ),
        (
            set_field("config", "layers", 0, to=[]),
            "config.json: config.layers[0]: expected an object, found []",
        ),
        (
            set_field("config", "shape", to=[4]),
            "config.json: config.shape: expected tuple[int, str], found [4]",
        ),
        (
            set_field("config", "names", "class", to="ab"),
            "config.json: config.names.class: expected tuple[str, ...], found 'ab'",
        ),
        (
            set_field("config", "names", to=[]),
            "config.json: config.names: expected dict[str, tuple[str, ...]], found []",
        ),
        (
            set_field("config", "rate", to=10**400),
            "config.json: config.rate: expected float, found 1000",
        ),
        (
            set_field("config", "rate", to=-1),
            "config.json: rate: expected a number from 0, got -1",
        ),
        (
            set_field("parts", "shared", "file", to="../shared.safetensors"),
            "config.json: part 'shared' cannot be in the file '../shared.safetensors'",
        ),
        (
            lambda folder: (folder / "shared.safetensors").unlink(),
            "shared.safetensors: the file is missing",
        ),
        (
            cut_off,
            "shared.safetensors: cut off or changed, its SHA-256 is not the one in config.json",
        ),
        (
            flip_a_bit,
            "shared.safetensors: cut off or changed, its SHA-256 is not the one in config.json",
        ),
        (
            cut_off_with_its_digest,
            "shared.safetensors: expected a safetensors file (",
        ),
    ],
)
def test_every_fault_is_one_line_that_names_the_file(
    tmp_path: Path, spoil: Callable[[Path], Any], message: str
) -> None:
    save(tmp_path, NETWORK, PARTS)
    spoil(tmp_path)
    with pytest.raises(InputError) as caught:
        load(tmp_path, Network)
    text = str(caught.value)
    assert "\n" not in text
    if message[-1] == "(" or message.endswith("1000"):
        assert text.startswith(f"{tmp_path}/{message}")
        assert len(text) < len(str(tmp_path)) + 300
    else:
        assert text == f"{tmp_path}/{message}"


def test_what_is_no_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load(tmp_path / "model", Network)
    assert str(caught.value) == f"{tmp_path}/model: expected a checkpoint folder, found nothing"
    (tmp_path / "model").write_text("")
    with pytest.raises(InputError) as caught:
        load(tmp_path / "model", Network)
    assert str(caught.value) == f"{tmp_path}/model: expected a checkpoint folder, found a file"


@settings(max_examples=30, deadline=None)
@given(st.text(string.printable, max_size=40), st.integers(0, 700))
def test_no_edit_of_the_config_is_more_than_an_input_error(text: str, start: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save(folder, NETWORK, PARTS)
        path = folder / "config.json"
        content = path.read_text()
        path.write_text(content[:start] + text + content[start + len(text) :])
        message = str(folder)
        try:
            load(folder, Network)
        except InputError as error:
            message = str(error)
    assert message.startswith(str(folder))


# ------------------------------------------------------------------- a save that is cut short


def at_each_step(stop: Callable[[], Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def wrap(call: Callable[..., Any]) -> Callable[..., Any]:
        def stopping(*args: Any, **kwargs: Any) -> Any:
            stop()
            return call(*args, **kwargs)

        return stopping

    return wrap


def stop_at(patch: pytest.MonkeyPatch, number: int, stop: Callable[[], Any]) -> None:
    """Call `stop` before the call with this number to whatever changes the disk."""
    left = iter([False] * number + [True])

    def count() -> None:
        if next(left, False):
            stop()

    wrap = at_each_step(count)
    patch.setattr(checkpoints, "save_file", wrap(checkpoints.save_file))
    patch.setattr(checkpoints.shutil, "rmtree", wrap(checkpoints.shutil.rmtree))
    for name in ("fsync", "rename"):
        patch.setattr(os, name, wrap(getattr(os, name)))


def tree(depth: int) -> dict[str, dict[str, torch.Tensor]]:
    return {
        "tree": {"depth": torch.tensor(depth)},
        "more/leaves": {"count": torch.tensor(2**depth)},
    }


def depth_of(folder: Path) -> int:
    """The depth of the tree in the folder, which must be whole."""
    config, parts = load(folder, Tree)
    assert parts == tree(config.depth)
    return config.depth


def fail() -> None:
    raise OSError(28, "No space left on device")


def test_a_save_that_fails_leaves_the_old_checkpoint_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    save(folder, Tree(1), tree(1))
    failures = 0
    while depth_of(folder) == 1:
        with pytest.MonkeyPatch.context() as patch:
            stop_at(patch, failures, fail)
            with suppress(OSError):
                save(folder, Tree(2), tree(2), overwrite=True)
        if depth_of(folder) == 1:
            assert os.listdir(tmp_path) == ["model"]
            failures += 1
    # Two files, their sync and that of config.json and two folders, one move aside, one in place.
    assert failures >= 9


def save_killed_at_every_step(folder: Path) -> list[tuple[int, int]]:
    """How each of a row of saves ended (its signal), and the depth of the tree found after it."""
    save(folder, Tree(0), tree(0))
    ends: list[tuple[int, int]] = []
    while not ends or ends[-1][0]:
        pid = os.fork()
        if pid == 0:
            stop_at(pytest.MonkeyPatch(), len(ends), lambda: os.kill(os.getpid(), signal.SIGKILL))
            save(folder, Tree(len(ends) + 1), tree(len(ends) + 1), overwrite=True)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        ends.append((status, depth_of(folder)))
    return ends


def test_a_save_that_is_killed_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    ends = run_in_process(save_killed_at_every_step, tmp_path / "model")
    assert [status for status, _ in ends] == [signal.SIGKILL] * (len(ends) - 1) + [0]
    assert len(ends) > 10
    previous = 0
    for number, (_, depth) in enumerate(ends, start=1):
        assert depth in (previous, number)
        previous = depth
    assert ends[0][1] == 0
    assert ends[-1][1] == len(ends)


def test_a_change_that_fails_leaves_the_old_checkpoint_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    save_all(folder)
    before = contents(folder)
    failures = 0
    while True:
        with pytest.MonkeyPatch.context() as patch:
            stop_at(patch, failures, fail)
            with suppress(OSError):
                to_law(folder)
        if state_of(folder) == 2:
            break
        assert contents(folder) == before
        assert not (folder / ".adding").exists()
        failures += 1
    # The part, the file and their folders, synced and put in place, and the index.
    assert failures >= 9


def test_an_index_that_cannot_be_replaced_leaves_the_old_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_all(tmp_path)
    before = contents(tmp_path)
    monkeypatch.setattr(checkpoints, "write_atomically", lambda path, text: fail())
    with pytest.raises(OSError, match="No space left"):
        to_law(tmp_path)
    assert contents(tmp_path) == before


def change_killed_at_every_step(folder: Path) -> list[tuple[int, int]]:
    """How each of a row of changes ended (its signal), and what was found after it."""
    ends: list[tuple[int, int]] = []
    while not ends or ends[-1][0]:
        place = folder / str(len(ends))
        save_all(place)
        pid = os.fork()
        if pid == 0:
            patch = pytest.MonkeyPatch()
            kill = partial(os.kill, os.getpid(), signal.SIGKILL)
            stop_at(patch, len(ends), kill)
            to_law(place)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        found = state_of(place)
        if found == 1:
            # It can be done again, whatever the killed one has left.
            to_law(place)
            assert state_of(place) == 2
        ends.append((status, found))
    return ends


def test_a_change_that_is_killed_leaves_the_old_checkpoint_or_the_new(tmp_path: Path) -> None:
    ends = run_in_process(change_killed_at_every_step, tmp_path)
    assert [status for status, _ in ends] == [signal.SIGKILL] * (len(ends) - 1) + [0]
    assert len(ends) > 12
    found = [state for _, state in ends]
    assert found == sorted(found)
    assert found[0] == 1
    assert found[-2:] == [2, 2]


def test_a_checkpoint_that_was_moved_aside_is_found(tmp_path: Path) -> None:
    save_all(tmp_path / "model")
    (tmp_path / "model").rename(tmp_path / ".model.before")
    assert locate(tmp_path / "model") == tmp_path / ".model.before"
    assert state_of(tmp_path / "model") == 1
    assert locate(tmp_path / "other") == tmp_path / "other"


def _state(number: float) -> dict[str, Any]:
    return {
        "weights": {"a": torch.full((2, 3), number), "b": torch.tensor([1, 2])},
        # An optimizer's keys are whole numbers.
        "moments": {0: {"step": torch.tensor(number)}, 7: {}},
        "list": [1, "text", None, True, (torch.ones(1), 2.5)],
        "worst": -float("inf"),
    }


def test_a_training_state_comes_back_as_it_was(tmp_path: Path) -> None:
    save_training_state(tmp_path / "run", 3, _state(0.1))
    found = load_training_state(tmp_path / "run")
    assert found is not None
    step, state = found
    assert step == 3
    assert torch.equal(state["weights"]["a"], torch.full((2, 3), 0.1))
    assert state["weights"]["b"].dtype == torch.int64
    assert list(state["moments"]) == [0, 7]
    assert state["list"][:4] == [1, "text", None, True]
    assert state["list"][4][1] == 2.5
    assert state["worst"] == -float("inf")


def test_the_last_two_training_states_are_kept(tmp_path: Path) -> None:
    for step in (5, 10, 100):
        save_training_state(tmp_path, step, _state(step))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", "step-10", "step-100"]
    found = load_training_state(tmp_path)
    assert found is not None
    assert found[0] == 100
    # Written again, a step is replaced.
    save_training_state(tmp_path, 100, _state(1.0))
    found = load_training_state(tmp_path)
    assert found is not None
    assert found[1]["weights"]["a"][0, 0] == 1.0


@pytest.mark.parametrize("step", ["write", "rename", "latest"])
def test_a_killed_save_of_a_state_leaves_the_one_before(step: str, tmp_path: Path) -> None:
    save_training_state(tmp_path, 1, _state(1.0))
    if step == "write":
        (tmp_path / "step-2.partial").mkdir()
        (tmp_path / "step-2.partial" / "tensors.safetensors").write_bytes(b"half")
    else:
        save_training_state(tmp_path, 2, _state(2.0))
        if step == "rename":
            (tmp_path / "step-2").rename(tmp_path / "step-2.partial")
        (tmp_path / "latest").write_text("step-1\n")
    found = load_training_state(tmp_path)
    assert found is not None
    assert found[0] == 1
    save_training_state(tmp_path, 3, _state(3.0))
    assert not list(tmp_path.glob("*.partial"))


def test_no_training_state_is_none(tmp_path: Path) -> None:
    assert load_training_state(tmp_path / "nowhere") is None
    assert load_training_state(tmp_path) is None


def test_a_damaged_training_state_is_named(tmp_path: Path) -> None:
    save_training_state(tmp_path, 1, _state(1.0))
    (tmp_path / "latest").write_text("step-9\n")
    with pytest.raises(InputError, match="latest: names 'step-9', which is not there"):
        load_training_state(tmp_path)
    (tmp_path / "latest").write_text("step-1\n")
    text = (tmp_path / "step-1" / "state.json").read_text()
    (tmp_path / "step-1" / "state.json").write_text(text.replace('"format": 1', '"format": 2'))
    with pytest.raises(InputError, match="written by another version, format 2 not 1"):
        load_training_state(tmp_path)
    (tmp_path / "step-1" / "state.json").write_text(text[:-3])
    with pytest.raises(InputError, match=r"step-1/state\.json: not the state of a run"):
        load_training_state(tmp_path)
    with pytest.raises(TypeError, match="no values of type set"):
        save_training_state(tmp_path, 4, {"a": {1}})
