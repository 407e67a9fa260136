"""Measures the agent API: its health, and a chat through it, which is what users feel, fallbacks included."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import httpx

from calm.bench.model import Measured, Sample, Workload

HEALTH_TIMEOUT = 10.0
ABSENT = (404, 405, 501)

Told = Callable[[str, Sample], None]


async def run(base: str, workload: Workload, tell: Told) -> tuple[Measured, Measured | None]:
    """Health and chat; the second is ``None`` if the API has no chat or none was asked for.

    Each run opens its own connection with a first request outside of the figures. ``tell`` gets the part
    (``health``, ``chat``) and each sample as it finishes.
    """
    health, chat = Measured(), Measured() if workload.chat_requests else None
    async with httpx.AsyncClient(base_url=base, timeout=HEALTH_TIMEOUT, trust_env=False) as client:
        # A first request that fails is measured again right away, and counted then.
        await _ask(client, "GET", "/api/health", run=-1, zero=time.perf_counter())
        for number in range(workload.runs):
            zero = time.perf_counter()
            samples = []
            for _ in range(workload.health_requests):
                sample, _ = await _ask(client, "GET", "/api/health", run=number, zero=zero)
                samples.append(sample)
                tell("health", samples[-1])
            health = health.plus(samples, time.perf_counter() - zero)
            if chat is not None:
                chat = await _chats(client, workload, number, chat, tell)
    return health, chat


async def _chats(
    client: httpx.AsyncClient, workload: Workload, run: int, chat: Measured, tell: Told
) -> Measured | None:
    zero, samples = time.perf_counter(), list[Sample]()
    for number in range(workload.chat_requests):
        said = {"message": workload.prompts[number % len(workload.prompts)]}
        sample, body = await _ask(
            client, "POST", "/api/chat", run=run, zero=zero, json=said, timeout=workload.timeout
        )
        await _forget(client, body)
        if sample.kind in {f"http_{status}" for status in ABSENT}:
            return None
        samples.append(sample)
        tell("chat", sample)
    return chat.plus(samples, time.perf_counter() - zero)


async def _forget(client: httpx.AsyncClient, body: Any) -> None:
    """Delete the session that a chat has made: a benchmark leaves nothing behind."""
    if isinstance(body, Mapping) and isinstance(key := body.get("session_id"), str):
        headers = {"Authorization": f"Bearer {body['token']}"} if body.get("token") else {}
        with suppress(httpx.HTTPError):
            await client.delete(f"/api/sessions/{key}", headers=headers)


async def _ask(
    client: httpx.AsyncClient, method: str, path: str, *, run: int, zero: float, **others: Any
) -> tuple[Sample, Any]:
    """One request and the answer's body; an error is a sample, too, and has none."""
    began = time.perf_counter()
    sample = Sample(run=run, at=round(began - zero, 6))
    try:
        response = await client.request(method, path, **others)
    except httpx.TimeoutException:
        return replace(sample, kind="timeout", says="no answer in time"), None
    except httpx.ConnectError:
        return replace(sample, kind="refused", says="nothing listens there, or it refuses to talk"), None
    except httpx.HTTPError:
        return replace(sample, kind="reset", says="the connection was lost"), None
    latency = 1000 * (time.perf_counter() - began)
    try:
        body = response.json()
    except ValueError:
        body = None
    if not response.is_success:
        status = response.status_code
        return replace(sample, kind=f"http_{status}", says=_status(status, body)), body
    if complaint := _complaint(body):
        return replace(sample, kind="error_body", says=complaint), body
    return replace(sample, latency_ms=latency), body


def _status(status: int, body: Any) -> str:
    why = body.get("error") if isinstance(body, Mapping) else None
    return f"it answered with status {status}{f': {why}'[:200] if why else ''}"


def _complaint(body: Any) -> str | None:
    """What a good status hides: an error in the body, or health that says of itself that it is not well."""
    if not isinstance(body, Mapping):
        return "the answer is not JSON"
    if error := body.get("error"):
        return str(error)[:200]
    return "it says that it is not healthy" if body.get("status") in ("unhealthy", "error", "down") else None
