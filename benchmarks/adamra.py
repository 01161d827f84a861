"""One attention layer beside PyTorch's, and beside the packages of efficient attention.

A case is the length of one sequence. What is timed is forward and backward, to the input and all
parameters, of a layer of 256 channels in 8 heads without mask, dropout or causality; each package
is used with its defaults otherwise.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from paired import Contender, main
from workingpapers.adamra.peers import make_attention

DIM, HEADS = 256, 8
LONGEST_EXPLICIT = 4096


@dataclass
class Step:
    """A layer and what it reads."""

    layer: nn.Module
    tokens: Tensor

    def run(self) -> None:
        self.layer(self.tokens).square().mean().backward()
        self.layer.zero_grad()
        self.tokens.grad = None


def contender(
    name: str, make: Callable[[int], nn.Module], needs: tuple[str, ...] = ()
) -> Contender:
    """A layer that `make` makes for a length."""

    def setup(case: str) -> Step:
        torch.manual_seed(0)
        length = int(case.split()[0])
        return Step(make(length), torch.randn(1, length, DIM, requires_grad=True))

    return Contender(name, setup, Step.run, needs=needs)


def ours(rates: tuple[int, ...]) -> Contender:
    listed = ", ".join(map(str, rates))
    return contender(
        f"workingpapers ({listed})",
        lambda length: make_attention("adamra", DIM, HEADS, length, rates),
    )


def explicit_softmax(length: int) -> nn.Module:
    if length > LONGEST_EXPLICIT:
        # 1.6 GiB at 4,096 tokens.
        gib = 1.6 * (length / LONGEST_EXPLICIT) ** 2
        raise RuntimeError(f"needs {gib:.0f} GiB at this length")
    return make_attention("softmax", DIM, HEADS, length)


# ---- the packages


def performer(length: int) -> nn.Module:
    from performer_pytorch import SelfAttention

    return SelfAttention(dim=DIM, heads=HEADS, dim_head=DIM // HEADS)


def linformer(length: int) -> nn.Module:
    from linformer import LinformerSelfAttention

    return LinformerSelfAttention(dim=DIM, seq_len=length, heads=HEADS, k=256)


def nystrom(length: int) -> nn.Module:
    from nystrom_attention import NystromAttention

    return NystromAttention(dim=DIM, dim_head=DIM // HEADS, heads=HEADS, num_landmarks=64)


def linear(length: int) -> nn.Module:
    from linear_attention_transformer.linear_attention_transformer import SelfAttention

    return SelfAttention(DIM, HEADS)


def local(length: int) -> nn.Module:
    from local_attention import LocalMHA

    return LocalMHA(dim=DIM, window_size=128, dim_head=DIM // HEADS, heads=HEADS)


CONTENDERS = (
    ours((1, 4, 16)),
    ours((4, 16, 32)),
    contender("PyTorch SDPA", lambda length: make_attention("sdpa", DIM, HEADS, length)),
    contender("explicit softmax", explicit_softmax),
    contender("performer-pytorch", performer, ("performer_pytorch",)),
    contender("linformer, k = 256", linformer, ("linformer",)),
    contender("nystrom-attention, 64 landmarks", nystrom, ("nystrom_attention",)),
    contender("linear-attention-transformer", linear, ("linear_attention_transformer",)),
    contender("local-attention, window 128", local, ("local_attention",)),
)

CASES = tuple(f"{length} tokens" for length in (1024, 2048, 4096, 8192, 16384))

if __name__ == "__main__":
    raise SystemExit(main("Adaptive multi-resolution attention", CONTENDERS, CASES))
