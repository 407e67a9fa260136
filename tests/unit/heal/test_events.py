from __future__ import annotations

import http.server
import json
import socketserver
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest

from calm.heal.events import Event, Stream, parse, unhealthy
from tests.integration.heal_lab import wait_for
from tests.unit.heal.made import settings

LABELS = {
    "name": "agent-system-redis",
    "calm.project": "agent-system",
    "com.docker.compose.project": "agent-system",
    "com.docker.compose.service": "redis",
}


def _raw(action: str = "health_status: unhealthy", *, at: float = 1.5) -> dict[str, Any]:
    actor = {"ID": "f" * 64, "Attributes": dict(LABELS)}
    return {"Action": action, "Actor": actor, "timeNano": int(at * 1e9)}


def test_an_event_of_ours() -> None:
    assert parse(_raw(), "agent-system") == Event(
        kind="health_status: unhealthy", name="agent-system-redis", id="f" * 64, service="redis", at=1.5
    )


def test_others_events_are_none() -> None:
    assert parse(_raw(), "another") is None
    raw = _raw()
    del raw["Actor"]["Attributes"]["calm.project"]
    assert parse(raw, "agent-system") is None
    assert parse({}, "agent-system") is None


def test_only_unhealthy_is_a_finding_by_itself() -> None:
    event = parse(_raw(), "agent-system")
    assert event is not None
    finding = unhealthy(event, settings())
    assert finding is not None
    assert (finding.target, finding.mode, finding.acts) == ("container:agent-system-redis", "act", True)
    reported = unhealthy(event, settings(rules={"container-unhealthy": "report"}))
    assert reported is not None
    assert not reported.acts
    assert unhealthy(event, settings(rules={"container-unhealthy": "off"})) is None
    other = parse(_raw("oom"), "agent-system")
    assert other is not None
    assert unhealthy(other, settings()) is None


class Engine(http.server.BaseHTTPRequestHandler):
    """An engine that tells one new event per stream, after those of before, and then hangs up."""

    asked: ClassVar[list[str]] = []
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if "version" in self.path:
            return self._send(b'{"ApiVersion": "1.45"}', "Content-Length", "22")
        self.asked.append(self.path)
        events = [json.dumps(_raw(at=1 + at)).encode() for at in range(len(self.asked))]
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(event), event) for event in events)
        return self._send(chunks + b"0\r\n\r\n", "Transfer-Encoding", "chunked")

    def _send(self, body: bytes, header: str, value: str) -> None:
        self.send_response(200)
        self.send_header(header, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""

    def address_string(self) -> str:
        return "engine"


class Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    path = tmp_path / "e.sock"
    with Server(str(path), Engine) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
        yield server
        server.shutdown()


@pytest.mark.usefixtures("engine")
def test_a_broken_stream_is_told_once_and_joined_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("calm.heal.events.RETRY", 0.05)
    got: list[Event] = []
    said: list[str] = []
    stream = Stream(settings(), got.append, said.append)
    Engine.asked.clear()
    began = time.time()
    stream.start()
    try:
        wait_for(lambda: len(got) >= 3, "the stream is not joined again")
    finally:
        stream.close()
        stream.join(5)
    assert not stream.is_alive()
    assert "broke" in said[0]
    assert "back" in said[1]
    assert [event.at for event in got] == list(range(1, len(got) + 1)), "what was told before is passed over"
    since = [float(parse_qs(urlsplit(path).query)["since"][0]) for path in Engine.asked]
    assert began <= since[0] <= since[1] <= since[2] <= time.time(), "nothing is missed while it is joined"
