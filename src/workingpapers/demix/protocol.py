"""What every language model with domain experts offers, ours and a wrapped one alike."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from workingpapers.foundation.errors import InputError
from workingpapers.foundation.tables import listed

LOGITS_AT_ONCE = 1 << 19
"""Numbers of logits held at a time while scoring: 2 MiB in single precision, a cache's size."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")


@runtime_checkable
class Reader(Protocol):
    """Reads one sequence with several experts, a few tokens at a time, and remembers it."""

    held: int
    """Tokens read."""

    def read(self, tokens: Int[Tensor, " new"]) -> Float[Tensor, "experts new vocabulary"]:
        """Log-probabilities, by each expert, of what follows each of these tokens."""
        ...


@runtime_checkable
class ModularLM(Protocol):
    """A language model whose domain experts can be mixed, added, removed and renamed."""

    domains: tuple[str, ...]
    """Names of the experts, in their order."""

    @property
    def context(self) -> int:
        """Tokens of the longest row that it reads."""
        ...

    @property
    def vocabulary(self) -> int:
        """Kinds of tokens."""
        ...

    @property
    def end_of_text(self) -> int:
        """The token between documents, which also stands before the first."""
        ...

    def token_logprobs(
        self,
        tokens: Int[Tensor, "batch length"],
        experts: Sequence[int | str] | None = None,
        *,
        previous: Int[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "experts batch length"]:
        """Log-probability of each token after those before it, by each expert (None: all).

        `previous` is the token before each row; None: the end of a text. Nothing is kept for
        gradients.
        """
        ...

    def reader(self, experts: Sequence[int | str] | None = None) -> Reader:
        """Read a sequence bit by bit, with caches."""
        ...

    def add_expert(self, name: str, init: str = "mean", seed: int = 0) -> None:
        """Add an expert: a copy of the one named, the mean of all, or random."""
        ...

    def remove_expert(self, name: str) -> None:
        """Forget an expert; InputError for the last one."""
        ...

    def rename_expert(self, old: str, new: str) -> None:
        """Give an expert another name."""
        ...

    def expert_parameters(self, name: str) -> dict[str, Tensor]:
        """The weights that only this expert has."""
        ...

    def shared_parameters(self) -> dict[str, Tensor]:
        """All other weights."""
        ...

    def merge(self, weights: Mapping[str, float]) -> nn.Module:
        """One dense model whose feed-forward weights are this mean of the experts'."""
        ...


def check_name(name: str, domains: Sequence[str] = ()) -> str:
    """The name, if a new domain may have it; InputError otherwise."""
    if not _NAME.fullmatch(name):
        raise InputError(
            f"domain {name!r:.80}: expected at most 64 letters, digits and _.-, "
            "not beginning with . or -"
        )
    # Experts are files, and some file systems make no difference between a and A.
    if name.lower() in (other.lower() for other in domains):
        raise InputError(f"domain {name!r}: there is one of this name")
    return name


def check_names(domains: Sequence[str]) -> tuple[str, ...]:
    """The names, if domains may have them together."""
    for number, name in enumerate(domains):
        check_name(name, domains[:number])
    return tuple(domains)


def expert_number(domains: Sequence[str], expert: int | str) -> int:
    """The place of an expert given by number or name; InputError lists the known ones."""
    if isinstance(expert, str):
        if expert in domains:
            return domains.index(expert)
    elif 0 <= expert < len(domains):
        return expert
    raise InputError(f"domain {expert!r}: expected one of {listed(domains)}")


def expert_numbers(domains: Sequence[str], experts: Sequence[int | str] | None) -> tuple[int, ...]:
    """The places of experts, all of them for None; InputError for one that is named twice."""
    if experts is None:
        return tuple(range(len(domains)))
    numbers = tuple(expert_number(domains, expert) for expert in experts)
    if not numbers or len(set(numbers)) < len(numbers):
        raise InputError(f"experts {list(experts)}: expected one or more, each once")
    return numbers


def mixing_weights(domains: Sequence[str], weights: Mapping[str, float]) -> list[float]:
    """A weight an expert, summing to 1, from positive numbers by name; others get 0."""
    for name, weight in weights.items():
        expert_number(domains, name)
        if not 0 <= weight < float("inf"):
            raise InputError(f"weight {name}={weight}: expected a number of at least 0")
    total = sum(weights.values())
    if not total > 0:
        raise InputError("weights: expected one above 0")
    if total == float("inf"):
        raise InputError("weights: expected smaller numbers, their sum is infinite")
    return [weights.get(name, 0.0) / total for name in domains]


def preceding_tokens(
    model: Any, tokens: Int[Tensor, "batch length"], previous: Int[Tensor, " batch"] | None
) -> Int[Tensor, "batch length"]:
    """The token before each one of the rows; `previous` before the first, None: end of a text.

    InputError for rows that are longer than the model's context, or hold unknown tokens.
    """
    if tokens.shape[1] > model.context:
        raise InputError(f"tokens: a row has {tokens.shape[1]}, expected at most {model.context}")
    if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < model.vocabulary:
        raise InputError(f"tokens: expected numbers from 0 to {model.vocabulary - 1}")
    if previous is None:
        previous = torch.full_like(tokens[:, 0], model.end_of_text)
    return torch.cat([previous.to(tokens.device)[:, None], tokens[:, :-1]], 1)
