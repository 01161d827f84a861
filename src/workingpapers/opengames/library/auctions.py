"""Auctions of one object and of permits, with the tie rule as an argument."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from workingpapers.foundation.errors import InputError
from workingpapers.opengames.games import game
from workingpapers.opengames.library import Entry, Known
from workingpapers.opengames.trace import Trace, Wire

TIES = ("all", "split", "order")
TWENTIES = (0, 20, 40, 60, 80, 100)
THREES = (0, 3, 6, 9)

_ENGINE = "open-games engine"
_BUILDERS = "open-games models of proposer-builder auctions (20squares)"
_TEXTBOOK = "textbook"


def _bids(
    b: Trace, bidders: int, values: Sequence[Any], bids: Sequence[Any], shown: Sequence[Wire] = ()
) -> list[tuple[str, Wire, Wire]]:
    """Independent private values and sealed bids: (bidder, value, bid) of each."""
    found = []
    for number in range(1, bidders + 1):
        player = f"bidder{number}"
        value = b.nature(values, name=f"value{number}")
        found.append((player, value, b.decide(player, bids, [value, *shown], name=f"bid{number}")))
    return found


def _standing(kth: int) -> Callable[[Any, Any], Any]:
    """Combine what is known of two sets of bids.

    That is (highest, how many have it, the `kth` highest bids, the first bidder with the highest).
    """

    def combined(one: Any, other: Any) -> Any:
        ladder = tuple(sorted((*one[2], *other[2]), reverse=True)[:kth])
        if one[0] == other[0]:
            return (one[0], one[1] + other[1], ladder, min(one[3], other[3]))
        above = max(one, other)
        return (above[0], above[1], ladder, above[3])

    return combined


def _ranking(b: Trace, bids: Sequence[Wire], kth: int, tie: str) -> Wire:
    """What decides an auction: (highest bid, how many have it) and more only where it matters."""
    if tie not in TIES:
        raise InputError(f"tie {tie!r}: expected {', '.join(TIES)}")
    if not 1 <= kth <= len(bids):
        raise InputError(f"kth {kth}: expected 1 to the number of bidders, {len(bids)}")
    if kth == 1 and tie != "order":
        return b.fold("highest", bids)
    marked = [
        b.let(
            lambda bid, rank=number if tie == "order" else 0: (bid, 1, (bid,), rank),
            bid,
            name="bid",
        )
        for number, bid in enumerate(bids, start=1)
    ]
    return b.fold(_standing(kth), marked)


def _wins(standing: Any, bid: Any, tie: str, rank: int) -> float:
    """With what probability a bid gets the object; with the rule "all" more than one may."""
    if bid < standing[0]:
        return 0.0
    if tie == "order":
        return float(rank == standing[3])
    return 1.0 if tie == "all" else 1 / standing[1]


def _price(standing: Any, kth: int) -> Any:
    return standing[0] if kth == 1 else standing[2][kth - 1]


@game
def kth_price_auction(
    b: Trace,
    bidders: int = 2,
    kth: int = 2,
    values: Sequence[Any] = TWENTIES,
    bids: Sequence[Any] = TWENTIES,
    tie: str = "split",
    free_counts: bool = True,
) -> None:
    """A sealed-bid auction: the highest bid wins and pays the `kth` highest.

    bidder1, bidder2, ... have independent values, uniform on `values`, and decide bid1, bid2, ...
    seeing their own. `tie` says who wins among equal bids: "all" of them, each for the full price,
    one by a fair draw ("split"), or the first in "order". If `free_counts` is False a winner at
    price 0 gets nothing, a rule of the example that some records are from. The seller is paid the
    prices.
    """
    made = _bids(b, bidders, values, bids)
    standing = _ranking(b, [bid for _, _, bid in made], kth, tie)
    for rank, (player, value, bid) in enumerate(made, start=1):

        def gain(
            value: Any, bid: Any, standing: Any, rank: int = rank if tie == "order" else 0
        ) -> float:
            price = _price(standing, kth)
            if price == 0 and not free_counts:
                return 0.0
            return float(_wins(standing, bid, tie, rank) * (value - price))

        b.pay(player, gain, value, bid, standing)
    b.pay(
        "seller",
        lambda standing: float(_price(standing, kth) * (standing[1] if tie == "all" else 1)),
        standing,
    )


@game
def all_pay_auction(
    b: Trace,
    bidders: int = 4,
    values: Sequence[Any] = THREES,
    bids: Sequence[Any] = THREES,
) -> None:
    """The highest bid wins, a fair draw breaks ties, and everybody pays his bid to the seller."""
    made = _bids(b, bidders, values, bids)
    standing = b.fold("highest", [bid for _, _, bid in made])
    for player, value, bid in made:
        b.pay(
            player,
            lambda value, bid, standing: float(value * _wins(standing, bid, "split", 0)),
            value,
            bid,
            standing,
        )
        b.pay(player, lambda bid: -float(bid), bid)
        b.pay("seller", float, bid)


@game
def reserve_price_auction(
    b: Trace,
    bidders: int = 2,
    values: Sequence[Any] = TWENTIES,
    reserves: Sequence[Any] = TWENTIES,
    tie: str = "all",
    free_counts: bool = False,
) -> None:
    """An auctioneer names a reserve price before a second-price auction; his payoff is revenue.

    The decision `reserve` comes first and is announced; bids are among `values`. Bids below the
    reserve do not win, and a winner pays the second highest bid or the reserve, if that is higher.
    Ties and free objects as in `kth_price_auction`.
    """
    reserve = b.decide("auctioneer", reserves, name="reserve")
    made = _bids(b, bidders, values, values, [reserve])
    standing = _ranking(b, [bid for _, _, bid in made], 2, tie)
    for rank, (player, value, bid) in enumerate(made, start=1):

        def gain(
            value: Any,
            bid: Any,
            standing: Any,
            reserve: Any,
            rank: int = rank if tie == "order" else 0,
        ) -> float:
            price = max(_price(standing, 2), reserve)
            if bid < reserve or (price == 0 and not free_counts):
                return 0.0
            return float(_wins(standing, bid, tie, rank) * (value - price))

        b.pay(player, gain, value, bid, standing, reserve)

    def revenue(standing: Any, reserve: Any) -> float:
        if standing[0] < reserve:
            return 0.0
        winners = standing[1] if tie == "all" else 1
        return float(max(_price(standing, 2), reserve) * winners)

    b.pay("auctioneer", revenue, standing, reserve)


@game
def relay_auction(
    b: Trace,
    relays: int = 2,
    builders: int = 2,
    values: Sequence[Any] = THREES,
    bids: Sequence[Any] = range(11),
) -> None:
    """Block builders bid at relays, each relay forwards its highest bid, a proposer takes one.

    bidder1 to bidder`builders` bid at the first relay, the next ones at the second, and so on,
    each for an own value; a fair draw breaks ties within a relay. The proposer decides `block`
    among the relays, seeing the forwarded bids, and gets the winner's bid.
    """
    forwarded: list[Wire] = []
    for relay in range(1, relays + 1):
        best: Wire | None = None
        for number in range((relay - 1) * builders + 1, relay * builders + 1):
            player = f"bidder{number}"
            value = b.nature(values, name=f"value{number}")
            bid = b.decide(player, bids, [value], name=f"bid{number}")
            own = b.let(
                lambda value, bid, player=player: (bid, 1, player, value), value, bid, name="own"
            )
            # One of k equal bids is kept with probability 1/k, whatever the order they come in.
            best = own if best is None else b.nature(_kept, best, own, name=f"best{number}")
        assert best is not None
        forwarded.append(best)
    offers = [b.let(lambda best: best[0], best, name="forwarded") for best in forwarded]
    names = [f"relay{relay}" for relay in range(1, relays + 1)]
    block = b.decide("proposer", names, offers, name="block")
    for name, best in zip(names, forwarded, strict=True):
        with b.when(block, name):
            winner = b.let(lambda best: best[2], best, name="winner")
            b.pay(winner, lambda best: float(best[3] - best[0]), best)
            b.pay("proposer", lambda best: float(best[0]), best)


def _kept(best: Any, own: Any) -> dict[Any, Any]:
    """The higher of the best bid so far and another; a fair draw among equals."""
    if best[0] != own[0]:
        return {max(best, own, key=lambda one: one[0]): 1}
    equal = best[1] + 1
    return {
        (best[0], equal, *best[2:]): Fraction(best[1], equal),
        (own[0], equal, *own[2:]): Fraction(1, equal),
    }


# ---- permits to produce


def _granted(one: int, other: int) -> tuple[int, int]:
    """Two permits by two demands at a fixed price: one each if they are too many."""
    return (one, other) if one + other <= 2 else (1, 1)


def _vickrey(one: int, other: int) -> tuple[tuple[int, float], tuple[int, float]]:
    """Two permits by two bids for both: (permits, payment) of each."""
    if one == other:
        return ((1, other / 2), (1, one / 2))
    return ((2, other), (0, 0)) if one > other else ((0, 0), (2, one))


def _resold(held: tuple[int, int], one: int, other: int) -> tuple[tuple[int, int], float]:
    """One permit changes hands if the buyer's price is higher: (holdings, what player1 is paid)."""
    if held[0] > held[1] and other > one:
        return ((held[0] - 1, held[1] + 1), (one + other) / 2)
    if held[1] > held[0] and one > other:
        return ((held[0] + 1, held[1] - 1), -(one + other) / 2)
    return (held, 0.0)


@game
def permit_sale(b: Trace, how: str = "vcg", price: Any = 3.0, highest_value: int = 5) -> None:
    """Two permits to produce go to two firms, which then produce as much as they may and like.

    A firm gains its value, uniform on 1 to `highest_value` and known to it alone, per unit. `how`
    is "random" (both to one, or one each, with equal chance), "fixed" (each asks for 0 to 2 at
    `price`; one each if they ask for more than there are), "vcg" (each bids for both permits; the
    higher gets both at the other's bid, equal bids share), or "resale" (random, and who has both
    may sell one: if the buyer's price is higher than the seller's they trade half-way between).
    Decisions ask1, bid1 or price1 see the firm's value (and its part in the resale: seller, buyer,
    none), make1 also its permits; likewise for the second.
    """
    players = ("firm1", "firm2")
    values = [b.nature(range(1, highest_value + 1), name=f"value{number}") for number in (1, 2)]
    if how in ("random", "resale"):
        held = b.nature([(2, 0), (1, 1), (0, 2)], name="permits")
    elif how == "fixed":
        asks = [
            b.decide(player, range(3), [value], name=f"ask{number}")
            for number, (player, value) in enumerate(zip(players, values, strict=True), start=1)
        ]
        held = b.let(_granted, *asks, name="permits")
        for at, player in enumerate(players):
            b.pay(player, lambda held, at=at: -price * held[at], held)
    elif how == "vcg":
        bids = [
            b.decide(player, range(2 * highest_value + 1), [value], name=f"bid{number}")
            for number, (player, value) in enumerate(zip(players, values, strict=True), start=1)
        ]
        result = b.let(_vickrey, *bids, name="result")
        held = b.let(lambda result: (result[0][0], result[1][0]), result, name="permits")
        for at, player in enumerate(players):
            b.pay(player, lambda result, at=at: -float(result[at][1]), result)
    else:
        raise InputError(f"how {how!r}: expected random, fixed, vcg or resale")
    if how == "resale":
        parts = [
            b.let(
                lambda held, at=at: {1: "seller", 0: "none", -1: "buyer"}[
                    (held[at] > held[1 - at]) - (held[at] < held[1 - at])
                ],
                held,
                name="part",
            )
            for at in (0, 1)
        ]
        prices = [
            b.decide(
                players[at],
                range(highest_value + 1),
                [parts[at], values[at]],
                name=f"price{at + 1}",
            )
            for at in (0, 1)
        ]
        resale = b.let(_resold, held, *prices, name="resale")
        held = b.let(lambda resale: resale[0], resale, name="permits")
        b.pay("firm1", lambda resale: resale[1], resale)
        b.pay("firm2", lambda resale: -resale[1], resale)
    for at, player in enumerate(players):
        own = b.let(lambda held, at=at: held[at], held, name="permits")
        made = b.decide(
            player, lambda own, value: range(own + 1), [own, values[at]], name=f"make{at + 1}"
        )
        b.pay(player, lambda value, made: float(value * made), values[at], made)


# ---- behaviour


def everybody_bids(bidders: int, rule: Any) -> dict[str, Any]:
    """Every bidder has the same rule: a function of his value, a bid, or moves by value."""
    return {f"bid{number}": rule for number in range(1, bidders + 1)}


def truthful(value: Any, *others: Any) -> Any:
    """Bid one's value."""
    return value


def shaded(share: float, step: float = 1) -> Callable[..., Any]:
    """Bid a share of one's value, rounded to the grid, a half to the even number of steps."""
    return lambda value: step * round(share * value / step)


def rounded_down(share: Fraction, step: int = 1) -> Callable[..., Any]:
    """Bid a share of one's value, rounded down to the grid."""
    return lambda value: step * int(share * value / step)


_ALL_PAY = {
    0: 0,
    3: 0,
    6: {0: 0.5, 3: 0.5},
    9: {3: 0.5, 6: 0.5},
}
_CLASSROOM = {"tie": "all", "free_counts": False}
_BLOCKS = {"bidders": 4, "values": THREES}
_REVENUE = {0: 38.889, 20: 44.444, 40: 51.111, 60: 54.444, 80: 50.0}
_THRESHOLD = {20: 0, 30: 10, 60: 20}
_MAKE_ALL = {"make1": lambda own, value: own, "make2": lambda own, value: own}


def _reserve(reserve: int) -> dict[str, Any]:
    return {"reserve": reserve, **everybody_bids(2, truthful)}


def _resale_price(part: str, value: int) -> int:
    """Prices of the recorded resale equilibrium, for values of 1 to 5."""
    prices = {"none": (0,) * 5, "buyer": (1, 2, 2, 4, 4), "seller": (3, 3, 3, 5, 5)}
    return prices[part][value - 1]


ENTRIES = (
    Entry(
        "kth_price_auction",
        kth_price_auction,
        "Sealed bids for one object whose value only each bidder himself knows. If the winner pays "
        "the second highest bid it is best to bid one's value whatever the others do; if he pays "
        "his own bid everybody shades it, by half between two and by less among many.",
        "Vickrey, Counterspeculation, auctions, and competitive sealed tenders (1961)",
        {
            "truthful": everybody_bids(2, truthful),
            "half": everybody_bids(2, rounded_down(Fraction(1, 2), 20)),
            "always 20": everybody_bids(2, 20),
            "half of fine values": everybody_bids(2, rounded_down(Fraction(1, 2))),
            "two thirds of fine values": everybody_bids(3, rounded_down(Fraction(2, 3))),
            "truthful, three": everybody_bids(3, truthful),
            "threshold, three": everybody_bids(3, _THRESHOLD),
            "truthful, four": everybody_bids(4, truthful),
            "three quarters, four": everybody_bids(4, shaded(0.75)),
        },
        (
            Known("truthful", True, _ENGINE, params={"kth": 2, **_CLASSROOM}),
            Known("truthful", False, _ENGINE, params={"kth": 1, **_CLASSROOM}),
            Known("half", True, _ENGINE, params={"kth": 1, **_CLASSROOM}),
            Known("always 20", False, _ENGINE, params={"kth": 1, **_CLASSROOM}),
            Known("always 20", False, _ENGINE, params={"kth": 2, **_CLASSROOM}),
            *(
                Known("truthful", True, "Vickrey (1961)", params={"tie": tie})
                for tie in ("split", "order")
            ),
            *(
                Known(
                    profile,
                    flag,
                    _ENGINE,
                    params={
                        "bidders": 3,
                        "values": (20, 30, 60),
                        "bids": (0, 10, 20, 30, 40, 60),
                        **_CLASSROOM,
                    },
                )
                for profile, flag in (("truthful, three", True), ("threshold, three", False))
            ),
            # Bids are whole numbers: what rounding costs is less than one of them.
            Known(
                "half of fine values",
                True,
                "Vickrey (1961)",
                params={"kth": 1, "values": tuple(range(21)), "bids": tuple(range(21))},
                eps=0.5,
            ),
            Known(
                "two thirds of fine values",
                True,
                "Vickrey (1961)",
                params={
                    "bidders": 3,
                    "kth": 1,
                    "values": tuple(range(16)),
                    "bids": tuple(range(16)),
                },
                eps=0.5,
            ),
            Known(
                "truthful, four",
                True,
                _BUILDERS,
                params={"bids": THREES, **_BLOCKS},
                payoffs={"seller": 4 * 1.423828125},
            ),
            Known(
                "three quarters, four",
                True,
                _BUILDERS,
                params={"kth": 1, "bids": tuple(range(11)), **_BLOCKS},
                payoffs={"seller": 4 * 1.4794921875},
                eps=0.4,
            ),
        ),
    ),
    Entry(
        "all_pay_auction",
        all_pay_auction,
        "Everybody pays what he bids, only the highest bid gets something for it. Those with low "
        "values stay out, and those with high ones must be unpredictable.",
        _BUILDERS,
        {"mixed": everybody_bids(4, _ALL_PAY)},
        (Known("mixed", True, _BUILDERS, payoffs={"seller": 4 * 1.5}, eps=0.4),),
    ),
    Entry(
        "reserve_price_auction",
        reserve_price_auction,
        "Before the bids come in the auctioneer names the least he accepts. A higher reserve "
        "sells less often and at a higher price; the best is well above the value that the object "
        "has to himself.",
        "Myerson, Optimal auction design (1981)",
        {f"reserve {reserve}": _reserve(reserve) for reserve in TWENTIES},
        tuple(
            Known(
                f"reserve {reserve}",
                reserve == 60,
                _ENGINE,
                payoffs={"auctioneer": revenue},
                values={("reserve", ()): (revenue, 54.444)},
                deviating=() if reserve == 60 else ("reserve",),
                within=5e-4,
            )
            for reserve, revenue in _REVENUE.items()
        ),
    ),
    Entry(
        "relay_auction",
        relay_auction,
        "Builders of blocks bid at relays, which pass on their best bid to the proposer of the "
        "next block; he takes the best of those. Two auctions are nested in a third, and earn him "
        "the same as one in which all builders meet.",
        _BUILDERS,
        {
            "three quarters": {
                **everybody_bids(4, shaded(0.75)),
                "block": lambda one, other: (
                    {"relay1": 0.5, "relay2": 0.5}
                    if one == other
                    else "relay1"
                    if one > other
                    else "relay2"
                ),
            },
        },
        # Two bids are relayed, each paid 2.958984375 on average.
        (Known("three quarters", None, _BUILDERS, payoffs={"proposer": 2 * 2.958984375}),),
    ),
    Entry(
        "permit_sale",
        permit_sale,
        "Two firms need permits to produce, and only they know what production is worth to them. "
        "Permits can be drawn by lot, sold at a fixed price, auctioned, or drawn and then resold; "
        "the stage that allocates them is exchanged while the rest stays.",
        "open-games engine: permit sale",
        {
            "random": _MAKE_ALL,
            "all if worth it": {
                "ask1": lambda value: 2 if value >= 3 else 0,
                "ask2": lambda value: 2 if value >= 3 else 0,
                **_MAKE_ALL,
            },
            "one per value": {
                "ask1": lambda value: min(value, 2),
                "ask2": lambda value: 2 if value >= 3 else 0,
                **_MAKE_ALL,
            },
            "bid for both": {
                "bid1": lambda value: 2 * value,
                "bid2": lambda value: 2 * value,
                **_MAKE_ALL,
            },
            "bid low": {
                "bid1": lambda value: 2 if value >= 3 else 0,
                "bid2": lambda value: 2 if value >= 3 else 0,
                **_MAKE_ALL,
            },
            "resell": {"price1": _resale_price, "price2": _resale_price, **_MAKE_ALL},
        },
        (
            Known("random", True, _ENGINE, params={"how": "random"}),
            Known("all if worth it", True, _ENGINE, params={"how": "fixed"}),
            Known("one per value", False, _ENGINE, params={"how": "fixed"}),
            Known("bid for both", True, _ENGINE),
            Known("bid low", False, _ENGINE),
            Known("resell", True, _ENGINE, params={"how": "resale"}),
        ),
    ),
)
