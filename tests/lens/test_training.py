"""Losses in closed form, functions learned exactly, and a schedule that keeps what it promises."""

import math

import numpy as np
import pytest
import torch

from workingpapers.foundation.errors import InputError
from workingpapers.lens.nets import NETS, NetConfig, all_patterns, make_net
from workingpapers.lens.training import (
    TrainingConfig,
    accuracy,
    classification_loss,
    cluster_probabilities,
    learn_thresholds,
    mutual_information,
    select_width,
    train,
)


def noisy_rule(rows: int = 200, concepts: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """Random 0/1 rows, two heads: x0 and x1, and x2 or not x3; a tenth of the targets turned."""
    generator = torch.Generator().manual_seed(0)
    X = torch.randint(0, 2, (rows, concepts), generator=generator).float()
    fires = torch.stack([X[:, 0] * X[:, 1], torch.maximum(X[:, 2], 1 - X[:, 3])], dim=1)
    turned = torch.rand(rows, 2, generator=generator) < 0.1
    return X, torch.where(turned, 1 - fires, fires)


def softplus(value: float) -> float:
    return math.log1p(math.exp(value))


@pytest.mark.parametrize(
    ("style", "miss", "alarm"), [("iff", 1, 1), ("if", 0.2, 1), ("only_if", 1, 0.2)]
)
def test_each_style_weighs_misses_and_false_alarms_in_its_own_way(style, miss, alarm):
    logits = torch.tensor([[1.5, -0.5], [-2.0, 0.25]])
    targets = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    loss = classification_loss(logits, targets, torch.tensor([1.0, 3.0]), style, 0.2)
    first = miss * softplus(-1.5) + alarm * softplus(-0.5)
    second = alarm * softplus(-2.0) + miss * softplus(-0.25)
    assert float(loss) == pytest.approx((first + 3 * second) / 4, rel=1e-6)


@pytest.mark.parametrize("style", ["iff", "if", "only_if"])
def test_gradients_of_the_losses_are_right(style):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(0, 2, (6, 3), generator=generator).double()
    weights = torch.rand(6, generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda values: classification_loss(values, targets, weights, style, 0.3), logits
    )
    assert torch.autograd.gradcheck(lambda values: mutual_information(values, weights), logits)


@pytest.mark.parametrize("style", ["iff", "if", "only_if"])
def test_equal_rows_may_be_merged_into_one_with_their_mean_target(style):
    logits = torch.tensor([[0.3], [0.3], [0.3], [-1.0]])
    targets = torch.tensor([[1.0], [0.0], [1.0], [1.0]])
    apart = classification_loss(logits, targets, torch.ones(4), style)
    merged = classification_loss(
        logits[2:], torch.tensor([[2 / 3], [1.0]]), torch.tensor([3.0, 1.0]), style
    )
    assert float(apart) == pytest.approx(float(merged), rel=1e-6)


@pytest.mark.parametrize("heads", [2, 3, 7])
def test_a_cluster_that_alone_fires_is_99_percent_certain(heads):
    logits = 200 * torch.eye(heads) - 100
    chances = cluster_probabilities(logits)
    torch.testing.assert_close(chances.diagonal(), torch.full((heads,), 0.99))
    torch.testing.assert_close(chances.sum(dim=1), torch.ones(heads))


@pytest.mark.parametrize("heads", [2, 3, 7])
def test_an_even_certain_partition_has_almost_all_the_information_there_is(heads):
    logits = (200 * torch.eye(heads) - 100).repeat(4, 1)
    doubt = -0.99 * math.log(0.99) - 0.01 * math.log(0.01 / (heads - 1))
    found = float(mutual_information(logits))
    assert found == pytest.approx(math.log(heads) - doubt, abs=1e-5)
    assert found > 0.89 * math.log(heads)


def test_constant_logits_carry_no_information():
    logits = torch.tensor([0.5, -1.0, 2.0]).repeat(9, 1)
    assert float(mutual_information(logits)) == pytest.approx(0, abs=1e-6)


def test_information_does_not_depend_on_the_order_of_heads_and_counts_rows_by_weight():
    logits = torch.randn(10, 4, generator=torch.Generator().manual_seed(0))
    found = float(mutual_information(logits))
    assert 0 < found < math.log(4)
    assert float(mutual_information(logits[:, [2, 0, 3, 1]])) == pytest.approx(found, rel=1e-5)
    repeats = torch.arange(10) % 3 + 1
    repeated = mutual_information(logits.repeat_interleave(repeats, dim=0))
    weighted = mutual_information(logits, repeats.float())
    assert float(weighted) == pytest.approx(float(repeated), rel=1e-5)


def test_accuracy_is_of_the_largest_logit_or_of_each_head():
    logits = torch.tensor([[2.0, 1.0], [-3.0, -1.0], [1.0, -1.0]])
    targets = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    ones, weights = torch.ones(3), torch.tensor([1.0, 1.0, 2.0])
    assert accuracy(logits, targets, ones, "classes") == pytest.approx(2 / 3)
    assert accuracy(logits, targets, weights, "classes") == pytest.approx(2 / 4)
    # Right answers: one of two, one of two, none.
    assert accuracy(logits, targets, ones, "binary") == pytest.approx(1 / 3)
    assert accuracy(logits, targets, weights, "binary") == pytest.approx(1 / 4)


@pytest.mark.parametrize("net", NETS)
def test_rows_given_three_times_train_the_same_network(net):
    X, Y = noisy_rule(60)
    config = TrainingConfig.of(net, epochs=40)
    once, thrice = (make_net(NetConfig.of(net), 6, 2) for _ in range(2))
    alone = train(once, X, Y, None, config, max_concepts=3)
    repeated = train(thrice, X.repeat(3, 1), Y.repeat(3, 1), None, config, max_concepts=3)
    np.testing.assert_allclose(repeated.losses, alone.losses, rtol=0, atol=1e-5)
    assert torch.equal(thrice(X) > 0, once(X) > 0)


@pytest.mark.parametrize("net", ["mu", "psi", "relu", "entropy"])
def test_the_first_loss_is_that_of_all_rows_one_by_one(net):
    X, Y = noisy_rule()
    model = make_net(NetConfig.of(net), 6, 2)
    config = TrainingConfig.of(net, epochs=2)
    expected = classification_loss(model(X), Y, torch.ones(len(X))) + config.l1 * model.penalty()
    history = train(model, X, Y, None, config)
    assert history.losses[0] == pytest.approx(float(expected.detach()), abs=1e-5)


@pytest.mark.parametrize("net", ["mu", "psi", "relu", "entropy"])
def test_every_network_with_hidden_layers_learns_xor(net):
    X = all_patterns(2).float()
    Y = (X[:, :1] != X[:, 1:]).float()
    model = make_net(NetConfig.of(net), 2, 1)
    train(model, X, Y, (X, Y), TrainingConfig.of(net, epochs=300))
    assert model.truth_table(0).tolist() == [False, True, True, False]


@pytest.mark.parametrize("net", ["mu", "relu", "entropy"])
def test_the_multiplexer_of_six_bits_is_learned_exactly(net):
    X = all_patterns(6).float()
    address = (X[:, 0] + 2 * X[:, 1]).long()
    Y = X[:, 2:].gather(1, address.unsqueeze(1))
    model = make_net(NetConfig.of(net), 6, 1)
    train(model, X, Y, (X, Y), TrainingConfig.of(net, epochs=400))
    assert torch.equal(model.truth_table(0), Y[:, 0] > 0.5)


def test_a_tell_network_learns_a_conjunction_with_a_negation():
    X = all_patterns(4).float()
    Y = (X[:, :1] * (1 - X[:, 2:3])).float()
    model = make_net(NetConfig.of("tell"), 4, 1)
    train(model, X, Y, (X, Y), TrainingConfig.of("tell", epochs=600))
    assert model.rules(0) == [{0: True, 2: False}]


@pytest.mark.parametrize("net", NETS)
def test_training_is_repeatable_and_leaves_global_state_alone(net):
    X, Y = noisy_rule(80)
    changes = {} if net == "tell" else {"dropout": 0.2}
    config = TrainingConfig.of(net, epochs=40, seed=3)
    state = torch.get_rng_state()
    torch.set_num_threads(2)
    weights, losses = [], []
    for _ in range(2):
        model = make_net(NetConfig.of(net, **changes), 6, 2, 3)
        losses.append(train(model, X, Y, (X, Y), config, max_concepts=3).losses)
        weights.append(model.state_dict())
    assert torch.get_num_threads() == 2
    assert torch.equal(torch.get_rng_state(), state)
    assert losses[0] == losses[1]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize("net", NETS)
def test_the_best_epoch_is_kept_at_no_more_than_the_wanted_width(net):
    X, Y = noisy_rule()
    validation = (X[150:], Y[150:])
    model = make_net(NetConfig.of(net), 6, 2)
    calls: list[int] = []
    config = TrainingConfig.of(net, epochs=60)
    history = train(
        model, X[:150], Y[:150], validation, config, max_concepts=2, progress=calls.append
    )
    final = accuracy(model(validation[0]).detach(), validation[1], torch.ones(50), "binary")
    assert history.best_score == final == max(history.scores)
    assert calls == [1] * history.epochs
    assert all(len(model.kept(head)) <= 2 for head in range(2))


def test_without_validation_rows_there_is_no_score():
    X, Y = noisy_rule()
    history = train(make_net(NetConfig(), 6, 2), X, Y, None, TrainingConfig(epochs=20))
    assert math.isnan(history.best_score)
    assert history.scores == ()


def test_patience_ends_tuning_when_validation_gets_worse():
    X = all_patterns(4).float()
    Y = X[:, :1]
    # Validation asks for the opposite: every epoch is worse than the one before.
    validation = (X, 1 - Y)
    epochs = []
    for patience in (None, 3):
        config = TrainingConfig(epochs=80, evaluate_every=1, patience=patience)
        epochs.append(train(make_net(NetConfig(), 4, 1), X, Y, validation, config).epochs)
    full, early = epochs
    assert early == full - 40 + 1 + 3


def test_the_chosen_width_is_the_narrowest_within_a_hair_of_the_best():
    X, Y = noisy_rule(400, 8)
    validation = (X[300:], Y[300:])
    model = make_net(NetConfig(), 8, 2)
    widths = (6, 4, 2, 1)
    calls: list[int] = []
    history = select_width(
        model,
        X[:300],
        Y[:300],
        validation,
        TrainingConfig(epochs=80),
        widths=widths,
        progress=calls.append,
    )
    assert tuple(history.widths) == widths
    best = max(history.widths.values())
    near = [width for width, score in history.widths.items() if score >= best - 0.005]
    assert history.best_score == history.widths[min(near)]
    assert all(len(model.kept(head)) <= min(near) for head in range(2))
    final = accuracy(model(validation[0]).detach(), validation[1], torch.ones(100), "binary")
    assert final == history.best_score
    assert calls == [1] * history.epochs


def test_without_validation_rows_the_widest_width_is_taken():
    X, Y = noisy_rule()
    model = make_net(NetConfig(), 6, 2)
    history = select_width(model, X, Y, None, TrainingConfig(epochs=20), widths=(2, 4))
    assert list(history.widths) == [4]
    assert [len(model.kept(head)) for head in range(2)] == [4, 4]


@pytest.mark.parametrize("net", ["mu", "relu"])
def test_if_avoids_false_alarms_and_only_if_avoids_misses(net):
    # Of 20 rows a pattern 1, 7, 13 and 19 are of the class. At a weight of 0.2 "if" fires above
    # a chance of 5/6 and "only if" above 1/6, where "iff" fires above 1/2.
    X = all_patterns(2).float().repeat_interleave(20, dim=0)
    Y = torch.cat([(torch.arange(20) < count).float() for count in (1, 7, 13, 19)]).unsqueeze(1)
    fired, wrong = {}, {}
    for style in ("iff", "if", "only_if"):
        model = make_net(NetConfig.of(net), 2, 1)
        train(model, X, Y, (X, Y), TrainingConfig.of(net, epochs=200, style=style))
        fired[style] = model(all_patterns(2).float())[:, 0].gt(0).tolist()
        answer = model(X) > 0
        wrong[style] = (int((answer & (Y == 0)).sum()), int((~answer & (Y == 1)).sum()))
    assert fired == {
        "iff": [False, False, True, True],
        "if": [False, False, False, True],
        "only_if": [False, True, True, True],
    }
    assert wrong == {"iff": (8, 8), "if": (1, 21), "only_if": (21, 1)}


def test_heads_trained_for_information_split_two_groups():
    X = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]).repeat(10, 1)
    model = make_net(NetConfig(), 3, 2)
    config = TrainingConfig(objective="mutual_information", epochs=200)
    history = train(model, X, None, None, config)
    clusters = cluster_probabilities(model(X).detach()).argmax(dim=1)
    assert history.losses[-1] < -0.85
    assert len(set(clusters[::2].tolist())) == len(set(clusters[1::2].tolist())) == 1
    assert clusters[0] != clusters[1]


def test_the_threshold_of_a_step_is_found_in_the_units_of_the_feature():
    features = torch.linspace(0, 1, 201).unsqueeze(1)
    targets = (features > 0.3).float()
    found = learn_thresholds(features, targets, epochs=300)
    assert found.shape == (1, 1)
    assert abs(float(found) - 0.3) < 0.02
    moved = learn_thresholds(50 * features - 7, targets, epochs=300)
    assert abs(float(moved) - (50 * 0.3 - 7)) < 50 * 0.02
    # A power of two scales without rounding, so the same steps are taken.
    assert float(learn_thresholds(8 * features, targets, epochs=300)) == 8 * float(found)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs: expected at least 1, got 0"),
        ({"prunings": 0}, "prunings: expected at least 1, got 0"),
        ({"evaluate_every": 0}, "evaluate_every: expected at least 1, got 0"),
        ({"patience": 0}, "patience: expected at least 1, got 0"),
        ({"learning_rate": 0.0}, "learning_rate: expected a number above 0, got 0.0"),
        ({"l1": -1.0}, "l1: expected a number of at least 0, got -1.0"),
        (
            {"weight_decay": math.nan},
            "weight_decay: expected a number of at least 0, got nan",
        ),
        ({"style_weight": 0.0}, "style_weight: expected in (0, 1], got 0.0"),
    ],
)
def test_a_bad_training_setting_is_named(settings, message):
    with pytest.raises(InputError) as raised:
        TrainingConfig(**settings)
    assert str(raised.value) == message
