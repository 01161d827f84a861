"""Each verb on a file of one's own, and one clear line for each kind of bad input."""

import json
import sqlite3

import numpy as np
import pytest

FAST = ("--epochs", "150")


@pytest.fixture
def model(command, table):
    code, _, stderr = command("fit", table, "--target", "ill", "--out", "model", *FAST)
    assert code == 0, stderr
    return "model"


def test_fit_prints_formulas_with_their_guarantee(command, table):
    code, stdout, stderr = command("fit", table, "--target", "ill", *FAST)
    assert code == 0
    assert "forall x: ill(x) <-> " in stdout
    assert "smoker = yes" in stdout
    assert "[observed, minimum]" in stdout
    assert "held-out rows: formulas" in stdout
    assert "Traceback" not in stderr


def test_fit_as_json_is_json_alone_on_stdout(command, table):
    code, stdout, _ = command("fit", table, "--target", "ill", "--json", *FAST)
    found = json.loads(stdout)
    assert code == 0
    assert set(found["classes"]) == {"ill", "well"}
    assert found["classes"]["ill"]["shortness"] == "minimum"
    assert 0.9 < found["fidelity"] <= 1


def test_every_format_of_explain_holds_on_the_file(command, table, model):
    import csv

    people = list(csv.DictReader(table.open()))
    ill = [row["ill"] == "ill" for row in people]
    exported = {}
    for format in ("text", "sql", "sympy", "python", "prolog", "latex", "json"):
        code, stdout, stderr = command("explain", model, "--class", "ill", "--format", format)
        assert code == 0, stderr
        exported[format] = stdout
    database = sqlite3.connect(":memory:")
    database.execute("create table t (age real, smoker text, colour text)")
    database.executemany(
        "insert into t values (?, ?, ?)",
        [(float(row["age"]), row["smoker"], row["colour"]) for row in people],
    )
    chosen = [bool(one) for (one,) in database.execute(f"select {exported['sql']} from t")]
    scope: dict = {}
    exec(exported["python"], scope)
    (function,) = [one for name, one in scope.items() if name != "__builtins__"]
    python = [function({**row, "age": float(row["age"])}) for row in people]
    assert chosen == [bool(one) for one in python]
    assert np.mean([one == truth for one, truth in zip(chosen, ill, strict=True)]) > 0.9
    assert json.loads(exported["json"])
    assert ":-" in exported["prolog"]
    assert r"\forall" in exported["latex"]
    assert "observed" in exported["text"]


def test_explain_styles_and_one_row(command, table, model):
    code, stdout, _ = command("explain", model, "--class", "ill", "--style", "if")
    assert (code, " <- " in stdout) == (0, True)
    code, stdout, _ = command("explain", model, "--style", "only-if", "--guarantee", "valid")
    assert (code, " -> " in stdout) == (0, True)
    code, stdout, _ = command("explain", model, table, "--row", "1", "--json")
    row = json.loads(stdout)
    assert (code, row["row"], row["class"], row["extrapolates"]) == (0, 1, "well", False)


def test_evaluate_has_the_agreed_keys(command, table, model):
    code, stdout, _ = command("evaluate", model, table, "--json")
    scores = json.loads(stdout)
    assert code == 0
    assert set(scores["all"]) == {
        "model_accuracy", "explanation_accuracy", "fidelity", "literals", "extraction_seconds",
        "rows",
    }  # fmt: skip
    assert scores["all"]["rows"] == 120
    assert set(scores["classes"]) == {"ill", "well"}
    code, stdout, _ = command("evaluate", model, table)
    assert code == 0
    assert "explanation accuracy" in stdout


def test_pictures_are_drawn(command, table, model):
    for plot in ("cards", "front", "relevance", "coverage"):
        code, _, stderr = command("explain", model, "--plot", plot, "--picture", f"{plot}.svg")
        assert code == 0, stderr
        assert (table.parent / f"{plot}.svg").read_bytes().startswith(b"<?xml")
    assert command("evaluate", model, table, "--picture", "c.png")[0] == 0
    assert (table.parent / "c.png").read_bytes().startswith(b"\x89PNG")


def test_cluster_writes_assignments(command, table):
    code, stdout, stderr = command(
        "cluster", table, "--clusters", "2", "--drop", "ill", "--restarts", "2", *FAST,
        "--assignments", "rows.csv",
    )  # fmt: skip
    assert code == 0, stderr
    lines = (table.parent / "rows.csv").read_text().splitlines()
    assert lines[0] == "row,cluster"
    assert len(lines) == 121
    assert stdout.count("forall x: ") == 2


def test_distill_takes_a_column_a_file_or_a_trusted_model(command, table, tmp_path):
    code, stdout, stderr = command("distill", table, "--predictions", "ill", *FAST)
    assert code == 0, stderr
    assert "forall x: ill(x)" in stdout
    answers = ["answer"] + [line.rsplit(",", 1)[1] for line in table.read_text().split()[1:]]
    (tmp_path / "answers.csv").write_text("\n".join(answers) + "\n")
    code, again, _ = command(
        "distill", table, "--predictions", "answers.csv", "--drop", "ill", *FAST
    )
    assert (code, again.splitlines()[:2]) == (0, stdout.splitlines()[:2])


def test_distill_loads_a_pickle_only_when_trusted(command, tmp_path):
    import joblib
    from sklearn.tree import DecisionTreeClassifier

    X = np.random.default_rng(0).random((200, 2))
    joblib.dump(DecisionTreeClassifier().fit(X, X[:, 0] > 0.5), tmp_path / "box.joblib")
    np.savetxt(tmp_path / "x.csv", X, delimiter=",", header="a,b", comments="")
    code, _, stderr = command("distill", "x.csv", "--predictions", "box.joblib", *FAST)
    assert code == 2
    assert stderr.strip() == (
        "error: box.joblib: a pickled model can run any code; --trust loads it if you know its "
        "origin"
    )
    code, stdout, _ = command("distill", "x.csv", "--predictions", "box.joblib", "--trust", *FAST)
    assert code == 0
    assert "a > 0.5" in stdout or "a > 0.4" in stdout


def test_minimize_reads_a_truth_table(command, tmp_path):
    (tmp_path / "gate.csv").write_text("a,b,c,out\n0,0,0,0\n1,1,0,1\n1,1,1,1\n0,1,1,-\n0,0,1,1\n")
    code, stdout, stderr = command("minimize", "gate.csv")
    assert code == 0
    assert "out(x) <-> " in stdout
    assert "minimum" in stderr
    code, stdout, _ = command("minimize", "gate.csv", "--others", "free", "--json")
    assert json.loads(stdout)["literals"] == 2
    (tmp_path / "bad.csv").write_text("a,out\n0,0\n2,1\n")
    code, _, stderr = command("minimize", "bad.csv")
    assert code == 2
    assert stderr.strip() == "error: bad.csv: column 'a', row 2: expected 0 or 1, found '2'"


def test_compare_shows_a_tree_beside_the_network(command, table):
    code, stdout, _ = command("compare", table, "--target", "ill", "--folds", "3", "--json", *FAST)
    found = json.loads(stdout)
    assert code == 0
    methods = {row["method"]: row for row in found["methods"]}
    assert {"LEN (mu)", "decision tree, depth 5"} <= set(methods)
    assert methods["decision tree, depth 5"]["fidelity"] == 1.0
    assert set(found["not_installed"]) <= {"RIPPER", "greedy rule list"}


BROKEN = {
    "clash.csv": b"a,out\n0,1\n1,0\n0,0\n",
    "binary.csv": bytes(range(256)) * 4,
    "latin.csv": "name,ill\nJosé,a\n".encode("latin-1"),
    "ragged.csv": b"a,b,ill\n1,2,x\n1,2\n3,4,y\n",
    "empty.csv": b"",
    "norows.csv": b"a,b,ill\n",
    "twice.csv": b"a,a,ill\n1,2,x\n3,4,y\n",
    "constant.csv": b"a,b,ill\n1,2,x\n3,4,x\n5,6,x\n",
    "hole.csv": b"a,b,ill\n1,,x\n3,,y\n5,,x\n6,,y\n",
    "fine.csv": b"a,b,ill\n1,2,x\n3,4,y\n5,6,x\n7,8,y\n",
}


@pytest.mark.parametrize(
    ("arguments", "culprits"),
    [
        (["fit", "gone.csv", "--target", "ill"], ["gone.csv", "no such file"]),
        (["fit", "fine.csv", "--target", "sick"], ["fine.csv", "'sick'", "a, b, ill"]),
        (["fit", "fine.csv"], ["--target", "a, b, ill"]),
        (["fit", "constant.csv", "--target", "ill"], ["constant.csv", "'ill'", "always 'x'"]),
        (["fit", "hole.csv", "--target", "ill"], ["hole.csv", "'b'", "no value in any row"]),
        (["fit", "latin.csv", "--target", "ill"], ["latin.csv", "UTF-8"]),
        (["fit", "binary.csv", "--target", "ill"], ["binary.csv"]),
        (["fit", "ragged.csv", "--target", "ill"], ["ragged.csv", "line 3", "3", "2"]),
        (["fit", "empty.csv", "--target", "ill"], ["empty.csv", "empty"]),
        (["fit", "norows.csv", "--target", "ill"], ["norows.csv", "no rows"]),
        (["fit", "twice.csv", "--target", "ill"], ["twice.csv", "'a'"]),
        (["fit", "fine.csv", "--target", "ill", "--net", "nu"], ["--net nu", "mu, psi"]),
        (["fit", "fine.csv", "--target", "ill", "--max-concepts", "x"], ["--max-concepts x"]),
        (["fit", "fine.csv", "--target", "ill", "--out", "fine.csv"], ["--out fine.csv", "folder"]),
        (["fit", "fine.csv", "--target", "ill", "--out", "used"], ["--out used", "not empty"]),
        (["explain", "model", "--class", "dead"], ["dead", "no such class", "ill, well"]),
        (["explain", "model", "people.csv", "--row", "121"], ["--row 121", "rows 1 to 120"]),
        (["explain", "model", "people.csv", "--row", "0"], ["--row 0", "rows 1 to 120"]),
        (["explain", "model", "fine.csv", "--row", "1"], ["fine.csv", "'age'"]),
        (["explain", "model", "--guarantee", "total"], ["--guarantee total", "observed"]),
        (["explain", "model", "--format", "xml"], ["--format xml", "text, sql"]),
        (["explain", "model", "--style", "maybe"], ["--style maybe", "only-if"]),
        (["explain", "model", "--picture", "x.gif"], ["x.gif", ".svg"]),
        (["explain", "used"], ["used"]),
        (["explain", "truncated"], ["truncated/network.safetensors"]),
        (["explain", "newer"], ["newer/config.json", "99"]),
        (
            ["evaluate", "model", "fine.csv", "--target", "ill"],
            ["fine.csv", "the model does not know the class 'x'"],
        ),
        (
            ["fit", "fine.csv", "--target", "ill", "--out", "used", "--force"],
            ["--out used", "not empty"],
        ),
        (["explain", "model", "--picture", "people.csv"], ["--picture people.csv", "exists"]),
        (["explain", "model", "--picture", "no/x.svg"], ["--picture no/x.svg", "does not exist"]),
        (["explain", "model", "--plot", "pie"], ["--plot pie", "cards"]),
        (["explain", "edited"], ["edited", "3 classes do not fit a network of 1 heads"]),
        (["minimize", "clash.csv"], ["clash.csv", "rows 1 and 3", "different outputs"]),
        (
            ["cluster", "fine.csv", "--clusters", "2", "--assignments", "fine.csv"],
            ["fine.csv: the file exists"],
        ),
        (
            ["distill", "constant.csv", "--predictions", "ill"],
            ["--predictions ill", "every answer is 'x'"],
        ),
        (["cluster", "fine.csv", "--clusters", "9"], ["--clusters 9", "only 4 rows"]),
        (["distill", "fine.csv", "--predictions", "gone"], ["--predictions gone"]),
        (["compare", "fine.csv", "--target", "ill", "--folds", "3"], ["--folds 3", "2 rows"]),
    ],
)  # fmt: skip
def test_bad_input_gets_one_line_that_names_the_culprit(
    command, table, tmp_path, arguments, culprits, request
):
    for name, content in BROKEN.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "mine.txt").write_text("mine")
    folders = ("model", "truncated", "newer", "edited")
    if set(folders) & set(arguments):
        folder = next(name for name in folders if name in arguments)
        assert command("fit", table, "--target", "ill", "--out", folder, "--epochs", "20")[0] == 0
        if folder == "truncated":
            file = tmp_path / folder / "network.safetensors"
            file.write_bytes(file.read_bytes()[:100])
        if folder == "newer":
            file = tmp_path / folder / "config.json"
            file.write_text(json.dumps({**json.loads(file.read_text()), "format": 99}))
        if folder == "edited":
            file = tmp_path / folder / "config.json"
            file.write_text(file.read_text().replace('"well"', '"well",\n"dead"'))
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    code, stdout, stderr = command(*arguments)
    assert code == 2, stdout + stderr
    lines = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, stderr
    others = [line for line in stderr.splitlines() if line not in lines]
    assert all(line.startswith("note: ") for line in others)
    for culprit in culprits:
        assert culprit in lines[0]
    assert "Traceback" not in stderr
    after = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    assert after == before


def test_one_class_can_be_evaluated_and_dates_are_words(command, table, tmp_path):
    lines = table.read_text().splitlines()
    dated = [lines[0] + ",seen"] + [f"{line},2020-01-{1 + n % 28:02d}" for n, line in
                                    enumerate(lines[1:])]  # fmt: skip
    (tmp_path / "dated.csv").write_text("\n".join(dated) + "\n")
    code, _, stderr = command("fit", "dated.csv", "--target", "ill", "--out", "m", *FAST)
    assert code == 0, stderr
    well = [dated[0], *[line for line in dated[1:] if ",well," in line][:3]]
    (tmp_path / "well.csv").write_text("\n".join(well) + "\n")
    code, stdout, stderr = command("evaluate", "m", "well.csv", "--json")
    assert code == 0, stderr
    assert json.loads(stdout)["all"]["rows"] == 3


def test_no_literals_is_the_better_constant(command, table, model):
    code, stdout, _ = command("explain", model, "--class", "well", "--max-literals", "0")
    assert (code, "well(x) <-> True" in stdout) == (0, True)
    code, stdout, _ = command("explain", model, "--class", "ill", "--max-literals", "0")
    assert (code, "ill(x) <-> False" in stdout) == (0, True)
