"""The verbs of `workingpapers demix`: language models whose domain experts are mixed and moved."""

import json
import math
import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, cast, get_args

import typer
from typer._click import Context
from typer.core import TyperGroup

from workingpapers.foundation import console
from workingpapers.foundation.console import Force, Json, Seed
from workingpapers.foundation.errors import InputError, missing_package

if TYPE_CHECKING:
    import numpy as np
    import tokenizers
    import torch
    from matplotlib.figure import Figure

    from workingpapers.demix.corpora import DomainCorpus
    from workingpapers.demix.data import DomainTexts
    from workingpapers.demix.mixture import MixtureLM, Score
    from workingpapers.demix.protocol import ModularLM
    from workingpapers.demix.runs import Plan, Trained

PICTURES = (".svg", ".png", ".pdf")
STRATEGIES = ("auto", "ddp", "fsdp")
RULES = ("uniform", "updating", "cached", "average")
"""Of `--mix`; anything else is names of experts."""
DENSE = "dense"
"""Name of the one expert of a plain decoder."""
HISTORIES = ("token", "prefix", "filter")
SPLITS = ("train", "dev", "test")
SIGNS = "123456789abcdefghijklmnopqrstuvwxyz"
"""For experts, where a terminal has no colours."""


class _Verbs(TyperGroup):
    """The verbs, for arguments that are text."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """Refuse an argument with bytes that no text has: it could be neither shown nor kept."""
        for argument in args:
            try:
                argument.encode()
            except UnicodeEncodeError:
                raise InputError(f"the argument {argument!a}: expected text in UTF-8") from None
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_Verbs,
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
Picture = Annotated[
    Path | None,
    typer.Option("--picture", help="Also draw a picture into this .svg, .png or .pdf file."),
]
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
        int | None, typer.Option(min=257, help="Kinds of tokens; default: by --size.")
    ] = None,
    length: Annotated[int | None, typer.Option(min=1, help="Tokens of a row.")] = None,
    dim: Annotated[int | None, typer.Option(min=1, help="Channels.")] = None,
    layers: Annotated[int | None, typer.Option(min=1, help="Layers.")] = None,
    heads: Annotated[int | None, typer.Option(min=1, help="Heads of attention.")] = None,
    hidden: Annotated[
        int | None, typer.Option(min=1, help="Width of the feed-forward networks.")
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
            help="Begin with transformers' gpt2, gpt_neox, gpt_neo, llama.",
        ),
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="A tokenizer.json; default: one is made from DATA.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Updates of the weights.")] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Train for about so long, instead of --steps.")
    ] = None,
    rows: Annotated[int | None, typer.Option(min=1, help="Rows of each domain a step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="At its highest.")] = None,
    seed_share: Annotated[
        float | None,
        typer.Option(help="With --experts all: share of the steps before experts part."),
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
    devices: Annotated[int, typer.Option(min=1, help="Processes or GPUs a node.")] = 1,
    nodes: Annotated[int, typer.Option(min=1, help="Machines.")] = 1,
    strategy: Annotated[
        str, typer.Option(help="auto, ddp, or with --experts none fsdp, as Fabric has them.")
    ] = "auto",
    precision: Annotated[
        str | None, typer.Option(help="32-true, bf16-mixed, 16-mixed, ..., as Fabric has them.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of PyTorch a process.")
    ] = None,
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
        _check_resume(context)
    elif discover is not None and dry_run:
        raise InputError("--dry-run: expected without --discover; `demix discover` goes before it")
    elif out is None and not dry_run:
        raise InputError("--out: expected a folder for the run (or --resume RUN)")
    if steps is not None and minutes is not None:
        raise InputError("--minutes: expected without --steps")
    if minutes is not None and not 0 < minutes < math.inf:
        raise InputError(f"--minutes {minutes:g}: expected a number above 0")
    _checked("--experts", experts, ("ffn", "all", "none"))
    _checked("--strategy", strategy, STRATEGIES)
    if nodes > 1 and not dry_run:
        _check_nodes(nodes)
    # Fabric starts this command again in each further process; the first one speaks for all.
    first = all(os.environ.get(name, "0") == "0" for name in ("LOCAL_RANK", "NODE_RANK"))
    if out is not None and first and not dry_run:
        _check_out(out, force)
    chosen = console.choose_device(device)
    from workingpapers.demix.runs import Training, make_run, read_run, replacing
    from workingpapers.foundation.parallel import check_engine
    from workingpapers.foundation.training import Precision

    check_engine(engine)
    if precision is not None:
        _checked("--precision", precision, get_args(Precision))
    if discover is not None:
        data = [str(_discovered(data, discover, out, text, seed, force, first))]
        text = "text"
    if resume is not None:
        run = read_run(resume)
    else:
        run = make_run(
            data or (),
            domains=() if domains is None else _names("--domains", domains),
            size=size,
            shape={
                "vocabulary": vocabulary,
                "dim": dim,
                "layers": layers,
                "heads": heads,
                "hidden": hidden,
                "domain_tokens": domain_tokens or None,
            },
            experts=cast("Any", experts),
            decoder=decoder,
            tokenizer=tokenizer,
            text=text,
            domain=domain,
            anonymise=anonymise,
            deduplicate=deduplicate,
            limit_bytes=limit,
            length=length,
            rows=rows,
            seed_share=seed_share,
            processes=devices,
            training={
                "steps": steps,
                "seconds": None if minutes is None else 60 * minutes,
                "learning_rate": learning_rate,
                "save_every": save_every,
                "precision": precision,
                "threads": threads,
                "seed": seed,
            },
        )
    if run.decoder is not None:
        _without_bars()
    if dry_run:
        with console.err.status("reading and timing"):
            plan = Training(run, resume, chosen).plan(processes=devices * nodes, jobs=jobs)
        _show_plan(plan, as_json)
        return
    fabric = _fabric(chosen, devices, nodes, strategy, run.training.precision)
    folder = cast("Path", resume or out)
    with replacing(out if first else None), _saying_how_to_go_on(folder, first):
        training = Training(run, folder, chosen)
        training.settle(processes=devices * nodes, jobs=jobs)
        fabric.launch()
        with _progress(first, training.steps - training.finished) as advance:
            trained = training.fit(
                fabric=fabric, progress=advance, engine=cast("Any", engine), jobs=jobs
            )
    if first:
        _show_trained(trained, folder, as_json)


@app.command("list", epilog="Example: workingpapers demix list run --json")
def list_experts(checkpoint: Checkpoint, as_json: Json = False) -> None:
    """List a model's experts: what each began as, the tokens it read, its parameters and file."""
    from workingpapers.demix.checkpoint import describe, list_posteriors, read_manifest

    folder = _model_folder(checkpoint)
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
    _check_target(out, in_place, force)
    _check_other(checkpoint, out)
    if file is not None and not (data is None and init is None):
        raise InputError("--file: expected without DATA and --init")
    if init == "nearest" and data is None:
        raise InputError("--init nearest: expected DATA, by which it is found")
    folder = _model_folder(checkpoint)
    where: Any = {"out": out, "in_place": in_place, "overwrite": force}
    from workingpapers.demix.checkpoint import add_expert, read_manifest, read_tokenizer
    from workingpapers.demix.protocol import check_name

    check_name(name, read_manifest(folder).domains)
    if data is None:
        add_expert(folder, name, init=init, file=file, seed=seed, **where)
        _tell_changed(folder if out is None else out, [], as_json)
        return
    from workingpapers.demix.corpora import load_domains
    from workingpapers.demix.runs import add_domain

    corpora = load_domains(
        {name: _one_domain(data, name, text)},
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
        console.print_json({"model": str(target)} | _finite(asdict(added)))
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
    _check_target(out, in_place, force)
    _check_other(checkpoint, out)
    from workingpapers.demix.checkpoint import remove_expert

    folder = _model_folder(checkpoint)
    moved = remove_expert(folder, name, out=out, in_place=in_place, overwrite=force)
    _tell_changed(folder if out is None else out, moved, as_json)


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
    _check_target(out, in_place, force)
    _check_other(checkpoint, out)
    from workingpapers.demix.checkpoint import rename_expert

    folder = _model_folder(checkpoint)
    rename_expert(folder, old, new, out=out, in_place=in_place, overwrite=force)
    _tell_changed(folder if out is None else out, [], as_json)


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
    _check_target(out, in_place, force)
    _check_other(checkpoint, out)
    from workingpapers.demix.checkpoint import restrict as keep

    folder = _model_folder(checkpoint)
    moved = keep(folder, names, out=out, in_place=in_place, overwrite=force)
    _tell_changed(folder if out is None else out, moved, as_json)


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
    _check_picture(picture, force)
    text = _text_or_file(what)
    opened = _open(checkpoint, device)
    score = opened.mixture(mix, history, only, like).score(text, stride=stride)
    if keep is not None:
        from workingpapers.demix.checkpoint import save_posterior

        prior = opened.mixture("updating", history).estimate(text).tolist()
        save_posterior(opened.folder, keep, dict(zip(opened.model.domains, prior, strict=True)))
    pieces = _pieces(opened.tokenizer, text)
    weights = score.log_weights.exp().numpy()
    if picture is not None:
        from workingpapers.demix.plots import draw_posterior

        _save(draw_posterior(pieces, weights, score.experts), picture)
    if as_json:
        told = zip(pieces, score.logprobs.tolist(), weights.T.tolist(), strict=True)
        console.print_json(
            {
                **_finite(_figures(score)),
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
    stride: Stride = None,
    seed: Seed = 0,
    device: console.Device = "auto",
    as_json: Json = False,
) -> None:
    """Go on with a text by the mixture of the experts; it is printed as it comes."""
    opened = _open(checkpoint, device)
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
    picture: Annotated[
        Path | None,
        typer.Option("--picture", help="Draw the matrix into this .svg, .png or .pdf file."),
    ] = None,
    device: console.Device = "auto",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Perplexity and bits a byte of the mixture on each domain's held-out text.

    With --mix cached, the weights come from each domain's dev part, or from the text --like.
    """
    _checked("--split", split, SPLITS)
    _check_picture(picture, force)
    opened = _open(checkpoint, device)
    fields = {"text": text_field, "domain": domain_field}
    if data:
        texts = _texts(data, opened, fields | _settings(checkpoint, data), split, most)
    else:
        texts = _own_texts(checkpoint, opened, split, most)
    experts = opened.model.domains if only is None else _names("--only", only)
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
                alone = opened.mixture(expert).score(text.tokens, stride=stride)
                by_expert[expert].append(alone.perplexity)
            advance(1)
    if picture is not None:
        import numpy as np

        from workingpapers.demix.plots import draw_matrix

        drawn = np.array(list(by_expert.values()))
        _save(draw_matrix(drawn, list(experts), [text.name for text in texts]), picture)
    table = [
        {"expert": expert} | {text.name: value for text, value in zip(texts, values, strict=False)}
        for expert, values in by_expert.items()
        if values
    ]
    mean = {name: _mean(row[name] for row in rows) for name in ("perplexity", "bits_per_byte")}
    if as_json:
        found = {"domains": rows, "mean": mean} | ({"matrix": table} if table else {})
        console.print_json(_finite(found))
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
    """Several models on the same text: bits a byte, which tokenizers do not change, and perplexity.

    The mixing rule is for models with several experts. The picture shows bits a byte.
    """
    _checked("--split", split, SPLITS)
    _check_picture(picture, force)
    checkpoints = list(dict.fromkeys(paths))
    settings: dict[str, Any] = {"text": text_field, "domain": domain_field}
    for path in checkpoints:
        # All are to read the same texts, and nobody's training texts.
        settings |= _settings(path, [data])
    rows: list[dict[str, Any]] = []
    with console.progress("comparing", len(checkpoints)) as advance:
        for path in checkpoints:
            opened = _open(path, device)
            for text in _texts([data], opened, settings, split, most):
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
        _save(draw_bars(names, bits, "bits a byte (lower is better)"), picture)
    if as_json:
        console.print_json(_finite(rows))
        return
    for figure, title in (("bits_per_byte", "bits a byte"), ("perplexity", "perplexity a token")):
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
    opened = _open(checkpoint, device)
    from workingpapers.demix.checkpoint import save_model
    from workingpapers.demix.model import DEMixLM

    if not isinstance(opened.model, DEMixLM):
        raise InputError(f"{checkpoint}: a wrapped decoder; `demix export` writes it merged")
    _check_other(checkpoint, out)
    shares = opened.shares(weights, like)
    save_model(
        out,
        opened.model.merge(shares),
        opened.tokenizer,
        training={"merged": {"from": str(checkpoint), "weights": shares}},
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
    opened = _open(checkpoint, "cpu")
    dense = opened.model.domains == (DENSE,)
    shares = {} if dense and weights is None else opened.shares(weights, like)
    from workingpapers.demix.export import export_model as write

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
    rows = _discover(data, count, out, text, seed, force)
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
    data: Path, count: int, out: Path, text: str, seed: int, force: bool
) -> list[dict[str, Any]]:
    """Find domains, and write them into a folder."""
    from workingpapers.demix.discovery import discover_domains
    from workingpapers.foundation.text import documents

    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out}: expected a folder, found a file")
    if not force and out.is_dir() and any(out.iterdir()):
        raise InputError(f"--out {out}: the folder is not empty; --force writes into it")
    texts = [document.text for document in documents(data, text=text)]
    with console.err.status("grouping"):
        clusterer = discover_domains(texts, count, seed=seed)
    (out / "domains").mkdir(parents=True, exist_ok=True)
    clusterer.save(out / "clusterer", overwrite=force)
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
        _discover(Path(data[0]), count, target, text, seed, force)
    return target / "domains"


# ---- training


def _check_resume(context: Context) -> None:
    """InputError for settings beside --resume: a run is continued as it was begun."""
    allowed = {"resume", "devices", "nodes", "strategy", "device", "engine", "jobs"}
    allowed |= {"as_json", "dry_run"}
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if source is not None and source.name == "COMMANDLINE" and parameter.name not in allowed:
            name = parameter.opts[0] if parameter.opts[0].startswith("-") else "DATA"
            raise InputError(f"{name}: expected without --resume, which goes on as it was begun")


def _check_out(out: Path, force: bool) -> None:
    """Refuse a folder that is not ours to write before the training, not after it."""
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out}: expected a folder, found a file")
    if out.is_dir() and any(out.iterdir()):
        if not (out / "run.json").is_file():
            if {path.name for path in out.iterdir()} == {"corpora"}:
                # Left by a run that came no farther than its texts, which are read from there.
                return
            raise InputError(f"--out {out}: the folder is not empty and holds no run")
        from workingpapers.demix.runs import check_replaceable

        check_replaceable(out)
        if not force:
            raise InputError(
                f"--out {out}: holds a run; --resume goes on with it, --force replaces it"
            )
    nearest = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise InputError(f"--out {out}: expected a folder, {nearest} is a file")
    if not os.access(nearest, os.W_OK):
        raise InputError(f"--out {out}: cannot write into {nearest}")


def _check_nodes(nodes: int) -> None:
    """InputError where the processes of several machines could not find each other."""
    if {"TORCHELASTIC_RUN_ID", "SLURM_JOB_ID"} & set(os.environ):
        # Started by torchrun or Slurm, which know.
        return
    needed = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK")
    missing = [name for name in needed if name not in os.environ]
    if missing:
        raise InputError(
            f"--nodes {nodes}: expected the environment variables {', '.join(needed)} on each "
            f"machine; not set: {', '.join(missing)}"
        )


def _fabric(device: str, devices: int, nodes: int, strategy: str, precision: Any) -> Any:
    from lightning_fabric import Fabric

    if device == "cpu" and devices > (os.cpu_count() or 1):
        raise InputError(f"--devices {devices}: expected at most {os.cpu_count()}, the processors")
    try:
        return Fabric(
            accelerator=device,
            devices=devices,
            num_nodes=nodes,
            strategy=strategy,
            precision=precision,
        )
    except (ValueError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"--devices {devices}, --nodes {nodes}, --strategy {strategy}: {reason}"
        ) from None


@contextmanager
def _progress(first: bool, steps: int) -> Iterator[Any]:
    if first:
        with console.progress("training", steps) as advance:
            yield advance
    else:
        yield None


@contextmanager
def _saying_how_to_go_on(folder: Path, first: bool) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        from workingpapers.demix.runs import finished_steps

        if first and finished_steps(folder):
            console.err.print(
                f"saved: workingpapers demix train --resume {shlex.quote(str(folder))} goes on",
                markup=False,
            )
        raise


def _show_plan(plan: "Plan", as_json: bool) -> None:
    if as_json:
        console.print_json(_finite(asdict(plan)))
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
        console.print_json(_finite(told))
        return
    console.out.print("development text, each domain by its own expert:")
    _print_rows([{"domain": name, **scores} for name, scores in trained.scores.items()])
    console.out.print(f"run: {run}", markup=False)


# ---- opening models and texts


class _Text(NamedTuple):
    """Held-out text of a domain, in the tokens of a model."""

    name: str
    tokens: "np.ndarray"
    bytes: int
    other: "np.ndarray | None"
    """Other text of the domain, by which a cached prior is estimated."""


class _Opened(NamedTuple):
    """A model with its tokenizer, and where it is."""

    folder: Path
    model: "ModularLM"
    tokenizer: "tokenizers.Tokenizer"

    def mixture(
        self,
        mix: str,
        history: str = "token",
        only: str | None = None,
        like: "str | np.ndarray | None" = None,
        top_k: int | None = None,
    ) -> "MixtureLM":
        """The mixture that options tell; InputError names the option at fault."""
        from workingpapers.demix.mixture import MixtureLM
        from workingpapers.demix.posterior import DomainPosterior

        _checked("--history", history, HISTORIES)
        if mix not in RULES:
            if only is not None:
                raise InputError("--only: expected without names of experts in --mix")
            import torch

            shares = _weights("--mix", mix)
            fixed = DomainPosterior(torch.tensor(list(shares.values())), "none")
            return MixtureLM(self.model, self.tokenizer, fixed, experts=list(shares), top_k=top_k)
        average = mix == "average"
        rule: Any = ("uniform", "none") if average else (mix, history)
        posterior = DomainPosterior(*rule)
        experts = None if only is None else _names("--only", only)
        mixture = MixtureLM(self.model, self.tokenizer, posterior, experts=experts, top_k=top_k)
        if mix == "cached":
            if like is None:
                raise InputError("--mix cached: expected --like, with text of the domain")
            posterior.set_prior(self._prior(mixture, like))
        return mixture

    def _prior(self, mixture: "MixtureLM", like: "str | np.ndarray") -> "torch.Tensor":
        """The prior estimated from text, or kept."""
        import torch

        if not isinstance(like, str):
            return mixture.estimate(like)
        kept = self._kept(like)
        if kept is None:
            return mixture.estimate(_text_of(Path(like)))
        return torch.tensor([kept[name] for name in mixture.experts])

    def _kept(self, like: str) -> dict[str, float] | None:
        from workingpapers.demix.checkpoint import list_posteriors, read_posterior

        if Path(like).exists() or like not in list_posteriors(self.folder):
            return None
        return read_posterior(self.folder, like)

    def shares(self, weights: str | None, like: str | None) -> dict[str, float]:
        """The weights by which experts are merged: given, kept, or fitted to a text."""
        if (weights is None) == (like is None):
            if weights is None and len(self.model.domains) == 1:
                return {self.model.domains[0]: 1.0}
            raise InputError("--weights, --like: expected one of them")
        if weights is not None:
            return _weights("--weights", weights)
        assert like is not None
        kept = self._kept(like)
        if kept is not None:
            return kept
        from workingpapers.demix.mixture import MixtureLM

        return _fitted(
            self.model, MixtureLM(self.model, self.tokenizer).encode(_text_of(Path(like)))
        )


def _model_folder(path: Path) -> Path:
    """The folder of the model that is at a path, which may be that of a finished run."""
    from workingpapers.demix.runs import model_folder

    return model_folder(path)


def _open(path: Path, device: str) -> _Opened:
    """A model, or a plain decoder of transformers as a model of one expert."""
    folder, chosen = _model_folder(path), console.choose_device(device)
    wrapped = (folder / "config.json").is_file()
    if wrapped:
        _without_bars()
    if wrapped and not (folder / "demix.json").is_file():
        from workingpapers.demix.corpora import load_tokenizer
        from workingpapers.demix.pretrained import DEMixForCausalLM

        decoder: Any = DEMixForCausalLM.from_decoder(folder, [DENSE])
        return _Opened(folder, decoder.to(chosen), load_tokenizer(folder / "tokenizer.json"))
    from workingpapers.demix.checkpoint import load_model

    model, tokenizer, _ = load_model(folder, device=chosen)
    if tokenizer is None:
        raise InputError(f"{folder}: expected a model with its tokenizer.json")
    return _Opened(folder, model, tokenizer)


def _without_bars() -> None:
    """Have transformers show no progress of its own."""
    try:
        from transformers.utils.logging import disable_progress_bar
    except ImportError as error:
        raise missing_package("transformers", "demix") from error
    disable_progress_bar()


def _texts(
    data: Sequence[str],
    opened: _Opened,
    settings: Mapping[str, Any],
    split: str,
    most: int | None,
) -> list[_Text]:
    """The held-out texts that arguments tell."""
    from workingpapers.demix.corpora import encode, load_domains

    if (file := Path(data[0])).suffix == ".txt" and file.is_file():
        text = _text_of(file)
        tokens, size = encode([text], opened.tokenizer), len(text.encode())
        return [_text(file.stem, tokens, size, None, opened.tokenizer, most)]
    corpora = load_domains(_source(data), opened.tokenizer, block=1, **settings)
    return [_part(one, split, opened.tokenizer, most) for one in corpora.domains.values()]


def _own_texts(path: Path, opened: _Opened, split: str, most: int | None) -> list[_Text]:
    """The held-out texts of the run that a model is from."""
    from workingpapers.demix.runs import open_corpora, read_run, run_folder

    folder = run_folder(path)
    if folder is None:
        raise InputError(f"DATA: expected texts, since {path} is not in the folder of a run")
    corpora = open_corpora(read_run(folder), folder)
    return [_part(one, split, opened.tokenizer, most) for one in corpora.domains.values()]


def _part(
    corpus: "DomainCorpus", split: str, tokenizer: "tokenizers.Tokenizer", most: int | None
) -> _Text:
    other = corpus.part("train" if split == "dev" else "dev")
    return _text(corpus.name, corpus.part(split), corpus.bytes[split], other, tokenizer, most)


def _text(
    name: str,
    tokens: "np.ndarray",
    size: int,
    other: "np.ndarray | None",
    tokenizer: "tokenizers.Tokenizer",
    most: int | None,
) -> _Text:
    # The first is the end of another text, which readers put there themselves.
    tokens = tokens[1:]
    if most is not None and len(tokens) > most:
        from workingpapers.demix.corpora import token_bytes

        tokens = tokens[:most]
        size = int(token_bytes(tokenizer)[tokens].sum())
    return _Text(name, tokens, size, other)


def _settings(path: Path, data: Sequence[str]) -> dict[str, Any]:
    """How a run has parted these texts, if it was trained on them: what it held out is asked for.

    Empty for other texts.
    """
    from workingpapers.demix.runs import read_run, run_folder

    folder = run_folder(path)
    if folder is None:
        return {}
    run, source = read_run(folder), _source(data)
    if isinstance(source, Path):
        if run.data is None or Path(run.data).resolve() != source.resolve():
            return {}
    elif run.data is not None:
        return {}
    return {
        "splits": run.splits,
        "anonymise": run.anonymise,
        "deduplicate": run.deduplicate,
        "limit_bytes": run.limit_bytes,
        "text": run.text,
        "domain": run.domain,
    }


def _source(data: Sequence[str]) -> "Path | list[str]":
    """The path of the user's domains, or names of embedded ones."""
    from workingpapers.demix.data import EMBEDDED

    if len(data) == 1 and (Path(data[0]).exists() or data[0] not in EMBEDDED):
        return Path(data[0])
    return list(data)


def _one_domain(data: str, name: str, field: str) -> "DomainTexts":
    """Texts of a new domain: an embedded one, or all that is in a folder or file."""
    from workingpapers.demix.data import EMBEDDED, DomainTexts
    from workingpapers.demix.data import documents as embedded_documents
    from workingpapers.foundation.text import documents

    if data in EMBEDDED and not Path(data).exists():
        known = EMBEDDED[data]
        return DomainTexts(name, {"all": embedded_documents(data)}, known.source, known.licence)
    return DomainTexts(name, {"all": list(documents(Path(data), text=field))}, data)


def _fitted(model: "ModularLM", tokens: "torch.Tensor") -> dict[str, float]:
    """The constant weights under which a text is likeliest."""
    import torch

    from workingpapers.demix.mixture import windows
    from workingpapers.demix.posterior import fit_weights

    device = getattr(model, "device", "cpu")
    found = []
    for start, _, end in windows(len(tokens), model.context, model.context):
        previous = torch.tensor([int(tokens[start - 1]) if start else model.end_of_text])
        row = tokens[None, start:end].to(device)
        found.append(model.token_logprobs(row, previous=previous.to(device))[:, 0])
    fitted = fit_weights(torch.cat(found, 1)).tolist()
    # What is next to nothing is noise.
    return {name: one for name, one in zip(model.domains, fitted, strict=True) if one > 1e-3}


def _text_or_file(what: str) -> str:
    path = Path(what)
    try:
        is_file = bool(what) and path.is_file()
    except (OSError, ValueError):
        # Too long for a name, or with signs that none may have: a text.
        is_file = False
    if is_file:
        return _text_of(path)
    if not what.strip():
        raise InputError("TEXT|FILE: the text is empty")
    return what


def _text_of(path: Path) -> str:
    """The text in a file; InputError for one that is empty or not in UTF-8."""
    data = path.read_bytes()
    try:
        text = data.decode().removeprefix("\ufeff").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}: line {line}: expected text in UTF-8, found the byte "
            f"0x{data[error.start]:02x}; save the file as UTF-8"
        ) from None
    if not text.strip():
        raise InputError(f"{path}: the text is empty")
    return text


def _pieces(tokenizer: "tokenizers.Tokenizer", text: str) -> list[str]:
    """The part of a text that each token stands for; of a character's bytes the first has it."""
    pieces, told = [], 0
    for start, end in tokenizer.encode(text, add_special_tokens=False).offsets:
        pieces.append(text[max(start, told) : end])
        told = max(told, end)
    return pieces


# ---- reading options and showing results


def _check_target(out: Path | None, in_place: bool, force: bool) -> None:
    """Refuse, before any work, a folder that the changed model cannot be written to."""
    if (out is None) != in_place:
        raise InputError("--out, --in-place: expected one of them")
    if out is None:
        return
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out}: expected a folder, found a file")
    if out.is_dir() and any(out.iterdir()) and not force:
        raise InputError(f"--out {out}: the folder is not empty; --force replaces a model")


def _check_other(checkpoint: Path, out: Path | None) -> None:
    """InputError where a model would be replaced by what is made of it."""
    if out is not None and out.resolve() == _model_folder(checkpoint).resolve():
        raise InputError(
            f"{out}: is the model itself, which would be lost; expected another folder"
        )


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


def _checked(option: str, value: str, choices: Sequence[str]) -> None:
    """InputError with the choices for a value that is none of them."""
    if value not in choices:
        raise InputError(f"{option} {value}: expected {', '.join(choices)}")


def _names(option: str, text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise InputError(f"{option} {text}: expected names with commas between them")
    return names


def _weights(option: str, text: str) -> dict[str, float]:
    """Weights by name from "news=0.3,wiki=0.7"; without numbers they are equal."""
    weights: dict[str, float] = {}
    for part in _names(option, text):
        name, equals, number = part.partition("=")
        try:
            weight = float(number) if equals else 1.0
        except ValueError:
            weight = math.nan
        if not (name and 0 <= weight < math.inf):
            raise InputError(f"{option} {part}: expected NAME=NUMBER, of at least 0")
        if name in weights:
            raise InputError(f"{option} {text}: expected {name} once")
        weights[name] = weight
    return weights


def _check_picture(picture: Path | None, force: bool) -> None:
    console.claim_file(picture, force=force, option="--picture")
    if picture is not None and picture.suffix.lower() not in PICTURES:
        raise InputError(
            f"--picture {picture}: expected a name that ends in {' or '.join(PICTURES)}"
        )


def _save(drawing: "Figure", picture: Path) -> None:
    from workingpapers.foundation.plots import save

    save(drawing, picture)
    console.err.print(f"picture: {picture}", markup=False)


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


def _finite(value: Any) -> Any:
    """The value with None for numbers that JSON does not have."""
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _print_rows(rows: Sequence[Mapping[str, Any]], styles: Sequence[str] = ()) -> None:
    """A table; `styles` are those of the first cells."""
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for name in rows[0]:
        numbers = all(isinstance(row.get(name, 0), int | float | None) for row in rows)
        table.add_column(name.replace("_", " "), justify="right" if numbers else "left")
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
