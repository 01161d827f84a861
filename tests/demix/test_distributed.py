"""Several processes train the same model as one."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning_fabric import Fabric

from workingpapers.demix.corpora import BlockSampler, DomainCorpus
from workingpapers.demix.distributed import Division, expert_stacks
from workingpapers.demix.model import DEMixLM, LMConfig
from workingpapers.demix.training import train
from workingpapers.foundation.errors import InputError
from workingpapers.foundation.training import History, TrainConfig

SHAPE = LMConfig(vocabulary=24, length=6, dim=8, layers=2, heads=2)
CONFIG = TrainConfig(
    steps=5, learning_rate=0.02, weight_decay=0.3, clip=0.05, save_every=2, accumulate=2
)
"""Gradients have norms of about 1: every step is clipped."""


def corpora(count: int) -> list[DomainCorpus]:
    rng = np.random.default_rng(0)
    found = []
    for number in range(count):
        tokens = rng.integers(number, 12 + 4 * number, 150 + 20 * number).astype(np.uint16)
        found.append(DomainCorpus(f"d{number}", tokens, tokens, tokens, {}, {}))
    return found


def train_some(
    domains: int, seed: int = 0, rows: int = 2, **options: Any
) -> tuple[dict[str, torch.Tensor], History]:
    torch.manual_seed(seed)
    model = DEMixLM(SHAPE, [f"d{number}" for number in range(domains)]).double()
    config = options.pop("config", CONFIG)
    history = train(model, corpora(domains), config, rows=rows, **options)
    return {name: weight.clone() for name, weight in model.state_dict().items()}, history


class StopError(Exception):
    pass


def in_two_processes(fabric: Fabric, out: Path) -> None:
    # Forked from a process that may have trained with more.
    torch.set_num_threads(1)
    rank = fabric.global_rank

    def run(domains: int, **options: Any) -> tuple[dict[str, torch.Tensor], History]:
        # Other weights than the first process has: they are made equal.
        return train_some(domains, seed=rank, fabric=fabric, **options)

    several, history = run(4)
    torch.save((several, history.log), out / f"several-{rank}.pt")
    steps = iter(range(100))

    def stop(number: int) -> None:
        if next(steps) == 2:
            raise StopError

    with suppress(StopError):
        run(4, folder=out / "run", progress=stop)
    fabric.barrier()
    resumed, history = run(4, folder=out / "run")
    assert history.resumed_from == 2
    torch.save(resumed, out / f"resumed-{rank}.pt")
    try:
        run(3)
    except ValueError as error:
        (out / f"error-{rank}.txt").write_text(str(error))


def in_four_processes(fabric: Fabric, out: Path) -> None:
    torch.set_num_threads(1)
    weights, _ = train_some(2, seed=fabric.global_rank, fabric=fabric)
    torch.save(weights, out / f"shared-{fabric.global_rank}.pt")


def assert_same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> None:
    assert one.keys() == two.keys()
    for name, weight in one.items():
        assert weight.dtype == torch.float64
        assert torch.allclose(weight, two[name], rtol=0, atol=1e-9), name


def test_two_processes_equal_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Where the processes find each other, which Fabric leaves behind.
    monkeypatch.setattr(os, "environ", os.environ.copy())
    for devices, function in ((2, in_two_processes), (4, in_four_processes)):
        fabric = Fabric(accelerator="cpu", devices=devices, strategy="ddp_fork")
        fabric.launch(function, tmp_path)
    # Two domains a process; one read less would clip and train otherwise.
    alone, history = train_some(4)
    for rank in (0, 1):
        weights, log = torch.load(tmp_path / f"several-{rank}.pt")
        assert_same(weights, alone)
        assert min(row["gradient_norm"] for row in log) > 2 * 0.05
        for ours, theirs in zip(log, history.log, strict=True):
            assert ours["gradient_norm"] == pytest.approx(theirs["gradient_norm"], abs=1e-9)
        # Stopped in the third step of five, and gone on with after the second.
        assert_same(torch.load(tmp_path / f"resumed-{rank}.pt"), alone)
        text = (tmp_path / f"error-{rank}.txt").read_text()
        assert text == "2 processes: expected a divisor or a multiple of 3, the number of domains"
    # Four processes, two a domain.
    alone, _ = train_some(2)
    for rank in range(4):
        assert_same(torch.load(tmp_path / f"shared-{rank}.pt"), alone)


@settings(max_examples=30)
@given(st.integers(1, 6), st.integers(1, 4), st.integers(1, 3), st.booleans())
def test_all_processes_together_read_every_row_once(
    one: int, factor: int, share: int, several_domains: bool
) -> None:
    domains, processes = (one * factor, one) if several_domains else (one, one * factor)
    rows = share if several_domains else share * factor
    every = [Division.of(domains, rows, processes, rank) for rank in range(processes)]
    whole, found = BlockSampler(corpora(domains), 6, rows, 5), {}
    for own in every:
        some = BlockSampler([corpora(domains)[number] for number in own.domains], 6, own.rows, 5)
        batch = some(3 * own.group + own.member)
        for place, number in enumerate(own.domains):
            for row in range(own.rows):
                key = number, own.member * own.rows + row
                assert key not in found
                found[key] = batch[place, row].tolist()
    expected = whole(3)
    assert found == {
        (number, row): expected[number, row].tolist()
        for number in range(domains)
        for row in range(rows)
    }


@pytest.mark.parametrize(
    ("domains", "rows", "processes", "message"),
    [
        (4, 2, 3, "3 processes: expected a divisor or a multiple of 4, the number of domains"),
        (4, 2, 6, "6 processes: expected a divisor or a multiple of 4, the number of domains"),
        (2, 3, 4, "rows 3: expected a multiple of 2, the processes that share a domain"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(
    domains: int, rows: int, processes: int, message: str
) -> None:
    with pytest.raises(InputError) as error:
        Division.of(domains, rows, processes, 0)
    assert str(error.value) == message


def test_the_stacks_are_the_weights_that_experts_have() -> None:
    model = DEMixLM(SHAPE, ["a", "b"])
    stacks = expert_stacks(model)
    one = model.expert_parameters("a")
    assert len(stacks) == len(one)
    assert sum(stack.numel() for stack in stacks.values()) == 2 * sum(
        weight.numel() for weight in one.values()
    )
    assert all(".feed_forward." in name for name in stacks)
    assert expert_stacks(DEMixLM(SHAPE, experts="none")) == {}


def test_other_strategies_are_refused_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    fabric = Fabric(accelerator="cpu", devices=1)
    monkeypatch.setattr(Fabric, "world_size", 2)
    with pytest.raises(InputError, match="strategy singledevice: expected ddp, for domain experts"):
        train(DEMixLM(SHAPE, ["d0", "d1"]), corpora(2), CONFIG, fabric=fabric)
    whole = DEMixLM(SHAPE, ["d0", "d1"], experts="all")
    with pytest.raises(InputError, match="2 processes: expected one, whole models as experts"):
        train(whole, corpora(2), CONFIG, fabric=fabric)
