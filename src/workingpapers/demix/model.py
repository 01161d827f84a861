"""The layer of domain experts, and a GPT-2-shaped language model made with it."""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from workingpapers.demix.protocol import (
    LOGITS_AT_ONCE,
    check_name,
    check_names,
    expert_number,
    expert_numbers,
    mixing_weights,
    preceding_tokens,
)
from workingpapers.foundation.errors import InputError
from workingpapers.foundation.transformer import Attention, Block, KeyValueCache

Experts = Literal["ffn", "all", "none"]

_TOKENS_AT_ONCE = 4096
"""Read while scoring, by all experts together: hidden states stay in the processor's cache."""
_LOGITS_IN_TRAINING = 1 << 22
"""More numbers of logits are made in parts, which takes a little longer and less memory."""

_GPT2_DEVIATION, _GPT2_WIDTH = 0.02, 768

SIZES: dict[str, dict[str, int]] = {
    "tiny": {"vocabulary": 2048, "length": 128, "dim": 64, "layers": 3, "heads": 4},
    "small": {"vocabulary": 8192, "length": 256, "dim": 256, "layers": 6, "heads": 8},
    "125M": {"vocabulary": 50257, "length": 1024, "dim": 768, "layers": 12, "heads": 12},
    "350M": {"vocabulary": 50257, "length": 1024, "dim": 1024, "layers": 24, "heads": 16},
    "760M": {"vocabulary": 50257, "length": 1024, "dim": 1536, "layers": 24, "heads": 16},
    "1.3B": {"vocabulary": 50257, "length": 1024, "dim": 2048, "layers": 24, "heads": 32},
}
"""Shapes by name: two for a laptop, and the paper's four (parameters of the dense model)."""


def initial_deviation(dim: int) -> float:
    """Standard deviation of initial weights: GPT-2's, and for other widths as 1 / sqrt(dim).

    With GPT-2's own, narrow models learn little for hundreds of steps; with nn.Embedding's 1 and a
    tied head, gradients are subnormal and slow.
    """
    return _GPT2_DEVIATION * math.sqrt(_GPT2_WIDTH / dim)


@dataclass(frozen=True)
class LMConfig:
    """The shape of a language model; InputError for impossible values."""

    vocabulary: int
    length: int
    """Tokens of the longest row that is read."""
    dim: int
    layers: int
    heads: int
    hidden: int = 0
    """Width of a feed-forward network; 0: four times `dim`."""
    end_of_text: int = 0
    domain_tokens: bool = False
    """Whether each row begins with a vector that tells its domain, as in the paper's baseline."""

    def __post_init__(self) -> None:
        for name in ("vocabulary", "length", "dim", "layers", "heads"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} {getattr(self, name)}: expected at least 1")
        if self.dim % self.heads:
            raise InputError(f"heads {self.heads}: expected a divisor of dim {self.dim}")
        if self.hidden < 0:
            raise InputError(f"hidden {self.hidden}: expected at least 0")
        if not 0 <= self.end_of_text < self.vocabulary:
            raise InputError(
                f"end_of_text {self.end_of_text}: expected from 0 to {self.vocabulary - 1}"
            )
        if self.hidden == 0:
            object.__setattr__(self, "hidden", 4 * self.dim)


@dataclass(frozen=True)
class Assignment:
    """Which expert reads which rows of a batch.

    Either `experts` read equally many consecutive rows each, or `order` sorts the rows by expert
    and `counts` says how many each expert then reads.
    """

    experts: tuple[int, ...] = ()
    order: Tensor | None = None
    counts: Tensor | None = None

    @classmethod
    def of(cls, domain: int | Int[Tensor, " batch"], batch: int, experts: int) -> "Assignment":
        """From one expert for all rows, or one number a row."""
        if isinstance(domain, int):
            return cls((domain,))
        if domain.shape != (batch,):
            raise InputError(f"domain: expected one number a row, {batch}, got {domain.numel()}")
        if batch and not 0 <= int(domain.min()) <= int(domain.max()) < experts:
            raise InputError(f"domain: expected numbers from 0 to {experts - 1}")
        values, counts = torch.unique_consecutive(domain, return_counts=True)
        read = values.tolist()
        if read and len(set(read)) == len(read) and bool((counts == counts[0]).all()):
            return cls(tuple(read))
        return cls(
            order=domain.argsort(stable=True), counts=torch.bincount(domain, minlength=experts)
        )


class DEMixFeedForward(nn.Module):
    """Feed-forward networks of one shape, one a domain (paper, section 3.1).

    The weights of all experts stand in one tensor each, so that a batch with equally many rows a
    domain costs two batched products, and a mixed one two grouped products. On a processor, many
    rows without gradients go through one expert after the other, whose numbers stay in its cache.
    """

    def __init__(self, dim: int, hidden: int, experts: int) -> None:
        super().__init__()
        self.up_weight = nn.Parameter(torch.empty(experts, dim, hidden))
        self.up_bias = nn.Parameter(torch.zeros(experts, hidden))
        self.down_weight = nn.Parameter(torch.empty(experts, hidden, dim))
        self.down_bias = nn.Parameter(torch.zeros(experts, dim))

    def initialise(self, layers: int) -> None:
        """Random weights as GPT-2's, the same ones for all experts."""
        deviation = initial_deviation(self.up_weight.shape[1])
        for weight, scale in ((self.up_weight, 1.0), (self.down_weight, 1 / math.sqrt(2 * layers))):
            nn.init.normal_(weight.data[0], std=deviation * scale)
            weight.data[1:] = weight.data[0]

    def forward(
        self, x: Float[Tensor, "rows length dim"], *, assignment: Assignment
    ) -> Float[Tensor, "rows length dim"]:
        """Each row by its expert."""
        weights: tuple[Tensor, ...] = (
            self.up_weight,
            self.up_bias,
            self.down_weight,
            self.down_bias,
        )
        experts = assignment.experts
        if assignment.order is not None:
            return self._grouped(x, assignment)
        if len(experts) == 1:
            up, up_bias, down, down_bias = (weight[experts[0]] for weight in weights)
            hidden = functional.gelu(torch.addmm(up_bias, x.flatten(0, 1), up))
            return torch.addmm(down_bias, hidden, down).view_as(x)
        if _in_cache(x, len(experts)):
            return self._in_turn(x, experts, [len(x) // len(experts)] * len(experts))
        if experts != tuple(range(len(self.up_weight))):
            # A copy, and only of those asked for.
            weights = tuple(weight[list(experts)] for weight in weights)
        up, up_bias, down, down_bias = weights
        by_expert = x.reshape(len(experts), -1, x.shape[-1])
        hidden = functional.gelu(torch.baddbmm(up_bias[:, None], by_expert, up))
        return torch.baddbmm(down_bias[:, None], hidden, down).view_as(x)

    def _in_turn(self, x: Tensor, experts: Sequence[int], rows: list[int]) -> Tensor:
        # The hidden values of one expert stay in a processor's cache, those of all do not; a
        # batched product would write its biases out, too.
        y = torch.empty_like(x)
        for some, result, expert in zip(x.split(rows), y.split(rows), experts, strict=True):
            hidden = torch.addmm(self.up_bias[expert], some.flatten(0, 1), self.up_weight[expert])
            down = self.down_bias[expert], functional.gelu(hidden), self.down_weight[expert]
            torch.addmm(*down, out=result.flatten(0, 1))
        return y

    def _grouped(self, x: Tensor, assignment: Assignment) -> Tensor:
        order, counts = cast(Tensor, assignment.order), cast(Tensor, assignment.counts)
        if _in_cache(x, len(counts)):
            y = self._in_turn(x[order], range(len(counts)), counts.tolist())
            return torch.empty_like(x).index_copy_(0, order, y)
        length = x.shape[1]
        by_expert = x[order].flatten(0, 1)
        tokens = counts * length
        which = torch.repeat_interleave(tokens)
        ends = tokens.cumsum(0).to(torch.int32)
        hidden = grouped_product(by_expert, self.up_weight, ends) + self.up_bias[which]
        hidden = functional.gelu(hidden)
        y = grouped_product(hidden, self.down_weight, ends) + self.down_bias[which]
        return torch.empty_like(x).index_copy(0, order, y.view_as(x))


def _in_cache(x: Float[Tensor, "rows length dim"], experts: int) -> bool:
    """Whether experts are faster one after another: on a CPU, with many tokens each.

    Products into given memory have no gradient, and no mixed precision.
    """
    return (
        x.device.type == "cpu"
        and x.shape[0] * x.shape[1] >= 128 * experts
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
    )


def grouped_product(
    x: Float[Tensor, "tokens dim"],
    weight: Float[Tensor, "experts dim out"],
    ends: Int[Tensor, " experts"],
) -> Float[Tensor, "tokens out"]:
    """Tokens, sorted by expert, times the weight of their expert."""
    # The kernel wants rows that begin at multiples of 16 bytes, and no double precision.
    aligned = all(size * x.element_size() % 16 == 0 for size in weight.shape[1:])
    if x.dtype in (torch.float32, torch.bfloat16) and aligned:
        return functional.grouped_mm(x, weight, offs=ends)
    sizes = torch.diff(ends, prepend=ends.new_zeros(1)).tolist()
    parts = zip(x.split(sizes), weight, strict=True)
    return torch.cat([part @ expert for part, expert in parts])


class Decoder(nn.Module):
    """A causal Transformer as GPT-2's, whose feed-forward layers have `experts` experts each."""

    def __init__(self, config: LMConfig, experts: int, tokens_before: int = 0) -> None:
        super().__init__()
        self.config = config
        self.tokens = nn.Embedding(config.vocabulary, config.dim)
        self.positions = nn.Embedding(config.length + tokens_before, config.dim)
        self.blocks = nn.ModuleList(
            Block(
                config.dim,
                Attention(config.dim, config.heads, causal=True),
                DEMixFeedForward(config.dim, config.hidden, experts),
            )
            for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.dim)
        # On the meta device, whose weights are overwritten, this would take longer than a merge.
        if not self.tokens.weight.is_meta:
            self._initialise()

    def _initialise(self) -> None:
        deviation = initial_deviation(self.config.dim)
        residual = deviation / math.sqrt(2 * self.config.layers)
        for table in (self.tokens, self.positions):
            nn.init.normal_(table.weight, std=deviation)
        for block in cast("list[Any]", self.blocks):
            attention = block.mixer
            for linear in (attention.query, attention.key, attention.value, attention.output):
                last = linear is attention.output
                nn.init.normal_(linear.weight, std=residual if last else deviation)
                nn.init.zeros_(linear.bias)
            block.feed_forward.initialise(self.config.layers)

    def embed(
        self, tokens: Int[Tensor, "batch length"], first: int = 0
    ) -> Float[Tensor, "batch length dim"]:
        """Vectors of tokens that stand from position `first` on."""
        return self.tokens(tokens) + self.positions.weight[first : first + tokens.shape[1]]

    def forward(
        self,
        x: Float[Tensor, "rows length dim"],
        assignment: Assignment,
    ) -> Float[Tensor, "rows length dim"]:
        """The last hidden states, after the last norm."""
        for block in self.blocks:
            x = block(x, feeding={"assignment": assignment})
        return self.norm(x)

    def by_expert(
        self,
        x: Float[Tensor, "batch length dim"],
        experts: tuple[int, ...],
        caches: Sequence[KeyValueCache] | None = None,
    ) -> Float[Tensor, "rows length dim"]:
        """The last hidden states by each expert in turn, rows = experts * batch.

        The experts are one more axis of the batch; the attention before the first of them is
        shared, and computed once.
        """
        assignment = Assignment(experts)
        for number, block in enumerate(cast("list[Any]", self.blocks)):
            cache = None if caches is None else caches[number]
            x = x + block.mixer(block.mixer_norm(x), cache=cache)
            if number == 0:
                x = x.repeat(len(experts), 1, 1)
            x = x + block.feed_forward(block.feed_forward_norm(x), assignment=assignment)
        return self.norm(x)

    def caches(self, experts: int, capacity: int) -> list[KeyValueCache]:
        """Room for one sequence read by this many experts."""
        heads, width = self.config.heads, self.config.dim // self.config.heads
        like = self.tokens.weight
        return [
            KeyValueCache(
                1 if number == 0 else experts,
                heads,
                capacity,
                width,
                device=like.device,
                dtype=like.dtype,
            )
            for number in range(len(self.blocks))
        ]

    def logits(self, hidden: Float[Tensor, "... dim"]) -> Float[Tensor, "... vocabulary"]:
        """Scores of the next token; the head is the transposed embedding."""
        return functional.linear(hidden, self.tokens.weight)

    def loss(
        self, hidden: Float[Tensor, "batch length dim"], targets: Int[Tensor, "batch length"]
    ) -> Float[Tensor, ""]:
        """Mean cross-entropy of the targets."""
        at_once = max(1, _LOGITS_IN_TRAINING // self.config.vocabulary)
        chunks = None
        if targets.numel() > at_once and hidden.dtype != torch.float64:
            chunks = nn.LinearCrossEntropyOptions(batch_chunk_size=at_once)
        return functional.linear_cross_entropy(
            hidden.flatten(0, 1), self.tokens.weight, targets.flatten(), options=chunks
        )


class DEMixLM(nn.Module):
    """A GPT-2-shaped language model with domain experts (paper, section 3).

    `experts` says what a domain has of its own: "ffn", its feed-forward networks (DEMix); "all", a
    whole model (Branch-Train-Merge); "none", nothing: the dense baseline, whose `domains` are
    only those that domain tokens tell apart. It satisfies `ModularLM`. Initial weights come from
    PyTorch's generator, the same for all experts, and for any number of them.
    """

    def __init__(
        self, config: LMConfig, domains: Sequence[str] = (), *, experts: Experts = "ffn"
    ) -> None:
        super().__init__()
        if experts not in get_args(Experts):
            raise InputError(f"experts {experts!r}: expected ffn, all or none")
        if config.domain_tokens and experts != "none":
            raise InputError("domain_tokens: expected with experts none only")
        if experts == "none" and not config.domain_tokens:
            domains = ("dense",)
        if not domains:
            raise InputError("domains: expected one or more names")
        self.config = config
        self.experts: Experts = experts
        self.domains = check_names(domains)
        if experts == "all":
            first = Decoder(config, 1)
            rest = (copy.deepcopy(first) for _ in self.domains[1:])
            self.members = nn.ModuleList([first, *rest])
        else:
            count = len(self.domains) if experts == "ffn" else 1
            self.decoder = Decoder(config, count, int(config.domain_tokens))
        if config.domain_tokens:
            self.domain_vectors = nn.Embedding(len(self.domains), config.dim)
            nn.init.normal_(self.domain_vectors.weight, std=initial_deviation(config.dim))

    @property
    def context(self) -> int:
        """Tokens of the longest row that it reads."""
        return self.config.length

    @property
    def vocabulary(self) -> int:
        """Kinds of tokens."""
        return self.config.vocabulary

    @property
    def end_of_text(self) -> int:
        """The token between documents."""
        return self.config.end_of_text

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def forward(
        self,
        tokens: Int[Tensor, "batch length"],
        domain: int | Int[Tensor, " batch"] = 0,
        targets: Int[Tensor, "batch length"] | None = None,
    ) -> Float[Tensor, "batch length vocabulary"] | Float[Tensor, ""]:
        """Scores of the token after each one, every row by the expert of its domain.

        With `targets`, the mean cross-entropy of these instead, without keeping many scores.
        """
        if isinstance(domain, int):
            expert_number(self.domains, domain)
        if self.experts == "all":
            return self._by_member(tokens, domain, targets)
        assignment = Assignment((0,))
        if self.experts == "ffn":
            assignment = Assignment.of(domain, len(tokens), len(self.domains))
        x = self._embed(tokens, domain)
        hidden = self.decoder(x, assignment)[:, x.shape[1] - tokens.shape[1] :]
        return (
            self.decoder.logits(hidden) if targets is None else self.decoder.loss(hidden, targets)
        )

    def _embed(self, tokens: Tensor, domain: int | Tensor) -> Tensor:
        if not self.config.domain_tokens:
            return self.decoder.embed(tokens)
        if isinstance(domain, int):
            domain = torch.full((len(tokens),), domain, device=tokens.device)
        first = self.domain_vectors(domain)[:, None] + self.decoder.positions.weight[:1]
        return torch.cat([first, self.decoder.embed(tokens, 1)], 1)

    def _by_member(self, tokens: Tensor, domain: int | Tensor, targets: Tensor | None) -> Tensor:
        if isinstance(domain, int):
            domain = torch.full((len(tokens),), domain, device=tokens.device)
        Assignment.of(domain, len(tokens), len(self.domains))
        order = domain.argsort(stable=True)
        counts = torch.bincount(domain, minlength=len(self.domains)).tolist()
        results, losses = [], []
        for member, rows in zip(cast("list[Any]", self.members), order.split(counts), strict=True):
            # Members without a row take no part, and get no gradient.
            if len(rows):
                hidden = member(member.embed(tokens[rows]), Assignment((0,)))
                if targets is None:
                    results.append(member.logits(hidden))
                else:
                    losses.append(member.loss(hidden, targets[rows]) * (len(rows) / len(tokens)))
        return torch.cat(results)[order.argsort()] if targets is None else torch.stack(losses).sum()

    @torch.no_grad()
    def token_logprobs(
        self,
        tokens: Int[Tensor, "batch length"],
        experts: Sequence[int | str] | None = None,
        *,
        previous: Int[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "experts batch length"]:
        """Log-probability of each token after those before it, by each expert (None: all).

        `previous` is the token before each row; None: the end of a text.
        """
        read = preceding_tokens(self, tokens, previous)
        numbers = expert_numbers(self.domains, experts)
        _keep_freed_memory()
        # A few rows at a time keep the hidden states in the processor's cache.
        rows = max(1, _TOKENS_AT_ONCE // max(1, len(numbers) * tokens.shape[1]))
        found = [
            self._logprobs(some, targets, numbers)
            for some, targets in zip(read.split(rows), tokens.split(rows), strict=True)
        ]
        return torch.cat(found, 1)

    def _logprobs(self, read: Tensor, targets: Tensor, numbers: tuple[int, ...]) -> Tensor:
        if self.experts == "all":
            members = [cast(Decoder, self.members[number]) for number in numbers]
            runs = [member(member.embed(read), Assignment((0,))) for member in members]
            pairs = zip(members, runs, strict=True)
            return torch.stack([_of_targets(one, hidden, targets) for one, hidden in pairs])
        if self.experts == "ffn":
            hidden = self.decoder.by_expert(self.decoder.embed(read), numbers)
        elif self.config.domain_tokens:
            which = torch.tensor(numbers, device=read.device).repeat_interleave(len(read))
            x = self._embed(read.repeat(len(numbers), 1), which)
            hidden = self.decoder(x, Assignment((0,)))[:, 1:]
        else:
            hidden = self.decoder(self.decoder.embed(read), Assignment((0,)))
        found = _of_targets(self.decoder, hidden, targets.repeat(len(numbers), 1))
        return found.view(len(numbers), *targets.shape)

    def reader(self, experts: Sequence[int | str] | None = None) -> "DecoderReader":
        """Read one sequence bit by bit, with a cache of keys and values for each expert."""
        return DecoderReader(self, expert_numbers(self.domains, experts))

    def add_expert(self, name: str, init: str = "mean", seed: int = 0) -> None:
        """Add an expert: a copy of the one named, the mean of all, or random by `seed`."""
        check_name(name, self.domains)
        self._check_modular("add_expert")
        with torch.no_grad():
            tensors = self._initial_expert(init, seed)
            if self.experts == "all":
                self.members.append(copy.deepcopy(self.members[0]))
            else:
                self._map_experts(lambda weight: torch.cat([weight, weight[:1]]))
            self.domains = (*self.domains, name)
            self.load_expert(name, tensors)

    def _initial_expert(self, init: str, seed: int) -> dict[str, Tensor]:
        if not 0 <= seed < 2**63:
            raise InputError(f"seed {seed}: expected from 0 to below 2**63")
        if init == "random":
            with torch.random.fork_rng():
                # Not the numbers that the model of this seed itself began with.
                apart = np.random.SeedSequence([seed, 1]).generate_state(1, np.uint64)
                torch.manual_seed(int(apart[0] >> 1))
                fresh = DEMixLM(self.config, ["random"], experts=self.experts)
            return fresh.expert_parameters("random")
        if init == "mean":
            every = [self.expert_parameters(name) for name in self.domains]
            return {key: torch.stack([one[key] for one in every]).mean(0) for key in every[0]}
        if init not in self.domains:
            raise InputError(
                f"init {init!r}: expected mean, random or one of {', '.join(self.domains)}"
            )
        return {key: value.clone() for key, value in self.expert_parameters(init).items()}

    def remove_expert(self, name: str) -> None:
        """Forget an expert; InputError for the last one."""
        gone = expert_number(self.domains, name)
        self._check_modular("remove_expert")
        self.select_experts([other for other in self.domains if other != self.domains[gone]])

    def select_experts(self, names: Sequence[str]) -> None:
        """Keep these experts only, in this order."""
        self._check_modular("select_experts")
        if not names:
            raise InputError("experts: expected at least one to be left")
        numbers = expert_numbers(self.domains, names)
        if self.experts == "all":
            self.members = nn.ModuleList(self.members[number] for number in numbers)
        else:
            self._map_experts(lambda weight: weight[list(numbers)])
        self.domains = tuple(self.domains[number] for number in numbers)

    def rename_expert(self, old: str, new: str) -> None:
        """Give an expert another name."""
        number = expert_number(self.domains, old)
        self._check_modular("rename_expert")
        others = [name for name in self.domains if name != old]
        check_name(new, others)
        self.domains = (*self.domains[:number], new, *self.domains[number + 1 :])

    def _check_modular(self, verb: str) -> None:
        if self.experts == "none":
            raise InputError(f"{verb}: expected a model with experts, this one is dense")

    def _map_experts(self, change: Any) -> None:
        for block in cast("list[Any]", self.decoder.blocks):
            layer = block.feed_forward
            for name, weight in list(layer.named_parameters()):
                changed = nn.Parameter(change(weight.data), requires_grad=weight.requires_grad)
                setattr(layer, name, changed)

    def expert_parameters(self, name: str) -> dict[str, Tensor]:
        """The weights that only this expert has, as views; none of a dense model."""
        number = expert_number(self.domains, name)
        if self.experts == "all":
            return {key: value.data for key, value in self.members[number].named_parameters()}
        if self.experts == "none":
            return {}
        return {
            f"blocks.{layer}.{key}": weight.data[number]
            for layer, block in enumerate(cast("list[Any]", self.decoder.blocks))
            for key, weight in block.feed_forward.named_parameters()
        }

    def shared_parameters(self) -> dict[str, Tensor]:
        """All other weights, as views; none where domains have whole models."""
        if self.experts == "all":
            return {}
        return {
            name: weight.data
            for name, weight in self.named_parameters()
            if self.experts == "none" or ".feed_forward." not in name
        }

    def load_expert(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Overwrite the weights of an expert; InputError for others' names or shapes."""
        copy_tensors(self.expert_parameters(name), tensors, f"expert {name!r}")

    def load_shared(self, tensors: Mapping[str, Tensor]) -> None:
        """Overwrite the shared weights; InputError for others' names or shapes."""
        copy_tensors(self.shared_parameters(), tensors, "shared weights")

    def merge(self, weights: Mapping[str, float]) -> "DEMixLM":
        """The dense model whose feed-forward weights are this mean of the experts'.

        For whole models as experts it is the mean of all weights. The numbers are divided by
        their sum.
        """
        shares = mixing_weights(self.domains, weights)
        self._check_modular("merge")
        with torch.device("meta"):
            # No random weights, which would also move PyTorch's generator.
            dense = DEMixLM(self.config, experts="none")
        dense = dense.to(next(self.parameters()).dtype).to_empty(device=self.device)
        named = [name for name, share in zip(self.domains, shares, strict=True) if share]
        kept = [share for share in shares if share]
        experts = [self.expert_parameters(name) for name in named]
        mean = {
            key: sum((s * one[key] for s, one in zip(kept, experts, strict=True)), torch.zeros(()))
            for key in experts[0]
        }
        if self.experts == "all":
            copy_tensors(dict(dense.decoder.named_parameters()), mean, "merged weights")
            return dense
        target = dense.shared_parameters()
        copy_tensors(
            target,
            self.shared_parameters()
            | {_feed_forward_name(key): value[None] for key, value in mean.items()},
            "merged weights",
        )
        return dense


def _feed_forward_name(key: str) -> str:
    """ "blocks.0.up_weight" of an expert, by its name in the model."""
    blocks, layer, name = key.split(".")
    return f"decoder.{blocks}.{layer}.feed_forward.{name}"


class DecoderReader:
    """Reads one sequence with several experts of a DEMixLM, remembering keys and values."""

    def __init__(self, model: DEMixLM, experts: tuple[int, ...]) -> None:
        self.model, self.experts = model, experts
        self.held = 0
        capacity = model.context + int(model.config.domain_tokens)
        if model.experts == "all":
            self._decoders = [cast(Decoder, model.members[number]) for number in experts]
            self._groups: list[tuple[int, ...]] = [(0,)] * len(experts)
        elif model.config.domain_tokens:
            self._decoders = [model.decoder] * len(experts)
            self._groups = [(0,)] * len(experts)
        else:
            self._decoders, self._groups = [model.decoder], [experts]
        self._caches = [
            one.caches(len(group), capacity)
            for one, group in zip(self._decoders, self._groups, strict=True)
        ]

    @torch.no_grad()
    def read(self, tokens: Int[Tensor, " new"]) -> Float[Tensor, "experts new vocabulary"]:
        """Log-probabilities, by each expert, of what follows each of these tokens.

        InputError when more tokens are read than the model's context.
        """
        if self.held + len(tokens) > self.model.context:
            raise InputError(
                f"tokens: asked to read {self.held + len(tokens)}, expected at most "
                f"{self.model.context}"
            )
        found = []
        parts = zip(self._decoders, self._groups, self._caches, self.experts, strict=False)
        for decoder, group, caches, expert in parts:
            if not self.model.config.domain_tokens:
                x = decoder.embed(tokens[None], self.held)
            elif self.held == 0:
                x = self.model._embed(tokens[None], expert)
            else:
                x = decoder.embed(tokens[None], self.held + 1)
            hidden = decoder.by_expert(x, group, caches)[:, -len(tokens) :]
            found.append(decoder.logits(hidden).log_softmax(-1))
        self.held += len(tokens)
        return torch.cat(found)


def _keep_freed_memory() -> None:
    """Let the C library keep what large tensors leave, for the next ones.

    Glibc gives freed memory back to the system when there is more of it than twice its largest
    block freed so far, and every page taken anew costs a fault: a quarter of the time of scoring.
    This block, the largest that counts (32 MiB), is never written, so it costs nothing.
    """
    torch.empty((32 << 20) - (1 << 16), dtype=torch.uint8)


def _of_targets(decoder: Decoder, hidden: Tensor, targets: Tensor) -> Tensor:
    """Log-probabilities of the targets, with few logits at a time."""
    tokens = max(1, LOGITS_AT_ONCE // decoder.config.vocabulary)
    parts = zip(hidden.flatten(0, 1).split(tokens), targets.flatten().split(tokens), strict=True)
    losses = [
        functional.cross_entropy(decoder.logits(some), wanted, reduction="none")
        for some, wanted in parts
    ]
    return -torch.cat(losses).view_as(targets)


def copy_tensors(target: Mapping[str, Tensor], source: Mapping[str, Tensor], what: str) -> None:
    """Overwrite tensors; InputError names the first one missing, unknown or of another shape."""
    for name in sorted(target.keys() ^ source.keys()):
        found = "missing" if name in target else "unknown"
        raise InputError(f"{what}: the tensor {name!r} is {found}")
    for name, tensor in target.items():
        if tensor.shape != source[name].shape:
            raise InputError(
                f"{what}: the tensor {name!r} has shape {tuple(source[name].shape)}, expected "
                f"{tuple(tensor.shape)}"
            )
    with torch.no_grad():
        for name, tensor in target.items():
            tensor.copy_(source[name])
