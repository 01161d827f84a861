"""A transformer encoder that classifies token sequences, with the attention as an option."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from workingpapers.adamra.attention import (
    AdaptiveMultiResolutionAttention,
    Routing,
    check_heads,
    check_rates,
)
from workingpapers.adamra.peers import ATTENTIONS, make_attention
from workingpapers.foundation.checkpoints import load, save
from workingpapers.foundation.errors import InputError
from workingpapers.foundation.transformer import Block, FeedForward


@dataclass(frozen=True)
class EncoderConfig:
    """What an encoder is made of; InputError for impossible values.

    `attention` is adamra or a peer's name; the options from `rates` on are adamra's. `pair` reads
    two sequences with the same weights and classifies what distinguishes them.
    """

    vocabulary: int
    """Tokens, with padding (0)."""
    classes: int
    length: int
    """Longest sequence."""
    dim: int = 64
    depth: int = 2
    heads: int = 2
    feed_forward: int = 128
    pooling: Literal["mean", "cls"] = "mean"
    pair: bool = False
    dropout: float = 0.1
    activation: Literal["gelu", "relu"] = "gelu"
    attention: str = "adamra"
    rates: tuple[int, ...] = (1, 4, 16)
    feature_map: str = "relu"
    kernel: str = "linear"
    compressor: str = "mean"
    routing: str = "top1"
    per_head_routing: bool = False
    share_kv: bool = False

    def __post_init__(self) -> None:
        for name in ("vocabulary", "classes", "length", "depth", "feed_forward"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} {getattr(self, name)}: expected at least 1")
        check_heads(self.dim, self.heads)
        check_rates(self.rates)
        if self.attention != "adamra" and self.attention not in ATTENTIONS:
            raise InputError(f"attention {self.attention!r}: expected {', '.join(ATTENTIONS)}")


class AdaMRAEncoder(nn.Module):
    """Embedding, learned positions, pre-norm blocks, pooling and a linear classifier."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        extra = config.pooling == "cls"
        self.embedding = nn.Embedding(config.vocabulary, config.dim, padding_idx=0)
        self.position = nn.Parameter(torch.empty(config.length + extra, config.dim))
        self.cls = nn.Parameter(torch.empty(config.dim)) if extra else None
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            Block(
                config.dim,
                _mixer(config),
                FeedForward(config.dim, config.feed_forward, config.activation, config.dropout),
                dropout=config.dropout,
            )
            for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.dim)
        self.classifier: nn.Module = nn.Linear(config.dim, config.classes)
        if config.pair:
            self.classifier = nn.Sequential(
                nn.Linear(4 * config.dim, config.feed_forward),
                nn.ReLU(),
                nn.Linear(config.feed_forward, config.classes),
            )
        for weight in (self.embedding.weight, self.position, self.cls):
            if weight is not None:
                nn.init.normal_(weight, std=0.02)

    def forward(
        self, tokens: Int[Tensor, "batch length"] | Int[Tensor, "batch 2 length"]
    ) -> Float[Tensor, "batch classes"]:
        """Class scores; token 0 is padding. InputError for tokens of another shape or range."""
        pooled = self.encode(tokens.flatten(0, 1) if self.config.pair else tokens)
        if self.config.pair:
            u, v = pooled.unflatten(0, (-1, 2)).unbind(1)
            pooled = torch.cat([u, v, u * v, u - v], -1)
        return self.classifier(pooled)

    def encode(self, tokens: Int[Tensor, "batch length"]) -> Float[Tensor, "batch dim"]:
        """One vector a sequence."""
        if tokens.ndim != 2 or tokens.shape[1] > self.config.length:
            raise InputError(
                f"tokens: expected at most {self.config.length} a sequence, "
                f"found the shape {tuple(tokens.shape)}"
            )
        mask = tokens != 0
        # Columns of padding alone cost time and change nothing.
        longest = int(mask.any(0).nonzero()[-1]) + 1 if bool(mask.any()) else 1
        tokens, mask = tokens[:, :longest], mask[:, :longest]
        full = bool(mask.all())
        x = self.embedding(tokens.long())
        if self.cls is not None:
            x = torch.cat([self.cls.expand(len(x), 1, -1), x], 1)
            mask = torch.cat([mask.new_ones(len(mask), 1), mask], 1)
        x = self.dropout(x + self.position[: x.shape[1]])
        for block in self.blocks:
            x = block(x, mixing={"mask": None if full else mask})
        x = self.norm(x)
        if self.cls is not None:
            return x[:, 0]
        return _masked_mean(x, mask)

    def attentions(self) -> list[AdaptiveMultiResolutionAttention]:
        """The adaptive layers, first to last; none where the attention is a peer."""
        mixers = [block.mixer for block in self.blocks if isinstance(block, Block)]
        return [m for m in mixers if isinstance(m, AdaptiveMultiResolutionAttention)]

    def routings(self) -> list[Routing]:
        """What each adaptive layer decided in the last call."""
        return [layer.last_routing()[0] for layer in self.attentions()]

    def save_pretrained(self, folder: Path, *, overwrite: bool = False) -> None:
        """Write config.json and model.safetensors into a folder."""
        save(folder, self.config, {"model": self.state_dict()}, overwrite=overwrite)

    @classmethod
    def from_pretrained(cls, folder: Path, device: str | torch.device = "cpu") -> "AdaMRAEncoder":
        """The encoder that `save_pretrained` wrote; InputError names a file at fault."""
        config, parts = load(folder, EncoderConfig, ("model",), device)
        model = cls(config).to(device)
        try:
            model.load_state_dict(parts["model"])
        except RuntimeError as error:
            raise InputError(
                f"{folder / 'model.safetensors'}: not the weights of its config.json "
                f"({str(error).splitlines()[0]})"
            ) from None
        return model.eval()


def _mixer(config: EncoderConfig) -> nn.Module:
    if config.attention != "adamra":
        length = config.length + (config.pooling == "cls")
        return make_attention(config.attention, config.dim, config.heads, length)
    return AdaptiveMultiResolutionAttention(
        config.dim,
        config.heads,
        config.rates,
        feature_map=config.feature_map,
        kernel=config.kernel,
        compressor=config.compressor,
        routing=config.routing,
        per_head_routing=config.per_head_routing,
        share_kv=config.share_kv,
    )


def _masked_mean(
    x: Float[Tensor, "batch length dim"], mask: Bool[Tensor, "batch length"]
) -> Float[Tensor, "batch dim"]:
    weights = mask.to(x.dtype)
    return (x * weights[..., None]).sum(1) / weights.sum(1, keepdim=True).clamp_min(1)
