"""Pathfinder: what the label says is in the picture, nothing simpler tells it, files come back."""

import itertools
import re

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from workingpapers.adamra import pathfinder as module
from workingpapers.adamra import pathfinder_kernels as kernels
from workingpapers.adamra.pathfinder import CONTOURS, Pathfinder, read_folder, write_folder
from workingpapers.foundation.errors import InputError

KINDS = [(32, 6), (32, 9), (32, 14), (64, 9)]


def scenes(side, contour, count, seed=0):
    return list(itertools.islice(Pathfinder(side, contour).scenes(seed), count))


@pytest.mark.parametrize(("side", "contour"), KINDS)
def test_label_is_1_where_both_markers_are_on_one_connected_curve(side, contour):
    both = set()
    for scene in scenes(side, contour, 40):
        # A gap is two pixels wide; layers one over the other stay apart.
        closed = ndimage.binary_dilation(scene.contours > 0.2, np.ones((1, 3, 3)), iterations=2)
        curves, number = ndimage.label(closed, np.pad(np.ones((1, 3, 3)), ((1, 1), (0, 0), (0, 0))))
        assert number == 2
        marked = []
        for y, x in scene.markers:
            layers = np.flatnonzero(scene.contours[:, y, x] > 0.2)
            assert len(layers) == 1
            marked.append(curves[layers[0], y, x])
        assert scene.label == (marked[0] == marked[1])
        both.add(scene.label)
    assert both == {0, 1}


@pytest.mark.parametrize(("side", "contour"), KINDS)
def test_distractors_are_there_and_apart_from_the_curves(side, contour):
    pathfinder = Pathfinder(side, contour)
    for scene in scenes(side, contour, 40):
        layers = np.concatenate([scene.contours, scene.distractors[None]]) > 0.35
        assert layers.sum(axis=0).max() == 1
        # A dash of any curve has about the same ink.
        dashes = scene.distractors.sum() / scene.contours.sum() * 2 * contour
        length = pathfinder.distractor_length
        assert 2 * length < dashes < 1.15 * pathfinder.distractors * length
    assert pathfinder.distractors * length >= 18


@pytest.mark.parametrize(("side", "contour"), [(256, 6), (256, 14)])
def test_a_long_curve_has_as_many_dashes_as_asked_for(side, contour):
    for scene in scenes(side, contour, 3):
        for layer in scene.contours:
            assert ndimage.label(layer > 0.3, np.ones((3, 3)))[1] == contour


@pytest.mark.parametrize(("side", "contour"), KINDS)
def test_curves_start_near_each_other_and_turn_no_more_than_they_may(side, contour):
    settings = module._SETTINGS[side]
    margin = settings.margins[0]
    shapes = module._shapes(side, margin)
    rng = np.random.default_rng(1)
    occupancy = np.empty((side, side), np.float32)
    pair = np.empty((2, contour, 3), np.int64)
    heading = np.concatenate(
        [np.deg2rad(np.arange(360) - 180), np.arctan2(shapes.ring[:, 0], shapes.ring[:, 1])]
    )
    turns = []
    for _ in range(20):
        kernels.lay_pair(rng, shapes, settings.padding, settings.seed_distance, occupancy, pair)
        starts = pair[:, 0, 1:]
        assert np.hypot(*(starts[1] - starts[0])) == pytest.approx(settings.seed_distance, abs=1)
        assert (starts[0] >= 2 * settings.seed_distance).all()
        assert (starts[0] < side - 2 * settings.seed_distance).all()
        assert (pair[:, :, 1:] >= settings.padding).all()
        assert (pair[:, :, 1:] < side - settings.padding).all()
        turn = np.diff(heading[pair[:, :, 0]], axis=1)
        turns.append(np.abs((turn + np.pi) % (2 * np.pi) - np.pi))
        # From head to head it is a gap and a dash, give or take the rounding of both steps.
        steps = np.diff(pair[:, 1:, 1:], axis=1)
        reach = settings.dash + margin
        assert (np.hypot(*np.moveaxis(steps, -1, 0)) < 2 * reach + 2 * margin).all()
    assert np.max(turns) < np.pi / 2 / settings.continuity


def test_likelihood_of_a_turn_is_a_squared_cosine():
    shapes = module._shapes(64, 1)
    straight = shapes.likelihood[360:].diagonal()
    assert straight == pytest.approx(np.ones(len(shapes.ring)))
    right = np.flatnonzero((shapes.ring == [0, 6]).all(axis=1))[0]
    y, x = shapes.ring.T
    expected = np.cos(np.minimum(1.8 * np.abs(np.arctan2(y, x)), np.pi / 2)) ** 2
    assert shapes.likelihood[360 + right] == pytest.approx(expected)
    assert shapes.likelihood[180] == pytest.approx(expected)


def test_the_picture_is_the_brightest_of_its_layers():
    for scene in scenes(32, 14, 20):
        curves = np.maximum(1.5 * scene.contours.max(axis=0), 2 * scene.distractors)
        lit = scene.image / 255 * max(curves.max(), 1)
        y, x = np.indices((32, 32))
        far = np.min([np.hypot(y - a, x - b) for a, b in scene.markers], axis=0) > 3
        assert lit[far] == pytest.approx(curves[far], abs=0.01)
        for a, b in scene.markers:
            assert lit[a, b] >= 0.99
        assert scene.image.max() == 255


def test_markers_are_a_start_and_an_end():
    origins = set()
    for scene in scenes(32, 6, 40):
        origin = (scene.starts == scene.markers[0]).all(axis=1)
        end = (scene.ends == scene.markers[1]).all(axis=1)
        assert origin.sum() == end.sum() == 1
        assert scene.label == (origin == end).all()
        origins.add(int(origin.argmax()))
    assert origins == {0, 1}


def test_a_marker_is_round():
    marker = module._marker(2.5)
    # Pillow reduces one direction after the other and cuts at 0 and 1 in between.
    assert marker == pytest.approx(marker.T, abs=0.1)
    assert marker == pytest.approx(marker[::-1], abs=0.01)
    assert marker == pytest.approx(marker[:, ::-1], abs=0.01)
    assert marker.sum() == pytest.approx(np.pi * 2.5**2, rel=0.03)


def test_labels_are_balanced_and_grey_levels_do_not_tell_them():
    from sklearn.linear_model import LogisticRegression

    images, labels = Pathfinder(32, 6).images(3000, 2)
    assert labels.mean() == pytest.approx(0.5, abs=0.03)
    levels = np.array([np.bincount(image.ravel(), minlength=256) for image in images]) / 1024
    model = LogisticRegression(max_iter=300).fit(levels[:1500], labels[:1500])
    assert model.score(levels[1500:], labels[1500:]) == pytest.approx(0.5, abs=0.03)


def test_the_first_pictures_do_not_depend_on_the_number():
    pathfinder = Pathfinder(32, 9)
    few, few_labels = pathfinder.images(5, 7)
    many, many_labels = pathfinder.images(50, 7)
    assert np.array_equal(few, many[:5])
    assert np.array_equal(few_labels, many_labels[:5])
    assert not np.array_equal(pathfinder.images(5, 8)[0], few)
    assert len({image.tobytes() for image in many}) == 50


def test_compiled_loops_do_what_their_python_does(monkeypatch):
    fast = Pathfinder(32, 6).images(3, 0)
    for name, kernel in vars(kernels).copy().items():
        if hasattr(kernel, "py_func"):
            monkeypatch.setattr(kernels, name, kernel.py_func)
    slow = Pathfinder(32, 6).images(3, 0)
    assert not hasattr(kernels.lay_pair, "py_func")
    assert np.array_equal(fast[0], slow[0])
    assert np.array_equal(fast[1], slow[1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Pathfinder(48), "side: expected one of 32, 64, 128, 256, got 48"),
        (lambda: Pathfinder(32, 7), "contour: expected one of 6, 9, 14, got 7"),
        (lambda: Pathfinder().images(0, 0), "count: expected at least 1, got 0"),
        (lambda: Pathfinder().images(1, -1), "seed: expected at least 0, got -1"),
    ],
)
def test_arguments_out_of_range_are_named(call, message):
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        call()


def test_hard_easy_and_middle_have_names_in_the_release():
    assert CONTOURS[14] == "curv_contour_length_14"


@pytest.fixture
def folder(tmp_path):
    """A set of five easy pictures, with what was drawn."""
    images, labels = Pathfinder(32, 6).images(5, 0)
    write_folder(tmp_path / "set", images, labels, contour=6)
    return tmp_path / "set", images, labels


def test_folders_come_back_in_the_references_layout(folder):
    path, images, labels = folder
    assert (path / "metadata" / "0.npy").read_text().splitlines()[3] == (
        f"imgs/0 sample_3.png 3 {labels[3]} 1.0 6 2 2 0.5"
    )
    with Image.open(path / "imgs" / "0" / "sample_3.png") as picture:
        assert np.array_equal(np.asarray(picture), images[3])
    read, read_labels = read_folder(path, 32)
    assert np.array_equal(read, images)
    assert np.array_equal(read_labels, labels)


def test_metadata_may_be_an_array_of_text(folder):
    path, _, labels = folder
    file = path / "metadata" / "0.npy"
    rows = [line.split() for line in file.read_text().splitlines()]
    np.save(file, np.array(rows))
    assert np.array_equal(read_folder(path, 32)[1], labels)


def test_batches_are_read_in_the_order_of_their_numbers(folder, monkeypatch):
    path, *_ = folder
    monkeypatch.setattr(module, "_BATCH", 2)
    images, labels = Pathfinder(32, 6).images(22, 1)
    write_folder(path, images, labels)
    assert sorted(file.name for file in (path / "metadata").iterdir()) == sorted(
        f"{batch}.npy" for batch in range(11)
    )
    assert np.array_equal(read_folder(path, 32)[0], images)
    write_folder(path, images[:3], labels[:3])
    assert np.array_equal(read_folder(path, 32)[0], images[:3])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "metadata/0.npy: expected a row for each picture, found none"),
        (
            b"imgs/0 sample_0.png 0 1\nimgs/0 sample_1.png 1\n",
            "metadata/0.npy: line 2: expected folder, file, number and label of a picture, "
            "found 'imgs/0 sample_1.png 1'",
        ),
        (
            b"imgs/0 sample_0.png 0 2 1.0\n",
            "metadata/0.npy: line 1: expected the label 0 or 1, found '2'",
        ),
        (b"imgs/0 sample_9.png 0 1\n", "imgs/0/sample_9.png: No such file or directory"),
    ],
)
def test_metadata_not_as_expected_is_named_with_the_line(folder, content, message):
    path, *_ = folder
    (path / "metadata" / "0.npy").write_bytes(content)
    with pytest.raises(InputError, match=f"^{re.escape(f'{path}/{message}')}$"):
        read_folder(path, 32)


def test_pickles_are_not_opened(folder):
    path, *_ = folder
    np.save(path / "metadata" / "0.npy", np.array([["imgs/0", None]]), allow_pickle=True)
    with pytest.raises(InputError, match=r"0\.npy: expected rows of text \(Object arrays"):
        read_folder(path, 32)


def test_pictures_not_as_expected_are_named(folder, tmp_path):
    path, *_ = folder
    with pytest.raises(InputError, match=r"sample_0\.png: expected 64 x 64 pixels, found 32 x 32$"):
        read_folder(path, 64)
    (path / "imgs" / "0" / "sample_2.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"sample_2\.png: not a picture that can be read$"):
        read_folder(path, 32)
    with pytest.raises(InputError, match=r"expected a folder with metadata/<batch>\.npy in it"):
        read_folder(tmp_path, 32)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((1, 20, 20), np.uint8), [0], "side: expected one of 32, 64, 128, 256, got 20"),
        (np.zeros((1, 32, 32), np.uint8), [2], "labels: expected 0 and 1"),
        (np.zeros((0, 32, 32), np.uint8), [], "images: expected at least one"),
    ],
)
def test_what_cannot_be_written_is_named(tmp_path, images, labels, message):
    with pytest.raises(InputError, match=f"^{message}$"):
        write_folder(tmp_path, images, np.array(labels, np.int64))
    assert list(tmp_path.iterdir()) == []
