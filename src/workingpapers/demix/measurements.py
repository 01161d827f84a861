"""The tasks behind the claims: what is trained and measured for one model and seed."""

import copy
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from workingpapers.demix.corpora import (
    Corpora,
    DomainCorpus,
    load_domains,
    random_split,
    token_bytes,
)
from workingpapers.demix.mixture import MixtureLM
from workingpapers.demix.model import Assignment, DEMixFeedForward, DEMixLM, Experts, LMConfig
from workingpapers.demix.posterior import DomainPosterior, History, fit_weights, mix
from workingpapers.demix.training import (
    BETAS,
    WEIGHT_DECAY,
    adapt,
    held_out_rows,
    nearest_expert,
    train,
    warmup_steps,
    without_subnormals,
)
from workingpapers.foundation.training import TrainConfig, count_parameters

Record = dict[str, Any]
Logprobs = Float[Tensor, "experts rows length"]

UPDATED_AFTER = 2
"""Rows, together, that move an updating prior on: as in the authors' program."""


@dataclass(frozen=True)
class Setting:
    """The sizes of a comparison: data, network and training."""

    training: tuple[str, ...]
    novel: tuple[str, ...]
    limit_bytes: int
    """Of text a domain."""
    vocabulary: int
    length: int
    dim: int
    layers: int
    heads: int
    rows: int
    """A domain and step."""
    steps: int
    learning_rate: float
    test_rows: int
    held_out_rows: int
    """Of the development text, from which priors and nearest experts are estimated."""
    adapted: tuple[str, ...]
    """Novel domains for which an expert is added."""
    adapt_steps: int
    adapt_rows: int
    adapt_learning_rate: float


@dataclass(frozen=True)
class ModelTask:
    """One language model trained with one seed, and all that is measured on it."""

    setting: Setting
    model: str
    """demix, dense, domain token, without (a domain), random split, or equal parameters: a dense
    model as large as all experts, trained with as many operations as the others."""
    seed: int
    corpora: str
    """Folder in which tokens are kept between tasks."""
    removed: str | None = None


@cache
def _corpora(setting: Setting, folder: str) -> tuple[Corpora, Mapping[str, DomainCorpus]]:
    """The training domains, and the novel ones in the same tokens."""
    options: dict[str, Any] = {
        "limit_bytes": setting.limit_bytes,
        "block": setting.length,
        "cache": Path(folder),
    }
    known = load_domains(setting.training, vocabulary=setting.vocabulary, **options)
    novel = load_domains(setting.novel, known.tokenizer, **options)
    return known, novel.domains


def prepare_corpora(task: ModelTask) -> Record:
    """Read the corpora once, and say what is in them."""
    known, novel = _corpora(task.setting, task.corpora)
    return {
        name: {
            "documents": sum(corpus.documents.values()),
            "bytes": sum(corpus.bytes.values()),
            "tokens": len(corpus.train) + len(corpus.dev) + len(corpus.test),
            "licence": corpus.licence,
        }
        for name, corpus in {**known.domains, **novel}.items()
    }


def train_and_measure(task: ModelTask) -> Record:
    """Train the model and measure what the claims about it need."""
    known, novel = _corpora(task.setting, task.corpora)
    corpora = list(known.domains.values())
    if task.model == "without":
        corpora = [corpus for corpus in corpora if corpus.name != task.removed]
    if task.model == "random split":
        corpora = list(random_split(known, task.seed).domains.values())
    model = _untrained(task, known, [corpus.name for corpus in corpora])
    started = time.process_time()
    history = train(model, corpora, _training(task), rows=task.setting.rows)
    seconds = time.process_time() - started
    found: Record = {
        "parameters": count_parameters(model),
        "cpu_seconds": seconds,
        "losses": np.array([row["loss"] for row in history.log]),
    }
    measure = {
        "demix": _measure_demix,
        "dense": _measure_dense,
        "domain token": _measure_known,
        "without": _measure_without,
        "random split": _measure_random_split,
        "equal parameters": _measure_known,
    }[task.model]
    return found | measure(task, model, corpora, novel)


def _untrained(task: ModelTask, known: Corpora, domains: Sequence[str]) -> DEMixLM:
    """The model at step 0: with one seed, attention and embeddings are the same for all."""
    setting = task.setting
    experts: Experts = "ffn" if task.model in ("demix", "without", "random split") else "none"
    wide = len(domains) if task.model == "equal parameters" else 1
    config = LMConfig(
        known.tokenizer.get_vocab_size(),
        setting.length,
        setting.dim,
        setting.layers,
        setting.heads,
        end_of_text=known.end_of_text,
        hidden=4 * setting.dim * wide,
        domain_tokens=task.model == "domain token",
    )
    torch.manual_seed(task.seed)
    return DEMixLM(config, domains, experts=experts)


def _training(task: ModelTask) -> TrainConfig:
    setting = task.setting
    steps = setting.steps
    if task.model == "equal parameters":
        steps = max(
            1, round(steps * _products(setting, 1) / _products(setting, len(setting.training)))
        )
    return TrainConfig(
        learning_rate=setting.learning_rate,
        schedule="cosine",
        warmup=warmup_steps(steps),
        weight_decay=WEIGHT_DECAY,
        betas=BETAS,
        seed=task.seed,
        steps=steps,
        save_every=10**9,
    )


def _products(setting: Setting, width: int) -> int:
    """Multiplications a token, of a dense model with feed-forward layers `width` times as wide.

    Attention reads half a row, on the average, for its scores and for its values.
    """
    a_layer = (4 + 8 * width) * setting.dim**2 + setting.length * setting.dim
    return setting.layers * a_layer + setting.vocabulary * setting.dim


def _adaptation(task: ModelTask) -> TrainConfig:
    setting = task.setting
    return TrainConfig(
        learning_rate=setting.adapt_learning_rate,
        schedule="linear",
        warmup=warmup_steps(setting.adapt_steps),
        weight_decay=WEIGHT_DECAY,
        betas=BETAS,
        seed=task.seed,
        steps=setting.adapt_steps,
        save_every=10**9,
    )


# ---- perplexities


def _rows(
    corpus: DomainCorpus, setting: Setting, split: str
) -> tuple[Int[Tensor, "rows length"], Int[Tensor, " rows"]]:
    """Rows of held-out text, spread over all its documents, and the token before each."""
    most = setting.test_rows if split == "test" else setting.held_out_rows
    return held_out_rows(corpus, setting.length, most, split)


def _logprobs(
    model: DEMixLM,
    corpus: DomainCorpus,
    setting: Setting,
    experts: Sequence[int | str] | None = None,
    split: str = "test",
) -> Logprobs:
    """Of the rows of a domain's held-out text, by each expert."""
    rows, previous = _rows(corpus, setting, split)
    return model.token_logprobs(rows, experts, previous=previous).double()


def _perplexity(logprobs: Tensor) -> float:
    return float((-logprobs.mean()).exp())


def _mixed(
    logprobs: Logprobs, posterior: DomainPosterior
) -> tuple[Float[Tensor, "rows length"], Float[Tensor, " experts"]]:
    """Log-probabilities of the mixture, two rows after two, and the prior at the end."""
    posterior = copy.copy(posterior)
    if not posterior.updates:
        return mix(logprobs, posterior.weights(logprobs)), posterior.prior(len(logprobs))
    found = []
    for rows in logprobs.split(UPDATED_AFTER, 1):
        weights = posterior.weights(rows)
        found.append(mix(rows, weights))
        posterior.update(weights[:, :, -1])
    return torch.cat(found), posterior.prior(len(logprobs))


def rules(
    test: Logprobs,
    held_out: Float[Tensor, "experts held_out_rows length"],
    known: int | None,
) -> dict[str, float]:
    """Perplexity of a domain's test text under every rule of mixing.

    `known` is the number of the domain's own expert; None: it is novel. What a rule needs to know
    of the domain comes from its held-out text.
    """
    nearest = int(held_out.mean((1, 2)).argmax())
    found = {
        "naive": _perplexity(test[nearest if known is None else known]),
        "best single": min(_perplexity(one) for one in test),
        "average": _perplexity(_mixed(test, DomainPosterior("uniform", "none"))[0]),
    }
    histories: tuple[History, ...] = ("token", "prefix")
    for history in histories:
        _, cached = _mixed(held_out, DomainPosterior("updating", history))
        suffix = "" if history == "token" else ", whole prefix"
        priors: dict[str, Any] = {"uniform": "uniform", "updating": "updating", "cached": cached}
        for name, prior in priors.items():
            posterior = DomainPosterior(prior, history)
            found[name + suffix] = _perplexity(_mixed(test, posterior)[0])
    for switch in (0.05, 0.1):
        posterior = DomainPosterior("uniform", "filter", switch=switch)
        found[f"filter {switch}"] = _perplexity(_mixed(test, posterior)[0])
    fitted = fit_weights(held_out.flatten(1))
    found["fitted weights"] = _perplexity(_mixed(test, DomainPosterior(fitted, "none"))[0])
    posterior = DomainPosterior(fitted, "filter")
    found["filter around fitted weights"] = _perplexity(_mixed(test, posterior)[0])
    return found


def _measure_demix(
    task: ModelTask, model: DEMixLM, corpora: list[DomainCorpus], novel: Mapping[str, DomainCorpus]
) -> Record:
    setting = task.setting
    known, _ = _corpora(setting, task.corpora)
    sizes = token_bytes(known.tokenizer)
    tests = {one.name: _logprobs(model, one, setting) for one in corpora}
    held_out = {one.name: _logprobs(model, one, setting, split="dev") for one in corpora}
    found: Record = {
        "known": {
            name: rules(test, held_out[name], number)
            for number, (name, test) in enumerate(tests.items())
        },
        "matrix": np.array([[_perplexity(one) for one in test] for test in tests.values()]).T,
        "bytes_per_token": {
            one.name: float(sizes[_rows(one, setting, "test")[0].numpy()].mean())
            for one in (*corpora, *novel.values())
        },
    }
    new_tests = {name: _logprobs(model, one, setting) for name, one in novel.items()}
    found["novel"] = {
        name: rules(new_tests[name], _logprobs(model, one, setting, split="dev"), None)
        for name, one in novel.items()
    }
    found["removed"] = {name: _remove(model, test, name) for name, test in tests.items()}
    found["posterior"] = _posterior_over(model, corpora, task)
    found["added"] = _add_experts(task, model, corpora, novel, tests)
    return found


def _remove(model: DEMixLM, logprobs: Logprobs, name: str) -> Record:
    """Perplexity of a domain with its expert, and by the others."""
    number = model.domains.index(name)
    others = [place for place in range(len(model.domains)) if place != number]
    updating = DomainPosterior("updating")
    return {
        "with": _perplexity(_mixed(logprobs, updating)[0]),
        "without": _perplexity(_mixed(logprobs[others], updating)[0]),
    }


def _add_experts(
    task: ModelTask,
    model: DEMixLM,
    corpora: list[DomainCorpus],
    novel: Mapping[str, DomainCorpus],
    tests: Mapping[str, Logprobs],
) -> Record:
    """Add an expert a novel domain; what this changes there and elsewhere."""
    setting, config = task.setting, _adaptation(task)
    grown = copy.deepcopy(model)
    found: Record = {"nearest": {}, "random": {}, "before": {}, "start": {}}
    for name in setting.adapted:
        corpus = novel[name]
        start = nearest_expert(model, *_rows(corpus, setting, "dev"))
        found["start"][name] = start
        found["before"][name] = _perplexity(_logprobs(model, corpus, setting, [start])[0])
        other = copy.deepcopy(model)
        for way, target in (("nearest", grown), ("random", other)):
            target.add_expert(name, start if way == "nearest" else "random", seed=task.seed)
            adapt(target, name, corpus, config, rows=setting.adapt_rows)
            after = _logprobs(target, corpus, setting, [name])
            found[way][name] = _perplexity(after[0])
    found["change"] = max(
        float((_logprobs(grown, one, setting, [one.name]) - tests[one.name][[number]]).abs().max())
        for number, one in enumerate(corpora)
    )
    updating = DomainPosterior("updating")
    found["mixture_before"], found["mixture_after"] = {}, {}
    for one in corpora:
        more = _logprobs(grown, one, setting, list(setting.adapted))
        old = tests[one.name]
        found["mixture_before"][one.name] = _perplexity(_mixed(old, updating)[0])
        both = torch.cat([old, more])
        found["mixture_after"][one.name] = _perplexity(_mixed(both, updating)[0])
    return found


def _posterior_over(model: DEMixLM, corpora: list[DomainCorpus], task: ModelTask) -> Record:
    """Weights over one text that goes from domain to domain, for a picture."""
    known, _ = _corpora(task.setting, task.corpora)
    piece = max(8, task.setting.length // 3)
    parts = [one.test[: piece - 1] for one in corpora[:3]]
    tokens = torch.from_numpy(np.concatenate(parts).astype(np.int64))
    posterior = DomainPosterior("uniform", "filter")
    score = MixtureLM(model, posterior=posterior).score(tokens)
    decode = known.tokenizer.decode
    return {
        "pieces": [decode([token]) for token in tokens.tolist()],
        "weights": score.log_weights.exp().numpy(),
    }


def _measure_known(
    task: ModelTask, model: DEMixLM, corpora: list[DomainCorpus], novel: Mapping[str, DomainCorpus]
) -> Record:
    """Perplexity of each domain, by its own expert or token where there is one."""
    dense = model.domains == ("dense",)
    return {
        "known": {
            one.name: _perplexity(
                _logprobs(model, one, task.setting, None if dense else [one.name])
            )
            for one in corpora
        }
    }


def _measure_dense(
    task: ModelTask, model: DEMixLM, corpora: list[DomainCorpus], novel: Mapping[str, DomainCorpus]
) -> Record:
    """Perplexities, and those of old domains when all weights are trained on a new one."""
    setting = task.setting
    found = _measure_known(task, model, corpora, novel)
    found["novel"] = {
        name: _perplexity(_logprobs(model, one, setting)) for name, one in novel.items()
    }
    found["adapted"], found["old"] = {}, {}
    for name in setting.adapted:
        tuned = copy.deepcopy(model)
        adapt(tuned, "dense", novel[name], _adaptation(task), mode="full", rows=setting.adapt_rows)
        found["adapted"][name] = _perplexity(_logprobs(tuned, novel[name], setting))
        found["old"][name] = _measure_known(task, tuned, corpora, novel)["known"]
    return found


def _measure_without(
    task: ModelTask, model: DEMixLM, corpora: list[DomainCorpus], novel: Mapping[str, DomainCorpus]
) -> Record:
    """Perplexity of the domain on which the model was not trained."""
    known, _ = _corpora(task.setting, task.corpora)
    assert task.removed is not None
    logprobs = _logprobs(model, known.domains[task.removed], task.setting)
    mixed, _ = _mixed(logprobs, DomainPosterior("updating"))
    return {"name": task.removed, "never": _perplexity(mixed)}


def _measure_random_split(
    task: ModelTask, model: DEMixLM, corpora: list[DomainCorpus], novel: Mapping[str, DomainCorpus]
) -> Record:
    """Perplexity of the real domains by the best use of experts that mean nothing."""
    known, _ = _corpora(task.setting, task.corpora)
    found = {}
    for one in known.domains.values():
        mixed, _ = _mixed(_logprobs(model, one, task.setting), DomainPosterior("updating"))
        found[one.name] = _perplexity(mixed)
    return {"known": found}


# ---- identities


@dataclass(frozen=True)
class IdentityTask:
    """Random weights, by which identities are checked."""

    seed: int


def check_identities(task: IdentityTask) -> Record:
    """Largest differences between two ways to the same number."""
    torch.manual_seed(task.seed)
    config = LMConfig(vocabulary=97, length=24, dim=32, layers=2, heads=4, end_of_text=96)
    model = DEMixLM(config, ["a", "b", "c"])
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.1)
    text = torch.randint(96, (40,))
    steps, causal = 0.0, 0.0
    priors: tuple[Any, ...] = ("uniform", "updating", torch.tensor([0.5, 0.2, 0.3]))
    histories: tuple[History, ...] = ("token", "prefix", "filter")
    for prior in priors:
        for history in histories:
            mixture = MixtureLM(model, posterior=DomainPosterior(prior, history))
            written = list(mixture.generate_tokens(text[:8], max_tokens=30, stride=12, seed=1))
            whole = [*text[:8].tolist(), *(step.token for step in written)]
            score = mixture.score(whole, stride=12)
            theirs = torch.tensor([step.logprob for step in written], dtype=torch.float64)
            steps = max(steps, float((score.logprobs[8:] - theirs).abs().max()))
            changed = text.clone()
            changed[20] = (changed[20] + 1) % 96
            before, after = mixture.score(text).log_weights, mixture.score(changed).log_weights
            causal = max(causal, float((before[:, :21] - after[:, :21]).abs().max()))
    return {"generate": steps, "causal": causal}


# ---- durations


@dataclass(frozen=True)
class TimingTask:
    """What is timed in turn, and how often."""

    what: str
    """step, mixing or layer."""
    repeats: int
    dim: int = 128
    layers: int = 4
    heads: int = 4
    length: int = 256
    vocabulary: int = 2048
    experts: int = 8
    rows: int = 2
    seconds_a_turn: float = field(default=0.3)


def time_in_turn(task: TimingTask) -> dict[str, float]:
    """CPU time of each way over that of the first: medians of ratios of interleaved turns."""
    torch.manual_seed(0)
    ways = {"step": _steps, "mixing": _mixing, "layer": _layers}[task.what](task)
    counts: dict[str, int] = {}
    turns: dict[str, list[float]] = {name: [] for name in ways}
    with without_subnormals():
        for name, way in ways.items():
            # The first call, which also prepares what the others find, takes longest.
            started = time.process_time()
            way()
            once = max(time.process_time() - started, 1e-6)
            counts[name] = max(1, round(task.seconds_a_turn / once))
        for _ in range(task.repeats):
            for name, way in ways.items():
                started = time.process_time()
                for _ in range(counts[name]):
                    way()
                turns[name].append((time.process_time() - started) / counts[name])
    first = next(iter(turns.values()))
    return {
        name: statistics.median(mine / one for mine, one in zip(times, first, strict=True))
        for name, times in turns.items()
    }


def _steps(task: TimingTask) -> dict[str, Callable[[], object]]:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = LMConfig(task.vocabulary, task.length, task.dim, task.layers, task.heads)
    demix = DEMixLM(config, [f"domain{number}" for number in range(task.experts)])
    dense = DEMixLM(config, experts="none")
    gpt2 = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=task.vocabulary,
            n_positions=task.length,
            n_embd=task.dim,
            n_layer=task.layers,
            n_head=task.heads,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            activation_function="gelu",
            bos_token_id=0,
            eos_token_id=0,
        )
    )
    rows = torch.randint(task.vocabulary, (task.experts * task.rows, task.length + 1))
    domain = torch.arange(task.experts).repeat_interleave(task.rows)

    def step(model: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], object]:
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

        def run() -> None:
            loss().backward()
            optimizer.step()
            optimizer.zero_grad()

        return run

    inputs, targets = rows[:, :-1], rows[:, 1:]

    def gpt2_loss() -> Tensor:
        logits = gpt2(inputs, use_cache=False).logits
        return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())

    return {
        "dense": step(dense, lambda: dense(inputs, domain, targets)),
        "demix": step(demix, lambda: demix(inputs, domain, targets)),
        "gpt2": step(gpt2, gpt2_loss),
    }


def _mixing(task: TimingTask) -> dict[str, Callable[[], object]]:
    config = LMConfig(task.vocabulary, task.length, task.dim, task.layers, task.heads)
    model = DEMixLM(config, [f"domain{number}" for number in range(task.experts)]).eval()
    rows = torch.randint(task.vocabulary, (task.rows, task.length))
    return {
        "passes": lambda: [model.token_logprobs(rows, [one]) for one in range(task.experts)],
        "batched": lambda: model.token_logprobs(rows),
    }


def _layers(task: TimingTask) -> dict[str, Callable[[], object]]:
    experts = DEMixFeedForward(task.dim, 4 * task.dim, task.experts)
    experts.initialise(task.layers)
    dense = DEMixFeedForward(task.dim, 4 * task.dim, 1)
    dense.initialise(task.layers)
    batch = task.experts * task.rows
    x = torch.randn(batch, task.length, task.dim, requires_grad=True)
    target = torch.randn_like(x)
    balanced = torch.arange(task.experts).repeat_interleave(task.rows)
    mixed = _uneven(task.experts, batch)

    def way(layer: nn.Module, domain: int | Int[Tensor, " batch"]) -> Callable[[], object]:
        def run() -> None:
            assignment = Assignment.of(domain, batch, task.experts)
            functional.mse_loss(layer(x, assignment=assignment), target).backward()
            x.grad = None
            layer.zero_grad()

        return run

    return {
        "dense": way(dense, 0),
        "balanced": way(experts, balanced),
        "mixed": way(experts, mixed),
    }


def _uneven(experts: int, batch: int) -> Int[Tensor, " batch"]:
    """Domains of rows, in random order and of unequal numbers."""
    chances = torch.arange(1, experts + 1, dtype=torch.float64)
    return torch.multinomial(chances, batch, replacement=True)
