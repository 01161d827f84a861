"""Pictures of formulas: rule cards, the accuracy-length front, relevance, coverage, confusion."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import MaxNLocator

from workingpapers.foundation.errors import InputError
from workingpapers.foundation.plots import BLUE, GREEN, GREY, INK, PALETTE, RULE, VERMILION, figure
from workingpapers.lens.explain import Explanation
from workingpapers.lens.formula import Formula

PLOTS = ("cards", "front", "relevance", "coverage")

# Characters of card text to the inch, for text of nine points.
_CHARACTERS_PER_INCH = 13.0
_MOST_TERMS = 12


def draw(plot: str, model: Any, explanation: Explanation) -> Figure:
    """One of PLOTS for a fitted model; InputError for another name."""
    if plot == "cards":
        return draw_cards(model, explanation)
    if plot == "front":
        return draw_front(explanation)
    if plot == "relevance":
        return draw_relevance(model)
    if plot == "coverage":
        return draw_coverage(model, explanation)
    raise InputError(f"--plot {plot}: expected {', '.join(PLOTS)}")


def draw_cards(model: Any, explanation: Explanation) -> Figure:
    """A card a class: a row a term, its concepts as chips, its support and precision.

    Support counts the rows of training and validation that a term covers; precision is the share
    of them in the class. Negated concepts are chips with a stroke around them and "not".
    """
    width = 9.0
    rows: list[tuple[str, Any]] = []
    for label, formula in explanation.formulas.items():
        rows.append(("title", (label, formula)))
        terms = _term_rows(model, explanation, label, formula)
        for term in terms[:_MOST_TERMS]:
            lines = _wrap_chips(term["chips"], width - 1.9)
            rows += [("term", (line, term if index == 0 else None)) for index, line in
                     enumerate(lines)]  # fmt: skip
        if len(terms) > _MOST_TERMS:
            rows.append(("more", f"and {len(terms) - _MOST_TERMS} more terms"))
        if formula.n_literals == 0:
            rows.append(("more", "always" if formula.n_terms else "never"))
        rows.append(("gap", None))
    heights = {"title": 0.55, "term": 0.36, "more": 0.32, "gap": 0.22}
    total = sum(heights[kind] for kind, _ in rows) + 0.1
    drawing = figure(width, max(total, 1.0))
    axes = drawing.add_subplot()
    axes.set_axis_off()
    axes.set_xlim(0, width)
    axes.set_ylim(max(total, 1.0), 0)
    at = 0.1
    for kind, content in rows:
        if kind == "title":
            label, formula = content
            certificate = explanation.certificates[label]
            axes.text(0.1, at + 0.3, str(label), fontsize=12.5, weight="bold", va="center")
            axes.text(
                width - 0.1,
                at + 0.3,
                f"{explanation.guarantee}, {certificate.shortness}; {formula.n_literals} literals",
                fontsize=9,
                color=GREY,
                va="center",
                ha="right",
            )
            axes.plot([0.1, width - 0.1], [at + 0.53, at + 0.53], color=RULE, linewidth=1)
        elif kind == "term":
            chips, term = content
            _draw_chips(axes, chips, at + 0.2)
            if term is not None:
                axes.text(
                    width - 0.1,
                    at + 0.2,
                    f"{term['support']} rows, {term['precision']:.0%}",
                    fontsize=9,
                    color=INK,
                    va="center",
                    ha="right",
                )
        elif kind == "more":
            axes.text(0.1, at + 0.16, content, fontsize=9, color=GREY, va="center")
        at += heights[kind]
    return drawing


def _term_rows(
    model: Any, explanation: Explanation, label: Any, formula: Formula
) -> list[dict[str, Any]]:
    """Each term's chips, support and precision, the one with the most support first."""
    index = [str(one) for one in model.classes_].index(str(label))
    observed = model.observed_
    inside = (model.patterns_.training + model.patterns_.validation)[:, index]
    totals = model.patterns_.totals.sum(axis=1)
    terms = []
    for number, term in enumerate(formula.terms):
        if not term:
            continue
        one = Formula(
            formula.names,
            formula.positive[number : number + 1],
            formula.negative[number : number + 1],
        )
        fired = one(observed)
        support = int(totals[fired].sum())
        terms.append(
            {
                "chips": list(term.items()),
                "support": support,
                "precision": float(inside[fired].sum()) / support if support else float("nan"),
            }
        )
    return sorted(terms, key=lambda term: -term["support"])


def _chip_text(name: str, value: bool) -> str:
    text = name if len(name) <= 44 else name[:41] + "..."
    # A dollar sign would open matplotlib's mathematics.
    text = text.replace("$", r"\$")
    return text if value else f"not {text}"


def _chip_width(name: str, value: bool) -> float:
    return len(_chip_text(name, value)) / _CHARACTERS_PER_INCH + 0.22


def _wrap_chips(chips: Sequence[tuple[str, bool]], room: float) -> list[list[tuple[str, bool]]]:
    lines: list[list[tuple[str, bool]]] = [[]]
    used = 0.0
    for chip in chips:
        needed = _chip_width(*chip) + 0.1
        if lines[-1] and used + needed > room:
            lines.append([])
            used = 0.0
        lines[-1].append(chip)
        used += needed
    return lines


def _draw_chips(axes: Any, chips: Sequence[tuple[str, bool]], middle: float) -> None:
    left = 0.15
    for name, value in chips:
        width = _chip_width(name, value)
        axes.add_patch(
            FancyBboxPatch(
                (left + 0.04, middle - 0.1),
                width - 0.08,
                0.2,
                boxstyle="round,pad=0.04,rounding_size=0.08",
                facecolor="#E3EEF6" if value else "white",
                edgecolor=BLUE if value else VERMILION,
                linewidth=0.9,
            )
        )
        axes.text(
            left + width / 2, middle, _chip_text(name, value), fontsize=9, va="center", ha="center"
        )
        left += width + 0.1


def draw_front(explanation: Explanation) -> Figure:
    """Accuracy on the fitted rows against the number of literals, a line a class."""
    drawing = figure()
    axes = drawing.add_subplot()
    for color, (label, make_front) in zip(_colors(), explanation.fronts.items(), strict=False):
        front = make_front()
        literals = [formula.n_literals for formula in reversed(front.formulas)]
        accuracies = front.accuracies[::-1]
        axes.plot(literals, accuracies, color=color, label=str(label), drawstyle="steps-post")
        chosen = explanation.formulas[label]
        if chosen in front.formulas:
            at = front.formulas.index(chosen)
            axes.plot([chosen.n_literals], [front.accuracies[at]], "o", color=color)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("literals")
    axes.set_ylabel("accuracy on fitted rows, class against rest")
    axes.set_title("Accuracy against length (dots: the formulas shown)")
    axes.legend()
    return drawing


def draw_relevance(model: Any) -> Figure:
    """How much each head uses each concept it kept, as shares of its largest."""
    relevance = model.net_.relevance().detach().cpu().numpy()
    kept = model.kept_
    shares = relevance[:, kept] / np.maximum(relevance.max(axis=1, keepdims=True), 1e-12)
    names = [model.concept_names_[column] for column in kept]
    labels = [str(label) for label in model.classes_]
    if len(shares) == 1:
        labels = [labels[-1]]
    drawing = figure(max(4.5, 2.2 + 0.34 * len(names)), 1.9 + 0.34 * len(labels))
    axes = drawing.add_subplot()
    image = axes.imshow(shares, aspect="auto", vmin=0, vmax=1)
    axes.grid(False)
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=8)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_title("Relevance of concepts")
    drawing.colorbar(image, ax=axes, label="share of the largest")
    return drawing


def draw_coverage(model: Any, explanation: Explanation) -> Figure:
    """Which terms cover rows together: bars of rows over a matrix of terms, as in UpSet plots.

    Drawn for the class with the most terms; the ten most frequent combinations.
    """
    label = max(explanation.formulas, key=lambda one: explanation.formulas[one].n_terms)
    formula = explanation.formulas[label]
    observed, totals = model.observed_, model.patterns_.totals.sum(axis=1)
    terms = [
        Formula(formula.names, formula.positive[n : n + 1], formula.negative[n : n + 1])
        for n in range(min(formula.n_terms, _MOST_TERMS))
    ]
    fired = np.array([term(observed) for term in terms]).reshape(len(terms), -1).T
    combinations, inverse = np.unique(fired, axis=0, return_inverse=True)
    counts = np.bincount(inverse.reshape(-1), weights=totals, minlength=len(combinations))
    order = [index for index in np.argsort(-counts) if combinations[index].any()][:10]
    drawing = figure(8.4, 2.6 + 0.3 * len(terms))
    bars, matrix = drawing.subplots(
        2, 1, sharex=True, gridspec_kw={"height_ratios": [2.0, 0.3 * len(terms) + 0.4]}
    )
    bars.bar(range(len(order)), counts[order], color=BLUE, width=0.6)
    bars.set_ylabel("rows")
    bars.set_title(f"{label}: rows covered by the same terms")
    for column, index in enumerate(order):
        on = np.flatnonzero(combinations[index])
        matrix.plot([column] * len(terms), range(len(terms)), "o", color=RULE)
        matrix.plot([column] * len(on), on, "o-", color=INK)
    matrix.set_yticks(range(len(terms)), [_term_text(term) for term in terms], fontsize=8)
    matrix.set_xticks([])
    matrix.set_ylim(len(terms) - 0.5, -0.5)
    matrix.grid(False)
    return drawing


def _term_text(term: Formula) -> str:
    text = " & ".join(_chip_text(name, value) for name, value in term.terms[0].items()) or "always"
    return text if len(text) <= 60 else text[:57] + "..."


def draw_confusion(model: Any, X: Any) -> Figure:
    """Formula against network on rows of data: a two-by-two table a class."""
    concepts = model.concepts(X) > 0.5
    predicted = model.predict(X)
    formulas = model.formulas_
    drawing = figure(2.6 * len(formulas) + 0.8, 3.0)
    axes_list = np.atleast_1d(drawing.subplots(1, len(formulas)))
    for axes, (label, formula) in zip(axes_list, formulas.items(), strict=True):
        fired, network = formula(concepts), predicted == label
        counts = np.array(
            [[np.sum((network == row) & (fired == column)) for column in (False, True)]
             for row in (False, True)]
        )  # fmt: skip
        axes.imshow(counts, cmap="Blues", vmin=0, vmax=max(counts.max(), 1) * 1.6)
        axes.grid(False)
        for row in range(2):
            for column in range(2):
                axes.text(column, row, str(counts[row, column]), ha="center", va="center")
        axes.set_xticks([0, 1], ["no", "yes"])
        axes.set_yticks([0, 1], ["no", "yes"])
        axes.set_xlabel("formula")
        axes.set_title(str(label))
    axes_list[0].set_ylabel("network")
    return drawing


def draw_consistency(formulas: Sequence[Formula], title: str) -> Figure:
    """The concepts that one class's formulas use in each fold, the most frequent on top."""
    used = [set(formula.concepts) for formula in formulas]
    names = sorted(set().union(*used), key=lambda name: (-sum(name in one for one in used), name))
    drawing = figure(1.6 + 0.45 * len(formulas) + 2.8, 1.4 + 0.26 * len(names))
    axes = drawing.add_subplot()
    for row, name in enumerate(names):
        folds = [fold for fold, one in enumerate(used) if name in one]
        axes.plot(folds, [row] * len(folds), "s", color=BLUE, markersize=9)
    axes.set_xticks(range(len(formulas)), [str(fold + 1) for fold in range(len(formulas))])
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(-0.5, len(formulas) - 0.5)
    axes.set_xlabel("fold")
    axes.set_title(title)
    return drawing


def draw_cascade(
    lower: Mapping[str, Formula], upper: Mapping[Any, Formula], *, most: int = 40
) -> Figure:
    """Low-level concepts, high-level concepts and classes in three columns, joined where used."""
    middle = [name for name in lower if any(name in one.concepts for one in upper.values())]
    low = list(dict.fromkeys(name for one in middle for name in lower[one].concepts))[:most]
    columns = [low, middle, [str(label) for label in upper]]
    drawing = figure(9.0, max(3.0, 0.24 * max(len(column) for column in columns) + 0.8))
    axes = drawing.add_subplot()
    axes.set_axis_off()
    places: list[dict[str, float]] = [
        {name: (index + 0.5) / len(column) for index, name in enumerate(column)}
        for column in columns
    ]
    for name in middle:
        for below in lower[name].concepts:
            if below in places[0]:
                axes.plot([0.0, 1.0], [places[0][below], places[1][name]], color=RULE, zorder=1)
    for label, formula in upper.items():
        for name in formula.concepts:
            axes.plot([1.0, 2.0], [places[1][name], places[2][str(label)]], color=GREY, zorder=1)
    for column, (place, color, side) in enumerate(
        zip(places, (BLUE, GREEN, VERMILION), ("right", "center", "left"), strict=True)
    ):
        for name, height in place.items():
            axes.plot([column], [height], "o", color=color, zorder=2)
            shift = {"right": -0.04, "center": 0.0, "left": 0.04}[side]
            lift = 0.018 if side == "center" else 0.0
            axes.text(
                column + shift, height + lift, _chip_text(name, True), fontsize=8, ha=side,
                va="bottom" if side == "center" else "center",
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0},
            )  # fmt: skip
    axes.set_xlim(-0.9, 2.7)
    axes.set_ylim(-0.02, 1.06)
    return drawing


def draw_comparison(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Accuracy of the rules against their length, a point a method."""
    drawing = figure()
    axes = drawing.add_subplot()
    for color, row in zip(_colors(), rows, strict=False):
        axes.plot(
            [max(row["literals"], 0.5)], [row["explanation_accuracy"]], "o", color=color,
            markersize=9, label=row["method"],
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlabel("literals a class (log scale)")
    axes.set_ylabel("accuracy of the rules, class against rest")
    axes.set_title("Accuracy against length")
    axes.legend()
    return drawing


def _colors() -> list[str]:
    return list(PALETTE) * 20
