"""Whole models as experts, trained apart."""

import pickle
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from workingpapers.demix import branches
from workingpapers.demix.branches import split_steps, train_branches
from workingpapers.demix.corpora import DomainCorpus
from workingpapers.demix.model import DEMixLM, LMConfig
from workingpapers.demix.training import train
from workingpapers.foundation.errors import InputError
from workingpapers.foundation.parallel import Outcome
from workingpapers.foundation.training import TrainConfig

SHAPE = LMConfig(vocabulary=24, length=6, dim=8, layers=1, heads=2)
CONFIG = TrainConfig(steps=10, learning_rate=0.02, warmup=2, weight_decay=0.1, save_every=3)
NAMES = ("news", "wiki", "code")


def corpora() -> list[DomainCorpus]:
    rng = np.random.default_rng(0)
    found = []
    for name, most in zip(NAMES, (12, 20, 24), strict=True):
        tokens = rng.integers(0, most, 200).astype(np.uint16)
        found.append(DomainCorpus(name, tokens, tokens, tokens, {}, {}, source=name))
    return found


def trained_alone(
    start: dict[str, torch.Tensor] | None, some: list[DomainCorpus], config: TrainConfig
) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    model = DEMixLM(SHAPE, experts="none")
    if start is not None:
        model.load_state_dict(start)
    train(model, some, config)
    return {name: weight.clone() for name, weight in model.state_dict().items()}


@cache
def alone(seed_share: float) -> Mapping[str, dict[str, torch.Tensor]]:
    """Each branch, when nobody else trains."""
    seed, after = split_steps(CONFIG, seed_share)
    start = None if seed is None else trained_alone(None, corpora(), seed)
    return {corpus.name: trained_alone(start, [corpus], after) for corpus in corpora()}


def assert_alone(model: DEMixLM, seed_share: float) -> None:
    """Every branch is, bit for bit, what it is alone."""
    assert model.domains == NAMES
    assert model.experts == "all"
    for name, expected in alone(seed_share).items():
        found = model.expert_parameters(name)
        assert {f"decoder.{key}" for key in found} == expected.keys()
        for key, weight in found.items():
            assert torch.equal(weight, expected[f"decoder.{key}"])


def test_branches_are_what_each_would_be_alone(tmp_path: Path) -> None:
    told: list[int] = []
    model = train_branches(
        SHAPE, corpora(), CONFIG, tmp_path, seed_share=0.4, jobs=1, progress=told.append
    )
    assert told == [1, 1, 1, 1, 6, 6, 6]
    assert_alone(model, 0.4)


def test_the_engine_gets_tasks_that_are_small_and_can_be_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray's workers get the same pickles as local ones."""
    sent: list[dict[str, Any]] = []

    def map_here(function: Any, tasks: Any, *, done: Any, **options: Any) -> None:
        sent.append(options)
        for index, task in enumerate(tasks):
            payload = pickle.dumps((function, task))
            assert len(payload) < 2000
            again, copy = pickle.loads(payload)
            assert copy == task
            done(index, Outcome(again(copy), 0.0, None))

    monkeypatch.setattr(branches, "map_tasks", map_here)
    folder = tmp_path / "run"
    assert_alone(train_branches(SHAPE, corpora(), CONFIG, folder, engine="ray", jobs=3), 0.0)
    assert sent == [{"engine": "ray", "jobs": 3}]
    # Without a seed phase, all begin with the weights of the seed of random numbers.
    assert not (folder / "seed").exists()


class StopError(Exception):
    pass


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks one after the other, without workers."""

    def map_here(function: Any, tasks: Any, *, done: Any, **options: Any) -> None:
        for index, task in enumerate(tasks):
            done(index, Outcome(function(task), 0.0, None))

    monkeypatch.setattr(branches, "map_tasks", map_here)


@pytest.mark.parametrize("stop_at", [2, 5, 6])
def test_what_was_stopped_goes_on_to_the_same_weights(
    stop_at: int, tmp_path: Path, in_this_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped within the seed phase, after the first branch, and after the second."""
    told: list[int] = []

    def stop(steps: int) -> None:
        told.append(steps)
        if len(told) == stop_at:
            raise StopError

    with pytest.raises(StopError):
        train_branches(SHAPE, corpora(), CONFIG, tmp_path, seed_share=0.4, progress=stop)
    trained: list[tuple[str, ...]] = []
    whole = branches.train_phase

    def remember(task: Any, progress: Any = None) -> None:
        trained.append(task.phase.domains)
        whole(task, progress)

    monkeypatch.setattr(branches, "train_phase", remember)
    model = train_branches(SHAPE, corpora(), CONFIG, tmp_path, seed_share=0.4)
    every = [NAMES, *((name,) for name in NAMES)]
    assert trained == every[max(0, stop_at - 3) :]
    assert_alone(model, 0.4)
    # Everything is there: nothing is trained again.
    trained.clear()
    train_branches(SHAPE, corpora(), replace(CONFIG, save_every=7), tmp_path, seed_share=0.4)
    assert trained == []


def test_branches_of_other_settings_or_texts_are_refused(
    tmp_path: Path, in_this_process: None
) -> None:
    config = replace(CONFIG, steps=2)
    train_branches(SHAPE, corpora(), config, tmp_path)
    message = "branches/news/model: holds a branch of other settings or texts"
    with pytest.raises(InputError, match=message):
        train_branches(SHAPE, corpora(), replace(config, learning_rate=0.1), tmp_path)
    others = [replace(each, train=each.train[::-1].copy()) for each in corpora()]
    with pytest.raises(InputError, match=message):
        train_branches(SHAPE, others, config, tmp_path)


def test_tokens_in_files_are_read_where_they_are(tmp_path: Path, in_this_process: None) -> None:
    mapped = []
    for corpus in corpora():
        path = tmp_path / f"{corpus.name}.npy"
        np.save(path, corpus.train)
        mapped.append(replace(corpus, train=np.load(path, mmap_mode="r")))
    # A part of a file is not that file.
    mapped[2] = replace(mapped[2], train=mapped[2].train[20:])
    config = replace(CONFIG, steps=1)
    train_branches(SHAPE, mapped, config, tmp_path / "run")
    assert [path.name for path in (tmp_path / "run" / "tokens").iterdir()] == ["code.npy"]


def test_steps_are_divided_between_seed_and_branches() -> None:
    seed, after = split_steps(replace(CONFIG, steps=100, warmup=8, threads=3), 0.25)
    assert seed is not None
    assert (seed.steps, seed.warmup, seed.schedule, seed.threads) == (25, 2, "constant", 3)
    assert (after.steps, after.warmup, after.schedule, after.threads) == (75, 6, "linear", None)
    assert split_steps(CONFIG, 0.0) == (None, CONFIG)
    for share, message in (
        (1.0, "seed_share 1.0: expected from 0 to below 1"),
        (-0.5, "seed_share -0.5: expected from 0 to below 1"),
        (0.96, "steps 10: expected more, so that some are left to branches"),
    ):
        with pytest.raises(InputError, match=message):
            split_steps(CONFIG, share)
    with pytest.raises(InputError, match="training: expected steps"):
        split_steps(replace(CONFIG, steps=None, seconds=3.0), 0.0)


def test_short_corpora_are_refused_at_once(tmp_path: Path) -> None:
    short = [replace(corpora()[0], train=corpora()[0].train[:6]), *corpora()[1:]]
    with pytest.raises(InputError, match="news: domain 'news' has 6 tokens in its part 'train'"):
        train_branches(SHAPE, short, CONFIG, tmp_path)
