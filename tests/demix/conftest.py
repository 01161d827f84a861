"""One thread, three small domains, and the command line called in this process."""

import random
from functools import partial
from pathlib import Path

import pytest

WORDS = {
    "farm": "cow pig hen barn hay field plough milk egg tractor",
    "law": "court judge oath jury crime appeal clause verdict trial witness",
    "sea": "ship sail wave port crew fish storm mast deck anchor",
}
"""Domains, and what their texts are about."""


@pytest.fixture(autouse=True)
def one_thread():
    import torch

    torch.set_num_threads(1)


@pytest.fixture
def command(run_command):
    """Run `workingpapers demix ...` in tmp_path; gives exit code, stdout and stderr."""
    return partial(run_command, "demix")


def write_texts(folder: Path, domains: tuple[str, ...] = tuple(WORDS), documents: int = 24) -> Path:
    """A folder with a sub folder of .txt files for each domain."""
    for name in domains:
        (folder / name).mkdir(parents=True, exist_ok=True)
        rng, words = random.Random(name), WORDS.get(name, WORDS["sea"]).split()
        for number in range(documents):
            lines = [
                f"the {' and the '.join(rng.sample(words, 4))} of {rng.choice(words)}."
                for _ in range(6)
            ]
            (folder / name / f"{number:02}.txt").write_text("\n".join(lines))
    return folder
