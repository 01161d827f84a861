"""Modular language models as folders, in which an expert is a file that can be sent by mail.

demix.json: the manifest: what the model is, its experts in their order, the files' SHA-256;
tokenizer.json: of the package tokenizers;
shared.safetensors: the weights that all domains share;
experts/NAME.safetensors: the weights that one expert only has;
posteriors/TARGET.json: weights of the experts, estimated on text of some domain;
README.md: the model card;
config.json and others: of a wrapped decoder, what transformers writes.

The file of an expert says in its metadata which shared weights it was trained with, so that an
expert of another model is noticed. Adding, removing and renaming experts reads and writes no more
than the files of these, in a copy of the folder or in place.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Shaped
from torch import Tensor

from workingpapers.demix.model import DEMixLM, LMConfig
from workingpapers.demix.protocol import (
    ModularLM,
    check_name,
    check_names,
    expert_number,
    expert_numbers,
    mixing_weights,
)
from workingpapers.foundation import checkpoints
from workingpapers.foundation.checkpoints import Tensors, decode
from workingpapers.foundation.errors import InputError, missing_package
from workingpapers.foundation.tables import listed

if TYPE_CHECKING:
    from tokenizers import Tokenizer

INDEX = "demix.json"
TOKENIZER = "tokenizer.json"
CARD = "README.md"
SHARED = "shared"
"""The part of the weights that all domains share."""

_DECODER_CONFIG = "config.json"
_FIRST_MARK, _LAST_MARK = "<!-- experts -->", "<!-- end of experts -->"

Loaded = dict[str, Shaped[Tensor, "..."]]


@dataclass(frozen=True)
class Expert:
    """An expert of a model; InputError for impossible values."""

    name: str
    parent: str | None = None
    """The expert whose weights it began with; None: none, or random ones."""
    tokens: int = 0
    """Tokens of its domain that it was trained on since then."""

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.tokens < 0:
            raise InputError(f"tokens {self.tokens}: expected at least 0")


@dataclass(frozen=True)
class Manifest:
    """What a folder holds, kept in demix.json; InputError for impossible values.

    A dense model (`mode` "none") has no files of experts; its `experts` are the domains that its
    tokens tell apart.
    """

    kind: Literal["DEMixLM", "DEMixForCausalLM"]
    mode: Literal["ffn", "all", "none"]
    experts: tuple[Expert, ...]
    model: dict[str, Any] = field(default_factory=dict)
    """The LMConfig of a DEMixLM; a wrapped decoder's is in config.json."""
    tokenizer: str | None = None
    """Its file, where there is one."""
    shared_sha256: str | None = None
    """Of shared.safetensors; None where experts are whole models, and before it is saved."""
    training: dict[str, Any] = field(default_factory=dict)
    """Data, settings and whatever else, for the reader of the folder."""

    def __post_init__(self) -> None:
        if not self.experts:
            raise InputError("experts: expected one or more")
        check_names(self.domains)
        if self.kind == "DEMixLM":
            decode(LMConfig, self.model, "model")
        elif self.mode != "ffn":
            raise InputError(f"mode {self.mode!r}: expected 'ffn' of a {self.kind}")
        if self.tokenizer not in (None, TOKENIZER):
            raise InputError(f"tokenizer {self.tokenizer!r}: expected {TOKENIZER!r}")
        if self.shared_sha256 is not None and self.mode == "all":
            raise InputError("shared_sha256: expected none, the experts are whole models")
        try:
            json.dumps([self.model, self.training], allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise InputError(f"training: expected what JSON can hold ({error})") from None

    @property
    def domains(self) -> tuple[str, ...]:
        """Names of the experts, in their order."""
        return tuple(expert.name for expert in self.experts)

    def chosen(self, names: Sequence[str | int] | None) -> "Manifest":
        """The same with these experts only, in this order."""
        numbers = expert_numbers(self.domains, names)
        return replace(self, experts=tuple(self.experts[number] for number in numbers))


# ---- whole models


def save_model(
    folder: Path,
    model: ModularLM,
    tokenizer: "Tokenizer | Any | None" = None,
    *,
    experts: Sequence[Expert] | None = None,
    training: Mapping[str, Any] | None = None,
    card: str = "",
    overwrite: bool = False,
) -> None:
    """Write a model to a folder, whole or not at all.

    `experts` tells where they come from, in the order of the model's domains; `card` is the text of
    README.md, to which a table of the experts is added. An existing folder is replaced if it is
    empty or, with `overwrite`, such a folder and nothing more; else InputError.
    """
    if experts is not None and tuple(expert.name for expert in experts) != model.domains:
        raise InputError(f"experts: expected those of the model, {listed(model.domains)}")
    known = tuple(experts or map(Expert, model.domains))
    if not isinstance(model, DEMixLM):
        wrapped: Any = model
        wrapped.save_pretrained(
            folder,
            tokenizer=tokenizer,
            experts=known,
            training=training,
            card=card,
            overwrite=overwrite,
        )
        return
    manifest = Manifest(
        "DEMixLM", model.experts, known, asdict(model.config), training=dict(training or {})
    )
    weights = {name: model.expert_parameters(name) for name in model.domains}
    files = {} if tokenizer is None else {TOKENIZER: tokenizer.to_str(pretty=True)}
    save_parts(
        folder, manifest, model.shared_parameters(), weights, files, card=card, overwrite=overwrite
    )


def load_model(
    folder: Path,
    experts: Sequence[str] | None = None,
    device: str | torch.device = "cpu",
    *,
    strict: bool = True,
) -> tuple[ModularLM, "Tokenizer | None", Manifest]:
    """A model with the experts named (None: all), its tokenizer, and the manifest of these experts.

    Files of other experts are not read. InputError, one line that names the file, for one that is
    missing, cut off or changed, for an unknown expert, and unless `strict` is False for an expert
    that was trained with other shared weights.
    """
    folder = _folder(folder)
    tokenizer = read_tokenizer(folder)
    if read_manifest(folder).kind == "DEMixForCausalLM":
        from workingpapers.demix.pretrained import DEMixForCausalLM

        pretrained: Any = DEMixForCausalLM
        wrapped = pretrained.from_pretrained(folder, experts=experts, strict=strict).to(device)
        return wrapped, tokenizer, read_manifest(folder).chosen(experts)
    manifest, shared, weights = load_parts(folder, experts, strict=strict)
    with torch.device("meta"):
        model = DEMixLM(
            decode(LMConfig, manifest.model, "model"), manifest.domains, experts=manifest.mode
        )
    like = next(tensor for part in (shared, *weights.values()) for tensor in part.values())
    model = model.to(like.dtype).to_empty(device=device)
    try:
        model.load_shared(shared)
        for name, tensors in weights.items():
            model.load_expert(name, tensors)
    except InputError as error:
        raise InputError(f"{folder}: {error}") from None
    return model, tokenizer, manifest


def save_parts(
    folder: Path,
    manifest: Manifest,
    shared: Tensors,
    experts: Mapping[str, Tensors],
    files: Mapping[str, str | bytes] = checkpoints.NOTHING,
    *,
    card: str = "",
    overwrite: bool = False,
) -> None:
    """Write a folder from the weights: `shared` of all domains, `experts` by their names.

    `files` are further ones by name, the tokenizer's among them; the manifest's `tokenizer` and
    `shared_sha256` are set by what is written. See `save_model`.
    """
    modular = manifest.mode != "none"
    if tuple(experts) != manifest.domains:
        raise InputError(f"experts: expected those of the manifest, {listed(manifest.domains)}")
    manifest = replace(
        manifest,
        tokenizer=TOKENIZER if TOKENIZER in files else None,
        shared_sha256=None if manifest.mode == "all" else checkpoints.digest(shared),
    )
    model = _fingerprint(manifest, files.get(TOKENIZER))
    parts = {_part(name): tensors for name, tensors in experts.items()} if modular else {}
    checkpoints.save(
        folder,
        manifest,
        parts if manifest.mode == "all" else {SHARED: shared, **parts},
        overwrite=overwrite,
        index=INDEX,
        files={**files, CARD: _card(manifest, card)},
        metadata={
            _part(expert.name): _label(expert, manifest, model) for expert in manifest.experts
        },
    )


def load_parts(
    folder: Path,
    experts: Sequence[str] | None = None,
    device: str | torch.device = "cpu",
    *,
    strict: bool = True,
) -> tuple[Manifest, Loaded, dict[str, Loaded]]:
    """The manifest, the shared weights and those of each expert named (None: all).

    The manifest has these experts only. See `load_model`.
    """
    folder = _folder(folder)
    whole = read_manifest(folder)
    manifest = whole.chosen(experts)
    names = manifest.domains if whole.mode != "none" else ()
    if not names and len(manifest.experts) < len(whole.experts):
        raise InputError(f"{folder}: a dense model has no experts to choose from")
    wanted = [_part(name) for name in names]
    if whole.mode != "all":
        wanted = [SHARED, *wanted]
    _, parts = checkpoints.load(folder, Manifest, wanted, device, index=INDEX)
    if strict and names:
        model = _fingerprint(whole, _tokenizer_text(folder, whole))
        for name in names:
            path = _file(folder, name)
            _check_origin(path, checkpoints.read_header(path)[1], folder, whole, model)
    return manifest, parts.get(SHARED, {}), {name: parts[_part(name)] for name in names}


def read_manifest(folder: Path) -> Manifest:
    """What demix.json says; InputError names the folder or file at fault."""
    return checkpoints.load(_folder(folder), Manifest, (), index=INDEX)[0]


def read_tokenizer(folder: Path) -> "Tokenizer | None":
    """The tokenizer of a folder, where it has one."""
    folder = _folder(folder)
    text = _tokenizer_text(folder, read_manifest(folder))
    if text is None:
        return None
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise missing_package("tokenizers", "demix") from error
    try:
        return Tokenizer.from_str(text.decode(errors="replace"))
    except Exception as error:
        # The package raises no narrower class.
        reason = " ".join(str(error).split())
        raise InputError(f"{folder / TOKENIZER}: expected a tokenizer ({reason:.200})") from None


def describe(folder: Path) -> list[dict[str, Any]]:
    """A row an expert: its name, parent, tokens, parameters, and its file with its bytes.

    Only the beginnings of the files are read.
    """
    folder = _folder(folder)
    manifest = read_manifest(folder)
    rows = []
    for expert in manifest.experts:
        row = asdict(expert)
        if manifest.mode != "none":
            path = _file(folder, expert.name)
            shapes, _ = checkpoints.read_header(path)
            row["parameters"] = sum(torch.Size(shape).numel() for shape in shapes.values())
            row |= {"file": path.relative_to(folder).as_posix(), "bytes": path.stat().st_size}
        rows.append(row)
    return rows


# ---- experts, file by file


def add_expert(
    folder: Path,
    name: str,
    *,
    init: str | None = None,
    file: Path | None = None,
    weights: Tensors | None = None,
    expert: Expert | None = None,
    out: Path | None = None,
    in_place: bool = False,
    seed: int = 0,
    strict: bool = True,
    overwrite: bool = False,
) -> None:
    """Add an expert, in a new folder `out` or in place, as all functions here.

    It is what `init` says, a copy of the expert of this name, the "mean" of all (the default) or
    "random" by `seed`; or the `file` that another folder has of it; or these `weights`, of which
    `expert` tells more. InputError for a name that is taken, and unless `strict` is False for the
    expert of another model; for tensors of other names or shapes in any case.
    """
    folder = _folder(folder)
    manifest = _modular(folder)
    check_name(name, manifest.domains)
    if sum(one is not None for one in (init, file, weights)) > 1:
        raise InputError("init, file, weights: expected one of them")
    if expert is not None and expert.name != name:
        raise InputError(f"expert {expert.name!r}: expected the name {name!r}")
    model = _fingerprint(manifest, _tokenizer_text(folder, manifest))
    label: dict[str, Any] | None = None
    if file is not None:
        _, label = checkpoints.read_header(file)
        if strict:
            _check_origin(file, label, folder, manifest, model)
        weights = checkpoints.read_part(file)
        expert = expert or _labelled(file, name, label)
    elif weights is None:
        weights, parent = _initial(folder, manifest, init or "mean", seed)
        expert = expert or Expert(name, parent)
    expert = expert or Expert(name)
    _check_shapes(file or f"expert {name!r}", weights, folder, manifest)
    label = _label(expert, manifest, model) | (
        {} if label is None else {key: label.get(key) for key in _ORIGIN}
    )
    _change(
        folder,
        replace(manifest, experts=(*manifest.experts, expert)),
        {old: old for old in manifest.domains},
        out,
        in_place,
        overwrite,
        add={_part(name): weights},
        metadata={_part(name): label},
    )


def restrict(
    folder: Path,
    names: Sequence[str],
    *,
    out: Path | None = None,
    in_place: bool = False,
    overwrite: bool = False,
) -> list[Path]:
    """Keep these experts only, in this order; where files of others were moved, if in place.

    Posteriors forget the other experts too. InputError for none, an unknown one, or one named
    twice.
    """
    folder = _folder(folder)
    manifest = _modular(folder)
    if not names:
        raise InputError("experts: expected at least one to be left")
    kept = manifest.chosen(names)
    return _change(
        folder,
        kept,
        {name: name for name in kept.domains},
        out,
        in_place,
        overwrite,
        remove=[_part(name) for name in manifest.domains if name not in kept.domains],
    )


def remove_expert(
    folder: Path,
    name: str,
    *,
    out: Path | None = None,
    in_place: bool = False,
    overwrite: bool = False,
) -> list[Path]:
    """Remove an expert; where its file was moved, if in place. InputError for the last one."""
    domains = _modular(_folder(folder)).domains
    expert_number(domains, name)
    others = [other for other in domains if other != name]
    return restrict(folder, others, out=out, in_place=in_place, overwrite=overwrite)


def rename_expert(
    folder: Path,
    old: str,
    new: str,
    *,
    out: Path | None = None,
    in_place: bool = False,
    overwrite: bool = False,
) -> None:
    """Give an expert another name, also as the parent of others and in posteriors."""
    folder = _folder(folder)
    manifest = _modular(folder)
    number = expert_number(manifest.domains, old)
    check_name(new, manifest.domains)
    names = {name: new if name == old else name for name in manifest.domains}
    experts = tuple(
        replace(expert, name=names[expert.name], parent=names.get(expert.parent, expert.parent))
        if expert.parent
        else replace(expert, name=names[expert.name])
        for expert in manifest.experts
    )
    part = _part(old)
    weights = checkpoints.load(folder, Manifest, [part], index=INDEX)[1][part]
    _, label = checkpoints.read_header(_file(folder, old))
    moved = _change(
        folder,
        replace(manifest, experts=experts),
        names,
        out,
        in_place,
        overwrite,
        add={_part(new): weights},
        metadata={_part(new): label | {"name": new, "parent": experts[number].parent}},
        remove=[part],
    )
    for path in moved:
        # The new file holds the same weights.
        path.unlink()


# ---- posteriors


def save_posterior(folder: Path, target: str, weights: Mapping[str, float]) -> None:
    """Keep weights of the experts for a domain, `target`; one kept before is replaced.

    They are divided by their sum; experts not named have 0. InputError for an unknown expert.
    """
    folder = _folder(folder)
    manifest = read_manifest(folder)
    check_name(target)
    shares = _shares(manifest.domains, weights)
    checkpoints.change(
        folder,
        manifest,
        files={_posterior_file(target): _as_json({"weights": shares})},
        index=INDEX,
    )


def read_posterior(folder: Path, target: str) -> dict[str, float]:
    """The weight of every expert for a domain, summing to 1; InputError lists the known domains."""
    folder = _folder(folder)
    known = list_posteriors(folder)
    if target not in known:
        raise InputError(
            f"{folder}: has no posterior of {target!r} (of: {listed(known) or 'none'})"
        )
    path = folder / _posterior_file(target)
    # It may be written by hand, and so is compared with no SHA-256.
    try:
        content = decode(_Posterior, json.loads(path.read_bytes()), "")
        return _shares(read_manifest(folder).domains, content.weights, every=True)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: {str(error).removeprefix(': ')}") from None


def list_posteriors(folder: Path) -> list[str]:
    """The domains that posteriors are kept of."""
    return sorted(path.stem for path in (_folder(folder) / "posteriors").glob("*.json"))


@dataclass(frozen=True)
class _Posterior:
    weights: dict[str, float]


def _shares(
    domains: Sequence[str], weights: Mapping[str, float], every: bool = False
) -> dict[str, float]:
    pairs = zip(domains, mixing_weights(domains, weights), strict=True)
    return {name: share for name, share in pairs if every or share}


def _posterior_file(target: str) -> str:
    return f"posteriors/{target}.json"


# ---- what the functions above are made of


def _folder(folder: Path) -> Path:
    """The folder of a model; InputError if it is none."""
    found = checkpoints.locate(folder)
    if (found / INDEX).is_file():
        return found
    kind = "a file" if found.is_file() else "none" if found.is_dir() else "nothing"
    raise InputError(f"{folder}: expected the folder of a model, with its {INDEX}, found {kind}")


def _modular(folder: Path) -> Manifest:
    manifest = read_manifest(folder)
    if manifest.mode == "none":
        raise InputError(f"{folder}: expected a model with experts, this one is dense")
    return manifest


def _part(name: str) -> str:
    return f"experts/{name}"


def _file(folder: Path, name: str) -> Path:
    return folder / f"{_part(name)}.safetensors"


def _tokenizer_text(folder: Path, manifest: Manifest) -> bytes | None:
    if manifest.tokenizer is None:
        return None
    return checkpoints.read_file(folder, manifest.tokenizer, index=INDEX)


_ORIGIN = ("kind", "mode", "model", "shared")
"""Of an expert's label: what must be the same for it to fit a model."""


def _label(expert: Expert, manifest: Manifest, model: str) -> dict[str, Any]:
    """The metadata of an expert's file."""
    return asdict(expert) | {
        "kind": manifest.kind,
        "mode": manifest.mode,
        "model": model,
        "shared": manifest.shared_sha256,
    }


def _fingerprint(manifest: Manifest, tokenizer: str | bytes | None) -> str:
    """SHA-256 of what the weights do not tell: the settings, and the words of the tokenizer."""
    words = None
    if tokenizer is not None:
        try:
            words = json.loads(tokenizer)["model"]["vocab"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise InputError(f"{TOKENIZER}: expected the JSON of a tokenizer") from None
    content = json.dumps([manifest.kind, manifest.mode, manifest.model, words], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def _labelled(file: Path, name: str, label: Mapping[str, Any]) -> Expert:
    """What an expert's file tells of it."""
    told = {"parent": None, "tokens": 0} | {
        key: label[key] for key in ("parent", "tokens") if key in label
    }
    try:
        return decode(Expert, {"name": name, **told}, "metadata")
    except InputError as error:
        raise InputError(f"{file}: {error}") from None


def _check_origin(
    path: Path, label: Mapping[str, Any], folder: Path, manifest: Manifest, model: str
) -> None:
    """InputError unless an expert was trained with the shared weights of this folder."""
    here = {"kind": manifest.kind, "mode": manifest.mode}
    if "kind" not in label:
        raise InputError(f"{path}: expected an expert's file, with metadata of its model")
    if {key: label.get(key) for key in here} != here:
        there = f"{label.get('kind')} {label.get('mode')}"
        raise InputError(
            f"{path}: an expert of another model, {there:.80}; expected {manifest.kind} "
            f"{manifest.mode} as in {folder / INDEX}"
        )
    if label.get("model") != model:
        raise InputError(
            f"{path}: an expert of another model, with other settings or another tokenizer than "
            f"{folder / INDEX}"
        )
    if label.get("shared") != manifest.shared_sha256:
        raise InputError(
            f"{path}: an expert of another model, trained with other shared weights than "
            f"{folder / SHARED}.safetensors"
        )


def _check_shapes(what: Path | str, weights: Tensors, folder: Path, manifest: Manifest) -> None:
    """InputError unless an expert has tensors of the names and shapes of the others."""
    other = _file(folder, manifest.domains[0])
    shapes, _ = checkpoints.read_header(other)
    for name in sorted(shapes.keys() ^ weights.keys()):
        found = "missing" if name in shapes else "unknown"
        raise InputError(f"{what}: the tensor {name!r} is {found}, by those of {other}")
    for name, shape in shapes.items():
        if tuple(weights[name].shape) != shape:
            raise InputError(
                f"{what}: the tensor {name!r} has shape {tuple(weights[name].shape)}, expected "
                f"{shape} as in {other}"
            )


def _initial(folder: Path, manifest: Manifest, init: str, seed: int) -> tuple[Loaded, str | None]:
    """The weights of a new expert, and its parent."""
    if init == "random":
        weights = _random_expert(folder, manifest, seed)
        part = _part(manifest.domains[0])
        like = checkpoints.load(folder, Manifest, [part], index=INDEX)[1][part]
        return {key: weights[key].to(tensor.dtype) for key, tensor in like.items()}, None
    if init == "mean":
        # These are in memory only as far as they are looked at.
        parts = [_part(name) for name in manifest.domains]
        every = list(checkpoints.load(folder, Manifest, parts, index=INDEX)[1].values())
        return {key: torch.stack([one[key] for one in every]).mean(0) for key in every[0]}, None
    if init not in manifest.domains:
        raise InputError(f"init {init!r}: expected mean, random or {listed(manifest.domains)}")
    part = _part(init)
    return checkpoints.load(folder, Manifest, [part], index=INDEX)[1][part], init


def _random_expert(folder: Path, manifest: Manifest, seed: int) -> dict[str, Tensor]:
    """What `add_expert` of the model itself begins with."""
    fresh: Any
    with torch.random.fork_rng(devices=[]):
        if manifest.kind == "DEMixLM":
            config = decode(LMConfig, manifest.model, "model")
            fresh = DEMixLM(config, ["one"], experts=manifest.mode)
        else:
            from workingpapers.demix.pretrained import DEMixConfig, DEMixForCausalLM

            config = DEMixConfig.from_pretrained(folder)
            config.domains = ["one"]
            fresh = DEMixForCausalLM(config)
        fresh.add_expert("random", "random", seed)
    return fresh.expert_parameters("random")


def _change(
    folder: Path,
    manifest: Manifest,
    names: Mapping[str, str],
    out: Path | None,
    in_place: bool,
    overwrite: bool,
    **parts: Any,
) -> list[Path]:
    """Write what has changed, with all files that name experts; `names` maps old ones to new."""
    if (out is None) != in_place:
        raise InputError("out: expected a folder for the result, or in_place, and not both")
    files: dict[str, str | bytes | None] = {}
    for target in list_posteriors(folder):
        if all(names.get(name) == name for name in read_manifest(folder).domains):
            if out is not None:
                files[_posterior_file(target)] = (folder / _posterior_file(target)).read_bytes()
            continue
        weights = read_posterior(folder, target)
        kept = {names[name]: share for name, share in weights.items() if name in names and share}
        text = _as_json({"weights": _shares(manifest.domains, kept)}) if kept else None
        files[_posterior_file(target)] = text
    card = folder / CARD
    if card.is_file():
        files[CARD] = _card(manifest, card.read_text(encoding="utf-8", errors="replace"), False)
    config = folder / _DECODER_CONFIG
    if manifest.kind == "DEMixForCausalLM" and config.is_file():
        files[_DECODER_CONFIG] = _with_domains(config, manifest)
    return checkpoints.change(
        folder, manifest, files=files, index=INDEX, out=out, overwrite=overwrite, **parts
    )


def _with_domains(config: Path, manifest: Manifest) -> str:
    """A decoder's config, for those who read it; our own reader asks the manifest."""
    try:
        content = json.loads(config.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{config}: expected JSON ({error})") from None
    if not isinstance(content, dict):
        raise InputError(f"{config}: expected the config of a decoder, found other JSON")
    return _as_json(content | {"domains": list(manifest.domains)})


def _as_json(content: Any) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _card(manifest: Manifest, text: str, complete: bool = True) -> str:
    """A model card, its table of experts brought up to date.

    Without the marks around one it is left alone, or with `complete` the table is added.
    """
    rows = "".join(
        f"| {expert.name} | {expert.parent or '-'} | {expert.tokens:,} |\n"
        for expert in manifest.experts
    )
    table = (
        f"{_FIRST_MARK}\n| expert | began as a copy of | tokens read since |\n|---|---|---|\n{rows}"
        f"{_LAST_MARK}"
    )
    before, first, rest = text.partition(_FIRST_MARK)
    _, last, after = rest.partition(_LAST_MARK)
    if first and last:
        return f"{before}{table}{after}"
    if not complete:
        return text
    title = text.rstrip() or f"# A language model of {len(manifest.experts)} domains"
    return f"{title}\n\n## Experts\n\n{table}\n"
