"""Connections that note when bytes arrived, not when somebody got round to reading them.

httpcore speaks HTTP; this is its seam for the network. With many streams in one event loop a reader is woken
some time after its bytes came, and that time would be counted as the server's.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Iterable
from typing import Any

import httpcore


class Connection(asyncio.Protocol):
    """One TCP connection: pieces of bytes, each with its time of arrival."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._pieces: deque[tuple[float, bytes]] = deque()
        self._ended = False
        self._error: Exception | None = None
        self._arrived = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._pieces.append((time.perf_counter(), data))
        self._arrived.set()

    def eof_received(self) -> None:
        self._ended = True
        self._arrived.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended, self._error = True, exc
        self._arrived.set()

    @property
    def readable(self) -> bool:
        """Whether there is something that a new request did not ask for, or an end."""
        return bool(self._pieces) or self._ended

    async def take(self) -> tuple[float, bytes]:
        """The next piece; an empty one at the end."""
        while not self._pieces:
            if self._error is not None:
                raise httpcore.ReadError(str(self._error))
            if self._ended:
                return time.perf_counter(), b""
            self._arrived.clear()
            await self._arrived.wait()
        return self._pieces.popleft()


class Stream(httpcore.AsyncNetworkStream):
    """A connection as httpcore wants it.

    ``arrived`` is when the bytes that were read last came in, ``sent`` when the last were written.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.arrived = self.sent = 0.0

    @property
    def _transport(self) -> asyncio.Transport:
        assert self._connection.transport is not None
        return self._connection.transport

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        # The caller bounds the whole request: a timer for each chunk would cost more than the chunk.
        self.arrived, data = await self._connection.take()
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        if self._transport.is_closing():
            raise httpcore.WriteError("the connection is closed")
        self._transport.write(buffer)
        self.sent = time.perf_counter()

    async def aclose(self) -> None:
        self._transport.abort()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> Stream:
        connection = Connection()
        try:
            async with asyncio.timeout(timeout):
                connection.transport = await asyncio.get_running_loop().start_tls(
                    self._transport, connection, ssl_context, server_hostname=server_hostname
                )
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(str(error)) from None
        except (OSError, ssl.SSLError) as error:
            raise httpcore.ConnectError(str(error)) from None
        return Stream(connection)

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":
            return self._connection.readable
        names = {"server_addr": "peername", "client_addr": "sockname"}
        return self._transport.get_extra_info(names.get(info, info))


class Network(httpcore.AsyncNetworkBackend):
    """Opens such connections."""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,  # noqa: ARG002
    ) -> Stream:
        loop, local = asyncio.get_running_loop(), (local_address, 0) if local_address else None
        try:
            async with asyncio.timeout(timeout):
                _, connection = await loop.create_connection(Connection, host, port, local_addr=local)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(str(error)) from None
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from None
        return Stream(connection)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def pool(*, verify: bool = True) -> httpcore.AsyncConnectionPool:
    """As many connections as there are requests at once, each kept for the next one."""
    context = ssl.create_default_context() if verify else None
    return httpcore.AsyncConnectionPool(
        ssl_context=context,
        max_connections=None,
        max_keepalive_connections=None,
        keepalive_expiry=4.0,
        network_backend=Network(),
    )
