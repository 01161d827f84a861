"""How much resident memory a step of this process takes, by Linux's own count."""

import ctypes
import re
from contextlib import suppress
from pathlib import Path


def watch_memory() -> int | None:
    """Set the peak of resident memory back to its present value; that value in KiB.

    None where the system does not tell.
    """
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return _memory("VmRSS")
    except OSError:
        return None


def peak_since(before: int | None) -> float | None:
    """How far resident memory rose above what `watch_memory` gave, in MiB; None for None."""
    return None if before is None else max(0, _memory("VmHWM") - before) / 1024


def return_free_memory() -> None:
    """Give what was freed back to the system, so that memory taken again is counted."""
    # Only glibc's allocator has, and needs, this.
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _memory(field: str) -> int:
    """A field of this process's status, in KiB."""
    found = re.search(rf"^{field}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.M)
    if found is None:
        raise OSError(f"/proc/self/status has no {field}")
    return int(found[1])
