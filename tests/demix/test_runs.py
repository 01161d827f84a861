"""Runs: from texts to a model's folder, whatever happens on the way."""

import hashlib
import json
import math
import os
import shutil
import signal
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.demix.conftest import write_texts
from transformers import GPT2Config, GPT2LMHeadModel

from workingpapers.demix import runs
from workingpapers.demix.checkpoint import load_model, read_manifest
from workingpapers.demix.corpora import load_domains, load_tokenizer
from workingpapers.demix.data import TRAINING
from workingpapers.demix.mixture import MixtureLM
from workingpapers.demix.model import DEMixLM
from workingpapers.demix.runs import (
    RUNS,
    RunConfig,
    Training,
    add_domain,
    claim_run,
    make_run,
    model_folder,
    open_corpora,
    run_folder,
    score,
)
from workingpapers.foundation.errors import InputError
from workingpapers.foundation.training import count_parameters

SHAPE = {"vocabulary": 300, "dim": 16, "layers": 2, "heads": 2}


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_texts(tmp_path_factory.mktemp("data") / "texts")


def small_run(texts: Path, **options: Any) -> RunConfig:
    training = {"steps": 12, "learning_rate": 0.01, "save_every": 4} | options.pop("training", {})
    options = {"shape": SHAPE, "length": 16, "rows": 2} | options
    return make_run([str(texts)], training=training, **options)


def weights(folder: Path) -> dict[str, str]:
    """SHA-256 of each file of weights."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.safetensors"))
    }


@pytest.fixture(scope="module")
def whole(texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing has stopped."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("whole") / "run"
    Training(small_run(texts), folder).fit()
    return folder


def test_a_run_becomes_the_folder_of_a_model(texts: Path, whole: Path) -> None:
    run = RUNS.read(whole)
    assert replace(run, tokens_sha256=None) == small_run(texts)
    model, tokenizer, manifest = load_model(whole / "model")
    assert model.domains == ("farm", "law", "sea")
    assert tokenizer is not None
    assert model.vocabulary == tokenizer.get_vocab_size() == 300
    # 12 steps of 2 rows of 16 tokens of each domain.
    assert [expert.tokens for expert in manifest.experts] == [384] * 3
    assert len((whole / "log.csv").read_text().splitlines()) == 13
    corpora = open_corpora(run, whole)
    assert all(isinstance(each.train, np.memmap) for each in corpora.domains.values())
    card = (whole / "model" / "README.md").read_text()
    for name, corpus in corpora.domains.items():
        # All blocks of the development text, in one go.
        rows = corpus.dev[1 : (len(corpus.dev) - 1) // 16 * 16 + 1]
        mixture = MixtureLM(model, tokenizer, experts=[name])
        found = manifest.training["dev"][name]
        assert found["tokens"] == len(rows)
        text = f"| {name} | texts/{name} | the user's own | {corpus.bytes['train']:,} | "
        assert text + f"{len(corpus.train):,} |" in card
        assert f"| {name} | {found['perplexity']:.2f} | {found['bits_per_byte']:.3f} |" in card
        logprobs = [
            mixture.model.token_logprobs(
                torch.from_numpy(rows[at : at + 16].astype(np.int64))[None],
                [name],
                previous=torch.tensor([int(corpus.dev[at])]),
            )
            for at in range(0, len(rows), 16)
        ]
        loss = -float(torch.cat(logprobs).double().mean())
        assert found["perplexity"] == pytest.approx(math.exp(loss), rel=1e-5)
        size = len(tokenizer.decode(rows.tolist()).encode())
        bits = loss * len(rows) / math.log(2) / size
        assert found["bits_per_byte"] == pytest.approx(bits, rel=1e-5)


def test_a_killed_run_ends_with_the_same_weights(texts: Path, whole: Path, tmp_path: Path) -> None:
    run = small_run(texts)
    log = tmp_path / "run" / "log.csv"
    for target in (3, 7, 11):
        child = os.fork()
        if child == 0:
            try:
                Training(run, tmp_path / "run").fit(progress=lambda steps: time.sleep(0.01))
            finally:
                os._exit(0)
        while not log.exists() or log.read_bytes().count(b"\n") <= target:
            assert os.waitpid(child, os.WNOHANG) == (0, 0)
            time.sleep(0.001)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    with pytest.raises(InputError, match=r"the run is unfinished \(step (4|8) of 12\); working"):
        model_folder(tmp_path / "run")
    training = Training(RUNS.read(tmp_path / "run"), tmp_path / "run")
    assert (training.finished, training.steps) in ((4, 12), (8, 12))
    training.fit()
    assert weights(tmp_path / "run" / "model") == weights(whole / "model")
    # Once more it changes nothing, and writes the model again if it was removed.
    shutil.rmtree(tmp_path / "run" / "model")
    Training(RUNS.read(tmp_path / "run"), tmp_path / "run").fit()
    assert weights(tmp_path / "run" / "model") == weights(whole / "model")


def test_a_run_goes_on_with_its_own_texts_and_settings_only(
    texts: Path, whole: Path, tmp_path: Path
) -> None:
    own = tmp_path / "texts"
    shutil.copytree(texts, own)
    run, folder = small_run(own, training={"steps": 1}), tmp_path / "run"
    Training(run, folder).fit()
    with pytest.raises(InputError, match=r"run.json: the folder holds a run of other settings"):
        Training(small_run(own, rows=1, training={"steps": 1}), folder)
    (own / "sea" / "00.txt").write_text("the whale " * 50)
    with pytest.raises(InputError, match=f"{own}: the texts are not those that the run was begun"):
        Training(RUNS.read(folder), folder)
    (folder / "run.json").write_text("[")
    with pytest.raises(InputError, match=r"run.json: not the configuration of a run"):
        RUNS.read(folder)
    with pytest.raises(InputError, match=r"expected the folder of a run, with its run.json"):
        RUNS.read(tmp_path)


def test_a_run_that_cannot_be_leaves_no_folder(texts: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected at least 5001, a block and the token before"):
        Training(small_run(texts, length=5000), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "letter.txt").touch()
    with pytest.raises(InputError, match="has no domain 'lake'"):
        Training(small_run(texts, domains=["lake"]), tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["letter.txt"]


@pytest.mark.parametrize("experts", ["ffn", "none", "all"])
def test_a_plan_counts_what_there_will_be(experts: Any, texts: Path, tmp_path: Path) -> None:
    run = small_run(texts, experts=experts, training={"accumulate": 2})
    training = Training(run, jobs=1)
    plan = training.plan()
    model = training.build()
    assert isinstance(model, DEMixLM)
    assert plan.parameters == count_parameters(model)
    # Two layers of an up and a down projection.
    feed_forward = 2 * (16 * 64 + 64 + 64 * 16 + 16)
    dense = count_parameters(DEMixLM(model.config, experts="none"))
    assert plan.active == dense
    assert plan.per_expert == {"ffn": feed_forward, "none": 0, "all": dense}[experts]
    assert plan.shared == {"ffn": dense - feed_forward, "none": dense, "all": 0}[experts]
    assert (plan.tokens_per_step, plan.tokens) == (3 * 2 * 16 * 2, 12 * 3 * 2 * 16 * 2)
    for name, count in plan.corpus_tokens.items():
        assert plan.epochs[name] == pytest.approx(12 * 2 * 2 / ((count - 1) // 16))
    assert plan.measured
    assert plan.minutes > 0
    if experts != "all":
        assert plan.minutes == pytest.approx(12 * plan.step_seconds / 60)
        training.processes = 3
        assert training.plan().minutes == pytest.approx(plan.minutes / 3)
    if experts == "ffn":
        with pytest.raises(InputError, match="2 processes: expected a divisor or a multiple of 3"):
            Training(run, tmp_path / "run", processes=2)
        assert not (tmp_path / "run").exists()
    if experts == "all":
        with pytest.raises(InputError, match="experts all: expected one process"):
            Training(run, processes=3)


def test_a_large_model_is_planned_without_being_made(
    texts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = Training(small_run(texts, size="1.3B", shape={"vocabulary": 300}))

    def build() -> None:
        raise AssertionError

    monkeypatch.setattr(training, "build", build)
    plan = training.plan()
    assert not plan.measured
    assert plan.per_expert == 24 * (2 * 4 * 2048 * 2048 + 5 * 2048)
    logits = plan.tokens_per_step * plan.vocabulary
    assert plan.memory_mb == pytest.approx((16 * plan.parameters + 4 * logits) / 2**20)


def test_a_time_budget_is_settled_by_more_steps_than_a_guess(
    texts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed: list[int] = []

    def time_step(*arguments: Any, repeats: int, **options: Any) -> float:
        timed.append(repeats)
        return 0.25

    monkeypatch.setattr(runs, "time_step", time_step)
    Training(small_run(texts)).plan()
    training = Training(small_run(texts, training={"steps": None, "seconds": 60.0}))
    training.settle()
    assert timed == [3, 20]
    assert training.run.training.steps == 240


def test_a_time_budget_becomes_steps(texts: Path, tmp_path: Path) -> None:
    run = small_run(texts, training={"steps": None, "seconds": 0.1})
    training = Training(run, tmp_path / "run")
    with pytest.raises(InputError, match="expected `settle` first"):
        training.fit()
    assert RUNS.read(tmp_path / "run") == run
    training = Training(RUNS.read(tmp_path / "run"), tmp_path / "run")
    training.settle()
    config = training.run.training
    assert config.steps is not None
    assert config.seconds is None
    assert config.warmup == max(1, round(0.08 * config.steps))
    training.fit()
    assert RUNS.finished_steps(tmp_path / "run") == config.steps
    assert RUNS.read(tmp_path / "run").training == config


def test_defaults_come_from_the_size_and_the_decoder(tmp_path: Path) -> None:
    run = make_run()
    assert run.domains == tuple(TRAINING)
    assert run.data is None
    assert run.model is not None
    # A run keeps its number of threads.
    assert run.training.threads == 1
    assert (run.model.dim, run.training.steps, run.training.warmup) == (64, 700, 56)
    assert (run.experts, run.seed_share) == ("ffn", 0.0)
    assert make_run(["wiki", "reviews"], experts="all").seed_share == 0.25
    paper = make_run(["wiki"], size="350M")
    assert (paper.training.steps, paper.training.clip) == (120_000, 0.1)
    given = make_run(["wiki"], length=32, training={"seconds": 60.0})
    assert given.model is not None
    assert (given.model.length, given.training.steps, given.training.seconds) == (32, None, 60.0)
    assert json.loads(json.dumps(asdict(run)))["domains"] == list(TRAINING)
    claim_run(tmp_path / "run", run)
    assert RUNS.read(tmp_path / "run") == run


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (["wikki"], {}, r"wikki: no such file or folder, and no embedded domain; those are pycode"),
        (
            ["wiki", "news"],
            {"domains": ["wiki"]},
            "domains: expected with one path, got wiki, news",
        ),
        (["wiki"], {"size": "large"}, "size 'large': expected one of tiny, small, 125M, 350M"),
        (["wiki"], {"shape": {"heads": 3}}, "heads 3: expected a divisor of dim 64"),
        (["wiki"], {"seed_share": 0.5}, "seed_share: expected with experts all only"),
        (["wiki"], {"seed_share": 1.0, "experts": "all"}, "seed_share 1.0: expected from 0 to"),
        (["wiki"], {"shape": {"domain_tokens": True}}, "domain_tokens: expected with experts none"),
        (["wiki"], {"rows": -1}, "rows -1: expected at least 0"),
        (["wiki"], {"decoder": Path("nowhere")}, "nowhere: expected the folder of a decoder"),
        (["wiki", "wiki"], {}, "domain 'wiki': there is one of this name"),
    ],
)
def test_impossible_runs_are_refused(
    data: list[str], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        make_run(data, **options)


def test_some_of_the_domains_of_a_path(texts: Path) -> None:
    training = Training(small_run(texts, domains=["sea", "farm"]))
    assert training.build().domains == ("sea", "farm")
    assert training.rows == 2
    with pytest.raises(InputError, match="has no domain 'lake', only farm, law, sea"):
        Training(small_run(texts, domains=["lake"]))


def test_whole_models_as_experts(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from workingpapers.demix import branches
    from workingpapers.foundation.parallel import Outcome

    def map_here(function: Any, tasks: Any, *, done: Any, **options: Any) -> None:
        assert options == {"engine": "local", "jobs": 1}
        for index, task in enumerate(tasks):
            # The run's own tokens, and no copies of them.
            assert all("/corpora/" in path for path in task.tokens)
            done(index, Outcome(function(task), 0.0, None))

    monkeypatch.setattr(branches, "map_tasks", map_here)
    training = Training(small_run(texts, experts="all"), tmp_path / "run", jobs=1)
    told: list[int] = []
    assert (training.finished, training.steps) == (0, 3 + 3 * 9)
    trained = training.fit(progress=told.append)
    assert sum(told) == training.steps == training.finished
    assert read_manifest(trained.folder).mode == "all"
    assert sorted(weights(trained.folder)) == [
        f"experts/{name}.safetensors" for name in ("farm", "law", "sea")
    ]


def test_a_decoder_of_transformers_gets_experts(texts: Path, whole: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=304, n_positions=24, n_embd=16, n_layer=2, n_head=2, bos_token_id=0,
        eos_token_id=0,
    )  # fmt: skip
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt2")
    with pytest.raises(InputError, match=r"gpt2: expected a tokenizer.json there, or the path"):
        Training(make_run([str(texts)], decoder=tmp_path / "gpt2"))
    load_tokenizer(whole / "model" / "tokenizer.json").save(str(tmp_path / "gpt2/tokenizer.json"))
    run = make_run([str(texts)], decoder=tmp_path / "gpt2", training={"steps": 2})
    training = Training(run, tmp_path / "run")
    assert training.length == 24
    plan = training.plan()
    trained = training.fit()
    assert plan.parameters == plan.shared + 3 * plan.per_expert
    model, _, manifest = load_model(trained.folder)
    assert manifest.kind == "DEMixForCausalLM"
    assert model.domains == ("farm", "law", "sea")
    assert "gpt2" in (trained.folder / "README.md").read_text()


def test_adding_a_domain_leaves_all_other_files_as_they_are(whole: Path, tmp_path: Path) -> None:
    source = write_texts(tmp_path / "more", ("sea", "pond"))
    folder, out = whole / "model", tmp_path / "grown"
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    corpora = load_domains(source, tokenizer, block=16)
    pond = corpora.domains["pond"]
    training = {"steps": 40, "learning_rate": 0.01}
    added = add_domain(folder, pond, out=out, rows=4, training=training)
    # Its words are those of the sea.
    assert (added.expert, added.parent, added.nearest) == ("pond", "sea", "sea")
    assert added.tokens == 40 * 4 * 16
    assert added.after["perplexity"] < added.before["perplexity"]
    before, after = weights(folder), weights(out)
    assert after.pop("experts/pond.safetensors") != before["experts/sea.safetensors"]
    assert after == before
    expert = read_manifest(out).experts[-1]
    assert (expert.name, expert.parent, expert.tokens) == ("pond", "sea", added.tokens)
    model, _, _ = load_model(out)
    again = score(model, pond, "pond", np.ones(300, dtype=np.int64), 16)
    assert again["perplexity"] == pytest.approx(added.after["perplexity"])

    copied = add_domain(folder, pond, init="law", out=tmp_path / "copy", training={"steps": 0})
    assert (copied.parent, copied.tokens) == ("law", 0)
    model, _, _ = load_model(tmp_path / "copy")
    law, other = model.expert_parameters("law"), model.expert_parameters("pond")
    assert all(torch.equal(law[key], other[key]) for key in law)

    for options, message in (
        ({}, "out: expected a folder for the result, or in_place"),
        ({"out": out}, "grown: the folder is not empty, it holds a checkpoint"),
        ({"out": tmp_path / "new", "init": "lake"}, "init 'lake': expected mean, random or"),
    ):
        with pytest.raises(InputError, match=message):
            add_domain(folder, pond, **options)
    with pytest.raises(InputError, match="domain 'sea': there is one of this name"):
        add_domain(folder, corpora.domains["sea"], out=tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_where_a_run_and_its_model_are(whole: Path, tmp_path: Path) -> None:
    assert model_folder(whole) == model_folder(whole / "model") == whole / "model"
    assert run_folder(whole) == run_folder(whole / "model") == whole
    assert run_folder(whole / "corpora") is None
    assert run_folder(tmp_path) is None
    # Whoever opens it complains.
    assert model_folder(tmp_path) == tmp_path


def test_a_run_takes_the_place_of_another(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    with pytest.raises(InputError, match="holds a run; --resume goes on with it, --force"):
        RUNS.check_new(out, force=False)
    RUNS.check_new(out, force=True)
    with RUNS.replacing(out):
        assert not list(out.glob("[!.]*"))
        (out / "run.json").write_text("new")
    assert [path.name for path in out.iterdir()] == ["run.json"]
    shutil.rmtree(out)
    shutil.copytree(whole, out)
    (out / "corpora" / "letter.txt").write_text("mine")
    with pytest.raises(InputError, match=r"not replaced, .*letter.txt is no part of the run there"):
        RUNS.check_new(out, force=True)
    (out / "corpora" / "letter.txt").unlink()
    (out / "model" / "letter.txt").write_text("mine")
    with pytest.raises(InputError, match=r"letter.txt: not replaced, it is no part"):
        RUNS.check_new(out, force=True)
