"""From a task to a trained run: batches, training, resuming, scores, and what a folder holds."""

import json
import zlib
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from workingpapers.adamra.classify import (
    Batches,
    Training,
    classification_loss,
    encode_text,
    evaluate,
    make_run,
    model_card,
    picture_of,
    pieces,
    predict,
    read_labelled,
    read_sequences,
    resolutions,
    settings_of,
    train,
)
from workingpapers.adamra.encoder import AdaMRAEncoder, EncoderConfig
from workingpapers.adamra.protocols import PROTOCOLS, protocol_for
from workingpapers.adamra.runs import RUNS, RunConfig, load_run
from workingpapers.adamra.tasks import TASKS, Examples
from workingpapers.foundation.errors import InputError
from workingpapers.foundation.training import DivergedError


def run_of(task: str = "digits-256", **changes: Any) -> RunConfig:
    """A run of a few steps of a tiny model."""
    training = {"steps": 6, **changes.pop("training", {})}
    encoder = {"dim": 8, "depth": 2, "heads": 2, "feed_forward": 8, **changes.pop("encoder", {})}
    made = make_run(task, training=training, encoder=encoder, batch=4, examples=24, **changes)
    return replace(made, validation_examples=12, test_examples=12)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A trained run."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    train(run_of(), folder)
    return folder


@pytest.fixture
def reviews(tmp_path) -> Path:
    """A table of texts in two classes."""
    words = {"good": ("bright", "warm", "kind"), "bad": ("dull", "cold", "mean")}
    lines = ["text,label"]
    for row in range(40):
        label = ("good", "bad")[row % 2]
        found = words[label]
        lines.append(f"film {row} was {found[row % 3]} {found[row // 3 % 3]},{label}")
    path = tmp_path / "reviews.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


# ---- batches


def examples(count: int, length: int = 3) -> Examples:
    tokens = np.arange(1, count + 1, dtype=np.uint16)[:, None].repeat(length, axis=1)
    return Examples(tokens, np.arange(count))


@settings(max_examples=20)
@given(st.integers(1, 9), st.integers(1, 12), st.integers(0, 3))
def test_every_epoch_holds_every_example_once(count, batch, seed):
    batches = Batches(examples(count), batch, seed)
    epochs = 3
    needed = -(-epochs * count // batch)
    rows = np.concatenate([batches.rows(index) for index in range(needed)])[: epochs * count]
    for epoch in rows.reshape(epochs, count):
        assert sorted(epoch) == list(range(count))


def test_a_batch_depends_on_its_number_alone():
    forwards = Batches(examples(10), 4, 1)
    backwards = Batches(examples(10), 4, 1)
    expected = [forwards.rows(index).tolist() for index in range(9)]
    assert [backwards.rows(index).tolist() for index in reversed(range(9))] == expected[::-1]
    tokens, labels = backwards(7)
    assert tokens.dtype == torch.int64
    assert tokens[:, 0].tolist() == [label + 1 for label in labels.tolist()]
    assert Batches(examples(10), 4, 2).rows(0).tolist() != expected[0]


def test_tokens_are_counted_without_padding():
    tokens = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 1]], np.uint8)
    batches = Batches(Examples(tokens, np.zeros(3, np.int64)), 2, 0)
    sizes = np.array([2, 1, 3])
    read = [sizes[batches.rows(index)].sum() for index in range(5)]
    assert [batches.tokens_before(index) for index in range(6)] == [0, *np.cumsum(read)]


# ---- protocols


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("task", sorted(set(TASKS) - {"cifar10"}))
def test_every_task_has_settings_that_make_a_run(task, protocol):
    run = make_run(task, protocol=protocol)
    known = protocol_for(task, protocol)
    assert run.training.steps == known.steps
    assert run.batch == known.batch
    assert run.train_examples == known.train
    assert run.encoder.dim == known.dim
    assert run.encoder.length == (known.length or run.encoder.length)


def test_published_settings_are_the_published_ones():
    compact, lra = PROTOCOLS["compact"], PROTOCOLS["lra"]
    sizes = {(p.depth, p.dim, p.heads, p.feed_forward) for p in compact.values()}
    assert sizes == {(2, 64, 2, 128)}
    assert {name: (p.batch, p.steps, p.warmup) for name, p in compact.items()} == {
        "listops": (32, 5_000, 1_000),
        "text": (32, 20_000, 8_000),
        "retrieval": (32, 30_000, 800),
        "image": (256, 35_000, 175),
        "pathfinder": (256, 62_400, 312),
    }
    assert {name: (p.depth, p.dim, p.heads, p.feed_forward) for name, p in lra.items()} == {
        "listops": (4, 512, 8, 1024),
        "text": (4, 256, 4, 1024),
        "retrieval": (4, 128, 4, 512),
        "image": (1, 128, 8, 128),
        "pathfinder": (4, 32, 4, 32),
    }
    assert {(p.schedule, p.learning_rate, p.dropout, p.pooling, p.weight_decay)
            for p in compact.values()} == {("linear", 1e-4, 0.1, "mean", 0.0)}  # fmt: skip
    assert {name: (p.batch, p.steps, p.warmup, p.schedule, p.learning_rate, p.pooling)
            for name, p in lra.items()} == {
        "listops": (32, 5_000, 1_000, "rsqrt", 0.05, "cls"),
        "text": (32, 20_000, 8_000, "rsqrt", 0.05, "cls"),
        "retrieval": (32, 5_000, 8_000, "rsqrt", 0.05, "cls"),
        "image": (256, 35_000, 175, "cosine", 5e-4, "cls"),
        "pathfinder": (512, 62_400, 312, "cosine", 1e-3, "mean"),
    }  # fmt: skip
    assert [lra[name].weight_decay for name in ("listops", "text", "retrieval")] == [0.1] * 3
    assert {name: (p.train, p.validation, p.test) for name, p in compact.items()} == {
        "listops": (96_000, 2_000, 2_000),
        "text": (25_000, 25_000, 25_000),
        "retrieval": (147_086, 18_090, 17_437),
        "image": (45_000, 5_000, 10_000),
        "pathfinder": (160_000, 20_000, 20_000),
    }
    assert {compact[name].length for name in ("text", "retrieval")} == {4000}
    assert make_run("listops", protocol="lra").training.schedule == "rsqrt"
    with pytest.raises(InputError, match="protocol 'paper': expected compact, lra, laptop"):
        protocol_for("listops", "paper")


def test_a_shorter_run_warms_up_for_the_same_share():
    short = make_run("digits-256", training={"steps": 50}).training
    assert (short.warmup, short.evaluate_every, short.save_every) == (5, 5, 5)
    assert make_run("digits-256").training.warmup == 100
    coarse = make_run("digits-256", encoder={"attention": "adamra-coarse"})
    assert (coarse.encoder.attention, coarse.encoder.rates) == ("adamra", (4, 16, 32))


# ---- training


def weights(model: torch.nn.Module) -> list[torch.Tensor]:
    return [parameter.detach() for parameter in model.parameters()]


def test_an_interrupted_run_ends_with_the_weights_of_an_uninterrupted_one(tmp_path):
    run = run_of(training={"save_every": 2, "evaluate_every": 2}, encoder={"dropout": 0.2})
    whole = Training(run).fit(tmp_path / "whole")

    def stop(steps: int) -> None:
        stop.left -= steps
        if stop.left == 0:
            raise KeyboardInterrupt

    stop.left = 5
    folder = tmp_path / "cut"
    with pytest.raises(KeyboardInterrupt):
        Training(run).fit(folder, progress=stop)
    assert RUNS.finished_steps(folder) == 4
    with pytest.raises(InputError) as unfinished:
        load_run(folder)
    assert str(unfinished.value) == (
        f"{folder}: the run is unfinished (step 4 of 6); workingpapers adamra train --resume "
        f"{folder} goes on with it"
    )
    resumed = Training(RUNS.read(folder)).fit(folder)
    assert resumed.history.resumed_from == 4
    for one, other in zip(weights(whole.model), weights(resumed.model), strict=True):
        assert torch.equal(one, other)
    _, loaded = load_run(folder)
    for one, other in zip(weights(whole.model), weights(loaded), strict=True):
        assert torch.equal(one, other)
    assert (tmp_path / "whole" / "README.md").read_text() == (folder / "README.md").read_text()
    assert whole.tokens == resumed.tokens == 6 * 4 * 256


def test_training_is_that_of_a_plain_loop():
    run = run_of(training={"steps": 2, "schedule": "constant", "warmup": 0})
    run = replace(run, training=replace(run.training, clip=None))
    trained = Training(run).fit()
    plain = Training(run)
    optimizer = torch.optim.AdamW(
        plain.model.parameters(), lr=run.training.learning_rate, weight_decay=0.0
    )
    for index in range(2):
        loss, _ = classification_loss(plain.model, plain.batches(index))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for one, other in zip(weights(trained.model), weights(plain.model), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_another_seed_gives_other_weights_and_the_same_held_out_data():
    one, other = Training(run_of()), Training(run_of(training={"seed": 1}))
    assert not torch.equal(weights(one.model)[0], weights(other.model)[0])
    assert not np.array_equal(one.examples.tokens, other.examples.tokens)
    assert np.array_equal(one.validation.tokens, other.validation.tokens)


def test_a_time_budget_becomes_steps_that_the_folder_remembers(tmp_path):
    training = Training(run_of(training={"seconds": 0.5, "steps": None}))
    estimate = training.settle(repeats=1)
    settled = training.run.training
    assert settled.seconds is None
    assert settled.steps == estimate.steps >= 1
    assert settled.evaluate_every is not None
    training.run = replace(training.run, training=replace(settled, steps=2, evaluate_every=2))
    training.fit(tmp_path / "run")
    assert RUNS.read(tmp_path / "run").training.steps == 2


def test_a_configuration_is_read_as_it_was_written(tmp_path, reviews):
    run = run_of(
        str(reviews), length=32, label="label", processes=2,
        encoder={"rates": (2, 6), "routing": "soft", "pooling": "cls", "dropout": 0.25},
        training={"seed": 3, "patience": 2, "accumulate": 2, "learning_rate": 1 / 3},
    )  # fmt: skip
    (tmp_path / "run.json").write_text(json.dumps(asdict(run)))
    assert RUNS.read(tmp_path) == run
    assert RUNS.read(tmp_path).encoder.rates == (2, 6)


def test_a_folder_keeps_one_run(finished):
    with pytest.raises(InputError, match=r"run\.json: the folder holds a run of other settings"):
        train(run_of(training={"seed": 5}), finished)
    assert not train(RUNS.read(finished), finished).log[6:]


def test_patience_keeps_the_best_weights(tmp_path):
    run = run_of(training={"evaluate_every": 1, "patience": 2, "learning_rate": 3.0, "steps": 6})
    trained = Training(run).fit(tmp_path / "run")
    best = max(row["accuracy"] for row in trained.history.evaluations)
    assert trained.scores["accuracy"] == best
    _, model = load_run(tmp_path / "run")
    assert evaluate(model, Training(run).validation)["accuracy"] == pytest.approx(best)


def test_the_number_of_processes_belongs_to_the_run():
    with pytest.raises(InputError, match=r"expected 2 processes in all, .* found 1"):
        Training(run_of(processes=2)).fit()


# ---- scores


def encoder(**changes: Any) -> AdaMRAEncoder:
    torch.manual_seed(0)
    fields = {"vocabulary": 9, "classes": 3, "length": 40, "dim": 8, "feed_forward": 8}
    return AdaMRAEncoder(EncoderConfig(**fields | changes)).eval()


def ragged(count: int = 7, length: int = 40) -> Examples:
    rng = np.random.default_rng(0)
    tokens = rng.integers(1, 9, (count, length)).astype(np.uint8)
    for row, size in zip(tokens, rng.integers(5, length + 1, count), strict=True):
        row[size:] = 0
    return Examples(tokens, rng.integers(0, 3, count))


@pytest.mark.parametrize("changes", [{}, {"pooling": "cls"}, {"attention": "sdpa"}])
def test_scores_do_not_depend_on_how_sequences_are_batched(changes):
    model, found = encoder(**changes), ragged()
    alone = [predict(model, found.tokens[row : row + 1])[0] for row in range(len(found))]
    together = predict(model, found.tokens, batch=3)
    assert together == pytest.approx(np.array(alone), abs=1e-5)
    assert together.sum(1) == pytest.approx(np.ones(len(found)), abs=1e-5)
    scores = evaluate(model, found, batch=3)
    assert scores["accuracy"] == pytest.approx(np.mean(together.argmax(1) == found.labels))
    right = together[np.arange(len(found)), found.labels]
    assert scores["loss"] == pytest.approx(-np.log(right).mean(), abs=1e-5)


def test_evaluation_against_a_model_whose_scores_are_known():
    class Counts(torch.nn.Module):
        """Scores a sequence by how many of its tokens are 1 and 2."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(()))

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            counts = [(tokens == one).sum(1) for one in (1, 2)]
            return self.weight * torch.stack(counts, dim=1).float()

    tokens = np.array([[1, 1, 2], [2, 0, 0], [1, 2, 2], [1, 1, 1]], np.uint8)
    found = evaluate(Counts(), Examples(tokens, np.array([0, 0, 1, 0])), batch=3)
    # Margins of the right class: 1, -1, 1 and 3; so the loss is the mean of log(1 + exp(-margin)).
    assert set(found) == {"accuracy", "loss"}
    assert found["accuracy"] == 0.75
    expected = np.log1p(np.exp([-1.0, 1.0, -1.0, -3.0])).mean()
    assert found["loss"] == pytest.approx(expected, abs=1e-6)
    probabilities = predict(Counts(), tokens, batch=2)
    second = 1 / (1 + np.exp([1.0, -1.0, -1.0, 3.0]))
    assert probabilities == pytest.approx(np.stack([1 - second, second], 1), abs=1e-6)


@pytest.mark.parametrize("changes", [{}, {"per_head_routing": True}, {"pooling": "cls"}])
def test_shares_are_those_of_all_real_tokens(changes):
    model, found = encoder(**changes), ragged()
    whole, parts = evaluate(model, found, batch=7), evaluate(model, found, batch=2)
    for name, value in whole.items():
        assert parts[name] == pytest.approx(value, abs=1e-5), name
    for layer in (1, 2):
        shares = [whole[f"layer{layer}_rate{rate}"] for rate in (1, 4, 16)]
        assert sum(shares) == pytest.approx(1)
    if not changes:
        chosen = [resolutions(model, row)[0] for row in found.tokens]
        counts = np.bincount(np.concatenate(chosen), minlength=3)
        expected = counts / np.count_nonzero(found.tokens)
        shares = [whole[f"layer1_rate{rate}"] for rate in (1, 4, 16)]
        assert shares == pytest.approx(expected, abs=1e-6)


def test_resolutions_have_one_choice_a_real_token():
    row = ragged().tokens[0]
    real = np.count_nonzero(row)
    for changes in ({}, {"pooling": "cls"}, {"per_head_routing": True}):
        choices = resolutions(encoder(**changes), row)
        assert choices.shape == (2, real)
        assert set(np.unique(choices)) <= {0, 1, 2}
    with pytest.raises(InputError, match="attention sdpa: it has no resolutions to choose from"):
        resolutions(encoder(attention="sdpa"), row)
    with pytest.raises(InputError, match="routing off: its tokens do not choose a resolution"):
        resolutions(encoder(routing="off"), row)


def test_the_loss_is_the_mean_cross_entropy():
    model, found = encoder(dropout=0.0), ragged()
    tokens, labels = Batches(found, 7, 0)(0)
    loss, logged = classification_loss(model, (tokens, labels))
    probabilities = model(tokens).softmax(1)
    expected = -torch.log(probabilities[torch.arange(7), labels]).mean()
    assert torch.allclose(loss, expected, atol=1e-6)
    assert logged == {"accuracy": float((probabilities.argmax(1) == labels).float().mean())}


# ---- the folder of a run, and a user's files


def test_a_run_s_folder_has_what_is_promised(finished):
    names = {path.name for path in finished.iterdir()} - {"tensorboard"}
    assert names == {
        "run.json", "log.csv", "evaluations.csv", "training_state", "model", "README.md",
    }  # fmt: skip
    run, _ = load_run(finished)
    assert run == run_of()
    card = (finished / "README.md").read_text()
    assert "licence: CC BY 4.0" in card
    assert "tokens seen in training: 6,144" in card
    assert "| majority class | 0." in card
    assert "| bag of tokens | 0." in card
    assert "rates 1, 4, 16, routing top1" in card
    assert "| layer | rate 1 | rate 4 | rate 16 | entropy, nats |" in card
    assert set(settings_of(run)) == {
        "attention", "encoder", "longest sequence", "optimiser", "batch", "seed",
    }  # fmt: skip


def test_a_card_of_another_attention_tells_no_routing(tmp_path):
    training = Training(run_of(encoder={"attention": "sdpa"}, training={"steps": 1}))
    card = model_card(training.run, training.task, training.fit())
    assert "with the attention sdpa" in card
    assert "Routing" not in card


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("[]", "not the configuration of a run"),
        ("{", "not the configuration of a run"),
        ('{"encoder": {}}', "not the configuration of a run"),
        ("[" * 100_000, "not the configuration of a run"),
    ],
)
def test_a_broken_run_is_named(tmp_path, content, complaint):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(InputError, match=complaint) as broken:
        RUNS.read(tmp_path)
    assert str(broken.value).startswith(f"{tmp_path / 'run.json'}: ")
    with pytest.raises(InputError, match=r"expected the folder of a run, .* found nothing"):
        RUNS.read(tmp_path / "gone")


def test_unknown_fields_and_impossible_values_are_refused(finished, tmp_path):
    content = json.loads((finished / "run.json").read_text())
    encoder, training = content["encoder"], content["training"]
    for change, reason in (
        ({"batch": 0}, "batch 0: expected at least 1"),
        ({"colour": "red"}, "colour: unknown field"),
        ({"encoder": encoder | {"dim": 7}}, "heads 2: expected a divisor of dim 7"),
        ({"encoder": encoder | {"dim": "8"}}, "encoder.dim: expected int, found '8'"),
        ({"encoder": encoder | {"classes": 9}}, "encoder.classes 9: expected 10, the number of"),
        ({"training": training | {"betas": [0.9]}}, "training.betas: expected tuple"),
        ({"training": training | {"seed": 2**31}}, "seed 2147483648: expected at most 2147483647"),
    ):
        (tmp_path / "run.json").write_text(json.dumps(content | change))
        with pytest.raises(InputError) as refused:
            RUNS.read(tmp_path)
        assert str(refused.value).startswith(
            f"{tmp_path / 'run.json'}: not the configuration of a run ({reason}"
        )


def test_a_run_goes_on_with_the_examples_it_was_begun_with(reviews, tmp_path):
    folder = tmp_path / "run"
    train(run_of(str(reviews), training={"steps": 1}), folder)
    begun = RUNS.read(folder)
    assert len(begun.examples_sha256) == 64
    text = reviews.read_text()
    reviews.write_text(text.replace("film 1 ", "film x "))
    with pytest.raises(InputError) as changed:
        Training(begun)
    assert str(changed.value) == (
        f"{reviews}: the examples are not those that the run was begun with; expected the same, or "
        "a new run"
    )
    # Nor from a configuration that does not know them.
    with pytest.raises(InputError, match="the examples are not those that the run was begun with"):
        train(run_of(str(reviews), training={"steps": 1}), folder)
    reviews.write_text(text)
    assert train(begun, folder).resumed_from == 1


def test_a_model_that_was_lost_is_written_again(tmp_path):
    folder = tmp_path / "run"
    train(run_of(training={"steps": 1}), folder)
    (folder / "model" / "config.json").unlink()
    with pytest.raises(InputError) as lost:
        load_run(folder)
    assert str(lost.value) == (
        f"{folder / 'model' / 'config.json'}: the file is missing; workingpapers adamra train "
        f"--resume {folder} writes the model again"
    )
    train(RUNS.read(folder), folder)
    assert load_run(folder)[0] == run_of(training={"steps": 1})
    encoder(length=256, vocabulary=18).save_pretrained(folder / "model", overwrite=True)
    with pytest.raises(InputError, match=r"model/config\.json: expected the encoder of run\.json"):
        load_run(folder)


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    run = run_of(training={"steps": 1, "learning_rate": 1e38, "warmup": 0})
    with pytest.raises(DivergedError, match="the loss on validation data is nan; try a smaller"):
        train(run, tmp_path / "run")
    assert not (tmp_path / "run" / "model").exists()


def test_sequences_cut_to_nothing_are_refused(tmp_path):
    path = tmp_path / "signs.csv"
    path.write_text("text,label\n" + "".join(f"\u4e2d{n},{'ab'[n % 2]}\n" for n in range(40)))
    with pytest.raises(InputError, match=r"--length 2: expected more, it cuts all sequences of"):
        Training(run_of(str(path), length=2))
    empty = Examples(np.zeros((1, 4), np.uint8), np.zeros(1, np.int64))
    with pytest.raises(InputError, match="examples: expected at least one, with at least one"):
        evaluate(encoder(), empty)


def test_own_texts_are_read_by_column_and_class(reviews, tmp_path):
    run = run_of(str(reviews))
    assert run.classes == ("bad", "good")
    assert run.kind == "bytes"
    found = read_labelled(run, reviews)
    assert len(found) == 40
    assert found.labels.tolist()[:2] == [1, 0]
    names, tokens = read_sequences(run, reviews)
    assert names[0] == f"{reviews}: line 2"
    assert np.array_equal(tokens, found.tokens)
    assert "".join(pieces(run, tokens[0])).startswith("film 0 was")
    other = tmp_path / "other.csv"
    other.write_text("text,label\nnice,fine\n")
    with pytest.raises(InputError) as wrong:
        read_labelled(run, other)
    assert str(wrong.value) == (
        f"{other}: line 2: expected one of the run's classes, bad, good; found the class 'fine'"
    )
    reviews.write_text(reviews.read_text().replace(",bad", ",poor"))
    with pytest.raises(InputError, match="the run knows the classes bad, good; found good, poor"):
        run.open_task()


def test_expressions_are_read_from_text_and_from_tables(tmp_path):
    run = run_of("listops-short")
    (tmp_path / "one.txt").write_text("( ( ( [MAX 3 ) [MIN 4 5 ] ) ] )\n")
    _, tokens = read_sequences(run, tmp_path / "one.txt")
    assert pieces(run, tokens[0]) == ["[MAX", "3", "[MIN", "4", "5", "]", "]"]
    (tmp_path / "two.tsv").write_text("Source\tTarget\n[MAX 3 [MIN 4 5 ] ]\t4\n[SM 1 9 ]\t0\n")
    found = read_labelled(run, tmp_path / "two.tsv")
    assert found.labels.tolist() == [4, 0]
    assert found.notes["depth"].tolist() == [2, 1]
    names, _ = read_sequences(run, tmp_path / "two.tsv")
    assert names == [f"{tmp_path / 'two.tsv'}: line {line}" for line in (2, 3)]
    with pytest.raises(InputError, match=r"TEXT: expected symbols of \[MIN .*, found '\[ADD'"):
        encode_text(run, "[ADD 1 2 ]", "TEXT")


def test_pictures_are_brought_to_the_run_s_grey_levels(tmp_path):
    from PIL import Image

    run = run_of()
    levels = np.random.default_rng(0).integers(0, 17, (16, 16))
    grey = np.rint(levels * 255 / 16).astype(np.uint8)
    Image.fromarray(grey).save(tmp_path / "digit.png")
    names, tokens = read_sequences(run, tmp_path)
    assert names == ["digit.png"]
    assert np.array_equal(tokens[0], levels.flatten() + 1)
    assert np.array_equal(picture_of(run, tokens[0]), grey)
    Image.fromarray(grey[:8]).save(tmp_path / "small.png")
    with pytest.raises(InputError, match=r"small\.png: expected 16 x 16 pixels, found 16 x 8"):
        read_sequences(run, tmp_path)
    # A header that claims 60,000 x 60,000 pixels.
    header = b"IHDR" + (60_000).to_bytes(4) * 2 + b"\x08\0\0\0\0"
    data = (tmp_path / "digit.png").read_bytes()
    data = data[:12] + header + zlib.crc32(header).to_bytes(4) + data[33:]
    (tmp_path / "small.png").write_bytes(data)
    with pytest.raises(InputError, match=r"small\.png: expected 16 x 16 pixels, found far more"):
        read_sequences(run, tmp_path)


def test_pairs_are_read_from_two_columns(tmp_path):
    run = run_of("retrieval")
    table = tmp_path / "pairs.csv"
    table.write_text("text1,text2,label\nalpha,beta,of one document\n")
    _, tokens = read_sequences(run, table)
    assert tokens.shape[:2] == (1, 2)
    assert ["".join(pieces(run, side)) for side in tokens[0]] == ["alpha", "beta"]
    assert read_labelled(run, table).labels.tolist() == [1]
    (tmp_path / "one.txt").write_text("alpha")
    with pytest.raises(InputError, match="expected a table with columns text1 and text2"):
        read_sequences(run, tmp_path / "one.txt")
