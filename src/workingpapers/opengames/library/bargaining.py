"""Bargaining and trust between two, and two ways for a landlord to pay for work."""

from typing import Any

from workingpapers.opengames.games import game
from workingpapers.opengames.library import Entry, Known, OnlyEquilibria
from workingpapers.opengames.trace import Trace, Wire

TENTHS = tuple(number / 10 for number in range(11))
EFFORTS = tuple(range(11))

_ENGINE = "open-games engine"
_TEXTBOOK = "textbook"


@game
def ultimatum(b: Trace, pie: int = 10) -> None:
    """The proposer offers 1 to `pie` of the pie; if the responder rejects, both get nothing.

    Decisions `offer` and `answer`; the responder sees the offer.
    """
    offer = b.decide("proposer", range(1, pie + 1), name="offer")
    answer = b.decide("responder", ("Accept", "Reject"), sees=[offer], name="answer")
    b.pay(
        "proposer",
        lambda offer, answer: float(pie - offer) if answer == "Accept" else 0.0,
        offer,
        answer,
    )
    b.pay(
        "responder",
        lambda offer, answer: float(offer) if answer == "Accept" else 0.0,
        offer,
        answer,
    )


@game
def trust(b: Trace, pie: int = 10, factor: Any = 2.0) -> None:
    """The proposer sends 1 to `pie`, which grows by `factor`; the responder sends it back or not.

    Decisions `send` and `back`; the responder sees x, and sends back 0 or x. As in the example it
    is taken from, what is not sent is worth nothing to the proposer: he gets what comes back.
    """
    send = b.decide("proposer", range(1, pie + 1), name="send")
    back = b.decide("responder", lambda sent: (0, sent), sees=[send], name="back")
    b.pay("proposer", float, back)
    b.pay("responder", lambda sent, back: sent * factor - back, send, back)


@game
def centipede(b: Trace, moves: int = 4) -> None:
    """Two players in turn take or wait; the sum grows while both wait.

    At the t-th move, decision move1, move2, ..., who takes gets t and the other t - 2, but not
    less than 0, and the game is over. If nobody ever takes, nobody gets anything.
    """
    goes_on = b.const(True)
    for number in range(1, moves + 1):
        player, other = ("player1", "player2") if number % 2 else ("player2", "player1")
        with b.when(goes_on):
            move = b.decide(player, ("Take", "Wait"), name=f"move{number}")
            with b.when(move, "Take"):
                b.pay(player, float(number))
                b.pay(other, float(max(number - 2, 0)))
            goes_on = b.let(lambda move: move == "Wait", move, name="goes on")


def cropping(b: Trace, technology: Wire) -> Wire:
    """Share-cropping for a known technology; gives the effort."""
    share = b.decide("landlord", TENTHS, sees=[technology], name="share")
    effort = b.decide("worker", EFFORTS, sees=[technology, share], name="crop_effort")
    b.pay(
        "worker",
        lambda technology, share, effort: technology * effort * share,
        technology,
        share,
        effort,
    )
    b.pay(
        "landlord",
        lambda technology, share, effort: technology * effort * (1 - share),
        technology,
        share,
        effort,
    )
    return effort


def waging(b: Trace, technology: Wire) -> Wire:
    """Work for a wage at a known technology; gives the effort."""
    wage = b.decide("landlord", EFFORTS, sees=[technology], name="wage")
    effort = b.decide("worker", EFFORTS, sees=[wage], name="wage_effort")
    b.pay("worker", float, wage)
    b.pay("landlord", lambda wage: -float(wage), wage)
    b.pay("landlord", lambda technology, effort: technology * effort, technology, effort)
    return effort


@game
def share_cropping(b: Trace) -> None:
    """A landlord names the worker's share of the harvest, then the worker his effort.

    Technology is drawn from 0, .1, ..., 1 and known; the share is 0, .1, ..., 1, the effort 0 to
    10, the harvest their product. Decisions `share` and `crop_effort`; the worker sees both
    technology and share.
    """
    cropping(b, b.nature(TENTHS, name="technology"))


@game
def wage_setting(b: Trace) -> None:
    """A landlord names a wage of 0 to 10, and keeps the harvest whatever the worker does.

    Decisions `wage`, which sees the technology, and `wage_effort`, which sees the wage.
    """
    waging(b, b.nature(TENTHS, name="technology"))


# ---- behaviour


def accept_from(least: int) -> Any:
    """Accept every offer of at least this much."""
    return lambda offer: "Accept" if offer >= least else "Reject"


def _moves(*moves: str) -> dict[str, str]:
    return {f"move{number}": move for number, move in enumerate(moves, start=1)}


ENTRIES = (
    Entry(
        "ultimatum",
        ultimatum,
        "One proposes how to divide a pie, the other can only take it or leave it. Threatening to "
        "leave a small share is an equilibrium, but not a credible one: asked, the responder would "
        "take any share.",
        _TEXTBOOK,
        {
            "selfish": {"offer": 1, "answer": "Accept"},
            "threat": {"offer": 4, "answer": accept_from(4)},
            "generous": {"offer": 5, "answer": "Accept"},
        },
        (
            Known(
                "selfish",
                True,
                _ENGINE,
                payoffs={"proposer": 9, "responder": 1},
                values={("offer", ()): (9, 9), ("answer", 1): (1, 1)},
                deviating=(),
            ),
            Known("selfish", True, "closed form", notion="perfect", deviating=()),
            Known("selfish", True, "closed form", notion="player"),
            Known(
                "threat",
                True,
                _ENGINE,
                payoffs={"proposer": 6, "responder": 4},
                values={("offer", ()): (6, 6), ("answer", 4): (4, 4)},
                deviating=(),
            ),
            Known("threat", True, "closed form", notion="player"),
            Known(
                "threat",
                False,
                "closed form",
                notion="perfect",
                values={("answer", 1): (0, 1), ("answer", 2): (0, 2), ("answer", 3): (0, 3)},
                deviating_at=(("answer", 1), ("answer", 2), ("answer", 3)),
            ),
            Known("generous", False, "closed form", values={("offer", ()): (5, 9)}),
        ),
    ),
    Entry(
        "trust",
        trust,
        "What is sent grows on the way, but only the receiver can share the gain, and he keeps "
        "everything. The sender, who gets nothing back, is then indifferent how much he sends.",
        "Berg, Dickhaut, McCabe, Trust, reciprocity, and social history (1995)",
        {
            "keep": {"send": 1, "back": 0},
            "send much, keep": {"send": 7, "back": 0},
            "repay": {"send": 10, "back": lambda sent: sent},
        },
        (
            Known(
                "keep",
                True,
                _ENGINE,
                payoffs={"proposer": 0, "responder": 2},
                values={("send", ()): (0, 0), ("back", 1): (2, 2)},
                deviating=(),
            ),
            Known("send much, keep", True, _ENGINE, payoffs={"proposer": 0, "responder": 14}),
            Known("keep", True, "closed form", notion="perfect"),
            Known("repay", False, "closed form", values={("back", 10): (10, 20)}),
        ),
    ),
    Entry(
        "centipede",
        centipede,
        "Taking the sum at once is all that backward induction allows, although both could have "
        "much more later. Other equilibria also take at once, but rest on waiting at a later move "
        "that would not be wise if it came to it.",
        "Rosenthal, Games of perfect information, predatory pricing and the chain-store paradox "
        "(1981)",
        {
            "take at once": _moves("Take", "Take", "Take", "Take"),
            "would wait at the third": _moves("Take", "Take", "Wait", "Take"),
            "wait": _moves("Wait", "Wait", "Wait", "Wait"),
        },
        (
            Known("take at once", True, _ENGINE, payoffs={"player1": 1, "player2": 0}),
            Known("take at once", True, _ENGINE, notion="player"),
            Known("take at once", True, _ENGINE, notion="perfect", deviating=()),
            Known("would wait at the third", True, _ENGINE, deviating=()),
            Known("would wait at the third", True, _ENGINE, notion="player"),
            Known(
                "would wait at the third",
                False,
                _ENGINE,
                notion="perfect",
                values={("move3", ()): (2, 3), ("move2", ()): (2, 4)},
                deviating=("move2", "move3"),
            ),
            Known("wait", False, "closed form", values={("move4", ()): (0, 4)}),
        ),
    ),
    Entry(
        "share_cropping",
        share_cropping,
        "The worker gets a share of the harvest and decides how hard he works. A landlord who "
        "counts on the same effort whatever the share keeps everything.",
        _TEXTBOOK,
        {
            "landlord keeps all": {"share": 0.0, "crop_effort": 10},
            "half": {"share": 0.5, "crop_effort": 10},
        },
        (
            Known("landlord keeps all", True, _ENGINE, payoffs={"landlord": 5, "worker": 0}),
            Known("half", False, "closed form", values={("share", 1.0): (5, 10)}),
        ),
        (
            # Effort costs nothing, so that any share above 0 makes the worker work.
            OnlyEquilibria(
                ({"share": 0.0, "crop_effort": 10},),
                "closed form",
                fixed={"crop_effort": 10},
            ),
        ),
    ),
    Entry(
        "wage_setting",
        wage_setting,
        "The worker is paid a wage that does not depend on what he does. As effort costs him "
        "nothing either he may work hard, and the landlord pays nothing.",
        _TEXTBOOK,
        {"no wage": {"wage": 0, "wage_effort": 10}, "wage": {"wage": 3, "wage_effort": 10}},
        (
            Known("no wage", True, _ENGINE, payoffs={"landlord": 5, "worker": 0}),
            Known("wage", False, "closed form", values={("wage", 1.0): (7, 10)}),
        ),
        (
            OnlyEquilibria(
                ({"wage": 0, "wage_effort": 10},), "closed form", fixed={"wage_effort": 10}
            ),
        ),
    ),
)
