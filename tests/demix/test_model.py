"""The layer of experts and the language model: all paths the same numbers, each expert its own."""

import math

import jaxtyping
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from workingpapers.demix.model import SIZES, Assignment, DEMixFeedForward, DEMixLM, LMConfig
from workingpapers.demix.protocol import ModularLM
from workingpapers.foundation.errors import InputError

CONFIG = LMConfig(vocabulary=23, length=8, dim=16, layers=2, heads=2)
TOKENED = LMConfig(vocabulary=23, length=8, dim=16, layers=2, heads=2, domain_tokens=True)
NAMES = ("news", "law", "code")
ROWS = torch.randint(23, (6, 8), generator=torch.Generator().manual_seed(5))


def model_of(
    domains=NAMES, experts="ffn", config=CONFIG, *, seed=0, noise=0.3, dtype=torch.float32
) -> DEMixLM:
    """A model whose experts differ, unless `noise` is 0."""
    torch.manual_seed(seed)
    model = DEMixLM(config, domains, experts=experts)
    with torch.no_grad():
        for weight in model.parameters():
            weight += noise * torch.randn(weight.shape)
    return model.to(dtype).eval()


def every_kind() -> list[DEMixLM]:
    return [
        model_of(),
        model_of(experts="all"),
        model_of(experts="none"),
        model_of(experts="none", config=TOKENED),
    ]


def refusal(action) -> str:
    with pytest.raises(InputError) as refused:
        action()
    return str(refused.value)


# ---- the layer


def layer_of(dim: int, hidden: int, experts: int, dtype: torch.dtype) -> DEMixFeedForward:
    layer = DEMixFeedForward(dim, hidden, experts).to(dtype)
    for weight in layer.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    return layer


def one_by_one(layer: DEMixFeedForward, x: torch.Tensor, domain: torch.Tensor) -> torch.Tensor:
    """The layer's definition, row by row."""
    rows = [
        functional.gelu(row @ layer.up_weight[j] + layer.up_bias[j]) @ layer.down_weight[j]
        + layer.down_bias[j]
        for row, j in zip(x, domain.tolist(), strict=True)
    ]
    return torch.stack(rows)


@settings(max_examples=20)
@given(
    experts=st.sampled_from([1, 2, 3, 5, 13]),
    widths=st.sampled_from([(16, 64), (12, 20), (7, 9)]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    data=st.data(),
)
def test_any_batch_of_domains_is_read_row_by_row(experts, widths, dtype, data):
    torch.manual_seed(experts)
    layer = layer_of(*widths, experts, dtype)
    domain = torch.tensor(
        data.draw(st.lists(st.integers(0, experts - 1), min_size=1, max_size=9)), dtype=torch.int64
    )
    x = torch.randn(len(domain), 3, widths[0], dtype=dtype)
    found = layer(x, assignment=Assignment.of(domain, len(x), experts))
    close = {"rtol": 1e-4, "atol": 1e-4} if dtype == torch.float32 else {}
    torch.testing.assert_close(found, one_by_one(layer, x, domain), **close)


@pytest.mark.parametrize("experts", [1, 2, 3, 5, 13])
def test_the_batched_the_grouped_and_the_single_path_agree_with_their_gradients(experts):
    torch.manual_seed(0)
    layer = layer_of(8, 12, experts, torch.float64)
    x = torch.randn(2 * experts, 3, 8, dtype=torch.float64)
    domain = torch.arange(experts).repeat_interleave(2)
    balanced = Assignment.of(domain, len(x), experts)
    assert balanced.experts == tuple(range(experts))
    grouped = Assignment(order=domain.argsort(), counts=torch.bincount(domain, minlength=experts))
    results, gradients = [], []
    for run in (
        lambda: layer(x, assignment=balanced),
        lambda: layer(x, assignment=grouped),
        lambda: torch.cat(
            [layer(x[2 * j : 2 * j + 2], assignment=Assignment((j,))) for j in range(experts)]
        ),
    ):
        y = run()
        results.append(y.detach())
        gradients.append(torch.autograd.grad(y.square().sum(), list(layer.parameters())))
    for result, gradient in zip(results[1:], gradients[1:], strict=True):
        torch.testing.assert_close(result, results[0])
        torch.testing.assert_close(gradient, gradients[0])


@pytest.mark.parametrize(
    "assignment",
    [
        Assignment((0, 1, 2, 3)),
        Assignment((2, 0)),
        Assignment((3,)),
        Assignment.of(torch.tensor([3, 0, 3, 1, 1, 3, 3, 1]), 8, 4),
    ],
)
def test_without_gradients_many_tokens_are_read_expert_by_expert_alike(assignment):
    torch.manual_seed(0)
    layer = layer_of(16, 24, 4, torch.float32)
    x = torch.randn(8, 70, 16)
    with torch.no_grad():
        found = layer(x, assignment=assignment)
        with torch.autocast("cpu", torch.bfloat16):
            rough = layer(x, assignment=assignment)
    wanted = layer(x, assignment=assignment).detach()
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    assert float((rough.float() - wanted).std() / wanted.std()) < 0.03


def test_assignments_that_do_not_fit():
    assert (
        refusal(lambda: Assignment.of(torch.tensor([0, 1]), 3, 2))
        == "domain: expected one number a row, 3, got 2"
    )
    assert (
        refusal(lambda: Assignment.of(torch.tensor([0, 2]), 2, 2))
        == "domain: expected numbers from 0 to 1"
    )


# ---- the model


def by_hand(model: DEMixLM, rows: torch.Tensor, expert: int) -> torch.Tensor:
    """GPT-2 with the feed-forward networks of one expert, head by head and without any kernel."""
    decoder, config = model.decoder, model.config
    x = decoder.tokens.weight[rows] + decoder.positions.weight[: rows.shape[1]]
    hidden_future = torch.ones(rows.shape[1], rows.shape[1]).triu(1).bool()

    def normed(x, norm):
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return scaled * norm.weight + norm.bias

    for block in decoder.blocks:
        y, attention = normed(x, block.mixer_norm), block.mixer
        q, k, v = (
            (y @ linear.weight.T + linear.bias).chunk(config.heads, -1)
            for linear in (attention.query, attention.key, attention.value)
        )
        heads = []
        for one_q, one_k, one_v in zip(q, k, v, strict=True):
            scores = one_q @ one_k.mT / math.sqrt(one_q.shape[-1])
            heads.append(scores.masked_fill(hidden_future, -math.inf).softmax(-1) @ one_v)
        x = x + torch.cat(heads, -1) @ attention.output.weight.T + attention.output.bias
        layer = block.feed_forward
        y = normed(x, block.feed_forward_norm) @ layer.up_weight[expert] + layer.up_bias[expert]
        y = y * (1 + torch.erf(y / math.sqrt(2))) / 2
        x = x + y @ layer.down_weight[expert] + layer.down_bias[expert]
    return normed(x, decoder.norm) @ decoder.tokens.weight.T


def test_the_model_is_gpt_2_with_one_network_a_domain():
    model = model_of(dtype=torch.float64)
    for expert in range(3):
        wanted = by_hand(model, ROWS, expert)
        torch.testing.assert_close(model(ROWS, expert), wanted)
        torch.testing.assert_close(
            model.token_logprobs(ROWS[:, 1:], [expert], previous=ROWS[:, 0])[0],
            wanted[:, :-1].log_softmax(-1).gather(-1, ROWS[:, 1:, None])[..., 0],
        )


def test_one_expert_is_the_dense_model_bit_for_bit():
    demix, dense = model_of(["news"]), model_of(experts="none")
    assert torch.equal(demix(ROWS, 0), dense(ROWS))
    assert torch.equal(demix(ROWS, torch.zeros(6, dtype=torch.int64)), dense(ROWS))
    assert torch.equal(demix.token_logprobs(ROWS), dense.token_logprobs(ROWS))
    tokens = ROWS[0]
    assert torch.equal(demix.reader().read(tokens), dense.reader().read(tokens))
    losses = [model(ROWS[:, :-1], 0, ROWS[:, 1:]) for model in (demix, dense)]
    assert torch.equal(*losses)
    gradients = [
        torch.autograd.grad(loss, list(model.parameters()))
        for loss, model in zip(losses, (demix, dense), strict=True)
    ]
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))


@pytest.mark.parametrize("count", [1, 2, 3, 5, 13])
def test_any_number_of_experts_begins_as_the_same_dense_model(count):
    domains = [f"domain{number}" for number in range(count)]
    wanted = model_of(experts="none", noise=0)(ROWS)
    domain = torch.arange(6) % count
    for experts in ("ffn", "all"):
        model = model_of(domains, experts, noise=0)
        torch.testing.assert_close(model(ROWS, domain), wanted, rtol=1e-5, atol=1e-6)
        assert model.domains == tuple(domains)


@settings(max_examples=8)
@given(
    domain=st.lists(st.integers(0, 2), min_size=6, max_size=6),
    experts=st.sampled_from(["ffn", "all"]),
)
def test_each_row_is_read_by_its_own_expert(domain, experts):
    model = model_of(experts=experts, dtype=torch.float64)
    rows = [model(row[None], number) for row, number in zip(ROWS, domain, strict=True)]
    found = model(ROWS, torch.tensor(domain))
    torch.testing.assert_close(found, torch.cat(rows))
    targets = ROWS.roll(1, 0)
    wanted = functional.cross_entropy(found.flatten(0, 1), targets.flatten())
    torch.testing.assert_close(model(ROWS, torch.tensor(domain), targets), wanted)


def test_the_loss_is_the_cross_entropy_in_single_precision_and_large_batches_too():
    config = LMConfig(vocabulary=3000, length=8, dim=16, layers=1, heads=2)
    model = model_of(config=config)
    rows = torch.randint(3000, (40, 8))
    wanted = functional.cross_entropy(model(rows, 1).flatten(0, 1), rows.flatten())
    torch.testing.assert_close(model(rows, 1, rows), wanted)
    every = model.token_logprobs(rows, previous=rows[:, 0])
    parts = [model.token_logprobs(rows[[i]], previous=rows[[i], 0]) for i in range(0, 40, 13)]
    torch.testing.assert_close(every[:, ::13], torch.cat(parts, 1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("domain", [[0, 0, 2, 2, 0, 0], [2, 0, 0, 0, 0, 2], [2] * 6, [0, 2] * 3])
@pytest.mark.parametrize("experts", ["ffn", "all"])
def test_an_expert_without_a_row_gets_no_gradient(domain, experts):
    model = model_of(experts=experts)
    model(ROWS, torch.tensor(domain), ROWS).backward()
    for number, name in enumerate(NAMES):
        if experts == "ffn":
            layers = [block.feed_forward for block in model.decoder.blocks]
            found = [weight.grad[number] for one in layers for weight in one.parameters()]
        else:
            found = [weight.grad for weight in model.members[number].parameters()]
        silent = [gradient is None or not gradient.any() for gradient in found]
        assert all(silent) if number not in domain else not any(silent), name


@pytest.mark.parametrize("model", every_kind(), ids=["ffn", "all", "none", "domain tokens"])
def test_scoring_reading_and_the_forward_pass_agree(model):
    assert isinstance(model, ModularLM)
    assert (model.context, model.vocabulary, model.end_of_text) == (8, 23, 0)
    count = len(model.domains)
    found = model.token_logprobs(ROWS)
    assert found.shape == (count, 6, 8)
    read = torch.cat([torch.zeros(6, 1, dtype=torch.int64), ROWS[:, :-1]], 1)
    for number in range(count):
        wanted = model(read, number).log_softmax(-1).gather(-1, ROWS[..., None])[..., 0]
        torch.testing.assert_close(found[number], wanted, rtol=1e-4, atol=1e-5)
    some = list(reversed(model.domains))[:2]
    numbers = [model.domains.index(name) for name in some]
    torch.testing.assert_close(
        model.token_logprobs(ROWS, some), found[numbers], rtol=1e-4, atol=1e-5
    )
    reader = model.reader(some)
    parts = [reader.read(part) for part in read[0].split([1, 3, 1, 3])]
    assert reader.held == 8
    logprobs = torch.cat(parts, 1).gather(-1, ROWS[0].expand(len(some), 8)[..., None])[..., 0]
    torch.testing.assert_close(logprobs, found[numbers, 0], rtol=1e-4, atol=1e-5)
    assert (
        refusal(lambda: reader.read(ROWS[0, :1])) == "tokens: asked to read 9, expected at most 8"
    )


def test_a_token_says_nothing_of_those_before_it():
    changed = ROWS.clone()
    changed[:, 5] = (changed[:, 5] + 1) % 23
    for model in every_kind():
        before, after = model.token_logprobs(ROWS), model.token_logprobs(changed)
        assert torch.equal(before[..., :5], after[..., :5])
        assert (before[..., 5:] != after[..., 5:]).all()


def test_a_domain_token_tells_the_domain_and_costs_no_logits():
    model = model_of(experts="none", config=TOKENED)
    assert model.domains == NAMES
    assert model.decoder.positions.weight.shape == (9, 16)
    found = [model(ROWS, number) for number in range(3)]
    assert found[0].shape == (6, 8, 23)
    assert not torch.allclose(found[0], found[1])
    mixed = model(ROWS, torch.tensor([0, 1, 2, 0, 1, 2]))
    torch.testing.assert_close(mixed[1], found[1][1])
    assert model_of(experts="none").domains == ("dense",)


# ---- experts come and go


def state_of(model: DEMixLM, name: str) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in model.expert_parameters(name).items()}


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


@pytest.mark.parametrize("experts", ["ffn", "all"])
def test_experts_and_what_is_shared_are_all_weights(experts):
    model = model_of(experts=experts)
    parts = [model.shared_parameters(), *(model.expert_parameters(name) for name in NAMES)]
    counted = sum(weight.numel() for part in parts for weight in part.values())
    assert counted == sum(weight.numel() for weight in model.parameters())
    assert bool(parts[0]) == (experts == "ffn")
    if experts == "ffn":
        assert {key: tuple(weight.shape) for key, weight in parts[1].items()} == {
            f"blocks.{layer}.{key}": shape
            for layer in range(2)
            for key, shape in (
                ("up_weight", (16, 64)),
                ("up_bias", (64,)),
                ("down_weight", (64, 16)),
                ("down_bias", (16,)),
            )
        }


@pytest.mark.parametrize("experts", ["ffn", "all"])
def test_an_added_expert_changes_no_other_and_removing_it_leaves_no_trace(experts):
    model = model_of(experts=experts)
    before = model.token_logprobs(ROWS)
    model.add_expert("art", "law")
    assert model.domains == (*NAMES, "art")
    assert same(state_of(model, "art"), state_of(model, "law"))
    assert torch.equal(model.token_logprobs(ROWS, NAMES), before)
    with torch.no_grad():
        for weight in model.expert_parameters("art").values():
            weight += 1
    assert torch.equal(model.token_logprobs(ROWS, NAMES), before)
    assert not torch.allclose(model.token_logprobs(ROWS, ["art"]), before[1])
    model.remove_expert("art")
    assert model.domains == NAMES
    assert torch.equal(model.token_logprobs(ROWS), before)
    model.rename_expert("law", "LAW")
    assert model.domains == ("news", "LAW", "code")
    assert torch.equal(model.token_logprobs(ROWS, ["LAW"]), before[[1]])
    model.remove_expert("news")
    assert model.domains == ("LAW", "code")
    torch.testing.assert_close(model.token_logprobs(ROWS), before[1:], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("experts", ["ffn", "all"])
def test_a_selection_has_its_order_and_its_own_memory(experts):
    model = model_of(experts=experts)
    wanted = [state_of(model, name) for name in ("code", "news")]
    model.select_experts(["code", "news"])
    assert model.domains == ("code", "news")
    assert all(same(state_of(model, n), w) for n, w in zip(model.domains, wanted, strict=True))
    assert model(ROWS, 1, ROWS).requires_grad


@pytest.mark.parametrize("experts", ["ffn", "all"])
def test_a_random_expert_is_not_what_a_model_of_its_seed_began_with(experts):
    torch.manual_seed(3)
    model = DEMixLM(CONFIG, NAMES, experts=experts)
    model.add_expert("dice", "random", seed=3)
    old, new = model.expert_parameters("news"), model.expert_parameters("dice")
    drawn = [key for key, weight in new.items() if float(weight.std()) > 0]
    assert drawn
    assert not any(torch.equal(old[key], new[key]) for key in drawn)


@pytest.mark.parametrize("experts", ["ffn", "all"])
def test_new_experts_begin_as_the_mean_or_at_random(experts):
    model = model_of(experts=experts)
    model.add_expert("mean")
    found = state_of(model, "mean")
    for key, value in found.items():
        olds = [model.expert_parameters(name)[key] for name in NAMES]
        torch.testing.assert_close(value, sum(olds) / 3)
    torch.manual_seed(7)
    wanted = torch.rand(3)
    torch.manual_seed(7)
    model.add_expert("dice", "random", seed=1)
    assert torch.equal(torch.rand(3), wanted)
    model.add_expert("dice2", "random", seed=1)
    model.add_expert("dice3", "random", seed=2)
    dice = [state_of(model, name) for name in ("dice", "dice2", "dice3")]
    assert same(dice[0], dice[1])
    assert not same(dice[0], dice[2])


@pytest.mark.parametrize("experts", ["ffn", "all"])
def test_merging_is_the_mean_of_weights(experts):
    model = model_of(experts=experts)
    one = model.merge({"law": 5.0})
    assert (one.experts, one.domains) == ("none", ("dense",))
    assert torch.equal(one(ROWS), model(ROWS, 1))
    both = model.merge({"news": 3.0, "code": 1.0})
    if experts == "ffn":
        merged = both.decoder.blocks[1].feed_forward.up_weight[0]
        olds = [model.expert_parameters(name)["blocks.1.up_weight"] for name in NAMES]
        torch.testing.assert_close(both.decoder.tokens.weight, model.decoder.tokens.weight)
    else:
        merged = both.decoder.tokens.weight
        olds = [model.expert_parameters(name)["tokens.weight"] for name in NAMES]
    torch.testing.assert_close(merged, 0.75 * olds[0] + 0.25 * olds[2])
    equal = model_of(experts=experts, noise=0)
    torch.testing.assert_close(
        equal.merge(dict.fromkeys(NAMES, 1.0))(ROWS), equal(ROWS, 0), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("experts", ["ffn", "all"])
def test_weights_go_from_model_to_model(experts):
    model, other = model_of(experts=experts), model_of(experts=experts, seed=1)
    other.load_shared(model.shared_parameters())
    other.load_expert("law", model.expert_parameters("news"))
    torch.testing.assert_close(other(ROWS, 1), model(ROWS, 0))


def test_the_last_expert_stays():
    model = model_of(["news"])
    message = "experts: expected at least one to be left"
    assert refusal(lambda: model.remove_expert("news")) == message
    assert model.domains == ("news",)


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (
            lambda: model_of().add_expert("Law"),
            "domain 'Law': there is one of this name",
        ),
        (
            lambda: model_of().add_expert("../x"),
            "domain '../x': expected at most 64 letters, digits and _.-, not beginning with . or -",
        ),
        (
            lambda: model_of().add_expert("art", "sea"),
            "init 'sea': expected mean, random or one of news, law, code",
        ),
        (
            lambda: model_of().remove_expert("sea"),
            "domain 'sea': expected one of news, law, code",
        ),
        (
            lambda: model_of().rename_expert("law", "news"),
            "domain 'news': there is one of this name",
        ),
        (
            lambda: model_of()(ROWS, 3),
            "domain 3: expected one of news, law, code",
        ),
        (
            lambda: model_of().token_logprobs(ROWS, ["law", 1]),
            "experts ['law', 1]: expected one or more, each once",
        ),
        (
            lambda: model_of().token_logprobs(ROWS, []),
            "experts []: expected one or more, each once",
        ),
        (
            lambda: model_of().token_logprobs(ROWS.repeat(1, 2)),
            "tokens: a row has 16, expected at most 8",
        ),
        (
            lambda: model_of().token_logprobs(ROWS + 1),
            "tokens: expected numbers from 0 to 22",
        ),
        (
            lambda: model_of(experts="none").add_expert("art"),
            "add_expert: expected a model with experts, this one is dense",
        ),
        (
            lambda: model_of().merge({"law": -1.0}),
            "weight law=-1.0: expected a number of at least 0",
        ),
        (
            lambda: model_of().merge({"law": 0.0}),
            "weights: expected one above 0",
        ),
        (
            lambda: model_of().load_expert("law", {}),
            "expert 'law': the tensor 'blocks.0.down_bias' is missing",
        ),
        (
            lambda: model_of().load_shared(model_of().shared_parameters() | {"x": torch.ones(1)}),
            "shared weights: the tensor 'x' is unknown",
        ),
        (
            lambda: model_of().load_expert(
                "law",
                model_of().expert_parameters("law") | {"blocks.1.up_bias": torch.ones(3)},
            ),
            "expert 'law': the tensor 'blocks.1.up_bias' has shape (3,), expected (64,)",
        ),
        (lambda: DEMixLM(CONFIG), "domains: expected one or more names"),
        (lambda: DEMixLM(CONFIG, ["a", "A"]), "domain 'A': there is one of this name"),
        (
            lambda: DEMixLM(TOKENED, ["a"]),
            "domain_tokens: expected with experts none only",
        ),
        (lambda: LMConfig(0, 8, 16, 2, 2), "vocabulary 0: expected at least 1"),
        (lambda: LMConfig(23, 8, 16, 2, 3), "heads 3: expected a divisor of dim 16"),
        (lambda: LMConfig(23, 8, 16, 2, 2, hidden=-1), "hidden -1: expected at least 0"),
        (
            lambda: LMConfig(23, 8, 16, 2, 2, end_of_text=23),
            "end_of_text 23: expected from 0 to 22",
        ),
    ],
)
def test_refusals(action, message):
    assert refusal(action).split("\n") == [message]


def test_an_unknown_kind_of_experts(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    message = "experts 'some': expected ffn, all or none"
    assert refusal(lambda: DEMixLM(CONFIG, NAMES, experts="some")) == message


@pytest.mark.parametrize(
    ("size", "dense", "demix"),
    [("125M", 125, 512), ("1.3B", 1300, 7000)],
)
def test_the_papers_shapes_have_the_papers_sizes(size, dense, demix):
    config = LMConfig(**SIZES[size])
    with torch.device("meta"):
        models = [DEMixLM(config, experts="none"), DEMixLM(config, list("abcdefgh"))]
    millions = [sum(weight.numel() for weight in model.parameters()) / 1e6 for model in models]
    assert millions == pytest.approx([dense, demix], rel=0.05)
