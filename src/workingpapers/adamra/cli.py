"""The verbs of `workingpapers adamra`: classifiers of long sequences, and what attention costs."""

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args

import typer
from typer._click import Context

from workingpapers.foundation import console
from workingpapers.foundation.console import (
    Force,
    Json,
    Picture,
    Seed,
    Trust,
    Verbs,
    check_choice,
    claim_picture,
    save_picture,
)
from workingpapers.foundation.errors import InputError
from workingpapers.foundation.launching import (
    Devices,
    Minutes,
    Nodes,
    Threads,
    check_launch,
    check_resume,
    is_first_process,
    open_fabric,
)

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

    from workingpapers.adamra.classify import Estimate, Trained, Training
    from workingpapers.adamra.encoder import AdaMRAEncoder
    from workingpapers.adamra.runs import RunConfig
    from workingpapers.adamra.scaling import Measurement
    from workingpapers.adamra.tasks import Examples, Split

GENERATED = {
    "listops": None,
    "listops-short": None,
    "pathfinder32": (32, 14),
    "pathfinder32-9": (32, 9),
    "pathfinder32-easy": (32, 6),
    "pathfinder64": (64, 14),
    "pathfinder128": (128, 14),
    "pathfinder256": (256, 14),
}
"""What `generate` draws; of Pathfinder the side in pixels and the dashes of a long curve."""

LARGEST_NUMBER = 2**31 - 1
"""Of rates and lengths."""


app = typer.Typer(
    cls=Verbs,
    help="Classify long sequences with attention at several resolutions, in linear time.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Run = Annotated[Path, typer.Argument(metavar="RUN", help="A folder written by `adamra train`.")]
TextColumn = Annotated[
    str | None, typer.Option("--text", help="Column with the text, in a table; default: text.")
]
LabelColumn = Annotated[
    str | None, typer.Option("--label", help="Column with the class, in a table; default: label.")
]
SplitName = Annotated[str, typer.Option("--split", help="train, validation or test.")]
Rates = Annotated[
    str, typer.Option("--rates", help="Compression rates of the resolutions, fine to coarse.")
]


@app.command(
    epilog="Example: workingpapers adamra train reviews.csv --text review --label stars --out run"
)
def train(
    context: Context,
    task: Annotated[
        str | None,
        typer.Argument(
            metavar="TASK|DATA",
            help="A name that `adamra tasks` lists; or texts with classes: a .csv, .tsv or .jsonl "
            "file, or a folder with a sub folder of .txt files for each class.",
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Where the public files of a task lie (LRA, IMDb, CIFAR).")
    ] = None,
    text: TextColumn = None,
    label: LabelColumn = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the run; without it nothing is saved.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Go on with an interrupted run.")
    ] = None,
    protocol: Annotated[
        str, typer.Option(help="Settings to start from: laptop, compact or lra.")
    ] = "laptop",
    attention: Annotated[
        str, typer.Option(help="adamra, or softmax, sdpa, linear, linformer, nystrom, ...")
    ] = "adamra",
    rates: Rates = "1,4,16",
    routing: Annotated[
        str, typer.Option(help="top1, straight_through, soft, fixed, random or off.")
    ] = "top1",
    steps: Annotated[int | None, typer.Option(min=1, help="Updates of the weights.")] = None,
    minutes: Minutes = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Sequences a step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="At its highest.")] = None,
    examples: Annotated[
        int | None, typer.Option(min=1, help="Training examples to use or to generate.")
    ] = None,
    length: Annotated[
        int | None, typer.Option(min=1, help="Tokens at which sequences are cut.")
    ] = None,
    dim: Annotated[int | None, typer.Option(min=1, help="Channels.")] = None,
    depth: Annotated[int | None, typer.Option(min=1, help="Layers.")] = None,
    heads: Annotated[int | None, typer.Option(min=1, help="Heads.")] = None,
    feed_forward: Annotated[
        int | None, typer.Option(min=1, help="Hidden units of the feed-forward layers.")
    ] = None,
    pooling: Annotated[str | None, typer.Option(help="mean or cls.")] = None,
    evaluate_every: Annotated[
        int | None, typer.Option(min=1, help="Steps between evaluations; default: a tenth.")
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(min=1, help="End after so many evaluations without a better one."),
    ] = None,
    devices: Devices = 1,
    nodes: Nodes = 1,
    strategy: Annotated[str, typer.Option(help="auto, ddp or fsdp, as Fabric has them.")] = "auto",
    precision: Annotated[
        str, typer.Option(help="32-true, bf16-mixed, 16-mixed, ..., as Fabric has them.")
    ] = "32-true",
    threads: Threads = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say parameters, steps and estimated minutes.")
    ] = False,
    trust: Trust = False,
    seed: Seed = 0,
    device: console.Device = "auto",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Train a classifier of long sequences.

    Ctrl-C saves the run; `--resume` goes on with it and ends with the same weights as without
    the interruption. Options that are not given come from the protocol.
    """
    if resume is not None:
        check_resume(context, argument="TASK|DATA")
    elif not task:
        raise InputError("TASK|DATA: expected a task, a file or a folder (or --resume RUN)")
    check_launch(steps, minutes, 1 if dry_run else nodes, strategy)
    check_choice("--pooling", pooling, (None, "mean", "cls"))
    first = is_first_process()
    chosen = console.choose_device(device)
    import torch

    from workingpapers.adamra.classify import Training, make_run
    from workingpapers.adamra.runs import RUNS
    from workingpapers.foundation.training import Precision

    check_choice("--precision", precision, get_args(Precision))
    if out is not None and first and not dry_run:
        RUNS.check_new(out, force=force)
    if threads is not None:
        torch.set_num_threads(threads)
    # A time budget has no evaluations yet to have patience with.
    planned_later = minutes is not None and evaluate_every is None
    if resume is not None:
        run = RUNS.read(resume)
        if devices * nodes != run.processes:
            raise InputError(
                f"--devices {devices}, --nodes {nodes}: expected {run.processes} processes in "
                f"all, with which {resume} was begun"
            )
    else:
        assert task is not None
        run = make_run(
            task,
            protocol=protocol,
            data=data,
            text=text,
            label=label,
            trust=trust,
            length=length,
            batch=batch,
            examples=examples,
            processes=devices * nodes,
            encoder={
                "attention": attention,
                "rates": _numbers("--rates", rates),
                "routing": routing,
                "dim": dim,
                "depth": depth,
                "heads": heads,
                "feed_forward": feed_forward,
                "pooling": pooling,
            },
            training={
                "steps": steps,
                "seconds": None if minutes is None else 60 * minutes,
                "learning_rate": learning_rate,
                "evaluate_every": evaluate_every,
                "patience": None if planned_later else patience,
                "precision": precision,
                "threads": threads or max(1, torch.get_num_threads() // devices),
                "seed": seed,
            },
        )
    if dry_run:
        _show_estimate(run, _estimate(run, chosen), as_json)
        return
    fabric = open_fabric(chosen, devices, nodes, strategy, run.training.precision)
    training = Training(run, chosen)
    fabric.launch()
    if run.training.seconds is not None:
        training.settle(patience=patience)
        training.run = fabric.broadcast(training.run)
    folder = resume or out
    total = training.run.training.steps
    assert total is not None
    left = total - (RUNS.finished_steps(resume) if resume is not None else 0)
    first = fabric.is_global_zero
    with (
        RUNS.replacing(out if first else None),
        RUNS.saying_how_to_go_on(folder if first else None),
        console.progress("training", left) if first else nullcontext() as advance,
    ):
        fabric.barrier()
        trained = training.fit(folder, fabric=fabric, progress=advance)
    if first:
        _show_trained(training, trained, folder, as_json)


@app.command(epilog="Example: workingpapers adamra evaluate run new-reviews.csv --json")
def evaluate(
    run: Run,
    data: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]",
            help="Texts with classes, a .tsv of ListOps, or a folder of the task's public files; "
            "default: the run's own data.",
        ),
    ] = None,
    split: SplitName = "test",
    text: TextColumn = None,
    label: LabelColumn = None,
    examples: Annotated[int | None, typer.Option(min=1, help="Use at most so many.")] = None,
    picture: Picture = None,
    device: console.Device = "auto",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Score a trained run: accuracy, loss, each class, and what the router does.

    The picture shows ListOps' accuracy by the depth of the tree, else which classes are confused.
    """
    check_choice("--split", split, ("train", "validation", "test"))
    claim_picture(picture, force=force)
    from workingpapers.adamra.classify import assess, check_examples, read_labelled
    from workingpapers.adamra.runs import load_run

    config, model = load_run(run, console.choose_device(device))
    if data is not None:
        found = read_labelled(config, data, cast("Split", split), text, label)
        found = found.take(_first(len(found), examples))
    else:
        found = _own_examples(config, cast("Split", split), examples)
    check_examples(config, data or config.data or config.task, split, found)
    with console.progress("evaluating", math.ceil(len(found) / config.evaluation_batch)) as advance:
        scores, predicted = assess(model, found, config.evaluation_batch, advance)
    if picture is not None:
        save_picture(_draw_scores(config, found, predicted), picture)
    rows = _class_rows(config, found, predicted)
    majority = max(row["examples"] for row in rows) / len(found)
    if as_json:
        console.print_json(
            {
                "examples": len(found),
                **scores,
                "majority_class": majority,
                "classes": rows,
            }
        )
        return
    console.out.print(
        f"{len(found):,} examples: accuracy {scores['accuracy']:.3f}, loss {scores['loss']:.3f}; "
        f"the commonest class alone {majority:.3f}"
    )
    _print_rows(rows)
    _print_routing(model, scores)


@app.command(epilog="Example: workingpapers adamra predict run letters/ --out answers.csv")
def predict(
    run: Run,
    data: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="A .txt file is one sequence, a .csv, .tsv or .jsonl one a row, a folder one a "
            "file; for pixels a .png or a folder of them.",
        ),
    ],
    text: TextColumn = None,
    out: Annotated[Path | None, typer.Option(help="Write the answers into this CSV file.")] = None,
    device: console.Device = "auto",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Classify sequences: prints each one's class and its probability."""
    console.claim_file(out, force=force, option="--out")
    from workingpapers.adamra.classify import predict as probabilities_of
    from workingpapers.adamra.classify import read_sequences
    from workingpapers.adamra.runs import load_run

    config, model = load_run(run, console.choose_device(device))
    names, tokens = read_sequences(config, data, text)
    probabilities = probabilities_of(model, tokens, config.evaluation_batch)
    answers = [
        {"sequence": name, "class": config.classes[row.argmax()], "probability": float(row.max())}
        for name, row in zip(names, probabilities, strict=True)
    ]
    if out is not None:
        console.write_atomically(out, _as_csv(answers))
        console.err.print(f"answers: {out}", markup=False)
    if as_json:
        for answer, row in zip(answers, probabilities, strict=True):
            answer["probabilities"] = dict(zip(config.classes, map(float, row), strict=True))
        console.print_json(answers)
    elif out is None:
        for answer in answers:
            console.out.print(
                f"{answer['sequence']}: {answer['class']} ({answer['probability']:.3f})",
                markup=False,
            )


@app.command(
    epilog="Example: workingpapers adamra scaling --against linear,sdpa --picture scaling.svg"
)
def scaling(
    lengths: Annotated[str, typer.Option(help="Tokens of the sequences.")] = "1024,2048,4096",
    against: Annotated[
        str,
        typer.Option(
            help="Other attentions: softmax, sdpa, linear, linformer, nystrom, performer, local."
        ),
    ] = "",
    rates: Rates = "1,4,16",
    dim: Annotated[int, typer.Option(min=1, help="Channels.")] = 256,
    heads: Annotated[int, typer.Option(min=1, help="Heads.")] = 8,
    batch: Annotated[int, typer.Option(min=1, help="Sequences at a time.")] = 1,
    forward_only: Annotated[
        bool, typer.Option("--forward-only", help="Leave the backward pass out.")
    ] = False,
    repeats: Annotated[int, typer.Option(min=1, help="Steps, of which the median is told.")] = 3,
    limit: Annotated[float, typer.Option(help="Give up on steps of so many seconds.")] = 60.0,
    picture: Picture = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Measure time and memory of one layer as sequences grow, a process a point, on one thread.

    A slope of 1 is linear growth, of 2 quadratic.
    """
    claim_picture(picture, force=force)
    names = ["adamra", *(name.strip() for name in against.split(",") if name.strip())]
    sizes = _numbers("--lengths", lengths)
    from workingpapers.adamra.scaling import measure_scaling

    with console.err.status("measuring") as status:
        measured = measure_scaling(
            names,
            sizes,
            dim,
            heads,
            batch=batch,
            backward=not forward_only,
            repeats=repeats,
            limit=limit,
            rates=_numbers("--rates", rates),
            tell=lambda step: status.update(f"measuring {step}"),
        )
    slopes = {name: _slopes([one for one in measured if one.name == name]) for name in names}
    if picture is not None:
        from workingpapers.adamra.plots import draw_growth

        save_picture(draw_growth([_growth(name, measured) for name in names]), picture)
    if as_json:
        rows = [asdict(one) for one in measured]
        console.print_json({"measurements": rows, "slopes": slopes})
        return
    _print_rows(
        [
            {
                "attention": one.name,
                "tokens": f"{one.length:,}",
                "CPU seconds": one.failed or f"{one.cpu_seconds:.4f}",
                "peak MiB": "-" if one.failed else f"{one.peak_mb:.0f}",
                "tokens a second": "-" if one.failed else f"{one.tokens_per_second:,.0f}",
            }
            for one in measured
        ]
    )
    for name, slope in slopes.items():
        told = ", ".join(f"{of} {value:.2f}" for of, value in slope.items() if value is not None)
        if told:
            console.out.print(f"{name}: slopes {told}")


@app.command(
    epilog="Example: workingpapers adamra generate listops lra/listops-1000 --count 100000"
)
def generate(
    task: Annotated[
        str,
        typer.Argument(metavar="TASK", help=f"One of {', '.join(GENERATED)}."),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A folder, new or empty.")],
    count: Annotated[
        int, typer.Option(min=3, help="Sequences or pictures in all splits together.")
    ] = 100_000,
    seed: Seed = 0,
    picture: Annotated[
        Path | None, typer.Option("--picture", help="Draw some of Pathfinder's into this file.")
    ] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Write a set in Long Range Arena's layout, which `train TASK --data OUT` reads.

    ListOps: basic_train.tsv, basic_val.tsv and basic_test.tsv, of which the last two hold one in
    fifty each. Pathfinder: a folder of pictures and their labels, which readers divide.
    """
    check_choice("TASK", task, tuple(GENERATED))
    claim_picture(picture, force=force)
    if picture is not None and GENERATED[task] is None:
        raise InputError(f"--picture: expected with a Pathfinder set, {task} has no pictures")
    if out.exists() and not out.is_dir():
        raise InputError(f"OUT {out}: expected a folder, found a file")
    if out.is_dir() and any(out.iterdir()) and not force:
        raise InputError(f"OUT {out}: the folder is not empty; --force writes into it")
    files = _generate_pathfinder if GENERATED[task] is not None else _generate_listops
    written = files(task, out, count, seed, picture)
    if as_json:
        console.print_json({"task": task, "seed": seed, "written": written})
        return
    for name, number in written.items():
        console.out.print(f"{name}: {number:,}", markup=False)


@app.command(epilog="Example: workingpapers adamra inspect run letter.txt --picture routing.svg")
def inspect(
    run: Run,
    what: Annotated[
        str | None,
        typer.Argument(metavar="[TEXT|FILE]", help="A text, or a file that holds a sequence."),
    ] = None,
    example: Annotated[
        int | None, typer.Option(min=1, help="An example of the run's data, from 1.")
    ] = None,
    split: SplitName = "test",
    picture: Picture = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Show which resolution each byte, symbol or pixel reads, in every layer.

    Without a sequence: which share of all tokens read each resolution in the course of training.
    """
    check_choice("--split", split, ("train", "validation", "test"))
    claim_picture(picture, force=force)
    if what is not None and example is not None:
        raise InputError("--example: expected without a text or file")
    from workingpapers.adamra.classify import predict as probabilities_of
    from workingpapers.adamra.classify import resolutions
    from workingpapers.adamra.runs import load_run

    config, model = load_run(run)
    if what is None and example is None:
        _inspect_training(run, config, picture, as_json)
        return
    tokens = _sequence(config, what, example, cast("Split", split))
    probability = probabilities_of(model, tokens[None])[0]
    sides = tokens if tokens.ndim == 2 else tokens[None]
    choices = [resolutions(model, side) for side in sides]
    if picture is not None:
        save_picture(_draw_routing(config, sides, choices), picture)
    from workingpapers.adamra.classify import pieces

    answer, rates = config.classes[probability.argmax()], config.encoder.rates
    if as_json:
        console.print_json(
            {
                "class": answer,
                "probability": float(probability.max()),
                "rates": list(rates),
                "sequences": [
                    {
                        "tokens": pieces(config, side),
                        "rate_of_each": [
                            [rates[one] for one in layer] for layer in choice.tolist()
                        ],
                    }
                    for side, choice in zip(sides, choices, strict=True)
                ],
            }
        )
        return
    console.out.print(f"class {answer} ({probability.max():.3f})", markup=False)
    _print_resolutions(rates)
    for side, choice in zip(sides, choices, strict=True):
        for layer, chosen in enumerate(choice, start=1):
            shares = _shares_text(rates, [float((chosen == one).mean()) for one in
                                          range(len(rates))])  # fmt: skip
            console.out.print(f"layer {layer}: {shares}", markup=False)
            if config.kind == "pixels":
                _print_grid(chosen, math.isqrt(config.encoder.length), len(rates))
            else:
                _print_text(pieces(config, side), chosen, len(rates))


@app.command(epilog="Example: workingpapers adamra tasks --json")
def tasks(as_json: Json = False) -> None:
    """List the named tasks: length, classes, where their data come from, and its licence."""
    from workingpapers.adamra.tasks import TASKS, open_task

    rows: list[dict[str, Any]] = []
    for name, description in TASKS.items():
        row: dict[str, Any] = {"task": name, "about": description}
        try:
            task = open_task(name)
        except InputError:
            # Only to be had from the user's own files.
            row |= {"tokens": None, "classes": None, "source": "at a path", "licence": None}
        else:
            row |= {
                "tokens": task.length,
                "classes": len(task.class_names),
                "source": task.source,
                "licence": task.licence,
            }
        rows.append(row)
    if as_json:
        console.print_json(rows)
        return
    for row in rows:
        size = "as your files have it"
        if row["tokens"] is not None:
            size = f"{row['tokens']:,} tokens, {row['classes']} classes"
        licence = "" if row["licence"] is None else f"; licence: {row['licence']}"
        console.out.print(
            f"{row['task']}: {size}\n  {row['about']}\n  data: {row['source']}{licence}",
            markup=False,
        )


# ---- training


def _estimate(run: "RunConfig", device: str) -> "Estimate":
    """What a training will take, from three steps of few sequences on few examples."""
    from workingpapers.adamra.classify import Training
    from workingpapers.adamra.tasks import GeneratedTask

    few = 4 if device == "cpu" else run.batch
    held = 64 if run.validation_examples is None else min(run.validation_examples, 64)
    wanted = run.train_examples
    some = max(few, 16) if wanted is None else min(wanted, max(few, 16))
    few_of_them = replace(run, train_examples=some, validation_examples=held, examples_sha256=None)
    training = Training(few_of_them, device)
    estimate = training.settle(repeats=3, most=few)
    count = wanted
    if count is None or not isinstance(training.task, GeneratedTask):
        count = len(training.task.sample("train", wanted, 0))
    return replace(estimate, epochs=estimate.epochs * len(training.examples) / count)


def _show_estimate(run: "RunConfig", estimate: "Estimate", as_json: bool) -> None:
    from workingpapers.adamra.classify import settings_of

    if as_json:
        console.print_json({**asdict(estimate), "settings": settings_of(run)})
        return
    for name, value in settings_of(run).items():
        console.out.print(f"{name}: {value}", markup=False)
    minutes = estimate.minutes
    time = f"{60 * minutes:.0f} seconds" if minutes < 2 else f"{minutes:.0f} minutes"
    console.out.print(
        f"{estimate.parameters:,} parameters, {estimate.steps:,} steps of at most "
        f"{estimate.tokens_per_step:,} tokens ({estimate.epochs:.1f} epochs), about {time}"
    )


def _show_trained(
    training: "Training", trained: "Trained", folder: Path | None, as_json: bool
) -> None:
    history, scores = trained.history, trained.scores
    steps = int(history.log[-1]["step"]) if history.log else history.resumed_from
    if as_json:
        console.print_json(
            {
                "run": None if folder is None else str(folder),
                "task": training.task.name,
                "steps": steps,
                "best_step": history.best_step,
                "tokens": trained.tokens,
                "validation": scores,
                "baselines": trained.baselines,
            }
        )
        return
    kept = "" if history.best_step is None else f", of which step {history.best_step} was kept"
    console.out.print(
        f"{steps:,} steps{kept}, {trained.tokens:,} tokens: validation accuracy "
        f"{scores['accuracy']:.3f}, loss {scores['loss']:.3f}"
    )
    shallow = ", ".join(f"{name} {value:.3f}" for name, value in trained.baselines.items())
    console.out.print(f"shallow baselines: {shallow}", markup=False)
    _print_routing(trained.model, scores)
    if folder is not None:
        console.out.print(f"run: {folder}", markup=False)


# ---- evaluating and predicting


def _first(count: int, most: int | None) -> "np.ndarray":
    import numpy as np

    return np.arange(count if most is None else min(count, most))


def _own_examples(config: "RunConfig", split: "Split", count: int | None) -> "Examples":
    """Examples of the run's own data, as many as it holds out for that."""
    from workingpapers.adamra.classify import HELD_OUT_SEED

    default = {
        "train": config.train_examples,
        "validation": config.validation_examples,
        "test": config.test_examples,
    }[split]
    seed = config.seed if split == "train" else HELD_OUT_SEED
    return config.open_task().sample(split, count or default, seed)


def _class_rows(
    config: "RunConfig", found: "Examples", predicted: "np.ndarray"
) -> list[dict[str, Any]]:
    rows = []
    for number, name in enumerate(config.classes):
        mine, answered = found.labels == number, predicted == number
        both = int((mine & answered).sum())
        rows.append(
            {
                "class": name,
                "examples": int(mine.sum()),
                "recall": both / int(mine.sum()) if mine.any() else None,
                "precision": both / int(answered.sum()) if answered.any() else None,
            }
        )
    return rows


def _draw_scores(config: "RunConfig", found: "Examples", predicted: "np.ndarray") -> "Figure":
    from workingpapers.adamra.plots import draw_accuracy_by_depth, draw_confusion

    if config.kind == "symbols":
        return draw_accuracy_by_depth(found.notes["depth"], predicted == found.labels)
    return draw_confusion(found.labels, predicted, config.classes)


# ---- inspecting


def _sequence(
    config: "RunConfig", what: str | None, example: int | None, split: "Split"
) -> "np.ndarray":
    """The tokens of the sequence (or pair) to look at."""
    from workingpapers.adamra.classify import encode_text, read_sequences

    if example is not None:
        found = _own_examples(config, split, None)
        if example > len(found):
            raise InputError(f"--example {example}: there are 1 to {len(found)}")
        return found.tokens[example - 1]
    assert what is not None
    path = Path(what)
    try:
        is_file = bool(what) and path.exists()
    except (OSError, ValueError):
        # Too long for a name, or with signs that none may have: a text.
        is_file = False
    if is_file:
        return read_sequences(config, path)[1][0]
    if config.encoder.pair:
        raise InputError(f"{what[:40]}: expected a file of pairs, with columns text1 and text2")
    return encode_text(config, what, "TEXT")


def _draw_routing(
    config: "RunConfig", sides: "np.ndarray", choices: Sequence["np.ndarray"]
) -> "Figure":
    import numpy as np

    from workingpapers.adamra.classify import picture_of, pieces
    from workingpapers.adamra.plots import draw_routing_image, draw_routing_text

    rates = config.encoder.rates
    if config.kind == "pixels":
        side = math.isqrt(config.encoder.length)
        image = picture_of(config, sides[0])
        return draw_routing_image(image, choices[0].reshape(-1, side, side), rates)
    # A pair is drawn as one text after the other, layer by layer.
    signs = [sign for side in sides for sign in pieces(config, side)]
    return draw_routing_text(signs, np.concatenate(choices, axis=1), rates)


def _inspect_training(run: Path, config: "RunConfig", picture: Path | None, as_json: bool) -> None:
    """Shares of tokens a resolution after each evaluation of the run."""
    import csv

    path = run / "evaluations.csv"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [
                {name: float(value) for name, value in row.items() if value}
                for row in csv.DictReader(file)
            ]
        steps = [int(row["step"]) for row in rows]
        shares = [
            [
                [row[f"layer{layer}_rate{rate}"] for rate in config.encoder.rates]
                for layer in range(1, config.encoder.depth + 1)
            ]
            for row in rows
        ]
    except (OSError, ValueError, KeyError):
        raise InputError(f"{path}: expected shares of tokens by resolution, found none") from None
    if picture is not None:
        from workingpapers.adamra.plots import draw_shares_by_step

        save_picture(draw_shares_by_step(shares, config.encoder.rates, steps), picture)
    if as_json:
        told = [{"step": step, "layers": share} for step, share in zip(steps, shares, strict=True)]
        console.print_json({"rates": list(config.encoder.rates), "shares": told})
        return
    for step, share in zip(steps, shares, strict=True):
        layers = [
            f"layer {number} {_shares_text(config.encoder.rates, one)}"
            for number, one in enumerate(share, start=1)
        ]
        console.out.print(f"step {step}: {'; '.join(layers)}")


def _print_resolutions(rates: Sequence[int]) -> None:
    """What the colours mean, or the numbers where there is no colour."""
    from rich.text import Text

    legend = Text("resolutions: ")
    for index, rate in enumerate(rates):
        sign = f" {index + 1} "
        legend.append(sign, style=_colour_style(index, len(rates)))
        legend.append("each token  " if rate == 1 else f"means of {rate}  ")
    legend.rstrip()
    console.out.print(legend)


def _print_text(pieces: Sequence[str], chosen: "np.ndarray", count: int, width: int = 78) -> None:
    """A text whose background says what each sign reads; where there is no colour, numbers do."""
    from rich.text import Text

    gap = "" if all(len(piece) == 1 for piece in pieces) else " "
    line, marks = Text(), ""
    for piece, choice in zip(pieces, chosen.tolist(), strict=True):
        if len(line) + len(piece) > width:
            _print_line(line, marks)
            line, marks = Text(), ""
        line.append(piece, style=_colour_style(choice, count))
        line.append(gap)
        marks += str(choice + 1) * len(piece) + gap
    _print_line(line, marks)


def _print_line(line: Any, marks: str) -> None:
    line.rstrip()
    console.out.print(line)
    if not _has_colours():
        console.out.print(marks.rstrip(), markup=False)


def _print_grid(chosen: "np.ndarray", side: int, count: int) -> None:
    """A picture of what each pixel reads; two blanks are about as wide as high."""
    from rich.text import Text

    for row in chosen.reshape(side, side).tolist():
        line = Text()
        for choice in row:
            sign = "  " if _has_colours() else str(choice + 1)
            line.append(sign, style=_colour_style(choice, count))
        console.out.print(line)


def _has_colours() -> bool:
    return console.out.color_system is not None and not console.out.no_color


def _colour_style(choice: int, count: int) -> str:
    if not _has_colours():
        return ""
    from workingpapers.adamra.plots import ink_on, resolution_colours

    colour = resolution_colours(count)[choice]
    return f"{ink_on(colour)} on {colour}"


# ---- generating


def _generate_listops(
    task: str, out: Path, count: int, seed: int, picture: Path | None
) -> dict[str, int]:
    from workingpapers.adamra.listops import write_tsv
    from workingpapers.adamra.tasks import open_task

    held = max(1, count // 50)
    sizes = {"train": count - 2 * held, "validation": held, "test": held}
    names = {"train": "basic_train", "validation": "basic_val", "test": "basic_test"}
    drawn = {}
    with console.progress("drawing", count) as advance:
        source = open_task(task)
        for split, size in sizes.items():
            drawn[split] = source.sample(cast("Split", split), size, seed)
            advance(size)
    out.mkdir(parents=True, exist_ok=True)
    written = {}
    for split, examples in drawn.items():
        path = out / f"{names[split]}.tsv"
        write_tsv(path, examples.tokens, examples.labels)
        written[str(path)] = len(examples)
    return written


def _generate_pathfinder(
    task: str, out: Path, count: int, seed: int, picture: Path | None
) -> dict[str, int]:
    import numpy as np

    from workingpapers.adamra.pathfinder import CONTOURS, Pathfinder, write_folder

    side, contour = cast("tuple[int, int]", GENERATED[task])
    images = np.empty((count, side, side), np.uint8)
    labels = np.empty(count, np.int64)
    with console.progress("drawing", count) as advance:
        for index, scene in zip(range(count), Pathfinder(side, contour).scenes(seed), strict=False):
            images[index], labels[index] = scene.image, scene.label
            advance(1)
    folder = out / CONTOURS[contour]
    with console.err.status("writing"):
        write_folder(folder, images, labels, contour=contour)
    if picture is not None:
        from workingpapers.adamra.plots import draw_pathfinder

        save_picture(draw_pathfinder(images[:12], labels[:12]), picture)
    return {str(folder): count}


# ---- reading options and showing results


def _numbers(option: str, text: str) -> tuple[int, ...]:
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InputError(
            f"{option} {text}: expected whole numbers with commas between them"
        ) from None
    if max(numbers) > LARGEST_NUMBER:
        raise InputError(f"{option} {text}: expected numbers of at most {LARGEST_NUMBER}")
    return numbers


def _as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    import csv
    import io

    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(rows[0])
    writer.writerows(row.values() for row in rows)
    return file.getvalue()


def _shares_text(rates: Sequence[int], shares: Sequence[float]) -> str:
    told = (f"{share:.0%} at rate {rate}" for rate, share in zip(rates, shares, strict=True))
    return ", ".join(told)


def _print_routing(model: "AdaMRAEncoder", scores: Mapping[str, float]) -> None:
    for number, layer in enumerate(model.attentions(), start=1):
        shares = [scores[f"layer{number}_rate{rate}"] for rate in layer.rates]
        entropy = scores[f"layer{number}_entropy"]
        console.out.print(
            f"layer {number}: {_shares_text(layer.rates, shares)}; entropy {entropy:.2f} nats"
        )


def _print_rows(rows: Sequence[Mapping[str, Any]]) -> None:
    from rich.table import Table

    table = Table()
    texts = ("class", "attention", "task", "about", "source", "licence")
    for name in rows[0]:
        table.add_column(name, justify="left" if name in texts else "right")
    for row in rows:
        cells = [
            "-" if cell is None else f"{cell:.3f}" if isinstance(cell, float) else str(cell)
            for cell in row.values()
        ]
        table.add_row(*(cell.replace("[", r"\[") for cell in cells))
    console.out.print(table)


def _growth(name: str, measured: Sequence["Measurement"]) -> dict[str, Any]:
    mine = [one for one in measured if one.name == name and not one.failed]
    return {
        "name": name,
        "lengths": [one.length for one in mine],
        "cpu_seconds": [one.cpu_seconds for one in mine],
        # Without the parameters' gradients, which do not grow, as in the slopes.
        "peak_mb": [one.peak_mb - one.gradients_mb for one in mine],
    }


def _slopes(measured: Sequence["Measurement"]) -> dict[str, float | None]:
    from workingpapers.adamra.scaling import memory_slope, time_slope

    slopes: dict[str, float | None] = {}
    for of, slope in (("time", time_slope), ("memory", memory_slope)):
        try:
            slopes[of] = slope(measured)
        except InputError:
            # Fewer than two points, or memory that could not be read.
            slopes[of] = None
    return slopes
