"""The verbs of `workingpapers lens`: logic explained networks on the user's own tables."""

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from workingpapers.foundation import console
from workingpapers.foundation.console import Force, Json, Seed, Trust
from workingpapers.foundation.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from workingpapers.foundation.tables import DataTable
    from workingpapers.lens.estimators import LENClassifier
    from workingpapers.lens.explain import Explanation
    from workingpapers.lens.formula import Formula

NETS = ("mu", "psi", "relu", "entropy", "tell")
FORMATS = ("text", "sql", "sympy", "python", "prolog", "latex", "json")

app = typer.Typer(
    help="Classify a table and read the network's decisions as logic formulas.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA", help="A CSV, TSV or Parquet file, or an embedded set such as votes."
    ),
]
Model = Annotated[Path, typer.Argument(metavar="MODEL", help="A folder written by `lens fit`.")]
Target = Annotated[
    str | None,
    typer.Option("--target", help="The column with the classes; embedded sets bring their own."),
]
Net = Annotated[str, typer.Option("--net", help="mu, psi, relu, entropy or tell.")]
MaxConcepts = Annotated[
    str,
    typer.Option("--max-concepts", help="Concepts a class may use, or auto (by validation)."),
]
Drop = Annotated[
    list[str] | None, typer.Option("--drop", help="A column to leave out; repeatable.")
]
Picture = Annotated[
    Path | None,
    typer.Option("--picture", help="Also draw a picture into this .svg, .png or .pdf file."),
]
Epochs = Annotated[int, typer.Option("--epochs", min=1, help="Training epochs.")]


@app.command(epilog="Example: workingpapers lens fit patients.csv --target died --out model")
def fit(
    data: Data,
    target: Target = None,
    net: Net = "mu",
    out: Annotated[
        Path | None, typer.Option(help="Folder for the model; without it nothing is saved.")
    ] = None,
    max_concepts: MaxConcepts = "9",
    epochs: Epochs = 600,
    style: Annotated[str, typer.Option(help="Loss: iff, if or only-if.")] = "iff",
    drop: Drop = None,
    thresholds: Annotated[
        str, typer.Option(help="Of numeric columns: auto, quantile, tree or learned.")
    ] = "auto",
    seed: Seed = 0,
    device: console.Device = "auto",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Train a network on a table and print each class's formula.

    A quarter of the rows is held out to choose the best epoch and to score the formulas.
    """
    if out is not None:
        _check_out(out, force)
    console.check_choice("--thresholds", thresholds, ("auto", "quantile", "tree", "learned"))
    from workingpapers.lens.concepts import Booleanizer

    with _notes():
        model = _classifier(net, max_concepts, epochs, style, seed, device)
        table, labels, name = _labelled(data, target, drop or [])
        model.set_params(booleanizer=Booleanizer(thresholds=thresholds))
        with console.progress(f"training {net}", epochs) as advance:
            model.fit(table, labels, progress=advance)
        with console.progress("extracting", len(model.classes_)) as advance:
            explanation = model.explain(progress=advance)
    if out is not None:
        from workingpapers.lens.storage import save_model

        save_model(model, out, target=name, overwrite=force)
    _show(model, explanation, as_json, {"model": None if out is None else str(out)})


@app.command(
    epilog="Example: workingpapers lens explain model --class poisonous --format sql",
)
def explain(
    model: Model,
    data: Annotated[
        str | None, typer.Argument(metavar="[DATA]", help="A table; explains its row --row.")
    ] = None,
    row: Annotated[int | None, typer.Option(help="Data row to explain, from 1.")] = None,
    class_name: Annotated[str | None, typer.Option("--class", help="Only this class.")] = None,
    style: Annotated[
        str, typer.Option(help="iff; if (no false alarms); only-if (no misses).")
    ] = "iff",
    guarantee: Annotated[
        str, typer.Option(help="Equal to the network on: observed, valid or all patterns.")
    ] = "observed",
    format: Annotated[
        str, typer.Option(help="text, sql, sympy, python, prolog, latex or json.")
    ] = "text",
    min_precision: Annotated[
        float, typer.Option(help="For styles if and only-if: precision, or recall, to reach.")
    ] = 0.9,
    max_literals: Annotated[
        int | None, typer.Option(min=0, help="Best formula of at most so many literals.")
    ] = None,
    aggregation: Annotated[str, typer.Option(help="exact, or the paper's own.")] = "exact",
    picture: Picture = None,
    plot: Annotated[
        str, typer.Option(help="What to draw: cards, front, relevance or coverage.")
    ] = "cards",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Print a model's formulas, or the reason for its answer on one row of a table."""
    style = console.check_choice("--style", style, ("iff", "if", "only-if"))
    console.check_choice("--format", format, FORMATS)
    console.check_choice("--plot", plot, ("cards", "front", "relevance", "coverage"))
    console.check_choice("--aggregation", aggregation, ("exact", "paper"))
    if not 0 < min_precision <= 1:
        raise InputError(f"--min-precision {min_precision:g}: expected above 0 and at most 1")
    console.claim_file(picture, force=force, option="--picture")
    from workingpapers.lens.explain import ARROWS
    from workingpapers.lens.storage import load_model

    loaded = load_model(model)
    if data is not None or row is not None:
        if data is None or row is None:
            raise InputError("--row: expected together with DATA, the table the row is in")
        if picture is not None or class_name is not None:
            raise InputError("--row: explains one row; it takes neither --class nor --picture")
        _explain_row(loaded, data, row, _checked_guarantee(guarantee), format, as_json)
        return
    with _notes():
        explanation = loaded.explain(
            class_name,
            guarantee=_checked_guarantee(guarantee),
            style=style.replace("-", "_"),
            aggregation=aggregation,
            min_precision=min_precision,
            max_literals=max_literals,
        )
    if picture is not None:
        from workingpapers.foundation.plots import save
        from workingpapers.lens.plots import draw

        save(draw(plot, loaded, explanation), picture)
        console.err.print(f"picture: {picture}", markup=False)
    if as_json:
        console.print_json(_explanation_json(loaded, explanation))
        return
    for label in explanation.formulas:
        text = _export(
            explanation.formulas[label],
            format,
            str(label),
            explanation.label(label),
            ARROWS[explanation.style],
            loaded.predicates_,
        )
        console.out.print(text, markup=False)


@app.command(epilog="Example: workingpapers lens evaluate model new-patients.csv --json")
def evaluate(
    model: Model,
    data: Data,
    target: Target = None,
    guarantee: Annotated[str, typer.Option(help="observed, valid or all.")] = "observed",
    picture: Picture = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Score a model and its formulas on a labelled table.

    Accuracies are one-versus-rest, averaged over classes; fidelity is macro F1 of the formulas
    against the network's own predictions; literals is the mean a class.
    """
    console.claim_file(picture, force=force, option="--picture")
    from workingpapers.lens.storage import load_model, target_of

    loaded = load_model(model)
    with _notes():
        table, labels, name = _labelled(data, target or target_of(model), least=1)
        known = [str(label) for label in loaded.classes_]
        for label in labels:
            if label not in known:
                raise InputError(
                    f"{data}: column {name!r}: the model does not know the class {str(label)!r}; "
                    f"its classes are {', '.join(known)}"
                )
        scores = loaded.evaluate(table, labels, guarantee=_checked_guarantee(guarantee))
    if picture is not None:
        from workingpapers.foundation.plots import save
        from workingpapers.lens.plots import draw_confusion

        save(draw_confusion(loaded, table), picture)
        console.err.print(f"picture: {picture}", markup=False)
    if as_json:
        console.print_json(scores)
        return
    _print_scores(scores)


@app.command(epilog="Example: workingpapers lens cluster members.csv --clusters 2")
def cluster(
    data: Data,
    clusters: Annotated[int, typer.Option(min=2, help="Number of clusters.")],
    net: Net = "mu",
    drop: Drop = None,
    max_concepts: Annotated[int, typer.Option(min=1, help="Concepts a cluster may use.")] = 5,
    restarts: Annotated[int, typer.Option(min=1, help="The best of so many is kept.")] = 5,
    epochs: Epochs = 400,
    seed: Seed = 0,
    device: console.Device = "auto",
    assignments: Annotated[
        Path | None, typer.Option(help="Write each row's cluster into this CSV file.")
    ] = None,
    picture: Picture = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Find clusters of rows that formulas describe, without any labels."""
    console.check_choice("--net", net, NETS)
    console.claim_file(assignments, force=force, option="--assignments")
    console.claim_file(picture, force=force, option="--picture")
    with _notes():
        table = _table(data, drop or [])
        if table.n_rows < clusters:
            raise InputError(f"--clusters {clusters}: {data} has only {table.n_rows} rows")
        from workingpapers.lens.estimators import LENClusterer

        model = LENClusterer(
            clusters,
            net,
            max_concepts=max_concepts,
            epochs=epochs,
            restarts=restarts,
            random_state=seed,
            device=console.choose_device(device),
        )
        with console.progress("clustering", epochs * restarts) as advance:
            model.fit(table, progress=advance)
        explanation = model.explain()
    if assignments is not None:
        rows = "".join(f"{index},{label}\n" for index, label in enumerate(model.labels_, start=1))
        console.write_atomically(assignments, "row,cluster\n" + rows)
    if picture is not None:
        from workingpapers.foundation.plots import save
        from workingpapers.lens.plots import draw

        save(draw("cards", model, explanation), picture)
        console.err.print(f"picture: {picture}", markup=False)
    sizes = {str(label): int((model.labels_ == label).sum()) for label in model.classes_}
    if as_json:
        console.print_json(
            {
                **_explanation_json(model, explanation),
                "mutual_information": model.mutual_information_,
                "sizes": sizes,
            }
        )
        return
    for label in explanation.formulas:
        console.out.print(f"cluster {label}, {sizes[str(label)]} rows", markup=False)
        console.out.print(f"  {explanation.text(label)}", markup=False)
    if model.empty_clusters_:
        console.err.print(f"{model.empty_clusters_} of {clusters} clusters are empty")


@app.command(epilog="Example: workingpapers lens distill loans.csv --predictions answer")
def distill(
    data: Data,
    predictions: Annotated[
        str,
        typer.Option(
            metavar="COLUMN-or-FILE",
            help="The black box's answers: a column of DATA, a CSV file with one column, or a "
            "joblib model with --trust.",
        ),
    ],
    drop: Drop = None,
    net: Net = "mu",
    out: Annotated[Path | None, typer.Option(help="Folder for the imitation.")] = None,
    max_concepts: MaxConcepts = "9",
    epochs: Epochs = 600,
    seed: Seed = 0,
    device: console.Device = "auto",
    trust: Trust = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Explain a black box from its answers: formulas that imitate it, scored on held-out rows."""
    if out is not None:
        _check_out(out, force)
    with _notes():
        model = _classifier(net, max_concepts, epochs, "iff", seed, device)
        table, answers = _answers(_table(data, drop or []), predictions, trust)
        with console.progress(f"imitating with {net}", epochs) as advance:
            model.fit(table, answers, progress=advance)
        explanation = model.explain()
    if out is not None:
        from workingpapers.lens.storage import save_model

        save_model(model, out, target=predictions, overwrite=force)
    _show(model, explanation, as_json, {"model": None if out is None else str(out)})


@app.command(epilog="Example: workingpapers lens minimize gate.csv --output alarm")
def minimize(
    table: Annotated[
        Path,
        typer.Argument(
            metavar="TABLE.csv",
            help="A truth table: columns of 0 and 1, the output also - for don't care.",
        ),
    ],
    output: Annotated[
        str | None, typer.Option(help="The output column; default: the last one.")
    ] = None,
    method: Annotated[str, typer.Option(help="auto, isop, heuristic or exact.")] = "auto",
    others: Annotated[
        str, typer.Option(help="Rows the table leaves out: false, or free (don't care).")
    ] = "false",
    format: Annotated[
        str, typer.Option(help="text, sql, sympy, python, prolog, latex or json.")
    ] = "text",
    as_json: Json = False,
) -> None:
    """Print the shortest disjunction of conjunctions for a truth table."""
    console.check_choice("--format", format, FORMATS)
    formula, cover, name = _minimized(table, output, method, others)
    found = "minimum" if cover.minimum else "irredundant"
    if as_json:
        console.print_json(
            {
                "formula": str(formula),
                "literals": formula.n_literals,
                "terms": formula.n_terms,
                "minimum": bool(cover.minimum),
                "method": cover.method,
                "seconds": cover.seconds,
            }
        )
        return
    console.out.print(_export(formula, format, name, found), markup=False)
    console.err.print(f"{formula.n_literals} literals, {formula.n_terms} terms, {found}")


@app.command(epilog="Example: workingpapers lens compare votes --folds 5")
def compare(
    data: Data,
    target: Target = None,
    folds: Annotated[int, typer.Option(min=2, help="Folds of the cross-validation.")] = 5,
    net: Net = "mu",
    max_concepts: MaxConcepts = "9",
    epochs: Epochs = 600,
    seed: Seed = 0,
    drop: Drop = None,
    picture: Picture = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Compare the network with a decision tree, and RIPPER and rule lists where installed."""
    from workingpapers.lens.comparison import compare_methods

    console.claim_file(picture, force=force, option="--picture")
    with _notes():
        model = _classifier(net, max_concepts, epochs, "iff", seed, "cpu")
        table, labels, _ = _labelled(data, target, drop or [])
        with console.progress("comparing", folds) as advance:
            rows, absent = compare_methods(
                table, labels, model, folds=folds, seed=seed, progress=advance
            )
    if picture is not None:
        from workingpapers.foundation.plots import save
        from workingpapers.lens.plots import draw_comparison

        save(draw_comparison(rows), picture)
        console.err.print(f"picture: {picture}", markup=False)
    if as_json:
        console.print_json({"methods": rows, "not_installed": absent})
        return
    _print_rows(rows, f"{folds}-fold cross-validation")
    for method, command in absent.items():
        console.err.print(f"{method}: not compared: {command}", markup=False)


# ---- reading what the user gives


@contextmanager
def _notes() -> Iterator[None]:
    """Show our warnings (dropped columns, unseen values) as one line each on stderr."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.filterwarnings("always", category=UserWarning)
        yield
    for text in dict.fromkeys(str(one.message) for one in caught):
        console.err.print(f"note: {text}", markup=False)


def _table(data: str, without: Sequence[str] = ()) -> "DataTable":
    from workingpapers.foundation.tables import DataTable
    from workingpapers.lens.data import resolve

    resolved = resolve(data, without=without)
    return resolved if isinstance(resolved, DataTable) else resolved.table


def _labelled(
    data: str, target: str | None, drop: Sequence[str] = (), *, least: int = 2
) -> tuple["DataTable", "np.ndarray", str]:
    """The columns, the classes as text, the target's name; rows without a class are left out."""
    import numpy as np

    from workingpapers.foundation.tables import DataTable, column_text
    from workingpapers.lens.data import resolve

    resolved = resolve(data, without=drop)
    if not isinstance(resolved, DataTable):
        if target is None or target not in resolved.table.names:
            return resolved.table, resolved.target.astype(str), "class"
        resolved = resolved.table
    if target is None:
        raise InputError(
            f"--target: expected the column with the classes; {data} has "
            f"{', '.join(resolved.names)}"
        )
    labels = column_text(resolved, target)
    known = np.array([label is not None for label in labels])
    if not known.any():
        raise InputError(f"{data}: column {target!r} has no value in any row")
    if not known.all():
        warnings.warn(
            f"{data}: {int((~known).sum())} rows without a value in {target!r} are left out",
            stacklevel=2,
        )
    table = resolved.drop([target]).rows(np.flatnonzero(known))
    labels = np.array([label for label in labels if label is not None])
    if len(np.unique(labels)) < least:
        raise InputError(
            f"{data}: column {target!r} is always {str(labels[0])!r}; expected two classes or more"
        )
    return table, labels, target


def _classifier(
    net: str, max_concepts: str, epochs: int, style: str, seed: int, device: str
) -> "LENClassifier":
    from workingpapers.lens.estimators import LENClassifier

    console.check_choice("--net", net, NETS)
    console.check_choice("--style", style, ("iff", "if", "only-if"))
    if max_concepts != "auto" and not (max_concepts.isdecimal() and int(max_concepts)):
        raise InputError(f"--max-concepts {max_concepts}: expected a number from 1 up, or auto")
    return LENClassifier(
        net,
        max_concepts="auto" if max_concepts == "auto" else int(max_concepts),
        epochs=epochs,
        style=style.replace("-", "_"),
        random_state=seed,
        device=console.choose_device(device),
    )


def _check_out(out: Path, force: bool) -> None:
    """Refuse a folder that is not ours to write before the training, not after it."""
    from workingpapers.foundation.checkpoints import check_target

    try:
        check_target(out, force)
    except InputError as error:
        raise InputError(f"--out {error}") from None
    parent = next(folder for folder in out.absolute().parents if folder.exists())
    if not os.access(parent, os.W_OK):
        raise InputError(f"--out {out}: cannot write into {parent}")


def _checked_guarantee(guarantee: str) -> Any:
    from workingpapers.lens.explain import GUARANTEES

    return console.check_choice("--guarantee", guarantee, GUARANTEES)


def _answers(table: "DataTable", predictions: str, trust: bool) -> tuple["DataTable", "np.ndarray"]:
    """The columns the box saw and its answers, from a column, a file, or a trusted model."""
    import numpy as np

    from workingpapers.foundation.tables import column_text, read_table

    if predictions in table.names:
        answers = column_text(table, predictions)
        table = table.drop([predictions])
    else:
        path = Path(predictions)
        if not path.exists():
            raise InputError(
                f"--predictions {predictions}: neither a column of {table.source} nor a file"
            )
        if path.suffix in (".joblib", ".pkl", ".pickle"):
            return table, _ask_pickled(path, table, trust)
        given = read_table(path)
        if len(given.names) != 1:
            raise InputError(f"{predictions}: expected one column, found {len(given.names)}")
        answers = column_text(given, given.names[0])
        if len(answers) != table.n_rows:
            raise InputError(
                f"{predictions}: expected {table.n_rows} answers, one a row, found {len(answers)}"
            )
    absent = [index for index, answer in enumerate(answers, start=1) if answer is None]
    if absent:
        raise InputError(f"--predictions {predictions}: row {absent[0]} has no answer")
    if len(set(answers)) < 2:
        raise InputError(f"--predictions {predictions}: every answer is {answers[0]!r}")
    return table, np.array(answers)


def _ask_pickled(path: Path, table: "DataTable", trust: bool) -> "np.ndarray":
    import numpy as np

    if not trust:
        raise InputError(
            f"{path}: a pickled model can run any code; --trust loads it if you know its origin"
        )
    console.err.print(f"loading the pickle {path}, as --trust says", markup=False)
    import joblib

    try:
        box = joblib.load(path)
    except Exception as error:
        raise InputError(f"{path}: not a joblib model ({type(error).__name__})") from None
    columns = [table.column(name) for name in table.names]
    if any(column.dtype == object for column in columns):
        matrix: Any = np.column_stack([column.astype(object) for column in columns])
    else:
        matrix = np.column_stack(columns).astype(float)
    try:
        return np.asarray(box.predict(matrix)).astype(str)
    except Exception as error:
        raise InputError(f"{path}: the model cannot predict {table.source}: {error}") from None


def _minimized(
    table: Path, output: str | None, method: str, others: str
) -> tuple["Formula", Any, str]:
    import numpy as np

    from workingpapers.foundation.tables import read_table
    from workingpapers.lens.formula import Formula
    from workingpapers.lens.minimization import minimize as minimize_table

    console.check_choice("--method", method, ("auto", "isop", "heuristic", "exact"))
    console.check_choice("--others", others, ("false", "free"))
    read = read_table(table)
    name = output or read.names[-1]
    inputs = [other for other in read.names if other != name]
    values = [{"0": False, "1": True}.get(text or "") for text in _cells(read, name, "01-")]
    rows = np.array([[cell == "1" for cell in _cells(read, one, "01")] for one in inputs]).T
    if not inputs:
        raise InputError(f"{table}: expected at least one input column beside {name!r}")
    seen: dict[bytes, int] = {}
    for number, (row, value) in enumerate(zip(rows, values, strict=True)):
        first = seen.setdefault(row.tobytes(), number)
        if values[first] is not value:
            raise InputError(
                f"{table}: rows {first + 1} and {number + 1} have the same inputs and different "
                "outputs"
            )
    on = rows[[value is True for value in values]]
    off = rows[[value is False for value in values]]
    free = rows[[value is None for value in values]]
    if others == "free":
        cover = minimize_table(on, off, method=cast(Any, method))
    else:
        cover = minimize_table(on, None, free, method=cast(Any, method))
    return Formula(inputs, cover.positive, cover.negative), cover, name


def _cells(table: "DataTable", name: str, allowed: str) -> list[str]:
    from workingpapers.foundation.tables import column_text

    cells = [text or "" for text in column_text(table, name)]
    for number, cell in enumerate(cells, start=1):
        if cell not in list(allowed):
            expected = " or ".join(allowed)
            raise InputError(
                f"{table.source}: column {name!r}, row {number}: expected {expected}, "
                f"found {cell!r}"
            )
    return cells


# ---- showing what was found


def _export(
    formula: "Formula",
    format: str,
    head: str,
    guarantee: str,
    arrow: str = "<->",
    predicates: Mapping[str, Any] | None = None,
) -> str:
    """A formula in one of FORMATS, with its guarantee; predicates speak of the raw columns."""
    options: dict[str, Any] = {"head": head, "guarantee": guarantee, "arrow": arrow}
    if format in ("sql", "python") and predicates:
        options["predicates"] = predicates
    export = formula.to_sympy_source if format == "sympy" else getattr(formula, f"to_{format}")
    return str(export(**options))


def _explain_row(
    model: "LENClassifier", data: str, row: int, guarantee: Any, format: str, as_json: bool
) -> None:
    with _notes():
        table = _table(data)
        if not 1 <= row <= table.n_rows:
            raise InputError(f"--row {row}: {data} has rows 1 to {table.n_rows}")
        one = table.rows([row - 1])
        label = model.predict(one)[0]
        reason = model.explain_sample(one, guarantee=guarantee)
        unseen = bool(model.extrapolates(one)[0])
    if as_json:
        console.print_json(
            {
                "row": row,
                "class": str(label),
                "reason": str(reason),
                "literals": reason.n_literals,
                "guarantee": guarantee,
                "extrapolates": unseen,
            }
        )
        return
    if format == "text":
        console.out.print(f"row {row}: {label}", markup=False)
    text = _export(reason, format, str(label), guarantee, "<-", model.predicates_)
    console.out.print(text, markup=False)
    if unseen:
        console.err.print("note: no training row has this row's pattern of concepts")


def _explanation_json(model: Any, explanation: "Explanation") -> dict[str, Any]:
    import math

    classes = {}
    for label, formula in explanation.formulas.items():
        certificate = explanation.certificates[label]
        classes[str(label)] = {
            "formula": str(formula),
            "text": explanation.text(label),
            "literals": formula.n_literals,
            "terms": formula.n_terms,
            "shortness": certificate.shortness,
            "gap": None if math.isnan(certificate.gap) else certificate.gap,
            "method": certificate.method,
            "seconds": certificate.seconds,
        }
    return {
        "guarantee": explanation.guarantee,
        "style": explanation.style,
        "accuracy": explanation.accuracy,
        "fidelity": explanation.fidelity,
        "literals": explanation.literals,
        "extraction_seconds": explanation.seconds,
        "concepts": len(model.concept_names_),
        "classes": classes,
    }


def _show(model: Any, explanation: "Explanation", as_json: bool, extra: dict[str, Any]) -> None:
    if as_json:
        console.print_json({**_explanation_json(model, explanation), **extra})
        return
    for label in explanation.formulas:
        console.out.print(explanation.text(label), markup=False)
    held = bool(model.patterns_.totals[:, 1].any())
    rows = "held-out rows" if held else "fitted rows (none held out)"
    console.out.print(
        f"{rows}: formulas {explanation.accuracy:.3f} accurate, fidelity "
        f"{explanation.fidelity:.3f}; {explanation.literals:.1f} literals a class, extracted in "
        f"{explanation.seconds:.2f} s",
        markup=False,
    )
    if extra.get("model"):
        console.out.print(f"model: {extra['model']}", markup=False)


def _print_scores(scores: dict[str, Any]) -> None:
    rows = [{"class": "all", **scores["all"]}]
    rows += [{"class": name, **one} for name, one in scores["classes"].items()]
    shown = ("class", "model_accuracy", "explanation_accuracy", "fidelity", "literals", "rows")
    _print_rows([{name: row[name] for name in shown} for row in rows], "scores")


def _print_rows(rows: list[dict[str, Any]], title: str) -> None:
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for name in rows[0]:
        table.add_column(name.replace("_", " "), justify="left" if name == "class" else "right")
    for row in rows:
        cells = [f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row.values()]
        table.add_row(*cells)
    console.out.print(table)
