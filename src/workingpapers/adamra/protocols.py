"""Settings with which the tasks are trained: two protocols of the literature, and a laptop's.

Which one the paper used is not known. Where a protocol has what our encoder has not (queries and
keys narrower than the model), the encoder's own form is used.
"""

from dataclasses import dataclass, replace
from typing import Literal

from workingpapers.foundation.errors import InputError

ProtocolName = Literal["laptop", "compact", "lra"]


@dataclass(frozen=True)
class Protocol:
    """How one task is trained."""

    length: int | None
    """Tokens of the longest sequence; None: the task's own."""
    dim: int
    depth: int
    heads: int
    feed_forward: int
    batch: int
    """Sequences, or pairs of them, an update."""
    steps: int
    learning_rate: float
    """The constant that the schedule multiplies."""
    warmup: int
    schedule: Literal["constant", "linear", "cosine", "rsqrt"] = "linear"
    weight_decay: float = 0.0
    dropout: float = 0.1
    pooling: Literal["mean", "cls"] = "mean"
    train: int = 45_000
    """Examples; sets of fixed size have perhaps fewer."""
    validation: int = 5_000
    test: int = 10_000


_FAMILIES = {
    "listops": "listops",
    "listops-short": "listops",
    "pathfinder32": "pathfinder",
    "pathfinder32-easy": "pathfinder",
    "pathfinder32-9": "pathfinder",
    "pathfinder64": "pathfinder",
    "text": "text",
    "retrieval": "retrieval",
    "digits-256": "image",
    "digits-1024": "image",
    "cifar10": "image",
}
"""Whose settings each task has; documents of one's own have those of text."""

_COMPACT = Protocol(
    length=None,
    dim=64,
    depth=2,
    heads=2,
    feed_forward=128,
    batch=32,
    steps=5_000,
    learning_rate=1e-4,
    warmup=1_000,
)

_LRA = Protocol(
    length=None,
    dim=256,
    depth=4,
    heads=4,
    feed_forward=1024,
    batch=32,
    steps=20_000,
    learning_rate=0.05,
    warmup=8_000,
    schedule="rsqrt",
    weight_decay=0.1,
    pooling="cls",
)

_LRA_PIXELS = replace(_LRA, schedule="cosine", weight_decay=0.0)

_LAPTOP = replace(
    _COMPACT, steps=1_000, learning_rate=1e-3, warmup=100, schedule="cosine", dropout=0.0
)


def _counted(protocol: Protocol, train: int, validation: int, test: int) -> Protocol:
    return replace(protocol, train=train, validation=validation, test=test)


PROTOCOLS: dict[ProtocolName, dict[str, Protocol]] = {
    # The sizes of Nystromformer's experiments (Xiong et al. 2021, arXiv:2102.03902), which most
    # later work on the benchmark shares: one small model for all tasks.
    "compact": {
        "listops": _counted(_COMPACT, 96_000, 2_000, 2_000),
        "text": _counted(
            replace(_COMPACT, length=4000, steps=20_000, warmup=8_000), 25_000, 25_000, 25_000
        ),
        "retrieval": _counted(
            replace(_COMPACT, length=4000, steps=30_000, warmup=800), 147_086, 18_090, 17_437
        ),
        "image": replace(_COMPACT, batch=256, steps=35_000, warmup=175),
        "pathfinder": _counted(
            replace(_COMPACT, batch=256, steps=62_400, warmup=312), 160_000, 20_000, 20_000
        ),
    },
    # Long Range Arena's own (Tay et al. 2021, arXiv:2011.04006). Of images and of Pathfinder's
    # pictures 200 epochs of whole batches, the first to warm up.
    "lra": {
        "listops": _counted(
            replace(_LRA, dim=512, heads=8, steps=5_000, warmup=1_000),
            96_000,
            2_000,
            2_000,
        ),
        "text": _counted(replace(_LRA, length=4000), 25_000, 25_000, 25_000),
        "retrieval": _counted(
            replace(_LRA, length=4000, dim=128, feed_forward=512, steps=5_000),
            147_086,
            18_090,
            17_437,
        ),
        "image": replace(
            _LRA_PIXELS,
            dim=128,
            depth=1,
            heads=8,
            feed_forward=128,
            batch=256,
            steps=35_000,
            learning_rate=5e-4,
            warmup=175,
            dropout=0.3,
        ),
        "pathfinder": _counted(
            replace(
                _LRA_PIXELS,
                dim=32,
                heads=4,
                feed_forward=32,
                batch=512,
                steps=62_400,
                learning_rate=1e-3,
                warmup=312,
                dropout=0.2,
                pooling="mean",
            ),
            160_000,
            20_000,
            20_000,
        ),
    },
    # The compact model, trained in minutes on two cores.
    "laptop": {
        "listops": _counted(_LAPTOP, 20_000, 1_000, 2_000),
        "text": _counted(replace(_LAPTOP, length=1024, batch=16), 20_000, 500, 1_000),
        "retrieval": _counted(replace(_LAPTOP, length=512, batch=16), 10_000, 500, 1_000),
        "image": replace(_LAPTOP, batch=16, learning_rate=3e-3),
        "pathfinder": _counted(_LAPTOP, 20_000, 500, 1_000),
    },
}


def protocol_for(task: str, protocol: str) -> Protocol:
    """The settings of a task; of a name that is no task, those of text, for one's own documents.

    InputError for an unknown protocol.
    """
    for name, families in PROTOCOLS.items():
        if name == protocol:
            return families[_FAMILIES.get(task, "text")]
    raise InputError(f"protocol {protocol!r}: expected {', '.join(PROTOCOLS)}")
