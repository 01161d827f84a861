"""Domain experts in a decoder of transformers: GPT-2, GPT-NeoX, GPT-Neo or Llama, made modular."""

import contextlib
import copy
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from torch.nn import functional

from workingpapers.demix.checkpoint import Expert, Manifest, load_parts, save_parts
from workingpapers.demix.configuration import DEMixConfig, check_type
from workingpapers.demix.export import as_fast_tokenizer
from workingpapers.demix.model import Assignment, copy_tensors, grouped_product
from workingpapers.demix.protocol import (
    LOGITS_AT_ONCE,
    check_name,
    check_names,
    expert_number,
    expert_numbers,
    mixing_weights,
    preceding_tokens,
)
from workingpapers.foundation.errors import InputError, missing_package
from workingpapers.foundation.tables import listed

try:
    from transformers import (
        AutoConfig,
        AutoModelForCausalLM,
        DynamicCache,
        GenerationConfig,
        GenerationMixin,
        PreTrainedModel,
    )
    from transformers.initialization import no_init_weights
    from transformers.pytorch_utils import Conv1D
    from transformers.utils import logging
except ImportError as error:
    raise missing_package("transformers", "demix") from error

_ASSIGNMENT: ContextVar[Assignment] = ContextVar("assignment")
"""Which expert reads which rows, while a model runs: its blocks pass nothing on to their `.mlp`."""

_READ_AT_ONCE = 1 << 24
"""Numbers of hidden activations held at a time while scoring: 64 MiB in single precision."""

_OF_THE_HUB = {
    *("_from_auto", "adapter_kwargs", "cache_dir", "code_revision", "force_download"),
    *("local_files_only", "proxies", "revision", "subfolder", "token", "trust_remote_code"),
}
"""Arguments that Auto classes pass on, and that say nothing of a folder here."""


class ExpertLinear(nn.Module):
    """The linear layer of every expert, of a row the one that its domain has.

    `weight` and `bias` are those of nn.Linear, or with `transposed` of transformers' Conv1D, behind
    a first axis for the expert.
    """

    def __init__(
        self,
        weight: Float[Tensor, "experts _ _"],
        bias: Float[Tensor, "experts _"] | None,
        transposed: bool,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = None if bias is None else nn.Parameter(bias)
        self.transposed = transposed

    @classmethod
    def copies(cls, layer: nn.Module, experts: int) -> "ExpertLinear":
        """Of one layer, for every expert."""
        weight, bias = (
            None if each is None else each.detach().expand(experts, *each.shape).clone()
            for each in (cast(Tensor, layer.weight), cast("Tensor | None", layer.bias))
        )
        return cls(cast(Tensor, weight), bias, isinstance(layer, Conv1D))

    def forward(self, x: Float[Tensor, "rows length dim"]) -> Float[Tensor, "rows length out"]:
        """The product; rows are sorted by expert where they are not equally many an expert."""
        assignment = _ASSIGNMENT.get()
        weight: Tensor = self.weight
        bias: Tensor | None = self.bias
        if len(assignment.experts) == 1:
            return self._by_one(x, assignment.experts[0])
        if not self.transposed:
            weight = weight.mT
        if assignment.order is not None:
            tokens = cast(Tensor, assignment.counts) * x.shape[1]
            y = grouped_product(x.flatten(0, 1), weight, tokens.cumsum(0).to(torch.int32))
            if bias is not None:
                y = y + bias[torch.repeat_interleave(tokens)]
            return y.unflatten(0, x.shape[:2])
        if assignment.experts != tuple(range(len(weight))):
            # A copy, and only of those asked for.
            chosen = list(assignment.experts)
            weight, bias = weight[chosen], None if bias is None else bias[chosen]
        by_expert = x.reshape(len(weight), -1, x.shape[-1])
        if bias is None:
            y = torch.bmm(by_expert, weight)
        else:
            y = torch.baddbmm(bias[:, None], by_expert, weight)
        return y.view(*x.shape[:2], -1)

    def _by_one(self, x: Tensor, expert: int) -> Tensor:
        """The operation of the layer that was copied, so that not one bit is different."""
        weight = self.weight[expert]
        bias = None if self.bias is None else self.bias[expert]
        if not self.transposed:
            return functional.linear(x, weight, bias)
        y = torch.addmm(cast(Tensor, bias), x.view(-1, x.shape[-1]), weight)
        return y.view(*x.shape[:-1], -1)


def _sort_rows(mlp: nn.Module, inputs: tuple[Tensor]) -> Tensor | None:
    order = _ASSIGNMENT.get().order
    return None if order is None else inputs[0][order]


def _restore_rows(mlp: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor | None:
    order = _ASSIGNMENT.get().order
    return None if order is None else torch.empty_like(output).index_copy(0, order, output)


def _install_experts(decoder: nn.Module, experts: int) -> None:
    """Every feed-forward network of a decoder, by copies of it in stacked weights."""
    for name, mlp in decoder.named_modules():
        if name.rpartition(".")[2] != "mlp":
            continue
        for child, layer in list(mlp.named_children()):
            if isinstance(layer, nn.Linear | Conv1D):
                setattr(mlp, child, ExpertLinear.copies(layer, experts))
        mlp.register_forward_pre_hook(_sort_rows)
        mlp.register_forward_hook(_restore_rows)


class DEMixForCausalLM(PreTrainedModel, GenerationMixin):
    """A decoder of transformers (gpt2, gpt_neox, gpt_neo, llama) with experts.

    Made by `from_decoder`; loaded by `from_pretrained`, also AutoModelForCausalLM's. Everything but
    the feed-forward networks is shared by the domains (paper, section 3.1). `forward` and
    `generate` take `domain`: a number, a name, or a number a row; it may be left out where there is
    one domain only. It satisfies ModularLM.
    """

    config: DEMixConfig
    base_model_prefix = "decoder"
    supports_gradient_checkpointing = True
    # What the decoder itself does not support, it refuses itself.
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = True
    _supports_attention_backend = True

    def __init__(self, config: DEMixConfig, decoder: PreTrainedModel | None = None) -> None:
        """Random weights, the same for all experts; with `decoder`, whose config is the backbone's,
        the weights of that, which is changed."""
        super().__init__(config)
        if not config.domains:
            raise InputError("domains: expected one or more names")
        config.domains = list(check_names(config.domains))
        if decoder is None:
            decoder = AutoModelForCausalLM.from_config(config.backbone)
        config.backbone = decoder.config
        _install_experts(decoder, len(config.domains))
        self.decoder = decoder
        self.generation_config = decoder.generation_config
        self.post_init()

    @classmethod
    def from_decoder(
        cls, decoder: str | Path | PreTrainedModel, domains: Sequence[str]
    ) -> "DEMixForCausalLM":
        """A modular model that says what the decoder says, whichever expert one asks.

        `decoder` is a model or the folder of one; the model is copied, not changed. InputError for
        a folder that holds no decoder with all its weights, as safetensors, and for other types
        than those in DECODERS. Nothing is downloaded.
        """
        names = check_names(domains)
        if isinstance(decoder, PreTrainedModel):
            wanted = _check_decoder(decoder)
            model = copy.deepcopy(wanted)
        else:
            model = _open_decoder(Path(decoder))
        config = DEMixConfig(backbone=model.config, domains=list(names), dtype=model.dtype)
        wrapped = cls(config, model)
        return wrapped.train(model.training)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        config: DEMixConfig | None = None,
        experts: Sequence[str] | None = None,
        strict: bool = True,
        dtype: str | torch.dtype | None = None,
        attn_implementation: str | None = None,
        **kwargs: Any,
    ) -> "DEMixForCausalLM":
        """The model of a folder as `save_pretrained` and checkpoint.save_model write it.

        With the `experts` named (None: all), whose files alone are read; `dtype` is what the
        weights become, the saved one for None and "auto". Nothing is downloaded and nothing
        unpickled, and every weight comes from the folder. InputError, one line that names the file
        or argument, for what is missing, cut off, changed, or unless `strict` is False an expert
        that was trained with other shared weights.
        """
        unknown = sorted(kwargs.keys() - _OF_THE_HUB)
        if unknown:
            raise InputError(f"from_pretrained: knows no argument {unknown[0]!r}")
        folder = Path(pretrained_model_name_or_path)
        manifest, shared, weights = load_parts(folder, experts, strict=strict)
        if manifest.kind != cls.__name__:
            raise InputError(f"{folder}: holds a {manifest.kind}, expected a {cls.__name__}")
        if config is None and not (folder / "config.json").is_file():
            raise InputError(f"{folder / 'config.json'}: the file is missing")
        with _opening(folder, "a wrapped decoder"):
            config = copy.deepcopy(config or DEMixConfig.from_pretrained(folder))
            # The manifest is right where they are different.
            config.domains = list(manifest.domains)
            if attn_implementation is not None:
                config._attn_implementation = attn_implementation
            chosen = config.dtype if dtype in (None, "auto") else dtype
            with no_init_weights():
                model = cls._from_config(config, dtype=chosen or torch.float32)
            model.tie_weights()
            if (folder / "generation_config.json").is_file():
                model.generation_config = GenerationConfig.from_pretrained(folder)
        try:
            model.load_shared(shared)
            for name, tensors in weights.items():
                model.load_expert(name, tensors)
        except InputError as error:
            raise InputError(f"{folder}: {error}") from None
        return model.eval()

    def save_pretrained(
        self,
        save_directory: str | Path,
        is_main_process: bool = True,
        state_dict: Mapping[str, Tensor] | None = None,
        *,
        tokenizer: Any = None,
        experts: Sequence[Expert] | None = None,
        training: Mapping[str, Any] | None = None,
        card: str = "",
        overwrite: bool = False,
    ) -> None:
        """Write a folder, whole or not at all: shared weights, a file an expert, and configs.

        The files are those of checkpoint.py, with transformers' config.json and
        generation_config.json. `tokenizer` is one of the package tokenizers or of transformers;
        `experts`, `training` and `card` are as in checkpoint.save_model; with `state_dict`, the
        model's own names, weights come from there. Nothing is written in another than the main
        process. InputError for a folder that is neither empty nor, with `overwrite`, such a folder.
        """
        if not is_main_process:
            return
        shared = self.shared_parameters()
        weights = {name: self.expert_parameters(name) for name in self.domains}
        if state_dict is not None:
            shared = {key: state_dict[f"decoder.{key}"] for key in shared}
            weights = {
                name: {key: state_dict[f"decoder.{key}"][number] for key in keys}
                for number, (name, keys) in enumerate(weights.items())
            }
        manifest = Manifest(
            "DEMixForCausalLM",
            "ffn",
            tuple(experts or map(Expert, self.domains)),
            training=dict(training or {}),
        )
        files = self._files(tokenizer)
        save_parts(
            Path(save_directory), manifest, shared, weights, files, card=card, overwrite=overwrite
        )

    def _files(self, tokenizer: Any) -> dict[str, bytes]:
        """What transformers writes beside the weights, by path."""
        config = copy.deepcopy(self.config)
        config.architectures = [type(self).__name__]
        config.dtype = config.backbone.dtype = self.dtype
        with tempfile.TemporaryDirectory() as name:
            config.save_pretrained(name)
            self.generation_config.save_pretrained(name)
            if tokenizer is not None:
                as_fast_tokenizer(tokenizer, self).save_pretrained(name)
            paths = [path for path in Path(name).rglob("*") if path.is_file()]
            return {path.relative_to(name).as_posix(): path.read_bytes() for path in paths}

    @property
    def domains(self) -> tuple[str, ...]:
        """Names of the experts, in their order."""
        return tuple(self.config.domains)

    @property
    def context(self) -> int:
        """Tokens of the longest row that it reads."""
        return self.config.backbone.max_position_embeddings

    @property
    def vocabulary(self) -> int:
        """Kinds of tokens."""
        return self.config.backbone.vocab_size

    @property
    def end_of_text(self) -> int:
        """The token before a text: the decoder's token for a beginning, else for an end.

        InputError where its config has neither, or one that is no token.
        """
        backbone = self.config.backbone
        for token in (backbone.bos_token_id, backbone.eos_token_id):
            first = token[0] if isinstance(token, list) and token else token
            if isinstance(first, int) and 0 <= first < self.vocabulary:
                return first
        raise InputError(
            f"config: expected a bos_token_id or eos_token_id from 0 to {self.vocabulary - 1}"
        )

    def forward(
        self,
        input_ids: Int[Tensor, "batch length"] | None = None,
        attention_mask: Shaped[Tensor, "..."] | dict[str, Any] | None = None,
        position_ids: Int[Tensor, "..."] | None = None,
        past_key_values: Any = None,
        inputs_embeds: Float[Tensor, "batch length dim"] | None = None,
        labels: Int[Tensor, "batch length"] | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Int[Tensor, "..."] = 0,
        domain: int | str | Int[Tensor, " rows"] | None = None,
        **kwargs: Any,
    ) -> Any:
        """The decoder's own forward, each row by the expert of its domain.

        InputError that lists the domains when none is given and there are several, or an unknown.
        """
        given = input_ids if input_ids is not None else inputs_embeds
        if given is None:
            raise InputError("forward: expected input_ids or inputs_embeds")
        with _assigned(self._assignment(domain, given)):
            return self.decoder(
                input_ids=input_ids,
                attention_mask=attention_mask,
                position_ids=position_ids,
                past_key_values=past_key_values,
                inputs_embeds=inputs_embeds,
                labels=labels,
                use_cache=use_cache,
                logits_to_keep=logits_to_keep,
                **kwargs,
            )

    def _assignment(self, domain: int | str | Tensor | None, rows: Tensor) -> Assignment:
        if domain is None:
            if len(self.domains) > 1:
                raise InputError(f"domain: expected one of {listed(self.domains)}, found none")
            domain = 0
        if not isinstance(domain, Tensor):
            return Assignment((expert_number(self.domains, domain),))
        domain = domain.to(rows.device)
        if domain.numel() and bool((domain == domain[0]).all()):
            # Rows of one expert cost, and give, what they do without others.
            Assignment.of(domain, len(rows), len(self.domains))
            return Assignment((int(domain[0]),))
        return Assignment.of(domain, len(rows), len(self.domains))

    def _set_gradient_checkpointing(
        self, enable: bool = True, gradient_checkpointing_func: Any = None, **kwargs: Any
    ) -> None:
        # A block is run again after the model has returned, and then with the same experts.
        if gradient_checkpointing_func is not None:
            checkpoint = gradient_checkpointing_func
            kwargs["gradient_checkpointing_func"] = partial(_checkpoint_assigned, checkpoint)
        super()._set_gradient_checkpointing(enable, **kwargs)

    def _init_weights(self, module: nn.Module) -> None:
        """The decoder has made its own."""

    def get_input_embeddings(self) -> nn.Module:
        """The decoder's table of tokens."""
        return self.decoder.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the decoder's table of tokens."""
        self.decoder.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        """The decoder's head."""
        return self.decoder.get_output_embeddings()

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        """Replace the decoder's head."""
        self.decoder.set_output_embeddings(new_embeddings)

    def resize_token_embeddings(self, *args: Any, **kwargs: Any) -> nn.Module:
        """The decoder's own: more or fewer kinds of tokens."""
        return self.decoder.resize_token_embeddings(*args, **kwargs)

    @torch.no_grad()
    def token_logprobs(
        self,
        tokens: Int[Tensor, "batch length"],
        experts: Sequence[int | str] | None = None,
        *,
        previous: Int[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "experts batch length"]:
        """Log-probability of each token after those before it, by each expert (None: all).

        `previous` is the token before each row; None: `end_of_text`. All experts read at once, as
        more rows. Dropout is off.
        """
        numbers = expert_numbers(self.domains, experts)
        tokens = tokens.to(self.device)
        read = preceding_tokens(self, tokens, previous)
        width = max(p.shape[1] + p.shape[2] for p in self._stacks().values() if p.dim() == 3)
        rows = max(1, _READ_AT_ONCE // max(1, len(numbers) * tokens.shape[1] * width))
        with _dropout_off(self):
            parts = zip(read.split(rows), tokens.split(rows), strict=True)
            return torch.cat([self._logprobs(*part, numbers) for part in parts], 1)

    def _logprobs(self, read: Tensor, targets: Tensor, numbers: tuple[int, ...]) -> Tensor:
        assignment = Assignment(numbers)
        with _assigned(assignment):
            hidden = self.decoder.base_model(
                input_ids=read.repeat(len(numbers), 1), use_cache=False
            )[0]
        head = self.get_output_embeddings()
        at_once = max(1, LOGITS_AT_ONCE // self.vocabulary)
        wanted = targets.repeat(len(numbers), 1).flatten().split(at_once)
        losses = [
            functional.cross_entropy(head(some).float(), tokens, reduction="none")
            for some, tokens in zip(hidden.flatten(0, 1).split(at_once), wanted, strict=True)
        ]
        return -torch.cat(losses).view(len(numbers), *targets.shape)

    def reader(self, experts: Sequence[int | str] | None = None) -> "PretrainedReader":
        """Read one sequence bit by bit, with a cache of keys and values for each expert."""
        return PretrainedReader(self, expert_numbers(self.domains, experts))

    def add_expert(self, name: str, init: str = "mean", seed: int = 0) -> None:
        """Add an expert: a copy of the one named, the mean of all, or random by `seed`.

        The weights become other Parameters: make the optimiser afterwards.
        """
        check_name(name, self.domains)
        if init not in ("mean", "random"):
            if init not in self.domains:
                raise InputError(f"init {init!r}: expected mean, random or {listed(self.domains)}")
            number = self.domains.index(init)
        generator = torch.Generator().manual_seed(seed)

        def grow(key: str, stack: Tensor) -> Tensor:
            if init == "mean":
                new = _mean(stack, [1 / len(stack)] * len(stack))
            elif init == "random":
                new = self._random(key, stack[0], generator)
            else:
                new = stack[number]
            return torch.cat([stack, new[None]])

        self._change_stacks(grow)
        self.config.domains = [*self.domains, name]

    def _random(self, key: str, like: Tensor, generator: torch.Generator) -> Tensor:
        """Weights as the decoder's type begins with."""
        if key.endswith(".bias"):
            return torch.zeros_like(like)
        backbone = self.config.backbone
        deviation = backbone.initializer_range
        if backbone.model_type == "gpt2" and key.endswith(".c_proj.weight"):
            deviation /= math.sqrt(2 * backbone.num_hidden_layers)
        return (torch.randn(like.shape, generator=generator) * deviation).to(like)

    def remove_expert(self, name: str) -> None:
        """Forget an expert; InputError for the last one."""
        gone = expert_number(self.domains, name)
        self.select_experts([other for other in self.domains if other != self.domains[gone]])

    def select_experts(self, names: Sequence[str]) -> None:
        """Keep these experts only, in this order."""
        if not names:
            raise InputError("experts: expected at least one to be left")
        numbers = expert_numbers(self.domains, names)
        self._change_stacks(lambda key, stack: stack[list(numbers)])
        self.config.domains = [self.domains[number] for number in numbers]

    def rename_expert(self, old: str, new: str) -> None:
        """Give an expert another name."""
        number = expert_number(self.domains, old)
        check_name(new, [name for name in self.domains if name != old])
        self.config.domains[number] = new

    def expert_parameters(self, name: str) -> dict[str, Tensor]:
        """The weights that only this expert has, as views, by their names in the decoder."""
        number = expert_number(self.domains, name)
        return {key: stack.data[number] for key, stack in self._stacks().items()}

    def shared_parameters(self) -> dict[str, Tensor]:
        """All other weights, as views, each tied one once, by their names in the decoder."""
        stacks = self._stacks()
        return {
            name: parameter.data
            for name, parameter in self.decoder.named_parameters()
            if name not in stacks
        }

    def load_expert(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Overwrite the weights of an expert; InputError for others' names or shapes."""
        copy_tensors(self.expert_parameters(name), tensors, f"expert {name!r}")

    def load_shared(self, tensors: Mapping[str, Tensor]) -> None:
        """Overwrite the shared weights; InputError for others' names or shapes."""
        copy_tensors(self.shared_parameters(), tensors, "shared weights")

    def merge(self, weights: Mapping[str, float]) -> PreTrainedModel:
        """A plain model of the decoder's type, its feed-forward weights this mean of the experts'.

        The numbers are divided by their sum; one expert alone comes out bit for bit. InputError for
        unknown names, negative numbers and a sum of zero.
        """
        shares = mixing_weights(self.domains, weights)
        with no_init_weights():
            plain = AutoModelForCausalLM.from_config(copy.deepcopy(self.config.backbone))
        plain = plain.to(self.dtype)
        plain.tie_weights()
        means = {key: _mean(stack.data, shares) for key, stack in self._stacks().items()}
        target = {name: weight.data for name, weight in plain.named_parameters()}
        copy_tensors(target, self.shared_parameters() | means, "merged weights")
        plain.generation_config = copy.deepcopy(self.generation_config)
        return plain.to(self.device).train(self.training)

    def _stacks(self) -> dict[str, nn.Parameter]:
        """The weights of all experts, by the name of one of them in the decoder."""
        return {
            f"{name}.{kind}": parameter
            for name, layer in self.decoder.named_modules()
            if isinstance(layer, ExpertLinear)
            for kind, parameter in layer.named_parameters()
        }

    def _change_stacks(self, change: Callable[[str, Tensor], Tensor]) -> None:
        for key, stack in self._stacks().items():
            changed = nn.Parameter(change(key, stack.data), requires_grad=stack.requires_grad)
            name, _, kind = key.rpartition(".")
            setattr(self.decoder.get_submodule(name), kind, changed)


class PretrainedReader:
    """Reads one sequence with several experts of a DEMixForCausalLM, which share one batch."""

    def __init__(self, model: DEMixForCausalLM, experts: tuple[int, ...]) -> None:
        self.model, self.experts = model, experts
        self.held = 0
        """Tokens read."""
        self._cache = DynamicCache(config=model.config.backbone)

    @torch.no_grad()
    def read(self, tokens: Int[Tensor, " new"]) -> Float[Tensor, "experts new vocabulary"]:
        """Log-probabilities, by each expert, of what follows each of these tokens.

        InputError when more tokens are read than the model's context.
        """
        held, context = self.held + len(tokens), self.model.context
        if held > context:
            raise InputError(f"tokens: asked to read {held}, expected at most {context}")
        rows = tokens.to(self.model.device).expand(len(self.experts), -1)
        with _dropout_off(self.model), _assigned(Assignment(self.experts)):
            logits = self.model.decoder(
                input_ids=rows, past_key_values=self._cache, use_cache=True
            ).logits
        self.held = held
        return logits.float().log_softmax(-1)


@contextlib.contextmanager
def _assigned(assignment: Assignment) -> Iterator[None]:
    before = _ASSIGNMENT.set(assignment)
    try:
        yield
    finally:
        _ASSIGNMENT.reset(before)


def _checkpoint_assigned(checkpoint: Callable[..., Any], block: Any, *args: Any, **kw: Any) -> Any:
    """Checkpoint a block, which runs with the present experts now and when it is run again."""
    assignment = _ASSIGNMENT.get()

    def run(*inputs: Any, **options: Any) -> Any:
        with _assigned(assignment):
            return block(*inputs, **options)

    return checkpoint(run, *args, **kw)


@contextlib.contextmanager
def _dropout_off(model: nn.Module) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def _mean(stack: Tensor, shares: Sequence[float]) -> Tensor:
    """The weighted mean of the experts' weights, added up in double precision."""
    named = [number for number, share in enumerate(shares) if share]
    total = sum(shares[number] * stack[number].double() for number in named)
    return cast(Tensor, total).to(stack.dtype)


@contextlib.contextmanager
def _opening(folder: Path, what: str) -> Iterator[None]:
    """What transformers raises and reports at length, as one line."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    except InputError as error:
        raise InputError(f"{folder}: {error}") from None
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"{folder}: not {what} that can be opened ({first:.200})") from error
    finally:
        logging.set_verbosity(before)


def _check_decoder(decoder: PreTrainedModel) -> PreTrainedModel:
    check_type(getattr(decoder.config, "model_type", None), "decoder")
    if "ForCausalLM" not in (name := type(decoder).__name__) and name != "GPT2LMHeadModel":
        raise InputError(f"decoder: expected a model with a head for language, found a {name}")
    return decoder


def _open_decoder(folder: Path) -> PreTrainedModel:
    """The decoder in a folder; InputError for what is none, or lacks weights."""
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder}: expected the folder of a decoder, found no config.json")
    with _opening(folder, "a decoder"):
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        check_type(config.model_type, "config.json")
        decoder, found = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    missing = sorted(found["missing_keys"])
    if missing:
        raise InputError(f"{folder}: the weights {listed(missing[:3])} are missing")
    return decoder


AutoModelForCausalLM.register(DEMixConfig, DEMixForCausalLM, exist_ok=True)
