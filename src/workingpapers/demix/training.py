"""Training language models with domain experts, and adding experts to them.

Each step reads equally many rows of every domain; a row trains the shared weights and the expert
of its domain (arXiv:2108.05036, section 3.2).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from workingpapers.demix.corpora import BlockSampler, DomainCorpus, blocks
from workingpapers.demix.distributed import Division, ExpertTraining
from workingpapers.demix.model import DEMixLM
from workingpapers.demix.protocol import expert_number
from workingpapers.foundation.errors import InputError
from workingpapers.foundation.training import History, TrainConfig, fit, one_process, step_seconds

if TYPE_CHECKING:
    from lightning_fabric import Fabric

LEARNING_RATE = 8e-3
"""The best for 64 channels."""
WARMUP_SHARE = 0.08
BETAS = (0.9, 0.95)
WEIGHT_DECAY = 0.1
CLIP = 0.1

PAPER_DIM = 768
"""From this width on, defaults are the paper's."""
PAPER_LEARNING_RATE = 5e-4

Batch = tuple[Int[Tensor, "rows _"], Int[Tensor, " rows"]]


def peak_learning_rate(dim: int, *, adapting: bool = False) -> float:
    """The default for a model of this width.

    The paper's from its smallest model on, and a tenth of it for adaptation. For narrower ones in
    inverse proportion to the width, but LEARNING_RATE at most, and a quarter for adaptation, which
    then has few steps.
    """
    if dim >= PAPER_DIM:
        return PAPER_LEARNING_RATE / 10 if adapting else PAPER_LEARNING_RATE
    rate = max(PAPER_LEARNING_RATE, min(LEARNING_RATE, LEARNING_RATE * 64 / dim))
    return rate / 4 if adapting else rate


def train_config(
    dim: int,
    *,
    steps: int | None = None,
    seconds: float | None = None,
    adapting: bool = False,
    **changes: Any,
) -> TrainConfig:
    """The paper's way of training a model of width `dim`, with `changes` of single settings.

    AdamW with betas of .9 and .95 and a weight decay of .1, gradients clipped at a norm of .1; the
    learning rate grows for 8 % of the steps and then falls linearly to 0. A change that is None
    is none.
    """
    settings: dict[str, Any] = {
        "learning_rate": peak_learning_rate(dim, adapting=adapting),
        "schedule": "linear",
        "weight_decay": WEIGHT_DECAY,
        "betas": BETAS,
        "clip": CLIP,
        "steps": steps,
        "seconds": seconds,
    }
    if steps is not None:
        settings["warmup"] = warmup_steps(steps)
        settings["save_every"] = max(1, min(500, steps // 10))
    given = {name: value for name, value in changes.items() if value is not None}
    return TrainConfig(**settings | given)


def warmup_steps(steps: int) -> int:
    """The steps in which the learning rate grows, of all."""
    return max(1, round(WARMUP_SHARE * steps))


def parameter_groups(model: nn.Module) -> list[dict[str, Any]]:
    """The optimizer's groups: weight decay spares biases and norms, also those that are stacked."""
    trained = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    spared = [weight for name, weight in trained if weight.ndim < 2 or name.endswith("bias")]
    return [
        {"params": [weight for _, weight in trained if all(weight is not one for one in spared)]},
        {"params": spared, "weight_decay": 0.0},
    ]


def next_token_loss(model: nn.Module, batch: Batch) -> Float[Tensor, ""]:
    """Mean cross-entropy of all tokens of a batch but the first of each row."""
    rows, domain = batch
    return model(rows[:, :-1], domain, rows[:, 1:])


def train(
    model: nn.Module,
    corpora: Sequence[DomainCorpus],
    config: TrainConfig,
    *,
    rows: int = 2,
    length: int | None = None,
    folder: Path | None = None,
    fabric: "Fabric | None" = None,
    progress: Callable[[int], None] | None = None,
) -> History:
    """Train a DEMixLM or DEMixForCausalLM on `rows` rows of each domain a step, in place.

    The corpora are those of the model's domains, in their order; a dense model takes any. Rows
    have `length` tokens, as many as the model reads if there is none given. Where `fabric` has
    several processes, they read these rows together, each those of its own domains (see
    `distributed.Division`): the model becomes the same as in one process, up to rounding. The
    rest is as in `foundation.training.fit`. InputError for other domains, a corpus shorter than a
    row, rows longer than the model reads, and numbers of processes that do not fit.
    """
    names = tuple(corpus.name for corpus in corpora)
    modular: Any = model
    if modular.domains not in (names, ("dense",)):
        raise InputError(f"corpora {names}: expected the model's domains {modular.domains}")
    length = modular.context if length is None else length
    if length > modular.context:
        raise InputError(f"length {length}: expected at most {modular.context}, the model's")
    return _fit(model, corpora, config, rows, length, folder, fabric, progress)


def time_step(
    model: nn.Module,
    corpora: Sequence[DomainCorpus],
    config: TrainConfig,
    *,
    rows: int = 2,
    length: int | None = None,
    repeats: int = 3,
) -> float:
    """Median wall seconds of a step of `train` in one process; the model stays as it is."""
    modular: Any = model
    length = modular.context if length is None else length
    batches = _batches(corpora, Division.of(len(corpora), rows, 1, 0), 1, length, config.seed)
    with without_subnormals():
        return step_seconds(model, _loss(model), batches, config, repeats=repeats)


def _fit(
    model: nn.Module,
    corpora: Sequence[DomainCorpus],
    config: TrainConfig,
    rows: int,
    length: int,
    folder: Path | None,
    fabric: "Fabric | None",
    progress: Callable[[int], None] | None,
) -> History:
    if fabric is None:
        fabric = one_process(config)
    processes = fabric.world_size
    if processes > 1 and getattr(model, "experts", None) == "all":
        raise InputError(
            f"{processes} processes: expected one, whole models as experts train apart from each "
            "other as tasks"
        )
    experts = ExpertTraining(model, fabric, len(corpora), rows)
    divided = processes > 1 and bool(experts.stacks)
    training = model.training
    try:
        with (
            without_subnormals(),
            experts.outside_wrapper(model, fabric) if divided else nullcontext(),
        ):
            return fit(
                model,
                _loss(model),
                _batches(corpora, experts.division, processes, length, config.seed),
                config,
                folder=folder,
                fabric=fabric,
                groups=parameter_groups(model),
                before_update=experts.reduce if divided else None,
                gradient_norm=experts.norm if divided else None,
                before_save=experts.complete if divided else None,
                progress=progress,
            )
    finally:
        model.train(training)


def _batches(
    corpora: Sequence[DomainCorpus], own: Division, processes: int, length: int, seed: int
) -> Callable[[int], Batch]:
    """The rows that one process reads, and their domains, by the number that `fit` gives them."""
    sampler = BlockSampler([corpora[number] for number in own.domains], length, own.rows, seed)
    domain = torch.tensor(own.domains).repeat_interleave(own.rows)

    def batches(index: int) -> Batch:
        # Of processes that share a domain, each takes the next rows.
        found = sampler(index // processes * own.group + own.member)
        return torch.from_numpy(found).flatten(0, 1), domain

    return batches


def _loss(model: nn.Module) -> Callable[[nn.Module, Batch], Tensor]:
    """The loss of a batch, for our own models, and wrapped or plain decoders of transformers."""
    if isinstance(model, DEMixLM):
        return next_token_loss
    modular = hasattr(model, "domains")

    def decoder_loss(model: nn.Module, batch: Batch) -> Tensor:
        rows, domain = batch
        more = {"domain": domain} if modular else {}
        logits = model(input_ids=rows[:, :-1], use_cache=False, **more).logits
        return functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())

    return decoder_loss


@contextmanager
def without_subnormals() -> Iterator[None]:
    """Numbers too small for full precision are 0 on the processor, which is many times slower with
    them; they occur in gradients where a softmax is sure of itself."""
    kept_before = bool(torch.tensor(1e-39) * 0.5)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(not kept_before)


def adapt(
    model: nn.Module,
    name: str,
    corpus: DomainCorpus,
    config: TrainConfig,
    *,
    mode: Literal["ffn", "full"] = "ffn",
    rows: int = 8,
    length: int | None = None,
    folder: Path | None = None,
    fabric: "Fabric | None" = None,
    progress: Callable[[int], None] | None = None,
) -> History:
    """Train the expert `name` on a corpus; all other weights stay as they are (DEMix-DAPT).

    For a DEMixLM or DEMixForCausalLM, whose other experts are not even in the model that is
    trained. With mode "full", all weights of a dense model train: the baseline that forgets. The
    rest is as in `train`.
    """
    if mode == "full":
        return train(
            model,
            [corpus],
            config,
            rows=rows,
            length=length,
            folder=folder,
            fabric=fabric,
            progress=progress,
        )
    modular: Any = model
    expert_number(modular.domains, name)
    length = modular.context if length is None else length
    if length > modular.context:
        raise InputError(f"length {length}: expected at most {modular.context}, the model's")
    single = modular.merge({name: 1.0})
    # Of a wrapped decoder they have the same names in the plain one.
    weights = dict((single.decoder if isinstance(model, DEMixLM) else single).named_parameters())
    own = {key: _of_expert(weights, key) for key in modular.expert_parameters(name)}
    single.requires_grad_(False)
    for weight in own.values():
        weight.requires_grad_(True)
    history = _fit(single, [corpus], config, rows, length, folder, fabric, progress)
    shapes = {key: weight.shape for key, weight in modular.expert_parameters(name).items()}
    modular.load_expert(
        name, {key: weight.detach().view(shapes[key]) for key, weight in own.items()}
    )
    return history


def _of_expert(weights: dict[str, nn.Parameter], key: str) -> nn.Parameter:
    """A weight of an expert, in a model that has no other."""
    if key in weights:
        return weights[key]
    layer, _, name = key.rpartition(".")
    return weights[f"{layer}.feed_forward.{name}"]


def held_out_rows(
    corpus: DomainCorpus, length: int, most: int = 100, part: str = "dev"
) -> tuple[Int[Tensor, "rows length"], Int[Tensor, " rows"]]:
    """Rows of a part of a corpus, evenly spread over it, and the token before each."""
    rows, previous = blocks(corpus.part(part), length)
    if len(rows) > most:
        chosen = np.arange(most) * len(rows) // most
        rows, previous = rows[chosen], previous[chosen]
    return torch.from_numpy(rows), torch.from_numpy(previous)


def nearest_expert(
    model: Any,
    tokens: Int[Tensor, "rows length"],
    previous: Int[Tensor, " rows"] | None = None,
) -> str:
    """The expert under which held-out rows are likeliest (paper, section 5.1)."""
    device = next(model.parameters()).device
    before = None if previous is None else previous.to(device)
    logprobs = model.token_logprobs(tokens.to(device), previous=before)
    return model.domains[int(logprobs.double().mean((1, 2)).argmax())]
