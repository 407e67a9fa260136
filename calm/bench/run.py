"""Performs a benchmark: which parts there are, one after the other, the machine beside them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from calm.bench import api, llm
from calm.bench import machine as sampler
from calm.bench.model import Limits, Measured, Sample, Workload
from calm.bench.stream import Target

Told = Callable[[str, Sample | Mapping[str, Any]], None]
"""Gets the part (llm, api, chat, machine) and each sample as it finishes."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is to be measured; a part that is ``None`` is not. ``machine`` is seconds at least.

    ``own`` is where the same server tells its own figures of an answer.
    """

    mode: str
    root: Path
    workload: Workload = field(default_factory=Workload)
    target: Target | None = None
    own: Target | None = None
    api: str | None = None
    machine: float | None = None
    interval: float = sampler.INTERVAL
    limits: Limits = field(default_factory=Limits)

    @property
    def expected(self) -> dict[str, int]:
        """How many samples each part will have, for a progress bar."""
        work = self.workload
        parts = {
            "llm": work.requests * work.runs if self.target else 0,
            "api": work.health_requests * work.runs if self.api else 0,
            "machine": max(1, round(self.machine / self.interval)) if self.machine else 0,
        }
        return {part: count for part, count in parts.items() if count}


@dataclass(frozen=True, kw_only=True)
class Result:
    """The samples of each part that was measured. ``seconds`` is how long all of it took."""

    job: Job
    started_at: float
    seconds: float = 0.0
    llm: Measured | None = None
    api: Measured | None = None
    chat: Measured | None = None
    machine: tuple[Mapping[str, Any], ...] | None = None


def perform(job: Job, tell: Told) -> Result:
    """Measure all parts of a job; what goes wrong while measuring is in the result."""
    return asyncio.run(_perform(job, tell))


async def _perform(job: Job, tell: Told) -> Result:
    started_at, began, done = time.time(), time.monotonic(), asyncio.Event()
    beside = asyncio.create_task(_machine(job, done, tell)) if job.machine is not None else None
    try:
        spoken = await _llm(job, tell)
        health, chat = await _api(job, tell)
        done.set()
        sampled = tuple(await beside) if beside else None
    finally:
        if beside:
            beside.cancel()
    return Result(
        job=job,
        started_at=started_at,
        seconds=round(time.monotonic() - began, 3),
        llm=spoken,
        api=health,
        chat=chat,
        machine=sampled,
    )


async def _llm(job: Job, tell: Told) -> Measured | None:
    if job.target is None:
        return None
    return await llm.run(job.target, job.workload, lambda sample: tell("llm", sample), own=job.own)


async def _machine(job: Job, done: asyncio.Event, tell: Told) -> list[dict[str, Any]]:
    assert job.machine is not None
    return await sampler.sample(
        job.root,
        duration=job.machine,
        stop=done,
        interval=job.interval,
        tell=lambda sample: tell("machine", sample),
    )


async def _api(job: Job, tell: Told) -> tuple[Measured | None, Measured | None]:
    if job.api is None:
        return None, None
    names = {"health": "api", "chat": "chat"}
    return await api.run(job.api, job.workload, lambda part, sample: tell(names[part], sample))
