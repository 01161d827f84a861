"""Pictures show what they say: every weight above its word, every number in its cell."""

from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.figure import Figure

from workingpapers.demix import plots
from workingpapers.demix.plots import (
    MOST_AREAS,
    draw_bars,
    draw_learning,
    draw_matrix,
    draw_posterior,
    draw_similarity,
)
from workingpapers.foundation.errors import InputError

DOMAINS = (
    "pycode", "cxx", "licences", "shakespeare", "scripture", "wiki", "reviews", "speeches",
    "news", "tweets", "amazon", "readme", "milton",
)  # fmt: skip
RNG = np.random.default_rng(0)


def weights_of(experts: int, tokens: int) -> np.ndarray:
    weights = np.random.default_rng(1).random((experts, tokens))
    return weights / weights.sum(0)


def texts(axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def labels(found) -> list[str]:
    return [text.get_text() for text in found.get_texts()]


def heights(area) -> list[float]:
    """Of one area of the stack, from left to right: each step once."""
    (path,) = area.get_paths()
    return sorted({round(float(y), 9) for y in path.vertices[:, 1]})


def test_words_stand_below_the_weights_that_they_had():
    weights = np.array([[0.25, 0.5, 0.5], [0.75, 0.5, 0.5]])
    drawing = draw_posterior(["Hi", " a\n", "$x$"], weights, ["news", "code"])
    (axes,) = drawing.axes
    assert texts(axes) == ["Hi", " a↵", "$x$"]
    assert [text.get_position()[0] for text in axes.texts] == [1, 3.5, 6.5]
    first, second = axes.collections
    assert heights(first) == [0, 0.25, 0.5]
    assert heights(second) == [0.25, 0.5, 1]
    (legend,) = drawing.legends
    assert labels(legend) == ["news", "code"]


def test_a_long_text_has_lines_and_an_end(monkeypatch):
    monkeypatch.setattr(plots, "LONGEST_TEXT", 60)
    pieces = ["words"] * 65
    drawing = draw_posterior(pieces, weights_of(3, len(pieces)), DOMAINS[:3])
    assert sum(len(axes.texts) for axes in drawing.axes) == 60
    assert drawing.axes[0].get_title(loc="left") == (
        "Weights of the experts, the first 60 of 65 tokens"
    )
    limits = {axes.get_xlim() for axes in drawing.axes}
    assert len(limits) == 1
    assert len(drawing.axes) == 4


def test_letters_that_no_font_has_and_tokens_without_text_have_signs():
    drawing = draw_posterior(["日本", "", "é\t"], weights_of(2, 3), DOMAINS[:2])
    assert texts(drawing.axes[0]) == ["▯▯", "·", "é→"]


@pytest.mark.parametrize("experts", [13, MOST_AREAS])
def test_no_two_experts_look_the_same(experts):
    drawing = draw_posterior(["a", "b"], weights_of(experts, 2), [f"d{i}" for i in range(experts)])
    looks = {
        (tuple(area.get_facecolor()[0]), area.get_hatch()) for area in drawing.axes[0].collections
    }
    assert len(looks) == experts


def test_of_very_many_experts_the_lightest_are_one():
    weights = weights_of(40, 3)
    drawing = draw_posterior(["a", "b", "c"], weights, [f"d{i}" for i in range(40)])
    (legend,) = drawing.legends
    heaviest = sorted(np.argsort(-weights.mean(1))[: MOST_AREAS - 1])
    assert labels(legend) == [*(f"d{i}" for i in heaviest), "25 others"]
    assert max(heights(drawing.axes[0].collections[-1])) == pytest.approx(1)


def test_a_matrix_has_its_numbers_and_the_best_of_each_domain_in_bold():
    perplexity = np.array([[10.0, 250.4], [4000.0, 99.99], [50.55, 9.5]])
    drawing = draw_matrix(perplexity, ["a", "b", "c"], ["a", "b"])
    axes = drawing.axes[0]
    assert texts(axes) == ["10.0", "250", "4,000", "100", "50.5", "9.50"]
    bold = [text.get_text() for text in axes.texts if text.get_weight() == "bold"]
    assert bold == ["10.0", "9.50"]
    shown = axes.images[0].get_array()
    np.testing.assert_allclose(shown, perplexity / perplexity.min(0))
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "c"]


def test_bars_are_as_long_as_their_numbers():
    drawing = draw_bars(["a", "b"], {"dense": [100.0, 50.0], "DEMix": [80.0, 49.5]})
    (axes,) = drawing.axes
    assert [bar.get_width() for bar in axes.patches] == [100, 50, 80, 49.5]
    assert texts(axes) == ["100", "50.0", "80.0", "49.5"]
    middles = [bar.get_y() + bar.get_height() / 2 for bar in axes.patches]
    assert (np.argsort(middles) == [0, 2, 1, 3]).all()
    (legend,) = drawing.legends
    assert labels(legend) == ["dense", "DEMix"]


def test_curves_go_through_their_points():
    drawing = draw_learning({"dense": ([1e5, 2e5], [300.0, 200.0]), "DEMix": ([1e5], [250.0])})
    (axes,) = drawing.axes
    assert [line.get_ydata().tolist() for line in axes.lines] == [[300, 200], [250]]
    assert labels(axes.get_legend()) == ["dense", "DEMix"]


def test_near_experts_are_joined_first():
    at = np.array([0.0, 5.0, 1.0])
    drawing = draw_similarity(np.abs(at[:, None] - at), ["a", "far", "b"])
    (axes,) = drawing.axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert abs(names.index("a") - names.index("b")) == 1
    joined = sorted(float(max(line.get_xdata())) for line in axes.lines)
    assert joined == pytest.approx([1, 4.5])


def drawings() -> dict[str, Callable[[], Figure]]:
    """How to draw every picture with thirteen domains."""
    square = np.exp(RNG.normal(5, 0.3, (13, 13)))
    series = {name: RNG.uniform(50, 150, 13).tolist() for name in ("dense", "token", "DEMix")}
    at = RNG.random((13, 3))
    distances = np.sqrt(((at[:, None] - at) ** 2).sum(-1))
    return {
        "posterior": lambda: draw_posterior([" word"] * 40, weights_of(13, 40), DOMAINS),
        "matrix": lambda: draw_matrix(square, DOMAINS, DOMAINS),
        "bars": lambda: draw_bars(DOMAINS, series),
        "similarity": lambda: draw_similarity(distances, DOMAINS),
    }


@pytest.mark.parametrize("name", drawings())
def test_no_label_lies_on_another(name):
    drawing = drawings()[name]()
    drawing.canvas.draw()
    renderer = drawing.canvas.get_renderer()
    axes = drawing.axes[0]
    rows = [axes.get_yticklabels(), axes.texts, drawing.legends[0].get_texts()
            if drawing.legends else []]  # fmt: skip
    for row in rows:
        boxes = [text.get_window_extent(renderer) for text in row if text.get_text().strip()]
        assert all(
            not (one.x0 < other.x1 - 1 and other.x0 < one.x1 - 1
                 and one.y0 < other.y1 - 1 and other.y0 < one.y1 - 1)
            for number, one in enumerate(boxes) for other in boxes[:number]
        )  # fmt: skip
        inside = drawing.bbox
        assert all(box.x0 >= 0 and box.x1 <= inside.x1 for box in boxes)


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (
            lambda: draw_posterior(["a"], weights_of(2, 3), ["x", "y"]),
            "weights: expected the shape (2, 1), found (2, 3)",
        ),
        (
            lambda: draw_matrix(np.ones((2, 2)), ["x"], ["x", "y"]),
            "perplexity: expected the shape (1, 2), found (2, 2)",
        ),
        (
            lambda: draw_bars(["x", "y"], {"dense": [1.0]}),
            "series 'dense': expected 2 values, found 1",
        ),
        (
            lambda: draw_learning({"dense": ([1.0], [])}),
            "series 'dense': expected 1 values, found 0",
        ),
        (
            lambda: draw_similarity(np.zeros((1, 1)), ["x"]),
            "distances: expected a square of 1 experts, two or more, found (1, 1)",
        ),
        (
            lambda: draw_similarity(np.array([[0.0, 1.0], [2.0, 0.0]]), ["x", "y"]),
            "distances: expected a symmetric matrix with zeros on its diagonal",
        ),
    ],
)
def test_refusals(draw, message):
    with pytest.raises(InputError) as refused:
        draw()
    assert str(refused.value) == message
