"""Each verb on three small folders of text, and what it tells."""

import hashlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tests.demix.conftest import WORDS, write_texts

TINY = (
    "--vocabulary", "300", "--length", "16", "--dim", "16", "--layers", "1", "--heads", "2",
    "--rows", "4", "--learning-rate", "0.02", "--device", "cpu",
)  # fmt: skip
STEPS = 30
LETTER = "the ship and the judge of the crew.\nthe cow and the hen"


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> SimpleNamespace:
    """A run on three domains, made by the command itself, and what it printed."""
    from workingpapers.cli import main

    folder = tmp_path_factory.mktemp("trained")
    write_texts(folder / "texts")
    arguments = ("train", "texts", "--out", "run", "--steps", STEPS, "--json", *TINY)
    with pytest.MonkeyPatch.context() as patch, (folder / "told.json").open("w") as told:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["workingpapers", "demix", *map(str, arguments)])
        patch.setattr(sys, "stdout", told)
        with pytest.raises(SystemExit, match=r"^0$"):
            main()
    return SimpleNamespace(
        run=folder / "run",
        model=folder / "run" / "model",
        texts=folder / "texts",
        told=json.loads((folder / "told.json").read_text()),
    )


@pytest.fixture
def copied(trained, tmp_path) -> Path:
    """The model in a folder of its own, to be changed."""
    return shutil.copytree(trained.model, tmp_path / "model")


def content(folder: Path) -> dict[str, str]:
    """Every file of a folder, by its SHA-256."""
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def error_of(stderr: str) -> str:
    """The one line of an error."""
    (line,) = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in stderr
    return line


def loaded(folder: Path):
    from workingpapers.demix.checkpoint import load_model

    return load_model(folder)


# ---- training


def test_train_writes_a_run_and_tells_each_domain(trained):
    assert trained.told["run"] == "run"
    assert trained.told["model"] == "run/model"
    assert set(trained.told["domains"]) == set(WORDS)
    for scores in trained.told["domains"].values():
        # A uniform guess has 300.
        assert 1 < scores["perplexity"] < 60
        assert 0 < scores["bits_per_byte"] < 8
    assert {path.stem for path in (trained.model / "experts").iterdir()} == set(WORDS)


def test_a_dry_run_tells_what_training_takes_and_writes_nothing(command, trained, tmp_path):
    code, stdout, stderr = command("train", trained.texts, "--dry-run", "--steps", 7, *TINY)
    assert code == 0, stderr
    assert "7 steps of 192 tokens, 1,344 in all: about " in stdout
    code, stdout, _ = command(
        "train", trained.texts, "--dry-run", "--json", "--steps", 7, "--domains", "sea,law", *TINY
    )
    plan = json.loads(stdout)
    assert code == 0
    assert (plan["domains"], plan["steps"]) == (["sea", "law"], 7)
    assert plan["tokens_per_step"] == 2 * 4 * 16
    assert plan["parameters"] == plan["shared"] + 2 * plan["per_expert"]
    assert plan["active"] == plan["shared"] + plan["per_expert"]
    assert not list(tmp_path.iterdir())


def test_ctrl_c_and_a_kill_are_resumed_to_the_same_weights(command, trained, tmp_path, monkeypatch):
    from workingpapers.demix.corpora import BlockSampler

    arguments = ("train", trained.texts, "--steps", 8, "--save-every", 2, *TINY)
    assert command(*arguments, "--out", "whole")[0] == 0
    read = BlockSampler.__call__

    def interrupted(self, index):
        if index == 5:
            os.kill(os.getpid(), number)
        return read(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(BlockSampler, "__call__", interrupted)
        number = signal.SIGINT
        code, stdout, stderr = command(*arguments, "--out", "my run")
        number = signal.SIGKILL
        child = os.fork()
        if not child:
            command(*arguments, "--out", "killed")
            os._exit(1)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert (code, stdout) == (130, "")
    lines = stderr.strip().splitlines()
    assert "saved: workingpapers demix train --resume 'my run' goes on" in lines
    assert lines[-1] == "error: interrupted"
    for verb in (["list"], ["evaluate"], ["generate"], ["posterior", "a"]):
        code, _, stderr = command(verb[0], "killed", *verb[1:])
        assert code == 2
        assert error_of(stderr).endswith(
            "workingpapers demix train --resume killed goes on with it"
        )
    code, _, stderr = command("train", "--resume", "killed", "--steps", 9)
    assert (code, error_of(stderr)) == (
        2, "error: --steps: expected without --resume, which goes on as it was begun",
    )  # fmt: skip
    whole = content(tmp_path / "whole" / "model")
    for run in ("my run", "killed"):
        code, _, stderr = command("train", "--resume", run)
        assert code == 0, stderr
        assert content(tmp_path / run / "model") == whole


def test_force_replaces_a_run_and_nothing_else_does(command, trained, tmp_path):
    run = shutil.copytree(trained.run, tmp_path / "run")
    before = content(run)
    code, _, stderr = command("train", trained.texts, "--out", "run", "--steps", 1, *TINY)
    assert (code, error_of(stderr)) == (
        2, "error: --out run: holds a run; --resume goes on with it, --force replaces it",
    )  # fmt: skip
    assert content(run) == before
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("mine")
    code, _, stderr = command("train", trained.texts, "--out", "notes", "--force")
    assert (code, error_of(stderr)) == (
        2, "error: --out notes: the folder is not empty and holds no run",
    )  # fmt: skip
    code, _, stderr = command(
        "train", trained.texts, "--out", "run", "--force", "--steps", 1, "--experts", "none", *TINY
    )
    assert code == 0, stderr
    assert loaded(run / "model")[0].domains == ("dense",)


def test_whole_models_as_experts_train_as_tasks(command, trained, monkeypatch):
    from workingpapers.demix import branches
    from workingpapers.foundation.parallel import Outcome

    asked = {}

    def in_this_process(function, tasks, *, engine, jobs, done):
        asked.update(engine=engine, jobs=jobs, tasks=len(tasks))
        for number, task in enumerate(tasks):
            done(number, Outcome(function(task), 0.0, None))

    monkeypatch.setattr(branches, "map_tasks", in_this_process)
    code, _, stderr = command(
        "train", trained.texts, "--out", "run", "--steps", 4, "--experts", "all", "--jobs", 2, *TINY
    )
    assert code == 0, stderr
    assert asked == {"engine": "local", "jobs": 2, "tasks": 3}
    found = json.loads(command("list", "run", "--json")[1])
    assert (found["mode"], len(found["experts"])) == ("all", 3)


def test_a_run_from_domains_that_are_found(command, trained, tmp_path):
    lines = [
        json.dumps({"words": file.read_text()}) + "\n" for file in trained.texts.rglob("*.txt")
    ]
    (tmp_path / "mixed.jsonl").write_text("".join(lines))
    code, _, stderr = command(
        "train", "mixed.jsonl", "--text", "words", "--discover", 3, "--out", "run", "--steps", 2,
        *TINY,
    )  # fmt: skip
    assert code == 0, stderr
    found = {file.name for file in (tmp_path / "run-domains" / "domains").iterdir()}
    assert found == {"cluster1.jsonl", "cluster2.jsonl", "cluster3.jsonl"}
    assert loaded(tmp_path / "run" / "model")[0].domains == ("cluster1", "cluster2", "cluster3")


# ---- asking a model


def test_list_tells_each_expert_and_its_file(command, trained):
    code, stdout, _ = command("list", trained.run, "--json")
    found = json.loads(stdout)
    assert code == 0
    assert (found["kind"], found["mode"], found["posteriors"]) == ("DEMixLM", "ffn", [])
    for row in found["experts"]:
        file = trained.model / row["file"]
        assert row["name"] == file.stem
        assert row["tokens"] == STEPS * 4 * 16
        assert row["parameters"] == 2 * 16 * 64 + 16 + 64
        assert row["bytes"] == file.stat().st_size
    code, stdout, _ = command("list", trained.model)
    assert code == 0
    assert "experts/farm.safetensors" in stdout


def test_posterior_tells_the_weights_at_every_token(command, trained, tmp_path):
    (tmp_path / "letter.txt").write_text(LETTER)
    arguments = ("posterior", trained.run, "letter.txt", "--history", "filter")
    code, stdout, stderr = command(*arguments, "--json", "--picture", "who.svg")
    assert code == 0, stderr
    found = json.loads(stdout)
    assert "".join(token["text"] for token in found["token_weights"]) == LETTER
    weights = np.array([token["weights"] for token in found["token_weights"]])
    assert weights.sum(1) == pytest.approx(1)
    assert weights[0] == pytest.approx(1 / 3)
    assert weights.mean(0) == pytest.approx(found["mean_weights"])
    logprobs = [token["logprob"] for token in found["token_weights"]]
    assert math.exp(-np.mean(logprobs)) == pytest.approx(found["perplexity"])
    bits = -sum(logprobs) / math.log(2) / len(LETTER.encode())
    assert found["bits_per_byte"] == pytest.approx(bits)
    assert (tmp_path / "who.svg").read_text().startswith("<?xml")
    # The text itself instead of a file, and signs where there are no colours.
    code, stdout, _ = command("posterior", trained.run, LETTER, "--history", "filter")
    assert code == 0
    first, signs, second, more = stdout.splitlines()[-4:]
    assert f"{first}\n{second}" == LETTER
    assert len(signs) == len(first)
    names = found["experts"]
    # The end of each line is told by the words before it.
    assert names[int(more[-1]) - 1] == "farm"
    assert signs[first.index("judge") - 3] == str(names.index("sea") + 1)
    code, _, stderr = command(*arguments, "--picture", "who.svg")
    assert (code, error_of(stderr)) == (
        2, "error: --picture who.svg: the file exists; --force replaces it",
    )  # fmt: skip


def test_a_character_of_several_tokens_is_told_once(command, trained):
    code, stdout, _ = command("posterior", trained.run, "a 🐄 cow", "--json")
    pieces = [token["text"] for token in json.loads(stdout)["token_weights"]]
    assert code == 0
    assert "".join(pieces) == "a 🐄 cow"
    assert pieces.count("") == 3


def test_a_kept_posterior_is_a_cached_prior(command, copied, tmp_path):
    (tmp_path / "letter.txt").write_text(LETTER)
    code, _, stderr = command("posterior", "model", "letter.txt", "--keep", "letters")
    assert code == 0, stderr
    cached = ("evaluate", "model", "letter.txt", "--mix", "cached", "--json", "--like")
    kept, read = (json.loads(command(*cached, like)[1]) for like in ("letters", "letter.txt"))
    assert kept["domains"][0]["perplexity"] == pytest.approx(read["domains"][0]["perplexity"])
    assert "posteriors kept of: letters" in command("list", "model")[1]
    code, _, stderr = command("generate", "model", "--mix", "cached")
    assert (code, error_of(stderr)) == (
        2, "error: --mix cached: expected --like, with text of the domain",
    )  # fmt: skip


def test_generate_prints_what_the_mixture_writes(command, trained, capsys):
    from workingpapers.demix.mixture import MixtureLM
    from workingpapers.demix.posterior import DomainPosterior

    model, tokenizer, _ = loaded(trained.model)
    mixture = MixtureLM(model, tokenizer, DomainPosterior("updating", "filter"))
    wanted = "".join(mixture.generate("the ", max_tokens=12, temperature=0.5, top_p=0.9, seed=3))
    options = ("--history", "filter", "--max-tokens", 12, "--temperature", 0.5, "--top-p", 0.9)
    code, stdout, _ = command("generate", trained.run, "the ", *options, "--seed", 3)
    assert (code, stdout) == (0, wanted + "\n")
    code, stdout, _ = command("generate", trained.run, "the ", *options, "--seed", 3, "--json")
    assert json.loads(stdout) == {"prompt": "the ", "text": wanted}
    _, before, _ = command("generate", trained.run, "the ", *options, "--seed", 3, "--stop", "e")
    assert before == wanted.partition("e")[0] + "\n"


def test_names_in_mix_are_fixed_weights(command, trained):
    from workingpapers.demix.mixture import MixtureLM
    from workingpapers.demix.posterior import DomainPosterior

    model, tokenizer, _ = loaded(trained.model)
    import torch

    fixed = DomainPosterior(torch.tensor([0.25, 0.75]), "none")
    score = MixtureLM(model, tokenizer, fixed, experts=["sea", "law"]).score(LETTER)
    for mix in ("sea=0.25,law=0.75", "sea=1, law=3"):
        code, stdout, _ = command("posterior", trained.run, LETTER, "--mix", mix, "--json")
        found = json.loads(stdout)
        assert (code, found["experts"]) == (0, ["sea", "law"])
        assert found["perplexity"] == pytest.approx(score.perplexity)
    _, stdout, _ = command("posterior", trained.run, LETTER, "--mix", "sea", "--json")
    assert json.loads(stdout)["mean_weights"] == [1.0]


def test_evaluate_reads_what_the_run_held_out(command, trained, tmp_path):
    from workingpapers.demix.mixture import MixtureLM
    from workingpapers.demix.posterior import DomainPosterior
    from workingpapers.demix.runs import RUNS, open_corpora

    code, stdout, stderr = command(
        "evaluate", trained.run, "--json", "--picture", "matrix.png", "--history", "filter"
    )
    assert code == 0, stderr
    found = json.loads(stdout)
    corpora = open_corpora(RUNS.read(trained.run), trained.run)
    model, tokenizer, _ = loaded(trained.model)
    mixture = MixtureLM(model, tokenizer, DomainPosterior("updating", "filter"))
    for row, corpus in zip(found["domains"], corpora.domains.values(), strict=True):
        score = mixture.score(corpus.test[1:])
        assert row["domain"] == corpus.name
        assert row["perplexity"] == pytest.approx(score.perplexity)
        bits = -float(score.logprobs.sum()) / math.log(2) / corpus.bytes["test"]
        assert row["bits_per_byte"] == pytest.approx(bits)
    for name in WORDS:
        best = min(found["matrix"], key=lambda row, name=name: row[name])
        assert best["expert"] == name
    mean = np.mean([row["perplexity"] for row in found["domains"]])
    assert found["mean"]["perplexity"] == pytest.approx(mean)
    assert (tmp_path / "matrix.png").stat().st_size > 1000
    # The same texts by their path are parted as in the run.
    again = json.loads(command("evaluate", trained.run, trained.texts, "--json", "--history",
                               "filter")[1])  # fmt: skip
    assert again["domains"] == found["domains"]
    code, stdout, _ = command("evaluate", trained.run, "--mix", "cached", "--tokens", 40,
                              "--matrix")  # fmt: skip
    assert code == 0
    assert "perplexity of each expert alone:" in stdout


def test_top_k_tells_how_far_it_is_from_the_full_mixture(command, trained, tmp_path):
    (tmp_path / "letter.txt").write_text(LETTER)
    code, stdout, _ = command("evaluate", trained.run, "letter.txt", "--top-k", 1, "--json")
    (row,) = json.loads(stdout)["domains"]
    assert code == 0
    assert row["domain"] == "letter"
    assert row["kl_nats"] > 0


# ---- changing a model


def test_experts_come_and_go_as_files(command, trained, copied, tmp_path):
    before = content(copied)
    code, stdout, stderr = command("remove", "model", "law", "--out", "two")
    assert (code, stdout) == (0, "experts: farm, sea\nmodel: two\n"), stderr
    assert content(copied) == before
    sent = copied / "experts" / "law.safetensors"
    code, stdout, stderr = command("add", "two", "law", "--file", sent, "--in-place", "--json")
    assert code == 0, stderr
    assert json.loads(stdout)["experts"] == ["farm", "sea", "law"]
    assert (tmp_path / "two" / "experts" / "law.safetensors").read_bytes() == sent.read_bytes()
    assert command("rename", "two", "law", "courts", "--in-place")[0] == 0
    code, stdout, _ = command("restrict", "two", "courts", "farm", "--in-place", "--json")
    found = json.loads(stdout)
    assert (code, found["experts"]) == (0, ["courts", "farm"])
    (moved,) = found["moved"]
    assert (tmp_path / moved).is_file()
    model, _, _ = loaded(tmp_path / "two")
    original, _, _ = loaded(copied)
    for new, old in (("courts", "law"), ("farm", "farm")):
        mine, theirs = model.expert_parameters(new), original.expert_parameters(old)
        assert all((mine[key] == theirs[key]).all() for key in theirs)


def test_add_trains_the_new_expert_only(command, copied, tmp_path):
    write_texts(tmp_path / "new", ("storms",))
    code, stdout, stderr = command(
        "add", "model", "storms", "new/storms", "--out", "grown", "--steps", 10, "--rows", 4,
        "--learning-rate", 0.01, "--json",
    )  # fmt: skip
    assert code == 0, stderr
    found = json.loads(stdout)
    assert (found["model"], found["expert"], found["parent"]) == ("grown", "storms", "sea")
    assert found["tokens"] == 10 * 4 * 16
    assert found["after"]["perplexity"] < found["before"]["perplexity"]
    old, new = content(copied), content(tmp_path / "grown")
    for file in ("shared.safetensors", *(f"experts/{name}.safetensors" for name in WORDS)):
        assert new[file] == old[file]
    rows = json.loads(command("list", "grown", "--json")[1])["experts"]
    assert (rows[-1]["name"], rows[-1]["parent"], rows[-1]["tokens"]) == ("storms", "sea", 640)


def test_an_expert_without_text_is_a_copy_or_a_mean(command, copied, tmp_path):
    assert command("add", "model", "mean", "--in-place")[0] == 0
    assert command("add", "model", "twin", "--init", "law", "--in-place")[0] == 0
    model, _, manifest = loaded(copied)
    assert {expert.name: expert.parent for expert in manifest.experts}["twin"] == "law"
    for key, weight in model.expert_parameters("twin").items():
        assert (weight == model.expert_parameters("law")[key]).all()
        mean = sum(model.expert_parameters(name)[key] for name in WORDS) / 3
        assert np.allclose(model.expert_parameters("mean")[key], mean, atol=1e-7)


def test_merge_and_export_write_the_same_dense_model(command, trained, tmp_path):
    weights = ("--weights", "sea=3,law=1")
    code, stdout, stderr = command("merge", trained.run, "merged", *weights)
    assert (code, stdout) == (0, "weights: law 0.25, sea 0.75\nmodel: merged\n"), stderr
    assert command("export", trained.run, "plain", *weights)[0] == 0
    assert json.loads((tmp_path / "plain" / "config.json").read_text())["model_type"] == "gpt2"
    code, stdout, stderr = command(
        "compare", "merged", "plain", trained.run, trained.texts, "--json", "--picture", "bars.svg"
    )
    assert code == 0, stderr
    rows = json.loads(stdout)
    of = {(row["model"], row["domain"]): row for row in rows}
    assert len(of) == 9
    for name in WORDS:
        dense, plain = of["merged", name], of["plain", name]
        assert plain["perplexity"] == pytest.approx(dense["perplexity"], rel=1e-4)
        assert plain["tokens"] == dense["tokens"]
    # The dense model has nothing of the expert of farms.
    assert of[str(trained.run), "farm"]["bits_per_byte"] < of["merged", "farm"]["bits_per_byte"]
    assert (tmp_path / "bars.svg").is_file()
    code, stdout, _ = command("compare", "merged", trained.texts)
    assert code == 0
    assert stdout.startswith("bits per byte:\n")


def test_weights_are_fitted_to_a_text(command, trained, tmp_path):
    sea = next((trained.texts / "sea").glob("*.txt"))
    code, stdout, stderr = command("merge", trained.run, "merged", "--like", sea, "--json")
    assert code == 0, stderr
    weights = json.loads(stdout)["weights"]
    assert max(weights, key=weights.get) == "sea"
    code, _, stderr = command("merge", trained.run, "other")
    assert (code, error_of(stderr)) == (2, "error: --weights, --like: expected one of them")
    assert not (tmp_path / "other").exists()


# ---- texts


def test_discover_finds_the_domains(command, trained, tmp_path):
    texts = {file.read_text(): file.parent.name for file in trained.texts.rglob("*.txt")}
    lines = [json.dumps({"text": text}) + "\n" for text in sorted(texts)]
    (tmp_path / "mixed.jsonl").write_text("".join(lines))
    code, stdout, stderr = command("discover", "mixed.jsonl", "-k", 3, "--out", "found", "--json")
    assert code == 0, stderr
    rows = json.loads(stdout)
    assert [row["documents"] for row in rows] == [24, 24, 24]
    purity = 0
    for row in rows:
        file = tmp_path / "found" / "domains" / f"{row['domain']}.jsonl"
        found = [texts[json.loads(line)["text"]] for line in file.read_text().splitlines()]
        purity += max(found.count(name) for name in WORDS)
    assert purity > 0.9 * len(texts)
    code, _, stderr = command("discover", "mixed.jsonl", "-k", 3, "--out", "found")
    assert (code, error_of(stderr)) == (
        2, "error: --out found: the folder is not empty; --force replaces domains there",
    )  # fmt: skip


def test_domains_lists_sources_and_licences(command):
    code, stdout, _ = command("domains", "--json")
    rows = json.loads(stdout)
    assert code == 0
    assert [row["use"] for row in rows] == ["training"] * 8 + ["novel"] * 5
    assert all(row["source"] and row["licence"] for row in rows)
    assert "wiki (training): " in command("domains")[1]


def test_help_imports_no_torch():
    code = (
        "import sys; from typer.testing import CliRunner; from workingpapers.demix.cli import app\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        "assert not {'torch', 'transformers', 'numpy', 'matplotlib'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "verb",
    [
        "train",
        "list",
        "add",
        "remove",
        "rename",
        "restrict",
        "posterior",
        "generate",
        "evaluate",
        "compare",
        "merge",
        "export",
        "discover",
        "domains",
    ],
)
def test_every_verb_has_an_example_and_json(command, verb):
    code, stdout, _ = command(verb, "--help")
    assert code == 0
    assert f"Example: workingpapers demix {verb}" in stdout.replace("\n", " ").replace("  ", " ")
    assert "--json" in stdout


# ---- what is kept


def test_a_finished_run_leaves_its_model_as_it_is(command, trained, tmp_path):
    shutil.copytree(trained.run, tmp_path / "run")
    assert command("add", "run", "twin", "--init", "law", "--in-place")[0] == 0
    assert command("remove", "run", "farm", "--in-place")[0] == 0
    before = content(tmp_path / "run")
    code, stdout, stderr = command("train", "--resume", "run")
    assert code == 0, stderr
    assert "development text, each domain by its own expert" in stdout
    assert content(tmp_path / "run") == before


def test_domains_are_found_again_only_where_nothing_is_lost(command, trained, tmp_path):
    lines = [
        json.dumps({"text": file.read_text()}) for file in sorted(trained.texts.rglob("*.txt"))
    ]
    (tmp_path / "all.jsonl").write_text("\n".join(lines))
    find = ("discover", "all.jsonl", "--out", "found", "--force", "-k")
    assert command(*find, 3)[0] == 0
    assert command(*find, 2)[0] == 0
    assert len(list((tmp_path / "found" / "domains").iterdir())) == 2
    for name in ("domains/court.jsonl", "clusterer/mine.txt", "mine.txt"):
        (tmp_path / "found" / name).write_text("mine")
        before = content(tmp_path / "found")
        code, _, stderr = command(*find, 3)
        assert (code, content(tmp_path / "found")) == (2, before)
        assert Path(name).name in error_of(stderr)
        (tmp_path / "found" / name).unlink()
    # A setting that cannot be is told before anything is found.
    wrong = ("train", "all.jsonl", "--discover", 3, "--out", "run", *TINY, "--heads", 3)
    assert command(*wrong)[0] == 2
    assert not (tmp_path / "run-domains").exists()


def test_a_merged_model_is_asked_for_what_was_held_out(command, trained, tmp_path):
    less = ("train", trained.texts, "--bytes", 2000, "--steps", 2, "--out", "less", *TINY)
    assert command(*less)[0] == 0
    assert command("merge", "less", "merged", "--weights", "law")[0] == 0
    tokens = []
    for name in ("less", "merged"):
        code, stdout, stderr = command(
            "evaluate", name, trained.texts, "--json", "--mix", "average"
        )
        assert code == 0, stderr
        tokens.append([row["tokens"] for row in json.loads(stdout)["domains"]])
    assert tokens[0] == tokens[1]
