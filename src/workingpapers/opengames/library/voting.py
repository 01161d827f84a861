"""Institutions that choose institutions: dictators, votes and elections over which game is played.

Each is an external choice: the tag that is chosen says which of several games, built elsewhere in
this library, is played.
"""

from typing import Any

from workingpapers.opengames.games import game
from workingpapers.opengames.library import Entry, Known
from workingpapers.opengames.library.bargaining import cropping, waging
from workingpapers.opengames.library.social import (
    PD_MOVES,
    both,
    dilemma_payoff,
    meeting_in_new_york,
    prisoners_dilemma,
    stag_hunt,
)
from workingpapers.opengames.trace import Trace, Wire

_ENGINE = "open-games engine"
_PLAYERS = ("player1", "player2")


@game
def dictator_chooses_game(
    b: Trace,
    reward: Any = 2.0,
    sucker: Any = 0.0,
    temptation: Any = 3.0,
    punishment: Any = 1.0,
) -> None:
    """player1 decides whether both play the prisoner's dilemma or meet in New York.

    Decisions `choice`, then player1@dilemma and player2@dilemma, or player1@meeting and
    player2@meeting.
    """
    choice = b.decide("player1", ("Dilemma", "Meeting"), name="choice")
    with b.when(choice, "Dilemma"), b.named("@dilemma"):
        prisoners_dilemma.inline(
            b, reward=reward, sucker=sucker, temptation=temptation, punishment=punishment
        )
    with b.when(choice, "Meeting"), b.named("@meeting"):
        meeting_in_new_york.inline(b)


@game
def vote_on_game(
    b: Trace,
    reward: Any = 2.0,
    sucker: Any = 0.0,
    temptation: Any = 3.0,
    punishment: Any = 1.0,
    stag: Any = 2.0,
    hare: Any = 1.0,
) -> None:
    """Two voters choose between the prisoner's dilemma and the stag hunt; a coin breaks a tie.

    Decisions vote1 and vote2 at once, then player1@dilemma and player2@dilemma, or player1@hunt
    and player2@hunt.
    """
    votes = [
        b.decide(player, ("Dilemma", "Hunt"), name=f"vote{number}")
        for number, player in enumerate(_PLAYERS, start=1)
    ]
    chosen = b.nature(lambda one, other: (one, other), *votes, name="chosen")
    with b.when(chosen, "Dilemma"), b.named("@dilemma"):
        prisoners_dilemma.inline(
            b, reward=reward, sucker=sucker, temptation=temptation, punishment=punishment
        )
    with b.when(chosen, "Hunt"), b.named("@hunt"):
        stag_hunt.inline(b, stag=stag, hare=hare)


def _punished_dilemma(b: Trace, penalty: Wire, payoff: Any) -> None:
    """A prisoner's dilemma where a defector pays a penalty that both know."""
    moves = [b.decide(player, PD_MOVES, sees=[penalty]) for player in _PLAYERS]
    for player, own, other in zip(_PLAYERS, moves, reversed(moves), strict=True):
        b.pay(player, payoff, own, other)
        b.pay(
            player,
            lambda own, penalty: -float(penalty) if own == "Defect" else 0.0,
            own,
            penalty,
        )


@game
def dictator_sets_penalty(
    b: Trace,
    reward: Any = 2.0,
    sucker: Any = 0.0,
    temptation: Any = 3.0,
    punishment: Any = 1.0,
) -> None:
    """player1 sets what a defector pays, 0 to 3, before both play the prisoner's dilemma."""
    penalty = b.decide("player1", range(4), name="penalty")
    _punished_dilemma(b, penalty, dilemma_payoff(reward, sucker, temptation, punishment))


@game
def elected_dictator(
    b: Trace,
    reward: Any = 2.0,
    sucker: Any = 0.0,
    temptation: Any = 3.0,
    punishment: Any = 1.0,
) -> None:
    """Three voters elect who of two players sets the penalty of the prisoner's dilemma.

    vote1 to vote3 name a player at once; of the three names in order, the middle one is elected
    and decides `penalty`. player3 has no stake in what follows.
    """
    votes = [b.decide(f"player{number}", _PLAYERS, name=f"vote{number}") for number in (1, 2, 3)]
    b.pay("player3", 0.0)
    elected = b.let(lambda *names: sorted(names)[1], *votes, name="elected")
    penalty = b.decide(elected, range(4), name="penalty")
    _punished_dilemma(b, penalty, dilemma_payoff(reward, sucker, temptation, punishment))


@game
def land_tenure(b: Trace, chooser: str = "vote") -> None:
    """Share-cropping or wages, chosen by a vote, by nature, or by a dictator.

    `chooser` "vote": two governors without a stake vote, wages need both; "nature": a fair draw;
    "dictator": one decides, and is paid the effort that follows. Then either `share` and
    `crop_effort` or `wage` and `wage_effort` are decided, as in those games.
    """
    technology = b.nature([number / 10 for number in range(11)], name="technology")
    forms = ("Crop", "Wage")
    if chooser == "nature":
        form = b.nature(forms, name="form")
    elif chooser == "dictator":
        form = b.decide("dictator", forms, name="form")
    else:
        votes = [b.decide(f"governor{number}", forms, name=f"vote{number}") for number in (1, 2)]
        b.pay(["governor1", "governor2"], 0.0)
        form = b.let(
            lambda one, other: "Wage" if one == other == "Wage" else "Crop", *votes, name="form"
        )
    for name, build in (("Crop", cropping), ("Wage", waging)):
        with b.when(form, name):
            effort = build(b, technology)
            if chooser == "dictator":
                b.pay("dictator", float, effort)


def _divide(b: Trace, sender: Wire, receiver: Wire, pie: int) -> None:
    """The ultimatum game between the players that two wires name."""
    offer = b.decide(sender, range(pie + 1), name="offer")
    answer = b.decide(receiver, ("Accept", "Reject"), sees=[offer], name="answer")
    b.pay(
        sender,
        lambda offer, answer: float(pie - offer) if answer == "Accept" else 0.0,
        offer,
        answer,
    )
    b.pay(
        receiver,
        lambda offer, answer: float(offer) if answer == "Accept" else 0.0,
        offer,
        answer,
    )


def _entrust(b: Trace, sender: Wire, receiver: Wire, pie: int, factor: int) -> None:
    """The trust game between the players that two wires name; what is not sent is kept."""
    send = b.decide(sender, range(pie + 1), name="send")
    back = b.decide(receiver, lambda sent: range(factor * sent + 1), sees=[send], name="back")
    b.pay(sender, lambda sent, back: float(pie - sent + back), send, back)
    b.pay(receiver, lambda sent, back: float(factor * sent - back), send, back)


def _other(b: Trace, player: Wire) -> Wire:
    return b.let(lambda name: _PLAYERS[name == _PLAYERS[0]], player, name="receiver")


@game
def vote_on_bargaining(b: Trace, pie: int = 10, factor: int = 3) -> None:
    """Two voters choose between a trust game and an ultimatum game; the latter needs both votes.

    Who sends is drawn afterwards. Decisions vote1 and vote2, then `send` and `back`, or `offer`
    and `answer`, each by the player who has that part.
    """
    votes = [
        b.decide(player, ("Trust", "Ultimatum"), name=f"vote{number}")
        for number, player in enumerate(_PLAYERS, start=1)
    ]
    chosen = b.let(
        lambda one, other: "Ultimatum" if one == other == "Ultimatum" else "Trust",
        *votes,
        name="chosen",
    )
    sender = b.nature(_PLAYERS, name="sender")
    receiver = _other(b, sender)
    with b.when(chosen, "Trust"):
        _entrust(b, sender, receiver, pie, factor)
    with b.when(chosen, "Ultimatum"):
        _divide(b, sender, receiver, pie)


@game
def vote_on_roles(b: Trace, follows: str = "ultimatum", pie: int = 10, factor: int = 3) -> None:
    """Two players vote who of them is the sender; if they differ a coin decides.

    What follows is the ultimatum game or, if `follows` is "trust", the trust game.
    """
    votes = [
        b.decide(player, _PLAYERS, name=f"vote{number}")
        for number, player in enumerate(_PLAYERS, start=1)
    ]
    sender = b.nature(lambda one, other: (one, other), *votes, name="sender")
    receiver = _other(b, sender)
    if follows == "trust":
        _entrust(b, sender, receiver, pie, factor)
    else:
        _divide(b, sender, receiver, pie)


# ---- behaviour


def _choice(choice: str, dilemma: tuple[str, str], meeting: tuple[str, str]) -> dict[str, str]:
    places = {"E": "Empire State", "G": "Grand Central"}
    moves = {"C": "Cooperate", "D": "Defect"}
    return {
        "choice": choice,
        "player1@dilemma": moves[dilemma[0]],
        "player2@dilemma": moves[dilemma[1]],
        "player1@meeting": places[meeting[0]],
        "player2@meeting": places[meeting[1]],
    }


def _votes(vote: str) -> dict[str, str]:
    return {
        "vote1": vote,
        "vote2": vote,
        **both("Defect", "@dilemma"),
        **both("Stag", "@hunt"),
    }


def _penalty(penalty: int, move: Any) -> dict[str, Any]:
    return {"penalty": penalty, "player1": move, "player2": move}


_ELECTION = {"vote1": "player1", "vote2": "player2", "vote3": "player1"}


def _cooperate_from(least: int) -> Any:
    """Cooperate if the penalty is at least this much."""
    return lambda penalty: "Cooperate" if penalty >= least else "Defect"


_TENURE = {"share": 0.0, "crop_effort": 10, "wage": 0, "wage_effort": 10}
_SELFISH = {"send": 0, "back": 0}
_HARD = {"offer": 0, "answer": "Accept"}

ENTRIES = (
    Entry(
        "dictator_chooses_game",
        dictator_chooses_game,
        "One of the two players dictates which game both play. What he chooses depends on what "
        "would be played in each: he takes the dilemma if he could exploit the other there, and "
        "does not mind either if mutual defection is worth as much as a meeting.",
        _ENGINE,
        {
            "dilemma, defect": _choice("Dilemma", ("D", "D"), ("E", "G")),
            "dilemma, cooperate": _choice("Dilemma", ("C", "C"), ("E", "G")),
            "meeting, would defect": _choice("Meeting", ("D", "D"), ("E", "E")),
            "meeting, would cooperate": _choice("Meeting", ("C", "C"), ("E", "E")),
            "meeting, would exploit": _choice("Meeting", ("D", "C"), ("E", "E")),
            "meeting, would be exploited": _choice("Meeting", ("C", "D"), ("E", "E")),
        },
        (
            Known("dilemma, defect", True, _ENGINE, deviating=()),
            Known(
                "dilemma, cooperate",
                False,
                _ENGINE,
                values={("player1@dilemma", ()): (2, 3), ("player2@dilemma", ()): (2, 3)},
                deviating=("player1@dilemma", "player2@dilemma"),
            ),
            Known("meeting, would defect", True, _ENGINE, deviating=()),
            Known(
                "meeting, would cooperate",
                False,
                _ENGINE,
                values={("choice", ()): (1, 2)},
                deviating=("choice",),
            ),
            Known(
                "meeting, would exploit",
                False,
                _ENGINE,
                values={("choice", ()): (1, 3)},
                deviating=("choice",),
            ),
            Known("meeting, would be exploited", True, _ENGINE, deviating=()),
        ),
    ),
    Entry(
        "vote_on_game",
        vote_on_game,
        "Before they play, two players vote on whether it shall be the prisoner's dilemma or the "
        "stag hunt. If they trust each other to hunt the stag they vote for the hunt; voting for "
        "the dilemma, each would gain half a unit by voting otherwise and tossing the coin.",
        _ENGINE,
        {"vote for the hunt": _votes("Hunt"), "vote for the dilemma": _votes("Dilemma")},
        (
            Known(
                "vote for the hunt",
                True,
                _ENGINE,
                payoffs={"player1": 2, "player2": 2},
                deviating=(),
            ),
            Known(
                "vote for the dilemma",
                False,
                _ENGINE,
                payoffs={"player1": 1, "player2": 1},
                values={("vote1", ()): (1, 1.5), ("vote2", ()): (1, 1.5)},
                deviating=("vote1", "vote2"),
            ),
        ),
    ),
    Entry(
        "dictator_sets_penalty",
        dictator_sets_penalty,
        "One player sets the penalty for defecting before both play. A penalty of one is enough "
        "to make cooperation stable, and setting it is in his own interest.",
        _ENGINE,
        {
            "no penalty, defect": _penalty(0, "Defect"),
            "no penalty, cooperate": _penalty(0, "Cooperate"),
            **{
                f"penalty {penalty}, cooperate": _penalty(penalty, _cooperate_from(1))
                for penalty in (1, 2, 3)
            },
            "penalty 3, defect": _penalty(3, "Defect"),
        },
        (
            Known("no penalty, defect", True, _ENGINE, deviating=()),
            Known(
                "no penalty, cooperate",
                False,
                _ENGINE,
                values={("player1", 0): (2, 3), ("player2", 0): (2, 3)},
                deviating=("player1", "player2"),
            ),
            *(
                Known(
                    f"penalty {penalty}, cooperate",
                    True,
                    _ENGINE,
                    payoffs={"player1": 2, "player2": 2},
                    deviating=(),
                )
                for penalty in (1, 2, 3)
            ),
            Known("penalty 1, cooperate", True, "closed form", notion="perfect"),
            Known(
                "penalty 3, defect",
                False,
                _ENGINE,
                values={
                    ("penalty", ()): (-2, 1),
                    ("player1", 3): (-2, 0),
                    ("player2", 3): (-2, 0),
                },
                deviating=("penalty", "player1", "player2"),
            ),
        ),
    ),
    Entry(
        "elected_dictator",
        elected_dictator,
        "Who sets the penalty is elected first, by three voters of whom one has no stake. The "
        "election, the office and the dilemma are three games put one behind the other; the office "
        "goes to whoever the vote names.",
        _ENGINE,
        {
            "no penalty, defect": {**_ELECTION, **_penalty(0, "Defect")},
            "no penalty, cooperate": {**_ELECTION, **_penalty(0, "Cooperate")},
            "penalty 3, cooperate": {**_ELECTION, **_penalty(3, "Cooperate")},
            "penalty 3, defect": {**_ELECTION, **_penalty(3, "Defect")},
            "penalty 1, defect": {**_ELECTION, **_penalty(1, "Defect")},
        },
        (
            Known("no penalty, defect", True, _ENGINE, deviating=()),
            Known(
                "no penalty, cooperate",
                False,
                _ENGINE,
                values={("player1", 0): (2, 3), ("player2", 0): (2, 3)},
                deviating=("player1", "player2"),
            ),
            Known("penalty 3, cooperate", True, _ENGINE, deviating=()),
            Known(
                "penalty 3, defect",
                False,
                _ENGINE,
                values={
                    ("penalty", ()): (-2, 1),
                    ("player1", 3): (-2, 0),
                    ("player2", 3): (-2, 0),
                },
                deviating=("penalty", "player1", "player2"),
            ),
            Known(
                "penalty 1, defect",
                False,
                _ENGINE,
                values={("penalty", ()): (0, 1)},
                deviating=("penalty",),
            ),
        ),
    ),
    Entry(
        "land_tenure",
        land_tenure,
        "Whether the land is worked for a share or for a wage is decided before anybody works, by "
        "a vote, by chance or by a dictator who wants effort. In either form the landlord keeps "
        "everything, so that nobody minds which it is.",
        _ENGINE,
        {
            "vote for shares": {"vote1": "Crop", "vote2": "Crop", **_TENURE},
            "vote for wages": {"vote1": "Wage", "vote2": "Wage", **_TENURE},
            "nature": _TENURE,
            "dictator": {"form": "Crop", **_TENURE},
            "half for the worker": {"vote1": "Crop", "vote2": "Crop", **_TENURE, "share": 0.5},
        },
        (
            Known("vote for shares", True, _ENGINE, payoffs={"landlord": 5, "worker": 0}),
            Known("vote for wages", True, "closed form", payoffs={"landlord": 5, "worker": 0}),
            Known("nature", True, "closed form", params={"chooser": "nature"}),
            Known(
                "dictator",
                True,
                "closed form",
                params={"chooser": "dictator"},
                payoffs={"dictator": 10},
            ),
            Known("half for the worker", False, "closed form", values={("share", 1.0): (5, 10)}),
        ),
    ),
    Entry(
        "vote_on_bargaining",
        vote_on_bargaining,
        "Two players vote on whether they will play a trust game or an ultimatum game, without "
        "knowing who will have which part. Where the one who moves first gets everything in "
        "either, they are indifferent.",
        _ENGINE,
        {
            "trust": {"vote1": "Trust", "vote2": "Trust", **_SELFISH, **_HARD},
            "ultimatum": {"vote1": "Ultimatum", "vote2": "Ultimatum", **_SELFISH, **_HARD},
            "send all": {"vote1": "Trust", "vote2": "Trust", **_SELFISH, **_HARD, "send": 10},
        },
        (
            Known("trust", True, "closed form", payoffs={"player1": 5, "player2": 5}),
            Known("ultimatum", True, "closed form", payoffs={"player1": 5, "player2": 5}),
            Known("send all", False, "closed form", values={("send", ()): (0, 10)}),
        ),
    ),
    Entry(
        "vote_on_roles",
        vote_on_roles,
        "Two players vote on who of them moves first in a bargain in which the first gets "
        "everything. Each votes for himself, and a coin decides.",
        _ENGINE,
        {
            "for oneself": {"vote1": "player1", "vote2": "player2", **_HARD},
            "for player2": {"vote1": "player2", "vote2": "player2", **_HARD},
            "trust, for oneself": {"vote1": "player1", "vote2": "player2", **_SELFISH},
        },
        (
            Known("for oneself", True, "closed form", payoffs={"player1": 5, "player2": 5}),
            Known("for player2", False, "closed form", values={("vote1", ()): (0, 5)}),
            Known(
                "trust, for oneself",
                True,
                "closed form",
                params={"follows": "trust"},
                payoffs={"player1": 5, "player2": 5},
            ),
        ),
    ),
)
