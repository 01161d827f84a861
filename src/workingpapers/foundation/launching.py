"""What every verb that trains shares: its options, their checks, and Fabric."""

import logging
import math
import os
from collections.abc import Collection
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer._click import Context

from workingpapers.foundation.console import check_choice
from workingpapers.foundation.errors import InputError

if TYPE_CHECKING:
    from lightning_fabric import Fabric

STRATEGIES = ("auto", "ddp", "fsdp")
MOST_THREADS = 1024

Minutes = Annotated[
    float | None,
    typer.Option("--minutes", help="Train for about so long, instead of --steps."),
]
Devices = Annotated[int, typer.Option("--devices", min=1, help="Processes or GPUs a node.")]
Nodes = Annotated[int, typer.Option("--nodes", min=1, help="Machines.")]
Threads = Annotated[
    int | None,
    typer.Option("--threads", min=1, max=MOST_THREADS, help="Threads of PyTorch a process."),
]


def check_resume(context: Context, allowed: Collection[str] = (), argument: str = "DATA") -> None:
    """InputError for settings beside --resume: a run is continued as it was begun.

    `allowed` are names of further parameters that may be given; `argument` is what the verb calls
    its first argument.
    """
    free = {"resume", "devices", "nodes", "strategy", "device", "as_json", "dry_run", *allowed}
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if source is not None and source.name == "COMMANDLINE" and parameter.name not in free:
            name = parameter.opts[0] if parameter.opts[0].startswith("-") else argument
            raise InputError(f"{name}: expected without --resume, which goes on as it was begun")


def check_launch(steps: int | None, minutes: float | None, nodes: int, strategy: str) -> None:
    """InputError for a length that is given twice or is none, an unknown strategy, lost machines.

    Lost are those of several whose processes could not find each other.
    """
    if steps is not None and minutes is not None:
        raise InputError("--minutes: expected without --steps")
    if minutes is not None and not 0 < minutes < math.inf:
        raise InputError(f"--minutes {minutes:g}: expected a number above 0")
    check_choice("--strategy", strategy, STRATEGIES)
    # torchrun and Slurm tell the processes that they start.
    if nodes == 1 or {"TORCHELASTIC_RUN_ID", "SLURM_JOB_ID"} & set(os.environ):
        return
    needed = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK")
    missing = [name for name in needed if name not in os.environ]
    if missing:
        raise InputError(
            f"--nodes {nodes}: expected the environment variables {', '.join(needed)} on each "
            f"machine; not set: {', '.join(missing)}"
        )


def is_first_process() -> bool:
    """Whether this is the process that was started by hand, also before Fabric launches.

    Fabric starts the command again in each further process; the first one speaks for all.
    """
    return all(os.environ.get(name, "0") == "0" for name in ("LOCAL_RANK", "NODE_RANK"))


def open_fabric(device: str, devices: int, nodes: int, strategy: str, precision: Any) -> "Fabric":
    """Fabric by the options of a verb; InputError for what this machine does not have."""
    from lightning_fabric import Fabric

    if device == "cpu" and devices > (os.cpu_count() or 1):
        raise InputError(f"--devices {devices}: expected at most {os.cpu_count()}, the processors")
    # It tells of every process it starts.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    try:
        return Fabric(
            accelerator=device,
            devices=devices,
            num_nodes=nodes,
            strategy=strategy,
            precision=precision,
        )
    except (ValueError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"--devices {devices}, --nodes {nodes}, --strategy {strategy}: {reason}"
        ) from None
