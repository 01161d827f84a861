"""Training domain experts in several processes, through Lightning Fabric.

A process reads rows of its own domains only. The gradients of shared weights are averaged over all
processes, by the wrapper; those of an expert are added up in the processes that train it, and
nowhere else (arXiv:2108.05036, section 3.2).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, distributed, nn

from workingpapers.foundation.errors import InputError

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True)
class Division:
    """What one process reads, so that all together read `rows` rows of each domain a step."""

    domains: range
    """By number."""
    rows: int
    """Of each of these domains a step."""
    group: int
    """Processes that read the same domains."""
    member: int
    """Which of them this is, from 0."""

    @classmethod
    def of(cls, domains: int, rows: int, processes: int, rank: int) -> "Division":
        """Several domains a process, or several processes a domain.

        InputError unless one of the two numbers is a multiple of the other, and the processes
        that share a domain can share its rows.
        """
        if processes <= domains:
            if domains % processes:
                raise InputError(
                    f"{processes} processes: expected a divisor or a multiple of {domains}, the "
                    "number of domains"
                )
            own = domains // processes
            return cls(range(rank * own, (rank + 1) * own), rows, 1, 0)
        group, left = divmod(processes, domains)
        if left:
            raise InputError(
                f"{processes} processes: expected a divisor or a multiple of {domains}, the number "
                "of domains"
            )
        if rows % group:
            raise InputError(
                f"rows {rows}: expected a multiple of {group}, the processes that share a domain"
            )
        domain, member = divmod(rank, group)
        return cls(range(domain, domain + 1), rows // group, group, member)


def expert_stacks(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters whose first axis is the expert, by their names in the model."""
    modular: Any = model
    if not hasattr(modular, "shared_parameters"):
        return {}
    shared = {weight.data_ptr() for weight in modular.shared_parameters().values()}
    return {
        name: weight for name, weight in model.named_parameters() if weight.data_ptr() not in shared
    }


class ExpertTraining:
    """The part of training that Fabric's wrapper leaves to us: what happens to experts.

    Its methods are hooks of `foundation.training.fit`. w processes end with the weights that one
    process gets which reads the rows of all, up to rounding.
    """

    def __init__(self, model: nn.Module, fabric: "Fabric", domains: int, rows: int) -> None:
        self.processes = fabric.world_size
        self._every = [
            Division.of(domains, rows, self.processes, rank) for rank in range(self.processes)
        ]
        self.division = self._every[fabric.global_rank]
        self.stacks = expert_stacks(model)
        self._shared = [
            weight for name, weight in model.named_parameters() if name not in self.stacks
        ]
        self._group: Any = None
        if self.stacks and self.processes > 1:
            _check(fabric)
            self._group = self._make_groups()

    def _make_groups(self) -> Any:
        """The processes that train the same expert, where these are several."""
        size = self.division.group
        if size == 1:
            return None
        # Every process takes part in making every group.
        firsts = range(0, self.processes, size)
        groups = [distributed.new_group(list(range(first, first + size))) for first in firsts]
        return groups[self.division.domains.start]

    @contextmanager
    def outside_wrapper(self, model: nn.Module, fabric: "Fabric") -> Iterator[None]:
        """While the wrapper is made and used, it leaves the experts alone."""
        fabric.strategy.module_to_device(model)
        for weight in self.stacks.values():
            # As the wrapper does with the shared weights.
            distributed.broadcast(weight.data, 0)
        marked: Any = model
        marked._ddp_params_and_buffers_to_ignore = set(self.stacks)
        try:
            yield
        finally:
            del marked._ddp_params_and_buffers_to_ignore

    def reduce(self, model: nn.Module, step: int) -> None:
        """Before the update: the gradient of an expert is that of the mean over all processes."""
        own = slice(self.division.domains.start, self.division.domains.stop)
        parts = [_gradient(weight)[own] for weight in self.stacks.values()]
        if self._group is not None:
            flat = torch.cat([part.flatten() for part in parts])
            distributed.all_reduce(flat, group=self._group)
            for part, reduced in zip(
                parts, flat.split([part.numel() for part in parts]), strict=True
            ):
                part.copy_(reduced.view_as(part))
        for part in parts:
            part.div_(self.processes)

    def norm(self, model: nn.Module) -> Float[Tensor, ""]:
        """The norm of the whole gradient, each expert counted once; the same in all processes."""
        experts = _squared_norm(list(self.stacks.values()))
        if self.division.member:
            experts = torch.zeros_like(experts)
        distributed.all_reduce(experts)
        return (_squared_norm(self._shared) + experts).sqrt()

    def complete(self, model: nn.Module, optimizer: Any) -> None:
        """Get the experts that others train, with their moments, from those who do.

        What is there before has only decayed, and is not read.
        """
        for weight in self.stacks.values():
            state = optimizer.state.get(weight, {}).values()
            moments = [each for each in state if each.shape == weight.shape]
            for rank, division in enumerate(self._every):
                if division.member == 0:
                    for tensor in (weight.data, *moments):
                        part = tensor[division.domains.start : division.domains.stop]
                        distributed.broadcast(part, rank)


def _check(fabric: "Fabric") -> None:
    from lightning_fabric.strategies import DDPStrategy

    if not isinstance(fabric.strategy, DDPStrategy):
        name = type(fabric.strategy).__name__.removesuffix("Strategy").lower()
        raise InputError(f"strategy {name}: expected ddp, for domain experts in several processes")
    if fabric.strategy.precision.precision == "16-mixed":
        # Every process would scale its loss in its own way.
        raise InputError("precision 16-mixed: expected another one with several processes")


def _gradient(weight: nn.Parameter) -> Tensor:
    if weight.grad is None:
        weight.grad = torch.zeros_like(weight)
    return weight.grad


def _squared_norm(weights: list[nn.Parameter]) -> Tensor:
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    return nn.utils.get_total_norm(gradients).square()
