"""One thread, and the command line called in this process."""

from functools import partial

import pytest


@pytest.fixture(autouse=True)
def one_thread():
    import torch

    torch.set_num_threads(1)


@pytest.fixture
def command(run_command):
    """Run `workingpapers adamra ...` in tmp_path; gives exit code, stdout and stderr."""
    return partial(run_command, "adamra")
