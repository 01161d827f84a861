"""Charts: the house's look stays inside its figures, and files are the same bytes each time."""

import itertools
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from jaxtyping import Float
from matplotlib.figure import Figure

from workingpapers.foundation import plots
from workingpapers.foundation.errors import InputError

DRAW = """
import sys
from pathlib import Path
from workingpapers.foundation import plots
figure = plots.figure()
axes = figure.subplots()
axes.plot([0, 1, 2], [3, 1, 2], marker="o", label="one")
axes.fill_between([0, 1, 2], [3, 1, 2], hatch="/")
axes.set_title("A title")
axes.legend()
plots.save(figure, Path(sys.argv[1]))
"""


# Machado, Oliveira and Fernandes (2009), severity 1: what is left of linear RGB.
SIGHT = {
    "full": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def draw() -> Figure:
    figure = plots.figure()
    left, right = figure.subplots(1, 2)
    left.plot([0, 1, 2], [3, 1, 2], marker="o", label="one")
    left.plot([0, 1, 2], [1, 2, 2.5], label="two")
    left.set_title("Lines")
    left.legend()
    right.imshow(np.arange(12).reshape(3, 4))
    return figure


def linear(colour: str) -> Float[np.ndarray, "3"]:
    channels = np.array(matplotlib.colors.to_rgb(colour))
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def contrast_on_white(colour: str) -> float:
    return 1.05 / (float(linear(colour) @ [0.2126, 0.7152, 0.0722]) + 0.05)


def lab(rgb: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3"]:
    """CIE L*a*b* of linear sRGB under D65."""
    to_xyz = [[0.41246, 0.35758, 0.18044], [0.21267, 0.71515, 0.07218], [0.01933, 0.11919, 0.9503]]
    xyz = to_xyz @ np.clip(rgb, 0, 1) / [0.95047, 1, 1.08883]
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize(
    ("extension", "magic"), [("svg", b"<?xml"), ("png", b"\x89PNG\r\n\x1a\n"), ("pdf", b"%PDF-")]
)
def test_two_drawings_of_the_same_chart_are_saved_as_the_same_bytes(
    tmp_path: Path, extension: str, magic: bytes
) -> None:
    for name in ("first", "second"):
        plots.save(draw(), tmp_path / f"{name}.{extension}")
    first, second = (tmp_path / f"{name}.{extension}" for name in ("first", "second"))
    assert first.read_bytes().startswith(magic)
    assert first.read_bytes() == second.read_bytes()
    assert sorted(tmp_path.iterdir()) == [first, second]


def test_another_process_with_another_hash_seed_saves_the_same_svg(tmp_path: Path) -> None:
    for seed in ("1", "2"):
        subprocess.run(
            [sys.executable, "-c", DRAW, tmp_path / f"{seed}.svg"],
            check=True,
            env={"PYTHONHASHSEED": seed, "MPLCONFIGDIR": matplotlib.get_configdir()},
        )
    assert (tmp_path / "1.svg").read_bytes() == (tmp_path / "2.svg").read_bytes()


def test_an_svg_is_complete_in_itself_and_has_the_size_asked_for(tmp_path: Path) -> None:
    plots.save(plots.figure(5, 3), tmp_path / "empty.svg")
    root = ElementTree.parse(tmp_path / "empty.svg").getroot()
    assert (root.get("width"), root.get("height")) == ("360pt", "216pt")
    plots.save(draw(), tmp_path / "chart.svg")
    root = ElementTree.parse(tmp_path / "chart.svg").getroot()
    names = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert "text" not in names, "letters are outlines, which need no font on the reader's machine"
    link = "{http://www.w3.org/1999/xlink}href"
    links = [element.get(link) for element in root.iter() if element.get(link)]
    assert links
    assert all(target.startswith(("#", "data:")) for target in links)


def test_the_look_holds_in_the_figure_and_leaves_matplotlib_as_it_was(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    figure = draw()
    left, right = figure.axes
    plots.save(figure, tmp_path / "chart.svg")
    assert dict(matplotlib.rcParams) == before
    assert [line.get_color() for line in left.get_lines()] == list(plots.PALETTE[:2])
    assert {line.get_linewidth() for line in left.get_lines()} == {1.8}
    assert not left.spines["top"].get_visible()
    assert not left.get_legend().get_frame_on()
    assert left.get_title(loc="left") == "Lines"
    assert left.xaxis.get_major_ticks()[0].gridline.get_color() == plots.RULE
    assert right.get_images()[0].get_cmap().name == "cividis"


@pytest.mark.parametrize("sight", SIGHT)
def test_series_colours_are_told_apart_with_every_kind_of_colour_vision(sight: str) -> None:
    seen = [lab(np.array(SIGHT[sight]) @ linear(colour)) for colour in plots.PALETTE]
    assert len(seen) == 7
    for first, second in itertools.combinations(seen, 2):
        # A difference of 2.3 is just noticeable.
        assert np.linalg.norm(first - second) > 15


def test_series_and_letters_stand_out_from_white() -> None:
    assert min(contrast_on_white(colour) for colour in plots.PALETTE) > 2
    assert min(contrast_on_white(colour) for colour in (plots.INK, plots.GREY)) > 4.5


def test_another_extension_is_an_error_that_names_the_file_and_writes_nothing(
    tmp_path: Path,
) -> None:
    path = tmp_path / "chart.jpg"
    with pytest.raises(InputError) as error:
        plots.save(plots.figure(), path)
    assert str(error.value) == f"{path}: expected a name that ends in .svg, .png or .pdf"
    assert list(tmp_path.iterdir()) == []
