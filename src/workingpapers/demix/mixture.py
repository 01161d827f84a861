"""A mixture of domain experts as one language model: score a text, go on with it."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from workingpapers.demix.posterior import DomainPosterior, mix
from workingpapers.demix.protocol import LOGITS_AT_ONCE, ModularLM, Reader, expert_numbers
from workingpapers.foundation.errors import InputError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

CACHED_ROWS = 100
"""Rows of held-out text from which a cached prior is estimated (paper, section 5.2)."""


@dataclass(frozen=True)
class Score:
    """What a mixture made of a text."""

    tokens: Int[Tensor, " length"]
    logprobs: Float[Tensor, " length"]
    """Natural logarithm of the probability of each token after those before it."""
    log_weights: Float[Tensor, "experts length"]
    """Of the experts at each token; minus infinity where one was left out."""
    experts: tuple[str, ...]
    bytes: int | None
    """Of the text in UTF-8; None for tokens."""
    divergence: float | None
    """With top_k: KL divergence, in nats a token, of the reduced mixture from the full one, as it
    would be over the first row, which all read."""
    prior: Float[Tensor, " experts"]
    """As it was after the last row; 0 where one was left out."""

    @property
    def perplexity(self) -> float:
        """A token."""
        return float((-self.logprobs.mean()).exp())

    @property
    def bits_per_byte(self) -> float | None:
        """Comparable across tokenizers; None for tokens."""
        if not self.bytes:
            return None
        return float(-self.logprobs.sum()) / np.log(2) / self.bytes


@dataclass(frozen=True)
class Step:
    """A token that a mixture wrote."""

    token: int
    logprob: float
    """Of the mixture, before temperature and nucleus."""
    log_weights: Float[Tensor, " experts"]
    """Of the experts in `experts`."""
    experts: tuple[str, ...]


class MixtureLM:
    """Domain experts and the rule that weighs them (paper, section 4).

    `experts` are the names (or numbers) of those that take part, None: all. With `top_k`, all
    read the first row (for `generate`, the prompt), and only k read on: those of the largest mean
    weight over that row (for `generate`, of the largest weight after the prompt).
    Nothing is remembered from one call to the next: each begins with the posterior as it is here.
    """

    def __init__(
        self,
        model: ModularLM,
        tokenizer: "Tokenizer | None" = None,
        posterior: DomainPosterior | None = None,
        *,
        experts: Sequence[int | str] | None = None,
        top_k: int | None = None,
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.posterior = posterior or DomainPosterior()
        self.numbers = expert_numbers(model.domains, experts)
        if top_k is not None and not 1 <= top_k <= len(self.numbers):
            raise InputError(f"top_k {top_k}: expected from 1 to {len(self.numbers)}")
        self.top_k = top_k if top_k != len(self.numbers) else None

    @property
    def experts(self) -> tuple[str, ...]:
        """Names of those that take part."""
        return self._names(self.numbers)

    def _names(self, numbers: Sequence[int]) -> tuple[str, ...]:
        return tuple(self.model.domains[number] for number in numbers)

    def encode(self, text: str) -> Int[Tensor, " length"]:
        """The tokens of a text; InputError for none."""
        if self.tokenizer is None:
            raise InputError("tokenizer: expected one, to read text")
        tokens = torch.tensor(self.tokenizer.encode(text, add_special_tokens=False).ids)
        if not len(tokens):
            raise InputError("text: expected at least one token, it is empty")
        return tokens

    def score(
        self, text: "str | Sequence[int] | np.ndarray | Tensor", *, stride: int | None = None
    ) -> Score:
        """Probabilities of the tokens of a text, which begins after the end of another.

        A text longer than the model's context is read in rows that begin `stride` tokens apart
        (None: one context, rows without overlap); a token is scored in the first row that holds
        it, and history begins anew with each row. A smaller stride costs more and tells more.
        """
        tokens = self.encode(text) if isinstance(text, str) else as_tokens(text)
        rows = windows(len(tokens), self.model.context, self._stride(stride))
        posterior, kept = copy.copy(self.posterior), list(range(len(self.numbers)))
        found = torch.full((len(tokens),), torch.nan, dtype=torch.float64)
        log_weights = torch.full((len(kept), len(tokens)), -torch.inf, dtype=torch.float64)
        divergence = None
        if self.top_k is None:
            self._score_rows(tokens, rows, posterior, kept, found, log_weights)
        else:
            # All experts read the first row, so that no token chooses who scores it.
            self._score_rows(tokens, rows[:1], posterior, kept, found, log_weights)
            first = slice(rows[0][2])
            kept = self._heaviest(log_weights[:, first].exp().mean(1))
            divergence = self._divergence(tokens[first], self.posterior, kept)
            posterior = posterior.select(kept)
            self._score_rows(tokens, rows[1:], posterior, kept, found, log_weights)
        size = len(text.encode()) if isinstance(text, str) else None
        prior = torch.zeros(len(self.numbers), dtype=torch.float64)
        prior[kept] = posterior.prior(len(kept))
        return Score(tokens, found, log_weights, self.experts, size, divergence, prior)

    def _score_rows(
        self,
        tokens: Tensor,
        rows: list[tuple[int, int, int]],
        posterior: DomainPosterior,
        kept: list[int],
        found: Tensor,
        log_weights: Tensor,
    ) -> None:
        """Fill in what the kept experts make of some rows; an updating prior moves on."""
        numbers = tuple(self.numbers[place] for place in kept)
        for some in _of_one_length(rows):
            spans = [(start, end) for start, _, end in some]
            logprobs = self._row_logprobs(tokens, spans, numbers)
            together = None if posterior.updates else posterior.weights(logprobs)
            for number, (start, scored, end) in enumerate(some):
                row = logprobs[:, number]
                if together is None:
                    weights = posterior.weights(row[:, None])[:, 0]
                    posterior.update(weights[:, -1:])
                else:
                    weights = together[:, number]
                found[scored:end] = mix(row, weights)[scored - start :]
                log_weights[kept, scored:end] = weights[:, scored - start :]

    def perplexity(
        self, tokens: "Sequence[int] | np.ndarray | Tensor", *, stride: int | None = None
    ) -> float:
        """Perplexity a token of a text given as tokens."""
        return self.score(tokens, stride=stride).perplexity

    def estimate(
        self,
        text: "str | Sequence[int] | np.ndarray | Tensor",
        rows: int = CACHED_ROWS,
    ) -> Float[Tensor, " experts"]:
        """The prior that an updating mixture has come to after held-out text, to be cached."""
        tokens = self.encode(text) if isinstance(text, str) else as_tokens(text)
        old = self.posterior
        updating = DomainPosterior("updating", old.history, decay=old.decay, switch=old.switch)
        mixture = MixtureLM(self.model, self.tokenizer, updating, experts=self.numbers)
        return mixture.score(tokens[: rows * self.model.context]).prior

    def generate_tokens(
        self,
        prompt: "Sequence[int] | np.ndarray | Tensor",
        *,
        max_tokens: int = 100,
        temperature: float = 1.0,
        top_p: float = 1.0,
        seed: int = 0,
        stride: int | None = None,
    ) -> Iterator[Step]:
        """Go on with a text, token by token, until the end of a text or `max_tokens`.

        Temperature 0 takes the likeliest token; `top_p` keeps the likeliest tokens that together
        have this probability. Texts longer than the context are read on in rows `stride` tokens
        apart (None: half a context), as `score` does.
        """
        if max_tokens < 1:
            raise InputError(f"max_tokens {max_tokens}: expected at least 1")
        if not 0 <= temperature < float("inf"):
            raise InputError(f"temperature {temperature}: expected a number of at least 0")
        if not 0 < top_p <= 1:
            raise InputError(f"top_p {top_p}: expected more than 0 and at most 1")
        if not 0 <= seed < 2**63:
            raise InputError(f"seed {seed}: expected from 0 to below 2**63")
        given = as_tokens(prompt, least=0)
        if stride is None:
            stride = max(1, self.model.context // 2)
        text = _Text(self.model, self.numbers, self.posterior, self._stride(stride))
        text.read([self.model.end_of_text, *given.tolist()])
        if self.top_k is not None:
            kept = self._heaviest(text.log_weights)
            numbers = tuple(self.numbers[place] for place in kept)
            chosen = self.posterior.select(kept)
            text = _Text(self.model, numbers, chosen, self._stride(stride))
            text.read([self.model.end_of_text, *given.tolist()])
        generator = torch.Generator().manual_seed(seed)
        for _ in range(max_tokens):
            logprobs = mix(text.logprobs, text.log_weights[:, None].expand_as(text.logprobs))
            token = _sample(logprobs, temperature, top_p, generator)
            names = self._names(text.experts)
            yield Step(token, float(logprobs[token]), text.log_weights, names)
            if token == self.model.end_of_text:
                return
            text.read([token])

    def generate(
        self,
        prompt: str = "",
        *,
        max_tokens: int = 100,
        temperature: float = 1.0,
        top_p: float = 1.0,
        seed: int = 0,
        stop: str | None = None,
        stride: int | None = None,
    ) -> Iterator[str]:
        """Go on with a text: pieces of it as they come, up to the string `stop`, without it."""
        if self.tokenizer is None:
            raise InputError("tokenizer: expected one, to write text")
        if stop == "":
            raise InputError("stop: expected at least one character")
        from tokenizers.decoders import DecodeStream

        tokens = self.tokenizer.encode(prompt, add_special_tokens=False).ids
        stream, held = DecodeStream(skip_special_tokens=True), ""
        steps = self.generate_tokens(
            tokens,
            max_tokens=max_tokens,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            stride=stride,
        )
        for step in steps:
            held += stream.step(self.tokenizer, step.token) or ""
            if stop is not None:
                before, found, _ = held.partition(stop)
                if found:
                    if before:
                        yield before
                    return
            # What may be the beginning of `stop` waits.
            waiting = _overlap(held, stop)
            piece, held = held[: len(held) - waiting], held[len(held) - waiting :]
            if piece:
                yield piece
        if held:
            yield held

    def _stride(self, stride: int | None) -> int:
        if stride is None:
            return self.model.context
        if not 1 <= stride <= self.model.context:
            raise InputError(f"stride {stride}: expected from 1 to {self.model.context}")
        return stride

    def _row_logprobs(
        self, tokens: Tensor, spans: Sequence[tuple[int, int]], numbers: tuple[int, ...]
    ) -> Float[Tensor, "experts rows length"]:
        rows = torch.stack([tokens[start:end] for start, end in spans])
        end_of_text = self.model.end_of_text
        before = [int(tokens[start - 1]) if start else end_of_text for start, _ in spans]
        device = getattr(self.model, "device", "cpu")
        previous = torch.tensor(before, device=device)
        found = self.model.token_logprobs(rows.to(device), numbers, previous=previous)
        return found.to("cpu", torch.float64)

    def _heaviest(self, weights: Float[Tensor, " experts"]) -> list[int]:
        assert self.top_k is not None
        return sorted(weights.topk(self.top_k).indices.tolist())

    def _divergence(self, tokens: Tensor, posterior: DomainPosterior, kept: list[int]) -> float:
        """KL divergence, in nats a token, of the mixture of some from that of all, over a row."""
        every = _Text(self.model, self.numbers, posterior, self.model.context)
        some = _Text(
            self.model,
            tuple(self.numbers[place] for place in kept),
            posterior.select(kept),
            self.model.context,
        )
        total = 0.0
        for token in [self.model.end_of_text, *tokens[:-1].tolist()]:
            full, reduced = every.next(token), some.next(token)
            total += float((full.exp() * (full - reduced)).sum())
        return total / len(tokens)


class _Text:
    """A text that several experts read, with their weights at its end."""

    def __init__(
        self, model: ModularLM, experts: tuple[int, ...], posterior: DomainPosterior, stride: int
    ) -> None:
        self.model, self.experts, self.stride = model, experts, stride
        self.posterior = copy.copy(posterior)
        self.read_tokens: list[int] = []
        self.start = 0
        self.reader: Reader = model.reader(experts)
        self.log_weights: Tensor
        """Of the experts at the token to come."""
        self.logprobs: Tensor
        """Of the token to come, by each expert."""

    def read(self, tokens: Sequence[int]) -> None:
        """Read on."""
        most = max(1, LOGITS_AT_ONCE // (len(self.experts) * self.model.vocabulary))
        todo = list(tokens)
        while todo:
            if self.reader.held == self.model.context:
                # A new row, which begins with the end of the old one.
                self.posterior.update(self.log_weights[:, None])
                self.start += self.stride
                self.reader = self.model.reader(self.experts)
                todo = [*self.read_tokens[self.start :], *todo]
                del self.read_tokens[self.start :]
            count = min(most, self.model.context - self.reader.held, len(todo))
            self._read_some(todo[:count])
            self.read_tokens += todo[:count]
            todo = todo[count:]

    def next(self, token: int) -> Float[Tensor, " vocabulary"]:
        """Read a token; the mixture's log-probabilities of what follows."""
        self.read([token])
        return mix(self.logprobs, self.log_weights[:, None].expand_as(self.logprobs))

    def _read_some(self, tokens: Sequence[int]) -> None:
        first = self.reader.held == 0
        device = getattr(self.model, "device", "cpu")
        found = self.reader.read(torch.tensor(tokens, device=device)).to("cpu", torch.float64)
        for number, token in enumerate(tokens):
            if first and number == 0:
                self.log_weights = self.posterior.first_weights(len(self.experts))
            else:
                given = self.logprobs[:, token]
                self.log_weights = self.posterior.next_weights(self.log_weights, given)
            self.logprobs = found[:, number]


def windows(length: int, context: int, stride: int) -> list[tuple[int, int, int]]:
    """The rows (start, first token scored, end) in which a long text is read."""
    rows = [(0, 0, min(context, length))]
    while rows[-1][2] < length:
        start = rows[-1][0] + stride
        rows.append((start, rows[-1][2], min(start + context, length)))
    return rows


def _of_one_length(rows: list[tuple[int, int, int]]) -> Iterator[list[tuple[int, int, int]]]:
    """Rows that can be read together: all but a shorter last one, a few at a time."""
    if not rows:
        return
    long = [row for row in rows if row[2] - row[0] == rows[0][2] - rows[0][0]]
    for first in range(0, len(long), 64):
        yield long[first : first + 64]
    if len(long) < len(rows):
        yield rows[len(long) :]


def as_tokens(
    tokens: "Sequence[int] | np.ndarray | Tensor", least: int = 1
) -> Int[Tensor, " length"]:
    """Tokens as a tensor on the CPU; InputError for fewer than `least`."""
    values: Any = tokens
    if isinstance(values, np.ndarray):
        values = torch.from_numpy(values.astype(np.int64))
    found = torch.as_tensor(values, dtype=torch.int64, device="cpu")
    if found.ndim != 1 or len(found) < least:
        raise InputError(f"tokens: expected a row of at least {least}, got {tuple(found.shape)}")
    return found


def _sample(
    logprobs: Float[Tensor, " vocabulary"],
    temperature: float,
    top_p: float,
    generator: torch.Generator,
) -> int:
    if temperature == 0:
        return int(logprobs.argmax())
    probabilities = (logprobs / temperature).softmax(-1)
    if top_p < 1:
        ordered, order = probabilities.sort(descending=True, stable=True)
        # Those before which less than top_p is gathered; so always the first.
        outside = ordered.cumsum(0) - ordered >= top_p
        probabilities[order[outside]] = 0
    return int(torch.multinomial(probabilities, 1, generator=generator))


def _overlap(text: str, stop: str | None) -> int:
    """Characters at the end of a text that may be the beginning of `stop`."""
    if stop is None:
        return 0
    sizes = range(min(len(stop) - 1, len(text)), 0, -1)
    return next((size for size in sizes if text.endswith(stop[:size])), 0)
