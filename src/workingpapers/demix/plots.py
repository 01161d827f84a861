"""Pictures of domain experts: who reads which words, who knows which domain."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, NullLocator
from scipy.cluster.hierarchy import dendrogram, linkage
from scipy.spatial.distance import squareform

from workingpapers.foundation.errors import InputError
from workingpapers.foundation.plots import BLACK, BLUE, GREY, INK, PALETTE, RULE, YELLOW, figure

LONGEST_TEXT = 400
"""Tokens of a text that a posterior has room for; the rest is left out, and said to be."""

MOST_AREAS = 16
"""Experts told apart in a posterior; of more, the lightest are drawn as one."""

PALEST = 4.0
"""Times the best perplexity of a domain from which on a matrix shows no difference."""

_FONT = "DejaVu Sans Mono"
_COLUMNS = 92
_AREAS = (*PALETTE[:6], YELLOW, BLACK)
_MARKERS = "osD^vP*Xh"
_DASHES = ("-", "--", "-.", ":")
_SIGNS = str.maketrans({"\n": "↵", "\r": "↵", "\t": "→"})


def draw_posterior(
    pieces: Sequence[str], weights: Float[np.ndarray, "experts tokens"], experts: Sequence[str]
) -> Figure:
    """Weights of the experts over a text, as stacked areas above the words.

    `pieces` are the texts of the tokens; each is as wide as it is written. Of texts of more than
    LONGEST_TEXT tokens the beginning is drawn. InputError where the lengths do not fit.
    """
    if weights.shape != (len(experts), len(pieces)) or not weights.size:
        raise InputError(
            f"weights: expected the shape {(len(experts), len(pieces))}, found {weights.shape}"
        )
    names, areas = _areas(weights[:, :LONGEST_TEXT], experts)
    shown = [_legible(piece) for piece in pieces[:LONGEST_TEXT]]
    lines = _lines(shown)
    drawing = figure(8.8, 0.45 + 0.24 * -(-len(names) // 7) + 0.95 * len(lines))
    panels = drawing.subplots(len(lines), 1, squeeze=False)[:, 0]
    # A last line that is short stays as short: all characters are equally wide.
    widest = max(_COLUMNS if len(lines) > 1 else 24, *(ends[-1] for _, ends in lines))
    for axes, (first, ends) in zip(panels, lines, strict=True):
        lefts = [0, *ends[:-1]]
        here = areas[:, first : first + len(ends)]
        below = np.zeros(len(ends) + 1)
        for number, weight in enumerate(here):
            above = below + np.append(weight, weight[-1])
            axes.fill_between([*lefts, ends[-1]], below, above, step="post", **_look(number, names))
            below = above
        for left, right, piece in zip(lefts, ends, shown[first:], strict=False):
            axes.text(
                (left + right) / 2, -0.07, piece, family=_FONT, fontsize=8.5, color=INK,
                ha="center", va="top", parse_math=False, transform=axes.get_xaxis_transform(),
            )  # fmt: skip
        axes.set_xlim(0, widest)
        axes.set_ylim(0, 1)
        axes.set_xticks([])
        axes.set_yticks([0, 0.5, 1], ["0", "", "1"], fontsize=8.5)
        axes.grid(False)
        axes.spines[:].set_visible(False)
    cut = f", the first {len(shown)} of {len(pieces)} tokens" if len(pieces) > len(shown) else ""
    panels[0].set_title(f"Weights of the experts{cut}", fontsize=10.5, pad=6)
    handles = [Patch(label=name, **_look(number, names)) for number, name in enumerate(names)]
    drawing.legend(
        handles=handles, loc="outside lower left", ncols=min(7, len(names)), fontsize=8.5,
        handlelength=1.3, handleheight=1.1, columnspacing=1.4,
    )  # fmt: skip
    return drawing


def draw_matrix(
    perplexity: Float[np.ndarray, "experts domains"],
    experts: Sequence[str],
    domains: Sequence[str],
) -> Figure:
    """Perplexity of every domain by every expert; a colour says how far from the domain's best.

    The best of a column is in bold. Perplexities are above 0.
    """
    if perplexity.shape != (len(experts), len(domains)) or not perplexity.size:
        raise InputError(
            f"perplexity: expected the shape {(len(experts), len(domains))}, "
            f"found {perplexity.shape}"
        )
    relative = perplexity / perplexity.min(0)
    # One expert that knows nothing of a domain must not wash out the differences of the others.
    most = float(relative.max())
    worst = min(max(most, 1.1), PALEST)
    drawing = figure(max(5.0, 2.6 + 0.56 * len(domains)), 1.6 + 0.4 * len(experts))
    axes = drawing.add_subplot()
    image = axes.imshow(relative, cmap="Blues_r", norm=LogNorm(1, worst), aspect="auto")
    axes.grid(False)
    best = perplexity.argmin(0)
    middle = worst**0.45
    for row in range(len(experts)):
        for column in range(len(domains)):
            dark = relative[row, column] < middle
            axes.text(
                column, row, _number(perplexity[row, column]), ha="center", va="center",
                fontsize=8.5, color="white" if dark else INK,
                weight="bold" if row == best[column] else "normal",
            )  # fmt: skip
    axes.set_xticks(
        range(len(domains)), list(domains), rotation=45, ha="right", rotation_mode="anchor"
    )
    axes.set_yticks(range(len(experts)), list(experts))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("domain")
    axes.set_ylabel("expert")
    axes.set_title("Perplexity of each domain by each expert", loc="left")
    bar = drawing.colorbar(
        image, ax=axes, shrink=0.9, label="× the best of the domain",
        extend="max" if most > worst else "neither",
    )  # fmt: skip
    wanted = (1, 1.5, 2, 3, 4) if worst > 2 else (1, 1.1, 1.2, 1.5, 2)
    ticks = [tick for tick in wanted if tick <= worst]
    bar.set_ticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.outline.set_visible(False)
    return drawing


def draw_bars(
    names: Sequence[str],
    series: Mapping[str, Sequence[float]],
    label: str = "test perplexity (lower is better)",
) -> Figure:
    """A bar for each domain and series (dense, DEMix, ...), with its number."""
    for name, values in series.items():
        if len(values) != len(names):
            raise InputError(f"series {name!r}: expected {len(names)} values, found {len(values)}")
    thickness = 0.8 / max(1, len(series))
    drawing = figure(7.2, 1.2 + len(names) * (0.16 + 0.17 * len(series)))
    axes = drawing.add_subplot()
    most = max(max(values, default=0.0) for values in series.values())
    for number, (name, values) in enumerate(series.items()):
        at = np.arange(len(names)) + (number - (len(series) - 1) / 2) * thickness
        colour = GREY if number == 0 and len(series) > 1 else PALETTE[(number - 1) % len(PALETTE)]
        axes.barh(at, values, height=thickness * 0.92, color=colour, label=name, linewidth=0)
        for y, value in zip(at, values, strict=True):
            axes.text(value + 0.008 * most, y, _number(value), va="center", fontsize=8)
    axes.set_yticks(range(len(names)), list(names))
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(0, 1.09 * most)
    axes.grid(False, axis="y")
    axes.set_xlabel(label)
    drawing.legend(loc="outside upper left", ncols=len(series), fontsize=9.5)
    return drawing


def draw_learning(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    label: str = "perplexity of development text",
) -> Figure:
    """Curves of learning: for each model, the training tokens read and the perplexity then."""
    drawing = figure(6.8, 4.2)
    axes = drawing.add_subplot()
    for number, (name, (tokens, values)) in enumerate(series.items()):
        if len(tokens) != len(values):
            raise InputError(f"series {name!r}: expected {len(tokens)} values, found {len(values)}")
        axes.plot(tokens, values, label=name, **_line(number))
    axes.set_yscale("log")
    _plain_logarithms(axes)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlabel("training tokens")
    axes.set_ylabel(label)
    axes.legend(fontsize=9.5)
    return drawing


def draw_similarity(
    distances: Float[np.ndarray, "experts experts"], experts: Sequence[str]
) -> Figure:
    """Experts joined to groups by their distance (average linkage), nearest first.

    `distances` is symmetric with a diagonal of zeros.
    """
    count = len(experts)
    if distances.shape != (count, count) or count < 2:
        raise InputError(
            f"distances: expected a square of {count} experts, two or more, found {distances.shape}"
        )
    if not np.allclose(distances, distances.T) or np.abs(np.diag(distances)).max() > 1e-9:
        raise InputError("distances: expected a symmetric matrix with zeros on its diagonal")
    halves = squareform((distances + distances.T) / 2, checks=False)
    tree: dict[str, Any] = dendrogram(linkage(halves, "average"), no_plot=True)
    drawing = figure(6.6, 1.1 + 0.3 * count)
    axes = drawing.add_subplot()
    for across, joined in zip(tree["icoord"], tree["dcoord"], strict=True):
        axes.plot(joined, across, color=BLUE, linewidth=1.6, solid_joinstyle="miter")
    # SciPy puts leaf i at 5 + 10 i.
    axes.set_yticks([5 + 10 * leaf for leaf in range(count)], [experts[i] for i in tree["leaves"]])
    axes.set_ylim(0, 10 * count)
    axes.set_xlim(0, 1.05 * (max(map(max, tree["dcoord"])) or 1.0))
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("distance at which experts are joined")
    return drawing


def _areas(
    weights: Float[np.ndarray, "experts tokens"], experts: Sequence[str]
) -> tuple[list[str], Float[np.ndarray, "areas tokens"]]:
    """Names and weights of what is drawn: experts, and the lightest together if they are many."""
    if len(experts) <= MOST_AREAS:
        return list(experts), weights
    heaviest = np.sort(np.argsort(-weights.mean(1), kind="stable")[: MOST_AREAS - 1])
    rest = np.setdiff1d(np.arange(len(experts)), heaviest)
    names = [*(experts[number] for number in heaviest), f"{len(rest)} others"]
    return names, np.vstack([weights[heaviest], weights[rest].sum(0)])


def _look(number: int, names: Sequence[str]) -> dict[str, Any]:
    """Colour and hatching of an area; no two of MOST_AREAS are the same."""
    if number == MOST_AREAS - 1 and names[number].endswith(" others"):
        return {"facecolor": RULE, "edgecolor": "white", "linewidth": 0.4}
    round_, colour = divmod(number, len(_AREAS))
    return {
        "facecolor": _AREAS[colour],
        "edgecolor": "white",
        "linewidth": 0.4,
        "hatch": "/////" if round_ else None,
    }


@cache
def _drawable(character: str) -> bool:
    return bool(get_font(findfont(_FONT)).get_char_index(ord(character)))


def _legible(piece: str) -> str:
    """A token's text as it can be drawn: signs for line breaks, and for what no font here has."""
    signs = piece.translate(_SIGNS) or "·"
    return "".join(sign if _drawable(sign) else "▯" for sign in signs)


def _lines(pieces: Sequence[str]) -> list[tuple[int, list[int]]]:
    """Lines of at most _COLUMNS characters: the first piece of each, and where its pieces end."""
    lines: list[tuple[int, list[int]]] = []
    for number, piece in enumerate(pieces):
        left = lines[-1][1][-1] if lines else 0
        if not lines or left + len(piece) > _COLUMNS:
            lines.append((number, [len(piece)]))
        else:
            lines[-1][1].append(left + len(piece))
    return lines


def _line(number: int) -> dict[str, Any]:
    return {
        "color": PALETTE[number % len(PALETTE)],
        "linestyle": _DASHES[number % len(_DASHES)],
        "marker": _MARKERS[number % len(_MARKERS)],
        "markersize": 4.5,
    }


def _number(value: float) -> str:
    """Three digits, as far as possible without an exponent."""
    if value >= 99.95:
        return f"{value:,.0f}" if value < 99_999.5 else f"{value:.0e}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def _plain_logarithms(axes: Any) -> None:
    """Plain numbers on a logarithmic axis of values, few or many decades."""
    low, high = axes.get_ylim()
    steps = (1, 1.2, 1.5, 2, 3, 5, 7) if high / low < 8 else (1, 2, 5)
    axes.yaxis.set_major_locator(LogLocator(subs=steps))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.4g}"))
    axes.yaxis.set_minor_locator(NullLocator())
