"""Language models with domain experts beside a dense one, GPT-2 of transformers, PEFT and mergekit.

All language models have one shape (128 channels, 4 layers, 256 tokens, 2,048 kinds of tokens), and
there are eight domains. "training step": forward, backward and AdamW on two rows a domain.
"scoring": log-probabilities of two rows by eight experts; a dense model and GPT-2 make as many
passes, as if each expert were one of them. "mixed batch": logits, without gradients, of 16 rows
whose domains are mixed and unequally many; PEFT's experts are LoRA adapters of rank 8, a row its
own. "layer": forward and backward of a feed-forward layer of 256 channels. "merge": the weighted
mean of four experts, from files to a folder for transformers. "tokens" are those of a run.

Plain PyTorch is what one writes without a library: an nn.Module an expert, whose rows are gathered
one domain after another.
"""

import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from paired import Contender, main
from workingpapers.demix.checkpoint import load_model, save_model
from workingpapers.demix.export import as_gpt2, export_model
from workingpapers.demix.model import Assignment, DEMixFeedForward, DEMixLM, LMConfig
from workingpapers.foundation.transformer import Attention, Block, FeedForward

EXPERTS, ROWS = 8, 2
DOMAINS = tuple(f"domain{number}" for number in range(EXPERTS))
SHAPE = LMConfig(vocabulary=2048, length=256, dim=128, layers=4, heads=4)
MERGED = LMConfig(vocabulary=8192, length=256, dim=256, layers=6, heads=8)
WEIGHTS = {"domain0": 0.4, "domain1": 0.3, "domain2": 0.2, "domain3": 0.1}
LAYER_DIM = 256
RUNS = {"scoring": 2, "layer, balanced": 2, "layer, mixed": 2}
"""How often a short job is done in one timed run."""

CASES = ("training step", "scoring", "mixed batch", "layer, balanced", "layer, mixed", "merge")

BALANCED = torch.arange(EXPERTS).repeat_interleave(ROWS)
# One row of each domain, the others of the last ones, in no order.
MIXED = torch.cat([torch.arange(EXPERTS), torch.tensor([7] * 4 + [6] * 2 + [5] * 2)])[
    torch.randperm(16, generator=torch.Generator().manual_seed(0))
]


@dataclass
class Job:
    """What is timed, and how many tokens it reads."""

    work: Callable[[], object]
    tokens: int = 0
    times: int = 1

    def run(self) -> dict[str, float]:
        for _ in range(self.times):
            self.work()
        return {"tokens": float(self.tokens * self.times)} if self.tokens else {}


def contender(
    name: str, jobs: Mapping[str, Callable[[], Job]], needs: tuple[str, ...] = ()
) -> Contender:
    """One that does some of the cases' jobs."""

    def setup(case: str) -> Job:
        if case not in jobs:
            raise RuntimeError("does not do this job")
        torch.manual_seed(0)
        torch.set_flush_denormal(True)
        job = jobs[case]()
        job.times = RUNS.get(case, 1)
        return job

    return Contender(name, setup, Job.run, needs=needs)


# ---- jobs, for any model


def training_step(model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor]) -> Job:
    rows = torch.randint(SHAPE.vocabulary, (EXPERTS * ROWS, SHAPE.length + 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

    def step() -> None:
        loss(rows[:, :-1], rows[:, 1:]).backward()
        optimizer.step()
        optimizer.zero_grad()

    return Job(step, rows[:, 1:].numel())


def scoring(logprobs: Callable[[Tensor], object]) -> Job:
    rows = torch.randint(SHAPE.vocabulary, (ROWS, SHAPE.length))
    return Job(torch.no_grad()(lambda: logprobs(rows)), rows.numel())


def mixed_batch(logits: Callable[[Tensor], object]) -> Job:
    rows = torch.randint(SHAPE.vocabulary, (len(MIXED), SHAPE.length))
    return Job(torch.no_grad()(lambda: logits(rows)), rows.numel())


def layer(module: nn.Module, forward: Callable[[Tensor], Tensor]) -> Job:
    x = torch.randn(EXPERTS * ROWS, SHAPE.length, LAYER_DIM, requires_grad=True)
    target = torch.randn_like(x)

    def step() -> None:
        functional.mse_loss(forward(x), target).backward()
        x.grad = None
        module.zero_grad()

    return Job(step, x[..., 0].numel())


def gathered(logits: Tensor, rows: Tensor) -> Tensor:
    """Log-probabilities of all tokens but the first."""
    return logits[:, :-1].log_softmax(-1).gather(-1, rows[:, 1:, None])


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


# ---- ours


def our_jobs() -> dict[str, Callable[[], Job]]:
    def model() -> DEMixLM:
        return DEMixLM(SHAPE, DOMAINS)

    def step() -> Job:
        lm = model()
        return training_step(lm, lambda rows, targets: lm(rows, BALANCED, targets))

    def one_layer(domain: Tensor) -> Job:
        experts = DEMixFeedForward(LAYER_DIM, 4 * LAYER_DIM, EXPERTS)
        experts.initialise(SHAPE.layers)
        # Sorting the rows is part of the job.
        return layer(
            experts,
            lambda x: experts(x, assignment=Assignment.of(domain, len(x), EXPERTS)),
        )

    def merge() -> Job:
        folder = Path(tempfile.mkdtemp())
        save_model(folder / "experts", DEMixLM(MERGED, list(WEIGHTS)))

        def work() -> None:
            lm, _, _ = load_model(folder / "experts")
            export_model(lm, None, fresh(folder / "merged"), WEIGHTS)

        return Job(work)

    def score() -> Job:
        return scoring(model().eval().token_logprobs)

    def batch() -> Job:
        lm = model().eval()
        return mixed_batch(lambda rows: lm(rows, MIXED))

    return {
        "training step": step,
        "scoring": score,
        "mixed batch": batch,
        "layer, balanced": lambda: one_layer(BALANCED),
        "layer, mixed": lambda: one_layer(MIXED),
        "merge": merge,
    }


def dense_jobs() -> dict[str, Callable[[], Job]]:
    def step() -> Job:
        lm = DEMixLM(SHAPE, experts="none")
        return training_step(lm, lambda rows, targets: lm(rows, 0, targets))

    def score() -> Job:
        lm = DEMixLM(SHAPE, experts="none").eval()
        return scoring(lambda rows: [lm.token_logprobs(rows) for _ in DOMAINS])

    def batch() -> Job:
        lm = DEMixLM(SHAPE, experts="none").eval()
        return mixed_batch(lm)

    def one_layer() -> Job:
        module = FeedForward(LAYER_DIM, 4 * LAYER_DIM)
        return layer(module, module)

    return {
        "training step": step,
        "scoring": score,
        "mixed batch": batch,
        "layer, balanced": one_layer,
        "layer, mixed": one_layer,
    }


# ---- without a library


class Loop(nn.Module):
    """A feed-forward network an expert, the rows of one domain after another."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.experts = nn.ModuleList(FeedForward(dim, 4 * dim) for _ in DOMAINS)

    def forward(self, x: Tensor, domain: Tensor) -> Tensor:
        y = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            rows = domain == number
            y[rows] = expert(x[rows])
        return y


class PlainLM(nn.Module):
    """GPT-2 with such layers; all logits of a batch at once."""

    def __init__(self) -> None:
        super().__init__()
        dim = SHAPE.dim
        self.tokens = nn.Embedding(SHAPE.vocabulary, dim)
        self.places = nn.Embedding(SHAPE.length, dim)
        self.blocks = nn.ModuleList(
            Block(dim, Attention(dim, SHAPE.heads, causal=True), Loop(dim))
            for _ in range(SHAPE.layers)
        )
        self.norm = nn.LayerNorm(dim)
        for table in (self.tokens, self.places):
            nn.init.normal_(table.weight, std=0.02)

    def forward(self, rows: Tensor, domain: Tensor) -> Tensor:
        x = self.tokens(rows) + self.places.weight[: rows.shape[1]]
        for block in self.blocks:
            x = block(x, feeding={"domain": domain})
        return functional.linear(self.norm(x), self.tokens.weight)


def plain_jobs() -> dict[str, Callable[[], Job]]:
    def step() -> Job:
        lm = PlainLM()
        return training_step(lm, lambda rows, targets: cross_entropy(lm(rows, BALANCED), targets))

    def score() -> Job:
        lm = PlainLM().eval()
        experts = [torch.full((ROWS,), number) for number in range(EXPERTS)]
        return scoring(lambda rows: [gathered(lm(rows, expert), rows) for expert in experts])

    def batch() -> Job:
        lm = PlainLM().eval()
        return mixed_batch(lambda rows: lm(rows, MIXED))

    def one_layer(domain: Tensor) -> Job:
        module = Loop(LAYER_DIM)
        return layer(module, lambda x: module(x, domain))

    return {
        "training step": step,
        "scoring": score,
        "mixed batch": batch,
        "layer, balanced": lambda: one_layer(BALANCED),
        "layer, mixed": lambda: one_layer(MIXED),
    }


# ---- the packages


def gpt2(config: LMConfig = SHAPE) -> Any:
    """GPT-2 of this shape as transformers has it, with the activation that ours has."""
    lm = as_gpt2(DEMixLM(config, experts="none"))
    # Else it fills a cache that only generation needs.
    lm.config.use_cache = False
    return lm


def gpt2_jobs() -> dict[str, Callable[[], Job]]:
    def step() -> Job:
        lm = gpt2().train()
        return training_step(lm, lambda rows, targets: cross_entropy(lm(rows).logits, targets))

    def score() -> Job:
        lm = gpt2().eval()
        return scoring(lambda rows: [gathered(lm(rows).logits, rows) for _ in DOMAINS])

    def batch() -> Job:
        lm = gpt2().eval()
        return mixed_batch(lambda rows: lm(rows).logits)

    return {"training step": step, "scoring": score, "mixed batch": batch}


def lora_batch() -> Job:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=8, target_modules=["c_fc", "mlp.c_proj"], fan_in_fan_out=True)
    lm = get_peft_model(gpt2(), config, adapter_name=DOMAINS[0])
    for name in DOMAINS[1:]:
        lm.add_adapter(name, config)
    lm.eval()
    names = [DOMAINS[number] for number in MIXED.tolist()]
    return mixed_batch(lambda rows: lm(rows, adapter_names=names).logits)


def linear_merge() -> Job:
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    folder = Path(tempfile.mkdtemp())
    for name in WEIGHTS:
        gpt2(MERGED).save_pretrained(folder / name)
    models = [
        {"model": str(folder / name), "parameters": {"weight": weight}}
        for name, weight in WEIGHTS.items()
    ]
    plan = MergeConfiguration.model_validate(
        {"merge_method": "linear", "dtype": "float32", "models": models}
    )
    options = MergeOptions(copy_tokenizer=False, quiet=True, lazy_unpickle=True)
    return Job(lambda: run_merge(plan, str(fresh(folder / "merged")), options))


def fresh(folder: Path) -> Path:
    """A folder that is not there."""
    shutil.rmtree(folder, ignore_errors=True)
    return folder


CONTENDERS = (
    contender("workingpapers DEMix", our_jobs()),
    contender("workingpapers dense", dense_jobs()),
    contender("plain PyTorch, a module an expert", plain_jobs()),
    contender("transformers GPT-2", gpt2_jobs(), ("transformers",)),
    contender("PEFT, LoRA a row", {"mixed batch": lora_batch}, ("peft",)),
    contender("mergekit, linear", {"merge": linear_merge}, ("mergekit",)),
)

if __name__ == "__main__":
    raise SystemExit(main("Language models with domain experts", CONTENDERS, CASES))
