"""Models and texts, as the command line names them."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from workingpapers.demix import checkpoint, runs
from workingpapers.demix.corpora import (
    DomainCorpus,
    encode,
    load_domains,
    load_tokenizer,
    token_bytes,
)
from workingpapers.demix.data import EMBEDDED, DomainTexts
from workingpapers.demix.data import documents as embedded_documents
from workingpapers.demix.mixture import MixtureLM, windows
from workingpapers.demix.posterior import DomainPosterior, fit_weights
from workingpapers.demix.protocol import ModularLM, mixing_weights
from workingpapers.foundation import checkpoints, console
from workingpapers.foundation.console import check_choice
from workingpapers.foundation.errors import InputError, missing_package
from workingpapers.foundation.tables import listed
from workingpapers.foundation.text import documents, read_text

if TYPE_CHECKING:
    import tokenizers

RULES = ("uniform", "updating", "cached", "average")
"""Of `--mix`; anything else is names of experts."""
DENSE = "dense"
"""Name of the one expert of a plain decoder."""
HISTORIES = ("token", "prefix", "filter")


class HeldOut(NamedTuple):
    """Held-out text of a domain, in the tokens of a model."""

    name: str
    tokens: np.ndarray
    bytes: int
    other: np.ndarray | None
    """Other text of the domain, by which a cached prior is estimated."""


class Opened(NamedTuple):
    """A model with its tokenizer, and where it is."""

    folder: Path
    model: ModularLM
    tokenizer: "tokenizers.Tokenizer"

    @property
    def is_dense(self) -> bool:
        """Whether there are no experts."""
        return self.model.domains == (DENSE,)

    def mixture(
        self,
        mix: str,
        history: str = "token",
        only: str | None = None,
        like: str | np.ndarray | None = None,
        top_k: int | None = None,
    ) -> MixtureLM:
        """The mixture that options tell; InputError names the option at fault.

        `like` is what `--like` says, or tokens of the domain.
        """
        check_choice("--history", history, HISTORIES)
        if isinstance(like, str) and mix != "cached":
            raise InputError(f"--like {like}: expected with --mix cached, this is {mix}")
        if mix in RULES and mix in self.model.domains:
            raise InputError(f"--mix {mix}: is a rule and an expert; {mix}=1 means the expert")
        if mix not in RULES:
            if only is not None:
                raise InputError("--only: expected without names of experts in --mix")
            shares = weights_in("--mix", mix, self.model.domains, f"{', '.join(RULES)}, or ")
            fixed = DomainPosterior(torch.tensor(list(shares.values())), "none")
            return MixtureLM(self.model, self.tokenizer, fixed, experts=list(shares), top_k=top_k)
        average = mix == "average"
        rule: Any = ("uniform", "none") if average else (mix, history)
        posterior = DomainPosterior(*rule)
        mixture = MixtureLM(
            self.model, self.tokenizer, posterior, experts=self.chosen(only), top_k=top_k
        )
        if mix == "cached":
            if like is None:
                raise InputError("--mix cached: expected --like, with text of the domain")
            posterior.set_prior(self._prior(mixture, like))
        return mixture

    def chosen(self, only: str | None) -> tuple[str, ...]:
        """The experts that `--only` names; all without it."""
        if only is None:
            return self.model.domains
        names = names_in("--only", only)
        for name in names:
            check_expert("--only", name, self.model.domains)
        return tuple(names)

    def _prior(self, mixture: MixtureLM, like: str | np.ndarray) -> torch.Tensor:
        """The prior estimated from text, or kept."""
        if not isinstance(like, str):
            return mixture.estimate(like)
        kept = self._kept(like)
        if kept is None:
            return mixture.estimate(self._text_like(like))
        return torch.tensor([kept[name] for name in mixture.experts])

    def _kept(self, like: str) -> dict[str, float] | None:
        if Path(like).exists() or like not in checkpoint.list_posteriors(self.folder):
            return None
        return checkpoint.read_posterior(self.folder, like)

    def _text_like(self, like: str) -> str:
        if not Path(like).exists():
            kept = checkpoint.list_posteriors(self.folder)
            raise InputError(
                f"--like {like}: no such file, and no posterior kept by `posterior --keep` (kept: "
                f"{listed(kept) or 'none'})"
            )
        return read_text(Path(like))

    def shares(self, weights: str | None, like: str | None) -> dict[str, float]:
        """The weights by which experts are merged, summing to 1: given, kept, or fitted to text.

        None of a dense model.
        """
        given = weights is not None or like is not None
        if self.is_dense:
            if given:
                raise InputError(f"--weights, --like: expected neither, {self.folder} is dense")
            return {}
        if len(self.model.domains) == 1 and not given:
            return {self.model.domains[0]: 1.0}
        if (weights is None) == (like is None):
            raise InputError("--weights, --like: expected one of them")
        if weights is not None:
            named = weights_in("--weights", weights, self.model.domains)
            shares = mixing_weights(self.model.domains, named)
            pairs = zip(self.model.domains, shares, strict=True)
            return {name: share for name, share in pairs if share}
        assert like is not None
        kept = self._kept(like)
        if kept is not None:
            return kept
        mixture = MixtureLM(self.model, self.tokenizer)
        return _fitted(self.model, mixture.encode(self._text_like(like)))


def open_model(path: Path, device: str) -> Opened:
    """A model, or a plain decoder of transformers as a model of one expert."""
    folder, chosen = runs.model_folder(path), console.choose_device(device)
    wrapped = (folder / "config.json").is_file()
    if wrapped:
        without_bars()
    if wrapped and not (folder / checkpoint.INDEX).is_file():
        from workingpapers.demix.pretrained import DEMixForCausalLM

        decoder: Any = DEMixForCausalLM.from_decoder(folder, [DENSE])
        return Opened(folder, decoder.to(chosen), load_tokenizer(folder / "tokenizer.json"))
    model, tokenizer, _ = checkpoint.load_model(folder, device=chosen)
    if tokenizer is None:
        raise InputError(f"{folder}: expected a model with its tokenizer.json")
    return Opened(folder, model, tokenizer)


def without_bars() -> None:
    """Have transformers show no progress of its own."""
    try:
        from transformers.utils.logging import disable_progress_bar
    except ImportError as error:
        raise missing_package("transformers", "demix") from error
    disable_progress_bar()


def held_out_texts(
    data: Sequence[str],
    opened: Opened,
    settings: Mapping[str, Any],
    split: str,
    most: int | None,
) -> list[HeldOut]:
    """The held-out texts that arguments tell."""
    if (file := Path(data[0])).suffix == ".txt" and file.is_file():
        text = read_text(file)
        tokens, size = encode([text], opened.tokenizer), len(text.encode())
        return [_text(file.stem, tokens, size, None, opened.tokenizer, most)]
    corpora = load_domains(_source(data), opened.tokenizer, block=1, **settings)
    return [_part(one, split, opened.tokenizer, most) for one in corpora.domains.values()]


def own_texts(path: Path, opened: Opened, split: str, most: int | None) -> list[HeldOut]:
    """The held-out texts of the run that a model is from."""
    folder = runs.run_folder(path)
    if folder is None:
        raise InputError(f"DATA: expected texts, since {path} is not in the folder of a run")
    corpora = runs.open_corpora(runs.RUNS.read(folder), folder)
    return [_part(one, split, opened.tokenizer, most) for one in corpora.domains.values()]


def _part(
    corpus: DomainCorpus, split: str, tokenizer: "tokenizers.Tokenizer", most: int | None
) -> HeldOut:
    other = corpus.part("train" if split == "dev" else "dev")
    return _text(corpus.name, corpus.part(split), corpus.bytes[split], other, tokenizer, most)


def _text(
    name: str,
    tokens: np.ndarray,
    size: int,
    other: np.ndarray | None,
    tokenizer: "tokenizers.Tokenizer",
    most: int | None,
) -> HeldOut:
    # The first is the end of another text, which readers put there themselves.
    tokens = tokens[1:]
    if most is not None and len(tokens) > most:
        tokens = tokens[:most]
        size = int(token_bytes(tokenizer)[tokens].sum())
    return HeldOut(name, tokens, size, other)


def split_settings(
    paths: Sequence[Path], data: Sequence[str], text: str, domain: str
) -> dict[str, Any]:
    """How models' training texts were parted, if these are them: what was held out is asked for.

    `text` and `domain` are fields that were asked for. InputError where models have parted them in
    different ways, so that one would be tested on what another, or it itself, was trained on.
    """
    source = _source(data)
    name = source.resolve().name if isinstance(source, Path) else None
    found: dict[Path, runs.Parted] = {}
    for path in paths:
        folder = runs.model_folder(path)
        if not (folder / checkpoint.INDEX).is_file():
            continue
        training = checkpoint.read_manifest(folder).training or {}
        if "parted" in training:
            parted = checkpoints.decode(runs.Parted, training["parted"], f"{folder}: parted")
            if parted.data == name:
                found[path] = parted
    if len(set(found.values())) > 1:
        (one, first), (other, second) = next(
            pair for pair in combinations(found.items(), 2) if pair[0][1] != pair[1][1]
        )
        names = [each.name for each in fields(runs.Parted)]
        field = next(each for each in names if getattr(first, each) != getattr(second, each))
        raise InputError(
            f"{other}: trained on other parts of {name or 'these texts'} than {one} ({field} "
            f"{getattr(second, field)} and {getattr(first, field)}); expected models that held out "
            "the same texts"
        )
    asked = {"text": text, "domain": domain}
    known = asdict(next(iter(found.values()))) if found else {}
    # Fields are called so where nothing else was asked for.
    typed = {key: name for key, name in asked.items() if name != key}
    return {key: value for key, value in (asked | known | typed).items() if key != "data"}


def _source(data: Sequence[str]) -> Path | list[str]:
    """The path of the user's domains, or names of embedded ones."""
    if len(data) == 1 and (Path(data[0]).exists() or data[0] not in EMBEDDED):
        return Path(data[0])
    return list(data)


def one_domain(data: str, name: str, field: str) -> DomainTexts:
    """Texts of a new domain: an embedded one, or all that is in a folder or file."""
    if data in EMBEDDED and not Path(data).exists():
        known = EMBEDDED[data]
        return DomainTexts(name, {"all": embedded_documents(data)}, known.source, known.licence)
    return DomainTexts(name, {"all": list(documents(Path(data), text=field))}, data)


def _fitted(model: ModularLM, tokens: torch.Tensor) -> dict[str, float]:
    """The constant weights under which a text is likeliest."""
    device = getattr(model, "device", "cpu")
    found = []
    for start, _, end in windows(len(tokens), model.context, model.context):
        previous = torch.tensor([int(tokens[start - 1]) if start else model.end_of_text])
        row = tokens[None, start:end].to(device)
        found.append(model.token_logprobs(row, previous=previous.to(device))[:, 0])
    fitted = fit_weights(torch.cat(found, 1)).tolist()
    # What is next to nothing is noise.
    return {name: one for name, one in zip(model.domains, fitted, strict=True) if one > 1e-3}


_TEXT_FILES = (".txt", ".text", ".md", ".json", ".jsonl", ".csv", ".tsv")


def text_or_file(what: str) -> str:
    """The text of an argument that is one itself, or the path of a file with it."""
    path = Path(what)
    try:
        is_file, is_folder = bool(what) and path.is_file(), bool(what) and path.is_dir()
    except (OSError, ValueError):
        # Too long for a name, or with signs that none may have: a text.
        is_file = is_folder = False
    if is_file:
        return read_text(path)
    if not what.strip():
        raise InputError("TEXT|FILE: the text is empty")
    if is_folder:
        raise InputError(f"{what}: expected a text or a file of text, found a folder")
    named = path.suffix.lower() in _TEXT_FILES or path.is_absolute()
    if len(what.split()) == 1 and (named or (os.sep in what and path.parent.is_dir())):
        raise InputError(f"{what}: no such file")
    return what


def token_texts(tokenizer: "tokenizers.Tokenizer", text: str) -> list[str]:
    """The part of a text that each token stands for; of a character's bytes the first has it."""
    pieces, told = [], 0
    for start, end in tokenizer.encode(text, add_special_tokens=False).offsets:
        pieces.append(text[max(start, told) : end])
        told = max(told, end)
    return pieces


# ---- options


def names_in(option: str, text: str) -> list[str]:
    """Names from "news,wiki"."""
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise InputError(f"{option} {text}: expected names with commas between them")
    return names


def check_expert(option: str, name: str, domains: Sequence[str], other: str = "") -> None:
    """InputError unless an option names an expert."""
    if name not in domains:
        raise InputError(f"{option} {name}: expected {other}one of {listed(domains)}")


def weights_in(option: str, text: str, domains: Sequence[str], other: str = "") -> dict[str, float]:
    """Weights of experts from "news=0.3,wiki=0.7"; without numbers they are equal.

    `other` is what the option may also say, for the error.
    """
    weights: dict[str, float] = {}
    for part in names_in(option, text):
        name, equals, number = part.partition("=")
        try:
            weight = float(number) if equals else 1.0
        except ValueError:
            weight = math.nan
        if not (name and 0 <= weight < math.inf):
            raise InputError(f"{option} {part}: expected NAME=NUMBER, of at least 0")
        if name in weights:
            raise InputError(f"{option} {text}: expected {name} once")
        check_expert(option, name, domains, other)
        weights[name] = weight
    if not 0 < sum(weights.values()) < math.inf:
        raise InputError(f"{option} {text}: expected weights of a sum above 0 and not infinite")
    return weights
