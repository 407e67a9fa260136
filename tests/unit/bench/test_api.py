"""The agent API's health and chat, by a transport that answers as it is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from calm.bench import api
from calm.bench.model import Measured, Workload

HEALTHY = {"status": "healthy", "checks": {}}
CHAT = {"session_id": "s1", "token": "t1", "answer": "hi"}
Answers = dict[str, tuple[int, Any]]


@pytest.fixture
def serve() -> Iterator[Callable[[Answers], tuple[str, list[str]]]]:
    """A server with these answers by method and path, and the list of what it was asked."""
    started: list[ThreadingHTTPServer] = []

    def start(answers: Answers) -> tuple[str, list[str]]:
        asked: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                asked.append(f"{self.command} {self.path} {self.headers.get('Authorization', '')}".strip())
                status, body = answers.get(f"{self.command} {self.path}", (404, {"error": "none"}))
                data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_DELETE = answer  # noqa: N815

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        started.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        Thread(target=started[-1].serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return f"http://127.0.0.1:{started[-1].server_port}", asked

    yield start
    for server in started:
        server.shutdown()
        server.server_close()


def run(base: str, **work: int) -> tuple[Measured, Measured | None]:
    workload = Workload(runs=2, health_requests=3, **work)  # type: ignore[arg-type]
    return asyncio.run(api.run(base, workload, lambda *_: None))


def test_health_and_chat_and_nothing_is_left(serve: Callable[[Answers], tuple[str, list[str]]]) -> None:
    base, asked = serve({"GET /api/health": (200, HEALTHY), "POST /api/chat": (200, CHAT)})
    health, chat = run(base, chat_requests=1)
    assert (len(health.good), len(health.samples)) == (6, 6)
    assert chat is not None
    assert len(chat.good) == 2
    assert asked.count("GET /api/health") == 7
    assert asked.count("DELETE /api/sessions/s1 Bearer t1") == 2


def test_an_api_without_a_chat_is_measured_without_one(
    serve: Callable[[Answers], tuple[str, list[str]]],
) -> None:
    base, asked = serve({"GET /api/health": (200, HEALTHY)})
    health, chat = run(base, chat_requests=2)
    assert len(health.good) == 6
    assert chat is None
    assert asked.count("POST /api/chat") == 1


@pytest.mark.parametrize(
    ("status", "body", "kind", "says"),
    [
        (503, {"status": "unhealthy", "error": "no store"}, "http_503", "status 503: no store"),
        (200, {"status": "unhealthy"}, "error_body", "not healthy"),
        (200, {"error": "Unexpected endpoint"}, "error_body", "Unexpected endpoint"),
        (200, "<html>", "error_body", "not JSON"),
    ],
)
def test_what_is_not_well_has_no_latency(
    serve: Callable[[Answers], tuple[str, list[str]]], status: int, body: Any, kind: str, says: str
) -> None:
    base, _ = serve({"GET /api/health": (status, body)})
    health, _ = run(base, chat_requests=0)
    assert health.errors == {kind: 6}
    assert all(sample.latency_ms is None and says in (sample.says or "") for sample in health.samples)


def test_nobody_there(free_port: Callable[[], int]) -> None:
    health, _ = run(f"http://127.0.0.1:{free_port()}", chat_requests=0)
    assert health.errors == {"refused": 6}
