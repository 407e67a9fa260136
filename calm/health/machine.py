"""The host as a whole, by psutil."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import psutil

from calm.health.model import Machine

T = TypeVar("T")
Times = tuple[float, float]


def times() -> Times:
    """CPU seconds since boot, over all cores: spent working, and all."""
    now = psutil.cpu_times()
    # Linux counts a guest's time within user and nice already.
    everything = sum(now) - getattr(now, "guest", 0.0) - getattr(now, "guest_nice", 0.0)
    return everything - now.idle - getattr(now, "iowait", 0.0), everything


def look(root: Path, before: Times | None, after: Times | None, *, processes: int | None) -> Machine:
    """The machine now; its CPU between two ``times()``, its disk the one that holds ``root``."""
    memory, disk = psutil.virtual_memory(), _disk(root)
    swap = _known(psutil.swap_memory)
    return Machine(
        cpu_count=psutil.cpu_count(),
        cpu_percent=_percent(before, after),
        memory_bytes=memory.total,
        memory_available_bytes=memory.available,
        swap_used_bytes=swap.used if swap else None,
        disk_free_bytes=disk[0] if disk else None,
        disk_percent=disk[1] if disk else None,
        processes=processes,
        booted_at=_known(psutil.boot_time),
    )


def _percent(before: Times | None, after: Times | None) -> float | None:
    """Percent of all cores together."""
    if before is None or after is None or after[1] <= before[1]:
        return None
    return round(100 * (after[0] - before[0]) / (after[1] - before[1]), 2)


def _disk(root: Path) -> tuple[int, float] | None:
    """Free bytes and percent in use of the disk under ``root``, or under its nearest parent that exists."""
    for folder in (root, *root.parents):
        with suppress(OSError):
            usage = psutil.disk_usage(str(folder))
            return usage.free, usage.percent
    return None


def _known(ask: Callable[[], T]) -> T | None:
    """A figure that some systems will not tell: in a container, without /proc/vmstat, on a hardened host."""
    try:
        return ask()
    except (OSError, RuntimeError, psutil.Error):
        return None
