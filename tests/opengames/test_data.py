import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workingpapers.foundation.errors import InputError
from workingpapers.opengames import data
from workingpapers.opengames.games import Game, game
from workingpapers.opengames.trace import Trace


@game
def ultimatum(b: Trace, pie: int = 4) -> None:
    offer = b.decide("proposer", [1, 2, 3], name="offer")
    answer = b.decide("responder", ["accept", "reject"], sees=[offer], name="answer")
    b.pay("proposer", lambda o, a: (pie - o) * (a == "accept"), offer, answer)
    b.pay("responder", lambda o, a: o * (a == "accept"), offer, answer)


@game
def choice(b: Trace, better: float = 2.0) -> None:
    """One person, two actions, one worth `better` more."""
    move = b.decide("ann", ["good", "bad"], name="move")
    b.pay("ann", lambda m: better * (m == "good"), move)


@game
def seen(b: Trace) -> None:
    """Observations of every kind: a number, a word, a truth value, nothing, two wires."""
    state = b.nature({1: 0.25, "up": 0.25, 2.5: 0.25, False: 0.25}, name="state")
    other = b.nature(["x", "y"], name="other")
    single = b.decide("ann", [0, 2, True], sees=[state], name="single")
    pair = b.decide("ann", ["l", "r"], sees=[state, other], name="pair")
    b.pay("ann", lambda s, p: float(s) * (p == "l"), single, pair)


LONG = """group,round,player,decision,observation,action,payoff
1,1,P1,offer,,2,2
1,1,P2,answer,2,accept,2
2,1,P3,offer,,1,0
2,1,P4,answer,1,reject,0
3,1,P5,offer,,1,3
3,1,P6,answer,1,accept,
"""


def play_of(tmp_path: Path, text: str) -> data.ObservedPlay:
    path = tmp_path / "play.csv"
    path.write_text(text, encoding="utf-8")
    return data.observed_play(path)


# ---- reading


def test_a_long_table_is_read_row_by_row(tmp_path: Path) -> None:
    play = play_of(tmp_path, LONG)
    assert len(play) == 6
    assert play.decision == ("offer", "answer") * 3
    assert play.observation == ("", "2", "", "1", "", "1")
    assert play.action == ("2", "accept", "1", "reject", "1", "accept")
    assert play.player == ("P1", "P2", "P3", "P4", "P5", "P6")
    assert play.payoff is not None
    assert np.array_equal(play.payoff, [2, 2, 0, 0, 3, math.nan], equal_nan=True)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    play = play_of(tmp_path, LONG)
    data.write_play(play, tmp_path / "again.csv")
    again = data.observed_play(tmp_path / "again.csv")
    for name in data.COLUMNS:
        assert getattr(again, name) == getattr(play, name)
    assert again.payoff is not None
    assert play.payoff is not None
    assert np.array_equal(again.payoff, play.payoff, equal_nan=True)


def test_counts_stand_where_the_profile_has_the_action(tmp_path: Path) -> None:
    made = ultimatum()
    counted = data.counts(made, play_of(tmp_path, LONG))
    # Offers 1, 2, 3; then accept and reject after each of them.
    assert counted.tolist() == [2, 1, 0, 1, 1, 1, 0, 0, 0]


def test_observations_and_actions_of_every_kind_are_found(tmp_path: Path) -> None:
    rows = [
        ("single", "1", "2"),
        ("single", "1.0", "0"),
        ("single", "up", "true"),
        ("single", '"up"', "2"),
        ("single", "2.5", "2.0"),
        ("single", "false", "true"),
        ("pair", '[1, "x"]', "l"),
        ("pair", '["up","y"]', '"r"'),
        ("pair", "[false, \"x\"]", "r"),
    ]  # fmt: skip
    quoted = [",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in rows]
    text = "decision,observation,action,group,round,player\n" + "".join(
        f"{row},1,1,ann\n" for row in quoted
    )
    made = seen()
    counted = data.counts(made, play_of(tmp_path, text))
    frontier = made.frontier
    found = {}
    for decision in frontier.decisions:
        for number, observation in enumerate(decision.observations):
            begin = int(decision.starts[number])
            for at, action in enumerate(decision.actions[number]):
                if counted[begin + at]:
                    found[decision.name, repr(observation), repr(action)] = counted[begin + at]
    assert found == {
        ("single", "(1,)", "2"): 1,
        ("single", "(1,)", "0"): 1,
        ("single", "('up',)", "True"): 1,
        ("single", "('up',)", "2"): 1,
        ("single", "(2.5,)", "2"): 1,
        ("single", "(False,)", "True"): 1,
        ("pair", "(1, 'x')", "'l'"): 1,
        ("pair", "('up', 'y')", "'r'"): 1,
        ("pair", "(False, 'x')", "'r'"): 1,
    }


def test_places_without_choices_are_named(tmp_path: Path) -> None:
    made = ultimatum()
    assert data.unobserved(made, data.counts(made, play_of(tmp_path, LONG))) == [
        "answer at offer=3"
    ]
    assert data.unobserved(made, np.zeros(9, dtype=np.int64))[0] == "offer"


HEAD = "group,round,player,decision,observation,action\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "group,round,player,decision,action\n1,1,a,offer,2\n",
            "no column 'observation'; it has group, round, player, decision, action",
        ),
        (HEAD + "1,1,a,offer,,2\n1,1,a,,,2\n", "row 2 has no decision"),
        (HEAD + "1,1,a,offer,,\n", "row 1 has no action"),
    ],
)
def test_a_table_that_lacks_something_is_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        play_of(tmp_path, text)
    assert str(caught.value) == f"{tmp_path / 'play.csv'}: {message}"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            "1,1,proposer,answer,1,accept",
            "row 2: player proposer does not decide answer",
        ),
        (
            "1,1,a,ofer,,2",
            "row 2: decision 'ofer' is not in the game; there are offer",
        ),
        (
            "1,1,a,offer,,7",
            "row 2: action of offer: 7 is not in the game; there are 1; 2; 3",
        ),
        (
            "1,1,a,answer,9,accept",
            "row 2: observation of answer: 9 is not in the game; there are 1; 2; 3",
        ),
        (
            "1,1,a,answer,,accept",
            "row 2: observation of answer: nothing is not in the game; there are 1; 2; 3",
        ),
        (
            "1,1,a,answer,1,acept",
            "row 2: action of answer: acept is not in the game; there are accept",
        ),
    ],
)
def test_a_row_that_is_not_of_the_game_is_refused(row: str, message: str, tmp_path: Path) -> None:
    play = play_of(tmp_path, f"{HEAD}1,1,a,offer,,2\n{row}\n")
    with pytest.raises(InputError) as caught:
        data.counts(ultimatum(), play)
    assert str(caught.value) == f"{tmp_path / 'play.csv'}: {message}"


# ---- strategies and regret


def test_empirical_strategies_are_smoothed_counts(tmp_path: Path) -> None:
    made, play = ultimatum(), play_of(tmp_path, LONG)
    smooth = data.empirical_strategies(made, play)
    # (count + 1) over (all + number of actions).
    assert smooth["offer"] == pytest.approx({1: 3 / 6, 2: 2 / 6, 3: 1 / 6})
    assert smooth["answer"][1] == pytest.approx({"accept": 2 / 4, "reject": 2 / 4})
    assert smooth["answer"][2] == pytest.approx({"accept": 2 / 3, "reject": 1 / 3})
    assert smooth["answer"][3] == pytest.approx({"accept": 1 / 2, "reject": 1 / 2})
    bare = data.empirical_strategies(made, play, prior=0.0)
    assert bare["offer"] == pytest.approx({1: 2 / 3, 2: 1 / 3})
    # Nobody was ever offered 3.
    assert bare["answer"][3] == {"accept": 0.5, "reject": 0.5}
    assert made.check(smooth).payoffs.keys() == {"proposer", "responder"}
    with pytest.raises(InputError, match="prior -1: expected a finite number, at least 0"):
        data.empirical_strategies(made, play, prior=-1)


def test_regret_of_play_is_what_each_row_forwent(tmp_path: Path) -> None:
    made, play = ultimatum(), play_of(tmp_path, LONG)
    found = data.regret_of_play(made, play, prior=0.0)
    # Offers of 1, 2, 3 are accepted with probability 1/2, 1, 1/2: worth 3/2, 2, 1/2.
    assert found.rows[[0, 2, 4]] == pytest.approx([0.0, 0.5, 0.5])
    # Responders who reject 1 forgo 1, who accept nothing.
    assert found.rows[[1, 3, 5]] == pytest.approx([0.0, 1.0, 0.0])
    assert found.by_decision == pytest.approx({"offer": 1 / 3, "answer": 1 / 3})
    assert found.mean == pytest.approx(1 / 3)
    # The report looks at the empirical strategies: a third of the offers is best.
    assert found.report.notion == "agent"
    assert found.report.regret["proposer"] == pytest.approx(2 - (2 / 3 * 1.5 + 1 / 3 * 2))


def test_regret_of_shared_roles_is_that_of_whoever_decides(tmp_path: Path) -> None:
    @game
    def roles(b: Trace) -> None:
        who = b.nature({"ann": 0.5, "bob": 0.5}, name="who")
        move = b.decide(who, ["x", "y"], name="move")
        b.pay(who, lambda m: 2.0 if m == "x" else 0.0, move)

    play = play_of(tmp_path, f"{HEAD}1,1,s1,move,,x\n2,1,s2,move,,y\n")
    found = data.regret_of_play(roles(), play, prior=0.0)
    assert found.rows.tolist() == [0.0, 2.0]


# ---- noise


def test_the_precision_of_one_choice_has_a_closed_form(tmp_path: Path) -> None:
    # log(9 / 1) is precision times the difference of payoffs.
    rows = "1,1,s,move,,good\n" * 9 + "1,1,s,move,,bad\n"
    play = play_of(tmp_path, HEAD + rows)
    for better in (2.0, 0.5):
        fit = data.fit_logit(choice(better=better), play)
        assert fit.precision == pytest.approx(math.log(9) / better, rel=1e-5)
        assert fit.log_likelihood == pytest.approx(9 * math.log(0.9) + math.log(0.1))
        assert fit.uniform_log_likelihood == pytest.approx(10 * math.log(0.5))
        assert fit.profile == pytest.approx([0.9, 0.1], abs=1e-5)
        assert fit.choices == 10
        assert not fit.at_bound
        assert fit.converged


def test_a_precision_at_the_end_of_the_interval_is_said_to_be(tmp_path: Path) -> None:
    play = play_of(tmp_path, HEAD + "1,1,s,move,,good\n" * 5)
    assert data.fit_logit(choice(), play, bounds=(0.01, 10.0)).at_bound
    wrong = play_of(tmp_path, HEAD + "1,1,s,move,,bad\n" * 5)
    worst = data.fit_logit(choice(), wrong, bounds=(0.01, 10.0))
    assert worst.at_bound
    assert worst.precision == pytest.approx(0.01, rel=1e-3)
    with pytest.raises(InputError, match=r"bounds \(0, 1\): expected two finite numbers above 0"):
        data.fit_logit(choice(), play, bounds=(0, 1))


def test_a_fitted_precision_is_near_the_one_that_made_the_choices(tmp_path: Path) -> None:
    from workingpapers.opengames import solve

    made: Game = ultimatum()
    profile = solve.logit(made, precision=1.5)[0].profile
    offer, answer = made.frontier.decisions
    generator = np.random.default_rng(0)
    rows = []
    for number in range(2000):
        first = generator.choice(3, p=profile[:3] / profile[:3].sum())
        begin = int(answer.starts[first])
        second = generator.choice(
            2, p=profile[begin : begin + 2] / profile[begin : begin + 2].sum()
        )
        made_offer = offer.actions[0][first]
        rows.append(f"{number},1,p,offer,,{made_offer}\n")
        rows.append(f"{number},1,r,answer,{made_offer},{answer.actions[first][second]}\n")
    fit = data.fit_logit(made, play_of(tmp_path, HEAD + "".join(rows)), bounds=(0.05, 20.0))
    # The standard error with 4000 choices is about .04.
    assert fit.precision == pytest.approx(1.5, abs=0.15)
    assert fit.log_likelihood > fit.uniform_log_likelihood


# ---- wide tables


WIDE = """code,role,app.1.offer,app.2.offer,app.1.seen,app.1.answer,app.2.seen,app.2.answer,pay1,g
A,1,2,1,,,,,2,7
B,2,,,2,accept,1,reject,2,7
C,1,3,,,,,,1,8
D,2,,,3,accept,,,3,8
"""
MAPPING: dict[str, Any] = {
    "group": "g",
    "decisions": [
        {
            "decision": "offer",
            "action": "app.{round}.offer",
            "player": "code",
            "where": {"role": 1},
        },
        {
            "decision": "answer",
            "action": "app.{round}.answer",
            "observation": "app.{round}.seen",
            "player": "code",
        },
    ],
}


def wide(tmp_path: Path) -> Path:
    path = tmp_path / "wide.csv"
    path.write_text(WIDE, encoding="utf-8")
    return path


def test_a_wide_export_becomes_rows_of_choices(tmp_path: Path) -> None:
    path = tmp_path / "mapping.json"
    path.write_text(json.dumps(MAPPING), encoding="utf-8")
    play = data.melt_wide(wide(tmp_path), path)
    columns = (play.group, play.round, play.player, play.decision, play.observation, play.action)
    assert list(zip(*columns, strict=True)) == [
        ("7", "1", "A", "offer", "", "2"),
        ("8", "1", "C", "offer", "", "3"),
        ("7", "2", "A", "offer", "", "1"),
        ("7", "1", "B", "answer", "2", "accept"),
        ("8", "1", "D", "answer", "3", "accept"),
        ("7", "2", "B", "answer", "1", "reject"),
    ]
    assert play.payoff is None
    assert data.counts(ultimatum(), play).sum() == 6


def test_a_mapping_may_name_payoffs_several_observations_and_no_round(tmp_path: Path) -> None:
    mapping = {
        "decisions": [
            {
                "decision": "answer",
                "action": "app.1.answer",
                "observation": ["app.1.seen", "code"],
                "payoff": "pay1",
            }
        ]
    }
    play = data.melt_wide(wide(tmp_path), mapping)
    assert play.observation == ('[2, "B"]', '[3, "D"]')
    assert play.player == ("answer", "answer")
    assert play.round == ("", "")
    assert play.payoff is not None
    assert play.payoff.tolist() == [2.0, 3.0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"decisions": []}, "mapping: decisions: expected a list of objects"),
        ({"groups": "g"}, "mapping: no field 'groups' is known; there are group"),
        (
            {"decisions": [{"decision": "offer"}]},
            "mapping: decisions[0]: action: expected text",
        ),
        (
            {"decisions": [{"decision": "offer", "action": "a", "observations": "b"}]},
            "mapping: decisions[0]: no field 'observations' is known; there are observation",
        ),
        ({"decisions": [3]}, "mapping: decisions[0]: expected an object"),
        (
            {"decisions": [{"decision": "offer", "action": "nothing.{round}.offer"}]},
            "mapping: decisions[0]: action: no column of {source} is like nothing.{round}.offer; "
            "it has code, role, app.1.offer, app.2.offer, app.1.seen, app.1.answer, app.2.seen, "
            "app.2.answer, pay1, g",
        ),
        (
            {"decisions": [{"decision": "offer", "action": "app.1.offer", "player": "codes"}]},
            "{source}: no column 'codes'; it has code, role, app.1.offer, app.2.offer, app.1.seen, "
            "app.1.answer, app.2.seen, app.2.answer, pay1, g",
        ),
        (
            {
                "decisions": [
                    {"decision": "o", "action": "app.1.offer", "where": {"role": "nobody"}}
                ]
            },
            "{source}: no row has an action in the columns of mapping",
        ),
        (
            {"decisions": [{"decision": "o", "action": "app.1.offer", "payoff": "code"}]},
            "{source}: column 'code': expected numbers",
        ),
    ],
)
def test_a_wrong_mapping_is_refused(change: Any, message: str, tmp_path: Path) -> None:
    path = wide(tmp_path)
    with pytest.raises(InputError) as caught:
        data.melt_wide(path, {**MAPPING, **change})
    assert str(caught.value) == message.replace("{source}", str(path))
