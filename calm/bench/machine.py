"""Samples the machine while something else is measured, with the sampler that healing uses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from calm.health import machine

INTERVAL = 5.0
SHORTEST = 0.2
"""A last span below this part of the interval is too short to measure CPU in."""


async def sample(
    root: Path, *, duration: float, stop: asyncio.Event | None, tell: Callable[[dict[str, Any]], None],
    interval: float = INTERVAL,
) -> list[dict[str, Any]]:  # fmt: skip
    """Figures each ``interval`` seconds, for ``duration`` seconds and on until ``stop`` is set.

    The sampling runs in a thread, so that it does not hold up the clock of a measurement.
    """
    began, before, samples = time.monotonic(), machine.times(), list[dict[str, Any]]()
    while True:
        left = began + duration - time.monotonic()
        if left <= 0 and (stop is None or stop.is_set()):
            return samples
        span = min(interval, left) if left > 0 else interval
        await _sleep(span, stop if left <= 0 else None)
        if samples and span < SHORTEST * interval:
            continue
        after = machine.times()
        samples.append(await asyncio.to_thread(_look, root, before, after))
        before = after
        tell(samples[-1])


async def _sleep(seconds: float, stop: asyncio.Event | None) -> None:
    if stop is None:
        await asyncio.sleep(seconds)
        return
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return


def _look(root: Path, before: machine.Times, after: machine.Times) -> dict[str, Any]:
    looked = machine.look(root, before, after, processes=len(psutil.pids()))
    used = None
    if looked.memory_bytes and looked.memory_available_bytes is not None:
        used = round(100 * (1 - looked.memory_available_bytes / looked.memory_bytes), 2)
    return {
        "at": time.time(),
        "cpu_percent": looked.cpu_percent,
        "memory_percent": used,
        "disk_percent": looked.disk_percent,
        "processes": looked.processes,
    }
