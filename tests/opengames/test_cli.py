"""Every verb end to end on games of the library and of one's own, and one line a bad input."""

import csv
import importlib.util
import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

CANAL = '''
from workingpapers import opengames as og


@og.game
def canal(b, farmers=3, level=10.0, pay_rate=0.2, fine=0.7):
    """Farmers along a canal and a monitor who may watch them."""
    watch = b.decide("monitor", ["Work", "Shirk"])
    b.pay("monitor", lambda effort: -1.0 if effort == "Work" else 0.0, watch)

    def cut(effort, move):
        return 0.0 if effort == "Shirk" else pay_rate if move == "Crack" else pay_rate + fine

    water = b.const(level)
    for n in range(1, farmers + 1):
        move = b.decide(f"farmer{n}", ["Crack", "Flood"], sees=[water], name=f"take{n}")
        taken = b.let(lambda left, m: min(left, 2 if m == "Crack" else 5), water, move)
        b.pay(f"farmer{n}", lambda t, e, m: (1 - cut(e, m)) * t, taken, watch, move)
        b.pay("monitor", lambda t, e, m: cut(e, m) * t, taken, watch, move)
        water = b.let(lambda left, t: left - t, water, taken, name="water")


@og.game
def broken(b, share=2):
    move = b.decide("one", ["Up", "Down"])
    b.pay("one", lambda m: 1 / (share - 2), move)


@og.game
def unbuilt(b):
    b.decide("one", undefined)
'''
GAME = "canal.py:canal"
CRACK = "monitor=Work,take1=Crack,take2=Crack,take3=Crack"


@pytest.fixture
def command(run_command, tmp_path):
    """Run `workingpapers opengames ...` in tmp_path; gives exit code, stdout and stderr."""
    (tmp_path / "canal.py").write_text(CANAL)
    return partial(run_command, "opengames")


def as_json(result):
    code, stdout, stderr = result
    assert code in (0, 1, 3), stderr
    return json.loads(stdout)


# ---- the library


def test_list_names_every_institution(command):
    from workingpapers.opengames import library

    rows = as_json(command("list", "--json"))
    assert [row["name"] for row in rows] == library.names()
    assert all(row["summary"] and row["kind"] for row in rows)
    code, stdout, _ = command("list")
    assert code == 0
    assert "seltens_horse" in stdout


def test_show_says_what_a_game_is_and_what_is_known(command):
    shown = as_json(command("show", "irrigation_monitored", "--json"))
    assert shown["players"] == ["monitor", "farmer1", "farmer2", "farmer3"]
    assert shown["parameters"]["fine"] == 0.7
    take3 = next(one for one in shown["decisions"] if one["name"] == "take3")
    assert take3["sees"] == ["water"]
    assert take3["actions"] == ["Crack", "Flood"]
    assert shown["size"]["log10_outcomes"] == pytest.approx(1.204, abs=1e-3)
    code, stdout, _ = command("show", "irrigation_monitored", "--param", "farmers=4")
    assert code == 0
    assert "take4 by farmer4: Crack, Flood; sees water" in stdout
    assert "'work, crack' an equilibrium (agent); payoffs monitor 0.2" in stdout
    facts = as_json(command("show", "stag_hunt", "--facts", "--json"))["facts"]
    assert facts
    assert all(fact["ok"] for fact in facts)


def test_show_of_a_game_too_large_to_compile(command):
    shown = as_json(command("show", "common_pool", "--json"))
    assert shown["engine"] == "contraction"
    assert len(shown["decisions"]) == 8
    assert "size" not in shown


def test_facts_that_are_not_found_are_an_exit_code(command, monkeypatch):
    from workingpapers.opengames import library

    entry = library.load("irrigation")
    wrong = library.Fact("irrigation", "flood", "payoff of farmer1", 5, 4, False, "nobody")
    monkeypatch.setattr(library, "facts", lambda found: [wrong] if found is entry else [])
    code, stdout, _ = command("show", "irrigation", "--facts")
    assert code == 1
    assert "NOT FOUND: irrigation, flood: payoff of farmer1 is 4, known 5 (differs)" in stdout


# ---- equilibria


def test_check_of_the_monitored_canal(command):
    code, stdout, stderr = command("check", GAME, "--strategy", CRACK)
    assert code == 0, stderr
    assert stdout.startswith("An equilibrium (agent form")
    assert "payoffs: monitor 0.2, farmer1 1.6, farmer2 1.6, farmer3 1.6" in stdout
    code, stdout, _ = command(
        "check", "irrigation_monitored", "--strategy", "work, crack", "--full"
    )
    assert code == 0
    assert "take3" in stdout


def test_check_says_who_deviates_and_where_the_profile_would_hold(command):
    report = as_json(command("check", GAME, "--strategy", CRACK, "--param", "fine=.3", "--json"))
    assert not report["equilibrium"]
    assert {one["decision"] for one in report["deviations"]} == {"take1", "take2", "take3"}
    # Flood pays 5 (1 - t - p), Crack 2 (1 - t); Work costs 1 and brings 6 t.
    holds = {one["parameter"]: one["spans"] for one in report["holds"]}
    assert set(holds) == {"pay_rate", "fine"}
    assert holds["fine"] == [[pytest.approx(0.48, abs=1e-8), 1.0]]
    assert holds["pay_rate"] == [[pytest.approx(0.5, abs=1e-8), 1.0]]
    code, stdout, _ = command("check", GAME, "--strategy", CRACK, "--param", "fine=.3")
    assert code == 1
    assert "holds for fine in 0.48 ... 1 (looked at 0 ... 1)" in stdout


def test_check_looks_along_a_range_that_is_asked_for(command):
    code, stdout, _ = command("check", GAME, "--strategy", CRACK, "--param", "fine=0:.4")
    assert code == 0
    assert "holds for no fine in 0 ... 0.4" in stdout
    code, stdout, _ = command("check", GAME, "--strategy", CRACK, "--param", "pay_rate=.1:.5")
    assert "holds for pay_rate in 0.166667 ... 0.5 (looked at 0.1 ... 0.5)" in stdout


def test_every_notion_and_a_gain_that_does_not_count(command):
    threat = ("check", "ultimatum", "--strategy", "threat")
    assert command(*threat)[0] == 0
    assert command(*threat, "--notion", "player")[0] == 0
    assert command(*threat, "--notion", "perfect")[0] == 1
    assert command("check", "seltens_horse", "--strategy", "across", "--notion", "pbe")[0] == 0
    cheat = ("check", "prisoners_dilemma", "--strategy", "cooperate")
    assert command(*cheat)[0] == 1
    assert command(*cheat, "--eps", "2")[0] == 0


def test_strategies_from_files(command, tmp_path):
    content = {
        "monitor": {"Work": 1.0},
        "take1": "Crack",
        "take2": {"8": "Crack", "5": "Flood"},
        "take3": {"6": {"Crack": 1.0}, "3": "Flood", "0": "Crack"},
    }
    (tmp_path / "s.json").write_text(json.dumps(content))
    assert command("check", GAME, "--strategy", "s.json")[0] == 0
    play = "group,round,player,decision,observation,action\n" + "".join(
        f"1,{n},p,{decision},{seen},{move}\n"
        for n in range(3)
        for decision, seen, move in (
            ("monitor", "", "Work"),
            ("take1", "10", "Crack"),
            ("take2", "8", "Crack"),
            ("take3", "6", "Crack" if n else "Flood"),
        )
    )
    (tmp_path / "play.csv").write_text(play)
    report = as_json(command("check", GAME, "--strategy", "play.csv", "--json"))
    # A third of the last farmer's choices flood: 5 (1 - .2 - .7) instead of 2 (1 - .2).
    assert report["payoffs"]["farmer3"] == pytest.approx(1.6 * 2 / 3 + 0.5 / 3)
    assert [one["decision"] for one in report["deviations"]] == ["take3"]
    _, _, notes = command("check", GAME, "--strategy", "play.csv")
    assert sorted(notes.splitlines()) == [
        "note: no data for take2 at water=5: played uniformly",
        "note: no data for take3 at water=0: played uniformly",
        "note: no data for take3 at water=3: played uniformly",
    ]
    (tmp_path / "play.csv").write_text("\n".join(play.splitlines()[:2]))
    _, _, notes = command("check", GAME, "--strategy", "play.csv")
    assert len(notes.splitlines()) == 6
    assert notes.splitlines()[-1] == "note: and 1 more"
    # As some editors write it.
    (tmp_path / "s.json").write_text(json.dumps(content), encoding="utf-8-sig")
    assert command("check", GAME, "--strategy", "s.json")[0] == 0


MODES = """
from workingpapers import opengames as og


@og.game
def modes(b, mode="hard", votes=3, strict=True):
    move = b.decide(":a:", [":b:", "[/red]"])
    many = sum(range(votes)) if strict else 0
    b.pay(":a:", lambda m: (1.0 if mode == "hard" else 2.0) * (m == ":b:") + (many > 3), move)


@og.game
def chance(b):
    b.pay("one", lambda face: float(face), b.nature([0, 1]))
"""


def test_words_and_whole_numbers_are_varied_as_what_they_are(command, tmp_path):
    (tmp_path / "modes.py").write_text(MODES)
    game = ("modes.py:modes", "--strategy", "uniform")
    swept = as_json(command("sweep", *game, "--param", "mode=hard,soft", "--json"))
    assert swept["parameters"] == {"mode": ["hard", "soft"]}
    assert swept["measures"]["welfare"] == [0.5, 1.0]
    both = command("sweep", *game, "--param", "mode=hard,soft", "--param", "strict=true,false",
                   "--out", "map")  # fmt: skip
    assert both[0] == 0, both
    assert "mode hard ... soft (2) by strict yes ... no (2)" in both[1]
    assert {file.name for file in (tmp_path / "map").iterdir()} == {"sweep.csv", "sweep.json"}
    looked = as_json(
        command("check", "modes.py:modes", "--strategy", ":a:=:b:", "--param", "votes=1:5",
                "--json")
    )  # fmt: skip
    assert looked["holds"] == [{"parameter": "votes", "low": 1, "high": 5, "spans": [[1, 5]]}]


def test_what_users_wrote_is_printed_as_it_is(command, tmp_path):
    (tmp_path / "modes.py").write_text(MODES)
    for verb in ("show", "check", "simulate", "solve"):
        given = () if verb in ("show", "solve") else ("--strategy", "uniform")
        code, stdout, stderr = command(verb, "modes.py:modes", *given)
        assert code in (0, 1), stderr
        assert ":a:" in stdout
    code, _, stderr = command("check", "modes.py:modes", "--strategy", ":a:=:a:")
    assert code == 2
    assert stderr == (
        "error: strategy of :a:: :a: is not an action there; actions are :b:, [/red]\n"
    )


def test_a_game_without_decisions_needs_no_strategy(command, tmp_path):
    (tmp_path / "modes.py").write_text(MODES)
    plays = as_json(command("simulate", "modes.py:chance", "-n", "100", "--json"))
    assert plays["payoffs"][0]["exact"] == 0.5


def test_a_sweep_that_fails_leaves_no_folder(command, tmp_path):
    code, _, stderr = command(
        "sweep", GAME, "--strategy", CRACK, "--param", "fine=0:1", "--measure", "payoff:nobody",
        "--out", "new",
    )  # fmt: skip
    assert code == 2, stderr
    assert not (tmp_path / "new").exists()


def test_solve_by_every_method(command, tmp_path):
    found = as_json(command("solve", GAME, "--constant", "--json"))
    assert found["complete"]
    assert [one["payoffs"]["farmer1"] for one in found["profiles"]] == [pytest.approx(1.6)]
    assert as_json(command("solve", "centipede", "--method", "backward", "--json"))["complete"]
    assert command("solve", "stag_hunt", "--method", "dynamics")[0] == 0
    fictitious = ("solve", "matching_pennies", "--method", "fictitious", "--iterations", 200)
    assert command(*fictitious)[0] == 3
    assert command(*fictitious, "--tolerance", ".2")[0] == 0
    assert command("solve", "chicken", "--method", "logit")[0] == 0
    assert command("solve", "matching_pennies")[0] == 1
    assert command("solve", "matching_pennies", "--method", "dynamics")[0] == 3


def test_solve_writes_strategies_that_check_reads(command, tmp_path):
    solve = ("solve", "kuhn_poker", "--method", "cfr", "--out", "s.json")
    code, stdout, _ = command(*solve)
    assert code == 0
    assert "largest measured regret" in stdout
    assert command("check", "kuhn_poker", "--strategy", "s.json", "--eps", ".01")[0] == 0
    code, _, stderr = command(*solve)
    assert (code, stderr.strip()) == (
        2, "error: --out s.json: the file exists; --force replaces it"
    )  # fmt: skip
    code, _, stderr = command(*solve, "--force", "--iterations", "1")
    assert code == 3
    assert "note: the regret is above --tolerance 0.01" in stderr


def test_gambit_solves_where_it_is_installed(command):
    if importlib.util.find_spec("pygambit") is None:
        pytest.skip("pygambit is not installed")
    found = as_json(command("solve", "chicken", "--method", "gambit:enummixed", "--json"))
    assert found["complete"]
    assert len(found["profiles"]) == 3
    assert command("solve", "chicken", "--method", "gambit:magic")[0] == 2


# ---- design


def test_sweep_writes_a_table_and_maps_of_the_closed_form(command, tmp_path):
    code, stdout, stderr = command(
        "sweep", GAME, "--strategy", CRACK, "--param", "fine=0:1:21", "--param", "pay_rate=0:1:21",
        "--measure", "equilibrium,payoff:monitor", "--out", "map", "--picture", "png",
    )  # fmt: skip
    assert code == 0, stderr
    assert "at once: fine, pay_rate" in stdout
    rows = list(csv.DictReader((tmp_path / "map" / "sweep.csv").open()))
    assert len(rows) == 441
    for row in rows:
        fine, rate = float(row["fine"]), float(row["pay_rate"])
        expected = 6 * rate >= 1 - 1e-9 and 5 * (1 - rate - fine) <= 2 * (1 - rate) + 1e-9
        assert bool(int(row["equilibrium"])) == expected
        assert float(row["payoff:monitor"]) == pytest.approx(6 * rate - 1)
    kept = json.loads((tmp_path / "map" / "sweep.json").read_text())
    assert len(kept["measures"]["payoff:monitor"]) == 441
    assert {file.name for file in (tmp_path / "map").iterdir()} == {
        "sweep.csv", "sweep.json", "equilibrium.png", "payoff-monitor.png",
    }  # fmt: skip
    assert (
        command("sweep", GAME, "--strategy", CRACK, "--param", "fine=0:1", "--out", "map")[0] == 2
    )


def test_sweep_of_whole_numbers_and_of_equilibria(command, tmp_path):
    swept = as_json(
        command("sweep", "irrigation", "--param", "farmers=2:4", "--param", "level=6,10,12",
                "--solve", "--json")
    )  # fmt: skip
    assert swept["parameters"] == {"farmers": [2, 3, 4], "level": [6, 10, 12]}
    # With 10 units and three farmers the last may do as he likes; see `irrigation`.
    assert swept["measures"]["equilibria"][4] == 2
    swept = as_json(
        command("sweep", "volunteers_dilemma", "--param", "cost=.5:1.5:5",
                "--strategy", "nobody", "--json")
    )  # fmt: skip
    assert swept["measures"]["equilibrium"] == [False] * 5
    assert swept["measures"]["welfare"] == [0.0] * 5


def test_search_finds_the_least_wage_and_fine(command):
    bounds = ("--param", "pay_rate=0:1", "--param", "fine=0:1", "--subject-to", CRACK)
    found = as_json(
        command("search", GAME, "--minimise", "pay_rate", "--minimise", "fine", *bounds,
                "--method", "bisect", "--points", 11, "--json")
    )  # fmt: skip
    assert found["feasible"]
    assert found["parameters"]["pay_rate"] == pytest.approx(1 / 6, abs=1e-6)
    assert found["parameters"]["fine"] == pytest.approx(1 / 2, abs=1e-6)
    code, stdout, _ = command(
        "search", GAME, "--maximise", "payoff:monitor", *bounds, "--points", 11
    )
    assert code == 0
    assert stdout.startswith("payoff:monitor 5 at pay_rate 1, fine ")
    code, stdout, _ = command(
        "search", GAME, "--minimise", "fine", "--param", "fine=0:.3", "--subject-to", CRACK
    )
    assert code == 1
    assert stdout.startswith("nothing found: of ")


def test_compare_sets_institutions_side_by_side(command):
    games = ("irrigation", "irrigation_monitored", "irrigation_monitored,fine=.3", GAME)
    rows = as_json(command("compare", *games, "--json"))
    welfare = {}
    for row in rows:
        welfare.setdefault(row["institution"], []).append(row["welfare"])
    assert welfare["irrigation"] == [10.0, 10.0]
    assert welfare["irrigation_monitored"] == [pytest.approx(5.0)]
    assert welfare["irrigation_monitored,fine=.3"] == [pytest.approx(9.0)] * 2
    assert welfare[GAME] == welfare["irrigation_monitored"]
    best = as_json(command("compare", *games, "--pareto", "welfare,-gini", "--json"))
    assert {row["institution"] for row in best} == {"irrigation", "irrigation_monitored", GAME}
    code, stdout, _ = command("compare", "matching_pennies", "stag_hunt")
    assert code == 0
    assert stdout.count("stag_hunt") == 2


# ---- play


def test_simulated_averages_are_near_the_exact_payoffs(command):
    found = as_json(
        command("simulate", "kuhn_poker", "--strategy", "bluff", "-n", "20000", "--json")
    )
    for row in found["payoffs"]:
        assert abs(row["mean"] - row["exact"]) < 4 * row["standard_error"]
    again = as_json(
        command("simulate", "kuhn_poker", "--strategy", "bluff", "-n", "20000", "--json")
    )
    assert again == found
    code, stdout, _ = command("simulate", "kuhn_poker", "--strategy", "bluff", "-n", "1")
    assert code == 0
    assert "1 plays, seed 0" in stdout


def test_a_game_too_large_to_compile_is_simulated(command):
    found = as_json(command("simulate", "common_pool", "--strategy", "nash", "-n", "100", "--json"))
    for row in found["payoffs"]:
        assert row["mean"] == pytest.approx(row["exact"])


def test_learning_populations(command, tmp_path):
    learned = as_json(
        command("simulate", "prisoners_dilemma", "--learn", "replicator", "--rounds", "400",
                "--json", "--picture", "learning.svg")
    )  # fmt: skip
    assert learned["strategies"]["player1"]["[]"]["Defect"] == pytest.approx(1.0, abs=1e-6)
    assert (tmp_path / "learning.svg").read_bytes().startswith(b"<?xml")


def test_bench_times_each_step(command):
    timed = as_json(
        command("bench", "irrigation", "--param", "farmers=5", "--repeats", 2, "--json")
    )
    assert set(timed["seconds"]) == {"build", "compile", "check"}
    assert timed["engine"] == "frontier"
    assert as_json(command("bench", "common_pool", "--repeats", 1, "--json"))["engine"] == (
        "contraction"
    )
    assert all(seconds > 0 for seconds in timed["seconds"].values())
    assert command("bench", "ultimatum", "--repeats", 1, "--strategy", "threat")[0] == 0


# ---- pictures and files


def test_every_kind_of_picture_is_drawn(command, tmp_path):
    for kind in ("diagram", "tree", "phase"):
        game = "chicken" if kind == "phase" else "ultimatum"
        small = ("--param", "pie=3") if kind == "tree" else ()
        code, _, stderr = command("draw", game, "--kind", kind, "--out", f"{kind}.svg", *small)
        assert code == 0, stderr
        assert (tmp_path / f"{kind}.svg").stat().st_size > 5000
    payoffs = ("draw", GAME, "--kind", "payoffs", "--strategy", CRACK, "--out", "q.png")
    assert command(*payoffs)[0] == 0
    assert command("check", GAME, "--strategy", CRACK, "--picture", "p.png")[0] == 0
    assert (tmp_path / "p.png").read_bytes() == (tmp_path / "q.png").read_bytes()
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_games_go_out_and_come_back(command, tmp_path):
    for kind in ("efg", "nfg", "json"):
        game = ("chicken",) if kind == "nfg" else ("ultimatum", "--param", "pie=3")
        code, _, stderr = command("export", *game, "--out", f"u.{kind}")
        assert code == 0, stderr
        found = as_json(command("import", f"u.{kind}", "--json"))
        assert len(found["players"]) == 2
    code, stdout, _ = command("import", "u.efg", "--out", "again.json")
    assert code == 0
    assert "players: proposer, responder" in stdout
    for name in ("u.json", "again.json"):
        solved = as_json(command("solve", name, "--method", "backward", "--json"))
        assert {one["payoffs"]["proposer"] for one in solved["profiles"]} >= {2.0}
    assert command("bench", "u.efg", "--repeats", 1)[0] == 0


def test_an_institution_file_runs_code_only_when_trusted(command, tmp_path):
    content = {
        "module": "canal.py:canal",
        "params": {"fine": 0.4},
        "strategies": dict(pair.split("=") for pair in CRACK.split(",")),
    }
    (tmp_path / "canal.json").write_text(json.dumps(content))
    before = {*sys.modules}
    code, _, stderr = command("check", "canal.json")
    assert (code, stderr.strip()) == (
        2,
        "error: canal.json: names the code canal.py:canal, which was not run; --trust imports it",
    )
    assert "_opengames_canal" not in {*sys.modules} - before
    code, _, stderr = command("check", "canal.json", "--trust")
    assert code == 1
    assert stderr == "note: ran the code that canal.json names, as --trust says\n"
    assert command("check", "canal.json", "--trust", "--param", "fine=.6")[0] == 0


# ---- bad input

FILES = {
    "bad.efg": b'EFG 2 R "x" { "a" "b" }\np "" 1 1 "" { "l" "r" } 0\nt "" 1 "" { 1, oops }\n',
    "broken.json": b'{"monitor": "Work",\n "take1" "Crack"}',
    "halves.json": b'{"monitor": {"Work": 0.5}, "take1": "Crack"}',
    "unknown.json": b'{"monitor": "Work", "takes1": "Crack"}',
    "play.csv": b"group,round,player,decision,observation,action\n1,1,p,monitor,,Sleep\n",
    "notes.txt": b"nothing",
    "twice.json": b'{"monitor": "Work", "monitor": "Shirk"}',
    "nan.json": b'{"monitor": {"Work": NaN, "Shirk": 1}}',
    "other.csv": b"group,round,player,decision,observation,action\n1,1,farmer1,monitor,,Work\n",
    "other.json": b'{"module": "canal.py:canal", "folder": 1}',
}


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["show", "irigation"],
            "library: entry 'irigation' does not exist; there are irrigation, irrigation_monitored",
        ),
        (["show", "gone.efg"], "gone.efg: no such file"),
        (["show", "gone.py:canal"], "gone.py: no such file"),
        (
            ["show", "canal.py"],
            "canal.py: expected canal.py:FUNCTION, the function that builds the game",
        ),
        (["show", "canal.py:canel"], "canal.py: no function 'canel'; there are canal"),
        (
            ["show", "notes.txt"],
            "notes.txt: expected a file that ends in .efg, .nfg, .json or .toml",
        ),
        (["show", GAME, "--facts"], f"--facts: {GAME} is not of the library"),
        (["show", "canal.py:broken"], "canal.py, line 26: ZeroDivisionError: division by zero"),
        (
            ["show", "canal.py:unbuilt"],
            "canal.py, line 31: NameError: name 'undefined' is not defined",
        ),
        (
            ["import", "bad.efg"],
            "bad.efg, line 3: expected a payoff or } (a decimal number or a fraction), found oops",
        ),
        (
            ["import", "other.json"],
            "other.json: folder: no such field; there are module, params, strategies",
        ),
        (
            ["check", GAME],
            "--strategy: expected a .json or .csv file or DECISION=ACTION,...",
        ),
        (
            ["check", "irrigation"],
            "--strategy: expected a .json or .csv file or DECISION=ACTION,...; profiles of "
            "irrigation are flood, 'last cracks', 'first cracks', crack",
        ),
        (
            ["check", "irrigation", "--strategy", "fload"],
            "--strategy fload: neither a file nor a profile; profiles of irrigation are flood",
        ),
        (["check", GAME, "--strategy", "gone.json"], "gone.json: no such file"),
        (
            ["check", GAME, "--strategy", "broken.json"],
            "broken.json, line 2: not JSON (Expecting ':' delimiter)",
        ),
        (
            ["check", GAME, "--strategy", "unknown.json"],
            "unknown.json: decision 'takes1' is not in the game; there are take1, take3, take2",
        ),
        (
            ["check", GAME, "--strategy", "halves.json"],
            "halves.json: strategy of monitor: the probabilities sum to 0.5, expected 1",
        ),
        (
            ["check", GAME, "--strategy", "monitor=Work"],
            "strategies: no strategy for the decision 'take1'",
        ),
        (
            ["check", GAME, "--strategy", "monitor=Sleep"],
            "strategy of monitor: Sleep is not an action there; actions are Work, Shirk",
        ),
        (
            ["check", GAME, "--strategy", "monitor=Work,take1"],
            "--strategy monitor=Work,take1: expected DECISION=ACTION, found 'take1'",
        ),
        (
            ["check", GAME, "--strategy", "play.csv"],
            "play.csv: row 1: action of monitor: Sleep is not in the game; there are Work; Shirk",
        ),
        (
            ["check", GAME, "--strategy", CRACK, "--param", "fien=1"],
            "parameter 'fien' is not in canal; there are farmers, level, pay_rate, fine",
        ),
        (
            ["check", GAME, "--strategy", CRACK, "--param", "fine"],
            "--param fine: expected NAME=VALUE",
        ),
        (
            ["check", GAME, "--strategy", CRACK, "--param", "fine=1", "--param", "fine=2"],
            "--param fine=2: fine is given twice",
        ),
        (
            ["check", GAME, "--strategy", CRACK, "--param", "fine=1:0"],
            "--param fine=1:0: expected the low end below the high one",
        ),
        (
            ["check", GAME, "--strategy", CRACK, "--notion", "nash"],
            "--notion nash: expected agent, player, perfect, pbe",
        ),
        (
            ["check", GAME, "--strategy", CRACK, "--picture", "x.gif"],
            "--picture x.gif: expected a name that ends in .svg, .png or .pdf",
        ),
        (
            ["check", GAME, "--strategy", CRACK, "--picture", "no/x.svg"],
            "--picture no/x.svg: the folder no does not exist",
        ),
        (
            ["solve", GAME, "--method", "guess"],
            "--method guess: expected pure, backward, dynamics, cfr, fictitious, logit, "
            "gambit:METHOD",
        ),
        (
            ["solve", GAME, "--constant", "--out", "new.json", "--pick", "2"],
            "--pick 2: only 1 profile was found",
        ),
        (
            ["solve", GAME, "--param", "fine=0:1"],
            "--param fine: expected one value, not a range",
        ),
        (
            ["solve", "seltens_horse", "--method", "backward"],
            "backward: player3, seeing nothing, does not know which of 2 states the game is in; "
            "try solve.pure, solve.cfr or solve.dynamics",
        ),
        (
            ["sweep", GAME, "--strategy", CRACK],
            "--param: expected at least one with a range, such as fine=0:1:201",
        ),
        (
            ["sweep", GAME, "--strategy", CRACK, "--param", "fine=0:1:one"],
            "--param fine=0:1:one: the count is one; expected 2 or more",
        ),
        (
            ["sweep", GAME, "--strategy", CRACK, "--param", "fine=1,0"],
            "--param fine=1,0: expected numbers that rise",
        ),
        (
            ["sweep", GAME, "--strategy", CRACK, "--param", "fine=0:1", "--out", "canal.py"],
            "--out canal.py: expected a folder, found a file",
        ),
        (
            ["sweep", GAME, "--strategy", CRACK, "--param", "fine=0:1", "--measure", "joy"],
            "--measure joy: expected equilibrium, gain, welfare, gini, payoff:PLAYER",
        ),
        (
            ["sweep", GAME, "--strategy", CRACK, "--param", "fine=0:1", "--measure", ""],
            "--measure is empty: expected equilibrium, gain, welfare, gini, payoff:PLAYER",
        ),
        (
            ["sweep", GAME, "--solve", "--param", "fine=0:1", "--measure", "equilibria"],
            "--measure: not with --solve, which counts the equilibria",
        ),
        (
            ["sweep", GAME, "--strategy", CRACK, "--param", "fine=0:1:1000000000"],
            "--param fine=0:1:1000000000: the count is 1000000000; expected 1,000,000 at most",
        ),
        (
            ["sweep", GAME, "--strategy", CRACK, "--param", "fine=0,nan,2"],
            "--param fine=0,nan,2: expected finite numbers, found nan",
        ),
        (
            ["sweep", GAME, "--strategy", CRACK, "--param", "fine=0,,2"],
            "--param fine=0,,2: expected finite numbers, found an empty entry",
        ),
        (
            ["sweep", GAME, "--strategy", CRACK, "--param", "fine=0,soft"],
            "--param fine=0,soft: expected numbers, found 'soft'",
        ),
        (
            ["sweep", GAME, "--strategy", CRACK, "--param", "fine=nan:2"],
            "--param fine=nan:2: expected finite numbers, found nan",
        ),
        (
            ["check", GAME, "--strategy", CRACK, "--param", "fine=0:inf"],
            "--param fine=0:inf: expected finite numbers, found inf",
        ),
        (
            ["check", GAME, "--strategy", CRACK, "--param", "fine=0:1e999"],
            "--param fine=0:1e999: expected finite numbers, found 1e999",
        ),
        (
            ["check", GAME, "--strategy", CRACK, "--param", "fine=nan"],
            "--param fine=nan: expected a finite number",
        ),
        (
            ["compare", GAME, "irrigation", "--param", "fine=NaN"],
            "--param fine=NaN: expected a finite number",
        ),
        (
            ["check", GAME, "--strategy", CRACK, "--eps", "inf"],
            "--eps inf: expected a finite number",
        ),
        (
            ["check", GAME, "--strategy", "."],
            "--strategy .: expected a file, found a folder",
        ),
        (
            ["check", GAME, "--strategy", "twice.json"],
            "twice.json: the key 'monitor' is there twice in one object",
        ),
        (
            ["check", GAME, "--strategy", "nan.json"],
            "nan.json: strategy of monitor: a probability is not a number (NaN)",
        ),
        (
            ["check", GAME, "--strategy", "other.csv"],
            "other.csv: row 1: player farmer1 does not decide monitor",
        ),
        (
            ["check", GAME, "--strategy", CRACK, "--param", "farmers=2:3"],
            "--param farmers=2:3: at farmers=2: decision 'take3' is not in the game; there are "
            "take2, take1",
        ),
        (
            ["sweep", GAME, "--strategy", CRACK, "--param", "farmers=2:3:4", "--out", "new"],
            "--param farmers=2:3:4: farmers takes whole numbers; expected A,B,C or a count that "
            "gives them",
        ),
        (
            ["search", GAME, "--param", "farmers=2:4", "--minimise", "farmers", "--subject-to",
             CRACK],
            "--param farmers=2:4: farmers takes whole numbers; search needs decimals, sweep takes "
            "both",
        ),
        (
            ["sweep", GAME, "--solve", "--strategy", CRACK, "--param", "fine=0:1"],
            "--solve: takes no --strategy",
        ),
        (
            ["search", GAME, "--param", "fine=0:1", "--subject-to", CRACK],
            "search: expected --maximise or --minimise, one of the two",
        ),
        (
            ["search", GAME, "--param", "fine=0:1", "--minimise", "fine"],
            "--subject-to: expected a profile that is to be an equilibrium",
        ),
        (["compare", GAME], "compare: expected two games or more"),
        (
            ["compare", GAME, "irrigation", "--param", "fien=1"],
            "--param fien: none of the games has this parameter",
        ),
        (
            ["simulate", GAME, "--strategy", CRACK, "--picture", "x.svg"],
            "--picture: only with --learn",
        ),
        (
            ["simulate", GAME, "--learn", "rote"],
            "--learn rote: expected replicator, best_reply, q_learning, experience_weighted",
        ),
        (
            ["draw", GAME, "--kind", "portrait", "--out", "x.svg"],
            "--kind portrait: expected diagram, influence, tree, payoffs, phase",
        ),
        (["draw", GAME, "--out", "canal.py"],
            "--out canal.py: expected a name that ends in .svg, .png or .pdf"),
        (
            ["export", GAME, "--out", "x.xml"],
            "--out x.xml: --to xml: expected efg, nfg, json",
        ),
        (
            ["export", GAME, "--to", "efg", "--out", "canal.py"],
            "--out canal.py: the file exists; --force replaces it",
        ),
        (
            ["import", "broken.json", "--out", "notes.txt"],
            "--out notes.txt: the file exists; --force replaces it",
        ),
        (["bench", GAME, "--repeats", "0"], "Invalid value for '--repeats'"),
    ],
)  # fmt: skip
def test_bad_input_gets_one_line_and_touches_nothing(command, tmp_path, arguments, line):
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    before = {
        file: file.read_bytes() for file in tmp_path.rglob("*.*") if "__pycache__" not in str(file)
    }
    code, stdout, stderr = command(*arguments)
    assert code == 2, stdout + stderr
    lines = [shown for shown in stderr.splitlines() if shown.strip()]
    assert len(lines) == 1, stderr
    assert lines[0].startswith("error: ")
    assert lines[0].removeprefix("error: ").startswith(line)
    if "'--repeats'" not in line:
        assert lines[0] == f"error: {line}"
    after = {
        file: file.read_bytes() for file in tmp_path.rglob("*.*") if "__pycache__" not in str(file)
    }
    assert after == before


def test_an_error_of_ours_is_not_blamed_on_the_user(command, monkeypatch):
    from workingpapers.opengames import games

    def fails(self, *arguments, **options):
        raise RuntimeError("inside")

    monkeypatch.setattr(games.Game, "check", fails)
    code, _, stderr = command("check", GAME, "--strategy", CRACK)
    assert code == 70
    assert "bug in workingpapers" in stderr


def test_help_loads_no_arrays():
    script = (
        "import sys\n"
        "from workingpapers.cli import main\n"
        "sys.argv = ['workingpapers', 'opengames', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print('numpy' in sys.modules, 'matplotlib' in sys.modules)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60
    )
    assert result.stdout.splitlines()[-1] == "False False"


# ---- the library's page


def test_the_page_on_the_library_says_what_the_registry_says():
    from workingpapers.opengames import library

    root = Path(__file__).parents[2]
    spec = importlib.util.spec_from_file_location("page", root / "tools/draw_opengames_library.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    shown = (root / "docs/opengames-library.md").read_text()
    assert shown == tool.page(), "python tools/draw_opengames_library.py writes it anew"
    pictures = sorted((root / "docs/opengames-library").iterdir())
    assert [file.stem for file in pictures] == sorted(library.names())
    assert all(file.stat().st_size <= tool.WIDEST for file in pictures)
