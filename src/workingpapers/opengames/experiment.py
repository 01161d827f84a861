"""The paper's claims about compositional game theory, and how each is measured at each scale."""

from collections.abc import Iterator, Mapping
from typing import Any

from workingpapers.foundation.evidence import (
    Claim,
    Experiment,
    Figure,
    Needs,
    Result,
    Scale,
    Study,
    Table,
    at_least,
    at_most,
    equals,
)

_PAPER = "arXiv:2108.05318"
_ABSTRACT = f"{_PAPER}, abstract"
_FIGURE = f"{_PAPER}, figure 4"
_JOURNAL = "PLoS ONE 18(3) e0283361, abstract"
_OURS = "ours, no counterpart in the paper"

TERMS: Mapping[Scale, int] = {"quick": 24, "laptop": 300, "paper": 300}
GAMES: Mapping[Scale, int] = {"quick": 24, "laptop": 200, "paper": 200}
GRID: Mapping[Scale, int] = {"quick": 51, "laptop": 201, "paper": 1001}
ROUNDS: Mapping[Scale, tuple[int, ...]] = {
    "quick": (10, 30, 100),
    "laptop": (10, 30, 100, 300, 1000),
    "paper": (10, 100, 1000, 10_000, 100_000),
}


def _exact(
    id: str, statement: str, source: str, test: Any, scale: Scale = "quick", **more: Any
) -> Claim:
    """A claim without chance: one run decides."""
    return Claim(id, statement, source, "-", test, scale, deterministic=True, **more)


def _timed(id: str, statement: str, test: Any, scale: Scale = "laptop", **more: Any) -> Claim:
    """A duration or a rate of ours, on two cores."""
    more = {"unit": "s", "kind": "extension", "source": _OURS, **more}
    source = more.pop("source")
    return Claim(id, statement, source, "-", test, scale, runs=1, timed=True, **more)


CLAIMS = (
    # ---- a general framework that expresses real institutions faithfully
    _exact(
        "faithful",
        "Institutions of the library behave as is known of them: known payoffs, best payoffs and "
        "equilibrium flags that are not found, of several hundred.",
        f"{_ABSTRACT}; its examples",
        at_most(0),
    ),
    _exact(
        "irrigation-without-monitor",
        "Without a monitor farmers flood, and the last gets nothing: largest difference from "
        "payoffs 5, 5, 0 and from the two constant equilibria.",
        f"{_FIGURE}A-B",
        at_most(1e-9),
    ),
    _exact(
        "irrigation-with-monitor",
        "A paid monitor sustains moderation: the one constant equilibrium pays him 0.2 and each "
        "farmer 1.6 (largest difference).",
        f"{_FIGURE}C",
        at_most(1e-9),
    ),
    _exact(
        "irrigation-with-random-roles",
        "So does a monitor drawn from the farmers: everybody gets 2 (largest difference), of 16 "
        "constant profiles only this is an equilibrium.",
        f"{_FIGURE}, variants",
        at_most(1e-9),
    ),
    Claim(
        "one-semantics",
        "The engine and the mathematical definition agree on random Bayesian open games with roles "
        "and branches: largest difference of any payoff, gain or probability.",
        f"{_ABSTRACT}; arXiv:1603.04641; arXiv:1910.03656",
        "equal",
        at_most(1e-9),
        "quick",
    ),
    Claim(
        "categorical-laws",
        "Open games obey the laws of a symmetric monoidal category: pairs of equal random terms "
        "with different reports.",
        f"{_ABSTRACT}; arXiv:1603.04641",
        "none",
        at_most(0),
        "quick",
    ),
    Claim(
        "classical-regret",
        "Equilibria are those of classical theory: largest difference between a player's regret "
        "and the best of all his pure strategies, on random games.",
        f"{_ABSTRACT}; arXiv:1603.04641",
        "equal",
        at_most(1e-9),
        "quick",
    ),
    Claim(
        "classical-regret-gambit",
        "The same beside Gambit: largest difference of agent and player regrets.",
        f"{_ABSTRACT}; arXiv:1603.04641",
        "equal",
        at_most(1e-9),
        "laptop",
        needs=Needs(packages=("pygambit",)),
    ),
    # ---- parsimony by abstraction and modularity
    _exact(
        "parsimony-text",
        "The text of an institution does not grow with the number of farmers: names, literals and "
        "operators added from 3 to 200.",
        _ABSTRACT,
        at_most(0),
    ),
    _exact(
        "parsimony-trace",
        "What it unfolds to grows by a constant for each farmer: nodes of the trace.",
        _ABSTRACT,
        at_most(6),
    ),
    _exact(
        "parsimony-tree",
        "Leaves of the game tree for each node of the trace, 20 farmers and a monitor.",
        _ABSTRACT,
        at_least(1e4),
    ),
    _exact(
        "modularity-changes",
        "Components of the canal's institution that change with its monitor, or with its rule of "
        "payment.",
        _ABSTRACT,
        at_most(1),
    ),
    _exact(
        "modularity-wiring",
        "Of ten wiring mistakes, how many are refused, with both names, before anything is played.",
        _ABSTRACT,
        equals(10),
    ),
    # ---- search and design
    _exact(
        "search-region",
        "Institutions on a grid of pay rates and fines: share whose equilibrium flag equals the "
        "closed form 6t >= 1 and 5(1-t-p) <= 2(1-t).",
        f"{_ABSTRACT} (search and design)",
        at_least(1.0),
    ),
    _exact(
        "search-pay-rate",
        "The least pay rate that sustains moderation is found: distance from 1/6.",
        f"{_ABSTRACT} (search and design)",
        at_most(1e-6),
    ),
    _exact(
        "search-fine",
        "The least fine at that rate is found: distance from 1/2.",
        f"{_ABSTRACT} (search and design)",
        at_most(1e-6),
    ),
    _timed(
        "search-rate",
        "Institutions checked a second, payoffs of all of them at once.",
        at_least(2e5),
        unit="1/s",
        kind="paper",
        source=f"{_ABSTRACT} (accelerates search)",
    ),
    # ---- long-range dependencies, families, nesting
    _timed(
        "long-range-exponent",
        "A dilemma repeated T times with payoffs at every stage: exponent of compile and check "
        "time in T.",
        at_most(1.3),
        unit="",
        kind="paper",
        source=f"{_JOURNAL} (long-range dependencies)",
    ),
    _timed("long-range-check", "Check of the dilemma repeated 1,000 times.", at_most(0.5)),
    _timed("long-range-compile", "Compilation of the dilemma repeated 1,000 times.", at_most(1.0)),
    _exact(
        "families",
        "Eighteen irrigation institutions side by side: constant equilibria that differ from an "
        "exhaustive reference.",
        f"{_JOURNAL} (related games)",
        at_most(0),
    ),
    _exact(
        "nesting",
        "Institutions that choose institutions: known statements about votes, dictators and "
        "rotating monitors that are not found.",
        f"{_JOURNAL} (nested games)",
        at_most(0),
    ),
    # ---- extensions
    _exact(
        "solution-concepts",
        "Nash is told from perfect and from weak perfect Bayesian: known statements about the "
        "ultimatum game, Selten's horse, lemons, signalling and the centipede that are not found.",
        _OURS,
        at_most(0),
        kind="extension",
    ),
    Claim(
        "pure-equilibria",
        "The exhaustive solver finds the pure equilibria of random games: games that differ from "
        "one profile at a time.",
        _OURS, "-", at_most(0), "quick", kind="extension",
    ),
    _exact("kuhn-value", "Kuhn poker by CFR+, 1,000 iterations: distance from the value -1/18.",
           _OURS, at_most(5e-4), kind="extension"),
    _exact("kuhn-exploitability", "Kuhn poker by CFR+: exploitability.", _OURS, at_most(1e-3),
           kind="extension"),
    _timed("kuhn-seconds", "Kuhn poker by CFR+: 1,000 iterations.", at_most(0.3), "quick"),
    _exact("common-pool-nash", "The laboratory commons: total use in the symmetric equilibrium.",
           "Ostrom, Gardner and Walker (1994)", equals(64), kind="extension"),
    _exact("common-pool-optimum", "The laboratory commons: total use that pays the group most.",
           "Ostrom, Gardner and Walker (1994)", equals(36), kind="extension"),
    _exact("common-pool-rent", "The laboratory commons: Nash rent as a share of the maximum.",
           "Ostrom, Gardner and Walker (1994)", equals(0.395, 5e-4), kind="extension"),
    _exact("contests-and-fees", "Deposits, sequencer fees and auctions: known statements that are "
           "not found.", _OURS, at_most(0), kind="extension"),
    _exact("grim-trigger", "Endless dilemma: distance of the critical discount from 1/2.",
           "closed form", at_most(1e-9), kind="extension"),
    _exact("ecological-sets", "Ecological public good: discounts whose set of symmetric "
           "Markov-perfect policies differs from what is known.", _OURS, at_most(0),
           kind="extension"),
    _exact("ecological-values", "Ecological public good: largest error of a value.", _OURS,
           at_most(1e-5), kind="extension"),
    _exact("discounting", "Payoffs .5, .3 and 1 in three stages at discount .9: 1.58.",
           "closed form", equals(1.58, 1e-12), kind="extension"),
    Claim("simulation", "Sampled means of ten games: largest distance from the exact payoff in "
          "standard errors.", _OURS, "-", at_most(4), "quick", kind="extension"),
    _timed("simulation-seconds", "A million plays of the canal with ten farmers.", at_most(1.0),
           "quick"),
    Claim("files", "Games written as .efg and JSON and read again: largest change of a regret.",
          _OURS, "-", at_most(1e-9), "quick", kind="extension"),
    _exact("pictures", "Institutions of the library whose diagram cannot be drawn.", _OURS,
           at_most(0), "laptop", kind="extension"),
    _timed("scale-irrigation", "Canal with 200 farmers (a tree of 10^60 leaves): build, compile "
           "and check.", at_most(1.0)),
    _timed("scale-memory", "The same: memory added.", at_most(200), unit="MiB"),
    _timed("scale-public-goods", "Public goods among 100 players of 11 gifts each, every "
           "gift paid in a term of its own, by the frontier.", at_most(2.0)),
    _timed("scale-auction", "First price, 64 values and 64 bids: build and check.", at_most(0.05)),
    _timed("scale-bidders", "First price, 100 bidders of 1,000 bids each: build and check.",
           at_most(0.3)),
    _timed("scale-volunteers", "Volunteer's dilemma of 1,000 players: build and check.",
           at_most(1.0)),
    _timed("kernel-rate", "Merged transitions evaluated a second, forward and backward together.",
           at_least(5e7), unit="1/s"),
)  # fmt: skip

NESTED = ("vote_on_game", "dictator_chooses_game", "dictator_sets_penalty", "elected_dictator",
          "irrigation_rotating_monitor", "vote_on_bargaining", "vote_on_roles")  # fmt: skip
CONCEPTS = ("ultimatum", "seltens_horse", "lemons", "job_signalling", "centipede")
CONTESTS = ("tullock_deposits", "constant_product_market", "kth_price_auction",
            "all_pay_auction", "reserve_price_auction", "relay_auction")  # fmt: skip


def run(study: Study) -> Iterator[Result]:
    """Measure the claims: faithful, lawful, parsimonious, searchable, then the extensions."""
    # Imported here: `workingpapers papers` lists the claims without loading numba.
    from workingpapers.opengames import measurements as measure

    sections = (
        (_known, ("faithful", "irrigation", "nesting", "solution", "contests", "pictures")),
        (_semantics, ("one-", "categorical", "classical", "pure", "files")),
        (_parsimony, ("parsimony", "modularity")),
        (_design, ("search",)),
        (_families, ("families",)),
        (_solving, ("kuhn", "common", "grim", "ecological", "discounting", "simulation")),
        (_long_range, ("long",)),
        (_scale, ("scale", "kernel")),
    )
    for section, names in sections:
        if study.wants(*(claim.id for claim in CLAIMS if claim.id.startswith(names))):
            yield from section(study, measure)


def _known(study: Study, measure: Any) -> Iterator[Result]:
    """The library beside what is known of it."""
    from workingpapers.opengames import library

    tasks = [measure.EntryTask(name) for name in library.names()]
    found = study.map(measure.compare_known, tasks, label="known answers")
    wrong = {one["name"]: one["wrong"] for one in found}
    yield study.finding("faithful", [sum(wrong.values())])
    yield study.finding("nesting", [sum(wrong[name] for name in NESTED)])
    yield study.finding("solution-concepts", [sum(wrong[name] for name in CONCEPTS)])
    yield study.finding("contests-and-fees", [sum(wrong[name] for name in CONTESTS)])
    yield Table(
        "known-answers",
        [
            {"institution": one["name"], "known": one["facts"],
             "found": one["facts"] - one["wrong"], "not found": "; ".join(one["which"]) or "-"}
            for one in found
        ],
        caption="Numbers and equilibrium flags known from the literature, closed forms and another "
        "program, and how many of them are found.",
    )  # fmt: skip
    (canals,) = study.map(measure.measure_canals, [measure.CanalTask()], label="canals")
    for name in ("without-monitor", "with-monitor", "with-random-roles"):
        yield study.finding(f"irrigation-{name}", [canals[name]])
    yield Figure(
        "water",
        measure.draw_water(canals["water"]),
        caption="Water that each farmer takes from ten units, in an equilibrium of each "
        "institution: without a monitor the last farmer is left dry.",
        alt="Grouped bars of water by farmer for three institutions.",
    )
    if study.scale != "quick" and study.wants("pictures"):
        pictures = study.map(
            measure.draw_entry,
            [measure.PictureTask(name) for name in library.names()],
            label="pictures",
        )
        yield study.finding("pictures", [sum(one["bytes"] < 5000 for one in pictures)])
    yield Figure(
        "diagram",
        measure.draw_institution(),
        caption="The canal with a monitor as a string diagram: wires run down, payoffs run back up "
        "to the decisions they reward.",
        alt="String diagram of four decisions joined by the water level and the payoffs.",
    )


def _semantics(study: Study, measure: Any) -> Iterator[Result]:
    """Random terms and games: definition, laws, classical theory, files."""
    count = TERMS[study.scale]

    parts = 1 if study.scale == "quick" else 4

    def measured(function: Any, count: int, label: str, key: str) -> list[float]:
        tasks = [
            measure.RandomTask(seed % 2**32, part, max(count // parts, 1))
            for seed in study.seeds
            for part in range(parts)
        ]
        found = study.map(function, tasks, label=label)
        groups = [found[at : at + parts] for at in range(0, len(found), parts)]
        combine = sum if key in ("failures", "differ") else max
        return [float(combine(one[key] for one in group)) for group in groups]

    share = max(1, count // len(study.seeds))
    games = max(1, GAMES[study.scale] // len(study.seeds))
    for id, function, many, key in (
        ("one-semantics", measure.compare_literal, share, "worst"),
        ("categorical-laws", measure.check_laws, share, "failures"),
        ("classical-regret", measure.compare_normal_form, games, "worst"),
        ("pure-equilibria", measure.compare_pure, games, "differ"),
        ("files", measure.round_trips, games, "worst"),
        ("classical-regret-gambit", measure.compare_gambit, games, "worst"),
    ):
        if study.wants(id) and not (id.endswith("gambit") and study.scale == "quick"):
            yield study.finding(id, measured(function, many, id, key))


def _parsimony(study: Study, measure: Any) -> Iterator[Result]:
    """How short descriptions are, and how locally they change."""
    (found,) = study.map(measure.measure_parsimony, [measure.CanalTask()], label="parsimony")
    yield study.finding("parsimony-text", [found["grown text"]])
    yield study.finding("parsimony-trace", [found["nodes per farmer"]])
    yield study.finding("parsimony-tree", [found["ratio"]])
    yield Table(
        "parsimony",
        found["rows"],
        caption="The monitored canal: its text, what it unfolds to, what is evaluated, and the two "
        "classical forms it stands for.",
    )
    (changes,) = study.map(measure.measure_modularity, [measure.CanalTask()], label="modularity")
    yield study.finding("modularity-changes", [changes["changed"]])
    (wiring,) = study.map(measure.count_refused_wirings, [measure.CanalTask()], label="wiring")
    yield study.finding("modularity-wiring", [wiring["refused"]])


def _design(study: Study, measure: Any) -> Iterator[Result]:
    """A plane of institutions, and the corner that a search finds."""
    task = measure.SweepTask(GRID[study.scale])
    (found,) = study.map(measure.sweep_irrigation, [task], label="sweep", alone=True)
    yield study.finding("search-region", [found["agree"]])
    if study.scale != "quick":
        yield study.finding("search-rate", [found["rate"]])
    (best,) = study.map(measure.search_irrigation, [measure.CanalTask()], label="search")
    yield study.finding("search-pay-rate", [best["pay_rate"]])
    yield study.finding("search-fine", [best["fine"]])
    yield Figure(
        "institutions-that-hold",
        measure.draw_region(found["axis"], found["flags"]),
        caption=f"{found['points']:,} institutions: where a working monitor and three moderate "
        "farmers are an equilibrium. The lines are the closed form.",
        alt="Heat map over pay rate and fine; the region of equilibria is bounded by two lines.",
    )


def _families(study: Study, measure: Any) -> Iterator[Result]:
    """Related institutions beside each other."""
    tasks = measure.family_tasks()
    found = study.map(measure.compare_family, tasks, label="families")
    yield study.finding("families", [sum(one["mismatch"] for one in found)])
    rows = []
    for task, one in zip(tasks, found, strict=True):
        first = one["rows"][0] if one["rows"] else {}
        rows.append(
            {
                "institution": task.name,
                "farmers": task.farmers,
                "water": task.level,
                "constant equilibria": one["equilibria"],
                "one of them": first.get("plays", "-"),
                "welfare": first.get("welfare", "-"),
                "Gini": first.get("gini", "-"),
                "water left": first.get("water left", "-"),
            }
        )
    yield Table(
        "families",
        rows,
        caption="Irrigation institutions: equilibria among profiles that play one action a "
        "decision; W(ork), S(hirk), C(rack), F(lood) in the order of decisions.",
    )


def _solving(study: Study, measure: Any) -> Iterator[Result]:
    """Poker, commons, endless games, samples."""
    if study.wants("kuhn-value", "kuhn-exploitability", "kuhn-seconds"):
        (kuhn,) = study.map(
            measure.measure_kuhn, [measure.TimingTask("kuhn", 1000)], label="Kuhn", alone=True
        )
        yield study.finding("kuhn-value", [kuhn["error"]])
        yield study.finding("kuhn-exploitability", [kuhn["exploitability"]])
        yield study.finding("kuhn-seconds", [kuhn["seconds"]])
    (pool,) = study.map(measure.measure_common_pool, [measure.CanalTask()], label="commons")
    yield study.finding("common-pool-nash", [pool["nash"]])
    yield study.finding("common-pool-optimum", [pool["optimum"]])
    yield study.finding("common-pool-rent", [pool["share"]])
    (endless,) = study.map(measure.measure_dynamic, [measure.CanalTask()], label="endless games")
    yield study.finding("grim-trigger", [abs(endless["critical"] - 0.5)])
    yield study.finding("ecological-sets", [endless["sets"]])
    yield study.finding("ecological-values", [endless["values"]])
    yield study.finding("discounting", [endless["discounted"]])
    plays = 20_000 if study.scale == "quick" else 200_000
    tasks = [
        measure.PlayTask(name, seed % 2**32, plays)
        for seed in study.seeds
        for name in measure.SIMULATED
    ]
    sampled = study.map(measure.compare_plays, tasks, label="samples")
    many = len(measure.SIMULATED)
    yield study.finding(
        "simulation",
        [
            max(one["worst"] for one in sampled[at : at + many])
            for at in range(0, len(sampled), many)
        ],
    )
    (timed,) = study.map(
        measure.time_plays, [measure.TimingTask("plays", 10**6)], label="plays", alone=True
    )
    yield study.finding("simulation-seconds", [timed["seconds"]])


def _long_range(study: Study, measure: Any) -> Iterator[Result]:
    """Time against the number of rounds."""
    if study.scale == "quick":
        return
    rounds = ROUNDS[study.scale]
    tasks = [measure.TimingTask("repeated", number) for number in rounds]
    found = study.map(measure.time_repeated, tasks, label="repeated dilemma", alone=True)
    yield study.finding("long-range-exponent", [measure.exponent(rounds, found)])
    at = rounds.index(1000)
    yield study.finding("long-range-check", [found[at]["check"]])
    yield study.finding("long-range-compile", [found[at]["compile"]])
    yield Table(
        "long-range",
        [
            {"rounds": number, "outcomes, log10": one["log10 outcomes"],
             "compile (s)": one["compile"], "check (s)": one["check"]}
            for number, one in zip(rounds, found, strict=True)
        ],
        caption="The prisoner's dilemma repeated: tit for tat compiled and checked.",
    )  # fmt: skip


def _scale(study: Study, measure: Any) -> Iterator[Result]:
    """Games that no tree or table could hold."""
    if study.scale == "quick":
        return
    wide = (
        ("scale-irrigation", "irrigation", 200),
        ("scale-public-goods", "public goods", 100),
        ("scale-auction", "auction", 64),
        ("scale-bidders", "crowd", 100),
        ("scale-volunteers", "volunteers", 1000),
    )
    if study.wants(*(id for id, _, _ in wide), "scale-memory"):
        tasks = [measure.TimingTask(what, size) for _, what, size in wide]
        found = study.map(measure.time_scale, tasks, label="wide games", alone=True)
        for (id, _, _), one in zip(wide, found, strict=True):
            # A wrong answer has no time.
            yield study.finding(id, [one["seconds"] if one["right"] else float("inf")])
        yield study.finding("scale-memory", [found[0]["memory"]])
    if study.wants("kernel-rate"):
        (kernel,) = study.map(
            measure.time_kernel, [measure.TimingTask("kernel", 40)], label="kernel", alone=True
        )
        yield study.finding("kernel-rate", [kernel["rate"]])


EXPERIMENT = Experiment(CLAIMS, run, needs=Needs(packages=("numba", "opt_einsum")))
