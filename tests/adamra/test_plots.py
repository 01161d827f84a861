"""Pictures show what they say: every sign, every share, every slope."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from workingpapers.adamra.plots import (
    LONGEST_TEXT,
    draw_accuracies,
    draw_accuracy_by_depth,
    draw_confusion,
    draw_growth,
    draw_pathfinder,
    draw_routing_image,
    draw_routing_text,
    draw_shares_by_step,
    draw_trade_off,
    ink_on,
    resolution_colours,
    wilson_interval,
)
from workingpapers.foundation.errors import InputError
from workingpapers.foundation.plots import save

RATES = (1, 4, 16)


def texts(axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def colours(axes) -> list[str]:
    return [to_hex(patch.get_facecolor()) for patch in axes.patches]


def legend(drawing) -> list[str]:
    (found,) = drawing.legends
    return [text.get_text() for text in found.get_texts()]


def test_a_text_is_drawn_sign_by_sign_in_the_colour_of_its_resolution(tmp_path):
    choices = np.array([[0, 1, 2, 2], [2, 2, 0, 1]])
    drawing = draw_routing_text(list("a $b"), choices, RATES)
    scale = resolution_colours(3)
    for axes, layer in zip(drawing.axes, choices, strict=True):
        assert texts(axes) == ["a", " ", "$", "b"]
        assert colours(axes) == [scale[choice] for choice in layer]
    assert [axes.get_title(loc="left") for axes in drawing.axes] == ["Layer 1", "Layer 2"]
    assert legend(drawing) == ["each token", "means of 4", "means of 16"]
    save(drawing, tmp_path / "text.svg")
    assert (tmp_path / "text.svg").stat().st_size > 2000


def test_words_do_not_overlap_and_long_texts_are_cut():
    words = ["[MAX", "3", "]"] * 300
    drawing = draw_routing_text(words, np.zeros((1, 900), np.int64), RATES)
    (axes,) = drawing.axes
    assert len(texts(axes)) == LONGEST_TEXT
    assert axes.get_title(loc="left") == f"Layer 1, the first {LONGEST_TEXT} of 900 symbols"
    boxes = [(patch.get_y(), patch.get_x(), patch.get_x() + patch.get_width())
             for patch in axes.patches]  # fmt: skip
    assert max(right for _, _, right in boxes) <= axes.get_xlim()[1]
    for (row, _, right), (next_row, left, _) in pairwise(boxes):
        assert next_row > row or left > right


def drawings() -> dict[str, Callable[[], Figure]]:
    """How to draw every kind of picture."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 30)
    images = rng.integers(0, 256, (4, 8, 8)).astype(np.uint8)
    growth = {"name": "a", "lengths": [8, 16], "cpu_seconds": [1.0, 2.0], "peak_mb": [1.0, 4.0]}
    disc = {"name": "a", "accuracy": 0.4, "speed": 4.0, "memory_mb": 9.0}
    return {
        "text": lambda: draw_routing_text(list("ab"), np.array([[0, 1]]), RATES),
        "image": lambda: draw_routing_image(images[0], rng.integers(0, 3, (1, 8, 8)), RATES),
        "shares": lambda: draw_shares_by_step(
            rng.dirichlet([1, 1, 1], (3, 1)).tolist(), RATES, [1, 2, 3]
        ),
        "growth": lambda: draw_growth([growth]),
        "accuracies": lambda: draw_accuracies({"a": [0.5]}),
        "trade-off": lambda: draw_trade_off([disc], speed_label="steps a second"),
        "depth": lambda: draw_accuracy_by_depth(rng.integers(1, 4, 30), labels == 0),
        "confusion": lambda: draw_confusion(labels, labels[::-1].copy(), ("x", "y")),
        "pathfinder": lambda: draw_pathfinder(images, labels[:4]),
    }


def test_equal_data_give_equal_files(tmp_path):
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
        for name, draw in drawings().items():
            save(draw(), tmp_path / folder / f"{name}.svg")
    for file in sorted((tmp_path / "one").iterdir()):
        assert file.read_bytes() == (tmp_path / "other" / file.name).read_bytes(), file.name


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("shares", [("training step", "share of tokens"), ("layer", "")]),
        ("growth", [("tokens", "seconds"), ("tokens", "MiB")]),
        ("accuracies", [("accuracy (points: runs; bars: means)", "")]),
        ("depth", [("depth of the tree", "accuracy")]),
        ("confusion", [("answer", "class"), ("", "")]),
    ],
)
def test_axes_say_what_they_measure(name, labels):
    drawing = drawings()[name]()
    assert [(axes.get_xlabel(), axes.get_ylabel()) for axes in drawing.axes] == labels


def test_an_image_has_a_panel_of_choices_a_layer():
    choices = np.random.default_rng(0).integers(0, 3, (2, 4, 4))
    drawing = draw_routing_image(np.arange(16, dtype=np.uint8).reshape(4, 4), choices, RATES)
    shown = [axes.images[0].get_array() for axes in drawing.axes]
    assert [axes.get_title(loc="left") for axes in drawing.axes] == ["Image", "Layer 1", "Layer 2"]
    assert np.array_equal(shown[1], choices[0])
    assert np.array_equal(shown[2], choices[1])
    image = drawing.axes[1].images[0]
    drawn = [to_hex(image.cmap(image.norm(choice))) for choice in range(3)]
    assert drawn == resolution_colours(3)


def test_shares_are_stacked_to_one_at_every_step():
    shares = np.random.default_rng(0).dirichlet([1, 1, 1], (5, 2))
    drawing = draw_shares_by_step(shares.tolist(), RATES, [10, 20, 30, 40, 50])
    first = drawing.axes[0]
    tops = [area.get_paths()[0].vertices[:, 1].max() for area in first.collections]
    assert len(tops) == 3
    assert tops[-1] == pytest.approx(1)
    assert first.get_xlim() == (10, 50)
    heights = [bar.get_height() for bar in drawing.axes[2].patches]
    assert heights == pytest.approx(shares[-1].T.flatten())
    # Without steps, and with a single time.
    assert len(draw_shares_by_step(shares[:1].tolist(), RATES).axes) == 3
    with pytest.raises(InputError, match=r"expected \(times, layers, 2 rates\)"):
        draw_shares_by_step(shares.tolist(), (1, 4))


def test_growth_tells_the_exponent_of_each_line():
    lengths = [1024, 2048, 4096]
    growths = [
        {"name": "linear", "lengths": lengths, "cpu_seconds": [1e-6 * n for n in lengths],
         "peak_mb": [float("nan")] * 3},
        {"name": "quadratic", "lengths": lengths[:2],
         "cpu_seconds": [1e-9 * n * n for n in lengths[:2]], "peak_mb": [1.0, 4.0]},
        {"name": "failed", "lengths": [], "cpu_seconds": [], "peak_mb": []},
    ]  # fmt: skip
    time, memory = draw_growth(growths).axes
    labels = [text.get_text() for text in time.get_legend().get_texts()]
    assert labels == ["linear, 1.00", "quadratic, 2.00", "failed"]
    labels = [text.get_text() for text in memory.get_legend().get_texts()]
    assert labels == ["linear", "quadratic, 2.00", "failed"]
    assert [label.get_text() for label in time.get_xticklabels()] == ["1K", "2K", "4K"]


def test_discs_have_areas_in_the_ratio_of_their_memory():
    rows = [
        {"name": "adamra", "accuracy": 0.4, "speed": 4.0, "memory_mb": 100.0},
        {"name": "softmax", "accuracy": 0.41, "speed": 1.0, "memory_mb": 1600.0},
        {"name": "linear", "accuracy": 0.401, "speed": 4.1, "memory_mb": 50.0},
    ]
    (axes,) = draw_trade_off(rows, speed_label="steps a second").axes
    sizes = [float(disc.get_sizes()[0]) for disc in axes.collections]
    assert sizes[1] / sizes[0] == pytest.approx(16)
    assert texts(axes) == ["adamra\n100 MiB", "softmax\n1,600 MiB", "linear\n50 MiB"]
    # The labels of the two discs that nearly touch stand on different sides.
    sides = [text.get_verticalalignment() for text in axes.texts]
    assert sides[0] != sides[2]
    with pytest.raises(InputError, match="at least one attention"):
        draw_trade_off([], speed_label="")


def test_accuracy_by_depth_has_a_bar_and_a_count_a_depth():
    depths = np.array([2, 2, 2, 2, 5, 5])
    correct = np.array([True, True, True, False, False, True])
    (axes,) = draw_accuracy_by_depth(depths, correct, {"majority class": 0.2}).axes
    assert [bar.get_height() for bar in axes.patches] == [0.75, 0.5]
    assert texts(axes) == ["4", "2"]
    shown = [text.get_text() for text in axes.get_legend().get_texts()]
    assert shown == ["all depths", "majority class"]


def test_wilson_s_interval_against_a_published_value():
    # Newcombe (1998), table I, method 3: 81 of 263, and 0 of 20.
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson_interval(0, 0) == (0.0, 1.0)
    low, high = wilson_interval(7, 20)
    assert wilson_interval(13, 20) == pytest.approx((1 - high, 1 - low))
    for share in (low, high):
        # The ends are where the score test of 7 in 20 just rejects at 5 %.
        score = (7 / 20 - share) / np.sqrt(share * (1 - share) / 20)
        assert abs(score) == pytest.approx(1.959963984540054)


def test_confusion_counts_every_example():
    labels, predicted = np.array([0, 0, 1, 1, 1]), np.array([0, 1, 1, 1, 0])
    axes = draw_confusion(labels, predicted, ("fresh", "a class with a very long name")).axes[0]
    assert sorted(texts(axes)) == ["1", "1", "1", "2"]
    assert axes.get_title(loc="left") == "60.0% of 5 are right"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["fresh", "a class with a …"]


def test_accuracies_have_a_point_a_run():
    (axes,) = draw_accuracies({"ours": [0.5, 0.7], "none": []}).axes
    points, mean = axes.lines[:2]
    assert list(points.get_xdata()) == [0.5, 0.7]
    assert list(mean.get_xdata()) == pytest.approx([0.6])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["ours", "none"]


def test_pathfinder_s_pictures_stand_with_their_answers():
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8)).astype(np.uint8)
    labels = np.array([1, 0, 0, 1])
    drawing = draw_pathfinder(images, labels, columns=3)
    titles = [axes.get_title() for axes in drawing.axes]
    assert titles == ["joined" if label else "apart" for label in labels] + ["", ""]
    assert np.array_equal(drawing.axes[3].images[0].get_array(), images[3])


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_colours_grow_lighter_and_letters_on_them_are_legible(count):
    def luminance(colour: str) -> float:
        channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    scale = [luminance(colour) for colour in resolution_colours(count)]
    assert scale == sorted(set(scale))
    for colour in resolution_colours(count):
        low, high = sorted([luminance(colour), luminance(ink_on(colour))])
        # Web Content Accessibility Guidelines ask for 3 of large text.
        assert (high + 0.05) / (low + 0.05) > 3
