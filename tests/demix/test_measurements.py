"""What the experiment measures: fair pairs, honest rules, ratios of the right numbers."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from workingpapers.demix import data, experiment
from workingpapers.demix import measurements as measure
from workingpapers.demix.experiment import CLAIMS, EXPERIMENT, SETTINGS, run
from workingpapers.demix.measurements import (
    IdentityTask,
    ModelTask,
    Setting,
    TimingTask,
    check_identities,
    rules,
    time_in_turn,
    train_and_measure,
)
from workingpapers.demix.posterior import DomainPosterior
from workingpapers.demix.training import held_out_rows
from workingpapers.foundation.training import count_parameters

SETTING = Setting(
    training=("pycode", "milton"),
    novel=("tweets",),
    limit_bytes=40_000,
    vocabulary=300,
    length=16,
    dim=8,
    layers=1,
    heads=1,
    rows=1,
    steps=4,
    learning_rate=4e-3,
    test_rows=4,
    held_out_rows=3,
    adapted=("tweets",),
    adapt_steps=3,
    adapt_rows=2,
    adapt_learning_rate=1e-3,
)


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("corpora"))


def test_rules_of_mixing_by_closed_forms() -> None:
    # Three experts that give every token the same probability, whatever the text is.
    given = torch.tensor([0.5, 0.2, 0.1], dtype=torch.float64)
    logprobs = given.log()[:, None, None].expand(3, 2, 7)
    found = rules(logprobs, logprobs, 1)
    assert found["naive"] == pytest.approx(5)
    assert found["best single"] == pytest.approx(2)
    assert found["average"] == pytest.approx(1 / float(given.mean()))
    # The first token of a row has equal weights, all others those that the last one gives.
    posterior = given / given.sum()
    told = float((posterior * given).sum())
    first = math.log(float(given.mean()))
    assert found["uniform"] == pytest.approx(math.exp(-(first + 6 * math.log(told)) / 7))
    assert found["fitted weights"] == pytest.approx(2, rel=1e-3)
    assert rules(logprobs, logprobs, None)["naive"] == pytest.approx(2)


def test_experts_that_are_equal_leave_nothing_to_mix() -> None:
    one = torch.randn(1, 3, 5, generator=torch.Generator().manual_seed(0)).double() - 4
    every = one.expand(4, 3, 5)
    alone = float((-one.mean()).exp())
    found = rules(every, every, 2)
    assert all(value == pytest.approx(alone) for value in found.values())


def test_an_updating_prior_moves_on_after_every_two_rows() -> None:
    logprobs = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0)).double()
    found, prior = measure._mixed(logprobs, DomainPosterior("updating"))
    weights = DomainPosterior("uniform").weights(logprobs[:, :2])
    told = weights[:, :, -1].exp().mean(1)
    again = DomainPosterior(told).weights(logprobs[:, 2:])
    assert torch.allclose(found[:2], (weights + logprobs[:, :2]).logsumexp(0))
    assert torch.allclose(found[2:], (again + logprobs[:, 2:]).logsumexp(0))
    assert torch.allclose(prior, 0.3 * again[:, :, -1].exp().mean(1) + 0.7 * told)


def test_models_of_a_seed_begin_alike_and_repeat_bit_for_bit(corpora: str) -> None:
    demix, dense, again = (
        train_and_measure(ModelTask(SETTING, name, 5, corpora, removed="milton"))
        for name in ("demix", "dense", "demix")
    )
    # The same rows and weights before the first update; then each its own way.
    assert demix["losses"][0] == dense["losses"][0]
    assert demix["losses"][-1] != dense["losses"][-1]
    assert np.array_equal(demix["losses"], again["losses"])
    assert demix["known"] == again["known"]
    assert demix["added"] == again["added"]
    # The experts that were there are untouched to the last bit.
    assert demix["added"]["change"] == 0
    assert demix["parameters"] - dense["parameters"] == 2 * 8 * 32 + 32 + 8
    assert dense["old"]["tweets"].keys() == {"pycode", "milton"}
    assert np.allclose(demix["posterior"]["weights"].sum(0), 1)
    # Bytes are those of the rows that are scored, not of all the text.
    known, _ = measure._corpora(SETTING, corpora)
    for name, corpus in known.domains.items():
        tokens = held_out_rows(corpus, SETTING.length, SETTING.test_rows, "test")[0].flatten()
        size = len(known.tokenizer.decode(tokens.tolist()).encode())
        assert demix["bytes_per_token"][name] == pytest.approx(size / len(tokens))


@pytest.mark.parametrize("model", ["domain token", "without", "random split", "equal parameters"])
def test_every_other_model_is_measured(corpora: str, model: str) -> None:
    task = ModelTask(replace(SETTING, steps=2), model, 1, corpora, removed="milton")
    found = train_and_measure(task)
    if model == "without":
        assert found["name"] == "milton"
        assert found["never"] > 1
    else:
        assert found["known"].keys() == {"pycode", "milton"}
        assert min(found["known"].values()) > 1


def test_the_dense_model_of_equal_parameters_has_as_many_to_within_biases(corpora: str) -> None:
    known, _ = measure._corpora(SETTING, corpora)
    found = {}
    for model in ("demix", "equal parameters"):
        task = ModelTask(SETTING, model, 1, corpora)
        found[model] = count_parameters(measure._untrained(task, known, SETTING.training))
    assert found["demix"] - found["equal parameters"] == 8


def test_identities_hold_to_rounding() -> None:
    found = check_identities(IdentityTask(1))
    assert found["generate"] < 1e-5
    assert found["causal"] == 0


@pytest.mark.parametrize(
    ("what", "ways"),
    [
        ("step", {"dense", "demix", "gpt2"}),
        ("mixing", {"passes", "batched"}),
        ("layer", {"dense", "balanced", "mixed"}),
    ],
)
def test_durations_are_told_over_the_first_way(what: str, ways: set[str]) -> None:
    tiny = TimingTask(
        what, 1, dim=8, layers=1, heads=1, length=8, vocabulary=32, experts=2, seconds_a_turn=1e-3
    )
    found = time_in_turn(tiny)
    assert found.keys() == ways
    assert next(iter(found.values())) == 1
    assert min(found.values()) > 0


class _Canned:
    """A study that has measured already."""

    scale, seed, seeds, device = "laptop", 0, (1, 2), "cpu"
    data, folder = {}, Path("nowhere")
    only: str | None = None

    def map(self, function: Any, tasks: list[Any], **options: Any) -> list[Any]:
        return [getattr(self, f"_{function.__name__}")(task) for task in tasks]

    def wants(self, *ids: str) -> bool:
        return self.only is None or self.only in ids

    def finding(self, id: str, values: list[float]) -> tuple[str, list[float]]:
        return id, values

    def _check_identities(self, task: Any) -> Any:
        return {"generate": 1e-7, "causal": 0.0}

    def _time_in_turn(self, task: Any) -> Any:
        return {
            "step": {"dense": 1.0, "demix": 1.1, "gpt2": 2.2},
            "mixing": {"passes": 1.0, "batched": 0.8},
            "layer": {"dense": 1.0, "balanced": 1.25, "mixed": 2.0},
        }[task.what]

    def _prepare_corpora(self, task: Any) -> Any:
        facts = {"documents": 1, "bytes": 1000, "tokens": 10, "licence": "-"}
        return dict.fromkeys((*task.setting.training, *task.setting.novel), facts)

    def _train_and_measure(self, task: Any) -> Any:
        setting = task.setting
        rule_names = rules(torch.zeros(2, 1, 1), torch.zeros(2, 1, 1), 0)
        basic = {"parameters": 1, "cpu_seconds": 1.0, "losses": np.linspace(5, 4, 20)}
        perplexity = {"dense": 100.0, "domain token": 80.0}.get(task.model, 90.0)
        if task.model == "without":
            return {**basic, "name": task.removed, "never": 125.0}
        known = dict.fromkeys(setting.training, perplexity)
        new = setting.adapted
        if task.model != "demix":
            return {
                **basic,
                "known": known,
                "novel": dict.fromkeys(setting.novel, 200.0),
                "adapted": dict.fromkeys(new, 150.0),
                "old": dict.fromkeys(new, dict.fromkeys(setting.training, 150.0)),
            }
        own = {**dict.fromkeys(rule_names, 50.0), "naive": 40.0, "cached": 44.0}
        foreign = {
            **dict.fromkeys(rule_names, 100.0),
            "naive": 220.0,
            "cached": 110.0,
            "updating": 121.0,
            "uniform": 132.0,
            "average": 165.0,
            "best single": 125.0,
            "filter 0.1": 99.0,
        }
        count = len(setting.training)
        return {
            **basic,
            "known": dict.fromkeys(setting.training, own),
            "novel": dict.fromkeys(setting.novel, foreign),
            "matrix": np.full((count, count), 60.0) - 20 * np.eye(count),
            "bytes_per_token": dict.fromkeys((*setting.training, *setting.novel), 3.0),
            "removed": {key: {"with": 50.0, "without": 100.0} for key in setting.training},
            "posterior": {"pieces": ["a", "b"], "weights": np.full((count, 2), 1 / count)},
            "added": {
                "nearest": dict.fromkeys(new, 60.0),
                "random": dict.fromkeys(new, 75.0),
                "before": dict.fromkeys(new, 100.0),
                "start": dict.fromkeys(new, "reviews"),
                "change": 0.0,
                "mixture_before": known,
                "mixture_after": dict.fromkeys(setting.training, perplexity * 1.005),
            },
        }


def test_each_claim_is_the_ratio_that_it_says() -> None:
    found = dict(
        one
        for one in run(_Canned())
        if isinstance(one, tuple)  # type: ignore[arg-type]
    )
    assert found.keys() == {claim.id for claim in CLAIMS}
    expected = {
        "in-domain": 0.4,
        "most-domains": 1,
        "over-domain-token": 0.5,
        "cached-in-domain": 1.1,
        "naive-on-novel": 2,
        "naive-under-dense": 1.1,
        "mixing-over-dense": 0.55,
        "uniform-over-average": 0.8,
        "updating-over-uniform": 121 / 132,
        "cached-over-updating": 110 / 121,
        "mixing-over-single": 0.88,
        "filter-over-cached": 0.9,
        "adding-exact": 0,
        "adding-mixture": 1.005,
        "dense-forgets": 1.5,
        "nearest-over-random": 0.8,
        "removal": 2,
        "removal-as-untrained": 0.8,
        "little-overhead": 1.1,
        "efficient-step": 0.5,
        "batched-mixing": 0.8,
        "batched-mixing-wider": 0.8,
        "layer-balanced": 0.8,
        "layer-mixed": 0.5,
    }
    for id, value in expected.items():
        assert found[id] == pytest.approx([value] * len(found[id])), id


def test_a_third_of_the_papers_claims_are_judged_at_quick() -> None:
    paper = [claim for claim in EXPERIMENT.claims if claim.kind == "paper"]
    assert 3 * sum(claim.scale == "quick" for claim in paper) >= len(paper)


@pytest.mark.parametrize("claim", EXPERIMENT.claims, ids=lambda claim: claim.id)
def test_a_claim_that_is_asked_for_alone_is_measured(claim: Any) -> None:
    study = _Canned()
    study.scale, study.only = claim.scale, claim.id
    # Pictures come last, and are not waited for.
    assert any(result[0] == claim.id for result in run(study) if isinstance(result, tuple))


def test_every_scale_has_a_setting_that_its_removed_domains_fit() -> None:
    assert (experiment.TRAINING, experiment.NOVEL) == (data.TRAINING, data.NOVEL)
    for values in SETTINGS.values():
        setting = Setting(**values)
        assert set(setting.adapted) <= set(setting.novel)
        assert not set(setting.training) & set(setting.novel)
        assert set(experiment.REMOVED) & set(setting.training)
    # Another one with each seed.
    assert len(set(experiment.REMOVED) & set(experiment.TRAINING)) == 5
