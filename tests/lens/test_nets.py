"""Batched heads against slow references, pruning that is final, and the readings of each kind."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from workingpapers.foundation.errors import InputError
from workingpapers.lens.nets import (
    NETS,
    LearnedThresholds,
    LogicNet,
    NetConfig,
    all_patterns,
    make_net,
)

every_net = pytest.mark.parametrize("net", NETS)
few = settings(max_examples=6, deadline=None)
seeds = st.integers(0, 10_000)


def random_net(net: str, seed: int, n_concepts: int = 7, n_heads: int = 3, **changes) -> LogicNet:
    """A network with weights large enough for its heads to be neither always on nor always off."""
    model = make_net(NetConfig.of(net, **changes), n_concepts, n_heads, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        if net == "tell":
            # Half of what all literals weigh: about half of the patterns are above it.
            literals = model.weights[0].sigmoid() * model.scales.exp()
            model.biases[0].copy_(-0.5 * literals.sum(dim=1, keepdim=True))
        else:
            # About half of the patterns above 0.
            logits = model(all_patterns(n_concepts).float())
            model.biases[-1].sub_(logits.median(dim=0).values.reshape(n_heads, 1, 1) + 1e-3)
    return model


def random_rows(seed: int, rows: int = 20, n_concepts: int = 7) -> torch.Tensor:
    return torch.rand(rows, n_concepts, generator=torch.Generator().manual_seed(seed))


def slow_logit(model: LogicNet, head: int, row: np.ndarray) -> float:
    """One head on one row from the raw weights, by the definition of its kind."""
    raw = [
        (
            weight[head % len(weight)].detach().double().numpy(),
            bias[head % len(bias), 0].detach().double().numpy(),
        )
        for weight, bias in zip(model.weights, model.biases, strict=True)
    ]
    kind, temperature = model.config.net, model.config.temperature
    if kind == "tell":
        gate, bias = raw[0]
        scale = model.scales[head].detach().double().numpy()
        literals = np.exp(scale) / (1 + np.exp(-gate))
        return float(temperature * (np.concatenate([row, 1 - row]) @ literals + bias)[0])
    values = 2 * row - 1
    if kind == "entropy":
        norms = np.abs(raw[0][0]).sum(axis=1) / temperature
        values = values * np.exp(norms - norms.max())
    for index, (weight, bias) in enumerate(raw):
        if index:
            if kind == "psi":
                values = 2 / (1 + np.exp(-values)) - 1
            else:
                values = np.where(values > 0, values, (0.0 if kind == "relu" else 0.01) * values)
        values = values @ weight + bias
    return float(values[0])


@every_net
def test_forward_is_the_definition_of_the_kind(net):
    model, X = random_net(net, 0), random_rows(0, rows=5)
    expected = [[slow_logit(model, head, row) for head in range(3)] for row in X.double().numpy()]
    np.testing.assert_allclose(model(X).detach().numpy(), expected, rtol=1e-4, atol=1e-4)


@every_net
@given(seed=seeds, width=st.sampled_from([None, 1, 3]))
@few
def test_batched_heads_equal_a_loop_over_heads(net, seed, width):
    model, X = random_net(net, seed), random_rows(seed)
    model.prune(width)
    looped = torch.stack([model.head_logits(head, X) for head in range(3)], dim=1)
    torch.testing.assert_close(model(X), looped, rtol=1e-5, atol=1e-4)


@every_net
@given(seed=seeds, width=st.integers(1, 7))
@few
def test_the_kept_columns_alone_give_the_logits_of_full_rows(net, seed, width):
    model, X = random_net(net, seed), random_rows(seed)
    model.prune(width)
    for head in range(3):
        alone = model.head_on_relevant(head, X[:, model.kept(head)])
        torch.testing.assert_close(alone, model(X)[:, head].detach(), rtol=1e-5, atol=1e-4)


@every_net
@given(seed=seeds, width=st.integers(1, 7))
@few
def test_a_truth_table_is_the_head_on_every_pattern(net, seed, width):
    model = random_net(net, seed)
    model.prune(width)
    for head in range(3):
        kept = model.kept(head)
        table = model.truth_table(head)
        logits = model.head_on_relevant(head, all_patterns(len(kept)))
        assert len(table) == 2 ** len(kept)
        clear = logits.abs() > 1e-4
        assert torch.equal(table[clear], (logits > 0)[clear])
        # Bit i of the row number is the i-th kept concept, checked on full rows one by one.
        for number in {0, 1, len(table) // 2, len(table) - 1}:
            row = torch.zeros(1, 7)
            for bit, concept in enumerate(kept):
                row[0, concept] = number >> bit & 1
            logit = float(model(row).detach()[0, head])
            assert abs(logit) < 1e-4 or bool(table[number % len(table)]) == (logit > 0)


@every_net
def test_a_truth_table_of_several_chunks_equals_the_head(net):
    model = random_net(net, 3, n_concepts=15, n_heads=1, **({"fan_in": 15} if net == "psi" else {}))
    table = model.truth_table(0)
    logits = model(all_patterns(15).float())[:, 0]
    clear = logits.abs() > 1e-3
    assert 0.1 < float(table.float().mean()) < 0.9
    assert torch.equal(table[clear], (logits > 0)[clear])


def test_all_patterns_count_in_binary_with_the_low_bit_first():
    assert all_patterns(2).int().tolist() == [[0, 0], [1, 0], [0, 1], [1, 1]]
    assert all_patterns(0).shape == (1, 0)


@every_net
@given(seed=seeds, width=st.integers(1, 6), dropout=st.sampled_from([0.0, 0.3]))
@few
def test_flipping_a_pruned_concept_never_changes_a_logit(net, seed, width, dropout):
    model = random_net(net, seed, dropout=dropout)
    model.prune(width)
    X = random_rows(seed)
    for generator_seed in (None, seed):
        noise = [
            None if generator_seed is None else torch.Generator().manual_seed(seed)
            for _ in range(8)
        ]
        before = model(X, noise.pop())
        for concept in range(7):
            flipped = X.clone()
            flipped[:, concept] = 1 - flipped[:, concept]
            after = model(flipped, noise.pop())
            for head in range(3):
                if concept not in model.kept(head):
                    assert torch.equal(after[:, head], before[:, head])


@every_net
def test_what_is_pruned_stays_pruned_in_training(net):
    model, X = random_net(net, 1), random_rows(1)
    model.prune(2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        logits = model(X)
        (logits.square().mean() + model.penalty(logits)).backward()
        optimizer.step()
    before = model(X)
    assert before.isfinite().all()
    for head in range(3):
        cut = ~model.mask[head]
        assert int(cut.sum()) >= 5
        flipped = torch.where(cut, 1 - X, X)
        assert torch.equal(model(flipped)[:, head], before[:, head])


@every_net
@given(seed=seeds)
@few
def test_repeated_pruning_nests_and_keeps_no_more_than_asked(net, seed):
    model = random_net(net, seed)
    earlier = [set(range(7))] * 3
    for width in (5, 3, 3, 1):
        model.prune(width)
        now = [set(model.kept(head)) for head in range(3)]
        assert all(len(kept) <= width for kept in now)
        assert all(kept <= before for kept, before in zip(now, earlier, strict=True))
        relevance = model.relevance()
        assert (relevance >= 0).all()
        assert not relevance[~model.mask].any()
        earlier = now


@pytest.mark.parametrize("net", ["mu", "relu", "entropy", "tell"])
@given(seed=seeds, width=st.integers(1, 7))
@few
def test_the_most_relevant_concepts_are_the_ones_kept(net, seed, width):
    model = random_net(net, seed)
    ranks = model.relevance().argsort(dim=1, descending=True)
    model.prune(width)
    for head in range(3):
        assert model.kept(head) == sorted(ranks[head, :width].tolist())


@pytest.mark.parametrize("net", ["mu", "psi", "relu", "tell"])
def test_a_concept_without_influence_is_pruned_though_there_is_room(net):
    model = random_net(net, 0)
    with torch.no_grad():
        if net == "tell":
            for parameter in (model.weights[0], model.scales):
                parameter[:, 7 + 2] = parameter[:, 2]
        else:
            model.weights[0][:, 2] = 0
    model.prune()
    assert not model.mask[:, 2].any()


def test_a_network_without_influence_of_any_concept_has_a_table_of_one_row():
    model = random_net("mu", 0)
    with torch.no_grad():
        model.weights[0].zero_()
    model.prune()
    assert [model.kept(head) for head in range(3)] == [[], [], []]
    fires = model(torch.zeros(1, 7))[0] > 0
    assert [model.truth_table(head).tolist() for head in range(3)] == [[bool(f)] for f in fires]


@given(seed=seeds, width=st.sampled_from([None, 2, 5]))
@few
def test_the_firing_path_of_a_relu_network_is_its_affine_map(seed, width):
    model, X = random_net("relu", seed), random_rows(seed)
    model.prune(width)
    slope, offset = model.firing_path(X)
    affine = torch.einsum("bhc,bc->bh", slope, X) + offset
    torch.testing.assert_close(affine, model(X), rtol=1e-4, atol=1e-2)
    gradient = torch.stack(
        [
            torch.autograd.functional.jacobian(lambda x, head=head: model(x)[:, head].sum(), X)
            for head in range(3)
        ],
        dim=1,
    )
    torch.testing.assert_close(slope, gradient, rtol=1e-4, atol=1e-2)


@given(seed=seeds, fan_in=st.integers(1, 4), width=st.sampled_from([None, 3]))
@few
def test_psi_neurons_keep_their_fan_in_and_their_tables_compose(seed, fan_in, width):
    model = random_net("psi", seed, fan_in=fan_in)
    model.prune(width)
    for connected in model.connections:
        assert int(connected.sum(dim=1).max()) <= fan_in
    X = all_patterns(7)
    expected = model.boolean_forward(X.float())
    for head in range(3):
        values = X
        for layer in model.neuron_tables(head):
            columns = []
            for neuron in layer:
                assert len(neuron.inputs) <= fan_in
                assert list(neuron.inputs) == sorted(neuron.inputs)
                number = (values[:, neuron.inputs] * 2 ** torch.arange(len(neuron.inputs))).sum(1)
                columns.append(neuron.fires[number])
            values = torch.stack(columns, dim=1)
        assert torch.equal(values[:, 0], expected[:, head])
        read = {concept for neuron in model.neuron_tables(head)[0] for concept in neuron.inputs}
        assert set(model.kept(head)) <= read


def test_neuron_tables_of_more_than_20_inputs_are_refused():
    model = make_net(NetConfig.of("psi"), 21, 1)
    with pytest.raises(InputError) as raised:
        model.neuron_tables(0)
    expected = "fan_in: a neuron has 21 inputs, a truth table takes at most 20"
    assert str(raised.value) == expected


@given(seed=seeds, width=st.integers(1, 7))
@few
def test_the_rules_of_a_tell_head_are_its_prime_implicants(seed, width):
    model = random_net("tell", seed)
    model.prune(width)
    for head in range(3):
        kept = model.kept(head)
        table = model.truth_table(head).numpy()
        patterns = all_patterns(len(kept)).numpy()

        def covered(rule, patterns=patterns, kept=kept):
            holds = [patterns[:, kept.index(concept)] == value for concept, value in rule.items()]
            return np.logical_and.reduce(holds, initial=True) & np.ones(len(patterns), bool)

        rules = model.rules(head)
        found = np.zeros(len(table), bool)
        for rule in rules:
            found |= covered(rule)
            for concept in rule:
                shorter = {name: value for name, value in rule.items() if name != concept}
                assert not table[covered(shorter)].all()
        assert (found == table).all()
        assert [len(rule) for rule in rules] == sorted(len(rule) for rule in rules)


def test_a_tell_head_of_at_least_two_of_three_has_three_rules():
    model = make_net(NetConfig.of("tell"), 3, 1)
    with torch.no_grad():
        model.weights[0].copy_(torch.tensor([30.0] * 3 + [-30.0] * 3).reshape(1, 6, 1))
        model.biases[0].fill_(-1.5)
    rules = model.rules(0)
    assert sorted(sorted(rule.items()) for rule in rules) == [
        [(0, True), (1, True)],
        [(0, True), (2, True)],
        [(1, True), (2, True)],
    ]
    with pytest.raises(InputError) as raised:
        model.rules(0, limit=2)
    assert str(raised.value) == "limit: head 0 has more than 2 rules"
    for bias, expected in ((1.0, [{}]), (-4.0, [])):
        with torch.no_grad():
            model.biases[0].fill_(bias)
        assert model.rules(0) == expected


@given(seed=seeds, width=st.sampled_from([None, 1, 4]), temperature=st.sampled_from([0.5, 3.0]))
@few
def test_attention_sums_to_one_and_its_penalty_is_the_entropy(seed, width, temperature):
    model = random_net("entropy", seed, temperature=temperature)
    model.prune(width)
    attention = model.attention().detach().double()
    torch.testing.assert_close(attention.sum(dim=1), torch.ones(3).double(), rtol=0, atol=1e-6)
    assert not attention[~model.mask].any()
    entropy = -sum(p * math.log(p) for p in attention.flatten().tolist() if p > 0)
    assert float(model.penalty().detach()) == pytest.approx(entropy, abs=1e-4)
    model.penalty().backward()
    assert model.weights[0].grad.isfinite().all()


def test_equal_norms_give_even_attention_and_the_largest_entropy():
    model = make_net(NetConfig.of("entropy"), 5, 2)
    with torch.no_grad():
        model.weights[0].fill_(0.3)
    assert float(model.penalty().detach()) == pytest.approx(2 * math.log(5))


def test_the_penalties_of_mu_psi_and_relu_are_their_l1_norms():
    def size(tensors):
        return sum(float(np.abs(tensor.detach().numpy()).sum()) for tensor in tensors)

    mu, psi, relu = (random_net(net, 5) for net in ("mu", "psi", "relu"))
    assert float(mu.penalty().detach()) == pytest.approx(
        size([mu.weights[0], mu.biases[0]]), rel=1e-5
    )
    assert float(psi.penalty().detach()) == pytest.approx(
        size([*psi.weights, *psi.biases]), rel=1e-5
    )
    assert float(relu.penalty().detach()) == pytest.approx(size(relu.weights), rel=1e-5)


def test_the_tell_penalty_is_the_gates_and_the_overlap_of_the_heads():
    model = random_net("tell", 2, n_heads=2)
    gates = float(model.weights[0].detach().sigmoid().sum())
    assert float(model.penalty().detach()) == pytest.approx(gates, rel=1e-6)
    apart = torch.tensor([[99.0, -99.0], [-99.0, 99.0]])
    assert float(model.penalty(apart).detach()) == pytest.approx(gates, abs=1e-5)
    # Two equal outputs overlap by 1, in both places off the diagonal.
    equal = torch.zeros(4, 2)
    assert float(model.penalty(equal).detach()) == pytest.approx(gates + math.sqrt(2), abs=1e-5)


def test_mu_explains_with_the_norms_of_at_least_half_the_largest():
    model = make_net(NetConfig.of("mu", hidden=(2,)), 4, 1)
    with torch.no_grad():
        model.weights[0].zero_()
        # Norms 5, 2.5, 2.4 and 0.
        model.weights[0][0, :3] = torch.tensor([[3.0, 4.0], [0.0, 2.5], [2.4, 0.0]])
    assert model.local_relevance(torch.zeros(2, 4)).tolist() == [[[True, True, False, False]]] * 2
    narrow = make_net(NetConfig.of("mu", hidden=(2,), fan_in=3), 4, 1)
    narrow.load_state_dict(model.state_dict())
    assert narrow.local_relevance(torch.zeros(1, 4)).tolist() == [[[True, True, True, False]]]


def test_entropy_explains_with_more_than_half_the_largest_attention():
    model = make_net(NetConfig.of("entropy", hidden=(1,), temperature=1.0), 3, 1)
    with torch.no_grad():
        # Attention over the largest: 1, 0.6, 0.4.
        norms = torch.tensor([2.0, 2 + math.log(0.6), 2 + math.log(0.4)])
        model.weights[0].copy_(norms.reshape(1, 3, 1))
    torch.testing.assert_close(model.relevance(), torch.tensor([[1.0, 0.6, 0.4]]))
    assert model.local_relevance(torch.zeros(1, 3)).tolist() == [[[True, True, False]]]


@given(seed=seeds)
@few
def test_relu_explains_with_more_than_half_the_largest_weight_of_the_firing_path(seed):
    model, X = random_net("relu", seed), random_rows(seed, rows=5)
    used = model.local_relevance(X)
    for index, row in enumerate(X):
        for head in range(3):
            free = row.clone().requires_grad_(True)
            slope = torch.autograd.grad(model(free[None])[0, head], free)[0].abs()
            clear = (slope - 0.5 * slope.max()).abs() > 1e-4
            expected = slope > 0.5 * slope.max()
            assert torch.equal(used[index, head][clear], expected[clear])


@every_net
def test_weights_follow_the_seed_and_leave_the_global_random_state_alone(net):
    state = torch.get_rng_state()
    first, again, other = (
        make_net(NetConfig.of(net), 4, 2, seed).state_dict() for seed in (7, 7, 8)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["weights.0"], other["weights.0"])


def test_dropout_needs_a_generator_and_keeps_the_mean():
    model = random_net("relu", 0, hidden=(40,), dropout=0.3)
    X = random_rows(0, rows=1).expand(4000, -1)
    assert torch.equal(model(X)[0], model(X)[1])
    noisy = model(X, torch.Generator().manual_seed(0)).detach()
    deviation = noisy.std(dim=0)
    assert (deviation > 0).all()
    # Five standard errors of the mean.
    assert ((noisy.mean(dim=0) - model(X)[0]).abs() < 5 * deviation / math.sqrt(4000)).all()
    again = model(X, torch.Generator().manual_seed(0)).detach()
    assert torch.equal(noisy, again)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden": (4, 0)}, "hidden: expected sizes of at least 1, got (4, 0)"),
        ({"net": "tell"}, "hidden: a tell network has no hidden layers, got (20, 10)"),
        ({"net": "psi"}, "fan_in: a psi network needs one, of at least 1"),
        ({"net": "relu", "fan_in": 2}, "fan_in: only psi and mu networks have one, not relu"),
        ({"fan_in": 0}, "fan_in: expected at least 1, got 0"),
        ({"temperature": 0.0}, "temperature: expected above 0, got 0.0"),
        ({"temperature": math.nan}, "temperature: expected above 0, got nan"),
        ({"dropout": 1.0}, "dropout: expected at least 0 and below 1, got 1.0"),
    ],
)
def test_a_bad_network_setting_is_named(settings, message):
    with pytest.raises(InputError) as raised:
        NetConfig(**settings)
    assert str(raised.value) == message


def test_settings_of_an_unknown_network_are_refused():
    with pytest.raises(InputError) as raised:
        NetConfig.of("nu")
    assert str(raised.value) == "net: expected one of mu, psi, relu, entropy, tell, got 'nu'"


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((0, 1), "n_concepts: expected at least 1, got 0"),
        ((3, 0), "n_heads: expected at least 1, got 0"),
    ],
)
def test_a_network_of_no_concepts_or_heads_is_refused(sizes, message):
    with pytest.raises(InputError) as raised:
        make_net(NetConfig(), *sizes)
    assert str(raised.value) == message


@every_net
def test_more_than_20_concepts_have_no_truth_table(net):
    model = make_net(NetConfig.of(net), 21, 2)
    with pytest.raises(InputError) as raised:
        model.truth_table(1)
    expected = "max_concepts: head 1 keeps 21 concepts, a truth table takes at most 20"
    assert str(raised.value) == expected


def test_bad_widths_and_patterns_are_refused():
    model = random_net("mu", 0)
    with pytest.raises(InputError) as raised:
        model.prune(0)
    assert str(raised.value) == "max_concepts: expected at least 1, got 0"
    model.prune(2)
    with pytest.raises(InputError) as raised:
        model.head_on_relevant(1, torch.zeros(4, 7))
    expected = "patterns: expected 2 columns, one a concept that head 1 keeps, got 7"
    assert str(raised.value) == expected


def test_learned_thresholds_are_sigmoids_side_by_side():
    front = LearnedThresholds(2, 2)
    with torch.no_grad():
        front.thresholds.copy_(torch.tensor([[0.0, 1.0], [2.0, -1.0]]))
        front.slope.fill_(3.0)
    concepts = front(torch.tensor([[0.5, 1.0]])).detach()
    expected = [1 / (1 + math.exp(-3 * gap)) for gap in (0.5, -0.5, -1.0, 2.0)]
    np.testing.assert_allclose(concepts.numpy(), [expected], rtol=1e-6)
    entropy = -sum(p * math.log(p) + (1 - p) * math.log(1 - p) for p in expected) / 4
    assert float(front.penalty(concepts)) == pytest.approx(entropy, rel=1e-5)


def test_gradients_are_finite_where_concepts_are_exactly_0_and_1():
    front = LearnedThresholds(1)
    concepts = front(torch.tensor([[-1e6], [1e6]]))
    assert concepts.flatten().tolist() == [0.0, 1.0]
    loss = functional.binary_cross_entropy_with_logits(concepts, torch.tensor([[1.0], [0.0]]))
    penalty = front.penalty(concepts)
    (loss + penalty).backward()
    assert float(penalty.detach()) < 2e-5
    assert front.thresholds.grad.isfinite().all()


def test_learned_thresholds_of_no_features_are_refused():
    with pytest.raises(InputError) as raised:
        LearnedThresholds(1, 0)
    assert str(raised.value) == "n_thresholds: expected at least 1, got 0"
