"""The stand-in's two HTTP servers: the API that clients know, and the control channel of its own tools."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from root import App

WORDS = (
    "a",
    "calm",
    "machine",
    "answers",
    "every",
    "word",
    "at",
    "its",
    "own",
    "pace",
    "and",
    "then",
    "rests",
)


class Server(ThreadingHTTPServer):
    """A server that knows its application; its listener can be closed and opened again."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler], app: App) -> None:
        """Listen at ``address`` and serve in a thread; ``OSError`` if the port is taken."""
        self.app = app
        super().__init__(address, handler)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are nothing to talk about."""

    def close(self) -> None:
        """Stop listening."""
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    """What both have in common: JSON in, JSON out."""

    protocol_version = "HTTP/1.1"
    server: Server

    @property
    def app(self) -> App:
        """The application behind the server."""
        return self.server.app

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""

    def body(self) -> dict[str, Any]:
        """The request's JSON, or an empty mapping."""
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return dict(json.loads(content)) if content else {}

    def answer(self, content: Any, status: int = 200) -> None:
        """One JSON document."""
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class Api(Handler):
    """Port 1234: OpenAI's and LM Studio's own REST interfaces."""

    def do_GET(self) -> None:
        """Lists and the greeting."""
        if self._kept_out():
            return
        models, path = self.app.models, self.path.split("?")[0]
        if path == "/lmstudio-greeting":
            self.answer({"lmstudio": True})
        elif path == "/v1/models":
            self.answer(models.openai(jit=self.app.jit))
        elif path == "/api/v0/models":
            self.answer(models.v0())
        elif path == "/api/v1/models" and self.app.has_v1:
            self.answer(models.v1())
        else:
            self._unexpected()

    def do_POST(self) -> None:
        """Load, unload, chat."""
        if self._kept_out():
            return
        asked, path = self.body(), self.path.split("?")[0]
        if path == "/api/v1/models/load" and self.app.has_v1:
            self._load(asked)
        elif path == "/api/v1/models/unload" and self.app.has_v1:
            self._unload(asked)
        elif path in ("/v1/chat/completions", "/api/v0/chat/completions"):
            self._chat(asked, stats=path.startswith("/api"))
        else:
            self._unexpected()

    def _kept_out(self) -> bool:
        """Whether the request goes unanswered: the server hangs, or it wants a token."""
        self.app.running.wait()
        token = self.app.switches.get("token")
        if token and self.headers.get("Authorization") != f"Bearer {token}":
            self.answer(
                {"error": {"message": "An API token is required", "type": "invalid_request_error"}}, 401
            )
            return True
        return False

    def _unexpected(self) -> None:
        # The real one answers so, with status 200.
        self.answer({"error": f"Unexpected endpoint or method. ({self.command} {self.path})"})

    def _load(self, asked: dict[str, Any]) -> None:
        began = time.monotonic()
        try:
            loaded = self.app.models.load(str(asked.get("model")))
        except KeyError as key:
            self.answer({"error": {"message": f"Model {key} not found", "type": "model_not_found"}}, 404)
            return
        took = round(time.monotonic() - began, 3)
        self.answer({"type": "llm", "instance_id": loaded.id, "load_time_seconds": took, "status": "loaded"})

    def _unload(self, asked: dict[str, Any]) -> None:
        name = str(asked.get("instance_id"))
        if self.app.models.unload(name):
            self.answer({"instance_id": name})
        else:
            self.answer({"error": {"message": f"Model {name} not found", "type": "model_not_found"}}, 404)

    def _chat(self, asked: dict[str, Any], *, stats: bool) -> None:
        try:
            loaded = self.app.wanted(str(asked.get("model") or ""), asked.get("ttl"))
        except KeyError as key:
            self.answer({"error": {"message": f"Model {key} is not loaded", "type": "model_not_found"}}, 404)
            return
        loaded.requests += 1
        loaded.worker.tell(work=bool(self.app.switches.get("work")))
        try:
            (self._stream if asked.get("stream") else self._whole)(asked, loaded.id, stats)
        finally:
            loaded.requests -= 1
            loaded.used_at = time.monotonic()
            loaded.worker.tell(work=False)

    def _tokens(self, asked: dict[str, Any]) -> Iterator[str]:
        pace = float(self.app.switches.get("tokens_per_s", 50))
        for number in range(int(asked.get("max_tokens") or 16)):
            time.sleep(1 / pace)
            yield WORDS[number % len(WORDS)] + " "

    def _whole(self, asked: dict[str, Any], model: str, stats: bool) -> None:
        began = time.monotonic()
        tokens = list(self._tokens(asked))
        took = time.monotonic() - began
        message = {"role": "assistant", "content": "".join(tokens)}
        content = {
            "id": "chatcmpl-lab",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": model,
            "choices": [{"index": 0, "message": message, "finish_reason": "length"}],
            "usage": _usage(len(tokens)),
        }
        if stats:
            content["stats"] = {"tokens_per_second": len(tokens) / took, "generation_time": took}
        self.answer(content)

    def _stream(self, asked: dict[str, Any], model: str, stats: bool) -> None:  # noqa: ARG002
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        count = 0
        self._event(model, {"role": "assistant"})
        for count, token in enumerate(self._tokens(asked), start=1):  # noqa: B007
            self._event(model, {"content": token})
        self._event(model, {}, "length")
        if (asked.get("stream_options") or {}).get("include_usage"):
            self._send(
                {"object": "chat.completion.chunk", "model": model, "choices": [], "usage": _usage(count)}
            )
        self.wfile.write(b"data: [DONE]\n\n")

    def _event(self, model: str, delta: dict[str, str], finish: str | None = None) -> None:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        self._send(
            {"id": "chatcmpl-lab", "object": "chat.completion.chunk", "model": model, "choices": [choice]}
        )

    def _send(self, content: dict[str, Any]) -> None:
        self.wfile.write(b"data: " + json.dumps(content).encode() + b"\n\n")
        self.wfile.flush()


def _usage(tokens: int) -> dict[str, int]:
    return {"prompt_tokens": 8, "completion_tokens": tokens, "total_tokens": 8 + tokens}


class Control(Handler):
    """The port of ``http-server.json``: ``/lms-status`` as the real one has it, the rest is the lab's own."""

    def do_GET(self) -> None:
        """Who is there, and what is loaded."""
        if self.path == "/lms-status":
            self.answer({"package": self.app.form, "version": self.app.version})
        elif self.path == "/lab/ps":
            self.answer(self.app.models.ps())
        else:
            self.answer({"error": "Unexpected endpoint"}, 404)

    def do_POST(self) -> None:
        """Switches, and what the command line asks for."""
        asked = self.body()
        if self.path == "/lab/control":
            self.app.control(asked)
        elif self.path == "/lab/server/start":
            self.app.serve(**asked)
        elif self.path == "/lab/server/stop":
            self.app.stop_serving()
        elif self.path == "/lab/load":
            self.app.models.load(asked["model"], ttl=asked.get("ttl"))
        elif self.path == "/lab/unload":
            self.app.models.unload(asked["id"])
        self.answer({"done": self.path, "pid": self.app.pid})
        if self.path == "/lab/quit":
            self.app.quit()
