"""Passes TCP connections on: from an address that containers reach to the same port on 127.0.0.1.

    relay.py ADDRESS PORT [OTHER…]   serve; another port only while somebody listens there on 127.0.0.1
    relay.py --check ADDRESS PORT    exit with 0 if somebody serves there

Written by calm. What is edited here is undone by the next apply.
"""

import asyncio
import contextlib
import pathlib
import signal
import socket
import sys

CHUNK = 64 * 1024
LOOK_S = 1.0
LISTENS = "0A"


async def pump(reader, writer):
    """Copy until the sender is done, then tell the receiver that there is no more."""
    try:
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.transport.abort()


async def relay(inside, answer, port):
    """Serve one connection."""
    try:
        host, question = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        answer.transport.abort()
        return
    try:
        await asyncio.gather(pump(inside, question), pump(host, answer))
    finally:
        question.close()
        answer.close()


async def listen(address, port):
    """A server for one port."""
    return await asyncio.start_server(lambda inside, answer: relay(inside, answer, port), address, port)


def waits(port):
    """Whether somebody listens on 127.0.0.1 alone, as the kernel has it."""
    place = f"0100007F:{port:04X}"
    rows = (line.split() for line in pathlib.Path("/proc/net/tcp").read_text().splitlines())
    return any(row[1] == place and row[3] == LISTENS for row in rows)


async def follow(address, port):
    """Serve a port while it is needed; held for longer, it would be in the way of who listens everywhere."""
    server = None
    while True:
        if waits(port) != (server is not None):
            if server:
                server.close()
                server = None
            else:
                with contextlib.suppress(OSError):
                    server = await listen(address, port)
        await asyncio.sleep(LOOK_S)


async def serve(address, port, *others):
    """Serve until SIGTERM."""
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    server = await listen(address, port)
    following = [asyncio.create_task(follow(address, other)) for other in others]
    async with server:
        await stopped.wait()
        for task in following:
            task.cancel()


if __name__ == "__main__":
    if sys.argv[1] == "--check":
        socket.create_connection((sys.argv[2], int(sys.argv[3])), timeout=3).close()
    else:
        asyncio.run(serve(sys.argv[1], *map(int, sys.argv[2:])))
