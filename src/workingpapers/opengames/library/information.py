"""Games in which somebody knows more: signals, hidden types, beliefs off the path, cards."""

from typing import Any

from workingpapers.opengames.games import game
from workingpapers.opengames.library import Entry, Known, OnlyEquilibria
from workingpapers.opengames.trace import Trace

STATES = ("A", "B")
QUALITIES = ("Good", "Bad")
CARDS = ("Jack", "Queen", "King")

_ENGINE = "open-games engine"


@game
def signal_coordination(b: Trace, prior: float = 0.6, precision: float = 0.7) -> None:
    """One player guesses the state of the world, A or B, from a noisy signal of it.

    The state is A with probability `prior`, the signal is right with probability `precision`; a
    right guess pays 1. The decision `guess` sees the signal.
    """
    state = b.nature({"A": prior, "B": 1 - prior}, name="state")
    signal = b.nature(
        lambda state: {one: precision if one == state else 1 - precision for one in STATES},
        state,
        name="signal",
    )
    guess = b.decide("player", STATES, sees=[signal], name="guess")
    b.pay("player", lambda guess, state: float(guess == state), guess, state)


_PRISONER1 = {
    ("Confess", "Confess"): -5.0,
    ("Confess", "Deny"): -1.0,
    ("Deny", "Confess"): -10.0,
    ("Deny", "Deny"): 0.0,
}
"""By prisoner1's move and prisoner2's."""
_PRISONER2 = {
    "Rat": {
        ("Confess", "Confess"): -5.0,
        ("Confess", "Deny"): -10.0,
        ("Deny", "Confess"): -1.0,
        ("Deny", "Deny"): -2.0,
    },
    "NoRat": {
        ("Confess", "Confess"): -11.0,
        ("Confess", "Deny"): -10.0,
        ("Deny", "Confess"): -7.0,
        ("Deny", "Deny"): -2.0,
    },
}


@game
def bayesian_prisoners_dilemma(b: Trace) -> None:
    """A prisoner's dilemma in which the second may hate to confess, and only he knows.

    He is Rat or NoRat with equal chance. Both decide at once, `prisoner1` without seeing anything,
    `prisoner2` seeing his own type.
    """
    kind = b.nature(("Rat", "NoRat"), name="type")
    first = b.decide("prisoner1", ("Confess", "Deny"))
    second = b.decide("prisoner2", ("Confess", "Deny"), sees=[kind])
    b.pay("prisoner1", lambda one, other: _PRISONER1[one, other], first, second)
    b.pay("prisoner2", lambda kind, one, other: _PRISONER2[kind][one, other], kind, first, second)


@game
def lemons(
    b: Trace,
    good: float = 0.2,
    seller_values: tuple[float, float] = (100.0, 50.0),
    buyer_values: tuple[float, float] = (120.0, 70.0),
    prices: tuple[float, float] = (60.0, 110.0),
) -> None:
    """A seller who knows the quality of a car asks a low or a high price; the buyer sees only that.

    Values are of a good car and of a bad one, prices the low and the high one. Decisions `price`,
    which sees the quality, and `buy`, which sees the price.
    """
    quality = b.nature({"Good": good, "Bad": 1 - good}, name="quality")
    price = b.decide("seller", ("Low", "High"), sees=[quality], name="price")
    buy = b.decide("buyer", ("Buy", "Pass"), sees=[price], name="buy")

    def paid(price: str) -> float:
        return prices[price == "High"]

    b.pay(
        "seller",
        lambda quality, price, buy: (
            paid(price) - seller_values[quality == "Bad"] if buy == "Buy" else 0.0
        ),
        quality,
        price,
        buy,
    )
    b.pay(
        "buyer",
        lambda quality, price, buy: (
            buyer_values[quality == "Bad"] - paid(price) if buy == "Buy" else 0.0
        ),
        quality,
        price,
        buy,
    )


@game
def job_signalling(
    b: Trace,
    low_weight: float = 8.0,
    high_weight: float = 1.0,
    worth: tuple[Any, Any] = (50.0, 100.0),
    wages: tuple[Any, Any] = (40.0, 80.0),
    effort_cost: Any = 45.0,
) -> None:
    """A worker signals his ability by effort, a firm offers a wage, the worker accepts or not.

    The type is Low or High with the given weights and is worth `worth` to the firm, which pays the
    low or the high of `wages`; high effort costs the low type only. Decisions `effort` (sees the
    type), `wage` (sees the effort) and `contract` (sees type, effort and wage).
    """
    total = low_weight + high_weight
    kind = b.nature({"Low": low_weight / total, "High": high_weight / total}, name="type")
    effort = b.decide("worker", ("Low", "High"), sees=[kind], name="effort")
    wage = b.decide("firm", ("Low", "High"), sees=[effort], name="wage")
    contract = b.decide("worker", ("Accept", "Refuse"), sees=[kind, effort, wage], name="contract")
    b.pay(
        "worker",
        lambda kind, effort: -effort_cost if (kind, effort) == ("Low", "High") else 0.0,
        kind,
        effort,
    )
    b.pay(
        "worker",
        lambda wage, contract: wages[wage == "High"] if contract == "Accept" else 0.0,
        wage,
        contract,
    )
    b.pay(
        "firm",
        lambda kind, wage, contract: (
            worth[kind == "High"] - wages[wage == "High"] if contract == "Accept" else 0.0
        ),
        kind,
        wage,
        contract,
    )


@game
def seltens_horse(b: Trace) -> None:
    """Three players; the third does not see whether the first or the second has moved down to him.

    player1 goes down (D) to player3 or across (C) to player2, who goes down (d) to player3 or ends
    the game (c). player3 chooses L or R. Payoffs: after D, L 3, 3, 2 and R 0, 0, 0; after C and d,
    L 4, 4, 0 and R 0, 0, 1; after C and c 1, 1, 1.
    """
    players = ("player1", "player2", "player3")
    first = b.decide("player1", ("D", "C"))
    with b.when(first, "C"):
        second = b.decide("player2", ("d", "c"))
        with b.when(second, "c"):
            b.pay(players, 1.0)
        then = b.let(lambda move: move == "d", second, name="then down")
    with b.when(first, "D"):
        at_once = b.const(True)
    third = b.merge(at_once, then)
    with b.when(third):
        choice = b.decide("player3", ("L", "R"))
        with b.when(first, "D"):
            for player, worth in zip(players, (3.0, 3.0, 2.0), strict=True):
                b.pay(player, lambda move, worth=worth: worth if move == "L" else 0.0, choice)
        with b.when(first, "C"):
            for player in players[:2]:
                b.pay(player, lambda move: 4.0 if move == "L" else 0.0, choice)
            b.pay("player3", lambda move: 1.0 if move == "R" else 0.0, choice)


@game
def kuhn_poker(b: Trace, bet: Any = 1.0) -> None:
    """Poker with three cards and one round of betting; both put 1 in the pot first.

    Each is dealt one of Jack, Queen, King. player1 checks or bets (`open`); after a check player2
    checks or bets (`after_check`), and player1 then folds or calls (`after_check_bet`); after a bet
    player2 folds or calls (`after_bet`). Each sees his card and what was done before.
    """
    deals = [(one, other) for one in CARDS for other in CARDS if one != other]
    deal = b.nature(deals, name="deal")
    card1 = b.let(lambda deal: deal[0], deal, name="card")
    card2 = b.let(lambda deal: deal[1], deal, name="card")
    first_wins = b.let(
        lambda deal: CARDS.index(deal[0]) > CARDS.index(deal[1]), deal, name="player1 is higher"
    )

    def showdown(stake: Any) -> None:
        b.pay("player1", lambda wins: stake if wins else -stake, first_wins)
        b.pay("player2", lambda wins: -stake if wins else stake, first_wins)

    def fold(loser: str, winner: str) -> None:
        b.pay(winner, 1.0)
        b.pay(loser, -1.0)

    opening = b.decide("player1", ("Check", "Bet"), sees=[card1], name="open")
    with b.when(opening, "Check"):
        reply = b.decide(
            "player2", ("Check", "Bet"), sees=[card2, b.const("Check")], name="after_check"
        )
        with b.when(reply, "Check"):
            showdown(1.0)
        with b.when(reply, "Bet"):
            history = b.const("Check, Bet")
            call = b.decide(
                "player1", ("Fold", "Call"), sees=[card1, history], name="after_check_bet"
            )
            with b.when(call, "Fold"):
                fold("player1", "player2")
            with b.when(call, "Call"):
                showdown(1.0 + bet)
    with b.when(opening, "Bet"):
        answer = b.decide(
            "player2", ("Fold", "Call"), sees=[card2, b.const("Bet")], name="after_bet"
        )
        with b.when(answer, "Fold"):
            fold("player2", "player1")
        with b.when(answer, "Call"):
            showdown(1.0 + bet)


# ---- behaviour


def _mixed(action: str, share: float, other: str) -> dict[str, float]:
    return {action: share, other: 1 - share}


def kuhn_equilibrium(alpha: float) -> dict[str, Any]:
    """The equilibria of Kuhn poker: player1 bets a Jack with probability `alpha`, 0 to 1/3."""
    open_with = {"Jack": alpha, "Queen": 0.0, "King": 3 * alpha}
    call_with = {"Jack": 0.0, "Queen": alpha + 1 / 3, "King": 1.0}
    bluff_with = {"Jack": 1 / 3, "Queen": 0.0, "King": 1.0}
    answer_with = {"Jack": 0.0, "Queen": 1 / 3, "King": 1.0}
    return {
        "open": lambda card: _mixed("Bet", open_with[card], "Check"),
        "after_check": lambda card, history: _mixed("Bet", bluff_with[card], "Check"),
        "after_check_bet": lambda card, history: _mixed("Call", call_with[card], "Fold"),
        "after_bet": lambda card, history: _mixed("Call", answer_with[card], "Fold"),
    }


def _horse(first: str, second: str, third: str) -> dict[str, str]:
    return {"player1": first, "player2": second, "player3": third}


_FOLLOW = {"guess": {"A": "A", "B": "B"}}
_LEMONS = {
    "price": {"Good": "High", "Bad": {"High": 1 / 16, "Low": 15 / 16}},
    "buy": {"Low": "Buy", "High": {"Buy": 1 / 6, "Pass": 5 / 6}},
}

ENTRIES = (
    Entry(
        "signal_coordination",
        signal_coordination,
        "A single player wants to match the state of the world and sees a signal that is often but "
        "not always right. Whether to follow it depends on how likely the state was to begin with: "
        "a strong prior outweighs a weak signal.",
        "textbook: Bayes' rule",
        {"follow": _FOLLOW, "opposite": {"guess": {"A": "B", "B": "A"}}},
        (
            Known(
                "follow",
                True,
                _ENGINE,
                values={("guess", "A"): (0.7778, 0.7778), ("guess", "B"): (0.6087, 0.6087)},
                within=5e-5,
                deviating=(),
            ),
            Known(
                "follow",
                False,
                _ENGINE,
                params={"prior": 0.8},
                values={("guess", "B"): (0.3684, 0.6316)},
                within=5e-5,
                deviating_at=(("guess", "B"),),
            ),
            Known("follow", True, "closed form", payoffs={"player": 0.7}),
            Known(
                "opposite",
                False,
                "closed form",
                values={("guess", "A"): (2 / 9, 7 / 9), ("guess", "B"): (9 / 23, 14 / 23)},
                deviating_at=(("guess", "A"), ("guess", "B")),
            ),
        ),
        pure_equilibria=(OnlyEquilibria((_FOLLOW,), "closed form"),),
    ),
    Entry(
        "bayesian_prisoners_dilemma",
        bayesian_prisoners_dilemma,
        "Of two prisoners the second may be one who suffers from telling on the other, and the "
        "first does not know. The first confesses; the second does so only if he does not mind.",
        "Mas-Colell, Whinston, Green, Microeconomic Theory (1995), p. 254",
        {
            "confess, deny if no rat": {
                "prisoner1": "Confess",
                "prisoner2": {"Rat": "Confess", "NoRat": "Deny"},
            },
            "all deny": {"prisoner1": "Deny", "prisoner2": "Deny"},
        },
        (
            Known(
                "confess, deny if no rat",
                True,
                _ENGINE,
                payoffs={"prisoner1": -3, "prisoner2": -7.5},
                values={
                    ("prisoner1", ()): (-3, -3),
                    ("prisoner2", "Rat"): (-5, -5),
                    ("prisoner2", "NoRat"): (-10, -10),
                },
                deviating=(),
            ),
            Known(
                "all deny",
                False,
                "closed form",
                values={("prisoner2", "Rat"): (-2, -1)},
                deviating_at=(("prisoner2", "Rat"),),
            ),
        ),
    ),
    Entry(
        "lemons",
        lemons,
        "Only the seller knows whether the car is good. With few good ones around a high price is "
        "suspicious, and in equilibrium a few bad cars are offered at it and few buyers accept it: "
        "most good cars stay unsold. No equilibrium is pure.",
        "after Akerlof, The market for lemons (1970)",
        {
            "mixed": _LEMONS,
            "honest": {"price": {"Good": "High", "Bad": "Low"}, "buy": "Buy"},
        },
        (
            Known(
                "mixed",
                True,
                _ENGINE,
                values={
                    ("price", "Good"): (10 / 6, 10 / 6),
                    ("price", "Bad"): (10, 10),
                    ("buy", "Low"): (10, 10),
                    ("buy", "High"): (0, 0),
                },
                deviating=(),
            ),
            Known("mixed", True, "closed form", notion="perfect"),
            Known("mixed", True, "closed form", notion="pbe"),
            Known("honest", False, "closed form", values={("price", "Bad"): (10, 60)}),
        ),
        pure_equilibria=(OnlyEquilibria((), "closed form", notion="pbe"),),
    ),
    Entry(
        "job_signalling",
        job_signalling,
        "Effort is cheaper for able workers, so it could tell them apart. But a firm that may set "
        "the wage after seeing it has no reason to pay more, whatever it has learnt: the wage is "
        "low, and the unable do not bother.",
        "after Spence, Job market signaling (1973)",
        {
            "no effort": {"effort": "Low", "wage": "Low", "contract": "Accept"},
            "able work": {
                "effort": {"Low": "Low", "High": "High"},
                "wage": "Low",
                "contract": "Accept",
            },
            "paid for effort": {
                "effort": {"Low": "Low", "High": "High"},
                "wage": {"Low": "Low", "High": "High"},
                "contract": "Accept",
            },
        },
        (
            Known("no effort", True, _ENGINE),
            Known("able work", True, _ENGINE),
            Known("paid for effort", False, "closed form", values={("wage", "High"): (20, 60)}),
        ),
        pure_equilibria=(
            OnlyEquilibria(
                (
                    {"effort": "Low", "wage": "Low"},
                    {"effort": {"Low": "Low", "High": "High"}, "wage": "Low"},
                ),
                _ENGINE,
                fixed={"contract": "Accept"},
            ),
        ),
    ),
    Entry(
        "seltens_horse",
        seltens_horse,
        "Two pure profiles are equilibria. In the first the second player would end a game that he "
        "should not end if he were asked; only the other is sequential, with a third player who "
        "believes that the first has hardly ever come down to him.",
        "Selten, Reexamination of the perfectness concept for equilibrium points (1975)",
        {"down": _horse("D", "c", "L"), "across": _horse("C", "c", "R")},
        (
            Known(
                "down",
                True,
                "Selten (1975)",
                notion="player",
                payoffs={"player1": 3, "player2": 3, "player3": 2},
            ),
            Known(
                "across",
                True,
                "Selten (1975)",
                notion="player",
                payoffs={"player1": 1, "player2": 1, "player3": 1},
            ),
            Known("down", True, "Selten (1975)"),
            Known("across", True, "Selten (1975)"),
            Known("down", False, "Selten (1975)", notion="pbe", deviating=("player2",)),
            Known("across", True, "Selten (1975)", notion="pbe"),
            # After uniform trembles player3 believes D with probability 1/2, more than 1/3.
            Known("across", False, "closed form", notion="perfect", deviating=("player3",)),
            Known(
                "down",
                False,
                "closed form",
                notion="perfect",
                values={("player2", ()): (1, 4)},
                deviating=("player2",),
            ),
        ),
        pure_equilibria=(
            OnlyEquilibria(
                (_horse("D", "c", "L"), _horse("C", "c", "R")), "Selten (1975)", notion="player"
            ),
        ),
    ),
    Entry(
        "kuhn_poker",
        kuhn_poker,
        "The smallest poker in which bluffing pays. The one who opens loses an eighteenth of a "
        "unit a game, however often he bluffs within what is right; the other has one best way.",
        "Kuhn, A simplified two-person poker (1950)",
        {
            "never open": kuhn_equilibrium(0.0),
            "bluff": kuhn_equilibrium(0.2),
            "bluff often": kuhn_equilibrium(1 / 3),
            "bluff too often": kuhn_equilibrium(1 / 3)
            | {"open": {"Jack": "Bet", "Queen": "Check", "King": "Bet"}},
        },
        (
            *(
                Known(
                    profile,
                    True,
                    "Kuhn (1950)",
                    notion=notion,
                    payoffs={"player1": -1 / 18, "player2": 1 / 18},
                )
                for profile in ("never open", "bluff", "bluff often")
                for notion in ("player", "agent")
            ),
            Known("bluff too often", False, "Kuhn (1950)", notion="player"),
        ),
    ),
)
