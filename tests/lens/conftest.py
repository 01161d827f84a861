"""Small models fitted once, and the command line called in this process."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def one_thread():
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def iris_model():
    """Three classes, numeric columns."""
    from workingpapers.lens import LENClassifier
    from workingpapers.lens.data import load

    data = load("iris")
    return LENClassifier(max_concepts=8, epochs=200).fit(data.table, data.target), data


@pytest.fixture(scope="session")
def rule_model():
    """Two classes that a known rule over six of eight concepts decides."""
    from workingpapers.lens import LENClassifier

    rng = np.random.default_rng(0)
    X = rng.integers(0, 2, (400, 8))
    y = np.where((X[:, 0] & X[:, 1]) | (X[:, 2] & (1 - X[:, 3])), "yes", "no")
    names = [f"c{column}" for column in range(8)]
    return LENClassifier(max_concepts=6, epochs=300).fit(X, y, concept_names=names), X, y


@pytest.fixture
def command(run_command):
    """Run `workingpapers lens ...` in tmp_path; gives exit code, stdout and stderr."""
    return partial(run_command, "lens")


TABLE = "age,smoker,colour,ill\n" + "".join(
    f"{20 + (7 * row) % 60},{'yes' if row % 3 else 'no'},{'red' if row % 2 else 'blue'},"
    f"{'ill' if (20 + (7 * row) % 60) > 50 and row % 3 else 'well'}\n"
    for row in range(120)
)


@pytest.fixture
def table(tmp_path) -> Path:
    """A CSV file of 120 people: who is ill is a rule over age and smoker."""
    file = tmp_path / "people.csv"
    file.write_text(TABLE)
    return file
