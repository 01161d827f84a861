"""Weights of the experts: each rule against one written out independently, and causality."""

import itertools
import math

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from workingpapers.demix.posterior import DomainPosterior, fit_weights, mix
from workingpapers.foundation.errors import InputError

HISTORIES = ("token", "prefix", "filter", "none")


def logprobs(experts: int, batch: int = 2, length: int = 6, seed: int = 0) -> torch.Tensor:
    """What experts gave to the tokens of some rows."""
    generator = torch.Generator().manual_seed(seed)
    return -3 * torch.rand(experts, batch, length, generator=generator, dtype=torch.float64) - 0.01


def prior_of(experts: int) -> torch.Tensor:
    weights = torch.arange(1, experts + 1, dtype=torch.float64)
    return weights / weights.sum()


def normalised(weights: np.ndarray) -> np.ndarray:
    return weights / weights.sum()


def official(given: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Equal weights first; then the prior times the likelihood of the previous token only."""
    found = [np.full(len(prior), 1 / len(prior))]
    for t in range(1, given.shape[1]):
        found.append(normalised(prior * np.exp(given[:, t - 1])))
    return np.stack(found, 1)


def bayes(given: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """The prior times the likelihood of all tokens before."""
    found = []
    for t in range(given.shape[1]):
        found.append(normalised(prior * np.prod(np.exp(given[:, :t]), axis=1)))
    return np.stack(found, 1)


def sticky_chain(given: np.ndarray, prior: np.ndarray, switch: float) -> np.ndarray:
    """The hidden Markov model's posterior: the probabilities of all paths of domains, summed."""
    experts, length = given.shape
    found = np.zeros((experts, length))
    for t in range(length):
        for path in itertools.product(range(experts), repeat=t + 1):
            probability = prior[path[0]]
            for before, after in itertools.pairwise(path):
                probability *= (1 - switch) * (before == after) + switch * prior[after]
            for step in range(t):
                probability *= math.exp(given[path[step], step])
            found[path[-1], t] += probability
        found[:, t] = normalised(found[:, t])
    return found


@pytest.mark.parametrize("experts", [1, 2, 3, 5, 13])
@pytest.mark.parametrize(("history", "rule"), [("token", official), ("prefix", bayes)])
def test_weights_are_those_of_the_rule(experts, history, rule):
    given_ = logprobs(experts)
    for prior in ("uniform", prior_of(experts)):
        weights = prior_of(experts) if prior != "uniform" else torch.full((experts,), 1 / experts)
        found = DomainPosterior(prior, history).weights(given_).exp()
        for row in range(given_.shape[1]):
            wanted = rule(given_[:, row].numpy(), weights.double().numpy())
            np.testing.assert_allclose(found[:, row], wanted, rtol=1e-7)


@pytest.mark.parametrize("experts", [1, 2, 3])
@pytest.mark.parametrize("switch", [0.05, 0.4, 1.0])
def test_the_filter_is_a_sticky_hidden_markov_model(experts, switch):
    given_ = logprobs(experts, batch=1, length=5)
    prior = prior_of(experts)
    found = DomainPosterior(prior, "filter", switch=switch).weights(given_)[:, 0].exp()
    wanted = sticky_chain(given_[:, 0].numpy(), prior.numpy(), switch)
    np.testing.assert_allclose(found, wanted, rtol=1e-10)


def test_without_history_the_weights_are_the_prior():
    found = DomainPosterior(prior_of(3), "none").weights(logprobs(3)).exp()
    torch.testing.assert_close(found, prior_of(3)[:, None, None].expand(3, 2, 6))


@settings(max_examples=25)
@given(
    experts=st.sampled_from([1, 2, 3, 5, 13]),
    history=st.sampled_from(HISTORIES),
    length=st.integers(1, 7),
    seed=st.integers(0, 10**6),
)
def test_weights_sum_to_one_and_come_out_step_by_step(experts, history, length, seed):
    posterior = DomainPosterior(prior_of(experts), history)
    given_ = logprobs(experts, 2, length, seed)
    together = posterior.weights(given_)
    torch.testing.assert_close(together.exp().sum(0), torch.ones(2, length, dtype=torch.float64))
    step = posterior.first_weights(experts)[:, None].expand(experts, 2)
    for t in range(length):
        torch.testing.assert_close(together[:, :, t], step, rtol=0, atol=1e-9)
        step = posterior.next_weights(step, given_[:, :, t])


@settings(max_examples=25)
@given(
    history=st.sampled_from(HISTORIES),
    changed=st.integers(0, 5),
    seed=st.integers(0, 10**6),
)
def test_a_token_changes_later_weights_only(history, changed, seed):
    posterior = DomainPosterior(prior_of(3), history)
    given_ = logprobs(3, seed=seed)
    other = given_.clone()
    other[0, :, changed] -= 1
    before, after = posterior.weights(given_), posterior.weights(other)
    assert torch.equal(before[..., : changed + 1], after[..., : changed + 1])
    if changed < 5 and history != "none":
        assert (before[..., changed + 1] != after[..., changed + 1]).all()
    if changed < 4 and history == "token":
        assert torch.equal(before[..., changed + 2 :], after[..., changed + 2 :])


@pytest.mark.parametrize("history", HISTORIES)
def test_an_expert_of_no_weight_stays_out(history):
    posterior = DomainPosterior(torch.tensor([0.0, 1.0, 3.0]), history)
    weights = posterior.weights(logprobs(3)).exp()
    assert not weights.isnan().any()
    assert (weights[0, :, 1:] == 0).all()


def test_an_updating_prior_is_an_exponentially_weighted_mean():
    rows = [normalised(np.random.default_rng(row).random((3, 2))) for row in range(6)]
    rows = [row / row.sum(0) for row in rows]
    posterior = DomainPosterior("updating", decay=0.3)
    torch.testing.assert_close(posterior.prior(3), torch.full((3,), 1 / 3, dtype=torch.float64))
    for count, row in enumerate(rows, start=1):
        posterior.update(torch.from_numpy(row).log())
        # As pandas' ewm(alpha=.3, adjust=False): the first value, then shares of what follows.
        shares = np.array([1.0, *[0.3] * (count - 1)])
        shares *= 0.7 ** np.arange(count - 1, -1, -1)
        wanted = sum(share * one.mean(1) for share, one in zip(shares, rows, strict=False))
        np.testing.assert_allclose(posterior.prior(3), wanted, rtol=1e-12)


def test_other_priors_do_not_move():
    for prior in ("uniform", prior_of(2)):
        posterior = DomainPosterior(prior)
        before = posterior.prior(2)
        posterior.update(torch.tensor([[0.9], [0.1]]).log())
        assert torch.equal(posterior.prior(2), before)


def test_a_cached_prior_waits_for_its_estimate():
    posterior = DomainPosterior("cached")
    with pytest.raises(InputError) as refused:
        posterior.prior(2)
    assert (
        str(refused.value) == "prior 'cached': expected an estimate first, from text of the domain"
    )
    posterior.set_prior(torch.tensor([1.0, 3.0]))
    assert posterior.prior(2).tolist() == [0.25, 0.75]
    # The authors' program gives the first token of a row equal weights even so.
    assert posterior.first_weights(2).exp().tolist() == pytest.approx([0.5, 0.5])


def test_a_selection_keeps_the_shares_among_those_left():
    posterior = DomainPosterior(torch.tensor([0.2, 0.3, 0.5]), "filter", switch=0.1)
    some = posterior.select([0, 2])
    torch.testing.assert_close(some.prior(2), torch.tensor([2 / 7, 5 / 7], dtype=torch.float64))
    assert (some.history, some.switch) == ("filter", 0.1)
    assert len(posterior.prior(3)) == 3
    assert DomainPosterior("uniform").select([0, 2]).prior(2).tolist() == [0.5, 0.5]


def test_mixing_is_the_weighted_mean_of_probabilities():
    given_ = logprobs(3)
    weights = DomainPosterior("uniform").weights(given_)
    wanted = (given_.exp() * weights.exp()).sum(0)
    torch.testing.assert_close(mix(given_, weights).exp(), wanted)


def test_fitted_weights_are_the_likeliest():
    given_ = logprobs(4, 1, 200)[:, 0]
    found = fit_weights(given_, iterations=2000)
    assert float(found.sum()) == pytest.approx(1)

    def likelihood(weights: torch.Tensor) -> float:
        return float((weights[:, None] * given_.exp()).sum(0).log().sum())

    # Where it is greatest, the slope in each weight is the number of tokens (Kuhn and Tucker), or
    # less where the weight is 0.
    slopes = (given_.exp() / (found[:, None] * given_.exp()).sum(0)).sum(1)
    assert (slopes <= 200 + 1e-3).all()
    held = slopes[found > 1e-2]
    torch.testing.assert_close(held, torch.full_like(held, 200.0))
    assert likelihood(found) >= likelihood(torch.full((4,), 0.25, dtype=torch.float64))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"history": "all"}, "history 'all': expected token, prefix, filter, none"),
        ({"prior": "even"}, "prior 'even': expected uniform, updating, cached or weights"),
        ({"decay": 0.0}, "decay 0.0: expected more than 0 and at most 1"),
        ({"switch": 1.5}, "switch 1.5: expected more than 0 and at most 1"),
        (
            {"prior": torch.tensor([-1.0, 2.0])},
            "prior: expected numbers of at least 0, one above",
        ),
        ({"prior": torch.zeros(2)}, "prior: expected numbers of at least 0, one above"),
        (
            {"prior": torch.tensor([math.nan, 1.0])},
            "prior: expected numbers of at least 0, one above",
        ),
    ],
)
def test_impossible_settings(arguments, message, monkeypatch):
    # Words that annotations forbid are refused by us where annotations are not checked.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(InputError) as refused:
        DomainPosterior(**arguments)
    assert str(refused.value) == message


def test_a_prior_of_other_experts():
    with pytest.raises(InputError) as refused:
        DomainPosterior(torch.ones(2)).weights(logprobs(3))
    assert str(refused.value) == "prior: has weights of 2 experts, the mixture has 3"
