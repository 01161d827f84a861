"""Who is speaking: weights of the experts at each token, from the tokens before it.

With p_j(x_t) the probability that expert j gives to token t after its predecessors, and w_j(t) its
weight there, the mixture is sum_j w_j(t) p_j(x_t) (paper, section 4). All weights are causal: w(t)
depends on the tokens before t only.
"""

import copy
import math
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from workingpapers.foundation.errors import InputError

Prior = Literal["uniform", "updating", "cached"]
History = Literal["token", "prefix", "filter", "none"]


class DomainPosterior:
    """How the weights of experts follow from the text so far.

    `prior`: "uniform"; "updating", a moving average (factor `decay`) of the weights at the end of
    the rows read so far, uniform before the first; "cached", such an average that `set_prior`
    froze; or the weights themselves, a number of at least 0 an expert.

    `history` says which tokens tell the domain. "token", what the authors' program does: the last
    one, and none at the beginning of a row, where weights are equal whatever the prior. "prefix",
    the paper's equation: all of the row. "filter", ours: all of the row under a hidden Markov chain
    that keeps its domain with probability 1 - `switch` and else draws one from the prior. "none":
    the prior.
    """

    def __init__(
        self,
        prior: Prior | Float[Tensor, " experts"] = "uniform",
        history: History = "token",
        *,
        decay: float = 0.3,
        switch: float = 0.05,
    ) -> None:
        if history not in get_args(History):
            raise InputError(f"history {history!r}: expected {', '.join(get_args(History))}")
        if isinstance(prior, str) and prior not in get_args(Prior):
            raise InputError(f"prior {prior!r}: expected {', '.join(get_args(Prior))} or weights")
        for name, value in (("decay", decay), ("switch", switch)):
            if not 0 < value <= 1:
                raise InputError(f"{name} {value}: expected more than 0 and at most 1")
        self.history: History = history
        self.decay, self.switch = decay, switch
        self.updates = prior == "updating" if isinstance(prior, str) else False
        self._waits = prior == "cached" if isinstance(prior, str) else False
        self._prior: Tensor | None = None
        if not isinstance(prior, str):
            self.set_prior(prior)

    def set_prior(self, prior: Float[Tensor, " experts"]) -> None:
        """Give the prior, as what `MixtureLM.estimate` found; it is divided by its sum."""
        prior = prior.to("cpu", torch.float64)
        if not bool(((prior >= 0) & prior.isfinite()).all()) or not float(prior.sum()) > 0:
            raise InputError("prior: expected numbers of at least 0, one above")
        self._prior, self._waits = prior / prior.sum(), False

    def prior(self, experts: int) -> Float[Tensor, " experts"]:
        """The present prior over this many experts, in double precision."""
        if self._waits:
            raise InputError("prior 'cached': expected an estimate first, from text of the domain")
        if self._prior is None:
            return torch.full((experts,), 1 / experts, dtype=torch.float64)
        if len(self._prior) != experts:
            raise InputError(
                f"prior: has weights of {len(self._prior)} experts, the mixture has {experts}"
            )
        return self._prior

    def first_weights(self, experts: int) -> Float[Tensor, " experts"]:
        """Log-weights at the first token of a row."""
        prior = self.prior(experts).log()
        if self.history == "token":
            return torch.full_like(prior, -math.log(experts))
        return prior

    def next_weights(
        self,
        log_weights: Float[Tensor, "experts *rows"],
        logprobs: Float[Tensor, "experts *rows"],
    ) -> Float[Tensor, "experts *rows"]:
        """Log-weights at the next token, from those at this one and what experts gave to it."""
        prior = self.prior(len(logprobs)).log().view(-1, *[1] * (logprobs.ndim - 1))
        if self.history == "none":
            return prior.expand_as(log_weights)
        if self.history == "token":
            return (prior + logprobs).log_softmax(0)
        posterior = (log_weights + logprobs).log_softmax(0)
        if self.history == "prefix":
            return posterior
        if self.switch == 1:
            return prior.expand_as(posterior)
        stay, leave = math.log1p(-self.switch), math.log(self.switch)
        return torch.logaddexp(posterior + stay, prior + leave)

    def weights(
        self, logprobs: Float[Tensor, "experts batch length"]
    ) -> Float[Tensor, "experts batch length"]:
        """Log-weights at each token of rows; the prior is not updated."""
        logprobs = logprobs.to("cpu", torch.float64)
        experts, batch, length = logprobs.shape
        first = self.first_weights(experts)[:, None, None].expand(experts, batch, 1)
        if self.history != "filter":
            prior = self.prior(experts).log()[:, None, None]
            told = logprobs[:, :, :-1]
            if self.history == "prefix":
                told = told.cumsum(-1)
            elif self.history == "none":
                told = torch.zeros_like(told)
            return torch.cat([first, (prior + told).log_softmax(0)], -1)[:, :, :length]
        found = [first[..., 0]]
        for t in range(length - 1):
            found.append(self.next_weights(found[-1], logprobs[:, :, t]))
        return torch.stack(found, -1)[:, :, :length]

    def update(self, log_weights: Float[Tensor, "experts batch"]) -> None:
        """Move an updating prior on, by the weights at the last tokens of rows; else nothing.

        The first rows replace the prior, as in the authors' program.
        """
        if not self.updates:
            return
        posterior = log_weights.to("cpu", torch.float64).exp().mean(1)
        if self._prior is not None:
            posterior = self.decay * posterior + (1 - self.decay) * self._prior
        self._prior = posterior

    def select(self, experts: list[int]) -> "DomainPosterior":
        """The same over some of the experts."""
        other = copy.copy(self)
        if self._prior is not None:
            other.set_prior(self._prior[experts])
        return other


def mix(
    logprobs: Float[Tensor, "experts *rows"], log_weights: Float[Tensor, "experts *rows"]
) -> Float[Tensor, "*rows"]:
    """Log-probabilities of the mixture, in double precision."""
    return (log_weights + logprobs.to("cpu", torch.float64)).logsumexp(0)


def fit_weights(
    logprobs: Float[Tensor, "experts tokens"], iterations: int = 200
) -> Float[Tensor, " experts"]:
    """The constant weights under which a text is likeliest, by expectation maximisation."""
    logprobs = logprobs.to("cpu", torch.float64)
    weights = torch.full((len(logprobs),), 1 / len(logprobs), dtype=torch.float64)
    for _ in range(iterations):
        posterior = (weights.log()[:, None] + logprobs).log_softmax(0)
        weights = posterior.exp().mean(1)
    return weights
