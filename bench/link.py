"""A link with delay: a TCP proxy that hands on every byte a fixed time later, in a process of its own.

    python -m bench.link ADDRESS PORT SECONDS    prints its port, then for each connection its round trips

This kernel has no netem. What is in flight is not held up by what came before it, as on a long line; the
handshake of TCP is paid for by the first byte, which waits for a whole round trip more.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

_CHUNK = 65536


@dataclass(frozen=True, kw_only=True)
class Link:
    """A running proxy on this machine."""

    port: int
    process: subprocess.Popen[str]

    def round_trips(self) -> int:
        """How often the next connection that has ended had to wait for an answer; waits for its end."""
        assert self.process.stdout is not None
        return int(self.process.stdout.readline())


@contextmanager
def link(address: str, port: int = 22, *, seconds: float) -> Iterator[Link]:
    """A link to ``address`` whose round trip takes ``seconds`` more."""
    argv = [sys.executable, "-m", "bench.link", address, str(port), str(seconds)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Link(port=int(process.stdout.readline()), process=process)
        finally:
            process.terminate()


@dataclass(kw_only=True)
class _Connection:
    """Counts a round trip whenever the client speaks again after the server has."""

    seconds: float
    round_trips: int = 0
    answered: bool = True
    began: float = field(default_factory=time.monotonic)

    def heard(self, *, client: bool) -> None:
        if client and self.answered:
            self.round_trips += 1
        self.answered = not client

    async def carry(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, client: bool
    ) -> None:
        """Read at once, write when it is due."""
        line: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        writing = asyncio.create_task(self._deliver(line, target))
        while chunk := await source.read(_CHUNK):
            self.heard(client=client)
            due = max(time.monotonic(), self.began + self.seconds) + self.seconds / 2
            line.put_nowait((due, chunk))
        line.put_nowait((time.monotonic() + self.seconds / 2, b""))
        await writing

    @staticmethod
    async def _deliver(line: asyncio.Queue[tuple[float, bytes]], target: asyncio.StreamWriter) -> None:
        while True:
            due, chunk = await line.get()
            await asyncio.sleep(due - time.monotonic())
            if not chunk:
                target.close()
                return
            target.write(chunk)


async def _serve(address: str, port: int, seconds: float) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(address, port)
        connection = _Connection(seconds=seconds)
        ways = (
            connection.carry(reader, back, client=True),
            connection.carry(there, writer, client=False),
        )
        await asyncio.gather(*ways, return_exceptions=True)
        print(connection.round_trips, flush=True)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
