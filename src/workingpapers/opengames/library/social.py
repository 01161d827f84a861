"""Two-person games of conflict and coordination, and what commitments make of the first of them."""

from collections.abc import Callable
from typing import Any

from workingpapers.opengames.games import game
from workingpapers.opengames.library import Entry, Known, OnlyEquilibria
from workingpapers.opengames.trace import Trace, Wire

PD_MOVES = ("Cooperate", "Defect")
PLACES = ("Empire State", "Grand Central")
SIDES = ("Heads", "Tails")
HUNTS = ("Stag", "Hare")
DRIVES = ("Swerve", "Straight")

_ENGINE = "open-games engine"
_COMMITMENTS = "open-games models of credible commitments (20squares)"
_TEXTBOOK = "textbook"


def dilemma_payoff(
    reward: Any, sucker: Any, temptation: Any, punishment: Any
) -> Callable[..., Any]:
    """The payoff of the prisoner's dilemma by one's own move and the other's."""

    def payoff(own: str, other: str) -> Any:
        if own == "Cooperate":
            return reward if other == "Cooperate" else sucker
        return temptation if other == "Cooperate" else punishment

    return payoff


def _at_once(
    b: Trace,
    moves: tuple[str, ...],
    first: Callable[..., Any],
    second: Callable[..., Any],
    players: tuple[str, str] = ("player1", "player2"),
) -> None:
    """Both move at once; payoffs are functions of one's own move and the other's."""
    one, other = (b.decide(player, moves) for player in players)
    b.pay(players[0], first, one, other)
    b.pay(players[1], second, other, one)


@game
def prisoners_dilemma(
    b: Trace,
    reward: Any = 3.0,
    sucker: Any = 0.0,
    temptation: Any = 5.0,
    punishment: Any = 1.0,
    players: tuple[str, str] = ("player1", "player2"),
) -> None:
    """Two players cooperate or defect at once; each decision has its player's name."""
    payoff = dilemma_payoff(reward, sucker, temptation, punishment)
    _at_once(b, PD_MOVES, payoff, payoff, players)


@game
def meeting_in_new_york(b: Trace) -> None:
    """Two players go to one of two places, and get 1 each if they meet."""
    meet: Callable[..., float] = lambda own, other: float(own == other)  # noqa: E731
    _at_once(b, PLACES, meet, meet)


@game
def matching_pennies(b: Trace) -> None:
    """player1 gets 1 if both show the same side of a coin, player2 if they do not."""
    _at_once(
        b,
        SIDES,
        lambda own, other: float(own == other),
        lambda own, other: float(own != other),
    )


@game
def stag_hunt(b: Trace, stag: Any = 2.0, hare: Any = 1.0) -> None:
    """Two hunters catch a stag together, worth `stag` to each, or a `hare` alone."""

    def payoff(own: str, other: str) -> Any:
        if own == "Hare":
            return hare
        return stag if other == "Stag" else 0.0

    _at_once(b, HUNTS, payoff, payoff)


def _chicken(win: Any, crash: Any) -> Callable[..., Any]:
    def payoff(own: str, other: str) -> Any:
        if own == "Straight":
            return crash if other == "Straight" else win
        return -win if other == "Straight" else 0.0

    return payoff


@game
def chicken(b: Trace, win: Any = 1.0, crash: Any = -10.0) -> None:
    """Two drivers meet: who alone goes Straight wins `win` from the other, both lose in a crash."""
    payoff = _chicken(win, crash)
    _at_once(b, DRIVES, payoff, payoff)


@game
def chicken_traffic_light(
    b: Trace, green_first: float = 0.5, win: Any = 1.0, crash: Any = -10.0
) -> None:
    """The same crossing with a light that both see, green for player1 or for player2."""
    light = b.nature({"player1": green_first, "player2": 1 - green_first}, name="green")
    drives = [b.decide(player, DRIVES, sees=[light]) for player in ("player1", "player2")]
    payoff = _chicken(win, crash)
    b.pay("player1", payoff, *drives)
    b.pay("player2", payoff, *reversed(drives))


# ---- commitments in the prisoner's dilemma


def _follows(
    b: Trace, leader: "str | Wire", follower: "str | Wire", answer: Wire, move: Wire, payoff: Any
) -> None:
    """Credit both, where the leader's move is the answer that he is committed to."""
    b.pay(leader, payoff, answer, move)
    b.pay(follower, payoff, move, answer)


def _committed(
    b: Trace, leader: "str | Wire", follower: "str | Wire", payoff: Any, name: str
) -> None:
    """The leader is bound to cooperate if and only if the follower does."""
    move = b.decide(follower, PD_MOVES, name=name)
    answer = b.let(lambda move: move, move, name="answer")
    _follows(b, leader, follower, answer, move, payoff)


def _extorted(
    b: Trace, leader: "str | Wire", follower: "str | Wire", payoff: Any, demand: int, name: str
) -> None:
    """The leader is bound to cooperate only with a follower who cooperates and pays `demand`."""
    move = b.decide(follower, PD_MOVES, name=name)
    transfer = b.decide(follower, range(4), sees=[move], name="transfer")
    answer = b.let(
        lambda move, paid: "Cooperate" if move == "Cooperate" and paid >= demand else "Defect",
        move,
        transfer,
        name="answer",
    )
    _follows(b, leader, follower, answer, move, payoff)
    b.pay(leader, float, transfer)
    b.pay(follower, lambda paid: -float(paid), transfer)


@game
def commitment_device(
    b: Trace,
    reward: Any = 2.0,
    sucker: Any = 0.0,
    temptation: Any = 3.0,
    punishment: Any = 1.0,
) -> None:
    """Alice is bound to cooperate if and only if Bob does; only Bob decides."""
    _committed(b, "Alice", "Bob", dilemma_payoff(reward, sucker, temptation, punishment), "Bob")


@game
def commitment_choice(
    b: Trace,
    reward: Any = 2.0,
    sucker: Any = 0.0,
    temptation: Any = 3.0,
    punishment: Any = 1.0,
) -> None:
    """Alice first chooses between the commitment device and the plain prisoner's dilemma.

    An external choice: Bob@commit decides under the commitment, Alice@play and Bob@play without.
    """
    choice = b.decide("Alice", ("Commit", "Play"), name="choice")
    with b.when(choice, "Commit"), b.named("@commit"):
        commitment_device.inline(
            b, reward=reward, sucker=sucker, temptation=temptation, punishment=punishment
        )
    with b.when(choice, "Play"), b.named("@play"):
        prisoners_dilemma.inline(
            b,
            reward=reward,
            sucker=sucker,
            temptation=temptation,
            punishment=punishment,
            players=("Alice", "Bob"),
        )


@game
def extortion(
    b: Trace,
    demand: int = 1,
    reward: Any = 2.0,
    sucker: Any = 0.0,
    temptation: Any = 3.0,
    punishment: Any = 1.0,
) -> None:
    """As `commitment_choice`, but Alice's commitment also asks for a payment of `demand`.

    After his move Bob chooses a transfer of 0 to 3, which Alice gets whatever happens.
    """
    payoff = dilemma_payoff(reward, sucker, temptation, punishment)
    choice = b.decide("Alice", ("Commit", "Play"), name="choice")
    with b.when(choice, "Commit"), b.named("@commit"):
        _extorted(b, "Alice", "Bob", payoff, demand, "Bob")
    with b.when(choice, "Play"), b.named("@play"):
        prisoners_dilemma.inline(
            b,
            reward=reward,
            sucker=sucker,
            temptation=temptation,
            punishment=punishment,
            players=("Alice", "Bob"),
        )


@game
def coordinator_auction(
    b: Trace,
    demand: int = 1,
    reward: Any = 2.0,
    sucker: Any = 0.0,
    temptation: Any = 3.0,
    punishment: Any = 1.0,
) -> None:
    """Alice and Bob bid 0 to 3 for the right to commit; a coordinator sells it.

    bid_Alice and bid_Bob are made at once. The coordinator sees both, names the buyer and gets
    his bid. The buyer decides `choice` between the extorting commitment and the plain dilemma.
    """
    payoff = dilemma_payoff(reward, sucker, temptation, punishment)
    first = b.decide("Alice", range(4), name="bid_Alice")
    second = b.decide("Bob", range(4), name="bid_Bob")
    leader = b.decide("coordinator", ("Alice", "Bob"), sees=[first, second])
    price = b.let(
        lambda one, other, sold: one if sold == "Alice" else other,
        first,
        second,
        leader,
        name="price",
    )
    b.pay("coordinator", float, price)
    b.pay(leader, lambda paid: -float(paid), price)
    follower = b.let(lambda sold: "Bob" if sold == "Alice" else "Alice", leader, name="follower")
    choice = b.decide(leader, ("Commit", "Play"), name="choice")
    with b.when(choice, "Commit"):
        _extorted(b, leader, follower, payoff, demand, "answer")
    with b.when(choice, "Play"), b.named("@play"):
        prisoners_dilemma.inline(
            b,
            reward=reward,
            sucker=sucker,
            temptation=temptation,
            punishment=punishment,
            players=("Alice", "Bob"),
        )


# ---- behaviour


def both(move: Any, suffix: str = "") -> dict[str, Any]:
    """Both players of a game do the same."""
    return {f"player1{suffix}": move, f"player2{suffix}": move}


def _pair(first: Any, second: Any) -> dict[str, Any]:
    return {"player1": first, "player2": second}


def _coins(heads: float) -> dict[str, float]:
    return {"Heads": heads, "Tails": 1 - heads}


def _buyer(first: int, second: int) -> Any:
    """The coordinator sells to the higher bid, by a fair coin if they are equal."""
    if first == second:
        return {"Alice": 0.5, "Bob": 0.5}
    return "Alice" if first > second else "Bob"


def _bidding(bid: int) -> dict[str, Any]:
    return {
        "bid_Alice": bid,
        "bid_Bob": bid,
        "coordinator": _buyer,
        "choice": "Commit",
        "answer": "Cooperate",
        "transfer": {"Cooperate": 1, "Defect": 0},
        "Alice@play": "Defect",
        "Bob@play": "Defect",
    }


_PLAY = {"Alice@play": "Defect", "Bob@play": "Defect"}
_EXTORTED = {
    "choice": "Commit",
    "Bob@commit": "Cooperate",
    "transfer@commit": {"Cooperate": 1, "Defect": 0},
    **_PLAY,
}

ENTRIES = (
    Entry(
        "prisoners_dilemma",
        prisoners_dilemma,
        "Two prisoners each do better by defecting whatever the other does, and both would do "
        "better if neither did. The only equilibrium is that both defect.",
        _TEXTBOOK,
        {"cooperate": both("Cooperate"), "defect": both("Defect")},
        (
            Known(
                "defect",
                True,
                _ENGINE,
                payoffs={"player1": 1, "player2": 1},
                values={("player1", ()): (1, 1), ("player2", ()): (1, 1)},
                deviating=(),
            ),
            Known(
                "cooperate",
                False,
                _ENGINE,
                payoffs={"player1": 3, "player2": 3},
                values={("player1", ()): (3, 5), ("player2", ()): (3, 5)},
                deviating=("player1", "player2"),
            ),
        ),
        (OnlyEquilibria((both("Defect"),), _ENGINE),),
    ),
    Entry(
        "meeting_in_new_york",
        meeting_in_new_york,
        "Two friends who cannot talk want to meet at one of two landmarks. Either place is an "
        "equilibrium if both go there, and so is that both toss a fair coin.",
        _TEXTBOOK,
        {
            "empire state": both("Empire State"),
            "grand central": both("Grand Central"),
            "apart": _pair("Grand Central", "Empire State"),
            "coin": both({"Empire State": 0.5, "Grand Central": 0.5}),
        },
        (
            Known("empire state", True, _ENGINE, payoffs={"player1": 1, "player2": 1}),
            Known("grand central", True, _ENGINE, payoffs={"player1": 1, "player2": 1}),
            Known(
                "apart",
                False,
                _ENGINE,
                values={("player1", ()): (0, 1), ("player2", ()): (0, 1)},
                deviating=("player1", "player2"),
            ),
            Known("coin", True, _ENGINE, payoffs={"player1": 0.5, "player2": 0.5}),
        ),
        (OnlyEquilibria((both("Empire State"), both("Grand Central")), _ENGINE),),
    ),
    Entry(
        "matching_pennies",
        matching_pennies,
        "One player wants the coins to match, the other wants them to differ. No pure profile is "
        "stable; in the only equilibrium both toss a fair coin.",
        _TEXTBOOK,
        {
            "heads": both("Heads"),
            "tails": both("Tails"),
            "fair": both(_coins(0.5)),
            "second shows tails": _pair(_coins(0.5), _coins(0.25)),
        },
        (
            Known("fair", True, _ENGINE, payoffs={"player1": 0.5, "player2": 0.5}),
            Known("heads", False, _ENGINE, values={("player2", ()): (0, 1)}),
            Known("tails", False, _ENGINE, values={("player2", ()): (0, 1)}),
            # An equilibrium only where both players have one name.
            Known(
                "second shows tails",
                False,
                "closed form",
                values={("player1", ()): (0.5, 0.75), ("player2", ()): (0.5, 0.5)},
                deviating=("player1",),
            ),
        ),
        (OnlyEquilibria((), "closed form"),),
    ),
    Entry(
        "stag_hunt",
        stag_hunt,
        "Hunting the stag pays only together, the hare can be caught alone. Both together is best "
        "for both, both alone is safe, and either is an equilibrium.",
        _TEXTBOOK,
        {"stag": both("Stag"), "hare": both("Hare")},
        (
            Known("stag", True, "closed form", payoffs={"player1": 2, "player2": 2}),
            Known("hare", True, "closed form", payoffs={"player1": 1, "player2": 1}),
        ),
        (OnlyEquilibria((both("Stag"), both("Hare")), "closed form"),),
    ),
    Entry(
        "chicken",
        chicken,
        "Two cars race towards each other. In each pure equilibrium one gives way and the other "
        "does not, and nothing says who.",
        _TEXTBOOK,
        {
            "first gives way": _pair("Swerve", "Straight"),
            "second gives way": _pair("Straight", "Swerve"),
            "crash": both("Straight"),
        },
        (
            Known("first gives way", True, "closed form", payoffs={"player1": -1, "player2": 1}),
            Known("second gives way", True, "closed form", payoffs={"player1": 1, "player2": -1}),
            Known("crash", False, "closed form", payoffs={"player1": -10}),
        ),
        (
            OnlyEquilibria(
                (_pair("Swerve", "Straight"), _pair("Straight", "Swerve")), "closed form"
            ),
        ),
    ),
    Entry(
        "chicken_traffic_light",
        chicken_traffic_light,
        "A light that both see breaks the symmetry of the game of chicken: whoever has green goes, "
        "the other waits. To obey is a correlated equilibrium, fair if the light is.",
        "Aumann, Subjectivity and correlation (1974)",
        {
            "obey": {
                player: lambda light, player=player: "Straight" if light == player else "Swerve"
                for player in ("player1", "player2")
            },
            "ignore": both("Straight"),
        },
        (
            Known(
                "obey",
                True,
                "closed form",
                payoffs={"player1": 0, "player2": 0},
                values={
                    ("player1", "player1"): (1, 1),
                    ("player1", "player2"): (-1, -1),
                    ("player2", "player1"): (-1, -1),
                    ("player2", "player2"): (1, 1),
                },
                deviating=(),
            ),
            Known("ignore", False, "closed form", payoffs={"player1": -10, "player2": -10}),
        ),
    ),
    Entry(
        "commitment_device",
        commitment_device,
        "Alice hands her move over to a machine that copies Bob's. Bob then gets nothing from "
        "defecting, and cooperates: commitment to a conditional strategy solves the dilemma.",
        _COMMITMENTS,
        {"cooperate": {"Bob": "Cooperate"}, "defect": {"Bob": "Defect"}},
        (
            Known(
                "cooperate",
                True,
                _ENGINE,
                payoffs={"Alice": 2, "Bob": 2},
                values={("Bob", ()): (2, 2)},
                deviating=(),
            ),
            Known("defect", False, "closed form", values={("Bob", ()): (1, 2)}),
        ),
        (OnlyEquilibria(({"Bob": "Cooperate"},), "closed form"),),
    ),
    Entry(
        "commitment_choice",
        commitment_choice,
        "Whether to use the commitment device is itself a choice. Alice uses it, as without it "
        "both would defect.",
        _COMMITMENTS,
        {
            "commit": {"choice": "Commit", "Bob@commit": "Cooperate", **_PLAY},
            "play": {"choice": "Play", "Bob@commit": "Cooperate", **_PLAY},
        },
        (
            Known("commit", True, _ENGINE, payoffs={"Alice": 2, "Bob": 2}, deviating=()),
            Known(
                "play",
                False,
                _ENGINE,
                values={("choice", ()): (1, 2)},
                deviating=("choice",),
            ),
        ),
    ),
    Entry(
        "extortion",
        extortion,
        "Who can commit can also ask a price: Alice cooperates only if Bob does and pays her. Bob "
        "pays as much as cooperation is worth to him, so that she takes the whole gain.",
        _COMMITMENTS,
        {
            "pay": _EXTORTED,
            "play": {**_EXTORTED, "choice": "Play"},
            "refuse": {**_EXTORTED, "transfer@commit": 0},
        },
        (
            Known("pay", True, _ENGINE, payoffs={"Alice": 3, "Bob": 1}, deviating=()),
            Known("play", False, "closed form", values={("choice", ()): (1, 3)}),
            Known(
                "refuse",
                False,
                "closed form",
                values={("transfer@commit", "Cooperate"): (0, 1), ("Bob@commit", ()): (0, 1)},
            ),
        ),
    ),
    Entry(
        "coordinator_auction",
        coordinator_auction,
        "The right to commit is worth something, so a coordinator sells it to the higher of two "
        "bids. The nested auction, choice and commitment stay as they are; only who plays which "
        "part is now decided inside.",
        _COMMITMENTS,
        {"both bid 1": _bidding(1), "both bid 3": _bidding(3)},
        (
            Known("both bid 1", True, _ENGINE, payoffs={"coordinator": 1}, deviating=()),
            Known("both bid 3", False, "closed form", payoffs={"coordinator": 3}),
        ),
    ),
)
