"""Whether what should answer does, each asked with its own deadline. Nothing here wakes or loads anything.

LM Studio answers unknown paths with status 200 and an error in the body, so a status alone proves nothing.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from http.client import HTTPConnection, HTTPException, HTTPSConnection, RemoteDisconnected
from typing import Any
from urllib.parse import SplitResult, urlsplit

from calm.health.model import Api, Endpoint, LoadedModel

TIMEOUT = 2.0
SICK = frozenset({"error", "unhealthy", "down", "fail", "failed", "critical"})
POSTGRES_SSL_REQUEST = bytes.fromhex("0000000804d2162f")
"""Length 8 and code 80877103: a server answers with one byte, S or N, and logs nothing.
https://www.postgresql.org/docs/current/protocol-message-formats.html"""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One exchange over HTTP: a body and status, or the sentence that says why there is none."""

    latency_ms: float | None
    status: int | None = None
    body: Any = None
    error: str | None = None

    @property
    def needs_token(self) -> bool:
        """Whether it is alive but wants to know who asks."""
        return self.status == 401


def http(name: str, url: str, *, timeout: float = TIMEOUT) -> Endpoint:
    """An HTTP end point: ok if its status and its body say so, or if it is alive and only wants a token."""
    with closing(_Talk(url, timeout=timeout)) as talk:
        answer = talk.get()
    error = None if answer.needs_token else answer.error or _complaint(answer.body)
    return Endpoint(name=name, url=url, ok=error is None, latency_ms=answer.latency_ms, error=error)


def postgres(name: str, host: str, port: int, *, timeout: float = TIMEOUT) -> Endpoint:
    """A postgres server: it says whether it speaks TLS, which takes no login and leaves no line in its log.

    A bare connection would prove nothing: Docker's proxy accepts it for a server that is not up.
    """
    return _exchange(name, "postgresql", host, port, POSTGRES_SSL_REQUEST, _speaks_postgres, timeout)


def redis(name: str, host: str, port: int, *, timeout: float = TIMEOUT) -> Endpoint:
    """A redis server: it answers PING, or that it wants a password, which only a living one does."""
    return _exchange(name, "redis", host, port, b"PING\r\n", _speaks_redis, timeout)


def lmstudio(base: str, *, timeout: float = TIMEOUT) -> tuple[Endpoint, Api]:
    """LM Studio's HTTP server at ``base``: its greeting, and which models it has loaded.

    ``/lmstudio-greeting`` is what its own command line looks for (createClient.ts of the lms repository). The
    models come from ``/api/v1/models`` (0.4.0 and later), else from ``/api/v0/models``. ``LM_API_TOKEN`` of
    the environment is sent along if there is one.
    """
    with closing(_Talk(base, timeout=timeout, token=_token())) as talk:
        return _lmstudio(base, talk)


def _lmstudio(base: str, talk: _Talk) -> tuple[Endpoint, Api]:
    greeting = talk.get("/lmstudio-greeting", more=True)
    error, url = _not_lmstudio(greeting), f"{base}/lmstudio-greeting"
    latency = greeting.latency_ms
    endpoint = Endpoint(name="lmstudio", url=url, ok=error is None, latency_ms=latency, error=error)
    if error is not None:
        return endpoint, Api(reachable=False, url=base, latency_ms=latency, error=error)
    models, listing = _models(talk)
    return endpoint, Api(
        reachable=True,
        url=base,
        latency_ms=latency,
        models_loaded=models,
        needs_token=greeting.needs_token or listing.needs_token,
        error=None if models is not None else _no_models(listing),
    )


def _not_lmstudio(greeting: Answer) -> str | None:
    if greeting.needs_token:
        return None
    if greeting.error is not None:
        return greeting.error
    if isinstance(greeting.body, Mapping) and greeting.body.get("lmstudio") is True:
        return None
    return "something else than LM Studio answers on this port"


def _no_models(listing: Answer) -> str:
    if listing.needs_token:
        return "the list of models needs an API token: set LM_API_TOKEN"
    return listing.error or "neither /api/v1/models nor /api/v0/models gave a list of models"


def _models(talk: _Talk) -> tuple[tuple[LoadedModel, ...] | None, Answer]:
    newer = talk.get("/api/v1/models")
    if newer.needs_token or newer.status is None:
        return None, newer
    if (listed := _list(newer.body, "models")) is not None:
        return tuple(loaded for model in listed for loaded in _instances(model)), newer
    older = talk.get("/api/v0/models")
    if (listed := _list(older.body, "data")) is not None:
        return tuple(_older(model) for model in listed if model.get("state") == "loaded"), older
    return None, older


def _instances(model: Mapping[str, Any]) -> list[LoadedModel]:
    """The loaded instances of one model of ``/api/v1/models``: a second one is called ``key:2``."""
    key = str(model.get("key") or "")
    return [
        LoadedModel(
            id=str(instance.get("id") or key),
            key=key,
            size_bytes=_whole(model.get("size_bytes")),
            ttl_seconds=_ttl(instance),
            state="loaded",
            context_length=_whole(_mapping(instance.get("config")).get("context_length")),
        )
        for instance in _list(model, "loaded_instances") or []
    ]


def _older(model: Mapping[str, Any]) -> LoadedModel:
    """One loaded model of ``/api/v0/models``, which tells no size and names only the instance."""
    name = str(model.get("id") or "")
    stem, _, number = name.rpartition(":")
    return LoadedModel(
        id=name,
        key=stem if number.isdigit() else name,
        size_bytes=_whole(model.get("size_bytes")),
        ttl_seconds=_ttl(model),
        state="loaded",
        context_length=_whole(model.get("loaded_context_length")),
    )


def _ttl(entry: Mapping[str, Any]) -> float | None:
    """The time to live where a version tells it; none of the documented answers does."""
    seconds = entry.get("ttl", _mapping(entry.get("config")).get("ttl"))
    return float(seconds) if isinstance(seconds, int | float) else None


class _Talk:
    """Questions to one server, over one connection while the server keeps it.

    By the standard library, and no proxy of the environment: a client of a larger library takes longer to
    make than the question takes, every few seconds, and all that is asked here is this host's own.
    """

    def __init__(self, base: str, *, timeout: float, token: str | None = None) -> None:
        self._base, self._timeout = base, timeout
        self._headers = {"Accept": "application/json", "User-Agent": "calm"}
        self._headers |= {"Authorization": f"Bearer {token}"} if token else {}
        self._connection: HTTPConnection | None = None

    def get(self, path: str = "", *, more: bool = False) -> Answer:
        """Ask for ``path`` below the base.

        Without ``more`` to come the server is told to hang up: a connection that it still holds open looks
        like a client that is served.
        """
        headers = self._headers | ({} if more else {"Connection": "close"})
        try:
            parts = urlsplit(self._base + path)
            try:
                return self._asked(parts, headers)
            except ConnectionError:
                if self._connection is None:
                    raise
            # It was open from the question before: some servers hang up after an answer without a word.
            self.close()
            return self._asked(parts, headers)
        except (HTTPException, OSError, ValueError) as error:
            self.close()
            return Answer(latency_ms=None, error=_reason(error, self._timeout))

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _asked(self, parts: SplitResult, headers: Mapping[str, str]) -> Answer:
        connection = self._connection or _connection(parts, self._timeout)
        started = time.perf_counter()
        connection.request("GET", _target(parts), headers=headers)
        response = connection.getresponse()
        body = response.read()
        latency = round(1000 * (time.perf_counter() - started), 2)
        self._connection = connection
        good = 200 <= response.status < 300
        return Answer(
            latency_ms=latency,
            status=response.status,
            body=_body(body),
            error=None if good else f"it answered with status {response.status}",
        )


def _connection(parts: SplitResult, timeout: float) -> HTTPConnection:
    """A connection yet to be made. Raises ``ValueError`` if the address has no proper port."""
    host, port = parts.hostname or "", parts.port
    if parts.scheme == "https":
        return HTTPSConnection(host, port, timeout=timeout, context=_certificates())
    return HTTPConnection(host, port, timeout=timeout)


def _target(parts: SplitResult) -> str:
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _token() -> str | None:
    return os.environ.get("LM_API_TOKEN")


@cache
def _certificates() -> ssl.SSLContext:
    """Reading the certificates takes longer than the question, so once."""
    return ssl.create_default_context()


def _body(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


def _complaint(body: Any) -> str | None:
    """The error that a body with a good status carries, if it does."""
    if not isinstance(body, Mapping):
        return None
    if error := body.get("error"):
        return f"it answered with an error: {_short(error)}"
    status = body.get("status")
    return f"it says of itself: {status}" if isinstance(status, str) and status.lower() in SICK else None


def _short(error: object) -> str:
    return str(error.get("message", error) if isinstance(error, Mapping) else error)[:200]


def _reason(error: Exception, timeout: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout:g} s"
    if isinstance(error, ConnectionError) and not isinstance(error, RemoteDisconnected):
        return "nothing listens there, or it refuses to talk"
    return f"no proper answer ({type(error).__name__})"


def _exchange(
    name: str,
    scheme: str,
    host: str,
    port: int,
    question: bytes,
    judge: Callable[[bytes], str | None],
    timeout: float,
) -> Endpoint:
    """Say something, read what comes first, judge it."""
    url = f"{scheme}://{host}:{port}"
    started = time.perf_counter()
    try:
        with socket.create_connection((host, port), timeout=timeout) as connection:
            connection.sendall(question)
            error = judge(connection.recv(64))
    except OSError as failure:
        return Endpoint(name=name, url=url, ok=False, latency_ms=None, error=_reason(failure, timeout))
    latency = round(1000 * (time.perf_counter() - started), 2)
    return Endpoint(name=name, url=url, ok=error is None, latency_ms=latency, error=error)


def _speaks_postgres(answer: bytes) -> str | None:
    if answer[:1] in (b"S", b"N"):
        return None
    # An old or overloaded server answers with an error message in place of the byte.
    return "the server answers with an error" if answer[:1] == b"E" else "it is not postgres that answers"


def _speaks_redis(answer: bytes) -> str | None:
    if answer.startswith((b"+PONG", b"-NOAUTH")):
        return None
    if answer.startswith(b"-"):
        return f"redis answers: {answer[1:].decode(errors='replace').strip()}"
    return "it is not redis that answers" if answer else "the connection was closed without an answer"


def _list(value: object, key: str) -> list[Mapping[str, Any]] | None:
    entries = value.get(key) if isinstance(value, Mapping) else None
    return [entry for entry in entries if isinstance(entry, Mapping)] if isinstance(entries, list) else None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
