"""The paper's claims about adaptive multi-resolution attention, and how each is measured."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import fmean
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
    Test,
    at_least,
    at_most,
    equals,
)

_PAPER = "arXiv:2108.04962"
_ABSTRACT = f"{_PAPER}, abstract"
_RESULTS = f"{_PAPER}, results (quoted second-hand)"
_OURS = "ours, no counterpart in the paper"
_LRA_FOLDER = "Long Range Arena's release folder, with aclImdb and cifar10 inside"
_NONE = "no number in what could be read"

PEERS = ("linformer", "nystrom", "performer", "local")
GROWTH: dict[Scale, tuple[int, ...]] = {
    "quick": (2048, 16384),
    "laptop": (2048, 4096, 8192, 16384, 32768),
    "paper": (2048, 4096, 8192, 16384, 32768),
}
SMALL = {"steps": 300, "batch": 16, "learning_rate": 4e-3, "warmup": 30}
LARGE = {"steps": 250, "batch": 8, "learning_rate": 3e-3, "warmup": 25}
"""How networks are trained on 256 and on 1,024 pixels. The learning rates are the best of 1e-3 to
4e-3 for the vanilla Transformer on validation data, with seeds that are not reported."""
SEEDS_OF_LARGE = 3
WITHOUT_CLAIM = ("a choice a head", "feature map elu")
LRA_FOLDERS = {
    "listops": "listops-1000",
    "text": "aclImdb",
    "retrieval": "tsv_data",
    "cifar10": "cifar10",
    "pathfinder32": "pathfinder32/curv_contour_length_14",
}
"""Long Range Arena's five tasks by the folder of their public files. Without those, ListOps and
Pathfinder are generated, text and retrieval are ours, and the image is the digits."""
BIGBIRD = 55.01
"""Its mean accuracy in Long Range Arena's own table."""
PAPER_TASKS = tuple(LRA_FOLDERS)

_ON_DIGITS = "digits of 256 and 1,024 pixels, in points"


def _timed(
    id: str,
    statement: str,
    test: Test,
    scale: Scale = "laptop",
    *,
    unit: str = "×",
    source: str = _ABSTRACT,
    kind: Any = "paper",
) -> Claim:
    """A claim about time or memory, decided by one run of interleaved repeats."""
    return Claim(id, statement, source, _NONE, test, scale, kind, unit, runs=1, timed=True)


def _exact(id: str, statement: str, test: Test) -> Claim:
    return Claim(id, statement, _OURS, "-", test, "quick", "extension", runs=1)


CLAIMS = (
    _timed(
        "linear-time",
        "Time grows linearly: exponent of CPU time in the length from 2K to 32K tokens (16K at "
        "quick), forward and backward, rates (1, 4, 16).",
        at_most(1.10),
        "quick",
        unit="",
    ),
    _timed(
        "linear-time-coarse",
        "The same with the coarse rates (4, 16, 32).",
        at_most(1.10),
        "quick",
        unit="",
    ),
    _timed(
        "linear-space",
        "Memory grows linearly: exponent of peak memory less the parameters' in the length.",
        at_most(1.05),
        "quick",
        unit="",
    ),
    _timed(
        "over-softmax-4k",
        "Explicit softmax attention takes many times longer at 4,096 tokens.",
        at_least(15),
        "quick",
    ),
    *(
        _timed(
            f"over-sdpa-{length // 1024}k",
            f"So does PyTorch's fused softmax attention at {length:,} tokens.",
            at_least(least),
            "quick" if length == 4096 else "laptop",
        )
        for length, least in ((4096, 4.5), (8192, 8), (16384, 13))
    ),
    _timed(
        "memory-softmax-4k",
        "Peak memory at 4,096 tokens over that of explicit softmax attention.",
        at_most(0.1),
        "quick",
    ),
    *(
        _timed(
            f"over-{name}",
            f"The attention of {name} takes longer: the least ratio of CPU times at 4,096 and "
            "16,384 tokens.",
            at_least(1),
        )
        for name in PEERS
    ),
    _timed(
        "against-linear-coarse",
        "With the coarse rates (4, 16, 32) it takes no longer than single-resolution linear "
        "attention, the fastest peer: the largest ratio at 4,096 and, not at quick, 16,384 tokens.",
        at_most(1.0),
        "quick",
    ),
    _timed(
        "against-linear",
        "With rates (1, 4, 16) it takes at most half as long again.",
        at_most(1.5),
        "quick",
    ),
    Claim(
        "several-resolutions",
        f"Several resolutions are more accurate than one at equal parameters: {_ON_DIGITS}.",
        _ABSTRACT,
        _NONE,
        at_least(0),
        "laptop",
        unit="points",
    ),
    Claim(
        "choice-over-fixed",
        "A router that lets queries choose is more accurate than heads bound to resolutions: "
        "digits-256, in points.",
        _ABSTRACT,
        _NONE,
        at_least(0),
        "laptop",
        unit="points",
        runs=5,
    ),
    Claim(
        "choice-over-random",
        "It is clearly more accurate than a choice at random: digits-256, in points.",
        _ABSTRACT,
        _NONE,
        at_least(2),
        "laptop",
        unit="points",
        runs=5,
    ),
    Claim(
        "choice-over-collapsed",
        "It is more accurate than a network trained with every token at the resolution that the "
        "router chose most: digits-256, in points.",
        _ABSTRACT,
        _NONE,
        at_least(0),
        "laptop",
        unit="points",
        runs=5,
    ),
    Claim(
        "kernel-degrades-little",
        "Kernel attention is at most two points less accurate than softmax attention to the same "
        "compressed keys (rates 4 and 16): digits-256, in points.",
        _ABSTRACT,
        "without degrading the performance",
        at_least(-2),
        "laptop",
        unit="points",
        runs=5,
    ),
    Claim(
        "vanilla-equal-steps",
        "After equally many steps it is at most two points less accurate than the vanilla "
        f"Transformer at equal parameters: {_ON_DIGITS}.",
        _RESULTS,
        "+4.32 on average over five tasks",
        at_least(-2),
        "laptop",
        unit="points",
    ),
    Claim(
        "vanilla-equal-seconds",
        "After equally many CPU seconds of training it is at least as accurate as the vanilla "
        "Transformer: digits-1024, in points.",
        _RESULTS,
        "-",
        at_least(0),
        "laptop",
        unit="points",
        timed=True,
    ),
    Claim(
        "average-over-vanilla",
        "Mean accuracy over five long-range tasks, above the vanilla Transformer's in our runs.",
        _RESULTS,
        "+4.32",
        at_least(0),
        "paper",
        unit="points",
    ),
    Claim(
        "average-over-bigbird",
        "Mean accuracy over Long Range Arena's own five data sets, above the 55.01 that their "
        "table gives for BigBird.",
        _RESULTS,
        "+4.89",
        at_least(0),
        "paper",
        unit="points",
        needs=Needs(files={"lra": _LRA_FOLDER}),
    ),
    Claim(
        "router-alive",
        "The router does not collapse: largest share of a resolution over all tokens and layers "
        "of the trained networks, digits-256.",
        _OURS,
        "-",
        at_most(0.9),
        "laptop",
        "extension",
        runs=5,
    ),
    Claim(
        "router-moves",
        "The router learns: share of tokens whose resolution training changed, digits-256.",
        _OURS,
        "-",
        at_least(0.1),
        "quick",
        "extension",
    ),
    Claim(
        "learned",
        "The network learns: accuracy above the best shallow baseline, digits-256, in points.",
        _OURS,
        "-",
        at_least(0),
        "laptop",
        "extension",
        unit="points",
        runs=5,
    ),
    _exact(
        "sorted-equals-dense",
        "Reading tokens grouped by their choice equals evaluating all resolutions: largest "
        "difference.",
        at_most(1e-5),
    ),
    _exact(
        "padding-invariant",
        "Padding changes no output of a real token: largest difference.",
        at_most(1e-5),
    ),
    _exact(
        "step-equals-forward",
        "The causal layer token by token equals the layer over the whole sequence: largest "
        "difference.",
        at_most(1e-5),
    ),
    Claim(
        "streaming-state",
        "The state of the causal layer does not grow: bytes added by 300 tokens.",
        _OURS,
        "-",
        equals(0),
        "quick",
        "extension",
        unit="bytes",
        deterministic=True,
    ),
    _timed(
        "long-forward",
        "A forward pass over 131,072 tokens of 64 channels: memory it adds.",
        at_most(2),
        "quick",
        unit="GiB",
        source=_OURS,
        kind="extension",
    ),
)


def run(study: Study) -> Iterator[Result]:
    """Measure the claims: identities, cost, accuracy, and at scale paper the five tasks."""
    # Imported here: `workingpapers papers` lists the claims without loading PyTorch.
    from workingpapers.adamra import measurements as measure

    sections = (
        (_identities, ("sorted", "padding", "step-", "streaming", "long-forward")),
        (_growth, ("linear-",)),
        (_pairs, ("over-", "against-", "memory-")),
        (_accuracy, ("several", "choice", "kernel", "vanilla", "router", "learned")),
        (_five_tasks, ("average",)),
    )
    for section, names in sections:
        if study.wants(*(claim.id for claim in CLAIMS if claim.id.startswith(names))):
            yield from section(study, measure)


def _identities(study: Study, measure: Any) -> Iterator[Result]:
    """What needs no training."""
    tasks = [measure.IdentityTask(seed % 2**31) for seed in study.seeds]
    found = study.map(measure.check_identities, tasks, label="identities")
    for id, key in (
        ("sorted-equals-dense", "sorted"),
        ("padding-invariant", "padding"),
        ("step-equals-forward", "step"),
        ("streaming-state", "state_growth"),
    ):
        yield study.finding(id, [one[key] for one in found])
    (long,) = study.map(
        measure.measure_long_forward, [measure.LongTask()], label="131,072 tokens", alone=True
    )
    yield study.finding("long-forward", [long["gib"]])


def _growth(study: Study, measure: Any) -> Iterator[Result]:
    """Exponents of time and memory in the length."""
    from workingpapers.adamra.scaling import fit_slope

    lengths = GROWTH[study.scale]
    names = ("adamra", "adamra-coarse")
    tasks = [measure.GrowthTask(name, lengths, 3) for name in names]
    found = study.map(measure.measure_growth, tasks, label="growth", alone=True)
    slopes = [fit_slope(one["lengths"], one["cpu_seconds"]) for one in found]
    yield study.finding("linear-time", [slopes[0]])
    yield study.finding("linear-time-coarse", [slopes[1]])
    spaces = [fit_slope(one["lengths"], one["peak_mb"]) for one in found]
    yield study.finding("linear-space", [max(spaces)])
    from workingpapers.adamra.plots import draw_growth

    yield Figure(
        "growth",
        draw_growth(found),
        caption="CPU time and peak memory of one layer, forward and backward, 256 channels in 8 "
        "heads, one thread.",
        alt="Time and memory against length on logarithmic axes; both are straight lines of "
        "slope one.",
    )


def _pairs(study: Study, measure: Any) -> Iterator[Result]:
    """Our layer and the others, their steps taken in turn."""
    rounds = 1 if study.scale == "quick" else 2
    ours = ("adamra", "adamra-coarse", "linear")
    tasks = [measure.PairTask((*ours, "sdpa", "softmax"), 4096, rounds)]
    if study.scale != "quick":
        tasks = [
            measure.PairTask((*ours, *PEERS, "sdpa", "softmax"), 4096, rounds),
            measure.PairTask((*ours, *PEERS), 16384, rounds),
            # Its steps take seconds, and differ from ours by an order of magnitude.
            measure.PairTask(("adamra", "sdpa"), 8192, 1),
            measure.PairTask(("adamra", "sdpa"), 16384, 1),
        ]
    found = study.map(measure.compare_attentions, tasks, label="attentions", alone=True)
    at_4k = found[0]
    yield study.finding("over-softmax-4k", [at_4k["softmax"]["ratio"]])
    yield study.finding("over-sdpa-4k", [at_4k["sdpa"]["ratio"]])
    memory = at_4k["adamra"]["peak_mb"] / at_4k["softmax"]["peak_mb"]
    yield study.finding("memory-softmax-4k", [memory])
    long = [at_4k]
    if study.scale != "quick":
        long.append(found[1])
        yield study.finding("over-sdpa-8k", [found[2]["sdpa"]["ratio"]])
        yield study.finding("over-sdpa-16k", [found[3]["sdpa"]["ratio"]])
        for name in PEERS:
            yield study.finding(f"over-{name}", [min(one[name]["ratio"] for one in long)])
    coarse = [one["adamra-coarse"]["ratio"] / one["linear"]["ratio"] for one in long]
    yield study.finding("against-linear-coarse", [max(coarse)])
    yield study.finding("against-linear", [max(1 / one["linear"]["ratio"] for one in long)])
    yield Table(
        "attentions",
        [
            {
                "tokens": one["length"],
                "attention": name,
                "CPU time, × ours": f"{one['ratio']:.3g}",
                "CPU s": f"{one['cpu_seconds']:.3g}",
                "peak MiB": f"{one['peak_mb']:.0f}",
            }
            for entry in found
            for name, one in entry.items()
        ],
        caption="One attention layer of 256 channels in 8 heads, forward and backward, one thread; "
        "medians of steps taken in turn. The peers are our own thin versions, held equal to "
        "the packages.",
    )


def _points(ours: Sequence[Any], theirs: Sequence[Any]) -> list[float]:
    """Differences of accuracy in points, seed by seed."""
    pairs = zip(ours, theirs, strict=True)
    return [100 * (mine["accuracy"] - other["accuracy"]) for mine, other in pairs]


def _networks(
    study: Study, measure: Any, seeds: Sequence[int]
) -> tuple[dict[str, list[Any]], float]:
    """Every network's results by task and variant, and what a step of vanilla costs, × ours."""

    def small(variant: str, **more: Any) -> list[Any]:
        return [measure.VariantTask("digits-256", variant, seed, **SMALL, **more) for seed in seeds]

    def large(variant: str, **more: Any) -> list[Any]:
        return [
            measure.VariantTask("digits-1024", variant, seed, **{**LARGE, **more})
            for seed in seeds[:SEEDS_OF_LARGE]
        ]

    step = measure.StepTask(large("vanilla")[0], "multi-resolution")
    (cost,) = study.map(measure.compare_steps, [step], label="cost of a step", alone=True)
    affordable = max(1, round(LARGE["steps"] / cost["ratio"]))
    # The longest first, so that all cores end together.
    groups = {
        "digits-1024, vanilla": large("vanilla"),
        "digits-1024, multi-resolution": large("multi-resolution"),
        "digits-1024, single resolution": large("single resolution"),
        "digits-1024, vanilla, equal CPU seconds": large("vanilla", steps=affordable),
    }
    for name in measure.VARIANTS:
        if name != "collapsed":
            # One seed of those that are shown and that no claim is about.
            groups[f"digits-256, {name}"] = small(name)[: 1 if name in WITHOUT_CLAIM else None]
    tasks = [task for group in groups.values() for task in group]
    results = iter(study.map(measure.train_variant, tasks, label="networks"))
    found = {name: [next(results) for _ in group] for name, group in groups.items()}
    collapsed = [
        replace(task, variant="collapsed", forced=_commonest(one["shares"]))
        for task, one in zip(
            groups["digits-256, multi-resolution"],
            found["digits-256, multi-resolution"],
            strict=True,
        )
    ]
    found["digits-256, collapsed"] = study.map(
        measure.train_variant, collapsed, label="collapsed networks"
    )
    return found, cost["ratio"]


def _accuracy(study: Study, measure: Any) -> Iterator[Result]:
    """Networks of equal size that differ in their attention, on images as sequences of pixels."""
    seeds = [seed % 2**31 for seed in study.seeds]
    if study.scale == "quick":
        tasks = [
            measure.VariantTask(
                "digits-256",
                "multi-resolution",
                seed,
                **{**SMALL, "steps": 12, "warmup": 4},
                test=64,
            )
            for seed in seeds
        ]
        few = study.map(measure.train_variant, tasks, label="digits-256")
        yield study.finding("router-moves", [one["moved"] for one in few])
        return

    found, cost = _networks(study, measure, seeds)
    ours, ours_large = found["digits-256, multi-resolution"], found["digits-1024, multi-resolution"]
    baseline_tasks = [measure.BaselineTask("digits-256", seed) for seed in seeds]
    shallow: list[dict[str, float]] = study.map(
        measure.score_baselines, baseline_tasks, label="shallow baselines"
    )

    def both(name: str) -> list[float]:
        """Mean over the two tasks for the seeds that both have."""
        few = _points(ours_large, found[f"digits-1024, {name}"])
        many = _points(ours, found[f"digits-256, {name}"])
        return [fmean(pair) for pair in zip(many[: len(few)], few, strict=True)]

    yield study.finding("several-resolutions", both("single resolution"))
    for id, name in (
        ("choice-over-fixed", "fixed"),
        ("choice-over-random", "random"),
        ("choice-over-collapsed", "collapsed"),
    ):
        yield study.finding(id, _points(ours, found[f"digits-256, {name}"]))
    yield study.finding(
        "kernel-degrades-little",
        _points(found["digits-256, coarse"], found["digits-256, coarse, softmax"]),
    )
    yield study.finding("vanilla-equal-steps", both("vanilla"))
    yield study.finding(
        "vanilla-equal-seconds",
        _points(ours_large, found["digits-1024, vanilla, equal CPU seconds"]),
    )
    yield study.finding("router-alive", [max(map(max, one["shares"])) for one in ours])
    yield study.finding("router-moves", [one["moved"] for one in ours])
    best = [max(one.values()) for one in shallow]
    yield study.finding(
        "learned", [100 * (one["accuracy"] - b) for one, b in zip(ours, best, strict=True)]
    )
    rows = []
    for name, ones in found.items():
        accuracies = [100 * one["accuracy"] for one in ones]
        rows.append(
            {
                "network": name,
                "accuracy": f"{fmean(accuracies):.1f}",
                "by seed": ", ".join(f"{value:.1f}" for value in accuracies),
                "parameters": ones[0]["parameters"],
                "steps": ones[0]["steps"],
                "CPU s": f"{fmean(one['cpu_seconds'] for one in ones):.0f}",
                "shares by layer": _shares_text(ones[0]["shares"]),
            }
        )
    for key in shallow[0]:
        values = [100 * one[key] for one in shallow]
        rows.append(
            {
                "network": f"digits-256, {key} (no network)",
                "accuracy": f"{fmean(values):.1f}",
                "by seed": ", ".join(f"{value:.1f}" for value in values),
                "parameters": "-",
                "steps": "-",
                "CPU s": "-",
                "shares by layer": "-",
            }
        )
    yield Table(
        "networks",
        rows,
        caption="Test accuracy in percent. All networks of a task have the same number of "
        "parameters to within one hidden unit (wider feed-forward layers make up for fewer "
        "projections), the same data, order and number of steps, except where equal CPU seconds "
        f"are said: a step of vanilla costs {cost:.1f} times ours at 1,024 pixels.",
    )
    from workingpapers.adamra.plots import draw_accuracies, draw_shares_by_step, draw_trade_off

    labels = {"multi-resolution": "adamra", "single resolution": "one resolution"}
    # Where the system does not tell of memory there is nothing to draw as areas.
    trade_off = [
        {
            "name": labels.get(name, name),
            "accuracy": fmean(one["accuracy"] for one in ones),
            "speed": fmean(one["examples_per_second"] for one in ones),
            "memory_mb": fmean(one["peak_mb"] for one in ones),
        }
        for name in ("multi-resolution", "single resolution", "vanilla")
        for ones in [found[f"digits-1024, {name}"]]
        if all(one["peak_mb"] for one in ones)
    ]
    if trade_off:
        yield Figure(
            "trade-off",
            draw_trade_off(
                trade_off, speed_label="pictures of 1,024 pixels trained on per CPU second"
            ),
            caption="The trade-off that the paper draws, by our measurements: digits-1024 after "
            f"{LARGE['steps']} steps, memory that training adds.",
            alt="Three discs: accuracy against speed, with the memory as area.",
        )
    yield Figure(
        "accuracies",
        draw_accuracies({name: [one["accuracy"] for one in ones] for name, ones in found.items()}),
        caption="Test accuracy by seed.",
        alt="Points of test accuracy, one row a network.",
    )
    yield Figure(
        "shares",
        draw_shares_by_step(
            ours[0]["shares_by_step"],
            (1, 4, 16),
            range(0, measure.SHARES_EVERY * len(ours[0]["shares_by_step"]), measure.SHARES_EVERY),
        ),
        caption="Share of tokens at each resolution while the first seed's network is trained, "
        "one panel a layer.",
        alt="Stacked areas of shares of three resolutions against training steps.",
    )


def _five_tasks(study: Study, measure: Any) -> Iterator[Result]:
    """Long Range Arena's five tasks at its sizes, by the compact protocol."""
    if study.scale != "paper":
        return
    lra = study.data.get("lra")
    tasks = []
    for name in PAPER_TASKS:
        task = name if name != "cifar10" or lra else "digits-1024"
        data = lra / LRA_FOLDERS[name] if lra else None
        for variant in ("multi-resolution", "vanilla"):
            for seed in study.seeds:
                tasks.append(measure.protocol_task(task, variant, seed % 2**31, data))
    found = study.map(measure.train_variant, tasks, label="five tasks")
    count = len(study.seeds)
    by_task = [found[at : at + 2 * count] for at in range(0, len(found), 2 * count)]
    gains = [_points(one[:count], one[count:]) for one in by_task]
    means = [fmean(column) for column in zip(*gains, strict=True)]
    yield study.finding("average-over-vanilla", means)
    rows = [
        {
            "task": name,
            "ours": f"{100 * fmean(x['accuracy'] for x in one[:count]):.2f}",
            "vanilla": f"{100 * fmean(x['accuracy'] for x in one[count:]):.2f}",
        }
        for name, one in zip(PAPER_TASKS, by_task, strict=True)
    ]
    yield Table("five-tasks", rows, caption="Mean test accuracy in percent.")
    if lra:
        ours = [100 * fmean(one[index]["accuracy"] for one in by_task) for index in range(count)]
        yield study.finding("average-over-bigbird", [mean - BIGBIRD for mean in ours])


def _commonest(shares: Sequence[Sequence[float]]) -> int:
    """The resolution that most tokens of all layers choose."""
    totals = [math.fsum(column) for column in zip(*shares, strict=True)]
    return totals.index(max(totals))


def _shares_text(shares: Sequence[Sequence[float]]) -> str:
    return "; ".join(" / ".join(f"{share:.2f}" for share in layer) for layer in shares) or "-"


EXPERIMENT = Experiment(CLAIMS, run, Needs(packages=("numba", "sklearn")))
