"""The main job: verdicts, failures, needs, resuming, and the same numbers again."""

import json
import os
import signal
import sys
import time

import pytest

from workingpapers.reproduce.store import TaskStore, decode, encode


def measured(findings: dict[str, dict]) -> dict[str, tuple]:
    """All that must repeat: values and verdicts, without durations and memory."""
    return {
        name: (one["values"], one["measured"], one["low"], one["high"], one["verdict"])
        for name, one in findings.items()
    }


def test_every_claim_appears_with_its_verdict_and_the_reason_for_none(package):
    code, found = package.findings("good")
    assert code == 0
    assert {name: one["verdict"] for name, one in found.items()} == {
        "good/mean": "reproduced",
        "good/exact": "reproduced",
        "good/duration": "reproduced",
        "good/larger": "not testable at this scale",
        "good/file": "not testable here",
        "good/peer": "not testable here",
    }
    assert found["good/file"]["reason"] == "needs --data good.cohort=PATH (a CSV)"
    assert found["good/peer"]["reason"].startswith("no_such_peer is not installed: pip install")
    assert found["good/mean"]["runs"] == 3
    assert found["good/mean"]["seconds"] is not None
    report = package.folder / "report"
    for file in ("index.html", "findings.json", "environment.json", "good/results.json",
                 "good/run.log", "good/figures/dot.svg"):  # fmt: skip
        assert (report / file).is_file(), file
    assert json.loads((report / "findings.json").read_text())["schema"] == 1


def test_a_users_file_makes_its_claim_testable(package):
    cohort = package.folder / "cohort.csv"
    cohort.write_text("a,b\n")
    code, found = package.findings("good", "--data", f"good.cohort={cohort}")
    assert (code, found["good/file"]["measured"]) == (0, 4.0)


def test_the_failing_system_leaves_the_good_one_alone(package):
    code, found = package.findings()
    assert code == 1
    assert found["good/mean"]["verdict"] == "reproduced"
    assert found["bad/first"]["verdict"] == "reproduced"
    assert found["bad/second"]["verdict"] == "failed"
    assert found["bad/second"]["reason"] == "RuntimeError('no luck today')"
    assert "no luck today" in (package.folder / "report/bad/run.log").read_text()


@pytest.mark.parametrize(
    ("how", "claim", "reason"),
    [
        ("nothing", "bad/second", "not measured"),
        ("twice", "bad/first", "measured 2 times; once is expected"),
        ("unknown", "bad/second", "'third', which is not declared"),
        ("task", "bad/second", "no luck today"),
        ("kill", "bad/second", "died twice"),
        ("die", "bad/first", "SIGKILL"),
    ],
)
def test_what_goes_wrong_in_a_system_is_said_in_its_claims(package, how, claim, reason):
    code, found = package.findings("bad", BREAK=how)
    assert code == 1
    assert found[claim]["verdict"] == "failed"
    assert reason in found[claim]["reason"]


def test_two_fresh_folders_and_one_or_two_workers_give_the_same_numbers(package):
    _, first = package.findings("good", "--out", "one", "--jobs", "1")
    _, second = package.findings("good", "--out", "two", "--jobs", "2")
    assert measured(first) == measured(second)
    assert first["good/mean"]["low"] < first["good/mean"]["measured"]


def test_ray_gives_the_same_numbers(package):
    pytest.importorskip("ray", reason="ray is not installed")
    if len(sys.executable.split()) > 1:
        pytest.skip("Ray cannot start from a path with blanks")
    _, local = package.findings("good", "--out", "one")
    code, ray = package.findings("good", "--out", "two", "--engine", "ray", "--jobs", "2")
    assert code == 0
    assert measured(local) == measured(ray)


def test_a_second_run_is_served_from_the_store_until_seed_code_or_fresh_say_otherwise(package):
    _, first = package.findings("good")
    assert len(package.calls()) == 9
    _, again = package.findings("good")
    assert len(package.calls()) == 9
    assert measured(first) == measured(again)
    _, other = package.findings("good", "--seed", "1")
    assert len(package.calls()) == 18
    assert other["good/mean"]["values"] != first["good/mean"]["values"]
    with (package.source / "good" / "experiment.py").open("a") as file:
        file.write("# an edit\n")
    package.findings("good")
    assert len(package.calls()) == 27
    package.findings("good", "--fresh")
    assert len(package.calls()) == 36


def test_after_sigkill_only_the_tasks_in_work_run_again(package):
    process = package.start("good", "--jobs", "2", SLOW="0.5")
    package.wait_for_calls(5)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(0.5)
    before = package.calls()
    kept = len(list((package.folder / "report/good/tasks").glob("*.json")))
    assert 2 <= kept <= 4
    _, found = package.findings("good")
    assert len(package.calls()) - len(before) == 9 - kept
    _, fresh = package.findings("good", "--out", "fresh")
    assert measured(found) == measured(fresh)


def test_ctrl_c_ends_with_130_and_the_next_run_goes_on(package):
    process = package.start("good", SLOW="0.5")
    package.wait_for_calls(5)
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert stderr.strip().splitlines()[-1] == "error: interrupted"
    assert "Traceback" not in stderr
    kept = len(list((package.folder / "report/good/tasks").glob("*.json")))
    before = len(package.calls())
    assert package.findings("good")[0] == 0
    assert len(package.calls()) - before == 9 - kept


def test_one_claim_alone_keeps_the_others_of_the_same_scale_and_seed(package):
    package.findings("good")
    _, found = package.findings("--claim", "good/exact")
    assert len(found) == 6
    _, found = package.findings("--claim", "good/exact", "--seed", "5")
    assert list(found) == ["good/exact"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nope"], "nope: no such system; built are good, bad"),
        (["--scale", "huge"], "--scale huge: expected quick, laptop, paper"),
        (["--engine", "threads"], "--engine threads: expected local or ray"),
        (["--claim", "good/nope"], "--claim good/nope: no such claim; `workingpapers papers good` "
         "lists them"),
        (["--claim", "mean"], "--claim mean: expected SYSTEM/ID"),
        (["bad", "--claim", "good/mean"], "--claim good/mean: good is not among the systems named"),
        (["good", "--data", "cohort=x"], "--data cohort=x: expected SYSTEM.NAME=PATH"),
        (["good", "--data", "good.other=x"], "--data good.other: good takes cohort"),
        (["good", "--data", "good.cohort=gone.csv"],
         "--data good.cohort=gone.csv: no such file or folder"),
        (["--against", "gone.json"], "--against gone.json: no such file"),
        (["--device", "tpu"], "--device tpu: expected auto, cpu or cuda"),
        (["--out", "used"], "--out used: the folder is not empty; --force writes into it"),
        (["--xyzzy"], "No such option: --xyzzy"),
    ],
)  # fmt: skip
def test_bad_requests_get_one_line_and_exit_code_2(package, arguments, message):
    (package.folder / "used").mkdir()
    (package.folder / "used" / "mine.txt").write_text("mine")
    code, stdout, stderr = package.run(*arguments)
    assert (code, stdout) == (2, "")
    assert stderr.strip() == f"error: {message}"
    assert (package.folder / "used" / "mine.txt").read_text() == "mine"
    assert not (package.folder / "report").exists()


def test_a_named_system_that_lacks_something_stops_the_run_and_an_unnamed_one_does_not(package):
    file = package.source / "bad" / "experiment.py"
    text = file.read_text().replace("), run)", "), run, Needs(packages=('no_such_package',)))")
    file.write_text(text)
    code, _, stderr = package.run("bad")
    assert code == 2
    assert stderr.strip() == (
        "error: bad: no_such_package is not installed: pip install 'workingpapers[bad]' brings it"
    )
    code, found = package.findings()
    assert code == 0
    assert {one["system"] for one in found.values()} == {"good"}
    assert "no_such_package is not installed" in (
        package.folder / "report/index.html").read_text()  # fmt: skip


def test_against_tells_agreement_difference_absence_and_scale(package):
    package.findings("good", "--out", "theirs")
    file = package.folder / "theirs" / "findings.json"
    content = json.loads(file.read_text())
    by_claim = {one["claim"]: one for one in content["findings"]}
    by_claim["exact"]["measured"] = 4.0
    by_claim["duration"]["scale"] = "laptop"
    content["findings"].remove(by_claim["larger"])
    content["findings"].append({**by_claim["mean"], "claim": "extra"})
    file.write_text(json.dumps(content))
    code, stdout, _ = package.run("good", "--against", "theirs", "--json")
    rows = {row["claim"]: row["agreement"] for row in json.loads(stdout)["against"]}
    assert code == 0
    assert rows == {
        "mean": "agrees",
        "exact": "differs",
        "duration": "not comparable (scale)",
        "larger": "only here",
        "file": "not comparable",
        "peer": "not comparable",
        "extra": "only there",
    }


def test_results_keep_their_types_through_the_store(tmp_path):
    import numpy as np

    store = TaskStore(tmp_path, {"seed": 0})
    result = {"a": [np.float64(0.1), np.int64(3), True, None, "x"], "m": np.eye(2), "t": (1, 2)}
    live = store.save("k", result, 1.5, None)
    kept = store.load("k")
    assert live["a"] == kept["result"]["a"] == [0.1, 3, True, None, "x"]
    assert live["t"] == kept["result"]["t"] == [1, 2]
    assert (kept["result"]["m"] == np.eye(2)).all()
    (tmp_path / "k.npz").write_bytes(b"broken")
    assert store.load("k") is None


def test_a_result_that_cannot_be_kept_is_refused():
    import numpy as np

    with pytest.raises(TypeError, match="holds a set"):
        encode({"a": {1, 2}})
    with pytest.raises(TypeError, match="object array"):
        encode(np.array([None]))
    plain, arrays = encode({"x": [np.arange(3)]})
    assert decode(plain, arrays)["x"][0].tolist() == [0, 1, 2]
