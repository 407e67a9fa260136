"""Asks a chain of providers.

What it does about a failure:

* nothing listens, a reset, a timeout, 408, 425, 429, 5xx → the same provider again, up to ``max_retries``
* any other status, an error in a good answer, garbage, an empty answer → the next provider at once
* the answer breaks off after its first token → never again there; ``ask`` goes on to the next provider, since
  nobody has seen the part, ``stream`` ends with ``AttemptError``

A provider takes ``request_timeout * (max_retries + 1)`` and its pauses at most, whatever it does. Retry-After
is obeyed within that time; one that asks for longer means the next provider.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any

import httpx
import stamina

from .chain import NEED_KEYS, Chain, Provider
from .events import AttemptError, Events, complaint, finished, parsed, said

CONNECT_S = 5.0
KEEP_ALIVE_S = 4.0
"""An idle connection is dropped before the server does it: uvicorn, the quickest, waits for 5 s."""

AGAIN = frozenset({408, 425, 429, *range(500, 600)})
BROKEN = "the answer broke off"

Message = Mapping[str, str]


class NoAnswerError(Exception):
    """Every provider failed; ``tried`` says how."""

    def __init__(self, tried: tuple[Tried, ...]) -> None:
        super().__init__("; ".join(map(str, tried)) or "there is no provider")
        self.tried = tried


@dataclass(frozen=True, kw_only=True)
class Tried:
    """A provider that did not answer, and why."""

    provider: str
    model: str
    attempts: int
    kind: str
    says: str
    seconds: float

    def __str__(self) -> str:
        times = f" ({self.attempts} attempts)" if self.attempts > 1 else ""
        return f"{self.provider}: {self.says}{times}"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What was said, by whom, after who had failed."""

    text: str
    provider: str
    model: str
    tried: tuple[Tried, ...]
    seconds: float


class Client:
    """Asks a chain of providers; for one event loop, and for as many callers as there are."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        size = chain.connection_pool_size
        # The slots are what bounds requests; a proxy of the environment would have a pool of its own.
        self._slots = asyncio.Semaphore(size)
        self._http = httpx.AsyncClient(
            limits=httpx.Limits(
                max_connections=size, max_keepalive_connections=size, keepalive_expiry=KEEP_ALIVE_S
            ),
            timeout=httpx.Timeout(chain.request_timeout, connect=min(CONNECT_S, chain.request_timeout)),
            verify=_certificates(),
            mounts={f"all://{host}": None for host in ("localhost", "127.0.0.1", "host.docker.internal")},
        )

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def ask(self, messages: Sequence[Message], **options: Any) -> Answer:
        """The whole answer of the first provider that gives one; raises ``NoAnswerError``.

        ``options`` are further keys of the request: ``temperature``, ``max_tokens``.
        """
        began, tried = time.monotonic(), list[Tried]()
        for provider in self.chain.providers:
            turn = _Turn(self.chain)
            try:
                async with aclosing(self._told(provider, messages, options, turn)) as pieces:
                    text = "".join([piece async for piece in pieces])
            except AttemptError as error:
                tried.append(turn.failed(provider, error))
                continue
            seconds = time.monotonic() - began
            return Answer(
                text=text, provider=provider.name, model=provider.model, tried=tuple(tried), seconds=seconds
            )
        raise NoAnswerError(tuple(tried))

    async def stream(self, messages: Sequence[Message], **options: Any) -> AsyncGenerator[str, None]:
        """The answer, piece by piece: ``NoAnswerError`` before the first, ``AttemptError`` after it."""
        tried = list[Tried]()
        for provider in self.chain.providers:
            turn = _Turn(self.chain)
            try:
                async with aclosing(self._told(provider, messages, options, turn)) as pieces:
                    async for piece in pieces:
                        yield piece
                return
            except AttemptError as error:
                if turn.spoke:
                    raise
                tried.append(turn.failed(provider, error))
        raise NoAnswerError(tuple(tried))

    async def _told(
        self, provider: Provider, messages: Sequence[Message], options: Mapping[str, Any], turn: _Turn
    ) -> AsyncGenerator[str, None]:
        """One provider's answer; retried until it has begun, and only until then."""
        if provider.name in NEED_KEYS and not provider.key:
            raise AttemptError("no_key", f"there is no key: set {provider.name.upper()}_API_KEY")
        body = {"model": provider.model, "messages": list(messages), "stream": True, **options}
        reply: AsyncGenerator[str, None] | None = None
        async for attempt in stamina.retry_context(on=turn.pause, **turn.pauses):
            with attempt:
                turn.attempts += 1
                deadline = asyncio.get_running_loop().time() + self.chain.request_timeout
                reply = self._reply(provider, body)
                try:
                    first = await _next(reply, deadline)
                except BaseException:
                    await reply.aclose()
                    raise
        assert reply is not None
        async with aclosing(reply):
            piece: str | None = first
            while piece is not None:
                if piece:
                    turn.spoke = True
                    yield piece
                piece = await _next(reply, deadline)

    async def _reply(self, provider: Provider, body: Mapping[str, Any]) -> AsyncGenerator[str, None]:
        """The pieces of one attempt; an empty one stands for a token that is no text (reasoning, a tool)."""
        headers = {"Accept": "text/event-stream"}
        headers |= {"Authorization": f"Bearer {provider.key}"} if provider.key else {}
        spoken, ended = False, False
        try:
            async with (
                self._slots,
                self._http.stream("POST", provider.endpoint, json=body, headers=headers) as response,
            ):
                await _accepted(response)
                async with aclosing(_events(response)) as events:
                    async for event in events:
                        ended = ended or finished(event)
                        if (piece := said(event)) is not None:
                            spoken = True
                            yield piece
                if not spoken:
                    raise AttemptError("empty", "the answer was empty")
                if not ended:
                    raise AttemptError("broken_stream", BROKEN)
        except httpx.InvalidURL:
            raise AttemptError("refused", "the end point is no URL") from None
        except httpx.HTTPError as error:
            raise _transport(error, spoken=spoken) from None


@dataclass
class _Turn:
    """One provider's turn: its attempts and the time it has."""

    chain: Chain
    attempts: int = 0
    spoke: bool = False
    began: float = field(default_factory=time.monotonic)

    @property
    def pauses(self) -> dict[str, Any]:
        # Jitter takes from a pause and never adds to it: what plan prints as the longest wait stays true.
        backoff = self.chain.retry_backoff
        return {
            "attempts": self.chain.max_retries + 1,
            "timeout": None,
            "wait_initial": 0.75 * backoff,
            "wait_jitter": 0.25 * backoff,
            "wait_max": self.chain.provider_seconds,
        }

    def pause(self, error: Exception) -> bool | float:
        """Whether to ask again, and after how many seconds if the provider has said it."""
        if not isinstance(error, AttemptError) or not error.again:
            return False
        if error.after is None:
            return True
        ends = time.monotonic() + error.after + self.chain.request_timeout
        return error.after if ends <= self.began + self.chain.provider_seconds else False

    def failed(self, provider: Provider, error: AttemptError) -> Tried:
        return Tried(
            provider=provider.name,
            model=provider.model,
            attempts=self.attempts,
            kind=error.kind,
            says=str(error),
            seconds=round(time.monotonic() - self.began, 3),
        )


@cache
def _certificates() -> ssl.SSLContext:
    """Reading the certificates takes longer than a question, so once."""
    return ssl.create_default_context()


async def _events(response: httpx.Response) -> AsyncGenerator[dict[str, Any], None]:
    """The events of an answer; one that is not streamed is one event."""
    if "event-stream" not in response.headers.get("content-type", ""):
        event = parsed(await response.aread())
        if not event.get("choices"):
            raise AttemptError("garbage", "the answer is not what a chat end point says")
        yield event | {"done": True}
        return
    events = Events()
    async for data in response.aiter_bytes():
        for payload in events.feed(data):
            yield parsed(payload)
    # Some servers leave the empty line after the last event out.
    for payload in events.feed(b"\n\n"):
        yield parsed(payload)


async def _accepted(response: httpx.Response) -> None:
    if response.is_success:
        return
    body = await response.aread()
    try:
        says = complaint(json.loads(body))
    except ValueError:
        says = None
    status = response.status_code
    raise AttemptError(
        f"http_{status}",
        f"it answered with status {status}{f': {says}' if says else ''}",
        again=status in AGAIN,
        after=_retry_after(response.headers.get("retry-after")),
    )


def _retry_after(value: str | None) -> float | None:
    """The seconds of a Retry-After header, which has a number or a date."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def _transport(error: httpx.HTTPError, *, spoken: bool) -> AttemptError:
    if isinstance(error, httpx.TimeoutException):
        return AttemptError("timeout", "it did not answer in time", again=True)
    if isinstance(error, httpx.ConnectError):
        return AttemptError("refused", "nothing listens there, or it refuses to talk", again=True)
    if spoken:
        return AttemptError("broken_stream", BROKEN)
    return AttemptError("reset", "the connection was lost", again=True)


async def _next(pieces: AsyncGenerator[str, None], deadline: float) -> str | None:
    """The next piece, ``None`` at the end, ``AttemptError`` if it does not come by ``deadline``."""
    try:
        async with asyncio.timeout_at(deadline):
            return await anext(pieces, None)
    except TimeoutError:
        raise AttemptError("timeout", "it did not answer in time", again=True) from None
