"""Pictures of a routed encoder: where it reads which resolution, what it costs, what it gets right.

A resolution has one colour in all of them: from dark (fine) to light (coarse).
"""

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from matplotlib import colormaps
from matplotlib.colors import ListedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullLocator,
    PercentFormatter,
)

from workingpapers.adamra.scaling import fit_slope
from workingpapers.foundation.errors import InputError
from workingpapers.foundation.plots import BLUE, GREY, INK, PALETTE, VERMILION, figure

LONGEST_TEXT = 640
"""Symbols of a text that a routing map has room for; the rest is left out, and said to be."""

_COLUMNS = 80
_MARKERS = "osD^vP*Xh"


@cache
def resolution_colours(count: int) -> list[str]:
    """A colour for each resolution, fine to coarse, told apart in grey and when colour-blind."""
    shades = np.linspace(0.15, 0.88, count) if count > 1 else [0.15]
    return [to_hex(colormaps["viridis"](shade)) for shade in shades]


def ink_on(colour: str) -> str:
    """White or the house's ink, whichever is legible on the colour."""
    red, green, blue = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    return "#FFFFFF" if 0.299 * red + 0.587 * green + 0.114 * blue < 0.5 else INK


def draw_routing_text(
    pieces: Sequence[str], choices: Int[np.ndarray, "layers length"], rates: Sequence[int]
) -> Figure:
    """The resolution that each symbol of a text reads, a panel a layer.

    `choices` are indices into `rates`. Texts of more than LONGEST_TEXT symbols are cut.
    """
    _check_choices(choices, len(pieces), rates)
    shown = [piece or " " for piece in pieces[:LONGEST_TEXT]]
    # Words (ListOps' operators) stand apart, characters run on as in a text.
    gap = 0.0 if all(len(piece) == 1 for piece in shown) else 0.7
    places, row, column = [], 0, 0.0
    for piece in shown:
        if column + len(piece) > _COLUMNS:
            row, column = row + 1, 0.0
        places.append((column, row))
        column += len(piece) + gap
    rows = row + 1
    colours = resolution_colours(len(rates))
    height = 0.19 * rows
    drawing = figure(8.6, 0.5 + len(choices) * (height + 0.42))
    panels = drawing.subplots(len(choices), 1, squeeze=False)[:, 0]
    for layer, (axes, chosen) in enumerate(zip(panels, choices, strict=True), start=1):
        axes.set_axis_off()
        axes.set_xlim(0, _COLUMNS)
        axes.set_ylim(rows, 0)
        for piece, (left, top), choice in zip(shown, places, chosen, strict=False):
            colour = colours[choice]
            axes.add_patch(
                Rectangle((left, top + 0.06), len(piece), 0.9, facecolor=colour, linewidth=0)
            )
            axes.text(
                left + len(piece) / 2, top + 0.52, piece, family="DejaVu Sans Mono", fontsize=9,
                color=ink_on(colour), ha="center", va="center", parse_math=False,
            )  # fmt: skip
        cut = (
            f", the first {len(shown)} of {len(pieces)} symbols" if len(pieces) > len(shown) else ""
        )
        axes.set_title(f"Layer {layer}{cut}", fontsize=10, pad=4)
    _resolution_legend(drawing, rates)
    return drawing


def draw_routing_image(
    image: UInt8[np.ndarray, "side side"],
    choices: Int[np.ndarray, "layers side side"],
    rates: Sequence[int],
) -> Figure:
    """The resolution that each pixel reads, a panel a layer, beside the image.

    `choices` are indices into `rates`, or -1 where there is no token.
    """
    drawing = figure(2.3 * (len(choices) + 1) + 0.2, 2.95)
    panels = drawing.subplots(1, len(choices) + 1)
    panels[0].imshow(image, cmap="gray", interpolation="nearest")
    panels[0].set_title("Image", fontsize=10)
    colours = ListedColormap(["#FFFFFF", *resolution_colours(len(rates))])
    for layer, (axes, chosen) in enumerate(zip(panels[1:], choices, strict=True), start=1):
        axes.imshow(chosen, cmap=colours, vmin=-1.5, vmax=len(rates) - 0.5, interpolation="nearest")
        axes.set_title(f"Layer {layer}", fontsize=10)
    for axes in panels:
        axes.grid(False)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
    _resolution_legend(drawing, rates)
    return drawing


def draw_shares_by_step(
    shares: Sequence[Sequence[Sequence[float]]],
    rates: Sequence[int],
    steps: Sequence[int] | None = None,
) -> Figure:
    """Shares of tokens a resolution: by training step, a panel a layer, and by depth at the end.

    `shares` are by time, layer and rate; `steps` are the training steps of the first index, left
    out of the picture where they are not known.
    """
    values = np.asarray(shares, dtype=float)
    if values.ndim != 3 or not values.size or values.shape[2] != len(rates):
        raise InputError(
            f"shares: expected (times, layers, {len(rates)} rates), found the shape {values.shape}"
        )
    times, layers = values.shape[:2]
    at = range(times) if steps is None else steps
    colours = resolution_colours(len(rates))
    drawing = figure(2.5 * (layers + 1) + 0.5, 3.2)
    panels = drawing.subplots(1, layers + 1)
    for layer, axes in enumerate(panels[:-1]):
        if times > 1:
            axes.stackplot(at, values[:, layer].T, colors=colours, linewidth=0)
            axes.set_xlim(at[0], at[-1])
            axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
        else:
            _stacked_bars(axes, values[:, layer], colours)
            axes.set_xticks([0], [str(at[0])])
        if steps is None:
            axes.set_xticks([])
        axes.set_title(f"Layer {layer + 1}", fontsize=10)
        axes.set_xlabel("training" if steps is None else "training step")
    _stacked_bars(panels[-1], values[-1], colours)
    panels[-1].set_xticks(range(layers), [str(layer + 1) for layer in range(layers)])
    panels[-1].set_title("At the end", fontsize=10)
    panels[-1].set_xlabel("layer")
    for axes in panels:
        axes.set_ylim(0, 1)
        axes.grid(False)
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        if axes is not panels[0]:
            axes.set_yticklabels([])
    panels[0].set_ylabel("share of tokens")
    _resolution_legend(drawing, rates)
    return drawing


def draw_growth(growths: Sequence[Mapping[str, Any]]) -> Figure:
    """CPU time and peak memory of a step against the length, with the slope of each line.

    A growth has name, and as many lengths, cpu_seconds and peak_mb. Both axes are logarithmic: a
    line of slope 1 is linear growth, of slope 2 quadratic.
    """
    drawing = figure(9.6, 4.3)
    panels = drawing.subplots(1, 2)
    lengths = sorted({length for growth in growths for length in growth["lengths"]})
    quantities = (
        ("CPU time of a step", "seconds", "cpu_seconds"),
        ("Peak memory of a step", "MiB", "peak_mb"),
    )
    for axes, (title, unit, quantity) in zip(panels, quantities, strict=True):
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        for index, growth in enumerate(growths):
            # NaN where memory could not be read, 0 where a step fits what the process had.
            points = [
                (length, value)
                for length, value in zip(growth["lengths"], growth[quantity], strict=True)
                if value > 0
            ]
            label = _with_slope(growth["name"], points)
            colour, marker = PALETTE[index % len(PALETTE)], _MARKERS[index % len(_MARKERS)]
            xs, ys = zip(*points, strict=True) if points else ((), ())
            axes.plot(xs, ys, marker=marker, markersize=5, color=colour, label=label)
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_locator(FixedLocator(lengths))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticks(lengths, [_short(length) for length in lengths])
        axes.set_xlabel("tokens")
        axes.set_ylabel(unit)
        axes.set_title(title)
        axes.legend(fontsize=8.5, title="slope of the line", title_fontsize=8.5)
    return drawing


def draw_accuracies(accuracies: Mapping[str, Sequence[float]]) -> Figure:
    """Accuracy of each network, a row a network: a point a run, and a bar at the mean."""
    drawing = figure(7.0, 1.1 + 0.36 * len(accuracies))
    axes = drawing.add_subplot()
    for row, values in enumerate(accuracies.values()):
        axes.plot(values, [row] * len(values), "o", color=BLUE, alpha=0.6, markersize=6)
        if len(values):
            axes.plot([np.mean(values)], [row], "|", color=INK, markersize=17, markeredgewidth=2)
    axes.set_yticks(range(len(accuracies)), list(accuracies))
    axes.set_ylim(len(accuracies) - 0.5, -0.5)
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xlabel("accuracy (points: runs; bars: means)")
    return drawing


def draw_trade_off(rows: Sequence[Mapping[str, Any]], *, speed_label: str) -> Figure:
    """Accuracy against speed, a disc an attention, whose area is its memory.

    A row has name, accuracy (0 to 1), speed (above 0, larger is faster) and memory_mb (above 0).
    Up and to the right is better, and so is a small disc.
    """
    if not rows:
        raise InputError("rows: expected at least one attention to draw")
    drawing = figure(7.4, 4.8)
    axes = drawing.add_subplot()
    largest = max(float(row["memory_mb"]) for row in rows)
    area = 2600 / largest
    above = _labels_above([(float(row["speed"]), float(row["accuracy"])) for row in rows])
    for row, over in zip(rows, above, strict=True):
        ours = str(row["name"]).startswith("adamra")
        size = float(row["memory_mb"]) * area
        axes.scatter(
            [row["speed"]], [row["accuracy"]], s=size, color=VERMILION if ours else BLUE,
            alpha=0.55, edgecolors="white", linewidths=1, zorder=2,
        )  # fmt: skip
        distance = math.sqrt(size / math.pi) + 3
        axes.annotate(
            f"{row['name']}\n{float(row['memory_mb']):,.0f} MiB", (row["speed"], row["accuracy"]),
            zorder=3, fontsize=8.5, linespacing=1.1, weight="bold" if ours else "normal",
            xytext=(0, distance if over else -distance), textcoords="offset points",
            ha="center", va="bottom" if over else "top",
        )  # fmt: skip
    axes.set_xscale("log")
    ticks = _spread(sorted({float(f"{float(row['speed']):.2g}") for row in rows}))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.margins(0.16, 0.22)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xlabel(speed_label)
    axes.set_ylabel("accuracy")
    axes.set_title("Accuracy, speed and memory (area of a disc)")
    return drawing


def draw_accuracy_by_depth(
    depths: Int[np.ndarray, " count"],
    correct: Bool[np.ndarray, " count"],
    baselines: Mapping[str, float] | None = None,
) -> Figure:
    """Accuracy on ListOps by the depth of the tree, with 95 % Wilson intervals and counts.

    `baselines` are accuracies on all depths together, drawn as lines.
    """
    drawing = figure(6.6, 4.0)
    axes = drawing.add_subplot()
    levels = np.unique(depths)
    for depth in levels:
        right = correct[depths == depth]
        low, high = wilson_interval(int(right.sum()), len(right))
        axes.bar([depth], [right.mean()], width=0.7, color=BLUE)
        axes.plot([depth, depth], [low, high], color=INK, linewidth=1.2)
        axes.annotate(
            f"{len(right):,}", (depth, high), xytext=(0, 3), textcoords="offset points",
            fontsize=8.5, color=GREY, ha="center",
        )  # fmt: skip
    lines = {"all depths": float(correct.mean()), **(baselines or {})}
    for (name, value), style in zip(lines.items(), ("-", "--", ":", "-.") * 4, strict=False):
        colour = INK if name == "all depths" else VERMILION
        axes.axhline(value, color=colour, linestyle=style, linewidth=1.2, label=name)
    axes.set_ylim(0, min(1.0, max(axes.get_ylim()[1] * 1.25, 0.3)))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(False, axis="x")
    axes.set_xlabel("depth of the tree")
    axes.set_ylabel("accuracy")
    axes.set_title("Accuracy by depth (numbers: sequences)")
    axes.legend(ncols=3, loc="upper center", fontsize=8.5)
    return drawing


def draw_confusion(
    labels: Int[np.ndarray, " count"],
    predicted: Int[np.ndarray, " count"],
    class_names: Sequence[str],
) -> Figure:
    """How often each class was taken for each, as shares of the true class."""
    count = len(class_names)
    counts = np.zeros((count, count))
    np.add.at(counts, (labels, predicted), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = max(2.6, 0.44 * count)
    drawing = figure(side + 2.2, side + 1.1)
    axes = drawing.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.grid(False)
    if count <= 20:
        for row in range(count):
            for column in range(count):
                if counts[row, column]:
                    axes.text(
                        column, row, f"{counts[row, column]:,.0f}", ha="center", va="center",
                        fontsize=8.5, color="white" if shares[row, column] > 0.6 else INK,
                    )  # fmt: skip
    names = [name if len(name) <= 16 else name[:15] + "…" for name in class_names]
    if max(map(len, names)) <= 5:
        axes.set_xticks(range(count), names)
    else:
        axes.set_xticks(range(count), names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(count), names)
    axes.set_xlabel("answer")
    axes.set_ylabel("class")
    axes.set_title(f"{float((labels == predicted).mean()):.1%} of {len(labels):,} are right")
    colorbar = drawing.colorbar(image, ax=axes, shrink=0.8, format=PercentFormatter(1))
    colorbar.outline.set_visible(False)
    return drawing


def draw_pathfinder(
    images: UInt8[np.ndarray, "count side side"],
    labels: Int[np.ndarray, " count"],
    columns: int = 6,
) -> Figure:
    """Pathfinder pictures in a grid, each with its answer: are the dots joined?"""
    rows = math.ceil(len(images) / columns)
    drawing = figure(1.45 * columns, 1.68 * rows)
    panels = drawing.subplots(rows, columns, squeeze=False).flatten()
    for axes in panels:
        axes.set_axis_off()
    for axes, image, label in zip(panels, images, labels, strict=False):
        axes.imshow(image, cmap="gray", interpolation="nearest")
        axes.set_title("joined" if label else "apart", fontsize=9, pad=3,
                       color=BLUE if label else VERMILION, loc="center")  # fmt: skip
    return drawing


def wilson_interval(successes: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share by Wilson's score (1927)."""
    z = 1.959963984540054
    if count == 0:
        return 0.0, 1.0
    share, weight = successes / count, z * z / count
    middle = (share + weight / 2) / (1 + weight)
    half = z / (1 + weight) * math.sqrt(share * (1 - share) / count + weight / (4 * count))
    return max(0.0, middle - half), min(1.0, middle + half)


def _check_choices(
    choices: Int[np.ndarray, "layers length"], length: int, rates: Sequence[int]
) -> None:
    if choices.shape[1] != length:
        raise InputError(f"choices: expected {length} a layer, found {choices.shape[1]}")
    if choices.size and not 0 <= choices.min() <= choices.max() < len(rates):
        raise InputError(f"choices: expected indices of the {len(rates)} rates")


def _resolution_legend(drawing: Figure, rates: Sequence[int]) -> None:
    handles = [
        Patch(facecolor=colour, label="each token" if rate == 1 else f"means of {rate}")
        for colour, rate in zip(resolution_colours(len(rates)), rates, strict=True)
    ]
    drawing.legend(
        handles=handles, loc="outside lower left", ncols=len(rates), fontsize=9,
        handlelength=1.1, handleheight=1.1, columnspacing=1.6,
    )  # fmt: skip


def _stacked_bars(axes: Any, shares: Float[np.ndarray, "bars rates"], colours: list[str]) -> None:
    below = np.zeros(len(shares))
    for column, colour in zip(shares.T, colours, strict=True):
        axes.bar(range(len(shares)), column, bottom=below, width=0.7, color=colour, linewidth=0)
        below = below + column
    axes.set_xlim(-0.6, len(shares) - 0.4)


def _with_slope(name: str, points: Sequence[tuple[int, float]]) -> str:
    try:
        slope = fit_slope([length for length, _ in points], [value for _, value in points])
    except InputError:
        return name
    return f"{name}, {slope:.2f}"


def _short(length: int) -> str:
    """A length as people say it: 2K for 2,048 and 500 for 500."""
    return f"{length // 1024}K" if length % 1024 == 0 else str(length)


def _labels_above(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Whether a disc's label stands above it: not where a higher disc's, near by, does so too."""
    speeds, accuracies = np.log([x for x, _ in points]), np.array([y for _, y in points])
    wide, tall = (max(float(np.ptp(axis)), 1e-9) for axis in (speeds, accuracies))
    above = [True] * len(points)
    for index in np.argsort(-accuracies, kind="stable"):
        near = (np.abs(speeds - speeds[index]) < 0.16 * wide) & (
            np.abs(accuracies - accuracies[index]) < 0.16 * tall
        )
        near[index] = False
        higher = near & (accuracies >= accuracies[index])
        above[index] = not any(above[other] for other in np.flatnonzero(higher) if other != index)
    return above


def _spread(ticks: Sequence[float]) -> list[float]:
    """Those of sorted ticks that are far enough apart on a logarithmic axis to be read."""
    span = math.log(ticks[-1] / ticks[0]) or 1.0
    kept = [ticks[0]]
    for tick in ticks[1:]:
        if math.log(tick / kept[-1]) > 0.07 * span:
            kept.append(tick)
    return kept
