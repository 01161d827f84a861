"""The mixture as one language model: scoring and generating are the same, weights are causal."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from workingpapers.demix.mixture import MixtureLM, Score, as_tokens, windows
from workingpapers.demix.model import DEMixLM, LMConfig
from workingpapers.demix.posterior import DomainPosterior
from workingpapers.foundation.errors import InputError

CONTEXT, VOCABULARY = 6, 13
CONFIG = LMConfig(VOCABULARY, CONTEXT, 16, 2, 2)
NAMES = ("news", "law", "code")
HISTORIES = ("token", "prefix", "filter", "none")
TEXT = torch.randint(1, VOCABULARY, (20,), generator=torch.Generator().manual_seed(3))


def model_of(experts="ffn", *, noise=0.4, domains=NAMES) -> DEMixLM:
    # A seed of weights whose texts seldom end early, so that long ones are found soon.
    torch.manual_seed(29)
    model = DEMixLM(CONFIG, domains, experts=experts)
    with torch.no_grad():
        for weight in model.parameters():
            weight += noise * torch.randn(weight.shape)
    return model.eval()


MODEL = model_of()


def posteriors(experts: int = 3) -> dict[str, DomainPosterior]:
    """Each prior with each history."""
    found = {}
    for history in HISTORIES:
        for name in ("uniform", "updating", "cached", "given"):
            prior = torch.arange(1.0, experts + 1) if name == "given" else name
            one = DomainPosterior(prior, history, switch=0.1)
            if name == "cached":
                one.set_prior(torch.arange(experts, 0.0, -1))
            found[f"{name} {history}"] = one
    return found


EVERY = posteriors()


def refusal(action) -> str:
    with pytest.raises(InputError) as refused:
        action()
    return str(refused.value)


def distributions(tokens: torch.Tensor, model: DEMixLM = MODEL) -> torch.Tensor:
    """Log-probabilities (experts, length, vocabulary) of what stands at each place of one row."""
    row = torch.cat([torch.zeros(1, dtype=torch.int64), tokens[:-1]])[None]
    with torch.no_grad():
        found = [model(row, number)[0].log_softmax(-1) for number in range(len(model.domains))]
    return torch.stack(found).double()


# ---- scoring


@pytest.fixture(scope="module")
def equal() -> DEMixLM:
    """A model whose experts are all the same."""
    model = model_of(noise=0)
    with torch.no_grad():
        for weight in model.decoder.tokens.parameters():
            weight += torch.randn(weight.shape)
    return model


@pytest.fixture(scope="module")
def dense(equal) -> Score:
    """What the dense model that they all are makes of the text."""
    return MixtureLM(equal.merge({"law": 1.0}), posterior=DomainPosterior()).score(TEXT)


@pytest.mark.parametrize("name", EVERY)
def test_equal_experts_are_the_dense_model_under_every_rule(equal, dense, name):
    found = MixtureLM(equal, posterior=EVERY[name]).score(TEXT)
    torch.testing.assert_close(found.logprobs, dense.logprobs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in EVERY if not name.startswith("cached")])
def test_probabilities_of_all_tokens_sum_to_one(name):
    mixture = MixtureLM(MODEL, posterior=EVERY[name])
    for length in (2, CONTEXT + 2):
        endings = [torch.cat([TEXT[:length], torch.tensor([v])]) for v in range(VOCABULARY)]
        total = sum(math.exp(mixture.score(text).logprobs[-1]) for text in endings)
        assert total == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("stride", [None, 2])
def test_a_token_changes_no_weight_up_to_its_own(name, stride):
    mixture = MixtureLM(MODEL, posterior=EVERY[name])
    changed, other = 8, TEXT.clone()
    other[changed] = TEXT[changed] % (VOCABULARY - 1) + 1
    before = mixture.score(TEXT, stride=stride).log_weights
    after = mixture.score(other, stride=stride).log_weights
    assert torch.equal(before[:, : changed + 1], after[:, : changed + 1])
    if not name.endswith("none"):
        assert (before[:, changed + 1] != after[:, changed + 1]).all()


def test_a_row_is_scored_by_the_definition():
    given = distributions(TEXT[:CONTEXT])
    told = given.gather(-1, TEXT[:CONTEXT].expand(3, -1)[..., None])[..., 0]
    # The prior times the likelihood of the previous token; equal weights at first.
    prior = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64) / 6
    weights = [torch.full((3,), 1 / 3, dtype=torch.float64)]
    for t in range(1, CONTEXT):
        shares = prior * told[:, t - 1].exp()
        weights.append(shares / shares.sum())
    wanted = torch.stack(weights, 1)
    score = MixtureLM(MODEL, posterior=EVERY["given token"]).score(TEXT[:CONTEXT])
    torch.testing.assert_close(score.log_weights.exp(), wanted, rtol=1e-5, atol=1e-6)
    probabilities = (wanted * told.exp()).sum(0)
    torch.testing.assert_close(score.logprobs, probabilities.log(), rtol=1e-5, atol=1e-6)
    assert score.perplexity == pytest.approx(
        float(probabilities.log().mean().neg().exp()), rel=1e-5
    )
    assert score.experts == NAMES
    assert score.bits_per_byte is None


def test_an_updating_prior_moves_on_after_each_row():
    """As pandas' ewm(alpha=.3, adjust=False) of the weights at the ends of rows."""
    score = MixtureLM(MODEL, posterior=DomainPosterior("updating")).score(TEXT)
    prior = np.full(3, 1 / 3)
    for number, start in enumerate(range(0, len(TEXT), CONTEXT)):
        row, previous = TEXT[start : start + CONTEXT][None], TEXT[[start - 1]]
        if start == 0:
            previous = torch.zeros(1, dtype=torch.int64)
        told = MODEL.token_logprobs(row, previous=previous)[:, 0].double().numpy()
        weights = prior * np.exp(told[:, -2])
        weights /= weights.sum()
        end = min(start + CONTEXT, len(TEXT)) - 1
        np.testing.assert_allclose(score.log_weights[:, end].exp(), weights, rtol=1e-6)
        prior = weights if number == 0 else 0.3 * weights + 0.7 * prior
    np.testing.assert_allclose(score.prior, prior, rtol=1e-6)


def test_an_estimate_is_what_an_updating_prior_comes_to():
    mixture = MixtureLM(MODEL, posterior=DomainPosterior("cached", "filter", switch=0.2))
    assert refusal(lambda: mixture.score(TEXT)) == (
        "prior 'cached': expected an estimate first, from text of the domain"
    )
    updating = DomainPosterior("updating", "filter", switch=0.2)
    wanted = MixtureLM(MODEL, posterior=updating).score(TEXT[: 2 * CONTEXT]).prior
    found = mixture.estimate(TEXT, rows=2)
    torch.testing.assert_close(found, wanted)
    mixture.posterior.set_prior(found)
    torch.testing.assert_close(mixture.score(TEXT).prior, found)


@pytest.mark.parametrize("length", [1, 5, 6, 7, 12, 13, 20])
@pytest.mark.parametrize("stride", [1, 2, 5, 6])
def test_every_token_is_scored_once_in_the_first_row_that_holds_it(length, stride):
    rows = windows(length, CONTEXT, stride)
    scored = [t for _, first, end in rows for t in range(first, end)]
    assert scored == list(range(length))
    assert all(end - start <= CONTEXT and start <= first < end for start, first, end in rows)
    mixture = MixtureLM(MODEL, posterior=EVERY["uniform none"])
    found = mixture.score(TEXT[:length], stride=stride)
    for start, first, end in rows:
        previous = TEXT[[start - 1]] if start else torch.zeros(1, dtype=torch.int64)
        told = MODEL.token_logprobs(TEXT[None, start:end], previous=previous)[:, 0]
        wanted = (told.double().logsumexp(0) - math.log(3))[first - start :]
        torch.testing.assert_close(found.logprobs[first:end], wanted, rtol=1e-5, atol=1e-5)


def test_nothing_is_remembered_between_calls():
    mixture = MixtureLM(MODEL, posterior=DomainPosterior("updating"))
    first, second = mixture.score(TEXT), mixture.score(TEXT)
    assert torch.equal(first.logprobs, second.logprobs)
    assert mixture.perplexity(TEXT.numpy().astype(np.uint16)) == first.perplexity
    assert mixture.perplexity(TEXT.tolist()) == first.perplexity


def test_some_experts_mix_as_if_the_others_were_gone():
    left = model_of()
    left.remove_expert("law")
    some = MixtureLM(MODEL, experts=["news", "code"])
    assert some.experts == ("news", "code")
    found, wanted = some.score(TEXT), MixtureLM(left).score(TEXT)
    torch.testing.assert_close(found.logprobs, wanted.logprobs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("history", HISTORIES)
@pytest.mark.parametrize("top_k", [1, 2])
def test_the_heaviest_experts_alone_and_how_far_they_are_from_all(history, top_k):
    text = TEXT[:CONTEXT]
    prior = torch.tensor([0.5, 0.2, 0.3])
    score = MixtureLM(MODEL, posterior=DomainPosterior(prior, history), top_k=top_k).score(text)
    given = distributions(text)
    told = given.gather(-1, text.expand(3, -1)[..., None])[..., 0]
    weights = DomainPosterior(prior, history).weights(told[:, None])[:, 0]
    kept = sorted(weights.exp().mean(1).argsort(descending=True)[:top_k].tolist())
    fewer = DomainPosterior(prior[kept], history).weights(told[kept][:, None])[:, 0]
    full = (weights[..., None] + given).logsumexp(0)
    reduced = (fewer[..., None] + given[kept]).logsumexp(0)
    divergence = float((full.exp() * (full - reduced)).sum(-1).mean())
    assert score.divergence == pytest.approx(divergence, rel=1e-3, abs=1e-6)
    assert score.divergence >= 0
    # All read the first row, and only the heaviest what follows.
    long = torch.cat([text, text.flip(0)])
    score = MixtureLM(MODEL, posterior=DomainPosterior(prior, history), top_k=top_k).score(long)
    alone = DomainPosterior(prior[kept], history)
    rest = MixtureLM(MODEL, posterior=alone, experts=kept).score(long)
    every = MixtureLM(MODEL, posterior=DomainPosterior(prior, history)).score(long)
    torch.testing.assert_close(score.logprobs[:CONTEXT], every.logprobs[:CONTEXT])
    torch.testing.assert_close(score.logprobs[CONTEXT:], rest.logprobs[CONTEXT:])
    torch.testing.assert_close(score.log_weights[:, :CONTEXT], every.log_weights[:, :CONTEXT])
    left_out = [number for number in range(3) if number not in kept]
    assert (score.log_weights[left_out, CONTEXT:] == -math.inf).all()
    torch.testing.assert_close(score.log_weights[kept, CONTEXT:], rest.log_weights[:, CONTEXT:])


def test_all_experts_are_no_selection():
    mixture = MixtureLM(MODEL, top_k=3)
    assert mixture.score(TEXT).divergence is None
    assert torch.equal(mixture.score(TEXT).logprobs, MixtureLM(MODEL).score(TEXT).logprobs)


# ---- generating


def written(mixture: MixtureLM, prompt: torch.Tensor, count: int, **options):
    """Steps of the first seed whose text is `count` tokens long."""
    for seed in range(100):
        steps = list(mixture.generate_tokens(prompt, max_tokens=count, seed=seed, **options))
        if len(steps) == count:
            return steps
    raise AssertionError("every text ended early")


@pytest.mark.parametrize("name", EVERY)
def test_what_generating_thinks_of_a_token_is_its_score(name):
    mixture = MixtureLM(MODEL, posterior=EVERY[name])
    for prompt, stride in ((TEXT[:3], 2), (TEXT[:0], CONTEXT)):
        steps = written(mixture, prompt, CONTEXT + 5, stride=stride)
        text = torch.cat([prompt, torch.tensor([step.token for step in steps])])
        score = mixture.score(text, stride=stride)
        found = torch.tensor([step.logprob for step in steps], dtype=torch.float64)
        torch.testing.assert_close(found, score.logprobs[len(prompt) :], rtol=0, atol=1e-5)
        weights = torch.stack([step.log_weights for step in steps], 1)
        torch.testing.assert_close(weights, score.log_weights[:, len(prompt) :], rtol=0, atol=1e-5)


@pytest.mark.parametrize("experts", ["all", "none"])
def test_it_is_so_for_whole_models_as_experts_and_for_a_dense_one(experts):
    mixture = MixtureLM(model_of(experts), posterior=DomainPosterior("uniform", "filter"))
    steps = written(mixture, TEXT[:2], 2 * CONTEXT)
    text = torch.cat([TEXT[:2], torch.tensor([step.token for step in steps])])
    score = mixture.score(text, stride=CONTEXT // 2)
    found = torch.tensor([step.logprob for step in steps], dtype=torch.float64)
    torch.testing.assert_close(found, score.logprobs[2:], rtol=0, atol=1e-5)


def test_a_seed_writes_the_same_text_again_and_another_another():
    mixture = MixtureLM(MODEL)

    def text(**options) -> list[int]:
        return [step.token for step in mixture.generate_tokens([1], max_tokens=15, **options)]

    assert text(seed=1) == text(seed=1)
    assert len({tuple(text(seed=seed)) for seed in range(5)}) > 1
    assert text(temperature=0.0, seed=1) == text(temperature=0.0, seed=2)


def test_temperature_zero_takes_the_likeliest_and_a_nucleus_no_unlikely_one():
    mixture = MixtureLM(MODEL, posterior=EVERY["uniform filter"])
    text = TEXT[:3]
    endings = [torch.cat([text, torch.tensor([v])]) for v in range(VOCABULARY)]
    probabilities = torch.tensor([mixture.score(one).logprobs[-1] for one in endings]).exp()
    (step,) = mixture.generate_tokens(text, max_tokens=1, temperature=0.0)
    assert step.token == int(probabilities.argmax())
    order = probabilities.argsort(descending=True)
    needed = int((probabilities[order].cumsum(0) < 0.6).sum()) + 1
    drawn = {
        next(mixture.generate_tokens(text, max_tokens=1, top_p=0.6, seed=seed)).token
        for seed in range(60)
    }
    assert drawn <= set(order[:needed].tolist())
    assert len(drawn) > 1


def test_generating_with_the_heaviest_experts():
    steps = list(MixtureLM(MODEL, top_k=2).generate_tokens(TEXT[:4], max_tokens=3, seed=3))
    kept = steps[0].experts
    assert len(kept) == 2
    heaviest = MixtureLM(MODEL).score(TEXT[:5]).log_weights[:, 4].topk(2).indices
    assert set(kept) == {NAMES[number] for number in heaviest.tolist()}
    text = torch.cat([TEXT[:4], torch.tensor([step.token for step in steps])])
    score = MixtureLM(MODEL, experts=list(kept)).score(text[:CONTEXT])
    assert steps[0].logprob == pytest.approx(float(score.logprobs[4]), abs=1e-5)


# ---- text


class Reciter:
    """Two experts that agree: after the end of a text they recite a script, and then end."""

    domains = ("first", "second")
    context, end_of_text = 64, 0

    def __init__(self, script: Sequence[int], vocabulary: int) -> None:
        self.script, self.vocabulary, self.held = [*script, 0], vocabulary, 0

    def token_logprobs(self, tokens, experts=None, *, previous=None):
        raise AssertionError("nothing is scored")

    def reader(self, experts=None):
        return Reciter(self.script[:-1], self.vocabulary)

    def read(self, tokens):
        found = torch.full((2, len(tokens), self.vocabulary), -1e4)
        for place in range(len(tokens)):
            found[:, place, self.script[self.held + place]] = 0.0
        self.held += len(tokens)
        return found

    def not_needed(self, *arguments, **options):
        raise AssertionError("no expert comes or goes")

    add_expert = remove_expert = rename_expert = not_needed
    expert_parameters = shared_parameters = merge = not_needed


def tokenizer_of(*pieces: str) -> Tokenizer:
    """The end of a text, bytes, and longer pieces."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<|endoftext|>": 0} | {sign: n for n, sign in enumerate(alphabet, start=1)}
    merges: list[tuple[str, str]] = []
    for piece in pieces:
        for size in range(2, len(piece) + 1):
            if piece[:size] not in vocabulary:
                vocabulary[piece[:size]] = len(vocabulary)
                merges.append((piece[: size - 1], piece[size - 1]))
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>"])
    return tokenizer


TOKENIZER = tokenizer_of("the", "sto", "pper")


@pytest.mark.parametrize(
    ("text", "stop", "wanted"),
    [
        ("the end", None, "the end"),
        ("to be, or not", "or", "to be, "),
        ("the stopper", "stop", "the "),
        ("the stopper", "topp", "the s"),
        ("ststop!", "stop", "st"),
        ("a st and sto, no more", "stop", "a st and sto, no more"),
        ("sto", "stop", "sto"),
        ("stop", "stop", ""),
        ("naïve – 日本語 🙂 ok", "k", "naïve – 日本語 🙂 o"),
        ("日本語", "本", "日"),
    ],
)
def test_a_streamed_text_is_the_decoded_one_up_to_the_stop(text, stop, wanted):
    script = TOKENIZER.encode(text).ids
    mixture = MixtureLM(Reciter(script, TOKENIZER.get_vocab_size()), TOKENIZER)
    pieces = list(mixture.generate(stop=stop))
    assert "".join(pieces) == wanted
    assert all(pieces)
    if stop is None:
        assert len(pieces) == len(script)


def test_what_a_model_writes_is_what_its_tokens_say():
    config = LMConfig(TOKENIZER.get_vocab_size(), 8, 16, 1, 2)
    torch.manual_seed(0)
    mixture = MixtureLM(DEMixLM(config, NAMES).eval(), TOKENIZER)
    ids = TOKENIZER.encode("the ").ids
    steps = mixture.generate_tokens(ids, max_tokens=30, seed=5, temperature=0.01, top_p=0.9)
    whole = TOKENIZER.decode([step.token for step in steps])
    options = {"max_tokens": 30, "seed": 5, "temperature": 0.01, "top_p": 0.9}
    text = "".join(mixture.generate("the ", **options))
    # Bytes that begin no character yet are held back at the end.
    assert whole.rstrip("�") == text.rstrip("�")
    stop = text[3:5]
    cut = "".join(mixture.generate("the ", stop=stop, **options))
    assert cut == text.partition(stop)[0]


def test_bits_are_counted_a_byte_of_the_text():
    config = LMConfig(TOKENIZER.get_vocab_size(), 8, 16, 1, 2)
    torch.manual_seed(0)
    mixture = MixtureLM(DEMixLM(config, NAMES).eval(), TOKENIZER)
    text = "the naïve"
    score = mixture.score(text)
    assert score.tokens.tolist() == TOKENIZER.encode(text).ids
    assert score.bytes == 10
    assert score.bits_per_byte == pytest.approx(
        -float(score.logprobs.sum()) / math.log(2) / 10, rel=1e-9
    )


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (lambda: MixtureLM(MODEL, top_k=4), "top_k 4: expected from 1 to 3"),
        (lambda: MixtureLM(MODEL, top_k=0), "top_k 0: expected from 1 to 3"),
        (
            lambda: MixtureLM(MODEL, experts=["sea"]),
            "domain 'sea': expected one of news, law, code",
        ),
        (
            lambda: MixtureLM(MODEL).score("text"),
            "tokenizer: expected one, to read text",
        ),
        (
            lambda: MixtureLM(MODEL, TOKENIZER).score(""),
            "text: expected at least one token, it is empty",
        ),
        (
            lambda: MixtureLM(MODEL).score([]),
            "tokens: expected a row of at least 1, got (0,)",
        ),
        (
            lambda: as_tokens(np.zeros((2, 2), np.uint16)),
            "tokens: expected a row of at least 1, got (2, 2)",
        ),
        (
            lambda: MixtureLM(MODEL).score([1, VOCABULARY]),
            "tokens: expected numbers from 0 to 12",
        ),
        (
            lambda: MixtureLM(MODEL).score(TEXT, stride=7),
            "stride 7: expected from 1 to 6",
        ),
        (
            lambda: list(MixtureLM(MODEL).generate_tokens([1], stride=0)),
            "stride 0: expected from 1 to 6",
        ),
        (
            lambda: list(MixtureLM(MODEL).generate_tokens([1], max_tokens=0)),
            "max_tokens 0: expected at least 1",
        ),
        (
            lambda: list(MixtureLM(MODEL).generate_tokens([1], temperature=-1.0)),
            "temperature -1.0: expected a number of at least 0",
        ),
        (
            lambda: list(MixtureLM(MODEL).generate_tokens([1], top_p=0.0)),
            "top_p 0.0: expected more than 0 and at most 1",
        ),
        (
            lambda: list(MixtureLM(MODEL).generate("a")),
            "tokenizer: expected one, to write text",
        ),
        (
            lambda: list(MixtureLM(MODEL, TOKENIZER).generate("a", stop="")),
            "stop: expected at least one character",
        ),
        (
            lambda: MixtureLM(MODEL, posterior=DomainPosterior(torch.ones(2))).score(TEXT),
            "prior: has weights of 2 experts, the mixture has 3",
        ),
    ],
)
def test_refusals(action, message):
    assert refusal(action) == message
