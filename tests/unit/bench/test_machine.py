"""The machine's figures over time."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from calm.bench import machine


def test_it_samples_for_the_duration(tmp_path: Path) -> None:
    told: list[object] = []
    began = time.monotonic()
    found = asyncio.run(machine.sample(tmp_path, duration=0.4, stop=None, tell=told.append, interval=0.1))
    assert 0.4 <= time.monotonic() - began < 3
    assert 1 <= len(found) <= 4
    assert told == found
    assert 0 <= found[0]["memory_percent"] <= 100
    assert found[0]["processes"] > 1
    assert found[0]["disk_percent"] is not None


def test_it_goes_on_until_what_it_goes_with_has_ended(tmp_path: Path) -> None:
    async def both() -> float:
        stop, began = asyncio.Event(), time.monotonic()
        sampling = asyncio.create_task(
            machine.sample(tmp_path, duration=0.05, stop=stop, tell=lambda _: None, interval=5)
        )
        await asyncio.sleep(0.3)
        assert not sampling.done()
        stop.set()
        await sampling
        return time.monotonic() - began

    assert 0.3 <= asyncio.run(both()) < 3
