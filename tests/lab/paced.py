"""An OpenAI-compatible server with a known pace and known faults, which remembers when it sent what.

    python -m tests.lab.paced --port 8123 --first-ms 300 --gap-ms 20 --tokens 50

The first part of a path names a fault: ``/die/v1/chat/completions``; without one it is well. ``GET /truth``
gives what was sent and when, on the machine's monotonic clock, which every process here shares.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

WORDS = ("차분한 ", "기계는 ", "제 ", "속도로 ", "답하고 ", "쉽니다. ")
FAULTS = (
    "hang", "reset", "429", "500", "401", "garbage", "error200", "empty", "die", "error_event", "whole",
    "endless",
)  # fmt: skip
JSON, STREAM = "application/json", "text/event-stream"


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How the server answers; times are seconds from the moment that it has the whole request.

    Token ``i`` is done at ``first + i * gap`` and goes out with its chunk's last one. ``stall`` is waited for
    once more before the chunk in the middle. ``usage`` is end, each (chunk) or none.
    """

    first: float = 0.02
    gap: float = 0.002
    tokens: int = 8
    per_chunk: int = 1
    reasoning: int = 0
    headers: float = 0.0
    stall: float = 0.0
    role_first: bool = True
    usage: str = "end"
    retry_after: str | None = None
    stats: bool = False

    def chunks(self) -> list[range]:
        """The tokens of each chunk."""
        tokens = range(self.tokens)
        return [tokens[at : at + self.per_chunk] for at in range(0, self.tokens, self.per_chunk)]

    def due(self, chunk: range) -> float:
        """When a chunk goes out."""
        stalled = self.stall if chunk.start >= self.tokens // 2 else 0.0
        return self.first + chunk[-1] * self.gap + stalled


@dataclass(kw_only=True)
class Exchange:
    """One request: when it was received, when each chunk of tokens was sent, when it was over."""

    path: str
    received: float
    sent: list[float] = field(default_factory=list)
    ended: float | None = None
    model: str | None = None


@dataclass(kw_only=True)
class Paced:
    """The server. ``script`` gives single requests a fault, by their number from 0; ``fault`` all others."""

    pace: Pace = field(default_factory=Pace)
    fault: str = ""
    script: Mapping[int, str] = field(default_factory=dict)
    exchanges: list[Exchange] = field(default_factory=list)
    open_now: int = 0
    most_open: int = 0
    port: int = 0

    async def serve(self, port: int = 0) -> asyncio.Server:
        """Listen on 127.0.0.1."""
        server = await asyncio.start_server(self._connection, "127.0.0.1", port, backlog=512)
        self.port = server.sockets[0].getsockname()[1]
        return server

    def url(self, fault: str = "") -> str:
        """The end point for chat that has this fault."""
        return f"http://127.0.0.1:{self.port}{f'/{fault}' if fault else ''}/v1/chat/completions"

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open_now += 1
        self.most_open = max(self.most_open, self.open_now)
        try:
            while await self._exchange(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self.open_now -= 1
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request and its answer; whether the connection goes on."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        method, path, _ = head[0].split(" ")
        length = next((int(line[15:]) for line in head if line.lower().startswith("content-length:")), 0)
        asked = json.loads(await reader.readexactly(length) or b"{}")
        if method == "GET":
            await _whole(writer, self._told(path))
            return True
        exchange = Exchange(path=path, received=time.monotonic(), model=asked.get("model"))
        self.exchanges.append(exchange)
        first = path.split("/")[1]
        scripted = self.script.get(len(self.exchanges) - 1, self.fault)
        fault = first if first in FAULTS else scripted
        try:
            return await self._answer(writer, exchange, fault, bool(asked.get("stream")))
        finally:
            exchange.ended = time.monotonic()

    def _told(self, path: str) -> Any:
        if path == "/truth":
            seen = [vars(exchange) for exchange in self.exchanges]
            return {"exchanges": seen, "most_open": self.most_open, "cpu": time.process_time()}
        if path == "/v1/models":
            return {"object": "list", "data": [{"id": "paced", "object": "model"}]}
        return {"error": f"Unexpected endpoint or method. (GET {path})"}

    async def _answer(
        self, writer: asyncio.StreamWriter, exchange: Exchange, fault: str, stream: bool
    ) -> bool:
        pace = self.pace
        match fault:
            case "hang":
                await asyncio.sleep(3600)
            case "reset":
                writer.transport.abort()
                return False
            case "429" | "500" | "401":
                retry = {"Retry-After": pace.retry_after} if fault == "429" and pace.retry_after else {}
                await _whole(writer, {"error": {"message": f"status {fault} on purpose"}}, int(fault), retry)
            case "garbage":
                await _whole(writer, "<html>hello</html>", raw=True)
            case "error200":
                await _whole(writer, {"error": "Unexpected endpoint or method. (POST)"})
            case _ if fault == "whole" or not stream:
                await asyncio.sleep(pace.due(pace.chunks()[-1]))
                await _whole(writer, _completion(pace))
            case _:
                return await self._stream(writer, exchange, fault)
        return True

    async def _stream(self, writer: asyncio.StreamWriter, exchange: Exchange, fault: str) -> bool:
        pace = replace(self.pace, tokens=0) if fault == "empty" else self.pace
        await _until(exchange.received + pace.headers)
        writer.write(
            f"HTTP/1.1 200 OK\r\nContent-Type: {STREAM}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        )
        if pace.role_first:
            _event(writer, {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
        chunks = pace.chunks()
        for number, chunk in enumerate(chunks):
            if number == len(chunks) // 2 and fault in ("die", "error_event"):
                return await _broken(writer, fault)
            await _until(exchange.received + pace.due(chunk))
            exchange.sent.append(time.monotonic())
            _event(writer, _tokens(pace, chunk))
            await writer.drain()
        if fault == "endless":
            await asyncio.sleep(3600)
        _event(writer, {"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]} | _stats(pace))
        if pace.usage != "none":
            _event(writer, {"choices": [], "usage": _usage(pace.tokens)})
        _event(writer, "[DONE]")
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True


def _tokens(pace: Pace, chunk: range) -> dict[str, Any]:
    words = "".join(WORDS[token % len(WORDS)] for token in chunk)
    key = "reasoning_content" if chunk[-1] < pace.reasoning else "content"
    event: dict[str, Any] = {"choices": [{"index": 0, "delta": {key: words}}]}
    return event | ({"usage": _usage(chunk[-1] + 1)} if pace.usage == "each" else {})


def _completion(pace: Pace) -> dict[str, Any]:
    words = "".join(WORDS[token % len(WORDS)] for token in range(pace.tokens))
    choice = {"index": 0, "message": {"role": "assistant", "content": words}, "finish_reason": "length"}
    return {"choices": [choice], "usage": _usage(pace.tokens)} | _stats(pace)


def _stats(pace: Pace) -> dict[str, Any]:
    if not pace.stats:
        return {}
    return {"stats": {"tokens_per_second": 1 / pace.gap, "time_to_first_token": pace.first}}


def _usage(tokens: int) -> dict[str, int]:
    return {"prompt_tokens": 9, "completion_tokens": tokens, "total_tokens": 9 + tokens}


async def _broken(writer: asyncio.StreamWriter, fault: str) -> bool:
    if fault == "error_event":
        _event(writer, {"error": {"message": "the model has crashed"}})
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True
    await writer.drain()
    writer.close()
    return False


async def _until(moment: float) -> None:
    await asyncio.sleep(max(0.0, moment - time.monotonic()))


def _event(writer: asyncio.StreamWriter, event: Mapping[str, Any] | str) -> None:
    data = event if isinstance(event, str) else json.dumps(event, ensure_ascii=False)
    payload = f"data: {data}\n\n".encode()
    writer.write(f"{len(payload):x}\r\n".encode() + payload + b"\r\n")


async def _whole(
    writer: asyncio.StreamWriter,
    body: Any,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    raw: bool = False,
) -> None:
    data = (body if raw else json.dumps(body)).encode()
    fields = {"Content-Type": "text/html" if raw else JSON, "Content-Length": len(data), **(headers or {})}
    lines = [f"HTTP/1.1 {status} said", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    writer.write("\r\n".join(lines).encode() + data)
    await writer.drain()


@contextlib.contextmanager
def running(pace: Pace | None = None) -> Iterator[Paced]:
    """A paced server in a thread of this process."""
    paced, started, ended = Paced(pace=pace or Pace()), threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        server = await paced.serve()
        started.set()
        await ended.wait()
        server.close()

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(serve())
        for task in asyncio.all_tasks(loop):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                loop.run_until_complete(task)
        loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    started.wait(5)
    try:
        yield paced
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(5)


def main() -> None:
    """Serve until the end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    for name, value in vars(Pace()).items():
        if isinstance(value, float):
            parser.add_argument(f"--{name}-ms", type=float, default=1000 * value)
        elif not isinstance(value, bool):
            parser.add_argument(
                f"--{name.replace('_', '-')}", type=str if value is None else type(value), default=value
            )
    given = vars(parser.parse_args())
    port = given.pop("port")
    values = {
        (name[:-3] if name.endswith("_ms") else name): (value / 1000 if name.endswith("_ms") else value)
        for name, value in given.items()
    }
    asyncio.run(_forever(Paced(pace=Pace(**values)), port))


async def _forever(paced: Paced, port: int) -> None:
    server = await paced.serve(port)
    print(paced.port, flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    main()
