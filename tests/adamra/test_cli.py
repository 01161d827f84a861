"""Each verb on data of one's own, and one clear line for each kind of bad input."""

import csv
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

TINY = (
    "--steps", "4", "--batch", "4", "--examples", "16", "--dim", "8", "--heads", "2",
    "--feed-forward", "8", "--device", "cpu", "--evaluate-every", "4",
)  # fmt: skip
WORDS = {"good": ("bright", "warm", "kind"), "bad": ("dull", "cold", "mean")}
REVIEWS = "review,stars\n" + "".join(
    f"film {row} was {WORDS[label][row % 3]} {WORDS[label][row // 3 % 3]},{label}\n"
    for row in range(40)
    for label in [("good", "bad")[row % 2]]
)


@pytest.fixture
def command(command, tmp_path):
    """The command line in a folder with a table of reviews and a letter."""
    (tmp_path / "reviews.csv").write_text(REVIEWS)
    (tmp_path / "letter.txt").write_text("the film was bright and [kind]")
    return command


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> SimpleNamespace:
    """Trained runs: of a user's texts, of pixels, of expressions, and with sdpa."""
    from workingpapers.adamra.classify import make_run, train

    folder = tmp_path_factory.mktemp("runs")
    (folder / "reviews.csv").write_text(REVIEWS)
    sizes = {"dim": 8, "heads": 2, "feed_forward": 8}
    found = {}
    for name, task, options in (
        ("own", str(folder / "reviews.csv"), {"text": "review", "label": "stars"}),
        ("pixels", "digits-256", {}),
        ("listops", "listops-short", {"length": 64}),
        ("softmax", "digits-256", {}),
    ):
        encoder = sizes | ({"attention": "sdpa"} if name == "softmax" else {})
        training = {"steps": 3, "evaluate_every": 1}
        run = make_run(task, encoder=encoder, training=training, batch=4, examples=16, **options)
        train(replace(run, validation_examples=8), folder / name)
        found[name] = folder / name
    return SimpleNamespace(**found)


def error_of(stderr: str) -> str:
    """The one line of an error."""
    (line,) = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in stderr
    return line


# ---- training


def test_train_on_own_texts_writes_a_run_and_tells_baselines(command, tmp_path):
    code, stdout, stderr = command(
        "train", "reviews.csv", "--text", "review", "--label", "stars", "--out", "run", *TINY
    )
    assert code == 0, stderr
    first, second, *layers, last = stdout.splitlines()
    assert first.startswith("4 steps, ")
    assert "validation accuracy 0." in first or "validation accuracy 1." in first
    assert second.startswith("shallow baselines: majority class 0.")
    assert [line.partition(":")[0] for line in layers] == ["layer 1", "layer 2"]
    assert "% at rate 16; entropy " in layers[0]
    assert last == "run: run"
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()
    code, _, stderr = command("train", "reviews.csv", "--out", "run", *TINY)
    assert error_of(stderr) == (
        "error: --out run: holds a run; --resume goes on with it, --force replaces it"
    )
    (tmp_path / "run" / "mine.txt").write_text("mine")
    code, stdout, _ = command("train", "digits-256", "--out", "run", "--force", "--json", *TINY)
    found = json.loads(stdout)
    assert code == 0
    assert found["task"] == "digits-256"
    assert found["steps"] == 4
    assert found["tokens"] == 4 * 4 * 256
    assert set(found["baselines"]) == {"majority class", "bag of tokens"}
    assert found["validation"]["layer2_rate16"] >= 0
    assert (tmp_path / "run" / "mine.txt").read_text() == "mine"
    assert not list((tmp_path / "run").glob(".*"))


def test_force_replaces_a_run_by_one_that_works_and_nothing_else(command, tmp_path):
    run = tmp_path / "run"

    def content() -> dict[Path, bytes]:
        return {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}

    assert command("train", "digits-256", "--out", "run", *TINY)[0] == 0
    before = content()
    force = ("train", "digits-256", "--out", "run", "--force", *TINY)
    for steps in ("1", "4"):
        code, _, stderr = command(*force, "--learning-rate", "1e38", "--steps", steps)
        assert (code, error_of(stderr).endswith("try a smaller learning rate")) == (3, True)
        assert content() == before
    notes = run / "model" / "notes.txt"
    notes.write_text("mine")
    code, _, stderr = command(*force)
    assert (code, error_of(stderr)) == (
        2, "error: --out run: not replaced, run/model/notes.txt is no part of the run there",
    )  # fmt: skip
    notes.unlink()
    assert content() == before
    (run / "run.json").write_text('{"mine": 1}')
    code, _, stderr = command(*force)
    assert code == 2
    assert error_of(stderr).startswith("error: --out run: not replaced, run/run.json: not the conf")


def test_patience_and_a_time_budget(command):
    code, stdout, stderr = command(
        "train", "digits-256", "--minutes", "0.005", "--patience", "1", "--json", *TINY[2:-2]
    )
    assert code == 0, stderr
    assert json.loads(stdout)["best_step"] >= 1


def test_several_machines_need_to_be_told_of_each_other(command, monkeypatch):
    for name in ("TORCHELASTIC_RUN_ID", "SLURM_JOB_ID", "MASTER_ADDR", "NODE_RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MASTER_PORT", "1")
    code, _, stderr = command("train", "digits-256", "--nodes", "2")
    assert (code, error_of(stderr)) == (
        2, "error: --nodes 2: expected the environment variables MASTER_ADDR, MASTER_PORT, "
        "NODE_RANK on each machine; not set: MASTER_ADDR, NODE_RANK",
    )  # fmt: skip


def test_a_folder_that_cannot_be_written_is_refused_before_the_work(command, monkeypatch, tmp_path):
    (tmp_path / "new").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    code, _, stderr = command("train", "digits-256", "--out", "new")
    assert (code, error_of(stderr)) == (2, "error: --out new: cannot write into new")


def test_a_split_without_examples_is_named(command):
    assert command("generate", "pathfinder32-easy", "few", "--count", "5")[0] == 0
    code, _, stderr = command("train", "pathfinder32-easy", "--data", "few", *TINY)
    assert code == 2
    assert "few: expected examples in the split validation, found none" in error_of(stderr)


def test_a_table_and_a_folder_and_lines_of_json_train_the_same_model(command, tmp_path):
    rows = list(csv.DictReader(REVIEWS.splitlines()))
    with (tmp_path / "reviews.jsonl").open("w") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    for number, row in enumerate(rows):
        (tmp_path / "films" / row["stars"]).mkdir(parents=True, exist_ok=True)
        (tmp_path / "films" / row["stars"] / f"{number:02}.txt").write_text(row["review"])
    columns = ("--text", "review", "--label", "stars")
    told = {}
    for name, options in (("reviews.csv", columns), ("reviews.jsonl", columns), ("films", ())):
        code, stdout, stderr = command("train", name, *options, *TINY, "--steps", "1", "--json")
        assert code == 0, stderr
        told[name] = json.loads(stdout)
        assert told[name].pop("run") is None
        assert told[name].pop("task") == name
    assert told["reviews.jsonl"] == told["reviews.csv"]
    # A folder's documents are read class by class, which divides them otherwise.
    assert set(told["films"]) == set(told["reviews.csv"])
    assert not list(tmp_path.rglob("run.json"))


def test_ctrl_c_saves_and_resume_ends_with_the_same_weights(command, tmp_path, monkeypatch):
    from workingpapers.adamra.classify import Batches

    assert command("train", "digits-256", "--out", "whole", *TINY)[0] == 0
    rows = Batches.rows

    def interrupted(self, index):
        if index == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return rows(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(Batches, "rows", interrupted)
        code, stdout, stderr = command("train", "digits-256", "--out", "my run", *TINY)
    assert (code, stdout) == (130, "")
    lines = stderr.strip().splitlines()
    assert "saved: workingpapers adamra train --resume 'my run' goes on" in lines
    assert lines[-1] == "error: interrupted"
    unfinished = (
        "error: my run: the run is unfinished (step 3 of 4); workingpapers adamra train "
        "--resume 'my run' goes on with it"
    )
    for verb in (["evaluate"], ["predict", "letter.txt"], ["inspect"]):
        code, _, stderr = command(verb[0], "my run", *verb[1:])
        assert (code, error_of(stderr)) == (2, unfinished)
    code, _, stderr = command("train", "--resume", "my run", "--steps", "9")
    assert (code, error_of(stderr)) == (
        2, "error: --steps: expected without --resume, which goes on as it was begun",
    )  # fmt: skip
    assert command("train", "--resume", "my run")[0] == 0
    weights = [(tmp_path / name / "model" / "model.safetensors").read_bytes()
               for name in ("whole", "my run")]  # fmt: skip
    assert weights[0] == weights[1]


def test_a_dry_run_tells_what_training_takes_and_writes_nothing(command, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    code, stdout, _ = command("train", "digits-256", "--dry-run", "--out", "run", *TINY)
    assert code == 0
    assert stdout.startswith("attention: adamra, rates 1, 4, 16, routing top1, ")
    assert "parameters, 4 steps of at most 1,024 tokens (1.0 epochs), about " in stdout
    code, stdout, _ = command("train", "digits-256", "--dry-run", "--json", *TINY)
    found = json.loads(stdout)
    assert found["steps"] == 4
    assert found["epochs"] == 1.0
    assert found["parameters"] > 2 * 8 * 8
    assert sorted(tmp_path.rglob("*")) == before


# ---- asking a trained run


def test_evaluate_has_the_agreed_keys(command, runs):
    code, stdout, stderr = command("evaluate", runs.own, "reviews.csv", "--json")
    found = json.loads(stdout)
    assert code == 0, stderr
    assert found["examples"] == 40
    assert found["majority_class"] == 0.5
    assert [row["class"] for row in found["classes"]] == ["bad", "good"]
    recall = np.mean([row["recall"] for row in found["classes"]])
    assert found["accuracy"] == pytest.approx(recall)
    assert {"loss", "layer1_rate4", "layer2_entropy"} < set(found)
    code, stdout, _ = command("evaluate", runs.own)
    assert code == 0
    assert "examples: accuracy " in stdout
    assert "layer 2: " in stdout
    code, stdout, _ = command("evaluate", runs.softmax, "--examples", "8")
    assert (code, "layer" in stdout) == (0, False)


def test_predict_prints_class_and_probability(command, runs, tmp_path):
    code, stdout, _ = command("predict", runs.own, "letter.txt")
    assert code == 0
    name, _, rest = stdout.strip().partition(": ")
    assert name == "letter.txt"
    assert rest.split(" (")[0] in ("good", "bad")
    code, stdout, _ = command("predict", runs.own, "reviews.csv", "--json", "--out", "a.csv")
    answers = json.loads(stdout)
    assert len(answers) == 40
    assert answers[0]["sequence"] == "reviews.csv: line 2"
    assert sum(answers[0]["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == [answer["class"] for answer in answers]
    assert float(rows[3]["probability"]) == pytest.approx(answers[3]["probability"])


def test_predict_on_a_folder_answers_for_each_file(command, runs, tmp_path):
    (tmp_path / "letters").mkdir()
    for name in ("b", "a"):
        (tmp_path / "letters" / f"{name}.txt").write_text(f"letter {name}")
    code, stdout, _ = command("predict", runs.own, "letters", "--json")
    assert code == 0
    answers = json.loads(stdout)
    assert [one["sequence"] for one in answers] == ["letters/a.txt", "letters/b.txt"]
    for answer in answers:
        assert answer["probability"] == max(answer["probabilities"].values())
        assert answer["probabilities"][answer["class"]] == answer["probability"]


def test_inspect_shows_each_sign_and_each_pixel(command, runs, tmp_path):
    code, stdout, _ = command("inspect", runs.own, "letter.txt", "--picture", "letter.svg")
    lines = stdout.splitlines()
    assert code == 0
    assert lines[1] == "resolutions:  1 each token   2 means of 4   3 means of 16"
    text = "the film was bright and [kind]"
    assert lines[3] == lines[6] == text[: len(lines[3])]
    assert set(lines[4]) <= set("123")
    assert len(lines[4]) == len(lines[3])
    assert (tmp_path / "letter.svg").read_bytes().startswith(b"<?xml")
    code, stdout, _ = command("inspect", runs.own, text, "--json")
    found = json.loads(stdout)
    (sequence,) = found["sequences"]
    assert "".join(sequence["tokens"]) == lines[3]
    marks = ["".join(str((1, 4, 16).index(rate) + 1) for rate in layer)
             for layer in sequence["rate_of_each"]]  # fmt: skip
    assert marks == [lines[4], lines[7]]
    code, stdout, _ = command("inspect", runs.own, "\u4e2d" * 100, "--json")
    assert (code, json.loads(stdout)["rates"]) == (0, [1, 4, 16])
    code, stdout, _ = command("inspect", runs.pixels, "--example", "2")
    assert code == 0
    assert [len(line) for line in stdout.splitlines()[3:19]] == [16] * 16
    code, stdout, _ = command("inspect", runs.listops, "[MAX 3 [MIN 4 5 ] 9 ]")
    assert stdout.splitlines()[3] == "[MAX 3 [MIN 4 5 ] 9 ]"
    code, _, stderr = command("inspect", runs.softmax, "--example", "1")
    assert error_of(stderr) == "error: attention sdpa: it has no resolutions to choose from"


def test_inspect_alone_shows_the_course_of_training(command, runs, tmp_path):
    code, stdout, _ = command("inspect", runs.pixels, "--json", "--picture", "shares.svg")
    found = json.loads(stdout)
    assert code == 0
    assert found["rates"] == [1, 4, 16]
    assert [row["step"] for row in found["shares"]] == [1, 2, 3]
    for row in found["shares"]:
        assert [sum(layer) for layer in row["layers"]] == pytest.approx([1, 1])
    assert (tmp_path / "shares.svg").stat().st_size > 2000
    code, stdout, _ = command("inspect", runs.pixels)
    assert stdout.splitlines()[-1].startswith("step 3: layer 1 ")
    code, _, stderr = command("inspect", runs.softmax)
    assert "expected shares of tokens by resolution, found none" in error_of(stderr)


def test_pictures_of_scores(command, runs, tmp_path):
    for run, name in ((runs.listops, "depth.svg"), (runs.pixels, "confusion.svg")):
        code, _, stderr = command("evaluate", run, "--examples", "30", "--picture", name)
        assert code == 0, stderr
        assert f"picture: {name}" in stderr
        assert (tmp_path / name).stat().st_size > 2000


# ---- what needs no run


def test_generate_writes_what_the_tasks_read(command, tmp_path):
    code, stdout, _ = command("generate", "listops-short", "lists", "--count", "60", "--json")
    assert code == 0
    assert json.loads(stdout)["written"] == {
        "lists/basic_train.tsv": 58, "lists/basic_val.tsv": 1, "lists/basic_test.tsv": 1,
    }  # fmt: skip
    code, _, stderr = command(
        "generate", "pathfinder32-easy", "paths", "--count", "12", "--picture", "some.png"
    )
    assert code == 0, stderr
    from workingpapers.adamra.pathfinder import Pathfinder
    from workingpapers.adamra.tasks import open_task

    read = open_task("listops-short", Path("lists")).sample("train", None, 0)
    assert len(read) == 58
    images, labels = Pathfinder(32, 6).images(12, 0)
    read = open_task("pathfinder32-easy", Path("paths")).sample("train", None, 0)
    order = [np.flatnonzero((images.reshape(12, -1) == row - 1).all(axis=1))[0]
             for row in read.tokens]  # fmt: skip
    assert np.array_equal(labels[order], read.labels)
    code, stdout, stderr = command(
        "train", "listops-short", "--data", "lists", "--length", "64", "--json", *TINY
    )
    assert code == 0, stderr
    assert json.loads(stdout)["tokens"] <= 4 * 4 * 64
    code, _, stderr = command("generate", "listops", "lists", "--count", "60")
    assert error_of(stderr) == "error: OUT lists: the folder is not empty; --force writes into it"


def test_scaling_measures_each_length(command, tmp_path):
    code, stdout, stderr = command(
        "scaling", "--lengths", "32", "--dim", "8", "--heads", "2", "--repeats", "1",
        "--forward-only", "--picture", "s.svg", "--json",
    )  # fmt: skip
    assert code == 0, stderr
    found = json.loads(stdout)
    (row,) = found["measurements"]
    assert (row["name"], row["length"], row["failed"]) == ("adamra", 32, "")
    assert row["cpu_seconds"] > 0
    # One point has no slope.
    assert found["slopes"] == {"adamra": {"time": None, "memory": None}}
    assert (tmp_path / "s.svg").is_file()


def test_tasks_lists_every_task(command):
    from workingpapers.adamra.tasks import TASKS

    code, stdout, _ = command("tasks", "--json")
    rows = json.loads(stdout)
    assert code == 0
    assert [row["task"] for row in rows] == list(TASKS)
    assert all(row["licence"] for row in rows if row["task"] != "cifar10")
    code, stdout, _ = command("tasks")
    assert "digits-1024: 1,024 tokens, 10 classes" in stdout


def test_every_verb_has_an_example_in_its_help(command):
    for verb in ("train", "evaluate", "predict", "scaling", "generate", "inspect", "tasks"):
        code, stdout, _ = command(verb, "--help")
        assert code == 0
        assert f"Example: workingpapers adamra {verb}" in " ".join(stdout.split())


def test_help_imports_neither_numpy_nor_torch():
    script = (
        "import sys, workingpapers.adamra.cli; "
        "print([m for m in ('numpy', 'torch', 'matplotlib') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert found.stdout.strip() == "[]", found.stderr


# ---- bad input

OUT = ("--out", "new")
FILES = {
    "empty.csv": b"text,label\nfine,a\n ,b\n",
    "classless.csv": b"text,label\nfine,a\ngood,\n",
    "latin.csv": b"text,label\nfine,a\nna\xefve,b\n",
    "one.csv": b"text,label\nfine,a\ngood,a\n",
    "header.csv": b"text,label\n",
    "films/a/1.txt": b"fine",
    "films/b/1.txt": b"\n",
    "same/a/1.txt": b"fine",
}
TASK_NAMES = (
    "listops, listops-short, pathfinder32, pathfinder32-9, pathfinder32-easy, pathfinder64, text, "
    "retrieval, digits-256, digits-1024, cifar10"
)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("train chess", f"chess: no such file or folder, and no task; there are {TASK_NAMES}"),
        ("train reviews.csv", "reviews.csv: line 2: no column 'text'; it has review, stars"),
        ("train reviews.csv --text review --label mark",
         "reviews.csv: line 2: no column 'mark'; it has review, stars"),
        ("train empty.csv", "empty.csv: line 3: the text in 'text' is empty"),
        ("train classless.csv", "classless.csv: line 3: the class in 'label' is empty"),
        ("train latin.csv",
         "latin.csv: line 3: expected text in UTF-8, found the byte 0xef; save the file as UTF-8"),
        ("train one.csv", "one.csv: expected two classes or more, found a"),
        ("train header.csv", "header.csv: the file has no documents"),
        ("train films", "films/b/1.txt: the text is empty"),
        ("train same", "same: expected two classes or more, found a"),
        ("train digits-256 --rates 4,1", "--rates (4, 1): expected them to grow, each once"),
        ("train digits-256 --rates 4,4", "--rates (4, 4): expected them to grow, each once"),
        ("train digits-256 --rates 0",
         "--rates (0,): expected one or more whole numbers of at least 1"),
        ("train digits-256 --rates x",
         "--rates x: expected whole numbers with commas between them"),
        ("train digits-256 --dim 9 --heads 2", "--heads 2: expected a divisor of dim 9"),
        ("train digits-256 --steps 3 --minutes 1", "--minutes: expected without --steps"),
        ("train digits-256 --minutes nan", "--minutes nan: expected a number above 0"),
        ("train digits-256 --learning-rate nan", "--learning-rate nan: expected a number above 0"),
        ("train listops --data gone", "gone: no such file or folder"),
        ("train digits-256 --data gone", "gone: no such file or folder"),
        ("train listops --label x",
         "text, label: expected a file of own texts, not the task listops"),
        ("train digits-256 --out films",
         "--out films: the folder is not empty and holds no run"),
        ("train --resume films",
         "films: expected the folder of a run, with its run.json, found none"),
        ("evaluate films", "films: expected the folder of a run, with its run.json, found none"),
        ("evaluate gone", "gone: expected the folder of a run, with its run.json, found nothing"),
        ("predict letter.txt letter.txt",
         "letter.txt: expected the folder of a run, with its run.json, found a file"),
        ("inspect films --picture a.jpg",
         "--picture a.jpg: expected a name that ends in .svg, .png or .pdf"),
        ("scaling --lengths 8 --picture a",
         "--picture a: expected a name that ends in .svg, .png or .pdf"),
        ("scaling --lengths 0", "length 0: expected at least 1"),
        ("scaling --lengths 8 --rates 4,1", "--rates (4, 1): expected them to grow, each once"),
        ("scaling --lengths 8 --dim 8 --heads 3", "--heads 3: expected a divisor of dim 8"),
        ("scaling --lengths 8 --limit nan", "--limit nan: expected seconds above 0"),
    ],
)  # fmt: skip
def test_errors_before_anything_is_read_or_trained(command, tmp_path, arguments, message):
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    before = sorted(tmp_path.rglob("*"))
    verb, *rest = arguments.split()
    out = () if verb != "train" or {"--out", "--resume"} & set(rest) else OUT
    assert command(verb, *rest, *out) == (2, "", f"error: {message}\n")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train"], "TASK|DATA: expected a task, a file or a folder (or --resume RUN)"),
        (["train", "gone.csv", *OUT], "gone.csv: no such file or folder, and no task; there are"),
        (["train", "reviews.csv", *OUT], "reviews.csv: line 2: no column 'text'; it has review"),
        (["train", "letter.txt", *OUT], "letter.txt: expected two classes or more, found none"),
        (["train", "listops-short", *OUT, "--rates", "4,1"], "--rates (4, 1): expected them"),
        (["train", "listops-short", *OUT, "--rates", "a"], "--rates a: expected whole numbers"),
        (["train", "digits-256", *OUT, "--dim", "9", "--heads", "2"], "--heads 2: expected a"),
        (["train", "digits-256", *OUT, "--attention", "full"], "--attention 'full': expected"),
        (["train", "digits-256", *OUT, "--protocol", "x"], "--protocol 'x': expected compact, lra"),
        (["train", "digits-256", *OUT, "--pooling", "max"], "--pooling max: expected mean, cls"),
        (["train", "digits-256", *OUT, "--steps", "3", "--minutes", "1"], "--minutes: expected"),
        (["train", "digits-256", *OUT, "--minutes", "-1"], "--minutes -1: expected a number above"),
        (["train", "digits-256", *OUT, "--data", "letter.txt"], "letter.txt: digits-256 is"),
        (["train", "digits-256", *OUT, "--length", "9"], "--length: digits-256 has 256 tokens"),
        (["train", "digits-256", *OUT, "--strategy", "x"], "--strategy x: expected auto, ddp"),
        (["train", "digits-256", *OUT, "--precision", "8"], "--precision 8: expected 32-true"),
        (["train", "digits-256", *OUT, "--learning-rate", "0"], "--learning-rate 0.0: expected"),
        (["train", "digits-256", "--out", "letter.txt"], "--out letter.txt: expected a folder"),
        (["train", "digits-256", "--out", "letter.txt/x"], "--out letter.txt/x: expected a folder"),
        (["train", ""], "TASK|DATA: expected a task, a file or a folder (or --resume RUN)"),
        (["train", "digits-256", *OUT, "--rates", "9" * 20], "--rates 99999999999999999999: exp"),
        (["train", "digits-256", *OUT, "--seed", "9" * 20], "--seed 99999999999999999999: exp"),
        (["inspect", "OWN", "a\udcff"], "the argument 'a\\udcff': expected text in UTF-8"),
        (["train", "digits-256", "--out", "."], "--out .: the folder is not empty and"),
        (["train", "digits-256", "--steps", "0"], "Invalid value for '--steps'"),
        (["train", "cifar10", *OUT], "cifar10: expected data, the folder of CIFAR-10's binary"),
        (["train", "--resume", "gone"], "gone: expected the folder of a run, with its run.json"),
        (["train", "digits-256", "--resume", "x"], "TASK|DATA: expected without --resume"),
        (["train", "--resume", "OWN", "--devices", "2"], "--devices 2, --nodes 1: expected 1 proc"),
        (["evaluate", "letter.txt"], "letter.txt: expected the folder of a run"),
        (["evaluate", "OWN", "--split", "dev"], "--split dev: expected train, validation, test"),
        (["evaluate", "OWN", "gone"], "gone: no such file or folder"),
        (["evaluate", "OWN", "letter.txt"], "letter.txt: expected one of the run's"),
        (["evaluate", "OWN", "--picture", "letter.txt"], "--picture letter.txt: expected"),
        (["evaluate", "OWN", "--picture", "a.gif"], "--picture a.gif: expected a name that"),
        (["predict", "OWN", "gone.txt"], "gone.txt: no such file or folder"),
        (["predict", "OWN", "reviews.csv", "--text", "x"], "reviews.csv: line 2: no column 'x'"),
        (["predict", "OWN", "letter.txt", "--out", "no/a.csv"], "--out no/a.csv: the folder no"),
        (["predict", "PIXELS", "letter.txt"], "letter.txt: not a picture that can be read"),
        (["predict", "PIXELS", "."], ".: expected .png pictures in it, found none"),
        (["predict", "LISTOPS", "letter.txt"], "letter.txt: expected symbols of [MIN"),
        (["inspect", "OWN", ""], "TEXT: the text is empty"),
        (["inspect", "OWN", "--example", "99"], "--example 99: there are 1 to 4"),
        (["inspect", "OWN", "a", "--example", "1"], "--example: expected without a text or file"),
        (["inspect", "PIXELS", "hello"], "TEXT: expected a picture, the run classifies pixels"),
        (["generate", "chess", "new"], "TASK chess: expected listops, listops-short, pathfinder32"),
        (["generate", "listops", "letter.txt"], "OUT letter.txt: expected a folder, found a file"),
        (["generate", "listops", "new", "--picture", "a.png"], "--picture: expected with"),
        (["scaling", "--lengths", "x"], "--lengths x: expected whole numbers with commas"),
        (["scaling", "--against", "full"], "attention 'full': expected adamra, adamra-coarse"),
    ],
)  # fmt: skip
def test_bad_input_gets_one_line_and_nothing_is_written(
    command, runs, tmp_path, arguments, message
):
    places = {"OWN": runs.own, "PIXELS": runs.pixels, "LISTOPS": runs.listops}
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    code, stdout, stderr = command(*(places.get(one, one) for one in arguments))
    assert (code, stdout) == (2, "")
    assert len(stderr.strip().splitlines()) == 1
    assert error_of(stderr).startswith(f"error: {message}")
    after = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    assert after == before
    assert not (tmp_path / "new").exists()
