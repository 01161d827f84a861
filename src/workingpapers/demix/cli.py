"""The verbs of `workingpapers demix`: language models whose domain experts are mixed and moved."""

import json
import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
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

    from workingpapers.demix.mixture import Score
    from workingpapers.demix.runs import Plan, Trained

SPLITS = ("train", "dev", "test")
MOST = 1 << 20
"""Of kinds of tokens, channels, rows and tokens of a row: larger numbers are mistakes."""
SIGNS = "123456789abcdefghijklmnopqrstuvwxyz"
"""For experts, where a terminal has no colours."""


app = typer.Typer(
    cls=Verbs,
    help="Train language models whose domain experts can be mixed, added and removed.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Checkpoint = Annotated[
    Path,
    typer.Argument(metavar="CKPT", help="A model's folder, or the folder of a finished run."),
]
Out = Annotated[
    Path | None, typer.Option("--out", help="Write the changed model into this new folder.")
]
InPlace = Annotated[bool, typer.Option("--in-place", help="Change the model where it is.")]
Mix = Annotated[
    str,
    typer.Option(
        "--mix",
        help="uniform, updating, cached or average; or fixed weights: news, or news,wiki, or "
        "news=0.3,wiki=0.7.",
    ),
]
History = Annotated[
    str,
    typer.Option(
        "--history",
        help="What tells the domain: token (the last one, as in the authors' program), prefix "
        "(the paper's equation) or filter (ours, the domain may change).",
    ),
]
Experts = Annotated[
    str | None, typer.Option("--only", help="Experts that take part, with commas; default: all.")
]
TopK = Annotated[
    int | None, typer.Option("--top-k", min=1, help="Only so many experts, those that weigh most.")
]
Like = Annotated[
    str | None,
    typer.Option(
        "--like",
        metavar="FILE|DOMAIN",
        help="Weigh experts by the text in a file, or as `posterior --keep` did.",
    ),
]
Weights = Annotated[
    str | None, typer.Option("--weights", help="Such as news=0.3,wiki=0.7; divided by their sum.")
]
Stride = Annotated[
    int | None,
    typer.Option(min=1, help="Tokens from row to row of a long text; default: whole rows."),
]
SplitName = Annotated[str, typer.Option("--split", help="Part of DATA: train, dev or test.")]
TextField = Annotated[str, typer.Option("--text", help="Field or column with the text.")]
DomainField = Annotated[str, typer.Option("--domain", help="Field or column with the domain.")]

OwnData = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="DATA",
        help="As for `train`; or a .txt file. Default: what the model was trained on.",
    ),
]
MostTokens = Annotated[
    int | None, typer.Option("--tokens", min=1, help="Read at most so many of each domain.")
]
Anonymise = Annotated[
    bool,
    typer.Option("--anonymise", help="Replace e-mail addresses, telephone numbers and the like."),
]
Deduplicate = Annotated[
    bool,
    typer.Option("--deduplicate/--keep-duplicates", help="Keep one of several near copies."),
]


@app.command(epilog="Example: workingpapers demix train my-texts/ --out run --minutes 5")
def train(
    context: Context,
    data: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="DATA",
            help="A folder with a sub folder of .txt files, a file NAME.txt or NAME.jsonl for each "
            "domain; a .jsonl or .csv file with a field that names the domain; fairseq's data-bin; "
            "or names that `demix domains` lists. Default: the first eight of these.",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the run.")] = None,
    domains: Annotated[
        str | None, typer.Option(help="Only these domains of DATA, with commas between them.")
    ] = None,
    size: Annotated[
        str, typer.Option(help="tiny, small, or the paper's 125M, 350M, 760M, 1.3B.")
    ] = "tiny",
    experts: Annotated[
        str,
        typer.Option(
            help="What a domain has of its own: ffn (DEMix), all (Branch-Train-Merge) or none (the "
            "dense baseline)."
        ),
    ] = "ffn",
    vocabulary: Annotated[
        int | None, typer.Option(min=257, max=MOST, help="Kinds of tokens; default: by --size.")
    ] = None,
    length: Annotated[int | None, typer.Option(min=1, max=MOST, help="Tokens of a row.")] = None,
    dim: Annotated[int | None, typer.Option(min=1, max=MOST, help="Channels.")] = None,
    layers: Annotated[int | None, typer.Option(min=1, max=1000, help="Layers.")] = None,
    heads: Annotated[int | None, typer.Option(min=1, help="Heads of attention.")] = None,
    hidden: Annotated[
        int | None, typer.Option(min=1, max=MOST, help="Width of the feed-forward networks.")
    ] = None,
    domain_tokens: Annotated[
        bool,
        typer.Option("--domain-tokens", help="With --experts none: tell the domain by a token."),
    ] = False,
    decoder: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="DECODER",
            help="Begin with the decoder of transformers in this folder: gpt2, gpt_neox, gpt_neo "
            "or llama.",
        ),
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="A tokenizer.json; default: one is made from DATA.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Updates of the weights; default: by --size.")
    ] = None,
    minutes: Minutes = None,
    rows: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MOST,
            help="Rows of each domain a step; default: about 2,048 tokens of all domains.",
        ),
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="At its highest; default: by the width of the model.")
    ] = None,
    seed_share: Annotated[
        float | None,
        typer.Option(
            help="With --experts all: share of the steps before experts part; default: 0.25."
        ),
    ] = None,
    save_every: Annotated[
        int | None, typer.Option(min=1, help="Steps from one saved state to the next.")
    ] = None,
    text: TextField = "text",
    domain: DomainField = "domain",
    anonymise: Anonymise = False,
    deduplicate: Deduplicate = True,
    limit: Annotated[
        int | None, typer.Option("--bytes", min=1, help="Use at most so much of each domain.")
    ] = None,
    discover: Annotated[
        int | None,
        typer.Option(min=2, metavar="K", help="Find K domains in DATA, kept in OUT-domains."),
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Go on with an interrupted run.")
    ] = None,
    devices: Devices = 1,
    nodes: Nodes = 1,
    strategy: Annotated[
        str, typer.Option(help="auto, ddp, or with --experts none fsdp, as Fabric has them.")
    ] = "auto",
    precision: Annotated[
        str | None, typer.Option(help="32-true, bf16-mixed, 16-mixed, ..., as Fabric has them.")
    ] = None,
    threads: Threads = None,
    engine: Annotated[
        str, typer.Option(help="With --experts all: local, or ray (RAY_ADDRESS or a local one).")
    ] = "local",
    jobs: Annotated[
        int, typer.Option(min=0, help="With --experts all: experts at a time; 0: one a core.")
    ] = 0,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only say what it will take: parameters, time, memory."),
    ] = False,
    seed: Seed = 0,
    device: console.Device = "auto",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Train a language model with an expert for each domain.

    Every step reads equally many rows of each domain. Ctrl-C saves the run; `--resume` goes on
    with it, also after the process was killed, and ends with the same weights as without the
    interruption.
    """
    if resume is not None:
        check_resume(context, ("engine", "jobs"))
    elif discover is not None and dry_run:
        raise InputError("--dry-run: expected without --discover; `demix discover` goes before it")
    elif out is None and not dry_run:
        raise InputError("--out: expected a folder for the run (or --resume RUN)")
    check_choice("--experts", experts, ("ffn", "all", "none"))
    check_launch(steps, minutes, 1 if dry_run else nodes, strategy)
    first = is_first_process()
    chosen = console.choose_device(device)
    from workingpapers.demix.opening import names_in, without_bars
    from workingpapers.demix.runs import RUNS, Training, make_run
    from workingpapers.foundation.parallel import check_engine
    from workingpapers.foundation.training import Precision

    if out is not None and first and not dry_run:
        RUNS.check_new(out, force=force)
    check_engine(engine)
    if precision is not None:
        check_choice("--precision", precision, get_args(Precision))
    if resume is not None:
        run = RUNS.read(resume)
    else:
        paths = [("DATA", Path(name)) for name in data or ()]
        paths += [("--tokenizer", tokenizer)] if tokenizer else []
        paths += [("--from", decoder)] if decoder else []
        for option, path in paths:
            if out is not None and path.exists() and _overlap(out, path):
                raise InputError(f"--out {out}: expected a folder apart from {option} {path}")
        settings: dict[str, Any] = {
            "size": size,
            "shape": {
                "vocabulary": vocabulary,
                "dim": dim,
                "layers": layers,
                "heads": heads,
                "hidden": hidden,
                "domain_tokens": domain_tokens or None,
            },
            "experts": experts,
            "decoder": decoder,
            "tokenizer": tokenizer,
            "domain": domain,
            "anonymise": anonymise,
            "deduplicate": deduplicate,
            "limit_bytes": limit,
            "length": length,
            "rows": rows,
            "seed_share": seed_share,
            "processes": devices,
            "training": {
                "steps": steps,
                "seconds": None if minutes is None else 60 * minutes,
                "learning_rate": learning_rate,
                "save_every": save_every,
                "precision": precision,
                "threads": threads,
                "seed": seed,
            },
        }
        if discover is not None:
            # Settings that cannot be are told before domains are looked for.
            make_run((), **settings)
            data = [str(_discovered(data, discover, out, text, seed, force, first))]
            text = "text"
        named = () if domains is None else names_in("--domains", domains)
        run = make_run(data or (), domains=named, text=text, **settings)
    if run.decoder is not None:
        without_bars()
    work: Any = {"processes": devices * nodes, "jobs": jobs}
    if dry_run:
        with console.err.status("reading and timing"):
            plan = Training(run, resume, chosen, **work).plan()
        _show_plan(plan, as_json)
        return
    fabric = open_fabric(chosen, devices, nodes, strategy, run.training.precision)
    folder = cast("Path", resume or out)
    with (
        RUNS.replacing(out if first else None),
        RUNS.saying_how_to_go_on(folder if first else None),
    ):
        training = Training(run, folder, chosen, **work)
        training.settle()
        fabric.launch()
        left = training.steps - training.finished
        with console.progress("training", left) if first else nullcontext() as advance:
            trained = training.fit(fabric=fabric, progress=advance, engine=cast("Any", engine))
    if first:
        _show_trained(trained, folder, as_json)


@app.command("list", epilog="Example: workingpapers demix list run --json")
def list_experts(checkpoint: Checkpoint, as_json: Json = False) -> None:
    """List a model's experts: what each began as, the tokens it read, its parameters and file."""
    from workingpapers.demix.checkpoint import describe, list_posteriors, read_manifest
    from workingpapers.demix.runs import model_folder

    folder = model_folder(checkpoint)
    manifest, rows, kept = read_manifest(folder), describe(folder), list_posteriors(folder)
    if as_json:
        told = {"kind": manifest.kind, "mode": manifest.mode, "experts": rows, "posteriors": kept}
        console.print_json(told)
        return
    _print_rows(rows)
    if kept:
        console.out.print(f"posteriors kept of: {', '.join(kept)}", markup=False)


@app.command(epilog="Example: workingpapers demix add run recipes my-recipes/ --out grown")
def add(
    checkpoint: Checkpoint,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the new expert.")],
    data: Annotated[
        str | None,
        typer.Argument(
            metavar="DATA",
            help="Text to train it on: a folder of .txt files, a file .txt, .jsonl or .csv, or an "
            "embedded domain; without it nothing is trained.",
        ),
    ] = None,
    out: Out = None,
    in_place: InPlace = False,
    init: Annotated[
        str | None,
        typer.Option(
            help="What it begins as: nearest (the expert under which DATA is likeliest), mean, "
            "random, or an expert's name; default: nearest with DATA, else mean."
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            metavar="EXPERT.safetensors",
            help="Take the expert in this file, from a model with the same shared weights.",
        ),
    ] = None,
    steps: Annotated[int, typer.Option(min=0, help="Updates of its weights.")] = 200,
    rows: Annotated[int, typer.Option(min=1, help="Rows of text a step.")] = 8,
    learning_rate: Annotated[
        float | None, typer.Option(help="At its highest; default: by the width of the model.")
    ] = None,
    text: TextField = "text",
    anonymise: Anonymise = False,
    deduplicate: Deduplicate = True,
    seed: Seed = 0,
    device: console.Device = "auto",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Add an expert: trained on text of its domain, taken from a file, or a copy.

    Training changes the new expert only (DEMix-DAPT): the old ones stay as they are.
    """
    folder, where = _edited(checkpoint, out, in_place, force)
    if file is not None and not (data is None and init is None):
        raise InputError("--file: expected without DATA and --init")
    if init == "nearest" and data is None:
        raise InputError("--init nearest: expected DATA, by which it is found")
    from workingpapers.demix.checkpoint import add_expert, read_manifest, read_tokenizer
    from workingpapers.demix.protocol import check_name

    check_name(name, read_manifest(folder).domains)
    if data is None:
        add_expert(folder, name, init=init, file=file, seed=seed, **where)
        _tell_changed(folder if out is None else out, [], as_json)
        return
    from workingpapers.demix.corpora import load_domains
    from workingpapers.demix.opening import one_domain
    from workingpapers.demix.runs import add_domain

    corpora = load_domains(
        {name: one_domain(data, name, text)},
        read_tokenizer(folder),
        block=1,
        anonymise=anonymise,
        deduplicate=deduplicate,
    )
    with console.progress("training", steps) as advance:
        added = add_domain(
            folder,
            corpora.domains[name],
            init=init or "nearest",
            rows=rows,
            training={"steps": steps, "learning_rate": learning_rate, "seed": seed},
            device=console.choose_device(device),
            progress=advance,
            **where,
        )
    target = folder if out is None else out
    if as_json:
        console.print_json({"model": str(target)} | asdict(added))
        return
    before, after = (_cell(one["perplexity"]) for one in (added.before, added.after))
    console.out.print(
        f"perplexity of development text: {before} by {added.nearest}, the nearest; {after} by "
        f"{name}, trained on {added.tokens:,} tokens",
        markup=False,
    )
    console.out.print(f"model: {target}", markup=False)


@app.command(epilog="Example: workingpapers demix remove run wiki --out without-wiki")
def remove(
    checkpoint: Checkpoint,
    name: Annotated[str, typer.Argument(metavar="NAME", help="An expert.")],
    out: Out = None,
    in_place: InPlace = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Remove an expert. In place, its file is moved aside, not deleted."""
    from workingpapers.demix.checkpoint import remove_expert

    _change(partial(remove_expert, name=name), checkpoint, out, in_place, force, as_json)


@app.command(epilog="Example: workingpapers demix rename run wiki encyclopedia --in-place")
def rename(
    checkpoint: Checkpoint,
    old: Annotated[str, typer.Argument(metavar="OLD", help="An expert.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="Its new name.")],
    out: Out = None,
    in_place: InPlace = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Give an expert another name."""
    from workingpapers.demix.checkpoint import rename_expert

    _change(partial(rename_expert, old=old, new=new), checkpoint, out, in_place, force, as_json)


@app.command(epilog="Example: workingpapers demix restrict run news reviews --out two")
def restrict(
    checkpoint: Checkpoint,
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="Experts to be kept.")],
    out: Out = None,
    in_place: InPlace = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Keep these experts only, in this order. In place, files of others are moved aside."""
    from workingpapers.demix.checkpoint import restrict as keep

    _change(partial(keep, names=names), checkpoint, out, in_place, force, as_json)


@app.command(epilog='Example: workingpapers demix posterior run "To be, or not" --picture who.svg')
def posterior(
    checkpoint: Checkpoint,
    what: Annotated[str, typer.Argument(metavar="TEXT|FILE", help="A text, or a file of text.")],
    mix: Mix = "uniform",
    history: History = "token",
    only: Experts = None,
    like: Like = None,
    stride: Stride = None,
    keep: Annotated[
        str | None,
        typer.Option(
            metavar="DOMAIN",
            help="Keep the weights that an updating mixture comes to in the model's folder, for "
            "`--mix cached --like DOMAIN`.",
        ),
    ] = None,
    picture: Picture = None,
    device: console.Device = "auto",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Show which experts speak: the weight of each at every token, from those before it.

    The picture is a stacked area over the tokens with the text below.
    """
    claim_picture(picture, force=force)
    from workingpapers.demix.opening import open_model, text_or_file, token_texts

    text = text_or_file(what)
    opened = open_model(checkpoint, device)
    score = opened.mixture(mix, history, only, like).score(text, stride=stride)
    if keep is not None:
        from workingpapers.demix.checkpoint import save_posterior

        prior = opened.mixture("updating", history).estimate(text).tolist()
        save_posterior(opened.folder, keep, dict(zip(opened.model.domains, prior, strict=True)))
    pieces = token_texts(opened.tokenizer, text)
    weights = score.log_weights.exp().numpy()
    if picture is not None:
        from workingpapers.demix.plots import draw_posterior

        save_picture(draw_posterior(pieces, weights, score.experts), picture)
    if as_json:
        told = zip(pieces, score.logprobs.tolist(), weights.T.tolist(), strict=True)
        console.print_json(
            {
                **_figures(score),
                "experts": list(score.experts),
                "mean_weights": weights.mean(1).tolist(),
                "token_weights": [
                    {"text": piece, "logprob": logprob, "weights": column}
                    for piece, logprob, column in told
                ],
            }
        )
        return
    heaviest = weights.argmax(0)
    figures = [
        f"{name.replace('_', ' ')} {_cell(value)}" for name, value in _figures(score).items()
    ]
    console.out.print(", ".join(figures))
    _print_rows(
        [
            {
                "": _sign(number),
                "expert": expert,
                "mean weight": float(weights[number].mean()),
                "heaviest at": f"{float((heaviest == number).mean()):.0%}",
            }
            for number, expert in enumerate(score.experts)
        ],
        styles=[_colour_style(number) for number in range(len(weights))],
    )
    _print_text(pieces, heaviest)


@app.command(
    epilog='Example: workingpapers demix generate run "The king" --mix updating --temperature 0.8'
)
def generate(
    checkpoint: Checkpoint,
    prompt: Annotated[
        str, typer.Argument(metavar="PROMPT", help="What the text begins with; not repeated.")
    ] = "",
    mix: Mix = "updating",
    history: History = "token",
    only: Experts = None,
    like: Like = None,
    top_k: TopK = None,
    temperature: Annotated[
        float, typer.Option(min=0, help="0 takes the likeliest token each time.")
    ] = 1.0,
    top_p: Annotated[
        float, typer.Option(help="Only the likeliest tokens that have this probability together.")
    ] = 1.0,
    max_tokens: Annotated[int, typer.Option(min=1, help="Of the text that is written.")] = 100,
    stop: Annotated[str | None, typer.Option(help="End before this string.")] = None,
    stride: Annotated[
        int | None,
        typer.Option(
            min=1, help="Tokens from row to row where it gets long; default: half a context."
        ),
    ] = None,
    seed: Seed = 0,
    device: console.Device = "auto",
    as_json: Json = False,
) -> None:
    """Go on with a text by the mixture of the experts; it is printed as it comes."""
    from workingpapers.demix.opening import open_model

    opened = open_model(checkpoint, device)
    pieces = opened.mixture(mix, history, only, like, top_k).generate(
        prompt,
        max_tokens=max_tokens,
        temperature=temperature,
        top_p=top_p,
        seed=seed,
        stop=stop,
        stride=stride,
    )
    if as_json:
        console.print_json({"prompt": prompt, "text": "".join(pieces)})
        return
    for piece in pieces:
        sys.stdout.write(piece)
        sys.stdout.flush()
    sys.stdout.write("\n")


@app.command(epilog="Example: workingpapers demix evaluate run --mix cached --matrix --json")
def evaluate(
    checkpoint: Checkpoint,
    data: OwnData = None,
    mix: Mix = "updating",
    history: History = "token",
    only: Experts = None,
    like: Like = None,
    top_k: TopK = None,
    stride: Stride = None,
    split: SplitName = "test",
    most: MostTokens = None,
    text_field: TextField = "text",
    domain_field: DomainField = "domain",
    matrix: Annotated[
        bool, typer.Option("--matrix", help="Also the perplexity of each expert on each domain.")
    ] = False,
    picture: Picture = None,
    device: console.Device = "auto",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Perplexity and bits per byte of the mixture on each domain's held-out text.

    With --mix cached, the weights come from each domain's dev part, or from the text --like.
    """
    check_choice("--split", split, SPLITS)
    claim_picture(picture, force=force)
    from workingpapers.demix.opening import (
        held_out_texts,
        open_model,
        own_texts,
        split_settings,
    )

    opened = open_model(checkpoint, device)
    if data:
        settings = split_settings([checkpoint], data, text_field, domain_field)
        texts = held_out_texts(data, opened, settings, split, most)
    else:
        texts = own_texts(checkpoint, opened, split, most)
    experts = opened.chosen(only)
    rows: list[dict[str, Any]] = []
    by_expert: dict[str, list[float]] = {expert: [] for expert in experts}
    with console.progress("evaluating", len(texts)) as advance:
        for text in texts:
            mixture = opened.mixture(
                mix, history, only, text.other if like is None else like, top_k
            )
            score = mixture.score(text.tokens, stride=stride)
            rows.append({"domain": text.name} | _figures(score, text.bytes))
            for expert in experts if matrix or picture is not None else ():
                alone = opened.mixture(f"{expert}=1").score(text.tokens, stride=stride)
                by_expert[expert].append(alone.perplexity)
            advance(1)
    if picture is not None:
        import numpy as np

        from workingpapers.demix.plots import draw_matrix

        drawn = np.array(list(by_expert.values()))
        save_picture(draw_matrix(drawn, list(experts), [text.name for text in texts]), picture)
    table = [
        {"expert": expert} | {text.name: value for text, value in zip(texts, values, strict=False)}
        for expert, values in by_expert.items()
        if values
    ]
    mean = {name: _mean(row[name] for row in rows) for name in ("perplexity", "bits_per_byte")}
    if as_json:
        found = {"domains": rows, "mean": mean} | ({"matrix": table} if table else {})
        console.print_json(found)
        return
    total = {"domain": "mean", "tokens": sum(row["tokens"] for row in rows)} | mean
    _print_rows([*rows, total] if len(rows) > 1 else rows)
    if table:
        console.out.print("perplexity of each expert alone:")
        _print_rows(table)


@app.command(epilog="Example: workingpapers demix compare run dense/model ./gpt2 my-texts/")
def compare(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="CKPT", help="Models' folders; also plain decoders of transformers."
        ),
    ],
    data: Annotated[str, typer.Argument(metavar="DATA", help="As for `train`, or a .txt file.")],
    mix: Mix = "updating",
    history: History = "token",
    stride: Stride = None,
    split: SplitName = "test",
    most: MostTokens = None,
    text_field: TextField = "text",
    domain_field: DomainField = "domain",
    picture: Picture = None,
    device: console.Device = "auto",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Several models on one text: bits per byte, which tokenizers do not change, and perplexity.

    The mixing rule is for models with several experts. The picture shows bits per byte.
    """
    check_choice("--split", split, SPLITS)
    claim_picture(picture, force=force)
    from workingpapers.demix.opening import held_out_texts, open_model, split_settings

    checkpoints = list(dict.fromkeys(paths))
    settings = split_settings(checkpoints, [data], text_field, domain_field)
    rows: list[dict[str, Any]] = []
    with console.progress("comparing", len(checkpoints)) as advance:
        for path in checkpoints:
            opened = open_model(path, device)
            for text in held_out_texts([data], opened, settings, split, most):
                mixture = opened.mixture(mix, history, like=text.other)
                score = mixture.score(text.tokens, stride=stride)
                row = {"model": str(path), "domain": text.name}
                rows.append(row | _figures(score, text.bytes))
            advance(1)
    names = list(dict.fromkeys(row["domain"] for row in rows))
    if picture is not None:
        from workingpapers.demix.plots import draw_bars

        bits = {
            str(path): [row["bits_per_byte"] for row in rows if row["model"] == str(path)]
            for path in checkpoints
        }
        save_picture(draw_bars(names, bits, "bits per byte (lower is better)"), picture)
    if as_json:
        console.print_json(rows)
        return
    for figure, title in (("bits_per_byte", "bits per byte"), ("perplexity", "perplexity a token")):
        console.out.print(f"{title}:")
        table = []
        for name in map(str, checkpoints):
            own = {row["domain"]: row[figure] for row in rows if row["model"] == name}
            table.append(
                {"model": name} | own | ({"mean": _mean(own.values())} if len(own) > 1 else {})
            )
        _print_rows(table)


@app.command(epilog="Example: workingpapers demix merge run merged --weights news=0.3,wiki=0.7")
def merge(
    checkpoint: Checkpoint,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder.")],
    weights: Weights = None,
    like: Like = None,
    device: console.Device = "auto",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Make one dense model, at the cost of one expert: its weights are the experts' mean.

    The share of each expert is given, or fitted so that the text --like is as likely as can be.
    """
    from workingpapers.demix.checkpoint import read_manifest, save_model
    from workingpapers.demix.model import DEMixLM
    from workingpapers.demix.opening import open_model
    from workingpapers.demix.runs import model_folder

    _check_new_model(out, model_folder(checkpoint), force, "OUT")
    opened = open_model(checkpoint, device)
    if not isinstance(opened.model, DEMixLM):
        raise InputError(f"{checkpoint}: a wrapped decoder; `demix export` writes it merged")
    if opened.is_dense:
        raise InputError(f"{checkpoint}: expected a model with experts, this one is dense")
    shares = opened.shares(weights, like)
    known = read_manifest(opened.folder).training
    save_model(
        out,
        opened.model.merge(shares),
        opened.tokenizer,
        training={
            "merged": {"from": str(checkpoint), "weights": shares},
            # By which the texts are known that it has not read.
            **{key: value for key, value in known.items() if key == "parted"},
        },
        card=f"# A dense model merged from domain experts\n\nWeights: {_shares_text(shares)}.\n",
        overwrite=force,
    )
    _tell_merged(out, shares, as_json)


@app.command(epilog="Example: workingpapers demix export run gpt2-folder --like my-letters.txt")
def export(
    checkpoint: Checkpoint,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder.")],
    weights: Weights = None,
    like: Like = None,
    as_json: Json = False,
) -> None:
    """Write a merged model as a plain folder for transformers, with its tokenizer.

    AutoModelForCausalLM opens it: as GPT-2, or as the decoder that the model was made from.
    """
    from workingpapers.demix.export import export_model as write
    from workingpapers.demix.opening import open_model

    opened = open_model(checkpoint, "cpu")
    shares = opened.shares(weights, like)
    write(opened.model, opened.tokenizer, out, shares)
    _tell_merged(out, shares, as_json)


@app.command(epilog="Example: workingpapers demix discover letters.jsonl -k 8 --out by-topic")
def discover(
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="Texts: a folder of .txt files, or a table.")
    ],
    count: Annotated[int, typer.Option("-k", "--domains", min=2, help="Domains to be found.")],
    out: Annotated[Path, typer.Option("--out", help="A folder, new or empty.")],
    text: TextField = "text",
    seed: Seed = 0,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Group texts without labels into domains of equal sizes, by their words.

    OUT/domains, a .jsonl file a domain (rename them as you like), is for `train`; OUT/clusterer
    finds the domain of other texts.
    """
    rows = _discover(data, count, out, text, seed, force, "--out")
    if as_json:
        console.print_json(rows)
        return
    _print_rows(rows)
    console.out.print(f"domains: {out / 'domains'}", markup=False)


@app.command(epilog="Example: workingpapers demix domains --json")
def domains(as_json: Json = False) -> None:
    """List the embedded domains: what they hold, where they come from, and their licences."""
    from workingpapers.demix.data import EMBEDDED, TRAINING

    rows = [
        {
            "domain": name,
            "content": domain.content,
            "source": domain.source,
            "licence": domain.licence,
            "use": "training" if name in TRAINING else "novel",
        }
        for name, domain in EMBEDDED.items()
    ]
    if as_json:
        console.print_json(rows)
        return
    for row in rows:
        console.out.print(
            f"{row['domain']} ({row['use']}): {row['content']}\n"
            f"  from {row['source']}; licence: {row['licence']}",
            markup=False,
        )


# ---- discovering


def _discover(
    data: Path, count: int, out: Path, text: str, seed: int, force: bool, option: str
) -> list[dict[str, Any]]:
    """Find domains, and write them into a folder; `option` is what named it."""
    from workingpapers.demix.discovery import discover_domains
    from workingpapers.foundation.checkpoints import check_target
    from workingpapers.foundation.text import documents

    if out.exists() and not out.is_dir():
        raise InputError(f"{option} {out}: expected a folder, found a file")
    if _overlap(out, data):
        raise InputError(f"{option} {out}: expected a folder apart from {data}")
    found = {path.name for path in out.iterdir()} if out.is_dir() else set()
    if found and not force:
        raise InputError(f"{option} {out}: the folder is not empty; --force replaces domains there")
    old = list((out / "domains").iterdir()) if "domains" in found else []
    others = [path.name for path in old if not re.fullmatch(r"cluster\d+\.jsonl", path.name)]
    others += sorted(found - {"domains", "clusterer"})
    if others:
        raise InputError(f"{option} {out}: holds {others[0]}, which is not from `discover`")
    check_target(out / "clusterer", overwrite=True)
    texts = [document.text for document in documents(data, text=text)]
    with console.err.status("grouping"):
        try:
            clusterer = discover_domains(texts, count, seed=seed)
        except InputError as error:
            reason = str(error).removeprefix("texts: ")
            raise InputError(f"{data}: {reason}") from None
    (out / "domains").mkdir(parents=True, exist_ok=True)
    clusterer.save(out / "clusterer", overwrite=force)
    for path in old:
        path.unlink()
    rows = []
    for number, words in enumerate(clusterer.terms()):
        name = f"cluster{number + 1}"
        lines = [
            json.dumps({"text": each}, ensure_ascii=False) + "\n"
            for each, label in zip(texts, clusterer.labels.tolist(), strict=True)
            if label == number
        ]
        console.write_atomically(out / "domains" / f"{name}.jsonl", "".join(lines))
        rows.append({"domain": name, "documents": len(lines), "typical words": ", ".join(words)})
    return rows


def _overlap(one: Path, other: Path) -> bool:
    """Whether a folder or file is the other one, or in it, or holds it."""
    a, b = one.resolve(), other.resolve()
    return a == b or a in b.parents or b in a.parents


def _discovered(
    data: Sequence[str] | None,
    count: int,
    out: Path | None,
    text: str,
    seed: int,
    force: bool,
    first: bool,
) -> Path:
    """The folder of domains found for a run, beside it."""
    if out is None or data is None or len(data) != 1:
        raise InputError("--discover: expected with one folder or file as DATA")
    target = out.with_name(f"{out.name}-domains")
    if first:
        _discover(Path(data[0]), count, target, text, seed, force, "--discover")
    return target / "domains"


# ---- training


def _show_plan(plan: "Plan", as_json: bool) -> None:
    if as_json:
        console.print_json(asdict(plan))
        return
    _print_rows(
        [
            {"domain": name, "training tokens": plan.corpus_tokens[name], "epochs": epochs}
            for name, epochs in plan.epochs.items()
        ]
    )
    minutes = plan.minutes
    time = f"{60 * minutes:,.0f} seconds" if minutes < 2 else f"{minutes:,.0f} minutes"
    console.out.print(
        f"{plan.parameters:,} parameters: {plan.shared:,} shared, {plan.per_expert:,} an expert; "
        f"a token meets {plan.active:,}\n"
        f"{plan.vocabulary:,} kinds of tokens; a step reads {plan.rows} rows of {plan.length} "
        "tokens of each domain\n"
        f"{plan.steps:,} steps of {plan.tokens_per_step:,} tokens, {plan.tokens:,} in all: about "
        f"{time}, {plan.memory_mb:,.0f} MiB{'' if plan.measured else ' (calculated, not tried)'}"
    )


def _show_trained(trained: "Trained", run: Path, as_json: bool) -> None:
    if as_json:
        told = {"run": str(run), "model": str(trained.folder), "domains": trained.scores}
        console.print_json(told)
        return
    console.out.print("development text, each domain by its own expert:")
    _print_rows([{"domain": name, **scores} for name, scores in trained.scores.items()])
    console.out.print(f"run: {run}", markup=False)


# ---- reading options and showing results


def _edited(
    checkpoint: Path, out: Path | None, in_place: bool, force: bool
) -> tuple[Path, dict[str, Any]]:
    """A model's folder, and where the changed one goes, as functions of checkpoint.py take it.

    InputError, before any work, for a folder that cannot be written to.
    """
    from workingpapers.demix.runs import model_folder

    if (out is None) != in_place:
        raise InputError("--out, --in-place: expected one of them")
    folder = model_folder(checkpoint)
    if out is not None:
        _check_new_model(out, folder, force, "--out")
    return folder, {"out": out, "in_place": in_place, "overwrite": force}


def _check_new_model(out: Path, folder: Path, force: bool, name: str) -> None:
    """Refuse a folder that is not empty, and that of the model itself, which would be lost."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{name} {out}: expected a folder, found a file")
    if out.resolve() == folder.resolve():
        raise InputError(
            f"{name} {out}: is the model itself, which would be lost; expected another folder"
        )
    if out.is_dir() and any(out.iterdir()) and not force:
        raise InputError(f"{name} {out}: the folder is not empty; --force replaces a model")


def _change(
    change: Callable[..., list[Path] | None],
    checkpoint: Path,
    out: Path | None,
    in_place: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Write a changed model, and tell what it holds; `change` returns files moved aside."""
    folder, where = _edited(checkpoint, out, in_place, force)
    moved = change(folder, **where)
    _tell_changed(folder if out is None else out, moved or [], as_json)


def _tell_changed(folder: Path, moved: Sequence[Path], as_json: bool) -> None:
    from workingpapers.demix.checkpoint import read_manifest

    experts = list(read_manifest(folder).domains)
    if as_json:
        told = {"model": str(folder), "experts": experts, "moved": [str(path) for path in moved]}
        console.print_json(told)
        return
    console.out.print(f"experts: {', '.join(experts)}", markup=False)
    for path in moved:
        console.out.print(f"moved aside: {path}", markup=False)
    console.out.print(f"model: {folder}", markup=False)


def _tell_merged(out: Path, shares: Mapping[str, float], as_json: bool) -> None:
    if as_json:
        console.print_json({"model": str(out), "weights": dict(shares)})
        return
    if shares:
        console.out.print(f"weights: {_shares_text(shares)}", markup=False)
    console.out.print(f"model: {out}", markup=False)


def _shares_text(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {share:.3g}" for name, share in shares.items())


def _figures(score: "Score", size: int | None = None) -> dict[str, Any]:
    """What a score says of a text of `size` bytes."""
    size = score.bytes if size is None else size
    bits = -float(score.logprobs.sum()) / math.log(2)
    found = {
        "tokens": len(score.tokens),
        "perplexity": score.perplexity,
        "bits_per_byte": bits / size if size else None,
    }
    # Of the mixture of few experts from that of all.
    return found | ({} if score.divergence is None else {"kl_nats": score.divergence})


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None and math.isfinite(value)]
    return sum(known) / len(known) if known else None


def _print_rows(rows: Sequence[Mapping[str, Any]], styles: Sequence[str] = ()) -> None:
    """A table; `styles` are those of the first cells."""
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for name in rows[0]:
        numbers = all(isinstance(row.get(name, 0), int | float | None) for row in rows)
        table.add_column(
            name.replace("_", " "), justify="right" if numbers else "left", overflow="fold"
        )
    for number, row in enumerate(rows):
        cells = [Text(_cell(row.get(name))) for name in rows[0]]
        if styles:
            cells[0].stylize(styles[number])
        table.add_row(*cells)
    console.out.print(table)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.3f}" if value < 100 else f"{value:,.1f}"
    return str(value)


def _print_text(pieces: Sequence[str], chosen: "np.ndarray", width: int = 78) -> None:
    """A text whose background says which expert weighs most; without colours, signs do."""
    from rich.cells import cell_len
    from rich.text import Text

    line, marks = Text(), ""
    for piece, choice in zip(pieces, chosen.tolist(), strict=True):
        for number, part in enumerate(piece.replace("\t", " ").split("\n")):
            shown = "".join(
                sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in part
            )
            if number or len(marks) + cell_len(shown) > width:
                _print_line(line, marks)
                line, marks = Text(), ""
            line.append(shown, style=_colour_style(choice))
            marks += _sign(choice) * cell_len(shown)
    _print_line(line, marks)


def _print_line(line: Any, marks: str) -> None:
    line.rstrip()
    console.out.print(line)
    if not _has_colours():
        console.out.print(marks[: len(line)], markup=False)


def _has_colours() -> bool:
    return console.out.color_system is not None and not console.out.no_color


def _sign(number: int) -> str:
    return SIGNS[number] if number < len(SIGNS) else "?"


def _colour_style(number: int) -> str:
    """The expert's colour in pictures, as the background of text."""
    if not _has_colours():
        return ""
    from workingpapers.foundation.plots import BLACK, PALETTE, YELLOW

    colours = (*PALETTE[:6], YELLOW, BLACK)
    colour = colours[number % len(colours)]
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    ink = "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "white"
    return f"{ink} on {colour}"
