"""The look of every chart of the house, and files of charts that are the same bytes each time."""

import io
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from cycler import cycler
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.typing import RcKeyType

from workingpapers.foundation.console import write_atomically
from workingpapers.foundation.errors import InputError

# The palette of Okabe and Ito (2008), told apart with every common colour blindness.
BLUE = "#0072B2"
VERMILION = "#D55E00"
GREEN = "#009E73"
ORANGE = "#E69F00"
PURPLE = "#CC79A7"
SKY_BLUE = "#56B4E9"
YELLOW = "#F0E442"
BLACK = "#000000"

PALETTE = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY_BLUE, BLACK)
"""The order in which series take their colours; yellow lines are too pale on white."""

INK = "#2B2A28"
GREY = "#6B6860"
RULE = "#E2DED6"

_STYLE: dict[RcKeyType, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10.5,
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.prop_cycle": cycler(color=PALETTE),
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "lines.linewidth": 1.8,
    "errorbar.capsize": 3,
    "legend.frameon": False,
    "image.cmap": "cividis",
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    # Letters as outlines: a chart looks the same on a machine that lacks the font.
    "svg.fonttype": "path",
    "svg.hashsalt": "workingpapers",
    "pdf.fonttype": 42,
}

# What each format would otherwise write of the clock and of matplotlib's version.
_METADATA: dict[str, dict[str, None]] = {
    ".svg": {"Date": None, "Creator": None},
    ".png": {"Software": None},
    ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
_PNG_DOTS_PER_INCH = 200


def figure(width: float = 6.4, height: float = 4.0) -> Figure:
    """An empty figure, `width` by `height` inches, whose subplots have the house's look.

    Matplotlib's own settings stay as they are. Nothing here uses pyplot.
    """
    with rc_context(_STYLE):
        drawing = _Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(drawing)
    return drawing


def save(figure: Figure, path: Path) -> None:
    """Write `figure` to `path` as .svg, .png or .pdf, atomically; equal figures, equal bytes.

    Raises InputError for any other extension.
    """
    suffix = path.suffix.lower()
    if suffix not in _METADATA:
        raise InputError(f"{path}: expected a name that ends in .svg, .png or .pdf")
    content = io.BytesIO()
    with rc_context(_STYLE):
        figure.savefig(
            content, format=suffix[1:], metadata=_METADATA[suffix], dpi=_PNG_DOTS_PER_INCH
        )
    write_atomically(path, content.getvalue())


def _in_style(method: Callable[..., Any]) -> Callable[..., Any]:
    """`method` with the house's style in force while it runs, and only then."""

    @wraps(method)
    def styled(*args: Any, **options: Any) -> Any:
        with rc_context(_STYLE):
            return method(*args, **options)

    return styled


# Matplotlib's artists read the style when they are made, so the methods that make them are the
# ones that need it.
class _Axes(Axes):
    clear = _in_style(Axes.clear)
    plot = _in_style(Axes.plot)
    errorbar = _in_style(Axes.errorbar)
    imshow = _in_style(Axes.imshow)
    pcolormesh = _in_style(Axes.pcolormesh)
    text = _in_style(Axes.text)
    annotate = _in_style(Axes.annotate)
    legend = _in_style(Axes.legend)
    set_title = _in_style(Axes.set_title)
    set_xticks = _in_style(Axes.set_xticks)
    set_yticks = _in_style(Axes.set_yticks)


class _Figure(Figure):
    def add_subplot(self, *args: Any, **options: Any) -> Any:
        if "projection" not in options and "polar" not in options:
            options.setdefault("axes_class", _Axes)
        with rc_context(_STYLE):
            return super().add_subplot(*args, **options)

    suptitle = _in_style(Figure.suptitle)
    legend = _in_style(Figure.legend)
    colorbar = _in_style(Figure.colorbar)
    text = _in_style(Figure.text)
