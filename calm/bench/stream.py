"""Measures one streamed answer of an OpenAI-compatible server."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import httpcore

from calm.bench.model import Sample
from calm.llm.events import AttemptError, Events, complaint, finished, parsed, said

END_S = 0.25

Arrival = tuple[float, bytes]
"""An event's data and when the bytes that completed it came in, by ``time.perf_counter``."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """Who is asked: the URL of a chat end point, the model, and a key if it wants one."""

    url: str
    model: str
    key: str | None = field(default=None, repr=False)

    @property
    def headers(self) -> list[tuple[str, str]]:
        said = [("Content-Type", "application/json"), ("Accept", "text/event-stream")]
        return said + ([("Authorization", f"Bearer {self.key}")] if self.key else [])


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request: its run, when the run began and when this is due (``perf_counter``), and its body.

    Without ``due`` its times count from when its last byte was sent. With it, in an open loop, from then: a
    client that is late must not make the server look better.
    """

    run: int
    zero: float
    body: bytes
    due: float | None = None


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What came back: the events, when the request had been sent, and whether it was a stream."""

    arrivals: Sequence[Arrival]
    sent: float
    streamed: bool


async def measure(
    pool: httpcore.AsyncConnectionPool, target: Target, request: Request, *, timeout: float
) -> Sample:
    """One request and what became of it; an error is a sample too, and never raises."""
    began = time.perf_counter() if request.due is None else request.due
    sample = Sample(run=request.run, at=round(began - request.zero, 6))
    try:
        async with asyncio.timeout(timeout):
            reply = await _reply(pool, target, request)
        return replace(sample, **timed(reply, request))
    except TimeoutError:
        return replace(sample, kind="timeout", says=f"no whole answer within {timeout:g} s")
    except AttemptError as error:
        return replace(sample, kind=error.kind, says=str(error))
    except (httpcore.ConnectError, httpcore.ConnectTimeout):
        return replace(sample, kind="refused", says="nothing listens there, or it refuses to talk")
    except (httpcore.NetworkError, httpcore.ProtocolError, OSError):
        return replace(sample, kind="broken_stream", says="the connection was lost before the end")


async def _reply(pool: httpcore.AsyncConnectionPool, target: Target, request: Request) -> Reply:
    async with pool.stream("POST", target.url, headers=target.headers, content=request.body) as response:
        if not 200 <= response.status < 300:
            raise _refusal(response.status, await response.aread())
        clock, body = response.extensions["network_stream"], response.aiter_stream()
        if b"event-stream" not in _type(response):
            whole = b"".join([data async for data in body])
            return Reply(arrivals=[(clock.arrived, whole)], sent=clock.sent, streamed=False)
        events, arrivals = Events(), list[Arrival]()
        async for data in body:
            arrivals += ((clock.arrived, payload) for payload in events.feed(data))
            if arrivals and arrivals[-1][1] == b"[DONE]":
                await _drained(body)
                break
        else:
            arrivals += ((clock.arrived, payload) for payload in events.feed(b"\n\n"))
        return Reply(arrivals=arrivals, sent=clock.sent, streamed=True)


def timed(reply: Reply, request: Request) -> dict[str, Any]:
    """The measured fields of a ``Sample``."""
    if request.due is None:
        return figures(reply.arrivals, began=reply.sent, streamed=reply.streamed)
    late = {"late_ms": round(1000 * (reply.sent - request.due), 3)}
    return late | figures(reply.arrivals, began=request.due, streamed=reply.streamed)


async def _drained(body: AsyncIterator[bytes]) -> None:
    """Read on to the end of the body, which keeps the connection, unless the server sends none."""
    with suppress(TimeoutError):
        async with asyncio.timeout(END_S):
            async for _ in body:
                pass


def _type(response: httpcore.Response) -> bytes:
    return next((value for name, value in response.headers if name.lower() == b"content-type"), b"")


def _refusal(status: int, body: bytes) -> AttemptError:
    try:
        says = complaint(json.loads(body))
    except ValueError:
        says = None
    return AttemptError(f"http_{status}", f"it answered with status {status}{f': {says}' if says else ''}")


def figures(arrivals: Sequence[Arrival], *, began: float, streamed: bool) -> dict[str, Any]:
    """The measured fields of a ``Sample``; raises ``AttemptError`` if the answer was none. Pure."""
    chunks: list[Chunk] = []
    whole, usage, stats = not streamed, None, None
    for at, payload in arrivals:
        event = parsed(payload)
        whole = whole or finished(event)
        stats = event.get("stats") or stats
        known = _completion(event)
        usage = known if known is not None else usage
        if (text := said(event)) is not None:
            chunks.append(Chunk(at=at, spoken=bool(text), usage=known))
    if not chunks:
        raise AttemptError("empty", "the answer was empty")
    if not whole:
        raise AttemptError("broken_stream", "the answer broke off")
    ended = {"latency_ms": 1000 * (arrivals[-1][0] - began), "server_stats": _numbers(stats)}
    if not streamed:
        return ended | {"tokens": usage, "counted": "usage" if usage else None}
    spoken = next((chunk.at for chunk in chunks if chunk.spoken), None)
    gaps = tuple(1000 * (after.at - before.at) for before, after in pairwise(chunks))
    return ended | {
        "ttft_ms": 1000 * (chunks[0].at - began),
        "ttfo_ms": None if spoken is None else 1000 * (spoken - began),
        "gaps_ms": gaps,
        "tokens": usage or len(chunks),
        "counted": "usage" if usage else "chunks",
        "inter_token_ms": per_token(gaps, chunks, usage),
    }


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """One event that carried output: when, whether it was text, and the tokens so far if it says so."""

    at: float
    spoken: bool
    usage: int | None


def per_token(gaps: Sequence[float], chunks: Sequence[Chunk], usage: int | None) -> tuple[float, ...]:
    """The time per token within each gap between two chunks, in the unit of ``gaps``.

    A chunk may hold several tokens, and a gap is the time of all of them. How many is known if the server
    counts in each chunk; else the whole count is spread evenly over the chunks.
    """
    counts = [chunk.usage for chunk in chunks if chunk.usage is not None]
    if len(counts) == len(chunks):
        grown = (max(1, after - before) for before, after in pairwise(counts))
        return tuple(gap / tokens for gap, tokens in zip(gaps, grown, strict=True) for _ in range(tokens))
    each = max(1.0, (usage or 0) / len(chunks))
    return tuple(gap / each for gap in gaps)


def _completion(event: Mapping[str, Any]) -> int | None:
    usage = event.get("usage")
    count = usage.get("completion_tokens") if isinstance(usage, Mapping) else None
    return count if isinstance(count, int) and count > 0 else None


def _numbers(stats: Any) -> dict[str, float] | None:
    """LM Studio's own figures: tokens_per_second, time_to_first_token (seconds), generation_time."""
    if not isinstance(stats, Mapping):
        return None
    return {
        str(key): float(value)
        for key, value in stats.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    } or None
