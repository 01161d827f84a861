"""What every verb of the command line shares: options, progress, output, exit codes."""

import json
import math
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from typer._click import Context
from typer._click.exceptions import ClickException, NoArgsIsHelpError
from typer.core import TyperGroup

from workingpapers.foundation.errors import InputError, UserFacingError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Value = TypeVar("Value")

PICTURES = (".svg", ".png", ".pdf")


class Exit(IntEnum):
    """The exit codes of every verb."""

    DONE = 0
    NO = 1
    """The answer is no, or a system failed."""
    BAD_INPUT = 2
    NOT_CONVERGED = 3
    """Done, but not to be trusted."""
    BUG = 70
    INTERRUPTED = 130


out = Console(soft_wrap=True, highlight=False, emoji=False)
"""Results, on stdout."""
err = Console(stderr=True, soft_wrap=True, highlight=False, emoji=False)
"""Progress, warnings and errors, on stderr."""

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, progress on stderr.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of all random work.")]
Force = Annotated[
    bool, typer.Option("--force", help="Replace what is there: our own folder, or a file.")
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
Trust = Annotated[
    bool, typer.Option("--trust", help="Load a pickle (it can run any code) from the given file.")
]
Picture = Annotated[
    Path | None,
    typer.Option("--picture", help="Also draw a picture into this .svg, .png or .pdf file."),
]


class Verbs(TyperGroup):
    """The verbs of a system: their arguments are text, and their errors name options as typed."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """Refuse an argument with bytes that no text has: it could be neither shown nor kept."""
        for argument in args:
            try:
                argument.encode()
            except UnicodeEncodeError:
                raise InputError(f"the argument {argument!a}: expected text in UTF-8") from None
        ctx.meta["typed"] = {argument.partition("=")[0] for argument in args}
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Context) -> Any:
        """Run a verb; what an error calls by the name of a field is an option to the user."""
        try:
            return super().invoke(ctx)
        except InputError as error:
            verb = self.get_command(ctx, ctx.invoked_subcommand or "")
            name, colon, rest = re.split(r"([ :]|$)", str(error), maxsplit=1)
            for parameter in verb.params if verb and colon else ():
                given = ctx.meta["typed"].intersection(parameter.opts)
                # A file of this name is what it says.
                if parameter.name == name and given and not Path(name).exists():
                    raise InputError(f"{given.pop()}{colon}{rest}") from None
            raise


def print_json(value: Any) -> None:
    """Print `value` as indented JSON on stdout; numbers that JSON does not have are null."""
    text = json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False)
    sys.stdout.write(text + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def progress(label: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr; yields the function that advances it by a number of steps.

    It is shown from the first step on, so that input refused before leaves one line only, and
    ends full, also where fewer steps were needed.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    bar = Progress(*columns, console=err)
    task = bar.add_task(label, total=total)

    def advance(steps: int) -> None:
        bar.start()
        bar.advance(task, steps)

    try:
        yield advance
        if bar.live.is_started:
            bar.update(task, total=bar.tasks[0].completed)
    finally:
        if bar.live.is_started:
            bar.stop()


def claim_folder(path: Path, *, force: bool, option: str = "--out") -> Path:
    """Make `path` a folder to write into; InputError if it is in use and `force` is not given."""
    if path.exists() and not path.is_dir():
        raise InputError(f"{option} {path}: expected a folder, found a file")
    if not force and path.is_dir() and any(path.iterdir()):
        raise InputError(f"{option} {path}: the folder is not empty; --force writes into it")
    path.mkdir(parents=True, exist_ok=True)
    return path


def claim_file(path: Path | None, *, force: bool, option: str) -> None:
    """Refuse, before any work, a file that exists or whose folder does not; None is no file."""
    if path is None:
        return
    if path.is_dir():
        raise InputError(f"{option} {path}: expected a file, found a folder")
    if path.exists() and not force:
        raise InputError(f"{option} {path}: the file exists; --force replaces it")
    if not path.parent.is_dir():
        raise InputError(f"{option} {path}: the folder {path.parent} does not exist")


def check_choice(option: str, value: Value, choices: Sequence[Value]) -> Value:
    """The value of an option; InputError with the choices if it is none of them."""
    if value not in choices:
        known = ", ".join(str(choice) for choice in choices if choice is not None)
        raise InputError(f"{option} {value}: expected {known}")
    return value


def claim_picture(path: Path | None, *, force: bool, option: str = "--picture") -> None:
    """Refuse, before any work, a picture that could not be written; None is no picture."""
    if path is not None and path.suffix.lower() not in PICTURES:
        raise InputError(f"{option} {path}: expected a name that ends in .svg, .png or .pdf")
    claim_file(path, force=force, option=option)


def save_picture(figure: "Figure", path: Path, *, quiet: bool = False) -> None:
    """Write a picture and, unless `quiet`, say so on stderr."""
    from workingpapers.foundation.plots import save

    save(figure, path)
    if not quiet:
        err.print(f"picture: {path}", markup=False)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a whole file or nothing: to a neighbour first, synced, then renamed.

    Raises InputError when the folder is not there.
    """
    if not path.parent.is_dir():
        raise InputError(f"{path}: the folder {path.parent} does not exist")
    data = content.encode() if isinstance(content, str) else content
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp's files are private; give this one the mode that open() would have given it.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(name, 0o666 & ~mask)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def choose_device(device: str) -> str:
    """ "cpu" or "cuda" for the option --device; InputError if CUDA is asked for and absent."""
    if device not in ("auto", "cpu", "cuda"):
        raise InputError(f"--device {device}: expected auto, cpu or cuda")
    if device == "cpu":
        return device
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if device == "cuda":
        raise InputError("--device cuda: PyTorch finds no CUDA device on this machine")
    return "cpu"


def fail(message: str, code: int) -> NoReturn:
    """Print one line `error: ...` on stderr and leave with `code`."""
    err.print(f"error: {' '.join(message.split())}", markup=False, style="red")
    raise SystemExit(code)


def run_command(command: Callable[[], Any]) -> NoReturn:
    """Run a command line and leave with its exit code; errors become one line each."""
    try:
        code = command()
    except NoArgsIsHelpError:
        # The help is on stdout already.
        raise SystemExit(Exit.DONE) from None
    except ClickException as error:
        fail(error.format_message(), Exit.BAD_INPUT)
    except UserFacingError as error:
        fail(str(error), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        fail("interrupted", Exit.INTERRUPTED)
    except BrokenPipeError:
        # The reader of stdout went away (`| head`); nothing is left to tell it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(Exit.DONE) from None
    except OSError as error:
        if error.filename is None:
            _report_bug(error)
        fail(f"{error.filename}: {error.strerror}", Exit.BAD_INPUT)
    except (MemoryError, RuntimeError) as error:
        # PyTorch raises the latter, in words of its allocators.
        known = r"out of memory|not enough memory|can't allocate memory"
        if isinstance(error, RuntimeError) and not re.search(known, str(error)):
            _report_bug(error)
        fail(f"not enough memory, for smaller sizes there may be ({error})", Exit.NO)
    except Exception as error:
        _report_bug(error)
    if code == Exit.INTERRUPTED:
        # Typer turns Ctrl-C inside a verb into this code.
        fail("interrupted", Exit.INTERRUPTED)
    raise SystemExit(code if isinstance(code, int) else Exit.DONE)


def _report_bug(error: Exception) -> NoReturn:
    """Keep the traceback in a file and say that the fault is ours."""
    with tempfile.NamedTemporaryFile(
        "w", prefix="workingpapers-", suffix=".log", delete=False
    ) as log:
        log.write("".join(traceback.format_exception(error)))
    fail(
        f"this is a bug in workingpapers, not in your input ({type(error).__name__}: {error}); "
        f"the traceback is in {log.name}",
        Exit.BUG,
    )
