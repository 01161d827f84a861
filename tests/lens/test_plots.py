"""Pictures show what they say: every class, every term, every count."""

import numpy as np
import pytest

from workingpapers.foundation.errors import InputError
from workingpapers.foundation.plots import save
from workingpapers.lens import LENCascade, LENClassifier
from workingpapers.lens.data import fabricated_cascade
from workingpapers.lens.formula import Formula
from workingpapers.lens.plots import (
    PLOTS,
    draw,
    draw_cascade,
    draw_comparison,
    draw_confusion,
    draw_consistency,
)


def texts(figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


@pytest.mark.parametrize("plot", PLOTS)
def test_every_plot_of_a_model_is_drawn_and_saved(iris_model, tmp_path, plot):
    model, _ = iris_model
    save(draw(plot, model, model.explain()), tmp_path / "p.svg")
    assert (tmp_path / "p.svg").stat().st_size > 2000


def test_a_card_has_every_concept_of_every_term_and_its_rows(rule_model):
    model, X, y = rule_model
    shown = texts(draw("cards", model, model.explain()))
    assert {"yes", "no", "c0", "c1", "c2", "not c3"} <= set(shown)
    both = int((X[:, 0] & X[:, 1]).sum())
    assert f"{both} rows, 100%" in shown
    assert any("observed, minimum; 4 literals" in text for text in shown)
    assert sum(y == "yes") > both


def test_a_confusion_counts_every_row_once_a_class(rule_model):
    model, X, _ = rule_model
    shown = [int(text) for text in texts(draw_confusion(model, X))]
    assert sum(shown) == 2 * len(X)
    assert shown[1] == shown[2] == 0


def test_names_with_dollars_are_not_taken_for_mathematics(tmp_path):
    X = np.random.default_rng(0).integers(0, 2, (100, 2))
    names = ["cost > 5$ & $tax", "x_1^2 {raw}"]
    model = LENClassifier(epochs=40, max_concepts=2).fit(X, X[:, 0], concept_names=names)
    for plot in PLOTS:
        save(draw(plot, model, model.explain()), tmp_path / f"{plot}.png")


def test_consistency_cascade_and_comparison_are_drawn(tmp_path):
    names = ["a", "b", "c"]
    folds = [Formula.parse("a & b", names), Formula.parse("a | c", names)]
    figure = draw_consistency(folds, "class x")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["a", "b", "c"]
    data = fabricated_cascade(rows=300)
    middle = np.column_stack([data.middle.column(name) for name in data.middle.names]).astype(int)
    stage = LENClassifier(max_concepts=5, epochs=60)
    cascade = LENCascade(stage, stage).fit(
        data.low, middle, data.target, middle_names=data.middle.names
    )
    figure = draw_cascade(cascade.middle_formulas(), cascade.formulas(expanded=False))
    assert {"democratic", "not democratic"} <= set(texts(figure))
    rows = [{"method": "one", "literals": 3.0, "explanation_accuracy": 0.9}]
    save(draw_comparison(rows), tmp_path / "c.svg")


def test_an_unknown_plot_is_named(iris_model):
    model, _ = iris_model
    with pytest.raises(InputError, match="--plot pie: expected cards, front, relevance, coverage"):
        draw("pie", model, model.explain())
