"""One thread, and the command line called in this process."""

import pytest


@pytest.fixture(autouse=True)
def one_thread():
    import torch

    torch.set_num_threads(1)


@pytest.fixture
def command(capsys, monkeypatch, tmp_path):
    """Run `workingpapers adamra ...` in tmp_path; gives exit code, stdout and stderr."""
    import sys

    from workingpapers.cli import main

    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["workingpapers", "adamra", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run
