"""Model folders: the same answers after a round trip, no row of data, one line for each fault."""

import json

import numpy as np
import pytest

from workingpapers.foundation.errors import InputError
from workingpapers.lens import LENClassifier, LENClusterer, load_model, save_model
from workingpapers.lens.data import load


def test_a_saved_model_answers_as_the_fitted_one(iris_model, tmp_path):
    model, data = iris_model
    save_model(model, tmp_path / "m", target="species")
    again = load_model(tmp_path / "m")
    assert (again.decision_function(data.table) == model.decision_function(data.table)).all()
    assert str(again.explain()) == str(model.explain())
    assert again.explain().fidelity == model.explain().fidelity
    assert again.classes_.tolist() == model.classes_.tolist()
    assert again.evaluate(data.table, data.target)["classes"].keys() == {
        str(label) for label in model.classes_
    }


@pytest.mark.parametrize("y", [[0, 1] * 20, [1.5, 2.5] * 20, [True, False] * 20, ["a", "b"] * 20])
def test_classes_keep_their_type(y, tmp_path):
    X = np.random.default_rng(0).random((40, 3))
    labels = [str(one) for one in y] if isinstance(y[0], float) else y
    model = LENClassifier(epochs=20).fit(X, labels)
    save_model(model, tmp_path / "m")
    again = load_model(tmp_path / "m")
    assert again.predict(X).dtype.kind == model.predict(X).dtype.kind
    assert (again.predict(X) == model.predict(X)).all()


def test_clusterers_and_degrees_are_kept_too(tmp_path):
    data = load("votes")
    clusters = LENClusterer(2, epochs=40, restarts=1).fit(data.table)
    save_model(clusters, tmp_path / "c")
    assert (load_model(tmp_path / "c").predict(data.table) == clusters.labels_).all()
    X = np.random.default_rng(0).random((60, 3))
    soft = LENClassifier(booleanizer=None, epochs=40).fit(X, X[:, 0] > 0.5)
    save_model(soft, tmp_path / "s")
    assert (load_model(tmp_path / "s").decision_function(X) == soft.decision_function(X)).all()


def test_no_row_of_the_data_is_in_the_folder(tmp_path):
    rng = np.random.default_rng(0)
    secret = rng.uniform(1e6, 2e6, 200)
    table = {"salary": secret, "noise": rng.random(200)}
    model = LENClassifier(epochs=20).fit(table, secret > 1.5e6)
    save_model(model, tmp_path / "m")
    thresholds = {one.value for one in model.predicates_.values()}
    text = (tmp_path / "m" / "config.json").read_text()
    for value in secret:
        assert value in thresholds or repr(float(value)) not in text
    assert sum(model.patterns_.totals.sum(axis=1)) == 200
    assert len(model.patterns_.concepts) < 30


@pytest.fixture
def saved(iris_model, tmp_path):
    folder = tmp_path / "m"
    save_model(iris_model[0], folder)
    return folder


def message(folder) -> str:
    with pytest.raises(InputError) as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_damaged_folders_are_named(saved):
    network = saved / "network.safetensors"
    whole = network.read_bytes()
    network.write_bytes(whole[: len(whole) // 2])
    assert str(network) in message(saved)
    network.unlink()
    assert "network.safetensors" in message(saved)
    network.write_bytes(whole)
    load_model(saved)


def test_a_config_of_another_version_or_none_is_named(saved):
    file = saved / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "format": 99}))
    assert str(file) in message(saved)
    assert "99" in message(saved)
    file.write_text("not JSON")
    assert str(file) in message(saved)
    file.unlink()
    assert str(saved) in message(saved)


def test_a_config_that_does_not_fit_its_tensors_is_refused(saved):
    file = saved / "config.json"
    text = file.read_text()
    assert '"mu"' in text
    file.write_text(text.replace('"mu"', '"relu"'))
    assert "no usable model" in message(saved)


def test_a_folder_in_use_is_not_overwritten(iris_model, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        save_model(iris_model[0], tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "mine"
