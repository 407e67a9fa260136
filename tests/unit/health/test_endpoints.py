"""End points that answer, answer wrongly, or do not answer: real sockets, asked for real."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from calm.health import endpoints

Answers = dict[str, tuple[int, object]]


@contextmanager
def web(answers: Answers, *, opened: list[object] | None = None) -> Iterator[str]:
    """A server with these answers by path, ``*`` for all others; yields its base.

    With ``opened`` it speaks HTTP/1.1, keeps its connections open, and notes there from where they came.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.0" if opened is None else "HTTP/1.1"

        def setup(self) -> None:
            if opened is not None:
                opened.append(self.client_address)
            super().setup()

        def do_GET(self) -> None:
            status, content = answers.get(self.path, answers.get("*", (404, {})))
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def says(answer: bytes | None) -> Iterator[int]:
    """A server that says one thing to who speaks first, or with ``None`` nothing at all; yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(64)
                connection.sendall(answer or b"")

        if answer is not None:
            threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]


@pytest.mark.parametrize(
    ("status", "body", "ok", "error"),
    [
        (200, {"status": "ok"}, True, None),
        (200, [], True, None),
        (200, {"error": "Unexpected endpoint or method. (GET /)"}, False, "Unexpected endpoint"),
        (200, {"status": "unhealthy"}, False, "unhealthy"),
        (500, {}, False, "status 500"),
        (404, {}, False, "status 404"),
        (401, {"error": "who are you?"}, True, None),
    ],
)
def test_a_status_alone_proves_nothing(status: int, body: object, ok: bool, error: str | None) -> None:
    with web({"*": (status, body)}) as base:
        answer = endpoints.http("agent-api", f"{base}/api/health")

    assert answer.ok is ok
    assert answer.latency_ms is not None
    assert (answer.error is None) if error is None else (error in (answer.error or ""))


def test_a_server_that_hangs_up_without_a_word_is_asked_again() -> None:
    """It speaks HTTP/1.1, where a connection stays open unless somebody says otherwise."""
    bodies = {
        "/lmstudio-greeting": {"lmstudio": True},
        "/api/v1/models": {"models": [{"key": "m", "loaded_instances": [{"id": "m"}]}]},
    }
    asked: list[str] = []

    def serve(server: socket.socket) -> None:
        while True:
            connection, _ = server.accept()
            with connection:
                asked.append(connection.recv(4096).split()[1].decode())
                body = json.dumps(bodies[asked[-1]]).encode()
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        point, api = endpoints.lmstudio(f"http://127.0.0.1:{server.getsockname()[1]}")

    assert asked == list(bodies)
    assert point.ok
    assert [model.id for model in api.models_loaded or ()] == ["m"]


def test_one_connection_is_enough_where_the_server_keeps_it() -> None:
    opened: list[object] = []
    answers: Answers = {"/lmstudio-greeting": (200, {"lmstudio": True}), "*": (200, {"models": []})}

    with web(answers, opened=opened) as base:
        _, api = endpoints.lmstudio(base)

    assert api.models_loaded == ()
    assert len(opened) == 1


def test_what_is_not_there_is_said_in_a_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]

    answer = endpoints.http("agent-api", f"http://127.0.0.1:{port}/api/health")

    assert (answer.ok, answer.latency_ms) == (False, None)
    assert answer.error == "nothing listens there, or it refuses to talk"


@pytest.mark.parametrize(
    "ask",
    [
        lambda port: endpoints.http("x", f"http://127.0.0.1:{port}/", timeout=0.3),
        lambda port: endpoints.postgres("x", "127.0.0.1", port, timeout=0.3),
        lambda port: endpoints.redis("x", "127.0.0.1", port, timeout=0.3),
    ],
    ids=["http", "postgres", "redis"],
)
def test_one_that_hangs_costs_its_own_time_out(ask: Callable[[int], endpoints.Endpoint]) -> None:
    with says(None) as port:
        began = time.monotonic()
        answer = ask(port)
        took = time.monotonic() - began

    assert answer.error == "no answer within 0.3 s"
    assert 0.25 < took < 1.5


@pytest.mark.parametrize(
    ("ask", "said", "ok"),
    [
        (endpoints.postgres, b"N", True),
        (endpoints.postgres, b"S", True),
        (endpoints.postgres, b"HTTP/1.1 400", False),
        (endpoints.postgres, b"", False),
        (endpoints.redis, b"+PONG\r\n", True),
        (endpoints.redis, b"-NOAUTH Authentication required.\r\n", True),
        (endpoints.redis, b"-LOADING Redis is loading the dataset in memory\r\n", False),
        (endpoints.redis, b"", False),
    ],
)
def test_databases_prove_themselves_without_a_login(
    ask: Callable[[str, str, int], endpoints.Endpoint], said: bytes, ok: bool
) -> None:
    with says(said) as port:
        answer = ask("database", "127.0.0.1", port)

    assert answer.ok is ok
    assert (answer.error is None) is ok


GREETING = {
    "/lmstudio-greeting": (200, {"lmstudio": True}),
    "*": (200, {"error": "Unexpected endpoint or method."}),
}
INSTANCES = [
    {"id": "qwen/qwen3-4b", "config": {"context_length": 4096}},
    {"id": "qwen/qwen3-4b:2", "config": {}},
]
V1 = {
    "models": [{"key": "qwen/qwen3-4b", "size_bytes": 5, "loaded_instances": INSTANCES}, {"key": "unloaded"}]
}
V0 = {
    "data": [{"id": "a:2", "state": "loaded", "loaded_context_length": 9}, {"id": "b", "state": "not-loaded"}]
}


def test_the_models_of_the_newer_api() -> None:
    with web({**GREETING, "/api/v1/models": (200, V1)}) as base:
        endpoint, api = endpoints.lmstudio(base)

    assert endpoint.ok
    assert api.models_loaded is not None
    assert [(each.id, each.key, each.size_bytes) for each in api.models_loaded] == [
        ("qwen/qwen3-4b", "qwen/qwen3-4b", 5),
        ("qwen/qwen3-4b:2", "qwen/qwen3-4b", 5),
    ]
    assert api.models_loaded[0].context_length == 4096


def test_the_older_api_where_the_newer_is_missing() -> None:
    with web({**GREETING, "/api/v0/models": (200, V0)}) as base:
        _, api = endpoints.lmstudio(base)

    assert api.models_loaded is not None
    assert [(each.id, each.key, each.context_length) for each in api.models_loaded] == [("a:2", "a", 9)]


def test_no_list_of_models_is_unknown_not_empty() -> None:
    with web(GREETING) as base:
        endpoint, api = endpoints.lmstudio(base)

    assert (endpoint.ok, api.reachable, api.models_loaded) == (True, True, None)
    assert "gave a list of models" in (api.error or "")


def test_something_else_on_the_port_is_not_lm_studio() -> None:
    with web({"*": (200, {"status": "ok"})}) as base:
        endpoint, api = endpoints.lmstudio(base)

    assert (endpoint.ok, api.reachable) == (False, False)
    assert endpoint.error == "something else than LM Studio answers on this port"


def test_one_that_wants_a_token_is_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LM_API_TOKEN", raising=False)
    with web({"*": (401, {"error": "token"})}) as base:
        endpoint, api = endpoints.lmstudio(base)

    assert (endpoint.ok, api.reachable, api.needs_token, api.models_loaded) == (True, True, True, None)
    assert "LM_API_TOKEN" in (api.error or "")
