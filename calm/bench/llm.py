"""Measures a language model server: warm-up, then callers in a closed loop or arrivals in an open one."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from itertools import count

import httpcore

from calm.bench import clock
from calm.bench.model import Measured, Sample, Workload
from calm.bench.stream import Request, Target, measure

LOAD_TIMEOUT = 600.0
"""How long the first answer may take, in seconds: the server may have to load the model for it."""

SPIN_S = 0.002
"""An event loop wakes up to a millisecond late; that much of each wait is spent looking at the clock."""

Told = Callable[[Sample], None]
Ask = Callable[..., Coroutine[None, None, None]]


async def run(target: Target, workload: Workload, tell: Told, *, own: Target | None = None) -> Measured:
    """Warm up, then ``workload.runs`` runs. ``tell`` gets each measured sample as it finishes.

    ``own`` is an end point where the same server tells its own figures: one more request, after the last run.
    Where the warm-up fails nothing else is asked: its error is the result's only sample.
    """
    async with clock.pool() as pool:
        warm = await _warm(pool, target, workload)
        failed = next((sample for sample in warm if not sample.well), None)
        if failed is not None:
            tell(failed)
            return Measured(samples=(failed,), seconds=(0.0,), warmup=warm)
        measured = Measured(warmup=warm)
        for number in range(workload.runs):
            began = time.perf_counter()
            samples = await _one(pool, target, workload, number, tell)
            measured = measured.plus(samples, time.perf_counter() - began)
        if own is not None:
            measured = replace(measured, own=await _asked(pool, own, workload, 0))
        return measured


async def _warm(pool: httpcore.AsyncConnectionPool, target: Target, workload: Workload) -> tuple[Sample, ...]:
    """At least one whole answer before anything is measured: model loaded, connections and caches made."""
    out = []
    for number in range(max(1, workload.warmup)):
        out.append(await _asked(pool, target, workload, number))
        if not out[-1].well:
            break
    return tuple(out)


async def _asked(
    pool: httpcore.AsyncConnectionPool, target: Target, workload: Workload, number: int
) -> Sample:
    """One request that counts in no figure."""
    request = Request(run=-1, zero=time.perf_counter(), body=body(target, workload, number))
    return await measure(pool, target, request, timeout=max(LOAD_TIMEOUT, workload.timeout))


async def _one(
    pool: httpcore.AsyncConnectionPool, target: Target, workload: Workload, run: int, tell: Told
) -> list[Sample]:
    zero = time.perf_counter()
    samples, turns = list[Sample](), asyncio.Lock()

    async def ask(number: int, due: float | None = None) -> None:
        async with turns:
            # One request is sent per round of the event loop, so that bytes which arrive are noticed between.
            await asyncio.sleep(0)
        request = Request(run=run, due=due, zero=zero, body=body(target, workload, number))
        sample = await measure(pool, target, request, timeout=workload.timeout)
        samples.append(sample)
        tell(sample)

    await (_closed(workload, ask) if workload.rate is None else _open(workload, run, zero, ask))
    return sorted(samples, key=lambda sample: sample.at)


async def _closed(workload: Workload, ask: Ask) -> None:
    """So many callers, each of whom asks again when it has been answered."""
    numbers = iter(range(workload.requests))

    async def caller() -> None:
        for number in numbers:
            await ask(number)

    await asyncio.gather(*(caller() for _ in range(min(workload.concurrency, workload.requests))))


async def _open(workload: Workload, run: int, zero: float, ask: Ask) -> None:
    """Requests begin when they are due, however many are still waiting for their answers."""
    async with asyncio.TaskGroup() as tasks:
        for number, offset in zip(range(workload.requests), arrivals(workload, run), strict=False):
            due = zero + offset
            await until(due)
            tasks.create_task(ask(number, due))


def arrivals(workload: Workload, run: int) -> Iterator[float]:
    """When requests are due, in seconds from the run's beginning; the same each time for the same seed."""
    assert workload.rate is not None
    if workload.arrivals == "constant":
        yield from (number / workload.rate for number in count())
    chance, at = random.Random(1000 * workload.seed + run), 0.0
    while True:
        at += chance.expovariate(workload.rate)
        yield at


async def until(moment: float) -> None:
    """Wait for a moment of ``perf_counter``, without the event loop's own lateness."""
    if (left := moment - time.perf_counter() - SPIN_S) > 0:
        await asyncio.sleep(left)
    while time.perf_counter() < moment:
        await asyncio.sleep(0)


def body(target: Target, workload: Workload, number: int) -> bytes:
    """The request with the prompt whose turn it is; the server is asked to count tokens itself."""
    asked = {
        "model": target.model,
        "messages": [{"role": "user", "content": workload.prompts[number % len(workload.prompts)]}],
        "temperature": workload.temperature,
        "max_tokens": workload.max_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    return json.dumps(asked, ensure_ascii=False).encode()
