import hashlib
import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from workingpapers.demix import checkpoint
from workingpapers.demix.checkpoint import (
    Expert,
    Manifest,
    add_expert,
    describe,
    list_posteriors,
    load_model,
    load_parts,
    read_manifest,
    read_posterior,
    read_tokenizer,
    remove_expert,
    rename_expert,
    restrict,
    save_model,
    save_parts,
    save_posterior,
)
from workingpapers.demix.model import DEMixLM, LMConfig
from workingpapers.foundation import checkpoints
from workingpapers.foundation.errors import InputError

CONFIG = LMConfig(vocabulary=11, length=6, dim=8, layers=2, heads=2, hidden=12)
DOMAINS = ("news", "law", "tweets")
FEED_FORWARD = {
    f"blocks.{layer}.{name}"
    for layer in range(2)
    for name in ("up_weight", "up_bias", "down_weight", "down_bias")
}


def make_model(
    domains: tuple[str, ...] = DOMAINS,
    mode: Any = "ffn",
    seed: int = 0,
    config: LMConfig = CONFIG,
) -> DEMixLM:
    """Every weight of every expert is another."""
    torch.manual_seed(seed)
    model = DEMixLM(config, domains, experts=mode)
    for weight in model.parameters():
        weight.data = torch.randn_like(weight)
    return model


def make_tokenizer(words: str = "abcdefghijk") -> Tokenizer:
    return Tokenizer(WordLevel({word: number for number, word in enumerate(words)}, "a"))


def saved(folder: Path, **arguments: Any) -> DEMixLM:
    model = make_model(**arguments)
    save_model(folder, model, make_tokenizer())
    return model


def said(model: Any, experts: Any = None) -> torch.Tensor:
    return model.token_logprobs(torch.arange(11).repeat(2)[:18].view(3, 6), experts)


def same_weights(one: Any, other: Any) -> bool:
    """Whether all weights of two models are equal to the bit."""
    parts = [(one.shared_parameters(), other.shared_parameters())]
    parts += [(one.expert_parameters(n), other.expert_parameters(n)) for n in one.domains]
    return one.domains == other.domains and all(
        a.keys() == b.keys()
        and all(torch.equal(a[key], b[key]) and a[key].dtype == b[key].dtype for key in a)
        for a, b in parts
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def refusal(function: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
    with pytest.raises(InputError) as caught:
        function(*args, **kwargs)
    text = str(caught.value)
    assert "\n" not in text
    return text


# ---- whole models


def test_the_folder_holds_what_the_page_says(tmp_path: Path) -> None:
    experts = [Expert("news", None, 10), Expert("law", "news", 4), Expert("tweets")]
    save_model(
        tmp_path / "model",
        make_model(),
        make_tokenizer(),
        experts=experts,
        training={"steps": 7, "data": ["a"]},
        card="# A model\n",
    )
    files = contents(tmp_path / "model")
    assert sorted(files) == [
        "README.md",
        "demix.json",
        "experts/law.safetensors",
        "experts/news.safetensors",
        "experts/tweets.safetensors",
        "shared.safetensors",
        "tokenizer.json",
    ]
    content = json.loads(files["demix.json"])
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    assert content["format"] == 1
    assert content["config"] == {
        "kind": "DEMixLM",
        "mode": "ffn",
        "experts": [
            {"name": "news", "parent": None, "tokens": 10},
            {"name": "law", "parent": "news", "tokens": 4},
            {"name": "tweets", "parent": None, "tokens": 0},
        ],
        "model": {
            "vocabulary": 11,
            "length": 6,
            "dim": 8,
            "layers": 2,
            "heads": 2,
            "hidden": 12,
            "end_of_text": 0,
            "domain_tokens": False,
        },
        "tokenizer": "tokenizer.json",
        "shared_sha256": digests["shared.safetensors"],
        "training": {"steps": 7, "data": ["a"]},
    }
    recorded = {entry["file"]: entry["sha256"] for entry in content["parts"].values()}
    del digests["demix.json"]
    assert recorded | content["files"] == digests
    assert files["README.md"].decode() == (
        "# A model\n\n## Experts\n\n<!-- experts -->\n"
        "| expert | began as a copy of | tokens read since |\n|---|---|---|\n"
        "| news | - | 10 |\n| law | news | 4 |\n| tweets | - | 0 |\n<!-- end of experts -->\n"
    )


@pytest.mark.parametrize("mode", ["ffn", "all", "none"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_model_comes_back_bit_for_bit(tmp_path: Path, mode: Any, dtype: torch.dtype) -> None:
    model = make_model(mode=mode).to(dtype)
    save_model(tmp_path, model, make_tokenizer())
    before = torch.get_rng_state()
    again, tokenizer, manifest = load_model(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)
    assert same_weights(model, again)
    assert torch.equal(said(model), said(again))
    assert tokenizer is not None
    assert tokenizer.encode("c").ids == [2]
    assert manifest.mode == mode
    assert manifest.domains == model.domains
    assert (manifest.shared_sha256 is None) == (mode == "all")


def test_a_model_with_domain_tokens_comes_back(tmp_path: Path) -> None:
    config = LMConfig(vocabulary=11, length=6, dim=8, layers=1, heads=2, domain_tokens=True)
    model = make_model(mode="none", config=config)
    save_model(tmp_path, model)
    again, tokenizer, manifest = load_model(tmp_path)
    assert again.domains == manifest.domains == DOMAINS
    assert tokenizer is None
    assert torch.equal(said(model), said(again))
    assert refusal(load_model, tmp_path, ["law"]) == (
        f"{tmp_path}: a dense model has no experts to choose from"
    )


def test_an_expert_of_feed_forward_weights_is_a_file_of_these_only(tmp_path: Path) -> None:
    saved(tmp_path)
    shared = load_file(tmp_path / "shared.safetensors")
    assert not [name for name in shared if "feed_forward." in name]
    for name in DOMAINS:
        path = tmp_path / "experts" / f"{name}.safetensors"
        tensors = load_file(path)
        assert tensors.keys() == FEED_FORWARD
        # Two matrices and two biases in each of two layers, of four bytes a number.
        size = 4 * 2 * (2 * 8 * 12 + 8 + 12)
        assert sum(tensor.nbytes for tensor in tensors.values()) == size
        assert size < path.stat().st_size < size + 2000
    assert describe(tmp_path)[1] == {
        "name": "law",
        "parent": None,
        "tokens": 0,
        "parameters": 2 * (2 * 8 * 12 + 8 + 12),
        "file": "experts/law.safetensors",
        "bytes": (tmp_path / "experts/law.safetensors").stat().st_size,
    }


@pytest.mark.parametrize("mode", ["ffn", "all"])
def test_files_of_other_experts_are_not_read(tmp_path: Path, mode: Any) -> None:
    model = saved(tmp_path, mode=mode)
    (tmp_path / "experts/law.safetensors").write_bytes(b"nothing")
    (tmp_path / "README.md").unlink()
    again, _, manifest = load_model(tmp_path, ["tweets", "news"])
    assert again.domains == manifest.domains == ("tweets", "news")
    assert torch.equal(said(again), said(model, ["tweets", "news"]))
    (tmp_path / "experts/tweets.safetensors").unlink()
    again, _, _ = load_model(tmp_path, ["news"])
    assert torch.equal(said(again), said(model, ["news"]))
    assert refusal(load_model, tmp_path) == (
        f"{tmp_path}/experts/law.safetensors: cut off or changed, its SHA-256 is not the one in "
        "demix.json"
    )


@settings(max_examples=8, deadline=None)
@given(st.sampled_from([1, 2, 5, 13]), st.data())
def test_any_choice_of_any_number_of_experts_is_what_the_model_would_have(
    count: int, data: st.DataObject
) -> None:
    domains = tuple(f"d{number}" for number in range(count))
    chosen = data.draw(st.permutations(domains)).copy()[: data.draw(st.integers(1, count))]
    with tempfile.TemporaryDirectory() as name:
        model = saved(Path(name) / "model", domains=domains, config=replace(CONFIG, layers=1))
        loaded, _, _ = load_model(Path(name) / "model", chosen)
        restrict(Path(name) / "model", chosen, out=Path(name) / "some")
        some, _, _ = load_model(Path(name) / "some")
        model.select_experts(chosen)
        assert same_weights(model, loaded)
        assert same_weights(model, some)


def test_a_folder_is_replaced_only_when_asked(tmp_path: Path) -> None:
    saved(tmp_path / "model")
    other = make_model(("one",), seed=1)
    assert refusal(save_model, tmp_path / "model", other) == (
        f"{tmp_path}/model: the folder is not empty, it holds a checkpoint"
    )
    save_model(tmp_path / "model", other, overwrite=True)
    assert same_weights(other, load_model(tmp_path / "model")[0])
    assert refusal(save_model, tmp_path / "new", other, experts=[Expert("two")]) == (
        "experts: expected those of the model, one"
    )
    assert not (tmp_path / "new").exists()


# ---- experts, file by file


def test_saved_removed_and_added_again_an_expert_is_the_same_to_the_bit(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    model = saved(folder)
    before = contents(folder)
    moved = remove_expert(folder, "law", in_place=True)
    assert moved == [folder / ".removed/law.safetensors"]
    without, _, _ = load_model(folder)
    assert without.domains == ("news", "tweets")
    assert torch.equal(said(without), said(model, ["news", "tweets"]))
    add_expert(folder, "law", file=moved[0], in_place=True)
    assert read_manifest(folder).domains == ("news", "tweets", "law")
    restrict(folder, DOMAINS, in_place=True)
    after = contents(folder)
    assert after.pop(".removed/law.safetensors") == before["experts/law.safetensors"]
    assert after == before
    assert same_weights(model, load_model(folder)[0])


@pytest.mark.parametrize("in_place", [False, True])
def test_all_changes_leave_the_other_files_as_they_are(tmp_path: Path, in_place: bool) -> None:
    folder = tmp_path / "model"
    model = saved(folder)
    original = contents(folder)
    steps: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = [
        (add_expert, ("blogs",), {"init": "law"}),
        (add_expert, ("mean",), {}),
        (add_expert, ("random",), {"init": "random", "seed": 5}),
        (rename_expert, ("law", "courts"), {}),
        (remove_expert, ("tweets",), {}),
        (restrict, (["random", "news", "mean", "blogs"],), {}),
    ]
    model.add_expert("blogs", "law")
    model.add_expert("mean", "mean")
    model.add_expert("random", "random", 5)
    model.rename_expert("law", "courts")
    model.remove_expert("tweets")
    model.select_experts(["random", "news", "mean", "blogs"])
    for number, (change, arguments, options) in enumerate(steps):
        before = contents(folder)
        if in_place:
            change(folder, *arguments, **options, in_place=True)
        else:
            out = tmp_path / str(number)
            change(folder, *arguments, **options, out=out)
            assert contents(folder) == before
            assert not (out / ".removed").exists()
            folder = out
        after = contents(folder)
        for name in before.keys() & after.keys() - {"demix.json", "README.md"}:
            assert after[name] == before[name], name
        assert after["shared.safetensors"] == original["shared.safetensors"]
        assert after["tokenizer.json"] == original["tokenizer.json"]
    again, _, manifest = load_model(folder)
    assert same_weights(model, again)
    # "courts" is gone since, but it was the parent.
    assert manifest.experts[3] == Expert("blogs", "courts")
    assert manifest.experts[2] == Expert("mean")
    assert "| blogs | courts | 0 |" in (folder / "README.md").read_text()
    assert "tweets" not in (folder / "README.md").read_text()
    if in_place:
        names = sorted(path.name for path in (folder / ".removed").iterdir())
        assert names == ["courts.safetensors", "tweets.safetensors"]


@pytest.mark.parametrize("mode", ["ffn", "all"])
@pytest.mark.parametrize("init", ["mean", "random", "news"])
def test_a_new_expert_is_the_one_that_the_model_itself_would_add(
    tmp_path: Path, mode: Any, init: str
) -> None:
    model = saved(tmp_path / "model", mode=mode)
    before = torch.get_rng_state()
    add_expert(tmp_path / "model", "new", init=init, seed=3, out=tmp_path / "more")
    assert torch.equal(torch.get_rng_state(), before)
    model.add_expert("new", init, 3)
    assert same_weights(model, load_model(tmp_path / "more")[0])


def test_random_weights_are_gpt2s_for_the_width(tmp_path: Path) -> None:
    config = LMConfig(vocabulary=4, length=2, dim=64, layers=2, heads=1)
    save_model(tmp_path, make_model(("one",), config=config).bfloat16())
    add_expert(tmp_path, "new", init="random", in_place=True)
    tensors = load_file(tmp_path / "experts/new.safetensors")
    assert tensors["blocks.1.up_weight"].dtype == torch.bfloat16
    # Of 64 x 256 numbers the standard deviation is known to one in a hundred.
    wide = 0.02 * (768 / 64) ** 0.5
    assert float(tensors["blocks.1.up_weight"].float().std()) == pytest.approx(wide, rel=0.03)
    assert float(tensors["blocks.1.down_weight"].float().std()) == pytest.approx(wide / 2, rel=0.03)
    assert not tensors["blocks.0.up_bias"].any()
    assert not tensors["blocks.0.down_bias"].any()


def test_trained_weights_are_added_with_what_is_known_of_them(tmp_path: Path) -> None:
    model = saved(tmp_path)
    weights = {key: value + 1 for key, value in model.expert_parameters("law").items()}
    add_expert(tmp_path, "code", weights=weights, expert=Expert("code", "law", 99), in_place=True)
    again, _, manifest = load_model(tmp_path, ["code"])
    assert manifest.experts == (Expert("code", "law", 99),)
    found = again.expert_parameters("code")
    assert all(torch.equal(found[key], weights[key]) for key in weights)
    # The file tells it to whoever it is sent to.
    add_expert(
        tmp_path, "other", file=tmp_path / "experts/code.safetensors", out=tmp_path.parent / "sent"
    )
    assert read_manifest(tmp_path.parent / "sent").experts[-1] == Expert("other", "law", 99)


def test_an_index_that_cannot_be_replaced_leaves_the_model_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path)
    before = contents(tmp_path)

    def fail(path: Path, content: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "write_atomically", fail)
    for change in (
        lambda: add_expert(tmp_path, "new", in_place=True),
        lambda: remove_expert(tmp_path, "law", in_place=True),
        lambda: rename_expert(tmp_path, "law", "courts", in_place=True),
    ):
        with pytest.raises(OSError, match="No space left"):
            change()
        assert contents(tmp_path) == before
        assert load_model(tmp_path)[0].domains == DOMAINS


# ---- what is refused


def test_what_the_operations_refuse(tmp_path: Path) -> None:
    folder, out = tmp_path / "model", tmp_path / "out"
    saved(folder)
    before = contents(folder)
    both = "out: expected a folder for the result, or in_place, and not both"
    cases: list[tuple[str, Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = [
        (both, add_expert, ("new",), {"out": None}),
        (both, remove_expert, ("law",), {"in_place": True}),
        (
            "domain 'medicine': expected one of news, law, tweets",
            remove_expert,
            ("medicine",),
            {},
        ),
        (
            "domain 'medicine': expected one of news, law, tweets",
            rename_expert,
            ("medicine", "x"),
            {},
        ),
        ("domain 'medicine': expected one of news, law, tweets", restrict, (["medicine"],), {}),
        ("experts: expected at least one to be left", restrict, ([],), {}),
        ("experts ['law', 'law']: expected one or more, each once", restrict, (["law"] * 2,), {}),
        ("domain 'law': there is one of this name", add_expert, ("law",), {}),
        ("domain 'LAW': there is one of this name", rename_expert, ("news", "LAW"), {}),
        (
            "domain '../x': expected at most 64 letters, digits and _.-, not beginning with . or -",
            add_expert,
            ("../x",),
            {},
        ),
        (
            "init 'medicine': expected mean, random or news, law, tweets",
            add_expert,
            ("new",),
            {"init": "medicine"},
        ),
        (
            "init, file, weights: expected one of them",
            add_expert,
            ("new",),
            {"init": "mean", "file": folder / "experts/law.safetensors"},
        ),
        (
            "expert 'x': expected the name 'new'",
            add_expert,
            ("new",),
            {"expert": Expert("x")},
        ),
        (
            f"{tmp_path}/x.safetensors: the file is missing",
            add_expert,
            ("new",),
            {"file": tmp_path / "x.safetensors"},
        ),
        (
            f"{tmp_path}: the folder is not empty and holds no checkpoint of this version",
            remove_expert,
            ("law",),
            {"out": tmp_path},
        ),
    ]
    for message, function, arguments, options in cases:
        assert refusal(function, folder, *arguments, **{"out": out, **options}) == message
        assert contents(folder) == before
        assert not out.exists()
    restrict(folder, ["law"], in_place=True)
    assert refusal(remove_expert, folder, "law", out=out) == (
        "experts: expected at least one to be left"
    )


def test_the_expert_of_another_model_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    saved(folder)
    file = tmp_path / "other/experts/law.safetensors"

    def refused(**arguments: Any) -> str:
        saved(tmp_path / "other", **arguments)
        text = refusal(add_expert, folder, "new", file=file, in_place=True)
        for path in sorted((tmp_path / "other").rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        return text

    assert refused(seed=1) == (
        f"{file}: an expert of another model, trained with other shared weights than "
        f"{folder}/shared.safetensors"
    )
    # Heads leave no trace in the shapes.
    heads = LMConfig(vocabulary=11, length=6, dim=8, layers=2, heads=4, hidden=12)
    assert refused(config=heads) == (
        f"{file}: an expert of another model, with other settings or another tokenizer than "
        f"{folder}/demix.json"
    )
    assert refused(mode="all") == (
        f"{file}: an expert of another model, DEMixLM all; expected DEMixLM ffn as in "
        f"{folder}/demix.json"
    )
    assert read_manifest(folder).domains == DOMAINS
    saved(tmp_path / "other", seed=1)
    add_expert(folder, "new", file=file, out=tmp_path / "mixed", strict=False)
    # It stays the expert of another model.
    assert refusal(load_model, tmp_path / "mixed") == (
        f"{tmp_path}/mixed/experts/new.safetensors: an expert of another model, trained with "
        f"other shared weights than {tmp_path}/mixed/shared.safetensors"
    )
    mixed, _, _ = load_model(tmp_path / "mixed", strict=False)
    assert mixed.domains == (*DOMAINS, "new")
    assert load_model(tmp_path / "mixed", DOMAINS)[0].domains == DOMAINS


def test_whole_models_with_other_words_do_not_go_together(tmp_path: Path) -> None:
    for name, words in (("one", "abcdefghijk"), ("two", "kjihgfedcba"), ("three", "abcdefghijk")):
        save_model(tmp_path / name, make_model((name,), "all"), make_tokenizer(words))
    file = tmp_path / "two/experts/two.safetensors"
    assert refusal(add_expert, tmp_path / "one", "two", file=file, in_place=True) == (
        f"{file}: an expert of another model, with other settings or another tokenizer than "
        f"{tmp_path}/one/demix.json"
    )
    # Branches of one seed model, trained elsewhere.
    three = tmp_path / "three/experts/three.safetensors"
    add_expert(tmp_path / "one", "three", file=three, in_place=True)
    assert load_model(tmp_path / "one")[0].domains == ("one", "three")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda tensors: tensors.pop("blocks.1.up_bias"),
            "the tensor 'blocks.1.up_bias' is missing, by those of",
        ),
        (
            lambda tensors: tensors.update(head=torch.ones(1)),
            "the tensor 'head' is unknown, by those of",
        ),
        (
            lambda tensors: tensors.update({"blocks.0.up_bias": torch.ones(3)}),
            "the tensor 'blocks.0.up_bias' has shape (3,), expected (12,) as in",
        ),
    ],
)
def test_a_file_of_other_tensors_is_never_an_expert(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    saved(tmp_path / "model")
    news = tmp_path / "model/experts/news.safetensors"
    tensors = load_file(news)
    change(tensors)
    path = tmp_path / "x.safetensors"
    save_file(tensors, path)
    assert refusal(add_expert, tmp_path / "model", "x", file=path, in_place=True, strict=False) == (
        f"{path}: {message} {news}"
    )
    assert refusal(add_expert, tmp_path / "model", "x", file=path, in_place=True) == (
        f"{path}: expected an expert's file, with metadata of its model"
    )
    assert refusal(add_expert, tmp_path / "model", "x", weights=tensors, in_place=True) == (
        f"expert 'x': {message} {news}"
    )


def test_a_truncated_expert_is_named(tmp_path: Path) -> None:
    saved(tmp_path / "model")
    path = tmp_path / "model/experts/law.safetensors"
    whole = path.read_bytes()
    sent = tmp_path / "sent.safetensors"
    for size in (3, 200, len(whole) - 1):
        sent.write_bytes(whole[:size])
        text = refusal(add_expert, tmp_path / "model", "x", file=sent, in_place=True)
        assert text.startswith(f"{sent}: expected a safetensors file (")
    path.write_bytes(whole[:-1])
    message = f"{path}: cut off or changed, its SHA-256 is not the one in demix.json"
    assert refusal(load_model, tmp_path / "model", ["law"]) == message
    assert refusal(rename_expert, tmp_path / "model", "law", "x", in_place=True) == message
    assert refusal(remove_expert, tmp_path / "model", "news", out=tmp_path / "x") == message
    # It can be removed, with the folder's other experts whole.
    remove_expert(tmp_path / "model", "law", out=tmp_path / "rest")
    assert load_model(tmp_path / "rest")[0].domains == ("news", "tweets")


def edit(folder: Path, *keys: Any, to: Any) -> None:
    path = folder / "demix.json"
    content = inside = json.loads(path.read_text())
    for key in keys[:-1]:
        inside = inside[key]
    inside[keys[-1]] = to
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("keys", "to", "message"),
    [
        (("format",), 2, "written by another version, format 2 not 1"),
        (("type",), "Tree", "holds a Tree, expected a Manifest"),
        (("config", "kind"), "GPT", None),
        (("config", "experts"), [], "experts: expected one or more"),
        (
            ("config", "experts", 0, "name"),
            "a/b",
            "domain 'a/b': expected at most 64 letters, digits and _.-, not beginning with . or -",
        ),
        (("config", "experts", 0, "name"), "law", "domain 'law': there is one of this name"),
        (("config", "experts", 0, "tokens"), -1, "tokens -1: expected at least 0"),
        (("config", "model", "heads"), 3, "heads 3: expected a divisor of dim 8"),
        (("config", "kind"), "DEMixForCausalLM", ""),
        (("config", "tokenizer"), "../x", "tokenizer '../x': expected 'tokenizer.json'"),
        (
            ("config", "mode"),
            "all",
            "shared_sha256: expected none, the experts are whole models",
        ),
    ],
)
def test_every_fault_of_the_manifest_is_named(
    tmp_path: Path, keys: tuple[Any, ...], to: Any, message: str | None
) -> None:
    saved(tmp_path)
    edit(tmp_path, *keys, to=to)
    if message == "":
        # A wrapped decoder is possible, by the manifest alone.
        assert read_manifest(tmp_path).kind == to
        return
    text = refusal(load_model, tmp_path)
    if message is None:
        message = "config.kind: expected Literal['DEMixLM', 'DEMixForCausalLM'], found 'GPT'"
    assert text == f"{tmp_path}/demix.json: {message}"


def test_faults_of_a_manifest_that_is_made() -> None:
    expert = (Expert("news"),)
    assert refusal(Manifest, "DEMixForCausalLM", "all", expert) == (
        "mode 'all': expected 'ffn' of a DEMixForCausalLM"
    )
    assert refusal(
        Manifest, "DEMixForCausalLM", "ffn", expert, training={"loss": float("nan")}
    ).startswith("training: expected what JSON can hold (")
    assert refusal(Manifest, "DEMixLM", "ffn", expert, {"dim": 3}) == (
        "model.vocabulary: missing field"
    )


def test_what_is_no_folder_of_a_model_is_named(tmp_path: Path) -> None:
    expected = "expected the folder of a model, with its demix.json, found"
    (tmp_path / "file").write_text("")
    (tmp_path / "config.json").write_text("{}")
    for name, found in (("", "none"), ("file", "a file"), ("absent", "nothing")):
        for function, more in (
            (load_model, ()),
            (read_manifest, ()),
            (remove_expert, ("law",)),
            (read_posterior, ("law",)),
            (describe, ()),
        ):
            assert (
                refusal(function, tmp_path / name, *more)
                == f"{tmp_path / name}: {expected} {found}"
            )


def test_a_dense_model_has_no_experts_to_change(tmp_path: Path) -> None:
    saved(tmp_path, mode="none")
    message = f"{tmp_path}: expected a model with experts, this one is dense"
    assert refusal(add_expert, tmp_path, "x", in_place=True) == message
    assert refusal(remove_expert, tmp_path, "dense", in_place=True) == message
    assert describe(tmp_path) == [{"name": "dense", "parent": None, "tokens": 0}]


def test_weights_that_do_not_fit_the_manifest_are_named(tmp_path: Path) -> None:
    saved(tmp_path)
    edit(tmp_path, "config", "model", "hidden", to=16)
    assert refusal(load_model, tmp_path, strict=False) == (
        f"{tmp_path}: expert 'news': the tensor 'blocks.0.up_weight' has shape (8, 12), expected "
        "(8, 16)"
    )


def test_a_tokenizer_that_is_none_is_named(tmp_path: Path) -> None:
    text = json.dumps({"model": {"vocab": {}}})
    manifest = read_parts_of(tmp_path / "model")
    save_parts(tmp_path / "bad", *manifest, {"tokenizer.json": text})
    assert refusal(read_tokenizer, tmp_path / "bad").startswith(
        f"{tmp_path}/bad/tokenizer.json: expected a tokenizer ("
    )
    (tmp_path / "bad/tokenizer.json").write_text(text + " ")
    assert refusal(load_model, tmp_path / "bad") == (
        f"{tmp_path}/bad/tokenizer.json: cut off or changed, its SHA-256 is not the one in "
        "demix.json"
    )
    assert refusal(save_parts, tmp_path / "x", *manifest, {"tokenizer.json": "{"}) == (
        "tokenizer.json: expected the JSON of a tokenizer"
    )


def read_parts_of(folder: Path) -> tuple[Manifest, Any, Any]:
    saved(folder)
    return load_parts(folder)


# ---- a wrapped decoder, as files


def test_the_config_of_a_wrapped_decoder_follows_the_manifest(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    weights = {name: {"mlp.weight": torch.full((2,), float(i))} for i, name in enumerate(DOMAINS)}
    manifest = Manifest("DEMixForCausalLM", "ffn", tuple(map(Expert, DOMAINS)))
    config = json.dumps({"model_type": "demix", "domains": DOMAINS, "größe": "ü"})
    save_parts(
        folder,
        manifest,
        {"head.weight": torch.ones(3)},
        weights,
        {"config.json": config, "merges.txt": b"a b\n"},
        card="# Wrapped",
    )
    add_expert(folder, "new", in_place=True)
    rename_expert(folder, "law", "courts", in_place=True)
    remove_expert(folder, "news", in_place=True)
    content = json.loads((folder / "config.json").read_bytes())
    names = ["courts", "tweets", "new"]
    assert content == {"model_type": "demix", "domains": names, "größe": "ü"}
    again, shared, experts = load_parts(folder)
    assert list(again.domains) == list(experts) == names
    assert torch.equal(shared["head.weight"], torch.ones(3))
    assert [float(experts[name]["mlp.weight"][0]) for name in names] == [1.0, 2.0, 1.0]
    assert (folder / "merges.txt").read_bytes() == b"a b\n"
    (folder / "config.json").write_text("[]")
    assert refusal(remove_expert, folder, "new", in_place=True) == (
        f"{folder}/config.json: expected the config of a decoder, found other JSON"
    )
    assert refusal(save_parts, tmp_path / "x", manifest, {}, {"law": {}}) == (
        "experts: expected those of the manifest, news, law, tweets"
    )


# ---- posteriors


def test_a_posterior_comes_back_and_follows_its_experts(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    saved(folder)
    assert list_posteriors(folder) == []
    save_posterior(folder, "mail", {"news": 1, "law": 3.0})
    save_posterior(folder, "code", {"tweets": 1.0})
    save_posterior(folder, "code", {"law": 2.0})
    assert list_posteriors(folder) == ["code", "mail"]
    assert read_posterior(folder, "mail") == {"news": 0.25, "law": 0.75, "tweets": 0.0}
    assert read_posterior(folder, "code") == {"news": 0.0, "law": 1.0, "tweets": 0.0}
    add_expert(folder, "new", out=tmp_path / "more")
    assert read_posterior(tmp_path / "more", "mail") == {
        "news": 0.25,
        "law": 0.75,
        "tweets": 0.0,
        "new": 0.0,
    }
    rename_expert(folder, "law", "courts", in_place=True)
    assert read_posterior(folder, "mail") == {"news": 0.25, "courts": 0.75, "tweets": 0.0}
    remove_expert(folder, "courts", out=tmp_path / "less")
    # Nothing is known of the rest by the one that gave all to the expert that is gone.
    assert list_posteriors(tmp_path / "less") == ["mail"]
    assert read_posterior(tmp_path / "less", "mail") == {"news": 1.0, "tweets": 0.0}
    moved = remove_expert(folder, "courts", in_place=True)
    assert [path.name for path in moved] == ["courts.safetensors", "code.json"]
    assert list_posteriors(folder) == ["mail"]
    assert load_model(folder)[0].domains == ("news", "tweets")
    # All files are the checkpoint's own.
    restrict(folder, ["news"], out=tmp_path / "less", overwrite=True)
    assert read_posterior(tmp_path / "less", "mail") == {"news": 1.0}


def test_a_posterior_may_be_written_by_hand(tmp_path: Path) -> None:
    saved(tmp_path / "model")
    (tmp_path / "model/posteriors").mkdir()
    path = tmp_path / "model/posteriors/mine.json"
    path.write_text('{"weights": {"law": 1, "tweets": 1}}')
    expected = {"news": 0.0, "law": 0.5, "tweets": 0.5}
    assert read_posterior(tmp_path / "model", "mine") == expected
    add_expert(tmp_path / "model", "new", out=tmp_path / "more")
    assert read_posterior(tmp_path / "more", "mine") == expected | {"new": 0.0}
    for text, message in (
        ("[", "Expecting value: line 1 column 2 (char 1)"),
        ('{"weights": {"x": 1}}', "domain 'x': expected one of news, law, tweets"),
        ('{"weights": {"law": 0}}', "weights: expected one above 0"),
        ('{"weights": {"law": -1}}', "weight law=-1.0: expected a number of at least 0"),
        ('{"weights": {"law": "x"}}', "weights.law: expected float, found 'x'"),
        ("{}", "weights: missing field"),
        ("[]", "expected an object, found []"),
    ):
        path.write_text(text)
        assert refusal(read_posterior, tmp_path / "model", "mine") == f"{path}: {message}"
    assert refusal(read_posterior, tmp_path / "model", "other") == (
        f"{tmp_path}/model: has no posterior of 'other' (of: mine)"
    )
    assert refusal(save_posterior, tmp_path / "model", "x", {"medicine": 1.0}) == (
        "domain 'medicine': expected one of news, law, tweets"
    )
    assert refusal(save_posterior, tmp_path / "model", "../x", {"law": 1.0}).startswith(
        "domain '../x': expected at most 64 letters"
    )


# ---- the card


def test_a_card_without_its_marks_is_left_alone(tmp_path: Path) -> None:
    saved(tmp_path)
    assert (tmp_path / "README.md").read_text().startswith("# A language model of 3 domains\n\n")
    (tmp_path / "README.md").write_text("# Mine\n")
    add_expert(tmp_path, "new", in_place=True)
    assert (tmp_path / "README.md").read_text() == "# Mine\n"
    (tmp_path / "README.md").write_text("A\n<!-- experts -->old<!-- end of experts -->\nB\n")
    remove_expert(tmp_path, "new", in_place=True)
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("A\n<!-- experts -->\n| expert |")
    assert text.endswith("| tweets | - | 0 |\n<!-- end of experts -->\nB\n")
    (tmp_path / "README.md").unlink()
    remove_expert(tmp_path, "tweets", in_place=True)
    assert checkpoint.load_model(tmp_path)[0].domains == ("news", "law")


def test_an_expert_added_to_the_files_of_a_wrapped_decoder_is_the_models_own(
    tmp_path: Path,
) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    from workingpapers.demix.pretrained import DEMixForCausalLM

    config = GPT2Config(
        vocab_size=11, n_positions=6, n_embd=8, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
    )
    model = DEMixForCausalLM.from_decoder(GPT2LMHeadModel(config), DOMAINS)
    save_model(tmp_path, model, make_tokenizer(), experts=[Expert(name) for name in DOMAINS])
    for name, init in (("copy", "law"), ("random", "random")):
        add_expert(tmp_path, name, init=init, seed=3, in_place=True)
        model.add_expert(name, init, 3)
    again, tokenizer, manifest = load_model(tmp_path)
    assert same_weights(model, again)
    assert tokenizer is not None
    assert manifest.experts[3:] == (Expert("copy", "law"), Expert("random"))
