"""Passes TCP connections on: from an address that containers reach to the same port on 127.0.0.1.

    relay.py ADDRESS PORT           serve
    relay.py --check ADDRESS PORT   exit with 0 if somebody serves there

Written by calm. What is edited here is undone by the next apply.
"""

import asyncio
import signal
import socket
import sys

CHUNK = 64 * 1024


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


async def serve(address, port):
    """Serve until SIGTERM."""
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    server = await asyncio.start_server(lambda inside, answer: relay(inside, answer, port), address, port)
    async with server:
        await stopped.wait()


if __name__ == "__main__":
    address, port = sys.argv[-2], int(sys.argv[-1])
    if sys.argv[1] == "--check":
        socket.create_connection((address, port), timeout=3).close()
    else:
        asyncio.run(serve(address, port))
