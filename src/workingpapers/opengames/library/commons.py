"""Commons: irrigation by a canal under several monitors, common pools, public goods, volunteers.

The irrigation games are the worked case of arXiv:2108.05318 (figure 4), after Ostrom's field
studies. Farmers draw from a canal in turn: Crack opens the gate a little and takes up to 2 units
of what is left, Flood takes up to 5.
"""

from typing import Any

from workingpapers.opengames.games import game
from workingpapers.opengames.library import Entry, Known, OnlyEquilibria
from workingpapers.opengames.trace import Trace, Wire

MOVES = ("Crack", "Flood")
EFFORT = ("Work", "Shirk")

_PAPER = "Frey, Hedges, Tan, Zahn, Composing games into complex institutions (2023), figure 4"
_ENGINE = "open-games engine"


def _takes(level: float, move: str) -> float:
    return min(level, 2 if move == "Crack" else 5)


def _monitors(b: Trace, player: "str | Wire", work_cost: Any) -> Wire:
    """The monitor works or shirks, before anybody takes water."""
    watch = b.decide(player, EFFORT, name="monitor")
    b.pay(player, lambda effort: -work_cost if effort == "Work" else 0.0, watch)
    return watch


@game
def irrigation(b: Trace, farmers: int = 3, level: float = 10) -> None:
    """Farmers along a canal, nobody watches (figures 4A and 4B).

    farmer1 to farmer`farmers` decide take1, take2, ... in canal order; each sees the water that
    is left of the `level` units, and is paid the units he takes.
    """
    water = b.const(level)
    for number in range(1, farmers + 1):
        move = b.decide(f"farmer{number}", MOVES, sees=[water], name=f"take{number}")
        taken = b.let(_takes, water, move, name="taken")
        b.pay(f"farmer{number}", float, taken)
        water = b.let(lambda left, taken: left - taken, water, taken, name="water")


@game
def irrigation_monitored(
    b: Trace,
    farmers: int = 3,
    level: float = 10,
    pay_rate: Any = 0.2,
    fine: Any = 0.7,
    work_cost: Any = 1.0,
    monitor: str = "monitor",
) -> None:
    """A monitor is paid by a share of the water, and keeps the fines (figure 4C).

    The monitor decides first and unseen, whether to Work at `work_cost`. If he does, he gets
    `pay_rate` of what each farmer takes, and `fine` more of what a farmer who floods takes.
    `monitor` may name a farmer, who then has both parts; what he took or decided is not shown to
    him again, so he is checked in agent form.
    """
    watch = _monitors(b, monitor, work_cost)

    def cut(move: str, effort: str) -> Any:
        if effort == "Shirk":
            return 0.0
        return pay_rate if move == "Crack" else pay_rate + fine

    water = b.const(level)
    for number in range(1, farmers + 1):
        move = b.decide(f"farmer{number}", MOVES, sees=[water], name=f"take{number}")
        taken = b.let(_takes, water, move, name="taken")
        b.pay(
            f"farmer{number}",
            lambda units, move, effort: (1 - cut(move, effort)) * units,
            taken,
            move,
            watch,
        )
        b.pay(monitor, lambda units, move, effort: cut(move, effort) * units, taken, move, watch)
        water = b.let(lambda left, taken: left - taken, water, taken, name="water")


@game
def irrigation_restitution(
    b: Trace,
    farmers: int = 4,
    level: float = 8,
    pay_rate: Any = 0.2,
    fine: float = 0.7,
    work_cost: Any = 1.0,
    monitor: str = "monitor",
) -> None:
    """As `irrigation_monitored`, but the fine is water that goes back into the canal.

    A farmer who floods while the monitor works keeps 1 - pay_rate - fine of what he took, the
    monitor gets `pay_rate` of it, and downstream there is level - (1 - fine) * taken.
    """
    watch = _monitors(b, monitor, work_cost)

    def returned(move: str, effort: str) -> float:
        return fine if (move, effort) == ("Flood", "Work") else 0.0

    def paid(effort: str) -> Any:
        return pay_rate if effort == "Work" else 0.0

    water = b.const(level)
    for number in range(1, farmers + 1):
        move = b.decide(f"farmer{number}", MOVES, sees=[water], name=f"take{number}")
        taken = b.let(_takes, water, move, name="taken")
        b.pay(
            f"farmer{number}",
            lambda units, move, effort: (1 - returned(move, effort) - paid(effort)) * units,
            taken,
            move,
            watch,
        )
        b.pay(monitor, lambda units, effort: paid(effort) * units, taken, watch)
        water = b.let(
            lambda left, units, move, effort: left - (1 - returned(move, effort)) * units,
            water,
            taken,
            move,
            watch,
            name="water",
        )


def _untaxed_plot(
    b: Trace, player: "str | Wire", number: int, water: Wire, watch: Wire, fine: float, seen: bool
) -> Wire:
    """One plot of a canal without tax, where a fined flood goes back; gives what is left."""
    move = b.decide(player, MOVES, sees=[water] if seen else [], name=f"take{number}")
    kept = b.let(
        lambda left, move, effort: (
            _takes(left, move) * (1 - fine if (move, effort) == ("Flood", "Work") else 1)
        ),
        water,
        move,
        watch,
        name="kept",
    )
    b.pay(player, float, kept)
    return b.let(lambda left, kept: left - kept, water, kept, name="water")


@game
def irrigation_plot_monitor(
    b: Trace,
    plot: int = 4,
    farmers: int = 4,
    level: float = 9,
    fine: float = 0.65,
    wage: Any = 0.0,
    penalty: Any = 0.0,
    work_cost: Any = 0.0,
) -> None:
    """The farmer of one plot is also the monitor, without a share of the others' water.

    The farmer of `plot` works or shirks before water flows: wage - work_cost if he works,
    -penalty if he does not. A flood under a working monitor keeps 1 - `fine` of its water, the
    rest goes back into the canal.
    """
    player = f"farmer{plot}"
    watch = b.decide(player, EFFORT, name="monitor")
    b.pay(player, lambda effort: wage - work_cost if effort == "Work" else -penalty, watch)
    water = b.const(level)
    for number in range(1, farmers + 1):
        water = _untaxed_plot(b, f"farmer{number}", number, water, watch, fine, seen=True)


@game
def irrigation_rotating_monitor(
    b: Trace,
    farmers: int = 4,
    level: float = 9,
    fine: float = 0.65,
    wage: Any = 0.0,
    penalty: Any = 0.0,
    work_cost: Any = 0.0,
) -> None:
    """The monitor's office rotates: a draw says which of the fixed-monitor games is played.

    An external choice between `farmers` games, so each has its own decisions: monitor@2 and
    take1@2 to take4@2 are played when farmer2 is the monitor.
    """
    turn = b.nature(range(1, farmers + 1), name="turn")
    for plot in range(1, farmers + 1):
        with b.when(turn, plot), b.named(f"@{plot}"):
            irrigation_plot_monitor.inline(
                b,
                plot=plot,
                farmers=farmers,
                level=level,
                fine=fine,
                wage=wage,
                penalty=penalty,
                work_cost=work_cost,
            )


@game
def irrigation_random_roles(
    b: Trace, level: float = 10, fine: float = 0.65, work_cost: Any = 0.0
) -> None:
    """Who monitors is drawn from three farmers; he gets the last plot, the others come before him.

    The two others take plots 1 and 2 in the order of their names. There is no tax; a flood under
    a working monitor keeps 1 - `fine` of its water, the rest goes back into the canal. Everybody
    knows his own part only: nobody sees the water or the effort when he decides.
    """
    farmers = ("farmer1", "farmer2", "farmer3")
    monitor = b.nature(farmers, name="who monitors")
    first = b.let(lambda who: next(one for one in farmers if one != who), monitor, name="first")
    second = b.let(
        lambda who: next(one for one in reversed(farmers) if one != who), monitor, name="second"
    )
    watch = _monitors(b, monitor, work_cost)
    water = b.const(level)
    for number, player in enumerate((first, second, monitor), start=1):
        water = _untaxed_plot(b, player, number, water, watch, fine, seen=False)


@game
def common_pool(
    b: Trace,
    users: int = 8,
    tokens: int = 25,
    safe_return: Any = 5.0,
    yield_rate: Any = 23.0,
    crowding: Any = 0.25,
) -> None:
    """The common-pool baseline of Ostrom, Gardner and Walker's laboratory.

    Each of user1, user2, ... puts x of his `tokens` into the pool and the rest where each returns
    `safe_return`. The pool yields yield_rate X - crowding X^2 for X tokens in all, shared in
    proportion to x. All decide at once.
    """
    puts = [
        b.decide(f"user{number}", range(tokens + 1), name=f"put{number}")
        for number in range(1, users + 1)
    ]
    total = b.fold("sum", puts)
    for number, put in enumerate(puts, start=1):
        b.pay(f"user{number}", lambda own: safe_return * (tokens - own), put)
        b.pay(
            f"user{number}",
            lambda own, everybody: own * (yield_rate - crowding * everybody),
            put,
            total,
        )


@game
def public_goods(b: Trace, players: int = 4, endowment: int = 10, mpcr: Any = 0.4) -> None:
    """Linear public goods: what one gives returns `mpcr` per unit to everybody.

    player1, player2, ... give 0 to `endowment` units at once and keep the rest. The sum over
    givers is kept as separate terms, one for all players, so that states stay few.
    """
    everybody = [f"player{number}" for number in range(1, players + 1)]
    for number, player in enumerate(everybody, start=1):
        gift = b.decide(player, range(endowment + 1), name=f"give{number}")
        b.pay(player, lambda gift: float(endowment - gift), gift)
        b.pay(everybody, lambda gift: mpcr * gift, gift)


@game
def volunteers_dilemma(b: Trace, players: int = 10, benefit: Any = 2.0, cost: Any = 1.0) -> None:
    """Everybody gets `benefit` if at least one volunteers, which costs the volunteer `cost`."""
    everybody = [f"player{number}" for number in range(1, players + 1)]
    moves = []
    for number, player in enumerate(everybody, start=1):
        move = b.decide(player, ("Volunteer", "Wait"), name=f"move{number}")
        b.pay(player, lambda move: -cost if move == "Volunteer" else 0.0, move)
        moves.append(b.let(lambda move: move == "Volunteer", move, name="volunteers"))
    helped = b.fold("any", moves)
    b.pay(everybody, lambda helped: benefit if helped else 0.0, helped)


# ---- behaviour


def takes(letters: str, monitor: str | None = None, suffix: str = "") -> dict[str, str]:
    """A constant profile from letters: "CCF" is Crack, Crack, Flood; `monitor` works or shirks."""
    names = {"C": "Crack", "F": "Flood"}
    profile = {f"take{number}{suffix}": names[one] for number, one in enumerate(letters, start=1)}
    return profile if monitor is None else {f"monitor{suffix}": monitor, **profile}


def rotating(letters: str, monitor: str, branches: int = 4) -> dict[str, str]:
    """The same constant profile in every branch of the rotating monitor."""
    profile: dict[str, str] = {}
    for plot in range(1, branches + 1):
        profile.update(takes(letters, monitor, f"@{plot}"))
    return profile


def alike(prefix: str, players: int, move: Any) -> dict[str, Any]:
    """Everybody does the same: {prefix1: move, prefix2: move, ...}."""
    return {f"{prefix}{number}": move for number in range(1, players + 1)}


def volunteer_probability(players: int, benefit: float = 2.0, cost: float = 1.0) -> float:
    """How likely each volunteers in the symmetric mixed equilibrium."""
    return float(1 - (cost / benefit) ** (1 / (players - 1)))


def volunteering(players: int, benefit: float = 2.0, cost: float = 1.0) -> dict[str, Any]:
    """The symmetric mixed equilibrium of the volunteer's dilemma."""
    share = volunteer_probability(players, benefit, cost)
    return alike("move", players, {"Volunteer": share, "Wait": 1 - share})


def _everybody(prefix: str, players: int, value: float) -> dict[str, float]:
    return {f"{prefix}{number}": value for number in range(1, players + 1)}


ENTRIES = (
    Entry(
        "irrigation",
        irrigation,
        "Farmers sit along a canal and open their gates in turn; each sees how much water still "
        "flows. Without a monitor the upstream farmers flood and nothing is left at the end of "
        "the canal, although there would be enough for everybody to take his two units.",
        _PAPER,
        {
            "flood": takes("FFF"),
            "last cracks": takes("FFC"),
            "first cracks": takes("CFF"),
            "crack": takes("CCC"),
        },
        (
            Known(
                "flood",
                True,
                _ENGINE,
                payoffs={"farmer1": 5, "farmer2": 5, "farmer3": 0},
                values={("take1", 10): (5, 5), ("take2", 5): (5, 5), ("take3", 0): (0, 0)},
                deviating=(),
            ),
            Known(
                "last cracks",
                True,
                _ENGINE,
                payoffs={"farmer1": 5, "farmer2": 5, "farmer3": 0},
                values={("take3", 0): (0, 0)},
                deviating=(),
            ),
            Known("first cracks", False, _ENGINE, values={("take1", 10): (2, 5)}),
            Known(
                "crack",
                False,
                _ENGINE,
                payoffs=_everybody("farmer", 3, 2),
                values={("take1", 10): (2, 5), ("take2", 8): (2, 5), ("take3", 6): (2, 5)},
                deviating=("take1", "take2", "take3"),
            ),
        ),
        (OnlyEquilibria((takes("FFF"), takes("FFC")), _ENGINE),),
    ),
    Entry(
        "irrigation_monitored",
        irrigation_monitored,
        "An outsider is hired to watch the canal: he takes a share of all water as his wage and "
        "the fines of those who flood. His own effort is a choice too, and costs him. With the "
        "default rates working pays him just enough, and then nobody floods; he works only if six "
        "times his rate covers his cost, and the farmers crack only if flooding costs enough.",
        _PAPER,
        {
            "work, crack": takes("CCC", "Work"),
            "work, last two flood": takes("CFF", "Work"),
            "shirk, flood": takes("FFF", "Shirk"),
            "shirk, crack": takes("CCC", "Shirk"),
            "four farmers": takes("CCCC", "Work"),
        },
        (
            Known(
                "work, crack",
                True,
                _ENGINE,
                payoffs={"monitor": 0.2, **_everybody("farmer", 3, 1.6)},
                values={
                    ("monitor", ()): (0.2, 0.2),
                    ("take1", 10): (1.6, 1.6),
                    ("take2", 8): (1.6, 1.6),
                    ("take3", 6): (1.6, 1.6),
                },
                deviating=(),
            ),
            # Both conditions of the closed form, at and beyond their borders.
            Known("work, crack", True, "closed form", params={"pay_rate": 1 / 6}),
            Known("work, crack", False, "closed form", params={"pay_rate": 0.16}),
            Known("work, crack", True, "closed form", params={"pay_rate": 1 / 6, "fine": 0.5}),
            Known("work, crack", False, "closed form", params={"pay_rate": 1 / 6, "fine": 0.499}),
        ),
        (
            OnlyEquilibria((takes("CCC", "Work"),), _ENGINE),
            OnlyEquilibria((takes("CCCC", "Work"),), _ENGINE, params={"farmers": 4, "level": 8}),
        ),
    ),
    Entry(
        "irrigation_restitution",
        irrigation_restitution,
        "Here the fine is not the monitor's gain but flows back into the canal for those "
        "downstream, so that the monitor earns only his share. Four farmers live from eight units. "
        "Working and cracking is still what is stable, also when the bottom farmer is the monitor.",
        _PAPER,
        {
            "work, crack": takes("CCCC", "Work"),
            "work, last floods": takes("CCCF", "Work"),
            "work, last two flood": takes("CCFF", "Work"),
            "shirk, flood": takes("FFFF", "Shirk"),
        },
        (
            Known("work, crack", True, _ENGINE, deviating=()),
            Known(
                "work, last floods",
                False,
                _ENGINE,
                values={("take4", 2): (0.2, 1.6)},
                deviating=("take4",),
            ),
            Known("shirk, flood", False, _ENGINE, values={("monitor", ()): (0, 2.7)}),
            Known(
                "work, last two flood",
                False,
                _ENGINE,
                values={("take3", 4): (0.4, 1.6), ("take4", 2.8): (0.28, 1.6)},
                deviating=("take3", "take4"),
            ),
            Known("work, crack", True, _ENGINE, params={"monitor": "farmer4"}, deviating=()),
            Known(
                "shirk, flood",
                False,
                _ENGINE,
                params={"monitor": "farmer4"},
                values={("monitor", ()): (0, 3.05)},
            ),
            # Where he takes water himself he is credited with his share of it too, as he should
            # be; the engine's own record leaves it out there, so only the first decision is known.
            Known(
                "work, last floods",
                False,
                _ENGINE,
                params={"monitor": "farmer4"},
                values={("monitor", ()): (0.8, 2.0)},
            ),
        ),
        (
            OnlyEquilibria((takes("CCCC", "Work"),), _ENGINE),
            OnlyEquilibria((takes("CCCC", "Work"),), _ENGINE, params={"monitor": "farmer4"}),
        ),
    ),
    Entry(
        "irrigation_plot_monitor",
        irrigation_plot_monitor,
        "The farmer of a given plot watches the others and gets nothing for it but the water that "
        "would otherwise be flooded away. From nine units four farmers can all crack and the "
        "monitor work. Only a monitor downstream loses when he shirks and the others flood: it "
        "matters on which plot he sits.",
        _PAPER,
        {
            "work, crack": takes("CCCC", "Work"),
            "shirk, upstream floods": takes("FFCC", "Shirk"),
            "work, last floods": takes("CCCF", "Work"),
            "shirk, last floods": takes("CCCF", "Shirk"),
        },
        (
            *(
                Known(
                    "work, crack",
                    True,
                    _ENGINE,
                    params={"plot": plot},
                    payoffs=_everybody("farmer", 4, 2),
                    deviating=(),
                )
                for plot in (1, 2, 3, 4)
            ),
            Known("shirk, upstream floods", True, _ENGINE, params={"plot": 1}, deviating=()),
            Known(
                "shirk, upstream floods",
                False,
                _ENGINE,
                values={("monitor", ()): (0, 2)},
                deviating=("monitor",),
            ),
            Known(
                "work, last floods",
                False,
                _ENGINE,
                values={("monitor", ()): (1.05, 3), ("take4", 3): (1.05, 2)},
                deviating=("monitor", "take4"),
            ),
            Known(
                "shirk, last floods",
                False,
                _ENGINE,
                values={("take1", 9): (2, 5), ("take2", 7): (2, 5), ("take3", 5): (2, 5)},
                deviating=("take1", "take2", "take3"),
            ),
            Known(
                "work, crack",
                False,
                _ENGINE,
                params={"plot": 1, "wage": 0.1, "work_cost": 0.2},
                values={("monitor", ()): (1.9, 2.0)},
                deviating=("monitor",),
            ),
            Known(
                "work, crack", True, _ENGINE, params={"wage": 0.2, "work_cost": 0.2}, deviating=()
            ),
        ),
    ),
    Entry(
        "irrigation_rotating_monitor",
        irrigation_rotating_monitor,
        "The office of monitor goes round: each of the four farmers holds it with equal chance, "
        "and what follows is the game with him as the monitor. It is put together from the four "
        "games by an external choice, without touching any of them.",
        _PAPER,
        {"work, crack": rotating("CCCC", "Work"), "shirk, flood": rotating("FFFF", "Shirk")},
        (
            Known(
                "work, crack",
                True,
                _ENGINE,
                payoffs=_everybody("farmer", 4, 2),
                deviating=(),
            ),
        ),
    ),
    Entry(
        "irrigation_random_roles",
        irrigation_random_roles,
        "Nobody knows beforehand whether he will watch or farm upstream: the monitor is drawn, and "
        "gets the last plot, so that he lives from what the others leave. That alone makes him "
        "work, without wage or tax, and everybody gets two units.",
        _PAPER,
        {"work, crack": takes("CCC", "Work"), "shirk, flood": takes("FFF", "Shirk")},
        (
            Known(
                "work, crack",
                True,
                _ENGINE,
                payoffs=_everybody("farmer", 3, 2),
                values={("monitor", ()): (2, 2), ("take1", ()): (2, 2), ("take2", ()): (2, 2)},
                deviating=(),
            ),
            Known(
                "shirk, flood",
                False,
                _ENGINE,
                values={("monitor", ()): (0, 1.75)},
                deviating=("monitor",),
            ),
        ),
        (OnlyEquilibria((takes("CCC", "Work"),), _ENGINE),),
    ),
    Entry(
        "common_pool",
        common_pool,
        "Eight appropriators split their tokens between a safe return and a common pool whose "
        "yield per token falls with its use. In equilibrium everybody puts in eight, 64 in all, "
        "where 36 would be best for the group: less than two fifths of the rent is left.",
        "Ostrom, Gardner, Walker, Rules, Games, and Common-Pool Resources (1994)",
        {
            "nash": alike("put", 8, 8),
            # 36 tokens in all.
            "optimum": {f"put{number}": 5 if number <= 4 else 4 for number in range(1, 9)},
            "abstain": alike("put", 8, 0),
        },
        (
            # Rent per head is 8 x (23 - 16 - 5) = 16, of (18 x 36 - 36^2 / 4) / 8 = 40.5 at best.
            Known("nash", True, "closed form", payoffs=_everybody("user", 8, 141), deviating=()),
            Known("optimum", False, "closed form", payoffs={"user1": 170, "user8": 161}),
            Known("abstain", False, "closed form", payoffs=_everybody("user", 8, 125)),
        ),
    ),
    Entry(
        "public_goods",
        public_goods,
        "Each player divides an endowment between himself and a project that pays everybody the "
        "same. As long as a unit returns less than itself to its giver nobody gives anything, "
        "although the group would be better off if all gave everything.",
        "textbook: the linear public goods game",
        {
            "nobody gives": alike("give", 4, 0),
            "all give": alike("give", 4, 10),
        },
        (
            Known(
                "nobody gives",
                True,
                "closed form",
                payoffs=_everybody("player", 4, 10),
                deviating=(),
            ),
            Known(
                "all give",
                False,
                "closed form",
                payoffs=_everybody("player", 4, 16),
                values={("give1", ()): (16, 22)},
                deviating=tuple(alike("give", 4, 0)),
            ),
            Known("all give", True, "closed form", params={"mpcr": 1.2}),
            Known("nobody gives", False, "closed form", params={"mpcr": 1.2}),
        ),
        (OnlyEquilibria((alike("give", 4, 0),), "closed form", params={"endowment": 2}),),
    ),
    Entry(
        "volunteers_dilemma",
        volunteers_dilemma,
        "One volunteer is enough for all, and nobody wants to be the one. In the symmetric "
        "equilibrium each volunteers with a probability that falls so fast with the size of the "
        "group that in a large group help is less likely.",
        "Diekmann, Volunteer's dilemma (1985)",
        {
            "mixed": volunteering(10),
            "mixed, 1000 players": volunteering(1000),
            "one volunteers": {**alike("move", 10, "Wait"), "move1": "Volunteer"},
            "nobody": alike("move", 10, "Wait"),
            "everybody": alike("move", 10, "Volunteer"),
        },
        (
            # An indifferent player gets what volunteering pays.
            Known("mixed", True, "closed form", payoffs=_everybody("player", 10, 1), deviating=()),
            Known("mixed, 1000 players", True, "closed form", params={"players": 1000}),
            Known("one volunteers", True, "closed form", deviating=()),
            Known("nobody", False, "closed form", values={("move1", ()): (0, 1)}),
            Known("everybody", False, "closed form", values={("move1", ()): (1, 2)}),
        ),
        (
            OnlyEquilibria(
                tuple(
                    {**alike("move", 3, "Wait"), f"move{number}": "Volunteer"}
                    for number in (1, 2, 3)
                ),
                "closed form",
                params={"players": 3},
            ),
        ),
    ),
)
