"""Institutions of distributed ledgers: order of trades, staked deposits and bribes."""

from collections.abc import Sequence
from typing import Any

from workingpapers.foundation.errors import InputError
from workingpapers.opengames.games import game
from workingpapers.opengames.library import Entry, Known, OnlyEquilibria
from workingpapers.opengames.trace import Trace

PLAYERS = ("player1", "player2")
ORDERS = (("player1", "player2"), ("player2", "player1"))

_ENGINE = "open-games engine"
_COMMITMENTS = "open-games models of credible commitments (20squares)"


def swap(reserves: tuple[float, float], sent: float) -> tuple[float, tuple[float, float]]:
    """What a constant-product pool pays out for `sent` of its first token, and its new reserves.

    One unit of the second token is kept back by the pool at every trade.
    """
    first, second = reserves
    left = first * second / (first + sent) + 1
    return second - left, (first + sent, left)


@game
def constant_product_market(
    b: Trace,
    swaps: tuple[float, float] = (50.0, 40.0),
    reserves: tuple[float, float] = (100.0, 100.0),
    endowment: tuple[float, float] = (50.0, 50.0),
    rate: Any = 1.0,
    highest_fee: int = 50,
    goal: str = "fee",
) -> None:
    """Two traders want to be first at an automated market maker, and pay a sequencer for it.

    Both sell a fixed amount of the first token for the second. They decide fee1 and fee2, 0 to
    `highest_fee`, at once; the sequencer sees both and decides `order`. Only the first pays his
    fee. A trader is paid what he holds afterwards, the second token at `rate` of the first. The
    sequencer is paid the fee or, if `goal` is "welfare", the sum of what both hold.
    """
    if goal not in ("fee", "welfare"):
        raise InputError(f"goal {goal!r}: expected fee or welfare")
    fees = [
        b.decide(player, range(highest_fee + 1), name=f"fee{number}")
        for number, player in enumerate(PLAYERS, start=1)
    ]
    order = b.decide("sequencer", ORDERS, sees=fees, name="order")

    def holdings(order: tuple[str, str]) -> dict[str, Any]:
        held: dict[str, Any] = {}
        pool = reserves
        for player in order:
            sent = swaps[PLAYERS.index(player)]
            received, pool = swap(pool, sent)
            held[player] = endowment[0] - sent + rate * (endowment[1] + received)
        return held

    for player, fee in zip(PLAYERS, fees, strict=True):
        b.pay(player, lambda order, player=player: holdings(order)[player], order)
        b.pay(
            player,
            lambda order, fee, player=player: -float(fee) if order[0] == player else 0.0,
            order,
            fee,
        )
        if goal == "fee":
            b.pay(
                "sequencer",
                lambda order, fee, player=player: float(fee) if order[0] == player else 0.0,
                order,
                fee,
            )
    if goal == "welfare":
        b.pay("sequencer", lambda order: sum(holdings(order).values()), order)


@game
def and_gate_staking(
    b: Trace,
    deposits: Sequence[Any] = (0, 1, 2, 3, 4, 4.6, 5, 6, 7, 8, 9, 10),
    bribes: Sequence[Any] = (0, 1, 2, 3, 4, 5),
    cost: Any = 0.05,
    reward: Any = 1.0,
    penalty: Any = 0.5,
    prize: float = 1000.0,
    attack: float = 0.001,
) -> None:
    """Three stakers vouch for a statement with deposits; an attacker may bribe them to deny it.

    deposit1 to deposit3 are made at once, each costs `cost` a unit. The attacker's stake is `prize`
    with probability `attack`, else 0; he sees it and the deposits and decides `bribe`, offered to
    each. signal1 to signal3 see deposits and bribe. If all signal True they share `reward` by
    deposits, else each loses `penalty` a unit of his. Who signals False gets the bribe, and the
    attacker wins his stake if all do.
    """
    stakers = ("staker1", "staker2", "staker3")
    placed = [
        b.decide(staker, deposits, name=f"deposit{number}")
        for number, staker in enumerate(stakers, start=1)
    ]
    for staker, deposit in zip(stakers, placed, strict=True):
        b.pay(staker, lambda deposit: -cost * deposit, deposit)
    stake = b.nature({0.0: 1 - attack, prize: attack}, name="stake")
    bribe = b.decide("attacker", bribes, sees=[*placed, stake], name="bribe")
    signals = [
        b.decide(staker, (True, False), sees=[*placed, bribe], name=f"signal{number}")
        for number, staker in enumerate(stakers, start=1)
    ]
    denied = b.fold("count", [b.let(lambda signal: not signal, one) for one in signals])
    total = b.fold("sum", placed)
    for staker, deposit, signal in zip(stakers, placed, signals, strict=True):
        b.pay(
            staker,
            lambda deposit, total, denied: (
                -penalty * deposit if denied else reward * (deposit / total if total else 0.0)
            ),
            deposit,
            total,
            denied,
        )
        b.pay(staker, lambda bribe, signal: 0.0 if signal else float(bribe), bribe, signal)
    b.pay("attacker", lambda bribe, denied: -float(bribe * denied), bribe, denied)
    b.pay("attacker", lambda stake, denied: stake if denied == 3 else 0.0, stake, denied)


@game
def tullock_deposits(
    b: Trace,
    stakers: int = 2,
    highest: int = 10,
    steps: int = 1,
    reward: Any = 1.0,
    cost: Any = 0.05,
) -> None:
    """Stakers share a reward in proportion to their deposits: a Tullock contest.

    staker1, staker2, ... decide deposit1, deposit2, ... at once, from 0 to `highest` in `steps`
    steps a unit; each pays `cost` a unit. If nobody deposits anything nobody gets anything.
    """
    deposits = [number / steps for number in range(highest * steps + 1)]
    placed = [
        b.decide(f"staker{number}", deposits, name=f"deposit{number}")
        for number in range(1, stakers + 1)
    ]
    total = b.fold("sum", placed)
    for number, deposit in enumerate(placed, start=1):
        b.pay(f"staker{number}", lambda deposit: -cost * deposit, deposit)
        b.pay(
            f"staker{number}",
            lambda deposit, total: reward * (deposit / total if total else 0.0),
            deposit,
            total,
        )


# ---- behaviour


def tullock_deposit(stakers: int, reward: float = 1.0, cost: float = 0.05) -> float:
    """What each deposits in the equilibrium of the contest, if any amount may be."""
    return reward * (stakers - 1) / (stakers**2 * cost)


def greedy(one: int, other: int) -> Any:
    """The sequencer puts the higher fee first, by a fair coin if they are equal."""
    if one == other:
        return dict.fromkeys(ORDERS, 0.5)
    return ORDERS[one < other]


def _fees(fee: int) -> dict[str, Any]:
    return {"fee1": fee, "fee2": fee, "order": greedy}


def _first(player: str) -> dict[str, Any]:
    return {"fee1": 0, "fee2": 0, "order": ORDERS[PLAYERS.index(player)]}


def _alike(prefix: str, number: int, move: Any) -> dict[str, Any]:
    return {f"{prefix}{one}": move for one in range(1, number + 1)}


_STAKING = {
    **_alike("deposit", 3, 4.6),
    "bribe": lambda *seen: 5 if seen[-1] > 0 else 0,
    **_alike("signal", 3, lambda *seen: seen[-1] < 5),
}
_FEES = tuple(range(12, 17))

ENTRIES = (
    Entry(
        "constant_product_market",
        constant_product_market,
        "The price at an automated market moves with every trade, so that two who sell the same "
        "token both want to be first. They bid for it by fees to whoever orders the trades, until "
        "the fee eats up the advantage; a sequencer who minded the traders would put the smaller "
        "trade first.",
        _COMMITMENTS,
        {
            **{f"fees {fee}": _fees(fee) for fee in _FEES},
            "player1 first": _first("player1"),
            "player2 first": _first("player2"),
        },
        (
            *(Known(f"fees {fee}", fee in (13, 14), _ENGINE) for fee in _FEES),
            Known(
                "player1 first",
                None,
                _ENGINE,
                payoffs={"player1": 82.3333, "player2": 73.2456},
                within=5e-5,
            ),
            Known(
                "player2 first",
                None,
                _ENGINE,
                payoffs={"player1": 68.0602, "player2": 87.5714},
                within=5e-5,
            ),
            Known(
                "player2 first",
                True,
                _ENGINE,
                params={"goal": "welfare"},
                payoffs={"sequencer": 155.6316},
                within=5e-5,
            ),
            Known(
                "player1 first",
                False,
                _ENGINE,
                params={"goal": "welfare"},
                payoffs={"sequencer": 155.5789},
                values={("order", (0, 0)): (155.5789, 155.6316)},
                deviating=("order",),
                within=5e-5,
            ),
        ),
        (
            OnlyEquilibria(
                (_fees(13), _fees(14)),
                _ENGINE,
                params={"highest_fee": 16},
                fixed={"order": greedy},
                among={"fee1": _FEES, "fee2": _FEES},
            ),
        ),
    ),
    Entry(
        "and_gate_staking",
        and_gate_staking,
        "Three stakers are paid for agreeing that a statement is true, in proportion to what they "
        "have staked on it, and lose part of it if anyone denies it. A rare attacker with much to "
        "gain bribes all of them. As attacks are so rare they stake almost as if there were none.",
        "open-games engine: and-gate staking",
        {"stake, deny for a bribe of 5": _STAKING},
        (
            Known(
                "stake, deny for a bribe of 5",
                True,
                _ENGINE,
                values={(f"deposit{number}", ()): (0.1057, 0.105727) for number in (1, 2, 3)},
                eps=0.001,
                within=5e-7,
            ),
        ),
    ),
    Entry(
        "tullock_deposits",
        tullock_deposits,
        "Without bribes what is left of the staking game is a contest: everybody's deposit raises "
        "his own share of a fixed reward and lowers the others'. Part of the reward is spent on "
        "the contest, and the more so the more take part.",
        "Tullock, Efficient rent seeking (1980)",
        {
            "two": _alike("deposit", 2, 5.0),
            "two, less": _alike("deposit", 2, 4.0),
            "ten": _alike("deposit", 10, 4.0),
        },
        (
            Known("two", True, _ENGINE, payoffs={"staker1": 0.25, "staker2": 0.25}, deviating=()),
            Known("two", True, "closed form", params={"steps": 10}, deviating=()),
            Known("two, less", False, "closed form"),
            Known(
                "ten",
                True,
                _ENGINE,
                params={"stakers": 10, "reward": 20 / 9},
                deviating=(),
            ),
        ),
        (OnlyEquilibria((_alike("deposit", 2, 5.0),), "closed form"),),
    ),
)
